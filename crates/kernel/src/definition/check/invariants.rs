//! What cannot hold, or holds whatever happens.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::chart::step::{Position, Stepper, Trail};
use crate::chart::{Action, all_actions};
use crate::definition::FieldDefinition;
use crate::definition::check::Checker;
use crate::diagnostic::{Diagnostic, Place};
use crate::input::Fields;
use crate::time::Timestamp;

/// Definitions are read without a clock; what the time is worth here is any time that could be.
const SOME_TIME_MS: i64 = 1_767_225_600_000;

const START: (&str, &str) = (
    "an instance that is given nothing could not begin",
    "give the fields a `default` with which it holds, or mark them `required: true` so that whoever creates an instance \
     gives them",
);
const RECOVERY: (&str, &str) = (
    "a recovery could not lead here",
    "give the fields a `default` with which it holds, assign them in the state's `entry`, or choose another `safe_state`",
);

impl Checker<'_, '_> {
    pub(super) fn constant_invariants(&mut self) {
        let chart = &self.machine.chart;
        let of_transitions = chart.transitions.iter().map(|transition| &transition.ensures);
        let of_states = chart.states.iter().map(|state| &state.invariants);
        let compiled = of_states.chain(of_transitions).flatten();
        let states = self.written();
        let of_transitions = states.iter().flat_map(|state| state.transitions()).map(|t| &t.ensures);
        let written = states.iter().map(|state| &state.invariants).chain(of_transitions).flatten();
        for (written, compiled) in written.zip(compiled) {
            let Some(value) = compiled.check.constant() else { continue };
            let message = format!("the invariant `{}` is always {value}", written.name.value);
            let help = match value.as_bool() {
                Some(true) => "let it read `context`, or drop it: nothing depends on it",
                _ => "let it read `context`: everything that it is asked of is refused",
            };
            self.warn("constant_guard", written.check.place, message, help);
        }
    }

    /// An instance that is given nothing could never begin, or never be recovered.
    pub(super) fn violated_from_the_start(&mut self) {
        if !self.machine.chart.has_invariants {
            return;
        }
        self.violated_after(START, FieldDefinition::must_be_given, |stepper, position, trail| {
            stepper.start(position, trail).is_ok()
        });
        if let Some(state) = self.machine.safe_state {
            let survives = |field: &FieldDefinition| field.keep || field.must_be_given();
            self.violated_after(RECOVERY, survives, |stepper, position, trail| {
                stepper.jump(position, state, trail).is_ok()
            });
        }
    }

    /// Reports what does not hold after `enter`, with every field as it is when nobody has given it a value. Of those
    /// that are `given` nothing is known, so that nothing is said of what reads them.
    fn violated_after(
        &mut self,
        (what, help): (&str, &str),
        given: impl Fn(&FieldDefinition) -> bool,
        enter: impl Fn(Stepper<'_>, &mut Position, &mut Trail) -> bool,
    ) {
        let machine = self.machine;
        let fresh = |field: &FieldDefinition| match &field.default {
            Some(default) => default.value.clone(),
            None => field.empty(),
        };
        let context: Fields = machine.fields.iter().map(|f| (f.name.value.clone(), fresh(f))).collect();
        let context = Arc::new(context);
        let given: BTreeSet<&str> =
            machine.fields.iter().filter(|field| given(field)).map(|f| f.name.value.as_str()).collect();
        let now = Timestamp::from_millis(SOME_TIME_MS);
        let stepper = Stepper { chart: &machine.chart, fields: &machine.fields, now };
        let (mut position, mut trail) = (Position::new(Arc::clone(&context)), Trail::default());
        if !enter(stepper, &mut position, &mut trail) || !given.is_empty() && self.depends(&position, &trail)
        {
            return;
        }
        for violation in stepper.violations(&position, &position.context, &context, &trail.promises) {
            let named = |(state, name): &(&str, &str)| violation.state == *state && violation.name == *name;
            let chart = &machine.chart;
            let asked = chart.states.iter().flat_map(|s| s.invariants.iter().map(|i| (&*s.path, i)));
            let found = asked.clone().find(|(state, i)| named(&(state, &i.name)));
            // What a transition on the way ensures is told when an instance is created.
            let Some((_, invariant)) = found.filter(|_| violation.event.is_none()) else { continue };
            let reads = &invariant.check.reads().context;
            if !given.is_empty() && (reads.whole || reads.names.iter().any(|name| given.contains(&**name))) {
                continue;
            }
            let Some(place) = self.place_of_invariant(&violation.state, &violation.name) else { continue };
            let why = match &violation.error {
                Some(error) => format!("fails: {error}"),
                None => "is false".to_owned(),
            };
            let message = format!("{what}: `{}` {why}", violation.expression);
            let known = |d: &Diagnostic| d.code == "never_holds" && d.place == place;
            if !self.diagnostics.iter().any(known) {
                self.diagnostics.push(Diagnostic::error("never_holds", place, message, help.to_owned()));
            }
        }
    }

    /// Whether what is entered, or what it does to the context, may depend on fields that are given.
    fn depends(&self, position: &Position, trail: &Trail) -> bool {
        let chart = &self.machine.chart;
        let active = || chart.indices().filter(|state| position.is_active(*state));
        let moved =
            !trail.taken.is_empty() || position.leaves().iter().any(|l| !chart.eventless(*l).is_empty());
        let entry = active().flat_map(|s| chart.state(s).entry.iter().chain(&chart.state(s).initial_actions));
        let changes = |action: &&Action| !matches!(action, Action::Reply(_) | Action::Cancel(_));
        moved || all_actions(entry).iter().any(changes)
    }

    fn place_of_invariant(&self, state: &str, name: &str) -> Option<Place> {
        let chart = &self.machine.chart;
        let index = chart.by_path(state)?;
        let written = self.written();
        let held = &written.get(usize::from(index.0))?.invariants;
        held.iter().find(|invariant| invariant.name.value == name).map(|i| i.check.place)
    }
}
