//! What is worth trying: payloads for events and results, contexts to begin with, texts to send.
//!
//! Reads the machine's expressions once. What a payload should hold depends on who reads it: the transitions that take
//! the event, and whatever else runs in the same step.

use std::collections::{BTreeMap, BTreeSet};

use kernel::chart::{Action, Chart, Computed, TransitionIndex, Wait};
use kernel::conversation::{Each, OptionTemplate};
use kernel::input::Fields;
use kernel::machine::Machine;
use serde_json::Value;

use super::guess::{Guesses, Purpose, context_read, fields_read, some};

/// Payloads tried for one event: all combinations of guesses if they are no more, else each guess by itself.
const PAYLOADS_MAX: usize = 128;

#[derive(Debug)]
pub(super) struct Inputs<'m> {
    machine: &'m Machine,
    /// What entry and exit actions and eventless transitions read, whatever the event.
    shared: Guesses,
    /// What is read of the context by what decides on the way.
    context: Guesses,
    /// Fields of the context whose items are offered to be chosen, each with a list of one item.
    offered: Vec<(String, Value)>,
    /// Fields of the context that the way depends on; `None` for all.
    relevant: Option<BTreeSet<String>>,
}

impl<'m> Inputs<'m> {
    pub fn of(machine: &'m Machine) -> Self {
        let chart = &machine.chart;
        let mut shared = Guesses::default();
        for state in &chart.states {
            for actions in [&state.entry, &state.exit, &state.initial_actions] {
                read_actions(machine, "event", actions, &mut shared);
            }
        }
        for transition in chart.transition_indices().filter(|t| chart.transition(*t).event.is_empty()) {
            read_transition(machine, transition, &mut shared);
        }
        let mut context = Guesses::default();
        for source in conditions(chart) {
            context.read("context", source, Purpose::Condition);
        }
        Self { machine, shared, context, offered: offered(machine), relevant: relevant(chart) }
    }

    /// Payloads for an event that some of these transitions may take, the smallest first.
    pub fn payloads(&self, transitions: &[TransitionIndex], context: &Fields) -> Vec<Fields> {
        let mut guesses = self.shared.clone();
        for transition in transitions {
            read_transition(self.machine, *transition, &mut guesses);
        }
        combine(&guesses, context)
    }

    /// The texts among what is tried for a field.
    pub fn texts(&self, transitions: &[TransitionIndex], field: &str, context: &Fields) -> Vec<String> {
        let mut guesses = self.shared.clone();
        for transition in transitions {
            read_transition(self.machine, *transition, &mut guesses);
        }
        let guess = guesses.0.get(&vec![field.to_owned()]);
        let values = guess.cloned().unwrap_or_default().values(field, context);
        // What says that it is any text, before what only has the right length.
        let (any, others): (Vec<Value>, Vec<Value>) = values
            .into_iter()
            .partition(|value| value.as_str().is_some_and(|text| text.starts_with("some ")));
        let texts = any.iter().chain(&others).filter_map(|value| match value {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        });
        texts.filter(|text| !text.trim().is_empty()).collect()
    }

    /// The least that an instance can be created with.
    pub fn required(&self) -> Fields {
        let required = self.machine.fields.iter().filter(|field| field.required && field.default.is_none());
        let value = |field: &kernel::definition::FieldDefinition| {
            let name = &field.name.value;
            let guess = self.context.0.get(&vec![name.clone()]);
            let mut guessed = guess.map(|guess| guess.values(name, &Fields::new())).unwrap_or_default();
            guessed.push(Value::from(format!("some {}", name.replace('_', " "))));
            guessed.push(field.empty());
            guessed.into_iter().find(|value| field.accepts(value).is_ok())
        };
        required.filter_map(|field| Some((field.name.value.clone(), value(field)?))).collect()
    }

    /// Other contexts to begin with: each differs in one field that something on the way is decided by.
    pub fn contexts(&self) -> Vec<Fields> {
        let required = self.required();
        let with = |(name, value): &(String, Value)| {
            let mut context = required.clone();
            context.insert(name.clone(), value.clone());
            context
        };
        let mut contexts: Vec<Fields> = self.offered.iter().map(with).collect();
        for (path, guess) in &self.context.0 {
            let [name] = path.as_slice() else { continue };
            let Some(field) = self.machine.field(name) else { continue };
            for value in guess.values(name, &required) {
                if field.accepts(&value).is_ok() {
                    contexts.push(with(&(name.clone(), value)));
                }
            }
        }
        contexts
    }

    /// A context as far as the way depends on it; of other fields only whether there is anything in them.
    pub fn essence(&self, context: &Fields) -> Fields {
        let is_relevant =
            |name: &String| self.relevant.as_ref().is_none_or(|relevant| relevant.contains(name));
        let kind = |value: &Value| match value {
            Value::Null => "null",
            Value::String(text) if text.is_empty() => "empty",
            Value::Array(items) if items.is_empty() => "empty",
            Value::Object(fields) if fields.is_empty() => "empty",
            _ => "some",
        };
        let essence = |(name, value): (&String, &Value)| {
            let value = if is_relevant(name) { value.clone() } else { Value::from(kind(value)) };
            (name.clone(), value)
        };
        context.iter().map(essence).collect()
    }
}

/// The lists of the context that replies offer, with what their options read of an item.
fn offered(machine: &Machine) -> Vec<(String, Value)> {
    let replies = machine.conversation.iter().flat_map(|conversation| &conversation.replies);
    let each = replies.flat_map(|reply| &reply.options).filter_map(OptionTemplate::each);
    let list = |each: &Each| {
        let [field] = context_read(&each.list.source)?.try_into().ok()?;
        let names = each.of_item().flat_map(|expression| fields_read(&expression.source, &each.item));
        let fields: Fields = names.map(|name| (name.clone(), some(&name))).collect();
        let item = if fields.is_empty() { some(&each.item) } else { Value::Object(fields) };
        let list = Value::from(vec![item]);
        machine.field(&field)?.accepts(&list).ok().map(|()| (field, list))
    };
    each.filter_map(list).collect()
}

/// Every combination of guesses, an absent field being one; if these are too many, the likeliest payload with one field
/// changed at a time.
fn combine(guesses: &Guesses, context: &Fields) -> Vec<Fields> {
    let named = |path: &[String]| path.last().cloned().unwrap_or_default();
    let options: BTreeMap<&Vec<String>, Vec<Value>> =
        guesses.0.iter().map(|(path, guess)| (path, guess.values(&named(path), context))).collect();
    let product = options.values().try_fold(1_usize, |n, values| n.checked_mul(values.len() + 1));
    let mut payloads = vec![Fields::new()];
    if product.is_some_and(|product| product <= PAYLOADS_MAX) {
        for (path, values) in &options {
            let longer =
                payloads.iter().flat_map(|payload| values.iter().map(|value| with(payload, path, value)));
            let longer: Vec<Fields> = longer.collect();
            payloads.extend(longer);
        }
    } else {
        let firsts = options.iter().filter_map(|(path, values)| Some((*path, values.first()?)));
        let likeliest = firsts.fold(Fields::new(), |payload, (path, value)| with(&payload, path, value));
        payloads.push(likeliest.clone());
        for (path, values) in &options {
            payloads.extend(values.iter().map(|value| with(&Fields::new(), path, value)));
            payloads.extend(values.iter().skip(1).map(|value| with(&likeliest, path, value)));
            let mut without = likeliest.clone();
            without.remove(&path[0]);
            payloads.push(without);
        }
        payloads.truncate(PAYLOADS_MAX);
    }
    payloads.sort_by_key(Fields::len);
    payloads.dedup();
    payloads
}

fn with(payload: &Fields, path: &[String], value: &Value) -> Fields {
    let mut payload = payload.clone();
    let Some((first, rest)) = path.split_first() else { return payload };
    let value = match (rest, payload.get(first)) {
        ([], _) => value.clone(),
        (rest, Some(Value::Object(inner))) => Value::Object(with(inner, rest, value)),
        (rest, _) => Value::Object(with(&Fields::new(), rest, value)),
    };
    payload.insert(first.clone(), value);
    payload
}

fn read_transition(machine: &Machine, index: TransitionIndex, guesses: &mut Guesses) {
    let transition = machine.chart.transition(index);
    if let Some(guard) = &transition.guard {
        guesses.read("event", &guard.source, Purpose::Condition);
    }
    read_actions(machine, "event", &transition.actions, guesses);
}

fn read_actions(machine: &Machine, root: &str, actions: &[Action], guesses: &mut Guesses) {
    let value = |guesses: &mut Guesses, value: &Computed, purpose: Purpose<'_>| {
        if let Computed::Expression(expression) = value {
            guesses.read(root, &expression.source, purpose);
        }
    };
    for action in actions {
        match action {
            Action::Assign { field, value: assigned, .. } => {
                let field = &machine.fields[usize::from(field.0)];
                value(guesses, assigned, Purpose::Assigned(field));
            }
            Action::Raise { data, .. } | Action::RaiseLater { data, .. } => {
                data.iter().for_each(|(_, datum)| value(guesses, datum, Purpose::Value));
            }
            Action::If { condition, then, otherwise } => {
                guesses.read(root, &condition.source, Purpose::Condition);
                read_actions(machine, root, then, guesses);
                read_actions(machine, root, otherwise, guesses);
            }
            Action::ForEach { list, body } => {
                guesses.read(root, &list.source, Purpose::List);
                read_actions(machine, root, body, guesses);
            }
            Action::Reply(_) | Action::Cancel(_) => {}
        }
    }
}

/// Every list of actions in a chart.
fn all_actions(chart: &Chart) -> impl Iterator<Item = &Action> {
    let of_states = chart.states.iter().flat_map(|s| s.entry.iter().chain(&s.exit).chain(&s.initial_actions));
    let mut todo: Vec<&Action> =
        of_states.chain(chart.transitions.iter().flat_map(|transition| &transition.actions)).collect();
    std::iter::from_fn(move || {
        let action = todo.pop()?;
        match action {
            Action::If { then, otherwise, .. } => todo.extend(then.iter().chain(otherwise)),
            Action::ForEach { body, .. } => todo.extend(body),
            _ => {}
        }
        Some(action)
    })
}

/// The expressions on which the way depends, but for the values that are assigned.
fn conditions(chart: &Chart) -> Vec<&str> {
    let mut sources: Vec<&str> =
        chart.transitions.iter().filter_map(|t| t.guard.as_ref()).map(|guard| &*guard.source).collect();
    for action in all_actions(chart) {
        match action {
            Action::If { condition, .. } => sources.push(&condition.source),
            Action::ForEach { list, .. } => sources.push(&list.source),
            Action::Raise { data, .. } => sources.extend(expressions(data)),
            Action::RaiseLater { data, delay, .. } => {
                sources.extend(expressions(data));
                if let Wait::Computed(delay) = delay {
                    sources.push(&delay.source);
                }
            }
            _ => {}
        }
    }
    sources
}

fn expressions<N>(values: &[(N, Computed)]) -> impl Iterator<Item = &str> {
    values.iter().filter_map(|(_, value)| match value {
        Computed::Expression(expression) => Some(&*expression.source),
        Computed::Literal(_) => None,
    })
}

/// The fields that conditions read, and those that these are worked out from.
fn relevant(chart: &Chart) -> Option<BTreeSet<String>> {
    let mut relevant = BTreeSet::new();
    for source in conditions(chart) {
        relevant.extend(context_read(source)?);
    }
    loop {
        let known = relevant.len();
        for action in all_actions(chart) {
            if let Action::Assign { name, value: Computed::Expression(value), .. } = action
                && relevant.contains(&**name)
            {
                relevant.extend(context_read(&value.source)?);
            }
        }
        if relevant.len() == known {
            return Some(relevant);
        }
    }
}
