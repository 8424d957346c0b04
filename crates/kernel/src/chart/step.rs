//! The statechart step: one event, carried through small steps until the chart is at rest.
//!
//! The algorithm is that of the W3C's SCXML recommendation (appendix D); functions name the procedure that they
//! implement. A transition into its own source's descendants is internal unless it says `reenter`. A flat
//! chart takes the short path, which allocates nothing for a transition that changes no context.
//! On an error the position is left half-way and must be thrown away.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, LazyLock};

use crate::chart::{
    Action, Assigned, Chart, EventIndex, Kind, ROOT, ReplyIndex, StateIndex, TransitionIndex,
};
use crate::definition::FieldDefinition;
use crate::expression::Scope;
use crate::input::Fields;
use crate::refusal::{Considered, GuardVerdict};
use crate::snapshot::Timer;
use crate::time::Timestamp;

/// More small steps than any sensible chart takes for one event; what reaches it goes round in a circle.
pub const SMALL_STEPS_MAX: usize = 256;

static NO_PAYLOAD: LazyLock<Fields> = LazyLock::new(Fields::new);

/// Where an instance stands in its chart.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Position {
    /// The active atomic states, in document order.
    pub leaves: Vec<StateIndex>,
    pub history: BTreeMap<StateIndex, Vec<StateIndex>>,
    pub context: Arc<Fields>,
    pub timers: Vec<Timer>,
}

/// What a step did, beside moving the position.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Trail {
    /// The transitions taken, in order.
    pub taken: Vec<TransitionIndex>,
    /// The replies given, each with the context of its moment.
    pub replies: Vec<(ReplyIndex, Arc<Fields>)>,
    /// The chart has ended, for this reason.
    pub closed: Option<Arc<str>>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum StepError {
    /// No transition takes the event; these were looked at.
    NotTaken,
    /// An action could not be evaluated.
    Expression(String),
    /// The chart did not come to rest; the last steps.
    Limit(Vec<String>),
}

/// The chart with what a step needs to know beside it.
#[derive(Clone, Copy, Debug)]
pub struct Stepper<'a> {
    pub chart: &'a Chart,
    pub fields: &'a [FieldDefinition],
    pub now: Timestamp,
}

impl<'a> Stepper<'a> {
    /// Enters the chart (`interpret`, up to the first rest).
    ///
    /// # Errors
    /// As `take`.
    pub fn start(self, position: &mut Position, trail: &mut Trail) -> Result<(), StepError> {
        let mut run = Run::new(self, position, &NO_PAYLOAD, trail);
        let initial = run.initial_of(ROOT);
        let mut entered = BTreeSet::from([ROOT]);
        run.add_targets(&initial, ROOT, &mut entered);
        run.enter(&entered)?;
        run.settle()
    }

    /// Takes one event.
    ///
    /// # Errors
    /// `NotTaken` leaves the position as it was; after any other error it must be thrown away.
    pub fn take(
        self,
        position: &mut Position,
        event: EventIndex,
        payload: &Fields,
        trail: &mut Trail,
    ) -> Result<(), StepError> {
        if self.chart.is_flat {
            return self.take_flat(position, event, payload, trail);
        }
        let mut run = Run::new(self, position, payload, trail);
        let enabled = run.select_transitions(event);
        if enabled.is_empty() {
            return Err(StepError::NotTaken);
        }
        run.microstep(&enabled)?;
        run.settle()
    }

    /// Puts the chart into `state` as if by a transition from the root, without leaving anything out.
    ///
    /// # Errors
    /// As `take`.
    pub fn jump(
        self,
        position: &mut Position,
        state: StateIndex,
        trail: &mut Trail,
    ) -> Result<(), StepError> {
        position.timers.clear();
        position.leaves.clear();
        position.history.clear();
        let mut run = Run::new(self, position, &NO_PAYLOAD, trail);
        run.active.clear();
        let mut entered = BTreeSet::from([ROOT]);
        run.add_targets(&[state], ROOT, &mut entered);
        run.enter(&entered)?;
        run.settle()
    }

    /// The short path: one active state, no hierarchy, nothing eventless.
    fn take_flat(
        self,
        position: &mut Position,
        event: EventIndex,
        payload: &Fields,
        trail: &mut Trail,
    ) -> Result<(), StepError> {
        let from = position.leaves[0];
        let candidates = self.chart.candidates(from, event).iter().copied();
        let Some(chosen) = candidates.into_iter().find(|t| self.enabled(*t, position, payload)) else {
            return Err(StepError::NotTaken);
        };
        trail.taken.push(chosen);
        let transition = self.chart.transition(chosen);
        let target = transition.targets.first().copied();
        let moves = target.filter(|to| *to != from || transition.reenter);
        let simple = moves.is_none_or(|to| {
            let (from, to) = (self.chart.state(from), self.chart.state(to));
            to.kind == Kind::Atomic
                && from.exit.is_empty()
                && to.entry.is_empty()
                && from.after.is_empty()
                && to.after.is_empty()
        });
        if simple && transition.actions.is_empty() {
            if let Some(to) = moves {
                position.leaves[0] = to;
            }
            return Ok(());
        }
        let mut run = Run::new(self, position, payload, trail);
        run.trail.taken.pop();
        run.microstep(&[chosen])?;
        run.settle()
    }

    fn enabled(self, transition: TransitionIndex, position: &Position, payload: &Fields) -> bool {
        match &self.chart.transition(transition).guard {
            None => true,
            Some(guard) => {
                let active = if guard.reads().active { self.paths(&position.leaves) } else { Vec::new() };
                let scope =
                    Scope { context: &position.context, event: payload, active: &active, now: self.now };
                guard.test(scope).unwrap_or(false)
            }
        }
    }

    pub fn paths(self, leaves: &[StateIndex]) -> Vec<Arc<str>> {
        leaves.iter().map(|leaf| Arc::clone(&self.chart.state(*leaf).path)).collect()
    }

    /// Every transition that an event leads to from here, in the order of choosing, with its guard's verdict.
    pub fn consider(self, position: &Position, event: EventIndex, payload: &Fields) -> Vec<Considered> {
        let active = self.paths(&position.leaves);
        let scope = Scope { context: &position.context, event: payload, active: &active, now: self.now };
        let mut considered = Vec::new();
        let mut seen = BTreeSet::new();
        for leaf in &position.leaves {
            let mut chosen_here = false;
            for index in self.chart.candidates(*leaf, event) {
                let transition = self.chart.transition(*index);
                let verdict = transition.guard.as_ref().map(|guard| {
                    let result = guard.test(scope);
                    GuardVerdict {
                        expression: guard.source.to_string(),
                        passed: result == Ok(true),
                        error: result.err(),
                        values: guard.values(scope),
                    }
                });
                let passes = verdict.as_ref().is_none_or(|v| v.passed);
                let chosen = passes && !chosen_here;
                chosen_here |= passes;
                if seen.insert(*index) {
                    considered.push(Considered {
                        state: self.chart.state(transition.source).path.to_string(),
                        event: transition.event.to_string(),
                        target: self.paths(&transition.targets).iter().map(ToString::to_string).collect(),
                        chosen,
                        guard: verdict,
                    });
                }
            }
        }
        considered
    }
}

/// One big step in progress.
struct Run<'a> {
    stepper: Stepper<'a>,
    chart: &'a Chart,
    position: &'a mut Position,
    payload: &'a Fields,
    trail: &'a mut Trail,
    /// All active states, ancestors included.
    active: BTreeSet<StateIndex>,
    /// Raised and done events, before anything from outside.
    internal: VecDeque<EventIndex>,
    reason: Option<Arc<str>>,
}

impl<'a> Run<'a> {
    fn new(
        stepper: Stepper<'a>,
        position: &'a mut Position,
        payload: &'a Fields,
        trail: &'a mut Trail,
    ) -> Self {
        let chart = stepper.chart;
        let mut active: BTreeSet<StateIndex> = position.leaves.iter().copied().collect();
        for leaf in &position.leaves {
            active.extend(chart.ancestors(*leaf));
        }
        Self { stepper, chart, position, payload, trail, active, internal: VecDeque::new(), reason: None }
    }

    /// Eventless transitions before internal events, until neither is left (`mainEventLoop`, its inner part).
    fn settle(&mut self) -> Result<(), StepError> {
        for _ in 0..SMALL_STEPS_MAX {
            if self.trail.closed.is_some() {
                self.position.timers.clear();
                return Ok(());
            }
            let mut enabled = self.select_eventless();
            while enabled.is_empty() {
                let Some(event) = self.internal.pop_front() else {
                    return Ok(());
                };
                // Raised and done events carry no payload.
                self.payload = &NO_PAYLOAD;
                enabled = self.select_transitions(event);
            }
            self.microstep(&enabled)?;
        }
        let last = self.trail.taken.iter().rev().take(8).rev();
        let step = |index: &TransitionIndex| {
            let transition = self.chart.transition(*index);
            let event = if transition.event.is_empty() { "always" } else { &transition.event };
            format!("{} --{event}-->", self.chart.state(transition.source).path)
        };
        Err(StepError::Limit(last.map(step).collect()))
    }

    fn select_transitions(&self, event: EventIndex) -> Vec<TransitionIndex> {
        self.select(|leaf| self.chart.candidates(leaf, event))
    }

    fn select_eventless(&self) -> Vec<TransitionIndex> {
        self.select(|leaf| self.chart.eventless(leaf))
    }

    /// `selectTransitions`: for each atomic state the first enabled transition of it or its ancestors.
    fn select<'c>(&self, candidates: impl Fn(StateIndex) -> &'c [TransitionIndex]) -> Vec<TransitionIndex> {
        let mut enabled = Vec::new();
        for leaf in &self.position.leaves {
            let mut offered = candidates(*leaf).iter().copied();
            if let Some(first) = offered.find(|t| self.stepper.enabled(*t, self.position, self.payload))
                && !enabled.contains(&first)
            {
                enabled.push(first);
            }
        }
        self.remove_conflicting(&enabled)
    }

    /// `removeConflictingTransitions`: of two that leave a common state, the one of the descendant wins, else
    /// the one that comes first.
    fn remove_conflicting(&self, enabled: &[TransitionIndex]) -> Vec<TransitionIndex> {
        let mut kept: Vec<TransitionIndex> = Vec::new();
        for one in enabled {
            let leaves = self.exit_set(*one);
            let conflicts = |other: &TransitionIndex| !self.exit_set(*other).is_disjoint(&leaves);
            let source = |t: TransitionIndex| self.chart.transition(t).source;
            let preempted = kept
                .iter()
                .any(|other| conflicts(other) && !self.chart.is_descendant(source(*one), source(*other)));
            if !preempted {
                kept.retain(|other| !conflicts(other));
                kept.push(*one);
            }
        }
        kept
    }

    /// `computeExitSet` for one transition.
    fn exit_set(&self, transition: TransitionIndex) -> BTreeSet<StateIndex> {
        match self.domain(transition) {
            None => BTreeSet::new(),
            Some(domain) => {
                let inside = |s: &&StateIndex| self.chart.is_descendant(**s, domain);
                self.active.iter().filter(inside).copied().collect()
            }
        }
    }

    /// `getTransitionDomain`: the state whose descendants are left and entered; `None` for a targetless one.
    fn domain(&self, index: TransitionIndex) -> Option<StateIndex> {
        let transition = self.chart.transition(index);
        let targets = self.effective_targets(&transition.targets);
        if targets.is_empty() {
            return None;
        }
        let source = transition.source;
        let within = |t: &StateIndex| *t == source || self.chart.is_descendant(*t, source);
        let holds_children = matches!(self.chart.state(source).kind, Kind::Compound | Kind::Atomic);
        if !transition.reenter && holds_children && targets.iter().all(within) {
            return Some(source);
        }
        let holds_all = |ancestor: &StateIndex| {
            let compound = self.chart.state(*ancestor).kind == Kind::Compound || *ancestor == ROOT;
            compound && targets.iter().all(|t| self.chart.is_descendant(*t, *ancestor))
        };
        self.chart.ancestors(source).find(holds_all).or(Some(ROOT))
    }

    /// `getEffectiveTargetStates`: history states stand for what they remember.
    fn effective_targets(&self, targets: &[StateIndex]) -> Vec<StateIndex> {
        let mut effective = Vec::new();
        for target in targets {
            if !self.chart.is_history(*target) {
                effective.push(*target);
            } else if let Some(remembered) = self.position.history.get(target) {
                effective.extend(remembered);
            } else {
                effective.extend(self.effective_targets(&self.initial_of(*target)));
            }
        }
        effective
    }

    fn initial_of(&self, state: StateIndex) -> Vec<StateIndex> {
        self.chart.state(state).initial.clone()
    }

    fn microstep(&mut self, transitions: &[TransitionIndex]) -> Result<(), StepError> {
        let mut left = BTreeSet::new();
        let mut entered = BTreeSet::new();
        for transition in transitions {
            left.extend(self.exit_set(*transition));
        }
        for transition in transitions {
            if let Some(domain) = self.domain(*transition) {
                let targets = self.chart.transition(*transition).targets.clone();
                self.add_targets(&targets, domain, &mut entered);
                entered.remove(&domain);
            }
        }
        self.exit(&left)?;
        for index in transitions {
            self.trail.taken.push(*index);
            let transition = self.chart.transition(*index);
            if transition.reason.is_some() {
                self.reason.clone_from(&transition.reason);
            }
            self.act(&transition.actions)?;
        }
        self.enter(&entered)
    }

    /// `exitStates`: history is recorded first, then states are left from the innermost out.
    fn exit(&mut self, left: &BTreeSet<StateIndex>) -> Result<(), StepError> {
        for state in left {
            for child in &self.chart.state(*state).children {
                self.remember(*state, *child);
            }
        }
        for state in left.iter().rev() {
            let exited = self.chart.state(*state);
            self.act(&exited.exit)?;
            for (_, event) in &exited.after {
                let id = self.chart.event_name(*event);
                self.position.timers.retain(|timer| timer.id != *id);
            }
            self.active.remove(state);
        }
        self.position.leaves.retain(|leaf| !left.contains(leaf));
        Ok(())
    }

    fn remember(&mut self, parent: StateIndex, child: StateIndex) {
        let inside = |s: &&StateIndex| match self.chart.state(child).kind {
            Kind::DeepHistory => self.chart.is_atomic(**s) && self.chart.is_descendant(**s, parent),
            Kind::ShallowHistory => self.chart.state(**s).parent == parent,
            _ => false,
        };
        if self.chart.is_history(child) {
            let remembered: Vec<StateIndex> = self.active.iter().filter(inside).copied().collect();
            self.position.history.insert(child, remembered);
        }
    }

    /// `computeEntrySet` for the targets of one transition.
    fn add_targets(&self, targets: &[StateIndex], domain: StateIndex, entered: &mut BTreeSet<StateIndex>) {
        let effective = self.effective_targets(targets);
        for target in &effective {
            self.add_descendants(*target, entered);
        }
        for target in &effective {
            self.add_ancestors(*target, domain, entered);
        }
    }

    /// `addDescendantStatesToEnter`
    fn add_descendants(&self, state: StateIndex, entered: &mut BTreeSet<StateIndex>) {
        entered.insert(state);
        match self.chart.state(state).kind {
            Kind::Compound => {
                let targets = self.effective_targets(&self.initial_of(state));
                for target in &targets {
                    self.add_descendants(*target, entered);
                }
                for target in &targets {
                    self.add_ancestors(*target, state, entered);
                }
            }
            Kind::Parallel => self.add_regions(state, entered),
            _ => {}
        }
    }

    /// `addAncestorStatesToEnter`
    fn add_ancestors(&self, state: StateIndex, domain: StateIndex, entered: &mut BTreeSet<StateIndex>) {
        for ancestor in self.chart.ancestors(state) {
            if ancestor == domain || !self.chart.is_descendant(ancestor, domain) {
                break;
            }
            entered.insert(ancestor);
            if self.chart.state(ancestor).kind == Kind::Parallel {
                self.add_regions(ancestor, entered);
            }
        }
    }

    fn add_regions(&self, parallel: StateIndex, entered: &mut BTreeSet<StateIndex>) {
        for region in &self.chart.state(parallel).children {
            let inside = |s: &StateIndex| *s == *region || self.chart.is_descendant(*s, *region);
            if !self.chart.is_history(*region) && !entered.iter().any(inside) {
                self.add_descendants(*region, entered);
            }
        }
    }

    /// `enterStates`: from the outermost in; timers start, entry actions run, done events are raised.
    fn enter(&mut self, entered: &BTreeSet<StateIndex>) -> Result<(), StepError> {
        for state in entered {
            let state = *state;
            if !self.active.insert(state) {
                continue;
            }
            if self.chart.is_atomic(state) {
                let at = self.position.leaves.partition_point(|leaf| *leaf < state);
                self.position.leaves.insert(at, state);
            }
            let entering = self.chart.state(state);
            for (delay, event) in &entering.after {
                let timer = Timer {
                    id: Arc::clone(self.chart.event_name(*event)),
                    deadline: self.stepper.now.plus(*delay),
                    payload: None,
                };
                self.position.timers.push(timer);
            }
            self.act(&entering.entry)?;
            if entering.kind == Kind::Final {
                self.finish(state);
            }
        }
        Ok(())
    }

    fn finish(&mut self, state: StateIndex) {
        let parent = self.chart.state(state).parent;
        if parent == ROOT {
            let own = self.chart.state(state).reason.clone();
            let path = || Arc::clone(&self.chart.state(state).path);
            self.trail.closed = Some(self.reason.take().or(own).unwrap_or_else(path));
            return;
        }
        self.internal.extend(self.chart.state(parent).done_event);
        let grandparent = self.chart.state(parent).parent;
        if self.chart.state(grandparent).kind == Kind::Parallel {
            let regions = &self.chart.state(grandparent).children;
            let mut regions = regions.iter().filter(|r| !self.chart.is_history(**r));
            if regions.all(|region| self.is_in_final(*region)) {
                self.internal.extend(self.chart.state(grandparent).done_event);
                if grandparent == ROOT {
                    let reason = self.reason.take().unwrap_or_else(|| "completed".into());
                    self.trail.closed = Some(reason);
                }
            }
        }
    }

    /// `isInFinalState`
    fn is_in_final(&self, state: StateIndex) -> bool {
        let children = &self.chart.state(state).children;
        match self.chart.state(state).kind {
            Kind::Compound => {
                children.iter().any(|c| self.chart.state(*c).kind == Kind::Final && self.active.contains(c))
            }
            Kind::Parallel => children.iter().all(|c| self.is_in_final(*c)),
            _ => false,
        }
    }

    /// `executeContent`
    fn act(&mut self, actions: &[Action]) -> Result<(), StepError> {
        for action in actions {
            match action {
                Action::Reply(reply) => {
                    self.trail.replies.push((*reply, Arc::clone(&self.position.context)));
                }
                Action::Raise(event) => self.internal.push_back(*event),
                Action::Assign { field, name, value } => {
                    let value = match value {
                        Assigned::Literal(value) => value.clone(),
                        Assigned::Expression(expression) => {
                            let active = self.stepper.paths(&self.position.leaves);
                            let scope = Scope {
                                context: &self.position.context,
                                event: self.payload,
                                active: &active,
                                now: self.stepper.now,
                            };
                            let failed = |e| StepError::Expression(format!("`{}`: {e}", expression.source));
                            expression.evaluate(scope).map_err(failed)?
                        }
                    };
                    let field = &self.stepper.fields[usize::from(field.0)];
                    field
                        .accepts(&value)
                        .map_err(|problem| StepError::Expression(format!("context.{name} {problem}")))?;
                    Arc::make_mut(&mut self.position.context).insert(name.to_string(), value);
                }
            }
        }
        Ok(())
    }
}
