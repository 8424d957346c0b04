//! `explain`: what an input would do and why, without doing it; and what an instance waits for.

use serde::Serialize;

use crate::chart::step::{Occurrence, Stepper};
use crate::commit::{Answer, Commit};
use crate::conversation::Clarification;
use crate::conversation::clarification::ClarificationView;
use crate::decide::decide;
use crate::decide::turn::{allowed, position_of};
use crate::definition::is_internal;
use crate::flow::{FlowView, RecoveryOption};
use crate::input::{Cause, Input};
use crate::machine::Machine;
use crate::refusal::{Considered, Refusal};
use crate::snapshot::{Invocation, Snapshot, Timer};
use crate::time::{Delay, Timestamp};

/// What would happen.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Explanation {
    pub state: String,
    /// Whether the input would be taken.
    pub accepted: bool,
    /// The answer that it would get.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer: Option<Answer>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refusal: Option<Refusal>,
    /// The transitions that were looked at for the event, in the order of choosing.
    pub considered: Vec<Considered>,
    pub waiting_for: WaitingFor,
}

/// What would move an instance on.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WaitingFor {
    pub events: Vec<String>,
    pub timers: Vec<Due>,
    /// Calls that have been made and have not come back.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub calls: Vec<Invocation>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clarification: Option<ClarificationView>,
}

/// A timer, and what it would lead to if it were due as things are.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Due {
    #[serde(flatten)]
    pub timer: Timer,
    /// From now on; nothing if it is late.
    #[serde(rename = "in")]
    pub within: Delay,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub considered: Vec<Considered>,
}

/// Decides on `input` and throws the commit away.
pub fn explain(machine: &Machine, before: &Snapshot, input: &Input, now: Timestamp) -> Explanation {
    let decided = decide(machine, Some(before), input, now);
    let considered = considered(machine, before, input, &decided, now);
    let (answer, refusal) = match decided {
        Ok(commit) => (Some(commit.entry.answer), None),
        Err(refusal) => (None, Some(refusal)),
    };
    Explanation {
        state: before.state(),
        accepted: refusal.is_none(),
        answer,
        refusal,
        considered,
        waiting_for: waiting_for(machine, before, now),
    }
}

fn considered(
    machine: &Machine,
    before: &Snapshot,
    input: &Input,
    decided: &Result<Commit, Refusal>,
    now: Timestamp,
) -> Vec<Considered> {
    let Some(position) = position_of(machine, before) else {
        return Vec::new();
    };
    // What a message's event carries is the router's business; its trace and its refusal explain it.
    let (event, payload) = match (&input.cause, decided) {
        (Cause::Event { event, payload, .. }, _) => (event, payload),
        (_, Ok(commit)) => match &commit.entry.answer {
            Answer::Message(answer) => {
                return answer.refusal.iter().flat_map(|r| r.explain.clone()).collect();
            }
            _ => return Vec::new(),
        },
        (_, Err(refusal)) => return refusal.explain.clone(),
    };
    match machine.chart.event(event) {
        Some(index) if !is_internal(event) => {
            let stepper = Stepper { chart: &machine.chart, fields: &machine.fields, now };
            stepper.consider(&position, Occurrence { event: index, name: event, payload })
        }
        _ => Vec::new(),
    }
}

/// Transitions that are told of all timers together.
const TOLD_MAX: usize = 100;

/// What would move an instance on, as of `now`.
pub fn waiting_for(machine: &Machine, snapshot: &Snapshot, now: Timestamp) -> WaitingFor {
    let position = position_of(machine, snapshot).filter(|_| !snapshot.is_closed());
    let stepper = Stepper { chart: &machine.chart, fields: &machine.fields, now };
    let considered = |timer: &Timer| {
        let (event, position) = (machine.chart.event(timer.event())?, position.as_ref()?);
        let occurrence = Occurrence { event, name: timer.event(), payload: &timer.payload };
        Some(stepper.consider(position, occurrence))
    };
    let mut told = 0;
    let due = |timer: &Timer| {
        let considered = if told < TOLD_MAX { considered(timer).unwrap_or_default() } else { Vec::new() };
        told += considered.len();
        Due { timer: timer.clone(), within: timer.deadline.since(now), considered }
    };
    let events = match &machine.flow {
        Some(_) => options_of(machine, snapshot, now),
        None => position.as_ref().map(|position| allowed(machine, position.leaves())).unwrap_or_default(),
    };
    let pending = snapshot.conversation.as_ref().and_then(|c| c.pending.as_ref());
    WaitingFor {
        events,
        timers: snapshot.timers.iter().map(due).collect(),
        calls: snapshot.invocations.clone(),
        clarification: pending.map(Clarification::view),
    }
}

/// The events that a flow would take now from somebody who may.
fn options_of(machine: &Machine, snapshot: &Snapshot, now: Timestamp) -> Vec<String> {
    let options = FlowView::of(machine, snapshot, now).map(|view| view.recovery_options);
    let event = |option: RecoveryOption| match option.phase {
        Some(phase) => format!("{phase}.{}", option.action),
        None => option.action.to_owned(),
    };
    options.unwrap_or_default().into_iter().map(event).collect()
}
