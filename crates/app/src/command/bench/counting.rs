//! What it costs the shard that a commit is counted and told, beside deciding on it. Five microseconds are allowed.

use std::time::{Duration, Instant};

use engine::Engine;
use engine::stream::Happening;
use kernel::commit::Commit;
use store::MemoryStore;

use crate::command::Failure;
use crate::command::bench::line::Line;
use crate::command::bench::{Bench, Told, conversation, decided};

const USERS: usize = 500;
const ROUNDS: usize = 40;

pub(super) fn measure(_: &Bench, told: Told<'_>) -> Result<(), Failure> {
    let engine = conversation::engine(std::sync::Arc::new(MemoryStore::new()))?;
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
    told(deciding);
    Ok(())
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
