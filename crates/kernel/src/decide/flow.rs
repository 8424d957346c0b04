//! Deciding on what happens to a flow: from the input to the step, and from the step to the commit.

use std::sync::Arc;

use crate::bound;
use crate::commit::{
    Answer, Commit, Effect, EffectKind, Entry, EntryCause, EventAnswer, FlowAnswer, PhaseRow, Transition,
    recorded,
};
use crate::flow::{Declined, FlowEvent, FlowState, FlowStatus, Standing, Step, StepEffect, alarm_of, row};
use crate::id::{InstanceId, Revision, Subject};
use crate::input::{Cause, Fields, Input};
use crate::machine::Machine;
use crate::refusal::{Refusal, RefusalCode};
use crate::snapshot::{Closure, Snapshot};
use crate::time::Timestamp;

/// What an input does to a flow.
///
/// # Errors
/// As `decide`.
pub(super) fn decide_flow(
    machine: &Machine,
    before: Option<&Snapshot>,
    input: &Input,
    now: Timestamp,
) -> Result<Commit, Refusal> {
    let Some(before) = before else {
        let message = "there is no such flow";
        return Err(Refusal::new(RefusalCode::NotFound, Revision::NONE, message));
    };
    let Some(mut step) = Step::resume(machine, before, now) else {
        let message = "the definition that the flow is pinned to has other phases";
        return Err(Refusal::new(RefusalCode::DefinitionMissing, before.revision, message));
    };
    let was = step.standing();
    let event = happen(&mut step, before, input).map_err(|declined| refusal(declined, before.revision))?;
    Ok(commit(step, Some(before), before.clone(), input, &was, event))
}

/// Does what the input says, and gives it a name for the log.
fn happen(step: &mut Step<'_>, before: &Snapshot, input: &Input) -> Result<String, Declined> {
    match &input.cause {
        Cause::Event { event, payload, .. } => {
            let parsed = FlowEvent::parse(step.flow, event)
                .map_err(|message| Declined::new(RefusalCode::UnknownEvent, message))?;
            act(step, parsed, payload, input).map_err(|mut declined| {
                // Half of it may have been done: how the phase stands is asked of what was before.
                let untouched = Step::resume(step.machine, before, step.now);
                if let (Some(mut step), FlowEvent::Phase(phase, _)) = (untouched, parsed) {
                    declined.phase = Some(step.standing_of(phase));
                }
                declined
            })?;
            Ok(event.clone())
        }
        Cause::Timer { timer, deadline, .. } => {
            let due = step.timers.iter().position(|t| *t.id == **timer && t.deadline == *deadline);
            let due = due.filter(|_| *deadline <= step.now);
            let (Some(due), Some((phase, alarm))) = (due, alarm_of(step.flow, timer)) else {
                let message = format!("no timer `{timer}` is due at {deadline}");
                return Err(Declined::new(RefusalCode::NotFound, message));
            };
            step.timers.remove(due);
            step.ring(phase, alarm);
            Ok(timer.clone())
        }
        Cause::Result { call, outcome, .. } => {
            let waiting = step.invocations.iter().find(|invocation| invocation.key == *call);
            let phase = waiting.and_then(|waiting| Some((waiting, step.flow.by_name(&waiting.id)?)));
            let Some((waiting, phase)) = phase else {
                let message =
                    format!("the flow waits for no call `{call}`; it has been answered, left or ended");
                return Err(Declined::new(RefusalCode::CallOver, message));
            };
            Step::check_teller(waiting, outcome, input.by.as_ref())?;
            step.bring(phase, outcome);
            Ok(format!("{}.result", step.flow.phase(phase).name))
        }
        Cause::Recover { .. } => {
            let message = "a flow is recovered phase by phase: see its recovery options";
            Err(Declined::new(RefusalCode::InvalidTransition, message))
        }
        Cause::Create { .. } => {
            let message = format!("the flow `{}` exists and is {}", before.instance, before.state());
            Err(Declined::new(RefusalCode::InstanceExists, message))
        }
        // Migrations and withdrawals are decided on elsewhere.
        Cause::Message { .. } | Cause::Answer { .. } | Cause::Migrate { .. } | Cause::Withdraw { .. } => {
            Err(Declined::new(RefusalCode::NotAConversation, "a flow takes no messages"))
        }
    }
}

fn act(step: &mut Step<'_>, event: FlowEvent, payload: &Fields, input: &Input) -> Result<(), Declined> {
    let given = event
        .input(payload, input.by.as_ref())
        .map_err(|message| Declined::new(RefusalCode::MalformedRequest, message))?;
    (step.by, step.reason) = (given.by.clone(), given.reason.clone());
    match event {
        FlowEvent::Flow(control) => step.control(control, &given),
        FlowEvent::Phase(phase, action) => step.act(phase, action, &given),
    }
}

/// A flow that does not exist yet.
///
/// # Errors
/// When its context or its beginning does not fit the definition.
pub(super) fn begin_flow(
    machine: &Machine,
    input: &Input,
    now: Timestamp,
    instance: InstanceId,
    subject: Option<Subject>,
) -> Result<Commit, Refusal> {
    let (Some(flow), Cause::Create { context: given, start, .. }) = (&machine.flow, &input.cause) else {
        return Err(Refusal::new(RefusalCode::NotFound, Revision::NONE, "there is no such flow"));
    };
    if start.former.is_some() {
        let message =
            "a flow has no state of its own to begin in; say by `booleans` which of its phases are done";
        return Err(Refusal::new(RefusalCode::InvalidContext, Revision::NONE, message));
    }
    bound::check(&start.booleans).map_err(|problem| {
        let message = format!("the booleans are too much: they are {problem}");
        Refusal::new(RefusalCode::InvalidContext, Revision::NONE, message)
    })?;
    let context = machine
        .initial_context(given)
        .map_err(|problems| Refusal::new(RefusalCode::InvalidContext, Revision::NONE, problems.join("; ")))?;
    let mut after = Snapshot::new(machine, input.tenant.clone(), instance, Arc::new(context), now);
    after.subject = subject;
    after.flow = Some(Arc::new(FlowState::new(flow.phases.len(), now)));
    let Some(mut step) = Step::resume(machine, &after, now) else {
        let message = "the machine is no flow";
        return Err(Refusal::new(RefusalCode::DefinitionMissing, Revision::NONE, message));
    };
    step.by.clone_from(&input.by);
    step.begin(start).map_err(|declined| refusal(declined, Revision::NONE))?;
    let was = Standing::of(flow, &FlowState::new(flow.phases.len(), now));
    Ok(commit(step, None, after.clone(), input, &was, "create".to_owned()))
}

fn refusal(declined: Declined, revision: Revision) -> Refusal {
    let mut refusal = Refusal::new(declined.code, revision, declined.message);
    refusal.allowed = declined.phase.iter().flat_map(|standing| standing.valid_actions.clone()).collect();
    refusal.phase = declined.phase;
    refusal
}

/// What the step has come to, as a commit.
pub(super) fn commit(
    mut step: Step<'_>,
    before: Option<&Snapshot>,
    mut after: Snapshot,
    input: &Input,
    was: &Standing,
    event: String,
) -> Commit {
    let state = before.and_then(|before| before.flow.as_deref());
    let is = Standing::after(step.flow, &step.state, state.map(|state| (state, was)));
    let elsewhere = matches!(input.cause, Cause::Migrate { .. });
    debug_assert!(elsewhere || was.status.may_become(&is.status), "{:?} to {:?}", was.status, is.status);
    step.tell_of(&was.status, &is.status);
    let rows = rows(&mut step, before);
    let effects = effects(&step, input);
    let answer = FlowAnswer {
        progress_before: was.progress,
        progress: is.progress,
        moved: std::mem::take(&mut step.moved),
        lease: step.lease.take(),
    };
    let expected = after.revision;
    let secrets = Arc::clone(&step.machine.secrets);
    let reason = step.reason.take();
    leave(step, &mut after, &is.status);
    let entry = entry(&after, input, was, event, reason, answer, &effects);
    Commit {
        tenant: after.tenant.clone(),
        instance: after.instance.clone(),
        expected,
        entry,
        clarifications: Vec::new(),
        effects,
        phases: rows,
        secrets,
        after: Some(after),
    }
}

/// The flow as the step leaves it.
fn leave(step: Step<'_>, after: &mut Snapshot, status: &FlowStatus) {
    after.configuration = vec![status.as_str().into()];
    after.context = step.context;
    after.timers = step.timers;
    after.invocations = step.invocations;
    after.revision = step.revision;
    after.updated_at = step.now;
    after.flow = Some(Arc::new(step.state));
    if !status.is_over() {
        after.closure = None;
    } else if after.closure.is_none() {
        let completed = *status == FlowStatus::Completed;
        let output = if completed { Fields::clone(&after.context) } else { Fields::new() };
        after.closure = Some(Closure { reason: status.as_str().to_owned(), at: step.now, output });
    }
}

fn entry(
    after: &Snapshot,
    input: &Input,
    was: &Standing,
    event: String,
    reason: Option<String>,
    answer: FlowAnswer,
    effects: &[Effect],
) -> Entry {
    let (from, to) = (was.status.as_str().to_owned(), after.state());
    let transition = Transition { from: from.clone(), to: to.clone(), event: event.clone() };
    let failed = answer.moved.iter().rev().find_map(|moved| moved.error.as_ref());
    let (trace_id, unsampled) = recorded(input.trace.as_ref());
    Entry {
        revision: after.revision,
        at: after.updated_at,
        receipt: input.receipt_id(),
        key: input.key.clone(),
        digest: input.cause.digest(),
        event,
        from,
        to: to.clone(),
        success: true,
        transitions: Vec::new(),
        reason,
        code: failed.map(|error| error.code.clone()),
        looping: None,
        by: input.by.clone(),
        trace_id,
        unsampled,
        message: None,
        payload: EntryCause::payload_of(&input.cause),
        cause: EntryCause::of_taken(&input.cause),
        answer: Answer::Event(EventAnswer {
            id: after.instance.clone(),
            revision: after.revision,
            state: to,
            transition: Some(transition),
            closure_reason: after.closure.as_ref().map(|closure| closure.reason.clone()),
            reply: Vec::new(),
            effects: effects.to_vec(),
            replaced: None,
            flow: Some(Box::new(answer)),
        }),
    }
}

fn effects(step: &Step<'_>, input: &Input) -> Vec<Effect> {
    let numbered = step.effects.iter().enumerate();
    let effect = |(ordinal, effect): (usize, &StepEffect)| {
        let kind = match effect {
            StepEffect::Call { phase, src, input } => EffectKind::Call {
                id: step.flow.phase(*phase).name.to_string(),
                src: src.to_string(),
                input: input.clone(),
            },
            StepEffect::Tell(told) => EffectKind::Tell(told.clone()),
        };
        Effect::new(step.instance, step.revision, ordinal, kind).traced(input.trace.as_ref())
    };
    numbered.map(effect).collect()
}

/// The lines of those phases for which they have changed.
fn rows(step: &mut Step<'_>, before: Option<&Snapshot>) -> Vec<PhaseRow> {
    let mut touched = std::mem::take(&mut step.touched);
    touched.sort_unstable();
    touched.dedup();
    let before = before.and_then(|before| Some((before.flow.as_deref()?, &before.timers[..])));
    let new = |phase| {
        let line = row(step.flow, &step.state, &step.timers, phase);
        let same = before.is_some_and(|(state, timers)| row(step.flow, state, timers, phase) == line);
        (!same).then_some(line)
    };
    touched.into_iter().filter_map(new).collect()
}
