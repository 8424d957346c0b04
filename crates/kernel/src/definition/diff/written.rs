//! Actions, values and targets as JSON, as an author would write them in full.

use serde_json::{Map, Value, json};

use crate::definition::{ActionDefinition, DelayDefinition, Placed, RaiseDefinition, ValueDefinition};

/// One name as a text, several as a list.
pub(super) fn targets(targets: &[Placed<String>]) -> Value {
    match targets {
        [one] => Value::from(one.value.as_str()),
        many => many.iter().map(|target| target.value.as_str()).collect(),
    }
}

/// A text is an expression, all else what it says.
pub(super) fn value(value: &ValueDefinition) -> Value {
    match value {
        ValueDefinition::Expression(source) => Value::from(source.value.as_str()),
        ValueDefinition::Literal(literal) => literal.clone(),
    }
}

pub(super) fn values(all: &[(Placed<String>, ValueDefinition)]) -> Value {
    Value::Object(all.iter().map(|(name, written)| (name.value.clone(), value(written))).collect())
}

pub(super) fn actions(all: &[ActionDefinition]) -> Value {
    all.iter().map(action).collect()
}

fn action(action: &ActionDefinition) -> Value {
    match action {
        ActionDefinition::Assign { field, value: assigned } => {
            json!({ "assign": Map::from_iter([(field.value.clone(), value(assigned))]) })
        }
        ActionDefinition::Reply { name } => json!({ "reply": name.value }),
        ActionDefinition::Raise(raised) => json!({ "raise": raise(raised) }),
        ActionDefinition::Cancel { id } => json!({ "cancel": id.value }),
        ActionDefinition::If { condition, then, otherwise } if otherwise.is_empty() => {
            json!({ "if": condition.value, "then": actions(then) })
        }
        ActionDefinition::If { condition, then, otherwise } => {
            json!({ "if": condition.value, "then": actions(then), "else": actions(otherwise) })
        }
        ActionDefinition::ForEach { list, item, body } => {
            json!({ "for_each": list.value, "as": item, "do": actions(body) })
        }
    }
}

fn raise(raised: &RaiseDefinition) -> Value {
    let mut said = Map::new();
    if !raised.data.is_empty() {
        said.insert("data".to_owned(), values(&raised.data));
    }
    if let Some(delay) = &raised.delay {
        let delay = match delay {
            DelayDefinition::Fixed(delay) => Value::from(delay.to_string()),
            DelayDefinition::Expression(source) => Value::from(source.value.as_str()),
        };
        said.insert("delay".to_owned(), delay);
    }
    if let Some(id) = &raised.id {
        said.insert("id".to_owned(), Value::from(id.value.as_str()));
    }
    let event = Value::from(raised.event.value.as_str());
    if said.is_empty() {
        return event;
    }
    said.insert("event".to_owned(), event);
    Value::Object(said)
}
