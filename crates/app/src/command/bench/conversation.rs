//! The engine in process: conversations of six messages, durable in a store, so many in flight.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use engine::{Clock, Engine, Machines, Settings};
use kernel::commit::Answer;
use kernel::conversation::Message;
use kernel::definition;
use kernel::id::{InputKey, MachineName, Subject, TenantId};
use kernel::input::{Cause, Input};
use kernel::machine::Machine;
use store::{SqliteStore, Store};

use crate::command::Failure;
use crate::command::bench::floor::Floors;
use crate::command::bench::line::Round;
use crate::command::bench::process::Meter;
use crate::command::bench::{Bench, Told, disk_bytes};

const IN_FLIGHT: [usize; 4] = [1, 32, 256, 1_024];
/// Messages in a conversation, the first and the last included.
pub(super) const TURNS: usize = 6;
const WORDS: [&str; TURNS] =
    ["update", "Task 12", "the wall is painted", "and the door as well", "done", "yes"];
pub(super) const DEFINITION: &str = include_str!("../../../../../machines/progress_update.yaml");

pub(super) fn machine() -> Result<Machine, Failure> {
    let (machine, diagnostics) = definition::load(DEFINITION);
    machine.ok_or_else(|| Failure(format!("the shipped machine is wrong: {diagnostics:?}")))
}

pub(super) fn words(turn: usize) -> &'static str {
    WORDS[turn % TURNS]
}

pub(super) fn input(user: usize, turn: usize) -> Result<Input, Failure> {
    let input = input_of("progress_update", user, words(turn))?;
    Ok(Input { key: InputKey::parse(&format!("m{turn}")).map_err(Failure)?, ..input })
}

/// A user's message.
pub(super) fn input_of(machine: &str, user: usize, text: &str) -> Result<Input, Failure> {
    Ok(Input {
        tenant: TenantId::default_tenant(),
        key: InputKey::parse("m").map_err(Failure)?,
        cause: Cause::Message {
            machine: MachineName::parse(machine).map_err(Failure)?,
            subject: Subject::parse(&format!("user-{user}")).map_err(Failure)?,
            message: Message::of_text(text),
        },
        expected: None,
        by: None,
        trace: None,
    })
}

pub(super) fn sqlite(folder: &Path) -> Result<Arc<dyn Store>, Failure> {
    let store =
        SqliteStore::open(&folder.join("statewright.db")).map_err(|error| Failure(error.to_string()))?;
    Ok(Arc::new(store))
}

pub(super) fn engine(store: Arc<dyn Store>) -> Result<Engine, Failure> {
    let machines = Machines::default();
    machines.activate(&*store, DEFINITION, Clock::System.now())?;
    Ok(Engine::start(store, Arc::new(machines), Clock::System, Settings::default()))
}

/// Whoever has spoken to an engine of this process: with anybody else over the same store, a message is no repeat.
static USERS: AtomicUsize = AtomicUsize::new(0);

/// Conversations with one engine, round after round.
pub(super) struct Conversations {
    engine: Engine,
    in_flight: usize,
}

impl Conversations {
    pub fn over(store: Arc<dyn Store>, in_flight: usize) -> Result<Self, Failure> {
        Ok(Self { engine: engine(store)?, in_flight })
    }

    /// So many users at a time, each sending the next message as soon as the last is answered.
    pub fn round(&mut self, time: Duration) -> Result<Round, Failure> {
        let Self { engine, in_flight } = self;
        let engine = &*engine;
        let stop = AtomicBool::new(false);
        let threads = (*in_flight).min(2);
        let batches = engine.metrics().batches();
        let meter = Meter::start_own();
        let started = Instant::now();
        let results: Vec<Result<Vec<u32>, Failure>> = std::thread::scope(|scope| {
            let drivers: Vec<_> = (0..threads)
                .map(|_| scope.spawn(|| drive(engine, &USERS, &stop, *in_flight / threads)))
                .collect();
            std::thread::sleep(time);
            stop.store(true, Ordering::Relaxed);
            let lost = || Err(Failure("a driver of the benchmark died".into()));
            drivers.into_iter().map(|driver| driver.join().unwrap_or_else(|_| lost())).collect()
        });
        let (elapsed, spent) = (started.elapsed(), meter.spent());
        let mut latencies_us = Vec::new();
        for result in results {
            latencies_us.extend(result?);
        }
        let groups = Some(engine.metrics().batches() - batches);
        let events = latencies_us.len();
        Ok(Round { events, elapsed, latencies_us, groups, spent, is_awaited: true })
    }
}

/// The engine over SQLite, so many in flight, beside the floors.
pub(super) fn measure(bench: &Bench, told: Told<'_>) -> Result<(), Failure> {
    for in_flight in IN_FLIGHT {
        let folder = bench.folder(&format!("engine-{in_flight}"))?;
        let before = prepare(&folder)?;
        let floors = Floors::open(&bench.scratch, &format!("engine-{in_flight}"), in_flight)?;
        let mut conversations = Conversations::over(sqlite(&folder)?, in_flight)?;
        let turns = floors.by_turns(bench.time, |time| conversations.round(time))?;
        drop(conversations);
        let what = format!("engine: durable messages in process, {in_flight} in flight");
        turns.tell(&what, &folder, before, told);
    }
    Ok(())
}

/// A file with the machine and nothing else, closed again: what it takes before the first message.
pub(super) fn prepare(folder: &Path) -> Result<u64, Failure> {
    drop(engine(sqlite(folder)?)?);
    Ok(disk_bytes(folder))
}

/// One thread keeps `in_flight` conversations going and collects how long each answer took, in microseconds.
fn drive(
    engine: &Engine,
    users: &AtomicUsize,
    stop: &AtomicBool,
    in_flight: usize,
) -> Result<Vec<u32>, Failure> {
    let (sender, receiver) = std::sync::mpsc::channel();
    let send = |user: usize, turn: usize| -> Result<(), Failure> {
        let (sender, at) = (sender.clone(), Instant::now());
        engine.submit(input(user, turn)?, move |answered| {
            let taken = answered.is_ok_and(|s| matches!(&*s.answer, Answer::Message(_)));
            let _ = sender.send((user, turn, at.elapsed(), taken));
        });
        Ok(())
    };
    for _ in 0..in_flight.max(1) {
        send(users.fetch_add(1, Ordering::Relaxed), 0)?;
    }
    let mut latencies = Vec::new();
    let mut open = in_flight.max(1);
    while open > 0 {
        let Ok((user, turn, took, taken)) = receiver.recv() else {
            break;
        };
        if !taken {
            return Err(Failure("the engine refused a message of the benchmark".into()));
        }
        latencies.push(u32::try_from(took.as_micros()).unwrap_or(u32::MAX));
        if stop.load(Ordering::Relaxed) {
            open -= 1;
        } else if turn + 1 < TURNS {
            send(user, turn + 1)?;
        } else {
            send(users.fetch_add(1, Ordering::Relaxed), 0)?;
        }
    }
    Ok(latencies)
}
