//! Dossiers: every instance of the database read whole, within one transaction, and written whole into another.
//!
//! Owns how what belongs to many instances is found at once. Questions and effects are found by their ids, which begin with
//! that of their instance. Whoever looks at what is found may take longer than a server waits for anybody: the connection is
//! one of its own.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::ControlFlow;
use std::sync::LazyLock;

use kernel::commit::Entry;
use kernel::conversation::Clarification;
use kernel::id::{InstanceId, TenantId};
use kernel::snapshot::Snapshot;
use kernel::time::Timestamp;

use crate::dossier::{Dossier, Gathered};
use crate::outbox::{DeliveryStage, Lane, OutboxEffect};
use crate::postgres::failure::Trouble;
use crate::postgres::group::Group;
use crate::postgres::link::{Link, Step};
use crate::postgres::seal::{Fault, Record, escaped, maybe_escaped};
use crate::postgres::{outbox, phases};
use crate::record::{EffectRow, Filed};
use crate::seal::{CLARIFICATIONS, Damage, ENTRIES, INSTANCES, OUTBOX, PHASES};
use crate::{CommitError, is_there};

/// So many instances are asked for at once.
const PAGE: i64 = 100;

/// So many damaged records are put into quarantine at once; of a database with more, whoever runs it has heard enough.
const DAMAGED_MAX: usize = 1_000;

static INSTANCES_BEHIND: LazyLock<String> =
    LazyLock::new(|| INSTANCES.pg_select("number", &[]) + "WHERE t.number > $1 ORDER BY t.number LIMIT $2");
static LINES: LazyLock<String> = LazyLock::new(|| {
    ENTRIES.pg_select("seq", &["owner"]) + "WHERE t.owner = ANY ($1) ORDER BY t.owner, t.seq"
});
static PHASE_LINES: LazyLock<String> = LazyLock::new(|| {
    PHASES.pg_select("owner", &["owner"]) + "WHERE t.owner = ANY ($1) ORDER BY t.owner, t.place"
});
static QUESTIONS: LazyLock<String> =
    LazyLock::new(|| by_ids(&CLARIFICATIONS.pg_columns("number", &[]), "clarifications", "id"));
static EFFECTS: LazyLock<String> = LazyLock::new(|| {
    by_ids(&OUTBOX.pg_columns("seq", &outbox::PROGRESS), "outbox", "key") + " ORDER BY t.seq"
});

/// What of a table is called by names that begin with an instance's, with the place of that among those that are asked for.
/// The offset keeps it from being joined in another way, such as by going through all of the table.
fn by_ids(columns: &str, table: &str, name: &str) -> String {
    // `;` comes next after `:`.
    format!(
        "SELECT {columns}, w.place FROM unnest($1::text[], $2::text[], $3::bigint[]) AS w (tenant, id, place),
             LATERAL (
                 SELECT c.* FROM {table} AS c
                 WHERE c.tenant = w.tenant AND c.{name} >= w.id || ':' AND c.{name} < w.id || ';' AND c.instance = w.id
                 OFFSET 0
             ) AS t"
    )
}

/// What is whole goes through, and what is not is counted.
#[derive(Default)]
struct Sieve {
    corrupt: u64,
    damaged: Vec<Damage>,
}

impl Sieve {
    fn keep<T>(&mut self, found: Result<T, Fault>) -> Result<Option<T>, Trouble> {
        match found {
            Ok(record) => Ok(Some(record)),
            Err(Fault::Backend(trouble)) => Err(trouble),
            // To leave it out would say that it is not there.
            Err(Fault::Locked(locked)) => Err(Trouble::Locked(locked.detail)),
            Err(Fault::NewerFormat(format)) => {
                Err(Trouble::Locked(format!("a newer program wrote it, in format {format}")))
            }
            Err(Fault::Damaged(damage)) => {
                self.corrupt += 1;
                if self.damaged.len() < DAMAGED_MAX {
                    self.damaged.push(*damage);
                }
                Ok(None)
            }
        }
    }
}

/// Begins a transaction that sees what there is now, however long it takes.
const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
    SET LOCAL idle_in_transaction_session_timeout = 0";

/// What is damaged comes back beside it.
pub(super) fn gather(
    link: &Link,
    visit: &mut dyn FnMut(Dossier) -> ControlFlow<()>,
) -> Result<(Gathered, Vec<Damage>), Trouble> {
    link.batch(BEGIN)?;
    let mut sieve = Sieve::default();
    let mut gathered = Gathered { at_one_moment: true, ..Gathered::default() };
    let mut after = i64::MIN;
    'pages: loop {
        let rows = link.query(&INSTANCES_BEHIND, &[&after, &PAGE])?;
        let mut page = Vec::with_capacity(rows.len());
        for row in &rows {
            let record = INSTANCES.record(row);
            after = record.number();
            if let Some(snapshot) = sieve.keep(record.reveal::<Snapshot>(link))? {
                let mut dossier = Dossier::of(snapshot);
                dossier.note_body(record.body());
                page.push((after, dossier));
            }
        }
        fill(link, &mut page, &mut sieve)?;
        for (_, mut dossier) in page {
            dossier.sort();
            gathered.instances += 1;
            if visit(dossier).is_break() {
                break 'pages;
            }
        }
        if rows.len() < PAGE as usize {
            break;
        }
    }
    link.batch("COMMIT")?;
    gathered.corrupt = sieve.corrupt;
    Ok((gathered, sieve.damaged))
}

/// Adds what belongs to instances, each with its number.
fn fill(link: &Link, page: &mut [(i64, Dossier)], sieve: &mut Sieve) -> Result<(), Trouble> {
    let owners: Vec<i64> = page.iter().map(|(number, _)| *number).collect();
    let tenants: Vec<TenantId> = page.iter().map(|(_, dossier)| dossier.snapshot.tenant.clone()).collect();
    let ids: Vec<InstanceId> = page.iter().map(|(_, dossier)| dossier.snapshot.instance.clone()).collect();
    let tenants: Vec<&str> = tenants.iter().map(TenantId::as_str).collect();
    let ids: Vec<&str> = ids.iter().map(InstanceId::as_str).collect();
    let places: Vec<i64> = (0..page.len() as i64).collect();
    let place_of: HashMap<i64, usize> = owners.iter().copied().zip(0..).collect();
    let by_ids = || -> Vec<&(dyn tokio_postgres::types::ToSql + Sync)> { vec![&tenants, &ids, &places] };
    let steps = [
        Step::new(&LINES, vec![&owners]),
        Step::new(&PHASE_LINES, vec![&owners]),
        Step::new(&QUESTIONS, by_ids()),
        Step::new(&EFFECTS, by_ids()),
    ];
    let answers = link.ask(&steps)?;
    let [lines, phase_lines, questions, effects] = &answers[..] else {
        return Err(Trouble::Lost("the answers are none to what was asked".to_owned()));
    };
    for record in lines.iter().map(|row| ENTRIES.record(row)) {
        let owner = record.integer(ENTRIES.pg_more()).and_then(|owner| place_of.get(&owner));
        let entry = sieve.keep(record.reveal::<Entry>(link))?;
        if let (Some(place), Some(entry)) = (owner, entry) {
            page[*place].1.note_body(record.body());
            page[*place].1.entries.push(entry);
        }
    }
    for record in phase_lines.iter().map(|row| PHASES.record(row)) {
        let owner = record.integer(PHASES.pg_more()).and_then(|owner| place_of.get(&owner));
        if let (Some(place), Some(line)) = (owner, sieve.keep(phases::open(&record))?) {
            page[*place].1.phases.push(line.row);
        }
    }
    for record in questions.iter().map(|row| CLARIFICATIONS.record(row)) {
        let question = sieve.keep(record.reveal::<Clarification>(link))?;
        if let (Some((_, dossier)), Some(question)) =
            (placed(page, &record, CLARIFICATIONS.pg_more()), question)
        {
            dossier.note_body(record.body());
            dossier.clarifications.push(question);
        }
    }
    for record in effects.iter().map(|row| OUTBOX.record(row)) {
        let effect = sieve.keep(outbox::open(&record, link))?;
        if let (Some((_, dossier)), Some(effect)) =
            (placed(page, &record, OUTBOX.pg_more() + outbox::PROGRESS.len()), effect)
        {
            dossier.note_body(record.body());
            dossier.effects.push(effect);
        }
    }
    Ok(())
}

fn placed<'p>(
    page: &'p mut [(i64, Dossier)],
    record: &Record<'_>,
    column: usize,
) -> Option<&'p mut (i64, Dossier)> {
    page.get_mut(usize::try_from(record.integer(column)?).ok()?)
}

/// All of them in one transaction, which it begins and ends; none if one is there already.
pub(super) fn take_in(link: &Link, dossiers: &[Filed<'_>]) -> Result<Result<(), CommitError>, Trouble> {
    if dossiers.is_empty() {
        return Ok(Ok(()));
    }
    let mut group = Group::default();
    dossiers.iter().for_each(|filed| group.take_in(filed));
    link.batch("BEGIN")?;
    let saved = group.save(link, false)?;
    if let Some((filed, _)) = dossiers.iter().zip(saved).find(|(_, saved)| !saved) {
        link.batch("ROLLBACK")?;
        return Ok(Err(is_there(filed.instance.snapshot)));
    }
    take_in_effects(link, dossiers)?;
    link.batch("COMMIT").map(Ok)
}

const TAKEN: &str = "SELECT seq FROM outbox WHERE seq = ANY ($1)";

/// What is given is drawn, and all below it, so that nobody else is given it.
const DRAW: &str = "SELECT nextval('outbox_numbers') FROM generate_series(1, $1::bigint) OFFSET $2::bigint";

/// Beyond so many numbers that nobody has, effects are numbered anew: to draw a million takes a second.
const DRAWN_MAX: i64 = 5_000_000;

/// Under their numbers where all of an instance's are free. A lane's number is a multiple of its instance's and something
/// added.
const SAVE: &str = "INSERT INTO outbox (seq, tenant, key, instance, machine, subject, lane, status, attempts, parts_done,
         created_at, due_at, claimable_at, settled_at, provider_id, stage, error, checksum, body)
     SELECT e.seq, e.tenant, e.key, e.instance, e.machine, e.subject, i.number * e.times + e.added, e.status, e.attempts,
         e.parts_done, e.created_at, e.due_at, CASE WHEN e.times IS NULL THEN e.due_at END, e.settled_at, e.provider_id,
         e.stage, e.error, e.checksum, e.body
     FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::bigint[], $8::bigint[],
         $9::text[], $10::bigint[], $11::bigint[], $12::bigint[], $13::bigint[], $14::bigint[], $15::text[], $16::text[],
         $17::text[], $18::bigint[], $19::text[])
         AS e (seq, tenant, key, instance, machine, subject, times, added, status, attempts, parts_done, created_at, due_at,
             settled_at, provider_id, stage, error, checksum, body)
     JOIN instances AS i ON i.tenant = e.tenant AND i.id = e.instance";

const COUNT_LANES: &str = "INSERT INTO lanes (lane, unsettled)
     SELECT o.lane, count(*) FILTER (WHERE o.settled_at IS NULL) FROM outbox AS o
     WHERE o.seq = ANY ($1) AND o.lane IS NOT NULL GROUP BY o.lane";

fn take_in_effects(link: &Link, dossiers: &[Filed<'_>]) -> Result<(), Trouble> {
    let numbers = numbers(link, dossiers)?;
    if numbers.is_empty() {
        return Ok(());
    }
    let all: Vec<(&EffectRow<'_>, &OutboxEffect)> =
        dossiers.iter().flat_map(|filed| &filed.effects).map(|(row, effect)| (row, *effect)).collect();
    let each = |value: fn(&OutboxEffect) -> Option<i64>| all.iter().map(move |(_, effect)| value(effect));
    let tenants: Vec<&str> = all.iter().map(|(row, _)| row.of.tenant.as_str()).collect();
    let keys: Vec<_> = all.iter().map(|(row, _)| escaped(&row.effect.key)).collect();
    let instances: Vec<&str> = all.iter().map(|(row, _)| row.of.instance.as_str()).collect();
    let machines: Vec<&str> = all.iter().map(|(row, _)| row.of.machine.as_str()).collect();
    let subjects: Vec<_> = all.iter().map(|(row, _)| maybe_escaped(row.of.subject())).collect();
    let lanes: Vec<Option<Lane>> = all.iter().map(|(row, _)| Lane::of(row.effect)).collect();
    let added: Vec<Option<i64>> = lanes.iter().map(|lane| lane.map(|lane| lane.number(0))).collect();
    let times: Vec<Option<i64>> =
        lanes.iter().map(|lane| lane.map(|lane| lane.number(1) - lane.number(0))).collect();
    let statuses: Vec<&str> = all.iter().map(|(_, effect)| effect.status.as_str()).collect();
    let attempts: Vec<Option<i64>> = each(|effect| Some(effect.attempts.into())).collect();
    let parts_done: Vec<Option<i64>> = each(|effect| Some(effect.parts_done.into())).collect();
    let created_at: Vec<i64> = all.iter().map(|(row, _)| row.created_at.as_millis()).collect();
    let due_at: Vec<Option<i64>> = each(|effect| effect.due_at.map(Timestamp::as_millis)).collect();
    let settled_at: Vec<Option<i64>> = each(|effect| effect.settled_at.map(Timestamp::as_millis)).collect();
    let provider_ids: Vec<_> =
        all.iter().map(|(_, effect)| maybe_escaped(effect.provider_id.as_deref())).collect();
    let stages: Vec<Option<&str>> =
        all.iter().map(|(_, effect)| effect.stage.map(DeliveryStage::as_str)).collect();
    let errors: Vec<_> = all.iter().map(|(_, effect)| maybe_escaped(effect.error.as_deref())).collect();
    let checksums: Vec<i64> = all.iter().map(|(row, _)| row.checksum).collect();
    let bodies: Vec<&str> = all.iter().map(|(row, _)| row.body.as_str()).collect();
    let save = Step::new(
        SAVE,
        vec![
            &numbers,
            &tenants,
            &keys,
            &instances,
            &machines,
            &subjects,
            &times,
            &added,
            &statuses,
            &attempts,
            &parts_done,
            &created_at,
            &due_at,
            &settled_at,
            &provider_ids,
            &stages,
            &errors,
            &checksums,
            &bodies,
        ],
    );
    let count = Step::new(COUNT_LANES, vec![&numbers]);
    link.ask(&[save, count, Step::new(outbox::SEAT, vec![&numbers])]).map(|_| ())
}

/// The number of each effect, in order.
fn numbers(link: &Link, dossiers: &[Filed<'_>]) -> Result<Vec<i64>, Trouble> {
    let wanted = |filed: &Filed<'_>| -> Vec<i64> {
        filed.effects.iter().map(|(_, effect)| effect.seq.cast_signed()).collect()
    };
    let all: Vec<i64> = dossiers.iter().flat_map(wanted).collect();
    if all.is_empty() {
        return Ok(all);
    }
    let drawn = draw(link, 1, 0)?.pop().unwrap_or_default();
    let highest = all.iter().copied().max().unwrap_or_default();
    let may_keep = highest - drawn <= DRAWN_MAX;
    if may_keep && highest > drawn {
        draw(link, highest - drawn, highest - drawn)?;
    }
    let mut taken = BTreeSet::new();
    for row in link.query(TAKEN, &[&all])? {
        taken.insert(row.try_get::<_, i64>(0)?);
    }
    let mut given = BTreeMap::new();
    let mut is_new = Vec::new();
    for (place, filed) in dossiers.iter().enumerate() {
        let wanted = wanted(filed);
        if may_keep && wanted.iter().all(|number| *number > 0 && !taken.contains(number)) {
            taken.extend(&wanted);
            given.insert(place, wanted);
        } else {
            is_new.push((place, wanted.len() as i64));
        }
    }
    for (place, count) in is_new {
        given.insert(place, draw(link, count, 0)?);
    }
    Ok(given.into_values().flatten().collect())
}

/// Draws so many numbers, and gives those behind the first `unwanted`.
fn draw(link: &Link, count: i64, unwanted: i64) -> Result<Vec<i64>, Trouble> {
    let rows = link.query(DRAW, &[&count, &unwanted])?;
    let mut numbers = rows.iter().map(|row| row.try_get(0)).collect::<Result<Vec<i64>, _>>()?;
    numbers.sort_unstable();
    Ok(numbers)
}
