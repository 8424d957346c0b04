//! A store that fails at the commit: what was saved is found out, and what was not is said.

use std::fmt;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use engine::{EngineError, Settings};
use kernel::commit::{Commit, Entry};
use kernel::conversation::Clarification;
use kernel::id::{InstanceId, MachineName, Revision, Subject, TenantId};
use kernel::input::{ReceiptId, ReceiptScope};
use kernel::snapshot::Snapshot;
use kernel::time::Timestamp;
use serde_json::json;
use store::{
    ClaimedEffect, ClarificationQuery, CleanupReport, CommitError, DeliveryReport, Dossier, EffectQuery,
    EffectStatus, Gathered, HistoryQuery, InstanceQuery, LoadError, MemoryStore, OutboxEffect, Outcome, Page,
    PhaseLine, PhaseQuery, Setting, Settlement, SqliteStore, StandingAt, Standings, Store, StoreInfo,
    StoreStatistics, StoredDefinition,
};
use tempfile::TempDir;

use crate::world::{World, at_once, delay, event, revision, says, start, tenant};

type Committed = Result<Vec<Outcome>, CommitError>;
/// Given the number of the call, from 1, and the means to save.
type Behaviour = dyn Fn(usize, &[Commit], &dyn Store) -> Committed + Send + Sync;

/// A memory store with a `commit` of the test's own, and an outbox that fails when it is told to.
pub struct Wrapped {
    inner: MemoryStore,
    calls: AtomicUsize,
    /// So many of the next claims, and settlements, fail.
    claims_to_fail: AtomicUsize,
    settlements_to_fail: AtomicUsize,
    claims: AtomicUsize,
    settlements_failed: AtomicUsize,
    writers: AtomicUsize,
    behaviour: Box<Behaviour>,
    counts: AtomicUsize,
    before_count: OnceLock<Box<dyn Fn(usize) + Send + Sync>>,
}

impl Wrapped {
    pub fn new(
        behaviour: impl Fn(usize, &[Commit], &dyn Store) -> Committed + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self {
            inner: MemoryStore::new(),
            calls: AtomicUsize::new(0),
            claims_to_fail: AtomicUsize::new(0),
            settlements_to_fail: AtomicUsize::new(0),
            claims: AtomicUsize::new(0),
            settlements_failed: AtomicUsize::new(0),
            writers: AtomicUsize::new(1),
            behaviour: Box::new(behaviour),
            counts: AtomicUsize::new(0),
            before_count: OnceLock::new(),
        })
    }

    /// What happens before it counts what it holds, given the number of the call, from 1.
    pub fn before_count(&self, run: impl Fn(usize) + Send + Sync + 'static) {
        assert!(self.before_count.set(Box::new(run)).is_ok());
    }

    /// How often it was asked to count what it holds.
    pub fn counts(&self) -> usize {
        self.counts.load(Ordering::SeqCst)
    }

    pub fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    /// How many batches an engine that begins from now on saves at one time.
    pub fn save_at_once(&self, writers: usize) {
        self.writers.store(writers, Ordering::SeqCst);
    }

    pub fn fail_claims(&self, count: usize) {
        self.claims_to_fail.store(count, Ordering::SeqCst);
    }

    pub fn fail_settlements(&self, count: usize) {
        self.settlements_to_fail.store(count, Ordering::SeqCst);
    }

    /// How often effects were asked for.
    pub fn claims(&self) -> usize {
        self.claims.load(Ordering::SeqCst)
    }

    pub fn until_claims(&self, count: usize) {
        until(|| self.claims() >= count);
    }

    pub fn until_settlements_failed(&self, count: usize) {
        until(|| self.settlements_failed.load(Ordering::SeqCst) >= count);
    }
}

fn until(holds: impl Fn() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(20), "the store was not asked often enough");
        std::thread::yield_now();
    }
}

/// Whether this one fails too.
fn one_of(to_fail: &AtomicUsize) -> bool {
    to_fail.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
}

impl fmt::Debug for Wrapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Wrapped")
    }
}

impl Store for Wrapped {
    fn commit(&self, batch: &[Commit]) -> Committed {
        let call = self.calls.fetch_add(1, Ordering::SeqCst) + 1;
        (self.behaviour)(call, batch, &self.inner)
    }
    fn load(&self, tenant: &TenantId, id: &InstanceId) -> Result<Option<Snapshot>, LoadError> {
        self.inner.load(tenant, id)
    }
    fn load_session(
        &self,
        tenant: &TenantId,
        machine: &MachineName,
        subject: &Subject,
    ) -> Result<Option<Snapshot>, LoadError> {
        self.inner.load_session(tenant, machine, subject)
    }
    fn receipt(
        &self,
        tenant: &TenantId,
        scope: &ReceiptScope,
        receipt: ReceiptId,
    ) -> Result<Option<(InstanceId, Entry)>, LoadError> {
        self.inner.receipt(tenant, scope, receipt)
    }
    fn claim_due(
        &self,
        now: Timestamp,
        lease_until: Timestamp,
        limit: usize,
    ) -> Result<Vec<(TenantId, InstanceId)>, LoadError> {
        self.inner.claim_due(now, lease_until, limit)
    }
    fn next_due(&self) -> Result<Option<Timestamp>, LoadError> {
        self.inner.next_due()
    }
    fn instances(&self, query: &InstanceQuery) -> Result<Page<Snapshot>, LoadError> {
        self.inner.instances(query)
    }
    fn history(&self, query: &HistoryQuery) -> Result<Page<Entry>, LoadError> {
        self.inner.history(query)
    }
    fn clarifications(&self, query: &ClarificationQuery) -> Result<Page<Clarification>, LoadError> {
        self.inner.clarifications(query)
    }
    fn phases(&self, query: &PhaseQuery) -> Result<Page<PhaseLine>, LoadError> {
        self.inner.phases(query)
    }
    fn save_definition(&self, definition: &StoredDefinition) -> Result<(), CommitError> {
        self.inner.save_definition(definition)
    }
    fn definitions(&self) -> Result<Vec<StoredDefinition>, LoadError> {
        self.inner.definitions()
    }
    fn claim_effects(
        &self,
        now: Timestamp,
        lease_until: Timestamp,
        limit: usize,
    ) -> Result<Vec<ClaimedEffect>, CommitError> {
        self.claims.fetch_add(1, Ordering::SeqCst);
        if one_of(&self.claims_to_fail) {
            return Err(CommitError::Unavailable("the disk is away".into()));
        }
        self.inner.claim_effects(now, lease_until, limit)
    }
    fn settle_effects(&self, settlements: &[Settlement], now: Timestamp) -> Result<Vec<bool>, CommitError> {
        if one_of(&self.settlements_to_fail) {
            self.settlements_failed.fetch_add(1, Ordering::SeqCst);
            return Err(CommitError::Unavailable("the disk is away".into()));
        }
        self.inner.settle_effects(settlements, now)
    }
    fn next_effect_due(&self) -> Result<Option<Timestamp>, LoadError> {
        self.inner.next_effect_due()
    }
    fn retry_effect(
        &self,
        tenant: &TenantId,
        key: &str,
        now: Timestamp,
    ) -> Result<Option<EffectStatus>, CommitError> {
        self.inner.retry_effect(tenant, key, now)
    }
    fn note_stage(&self, report: &DeliveryReport) -> Result<bool, CommitError> {
        self.inner.note_stage(report)
    }
    fn effects(&self, query: &EffectQuery) -> Result<Page<OutboxEffect>, LoadError> {
        self.inner.effects(query)
    }
    fn save_setting(&self, setting: &Setting) -> Result<(), CommitError> {
        self.inner.save_setting(setting)
    }
    fn settings(&self) -> Result<Vec<Setting>, LoadError> {
        self.inner.settings()
    }
    fn clean_up(&self, before: Timestamp, limit: usize) -> Result<CleanupReport, CommitError> {
        self.inner.clean_up(before, limit)
    }
    fn statistics(&self) -> Result<StoreStatistics, LoadError> {
        let call = self.counts.fetch_add(1, Ordering::SeqCst) + 1;
        self.before_count.get().iter().for_each(|run| run(call));
        self.inner.statistics()
    }

    fn standings(&self, at: StandingAt) -> Result<Standings, LoadError> {
        self.inner.standings(at)
    }
    fn dossiers(&self, visit: &mut dyn FnMut(Dossier) -> ControlFlow<()>) -> Result<Gathered, LoadError> {
        self.inner.dossiers(visit)
    }

    fn take_in(&self, dossiers: &[Dossier]) -> Result<(), CommitError> {
        self.inner.take_in(dossiers)
    }

    fn info(&self) -> StoreInfo {
        StoreInfo { writers: self.writers.load(Ordering::SeqCst), ..self.inner.info() }
    }
}

fn lost() -> CommitError {
    CommitError::Unknown("the line went dead".into())
}

fn assert_unavailable<T: fmt::Debug>(answered: Result<T, EngineError>) {
    let Err(EngineError::Unavailable(_)) = answered else {
        panic!("expected an unavailable store, got {answered:?}");
    };
}

#[test]
fn retries_are_bounded() {
    let stale = |_: usize, batch: &[Commit], _: &dyn Store| Ok(vec![Outcome::Stale; batch.len()]);
    let store = Wrapped::new(stale);
    let world = World::over(Arc::<Wrapped>::clone(&store));
    let engine = world.engine_with(Settings { attempts_max: 3, ..Settings::default() });
    assert_unavailable(engine.call(says("ana", "k1", "update")));
    assert_eq!(store.calls(), 3);
}

#[test]
fn an_unknown_commit_is_resolved_by_its_receipt() {
    let store = Wrapped::new(|call, batch, inner| {
        let saved = inner.commit(batch);
        if call == 1 { Err(lost()) } else { saved }
    });
    let world = World::over(store);
    let engine = world.engine();
    let submitted = engine.call(says("ana", "k1", "update")).unwrap();
    assert_eq!(revision(&submitted.answer), 1);
    let session = world.session("ana");
    assert_eq!(world.history(&session.instance).len(), 1);
    let next = engine.call(says("ana", "k2", "T1")).unwrap();
    assert_eq!(revision(&next.answer), 2, "what was saved is decided on");
}

#[test]
fn an_unknown_commit_that_was_not_saved_is_not_answered() {
    let store = Wrapped::new(|call, batch, inner| match call {
        1 => Err(lost()),
        _ => inner.commit(batch),
    });
    let world = World::over(store);
    let engine = world.engine();
    assert_unavailable(engine.call(says("ana", "k1", "update")));
    let again = engine.call(says("ana", "k1", "update")).unwrap();
    assert_eq!((revision(&again.answer), again.replayed), (1, false));
}

#[test]
fn a_failed_batch_answers_unavailable() {
    let store = Wrapped::new(|call, batch, inner| match call {
        1 => inner.commit(batch),
        2..=6 => Err(CommitError::Unavailable("the disk is away".into())),
        _ => inner.commit(batch),
    });
    let world = World::over(Arc::<Wrapped>::clone(&store));
    let instance = world.place("ana", "collecting_data");
    let engine = world.engine();
    let call = |number: usize| {
        let payload = json!({ "text": format!("remark {number}") });
        engine.call(event(&instance, &format!("k{number}"), "add_data", payload))
    };
    // However the five come together in batches, the store is away for all of them.
    for answered in at_once(5, call) {
        assert_unavailable(answered);
    }
    assert_eq!(world.history(&instance).len(), 1, "only where it was placed");
    while store.calls() < 6 {
        assert_unavailable(call(0));
    }
    let again: Vec<u64> = (0..5).map(|n| revision(&call(n).unwrap().answer)).collect();
    assert_eq!(again, [2, 3, 4, 5, 6]);
}

#[test]
fn a_full_disk_is_said_and_reads_go_on() {
    let store = Wrapped::new(|call, batch, inner| match call {
        1 => inner.commit(batch),
        _ => Err(CommitError::Full("no room".into())),
    });
    let world = World::over(store);
    let instance = world.place("ana", "collecting_data");
    let engine = world.engine();
    let answered = engine.call(says("ana", "k1", "a remark"));
    let Err(EngineError::Full(_)) = answered else {
        panic!("expected a full disk, got {answered:?}");
    };
    let read = engine.instance(&tenant(), &instance).unwrap();
    assert_eq!(read.revision.0, 1);
}

/// A due timer comes before the input, and the input's refusal then rests on what could not be saved.
#[test]
fn a_refusal_that_rests_on_an_unsaved_timer_is_answered_with_the_failure() {
    let store = Wrapped::new(|call, batch, inner| match call {
        1 => inner.commit(batch),
        _ => Err(CommitError::Full("no room".into())),
    });
    let world = World::over(store);
    let instance = world.place("ana", "collecting_data");
    world.advance(&[], "3h");
    let engine = world.engine();
    let mut conditional = event(&instance, "k1", "add_data", json!({ "text": "a" }));
    conditional.expected = Some(Revision(7));
    let answered = engine.call(conditional);
    let Err(EngineError::Full(_)) = answered else {
        panic!("expected a full disk, got {answered:?}");
    };
}

#[test]
fn a_corrupt_instance_is_reported_and_others_go_on() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("statewright.db");
    let world = World::over(Arc::new(SqliteStore::open(&path).unwrap()));
    let damaged = world.place("ana", "collecting_data");
    world.place("ben", "collecting_data");
    let raw = rusqlite::Connection::open(&path).unwrap();
    let damage = "UPDATE instances SET body = replace(body, 'T1', 'T2') WHERE id = ?1";
    assert_eq!(raw.execute(damage, [damaged.as_str()]).unwrap(), 1);
    let engine = world.engine();
    let to_the_damaged = [says("ana", "k1", "a remark"), event(&damaged, "k2", "cancel", json!({}))];
    for input in to_the_damaged {
        let answered = engine.call(input);
        let Err(EngineError::Corrupt(told)) = &answered else {
            panic!("expected a corrupt record, got {answered:?}");
        };
        assert!(told.contains(damaged.as_str()), "{told}");
    }
    let other = engine.call(says("ben", "k1", "a remark")).unwrap();
    assert_eq!(revision(&other.answer), 2);
    world.advance(&[&engine], "3h");
    let report = engine.recover().unwrap();
    assert_eq!((report.timers_fired, report.quarantined), (1, 1));
    let closed_at = world.session("ben").closure.unwrap().at;
    assert_eq!(closed_at, start().plus(delay("3h")));
}
