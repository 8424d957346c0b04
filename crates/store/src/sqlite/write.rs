//! What changes the file, each within the transaction that it is given: commits, claims, definitions, cleaning up.
//!
//! One connection writes, so that what is read in a transaction here is still so when it is acted upon.

use std::sync::LazyLock;

use kernel::commit::Entry;
use kernel::id::{InstanceId, TenantId};
use kernel::snapshot::{SNAPSHOT_FORMAT, Snapshot};
use kernel::time::Timestamp;
use rusqlite::{Connection, params};

use crate::chain::Batch;
use crate::kept::Waiting;
use crate::record::{self, ClarificationRow, InstanceRow, LineRow, Prepared, number};
use crate::seal::INSTANCES;
use crate::sqlite::seal::{self, Fault};
use crate::sqlite::{failure, lineage, outbox, phases};
use crate::vault::parts::Secrets;
use crate::{CleanupReport, CommitError, Outcome, StoredDefinition};

/// Saves what is neither stale nor a repeat. `seq` is the last number of the log.
///
/// # Errors
/// When the batch must not be saved at all.
pub(super) fn commit(
    connection: &Connection,
    batch: &Batch<'_>,
    secrets: &Secrets,
    seq: &mut i64,
) -> Result<Vec<Outcome>, CommitError> {
    batch.all_one_by_one(|prepared, passed_over| match find_footing(connection, prepared, secrets) {
        // An earlier commit of the batch on this instance was not saved, so this one stands on nothing.
        Ok(Footing::Of(..)) if passed_over => Ok(Outcome::Stale),
        Ok(Footing::Of(current, lineage)) => save(connection, prepared, current, lineage, seq),
        Ok(Footing::Repeat(found)) => Ok(Outcome::Duplicate(found)),
        Err(fault) => give_up(connection, fault),
    })
}

/// What a commit finds.
enum Footing {
    /// The instance, and the lineage that it belongs to; neither, if it begins both.
    Of(Option<Current>, Option<i64>),
    /// Its input was handled before.
    Repeat(Box<(InstanceId, Entry)>),
}

fn find_footing(
    connection: &Connection,
    prepared: &Prepared<'_>,
    secrets: &Secrets,
) -> Result<Footing, Fault> {
    let commit = prepared.commit;
    let current = find_current(connection, prepared)?;
    let lineage = match (&current, &commit.after) {
        (Some(current), _) => Some(current.lineage),
        (None, Some(Snapshot { tenant, machine, subject: Some(subject), ordinal: 1.., .. })) => {
            lineage::of_subject(connection, tenant, machine, subject)?
        }
        (None, _) => None,
    };
    let looked_in = if commit.is_creation() { Some(lineage::OF_CREATIONS) } else { lineage };
    if let Some(looked_in) = looked_in
        && let Some(found) = lineage::find_receipt(connection, looked_in, prepared.line.receipt, secrets)?
    {
        return Ok(Footing::Repeat(Box::new(found)));
    }
    Ok(Footing::Of(current, lineage))
}

fn save(
    connection: &Connection,
    prepared: &Prepared<'_>,
    current: Option<Current>,
    lineage: Option<i64>,
    seq: &mut i64,
) -> Result<Outcome, CommitError> {
    let saved = save_instance(connection, prepared, current, lineage).map_err(failure::before_commit)?;
    let Some(owner) = saved else {
        return Ok(Outcome::Stale);
    };
    *seq += 1;
    let lineage =
        if prepared.commit.is_creation() { lineage::OF_CREATIONS } else { lineage.unwrap_or(owner) };
    append_line(connection, &prepared.line, *seq, owner, lineage).map_err(failure::before_commit)?;
    save_clarifications(connection, &prepared.clarifications).map_err(failure::before_commit)?;
    for phase in &prepared.phases {
        phases::save(connection, phase, owner).map_err(failure::before_commit)?;
    }
    for effect in &prepared.effects {
        outbox::save(connection, effect, owner).map_err(failure::before_commit)?;
    }
    Ok(Outcome::Committed)
}

/// The input was handled, but what it left is damaged, or cannot be opened: it must not be handled again, and there is no first answer to
/// give. To call the commit stale saves nothing, keeps the rest of the batch, and sends the caller to `receipt`, which
/// says what is wrong.
fn give_up(connection: &Connection, fault: Fault) -> Result<Outcome, CommitError> {
    match fault {
        Fault::Backend(error) => Err(failure::before_commit(error)),
        Fault::NewerFormat(_) | Fault::Locked(_) => Ok(Outcome::Stale),
        Fault::Damaged(damage) => {
            seal::quarantine(connection, &damage).map_err(failure::before_commit)?;
            Ok(Outcome::Stale)
        }
    }
}

/// The row of the instance after the commit, or nothing if it is stale.
fn save_instance(
    connection: &Connection,
    prepared: &Prepared<'_>,
    current: Option<Current>,
    lineage: Option<i64>,
) -> rusqlite::Result<Option<i64>> {
    let expected = number(prepared.commit.expected);
    let current = current.filter(|current| current.revision == expected);
    match (&prepared.instance, current) {
        (Some(instance), _) if expected == 0 => insert_instance(connection, instance, lineage),
        (Some(instance), Some(current)) => update_instance(connection, instance, current),
        (None, Some(current)) => Ok(Some(current.row)),
        (_, None) => Ok(None),
    }
}

/// What is beside the record of an instance that is there, and where.
struct Current {
    row: i64,
    lineage: i64,
    revision: i64,
    wake_at: Option<i64>,
    looping_until: Option<i64>,
}

static FIND_CURRENT: LazyLock<String> = LazyLock::new(|| {
    let lineage = lineage::COLUMNS;
    format!("SELECT {lineage}, revision, wake_at, looping_until FROM instances WHERE tenant = ?1 AND id = ?2")
});

/// The instance of a commit, at whatever revision. What is new is not looked for.
fn find_current(connection: &Connection, prepared: &Prepared<'_>) -> Result<Option<Current>, Fault> {
    let commit = prepared.commit;
    if number(commit.expected) == 0 {
        return Ok(None);
    }
    let mut select = connection.prepare_cached(&FIND_CURRENT)?;
    let mut rows = select.query([commit.tenant.as_str(), commit.instance.as_str()])?;
    let Some(found) = rows.next()? else {
        return Ok(None);
    };
    let (row, lineage) = lineage::read(found)?;
    let (revision, wake_at, looping_until) = (found.get(5)?, found.get(6)?, found.get(7)?);
    Ok(Some(Current { row, lineage, revision, wake_at, looping_until }))
}

/// An id or a session that exists makes the creation stale.
pub(super) fn insert_instance(
    connection: &Connection,
    instance: &InstanceRow<'_>,
    lineage: Option<i64>,
) -> rusqlite::Result<Option<i64>> {
    let mut insert = connection.prepare_cached(
        "INSERT INTO instances (tenant, id, format, machine, version, definition, subject, ordinal, revision,
             state, closure_reason, created_at, updated_at, wake_at, checksum, body, lineage, lineage_check)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ~?17)
         ON CONFLICT DO NOTHING",
    )?;
    let snapshot = instance.snapshot;
    let inserted = insert.execute(params![
        snapshot.tenant.as_str(),
        snapshot.instance.as_str(),
        SNAPSHOT_FORMAT,
        snapshot.machine.as_str(),
        snapshot.version,
        snapshot.definition.as_str(),
        instance.subject(),
        snapshot.ordinal,
        number(snapshot.revision),
        instance.state,
        instance.closure_reason(),
        snapshot.created_at.as_millis(),
        snapshot.updated_at.as_millis(),
        instance.wake_at,
        instance.checksum,
        instance.body,
        lineage,
    ])?;
    let row = (inserted == 1).then(|| connection.last_insert_rowid());
    if let Some(row) = row.filter(|_| instance.looping_until.is_some()) {
        set_looping_until(connection, row, instance.looping_until)?;
    }
    Ok(row)
}

/// A commit ends the claim on its instance. Machine, subject and ordinal are for life, because sessions are found by
/// them.
fn update_instance(
    connection: &Connection,
    instance: &InstanceRow<'_>,
    current: Current,
) -> rusqlite::Result<Option<i64>> {
    let mut update = connection.prepare_cached(
        "UPDATE instances SET format = ?1, version = ?2, definition = ?3, revision = ?4, state = ?5,
             closure_reason = ?6, created_at = ?7, updated_at = ?8, claimed_until = NULL, checksum = ?9, body = ?10
         WHERE row = ?11 AND revision = ?4 - 1 AND machine = ?12 AND subject IS ?13 AND ordinal = ?14",
    )?;
    let (snapshot, row) = (instance.snapshot, current.row);
    let updated = update.execute(params![
        SNAPSHOT_FORMAT,
        snapshot.version,
        snapshot.definition.as_str(),
        number(snapshot.revision),
        instance.state,
        instance.closure_reason(),
        snapshot.created_at.as_millis(),
        snapshot.updated_at.as_millis(),
        instance.checksum,
        instance.body,
        row,
        snapshot.machine.as_str(),
        instance.subject(),
        snapshot.ordinal,
    ])?;
    if updated == 0 {
        return Err(rusqlite::Error::StatementChangedRows(0));
    }
    let must_move = match (current.wake_at, instance.wake_at) {
        // A bound that is too low costs one look at the instance; moving it costs every commit a page of the index.
        (Some(stored), Some(due)) => due < stored,
        (stored, due) => stored != due,
    };
    if must_move {
        set_wake_at(connection, row, instance.wake_at)?;
    }
    if current.looping_until != instance.looping_until {
        set_looping_until(connection, row, instance.looping_until)?;
    }
    Ok(Some(row))
}

fn set_looping_until(connection: &Connection, row: i64, until: Option<i64>) -> rusqlite::Result<()> {
    let mut update = connection.prepare_cached("UPDATE instances SET looping_until = ?1 WHERE row = ?2")?;
    update.execute(params![until, row])?;
    Ok(())
}

fn set_wake_at(connection: &Connection, row: i64, at: Option<i64>) -> rusqlite::Result<()> {
    let mut update = connection.prepare_cached("UPDATE instances SET wake_at = ?1 WHERE row = ?2")?;
    update.execute(params![at, row])?;
    Ok(())
}

pub(super) fn append_line(
    connection: &Connection,
    line: &LineRow<'_>,
    seq: i64,
    owner: i64,
    lineage: i64,
) -> rusqlite::Result<()> {
    let mut insert = connection.prepare_cached(
        "INSERT INTO log (seq, owner, tenant, instance, revision, at, receipt, checksum, body, lineage)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
    )?;
    insert.execute(params![
        seq,
        owner,
        line.tenant.as_str(),
        line.instance.as_str(),
        number(line.entry.revision),
        line.entry.at.as_millis(),
        line.receipt,
        line.checksum_at(seq, owner, lineage),
        line.body,
        lineage,
    ])?;
    Ok(())
}

pub(super) fn save_clarifications(
    connection: &Connection,
    rows: &[ClarificationRow<'_>],
) -> rusqlite::Result<()> {
    for row in rows {
        let mut upsert = connection.prepare_cached(
            "INSERT INTO clarifications (tenant, id, instance, status, created_at, checksum, body)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
             ON CONFLICT (tenant, id) DO UPDATE SET instance = excluded.instance, status = excluded.status,
                 created_at = excluded.created_at, checksum = excluded.checksum, body = excluded.body",
        )?;
        let clarification = row.clarification;
        upsert.execute(params![
            clarification.tenant.as_str(),
            clarification.id,
            clarification.instance.as_str(),
            clarification.status.as_str(),
            clarification.created_at.as_millis(),
            row.checksum,
            row.body,
        ])?;
    }
    Ok(())
}

/// What is to be done with an instance that may be due.
enum Claim {
    /// It is due since then.
    Take(Timestamp, TenantId, InstanceId),
    /// Its deadline has moved on since its `wake_at` was written; this is the true one.
    Correct(Option<i64>),
    /// Nobody can see to it. Until a commit mends it, it would only be found again and again.
    Forget,
}

static FIND_DUE: LazyLock<String> = LazyLock::new(|| {
    INSTANCES.select(&["row"])
        + "WHERE t.wake_at <= ?1 AND (coalesce(t.claimed_until, 0) <= ?1 OR t.claim_check IS NOT ~t.claimed_until)
           ORDER BY t.wake_at LIMIT ?2"
});

/// Claims what is due and corrects the `wake_at` of what turns out not to be. The second is bounded as well, so that a
/// claim never holds up commits for long: fewer than `limit` may come back although more are due.
pub(super) fn claim_due(
    connection: &Connection,
    now: Timestamp,
    lease_until: Timestamp,
    limit: usize,
) -> rusqlite::Result<Vec<(TenantId, InstanceId)>> {
    let mut claims = find_due(connection, now, limit)?;
    let mut claim = connection
        .prepare_cached("UPDATE instances SET claimed_until = ?1, claim_check = ~?1 WHERE row = ?2")?;
    for (row, found) in &claims {
        match found {
            Claim::Take(..) => {
                claim.execute(params![lease_until.as_millis(), row])?;
            }
            Claim::Correct(wake_at) => set_wake_at(connection, *row, *wake_at)?,
            Claim::Forget => set_wake_at(connection, *row, None)?,
        }
    }
    claims.sort_by_key(|(_, claim)| match claim {
        Claim::Take(due, ..) => Some(*due),
        _ => None,
    });
    let taken = claims.into_iter().filter_map(|(_, claim)| match claim {
        Claim::Take(_, tenant, instance) => Some((tenant, instance)),
        _ => None,
    });
    Ok(taken.collect())
}

fn find_due(connection: &Connection, now: Timestamp, limit: usize) -> rusqlite::Result<Vec<(i64, Claim)>> {
    let looked_at_max = limit.saturating_mul(4).min(100_000) as i64;
    let mut select = connection.prepare_cached(&FIND_DUE)?;
    let mut rows = select.query(params![now.as_millis(), looked_at_max])?;
    let mut claims = Vec::new();
    let mut taken = 0;
    while taken < limit
        && let Some(row) = rows.next()?
    {
        let claim = match INSTANCES.open_unsealed::<Waiting>(row) {
            Ok(waiting) => match waiting.due_at() {
                Some(due) if due <= now => {
                    taken += 1;
                    Claim::Take(due, waiting.tenant, waiting.instance)
                }
                later => Claim::Correct(later.map(Timestamp::as_millis)),
            },
            Err(Fault::Backend(error)) => return Err(error),
            Err(Fault::NewerFormat(_) | Fault::Locked(_)) => Claim::Forget,
            Err(Fault::Damaged(damage)) => {
                seal::quarantine(connection, &damage)?;
                Claim::Forget
            }
        };
        claims.push((row.get(INSTANCES.more())?, claim));
    }
    Ok(claims)
}

/// Saves a definition that is not there, or is there damaged.
pub(super) fn save_definition(
    connection: &Connection,
    definition: &StoredDefinition,
) -> rusqlite::Result<()> {
    let mut upsert = connection.prepare_cached(
        "INSERT OR REPLACE INTO definitions (hash, machine, version, saved_at, checksum, source)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?;
    upsert.execute(params![
        definition.hash.as_str(),
        definition.machine.as_str(),
        definition.version,
        definition.saved_at.as_millis(),
        record::definition_checksum(definition),
        definition.source,
    ])?;
    Ok(())
}

pub(super) fn clean_up(
    connection: &Connection,
    before: Timestamp,
    limit: usize,
) -> rusqlite::Result<CleanupReport> {
    let mut delete = connection.prepare_cached(
        "DELETE FROM log WHERE seq IN (
             SELECT l.seq FROM log AS l JOIN instances AS i ON i.row = l.owner
             WHERE l.at < ?1 AND (
                 i.closure_reason IS NOT NULL
                 OR EXISTS (SELECT 1 FROM log AS newer WHERE newer.owner = l.owner AND newer.seq > l.seq)
             )
             ORDER BY l.at, l.seq LIMIT ?2)",
    )?;
    let rows_max = i64::try_from(limit).unwrap_or(i64::MAX);
    let entries_deleted = delete.execute(params![before.as_millis(), rows_max])?;
    let effects_deleted = outbox::clean_up(connection, before, limit - entries_deleted)?;
    let instances_deleted = clean_up_beside(connection, before, limit - entries_deleted - effects_deleted)?;
    let more = entries_deleted + effects_deleted + instances_deleted == limit;
    Ok(CleanupReport { entries_deleted, effects_deleted, instances_deleted, more })
}

/// Deletes closed instances of what is kept beside a tenant, once their log is gone; the longest closed first.
fn clean_up_beside(connection: &Connection, before: Timestamp, limit: usize) -> rusqlite::Result<usize> {
    let mut delete = connection.prepare_cached(
        "DELETE FROM instances WHERE row IN (
             SELECT i.row FROM instances AS i
             WHERE i.closure_reason IS NOT NULL AND instr(i.tenant, '~') > 0 AND i.updated_at < ?1
                 AND NOT EXISTS (SELECT 1 FROM log AS l WHERE l.owner = i.row)
             ORDER BY i.updated_at, i.row LIMIT ?2)
         RETURNING row",
    )?;
    let rows_max = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = delete.query_map(params![before.as_millis(), rows_max], |row| row.get(0))?;
    let gone: Vec<i64> = rows.collect::<rusqlite::Result<_>>()?;
    gone.iter().try_for_each(|row| phases::forget(connection, *row))?;
    Ok(gone.len())
}
