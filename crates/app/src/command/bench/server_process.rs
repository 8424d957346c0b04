//! The server as a process of its own, so that what it uses is its alone: this very program, over a folder.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::command::Failure;
use crate::command::bench::clients::Clients;
use crate::command::bench::conversation::DEFINITION;
use crate::command::bench::process::Process;

/// Longer than the server's own farewell.
const END_MAX: Duration = Duration::from_secs(40);

/// For a server that is not needed any more, because the benchmark has failed.
const FAREWELL: Duration = Duration::from_secs(5);

/// Ends with the value, if it was not ended before.
#[derive(Debug)]
pub(super) struct ServerProcess {
    child: Child,
    pub address: SocketAddr,
    pub process: Process,
    /// What the server says later is not read, and must not find it closed.
    _output: Option<BufReader<ChildStdout>>,
}

impl ServerProcess {
    /// Over a file in the folder, with one machine, on a free port. The log is what it is by default, and goes nowhere.
    pub fn start(folder: &Path) -> Result<Self, Failure> {
        let machines = folder.join("machines");
        std::fs::create_dir_all(&machines)?;
        std::fs::write(machines.join("progress_update.yaml"), DEFINITION)?;
        let mut command = Command::new(std::env::current_exe()?);
        command
            .args(["dev", "--listen", "127.0.0.1:0", "--store", "sqlite:statewright.db"])
            .args(["--machines", "machines"])
            .current_dir(folder);
        // Settings of whoever runs the benchmark are not the server's; how much it logs may be tried out.
        for (name, _) in std::env::vars_os() {
            let is_setting = name.to_str().is_some_and(|name| name.starts_with("STATEWRIGHT_"));
            if is_setting && name != "STATEWRIGHT_LOG" {
                command.env_remove(name);
            }
        }
        Self::spawn(&mut command)
    }

    /// Any server whose first line says where it listens. It answers by then.
    pub fn spawn(command: &mut Command) -> Result<Self, Failure> {
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let (process, address) = (Process::of(child.id()), SocketAddr::from(([127, 0, 0, 1], 0)));
        // From here on it ends with the value.
        let mut server = Self { child, address, process, _output: None };
        let mut line = String::new();
        if let Some(output) = server.child.stdout.take() {
            server._output.insert(BufReader::new(output)).read_line(&mut line)?;
        }
        let address = line.split_once("http://").and_then(|(_, address)| address.trim().parse().ok());
        let silent = || Failure("the server to be measured did not say where it listens".into());
        server.address = address.ok_or_else(silent)?;
        // Who says where it listens may not have all in place yet, such as what ends it in order. What is asked for is not
        // there, so that the answer is one of the shortest.
        Clients::of(server.address, 1)?.get("/")?;
        Ok(server)
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// In order, so that the files are what they are when nobody uses them.
    pub fn end(mut self) -> Result<(), Failure> {
        match self.ask_to_end(END_MAX)? {
            Some(status) if status.success() => Ok(()),
            Some(status) => Err(Failure(format!("the server to be measured ended with {status}"))),
            None => Err(Failure("the server to be measured did not end".into())),
        }
    }

    fn ask_to_end(&mut self, patience: Duration) -> std::io::Result<Option<ExitStatus>> {
        if let Some(status) = self.child.try_wait()? {
            return Ok(Some(status));
        }
        Command::new("kill").arg(self.child.id().to_string()).status()?;
        let asked = Instant::now();
        while asked.elapsed() < patience {
            if let Some(status) = self.child.try_wait()? {
                return Ok(Some(status));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(None)
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        // Ended already, when all went well. It is asked first, as it may have processes of its own to end.
        if !matches!(self.ask_to_end(FAREWELL), Ok(Some(_))) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
