//! What a transition of a phase costs: in a flow of six phases, and in one of five hundred with two thousand needs.
//!
//! Half of each flow is completed, and one phase after another is started, completed and rolled back. The large flow
//! stands beside the small one: its share of the small one's rate is what is to be looked at.

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::{Clock, Engine, Machines, Settings};
use kernel::commit::Answer;
use kernel::decide::decide;
use kernel::definition;
use kernel::id::{InputKey, InstanceId, TenantId};
use kernel::input::{Cause, Fields, Input, Start};
use kernel::machine::Machine;
use kernel::time::Timestamp;

use crate::command::Failure;
use crate::command::bench::line::{Line, Round, Rounds};
use crate::command::bench::process::Meter;
use crate::command::bench::{Bench, Told, conversation, disk_bytes};

const TIME: Duration = Duration::from_millis(700);
/// Phases, and how many of those before it each needs at most.
const SMALL: (usize, usize) = (6, 2);
const LARGE: (usize, usize) = (500, 4);
const ROUND: [&str; 3] = ["start", "complete", "rollback"];

pub(super) fn measure(bench: &Bench, say: Told<'_>) -> Result<(), Failure> {
    let small = in_memory(SMALL)?;
    say(Line::rate("kernel: a phase's transition in a flow of 6 phases", small));
    let large = in_memory(LARGE)?;
    say(Line::rate("kernel: the same in a flow of 500 phases, 2,000 needs", large).beside("6 phases", small));
    for in_flight in [1, 32] {
        let what = format!("engine: durable transitions of 6 phases, {in_flight} in flight");
        let folder = bench.folder(&format!("flow-6-{in_flight}"))?;
        let small = durable(&what, &folder, SMALL, in_flight, bench.time)?;
        let floor = small.per_second;
        say(small);
        let what = format!("engine: the same of 500 phases, {in_flight} in flight");
        let folder = bench.folder(&format!("flow-500-{in_flight}"))?;
        say(durable(&what, &folder, LARGE, in_flight, bench.time)?.beside("6 phases", floor));
    }
    Ok(())
}

/// Each phase needs the last few before it at growing distances, so that there are chains and there is breadth.
fn definition((phases, needs): (usize, usize)) -> String {
    let mut source = "flow: large\nphases:\n".to_owned();
    for at in 0..phases {
        let distances = (0..needs).map(|n| 1 + n * 7 + at % 3);
        let needed: Vec<String> =
            distances.filter_map(|back| at.checked_sub(back)).map(|before| format!("p{before}")).collect();
        source.push_str(&format!("  p{at}: {{ needs: [{}] }}\n", needed.join(", ")));
    }
    source
}

fn load(shape: (usize, usize)) -> Result<Machine, Failure> {
    let (machine, diagnostics) = definition::load(&definition(shape));
    machine.ok_or_else(|| Failure(format!("the benchmark's own flow is wrong: {diagnostics:?}")))
}

fn input(key: String, cause: Cause) -> Result<Input, Failure> {
    let key = InputKey::parse(&key).map_err(Failure)?;
    let tenant = TenantId::default_tenant();
    Ok(Input { tenant, key, cause, expected: None, by: Some("bench".into()), trace: None })
}

fn instance(number: usize) -> Result<InstanceId, Failure> {
    InstanceId::parse(&format!("flow-{number}")).map_err(Failure)
}

fn begun(machine: &Machine, number: usize) -> Result<Input, Failure> {
    let cause = Cause::Create {
        machine: machine.name.clone(),
        id: Some(instance(number)?),
        subject: None,
        context: Fields::new(),
        start: Start::default(),
    };
    input(format!("begin-{number}"), cause)
}

/// What completes the first half of the phases.
fn first_half(phases: usize, number: usize) -> impl Iterator<Item = Result<Input, Failure>> {
    let events = (0..phases / 2).flat_map(|at| ["start", "complete"].map(|action| format!("p{at}.{action}")));
    events.map(move |event| {
        let key = format!("{number}-{event}");
        input(key, Cause::Event { instance: instance(number)?, event, payload: Fields::new() })
    })
}

/// The next of `start`, `complete` and `rollback` of the first phase that is not completed.
fn next(phases: usize, number: usize, step: usize) -> Result<Input, Failure> {
    let event = format!("p{}.{}", phases / 2, ROUND[step % ROUND.len()]);
    let cause = Cause::Event { instance: instance(number)?, event, payload: Fields::new() };
    input(format!("{number}-{step}"), cause)
}

fn in_memory(shape: (usize, usize)) -> Result<f64, Failure> {
    let machine = load(shape)?;
    let now = Timestamp::from_millis(0);
    let refused = |refusal| Failure(format!("the benchmark's own action was refused: {refusal:?}"));
    let mut before = decide(&machine, None, &begun(&machine, 0)?, now).map_err(refused)?.after;
    for input in first_half(shape.0, 0) {
        before = decide(&machine, before.as_ref(), &input?, now).map_err(refused)?.after;
    }
    let inputs: Vec<Input> = (0..ROUND.len()).map(|step| next(shape.0, 0, step)).collect::<Result<_, _>>()?;
    let started = Instant::now();
    let mut done = 0_usize;
    while started.elapsed() < TIME {
        for input in &inputs {
            let commit = decide(&machine, before.as_ref(), input, now).map_err(refused)?;
            black_box(&commit);
            before = commit.after;
        }
        done += inputs.len();
    }
    Ok(done as f64 / started.elapsed().as_secs_f64())
}

fn durable(
    what: &str,
    folder: &Path,
    shape: (usize, usize),
    in_flight: usize,
    time: Duration,
) -> Result<Line, Failure> {
    begin(&engine(folder, shape)?, shape, in_flight)?;
    // All is closed meanwhile, so that the file has what it took to come this far.
    let before = disk_bytes(folder);
    let engine = engine(folder, shape)?;
    let round = transitions(&engine, shape, in_flight, time)?;
    drop(engine);
    let grown = disk_bytes(folder).saturating_sub(before) as f64 / round.events.max(1) as f64;
    Ok(Line { disk_bytes_per_event: Some(grown), ..Rounds(vec![round]).line(what) })
}

fn engine(folder: &Path, shape: (usize, usize)) -> Result<Engine, Failure> {
    let store = conversation::sqlite(folder)?;
    let machines = Machines::default();
    machines.activate(&*store, &definition(shape), Clock::System.now())?;
    Ok(Engine::start(store, Arc::new(machines), Clock::System, Settings::default()))
}

/// Begins so many flows and completes the first half of each.
fn begin(engine: &Engine, shape: (usize, usize), in_flight: usize) -> Result<(), Failure> {
    let machine = load(shape)?;
    for number in 0..in_flight {
        taken(&engine.call(begun(&machine, number)?))?;
    }
    let halves = (0..in_flight).map(|number| first_half(shape.0, number).collect());
    let halves: Vec<Vec<Input>> = halves.collect::<Result<_, _>>()?;
    // All flows side by side, so that they share commits.
    for step in 0..halves.first().map_or(0, Vec::len) {
        let (sender, receiver) = std::sync::mpsc::channel();
        for half in &halves {
            let sender = sender.clone();
            engine.submit(half[step].clone(), move |answered| {
                let _ = sender.send(taken(&answered));
            });
        }
        drop(sender);
        receiver.iter().collect::<Result<Vec<()>, Failure>>()?;
    }
    Ok(())
}

fn transitions(
    engine: &Engine,
    shape: (usize, usize),
    in_flight: usize,
    time: Duration,
) -> Result<Round, Failure> {
    let (sender, receiver) = std::sync::mpsc::channel();
    let send = |number: usize, step: usize| -> Result<(), Failure> {
        let (sender, at) = (sender.clone(), Instant::now());
        engine.submit(next(shape.0, number, step)?, move |answered| {
            let _ = sender.send((number, step, at.elapsed(), taken(&answered).is_ok()));
        });
        Ok(())
    };
    let batches = engine.metrics().batches();
    let meter = Meter::start_own();
    let started = Instant::now();
    for number in 0..in_flight {
        send(number, 0)?;
    }
    let (mut latencies_us, mut open) = (Vec::new(), in_flight);
    while open > 0 {
        let Ok((number, step, took, taken)) = receiver.recv() else { break };
        if !taken {
            return Err(Failure("the engine refused an action of the benchmark".into()));
        }
        latencies_us.push(u32::try_from(took.as_micros()).unwrap_or(u32::MAX));
        match started.elapsed() < time {
            true => send(number, step + 1)?,
            false => open -= 1,
        }
    }
    let (elapsed, spent) = (started.elapsed(), meter.spent());
    let groups = Some(engine.metrics().batches() - batches);
    Ok(Round { events: latencies_us.len(), elapsed, latencies_us, groups, spent, is_awaited: true })
}

fn taken(answered: &engine::Answered) -> Result<(), Failure> {
    match answered {
        Ok(submitted) if matches!(&*submitted.answer, Answer::Event(_)) => Ok(()),
        other => Err(Failure(format!("the benchmark's own action was not taken: {other:?}"))),
    }
}
