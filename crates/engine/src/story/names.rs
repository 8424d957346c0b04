//! Names in a story that its machine does not have: events, states, fields, intents and calls.
//!
//! A story that waits for what cannot come would fail when it is played, and say so of the play; here it is said of the
//! name, with the nearest one. What a story expects to be refused as unknown may be unknown.

use kernel::definition::Placed;
use kernel::diagnostic::{Diagnostic, Place, nearest};
use kernel::machine::Machine;
use serde_json::Value;

use super::expect::Expectation;
use super::file::{Act, Story, StoryFile};

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
            given.state.iter().for_each(|state| self.state(&state.value, state.place));
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

    fn expectation(&mut self, expectation: &Expectation) {
        let Expectation { key, wanted, place, .. } = expectation;
        match (*key, wanted) {
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
        if self.machine.chart.event(&event.value).is_none() {
            let known = self.machine.chart.public_events().map(|name| &**name);
            self.known("unknown_event", "event", &event.value, known, event.place);
        }
    }

    fn call(&mut self, id: &Placed<String>) {
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
