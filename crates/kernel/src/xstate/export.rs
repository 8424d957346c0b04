//! From a definition to a machine config of XState 5, as far as XState can say it.
//!
//! Owns the machine, its states and transitions. What XState has no word for is put aside in `meta.statewright`, where
//! the import finds it; what a program has to supply before the machine runs is noted.

mod action;
mod held;

use std::collections::{BTreeMap, BTreeSet};

use crate::definition::document::{Node, NodeKind};
use crate::definition::{
    CALL_DONE_PREFIX, CALL_ERROR_PREFIX, DONE_PREFIX, Definition, EXPRESSION_ERROR, FieldKind, Placed,
    StateDefinition, StateKind, TransitionDefinition, load, overlay, read,
};
use crate::diagnostic::{Diagnostic, Place, Severity};
use crate::time::Delay;
use crate::xstate::json::Json;
use crate::xstate::{EXTRA_KEY, GUARD_TYPE, Note, below};

#[derive(Debug)]
pub struct Exported {
    pub machine: Json,
    pub notes: Vec<Note>,
}

/// Why there is nothing to export.
#[derive(Debug)]
pub enum Unexported {
    /// What is wrong with the definition.
    Errors(Vec<Diagnostic>),
    /// The definition is a flow, whose phases XState knows nothing of.
    Flow,
}

/// # Errors
/// When the definition has an error, or no states.
pub fn export(source: &str) -> Result<Exported, Unexported> {
    let (_, mut diagnostics) = load(source);
    if diagnostics.iter().any(|diagnostic| diagnostic.severity == Severity::Error) {
        return Err(Unexported::Errors(diagnostics));
    }
    let (node, _) = overlay::read(source).map_err(|diagnostic| Unexported::Errors(vec![*diagnostic]))?;
    let Some(definition) = read(&node, &mut diagnostics) else {
        return Err(Unexported::Errors(diagnostics));
    };
    if definition.flow.is_some() {
        return Err(Unexported::Flow);
    }
    let mut exporter = Exporter {
        definition: &definition,
        paths: BTreeSet::new(),
        descriptions: BTreeMap::new(),
        notes: Vec::new(),
        wanted: Wanted::default(),
    };
    exporter.collect_paths(&definition.root, "");
    exporter.collect_descriptions(&node);
    let machine = exporter.machine(&node);
    let mut notes = exporter.notes;
    notes.extend(exporter.wanted.notes());
    Ok(Exported { machine, notes })
}

/// What a program has to supply, with how often it is used and where first.
#[derive(Default)]
struct Wanted {
    used: Vec<(&'static str, &'static str, String, usize)>,
}

impl Wanted {
    fn note(&mut self, name: &'static str, what: &'static str, path: &str) {
        match self.used.iter_mut().find(|(there, ..)| *there == name) {
            Some((.., count)) => *count += 1,
            None => self.used.push((name, what, path.to_owned(), 1)),
        }
    }

    fn notes(self) -> impl Iterator<Item = Note> {
        self.used.into_iter().map(|(name, what, path, count)| {
            let times = if count == 1 { "once".to_owned() } else { format!("{count} times, here first") };
            Note { path, message: format!("`{name}` is used {times}: {what}") }
        })
    }
}

struct Exporter<'d> {
    definition: &'d Definition,
    paths: BTreeSet<String>,
    /// The `description` of every map that has one, by where the map begins: a definition does not keep them.
    descriptions: BTreeMap<(u32, u32), String>,
    notes: Vec<Note>,
    wanted: Wanted,
}

/// A map that is being written: what is absent or empty is not written.
#[derive(Default)]
struct Entries(Vec<(String, Json)>);

impl Entries {
    fn put(&mut self, key: &str, value: impl Into<Option<Json>>) {
        let empty = |json: &Json| match json {
            Json::List(items) => items.is_empty(),
            _ => false,
        };
        if let Some(value) = value.into().filter(|value| !empty(value)) {
            self.0.push((key.to_owned(), value));
        }
    }

    fn into_json(self) -> Json {
        Json::Map(self.0)
    }

    fn into_some(self) -> Option<Json> {
        (!self.0.is_empty()).then(|| self.into_json())
    }
}

impl Exporter<'_> {
    fn collect_paths(&mut self, state: &StateDefinition, path: &str) {
        for child in &state.states {
            let path = joined(path, &child.name.value);
            self.collect_paths(child, &path);
            self.paths.insert(path);
        }
    }

    fn collect_descriptions(&mut self, node: &Node) {
        match &node.kind {
            NodeKind::List(items) => items.iter().for_each(|item| self.collect_descriptions(item)),
            NodeKind::Map(entries) => {
                for (key, value) in entries {
                    if let ("description", NodeKind::Text(text)) = (key.value.as_str(), &value.kind) {
                        self.descriptions.insert(begins(node.place), text.clone());
                    }
                    self.collect_descriptions(value);
                }
            }
            _ => {}
        }
    }

    fn description(&self, place: Place) -> Option<Json> {
        self.descriptions.get(&begins(place)).map(Json::text)
    }

    fn note(&mut self, path: &str, message: impl Into<String>) {
        self.notes.push(Note { path: path.to_owned(), message: message.into() });
    }

    fn machine(&mut self, node: &Node) -> Json {
        let definition = self.definition;
        let mut machine = Entries::default();
        machine.put("id", Json::text(&definition.machine.value));
        machine.put("description", entry(node, "description").map(json_of));
        machine.put("version", Json::text(definition.version.to_string()));
        let mut extra = Entries::default();
        for key in ["context", "events", "safe_state", "conversation", "migrations"] {
            extra.put(key, entry(node, key).map(json_of));
        }
        if definition.conversation.is_some() {
            self.note("/conversation", "XState has no conversations: this one travels in `meta.statewright`");
        }
        if definition.safe_state.is_some() {
            self.note(
                "/safe_state",
                "XState knows no recovery: the safe state travels in `meta.statewright`",
            );
        }
        machine.put("context", self.context());
        if !definition.root.after.is_empty() {
            self.note(
                "/after",
                "XState counts delays at the top from the beginning, and not from the last input",
            );
        }
        self.put_state(&definition.root, "", "", Some(node), &mut machine, extra);
        machine.into_json()
    }

    /// What the fields begin with.
    fn context(&mut self) -> Option<Json> {
        let mut context = Entries::default();
        for field in &self.definition.context {
            let path = below("/context", &field.name.value);
            if field.required && field.default.is_none() {
                self.note(
                    &path,
                    "the field is required: XState takes what a machine is started with from `input`",
                );
            }
            if field.keep {
                self.note(&path, "XState knows no recovery: `keep` travels in `meta.statewright`");
            }
            if field.secret {
                self.note(&path, "XState knows no secrets: `secret` travels in `meta.statewright`");
            }
            let empty = || match field.kind {
                _ if field.nullable => Json::Null,
                FieldKind::String => Json::text(""),
                FieldKind::Integer | FieldKind::Number => Json::Number(0.into()),
                FieldKind::Boolean => Json::Bool(false),
                FieldKind::Array => Json::List(Vec::new()),
                FieldKind::Object => Json::Map(Vec::new()),
                FieldKind::Any => Json::Null,
            };
            let value = field.default.as_ref().map_or_else(empty, |default| Json::from(&default.value));
            context.0.push((field.name.value.clone(), value));
        }
        context.into_some()
    }

    /// Everything of a state, or of the machine. `path` is its path, `at` where it stands in the text.
    fn put_state(
        &mut self,
        state: &StateDefinition,
        path: &str,
        at: &str,
        node: Option<&Node>,
        map: &mut Entries,
        mut extra: Entries,
    ) {
        let own = |key: &str| node.and_then(|node| entry(node, key)).map(json_of);
        if !at.is_empty() {
            map.put("description", own("description"));
            map.put("tags", own("tags"));
        }
        match state.kind {
            StateKind::Normal => {}
            StateKind::Parallel => map.put("type", Json::text("parallel")),
            StateKind::Final => map.put("type", Json::text("final")),
            StateKind::ShallowHistory | StateKind::DeepHistory => {
                map.put("type", Json::text("history"));
                let deep = state.kind == StateKind::DeepHistory;
                map.put("history", Json::text(if deep { "deep" } else { "shallow" }));
                self.put_default(state, path, at, map, &mut extra);
            }
        }
        self.put_initial(state, path, at, map, &mut extra);
        extra.put("accepts", own("accepts"));
        self.put_held("invariants", &state.invariants, at, &mut extra);
        if !state.accepts.is_empty() {
            self.note(
                &below(at, "accepts"),
                "XState has no conversations: `accepts` travels in `meta.statewright`",
            );
        }
        extra.put("reason", state.reason.as_deref().map(Json::text));
        if state.reason.is_some() {
            self.note(
                &below(at, "reason"),
                "XState has no closure reasons: it travels in `meta.statewright`",
            );
        }
        map.put("entry", self.actions(&state.entry, &below(at, "entry")));
        map.put("exit", self.actions(&state.exit, &below(at, "exit")));
        self.put_invokes(state, path, at, map);
        self.put_transitions(state, path, at, map);
        let output = self.values(&state.output, &below(at, "output"));
        if output.is_some() && !path.contains('.') {
            self.note(
                &below(at, "output"),
                "XState takes a machine's output from the machine's own `output`",
            );
        }
        map.put("output", output);
        let mut states = Entries::default();
        for child in &state.states {
            let name = &child.name.value;
            let node = node.and_then(|node| entry(node, "states")).and_then(|states| entry(states, name));
            let mut body = Entries::default();
            let at = below(&below(at, "states"), name);
            self.put_state(child, &joined(path, name), &at, node, &mut body, Entries::default());
            states.0.push((name.clone(), body.into_json()));
        }
        map.put("states", states.into_some());
        self.put_meta(own("meta"), extra, at, map);
    }

    fn put_meta(&mut self, own: Option<Json>, extra: Entries, at: &str, map: &mut Entries) {
        let mut meta: Vec<(String, Json)> = match own {
            Some(Json::Map(entries)) => entries,
            Some(other) => {
                self.note(
                    &below(at, "meta"),
                    format!("`meta` is an object in XState, not {}: it was left out", other.noun()),
                );
                Vec::new()
            }
            None => Vec::new(),
        };
        meta.extend(extra.into_some().map(|extra| (EXTRA_KEY.to_owned(), extra)));
        map.put("meta", Entries(meta).into_some());
    }

    /// XState begins in a child, and nowhere deeper or in several places at once.
    fn put_initial(
        &mut self,
        state: &StateDefinition,
        path: &str,
        at: &str,
        map: &mut Entries,
        extra: &mut Entries,
    ) {
        let Some(initial) = &state.initial else {
            return;
        };
        let at = below(at, "initial");
        let names: Vec<&str> = initial.targets.iter().map(|target| target.value.as_str()).collect();
        let child = names.first().and_then(|name| name.split('.').next()).unwrap_or_default();
        if names != [child] {
            let written: Vec<Json> = names.iter().map(|name| Json::text(*name)).collect();
            extra.put("initial", Json::List(written));
            let whole = joined(path, names.first().unwrap_or(&""));
            self.note(&at, format!("XState begins in a child: it is `{child}` and not `{whole}`, which travels in `meta.statewright`"));
        }
        let actions = self.actions(&initial.actions, &at);
        if actions == Json::List(Vec::new()) {
            map.put("initial", Json::text(child));
        } else {
            let mut transition = Entries::default();
            transition.put("target", Json::text(child));
            transition.put("actions", actions);
            map.put("initial", transition.into_json());
        }
    }

    /// Where a history state leads that has nothing to remember, as seen from its parent.
    fn put_default(
        &mut self,
        state: &StateDefinition,
        path: &str,
        at: &str,
        map: &mut Entries,
        extra: &mut Entries,
    ) {
        let parent = path.rsplit_once('.').map_or("", |(parent, _)| parent);
        let found = state.default_target.iter().filter_map(|target| self.resolve(path, &target.value));
        let targets: Vec<Json> = found
            .map(|target| match parent {
                "" => Json::text(target),
                parent => Json::text(target[parent.len()..].trim_start_matches('.')),
            })
            .collect();
        map.put("target", one_or_many(targets));
        let actions = self.actions(&state.default_actions, &below(at, "actions"));
        if actions != Json::List(Vec::new()) {
            extra.put("actions", actions);
            self.note(
                &below(at, "actions"),
                "a history state of XState has no actions: they travel in `meta.statewright`",
            );
        }
    }

    fn put_invokes(&mut self, state: &StateDefinition, path: &str, at: &str, map: &mut Entries) {
        let mut calls = Vec::new();
        for call in &state.invoke {
            let at = below(at, "invoke");
            let id = call.id.as_ref().map_or_else(|| path.replace('.', "_"), |id| id.value.clone());
            let mut invoke = Entries::default();
            invoke.put("id", Json::text(id));
            invoke.put("src", Json::text(&call.src.value));
            invoke.put("description", self.description(call.place));
            self.note(&at, format!("the actor `{}` has to be supplied", call.src.value));
            invoke.put("input", self.values(&call.input, &at));
            match call.timeout {
                Some(timeout) => {
                    invoke.put("timeout", milliseconds(timeout));
                    self.note(
                        &below(&at, "timeout"),
                        "XState 5 has no timeouts of invocations; XState 6 has",
                    );
                }
                None => self.note(&at, "XState waits for an actor for ever, and not for five minutes"),
            }
            invoke.put("onDone", self.transitions(&call.on_done, path, &below(&at, "on_done")));
            invoke.put("onError", self.transitions(&call.on_error, path, &below(&at, "on_error")));
            calls.push(invoke.into_json());
        }
        map.put("invoke", one_or_many(calls));
    }

    fn put_transitions(&mut self, state: &StateDefinition, path: &str, at: &str, map: &mut Entries) {
        let mut on = Entries::default();
        for (number, (event, transitions)) in state.on.iter().enumerate() {
            let at = below(&below(at, "on"), &event.value);
            self.check_order(&state.on[..number], event, &at);
            let name = self.event(&event.value, &at);
            let transitions = self.transitions(transitions, path, &at);
            on.put(&name, transitions);
        }
        map.put("on", on.into_some());
        let mut after = Entries::default();
        for (delay, transitions) in &state.after {
            let at = below(&below(at, "after"), &delay.value.to_string());
            let transitions = self.transitions(transitions, path, &at);
            after.put(&delay.value.as_millis().to_string(), transitions);
        }
        map.put("after", after.into_some());
        map.put("always", self.transitions(&state.always, path, &below(at, "always")));
        if let Some((_, transitions)) = &state.on_done {
            map.put("onDone", self.transitions(transitions, path, &below(at, "on_done")));
        }
    }

    /// XState prefers what names an event to a wildcard, and longer wildcards to shorter ones, however it is written.
    fn check_order(
        &mut self,
        before: &[(Placed<String>, Vec<TransitionDefinition>)],
        event: &Placed<String>,
        at: &str,
    ) {
        let rank = |name: &str| if name.ends_with('*') { name.len() } else { usize::MAX };
        let covers = |wildcard: &str| {
            wildcard
                .strip_suffix('*')
                .is_some_and(|prefix| event.value.starts_with(prefix.trim_end_matches('.')))
        };
        let overtaken = before.iter().find(|(b, _)| covers(&b.value) && rank(&b.value) < rank(&event.value));
        if let Some((overtaken, _)) = overtaken {
            self.note(
                at,
                format!("XState tries this before `{}`, though that is written first", overtaken.value),
            );
        }
    }

    /// The name of an event that is listened to.
    fn event(&mut self, event: &str, at: &str) -> String {
        let machine = &self.definition.machine.value;
        if event == "*" {
            self.note(
                at,
                "`*` of XState takes events that come of themselves too, such as that a state is done",
            );
        }
        if event == EXPRESSION_ERROR {
            self.note(at, "no expression of XState raises this event: it reports errors outside the machine");
            return format!("xstate.{event}");
        }
        for (ours, theirs) in
            [(CALL_DONE_PREFIX, "xstate.done.actor."), (CALL_ERROR_PREFIX, "xstate.error.actor.")]
        {
            if let Some(id) = event.strip_prefix(ours) {
                return format!("{theirs}{id}");
            }
        }
        match event.strip_prefix(DONE_PREFIX) {
            Some("*") => "xstate.done.state.*".to_owned(),
            Some(path) => format!("xstate.done.state.{machine}.{path}"),
            None if matches!(event, "done.*" | "error.*") => format!("xstate.{event}"),
            None => event.to_owned(),
        }
    }

    fn transitions(&mut self, written: &[TransitionDefinition], source: &str, at: &str) -> Json {
        let several = written.len() > 1;
        let numbered = written.iter().enumerate();
        let transitions: Vec<Json> = numbered
            .map(|(number, transition)| {
                let at = if several { below(at, &number.to_string()) } else { at.to_owned() };
                self.transition(transition, source, &at)
            })
            .collect();
        one_or_many(transitions).unwrap_or(Json::List(Vec::new()))
    }

    fn transition(&mut self, written: &TransitionDefinition, source: &str, at: &str) -> Json {
        let mut transition = Entries::default();
        let found = written.target.iter().filter_map(|target| self.resolve(source, &target.value));
        let targets = found.map(|target| Json::text(self.target(source, &target))).collect();
        transition.put("target", one_or_many(targets));
        if let Some(guard) = &written.guard {
            let what = "supply this guard: it gets a CEL expression as `params.expression`";
            self.wanted.note(GUARD_TYPE, what, &below(at, "guard"));
            let mut params = Entries::default();
            params.put("expression", Json::text(&guard.value));
            let mut typed = Entries::default();
            typed.put("type", Json::text(GUARD_TYPE));
            typed.put("params", params.into_json());
            transition.put("guard", typed.into_json());
        }
        transition.put("actions", self.actions(&written.actions, at));
        transition.put("reenter", written.reenter.then_some(Json::Bool(true)));
        transition.put("description", self.description(written.place));
        let mut extra = Entries::default();
        extra.put("reason", written.reason.as_deref().map(Json::text));
        if written.reason.is_some() {
            self.note(
                &below(at, "reason"),
                "XState has no closure reasons: it travels in `meta.statewright`",
            );
        }
        extra.put("loop", written.loop_normal.then(|| Json::text("normal")));
        self.put_held("ensures", &written.ensures, at, &mut extra);
        if let Some(extra) = extra.into_some() {
            transition.put("meta", Json::Map(vec![(EXTRA_KEY.to_owned(), extra)]));
        }
        transition.into_json()
    }

    /// The path of the state that a target of `source` means here.
    fn resolve(&self, source: &str, target: &str) -> Option<String> {
        if let Some(child) = target.strip_prefix('.') {
            return Some(joined(source, child)).filter(|path| self.paths.contains(path));
        }
        let mut scope = source;
        loop {
            scope = scope.rsplit_once('.').map_or("", |(above, _)| above);
            let path = joined(scope, target);
            if self.paths.contains(&path) {
                return Some(path);
            }
            if scope.is_empty() {
                return None;
            }
        }
    }

    /// How XState names a state as a target of `source`: a sibling by its key, what is below with a dot before it,
    /// and anything else by its id.
    fn target(&self, source: &str, target: &str) -> String {
        let below = if source.is_empty() {
            Some(target)
        } else {
            target.strip_prefix(source).and_then(|t| t.strip_prefix('.'))
        };
        if let Some(below) = below {
            return format!(".{below}");
        }
        let parent =
            |path: &str| path.rsplit_once('.').map_or(String::new(), |(parent, _)| parent.to_owned());
        match parent(source) == parent(target) {
            true => target.rsplit('.').next().unwrap_or(target).to_owned(),
            false => format!("#{}.{target}", self.definition.machine.value),
        }
    }
}

fn begins(place: Place) -> (u32, u32) {
    (place.line, place.column)
}

fn joined(above: &str, name: &str) -> String {
    if above.is_empty() { name.to_owned() } else { format!("{above}.{name}") }
}

fn one_or_many(mut items: Vec<Json>) -> Option<Json> {
    match items.len() {
        0 | 1 => items.pop(),
        _ => Some(Json::List(items)),
    }
}

fn milliseconds(delay: Delay) -> Json {
    Json::Number(delay.as_millis().into())
}

fn entry<'n>(node: &'n Node, key: &str) -> Option<&'n Node> {
    match &node.kind {
        NodeKind::Map(entries) => entries.iter().find(|(k, _)| k.value == key).map(|(_, node)| node),
        _ => None,
    }
}

/// What stands in the text, in its order.
fn json_of(node: &Node) -> Json {
    match &node.kind {
        NodeKind::List(items) => Json::List(items.iter().map(json_of).collect()),
        NodeKind::Map(entries) => {
            Json::Map(entries.iter().map(|(key, node)| (key.value.clone(), json_of(node))).collect())
        }
        _ => Json::from(&node.to_json()),
    }
}
