//! Databases for tests: each test has its own, which goes with it.

use std::cell::RefCell;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicU32, Ordering};

use store::postgres::Options;
use store::{PostgresStore, Store};
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

/// A database that is dropped when this is.
pub struct Database {
    server: String,
    pub name: String,
}

static COUNT: AtomicU32 = AtomicU32::new(0);

fn server() -> String {
    std::env::var("STATEWRIGHT_TEST_POSTGRES").unwrap_or_else(|_| {
        panic!("STATEWRIGHT_TEST_POSTGRES is not set; run `cargo xtask servers cargo nextest run -p store`")
    })
}

impl Database {
    pub fn new() -> Self {
        let server = server();
        let template = template(&server);
        Self::copied(server, &template)
    }

    /// One that no store has been opened on.
    pub fn empty() -> Self {
        Self::copied(server(), "template1")
    }

    fn copied(server: String, from: &str) -> Self {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("statewright_test_{}_{number}", std::process::id());
        let database = Self { server, name };
        execute(&database.server, &format!("CREATE DATABASE {} TEMPLATE {from}", database.name));
        database
    }

    /// What is there when everybody who is connected is gone at this moment.
    pub fn killed(&self) -> Self {
        self.terminate();
        Self::copied(self.server.clone(), &self.name)
    }

    /// Ends all connections, whatever is under way on them.
    pub fn terminate(&self) {
        let others = format!("FROM pg_stat_activity WHERE datname = '{}'", self.name);
        execute(&self.server, &format!("SELECT pg_terminate_backend(pid, 5000) {others}"));
    }

    /// Of whoever a test lets log in.
    pub const PASSWORD: &'static str = "only-for-tests";

    /// The URL of the same database for somebody else, whose password is `PASSWORD`.
    pub fn url_of(&self, user: &str) -> String {
        let url = self.url();
        let (scheme, rest) = url.split_once("://").expect("a URL has a scheme");
        let (_, host) = rest.split_once('@').expect("the test server's URL names a user");
        format!("{scheme}://{user}:{}@{host}", Self::PASSWORD)
    }

    pub fn url(&self) -> String {
        let (base, query) = self.server.split_once('?').unwrap_or((&self.server, ""));
        let (server, _) = base.rsplit_once('/').expect("a URL has a path");
        format!("{server}/{}?{query}", self.name)
    }

    pub fn open(&self) -> PostgresStore {
        PostgresStore::open(&self.url(), Options::default()).expect("the database can be opened")
    }

    /// Runs statements as whoever logs in.
    pub fn execute(&self, sql: &str) {
        execute(&self.url(), sql);
    }

    /// The message of the error that a statement fails with.
    pub fn fails(&self, sql: &str) -> String {
        with_client(&self.url(), async |client| {
            let error = client.batch_execute(sql).await.expect_err(sql);
            error.as_db_error().map_or_else(|| error.to_string(), |error| error.message().to_owned())
        })
    }

    /// What the last statement that gives rows gives, as text: rows by lines, columns by commas.
    pub fn ask(&self, sql: &str) -> String {
        with_client(&self.url(), async |client| {
            let messages = client.simple_query(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
            let rows = messages.iter().filter_map(|message| match message {
                SimpleQueryMessage::Row(row) => Some(row),
                _ => None,
            });
            let lines = rows.map(|row| {
                let columns = (0..row.len()).map(|column| row.get(column).unwrap_or("null"));
                columns.collect::<Vec<_>>().join(",")
            });
            lines.collect::<Vec<_>>().join("\n")
        })
    }
}

/// The name of a database that a store has been opened on once: a copy of it is there faster than another. It stays,
/// for the next test.
fn template(server: &str) -> String {
    let mut hasher = DefaultHasher::new();
    include_str!("../../src/postgres/schema_1.sql").hash(&mut hasher);
    include_str!("../../src/postgres/schema.rs").hash(&mut hasher);
    let name = format!("statewright_template_{:x}", hasher.finish());
    with_client(server, async |client| {
        client.batch_execute("SELECT pg_advisory_lock(1)").await.expect("the server answers");
        let known = format!("SELECT 1 FROM pg_database WHERE datname = '{name}'");
        if client.query(&known, &[]).await.expect("the server answers").is_empty() {
            let draft = format!("{name}_draft");
            client
                .batch_execute(&format!("DROP DATABASE IF EXISTS {draft} WITH (FORCE)"))
                .await
                .expect("it goes");
            client.batch_execute(&format!("CREATE DATABASE {draft}")).await.expect("it can be created");
            let draft = Database { server: server.to_owned(), name: draft };
            std::thread::scope(|scope| {
                scope.spawn(|| drop(draft.open())).join().expect("the template can be opened");
            });
            let rename = format!("ALTER DATABASE {} RENAME TO {name}", draft.name);
            client.batch_execute(&rename).await.expect("nobody is connected any more");
            // It stays, and has another name now.
            std::mem::forget(draft);
        }
    });
    name
}

impl Drop for Database {
    fn drop(&mut self) {
        execute(&self.server, &format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name));
    }
}

fn execute(url: &str, sql: &str) {
    with_client(url, async |client| {
        client.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    });
}

pub fn with_client<T>(url: &str, ask: impl AsyncFnOnce(&Client) -> T) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("the server is there");
        let driving = tokio::spawn(connection);
        let answer = ask(&client).await;
        drop(client);
        let _ = driving.await;
        answer
    })
}

/// A new, empty store at each call. Their databases go with the test.
pub fn new_databases() -> impl Fn() -> Box<dyn Store> {
    let databases = RefCell::new(Vec::new());
    move || {
        let database = Database::new();
        let store = database.open();
        databases.borrow_mut().push(database);
        Box::new(store)
    }
}
