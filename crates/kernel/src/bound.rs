//! How large a context, an assigned value and a payload may be.
//!
//! A context is written whole at every revision and read back before every input, so its bound is the bound of
//! what one input costs. Measuring allocates nothing and is linear in what is measured.

use serde_json::Value;

use crate::conversation::Message;
use crate::input::Fields;

/// The JSON of a context. A person's session takes a few KiB; a hundred times that is a loop that only appends.
pub const CONTEXT_BYTES_MAX: usize = 256 * 1024;
/// Lists and objects within one another. JSON readers commonly give up at 128 levels, and a snapshot wraps a context
/// in some of its own: what is deeper could be written and never be read again.
pub const DEPTH_MAX: usize = 64;

/// # Errors
/// A fragment such as "is nested deeper than 64 levels", to follow the noun of what `fields` is.
pub fn check(fields: &Fields) -> Result<(), String> {
    let mut measure = Measure::default();
    let within = fields.iter().all(|(name, value)| measure.add_text(name) && measure.add(value, 1));
    measure.verdict(within)
}

/// # Errors
/// As `check`.
pub fn check_value(value: &Value) -> Result<(), String> {
    let mut measure = Measure::default();
    let within = measure.add(value, 1);
    measure.verdict(within)
}

/// All that comes with one message. It may wait in a snapshot for an answer, and media that is held waits thirty-fold.
pub const MESSAGE_BYTES_MAX: usize = 32 * 1024;

/// # Errors
/// A fragment such as "has 40000 bytes; 32768 are allowed".
pub fn check_message(message: &Message) -> Result<(), String> {
    let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    let media = message.media.iter().map(|m| m.url.len() + m.kind.len());
    let mut bytes = text(&message.text) + text(&message.payload) + media.sum::<usize>();
    for candidate in &message.candidates {
        check(&candidate.parameters)?;
        bytes += candidate.intent.len() + 16;
    }
    let parameters = message.candidates.iter().map(|c| &c.parameters).chain([&message.parameters]);
    bytes += parameters.filter(|p| !p.is_empty()).map(size).sum::<usize>();
    if bytes <= MESSAGE_BYTES_MAX {
        return Ok(());
    }
    Err(format!("has {bytes} bytes; {MESSAGE_BYTES_MAX} are allowed"))
}

/// About how many bytes the JSON of these has; what is beyond the bound of a context is not counted.
pub(crate) fn size(fields: &Fields) -> usize {
    let mut measure = Measure::default();
    fields.iter().all(|(name, value)| measure.add_text(name) && measure.add(value, 1));
    measure.bytes
}

pub(crate) fn size_of_value(value: &Value) -> usize {
    let mut measure = Measure::default();
    measure.add(value, 1);
    measure.bytes
}

/// What has been counted; each `add` is false as soon as it is too much, and then stops.
#[derive(Default)]
struct Measure {
    bytes: usize,
    too_deep: bool,
}

impl Measure {
    fn add(&mut self, value: &Value, depth: usize) -> bool {
        match value {
            Value::Null | Value::Bool(_) => self.add_bytes(5),
            // The longest number takes 25 bytes; most take few.
            Value::Number(_) => self.add_bytes(8),
            Value::String(text) => self.add_text(text),
            Value::Array(items) => self.descend(depth) && items.iter().all(|item| self.add(item, depth + 1)),
            Value::Object(fields) => {
                let mut entries = fields.iter();
                self.descend(depth)
                    && entries.all(|(name, value)| self.add_text(name) && self.add(value, depth + 1))
            }
        }
    }

    fn descend(&mut self, depth: usize) -> bool {
        self.too_deep = depth > DEPTH_MAX;
        !self.too_deep && self.add_bytes(2)
    }

    /// With its quotes and a comma or colon; what has to be escaped is not counted twice.
    fn add_text(&mut self, text: &str) -> bool {
        self.add_bytes(text.len() + 3)
    }

    fn add_bytes(&mut self, bytes: usize) -> bool {
        self.bytes += bytes;
        self.bytes <= CONTEXT_BYTES_MAX
    }

    fn verdict(&self, within: bool) -> Result<(), String> {
        match (within, self.too_deep) {
            (true, _) => Ok(()),
            (false, true) => Err(format!("is nested deeper than {DEPTH_MAX} levels")),
            (false, false) => Err(format!("is larger than {} KiB", CONTEXT_BYTES_MAX / 1024)),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn nested(levels: usize) -> Value {
        (0..levels).fold(json!(1), |inner, _| json!([inner]))
    }

    #[test]
    fn what_is_nested_deeper_than_the_bound_is_refused() {
        assert_eq!(check_value(&nested(DEPTH_MAX)), Ok(()));
        let problem = "is nested deeper than 64 levels".to_owned();
        assert_eq!(check_value(&nested(DEPTH_MAX + 1)), Err(problem));
        // Deep in the first of many: the walk stops there.
        assert!(check_value(&json!([nested(DEPTH_MAX), 1, 2])).is_err());
    }

    #[test]
    fn what_is_larger_than_the_bound_is_refused_wherever_the_bytes_are() {
        let problem = Err("is larger than 256 KiB".to_owned());
        let half = "x".repeat(CONTEXT_BYTES_MAX / 2 - 64);
        assert_eq!(check_value(&json!([half, half])), Ok(()));
        assert_eq!(check_value(&json!([half, half, half])), problem);
        assert_eq!(check_value(&json!({ "k".repeat(300_000): 1 })), problem);
        assert_eq!(check_value(&json!(vec![0; 40_000])), problem);
        let fields = Fields::from_iter([("a".into(), json!(half)), ("b".into(), json!(half))]);
        assert_eq!(check(&fields), Ok(()));
        let fields = Fields::from_iter([("a".into(), json!([half, half])), ("b".into(), json!(half))]);
        assert_eq!(check(&fields), problem);
    }
}
