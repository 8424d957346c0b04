//! A big step in progress: one event, carried through small steps until the chart is at rest.
//!
//! The algorithm is that of the W3C's SCXML recommendation (appendix D); functions name the procedure that they
//! implement, and `docs/statechart-conformance.md` says where it differs and why. What an expression that fails
//! becomes, and what actions do, is in `act`; what is left and entered, in `entry`.
//!
//! `event` in expressions is the event that is being taken: for one from outside its payload, seen by every action
//! and by the eventless transitions after it, until the first raised or done event, which has its own.

use std::collections::VecDeque;
use std::sync::{Arc, LazyLock};

use serde_json::Value;

use crate::bound;
use crate::chart::act::Stopped;
use crate::chart::budget::Budget;
use crate::chart::entry::Entered;
use crate::chart::invariant::Promise;
use crate::chart::step::{Occurrence, Position, StepError, Stepper, Trail};
use crate::chart::{Chart, EventIndex, Kind, ROOT, StateIndex, TransitionIndex};
use crate::expression::Fuel;
use crate::input::Fields;
use crate::snapshot::{Invocation, Timer};
use crate::time::Timestamp;

/// More small steps than any sensible chart takes for one event; what reaches it goes round in a circle.
pub const SMALL_STEPS_MAX: usize = 256;

static NO_PAYLOAD: LazyLock<Fields> = LazyLock::new(Fields::new);

/// What comes with the event that is being taken.
#[derive(Clone, Debug)]
pub(super) enum Payload<'a> {
    Nothing,
    Given(&'a Fields),
    Own(Arc<Fields>),
}

impl Payload<'_> {
    pub fn fields(&self) -> &Fields {
        match self {
            Self::Nothing => &NO_PAYLOAD,
            Self::Given(fields) => fields,
            Self::Own(fields) => fields,
        }
    }
}

/// An event of the internal queue.
#[derive(Debug)]
pub(super) struct Raised {
    pub event: EventIndex,
    pub payload: Payload<'static>,
    /// What failed, if that is why the event is there, and if nobody's taking it ends the step.
    pub failed: Option<String>,
}

/// What may fail: a guard that does is false, and the event that tells of it may be lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failed {
    Guard,
    Action,
}

/// One big step in progress.
pub(super) struct Run<'a> {
    pub stepper: Stepper<'a>,
    pub chart: &'a Chart,
    pub position: &'a mut Position,
    pub trail: &'a mut Trail,
    pub event_name: &'a str,
    pub payload: Payload<'a>,
    /// Raised and done events, before anything from outside.
    pub internal: VecDeque<Raised>,
    /// Items and indices of the `for_each` that is running, the outermost first.
    pub locals: Vec<Value>,
    /// Actions so far.
    pub actions: usize,
    pub budget: Budget,
    /// The context has to be measured before the chart rests.
    pub assigned: bool,
    /// What the last transition that names one gives as the reason, should the chart end.
    reason: Option<Arc<str>>,
    /// States with calls that have been entered; the calls are made when the chart comes to rest.
    calling: Vec<StateIndex>,
    /// States are entered as if that had been done at that time: no action is carried out.
    silent_since: Option<Timestamp>,
    /// Guards that have failed: each says so once.
    failing: Vec<TransitionIndex>,
}

impl<'a> Run<'a> {
    pub fn new(stepper: Stepper<'a>, position: &'a mut Position, trail: &'a mut Trail) -> Self {
        Self {
            chart: stepper.chart,
            stepper,
            position,
            trail,
            event_name: "",
            payload: Payload::Nothing,
            internal: VecDeque::new(),
            locals: Vec::new(),
            actions: 0,
            budget: Budget::default(),
            assigned: false,
            reason: None,
            calling: Vec::new(),
            silent_since: None,
            failing: Vec::new(),
        }
    }

    /// Enters the chart at `targets`, whatever was active (`interpret`).
    pub fn begin(mut self, targets: &[StateIndex], by_default: bool) -> Result<(), StepError> {
        self.position.active.clear();
        self.position.leaves.clear();
        self.enter(&self.chart.beginning(targets, by_default))?;
        self.settle()
    }

    /// `begin`, but nothing is done on the way in, and delays count from `since`.
    pub fn stand(mut self, states: &[StateIndex], since: Timestamp) -> Result<(), StepError> {
        self.silent_since = Some(since);
        self.enter(&self.chart.beginning(states, false))?;
        self.silent_since = None;
        self.settle()
    }

    /// Takes an event from outside, and all that follows from it.
    pub fn take(mut self, occurrence: Occurrence<'a>) -> Result<(), StepError> {
        (self.event_name, self.payload) = (occurrence.name, Payload::Given(occurrence.payload));
        let enabled = self.select_transitions(occurrence.event)?;
        if enabled.is_empty() && self.internal.is_empty() {
            return Err(StepError::NotTaken);
        }
        let taken = self.trail.taken.len();
        self.microstep(&enabled)?;
        self.settle()?;
        // A guard may have failed, and nobody have answered to that either.
        if self.trail.taken.len() == taken { Err(StepError::NotTaken) } else { Ok(()) }
    }

    /// Carries on with a transition that has been selected.
    pub fn carry_on(
        mut self,
        occurrence: Occurrence<'a>,
        chosen: TransitionIndex,
        budget: Budget,
    ) -> Result<(), StepError> {
        (self.event_name, self.payload) = (occurrence.name, Payload::Given(occurrence.payload));
        self.budget = budget;
        self.microstep(&[chosen])?;
        self.settle()
    }

    /// Eventless transitions before internal events, until neither is left, then the calls of the states that have
    /// been entered (`mainEventLoop`, its inner part).
    fn settle(&mut self) -> Result<(), StepError> {
        for _ in 0..SMALL_STEPS_MAX {
            if self.trail.closed.is_some() {
                return self.end();
            }
            let mut enabled = self.select_eventless()?;
            while enabled.is_empty() {
                let Some(raised) = self.internal.pop_front() else {
                    if self.calling.is_empty() {
                        return self.rest();
                    }
                    self.make_calls()?;
                    continue;
                };
                self.event_name = self.chart.event_name(raised.event);
                self.payload = raised.payload;
                enabled = self.select_transitions(raised.event)?;
                match raised.failed {
                    Some(problem) if enabled.is_empty() => return Err(StepError::Expression(problem)),
                    _ if enabled.is_empty() => enabled = self.select_eventless()?,
                    _ => {}
                }
            }
            self.microstep(&enabled)?;
        }
        Err(StepError::Limit(self.cycle()))
    }

    /// `exitInterpreter`: the exit actions of all that is still active run; the configuration stays to be read.
    fn end(&mut self) -> Result<(), StepError> {
        let chart = self.chart;
        let active: Vec<StateIndex> = self.position.active.iter().rev().copied().collect();
        for state in active {
            self.act(&chart.state(state).exit)?;
        }
        // Nothing is taken any more, so nobody can answer to a failure.
        if let Some(problem) = self.internal.drain(..).find_map(|raised| raised.failed) {
            return Err(StepError::Expression(problem));
        }
        self.position.timers.clear();
        self.position.invocations.clear();
        self.rest()
    }

    fn rest(&self) -> Result<(), StepError> {
        if self.assigned {
            bound::check(&self.position.context)
                .map_err(|problem| StepError::Expression(format!("the context {problem}")))?;
        }
        Ok(())
    }

    /// The transitions taken last, once round if they go round.
    fn cycle(&self) -> Vec<String> {
        let taken = &self.trail.taken;
        let repeats = |length: &usize| {
            let (rest, last) = taken.split_at(taken.len() - length);
            rest.ends_with(last)
        };
        let length = (1..=taken.len() / 2).find(repeats);
        let last = &taken[taken.len().saturating_sub(length.unwrap_or(8))..];
        let step = |index: &TransitionIndex| {
            let transition = self.chart.transition(*index);
            let event = match &*transition.event {
                "" => "always",
                event => event,
            };
            let source = match &*self.chart.state(transition.source).path {
                "" => "(top)",
                path => path,
            };
            let targets = match self.stepper.paths(&transition.targets).join(" ") {
                none if none.is_empty() => source.to_owned(),
                targets => targets,
            };
            format!("{source} --{event}--> {targets}")
        };
        last.iter().map(step).collect()
    }

    fn select_transitions(&mut self, event: EventIndex) -> Result<Vec<TransitionIndex>, StepError> {
        let chart = self.chart;
        self.select(|leaf| chart.candidates(leaf, event))
    }

    fn select_eventless(&mut self) -> Result<Vec<TransitionIndex>, StepError> {
        let chart = self.chart;
        self.select(|leaf| chart.eventless(leaf))
    }

    /// `selectTransitions`: for each atomic state the first enabled transition of it or its ancestors.
    fn select<'c>(
        &mut self,
        candidates: impl Fn(StateIndex) -> &'c [TransitionIndex],
    ) -> Result<Vec<TransitionIndex>, StepError> {
        let (mut enabled, mut active) = (Vec::new(), None);
        for at in 0..self.position.leaves.len() {
            for candidate in candidates(self.position.leaves[at]) {
                let (stepper, payload) = (self.stepper, self.payload.fields());
                let test = |fuel: &mut Fuel| {
                    stepper.enabled(*candidate, self.position, self.event_name, payload, &mut active, fuel)
                };
                let passes = self.budget.spend(test);
                self.budget.check()?;
                match passes {
                    Ok(false) => continue,
                    Ok(true) if enabled.contains(candidate) => {}
                    Ok(true) => enabled.push(*candidate),
                    Err(problem) => {
                        self.note_failing_guard(*candidate, problem)?;
                        continue;
                    }
                }
                break;
            }
        }
        if enabled.len() > 1 {
            self.remove_conflicting(&mut enabled);
        }
        Ok(enabled)
    }

    /// An eventless guard is asked again and again: it says once that it fails.
    fn note_failing_guard(&mut self, guard: TransitionIndex, problem: String) -> Result<(), StepError> {
        if self.chart.error_event.is_none() || self.failing.contains(&guard) {
            return Ok(());
        }
        self.failing.push(guard);
        self.raise_failure(problem, Failed::Guard)
    }

    pub fn raise_failure(&mut self, problem: String, failed: Failed) -> Result<(), StepError> {
        let Some(event) = self.chart.error_event else {
            return Err(StepError::Expression(problem));
        };
        let payload = Fields::from_iter([("message".to_owned(), Value::from(problem.as_str()))]);
        let failed = (failed == Failed::Action).then_some(problem);
        self.internal.push_back(Raised { event, payload: Payload::Own(Arc::new(payload)), failed });
        Ok(())
    }

    /// `removeConflictingTransitions`: of two that leave a common state, the one of the descendant wins, else
    /// the one that comes first.
    fn remove_conflicting(&self, enabled: &mut Vec<TransitionIndex>) {
        let mut kept = 0;
        for at in 0..enabled.len() {
            let one = enabled[at];
            let wins = |other: &TransitionIndex| {
                let source = |t: TransitionIndex| self.chart.transition(t).source;
                self.chart.is_descendant(source(one), source(*other))
            };
            if enabled[..kept].iter().any(|other| self.conflict(one, *other) && !wins(other)) {
                continue;
            }
            let mut below = 0;
            for other in 0..kept {
                if !self.conflict(one, enabled[other]) {
                    enabled[below] = enabled[other];
                    below += 1;
                }
            }
            enabled[below] = one;
            kept = below + 1;
        }
        enabled.truncate(kept);
    }

    /// Whether two transitions leave a common state: then the one's domain lies in the other's.
    fn conflict(&self, one: TransitionIndex, other: TransitionIndex) -> bool {
        let domain = |t| self.chart.domain(t, &self.position.history);
        match (domain(one), domain(other)) {
            (Some(one), Some(other)) => {
                one == other || self.chart.is_descendant(one, other) || self.chart.is_descendant(other, one)
            }
            _ => false,
        }
    }

    /// `microstep`: out of all states that are left, then the actions, then into all that are entered.
    fn microstep(&mut self, transitions: &[TransitionIndex]) -> Result<(), StepError> {
        if let [only] = transitions {
            let domain = self.chart.domain(*only, &self.position.history);
            self.exit(domain.into_iter())?;
            self.act_on(*only)?;
            return self.enter_by(*only, domain);
        }
        let domain = |t: &TransitionIndex| self.chart.domain(*t, &self.position.history);
        let mut moves: Vec<(StateIndex, TransitionIndex)> =
            transitions.iter().filter_map(|t| Some((domain(t)?, *t))).collect();
        // What does not conflict lies side by side: leaving domain by domain is leaving in document order.
        moves.sort_unstable();
        self.exit(moves.iter().map(|(domain, _)| *domain))?;
        for index in transitions {
            self.act_on(*index)?;
        }
        for (domain, index) in moves {
            self.enter_by(index, Some(domain))?;
        }
        Ok(())
    }

    /// `executeTransitionContent`
    fn act_on(&mut self, index: TransitionIndex) -> Result<(), StepError> {
        self.trail.taken.push(index);
        let transition = self.chart.transition(index);
        if transition.reason.is_some() {
            self.reason.clone_from(&transition.reason);
        }
        if !transition.ensures.is_empty() {
            self.trail.promises.push(Promise {
                transition: index,
                event_name: self.event_name.into(),
                payload: self.payload.fields().clone(),
            });
        }
        self.act(&transition.actions)
    }

    /// Enters what a transition leads to. Only now that all has been left: a history state that is entered stands for
    /// what has just been left.
    fn enter_by(&mut self, index: TransitionIndex, domain: Option<StateIndex>) -> Result<(), StepError> {
        let chart = self.chart;
        match (chart.plan(index), domain) {
            (_, None) => Ok(()),
            (Some(plan), _) => self.enter(&plan.entered),
            (None, Some(domain)) => {
                let targets = &chart.transition(index).targets;
                let entered = chart.entry_set(targets, domain, &self.position.history);
                self.enter(&entered)
            }
        }
    }

    /// `exitStates`: history is recorded first, then the descendants of each domain are left from the innermost out.
    fn exit(
        &mut self,
        domains: impl DoubleEndedIterator<Item = StateIndex> + Clone,
    ) -> Result<(), StepError> {
        let chart = self.chart;
        if chart.has_history {
            domains.clone().for_each(|domain| self.remember(domain));
        }
        for domain in domains.rev() {
            loop {
                let end = self.position.active.partition_point(|s| *s < chart.state(domain).end);
                let Some(state) = end.checked_sub(1).map(|last| self.position.active[last]) else { break };
                if state <= domain {
                    break;
                }
                self.leave(state)?;
                self.position.remove(state);
            }
        }
        Ok(())
    }

    fn leave(&mut self, state: StateIndex) -> Result<(), StepError> {
        let chart = self.chart;
        let exited = chart.state(state);
        self.act(&exited.exit)?;
        for (_, event) in &exited.after {
            let id = chart.event_name(*event);
            self.position.timers.retain(|timer| timer.id != *id);
        }
        for call in &exited.calls {
            self.position.forget_call(&call.id);
        }
        self.calling.retain(|calling| *calling != state);
        Ok(())
    }

    /// What the history states inside the states that are left will stand for.
    fn remember(&mut self, domain: StateIndex) {
        let chart = self.chart;
        let Position { active, history, .. } = &mut *self.position;
        for state in active.iter().filter(|state| chart.is_descendant(**state, domain)) {
            for child in &chart.state(*state).children {
                let inside = |s: &&StateIndex| match chart.state(*child).kind {
                    Kind::DeepHistory => chart.is_atomic(**s) && chart.is_descendant(**s, *state),
                    _ => **s != ROOT && chart.state(**s).parent == *state,
                };
                if chart.is_history(*child) {
                    history.insert(*child, active.iter().filter(inside).copied().collect());
                }
            }
        }
    }

    /// `enterStates`: from the outermost in; timers start, entry actions run, done events are raised.
    fn enter(&mut self, entered: &[Entered]) -> Result<(), StepError> {
        let chart = self.chart;
        for Entered { state, by_default, history } in entered {
            let state = *state;
            if !self.position.add(state, chart.is_atomic(state)) {
                continue;
            }
            let entering = chart.state(state);
            for (delay, event) in &entering.after {
                let id = chart.event_name(*event);
                // What was entered elsewhere may have its timer already.
                if self.silent_since.is_some() && self.position.timers.iter().any(|timer| timer.id == *id) {
                    continue;
                }
                let since = self.silent_since.unwrap_or(self.stepper.now);
                self.position.timers.push(Timer::new(Arc::clone(id), since.plus(*delay)));
            }
            if !entering.calls.is_empty() {
                self.calling.push(state);
            }
            if self.silent_since.is_none() {
                self.act(&entering.entry)?;
                if *by_default {
                    self.act(&entering.initial_actions)?;
                }
                if let Some(history) = history {
                    self.act(&chart.state(*history).initial_actions)?;
                }
            }
            if entering.kind == Kind::Final {
                self.finish(state)?;
            }
        }
        Ok(())
    }

    /// Raises what follows from entering a final state, or ends the chart.
    fn finish(&mut self, state: StateIndex) -> Result<(), StepError> {
        let chart = self.chart;
        let parent = chart.state(state).parent;
        let output = self.output_of(state)?;
        if parent == ROOT {
            let own = chart.state(state).reason.clone();
            let path = || Arc::clone(&chart.state(state).path);
            self.trail.closed = Some(self.reason.take().or(own).unwrap_or_else(path));
            self.trail.output = output.fields().clone();
            return Ok(());
        }
        let raised = |event, payload| Raised { event, payload, failed: None };
        self.internal.extend(chart.state(parent).done_event.map(|event| raised(event, output)));
        for ancestor in chart.ancestors(parent) {
            let parallel = chart.state(ancestor).kind == Kind::Parallel;
            if !parallel || !self.is_in_final(ancestor) {
                break;
            }
            let done = chart.state(ancestor).done_event;
            self.internal.extend(done.map(|event| raised(event, Payload::Nothing)));
            if ancestor == ROOT {
                let reason = self.reason.take().unwrap_or_else(|| "completed".into());
                self.trail.closed = Some(reason);
            }
        }
        Ok(())
    }

    /// What a final state comes to; a value that fails is left out.
    fn output_of(&mut self, state: StateIndex) -> Result<Payload<'static>, StepError> {
        let output = &self.chart.state(state).output;
        if output.is_empty() {
            return Ok(Payload::Nothing);
        }
        let mut fields = Fields::new();
        for value in output {
            match self.payload_of(std::slice::from_ref(value)) {
                Ok(one) => fields.extend(one.fields().clone()),
                Err(problem) => self.settle_failure(Err(Stopped::Failed(problem)))?,
            }
        }
        Ok(Payload::Own(Arc::new(fields)))
    }

    /// `isInFinalState`
    fn is_in_final(&self, state: StateIndex) -> bool {
        let children = &self.chart.state(state).children;
        match self.chart.state(state).kind {
            Kind::Compound => children
                .iter()
                .any(|c| self.chart.state(*c).kind == Kind::Final && self.position.is_active(*c)),
            Kind::Parallel => {
                let mut regions = children.iter().filter(|c| !self.chart.is_history(**c));
                regions.all(|region| self.is_in_final(*region))
            }
            _ => false,
        }
    }

    /// `invoke`: the calls of the states that have been entered and not left, once the chart is at rest.
    fn make_calls(&mut self) -> Result<(), StepError> {
        let chart = self.chart;
        for state in std::mem::take(&mut self.calling) {
            for call in &chart.state(state).calls {
                // Of a state that was entered elsewhere, it may be under way already.
                if self.position.invocations.iter().any(|invocation| invocation.id == call.id) {
                    continue;
                }
                let input = match self.payload_of(&call.input) {
                    Ok(input) => input.fields().clone(),
                    Err(problem) => {
                        let problem = format!("the input of the call `{}`: {problem}", call.id);
                        self.settle_failure(Err(Stopped::Failed(problem)))?;
                        continue;
                    }
                };
                let timer = Timer::of_call(
                    &call.id,
                    self.stepper.now.plus(call.timeout),
                    Arc::clone(chart.event_name(call.error_event)),
                );
                self.position.timers.push(timer);
                self.position.invocations.push(Invocation {
                    id: Arc::clone(&call.id),
                    src: Arc::clone(&call.src),
                    input,
                    key: String::new(),
                });
            }
        }
        Ok(())
    }
}
