//! Servers and stores for the tests of the Redis backend.

use std::sync::atomic::{AtomicU32, Ordering};

use store::{RedisStore, Store};

/// The variables that name the servers.
pub const ONE: &str = "STATEWRIGHT_TEST_REDIS";
pub const CLUSTER: &str = "STATEWRIGHT_TEST_REDIS_CLUSTER";

/// The URL of a server, without parameters.
pub fn server(variable: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| {
        panic!("{variable} names no server; run `cargo xtask servers cargo nextest run -p store`")
    })
}

/// A URL under which nothing has been saved yet.
pub fn fresh_url(variable: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .expect("a clock after 1970")
        .as_nanos();
    format!("{}?prefix=test-{}-{now}-{count}&buckets=4", server(variable), std::process::id())
}

pub fn open(url: &str) -> RedisStore {
    RedisStore::open(url).unwrap_or_else(|error| panic!("{url}: {error}"))
}

/// A new store at each call.
pub fn fresh_stores(variable: &'static str) -> impl Fn() -> Box<dyn Store> {
    move || Box::new(open(&fresh_url(variable)))
}
