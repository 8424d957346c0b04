//! Commits as rows: everything about them that can be computed before the writer's lock is taken.
//!
//! Owns which value goes into which column. The order of the values is that of `seal`'s tables.

use kernel::commit::{Commit, Effect, PhaseRow};
use kernel::conversation::{Clarification, ClarificationStatus};
use kernel::id::Revision;
use kernel::snapshot::{SNAPSHOT_FORMAT, Snapshot};
use kernel::time::Timestamp;
use rusqlite::types::ValueRef;

use crate::sqlite::seal::{self, CLARIFICATIONS, INSTANCES, LOG, OUTBOX, PHASES};
use crate::{due_at, is_coherent};

/// A commit with its bodies and what checksums it can have already.
pub(super) struct Prepared<'a> {
    pub commit: &'a Commit,
    pub instance: Option<InstanceRow<'a>>,
    pub receipt: [u8; 16],
    pub entry_body: String,
    pub clarifications: Vec<ClarificationRow<'a>>,
    pub phases: Vec<PhaseOf<'a>>,
    pub effects: Vec<EffectRow<'a>>,
}

pub(super) struct InstanceRow<'a> {
    pub snapshot: &'a Snapshot,
    pub state: String,
    pub wake_at: Option<i64>,
    pub looping_until: Option<i64>,
    pub body: String,
    pub checksum: i64,
}

pub(super) struct ClarificationRow<'a> {
    pub clarification: &'a Clarification,
    pub body: String,
    pub checksum: i64,
}

pub(super) struct EffectRow<'a> {
    pub effect: &'a Effect,
    pub after: &'a Snapshot,
    pub created_at: Timestamp,
    pub body: String,
    pub checksum: i64,
}

/// A line of a phase, with the flow as it is afterwards.
pub(super) struct PhaseOf<'a> {
    pub row: &'a PhaseRow,
    pub after: &'a Snapshot,
    pub checksum: i64,
}

/// # Errors
/// A fragment, when a part of it cannot be written as JSON that can be read again.
pub(super) fn prepare(commit: &Commit) -> Result<Prepared<'_>, String> {
    debug_assert!(is_coherent(commit), "an incoherent commit: {commit:?}");
    let mut clarifications =
        commit.clarifications.iter().map(clarification_row).collect::<Result<Vec<_>, _>>()?;
    // One that ends makes room for the one that begins, whichever the commit names first.
    clarifications.sort_by_key(|row| row.clarification.status == ClarificationStatus::Pending);
    let effects = commit.effects.iter().map(|effect| effect_row(commit, effect));
    let phases = commit.after.iter();
    let phases = phases.flat_map(|after| commit.phases.iter().map(|row| phase_of(after, row)));
    Ok(Prepared {
        commit,
        instance: commit.after.as_ref().map(instance_row).transpose()?,
        receipt: commit.entry.receipt.0.0.to_be_bytes(),
        entry_body: seal::print(&commit.entry)?,
        clarifications,
        phases: phases.collect(),
        effects: effects.collect::<Result<_, _>>()?,
    })
}

fn instance_row(snapshot: &Snapshot) -> Result<InstanceRow<'_>, String> {
    let mut row = InstanceRow {
        snapshot,
        state: snapshot.state(),
        wake_at: due_at(snapshot).map(Timestamp::as_millis),
        looping_until: snapshot.looping.as_ref().map(|looping| looping.until.as_millis()),
        body: seal::print(snapshot)?,
        checksum: 0,
    };
    row.checksum = INSTANCES.checksum(&[
        text(snapshot.tenant.as_str()),
        text(snapshot.instance.as_str()),
        ValueRef::Integer(i64::from(SNAPSHOT_FORMAT)),
        text(snapshot.machine.as_str()),
        ValueRef::Integer(i64::from(snapshot.version)),
        text(snapshot.definition.as_str()),
        optional(row.subject()),
        ValueRef::Integer(i64::from(snapshot.ordinal)),
        ValueRef::Integer(number(snapshot.revision)),
        text(&row.state),
        optional(row.closure_reason()),
        time(snapshot.created_at),
        time(snapshot.updated_at),
        text(&row.body),
    ]);
    Ok(row)
}

fn clarification_row(clarification: &Clarification) -> Result<ClarificationRow<'_>, String> {
    let body = seal::print(clarification)?;
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

fn phase_of<'a>(after: &'a Snapshot, row: &'a PhaseRow) -> PhaseOf<'a> {
    let checksum = PHASES.checksum(&[
        text(after.tenant.as_str()),
        text(after.instance.as_str()),
        ValueRef::Integer(row.place.into()),
        text(after.machine.as_str()),
        text(&row.phase),
        text(row.state.as_str()),
        time(row.since),
        ValueRef::Integer(row.attempts.into()),
        ValueRef::Integer(row.retries.into()),
        optional(row.error.as_deref()),
        row.offered_at.map_or(ValueRef::Null, time),
        text(&row.kind),
        optional(row.lease.as_deref()),
        optional(row.worker.as_deref()),
    ]);
    PhaseOf { row, after, checksum }
}

fn effect_row<'a>(commit: &'a Commit, effect: &'a Effect) -> Result<EffectRow<'a>, String> {
    let Some(after) = &commit.after else {
        return Err(format!("the effect {} comes with no change of its instance", effect.key));
    };
    let created_at = commit.entry.at;
    let mut row = EffectRow { effect, after, created_at, body: seal::print(effect)?, checksum: 0 };
    row.checksum = OUTBOX.checksum(&[
        text(after.tenant.as_str()),
        text(&effect.key),
        text(after.instance.as_str()),
        text(after.machine.as_str()),
        optional(row.subject()),
        time(created_at),
        text(&row.body),
    ]);
    Ok(row)
}

impl EffectRow<'_> {
    pub(super) fn subject(&self) -> Option<&str> {
        self.after.subject.as_ref().map(|s| s.as_str())
    }
}

impl InstanceRow<'_> {
    pub(super) fn subject(&self) -> Option<&str> {
        self.snapshot.subject.as_ref().map(|s| s.as_str())
    }

    pub(super) fn closure_reason(&self) -> Option<&str> {
        self.snapshot.closure.as_ref().map(|c| c.reason.as_str())
    }
}

impl Prepared<'_> {
    /// The checksum of the log line, once its place in the log and its instance's row are known.
    pub(super) fn line_checksum(&self, seq: i64, owner: i64) -> i64 {
        LOG.checksum(&[
            text(self.commit.tenant.as_str()),
            text(self.commit.instance.as_str()),
            ValueRef::Integer(number(self.commit.entry.revision)),
            ValueRef::Integer(seq),
            ValueRef::Integer(owner),
            time(self.commit.entry.at),
            ValueRef::Blob(&self.receipt),
            text(&self.entry_body),
        ])
    }
}

pub(super) fn number(revision: Revision) -> i64 {
    revision.0.cast_signed()
}

pub(super) fn text(value: &str) -> ValueRef<'_> {
    ValueRef::Text(value.as_bytes())
}

fn optional(value: Option<&str>) -> ValueRef<'_> {
    value.map_or(ValueRef::Null, text)
}

pub(super) fn time(value: Timestamp) -> ValueRef<'static> {
    ValueRef::Integer(value.as_millis())
}
