//! The processes behind a document's commands: shell scripts with a limit, and a server in the background.
//!
//! Does not know what the commands mean. Invariant: whatever is started here is ended here, on failure too.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::fences::ShellCommand;
use crate::workspace::forget_package;

/// A document shows commands whose answer a reader waits for; a minute is far beyond what one bears.
const SCRIPT_TIME_MAX: Duration = Duration::from_secs(60);

/// `dev` promises to be ready within a second; the rest is for a busy machine.
const SERVER_START_TIME_MAX: Duration = Duration::from_secs(30);

/// How long a server may take to end on SIGTERM before SIGKILL; its own drain is shorter.
const SERVER_STOP_TIME_MAX: Duration = Duration::from_secs(10);

/// How often a running process is looked at: too short to be noticed, too long to cost anything.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// Where commands run.
#[derive(Debug)]
pub struct Place {
    pub root: PathBuf,
    pub binary: PathBuf,
    pub search_path: OsString,
    /// For what only this document's run needs.
    pub directory: PathBuf,
}

impl Place {
    fn bash(&self, options: &str, script: &str) -> Command {
        let mut command = Command::new("bash");
        command
            .args([options, "-o", "pipefail", "-c", script])
            .current_dir(&self.root)
            .env("PATH", &self.search_path)
            .stdin(Stdio::null());
        forget_package(&mut command);
        command
    }
}

/// A document's command that does not work.
#[derive(Debug, PartialEq, Eq)]
pub struct Failure {
    line: usize,
    command: String,
    why: String,
    output: String,
}

impl Failure {
    pub fn new(line: usize, command: &str, why: String) -> Self {
        Self { line, command: command.to_owned(), why, output: String::new() }
    }

    fn with_output(self, output: String) -> Self {
        Self { output, ..self }
    }

    /// `line: why`, then the command and its output, indented.
    pub fn describe(&self) -> String {
        let mut text = format!("{}: {}\n", self.line, self.why);
        for line in self.command.lines() {
            text.push_str(&format!("    {line}\n"));
        }
        if !self.output.trim().is_empty() {
            text.push_str("  with this output:\n");
            for line in self.output.lines() {
                text.push_str(&format!("    {line}\n"));
            }
        }
        text
    }
}

/// Runs consecutive commands of a block in one shell, so that variables live on, and stops at the first failure.
pub fn run_script(place: &Place, commands: &[ShellCommand]) -> Result<(), Failure> {
    let Some(first) = commands.first() else {
        return Ok(());
    };
    let failed_line_path = place.directory.join("failed-line");
    let output_path = place.directory.join("output");
    let outcome = (|| {
        let _ = fs::remove_file(&failed_line_path);
        let output = File::create(&output_path)?;
        let mut command = place.bash("-Eeu", &script(commands));
        command
            .env("XTASK_FAILED_LINE", &failed_line_path)
            .stdout(output.try_clone()?)
            .stderr(output)
            // Its own group, so that what the script leaves running ends with it.
            .process_group(0);
        let mut child = command.spawn()?;
        let ended = wait(&mut child, SCRIPT_TIME_MAX);
        if !matches!(ended, Ok(Some(_))) {
            signal("KILL", &format!("-{}", child.id()));
            let _ = child.wait();
        }
        ended
    })();
    let failure = match outcome {
        Ok(Some(status)) if status.success() => return Ok(()),
        Ok(Some(status)) => {
            let failed = failed_command(commands, fs::read_to_string(&failed_line_path).ok());
            Failure::new(failed.line, &failed.text, format!("the command failed: {status}"))
        }
        Ok(None) => {
            let why = format!("the commands from here ran longer than {} s", SCRIPT_TIME_MAX.as_secs());
            let text: Vec<&str> = commands.iter().map(|command| command.text.as_str()).collect();
            Failure::new(first.line, &text.join("\n"), why)
        }
        Err(error) => Failure::new(first.line, &first.text, format!("failed to run bash: {error}")),
    };
    Err(failure.with_output(read_lossy(&output_path)))
}

/// The script puts each command on the line it has in the document, counted from the first, so that the shell's
/// own line numbers say which command failed.
fn script(commands: &[ShellCommand]) -> String {
    let mut script = String::from("trap 'printf %s \"$LINENO\" > \"$XTASK_FAILED_LINE\"' ERR\n");
    let first_line = commands.first().map_or(1, |command| command.line);
    let mut line = first_line;
    for command in commands {
        while line < command.line {
            script.push('\n');
            line += 1;
        }
        script.push_str(&command.text);
        script.push('\n');
        line += command.text.matches('\n').count() + 1;
    }
    script
}

/// The command that spans the script's line `failed_line`; the first where the shell did not say.
fn failed_command(commands: &[ShellCommand], failed_line: Option<String>) -> &ShellCommand {
    let first = &commands[0];
    // Line 1 of the script is the trap.
    let failed_line: usize = failed_line.and_then(|line| line.parse().ok()).unwrap_or(2);
    let line = (first.line + failed_line).saturating_sub(2);
    commands.iter().rev().find(|command| command.line <= line).unwrap_or(first)
}

/// A `statewright dev` in the background; ends when dropped.
#[derive(Debug)]
pub struct Server {
    child: Child,
    address: String,
}

impl Server {
    /// Starts the server and waits for its first line, which says where it listens.
    pub fn start(place: &Place, line: usize, arguments: &str) -> Result<Self, Failure> {
        let text = format!("statewright dev {arguments}");
        let errors_path = place.directory.join("server-errors");
        let mut child = File::create(&errors_path)
            .and_then(|errors| {
                // The shell reads the document's quoting; `exec` makes the server itself the child.
                place
                    .bash("-eu", &format!("exec '{}' dev {arguments}", place.binary.display()))
                    .stdout(Stdio::piped())
                    .stderr(errors)
                    .spawn()
            })
            .map_err(|error| Failure::new(line, &text, format!("failed to start: {error}")))?;
        let first_line = first_line(&mut child);
        let mut server = Self { child, address: String::new() };
        let (why, said) = match first_line {
            Ok(said) => {
                if let Some(address) = address(&said) {
                    server.address = address;
                    return Ok(server);
                }
                ("the first line does not say where the server listens, as http://127.0.0.1:PORT", said)
            }
            Err(why) => (why, String::new()),
        };
        // The errors are whole only once the server has ended.
        drop(server);
        let output = format!("{said}\n{}", read_lossy(&errors_path));
        Err(Failure::new(line, &text, why.to_owned()).with_output(output))
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> &str {
        &self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return;
        }
        signal("TERM", &self.child.id().to_string());
        if !matches!(wait(&mut self.child, SERVER_STOP_TIME_MAX), Ok(Some(_))) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Reads the child's first line, and the rest for as long as it talks, lest it wait for a reader.
fn first_line(child: &mut Child) -> Result<String, &'static str> {
    let Some(stdout) = child.stdout.take() else {
        return Err("the server has no output to read");
    };
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            // After the first line nobody listens any more.
            let _ = sender.send(line);
        }
    });
    receiver.recv_timeout(SERVER_START_TIME_MAX).map_err(|error| match error {
        mpsc::RecvTimeoutError::Timeout => "the server printed nothing in time",
        mpsc::RecvTimeoutError::Disconnected => "the server ended before it printed where it listens",
    })
}

/// The address in a line such as `listening on http://127.0.0.1:40123/`.
fn address(line: &str) -> Option<String> {
    let (_, rest) = line.split_once("http://127.0.0.1:")?;
    let port: String = rest.chars().take_while(char::is_ascii_digit).collect();
    if port.is_empty() { None } else { Some(format!("127.0.0.1:{port}")) }
}

/// Waits up to `limit`; `None` when the child still runs then.
fn wait(child: &mut Child, limit: Duration) -> io::Result<Option<ExitStatus>> {
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if started.elapsed() >= limit {
            return Ok(None);
        }
        thread::sleep(POLL_INTERVAL);
    }
}

/// The standard library sends no signal but SIGKILL; the shell does. A target that is gone already is no error.
fn signal(name: &str, target: &str) {
    let _ = Command::new("bash")
        .args(["-c", &format!("kill -{name} -- {target}")])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
}

fn read_lossy(path: &PathBuf) -> String {
    fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fences::{self, Block};
    use crate::workspace::TemporaryDirectory;

    fn place(directory: &TemporaryDirectory) -> Place {
        Place {
            root: directory.path().to_path_buf(),
            binary: directory.path().join("server"),
            search_path: std::env::var_os("PATH").unwrap_or_default(),
            directory: directory.path().to_path_buf(),
        }
    }

    fn ran(text: &str) -> Result<(), String> {
        let directory = TemporaryDirectory::create("process").unwrap();
        let commands = fences::commands(&Block { line: 10, text: text.to_owned() });
        run_script(&place(&directory), &commands).map_err(|failure| failure.describe())
    }

    #[test]
    fn commands_of_a_block_share_one_shell() {
        assert_eq!(ran("name=world\ntest \"$name\" = world"), Ok(()));
    }

    #[test]
    fn failing_command_is_reported_with_its_line_and_output() {
        let expected =
            "12: the command failed: exit status: 3\n    (exit 3)\n  with this output:\n    before\n";
        assert_eq!(ran("echo before\n\n(exit 3)\necho after"), Err(expected.to_owned()));
    }

    #[test]
    fn failing_pipe_and_unset_variable_fail_the_block() {
        assert_eq!(
            ran("false | cat"),
            Err("10: the command failed: exit status: 1\n    false | cat\n".to_owned())
        );
        assert!(ran("echo \"$surely_not_set\"").is_err());
    }

    #[test]
    fn failing_command_over_several_lines_is_reported_whole() {
        let expected = "11: the command failed: exit status: 1\n    test a \\\n      = b\n";
        assert_eq!(ran("true\ntest a \\\n  = b\ntrue"), Err(expected.to_owned()));
    }

    /// Starts a shell script in place of the server.
    fn started(script: &str) -> Result<String, String> {
        let directory = TemporaryDirectory::create("process").unwrap();
        let place = Place { binary: "bash".into(), ..place(&directory) };
        let script = script.replace('\'', "'\\''");
        // `bash dev SCRIPT` runs the file named dev.
        fs::write(directory.path().join("dev"), "eval \"$1\"").unwrap();
        Server::start(&place, 7, &format!("'{script}'"))
            .map(|server| server.address().to_owned())
            .map_err(|failure| failure.why)
    }

    #[test]
    fn address_of_the_server_is_read_from_its_first_line() {
        let address = started("echo 'dashboard http://127.0.0.1:4321/ (dev)'; exec sleep 60");
        assert_eq!(address, Ok("127.0.0.1:4321".to_owned()));
    }

    #[test]
    fn server_without_an_address_fails_with_the_reason() {
        assert_eq!(started("true"), Err("the server ended before it printed where it listens".to_owned()));
        let without = "the first line does not say where the server listens, as http://127.0.0.1:PORT";
        assert_eq!(started("echo hello"), Err(without.to_owned()));
    }
}
