//! What it costs the shard that a commit is counted and told, and its input traced, beside deciding on it. Five
//! microseconds are allowed.

use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use engine::Engine;
use engine::stream::Happening;
use engine::traces::Traced;
use kernel::commit::Commit;
use kernel::trace::Trace;
use store::MemoryStore;

use crate::command::Failure;
use crate::command::bench::line::Line;
use crate::command::bench::{Bench, Told, conversation, decided};
use crate::telemetry::{fresh_span, fresh_trace_id};

const USERS: usize = 500;
const ROUNDS: usize = 40;
const TRACED_ROUNDS: usize = 20;
/// As many as a server lets wait.
const NOTED_MAX: usize = 4_096;

pub(super) fn measure(_: &Bench, told: Told<'_>) -> Result<(), Failure> {
    let engine = conversation::engine(Arc::new(MemoryStore::new()))?;
    let mut commits = Vec::new();
    let began = Instant::now();
    decided::conversations("default", USERS, USERS, |_, commit, _| commits.push(commit))?;
    let deciding = line("  floor: deciding on one, and writing it as JSON", commits.len(), began.elapsed());
    let began = Instant::now();
    for _ in 0..ROUNDS {
        for commit in &commits {
            engine.metrics().count_commit("progress_update", "message", commit);
        }
    }
    told(line("counting: one commit, in all its figures", commits.len() * ROUNDS, began.elapsed()));
    told(telling(&engine, &commits));
    told(tracing()?);
    told(deciding);
    Ok(())
}

/// How much longer a message takes in the engine if its trace is recorded: the best of some rounds with, less the best
/// without. Whoever makes spans of what is noted has a thread of its own.
fn tracing() -> Result<Line, Failure> {
    let (noted, waiting) = sync_channel(NOTED_MAX);
    let drain = std::thread::spawn(move || waiting.iter().for_each(drop::<Box<Traced>>));
    let (mut plain, mut traced) = (Duration::MAX, Duration::MAX);
    for round in 0..2 * TRACED_ROUNDS {
        let engine = conversation::engine(Arc::new(MemoryStore::new()))?;
        let is_traced = round % 2 == 1;
        if is_traced {
            let noted = noted.clone();
            engine.trace(move |traced| {
                // As a server does: what does not fit is let go.
                let _ = noted.try_send(Box::new(traced));
            });
        }
        let best = if is_traced { &mut traced } else { &mut plain };
        *best = spoken(&engine)?.min(*best);
    }
    drop(noted);
    let _ = drain.join();
    let messages = USERS * conversation::TURNS;
    Ok(line("counting: what a message takes longer that is traced", messages, traced.saturating_sub(plain)))
}

/// All conversations from the first message to the last, each turn of all users together.
fn spoken(engine: &Engine) -> Result<Duration, Failure> {
    let trace = Trace { id: fresh_trace_id(), span: fresh_span(), sampled: true };
    let mut took = Duration::ZERO;
    for turn in 0..conversation::TURNS {
        let inputs: Result<Vec<_>, _> = (0..USERS).map(|user| conversation::input(user, turn)).collect();
        let mut inputs = inputs?;
        inputs.iter_mut().for_each(|input| input.trace = Some(trace.clone()));
        let began = Instant::now();
        let answers = engine.call_all(inputs);
        took += began.elapsed();
        for answered in answers {
            answered.map_err(|error| Failure(error.to_string()))?;
        }
    }
    Ok(took)
}

/// What is told is taken out of the commit, so that it is there before the clock starts.
fn telling(engine: &Engine, commits: &[Commit]) -> Line {
    let mut took = Duration::ZERO;
    for _ in 0..ROUNDS {
        let ready: Vec<Happening> = commits.iter().map(happening).collect();
        let began = Instant::now();
        ready.into_iter().for_each(|happening| engine.feed().tell(happening));
        took += began.elapsed();
    }
    line("counting: telling one commit, with nobody listening", commits.len() * ROUNDS, took)
}

fn happening(commit: &Commit) -> Happening {
    let entry = commit.entry.clone();
    let after = commit.after.as_ref();
    Happening {
        tenant: commit.tenant.clone(),
        instance: commit.instance.clone(),
        machine: after.map(|after| after.machine.clone()),
        version: after.map(|after| after.version),
        revision: entry.revision,
        at: entry.at,
        from: entry.from,
        to: entry.to,
        event: entry.event,
        success: entry.success,
        code: entry.code,
        closure_reason: None,
        looping: entry.looping,
        subject: after.and_then(|after| after.subject.clone()),
    }
}

fn line(what: &str, events: usize, took: Duration) -> Line {
    let each = took.as_secs_f64() / events as f64;
    Line { cpu_us_per_event: Some(each * 1e6), ..Line::rate(what, 1.0 / each) }
}
