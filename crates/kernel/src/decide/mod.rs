//! `decide`: from a machine, an instance and an input to a `Commit`, or to a `Refusal`.
//!
//! Pure: no clock, no randomness, no input or output. The same arguments give the same commit, so that a commit can be
//! compared whole, replayed from the log, and asked about without being made (`explain`).

mod draft;
mod explain;
mod flow;
mod import;
mod invariant;
mod message;
mod migrate;
mod place;
mod turn;

use std::sync::Arc;

use crate::bound;
use crate::commit::{Answer, Commit, Entry, EntryCause, Replaced, Transition, recorded};
use crate::conversation::ClarificationStatus;
use crate::definition::{CALL_DONE_PREFIX, CALL_ERROR_PREFIX, FieldDefinition, is_internal};
use crate::id::{InstanceId, Revision, Subject};
use crate::input::{CallOutcome, Cause, Fields, Input, Start};
use crate::machine::Machine;
use crate::refusal::{Refusal, RefusalCode};
use crate::snapshot::Snapshot;
use crate::time::Timestamp;

pub use explain::{Due, Explanation, WaitingFor, explain, waiting_for};
pub use message::reading_wanted;
pub use place::{Placement, place};
use turn::{Turn, Verdict};

/// The timer of a pending question: when it comes due, the question has expired. No name of an author begins so.
pub const CLARIFICATION_TIMER: &str = "after.clarification";

/// What a recovery is called in a log.
const RECOVER: &str = "recover";

/// Decides what `input` does to an instance.
///
/// `before` is the instance that the input is for; for a message, the last session of its subject, if there was one.
///
/// # Errors
/// A refusal, which changes nothing. If its code `is_recorded`, `refused` makes the log entry of it.
pub fn decide(
    machine: &Machine,
    before: Option<&Snapshot>,
    input: &Input,
    now: Timestamp,
) -> Result<Commit, Refusal> {
    decide_telling(machine, before, input, now, || ())
}

/// `decide`, for whoever times its stages: `routed` is called when the router has said what a message is, which is then
/// carried out.
///
/// # Errors
/// As `decide`.
pub fn decide_telling(
    machine: &Machine,
    before: Option<&Snapshot>,
    input: &Input,
    now: Timestamp,
    routed: impl FnOnce(),
) -> Result<Commit, Refusal> {
    let revision = before.map_or(Revision::NONE, |b| b.revision);
    if let Some(expected) = input.expected
        && expected != revision
    {
        let message = format!("the instance is at revision {revision}, not {expected}");
        return Err(Refusal::new(RefusalCode::StaleRevision, revision, message));
    }
    check_payload(input, revision)?;
    match (&input.cause, before) {
        (Cause::Create { id, subject, context, start, .. }, before) => {
            let wanted = Wanted { id: id.clone(), subject: subject.clone(), context, start };
            create(machine, before, input, now, wanted)
        }
        (Cause::Migrate { to, phases, .. }, Some(before)) => {
            migrate::migrate(machine, before, input, now, to, phases)
        }
        (Cause::Withdraw { .. }, Some(before)) => import::withdraw(machine, before, input, now),
        (_, before) if machine.flow.is_some() => flow::decide_flow(machine, before, input, now),
        (Cause::Message { subject, message, .. }, before) => {
            message::decide_message(machine, before, input, now, (subject, message), routed)
        }
        (_, None) => Err(Refusal::new(RefusalCode::NotFound, revision, "there is no such instance")),
        (Cause::Event { event, payload, .. }, Some(before)) => {
            take_event(machine, before, input, now, event, payload)
        }
        (Cause::Answer { clarification, option, .. }, Some(before)) => {
            message::decide_answer(machine, before, input, now, clarification, option)
        }
        (Cause::Timer { timer, deadline, .. }, Some(before)) => {
            fire(machine, before, input, now, timer, *deadline)
        }
        (Cause::Result { call, outcome, .. }, Some(before)) => {
            bring_result(machine, before, input, now, call, outcome)
        }
        (Cause::Recover { reason, .. }, Some(before)) => recover(machine, before, input, now, reason),
    }
}

/// What comes with an input is bounded before anything looks at it.
fn check_payload(input: &Input, revision: Revision) -> Result<(), Refusal> {
    let payload = match &input.cause {
        Cause::Event { payload, .. } => payload,
        Cause::Result { outcome: CallOutcome::Done(fields) | CallOutcome::Failed(fields), .. } => fields,
        Cause::Message { message, .. } => {
            bound::check_message(message).map_err(|problem| {
                Refusal::new(RefusalCode::InvalidContext, revision, format!("the message {problem}"))
            })?;
            &message.parameters
        }
        _ => return Ok(()),
    };
    bound::check(payload).map_err(|problem| {
        let message = format!("the payload {problem}");
        Refusal::new(RefusalCode::InvalidContext, revision, message)
    })
}

/// The commit that only writes a refused input to the log of its instance.
pub fn refused(
    machine: &Machine,
    before: &Snapshot,
    input: &Input,
    refusal: &Refusal,
    now: Timestamp,
) -> Commit {
    let state = before.state();
    let event = match &input.cause {
        Cause::Event { event, .. } => event.clone(),
        Cause::Answer { .. } => "answer".to_owned(),
        Cause::Timer { timer, .. } => timer.clone(),
        Cause::Result { .. } => "result".to_owned(),
        Cause::Recover { .. } => "recover".to_owned(),
        Cause::Migrate { .. } => migrate::MIGRATE.to_owned(),
        Cause::Withdraw { .. } => import::WITHDRAW.to_owned(),
        Cause::Create { .. } => "create".to_owned(),
        Cause::Message { .. } => "message".to_owned(),
    };
    let message = match &input.cause {
        Cause::Message { message, .. } => Some(message.clone()),
        _ => None,
    };
    let (trace_id, unsampled) = recorded(input.trace.as_ref());
    let entry = Entry {
        revision: before.revision,
        at: now,
        receipt: input.receipt_id(),
        key: input.key.clone(),
        digest: input.cause.digest(),
        event,
        from: state.clone(),
        to: state,
        success: false,
        transitions: Vec::new(),
        reason: Some(refusal.message.clone()),
        code: Some(refusal.code.as_str().to_owned()),
        looping: None,
        by: input.by.clone(),
        trace_id,
        unsampled,
        message,
        payload: EntryCause::payload_of(&input.cause),
        cause: EntryCause::of_refused(&input.cause),
        answer: Answer::Refused(refusal.clone()),
    };
    Commit {
        tenant: before.tenant.clone(),
        instance: before.instance.clone(),
        expected: before.revision,
        after: None,
        entry,
        clarifications: Vec::new(),
        effects: Vec::new(),
        phases: Vec::new(),
        secrets: Arc::clone(&machine.secrets),
    }
}

/// What somebody wants a new instance to be.
struct Wanted<'a> {
    id: Option<InstanceId>,
    subject: Option<Subject>,
    context: &'a Fields,
    start: &'a Start,
}

fn create(
    machine: &Machine,
    before: Option<&Snapshot>,
    input: &Input,
    now: Timestamp,
    wanted: Wanted<'_>,
) -> Result<Commit, Refusal> {
    let Wanted { id, subject, context, start } = wanted;
    let is_it = |before: &&Snapshot| id.as_ref() == Some(&before.instance);
    let again = before.filter(is_it).zip(start.former.as_deref());
    let taken = |before: &&Snapshot| again.is_none() && (is_it(before) || !before.is_closed());
    if let Some(before) = before.filter(taken) {
        let message = format!("the instance `{}` exists and is in `{}`", before.instance, before.state());
        return Err(Refusal::new(RefusalCode::InstanceExists, before.revision, message));
    }
    if let Some((before, former)) = again {
        return import::again(machine, before, input, now, former);
    }
    let seed = [input.tenant.as_str(), machine.name.as_str(), input.key.as_str()];
    let instance = id.unwrap_or_else(|| InstanceId::derive(now, &seed));
    if machine.flow.is_some() {
        return flow::begin_flow(machine, input, now, instance, subject);
    }
    if !start.booleans.is_empty() || start.parent.is_some() {
        let message = format!("`{}` is no flow, so that it has no phases to begin with", machine.name);
        return Err(Refusal::new(RefusalCode::InvalidContext, Revision::NONE, message));
    }
    let ordinal = match (&machine.conversation, &subject) {
        (Some(_), Some(_)) => before.map_or(0, |b| b.ordinal) + 1,
        _ => 0,
    };
    let mut turn = Turn::begin(machine, input, now, instance, subject, ordinal, context)?;
    if let Some(former) = &start.former {
        return import::bring_in(turn, former);
    }
    turn.start()?;
    Ok(turn.commit_event("create", None))
}

fn take_event(
    machine: &Machine,
    before: &Snapshot,
    input: &Input,
    now: Timestamp,
    event: &str,
    payload: &Fields,
) -> Result<Commit, Refusal> {
    let mut turn = Turn::resume(machine, before, input, now)?;
    turn.open()?;
    if machine.chart.event(event).is_none_or(|_| is_internal(event)) {
        let known = machine.chart.public_events().map(|event| &**event);
        let help = crate::diagnostic::nearest(event, known);
        let message = format!("the machine `{}` has no event `{event}`; {help}", machine.name);
        return Err(Refusal::new(RefusalCode::UnknownEvent, before.revision, message));
    }
    turn.take(event, payload)?;
    turn.restart_idle_timers();
    Ok(turn.commit_event(event, None))
}

fn fire(
    machine: &Machine,
    before: &Snapshot,
    input: &Input,
    now: Timestamp,
    timer: &str,
    deadline: Timestamp,
) -> Result<Commit, Refusal> {
    let set = before.timers.iter().find(|t| &*t.id == timer && t.deadline == deadline);
    let Some(set) = set.filter(|set| set.deadline <= now) else {
        let message = format!("no timer `{timer}` is due at {deadline}");
        return Err(Refusal::new(RefusalCode::NotFound, before.revision, message));
    };
    let mut turn = Turn::resume(machine, before, input, now)?;
    turn.position.timers.retain(|t| &*t.id != timer);
    if timer == CLARIFICATION_TIMER {
        turn.resolve_pending(ClarificationStatus::Expired, None);
        return Ok(turn.commit_event("clarification_expired", None));
    }
    if let Some(call) = set.event().strip_prefix(CALL_ERROR_PREFIX) {
        turn.position.forget_call(call);
    }
    // A timer whose guard says no has had its one chance.
    let refusal = turn.take(set.event(), &set.payload).err();
    let mut commit = turn.commit_event(set.event(), None);
    if let Some(refusal) = refusal {
        commit.entry.success = false;
        commit.entry.code = Some(refusal.code.as_str().to_owned());
        commit.entry.reason = Some(refusal.message);
    }
    Ok(commit)
}

/// What an answer to a call comes to: an event, and the call is over. A result that is refused leaves the call under
/// way, and its deadline with it: whoever made a mistake may answer again, and nobody waits for ever.
fn bring_result(
    machine: &Machine,
    before: &Snapshot,
    input: &Input,
    now: Timestamp,
    call: &str,
    outcome: &CallOutcome,
) -> Result<Commit, Refusal> {
    let mut turn = Turn::resume(machine, before, input, now)?;
    turn.open()?;
    let Some(invocation) = before.invocations.iter().find(|invocation| invocation.key == call) else {
        let state = before.state();
        let message = match before.invocations.iter().find(|invocation| &*invocation.id == call) {
            Some(named) => {
                format!("no call has the key `{call}`; the call of this id has the key `{}`", named.key)
            }
            None => format!("`{state}` waits for no call `{call}`; it has been answered, left or timed out"),
        };
        return Err(Refusal::new(RefusalCode::CallOver, before.revision, message));
    };
    let (prefix, payload) = match outcome {
        CallOutcome::Done(result) => (CALL_DONE_PREFIX, result.clone()),
        CallOutcome::Failed(error) => {
            let mut error = error.clone();
            error.entry("code").or_insert_with(|| "failed".into());
            error.entry("message").or_insert_with(|| format!("the call `{}` failed", invocation.id).into());
            (CALL_ERROR_PREFIX, error)
        }
    };
    let event = format!("{prefix}{}", invocation.id);
    turn.position.forget_call(&invocation.id);
    turn.take(&event, &payload)?;
    turn.restart_idle_timers();
    Ok(turn.commit_event(&event, None))
}

/// Puts the instance into the definition's safe state; fields marked `keep` survive.
///
/// Where what survives would break an invariant there, it is given up as well: an operator must get on, and is told what
/// was replaced. What the creator had to give has nothing to be replaced with, so that because of it a recovery may be
/// refused.
fn recover(
    machine: &Machine,
    before: &Snapshot,
    input: &Input,
    now: Timestamp,
    reason: &str,
) -> Result<Commit, Refusal> {
    let keeping = recover_with(machine, before, input, now, |f| f.keep || f.must_be_given());
    let recovered = match keeping {
        Err(refusal) if refusal.code == RefusalCode::InvariantViolated => {
            recover_with(machine, before, input, now, FieldDefinition::must_be_given).map_err(|_| refusal)
        }
        other => other,
    };
    let mut commit = recovered?;
    commit.entry.reason = Some(reason.to_owned());
    Ok(commit)
}

fn recover_with(
    machine: &Machine,
    before: &Snapshot,
    input: &Input,
    now: Timestamp,
    survives: impl Fn(&FieldDefinition) -> bool,
) -> Result<Commit, Refusal> {
    let mut turn = Turn::resume_anywhere(machine, before, input, now);
    turn.open()?;
    let kept: Vec<&str> =
        machine.fields.iter().filter(|f| survives(f)).map(|f| f.name.value.as_str()).collect();
    let mut replaced = Fields::new();
    let mut context = Fields::new();
    for field in &machine.fields {
        let name = &field.name.value;
        let old = before.context.get(name).cloned();
        let fresh = field.default.as_ref().map_or_else(|| field.empty(), |d| d.value.clone());
        let value = match &old {
            Some(old) if kept.contains(&name.as_str()) && field.accepts(old).is_ok() => old.clone(),
            _ => fresh,
        };
        if old.as_ref() != Some(&value) {
            replaced.insert(name.clone(), old.unwrap_or_default());
        }
        context.insert(name.clone(), value);
    }
    turn.position.context = Arc::new(context);
    turn.resolve_pending(ClarificationStatus::Cancelled, None);
    turn.forget_conversation();
    match machine.safe_state {
        Some(state) => turn.jump(state, RECOVER)?,
        None => turn.begin_anew()?,
    }
    let kept = kept.into_iter().map(str::to_owned).collect();
    let replaced = Replaced { state: before.state(), context: replaced, kept };
    Ok(turn.commit_event(RECOVER, Some(replaced)))
}

/// The transition of an entry, if the state or the event says that there was one.
fn transition_of(verdict: &Verdict) -> Option<Transition> {
    let Verdict { from, to, event, .. } = verdict;
    verdict.moved.then(|| Transition { from: from.clone(), to: to.clone(), event: event.clone() })
}
