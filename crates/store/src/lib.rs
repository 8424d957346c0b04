//! Where Statewright remembers: the `Store` trait, its backends, and the contract that every backend keeps.
//!
//! A store saves whole commits and finds them again. It decides nothing: what a commit contains is the kernel's
//! business, and when one is made is the engine's. It has no clock; every `now` is an argument.
//! Calls block, so they belong on threads that may block. Every backend passes `contract`, case by case.

pub mod archive;
mod chain;
pub mod contract;
pub mod dossier;
mod kept;
pub mod memory;
mod open;
pub mod outbox;
pub mod phase;
pub mod postgres;
pub mod query;
pub mod record;
pub mod redis;
mod row;
mod seal;
pub mod setting;
pub mod sqlite;
pub mod standing;
pub mod vault;

use std::fmt;
use std::ops::ControlFlow;
use std::time::Duration;

use kernel::commit::{Commit, Entry};
use kernel::conversation::Clarification;
use kernel::id::{DefinitionHash, InstanceId, MachineName, Subject, TenantId};
use kernel::input::{ReceiptId, ReceiptScope};
use kernel::snapshot::Snapshot;
use kernel::time::Timestamp;

pub use dossier::{Dossier, Gathered};
pub use memory::MemoryStore;
pub use open::{URLS, open};
pub use outbox::{
    ClaimedEffect, DeliveryReport, DeliveryStage, EffectQuery, EffectStatus, OutboxEffect, Settlement,
    SettlementResult,
};
pub use phase::{PhaseLine, PhaseQuery, WorkerQuery};
pub use postgres::PostgresStore;
pub use query::{ClarificationQuery, CleanupReport, HistoryQuery, InstanceQuery, Page, StoreStatistics};
pub use record::Records;
pub use redis::RedisStore;
pub use setting::Setting;
pub use sqlite::{SqliteOptions, SqliteStore};
pub use standing::{Standing, StandingAt, Standings};
pub use vault::keyed::KeyedStore;
pub use vault::parts::Secrets;
pub use vault::{KeyReport, MasterKey, Vault};

/// A durable home for instances, their log, their clarifications, their phases, their outbox, their definitions and
/// settings.
pub trait Store: Send + Sync + fmt::Debug {
    /// Saves a batch in its order, acknowledged when it is as durable as `info` says. Each commit is saved whole or
    /// not at all, and its outcome says which; a commit sees those before it in the batch. Once one on an instance was
    /// not saved, the later ones of the batch on it are stale: they were decided on what was not saved, even where the
    /// revision happens to fit.
    ///
    /// # Errors
    /// When the batch as a whole was not saved, or nobody can tell. No outcome is known then.
    fn commit(&self, batch: &[Commit]) -> Result<Vec<Outcome>, CommitError>;

    /// # Errors
    /// `Corrupt` when the record's checksum does not fit: it has been put into quarantine and is never served.
    fn load(&self, tenant: &TenantId, instance: &InstanceId) -> Result<Option<Snapshot>, LoadError>;

    /// The session of a subject with the highest ordinal, open or closed.
    ///
    /// # Errors
    /// As `load`.
    fn load_session(
        &self,
        tenant: &TenantId,
        machine: &MachineName,
        subject: &Subject,
    ) -> Result<Option<Snapshot>, LoadError>;

    /// The log entry that an earlier input of the tenant left under this receipt, with the instance that it belongs to.
    /// `scope` is that of the input: a backend may look nowhere else.
    ///
    /// # Errors
    /// As `load`.
    fn receipt(
        &self,
        tenant: &TenantId,
        scope: &ReceiptScope,
        receipt: ReceiptId,
    ) -> Result<Option<(InstanceId, Entry)>, LoadError>;

    /// Claims up to `limit` instances of all tenants that have a timer due at `now`, the longest due first. Nobody
    /// else is given them until `lease_until`, or until a commit changes them.
    ///
    /// # Errors
    /// When the store cannot be reached.
    fn claim_due(
        &self,
        now: Timestamp,
        lease_until: Timestamp,
        limit: usize,
    ) -> Result<Vec<(TenantId, InstanceId)>, LoadError>;

    /// The earliest time at which any instance may have to be looked at: its next deadline or, while it is claimed,
    /// the end of the lease if that is later. May be too early, never too late; after a `claim_due` at that time
    /// that found nothing, it has moved on.
    ///
    /// # Errors
    /// When the store cannot be reached.
    fn next_due(&self) -> Result<Option<Timestamp>, LoadError>;

    /// Snapshots that match, newest id first. A corrupt record is quarantined and left out.
    ///
    /// # Errors
    /// When the store cannot be reached.
    fn instances(&self, query: &InstanceQuery) -> Result<Page<Snapshot>, LoadError>;

    /// The log of one instance, from either end. A corrupt record is quarantined and left out.
    ///
    /// # Errors
    /// When the store cannot be reached.
    fn history(&self, query: &HistoryQuery) -> Result<Page<Entry>, LoadError>;

    /// Clarifications, newest first. A corrupt record is quarantined and left out.
    ///
    /// # Errors
    /// When the store cannot be reached.
    fn clarifications(&self, query: &ClarificationQuery) -> Result<Page<Clarification>, LoadError>;

    /// Phases of flows, in the order that `query` says. A line is as new as the last commit on its flow. A corrupt record
    /// is quarantined and left out, until a commit writes it anew.
    ///
    /// # Errors
    /// When the store cannot be reached.
    fn phases(&self, query: &PhaseQuery) -> Result<Page<PhaseLine>, LoadError>;

    /// Keeps a definition's source for the instances that are pinned to it. One that is saved again is kept once, and
    /// is the last of `definitions` from then on: what was activated last is current after a restart too.
    ///
    /// # Errors
    /// When it could not be saved durably.
    fn save_definition(&self, definition: &StoredDefinition) -> Result<(), CommitError>;

    /// All definitions ever saved, the one saved last at the end. A corrupt record is quarantined and left out; saving the definition
    /// again mends it.
    ///
    /// # Errors
    /// When the store cannot be reached.
    fn definitions(&self) -> Result<Vec<StoredDefinition>, LoadError>;

    /// Gives up to `limit` effects of all tenants to the caller until `lease_until`, the longest due first: what is
    /// pending and due at `now`, and what was being sent until a lease that has ended. Replies to an instance go one
    /// after the other: the first that is not settled is the only one of them that can be claimed, however long the
    /// others have been due. Calls wait for nobody. What is claimed is `Sending`, its `attempts` one more, and that is
    /// durable before the caller knows of it: what is sent was claimed, whatever becomes of the process.
    ///
    /// # Errors
    /// As `commit`. What may have been claimed then is claimed again when the lease has ended.
    fn claim_effects(
        &self,
        now: Timestamp,
        lease_until: Timestamp,
        limit: usize,
    ) -> Result<Vec<ClaimedEffect>, CommitError>;

    /// Says how attempts have ended, all or none of them durably. `false`: the effect is not being sent at that attempt
    /// any more, and nothing of it has changed.
    ///
    /// # Errors
    /// As `commit`. A settlement may be repeated.
    fn settle_effects(&self, settlements: &[Settlement], now: Timestamp) -> Result<Vec<bool>, CommitError>;

    /// The earliest time at which `claim_effects` may find something. May be too early, never too late; after a claim
    /// at that time that found nothing, it has moved on.
    ///
    /// # Errors
    /// When the store cannot be reached.
    fn next_effect_due(&self) -> Result<Option<Timestamp>, LoadError>;

    /// Makes an effect due at `now` that is dead, unknown, unaddressed or pending, with no attempts counted and no part
    /// of it forgotten that is done; what a provider has reported of it is. It takes its old place before later replies to its instance. Gives the
    /// status that it had; with any other, nothing is changed. `None` when there is no such effect.
    ///
    /// # Errors
    /// As `commit`.
    fn retry_effect(
        &self,
        tenant: &TenantId,
        key: &str,
        now: Timestamp,
    ) -> Result<Option<EffectStatus>, CommitError>;

    /// Takes down what a provider reports of the effect that it calls `provider_id`; of several, the newest. If it calls
    /// none so, the effect with the report's key is meant, if that is `unknown`: it is delivered then. One that has failed is dead. `false`
    /// when there is none, or when that stage is no news. The report's error replaces the last failure, if it has one.
    ///
    /// # Errors
    /// As `commit`. A report may be repeated.
    fn note_stage(&self, report: &DeliveryReport) -> Result<bool, CommitError>;

    /// Effects, newest first. A corrupt record is quarantined and left out.
    ///
    /// # Errors
    /// When the store cannot be reached.
    fn effects(&self, query: &EffectQuery) -> Result<Page<OutboxEffect>, LoadError>;

    /// Keeps a setting in the place of what its tenant had under that name.
    ///
    /// # Errors
    /// When it could not be saved durably.
    fn save_setting(&self, setting: &Setting) -> Result<(), CommitError>;

    /// All settings of all tenants, by tenant and name. A corrupt record is quarantined and left out; saving the
    /// setting again mends it.
    ///
    /// # Errors
    /// When the store cannot be reached.
    fn settings(&self) -> Result<Vec<Setting>, LoadError>;

    /// Deletes log entries made before `before` whose instance is closed or has newer entries, and effects settled
    /// before it, and closed instances of what is kept beside a tenant that have no log any more; together at most
    /// `limit`. Receipts go with their entries, phases with their instances. Open instances and their newest entries stay, and so do effects that
    /// are pending or being sent, and instances of the tenants themselves.
    ///
    /// # Errors
    /// When the store cannot be reached.
    fn clean_up(&self, before: Timestamp, limit: usize) -> Result<CleanupReport, CommitError>;

    /// Figures for metrics: counts by machine and state, phases too, clarifications and effects by status, quarantined
    /// records.
    ///
    /// # Errors
    /// When the store cannot be reached.
    fn statistics(&self) -> Result<StoreStatistics, LoadError>;

    /// How the open instances of all tenants stand at a time. It may look at all of them, and need not look at them at one
    /// moment; no commit waits for it.
    ///
    /// # Errors
    /// When the store cannot be reached.
    fn standings(&self, at: StandingAt) -> Result<Standings, LoadError>;

    /// Has `visit` look at every instance of every tenant, in no particular order, until it says that it is enough. Each
    /// is as it was at one moment, and where `at_one_moment` is said, all of them at the same. It may take its time: no
    /// commit waits for it. A record that is corrupt is quarantined and left out; an instance that is, with all that
    /// belongs to it. So is what belongs to no instance.
    ///
    /// # Errors
    /// When the store cannot be reached, or has a record that there is no key to: what `visit` was given then is not all.
    fn dossiers(&self, visit: &mut dyn FnMut(Dossier) -> ControlFlow<()>) -> Result<Gathered, LoadError>;

    /// Takes in instances that are not there, as other stores have given them away: all of them or none, as durably as
    /// commits. Afterwards all is there that their commits would have left, so that repeats are recognised, timers come
    /// due, and what waits to be sent is claimed in the same order. Where the servers of a store save by themselves, each
    /// takes in all or none of what is for it.
    ///
    /// # Errors
    /// As `commit`; and when an instance is there already, which the error then names.
    fn take_in(&self, dossiers: &[Dossier]) -> Result<(), CommitError>;

    /// Waits until another server may have saved a definition or a setting, or for `at_most`, and says whether there was
    /// a sign of that. A hint: it may come late, for nothing, or never.
    fn wait_for_news(&self, at_most: Duration) -> bool {
        std::thread::sleep(at_most);
        false
    }

    /// Whether it can save commits that have secrets.
    fn keeps_secrets(&self) -> bool {
        true
    }

    /// What the data takes where it is kept, as far as the backend tells.
    fn space(&self) -> Space {
        Space::default()
    }

    /// What this store is and what an acknowledgement of it is worth.
    fn info(&self) -> StoreInfo;
}

/// What the data takes, and what room there is, in bytes; `None` where the backend does not tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Space {
    /// All of it.
    pub data_bytes: Option<u64>,
    /// Of these, what is in a write-ahead log that the backend keeps beside it.
    pub log_bytes: Option<u64>,
    /// What may still be written on the disk where it lies.
    pub free_bytes: Option<u64>,
}

/// What became of one commit of a batch.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    Committed,
    /// The instance is at another revision than expected, or exists where it should not; nothing was saved.
    Stale,
    /// The receipt exists: this input was handled before, and this is what it left. Nothing was saved.
    Duplicate(Box<(InstanceId, Entry)>),
    /// A part of it is larger, or nested more deeply, than a record may be; this says which, and how much is allowed.
    /// Nothing was saved, and no repeat will be.
    TooLarge(String),
}

/// Why a whole batch is not known to be saved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommitError {
    /// Nothing was saved: the disk is full. Reads still work, and writes will when there is room.
    Full(String),
    /// Nothing was saved, and a retry may succeed.
    Unavailable(String),
    /// The error came at the commit itself: the batch is saved or it is not, and the receipts tell.
    Unknown(String),
}

impl fmt::Display for CommitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full(detail) => write!(f, "the store is full: {detail}"),
            Self::Unavailable(detail) => write!(f, "the store is not available: {detail}"),
            Self::Unknown(detail) => {
                write!(f, "whether the commit was saved is not known: {detail}")
            }
        }
    }
}

impl std::error::Error for CommitError {}

/// Why a record cannot be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoadError {
    /// The record is not what was saved; it is in quarantine.
    Corrupt {
        record: String,
        detail: String,
    },
    Unavailable(String),
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Corrupt { record, detail } => {
                write!(f, "the record {record} is corrupt and was put into quarantine: {detail}")
            }
            Self::Unavailable(detail) => write!(f, "the store is not available: {detail}"),
        }
    }
}

impl std::error::Error for LoadError {}

/// The source of a definition, as it was when it was activated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredDefinition {
    pub hash: DefinitionHash,
    pub machine: MachineName,
    pub version: u32,
    pub source: String,
    pub saved_at: Timestamp,
}

/// What an acknowledgement is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Survives kill -9 and power loss.
    Durable,
    /// A failure may lose what was acknowledged in the last moments.
    BoundedLoss,
    /// Ends with the process.
    Volatile,
}

impl Durability {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Durable => "durable",
            Self::BoundedLoss => "bounded-loss",
            Self::Volatile => "volatile",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreInfo {
    /// `sqlite`, `memory`, …
    pub backend: &'static str,
    /// The backend's own version, such as SQLite's.
    pub version: String,
    /// Where the data is, without secrets.
    pub location: String,
    pub durability: Durability,
    /// Whether several servers may work over it at once. What one of them has in memory may be overtaken then.
    pub is_shared: bool,
    /// How many batches it saves at one time to advantage; at least one.
    pub writers: usize,
    /// What whoever runs it should know: why the durability is no better, what was found in the backend's settings.
    pub notes: Vec<String>,
}

/// What is said of an instance that is not taken in.
fn is_there(snapshot: &Snapshot) -> CommitError {
    let Snapshot { tenant, instance, .. } = snapshot;
    CommitError::Unavailable(format!(
        "the instance `{instance}` of the tenant `{tenant}` is there already, or its session is"
    ))
}

/// When an instance next has to be looked at: a closed one never, whatever timers it still has.
fn due_at(snapshot: &Snapshot) -> Option<Timestamp> {
    if snapshot.is_closed() {
        return None;
    }
    snapshot.wake_at()
}

/// Whether the parts of a commit speak of the same instance at the same revision, and effects and
/// phases come with a change. A commit for which this is false
/// is a mistake in the program: saved, it would be a record that contradicts itself.
fn is_coherent(commit: &Commit) -> bool {
    let afterwards = match &commit.after {
        None if !commit.effects.is_empty() || !commit.phases.is_empty() => return false,
        None => commit.expected,
        Some(after) => {
            if after.tenant != commit.tenant || after.instance != commit.instance {
                return false;
            }
            if after.revision != commit.expected.next() {
                return false;
            }
            after.revision
        }
    };
    let mut questions = commit.clarifications.iter();
    let mut effects = commit.effects.iter();
    // An instance's effects are found by their keys.
    let is_ours = |key: &str| key.strip_prefix(commit.instance.as_str()).is_some_and(|r| r.starts_with(':'));
    commit.entry.revision == afterwards
        && effects.all(|effect| is_ours(&effect.key))
        && questions.all(|c| c.tenant == commit.tenant && c.instance == commit.instance)
}
