//! Actions and calls, from what is written to what runs.

use std::sync::Arc;

use crate::chart::{Action, Call, Computed, FieldIndex, ReplyIndex, StateIndex, Wait};
use crate::definition::compile::{Compiler, Wanted};
use crate::definition::document::Placed;
use crate::definition::{
    ActionDefinition, CALL_DONE_PREFIX, CALL_ERROR_PREFIX, DelayDefinition, InvokeDefinition,
    RaiseDefinition, ValueDefinition,
};
use crate::expression::Type;
use crate::time::Delay;

/// How long a call may take unless the definition says otherwise: nobody waits longer for something to happen.
const CALL_TIMEOUT: Delay = Delay::from_millis(5 * 60_000);
/// What the place of an item in a list is called.
pub(crate) const INDEX: &str = "index";

impl<'a> Compiler<'a, '_> {
    pub(super) fn actions(&mut self, written: &'a [ActionDefinition]) -> Vec<Action> {
        written.iter().filter_map(|action| self.action(action)).collect()
    }

    fn action(&mut self, written: &'a ActionDefinition) -> Option<Action> {
        match written {
            ActionDefinition::Raise(raise) => self.raise(raise),
            ActionDefinition::Reply { name } => self.reply(name).map(Action::Reply),
            ActionDefinition::Assign { field, value } => self.assign(field, value),
            ActionDefinition::Cancel { id } => {
                if !self.delayed_ids.contains(id.value.as_str()) {
                    let known: Vec<&str> = self.delayed_ids.iter().copied().collect();
                    let help = self.nearest(&id.value, known.into_iter());
                    let message = format!("no event is delayed under the id `{}`", id.value);
                    self.error("unknown_id", id.place, message, help);
                }
                Some(Action::Cancel(id.value.as_str().into()))
            }
            ActionDefinition::If { condition, then, otherwise } => {
                let condition = self.expression(condition, Wanted::Truth);
                let (then, otherwise) = (self.actions(then), self.actions(otherwise));
                Some(Action::If { condition: condition?, then, otherwise })
            }
            ActionDefinition::ForEach { list, item, body } => {
                let list = self.expression(list, Wanted::List);
                let of = list.as_ref().map_or(Type::ANY, |list| list.result_type().item());
                self.locals.extend([(item.clone(), of), (INDEX.to_owned(), Type::INTEGER)]);
                let body = self.actions(body);
                self.locals.truncate(self.locals.len() - 2);
                Some(Action::ForEach { list: list?, body })
            }
        }
    }

    pub(super) fn reply(&mut self, name: &Placed<String>) -> Option<ReplyIndex> {
        let found = self.reply_by_name.get(&name.value).copied();
        if found.is_none() {
            let names: Vec<&str> = self.reply_by_name.keys().map(String::as_str).collect();
            let help = self.nearest(&name.value, names.into_iter());
            let message = format!("there is no reply `{}`", name.value);
            self.error("unknown_reply", name.place, message, help);
        }
        found
    }

    fn assign(&mut self, field: &'a Placed<String>, value: &'a ValueDefinition) -> Option<Action> {
        let fields = &self.definition.context;
        let Some(number) = fields.iter().position(|f| f.name.value == field.value) else {
            let help = self.nearest(&field.value, fields.iter().map(|f| f.name.value.as_str()));
            let message = format!("the context has no field `{}`", field.value);
            self.error("unknown_field", field.place, message, help);
            return None;
        };
        if let ValueDefinition::Literal(value) = value
            && let Err(problem) = fields[number].accepts(value)
        {
            let message = format!("context.{} {problem}", field.value);
            self.error("bad_value", field.place, message, "write a value of the field's type");
        }
        let value = self.value(value, Wanted::Value(&fields[number]))?;
        Some(Action::Assign { field: FieldIndex(number as u16), name: field.value.as_str().into(), value })
    }

    fn raise(&mut self, written: &'a RaiseDefinition) -> Option<Action> {
        self.check_event_name(&written.event, false);
        let event = self.event(&written.event.value);
        let data = self.values(&written.data);
        let delay = match &written.delay {
            None => return Some(Action::Raise { event, data }),
            Some(DelayDefinition::Fixed(delay)) => Wait::Fixed(*delay),
            Some(DelayDefinition::Expression(source)) => {
                Wait::Computed(Box::new(self.expression(source, Wanted::Milliseconds)?))
            }
        };
        Some(Action::RaiseLater { event, data, id: written.timer_id().into(), delay })
    }

    pub(super) fn values(
        &mut self,
        written: &'a [(Placed<String>, ValueDefinition)],
    ) -> Vec<(Arc<str>, Computed)> {
        let value = |(name, value): &'a (Placed<String>, ValueDefinition)| {
            Some((name.value.as_str().into(), self.value(value, Wanted::Anything)?))
        };
        written.iter().filter_map(value).collect()
    }

    fn value(&mut self, written: &'a ValueDefinition, wanted: Wanted<'_>) -> Option<Computed> {
        Some(match written {
            ValueDefinition::Expression(source) => {
                Computed::Expression(Box::new(self.expression(source, wanted)?))
            }
            ValueDefinition::Literal(value) => Computed::Literal(value.clone()),
        })
    }

    /// The calls of a state, with their transitions.
    pub(super) fn calls(&mut self, state: StateIndex, written: &'a [InvokeDefinition]) -> Vec<Call> {
        let mut calls = Vec::new();
        for call in written {
            let id: Arc<str> = match &call.id {
                Some(id) => id.value.as_str().into(),
                None => self.chart.state(state).path.replace('.', "_").into(),
            };
            if id.is_empty() {
                let message = "the call of the top has no `id`".to_owned();
                self.error("missing_key", call.place, message, "name it: `id: my_call`");
            }
            if self.call_ids.contains(&id) {
                let message = format!("there are two calls of the id `{id}`");
                let place = call.id.as_ref().map_or(call.place, |id| id.place);
                let help = "their results could not be told apart; give each an `id` of its own";
                self.error("duplicate_name", place, message, help);
            }
            self.call_ids.push(Arc::clone(&id));
            let (done, error) = (format!("{CALL_DONE_PREFIX}{id}"), format!("{CALL_ERROR_PREFIX}{id}"));
            let (done_event, error_event) = (self.event(&done), self.event(&error));
            self.transitions(state, &done, &call.on_done);
            self.transitions(state, &error, &call.on_error);
            let input = self.values(&call.input);
            let src = call.src.value.as_str().into();
            let timeout = call.timeout.unwrap_or(CALL_TIMEOUT);
            calls.push(Call { id, src, input, timeout, done_event, error_event });
        }
        calls
    }
}

impl RaiseDefinition {
    /// What a delayed event is cancelled by.
    pub(crate) fn timer_id(&self) -> &str {
        self.id.as_ref().map_or(&self.event.value, |id| &id.value)
    }
}
