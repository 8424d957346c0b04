//! A `Secret`: a key or token of somebody else's, which settings may hold or point to and nothing ever prints.
//!
//! It is read where it is written, at the start: a variable or a file that is missing keeps the server from starting.

use std::fmt;

use serde::{Deserialize, Deserializer, de};

/// Written as itself, as `env:NAME` (a variable of the environment) or as `file:/path` (what the file holds, without
/// the line break at its end).
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// # Errors
    /// A fragment that says where nothing was found, and never what was.
    pub fn parse(written: &str) -> Result<Self, String> {
        let (found, place) = match written.split_once(':') {
            Some(("env", name)) => {
                let value = std::env::var(name);
                let value = value.map_err(|_| format!("the environment has no variable `{name}`"))?;
                (value, format!("the variable `{name}`"))
            }
            Some(("file", path)) => {
                let text = std::fs::read_to_string(path);
                let text = text.map_err(|error| format!("failed to read the secret in {path}: {error}"))?;
                (text.trim_end_matches(['\r', '\n']).to_owned(), format!("the file {path}"))
            }
            _ => (written.to_owned(), "the secret".to_owned()),
        };
        // It would be a secret that everybody knows.
        if found.trim().is_empty() { Err(format!("{place} is empty")) } else { Ok(Self(found)) }
    }

    /// For the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
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
    fn a_secret_is_found_where_it_says_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("key");
        std::fs::write(&file, "from a file\n").unwrap();
        let expected = [
            ("as it is: yes".to_owned(), "as it is: yes".to_owned()),
            (format!("file:{}", file.display()), "from a file".to_owned()),
            // Cargo sets it for every test.
            ("env:CARGO_PKG_NAME".to_owned(), "app".to_owned()),
        ];
        for (written, found) in expected {
            assert_eq!(Secret::parse(&written).unwrap().expose(), found, "{written}");
        }
    }

    #[test]
    fn what_is_missing_or_empty_is_named_by_its_place() {
        for (written, problem) in [
            ("env:STATEWRIGHT_NO_SUCH", "the environment has no variable `STATEWRIGHT_NO_SUCH`"),
            ("file:/nowhere/key", "failed to read the secret in /nowhere/key"),
            ("", "the secret is empty"),
            (" ", "the secret is empty"),
            ("file:/dev/null", "the file /dev/null is empty"),
        ] {
            let told = Secret::parse(written).unwrap_err();
            assert!(told.starts_with(problem), "{told}");
        }
    }

    #[test]
    fn nothing_prints_it() {
        let secret = Secret::parse("hunter2").unwrap();
        assert_eq!(format!("{secret:?} {:?}", Some(&secret)), "Secret(…) Some(Secret(…))");
    }
}
