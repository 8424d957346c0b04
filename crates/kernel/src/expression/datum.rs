//! Values while an expression runs: borrowed from what it reads as far as possible.
//!
//! Owns `Datum`, how it is compared, looked into and made JSON. Scalars are copied, lists and objects of the context
//! or payload are borrowed, and what an expression makes itself is shared. Every loop here is paid for with fuel.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::{BTreeMap, btree_map};
use std::rc::Rc;
use std::slice;
use std::sync::Arc;

use serde_json::{Map, Number, Value};

use super::failure::{Failure, Outcome};
use super::fuel::Fuel;
use super::kind::Kinds;
use crate::input::Fields;

/// Its tag is a whole word: a value is then moved by words, which the processor forwards from store to load.
#[derive(Clone, Debug)]
#[repr(u64)]
pub(super) enum Datum<'a> {
    Null,
    Bool(bool),
    Int(i64),
    UInt(u64),
    Double(f64),
    /// A type, by CEL's name of it.
    Type(&'static str),
    Text(&'a str),
    MadeText(Rc<str>),
    Items(&'a [Value]),
    Paths(&'a [Arc<str>]),
    MadeList(Rc<Vec<Datum<'a>>>),
    Fields(&'a Fields),
    MadeMap(Rc<BTreeMap<Key<'a>, Datum<'a>>>),
}

/// A key of a map that an expression made: a boolean, a number or a text.
#[derive(Clone, Debug)]
pub(super) struct Key<'a>(Datum<'a>);

/// The items of a list, or the keys of a map, in order.
pub(super) enum Items<'d, 'a> {
    Values(slice::Iter<'a, Value>),
    Paths(slice::Iter<'a, Arc<str>>),
    Made(slice::Iter<'d, Datum<'a>>),
    Fields(serde_json::map::Keys<'a>),
    Keys(btree_map::Keys<'d, Key<'a>, Datum<'a>>),
}

impl<'a> Iterator for Items<'_, 'a> {
    type Item = Datum<'a>;

    fn next(&mut self) -> Option<Datum<'a>> {
        match self {
            Self::Values(values) => values.next().map(Datum::from),
            Self::Paths(paths) => paths.next().map(|path| Datum::Text(path)),
            Self::Made(items) => items.next().cloned(),
            Self::Fields(names) => names.next().map(|name| Datum::Text(name)),
            Self::Keys(keys) => keys.next().map(|key| key.0.clone()),
        }
    }
}

impl<'a> From<&'a Value> for Datum<'a> {
    /// JSON integers become `int`, never `uint`: CEL defines no `uint + int`.
    #[inline]
    fn from(value: &'a Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(b) => Self::Bool(*b),
            Value::Number(number) => match number.as_i64() {
                Some(int) => Self::Int(int),
                None => Self::Double(number.as_f64().unwrap_or(f64::MAX)),
            },
            Value::String(text) => Self::Text(text),
            Value::Array(items) => Self::Items(items),
            Value::Object(fields) => Self::Fields(fields),
        }
    }
}

impl<'a> Datum<'a> {
    pub fn made_text(text: String) -> Self {
        Self::MadeText(text.into())
    }

    pub fn made_list(items: Vec<Datum<'a>>) -> Self {
        Self::MadeList(Rc::new(items))
    }

    pub fn kind(&self) -> Kinds {
        match self {
            Self::Null => Kinds::NULL,
            Self::Bool(_) => Kinds::BOOLEAN,
            Self::Int(_) => Kinds::INTEGER,
            Self::UInt(_) => Kinds::UNSIGNED,
            Self::Double(_) => Kinds::FRACTION,
            Self::Type(_) => Kinds::TYPE,
            Self::Text(_) | Self::MadeText(_) => Kinds::TEXT,
            Self::Items(_) | Self::Paths(_) | Self::MadeList(_) => Kinds::LIST,
            Self::Fields(_) | Self::MadeMap(_) => Kinds::OBJECT,
        }
    }

    /// CEL's name of its type.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Null => "null_type",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::UInt(_) => "uint",
            Self::Double(_) => "double",
            Self::Type(_) => "type",
            Self::Text(_) | Self::MadeText(_) => "string",
            Self::Items(_) | Self::Paths(_) | Self::MadeList(_) => "list",
            Self::Fields(_) | Self::MadeMap(_) => "map",
        }
    }

    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::MadeText(text) => Some(text),
            _ => None,
        }
    }

    /// Items of a list, or keys of a map.
    pub fn items<'d>(&'d self) -> Option<Items<'d, 'a>> {
        Some(match self {
            Self::Items(values) => Items::Values(values.iter()),
            Self::Paths(paths) => Items::Paths(paths.iter()),
            Self::MadeList(items) => Items::Made(items.iter()),
            Self::Fields(fields) => Items::Fields(fields.keys()),
            Self::MadeMap(map) => Items::Keys(map.keys()),
            _ => return None,
        })
    }

    /// How many items or entries a list or map has.
    pub fn length(&self) -> Option<usize> {
        match self {
            Self::Items(values) => Some(values.len()),
            Self::Paths(paths) => Some(paths.len()),
            Self::MadeList(items) => Some(items.len()),
            Self::Fields(fields) => Some(fields.len()),
            Self::MadeMap(map) => Some(map.len()),
            _ => None,
        }
    }

    /// The item of a list at `index`.
    pub fn item(&self, index: usize) -> Option<Datum<'a>> {
        match self {
            Self::Items(values) => values.get(index).map(Datum::from),
            Self::Paths(paths) => paths.get(index).map(|path| Datum::Text(path)),
            Self::MadeList(items) => items.get(index).cloned(),
            _ => None,
        }
    }

    /// The value of a map at a key, if it is there. `None` for what is no map, too.
    pub fn entry(&self, key: &Datum<'a>) -> Option<Datum<'a>> {
        match self {
            Self::Fields(fields) => fields.get(key.as_text()?).map(Datum::from),
            // A fraction that is whole finds a number, as keys are compared by value.
            Self::MadeMap(map) => map.get(&Key(key.clone())).cloned(),
            _ => None,
        }
    }

    pub fn field(&self, name: &'a str) -> Option<Datum<'a>> {
        match self {
            Self::Fields(fields) => fields.get(name).map(Datum::from),
            _ => self.entry(&Self::Text(name)),
        }
    }

    /// CEL's equality: numbers by value, whatever their kind; things of other kinds are never equal.
    pub fn equals(&self, other: &Datum<'a>, fuel: &mut Fuel) -> Outcome<bool> {
        if let (Some(one), Some(two)) = (self.as_text(), other.as_text()) {
            if one.len() != two.len() {
                return Ok(false);
            }
            fuel.spend_bytes(one.len())?;
            return Ok(one == two);
        }
        Ok(match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Bool(a), Self::Bool(b)) => a == b,
            (Self::Type(a), Self::Type(b)) => a == b,
            _ if self.kind() == Kinds::LIST && other.kind() == Kinds::LIST => {
                return self.same_items(other, fuel);
            }
            _ if self.kind() == Kinds::OBJECT && other.kind() == Kinds::OBJECT => {
                return self.same_entries(other, fuel);
            }
            _ => self.compare_numbers(other) == Some(Ordering::Equal),
        })
    }

    fn same_items(&self, other: &Datum<'a>, fuel: &mut Fuel) -> Outcome<bool> {
        let (Some(ours), Some(theirs)) = (self.items(), other.items()) else { return Ok(false) };
        if self.length() != other.length() {
            return Ok(false);
        }
        for (one, two) in ours.zip(theirs) {
            fuel.spend(2)?;
            if !one.equals(&two, fuel)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn same_entries(&self, other: &Datum<'a>, fuel: &mut Fuel) -> Outcome<bool> {
        let Some(keys) = self.items().filter(|_| self.length() == other.length()) else { return Ok(false) };
        for key in keys {
            // It is looked up on both sides.
            key.spend_lookup(fuel)?;
            key.spend_lookup(fuel)?;
            let (Some(one), Some(two)) = (self.entry(&key), other.entry(&key)) else { return Ok(false) };
            if !one.equals(&two, fuel)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Finding a key compares it with some others.
    pub fn spend_lookup(&self, fuel: &mut Fuel) -> Outcome<()> {
        fuel.spend(4)?;
        fuel.spend_many(self.as_text().map_or(0, str::len) / 8)
    }

    /// The order of two numbers of any kind by their value. `None` if one is none, or is not a number at all.
    pub fn compare_numbers(&self, other: &Datum<'a>) -> Option<Ordering> {
        match (self, other) {
            (Self::Int(a), Self::Int(b)) => Some(a.cmp(b)),
            (Self::Double(a), Self::Double(b)) => a.partial_cmp(b),
            (Self::Double(a), b) => compare_fraction(b.as_integer()?, *a).map(Ordering::reverse),
            (a, Self::Double(b)) => compare_fraction(a.as_integer()?, *b),
            (a, b) => Some(a.as_integer()?.cmp(&b.as_integer()?)),
        }
    }

    fn as_integer(&self) -> Option<i128> {
        match self {
            Self::Int(int) => Some(i128::from(*int)),
            Self::UInt(unsigned) => Some(i128::from(*unsigned)),
            _ => None,
        }
    }

    /// # Errors
    /// A fragment, if JSON cannot hold it; or no fuel to copy it.
    pub fn into_json(self, fuel: &mut Fuel) -> Outcome<Value> {
        Ok(match self {
            Self::Null => Value::Null,
            Self::Bool(b) => Value::Bool(b),
            Self::Int(int) => Value::from(int),
            Self::UInt(unsigned) => Value::from(unsigned),
            Self::Double(double) => match Number::from_f64(double) {
                Some(number) => Value::Number(number),
                None => return Err(Failure::told(format!("the result is {double}, which JSON cannot hold"))),
            },
            Self::Type(name) => {
                return Err(Failure::told(format!(
                    "the result is the type `{name}`, which JSON cannot hold"
                )));
            }
            Self::Text(text) => {
                fuel.spend_bytes(text.len())?;
                Value::from(text)
            }
            Self::MadeText(text) => {
                fuel.spend_bytes(text.len())?;
                Value::from(&*text)
            }
            Self::Items(values) => {
                values.iter().try_for_each(|value| spend_copy(value, fuel))?;
                Value::Array(values.to_vec())
            }
            Self::Fields(fields) => {
                spend_copy_fields(fields, fuel)?;
                Value::Object(fields.clone())
            }
            Self::Paths(_) | Self::MadeList(_) => {
                let items = self.items().into_iter().flatten();
                let copy = |item: Datum<'a>| {
                    fuel.spend(2)?;
                    item.into_json(fuel)
                };
                Value::Array(items.map(copy).collect::<Outcome<_>>()?)
            }
            Self::MadeMap(map) => {
                let mut fields = Map::new();
                for (key, value) in map.iter() {
                    let name = key.text();
                    fuel.spend(8)?;
                    fuel.spend_bytes(name.len())?;
                    fields.insert(name.into_owned(), value.clone().into_json(fuel)?);
                }
                Value::Object(fields)
            }
        })
    }

    /// Its kind with its value, for a message.
    pub fn told(&self) -> String {
        let kind = self.kind();
        match self {
            Self::Null => "null".into(),
            Self::Bool(b) => b.to_string(),
            Self::Int(int) => format!("{kind} ({int})"),
            Self::UInt(unsigned) => format!("{kind} ({unsigned})"),
            Self::Double(double) => format!("{kind} ({double:?})"),
            Self::Text(_) | Self::MadeText(_) => {
                let text = self.as_text().unwrap_or_default();
                let start: String = text.chars().take(40).collect();
                let more = if start.len() < text.len() { "…" } else { "" };
                format!("{kind} ({start:?}{more})")
            }
            _ => kind.to_string(),
        }
    }
}

/// Exact: a whole number is not rounded to the nearest fraction first.
fn compare_fraction(whole: i128, fraction: f64) -> Option<Ordering> {
    if fraction.is_nan() {
        return None;
    }
    // Beyond this, and at infinity, `as` keeps to the ends of i128, which no number of ours reaches.
    let floor = fraction.floor();
    Some(whole.cmp(&(floor as i128)).then(if fraction > floor { Ordering::Less } else { Ordering::Equal }))
}

pub(super) fn spend_copy(value: &Value, fuel: &mut Fuel) -> Outcome<()> {
    fuel.spend(2)?;
    match value {
        Value::String(text) => fuel.spend_bytes(text.len()),
        Value::Array(items) => items.iter().try_for_each(|item| spend_copy(item, fuel)),
        Value::Object(fields) => spend_copy_fields(fields, fuel),
        Value::Null | Value::Bool(_) | Value::Number(_) => Ok(()),
    }
}

fn spend_copy_fields(fields: &Fields, fuel: &mut Fuel) -> Outcome<()> {
    fields.iter().try_for_each(|(name, value)| {
        fuel.spend(4)?;
        fuel.spend_bytes(name.len())?;
        spend_copy(value, fuel)
    })
}

impl<'a> Key<'a> {
    pub fn new(datum: Datum<'a>) -> Option<Self> {
        let allowed = Kinds::BOOLEAN.or(Kinds::INTEGER).or(Kinds::UNSIGNED).or(Kinds::TEXT);
        datum.kind().is_within(allowed).then_some(Self(datum))
    }

    /// As the name of a field in JSON.
    fn text(&self) -> Cow<'_, str> {
        match &self.0 {
            Datum::Bool(b) => Cow::Owned(b.to_string()),
            Datum::Int(int) => Cow::Owned(int.to_string()),
            Datum::UInt(unsigned) => Cow::Owned(unsigned.to_string()),
            other => Cow::Borrowed(other.as_text().unwrap_or_default()),
        }
    }

    fn rank(&self) -> u8 {
        match self.0 {
            Datum::Bool(_) => 0,
            Datum::Text(_) | Datum::MadeText(_) => 2,
            _ => 1,
        }
    }
}

impl Ord for Key<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        match (&self.0, &other.0) {
            (Datum::Bool(a), Datum::Bool(b)) => a.cmp(b),
            // What is looked up may be a fraction, and even none; it is then greater than all.
            (a, b) if self.rank() == 1 && other.rank() == 1 => {
                a.compare_numbers(b).unwrap_or(Ordering::Greater)
            }
            (a, b) => self.rank().cmp(&other.rank()).then_with(|| a.as_text().cmp(&b.as_text())),
        }
    }
}

impl PartialOrd for Key<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Key<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Key<'_> {}
