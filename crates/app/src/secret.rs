//! A secret of the settings: written out, or named as an environment variable or a file that holds it.
//!
//! Invariant: what it says is in no log, no error and no `Debug`.

use std::fmt;

use serde::{Deserialize, Deserializer, de};

#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// What it says. Not for anything that people read.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// `env:NAME` is what the environment variable holds, `file:PATH` what the file does, without the line break at its
    /// end. Anything else is the secret itself.
    ///
    /// # Errors
    /// A fragment that names the variable or the file that is not there or empty.
    pub fn parse(written: &str) -> Result<Self, String> {
        let found = if let Some(name) = written.strip_prefix("env:") {
            std::env::var(name).map_err(|_| format!("the environment variable {name} is not set"))?
        } else if let Some(path) = written.strip_prefix("file:") {
            let text = std::fs::read_to_string(path);
            text.map_err(|error| format!("failed to read the secret in {path}: {error}"))?
        } else {
            written.to_owned()
        };
        let found = found.trim_end_matches(['\n', '\r']);
        match found {
            "" if written.is_empty() => Err("a secret is empty".to_owned()),
            "" => Err(format!("the secret `{written}` is empty")),
            found => Ok(Self(found.to_owned())),
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_written_out_or_named_and_never_shown() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "from a file\n").unwrap();
        let path = file.path().display();
        let told = |written: &str| Secret::parse(written).map(|secret| secret.0);
        assert_eq!(told("plain"), Ok("plain".to_owned()));
        assert_eq!(told(&format!("file:{path}")), Ok("from a file".to_owned()));
        assert_eq!(told("env:PATH"), Ok(std::env::var("PATH").unwrap()));
        for (written, problem) in [
            ("env:STATEWRIGHT_NO_SUCH_VARIABLE", "STATEWRIGHT_NO_SUCH_VARIABLE is not set"),
            ("file:/nowhere/at/all", "/nowhere/at/all"),
            ("", "a secret is empty"),
        ] {
            assert!(told(written).unwrap_err().contains(problem), "{written}");
        }
        assert_eq!(format!("{:?}", Secret::parse("hidden").unwrap()), "Secret");
    }
}
