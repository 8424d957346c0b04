//! The outbox in the database: claiming, settling and retrying effects, and what is asked about them.
//!
//! Owns whose turn it is in a lane. `claimable_at` is set for what may be claimed and for nothing else. Whatever changes
//! a lane locks its row in `lanes` first and looks at the lane only in a statement after that, so that it sees what the
//! last one who had the lock has done; it ends with `SEAT`.

use std::collections::HashSet;
use std::sync::LazyLock;

use kernel::commit::Effect;
use kernel::id::TenantId;
use kernel::time::Timestamp;
use serde::de::IgnoredAny;

use crate::outbox::{
    ClaimedEffect, DeliveryReport, DeliveryStage, EffectQuery, EffectStatus, OutboxEffect, Settlement,
    SettlementResult,
};
use crate::postgres::failure::Trouble;
use crate::postgres::link::{Link, Step};
use crate::postgres::read::{Conditions, Given, List};
use crate::postgres::seal::{Fault, Listed, Record, escaped, maybe_escaped};
use crate::query::Page;
use crate::seal::{Damage, OUTBOX};

/// What changes about an effect, behind what `OUTBOX` selects.
pub(super) const PROGRESS: [&str; 8] =
    ["status", "attempts", "parts_done", "due_at", "error", "provider_id", "stage", "settled_at"];

static SELECT: LazyLock<String> = LazyLock::new(|| OUTBOX.pg_select("seq", &PROGRESS));

pub(super) fn open(record: &Record<'_>, link: &Link) -> Result<OutboxEffect, Fault> {
    let effect: Effect = record.reveal(link)?;
    // A row that was found is there: what fails here is a value that means nothing.
    opened(record, effect).map_err(|problem| record.damaged(problem))
}

fn opened(record: &Record<'_>, effect: Effect) -> Result<OutboxEffect, String> {
    let progress = OUTBOX.pg_more();
    let time = |column| record.integer(column).map(Timestamp::from_millis);
    Ok(OutboxEffect {
        seq: record.number().unsigned_abs(),
        tenant: record.identifier(0)?,
        instance: record.identifier(2)?,
        machine: record.identifier(3)?,
        subject: record.text(4)?.map(|_| record.identifier(4)).transpose()?,
        effect,
        status: record.named(progress, EffectStatus::parse)?,
        attempts: record.number_of(progress + 1)?,
        parts_done: record.number_of(progress + 2)?,
        created_at: Timestamp::from_millis(record.number_of(5)?),
        due_at: time(progress + 3),
        error: record.text(progress + 4)?,
        provider_id: record.text(progress + 5)?,
        stage: record
            .text(progress + 6)?
            .map(|_| record.named(progress + 6, DeliveryStage::parse))
            .transpose()?,
        settled_at: time(progress + 7),
    })
}

/// What another server is claiming is left to it. What comes back is as it is now, and as it was: whether it was being
/// sent, and when it was due.
static CLAIM: LazyLock<String> = LazyLock::new(|| {
    let columns = OUTBOX.pg_columns("seq", &PROGRESS);
    format!(
        "WITH due AS MATERIALIZED (
             SELECT o.seq, o.status, o.claimable_at FROM outbox AS o
             WHERE o.claimable_at IS NOT NULL AND o.claimable_at <= $1
             ORDER BY o.claimable_at, o.seq LIMIT $3 FOR NO KEY UPDATE SKIP LOCKED
         )
         UPDATE outbox AS t SET status = 'sending', attempts = least(t.attempts + 1, 4294967295), due_at = $2,
             claimable_at = $2
         FROM due WHERE t.seq = due.seq
         RETURNING {columns}, due.status, due.claimable_at"
    )
});

/// What a claim came to.
pub(super) struct Claims {
    pub claimed: Vec<ClaimedEffect>,
    /// With their numbers: they are to be given up.
    pub damaged: Vec<Damage>,
    /// How what there is no key to is put back, to be looked at again.
    pub locked: Vec<Settlement>,
}

/// Fewer than `limit` may come back although more are due, when some of what is due is damaged or locked.
pub(super) fn claim(
    link: &Link,
    now: Timestamp,
    lease_until: Timestamp,
    limit: usize,
) -> Result<Claims, Trouble> {
    let (now_ms, until) = (now.as_millis(), lease_until.as_millis());
    let rows_max = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = link.query(&CLAIM, &[&now_ms, &until, &rows_max])?;
    let before = OUTBOX.pg_more() + PROGRESS.len();
    let (mut claimed, mut damaged, mut locked) = (Vec::with_capacity(rows.len()), Vec::new(), Vec::new());
    for row in &rows {
        let record = OUTBOX.record(row);
        let opened = open(&record, link).and_then(|effect| match record.named(before, EffectStatus::parse) {
            Ok(status) => Ok((effect, status)),
            Err(problem) => Err(record.damaged(problem)),
        });
        match opened {
            Ok((effect, status)) => {
                let place = (record.integer(before + 1), effect.seq);
                claimed.push((place, ClaimedEffect { effect, interrupted: status == EffectStatus::Sending }));
            }
            Err(Fault::Backend(trouble)) => return Err(trouble),
            Err(Fault::NewerFormat(_)) => {}
            Err(Fault::Locked(closed)) => {
                let at = if closed.may_open { now } else { lease_until };
                locked.extend(put_back(&record, at, closed.detail));
            }
            Err(Fault::Damaged(damage)) => damaged.push(*damage),
        }
    }
    claimed.sort_by_key(|(place, _)| *place);
    let claimed = claimed.into_iter().map(|(_, effect)| effect).collect();
    Ok(Claims { claimed, damaged, locked })
}

/// No attempt was made, so none is counted.
fn put_back(record: &Record<'_>, at: Timestamp, error: String) -> Option<Settlement> {
    let attempt = record.number_of(OUTBOX.pg_more() + 1).ok()?;
    let (tenant, key) = (record.identifier(0).ok()?, record.some_text(1).ok()?);
    Some(Settlement { tenant, key, attempt, result: SettlementResult::Postponed { at, error } })
}

const LOCK_LANES: &str =
    "SELECT l.lane FROM lanes AS l
     WHERE l.lane IN (SELECT o.lane FROM outbox AS o WHERE o.seq = ANY ($1)) ORDER BY l.lane FOR NO KEY UPDATE";

const GIVE_UP: &str =
    "WITH given AS (
         UPDATE outbox AS o SET status = 'dead', due_at = NULL, claimable_at = NULL, settled_at = $3, error = g.detail
         FROM unnest($1::bigint[], $2::text[]) AS g (seq, detail)
         WHERE o.seq = g.seq AND o.settled_at IS NULL RETURNING o.lane
     )
     UPDATE lanes AS l SET unsettled = l.unsettled - g.count
     FROM (SELECT lane, count(*) AS count FROM given WHERE lane IS NOT NULL GROUP BY lane) AS g WHERE l.lane = g.lane";

/// Lets the first of each lane of these effects be claimed when it is due.
pub(super) const SEAT: &str =
    "UPDATE outbox AS o SET claimable_at = o.due_at
     FROM (
         SELECT (SELECT f.seq FROM outbox AS f WHERE f.lane = w.lane AND f.settled_at IS NULL ORDER BY f.seq LIMIT 1) AS seq
         FROM (SELECT DISTINCT d.lane FROM outbox AS d WHERE d.seq = ANY ($1) AND d.lane IS NOT NULL) AS w
     ) AS first
     WHERE o.seq = first.seq AND o.claimable_at IS DISTINCT FROM o.due_at";

/// Nobody can deliver what is damaged, and nobody behind it should wait for that.
pub(super) fn give_up(link: &Link, damaged: &[Damage], now: Timestamp) -> Result<(), Trouble> {
    let numbers: Vec<i64> = damaged.iter().map(|damage| damage.row).collect();
    let details: Vec<_> = damaged.iter().map(|damage| escaped(&damage.detail)).collect();
    let now = now.as_millis();
    let steps = [
        Step::plain("BEGIN"),
        Step::new(LOCK_LANES, vec![&numbers]),
        Step::new(GIVE_UP, vec![&numbers, &details, &now]),
        Step::new(SEAT, vec![&numbers]),
        Step::plain("COMMIT"),
    ];
    link.ask(&steps).map(|_| ())
}

const LOCK_LANES_OF_KEYS: &str = "SELECT l.lane FROM lanes AS l
     WHERE l.lane IN (
         SELECT o.lane FROM unnest($1::text[], $2::text[]) AS s (tenant, key)
         JOIN outbox AS o ON o.tenant = s.tenant AND o.key = s.key)
     ORDER BY l.lane FOR NO KEY UPDATE";

/// Who has lost its turn to one that was retried meanwhile does not get it back by failing.
const SETTLE: &str =
    "WITH settled AS (
         UPDATE outbox AS o SET
             status = s.status, due_at = s.due_at,
             claimable_at = CASE WHEN o.claimable_at IS NOT NULL THEN s.due_at END,
             settled_at = s.settled_at, error = coalesce(s.error, o.error),
             parts_done = coalesce(s.parts_done, o.parts_done),
             provider_id = coalesce(s.provider_id, o.provider_id), attempts = o.attempts - s.uncounted
         FROM unnest($1::text[], $2::text[], $3::bigint[], $4::text[], $5::bigint[], $6::bigint[], $7::text[],
             $8::bigint[], $9::text[], $10::bigint[], $11::bigint[])
             AS s (tenant, key, attempt, status, due_at, settled_at, error, parts_done, provider_id, uncounted, place)
         WHERE o.tenant = s.tenant AND o.key = s.key AND o.status = 'sending' AND o.attempts = s.attempt
         RETURNING s.place, o.lane, o.settled_at
     ), counted AS (
         UPDATE lanes AS l SET unsettled = l.unsettled - g.count
         FROM (
             SELECT lane, count(*) AS count FROM settled WHERE lane IS NOT NULL AND settled_at IS NOT NULL GROUP BY lane
         ) AS g
         WHERE l.lane = g.lane
     )
     SELECT place FROM settled";

const SEAT_KEYS: &str =
    "UPDATE outbox AS o SET claimable_at = o.due_at
     FROM (
         SELECT (SELECT f.seq FROM outbox AS f WHERE f.lane = w.lane AND f.settled_at IS NULL ORDER BY f.seq LIMIT 1) AS seq
         FROM (
             SELECT DISTINCT d.lane FROM unnest($1::text[], $2::text[]) AS s (tenant, key)
             JOIN outbox AS d ON d.tenant = s.tenant AND d.key = s.key WHERE d.lane IS NOT NULL
         ) AS w
     ) AS first
     WHERE o.seq = first.seq AND o.claimable_at IS DISTINCT FROM o.due_at";

/// All of them in one transaction and one round trip.
pub(super) fn settle(link: &Link, settlements: &[Settlement], now: Timestamp) -> Result<Vec<bool>, Trouble> {
    // What is said twice of one attempt is heard once: the first time.
    let mut heard = HashSet::new();
    let is_first = |s: &Settlement| heard.insert((s.tenant.clone(), s.key.clone(), s.attempt));
    let is_first: Vec<bool> = settlements.iter().map(is_first).collect();
    let first: Vec<(usize, &Settlement)> =
        settlements.iter().enumerate().filter(|(place, _)| is_first[*place]).collect();
    let results: Vec<_> = first.iter().map(|(_, s)| s.result.settled()).collect();
    let tenants: Vec<&str> = first.iter().map(|(_, s)| s.tenant.as_str()).collect();
    let keys: Vec<_> = first.iter().map(|(_, s)| escaped(&s.key)).collect();
    let attempts: Vec<i64> = first.iter().map(|(_, s)| s.attempt.into()).collect();
    let statuses: Vec<&str> = results.iter().map(|r| r.status.as_str()).collect();
    let due: Vec<Option<i64>> = results.iter().map(|r| r.due_at.map(Timestamp::as_millis)).collect();
    let settled_at: Vec<Option<i64>> =
        results.iter().map(|r| r.status.is_settled().then_some(now.as_millis())).collect();
    let errors: Vec<_> = results.iter().map(|r| maybe_escaped(r.error)).collect();
    let parts_done: Vec<Option<i64>> = results.iter().map(|r| r.parts_done.map(i64::from)).collect();
    let provider_ids: Vec<_> = results.iter().map(|r| maybe_escaped(r.provider_id)).collect();
    let uncounted: Vec<i64> = results.iter().map(|r| r.uncounted.into()).collect();
    let places: Vec<i64> = first.iter().map(|(place, _)| *place as i64).collect();
    let steps = [
        Step::plain("BEGIN"),
        Step::new(LOCK_LANES_OF_KEYS, vec![&tenants, &keys]),
        Step::new(
            SETTLE,
            vec![
                &tenants,
                &keys,
                &attempts,
                &statuses,
                &due,
                &settled_at,
                &errors,
                &parts_done,
                &provider_ids,
                &uncounted,
                &places,
            ],
        ),
        Step::new(SEAT_KEYS, vec![&tenants, &keys]),
        Step::plain("COMMIT"),
    ];
    let answers = link.ask(&steps)?;
    let mut is_settled = vec![false; settlements.len()];
    for row in answers.get(2).into_iter().flatten() {
        let place = usize::try_from(row.try_get::<_, i64>(0)?).unwrap_or(usize::MAX);
        if let Some(said) = is_settled.get_mut(place) {
            *said = true;
        }
    }
    Ok(is_settled)
}

pub(super) fn next_due(link: &Link) -> Result<Option<Timestamp>, Trouble> {
    let rows = link.query("SELECT min(claimable_at) FROM outbox WHERE claimable_at IS NOT NULL", &[])?;
    let due: Option<i64> = rows.first().map(|row| row.try_get(0)).transpose()?.flatten();
    Ok(due.map(Timestamp::from_millis))
}

const LOCK_LANE_OF_KEY: &str = "SELECT l.lane FROM lanes AS l
     WHERE l.lane = (SELECT o.lane FROM outbox AS o WHERE o.tenant = $1 AND o.key = $2) FOR NO KEY UPDATE";

static FIND: LazyLock<String> =
    LazyLock::new(|| SELECT.clone() + "WHERE t.tenant = $1 AND t.key = $2 FOR NO KEY UPDATE");

const RETRY: &str =
    "WITH found AS (SELECT seq, settled_at FROM outbox WHERE seq = $1), retried AS (
         UPDATE outbox AS o SET status = 'pending', attempts = 0, due_at = $2::bigint, provider_id = NULL, stage = NULL,
             claimable_at = CASE WHEN o.lane IS NULL THEN $2::bigint END, settled_at = NULL
         FROM found AS f WHERE o.seq = f.seq RETURNING o.lane, f.settled_at IS NOT NULL AS was_settled
     )
     INSERT INTO lanes AS l (lane, unsettled) SELECT lane, 1 FROM retried WHERE lane IS NOT NULL AND was_settled
     ON CONFLICT (lane) DO UPDATE SET unsettled = l.unsettled + 1";

/// Only a retry puts somebody in front of who was the first so far.
const UNSEAT_OTHERS: &str =
    "UPDATE outbox AS o SET claimable_at = NULL FROM outbox AS d
     WHERE d.seq = $1 AND o.lane = d.lane AND o.settled_at IS NULL AND o.claimable_at IS NOT NULL AND o.seq > (
         SELECT f.seq FROM outbox AS f WHERE f.lane = d.lane AND f.settled_at IS NULL ORDER BY f.seq LIMIT 1)";

/// A damaged effect is as good as none: it is not retried. Runs within a transaction, which it begins and ends.
pub(super) fn retry(
    link: &Link,
    tenant: &TenantId,
    key: &str,
    now: Timestamp,
) -> Result<(Option<EffectStatus>, Option<Damage>), Trouble> {
    let (tenant, key) = (tenant.as_str(), escaped(key));
    let find = [
        Step::plain("BEGIN"),
        Step::new(LOCK_LANE_OF_KEY, vec![&tenant, &key]),
        Step::new(&FIND, vec![&tenant, &key]),
    ];
    let rows = link.ask(&find)?.pop().unwrap_or_default();
    // What it says is of no matter here, so that no key is needed.
    let (effect, damage) = match rows.first().map(|row| status_of(&OUTBOX.record(row))) {
        None | Some(Err(Fault::NewerFormat(_) | Fault::Locked(_))) => (None, None),
        Some(Ok(effect)) => (Some(effect), None),
        Some(Err(Fault::Backend(trouble))) => return Err(trouble),
        Some(Err(Fault::Damaged(damage))) => (None, Some(*damage)),
    };
    let (now, mut steps) = (now.as_millis(), Vec::new());
    let number = effect.map_or(0, |(number, _)| number);
    let numbers: &[i64] = &[number];
    if effect.is_some_and(|(_, status)| status.may_be_retried()) {
        steps.push(Step::new(RETRY, vec![&number, &now]));
        steps.push(Step::new(UNSEAT_OTHERS, vec![&number]));
        steps.push(Step::new(SEAT, vec![&numbers]));
    }
    steps.push(Step::plain("COMMIT"));
    link.ask(&steps)?;
    Ok((effect.map(|(_, status)| status), damage))
}

/// The number and the status of an effect that is whole.
fn status_of(record: &Record<'_>) -> Result<(i64, EffectStatus), Fault> {
    record.peek::<IgnoredAny>()?;
    let status = record.named(OUTBOX.pg_more(), EffectStatus::parse);
    Ok((record.number(), status.map_err(|problem| record.damaged(problem))?))
}

const FIND_REPORTED: &str =
    "SELECT seq, stage FROM outbox WHERE provider_id = $1 AND tenant = $2 ORDER BY seq DESC LIMIT 1
     FOR NO KEY UPDATE";

const CLEAR_UP: &str =
    "UPDATE outbox SET status = $1, provider_id = $2, stage = $3, error = coalesce($4, error)
     WHERE tenant = $5 AND key = $6 AND status = 'unknown' RETURNING seq";

const NOTE: &str = "UPDATE outbox SET status = $1, stage = $2, error = coalesce($3, error) WHERE seq = $4";

/// Runs within a transaction, which it begins and ends.
pub(super) fn note_stage(link: &Link, report: &DeliveryReport) -> Result<bool, Trouble> {
    let (tenant, provider_id) = (report.tenant.as_str(), escaped(&report.provider_id));
    let (status, stage) = (report.status().as_str(), report.stage.as_str());
    let error = maybe_escaped(report.error.as_deref());
    let key = maybe_escaped(report.key.as_deref());
    let find = [Step::plain("BEGIN"), Step::new(FIND_REPORTED, vec![&provider_id, &tenant])];
    let rows = link.ask(&find)?.pop().unwrap_or_default();
    let found: Option<(i64, Option<String>)> = rows
        .first()
        .map(|row| Ok::<_, tokio_postgres::Error>((row.try_get(0)?, row.try_get(1)?)))
        .transpose()?;
    let (change, is_news) = match &found {
        None => (Step::new(CLEAR_UP, vec![&status, &provider_id, &stage, &error, &tenant, &key]), None),
        Some((seq, known)) => {
            let known = known.as_deref().and_then(DeliveryStage::parse);
            let is_news = report.stage.is_news_after(known);
            (Step::new(NOTE, vec![&status, &stage, &error, seq]), Some(is_news))
        }
    };
    match is_news {
        Some(false) => link.ask(&[Step::plain("COMMIT")]).map(|_| false),
        Some(true) => link.ask(&[change, Step::plain("COMMIT")]).map(|_| true),
        None => Ok(!link.ask(&[change, Step::plain("COMMIT")])?[0].is_empty()),
    }
}

pub(super) fn list(link: &Link, query: &EffectQuery) -> Result<Listed<Page<OutboxEffect>>, Trouble> {
    let before = i64::try_from(query.before()).unwrap_or(i64::MAX);
    let mut wanted = Conditions::of_tenant(&query.tenant);
    wanted.also("t.seq < ?", [Given::Integer(before)]);
    match (&query.key, &query.instance) {
        (Some(key), _) => wanted.also("t.key = ?", [Given::text(key)]),
        // Keys begin with their instance, so that they are what its effects are found by; `;` comes next after `:`.
        (None, Some(instance)) => wanted.also(
            "t.key >= ? AND t.key < ?",
            [Given::text(&format!("{instance}:")), Given::text(&format!("{instance};"))],
        ),
        (None, None) => {}
    }
    if !query.statuses.is_empty() {
        let statuses: Vec<_> = query.statuses.iter().map(|status| format!("'{}'", status.as_str())).collect();
        wanted.also(&format!("t.status IN ({})", statuses.join(", ")), []);
    }
    let list = List {
        tenant: query.tenant.as_str(),
        select: SELECT.clone(),
        table: &OUTBOX,
        wanted,
        order: "t.seq DESC",
        limit: query.limit,
        resume: |wanted: &mut Conditions, last: &Record<'_>| {
            wanted.also("t.seq < ?", [Given::Integer(last.number())])
        },
    };
    let (found, damaged) = list.read(link, |record| open(record, link), |effect| query.matches(effect))?;
    Ok((found.page(|last, _| last.seq.to_string()), damaged))
}
