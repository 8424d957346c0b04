//! Kinds: what is known of a value before an expression runs.
//!
//! Owns `Type`, a set of the kinds that a value may have, and its words. A type never promises more than JSON does:
//! an unknown field may be anything. Which operator takes which types is told in `typing`.

use std::fmt;

use crate::definition::{FieldDefinition, FieldKind};

/// A set of kinds; for a list also those of its items.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Type {
    pub(super) kinds: Kinds,
    /// Meaningless unless a list is among the kinds. Empty for the items of `[]`, of which nothing is known.
    pub(super) items: Kinds,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kinds(u16);

impl Kinds {
    pub const NONE: Self = Self(0);
    pub const NULL: Self = Self(1);
    pub const BOOLEAN: Self = Self(2);
    pub const INTEGER: Self = Self(4);
    pub const UNSIGNED: Self = Self(8);
    pub const FRACTION: Self = Self(16);
    pub const TEXT: Self = Self(32);
    pub const LIST: Self = Self(64);
    pub const OBJECT: Self = Self(128);
    pub const TYPE: Self = Self(256);
    pub const NUMBER: Self = Self(4 | 8 | 16);
    /// What JSON can hold: everything but a type.
    pub const JSON: Self = Self(255);
    pub const ANY: Self = Self(511);

    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub const fn may_be(self, other: Self) -> bool {
        !self.and(other).is_empty()
    }

    /// All of it is among `others`.
    pub const fn is_within(self, others: Self) -> bool {
        self.without(others).is_empty()
    }

    /// Numbers of all kinds are compared with one another, so that they count as one.
    pub const fn as_compared(self) -> Self {
        if self.may_be(Self::NUMBER) { self.or(Self::NUMBER) } else { self }
    }

    const fn of_field(kind: FieldKind) -> Self {
        match kind {
            FieldKind::String => Self::TEXT,
            FieldKind::Integer => Self::INTEGER,
            FieldKind::Number => Self::INTEGER.or(Self::FRACTION),
            FieldKind::Boolean => Self::BOOLEAN,
            FieldKind::Array => Self::LIST,
            FieldKind::Object => Self::OBJECT,
            FieldKind::Any => Self::JSON,
        }
    }
}

impl Type {
    /// Nothing is known.
    pub const ANY: Self = Self::of(Kinds::ANY);
    pub const BOOLEAN: Self = Self::of(Kinds::BOOLEAN);
    /// A whole number, as `now` and the index of a loop are.
    pub const INTEGER: Self = Self::of(Kinds::INTEGER);
    pub const TEXT: Self = Self::of(Kinds::TEXT);

    /// Of these kinds; lists among them are of anything.
    pub(super) const fn of(kinds: Kinds) -> Self {
        Self { kinds, items: Kinds::ANY }
    }

    pub(super) const fn list_of(items: Kinds) -> Self {
        Self { kinds: Kinds::LIST, items }
    }

    pub fn of_field(field: &FieldDefinition) -> Self {
        let null = if field.nullable { Kinds::NULL } else { Kinds::NONE };
        let items = field.items.map_or(Kinds::JSON, Kinds::of_field);
        Self { kinds: Kinds::of_field(field.kind).or(null), items }
    }

    /// The type of an item, if this is a list; for the variable of a loop.
    #[must_use]
    pub fn item(self) -> Self {
        if self.kinds.may_be(Kinds::LIST) && !self.items.is_empty() {
            Self::of(self.items)
        } else {
            Self::ANY
        }
    }

    pub fn may_be_boolean(self) -> bool {
        self.kinds.may_be(Kinds::BOOLEAN)
    }

    pub fn may_be_integer(self) -> bool {
        self.kinds.may_be(Kinds::INTEGER)
    }

    pub fn may_be_text(self) -> bool {
        self.kinds.may_be(Kinds::TEXT)
    }

    pub fn may_be_list(self) -> bool {
        self.kinds.may_be(Kinds::LIST)
    }

    /// It is nothing but a type, as in `type(1)`.
    pub(super) fn is_type(self) -> bool {
        self.kinds == Kinds::TYPE
    }

    /// Whether a value of this type may ever be one of the field.
    ///
    /// A list of texts does not fit a list of numbers, although both may be empty: nobody means that.
    pub fn fits(self, field: &FieldDefinition) -> bool {
        let taken = Self::of_field(field);
        // An unsigned number becomes JSON as any whole number does.
        let given = match self.kinds.may_be(Kinds::UNSIGNED) {
            true => self.kinds.or(Kinds::INTEGER),
            false => self.kinds,
        };
        let common = given.and(taken.kinds);
        let only_list = common == Kinds::LIST;
        let items = self.items.is_empty() || self.items.as_stored().may_be(taken.items);
        !common.is_empty() && (!only_list || items)
    }

    pub(super) fn or(self, other: Self) -> Self {
        let items = |one: Self| if one.may_be_list() { one.items } else { Kinds::NONE };
        Self { kinds: self.kinds.or(other.kinds), items: items(self).or(items(other)) }
    }
}

impl Kinds {
    const fn as_stored(self) -> Self {
        if self.may_be(Self::UNSIGNED) { self.or(Self::INTEGER) } else { self }
    }
}

/// The words of `FieldKind::noun`, and some more.
const NOUNS: [(Kinds, &str); 9] = [
    (Kinds::BOOLEAN, "true or false"),
    (Kinds::INTEGER, "a whole number"),
    (Kinds::UNSIGNED, "an unsigned number"),
    (Kinds::FRACTION, "a fractional number"),
    (Kinds::TEXT, "text"),
    (Kinds::LIST, "a list"),
    (Kinds::OBJECT, "an object"),
    (Kinds::TYPE, "a type"),
    (Kinds::NULL, "null"),
];

impl fmt::Display for Kinds {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if Self::JSON.is_within(*self) {
            return formatter.write_str("anything");
        }
        let mut rest = *self;
        let mut words = Vec::new();
        if Self::INTEGER.or(Self::FRACTION).is_within(rest) {
            words.push("a number");
            rest = rest.without(Self::NUMBER);
        }
        words.extend(NOUNS.iter().filter(|(kind, _)| rest.may_be(*kind)).map(|(_, noun)| *noun));
        formatter.write_str(&words.join(" or "))
    }
}

impl fmt::Display for Type {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.kinds.fmt(formatter)
    }
}
