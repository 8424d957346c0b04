//! The store that forgets: plain maps behind one lock. For tests, for trying things out, and as the model that other
//! backends are compared with.
//!
//! Owns no cleverness. Every answer is found by looking at everything that could be meant.

mod dossiers;
mod outbox;
mod phases;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kernel::commit::{Commit, Entry};
use kernel::conversation::{Clarification, ClarificationStatus};
use kernel::flow::PhaseState;
use kernel::id::{InstanceId, MachineName, Revision, Subject, TenantId};
use kernel::input::{ReceiptId, ReceiptScope};
use kernel::snapshot::Snapshot;
use kernel::time::Timestamp;

use crate::chain::Batch;
use crate::dossier::{Dossier, Gathered};
use crate::memory::outbox::Outbox;
use crate::memory::phases::{PhaseKey, Phases};
use crate::outbox::{ClaimedEffect, DeliveryReport, EffectQuery, EffectStatus, OutboxEffect, Settlement};
use crate::phase::{PhaseLine, PhaseQuery};
use crate::query::{ClarificationQuery, CleanupReport, HistoryQuery, InstanceQuery, Page, StoreStatistics};
use crate::record::{Prepared, Records};
use crate::vault::parts::Secrets;
use crate::{
    CommitError, Durability, LoadError, Outcome, Setting, StandingAt, Standings, Store, StoreInfo,
    StoredDefinition, due_at,
};

#[derive(Debug)]
pub struct MemoryStore {
    records: Records,
    tables: Mutex<Tables>,
}

#[derive(Debug, Default)]
struct Tables {
    instances: BTreeMap<(TenantId, InstanceId), Held>,
    /// The sessions of each subject by their ordinals.
    sessions: BTreeMap<(TenantId, MachineName, Subject), BTreeMap<u32, InstanceId>>,
    /// By a number that only grows, so that the order of the keys is the order of the commits.
    log: BTreeMap<u64, Line>,
    log_last: u64,
    receipts: HashMap<ReceiptId, u64>,
    clarifications: BTreeMap<(TenantId, String), Clarification>,
    phases: Phases,
    outbox: Outbox,
    definitions: Vec<StoredDefinition>,
    settings: BTreeMap<(TenantId, String), Setting>,
}

#[derive(Clone, Debug)]
struct Held {
    snapshot: Snapshot,
    claimed_until: Option<Timestamp>,
    /// As `Dossier::secrets`: here nothing is sealed, but somebody may take it elsewhere.
    secrets: Option<Vec<Arc<str>>>,
}

#[derive(Clone, Debug)]
struct Line {
    tenant: TenantId,
    instance: InstanceId,
    entry: Entry,
}

/// What a batch has changed, with what was there before, so that a failing batch leaves nothing behind.
enum Undo {
    Instance((TenantId, InstanceId), Option<Box<Held>>),
    Line(u64, ReceiptId),
    Clarification((TenantId, String), Option<Box<Clarification>>),
    Phase(PhaseKey, Option<Box<PhaseLine>>),
    Effect(u64),
}

impl MemoryStore {
    pub fn new() -> Self {
        let records = Records { secrets: Secrets::Plain, ..Records::default() };
        Self { records, tables: Mutex::default() }
    }

    /// A panic while the lock was held is a panic of the process's only writer: the maps are as good as they were.
    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl Store for MemoryStore {
    fn commit(&self, batch: &[Commit]) -> Result<Vec<Outcome>, CommitError> {
        // Only to see whether they could be saved elsewhere.
        let batch = Batch::new(&self.records, batch);
        let mut tables = self.tables();
        let mut undo = Vec::new();
        let save =
            |prepared: &Prepared<'_>, passed_over| tables.save(prepared.commit, passed_over, &mut undo);
        batch.all_one_by_one(save).map_err(|detail| {
            tables.undo(undo);
            CommitError::Unavailable(detail)
        })
    }

    fn load(&self, tenant: &TenantId, instance: &InstanceId) -> Result<Option<Snapshot>, LoadError> {
        let tables = self.tables();
        let held = tables.instances.get(&(tenant.clone(), instance.clone()));
        Ok(held.map(|held| held.snapshot.clone()))
    }

    fn load_session(
        &self,
        tenant: &TenantId,
        machine: &MachineName,
        subject: &Subject,
    ) -> Result<Option<Snapshot>, LoadError> {
        let tables = self.tables();
        let key = (tenant.clone(), machine.clone(), subject.clone());
        let last = tables.sessions.get(&key).and_then(BTreeMap::last_key_value);
        Ok(last.and_then(|(_, id)| {
            let held = tables.instances.get(&(tenant.clone(), id.clone()))?;
            Some(held.snapshot.clone())
        }))
    }

    fn receipt(
        &self,
        _: &TenantId,
        _: &ReceiptScope,
        receipt: ReceiptId,
    ) -> Result<Option<(InstanceId, Entry)>, LoadError> {
        Ok(self.tables().receipt(receipt))
    }

    fn claim_due(
        &self,
        now: Timestamp,
        lease_until: Timestamp,
        limit: usize,
    ) -> Result<Vec<(TenantId, InstanceId)>, LoadError> {
        let mut tables = self.tables();
        let mut due: Vec<(Timestamp, &(TenantId, InstanceId), &mut Held)> = tables
            .instances
            .iter_mut()
            .filter(|(_, held)| held.claimed_until.is_none_or(|until| until <= now))
            .filter_map(|(key, held)| Some((due_at(&held.snapshot)?, key, held)))
            .filter(|(deadline, ..)| *deadline <= now)
            .collect();
        due.sort_by_key(|(deadline, ..)| *deadline);
        let claimed = due.into_iter().take(limit).map(|(_, key, held)| {
            held.claimed_until = Some(lease_until);
            key.clone()
        });
        Ok(claimed.collect())
    }

    fn next_due(&self) -> Result<Option<Timestamp>, LoadError> {
        let tables = self.tables();
        let due = tables.instances.values().filter_map(|held| {
            let deadline = due_at(&held.snapshot)?;
            Some(held.claimed_until.map_or(deadline, |u| u.max(deadline)))
        });
        Ok(due.min())
    }

    fn instances(&self, query: &InstanceQuery) -> Result<Page<Snapshot>, LoadError> {
        let tables = self.tables();
        let before = query.cursor.as_deref();
        let matching = tables
            .instances
            .values()
            .rev()
            .map(|held| &held.snapshot)
            .filter(|s| before.is_none_or(|cursor| s.instance.as_str() < cursor))
            .filter(|s| query.matches(s));
        Ok(page(matching.cloned(), query.limit, |s| s.instance.to_string()))
    }

    fn history(&self, query: &HistoryQuery) -> Result<Page<Entry>, LoadError> {
        let tables = self.tables();
        let behind = query.behind().map(|behind| behind.max(0).unsigned_abs());
        let of_instance =
            |(_, line): &(&u64, &Line)| line.tenant == query.tenant && line.instance == query.instance;
        let cursor_of = |(seq, _): &(&u64, &Line)| seq.to_string();
        let numbered = if query.newest_first {
            let older = tables.log.range(..behind.unwrap_or(u64::MAX));
            page(older.rev().filter(of_instance), query.limit, cursor_of)
        } else {
            let newer = tables.log.range(behind.map_or(0, |behind| behind + 1)..);
            page(newer.filter(of_instance), query.limit, cursor_of)
        };
        Ok(Page {
            data: numbered.data.into_iter().map(|(_, line)| line.entry.clone()).collect(),
            next: numbered.next,
        })
    }

    fn clarifications(&self, query: &ClarificationQuery) -> Result<Page<Clarification>, LoadError> {
        let tables = self.tables();
        let mut matching: Vec<&Clarification> = tables
            .clarifications
            .values()
            .filter(|c| c.tenant == query.tenant)
            .filter(|c| query.status.is_none_or(|status| c.status == status))
            .filter(|c| query.id.as_ref().is_none_or(|id| c.id == *id))
            .collect();
        matching.sort_by(|a, b| (b.created_at, &b.id).cmp(&(a.created_at, &a.id)));
        if let Some(cursor) = &query.cursor {
            match ClarificationQuery::parse_cursor(cursor) {
                Some((at, id)) => matching.retain(|c| (c.created_at, c.id.as_str()) < (at, id)),
                None => matching.clear(),
            }
        }
        Ok(page(matching.into_iter().cloned(), query.limit, ClarificationQuery::cursor_of))
    }

    fn phases(&self, query: &PhaseQuery) -> Result<Page<PhaseLine>, LoadError> {
        Ok(self.tables().phases.list(query))
    }

    fn save_definition(&self, definition: &StoredDefinition) -> Result<(), CommitError> {
        let mut tables = self.tables();
        tables.definitions.retain(|known| known.hash != definition.hash);
        tables.definitions.push(definition.clone());
        Ok(())
    }

    fn definitions(&self) -> Result<Vec<StoredDefinition>, LoadError> {
        Ok(self.tables().definitions.clone())
    }

    fn claim_effects(
        &self,
        now: Timestamp,
        lease_until: Timestamp,
        limit: usize,
    ) -> Result<Vec<ClaimedEffect>, CommitError> {
        Ok(self.tables().outbox.claim(now, lease_until, limit))
    }

    fn settle_effects(&self, settlements: &[Settlement], now: Timestamp) -> Result<Vec<bool>, CommitError> {
        let mut tables = self.tables();
        Ok(settlements.iter().map(|settlement| tables.outbox.settle(settlement, now)).collect())
    }

    fn next_effect_due(&self) -> Result<Option<Timestamp>, LoadError> {
        Ok(self.tables().outbox.next_due())
    }

    fn retry_effect(
        &self,
        tenant: &TenantId,
        key: &str,
        now: Timestamp,
    ) -> Result<Option<EffectStatus>, CommitError> {
        Ok(self.tables().outbox.retry(tenant, key, now))
    }

    fn note_stage(&self, report: &DeliveryReport) -> Result<bool, CommitError> {
        Ok(self.tables().outbox.note_stage(report))
    }

    fn effects(&self, query: &EffectQuery) -> Result<Page<OutboxEffect>, LoadError> {
        Ok(self.tables().outbox.list(query))
    }

    fn save_setting(&self, setting: &Setting) -> Result<(), CommitError> {
        let key = (setting.tenant.clone(), setting.name.clone());
        self.tables().settings.insert(key, setting.clone());
        Ok(())
    }

    fn settings(&self) -> Result<Vec<Setting>, LoadError> {
        Ok(self.tables().settings.values().cloned().collect())
    }

    fn clean_up(&self, before: Timestamp, limit: usize) -> Result<CleanupReport, CommitError> {
        let mut tables = self.tables();
        let mut old: Vec<(Timestamp, u64)> = tables
            .log
            .iter()
            .filter(|(seq, line)| line.entry.at < before && !tables.is_kept(**seq, line))
            .map(|(seq, line)| (line.entry.at, *seq))
            .collect();
        old.sort_unstable();
        old.truncate(limit);
        for (_, seq) in &old {
            if let Some(line) = tables.log.remove(seq) {
                tables.receipts.remove(&line.entry.receipt);
            }
        }
        let entries_deleted = old.len();
        let effects_deleted = tables.outbox.clean_up(before, limit - entries_deleted);
        let instances_deleted = tables.clean_up_beside(before, limit - entries_deleted - effects_deleted);
        let more = entries_deleted + effects_deleted + instances_deleted == limit;
        Ok(CleanupReport { entries_deleted, effects_deleted, instances_deleted, more })
    }

    fn statistics(&self) -> Result<StoreStatistics, LoadError> {
        let tables = self.tables();
        let mut figures = StoreStatistics { effects: tables.outbox.counts(), ..StoreStatistics::default() };
        figures.mean_deadline = tables.mean_deadline();
        for Held { snapshot, .. } in tables.instances.values() {
            figures.latest_change = figures.latest_change.max(Some(snapshot.updated_at));
            if snapshot.tenant.is_shadow() {
                continue;
            }
            let machine = snapshot.machine.to_string();
            let count = match &snapshot.closure {
                None => figures.open.entry((machine, snapshot.state())),
                Some(closure) => figures.closed.entry((machine, closure.reason.clone())),
            };
            *count.or_default() += 1;
        }
        figures.phases = tables.count_phases();
        for status in ClarificationStatus::ALL {
            let all = tables.clarifications.values().filter(|c| !c.tenant.is_shadow());
            let count = all.filter(|c| c.status == status).count() as u64;
            figures.clarifications.insert(status.as_str(), count);
        }
        Ok(figures)
    }

    fn standings(&self, StandingAt { now, stuck_by }: StandingAt) -> Result<Standings, LoadError> {
        let mut standings = Standings::default();
        for Held { snapshot, .. } in self.tables().instances.values() {
            if snapshot.is_closed() || snapshot.tenant.is_beside() {
                continue;
            }
            let standing = standings.entry(&snapshot.tenant, snapshot.machine.as_str());
            standing.open += 1;
            standing.looping += u64::from(snapshot.looping.as_ref().is_some_and(|l| l.until > now));
            standing.add_stuck(snapshot.stuck(stuck_by), 1);
        }
        Ok(standings)
    }

    fn dossiers(&self, visit: &mut dyn FnMut(Dossier) -> ControlFlow<()>) -> Result<Gathered, LoadError> {
        // Who looks at them may ask the store something meanwhile.
        let all = self.tables().dossiers();
        let mut gathered = Gathered { at_one_moment: true, ..Gathered::default() };
        for dossier in all {
            gathered.instances += 1;
            if visit(dossier).is_break() {
                break;
            }
        }
        Ok(gathered)
    }

    fn take_in(&self, dossiers: &[Dossier]) -> Result<(), CommitError> {
        // Only to see whether they could be saved elsewhere.
        let file = |dossier| self.records.file(dossier).map(drop).map_err(CommitError::Unavailable);
        dossiers.iter().try_for_each(file)?;
        self.tables().take_in(dossiers)
    }

    fn info(&self) -> StoreInfo {
        StoreInfo {
            backend: "memory",
            version: env!("CARGO_PKG_VERSION").to_owned(),
            location: "this process".to_owned(),
            durability: Durability::Volatile,
            // By engines of this process.
            is_shared: true,
            writers: 1,
            notes: Vec::new(),
        }
    }
}

impl Tables {
    fn mean_deadline(&self) -> Option<Timestamp> {
        let counted = self.instances.values().map(|held| &held.snapshot).filter(|s| !s.tenant.is_shadow());
        let deadlines: Vec<i64> = counted.filter_map(due_at).map(|due| due.as_millis() / 1_000).collect();
        let count = i64::try_from(deadlines.len()).ok().filter(|count| *count > 0)?;
        Some(Timestamp::from_millis(deadlines.iter().sum::<i64>() / count * 1_000))
    }

    fn count_phases(&self) -> BTreeMap<(String, PhaseState), u64> {
        let mut counts = BTreeMap::new();
        for line in self.phases.all().filter(|line| !line.tenant.is_shadow()) {
            let held = self.instances.get(&(line.tenant.clone(), line.instance.clone()));
            if held.is_some_and(|held| !held.snapshot.is_closed()) {
                *counts.entry((line.machine.to_string(), line.row.state)).or_default() += 1;
            }
        }
        counts
    }

    /// Deletes closed instances of what is kept beside a tenant, once their log is gone; the longest closed first.
    fn clean_up_beside(&mut self, before: Timestamp, limit: usize) -> usize {
        let told: HashSet<_> = self.log.values().map(|line| (&line.tenant, &line.instance)).collect();
        let held = self.instances.values().map(|held| &held.snapshot);
        let gone = held.filter(|s| {
            let is_old = s.is_closed() && s.updated_at < before;
            is_old && s.tenant.is_beside() && !told.contains(&(&s.tenant, &s.instance))
        });
        let mut gone: Vec<Snapshot> = gone.cloned().collect();
        gone.sort_by_key(|snapshot| snapshot.updated_at);
        gone.truncate(limit);
        for snapshot in &gone {
            self.instances.remove(&(snapshot.tenant.clone(), snapshot.instance.clone()));
            self.phases.forget(&snapshot.tenant, &snapshot.instance);
            if let Some(subject) = &snapshot.subject {
                let key = (snapshot.tenant.clone(), snapshot.machine.clone(), subject.clone());
                if let Some(sessions) = self.sessions.get_mut(&key) {
                    sessions.remove(&snapshot.ordinal);
                }
            }
        }
        gone.len()
    }

    /// Saves one commit, or says why the batch must not be saved at all. `passed_over`: an earlier one of the batch on
    /// its instance was not saved.
    fn save(&mut self, commit: &Commit, passed_over: bool, undo: &mut Vec<Undo>) -> Result<Outcome, String> {
        if let Some(found) = self.receipt(commit.entry.receipt) {
            return Ok(Outcome::Duplicate(Box::new(found)));
        }
        let key = (commit.tenant.clone(), commit.instance.clone());
        let before = self.instances.get(&key).map(|held| &held.snapshot);
        let revision = before.map_or(Revision::NONE, |s| s.revision);
        let is_refusal_of_nothing = before.is_none() && commit.after.is_none();
        if passed_over || revision != commit.expected || is_refusal_of_nothing {
            return Ok(Outcome::Stale);
        }
        if let Some(after) = &commit.after {
            match before {
                None if self.has_session(after) => return Ok(Outcome::Stale),
                Some(before) if identity(before) != identity(after) => {
                    return Err(format!("{} cannot become another session", after.instance));
                }
                _ => {}
            }
            let secrets = dossiers::secrets(commit, after, self.instances.get(&key));
            self.put_instance(after, secrets, undo);
        }
        self.append(commit, undo);
        self.save_clarifications(commit, undo)?;
        self.save_phases(commit, undo);
        self.save_effects(commit, undo)?;
        Ok(Outcome::Committed)
    }

    fn receipt(&self, receipt: ReceiptId) -> Option<(InstanceId, Entry)> {
        let line = self.log.get(self.receipts.get(&receipt)?)?;
        Some((line.instance.clone(), line.entry.clone()))
    }

    fn has_session(&self, wanted: &Snapshot) -> bool {
        let of_subject = session_key(wanted).and_then(|key| self.sessions.get(&key));
        of_subject.is_some_and(|ordinals| ordinals.contains_key(&wanted.ordinal))
    }

    fn put_instance(&mut self, after: &Snapshot, secrets: Option<Vec<Arc<str>>>, undo: &mut Vec<Undo>) {
        let key = (after.tenant.clone(), after.instance.clone());
        if let Some(subject) = session_key(after) {
            let ordinals = self.sessions.entry(subject).or_default();
            ordinals.insert(after.ordinal, after.instance.clone());
        }
        let held = Held { snapshot: after.clone(), claimed_until: None, secrets };
        let old = self.instances.insert(key.clone(), held);
        undo.push(Undo::Instance(key, old.map(Box::new)));
    }

    fn remove_instance(&mut self, key: &(TenantId, InstanceId)) {
        let subject = self
            .instances
            .remove(key)
            .and_then(|held| Some((session_key(&held.snapshot)?, held.snapshot.ordinal)));
        if let Some((subject, ordinal)) = subject
            && let Some(ordinals) = self.sessions.get_mut(&subject)
        {
            ordinals.remove(&ordinal);
        }
    }

    fn append_line(&mut self, tenant: &TenantId, instance: &InstanceId, entry: &Entry) {
        self.log_last += 1;
        let line = Line { tenant: tenant.clone(), instance: instance.clone(), entry: entry.clone() };
        self.log.insert(self.log_last, line);
        self.receipts.insert(entry.receipt, self.log_last);
    }

    fn append(&mut self, commit: &Commit, undo: &mut Vec<Undo>) {
        self.append_line(&commit.tenant, &commit.instance, &commit.entry);
        undo.push(Undo::Line(self.log_last, commit.entry.receipt));
    }

    fn save_clarifications(&mut self, commit: &Commit, undo: &mut Vec<Undo>) -> Result<(), String> {
        if commit.clarifications.is_empty() {
            return Ok(());
        }
        for clarification in &commit.clarifications {
            let key = (commit.tenant.clone(), clarification.id.clone());
            let old = self.clarifications.insert(key.clone(), clarification.clone());
            undo.push(Undo::Clarification(key, old.map(Box::new)));
        }
        let pending = self.clarifications.values().filter(|c| {
            c.tenant == commit.tenant
                && c.instance == commit.instance
                && c.status == ClarificationStatus::Pending
        });
        match pending.count() {
            0 | 1 => Ok(()),
            _ => Err(format!("{} has a pending clarification", commit.instance)),
        }
    }

    fn save_phases(&mut self, commit: &Commit, undo: &mut Vec<Undo>) {
        let Some(after) = &commit.after else { return };
        for row in &commit.phases {
            let (key, old) = self.phases.save(after, row);
            undo.push(Undo::Phase(key, old.map(Box::new)));
        }
    }

    fn save_effects(&mut self, commit: &Commit, undo: &mut Vec<Undo>) -> Result<(), String> {
        for effect in &commit.effects {
            let seq = self.outbox.save(commit, effect)?;
            undo.push(Undo::Effect(seq));
        }
        Ok(())
    }

    fn undo(&mut self, changes: Vec<Undo>) {
        for change in changes.into_iter().rev() {
            match change {
                Undo::Instance(key, Some(old)) => {
                    self.instances.insert(key, *old);
                }
                Undo::Instance(key, None) => self.remove_instance(&key),
                Undo::Line(seq, receipt) => {
                    self.log.remove(&seq);
                    self.receipts.remove(&receipt);
                }
                Undo::Clarification(key, Some(old)) => {
                    self.clarifications.insert(key, *old);
                }
                Undo::Clarification(key, None) => {
                    self.clarifications.remove(&key);
                }
                Undo::Phase(key, old) => self.phases.put_back(key, old.map(|line| *line)),
                Undo::Effect(seq) => self.outbox.forget(seq),
            }
        }
    }

    /// The newest entry of an open instance stays, however old it is.
    fn is_kept(&self, seq: u64, line: &Line) -> bool {
        let key = (line.tenant.clone(), line.instance.clone());
        let is_open = self.instances.get(&key).is_some_and(|held| !held.snapshot.is_closed());
        let mut newer = self.log.range(seq + 1..);
        is_open && !newer.any(|(_, l)| l.tenant == line.tenant && l.instance == line.instance)
    }
}

/// Where the sessions of the same subject are; `None` for an instance that is no session.
fn session_key(snapshot: &Snapshot) -> Option<(TenantId, MachineName, Subject)> {
    let subject = snapshot.subject.clone().filter(|_| snapshot.ordinal > 0)?;
    Some((snapshot.tenant.clone(), snapshot.machine.clone(), subject))
}

/// What an instance keeps for life.
fn identity(snapshot: &Snapshot) -> (&MachineName, Option<&Subject>, u32) {
    (&snapshot.machine, snapshot.subject.as_ref(), snapshot.ordinal)
}

/// The first `limit` of `matching`; `cursor_of` names the last of them if there are more.
fn page<T>(matching: impl Iterator<Item = T>, limit: usize, cursor_of: impl Fn(&T) -> String) -> Page<T> {
    let mut data: Vec<T> = matching.take(limit.saturating_add(1)).collect();
    let has_more = data.len() > limit;
    data.truncate(limit);
    let last = data.last().filter(|_| has_more);
    Page { next: last.map(cursor_of), data }
}
