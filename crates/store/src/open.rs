//! Opening a store by its URL: which backend it names, and nothing about any of them.

use std::path::Path;
use std::sync::Arc;

use crate::{MemoryStore, Records, RedisStore, SqliteStore, Store};

/// The URLs that `open` knows, for messages and helps.
pub const URLS: &str = "sqlite:PATH, redis://HOST:PORT, redis+cluster://HOST:PORT,HOST:PORT or memory:";

/// # Errors
/// A sentence that says which store cannot be opened, and why.
pub fn open(url: &str, records: Records) -> Result<Arc<dyn Store>, String> {
    match url.split_once(':') {
        Some(("sqlite", path)) if !path.is_empty() => {
            let store = SqliteStore::open_with(Path::new(path), records);
            Ok(Arc::new(store.map_err(|error| format!("failed to open the store {path}: {error}"))?))
        }
        Some((scheme, _)) if RedisStore::knows(scheme) => {
            let store = RedisStore::open_with(url, records);
            Ok(Arc::new(store.map_err(|error| format!("failed to open the store on Redis: {error}"))?))
        }
        Some(("memory", "")) => Ok(Arc::new(MemoryStore::new())),
        _ => Err(format!("`{url}` is no store; write {URLS}")),
    }
}
