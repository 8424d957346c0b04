//! A private Redis that acknowledges nothing before it is on the disk.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::{Process, Signals};
use crate::program::redis_server;
use crate::wire::ask;
use crate::{Error, Settings};

/// SIGTERM writes and syncs what is left to write. A process that loses its directory has nothing to put in order.
const SIGNALS: Signals = Signals { stop: "TERM", end: "KILL" };

/// What is not the server's default, or is what durability rests on. `save ""` takes no snapshots: the log is enough.
const OPTIONS: &[(&str, &str)] = &[
    ("bind", "127.0.0.1"),
    ("protected-mode", "yes"),
    ("daemonize", "no"),
    ("appendonly", "yes"),
    ("appendfsync", "always"),
    ("save", "\"\""),
    ("maxmemory-policy", "noeviction"),
];

/// A server with data of its own; it ends, and its directory goes, with the value.
#[derive(Debug)]
pub struct Redis {
    process: Process,
    server: PathBuf,
    port: u16,
}

impl Redis {
    /// Starts the server, empty, on a free port.
    pub fn start(settings: &Settings) -> Result<Self, Error> {
        let server = redis_server()?;
        let process = Process::new("Redis", SIGNALS, settings)?;
        write_configuration(process.directory(), settings)?;
        let port =
            process.start_on_free_port(|port| Ok(command(&server, process.directory(), port)), is_ready)?;
        Ok(Self { process, server, port })
    }

    /// `redis://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The process ids, the server's first; none while it does not run.
    pub fn processes(&self) -> Vec<u32> {
        self.process.processes()
    }

    /// The directory that goes with the server.
    pub fn directory(&self) -> &Path {
        self.process.directory()
    }

    /// Sends one command over a connection of its own. The answer is text: elements of arrays on lines of their own,
    /// nil as nothing.
    pub fn ask(&self, words: &[&str]) -> Result<String, Error> {
        ask(self.port, words)
    }

    /// Shuts down in order; the data stays.
    pub fn stop(&self) -> Result<(), Error> {
        self.process.stop()
    }

    /// Kills the server with SIGKILL, as a crash would; the data stays as it is on the disk.
    pub fn kill(&self) -> Result<(), Error> {
        self.process.kill()
    }

    /// Starts again after `stop` or `kill`, on the same data and port, and waits until the data is loaded.
    pub fn start_again(&self) -> Result<(), Error> {
        let command = command(&self.server, self.process.directory(), self.port);
        self.process.start(command, |process| is_ready(self.port, process))
    }

    /// Freezes the server: connections stay open and nothing answers.
    pub fn pause(&self) -> Result<(), Error> {
        self.process.pause()
    }

    /// Lets it go on after `pause`.
    pub fn resume(&self) -> Result<(), Error> {
        self.process.resume()
    }
}

/// A file, because an empty value cannot be given on the command line of every version.
fn write_configuration(directory: &Path, settings: &Settings) -> Result<(), Error> {
    let ours = OPTIONS.iter().map(|(name, value)| format!("{name} {value}\n"));
    let theirs = settings.options.iter().map(|(name, value)| format!("{name} {value}\n"));
    let text: String = ours.chain(theirs).collect();
    let path = configuration(directory);
    fs::write(&path, text).map_err(|error| Error::new(format!("failed to write {}: {error}", path.display())))
}

fn configuration(directory: &Path) -> PathBuf {
    directory.join("redis.conf")
}

fn command(server: &Path, directory: &Path, port: u16) -> Command {
    let mut command = Command::new(server);
    command.arg(configuration(directory));
    command.arg("--port").arg(port.to_string());
    command.arg("--dir").arg(directory);
    command
}

/// Whether this very process answers, and has read its data: somebody else's server may be at the port.
fn is_ready(port: u16, process: u32) -> bool {
    let Ok(said) = ask(port, &["INFO"]) else {
        return false;
    };
    let says = |line: &str| said.lines().any(|said| said.trim_end() == line);
    says(&format!("process_id:{process}")) && says("loading:0")
}
