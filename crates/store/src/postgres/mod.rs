//! PostgreSQL as a store: several servers may share one database, and every tenant is kept apart by the database too.
//!
//! Owns which connection is asked as whom, and what is tried again. Its invariants: a group of commits is one statement,
//! saved and flushed before it is acknowledged; what is asked for one tenant is asked as a role that sees nothing else; a
//! record is served only if its checksum fits. The clock of the database decides nothing.

mod address;
mod commit;
mod dossiers;
mod failure;
mod group;
mod guard;
mod link;
mod news;
mod outbox;
mod phases;
mod pool;
mod read;
mod schema;
mod seal;
mod standings;
mod statement;
mod timers;
mod tls;

use std::ops::ControlFlow;
use std::time::Duration;

use kernel::commit::{Commit, Entry};
use kernel::conversation::Clarification;
use kernel::id::{InstanceId, MachineName, Subject, TenantId};
use kernel::input::{ReceiptId, ReceiptScope};
use kernel::snapshot::Snapshot;
use kernel::time::Timestamp;

use crate::chain::Batch;
use crate::dossier::{Dossier, Gathered};
use crate::outbox::{ClaimedEffect, DeliveryReport, EffectQuery, EffectStatus, OutboxEffect, Settlement};
use crate::phase::{PhaseLine, PhaseQuery};
use crate::postgres::address::Address;
pub use crate::postgres::address::Options;
pub use crate::postgres::failure::OpenError;
use crate::postgres::failure::Trouble;
use crate::postgres::link::{Hat, Link, Step};
use crate::postgres::news::News;
use crate::postgres::outbox::Claims;

use crate::postgres::pool::Pool;
use crate::postgres::seal::{Fault, Listed, escaped};
use crate::query::{ClarificationQuery, CleanupReport, HistoryQuery, InstanceQuery, Page, StoreStatistics};
use crate::record::definition_checksum;
use crate::seal::Damage;
use crate::{
    CommitError, Durability, LoadError, Outcome, Setting, Space, StandingAt, Standings, Store, StoreInfo,
    StoredDefinition,
};

/// How often the same is tried again when another server was in the way.
const COLLISIONS_MAX: usize = 5;

#[derive(Debug)]
pub struct PostgresStore {
    pool: Pool,
    news: News,
    info: StoreInfo,
}

impl PostgresStore {
    /// Connects to `postgres://user:password@host:port/database?sslmode=…&connections=8`, takes the database through the
    /// steps of the schema that it has not been through, and makes sure that tenants are kept apart in it.
    ///
    /// # Errors
    /// When it cannot be reached or used, when a newer program has been there, or when tenants would not be kept apart.
    pub fn open(url: &str, options: Options) -> Result<Self, OpenError> {
        let address = Address::parse(url, options)?;
        let mut link = Link::open(&address)?;
        let notes = schema::migrate(&mut link)?;
        guard::check(&mut link)?;
        link.put_on(Hat::Owner)?;
        schema::make_partitions(&link)?;
        let info = info(&link, &address, notes)?;
        Ok(Self { pool: Pool::new(address), news: News::default(), info })
    }

    /// Asks what changes nothing; once more when the connection was lost.
    fn ask<T, E: From<Trouble> + MayBeLost>(
        &self,
        hat: Hat,
        question: impl Fn(&Link) -> Result<T, E>,
    ) -> Result<T, E> {
        let answer = question(&*self.pool.take(hat)?);
        match answer {
            Err(fault) if fault.is_lost() => question(&*self.pool.take(hat)?),
            answer => answer,
        }
    }

    /// The answer to a question about one record.
    fn one<T>(&self, question: impl Fn(&Link) -> Result<T, Fault>) -> Result<T, LoadError> {
        self.ask(Hat::Reader, question).map_err(|fault| match fault {
            Fault::Backend(trouble) => trouble.at_load(),
            Fault::Locked(locked) => LoadError::Unavailable(locked.detail),
            Fault::NewerFormat(format) => {
                LoadError::Unavailable(format!("a newer program wrote it, in format {format}"))
            }
            Fault::Damaged(damage) => {
                self.quarantine(std::slice::from_ref(&*damage));
                LoadError::Corrupt { record: damage.key, detail: damage.detail }
            }
        })
    }

    /// The answer to a question about many records.
    fn many<T>(
        &self,
        hat: Hat,
        question: impl Fn(&Link) -> Result<Listed<T>, Trouble>,
    ) -> Result<T, LoadError> {
        let (list, damaged) = self.ask(hat, question).map_err(Trouble::at_load)?;
        self.quarantine(&damaged);
        Ok(list)
    }

    /// A record that cannot be put into quarantine, for want of room perhaps, is not served all the same, and is put
    /// there when it is next asked for.
    fn quarantine(&self, damaged: &[Damage]) {
        if !damaged.is_empty() {
            let _ = self.change(|link| seal::quarantine(link, damaged));
        }
    }

    /// Changes something in one transaction, again when another server was in the way.
    fn change<T>(&self, change: impl Fn(&Link) -> Result<T, Trouble>) -> Result<T, CommitError> {
        let mut lease = self.pool.take(Hat::Writer).map_err(Trouble::before_commit)?;
        let mut tries = 0;
        loop {
            let trouble = match change(&lease) {
                Ok(changed) => return Ok(changed),
                Err(trouble) => trouble,
            };
            // Where nothing was begun, there is nothing to undo, and the server only says so.
            if lease.batch("ROLLBACK").is_err() {
                lease.spoil();
                return Err(trouble.at_commit());
            }
            if !trouble.is_collision() || tries == COLLISIONS_MAX {
                return Err(trouble.at_commit());
            }
            tries += 1;
        }
    }
}

/// Whether an answer never came.
trait MayBeLost {
    fn is_lost(&self) -> bool;
}

impl MayBeLost for Trouble {
    fn is_lost(&self) -> bool {
        matches!(self, Self::Lost(_) | Self::NoLink(_))
    }
}

impl MayBeLost for Fault {
    fn is_lost(&self) -> bool {
        matches!(self, Self::Backend(trouble) if trouble.is_lost())
    }
}

const SAVE_DEFINITION: &str = "INSERT INTO definitions (hash, machine, version, saved_at, checksum, source) VALUES ($1, $2, $3, $4, $5, $6)";

const SAVE_SETTING: &str =
    "INSERT INTO settings (tenant, name, saved_at, checksum, body) VALUES ($1, $2, $3, $4, $5)
     ON CONFLICT (tenant, name) DO UPDATE
     SET saved_at = excluded.saved_at, checksum = excluded.checksum, body = excluded.body";

impl Store for PostgresStore {
    fn commit(&self, batch: &[Commit]) -> Result<Vec<Outcome>, CommitError> {
        let batch = Batch::new(&self.pool.address().options.records, batch);
        commit::commit(&self.pool, &batch)
    }

    fn load(&self, tenant: &TenantId, instance: &InstanceId) -> Result<Option<Snapshot>, LoadError> {
        self.one(|link| read::instance(link, tenant, instance))
    }

    fn load_session(
        &self,
        tenant: &TenantId,
        machine: &MachineName,
        subject: &Subject,
    ) -> Result<Option<Snapshot>, LoadError> {
        self.one(|link| read::session(link, tenant, machine, subject))
    }

    fn receipt(
        &self,
        tenant: &TenantId,
        _: &ReceiptScope,
        receipt: ReceiptId,
    ) -> Result<Option<(InstanceId, Entry)>, LoadError> {
        self.one(|link| read::receipt(link, tenant, receipt))
    }

    fn claim_due(
        &self,
        now: Timestamp,
        lease_until: Timestamp,
        limit: usize,
    ) -> Result<Vec<(TenantId, InstanceId)>, LoadError> {
        let claimed = self.change(|link| timers::claim(link, now, lease_until, limit));
        let (claimed, damaged) = claimed.map_err(|error| LoadError::Unavailable(error.to_string()))?;
        self.quarantine(&damaged);
        Ok(claimed)
    }

    fn next_due(&self) -> Result<Option<Timestamp>, LoadError> {
        self.ask(Hat::Writer, timers::next_due).map_err(Trouble::at_load)
    }

    fn instances(&self, query: &InstanceQuery) -> Result<Page<Snapshot>, LoadError> {
        self.many(Hat::Reader, |link| read::instances(link, query))
    }

    fn history(&self, query: &HistoryQuery) -> Result<Page<Entry>, LoadError> {
        self.many(Hat::Reader, |link| read::history(link, query))
    }

    fn clarifications(&self, query: &ClarificationQuery) -> Result<Page<Clarification>, LoadError> {
        self.many(Hat::Reader, |link| read::clarifications(link, query))
    }

    fn phases(&self, query: &PhaseQuery) -> Result<Page<PhaseLine>, LoadError> {
        self.many(Hat::Reader, |link| phases::list(link, query))
    }

    fn save_definition(&self, definition: &StoredDefinition) -> Result<(), CommitError> {
        let (hash, machine) = (definition.hash.as_str(), definition.machine.as_str());
        let (version, saved_at) = (i64::from(definition.version), definition.saved_at.as_millis());
        let (checksum, source) = (definition_checksum(definition), escaped(&definition.source));
        let steps = [
            Step::plain("BEGIN"),
            // In the place of one that is there, or is there damaged, and behind all the others.
            Step::new("DELETE FROM definitions WHERE hash = $1", vec![&hash]),
            Step::new(SAVE_DEFINITION, vec![&hash, &machine, &version, &saved_at, &checksum, &source]),
            Step::plain(news::TELL),
            Step::plain("COMMIT"),
        ];
        self.change(|link| link.ask(&steps).map(|_| ()))
    }

    fn definitions(&self) -> Result<Vec<StoredDefinition>, LoadError> {
        self.many(Hat::Writer, read::definitions)
    }

    fn claim_effects(
        &self,
        now: Timestamp,
        lease_until: Timestamp,
        limit: usize,
    ) -> Result<Vec<ClaimedEffect>, CommitError> {
        let Claims { claimed, damaged, locked } =
            self.change(|link| outbox::claim(link, now, lease_until, limit))?;
        // Somebody may bring the key. If this fails, they are claimed again when their lease has ended.
        let _ = self.settle_effects(&locked, now);
        if !damaged.is_empty() {
            self.quarantine(&damaged);
            // If that fails, they are found again when their lease has ended.
            let _ = self.change(|link| outbox::give_up(link, &damaged, now));
        }
        Ok(claimed)
    }

    fn settle_effects(&self, settlements: &[Settlement], now: Timestamp) -> Result<Vec<bool>, CommitError> {
        if settlements.is_empty() {
            return Ok(Vec::new());
        }
        self.change(|link| outbox::settle(link, settlements, now))
    }

    fn next_effect_due(&self) -> Result<Option<Timestamp>, LoadError> {
        self.ask(Hat::Writer, outbox::next_due).map_err(Trouble::at_load)
    }

    fn retry_effect(
        &self,
        tenant: &TenantId,
        key: &str,
        now: Timestamp,
    ) -> Result<Option<EffectStatus>, CommitError> {
        let (status, damage) = self.change(|link| outbox::retry(link, tenant, key, now))?;
        self.quarantine(damage.as_slice());
        Ok(status)
    }

    fn note_stage(&self, report: &DeliveryReport) -> Result<bool, CommitError> {
        self.change(|link| outbox::note_stage(link, report))
    }

    fn effects(&self, query: &EffectQuery) -> Result<Page<OutboxEffect>, LoadError> {
        self.many(Hat::Reader, |link| outbox::list(link, query))
    }

    fn save_setting(&self, setting: &Setting) -> Result<(), CommitError> {
        let records = &self.pool.address().options.records;
        let (body, checksum) = records.setting(setting).map_err(CommitError::Unavailable)?;
        let (tenant, name, saved_at) =
            (setting.tenant.as_str(), escaped(&setting.name), setting.saved_at.as_millis());
        let steps = [
            Step::plain("BEGIN"),
            Step::new(SAVE_SETTING, vec![&tenant, &name, &saved_at, &checksum, &body]),
            Step::plain(news::TELL),
            Step::plain("COMMIT"),
        ];
        self.change(|link| link.ask(&steps).map(|_| ()))
    }

    fn settings(&self) -> Result<Vec<Setting>, LoadError> {
        self.many(Hat::Writer, read::settings)
    }

    fn clean_up(&self, before: Timestamp, limit: usize) -> Result<CleanupReport, CommitError> {
        let before_ms = before.as_millis();
        let at_most = i64::try_from(limit).unwrap_or(i64::MAX);
        let report = self.change(|link| {
            let sql = "SELECT entries, effects, instances FROM clean_up($1, $2)";
            let rows = link.query(sql, &[&before_ms, &at_most])?;
            let [row] = &rows[..] else {
                return Err(Trouble::Lost("cleaning up gave no figures".to_owned()));
            };
            let count = |column| row.try_get::<_, i64>(column).map(|count| count.unsigned_abs() as usize);
            let (entries_deleted, effects_deleted, instances_deleted) = (count(0)?, count(1)?, count(2)?);
            let more = entries_deleted + effects_deleted + instances_deleted == limit;
            Ok(CleanupReport { entries_deleted, effects_deleted, instances_deleted, more })
        })?;
        if !report.more {
            // Whoever may not do it leaves it to whoever owns the tables; what cannot be done now is done the next time.
            if let Ok(lease) = self.pool.take(Hat::Owner) {
                let _ = schema::make_partitions(&lease);
                let _ = schema::drop_empty_partitions(&lease, before_ms);
            }
        }
        Ok(report)
    }

    fn statistics(&self) -> Result<StoreStatistics, LoadError> {
        self.ask(Hat::Writer, read::statistics).map_err(Trouble::at_load)
    }

    fn standings(&self, at: StandingAt) -> Result<Standings, LoadError> {
        self.ask(Hat::Writer, |link| standings::standings(link, at)).map_err(Trouble::at_load)
    }

    fn wait_for_news(&self, at_most: Duration) -> bool {
        self.news.wait(self.pool.address(), at_most)
    }

    /// Of the tables with their indices.
    fn space(&self) -> Space {
        const SIZE: &str = "SELECT sum(pg_total_relation_size(c.oid))::bigint FROM pg_class AS c
             WHERE c.relnamespace = 'statewright'::regnamespace AND c.relkind = 'r'";
        let rows = self.ask(Hat::Writer, |link| link.query(SIZE, &[])).unwrap_or_default();
        let size = rows.first().and_then(|row| row.try_get::<_, Option<i64>>(0).ok()?);
        Space { data_bytes: size.map(i64::unsigned_abs), ..Space::default() }
    }

    fn dossiers(&self, visit: &mut dyn FnMut(Dossier) -> ControlFlow<()>) -> Result<Gathered, LoadError> {
        let mut gather = || {
            let mut link = Link::open(self.pool.address())?;
            link.put_on(Hat::Writer)?;
            dossiers::gather(&link, visit)
        };
        let (gathered, damaged) = gather().map_err(Trouble::at_load)?;
        self.quarantine(&damaged);
        Ok(gathered)
    }

    fn take_in(&self, dossiers: &[Dossier]) -> Result<(), CommitError> {
        let records = &self.pool.address().options.records;
        let filed = dossiers.iter().map(|dossier| records.file(dossier));
        let filed: Vec<_> = filed.collect::<Result<_, _>>().map_err(CommitError::Unavailable)?;
        self.change(|link| dossiers::take_in(link, &filed))?
    }

    fn info(&self) -> StoreInfo {
        self.info.clone()
    }
}

/// What the server's settings make of an acknowledgement.
fn info(link: &Link, address: &Address, mut notes: Vec<String>) -> Result<StoreInfo, OpenError> {
    let setting = |name: &str| schema::text(link, &format!("SELECT current_setting('{name}')"));
    let mut durability = Durability::Durable;
    for (name, consequence) in [
        ("fsync", "a crash of its machine may lose or damage anything"),
        ("full_page_writes", "a power failure may damage pages that were being written"),
    ] {
        if setting(name)? != "on" {
            durability = Durability::BoundedLoss;
            notes.push(format!("the server's `{name}` is off: {consequence}"));
        }
    }
    let synchronous = setting("synchronous_commit")?;
    if ["off", "local"].contains(&synchronous.as_str()) {
        durability = Durability::BoundedLoss;
        notes.push(format!(
            "`synchronous_commit` is `{synchronous}` and could not be set: commits are acknowledged before they are safe"
        ));
    }
    Ok(StoreInfo {
        backend: "postgres",
        version: setting("server_version")?,
        location: address.location(),
        durability,
        is_shared: true,
        writers: 2,
        notes,
    })
}
