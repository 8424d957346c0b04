//! Stories as YAML that a person likes to read: a line for each thing, plain texts where they are safe.

use kernel::input::{CallOutcome, Fields};
use serde_json::Value;

use super::{Act, Beginning, FoundStep, FoundStory, Paths, Unreached};
use crate::story::coverage::covered;

/// Words that YAML, or whoever reads it, may take for something else.
const NO_TEXT: [&str; 9] = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];

/// The whole document, with what is missing from it at its head.
pub(super) fn document(paths: &Paths, machine: &str) -> String {
    let coverage = &paths.coverage;
    let told = |what: &str, elements: &[crate::story::Element]| {
        format!("{} of {} {what}", covered(elements), elements.len())
    };
    let mut text = format!(
        "# The shortest ways that `statewright paths` found: {}, {}.\n",
        told("states", &coverage.states),
        told("transitions", &coverage.transitions)
    );
    if let Some(bound) = &paths.bound {
        text.push_str(&format!("# The search stopped at {bound}; there may be more.\n"));
    }
    if !paths.unreached.is_empty() {
        text.push_str("# Not reached:\n");
        for Unreached { label, line, why, .. } in &paths.unreached {
            text.push_str(&format!("#   line {line}: {label}: {}\n", why.replace('\n', " ")));
        }
    }
    text.push_str(&file(machine, &paths.stories));
    text
}

pub(super) fn file(machine: &str, stories: &[FoundStory]) -> String {
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
        match &story.beginning {
            Beginning::Nothing => {}
            Beginning::Created(context) if context.is_empty() => text.push_str("    given: {}\n"),
            Beginning::Created(context) => {
                text.push_str(&format!("    given: {{ context: {} }}\n", map(context)));
            }
        }
        text.push_str("    steps:\n");
        story.steps.iter().for_each(|step| text.push_str(&self::step(step)));
    }
    text
}

fn step(step: &FoundStep) -> String {
    let mut lines = match &step.act {
        Act::Look => Vec::new(),
        Act::Send(message) => vec![format!("send: {}", sent(message))],
        Act::Wait(delay) => vec![format!("after: {delay}")],
        Act::Event { event, payload } => {
            let mut lines = vec![format!("event: {}", block_scalar(event))];
            if !payload.is_empty() {
                lines.push(format!("payload: {}", map(payload)));
            }
            lines
        }
        Act::Call { id, outcome } => {
            let (key, fields) = match outcome {
                CallOutcome::Done(fields) => ("result", fields),
                CallOutcome::Failed(fields) => ("error", fields),
            };
            vec![format!("call: {}", block_scalar(id)), format!("{key}: {}", map(fields))]
        }
    };
    // A state of that name cannot be expected: the word stands for nothing.
    if step.state != "none" || lines.is_empty() {
        lines.push(format!("expect: {{ state: {} }}", scalar(&step.state)));
    }
    format!("      - {}\n", lines.join("\n        "))
}

fn sent(message: &kernel::conversation::Message) -> String {
    match serde_json::to_value(message) {
        Ok(Value::Object(fields)) => match fields.get("text") {
            Some(Value::String(text)) if fields.len() == 1 => block_scalar(text),
            _ => map(&fields),
        },
        _ => "{}".into(),
    }
}

fn map(fields: &Fields) -> String {
    if fields.is_empty() {
        return "{}".into();
    }
    let entries = fields.iter().map(|(name, value)| format!("{}: {}", scalar(name), flow(value)));
    format!("{{ {} }}", entries.collect::<Vec<_>>().join(", "))
}

fn flow(value: &Value) -> String {
    match value {
        Value::String(text) => scalar(text),
        Value::Array(items) => format!("[{}]", items.iter().map(flow).collect::<Vec<_>>().join(", ")),
        Value::Object(fields) => map(fields),
        other => other.to_string(),
    }
}

/// A text that is safe everywhere, also within brackets.
fn scalar(text: &str) -> String {
    plain(text, |c| c.is_alphanumeric() || " _-./".contains(c))
}

/// A text that ends with its line.
fn block_scalar(text: &str) -> String {
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

/// JSON's way of quoting is YAML's too.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
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
