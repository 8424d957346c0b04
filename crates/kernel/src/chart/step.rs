//! The statechart step: where an instance stands, and what an event makes of it.
//!
//! Owns the ways in: `start`, `take`, `jump`, and `consider`, which asks without taking. What happens then is a big
//! step (`run`). A flat chart takes the short path, which does the same and allocates nothing for a transition that
//! changes no context. On an error the position is left half-way and must be thrown away.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::bound;
use crate::chart::budget::Budget;
use crate::chart::entry::History;
use crate::chart::invariant::Promise;
use crate::chart::run::Run;
use crate::chart::{Chart, EventIndex, Kind, ROOT, ReplyIndex, StateIndex, TransitionIndex};
use crate::definition::FieldDefinition;
use crate::expression::{Fuel, Scope};
use crate::input::Fields;
use crate::refusal::{Considered, GuardVerdict};
use crate::snapshot::{Invocation, Timer};
use crate::time::Timestamp;

/// Transitions that an explanation tells of.
const CONSIDERED_MAX: usize = 50;
/// What guards saw, in all transitions of an explanation together, before the rest is left out.
pub(super) const EXPLAINED_BYTES_MAX: usize = 32 * 1024;

/// Where an instance stands in its chart.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Position {
    /// The active atomic states, in document order.
    pub(super) leaves: Vec<StateIndex>,
    /// All active states, the top included, in document order.
    pub(super) active: Vec<StateIndex>,
    pub history: History,
    pub context: Arc<Fields>,
    pub timers: Vec<Timer>,
    pub invocations: Vec<Invocation>,
}

/// An event on its way in. Its name may be another than that of what takes it, which may be a wildcard.
#[derive(Clone, Copy, Debug)]
pub struct Occurrence<'a> {
    pub event: EventIndex,
    pub name: &'a str,
    pub payload: &'a Fields,
}

impl Position {
    /// Nowhere yet.
    pub fn new(context: Arc<Fields>) -> Self {
        Self { context, ..Self::default() }
    }

    /// In these atomic states.
    pub fn at(chart: &Chart, mut leaves: Vec<StateIndex>, context: Arc<Fields>) -> Self {
        leaves.sort_unstable();
        let mut active: Vec<StateIndex> =
            leaves.iter().flat_map(|leaf| std::iter::once(*leaf).chain(chart.ancestors(*leaf))).collect();
        active.sort_unstable();
        active.dedup();
        Self { leaves, active, context, ..Self::default() }
    }

    /// The active atomic states, in document order.
    pub fn leaves(&self) -> &[StateIndex] {
        &self.leaves
    }

    pub(crate) fn is_active(&self, state: StateIndex) -> bool {
        self.active.binary_search(&state).is_ok()
    }

    /// Whether the state has not been active already.
    pub(super) fn add(&mut self, state: StateIndex, is_atomic: bool) -> bool {
        let Err(at) = self.active.binary_search(&state) else { return false };
        self.active.insert(at, state);
        if is_atomic {
            let at = self.leaves.partition_point(|leaf| *leaf < state);
            self.leaves.insert(at, state);
        }
        true
    }

    pub(super) fn remove(&mut self, state: StateIndex) {
        if let Ok(at) = self.active.binary_search(&state) {
            self.active.remove(at);
        }
        if let Ok(at) = self.leaves.binary_search(&state) {
            self.leaves.remove(at);
        }
    }

    /// Whoever answers to the call from now on is too late.
    pub(crate) fn forget_call(&mut self, id: &str) {
        self.invocations.retain(|invocation| &*invocation.id != id);
        let timer = Timer::id_of_call(id);
        self.timers.retain(|t| *t.id != *timer);
    }
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
    /// What it has come to.
    pub output: Fields,
    /// What the transitions taken ensure, until it has been asked.
    pub promises: Vec<Promise>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum StepError {
    /// No transition takes the event; these were looked at.
    NotTaken,
    /// An action failed, and nothing in the chart answered to that.
    Expression(String),
    /// The chart did not come to rest; the last steps.
    Limit(Vec<String>),
    /// The step would take more than one event may; a fragment such as "runs more than 10000 actions".
    TooMuch(String),
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
        Run::new(self, position, trail).begin(initial, true)
    }

    /// Takes one event.
    ///
    /// # Errors
    /// `NotTaken` leaves the position as it was; after any other error it must be thrown away.
    pub fn take(
        self,
        position: &mut Position,
        occurrence: Occurrence<'_>,
        trail: &mut Trail,
    ) -> Result<(), StepError> {
        if self.chart.is_flat {
            return self.take_flat(position, occurrence, trail);
        }
        Run::new(self, position, trail).take(occurrence)
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
        position.invocations.clear();
        position.history.clear();
        Run::new(self, position, trail).begin(&[state], false)
    }

    /// Puts an empty chart into `states`, which lie in different regions, as if it had entered them at `since` and done
    /// there what there was to do: nothing is done on the way in, and delays count from then. Calls of theirs are made.
    /// Timers and calls that the position has already stay as they are.
    ///
    /// # Errors
    /// As `take`, of what follows at once.
    pub fn stand(
        self,
        position: &mut Position,
        states: &[StateIndex],
        since: Timestamp,
        trail: &mut Trail,
    ) -> Result<(), StepError> {
        Run::new(self, position, trail).stand(states, since)
    }

    /// The short path: one active state, no hierarchy, nothing eventless.
    fn take_flat(
        self,
        position: &mut Position,
        occurrence: Occurrence<'_>,
        trail: &mut Trail,
    ) -> Result<(), StepError> {
        let from = position.leaves[0];
        let candidates = self.chart.candidates(from, occurrence.event).iter().copied();
        let (mut budget, mut active) = (Budget::default(), None);
        // Nothing listens to a guard that fails: it is false, and no more.
        let mut enabled = |t: &TransitionIndex| {
            let Occurrence { name, payload, .. } = occurrence;
            budget.spend(|fuel| self.enabled(*t, position, name, payload, &mut active, fuel)) == Ok(true)
        };
        let chosen = candidates.into_iter().find(|t| enabled(t));
        budget.check()?;
        let Some(chosen) = chosen else {
            return Err(StepError::NotTaken);
        };
        let transition = self.chart.transition(chosen);
        let target = transition.targets.first().copied();
        // A state stays when it leads to itself, unless it says `reenter`; what the top leads to is always entered.
        let stays = |to: StateIndex| to == transition.source && !transition.reenter;
        let moves = target.filter(|to| !stays(*to));
        let simple = moves.is_none_or(|to| {
            let (from, to) = (self.chart.state(from), self.chart.state(to));
            to.kind == Kind::Atomic && from.is_left_in_silence && to.is_entered_in_silence
        });
        if simple && transition.actions.is_empty() && transition.ensures.is_empty() {
            trail.taken.push(chosen);
            if let Some(to) = moves {
                position.leaves[0] = to;
                position.active[1] = to;
            }
            return Ok(());
        }
        Run::new(self, position, trail).carry_on(occurrence, chosen, budget)
    }

    /// Whether a transition's guard lets it pass. The paths of the active states are made once, by the first guard that
    /// asks for them.
    ///
    /// # Errors
    /// What is wrong with a guard that cannot say.
    pub(super) fn enabled(
        self,
        transition: TransitionIndex,
        position: &Position,
        event_name: &str,
        payload: &Fields,
        active: &mut Option<Vec<Arc<str>>>,
        fuel: &mut Fuel,
    ) -> Result<bool, String> {
        let Some(guard) = &self.chart.transition(transition).guard else { return Ok(true) };
        let paths: &[Arc<str>] = match guard.reads().active {
            true => active.get_or_insert_with(|| self.active_paths(position)),
            false => &[],
        };
        guard.test_with(self.scope(position, event_name, payload, paths), fuel)
    }

    fn scope<'s>(
        self,
        position: &'s Position,
        event_name: &'s str,
        payload: &'s Fields,
        active: &'s [Arc<str>],
    ) -> Scope<'s> {
        Scope {
            context: &position.context,
            event: payload,
            event_name,
            active,
            now: self.now,
            locals: &[],
            before: None,
        }
    }

    /// The paths of all active states but the top, as expressions see them.
    pub fn active_paths(self, position: &Position) -> Vec<Arc<str>> {
        self.paths(position.active.get(1..).unwrap_or_default())
    }

    pub fn paths(self, leaves: &[StateIndex]) -> Vec<Arc<str>> {
        leaves.iter().map(|leaf| Arc::clone(&self.chart.state(*leaf).path)).collect()
    }

    /// The transitions that an event leads to from here, in the order of choosing, each with its guard's verdict. Nobody
    /// reads more than `CONSIDERED_MAX` of them, and an explanation is stored with its refusal.
    pub fn consider(self, position: &Position, occurrence: Occurrence<'_>) -> Vec<Considered> {
        let active = self.active_paths(position);
        let scope = self.scope(position, occurrence.name, occurrence.payload, &active);
        let mut considered = Vec::new();
        let (mut seen, mut budget) = (BTreeSet::new(), Budget::default());
        let mut bytes = 0;
        for leaf in &position.leaves {
            let mut chosen_here = false;
            for index in self.chart.candidates(*leaf, occurrence.event) {
                if considered.len() == CONSIDERED_MAX || budget.check().is_err() {
                    return considered;
                }
                if !seen.insert(*index) {
                    continue;
                }
                let transition = self.chart.transition(*index);
                let verdict = transition.guard.as_ref().map(|guard| {
                    let result = budget.spend(|fuel| guard.test_with(scope, fuel));
                    let values =
                        if bytes < EXPLAINED_BYTES_MAX { guard.values(scope) } else { Fields::new() };
                    bytes += bound::size(&values);
                    GuardVerdict {
                        expression: guard.source.to_string(),
                        passed: result == Ok(true),
                        error: result.err(),
                        values,
                    }
                });
                let passes = verdict.as_ref().is_none_or(|v| v.passed);
                let chosen = passes && !chosen_here;
                chosen_here |= passes;
                considered.push(Considered {
                    state: self.chart.state(transition.source).path.to_string(),
                    event: transition.event.to_string(),
                    target: self.paths(&transition.targets).iter().map(ToString::to_string).collect(),
                    chosen,
                    guard: verdict,
                });
            }
        }
        considered
    }
}
