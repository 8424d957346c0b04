//! How things are said on a page: when, how long, how many, and what of a context may be seen.

use std::fmt;
use std::time::Duration;

use kernel::id::Digest;
use kernel::input::Fields;
use kernel::machine::Machine;
use kernel::time::{Delay, Timestamp};
use serde_json::{Value, json};

/// A moment as people read it: how long ago or in how long, and exactly.
#[derive(Clone, Debug)]
pub struct When {
    pub exact: String,
    pub near: String,
}

impl When {
    pub fn of(at: Timestamp, now: Timestamp) -> Self {
        let ahead = at > now;
        let span = if ahead { at.since(now) } else { now.since(at) };
        let near = match (span.as_millis(), ahead) {
            (0..1_000, _) => "now".to_owned(),
            (_, true) => format!("in {}", rough(span)),
            // Nobody asks for the seconds of what was hours ago.
            (_, false) => format!("{} ago", rough(span).splitn(3, ' ').take(2).collect::<Vec<_>>().join(" ")),
        };
        Self { exact: at.to_string(), near }
    }
}

/// A span in its two largest units, and nothing below a second unless that is all there is.
pub fn rough(span: Delay) -> String {
    const UNITS: [(i64, &str); 4] = [(86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")];
    let ms = span.as_millis();
    if ms < 1_000 {
        return format!("{ms} ms");
    }
    let seconds = ms / 1_000;
    let first = UNITS.iter().position(|(scale, _)| seconds >= *scale).unwrap_or(UNITS.len() - 1);
    let (scale, name) = UNITS[first];
    let whole = format!("{} {name}", seconds / scale);
    match UNITS.get(first + 1).map(|(below, name)| (seconds % scale / below, name)) {
        Some((rest, name)) if rest > 0 && seconds / scale < 10 => format!("{whole} {rest} {name}"),
        _ => whole,
    }
}

/// How long ago something was counted, if that was long enough ago to be told.
pub fn counted(age: Duration) -> Option<String> {
    let age = Delay::from_millis(i64::try_from(age.as_millis()).unwrap_or(i64::MAX));
    (age >= Delay::from_secs(2)).then(|| rough(age))
}

/// How many there are, as far as was counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    pub known: usize,
    pub more: bool,
}

impl Count {
    pub fn is_none(&self) -> bool {
        self.known == 0
    }
}

/// What was counted to the end.
impl From<u64> for Count {
    fn from(known: u64) -> Self {
        Self { known: usize::try_from(known).unwrap_or(usize::MAX), more: false }
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&thousands(self.known as u64))?;
        f.write_str(if self.more { "+" } else { "" })
    }
}

/// `12,345`.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut written = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            written.push(',');
        }
        written.push(digit);
    }
    written
}

/// A field of a context, or of what came with an event.
#[derive(Clone, Debug)]
pub struct FieldRow {
    pub name: String,
    pub value: String,
    pub secret: bool,
}

/// What of a context may be seen: of what the machine calls secret only that there is something. A machine that is not
/// known cannot say what is.
pub fn fields(context: &Fields, machine: Option<&Machine>) -> Vec<FieldRow> {
    rows(context, |name| machine.is_none_or(|machine| machine.secrets.iter().any(|secret| **secret == *name)))
}

/// What may be seen of that which came with an event: where anything is secret, any of it may become that.
pub fn payload(payload: &Fields, machine: Option<&Machine>) -> Vec<FieldRow> {
    rows(payload, |_| machine.is_none_or(|machine| !machine.secrets.is_empty()))
}

fn rows(fields: &Fields, is_secret: impl Fn(&str) -> bool) -> Vec<FieldRow> {
    let row = |(name, value): (&String, &Value)| {
        let secret = is_secret(name);
        let value = match (secret, value) {
            (true, Value::Null) => "null".to_owned(),
            (true, _) => "\u{2022}\u{2022}\u{2022}\u{2022}".to_owned(),
            (false, value) => serde_json::to_string_pretty(value).unwrap_or_default(),
        };
        FieldRow { name: name.clone(), value, secret }
    };
    fields.iter().map(row).collect()
}

/// The fields of a form that are filled in, as the query of an address.
pub fn query(fields: &[(&str, &str)]) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(fields.iter().filter(|(_, value)| !value.is_empty()));
    query.finish()
}

/// A command line for scripts of pages, which quote it: words, then what it is about; `[name]` stands for a field of the
/// form, and of flags each is left out whose field is empty.
pub fn command(run: &[&str], about: &[Word<'_>], flags: &[(&str, &str)]) -> String {
    let about: Vec<Value> = about
        .iter()
        .map(|word| match word {
            Word::Is(text) => json!(text),
            Word::Field(name) => json!([name]),
        })
        .collect();
    json!({ "run": run, "args": about, "flags": flags }).to_string()
}

/// A word of a command line.
#[derive(Clone, Copy, Debug)]
pub enum Word<'w> {
    Is(&'w str),
    Field(&'w str),
}

/// A name that may stand in an `id` of HTML whatever it is made of.
pub fn anchor(name: &str) -> String {
    format!("a{:.12}", Digest::of(name.as_bytes()).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_said_in_two_units_at_most() {
        let said = |ms| rough(Delay::from_millis(ms));
        for (ms, expected) in [
            (0, "0 ms"),
            (999, "999 ms"),
            (1_000, "1 s"),
            (59_999, "59 s"),
            (61_000, "1 min 1 s"),
            (3_600_000, "1 h"),
            (5_400_000, "1 h 30 min"),
            (47 * 3_600_000, "1 d 23 h"),
            (30 * 86_400_000 + 3_600_000, "30 d"),
        ] {
            assert_eq!(said(ms), expected);
        }
    }

    #[test]
    fn numbers_are_parted_by_thousands() {
        for (number, expected) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(thousands(number), expected);
        }
    }

    #[test]
    fn what_is_secret_is_only_said_to_be_there() {
        let source = "machine: m\ncontext:\n  name: { type: string }\n  pin: { type: string, secret: true, nullable: true }\ninitial: a\nstates: { a: {} }\n";
        let machine = kernel::definition::load(source).0.expect("the definition is well");
        let shown = |pin: Value| {
            let context = Fields::from_iter([("name".to_owned(), "Ann".into()), ("pin".to_owned(), pin)]);
            fields(&context, Some(&machine)).into_iter().map(|row| row.value).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(shown("4711".into()), "\"Ann\" \u{2022}\u{2022}\u{2022}\u{2022}");
        assert_eq!(shown(Value::Null), "\"Ann\" null");
        let unknown = fields(&Fields::from_iter([("name".to_owned(), "Ann".into())]), None);
        assert!(unknown[0].secret, "of an unknown machine nothing is shown");
    }
}
