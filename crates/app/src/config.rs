//! statewright.toml: what may be set in it, and how it is read.
//!
//! Owns the shape of the file alone. Which of a flag, the environment and the file wins is settled in
//! `command::serve`.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use serde::Deserialize;

use crate::connections::{CallTarget, Channel, Webhook};
use crate::recognisers::RecogniserConfig;

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
    /// A fragment such as "line 3: unknown field `lisen`".
    pub fn parse(text: &str) -> Result<Self, String> {
        toml::from_str(text).map_err(|error| {
            // The line itself may hold a key: only its number is told.
            let line = error.span().map_or(1, |span| text[..span.start].matches('\n').count() + 1);
            format!("line {line}: {}", error.message())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_setting_is_refused_with_its_line_and_without_what_it_says() {
        for (text, problem) in [
            ("listen = \"a:1\"\nlisen = \"b:2\"\n", "line 2: unknown field `lisen`"),
            ("\napi_keys = 5\n", "line 2: invalid type"),
            ("api_keys = \"acme=hidden-secret\nlog = \"json\"", "line 1: "),
        ] {
            let told = ConfigFile::parse(text).unwrap_err();
            assert!(told.starts_with(problem), "{told}");
            assert!(!told.contains("hidden-secret"), "{told}");
        }
    }

    #[test]
    fn a_file_that_is_named_must_be_there() {
        let nowhere = Path::new("/nowhere/statewright.toml");
        assert!(ConfigFile::read(Some(nowhere)).unwrap_err().contains("/nowhere/statewright.toml"));
    }
}
