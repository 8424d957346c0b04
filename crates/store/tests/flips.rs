//! Single bits flipped in a closed file: no wrong answer, no record that is silently not there, no panic.
//!
//! Each flip gets a copy of one file, which is opened and asked for everything. An answer is what it was, or an error; a
//! list may leave out what is in quarantine. `STATEWRIGHT_FLIPS` says how many, for `cargo xtask flips`.

#![allow(clippy::unwrap_used, reason = "what cannot be had fails the test, also outside of its function")]

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::time::Instant;

use kernel::conversation::ClarificationStatus;
use kernel::flow::PhaseState;
use kernel::input::ReceiptScope;
use serde_json::json;
use store::contract::{Draft, at, definition, id, key_of, machine, phase, subject, tenant};
use store::{
    ClarificationQuery, EffectQuery, HistoryQuery, InstanceQuery, Outcome, PhaseQuery, Setting, Settlement,
    SettlementResult, SqliteStore, Store, WorkerQuery,
};
use tempfile::TempDir;

const INSTANCES: usize = 80;

fn name(number: usize) -> String {
    // In no order, so that indices have inner pages with keys from everywhere.
    format!("instance-{:03}-{number}", number * 37 % INSTANCES)
}

fn fill(store: &dyn Store) {
    for number in 0..INSTANCES {
        let draft = Draft::creation(&name(number)).context("note", json!("été ".repeat(number % 30)));
        let draft = if number % 3 == 0 { draft } else { draft.session(&format!("person-{number}"), 1) };
        let mut draft =
            draft.tenant(if number % 7 == 0 { "other" } else { "t" }).effect("hello").effect("again");
        if number % 4 == 0 {
            draft = draft.timer(2_000 + number as i64);
        }
        if number % 5 == 0 {
            draft = draft.question(&format!("q-{number}"), ClarificationStatus::Pending);
        }
        if number % 8 == 0 {
            for place in 0..3 {
                let mut row = phase(place, PhaseState::InProgress);
                row.offered_at = (place > 0).then(|| at(1_500));
                row.retries = place.into();
                draft = draft.phase(row);
            }
        }
        let mut next = draft.snapshot();
        let mut batch = vec![draft.build()];
        for step in 1..(number % 5) {
            let change = Draft::change(&next).state(&format!("state{step}")).at(1_000 + step as i64);
            let change = if step == 3 { change.closed("completed") } else { change };
            next = change.snapshot();
            batch.push(change.build());
        }
        assert_eq!(store.commit(&batch), Ok(vec![Outcome::Committed; batch.len()]));
    }
    for number in 0..3 {
        store.save_definition(&definition("order", number)).unwrap();
        let name = format!("setting-{number}");
        let setting = Setting { tenant: tenant("t"), name, body: json!([number]), saved_at: at(1_000) };
        store.save_setting(&setting).unwrap();
    }
    let claimed = store.claim_effects(at(1_500), at(3_000), 40).unwrap();
    let settle = |number: usize, claimed: &store::ClaimedEffect| Settlement {
        tenant: claimed.effect.tenant.clone(),
        key: claimed.effect.effect.key.clone(),
        attempt: claimed.effect.attempts,
        result: match number % 3 {
            0 => SettlementResult::Delivered { provider_id: Some(format!("provider-{number}")) },
            1 => SettlementResult::Dead { error: "no such number".into(), parts_done: 0 },
            _ => SettlementResult::Retry { at: at(4_000), error: "busy".into(), parts_done: 0 },
        },
    };
    let settlements: Vec<_> = claimed.iter().take(25).enumerate().map(|(n, c)| settle(n, c)).collect();
    store.settle_effects(&settlements, at(1_600)).unwrap();
    store.claim_due(at(2_060), at(4_500), 12).unwrap();
    // Leaves pages that are free.
    store.clean_up(at(1_003), 60).unwrap();
}

/// Every question with its answer: one record each, or a list. An error is no answer.
type Answers = BTreeMap<String, Option<Vec<String>>>;

fn ask(store: &dyn Store) -> Answers {
    let mut answers = Answers::new();
    fn one<T: Debug, E>(answer: Result<Option<T>, E>) -> Option<Vec<String>> {
        answer.ok().map(|found| vec![format!("{found:?}")])
    }
    fn list<T: Debug, E>(answer: Result<Vec<T>, E>) -> Option<Vec<String>> {
        answer.ok().map(|all| all.iter().map(|each| format!("{each:?}")).collect())
    }
    let tenants = [tenant("t"), tenant("other")];
    for t in &tenants {
        for number in 0..INSTANCES {
            let name = name(number);
            answers.insert(format!("load {t} {name}"), one(store.load(t, &id(&name))));
            let person = subject(&format!("person-{number}"));
            let session = store.load_session(t, &machine("order"), &person);
            answers.insert(format!("session {t} {number}"), one(session));
            for revision in 1..5 {
                let scope = match revision {
                    1 if number % 3 == 0 => ReceiptScope::Creations,
                    _ => ReceiptScope::Instance(id(&name)),
                };
                let receipt = store.receipt(t, &scope, key_of(t, &format!("{name}-{revision}")));
                answers.insert(format!("receipt {t} {name} {revision}"), one(receipt));
            }
            let query = HistoryQuery { limit: 100, ..HistoryQuery::of(t.clone(), id(&name)) };
            answers.insert(
                format!("list history {t} {name}"),
                list(store.history(&query).map(|page| page.data)),
            );
        }
        let all = InstanceQuery { limit: 1_000, ..InstanceQuery::of(t.clone()) };
        let open = InstanceQuery { closed: Some(false), ..all.clone() };
        let due = InstanceQuery { due_before: Some(at(9_000)), ..all.clone() };
        for (what, query) in [("all", all), ("open", open), ("due", due)] {
            answers.insert(format!("list {what} {t}"), list(store.instances(&query).map(|page| page.data)));
        }
        let query =
            ClarificationQuery { tenant: t.clone(), status: None, id: None, cursor: None, limit: 1_000 };
        answers
            .insert(format!("list questions {t}"), list(store.clarifications(&query).map(|page| page.data)));
        let query = EffectQuery { limit: 1_000, ..EffectQuery::of(t.clone()) };
        answers.insert(format!("list effects {t}"), list(store.effects(&query).map(|page| page.data)));
        let all = PhaseQuery { limit: 1_000, ..PhaseQuery::of(t.clone()) };
        let worker = WorkerQuery { now: at(9_000), kind: String::new() };
        let offered = PhaseQuery { for_worker: Some(worker), ..all.clone() };
        let retried = PhaseQuery { min_retries: Some(1), ..all.clone() };
        for (what, query) in [("all", all), ("offered", offered), ("retried", retried)] {
            answers
                .insert(format!("list phases {what} {t}"), list(store.phases(&query).map(|page| page.data)));
        }
    }
    answers.insert("list definitions".into(), list(store.definitions()));
    answers.insert("list settings".into(), list(store.settings()));
    // Last, because they change it.
    for now in [3_500, 9_000] {
        answers.insert(format!("list claims {now}"), list(store.claim_due(at(now), at(now + 500), 1_000)));
        let effects = store.claim_effects(at(now), at(now + 500), 1_000);
        answers.insert(format!("list claimed effects {now}"), list(effects));
    }
    answers
}

#[derive(Debug, Default, PartialEq, Eq, PartialOrd, Ord, Clone, Copy)]
enum Fate {
    /// Not used, or mended.
    #[default]
    Unnoticed,
    /// Some answers were errors, or left out what is in quarantine.
    Found,
    Refused,
    Wrong,
}

/// How the file fared, and in what.
fn judge(path: &Path, expected: &Answers, usual: &[String]) -> (Fate, String) {
    let store = match SqliteStore::open(path) {
        Ok(store) => store,
        Err(error) => return (Fate::Refused, error.to_string()),
    };
    let found = ask(&store);
    let known = store.statistics().map_or(true, |figures| figures.quarantined > 0);
    let (mut fate, mut detail) = (Fate::Unnoticed, String::new());
    for (question, expected) in expected {
        let expected = expected.as_ref().expect("a whole file answers everything");
        let Some(found) = &found[question] else {
            fate = fate.max(Fate::Found);
            continue;
        };
        if found == expected {
            continue;
        }
        let is_list = question.starts_with("list ");
        // Whoever waits behind what is damaged gets its turn. A claim that is damaged has ended: who is given its instance
        // besides finds it at another revision.
        let may_gain = question.starts_with("list claimed effects") && known;
        let is_claim = question == "list claims 3500";
        let gained = found.iter().find(|each| !expected.contains(each)).filter(|_| !may_gain && !is_claim);
        let is_complete = expected.iter().all(|each| found.contains(each));
        if is_list && gained.is_none() && (known || (is_claim && is_complete)) {
            fate = fate.max(Fate::Found);
            continue;
        }
        let lost = expected.iter().find(|each| !found.contains(each));
        return (
            Fate::Wrong,
            format!("{question}: gained {gained:?}, lost {lost:?}; notes {:?}", store.info().notes),
        );
    }
    if fate == Fate::Unnoticed && store.info().notes != usual {
        (fate, detail) = (Fate::Found, store.info().notes.join("; "));
    }
    (fate, detail)
}

/// The numbers of xorshift64*: the same in every run.
fn dice(state: &mut u64) -> u64 {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    state.wrapping_mul(0x2545_F491_4F6C_DD1D)
}

#[test]
fn a_flipped_bit_is_never_served_and_makes_nothing_disappear() {
    let flips = std::env::var("STATEWRIGHT_FLIPS").ok().and_then(|text| text.parse().ok()).unwrap_or(60);
    // Nothing here is to survive, and there is much to flush.
    let directory = TempDir::new_in("/dev/shm").or_else(|_| TempDir::new()).unwrap();
    let path = directory.path().join("original.db");
    fill(&SqliteStore::open(&path).unwrap());
    let bytes = std::fs::read(&path).unwrap();
    let copy = directory.path().join("copy.db");
    std::fs::write(&copy, &bytes).unwrap();
    let original = SqliteStore::open(&copy).unwrap();
    let (expected, usual) = (ask(&original), original.info().notes);
    let mut state =
        std::env::var("STATEWRIGHT_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(20_261_120);
    let (mut fates, mut wrong) = (BTreeMap::<Fate, usize>::new(), Vec::new());
    let (began, mut slowest) = (Instant::now(), 0.0_f64);
    for flip in 0..flips {
        // One in ten in the header and the schema behind it, which are little of the file and decide much.
        let within = if flip % 10 == 0 { 120 } else { bytes.len() as u64 };
        let (byte, bit) = ((dice(&mut state) % within) as usize, dice(&mut state) % 8);
        let copy = directory.path().join(format!("{flip}.db"));
        let mut flipped = bytes.clone();
        flipped[byte] ^= 1 << bit;
        std::fs::write(&copy, flipped).unwrap();
        let asked_at = Instant::now();
        let judged = std::panic::catch_unwind(AssertUnwindSafe(|| judge(&copy, &expected, &usual)));
        slowest = slowest.max(asked_at.elapsed().as_secs_f64());
        let (fate, detail) = judged.unwrap_or((Fate::Wrong, "a panic".to_owned()));
        let place = format!("byte {} of page {}, bit {bit}", byte % 4_096, byte / 4_096 + 1);
        if flips > 100 && fate == Fate::Refused {
            println!("{place}: {detail}");
        }
        if fate == Fate::Wrong {
            wrong.push(format!("{place}: {detail}"));
        }
        *fates.entry(fate).or_default() += 1;
        for suffix in ["", "-wal", "-shm", ".lock"] {
            let _ = std::fs::remove_file(format!("{}{suffix}", copy.display()));
        }
    }
    println!(
        "{flips} flips in {} pages: {fates:?} in {:.0} s, the slowest {slowest:.2} s",
        bytes.len() / 4_096,
        began.elapsed().as_secs_f64()
    );
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}
