//! Phases that are done of themselves: by a call to something outside, by a flow of their own, or by waiting for another.
//!
//! Each is a call with a key, and comes back as a result.

use std::sync::Arc;

use serde_json::Value;

use crate::chart::Computed;
use crate::commit::Told;
use crate::expression::Expression;
use crate::flow::step::{Declined, Step, StepEffect, Taken};
use crate::flow::{ParentCall, PhaseError, PhaseIndex, Run};
use crate::id::{InstanceId, MachineName};
use crate::input::{CallOutcome, Fields};
use crate::refusal::RefusalCode;
use crate::snapshot::Invocation;

/// Flows within flows.
const DEPTH_MAX: usize = 8;

/// What a delivery says that did not work out, in the words of flows: what passes, and what does not.
const OUTSIDE: [(&str, &str); 4] = [
    ("unreachable", "EXTERNAL_SERVICE_ERROR"),
    ("timeout", "EXTERNAL_SERVICE_ERROR"),
    ("unknown", "EXTERNAL_SERVICE_ERROR"),
    ("refused", "MALFORMED_REQUEST"),
];

impl Step<'_> {
    /// A phase that starts by itself begins.
    pub(super) fn set_going(&mut self, phase: PhaseIndex) {
        // Whoever has sent the input did not do this.
        let (by, reason) = (self.by.take(), self.reason.take());
        self.start(phase);
        (self.by, self.reason) = (by, reason);
    }

    /// Calls what does the work. What cannot even be called has failed.
    pub(super) fn run(&mut self, phase: PhaseIndex) {
        let written = self.phase(phase);
        let called = match &written.run {
            Run::Http { src, input } => self.values(input).map(|input| {
                let src = Arc::clone(src);
                (src.clone(), StepEffect::Call { phase, src, input })
            }),
            Run::Flow { flow, context } => self.begin_child(phase, flow, context),
            Run::WaitFor(other) => self.wait_for(phase, other),
            Run::Anybody | Run::Person | Run::Worker(_) => return,
        };
        match called {
            Ok((src, effect)) => {
                let input = match &effect {
                    StepEffect::Call { input, .. } => input.clone(),
                    StepEffect::Tell(_) => Fields::new(),
                };
                let key = self.next_key();
                self.effects.push(effect);
                let id = Arc::clone(&written.name);
                self.invocations.push(Invocation { id, src, input, key });
            }
            Err(problem) => {
                self.fail(phase, PhaseError::new("EXPRESSION_FAILED", problem, self.now, Fields::new()));
            }
        }
    }

    /// The key that the next effect will have.
    fn next_key(&self) -> String {
        format!("{}:{}:{}", self.instance, self.revision, self.effects.len())
    }

    fn values(&self, written: &[(Arc<str>, Computed)]) -> Result<Fields, String> {
        let nothing = Fields::new();
        let value = |(name, value): &(Arc<str>, Computed)| {
            let computed = self.compute(value, &nothing).map_err(|problem| format!("`{name}`: {problem}"))?;
            Ok((name.to_string(), computed))
        };
        written.iter().map(value).collect()
    }

    fn parent_call(&self) -> ParentCall {
        let mut above = self.state.parent.as_ref().map(|parent| parent.above.clone()).unwrap_or_default();
        above.push(self.machine.name.clone());
        ParentCall { instance: self.instance.clone(), call: self.next_key(), above }
    }

    /// The flow of a phase is named after the phase and the revision that began it.
    fn begin_child(
        &self,
        phase: PhaseIndex,
        flow: &Arc<str>,
        context: &[(Arc<str>, Computed)],
    ) -> Result<(Arc<str>, StepEffect), String> {
        let parent = self.parent_call();
        if parent.above.len() > DEPTH_MAX {
            return Err(format!("flows are phases of flows {DEPTH_MAX} deep, and no deeper"));
        }
        if parent.above.iter().any(|above| above.as_str() == &**flow) {
            return Err(format!("the flow `{flow}` would be a phase of itself, without end"));
        }
        let context = self.values(context)?;
        let id = format!("{}.{}.{}", self.instance, self.phase(phase).name, self.revision);
        let told =
            Told::Begin { flow: MachineName::parse(flow)?, id: InstanceId::parse(&id)?, context, parent };
        // By its id the child is found again: to be paused, resumed or cancelled with its parent.
        Ok((format!("{FLOW_PREFIX}{id}").into(), StepEffect::Tell(told)))
    }

    fn wait_for(&self, phase: PhaseIndex, other: &Expression) -> Result<(Arc<str>, StepEffect), String> {
        let found = other.evaluate(self.scope(&Fields::new()))?;
        let Value::String(id) = &found else {
            let name = &self.phase(phase).name;
            let told = other.result_told(&found);
            return Err(format!("`wait_for` of `{name}` must be the id of a flow, not {told}"));
        };
        let ParentCall { instance, call, .. } = self.parent_call();
        let payload = [("instance", instance.to_string()), ("call", call)];
        let payload = payload.into_iter().map(|(key, value)| (key.to_owned(), value.into())).collect();
        let instance = InstanceId::parse(id)?;
        if instance == *self.instance {
            return Err("a flow cannot wait for itself".into());
        }
        Ok((
            format!("{WATCH_PREFIX}{id}").into(),
            StepEffect::Tell(Told::Event { instance, event: "watch".into(), payload }),
        ))
    }

    /// Whether somebody may say what a call has come to: of another flow, that flow alone, and of what could not be begun
    /// or watched, whoever tried.
    pub fn check_teller(call: &Invocation, outcome: &CallOutcome, by: Option<&String>) -> Taken {
        match teller_of(call) {
            Some(teller) if matches!(outcome, CallOutcome::Done(_)) && by != Some(&teller) => {
                let flow = teller.trim_start_matches(FLOW_PREFIX);
                let message = format!(
                    "only the flow `{flow}` says when it is completed; to go on without it, complete the phase"
                );
                Err(Declined::new(RefusalCode::PermissionDenied, message))
            }
            _ => Ok(()),
        }
    }

    /// What was called has answered. What does not fit the context is a failure of the phase.
    pub fn bring(&mut self, phase: PhaseIndex, outcome: &CallOutcome) {
        // It is over, whatever follows: a flow of its own that has failed stays to be looked at.
        let name = &self.phase(phase).name;
        self.invocations.retain(|call| call.id != *name);
        match outcome {
            CallOutcome::Done(output) => {
                if let Err(declined) = self.hand_in(phase, Some(output), false) {
                    let (code, nothing) = ("DATA_VALIDATION_FAILED", Fields::new());
                    self.fail(phase, PhaseError::new(code, declined.message, self.now, nothing));
                }
            }
            CallOutcome::Failed(fields) => {
                let mut details = fields.clone();
                let mut text = |key: &str| match details.remove(key) {
                    Some(Value::String(text)) => Some(text),
                    Some(other) => Some(other.to_string()),
                    None => None,
                };
                let code = text("code").unwrap_or_else(|| "EXTERNAL_SERVICE_ERROR".to_owned());
                let code = OUTSIDE
                    .iter()
                    .find(|(ours, _)| *ours == code)
                    .map_or(code, |(_, theirs)| (*theirs).to_owned());
                let message = text("message").unwrap_or_else(|| "the call failed".to_owned());
                self.fail(phase, PhaseError::new(code, message, self.now, details));
            }
        }
    }

    /// What a phase that is done of itself waits for.
    pub(crate) fn called(&self, phase: PhaseIndex) -> Option<String> {
        let call = self.invocations.iter().find(|call| call.id == self.phase(phase).name)?;
        if let Some(flow) = call.src.strip_prefix(FLOW_PREFIX) {
            return Some(format!("its own flow `{flow}`"));
        }
        Some(match call.src.strip_prefix(WATCH_PREFIX) {
            Some(flow) => format!("the flow `{flow}` to be completed"),
            None => format!("the call `{}`", call.src),
        })
    }

    /// Nobody waits any more for what a phase has called. A flow of its own that is still under way is cancelled, also when
    /// somebody else has said that the phase is done.
    pub(super) fn end_calls(&mut self, phase: PhaseIndex) {
        let name = &self.phase(phase).name;
        let (ended, kept) =
            std::mem::take(&mut self.invocations).into_iter().partition(|call| call.id == *name);
        self.invocations = kept;
        let ended: Vec<Invocation> = ended;
        for call in &ended {
            self.tell_child(call, "cancel");
        }
    }

    /// Every flow that a phase of this one is made of is told to do as this one does.
    pub(super) fn tell_children(&mut self, event: &str) {
        for call in self.invocations.clone() {
            self.tell_child(&call, event);
        }
    }

    fn tell_child(&mut self, call: &Invocation, event: &str) {
        let child = call.src.strip_prefix(FLOW_PREFIX).and_then(|id| InstanceId::parse(id).ok());
        if let Some(instance) = child {
            let (event, payload) = (event.to_owned(), Fields::new());
            self.effects.push(StepEffect::Tell(Told::Event { instance, event, payload }));
        }
    }
}

/// What is called when a phase is a flow of its own is this and the flow's id; when it waits for another, the second.
const FLOW_PREFIX: &str = "flow:";
const WATCH_PREFIX: &str = "wait_for:";

/// Who says what a call has come to, if that is another flow: as flows sign what they tell.
pub fn teller_of(call: &Invocation) -> Option<String> {
    let flow = [FLOW_PREFIX, WATCH_PREFIX].iter().find_map(|prefix| call.src.strip_prefix(prefix))?;
    Some(signature(flow))
}

/// By which a flow tells another something.
pub fn signature(flow: &str) -> String {
    format!("{FLOW_PREFIX}{flow}")
}
