//! Dossiers: every instance of the file read whole, in one read transaction, and written whole into another file.
//!
//! Owns how what belongs to an instance is found. Questions and effects are found by their ids, which begin with that of
//! their instance.

use std::ops::ControlFlow;
use std::sync::LazyLock;

use kernel::conversation::Clarification;
use kernel::snapshot::Snapshot;
use rusqlite::{Connection, Row};

use crate::dossier::{Dossier, Gathered, is_of_creation};
use crate::record::Filed;
use crate::seal::{CLARIFICATIONS, Damage, INSTANCES, LOG, Table};
use crate::sqlite::seal::Fault;
use crate::sqlite::{failure, lineage, outbox, phases, write};
use crate::vault::parts::Secrets;
use crate::{CommitError, is_there};

/// So many damaged records are put into quarantine at once; of a file with more, whoever runs it has heard enough.
const DAMAGED_MAX: usize = 1_000;

static INSTANCES_OF_ALL: LazyLock<String> = LazyLock::new(|| INSTANCES.select(&[]) + "ORDER BY t.row");
static LINES: LazyLock<String> = LazyLock::new(|| LOG.select(&[]) + "WHERE t.owner = ?1 ORDER BY t.seq");
static QUESTIONS: LazyLock<String> = LazyLock::new(|| {
    CLARIFICATIONS.select(&[]) + "WHERE t.tenant = ?1 AND t.id >= ?2 AND t.id < ?3 AND t.instance = ?4"
});

/// What is whole goes through, and what is not is counted.
#[derive(Default)]
pub(super) struct Sieve {
    corrupt: u64,
    damaged: Vec<Damage>,
}

impl Sieve {
    pub fn keep<T>(&mut self, found: Result<T, Fault>) -> Result<Option<T>, Fault> {
        match found {
            Ok(record) => Ok(Some(record)),
            Err(Fault::Damaged(damage)) => {
                self.corrupt += 1;
                if self.damaged.len() < DAMAGED_MAX {
                    self.damaged.push(*damage);
                }
                Ok(None)
            }
            Err(other) => Err(other),
        }
    }
}

/// All in one transaction, so that all are of one moment. What is damaged comes back beside it.
pub(super) fn gather(
    connection: &Connection,
    secrets: &Secrets,
    visit: &mut dyn FnMut(Dossier) -> ControlFlow<()>,
) -> Result<(Gathered, Vec<Damage>), Fault> {
    let transaction = connection.unchecked_transaction()?;
    let mut select = transaction.prepare(&INSTANCES_OF_ALL)?;
    let mut rows = select.query(())?;
    let mut sieve = Sieve::default();
    let mut instances = 0;
    while let Some(row) = rows.next()? {
        let Some(snapshot) = sieve.keep(INSTANCES.open_sealed::<Snapshot>(row, secrets))? else { continue };
        let mut dossier = Dossier::of(snapshot);
        dossier.note_body(body(row, &INSTANCES)?);
        fill(&transaction, &mut dossier, row.get(INSTANCES.more() - 1)?, secrets, &mut sieve)?;
        instances += 1;
        if visit(dossier).is_break() {
            break;
        }
    }
    Ok((Gathered { instances, corrupt: sieve.corrupt, at_one_moment: true }, sieve.damaged))
}

fn body<'r>(row: &'r Row<'_>, table: &Table) -> rusqlite::Result<&'r [u8]> {
    Ok(row.get_ref(table.columns.len() - 1)?.as_bytes()?)
}

/// Adds what belongs to the instance in the row `owner`.
fn fill(
    connection: &Connection,
    dossier: &mut Dossier,
    owner: i64,
    secrets: &Secrets,
    sieve: &mut Sieve,
) -> Result<(), Fault> {
    let mut lines = connection.prepare_cached(&LINES)?;
    let mut rows = lines.query([owner])?;
    while let Some(row) = rows.next()? {
        let Some(entry) = sieve.keep(LOG.open_sealed(row, secrets))? else { continue };
        dossier.note_body(body(row, &LOG)?);
        dossier.entries.push(entry);
    }
    let id = dossier.snapshot.instance.to_string();
    // `;` comes next after `:`.
    let (tenant, from, to) = (dossier.snapshot.tenant.to_string(), format!("{id}:"), format!("{id};"));
    let mut questions = connection.prepare_cached(&QUESTIONS)?;
    let mut rows = questions.query([&tenant, &from, &to, &id])?;
    while let Some(row) = rows.next()? {
        let Some(question) = sieve.keep(CLARIFICATIONS.open_sealed::<Clarification>(row, secrets))? else {
            continue;
        };
        dossier.note_body(body(row, &CLARIFICATIONS)?);
        dossier.clarifications.push(question);
    }
    let lines = phases::of(connection, owner, sieve)?;
    dossier.phases.extend(lines.into_iter().map(|line| line.row));
    for (effect, body) in outbox::of(connection, [&tenant, &from, &to, &id], secrets, sieve)? {
        dossier.note_body(&body);
        dossier.effects.push(effect);
    }
    dossier.sort();
    Ok(())
}

/// `seq` is the last number of the log.
pub(super) fn take_in(
    connection: &Connection,
    dossiers: &[Filed<'_>],
    seq: &mut i64,
) -> Result<(), CommitError> {
    dossiers.iter().try_for_each(|filed| take_in_one(connection, filed, seq))
}

fn take_in_one(connection: &Connection, filed: &Filed<'_>, seq: &mut i64) -> Result<(), CommitError> {
    let snapshot = filed.instance.snapshot;
    let lineage = match &snapshot.subject {
        Some(subject) if snapshot.ordinal > 0 => {
            lineage::of_subject(connection, &snapshot.tenant, &snapshot.machine, subject)
                .map_err(not_found)?
        }
        _ => None,
    };
    let inserted = write::insert_instance(connection, &filed.instance, lineage);
    let owner = inserted.map_err(failure::before_commit)?.ok_or_else(|| is_there(snapshot))?;
    let lineage = lineage.unwrap_or(owner);
    let mut save = || -> rusqlite::Result<()> {
        for line in &filed.lines {
            *seq += 1;
            let lineage = if is_of_creation(line.entry) { lineage::OF_CREATIONS } else { lineage };
            write::append_line(connection, line, *seq, owner, lineage)?;
        }
        write::save_clarifications(connection, &filed.clarifications)?;
        filed.phases.iter().try_for_each(|phase| phases::save(connection, phase, owner))?;
        outbox::take_in(connection, &filed.effects, owner)
    };
    save().map_err(failure::before_commit)
}

fn not_found(fault: Fault) -> CommitError {
    match fault {
        Fault::Backend(error) => failure::before_commit(error),
        Fault::Damaged(damage) => CommitError::Unavailable(format!("{}: {}", damage.key, damage.detail)),
        Fault::Locked(locked) => CommitError::Unavailable(locked.detail),
        Fault::NewerFormat(format) => {
            CommitError::Unavailable(format!("a newer program wrote it, in format {format}"))
        }
    }
}
