//! Files of every format that there has been still open, are read whole, and are written to.
//!
//! Each fixture is a file as the program of its time wrote it, as text (`sqlite3 FILE .dump`): the step of the schema is in
//! its name and in its `user_version`. `check` has the commits that were made in each.

#![allow(clippy::unwrap_used, reason = "what cannot be had fails the test, also outside of its function")]

use std::path::{Path, PathBuf};

use kernel::commit::Entry;
use kernel::conversation::ClarificationStatus;
use kernel::flow::PhaseState;
use kernel::input::ReceiptScope;
use rusqlite::Connection;
use serde_json::json;
use store::contract::{Draft, at, definition, id, key_of, machine, phase, subject, tenant};
use store::{
    ClarificationQuery, EffectQuery, EffectStatus, HistoryQuery, Outcome, PhaseQuery, Setting, SqliteStore,
    Store,
};
use tempfile::TempDir;

fn fixtures() -> Vec<(u32, PathBuf)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<(u32, PathBuf)> = entries
        .filter_map(|path| {
            let step =
                path.file_name()?.to_str()?.strip_prefix("step-")?.strip_suffix(".sql")?.parse().ok()?;
            Some((step, path))
        })
        .collect();
    found.sort();
    found
}

/// The file that a fixture stands for.
fn made(directory: &Path, step: u32, fixture: &Path) -> PathBuf {
    let path = directory.join(format!("{step}.db"));
    let connection = Connection::open(&path).unwrap();
    connection.execute_batch(&std::fs::read_to_string(fixture).unwrap()).unwrap();
    let found: u32 = connection.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
    assert_eq!(found, step, "{}", fixture.display());
    path
}

/// What the commits of every fixture have left, whatever its step.
fn check(store: &dyn Store, step: u32) {
    let (t, u) = (tenant("t"), tenant("u"));
    let first = Draft::creation("a").session("ana", 1).timer(2_000).context("note", json!("été")).asks("a:1");
    let first = first.effect("erst").effect("dann");
    let second = Draft::change(&first.snapshot()).state("second").at(1_500).effect("zuletzt");
    let second = second.question("a:1", ClarificationStatus::Answered);
    let created = Draft::creation("b").session("ben", 1);
    let closed = Draft::change(&created.snapshot()).state("done").closed("completed").at(3_000);
    let again = Draft::creation("c").session("ben", 2).at(3_500);
    let plain = Draft::creation("d").tenant("u").timer(9_000).effect("u");
    for (tenant, draft) in [(&t, &second), (&t, &closed), (&t, &again), (&u, &plain)] {
        let expected = draft.snapshot();
        assert_eq!(store.load(tenant, &expected.instance), Ok(Some(expected)), "step {step}");
    }
    let session =
        |name| store.load_session(&t, &machine("order"), &subject(name)).unwrap().map(|s| s.instance);
    assert_eq!((session("ana"), session("ben")), (Some(id("a")), Some(id("c"))));
    // Drafts of today's tests name a cause; those of the first steps had none.
    let causeless = |entry: Entry| Entry { cause: None, ..entry };
    let entries = [&first, &second].map(|draft| causeless(draft.clone().build().entry));
    let query = HistoryQuery { limit: 10, ..HistoryQuery::of(t.clone(), id("a")) };
    let history: Vec<_> = store.history(&query).unwrap().data.into_iter().map(causeless).collect();
    assert_eq!(history, entries, "step {step}");
    let receipt = store.receipt(&t, &ReceiptScope::Instance(id("a")), key_of(&t, "a-2")).unwrap();
    let receipt = receipt.map(|(instance, entry)| (instance, causeless(entry)));
    assert_eq!(receipt, Some((id("a"), entries[1].clone())));
    let query = ClarificationQuery { tenant: t.clone(), status: None, id: None, cursor: None, limit: 10 };
    assert_eq!(store.clarifications(&query).unwrap().data, second.build().clarifications);
    assert_eq!(store.definitions(), Ok(vec![definition("order", 1), definition("order", 2)]));
    let effects = |t| store.effects(&EffectQuery::of(t)).unwrap().data;
    let keys: Vec<String> = effects(t.clone()).into_iter().map(|effect| effect.effect.key).collect();
    assert_eq!(keys, ["a:2:0", "a:1:1", "a:1:0"]);
    assert_eq!(effects(u).len(), 1);
    assert_eq!(store.next_due(), Ok(Some(at(2_000))));
    if step >= 2 {
        let setting = Setting { tenant: t.clone(), name: "s".into(), body: json!([1]), saved_at: at(1_000) };
        assert_eq!(store.settings(), Ok(vec![setting]));
    }
    if step >= 3 {
        let mut row = phase(0, PhaseState::InProgress);
        row.retries = 2;
        let lines = store.phases(&PhaseQuery::of(t)).unwrap().data;
        let rows: Vec<_> = lines.into_iter().map(|line| line.row).collect();
        assert_eq!(rows, [row, phase(1, PhaseState::NotStarted)]);
    }
    assert_eq!(store.statistics().unwrap().quarantined, 0);
    assert!(store.info().notes.is_empty(), "{:?}", store.info().notes);
}

#[test]
fn files_of_every_step_open_are_read_whole_and_written_to() {
    let directory = TempDir::new().unwrap();
    let fixtures = fixtures();
    let steps: Vec<u32> = fixtures.iter().map(|(step, _)| *step).collect();
    assert_eq!(steps, (1..=steps.len() as u32).collect::<Vec<_>>(), "one of each step");
    for (step, fixture) in fixtures {
        let path = made(directory.path(), step, &fixture);
        let store = SqliteStore::open(&path).unwrap();
        check(&store, step);
        drop(store);
        // Once it has been taken to this program's schema, nothing is left to do.
        let store = SqliteStore::open(&path).unwrap();
        check(&store, step);
        let (t, now) = (tenant("t"), store.load(&tenant("t"), &id("a")).unwrap().unwrap());
        let next = Draft::change(&now).state("third").effect("weiter").phase(phase(0, PhaseState::Completed));
        assert_eq!(store.commit(&[next.clone().build()]), Ok(vec![Outcome::Committed]));
        assert_eq!(store.load(&t, &id("a")), Ok(Some(next.snapshot())));
        let claimed = store.claim_effects(at(9_000), at(9_500), 10).unwrap();
        assert!(claimed.iter().all(|claimed| claimed.effect.status == EffectStatus::Sending));
        assert!(!claimed.is_empty());
        assert_eq!(store.claim_due(at(2_000), at(2_500), 10), Ok(vec![(t, id("a"))]));
        drop(store);
        let said: String = Connection::open(&path)
            .unwrap()
            .query_row("PRAGMA integrity_check", (), |row| row.get(0))
            .unwrap();
        assert_eq!(said, "ok", "step {step}");
    }
}
