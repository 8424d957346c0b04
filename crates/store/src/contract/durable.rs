//! What is still there when the store is opened again.

use kernel::flow::PhaseState;
use serde_json::json;

use crate::contract::commits::{clarifications, committed, history, loaded};
use crate::contract::{Draft, Durable, at, definition, id, machine, phase, subject, tenant};
use crate::outbox::{EffectQuery, Settlement, SettlementResult};
use crate::phase::PhaseQuery;
use crate::{Outcome, Setting, Store};

/// Fills a store with one of everything and gives a check that all of it is in another.
fn filled(store: &dyn Store) -> impl Fn(&dyn Store) + use<> {
    let draft = Draft::creation("a").session("ana", 1).timer(2_000);
    let first = draft.asks("a:1").effect("e").phase(phase(0, PhaseState::InProgress)).build();
    let before = first.after.clone().expect("a creation has an after");
    let second = Draft::change(&before).state("second").build();
    let batch = [first, second];
    assert_eq!(store.commit(&batch), Ok(vec![Outcome::Committed; 2]));
    assert_eq!(store.save_definition(&definition("order", 1)), Ok(()));
    let setting = Setting { tenant: tenant("t"), name: "s".into(), body: json!([1]), saved_at: at(1_000) };
    assert_eq!(store.save_setting(&setting), Ok(()));
    let effects = store.effects(&EffectQuery::of(tenant("t")));
    assert_eq!(effects.as_ref().map(|page| page.data.len()), Ok(1));
    let phases = store.phases(&PhaseQuery::of(tenant("t")));
    assert_eq!(phases.as_ref().map(|page| page.data.len()), Ok(1));
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
        assert_eq!(store.settings(), Ok(vec![setting.clone()]));
        assert_eq!(store.effects(&EffectQuery::of(tenant("t"))), effects);
        assert_eq!(store.phases(&PhaseQuery::of(tenant("t"))), phases);
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

/// Whoever sent it may have been killed: that it was being sent is all that is left to tell, and it must not be lost.
pub fn reopening_keeps_effects_that_are_being_sent(harness: &dyn Durable) {
    let store = harness.open();
    committed(&*store, Draft::creation("a").effect("first").effect("second"));
    let claim = |store: &dyn Store, now| {
        let claimed = store.claim_effects(at(now), at(now + 1_000), 10).expect("effects can be claimed");
        let seen = claimed.into_iter().map(|c| (c.effect.effect.key, c.effect.attempts, c.interrupted));
        seen.collect::<Vec<_>>()
    };
    assert_eq!(claim(&*store, 1_000), [("a:1:0".to_owned(), 1, false)]);
    let killed = harness.open_as_if_killed();
    drop(store);
    let reopened = harness.open();
    for store in [killed, reopened] {
        assert_eq!(claim(&*store, 1_999), []);
        assert_eq!(claim(&*store, 2_000), [("a:1:0".to_owned(), 2, true)]);
        let result = SettlementResult::Dead { error: "gone".into(), parts_done: 0 };
        let settlement = Settlement { tenant: tenant("t"), key: "a:1:0".into(), attempt: 2, result };
        assert_eq!(store.settle_effects(&[settlement], at(2_000)), Ok(vec![true]));
        assert_eq!(claim(&*store, 2_000), [("a:1:1".to_owned(), 1, false)]);
    }
}
