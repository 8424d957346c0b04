//! What is wrong with a definition as a whole, or legal in it and still doubtful: what would strand a person.
//!
//! Looks at the compiled machine and reports at the author's places. Changes nothing.

use std::collections::BTreeSet;

use crate::chart::{Chart, Kind, ROOT, StateIndex};
use crate::conversation::definition::{ConversationDefinition, Priority};
use crate::conversation::recognise::{bare, normalise};
use crate::definition::{ActionDefinition, Definition, RaiseDefinition, StateDefinition, TIMER_PREFIX};
use crate::diagnostic::{Diagnostic, Place, nearest};
use crate::machine::Machine;

pub(crate) fn check(definition: &Definition, machine: Option<&Machine>, diagnostics: &mut Vec<Diagnostic>) {
    if let Some(conversation) = &definition.conversation {
        labels_are_no_commands(conversation, diagnostics);
    }
    let Some(machine) = machine else { return };
    let mut places = Vec::new();
    collect_places(&definition.root, &mut places);
    let chart = &machine.chart;
    unreachable_states(chart, &places, diagnostics);
    waits_without_end(machine, &places, diagnostics);
    let mut transitions = Vec::new();
    collect_transitions(&definition.root, &mut transitions);
    never_chosen(chart, &transitions, diagnostics);
    raised_events_are_heard(chart, &definition.root, diagnostics);
    if let Some(conversation) = &definition.conversation {
        intents_are_heard(chart, conversation, diagnostics);
    }
}

/// The place of each state, in document order.
fn collect_places(state: &StateDefinition, places: &mut Vec<Place>) {
    places.push(state.name.place);
    for child in &state.states {
        collect_places(child, places);
    }
}

/// The place of each transition, in the order in which they are compiled.
fn collect_transitions(state: &StateDefinition, places: &mut Vec<Place>) {
    places.extend(state.transitions().map(|t| t.place));
    for child in &state.states {
        collect_transitions(child, places);
    }
}

fn labels_are_no_commands(conversation: &ConversationDefinition, diagnostics: &mut Vec<Diagnostic>) {
    let urgent = conversation.intents.iter().filter(|i| i.priority == Priority::P0);
    let phrases: BTreeSet<String> =
        urgent.clone().flat_map(|i| &i.phrases).map(|p| bare(&normalise(&p.text.value)).to_owned()).collect();
    for intent in conversation.intents.iter().filter(|i| i.priority != Priority::P0) {
        for (_, label) in &intent.label.0 {
            if phrases.contains(bare(&normalise(&label.value))) {
                diagnostics.push(Diagnostic::error(
                    "label_is_command",
                    label.place,
                    format!(
                        "the label `{}` is a P0 phrase: choosing it would be taken as the command",
                        label.value
                    ),
                    "word the label differently, or drop the phrase".into(),
                ));
            }
        }
    }
}

fn unreachable_states(chart: &Chart, places: &[Place], diagnostics: &mut Vec<Diagnostic>) {
    let mut reached = BTreeSet::from([ROOT]);
    let mut todo = vec![ROOT];
    while let Some(state) = todo.pop() {
        let own = chart.state(state);
        let children = match own.kind {
            Kind::Parallel => own.children.clone(),
            _ => own.initial.clone(),
        };
        let targets = chart.transitions.iter().filter(|t| t.source == state).flat_map(|t| &t.targets);
        let found: Vec<StateIndex> = children.into_iter().chain(targets.copied()).collect();
        for target in found {
            let with_ancestors = std::iter::once(target).chain(chart.ancestors(target));
            for state in with_ancestors.collect::<Vec<_>>() {
                if reached.insert(state) {
                    todo.push(state);
                }
            }
        }
    }
    for (number, state) in chart.states.iter().enumerate().skip(1) {
        let history_of_reached = chart.is_history(StateIndex(number as u16));
        if !reached.contains(&StateIndex(number as u16)) && !history_of_reached {
            diagnostics.push(Diagnostic::warning(
                "unreachable_state",
                places[number],
                format!("no transition leads to the state `{}`", state.path),
                "add a transition to it, or drop it".into(),
            ));
        }
    }
}

/// A state that only an input can end strands whoever never sends one.
fn waits_without_end(machine: &Machine, places: &[Place], diagnostics: &mut Vec<Diagnostic>) {
    let chart = &machine.chart;
    for (number, state) in chart.states.iter().enumerate().skip(1) {
        let index = StateIndex(number as u16);
        if state.kind != Kind::Atomic || !chart.eventless(index).is_empty() {
            continue;
        }
        let timed =
            std::iter::once(index).chain(chart.ancestors(index)).any(|s| !chart.state(s).after.is_empty());
        if !timed {
            diagnostics.push(Diagnostic::warning(
                "no_way_out_by_time",
                places[number],
                format!("whoever is in `{}` and sends nothing stays there for ever", state.path),
                "add `after: { 2h: … }` to it, to a state around it, or at the top".into(),
            ));
        }
    }
}

/// An earlier transition for the same event without a guard always wins.
fn never_chosen(chart: &Chart, transitions: &[Place], diagnostics: &mut Vec<Diagnostic>) {
    for (at, transition) in chart.transitions.iter().enumerate() {
        let wins = |earlier: &&crate::chart::Transition| {
            earlier.source == transition.source
                && earlier.event == transition.event
                && earlier.guard.is_none()
        };
        if chart.transitions[..at].iter().any(|t| wins(&t)) {
            let state = chart.state(transition.source);
            let event = if transition.event.is_empty() { "always" } else { &transition.event };
            diagnostics.push(Diagnostic::warning(
                "never_chosen",
                transitions[at],
                format!(
                    "this transition of {} for `{event}` stands behind one that always wins",
                    match &*state.path {
                        "" => "the top".to_owned(),
                        path => format!("`{path}`"),
                    }
                ),
                "give the earlier one a guard, or drop this one".into(),
            ));
        }
    }
}

/// A raised event that no state takes is lost.
fn raised_events_are_heard(chart: &Chart, root: &StateDefinition, diagnostics: &mut Vec<Diagnostic>) {
    for action in root.walk().into_iter().flat_map(StateDefinition::actions) {
        if let ActionDefinition::Raise(RaiseDefinition { event, .. }) = action
            && !is_heard(chart, &event.value)
        {
            diagnostics.push(Diagnostic::warning(
                "unheard_event",
                event.place,
                format!("no state takes the event `{}` that is raised here", event.value),
                nearest(&event.value, other_events(chart, &event.value)),
            ));
        }
    }
}

fn is_heard(chart: &Chart, event: &str) -> bool {
    chart.event(event).is_some_and(|index| {
        let mut states = (0..chart.states.len()).map(|n| StateIndex(n as u16));
        states.any(|s| chart.is_atomic(s) && !chart.candidates(s, index).is_empty())
    })
}

fn other_events<'c>(chart: &'c Chart, event: &'c str) -> impl Iterator<Item = &'c str> + Clone {
    let names = chart.events.iter().map(|name| &**name);
    names.filter(move |name| *name != event && !name.starts_with(TIMER_PREFIX) && is_heard(chart, name))
}

fn intents_are_heard(
    chart: &Chart,
    conversation: &ConversationDefinition,
    diagnostics: &mut Vec<Diagnostic>,
) {
    for intent in &conversation.intents {
        let Some(event) = &intent.event else { continue };
        if !is_heard(chart, &event.value) {
            diagnostics.push(Diagnostic::warning(
                "unheard_event",
                event.place,
                format!("no state takes the event `{}` of the intent `{}`", event.value, intent.name.value),
                nearest(&event.value, other_events(chart, &event.value)),
            ));
        }
    }
}
