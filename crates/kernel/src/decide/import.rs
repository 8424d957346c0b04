//! An instance that comes from another system, and stands here where it stood there.
//!
//! What its states do when they are entered was done there. Its timers have run since it last changed there, so that one
//! that should have fired meanwhile is due at once; calls that its states wait for are made again.
//! As long as nothing but time has touched it here, a later record comes in its place, or it is withdrawn.

use crate::chart::{Apart, ROOT, StateIndex};
use crate::commit::{Commit, EntryCause};
use crate::decide::turn::Turn;
use crate::diagnostic::nearest;
use crate::id::{Digest, Revision, Subject};
use crate::input::{Cause, Former, Input};
use crate::machine::Machine;
use crate::refusal::{Refusal, RefusalCode};
use crate::snapshot::{BroughtIn, Snapshot};
use crate::time::Timestamp;

/// What it is called in a log.
const IMPORT: &str = "import";

/// What it is called that one is withdrawn, and why it is over then.
pub(super) const WITHDRAW: &str = "withdraw";
const WITHDRAWN: &str = "withdrawn";

/// In the place of what was brought in before under the same id: what an earlier record said, and what time has made of
/// that, is gone.
///
/// # Errors
/// When it is no longer the other system's, when the record is not a later one of the same session, or could not have
/// stood so.
pub(super) fn again(
    machine: &Machine,
    before: &Snapshot,
    input: &Input,
    now: Timestamp,
    former: &Former,
) -> Result<Commit, Refusal> {
    let Cause::Create { subject, context, start, .. } = &input.cause else {
        return Err(unfit("it is no creation"));
    };
    if let Err(why) = check_again(machine, before, subject.as_ref(), former, former.digest(context)) {
        let message =
            format!("the instance `{}` exists and is in `{}`{why}", before.instance, before.state());
        return Err(Refusal::new(RefusalCode::InstanceExists, before.revision, message));
    }
    let talks = machine.conversation.is_some();
    if machine.flow.is_some() || (subject.is_some() && before.conversation.is_some() != talks) {
        let message =
            format!("`{}` has become another kind of machine since it was brought in", machine.name);
        return Err(Refusal::new(RefusalCode::InvalidContext, before.revision, message));
    }
    let (instance, ordinal) = (before.instance.clone(), before.ordinal);
    let mut turn = Turn::begin(machine, input, now, instance, subject.clone(), ordinal, context)?;
    turn.replace(before);
    let brought_in = bring_in(turn, former);
    let mut commit = brought_in.map_err(|refusal| Refusal { revision: before.revision, ..refusal })?;
    let definition = (before.definition != machine.hash).then(|| machine.hash.clone());
    commit.entry.cause = Some(EntryCause::Again { start: start.clone(), definition });
    Ok(commit)
}

/// Why a record cannot come in the place of an instance, in words that go on from where that is.
fn check_again(
    machine: &Machine,
    before: &Snapshot,
    subject: Option<&Subject>,
    former: &Former,
    says: Digest,
) -> Result<(), String> {
    if before.machine != machine.name {
        return Err(format!(" of `{}`", before.machine));
    }
    match &before.brought_in {
        None => Err(String::new()),
        Some(BroughtIn::GoneOn) => Err("; it has gone on here since it was brought in".to_owned()),
        _ if before.subject.as_ref() != subject => {
            let whose = before.subject.as_ref().map_or("nobody".to_owned(), |whose| format!("`{whose}`"));
            Err(format!("; it was brought in as a session of {whose}"))
        }
        Some(BroughtIn::Untouched { record, .. }) if *record == says => {
            Err("; its record said the same when it was brought in".to_owned())
        }
        Some(BroughtIn::Untouched { changed_at: Some(known), .. })
            if former.changed_at.is_some_and(|changed_at| changed_at < *known) =>
        {
            Err(format!(
                "; it was brought in from a record that changed later, at {known}; an earlier one is taken once that is undone"
            ))
        }
        Some(BroughtIn::Untouched { .. } | BroughtIn::Withdrawn) => Ok(()),
    }
}

/// It is over, and nothing is done on the way out. Its record may be brought in again.
///
/// # Errors
/// When it was not brought in, has gone on here since, or is withdrawn already.
pub(super) fn withdraw(
    machine: &Machine,
    before: &Snapshot,
    input: &Input,
    now: Timestamp,
) -> Result<Commit, Refusal> {
    let why = match &before.brought_in {
        Some(BroughtIn::Untouched { .. }) => None,
        Some(BroughtIn::Withdrawn) => Some("is withdrawn already"),
        Some(BroughtIn::GoneOn) => Some("has gone on here since it was brought in"),
        None => Some("was not brought in from another system"),
    };
    if let Some(why) = why {
        let message = format!("the instance `{}` {why}, and is in `{}`", before.instance, before.state());
        return Err(Refusal::new(RefusalCode::InstanceExists, before.revision, message));
    }
    let mut turn = Turn::resume(machine, before, input, now)?;
    turn.position.invocations.clear();
    turn.trail.closed = Some(WITHDRAWN.into());
    Ok(turn.commit_event(WITHDRAW, None))
}

/// # Errors
/// When it could not have stood so.
pub(super) fn bring_in(mut turn: Turn<'_>, former: &Former) -> Result<Commit, Refusal> {
    if let Cause::Create { context, .. } = &turn.input.cause {
        let (record, changed_at) = (former.digest(context), former.changed_at);
        turn.after.brought_in = Some(BroughtIn::Untouched { record, changed_at });
    }
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
    chart.together(named.split(',')).map_err(|apart| match apart {
        Apart::Unknown(path) => {
            let help = nearest(path, chart.states.iter().skip(1).map(|state| &*state.path));
            unfit(format!("the machine `{}` has no state `{path}`; {help}", machine.name))
        }
        Apart::NotWith(other, path) => unfit(format!("`{other}` and `{path}` cannot be active together")),
    })
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
