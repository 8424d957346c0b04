//! Private database servers for tests and benchmarks: real processes of PostgreSQL, Redis and a Redis Cluster, each
//! with its own directory, its own port on loopback, and full durability; and a driver of browsers.
//!
//! Owns starting, crashing, restarting and ending them; knows nothing of Statewright, and no client but the few
//! commands that tell whether a server is ready. Invariant: whoever starts a server ends it, with its directory, also
//! when the starting process is killed.

mod address;
mod directory;
mod process;
mod program;
mod wire;

mod browser;
mod cluster;
mod lodging;
mod postgres;
mod redis;

use std::fmt;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

pub use browser::{ARGUMENTS as BROWSER_ARGUMENTS, Browser};
pub use cluster::RedisCluster;
pub use lodging::{Kind, Lodging};
pub use postgres::Postgres;
pub use process::is_alive;
pub use program::{missing_packages, promtool, runs_as_root};
pub use redis::Redis;

/// How often something awaited is looked at: too short to be noticed, too long to cost anything.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// What to say about programs that are not there.
const REMEDY: &str = "install it with `cargo xtask servers --install`";

/// How a server is started.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where the server's own directory is made.
    pub parent: PathBuf,
    /// The server's own settings, by their names in its configuration; they win over ours.
    pub options: Vec<(String, String)>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { parent: std::env::temp_dir(), options: Vec::new() }
    }
}

impl Settings {
    /// With another value for one of the server's own settings, `appendfsync` for instance.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.options.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// Why a server cannot be started, reached or ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error(String);

impl Error {
    fn new(what: impl Into<String>) -> Self {
        Self(what.into())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for Error {}

/// Looks until `holds` or until `limit` is over; whether it held.
pub fn wait_until(limit: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let started = Instant::now();
    loop {
        if holds() {
            return true;
        }
        if started.elapsed() >= limit {
            return false;
        }
        thread::sleep(POLL_INTERVAL);
    }
}
