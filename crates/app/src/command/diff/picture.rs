//! A difference as lines, part by part: `+` for what came, `-` for what went, `~` for what is otherwise.
//!
//! A pure function of what the server, or the comparison of two files, says.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use crate::command::client::text;
use crate::command::flow::line::{Line, Paint, cut};

/// Longer values are cut; `--json` has all of them.
const VALUE_MAX: usize = 160;
/// A hash as people tell definitions apart.
const HASH_DIGITS: usize = 12;

/// The parts, and what stands above their changes.
const HEADINGS: [(&str, &str); 10] = [
    ("definition", "the top"),
    ("field", "fields"),
    ("event", "events"),
    ("state", "states"),
    ("transition", "transitions"),
    ("phase", "phases"),
    ("conversation", "settings of the conversation"),
    ("intent", "intents"),
    ("reply", "replies"),
    ("migration", "migrations"),
];
/// What is told in counts: nobody reads hundreds of phrases.
const WORDS: [&str; 3] = ["phrases", "keywords", "patterns"];

pub(super) fn lines(report: &Value, colour: bool) -> Vec<String> {
    let mut lines = vec![Line::default().with(Paint::Bold, headline(report))];
    let changes = report["changes"].as_array().map(Vec::as_slice).unwrap_or_default();
    for (part, heading) in HEADINGS {
        let of_part: Vec<&Value> = changes.iter().filter(|change| change["part"] == *part).collect();
        if of_part.is_empty() {
            continue;
        }
        lines.push(Line::default());
        lines.push(Line::default().with(Paint::Bold, heading));
        of_part.into_iter().for_each(|change| tell(&mut lines, change));
    }
    if changes.is_empty() {
        lines.push(Line::default().with(Paint::Plain, nothing(report)));
    }
    if report["instances"].is_object() {
        lines.push(Line::default());
        tell_instances(&mut lines, report);
    }
    lines.iter().map(|line| line.written(usize::MAX, colour)).collect()
}

fn headline(report: &Value) -> String {
    format!("{}: {} -> {}", text(&report["machine"]), version(&report["from"]), version(&report["to"]))
}

fn version(side: &Value) -> String {
    let hash: String = text(&side["hash"]).chars().take(HASH_DIGITS).collect();
    format!("version {} ({hash})", text(&side["version"]))
}

fn nothing(report: &Value) -> &'static str {
    match report["from"]["hash"] == report["to"]["hash"] {
        true => "the two are one text",
        false => "nothing that matters has changed",
    }
}

fn tell(lines: &mut Vec<Line>, change: &Value) {
    let (sign, paint) = match change["kind"].as_str() {
        Some("added") => ("+", Paint::Green),
        Some("removed") => ("-", Paint::Red),
        _ => ("~", Paint::Yellow),
    };
    let mut line = Line::default().with(paint, format!("  {sign} {}", subject(change)));
    let (before, after) = (change["before"].as_object(), change["after"].as_object());
    let changed = before.is_some() && after.is_some();
    if let Some(whole) = before.or(after).filter(|whole| !changed && !whole.is_empty()) {
        line = line.with(Paint::Dim, format!("  {}", cut(&in_short(whole), VALUE_MAX)));
    }
    if let Some(other) = change["maybe_renamed"].as_str() {
        let how = if before.is_some() { "to" } else { "from" };
        line = line.with(Paint::Magenta, format!("  renamed {how} {other}?"));
    }
    if let Some(remark) = change["remark"].as_str() {
        line = line.with(Paint::Magenta, format!("  {remark}"));
    }
    lines.push(line);
    if let (Some(before), Some(after)) = (before, after) {
        let aspects: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
        for aspect in aspects {
            let how = match is_words(aspect) {
                true => counts(before.get(aspect), after.get(aspect)),
                false => format!("{} -> {}", said(before.get(aspect)), said(after.get(aspect))),
            };
            lines.push(Line::default().with(Paint::Plain, format!("      {aspect}: {how}")));
        }
    }
}

/// What a change is about; what is at the top has no name.
fn subject(change: &Value) -> String {
    let name = match (text(&change["name"]), text(&change["part"]).as_str()) {
        (name, "conversation") if name.is_empty() => "conversation".to_owned(),
        (name, _) if name.is_empty() => "(top)".to_owned(),
        (name, _) => name,
    };
    match change["trigger"].as_str() {
        Some(trigger) => {
            format!("{name} {}", trigger.replacen("on.", "on ", usize::from(trigger.starts_with("on."))))
        }
        None => name,
    }
}

fn is_words(aspect: &str) -> bool {
    WORDS.contains(&aspect.split('.').next().unwrap_or_default())
}

fn counts(gone: Option<&Value>, new: Option<&Value>) -> String {
    let count = |list: Option<&Value>| list.and_then(Value::as_array).map_or(0, Vec::len);
    let told = [("+", count(new)), ("-", count(gone))];
    let told = told.iter().filter(|(_, count)| *count > 0).map(|(sign, count)| format!("{sign}{count}"));
    told.collect::<Vec<_>>().join(" ")
}

fn in_short(whole: &Map<String, Value>) -> String {
    let each = whole.iter().map(|(aspect, value)| match value.as_array().filter(|_| is_words(aspect)) {
        Some(words) => format!("{aspect}: {}", words.len()),
        None => format!("{aspect}: {}", text(value)),
    });
    each.collect::<Vec<_>>().join(", ")
}

fn said(value: Option<&Value>) -> String {
    match value {
        None => "(none)".to_owned(),
        Some(Value::String(empty)) if empty.is_empty() => "\"\"".to_owned(),
        Some(Value::Null) => "null".to_owned(),
        Some(value) => cut(&text(value), VALUE_MAX),
    }
}

fn tell_instances(lines: &mut Vec<Line>, report: &Value) {
    let instances = &report["instances"];
    let count = |name: &str| instances[name].as_u64().unwrap_or_default();
    let mut head = format!(
        "{} open on {}, at {}",
        counted(count("open"), "instance"),
        version(&report["from"]),
        text(&instances["counted_at"])
    );
    if instances["complete"] == false {
        head.push_str("; there are more, which were not looked at");
    }
    lines.push(Line::default().with(Paint::Bold, head));
    for (state, count) in instances["by_state"].as_object().into_iter().flatten() {
        lines.push(Line::default().with(Paint::Plain, format!("  {:>8}  {state}", text(count))));
    }
    let removed = count("in_removed_states");
    if removed > 0 {
        let told = format!("  {removed} of them in states that the later definition does not have");
        lines.push(Line::default().with(Paint::Red, told));
    }
}

fn counted(count: u64, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}
