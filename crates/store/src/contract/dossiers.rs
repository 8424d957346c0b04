//! What a store gives away of its instances, and what is there when another has taken it in.

use std::ops::ControlFlow;

use kernel::commit::{Commit, Entry};
use kernel::flow::PhaseState;

use crate::contract::commits::{clarifications, committed, history, loaded};
use crate::contract::lived_in::{dossiers, lived_in, save, sessions};
use crate::contract::outbox::{claim, delivered, settlement};
use crate::contract::{Draft, Open, at, id, left_by, machine, phase, subject, tenant};
use crate::dossier::{Dossier, Gathered};
use crate::outbox::{DeliveryReport, DeliveryStage, EffectQuery, EffectStatus};
use crate::phase::{PhaseQuery, WorkerQuery};
use crate::query::InstanceQuery;
use crate::{CommitError, Outcome, Store};

/// A store that has taken in what another has given away.
fn moved(open: Open<'_>) -> (Box<dyn Store>, Box<dyn Store>, Vec<Commit>) {
    let (from, to) = (open(), open());
    let commits = lived_in(&*from);
    assert_eq!(to.take_in(&dossiers(&*from)), Ok(()));
    (from, to, commits)
}

pub fn a_dossier_is_all_of_an_instance(open: Open<'_>) {
    let store = open();
    lived_in(&*store);
    let all = dossiers(&*store);
    let mine = |dossier: &&Dossier| dossier.snapshot.tenant == tenant("t");
    let ids: Vec<String> =
        all.iter().filter(mine).map(|dossier| dossier.snapshot.instance.to_string()).collect();
    assert_eq!(ids, ["a1", "a2", "calls", "f", "g"]);
    assert_eq!(all.len(), 8);
    for dossier in &all {
        let (of, instance) = (&dossier.snapshot.tenant, &dossier.snapshot.instance);
        assert_eq!(loaded(&*store, of, instance).as_ref(), Some(&dossier.snapshot));
        assert_eq!(history(&*store, of, instance), dossier.entries);
        let mut questions = clarifications(&*store, of);
        questions.retain(|question| question.instance == *instance);
        questions.reverse();
        assert_eq!(questions, dossier.clarifications, "{instance}");
        let query = EffectQuery { instance: Some(instance.clone()), ..EffectQuery::of(of.clone()) };
        let mut effects = store.effects(&query).expect("effects can be read").data;
        effects.reverse();
        assert_eq!(effects, dossier.effects);
        let query = PhaseQuery { instance: Some(instance.clone()), ..PhaseQuery::of(of.clone()) };
        let phases = store.phases(&query).expect("phases can be read").data;
        assert_eq!(phases.into_iter().map(|line| line.row).collect::<Vec<_>>(), dossier.phases);
    }
    let calls = &all.iter().find(|dossier| dossier.snapshot.instance == id("calls")).expect("it is there");
    let mut statuses: Vec<EffectStatus> = calls.effects.iter().map(|effect| effect.status).collect();
    statuses.sort_unstable();
    statuses.dedup();
    assert_eq!(statuses, EffectStatus::ALL);
}

pub fn what_was_taken_in_is_given_away_the_same(open: Open<'_>) {
    let (from, to, _) = moved(open);
    assert_eq!(dossiers(&*to), dossiers(&*from));
    // And once more from there.
    let third = open();
    assert_eq!(third.take_in(&dossiers(&*to)), Ok(()));
    assert_eq!(dossiers(&*third), dossiers(&*from));
}

pub fn a_repeat_is_a_duplicate_where_its_instance_was_taken_in(open: Open<'_>) {
    let (_, to, commits) = moved(open);
    for commit in &commits {
        let first = (commit.instance.clone(), commit.entry.clone());
        assert_eq!(left_by(&*to, commit), Ok(Some(first.clone())), "{}", commit.entry.key.as_str());
        let outcome = to.commit(std::slice::from_ref(commit));
        assert_eq!(outcome, Ok(vec![Outcome::Duplicate(Box::new(first))]));
    }
}

pub fn the_next_commit_fits_what_was_taken_in(open: Open<'_>) {
    let (_, to, _) = moved(open);
    for dossier in dossiers(&*to) {
        let before = &dossier.snapshot;
        let next = committed(&*to, Draft::change(before).state("n"));
        assert_eq!(loaded(&*to, &before.tenant, &before.instance), Some(next));
    }
    // Another session of the subject, and none in the place of one that is there.
    let taken = Draft::creation("x").session("ana", 2).key("x");
    assert_eq!(to.commit(&[taken.build()]), Ok(vec![Outcome::Stale]));
    let last = committed(&*to, Draft::creation("a3").session("ana", 3));
    assert_eq!(to.load_session(&tenant("t"), &machine("order"), &subject("ana")), Ok(Some(last)));
}

/// A repeat of a message is looked for in all sessions of its subject, whichever of them came first.
pub fn sessions_of_a_subject_are_taken_in_in_any_order(open: Open<'_>) {
    let (from, to) = (open(), open());
    let commits = sessions(&*from);
    for dossier in dossiers(&*from).into_iter().rev() {
        assert_eq!(to.take_in(&[dossier]), Ok(()));
    }
    let last = loaded(&*to, &tenant("t"), &id("a2")).expect("it was taken in");
    let first = &commits[0].entry;
    let entry = Entry { revision: last.revision.next(), ..first.clone() };
    let repeat = Commit { entry, ..Draft::change(&last).build() };
    let found = Outcome::Duplicate(Box::new((id("a1"), first.clone())));
    assert_eq!(to.commit(&[repeat]), Ok(vec![found]));
}

pub fn what_was_taken_in_comes_due(open: Open<'_>) {
    let (from, to, _) = moved(open);
    assert_eq!(to.next_due(), from.next_due());
    assert_eq!(to.claim_due(at(7_999), at(9_000), 10), Ok(vec![]));
    assert_eq!(to.claim_due(at(8_000), at(60_000), 10), Ok(vec![(tenant("t"), id("a2"))]));
    assert_eq!(to.claim_due(at(50_000), at(60_000), 10), Ok(vec![(tenant("t~receipts"), id("r"))]));
}

/// What a store sends from then on, each as soon as it may be sent.
fn sent(store: &dyn Store) -> Vec<(String, String, u32, bool)> {
    let mut sent = Vec::new();
    for now in (1_000..120_000).step_by(500) {
        for claimed in claim(store, now, now + 1_000) {
            let effect = claimed.effect;
            let (of, key) = (effect.tenant.as_str(), effect.effect.key.as_str());
            sent.push((of.to_owned(), key.to_owned(), effect.attempts, claimed.interrupted));
            let settled = settlement(of, key, effect.attempts, delivered(key));
            assert_eq!(store.settle_effects(&[settled], at(now)), Ok(vec![true]));
        }
    }
    sent
}

pub fn effects_are_claimed_in_the_same_order_where_they_were_taken_in(open: Open<'_>) {
    let (from, to, _) = moved(open);
    assert_eq!(to.next_effect_due(), from.next_effect_due());
    // What is saved afterwards waits for what was taken in, however long it has been due.
    for store in [&from, &to] {
        let before = loaded(&**store, &tenant("t"), &id("a2")).expect("it was taken in");
        committed(&**store, Draft::change(&before).at(1_000).effect("three"));
    }
    // What is due at one time, and of several lanes, may come in either order.
    let sorted = |store: &dyn Store| {
        let mut all = sent(store);
        let in_order: Vec<String> = all.iter().map(|(_, key, ..)| key.clone()).collect();
        all.sort();
        (all, in_order)
    };
    let ((theirs, _), (ours, order)) = (sorted(&*from), sorted(&*to));
    assert_eq!(ours, theirs);
    assert!(ours.contains(&("t".to_owned(), "calls:1:7".to_owned(), 2, true)), "{ours:?}");
    let place = |key: &str| order.iter().position(|sent| sent == key);
    for (first, second) in [("a2:1:0", "a2:1:1"), ("a2:1:1", "a2:4:0"), ("f:1:0", "f:1:1")] {
        assert!(place(first).is_some() && place(first) < place(second), "{order:?}");
    }
    // What has not arrived can be tried again by hand, and what a provider says is heard.
    assert_eq!(to.retry_effect(&tenant("t"), "calls:1:2", at(200_000)), Ok(Some(EffectStatus::Dead)));
    assert_eq!(claim(&*to, 200_000, 300_000)[0].effect.effect.key, "calls:1:2");
    let (key, provider_id) = (None, "a2:1:0".to_owned());
    let (tenant, stage) = (tenant("t"), DeliveryStage::Read);
    let report = DeliveryReport { tenant, provider_id, key, stage, error: None };
    assert_eq!(to.note_stage(&report), Ok(true));
}

pub fn what_was_taken_in_is_listed_and_counted(open: Open<'_>) {
    let (from, to, _) = moved(open);
    assert_eq!(to.statistics(), from.statistics());
    for of in ["t", "u", "t~shadow", "t~receipts"].map(tenant) {
        assert_eq!(clarifications(&*to, &of), clarifications(&*from, &of));
        let query = InstanceQuery::of(of.clone());
        assert_eq!(to.instances(&query), from.instances(&query));
        let worker = Some(WorkerQuery { now: at(4_000), kind: "builder".to_owned() });
        for query in [
            PhaseQuery::of(of.clone()),
            PhaseQuery { for_worker: worker, ..PhaseQuery::of(of.clone()) },
            PhaseQuery { lease: Some("l-1".to_owned()), ..PhaseQuery::of(of.clone()) },
            PhaseQuery { error: Some("timeout".to_owned()), ..PhaseQuery::of(of.clone()) },
        ] {
            assert_eq!(to.phases(&query), from.phases(&query), "{query:?}");
        }
        for statuses in [vec![], vec![EffectStatus::Dead, EffectStatus::Unknown]] {
            let keys = |store: &dyn Store| {
                let query = EffectQuery { statuses: statuses.clone(), ..EffectQuery::of(of.clone()) };
                let effects = store.effects(&query).expect("effects can be read").data;
                effects.into_iter().map(|effect| effect.effect.key).collect::<Vec<_>>()
            };
            assert_eq!(keys(&*to), keys(&*from));
        }
    }
}

pub fn what_was_taken_in_is_cleaned_up_in_its_time(open: Open<'_>) {
    let (from, _, _) = moved(open);
    // What is left of the log of one that is over is nothing, of one that is under way its newest line.
    let clean = |store: &dyn Store| store.clean_up(at(1_500), 3).map(|cleaned| cleaned.entries_deleted);
    assert_eq!(clean(&*from), Ok(3));
    let to = open();
    assert_eq!(to.take_in(&dossiers(&*from)), Ok(()));
    assert_eq!(dossiers(&*to), dossiers(&*from));
    let clean = |store: &dyn Store| store.clean_up(at(900_000), 1_000).expect("it can be cleaned up");
    assert_eq!(clean(&*to), clean(&*from));
    assert_eq!(dossiers(&*to), dossiers(&*from));
}

pub fn an_instance_that_is_there_is_not_taken_in(open: Open<'_>) {
    let (from, to) = (open(), open());
    lived_in(&*from);
    let there = committed(&*to, Draft::creation("calls"));
    let refused = to.take_in(&dossiers(&*from));
    let Err(CommitError::Unavailable(told)) = &refused else { panic!("{refused:?}") };
    assert!(told.contains("`calls`"), "{told}");
    let left: Vec<_> = dossiers(&*to).into_iter().map(|dossier| dossier.snapshot).collect();
    // Several servers save by themselves, and one of them may have.
    let of_t = left.iter().filter(|snapshot| snapshot.tenant == tenant("t")).collect::<Vec<_>>();
    assert_eq!(of_t, [&there]);
    let twice = dossiers(&*from).into_iter().filter(|dossier| dossier.snapshot.instance == id("f"));
    let twice: Vec<Dossier> = twice.flat_map(|dossier| [dossier.clone(), dossier]).collect();
    assert!(to.take_in(&twice).is_err());
    assert_eq!(loaded(&*to, &tenant("t"), &id("f")), None);
}

pub fn nothing_is_taken_in_as_nothing(open: Open<'_>) {
    let store = open();
    assert_eq!(dossiers(&*store), []);
    assert_eq!(store.take_in(&[]), Ok(()));
    assert_eq!(dossiers(&*store), []);
}

pub fn a_visitor_may_have_seen_enough(open: Open<'_>) {
    let store = open();
    lived_in(&*store);
    let mut seen = 0;
    let gathered = store.dossiers(&mut |_| {
        seen += 1;
        if seen == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert!(matches!(gathered, Ok(Gathered { instances: 2, corrupt: 0, .. })), "{gathered:?}");
    assert_eq!(seen, 2);
    committed(&*store, Draft::creation("later"));
}

/// Where all are of one moment, what is saved meanwhile is of a later one.
pub fn commits_go_on_while_a_visitor_takes_its_time(open: Open<'_>) {
    let store = open();
    // More than any backend reads at once.
    let names: Vec<String> = (0..130).map(|number| format!("i{number:03}")).collect();
    let drafts = || names.iter().map(|name| Draft::creation(name).session(name, 1).effect("e"));
    save(&*store, drafts());
    let mut found = Vec::new();
    let gathered = store.dossiers(&mut |dossier| {
        if found.is_empty() {
            let next = drafts().map(|draft| {
                let asked = format!("{}:2", draft.snapshot().instance);
                let next = Draft::change(&draft.snapshot()).state("later").asks(&asked).effect("f");
                next.phase(phase(0, PhaseState::NotStarted))
            });
            save(&*store, next.collect::<Vec<_>>());
            committed(&*store, Draft::creation("new"));
        }
        found.push(dossier);
        ControlFlow::Continue(())
    });
    let gathered = gathered.expect("dossiers can be read");
    found.retain(|dossier| dossier.snapshot.instance != id("new"));
    assert_eq!(found.len(), names.len());
    for Dossier { snapshot, entries, clarifications, phases, effects, .. } in &found {
        let counts = (entries.len(), clarifications.len(), phases.len(), effects.len());
        let expected = if snapshot.revision.0 == 1 { (1, 0, 0, 1) } else { (2, 1, 1, 2) };
        assert_eq!(counts, expected, "each is of one moment: {}", snapshot.instance);
        assert!(!gathered.at_one_moment || snapshot.revision.0 == 1, "{} is of later", snapshot.instance);
    }
}
