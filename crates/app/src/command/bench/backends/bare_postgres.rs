//! The floor on PostgreSQL: one statement for a group, with the bytes that ours writes and nothing else.
//!
//! An upsert of the instance guarded by its revision, a log row and a receipt for each commit, as arrays; no checks, no
//! checksums, no other tables.

use std::future::Future;
use std::time::Duration;

use kernel::commit::Commit;
use tokio::runtime::Runtime;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, NoTls, Statement};

use super::{Bytes, Sink};
use crate::command::Failure;
use crate::command::bench::decided::{revision, wake_at};

const TABLES: &str = "
    CREATE TABLE bare_instances (
        tenant text COLLATE \"C\", id text COLLATE \"C\", subject text, revision bigint, state text,
        updated_at bigint, wake_at bigint, body text, PRIMARY KEY (tenant, id)
    ) WITH (fillfactor = 75);
    CREATE TABLE bare_log (
        seq bigserial PRIMARY KEY, tenant text, instance text, revision bigint, at bigint, body text
    );
    CREATE TABLE bare_receipts (receipt bytea PRIMARY KEY, tenant text, instance text);";

const SAVE: &str = "
    WITH saved AS (
        INSERT INTO bare_instances AS i (tenant, id, subject, revision, state, updated_at, wake_at, body)
        SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::text[], $6::bigint[],
            $7::bigint[], $8::text[])
        ON CONFLICT (tenant, id) DO UPDATE SET revision = excluded.revision, state = excluded.state,
            updated_at = excluded.updated_at, wake_at = excluded.wake_at, body = excluded.body
        WHERE i.revision = excluded.revision - 1
        RETURNING 1
    ), logged AS (
        INSERT INTO bare_log (tenant, instance, revision, at, body)
        SELECT * FROM unnest($1::text[], $2::text[], $4::bigint[], $6::bigint[], $9::text[]) RETURNING 1
    ), received AS (
        INSERT INTO bare_receipts SELECT * FROM unnest($10::bytea[], $1::text[], $2::text[]) RETURNING 1
    )
    SELECT (SELECT count(*) FROM saved), (SELECT count(*) FROM logged), (SELECT count(*) FROM received)";

/// A database that goes with the value.
pub(in crate::command::bench) struct Database {
    name: String,
    administrator: Connection,
    url: String,
}

/// One connection, driven by whoever asks.
struct Connection {
    runtime: Runtime,
    client: Client,
}

impl Connection {
    fn open(url: &str) -> Result<Self, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let client = runtime.block_on(async {
            let (client, connection) = tokio_postgres::connect(url, NoTls).await.map_err(failed)?;
            tokio::spawn(connection);
            Ok::<_, Failure>(client)
        })?;
        Ok(Self { runtime, client })
    }

    fn run<T>(&self, asked: impl Future<Output = Result<T, tokio_postgres::Error>>) -> Result<T, Failure> {
        self.runtime.block_on(asked).map_err(failed)
    }
}

fn failed(error: tokio_postgres::Error) -> Failure {
    let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
    Failure(format!("PostgreSQL: {error}{}", cause.unwrap_or_default()))
}

impl Database {
    pub fn create(url: &str) -> Result<Self, Failure> {
        let administrator = Connection::open(url)?;
        let name = format!("statewright_bench_{}", std::process::id());
        administrator.run(administrator.client.batch_execute(&format!("CREATE DATABASE {name}")))?;
        let (server, query) =
            url.split_once('?').map_or((url, None), |(server, query)| (server, Some(query)));
        let host = server.find("://").map_or(0, |at| at + 3);
        let end = server[host..].find('/').map_or(server.len(), |at| host + at);
        let query = query.map(|query| format!("?{query}")).unwrap_or_default();
        let url = format!("{}/{name}{query}", &server[..end]);
        Ok(Self { name, administrator, url })
    }

    pub fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // A database that is left behind says by its name what it was.
        let drop = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name);
        let dropped = self.administrator.client.batch_execute(&drop);
        let _ = self
            .administrator
            .runtime
            .block_on(async { tokio::time::timeout(Duration::from_secs(10), dropped).await });
    }
}

pub(super) struct Bare {
    connection: Connection,
    save: Statement,
}

impl Bare {
    pub fn open(url: &str) -> Result<Self, Failure> {
        let connection = Connection::open(url)?;
        connection.run(connection.client.batch_execute(TABLES))?;
        let save = connection.run(connection.client.prepare(SAVE))?;
        Ok(Self { connection, save })
    }
}

impl Sink for Bare {
    fn save(&mut self, group: &[Commit], bytes: &[Bytes]) -> Result<(), Failure> {
        let text = |of: fn(&Commit) -> &str| group.iter().map(of).collect::<Vec<&str>>();
        let number = |of: fn(&Commit) -> i64| group.iter().map(of).collect::<Vec<i64>>();
        let states: Vec<&str> = group.iter().map(|c| c.entry.to.as_str()).collect();
        let receipts: Vec<[u8; 16]> = group.iter().map(|c| c.entry.receipt.0.0.to_be_bytes()).collect();
        let receipts: Vec<&[u8]> = receipts.iter().map(|receipt| &receipt[..]).collect();
        let values: [&(dyn ToSql + Sync); 10] = [
            &text(|c| c.tenant.as_str()),
            &text(|c| c.instance.as_str()),
            &text(subject),
            &number(revision),
            &states,
            &number(|c| c.entry.at.as_millis()),
            &group.iter().map(wake_at).collect::<Vec<_>>(),
            &bytes.iter().map(|b| b.instance.as_str()).collect::<Vec<_>>(),
            &bytes.iter().map(|b| b.entry.as_str()).collect::<Vec<_>>(),
            &receipts,
        ];
        let row = self.connection.run(self.connection.client.query_one(&self.save, &values))?;
        let saved: i64 = row.get(0);
        match usize::try_from(saved) == Ok(group.len()) {
            true => Ok(()),
            false => Err(Failure(format!("the bare statement saved {saved} of {}", group.len()))),
        }
    }
}

fn subject(commit: &Commit) -> &str {
    let subject = commit.after.as_ref().and_then(|after| after.subject.as_ref());
    subject.map_or("", |subject| subject.as_str())
}
