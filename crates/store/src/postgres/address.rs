//! Where a database is and how it is used, from one URL.
//!
//! Owns the parameters that are ours and the ones that say how the connection is protected; everything else in the URL
//! is libpq's and is read by the driver.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};

use crate::postgres::{OpenError, tls};
use crate::record::Records;

/// How a database is used.
#[derive(Clone, Debug)]
pub struct Options {
    /// Connections at most, beside the one that waits for news; `connections` in the URL goes first.
    pub connections: usize,
    /// After so long the server gives a statement up; `statement_timeout`, in seconds, in the URL goes first.
    pub statement_timeout: Duration,
    /// How long somebody waits for a connection when all are in use.
    pub patience: Duration,
    pub records: Records,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            connections: 8,
            statement_timeout: Duration::from_secs(30),
            patience: Duration::from_secs(10),
            records: Records::default(),
        }
    }
}

/// How far the server's certificate has to be good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trust {
    /// As libpq has it with `prefer` and `require`: encrypted, with whoever it is.
    Anybody,
    /// `verify-ca` and `verify-full`: signed by somebody who is trusted, and for this host.
    Verified,
}

#[derive(Clone, Debug)]
pub(super) struct Address {
    pub config: Config,
    /// What encrypts connections, unless that is switched off.
    pub tls: Option<Arc<ClientConfig>>,
    pub options: Options,
}

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

impl Address {
    pub(super) fn parse(url: &str, mut options: Options) -> Result<Self, OpenError> {
        if !["postgres://", "postgresql://"].iter().any(|scheme| url.starts_with(scheme)) {
            return Err(OpenError::Url("it has to begin with `postgres://`".to_owned()));
        }
        let (base, query) = url.split_once('?').unwrap_or((url, ""));
        let (mut trust, mut ssl_mode, mut root_certificates) = (Trust::Anybody, SslMode::Prefer, None);
        let mut rest = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            match name {
                "connections" => options.connections = number(name, value, 2)?,
                "statement_timeout" => {
                    options.statement_timeout = Duration::from_secs(number(name, value, 1)? as u64);
                }
                "sslmode" => (ssl_mode, trust) = protection(value)?,
                "sslrootcert" => root_certificates = Some(value),
                _ => rest.push(pair),
            }
        }
        let mut config = Config::from_str(&format!("{base}?{}", rest.join("&")))
            .map_err(|error| OpenError::Url(super::failure::described(&error)))?;
        if config.get_hosts().is_empty() {
            return Err(OpenError::Url("it names no host".to_owned()));
        }
        config.ssl_mode(ssl_mode);
        config.connect_timeout(CONNECT_TIMEOUT);
        // A peer that is gone without a word is noticed before a statement would have been given up.
        config.tcp_user_timeout(options.statement_timeout);
        config.keepalives_idle(Duration::from_secs(30));
        config.keepalives_interval(Duration::from_secs(10));
        config.keepalives_retries(3);
        if config.get_application_name().is_none() {
            config.application_name("statewright");
        }
        let tls = tls::config(ssl_mode, trust, root_certificates)?;
        Ok(Self { config, tls, options })
    }

    /// `host:port/database`, without a password.
    pub(super) fn location(&self) -> String {
        let ports = self.config.get_ports();
        let hosts = self.config.get_hosts().iter().enumerate().map(|(place, host)| {
            let host = match host {
                Host::Tcp(name) => name.clone(),
                #[cfg(unix)]
                Host::Unix(path) => path.display().to_string(),
            };
            let port = ports.get(place).or(ports.first()).copied().unwrap_or(5_432);
            format!("{host}:{port}")
        });
        let hosts: Vec<_> = hosts.collect();
        let database = self.config.get_dbname().or(self.config.get_user()).unwrap_or("");
        format!("{}/{database}", hosts.join(","))
    }
}

fn number(name: &str, value: &str, least: usize) -> Result<usize, OpenError> {
    match value.parse() {
        Ok(number) if number >= least => Ok(number),
        _ => Err(OpenError::Url(format!("`{name}` has to be a number of at least {least}, not `{value}`"))),
    }
}

fn protection(mode: &str) -> Result<(SslMode, Trust), OpenError> {
    match mode {
        "disable" => Ok((SslMode::Disable, Trust::Anybody)),
        "prefer" => Ok((SslMode::Prefer, Trust::Anybody)),
        "require" => Ok((SslMode::Require, Trust::Anybody)),
        "verify-ca" | "verify-full" => Ok((SslMode::Require, Trust::Verified)),
        other => Err(OpenError::Url(format!(
            "`sslmode` is `{other}`; there are disable, prefer, require, verify-ca and verify-full"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<Address, String> {
        Address::parse(url, Options::default()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_url_says_where_and_how() {
        let address = parse("postgres://u:secret@db:5433/name?connections=3&sslmode=verify-full").unwrap();
        assert_eq!(address.location(), "db:5433/name");
        assert_eq!((address.options.connections, address.tls.is_some()), (3, true));
        assert_eq!(address.config.get_ssl_mode(), SslMode::Require);
        let plain = parse("postgresql://u@db/name?application_name=x&statement_timeout=7").unwrap();
        assert_eq!(plain.options.statement_timeout, Duration::from_secs(7));
        assert_eq!(plain.location(), "db:5432/name");
        assert!(parse("postgres://u@db/name?sslmode=disable").unwrap().tls.is_none());
        assert_eq!(plain.config.get_application_name(), Some("x"));
    }

    #[test]
    fn a_url_that_says_nothing_useful_is_refused() {
        for (url, expected) in [
            ("mysql://db/name", "the store's URL: it has to begin with `postgres://`"),
            ("postgres:///name", "the store's URL: it names no host"),
            (
                "postgres://db/name?connections=1",
                "the store's URL: `connections` has to be a number of at least 2, not `1`",
            ),
            (
                "postgres://db/name?sslmode=verify-full&sslrootcert=/none.pem",
                "the store's URL: `sslrootcert` /none.pem: I/O error: No such file or directory (os error 2)",
            ),
            (
                "postgres://db/name?sslmode=maybe",
                "the store's URL: `sslmode` is `maybe`; there are disable, prefer, require, verify-ca and verify-full",
            ),
        ] {
            assert_eq!(parse(url).unwrap_err(), expected, "{url}");
        }
    }
}
