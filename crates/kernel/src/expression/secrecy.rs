//! Secrecy: what an expression must not tell of the values that it reads.
//!
//! Owns which secret fields an expression reads, whether its result may hold one of them, and what is said instead of
//! a value. Which fields are secret is the definition's to say.

use std::collections::BTreeSet;

use serde_json::Value;

use super::Reads;
use super::failure::Failure;
use super::node::{Conversion, Fold, FoldStep, Node};
use crate::definition::FieldDefinition;

/// Stands for a value that is not told.
pub(super) const SECRET: &str = "(secret)";
const NOT_TOLD: &str = "it cannot be worked out; why is not told, as that could tell a secret";

#[derive(Debug, Default)]
pub(super) struct Secrecy {
    /// The secret fields that are read.
    read: BTreeSet<String>,
    /// The first of those that the result may hold.
    shown: Option<String>,
    /// Messages may hold a secret: one is read, or an event is that may bring one.
    silent: bool,
}

impl Secrecy {
    pub fn of(node: &Node, reads: &Reads, context: &[FieldDefinition]) -> Self {
        let names = || context.iter().filter(|field| field.secret).map(|field| field.name.value.as_str());
        if names().next().is_none() {
            return Self::default();
        }
        let sides = [&reads.context, &reads.before];
        let is_read = |name: &&str| sides.iter().any(|side| side.whole || side.names.contains(*name));
        let read: BTreeSet<String> = names().filter(is_read).map(str::to_owned).collect();
        let shown = read.iter().find(|name| shows(node, name)).cloned();
        let of_event = reads.event.whole || !reads.event.names.is_empty();
        let silent = !read.is_empty() || of_event || reads.locals;
        Self { read, shown, silent }
    }

    pub fn hides(&self, field: &str) -> bool {
        self.read.contains(field)
    }

    pub fn shown(&self) -> Option<&str> {
        self.shown.as_deref()
    }

    #[cold]
    pub fn words(&self, failure: &Failure) -> String {
        match failure {
            Failure::Told(_) if self.silent => NOT_TOLD.to_owned(),
            failure => failure.to_string(),
        }
    }

    pub fn value_told(&self, value: &Value) -> String {
        if self.silent { SECRET.to_owned() } else { value.to_string() }
    }
}

/// Whether what `node` gives may hold the field, or a part of it. That it is there, how long it is or whether it is equal
/// to something is no part of it.
fn shows(node: &Node, field: &str) -> bool {
    let any = |nodes: &[&Node]| nodes.iter().any(|node| shows(node, field));
    match node {
        _ if node.is_condition() => false,
        Node::Context | Node::Before => true,
        Node::ContextField(name) | Node::BeforeField(name) => **name == *field,
        Node::Select(of) if matches!(of.0, Node::Context | Node::Before) => *of.1 == *field,
        Node::Select(of) => shows(&of.0, field),
        Node::Index(sides) | Node::Arithmetic(_, _, sides) => any(&[&sides.0, &sides.1]),
        Node::Negate(of) => shows(of, field),
        Node::If(of) => any(&[&of.1, &of.2]),
        Node::List(items) => items.iter().any(|item| shows(item, field)),
        Node::Map(entries) => entries.iter().any(|(key, value)| any(&[key, value])),
        Node::Convert(Conversion::Size | Conversion::Type, _) => false,
        Node::Convert(_, of) => shows(of, field),
        Node::Fold(fold) => {
            let Fold { range, step } = &**fold;
            matches!(step, FoldStep::Collect { item, .. } if any(&[range, item]))
        }
        _ => false,
    }
}
