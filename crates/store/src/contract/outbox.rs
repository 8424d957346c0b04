//! Who is given an effect, in which order, and what becomes of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use kernel::commit::{Effect, EffectKind};
use kernel::conversation::{Address, Reply};
use kernel::id::Revision;

use crate::contract::commits::committed;
use crate::contract::{Draft, Open, at, id, machine, subject, tenant};
use crate::outbox::{ClaimedEffect, EffectQuery, EffectStatus, OutboxEffect, Settlement, SettlementResult};
use crate::{CleanupReport, CommitError, Store};

pub(super) fn claim(store: &dyn Store, now: i64, lease_until: i64) -> Vec<ClaimedEffect> {
    claim_some(store, now, lease_until, 100)
}

fn claim_some(store: &dyn Store, now: i64, lease_until: i64, limit: usize) -> Vec<ClaimedEffect> {
    store.claim_effects(at(now), at(lease_until), limit).expect("effects can be claimed")
}

/// What is claimed at `now`, until much later, by keys.
pub(super) fn claimed_keys(store: &dyn Store, now: i64) -> Vec<String> {
    let claimed = claim(store, now, now + 900_000);
    claimed.into_iter().map(|claimed| claimed.effect.effect.key).collect()
}

const NONE: [&str; 0] = [];

pub(super) fn settlement(of: &str, key: &str, attempt: u32, result: SettlementResult) -> Settlement {
    Settlement { tenant: tenant(of), key: key.to_owned(), attempt, result }
}

/// How the first attempt of an effect of the tenant `t` has ended.
pub(super) fn settle(store: &dyn Store, key: &str, result: SettlementResult, now: i64) {
    let settled = store.settle_effects(&[settlement("t", key, 1, result)], at(now));
    assert_eq!(settled, Ok(vec![true]), "{key}");
}

pub(super) fn delivered(provider_id: &str) -> SettlementResult {
    SettlementResult::Delivered { provider_id: Some(provider_id.to_owned()) }
}

fn dead() -> SettlementResult {
    SettlementResult::Dead { error: "gone".to_owned(), parts_done: 0 }
}

fn retry_at(ms: i64) -> SettlementResult {
    SettlementResult::Retry { at: at(ms), error: "busy".to_owned(), parts_done: 0 }
}

/// Every way in which an attempt is the last one, with what the effect is then.
fn endings() -> [(SettlementResult, EffectStatus); 6] {
    let error = || "so it is".to_owned();
    [
        (delivered("p-1"), EffectStatus::Delivered),
        (SettlementResult::Delivered { provider_id: None }, EffectStatus::Delivered),
        (SettlementResult::Dead { error: error(), parts_done: 3 }, EffectStatus::Dead),
        (SettlementResult::Unknown { error: error(), parts_done: 3 }, EffectStatus::Unknown),
        (SettlementResult::Cancelled { error: error() }, EffectStatus::Cancelled),
        (SettlementResult::Unaddressed { error: error() }, EffectStatus::Unaddressed),
    ]
}

fn list(store: &dyn Store, query: &EffectQuery) -> Vec<OutboxEffect> {
    store.effects(query).expect("effects can be listed").data
}

pub(super) fn found(store: &dyn Store, of: &str, key: &str) -> OutboxEffect {
    let query = EffectQuery { key: Some(key.to_owned()), ..EffectQuery::of(tenant(of)) };
    let mut effects = list(store, &query);
    assert_eq!(effects.len(), 1, "{key} of {of}");
    effects.remove(0)
}

fn next_due(store: &dyn Store) -> Option<i64> {
    let due = store.next_effect_due().expect("the next effect can be looked up");
    due.map(|due| due.as_millis())
}

pub fn an_effect_is_saved_pending_and_due_at_once(open: Open<'_>) {
    let store = open();
    let session = Draft::creation("a:b").tenant("u").machine("invoice").session("ana", 2).at(1_500);
    committed(&*store, session.effect("«été»").calls("charge"));
    let kind = EffectKind::Reply(Reply::of_text("«été»"));
    let saved = found(&*store, "u", "a:b:1:0");
    let expected = OutboxEffect {
        seq: saved.seq,
        tenant: tenant("u"),
        instance: id("a:b"),
        machine: machine("invoice"),
        subject: Some(subject("ana")),
        effect: Effect::new(&id("a:b"), Revision(1), 0, kind),
        status: EffectStatus::Pending,
        attempts: 0,
        parts_done: 0,
        created_at: at(1_500),
        due_at: Some(at(1_500)),
        error: None,
        provider_id: None,
        stage: None,
        settled_at: None,
    };
    assert_eq!(saved, expected);
    let call = found(&*store, "u", "a:b:1:1");
    assert!(matches!(&call.effect.kind, EffectKind::Call { id, .. } if id == "charge"), "{call:?}");
    assert!(call.seq > saved.seq);
    let nobody = committed(&*store, Draft::creation("c").effect("e"));
    assert_eq!((nobody.subject, found(&*store, "t", "c:1:0").subject), (None, None));
}

pub fn an_effect_is_saved_once(open: Open<'_>) {
    let store = open();
    let first = committed(&*store, Draft::creation("a").effect("e"));
    let mut again = Draft::change(&first).effect("e").build();
    again.effects[0].key = "a:1:0".to_owned();
    let refused = store.commit(&[Draft::creation("b").effect("e").build(), again]);
    assert!(matches!(refused, Err(CommitError::Unavailable(_))), "{refused:?}");
    assert_eq!(list(&*store, &EffectQuery::of(tenant("t"))).len(), 1);
    // What was taken back has left its lane and its name free.
    committed(&*store, Draft::creation("b").effect("e"));
    assert_eq!(claimed_keys(&*store, 1_000), ["a:1:0", "b:1:0"]);
}

pub fn a_claimed_effect_is_being_sent_until_its_lease_ends(open: Open<'_>) {
    let store = open();
    committed(&*store, Draft::creation("a").effect("e"));
    let saved = found(&*store, "t", "a:1:0");
    let expected =
        OutboxEffect { status: EffectStatus::Sending, attempts: 1, due_at: Some(at(5_000)), ..saved };
    let claimed = ClaimedEffect { effect: expected.clone(), interrupted: false };
    assert_eq!(claim(&*store, 1_000, 5_000), [claimed]);
    assert_eq!(found(&*store, "t", "a:1:0"), expected);
    assert_eq!(next_due(&*store), Some(5_000));
    assert_eq!(claimed_keys(&*store, 4_999), NONE);
}

pub fn an_expired_claim_is_interrupted(open: Open<'_>) {
    let store = open();
    committed(&*store, Draft::creation("a").effect("first").effect("second"));
    claim(&*store, 1_000, 5_000);
    let again = claim(&*store, 5_000, 9_000);
    let seen: Vec<_> = again.iter().map(|c| (&*c.effect.effect.key, c.effect.attempts)).collect();
    assert_eq!((seen, again[0].interrupted), (vec![("a:1:0", 2)], true));
    // One that was put off was not interrupted.
    let put_off = settlement("t", "a:1:0", 2, retry_at(6_000));
    assert_eq!(store.settle_effects(&[put_off], at(5_500)), Ok(vec![true]));
    let third = claim(&*store, 6_000, 9_000);
    assert_eq!((third[0].effect.attempts, third[0].interrupted), (3, false));
}

pub fn the_longest_due_effect_is_claimed_first(open: Open<'_>) {
    let store = open();
    for (name, of, ms) in [("a", "t", 3_000), ("b", "other", 1_500), ("c", "t", 2_000), ("d", "t", 1_000)] {
        committed(&*store, Draft::creation(name).tenant(of).at(ms).effect("e"));
    }
    committed(&*store, Draft::creation("e").at(1_500).effect("as long as b, and saved later"));
    let keys = |claimed: Vec<ClaimedEffect>| -> Vec<String> {
        claimed.into_iter().map(|claimed| claimed.effect.effect.key).collect()
    };
    assert_eq!(keys(claim_some(&*store, 5_000, 9_000, 0)), NONE);
    assert_eq!(keys(claim_some(&*store, 5_000, 9_000, 2)), ["d:1:0", "b:1:0"]);
    assert_eq!(keys(claim_some(&*store, 5_000, 9_000, 9)), ["e:1:0", "c:1:0", "a:1:0"]);
}

pub fn no_two_claimers_are_given_the_same_effect(open: Open<'_>) {
    let store = open();
    for number in 0..40 {
        committed(&*store, Draft::creation(&format!("i{number}")).effect("e").calls("c"));
    }
    let claim_all = || {
        let mut all = Vec::new();
        loop {
            let claimed = claim_some(&*store, 1_000, 9_000, 3);
            if claimed.is_empty() {
                return all;
            }
            all.extend(claimed.into_iter().map(|claimed| claimed.effect.effect.key));
        }
    };
    let mut keys: Vec<String> = std::thread::scope(|scope| {
        let claimers: Vec<_> = (0..4).map(|_| scope.spawn(claim_all)).collect();
        claimers.into_iter().flat_map(|claimer| claimer.join().expect("no claimer fails")).collect()
    });
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), 80);
    assert!(list(&*store, &EffectQuery::of(tenant("t"))).iter().all(|effect| effect.attempts == 1));
}

pub fn replies_to_an_instance_are_claimed_one_after_the_other(open: Open<'_>) {
    let store = open();
    let first = Draft::creation("a").at(3_000).effect("first").effect("second");
    // Decided by a clock that is behind: the order of saving counts.
    let third = Draft::change(&first.snapshot()).at(1_000).effect("third");
    let of_others = [Draft::creation("b").effect("e"), Draft::creation("a").tenant("u").effect("e")];
    let [b, namesake] = of_others;
    let batch = [first, third, b, namesake].map(Draft::build);
    store.commit(&batch).expect("the store is there");
    assert_eq!(claimed_keys(&*store, 2_000), ["b:1:0", "a:1:0"], "the namesake's, not ours");
    for key in ["a:1:0", "a:1:1", "a:2:0"] {
        assert_eq!(claimed_keys(&*store, 9_000), [key]);
        assert_eq!(claimed_keys(&*store, 9_000), NONE);
        settle(&*store, key, delivered(key), 9_000);
    }
    assert_eq!(claimed_keys(&*store, 9_000), NONE);
}

pub fn a_lane_waits_for_the_retry_of_its_first(open: Open<'_>) {
    let store = open();
    let before = committed(&*store, Draft::creation("a").effect("first").effect("second"));
    assert_eq!(claimed_keys(&*store, 1_000), ["a:1:0"]);
    settle(&*store, "a:1:0", retry_at(8_000), 1_000);
    committed(&*store, Draft::change(&before).effect("third"));
    assert_eq!(claimed_keys(&*store, 7_999), NONE);
    assert_eq!(next_due(&*store), Some(8_000), "not when those behind it would be due");
    assert_eq!(claimed_keys(&*store, 8_000), ["a:1:0"]);
}

pub fn a_person_does_not_wait_for_a_host(open: Open<'_>) {
    let store = open();
    let mut commit =
        Draft::creation("a").effect("to the host").effect("to the person").effect("more").build();
    let (channel, account, user) = ("meta".to_owned(), "1".to_owned(), "2".to_owned());
    let address = Arc::new(Address { channel, account, user });
    commit.effects[1].to = Some(Arc::clone(&address));
    store.commit(&[commit]).expect("the store is there");
    assert_eq!(claimed_keys(&*store, 1_000), ["a:1:0", "a:1:1"]);
    settle(&*store, "a:1:0", retry_at(8_000), 1_000);
    settle(&*store, "a:1:1", delivered("p"), 1_000);
    assert_eq!(claimed_keys(&*store, 7_999), NONE);
    assert_eq!(claimed_keys(&*store, 8_000), ["a:1:0"]);
}

pub fn calls_wait_for_nobody_and_nobody_for_them(open: Open<'_>) {
    let store = open();
    let draft = Draft::creation("a").effect("first").calls("x").calls("y").effect("second");
    committed(&*store, draft);
    assert_eq!(claimed_keys(&*store, 1_000), ["a:1:0", "a:1:1", "a:1:2"]);
    settle(&*store, "a:1:1", retry_at(8_000), 1_000);
    settle(&*store, "a:1:0", delivered("p"), 1_000);
    assert_eq!(claimed_keys(&*store, 1_000), ["a:1:3"]);
    assert_eq!(claimed_keys(&*store, 8_000), ["a:1:1"]);
}

pub fn flows_are_told_one_thing_after_the_other(open: Open<'_>) {
    let store = open();
    let draft = Draft::creation("a").effect("reply").tells("a.b", "pause").calls("x").tells("a.b", "resume");
    committed(&*store, draft);
    let of_another = Draft::creation("c").tells("a.b", "pause");
    committed(&*store, of_another);
    assert_eq!(claimed_keys(&*store, 1_000), ["a:1:0", "a:1:1", "a:1:2", "c:1:0"]);
    settle(&*store, "a:1:1", retry_at(8_000), 1_000);
    assert_eq!(claimed_keys(&*store, 7_999), NONE);
    assert_eq!(claimed_keys(&*store, 8_000), ["a:1:1"]);
    let told = settlement("t", "a:1:1", 2, delivered("p"));
    assert_eq!(store.settle_effects(&[told], at(8_000)), Ok(vec![true]));
    assert_eq!(claimed_keys(&*store, 8_000), ["a:1:3"]);
}

pub fn whatever_ends_an_effect_lets_the_next_go(open: Open<'_>) {
    for (result, status) in endings() {
        let store = open();
        committed(&*store, Draft::creation("a").effect("first").effect("second"));
        claim(&*store, 1_000, 9_000);
        settle(&*store, "a:1:0", result.clone(), 2_000);
        let ended = found(&*store, "t", "a:1:0");
        assert_eq!((ended.status, ended.due_at, ended.settled_at), (status, None, Some(at(2_000))));
        let (provider_id, error) = match result {
            SettlementResult::Delivered { provider_id } => (provider_id, None),
            _ => (None, Some("so it is".to_owned())),
        };
        assert_eq!((ended.provider_id, ended.error), (provider_id, error));
        assert_eq!(claimed_keys(&*store, 2_000), ["a:1:1"], "{status:?}");
    }
}

pub fn a_retry_keeps_what_is_known(open: Open<'_>) {
    let store = open();
    committed(&*store, Draft::creation("a").effect("e"));
    claim(&*store, 1_000, 9_000);
    let result = SettlementResult::Retry { at: at(4_000), error: "503".to_owned(), parts_done: 2 };
    settle(&*store, "a:1:0", result, 2_000);
    let waiting = found(&*store, "t", "a:1:0");
    assert_eq!((waiting.status, waiting.attempts), (EffectStatus::Pending, 1));
    assert_eq!((waiting.due_at, waiting.settled_at), (Some(at(4_000)), None));
    assert_eq!((waiting.error.as_deref(), waiting.parts_done), (Some("503"), 2));
    let again = claim(&*store, 4_000, 9_000).remove(0).effect;
    assert_eq!((again.attempts, again.parts_done), (2, 2));
    let settled = settlement("t", "a:1:0", 2, delivered("p"));
    assert_eq!(store.settle_effects(&[settled], at(5_000)), Ok(vec![true]));
    let arrived = found(&*store, "t", "a:1:0");
    assert_eq!((arrived.error.as_deref(), arrived.parts_done), (Some("503"), 2));
}

pub fn a_settlement_of_another_attempt_is_refused(open: Open<'_>) {
    let store = open();
    for name in ["a", "b"] {
        committed(&*store, Draft::creation(name).effect("e"));
    }
    let too_early = settlement("t", "a:1:0", 0, delivered("p"));
    assert_eq!(store.settle_effects(&[too_early], at(1_000)), Ok(vec![false]), "it is not claimed");
    claim_some(&*store, 1_000, 2_000, 1);
    claim(&*store, 3_000, 9_000);
    let before = found(&*store, "t", "a:1:0");
    assert_eq!(before.attempts, 2);
    let all = [
        settlement("t", "a:1:0", 1, delivered("late")),
        settlement("t", "a:1:0", 3, delivered("early")),
        settlement("u", "a:1:0", 2, delivered("another tenant")),
        settlement("t", "a:1:7", 1, delivered("nothing")),
        settlement("t", "b:1:0", 1, delivered("good")),
        settlement("t", "b:1:0", 1, dead()),
    ];
    let settled = store.settle_effects(&all, at(4_000));
    assert_eq!(settled, Ok(vec![false, false, false, false, true, false]));
    assert_eq!(found(&*store, "t", "a:1:0"), before);
    let b = found(&*store, "t", "b:1:0");
    assert_eq!((b.status, b.provider_id.as_deref()), (EffectStatus::Delivered, Some("good")));
    assert_eq!(store.settle_effects(&[], at(4_000)), Ok(vec![]));
    // The claim has ended, but nobody else has it: what is said of it is still true.
    let late = settlement("t", "a:1:0", 2, delivered("p"));
    assert_eq!(store.settle_effects(&[late], at(99_000)), Ok(vec![true]));
}

pub fn what_did_not_arrive_can_be_retried(open: Open<'_>) {
    for (result, status) in endings() {
        let store = open();
        committed(&*store, Draft::creation("a").effect("e"));
        claim(&*store, 1_000, 9_000);
        let put_off = SettlementResult::Retry { at: at(1_000), error: "503".to_owned(), parts_done: 2 };
        settle(&*store, "a:1:0", put_off, 1_000);
        claim(&*store, 1_000, 9_000);
        let ended = settlement("t", "a:1:0", 2, result);
        assert_eq!(store.settle_effects(&[ended], at(2_000)), Ok(vec![true]));
        let before = found(&*store, "t", "a:1:0");
        let retry = || store.retry_effect(&tenant("t"), "a:1:0", at(7_000));
        assert_eq!(retry(), Ok(Some(status)));
        let after = found(&*store, "t", "a:1:0");
        if [EffectStatus::Delivered, EffectStatus::Cancelled].contains(&status) {
            assert_eq!(after, before);
            continue;
        }
        let expected = OutboxEffect {
            status: EffectStatus::Pending,
            attempts: 0,
            due_at: Some(at(7_000)),
            settled_at: None,
            provider_id: None,
            ..before
        };
        let parts_done = if status == EffectStatus::Unaddressed { 2 } else { 3 };
        assert_eq!((&after, after.parts_done), (&expected, parts_done));
        assert_eq!((next_due(&*store), retry()), (Some(7_000), Ok(Some(EffectStatus::Pending))));
        let again = claim(&*store, 7_000, 9_000);
        assert_eq!((again[0].effect.attempts, again[0].interrupted), (1, false));
        assert_eq!(retry(), Ok(Some(EffectStatus::Sending)));
        assert_eq!(found(&*store, "t", "a:1:0"), again[0].effect);
    }
    let store = open();
    committed(&*store, Draft::creation("a").effect("e"));
    for (of, key) in [("u", "a:1:0"), ("t", "a:1:1")] {
        assert_eq!(store.retry_effect(&tenant(of), key, at(7_000)), Ok(None));
    }
}

pub fn a_retried_effect_takes_its_old_place(open: Open<'_>) {
    let store = open();
    committed(&*store, Draft::creation("a").effect("first").effect("second").effect("third"));
    for key in ["a:1:0", "a:1:1"] {
        assert_eq!(claimed_keys(&*store, 1_000), [key]);
        settle(&*store, key, dead(), 1_000);
    }
    // The third is being sent when the second comes back: that one goes at once, and the third only after it.
    assert_eq!(claim(&*store, 1_000, 5_000)[0].effect.effect.key, "a:1:2");
    let retry = |key| store.retry_effect(&tenant("t"), key, at(2_000));
    assert_eq!(retry("a:1:1"), Ok(Some(EffectStatus::Dead)));
    assert_eq!(retry("a:1:0"), Ok(Some(EffectStatus::Dead)));
    assert_eq!(next_due(&*store), Some(2_000));
    let third = settlement("t", "a:1:2", 1, retry_at(1_500));
    assert_eq!(store.settle_effects(&[third], at(2_000)), Ok(vec![true]));
    for key in ["a:1:0", "a:1:1"] {
        assert_eq!(claimed_keys(&*store, 6_000), [key]);
        settle(&*store, key, delivered(key), 6_000);
    }
    assert_eq!(claimed_keys(&*store, 6_000), ["a:1:2"]);
}

pub fn next_effect_due_is_never_too_late(open: Open<'_>) {
    let store = open();
    assert_eq!(next_due(&*store), None);
    committed(&*store, Draft::creation("a").at(5_000).effect("first").effect("second"));
    committed(&*store, Draft::creation("b").at(3_000).effect("e"));
    committed(&*store, Draft::creation("c").at(4_000).calls("e"));
    let mut seen = Vec::new();
    while let Some(due) = next_due(&*store) {
        assert_eq!(claimed_keys(&*store, due - 1), NONE);
        for claimed in claim(&*store, due, due + 500) {
            let effect = claimed.effect;
            // The first attempt is never heard of again, the second is put off, the third is the last.
            let result = match effect.attempts {
                1 => None,
                2 => Some(retry_at(due + 1_000)),
                _ => Some(delivered("p")),
            };
            let settlements: Vec<_> = result
                .map(|result| settlement("t", &effect.effect.key, effect.attempts, result))
                .into_iter()
                .collect();
            let settled = store.settle_effects(&settlements, at(due));
            assert_eq!(settled, Ok(vec![true; settlements.len()]));
            seen.push((effect.effect.key, due));
        }
        assert!(seen.len() < 100, "it goes on for ever: {seen:?}");
    }
    let expected = [
        ("b:1:0", 3_000),
        ("b:1:0", 3_500),
        ("c:1:0", 4_000),
        ("b:1:0", 4_500),
        ("c:1:0", 4_500),
        ("a:1:0", 5_000),
        ("a:1:0", 5_500),
        ("c:1:0", 5_500),
        ("a:1:0", 6_500),
        // Due since 5,000; its turn comes now.
        ("a:1:1", 5_000),
        ("a:1:1", 5_500),
        ("a:1:1", 6_500),
    ];
    let mut expected = expected.map(|(key, ms)| (key.to_owned(), ms));
    expected.sort();
    seen.sort();
    assert_eq!(seen, expected);
}

pub fn effects_filter_and_page(open: Open<'_>) {
    let store = open();
    let first = committed(&*store, Draft::creation("a").at(9_000).effect("0").calls("1"));
    committed(&*store, Draft::creation("a:1").effect("of an instance with a longer name"));
    committed(&*store, Draft::creation("a").tenant("u").effect("of another tenant"));
    committed(&*store, Draft::change(&first).effect("2"));
    claim_some(&*store, 1_000, 99_000, 1);
    settle(&*store, "a:1:1:0", dead(), 1_000);
    let keys = |query: &EffectQuery| -> Vec<String> {
        list(&*store, query).into_iter().map(|effect| effect.effect.key).collect()
    };
    let all = || EffectQuery::of(tenant("t"));
    let everything = ["a:2:0", "a:1:1:0", "a:1:1", "a:1:0"];
    assert_eq!(keys(&all()), everything);
    assert_eq!(keys(&EffectQuery { instance: Some(id("a")), ..all() }), ["a:2:0", "a:1:1", "a:1:0"]);
    let dead = || EffectQuery { statuses: vec![EffectStatus::Unknown, EffectStatus::Dead], ..all() };
    assert_eq!(keys(&dead()), ["a:1:1:0"]);
    assert_eq!(keys(&EffectQuery { instance: Some(id("a")), ..dead() }), NONE);
    let one = |key: &str| EffectQuery { key: Some(key.to_owned()), ..all() };
    assert_eq!(keys(&one("a:1:1")), ["a:1:1"]);
    assert_eq!(keys(&EffectQuery { instance: Some(id("a:1")), ..one("a:1:1") }), NONE);
    assert_eq!(keys(&EffectQuery { statuses: vec![EffectStatus::Dead], ..one("a:1:1") }), NONE);

    let (mut paged, mut sizes, mut query) = (Vec::new(), Vec::new(), EffectQuery { limit: 3, ..all() });
    loop {
        let page = store.effects(&query).expect("effects can be listed");
        sizes.push(page.data.len());
        paged.extend(page.data.into_iter().map(|effect| effect.effect.key));
        query.cursor = page.next;
        if query.cursor.is_none() {
            break;
        }
    }
    assert_eq!((sizes, paged), (vec![3, 1], everything.map(str::to_owned).to_vec()));
    let lost = EffectQuery { cursor: Some("no cursor of ours".to_owned()), ..all() };
    assert_eq!(keys(&lost), NONE);
}

pub fn effects_are_counted_by_status(open: Open<'_>) {
    let store = open();
    for (number, (result, _)) in endings().into_iter().enumerate() {
        let name = format!("i{number}");
        committed(&*store, Draft::creation(&name).effect("e"));
        claim(&*store, 1_000, 9_000);
        settle(&*store, &format!("{name}:1:0"), result, 1_000);
    }
    committed(&*store, Draft::creation("sent").effect("e"));
    claim(&*store, 1_000, 9_000);
    committed(&*store, Draft::creation("waiting").tenant("u").effect("e").effect("e").calls("c"));
    let expected = [
        ("pending", 3),
        ("sending", 1),
        ("delivered", 2),
        ("cancelled", 1),
        ("unaddressed", 1),
        ("dead", 1),
        ("unknown", 1),
    ];
    let figures = store.statistics().expect("the store answers");
    assert_eq!(figures.effects, BTreeMap::from(expected));
}

pub fn clean_up_deletes_settled_effects(open: Open<'_>) {
    let store = open();
    let first = committed(&*store, Draft::creation("a").effect("0").effect("1").effect("2"));
    committed(&*store, Draft::creation("b").effect("sent").effect("waits").calls("waits too"));
    for (key, ms) in [("a:1:0", 2_000), ("a:1:1", 3_000), ("a:1:2", 4_000)] {
        claim(&*store, ms, 99_000);
        settle(&*store, key, if ms == 3_000 { dead() } else { delivered(key) }, ms);
    }
    let report = |entries_deleted, effects_deleted, more| {
        let instances_deleted = 0;
        Ok(CleanupReport { entries_deleted, effects_deleted, instances_deleted, more })
    };
    assert_eq!(store.clean_up(at(2_000), 10), report(0, 0, false));
    assert_eq!(store.clean_up(at(9_000), 1), report(0, 1, true));
    let left = || -> Vec<String> {
        let effects = list(&*store, &EffectQuery::of(tenant("t")));
        effects.into_iter().map(|effect| effect.effect.key).collect()
    };
    assert_eq!(left(), ["b:1:2", "b:1:1", "b:1:0", "a:1:2", "a:1:1"], "the longest settled goes first");
    committed(&*store, Draft::change(&first).effect("later"));
    assert_eq!(store.clean_up(at(4_000), 2), report(1, 1, true), "entries and effects have one limit");
    assert_eq!(store.clean_up(at(9_000), 2), report(0, 1, false));
    assert_eq!(left(), ["a:2:0", "b:1:2", "b:1:1", "b:1:0"], "whatever is not settled stays");
    assert_eq!(store.retry_effect(&tenant("t"), "a:1:1", at(9_000)), Ok(None));
    assert_eq!(claimed_keys(&*store, 9_000), ["a:2:0"]);
}

pub fn tenants_may_use_the_same_effect_keys(open: Open<'_>) {
    let store = open();
    for of in ["t", "u"] {
        committed(&*store, Draft::creation("a").tenant(of).effect("e"));
    }
    assert_eq!(claimed_keys(&*store, 1_000), ["a:1:0", "a:1:0"]);
    settle(&*store, "a:1:0", dead(), 2_000);
    let status = |of| found(&*store, of, "a:1:0").status;
    assert_eq!((status("t"), status("u")), (EffectStatus::Dead, EffectStatus::Sending));
    assert_eq!(store.retry_effect(&tenant("u"), "a:1:0", at(3_000)), Ok(Some(EffectStatus::Sending)));
    assert_eq!((status("t"), status("u")), (EffectStatus::Dead, EffectStatus::Sending));
}
