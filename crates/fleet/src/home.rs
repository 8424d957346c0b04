//! The store that a fleet works over: a file, somebody's database server, or a private one that may be hurt.
//!
//! Owns which database or prefix of a shared server is the campaign's, and what can be done to a private server.

use std::path::Path;
use std::time::{Duration, Instant};

use testbed::{Lodging, Postgres, Redis, RedisCluster, Settings};

/// A node that is silent for two seconds is taken for lost, and its replica needs a while to be chosen.
const FAILOVER: Duration = Duration::from_secs(5);

/// Which store, and whose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreChoice {
    /// A file of its own; for one server.
    Sqlite,
    /// The server's own memory: forgotten at every kill, so that a campaign over it has to find something.
    Memory,
    /// A private server.
    Postgres,
    /// A private server.
    Redis,
    /// A private cluster of three masters, with a replica each or without.
    RedisCluster { replicas: bool },
    /// Somebody's server, on which the campaign takes a database or a prefix of its own.
    Url(String),
}

impl StoreChoice {
    /// `sqlite`, `memory`, `postgres`, `redis`, `redis-cluster`, `redis-cluster-with-replicas`, or a URL.
    ///
    /// # Errors
    /// A fragment that says what may be written.
    pub fn parse(text: &str) -> Result<Self, String> {
        Ok(match text {
            "sqlite" => Self::Sqlite,
            "memory" => Self::Memory,
            "postgres" => Self::Postgres,
            "redis" => Self::Redis,
            "redis-cluster" => Self::RedisCluster { replicas: false },
            "redis-cluster-with-replicas" => Self::RedisCluster { replicas: true },
            url if url.contains("://") => Self::Url(url.to_owned()),
            _ => {
                return Err(format!(
                    "`{text}` is no store; write sqlite, memory, postgres, redis, redis-cluster, redis-cluster-with-replicas or a URL"
                ));
            }
        })
    }
}

#[derive(Debug)]
enum Kind {
    /// What only one server can have: a URL, and nothing to hurt.
    Own(String),
    Postgres(Box<Postgres>),
    Redis(Box<Redis>),
    Cluster {
        cluster: RedisCluster,
        replicas: bool,
    },
    /// A place of its own on somebody's server.
    Theirs(Lodging),
}

/// The store, as long as the campaign runs.
#[derive(Debug)]
pub(crate) struct Home(Kind);

impl Home {
    pub fn start(choice: &StoreChoice, directory: &Path) -> Result<Self, String> {
        let settings = Settings::default();
        let said = |error: testbed::Error| error.to_string();
        Ok(Self(match choice {
            StoreChoice::Sqlite => Kind::Own(format!("sqlite:{}", directory.join("fleet.db").display())),
            StoreChoice::Memory => Kind::Own("memory:".to_owned()),
            StoreChoice::Postgres => Kind::Postgres(Box::new(Postgres::start(&settings).map_err(said)?)),
            StoreChoice::Redis => Kind::Redis(Box::new(Redis::start(&settings).map_err(said)?)),
            StoreChoice::RedisCluster { replicas } => {
                let started = if *replicas {
                    RedisCluster::start_with_replicas(&settings)
                } else {
                    RedisCluster::start(&settings)
                };
                Kind::Cluster { cluster: started.map_err(said)?, replicas: *replicas }
            }
            StoreChoice::Url(url) => {
                let kind = match url.split_once(':') {
                    Some(("postgres" | "postgresql", _)) => testbed::Kind::Postgres,
                    Some(("redis+cluster", _)) => testbed::Kind::RedisCluster,
                    _ => testbed::Kind::Redis,
                };
                Kind::Theirs(Lodging::on(kind, url).map_err(said)?)
            }
        }))
    }

    pub fn url(&self) -> String {
        match &self.0 {
            Kind::Own(url) => url.clone(),
            Kind::Postgres(server) => server.url(),
            Kind::Redis(server) => server.url(),
            Kind::Cluster { cluster, .. } => cluster.url(),
            Kind::Theirs(lodging) => lodging.url().to_owned(),
        }
    }

    /// Whether only one server may work over it.
    pub fn is_exclusive(&self) -> bool {
        matches!(self.0, Kind::Own(_))
    }

    /// Whether it may be stopped and killed.
    pub fn is_private(&self) -> bool {
        matches!(self.0, Kind::Postgres(_) | Kind::Redis(_) | Kind::Cluster { .. })
    }

    pub fn is_cluster(&self) -> bool {
        matches!(self.0, Kind::Cluster { .. })
    }

    /// Whether another may take a killed one's place without having all that it had acknowledged.
    pub fn may_lose(&self) -> bool {
        matches!(self.0, Kind::Cluster { replicas: true, .. })
    }

    /// Takes the database away, whole or one master of a cluster, and brings it back after `pause`. What was done.
    pub fn interrupt(&self, in_order: bool, which: usize, pause: Duration) -> Result<String, String> {
        let began = Instant::now();
        let said = |error: testbed::Error| error.to_string();
        let how = if in_order { "stopped" } else { "killed" };
        match &self.0 {
            Kind::Postgres(server) => {
                if in_order { server.stop() } else { server.kill() }.map_err(said)?;
                std::thread::sleep(pause);
                server.start_again().map_err(said)?;
                Ok(format!("PostgreSQL {how}, back after {} ms", began.elapsed().as_millis()))
            }
            Kind::Redis(server) => {
                if in_order { server.stop() } else { server.kill() }.map_err(said)?;
                std::thread::sleep(pause);
                server.start_again().map_err(said)?;
                Ok(format!("Redis {how}, back after {} ms", began.elapsed().as_millis()))
            }
            Kind::Cluster { cluster, replicas } => {
                // Long enough for its replica to take its place.
                let pause = if *replicas { pause + FAILOVER } else { pause };
                let masters = cluster.masters();
                let node = *masters.get(which % masters.len().max(1)).ok_or("no master runs")?;
                if in_order { cluster.stop(node) } else { cluster.kill(node) }.map_err(said)?;
                std::thread::sleep(pause);
                cluster.start_again(node).map_err(said)?;
                cluster.wait_until_ok().map_err(said)?;
                Ok(format!("master {node} {how}, all well after {} ms", began.elapsed().as_millis()))
            }
            Kind::Own(_) | Kind::Theirs(_) => {
                Err("only a private database server may be stopped: --store postgres, redis or redis-cluster"
                    .into())
            }
        }
    }
}
