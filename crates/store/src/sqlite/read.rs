//! What is read from the file, on connections that cannot write and never wait for the writer.
//!
//! Every record is checked before it is served. What a list finds damaged is left out and handed to the caller, who has
//! the writer to put it into quarantine.

use std::collections::HashMap;

use kernel::commit::Entry;
use kernel::conversation::{Clarification, ClarificationStatus};
use kernel::id::{InstanceId, MachineName, Subject, TenantId};
use kernel::snapshot::{Snapshot, StuckBy};
use kernel::time::Timestamp;
use rusqlite::types::{Type, Value, ValueRef};
use rusqlite::{Connection, OptionalExtension, Row, params_from_iter};
use serde::de::{DeserializeOwned, IntoDeserializer};

use crate::query::{ClarificationQuery, HistoryQuery, InstanceQuery, Page};
use crate::seal::{CLARIFICATIONS, DEFINITIONS, Damage, INSTANCES, Kept, LOG, Table};
use crate::sqlite::scan::{List, Part, Range};
use crate::sqlite::seal::Fault;
use crate::sqlite::{outbox, phases};
use crate::standing::DEAD_END;
use crate::vault::parts::Secrets;
use crate::{StoreStatistics, StoredDefinition};

/// A list with what had to be left out of it.
pub(super) type Listed<T> = (T, Vec<Damage>);

pub(super) fn instance(
    connection: &Connection,
    tenant: &TenantId,
    instance: &InstanceId,
    secrets: &Secrets,
) -> Result<Option<Snapshot>, Fault> {
    let sql = INSTANCES.select(&[]) + "WHERE t.tenant = ?1 AND t.id = ?2";
    let mut select = connection.prepare_cached(&sql)?;
    let mut rows = select.query([tenant.as_str(), instance.as_str()])?;
    rows.next()?.map(|row| INSTANCES.open_sealed(row, secrets)).transpose()
}

pub(super) fn session(
    connection: &Connection,
    tenant: &TenantId,
    machine: &MachineName,
    subject: &Subject,
    secrets: &Secrets,
) -> Result<Option<Snapshot>, Fault> {
    let sql = INSTANCES.select(&[])
        + "WHERE t.tenant = ?1 AND t.machine = ?2 AND t.subject = ?3 AND t.ordinal > 0
           ORDER BY t.ordinal DESC LIMIT 1";
    let mut select = connection.prepare_cached(&sql)?;
    let mut rows = select.query([tenant.as_str(), machine.as_str(), subject.as_str()])?;
    rows.next()?.map(|row| INSTANCES.open_sealed(row, secrets)).transpose()
}

/// Walks up the index only as far as something earlier may still come: past the claimed, which are few.
pub(super) fn next_due(connection: &Connection) -> rusqlite::Result<Option<Timestamp>> {
    let mut select = connection.prepare_cached(
        "SELECT wake_at, coalesce(iif(claim_check IS ~claimed_until, claimed_until, 0), 0) FROM instances
         WHERE wake_at IS NOT NULL ORDER BY wake_at",
    )?;
    let mut rows = select.query(())?;
    let mut earliest: Option<i64> = None;
    while let Some(row) = rows.next()? {
        let (wake_at, claimed_until): (i64, i64) = (row.get(0)?, row.get(1)?);
        if earliest.is_some_and(|found| found <= wake_at) {
            break;
        }
        let due = wake_at.max(claimed_until);
        earliest = Some(earliest.map_or(due, |found| found.min(due)));
    }
    Ok(earliest.map(Timestamp::from_millis))
}

impl List for InstanceQuery {
    type Record = Snapshot;

    fn part(
        &self,
        connection: &Connection,
        secrets: &Secrets,
        range: Range<'_>,
        limit: usize,
    ) -> rusqlite::Result<Part<Snapshot>> {
        let wanted = instances_within(connection, self, range)?;
        let matches = |snapshot: &Snapshot| self.matches(snapshot);
        listed(connection, (&INSTANCES, secrets), &wanted, "t.id DESC", limit, matches).map(unnumbered)
    }

    fn skip(
        &self,
        connection: &Connection,
        after: Option<&str>,
        rows: usize,
    ) -> rusqlite::Result<Option<String>> {
        let mut among = Conditions::of_tenant(&self.tenant);
        if let Some(after) = after {
            among.also("t.id < ?", [Value::Text(after.to_owned())]);
        }
        skipped(connection, "t.id", "instances AS t", &among, "t.id DESC", rows, |row| row.get(0))
    }

    fn cursor_of(&self, record: &Snapshot) -> String {
        record.instance.to_string()
    }
}

pub(super) fn instances_within(
    connection: &Connection,
    query: &InstanceQuery,
    range: Range<'_>,
) -> rusqlite::Result<Conditions> {
    let mut wanted = instance_conditions(query);
    narrow(connection, query, range, &mut wanted)?;
    if let Some(after) = range.after {
        wanted.also("t.id < ?", [Value::Text(after.to_owned())]);
    }
    if let Some(until) = range.until {
        wanted.also("t.id >= ?", [Value::Text(until.to_owned())]);
    }
    Ok(wanted)
}

/// What `InstanceQuery::matches` says, as far as columns tell.
fn instance_conditions(query: &InstanceQuery) -> Conditions {
    let text = |text: &str| Value::Text(text.to_owned());
    let mut wanted = Conditions::of_tenant(&query.tenant);
    if let Some(machine) = &query.machine {
        wanted.also("t.machine = ?", [text(machine.as_str())]);
    }
    if let Some(subject) = &query.subject {
        wanted.also("t.subject = ?", [text(subject.as_str())]);
    }
    if let Some(part) = &query.subject_contains {
        wanted.also("instr(t.subject, ?) > 0", [text(part)]);
    }
    for state in query.states() {
        // `state` holds the paths with commas between them; one of them is this, or begins with this and a dot.
        wanted.also(
            "(instr(',' || t.state || ',', ?) > 0 OR instr(',' || t.state, ?) > 0)",
            [text(&format!(",{state},")), text(&format!(",{state}."))],
        );
    }
    match query.closed {
        Some(true) => wanted.also("t.closure_reason IS NOT NULL", []),
        Some(false) => wanted.also("t.closure_reason IS NULL", []),
        None => {}
    }
    if let Some(limit) = query.due_before {
        // A lower bound; what is not really due by then is found out by `matches`.
        wanted.also("t.wake_at < ?", [Value::Integer(limit.as_millis())]);
    }
    if let Some(limit) = query.idle_since {
        wanted.also("t.updated_at < ?", [Value::Integer(limit.as_millis())]);
    }
    if let Some(now) = query.looping_at {
        wanted.also("t.looping_until > ?", [Value::Integer(now.as_millis())]);
    }
    if let Some(StuckBy { overdue_since, .. }) = query.stuck_by {
        wanted.also(
            "t.closure_reason IS NULL AND (t.wake_at < ? OR t.wake_at IS NULL)",
            [Value::Integer(overdue_since.as_millis())],
        );
    }
    wanted
}

/// So many rows are gathered and sorted in less time than a list has; where more are in question, going through them in
/// the order of the list soon finds some.
const FEW: i64 = 10_000;

/// What is stuck or goes in circles is seldom: an index over what is in question leads to it, not the order of the list.
fn narrow(
    connection: &Connection,
    query: &InstanceQuery,
    range: Range<'_>,
    wanted: &mut Conditions,
) -> rusqlite::Result<()> {
    if let Some(now) = query.looping_at
        && are_few(connection, "instances_looping", "looping_until > ?1", now)?
    {
        wanted.unordered();
    }
    let Some(StuckBy { overdue_since, silent_since }) = query.stuck_by else { return Ok(()) };
    if !are_few(connection, "instances_by_wake_at", "wake_at < ?1", overdue_since)? {
        return Ok(());
    }
    wanted.unordered();
    let text = |text: &str| Value::Text(text.to_owned());
    // No text is before the empty one, and none behind a blob.
    let first = text(range.until.unwrap_or_default());
    let last = range.after.map_or(Value::Blob(Vec::new()), text);
    wanted.also(
        "t.row IN (
             SELECT row FROM instances INDEXED BY instances_by_wake_at WHERE wake_at < ?
             UNION ALL
             SELECT row FROM instances INDEXED BY instances_timeless
             WHERE tenant = ? AND closure_reason IS NULL AND wake_at IS NULL AND id >= ? AND id < ?
                 AND (updated_at < ? OR instr(body, ?) > 0))",
        [
            Value::Integer(overdue_since.as_millis()),
            text(query.tenant.as_str()),
            first,
            last,
            Value::Integer(silent_since.as_millis()),
            text(DEAD_END),
        ],
    );
    Ok(())
}

fn are_few(connection: &Connection, index: &str, which: &str, than: Timestamp) -> rusqlite::Result<bool> {
    let sql = format!(
        "SELECT count(*) FROM (SELECT 1 FROM instances INDEXED BY {index} WHERE {which} LIMIT {FEW} + 1)"
    );
    let mut select = connection.prepare_cached(&sql)?;
    let found: i64 = select.query_row([than.as_millis()], |row| row.get(0))?;
    Ok(found <= FEW)
}

/// The key that comes `rows` keys later in the order, made a cursor by `cursor_of`.
pub(super) fn skipped(
    connection: &Connection,
    keys: &str,
    table: &str,
    among: &Conditions,
    order: &str,
    rows: usize,
    cursor_of: impl FnOnce(&Row<'_>) -> rusqlite::Result<String>,
) -> rusqlite::Result<Option<String>> {
    let conditions = &among.sql;
    let offset = rows.saturating_sub(1);
    let sql =
        format!("SELECT {keys} FROM {table} WHERE {conditions} ORDER BY {order} LIMIT 1 OFFSET {offset}");
    // Not kept: there is one for each number of rows, and it is seldom asked for.
    let mut select = connection.prepare(&sql)?;
    select.query_row(params_from_iter(&among.values), cursor_of).optional()
}

pub(super) fn history(
    connection: &Connection,
    query: &HistoryQuery,
    secrets: &Secrets,
) -> Result<Listed<Page<Entry>>, Fault> {
    let mut wanted = Conditions::new(
        "t.owner = (SELECT row FROM instances WHERE tenant = ? AND id = ?)",
        vec![Value::Text(query.tenant.to_string()), Value::Text(query.instance.to_string())],
    );
    let (order, is_behind) =
        if query.newest_first { ("t.seq DESC", "t.seq < ?") } else { ("t.seq", "t.seq > ?") };
    if let Some(behind) = query.behind() {
        wanted.also(is_behind, [Value::Integer(behind)]);
    }
    let Part { mut records, has_more, damaged, locked } =
        listed(connection, (&LOG, secrets), &wanted, order, query.limit, |_| true)?;
    if let Some(locked) = locked {
        return Err(Fault::Locked(locked));
    }
    let next = records.last().filter(|_| has_more).map(|(seq, _)| seq.to_string());
    let data = records.drain(..).map(|(_, entry)| entry).collect();
    Ok((Page { data, next }, damaged))
}

impl List for ClarificationQuery {
    type Record = Clarification;

    fn part(
        &self,
        connection: &Connection,
        secrets: &Secrets,
        range: Range<'_>,
        limit: usize,
    ) -> rusqlite::Result<Part<Clarification>> {
        let mut wanted = Conditions::of_tenant(&self.tenant);
        if let Some(status) = self.status {
            wanted.also("t.status = ?", [Value::Text(status.as_str().to_owned())]);
        }
        if let Some(id) = &self.id {
            wanted.also("t.id = ?", [Value::Text(id.clone())]);
        }
        bound_by(&mut wanted, "(t.created_at, t.id) < (?, ?)", range.after);
        bound_by(&mut wanted, "(t.created_at, t.id) >= (?, ?)", range.until);
        let order = "t.created_at DESC, t.id DESC";
        listed(connection, (&CLARIFICATIONS, secrets), &wanted, order, limit, |_| true).map(unnumbered)
    }

    fn skip(
        &self,
        connection: &Connection,
        after: Option<&str>,
        rows: usize,
    ) -> rusqlite::Result<Option<String>> {
        let mut among = Conditions::of_tenant(&self.tenant);
        bound_by(&mut among, "(t.created_at, t.id) < (?, ?)", after);
        let (keys, order) = ("t.created_at, t.id", "t.created_at DESC, t.id DESC");
        skipped(connection, keys, "clarifications AS t", &among, order, rows, |row| {
            Ok(format!("{}:{}", row.get::<_, i64>(0)?, row.get::<_, String>(1)?))
        })
    }

    fn cursor_of(&self, record: &Clarification) -> String {
        Self::cursor_of(record)
    }
}

fn bound_by(wanted: &mut Conditions, bound: &str, cursor: Option<&str>) {
    match cursor.map(ClarificationQuery::parse_cursor) {
        None => {}
        Some(Some((at, id))) => {
            wanted.also(bound, [Value::Integer(at.as_millis()), Value::Text(id.to_owned())]);
        }
        Some(None) => wanted.also("false", []),
    }
}

pub(super) fn definitions(connection: &Connection) -> rusqlite::Result<Listed<Vec<StoredDefinition>>> {
    let sql = DEFINITIONS.select(&[]) + "ORDER BY t.row";
    let mut select = connection.prepare_cached(&sql)?;
    let mut rows = select.query(())?;
    let mut definitions = Vec::new();
    let mut damaged = Vec::new();
    while let Some(row) = rows.next()? {
        match DEFINITIONS.verify(row) {
            Ok(()) => definitions.push(definition(row)?),
            Err(Fault::Backend(error)) => return Err(error),
            Err(Fault::NewerFormat(_) | Fault::Locked(_)) => {}
            Err(Fault::Damaged(damage)) => damaged.push(*damage),
        }
    }
    Ok((definitions, damaged))
}

/// Of a row whose checksum fits.
fn definition(row: &Row<'_>) -> rusqlite::Result<StoredDefinition> {
    Ok(StoredDefinition {
        hash: identifier(row, 0)?,
        machine: identifier(row, 1)?,
        version: row.get(2)?,
        saved_at: Timestamp::from_millis(row.get(3)?),
        source: row.get(4)?,
    })
}

/// The identifier in a column of a row whose checksum fits.
pub(super) fn identifier<T: DeserializeOwned>(row: &Row<'_>, column: usize) -> rusqlite::Result<T> {
    let text: String = row.get(column)?;
    T::deserialize(text.into_deserializer()).map_err(|error: serde::de::value::Error| {
        rusqlite::Error::FromSqlConversionFailure(column, Type::Text, error.into())
    })
}

/// So many rows are counted in one read transaction.
pub(super) const ROWS_COUNTED: i64 = 50_000;

/// Each record is counted as it is when its rows are come to: figures are no cut through one moment.
pub(super) fn statistics(connection: &Connection) -> rusqlite::Result<StoreStatistics> {
    let mut figures = StoreStatistics::default();
    for status in ClarificationStatus::ALL {
        figures.clarifications.insert(status.as_str(), 0);
    }
    let mut tally = Tally::default();
    let mut from = Some(i64::MIN);
    while let Some(last) = from {
        from = tally.count(connection, last)?;
    }
    tally.tell(&mut figures);
    in_windows(connection, "clarifications", |from, until| {
        let mut select = connection.prepare_cached(
            "SELECT status, count(*) FROM clarifications
             WHERE tenant NOT GLOB '*~shadow' AND row > ?1 AND row <= ?2 GROUP BY 1",
        )?;
        let mut rows = select.query([from, until])?;
        while let Some(row) = rows.next()? {
            let status: String = row.get(0)?;
            if let Some(status) = ClarificationStatus::parse(&status) {
                let count = row.get::<_, i64>(1)?.unsigned_abs();
                *figures.clarifications.entry(status.as_str()).or_default() += count;
            }
        }
        Ok(())
    })?;
    figures.phases = phases::counts(connection)?;
    figures.effects = outbox::counts(connection)?;
    let mut select = connection.prepare_cached("SELECT count(*) FROM quarantine")?;
    figures.quarantined = select.query_row((), |row| Ok(row.get::<_, i64>(0)?.unsigned_abs()))?;
    Ok(figures)
}

/// Calls `count` for windows of row numbers until it has been called for all there are.
pub(super) fn in_windows(
    connection: &Connection,
    table: &str,
    mut count: impl FnMut(i64, i64) -> rusqlite::Result<()>,
) -> rusqlite::Result<()> {
    let sql = format!(
        "SELECT max(rowid) FROM (SELECT rowid FROM {table} WHERE rowid > ?1 ORDER BY rowid LIMIT ?2)"
    );
    let mut from = i64::MIN;
    loop {
        let mut ends = connection.prepare_cached(&sql)?;
        let until: Option<i64> = ends.query_row([from, ROWS_COUNTED], |row| row.get(0))?;
        let Some(until) = until else { return Ok(()) };
        count(from, until)?;
        from = until;
    }
}

/// What is counted of instances. There may be millions of them: each is read once, and nothing is allocated or sorted for
/// it.
#[derive(Default)]
struct Tally {
    /// Open ones by state and closed ones by reason, of each machine.
    machines: HashMap<String, [HashMap<String, u64>; 2]>,
    latest_change: Option<i64>,
    /// The sum of the seconds at which they are due, and how many that are.
    deadlines: (i64, i64),
}

impl Tally {
    /// Counts the instances behind a row, as many as one read transaction may, and says where it ended if there were any.
    fn count(&mut self, connection: &Connection, from: i64) -> rusqlite::Result<Option<i64>> {
        let mut select = connection.prepare_cached(
            "SELECT row, tenant, machine, closure_reason, state, updated_at, wake_at
             FROM instances WHERE row > ?1 ORDER BY row LIMIT ?2",
        )?;
        let mut rows = select.query([from, ROWS_COUNTED])?;
        let mut last = None;
        while let Some(row) = rows.next()? {
            last = Some(row.get(0)?);
            self.latest_change = self.latest_change.max(row.get(5)?);
            if text(row, 1)?.ends_with("~shadow") {
                continue;
            }
            let (place, by) = match row.get_ref(3)? {
                ValueRef::Null => (0, 4),
                _ => (1, 3),
            };
            let name = text(row, by)?;
            with(&mut self.machines, text(row, 2)?, |machine| {
                with(&mut machine[place], name, |count| *count += 1);
            });
            if let Some(wake_at) = row.get::<_, Option<i64>>(6)? {
                self.deadlines.0 += wake_at / 1_000;
                self.deadlines.1 += 1;
            }
        }
        Ok(last)
    }

    fn tell(self, figures: &mut StoreStatistics) {
        for (machine, [open, closed]) in self.machines {
            let named = |(name, count)| ((machine.clone(), name), count);
            figures.open.extend(open.into_iter().map(named));
            figures.closed.extend(closed.into_iter().map(named));
        }
        figures.latest_change = self.latest_change.map(Timestamp::from_millis);
        let (seconds, count) = self.deadlines;
        figures.mean_deadline = (count > 0).then(|| Timestamp::from_millis(seconds / count * 1_000));
    }
}

pub(super) fn text<'r>(row: &'r Row<'_>, column: usize) -> rusqlite::Result<&'r str> {
    let text = row.get_ref(column)?.as_str();
    text.map_err(|error| rusqlite::Error::FromSqlConversionFailure(column, Type::Text, error.into()))
}

/// Changes what is under the name, which is copied only when it is new.
pub(super) fn with<T: Default>(map: &mut HashMap<String, T>, name: &str, change: impl FnOnce(&mut T)) {
    match map.get_mut(name) {
        Some(found) => change(found),
        None => change(map.entry(name.to_owned()).or_default()),
    }
}

/// Conditions of a statement with the values of their `?`, in order.
pub(super) struct Conditions {
    pub sql: String,
    pub values: Vec<Value>,
}

impl Conditions {
    pub(super) fn new(sql: &str, values: Vec<Value>) -> Self {
        Self { sql: sql.to_owned(), values }
    }

    pub(super) fn of_tenant(tenant: &TenantId) -> Self {
        Self::new("t.tenant = ?", vec![Value::Text(tenant.to_string())])
    }

    /// Keeps the index by tenant, which has the order of the list, from being gone through for the sake of that.
    fn unordered(&mut self) {
        if self.sql.starts_with("t.tenant") {
            self.sql.insert(0, '+');
        }
    }

    pub(super) fn also<const N: usize>(&mut self, sql: &str, values: [Value; N]) {
        self.sql.push_str(" AND ");
        self.sql.push_str(sql);
        self.values.extend(values);
    }
}

fn unnumbered<T>(part: Part<(i64, T)>) -> Part<T> {
    let Part { records, has_more, damaged, locked } = part;
    Part { records: records.into_iter().map(|(_, record)| record).collect(), has_more, damaged, locked }
}

/// Records with their row numbers.
fn listed<T: Kept>(
    connection: &Connection,
    (table, secrets): (&Table, &Secrets),
    wanted: &Conditions,
    order: &str,
    limit: usize,
    matches: impl Fn(&T) -> bool,
) -> rusqlite::Result<Part<(i64, T)>> {
    let sql = format!("{} WHERE {} ORDER BY {order}", table.select(&[]), wanted.sql);
    let mut select = connection.prepare_cached(&sql)?;
    let mut rows = select.query(params_from_iter(&wanted.values))?;
    let mut part = Part::default();
    while let Some(row) = rows.next()? {
        match table.open_sealed(row, secrets) {
            Ok(record) if !matches(&record) => {}
            Ok(_) if part.records.len() == limit => {
                part.has_more = true;
                break;
            }
            Ok(record) => part.records.push((row.get(table.columns.len() + 1)?, record)),
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
