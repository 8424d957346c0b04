//! A big step in progress: one event, carried through small steps until the chart is at rest.
//!
//! The algorithm is that of the W3C's SCXML recommendation (appendix D); functions name the procedure that they
//! implement. It differs in four places, each in favour of what an author expects: a transition into its own
//! source's descendants is internal unless it says `reenter`; the top may itself be parallel; a parallel state
//! whose last region to end is parallel itself is done as well; and ending leaves the final state active.
//!
//! `event` in expressions is the event that is being taken: for one from outside its payload, seen by every action
//! and by the eventless transitions after it, until the first raised or done event; those carry no payload.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, LazyLock};

use serde_json::Value;

use crate::bound;
use crate::chart::step::{Position, StepError, Stepper, Trail};
use crate::chart::{
    Action, Assigned, Chart, EventIndex, FieldIndex, Kind, ROOT, StateIndex, TransitionIndex,
};
use crate::expression::{Expression, Scope};
use crate::input::Fields;
use crate::snapshot::Timer;

/// More small steps than any sensible chart takes for one event; what reaches it goes round in a circle.
pub const SMALL_STEPS_MAX: usize = 256;

pub(super) static NO_PAYLOAD: LazyLock<Fields> = LazyLock::new(Fields::new);

/// One big step in progress.
pub(super) struct Run<'a> {
    stepper: Stepper<'a>,
    chart: &'a Chart,
    position: &'a mut Position,
    payload: &'a Fields,
    trail: &'a mut Trail,
    /// All active states, ancestors included.
    active: BTreeSet<StateIndex>,
    /// Raised and done events, before anything from outside.
    internal: VecDeque<EventIndex>,
    /// What the last transition that names one gives as the reason, should the chart end.
    reason: Option<Arc<str>>,
    /// The context has to be measured before the chart rests.
    assigned: bool,
}

impl<'a> Run<'a> {
    pub fn new(
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
        Self {
            stepper,
            chart,
            position,
            payload,
            trail,
            active,
            internal: VecDeque::new(),
            reason: None,
            assigned: false,
        }
    }

    /// Enters the chart at `targets`, whatever was active.
    pub fn begin(mut self, targets: &[StateIndex]) -> Result<(), StepError> {
        self.active.clear();
        let mut entered = BTreeSet::from([ROOT]);
        self.add_targets(targets, ROOT, &mut entered);
        self.enter(&entered)?;
        self.settle()
    }

    /// Takes the transitions that were selected for an event, and all that follows from them.
    pub fn carry_on(mut self, enabled: &[TransitionIndex]) -> Result<(), StepError> {
        self.microstep(enabled)?;
        self.settle()
    }

    /// Eventless transitions before internal events, until neither is left (`mainEventLoop`, its inner part).
    fn settle(&mut self) -> Result<(), StepError> {
        for _ in 0..SMALL_STEPS_MAX {
            if self.trail.closed.is_some() {
                return self.end();
            }
            let mut enabled = self.select_eventless();
            while enabled.is_empty() {
                let Some(event) = self.internal.pop_front() else {
                    return self.rest();
                };
                // Raised and done events carry no payload, which an eventless guard may ask about.
                self.payload = &NO_PAYLOAD;
                enabled = self.select_transitions(event);
                if enabled.is_empty() {
                    enabled = self.select_eventless();
                }
            }
            self.microstep(&enabled)?;
        }
        Err(StepError::Limit(self.cycle()))
    }

    /// `exitInterpreter`: the exit actions of all that is still active run; the configuration stays to be read.
    fn end(&mut self) -> Result<(), StepError> {
        let active: Vec<StateIndex> = self.active.iter().rev().copied().collect();
        for state in active {
            self.act(&self.chart.state(state).exit)?;
        }
        self.position.timers.clear();
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
            let source = &*self.chart.state(transition.source).path;
            let targets = match self.stepper.paths(&transition.targets).join(" ") {
                none if none.is_empty() => source.to_owned(),
                targets => targets,
            };
            format!("{source} --{event}--> {targets}")
        };
        last.iter().map(step).collect()
    }

    pub fn select_transitions(&self, event: EventIndex) -> Vec<TransitionIndex> {
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
        if !transition.reenter && targets.iter().all(within) {
            match self.chart.state(source).kind {
                Kind::Compound => return Some(source),
                // To itself and from nowhere else: nothing is left, so nothing may be entered either, even if another
                // transition of the same step leaves the state.
                Kind::Atomic => return None,
                _ => {}
            }
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
                effective.extend(self.effective_targets(&self.chart.state(*target).initial));
            }
        }
        effective
    }

    /// `microstep`: out of all states that are left, then the actions, then into all that are entered.
    fn microstep(&mut self, transitions: &[TransitionIndex]) -> Result<(), StepError> {
        let domains: Vec<Option<StateIndex>> = transitions.iter().map(|t| self.domain(*t)).collect();
        let mut left = BTreeSet::new();
        for transition in transitions {
            left.extend(self.exit_set(*transition));
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
        // Only now: a history state that is entered stands for what has just been left.
        let mut entered = BTreeSet::new();
        for (index, domain) in transitions.iter().zip(domains) {
            if let Some(domain) = domain {
                self.add_targets(&self.chart.transition(*index).targets, domain, &mut entered);
            }
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
            self.position.leaves.retain(|leaf| leaf != state);
        }
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
        // Only the top can be both a domain and parallel: the regions without a target begin anew.
        if self.chart.state(domain).kind == Kind::Parallel {
            self.add_regions(domain, entered);
        }
    }

    /// `addDescendantStatesToEnter`
    fn add_descendants(&self, state: StateIndex, entered: &mut BTreeSet<StateIndex>) {
        entered.insert(state);
        match self.chart.state(state).kind {
            Kind::Compound => {
                let targets = self.effective_targets(&self.chart.state(state).initial);
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

    /// Raises what follows from entering a final state, or ends the chart.
    fn finish(&mut self, state: StateIndex) {
        let parent = self.chart.state(state).parent;
        if parent == ROOT {
            let own = self.chart.state(state).reason.clone();
            let path = || Arc::clone(&self.chart.state(state).path);
            self.trail.closed = Some(self.reason.take().or(own).unwrap_or_else(path));
            return;
        }
        self.internal.extend(self.chart.state(parent).done_event);
        for ancestor in self.chart.ancestors(parent) {
            let parallel = self.chart.state(ancestor).kind == Kind::Parallel;
            if !parallel || !self.is_in_final(ancestor) {
                break;
            }
            self.internal.extend(self.chart.state(ancestor).done_event);
            if ancestor == ROOT {
                let reason = self.reason.take().unwrap_or_else(|| "completed".into());
                self.trail.closed = Some(reason);
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
            Kind::Parallel => {
                let mut regions = children.iter().filter(|c| !self.chart.is_history(**c));
                regions.all(|region| self.is_in_final(*region))
            }
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
                Action::Assign { field, name, value } => self.assign(*field, name, value)?,
            }
        }
        Ok(())
    }

    fn assign(&mut self, field: FieldIndex, name: &str, value: &Assigned) -> Result<(), StepError> {
        let value = match value {
            Assigned::Literal(value) => value.clone(),
            Assigned::Expression(expression) => self.evaluate(expression)?,
        };
        let definition = &self.stepper.fields[usize::from(field.0)];
        bound::check_value(&value)
            .and_then(|()| definition.accepts(&value))
            .map_err(|problem| StepError::Expression(format!("context.{name} {problem}")))?;
        self.assigned = true;
        Arc::make_mut(&mut self.position.context).insert(name.to_owned(), value);
        Ok(())
    }

    fn evaluate(&self, expression: &Expression) -> Result<Value, StepError> {
        let active = match expression.reads().active {
            true => self.stepper.paths(&self.position.leaves),
            false => Vec::new(),
        };
        let scope = Scope {
            context: &self.position.context,
            event: self.payload,
            event_name: "",
            active: &active,
            now: self.stepper.now,
            locals: &[],
        };
        expression.evaluate(scope).map_err(|e| StepError::Expression(format!("`{}`: {e}", expression.source)))
    }
}
