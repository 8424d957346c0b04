//! Redis and Valkey as a store: one server, or a cluster.
//!
//! Owns the servers and what was heard of them. Its invariants: everything of a tenant is in one bucket, and so in one
//! slot; what belongs together is written by one script, which checks everything before it writes anything; every script
//! makes sure that the bucket is there and belongs to this store; a record is served only if its checksum fits, and one
//! that an index names and that is not there is lost, not new. What an acknowledgement is worth is the servers' to say.

mod clean;
mod commit;
mod dossiers;
mod due;
mod durability;
mod failure;
mod identity;
mod keys;
mod lists;
mod location;
mod node;
mod outbox;
mod pack;
mod phases;
mod read;
mod script;
mod servers;
mod standings;
mod value;

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use kernel::commit::{Commit, Entry};
use kernel::conversation::Clarification;
use kernel::id::{InstanceId, MachineName, Subject, TenantId};
use kernel::input::{ReceiptId, ReceiptScope};
use kernel::snapshot::Snapshot;
use kernel::time::Timestamp;
use redis::{Cmd, Value, cmd};

use crate::dossier::{Dossier, Gathered};
use crate::outbox::{ClaimedEffect, DeliveryReport, EffectQuery, EffectStatus, OutboxEffect, Settlement};
use crate::phase::{PhaseLine, PhaseQuery};
use crate::query::{ClarificationQuery, CleanupReport, HistoryQuery, InstanceQuery, Page, StoreStatistics};
use crate::record::Records;
use crate::redis::durability::Condition;
use crate::redis::failure::Failure;
pub use crate::redis::failure::OpenError;
use crate::redis::keys::{Keys, Place};
use crate::redis::location::Location;
use crate::redis::script::Script;
use crate::redis::servers::{Call, Servers};
use crate::seal::Damage;
use crate::{
    CommitError, LoadError, Outcome, Setting, StandingAt, Standings, Store, StoreInfo, StoredDefinition,
};

/// Settings of servers change seldom, and `info` is asked often.
const CONDITION_HOLDS: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub struct RedisStore {
    servers: Servers,
    location: Location,
    identity: String,
    records: Records,
    /// The highest number of each bucket's log that was heard of. One that goes back has lost what was acknowledged.
    log_heard: Vec<AtomicI64>,
    /// The highest number of an effect in any bucket.
    effects_heard: AtomicI64,
    condition: Mutex<(Condition, Instant)>,
    /// What was lost, for whoever runs this.
    losses: Mutex<Vec<String>>,
}

impl RedisStore {
    /// Whether a URL with this scheme is one for `open`.
    pub fn knows(scheme: &str) -> bool {
        location::scheme(scheme).is_some()
    }

    /// `open_with`, and records as they are by default.
    ///
    /// # Errors
    /// As `open_with`.
    pub fn open(url: &str) -> Result<Self, OpenError> {
        Self::open_with(url, Records::default())
    }

    /// Opens the store at a URL, `redis://host:port` or `redis+cluster://host:port,host:port`, or makes it there.
    ///
    /// # Errors
    /// When the URL says nothing that is understood, when no server answers, and when what is there or how it is set up
    /// cannot be a store.
    pub fn open_with(url: &str, records: Records) -> Result<Self, OpenError> {
        let location = Location::parse(url)?;
        let servers = Servers::new(&location);
        let (condition, evictions) = durability::look(&servers)?;
        durability::check_eviction(&location, &evictions)?;
        let found = identity::open(&servers, &location.keys)?;
        let effects = found.numbers.iter().map(|(_, effects)| *effects).max().unwrap_or(0);
        Ok(Self {
            servers,
            location,
            identity: found.identity,
            records,
            log_heard: found.numbers.into_iter().map(|(seq, _)| AtomicI64::new(seq)).collect(),
            effects_heard: AtomicI64::new(effects),
            condition: Mutex::new((condition, Instant::now())),
            losses: Mutex::default(),
        })
    }

    fn keys(&self) -> &Keys {
        &self.location.keys
    }

    /// How long closed instances are kept, in milliseconds.
    fn ttl(&self) -> Option<i64> {
        self.location.closed_ttl.map(|ttl| i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX))
    }

    /// A call of a script about one bucket.
    fn call(&self, place: Place, script: &'static Script, packed: Vec<u8>) -> Call {
        let key = match place {
            Place::Meta => self.keys().store(),
            Place::Bucket(_) => self.keys().meta(place),
        };
        Call::script(place, script, vec![key], &self.identity, packed)
    }

    fn ask_one(&self, call: Call) -> Result<Value, Failure> {
        let answer = self.servers.ask(&[call]).pop();
        answer.unwrap_or_else(|| Err(Failure::strange("nothing")))
    }

    /// As `ask_one`, for what is written and need be as durable as a commit.
    fn tell_one(&self, call: Call) -> Result<Value, Failure> {
        let answer = self.servers.ask_and_wait(&[call], self.location.wait).pop();
        answer.unwrap_or_else(|| Err(Failure::strange("nothing")))
    }

    /// The same command to every bucket, and whether the store is still the one that was opened.
    fn ask_all(&self, command: impl Fn(&str) -> Cmd) -> Result<Vec<(Place, Value)>, Failure> {
        let places: Vec<Place> = self.keys().all_buckets().collect();
        let mut calls: Vec<Call> =
            places.iter().map(|place| Call::command(*place, command(&self.keys().home(*place)))).collect();
        let mut whose = cmd("HGET");
        whose.arg(self.keys().store()).arg("store");
        calls.push(Call::command(Place::Meta, whose));
        let mut answers = failure::all(self.servers.ask(&calls))?;
        let whose = answers.pop().map(value::optional_text).transpose()?.flatten();
        if whose.as_ref() != Some(&self.identity) {
            let what = if whose.is_some() { "belongs to another store" } else { "is gone" };
            return Err(Failure::NotRun(format!(
                "the store lost its identity: the key `{}` {what}; restore it from a backup",
                self.keys().store()
            )));
        }
        Ok(places.into_iter().zip(answers).collect())
    }

    fn seen(&self, place: Place) -> i64 {
        match place {
            Place::Bucket(number) => {
                self.log_heard.get(usize::from(number)).map_or(0, |seen| seen.load(Ordering::Relaxed))
            }
            Place::Meta => 0,
        }
    }

    fn heard(&self, place: Place, seq: i64, effects: i64) {
        if let Place::Bucket(number) = place
            && let Some(seen) = self.log_heard.get(usize::from(number))
        {
            seen.fetch_max(seq, Ordering::Relaxed);
        }
        self.effects_heard.fetch_max(effects, Ordering::Relaxed);
    }

    /// Commits that were acknowledged are not there any more: a replica took over, or a backup was restored.
    fn note_loss(&self, place: Place, count: i64) {
        let key = self.keys().meta(place);
        let detail = format!("about {count} log entries that were acknowledged are not there any more");
        tracing::error!(bucket = key, "the store has gone back: {detail}");
        self.losses().push(format!("{key}: {detail}"));
        self.quarantine(&[lost("buckets", &format!("{key} {count}"), &detail)]);
    }

    fn losses(&self) -> MutexGuard<'_, Vec<String>> {
        self.losses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A record that cannot be put into quarantine is not served all the same, and is put there when it is next asked
    /// for.
    fn quarantine(&self, damaged: &[Damage]) {
        let key = self.keys().home(Place::Meta) + "quarantine";
        let calls = damaged.iter().map(|damage| {
            let field = format!("{} {:016x}", damage.key, damage.fingerprint());
            let raw = String::from_utf8_lossy(&damage.raw);
            let value = serde_json::json!({ "record": damage.key, "detail": damage.detail, "raw": raw });
            let mut put = cmd("HSETNX");
            put.arg(&key).arg(field).arg(value.to_string());
            Call::command(Place::Meta, put)
        });
        let calls: Vec<Call> = calls.collect();
        if !calls.is_empty() {
            let _ = self.servers.ask(&calls);
        }
    }

    /// The settings of the servers, not much older than they may be.
    fn condition(&self) -> Condition {
        let is_old = {
            let mut known = self.condition.lock().unwrap_or_else(PoisonError::into_inner);
            let is_old = known.1.elapsed() > CONDITION_HOLDS;
            if is_old {
                // Whoever comes meanwhile need not ask as well.
                known.1 = Instant::now();
            }
            is_old
        };
        let found = if is_old { durability::look(&self.servers).ok() } else { None };
        let mut known = self.condition.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((mut condition, evictions)) = found {
            if let Err(problem) = durability::check_eviction(&self.location, &evictions) {
                condition.notes.push(problem.to_string());
            }
            known.0 = condition;
        }
        known.0.clone()
    }
}

/// The damage of a record that was saved and is not there.
fn lost(source: &'static str, key: &str, detail: &str) -> Damage {
    Damage {
        source,
        row: 0,
        key: format!("{source} {key}"),
        detail: detail.to_owned(),
        raw: format!("{source} {key}").into_bytes(),
    }
}

impl Store for RedisStore {
    fn commit(&self, batch: &[Commit]) -> Result<Vec<Outcome>, CommitError> {
        self.save_batch(batch)
    }

    fn load(&self, tenant: &TenantId, instance: &InstanceId) -> Result<Option<Snapshot>, LoadError> {
        self.load_instance(tenant, instance)
    }

    fn load_session(
        &self,
        tenant: &TenantId,
        machine: &MachineName,
        subject: &Subject,
    ) -> Result<Option<Snapshot>, LoadError> {
        self.load_last_session(tenant, machine, subject)
    }

    fn receipt(
        &self,
        tenant: &TenantId,
        _: &ReceiptScope,
        receipt: ReceiptId,
    ) -> Result<Option<(InstanceId, Entry)>, LoadError> {
        self.find_receipt(tenant, receipt)
    }

    fn claim_due(
        &self,
        now: Timestamp,
        lease_until: Timestamp,
        limit: usize,
    ) -> Result<Vec<(TenantId, InstanceId)>, LoadError> {
        Ok(self.claim_instances(now, lease_until, limit)?)
    }

    fn next_due(&self) -> Result<Option<Timestamp>, LoadError> {
        Ok(self.earliest("due")?)
    }

    fn instances(&self, query: &InstanceQuery) -> Result<Page<Snapshot>, LoadError> {
        self.list_instances(query)
    }

    fn history(&self, query: &HistoryQuery) -> Result<Page<Entry>, LoadError> {
        Ok(self.list_history(query)?)
    }

    fn clarifications(&self, query: &ClarificationQuery) -> Result<Page<Clarification>, LoadError> {
        Ok(self.list_questions(query)?)
    }

    fn phases(&self, query: &PhaseQuery) -> Result<Page<PhaseLine>, LoadError> {
        Ok(self.list_phases(query)?)
    }

    fn save_definition(&self, definition: &StoredDefinition) -> Result<(), CommitError> {
        Ok(self.keep_definition(definition)?)
    }

    fn definitions(&self) -> Result<Vec<StoredDefinition>, LoadError> {
        Ok(self.kept_definitions()?)
    }

    fn claim_effects(
        &self,
        now: Timestamp,
        lease_until: Timestamp,
        limit: usize,
    ) -> Result<Vec<ClaimedEffect>, CommitError> {
        Ok(self.claim_outbox(now, lease_until, limit)?)
    }

    fn settle_effects(&self, settlements: &[Settlement], now: Timestamp) -> Result<Vec<bool>, CommitError> {
        Ok(self.settle_outbox(settlements, now)?)
    }

    fn next_effect_due(&self) -> Result<Option<Timestamp>, LoadError> {
        Ok(self.earliest("claimable")?)
    }

    fn retry_effect(
        &self,
        tenant: &TenantId,
        key: &str,
        now: Timestamp,
    ) -> Result<Option<EffectStatus>, CommitError> {
        Ok(self.retry_outbox(tenant, key, now)?)
    }

    fn note_stage(&self, report: &DeliveryReport) -> Result<bool, CommitError> {
        Ok(self.note_report(report)?)
    }

    fn effects(&self, query: &EffectQuery) -> Result<Page<OutboxEffect>, LoadError> {
        Ok(self.list_effects(query)?)
    }

    fn save_setting(&self, setting: &Setting) -> Result<(), CommitError> {
        let (body, checksum) = self.records.setting(setting).map_err(CommitError::Unavailable)?;
        Ok(self.keep_setting(setting, &body, checksum)?)
    }

    fn settings(&self) -> Result<Vec<Setting>, LoadError> {
        Ok(self.kept_settings()?)
    }

    fn clean_up(&self, before: Timestamp, limit: usize) -> Result<CleanupReport, CommitError> {
        Ok(self.delete_old(before, limit)?)
    }

    fn statistics(&self) -> Result<StoreStatistics, LoadError> {
        Ok(self.count_all()?)
    }

    fn standings(&self, at: StandingAt) -> Result<Standings, LoadError> {
        Ok(self.count_standings(at)?)
    }

    fn dossiers(&self, visit: &mut dyn FnMut(Dossier) -> ControlFlow<()>) -> Result<Gathered, LoadError> {
        Ok(self.gather(visit)?)
    }

    fn take_in(&self, dossiers: &[Dossier]) -> Result<(), CommitError> {
        let filed = dossiers.iter().map(|dossier| self.records.file(dossier));
        let filed: Vec<_> = filed.collect::<Result<_, _>>().map_err(CommitError::Unavailable)?;
        self.take_in_all(&filed)
    }

    fn info(&self) -> StoreInfo {
        let Condition { backend, version, durability, mut notes } = self.condition();
        notes.extend(self.losses().iter().cloned());
        if self.location.wait > 0 {
            notes.push(format!("a batch is acknowledged when {} replicas have it", self.location.wait));
        }
        let location = self.location.shown.clone();
        StoreInfo { backend, version, location, durability, is_shared: true, writers: 2, notes }
    }
}
