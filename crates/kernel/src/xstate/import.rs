//! From a machine config of XState to a definition.
//!
//! Owns the machine and its states: which of their keys become which of ours, in our order. Transitions, actions,
//! guards, delays, calls, events and the context are in the files beside this one.
//!
//! What is code in XState stands where it was and does nothing until it is written: a guard refuses, a delay never
//! passes. An author who forgets one has a machine that does too little, and not one that does what a guard forbade.
//! Actions have no such stand-in and are left out. Each is a note, and a comment at its place.

mod action;
mod context;
mod delay;
mod event;
mod guard;
mod invoke;
mod serialised;
mod transition;

use std::collections::BTreeMap;

use crate::definition;
use crate::diagnostic::{Diagnostic, shorten};
use crate::xstate::json::Json;
use crate::xstate::names::{Names, legal_name};
use crate::xstate::states::{Kind, States, TOP};
use crate::xstate::yaml::{self, Map, Yaml};
use crate::xstate::{EXTRA_KEY, Note, below};

/// A config of XState has no bound; a definition may not be larger than this either.
const SOURCE_BYTES_MAX: usize = definition::document::SOURCE_BYTES_MAX;

/// The keys of a state that are read, here or by another part.
const READ: [&str; 24] = [
    "id",
    "key",
    "type",
    "initial",
    "states",
    "on",
    "after",
    "always",
    "entry",
    "exit",
    "onEntry",
    "onExit",
    "invoke",
    "onDone",
    "description",
    "output",
    "data",
    "order",
    "choice",
    "timeout",
    "onTimeout",
    "onError",
    "transitions",
    "@exprLang",
];
const READ_AT_TOP: [&str; 6] = ["context", "version", "schemas", "guards", "actions", "delays"];

#[derive(Debug)]
pub struct Imported {
    /// The text of the definition, as YAML.
    pub definition: String,
    pub notes: Vec<Note>,
    /// What `definition::load` says of it. An error here is something in the machine that is wrong on both sides.
    pub diagnostics: Vec<Diagnostic>,
}

/// # Errors
/// Nothing usable can be made of `source`: it is no JSON, no machine, or larger than a definition may be.
pub fn import(source: &str) -> Result<Imported, String> {
    if source.len() > SOURCE_BYTES_MAX {
        let bytes = source.len();
        return Err(format!("the machine has {bytes} bytes; {SOURCE_BYTES_MAX} are allowed: split it"));
    }
    let top = Json::parse(source).map_err(|error| format!("not valid JSON: {error}"))?;
    if !top.is_map() {
        return Err(format!("a machine config is an object, not {}", top.noun()));
    }
    if !["states", "on", "always", "after", "invoke", "initial"].iter().any(|key| top.get(key).is_some()) {
        return Err("this is no machine config: it has neither `states` nor `on`".to_owned());
    }
    let mut importer = Importer {
        top: &top,
        states: States::read(&top)?,
        notes: Vec::new(),
        remarks: Vec::new(),
        events: Names::default(),
        calls: BTreeMap::new(),
        timers: action::Timers::default(),
        locals: Vec::new(),
        fields: context::Fields::default(),
        again: false,
    };
    let mut definition = importer.text();
    let (machine, mut diagnostics) = definition::load(&definition);
    if machine.is_none() && !importer.fields.given {
        // The types were guesses from what the fields begin with: perhaps it is only they that are wrong.
        importer.fields.untyped = true;
        let untyped = importer.text();
        let (machine, doubts) = definition::load(&untyped);
        if machine.is_some() {
            (definition, diagnostics) = (untyped, doubts);
            importer.note(
                "/context",
                "the expressions do not fit the types of the values here: every field is of type `any`",
            );
        }
    }
    let mut notes = importer.states.notes;
    notes.append(&mut importer.notes);
    Ok(Imported { definition, notes, diagnostics })
}

struct Importer<'j> {
    top: &'j Json,
    states: States<'j>,
    notes: Vec<Note>,
    /// Comments for the map that is being written.
    remarks: Vec<String>,
    events: Names,
    /// Our name of each call, by its id in XState.
    calls: BTreeMap<String, String>,
    timers: action::Timers,
    /// What `for_each` calls its items, where actions are within some.
    locals: Vec<String>,
    fields: context::Fields,
    /// A name has changed since the writing began.
    again: bool,
}

impl<'j> Importer<'j> {
    /// The text of the definition.
    fn text(&mut self) -> String {
        loop {
            self.notes.clear();
            self.remarks.clear();
            self.events = Names::default();
            self.fields = context::Fields::new(self.fields.untyped);
            self.again = false;
            let machine = self.machine();
            // Something may have been found that concerns what was written before it, such as a state that needs
            // another name.
            if !self.again && !self.timers.settle() {
                return yaml::write(&machine);
            }
        }
    }

    fn note(&mut self, path: &str, message: impl Into<String>) {
        self.notes.push(Note { path: path.to_owned(), message: message.into() });
    }

    /// A note that is a comment in the definition too.
    fn remark(&mut self, path: &str, message: impl Into<String>) {
        let message = message.into();
        self.remarks.push(message.clone());
        self.note(path, message);
    }

    fn machine(&mut self) -> Map {
        self.name_calls();
        self.declare_fields();
        let top = self.top;
        if serialised::is_serialised(top) {
            self.note("", serialised::SILENT);
        }
        let id = top.text_at("id").or(top.text_at("key")).unwrap_or("imported");
        let name = legal_name(id);
        if top.text_at("id").or(top.text_at("key")).is_none() {
            self.note("", "the machine has no id: it is called `imported`");
        } else if name != id {
            self.note(
                "/id",
                format!("`{}` is no name for a machine here: it is called `{name}`", shorten(id)),
            );
        }
        let extra = extra(top);
        let mut body = Map::default();
        self.listen(TOP, &mut body);
        let (initial, states) = self.top_states();
        let ends =
            self.states.all[TOP].children.iter().any(|child| self.states.all[*child].kind == Kind::Final);
        if !ends && top.get("output").is_some_and(|output| !is_nothing(output)) {
            self.note("/output", "no state at the top is final, so there is no output: it was left out");
        }
        let mut machine = Map::default();
        machine.remarks.push(format!("Imported from the XState machine `{}`.", shorten(id)));
        machine.remarks.append(&mut self.remarks);
        machine.put("machine", Yaml::text(name));
        machine.put("version", self.version());
        machine.put_some(
            "description",
            top.get("description").filter(|d| d.as_text().is_some()).map(Yaml::from),
        );
        machine.put_some("context", self.context());
        machine.put_some("events", extra.and_then(|extra| extra.get("events")).map(Yaml::from));
        machine.entries.extend(initial);
        machine.put_some("safe_state", extra.and_then(|extra| extra.get("safe_state")).map(Yaml::from));
        machine.entries.append(&mut body.entries);
        machine.put("states", states);
        for section in ["conversation", "migrations"] {
            machine.put_some(section, extra.and_then(|extra| extra.get(section)).map(Yaml::from));
        }
        self.check_keys(TOP);
        machine
    }

    /// XState's version is a text; ours a number that people count up.
    fn version(&mut self) -> Yaml {
        let number = match self.top.get("version") {
            None | Some(Json::Null) => Some(1),
            Some(Json::Text(text)) => text.parse().ok(),
            Some(Json::Number(number)) => number.as_u64(),
            Some(_) => None,
        };
        let version = number.filter(|version| (1..=1_000_000).contains(version));
        if version.is_none() {
            self.note("/version", "a version is a whole number from 1 here: it is 1");
        }
        Yaml::Number(version.unwrap_or(1).into())
    }

    /// What says where the machine begins, and its states.
    fn top_states(&mut self) -> (Vec<(String, Yaml)>, Map) {
        let children: Vec<usize> = self.states.all[TOP]
            .children
            .iter()
            .copied()
            .filter(|child| !self.states.is_void(*child))
            .collect();
        let mut states = Map::default();
        for child in self.states.all[TOP].children.clone() {
            if self.states.is_void(child) {
                let path = self.states.all[child].pointer.clone();
                self.note(&path, "history of the top was left out: the top is never left, so where it is a target the initial state is now");
            }
        }
        for child in &children {
            let state = self.state(*child);
            states.put(&self.states.all[*child].name.clone(), state);
        }
        if children.is_empty() {
            self.note("/states", "a machine has states here: the state `active` was added");
            states.put("active", Map::default());
            return (vec![("initial".to_owned(), Yaml::text("active"))], states);
        }
        let mut begin = Map::default();
        self.put_begin(TOP, &mut begin);
        (begin.entries, states)
    }

    /// `type: parallel`, or `initial`.
    fn put_begin(&mut self, state: usize, map: &mut Map) {
        let path = self.states.all[state].pointer.clone();
        let written = self.states.all[state].json.get("initial").filter(|initial| **initial != Json::Null);
        match self.states.all[state].kind {
            Kind::Parallel => map.put("type", Yaml::text("parallel")),
            Kind::Compound => {
                let initial = self.states.initial(state);
                let name = self.states.path_from(state, initial);
                let own =
                    extra(self.states.all[state].json).and_then(|extra| extra.get("initial")).map(Yaml::from);
                let begin = own.unwrap_or_else(|| Yaml::text(&name));
                let named = match written {
                    Some(Json::Map(_)) => written.and_then(|w| w.get("target")).is_some(),
                    Some(Json::Text(_) | Json::List(_)) => true,
                    _ => false,
                };
                if !named
                    || (written
                        .and_then(Json::as_text)
                        .is_some_and(|text| self.states.initial_named(state, text).is_none()))
                {
                    self.note(
                        &below(&path, "initial"),
                        format!("no initial state is named: it is `{name}`, the first one"),
                    );
                }
                let actions =
                    written.filter(|w| w.is_map()).map(|w| (w.get("actions"), below(&path, "initial")));
                let actions = match actions {
                    Some((Some(actions), at)) => self.actions(actions, &below(&at, "actions")),
                    _ => Vec::new(),
                };
                if written.is_some_and(|w| w.get("input").is_some()) {
                    self.remark(
                        &below(&path, "initial"),
                        "initial: `input` has no counterpart here and was left out",
                    );
                }
                if actions.is_empty() {
                    map.put("initial", begin);
                } else {
                    let mut initial = Map::default();
                    initial.put("target", begin);
                    action::put_actions(&mut initial, actions);
                    map.put("initial", initial);
                }
            }
            _ => {}
        }
    }

    fn state(&mut self, state: usize) -> Map {
        let outer = std::mem::take(&mut self.remarks);
        let json = self.states.all[state].json;
        let kind = self.states.all[state].kind;
        let mut map = Map::default();
        map.put_some(
            "description",
            json.get("description").filter(|d| d.as_text().is_some()).map(Yaml::from),
        );
        map.put_some("tags", json.get("tags").filter(|tags| !is_nothing(tags)).map(Yaml::from));
        map.put_some("meta", meta(json));
        match kind {
            Kind::Atomic => self.listen(state, &mut map),
            Kind::Compound | Kind::Parallel => {
                self.put_begin(state, &mut map);
                self.listen(state, &mut map);
                let mut states = Map::default();
                for child in self.states.all[state].children.clone() {
                    let body = self.state(child);
                    states.put(&self.states.all[child].name.clone(), body);
                }
                map.put("states", states);
            }
            Kind::Final => self.put_final(state, &mut map),
            Kind::Shallow | Kind::Deep => self.put_history(state, &mut map),
        }
        self.check_keys(state);
        map.remarks = std::mem::replace(&mut self.remarks, outer);
        map
    }

    fn put_final(&mut self, state: usize, map: &mut Map) {
        let json = self.states.all[state].json;
        let path = self.states.all[state].pointer.clone();
        let parent = self.states.all[state].parent;
        for key in ["on", "after", "always", "invoke", "onDone", "initial", "timeout", "onTimeout", "onError"]
        {
            if json.get(key).is_some_and(|value| !is_nothing(value) && !serialised::leads_nowhere(value)) {
                self.remark(
                    &below(&path, key),
                    format!("a final state stays final: its `{key}` was left out"),
                );
            }
        }
        let mut end = Map::default();
        end.put("type", Yaml::text("final"));
        end.put_some("output", self.output(state));
        end.put_some("reason", extra(json).and_then(|extra| extra.get("reason")).map(Yaml::from));
        if self.states.all[parent].kind == Kind::Parallel {
            self.note(&path, "a region cannot be final itself here: it has the final state `done` inside it");
            map.put("initial", Yaml::text("done"));
            self.put_entry_and_exit(state, map);
            put_invariants(json, map);
            let mut states = Map::default();
            states.put("done", end);
            map.put("states", states);
        } else {
            map.entries.insert(0, end.entries.remove(0));
            self.put_entry_and_exit(state, map);
            put_invariants(json, map);
            map.entries.append(&mut end.entries);
        }
    }

    /// What a final state hands over: its own output, or that of the machine if the machine ends here.
    fn output(&mut self, state: usize) -> Option<Yaml> {
        let json = self.states.all[state].json;
        let at_top = self.states.all[state].parent == TOP;
        let machine = self.top.get("output").filter(|_| at_top);
        let (output, path) = match (machine, json.get("output").or(json.get("data"))) {
            (Some(output), own) => {
                if own.is_some() {
                    let path = below(&self.states.all[state].pointer, "output");
                    self.remark(&path, "the machine's own `output` stands here instead of this state's");
                }
                (output, "/output".to_owned())
            }
            (None, own) => (own?, below(&self.states.all[state].pointer, "output")),
        };
        self.values(output, &path, "the output")
    }

    fn put_history(&mut self, state: usize, map: &mut Map) {
        let json = self.states.all[state].json;
        let path = self.states.all[state].pointer.clone();
        let parent = self.states.all[state].parent;
        map.put("type", Yaml::text("history"));
        if self.states.all[state].kind == Kind::Deep {
            map.put("history", Yaml::text("deep"));
        }
        for key in ["on", "after", "always", "invoke", "entry", "exit", "onDone", "initial"] {
            if json.get(key).is_some_and(|value| !is_nothing(value) && !serialised::leads_nowhere(value)) {
                self.remark(
                    &below(&path, key),
                    format!("a history state only remembers: its `{key}` was left out"),
                );
            }
        }
        let written: Vec<&str> = match json.get("target") {
            Some(Json::Text(target)) => vec![target],
            Some(Json::List(targets)) => targets.iter().filter_map(Json::as_text).collect(),
            _ => Vec::new(),
        };
        let mut targets = Vec::new();
        for target in written {
            match self.states.resolve(state, target) {
                Ok(found) if !self.states.is_history(found) && self.states.is_below(found, parent) => {
                    targets.push(found)
                }
                Ok(_) => self.note(
                    &below(&path, "target"),
                    format!("`{target}` is nothing that could be remembered here, and was left out"),
                ),
                Err(problem) => self.note(&below(&path, "target"), format!("{problem}; it was left out")),
            }
        }
        if targets.is_empty() {
            // As XState has it: where the parent begins.
            targets = match self.states.all[parent].kind {
                Kind::Parallel => self.states.regions(parent),
                _ => vec![self.states.initial(parent)],
            };
        }
        let targets: Vec<Yaml> =
            targets.into_iter().map(|target| Yaml::text(self.name_for(state, target))).collect();
        map.put_some("target", Yaml::one_or_many(targets));
        if let Some(actions) = extra(json).and_then(|extra| extra.get("actions")) {
            let actions = self.actions(actions, &below(&path, "meta"));
            map.put_some("actions", action::as_value(actions));
        }
    }

    /// How a transition of `source` names `target`. Where nothing would do, a name changes, and what is returned
    /// now will be written again.
    fn name_for(&mut self, source: usize, target: usize) -> String {
        self.states.name_for(source, target).unwrap_or_else(|| {
            self.states.make_nameable(target);
            self.again = true;
            self.states.path(target)
        })
    }

    fn put_entry_and_exit(&mut self, state: usize, map: &mut Map) {
        for (key, former) in [("entry", "onEntry"), ("exit", "onExit")] {
            let json = self.states.all[state].json;
            let key_there = if json.get(key).is_some() { key } else { former };
            let Some(written) = json.get(key_there) else {
                continue;
            };
            let outer = std::mem::take(&mut self.remarks);
            let path = below(&self.states.all[state].pointer, key_there);
            let actions = self.actions(&serialised::without_timers(json, key, written), &path);
            map.put_some(key, action::as_value(actions));
            let own = std::mem::replace(&mut self.remarks, outer);
            self.remarks.extend(own.into_iter().map(|remark| format!("{key}: {remark}")));
        }
    }

    /// Entry, exit, calls and transitions: what the top has as well as a state.
    fn listen(&mut self, state: usize, map: &mut Map) {
        let json = self.states.all[state].json;
        self.put_entry_and_exit(state, map);
        put_invariants(json, map);
        self.put_invokes(state, map);
        if let Some(accepts) = extra(json).and_then(|extra| extra.get("accepts")) {
            map.put("accepts", accepts);
        }
        self.put_transitions(state, map);
    }

    /// Notes what no other part has read.
    fn check_keys(&mut self, state: usize) {
        let json = self.states.all[state].json;
        let path = self.states.all[state].pointer.clone();
        for (key, value) in json.entries() {
            let key = key.as_str();
            let read = match key {
                "tags" => state != TOP,
                "meta" => state != TOP || value.entries().iter().all(|(key, _)| key == EXTRA_KEY),
                "target" | "history" => self.states.is_history(state),
                // A serialised machine repeats its version in every state.
                "version" => Some(value) == self.top.get("version"),
                _ => READ.contains(&key) || (state == TOP && READ_AT_TOP.contains(&key)),
            };
            if !read && !is_nothing(value) {
                let what = format!("`{}` has no counterpart here and was left out", shorten(key));
                self.note(&below(&path, key), what);
            }
        }
        self.check_types(state, json, &path);
    }

    fn check_types(&mut self, state: usize, json: &Json, path: &str) {
        let there = |key: &str| json.get(key).filter(|value| !is_nothing(value));
        for key in ["states", "on", "after"] {
            if let Some(value) = there(key).filter(|value| !value.is_map()) {
                let what = format!("`{key}` must be an object, not {}: it was left out", value.noun());
                self.note(&below(path, key), what);
            }
        }
        if let Some(value) = there("description").filter(|value| value.as_text().is_none()) {
            let what = format!("a description must be a string, not {}: it was left out", value.noun());
            self.note(&below(path, "description"), what);
        }
        if self.states.all[state].kind != Kind::Final && state != TOP {
            for key in ["output", "data"].into_iter().filter(|key| there(key).is_some()) {
                self.note(&below(path, key), "only a final state has an output: it was left out");
            }
        }
        let schemas = there("schemas").filter(|_| state == TOP).map_or(&[][..], Json::entries);
        for (key, _) in schemas.iter().filter(|(key, _)| key != "context") {
            self.note(
                &below("/schemas", key),
                "only the schema of the context is read: this one was left out",
            );
        }
    }
}

fn put_invariants(json: &Json, map: &mut Map) {
    map.put_some("invariants", extra(json).and_then(|extra| extra.get("invariants")).map(Yaml::from));
}

/// What an export has put aside of a machine, a state or a transition.
fn extra(json: &Json) -> Option<&Json> {
    json.get("meta")?.get(EXTRA_KEY)
}

/// The author's own `meta`.
fn meta(json: &Json) -> Option<Yaml> {
    let meta = json.get("meta")?;
    let own: Vec<_> = meta.entries().iter().filter(|(key, _)| key != EXTRA_KEY).cloned().collect();
    match meta {
        Json::Map(_) if own.is_empty() => None,
        Json::Map(_) => Some(Yaml::from(&Json::Map(own))),
        Json::Null => None,
        other => Some(Yaml::from(other)),
    }
}

/// Nothing that anybody could miss: what a serialised machine writes for what is not there.
fn is_nothing(json: &Json) -> bool {
    match json {
        Json::Null | Json::Bool(false) => true,
        Json::List(items) => items.is_empty(),
        Json::Map(entries) => entries.is_empty(),
        _ => false,
    }
}
