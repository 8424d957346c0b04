//! The statechart step: where an instance stands, and what an event makes of it.
//!
//! Owns the ways in: `start`, `take`, `jump`, and `consider`, which asks without taking. What happens then is a big
//! step (`run`). A flat chart takes the short path, which does the same and allocates nothing for a transition that
//! changes no context. On an error the position is left half-way and must be thrown away.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::chart::run::{NO_PAYLOAD, Run};
use crate::chart::{Chart, EventIndex, Kind, ROOT, ReplyIndex, StateIndex, TransitionIndex};
use crate::definition::FieldDefinition;
use crate::expression::Scope;
use crate::input::Fields;
use crate::refusal::{Considered, GuardVerdict};
use crate::snapshot::Timer;
use crate::time::Timestamp;

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
        let initial = &self.chart.state(ROOT).initial;
        Run::new(self, position, &NO_PAYLOAD, trail).begin(initial)
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
        let run = Run::new(self, position, payload, trail);
        let enabled = run.select_transitions(event);
        if enabled.is_empty() {
            return Err(StepError::NotTaken);
        }
        run.carry_on(&enabled)
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
        Run::new(self, position, &NO_PAYLOAD, trail).begin(&[state])
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
        let transition = self.chart.transition(chosen);
        let target = transition.targets.first().copied();
        // A state stays when it leads to itself, unless it says `reenter`; what the top leads to is always entered.
        let stays = |to: StateIndex| to == transition.source && !transition.reenter;
        let moves = target.filter(|to| !stays(*to));
        let simple = moves.is_none_or(|to| {
            let (from, to) = (self.chart.state(from), self.chart.state(to));
            to.kind == Kind::Atomic
                && from.exit.is_empty()
                && to.entry.is_empty()
                && from.after.is_empty()
                && to.after.is_empty()
        });
        if simple && transition.actions.is_empty() {
            trail.taken.push(chosen);
            if let Some(to) = moves {
                position.leaves[0] = to;
            }
            return Ok(());
        }
        Run::new(self, position, payload, trail).carry_on(&[chosen])
    }

    pub(super) fn enabled(self, transition: TransitionIndex, position: &Position, payload: &Fields) -> bool {
        match &self.chart.transition(transition).guard {
            None => true,
            Some(guard) => {
                let active = if guard.reads().active { self.paths(&position.leaves) } else { Vec::new() };
                let scope = Scope {
                    context: &position.context,
                    event: payload,
                    event_name: "",
                    active: &active,
                    now: self.now,
                    locals: &[],
                };
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
        let scope = Scope {
            context: &position.context,
            event: payload,
            event_name: "",
            active: &active,
            now: self.now,
            locals: &[],
        };
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
