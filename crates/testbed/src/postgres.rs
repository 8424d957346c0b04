//! A private PostgreSQL, as durable as the server can be.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::lodging::psql;
use crate::process::{Process, Signals, run};
use crate::program::{POSTGRES_USER, as_postgres, postgres_directory, runs_as_root};
use crate::{Error, Settings};

/// The superuser.
const USER: &str = "statewright";

/// SIGINT is the server's fast shutdown. SIGQUIT, its immediate one, leaves no shared memory behind, as SIGKILL does.
const SIGNALS: Signals = Signals { stop: "INT", end: "QUIT" };

/// What is not the server's default, or is what durability rests on.
const OPTIONS: &[(&str, &str)] = &[
    ("listen_addresses", "127.0.0.1"),
    ("max_connections", "200"),
    ("shared_buffers", "128MB"),
    ("fsync", "on"),
    ("synchronous_commit", "on"),
    ("full_page_writes", "on"),
    ("timezone", "UTC"),
    ("log_timezone", "UTC"),
];

/// A server with a cluster of databases of its own; it ends, and its directory goes, with the value.
#[derive(Debug)]
pub struct Postgres {
    process: Process,
    postgres: PathBuf,
    options: Vec<(String, String)>,
    port: u16,
    password: String,
}

impl Postgres {
    /// Makes the databases and starts the server on a free port.
    pub fn start(settings: &Settings) -> Result<Self, Error> {
        let programs = postgres_directory()?;
        let process = Process::new("PostgreSQL", SIGNALS, settings)?;
        let password = random_password()?;
        initialise(&programs.join("initdb"), process.directory(), &password)?;
        let mut options: Vec<(String, String)> =
            OPTIONS.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        options.push(("unix_socket_directories".to_owned(), process.directory().display().to_string()));
        options.extend(settings.options.iter().cloned());
        let postgres = programs.join("postgres");
        let port = process.start_on_free_port(
            |port| command(&postgres, process.directory(), port, &options),
            |_, server| is_ready(process.directory(), server),
        )?;
        Ok(Self { process, postgres, options, port, password })
    }

    /// `postgres://USER:PASSWORD@127.0.0.1:PORT/postgres`, of a superuser.
    pub fn url(&self) -> String {
        format!("postgres://{USER}:{}@127.0.0.1:{}/postgres", self.password, self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The process ids, the postmaster's first; none while the server does not run.
    pub fn processes(&self) -> Vec<u32> {
        self.process.processes()
    }

    /// The directory that goes with the server.
    pub fn directory(&self) -> &Path {
        self.process.directory()
    }

    /// Runs statements with `psql` and returns what it prints: rows as lines, columns separated by `|`.
    pub fn psql(&self, statements: &str) -> Result<String, Error> {
        psql(&self.url(), statements)
    }

    /// Shuts down in order, without waiting for clients; the data stays.
    pub fn stop(&self) -> Result<(), Error> {
        self.process.stop()
    }

    /// Kills the postmaster and all its processes with SIGKILL, as a crash would; the data stays. A bit of shared
    /// memory stays too, until the next start.
    pub fn kill(&self) -> Result<(), Error> {
        self.process.kill()
    }

    /// Starts again after `stop` or `kill`, on the same data and port.
    pub fn start_again(&self) -> Result<(), Error> {
        let directory = self.process.directory();
        let command = command(&self.postgres, directory, self.port, &self.options)?;
        self.process.start(command, |server| is_ready(directory, server))
    }

    /// Freezes all its processes: connections stay open and nothing answers.
    pub fn pause(&self) -> Result<(), Error> {
        self.process.pause()
    }

    /// Lets it go on after `pause`.
    pub fn resume(&self) -> Result<(), Error> {
        self.process.resume()
    }
}

fn data(directory: &Path) -> PathBuf {
    directory.join("data")
}

/// Makes the files of the databases. They are not synced: what a test relies on is written by the server.
fn initialise(initdb: &Path, directory: &Path, password: &str) -> Result<(), Error> {
    let password_path = directory.join("password");
    fs::write(&password_path, password)
        .map_err(|error| Error::new(format!("failed to write {}: {error}", password_path.display())))?;
    if runs_as_root() {
        run(Command::new("chown").arg("-R").arg(format!("{POSTGRES_USER}:")).arg(directory))?;
    }
    let mut command = as_postgres(initdb)?;
    forget_settings(&mut command);
    command
        .current_dir(directory)
        .args([
            "--no-sync",
            "--encoding=UTF8",
            "--locale=C",
            "--auth-host=scram-sha-256",
            "--auth-local=trust",
        ])
        .arg(format!("--username={USER}"))
        .arg("--pwfile")
        .arg(&password_path)
        .arg("--pgdata")
        .arg(data(directory));
    run(&mut command).map(|_| ())
}

fn command(
    postgres: &Path,
    directory: &Path,
    port: u16,
    options: &[(String, String)],
) -> Result<Command, Error> {
    let mut command = as_postgres(postgres)?;
    forget_settings(&mut command);
    command.arg("-D").arg(data(directory)).arg("-p").arg(port.to_string());
    for (name, value) in options {
        command.arg("-c").arg(format!("{name}={value}"));
    }
    Ok(command)
}

/// Takes out of the environment what libpq and the server read there: the caller's settings are for other servers.
pub(crate) fn forget_settings(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("PG") || text.starts_with("LC_") || text == "LANG" || text == "LANGUAGE" {
            command.env_remove(&name);
        }
    }
}

/// Whether the server says so itself: its process is on the first line, and its state on the eighth, from PostgreSQL 10
/// on. What a killed server left names another process.
fn is_ready(directory: &Path, process: u32) -> bool {
    let said = fs::read_to_string(data(directory).join("postmaster.pid")).unwrap_or_default();
    let lines: Vec<&str> = said.lines().map(str::trim).collect();
    lines.first() == Some(&process.to_string().as_str()) && lines.get(7) == Some(&"ready")
}

fn random_password() -> Result<String, Error> {
    let mut bytes = [0; 16];
    fs::File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut bytes))
        .map_err(|error| Error::new(format!("failed to read /dev/urandom: {error}")))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
