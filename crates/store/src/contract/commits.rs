//! What a commit does, and what it leaves alone.

use std::slice::from_ref;

use kernel::commit::{Commit, Entry};
use kernel::conversation::{Clarification, ClarificationStatus};
use kernel::id::{InstanceId, Revision, TenantId};
use kernel::input::ReceiptScope;
use kernel::snapshot::Snapshot;
use serde_json::json;

use crate::contract::lived_in::dossiers;
use crate::contract::{Draft, Open, id, key_of, left_by, tenant};
use crate::query::{ClarificationQuery, HistoryQuery};
use crate::{CommitError, Outcome, Store};

/// Commits a draft that has to succeed, and gives the instance as it is then.
pub(super) fn committed(store: &dyn Store, draft: Draft) -> Snapshot {
    let after = draft.snapshot();
    let outcomes = store.commit(&[draft.build()]);
    assert_eq!(outcomes, Ok(vec![Outcome::Committed]));
    after
}

pub(super) fn loaded(store: &dyn Store, tenant: &TenantId, id: &InstanceId) -> Option<Snapshot> {
    store.load(tenant, id).expect("the instance can be loaded")
}

pub(super) fn history(store: &dyn Store, tenant: &TenantId, id: &InstanceId) -> Vec<Entry> {
    let query = HistoryQuery { limit: 10_000, ..HistoryQuery::of(tenant.clone(), id.clone()) };
    store.history(&query).expect("history can be read").data
}

pub(super) fn clarifications(store: &dyn Store, tenant: &TenantId) -> Vec<Clarification> {
    let query =
        ClarificationQuery { tenant: tenant.clone(), status: None, id: None, cursor: None, limit: 10_000 };
    let page = store.clarifications(&query);
    page.expect("clarifications can be read").data
}

fn effects(store: &dyn Store) -> u64 {
    let figures = store.statistics().expect("statistics can be read");
    figures.effects.values().sum()
}

fn duplicate(of: &Commit) -> Outcome {
    Outcome::Duplicate(Box::new((of.instance.clone(), of.entry.clone())))
}

pub fn stale_commit_writes_nothing(open: Open<'_>) {
    let store = open();
    let first = committed(&*store, Draft::creation("a"));
    let second = committed(&*store, Draft::change(&first).state("second"));
    let late = Draft::change(&first).key("late").state("late");
    let early = Draft::change(&Draft::change(&second).snapshot()).key("early");
    let nowhere = Draft::change(&Draft::creation("b").snapshot()).key("nowhere");
    for draft in [late, early, nowhere] {
        let commit = draft.asks("q").effect("e").build();
        assert_eq!(store.commit(from_ref(&commit)), Ok(vec![Outcome::Stale]));
        assert_eq!(left_by(&*store, &commit), Ok(None));
    }
    assert_eq!(loaded(&*store, &second.tenant, &second.instance), Some(second));
    assert_eq!(loaded(&*store, &tenant("t"), &id("b")), None);
    assert_eq!(history(&*store, &tenant("t"), &id("a")).len(), 2);
    assert_eq!(clarifications(&*store, &tenant("t")), []);
    assert_eq!(effects(&*store), 0);
}

/// Another server has made revision 2 meanwhile. What was decided on our own, unsaved revision 2 must not be saved over
/// it, though its number fits; nor what stands behind a repeat.
pub fn a_commit_on_what_was_not_saved_is_stale(open: Open<'_>) {
    let store = open();
    let first = committed(&*store, Draft::creation("a"));
    let theirs = committed(&*store, Draft::change(&first).key("theirs").state("theirs"));
    let ours = Draft::change(&first).key("ours").state("ours");
    let next = Draft::change(&ours.snapshot()).key("next").state("next");
    let outcomes = store.commit(&[ours.build(), next.build()]);
    assert_eq!(outcomes, Ok(vec![Outcome::Stale, Outcome::Stale]));
    let repeat = Draft::change(&first).key("theirs").state("ours");
    let next = Draft::change(&repeat.snapshot()).key("next").state("next");
    let outcomes = store.commit(&[repeat.build(), next.build()]).expect("the store is there");
    assert!(matches!(outcomes[..], [Outcome::Duplicate(_), Outcome::Stale]), "{outcomes:?}");
    assert_eq!(loaded(&*store, &theirs.tenant, &theirs.instance), Some(theirs));
}

pub fn repeated_key_returns_first_entry(open: Open<'_>) {
    let store = open();
    let first = Draft::change(&committed(&*store, Draft::creation("a"))).key("k");
    let after = first.snapshot();
    let first = first.build();
    let repeat = Draft::change(&after).key("k").state("other").effect("e");
    assert_eq!(store.commit(from_ref(&first)), Ok(vec![Outcome::Committed]));
    assert_eq!(store.commit(&[repeat.build()]), Ok(vec![duplicate(&first)]));
    let found = left_by(&*store, &first);
    assert_eq!(found, Ok(Some((after.instance.clone(), first.entry))));
    assert_eq!(loaded(&*store, &after.tenant, &after.instance), Some(after));
    assert_eq!(effects(&*store), 0);
}

pub fn repeated_key_in_one_batch_is_a_duplicate(open: Open<'_>) {
    let store = open();
    let created = Draft::creation("a").key("new");
    let first = Draft::change(&created.snapshot()).key("k");
    let second = Draft::change(&first.snapshot()).key("k").state("other");
    let (after, created, first) = (first.snapshot(), created.build(), first.build());
    let elsewhere = Draft::creation("b").key("new").build();
    let outcomes = store.commit(&[created.clone(), first.clone(), second.build(), elsewhere]);
    let repeats = [duplicate(&first), duplicate(&created)];
    assert_eq!(outcomes, Ok([vec![Outcome::Committed; 2], repeats.to_vec()].concat()));
    assert_eq!(loaded(&*store, &after.tenant, &after.instance), Some(after));
    assert_eq!(loaded(&*store, &tenant("t"), &id("b")), None);
}

/// Whoever repeats an input has decided on an instance that has moved on, and wants the answer all the same.
pub fn a_repeat_is_a_duplicate_whatever_its_revision(open: Open<'_>) {
    let store = open();
    let created = Draft::creation("a");
    let first = Draft::change(&created.snapshot());
    let (after, created, first) = (first.snapshot(), created.build(), first.build());
    assert_eq!(store.commit(&[created.clone(), first.clone()]), Ok(vec![Outcome::Committed; 2]));
    committed(&*store, Draft::change(&after));
    for repeat in [created, first.clone()] {
        assert_eq!(store.commit(from_ref(&repeat)), Ok(vec![duplicate(&repeat)]));
    }
    let refused = Draft::refusal(&after).key("a-2").build();
    assert_eq!(store.commit(&[refused]), Ok(vec![duplicate(&first)]));
}

/// A message may come again when the session that it belonged to is over, and its subject in the third since.
pub fn a_repeat_is_a_duplicate_in_a_later_session(open: Open<'_>) {
    let store = open();
    let session = |name: &str, ordinal| Draft::creation(name).session("ana", ordinal);
    let first = session("a", 1);
    let last = Draft::change(&first.snapshot()).closed("completed");
    let second = session("b", 2).closed("completed");
    let third = session("c", 3);
    let now = third.snapshot();
    let saved = [first, last, second, third].map(Draft::build);
    for commit in &saved {
        assert_eq!(store.commit(from_ref(commit)), Ok(vec![Outcome::Committed]));
    }
    let ana = ReceiptScope::Subject(super::machine("order"), super::subject("ana"));
    for commit in &saved {
        let key = commit.entry.key.as_str();
        for repeat in [session("d", 4).key(key), Draft::change(&now).key(key)] {
            assert_eq!(store.commit(&[repeat.build()]), Ok(vec![duplicate(commit)]), "{key}");
        }
        let found = Some((commit.instance.clone(), commit.entry.clone()));
        for scope in [ana.clone(), ReceiptScope::Instance(id("a")), ReceiptScope::Instance(id("c"))] {
            assert_eq!(
                store.receipt(&commit.tenant, &scope, commit.entry.receipt),
                Ok(found.clone()),
                "{key}"
            );
        }
    }
    assert_eq!(loaded(&*store, &tenant("t"), &id("d")), None);
    let other = Draft::creation("d").session("ben", 1).key("d").build();
    assert_eq!(store.commit(&[other]), Ok(vec![Outcome::Committed]));
}

/// It is looked for among what makes instances, wherever its own is by then.
pub fn a_repeat_of_what_comes_again_is_a_duplicate(open: Open<'_>) {
    let store = open();
    let first = Draft::creation("a").session("ana", 1).brought_in().closed("completed").key("first");
    let again = Draft::change(&first.snapshot()).brought_in().reopened().timer(5_000).key("second");
    let third = Draft::change(&again.snapshot()).brought_in().closed("withdrawn").no_timer().key("third");
    let fourth = Draft::change(&third.snapshot()).key("fourth");
    let now = fourth.snapshot();
    let saved = [first, again, third, fourth].map(Draft::build);
    for commit in &saved {
        assert_eq!(store.commit(from_ref(commit)), Ok(vec![Outcome::Committed]));
        assert_eq!(loaded(&*store, &commit.tenant, &commit.instance), commit.after);
    }
    let taken_in = open();
    assert_eq!(taken_in.take_in(&dossiers(&*store)), Ok(()));
    for (commit, store) in saved[..3].iter().flat_map(|commit| [(commit, &store), (commit, &taken_in)]) {
        let key = commit.entry.key.as_str();
        let elsewhere = Draft::creation("b").key(key).build();
        for repeat in [commit.clone(), Draft::change(&now).brought_in().key(key).build(), elsewhere] {
            assert_eq!(store.commit(from_ref(&repeat)), Ok(vec![duplicate(commit)]), "{key}");
        }
        let found = store.receipt(&commit.tenant, &ReceiptScope::Creations, commit.entry.receipt);
        assert_eq!(found, Ok(Some((commit.instance.clone(), commit.entry.clone()))), "{key}");
    }
    let scope = ReceiptScope::Instance(id("a"));
    let found = store.receipt(&tenant("t"), &scope, saved[3].entry.receipt);
    assert_eq!(found, Ok(Some((id("a"), saved[3].entry.clone()))));
    assert_eq!(loaded(&*store, &tenant("t"), &id("b")), None);
    assert_eq!(history(&*store, &tenant("t"), &id("a")), saved.map(|commit| commit.entry));
}

pub fn a_commit_is_whole(open: Open<'_>) {
    let store = open();
    let draft = Draft::creation("a").session("ana", 1).timer(5_000);
    let draft = draft.asks("a:1").effect("one").effect("two");
    let (after, commit) = (draft.snapshot(), draft.build());
    assert_eq!(store.commit(from_ref(&commit)), Ok(vec![Outcome::Committed]));
    let t = tenant("t");
    assert_eq!(loaded(&*store, &t, &id("a")), Some(after));
    assert_eq!(history(&*store, &t, &id("a")), from_ref(&commit.entry));
    assert_eq!(left_by(&*store, &commit), Ok(Some((id("a"), commit.entry))));
    assert_eq!(clarifications(&*store, &t), commit.clarifications);
    assert_eq!(effects(&*store), 2);
    let due = store.claim_due(super::at(5_000), super::at(6_000), 10);
    assert_eq!(due, Ok(vec![(t, id("a"))]));
}

pub fn a_batch_keeps_its_good_commits(open: Open<'_>) {
    let store = open();
    let before = committed(&*store, Draft::creation("b"));
    committed(&*store, Draft::change(&before));
    let other = committed(&*store, Draft::creation("d"));
    let repeated = Draft::creation("a").key("b-1");
    let batch = [
        Draft::creation("a").build(),
        Draft::change(&before).key("stale").build(),
        Draft::creation("c").build(),
        repeated.key("a-1").build(),
        Draft::change(&other).state("last").build(),
    ];
    let expected = vec![
        Outcome::Committed,
        Outcome::Stale,
        Outcome::Committed,
        duplicate(&batch[0]),
        Outcome::Committed,
    ];
    assert_eq!(store.commit(&batch), Ok(expected));
    for commit in [&batch[0], &batch[2], &batch[4]] {
        assert_eq!(loaded(&*store, &commit.tenant, &commit.instance), commit.after);
    }
}

pub fn chained_commits_in_one_batch(open: Open<'_>) {
    let store = open();
    let first = Draft::creation("a");
    let second = Draft::change(&first.snapshot()).state("second");
    let refused = Draft::refusal(&second.snapshot());
    let third = Draft::change(&second.snapshot()).state("third");
    let last = third.snapshot();
    let batch = [first, second, refused, third].map(Draft::build);
    assert_eq!(store.commit(&batch), Ok(vec![Outcome::Committed; 4]));
    assert_eq!(loaded(&*store, &last.tenant, &last.instance), Some(last));
    let entries = batch.map(|commit| commit.entry);
    assert_eq!(history(&*store, &tenant("t"), &id("a")), entries);
}

pub fn an_empty_batch_is_nothing(open: Open<'_>) {
    assert_eq!(open().commit(&[]), Ok(vec![]));
}

pub fn refused_input_is_logged_and_changes_nothing(open: Open<'_>) {
    let store = open();
    let before = committed(&*store, Draft::creation("a").timer(9_000));
    let refused = Draft::refusal(&before).at(2_000).key("no").build();
    assert_eq!(store.commit(from_ref(&refused)), Ok(vec![Outcome::Committed]));
    assert_eq!(store.commit(from_ref(&refused)), Ok(vec![duplicate(&refused)]));
    let t = tenant("t");
    assert_eq!(loaded(&*store, &t, &id("a")), Some(before.clone()));
    let logged = history(&*store, &t, &id("a"));
    assert_eq!(logged.last(), Some(&refused.entry));
    committed(&*store, Draft::change(&before));
    let late = Draft::refusal(&before).key("late").build();
    assert_eq!(store.commit(&[late]), Ok(vec![Outcome::Stale]));
    assert_eq!(history(&*store, &t, &id("a")).len(), 3);
}

pub fn a_refusal_of_a_missing_instance_is_stale(open: Open<'_>) {
    let store = open();
    let missing = Draft::refusal(&Draft::creation("a").snapshot()).build();
    let mut unborn = missing.clone();
    unborn.expected = Revision::NONE;
    unborn.entry.revision = Revision::NONE;
    for commit in [missing, unborn] {
        assert_eq!(store.commit(&[commit]), Ok(vec![Outcome::Stale]));
    }
    assert_eq!(history(&*store, &tenant("t"), &id("a")), []);
}

pub fn a_creation_of_an_existing_id_is_stale(open: Open<'_>) {
    let store = open();
    let first = committed(&*store, Draft::creation("a"));
    let again = Draft::creation("a").key("other").state("other").effect("e");
    assert_eq!(store.commit(&[again.build()]), Ok(vec![Outcome::Stale]));
    assert_eq!(loaded(&*store, &first.tenant, &first.instance), Some(first));
    assert_eq!(effects(&*store), 0);
}

pub fn second_session_of_same_ordinal_is_stale(open: Open<'_>) {
    let store = open();
    committed(&*store, Draft::creation("a").session("ana", 1));
    let second = Draft::creation("b").session("ana", 1);
    let in_batch =
        [Draft::creation("c").session("ana", 2).build(), Draft::creation("d").session("ana", 2).build()];
    assert_eq!(store.commit(&[second.build()]), Ok(vec![Outcome::Stale]));
    assert_eq!(store.commit(&in_batch), Ok(vec![Outcome::Committed, Outcome::Stale]));
    let other = Draft::creation("e").session("ana", 1).machine("other");
    committed(&*store, other);
    committed(&*store, Draft::creation("f").session("ben", 1));
    assert_eq!(loaded(&*store, &tenant("t"), &id("b")), None);
}

pub fn instances_that_are_no_sessions_do_not_collide(open: Open<'_>) {
    let store = open();
    for name in ["a", "b"] {
        committed(&*store, Draft::creation(name).session("ana", 0));
    }
}

/// A session is found by its subject; one that changed it would be lost or found twice.
pub fn an_instance_keeps_its_subject(open: Open<'_>) {
    let store = open();
    let before = committed(&*store, Draft::creation("a").session("ana", 1));
    for draft in [
        Draft::change(&before).session("ben", 1),
        Draft::change(&before).session("ana", 2),
        Draft::change(&before).machine("other"),
    ] {
        refused_whole(&*store, &[draft.build()]);
    }
    assert_eq!(loaded(&*store, &before.tenant, &before.instance), Some(before));
}

fn refused_whole(store: &dyn Store, batch: &[Commit]) {
    let outcome = store.commit(batch);
    let Err(CommitError::Unavailable(detail)) = outcome else {
        panic!("expected the batch to be refused as a whole, got {outcome:?}");
    };
    assert!(!detail.is_empty());
}

pub fn one_pending_clarification_per_session(open: Open<'_>) {
    let store = open();
    let draft = Draft::creation("a").session("ana", 1).asks("a:1");
    let before = committed(&*store, draft);
    let saved = clarifications(&*store, &tenant("t"));
    refused_whole(&*store, &[Draft::change(&before).asks("a:2").build()]);
    let both = Draft::creation("b").session("ben", 1).asks("b:1").asks("b:2");
    refused_whole(&*store, &[both.build()]);
    assert_eq!(clarifications(&*store, &tenant("t")), saved);
    assert_eq!(loaded(&*store, &before.tenant, &before.instance), Some(before));
    committed(&*store, Draft::creation("c").session("ana", 2).asks("c:1"));
}

pub fn a_failing_batch_saves_nothing_of_itself(open: Open<'_>) {
    let store = open();
    let asked = Draft::creation("a").session("ana", 1).asks("a:1").timer(5_000);
    let before = committed(&*store, asked);
    let figures = store.statistics();
    let answered = Draft::change(&before).state("answered").no_timer();
    let answered = answered.question("a:1", ClarificationStatus::Answered);
    let again = Draft::change(&answered.snapshot()).asks("a:3").asks("a:4");
    let batch = [
        Draft::creation("b").session("ben", 1).effect("e").build(),
        answered.effect("e").build(),
        again.build(),
    ];
    refused_whole(&*store, &batch);
    let t = tenant("t");
    assert_eq!(loaded(&*store, &t, &id("a")), Some(before));
    assert_eq!(loaded(&*store, &t, &id("b")), None);
    assert_eq!(store.load_session(&t, &super::machine("order"), &super::subject("ben")), Ok(None));
    assert_eq!(history(&*store, &t, &id("a")).len(), 1);
    assert_eq!(store.statistics(), figures);
    assert_eq!(store.next_due(), Ok(Some(super::at(5_000))));
    for commit in &batch[..2] {
        assert_eq!(left_by(&*store, commit), Ok(None));
    }
    assert_eq!(store.commit(&batch[..2]), Ok(vec![Outcome::Committed, Outcome::Committed]));
}

/// A backend may share a large batch among several who save it: nobody is to notice.
pub fn a_large_batch_has_the_outcomes_of_small_ones(open: Open<'_>) {
    const EACH: usize = 30;
    let store = open();
    let named = |what: &str| (0..EACH).map(|number| format!("{what}-{number:02}")).collect::<Vec<_>>();
    let there = named("there").into_iter().map(|name| Draft::creation(&name).session(&name, 1));
    let there: Vec<Snapshot> = there.map(|draft| committed(&*store, draft)).collect();
    let left = named("left").into_iter().map(|name| {
        let before = committed(&*store, Draft::creation(&name));
        committed(&*store, Draft::change(&before));
        before
    });
    let left: Vec<Snapshot> = left.collect();
    let (mut batch, mut expected) = (Vec::new(), Vec::new());
    for ((before, left), new) in there.iter().zip(&left).zip(named("new")) {
        let next = Draft::change(before).state("next").asks(&format!("{}:2", before.instance));
        let last = Draft::change(&next.snapshot()).state("last").effect("e");
        let stale = Draft::change(left).key(&format!("stale {new}"));
        let first = Draft::creation(&new).session(&new, 1);
        let second = Draft::creation(&format!("{new}-again")).session(&new, 1);
        let repeat = Draft::creation(&format!("{new}-repeat")).session(before.instance.as_str(), 2);
        let repeat = repeat.key(&format!("{}-1", before.instance));
        for (draft, outcome) in [
            (next, Some(Outcome::Committed)),
            (first, Some(Outcome::Committed)),
            (last, Some(Outcome::Committed)),
            (stale, Some(Outcome::Stale)),
            (second, Some(Outcome::Stale)),
            (repeat, None),
        ] {
            batch.push(draft.build());
            expected.push(outcome);
        }
    }
    let outcomes = store.commit(&batch).expect("the batch is saved");
    for ((commit, outcome), expected) in batch.iter().zip(outcomes).zip(expected) {
        match expected {
            Some(expected) => assert_eq!(outcome, expected, "{}", commit.entry.key),
            None => assert!(matches!(outcome, Outcome::Duplicate(_)), "{outcome:?}"),
        }
        if outcome == Outcome::Committed {
            let receipt = left_by(&*store, commit);
            assert_eq!(receipt, Ok(Some((commit.instance.clone(), commit.entry.clone()))));
        }
    }
    for (before, new) in there.iter().zip(named("new")) {
        let t = &before.tenant;
        assert_eq!(loaded(&*store, t, &before.instance).map(|after| after.state()), Some("last".into()));
        let revisions: Vec<_> = history(&*store, t, &before.instance).iter().map(|e| e.revision.0).collect();
        assert_eq!(revisions, [1, 2, 3]);
        let session = store.load_session(t, &super::machine("order"), &super::subject(&new));
        assert_eq!(session.map(|found| found.map(|s| s.instance)), Ok(Some(id(&new))));
    }
}

/// Anything within the default limit may be saved; this is not. A backend may not be asked with it, and need not be.
pub fn what_is_too_large_is_refused_alone(open: Open<'_>) {
    let store = open();
    let before = committed(&*store, Draft::creation("a"));
    let large = Draft::change(&before).key("large").context("text", json!("x".repeat(5 << 20)));
    let next = Draft::change(&large.snapshot()).key("next").context("text", json!("short"));
    let deep = (0..600).fold(json!(null), |inner, _| json!([inner]));
    let deep = Draft::creation("c").context("deep", deep);
    let batch = [large.build(), next.build(), Draft::creation("b").build(), deep.build()];
    let outcomes = store.commit(&batch).expect("the rest is saved");
    let [Outcome::TooLarge(large), Outcome::Stale, Outcome::Committed, Outcome::TooLarge(deep)] =
        &outcomes[..]
    else {
        panic!("{outcomes:?}")
    };
    assert!(large.starts_with("the instance `a` has 5"), "{large}");
    assert!(large.ends_with(" bytes; 4194304 are allowed"), "{large}");
    let expected = "the instance `c`: the record is nested 602 levels deep; 512 are allowed";
    assert_eq!(deep, expected);
    assert_eq!(loaded(&*store, &before.tenant, &before.instance), Some(before));
    for refused in [0, 1, 3] {
        assert_eq!(left_by(&*store, &batch[refused]), Ok(None));
    }
}

pub fn a_question_may_replace_another_in_one_commit(open: Open<'_>) {
    let store = open();
    let before = committed(&*store, Draft::creation("a").session("ana", 1).asks("a:1"));
    let replaced =
        Draft::change(&before).at(2_000).asks("a:2").question("a:1", ClarificationStatus::Superseded);
    committed(&*store, replaced);
    let statuses = clarifications(&*store, &tenant("t"));
    let mut statuses: Vec<_> = statuses.iter().map(|c| (&*c.id, c.status)).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [("a:1", ClarificationStatus::Superseded), ("a:2", ClarificationStatus::Pending)]);
}

pub fn a_second_expired_clarification_of_the_same_user_is_saved(open: Open<'_>) {
    let store = open();
    let mut session = committed(&*store, Draft::creation("a").session("ana", 1));
    for question in ["first", "second"] {
        session = committed(&*store, Draft::change(&session).asks(question));
        let expired = Draft::change(&session).question(question, ClarificationStatus::Expired);
        session = committed(&*store, expired);
    }
    let statuses: Vec<_> = clarifications(&*store, &tenant("t")).iter().map(|c| c.status).collect();
    assert_eq!(statuses, [ClarificationStatus::Expired; 2]);
}

pub fn concurrent_writers_lose_nothing(open: Open<'_>) {
    const WRITERS: u64 = 8;
    const COMMITS_EACH: u64 = 25;
    let store = open();
    let first = committed(&*store, Draft::creation("a"));
    let (t, a) = (&first.tenant, &first.instance);
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let store = &*store;
            scope.spawn(move || {
                for number in 0..COMMITS_EACH {
                    commit_with_retries(store, t, a, &format!("{writer}/{number}"));
                }
            });
        }
    });
    let last = loaded(&*store, t, a).expect("the instance is there");
    assert_eq!(last.revision, Revision(1 + WRITERS * COMMITS_EACH));
    let revisions: Vec<_> = history(&*store, t, a).iter().map(|e| e.revision.0).collect();
    let expected: Vec<u64> = (1..=last.revision.0).collect();
    assert_eq!(revisions, expected);
    for writer in 0..WRITERS {
        for number in 0..COMMITS_EACH {
            let receipt = key_of(t, &format!("{writer}/{number}"));
            let found = store.receipt(t, &ReceiptScope::Instance(a.clone()), receipt);
            assert_ne!(found, Ok(None), "{writer}/{number}");
        }
    }
}

fn commit_with_retries(store: &dyn Store, tenant: &TenantId, id: &InstanceId, key: &str) {
    loop {
        let before = loaded(store, tenant, id).expect("the instance is there");
        let outcomes = store.commit(&[Draft::change(&before).key(key).build()]);
        match outcomes.expect("the store is available").as_slice() {
            [Outcome::Committed] => return,
            [Outcome::Stale] => {}
            other => panic!("a new key is committed or stale, got {other:?}"),
        }
    }
}
