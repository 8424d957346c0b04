//! What is special about the file: damage to it, who may open it, and what operators see in it.

mod fullness;
mod lineage;
mod opening;
mod outbox;
mod outsiders;
mod phases;
mod reading;
mod rest;
mod structure;

use std::path::PathBuf;

use kernel::conversation::ClarificationStatus;
use kernel::id::TenantId;
use kernel::input::ReceiptScope;
use rusqlite::types::Value;
use rusqlite::{Connection, StatementStatus};
use serde_json::json;
use tempfile::TempDir;

use super::{OpenError, SqliteStore};
use crate::contract::{Draft, at, definition, id, key_of, machine, subject, tenant};
use crate::query::{ClarificationQuery, HistoryQuery, InstanceQuery};
use crate::seal::INSTANCES;
use crate::{LoadError, Outcome, Store};

struct Place {
    directory: TempDir,
}

impl Place {
    fn new() -> Self {
        Self { directory: TempDir::new().unwrap() }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("statewright.db")
    }

    fn open(&self) -> SqliteStore {
        SqliteStore::open(&self.path()).unwrap()
    }

    /// A connection like that of a person with a shell, or of a disk that changes what it holds.
    fn raw(&self) -> Connection {
        Connection::open(self.path()).unwrap()
    }
}

/// One instance with a question and two entries, and a definition.
fn fill(store: &SqliteStore) {
    let draft = Draft::creation("a").session("ana", 1).timer(2_000);
    let draft = draft.context("note", json!("été"));
    let first = draft.asks("a:1");
    let second = Draft::change(&first.snapshot()).state("second").at(1_500);
    let batch = [first.build(), second.build()];
    assert_eq!(store.commit(&batch), Ok(vec![Outcome::Committed; 2]));
    store.save_definition(&definition("order", 1)).unwrap();
}

/// Flips the lowest bit of a value's last byte, and gives what it was.
fn flip(raw: &Connection, table: &str, column: &str) -> Value {
    let select = format!("SELECT {column} FROM {table} ORDER BY rowid LIMIT 1");
    let before: Value = raw.query_row(&select, (), |row| row.get(0)).unwrap();
    let damaged = match before.clone() {
        Value::Integer(number) => Value::Integer(number ^ 1),
        Value::Null => Value::Text("x".into()),
        Value::Text(text) => {
            let mut bytes = text.into_bytes();
            let last = bytes.len() - 1;
            bytes[last] ^= 1;
            Value::Text(String::from_utf8(bytes).unwrap())
        }
        Value::Blob(mut bytes) => {
            bytes[0] ^= 1;
            Value::Blob(bytes)
        }
        Value::Real(number) => Value::Real(-number),
    };
    put(raw, table, column, &damaged);
    before
}

fn put(raw: &Connection, table: &str, column: &str, value: &Value) {
    let update = format!("UPDATE {table} SET {column} = ?1 WHERE rowid = (SELECT min(rowid) FROM {table})");
    assert_eq!(raw.execute(&update, [value]).unwrap(), 1);
}

fn quarantined(raw: &Connection) -> Vec<(String, String, Vec<u8>)> {
    let mut select = raw.prepare("SELECT source, key, raw FROM quarantine ORDER BY row").unwrap();
    let rows = select.query_map((), |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)));
    rows.unwrap().map(Result::unwrap).collect()
}

fn assert_corrupt<T: std::fmt::Debug>(found: Result<T, LoadError>, record: &str) {
    let Err(LoadError::Corrupt { record: named, .. }) = &found else {
        panic!("expected {record} to be corrupt, got {found:?}");
    };
    assert!(named.starts_with(record), "{named}");
}

fn log_of(t: &TenantId) -> HistoryQuery {
    HistoryQuery { limit: 10, ..HistoryQuery::of(t.clone(), id("a")) }
}

fn questions_of(t: &TenantId) -> ClarificationQuery {
    ClarificationQuery { tenant: t.clone(), status: None, id: None, cursor: None, limit: 10 }
}

#[test]
fn a_flipped_bit_of_an_instance_is_found_and_quarantined() {
    for column in [
        "body",
        "version",
        "definition",
        "revision",
        "state",
        "closure_reason",
        "created_at",
        "updated_at",
        "format",
        "checksum",
    ] {
        let place = Place::new();
        let store = place.open();
        fill(&store);
        let raw = place.raw();
        let before = flip(&raw, "instances", column);
        let t = tenant("t");
        let list = InstanceQuery::of(t.clone());
        assert_corrupt(store.load(&t, &id("a")), "instances t/a");
        assert_eq!(quarantined(&raw).len(), 1, "{column}");
        for _ in 0..2 {
            assert_corrupt(store.load(&t, &id("a")), "instances t/a");
            let session = store.load_session(&t, &machine("order"), &subject("ana"));
            assert_corrupt(session, "instances t/a");
            assert_eq!(store.instances(&list).unwrap().data, [], "{column}");
        }
        let found = quarantined(&raw);
        assert_eq!(found.len(), 1, "{column}");
        assert_eq!((&*found[0].0, &*found[0].1), ("instances", "instances t/a"));
        assert_eq!(store.statistics().unwrap().quarantined, 1);

        put(&raw, "instances", column, &before);
        assert!(store.load(&t, &id("a")).unwrap().is_some(), "{column}");
    }
}

/// By its own name it is not found any more; under the name that it has now it is not served.
#[test]
fn an_instance_under_another_name_is_not_served() {
    for (column, t, name, of) in [
        ("id", "t", "`", "ana"),
        ("tenant", "u", "a", "ana"),
        ("subject", "t", "a", "an`"),
        ("machine", "t", "a", "ana"),
        ("ordinal", "t", "a", "ana"),
    ] {
        let place = Place::new();
        let store = place.open();
        fill(&store);
        flip(&place.raw(), "instances", column);
        assert_corrupt(store.load(&tenant(t), &id(name)), "instances ");
        let (session, machine) = (subject(of), machine("order"));
        let found = store.load_session(&tenant(t), &machine, &session);
        if column != "machine" && column != "ordinal" {
            assert_corrupt(found, "instances ");
        } else {
            assert_eq!(found, Ok(None), "{column}");
        }
    }
}

#[test]
fn a_flipped_bit_of_a_log_entry_is_found_and_quarantined() {
    let all = ["body", "revision", "at", "tenant", "instance", "checksum"];
    for column in all {
        let place = Place::new();
        let store = place.open();
        fill(&store);
        let raw = place.raw();
        flip(&raw, "log", column);
        let t = tenant("t");
        assert_corrupt(store.receipt(&t, &ReceiptScope::Instance(id("a")), key_of(&t, "a-1")), "log ");
        let page = store.history(&log_of(&t)).unwrap();
        let revisions: Vec<_> = page.data.iter().map(|entry| entry.revision.0).collect();
        assert_eq!(revisions, [2], "{column}");
        let found = quarantined(&raw);
        assert_eq!(found.len(), 1, "{column}");
        assert!(String::from_utf8_lossy(&found[0].2).contains("receipt="));
    }
}

/// Neither handled again nor answered with what is not known to be true.
#[test]
fn the_key_of_a_damaged_entry_is_neither_repeated_nor_answered() {
    let place = Place::new();
    let store = place.open();
    fill(&store);
    let raw = place.raw();
    flip(&raw, "log", "body");
    let now = store.load(&tenant("t"), &id("a")).unwrap().unwrap();
    let repeat = Draft::change(&now).key("a-1").state("again").build();
    let other = Draft::creation("b").build();
    let outcomes = store.commit(&[repeat, other]);
    assert_eq!(outcomes, Ok(vec![Outcome::Stale, Outcome::Committed]));
    assert_eq!(store.load(&tenant("t"), &id("a")), Ok(Some(now)));
    assert_eq!(quarantined(&raw).len(), 1);
}

#[test]
fn a_flipped_bit_of_a_clarification_is_found_and_quarantined() {
    for column in ["body", "id", "instance", "status", "created_at", "checksum"] {
        let place = Place::new();
        let store = place.open();
        fill(&store);
        let raw = place.raw();
        flip(&raw, "clarifications", column);
        for _ in 0..2 {
            let page = store.clarifications(&questions_of(&tenant("t")));
            assert_eq!(page.unwrap().data, [], "{column}");
        }
        assert_eq!(quarantined(&raw).len(), 1, "{column}");
    }
}

#[test]
fn a_damaged_definition_is_left_out_and_mended_by_saving_it_again() {
    for column in ["source", "machine", "version", "saved_at", "checksum"] {
        let place = Place::new();
        let store = place.open();
        fill(&store);
        let raw = place.raw();
        flip(&raw, "definitions", column);
        assert_eq!(store.definitions(), Ok(vec![]), "{column}");
        assert_eq!(quarantined(&raw).len(), 1, "{column}");
        store.save_definition(&definition("order", 1)).unwrap();
        assert_eq!(store.definitions(), Ok(vec![definition("order", 1)]));
    }
}

#[test]
fn a_damaged_instance_is_claimed_once_more_only_after_it_is_mended() {
    let place = Place::new();
    let store = place.open();
    fill(&store);
    let raw = place.raw();
    let now = store.load(&tenant("t"), &id("a")).unwrap().unwrap();
    flip(&raw, "instances", "body");
    let claim = || store.claim_due(at(9_000), at(9_001), 10);
    assert_eq!(claim(), Ok(vec![]));
    assert_eq!(store.next_due(), Ok(None), "nobody waits for it in vain");
    assert_eq!(quarantined(&raw).len(), 1);
    let mended = Draft::change(&now).build();
    assert_eq!(store.commit(&[mended]), Ok(vec![Outcome::Committed]));
    assert_eq!(claim(), Ok(vec![(tenant("t"), id("a"))]));
}

/// Values of another type than the column's are what a flipped bit in a record's header makes of it.
#[test]
fn a_body_that_is_no_text_is_corrupt() {
    let place = Place::new();
    let store = place.open();
    fill(&store);
    let raw = place.raw();
    raw.execute_batch(
        "PRAGMA writable_schema = ON;
         UPDATE sqlite_schema SET sql = replace(sql, ') STRICT', ')') WHERE name = 'instances';
         PRAGMA writable_schema = RESET;",
    )
    .unwrap();
    for damaged in [Value::Blob(b"{}".to_vec()), Value::Integer(1)] {
        put(&raw, "instances", "body", &damaged);
        assert_corrupt(store.load(&tenant("t"), &id("a")), "instances t/a");
    }
}

#[test]
fn a_snapshot_of_a_newer_format_is_not_guessed_at() {
    let place = Place::new();
    let store = place.open();
    fill(&store);
    let raw = place.raw();
    put(&raw, "instances", "format", &Value::Integer(99));
    let resealed = raw
        .query_row(&(INSTANCES.select(&[]) + "LIMIT 1"), (), |row| {
            let table = &INSTANCES;
            Ok(table.checksum(&table.cells(row)?))
        })
        .unwrap();
    put(&raw, "instances", "checksum", &Value::Integer(resealed));
    let found = store.load(&tenant("t"), &id("a"));
    let expected = "a newer program wrote it, in format 99".to_owned();
    assert_eq!(found, Err(LoadError::Unavailable(expected)));
    assert_eq!(quarantined(&raw), []);
}

#[test]
fn a_newer_schema_is_refused() {
    let place = Place::new();
    drop(place.open());
    place.raw().pragma_update(None, "user_version", 99).unwrap();
    let error = SqliteStore::open(&place.path()).unwrap_err();
    let OpenError::NewerSchema { found: 99, known } = error else {
        panic!("{error}");
    };
    assert_eq!(known, super::schema::STEPS.len() as u32);
}

#[test]
fn commits_are_flushed_and_the_log_is_written_ahead() {
    let place = Place::new();
    let store = place.open();
    let writer = store.writer.lock().unwrap();
    let pragma = |name| -> Value {
        let connection = &writer.connection;
        connection.pragma_query_value(None, name, |row| row.get(0)).unwrap()
    };
    assert_eq!(pragma("synchronous"), Value::Integer(2));
    assert_eq!(pragma("journal_mode"), Value::Text("wal".into()));
    assert_eq!(pragma("page_size"), Value::Integer(4_096));
}

#[test]
fn no_value_has_a_question_planned_anew() {
    let place = Place::new();
    let store = place.open();
    fill(&store);
    let connection = super::open_reader(&place.path()).unwrap();
    let sql = "SELECT id FROM instances WHERE tenant = ?1 AND machine = ?2 AND subject = ?3 AND ordinal > 0";
    let mut select = connection.prepare(sql).unwrap();
    for subject in ["ana", "bob", "ana"] {
        select.exists(["t", "order", subject]).unwrap();
    }
    assert_eq!(select.get_status(StatementStatus::RePrepare), 0);
}

#[test]
fn reads_do_not_wait_for_the_writer() {
    let place = Place::new();
    let store = place.open();
    fill(&store);
    let _writing = store.writer.lock().unwrap();
    let t = tenant("t");
    assert!(store.load(&t, &id("a")).unwrap().is_some());
    assert_eq!(store.history(&log_of(&t)).unwrap().data.len(), 2);
    assert!(store.statistics().is_ok());
}

#[test]
fn operators_see_sessions_transitions_questions_and_keys() {
    let place = Place::new();
    let store = place.open();
    let first = Draft::creation("a").session("ana", 1).at(1_767_225_600_007);
    let first = first.asks("a:1").context("task", json!("t-1"));
    let refused = Draft::refusal(&first.snapshot()).at(1_767_225_601_000);
    let last = Draft::change(&first.snapshot()).at(1_767_225_602_000);
    let last = last.state("done").closed("completed");
    let last = last.question("a:1", ClarificationStatus::Answered);
    let batch = [first, refused, last, Draft::creation("no session")].map(Draft::build);
    assert_eq!(store.commit(&batch), Ok(vec![Outcome::Committed; 4]));

    let check = |sql: &str, expected: &[&str]| {
        let raw = place.raw();
        let mut select = raw.prepare(sql).unwrap();
        let columns = select.column_count();
        let lines = select.query_map((), |row| {
            let texts = (0..columns).map(|i| match row.get(i)? {
                Value::Text(text) => Ok(text),
                Value::Integer(number) => Ok(number.to_string()),
                other => Ok(format!("{other:?}")),
            });
            Ok(texts.collect::<rusqlite::Result<Vec<_>>>()?.join(" | "))
        });
        let lines: Vec<String> = lines.unwrap().map(Result::unwrap).collect();
        assert_eq!(lines, expected, "{sql}");
    };
    check(
        "SELECT session_id, user_id, fsm_state, closure_reason, session_metadata, last_activity, created_at
         FROM progress_update_sessions",
        &[
            "a | ana | done | completed | {\"task\":\"t-1\"} | 2026-01-01T00:00:02.000Z | 2026-01-01T00:00:00.007Z",
        ],
    );
    check(
        "SELECT json_array_length(transition_history), transition_history -> 1 FROM progress_update_sessions",
        &["3 | {\"from_state\":\"open\",\"to_state\":\"open\",\"event\":\"go\",\"success\":false,\
           \"reason\":\"not now\",\"at\":\"2026-01-01T00:00:01.000Z\"}"],
    );
    check(
        "SELECT from_state, to_state, event, success, reason, logged_at FROM fsm_transition_log
         WHERE session_id = 'a' ORDER BY id",
        &[
            " | open | go | 1 | Null | 2026-01-01T00:00:00.007Z",
            "open | open | go | 0 | not now | 2026-01-01T00:00:01.000Z",
            "open | done | go | 1 | Null | 2026-01-01T00:00:02.000Z",
        ],
    );
    check(
        "SELECT id, session_id, user_id, status, created_at, expires_at, answered_at, json_array_length(options)
         FROM fsm_clarification_requests",
        &["a:1 | a | ana | answered | 2026-01-01T00:00:02.000Z | 2026-01-01T00:05:02.000Z | \
           2026-01-01T00:00:02.000Z | 1"],
    );
    check(
        "SELECT user_id, message_id, created_at, processed_at FROM fsm_idempotency_records LIMIT 1",
        &["ana | a-1 | 2026-01-01T00:00:00.007Z | 2026-01-01T00:00:00.007Z"],
    );
    let beside = Draft::creation("s").tenant("t~shadow").session("ana", 1).asks("s:1");
    assert_eq!(store.commit(&[beside.build()]), Ok(vec![Outcome::Committed]));
    for view in [
        "progress_update_sessions",
        "fsm_transition_log",
        "fsm_clarification_requests",
        "fsm_idempotency_records",
    ] {
        check(&format!("SELECT DISTINCT tenant FROM {view}"), &["t"]);
    }
}
