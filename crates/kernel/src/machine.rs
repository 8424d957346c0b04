//! A `Machine`: a definition that has been checked and compiled, ready to run any number of instances.
//!
//! Immutable and shared. It owns what an instance looks like at its start (`initial_context`) and knows nothing of
//! any instance.

use std::sync::Arc;

use serde_json::Value;

use crate::bound;
use crate::chart::{Chart, StateIndex};
use crate::conversation::Conversation;
use crate::definition::overlay::Parts;
use crate::definition::{FieldDefinition, FieldKind};
use crate::flow::Flow;
use crate::id::{DefinitionHash, MachineName};
use crate::input::Fields;
use crate::migration::Migration;

#[derive(Debug)]
pub struct Machine {
    pub name: MachineName,
    pub version: u32,
    pub hash: DefinitionHash,
    pub source: Arc<str>,
    pub fields: Vec<FieldDefinition>,
    /// The names of the fields that are secret, in order.
    pub secrets: Arc<[Arc<str>]>,
    pub chart: Chart,
    /// Where `recover` leads; where the machine begins if there is none.
    pub safe_state: Option<StateIndex>,
    pub conversation: Option<Conversation>,
    /// A flow's states are its statuses, which follow from its phases.
    pub flow: Option<Flow>,
    /// How instances of other versions come to be of this one.
    pub migrations: Vec<Migration>,
}

impl Machine {
    /// Whether it is what some tenant has made of a definition, and not for all.
    pub fn is_customised(&self) -> bool {
        Parts::of(&self.source).is_some()
    }

    /// The context of a new instance: defaults, overlaid with what the creator gave.
    ///
    /// # Errors
    /// All that is wrong with `given`, each with its path: unknown, missing and ill-typed fields, and too much of all.
    pub fn initial_context(&self, given: &Fields) -> Result<Fields, Vec<String>> {
        let mut problems: Vec<String> = given
            .keys()
            .filter(|name| self.field(name).is_none())
            .map(|name| {
                let known = self.fields.iter().map(|f| f.name.value.as_str());
                format!("context.{name} is unknown; {}", crate::diagnostic::nearest(name, known))
            })
            .collect();
        let mut context = Fields::new();
        for field in &self.fields {
            let name = &field.name.value;
            let value = match (given.get(name), &field.default) {
                (Some(value), _) => value.clone(),
                (None, Some(default)) => default.value.clone(),
                (None, None) if field.required => {
                    problems.push(format!("context.{name} is required"));
                    continue;
                }
                (None, None) => {
                    context.insert(name.clone(), field.empty());
                    continue;
                }
            };
            if let Err(problem) = field.accepts(&value) {
                problems.push(format!("context.{name} {problem}"));
            }
            context.insert(name.clone(), value);
        }
        if let Err(problem) = bound::check(&context) {
            problems.push(format!("the context {problem}"));
        }
        if problems.is_empty() { Ok(context) } else { Err(problems) }
    }

    pub fn field(&self, name: &str) -> Option<&FieldDefinition> {
        self.fields.iter().find(|field| field.name.value == name)
    }
}

impl FieldDefinition {
    /// Whoever creates an instance has to say what it holds.
    pub fn must_be_given(&self) -> bool {
        self.required && self.default.is_none()
    }

    /// What an optional field holds before anybody assigns it: null where it may, else the type's empty value.
    pub fn empty(&self) -> Value {
        if self.nullable {
            return Value::Null;
        }
        match self.kind {
            FieldKind::Any => Value::Null,
            FieldKind::String => Value::from(""),
            FieldKind::Integer => Value::from(0),
            FieldKind::Number => Value::from(0.0),
            FieldKind::Boolean => Value::from(false),
            FieldKind::Array => Value::Array(Vec::new()),
            FieldKind::Object => Value::Object(Fields::new()),
        }
    }
}
