//! Which transition is taken: those that never are, and guards that always say the same.

use crate::chart::{Chart, Kind, StateIndex};
use crate::definition::check::Checker;

impl Checker<'_, '_> {
    /// A transition that stands behind one without a guard, wherever it could be taken.
    pub(super) fn never_chosen(&mut self) {
        let chart = &self.machine.chart;
        let mut offered = vec![false; chart.transitions.len()];
        // For each that is offered nowhere, one that wins instead.
        let mut winner = vec![None; chart.transitions.len()];
        let leaves = chart.indices().filter(|state| chart.is_atomic(*state));
        for leaf in leaves {
            let rows = chart.event_indices().map(|event| chart.candidates(leaf, event));
            for row in rows.chain([chart.eventless(leaf)]) {
                let wins = |t: &&crate::chart::TransitionIndex| chart.transition(**t).guard.is_none();
                let first = row.iter().position(|t| wins(&t)).unwrap_or(row.len());
                for (at, index) in row.iter().enumerate() {
                    let number = usize::from(index.0);
                    if at <= first {
                        offered[number] = true;
                    } else {
                        winner[number] = Some(row[first]);
                    }
                }
            }
        }
        for index in chart.transition_indices() {
            let number = usize::from(index.0);
            let (false, Some(winner)) = (offered[number], winner[number]) else { continue };
            let transition = self.transition(index);
            let event = if transition.event.is_empty() { "always" } else { &transition.event };
            let of = self.name(transition.source);
            let line = self.place_of(winner).line;
            let message = format!(
                "this transition of {of} for `{event}` is never taken: the one in line {line} always wins"
            );
            let help = "give the other one a guard, or drop this one";
            self.warn("never_chosen", self.place_of(index), message, help);
        }
    }

    /// A transition for the end of a state that cannot come to its end.
    pub(super) fn never_done(&mut self) {
        let chart = &self.machine.chart;
        for state in chart.indices().skip(1).filter(|state| !can_be_done(chart, *state)) {
            let Some(event) = chart.state(state).done_event else { continue };
            let name = chart.event_name(event);
            let waiting = chart.transition_indices().filter(|t| chart.transition(*t).event == *name);
            for index in waiting.collect::<Vec<_>>() {
                let message =
                    format!("this transition is never taken: {} cannot come to its end", self.name(state));
                let help = match chart.state(state).kind {
                    Kind::Parallel => "give each region a final state",
                    _ => "give it a final state among its own children",
                };
                self.warn("never_chosen", self.place_of(index), message, help);
            }
        }
    }

    pub(super) fn constant_guards(&mut self) {
        let written = self.written();
        let transitions = written.iter().flat_map(|state| state.transitions());
        for (written, compiled) in transitions.zip(&self.machine.chart.transitions) {
            let (Some(guard), Some(expression)) = (&written.guard, &compiled.guard) else { continue };
            let Some(value) = expression.constant() else { continue };
            let message = format!("this guard is always {value}");
            let help = match value.as_bool() {
                Some(true) => "drop the guard: nothing depends on it",
                _ => "let it read `context` or `event`, or drop the transition",
            };
            self.warn("constant_guard", guard.place, message, help);
        }
    }
}

/// Whether the state has what `isInFinalState` looks for.
fn can_be_done(chart: &Chart, state: StateIndex) -> bool {
    let children = &chart.state(state).children;
    match chart.state(state).kind {
        Kind::Compound => children.iter().any(|child| chart.state(*child).kind == Kind::Final),
        Kind::Parallel => {
            let mut regions = children.iter().filter(|child| !chart.is_history(**child));
            regions.all(|region| can_be_done(chart, *region))
        }
        _ => false,
    }
}
