//! One person whose messages do not wait for their answers: so many in flight, taken in the order of sending.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use engine::Engine;
use kernel::commit::Answer;
use kernel::id::{InputKey, InstanceId, Revision};
use kernel::input::Input;

use crate::command::Failure;
use crate::command::bench::conversation::{engine, input_of, prepare, sqlite, words};
use crate::command::bench::floor::Floors;
use crate::command::bench::line::Round;
use crate::command::bench::process::Meter;
use crate::command::bench::{Bench, Told};

const IN_FLIGHT: usize = 64;

pub(super) fn measure(bench: &Bench, told: Told<'_>) -> Result<(), Failure> {
    let folder = bench.folder("hot")?;
    let before = prepare(&folder)?;
    let floors = Floors::open(&bench.scratch, "hot", IN_FLIGHT)?;
    let engine = engine(sqlite(&folder)?)?;
    let mut sent = 0;
    let turns = floors.by_turns(bench.time, |time| round(&engine, &mut sent, time))?;
    drop(engine);
    turns.tell(&format!("hot: one user, {IN_FLIGHT} messages in flight"), &folder, before, told);
    Ok(())
}

/// An answer: the number of its message, where it left the session, and how long it took.
struct Answered {
    number: usize,
    session: InstanceId,
    revision: Revision,
    took: Duration,
}

/// Goes on with the message after those that were sent before.
fn round(engine: &Engine, sent: &mut usize, time: Duration) -> Result<Round, Failure> {
    let (sender, receiver) = std::sync::mpsc::channel();
    let send = |number: usize| -> Result<(), Failure> {
        let (sender, at) = (sender.clone(), Instant::now());
        engine.submit(message(number)?, move |answered| {
            let answer = match answered.as_ref().map(|submitted| &*submitted.answer) {
                Ok(Answer::Message(answer)) => Some(Answered {
                    number,
                    session: answer.session_id.clone(),
                    revision: answer.revision,
                    took: at.elapsed(),
                }),
                _ => None,
            };
            let _ = sender.send(answer);
        });
        Ok(())
    };
    let first = *sent;
    let batches = engine.metrics().batches();
    let meter = Meter::start_own();
    let started = Instant::now();
    for _ in 0..IN_FLIGHT {
        send(*sent)?;
        *sent += 1;
    }
    let mut answers = Vec::new();
    while answers.len() < *sent - first {
        match receiver.recv() {
            Ok(Some(answer)) => answers.push(answer),
            _ => return Err(Failure("the engine refused a message of the benchmark".into())),
        }
        if started.elapsed() < time {
            send(*sent)?;
            *sent += 1;
        }
    }
    // Whole conversations are not awaited: the next round goes on in the session where this one ends.
    let (elapsed, spent) = (started.elapsed(), meter.spent());
    let groups = Some(engine.metrics().batches() - batches);
    answers.sort_by_key(|answer| answer.number);
    check_order(answers.iter().map(|answer| (&answer.session, answer.revision.0)))?;
    let micros = |answer: &Answered| u32::try_from(answer.took.as_micros()).unwrap_or(u32::MAX);
    let latencies_us = answers.iter().map(micros).collect();
    Ok(Round { events: answers.len(), elapsed, latencies_us, groups, spent, is_awaited: true })
}

fn message(number: usize) -> Result<Input, Failure> {
    let key = InputKey::parse(&format!("m{number}")).map_err(Failure)?;
    Ok(Input { key, ..input_of("progress_update", 0, words(number))? })
}

/// Of answers in the order in which their messages were sent: each goes on where the one before left the session, or
/// begins a session that was never there.
fn check_order<'a, Id: Eq + std::hash::Hash + 'a>(
    answers: impl Iterator<Item = (&'a Id, u64)>,
) -> Result<(), Failure> {
    let mut over = HashSet::new();
    let mut last: Option<(&Id, u64)> = None;
    for (session, revision) in answers {
        let is_next = match last {
            Some((before, reached)) if before == session => revision == reached + 1,
            Some((before, _)) => {
                over.insert(before);
                revision == 1 && !over.contains(session)
            }
            None => true,
        };
        if !is_next {
            return Err(Failure(format!(
                "one user's messages were taken out of order, at revision {revision}"
            )));
        }
        last = Some((session, revision));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_in_order_when_each_goes_on_where_the_last_ended() {
        for (answers, is_in_order) in [
            (&[("a", 4), ("a", 5), ("b", 1), ("b", 2)][..], true),
            (&[], true),
            (&[("a", 1), ("a", 3)], false),
            (&[("a", 2), ("a", 1)], false),
            (&[("a", 1), ("a", 1)], false),
            (&[("a", 1), ("b", 2)], false),
            (&[("a", 1), ("b", 1), ("a", 1)], false),
        ] {
            let answers = answers.iter().map(|(session, revision)| (session, *revision));
            assert_eq!(check_order(answers).is_ok(), is_in_order);
        }
    }
}
