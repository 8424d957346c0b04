//! What a person would write first: a table for each thing, found by the keys that they come with, and SQLite as it is.

use rusqlite::{Connection, params};

use super::{Kind, Row};

pub(super) const KIND: Kind = Kind {
    name: "obvious",
    title: "the obvious tables with the same bytes",
    schema: "
        CREATE TABLE sessions (
            id TEXT PRIMARY KEY, tenant TEXT NOT NULL, user TEXT NOT NULL, revision INTEGER NOT NULL,
            updated_at INTEGER NOT NULL, body TEXT NOT NULL, UNIQUE (tenant, user)
        );
        CREATE TABLE history (
            id INTEGER PRIMARY KEY AUTOINCREMENT, session TEXT NOT NULL, at INTEGER NOT NULL, body TEXT NOT NULL
        );
        CREATE INDEX history_by_session ON history (session);
        CREATE TABLE receipts (key TEXT PRIMARY KEY, session TEXT NOT NULL, at INTEGER NOT NULL);
        CREATE TABLE timers (session TEXT PRIMARY KEY, due_at INTEGER NOT NULL);",
    settings: "",
    save,
    checkpoint: None,
};

const SAVE: &str = "
    INSERT INTO sessions (id, tenant, user, revision, updated_at, body) VALUES (?1, 'default', ?2, ?3, ?4, ?5)
    ON CONFLICT (id) DO UPDATE SET revision = excluded.revision, updated_at = excluded.updated_at, body = excluded.body
    WHERE sessions.revision = excluded.revision - 1";
const LOG: &str = "INSERT INTO history (session, at, body) VALUES (?1, ?2, ?3)";
const RECEIVE: &str = "INSERT INTO receipts (key, session, at) VALUES (?1, ?2, ?3)";
const SET: &str = "
    INSERT INTO timers (session, due_at) VALUES (?1, ?2) ON CONFLICT (session) DO UPDATE SET due_at = excluded.due_at";
const CLEAR: &str = "DELETE FROM timers WHERE session = ?1";

fn save(connection: &Connection, row: &Row, pass: u64) -> rusqlite::Result<()> {
    let person = pass << 32 | row.user;
    let id = uuid(person, 0);
    let run = |sql, values: &[&dyn rusqlite::ToSql]| connection.prepare_cached(sql)?.execute(values);
    let user = format!("user-{person}");
    if run(SAVE, params![id, user, row.revision, row.at, row.session()])? != 1 {
        // Somebody else's revision, which nobody here can have made.
        return Err(rusqlite::Error::StatementChangedRows(0));
    }
    run(LOG, params![id, row.at, row.entry()])?;
    // As providers name messages: at random.
    run(RECEIVE, params![uuid(person, row.revision.unsigned_abs()), id, row.at])?;
    match row.wake_at {
        Some(due_at) => run(SET, params![id, due_at])?,
        None => run(CLEAR, params![id])?,
    };
    Ok(())
}

/// In the form of a random one, and as spread out, but the same for the same numbers.
fn uuid(person: u64, number: u64) -> String {
    let high = mixed(person.wrapping_mul(31).wrapping_add(number));
    let low = mixed(high);
    format!(
        "{:08x}-{:04x}-4{:03x}-8{:03x}-{:012x}",
        high >> 32,
        high >> 16 & 0xffff,
        high & 0xfff,
        low >> 52,
        low & 0xffff_ffff_ffff
    )
}

/// The finaliser of SplitMix64: every bit of the result depends on every bit of the number.
fn mixed(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ number >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ number >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ number >> 31
}
