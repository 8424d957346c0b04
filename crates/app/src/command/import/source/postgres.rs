//! Records in a table of a PostgreSQL database: its rows as they are at one moment, each as JSON.

use std::collections::VecDeque;
use std::error::Error;

use serde_json::Value;
use tokio::runtime::Runtime;
use tokio_postgres::{Client, NoTls};

use super::{Found, Reader, shown};
use crate::command::Failure;

const FETCH: &str = "FETCH 500 FROM records";

/// The connection is over when it is dropped, and what it reads changes nothing.
pub(super) struct Rows {
    runtime: Runtime,
    client: Client,
    ready: VecDeque<String>,
    number: u64,
}

impl Rows {
    /// With how many rows there are.
    pub fn open(url: &str, table: &str) -> Result<(Self, u64), Failure> {
        let failed = |error: tokio_postgres::Error| {
            let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
            Failure(format!("failed to read `{table}` of {}: {error}{cause}", shown(url)))
        };
        let table = quoted(table);
        // One worker drives the connection while the rows are used.
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let (client, total) = runtime
            .block_on(async {
                let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
                tokio::spawn(connection);
                client.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY").await?;
                let count = client.query_one(&format!("SELECT count(*) FROM {table}"), &[]).await?;
                let declare =
                    format!("DECLARE records CURSOR FOR SELECT row_to_json(r)::text FROM {table} AS r");
                client.batch_execute(&declare).await?;
                Ok((client, count.get::<_, i64>(0).unsigned_abs()))
            })
            .map_err(failed)?;
        Ok((Self { runtime, client, ready: VecDeque::new(), number: 0 }, total))
    }
}

/// A name as SQL has it, with its schema if it says one.
fn quoted(table: &str) -> String {
    let parts: Vec<String> =
        table.split('.').map(|part| format!("\"{}\"", part.replace('"', "\"\""))).collect();
    parts.join(".")
}

impl Reader for Rows {
    fn next(&mut self) -> Result<Option<Found>, Failure> {
        if self.ready.is_empty() {
            let rows = self.runtime.block_on(self.client.query(FETCH, &[]));
            let rows = rows.map_err(|error| Failure(format!("the database broke off: {error}")))?;
            self.ready.extend(rows.iter().map(|row| row.get::<_, String>(0)));
        }
        let Some(row) = self.ready.pop_front() else { return Ok(None) };
        self.number += 1;
        let record =
            serde_json::from_str::<Value>(&row).map_err(|error| format!("the row is no JSON: {error}"));
        let (number, bytes) = (self.number, row.len());
        let raw = record.is_err().then_some(row);
        Ok(Some(Found { number, place: format!("row {number}"), record, raw, bytes, weight: 1 }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_named_and_nothing_else_is_run() {
        assert_eq!(quoted("old.progress_update_sessions"), "\"old\".\"progress_update_sessions\"");
        assert_eq!(quoted("t\"; DROP TABLE t; --"), "\"t\"\"; DROP TABLE t; --\"");
    }
}
