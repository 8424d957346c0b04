//! Receipts are found within a lineage, and only there, also in a file that had none.

use kernel::input::{ReceiptId, ReceiptScope};
use rusqlite::{Connection, params};

use super::{Place, assert_corrupt, fill, quarantined};
use crate::contract::{Draft, id, key_of, machine, subject, tenant};
use crate::seal::{LOG, LOG_OF_STEP_4};
use crate::sqlite::lineage::without_lineage;
use crate::{Outcome, Store};

#[test]
fn a_repeat_does_not_pass_because_its_lineage_is_damaged() {
    for damage in ["lineage = 7", "lineage_check = ~7", "lineage = 7, lineage_check = 7"] {
        let place = Place::new();
        let store = place.open();
        fill(&store);
        let raw = place.raw();
        raw.execute_batch(&format!("UPDATE instances SET {damage} WHERE id = 'a'")).unwrap();
        let t = tenant("t");
        let now = store.load(&t, &id("a")).unwrap().unwrap();
        let repeat = Draft::change(&now).key("a-1").build();
        assert_eq!(store.commit(&[repeat]), Ok(vec![Outcome::Stale]), "{damage}");
        let scope = ReceiptScope::Instance(id("a"));
        assert_corrupt(store.receipt(&t, &scope, key_of(&t, "a-1")), "instances t/a");
        assert_eq!(quarantined(&raw).len(), 1, "{damage}");
    }
}

/// As the program before lineages would have left it.
fn take_back(raw: &Connection) {
    let mut select = raw.prepare(&LOG.select(&[])).unwrap();
    let mut rows = select.query(()).unwrap();
    let mut lines: Vec<(i64, i64)> = Vec::new();
    while let Some(row) = rows.next().unwrap() {
        let cells = LOG.cells(row).unwrap();
        lines.push((row.get("seq").unwrap(), LOG_OF_STEP_4.checksum(&without_lineage(&cells))));
    }
    for (seq, checksum) in lines {
        raw.execute("UPDATE log SET checksum = ?2 WHERE seq = ?1", params![seq, checksum]).unwrap();
    }
    raw.execute_batch(
        "DROP INDEX log_by_receipt;
         ALTER TABLE log DROP COLUMN lineage;
         ALTER TABLE instances DROP COLUMN lineage_check;
         ALTER TABLE instances DROP COLUMN lineage;
         CREATE UNIQUE INDEX log_by_receipt ON log (receipt);
         PRAGMA user_version = 4;",
    )
    .unwrap();
}

#[test]
fn a_file_without_lineages_is_given_them() {
    let place = Place::new();
    let store = place.open();
    let (t, order) = (tenant("t"), machine("order"));
    let mut created = Draft::creation("a").build();
    created.entry.receipt = ReceiptId::of_creation(&t, &order, &created.entry.key);
    let first = Draft::creation("b").session("ana", 1).closed("completed");
    let later = Draft::creation("c").session("ana", 2);
    let damaged = Draft::creation("d").session("ben", 1);
    let batch = [created, first.build(), later.build(), damaged.build()];
    assert_eq!(store.commit(&batch), Ok(vec![Outcome::Committed; 4]));
    drop(store);
    let raw = place.raw();
    take_back(&raw);
    raw.execute_batch("UPDATE log SET body = replace(body, 'go', 'no') WHERE instance = 'd'").unwrap();
    drop(raw);
    let store = place.open();
    let of = |name| ReceiptScope::Subject(order.clone(), subject(name));
    let scopes = [ReceiptScope::Creations, of("ana"), of("ana")];
    for (commit, scope) in batch.iter().zip(&scopes) {
        let found = store.receipt(&t, scope, commit.entry.receipt);
        assert_eq!(found, Ok(Some((commit.instance.clone(), commit.entry.clone()))));
    }
    assert_corrupt(store.receipt(&t, &of("ben"), batch[3].entry.receipt), "log t/d");
    let next = Draft::creation("e").session("ana", 3).key("b-1").build();
    let outcomes = store.commit(&[next]).unwrap();
    assert!(matches!(outcomes[..], [Outcome::Duplicate(_)]), "{outcomes:?}");
}
