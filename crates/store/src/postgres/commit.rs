//! Saving a batch of commits: all of its chains with one statement, and what that leaves one by one.
//!
//! Owns when which is done, and what becomes of the batch when one of them fails. The one-by-one way is one transaction,
//! so that a batch with a commit that no outcome describes saves nothing of itself.

use std::sync::LazyLock;

use kernel::commit::Entry;
use kernel::id::InstanceId;

use crate::chain::{Batch, Chain};
use crate::postgres::failure::Trouble;
use crate::postgres::group::Group;
use crate::postgres::link::{Hat, Link, Step};
use crate::postgres::pool::{Lease, Pool};
use crate::postgres::seal::{Fault, quarantine};
use crate::record::Prepared;
use crate::seal::ENTRIES;
use crate::{CommitError, Outcome};

/// What a statement fails of when a receipt is there.
const RECEIPT_IS_THERE: &str = "receipts_pkey";
/// How often the same is tried again when another server was in the way.
const COLLISIONS_MAX: usize = 5;

pub(super) fn commit(pool: &Pool, batch: &Batch<'_>) -> Result<Vec<Outcome>, CommitError> {
    let mut outcomes = vec![None; batch.commits.len()];
    if outcomes.is_empty() {
        return Ok(Vec::new());
    }
    let lease = pool.take(Hat::Writer).map_err(Trouble::before_commit)?;
    let is_saved = save_chains(&lease, batch, &mut outcomes)?;
    let left: Vec<usize> = (0..outcomes.len()).filter(|place| outcomes[*place].is_none()).collect();
    if !left.is_empty() {
        save_one_by_one(lease, batch, &left, &mut outcomes).map_err(|error| match error {
            CommitError::Full(detail) | CommitError::Unavailable(detail) if is_saved => {
                CommitError::Unknown(format!("a part of the batch was saved: {detail}"))
            }
            error => error,
        })?;
    }
    Ok(outcomes.into_iter().flatten().collect())
}

/// Saves what can be saved at once, and says whether anything was.
fn save_chains(
    link: &Link,
    batch: &Batch<'_>,
    outcomes: &mut [Option<Outcome>],
) -> Result<bool, CommitError> {
    let mut chains: Vec<_> = batch.chains().into_iter().filter(|chain| chain.is_sound).collect();
    // Two servers that lock the same instances lock them in the same order. What is created stays in the order of the
    // batch: who comes first has the session.
    chains.sort_by_key(|chain| {
        let first = &batch.commits[chain.places[0]];
        (first.expected.0 > 0).then_some((&first.tenant, &first.instance))
    });
    let saved = match save_group(link, batch, &chains) {
        Ok(saved) => saved,
        // What one of them has broken, the others are not to suffer from.
        Err(trouble) if trouble.is_constraint() || trouble.is_collision() => return Ok(false),
        Err(trouble) => return Err(trouble.at_commit()),
    };
    let mut is_saved = false;
    for (chain, _) in chains.iter().zip(saved).filter(|(_, saved)| *saved) {
        is_saved = true;
        for place in &chain.places {
            outcomes[*place] = Some(Outcome::Committed);
        }
    }
    Ok(is_saved)
}

/// Saves chains with one statement; in their order, whether each was saved.
fn save_group(link: &Link, batch: &Batch<'_>, chains: &[Chain]) -> Result<Vec<bool>, Trouble> {
    let mut group = Group::default();
    for chain in chains {
        let commits: Vec<_> =
            chain.places.iter().filter_map(|place| batch.prepared[*place].as_ref().ok()).collect();
        group.add(&commits);
    }
    if group.is_empty() {
        return Ok(Vec::new());
    }
    // Whoever decided on them has looked for their receipts, so one that is there now has come to be since.
    match colliding(|| group.save(link, false)) {
        Err(trouble) if trouble.has_constraint(RECEIPT_IS_THERE) => colliding(|| group.save(link, true)),
        other => other,
    }
}

/// Tries again while others are in the way.
fn colliding<T>(mut change: impl FnMut() -> Result<T, Trouble>) -> Result<T, Trouble> {
    let mut tries = 0;
    loop {
        match change() {
            Err(trouble) if trouble.is_collision() && tries < COLLISIONS_MAX => tries += 1,
            other => return other,
        }
    }
}

fn save_one_by_one(
    mut lease: Lease<'_>,
    batch: &Batch<'_>,
    left: &[usize],
    outcomes: &mut [Option<Outcome>],
) -> Result<(), CommitError> {
    let mut tries = 0;
    loop {
        lease.batch("BEGIN").map_err(Trouble::before_commit)?;
        let mut damaged = Vec::new();
        let saved = batch.one_by_one(left.iter().copied(), outcomes, |prepared, is_passed_over| {
            save(&lease, prepared, is_passed_over, &mut damaged)
        });
        let trouble = match saved {
            Ok(()) => {
                lease.batch("COMMIT").map_err(Trouble::at_commit)?;
                // The outcomes are true whether or not there is room for what was found.
                let _ = quarantine(&lease, &damaged);
                return Ok(());
            }
            Err(trouble) => trouble,
        };
        if lease.batch("ROLLBACK").is_err() {
            lease.spoil();
            return Err(trouble.before_commit());
        }
        // A receipt that another server has saved meanwhile is found the next time.
        let may_pass = trouble.is_collision() || trouble.has_constraint(RECEIPT_IS_THERE);
        if !may_pass || tries == COLLISIONS_MAX {
            return Err(trouble.before_commit());
        }
        tries += 1;
    }
}

/// `is_passed_over`: an earlier commit of the batch on this instance was not saved, so this one stands on nothing.
fn save(
    link: &Link,
    prepared: &Prepared<'_>,
    is_passed_over: bool,
    damaged: &mut Vec<crate::seal::Damage>,
) -> Result<Outcome, Trouble> {
    match find_receipt(link, None, &prepared.line.receipt) {
        Ok(None) => {}
        Ok(Some(found)) => return Ok(Outcome::Duplicate(Box::new(found))),
        Err(Fault::Backend(trouble)) => return Err(trouble),
        // The input was handled, but what it left is damaged: it must not be handled again, and there is no first answer
        // to give. To call the commit stale saves nothing, keeps the rest of the batch, and sends the caller to
        // `receipt`, which says what is wrong.
        Err(Fault::NewerFormat(_) | Fault::Locked(_)) => return Ok(Outcome::Stale),
        Err(Fault::Damaged(damage)) => {
            damaged.push(*damage);
            return Ok(Outcome::Stale);
        }
    }
    if is_passed_over {
        return Ok(Outcome::Stale);
    }
    let mut group = Group::default();
    group.add(&[prepared]);
    let saved = group.save(link, false)?;
    Ok(if saved == [true] { Outcome::Committed } else { Outcome::Stale })
}

static FIND_RECEIPT: LazyLock<String> = LazyLock::new(|| {
    let columns = ENTRIES.pg_columns("seq", &[]);
    format!(
        "SELECT {columns} FROM receipts AS r JOIN log AS t ON t.at = r.at AND t.owner = r.owner AND t.seq = r.seq
         WHERE r.receipt = $1"
    )
});

/// A tenant's receipt on a connection that reads for it, or anybody's on one that writes.
pub(super) fn find_receipt(
    link: &Link,
    for_tenant: Option<Step<'_>>,
    receipt: &[u8; 16],
) -> Result<Option<(InstanceId, Entry)>, Fault> {
    let receipt: &[u8] = receipt;
    let mut steps: Vec<Step<'_>> = for_tenant.into_iter().collect();
    steps.push(Step::new(&FIND_RECEIPT, vec![&receipt]));
    let rows = link.ask(&steps)?.pop().unwrap_or_default();
    let Some(row) = rows.first() else { return Ok(None) };
    let record = ENTRIES.record(row);
    let entry: Entry = record.reveal(link)?;
    let instance: InstanceId = record.identifier(1).map_err(|problem| record.damaged(problem))?;
    Ok(Some((instance, entry)))
}
