//! Typing: which operator takes which types, and what it then gives.
//!
//! Owns the refusal of what can never work. Where a value may be of several kinds, one that fits is enough; null
//! among them is left to the evaluation. A mistake that is refused here would otherwise be a guard that is false for
//! ever.

use super::kind::{Kinds, Type};
use super::node::{Arithmetic, Comparison, Conversion, Node, Search};
use super::operate::{disorder, misfit};

const ORDERED: Kinds = Kinds::NUMBER.or(Kinds::TEXT).or(Kinds::BOOLEAN);
const KEYS: Kinds = Kinds::NUMBER.or(Kinds::TEXT).or(Kinds::BOOLEAN);

pub(super) fn arithmetic(operator: Arithmetic, one: Type, two: Type) -> Result<Type, String> {
    let taken = match operator {
        Arithmetic::Add => Kinds::NUMBER.or(Kinds::TEXT).or(Kinds::LIST),
        Arithmetic::Remainder => Kinds::INTEGER.or(Kinds::UNSIGNED),
        _ => Kinds::NUMBER,
    };
    let mut kinds = one.kinds.and(two.kinds).and(taken);
    let signed = Kinds::INTEGER.or(Kinds::FRACTION);
    let mixed = |one: Type, two: Type| one.kinds.may_be(Kinds::FRACTION) && two.kinds.may_be(signed);
    if operator != Arithmetic::Remainder && (mixed(one, two) || mixed(two, one)) {
        kinds = kinds.or(Kinds::FRACTION);
    }
    if kinds.is_empty() {
        let is_number = |side: Type| side.kinds.without(Kinds::NULL).is_within(Kinds::NUMBER);
        let (told_one, told_two) = (one.to_string(), two.to_string());
        return Err(misfit(operator, &told_one, &told_two, is_number(one) && is_number(two)));
    }
    Ok(Type { kinds, items: one.items.or(two.items) })
}

pub(super) fn negation(of: Type) -> Result<Type, String> {
    let kinds = of.kinds.and(Kinds::INTEGER.or(Kinds::FRACTION));
    if kinds.is_empty() {
        return Err(format!("`-` takes a number with a sign, not {of}"));
    }
    Ok(Type::of(kinds))
}

/// Of `!`, `&&`, `||`, the part before `?`, or what a comprehension asks of each item.
pub(super) fn condition(operator: &str, of: Type) -> Result<(), String> {
    if of.may_be_boolean() {
        return Ok(());
    }
    Err(format!("`{operator}` takes what is true or false, not {of}"))
}

pub(super) fn equality(operator: &str, one: Type, two: Type) -> Result<(), String> {
    // Whether a value is null may always be asked.
    let is_null = |side: Type| side.kinds == Kinds::NULL;
    if is_null(one) || is_null(two) || one.kinds.as_compared().may_be(two.kinds.as_compared()) {
        return Ok(());
    }
    Err(format!("`{operator}` compares {one} with {two}, which are never equal"))
}

pub(super) fn order(operator: Comparison, one: Type, two: Type) -> Result<(), String> {
    if one.kinds.as_compared().and(two.kinds.as_compared()).may_be(ORDERED) {
        return Ok(());
    }
    Err(disorder(operator, &one.to_string(), &two.to_string()))
}

pub(super) fn membership(wanted: Type, place: Type) -> Result<(), String> {
    if place.kinds.may_be(Kinds::OBJECT) && wanted.kinds.may_be(KEYS) {
        return Ok(());
    }
    if !place.kinds.may_be(Kinds::LIST.or(Kinds::OBJECT)) {
        return Err(format!("`in` looks into a list or an object, not {place}"));
    }
    if !place.kinds.may_be(Kinds::LIST) {
        return Err(format!("{wanted} cannot be a key of an object, so `in` never finds it"));
    }
    let items = place.items.as_compared();
    // Of what may be in `[]` nothing is known.
    if place.items.is_empty() || wanted.kinds.as_compared().may_be(items) {
        return Ok(());
    }
    Err(format!("`in` looks for {wanted} in a list whose items are {}, and never finds it", place.items))
}

pub(super) fn selection(of: &Node, whole: Type, name: &str) -> Result<Type, String> {
    if whole.kinds.may_be(Kinds::OBJECT) {
        return Ok(Type::ANY);
    }
    Err(format!("{of} is {whole} and has no field `{name}`"))
}

pub(super) fn indexing(of: &Node, whole: Type, index: Type) -> Result<Type, String> {
    if !whole.kinds.may_be(Kinds::LIST.or(Kinds::OBJECT)) {
        return Err(format!("{of} is {whole}; only lists and objects have [...]"));
    }
    let list = whole.kinds.may_be(Kinds::LIST) && index.kinds.may_be(Kinds::NUMBER);
    let object = whole.kinds.may_be(Kinds::OBJECT) && index.kinds.may_be(KEYS);
    match (list, object) {
        (true, false) => Ok(whole.item()),
        (_, true) => Ok(Type::ANY),
        (false, false) => Err(format!("{of} is {whole}, which {index} is no place in")),
    }
}

pub(super) fn conversion(kind: Conversion, of: Type) -> Result<Type, String> {
    let (taken, given) = match kind {
        Conversion::Size => (Kinds::TEXT.or(Kinds::LIST).or(Kinds::OBJECT), Kinds::INTEGER),
        Conversion::Int => (Kinds::NUMBER.or(Kinds::TEXT), Kinds::INTEGER),
        Conversion::UInt => (Kinds::NUMBER.or(Kinds::TEXT), Kinds::UNSIGNED),
        Conversion::Double => (Kinds::NUMBER.or(Kinds::TEXT), Kinds::FRACTION),
        Conversion::String => (Kinds::NUMBER.or(Kinds::TEXT).or(Kinds::BOOLEAN), Kinds::TEXT),
        Conversion::Bool => (Kinds::BOOLEAN.or(Kinds::TEXT), Kinds::BOOLEAN),
        Conversion::Type => (Kinds::ANY, Kinds::TYPE),
        Conversion::Dyn | Conversion::Fraction => (Kinds::ANY, Kinds::ANY),
    };
    if !of.kinds.may_be(taken) {
        return Err(match kind {
            Conversion::Size => format!("size() takes text, a list or an object, not {of}"),
            _ => format!("{}() cannot be made of {of}", kind.name()),
        });
    }
    Ok(Type::of(given))
}

pub(super) fn search(kind: Search, text: Type, wanted: Type) -> Result<(), String> {
    if text.kinds.may_be(Kinds::TEXT) && wanted.kinds.may_be(Kinds::TEXT) {
        return Ok(());
    }
    Err(format!("{}() searches text for text, not {text} for {wanted}", kind.name()))
}

pub(super) fn matching(text: Type) -> Result<(), String> {
    if text.kinds.may_be(Kinds::TEXT) {
        return Ok(());
    }
    Err(format!("matches() takes text, not {text}"))
}

/// The type of a comprehension's variable.
pub(super) fn iteration(of: &Node, range: Type) -> Result<Type, String> {
    if !range.kinds.may_be(Kinds::LIST.or(Kinds::OBJECT)) {
        return Err(format!("{of} is {range}, not a list or an object"));
    }
    // Of an object, the keys are gone through.
    Ok(if range.kinds.may_be(Kinds::OBJECT) { Type::ANY } else { range.item() })
}
