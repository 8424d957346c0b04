//! `cargo xtask servers`: the database servers that tests run on, and the environment that tells tests where they are.
//!
//! Owns which servers there are and under which names tests find them; starting and ending one is `testbed`'s, having
//! them installed `install`'s. Invariant: no server outlives the command, also when it is killed.

mod install;

use std::io;
use std::process::Command;
use std::thread;
use std::time::Instant;

use testbed::{Postgres, Redis, RedisCluster, Settings};

use crate::workspace;

pub use install::install;

/// What is asked of `cargo xtask servers`.
#[derive(Debug, PartialEq, Eq)]
pub enum Asked {
    Install,
    /// Run until the end of the input, or until Ctrl-C.
    Stay,
    /// Run while this command runs.
    Run(Vec<String>),
}

/// One of each, all running.
#[derive(Debug)]
pub struct Servers {
    postgres: Postgres,
    redis: Redis,
    cluster: RedisCluster,
}

impl Servers {
    /// Installs what is missing, and starts all at the same time.
    pub fn start() -> Result<Self, String> {
        install()?;
        let settings = Settings::default();
        thread::scope(|scope| {
            let postgres = scope.spawn(|| Postgres::start(&settings));
            let cluster = scope.spawn(|| RedisCluster::start(&settings));
            let redis = Redis::start(&settings);
            let panicked = |_| "a thread that starts a server panicked".to_owned();
            let postgres = postgres.join().map_err(panicked)?;
            let cluster = cluster.join().map_err(panicked)?;
            let said = |error: testbed::Error| error.to_string();
            Ok(Self {
                postgres: postgres.map_err(said)?,
                redis: redis.map_err(said)?,
                cluster: cluster.map_err(said)?,
            })
        })
    }

    /// The variables under which tests and benchmarks look for the servers.
    pub fn environment(&self) -> [(&'static str, String); 4] {
        [
            ("STATEWRIGHT_TEST_POSTGRES", self.postgres.url()),
            ("STATEWRIGHT_TEST_REDIS", self.redis.url()),
            ("STATEWRIGHT_TEST_REDIS_CLUSTER", self.cluster.url()),
            ("STATEWRIGHT_TEST_AXE", install::axe().display().to_string()),
        ]
    }
}

/// Does what is asked; true when it worked, and the command that was given too.
pub fn run(asked: &Asked) -> bool {
    let outcome = match asked {
        Asked::Install => install().map(|()| {
            println!("PostgreSQL, Redis, Chromium, Prometheus' tools and axe-core are installed");
            true
        }),
        Asked::Stay => stay().map(|()| true),
        Asked::Run(words) => match words.split_first() {
            Some((program, arguments)) => run_with_servers(Command::new(program).args(arguments)),
            None => Ok(true),
        },
    };
    outcome.unwrap_or_else(|why| {
        eprintln!("error: {why}");
        false
    })
}

/// Runs a command with servers of its own, told in its environment; whether it succeeded.
pub fn run_with_servers(command: &mut Command) -> Result<bool, String> {
    let servers = start_and_tell()?;
    workspace::forget_package(command);
    let program = command.get_program().to_string_lossy().into_owned();
    let status = command.envs(servers.environment()).status();
    status.map(|status| status.success()).map_err(|error| format!("failed to start {program}: {error}"))
}

fn stay() -> Result<(), String> {
    let servers = start_and_tell()?;
    for (name, url) in servers.environment() {
        println!("export {name}='{url}'");
    }
    eprintln!("until Ctrl-C, or the end of the input");
    io::copy(&mut io::stdin().lock(), &mut io::sink())
        .map(|_| ())
        .map_err(|error| format!("failed to read the input: {error}"))
}

/// On stderr, because the command's output, or the lines to export, are on stdout.
fn start_and_tell() -> Result<Servers, String> {
    let started = Instant::now();
    let servers = Servers::start()?;
    eprintln!("servers started in {:.1} s", started.elapsed().as_secs_f64());
    Ok(servers)
}
