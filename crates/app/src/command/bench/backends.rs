//! A store on a server: commits in groups beside the bare statement with the same bytes, load and save at half of what
//! it can do, and the engine over it.
//!
//! The commits are those of real conversations, decided on beforehand, so that what is measured is the store alone.

mod bare_postgres;
mod bare_redis;

pub(super) use self::bare_postgres::Database;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use kernel::commit::Commit;
use store::{Outcome, Records, Store};

use crate::command::Failure;
use crate::command::bench::conversation::{Conversations, TURNS};
use crate::command::bench::decided::{self, Bytes};
use crate::command::bench::line::{Line, Round, Rounds, percentiles};
use crate::command::bench::process::Meter;
use crate::command::bench::{Bench, Told};

/// What the issue of a turn of the server is at most, and what 64 waiting clients make of it.
const GROUPS: [usize; 2] = [64, 256];
const ROUNDS: usize = 3;
/// Conversations that are decided on beforehand; more would be measuring how much memory there is.
const USERS: usize = 3_072;

/// A thing that saves commits in groups, in order. `bytes` are theirs, one by one.
trait Sink {
    fn save(&mut self, commits: &[Commit], bytes: &[Bytes]) -> Result<(), Failure>;
}

/// Commits in the order of saving, each with its bytes.
struct Work {
    commits: Vec<Commit>,
    bytes: Vec<Bytes>,
}

fn conversations(tenant: &str, group: usize) -> Result<Work, Failure> {
    let (mut commits, mut bytes) = (Vec::new(), Vec::new());
    decided::conversations(tenant, USERS, group, |_, commit, of_commit| {
        commits.push(commit);
        bytes.push(of_commit);
    })?;
    Ok(Work { commits, bytes })
}

struct Ours<'a>(&'a dyn Store);

impl Sink for Ours<'_> {
    fn save(&mut self, commits: &[Commit], _: &[Bytes]) -> Result<(), Failure> {
        let outcomes = self.0.commit(commits).map_err(|error| Failure(error.to_string()))?;
        match outcomes.iter().find(|outcome| **outcome != Outcome::Committed) {
            Some(other) => Err(Failure(format!("a commit of the benchmark came to {other:?}"))),
            None => Ok(()),
        }
    }
}

/// One writer saves the groups of its share one after the other.
fn round(
    sink: &mut dyn Sink,
    work: &Work,
    group: usize,
    share: usize,
    time: Duration,
) -> Result<Round, Failure> {
    // Whole conversations, so that each share begins with people who have said nothing.
    let length = work.commits.len() / ROUNDS / (group * TURNS) * (group * TURNS);
    let range = share * length..(share + 1) * length;
    let meter = Meter::start_own();
    let started = Instant::now();
    let mut round = Round::default();
    for (commits, bytes) in work.commits[range.clone()].chunks(group).zip(work.bytes[range].chunks(group)) {
        if started.elapsed() >= time {
            break;
        }
        let began = Instant::now();
        sink.save(commits, bytes)?;
        round.events += commits.len();
        round.latencies_us.push(u32::try_from(began.elapsed().as_micros()).unwrap_or(u32::MAX));
    }
    let groups = Some(round.latencies_us.len() as u64);
    Ok(Round { elapsed: started.elapsed(), groups, spent: meter.spent(), ..round })
}

pub(super) fn measure_postgres(bench: &Bench, told: Told<'_>) -> Result<(), Failure> {
    let Some(url) = &bench.postgres else {
        return Ok(());
    };
    let database = Database::create(url)?;
    let mut bare = bare_postgres::Bare::open(database.url())?;
    measure(["postgres", "bare statement"], database.url(), &mut bare, bench.time, told)
}

pub(super) fn measure_redis(bench: &Bench, told: Told<'_>) -> Result<(), Failure> {
    let Some(url) = &bench.redis else {
        return Ok(());
    };
    let mut bare = bare_redis::Bare::open(url)?;
    let prefix = bare.prefix();
    let separator = if url.contains('?') { '&' } else { '?' };
    let url = format!("{url}{separator}prefix={prefix}");
    measure(["redis", "bare script"], &url, &mut bare, bench.time, told)
}

fn measure(
    [name, floor_name]: [&'static str; 2],
    url: &str,
    bare: &mut dyn Sink,
    time: Duration,
    told: Told<'_>,
) -> Result<(), Failure> {
    let open = || store::open(url, Records::default()).map_err(Failure);
    let store = &open()?;
    let mut best: f64 = 0.0;
    for group in GROUPS {
        let tenant = format!("commits-{group}");
        let work = conversations(&tenant, group)?;
        let (mut floor, mut ours) = (Rounds::default(), Rounds::default());
        // By turns, so that whatever else the machine does is shared.
        for share in 0..ROUNDS {
            let time = time / ROUNDS as u32;
            floor.0.push(round(bare, &work, group, share, time)?);
            ours.0.push(round(&mut Ours(&**store), &work, group, share, time)?);
        }
        best = best.max(ours.per_second());
        let what = format!("{name}: commits by one writer, groups of {group}");
        told(ours.line(&what).beside(floor_name, floor.per_second()));
        told(floor.line(&format!("  floor: the {floor_name} with the same bytes")));
    }
    half_load(name, &**store, best / 2.0, time, told)?;
    for in_flight in [64, 256] {
        let mut conversations = Conversations::over(Arc::clone(store), in_flight)?;
        let rounds = (0..ROUNDS).map(|_| conversations.round(time / ROUNDS as u32));
        let rounds = Rounds(rounds.collect::<Result<_, _>>()?);
        told(rounds.line(&format!("{name}: engine in process, {in_flight} in flight")));
    }
    two_engines(name, [Arc::clone(store), open()?], time, told)
}

/// What two servers do together, beside one with as many waiting. They share this machine, and the database shares it
/// with them: it shows what they cost each other, and no more than that where no core is left over.
fn two_engines(
    name: &str,
    [first, second]: [Arc<dyn Store>; 2],
    time: Duration,
    told: Told<'_>,
) -> Result<(), Failure> {
    const IN_FLIGHT: usize = 64;
    let mut one = Conversations::over(Arc::clone(&first), IN_FLIGHT)?;
    let mut two = [Conversations::over(first, IN_FLIGHT / 2)?, Conversations::over(second, IN_FLIGHT / 2)?];
    let (mut alone, mut together) = (Rounds::default(), Rounds::default());
    for _ in 0..ROUNDS {
        let time = time / ROUNDS as u32;
        alone.0.push(one.round(time)?);
        together.0.push(at_once(&mut two, time)?);
    }
    let what = format!("{name}: two engines, {} in flight each", IN_FLIGHT / 2);
    told(together.line(&what).beside("one engine", alone.per_second()));
    told(alone.line(&format!("  one engine, {IN_FLIGHT} in flight")));
    Ok(())
}

/// A round of each at the same time, as one. What was spent is that of this process, and so of both.
fn at_once(all: &mut [Conversations; 2], time: Duration) -> Result<Round, Failure> {
    let rounds: Vec<Result<Round, Failure>> = std::thread::scope(|scope| {
        let running: Vec<_> = all.iter_mut().map(|each| scope.spawn(|| each.round(time))).collect();
        let lost = |_| Err(Failure("a round of the benchmark died".into()));
        running.into_iter().map(|round| round.join().unwrap_or_else(lost)).collect()
    });
    let mut sum = Round { is_awaited: true, groups: Some(0), ..Round::default() };
    for round in rounds {
        let round = round?;
        sum.events += round.events;
        sum.elapsed = sum.elapsed.max(round.elapsed);
        sum.latencies_us.extend(round.latencies_us);
        sum.groups = sum.groups.zip(round.groups).map(|(sum, groups)| sum + groups);
        sum.spent = round.spent;
    }
    Ok(sum)
}

/// Saves `per_second` commits as they come, whatever is waiting in one group, while another thread loads.
fn half_load(
    name: &str,
    store: &dyn Store,
    per_second: f64,
    time: Duration,
    told: Told<'_>,
) -> Result<(), Failure> {
    const IN_TURN: usize = 64;
    let Work { commits, .. } = conversations("half-load", IN_TURN)?;
    let stop = AtomicBool::new(false);
    let (saved, loaded) = std::thread::scope(|scope| {
        let loads = scope.spawn(|| loads(store, &commits, &stop));
        let saved = saves(store, &commits, per_second, IN_TURN, time);
        stop.store(true, Ordering::Relaxed);
        let lost = || Err(Failure("the reader of the benchmark died".into()));
        (saved, loads.join().unwrap_or_else(|_| lost()))
    });
    for (what, taken) in [("save", saved), ("load", loaded)] {
        let (mut latencies, elapsed) = taken?;
        let per_second = latencies.len() as f64 / elapsed.as_secs_f64();
        let (p50_ms, p99_ms) = percentiles(&mut latencies);
        let what = format!("{name}: {what} at half load");
        told(Line { p50_ms, p99_ms, ..Line::rate(&what, per_second) });
    }
    Ok(())
}

type Latencies = Result<(Vec<u32>, Duration), Failure>;

/// How long each took from when it should have been saved, in microseconds. Of one person's, one is in a group.
fn saves(
    store: &dyn Store,
    commits: &[Commit],
    per_second: f64,
    in_turn: usize,
    time: Duration,
) -> Latencies {
    let started = Instant::now();
    let mut latencies = Vec::with_capacity(commits.len());
    while latencies.len() < commits.len() && started.elapsed() < time {
        let done = latencies.len();
        let due = ((started.elapsed().as_secs_f64() * per_second) as usize).min(commits.len());
        let last = due.min((done / in_turn + 1) * in_turn);
        if last <= done {
            // Nothing is due yet: so does a writer at half load rest.
            std::thread::sleep(Duration::from_micros(50));
            continue;
        }
        Ours(store).save(&commits[done..last], &[])?;
        let now = started.elapsed().as_secs_f64();
        let waited = (done..last).map(|number| now - number as f64 / per_second);
        latencies.extend(waited.map(|seconds| (seconds.max(0.0) * 1e6) as u32));
    }
    Ok((latencies, started.elapsed()))
}

/// Loads of instances one after the other, with a pause that leaves the machine to the writer.
fn loads(store: &dyn Store, commits: &[Commit], stop: &AtomicBool) -> Latencies {
    let started = Instant::now();
    let mut latencies = Vec::new();
    for number in (0..).map(|n: usize| n * 37) {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let commit = &commits[number % commits.len()];
        let asked = Instant::now();
        store.load(&commit.tenant, &commit.instance).map_err(|error| Failure(error.to_string()))?;
        latencies.push(u32::try_from(asked.elapsed().as_micros()).unwrap_or(u32::MAX));
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok((latencies, started.elapsed()))
}
