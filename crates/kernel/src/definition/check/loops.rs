//! What never ends: eventless transitions that go round without anything that could stop them, and events that raise
//! themselves. The bound on small steps stops them when they run; here they are told of before.

use std::collections::BTreeSet;

use crate::chart::{Action, Chart, FieldIndex, Kind, ROOT, StateIndex, TransitionIndex, all_actions};
use crate::definition::check::Checker;

impl Checker<'_, '_> {
    pub(super) fn endless_loops(&mut self) {
        let chart = &self.machine.chart;
        let eventless = chart.transition_indices().filter(|t| chart.transition(*t).event.is_empty());
        let mut seen = BTreeSet::new();
        for first in eventless {
            if let Some(round) = self.round(first, &mut seen) {
                let states: Vec<String> =
                    round.iter().map(|t| self.name(self.transition(*t).source)).collect();
                let message = match round.len() {
                    1 => format!("this goes round in {} for ever", states[0]),
                    _ => format!("this goes round for ever: {}", states.join(", ")),
                };
                let help = "give it a guard that becomes false, or an event to wait for";
                self.warn("endless_loop", self.place_of(round[0]), message, help);
            } else if self.stays_true(first) {
                let message = format!(
                    "once its guard is true, this goes round in {} for ever",
                    self.name(self.transition(first).source)
                );
                let help = "let it assign what its guard reads, or lead out of the state";
                self.warn("endless_loop", self.place_of(first), message, help);
            }
        }
        self.events_that_raise_themselves();
    }

    /// The round that transitions without a guard go from `first` on, if they come back to one of them. What was `seen`
    /// on an earlier way is not gone again.
    fn round(
        &self,
        first: TransitionIndex,
        seen: &mut BTreeSet<TransitionIndex>,
    ) -> Option<Vec<TransitionIndex>> {
        let chart = &self.machine.chart;
        let mut way: Vec<TransitionIndex> = Vec::new();
        let mut next = first;
        while chart.transition(next).guard.is_none() && seen.insert(next) {
            way.push(next);
            // Beside another region, what comes next is not this one's to say; and what has ended goes nowhere.
            let [leaf] = leaves_after(chart, next)[..] else { return None };
            if ends(chart, leaf) {
                return None;
            }
            next = *chart.eventless(leaf).first()?;
        }
        let begin = way.iter().position(|transition| *transition == next)?;
        Some(way.split_off(begin))
    }

    /// Whether a guarded transition that leads back to its own state changes nothing that its guard reads.
    fn stays_true(&self, index: TransitionIndex) -> bool {
        let chart = &self.machine.chart;
        let transition = chart.transition(index);
        let Some(guard) = &transition.guard else { return false };
        let leaves = leaves_after(chart, index);
        let again = |leaf: &StateIndex| !ends(chart, *leaf) && chart.eventless(*leaf).first() == Some(&index);
        // Beside other regions, theirs may change what it reads.
        let alone = !chart.states.iter().any(|state| state.kind == Kind::Parallel);
        if !alone || leaves.is_empty() || !leaves.iter().all(again) {
            return false;
        }
        let mut actions = all_actions(&transition.actions);
        for state in chart.entered_by(index).into_iter().chain(leaves.iter().copied()) {
            let state = chart.state(state);
            actions.extend(all_actions(state.entry.iter().chain(&state.exit).chain(&state.initial_actions)));
        }
        let assigned = fields_assigned(&actions);
        let reads = guard.reads();
        let field = |name: &str| self.machine.fields.iter().position(|f| f.name.value == name);
        let read = reads.context.names.iter().filter_map(|name| field(name));
        let changes = read.into_iter().any(|number| assigned.contains(&FieldIndex(number as u16)))
            || (reads.context.whole && !assigned.is_empty());
        !changes && !reads.active && !reads.event_name
    }

    /// A transition that raises the event which it takes, without a guard, and stays where it takes it again.
    fn events_that_raise_themselves(&mut self) {
        let chart = &self.machine.chart;
        for index in chart.transition_indices() {
            let transition = chart.transition(index);
            let Some(event) = chart.event_by_name.get(&transition.event) else { continue };
            let raises = |a: &Action| matches!(a, Action::Raise { event: raised, .. } if raised == event);
            if transition.guard.is_some() || !transition.actions.iter().any(raises) {
                continue;
            }
            let leaves = leaves_after(chart, index);
            if leaves.iter().any(|leaf| chart.candidates(*leaf, *event).first() == Some(&index)) {
                let message = format!("this raises `{}`, which it takes itself, for ever", transition.event);
                let help = "raise another event, or give the transition a guard that becomes false";
                self.warn("endless_loop", self.place_of(index), message, help);
            }
        }
    }
}

/// Whether the instance has ended where this state is active.
fn ends(chart: &Chart, state: StateIndex) -> bool {
    chart.state(state).kind == Kind::Final && chart.state(state).parent == ROOT
}

/// The atomic states that a transition leads to; for one without a target, those in which it may be taken.
fn leaves_after(chart: &Chart, index: TransitionIndex) -> Vec<StateIndex> {
    let entered = chart.entered_by(index);
    if !entered.is_empty() {
        return entered.into_iter().filter(|state| chart.is_atomic(*state)).collect();
    }
    let source = chart.transition(index).source;
    let within = (source.0..chart.state(source).end.0).map(StateIndex);
    within.filter(|state| chart.is_atomic(*state)).collect()
}

fn fields_assigned(actions: &[&Action]) -> BTreeSet<FieldIndex> {
    let assigned = actions.iter().filter_map(|action| match action {
        Action::Assign { field, .. } => Some(*field),
        _ => None,
    });
    assigned.collect()
}
