//! Reading providers' JSON by JSON pointer, where most members are optional and any may be of another type than
//! documented.
//!
//! Errors here are fragments about one message; whoever reads a batch puts them into `skipped`.

use kernel::id::{InputKey, Subject};
use kernel::input::Fields;
use kernel::time::Timestamp;
use serde_json::{Number, Value};

use super::DecodeError;

/// # Errors
/// `NotAnObject`, with the parser's reason.
pub fn object(body: &[u8]) -> Result<Value, DecodeError> {
    let not_an_object = |because: String| DecodeError::NotAnObject { because };
    let value: Value = serde_json::from_slice(body).map_err(|error| not_an_object(error.to_string()))?;
    if value.is_object() { Ok(value) } else { Err(not_an_object("it is another JSON value".to_owned())) }
}

/// A text that is there and not empty.
pub fn text<'a>(value: &'a Value, pointer: &str) -> Option<&'a str> {
    value.pointer(pointer)?.as_str().filter(|text| !text.is_empty())
}

/// `text` as an own string.
pub fn owned(value: &Value, pointer: &str) -> Option<String> {
    text(value, pointer).map(str::to_owned)
}

/// # Errors
/// Names the member.
pub fn required<'a>(value: &'a Value, pointer: &str) -> Result<&'a str, String> {
    text(value, pointer).ok_or_else(|| format!("`{}` is missing or no text", dotted(pointer)))
}

/// An identifier that the provider writes as a whole number.
///
/// # Errors
/// Names the member.
pub fn whole_number(value: &Value, pointer: &str) -> Result<i64, String> {
    let number = value.pointer(pointer).and_then(Value::as_i64);
    number.ok_or_else(|| format!("`{}` is missing or no whole number", dotted(pointer)))
}

/// The elements of an array; none where there is no such array.
pub fn array<'a>(value: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> {
    value.pointer(pointer).and_then(Value::as_array).into_iter().flatten()
}

/// Seconds since 1970 as a number or as its digits, with or without a fraction. What cannot be read is no time: a
/// message is worth more than its date.
pub fn seconds(value: &Value, pointer: &str) -> Option<Timestamp> {
    let written = match value.pointer(pointer)? {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    let (whole, fraction) = written.split_once('.').unwrap_or((&written, ""));
    let whole: i64 = whole.parse().ok().filter(|seconds| *seconds > 0)?;
    let thousandths: i64 = format!("{fraction:0<3}").get(..3)?.parse().ok()?;
    Some(Timestamp::from_millis(whole.checked_mul(1_000)?.checked_add(thousandths)?))
}

/// Latitude and longitude, as the parameters of those names.
///
/// # Errors
/// Names the member that is no such angle.
pub fn location(latitude: &Value, longitude: &Value) -> Result<Fields, String> {
    let mut fields = Fields::new();
    for (value, field, limit) in [(latitude, "latitude", 90.0), (longitude, "longitude", 180.0)] {
        let degrees =
            degrees(value, limit).ok_or_else(|| format!("`{field}` is no angle of up to {limit}"))?;
        fields.insert(field.to_owned(), Value::Number(degrees));
    }
    Ok(fields)
}

/// A number from `-limit` to `limit`, or the digits of one.
pub fn degrees(value: &Value, limit: f64) -> Option<Number> {
    let degrees = value.as_f64().or_else(|| value.as_str()?.parse().ok())?;
    Number::from_f64(degrees).filter(|_| degrees.abs() <= limit)
}

/// # Errors
/// Says why it can be no key.
pub fn key(text: &str) -> Result<InputKey, String> {
    InputKey::parse(text)
}

/// What is quoted only says that something is; one that can be no key is left out.
pub fn quoted(text: Option<&str>) -> Option<InputKey> {
    InputKey::parse(text?).ok()
}

/// An address becomes a subject, so it is held to what a subject may be.
///
/// # Errors
/// Says why it can be none.
pub fn user(text: String) -> Result<String, String> {
    Subject::parse(&text).map(|_| text)
}

fn dotted(pointer: &str) -> String {
    pointer.trim_start_matches('/').replace('/', ".")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn seconds_are_read_in_every_way_they_are_written() {
        for (written, ms) in [
            (json!("1749416383"), Some(1_749_416_383_000)),
            (json!(1_749_416_383), Some(1_749_416_383_000)),
            (json!("1355517523.000005"), Some(1_355_517_523_000)),
            (json!("1355517523.25"), Some(1_355_517_523_250)),
            (json!(1.5), Some(1_500)),
            (json!("0"), None),
            (json!("-1"), None),
            (json!("soon"), None),
            (json!("1.x"), None),
            (json!(i64::MAX), None),
            (json!(null), None),
            (json!("1.0é0"), None),
        ] {
            let read = seconds(&json!({"at": written}), "/at");
            assert_eq!(read, ms.map(Timestamp::from_millis), "{written}");
        }
    }

    #[test]
    fn places_beyond_the_earth_are_refused() {
        let place = |latitude: Value, longitude: Value| location(&latitude, &longitude);
        let expected = json!({"latitude": -90.0, "longitude": 12.5});
        assert_eq!(Ok(expected), place(json!(-90), json!("12.5")).map(Value::Object));
        assert_eq!(place(json!(90.1), json!(0)), Err("`latitude` is no angle of up to 90".to_owned()));
        assert_eq!(place(json!(0), json!("NaN")), Err("`longitude` is no angle of up to 180".to_owned()));
    }
}
