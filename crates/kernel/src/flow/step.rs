//! One input on its way through a flow: where every phase is, and what moving one leads to.
//!
//! Owns the ways in (`begin`, `act`, `control`, `ring`, `bring`) and what all moves have in common: the matrix is kept,
//! timers and calls of a state that is left are gone, and what has become possible begins. After a refusal a step is
//! thrown away.

mod act;
mod gate;
mod recover;
mod run;

use std::sync::Arc;

use serde_json::Value;

use crate::chart::Computed;
use crate::commit::{LeaseGiven, PhaseMove, Told};
use crate::diagnostic::shorten;
use crate::expression::Scope;
use crate::flow::action::Alarm;
use crate::flow::record::{Pause, kept};
use crate::flow::status::is_ready;
use crate::flow::{
    Action, ActionInput, Control, Flow, FlowState, FlowStatus, ParentCall, Phase, PhaseDetails, PhaseIndex,
    PhaseState, Standing,
};
use crate::id::{InstanceId, Revision};
use crate::input::{Fields, Start};
use crate::machine::Machine;
use crate::refusal::{PhaseStanding, RefusalCode};
use crate::snapshot::{Invocation, Snapshot, Timer};
use crate::time::{Delay, Timestamp};

/// A flow while one input is decided on.
#[derive(Clone, Debug)]
pub(crate) struct Step<'a> {
    pub machine: &'a Machine,
    pub flow: &'a Flow,
    pub instance: &'a InstanceId,
    /// The revision that the commit will have.
    pub revision: Revision,
    pub now: Timestamp,
    pub state: FlowState,
    pub context: Arc<Fields>,
    pub timers: Vec<Timer>,
    pub invocations: Vec<Invocation>,
    /// Who is behind the input, and why.
    pub by: Option<String>,
    pub reason: Option<String>,
    /// What has happened so far.
    pub moved: Vec<PhaseMove>,
    pub effects: Vec<StepEffect>,
    pub lease: Option<LeaseGiven>,
    /// Phases whose line in lists may have changed.
    pub touched: Vec<PhaseIndex>,
}

/// What has to be done outside. Its key is made of its place among the effects of the commit.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum StepEffect {
    Call { phase: PhaseIndex, src: Arc<str>, input: Fields },
    Tell(Told),
}

/// Why an action is not taken.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Declined {
    pub code: RefusalCode,
    pub message: String,
    pub phase: Option<Box<PhaseStanding>>,
}

pub(crate) type Taken = Result<(), Declined>;

impl Declined {
    pub fn new(code: RefusalCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), phase: None }
    }
}

impl<'a> Step<'a> {
    /// A flow as it was left; `None` when the instance is none, or has other phases than the machine.
    pub fn resume(machine: &'a Machine, before: &'a Snapshot, now: Timestamp) -> Option<Self> {
        let (flow, state) = (machine.flow.as_ref()?, before.flow.as_ref()?);
        if state.phases.len() != flow.phases.len() {
            return None;
        }
        Some(Self {
            machine,
            flow,
            instance: &before.instance,
            revision: before.revision.next(),
            now,
            state: FlowState::clone(state),
            context: Arc::clone(&before.context),
            timers: before.timers.clone(),
            invocations: before.invocations.clone(),
            by: None,
            reason: None,
            moved: Vec::new(),
            effects: Vec::new(),
            lease: None,
            touched: Vec::new(),
        })
    }

    /// Where the flow begins: what has been completed elsewhere is completed, and what needs nothing else is ready.
    ///
    /// # Errors
    /// When a boolean is not that of a phase.
    pub fn begin(&mut self, start: &Start) -> Taken {
        self.state.parent.clone_from(&start.parent);
        for (name, value) in &start.booleans {
            let phase = self.flow.indices().find(|phase| *self.phase(*phase).boolean == **name);
            let (Some(phase), Some(completed)) = (phase, value.as_bool()) else {
                let known = self.flow.phases.iter().map(|phase| &*phase.boolean);
                let message = match phase {
                    Some(_) => format!("the boolean `{name}` must be true or false, not {value}"),
                    None => format!(
                        "no phase has the boolean `{name}`; {}",
                        crate::diagnostic::nearest(name, known)
                    ),
                };
                return Err(Declined::new(RefusalCode::InvalidContext, message));
            };
            if completed {
                self.state.record_mut(phase).state = PhaseState::Completed;
            }
        }
        self.touched.extend(self.flow.indices());
        self.look_everywhere();
        Ok(())
    }

    /// What somebody does to the whole flow.
    ///
    /// # Errors
    /// When its status does not allow it.
    pub fn control(&mut self, control: Control, input: &ActionInput) -> Taken {
        let status = self.status();
        let impossible = |what: &str| {
            let message = format!("the flow is {}; {what}", status.as_str());
            Err(Declined::new(RefusalCode::InvalidTransition, message))
        };
        match control {
            Control::Watch => self.watch(input),
            _ if self.state.cancelled => {
                let message = "the flow was cancelled; it stays as it is";
                Err(Declined::new(RefusalCode::InstanceClosed, message))
            }
            Control::Pause if status.is_over() => impossible("there is nothing to pause"),
            Control::Pause if self.state.paused.is_some() => impossible("resume it first"),
            Control::Pause => {
                let timers = std::mem::take(&mut self.timers);
                let (by, reason) = (self.by.clone(), self.reason.clone().map(kept));
                self.state.paused = Some(Pause { at: self.now, by, reason, timers });
                self.tell_children("pause");
                self.touched.extend(self.flow.indices());
                Ok(())
            }
            Control::Resume => {
                let Some(pause) = self.state.paused.take() else {
                    return impossible("only a paused flow can be resumed");
                };
                let lasted = self.now.since(pause.at);
                self.timers = pause.timers;
                self.timers.iter_mut().for_each(|timer| timer.deadline = timer.deadline.plus(lasted));
                self.tell_children("resume");
                self.touched.extend(self.flow.indices());
                self.look_everywhere();
                Ok(())
            }
            Control::Cancel if status.is_over() => impossible("there is nothing to cancel"),
            Control::Cancel => {
                self.tell_children("cancel");
                self.state.cancelled = true;
                self.state.paused = None;
                self.timers.clear();
                self.invocations.clear();
                self.touched.extend(self.flow.indices());
                Ok(())
            }
        }
    }

    /// Somebody wants to be told when this flow is over; at once, if it is.
    fn watch(&mut self, input: &ActionInput) -> Taken {
        let (Some(instance), Some(call)) = (&input.instance, &input.call) else {
            let message = "`watch` needs the `instance` that is to be told and the `call` that waits";
            return Err(Declined::new(RefusalCode::MalformedRequest, message));
        };
        let instance = InstanceId::parse(instance)
            .map_err(|problem| Declined::new(RefusalCode::MalformedRequest, problem))?;
        let watcher = ParentCall { instance, call: call.clone(), above: Vec::new() };
        let status = self.status();
        if status.is_over() {
            self.tell_end(&watcher, &status);
        } else if !self.state.watchers.contains(&watcher) {
            if self.state.watchers.len() >= WATCHERS_MAX {
                let message = format!("{WATCHERS_MAX} flows wait for this one; no more can");
                return Err(Declined::new(RefusalCode::MalformedRequest, message));
            }
            self.state.watchers.push(watcher);
        }
        Ok(())
    }

    /// What the end of the flow, or its standstill, means to those who wait for it. To be called when all else is done.
    pub fn tell_of(&mut self, was: &FlowStatus, status: &FlowStatus) {
        if status == was {
            return;
        }
        if status.is_over() {
            for watcher in std::mem::take(&mut self.state.watchers) {
                self.tell_end(&watcher, status);
            }
        }
        if let Some(parent) = self.state.parent.clone()
            && (status.is_over() || *status == FlowStatus::Failed)
        {
            self.tell_end(&parent, status);
        }
    }

    fn tell_end(&mut self, to: &ParentCall, status: &FlowStatus) {
        let done = *status == FlowStatus::Completed;
        let fields = if done {
            Fields::clone(&self.context)
        } else {
            let code = match status {
                FlowStatus::Cancelled => "CHILD_FLOW_CANCELLED",
                _ => "CHILD_FLOW_FAILED",
            };
            let failed = self.flow.indices().find(|phase| self.state.state(*phase) == PhaseState::Failed);
            let why = failed.and_then(|phase| {
                let error = self.state.record(phase).error()?;
                let message = shorten(&error.message);
                Some(format!(": `{}` failed with {}: {message}", self.phase(phase).name, error.code))
            });
            let message =
                format!("the flow `{}` is {}{}", self.instance, status.as_str(), why.unwrap_or_default());
            [("code", code.to_owned()), ("message", message)]
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value.into()))
                .collect()
        };
        self.effects.push(StepEffect::Tell(Told::Result { to: to.clone(), done, fields }));
    }

    pub fn standing(&self) -> Standing {
        Standing::of(self.flow, &self.state)
    }

    pub fn status(&self) -> FlowStatus {
        self.standing().status
    }

    fn phase(&self, phase: PhaseIndex) -> &'a Phase {
        self.flow.phase(phase)
    }

    /// Since the flow began.
    fn elapsed(&self) -> Delay {
        self.now.since(self.state.began_at)
    }

    /// Goes one step of the matrix. What belonged to the state that is left ends with it.
    fn go(&mut self, phase: PhaseIndex, to: PhaseState) {
        let record = self.state.record(phase);
        debug_assert!(record.state.may_become(to), "{} does not lead to {to}", record.state);
        let (from, lasted) = (record.state, self.now.since(self.state.since(phase)));
        let error = match to {
            PhaseState::Failed | PhaseState::RetryNeeded => record.error().cloned(),
            _ => None,
        };
        self.moved.push(PhaseMove {
            phase: Arc::clone(&self.phase(phase).name),
            from,
            to,
            lasted_ms: lasted.as_millis(),
            attempt: record.attempts,
            error,
        });
        self.drop_timers(phase, |_| true);
        self.end_calls(phase);
        let (elapsed, by, reason) = (self.elapsed(), self.by.clone(), self.reason.clone().map(kept));
        let record = self.state.record_mut(phase);
        record.state = to;
        record.since = elapsed;
        if record.details.is_some() || by.is_some() || reason.is_some() {
            let details = record.details_mut();
            (details.by, details.reason) = (by, reason);
            details.sent_back = false;
            details.lease = None;
        }
        self.touched.push(phase);
    }

    fn details(&mut self, phase: PhaseIndex) -> &mut PhaseDetails {
        self.touched.push(phase);
        self.state.record_mut(phase).details_mut()
    }

    /// Looks at every phase for what can begin.
    pub fn look_everywhere(&mut self) {
        for phase in self.flow.indices() {
            self.look_at(phase);
        }
    }

    /// Looks at what needs a phase that is done now.
    fn look_behind(&mut self, phase: PhaseIndex) {
        for dependent in &self.phase(phase).dependents {
            self.touched.push(*dependent);
            self.look_at(*dependent);
        }
    }

    /// If all that a phase needs is there: passes over one that does not apply, and starts one that starts by itself.
    fn look_at(&mut self, phase: PhaseIndex) {
        let mut waiting = vec![phase];
        while let Some(phase) = waiting.pop() {
            let record = self.state.record(phase);
            let open = !self.state.cancelled && self.state.paused.is_none();
            if !open || !record.state.is_startable() || !is_ready(self.flow, &self.state, phase) {
                continue;
            }
            match self.applies(phase) {
                Ok(true) => {}
                Ok(false) => {
                    self.touched.extend(&self.phase(phase).dependents);
                    waiting.extend(self.phase(phase).dependents.iter().rev());
                    continue;
                }
                // Whoever starts the phase is told why it cannot be worked out.
                Err(_) => continue,
            }
            let pauses = self.timer(phase, Alarm::RetryDue).is_some();
            if self.phase(phase).is_automatic() && !pauses {
                self.set_going(phase);
            }
        }
    }

    /// Whether a phase applies: asked once, when all that it needs is there. A condition that cannot be worked out is
    /// asked again when somebody starts the phase.
    fn applies(&mut self, phase: PhaseIndex) -> Result<bool, String> {
        let Some(when) = &self.phase(phase).when else { return Ok(true) };
        if let Some(applies) = self.state.record(phase).applies {
            return Ok(applies);
        }
        let applies = when.test(self.scope(&Fields::new()))?;
        self.touched.push(phase);
        self.state.record_mut(phase).applies = Some(applies);
        Ok(applies)
    }

    fn scope<'s>(&'s self, event: &'s Fields) -> Scope<'s> {
        Scope {
            context: &self.context,
            event,
            event_name: "",
            active: &[],
            now: self.now,
            locals: &[],
            before: None,
        }
    }

    fn compute(&self, value: &Computed, event: &Fields) -> Result<Value, String> {
        match value {
            Computed::Literal(value) => Ok(value.clone()),
            Computed::Expression(expression) => {
                let computed = expression.evaluate(self.scope(event));
                computed.map_err(|problem| format!("`{}`: {problem}", expression.source))
            }
        }
    }

    fn timers_now(&mut self) -> &mut Vec<Timer> {
        match &mut self.state.paused {
            Some(pause) => &mut pause.timers,
            None => &mut self.timers,
        }
    }

    /// The timer of a phase that runs, or will run on.
    pub fn timer(&self, phase: PhaseIndex, alarm: Alarm) -> Option<&Timer> {
        let timers = self.state.paused.as_ref().map_or(&self.timers, |pause| &pause.timers);
        alarm.timer_of(timers, &self.phase(phase).name)
    }

    fn timer_id(&self, phase: PhaseIndex, alarm: Alarm) -> String {
        format!("{}.{}", self.phase(phase).name, alarm.as_str())
    }

    /// While the flow is paused no time passes for its timers.
    fn set_timer(&mut self, phase: PhaseIndex, alarm: Alarm, delay: Delay) -> Timestamp {
        let id: Arc<str> = self.timer_id(phase, alarm).into();
        let from = self.state.paused.as_ref().map_or(self.now, |pause| pause.at);
        let timer = Timer::new(id, from.plus(delay));
        let timers = self.timers_now();
        timers.retain(|other| other.id != timer.id);
        timers.push(timer);
        self.now.plus(delay)
    }

    fn drop_timers(&mut self, phase: PhaseIndex, which: impl Fn(&str) -> bool) {
        let name = Arc::clone(&self.phase(phase).name);
        self.timers_now().retain(|timer| {
            let alarm = timer.id.strip_prefix(&*name).and_then(|rest| rest.strip_prefix('.'));
            !alarm.is_some_and(&which)
        });
    }

    /// How a phase stands, for whoever is refused.
    pub fn standing_of(&mut self, phase: PhaseIndex) -> Box<PhaseStanding> {
        let state = self.state.state(phase);
        let input = ActionInput::default();
        let actions = Action::ALL.into_iter();
        let actions: Vec<Action> =
            actions.filter(|action| self.check(phase, *action, &input, true).is_ok()).collect();
        Box::new(PhaseStanding {
            phase: Arc::clone(&self.phase(phase).name),
            state,
            valid_transitions: state.next().to_vec(),
            valid_actions: actions.iter().map(|action| action.as_str().to_owned()).collect(),
            missing: self.missing(phase),
            retry_allowed: actions.contains(&Action::Retry),
        })
    }

    /// What a phase needs and what is not completed.
    pub fn missing(&self, phase: PhaseIndex) -> Vec<Arc<str>> {
        let needs = self.phase(phase).needs.iter();
        let open = needs.filter(|need| !self.state.record(**need).is_done());
        open.map(|need| Arc::clone(&self.phase(*need).name)).collect()
    }
}

pub(super) use act::LEASE_RANGE;
pub(super) use recover::RETRY;
pub use run::{signature, teller_of};

/// More flows than this cannot wait for one: all of them are written with it.
const WATCHERS_MAX: usize = 100;
