//! A YAML 1.2 or JSON text as a tree in which every key and value knows its place.
//!
//! Owns reading the syntax, with the budgets that keep a hostile file from exhausting memory. It knows nothing of
//! machines. YAML 1.2 only: `on`, `yes` and `no` are words, not booleans.

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_saphyr::{Location, Spanned};

use crate::diagnostic::{Diagnostic, Place};

/// Larger than any definition that a person could review.
pub const SOURCE_BYTES_MAX: usize = 1024 * 1024;

#[derive(Clone, Debug)]
pub struct Placed<T> {
    pub value: T,
    pub place: Place,
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
            NodeKind::Int(_) | NodeKind::Float(_) => "a number",
            NodeKind::Text(_) => "text",
            NodeKind::List(_) => "a list",
            NodeKind::Map(_) => "a map",
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
    if source.len() > SOURCE_BYTES_MAX {
        return Err(Box::new(Diagnostic::error(
            "too_large",
            Place::default(),
            format!("the definition has {} bytes", source.len()),
            format!("a definition may have {SOURCE_BYTES_MAX} bytes; split the machine"),
        )));
    }
    let options = serde_saphyr::options! { strict_booleans: true };
    let parsed: Result<Raw, _> = serde_saphyr::from_str_with_options(source, options);
    parsed.map(Node::from).map_err(|error| {
        let place =
            error.location().map(place_of).unwrap_or(Place { line: 1, column: 1, ..Place::default() });
        let text = error.to_string();
        let message = text.lines().next().unwrap_or("unreadable").trim_start_matches("error: ");
        Box::new(Diagnostic::error(
            "syntax",
            place,
            format!("not valid YAML or JSON: {message}"),
            "mend the syntax here; what follows could not be read".into(),
        ))
    })
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
