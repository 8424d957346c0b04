//! Actions: those that XState builds in, and those that an export wrote. Any other is code.

use std::collections::BTreeSet;

use crate::diagnostic::shorten;
use crate::xstate::import::{Importer, is_nothing};
use crate::xstate::json::Json;
use crate::xstate::names::{legal_event, legal_name};
use crate::xstate::yaml::{Map, Yaml};
use crate::xstate::{ACTION_PREFIX, below};

/// Named actions of version 6 may name others.
const REFERENCES_MAX: usize = 16;
/// How long an expression may be, with some room for quotes.
const LITERAL_BYTES_MAX: usize = 1_900;

/// The ids of delayed events. One may be cancelled before the action that sets it has been read.
#[derive(Debug, Default)]
pub(super) struct Timers {
    set: BTreeSet<String>,
    cancelled: BTreeSet<String>,
    /// All that is set is known.
    settled: bool,
}

impl Timers {
    /// Whether something is cancelled that nothing sets, so that the cancelling has to be left out.
    pub fn settle(&mut self) -> bool {
        let unknown = !self.settled && !self.cancelled.is_subset(&self.set);
        self.settled = true;
        unknown
    }
}

impl Importer<'_> {
    /// Each action as a map of its own.
    pub(super) fn actions(&mut self, written: &Json, path: &str) -> Vec<Map> {
        self.actions_within(written, path, 0)
    }

    fn actions_within(&mut self, written: &Json, path: &str, references: usize) -> Vec<Map> {
        match written {
            Json::Null => Vec::new(),
            Json::List(items) => items
                .iter()
                .enumerate()
                .flat_map(|(at, item)| self.action(item, &below(path, &at.to_string()), references))
                .collect(),
            one => self.action(one, path, references),
        }
    }

    fn action(&mut self, written: &Json, path: &str, references: usize) -> Vec<Map> {
        let kind = match written {
            Json::Text(name) => name.as_str(),
            Json::Map(_) => written.text_at("type").unwrap_or_default(),
            // `JSON.stringify` drops functions, and in a list leaves this where one was.
            Json::Null => {
                self.remark(
                    path,
                    "an inline function, which JSON does not hold, was left out: write it as assign, reply, raise or invoke",
                );
                return Vec::new();
            }
            other => {
                self.remark(
                    path,
                    format!("an action must be a string or an object, not {}: it was left out", other.noun()),
                );
                return Vec::new();
            }
        };
        let built_in = kind.strip_prefix('@').unwrap_or(kind);
        // What an action takes stands beside its type or, as actions with parameters have it, in `params`.
        let params = written.get("params").filter(|params| params.is_map()).unwrap_or(written);
        match built_in {
            "xstate.assign" => {
                let fields = params.get("assignment").or(params.get("context"));
                let Some(fields) = fields.filter(|fields| fields.is_map()) else {
                    self.remark(
                        path,
                        "an assignment is code that JSON does not hold, and was left out: write it as assign",
                    );
                    return Vec::new();
                };
                self.assign(fields, path).into_iter().collect()
            }
            "xstate.raise" => self.raise(params, path).into_iter().collect(),
            // Version 4 sent to the machine itself what version 5 raises.
            "xstate.send" if ["to", "target"].iter().all(|key| params.get(key).is_none_or(is_nothing)) => {
                self.raise(params, path).into_iter().collect()
            }
            "xstate.cancel" => self.cancel(params, path).into_iter().collect(),
            _ if kind.starts_with(ACTION_PREFIX) => self.own_action(kind, params, path, references),
            _ => self.named_action(kind, written, path, references),
        }
    }

    fn named_action(&mut self, kind: &str, written: &Json, path: &str, references: usize) -> Vec<Map> {
        let definition = self.top.get("actions").and_then(|actions| actions.get(kind));
        if let Some(definition) = definition.filter(|_| references < REFERENCES_MAX) {
            return self.actions_within(definition, path, references + 1);
        }
        let remedy = "was left out: write it as assign, reply, raise or invoke";
        let what = match kind {
            "" if self.is_resolvable(written) => "this action is code and".to_owned(),
            "" => "an action without a type".to_owned(),
            _ if kind.starts_with("xstate.") || kind.starts_with("@xstate.") => {
                format!("the action `{}` has no counterpart here and", shorten(kind))
            }
            _ => format!("the action `{}` is code that JSON does not hold, and", shorten(kind)),
        };
        self.remark(path, format!("{what} {remedy}"));
        Vec::new()
    }

    pub(super) fn assign(&mut self, fields: &Json, path: &str) -> Option<Map> {
        let mut values = Map::default();
        for (field, value) in fields.entries() {
            let at = below(path, field);
            let name = self.field(field, &at);
            self.widen(&name, value, &at);
            values.put_some(&name, self.value(value, &at));
        }
        if values.entries.is_empty() {
            return None;
        }
        let mut map = Map::default();
        map.put("assign", values);
        Some(map)
    }

    fn raise(&mut self, params: &Json, path: &str) -> Option<Map> {
        let event = params.get("event");
        let Some(name) = event.and_then(|event| event.as_text().or(event.text_at("type"))) else {
            self.remark(path, "the event to raise is code that JSON does not hold: the action was left out");
            return None;
        };
        // A serialised machine has its timers as actions; `after` makes them.
        if name.starts_with("xstate.after.") {
            return None;
        }
        if name.starts_with("xstate.") || name.starts_with("@xstate.") {
            self.remark(
                path,
                format!("the event `{}` is XState's own: raising it was left out", shorten(name)),
            );
            return None;
        }
        let name = self.event(name, path);
        let mut data = Map::default();
        for (key, value) in event.map_or(&[][..], Json::entries).iter().filter(|(key, _)| key != "type") {
            let value = self.value(value, &below(path, key));
            data.put_some(key, value);
        }
        let delay = match params.get("delay").filter(|delay| !is_nothing(delay)) {
            None => None,
            Some(written) => {
                match self.delay(written) {
                    Some(delay) => Some(Yaml::text(delay.to_string())),
                    None if written.text_at("@expr").is_some() => self.value(written, path),
                    None => {
                        self.remark(path, format!("the delay of `{name}` is code that JSON does not hold: raising it was left out"));
                        return None;
                    }
                }
            }
        };
        // An event is cancelled by its own name unless it has an id beside it.
        let written = event.and_then(|event| event.as_text().or(event.text_at("type")));
        let id = params.text_at("id").filter(|id| delay.is_some() && Some(*id) != written);
        let id = id.map(|id| self.legal_id(id, path));
        if delay.is_some() {
            self.timers.set.insert(id.clone().unwrap_or_else(|| name.clone()));
        }
        let mut map = Map::default();
        if data.entries.is_empty() && delay.is_none() && id.is_none() {
            map.put("raise", Yaml::text(name));
            return Some(map);
        }
        let mut raise = Map::default();
        raise.put("event", Yaml::text(name));
        if !data.entries.is_empty() {
            raise.put("data", data);
        }
        raise.put_some("delay", delay);
        raise.put_some("id", id.map(Yaml::text));
        map.put("raise", raise);
        Some(map)
    }

    fn cancel(&mut self, params: &Json, path: &str) -> Option<Map> {
        let id = params.text_at("sendId").or(params.text_at("id"));
        let Some(id) = id else {
            self.remark(path, "what to cancel is code that JSON does not hold: the action was left out");
            return None;
        };
        if id.starts_with("xstate.after.") {
            return None;
        }
        let event = legal_event(id);
        let name = if self.timers.set.contains(&event) { event } else { self.legal_id(id, path) };
        if self.timers.settled && !self.timers.set.contains(&name) {
            self.remark(
                path,
                format!("nothing is delayed under the id `{}`: cancelling it was left out", shorten(id)),
            );
            return None;
        }
        self.timers.cancelled.insert(name.clone());
        let mut map = Map::default();
        map.put("cancel", Yaml::text(name));
        Some(map)
    }

    fn legal_id(&mut self, id: &str, path: &str) -> String {
        let name = legal_name(id);
        if name != id {
            self.note(path, format!("`{}` is no id here: it is `{name}`", shorten(id)));
        }
        name
    }

    /// What an export wrote for an action that XState has no word for.
    fn own_action(&mut self, kind: &str, params: &Json, path: &str, references: usize) -> Vec<Map> {
        let mut map = Map::default();
        let inner = |importer: &mut Self, key: &str| {
            let actions = params.get(key).map(|actions| importer.actions_within(actions, path, references));
            actions.and_then(as_value)
        };
        match kind.strip_prefix(ACTION_PREFIX) {
            Some("reply") => match params.get("name") {
                Some(name) if self.has_conversation() => map.put("reply", name),
                _ => self.remark(path, "a reply without a conversation was left out"),
            },
            Some("if") => {
                let (then, otherwise) = (inner(self, "then"), inner(self, "else"));
                if let Some(condition) = params.text_at("if") {
                    map.put("if", Yaml::text(condition));
                    map.put("then", then.unwrap_or(Yaml::List(Vec::new())));
                    map.put_some("else", otherwise);
                }
            }
            Some("for_each") => {
                let item = params.text_at("as").unwrap_or("item");
                self.locals.extend([item.to_owned(), "index".to_owned()]);
                let actions = inner(self, "do");
                self.locals.truncate(self.locals.len() - 2);
                if let Some(list) = params.text_at("for_each") {
                    map.put("for_each", Yaml::text(list));
                    map.put_some("as", params.get("as").map(Yaml::from));
                    map.put("do", actions.unwrap_or(Yaml::List(Vec::new())));
                }
            }
            _ => self.remark(path, format!("the action `{}` is unknown and was left out", shorten(kind))),
        }
        if map.entries.is_empty() { Vec::new() } else { vec![map] }
    }

    fn has_conversation(&self) -> bool {
        super::extra(self.top).is_some_and(|extra| extra.get("conversation").is_some())
    }

    /// Named values, such as a call's input or a final state's output.
    pub(super) fn values(&mut self, written: &Json, path: &str, what: &str) -> Option<Yaml> {
        let mut values = Map::default();
        if written.is_map() && !self.is_resolvable(written) {
            for (key, value) in written.entries() {
                let name = legal_name(key);
                let at = below(path, key);
                if name != *key {
                    self.note(&at, format!("`{}` is no name here: it is called `{name}`", shorten(key)));
                }
                let value = self.value(value, &at);
                values.put_some(&name, value);
            }
        } else if !is_nothing(written)
            && let Some(value) = self.value(written, path)
        {
            self.note(path, format!("{what} has named values here: it is called `value`"));
            values.put("value", value);
        }
        (!values.entries.is_empty()).then(|| values.into())
    }

    /// A value: a text is an expression with us, so one that is meant as a text is quoted once more.
    pub(super) fn value(&mut self, written: &Json, path: &str) -> Option<Yaml> {
        match written {
            Json::Map(_) if self.is_resolvable(written) => match self.expression(written) {
                Ok(expression) => Some(Yaml::text(expression)),
                Err(problem) => {
                    self.remark(path, format!("{problem}: the value was left out"));
                    None
                }
            },
            Json::Text(text) if text.len() > LITERAL_BYTES_MAX => {
                self.remark(path, "a text that is longer than an expression may be was left out");
                None
            }
            Json::Text(text) => Some(Yaml::text(text_literal(text))),
            other => Some(Yaml::from(other)),
        }
    }
}

/// A text as CEL writes it.
fn text_literal(text: &str) -> String {
    if !text.contains(['\'', '\\']) && !text.chars().any(char::is_control) {
        return format!("'{text}'");
    }
    let mut literal = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => literal.extend(['\\', c]),
            '\n' => literal.push_str("\\n"),
            '\r' => literal.push_str("\\r"),
            '\t' => literal.push_str("\\t"),
            c if c.is_control() => literal.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => literal.push(c),
        }
    }
    literal.push('"');
    literal
}

/// Actions as the value of `entry`, `exit`, `then`: one map if it can say all of them in their order.
pub(super) fn as_value(actions: Vec<Map>) -> Option<Yaml> {
    match merged(&actions) {
        Some(map) if map.entries.is_empty() => None,
        Some(map) => Some(map.into()),
        None => Some(Yaml::List(actions.into_iter().map(Yaml::from).collect())),
    }
}

/// Actions as entries of a transition.
pub(super) fn put_actions(map: &mut Map, actions: Vec<Map>) {
    match merged(&actions) {
        Some(mut all) => map.entries.append(&mut all.entries),
        None => map.put("actions", Yaml::List(actions.into_iter().map(Yaml::from).collect())),
    }
}

/// One map of all actions, if no two of them are of one kind. What has parts stands alone.
fn merged(actions: &[Map]) -> Option<Map> {
    let mut all = Map::default();
    for action in actions {
        for (key, value) in &action.entries {
            let alone = matches!(key.as_str(), "if" | "for_each") && actions.len() > 1;
            if alone || all.entries.iter().any(|(there, _)| there == key) {
                return None;
            }
            all.put(key, value.clone());
        }
    }
    Some(all)
}
