//! Reading a document tree against what is expected there, noting every disagreement and going on.
//!
//! Definitions are read with it, and the files that stand beside them; it knows nothing of either.

use crate::definition::document::{Node, NodeKind, Placed};
use crate::diagnostic::{Diagnostic, Place, nearest, shorten};
use crate::expression;
use crate::id::IDENTIFIER_BYTES_MAX;
use crate::time::Delay;

/// The diagnostics so far; each `read_…` notes what is wrong and returns what could be read.
#[derive(Debug)]
pub struct Reader<'d> {
    pub diagnostics: &'d mut Vec<Diagnostic>,
}

/// The entries of a map whose keys have been checked.
#[derive(Debug)]
pub struct Entries<'n> {
    pub place: Place,
    entries: Vec<(&'n Placed<String>, &'n Node)>,
}

impl<'n> Entries<'n> {
    /// Of what should have been a map.
    pub fn none(place: Place) -> Self {
        Self { place, entries: Vec::new() }
    }

    pub fn get(&self, key: &str) -> Option<&'n Node> {
        self.entries.iter().find(|(k, _)| k.value == key).map(|(_, node)| *node)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&'n Placed<String>, &'n Node)> + '_ {
        self.entries.iter().copied()
    }
}

impl Reader<'_> {
    pub fn error(&mut self, code: &'static str, place: Place, message: String, help: impl Into<String>) {
        self.diagnostics.push(Diagnostic::error(code, place, message, help.into()));
    }

    pub fn wrong_type(&mut self, node: &Node, what: &str, expected: &str) {
        let message = format!("{what} must be {expected}, not {}", node.noun());
        let scalar = matches!(node.kind, NodeKind::Bool(_) | NodeKind::Int(_) | NodeKind::Float(_));
        let help = match expected {
            "text" if scalar => "put it in quotes to make it text".to_owned(),
            _ => format!("write {expected} here"),
        };
        self.error("wrong_type", node.place, message, help);
    }

    /// A map of which only `known` keys may occur.
    pub fn entries<'n>(&mut self, node: &'n Node, what: &str, known: &[&str]) -> Option<Entries<'n>> {
        let all = self.named(node, what)?;
        let mut entries = Vec::new();
        for (key, value) in all.entries {
            if known.contains(&key.value.as_str()) {
                entries.push((key, value));
            } else {
                let message = format!("{} has no key `{}`", shorten(what), shorten(&key.value));
                self.error("unknown_key", key.place, message, nearest(&key.value, known.iter().copied()));
            }
        }
        Some(Entries { place: all.place, entries })
    }

    /// A map whose keys are the author's own names.
    pub fn named<'n>(&mut self, node: &'n Node, what: &str) -> Option<Entries<'n>> {
        match &node.kind {
            NodeKind::Map(entries) => {
                Some(Entries { place: node.place, entries: entries.iter().map(|(k, v)| (k, v)).collect() })
            }
            NodeKind::Null => Some(Entries { place: node.place, entries: Vec::new() }),
            _ => {
                self.wrong_type(node, what, "a map");
                None
            }
        }
    }

    pub fn text(&mut self, node: &Node, what: &str) -> Option<Placed<String>> {
        match &node.kind {
            NodeKind::Text(text) => Some(Placed { value: text.clone(), place: node.place }),
            _ => {
                self.wrong_type(node, what, "text");
                None
            }
        }
    }

    pub fn boolean(&mut self, node: &Node, what: &str) -> Option<bool> {
        match node.kind {
            NodeKind::Bool(value) => Some(value),
            _ => {
                self.wrong_type(node, what, "true or false");
                None
            }
        }
    }

    /// An integer from `low` to `high`.
    pub fn integer(&mut self, node: &Node, what: &str, low: i64, high: i64) -> Option<i64> {
        match node.kind {
            NodeKind::Int(value) if (low..=high).contains(&value) => Some(value),
            NodeKind::Int(value) => {
                let message = format!("{what} is {value}");
                self.error("bad_value", node.place, message, format!("write a number from {low} to {high}"));
                None
            }
            _ => {
                self.wrong_type(node, what, "a whole number");
                None
            }
        }
    }

    pub fn delay(&mut self, text: &Placed<String>) -> Option<Delay> {
        Delay::parse(&text.value)
            .map_err(|message| {
                self.error("bad_delay", text.place, message, "a number and a unit: d, h, m, s or ms");
            })
            .ok()
    }

    /// A delay of some length.
    pub fn positive_delay(&mut self, text: &Placed<String>, what: &str) -> Option<Delay> {
        let delay = self.delay(text)?;
        if delay == Delay::ZERO {
            let message = format!("{what} nothing at all comes at once");
            let help = match what {
                "`after`" => "write a longer delay, or `always` for a transition without one",
                _ => "write a longer delay, such as `30s`",
            };
            self.error("bad_delay", text.place, message, help);
            return None;
        }
        Some(delay)
    }

    /// One item, or a list of them.
    pub fn one_or_many<'n>(&mut self, node: &'n Node) -> Vec<&'n Node> {
        match &node.kind {
            NodeKind::List(items) => items.iter().collect(),
            NodeKind::Null => Vec::new(),
            _ => vec![node],
        }
    }

    pub fn texts(&mut self, node: &Node, what: &str) -> Vec<Placed<String>> {
        let items = self.one_or_many(node);
        items.into_iter().filter_map(|item| self.text(item, what)).collect()
    }

    /// One of a few words.
    pub fn choice<T: Copy>(&mut self, node: &Node, what: &str, choices: &[(&str, T)]) -> Option<T> {
        let text = self.text(node, what)?;
        let found = choices.iter().find(|(name, _)| *name == text.value);
        if found.is_none() {
            let message = format!("{what} cannot be `{}`", text.value);
            let help = nearest(&text.value, choices.iter().map(|(name, _)| *name));
            self.error("bad_value", text.place, message, help);
        }
        found.map(|(_, choice)| *choice)
    }

    /// A name that expressions can use: what CEL takes for one word, and means nothing else by.
    pub fn variable(&mut self, name: &Placed<String>) -> bool {
        let mut chars = name.value.chars();
        let head = chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
        let word = head && chars.all(|c| c.is_ascii_alphanumeric() || c == '_');
        let taken = expression::RESERVED.contains(&name.value.as_str());
        if !word || taken {
            let message = format!("`{}` cannot be the name of an item", shorten(&name.value));
            let help = match taken {
                true => "the word has another meaning in expressions; choose another",
                false => "use ASCII letters, digits and _, beginning with a letter or _",
            };
            self.error("bad_name", name.place, message, help);
        }
        word && !taken
    }

    /// A name that the author gives to something: letters, digits, `_` and `-`, beginning with a letter or `_`.
    pub fn name(&mut self, name: &Placed<String>, what: &str) -> bool {
        let mut chars = name.value.chars();
        let head = chars.next().is_some_and(|c| c.is_alphabetic() || c == '_');
        let made_of = head && chars.all(|c| c.is_alphanumeric() || c == '_' || c == '-');
        let good = made_of && name.value.len() <= IDENTIFIER_BYTES_MAX;
        if !good {
            let message = format!("`{}` is no name for {what}", shorten(&name.value));
            let help = match made_of {
                true => "choose a shorter one",
                false => "use letters, digits, _ and -, beginning with a letter or _",
            };
            self.error("bad_name", name.place, message, help);
        }
        good
    }
}
