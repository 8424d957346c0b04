//! What `docs/sql.md` says of SQL is so: its questions can be asked, of SQLite too, and its tables name every column.

use std::path::Path;

use kernel::commit::Commit;
use kernel::conversation::ClarificationStatus;
use kernel::flow::PhaseState;
use rusqlite::Connection;
use serde_json::json;
use store::contract::{Draft, phase};
use store::{Outcome, PostgresStore, SqliteStore, Store};

use super::server::Database;

const DOCUMENT: &str = include_str!("../../../../docs/sql.md");

/// The statements of the fences that are for `backend`, or for both.
fn statements(backend: &str) -> Vec<String> {
    let (mut text, mut fence) = (String::new(), None);
    for line in DOCUMENT.lines() {
        match (fence, line.strip_prefix("```")) {
            (None, Some(info)) => fence = Some(info == "sql" || info == format!("sql {backend}")),
            (Some(_), Some(_)) => fence = None,
            (Some(true), None) if !line.starts_with("--") => text += &format!("{line}\n"),
            _ => {}
        }
    }
    text.split(';').map(str::trim).filter(|sql| !sql.is_empty()).map(str::to_owned).collect()
}

/// One of everything that operators ask for; everything lately, but for one session.
fn batches(now: i64) -> Vec<Vec<Commit>> {
    let asked = Draft::creation("a").session("ana", 1).at(now).asks("a:1").context("nul", json!("\u{0}"));
    let answered = Draft::change(&asked.snapshot()).state("completed").closed("done");
    let answered = answered.question("a:1", ClarificationStatus::Answered);
    let refused = Draft::refusal(&answered.snapshot());
    let idle = Draft::creation("b").session("ben", 1).at(now - 3 * 60 * 60 * 1_000);
    let gone = Draft::creation("c").session("carl", 1).at(now).state("abandoned").closed("timeout");
    let shadow = Draft::creation("s").tenant("t~shadow").session("ana", 1).at(now);
    let published = kernel::commit::PhaseRow { phase: "publish".into(), ..phase(1, PhaseState::Failed) };
    let done = phase(0, PhaseState::Completed);
    let flow = Draft::creation("f").machine("import").at(now).phase(done).phase(published);
    vec![[asked, answered, refused, idle, gone, shadow, flow].map(Draft::build).into()]
}

fn fill(store: &dyn Store) {
    for batch in batches(now()) {
        let outcomes = store.commit(&batch).expect("the store is there");
        assert!(outcomes.iter().all(|outcome| *outcome == Outcome::Committed), "{outcomes:?}");
    }
}

fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("it is after 1970");
    i64::try_from(since.as_millis()).expect("it is not that late")
}

fn filled() -> (Database, PostgresStore) {
    let database = Database::new();
    let store = database.open();
    fill(&store);
    (database, store)
}

#[test]
fn the_documents_questions_are_answered_by_postgresql() {
    let (database, _store) = filled();
    let mut answered = 0;
    for sql in statements("postgresql") {
        let answer = database.ask(&sql);
        let expected = match &sql {
            sql if sql.contains("as active_sessions") => "1",
            sql if sql.contains("SELECT closure_reason") => "timeout,1",
            sql if sql.contains("as answered,") => "1,0,0",
            sql if sql.contains("* 100.0") => "100.0000000000000000",
            sql if sql.contains("success = false") => "1",
            sql if sql.contains("LIMIT 10") => ",open,3\nopen,completed,1\n,abandoned,1",
            sql if sql.contains("closure_reason IS NULL") => "0",
            sql if sql.contains("FROM flow_phases") => "import,publish,null,1",
            sql if sql.contains("SELECT status, COUNT(*)") => "answered,1",
            sql if sql.contains("duplicate_messages") || sql.contains("processed_at >") => "5",
            sql if sql.contains("'2 hours'") => "1",
            sql if sql.contains("flow_summary") => "f,open,1,2",
            sql if sql.contains("cleanup_expired") => "0",
            _ => {
                assert!(!answer.is_empty(), "{sql}");
                continue;
            }
        };
        answered += 1;
        let sorted = |text: &str| {
            let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
            lines.sort();
            lines
        };
        assert_eq!(sorted(&answer), sorted(expected), "{sql}");
    }
    assert!(answered > 12, "{answered} questions of the document have an answer that is known here");
}

#[test]
fn the_documents_questions_are_answered_by_sqlite() {
    let directory = tempfile::TempDir::new().expect("a temporary directory");
    let path = directory.path().join("statewright.db");
    let store = SqliteStore::open(&path).expect("the file can be opened");
    fill(&store);
    let connection = connected(&path);
    let statements = statements("sqlite");
    assert!(statements.len() > 9, "{statements:?}");
    for sql in statements {
        let mut select = connection.prepare(&sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
        let mut rows = select.query(()).expect("it can be asked");
        assert!(rows.next().expect("it has an answer").is_some(), "{sql}");
    }
}

fn connected(path: &Path) -> Connection {
    Connection::open(path).expect("the file can be opened by somebody else")
}

/// `view,column,type`, in order, as the document's tables have them.
fn documented() -> Vec<String> {
    let (mut view, mut columns) = (String::new(), Vec::new());
    for line in DOCUMENT.lines() {
        if let Some(name) = line.strip_prefix("### ") {
            view = name.to_owned();
        } else if let Some(row) = line.strip_prefix("| `")
            && let Some((column, rest)) = row.split_once("` | ")
            && view.contains('_')
        {
            let of_type = rest.split(' ').next().expect("there is a type");
            columns.push(format!("{view},{column},{of_type}"));
        }
    }
    columns.sort();
    columns
}

#[test]
fn the_document_names_every_column_of_every_view() {
    let database = Database::new();
    let columns = "SELECT table_name, column_name,
             CASE data_type WHEN 'timestamp with time zone' THEN 'timestamptz' ELSE data_type END
         FROM information_schema.columns WHERE table_schema = 'public'";
    let mut found: Vec<String> = database.ask(columns).lines().map(str::to_owned).collect();
    found.sort();
    assert_eq!(found, documented());

    let directory = tempfile::TempDir::new().expect("a temporary directory");
    let path = directory.path().join("statewright.db");
    let _store = SqliteStore::open(&path).expect("the file can be opened");
    let sql = "SELECT v.name || ',' || c.name FROM sqlite_schema AS v JOIN pragma_table_info(v.name) AS c
         WHERE v.type = 'view'";
    let connection = connected(&path);
    let mut select = connection.prepare(sql).expect("it can be prepared");
    let found: Vec<String> = select
        .query_map((), |row| row.get(0))
        .expect("it is answered")
        .map(|name| name.expect("a text"))
        .collect();
    assert!(found.len() > 40);
    let documented: Vec<String> = documented()
        .iter()
        .filter(|column| !column.starts_with("flow_summary"))
        .map(|column| column.rsplit_once(',').expect("there is a type").0.to_owned())
        .collect();
    let mut found = found;
    found.sort();
    let mut documented = documented;
    documented.sort();
    assert_eq!(found, documented);
}

/// Neither what jsonb cannot hold nor what is no JSON at all hides the rest.
#[test]
fn a_damaged_record_hides_no_other_from_operators() {
    let (database, _store) = filled();
    let nul = "SELECT session_metadata ->> 'nul' FROM progress_update_sessions WHERE id = 'a'";
    assert_eq!(database.ask(nul), "\u{fffd}");
    database.execute("UPDATE statewright.instances SET body = 'no JSON' WHERE id = 'b'");
    database.execute("UPDATE statewright.log SET body = '{' WHERE instance = 'b'");
    let sessions = "SELECT id, session_metadata IS NULL, jsonb_array_length(transition_history)
         FROM progress_update_sessions ORDER BY id";
    assert_eq!(database.ask(sessions), "a,f,3\nb,t,1\nc,f,1");
    assert_eq!(database.ask("SELECT count(*), count(success) FROM fsm_transition_log"), "6,5");
    database.execute("UPDATE statewright.phases SET since = 9223372036854775807 WHERE place = 0");
    assert_eq!(database.ask("SELECT phase, since FROM flow_phases WHERE place = 0"), "p0,null");
}

/// A name that somebody else has in `public` stays theirs.
#[test]
fn names_that_are_taken_are_left_alone() {
    let database = Database::empty();
    database.execute(
        "CREATE TABLE progress_update_sessions (mine text);
         CREATE FUNCTION cleanup_expired_fsm_records(interval DEFAULT '1 day') RETURNS integer LANGUAGE sql AS 'SELECT 42'",
    );
    let store = database.open();
    let notes = store.info().notes;
    let named = |name: &str| notes.iter().filter(|note| note.contains(name)).count();
    assert_eq!(
        (named("`progress_update_sessions`"), named("`cleanup_expired_fsm_records`")),
        (1, 1),
        "{notes:?}"
    );
    fill(&store);
    assert_eq!(database.ask("SELECT count(*) FROM public.progress_update_sessions"), "0");
    assert_eq!(database.ask("SELECT count(*) FROM statewright.progress_update_sessions"), "3");
    assert_eq!(database.ask("SELECT public.cleanup_expired_fsm_records()"), "42");
    drop(store);
    assert_eq!(database.open().info().notes, notes);
}

#[test]
fn the_function_deletes_what_cleaning_up_deletes() {
    let (database, store) = filled();
    let old = Draft::creation("old").session("otto", 1).at(1_000).effect("e");
    let next = Draft::change(&old.snapshot()).at(2_000).closed("done");
    assert_eq!(store.commit(&[old.build(), next.build()]), Ok(vec![Outcome::Committed; 2]));
    assert_eq!(database.ask("SELECT cleanup_expired_fsm_records('100 years')"), "0");
    assert_eq!(database.ask("SELECT cleanup_expired_fsm_records()"), "2");
    assert_eq!(database.ask("SELECT count(*) FROM statewright.receipts"), "7");
    assert_eq!(database.ask("SELECT cleanup_expired_fsm_records(older_than => INTERVAL '1 hour')"), "0");
    assert_eq!(database.ask("SELECT cleanup_expired_fsm_records('-1 hour')"), "4");
}
