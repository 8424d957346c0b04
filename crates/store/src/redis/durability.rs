//! What an acknowledgement is worth, told by how the servers are set up.
//!
//! The settings are the servers', and can be changed while they run; so they are asked for again now and then. What
//! cannot be found out counts as the worst that it can be.

use std::collections::HashMap;

use redis::{Connection, ToRedisArgs, cmd};

use crate::Durability;
use crate::redis::failure::{Failure, OpenError};
use crate::redis::location::Location;
use crate::redis::servers::Servers;

#[derive(Clone, Debug)]
pub(super) struct Condition {
    /// `redis` or `valkey`.
    pub backend: &'static str,
    pub version: String,
    pub durability: Durability,
    pub notes: Vec<String>,
}

/// How one server is set up; what is `None` it does not tell.
#[derive(Debug, Default)]
struct Setup {
    appends: Option<bool>,
    fsync: Option<String>,
    eviction: Option<String>,
    replicas: u64,
    is_replica: bool,
    server: HashMap<String, String>,
}

/// # Errors
/// When a server does not answer.
pub(super) fn look(servers: &Servers) -> Result<(Condition, Vec<String>), Failure> {
    let mut notes: Vec<String> = Vec::new();
    let mut evictions = Vec::new();
    let mut worst = Durability::Durable;
    let mut software = ("redis", String::new());
    for node in servers.all()? {
        let mut connection = node.take()?;
        let setup = setup_of(&mut connection);
        node.give_back(connection);
        let (class, reasons) = class_of(&setup, servers.is_cluster);
        worst = worse(worst, class);
        notes.extend(reasons);
        if setup.is_replica {
            notes.push(format!("{} is a replica, and takes no writes", node.address));
        }
        evictions.extend(setup.eviction);
        software = software_of(&setup.server);
    }
    evictions.sort_unstable();
    evictions.dedup();
    for policy in evictions.iter().filter(|policy| policy.starts_with("volatile-")) {
        notes.push(format!("maxmemory-policy is {policy}: closed instances may go before their time"));
    }
    if evictions.is_empty() {
        notes.push("the server does not say whether it evicts keys (CONFIG is forbidden)".to_owned());
    }
    // The nodes of a cluster are set up alike, as a rule.
    let mut seen = std::collections::HashSet::new();
    notes.retain(|note| seen.insert(note.clone()));
    let (backend, version) = software;
    Ok((Condition { backend, version, durability: worst, notes }, evictions))
}

/// A server that throws away what nobody has asked for lately is no home.
pub(super) fn check_eviction(location: &Location, evictions: &[String]) -> Result<(), OpenError> {
    let harmful = evictions.iter().find(|policy| policy.starts_with("allkeys-"));
    match harmful {
        Some(policy) if !location.allows_eviction => Err(OpenError::Unusable(format!(
            "the server's maxmemory-policy is {policy}, so it may throw away any record when memory is short; set it \
             to noeviction (`CONFIG SET maxmemory-policy noeviction`), or say `allow_eviction=yes` if losing them is fine"
        ))),
        _ => Ok(()),
    }
}

fn setup_of(connection: &mut Connection) -> Setup {
    let persistence = info(connection, "persistence");
    let replication = info(connection, "replication");
    let told = |name: &str| config(connection, name);
    let [appends, fsync, eviction] = ["appendonly", "appendfsync", "maxmemory-policy"].map(told);
    let aof = persistence.get("aof_enabled").map(|enabled| enabled == "1");
    Setup {
        appends: appends.map(|appends| appends == "yes").or(aof),
        fsync,
        eviction,
        replicas: replication.get("connected_slaves").and_then(|count| count.parse().ok()).unwrap_or(0),
        is_replica: replication.get("role").is_some_and(|role| role != "master"),
        server: info(connection, "server"),
    }
}

fn config(connection: &mut Connection, name: &str) -> Option<String> {
    let pairs: Vec<String> = ask(connection, &["CONFIG", "GET", name])?;
    pairs.into_iter().nth(1)
}

fn info(connection: &mut Connection, section: &str) -> HashMap<String, String> {
    let text: String = ask(connection, &["INFO", section]).unwrap_or_default();
    let pairs = text.lines().filter_map(|line| line.split_once(':'));
    pairs.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect()
}

/// What is forbidden is not known.
fn ask<T: redis::FromRedisValue>(connection: &mut Connection, words: &[&str]) -> Option<T> {
    let (first, rest) = words.split_first()?;
    let mut command = cmd(first);
    for word in rest {
        command.arg(word.to_redis_args());
    }
    command.query(connection).ok()
}

fn class_of(setup: &Setup, is_cluster: bool) -> (Durability, Vec<String>) {
    let mut notes = Vec::new();
    let mut class = match (setup.appends, setup.fsync.as_deref()) {
        (Some(true), Some("always")) => Durability::Durable,
        (Some(true), Some("everysec")) => {
            notes.push("appendfsync is everysec: a crash may lose the last second or two".to_owned());
            Durability::BoundedLoss
        }
        (Some(true), Some(fsync)) => {
            notes.push(format!("appendfsync is {fsync}: a power cut may lose the last half minute"));
            Durability::BoundedLoss
        }
        (Some(true), None) => {
            notes.push(
                "the server does not say when it flushes (CONFIG is forbidden): it may lose half a minute"
                    .to_owned(),
            );
            Durability::BoundedLoss
        }
        (Some(false), _) => {
            notes.push(
                "appendonly is no: what was saved since the last snapshot ends with the server".to_owned(),
            );
            Durability::Volatile
        }
        (None, _) => {
            notes.push(
                "the server does not say whether it keeps anything on disk (CONFIG and INFO are forbidden)"
                    .to_owned(),
            );
            Durability::Volatile
        }
    };
    let promoted = if is_cluster {
        Some("the servers are a cluster")
    } else if setup.replicas > 0 {
        Some("the server has replicas")
    } else {
        None
    };
    if let Some(what) = promoted {
        notes.push(format!(
            "{what}: a replica that takes over may not have the last commits that were acknowledged"
        ));
        class = worse(class, Durability::BoundedLoss);
    }
    (class, notes)
}

fn worse(one: Durability, other: Durability) -> Durability {
    let rank = |class| match class {
        Durability::Durable => 0,
        Durability::BoundedLoss => 1,
        Durability::Volatile => 2,
    };
    if rank(one) >= rank(other) { one } else { other }
}

fn software_of(server: &HashMap<String, String>) -> (&'static str, String) {
    let version = |name: &str| server.get(name).cloned();
    match version("valkey_version") {
        Some(version) => ("valkey", version),
        None => ("redis", version("redis_version").unwrap_or_else(|| "unknown".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_counts_as_the_worst() {
        let class = |appends, fsync: Option<&str>, replicas, is_cluster| {
            let setup = Setup { appends, fsync: fsync.map(str::to_owned), replicas, ..Setup::default() };
            class_of(&setup, is_cluster).0
        };
        assert_eq!(class(Some(true), Some("always"), 0, false), Durability::Durable);
        assert_eq!(class(Some(true), Some("always"), 1, false), Durability::BoundedLoss);
        assert_eq!(class(Some(true), Some("always"), 0, true), Durability::BoundedLoss);
        assert_eq!(class(Some(true), Some("everysec"), 0, false), Durability::BoundedLoss);
        assert_eq!(class(Some(true), None, 0, false), Durability::BoundedLoss);
        assert_eq!(class(Some(false), Some("always"), 0, true), Durability::Volatile);
        assert_eq!(class(None, None, 0, false), Durability::Volatile);
    }
}
