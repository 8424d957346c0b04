//! Nodes: the tree that an expression is lowered to and evaluated from.
//!
//! Owns the shapes, and how a node that names a value is written, for messages. A name is resolved once, when it is
//! lowered: a node says which root, slot or field it reads. Invariant: the tree is at most `DEPTH_MAX` deep.

use std::cmp::Ordering;
use std::fmt;

use super::pattern::Pattern;

#[derive(Debug)]
pub(super) enum Node {
    Null,
    Bool(bool),
    Int(i64),
    UInt(u64),
    Double(f64),
    Text(Box<str>),
    /// A type, by CEL's name of it.
    Type(&'static str),

    Context,
    Before,
    Event,
    EventName,
    Active,
    Now,
    ContextField(Box<str>),
    BeforeField(Box<str>),
    EventField(Box<str>),
    /// A variable of the caller, by its slot.
    Local(usize, Box<str>),
    /// The variable of the comprehension; there is one at a time.
    Item(Box<str>),

    Select(Box<(Node, Box<str>)>),
    Has(Box<(Node, Box<str>)>),
    Index(Box<(Node, Node)>),

    Not(Box<Node>),
    And(Box<(Node, Node)>),
    Or(Box<(Node, Node)>),
    Equal(Guess, Box<(Node, Node)>),
    Unequal(Guess, Box<(Node, Node)>),
    Compare(Comparison, Guess, Box<(Node, Node)>),
    In(Box<(Node, Node)>),
    Matches(Box<(Node, Pattern)>),
    Search(Search, Box<(Node, Node)>),

    Negate(Box<Node>),
    Arithmetic(Arithmetic, Guess, Box<(Node, Node)>),
    If(Box<(Node, Node, Node)>),
    List(Vec<Node>),
    Map(Vec<(Node, Node)>),
    Convert(Conversion, Box<Node>),
    Fold(Box<Fold>),
}

impl Node {
    /// It gives true or false and nothing else.
    pub fn is_condition(&self) -> bool {
        matches!(
            self,
            Self::Not(_)
                | Self::And(_)
                | Self::Or(_)
                | Self::Equal(..)
                | Self::Unequal(..)
                | Self::Compare(..)
                | Self::In(_)
                | Self::Has(_)
                | Self::Search(..)
                | Self::Matches(_)
        )
    }
}

/// What the two sides of an operator probably are, so that the short way is tried first. It may be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Guess {
    Whole,
    Text,
    Nothing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Search {
    Contains,
    StartsWith,
    EndsWith,
}

/// Functions of one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Conversion {
    Size,
    Int,
    UInt,
    Double,
    String,
    Bool,
    Type,
    Dyn,
    /// Of a field that holds a number: null stays null.
    Fraction,
}

/// A comprehension: what is done with every item of a range.
#[derive(Debug)]
pub(super) struct Fold {
    pub range: Node,
    pub step: FoldStep,
}

#[derive(Debug)]
pub(super) enum FoldStep {
    All(Node),
    Exists(Node),
    ExistsOne(Node),
    /// `map` and `filter`: the item to keep, if the condition holds.
    Collect {
        condition: Option<Node>,
        item: Node,
    },
}

impl Arithmetic {
    /// `None` if the result is out of range.
    pub fn checked(self, one: i64, two: i64) -> Option<i64> {
        match self {
            Self::Add => one.checked_add(two),
            Self::Subtract => one.checked_sub(two),
            Self::Multiply => one.checked_mul(two),
            Self::Divide => one.checked_div(two),
            Self::Remainder => one.checked_rem(two),
        }
    }

    /// Of fractions; there is no remainder of them.
    pub fn of_fractions(self, one: f64, two: f64) -> f64 {
        match self {
            Self::Add => one + two,
            Self::Subtract => one - two,
            Self::Multiply => one * two,
            Self::Divide | Self::Remainder => one / two,
        }
    }

    pub fn symbol(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Subtract => "-",
            Self::Multiply => "*",
            Self::Divide => "/",
            Self::Remainder => "%",
        }
    }
}

impl Comparison {
    pub fn holds(self, order: Ordering) -> bool {
        match self {
            Self::Less => order == Ordering::Less,
            Self::LessOrEqual => order != Ordering::Greater,
            Self::Greater => order == Ordering::Greater,
            Self::GreaterOrEqual => order != Ordering::Less,
        }
    }

    pub fn symbol(self) -> &'static str {
        match self {
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
        }
    }
}

impl Search {
    pub fn name(self) -> &'static str {
        match self {
            Self::Contains => "contains",
            Self::StartsWith => "startsWith",
            Self::EndsWith => "endsWith",
        }
    }
}

impl Conversion {
    pub fn name(self) -> &'static str {
        match self {
            Self::Size => "size",
            Self::Int => "int",
            Self::UInt => "uint",
            Self::Double => "double",
            Self::String => "string",
            Self::Bool => "bool",
            Self::Type => "type",
            Self::Dyn | Self::Fraction => "dyn",
        }
    }
}

/// A node as it was written, if it names something; otherwise "the value".
impl fmt::Display for Node {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Context => formatter.write_str("context"),
            Self::Before => formatter.write_str("before"),
            Self::Event => formatter.write_str("event"),
            Self::EventName => formatter.write_str("event_name"),
            Self::Active => formatter.write_str("active"),
            Self::Now => formatter.write_str("now"),
            Self::ContextField(name) => write!(formatter, "context.{name}"),
            Self::BeforeField(name) => write!(formatter, "before.{name}"),
            Self::EventField(name) => write!(formatter, "event.{name}"),
            Self::Convert(Conversion::Fraction, of) => write!(formatter, "{of}"),
            Self::Local(_, name) | Self::Item(name) => formatter.write_str(name),
            Self::Select(of) | Self::Has(of) => write!(formatter, "{}.{}", of.0, of.1),
            Self::Index(of) => write!(formatter, "{}[{}]", of.0, of.1),
            Self::Int(i) => write!(formatter, "{i}"),
            Self::Text(text) if text.len() <= 64 => write!(formatter, "{text:?}"),
            _ => formatter.write_str("the value"),
        }
    }
}
