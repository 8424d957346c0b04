//! From a document tree to a `Definition`: keys, types and shapes. Names are resolved later, by `compile`.

mod actions;
mod invariants;
mod migrations;

use serde_json::Value;

use crate::conversation::definition::read_conversation;
use crate::definition::document::{Node, NodeKind, Placed};
use crate::definition::read::actions::{ACTION_KEYS, read_actions, read_inline};
use crate::definition::read::invariants::read_invariants;
use crate::definition::read::migrations::{FLOW_MIGRATION_KEYS, MIGRATION_KEYS, read_migrations};
use crate::definition::reader::{Entries, Reader};
use crate::definition::{
    Accept, AcceptKind, Definition, FieldDefinition, FieldKind, InitialDefinition, InvokeDefinition,
    StateDefinition, StateKind, TransitionDefinition,
};
use crate::diagnostic::{Diagnostic, Place, shorten};
use crate::flow::{FLOW_KEYS, read_flow};
use crate::id::OWN_MACHINE_PREFIX;

pub(crate) use actions::{ITEM, read_values};

/// Deeper nesting than any chart that a person could draw; reading and stepping recurse over it.
const STATE_DEPTH_MAX: usize = 32;

const ROOT_KEYS: [&str; 18] = [
    "machine",
    "version",
    "description",
    "context",
    "events",
    "initial",
    "type",
    "safe_state",
    "on",
    "after",
    "always",
    "invoke",
    "entry",
    "exit",
    "invariants",
    "states",
    "conversation",
    "migrations",
];
const STATE_KEYS: [&str; 20] = [
    "type",
    "initial",
    "states",
    "on",
    "after",
    "always",
    "on_done",
    "invoke",
    "entry",
    "exit",
    "invariants",
    "accepts",
    "history",
    "target",
    "actions",
    "reason",
    "output",
    "description",
    "meta",
    "tags",
];
/// Beside `ACTION_KEYS`.
const TRANSITION_KEYS: [&str; 8] =
    ["target", "guard", "actions", "ensures", "reenter", "reason", "loop", "description"];
/// Beside `ACTION_KEYS`.
const INITIAL_KEYS: [&str; 2] = ["target", "actions"];
const INVOKE_KEYS: [&str; 7] = ["id", "src", "input", "timeout", "on_done", "on_error", "description"];
const FIELD_KEYS: [&str; 8] =
    ["type", "items", "nullable", "required", "keep", "secret", "default", "description"];

const FIELD_KINDS: [(&str, FieldKind); 7] = [
    named(FieldKind::String),
    named(FieldKind::Integer),
    named(FieldKind::Number),
    named(FieldKind::Boolean),
    named(FieldKind::Array),
    named(FieldKind::Object),
    named(FieldKind::Any),
];

const fn named(kind: FieldKind) -> (&'static str, FieldKind) {
    (kind.as_str(), kind)
}

const STATE_KINDS: [(&str, StateKind); 5] = [
    ("parallel", StateKind::Parallel),
    ("final", StateKind::Final),
    ("history", StateKind::ShallowHistory),
    ("atomic", StateKind::Normal),
    ("compound", StateKind::Normal),
];
const HISTORY_DEPTHS: [(&str, StateKind); 2] =
    [("shallow", StateKind::ShallowHistory), ("deep", StateKind::DeepHistory)];
const LOOPS: [(&str, bool); 2] = [("normal", true), ("report", false)];
const ACCEPT_KINDS: [(&str, AcceptKind); 4] = [
    ("text", AcceptKind::Text),
    ("number", AcceptKind::Number),
    ("choice", AcceptKind::Choice),
    ("media", AcceptKind::Media),
];

/// `None` when there is too little to go on: no map. A machine without a good name has an empty one.
pub(crate) fn read(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<Definition> {
    let mut reader = Reader { diagnostics };
    if is_flow(node) {
        return read_flow_definition(&mut reader, node);
    }
    let top = reader.entries(node, "a definition", &ROOT_KEYS)?;
    let machine = match top.get("machine") {
        Some(name) => reader.text(name, "`machine`").filter(|name| {
            // Whether the prefix of our own machines may be there is for `load` to say.
            let plain = name.value.strip_prefix(OWN_MACHINE_PREFIX).unwrap_or(&name.value).to_owned();
            reader.name(&Placed { value: plain, place: name.place }, "a machine")
        }),
        None => {
            let message = "the definition has no `machine`".to_owned();
            reader.error("missing_key", top.place, message, "name it: `machine: my_machine`");
            None
        }
    };
    let version = top.get("version").and_then(|v| reader.integer(v, "`version`", 1, 1_000_000));
    let context = top.get("context").map(|c| read_context(&mut reader, c)).unwrap_or_default();
    let safe_state = top.get("safe_state").and_then(|s| reader.text(s, "`safe_state`"));
    let events = top.get("events").map(|e| reader.texts(e, "`events`")).unwrap_or_default();
    let name = Placed { value: String::new(), place: top.place };
    let root = read_state_entries(&mut reader, name, &top, 0);
    if root.states.is_empty() {
        let message = "the definition has no `states`".to_owned();
        reader.error("missing_key", top.place, message, "list them: `states: { idle: {}, … }`");
    }
    let conversation = top.get("conversation").and_then(|c| read_conversation(&mut reader, c));
    let migrations = top.get("migrations").map(|m| read_migrations(&mut reader, m, &MIGRATION_KEYS));
    Some(Definition {
        machine: machine.unwrap_or_else(|| root.name.clone()),
        version: version.and_then(|v| u32::try_from(v).ok()).unwrap_or(1),
        context,
        safe_state,
        events,
        root,
        conversation,
        flow: None,
        migrations: migrations.unwrap_or_default(),
    })
}

/// A definition that says `flow` where others say `machine`, or that says neither and has phases.
fn is_flow(node: &Node) -> bool {
    let NodeKind::Map(entries) = &node.kind else { return false };
    let says = |wanted: &str| entries.iter().any(|(key, _)| key.value == wanted);
    says("flow") || (says("phases") && !says("machine"))
}

fn read_flow_definition(reader: &mut Reader<'_>, node: &Node) -> Option<Definition> {
    // That a flow is no machine is said once, in words of its own.
    let both =
        matches!(&node.kind, NodeKind::Map(entries) if entries.iter().any(|(key, _)| key.value == "machine"));
    let keys: Vec<&str> = FLOW_KEYS.into_iter().chain(both.then_some("machine")).collect();
    let top = reader.entries(node, "a flow", &keys)?;
    if let Some(machine) = top.get("machine") {
        let message = "a definition is a `machine` or a `flow`, and this says both".to_owned();
        reader.error(
            "bad_value",
            machine.place,
            message,
            "keep one of them: a `flow` has phases, a `machine` states",
        );
    }
    let name = match top.get("flow") {
        Some(name) => reader.text(name, "`flow`").filter(|name| reader.name(name, "a flow")),
        None => {
            let message = "the definition has phases, and no `flow`".to_owned();
            reader.error("missing_key", top.place, message, "name it: `flow: my_flow`");
            None
        }
    };
    let version = top.get("version").and_then(|v| reader.integer(v, "`version`", 1, 1_000_000));
    let context = top.get("context").map(|c| read_context(reader, c)).unwrap_or_default();
    let flow = read_flow(reader, &top);
    let migrations = top.get("migrations").map(|m| read_migrations(reader, m, &FLOW_MIGRATION_KEYS));
    let nameless = Placed { value: String::new(), place: top.place };
    let mut root = StateDefinition::empty(nameless.clone());
    root.states = flow.statuses();
    root.initial = root.states.first().map(|first| InitialDefinition {
        place: top.place,
        targets: vec![first.name.clone()],
        actions: Vec::new(),
    });
    Some(Definition {
        machine: name.unwrap_or(nameless),
        version: version.and_then(|v| u32::try_from(v).ok()).unwrap_or(1),
        context,
        safe_state: None,
        events: Vec::new(),
        root,
        conversation: None,
        flow: Some(flow),
        migrations: migrations.unwrap_or_default(),
    })
}

fn read_context(reader: &mut Reader<'_>, node: &Node) -> Vec<FieldDefinition> {
    let Some(fields) = reader.named(node, "`context`") else {
        return Vec::new();
    };
    fields.iter().map(|(name, field)| read_field(reader, name, field)).collect()
}

/// A field that is described badly is still declared, of any type: what uses it is not wrong for that.
fn read_field(reader: &mut Reader<'_>, name: &Placed<String>, node: &Node) -> FieldDefinition {
    reader.name(name, "a context field");
    let what = format!("the field `{}`", name.value);
    let Some(entries) = reader.entries(node, &what, &FIELD_KEYS) else {
        return FieldDefinition::of_any_type(name);
    };
    let kind = entries.get("type").and_then(|kind| reader.choice(kind, "the type of a field", &FIELD_KINDS));
    let kind = kind.unwrap_or(FieldKind::Any);
    let items = entries.get("items").and_then(|i| reader.choice(i, "`items`", &FIELD_KINDS));
    let mut flag = |key: &str| entries.get(key).and_then(|f| reader.boolean(f, key)).unwrap_or(false);
    let (nullable, required, keep) = (flag("nullable"), flag("required"), flag("keep"));
    let secret = flag("secret");
    let default = entries.get("default").map(|node| Placed { value: node.to_json(), place: node.place });
    let field =
        FieldDefinition { name: name.clone(), kind, items, nullable, required, keep, secret, default };
    let Some(Placed { value, place }) = &field.default else { return field };
    if field.secret && !value.is_null() {
        reader.error(
            "bad_value",
            *place,
            format!(
                "the secret field `{}` has a default, which anybody who sees the definition can read",
                name.value
            ),
            "drop the default; give the value when the instance is created, or with an event",
        );
    } else if let Err(message) = field.accepts(value) {
        reader.error(
            "bad_value",
            *place,
            format!("the default of `{}` {message}", name.value),
            "write a value of the field's type",
        );
    }
    field
}

impl FieldDefinition {
    fn of_any_type(name: &Placed<String>) -> Self {
        let (nullable, required, keep, secret) = (false, false, false, false);
        let name = name.clone();
        Self { name, kind: FieldKind::Any, items: None, nullable, required, keep, secret, default: None }
    }

    /// Whether a value may stand in this field; an absent field is null.
    ///
    /// # Errors
    /// A fragment such as "must be text, not 5".
    pub fn accepts(&self, value: &Value) -> Result<(), String> {
        if value.is_null() {
            let allowed = self.nullable || self.kind == FieldKind::Any;
            return if allowed { Ok(()) } else { Err(format!("must be {}, not null", self.kind.noun())) };
        }
        if !self.kind.holds(value) {
            return Err(match self.secret {
                true => format!("must be {}", self.kind.noun()),
                false => format!("must be {}, not {value}", self.kind.noun()),
            });
        }
        let (Some(kind), Value::Array(items)) = (self.items, value) else {
            return Ok(());
        };
        match items.iter().position(|item| !kind.holds(item)) {
            Some(at) if self.secret => Err(format!("has something at [{at}] that must be {}", kind.noun())),
            Some(at) => Err(format!("has {} at [{at}], which must be {}", items[at], kind.noun())),
            None => Ok(()),
        }
    }
}

impl FieldKind {
    pub fn noun(self) -> &'static str {
        match self {
            Self::String => "text",
            Self::Integer => "a whole number",
            Self::Number => "a number",
            Self::Boolean => "true or false",
            Self::Array => "a list",
            Self::Object => "an object",
            Self::Any => "anything",
        }
    }

    fn holds(self, value: &Value) -> bool {
        match self {
            Self::String => value.is_string(),
            Self::Integer => value.as_i64().is_some(),
            Self::Number => value.is_number(),
            Self::Boolean => value.is_boolean(),
            Self::Array => value.is_array(),
            Self::Object => value.is_object(),
            Self::Any => true,
        }
    }
}

fn read_state(reader: &mut Reader<'_>, name: &Placed<String>, node: &Node, depth: usize) -> StateDefinition {
    let mut name = name.clone();
    if !reader.name(&name, "a state") {
        // Paths are made of names: one that goes on for pages would be written again and again.
        name.value = shorten(&name.value);
    }
    let what = format!("the state `{}`", name.value);
    match reader.entries(node, &what, &STATE_KEYS) {
        Some(entries) => read_state_entries(reader, name, &entries, depth),
        None => StateDefinition::empty(name),
    }
}

fn read_state_entries(
    reader: &mut Reader<'_>,
    name: Placed<String>,
    entries: &Entries<'_>,
    depth: usize,
) -> StateDefinition {
    let mut state = StateDefinition::empty(name);
    state.kind = read_kind(reader, entries);
    state.initial = entries.get("initial").and_then(|i| read_initial(reader, i));
    if let Some(children) = entries.get("states") {
        state.states = read_states(reader, children, depth + 1);
    }
    if let Some(on) = entries.get("on").and_then(|on| reader.named(on, "`on`")) {
        state.on = on.iter().map(|(event, t)| (event.clone(), read_transitions(reader, t))).collect();
    }
    if let Some(after) = entries.get("after").and_then(|a| reader.named(a, "`after`")) {
        for (delay, transitions) in after.iter() {
            let transitions = read_transitions(reader, transitions);
            if let Some(value) = reader.positive_delay(delay, "`after`") {
                state.after.push((Placed { value, place: delay.place }, transitions));
            }
        }
    }
    state.always = entries.get("always").map(|a| read_transitions(reader, a)).unwrap_or_default();
    state.on_done = entries.get("on_done").map(|done| (done.place, read_transitions(reader, done)));
    if let Some(invoke) = entries.get("invoke") {
        let calls = reader.one_or_many(invoke);
        state.invoke = calls.into_iter().filter_map(|call| read_invoke(reader, call)).collect();
    }
    state.entry = entries.get("entry").map(|e| read_actions(reader, e)).unwrap_or_default();
    state.exit = entries.get("exit").map(|e| read_actions(reader, e)).unwrap_or_default();
    if let Some(invariants) = entries.get("invariants") {
        state.invariants = read_invariants(reader, invariants, "`invariants`");
    }
    state.accepts = entries.get("accepts").map(|a| read_accepts(reader, a)).unwrap_or_default();
    state.default_target = entries.get("target").map(|t| reader.texts(t, "`target`")).unwrap_or_default();
    state.default_actions = entries.get("actions").map(|a| read_actions(reader, a)).unwrap_or_default();
    state.reason = entries.get("reason").and_then(|r| reader.text(r, "`reason`")).map(|reason| reason.value);
    state.output = entries.get("output").map(|o| read_values(reader, o, "`output`")).unwrap_or_default();
    state
}

/// `state`, a list of states, or `{ target: …, actions: … }`.
fn read_initial(reader: &mut Reader<'_>, node: &Node) -> Option<InitialDefinition> {
    let place = node.place;
    if !matches!(node.kind, NodeKind::Map(_)) {
        let targets = reader.texts(node, "`initial`");
        return (!targets.is_empty()).then_some(InitialDefinition { place, targets, actions: Vec::new() });
    }
    let keys: Vec<&str> = INITIAL_KEYS.into_iter().chain(ACTION_KEYS).collect();
    let entries = reader.entries(node, "`initial`", &keys)?;
    let targets = entries.get("target").map(|t| reader.texts(t, "`target`")).unwrap_or_default();
    let mut actions = read_inline(reader, entries.iter());
    actions.extend(entries.get("actions").map(|a| read_actions(reader, a)).unwrap_or_default());
    if targets.is_empty() {
        let message = "`initial` has no `target`".to_owned();
        reader.error("missing_key", place, message, "say where it begins: `initial: { target: … }`");
        return None;
    }
    Some(InitialDefinition { place, targets, actions })
}

fn read_invoke(reader: &mut Reader<'_>, node: &Node) -> Option<InvokeDefinition> {
    let entries = reader.entries(node, "a call", &INVOKE_KEYS)?;
    let Some(src) = entries.get("src") else {
        let message = "the call has no `src`".to_owned();
        reader.error("missing_key", node.place, message, "say what is called: `src: payments.charge`");
        return None;
    };
    let src = reader.text(src, "`src`")?;
    let id = entries.get("id").and_then(|id| reader.text(id, "`id`"));
    let timeout = entries.get("timeout").and_then(|t| reader.text(t, "`timeout`"));
    let transitions = |reader: &mut Reader<'_>, key: &str| {
        entries.get(key).map(|t| read_transitions(reader, t)).unwrap_or_default()
    };
    Some(InvokeDefinition {
        place: node.place,
        id: id.filter(|id| reader.name(id, "a call")),
        src,
        input: entries.get("input").map(|i| read_values(reader, i, "`input`")).unwrap_or_default(),
        timeout: timeout.and_then(|t| reader.positive_delay(&t, "`timeout`")),
        on_done: transitions(reader, "on_done"),
        on_error: transitions(reader, "on_error"),
    })
}

fn read_kind(reader: &mut Reader<'_>, entries: &Entries<'_>) -> StateKind {
    let kind = entries.get("type").and_then(|t| reader.choice(t, "the type of a state", &STATE_KINDS));
    let history = entries.get("history").and_then(|h| reader.choice(h, "`history`", &HISTORY_DEPTHS));
    match (kind.unwrap_or(StateKind::Normal), history) {
        (StateKind::ShallowHistory, Some(depth)) => depth,
        (kind, Some(_)) => {
            let place = entries.get("history").map_or(entries.place, |h| h.place);
            let message = "`history` stands on a state that is no history state".to_owned();
            reader.error("bad_value", place, message, "add `type: history`, or drop `history`");
            kind
        }
        (kind, None) => kind,
    }
}

fn read_states(reader: &mut Reader<'_>, node: &Node, depth: usize) -> Vec<StateDefinition> {
    if depth > STATE_DEPTH_MAX {
        let message = format!("states are nested deeper than {STATE_DEPTH_MAX} levels");
        reader.error("too_deep", node.place, message, "flatten the machine, or split it in two");
        return Vec::new();
    }
    let Some(states) = reader.named(node, "`states`") else {
        return Vec::new();
    };
    states.iter().map(|(name, state)| read_state(reader, name, state, depth)).collect()
}

/// `target`, `{ target: …, guard: … }`, or a list of such.
fn read_transitions(reader: &mut Reader<'_>, node: &Node) -> Vec<TransitionDefinition> {
    let items = reader.one_or_many(node);
    items.into_iter().filter_map(|item| read_transition(reader, item)).collect()
}

fn read_transition(reader: &mut Reader<'_>, node: &Node) -> Option<TransitionDefinition> {
    let mut transition = TransitionDefinition::to(node.place, Vec::new());
    if let NodeKind::Text(target) = &node.kind {
        transition.target.push(Placed { value: target.clone(), place: node.place });
        return Some(transition);
    }
    if !matches!(node.kind, NodeKind::Map(_)) {
        reader.wrong_type(node, "a transition", "a target or a map");
        return None;
    }
    let keys: Vec<&str> = TRANSITION_KEYS.into_iter().chain(ACTION_KEYS).collect();
    let entries = reader.entries(node, "a transition", &keys)?;
    transition.target = entries.get("target").map(|t| reader.texts(t, "`target`")).unwrap_or_default();
    transition.guard = entries.get("guard").and_then(|g| reader.text(g, "`guard`"));
    transition.actions = read_inline(reader, entries.iter());
    if let Some(actions) = entries.get("actions") {
        transition.actions.extend(read_actions(reader, actions));
    }
    if let Some(ensures) = entries.get("ensures") {
        transition.ensures = read_invariants(reader, ensures, "`ensures`");
    }
    transition.reenter = entries.get("reenter").and_then(|r| reader.boolean(r, "`reenter`")).unwrap_or(false);
    transition.reason =
        entries.get("reason").and_then(|r| reader.text(r, "`reason`")).map(|reason| reason.value);
    transition.loop_normal =
        entries.get("loop").and_then(|l| reader.choice(l, "`loop`", &LOOPS)).unwrap_or(false);
    Some(transition)
}

/// `[text, media]`, or `{ text: event, media: event }`.
fn read_accepts(reader: &mut Reader<'_>, node: &Node) -> Vec<Accept> {
    if let NodeKind::Map(entries) = &node.kind {
        let mut accepts = Vec::new();
        for (key, event) in entries {
            let word = Node { kind: NodeKind::Text(key.value.clone()), place: key.place };
            let kind = reader.choice(&word, "what a state accepts", &ACCEPT_KINDS);
            let event = reader.text(event, "the event of an accepted input");
            if let (Some(kind), Some(event)) = (kind, event) {
                let kind = Placed { value: kind, place: key.place };
                accepts.push(Accept { kind, event: Some(event) });
            }
        }
        return accepts;
    }
    let items = reader.one_or_many(node);
    let accept = |item: &Node| {
        let kind = reader.choice(item, "what a state accepts", &ACCEPT_KINDS)?;
        Some(Accept { kind: Placed { value: kind, place: item.place }, event: None })
    };
    items.into_iter().filter_map(accept).collect()
}

impl StateDefinition {
    pub(crate) fn empty(name: Placed<String>) -> Self {
        Self {
            name,
            kind: StateKind::Normal,
            initial: None,
            states: Vec::new(),
            on: Vec::new(),
            after: Vec::new(),
            always: Vec::new(),
            on_done: None,
            invoke: Vec::new(),
            entry: Vec::new(),
            exit: Vec::new(),
            invariants: Vec::new(),
            accepts: Vec::new(),
            default_target: Vec::new(),
            default_actions: Vec::new(),
            reason: None,
            output: Vec::new(),
        }
    }
}

impl TransitionDefinition {
    fn to(place: Place, target: Vec<Placed<String>>) -> Self {
        Self {
            place,
            target,
            guard: None,
            actions: Vec::new(),
            ensures: Vec::new(),
            reenter: false,
            reason: None,
            loop_normal: false,
        }
    }
}

/// Which keys may stand at which place of the schema.
#[cfg(test)]
pub(super) fn keys_by_place() -> Vec<(&'static str, Vec<&'static str>)> {
    use crate::definition::schema::words;
    let with_actions = |keys: &[&'static str]| [keys, &ACTION_KEYS].concat();
    vec![
        ("/$defs/machine", ROOT_KEYS.to_vec()),
        ("/$defs/state", STATE_KEYS.to_vec()),
        ("/$defs/initial", with_actions(&INITIAL_KEYS)),
        ("/$defs/transition", with_actions(&TRANSITION_KEYS)),
        ("/$defs/invoke", INVOKE_KEYS.to_vec()),
        ("/$defs/invariant/anyOf/1", invariants::INVARIANT_KEYS.to_vec()),
        ("/$defs/field", FIELD_KEYS.to_vec()),
        ("/$defs/migration", MIGRATION_KEYS.to_vec()),
        ("/$defs/flow_migration", FLOW_MIGRATION_KEYS.to_vec()),
        ("/$defs/otherwise/anyOf/1", migrations::OTHERWISE_KEYS.to_vec()),
        ("/$defs/action", ACTION_KEYS.to_vec()),
        ("/$defs/raised/anyOf/1", actions::RAISE_KEYS.to_vec()),
        ("/$defs/accepts/anyOf/2", words(&ACCEPT_KINDS)),
    ]
}

/// Which words may stand at which place of the schema.
#[cfg(test)]
pub(super) fn words_by_place() -> Vec<(&'static str, Vec<&'static str>)> {
    use crate::definition::schema::words;
    vec![
        ("/$defs/field_type", words(&FIELD_KINDS)),
        ("/$defs/state/properties/type", words(&STATE_KINDS)),
        ("/$defs/state/properties/history", words(&HISTORY_DEPTHS)),
        ("/$defs/transition/properties/loop", words(&LOOPS)),
        ("/$defs/accepted", words(&ACCEPT_KINDS)),
    ]
}
