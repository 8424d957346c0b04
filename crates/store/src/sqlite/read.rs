//! What is read from the file, on connections that cannot write and never wait for the writer.
//!
//! Every record is checked before it is served. What a list finds damaged is left out and handed to the caller, who has
//! the writer to put it into quarantine.

use kernel::commit::Entry;
use kernel::conversation::{Clarification, ClarificationStatus};
use kernel::id::{InstanceId, MachineName, Subject, TenantId};
use kernel::snapshot::{Snapshot, StuckBy};
use kernel::time::Timestamp;
use rusqlite::types::{Type, Value};
use rusqlite::{Connection, Row, params_from_iter};
use serde::de::{DeserializeOwned, IntoDeserializer};

use crate::query::{ClarificationQuery, HistoryQuery, InstanceQuery, Page};
use crate::seal::{CLARIFICATIONS, DEFINITIONS, Damage, INSTANCES, LOG, Table};
use crate::sqlite::seal::Fault;
use crate::sqlite::{outbox, phases};
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
        "SELECT wake_at, coalesce(claimed_until, 0) FROM instances
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

pub(super) fn instances(
    connection: &Connection,
    query: &InstanceQuery,
    secrets: &Secrets,
) -> Result<Listed<Page<Snapshot>>, Fault> {
    let text = |text: &str| Value::Text(text.to_owned());
    let mut wanted = Conditions::of_tenant(&query.tenant);
    if let Some(machine) = &query.machine {
        wanted.also("t.machine = ?", [text(machine.as_str())]);
    }
    if let Some(subject) = &query.subject {
        wanted.also("t.subject = ?", [text(subject.as_str())]);
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
    if let Some(cursor) = &query.cursor {
        wanted.also("t.id < ?", [text(cursor)]);
    }
    let (numbered, damaged) =
        listed(connection, (&INSTANCES, secrets), &wanted, "t.id DESC", query.limit, |snapshot| {
            query.matches(snapshot)
        })?;
    let page = paged(numbered, |snapshot, _| snapshot.instance.to_string());
    Ok((page, damaged))
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
    if let Some(cursor) = &query.cursor {
        let after = cursor.parse().unwrap_or(i64::MAX);
        wanted.also("t.seq > ?", [Value::Integer(after)]);
    }
    let (numbered, damaged) = listed(connection, (&LOG, secrets), &wanted, "t.seq", query.limit, |_| true)?;
    Ok((paged(numbered, |_, seq| seq.to_string()), damaged))
}

pub(super) fn clarifications(
    connection: &Connection,
    query: &ClarificationQuery,
    secrets: &Secrets,
) -> Result<Listed<Page<Clarification>>, Fault> {
    let mut wanted = Conditions::of_tenant(&query.tenant);
    if let Some(status) = query.status {
        wanted.also("t.status = ?", [Value::Text(status.as_str().to_owned())]);
    }
    if let Some(id) = &query.id {
        wanted.also("t.id = ?", [Value::Text(id.clone())]);
    }
    if let Some(cursor) = &query.cursor {
        match ClarificationQuery::parse_cursor(cursor) {
            Some((at, id)) => wanted.also(
                "(t.created_at, t.id) < (?, ?)",
                [Value::Integer(at.as_millis()), Value::Text(id.to_owned())],
            ),
            None => wanted.also("false", []),
        }
    }
    let order = "t.created_at DESC, t.id DESC";
    let (numbered, damaged) =
        listed(connection, (&CLARIFICATIONS, secrets), &wanted, order, query.limit, |_| true)?;
    let page = paged(numbered, |last, _| ClarificationQuery::cursor_of(last));
    Ok((page, damaged))
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

pub(super) fn statistics(connection: &Connection) -> rusqlite::Result<StoreStatistics> {
    let mut figures = StoreStatistics::default();
    for status in ClarificationStatus::ALL {
        figures.clarifications.insert(status.as_str(), 0);
    }
    let mut select = connection.prepare_cached(
        "SELECT machine, closure_reason, iif(closure_reason IS NULL, state, NULL), count(*)
         FROM instances WHERE tenant NOT GLOB '*~shadow' GROUP BY 1, 2, 3",
    )?;
    let mut rows = select.query(())?;
    while let Some(row) = rows.next()? {
        let machine: String = row.get(0)?;
        let closure_reason: Option<String> = row.get(1)?;
        let count = row.get::<_, i64>(3)?.unsigned_abs();
        match closure_reason {
            None => figures.open.insert((machine, row.get(2)?), count),
            Some(reason) => figures.closed.insert((machine, reason), count),
        };
    }
    let mut select = connection.prepare_cached(
        "SELECT status, count(*) FROM clarifications WHERE tenant NOT GLOB '*~shadow' GROUP BY 1",
    )?;
    let mut rows = select.query(())?;
    while let Some(row) = rows.next()? {
        let status: String = row.get(0)?;
        if let Some(status) = ClarificationStatus::parse(&status) {
            let count = row.get::<_, i64>(1)?.unsigned_abs();
            figures.clarifications.insert(status.as_str(), count);
        }
    }
    let count = |sql| {
        let mut select = connection.prepare_cached(sql)?;
        select.query_row((), |row| Ok(row.get::<_, i64>(0)?.unsigned_abs()))
    };
    let mut latest = connection.prepare_cached("SELECT max(updated_at) FROM instances")?;
    let latest: Option<i64> = latest.query_row((), |row| row.get(0))?;
    figures.latest_change = latest.map(Timestamp::from_millis);
    let mut mean = connection.prepare_cached(
        "SELECT sum(wake_at / 1000) / count(*) FROM instances
         WHERE wake_at IS NOT NULL AND tenant NOT GLOB '*~shadow'",
    )?;
    let mean: Option<i64> = mean.query_row((), |row| row.get(0))?;
    figures.mean_deadline = mean.map(|seconds| Timestamp::from_millis(seconds * 1_000));
    figures.phases = phases::counts(connection)?;
    figures.effects = outbox::counts(connection)?;
    figures.quarantined = count("SELECT count(*) FROM quarantine")?;
    Ok(figures)
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

    pub(super) fn also<const N: usize>(&mut self, sql: &str, values: [Value; N]) {
        self.sql.push_str(" AND ");
        self.sql.push_str(sql);
        self.values.extend(values);
    }
}

/// Records with their row numbers, and whether there are more.
struct Numbered<T> {
    records: Vec<(i64, T)>,
    has_more: bool,
}

fn listed<T: DeserializeOwned>(
    connection: &Connection,
    (table, secrets): (&Table, &Secrets),
    wanted: &Conditions,
    order: &str,
    limit: usize,
    matches: impl Fn(&T) -> bool,
) -> Result<Listed<Numbered<T>>, Fault> {
    let sql = format!("{} WHERE {} ORDER BY {order}", table.select(&[]), wanted.sql);
    let mut select = connection.prepare_cached(&sql)?;
    let mut rows = select.query(params_from_iter(&wanted.values))?;
    let mut records = Vec::new();
    let mut damaged = Vec::new();
    while let Some(row) = rows.next()? {
        match table.open_sealed(row, secrets) {
            Ok(record) if !matches(&record) => {}
            Ok(_) if records.len() == limit => {
                let has_more = true;
                return Ok((Numbered { records, has_more }, damaged));
            }
            Ok(record) => records.push((row.get(table.columns.len() + 1)?, record)),
            // To leave it out would say that it is not there.
            Err(fault @ (Fault::Backend(_) | Fault::Locked(_))) => return Err(fault),
            Err(Fault::NewerFormat(_)) => {}
            Err(Fault::Damaged(damage)) => damaged.push(*damage),
        }
    }
    let has_more = false;
    Ok((Numbered { records, has_more }, damaged))
}

fn paged<T>(numbered: Numbered<T>, cursor_of: impl Fn(&T, i64) -> String) -> Page<T> {
    let last = numbered.records.last().filter(|_| numbered.has_more);
    let next = last.map(|(row, record)| cursor_of(record, *row));
    let records = numbered.records.into_iter();
    Page { data: records.map(|(_, record)| record).collect(), next }
}
