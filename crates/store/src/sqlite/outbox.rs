//! The outbox in the file: saving effects, claiming, settling and retrying them, and what is asked about them.
//!
//! Owns whose turn it is in a lane. `claimable_at` is set for what may be claimed and for nothing else, so that whatever
//! changes a lane ends with `seat_first`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use kernel::commit::Effect;
use kernel::id::TenantId;
use kernel::time::Timestamp;
use rusqlite::types::{Type, Value, ValueRef};
use rusqlite::{Connection, OptionalExtension, Row, params, params_from_iter};
use serde::de::IgnoredAny;

use crate::outbox::{
    ClaimedEffect, DeliveryReport, DeliveryStage, EffectQuery, EffectStatus, Lane, OutboxEffect, Settlement,
};
use crate::record::EffectRow;
use crate::seal::{Cell, OUTBOX, PROGRESS};
use crate::sqlite::dossiers::Sieve;
use crate::sqlite::read::{Conditions, identifier};
use crate::sqlite::scan::{List, Part, Range};
use crate::sqlite::seal::{self, Fault};
use crate::vault::parts::Secrets;

/// Fails when the effect exists. `owner` is the row of its instance.
pub(super) fn save(connection: &Connection, row: &EffectRow<'_>, owner: i64) -> rusqlite::Result<()> {
    let mut insert = connection.prepare_cached(
        "INSERT INTO outbox (tenant, key, instance, machine, subject, lane, created_at, due_at, claimable_at,
             checksum, body, progress)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?7,
             iif(EXISTS (SELECT 1 FROM outbox WHERE lane = ?6 AND settled_at IS NULL), NULL, ?7), ?8, ?9, ?10)",
    )?;
    let lane = Lane::of(row.effect).map(|lane| lane.number(owner));
    let due_at = row.created_at.as_millis();
    insert.execute(params![
        row.of.tenant.as_str(),
        row.effect.key,
        row.of.instance.as_str(),
        row.of.machine.as_str(),
        row.of.subject(),
        lane,
        due_at,
        row.checksum,
        row.body,
        progress_at_first(due_at, lane),
    ])?;
    Ok(())
}

/// Saves effects of one instance as they stand, oldest first: under their numbers if all of these are free.
pub(super) fn take_in(
    connection: &Connection,
    effects: &[(EffectRow<'_>, &OutboxEffect)],
    owner: i64,
) -> rusqlite::Result<()> {
    let mut taken = connection.prepare_cached("SELECT EXISTS (SELECT 1 FROM outbox WHERE seq = ?1)")?;
    let mut is_free = true;
    for (_, effect) in effects {
        is_free &= !taken.query_row([effect.seq.cast_signed()], |row| row.get::<_, bool>(0))?;
    }
    let mut insert = connection.prepare_cached(
        "INSERT INTO outbox (seq, tenant, key, instance, machine, subject, lane, status, attempts, parts_done, created_at,
             due_at, claimable_at, settled_at, provider_id, stage, error, checksum, body)
         VALUES (coalesce(?1, (SELECT coalesce(max(seq), 0) + 1 FROM outbox)), ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11,
             ?12, iif(?7 IS NULL, ?12, NULL), ?13, ?14, ?15, ?16, ?17, ?18)",
    )?;
    let mut lanes = BTreeSet::new();
    for (row, effect) in effects {
        let lane = Lane::of(row.effect).map(|lane| lane.number(owner));
        lanes.extend(lane);
        insert.execute(params![
            is_free.then_some(effect.seq.cast_signed()),
            row.of.tenant.as_str(),
            row.effect.key,
            row.of.instance.as_str(),
            row.of.machine.as_str(),
            row.of.subject(),
            lane,
            effect.status.as_str(),
            effect.attempts,
            effect.parts_done,
            row.created_at.as_millis(),
            effect.due_at.map(Timestamp::as_millis),
            effect.settled_at.map(Timestamp::as_millis),
            effect.provider_id,
            effect.stage.map(DeliveryStage::as_str),
            effect.error,
            row.checksum,
            row.body,
        ])?;
        seal_progress(connection, connection.last_insert_rowid())?;
    }
    lanes.into_iter().try_for_each(|lane| seat_first(connection, lane))
}

/// The checksum over the progress of an effect that nobody has touched yet.
fn progress_at_first(due_at: i64, lane: Option<i64>) -> i64 {
    let status = EffectStatus::Pending.as_str().as_bytes();
    let (zero, none) = (Cell::Integer(0), Cell::Null);
    let lane = lane.map_or(none, Cell::Integer);
    PROGRESS.checksum(&[Cell::Text(status), zero, zero, Cell::Integer(due_at), none, none, none, none, lane])
}

/// Puts what an effect's progress now is under its checksum. Only for one whose progress was found whole, or is all new.
fn seal_progress(connection: &Connection, seq: i64) -> rusqlite::Result<()> {
    static SELECT: LazyLock<String> =
        LazyLock::new(|| format!("SELECT {} FROM outbox WHERE seq = ?1", PROGRESS.columns.join(", ")));
    let mut select = connection.prepare_cached(&SELECT)?;
    let checksum = select.query_row([seq], |row| Ok(PROGRESS.checksum(&PROGRESS.cells(row)?)))?;
    let mut update = connection.prepare_cached("UPDATE outbox SET progress = ?1 WHERE seq = ?2")?;
    update.execute([checksum, seq])?;
    Ok(())
}

/// What changes about an effect, behind what `OUTBOX` selects: what `PROGRESS` has, and its checksum.
pub(super) const MORE: [&str; 10] = [
    "status",
    "attempts",
    "parts_done",
    "due_at",
    "error",
    "provider_id",
    "stage",
    "settled_at",
    "lane",
    "progress",
];

static SELECT: LazyLock<String> = LazyLock::new(|| OUTBOX.select(&MORE));

/// Whether how far an effect in a row of `SELECT` has come is what was last written of it.
fn check_progress(row: &Row<'_>) -> Result<(), Fault> {
    let from = OUTBOX.more();
    let cells = (from..from + PROGRESS.columns.len()).map(|column| Ok(seal::cell(row.get_ref(column)?)));
    let cells = cells.collect::<rusqlite::Result<Vec<_>>>()?;
    let sealed = Cell::Integer(PROGRESS.checksum(&cells));
    if seal::cell(row.get_ref(from + PROGRESS.columns.len())?) != sealed {
        return Err(OUTBOX.damage(row, "the checksum does not fit how far it has come".to_owned()));
    }
    Ok(())
}

/// The effect in a row of `SELECT`.
fn open(row: &Row<'_>, secrets: &Secrets) -> Result<OutboxEffect, Fault> {
    let effect: Effect = OUTBOX.open_sealed(row, secrets)?;
    check_progress(row)?;
    // A row that was found is there: what fails here is a value that means nothing.
    opened(row, effect).map_err(|error| OUTBOX.damage(row, error.to_string()))
}

fn opened(row: &Row<'_>, effect: Effect) -> rusqlite::Result<OutboxEffect> {
    let progress = OUTBOX.more();
    let time =
        |column| Ok::<_, rusqlite::Error>(row.get::<_, Option<i64>>(column)?.map(Timestamp::from_millis));
    Ok(OutboxEffect {
        seq: row.get::<_, i64>(progress - 1)?.unsigned_abs(),
        tenant: identifier(row, 0)?,
        instance: identifier(row, 2)?,
        machine: identifier(row, 3)?,
        subject: present(row, 4)?.map(|()| identifier(row, 4)).transpose()?,
        effect,
        status: named(row, progress, EffectStatus::parse)?,
        attempts: row.get(progress + 1)?,
        parts_done: row.get(progress + 2)?,
        created_at: Timestamp::from_millis(row.get(5)?),
        due_at: time(progress + 3)?,
        error: row.get(progress + 4)?,
        provider_id: row.get(progress + 5)?,
        stage: present(row, progress + 6)?
            .map(|()| named(row, progress + 6, DeliveryStage::parse))
            .transpose()?,
        settled_at: time(progress + 7)?,
    })
}

fn present(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<()>> {
    Ok((row.get_ref(column)? != ValueRef::Null).then_some(()))
}

/// The value that the text in a column names.
pub(super) fn named<T>(row: &Row<'_>, column: usize, parse: fn(&str) -> Option<T>) -> rusqlite::Result<T> {
    let text: String = row.get(column)?;
    parse(&text).ok_or_else(|| {
        let error = format!("`{text}` is none that this program knows");
        rusqlite::Error::FromSqlConversionFailure(column, Type::Text, error.into())
    })
}

static OF_ONE: LazyLock<String> = LazyLock::new(|| {
    SELECT.clone() + "WHERE t.tenant = ?1 AND t.key >= ?2 AND t.key < ?3 AND t.instance = ?4 ORDER BY t.seq"
});

/// The effects of one instance, oldest first, with the bodies of their records. `ids` are its tenant, what their keys are
/// from and below, and its id.
pub(super) fn of(
    connection: &Connection,
    ids: [&String; 4],
    secrets: &Secrets,
    sieve: &mut Sieve,
) -> Result<Vec<(OutboxEffect, Vec<u8>)>, Fault> {
    let mut select = connection.prepare_cached(&OF_ONE)?;
    let mut rows = select.query(ids)?;
    let mut effects = Vec::new();
    while let Some(row) = rows.next()? {
        let Some(effect) = sieve.keep(open(row, secrets))? else { continue };
        let body = row.get_ref(OUTBOX.columns.len() - 1)?.as_bytes().map_err(rusqlite::Error::from)?;
        effects.push((effect, body.to_vec()));
    }
    Ok(effects)
}

static FIND_DUE: LazyLock<String> =
    LazyLock::new(|| SELECT.clone() + "WHERE t.claimable_at <= ?1 ORDER BY t.claimable_at, t.seq LIMIT ?2");

/// Fewer than `limit` may come back although more are due, when some of what is due is damaged.
pub(super) fn claim(
    connection: &Connection,
    now: Timestamp,
    lease_until: Timestamp,
    limit: usize,
    secrets: &Secrets,
) -> rusqlite::Result<Vec<ClaimedEffect>> {
    let mut claimed = Vec::new();
    for (seq, found) in find_due(connection, now, limit, secrets)? {
        let mut effect = match found {
            Ok(effect) => effect,
            Err(Fault::Backend(error)) => return Err(error),
            Err(Fault::NewerFormat(_)) => continue,
            Err(Fault::Locked(locked)) => {
                if !locked.may_open {
                    put_off(connection, seq, &locked.detail, lease_until)?;
                }
                continue;
            }
            Err(Fault::Damaged(damage)) => {
                seal::quarantine(connection, &damage)?;
                give_up(connection, seq, &damage.detail, now)?;
                continue;
            }
        };
        let interrupted = effect.status == EffectStatus::Sending;
        effect.status = EffectStatus::Sending;
        effect.attempts = effect.attempts.saturating_add(1);
        effect.due_at = Some(lease_until);
        let mut update = connection.prepare_cached(
            "UPDATE outbox SET status = 'sending', attempts = ?1, due_at = ?2, claimable_at = ?2 WHERE seq = ?3",
        )?;
        update.execute(params![effect.attempts, lease_until.as_millis(), seq])?;
        seal_progress(connection, seq)?;
        claimed.push(ClaimedEffect { effect, interrupted });
    }
    Ok(claimed)
}

type Found = (i64, Result<OutboxEffect, Fault>);

fn find_due(
    connection: &Connection,
    now: Timestamp,
    limit: usize,
    secrets: &Secrets,
) -> rusqlite::Result<Vec<Found>> {
    let rows_max = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut select = connection.prepare_cached(&FIND_DUE)?;
    let mut rows = select.query(params![now.as_millis(), rows_max])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push((row.get(OUTBOX.more() - 1)?, open(row, secrets)));
    }
    Ok(found)
}

/// What nobody here has the key to stays where it is, and is looked at again: somebody may bring the key.
fn put_off(connection: &Connection, seq: i64, detail: &str, until: Timestamp) -> rusqlite::Result<()> {
    let mut update = connection
        .prepare_cached("UPDATE outbox SET due_at = ?1, claimable_at = ?1, error = ?2 WHERE seq = ?3")?;
    update.execute(params![until.as_millis(), detail, seq])?;
    seal_progress(connection, seq)
}

/// Nobody can deliver what is damaged, and nobody behind it should wait for that.
fn give_up(connection: &Connection, seq: i64, detail: &str, now: Timestamp) -> rusqlite::Result<()> {
    let mut update = connection.prepare_cached(
        "UPDATE outbox SET status = 'dead', due_at = NULL, claimable_at = NULL, settled_at = ?1, error = ?2
         WHERE seq = ?3 RETURNING lane",
    )?;
    let lane: Option<i64> =
        update.query_row(params![now.as_millis(), detail, seq], |row| row.get(0)).optional()?.flatten();
    lane.map_or(Ok(()), |lane| seat_first(connection, lane))
}

/// Lets the first of a lane be claimed when it is due, and no other.
fn seat_first(connection: &Connection, lane: i64) -> rusqlite::Result<()> {
    let mut find =
        connection.prepare_cached("SELECT min(seq) FROM outbox WHERE lane = ?1 AND settled_at IS NULL")?;
    let Some(first): Option<i64> = find.query_row([lane], |row| row.get(0))? else {
        return Ok(());
    };
    // Only a retry puts somebody in front of who was the first so far.
    let mut others = connection.prepare_cached(
        "UPDATE outbox SET claimable_at = NULL
         WHERE lane = ?1 AND settled_at IS NULL AND seq > ?2 AND claimable_at IS NOT NULL",
    )?;
    others.execute([lane, first])?;
    let mut update = connection.prepare_cached(
        "UPDATE outbox SET claimable_at = due_at WHERE seq = ?1 AND claimable_at IS NOT due_at",
    )?;
    update.execute([first])?;
    Ok(())
}

pub(super) fn settle(
    connection: &Connection,
    settlement: &Settlement,
    now: Timestamp,
) -> rusqlite::Result<bool> {
    let whole = find_whole(connection, &settlement.tenant, &settlement.key)?;
    let Some(Whole { seq, .. }) = whole else { return Ok(false) };
    let settled = settlement.result.settled();
    // Who has lost its turn to one that was retried meanwhile does not get it back by failing.
    let mut update = connection.prepare_cached(
        "UPDATE outbox SET status = ?1, due_at = ?2, claimable_at = iif(claimable_at IS NULL, NULL, ?2),
             settled_at = ?3, error = coalesce(?4, error), parts_done = coalesce(?5, parts_done),
             provider_id = coalesce(?6, provider_id), attempts = attempts - ?10
         WHERE tenant = ?7 AND key = ?8 AND status = 'sending' AND attempts = ?9 RETURNING lane",
    )?;
    let values = params![
        settled.status.as_str(),
        settled.due_at.map(Timestamp::as_millis),
        settled.status.is_settled().then_some(now.as_millis()),
        settled.error,
        settled.parts_done,
        settled.provider_id,
        settlement.tenant.as_str(),
        settlement.key,
        settlement.attempt,
        settled.uncounted,
    ];
    let lane: Option<Option<i64>> = update.query_row(values, |row| row.get(0)).optional()?;
    if lane.is_some() {
        seal_progress(connection, seq)?;
    }
    if let Some(Some(lane)) = lane
        && settled.status.is_settled()
    {
        seat_first(connection, lane)?;
    }
    Ok(lane.is_some())
}

pub(super) fn next_due(connection: &Connection) -> rusqlite::Result<Option<Timestamp>> {
    let mut select =
        connection.prepare_cached("SELECT min(claimable_at) FROM outbox WHERE claimable_at IS NOT NULL")?;
    let due: Option<i64> = select.query_row((), |row| row.get(0))?;
    Ok(due.map(Timestamp::from_millis))
}

static FIND: LazyLock<String> = LazyLock::new(|| SELECT.clone() + "WHERE t.tenant = ?1 AND t.key = ?2");

/// How far an effect has come that is not damaged. What it says is of no matter here, so that no key is needed.
struct Whole {
    seq: i64,
    status: EffectStatus,
    stage: Option<DeliveryStage>,
}

fn whole(row: &Row<'_>) -> Result<Whole, Fault> {
    OUTBOX.open_unsealed::<IgnoredAny>(row)?;
    check_progress(row)?;
    let progress = OUTBOX.more();
    let named = || {
        let stage = present(row, progress + 6)?;
        Ok::<_, rusqlite::Error>(Whole {
            seq: row.get(progress - 1)?,
            status: named(row, progress, EffectStatus::parse)?,
            stage: stage.map(|()| named(row, progress + 6, DeliveryStage::parse)).transpose()?,
        })
    };
    named().map_err(|error| OUTBOX.damage(row, error.to_string()))
}

/// Whether an effect in a row of `SELECT` is whole.
pub(super) fn check(row: &Row<'_>) -> Result<(), Fault> {
    whole(row).map(drop)
}

/// A damaged effect is as good as none: nothing changes it.
fn find_whole(connection: &Connection, tenant: &TenantId, key: &str) -> rusqlite::Result<Option<Whole>> {
    let mut find = connection.prepare_cached(&FIND)?;
    let mut rows = find.query([tenant.as_str(), key])?;
    let found = rows.next()?.map(whole);
    drop(rows);
    match found {
        None | Some(Err(Fault::NewerFormat(_) | Fault::Locked(_))) => Ok(None),
        Some(Ok(effect)) => Ok(Some(effect)),
        Some(Err(Fault::Backend(error))) => Err(error),
        Some(Err(Fault::Damaged(damage))) => {
            seal::quarantine(connection, &damage)?;
            Ok(None)
        }
    }
}

pub(super) fn retry(
    connection: &Connection,
    tenant: &TenantId,
    key: &str,
    now: Timestamp,
) -> rusqlite::Result<Option<EffectStatus>> {
    let Some(Whole { seq, status, .. }) = find_whole(connection, tenant, key)? else { return Ok(None) };
    if status.may_be_retried() {
        let mut update = connection.prepare_cached(
            "UPDATE outbox SET status = 'pending', attempts = 0, due_at = ?1, provider_id = NULL, stage = NULL,
                 claimable_at = iif(lane IS NULL, ?1, NULL), settled_at = NULL
             WHERE seq = ?2 RETURNING lane",
        )?;
        let values = params![now.as_millis(), seq];
        let lane: Option<i64> = update.query_row(values, |row| row.get(0))?;
        seal_progress(connection, seq)?;
        if let Some(lane) = lane {
            seat_first(connection, lane)?;
        }
    }
    Ok(Some(status))
}

pub(super) fn note_stage(connection: &Connection, report: &DeliveryReport) -> rusqlite::Result<bool> {
    let DeliveryReport { tenant, provider_id, key, stage, error } = report;
    let mut find = connection.prepare_cached(
        "SELECT key FROM outbox WHERE provider_id = ?1 AND tenant = ?2 ORDER BY seq DESC LIMIT 1",
    )?;
    let found: Option<String> =
        find.query_row([provider_id, tenant.as_str()], |row| row.get(0)).optional()?;
    let is_known = found.is_some();
    let Some(key) = found.as_ref().or(key.as_ref()) else { return Ok(false) };
    let Some(effect) = find_whole(connection, tenant, key)? else { return Ok(false) };
    let is_news = match is_known {
        true => stage.is_news_after(effect.stage),
        false => effect.status == EffectStatus::Unknown,
    };
    if !is_news {
        return Ok(false);
    }
    let mut update = connection.prepare_cached(
        "UPDATE outbox SET status = ?1, provider_id = ?2, stage = ?3, error = coalesce(?4, error) WHERE seq = ?5",
    )?;
    let seq = effect.seq;
    update.execute(params![report.status().as_str(), provider_id, stage.as_str(), error, seq])?;
    seal_progress(connection, seq)?;
    Ok(true)
}

impl List for EffectQuery {
    type Record = OutboxEffect;

    fn part(
        &self,
        connection: &Connection,
        secrets: &Secrets,
        range: Range<'_>,
        limit: usize,
    ) -> rusqlite::Result<Part<OutboxEffect>> {
        let text = |text: &str| Value::Text(text.to_owned());
        let tenant = text(self.tenant.as_str());
        let mut wanted = Conditions::new("t.seq < ?", vec![Value::Integer(before(range.after))]);
        if let Some(until) = range.until {
            wanted.also("t.seq >= ?", [Value::Integer(before(Some(until)))]);
        }
        match (&self.key, &self.instance) {
            (Some(key), _) => wanted.also("t.tenant = ? AND t.key = ?", [tenant, text(key)]),
            // Keys begin with their instance, so that they are what its effects are found by; `;` comes next after `:`.
            (None, Some(instance)) => wanted.also(
                "t.tenant = ? AND t.key >= ? AND t.key < ?",
                [tenant, text(&format!("{instance}:")), text(&format!("{instance};"))],
            ),
            // Without the sign, all of a tenant would be sorted for one page.
            (None, None) => wanted.also("+t.tenant = ?", [tenant]),
        }
        let sql = format!("{} WHERE {} ORDER BY t.seq DESC", *SELECT, wanted.sql);
        let mut select = connection.prepare_cached(&sql)?;
        let mut rows = select.query(params_from_iter(&wanted.values))?;
        let mut part = Part::default();
        while let Some(row) = rows.next()? {
            match open(row, secrets) {
                Ok(effect) if !self.matches(&effect) => {}
                Ok(_) if part.records.len() == limit => {
                    part.has_more = true;
                    break;
                }
                Ok(effect) => part.records.push(effect),
                Err(Fault::Backend(error)) => return Err(error),
                Err(Fault::Locked(locked)) => {
                    part.locked = Some(locked);
                    break;
                }
                Err(Fault::NewerFormat(_)) => {}
                Err(Fault::Damaged(damage)) => part.damaged.push(*damage),
            }
        }
        Ok(part)
    }

    /// Numbers are given one after the other, so that few of so many are not there.
    fn skip(
        &self,
        connection: &Connection,
        after: Option<&str>,
        rows: usize,
    ) -> rusqlite::Result<Option<String>> {
        let mut select = connection.prepare_cached("SELECT max(seq), min(seq) FROM outbox")?;
        let ends = |row: &Row<'_>| Ok((row.get::<_, Option<i64>>(0)?, row.get::<_, Option<i64>>(1)?));
        let (Some(last), Some(first)) = select.query_row((), ends)? else { return Ok(None) };
        let from = before(after).min(last.saturating_add(1));
        let until = from.saturating_sub(i64::try_from(rows).unwrap_or(i64::MAX));
        Ok((until > first).then(|| until.to_string()))
    }

    fn cursor_of(&self, record: &OutboxEffect) -> String {
        record.seq.to_string()
    }
}

/// Every effect behind the cursor has a lower number than this; none has behind one that no page gave.
fn before(cursor: Option<&str>) -> i64 {
    cursor.map_or(i64::MAX, |cursor| cursor.parse().unwrap_or(0))
}

/// Deletes what was settled before `before`, the longest settled first.
pub(super) fn clean_up(connection: &Connection, before: Timestamp, limit: usize) -> rusqlite::Result<usize> {
    let mut delete = connection.prepare_cached(
        "DELETE FROM outbox WHERE seq IN (
             SELECT seq FROM outbox WHERE settled_at < ?1 ORDER BY settled_at, seq LIMIT ?2)",
    )?;
    delete.execute(params![before.as_millis(), i64::try_from(limit).unwrap_or(i64::MAX)])
}

pub(super) fn counts(connection: &Connection) -> rusqlite::Result<BTreeMap<&'static str, u64>> {
    let mut counts: BTreeMap<_, _> = EffectStatus::ALL.map(|status| (status.as_str(), 0)).into();
    let mut select = connection.prepare_cached("SELECT status, count(*) FROM outbox GROUP BY 1")?;
    let mut rows = select.query(())?;
    while let Some(row) = rows.next()? {
        let status: String = row.get(0)?;
        if let Some(status) = EffectStatus::parse(&status) {
            counts.insert(status.as_str(), row.get::<_, i64>(1)?.unsigned_abs());
        }
    }
    Ok(counts)
}

/// Puts every effect under the checksum of what it now says. For the step of the schema that brought checksums here.
pub(super) fn seal_all(connection: &Connection) -> rusqlite::Result<()> {
    let mut select = connection.prepare(&OUTBOX.select(&[]))?;
    let mut rows = select.query(())?;
    let mut checksums: Vec<(i64, i64)> = Vec::new();
    while let Some(row) = rows.next()? {
        checksums.push((row.get(OUTBOX.more() - 1)?, OUTBOX.checksum(&OUTBOX.cells(row)?)));
    }
    let mut update = connection.prepare("UPDATE outbox SET checksum = ?2 WHERE seq = ?1")?;
    checksums.into_iter().try_for_each(|sealed| update.execute(sealed).map(drop))
}

/// Puts how far every effect has come under its checksum. For the step of the schema that brought it.
pub(super) fn seal_progress_of_all(connection: &Connection) -> rusqlite::Result<()> {
    let mut select = connection.prepare("SELECT seq FROM outbox")?;
    let all: Vec<i64> = select.query_map((), |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    all.into_iter().try_for_each(|seq| seal_progress(connection, seq))
}

/// Says anew of every effect whether, and when, it may be claimed.
pub(super) fn seat_all(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(
        "CREATE TEMP TABLE seats AS
         SELECT seq, iif(settled_at IS NULL AND (lane IS NULL OR seq = (
                    SELECT min(first.seq) FROM main.outbox AS first
                    WHERE first.lane = o.lane AND first.settled_at IS NULL)), due_at, NULL) AS at
         FROM main.outbox AS o;
         UPDATE outbox SET claimable_at = seats.at FROM temp.seats
         WHERE seats.seq = outbox.seq AND outbox.claimable_at IS NOT seats.at;
         DROP TABLE temp.seats",
    )
}
