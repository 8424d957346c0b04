//! Deciding on what happens to a flow: from the input to the step, and from the step to the commit.

use std::sync::Arc;

use crate::bound;
use crate::commit::{
    Answer, Commit, Effect, EffectKind, Entry, EntryCause, EventAnswer, FlowAnswer, PhaseRow, Transition,
};
use crate::flow::{Declined, FlowEvent, FlowState, FlowStatus, Step, StepEffect, alarm_of, row};
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
    let revision = before.revision;
    let Some(mut step) = Step::resume(machine, before, now) else {
        let message = "the definition that the flow is pinned to is another".to_owned();
        return Err(Refusal::new(RefusalCode::DefinitionMissing, revision, message));
    };
    let (flow, status) = (step.flow, step.status());
    let refuse = |declined: Declined| refusal(declined, revision);
    let event = match &input.cause {
        Cause::Event { event, payload, .. } => {
            let parsed = FlowEvent::parse(flow, event)
                .map_err(|message| Refusal::new(RefusalCode::UnknownEvent, revision, message))?;
            let given = parsed
                .input(payload, input.by.as_ref())
                .map_err(|message| Refusal::new(RefusalCode::MalformedRequest, revision, message))?;
            (step.by, step.reason) = (given.by.clone(), given.reason.clone());
            match parsed {
                FlowEvent::Flow(control) => step.control(control, &given).map_err(refuse)?,
                FlowEvent::Phase(phase, action) => {
                    let taken = step.act(phase, action, &given);
                    if let Err(mut declined) = taken {
                        // Half of it may have been done: how the phase stands is asked of what was before.
                        let mut untouched = Step::resume(machine, before, now);
                        declined.phase = untouched.as_mut().map(|step| step.standing(phase));
                        return Err(refuse(declined));
                    }
                }
            }
            event.clone()
        }
        Cause::Timer { timer, deadline, .. } => {
            let due = step.timers.iter().position(|t| *t.id == **timer && t.deadline == *deadline);
            let due = due.filter(|_| *deadline <= now);
            let (Some(due), Some((phase, alarm))) = (due, alarm_of(flow, timer)) else {
                let message = format!("no timer `{timer}` is due at {deadline}");
                return Err(Refusal::new(RefusalCode::NotFound, revision, message));
            };
            step.timers.remove(due);
            step.ring(phase, alarm);
            timer.clone()
        }
        Cause::Result { call, outcome, .. } => {
            let waiting = step.invocations.iter().find(|invocation| invocation.key == *call);
            let Some(phase) = waiting.and_then(|waiting| flow.by_name(&waiting.id)) else {
                let message =
                    format!("the flow waits for no call `{call}`; it has been answered, left or ended");
                return Err(Refusal::new(RefusalCode::CallOver, revision, message));
            };
            step.bring(phase, outcome);
            format!("{}.result", flow.phase(phase).name)
        }
        Cause::Recover { .. } => {
            let message = "a flow is recovered phase by phase: see its recovery options";
            return Err(Refusal::new(RefusalCode::InvalidTransition, revision, message));
        }
        Cause::Create { .. } => {
            let message = format!("the flow `{}` exists and is {}", before.instance, status.as_str());
            return Err(Refusal::new(RefusalCode::InstanceExists, revision, message));
        }
        Cause::Message { .. } | Cause::Answer { .. } => {
            let message = "a flow takes no messages";
            return Err(Refusal::new(RefusalCode::NotAConversation, revision, message));
        }
    };
    step.tell_of(&status);
    Ok(commit(step, Some(before), before.clone(), input, &status, event))
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
    let (Some(flow), Cause::Create { context: given, flow: start, .. }) = (&machine.flow, &input.cause)
    else {
        return Err(Refusal::new(RefusalCode::NotFound, Revision::NONE, "there is no such flow"));
    };
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
    step.tell_of(&FlowStatus::Initialized);
    Ok(commit(step, None, after.clone(), input, &FlowStatus::Initialized, "create".to_owned()))
}

fn refusal(declined: Declined, revision: Revision) -> Refusal {
    let mut refusal = Refusal::new(declined.code, revision, declined.message);
    refusal.allowed = declined.phase.iter().flat_map(|standing| standing.valid_actions.clone()).collect();
    refusal.phase = declined.phase;
    refusal
}

/// What the step has come to, as a commit.
fn commit(
    mut step: Step<'_>,
    before: Option<&Snapshot>,
    mut after: Snapshot,
    input: &Input,
    was: &FlowStatus,
    event: String,
) -> Commit {
    let status = step.status();
    let rows = rows(&mut step, before);
    let effects = effects(&step, input);
    let expected = after.revision;
    let progress_before = match before {
        Some(before) => before.flow.as_ref().map_or(0.0, |state| crate::flow::progress(step.flow, state)),
        None => 0.0,
    };
    let answer = FlowAnswer {
        progress_before,
        progress: crate::flow::progress(step.flow, &step.state),
        moved: std::mem::take(&mut step.moved),
        lease: step.lease.take(),
    };
    let state: Arc<str> = status.as_str().into();
    after.configuration = vec![Arc::clone(&state)];
    after.context = step.context;
    after.timers = step.timers;
    after.invocations = step.invocations;
    after.flow = Some(Arc::new(step.state));
    after.revision = step.revision;
    after.updated_at = step.now;
    if !status.is_over() {
        after.closure = None;
    } else if after.closure.is_none() {
        let output =
            if status == FlowStatus::Completed { Fields::clone(&after.context) } else { Fields::new() };
        after.closure = Some(Closure { reason: state.to_string(), at: step.now, output });
    }
    let (from, to) = (was.as_str().to_owned(), state.to_string());
    let transition = Transition { from: from.clone(), to: to.clone(), event: event.clone() };
    let failed = answer.moved.iter().rev().find_map(|moved| moved.error.as_ref());
    let entry = Entry {
        revision: after.revision,
        at: step.now,
        receipt: input.receipt_id(),
        key: input.key.clone(),
        digest: input.cause.digest(),
        event,
        from,
        to: to.clone(),
        success: true,
        transitions: Vec::new(),
        reason: step.reason,
        code: failed.map(|error| error.code.clone()),
        looping: None,
        by: input.by.clone(),
        trace_id: input.trace_id.clone(),
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
            effects: effects.clone(),
            replaced: None,
            flow: Some(Box::new(answer)),
        }),
    };
    Commit {
        tenant: after.tenant.clone(),
        instance: after.instance.clone(),
        expected,
        entry,
        clarifications: Vec::new(),
        effects,
        phases: rows,
        after: Some(after),
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
        let mut effect = Effect::new(step.instance, step.revision, ordinal, kind);
        effect.trace_id.clone_from(&input.trace_id);
        effect
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
