//! Actions and values: built-in actions of XState where it has them, `statewright.…` where it has not.
//!
//! A config that is JSON can only name its actions, so each of these has to be supplied under its name. Parameters
//! stand in `params`, expressions as XState 6 writes them: `{ "@expr": …, "@lang": "cel" }`.

use crate::definition::{ActionDefinition, DelayDefinition, Placed, RaiseDefinition, ValueDefinition};
use crate::expression::{Expression, Names};
use crate::xstate::export::{Entries, Exporter, milliseconds};
use crate::xstate::json::Json;
use crate::xstate::{EXPRESSION_LANGUAGE, below};

/// What an item of `for_each` is called unless something else is said.
const ITEM: &str = "item";

impl Exporter<'_> {
    pub(super) fn actions(&mut self, written: &[ActionDefinition], at: &str) -> Json {
        let mut actions = Vec::new();
        let mut rest = written;
        while let Some((first, others)) = rest.split_first() {
            let taken = assignments(rest);
            if taken > 0 {
                actions.push(self.assign(&rest[..taken], at));
                rest = &rest[taken..];
            } else {
                actions.push(self.action(first, at));
                rest = others;
            }
        }
        Json::List(actions)
    }

    fn assign(&mut self, written: &[ActionDefinition], at: &str) -> Json {
        let mut fields = Entries::default();
        for action in written {
            if let ActionDefinition::Assign { field, value } = action {
                fields.0.push((field.value.clone(), self.value(value, &below(at, "assign"))));
            }
        }
        let what =
            "supply this action: it assigns the values in `params.assignment`, evaluating the expressions";
        self.wanted.note("xstate.assign", what, at);
        typed("xstate.assign", vec![("assignment", fields.into_json())])
    }

    fn action(&mut self, written: &ActionDefinition, at: &str) -> Json {
        match written {
            ActionDefinition::Assign { .. } => self.assign(std::slice::from_ref(written), at),
            ActionDefinition::Reply { name } => {
                self.wanted.note("statewright.reply", "XState has no replies; this names one", at);
                typed("statewright.reply", vec![("name", Json::text(&name.value))])
            }
            ActionDefinition::Raise(raise) => self.raise(raise, at),
            ActionDefinition::Cancel { id } => {
                let what = "supply this action: it cancels the delayed event `params.sendId`";
                self.wanted.note("xstate.cancel", what, at);
                typed("xstate.cancel", vec![("sendId", Json::text(&id.value))])
            }
            ActionDefinition::If { condition, then, otherwise } => {
                let what = "supply this action: it runs `params.then` if the expression `params.if` is true, else `params.else`";
                self.wanted.note("statewright.if", what, at);
                let mut params = vec![("if", Json::text(&condition.value)), ("then", self.actions(then, at))];
                if !otherwise.is_empty() {
                    params.push(("else", self.actions(otherwise, at)));
                }
                typed("statewright.if", params)
            }
            ActionDefinition::ForEach { list, item, body } => {
                let what = "supply this action: it runs `params.do` for each item of the expression `params.for_each`";
                self.wanted.note("statewright.for_each", what, at);
                let mut params = vec![("for_each", Json::text(&list.value))];
                if item != ITEM {
                    params.push(("as", Json::text(item)));
                }
                params.push(("do", self.actions(body, at)));
                typed("statewright.for_each", params)
            }
        }
    }

    fn raise(&mut self, written: &RaiseDefinition, at: &str) -> Json {
        let what =
            "supply this action: it raises `params.event`, after `params.delay` milliseconds if there is one";
        self.wanted.note("xstate.raise", what, at);
        let mut event = Entries::default();
        event.0.push(("type".to_owned(), Json::text(&written.event.value)));
        for (name, value) in &written.data {
            if name.value == "type" {
                self.note(at, "`type` is the event itself in XState: this value was left out");
            } else {
                let value = self.value(value, at);
                event.0.push((name.value.clone(), value));
            }
        }
        let mut params = vec![("event", event.into_json())];
        match &written.delay {
            None => {}
            Some(delay) => {
                let delay = match delay {
                    DelayDefinition::Fixed(delay) => milliseconds(*delay),
                    DelayDefinition::Expression(source) => expression(&source.value),
                };
                params.push(("delay", delay));
                params.push(("id", Json::text(written.timer_id())));
            }
        }
        typed("xstate.raise", params)
    }

    pub(super) fn values(&mut self, written: &[(Placed<String>, ValueDefinition)], at: &str) -> Option<Json> {
        let mut values = Entries::default();
        for (name, value) in written {
            let value = self.value(value, &below(at, &name.value));
            values.0.push((name.value.clone(), value));
        }
        values.into_some()
    }

    fn value(&mut self, written: &ValueDefinition, at: &str) -> Json {
        match written {
            ValueDefinition::Expression(source) => expression(&source.value),
            ValueDefinition::Literal(value) => {
                if value.get("@expr").is_some() || value.get("@code").is_some() {
                    self.note(
                        at,
                        "this value is taken for an expression in XState, as it has a key `@expr` or `@code`",
                    );
                }
                Json::from(value)
            }
        }
    }
}

/// How many of the actions at the beginning are assignments that XState can do at once: there, none sees another.
fn assignments(written: &[ActionDefinition]) -> usize {
    let mut assigned: Vec<&str> = Vec::new();
    for action in written {
        let ActionDefinition::Assign { field, value } = action else {
            break;
        };
        let sees = match value {
            ValueDefinition::Expression(source) => Expression::compile(&source.value, &Names::default())
                .map_or(true, |expression| {
                    let read = &expression.reads().context;
                    read.whole || assigned.iter().any(|name| read.names.iter().any(|read| read == name))
                }),
            ValueDefinition::Literal(_) => false,
        };
        if assigned.contains(&field.value.as_str()) || (sees && !assigned.is_empty()) {
            break;
        }
        assigned.push(&field.value);
    }
    assigned.len()
}

fn typed(kind: &str, params: Vec<(&str, Json)>) -> Json {
    let params = params.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    Json::Map(vec![("type".to_owned(), Json::text(kind)), ("params".to_owned(), Json::Map(params))])
}

fn expression(source: &str) -> Json {
    let entry = |key: &str, value: &str| (key.to_owned(), Json::text(value));
    Json::Map(vec![entry("@expr", source), entry("@lang", EXPRESSION_LANGUAGE)])
}
