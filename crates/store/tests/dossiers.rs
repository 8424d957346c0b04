//! Dossiers beyond one backend: from each to the next, with secrets, from damaged files, and from one that is written to.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::Connection;
use serde_json::json;
use store::contract::{Draft, dossiers, lived_in};
use store::{
    Dossier, KeyedStore, LoadError, MasterKey, MemoryStore, Outcome, Records, Secrets, SqliteOptions,
    SqliteStore, Store, Vault,
};
use tempfile::TempDir;
use testbed::{Kind, Lodging, wait_until};

const SECRET: &str = "hunter2-is-a-secret";

/// A store whose secrets are sealed by this master key.
fn sealed(url: &str, byte: u8) -> KeyedStore {
    let master = MasterKey::parse("a", &format!("{byte:02x}").repeat(32)).unwrap();
    let vault = Arc::new(Vault::new(vec![master]).unwrap());
    let secrets = Secrets::Sealed(Arc::clone(&vault));
    let inner = store::open(url, Records { secrets, ..Records::default() }).unwrap();
    KeyedStore::open(inner, vault).unwrap()
}

fn save(store: &dyn Store, drafts: Vec<Draft>) {
    let commits: Vec<_> = drafts.into_iter().map(Draft::build).collect();
    assert_eq!(store.commit(&commits), Ok(vec![Outcome::Committed; commits.len()]));
}

/// A session with a secret, and one whose secret is not there yet.
fn with_secrets(store: &dyn Store) {
    let first = Draft::creation("s1").session("zoe", 1).context("token", json!(SECRET)).secret("token");
    let first = first.effect(SECRET).asks("s1:1");
    let next = Draft::change(&first.snapshot()).secret("token").key(SECRET);
    save(store, vec![first, next, Draft::creation("s2").session("zoe", 2).secret("token")]);
}

fn file(directory: &TempDir, name: &str) -> String {
    format!("sqlite:{}", directory.path().join(name).display())
}

#[test]
fn what_goes_through_every_backend_comes_back_the_same() {
    let directory = TempDir::new().unwrap();
    let first = sealed(&file(&directory, "first.db"), 1);
    lived_in(&first);
    with_secrets(&first);
    let all = dossiers(&first);
    assert_eq!(all.iter().filter(|dossier| dossier.secrets.is_some()).count(), 2);
    let lodgings = Kind::ALL.map(Lodging::new);
    let last = sealed(&file(&directory, "last.db"), 9);
    let mut stores: Vec<(String, Box<dyn Store>)> = Vec::new();
    for (byte, lodging) in (2..).zip(&lodgings) {
        stores.push((lodging.url().to_owned(), Box::new(sealed(lodging.url(), byte))));
    }
    stores.push(("memory".to_owned(), Box::new(MemoryStore::new())));
    stores.push(("the last file".to_owned(), Box::new(last)));
    let mut given = all.clone();
    for (name, store) in &stores {
        // A few at a time, as a restore does.
        for some in given.chunks(3) {
            assert_eq!(store.take_in(some), Ok(()), "{name}");
        }
        given = dossiers(&**store);
        assert_eq!(given, all, "{name}");
    }
    drop(stores);
    // What was sealed at the beginning is sealed at the end.
    for name in ["first.db", "last.db"] {
        let bytes = std::fs::read(directory.path().join(name)).unwrap();
        let at = bytes.windows(SECRET.len()).filter(|bytes| *bytes == SECRET.as_bytes()).count();
        // The key is what operators look for.
        assert_eq!(at, 1, "{name}");
    }
}

/// Changes a file that no store has.
fn damage(path: &Path, sql: &str) {
    let connection = Connection::open(path).unwrap();
    assert_eq!(connection.execute(sql, ()).unwrap(), 1, "{sql}");
}

#[test]
fn what_is_damaged_is_left_out_and_counted() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("a.db");
    let all = {
        let store = SqliteStore::open(&path).unwrap();
        lived_in(&store);
        dossiers(&store)
    };
    for sql in [
        "UPDATE instances SET body = body || ' ' WHERE tenant = 't' AND id = 'calls'",
        "UPDATE log SET body = body || ' ' WHERE tenant = 't' AND instance = 'a2' AND revision = 1",
        "UPDATE outbox SET attempts = 7 WHERE tenant = 't' AND key = 'f:1:0'",
        "UPDATE clarifications SET body = body || ' ' WHERE tenant = 't' AND id = 'a2:2'",
        "UPDATE phases SET attempts = 9 WHERE tenant = 't' AND instance = 'f' AND place = 1",
    ] {
        damage(&path, sql);
    }
    let store = SqliteStore::open(&path).unwrap();
    let mut found = Vec::new();
    let gathered = store.dossiers(&mut |dossier| {
        found.push(dossier);
        ControlFlow::Continue(())
    });
    let gathered = gathered.unwrap();
    assert_eq!((gathered.instances, gathered.corrupt), (all.len() as u64 - 1, 5));
    assert_eq!(store.statistics().unwrap().quarantined, 5);
    let count = |all: &[Dossier]| {
        let of = |dossier: &Dossier| {
            let Dossier { entries, clarifications, phases, effects, .. } = dossier;
            [entries.len(), clarifications.len(), phases.len(), effects.len()]
        };
        let rest = all.iter().filter(|dossier| dossier.snapshot.instance.as_str() != "calls").map(of);
        rest.fold([0; 4], |sum, of| std::array::from_fn(|n| sum[n] + of[n]))
    };
    assert_eq!(count(&found), count(&all).map(|whole| whole - 1));
}

#[test]
fn what_there_is_no_key_to_is_not_left_out() {
    let directory = TempDir::new().unwrap();
    let url = file(&directory, "a.db");
    with_secrets(&sealed(&url, 1));
    let found = sealed(&url, 2).dossiers(&mut |_| ControlFlow::Continue(()));
    let Err(LoadError::Unavailable(told)) = found else { panic!("{found:?}") };
    assert!(told.contains("the encryption key `a`"), "{told}");
}

/// A file whose log is too long at once, and what reads for a moment reads too long.
fn hurried(directory: &TempDir) -> SqliteStore {
    let options =
        SqliteOptions { log_bytes_max: 256 << 10, reading_max: Duration::ZERO, ..SqliteOptions::default() };
    let store = SqliteStore::open_as(&directory.path().join("a.db"), options).unwrap();
    save(&store, (0..50).map(|number| Draft::creation(&format!("i{number}"))).collect());
    store
}

/// Writes until a note says this.
fn write_until(store: &SqliteStore, says: &str) {
    let mut number = 0;
    let has_said = wait_until(Duration::from_secs(60), || {
        number += 1;
        let large = "x".repeat(100_000);
        save(
            store,
            vec![Draft::creation(&format!("{}-{number}", says.len())).context("large", json!(large))],
        );
        store.info().notes.iter().any(|note| note.contains(says))
    });
    assert!(has_said, "{says}: {:?}", store.info().notes);
}

#[test]
fn a_backup_is_let_be_while_the_log_grows() {
    let directory = TempDir::new().unwrap();
    let store = hurried(&directory);
    let mut seen = 0;
    let gathered = store.dossiers(&mut |_| {
        seen += 1;
        if seen == 1 {
            write_until(&store, "a backup is being taken");
        }
        ControlFlow::Continue(())
    });
    assert!(matches!(gathered, Ok(gathered) if gathered.instances == 50), "{gathered:?}");
}

#[test]
fn a_backup_is_cut_short_before_the_disk_is_full() {
    let directory = TempDir::new().unwrap();
    let store = hurried(&directory);
    let mut seen = 0;
    let gathered = store.dossiers(&mut |_| {
        seen += 1;
        if seen == 1 {
            write_until(&store, "was cut short");
        }
        ControlFlow::Continue(())
    });
    let Err(LoadError::Unavailable(told)) = gathered else { panic!("{gathered:?}") };
    assert!(told.contains("its log has grown too long"), "{told}");
    // Who comes next begins afresh.
    assert!(store.dossiers(&mut |_| ControlFlow::Continue(())).is_ok());
}
