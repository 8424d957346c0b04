//! The same work as somebody would write it by hand, in Python, beside ours: the same clients, the same messages.
//!
//! What it needs is installed with pip into a folder beside this program, once. Its processor time and memory are those of
//! its own processes; what its database uses beside that is not among them.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::command::Failure;
use crate::command::bench::backends::Database;
use crate::command::bench::clients::Clients;
use crate::command::bench::line::Rounds;
use crate::command::bench::over_http;
use crate::command::bench::process::Process;
use crate::command::bench::server_process::ServerProcess;
use crate::command::bench::{Bench, Told, disk_bytes};

const PROGRAM: &str = include_str!("peer.py");
const PACKAGES: [&str; 5] = ["fastapi", "uvicorn", "uvloop", "httptools", "psycopg[binary,pool]"];
const IMPORTS: &str = "import fastapi, uvicorn, uvloop, httptools, psycopg, psycopg_pool";
const CLIENTS: usize = 32;
const ROUNDS: u32 = 3;

pub(super) fn measure(bench: &Bench, told: Told<'_>) -> Result<(), Failure> {
    let Some(url) = &bench.postgres else {
        return Ok(());
    };
    let python = python()?;
    let database = Database::create(url)?;
    let folder = bench.folder("peer")?;
    std::fs::write(folder.join("peer.py"), PROGRAM)?;
    let mut command = Command::new(python);
    command.arg("peer.py").current_dir(folder).env("PEER_DATABASE", database.url());
    let peer = ServerProcess::spawn(&mut command)?;
    let folder = bench.folder("peers-ours")?;
    let before = over_http::prepare(&folder)?;
    let server = ServerProcess::start(&folder)?;
    let mut of_peer = Clients::of(peer.address, CLIENTS)?;
    let mut of_server = Clients::of(server.address, CLIENTS)?;
    let workers = Process::with_children(peer.id());
    let (mut theirs, mut ours) = (Rounds::default(), Rounds::default());
    for _ in 0..ROUNDS {
        theirs.0.push(over_http::round(&mut of_peer, &workers, bench.time / ROUNDS)?);
        ours.0.push(over_http::round(&mut of_server, &server.process, bench.time / ROUNDS)?);
    }
    peer.end()?;
    server.end()?;
    let mut line = ours.line(&format!("http: durable messages, {CLIENTS} clients"));
    let grown = disk_bytes(&folder).saturating_sub(before);
    line.disk_bytes_per_event = Some(grown as f64 / ours.events().max(1) as f64);
    told(line.beside("FastAPI", theirs.per_second()));
    told(theirs.line("  peer: FastAPI, psycopg and PostgreSQL by hand"));
    Ok(())
}

/// A Python that has what the peer needs.
fn python() -> Result<PathBuf, Failure> {
    let folder = std::env::current_exe()?.with_file_name("bench-peers");
    let python = folder.join("bin/python");
    let has_all = |python: &Path| {
        let mut asked = Command::new(python);
        asked.args(["-c", IMPORTS]).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    };
    if !has_all(&python) {
        run(Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
        run(Command::new(&python).args(["-m", "pip", "install", "--quiet"]).args(PACKAGES))?;
    }
    Ok(python)
}

/// What it says on standard output is not ours to print.
fn run(command: &mut Command) -> Result<(), Failure> {
    let program = command.get_program().to_string_lossy().into_owned();
    let failed = |why: String| Failure(format!("failed to install the peer with {program}: {why}"));
    match command.stdin(Stdio::null()).stdout(Stdio::null()).status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(failed(status.to_string())),
        Err(error) => Err(failed(error.to_string())),
    }
}
