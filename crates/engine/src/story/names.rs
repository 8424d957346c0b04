//! Names in a story that its machine does not have: events, states, fields, intents, calls and phases.
//!
//! A story that waits for what cannot come would fail when it is played, and say so of the play; here it is said of the
//! name, with the nearest one. What a story expects to be refused as unknown may be unknown.

use kernel::definition::Placed;
use kernel::diagnostic::{Diagnostic, Place, nearest};
use kernel::flow::{FlowEvent, PhaseState};
use kernel::machine::Machine;
use serde_json::Value;

use super::expect::{Expectation, SKIPPED};
use super::file::{Act, Given, Story, StoryFile};

pub(super) fn check(file: &StoryFile, machine: &Machine, diagnostics: &mut Vec<Diagnostic>) {
    let mut checker = Checker { machine, diagnostics };
    for story in &file.stories {
        checker.story(story);
    }
}

struct Checker<'m, 'd> {
    machine: &'m Machine,
    diagnostics: &'d mut Vec<Diagnostic>,
}

impl Checker<'_, '_> {
    fn story(&mut self, story: &Story) {
        if let Some(given) = &story.given {
            self.beginning(given);
            self.fields(&Value::Object(given.context.clone()), given.place);
        }
        for step in &story.steps {
            let mut refused = false;
            for expectation in &step.expectations {
                refused |= expectation.key == "refused";
                self.expectation(expectation);
            }
            match &step.act {
                Some(Act::Event { event, .. }) if !refused => self.event(event),
                Some(Act::Call { id, .. }) => self.call(id),
                _ => {}
            }
        }
    }

    fn beginning(&mut self, given: &Given) {
        let Some(flow) = &self.machine.flow else {
            given.state.iter().for_each(|state| self.state(&state.value, state.place));
            if let Some(phase) = given.completed.first() {
                self.no_flow("completed", phase.place);
            } else if !given.booleans.is_empty() {
                self.no_flow("booleans", given.place);
            }
            return;
        };
        if let Some(state) = &given.state {
            let message = "a flow cannot be put into a status: it follows from the phases".to_owned();
            let help = "name the phases that are done, `completed: [ … ]`, or take the steps that lead there";
            self.diagnostics.push(Diagnostic::error("bad_value", state.place, message, help.into()));
        }
        given.completed.iter().for_each(|phase| self.phase(&phase.value, phase.place));
        let booleans = flow.phases.iter().map(|phase| &*phase.boolean);
        for name in given.booleans.keys() {
            self.known("unknown_field", "boolean", name, booleans.clone(), given.place);
        }
    }

    fn no_flow(&mut self, key: &str, place: Place) {
        let message = format!("the machine `{}` is no flow, so it has no `{key}`", self.machine.name);
        self.diagnostics.push(Diagnostic::error("bad_value", place, message, format!("drop `{key}`")));
    }

    fn phase(&mut self, name: &str, place: Place) {
        let phases = self.machine.flow.iter().flat_map(|flow| &flow.phases);
        self.known("unknown_phase", "phase", name, phases.map(|phase| &*phase.name), place);
    }

    fn phase_state(&mut self, state: &str, place: Place) {
        let states = PhaseState::ALL.iter().map(|state| state.as_str()).chain([SKIPPED]);
        if !states.clone().any(|known| known == state) {
            let help = nearest(state, states);
            let message = format!("a phase is never `{state}`");
            self.diagnostics.push(Diagnostic::error("bad_value", place, message, help));
        }
    }

    fn expectation(&mut self, expectation: &Expectation) {
        let Expectation { key, wanted, place, .. } = expectation;
        if matches!(*key, "status" | "phases" | "progress" | "moved") && self.machine.flow.is_none() {
            return self.no_flow(key, *place);
        }
        match (*key, wanted) {
            ("status", Value::String(status)) => self.state(status, *place),
            ("phases", Value::Object(phases)) => {
                for (phase, state) in phases {
                    self.phase(phase, *place);
                    self.phase_state(state.as_str().unwrap_or_default(), *place);
                }
            }
            ("moved", Value::Array(moves)) => {
                for moved in moves.iter().filter_map(Value::as_str) {
                    let (phase, to) = moved.split_once(" -> ").unwrap_or((moved, ""));
                    self.phase(phase, *place);
                    self.phase_state(to, *place);
                }
            }
            ("state", Value::String(state)) => state.split(',').for_each(|path| self.state(path, *place)),
            ("context", fields) => self.fields(fields, *place),
            ("intent", Value::String(intent)) => {
                let intents = self.machine.conversation.iter().flat_map(|c| &c.intents);
                let names = intents.map(|intent| intent.name.as_str());
                self.known("unknown_intent", "intent", intent, names, *place);
            }
            _ => {}
        }
    }

    fn event(&mut self, event: &Placed<String>) {
        if let Some(flow) = &self.machine.flow {
            if let Err(problem) = FlowEvent::parse(flow, &event.value) {
                let (message, help) = problem.split_once("; ").unwrap_or((&problem, "name another event"));
                let (message, help) = (message.to_owned(), help.to_owned());
                self.diagnostics.push(Diagnostic::error("unknown_event", event.place, message, help));
            }
        } else if self.machine.chart.event(&event.value).is_none() {
            let known = self.machine.chart.public_events().map(|name| &**name);
            self.known("unknown_event", "event", &event.value, known, event.place);
        }
    }

    fn call(&mut self, id: &Placed<String>) {
        if let Some(flow) = &self.machine.flow {
            let calling = flow.phases.iter().filter(|phase| phase.is_automatic());
            let names = calling.map(|phase| &*phase.name);
            return self.known("unknown_id", "call", &id.value, names, id.place);
        }
        let calls = self.machine.chart.states.iter().flat_map(|state| &state.calls);
        self.known("unknown_id", "call", &id.value, calls.map(|call| &*call.id), id.place);
    }

    fn state(&mut self, path: &str, place: Place) {
        let paths = self.machine.chart.states.iter().skip(1).map(|state| &*state.path);
        self.known("unknown_state", "state", path.trim(), paths, place);
    }

    fn fields(&mut self, fields: &Value, place: Place) {
        let known = self.machine.fields.iter().map(|field| field.name.value.as_str());
        for name in fields.as_object().into_iter().flat_map(|fields| fields.keys()) {
            self.known("unknown_field", "context field", name, known.clone(), place);
        }
    }

    fn known<'n>(
        &mut self,
        code: &'static str,
        what: &str,
        name: &str,
        known: impl Iterator<Item = &'n str> + Clone,
        place: Place,
    ) {
        if !known.clone().any(|other| other == name) {
            let message = format!("the machine `{}` has no {what} `{name}`", self.machine.name);
            let help = nearest(name, known);
            self.diagnostics.push(Diagnostic::error(code, place, message, help));
        }
    }
}
