//! Servers and stores for the tests of the Redis backend.

use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use store::contract::Durable;
use store::{RedisStore, Store};
use testbed::{Redis, Settings};

/// The variables that name the servers.
pub const ONE: &str = "STATEWRIGHT_TEST_REDIS";
pub const CLUSTER: &str = "STATEWRIGHT_TEST_REDIS_CLUSTER";

/// The URL of a server, without parameters.
pub fn server(variable: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| {
        panic!("{variable} names no server; run `cargo xtask servers cargo nextest run -p store`")
    })
}

/// A prefix under which nothing has been saved yet.
pub fn fresh_prefix() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now = now.expect("a clock after 1970").as_nanos();
    format!("test-{}-{now}-{count}", std::process::id())
}

/// The URL of an empty store of four buckets.
pub fn url_of(server: &str, prefix: &str) -> String {
    format!("{server}?prefix={prefix}&buckets=4")
}

pub fn open(url: &str) -> RedisStore {
    RedisStore::open(url).unwrap_or_else(|error| panic!("{url}: {error}"))
}

/// A new store at each call.
pub fn fresh_stores(variable: &'static str) -> impl Fn() -> Box<dyn Store> {
    move || Box::new(open(&url_of(&server(variable), &fresh_prefix())))
}

/// A store with somebody who looks at its keys and changes them.
pub struct Watched {
    pub store: RedisStore,
    pub url: String,
    prefix: String,
    connection: redis::Connection,
}

impl Watched {
    pub fn new(server: &str, parameters: &str) -> Self {
        let prefix = fresh_prefix();
        let url = format!("{}{parameters}", url_of(server, &prefix));
        let client = redis::Client::open(server).expect("a server's URL");
        let connection = client.get_connection().expect("the server answers");
        Self { store: open(&url), url, prefix, connection }
    }

    pub fn shared(parameters: &str) -> Self {
        Self::new(&server(ONE), parameters)
    }

    /// The one key of the store that ends so.
    pub fn key(&mut self, end: &str) -> String {
        let pattern = format!("{}:*{end}", self.prefix);
        let mut keys: Vec<String> = self.ask(&["KEYS", &pattern]);
        assert_eq!(keys.len(), 1, "{pattern}: {keys:?}");
        keys.remove(0)
    }

    pub fn ask<T: redis::FromRedisValue>(&mut self, words: &[&str]) -> T {
        let mut command = redis::cmd(words[0]);
        for word in &words[1..] {
            command.arg(word);
        }
        command.query(&mut self.connection).unwrap_or_else(|error| panic!("{words:?}: {error}"))
    }
}

/// One server, and copies of what is on its disk.
pub struct Private {
    server: Redis,
    copies: Mutex<Vec<Redis>>,
}

impl Private {
    pub fn new() -> Self {
        Self { server: started(&Settings::default()), copies: Mutex::default() }
    }
}

pub fn started(settings: &Settings) -> Redis {
    Redis::start(settings).expect("Redis starts")
}

impl Durable for Private {
    fn open(&self) -> Box<dyn Store> {
        Box::new(open(&url_of(&self.server.url(), "durable")))
    }

    /// What a killed server leaves is what it has written to its log.
    fn open_as_if_killed(&self) -> Box<dyn Store> {
        let copy = started(&Settings::default());
        copy.kill().expect("it can be killed");
        let log = |of: &Redis| of.directory().join("appendonlydir");
        fs::remove_dir_all(log(&copy)).expect("it has a log");
        copy_all(&log(&self.server), &log(&copy));
        copy.start_again().expect("it starts on the copy");
        let store = open(&url_of(&copy.url(), "durable"));
        self.copies.lock().expect("nobody panicked").push(copy);
        Box::new(store)
    }
}

fn copy_all(from: &Path, to: &Path) {
    fs::create_dir(to).expect("the directory can be made");
    for file in fs::read_dir(from).expect("the log can be listed") {
        let file = file.expect("the log can be listed");
        fs::copy(file.path(), to.join(file.file_name())).expect("the log can be copied");
    }
}
