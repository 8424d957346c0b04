//! The `options` of a reply: names of intents, and lists whose items are offered.
//!
//! Owns their shape and how they are read. What they come to when the reply is given is told in `offer`.

use crate::conversation::definition::{Localised, Words};
use crate::definition::document::{Node, NodeKind, Placed};
use crate::definition::{ITEM, ValueDefinition, read_values};

#[derive(Clone, Debug)]
pub enum OptionDefinition {
    Intent(Placed<String>),
    Each(EachDefinition),
}

/// A button for each item of a list.
#[derive(Clone, Debug)]
pub struct EachDefinition {
    pub list: Placed<String>,
    /// What expressions call the item.
    pub item: String,
    pub label: Localised,
    /// What choosing an item becomes, and what it carries.
    pub event: Placed<String>,
    pub with: Vec<(Placed<String>, ValueDefinition)>,
}

pub(super) const EACH_KEYS: [&str; 5] = ["each", "as", "label", "event", "with"];

impl Words<'_, '_> {
    pub(super) fn options(&mut self, node: &Node) -> Vec<OptionDefinition> {
        let mut options = Vec::new();
        for item in self.reader.one_or_many(node) {
            match &item.kind {
                NodeKind::Text(name) => {
                    let name = Placed { value: name.clone(), place: item.place };
                    options.push(OptionDefinition::Intent(name));
                }
                NodeKind::Map(_) => options.extend(self.each(item).map(OptionDefinition::Each)),
                _ => self.reader.wrong_type(item, "an option", "an intent's name or a map with `each`"),
            }
        }
        options
    }

    fn each(&mut self, node: &Node) -> Option<EachDefinition> {
        let entries = self.reader.entries(node, "an option", &EACH_KEYS)?;
        for key in ["each", "label", "event"] {
            if entries.get(key).is_none() {
                let message = format!("an option that is a map needs `{key}`");
                let help = "write `{ each: context.tasks, label: \"{item.name}\", event: task_selected }`";
                self.reader.error("missing_key", node.place, message, help);
            }
        }
        let list = entries.get("each").and_then(|list| self.reader.text(list, "`each`"));
        let item = entries.get("as").and_then(|name| self.reader.text(name, "`as`"));
        let item = item.filter(|name| self.reader.variable(name));
        let label = entries.get("label").map(|label| self.localised(label, "a label"));
        let event = entries.get("event").and_then(|event| self.reader.text(event, "`event`"));
        let with = entries.get("with").map(|with| read_values(self.reader, with, "`with`"));
        Some(EachDefinition {
            list: list?,
            item: item.map_or_else(|| ITEM.to_owned(), |name| name.value),
            label: label?,
            event: event?,
            with: with.unwrap_or_default(),
        })
    }
}
