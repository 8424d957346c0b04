//! What others do to the file while a server has it.

use super::{Place, fill};
use crate::contract::{Draft, id, tenant};
use crate::{CommitError, Outcome, Store};

#[test]
fn what_somebody_else_writes_is_noticed_once_it_is_there_and_not_before() {
    let place = Place::new();
    let store = place.open();
    fill(&store);
    for name in ["b", "c", "d"] {
        assert_eq!(store.commit(&[Draft::creation(name).build()]), Ok(vec![Outcome::Committed]));
    }
    assert_eq!(store.info().notes, [""; 0]);
    let raw = place.raw();
    raw.execute_batch("PRAGMA wal_checkpoint(PASSIVE); SELECT count(*) FROM log").unwrap();
    assert_eq!(store.commit(&[Draft::creation("e").build()]), Ok(vec![Outcome::Committed]));
    assert_eq!(store.info().notes, [""; 0], "who reads has written nothing");

    raw.execute_batch("UPDATE instances SET revision = 7 WHERE id = 'b'").unwrap();
    // A line with the number that is next here: it must not be given twice.
    raw.execute_batch(
        "INSERT INTO log SELECT seq + 1, owner, tenant, instance, revision, at, randomblob(16), checksum, body, lineage
         FROM log ORDER BY seq DESC LIMIT 1",
    )
    .unwrap();
    assert_eq!(store.commit(&[Draft::creation("f").build()]), Ok(vec![Outcome::Committed]));
    let notes = store.info().notes;
    assert!(matches!(&*notes, [note] if note.starts_with("somebody else has written to ")), "{notes:?}");
}

#[test]
fn nothing_is_saved_to_a_file_that_has_lost_its_name() {
    for gone in ["statewright.db", "statewright.db-wal"] {
        let place = Place::new();
        let store = place.open();
        fill(&store);
        let load = |store: &dyn Store| store.load(&tenant("t"), &id("a"));
        assert!(load(&store).unwrap().is_some());
        let (path, away) = (place.directory.path().join(gone), place.directory.path().join("away"));
        std::fs::rename(&path, &away).unwrap();
        let batch = [Draft::creation("b").build()];
        for replaced in [false, true] {
            if replaced {
                std::fs::copy(&away, &path).unwrap();
            }
            let refused = store.commit(&batch);
            let Err(CommitError::Unavailable(why)) = &refused else { panic!("{gone}: {refused:?}") };
            let expected = format!(
                "{} was moved, replaced or deleted under the running server; put it back, or start again",
                path.canonicalize()
                    .unwrap_or(place.directory.path().canonicalize().unwrap().join(gone))
                    .display()
            );
            assert_eq!(*why, expected);
            assert_eq!(store.info().notes, [expected]);
        }
        // Who read before reads on; nobody else begins to read what has taken its place.
        assert!(load(&store).unwrap().is_some());
        assert!(matches!(store.readers.open(), Err(error) if error.to_string().contains("was moved")));
        std::fs::rename(&away, &path).unwrap();
        assert_eq!(store.commit(&batch), Ok(vec![Outcome::Committed]));
        assert_eq!(store.info().notes, [""; 0]);
    }
}
