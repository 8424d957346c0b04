//! Writes a definition as the YAML that a person would have written: block style, and short things on one line.
//!
//! Owns quoting and layout only. What is written here reads back as the same values, which the tests below hold
//! against the reader of definitions.

use serde_json::Number;

use crate::time::Delay;
use crate::xstate::json::Json;

/// What does not fit into a line of this width is written over several.
const WIDTH: usize = 100;
/// The values of these keys are what one looks for when reading a machine, so each entry has its own line.
const BLOCKS: [&str; 5] = ["states", "on", "after", "context", "conversation"];

#[derive(Clone, Debug)]
pub(super) enum Yaml {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Yaml>),
    Map(Map),
}

#[derive(Clone, Debug, Default)]
pub(super) struct Map {
    /// Comment lines above the entries.
    pub remarks: Vec<String>,
    pub entries: Vec<(String, Yaml)>,
}

impl Map {
    pub fn put(&mut self, key: &str, value: impl Into<Yaml>) {
        self.entries.push((key.to_owned(), value.into()));
    }

    pub fn put_some(&mut self, key: &str, value: Option<Yaml>) {
        if let Some(value) = value {
            self.put(key, value);
        }
    }
}

impl Yaml {
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// One thing alone, several as a list.
    pub fn one_or_many(mut items: Vec<Yaml>) -> Option<Self> {
        match items.len() {
            0 | 1 => items.pop(),
            _ => Some(Self::List(items)),
        }
    }
}

impl From<Map> for Yaml {
    fn from(map: Map) -> Self {
        Self::Map(map)
    }
}

impl From<&Json> for Yaml {
    fn from(json: &Json) -> Self {
        match json {
            Json::Null => Self::Null,
            Json::Bool(value) => Self::Bool(*value),
            Json::Number(number) => Self::Number(number.clone()),
            Json::Text(text) => Self::Text(text.clone()),
            Json::List(items) => Self::List(items.iter().map(Self::from).collect()),
            Json::Map(entries) => {
                let entries = entries.iter().map(|(key, value)| (key.clone(), Self::from(value))).collect();
                Self::Map(Map { remarks: Vec::new(), entries })
            }
        }
    }
}

/// The text of a file.
pub(super) fn write(top: &Map) -> String {
    let mut text = String::new();
    for remark in &top.remarks {
        push_remark(&mut text, 0, remark);
    }
    for (at, (key, value)) in top.entries.iter().enumerate() {
        // Sections stand apart from each other; what fits on a line does not.
        let before = at.checked_sub(1).map(|before| &top.entries[before]);
        let apart = |(key, value): &(String, Yaml)| !fits_line(key, value, 0);
        if before.is_some_and(|before| apart(before) || apart(&top.entries[at])) {
            text.push('\n');
        }
        push_entry(&mut text, 0, key, value);
    }
    text
}

fn push_remark(text: &mut String, indent: usize, remark: &str) {
    let remark: String = remark.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    text.push_str(&" ".repeat(indent));
    text.push_str("# ");
    text.push_str(&remark);
    text.push('\n');
}

fn push_entry(text: &mut String, indent: usize, key: &str, value: &Yaml) {
    text.push_str(&" ".repeat(indent));
    text.push_str(&quoted(key, true));
    text.push(':');
    push_value(text, indent, key, value);
}

/// What stands behind `key:`, with the line's end.
fn push_value(text: &mut String, indent: usize, key: &str, value: &Yaml) {
    match value {
        _ if fits_line(key, value, indent) => {
            text.push(' ');
            text.push_str(&flow(value));
            text.push('\n');
        }
        Yaml::Map(map) => {
            text.push('\n');
            push_map(text, indent + 2, map);
        }
        Yaml::List(items) => {
            text.push('\n');
            items.iter().for_each(|item| push_item(text, indent + 2, item));
        }
        scalar => {
            text.push(' ');
            text.push_str(&flow(scalar));
            text.push('\n');
        }
    }
}

fn push_map(text: &mut String, indent: usize, map: &Map) {
    map.remarks.iter().for_each(|remark| push_remark(text, indent, remark));
    if map.entries.is_empty() {
        text.push_str(&" ".repeat(indent));
        text.push_str("{}\n");
    }
    map.entries.iter().for_each(|(key, value)| push_entry(text, indent, key, value));
}

fn push_item(text: &mut String, indent: usize, item: &Yaml) {
    let one_line = fits_line("", item, indent);
    match item {
        Yaml::Map(map) if !one_line => {
            map.remarks.iter().for_each(|remark| push_remark(text, indent, remark));
            let start = text.len();
            push_map(text, indent + 2, &Map { remarks: Vec::new(), entries: map.entries.clone() });
            // The dash takes the place of the first line's indentation.
            text.replace_range(start + indent..=start + indent, "-");
        }
        Yaml::List(items) if !one_line => {
            text.push_str(&" ".repeat(indent));
            text.push_str("-\n");
            items.iter().for_each(|item| push_item(text, indent + 2, item));
        }
        _ => {
            text.push_str(&" ".repeat(indent));
            text.push_str("- ");
            text.push_str(&flow(item));
            text.push('\n');
        }
    }
}

fn fits_line(key: &str, value: &Yaml, indent: usize) -> bool {
    let empty = match value {
        Yaml::Map(map) => map.entries.is_empty() && map.remarks.is_empty(),
        Yaml::List(items) => items.is_empty(),
        _ => true,
    };
    // Measured before it is rendered: a machine's states are asked at every level.
    empty
        || (!BLOCKS.contains(&key)
            && narrow(value, WIDTH.saturating_sub(indent)).is_some()
            && indent + key.len() + 2 + flow(value).chars().count() <= WIDTH)
}

/// What remains of `room` characters behind a value that may stand on one line; a lower bound, found without
/// looking at more of the value than fits.
fn narrow(value: &Yaml, room: usize) -> Option<usize> {
    match value {
        Yaml::Text(text) => room.checked_sub(text.len() / 4),
        Yaml::Null | Yaml::Bool(_) | Yaml::Number(_) => room.checked_sub(1),
        Yaml::List(items) => {
            let many_maps = items.len() > 1 && items.iter().any(|item| matches!(item, Yaml::Map(_)));
            let fits = |room: usize, item| narrow(item, room)?.checked_sub(2);
            if many_maps { None } else { items.iter().try_fold(room, fits) }
        }
        Yaml::Map(map) => {
            let fits = |room: usize, (key, value): &(String, Yaml)| {
                narrow(value, room)?.checked_sub(key.len()).filter(|_| !BLOCKS.contains(&key.as_str()))
            };
            if map.remarks.is_empty() { map.entries.iter().try_fold(room, fits) } else { None }
        }
    }
}

fn flow(value: &Yaml) -> String {
    match value {
        Yaml::Null => "null".to_owned(),
        Yaml::Bool(value) => value.to_string(),
        Yaml::Number(number) => number.to_string(),
        Yaml::Text(text) => quoted(text, false),
        Yaml::List(items) => {
            let items: Vec<String> = items.iter().map(flow).collect();
            format!("[{}]", items.join(", "))
        }
        Yaml::Map(map) if map.entries.is_empty() => "{}".to_owned(),
        Yaml::Map(map) => {
            let entry = |(key, value): &(String, Yaml)| format!("{}: {}", quoted(key, true), flow(value));
            let entries: Vec<String> = map.entries.iter().map(entry).collect();
            format!("{{ {} }}", entries.join(", "))
        }
    }
}

/// A text as a scalar: plain where nobody could take it for anything else, else in the quotes that need least escapes.
fn quoted(text: &str, is_key: bool) -> String {
    let head = text.chars().next().is_some_and(|c| c.is_alphabetic() || c == '_' || (c == '.' && !is_key));
    let inner = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '/' | '*' | ' ');
    let is_delay = Delay::parse(text).is_ok_and(|delay| delay.to_string() == text);
    let words = ["null", "true", "false", "yes", "no", "on", "off", "y", "n", "nan", ".nan", ".inf"];
    let lower = text.to_lowercase();
    let is_word = words.contains(&lower.as_str()) && !(is_key && text == "on");
    let dots = text.chars().all(|c| c == '.')
        || text.strip_prefix('.').is_some_and(|t| t.starts_with(char::is_numeric));
    if is_delay || (head && text.chars().all(inner) && !text.ends_with(' ') && !is_word && !dots) {
        return text.to_owned();
    }
    let unprintable = |c: char| {
        c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}')
    };
    if text.contains(['"', '\\']) && !text.chars().any(unprintable) {
        return format!("'{}'", text.replace('\'', "''"));
    }
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            c if unprintable(c) => quoted.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::definition::document;

    /// Texts that YAML could take for something else, or that need escapes.
    #[rustfmt::skip]
    const AMBIGUOUS: [&str; 67] = [
        "", " ", "a", "a b", "a ", "no", "True", "NULL", "on", "1", "1e3", "0x1f", "-", "- a", "a: b", "a #b",
        "#a", ".child", "...", ".5", ".inf", "a.b", "{", "[", "]", "a, b", "'", "''", "\"", "\\",
        "it's \"so\"", "a\nb", "\t", "\u{7f}\u{85}\u{feff}", "é", "日本", "😀", "%a", "@a", "`a`", "|", ">", "&a",
        "*a", "!a", "?", "---", "~", "=", "<<", "2020-01-01", "'open'", "context.n > 3 && event.text != \"\"",
        "\u{2028}", "1_000", "1h30m", "1d", "1d2", "0s", "mouse.*", "a*", "*", "y", "a:", "/", "a/b",
        "after.1h",
    ];

    fn reread(json: &Json) -> (String, serde_json::Value) {
        let Yaml::Map(map) = Yaml::from(json) else { panic!("{json:?}") };
        let text = write(&map);
        let node = document::read(&text).unwrap_or_else(|d| panic!("{d:?}\n{text}"));
        (text, node.to_json())
    }

    #[test]
    fn texts_that_look_like_something_else_read_back_as_texts() {
        for text in AMBIGUOUS {
            let json = Json::Map(vec![
                (text.to_owned(), Json::text(text)),
                ("list".to_owned(), Json::List(vec![Json::text(text), Json::List(vec![Json::text(text)])])),
            ]);
            let (written, read) = reread(&json);
            assert_eq!(Json::from(&read).get(text), Some(&Json::text(text)), "{written}");
            assert_eq!(read["list"][1][0], text, "{written}");
        }
    }

    #[test]
    fn long_things_are_laid_out_over_lines_and_read_back_the_same() {
        let source = r#"{
            "machine": "m", "version": 1, "ratio": 0.1, "big": 1e300, "small": -3,
            "states": {"a": {}, "b": {"on": {"GO": [{"target": "a", "guard": "x"}, "b"]}},
                "c": {"list": [[1, 2], [{"a": 1}, {"b": [{"c": {}}, {}]}], []], "none": null, "yes": true}},
            "long": ["a long text that goes on and on and on", "a long text that goes on and on and on",
                "a long text that goes on and on and on"]
        }"#;
        let (text, read) = reread(&Json::parse(source).unwrap());
        assert_eq!(read, serde_json::from_str::<serde_json::Value>(source).unwrap(), "{text}");
        assert!(text.contains("      GO:\n        - { target: a, guard: x }\n        - b\n"), "{text}");
    }

    #[test]
    fn remarks_stand_above_what_they_are_about() {
        let remark = |remark: &str| vec![remark.to_owned()];
        let mut guarded = Map { remarks: remark("write it\nsoon"), entries: Vec::new() };
        guarded.put("guard", Yaml::text("false"));
        let bare = Map { remarks: remark("nothing here"), entries: Vec::new() };
        let mut top = Map { remarks: remark("from elsewhere"), entries: Vec::new() };
        top.put("list", Yaml::List(vec![guarded.clone().into(), Yaml::Null]));
        top.put("bare", bare);
        top.put("map", guarded);
        assert_eq!(
            write(&top),
            "# from elsewhere\nlist:\n  # write it soon\n  - guard: \"false\"\n  - null\n\nbare:\n  # nothing here\n  {}\n\n\
             map:\n  # write it soon\n  guard: \"false\"\n"
        );
    }
}
