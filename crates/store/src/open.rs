//! Opening a store by its URL: which backend it names, and nothing about any of them.

use std::path::Path;
use std::sync::Arc;

use crate::{MemoryStore, PostgresStore, Records, RedisStore, SqliteOptions, SqliteStore, Store, postgres};

/// The URLs that `open` knows, for messages and helps.
pub const URLS: &str = "sqlite:PATH, postgres://…, redis://…, redis+cluster://… or memory:";

/// # Errors
/// A sentence that says which store cannot be opened, and why.
pub fn open(url: &str, records: Records) -> Result<Arc<dyn Store>, String> {
    match url.split_once(':') {
        Some(("sqlite", path)) if !path.is_empty() => {
            let (path, network_allowed) = sqlite(path)?;
            let options = SqliteOptions { records, network_allowed, ..SqliteOptions::default() };
            let store = SqliteStore::open_as(Path::new(path), options);
            Ok(Arc::new(store.map_err(|error| format!("failed to open the store {path}: {error}"))?))
        }
        Some(("postgres" | "postgresql", _)) => {
            let options = postgres::Options { records, ..postgres::Options::default() };
            let store = PostgresStore::open(url, options);
            Ok(Arc::new(store.map_err(|error| format!("failed to open the store in PostgreSQL: {error}"))?))
        }
        Some((scheme, _)) if RedisStore::knows(scheme) => {
            let store = RedisStore::open_with(url, records);
            Ok(Arc::new(store.map_err(|error| format!("failed to open the store on Redis: {error}"))?))
        }
        Some(("memory", "")) => Ok(Arc::new(MemoryStore::new())),
        _ => Err(format!("`{url}` is no store; write {URLS}")),
    }
}

/// `PATH` or `PATH?network=allow`. Other question marks are part of the name.
fn sqlite(url: &str) -> Result<(&str, bool), String> {
    match url.rsplit_once("?network=") {
        None => Ok((url, false)),
        Some((path, "allow")) => Ok((path, true)),
        Some((_, other)) => Err(format!("`network={other}` is not known; only `network=allow` is")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_may_be_on_the_network_if_its_url_says_so() {
        let misspelt = Err("`network=yes` is not known; only `network=allow` is".to_owned());
        for (url, expected) in [
            ("a.db", Ok(("a.db", false))),
            ("/srv/a.db?network=allow", Ok(("/srv/a.db", true))),
            ("what?.db", Ok(("what?.db", false))),
            ("a.db?network=yes", misspelt),
        ] {
            assert_eq!(sqlite(url), expected, "{url}");
        }
    }
}
