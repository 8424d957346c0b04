//! A YAML 1.2 or JSON text as a tree in which every key and value knows its place.
//!
//! Owns reading the syntax, with the budgets that keep a hostile file from exhausting memory. It knows nothing of
//! machines. YAML 1.2 only: `on`, `yes` and `no` are words, not booleans.

use std::ops::Range;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_saphyr::{Location, Spanned};

use crate::diagnostic::{Diagnostic, Place, shorten};

/// Larger than any definition that a person could review.
pub const SOURCE_BYTES_MAX: usize = 1024 * 1024;
/// Each level of states is two of maps; what is in the innermost state has room besides.
const DEPTH_MAX: usize = 96;
/// Reading takes some 30 KiB a level without optimisation, more than a test's or a worker's stack holds.
const READ_STACK_BYTES: usize = 16 * 1024 * 1024;

#[derive(Clone, Debug)]
pub struct Placed<T> {
    pub value: T,
    pub place: Place,
}

impl Placed<String> {
    /// The place of a part of the text, in bytes; of the whole where quoting or folding hides the part.
    pub(crate) fn part(&self, part: Range<usize>) -> Place {
        let (whole, length) = (self.place, self.value.len());
        let quotes = (whole.length as usize).wrapping_sub(length);
        if !matches!(quotes, 0 | 2) || self.value.contains('\n') {
            return whole;
        }
        let narrow = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let before = self.value[..part.start].chars().count();
        Place {
            line: whole.line,
            column: whole.column + narrow(quotes / 2 + before),
            offset: whole.offset + narrow(quotes / 2 + part.start),
            length: narrow(part.len()),
        }
    }
}

#[derive(Clone, Debug)]
pub struct Node {
    pub kind: NodeKind,
    pub place: Place,
}

#[derive(Clone, Debug)]
pub enum NodeKind {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    Map(Vec<(Placed<String>, Node)>),
}

impl Node {
    /// What this is, for "expected …, found …".
    pub fn noun(&self) -> &'static str {
        match self.kind {
            NodeKind::Null => "nothing",
            NodeKind::Bool(_) => "a boolean",
            NodeKind::Int(_) => "a number",
            NodeKind::Float(_) => "a fraction",
            NodeKind::Text(_) => "text",
            NodeKind::List(_) => "a list",
            NodeKind::Map(_) => "a map",
        }
    }

    /// How often a function is called in texts, those of aliases counted each time.
    pub(crate) fn count_calls(&self, function: &str) -> usize {
        let is_call =
            |(at, _): &(usize, &str), text: &str| text[at + function.len()..].trim_start().starts_with('(');
        match &self.kind {
            NodeKind::Text(text) => text.match_indices(function).filter(|found| is_call(found, text)).count(),
            NodeKind::List(items) => items.iter().map(|item| item.count_calls(function)).sum(),
            NodeKind::Map(entries) => entries.iter().map(|(_, node)| node.count_calls(function)).sum(),
            _ => 0,
        }
    }

    pub fn to_json(&self) -> Value {
        match &self.kind {
            NodeKind::Null => Value::Null,
            NodeKind::Bool(b) => Value::Bool(*b),
            NodeKind::Int(i) => Value::from(*i),
            NodeKind::Float(f) => Value::from(*f),
            NodeKind::Text(t) => Value::from(t.as_str()),
            NodeKind::List(items) => items.iter().map(Node::to_json).collect(),
            NodeKind::Map(entries) => {
                entries.iter().map(|(key, node)| (key.value.clone(), node.to_json())).collect()
            }
        }
    }
}

/// Reads `source`, JSON being YAML.
///
/// # Errors
/// The one syntax error at which reading stopped.
pub fn read(source: &str) -> Result<Node, Box<Diagnostic>> {
    check_size(source)?;
    std::thread::scope(|scope| {
        std::thread::Builder::new()
            .stack_size(READ_STACK_BYTES)
            .spawn_scoped(scope, || parse(source))
            .map_err(|error| unreadable(Place::START, &format!("no thread to read it on: {error}")))?
            .join()
            .unwrap_or_else(|_| Err(unreadable(Place::START, "the YAML parser gave up on it")))
    })
}

pub(crate) fn check_size(source: &str) -> Result<(), Box<Diagnostic>> {
    if source.len() <= SOURCE_BYTES_MAX {
        return Ok(());
    }
    Err(Box::new(Diagnostic::error(
        "too_large",
        Place::START,
        format!("the definition has {} bytes", source.len()),
        format!("a definition may have {SOURCE_BYTES_MAX} bytes; split the machine"),
    )))
}

fn parse(source: &str) -> Result<Node, Box<Diagnostic>> {
    let budget = serde_saphyr::budget! { max_depth: DEPTH_MAX, flow_nesting_limit: DEPTH_MAX };
    let options = serde_saphyr::options! { strict_booleans: true, budget: budget };
    let parsed: Result<Raw, _> = serde_saphyr::from_str_with_options(source, options);
    parsed.map(Node::from).map_err(|error| {
        let place = error.location().map_or(Place::START, |location| {
            let place = place_of(location);
            match place.offset {
                0 => at(source, place.line, place.column),
                _ => place,
            }
        });
        let text = error.to_string();
        let message = text.lines().next().unwrap_or("unreadable");
        unreadable(place, message.trim_start_matches("error: "))
    })
}

/// `message` is the parser's own, which begins with the place and is addressed to a programmer.
fn unreadable(place: Place, message: &str) -> Box<Diagnostic> {
    let behind_place = message.split_once(": ").filter(|(place, _)| place.starts_with("line "));
    let message = behind_place.map_or(message, |(_, message)| message);
    let (message, help) = if let Some(key) = message.strip_prefix("duplicate mapping key: ") {
        let key = key.split(',').next().unwrap_or(key);
        (format!("the key `{key}` is there twice"), "merge the two, or rename one of them")
    } else if message.starts_with("multiple YAML documents") {
        ("there is a second document".to_owned(), "write one machine into one file, without `---`")
    } else if message.starts_with("tabs disallowed") {
        ("a line is indented with a tab".to_owned(), "indent with spaces")
    } else {
        (message.to_owned(), "mend the syntax here; what follows could not be read")
    };
    let message = format!("not valid YAML or JSON: {}", shorten(&message));
    Box::new(Diagnostic::error("syntax", place, message, help.into()))
}

/// The place of a line and a column, for errors that carry no offset.
fn at(source: &str, line: u32, column: u32) -> Place {
    let before = source.split_inclusive('\n').take(line.saturating_sub(1) as usize);
    let start: usize = before.map(str::len).sum();
    let mut chars = source[start..].char_indices().map(|(offset, _)| offset);
    let within = chars.nth(column.saturating_sub(1) as usize);
    let offset = within.map_or(source.len(), |within| start + within);
    Place { line, column, offset: u32::try_from(offset).unwrap_or(u32::MAX), length: 0 }
}

fn place_of(location: Location) -> Place {
    let narrow = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
    let span = location.span();
    let (offset, length) = match (span.byte_offset(), span.byte_len()) {
        (Some(offset), Some(length)) => (offset, length),
        _ => (0, 0),
    };
    Place {
        line: narrow(location.line()),
        column: narrow(location.column()),
        offset: narrow(offset),
        length: narrow(length),
    }
}

struct Raw(Spanned<RawKind>);

enum RawKind {
    Scalar(NodeKind),
    List(Vec<Raw>),
    Map(Vec<(Spanned<String>, Raw)>),
}

impl From<Raw> for Node {
    fn from(raw: Raw) -> Self {
        let place = place_of(raw.0.referenced);
        let kind = match raw.0.value {
            RawKind::Scalar(kind) => kind,
            RawKind::List(items) => NodeKind::List(items.into_iter().map(Node::from).collect()),
            RawKind::Map(entries) => NodeKind::Map(
                entries
                    .into_iter()
                    .map(|(key, value)| {
                        let place = place_of(key.referenced);
                        (Placed { value: key.value, place }, Node::from(value))
                    })
                    .collect(),
            ),
        };
        Node { kind, place }
    }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Spanned::deserialize(deserializer).map(Raw)
    }
}

impl<'de> Deserialize<'de> for RawKind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = RawKind;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<RawKind, E> {
        Ok(RawKind::Scalar(NodeKind::Null))
    }

    fn visit_none<E>(self) -> Result<RawKind, E> {
        Ok(RawKind::Scalar(NodeKind::Null))
    }

    fn visit_bool<E>(self, value: bool) -> Result<RawKind, E> {
        Ok(RawKind::Scalar(NodeKind::Bool(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<RawKind, E> {
        Ok(RawKind::Scalar(NodeKind::Int(value)))
    }

    fn visit_u64<E>(self, value: u64) -> Result<RawKind, E> {
        // CEL integers are 64-bit and signed; what does not fit is a float, as in JSON.
        let kind = i64::try_from(value).map_or(NodeKind::Float(value as f64), NodeKind::Int);
        Ok(RawKind::Scalar(kind))
    }

    fn visit_f64<E>(self, value: f64) -> Result<RawKind, E> {
        Ok(RawKind::Scalar(NodeKind::Float(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<RawKind, E> {
        Ok(RawKind::Scalar(NodeKind::Text(value.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<RawKind, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(RawKind::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<RawKind, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = access.next_entry()? {
            entries.push(entry);
        }
        Ok(RawKind::Map(entries))
    }
}
