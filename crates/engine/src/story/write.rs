//! Stories as YAML that a person likes to read: a line for each thing, plain texts where they are safe.
//!
//! Owns how a file and its values are written. What is in a story is for whoever has one to tell: `paths` finds some,
//! `session` has lived one.

use kernel::conversation::Message;
use kernel::input::Fields;
use serde_json::Value;

use super::file::MESSAGE_KEYS;

/// Words that YAML, or whoever reads it, may take for something else.
const NO_TEXT: [&str; 9] = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];

/// A story whose parts are written already.
pub(super) struct WrittenStory {
    pub name: String,
    /// A map, if there is anything to say of the beginning.
    pub given: Option<String>,
    /// For each step its lines, a key and its value each.
    pub steps: Vec<Vec<String>>,
}

pub(super) fn file(machine: &str, stories: &[WrittenStory]) -> String {
    let mut text = format!("machine: {}\n\nstories:", block_scalar(machine));
    if stories.is_empty() {
        text.push_str(" []");
    }
    text.push('\n');
    for (number, story) in stories.iter().enumerate() {
        if number > 0 {
            text.push('\n');
        }
        text.push_str(&format!("  - story: {}\n", block_scalar(&story.name)));
        if let Some(given) = &story.given {
            text.push_str(&format!("    given: {given}\n"));
        }
        text.push_str("    steps:\n");
        for lines in &story.steps {
            text.push_str(&format!("      - {}\n", lines.join("\n        ")));
        }
    }
    text
}

/// What `send` says: a text, or a map.
pub(super) fn message(message: &Message) -> String {
    let fields = fields(message);
    match fields.get("text") {
        Some(Value::String(text)) if fields.len() == 1 => block_scalar(text),
        _ => map(&fields),
    }
}

/// Those fields of a message that a story may have.
pub(super) fn fields(message: &Message) -> Fields {
    let Ok(Value::Object(mut fields)) = serde_json::to_value(message) else { return Fields::new() };
    fields.retain(|name, _| MESSAGE_KEYS.contains(&name.as_str()));
    fields
}

/// A map of values that are written already, in this order.
pub(super) fn entries(entries: &[(&str, String)]) -> String {
    if entries.is_empty() {
        return "{}".into();
    }
    let entries = entries.iter().map(|(name, value)| format!("{name}: {value}"));
    format!("{{ {} }}", entries.collect::<Vec<_>>().join(", "))
}

/// A list of texts; one alone needs no brackets, unless it would stand for nothing.
pub(super) fn texts(texts: &[&str]) -> String {
    match texts {
        [] => "none".into(),
        [one] if *one != "none" => scalar(one),
        several => format!("[{}]", several.iter().map(|text| scalar(text)).collect::<Vec<_>>().join(", ")),
    }
}

pub(super) fn map(fields: &Fields) -> String {
    if fields.is_empty() {
        return "{}".into();
    }
    let entries = fields.iter().map(|(name, value)| format!("{}: {}", scalar(name), flow(value)));
    format!("{{ {} }}", entries.collect::<Vec<_>>().join(", "))
}

pub(super) fn flow(value: &Value) -> String {
    match value {
        Value::String(text) => scalar(text),
        Value::Array(items) => format!("[{}]", items.iter().map(flow).collect::<Vec<_>>().join(", ")),
        Value::Object(fields) => map(fields),
        other => other.to_string(),
    }
}

/// A text that is safe everywhere, also within brackets.
pub(super) fn scalar(text: &str) -> String {
    plain(text, |c| c.is_alphanumeric() || " _-./".contains(c))
}

/// A text that ends with its line.
pub(super) fn block_scalar(text: &str) -> String {
    let safe = |c: char| !c.is_control() && !matches!(c, '#' | '\u{2028}' | '\u{2029}' | '\u{feff}');
    match text.contains(": ") || text.ends_with(':') {
        true => quoted(text),
        false => plain(text, safe),
    }
}

fn plain(text: &str, safe: impl Fn(char) -> bool) -> String {
    let begins = text.starts_with(|c: char| c.is_alphabetic());
    let word = NO_TEXT.contains(&text.to_lowercase().as_str());
    match begins && !word && !text.ends_with(' ') && text.chars().all(safe) {
        true => text.to_owned(),
        false => quoted(text),
    }
}

/// JSON's way of quoting is YAML's too, but for what YAML wants escaped and JSON does not.
fn quoted(text: &str) -> String {
    let special = |c: char| {
        c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}')
    };
    let escaped = |c: char| if special(c) { format!("\\u{:04x}", u32::from(c)) } else { c.to_string() };
    Value::from(text).to_string().chars().map(escaped).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;
    use kernel::definition::document;

    #[test]
    fn every_value_is_read_back_as_it_was() {
        let texts = [
            "plain words",
            "yes",
            "null",
            "",
            " led by a space",
            "ends: ",
            "a: b",
            "a #b",
            "1",
            "-",
            "- a",
            "two\nlines",
            "é",
            "\"quoted\"",
            "it's",
            "{a}",
            "[x]",
            "a,b",
            "ends with:",
            "*",
            "&a",
            "~",
            "0x1F",
            "\u{feff}",
            "none",
            "\u{7f}\u{85}\u{2028}\u{ffff}",
            "👷🏽\u{200d}♀️ à",
        ];
        for text in texts {
            let source = format!("a: {}\nb: {{ k: {} }}\n", block_scalar(text), scalar(text));
            let read = document::read(&source).unwrap().to_json();
            assert_eq!(read, serde_json::json!({"a": text, "b": {"k": text}}), "{source}");
        }
        let value = serde_json::json!({"a b": [1, -1, 1.5, true, null, {"c": [], "d": {}}], "e": "x"});
        let read = document::read(&flow(&value)).unwrap().to_json();
        assert_eq!(read, value);
    }
}
