//! How open instances of a database stand, counted by it.
//!
//! Columns tell it of nearly all. A body is read where nothing will come by time and it may be a dead end, and where a
//! timer may be overdue: `wake_at` may be earlier than any deadline.

use std::sync::LazyLock;

use kernel::id::TenantId;
use kernel::snapshot::Stuck;
use kernel::time::Timestamp;
use tokio_postgres::Row;

use crate::postgres::failure::Trouble;
use crate::postgres::link::{Link, Step};
use crate::standing::{DEAD_END, StandingAt, Standings, stuck_by_body};

/// Bodies that are asked for at once.
const BODIES: usize = 500;

const COUNTS: &str = "SELECT tenant, machine, count(*), count(*) FILTER (WHERE looping_until > $1),
         count(*) FILTER (WHERE wake_at IS NULL AND updated_at < $2)
     FROM instances WHERE closure_reason IS NULL AND strpos(tenant, '~') = 0 GROUP BY 1, 2";

static IN_DOUBT: LazyLock<String> = LazyLock::new(|| {
    format!(
        "SELECT coalesce(array_agg(number), '{{}}') FROM (
             SELECT number FROM instances
             WHERE wake_at < $1 AND closure_reason IS NULL AND strpos(tenant, '~') = 0
             UNION ALL
             SELECT number FROM instances
             WHERE wake_at IS NULL AND closure_reason IS NULL AND strpos(tenant, '~') = 0
                 AND strpos(body, '{DEAD_END}') > 0
         ) AS doubtful"
    )
});

const THEIR_BODIES: &str =
    "SELECT tenant, machine, updated_at, wake_at, body FROM instances WHERE number = ANY ($1)";

/// What is counted is of one moment; what is read of those in doubt may have changed since.
pub(super) fn standings(link: &Link, at: StandingAt) -> Result<Standings, Trouble> {
    let StandingAt { now, stuck_by } = at;
    let now = now.as_millis();
    let (overdue, silent) = (stuck_by.overdue_since.as_millis(), stuck_by.silent_since.as_millis());
    let steps = [
        Step::plain("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"),
        // Here it is a whole table that is wanted.
        Step::plain("SET LOCAL enable_seqscan = on"),
        Step::new(COUNTS, vec![&now, &silent]),
        Step::plain("SET LOCAL enable_seqscan = off"),
        Step::new(&IN_DOUBT, vec![&overdue]),
        Step::plain("COMMIT"),
    ];
    let answers = link.ask(&steps)?;
    let [_, _, counts, _, in_doubt, _] = &answers[..] else {
        return Err(Trouble::Lost("the answers are none to what was asked".to_owned()));
    };
    let mut standings = Standings::default();
    for row in counts {
        add(&mut standings, row)?;
    }
    let in_doubt: Vec<i64> = in_doubt.first().map(|row| row.try_get(0)).transpose()?.unwrap_or_default();
    for numbers in in_doubt.chunks(BODIES) {
        for row in &link.query(THEIR_BODIES, &[&numbers])? {
            correct(&mut standings, row, at)?;
        }
    }
    Ok(standings)
}

fn add(standings: &mut Standings, row: &Row) -> Result<(), tokio_postgres::Error> {
    let count = |column: usize| Ok::<_, tokio_postgres::Error>(row.try_get::<_, i64>(column)?.unsigned_abs());
    // A tenant that is none is damaged and not counted.
    if let Ok(tenant) = TenantId::stored(row.try_get(0)?) {
        let standing = standings.entry(&tenant, row.try_get(1)?);
        (standing.open, standing.looping) = (count(2)?, count(3)?);
        standing.add_stuck(Some(Stuck::Silent), count(4)?);
    }
    Ok(())
}

/// Counts an instance by its body, which was counted by its columns at first.
fn correct(standings: &mut Standings, row: &Row, at: StandingAt) -> Result<(), tokio_postgres::Error> {
    let Ok(tenant) = TenantId::stored(row.try_get(0)?) else { return Ok(()) };
    let updated_at = Timestamp::from_millis(row.try_get(2)?);
    let was_silent = row.try_get::<_, Option<i64>>(3)?.is_none() && updated_at < at.stuck_by.silent_since;
    let why = stuck_by_body(row.try_get::<_, &str>(4)?.as_bytes(), updated_at, at.stuck_by);
    let standing = standings.entry(&tenant, row.try_get(1)?);
    // What is silent is counted as that already.
    if let Some(why) = why.filter(|why| *why != Stuck::Silent) {
        standing.add_stuck(Some(why), 1);
        if was_silent {
            standing.take_silent();
        }
    }
    Ok(())
}
