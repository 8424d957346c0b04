//! Operators and functions over values, as CEL defines them.
//!
//! Owns arithmetic, order, concatenation and conversions. Whole numbers and fractions are calculated with as fractions,
//! which CEL leaves undefined; whatever could overflow is an error. Nothing here evaluates a node.

use std::rc::Rc;

use super::datum::Datum;
use super::failure::{Failure, Outcome};
use super::fuel::Fuel;
use super::node::{Arithmetic, Comparison, Conversion, Search};

/// Making a text or list asks for memory.
const ALLOCATION_STEPS: u32 = 4;

pub(super) fn calculate<'a>(
    operator: Arithmetic,
    one: Datum<'a>,
    two: Datum<'a>,
    fuel: &mut Fuel,
) -> Outcome<Datum<'a>> {
    match (&one, &two) {
        (Datum::Int(a), Datum::Int(b)) => {
            let result = operator.checked(*a, *b);
            result.map(Datum::Int).ok_or_else(|| out_of_range(operator, *b == 0, a, b))
        }
        (Datum::UInt(a), Datum::UInt(b)) => {
            let result = match operator {
                Arithmetic::Add => a.checked_add(*b),
                Arithmetic::Subtract => a.checked_sub(*b),
                Arithmetic::Multiply => a.checked_mul(*b),
                Arithmetic::Divide => a.checked_div(*b),
                Arithmetic::Remainder => a.checked_rem(*b),
            };
            result.map(Datum::UInt).ok_or_else(|| out_of_range(operator, *b == 0, a, b))
        }
        (Datum::Double(a), Datum::Double(b)) if operator != Arithmetic::Remainder => {
            Ok(Datum::Double(operator.of_fractions(*a, *b)))
        }
        // CEL has no such sum. JSON knows one kind of number only, and its writers drop a fraction that is nought.
        (Datum::Int(a), Datum::Double(b)) if operator != Arithmetic::Remainder => {
            Ok(Datum::Double(operator.of_fractions(*a as f64, *b)))
        }
        (Datum::Double(a), Datum::Int(b)) if operator != Arithmetic::Remainder => {
            Ok(Datum::Double(operator.of_fractions(*a, *b as f64)))
        }
        _ if operator == Arithmetic::Add => concatenate(one, two, fuel),
        _ => Err(unfit(operator, &one, &two)),
    }
}

#[cold]
fn out_of_range(
    operator: Arithmetic,
    by_zero: bool,
    one: &dyn std::fmt::Display,
    two: &dyn std::fmt::Display,
) -> Failure {
    let symbol = operator.symbol();
    if by_zero && matches!(operator, Arithmetic::Divide | Arithmetic::Remainder) {
        return Failure::told(format!("{one} {symbol} {two} divides by zero"));
    }
    Failure::told(format!("{one} {symbol} {two} is outside of what a whole number can be"))
}

#[cold]
fn unfit(operator: Arithmetic, one: &Datum<'_>, two: &Datum<'_>) -> Failure {
    Failure::told(misfit(operator, &one.told(), &two.told(), [one, two].iter().all(|d| is_number(d))))
}

fn is_number(datum: &Datum<'_>) -> bool {
    super::kind::Kinds::NUMBER.may_be(datum.kind())
}

/// What is said of operands that do not go together, when an expression is read as when it runs.
pub(super) fn misfit(operator: Arithmetic, one: &str, two: &str, numbers: bool) -> String {
    let symbol = operator.symbol();
    let takes = match operator {
        Arithmetic::Remainder => "two whole numbers",
        _ if numbers => "two signed or two unsigned numbers",
        Arithmetic::Add => "two numbers, two texts or two lists",
        _ => "two numbers",
    };
    let convert = match numbers && operator != Arithmetic::Remainder {
        true => "; convert one with int()",
        false => "",
    };
    format!("`{symbol}` takes {takes}, not {one} and {two}{convert}")
}

fn concatenate<'a>(one: Datum<'a>, two: Datum<'a>, fuel: &mut Fuel) -> Outcome<Datum<'a>> {
    if let (Some(start), Some(end)) = (one.as_text(), two.as_text()) {
        fuel.spend(ALLOCATION_STEPS)?;
        fuel.spend_bytes(2 * (start.len() + end.len()))?;
        return Ok(Datum::made_text([start, end].concat()));
    }
    let lists = !is_object(&one) && !is_object(&two);
    let (Some(more), true) = (two.items(), lists && one.length().is_some()) else {
        return Err(unfit(Arithmetic::Add, &one, &two));
    };
    fuel.spend(ALLOCATION_STEPS)?;
    fuel.spend_many(two.length().unwrap_or_default())?;
    // A list that nobody else sees is extended in place, so that a chain of additions copies nothing twice.
    let mut list = match one {
        Datum::MadeList(items) if Rc::strong_count(&items) == 1 => Rc::unwrap_or_clone(items),
        other => {
            fuel.spend_many(other.length().unwrap_or_default())?;
            other.items().into_iter().flatten().collect()
        }
    };
    list.extend(more);
    Ok(Datum::made_list(list))
}

fn is_object(datum: &Datum<'_>) -> bool {
    matches!(datum, Datum::Fields(_) | Datum::MadeMap(_))
}

pub(super) fn compare(
    operator: Comparison,
    one: &Datum<'_>,
    two: &Datum<'_>,
    fuel: &mut Fuel,
) -> Outcome<bool> {
    let order = match (one, two) {
        (Datum::Int(a), Datum::Int(b)) => Some(a.cmp(b)),
        (Datum::Bool(a), Datum::Bool(b)) => Some(a.cmp(b)),
        _ => match (one.as_text(), two.as_text()) {
            (Some(a), Some(b)) => {
                fuel.spend_bytes(a.len().min(b.len()))?;
                Some(a.cmp(b))
            }
            _ => one.compare_numbers(two),
        },
    };
    let Some(order) = order else {
        return Err(Failure::told(disorder(operator, &one.told(), &two.told())));
    };
    Ok(operator.holds(order))
}

pub(super) fn disorder(operator: Comparison, one: &str, two: &str) -> String {
    format!("`{}` compares two numbers, two texts or two booleans, not {one} and {two}", operator.symbol())
}

pub(super) fn search(kind: Search, text: &Datum<'_>, wanted: &Datum<'_>, fuel: &mut Fuel) -> Outcome<bool> {
    let (Some(text), Some(wanted)) = (text.as_text(), wanted.as_text()) else {
        let (text, wanted) = (text.told(), wanted.told());
        return Err(Failure::told(format!(
            "{}() searches text for text, not {text} for {wanted}",
            kind.name()
        )));
    };
    match kind {
        Search::Contains => {
            // Preparing a search and searching both take longer than comparing.
            fuel.spend(ALLOCATION_STEPS)?;
            fuel.spend_many((text.len() + wanted.len()) / 8)?;
            Ok(text.contains(wanted))
        }
        Search::StartsWith => {
            fuel.spend_bytes(wanted.len())?;
            Ok(text.starts_with(wanted))
        }
        Search::EndsWith => {
            fuel.spend_bytes(wanted.len())?;
            Ok(text.ends_with(wanted))
        }
    }
}

pub(super) fn convert<'a>(kind: Conversion, value: Datum<'a>, fuel: &mut Fuel) -> Outcome<Datum<'a>> {
    let converted = match kind {
        Conversion::Dyn => return Ok(value),
        Conversion::Fraction => {
            return Ok(match value {
                Datum::Int(int) => Datum::Double(int as f64),
                other => other,
            });
        }
        Conversion::Type => return Ok(Datum::Type(value.type_name())),
        Conversion::Size => size(&value, fuel)?,
        Conversion::Int => to_int(&value, fuel)?,
        Conversion::UInt => to_uint(&value, fuel)?,
        Conversion::Double => to_double(&value, fuel)?,
        Conversion::String => return to_text(value, fuel),
        Conversion::Bool => to_bool(&value),
    };
    converted.ok_or_else(|| {
        let name = kind.name();
        Failure::told(match kind {
            Conversion::Size => format!("size() takes text, a list or an object, not {}", value.told()),
            _ => format!("{name}() cannot be made of {}", value.told()),
        })
    })
}

/// Texts are measured in characters.
fn size<'a>(value: &Datum<'a>, fuel: &mut Fuel) -> Outcome<Option<Datum<'a>>> {
    let size = match value.as_text() {
        Some(text) => {
            fuel.spend_bytes(text.len())?;
            Some(text.chars().count())
        }
        None => value.length(),
    };
    Ok(size.map(|size| Datum::Int(i64::try_from(size).unwrap_or(i64::MAX))))
}

/// Reading a number takes long for a long text, most of all for a fraction.
fn parse<T: std::str::FromStr>(text: &str, fuel: &mut Fuel) -> Outcome<Option<T>> {
    fuel.spend_many(4 + if text.len() > 24 { text.len() * 4 } else { 0 })?;
    Ok(text.parse().ok())
}

fn to_int<'a>(value: &Datum<'a>, fuel: &mut Fuel) -> Outcome<Option<Datum<'a>>> {
    let int = match value {
        Datum::Int(int) => Some(*int),
        Datum::UInt(unsigned) => i64::try_from(*unsigned).ok(),
        // CEL leaves out both ends, of which one is no whole number and the other might have been rounded to it.
        Datum::Double(double) if *double > i64::MIN as f64 && *double < i64::MAX as f64 => {
            Some(*double as i64)
        }
        other => match other.as_text() {
            Some(text) => parse(text, fuel)?,
            None => None,
        },
    };
    Ok(int.map(Datum::Int))
}

fn to_uint<'a>(value: &Datum<'a>, fuel: &mut Fuel) -> Outcome<Option<Datum<'a>>> {
    let unsigned = match value {
        Datum::Int(int) => u64::try_from(*int).ok(),
        Datum::UInt(unsigned) => Some(*unsigned),
        Datum::Double(double) if *double >= 0.0 && *double < u64::MAX as f64 => Some(*double as u64),
        other => match other.as_text() {
            Some(text) => parse(text, fuel)?,
            None => None,
        },
    };
    Ok(unsigned.map(Datum::UInt))
}

fn to_double<'a>(value: &Datum<'a>, fuel: &mut Fuel) -> Outcome<Option<Datum<'a>>> {
    let double = match value {
        Datum::Int(int) => Some(*int as f64),
        Datum::UInt(unsigned) => Some(*unsigned as f64),
        Datum::Double(double) => Some(*double),
        other => match other.as_text() {
            Some(text) => parse(text, fuel)?,
            None => None,
        },
    };
    Ok(double.map(Datum::Double))
}

fn to_bool<'a>(value: &Datum<'a>) -> Option<Datum<'a>> {
    if let Datum::Bool(b) = value {
        return Some(Datum::Bool(*b));
    }
    match value.as_text()? {
        "1" | "t" | "true" | "TRUE" | "True" => Some(Datum::Bool(true)),
        "0" | "f" | "false" | "FALSE" | "False" => Some(Datum::Bool(false)),
        _ => None,
    }
}

fn to_text<'a>(value: Datum<'a>, fuel: &mut Fuel) -> Outcome<Datum<'a>> {
    let text = match &value {
        Datum::Text(_) | Datum::MadeText(_) => return Ok(value),
        Datum::Bool(b) => return Ok(Datum::Text(if *b { "true" } else { "false" })),
        Datum::Int(int) => int.to_string(),
        Datum::UInt(unsigned) => unsigned.to_string(),
        Datum::Double(double) => {
            fuel.spend(4 * ALLOCATION_STEPS)?;
            double.to_string()
        }
        other => return Err(Failure::told(format!("string() cannot be made of {}", other.told()))),
    };
    fuel.spend(2 * ALLOCATION_STEPS)?;
    Ok(Datum::made_text(text))
}
