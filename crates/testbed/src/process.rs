//! One server process in its own directory: started, awaited, paused, ended in order, crashed.
//!
//! Knows no server. Invariant: no process of the server is left when `stop`, `kill` or the drop returns.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::address::free_port;
use crate::directory::Directory;
use crate::{Error, Settings, wait_until};

/// A busy machine may need that long for what takes a tenth of a second on an idle one.
const START_TIME_MAX: Duration = Duration::from_secs(60);

/// How long an orderly end may take before it is an error.
const STOP_TIME_MAX: Duration = Duration::from_secs(30);

/// How long a killed process may need to be gone.
const KILL_TIME_MAX: Duration = Duration::from_secs(10);

/// How often another port is tried where somebody was quicker.
const PORTS_TRIED_MAX: u32 = 5;

/// How much of what the server said goes into an error.
const LAST_LINES: usize = 15;

/// The signals that a server understands, by their names.
#[derive(Debug, Clone, Copy)]
pub struct Signals {
    /// Ends it in order, without waiting for its clients.
    pub stop: &'static str,
    /// Ends it at once.
    pub end: &'static str,
}

/// A server that may or may not run at the moment.
#[derive(Debug)]
pub struct Process {
    /// For people.
    name: &'static str,
    signals: Signals,
    directory: Directory,
    child: Mutex<Option<Child>>,
}

impl Process {
    /// Makes the directory; starts nothing.
    pub fn new(name: &'static str, signals: Signals, settings: &Settings) -> Result<Self, Error> {
        let directory = Directory::create(&settings.parent, &name.to_lowercase(), signals.end)?;
        Ok(Self { name, signals, directory, child: Mutex::new(None) })
    }

    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Starts the server on a port that is free and says which.
    pub fn start_on_free_port(
        &self,
        command: impl Fn(u16) -> Result<Command, Error>,
        ready: impl Fn(u16, u32) -> bool,
    ) -> Result<u16, Error> {
        let mut tried = 0;
        loop {
            let port = free_port()?;
            tried += 1;
            match self.start(command(port)?, |process| ready(port, process)) {
                Ok(()) => return Ok(port),
                // Both servers say it in the system's words.
                Err(error) if tried < PORTS_TRIED_MAX && error.0.contains("already in use") => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Starts the server and waits until `ready` of its process id.
    pub fn start(&self, mut command: Command, ready: impl Fn(u32) -> bool) -> Result<(), Error> {
        let log_path = self.log_path();
        let process = {
            let mut child = self.child();
            if child.is_some() {
                return Err(Error::new(format!("{} runs already", self.name)));
            }
            let failed = |error| Error::new(format!("failed to start {}: {error}", self.name));
            let log = File::create(&log_path).map_err(failed)?;
            command
                .current_dir(self.directory())
                .stdin(Stdio::null())
                .stdout(log.try_clone().map_err(failed)?)
                .stderr(log)
                // Ctrl-C ends us, and the guardian then ends the server.
                .process_group(0);
            let spawned = command.spawn().map_err(failed)?;
            let process = spawned.id();
            self.directory.answer_for(&[process]);
            *child = Some(spawned);
            process
        };
        let mut ended = false;
        let is_ready = wait_until(START_TIME_MAX, || {
            ended = self.child().is_none();
            ended || ready(process)
        });
        if is_ready && !ended {
            return Ok(());
        }
        let why =
            if ended { "ended while it started".to_owned() } else { over_time("not ready", START_TIME_MAX) };
        self.kill()?;
        Err(Error::new(format!("{}: {why}{}", self.name, last_lines(&log_path))))
    }

    /// The process ids, the server itself first; none while it does not run.
    pub fn processes(&self) -> Vec<u32> {
        self.child().as_ref().map(|child| with_descendants(child.id())).unwrap_or_default()
    }

    /// Ends the server in order; its data stays. Nothing to do where it does not run.
    pub fn stop(&self) -> Result<(), Error> {
        if self.end_with(self.signals.stop, STOP_TIME_MAX) {
            return Ok(());
        }
        self.kill()?;
        Err(Error::new(format!("{}: {}", self.name, over_time("not stopped", STOP_TIME_MAX))))
    }

    /// Kills every process of the server at once; its data stays as it is.
    pub fn kill(&self) -> Result<(), Error> {
        let processes = {
            let mut child = self.child();
            let Some(running) = child.as_mut() else {
                return Ok(());
            };
            // A stopped process starts no other between the look and the kill.
            signal("STOP", &[running.id()]);
            let processes = with_descendants(running.id());
            signal("KILL", &processes);
            let _ = running.wait();
            *child = None;
            processes
        };
        self.directory.answer_for(&[]);
        if wait_until(KILL_TIME_MAX, || !processes.iter().any(|process| is_alive(*process))) {
            return Ok(());
        }
        Err(Error::new(format!("{}: {}", self.name, over_time("killed and not gone", KILL_TIME_MAX))))
    }

    /// Freezes every process of the server: it is there and does not answer.
    pub fn pause(&self) -> Result<(), Error> {
        let child = self.child();
        let server = child.as_ref().ok_or_else(|| self.not_running())?.id();
        signal("STOP", &[server]);
        let processes = with_descendants(server);
        signal("STOP", &processes);
        self.directory.answer_for(&processes);
        Ok(())
    }

    /// Lets the server go on after `pause`.
    pub fn resume(&self) -> Result<(), Error> {
        let child = self.child();
        let server = child.as_ref().ok_or_else(|| self.not_running())?.id();
        signal("CONT", &with_descendants(server));
        self.directory.answer_for(&[server]);
        Ok(())
    }

    fn not_running(&self) -> Error {
        Error::new(format!("{} does not run", self.name))
    }

    /// Whether the server has ended within `limit` of the signal.
    fn end_with(&self, name: &str, limit: Duration) -> bool {
        if let Some(child) = self.child().as_ref() {
            signal("CONT", &with_descendants(child.id()));
            signal(name, &[child.id()]);
        }
        wait_until(limit, || self.child().is_none())
    }

    /// The running child; none as soon as it has ended.
    fn child(&self) -> MutexGuard<'_, Option<Child>> {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        if child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(Some(_)))) {
            *child = None;
            self.directory.answer_for(&[]);
        }
        child
    }

    fn log_path(&self) -> std::path::PathBuf {
        self.directory().join("log")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.end_with(self.signals.end, KILL_TIME_MAX) {
            let _ = self.kill();
        }
    }
}

/// Runs a program to its end.
pub fn run(command: &mut Command) -> Result<String, Error> {
    let name = Path::new(command.get_program()).display().to_string();
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| Error::new(format!("failed to start {name}: {error}")))?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(said);
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    Err(Error::new(format!("{name} failed: {}\n{}{}", output.status, said, errors.trim_end())))
}

/// Whether there is such a process. One that has ended and that nobody has taken notice of is none.
pub fn is_alive(process: u32) -> bool {
    if Path::new("/proc/self/stat").exists() {
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        // `PID (NAME) STATE …`, where the name may hold anything.
        let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
        return state.is_some_and(|state| !matches!(state, 'Z' | 'X'));
    }
    signal("0", &[process])
}

/// The process and all that it has started, as far as the system tells.
fn with_descendants(process: u32) -> Vec<u32> {
    let mut found = vec![process];
    let mut next = 0;
    while let Some(parent) = found.get(next) {
        let children =
            fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap_or_default();
        found.extend(children.split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
        next += 1;
    }
    found
}

/// The standard library sends no signal but SIGKILL; the shell does. Whether all processes were there.
fn signal(name: &str, processes: &[u32]) -> bool {
    let status = Command::new("sh")
        .args(["-c", "kill -s \"$@\"", "kill", name])
        .args(processes.iter().map(u32::to_string))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    status.is_ok_and(|status| status.success())
}

fn over_time(what: &str, limit: Duration) -> String {
    format!("{what} after {} s", limit.as_secs())
}

/// The end of a log, each line on its own.
fn last_lines(path: &Path) -> String {
    let log = fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let lines: Vec<&str> = log.lines().collect();
    let first = lines.len().saturating_sub(LAST_LINES);
    lines[first..].iter().map(|line| format!("\n    {line}")).collect()
}
