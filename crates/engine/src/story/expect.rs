//! Expectations: what a step should have led to, compared with what is seen.
//!
//! One table says what may be expected, how it is written and how it is compared. `outcome` to `same_answer` speak of
//! the answer that the step got; the rest of the session as it is saved once the step is over.

use kernel::commit::{Answer, EffectKind, Entry, EventAnswer, PhaseMove};
use kernel::conversation::{ClarificationStatus, Reply};
use kernel::definition::document::{Node, NodeKind};
use kernel::definition::reader::Reader;
use kernel::diagnostic::{Place, nearest};
use kernel::flow::{FlowView, PhaseView};
use kernel::input::Fields;
use kernel::snapshot::{Snapshot, is_within};
use serde_json::{Value, json};

#[derive(Debug)]
pub(super) struct Expectation {
    pub key: &'static str,
    pub place: Place,
    compare: Compare,
    pub wanted: Value,
}

/// How an expectation is written.
#[derive(Clone, Copy, Debug)]
enum Written {
    /// One of these; `none` stands for nothing.
    Word(&'static [&'static str]),
    /// Any text; `none` stands for nothing.
    Text,
    Number,
    /// A number from 0 to 1.
    Share,
    Flag,
    /// A text or a list of texts; `none` stands for nothing.
    Texts,
    Map,
    Maps(&'static [&'static str]),
}

#[derive(Clone, Copy, Debug)]
enum Compare {
    Equal,
    /// Every text occurs in what is seen; an empty list wants nothing seen.
    Holds,
    /// The fields that are named are equal; others may be anything.
    Part,
    /// Every item is among those seen.
    Among,
    /// The same items, in whatever order.
    Same,
    /// Each of the states, with commas between them, is active or has an active one in it.
    Active,
    /// As `Part`, with the last ones of a list.
    Tail,
    /// The number that is seen, rounded to as many places as are written, and to two at least.
    Rounded,
}

/// A phase that does not apply stands as this.
pub(super) const SKIPPED: &str = "skipped";
const OUTCOMES: [&str; 8] =
    ["dispatched", "clarifying", "media_held", "inline", "refused", "ignored", "handed_over", "fallback"];
const RULES: [&str; 14] =
    ["R0", "R1", "R2", "R3", "R4", "R5", "R6", "R7", "R8", "R9", "R10", "R11", "R12", "R13"];
const ENTRY_KEYS: [&str; 6] = ["event", "from", "to", "success", "code", "reason"];

const TABLE: [(&str, Written, Compare); 26] = [
    ("outcome", Written::Word(&OUTCOMES), Compare::Equal),
    ("intent", Written::Text, Compare::Equal),
    ("rule", Written::Word(&RULES), Compare::Equal),
    // Every rule that had its say, of which `rule` is the last.
    ("applied", Written::Texts, Compare::Among),
    ("raw", Written::Number, Compare::Equal),
    ("adjusted", Written::Number, Compare::Equal),
    ("reply", Written::Texts, Compare::Holds),
    ("options", Written::Texts, Compare::Equal),
    ("refused", Written::Text, Compare::Equal),
    ("allowed", Written::Texts, Compare::Same),
    ("replayed", Written::Flag, Compare::Equal),
    ("same_answer", Written::Flag, Compare::Equal),
    ("effects", Written::Texts, Compare::Holds),
    ("state", Written::Text, Compare::Active),
    ("closure_reason", Written::Text, Compare::Equal),
    ("looping", Written::Number, Compare::Equal),
    ("context", Written::Map, Compare::Part),
    ("revision", Written::Number, Compare::Equal),
    ("clarification", Written::Texts, Compare::Equal),
    ("clarifications", Written::Map, Compare::Part),
    ("history", Written::Maps(&ENTRY_KEYS), Compare::Tail),
    ("timers", Written::Number, Compare::Equal),
    // Of flows.
    ("status", Written::Text, Compare::Equal),
    ("phases", Written::Map, Compare::Part),
    ("progress", Written::Share, Compare::Rounded),
    ("moved", Written::Texts, Compare::Equal),
];

pub(super) fn read(reader: &mut Reader<'_>, node: &Node) -> Vec<Expectation> {
    let keys: Vec<&str> = TABLE.iter().map(|(key, ..)| *key).collect();
    let Some(entries) = reader.entries(node, "`expect`", &keys) else {
        return Vec::new();
    };
    let mut expectations = Vec::new();
    for (key, written, compare) in TABLE {
        let Some(node) = entries.get(key) else { continue };
        if let Some(wanted) = read_wanted(reader, key, node, written) {
            expectations.push(Expectation { key, place: node.place, compare, wanted });
        }
    }
    expectations
}

fn read_wanted(reader: &mut Reader<'_>, key: &str, node: &Node, written: Written) -> Option<Value> {
    let what = format!("`{key}`");
    let is_none = matches!(&node.kind, NodeKind::Text(text) if text == "none");
    match written {
        Written::Word(_) | Written::Text if is_none => Some(Value::Null),
        Written::Word(words) => {
            let text = reader.text(node, &what)?;
            if !words.contains(&text.value.as_str()) {
                let message = format!("{what} is never `{}`", text.value);
                let help = nearest(&text.value, words.iter().copied());
                reader.error("bad_value", text.place, message, help);
            }
            Some(Value::from(text.value))
        }
        Written::Text => reader.text(node, &what).map(|text| text.value.into()),
        Written::Number => reader.integer(node, &what, 0, i64::MAX).map(Value::from),
        Written::Share => {
            let share = node.to_json();
            if !share.as_f64().is_some_and(|share| (0.0..=1.0).contains(&share)) {
                let message = format!("{what} is never {share}");
                reader.error("bad_value", node.place, message, "write a number from 0 to 1");
                return None;
            }
            Some(share)
        }
        Written::Flag => reader.boolean(node, &what).map(Value::from),
        Written::Texts if is_none => Some(Value::Array(Vec::new())),
        Written::Texts => {
            let texts = reader.texts(node, &what);
            Some(texts.into_iter().map(|text| text.value).collect())
        }
        Written::Map => {
            reader.named(node, &what)?;
            Some(node.to_json())
        }
        Written::Maps(keys) => {
            for item in reader.one_or_many(node) {
                reader.entries(item, "an entry of the history", keys);
            }
            match node.to_json() {
                list @ Value::Array(_) => Some(list),
                one => Some(Value::Array(vec![one])),
            }
        }
    }
}

/// What there is to see after a step.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub answer: Option<std::sync::Arc<Answer>>,
    pub replayed: bool,
    pub same_answer: bool,
    /// What the step added to the log, of all sessions of the subject.
    pub new_entries: Vec<Entry>,
    pub session: Option<Snapshot>,
    /// The instance as a flow, if it is one.
    pub flow: Option<FlowView>,
    pub history: Vec<Entry>,
    pub clarifications: Vec<(ClarificationStatus, u64)>,
}

/// What is not as expected, a line each.
pub(super) fn compare(expectations: &[Expectation], seen: &Seen) -> Vec<String> {
    let actual = seen.describe();
    let refusal_expected = expectations.iter().any(|e| e.key == "refused");
    let mut lines = Vec::new();
    if let (Some(Answer::Refused(refusal)), false) = (seen.answer.as_deref(), refusal_expected) {
        let code = refusal.code.as_str();
        lines.push(format!("refused: `{code}`, {}", refusal.message));
    }
    // A timer that fails is recorded and nobody is told: a story tells.
    let failing = |entry: &&Entry| {
        let code = entry.code.as_deref();
        let failed = matches!(code, Some("expression_failed" | "step_limit" | "invariant_violated"));
        entry.message.is_none() && failed
    };
    let told = expectations.iter().any(|e| matches!(e.key, "refused" | "history"));
    for entry in seen.new_entries.iter().filter(failing).filter(|_| !told) {
        lines.push(format!("`{}` failed: {}", entry.event, entry.reason.as_deref().unwrap_or_default()));
    }
    for Expectation { key, compare, wanted, .. } in expectations {
        let found = actual.get(*key).unwrap_or(&Value::Null);
        if !is_met(*compare, wanted, found) {
            lines.push(format!("{key}: expected {wanted}, got {found}"));
        }
    }
    lines
}

fn is_met(compare: Compare, wanted: &Value, found: &Value) -> bool {
    match compare {
        Compare::Equal => wanted == found,
        Compare::Holds => {
            let wanted = wanted.as_array().map(Vec::as_slice).unwrap_or_default();
            let found = found.as_str().unwrap_or_default();
            let holds = |text: &Value| found.contains(text.as_str().unwrap_or_default());
            wanted.iter().all(holds) && (!wanted.is_empty() || found.is_empty())
        }
        Compare::Part => {
            let mut fields = wanted.as_object().into_iter().flatten();
            fields.all(|(name, value)| found.get(name).unwrap_or(&Value::Null) == value)
        }
        Compare::Among => {
            let mut wanted = wanted.as_array().into_iter().flatten();
            wanted.all(|item| found.as_array().is_some_and(|found| found.contains(item)))
        }
        Compare::Same => {
            let found = found.as_array().map(Vec::as_slice).unwrap_or_default();
            let wanted = wanted.as_array().map(Vec::as_slice).unwrap_or_default();
            found.len() == wanted.len() && wanted.iter().all(|item| found.contains(item))
        }
        Compare::Rounded => {
            let (Some(number), Some(found)) = (wanted.as_f64(), found.as_f64()) else { return false };
            let written = wanted.to_string();
            let places = written.split_once('.').map_or(0, |(_, places)| places.len()).max(2);
            format!("{number:.places$}") == format!("{found:.places$}")
        }
        Compare::Active => {
            let (Some(wanted), Some(found)) = (wanted.as_str(), found.as_str()) else {
                return wanted == found;
            };
            wanted.split(',').all(|wanted| found.split(',').any(|path| is_within(path, wanted.trim())))
        }
        Compare::Tail => {
            let wanted = wanted.as_array().map(Vec::as_slice).unwrap_or_default();
            let found = found.as_array().map(Vec::as_slice).unwrap_or_default();
            let Some(skipped) = found.len().checked_sub(wanted.len()) else {
                return false;
            };
            let mut pairs = wanted.iter().zip(&found[skipped..]);
            pairs.all(|(wanted, found)| is_met(Compare::Part, wanted, found))
        }
    }
}

impl Seen {
    /// Under the keys of `TABLE`.
    fn describe(&self) -> Fields {
        let mut fields = Fields::new();
        let mut set = |key: &str, value: Value| {
            fields.insert(key.to_owned(), value);
        };
        set("replayed", self.replayed.into());
        set("same_answer", self.same_answer.into());
        match self.answer.as_deref() {
            Some(Answer::Message(answer)) => {
                set("outcome", json!(answer.outcome));
                set("intent", json!(answer.why.intent));
                set("rule", json!(answer.why.rule));
                let trace = answer.why.trace.iter().filter(|step| step.applied);
                set("applied", trace.map(|step| json!(step.rule)).collect());
                set("raw", answer.why.raw.into());
                set("adjusted", answer.why.adjusted.into());
                // The answer leaves the code to the log.
                let logged = self.new_entries.iter().rev().find(|e| e.message.is_some());
                set("refused", json!(logged.and_then(|e| e.code.clone())));
            }
            Some(Answer::Refused(refusal)) => {
                set("refused", refusal.code.as_str().into());
                set("allowed", json!(refusal.allowed));
            }
            Some(Answer::Event(_)) | None => {}
        }
        let replies = self.answer.as_deref().map(replies_of).unwrap_or_default();
        set("reply", joined(replies.iter()).into());
        let labels = replies.last().map(|reply| {
            let labels = reply.options.iter().map(|option| option.label.as_str());
            labels.collect::<Vec<_>>()
        });
        set("options", json!(labels.unwrap_or_default()));
        let effects = self.new_entries.iter().flat_map(|e| match &e.answer {
            Answer::Event(answer) => answer.effects.as_slice(),
            Answer::Message(answer) => answer.effects.as_slice(),
            Answer::Refused(_) => &[],
        });
        let told = effects.map(|effect| match &effect.kind {
            EffectKind::Reply(reply) => reply.text.clone(),
            EffectKind::Call { id, src, input } => {
                format!("call {id}: {src} {}", Value::Object(input.clone()))
            }
            EffectKind::Notice(notice) => format!("notice: {} to {}", notice.event, notice.to),
            EffectKind::Tell(told) => format!("tell: {}", told.describe()),
        });
        set("effects", told.collect::<Vec<_>>().join("\n").into());
        for (key, value) in self.describe_session() {
            set(key, value);
        }
        fields
    }

    fn describe_session(&self) -> Vec<(&'static str, Value)> {
        let counts = self
            .clarifications
            .iter()
            .map(|(status, count)| (status.as_str().to_owned(), Value::from(*count)));
        let entry = |e: &Entry| {
            json!({
                "event": e.event, "from": e.from, "to": e.to,
                "success": e.success, "code": e.code, "reason": e.reason,
            })
        };
        let mut described = vec![
            ("clarifications", Value::Object(counts.collect())),
            ("history", self.history.iter().map(entry).collect()),
        ];
        let Some(session) = &self.session else {
            return described;
        };
        let closure = session.closure.as_ref();
        let pending = session.conversation.as_ref().and_then(|c| c.pending.as_ref());
        let labels = pending.into_iter().flat_map(|question| &question.options);
        described.extend([
            ("state", session.state().into()),
            ("revision", session.revision.0.into()),
            ("context", Value::Object((*session.context).clone())),
            ("closure_reason", json!(closure.map(|c| &c.reason))),
            ("looping", session.looping.as_ref().map_or(0, |looping| looping.count).into()),
            ("clarification", labels.map(|o| o.label.as_str()).collect()),
            ("timers", session.timers.len().into()),
        ]);
        if let Some(flow) = &self.flow {
            let phases = flow.phases.iter();
            let phases = phases.map(|phase| (phase.phase.to_string(), state_of(phase).into())).collect();
            described.extend([
                ("status", flow.status.as_str().into()),
                ("progress", flow.progress.into()),
                ("phases", Value::Object(phases)),
                ("moved", moved(&self.new_entries)),
            ]);
        }
        described
    }

    /// What else somebody who mends a story wants to know.
    pub fn tell(&self) -> String {
        let actual = self.describe();
        let mut text = String::from("  seen:\n");
        for key in ["outcome", "intent", "rule", "raw", "adjusted", "state", "progress", "phases"] {
            if let Some(value) = actual.get(key).filter(|value| !value.is_null()) {
                text.push_str(&format!("    {key}: {value}\n"));
            }
        }
        for reply in self.answer.as_deref().map(replies_of).unwrap_or_default() {
            let labels = reply.options.iter().map(|o| format!(" [{}]", o.label)).collect::<String>();
            text.push_str(&format!("    reply: {}{labels}\n", reply.text));
        }
        if let Some(Answer::Message(answer)) = self.answer.as_deref() {
            text.push_str("  the router's trace:\n");
            for step in &answer.why.trace {
                let mark = if step.applied { '*' } else { ' ' };
                text.push_str(&format!("    {mark} {:<4}{}\n", format!("{:?}", step.rule), step.because));
            }
        }
        text
    }
}

/// The state of a phase, or that it was passed over.
fn state_of(phase: &PhaseView) -> &'static str {
    if phase.skipped { SKIPPED } else { phase.state.as_str() }
}

/// What became of which phase, step by step: `data_import -> completed`.
fn moved(entries: &[Entry]) -> Value {
    let moves = entries.iter().flat_map(moves_of);
    moves.map(|moved| Value::from(format!("{} -> {}", moved.phase, moved.to))).collect()
}

/// What an input did to the phases of a flow.
pub(super) fn moves_of(entry: &Entry) -> &[PhaseMove] {
    match &entry.answer {
        Answer::Event(EventAnswer { flow: Some(flow), .. }) => &flow.moved,
        _ => &[],
    }
}

pub(super) fn replies_of(answer: &Answer) -> &[Reply] {
    match answer {
        Answer::Message(answer) => &answer.reply,
        Answer::Event(answer) => &answer.reply,
        Answer::Refused(_) => &[],
    }
}

fn joined<'r>(replies: impl Iterator<Item = &'r Reply>) -> String {
    let texts: Vec<&str> = replies.map(|reply| reply.text.as_str()).collect();
    texts.join("\n")
}
