//! What is read from the database: single records and lists.
//!
//! What is asked for one tenant is asked as the reader, who sees nothing else, with the tenant told in the same round trip.
//! Every record is checked before it is served. What a list finds damaged is left out and handed to the caller.

use std::sync::LazyLock;

use kernel::commit::Entry;
use kernel::conversation::{Clarification, ClarificationStatus};
use kernel::id::{InstanceId, MachineName, Subject, TenantId};
use kernel::input::ReceiptId;
use kernel::snapshot::{Snapshot, StuckBy};
use kernel::time::Timestamp;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use crate::outbox::EffectStatus;
use crate::postgres::commit;
use crate::postgres::failure::Trouble;
use crate::postgres::link::{Link, Step};
use crate::postgres::seal::{Fault, Listed, Record, escaped};
use crate::query::{ClarificationQuery, HistoryQuery, InstanceQuery, Page};
use crate::seal::{CLARIFICATIONS, DEFINITIONS, ENTRIES, INSTANCES, SETTINGS, Table};
use crate::standing::DEAD_END;
use crate::{Setting, StoreStatistics, StoredDefinition};

/// Lets the reader see the rows of this tenant. It goes in front of every question, in the same round trip.
const OF_TENANT: &str = "SELECT set_config('statewright.tenant', $1, false)";

/// The rows of `sql`, of those that the tenant may see.
pub(super) fn ask_of(
    link: &Link,
    tenant: &str,
    sql: &str,
    values: &[&(dyn ToSql + Sync)],
) -> Result<Vec<Row>, Trouble> {
    let steps = [Step::new(OF_TENANT, vec![&tenant]), Step::new(sql, values.to_vec())];
    Ok(link.ask(&steps)?.pop().unwrap_or_default())
}

static INSTANCE: LazyLock<String> =
    LazyLock::new(|| INSTANCES.pg_select("number", &[]) + "WHERE t.tenant = $1 AND t.id = $2");

pub(super) fn instance(
    link: &Link,
    tenant: &TenantId,
    instance: &InstanceId,
) -> Result<Option<Snapshot>, Fault> {
    let rows = ask_of(link, tenant.as_str(), &INSTANCE, &[&tenant.as_str(), &instance.as_str()])?;
    rows.first().map(|row| INSTANCES.record(row).reveal(link)).transpose()
}

static SESSION: LazyLock<String> = LazyLock::new(|| {
    INSTANCES.pg_select("number", &[])
        + "WHERE t.tenant = $1 AND t.machine = $2 AND t.subject = $3 AND t.ordinal > 0
           ORDER BY t.ordinal DESC LIMIT 1"
});

pub(super) fn session(
    link: &Link,
    tenant: &TenantId,
    machine: &MachineName,
    subject: &Subject,
) -> Result<Option<Snapshot>, Fault> {
    let subject = escaped(subject.as_str());
    let rows = ask_of(link, tenant.as_str(), &SESSION, &[&tenant.as_str(), &machine.as_str(), &subject])?;
    rows.first().map(|row| INSTANCES.record(row).reveal(link)).transpose()
}

pub(super) fn receipt(
    link: &Link,
    tenant: &TenantId,
    receipt: ReceiptId,
) -> Result<Option<(InstanceId, Entry)>, Fault> {
    let name = tenant.as_str();
    let of_tenant = Step::new(OF_TENANT, vec![&name]);
    commit::find_receipt(link, Some(of_tenant), &receipt.0.0.to_be_bytes())
}

pub(super) fn instances(link: &Link, query: &InstanceQuery) -> Result<Listed<Page<Snapshot>>, Trouble> {
    let mut wanted = Conditions::of_tenant(&query.tenant);
    if let Some(machine) = &query.machine {
        wanted.also("t.machine = ?", [Given::text(machine.as_str())]);
    }
    if let Some(subject) = &query.subject {
        wanted.also("t.subject = ?", [Given::text(subject.as_str())]);
    }
    for state in query.states() {
        // `state` holds the paths with commas between them; one of them is this, or begins with this and a dot.
        wanted.also(
            "(strpos(',' || t.state || ',', ?) > 0 OR strpos(',' || t.state, ?) > 0)",
            [Given::text(&format!(",{state},")), Given::text(&format!(",{state}."))],
        );
    }
    match query.closed {
        Some(true) => wanted.also("t.closure_reason IS NOT NULL", []),
        Some(false) => wanted.also("t.closure_reason IS NULL", []),
        None => {}
    }
    if let Some(limit) = query.due_before {
        // A lower bound; what is not really due by then is found out by `matches`.
        wanted.also("t.wake_at < ?", [Given::time(limit)]);
    }
    if let Some(limit) = query.idle_since {
        wanted.also("t.updated_at < ?", [Given::time(limit)]);
    }
    if let Some(now) = query.looping_at {
        wanted.also("t.looping_until > ?", [Given::time(now)]);
    }
    if let Some(StuckBy { overdue_since, silent_since }) = query.stuck_by {
        // Most of what nothing comes to by time is not stuck, and is not to be sent here for nothing.
        wanted.also(
            "t.closure_reason IS NULL
                 AND (t.wake_at < ? OR (t.wake_at IS NULL AND (t.updated_at < ? OR strpos(t.body, ?) > 0)))",
            [Given::time(overdue_since), Given::time(silent_since), Given::text(DEAD_END)],
        );
    }
    if let Some(cursor) = &query.cursor {
        wanted.also("t.id < ?", [Given::text(cursor)]);
    }
    let list = List {
        tenant: query.tenant.as_str(),
        select: INSTANCES.pg_select("number", &[]),
        table: &INSTANCES,
        wanted,
        order: "t.id DESC",
        limit: query.limit,
        resume: |wanted: &mut Conditions, last: &Record<'_>| {
            wanted.also("t.id < ?", [Given::text(&last.some_text(1).unwrap_or_default())])
        },
    };
    let (found, damaged) =
        list.read(link, |record| record.reveal::<Snapshot>(link), |snapshot| query.matches(snapshot))?;
    Ok((found.page(|snapshot, _| snapshot.instance.to_string()), damaged))
}

pub(super) fn history(link: &Link, query: &HistoryQuery) -> Result<Listed<Page<Entry>>, Trouble> {
    let (tenant, instance) = (query.tenant.as_str(), query.instance.as_str());
    let mut wanted = Conditions::new(
        "t.owner = (SELECT i.number FROM instances AS i WHERE i.tenant = ? AND i.id = ?)",
        [Given::text(tenant), Given::text(instance)],
    );
    if let Some(cursor) = &query.cursor {
        wanted.also("t.seq > ?", [Given::Integer(cursor.parse().unwrap_or(i64::MAX))]);
    }
    let list = List {
        tenant,
        select: ENTRIES.pg_select("seq", &[]),
        table: &ENTRIES,
        wanted,
        order: "t.seq",
        limit: query.limit,
        resume: |wanted: &mut Conditions, last: &Record<'_>| {
            wanted.also("t.seq > ?", [Given::Integer(last.number())])
        },
    };
    let (found, damaged) = list.read(link, |record| record.reveal::<Entry>(link), |_| true)?;
    Ok((found.page(|_, seq| seq.to_string()), damaged))
}

pub(super) fn clarifications(
    link: &Link,
    query: &ClarificationQuery,
) -> Result<Listed<Page<Clarification>>, Trouble> {
    let mut wanted = Conditions::of_tenant(&query.tenant);
    if let Some(status) = query.status {
        wanted.also("t.status = ?", [Given::text(status.as_str())]);
    }
    if let Some(id) = &query.id {
        wanted.also("t.id = ?", [Given::text(id)]);
    }
    if let Some(cursor) = &query.cursor {
        match ClarificationQuery::parse_cursor(cursor) {
            Some((at, id)) => {
                wanted.also("(t.created_at, t.id) < (?, ?)", [Given::time(at), Given::text(id)]);
            }
            None => wanted.also("false", []),
        }
    }
    let list = List {
        tenant: query.tenant.as_str(),
        select: CLARIFICATIONS.pg_select("number", &[]),
        table: &CLARIFICATIONS,
        wanted,
        order: "t.created_at DESC, t.id DESC",
        limit: query.limit,
        resume: |wanted: &mut Conditions, last: &Record<'_>| {
            let (at, id) = (last.integer(4).unwrap_or_default(), last.some_text(1).unwrap_or_default());
            wanted.also("(t.created_at, t.id) < (?, ?)", [Given::Integer(at), Given::text(&id)]);
        },
    };
    let (found, damaged) = list.read(link, |record| record.reveal::<Clarification>(link), |_| true)?;
    Ok((found.page(|last, _| ClarificationQuery::cursor_of(last)), damaged))
}

pub(super) fn definitions(link: &Link) -> Result<Listed<Vec<StoredDefinition>>, Trouble> {
    let rows = link.query(&(DEFINITIONS.pg_select("number", &[]) + "ORDER BY t.number"), &[])?;
    each(&rows, &DEFINITIONS, |record| {
        record.verify()?;
        let definition = || -> Result<_, String> {
            Ok(StoredDefinition {
                hash: record.identifier(0)?,
                machine: record.identifier(1)?,
                version: record.number_of(2)?,
                saved_at: Timestamp::from_millis(record.number_of(3)?),
                source: record.some_text(4)?,
            })
        };
        definition().map_err(|problem| record.damaged(problem))
    })
}

pub(super) fn settings(link: &Link) -> Result<Listed<Vec<Setting>>, Trouble> {
    let rows = link.query(&(SETTINGS.pg_select("number", &[]) + "ORDER BY t.tenant, t.name"), &[])?;
    each(&rows, &SETTINGS, |record| {
        let body = record.open()?;
        let setting = || -> Result<_, String> {
            let saved_at = Timestamp::from_millis(record.number_of(2)?);
            Ok(Setting { tenant: record.identifier(0)?, name: record.some_text(1)?, body, saved_at })
        };
        setting().map_err(|problem| record.damaged(problem))
    })
}

/// All records in `rows` that can be served.
fn each<T>(
    rows: &[Row],
    table: &'static Table,
    open: impl Fn(&Record<'_>) -> Result<T, Fault>,
) -> Result<Listed<Vec<T>>, Trouble> {
    let (mut records, mut damaged) = (Vec::new(), Vec::new());
    for row in rows {
        match open(&table.record(row)) {
            Ok(record) => records.push(record),
            Err(Fault::Backend(trouble)) => return Err(trouble),
            Err(Fault::Locked(locked)) => return Err(Trouble::Locked(locked.detail)),
            Err(Fault::NewerFormat(_)) => {}
            Err(Fault::Damaged(damage)) => damaged.push(*damage),
        }
    }
    Ok((records, damaged))
}

/// A list that is read until the page is full: first as many rows as the page has places, then, for what did not
/// belong on it, more of them behind the last that came.
pub(super) struct List<'a, R> {
    pub tenant: &'a str,
    pub select: String,
    pub table: &'static Table,
    pub wanted: Conditions,
    pub order: &'a str,
    pub limit: usize,
    /// Adds the condition that is true of what comes behind a row.
    pub resume: R,
}

/// Records with where they lie, and whether there are more.
pub(super) struct Found<T> {
    records: Vec<(T, i64)>,
    has_more: bool,
}

impl<T> Found<T> {
    pub(super) fn page(self, cursor_of: impl Fn(&T, i64) -> String) -> Page<T> {
        let last = self.records.last().filter(|_| self.has_more);
        let next = last.map(|(record, number)| cursor_of(record, *number));
        Page { data: self.records.into_iter().map(|(record, _)| record).collect(), next }
    }
}

/// Rows that are asked for at once when the first did not fill the page.
const MORE_ROWS: usize = 500;

impl<R: Fn(&mut Conditions, &Record<'_>)> List<'_, R> {
    pub(super) fn read<T>(
        self,
        link: &Link,
        open: impl Fn(&Record<'_>) -> Result<T, Fault>,
        matches: impl Fn(&T) -> bool,
    ) -> Result<Listed<Found<T>>, Trouble> {
        let Self { tenant, select, table, mut wanted, order, limit, resume } = self;
        let (mut records, mut damaged) = (Vec::new(), Vec::new());
        let mut rows_max = limit.saturating_add(1);
        loop {
            let given = wanted.values.len();
            let sql = format!("{select}WHERE {} ORDER BY {order} LIMIT ${}", wanted.sql, given + 1);
            let at_most = i64::try_from(rows_max).unwrap_or(i64::MAX);
            let mut values: Vec<&(dyn ToSql + Sync)> = Vec::with_capacity(given + 1);
            values.extend(wanted.values.iter().map(Given::value));
            values.push(&at_most);
            let rows = ask_of(link, tenant, &sql, &values)?;
            for row in &rows {
                let record = table.record(row);
                match open(&record) {
                    Ok(found) if !matches(&found) => {}
                    Ok(_) if records.len() == limit => {
                        return Ok((Found { records, has_more: true }, damaged));
                    }
                    Ok(found) => records.push((found, record.number())),
                    Err(Fault::Backend(trouble)) => return Err(trouble),
                    // To leave it out would say that it is not there.
                    Err(Fault::Locked(locked)) => return Err(Trouble::Locked(locked.detail)),
                    Err(Fault::NewerFormat(_)) => {}
                    Err(Fault::Damaged(damage)) => damaged.push(*damage),
                }
            }
            let Some(last) = rows.last().filter(|_| rows.len() == rows_max) else {
                return Ok((Found { records, has_more: false }, damaged));
            };
            resume(&mut wanted, &table.record(last));
            rows_max = MORE_ROWS;
        }
    }
}

/// A value of a condition.
#[derive(Clone, Debug)]
pub(super) enum Given {
    Text(String),
    Integer(i64),
}

impl Given {
    pub(super) fn text(text: &str) -> Self {
        Self::Text(escaped(text).into_owned())
    }

    pub(super) fn time(time: Timestamp) -> Self {
        Self::Integer(time.as_millis())
    }

    pub(super) fn value(&self) -> &(dyn ToSql + Sync) {
        match self {
            Self::Text(text) => text,
            Self::Integer(number) => number,
        }
    }
}

/// Conditions of a statement with their values, in order.
#[derive(Debug)]
pub(super) struct Conditions {
    pub sql: String,
    pub values: Vec<Given>,
}

impl Conditions {
    pub(super) fn new<const N: usize>(sql: &str, values: [Given; N]) -> Self {
        let mut conditions = Self { sql: String::new(), values: Vec::new() };
        conditions.push(sql, values);
        conditions
    }

    pub(super) fn of_tenant(tenant: &TenantId) -> Self {
        Self::new("t.tenant = ?", [Given::text(tenant.as_str())])
    }

    /// Each `?` stands for one of the values.
    pub(super) fn also<const N: usize>(&mut self, sql: &str, values: [Given; N]) {
        self.sql.push_str(" AND ");
        self.push(sql, values);
    }

    fn push<const N: usize>(&mut self, sql: &str, values: [Given; N]) {
        let mut place = self.values.len();
        for character in sql.chars() {
            if character == '?' {
                place += 1;
                self.sql.push('$');
                self.sql.push_str(&place.to_string());
            } else {
                self.sql.push(character);
            }
        }
        self.values.extend(values);
    }
}

/// All in one transaction, so that the figures are of one moment.
pub(super) fn statistics(link: &Link) -> Result<StoreStatistics, Trouble> {
    let steps = [
        Step::plain("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"),
        // Here it is a whole table that is wanted.
        Step::plain("SET LOCAL enable_seqscan = on"),
        Step::plain(
            "SELECT machine, closure_reason, CASE WHEN closure_reason IS NULL THEN state END, count(*)
             FROM instances WHERE tenant NOT LIKE '%~shadow' GROUP BY 1, 2, 3",
        ),
        Step::plain(
            "SELECT status, count(*) FROM clarifications WHERE tenant NOT LIKE '%~shadow' GROUP BY 1",
        ),
        Step::plain(
            "SELECT i.machine, p.state, count(*) FROM phases AS p JOIN instances AS i ON i.number = p.owner
             WHERE i.closure_reason IS NULL AND p.tenant NOT LIKE '%~shadow' GROUP BY 1, 2",
        ),
        Step::plain("SELECT status, count(*) FROM outbox GROUP BY 1"),
        Step::plain(
            "SELECT max(updated_at), (SELECT count(*) FROM quarantine),
                 div(sum(wake_at / 1000) FILTER (WHERE tenant NOT LIKE '%~shadow'),
                     count(wake_at) FILTER (WHERE tenant NOT LIKE '%~shadow'))::bigint
             FROM instances",
        ),
        Step::plain("COMMIT"),
    ];
    let answers = link.ask(&steps)?;
    let [_, _, instances, clarifications, phases, effects, rest, _] = &answers[..] else {
        return Err(Trouble::Lost("the answers are none to what was asked".to_owned()));
    };
    figures(instances, clarifications, phases, effects, rest).map_err(Trouble::from)
}

fn figures(
    instances: &[Row],
    clarifications: &[Row],
    phases: &[Row],
    effects: &[Row],
    rest: &[Row],
) -> Result<StoreStatistics, tokio_postgres::Error> {
    let count = |row: &Row, column: usize| {
        Ok::<_, tokio_postgres::Error>(row.try_get::<_, i64>(column)?.unsigned_abs())
    };
    let mut figures = StoreStatistics::default();
    for row in instances {
        let machine: String = row.try_get(0)?;
        let closed: Option<String> = row.try_get(1)?;
        match closed {
            None => figures.open.insert((machine, row.try_get(2)?), count(row, 3)?),
            Some(reason) => figures.closed.insert((machine, reason), count(row, 3)?),
        };
    }
    figures.clarifications =
        ClarificationStatus::ALL.into_iter().map(|status| (status.as_str(), 0)).collect();
    for row in clarifications {
        if let Some(status) = ClarificationStatus::parse(row.try_get(0)?) {
            figures.clarifications.insert(status.as_str(), count(row, 1)?);
        }
    }
    for row in phases {
        // A line of which nobody knows the state is damaged and not counted.
        if let Some(state) = kernel::flow::PhaseState::parse(row.try_get(1)?) {
            figures.phases.insert((row.try_get(0)?, state), count(row, 2)?);
        }
    }
    figures.effects = EffectStatus::ALL.map(|status| (status.as_str(), 0)).into();
    for row in effects {
        if let Some(status) = EffectStatus::parse(row.try_get(0)?) {
            figures.effects.insert(status.as_str(), count(row, 1)?);
        }
    }
    if let Some(row) = rest.first() {
        figures.latest_change = row.try_get::<_, Option<i64>>(0)?.map(Timestamp::from_millis);
        figures.quarantined = count(row, 1)?;
        let seconds: Option<i64> = row.try_get(2)?;
        figures.mean_deadline = seconds.map(|seconds| Timestamp::from_millis(seconds * 1_000));
    }
    Ok(figures)
}
