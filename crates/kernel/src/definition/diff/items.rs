//! The items of a definition, each with its aspects: what is compared, one by one, when two definitions are.
//!
//! Owns what an item is and which there are of a machine's states; those of flows and of conversations are in the modules
//! below. What is only for people to read (descriptions, tags) is not among them.

mod conversation;
mod phases;

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::definition::diff::written::{actions, targets, value, values};
use crate::definition::diff::{Change, ChangeKind, Key, Part};
use crate::definition::{
    AcceptKind, Definition, FieldDefinition, FieldKind, InitialDefinition, InvariantDefinition,
    InvokeDefinition, MigrationDefinition, StateDefinition, StateKind, TransitionDefinition, overlay, read,
};
use crate::machine::Machine;

pub(super) const REQUIRED: &str = "it is required and has no default, and instances that run do not have it";
pub(super) const RETYPED: &str = "what instances that run have in it may not fit";

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Item {
    pub part: Part,
    pub name: String,
    pub trigger: Option<String>,
    /// By their paths within the item. What is absent or the default is not among them.
    pub aspects: BTreeMap<String, Aspect>,
    /// What to say if it is new.
    remark: Option<&'static str>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Aspect {
    Value(Value),
    /// Of which only those matter that the other does not have.
    Words(Vec<String>),
    /// In which order others stand, as far as both definitions have them.
    Order(Vec<String>),
}

impl Aspect {
    pub fn to_json(&self) -> Value {
        match self {
            Self::Value(value) => value.clone(),
            Self::Words(words) | Self::Order(words) => Value::from(words.as_slice()),
        }
    }
}

impl Item {
    fn new(part: Part, name: impl Into<String>) -> Self {
        Self { part, name: name.into(), trigger: None, aspects: BTreeMap::new(), remark: None }
    }

    /// Sets an aspect, unless there is nothing in it: false, null, an empty list or map.
    fn set(&mut self, aspect: impl Into<String>, value: impl Into<Value>) {
        let value = value.into();
        let nothing = match &value {
            Value::Null | Value::Bool(false) => true,
            Value::Array(items) => items.is_empty(),
            Value::Object(fields) => fields.is_empty(),
            _ => false,
        };
        if !nothing {
            self.keep(aspect, Aspect::Value(value));
        }
    }

    fn keep(&mut self, name: impl Into<String>, aspect: Aspect) {
        self.aspects.insert(name.into(), aspect);
    }

    fn set_invariants(&mut self, prefix: &str, invariants: &[InvariantDefinition]) {
        for invariant in invariants {
            let check = &invariant.check.value;
            let said = match &invariant.message {
                Some(message) => json!({ "check": check, "message": message }),
                None => Value::from(check.as_str()),
            };
            self.set(format!("{prefix}.{}", invariant.name.value), said);
        }
    }

    pub fn key(&self) -> Key<'_> {
        (self.part, &self.name, self.trigger.as_deref())
    }

    pub fn change(&self, kind: ChangeKind) -> Change {
        Change {
            part: self.part,
            name: self.name.clone(),
            trigger: self.trigger.clone(),
            kind,
            before: None,
            after: None,
            maybe_renamed: None,
            remark: None,
        }
    }

    pub fn added(&self) -> Change {
        Change { after: Some(self.whole()), remark: self.remark, ..self.change(ChangeKind::Added) }
    }

    pub fn removed(&self) -> Change {
        Change { before: Some(self.whole()), ..self.change(ChangeKind::Removed) }
    }

    /// All that is said of it; in which order other items stand follows from those.
    fn whole(&self) -> Map<String, Value> {
        let said = self.aspects.iter().filter(|(_, aspect)| !matches!(aspect, Aspect::Order(_)));
        said.map(|(name, aspect)| (name.clone(), aspect.to_json())).collect()
    }

    pub fn remark_if_changed(
        &self,
        before: &Map<String, Value>,
        after: &Map<String, Value>,
    ) -> Option<&'static str> {
        let concerns = |aspect: &str| before.contains_key(aspect) || after.contains_key(aspect);
        let narrower = ["type", "items"].into_iter().any(concerns) || before.contains_key("nullable");
        (self.part == Part::Field && narrower).then_some(RETYPED)
    }

    /// How many aspects are equal.
    pub fn in_common(&self, other: &Self) -> usize {
        self.aspects.iter().filter(|(name, aspect)| other.aspects.get(*name) == Some(aspect)).count()
    }

    /// Equal for what is equal.
    pub fn fingerprint(&self) -> String {
        Value::Object(self.whole()).to_string()
    }

    /// The fingerprint of a state or transition, where targets do not say what the state around it, or it itself, is called.
    pub fn fingerprint_without(&self, name: &str, path: &str) -> String {
        let mut whole = self.whole();
        for (key, target) in &mut whole {
            if !matches!(key.as_str(), "target" | "initial") {
                continue;
            }
            match target {
                Value::String(target) => nameless(target, name, path),
                Value::Array(targets) => {
                    for target in targets {
                        if let Value::String(target) = target {
                            nameless(target, name, path);
                        }
                    }
                }
                _ => {}
            }
        }
        Value::Object(whole).to_string()
    }

    /// A state of which nothing is said but what kind it is.
    pub fn is_plain_state(&self, path: &str) -> bool {
        self.part == Part::State && self.name == path && self.aspects.len() <= 1
    }

    /// For `after`, how long.
    pub fn delay(&self) -> String {
        self.aspects.get("delay").map(|delay| delay.to_json().to_string()).unwrap_or_default()
    }

    /// Where a transition leads and when, on one line.
    pub fn in_short(&self) -> String {
        let say = |aspect: &str| match self.aspects.get(aspect).map(Aspect::to_json) {
            Some(Value::String(text)) => Some(text),
            other => other.map(|value| value.to_string()),
        };
        let target = say("target").unwrap_or_else(|| "(stays)".to_owned());
        let delay = say("delay").map_or(String::new(), |delay| format!("{delay}: "));
        let guard = say("guard").map_or(String::new(), |guard| format!(" if {guard}"));
        format!("{delay}{target}{guard}")
    }
}

fn nameless(target: &mut String, name: &str, path: &str) {
    if target == name || target == path {
        target.clear();
    } else if let Some(inside) = target.strip_prefix(path).filter(|rest| rest.starts_with('.')) {
        *target = format!("…{inside}");
    }
}

/// Everything that a machine's text says, part by part, in the order in which it is written.
pub(super) fn items(machine: &Machine) -> Vec<Item> {
    // It was read once before: there is nothing wrong with it.
    let read = overlay::read(&machine.source).ok().and_then(|(node, _)| read(&node, &mut Vec::new()));
    let Some(definition) = read else { return Vec::new() };
    let mut top = Item::new(Part::Definition, "");
    top.set("name", definition.machine.value.as_str());
    top.set("safe_state", definition.safe_state.as_ref().map(|state| state.value.as_str()));
    let mut found = vec![top];
    found.extend(definition.context.iter().map(field));
    found.extend(definition.events.iter().map(|event| Item::new(Part::Event, event.value.as_str())));
    match &definition.flow {
        Some(flow) => phases::describe(&mut found, flow),
        None => states(&mut found, &definition),
    }
    if let Some(conversation) = &definition.conversation {
        conversation::describe(&mut found, conversation);
    }
    found.extend(definition.migrations.iter().map(migration));
    found.sort_by_key(|item| item.part);
    found
}

fn migration(migration: &MigrationDefinition) -> Item {
    let mut from: Vec<u32> = migration.from.iter().map(|version| version.value).collect();
    from.sort_unstable();
    let named: Vec<String> = from.iter().map(ToString::to_string).collect();
    let name = if named.is_empty() { "any other".to_owned() } else { named.join(", ") };
    let mut item = Item::new(Part::Migration, name);
    for (there, here) in &migration.moves {
        let here = here.as_ref().map_or("(stays)", |here| here.value.as_str());
        item.set(format!("moves.{}", there.value), here);
    }
    for (field, made) in &migration.context {
        item.keep(format!("context.{}", field.value), Aspect::Value(value(made)));
    }
    if let Some(otherwise) = &migration.otherwise {
        item.set("otherwise", otherwise.target.value.as_str());
        item.set("otherwise.reply", otherwise.reply.as_ref().map(|reply| reply.value.as_str()));
    }
    item
}

fn field(field: &FieldDefinition) -> Item {
    let mut item = Item::new(Part::Field, field.name.value.as_str());
    item.set("type", field.kind.as_str());
    item.set("items", field.items.map(FieldKind::as_str));
    item.set("nullable", field.nullable);
    item.set("required", field.required);
    item.set("keep", field.keep);
    item.set("secret", field.secret);
    // A default that is false or empty is one all the same.
    if let Some(default) = &field.default {
        item.keep("default", Aspect::Value(default.value.clone()));
    }
    item.remark = field.must_be_given().then_some(REQUIRED);
    item
}

fn states(found: &mut Vec<Item>, definition: &Definition) {
    let root = &definition.root;
    let top = &mut found[0];
    set_state(top, root);
    if root.kind == StateKind::Parallel {
        top.set("type", "parallel");
    }
    transitions(found, root, "");
    for child in &root.states {
        state(found, child, child.name.value.clone());
    }
}

fn state(found: &mut Vec<Item>, written: &StateDefinition, path: String) {
    let mut item = Item::new(Part::State, path.as_str());
    set_state(&mut item, written);
    let kind = match written.kind {
        StateKind::Normal if written.states.is_empty() => "atomic",
        StateKind::Normal => "compound",
        StateKind::Parallel => "parallel",
        StateKind::Final => "final",
        StateKind::ShallowHistory => "history",
        StateKind::DeepHistory => "deep_history",
    };
    item.set("type", kind);
    found.push(item);
    transitions(found, written, &path);
    for child in &written.states {
        state(found, child, format!("{path}.{}", child.name.value));
    }
}

fn set_state(item: &mut Item, state: &StateDefinition) {
    item.set("initial", state.initial.as_ref().map(initial));
    item.set("entry", actions(&state.entry));
    item.set("exit", actions(&state.exit));
    item.set_invariants("invariants", &state.invariants);
    for call in &state.invoke {
        item.set(call_key(call), invoke(call));
    }
    item.set("target", targets(&state.default_target));
    item.set("actions", actions(&state.default_actions));
    item.set("reason", state.reason.as_deref());
    item.set("output", values(&state.output));
    for accept in &state.accepts {
        let kind = match accept.kind.value {
            AcceptKind::Text => "text",
            AcceptKind::Number => "number",
            AcceptKind::Choice => "choice",
            AcceptKind::Media => "media",
        };
        let event =
            accept.event.as_ref().map_or(Value::from(true), |event| Value::from(event.value.as_str()));
        item.set(format!("accepts.{kind}"), event);
    }
    // The regions' order is that of their states wherever an instance's are told.
    if state.kind == StateKind::Parallel {
        item.keep("regions", Aspect::Order(state.states.iter().map(|s| s.name.value.clone()).collect()));
    }
    // Where a pattern is among them, the first that takes an event is taken.
    let events: Vec<String> = state.on.iter().map(|(event, _)| event.value.clone()).collect();
    if events.iter().any(|event| event.ends_with('*')) {
        item.keep("on", Aspect::Order(events));
    }
}

fn initial(initial: &InitialDefinition) -> Value {
    let targets = targets(&initial.targets);
    match initial.actions.is_empty() {
        true => targets,
        false => json!({ "target": targets, "actions": actions(&initial.actions) }),
    }
}

/// One without an id of its own is called by its state, and the only such there.
fn call_key(call: &InvokeDefinition) -> String {
    call.id.as_ref().map_or_else(|| "invoke".to_owned(), |id| format!("invoke.{}", id.value))
}

fn invoke(call: &InvokeDefinition) -> Value {
    let mut said = Map::from_iter([("src".to_owned(), Value::from(call.src.value.as_str()))]);
    if !call.input.is_empty() {
        said.insert("input".to_owned(), values(&call.input));
    }
    if let Some(timeout) = call.timeout {
        said.insert("timeout".to_owned(), Value::from(timeout.to_string()));
    }
    Value::Object(said)
}

fn transitions(found: &mut Vec<Item>, state: &StateDefinition, path: &str) {
    let mut add = |trigger: String, delay: Option<String>, transitions: &[TransitionDefinition]| {
        found.extend(transitions.iter().map(|each| {
            let mut item = transition(each, path, trigger.clone());
            item.set("delay", delay.as_deref());
            item
        }));
    };
    for (event, taken) in &state.on {
        add(format!("on.{}", event.value), None, taken);
    }
    for (delay, taken) in &state.after {
        add("after".to_owned(), Some(delay.value.to_string()), taken);
    }
    add("always".to_owned(), None, &state.always);
    if let Some((_, taken)) = &state.on_done {
        add("on_done".to_owned(), None, taken);
    }
    for call in &state.invoke {
        add(format!("{}.on_done", call_key(call)), None, &call.on_done);
        add(format!("{}.on_error", call_key(call)), None, &call.on_error);
    }
}

fn transition(written: &TransitionDefinition, path: &str, trigger: String) -> Item {
    let mut item = Item::new(Part::Transition, path);
    item.trigger = Some(trigger);
    item.set("target", targets(&written.target));
    item.set("guard", written.guard.as_ref().map(|guard| guard.value.as_str()));
    item.set("actions", actions(&written.actions));
    item.set_invariants("ensures", &written.ensures);
    item.set("reenter", written.reenter);
    item.set("reason", written.reason.as_deref());
    item.set("loop", written.loop_normal.then_some("normal"));
    item
}
