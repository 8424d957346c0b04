//! A store in which somebody has lived: instances of every kind, with all that may belong to one.

use std::ops::ControlFlow;

use kernel::commit::Commit;
use kernel::conversation::ClarificationStatus;
use kernel::flow::PhaseState;
use serde_json::json;

use crate::contract::outbox::{claim, delivered, settlement};
use crate::contract::{Draft, at, phase, tenant};
use crate::dossier::Dossier;
use crate::outbox::{DeliveryReport, DeliveryStage, SettlementResult};
use crate::{Outcome, Store};

/// All dossiers of a store, by tenant and id.
pub fn dossiers(store: &dyn Store) -> Vec<Dossier> {
    let mut found = Vec::new();
    let gathered = store.dossiers(&mut |dossier| {
        found.push(dossier);
        ControlFlow::Continue(())
    });
    let gathered = gathered.expect("dossiers can be read");
    assert_eq!((gathered.instances, gathered.corrupt), (found.len() as u64, 0));
    found.sort_by_key(|dossier| (dossier.snapshot.tenant.clone(), dossier.snapshot.instance.clone()));
    found
}

pub(super) fn save(store: &dyn Store, drafts: impl IntoIterator<Item = Draft>) -> Vec<Commit> {
    let commits: Vec<Commit> = drafts.into_iter().map(Draft::build).collect();
    let outcomes = store.commit(&commits);
    assert_eq!(outcomes, Ok(vec![Outcome::Committed; commits.len()]));
    commits
}

/// Fills a store with instances of every kind, and gives the commits that have.
pub fn lived_in(store: &dyn Store) -> Vec<Commit> {
    let mut all = sessions(store);
    all.extend(effects(store));
    all.extend(flows(store));
    all.extend(elsewhere(store));
    all
}

/// One session that is over, and one that is under way: with questions, a refusal, a timer and replies that wait.
pub(super) fn sessions(store: &dyn Store) -> Vec<Commit> {
    let first = Draft::creation("a1").session("ana", 1).asks("a1:1").context("stage", json!("paid"));
    let superseded = ClarificationStatus::Superseded;
    let second = Draft::change(&first.snapshot()).at(2_000).question("a1:1", superseded).effect("bye");
    let second = second.closed("done");
    let next = Draft::creation("a2").session("ana", 2).at(3_000).timer(9_000).effect("one").effect("two");
    let next = next.context("token", json!("x")).context("deep", json!({ "für": [1.5, null] }));
    let answered = ClarificationStatus::Answered;
    let third = Draft::change(&next.snapshot()).at(3_500).question("a2:2", answered);
    let refused = Draft::refusal(&third.snapshot()).at(3_600);
    let asks = Draft::change(&third.snapshot()).at(3_700).asks("a2:3").state("asked").timer(8_000);
    save(store, [first, second, next, third, refused, asks])
}

/// Calls of one instance, one in every status.
fn effects(store: &dyn Store) -> Vec<Commit> {
    let calls = (0..8).fold(Draft::creation("calls").at(1_000), |draft, n| draft.calls(&format!("c{n}")));
    let saved = save(store, [calls]);
    let is_call = |key: &String| key.starts_with("calls:");
    let claimed = claim(store, 1_000, 60_000).into_iter().map(|claimed| claimed.effect.effect.key);
    assert_eq!(claimed.filter(is_call).count(), 8);
    let error = || "so it is".to_owned();
    let results = [
        delivered("p-0"),
        SettlementResult::Retry { at: at(70_000), error: error(), parts_done: 2 },
        SettlementResult::Dead { error: error(), parts_done: 1 },
        SettlementResult::Unknown { error: error(), parts_done: 3 },
        SettlementResult::Cancelled { error: error() },
        SettlementResult::Unaddressed { error: error() },
        SettlementResult::Postponed { at: at(60_500), error: error() },
    ];
    let settlements = (0..).zip(results);
    let settlements: Vec<_> = settlements
        .map(|(n, result): (u32, _)| settlement("t", &format!("calls:1:{n}"), 1, result))
        .collect();
    assert_eq!(store.settle_effects(&settlements, at(5_000)), Ok(vec![true; 7]));
    let report = |stage| DeliveryReport {
        tenant: tenant("t"),
        provider_id: "p-0".to_owned(),
        key: None,
        stage,
        error: None,
    };
    assert_eq!(store.note_stage(&report(DeliveryStage::Read)), Ok(true));
    saved
}

/// A flow with a phase that a worker has and one that any may take, told something by another.
fn flows(store: &dyn Store) -> Vec<Commit> {
    let mut held = phase(0, PhaseState::InProgress);
    (held.lease, held.worker, held.attempts) = (Some("l-1".into()), Some("w".into()), 2);
    let mut offered = phase(1, PhaseState::NotStarted);
    (offered.offered_at, offered.kind) = (Some(at(4_000)), "builder".into());
    let mut failed = phase(2, PhaseState::Failed);
    (failed.error, failed.retries) = (Some("timeout".into()), 1);
    let flow = Draft::creation("f").machine("discovery").tells("g", "begin").tells("g", "go");
    let flow = flow.phase(held).phase(offered).phase(failed);
    let told =
        Draft::creation("g").machine("discovery").phase(phase(0, PhaseState::Completed)).closed("done");
    save(store, [flow, told])
}

/// Other tenants that use the same names, and what is kept beside them.
fn elsewhere(store: &dyn Store) -> Vec<Commit> {
    let of_u = Draft::creation("a1").tenant("u").session("ana", 1).asks("a1:1").effect("hello");
    let shadow = Draft::creation("a1").tenant("t~shadow").session("ana", 1).effect("never").closed("over");
    let receipt = Draft::creation("r").tenant("t~receipts").machine("receipt").timer(50_000);
    save(store, [of_u, shadow, receipt])
}
