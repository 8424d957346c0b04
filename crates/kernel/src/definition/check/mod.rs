//! What is wrong with a definition as a whole, or legal in it and still doubtful: what would strand a person.
//!
//! Looks at the compiled machine and reports at the author's places. Changes nothing. Each file asks one kind of
//! question: where one can get to (`reach`), which transition is taken (`choice`), what never ends (`loops`),
//! which names lead nowhere (`names`), what cannot hold (`invariants`), and what of all this there is in flows (`flows`).

mod choice;
mod flows;
mod invariants;
mod loops;
mod names;
mod reach;

use crate::chart::{StateIndex, Transition, TransitionIndex};
use crate::definition::{Definition, GUESSES_MAX, Places, StateDefinition};
use crate::diagnostic::{Diagnostic, Place};
use crate::machine::Machine;

pub(crate) fn check(definition: &Definition, machine: Option<&Machine>, diagnostics: &mut Vec<Diagnostic>) {
    if let Some(conversation) = &definition.conversation {
        names::labels_are_no_commands(conversation, diagnostics);
        names::phrases_mean_one_thing(conversation, diagnostics);
    }
    let Some(machine) = machine else { return };
    // The statuses of a flow follow from its phases, and no transition leads through them.
    if machine.flow.is_some() {
        return flows::check(definition, machine, diagnostics);
    }
    let Places { states, transitions } = Places::of(definition);
    let mut checker = Checker { definition, machine, states, transitions, diagnostics };
    checker.unreachable_states();
    checker.no_way_to_end();
    checker.no_way_out_by_time();
    checker.useless_history();
    checker.never_chosen();
    checker.never_done();
    checker.constant_guards();
    checker.constant_invariants();
    checker.violated_from_the_start();
    checker.endless_loops();
    checker.unheard_events();
    checker.unproduced_events();
    checker.idle_fields();
}

/// A machine with the places of its parts; each method asks one question and notes the answers.
struct Checker<'a, 'd> {
    definition: &'a Definition,
    machine: &'a Machine,
    /// By `StateIndex`.
    states: Vec<Place>,
    /// By `TransitionIndex`.
    transitions: Vec<Place>,
    diagnostics: &'d mut Vec<Diagnostic>,
}

impl<'a> Checker<'a, '_> {
    fn warn(&mut self, code: &'static str, place: Place, message: String, help: impl Into<String>) {
        self.diagnostics.push(Diagnostic::warning(code, place, message, help.into()));
    }

    fn transition(&self, index: TransitionIndex) -> &'a Transition {
        self.machine.chart.transition(index)
    }

    fn place_of(&self, index: TransitionIndex) -> Place {
        self.transitions[usize::from(index.0)]
    }

    /// How people call a state.
    fn name(&self, state: StateIndex) -> String {
        match &*self.machine.chart.state(state).path {
            "" => "the top".to_owned(),
            path => format!("`{path}`"),
        }
    }

    /// The written states, in document order.
    fn written(&self) -> Vec<&'a StateDefinition> {
        self.definition.root.walk()
    }
}
