//! A definition with some settings of its conversation changed, as if its author had written it so.
//!
//! Owns what may be changed by name, and how. Whether a value is good is for the definition's own reader to say: the
//! changed text is loaded like any other.

use serde_json::Value;

use crate::conversation::definition::{CLARIFICATION_KEYS, DRAFT_KEYS, INTENT_KEYS, KEYS, THRESHOLD_KEYS};
use crate::definition::document::{Node, NodeKind, Placed};
use crate::definition::{is_error, load, overlay};
use crate::diagnostic::{Place, nearest};
use crate::machine::Machine;

/// The machine of `source` with each setting, a path within `conversation` such as `thresholds.confidence`, at its value.
///
/// # Errors
/// What is wrong with the names or the values, each with a remedy.
pub fn load_with(source: &str, settings: &[(String, Value)]) -> Result<Machine, Vec<String>> {
    let told = |d: &crate::diagnostic::Diagnostic| format!("{}; {}", d.message, d.help);
    let (mut node, _) = overlay::read(source).map_err(|diagnostic| vec![told(&diagnostic)])?;
    let Some(conversation) = entry(&mut node, "conversation") else {
        return Err(vec!["the definition has no `conversation`, so there is nothing to set".to_owned()]);
    };
    let mut problems = Vec::new();
    for (path, value) in settings {
        let set = check(conversation, path).and_then(|()| set(conversation, path, path, value));
        problems.extend(set.err());
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let mut text = String::new();
    write(&node, &mut text);
    let (machine, diagnostics) = load(&text);
    machine.ok_or_else(|| diagnostics.iter().filter(|d| is_error(d)).map(told).collect())
}

fn entry<'n>(node: &'n mut Node, key: &str) -> Option<&'n mut Node> {
    match &mut node.kind {
        NodeKind::Map(entries) => {
            entries.iter_mut().find(|(name, _)| name.value == key).map(|(_, node)| node)
        }
        _ => None,
    }
}

/// Whether there is a setting of this name; what an intent or a reply is called is the author's choice.
fn check(conversation: &mut Node, path: &str) -> Result<(), String> {
    let parts: Vec<&str> = path.split('.').collect();
    let known = match parts[..] {
        ["thresholds", name] => THRESHOLD_KEYS.contains(&name),
        ["clarification", name] => CLARIFICATION_KEYS.contains(&name),
        ["draft", name] => DRAFT_KEYS.contains(&name),
        ["intents", intent, name, ..] if INTENT_KEYS.contains(&name) => {
            let intents = entry(conversation, "intents").map(|node| &node.kind);
            let Some(NodeKind::Map(intents)) = intents else { return Err("there are no intents".to_owned()) };
            if !intents.iter().any(|(name, _)| name.value == intent) {
                let help = nearest(intent, intents.iter().map(|(name, _)| name.value.as_str()));
                return Err(format!("there is no intent `{intent}`; {help}"));
            }
            true
        }
        ["replies", _, ..] => true,
        ["locales" | "ladder"] => true,
        _ => false,
    };
    known
        .then_some(())
        .ok_or_else(|| format!("there is no setting `{path}`; there are {}", names().join(", ")))
}

/// Every setting that there is.
fn names() -> Vec<String> {
    let within = |section: &str, keys: &[&str]| -> Vec<String> {
        keys.iter().map(|key| format!("{section}.{key}")).collect()
    };
    let names = KEYS.iter().map(|key| match *key {
        "thresholds" => within(key, &THRESHOLD_KEYS),
        "clarification" => within(key, &CLARIFICATION_KEYS),
        "draft" => within(key, &DRAFT_KEYS),
        "intents" => within("intents.NAME", &INTENT_KEYS),
        "replies" => vec!["replies.NAME".to_owned()],
        other => vec![other.to_owned()],
    });
    names.flatten().collect()
}

fn set(node: &mut Node, whole: &str, path: &str, value: &Value) -> Result<(), String> {
    let (key, rest) = path.split_once('.').map_or((path, None), |(key, rest)| (key, Some(rest)));
    if matches!(node.kind, NodeKind::Null) {
        node.kind = NodeKind::Map(Vec::new());
    }
    let NodeKind::Map(entries) = &mut node.kind else {
        return Err(format!("`{whole}` cannot be set: `{key}` is to be set within {}", node.noun()));
    };
    let at = match entries.iter().position(|(name, _)| name.value == key) {
        Some(at) => at,
        None => {
            let key = Placed { value: key.to_owned(), place: Place::START };
            entries.push((key, Node { kind: NodeKind::Null, place: Place::START }));
            entries.len() - 1
        }
    };
    let found = &mut entries[at].1;
    match rest {
        Some(rest) => set(found, whole, rest, value),
        None => {
            *found = node_of(value);
            Ok(())
        }
    }
}

fn node_of(value: &Value) -> Node {
    let kind = match value {
        Value::Null => NodeKind::Null,
        Value::Bool(value) => NodeKind::Bool(*value),
        Value::Number(number) => match number.as_i64() {
            Some(whole) => NodeKind::Int(whole),
            None => NodeKind::Float(number.as_f64().unwrap_or_default()),
        },
        Value::String(text) => NodeKind::Text(text.clone()),
        Value::Array(items) => NodeKind::List(items.iter().map(node_of).collect()),
        Value::Object(fields) => {
            let placed = |name: &String| Placed { value: name.clone(), place: Place::START };
            NodeKind::Map(fields.iter().map(|(name, value)| (placed(name), node_of(value))).collect())
        }
    };
    Node { kind, place: Place::START }
}

/// As JSON, with the entries of maps in their order: which of two transitions is taken depends on it.
fn write(node: &Node, text: &mut String) {
    match &node.kind {
        NodeKind::List(items) => {
            text.push('[');
            for (number, item) in items.iter().enumerate() {
                text.push_str(if number > 0 { "," } else { "" });
                write(item, text);
            }
            text.push(']');
        }
        NodeKind::Map(entries) => {
            text.push('{');
            for (number, (key, value)) in entries.iter().enumerate() {
                text.push_str(if number > 0 { "," } else { "" });
                write_text(&key.value, text);
                text.push_str(": ");
                write(value, text);
            }
            text.push('}');
        }
        NodeKind::Text(value) => write_text(value, text),
        _ => text.push_str(&node.to_json().to_string()),
    }
}

/// YAML wants more escaped than JSON does.
fn write_text(value: &str, text: &mut String) {
    for c in Value::from(value).to_string().chars() {
        match c {
            '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}' => {
                text.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            c if c.is_control() => text.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => text.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use serde_json::json;

    use super::*;
    use crate::conversation::Confidence;

    const SOURCE: &str = "
machine: m
initial: b
states:
  b: { on: { z: a, go: [{ guard: 'true', target: a }, b] } }
  a: {}
conversation:
  intents:
    go: { priority: P1, event: go, phrases: [go] }
    z: { priority: P1, event: z, phrases: [\"it's \\x85 z\"] }
  replies:
    hello: Hello
";

    fn with(path: &str, value: Value) -> Result<Machine, Vec<String>> {
        load_with(SOURCE, &[(path.to_owned(), value)])
    }

    #[test]
    fn setting_is_changed_and_all_else_stays_in_its_order() {
        let (was, _) = load(SOURCE);
        let (was, is) = (was.unwrap(), with("thresholds.confidence", json!(0.65)).unwrap());
        let thresholds = is.conversation.as_ref().unwrap().thresholds;
        assert_eq!(thresholds.confidence, Confidence::basis_points(6_500));
        assert_ne!(was.hash, is.hash);
        assert_eq!(format!("{:?}", was.chart.states.len()), format!("{:?}", is.chart.states.len()));
        let paths =
            |machine: &Machine| machine.chart.states.iter().map(|s| s.path.clone()).collect::<Vec<_>>();
        assert_eq!(paths(&was), paths(&is));
        let phrases = |machine: &Machine| {
            let intents = &machine.conversation.as_ref().unwrap().intents;
            intents.iter().map(|i| (i.name.clone(), i.phrases.clone())).collect::<Vec<_>>()
        };
        assert_eq!(phrases(&was), phrases(&is));
        for (path, value) in [
            ("clarification.expires_after", json!("1m")),
            ("ladder", json!(["menu"])),
            ("intents.go.phrases", json!(["go", "on"])),
            ("replies.hello.en", json!("Hi")),
            ("replies.other", json!({ "en": "a", "fr": "b" })),
        ] {
            let result = with(path, value);
            assert_eq!(result.is_err(), path == "replies.hello.en", "{path}: {:?}", result.err());
        }
    }

    #[test]
    fn what_cannot_be_set_is_told_with_a_remedy() {
        for (path, value, told) in [
            ("thresholds.confidnce", json!(0.6), "there are thresholds.confidence, thresholds.conflict"),
            ("threshold", json!(0.6), "there is no setting `threshold`"),
            ("states", json!({}), "there is no setting `states`"),
            ("intents.goo.priority", json!("P2"), "did you mean `go`?"),
            ("intents.go.prority", json!("P2"), "intents.NAME.priority"),
            ("intents.go.priority", json!("P9"), "P9"),
            ("thresholds.confidence", json!(7), "from 0 to 1"),
            ("thresholds.confidence", json!("high"), "must be"),
            ("clarification.expires_after", json!("soon"), "no delay"),
            ("replies.hello.en", json!("Hi"), "within text"),
        ] {
            let problems = with(path, value).unwrap_err().join("\n");
            assert!(problems.contains(told), "{path}: {problems}");
        }
        let plain = load_with("machine: m\ninitial: a\nstates: { a: {} }", &[]).unwrap_err();
        assert!(plain[0].contains("no `conversation`"), "{plain:?}");
    }
}
