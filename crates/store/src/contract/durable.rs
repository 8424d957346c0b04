//! What is still there when the store is opened again.

use crate::contract::commits::{clarifications, committed, history, loaded};
use crate::contract::{Draft, Durable, at, definition, id, machine, subject, tenant};
use crate::{Outcome, Store};

/// Fills a store with one of everything and gives a check that all of it is in another.
fn filled(store: &dyn Store) -> impl Fn(&dyn Store) + use<> {
    let draft = Draft::creation("a").session("ana", 1).timer(2_000);
    let first = draft.asks("a:1").effect("e").build();
    let before = first.after.clone().expect("a creation has an after");
    let second = Draft::change(&before).state("second").build();
    let batch = [first, second];
    assert_eq!(store.commit(&batch), Ok(vec![Outcome::Committed; 2]));
    assert_eq!(store.save_definition(&definition("order", 1)), Ok(()));
    let figures = store.statistics();
    move |store| {
        let (t, a) = (tenant("t"), id("a"));
        let after = batch[1].after.clone();
        assert_eq!(loaded(store, &t, &a), after);
        assert_eq!(store.load_session(&t, &machine("order"), &subject("ana")), Ok(after));
        let entries = batch.each_ref().map(|commit| commit.entry.clone());
        assert_eq!(history(store, &t, &a), entries);
        assert_eq!(clarifications(store, &t), batch[0].clarifications);
        assert_eq!(store.definitions(), Ok(vec![definition("order", 1)]));
        assert_eq!(store.statistics(), figures);
        assert_eq!(store.next_due(), Ok(Some(at(2_000))));
        for commit in &batch {
            let repeat = Outcome::Duplicate(Box::new((a.clone(), commit.entry.clone())));
            assert_eq!(store.commit(std::slice::from_ref(commit)), Ok(vec![repeat]));
        }
    }
}

pub fn reopening_finds_everything(harness: &dyn Durable) {
    let store = harness.open();
    let check = filled(&*store);
    check(&*store);
    drop(store);
    let store = harness.open();
    check(&*store);
    committed(&*store, Draft::creation("b"));
}

pub fn reopening_after_a_kill(harness: &dyn Durable) {
    let store = harness.open();
    let check = filled(&*store);
    check(&*harness.open_as_if_killed());
    for number in 0..50 {
        let name = format!("more-{number}");
        let after = committed(&*store, Draft::creation(&name));
        if number % 10 == 0 {
            let found = harness.open_as_if_killed();
            let found = loaded(&*found, &after.tenant, &after.instance);
            assert_eq!(found, Some(after));
        }
    }
}

/// A lease is kept by whoever outlives the store, so it ends by time and not by a restart.
pub fn reopening_keeps_claims(harness: &dyn Durable) {
    let store = harness.open();
    committed(&*store, Draft::creation("a").timer(2_000));
    let claim = |store: &dyn Store, now| store.claim_due(at(now), at(5_000), 10);
    let due = Ok(vec![(tenant("t"), id("a"))]);
    assert_eq!(claim(&*store, 2_000), due);
    drop(store);
    let store = harness.open();
    assert_eq!(claim(&*store, 4_999), Ok(vec![]));
    assert_eq!(claim(&*store, 5_000), due);
}
