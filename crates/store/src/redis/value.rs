//! What a server answers, taken apart.

use redis::Value;

use crate::redis::failure::Failure;

/// The parts of a list.
pub(super) fn list(value: Value) -> Result<Vec<Value>, Failure> {
    match value {
        Value::Array(parts) => Ok(parts),
        other => Err(Failure::strange(&format!("{other:?} is no list"))),
    }
}

pub(super) fn parts<const N: usize>(value: Value) -> Result<[Value; N], Failure> {
    let parts = list(value)?;
    let count = parts.len();
    parts.try_into().map_err(|_| Failure::strange(&format!("{count} parts, not {N}")))
}

/// Nothing, or the bytes of a text.
pub(super) fn optional_bytes(value: Value) -> Result<Option<Vec<u8>>, Failure> {
    match value {
        Value::Nil => Ok(None),
        Value::BulkString(bytes) => Ok(Some(bytes)),
        Value::SimpleString(text) => Ok(Some(text.into_bytes())),
        other => Err(Failure::strange(&format!("{other:?} is no text"))),
    }
}

pub(super) fn bytes(value: Value) -> Result<Vec<u8>, Failure> {
    optional_bytes(value)?.ok_or_else(|| Failure::strange("a text is missing"))
}

pub(super) fn optional_text(value: Value) -> Result<Option<String>, Failure> {
    let bytes = optional_bytes(value)?;
    bytes
        .map(|bytes| String::from_utf8(bytes).map_err(|_| Failure::strange("bytes that are no text")))
        .transpose()
}

pub(super) fn text(value: Value) -> Result<String, Failure> {
    optional_text(value)?.ok_or_else(|| Failure::strange("a text is missing"))
}

/// A number, or the text of one; scores have a fraction at times.
pub(super) fn number(value: Value) -> Result<i64, Failure> {
    if let Value::Int(number) = value {
        return Ok(number);
    }
    let text = text(value)?;
    let parsed = text.parse().or_else(|_| text.parse::<f64>().map(|number| number as i64));
    parsed.map_err(|_| Failure::strange(&format!("`{text}` is no number")))
}

/// The parts of a list of pairs: a hash, or what has scores.
pub(super) fn pairs(value: Value) -> Result<Vec<(Value, Value)>, Failure> {
    let mut all = list(value)?.into_iter();
    let mut pairs = Vec::with_capacity(all.len() / 2);
    while let (Some(first), Some(second)) = (all.next(), all.next()) {
        pairs.push((first, second));
    }
    Ok(pairs)
}
