//! The default store: one SQLite file, one writer, group commit, and readers that never wait for it.
//!
//! Owns the connections and what holds between them. Its invariants: a batch is one transaction that is flushed before
//! it is acknowledged (`synchronous=FULL`); only the writer's connection writes, and only one process has one; a record
//! is served only if its checksum fits. Speed comes from the batch, not from a weaker setting.

mod checkpoint;
mod failure;
mod outbox;
mod phases;
mod read;
mod schema;
mod seal;
mod setting;
#[cfg(test)]
mod tests;
mod write;

use std::ffi::OsString;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kernel::commit::{Commit, Entry};
use kernel::conversation::Clarification;
use kernel::id::{InstanceId, MachineName, Subject, TenantId};
use kernel::input::ReceiptId;
use kernel::snapshot::Snapshot;
use kernel::time::Timestamp;
use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};

use crate::chain::Batch;
use crate::outbox::{ClaimedEffect, DeliveryReport, EffectQuery, EffectStatus, OutboxEffect, Settlement};
use crate::phase::{PhaseLine, PhaseQuery};
use crate::query::{ClarificationQuery, CleanupReport, HistoryQuery, InstanceQuery, Page, StoreStatistics};
use crate::record::Records;
use crate::seal::Damage;
use crate::sqlite::checkpoint::Checkpointer;
pub use crate::sqlite::failure::OpenError;
use crate::sqlite::seal::Fault;
use crate::{CommitError, Durability, LoadError, Outcome, Setting, Store, StoreInfo, StoredDefinition};

/// Before 3.51.3, a checkpoint beside a writer could lose commits.
const SQLITE_VERSION_MIN: i32 = 3_051_003;

/// For the moments in which somebody with a shell holds the file; the server itself never waits for itself.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// The pages of some tens of thousands of live instances, so that the writer seldom reads from the file.
const WRITER_CACHE_KIB: i64 = 64 * 1_024;

/// More than there are threads that read at once; a connection that comes back to a full pool is closed.
const IDLE_READERS_MAX: usize = 8;

/// Every statement of a connection, so that none is prepared twice.
const STATEMENTS_MAX: usize = 64;

#[derive(Debug)]
pub struct SqliteStore {
    // In the order in which they have to go: the lock last, when no connection is left.
    checkpointer: Checkpointer,
    readers: Mutex<Vec<Connection>>,
    writer: Mutex<Writer>,
    path: PathBuf,
    records: Records,
    _lock: File,
}

#[derive(Debug)]
struct Writer {
    connection: Connection,
    /// The number of the newest log line there has been. Counted here, because cleaning up may delete that line and a
    /// number must not come twice: cursors are made of it.
    log_last: i64,
}

impl SqliteStore {
    /// `open_with`, and records as they are by default.
    ///
    /// # Errors
    /// As `open_with`.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        Self::open_with(path, Records::default())
    }

    /// Opens or creates the file, and takes it through the steps of the schema that it has not been through.
    ///
    /// # Errors
    /// When another server has the file, when a newer program wrote it, or when it cannot be used at all.
    pub fn open_with(path: &Path, records: Records) -> Result<Self, OpenError> {
        if rusqlite::version_number() < SQLITE_VERSION_MIN {
            let found = rusqlite::version().to_owned();
            return Err(OpenError::SqliteTooOld { found });
        }
        let lock = take_lock(path)?;
        let mut connection = open_writer(path)?;
        schema::migrate(&mut connection)?;
        checkpoint::cap_log(&mut connection)?;
        let log_last = connection.query_row("SELECT coalesce(max(seq), 0) FROM log", (), |row| row.get(0))?;
        let checkpointer = Checkpointer::start(open_writer(path)?)
            .map_err(|error| OpenError::Unusable(format!("no thread for checkpoints: {error}")))?;
        Ok(Self {
            checkpointer,
            readers: Mutex::default(),
            writer: Mutex::new(Writer { connection, log_last }),
            path: path.to_owned(),
            records,
            _lock: lock,
        })
    }

    /// Runs `change` in a transaction and commits it.
    fn write<T>(
        &self,
        change: impl FnOnce(&Transaction<'_>, &mut i64) -> Result<T, CommitError>,
    ) -> Result<T, CommitError> {
        // A panic in a transaction has rolled it back, so the connection is good for the next.
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let Writer { connection, log_last } = &mut *writer;
        let transaction = connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(failure::before_commit)?;
        let changed = change(&transaction, log_last)?;
        transaction.commit().map_err(failure::at_commit)?;
        drop(writer);
        self.checkpointer.wrote();
        Ok(changed)
    }

    /// As `write`, for what appends nothing to the log.
    fn change<T>(&self, change: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, CommitError> {
        self.write(|transaction, _| change(transaction).map_err(failure::before_commit))
    }

    /// Runs `question` on a connection of the pool.
    fn read<T, E: From<rusqlite::Error>>(
        &self,
        question: impl FnOnce(&Connection) -> Result<T, E>,
    ) -> Result<T, E> {
        let idle = self.idle_readers().pop();
        let connection = match idle {
            Some(connection) => connection,
            None => open_reader(&self.path)?,
        };
        let answer = question(&connection);
        let mut readers = self.idle_readers();
        if readers.len() < IDLE_READERS_MAX {
            readers.push(connection);
        }
        answer
    }

    fn idle_readers(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.readers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The answer to a question about one record.
    fn one<T>(&self, question: impl FnOnce(&Connection) -> Result<T, Fault>) -> Result<T, LoadError> {
        self.read(question).map_err(|fault| self.fault(fault))
    }

    fn fault(&self, fault: Fault) -> LoadError {
        match fault {
            Fault::Backend(error) => failure::at_load(error),
            Fault::Locked(locked) => LoadError::Unavailable(locked.detail),
            Fault::NewerFormat(format) => {
                LoadError::Unavailable(format!("a newer program wrote it, in format {format}"))
            }
            Fault::Damaged(damage) => {
                self.quarantine(std::slice::from_ref(&*damage));
                LoadError::Corrupt { record: damage.key, detail: damage.detail }
            }
        }
    }

    /// The answer to a question about many records.
    fn many<T, E: Into<Fault> + From<rusqlite::Error>>(
        &self,
        question: impl FnOnce(&Connection) -> Result<read::Listed<T>, E>,
    ) -> Result<T, LoadError> {
        let (list, damaged) = self.read(question).map_err(|fault| self.fault(fault.into()))?;
        self.quarantine(&damaged);
        Ok(list)
    }

    /// A record that cannot be put into quarantine, for want of room perhaps, is not served all the same, and is put
    /// there when it is next asked for.
    fn quarantine(&self, damaged: &[Damage]) {
        if damaged.is_empty() {
            return;
        }
        let put = |connection: &Transaction<'_>, _: &mut i64| {
            let mut each = damaged.iter();
            each.try_for_each(|damage| seal::quarantine(connection, damage)).map_err(failure::before_commit)
        };
        let _ = self.write(put);
    }
}

impl Store for SqliteStore {
    fn commit(&self, batch: &[Commit]) -> Result<Vec<Outcome>, CommitError> {
        let batch = Batch::new(&self.records, batch);
        self.write(|transaction, log_last| {
            write::commit(transaction, &batch, &self.records.secrets, log_last)
        })
    }

    fn load(&self, tenant: &TenantId, instance: &InstanceId) -> Result<Option<Snapshot>, LoadError> {
        self.one(|connection| read::instance(connection, tenant, instance, &self.records.secrets))
    }

    fn load_session(
        &self,
        tenant: &TenantId,
        machine: &MachineName,
        subject: &Subject,
    ) -> Result<Option<Snapshot>, LoadError> {
        self.one(|connection| read::session(connection, tenant, machine, subject, &self.records.secrets))
    }

    fn receipt(&self, _: &TenantId, receipt: ReceiptId) -> Result<Option<(InstanceId, Entry)>, LoadError> {
        self.one(|connection| {
            write::find_receipt(connection, receipt.0.0.to_be_bytes(), &self.records.secrets)
        })
    }

    fn claim_due(
        &self,
        now: Timestamp,
        lease_until: Timestamp,
        limit: usize,
    ) -> Result<Vec<(TenantId, InstanceId)>, LoadError> {
        let claimed = self.change(|connection| write::claim_due(connection, now, lease_until, limit));
        claimed.map_err(|error| LoadError::Unavailable(error.to_string()))
    }

    fn next_due(&self) -> Result<Option<Timestamp>, LoadError> {
        self.read(read::next_due).map_err(failure::at_load)
    }

    fn instances(&self, query: &InstanceQuery) -> Result<Page<Snapshot>, LoadError> {
        self.many(|connection| read::instances(connection, query, &self.records.secrets))
    }

    fn history(&self, query: &HistoryQuery) -> Result<Page<Entry>, LoadError> {
        self.many(|connection| read::history(connection, query, &self.records.secrets))
    }

    fn clarifications(&self, query: &ClarificationQuery) -> Result<Page<Clarification>, LoadError> {
        self.many(|connection| read::clarifications(connection, query, &self.records.secrets))
    }

    fn phases(&self, query: &PhaseQuery) -> Result<Page<PhaseLine>, LoadError> {
        self.many(|connection| phases::list(connection, query))
    }

    fn save_definition(&self, definition: &StoredDefinition) -> Result<(), CommitError> {
        self.change(|connection| write::save_definition(connection, definition))
    }

    fn definitions(&self) -> Result<Vec<StoredDefinition>, LoadError> {
        self.many(read::definitions)
    }

    fn claim_effects(
        &self,
        now: Timestamp,
        lease_until: Timestamp,
        limit: usize,
    ) -> Result<Vec<ClaimedEffect>, CommitError> {
        self.change(|connection| outbox::claim(connection, now, lease_until, limit, &self.records.secrets))
    }

    fn settle_effects(&self, settlements: &[Settlement], now: Timestamp) -> Result<Vec<bool>, CommitError> {
        self.change(|connection| {
            let each = settlements.iter();
            each.map(|settlement| outbox::settle(connection, settlement, now)).collect()
        })
    }

    fn next_effect_due(&self) -> Result<Option<Timestamp>, LoadError> {
        self.read(outbox::next_due).map_err(failure::at_load)
    }

    fn retry_effect(
        &self,
        tenant: &TenantId,
        key: &str,
        now: Timestamp,
    ) -> Result<Option<EffectStatus>, CommitError> {
        self.change(|connection| outbox::retry(connection, tenant, key, now))
    }

    fn note_stage(&self, report: &DeliveryReport) -> Result<bool, CommitError> {
        self.change(|connection| outbox::note_stage(connection, report))
    }

    fn effects(&self, query: &EffectQuery) -> Result<Page<OutboxEffect>, LoadError> {
        self.many(|connection| outbox::list(connection, query, &self.records.secrets))
    }

    fn save_setting(&self, setting: &Setting) -> Result<(), CommitError> {
        let (body, checksum) = self.records.setting(setting).map_err(CommitError::Unavailable)?;
        self.change(|connection| setting::save(connection, setting, &body, checksum))
    }

    fn settings(&self) -> Result<Vec<Setting>, LoadError> {
        self.many(setting::list)
    }

    fn clean_up(&self, before: Timestamp, limit: usize) -> Result<CleanupReport, CommitError> {
        self.change(|connection| write::clean_up(connection, before, limit))
    }

    fn statistics(&self) -> Result<StoreStatistics, LoadError> {
        self.read(read::statistics).map_err(failure::at_load)
    }

    /// Of the file and its log.
    fn stored_bytes(&self) -> Option<u64> {
        let file = std::fs::metadata(&self.path).ok()?.len();
        let mut log = OsString::from(&self.path);
        log.push("-wal");
        Some(file + std::fs::metadata(log).map_or(0, |log| log.len()))
    }

    fn info(&self) -> StoreInfo {
        StoreInfo {
            backend: "sqlite",
            version: rusqlite::version().to_owned(),
            location: self.path.display().to_string(),
            durability: Durability::Durable,
            is_shared: false,
            notes: Vec::new(),
        }
    }
}

/// Takes the lock that keeps a second server out. The operating system gives it back however the process ends.
fn take_lock(path: &Path) -> Result<File, OpenError> {
    let mut name = OsString::from(path);
    name.push(".lock");
    let lock = PathBuf::from(name);
    let shown = lock.display().to_string();
    let unusable = |error: std::io::Error| OpenError::Unusable(format!("{shown}: {error}"));
    let file = File::options().create(true).truncate(false).write(true).open(&lock).map_err(unusable)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse { lock: shown }),
        Err(TryLockError::Error(error)) => Err(unusable(error)),
    }
}

fn open_writer(path: &Path) -> Result<Connection, OpenError> {
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = open(path, flags)?;
    connection.pragma_update(None, "page_size", 4_096)?;
    let mode: String = connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
    if mode != "wal" {
        let detail = format!("no write-ahead log on this file system (journal mode {mode})");
        return Err(OpenError::Unusable(detail));
    }
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update_and_check(None, "wal_autocheckpoint", 0, |_| Ok(()))?;
    connection.pragma_update(None, "cache_size", -WRITER_CACHE_KIB)?;
    Ok(connection)
}

fn open_reader(path: &Path) -> rusqlite::Result<Connection> {
    open(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)
}

fn open(path: &Path, flags: OpenFlags) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    Ok(connection)
}
