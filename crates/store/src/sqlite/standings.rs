//! How open instances of a file stand, counted through.
//!
//! Columns tell it of nearly all. A body is looked into where nothing will come by time, for a dead end, and read where a
//! timer may be overdue: `wake_at` may be earlier than any deadline.

use std::collections::HashMap;

use kernel::id::TenantId;
use kernel::snapshot::Stuck;
use kernel::time::Timestamp;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row};

use crate::sqlite::read::{ROWS_COUNTED, text, with};
use crate::standing::{DEAD_END, Standing, StandingAt, Standings, stuck_by_body};

type Counts = HashMap<String, HashMap<String, Standing>>;

/// Each is counted as it is when its row is come to.
pub(super) fn standings(connection: &Connection, at: StandingAt) -> rusqlite::Result<Standings> {
    let mut counts = Counts::new();
    let mut from = Some(i64::MIN);
    while let Some(last) = from {
        from = count(connection, at, last, &mut counts)?;
    }
    let mut standings = Standings::default();
    for (tenant, machines) in counts {
        if let Ok(tenant) = TenantId::stored(&tenant) {
            standings.tenants.insert(tenant, machines.into_iter().collect());
        }
    }
    count_looping(connection, at.now, &mut standings)?;
    Ok(standings)
}

/// Counts the instances behind a row, as many as one read transaction may, and says where it ended if there were any.
/// What comes behind the body in a row is not asked for: it may lie pages away.
fn count(
    connection: &Connection,
    at: StandingAt,
    from: i64,
    counts: &mut Counts,
) -> rusqlite::Result<Option<i64>> {
    let mut select = connection.prepare_cached(
        "SELECT row, closure_reason IS NULL AND instr(tenant, '~') = 0, tenant, machine, updated_at, wake_at IS NULL,
             iif(wake_at < ?3 OR (closure_reason IS NULL AND wake_at IS NULL AND instr(body, ?4) > 0), body, NULL)
         FROM instances WHERE row > ?1 ORDER BY row LIMIT ?2",
    )?;
    let overdue_since = at.stuck_by.overdue_since.as_millis();
    let mut rows = select.query((from, ROWS_COUNTED, overdue_since, DEAD_END))?;
    let mut last = None;
    while let Some(row) = rows.next()? {
        last = Some(row.get(0)?);
        if !row.get::<_, bool>(1)? {
            continue;
        }
        let why = stuck(row, at)?;
        let machine = text(row, 3)?;
        with(counts, text(row, 2)?, |machines| {
            with(machines, machine, |standing: &mut Standing| {
                standing.open += 1;
                standing.add_stuck(why, 1);
            });
        });
    }
    Ok(last)
}

fn stuck(row: &Row<'_>, StandingAt { stuck_by, .. }: StandingAt) -> rusqlite::Result<Option<Stuck>> {
    let updated_at = Timestamp::from_millis(row.get(4)?);
    let is_silent = row.get(5)? && updated_at < stuck_by.silent_since;
    let by_body = match row.get_ref(6)? {
        ValueRef::Text(body) => stuck_by_body(body, updated_at, stuck_by),
        _ => None,
    };
    Ok(by_body.or(is_silent.then_some(Stuck::Silent)))
}

fn count_looping(connection: &Connection, now: Timestamp, standings: &mut Standings) -> rusqlite::Result<()> {
    let mut select = connection.prepare_cached(
        "SELECT tenant, machine, count(*) FROM instances INDEXED BY instances_looping
         WHERE looping_until > ?1 AND closure_reason IS NULL AND instr(tenant, '~') = 0 GROUP BY 1, 2",
    )?;
    let mut rows = select.query([now.as_millis()])?;
    while let Some(row) = rows.next()? {
        if let Ok(tenant) = TenantId::stored(text(row, 0)?) {
            let standing = standings.entry(&tenant, text(row, 1)?);
            standing.looping = row.get::<_, i64>(2)?.unsigned_abs();
            // It may have been opened since the others were counted.
            standing.open = standing.open.max(standing.looping);
        }
    }
    Ok(())
}
