//! Lists of phases.
//!
//! Owns which lines a query is about, and where a page of them ends.

use kernel::commit::PhaseRow;
use kernel::flow::PhaseState;
use kernel::time::Timestamp;

use crate::phase::{PhaseLine, PhaseQuery, Position, WorkerQuery};
use crate::postgres::failure::Trouble;
use crate::postgres::link::Link;
use crate::postgres::read::{Conditions, Given, List};
use crate::postgres::seal::{Fault, Listed, Record};
use crate::query::Page;
use crate::seal::PHASES;

pub(super) fn list(link: &Link, query: &PhaseQuery) -> Result<Listed<Page<PhaseLine>>, Trouble> {
    let list = List {
        tenant: query.tenant.as_str(),
        select: PHASES.pg_select("owner", &[]),
        table: &PHASES,
        wanted: conditions(query),
        order: order(query),
        limit: query.limit,
        resume: |wanted: &mut Conditions, last: &Record<'_>| {
            let instance = last.some_text(1).unwrap_or_default();
            let offered_at = query.for_worker.as_ref().and(last.integer(10)).map(Timestamp::from_millis);
            let place = last.number_of(2).unwrap_or(u16::MAX);
            after(wanted, Some(Position { offered_at, instance: &instance, place }));
        },
    };
    let (found, damaged) = list.read(link, open, |_| true)?;
    Ok((found.page(|last, _| query.cursor_of(last)), damaged))
}

pub(super) fn open(record: &Record<'_>) -> Result<PhaseLine, Fault> {
    record.verify()?;
    opened(record).map_err(|problem| record.damaged(problem))
}

/// Of a record whose checksum fits; the columns are those of `PHASES`.
fn opened(record: &Record<'_>) -> Result<PhaseLine, String> {
    Ok(PhaseLine {
        tenant: record.identifier(0)?,
        instance: record.identifier(1)?,
        machine: record.identifier(3)?,
        row: PhaseRow {
            place: record.number_of(2)?,
            phase: record.some_text(4)?.into(),
            state: record.named(5, PhaseState::parse)?,
            since: Timestamp::from_millis(record.number_of(6)?),
            attempts: record.number_of(7)?,
            retries: record.number_of(8)?,
            error: record.text(9)?,
            offered_at: record.integer(10).map(Timestamp::from_millis),
            kind: record.some_text(11)?.into(),
            lease: record.text(12)?,
            worker: record.text(13)?,
        },
    })
}

fn order(query: &PhaseQuery) -> &'static str {
    match query.for_worker {
        Some(_) => "t.offered_at, t.instance, t.place",
        None => "t.instance DESC, t.place",
    }
}

/// What `PhaseQuery::matches` says, and what comes after the cursor.
fn conditions(query: &PhaseQuery) -> Conditions {
    let mut wanted = Conditions::of_tenant(&query.tenant);
    if let Some(machine) = &query.machine {
        wanted.also("t.machine = ?", [Given::text(machine.as_str())]);
    }
    if let Some(instance) = &query.instance {
        wanted.also("t.instance = ?", [Given::text(instance.as_str())]);
    }
    if let Some(phase) = &query.phase {
        wanted.also("t.phase = ?", [Given::text(phase)]);
    }
    if let Some(state) = query.state {
        wanted.also("t.state = ?", [Given::text(state.as_str())]);
    }
    if let Some(WorkerQuery { now, kind }) = &query.for_worker {
        wanted.also(
            "t.offered_at IS NOT NULL AND t.offered_at <= ? AND (t.kind = '' OR t.kind = ?)",
            [Given::time(*now), Given::text(kind)],
        );
    }
    if let Some(lease) = &query.lease {
        wanted.also("t.lease = ?", [Given::text(lease)]);
    }
    if let Some(error) = &query.error {
        wanted.also("t.error = ?", [Given::text(error)]);
    }
    if let Some(least) = query.min_attempts {
        wanted.also("t.attempts >= ?", [Given::Integer(least.into())]);
    }
    if let Some(least) = query.min_retries.filter(|least| *least > 0) {
        // The first is what the index is about.
        wanted.also("t.retries > 0 AND t.retries >= ?", [Given::Integer(least.into())]);
    }
    if let Some(limit) = query.since_before {
        wanted.also("t.since < ?", [Given::time(limit)]);
    }
    if let Some(cursor) = &query.cursor {
        after(&mut wanted, query.after(cursor));
    }
    wanted
}

fn after(wanted: &mut Conditions, position: Option<Position<'_>>) {
    let Some(Position { offered_at, instance, place }) = position else {
        return wanted.also("false", []);
    };
    let (instance, place) = (Given::text(instance), Given::Integer(place.into()));
    match offered_at {
        Some(at) => {
            wanted.also("(t.offered_at, t.instance, t.place) > (?, ?, ?)", [Given::time(at), instance, place])
        }
        None => wanted
            .also("t.instance <= ? AND (t.instance < ? OR t.place > ?)", [instance.clone(), instance, place]),
    }
}
