//! An instance that comes from another system, and stands here where it stood there.
//!
//! What its states do when they are entered was done there. Its timers have run since it last changed there, so that one
//! that should have fired meanwhile is due at once; calls that its states wait for are made again.

use crate::chart::{ROOT, StateIndex};
use crate::commit::Commit;
use crate::decide::turn::Turn;
use crate::diagnostic::nearest;
use crate::id::Revision;
use crate::input::Former;
use crate::machine::Machine;
use crate::refusal::{Refusal, RefusalCode};
use crate::time::Timestamp;

/// What it is called in a log.
const IMPORT: &str = "import";

/// # Errors
/// When it could not have stood so.
pub(super) fn bring_in(mut turn: Turn<'_>, former: &Former) -> Result<Commit, Refusal> {
    let states = states(turn.machine, &former.state)?;
    for (name, at) in [("began_at", former.began_at), ("changed_at", former.changed_at)] {
        if let Some(at) = at.filter(|at| *at > turn.now) {
            return Err(unfit(format!("`{name}` is {at}, which is to come")));
        }
    }
    let since = former.changed_at.or(former.began_at).unwrap_or(turn.now);
    turn.after.created_at = former.began_at.unwrap_or(since).min(since);
    speak(&mut turn, former)?;
    turn.stand(&states, since, IMPORT)?;
    match (&mut turn.trail.closed, &former.reason) {
        (Some(closed), Some(reason)) => *closed = reason.as_str().into(),
        (None, Some(reason)) => {
            let message = format!("it ended there ({reason}), and `{}` is not final here", former.state);
            return Err(unfit(message));
        }
        (_, None) => {}
    }
    if let Some(expires_at) = former.expires_at {
        expire(&mut turn, expires_at)?;
    }
    Ok(turn.commit_event(IMPORT, None))
}

fn unfit(message: impl Into<String>) -> Refusal {
    Refusal::new(RefusalCode::InvalidContext, Revision::NONE, message)
}

/// What a conversation knows beside its context. A language that it does not speak is that of the next message.
fn speak(turn: &mut Turn<'_>, former: &Former) -> Result<(), Refusal> {
    let Some(conversation) = &turn.machine.conversation else { return Ok(()) };
    let locale = former.locale.as_deref().and_then(|tag| conversation.base_locale(tag));
    turn.session.locale = locale.map(str::to_owned);
    if let Some(topic) = &former.topic {
        let known: Vec<&str> = conversation.intents.iter().filter_map(|i| i.starts.as_deref()).collect();
        if !known.contains(&topic.as_str()) {
            let help = nearest(topic, known.into_iter());
            return Err(unfit(format!("no intent starts `{topic}`; {help}")));
        }
        turn.session.topic = Some(topic.clone());
    }
    Ok(())
}

/// The states that are named, each in another region.
fn states(machine: &Machine, named: &str) -> Result<Vec<StateIndex>, Refusal> {
    let chart = &machine.chart;
    let mut states: Vec<StateIndex> = Vec::new();
    for path in named.split(',') {
        let state = chart.by_path(path).filter(|state| *state != ROOT && !chart.is_history(*state));
        let Some(state) = state else {
            let known = chart.states.iter().skip(1).map(|state| &*state.path);
            let help = nearest(path, known);
            return Err(unfit(format!("the machine `{}` has no state `{path}`; {help}", machine.name)));
        };
        if let Some(other) = states.iter().find(|other| !chart.are_orthogonal(state, **other)) {
            let other = &chart.state(*other).path;
            return Err(unfit(format!("`{other}` and `{path}` cannot be active together")));
        }
        states.push(state);
    }
    Ok(states)
}

/// The first of the top's delays is over at that time, and the others as much later as they are longer.
fn expire(turn: &mut Turn<'_>, at: Timestamp) -> Result<(), Refusal> {
    if turn.trail.closed.is_some() {
        return Ok(());
    }
    let chart = &turn.machine.chart;
    let delays = &chart.state(ROOT).after;
    let Some(first) = delays.iter().map(|(delay, _)| *delay).min() else {
        let message = "`expires_at` is given, and the machine has no `after` at its top that would end it";
        return Err(unfit(message));
    };
    for (delay, event) in delays {
        let later = delay.as_millis() - first.as_millis();
        let deadline = Timestamp::from_millis(at.as_millis().saturating_add(later));
        let id = chart.event_name(*event);
        let timers = turn.position.timers.iter_mut().filter(|timer| timer.id == *id);
        timers.for_each(|timer| timer.deadline = deadline);
    }
    Ok(())
}
