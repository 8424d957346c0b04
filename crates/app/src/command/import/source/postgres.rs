//! Records in a table of a PostgreSQL database: its rows as they are at one moment, each as JSON.

use std::collections::VecDeque;
use std::error::Error;

use serde_json::Value;
use tokio::runtime::Runtime;
use tokio_postgres::{Client, NoTls};

use super::{Found, Mark, Reader, shown};
use crate::command::Failure;

const FETCH: &str = "FETCH 500 FROM records";

/// The connection is over when it is dropped, and what it reads changes nothing.
pub(super) struct Rows {
    runtime: Runtime,
    client: Client,
    ready: VecDeque<String>,
    number: u64,
    /// The highest value of the column that tells what is new.
    latest: Option<String>,
}

impl Rows {
    /// With how many rows there are. With a column, rows that have at least its value, once there is one; nothing is
    /// counted then.
    pub fn open(
        url: &str,
        table: &str,
        column: Option<(&str, Option<&str>)>,
    ) -> Result<(Self, u64), Failure> {
        let failed = |error: tokio_postgres::Error| {
            let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
            Failure(format!("failed to read `{table}` of {}: {error}{cause}", shown(url)))
        };
        let table = quoted(table);
        let after = column.and_then(|(column, after)| Some((column, after?)));
        let condition =
            after.map(|(column, after)| format!(" WHERE r.{} >= {}", quoted_name(column), literal(after)));
        let count = match column {
            None => format!("SELECT count(*), NULL::text FROM {table}"),
            Some((column, _)) => format!("SELECT 0::bigint, max({})::text FROM {table}", quoted_name(column)),
        };
        let declare = format!(
            "DECLARE records CURSOR FOR SELECT row_to_json(r)::text FROM {table} AS r{}",
            condition.unwrap_or_default()
        );
        // One worker drives the connection while the rows are used.
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let (client, counted) = runtime
            .block_on(async {
                let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
                tokio::spawn(connection);
                client.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY").await?;
                let counted = client.query_one(&count, &[]).await?;
                client.batch_execute(&declare).await?;
                Ok((client, counted))
            })
            .map_err(failed)?;
        let (total, latest) = (counted.get::<_, i64>(0).unsigned_abs(), counted.get::<_, Option<String>>(1));
        Ok((Self { runtime, client, ready: VecDeque::new(), number: 0, latest }, total))
    }
}

/// A name as SQL has it, with its schema if it says one.
fn quoted(table: &str) -> String {
    table.split('.').map(quoted_name).collect::<Vec<_>>().join(".")
}

fn quoted_name(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text as SQL has it, whatever the server makes of backslashes; it becomes what it is compared with.
fn literal(text: &str) -> String {
    format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
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
        let number = self.number;
        let raw = record.is_err().then_some(row);
        Ok(Some(Found { number, place: format!("row {number}"), record, raw, weight: 1 }))
    }

    fn mark(&self) -> Mark {
        Mark { column: self.latest.clone(), ..Mark::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_named_and_nothing_else_is_run() {
        assert_eq!(quoted("old.progress_update_sessions"), "\"old\".\"progress_update_sessions\"");
        assert_eq!(quoted("t\"; DROP TABLE t; --"), "\"t\"\"; DROP TABLE t; --\"");
        assert_eq!(literal("a'; DROP TABLE t; --\\"), "E'a''; DROP TABLE t; --\\\\'");
    }
}
