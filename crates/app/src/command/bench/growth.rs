//! A file in which millions of conversations have been held, beside an empty one: what growth costs.
//!
//! Most are over, and some have stopped in the middle, spread over all of them. They were decided on and saved as a server
//! does it, only in larger groups. Of each figure that should not grow there is one of a server over an empty file.

use std::ops::Range;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use kernel::commit::Commit;
use kernel::decide::decide;
use kernel::machine::Machine;
use kernel::snapshot::Snapshot;
use kernel::time::{Delay, Timestamp};
use rusqlite::Connection;
use store::{Outcome, Store};

use crate::command::Failure;
use crate::command::bench::clients::{Clients, People};
use crate::command::bench::conversation::{self, TURNS, sqlite};
use crate::command::bench::line::{Line, Round, Rounds, percentiles};
use crate::command::bench::process::Meter;
use crate::command::bench::server_process::ServerProcess;
use crate::command::bench::{Bench, Told, disk_bytes};

/// All of it: ten million that are over, and one million that are not.
const PEOPLE: f64 = 11_000_000.0;
/// Of so many people, one has stopped in the middle.
const LIVE_EVERY: usize = 11;
/// After so many messages.
const LIVE_TURNS: usize = 3;
/// People who talk at one time while the file is made; their messages of one turn are one group.
const TALKING: usize = 4_000;
/// What a line of the log, with its share of everything else, may take on the disk.
const LINE_BYTES_MAX: u64 = 700;
/// What is measured on a file of its own, of 63,000 messages.
const SMALL: f64 = 0.001;

const CLIENTS: usize = 64;
const ROUNDS: u32 = 3;
const STARTS: usize = 3;
/// Between two words about how far it is.
const PROGRESS_EVERY: Duration = Duration::from_secs(5);
/// The look at a large file after its start may take longer; what follows is then measured beside it.
const LOOK_MAX: Duration = Duration::from_secs(60);

pub(super) fn measure(bench: &Bench, told: Told<'_>) -> Result<(), Failure> {
    let size = Size::of(bench.growth);
    let (folder, empty) = (bench.folder("growth")?, bench.folder("growth-empty")?);
    check_room(&folder, size)?;
    told(generate(&folder, size)?);
    told(cleaned_up(&bench.folder("growth-small")?)?);
    conversation::prepare(&empty)?;
    for (folder, what) in [(&empty, "an empty file"), (&folder, "as it grew")] {
        told(starts(folder, size, what, |_| {})?);
    }
    told(starts(&folder, size, "as it grew, none of it in memory", forget)?);
    told(counted(&folder)?);
    loads(bench, (&folder, &empty), size, told)
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Size {
    people: usize,
}

impl Size {
    pub(super) fn of(share: f64) -> Self {
        Self { people: ((PEOPLE * share).round() as usize).max(LIVE_EVERY) }
    }

    pub(super) fn people(self) -> usize {
        self.people
    }

    fn live(self) -> usize {
        self.people.div_ceil(LIVE_EVERY)
    }

    fn lines(self) -> usize {
        (self.people - self.live()) * TURNS + self.live() * LIVE_TURNS
    }
}

/// What is generated must not fill a disk that others need.
fn check_room(folder: &Path, size: Size) -> Result<(), Failure> {
    let needed = size.lines() as u64 * LINE_BYTES_MAX;
    let output = Command::new("df").arg("-Pk").arg(folder).stderr(Stdio::null()).output()?;
    // Where nobody tells, it is tried.
    match free_bytes(&String::from_utf8_lossy(&output.stdout)) {
        Some(free) if free < needed => Err(Failure(format!(
            "{} has {} MB free, and {} lines of a log may take {} MB; name another place with --dir, or less with --growth",
            folder.display(),
            free / 1_000_000,
            size.lines(),
            needed / 1_000_000
        ))),
        _ => Ok(()),
    }
}

/// What `df -Pk` says is free.
fn free_bytes(told: &str) -> Option<u64> {
    let available = told.lines().nth(1)?.split_whitespace().nth(3)?;
    available.parse::<u64>().ok()?.checked_mul(1_024)
}

/// Makes the file, and says what is in it. One thread decides while another saves.
pub(super) fn generate(folder: &Path, size: Size) -> Result<Line, Failure> {
    conversation::prepare(folder)?;
    let machine = conversation::machine()?;
    let store = sqlite(folder)?;
    let started = Instant::now();
    std::thread::scope(|scope| {
        // Two groups wait at most, so that memory does not grow with the file.
        let (groups, ready) = sync_channel(1);
        let store = &*store;
        let writer = scope.spawn(move || save_all(store, &ready, size.lines()));
        for first in (0..size.people).step_by(TALKING) {
            let users = first..(first + TALKING).min(size.people);
            // A writer that has ended says why.
            if !talk(&machine, users, |group| groups.send(group).is_ok())? {
                break;
            }
        }
        drop(groups);
        writer.join().unwrap_or_else(|_| Err(Failure("the writer of the benchmark died".into())))
    })?;
    let took = started.elapsed();
    drop(store);
    let (people, live, lines, bytes) = (size.people, size.live(), size.lines(), disk_bytes(folder));
    let mb = bytes / 1_000_000;
    let what = format!("growth: {people} instances, {live} live, {lines} lines, {mb} MB");
    Ok(Line {
        disk_bytes_per_event: Some(bytes as f64 / lines as f64),
        ..Line::rate(&what, lines as f64 / took.as_secs_f64())
    })
}

/// What these people say, turn by turn, until `save` wants no more, which is told.
pub(super) fn talk(
    machine: &Machine,
    users: Range<usize>,
    mut save: impl FnMut(Vec<Commit>) -> bool,
) -> Result<bool, Failure> {
    let now = engine::Clock::System.now();
    let mut before: Vec<Option<Snapshot>> = vec![None; users.len()];
    for turn in 0..TURNS {
        let mut group = Vec::with_capacity(users.len());
        for (user, before) in users.clone().zip(&mut before) {
            if user % LIVE_EVERY == 0 && turn >= LIVE_TURNS {
                continue;
            }
            let commit = decide(machine, before.as_ref(), &conversation::input(user, turn)?, now)
                .map_err(|refusal| Failure(format!("the machine refused it: {}", refusal.message)))?;
            before.clone_from(&commit.after);
            group.push(commit);
        }
        if !save(group) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn save_all(store: &dyn Store, groups: &Receiver<Vec<Commit>>, lines: usize) -> Result<(), Failure> {
    let started = Instant::now();
    let (mut done, mut said) = (0, started);
    for group in groups {
        let outcomes = store.commit(&group).map_err(|error| Failure(error.to_string()))?;
        if let Some(other) = outcomes.iter().find(|outcome| **outcome != Outcome::Committed) {
            return Err(Failure(format!("a commit of the benchmark came to {other:?}")));
        }
        done += group.len();
        if said.elapsed() >= PROGRESS_EVERY {
            said = Instant::now();
            let rate = done as f64 / started.elapsed().as_secs_f64();
            let left = (lines - done) as f64 / rate;
            eprintln!("growth: {done} of {lines} lines, {rate:.0} a second, {left:.0} s left");
        }
    }
    Ok(())
}

/// What is left of each message in a small file when the retention has taken all that it may.
fn cleaned_up(folder: &Path) -> Result<Line, Failure> {
    let size = Size::of(SMALL);
    generate(folder, size)?;
    let before = bytes_in_use(folder)?;
    let store = sqlite(folder)?;
    let far: Timestamp = engine::Clock::System.now().plus(Delay::from_secs(86_400));
    let (started, mut deleted) = (Instant::now(), 0);
    loop {
        let report = store.clean_up(far, 10_000).map_err(|error| Failure(error.to_string()))?;
        deleted += report.entries_deleted;
        if !report.more {
            break;
        }
    }
    let took = started.elapsed();
    drop(store);
    let lines = size.lines() as f64;
    let before = before as f64 / lines;
    Ok(Line {
        disk_bytes_per_event: Some(bytes_in_use(folder)? as f64 / lines),
        ..Line::rate(
            &format!("growth: cleaned up, of {before:.0} B an event in use"),
            deleted as f64 / took.as_secs_f64(),
        )
    })
}

/// Of the file, without the pages that are free for what comes.
fn bytes_in_use(folder: &Path) -> Result<u64, Failure> {
    let connection = Connection::open(folder.join("statewright.db"))?;
    let of = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    Ok(((of("page_count")? - of("freelist_count")?) * of("page_size")?).unsigned_abs())
}

/// From the start of a process to its first durable answer.
fn starts(folder: &Path, size: Size, what: &str, before: impl Fn(&Path)) -> Result<Line, Failure> {
    let mut took_us = Vec::new();
    for _ in 0..STARTS {
        before(folder);
        let began = Instant::now();
        let server = ServerProcess::start(folder)?;
        // Somebody else each time, as what is repeated is answered without a commit.
        let of_their_own = size.people * 2 + usize::try_from(engine::Clock::System.now().as_millis())?;
        Clients::among(server.address, 1, People::New { first: of_their_own })?.first()?;
        took_us.push(u32::try_from(began.elapsed().as_micros()).unwrap_or(u32::MAX));
        server.end()?;
    }
    Ok(lasting(&format!("growth: start, {what}"), &mut took_us))
}

/// Has the system forget what it keeps of the file in memory, where it can be asked to.
fn forget(folder: &Path) {
    let mut command = Command::new("dd");
    command.arg(format!("if={}", folder.join("statewright.db").display()));
    command.args(["iflag=nocache", "count=0", "status=none"]).stdin(Stdio::null()).stderr(Stdio::null());
    let _ = command.status();
}

fn loads(bench: &Bench, (folder, empty): (&Path, &Path), size: Size, told: Told<'_>) -> Result<(), Failure> {
    let (grown, small) = (ServerProcess::start(folder)?, ServerProcess::start(empty)?);
    let new = People::New { first: size.people };
    let met = People::Met { every: LIVE_EVERY, count: size.live() };
    let mut of_grown = Clients::among(grown.address, CLIENTS, new)?;
    let mut of_small = Clients::among(small.address, CLIENTS, new)?;
    let mut of_live = Clients::among(grown.address, CLIENTS, met)?;
    let time = bench.time / ROUNDS;
    let mut at_first = Rounds::default();
    at_first.0.push(round(&mut of_grown, &grown, time)?);
    let is_looked_at = look_ends(&of_grown)?;
    let [mut news, mut empties, mut lives] = [(); 3].map(|()| Rounds::default());
    for _ in 0..ROUNDS {
        empties.0.push(round(&mut of_small, &small, time)?);
        news.0.push(round(&mut of_grown, &grown, time)?);
        lives.0.push(round(&mut of_live, &grown, time)?);
    }
    let floor = empties.per_second();
    let beside = if is_looked_at { "" } else { ", still looked at" };
    told(at_first.line("growth: new people, right after the start").beside("empty", floor));
    told(news.line(&format!("growth: new people, {CLIENTS} clients{beside}")).beside("empty", floor));
    told(
        lives.line(&format!("growth: random live people, {CLIENTS} clients{beside}")).beside("empty", floor),
    );
    told(empties.line("  floor: new people, an empty file"));
    // A server that has much to count tells what it has counted last.
    told(asked("growth: figures, of a server", || of_grown.get("/metrics").map(drop))?);
    small.end()?;
    grown.end()
}

fn round(clients: &mut Clients, server: &ServerProcess, time: Duration) -> Result<Round, Failure> {
    let meter = Meter::start(&server.process);
    let round = clients.round(time)?;
    Ok(Round { spent: meter.spent(), ..round })
}

/// Waits until a server has looked at its file, and says whether it has.
fn look_ends(clients: &Clients) -> Result<bool, Failure> {
    let began = Instant::now();
    // Of a look that was cut short, it says that nothing is known yet.
    while clients.get("/v1/info")?.contains("whether its indices lead to all records") {
        if began.elapsed() >= LOOK_MAX {
            return Ok(false);
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    eprintln!("growth: the file was looked at {:.1} s later", began.elapsed().as_secs_f64());
    Ok(true)
}

/// What counting takes.
fn counted(folder: &Path) -> Result<Line, Failure> {
    let store = sqlite(folder)?;
    let counts = || store.statistics().map(drop).map_err(|error| Failure(error.to_string()));
    asked("growth: all counted, in process", counts)
}

/// One after the other, how long each takes.
fn asked(what: &str, ask: impl Fn() -> Result<(), Failure>) -> Result<Line, Failure> {
    let mut took_us = Vec::new();
    for _ in 0..STARTS {
        let began = Instant::now();
        ask()?;
        took_us.push(u32::try_from(began.elapsed().as_micros()).unwrap_or(u32::MAX));
    }
    Ok(lasting(what, &mut took_us))
}

/// The line of something that is done seldom: how long it takes is the figure, and the rate only follows from it.
fn lasting(what: &str, took_us: &mut [u32]) -> Line {
    let (p50_ms, _) = percentiles(took_us);
    Line { p50_ms, ..Line::rate(what, p50_ms.map_or(0.0, |ms| 1_000.0 / ms)) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    #[test]
    fn what_is_generated_is_what_the_line_says() {
        let folder = tempfile::TempDir::new().unwrap();
        let size = Size::of(0.000_01);
        assert_eq!((size.people, size.live(), size.lines()), (110, 10, 630));
        let line = generate(folder.path(), size).unwrap();
        assert!(line.what.starts_with("growth: 110 instances, 10 live, 630 lines, "), "{}", line.what);
        let figures = sqlite(folder.path()).unwrap().statistics().unwrap();
        assert_eq!(figures.open.values().sum::<u64>(), 10);
        assert_eq!(figures.closed.values().sum::<u64>(), 100);
        let file = Connection::open(folder.path().join("statewright.db")).unwrap();
        assert_eq!(file.query_row("SELECT count(*) FROM log", (), |row| row.get(0)), Ok(630));
    }

    #[test]
    fn room_is_what_the_system_says_is_free() {
        let told =
            "Filesystem 1024-blocks Used Available Capacity Mounted on\n/dev/vda 263174212 5 42 55% /\n";
        assert_eq!(free_bytes(told), Some(42 * 1_024));
        assert_eq!(free_bytes("df: no such place"), None);
        let folder = tempfile::TempDir::new().unwrap();
        assert!(check_room(folder.path(), Size::of(0.000_01)).is_ok());
        let Err(Failure(told)) = check_room(folder.path(), Size::of(1e6)) else { panic!("it has room") };
        assert!(told.contains("MB free, and "), "{told}");
    }
}
