//! statewright.toml: what may be set in it, and how it is read.
//!
//! Owns the shape of the file alone. Which of a flag, the environment and the file wins is settled in
//! `command::serve`.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use engine::Settings;
use kernel::time::Delay;
use serde::Deserialize;
use toml::de::DeTable;

use crate::accept::Limits;
use crate::access::Rates;
use crate::access::jwt::JwtConfig;
use crate::connections::{CallTarget, Channel, Webhook};
use crate::encryption::EncryptionConfig;
use crate::outgoing::Block;
use crate::recognisers::RecogniserConfig;
use crate::secret::Secret;
use crate::traces::TracesConfig;

/// Each delivery that is under way holds a thread.
const DELIVERIES_MAX: usize = 400;
const DEFAULT_PATH: &str = "statewright.toml";

/// Everything that the file may say; a name that is not here is refused, since it would be a misspelt setting.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConfigFile {
    pub listen: Option<String>,
    pub store: Option<String>,
    pub machines: Option<Vec<PathBuf>>,
    pub public_url: Option<String>,
    pub twilio_auth_token: Option<String>,
    pub api_keys: Option<String>,
    /// Whose tokens count as keys.
    #[serde(default)]
    pub jwt: Vec<JwtConfig>,
    /// What is shown to whoever connects; without it, nothing is encrypted.
    pub tls: Option<TlsConfig>,
    /// TLS is in front of the server, though it listens elsewhere than on this machine.
    pub plain_http: Option<bool>,
    /// Blocks of addresses whose `X-Forwarded-For` counts.
    pub trusted_proxies: Option<Vec<String>>,
    /// Whether `/metrics` is told to whoever asks.
    #[serde(default)]
    pub open_metrics: bool,
    /// Who has it is given a backup of all tenants.
    pub backup_key: Option<Secret>,
    pub log: Option<LogChoice>,
    #[serde(default)]
    pub channels: Vec<Channel>,
    #[serde(default)]
    pub webhooks: Vec<Webhook>,
    #[serde(default)]
    pub calls: Vec<CallTarget>,
    /// Blocks of addresses that requests to the outside may go to, though they are not public.
    pub allow_addresses: Option<Vec<String>>,
    #[serde(default)]
    pub recognisers: Vec<RecogniserConfig>,
    #[serde(default)]
    pub limits: LimitsConfig,
    #[serde(default)]
    pub encryption: EncryptionConfig,
    #[serde(default)]
    pub traces: TracesConfig,
}

/// `[tls]`: files in PEM.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// `[limits]`: what is not said stays as `engine::Settings` has it. What a conversation's limits are, its definition
/// says.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitsConfig {
    /// How long the log is kept, and with it the keys by which repeats are recognised.
    pub retention: Option<Delay>,
    pub clean_up_every: Option<Delay>,
    /// What waits with no way out by time, and has not changed for so long, is stuck.
    pub stuck_after: Option<Delay>,
    /// How long a timer may be late before its instance is stuck.
    pub overdue_after: Option<Delay>,
    /// Deliveries under way at one time.
    pub deliveries: Option<usize>,
    /// How long a timer that a server has claimed is left to it.
    pub timer_lease: Option<Delay>,
    /// How long a delivery that a server has begun is left to it.
    pub delivery_lease: Option<Delay>,
    /// Of API keys and sessions; without a limit if absent.
    pub requests_per_second_per_tenant: Option<f64>,
    pub requests_per_second_per_address: Option<f64>,
    /// Open at one time.
    pub connections_per_address: Option<usize>,
}

impl LimitsConfig {
    /// # Errors
    /// A fragment that names the limit and what it may be.
    pub fn rates(self, trusted_proxies: Vec<Block>) -> Result<Rates, String> {
        let (tenant, address) = (self.requests_per_second_per_tenant, self.requests_per_second_per_address);
        for (name, rate) in [("per_tenant", tenant), ("per_address", address)] {
            if let Some(rate) = rate.filter(|rate| !rate.is_finite() || *rate <= 0.0) {
                return Err(format!("`requests_per_second_{name}` is {rate}; it may be more than 0"));
            }
        }
        Ok(Rates::new(tenant, address, trusted_proxies))
    }

    /// # Errors
    /// A fragment that names the limit and what it may be.
    pub fn connections(self) -> Result<Limits, String> {
        let usual = Limits::default();
        let connections_per_address = self.connections_per_address.unwrap_or(usual.connections_per_address);
        if connections_per_address == 0 {
            return Err("`connections_per_address` is 0; it may be 1 and more".to_owned());
        }
        Ok(Limits { connections_per_address, ..usual })
    }

    /// # Errors
    /// A fragment that names the limit and what it may be.
    pub fn settings(self) -> Result<Settings, String> {
        let usual = Settings::default();
        let long_enough = |name: &str, delay: Option<Delay>, otherwise: Delay| match delay {
            Some(delay) if delay < Delay::from_secs(1) => {
                Err(format!("`{name}` is {delay}; it may be a second and more"))
            }
            delay => Ok(delay.unwrap_or(otherwise)),
        };
        let deliveries_max = self.deliveries.unwrap_or(usual.deliveries_max);
        if !(1..=DELIVERIES_MAX).contains(&deliveries_max) {
            return Err(format!("`deliveries` is {deliveries_max}; it may be 1 to {DELIVERIES_MAX}"));
        }
        Ok(Settings {
            retention: long_enough("retention", self.retention, usual.retention)?,
            clean_up_every: long_enough("clean_up_every", self.clean_up_every, usual.clean_up_every)?,
            silent_after: long_enough("stuck_after", self.stuck_after, usual.silent_after)?,
            overdue_after: long_enough("overdue_after", self.overdue_after, usual.overdue_after)?,
            deliveries_max,
            claim_lease: long_enough("timer_lease", self.timer_lease, usual.claim_lease)?,
            delivery_lease: long_enough("delivery_lease", self.delivery_lease, usual.delivery_lease)?,
            ..usual
        })
    }
}

/// How the log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogChoice {
    /// One JSON object a line
    Json,
    /// For people
    Text,
    /// Text on a terminal, else JSON
    Auto,
}

impl ConfigFile {
    /// Reads the file. One that is named must be there; the default one need not.
    ///
    /// # Errors
    /// A fragment with the file, the line and what is wrong with it, and never with what the line says.
    pub fn read(named: Option<&Path>) -> Result<Self, String> {
        let path = named.unwrap_or(Path::new(DEFAULT_PATH));
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&text).map_err(|problem| format!("{}, {problem}", path.display())),
            Err(error) if named.is_none() && error.kind() == ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(format!("failed to read {}: {error}", path.display())),
        }
    }

    /// # Errors
    /// A fragment such as "line 3: unknown field `lisen`", and besides every secret that is not where it is said to be.
    pub fn parse(text: &str) -> Result<Self, String> {
        toml::from_str(text).map_err(|error| {
            // The line itself may hold a key: only its number is told.
            let start = error.span().map_or(0, |span| span.start);
            let mut problems = missing_secrets(text);
            problems.push((start, without_value(error.message())));
            problems.sort();
            let line = |start: usize| text[..start].matches('\n').count() + 1;
            let told = problems.iter().map(|(start, problem)| format!("line {}: {problem}", line(*start)));
            let mut told: Vec<String> = told.collect();
            told.dedup();
            told.join("; ")
        })
    }
}

/// What is wrong with the secrets that entries such as `[[channels]]` point to: whoever sets variables one by one would
/// otherwise start the server as often. Each with its place in the text.
fn missing_secrets(text: &str) -> Vec<(usize, String)> {
    let Ok(file) = DeTable::parse(text) else { return Vec::new() };
    let lists = file.get_ref().values().filter_map(|value| value.get_ref().as_array());
    let settings = lists.flat_map(|list| list.iter()).filter_map(|entry| entry.get_ref().as_table());
    let mut problems = Vec::new();
    for setting in settings.flat_map(|entry| entry.values()) {
        let Some(written) = setting.get_ref().as_str() else { continue };
        if (written.starts_with("env:") || written.starts_with("file:"))
            && let Err(problem) = Secret::parse(written)
        {
            problems.push((setting.span().start, problem));
        }
    }
    problems
}

/// What serde says of a value of the wrong type repeats the value, and that may be a secret.
fn without_value(message: &str) -> String {
    let told = ["invalid type: ", "invalid value: "].iter().find_map(|kind| {
        let (found, expected) = message.strip_prefix(kind)?.split_once(", expected")?;
        let found = found.split([' ', '`', '"']).next()?;
        Some(format!("{kind}{found}, expected{expected}"))
    });
    told.unwrap_or_else(|| message.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_setting_is_refused_with_its_line_and_without_what_it_says() {
        for (text, problem) in [
            ("listen = \"a:1\"\nlisen = \"b:2\"\n", "line 2: unknown field `lisen`"),
            ("\napi_keys = 5\n", "line 2: invalid type: integer, expected a string"),
            (
                "[[channels]]\nkind = \"slack\"\nbot_token = 8675309\n",
                "line 3: invalid type: integer, expected",
            ),
            ("api_keys = \"acme=hidden-secret\nlog = \"json\"", "line 1: "),
        ] {
            let told = ConfigFile::parse(text).unwrap_err();
            assert!(told.starts_with(problem), "{told}");
            assert!(!told.contains("hidden-secret") && !told.contains("8675309"), "{told}");
        }
    }

    #[test]
    fn every_secret_that_is_missing_is_told_at_once() {
        let channel = "[[channels]]\nkind = \"meta\"\napp_secret = \"env:NO_SUCH_A\"\nverify_token = \"v\"\n\
                       access_token = \"env:NO_SUCH_B\"\n";
        let recogniser =
            "[[recognisers]]\nkind = \"rasa\"\nurl = \"https://a.example\"\napi_key = \"file:/dev/null\"\n";
        let told = ConfigFile::parse(&format!("{channel}{recogniser}")).unwrap_err();
        assert_eq!(
            told,
            "line 3: the environment has no variable `NO_SUCH_A`; \
             line 5: the environment has no variable `NO_SUCH_B`; line 9: the file /dev/null is empty"
        );
        let told = ConfigFile::parse(&format!("lisen = \"a\"\n{recogniser}")).unwrap_err();
        assert!(told.starts_with("line 1: unknown field `lisen`"), "{told}");
        assert!(told.ends_with("; line 5: the file /dev/null is empty"), "{told}");
    }

    #[test]
    fn a_file_that_is_named_must_be_there() {
        let nowhere = Path::new("/nowhere/statewright.toml");
        assert!(ConfigFile::read(Some(nowhere)).unwrap_err().contains("/nowhere/statewright.toml"));
    }
}
