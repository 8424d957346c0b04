//! `KeyedStore`: any store, with the data keys of its vault saved in it and found again.
//!
//! A data key is saved, durably, before anything is sealed with it. What another server has sealed is opened with the key
//! that it has saved: a record that asks for one that is not known here is asked for again once the settings have been
//! read. What is sealed, and how, is the backend's record layer's business; this one only passes on.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kernel::commit::{Commit, Entry};
use kernel::conversation::Clarification;
use kernel::id::{InstanceId, MachineName, Subject, TenantId};
use kernel::input::{ReceiptId, ReceiptScope};
use kernel::snapshot::Snapshot;
use kernel::time::Timestamp;

use super::{KeyReport, NO_KEY, Vault};
use crate::dossier::{Dossier, Gathered};
use crate::outbox::{ClaimedEffect, DeliveryReport, EffectQuery, EffectStatus, OutboxEffect, Settlement};
use crate::phase::{PhaseLine, PhaseQuery};
use crate::query::{ClarificationQuery, CleanupReport, HistoryQuery, InstanceQuery, Page, StoreStatistics};
use crate::{
    CommitError, LoadError, Outcome, Setting, Space, StandingAt, Standings, Store, StoreInfo,
    StoredDefinition,
};

#[derive(Debug)]
pub struct KeyedStore {
    inner: Arc<dyn Store>,
    /// The one that the records of `inner` are sealed with.
    vault: Arc<Vault>,
    /// Held while a key is made, so that no tenant gets two of them at once.
    making: Mutex<()>,
}

impl KeyedStore {
    /// # Errors
    /// When the keys that the store has cannot be read.
    pub fn open(inner: Arc<dyn Store>, vault: Arc<Vault>) -> Result<Self, LoadError> {
        let keyed = Self { inner, vault, making: Mutex::default() };
        keyed.settings()?;
        Ok(keyed)
    }

    /// Whether there is a key to encrypt anything with.
    pub fn has_master(&self) -> bool {
        self.vault.has_master()
    }

    /// The keys that its records are sealed with.
    pub fn vault(&self) -> &Arc<Vault> {
        &self.vault
    }

    /// The data keys of a tenant, or of all of them.
    ///
    /// # Errors
    /// When the store cannot be reached.
    pub fn keys(&self, of: Option<&TenantId>) -> Result<Vec<KeyReport>, LoadError> {
        self.settings()?;
        Ok(self.vault.report(of))
    }

    /// Wraps every data key by the first master key and says how many were not yet. Those that cannot be opened stay as
    /// they are. No record is written.
    ///
    /// # Errors
    /// When there is no master key, or the store cannot save one of them; what has been saved then, stays.
    pub fn rotate(&self, now: Timestamp) -> Result<usize, CommitError> {
        let _one_at_a_time = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        self.settings().map_err(not_saved)?;
        let rewrapped = self.vault.rewrapped(now).map_err(CommitError::Unavailable)?;
        for setting in &rewrapped {
            self.inner.save_setting(setting)?;
            self.vault.learn(std::slice::from_ref(setting));
        }
        Ok(rewrapped.len())
    }

    /// Makes a new data key, which what a tenant writes from now on is sealed with; the tenant's others stay.
    ///
    /// # Errors
    /// As `rotate`.
    pub fn rotate_data(&self, tenant: &TenantId, now: Timestamp) -> Result<(), CommitError> {
        let _one_at_a_time = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        self.make_key(tenant, now)
    }

    fn make_key(&self, tenant: &TenantId, now: Timestamp) -> Result<(), CommitError> {
        let setting = self.vault.new_key(tenant, now).map_err(CommitError::Unavailable)?;
        self.inner.save_setting(&setting)?;
        self.vault.learn(&[setting]);
        Ok(())
    }

    /// Every tenant that has secrets to be saved has a key afterwards. They come with the time of that.
    fn have_keys<'t>(
        &self,
        secret: impl Iterator<Item = (&'t TenantId, Timestamp)>,
    ) -> Result<(), CommitError> {
        let mut tenants: BTreeSet<&TenantId> = BTreeSet::new();
        let mut now = Timestamp::from_millis(0);
        for (tenant, at) in secret.filter(|(tenant, _)| !self.vault.has_current(tenant)) {
            tenants.insert(tenant);
            now = at;
        }
        if tenants.is_empty() || !self.at_rest() {
            return Ok(());
        }
        let _one_at_a_time = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.vault.has_master() {
            return Err(CommitError::Unavailable(NO_KEY.to_owned()));
        }
        // Another server may have made one.
        self.settings().map_err(not_saved)?;
        tenants.retain(|tenant| !self.vault.has_current(tenant));
        tenants.into_iter().try_for_each(|tenant| self.make_key(tenant, now))
    }

    /// Only what is in this process's memory is not.
    fn at_rest(&self) -> bool {
        self.inner.info().backend != "memory"
    }

    /// Asks once more if what is asked for may be opened then.
    fn opened<T>(&self, ask: impl Fn() -> Result<T, LoadError>) -> Result<T, LoadError> {
        let known = self.vault.generation();
        match ask() {
            Err(LoadError::Unavailable(_)) if self.learn_missing() || self.vault.generation() != known => {
                ask()
            }
            answer => answer,
        }
    }

    /// Whether keys that were asked for in vain have been looked for.
    fn learn_missing(&self) -> bool {
        if !self.vault.is_missing_any() || self.settings().is_err() {
            return false;
        }
        self.vault.give_up_missing();
        true
    }
}

fn not_saved(error: LoadError) -> CommitError {
    CommitError::Unavailable(error.to_string())
}

impl Store for KeyedStore {
    fn commit(&self, batch: &[Commit]) -> Result<Vec<Outcome>, CommitError> {
        let secret = batch.iter().filter(|commit| !commit.secrets.is_empty());
        self.have_keys(secret.map(|commit| (&commit.tenant, commit.entry.at)))?;
        self.inner.commit(batch)
    }

    fn load(&self, tenant: &TenantId, instance: &InstanceId) -> Result<Option<Snapshot>, LoadError> {
        self.opened(|| self.inner.load(tenant, instance))
    }

    fn load_session(
        &self,
        tenant: &TenantId,
        machine: &MachineName,
        subject: &Subject,
    ) -> Result<Option<Snapshot>, LoadError> {
        self.opened(|| self.inner.load_session(tenant, machine, subject))
    }

    fn receipt(
        &self,
        tenant: &TenantId,
        scope: &ReceiptScope,
        receipt: ReceiptId,
    ) -> Result<Option<(InstanceId, Entry)>, LoadError> {
        self.opened(|| self.inner.receipt(tenant, scope, receipt))
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
        self.opened(|| self.inner.instances(query))
    }

    fn history(&self, query: &HistoryQuery) -> Result<Page<Entry>, LoadError> {
        self.opened(|| self.inner.history(query))
    }

    fn clarifications(&self, query: &ClarificationQuery) -> Result<Page<Clarification>, LoadError> {
        self.opened(|| self.inner.clarifications(query))
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
        let mut claimed = self.inner.claim_effects(now, lease_until, limit)?;
        if claimed.len() < limit && self.learn_missing() {
            claimed.extend(self.inner.claim_effects(now, lease_until, limit - claimed.len())?);
        }
        Ok(claimed)
    }

    fn settle_effects(&self, settlements: &[Settlement], now: Timestamp) -> Result<Vec<bool>, CommitError> {
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
        self.opened(|| self.inner.effects(query))
    }

    fn save_setting(&self, setting: &Setting) -> Result<(), CommitError> {
        self.inner.save_setting(setting)?;
        self.vault.learn(std::slice::from_ref(setting));
        Ok(())
    }

    fn settings(&self) -> Result<Vec<Setting>, LoadError> {
        let settings = self.inner.settings()?;
        self.vault.learn(&settings);
        Ok(settings)
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

    /// Which keys there are is learned before: who visits has seen some when one is found missing.
    fn dossiers(&self, visit: &mut dyn FnMut(Dossier) -> ControlFlow<()>) -> Result<Gathered, LoadError> {
        self.settings()?;
        self.inner.dossiers(visit)
    }

    fn take_in(&self, dossiers: &[Dossier]) -> Result<(), CommitError> {
        let secret = dossiers.iter().filter(|dossier| dossier.secrets.is_some());
        let secret = secret.map(|dossier| &dossier.snapshot);
        self.have_keys(secret.map(|snapshot| (&snapshot.tenant, snapshot.updated_at)))?;
        self.inner.take_in(dossiers)
    }

    fn wait_for_news(&self, at_most: Duration) -> bool {
        self.inner.wait_for_news(at_most)
    }

    fn space(&self) -> Space {
        self.inner.space()
    }

    fn keeps_secrets(&self) -> bool {
        self.vault.has_master() || !self.at_rest()
    }

    fn info(&self) -> StoreInfo {
        self.inner.info()
    }
}
