//! The default store: one SQLite file, one writer, group commit, and readers that never wait for it.
//!
//! Owns the connections and what holds between them. Its invariants: a batch is one transaction that is flushed before
//! it is acknowledged (`synchronous=FULL`); only the writer's connection writes, and only one process has one; a record
//! is served only if its checksum fits. Speed comes from the batch, not from a weaker setting.

mod checkpoint;
mod dossiers;
mod failure;
mod lineage;
mod mount;
mod notes;
mod outbox;
mod phases;
mod place;
mod read;
mod readers;
mod scan;
mod schema;
mod seal;
mod setting;
mod standings;
#[cfg(test)]
mod tests;
mod verifier;
mod verify;
mod write;

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use kernel::commit::{Commit, Entry};
use kernel::conversation::Clarification;
use kernel::id::{InstanceId, MachineName, Subject, TenantId};
use kernel::input::{ReceiptId, ReceiptScope};
use kernel::snapshot::Snapshot;
use kernel::time::Timestamp;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};

use crate::chain::Batch;
use crate::dossier::{Dossier, Gathered};
use crate::outbox::{ClaimedEffect, DeliveryReport, EffectQuery, EffectStatus, OutboxEffect, Settlement};
use crate::phase::{PhaseLine, PhaseQuery};
use crate::query::{ClarificationQuery, CleanupReport, HistoryQuery, InstanceQuery, Page, StoreStatistics};
use crate::record::{self, Records};
use crate::seal::Damage;
use crate::sqlite::checkpoint::{Care, Checkpointer};
pub use crate::sqlite::failure::OpenError;
use crate::sqlite::notes::Notes;
use crate::sqlite::place::Place;
use crate::sqlite::readers::{Reader, Readers, is_interrupted};
use crate::sqlite::scan::List;
use crate::sqlite::seal::Fault;
use crate::sqlite::verifier::{Task, Verifier};
use crate::{
    CommitError, LoadError, Outcome, Setting, Space, StandingAt, Standings, Store, StoreInfo,
    StoredDefinition,
};

/// Before 3.51.3, a checkpoint beside a writer could lose commits.
const SQLITE_VERSION_MIN: i32 = 3_051_003;

/// For the moments in which somebody with a shell holds the file; the server itself never waits for itself.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// The pages that the last batches have touched. What is older is read from the file, which the system has in its memory.
const WRITER_CACHE_KIB: i64 = 12 * 1_024;

/// Every statement of a connection, so that none is prepared twice.
const STATEMENTS_MAX: usize = 64;

/// How a file is opened.
#[derive(Clone, Debug)]
pub struct SqliteOptions {
    pub records: Records,
    /// Uses the file even where other machines may have it too.
    pub network_allowed: bool,
    /// When the log is longer, what reads for longer than `reading_max` is cut short.
    pub log_bytes_max: u64,
    pub reading_max: Duration,
    /// A file that is larger is looked at for damage while it is used already, and not before.
    pub checked_at_once_max: u64,
}

impl Default for SqliteOptions {
    fn default() -> Self {
        Self {
            records: Records::default(),
            network_allowed: false,
            log_bytes_max: 256 << 20,
            reading_max: Duration::from_secs(5),
            checked_at_once_max: verify::BYTES_AT_ONCE,
        }
    }
}

#[derive(Debug)]
pub struct SqliteStore {
    // In the order in which they have to go: the place, with its locks, last, when no connection is left.
    _verifier: Option<Verifier>,
    checkpointer: Checkpointer,
    readers: Arc<Readers>,
    writer: Arc<Mutex<Writer>>,
    records: Records,
    notes: Arc<Notes>,
    /// Why records may be missing, once that is known.
    broken: Arc<OnceLock<String>>,
    place: Arc<Place>,
}

#[derive(Debug)]
struct Writer {
    connection: Connection,
    /// The number of the newest log line there has been. Counted here, because cleaning up may delete that line and a
    /// number must not come twice: cursors are made of it.
    log_last: i64,
    /// What SQLite counts of the commits of others.
    data_version: i64,
}

/// Under which a note stands about somebody else who writes.
const FOREIGN_WRITE: &str = "foreign-write";

/// Under which a note stands about what is damaged.
const DAMAGE: &str = "damage";

/// Under which a note stands about a file that is not in its place.
const GONE: &str = "gone";

impl SqliteStore {
    /// `open_as`, with everything as it is by default.
    ///
    /// # Errors
    /// As `open_as`.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        Self::open_as(path, SqliteOptions::default())
    }

    /// Opens or creates the file, and takes it through the steps of the schema that it has not been through.
    ///
    /// # Errors
    /// When another server has the file, when a newer program wrote it or another one, when it is damaged, or when it
    /// cannot be used at all.
    pub fn open_as(path: &Path, options: SqliteOptions) -> Result<Self, OpenError> {
        if rusqlite::version_number() < SQLITE_VERSION_MIN {
            let found = rusqlite::version().to_owned();
            return Err(OpenError::SqliteTooOld { found });
        }
        let place = Arc::new(Place::take(path, options.network_allowed)?);
        let notes = Arc::new(Notes::default());
        let is_small = place.bytes() <= options.checked_at_once_max;
        let writer = prepare(&place, is_small.then_some(&*notes))
            .map_err(|error| failure::at_open(&place.path, error))?;
        let checkpoints = open_writer(&place.path).map_err(|error| failure::at_open(&place.path, error))?;
        place.note_log();
        let readers = Arc::new(Readers::new(Arc::clone(&place)));
        let writer = Arc::new(Mutex::new(writer));
        let care = Care {
            writer: Arc::clone(&writer),
            readers: Arc::clone(&readers),
            place: Arc::clone(&place),
            notes: Arc::clone(&notes),
            log_bytes_max: options.log_bytes_max,
            reading_max: options.reading_max,
        };
        let checkpointer = Checkpointer::start(checkpoints, care)
            .map_err(|error| OpenError::Unusable(format!("no thread for checkpoints: {error}")))?;
        let mut store = Self {
            _verifier: None,
            checkpointer,
            readers,
            writer,
            records: options.records,
            notes,
            broken: Arc::default(),
            place,
        };
        if !is_small {
            let verifier = Verifier::start(store.task());
            let failed = |error| OpenError::Unusable(format!("no thread for looking at the file: {error}"));
            store._verifier = Some(verifier.map_err(failed)?);
        }
        Ok(store)
    }

    fn task(&self) -> Task {
        Task {
            writer: Arc::clone(&self.writer),
            readers: Arc::clone(&self.readers),
            place: Arc::clone(&self.place),
            notes: Arc::clone(&self.notes),
            broken: Arc::clone(&self.broken),
        }
    }

    /// # Errors
    /// When records may be missing: what is not found may be there, and what is listed may not be all.
    fn check_whole(&self) -> Result<(), LoadError> {
        self.broken.get().map_or(Ok(()), |why| Err(LoadError::Unavailable(why.clone())))
    }

    /// Runs `change` in a transaction and commits it.
    fn write<T>(
        &self,
        change: impl FnOnce(&Transaction<'_>, &mut i64) -> Result<T, CommitError>,
    ) -> Result<T, CommitError> {
        if let Some(gone) = self.place.is_gone() {
            self.notes.put(GONE, gone.clone());
            return Err(CommitError::Unavailable(gone));
        }
        self.notes.remove(GONE);
        if let Some(why) = self.broken.get() {
            return Err(CommitError::Unavailable(why.clone()));
        }
        // A panic in a transaction has rolled it back, so the connection is good for the next.
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let Writer { connection, log_last, data_version } = &mut *writer;
        let transaction = connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(failure::before_commit)?;
        let found = version_of(&transaction).map_err(failure::before_commit)?;
        if found != *data_version {
            *log_last = (*log_last).max(log_end(&transaction).map_err(failure::before_commit)?);
            *data_version = found;
            self.notes.put(FOREIGN_WRITE, self.foreign_write());
        }
        let before = transaction.total_changes();
        let changed = change(&transaction, log_last)?;
        let has_written = transaction.total_changes() != before;
        transaction.commit().map_err(failure::at_commit)?;
        drop(writer);
        // Who looks for what is due and finds nothing leaves nothing in the log.
        if has_written {
            self.checkpointer.wrote();
        }
        Ok(changed)
    }

    fn foreign_write(&self) -> String {
        format!(
            "somebody else has written to {} since this server has it, such as an sqlite3 shell; what is in this server's \
             memory may be older, and is found out at the next change of each instance: start again to forget it",
            self.place.path.display()
        )
    }

    /// As `write`, for what appends nothing to the log.
    fn change<T>(&self, change: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, CommitError> {
        self.write(|transaction, _| change(transaction).map_err(failure::before_commit))
    }

    fn read<T, E: From<rusqlite::Error>>(
        &self,
        question: impl FnOnce(&Connection) -> Result<T, E>,
    ) -> Result<T, E> {
        self.readers.ask(|reader| question(&reader.connection))
    }

    /// The answer to a question about one record.
    fn one<T>(
        &self,
        question: impl FnOnce(&Connection) -> Result<Option<T>, Fault>,
    ) -> Result<Option<T>, LoadError> {
        let found = self.read(question).map_err(|fault| self.fault(fault))?;
        if found.is_none() {
            self.check_whole()?;
        }
        Ok(found)
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
        self.check_whole()?;
        let (list, damaged) = self.read(question).map_err(|fault| self.fault(fault.into()))?;
        self.quarantine(&damaged);
        Ok(list)
    }

    /// A page of a list that may have to look through much.
    fn page<L: List>(
        &self,
        list: &L,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<Page<L::Record>, LoadError> {
        self.check_whole()?;
        let secrets = &self.records.secrets;
        let ask = |reader: &Reader| scan::page(reader, (list, secrets), cursor, limit, scan::BUDGET);
        let (page, damaged) = self.readers.ask(ask).map_err(|fault| self.fault(fault))?;
        self.quarantine(&damaged);
        Ok(page)
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

    fn receipt(
        &self,
        tenant: &TenantId,
        scope: &ReceiptScope,
        receipt: ReceiptId,
    ) -> Result<Option<(InstanceId, Entry)>, LoadError> {
        let (receipt, secrets) = (record::receipt(receipt), &self.records.secrets);
        self.one(|connection| match lineage::of(connection, tenant, scope)? {
            Some(lineage) => lineage::find_receipt(connection, lineage, receipt, secrets),
            None => Ok(None),
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
        self.page(query, query.cursor.as_deref(), query.limit)
    }

    fn history(&self, query: &HistoryQuery) -> Result<Page<Entry>, LoadError> {
        self.many(|connection| read::history(connection, query, &self.records.secrets))
    }

    fn clarifications(&self, query: &ClarificationQuery) -> Result<Page<Clarification>, LoadError> {
        self.page(query, query.cursor.as_deref(), query.limit)
    }

    fn phases(&self, query: &PhaseQuery) -> Result<Page<PhaseLine>, LoadError> {
        self.page(query, query.cursor.as_deref(), query.limit)
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
        self.page(query, query.cursor.as_deref(), query.limit)
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

    fn standings(&self, at: StandingAt) -> Result<Standings, LoadError> {
        self.read(|connection| standings::standings(connection, at)).map_err(failure::at_load)
    }

    fn dossiers(&self, visit: &mut dyn FnMut(Dossier) -> ControlFlow<()>) -> Result<Gathered, LoadError> {
        self.check_whole()?;
        let secrets = &self.records.secrets;
        let gather = |connection: &Connection| dossiers::gather(connection, secrets, visit);
        let (gathered, damaged) = self.readers.ask_patiently(gather).map_err(|fault| match fault {
            Fault::Backend(error) if is_interrupted(&error) => LoadError::Unavailable(format!(
                "reading all of {} was cut short, because its log has grown too long meanwhile; read it when less is \
                 written, or into a place that takes it faster",
                self.place.name
            )),
            fault => self.fault(fault),
        })?;
        self.quarantine(&damaged);
        self.check_whole()?;
        Ok(gathered)
    }

    fn take_in(&self, dossiers: &[Dossier]) -> Result<(), CommitError> {
        let filed = dossiers.iter().map(|dossier| self.records.file(dossier));
        let filed: Vec<_> = filed.collect::<Result<_, _>>().map_err(CommitError::Unavailable)?;
        self.write(|transaction, log_last| dossiers::take_in(transaction, &filed, log_last))
    }

    /// Of the file and its log.
    fn space(&self) -> Space {
        let log = self.place.log_bytes();
        Space {
            data_bytes: Some(self.place.bytes() + log),
            log_bytes: Some(log),
            free_bytes: self.place.free_bytes(),
        }
    }

    fn info(&self) -> StoreInfo {
        StoreInfo {
            backend: "sqlite",
            version: rusqlite::version().to_owned(),
            location: self.place.name.clone(),
            durability: self.place.durability,
            is_shared: false,
            writers: 1,
            notes: self.place.notes.iter().cloned().chain(self.notes.texts()).collect(),
        }
    }
}

/// The connection that writes, to a file that has been taken to this program's schema, and looked at if there is somewhere
/// to note what was found.
fn prepare(place: &Place, notes: Option<&Notes>) -> Result<Writer, OpenError> {
    let mut connection = connect(&place.path)?;
    // Before anything is changed: even the mode of the log is written into the file.
    let step = schema::step_of(&connection, &place.path)?;
    configure(&connection)?;
    if notes.is_some() && schema::is_old(step) {
        verify::before_migrating(&connection, &place.path)?;
    }
    schema::migrate(&mut connection, step)?;
    schema::check_definitions(&connection, &place.path)?;
    if let Some(notes) = notes
        && let Some(note) = verify::at_open(&mut connection, &place.path)?
    {
        notes.put(DAMAGE, note);
    }
    schema::sign(&connection)?;
    checkpoint::cap_log(&mut connection)?;
    let (log_last, data_version) = (log_end(&connection)?, version_of(&connection)?);
    Ok(Writer { connection, log_last, data_version })
}

fn log_end(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("SELECT coalesce(max(seq), 0) FROM log", (), |row| row.get(0))
}

/// Another number than before, if somebody else has committed since.
fn version_of(connection: &Connection) -> rusqlite::Result<i64> {
    connection.prepare_cached("PRAGMA data_version")?.query_row((), |row| row.get(0))
}

fn open_writer(path: &Path) -> Result<Connection, OpenError> {
    let connection = connect(path)?;
    configure(&connection)?;
    Ok(connection)
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    open(path, flags)
}

fn configure(connection: &Connection) -> Result<(), OpenError> {
    connection.pragma_update(None, "page_size", 4_096)?;
    let mode: String = connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
    if mode != "wal" {
        let detail = format!("no write-ahead log on this file system (journal mode {mode})");
        return Err(OpenError::Unusable(detail));
    }
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update_and_check(None, "wal_autocheckpoint", 0, |_| Ok(()))?;
    connection.pragma_update(None, "cache_size", -WRITER_CACHE_KIB)?;
    Ok(())
}

fn open_reader(path: &Path) -> rusqlite::Result<Connection> {
    open(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)
}

fn open(path: &Path, flags: OpenFlags) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    // Otherwise a statement that has to do with a partial index is planned anew for each value that is bound to it, in
    // the hope of a better plan: several times the work of the question itself. Our plans depend on no values.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    Ok(connection)
}
