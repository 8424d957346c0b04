//! Commits and dossiers as records, the same for every backend: their bodies and checksums, and how large a record may be.
//!
//! Owns which value goes under which column. The order of the values is that of `seal`'s tables. All of it can be
//! computed before a lock is taken or a connection is asked for.

use std::fmt::Display;
use std::sync::Arc;

use kernel::commit::{Commit, Effect, Entry, PhaseRow};
use kernel::conversation::{Clarification, ClarificationStatus};
use kernel::id::{InstanceId, MachineName, Revision, Subject, TenantId};
use kernel::input::ReceiptId;
use kernel::snapshot::{SNAPSHOT_FORMAT, Snapshot};
use kernel::time::Timestamp;
use serde::Serialize;

use crate::dossier::Dossier;
use crate::outbox::OutboxEffect;
use crate::seal::{
    self, CLARIFICATIONS, Cell, DEFINITIONS, ENTRIES, INSTANCES, LOG, OUTBOX, PHASES, SETTINGS,
};
use crate::vault::parts::{self, Sealer, Secrets};
use crate::{Setting, StoredDefinition, due_at, is_coherent};

/// A commit with its bodies and what checksums it can have already.
#[derive(Debug)]
pub(crate) struct Prepared<'a> {
    pub commit: &'a Commit,
    pub instance: Option<InstanceRow<'a>>,
    pub line: LineRow<'a>,
    pub clarifications: Vec<ClarificationRow<'a>>,
    pub phases: Vec<PhaseOf<'a>>,
    pub effects: Vec<EffectRow<'a>>,
}

/// A dossier with its bodies and what checksums it can have already.
#[derive(Debug)]
pub(crate) struct Filed<'a> {
    pub instance: InstanceRow<'a>,
    /// Oldest first.
    pub lines: Vec<LineRow<'a>>,
    pub clarifications: Vec<ClarificationRow<'a>>,
    pub phases: Vec<PhaseOf<'a>>,
    /// With how far each has come, oldest first.
    pub effects: Vec<(EffectRow<'a>, &'a OutboxEffect)>,
}

#[derive(Debug)]
pub(crate) struct InstanceRow<'a> {
    pub snapshot: &'a Snapshot,
    pub state: String,
    pub wake_at: Option<i64>,
    pub looping_until: Option<i64>,
    pub body: String,
    pub checksum: i64,
}

/// A line of the log.
#[derive(Debug)]
pub(crate) struct LineRow<'a> {
    pub tenant: &'a TenantId,
    pub instance: &'a InstanceId,
    pub entry: &'a Entry,
    pub receipt: [u8; 16],
    pub body: String,
}

#[derive(Debug)]
pub(crate) struct ClarificationRow<'a> {
    pub clarification: &'a Clarification,
    pub body: String,
    pub checksum: i64,
}

#[derive(Debug)]
pub(crate) struct EffectRow<'a> {
    pub effect: &'a Effect,
    pub of: Origin<'a>,
    pub created_at: Timestamp,
    pub body: String,
    pub checksum: i64,
}

/// The instance that an effect comes from, as it was then.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Origin<'a> {
    pub tenant: &'a TenantId,
    pub instance: &'a InstanceId,
    pub machine: &'a MachineName,
    pub subject: Option<&'a Subject>,
}

/// A line of a phase, with the flow as it is afterwards.
#[derive(Debug)]
pub(crate) struct PhaseOf<'a> {
    pub row: &'a PhaseRow,
    pub after: &'a Snapshot,
    pub checksum: i64,
}

/// What every backend does alike to records: how large one may be, and what becomes of secrets.
#[derive(Clone, Debug)]
pub struct Records {
    /// Of the body of one record, as JSON.
    pub bytes_max: usize,
    pub secrets: Secrets,
}

/// A session with its context is a few kilobytes, a flow of two thousand phases half a megabyte.
const BYTES_MAX: usize = 4 << 20;

impl Default for Records {
    fn default() -> Self {
        Self { bytes_max: BYTES_MAX, secrets: Secrets::default() }
    }
}

impl Records {
    /// # Errors
    /// A fragment, when a part of it is larger, or nested more deeply, than a record may be.
    pub(crate) fn prepare<'a>(&self, commit: &'a Commit) -> Result<Prepared<'a>, String> {
        debug_assert!(is_coherent(commit), "an incoherent commit: {commit:?}");
        let sealer = match commit.secrets.is_empty() {
            true => None,
            false => self.secrets.sealer(&commit.tenant)?,
        };
        let sealer = sealer.as_ref();
        let questions = commit.clarifications.iter().map(|question| self.clarification(question, sealer));
        let mut clarifications = questions.collect::<Result<Vec<_>, _>>()?;
        // One that ends makes room for the one that begins, whichever the commit names first.
        clarifications.sort_by_key(|row| row.clarification.status == ClarificationStatus::Pending);
        let effects = commit.effects.iter().map(|effect| match &commit.after {
            Some(after) => self.effect(effect, Origin::at(after), commit.entry.at, sealer),
            None => Err(format!("the effect `{}` comes with no change of its instance", effect.key)),
        });
        let phases = commit.after.iter();
        let phases = phases.flat_map(|after| commit.phases.iter().map(|row| phase_of(after, row)));
        let instance = commit.after.as_ref();
        Ok(Prepared {
            commit,
            instance: instance.map(|after| self.instance(after, &commit.secrets, sealer)).transpose()?,
            line: self.line(&commit.tenant, &commit.instance, &commit.entry, sealer)?,
            clarifications,
            phases: phases.collect(),
            effects: effects.collect::<Result<_, _>>()?,
        })
    }

    /// # Errors
    /// As `prepare`.
    pub(crate) fn file<'a>(&self, dossier: &'a Dossier) -> Result<Filed<'a>, String> {
        let snapshot = &dossier.snapshot;
        let sealer = match &dossier.secrets {
            None => None,
            Some(_) => self.secrets.sealer(&snapshot.tenant)?,
        };
        let sealer = sealer.as_ref();
        let line = |entry| self.line(&snapshot.tenant, &snapshot.instance, entry, sealer);
        let effect = |saved: &'a OutboxEffect| {
            Ok::<_, String>((self.effect(&saved.effect, Origin::of(saved), saved.created_at, sealer)?, saved))
        };
        Ok(Filed {
            instance: self.instance(snapshot, dossier.secrets.as_deref().unwrap_or_default(), sealer)?,
            lines: dossier.entries.iter().map(line).collect::<Result<_, _>>()?,
            clarifications: dossier
                .clarifications
                .iter()
                .map(|question| self.clarification(question, sealer))
                .collect::<Result<_, _>>()?,
            phases: dossier.phases.iter().map(|row| phase_of(snapshot, row)).collect(),
            effects: dossier.effects.iter().map(effect).collect::<Result<_, _>>()?,
        })
    }

    /// `record` as JSON, sealed by `seal` if there is a key. `what` says in an error which record it is.
    fn print<R: Serialize>(
        &self,
        what: &dyn Display,
        record: &R,
        sealer: Option<&Sealer>,
        seal: impl FnOnce(&Sealer, &R) -> Result<String, String>,
    ) -> Result<String, String> {
        let body = seal::print(record).map_err(|problem| format!("{what}: {problem}"))?;
        // Whether a field is secret makes no difference to how much may be in it.
        if body.len() > self.bytes_max {
            return Err(format!("{what} has {} bytes; {} are allowed", body.len(), self.bytes_max));
        }
        match sealer {
            None => Ok(body),
            Some(sealer) => seal(sealer, record).map_err(|problem| format!("{what}: {problem}")),
        }
    }

    fn line<'a>(
        &self,
        tenant: &'a TenantId,
        instance: &'a InstanceId,
        entry: &'a Entry,
        sealer: Option<&Sealer>,
    ) -> Result<LineRow<'a>, String> {
        let receipt = receipt(entry.receipt);
        let what = format_args!("the log entry of `{}`", entry.event);
        let body = self.print(&what, &entry.stored(instance), sealer, |sealer, stored| {
            let revision = Cell::Integer(number(entry.revision));
            let identity = [text(tenant.as_str()), text(instance.as_str()), revision, Cell::Blob(&receipt)];
            sealer.print(stored, &ENTRIES, &identity, &parts::OF_ENTRY)
        })?;
        Ok(LineRow { tenant, instance, entry, receipt, body })
    }

    fn instance<'a>(
        &self,
        snapshot: &'a Snapshot,
        secrets: &[Arc<str>],
        sealer: Option<&Sealer>,
    ) -> Result<InstanceRow<'a>, String> {
        let what = format_args!("the instance `{}`", snapshot.instance);
        let body = self.print(&what, &snapshot.stored(), sealer, |sealer, stored| {
            let identity = [text(snapshot.tenant.as_str()), text(snapshot.instance.as_str())];
            sealer.print(stored, &INSTANCES, &identity, &parts::of_instance(snapshot, secrets))
        })?;
        let mut row = InstanceRow {
            snapshot,
            state: snapshot.state(),
            wake_at: due_at(snapshot).map(Timestamp::as_millis),
            looping_until: snapshot.looping.as_ref().map(|looping| looping.until.as_millis()),
            body,
            checksum: 0,
        };
        row.checksum = INSTANCES.checksum(&[
            text(snapshot.tenant.as_str()),
            text(snapshot.instance.as_str()),
            Cell::Integer(i64::from(SNAPSHOT_FORMAT)),
            text(snapshot.machine.as_str()),
            Cell::Integer(i64::from(snapshot.version)),
            text(snapshot.definition.as_str()),
            optional(row.subject()),
            Cell::Integer(i64::from(snapshot.ordinal)),
            Cell::Integer(number(snapshot.revision)),
            text(&row.state),
            optional(row.closure_reason()),
            time(snapshot.created_at),
            time(snapshot.updated_at),
            text(&row.body),
        ]);
        Ok(row)
    }

    fn clarification<'a>(
        &self,
        clarification: &'a Clarification,
        sealer: Option<&Sealer>,
    ) -> Result<ClarificationRow<'a>, String> {
        let what = format_args!("the clarification `{}`", clarification.id);
        let body = self.print(&what, clarification, sealer, |sealer, clarification| {
            let identity = [text(clarification.tenant.as_str()), text(&clarification.id)];
            sealer.print(clarification, &CLARIFICATIONS, &identity, &parts::OF_CLARIFICATION)
        })?;
        let checksum = CLARIFICATIONS.checksum(&[
            text(clarification.tenant.as_str()),
            text(&clarification.id),
            text(clarification.instance.as_str()),
            text(clarification.status.as_str()),
            time(clarification.created_at),
            text(&body),
        ]);
        Ok(ClarificationRow { clarification, body, checksum })
    }

    fn effect<'a>(
        &self,
        effect: &'a Effect,
        of: Origin<'a>,
        created_at: Timestamp,
        sealer: Option<&Sealer>,
    ) -> Result<EffectRow<'a>, String> {
        let what = format_args!("the effect `{}`", effect.key);
        let body = self.print(&what, effect, sealer, |sealer, effect| {
            let identity = [text(of.tenant.as_str()), text(&effect.key)];
            sealer.print(effect, &OUTBOX, &identity, &parts::OF_EFFECT)
        })?;
        let mut row = EffectRow { effect, of, created_at, body, checksum: 0 };
        row.checksum = OUTBOX.checksum(&[
            text(of.tenant.as_str()),
            text(&effect.key),
            text(of.instance.as_str()),
            text(of.machine.as_str()),
            optional(of.subject()),
            time(created_at),
            text(&row.body),
        ]);
        Ok(row)
    }

    /// The body and the checksum of a setting.
    ///
    /// # Errors
    /// As `prepare`.
    pub(crate) fn setting(&self, setting: &Setting) -> Result<(String, i64), String> {
        let what = format_args!("the setting `{}`", setting.name);
        let body = self.print(&what, &setting.body, None, |_, _| Err("no setting is sealed".to_owned()))?;
        let sealed =
            [text(setting.tenant.as_str()), text(&setting.name), time(setting.saved_at), text(&body)];
        let checksum = SETTINGS.checksum(&sealed);
        Ok((body, checksum))
    }
}

pub(crate) fn definition_checksum(definition: &StoredDefinition) -> i64 {
    DEFINITIONS.checksum(&[
        text(definition.hash.as_str()),
        text(definition.machine.as_str()),
        Cell::Integer(i64::from(definition.version)),
        time(definition.saved_at),
        text(&definition.source),
    ])
}

fn phase_of<'a>(after: &'a Snapshot, row: &'a PhaseRow) -> PhaseOf<'a> {
    let checksum = PHASES.checksum(&[
        text(after.tenant.as_str()),
        text(after.instance.as_str()),
        Cell::Integer(row.place.into()),
        text(after.machine.as_str()),
        text(&row.phase),
        text(row.state.as_str()),
        time(row.since),
        Cell::Integer(row.attempts.into()),
        Cell::Integer(row.retries.into()),
        optional(row.error.as_deref()),
        row.offered_at.map_or(Cell::Null, time),
        text(&row.kind),
        optional(row.lease.as_deref()),
        optional(row.worker.as_deref()),
    ]);
    PhaseOf { row, after, checksum }
}

impl<'a> Origin<'a> {
    fn at(snapshot: &'a Snapshot) -> Self {
        let Snapshot { tenant, instance, machine, subject, .. } = snapshot;
        Self { tenant, instance, machine, subject: subject.as_ref() }
    }

    fn of(saved: &'a OutboxEffect) -> Self {
        let OutboxEffect { tenant, instance, machine, subject, .. } = saved;
        Self { tenant, instance, machine, subject: subject.as_ref() }
    }

    pub(crate) fn subject(&self) -> Option<&'a str> {
        self.subject.map(Subject::as_str)
    }
}

impl InstanceRow<'_> {
    pub(crate) fn subject(&self) -> Option<&str> {
        self.snapshot.subject.as_ref().map(|s| s.as_str())
    }

    pub(crate) fn closure_reason(&self) -> Option<&str> {
        self.snapshot.closure.as_ref().map(|c| c.reason.as_str())
    }
}

impl LineRow<'_> {
    /// Its checksum under `ENTRIES`.
    pub(crate) fn checksum(&self) -> i64 {
        ENTRIES.checksum(&[
            text(self.tenant.as_str()),
            text(self.instance.as_str()),
            Cell::Integer(number(self.entry.revision)),
            time(self.entry.at),
            Cell::Blob(&self.receipt),
            text(&self.body),
        ])
    }

    /// Its checksum under `LOG`, once its place in the log, its instance's row and its lineage are known.
    pub(crate) fn checksum_at(&self, seq: i64, owner: i64, lineage: i64) -> i64 {
        LOG.checksum(&[
            text(self.tenant.as_str()),
            text(self.instance.as_str()),
            Cell::Integer(number(self.entry.revision)),
            Cell::Integer(seq),
            Cell::Integer(owner),
            Cell::Integer(lineage),
            time(self.entry.at),
            Cell::Blob(&self.receipt),
            text(&self.body),
        ])
    }
}

/// A receipt as it is kept.
pub(crate) fn receipt(id: ReceiptId) -> [u8; 16] {
    id.0.0.to_be_bytes()
}

pub(crate) fn number(revision: Revision) -> i64 {
    revision.0.cast_signed()
}

pub(crate) fn text(value: &str) -> Cell<'_> {
    Cell::Text(value.as_bytes())
}

fn optional(value: Option<&str>) -> Cell<'_> {
    value.map_or(Cell::Null, text)
}

pub(crate) fn time(value: Timestamp) -> Cell<'static> {
    Cell::Integer(value.as_millis())
}
