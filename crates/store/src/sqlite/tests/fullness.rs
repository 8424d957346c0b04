//! A disk that is full, and one that has room again.

use std::process::Command;

use rusqlite::Row;
use serde_json::json;

use super::{Place, fill, log_of};
use crate::contract::{Draft, id, tenant};
use crate::{CommitError, Outcome, SqliteStore, Store};

/// A full disk, played by a file that may not grow.
#[test]
fn a_full_file_refuses_commits_answers_reads_and_recovers() {
    let place = Place::new();
    let store = place.open();
    fill(&store);
    let limit = |pages: i64| {
        let writer = store.writer.lock().unwrap();
        let set = |_: &Row<'_>| Ok(());
        let pragma = writer.connection.pragma_update_and_check(None, "max_page_count", pages, set);
        pragma.unwrap();
    };
    limit(1);
    let large = Draft::creation("b").context("large", json!("x".repeat(100_000)));
    let batch = [Draft::creation("c").build(), large.build()];
    let refused = store.commit(&batch);
    let Err(CommitError::Full(_)) = refused else {
        panic!("expected a full file, got {refused:?}");
    };
    let t = tenant("t");
    assert!(store.load(&t, &id("a")).unwrap().is_some());
    assert_eq!(store.load(&t, &id("c")), Ok(None));
    limit(1_000_000);
    assert_eq!(store.commit(&batch), Ok(vec![Outcome::Committed; 2]));
}

/// A real one: a file system of 8 MiB, mounted where only this test sees it. As root, or in a namespace of its own where
/// that is allowed.
#[test]
fn a_full_disk_refuses_commits_answers_reads_and_recovers_without_a_restart() {
    const VARIABLE: &str = "STATEWRIGHT_TEST_FULL";
    if let Some(directory) = std::env::var_os(VARIABLE) {
        return on_a_small_disk(directory.as_ref());
    }
    let place = Place::new();
    let name = std::thread::current().name().unwrap().to_owned();
    let script = r#"mount -t tmpfs -o size=8m tmpfs "$1" && exec "$2" --exact "$3" --nocapture"#;
    let mut told = String::new();
    // Without root, one is root of a namespace of one's own.
    for flags in ["-m", "-Urm"] {
        let output = Command::new("unshare")
            .args([flags, "sh", "-c", script, "sh"])
            .args([place.directory.path(), &std::env::current_exe().unwrap()])
            .arg(&name)
            .env(VARIABLE, place.directory.path())
            .output()
            .unwrap();
        if output.status.success() {
            let told = String::from_utf8_lossy(&output.stdout);
            assert!(told.contains("1 passed"), "{told}");
            return;
        }
        let streams = [output.stdout, output.stderr];
        told.extend(streams.iter().map(|bytes| String::from_utf8_lossy(bytes).into_owned()));
        assert!(!told.contains("panicked"), "{told}");
    }
    panic!("no small file system could be mounted: {told}");
}

fn on_a_small_disk(directory: &std::path::Path) {
    let path = directory.join("x.db");
    let store = SqliteStore::open(&path).unwrap();
    fill(&store);
    let ballast = directory.join("ballast");
    let t = tenant("t");
    let name = |number: usize| format!("i-{number:05}");
    let commit = |number: usize| {
        let draft = Draft::creation(&name(number)).context("large", json!("x".repeat(10_000)));
        store.commit(&[draft.effect("e").build()])
    };
    let saved = Ok(vec![Outcome::Committed]);
    let mut number = 0;
    for round in 0..4 {
        // As much as there is room for, to the last byte.
        std::fs::write(&ballast, vec![1; 1 << 20]).unwrap();
        let fill_up = Command::new("dd")
            .args(["if=/dev/zero", "bs=4k", &format!("of={}", directory.join("rest").display())])
            .stderr(std::process::Stdio::null())
            .status();
        if round % 2 == 1 {
            fill_up.unwrap();
        }
        let refused = loop {
            match commit(number) {
                Ok(outcomes) => assert_eq!(Ok(outcomes), saved),
                Err(error) => break error,
            }
            number += 1;
            assert!(number < 10_000, "the disk has an end");
        };
        assert!(matches!(refused, CommitError::Full(_)), "{refused:?}");
        for _ in 0..3 {
            assert!(matches!(commit(number), Err(CommitError::Full(_))));
        }
        assert_eq!(store.load(&t, &id(&name(number))), Ok(None));
        for known in [0, number / 2, number.max(1) - 1] {
            let found = store.load(&t, &id(&name(known)));
            assert_eq!(found.unwrap().is_some(), known < number, "{known} of {number}");
        }
        assert_eq!(store.history(&log_of(&t)).unwrap().data.len(), 2);
        assert!(store.statistics().is_ok());
        if round == 3 {
            break;
        }
        std::fs::remove_file(&ballast).unwrap();
        let _ = std::fs::remove_file(directory.join("rest"));
        assert_eq!(commit(number), saved, "there is room again, in round {round}");
        number += 1;
    }
    // What is on the disk is whole, also to whoever opens it while there is no room.
    drop(store);
    let store = SqliteStore::open(&path).unwrap();
    for known in 0..number {
        assert!(store.load(&t, &id(&name(known))).unwrap().is_some(), "{known}");
    }
    drop(store);
    let raw = rusqlite::Connection::open(&path).unwrap();
    let said: String = raw.query_row("PRAGMA integrity_check", (), |row| row.get(0)).unwrap();
    assert_eq!(said, "ok");
}
