//! The least that makes a commit durable: its bytes at the end of one table, with nothing to find them by.

use std::time::Duration;

use rusqlite::Connection;

use super::{Kind, Row};

pub(super) const KIND: Kind = Kind {
    name: "append-only",
    title: "the same bytes appended to one table",
    schema: "CREATE TABLE log (seq INTEGER PRIMARY KEY, body BLOB NOT NULL) STRICT",
    // As our own writer does: it moves pages itself only above a cap.
    settings: "PRAGMA wal_autocheckpoint = 8192",
    save,
    checkpoint: Some(Duration::from_millis(20)),
};

fn save(connection: &Connection, row: &Row, _: u64) -> rusqlite::Result<()> {
    connection.prepare_cached("INSERT INTO log (body) VALUES (?1)")?.execute([row.body.as_bytes()])?;
    Ok(())
}
