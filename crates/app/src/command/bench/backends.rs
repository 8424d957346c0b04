//! A store on a server: commits in groups beside the bare statement with the same bytes, load and save at half of what
//! it can do, and the engine over it.
//!
//! The commits are those of real conversations, decided on beforehand, so that what is measured is the store alone.

mod bare_postgres;
mod bare_redis;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use kernel::commit::Commit;
use kernel::decide::decide;
use kernel::id::TenantId;
use kernel::time::Timestamp;
use store::{Outcome, Records, Store};

use crate::command::Failure;
use crate::command::bench::conversation::{self, TURNS};
use crate::command::bench::{Line, percentiles};

/// What the issue of a turn of the server is at most, and what 64 waiting clients make of it.
const GROUPS: [usize; 2] = [64, 256];
/// Conversations that are decided on beforehand; more would be measuring how much memory there is.
const USERS: usize = 3_072;

/// A thing that saves commits in groups, in order. `bytes` are theirs, one by one.
trait Sink {
    fn save(&mut self, commits: &[Commit], bytes: &[Bytes]) -> Result<(), Failure>;
}

/// What a bare program would write of a commit.
pub(super) struct Bytes {
    pub instance: String,
    pub entry: String,
}

/// Commits in the order of saving, each with its bytes.
struct Work {
    commits: Vec<Commit>,
    bytes: Vec<Bytes>,
}

pub(super) fn revision(commit: &Commit) -> i64 {
    commit.entry.revision.0.cast_signed()
}

pub(super) fn wake_at(commit: &Commit) -> Option<i64> {
    commit.after.as_ref()?.wake_at().map(Timestamp::as_millis)
}

/// The messages of `USERS` people of a tenant, so that each `group` in a row is of as many people.
fn conversations(tenant: &str, group: usize) -> Result<Work, Failure> {
    let machine = conversation::machine()?;
    let tenant = TenantId::parse(tenant).map_err(Failure)?;
    let now = engine::Clock::System.now();
    let (mut commits, mut bytes) = (Vec::new(), Vec::new());
    for users in (0..USERS).collect::<Vec<_>>().chunks(group) {
        let mut before = vec![None; users.len()];
        for turn in 0..TURNS {
            for (user, before) in users.iter().zip(&mut before) {
                let mut input = conversation::input(*user, turn)?;
                input.tenant = tenant.clone();
                let commit = decide(&machine, before.as_ref(), &input, now)
                    .map_err(|refusal| Failure(format!("the machine refused it: {}", refusal.message)))?;
                before.clone_from(&commit.after);
                bytes.push(Bytes {
                    instance: serde_json::to_string(&commit.after)?,
                    entry: serde_json::to_string(&commit.entry)?,
                });
                commits.push(commit);
            }
        }
    }
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

/// Commits a second of one writer, the groups one after the other.
fn rate(sink: &mut dyn Sink, work: &Work, group: usize, time: Duration) -> Result<f64, Failure> {
    let started = Instant::now();
    let mut done = 0;
    for (commits, bytes) in work.commits.chunks(group).zip(work.bytes.chunks(group)) {
        if started.elapsed() >= time {
            break;
        }
        sink.save(commits, bytes)?;
        done += commits.len();
    }
    Ok(done as f64 / started.elapsed().as_secs_f64())
}

pub(super) fn measure_postgres(
    url: &str,
    time: Duration,
    told: &mut impl FnMut(Line),
) -> Result<(), Failure> {
    let database = bare_postgres::Database::create(url)?;
    let mut bare = bare_postgres::Bare::open(database.url())?;
    let store = store::open(database.url(), Records::default()).map_err(Failure)?;
    measure("postgres", &store, &mut bare, time, told)
}

pub(super) fn measure_redis(url: &str, time: Duration, told: &mut impl FnMut(Line)) -> Result<(), Failure> {
    let mut bare = bare_redis::Bare::open(url)?;
    let prefix = bare.prefix();
    let separator = if url.contains('?') { '&' } else { '?' };
    let url = format!("{url}{separator}prefix={prefix}");
    let store = store::open(&url, Records::default()).map_err(Failure)?;
    measure("redis", &store, &mut bare, time, told)
}

fn measure(
    name: &str,
    store: &Arc<dyn Store>,
    bare: &mut dyn Sink,
    time: Duration,
    told: &mut impl FnMut(Line),
) -> Result<(), Failure> {
    let mut best: f64 = 0.0;
    for group in GROUPS {
        let tenant = format!("commits-{group}");
        let work = conversations(&tenant, group)?;
        // By turns, so that whatever else the machine does is shared.
        let floor = rate(bare, &work, group, time)?;
        let ours = rate(&mut Ours(&**store), &work, group, time)?;
        best = best.max(ours);
        let what = format!("{name}: commits by one writer, groups of {group}");
        let group = Some(group as f64);
        told(Line { of_floor: Some(ours / floor), group, ..Line::rate(&what, ours) });
        told(Line { group, ..Line::rate("  floor: the bare statement with the same bytes", floor) });
    }
    half_load(name, &**store, best / 2.0, time, told)?;
    for in_flight in [64, 256] {
        let mut line = conversation::measure(Arc::clone(store), in_flight, time)?;
        line.what = format!("{name}: {}", line.what);
        told(line);
    }
    Ok(())
}

/// Saves `per_second` commits as they come, whatever is waiting in one group, while another thread loads.
fn half_load(
    name: &str,
    store: &dyn Store,
    per_second: f64,
    time: Duration,
    told: &mut impl FnMut(Line),
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
