//! The floor: what the same SQLite, on the same disk, does with bare inserts of the same rows in the same groups.
//!
//! No decisions, no checks, no checksums, no JSON: the rows come out of a database that the engine has written, and
//! go into an empty one with the same tables and indices, the same journal and the same `synchronous`.

use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};

use crate::command::Failure;

/// The rows of two tables, as they were found.
pub(super) struct Rows {
    schema: Vec<String>,
    instances: Table,
    log: Table,
}

struct Table {
    columns: Vec<String>,
    rows: Vec<Vec<Value>>,
}

/// Enough rows that the floor does not fit into one page of cache, few enough to hold in memory.
const ROWS_MAX: usize = 60_000;

impl Rows {
    pub fn read(path: &Path) -> Result<Self, Failure> {
        let connection = Connection::open(path)?;
        let mut statement = connection.prepare(
            "SELECT sql FROM sqlite_master WHERE type IN ('table', 'index') AND sql IS NOT NULL AND name NOT LIKE 'sqlite_%'",
        )?;
        let schema = statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
        Ok(Self {
            schema,
            instances: Table::read(&connection, "instances")?,
            log: Table::read(&connection, "log")?,
        })
    }
}

impl Table {
    fn read(connection: &Connection, name: &str) -> Result<Self, Failure> {
        let mut statement =
            connection.prepare(&format!("SELECT * FROM {name} ORDER BY rowid LIMIT {ROWS_MAX}"))?;
        let columns: Vec<String> = statement.column_names().map(str::to_owned).collect();
        let width = columns.len();
        let row = |row: &rusqlite::Row<'_>| (0..width).map(|n| row.get(n)).collect::<Result<Vec<Value>, _>>();
        let rows = statement.query_map([], row)?.collect::<Result<_, _>>()?;
        Ok(Self { columns, rows })
    }

    fn insert(&self, verb: &str, name: &str) -> String {
        let marks = vec!["?"; self.columns.len()].join(", ");
        format!("{verb} INTO {name} ({}) VALUES ({marks})", self.columns.join(", "))
    }
}

/// Commits a second: for each log row its insert and an upsert of its instance's row, `group` of them a transaction.
pub(super) fn measure(rows: &Rows, path: &Path, group: usize, time: Duration) -> Result<f64, Failure> {
    let mut best: f64 = 0.0;
    let started = Instant::now();
    let mut round = 0;
    while started.elapsed() < time {
        round += 1;
        best = best.max(once(rows, &path.with_extension(format!("{round}.db")), group, time)?);
    }
    Ok(best)
}

fn once(rows: &Rows, path: &Path, group: usize, time: Duration) -> Result<f64, Failure> {
    let mut connection = Connection::open(path)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    for sql in &rows.schema {
        connection.execute_batch(sql)?;
    }
    let instance = rows.instances.insert("INSERT OR REPLACE", "instances");
    let log = rows.log.insert("INSERT", "log");
    let per_instance = (rows.log.rows.len() / rows.instances.rows.len().max(1)).max(1);
    let started = Instant::now();
    let mut done = 0;
    for (number, entries) in rows.log.rows.chunks(group).enumerate() {
        if started.elapsed() >= time {
            break;
        }
        let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        for (at, entry) in entries.iter().enumerate() {
            transaction.prepare_cached(&log)?.execute(params_from_iter(entry))?;
            let owner = (number * group + at) / per_instance % rows.instances.rows.len();
            transaction.prepare_cached(&instance)?.execute(params_from_iter(&rows.instances.rows[owner]))?;
        }
        transaction.commit()?;
        done += entries.len();
    }
    Ok(done as f64 / started.elapsed().as_secs_f64())
}
