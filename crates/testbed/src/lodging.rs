//! A place of one's own on a server that others use at the same time: a database, or a prefix of keys.
//!
//! Tests get the servers that are already running, one address for each kind, in the environment. One that is not there
//! is a failure that says how to start it, never a reason to leave a test out.

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::Error;
use crate::postgres::forget_settings;
use crate::process::run;

/// The kinds of servers, each with the variable that has its address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Postgres,
    Redis,
    RedisCluster,
}

impl Kind {
    pub const ALL: [Self; 3] = [Self::Postgres, Self::Redis, Self::RedisCluster];

    pub fn variable(self) -> &'static str {
        match self {
            Self::Postgres => "STATEWRIGHT_TEST_POSTGRES",
            Self::Redis => "STATEWRIGHT_TEST_REDIS",
            Self::RedisCluster => "STATEWRIGHT_TEST_REDIS_CLUSTER",
        }
    }

    /// A word for messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Redis => "redis",
            Self::RedisCluster => "redis cluster",
        }
    }
}

/// Nobody else's, until it is dropped: then a database goes. Keys stay as long as their server, which is private.
#[derive(Debug)]
pub struct Lodging {
    url: String,
    /// The address and the name of a database to drop.
    database: Option<(String, String)>,
}

static COUNT: AtomicU32 = AtomicU32::new(0);

impl Lodging {
    /// On the server that the environment names.
    ///
    /// # Panics
    /// When there is none, since a test without its server has failed.
    pub fn new(kind: Kind) -> Self {
        let variable = kind.variable();
        let Ok(server) = std::env::var(variable) else {
            panic!(
                "{variable} is not set; run `cargo xtask servers cargo nextest run`, or `cargo xtask test`"
            )
        };
        Self::on(kind, &server).unwrap_or_else(|error| panic!("{error}"))
    }

    /// On the server with this address.
    ///
    /// # Errors
    /// When a database cannot be made there.
    pub fn on(kind: Kind, server: &str) -> Result<Self, Error> {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        // Keys stay, and process numbers come again.
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let name = format!("lodging_{since}_{}_{number}", std::process::id());
        let (address, query) = server.split_once('?').unwrap_or((server, ""));
        match kind {
            Kind::Postgres => {
                psql(server, &format!("CREATE DATABASE {name}"))?;
                let at = address.find("://").map_or(0, |at| at + 3);
                let host = address[at..].find('/').map_or(address, |slash| &address[..at + slash]);
                Ok(Self { url: format!("{host}/{name}?{query}"), database: Some((server.to_owned(), name)) })
            }
            Kind::Redis | Kind::RedisCluster => {
                let joint = if query.is_empty() { "" } else { "&" };
                Ok(Self { url: format!("{address}?{query}{joint}prefix={name}"), database: None })
            }
        }
    }

    pub fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for Lodging {
    fn drop(&mut self) {
        if let Some((server, name)) = &self.database {
            // The server is private and goes anyway.
            let _ = psql(server, &format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"));
        }
    }
}

/// Runs statements with `psql` and returns what it prints: rows as lines, columns separated by `|`.
pub(crate) fn psql(url: &str, statements: &str) -> Result<String, Error> {
    let mut command = Command::new("psql");
    forget_settings(&mut command);
    command.args(["--no-psqlrc", "--quiet", "--no-align", "--tuples-only", "--set=ON_ERROR_STOP=1"]);
    command.arg("--dbname").arg(url).arg("--command").arg(statements);
    Ok(run(&mut command)?.trim_end().to_owned())
}
