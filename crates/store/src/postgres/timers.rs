//! Instances whose time has come: claiming them, and when the next is due.

use std::sync::LazyLock;

use kernel::id::{InstanceId, TenantId};

use kernel::time::Timestamp;

use crate::kept::Waiting;
use crate::postgres::failure::Trouble;
use crate::postgres::link::{Link, Step};
use crate::postgres::seal::{Fault, Listed};
use crate::seal::{Damage, INSTANCES};

/// What is to be done with an instance that may be due.
enum Claim {
    /// It is due since then.
    Take(Timestamp, TenantId, InstanceId),
    /// Its deadline has moved on since its `wake_at` was written; this is the true one.
    Correct(Option<i64>),
    /// Nobody can see to it. Until a commit mends it, it would only be found again and again.
    Forget,
}

/// What another server is looking at is left to it.
static FIND_DUE: LazyLock<String> = LazyLock::new(|| {
    INSTANCES.pg_select("number", &[])
        + "WHERE t.wake_at <= $1 AND coalesce(t.claimed_until, 0) <= $1 ORDER BY t.wake_at LIMIT $2
           FOR NO KEY UPDATE SKIP LOCKED"
});

const CLAIM: &str = "UPDATE instances AS i SET
         claimed_until = CASE WHEN c.is_taken THEN $4 ELSE i.claimed_until END,
         wake_at = CASE WHEN c.is_taken THEN i.wake_at ELSE c.wake_at END
     FROM unnest($1::bigint[], $2::boolean[], $3::bigint[]) AS c (number, is_taken, wake_at)
     WHERE i.number = c.number";

/// Claims what is due and corrects the `wake_at` of what turns out not to be. The second is bounded as well, so that a
/// claim never holds up commits for long: fewer than `limit` may come back although more are due. Runs within a
/// transaction, which it begins and ends.
pub(super) fn claim(
    link: &Link,
    now: Timestamp,
    lease_until: Timestamp,
    limit: usize,
) -> Result<Listed<Vec<(TenantId, InstanceId)>>, Trouble> {
    let looked_at_max = limit.saturating_mul(4).min(100_000) as i64;
    let now_ms = now.as_millis();
    let begin = [Step::plain("BEGIN"), Step::new(&FIND_DUE, vec![&now_ms, &looked_at_max])];
    let rows = link.ask(&begin)?.pop().unwrap_or_default();
    let (mut claims, mut damaged, mut taken) = (Vec::new(), Vec::new(), 0);
    for row in &rows {
        if taken == limit {
            break;
        }
        let record = INSTANCES.record(row);
        let claim = found(record.peek(), now, &mut damaged)?;
        taken += usize::from(matches!(claim, Claim::Take(..)));
        claims.push((record.number(), claim));
    }
    let numbers: Vec<i64> = claims.iter().map(|(number, _)| *number).collect();
    let is_taken: Vec<bool> = claims.iter().map(|(_, claim)| matches!(claim, Claim::Take(..))).collect();
    let corrected: Vec<Option<i64>> = claims
        .iter()
        .map(|(_, claim)| match claim {
            Claim::Correct(wake_at) => *wake_at,
            _ => None,
        })
        .collect();
    let until = lease_until.as_millis();
    let mut end = vec![Step::plain("COMMIT")];
    if !claims.is_empty() {
        end.insert(0, Step::new(CLAIM, vec![&numbers, &is_taken, &corrected, &until]));
    }
    link.ask(&end)?;
    claims.sort_by_key(|(_, claim)| match claim {
        Claim::Take(due, ..) => Some(*due),
        _ => None,
    });
    let taken = claims.into_iter().filter_map(|(_, claim)| match claim {
        Claim::Take(_, tenant, instance) => Some((tenant, instance)),
        _ => None,
    });
    Ok((taken.collect(), damaged))
}

fn found(
    opened: Result<Waiting, Fault>,
    now: Timestamp,
    damaged: &mut Vec<Damage>,
) -> Result<Claim, Trouble> {
    match opened {
        Ok(waiting) => Ok(match waiting.due_at() {
            Some(due) if due <= now => Claim::Take(due, waiting.tenant, waiting.instance),
            later => Claim::Correct(later.map(Timestamp::as_millis)),
        }),
        Err(Fault::Backend(trouble)) => Err(trouble),
        Err(Fault::NewerFormat(_) | Fault::Locked(_)) => Ok(Claim::Forget),
        Err(Fault::Damaged(damage)) => {
            damaged.push(*damage);
            Ok(Claim::Forget)
        }
    }
}

/// Nothing is due before what is claimed by nobody and comes first, except what is claimed and comes before that.
const NEXT_DUE: &str =
    "SELECT min(greatest(i.wake_at, coalesce(i.claimed_until, i.wake_at))) FROM instances AS i
     WHERE i.wake_at <= coalesce(
         (SELECT f.wake_at FROM instances AS f WHERE f.wake_at IS NOT NULL AND f.claimed_until IS NULL
          ORDER BY f.wake_at LIMIT 1), 9223372036854775807)";

pub(super) fn next_due(link: &Link) -> Result<Option<Timestamp>, Trouble> {
    let rows = link.query(NEXT_DUE, &[])?;
    let due: Option<i64> = rows.first().map(|row| row.try_get(0)).transpose()?.flatten();
    Ok(due.map(Timestamp::from_millis))
}
