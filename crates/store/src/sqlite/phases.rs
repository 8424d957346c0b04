//! The lines of phases in the file: writing them with their commit, listing and counting them.
//!
//! A line is under one checksum with all its columns. Where it lies says whose it is: its row is made of its
//! instance's and its place.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use kernel::commit::PhaseRow;
use kernel::flow::PhaseState;
use kernel::time::Timestamp;
use rusqlite::types::Value;
use rusqlite::{Connection, Row, params, params_from_iter};

use crate::phase::{PhaseLine, PhaseQuery, Position, WorkerQuery};
use crate::record::PhaseOf;
use crate::seal::PHASES;
use crate::sqlite::dossiers::Sieve;
use crate::sqlite::outbox::named;
use crate::sqlite::read::{Conditions, identifier, skipped};
use crate::sqlite::scan::{List, Part, Range};
use crate::sqlite::seal::Fault;
use crate::vault::parts::Secrets;

/// One more than the highest place in a flow: so far apart are the lines of two instances.
const PLACES: i64 = 1 << 16;

/// Writes a line in the place of the last one. `owner` is the row of its instance.
///
/// A line that is there has the columns by which it is found, which then need not be written; where damage has changed
/// one of them, the line is made anew.
pub(super) fn save(connection: &Connection, of: &PhaseOf<'_>, owner: i64) -> rusqlite::Result<()> {
    let mut update = connection.prepare_cached(
        "UPDATE phases SET machine = ?5, phase = ?6, state = ?7, since = ?8, attempts = ?9, retries = ?10,
             error = ?11, offered_at = ?12, kind = ?13, lease = ?14, worker = ?15, checksum = ?16
         WHERE row = ?1 AND tenant = ?2 AND instance = ?3 AND place = ?4",
    )?;
    let row = of.row;
    let values = params![
        owner * PLACES + i64::from(row.place),
        of.after.tenant.as_str(),
        of.after.instance.as_str(),
        row.place,
        of.after.machine.as_str(),
        &*row.phase,
        row.state.as_str(),
        row.since.as_millis(),
        row.attempts,
        row.retries,
        row.error,
        row.offered_at.map(Timestamp::as_millis),
        &*row.kind,
        row.lease,
        row.worker,
        of.checksum,
    ];
    if update.execute(values)? == 0 {
        let mut insert = connection.prepare_cached(
            "INSERT OR REPLACE INTO phases (row, tenant, instance, place, machine, phase, state, since, attempts,
                 retries, error, offered_at, kind, lease, worker, checksum)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)",
        )?;
        insert.execute(values)?;
    }
    Ok(())
}

/// Deletes the lines of the instance in the row `owner`.
pub(super) fn forget(connection: &Connection, owner: i64) -> rusqlite::Result<()> {
    let mut delete = connection.prepare_cached("DELETE FROM phases WHERE row >= ?1 AND row < ?2")?;
    delete.execute([owner * PLACES, (owner + 1) * PLACES])?;
    Ok(())
}

static SELECT: LazyLock<String> = LazyLock::new(|| PHASES.select(&[]));

/// The line in a row of `SELECT`.
pub(super) fn open(row: &Row<'_>) -> Result<PhaseLine, Fault> {
    PHASES.verify(row)?;
    // A row that was found is there: what fails here is a value that means nothing.
    opened(row).map_err(|error| PHASES.damage(row, error.to_string()))
}

/// Of a row whose checksum fits; the columns are those of `PHASES`.
fn opened(row: &Row<'_>) -> rusqlite::Result<PhaseLine> {
    let text = |column| row.get::<_, String>(column).map(Into::into);
    Ok(PhaseLine {
        tenant: identifier(row, 0)?,
        instance: identifier(row, 1)?,
        machine: identifier(row, 3)?,
        row: PhaseRow {
            place: row.get(2)?,
            phase: text(4)?,
            state: named(row, 5, PhaseState::parse)?,
            since: Timestamp::from_millis(row.get(6)?),
            attempts: row.get(7)?,
            retries: row.get(8)?,
            error: row.get(9)?,
            offered_at: row.get::<_, Option<i64>>(10)?.map(Timestamp::from_millis),
            kind: text(11)?,
            lease: row.get(12)?,
            worker: row.get(13)?,
        },
    })
}

static OF_ONE: LazyLock<String> =
    LazyLock::new(|| SELECT.clone() + "WHERE t.row >= ?1 AND t.row < ?2 ORDER BY t.row");

/// The lines of the instance in the row `owner`, in the order of their places.
pub(super) fn of(connection: &Connection, owner: i64, sieve: &mut Sieve) -> Result<Vec<PhaseLine>, Fault> {
    let mut select = connection.prepare_cached(&OF_ONE)?;
    let mut rows = select.query([owner * PLACES, (owner + 1) * PLACES])?;
    let mut lines = Vec::new();
    while let Some(row) = rows.next()? {
        lines.extend(sieve.keep(open(row))?);
    }
    Ok(lines)
}

impl List for PhaseQuery {
    type Record = PhaseLine;

    fn part(
        &self,
        connection: &Connection,
        _: &Secrets,
        range: Range<'_>,
        limit: usize,
    ) -> rusqlite::Result<Part<PhaseLine>> {
        let Conditions { sql, values } = statement(self, range);
        let mut select = connection.prepare_cached(&sql)?;
        let mut rows = select.query(params_from_iter(&values))?;
        let mut part = Part::default();
        while let Some(row) = rows.next()? {
            match open(row) {
                Ok(_) if part.records.len() == limit => {
                    part.has_more = true;
                    break;
                }
                Ok(line) => part.records.push(line),
                Err(Fault::Backend(error)) => return Err(error),
                Err(Fault::NewerFormat(_) | Fault::Locked(_)) => {}
                Err(Fault::Damaged(damage)) => part.damaged.push(*damage),
            }
        }
        Ok(part)
    }

    fn skip(
        &self,
        connection: &Connection,
        after: Option<&str>,
        rows: usize,
    ) -> rusqlite::Result<Option<String>> {
        let mut among = Conditions::of_tenant(&self.tenant);
        if self.for_worker.is_some() {
            among.also("t.offered_at IS NOT NULL", []);
        }
        if let Some(instance) = &self.instance {
            among.also("t.instance = ?", [Value::Text(instance.to_string())]);
        }
        if let Some(after) = after {
            behind(&mut among, self.after(after));
        }
        let columns = "t.offered_at, t.instance, t.place";
        skipped(connection, columns, "phases AS t", &among, order(self), rows, |row| {
            let at = self.for_worker.as_ref().map(|_| row.get(0)).transpose()?;
            let instance: String = row.get(1)?;
            let offered_at = at.map(Timestamp::from_millis);
            Ok(Position { offered_at, instance: &instance, place: row.get(2)? }.cursor())
        })
    }

    fn cursor_of(&self, record: &PhaseLine) -> String {
        Self::cursor_of(self, record)
    }
}

/// The whole statement of a list, with its values.
pub(super) fn statement(query: &PhaseQuery, range: Range<'_>) -> Conditions {
    let mut wanted = conditions(query);
    if let Some(after) = range.after {
        behind(&mut wanted, query.after(after));
    }
    if let Some(until) = range.until {
        up_to(&mut wanted, query.after(until));
    }
    let sql = format!("{}{} WHERE {} ORDER BY {}", *SELECT, hint(query), wanted.sql, order(query));
    Conditions { sql, ..wanted }
}

/// Without it, all of a tenant would be looked at for the few that were tried again.
fn hint(query: &PhaseQuery) -> &'static str {
    let is_narrowed = query.instance.is_some()
        || query.state.is_some()
        || query.for_worker.is_some()
        || query.lease.is_some()
        || query.error.is_some();
    match query.min_retries {
        Some(1..) if !is_narrowed => "INDEXED BY phases_retried",
        _ => "",
    }
}

fn order(query: &PhaseQuery) -> &'static str {
    match query.for_worker {
        Some(_) => "t.offered_at, t.instance, t.place",
        None => "t.instance DESC, t.place",
    }
}

/// What `PhaseQuery::matches` says.
fn conditions(query: &PhaseQuery) -> Conditions {
    let text = |text: &str| Value::Text(text.to_owned());
    let time = |time: Timestamp| Value::Integer(time.as_millis());
    let mut wanted = Conditions::of_tenant(&query.tenant);
    if let Some(machine) = &query.machine {
        wanted.also("t.machine = ?", [text(machine.as_str())]);
    }
    if let Some(instance) = &query.instance {
        wanted.also("t.instance = ?", [text(instance.as_str())]);
    }
    if let Some(phase) = &query.phase {
        wanted.also("t.phase = ?", [text(phase)]);
    }
    if let Some(state) = query.state {
        wanted.also("t.state = ?", [text(state.as_str())]);
    }
    if let Some(WorkerQuery { now, kind }) = &query.for_worker {
        wanted.also("t.offered_at <= ? AND (t.kind = '' OR t.kind = ?)", [time(*now), text(kind)]);
    }
    if let Some(lease) = &query.lease {
        wanted.also("t.lease = ?", [text(lease)]);
    }
    if let Some(error) = &query.error {
        wanted.also("t.error = ?", [text(error)]);
    }
    if let Some(least) = query.min_attempts {
        wanted.also("t.attempts >= ?", [Value::Integer(least.into())]);
    }
    if let Some(least) = query.min_retries.filter(|least| *least > 0) {
        // The first is what the index is about.
        wanted.also("t.retries > 0 AND t.retries >= ?", [Value::Integer(least.into())]);
    }
    if let Some(limit) = query.since_before {
        wanted.also("t.since < ?", [time(limit)]);
    }
    wanted
}

fn behind(wanted: &mut Conditions, position: Option<Position<'_>>) {
    let Some(Position { offered_at, instance, place }) = position else {
        return wanted.also("false", []);
    };
    let (instance, place) = (Value::Text(instance.to_owned()), Value::Integer(place.into()));
    match offered_at {
        Some(at) => wanted.also(
            "(t.offered_at, t.instance, t.place) > (?, ?, ?)",
            [Value::Integer(at.as_millis()), instance, place],
        ),
        None => wanted
            .also("t.instance <= ? AND (t.instance < ? OR t.place > ?)", [instance.clone(), instance, place]),
    }
}

fn up_to(wanted: &mut Conditions, position: Option<Position<'_>>) {
    let Some(Position { offered_at, instance, place }) = position else {
        return wanted.also("false", []);
    };
    let (instance, place) = (Value::Text(instance.to_owned()), Value::Integer(place.into()));
    match offered_at {
        Some(at) => wanted.also(
            "(t.offered_at, t.instance, t.place) <= (?, ?, ?)",
            [Value::Integer(at.as_millis()), instance, place],
        ),
        None => wanted.also(
            "t.instance >= ? AND (t.instance > ? OR t.place <= ?)",
            [instance.clone(), instance, place],
        ),
    }
}

/// Of open flows, by machine and state. A line of which nobody knows the state is damaged and not counted.
pub(super) fn counts(connection: &Connection) -> rusqlite::Result<BTreeMap<(String, PhaseState), u64>> {
    // The order of the tables is as written: there may be many more instances that are no flows.
    let mut select = connection.prepare_cached(
        "SELECT i.machine, p.state, count(*)
         FROM phases AS p CROSS JOIN instances AS i ON i.row = p.row / 65536
         WHERE i.closure_reason IS NULL AND p.tenant NOT GLOB '*~shadow' GROUP BY 1, 2",
    )?;
    let mut rows = select.query(())?;
    let mut counts = BTreeMap::new();
    while let Some(row) = rows.next()? {
        let state: String = row.get(1)?;
        if let Some(state) = PhaseState::parse(&state) {
            counts.insert((row.get(0)?, state), row.get::<_, i64>(2)?.unsigned_abs());
        }
    }
    Ok(counts)
}
