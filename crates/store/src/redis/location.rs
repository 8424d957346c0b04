//! Where the servers are and how they are to be used: the URL.

use std::str::FromStr;
use std::time::Duration;

use redis::{ConnectionInfo, IntoConnectionInfo};

use crate::redis::failure::OpenError;
use crate::redis::keys::Keys;

const BUCKETS: u16 = 32;
/// So that a statement to all buckets stays a small thing.
const BUCKETS_MAX: u16 = 1_024;
const CLOSED_TTL: Duration = Duration::from_secs(30 * 24 * 60 * 60);
const CONNECTIONS: usize = 8;

#[derive(Clone, Debug)]
pub(super) struct Location {
    /// One of them is enough to find the others of a cluster.
    pub servers: Vec<ConnectionInfo>,
    pub is_cluster: bool,
    pub keys: Keys,
    /// How long a closed instance is kept.
    pub closed_ttl: Option<Duration>,
    /// How many idle connections to one server are kept.
    pub connections: usize,
    /// How many replicas have to have a batch before it is acknowledged.
    pub wait: u32,
    pub allows_eviction: bool,
    /// The URL without what is secret.
    pub shown: String,
}

/// What a scheme asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scheme {
    One,
    Cluster,
    /// It is known so that it can be told from a misspelt one.
    Encrypted,
}

pub(super) fn scheme(name: &str) -> Option<Scheme> {
    Some(match name {
        "redis" | "valkey" => Scheme::One,
        "redis+cluster" | "valkey+cluster" => Scheme::Cluster,
        "rediss" | "valkeys" | "rediss+cluster" | "valkeys+cluster" => Scheme::Encrypted,
        _ => return None,
    })
}

impl Location {
    pub fn parse(url: &str) -> Result<Self, OpenError> {
        let wrong = |what: &str| {
            let form = "redis://[user:password@]host:port[/db] or redis+cluster://host:port,host:port";
            OpenError::Location(format!("{what}; a location is {form}"))
        };
        let (name, rest) = url.split_once("://").ok_or_else(|| wrong("the URL has no scheme"))?;
        let known = scheme(name).ok_or_else(|| wrong(&format!("the scheme `{name}` is unknown")))?;
        let is_cluster = match known {
            Scheme::One => false,
            Scheme::Cluster => true,
            Scheme::Encrypted => {
                return Err(wrong("TLS to Redis is not spoken here: put a tunnel in between"));
            }
        };
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (user, hosts) = match authority.rsplit_once('@') {
            Some((user, hosts)) => (format!("{user}@"), hosts),
            None => (String::new(), authority),
        };
        if is_cluster && !matches!(path, "" | "0") {
            return Err(wrong("a cluster has no numbered databases"));
        }
        if !is_cluster && hosts.contains(',') {
            return Err(wrong("several hosts are a cluster's"));
        }
        let server = |host: &str| {
            // What is wrong with a URL is never said with the URL: the password is in it.
            let url = format!("redis://{user}{host}/{path}");
            let info = url.into_connection_info();
            let info =
                info.map_err(|error| wrong(&format!("the server `{host}` is not understood: {error}")))?;
            let settings = info.redis_settings().clone().set_skip_set_lib_name();
            Ok::<_, OpenError>(info.set_redis_settings(settings))
        };
        let servers = hosts.split(',').map(server).collect::<Result<Vec<_>, _>>()?;
        let slash = if path.is_empty() { "" } else { "/" };
        let mut location = Self {
            servers,
            is_cluster,
            keys: Keys { prefix: "statewright".to_owned(), buckets: BUCKETS },
            closed_ttl: Some(CLOSED_TTL),
            connections: CONNECTIONS,
            wait: 0,
            allows_eviction: false,
            shown: String::new(),
        };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (parameter, value) = pair.split_once('=').unwrap_or((pair, ""));
            location.set(parameter, value).map_err(|problem| wrong(&problem))?;
        }
        location.shown = format!("{name}://{hosts}{slash}{path}?prefix={}", location.keys.prefix);
        Ok(location)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        match name {
            "prefix" => {
                let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
                if value.is_empty() || value.len() > 100 || !value.chars().all(is_plain) {
                    return Err("`prefix` is up to 100 letters, digits, `-`, `_`, `.` and `:`".to_owned());
                }
                value.clone_into(&mut self.keys.prefix);
            }
            "buckets" => self.keys.buckets = between(name, value, 1, BUCKETS_MAX)?,
            "connections" => self.connections = between(name, value, 1, 1_000)?,
            "wait" => self.wait = between(name, value, 0, 100)?,
            "closed_ttl" if value == "never" => self.closed_ttl = None,
            "closed_ttl" => self.closed_ttl = Some(duration(value)?),
            "allow_eviction" if matches!(value, "yes" | "no") => self.allows_eviction = value == "yes",
            "allow_eviction" => return Err(format!("`allow_eviction` is `yes` or `no`, not `{value}`")),
            _ => {
                let known = "prefix, buckets, closed_ttl, connections, wait and allow_eviction";
                return Err(format!("the parameter `{name}` is unknown; known are {known}"));
            }
        }
        Ok(())
    }
}

fn between<T: FromStr + PartialOrd + std::fmt::Display>(
    name: &str,
    value: &str,
    least: T,
    most: T,
) -> Result<T, String> {
    let number = value.parse().ok().filter(|number| (&least..=&most).contains(&number));
    number.ok_or_else(|| format!("`{name}` is a number from {least} to {most}, not `{value}`"))
}

/// `90s`, `15m`, `12h` or `30d`; with milliseconds too, as tests like it short.
fn duration(value: &str) -> Result<Duration, String> {
    let units = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
    let parsed = units.iter().find_map(|(unit, ms)| {
        let number: u64 = value.strip_suffix(unit)?.parse().ok()?;
        number.checked_mul(*ms).filter(|ms| (1..=1 << 50).contains(ms))
    });
    let wrong = || format!("`closed_ttl` is a time such as `12h` or `30d`, or `never`, not `{value}`");
    parsed.map(Duration::from_millis).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(url: &str) -> Location {
        Location::parse(url).unwrap_or_else(|error| panic!("{url}: {error}"))
    }

    #[test]
    fn a_location_is_read_and_shown_without_its_password() {
        let one =
            parsed("redis://me:p%40ss@host:7000/3?prefix=x&buckets=4&closed_ttl=2h&connections=2&wait=1");
        assert_eq!(one.shown, "redis://host:7000/3?prefix=x");
        assert_eq!((one.keys.buckets, one.connections, one.wait, one.is_cluster), (4, 2, 1, false));
        assert_eq!(one.closed_ttl, Some(Duration::from_secs(7_200)));
        let settings = one.servers[0].redis_settings();
        assert_eq!((settings.username(), settings.password(), settings.db()), (Some("me"), Some("p@ss"), 3));
        let cluster = parsed("redis+cluster://a:1,b:2?closed_ttl=never");
        let addresses: Vec<_> = cluster.servers.iter().map(|server| server.addr().to_string()).collect();
        assert_eq!(addresses, ["a:1", "b:2"]);
        assert_eq!((cluster.is_cluster, cluster.closed_ttl, cluster.keys.buckets), (true, None, 32));
        assert_eq!(cluster.shown, "redis+cluster://a:1,b:2?prefix=statewright");
    }

    #[test]
    fn what_means_nothing_is_refused_without_showing_the_password() {
        for url in [
            "host:1",
            "http://u:secret@host",
            "redis://u:secret@a:1,b:2",
            "redis+cluster://u:secret@a:1/2",
            "redis://u:secret@host:port",
            "redis://u:secret@host?buckets=0",
            "redis://u:secret@host?closed_ttl=30",
            "redis://u:secret@host?prefix=a%7Bb",
            "redis://u:secret@host?colour=red",
            "redis://u:secret@host?allow_eviction=true",
            "rediss://u:secret@host",
        ] {
            let error = Location::parse(url).unwrap_err().to_string();
            assert!(!error.contains("secret"), "{url}: {error}");
        }
    }
}
