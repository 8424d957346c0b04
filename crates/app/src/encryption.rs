//! Encryption keys as the settings have them: `[encryption]`, one variable, or a file that `dev` makes.
//!
//! Owns where master keys come from. What is done with them is the store's vault's business.

use std::error::Error;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use store::{KeyedStore, MasterKey, Records, Secrets, Vault};
use tempfile::NamedTempFile;

use crate::secret::Secret;

/// One key, in base64 or hexadecimal digits: `[encryption]` with an only key of the id `env`.
const VARIABLE: &str = "STATEWRIGHT_ENCRYPTION_KEY";
const VARIABLES_ID: &str = "env";
/// What `dev` makes.
const DEV_FILE: &str = "statewright.key";
const DEV_ID: &str = "dev";

/// `[encryption]`: the first key wraps what is new, the others open what they have wrapped.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EncryptionConfig {
    #[serde(default)]
    keys: Vec<KeyConfig>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyConfig {
    id: String,
    key: Secret,
}

impl EncryptionConfig {
    /// The keys, that of the environment first.
    ///
    /// # Errors
    /// A fragment that names the key, and never repeats it.
    pub fn keys(&self) -> Result<Vec<MasterKey>, String> {
        let variable = std::env::var(VARIABLE).ok().filter(|value| !value.is_empty());
        let variable = variable.map(|value| Secret::parse(&value)).transpose()?;
        let variable = variable.iter().map(|key| (VARIABLES_ID, key));
        let all = variable.chain(self.keys.iter().map(|key| (key.id.as_str(), &key.key)));
        all.map(|(id, key)| MasterKey::parse(id, key.expose().trim())).collect()
    }
}

/// The key in the file beside an SQLite file, or in the working directory for a database, made if there is none; and
/// what to say of that. What is kept in memory needs none.
///
/// # Errors
/// A fragment with the file and what is wrong with it.
pub fn dev_key(store: &str) -> Result<Option<(MasterKey, Option<String>)>, String> {
    let Some(path) = dev_file(store) else { return Ok(None) };
    let made = make_key(&path)
        .map_err(|error| format!("failed to make the encryption key {}: {error}", path.display()))?;
    let made = made.then(|| {
        format!("encryption key: {} is new; secret fields cannot be read without it", path.display())
    });
    let key = Secret::parse(&format!("file:{}", path.display()))?;
    let key = MasterKey::parse(DEV_ID, key.expose()).map_err(|problem| {
        format!(
            "the file {}: {problem}; whatever it has encrypted needs the key that was there",
            path.display()
        )
    })?;
    Ok(Some((key, made)))
}

/// `dev_key`, if it was made before; none is made.
///
/// # Errors
/// As `dev_key`.
pub fn dev_key_that_is_there(store: &str) -> Result<Option<MasterKey>, String> {
    let is_there = dev_file(store).is_some_and(|path| path.exists());
    Ok(if is_there { dev_key(store)?.map(|(key, _)| key) } else { None })
}

/// Where `dev` has its key; nowhere for what needs none.
fn dev_file(store: &str) -> Option<PathBuf> {
    match store.split_once(':') {
        Some(("memory", _)) => None,
        Some(("sqlite", database)) => match Path::new(database).parent() {
            // Whoever opens the store says what is wrong with it.
            Some(folder) if !folder.as_os_str().is_empty() && !folder.is_dir() => None,
            _ => Some(Path::new(database).with_file_name(DEV_FILE)),
        },
        _ => Some(PathBuf::from(DEV_FILE)),
    }
}

/// Whether the file was not there. It comes to be with the key in it and for its owner only: another server that starts
/// at the same time finds it whole.
fn make_key(path: &Path) -> Result<bool, Box<dyn Error>> {
    if path.exists() {
        return Ok(false);
    }
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let mut file = NamedTempFile::new_in(directory.unwrap_or(Path::new(".")))?;
    file.write_all(MasterKey::generate()?.as_bytes())?;
    file.write_all(b"\n")?;
    file.as_file().sync_all()?;
    match file.persist_noclobber(path) {
        Ok(_) => Ok(true),
        Err(failed) if failed.error.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(failed) => Err(failed.error.into()),
    }
}

/// Opens the store of a URL with these keys.
///
/// # Errors
/// A sentence that names the store.
pub fn open_store(url: &str, keys: Vec<MasterKey>) -> Result<Arc<KeyedStore>, String> {
    let vault = Arc::new(Vault::new(keys)?);
    let secrets = Secrets::Sealed(Arc::clone(&vault));
    let store = store::open(url, Records { secrets, ..Records::default() })?;
    let keyed = KeyedStore::open(store, vault);
    keyed.map(Arc::new).map_err(|error| format!("failed to read the keys of the store {url}: {error}"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn dev_makes_a_key_once_that_only_its_owner_reads() {
        let directory = tempfile::tempdir().unwrap();
        let store = format!("sqlite:{}", directory.path().join("a.db").display());
        let (_, told) = dev_key(&store).unwrap().unwrap();
        assert!(told.unwrap().contains("statewright.key"));
        let path = directory.path().join(DEV_FILE);
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let made = std::fs::read_to_string(&path).unwrap();
        assert!(matches!(dev_key(&store), Ok(Some((_, None)))));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), made);
        assert!(matches!(dev_key("memory:"), Ok(None)));
        assert!(matches!(dev_key("sqlite:/nowhere/at/all/a.db"), Ok(None)));
    }

    #[test]
    fn a_key_file_that_is_damaged_is_not_replaced() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join(DEV_FILE), "hunter2\n").unwrap();
        let told = dev_key(&format!("sqlite:{}", directory.path().join("a.db").display())).unwrap_err();
        assert!(told.contains("statewright.key") && !told.contains("hunter2"), "{told}");
    }

    #[test]
    fn keys_that_are_none_are_named_and_not_repeated() {
        let config: EncryptionConfig =
            toml::from_str("keys = [{ id = \"2026-11\", key = \"hunter2\" }]").unwrap();
        let told = config.keys().unwrap_err();
        assert!(told.contains("`2026-11`") && !told.contains("hunter2"), "{told}");
        assert!(toml::from_str::<EncryptionConfig>("keys = [{ name = \"a\" }]").is_err());
    }
}
