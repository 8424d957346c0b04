//! Damage to what leads to the records: indices, and the pages that tables are made of.

use std::time::{Duration, Instant};

use super::{Place, fill, flip, log_of, quarantined};
use crate::contract::{Draft, at, id, machine, subject, tenant};
use crate::query::InstanceQuery;
use crate::{CommitError, LoadError, Outcome, SqliteOptions, SqliteStore, Store};

/// Does something to a closed file that the file's own rules forbid, by letting it take one index for an empty one.
fn without_index(place: &Place, name: &str, sql: &str) {
    let raw = place.raw();
    let (root, kept): (i64, String) = raw
        .query_row("SELECT rootpage, sql FROM sqlite_schema WHERE name = ?1", [name], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .unwrap();
    raw.execute_batch(&format!(
        "PRAGMA writable_schema = ON; DELETE FROM sqlite_schema WHERE name = '{name}'; PRAGMA writable_schema = RESET;"
    ))
    .unwrap();
    raw.execute_batch(sql).unwrap();
    raw.execute_batch("PRAGMA writable_schema = ON").unwrap();
    raw.execute(
        "INSERT INTO sqlite_schema (type, name, tbl_name, rootpage, sql) VALUES ('index', ?1, 'instances', ?2, ?3)",
        (name, root, kept),
    )
    .unwrap();
    raw.execute_batch("PRAGMA writable_schema = RESET").unwrap();
}

fn filled() -> Place {
    let place = Place::new();
    let store = place.open();
    fill(&store);
    assert_eq!(
        store.commit(&[Draft::creation("b").session("ben", 1).timer(5_000).build()]),
        Ok(vec![Outcome::Committed])
    );
    place
}

/// `instances_by_id` leads to `a` under another row: by its name, the instance would not be there.
#[test]
fn an_index_that_misses_a_record_is_built_anew_from_the_records() {
    let place = filled();
    without_index(&place, "instances_by_id", "UPDATE instances SET id = 'c' WHERE id = 'b'");
    without_index(&place, "instances_by_id", "UPDATE instances SET id = 'b' WHERE id = 'c'");
    without_index(&place, "instances_by_wake_at", "UPDATE instances SET wake_at = 99999 WHERE id = 'b'");
    let store = place.open();
    let notes = store.info().notes;
    assert!(
        notes.iter().any(|note| note.contains("instances_by_wake_at") && note.contains("were built anew")),
        "{notes:?}"
    );
    let b = store.load(&tenant("t"), &id("b")).unwrap().unwrap();
    assert_eq!(store.load_session(&tenant("t"), &machine("order"), &subject("ben")), Ok(Some(b)));
    // The index was not built on the value that was damaged.
    let wake_at: i64 =
        place.raw().query_row("SELECT wake_at FROM instances WHERE id = 'b'", (), |row| row.get(0)).unwrap();
    assert_eq!(wake_at, 5_000);
    drop(store);
    assert_eq!(place.open().info().notes, [""; 0], "once mended, it is whole");
}

#[test]
fn a_record_that_is_damaged_where_it_is_indexed_is_found_by_its_name_and_refused() {
    let place = filled();
    without_index(&place, "instances_by_id", "UPDATE instances SET id = 'z' WHERE id = 'b'");
    for _ in 0..2 {
        let store = place.open();
        let notes = store.info().notes;
        assert!(matches!(&*notes, [note] if note.contains("1 records are damaged")), "{notes:?}");
        // The index still has what the record was; the record is that, or it is refused. It is not nothing.
        assert_ne!(store.load(&tenant("t"), &id("b")), Ok(None));
        assert_eq!(quarantined(&place.raw()).len(), 1);
    }
}

#[test]
fn a_file_that_lost_a_record_is_refused_and_one_that_is_used_already_takes_nothing_for_new() {
    let place = filled();
    without_index(&place, "instances_by_id", "DELETE FROM instances WHERE id = 'b'");
    let told = SqliteStore::open(&place.path()).unwrap_err().to_string();
    assert!(told.contains("instances_by_id leads to row 2 of instances, which is not there"), "{told}");

    let options = SqliteOptions { checked_at_once_max: 0, ..SqliteOptions::default() };
    let store = SqliteStore::open_as(&place.path(), options).unwrap();
    let began = Instant::now();
    while store.broken.get().is_none() {
        assert!(began.elapsed() < Duration::from_secs(60), "{:?}", store.info().notes);
        std::thread::yield_now();
    }
    let t = tenant("t");
    let is_refused = |found: Result<(), LoadError>| {
        let Err(LoadError::Unavailable(why)) = &found else { panic!("{found:?}") };
        assert!(why.contains("records may be missing, so that nothing is saved"), "{why}");
    };
    is_refused(store.load(&t, &id("never was")).map(drop));
    is_refused(store.load_session(&t, &machine("order"), &subject("ben")).map(drop));
    is_refused(store.instances(&InstanceQuery::of(t.clone())).map(drop));
    is_refused(store.history(&log_of(&t)).map(drop));
    assert!(matches!(store.commit(&[Draft::creation("n").build()]), Err(CommitError::Unavailable(_))));
    assert!(store.load(&t, &id("a")).unwrap().is_some(), "what is found is whole, and is given");
}

#[test]
fn a_large_file_that_is_whole_is_looked_at_beside_and_nothing_is_said() {
    let place = filled();
    let options = || SqliteOptions { checked_at_once_max: 0, ..SqliteOptions::default() };
    let store = SqliteStore::open_as(&place.path(), options()).unwrap();
    let began = Instant::now();
    while !store.info().notes.is_empty() {
        assert!(began.elapsed() < Duration::from_secs(60), "{:?}", store.info().notes);
        std::thread::yield_now();
    }
    // Whoever stops at once is not kept waiting for it.
    drop(store);
    drop(SqliteStore::open_as(&place.path(), options()).unwrap());
}

/// How far an effect has come is not under the checksum of what it says.
#[test]
fn the_progress_of_an_effect_is_under_a_checksum_of_its_own() {
    for column in
        ["status", "attempts", "parts_done", "due_at", "error", "provider_id", "stage", "lane", "progress"]
    {
        let place = Place::new();
        let store = place.open();
        assert_eq!(store.commit(&[Draft::creation("a").effect("e").build()]), Ok(vec![Outcome::Committed]));
        let query = crate::EffectQuery::of(tenant("t"));
        assert_eq!(store.effects(&query).unwrap().data.len(), 1);
        flip(&place.raw(), "outbox", column);
        assert_eq!(store.effects(&query).unwrap().data, [], "{column}");
        assert_eq!(quarantined(&place.raw()).len(), 1, "{column}");
        assert_eq!(store.retry_effect(&tenant("t"), "a:1:0", crate::contract::at(1)), Ok(None), "{column}");
    }
}

#[test]
fn a_claim_that_was_damaged_has_ended() {
    for column in ["claimed_until", "claim_check"] {
        let place = Place::new();
        let store = place.open();
        assert_eq!(store.commit(&[Draft::creation("a").timer(2_000).build()]), Ok(vec![Outcome::Committed]));
        let claim = |now| store.claim_due(at(now), at(now + 1_000), 10).unwrap().len();
        assert_eq!((claim(2_000), claim(2_001)), (1, 0));
        let raw = place.raw();
        // Bit 40, the other way round.
        let flipped = format!("({column} | (1 << 40)) - ({column} & (1 << 40))");
        raw.execute_batch(&format!("UPDATE instances SET {column} = {flipped}")).unwrap();
        assert_eq!(store.next_due(), Ok(Some(at(2_000))), "{column}");
        assert_eq!((claim(2_002), claim(2_003)), (1, 0), "{column}");
    }
}
