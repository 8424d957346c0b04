//! A store that fails as real ones do: before a commit, after it, or without anybody knowing; and that will not load.
//!
//! Everything it did save stays in the memory store underneath, which outlives the engine, as a disk would. It can also
//! lose its power in the middle of a delivery: from then on whatever the engine believes to be saved is not.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use kernel::commit::{Commit, Entry};
use kernel::conversation::Clarification;
use kernel::id::{InstanceId, MachineName, Subject, TenantId};
use kernel::input::{ReceiptId, ReceiptScope};
use kernel::snapshot::Snapshot;
use kernel::time::Timestamp;
use store::{
    ClaimedEffect, ClarificationQuery, CleanupReport, CommitError, DeliveryReport, Dossier, EffectQuery,
    EffectStatus, Gathered, HistoryQuery, InstanceQuery, LoadError, MemoryStore, OutboxEffect, Outcome, Page,
    PhaseLine, PhaseQuery, Setting, Settlement, StandingAt, Standings, Store, StoreInfo, StoreStatistics,
    StoredDefinition,
};

use crate::random::Random;

#[derive(Debug)]
pub(crate) struct FaultyStore {
    pub inner: Arc<MemoryStore>,
    random: Mutex<Random>,
    /// Apart from the other, since the threads of one engine take turns as they like.
    random_of_delivery: Mutex<Random>,
    /// One commit in so many fails.
    fails_one_in: usize,
    /// Whether effects are given out.
    pub delivers: AtomicBool,
    pub is_cut: AtomicBool,
}

impl FaultyStore {
    pub fn new(inner: Arc<MemoryStore>, seed: u64, fails_one_in: usize) -> Self {
        Self {
            inner,
            random: Mutex::new(Random::new(seed)),
            random_of_delivery: Mutex::new(Random::new(seed.rotate_left(17))),
            fails_one_in,
            delivers: AtomicBool::new(false),
            is_cut: AtomicBool::new(false),
        }
    }

    /// As `fault`, for the thread that delivers; a quarter as often, and now and then the power goes.
    fn fault_of_delivery(&self) -> Fault {
        if self.is_cut.load(Ordering::SeqCst) {
            return Fault::Cut;
        }
        let mut random = self.random_of_delivery.lock().expect("no thread panics while it holds this lock");
        if !random.one_in(self.fails_one_in * 4) {
            return Fault::None;
        }
        match random.below(4) {
            0 => Fault::NotSaved,
            1 => Fault::Saved,
            kind => {
                self.is_cut.store(true, Ordering::SeqCst);
                if kind == 2 { Fault::Cut } else { Fault::CutAfter }
            }
        }
    }

    /// Which of `kinds` faults happens now, if one does.
    fn fault(&self, chance: usize, kinds: usize) -> Option<usize> {
        let mut random = self.random.lock().expect("no thread panics while it holds this lock");
        random.one_in(chance).then(|| random.below(kinds))
    }

    fn load_fault(&self) -> Result<(), LoadError> {
        if std::thread::current().name() == Some("courier") {
            return match self.fault_of_delivery() {
                Fault::None => Ok(()),
                _ => Err(LoadError::Unavailable("simulated".into())),
            };
        }
        match self.fault(self.fails_one_in * 4, 1) {
            Some(_) => Err(LoadError::Unavailable("simulated".into())),
            None => Ok(()),
        }
    }
}

/// What becomes of a claim or a settlement.
enum Fault {
    None,
    NotSaved,
    /// And nobody is told.
    Saved,
    Cut,
    /// This was the last that was saved.
    CutAfter,
}

impl Store for FaultyStore {
    fn commit(&self, batch: &[Commit]) -> Result<Vec<Outcome>, CommitError> {
        if self.is_cut.load(Ordering::SeqCst) {
            return Err(CommitError::Unavailable("the power is gone".into()));
        }
        match self.fault(self.fails_one_in, 4) {
            None => self.inner.commit(batch),
            Some(0) => Err(CommitError::Unavailable("simulated".into())),
            Some(1) => Err(CommitError::Full("simulated".into())),
            Some(2) => Err(CommitError::Unknown("simulated, not saved".into())),
            Some(_) => {
                self.inner.commit(batch)?;
                Err(CommitError::Unknown("simulated, saved".into()))
            }
        }
    }

    fn load(&self, tenant: &TenantId, instance: &InstanceId) -> Result<Option<Snapshot>, LoadError> {
        self.load_fault()?;
        self.inner.load(tenant, instance)
    }

    fn load_session(
        &self,
        tenant: &TenantId,
        machine: &MachineName,
        subject: &Subject,
    ) -> Result<Option<Snapshot>, LoadError> {
        self.load_fault()?;
        self.inner.load_session(tenant, machine, subject)
    }

    fn receipt(
        &self,
        tenant: &TenantId,
        scope: &ReceiptScope,
        receipt: ReceiptId,
    ) -> Result<Option<(InstanceId, Entry)>, LoadError> {
        self.load_fault()?;
        self.inner.receipt(tenant, scope, receipt)
    }

    fn claim_due(
        &self,
        now: Timestamp,
        lease_until: Timestamp,
        limit: usize,
    ) -> Result<Vec<(TenantId, InstanceId)>, LoadError> {
        self.load_fault()?;
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
        if !self.delivers.load(Ordering::SeqCst) {
            return Ok(Vec::new());
        }
        let claim = || self.inner.claim_effects(now, lease_until, limit);
        match self.fault_of_delivery() {
            Fault::None => claim(),
            Fault::NotSaved => Err(CommitError::Unavailable("simulated".into())),
            Fault::Saved => claim().and(Err(CommitError::Unknown("simulated, saved".into()))),
            // Whoever has lost its power does nothing more, and knows nothing of that.
            Fault::Cut => Ok(Vec::new()),
            Fault::CutAfter => claim().map(|_| Vec::new()),
        }
    }

    fn settle_effects(&self, settlements: &[Settlement], now: Timestamp) -> Result<Vec<bool>, CommitError> {
        let settle = || self.inner.settle_effects(settlements, now);
        match self.fault_of_delivery() {
            Fault::None | Fault::CutAfter => settle(),
            Fault::NotSaved => Err(CommitError::Unavailable("simulated".into())),
            Fault::Saved => settle().and(Err(CommitError::Unknown("simulated, saved".into()))),
            Fault::Cut => Ok(vec![true; settlements.len()]),
        }
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
        self.inner.info()
    }
}
