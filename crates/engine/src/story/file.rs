//! What may be written in a story file, and how it is read: every problem with its place.
//!
//! Owns the keys and their shapes. What an expectation means is in `expect`.

use kernel::conversation::Message;
use kernel::definition::document::{self, Node, NodeKind, Placed};
use kernel::definition::reader::{Entries, Reader};
use kernel::diagnostic::{Diagnostic, Place};
use kernel::id::InputKey;
use kernel::input::{CallOutcome, Fields};
use kernel::time::{Delay, Timestamp};
use serde_json::Value;

use super::expect::{self, Expectation};

#[derive(Debug)]
pub(super) struct StoryFile {
    /// Relative to the story file.
    pub machine: String,
    pub stories: Vec<Story>,
}

#[derive(Debug)]
pub(super) struct Story {
    pub name: String,
    pub place: Place,
    pub given: Option<Given>,
    pub steps: Vec<Step>,
}

/// Where a story begins, if not with nothing.
#[derive(Debug)]
pub(super) struct Given {
    pub place: Place,
    /// Without one, where the machine begins.
    pub state: Option<Placed<String>>,
    pub context: Fields,
    pub topic: Option<String>,
    /// Phases of a flow that have been completed elsewhere, and what its record says of them.
    pub completed: Vec<Placed<String>>,
    pub booleans: Fields,
    /// When the story begins, if that matters.
    pub time: Option<Timestamp>,
    pub left: Option<Left>,
    /// Whether there is an instance from the beginning; otherwise the first message begins one.
    pub is_there: bool,
}

/// What an earlier session of the same person has left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Left {
    pub locale: Option<String>,
    pub handed_over: bool,
}

/// The clock moves, then something happens, then expectations are checked; each of the three may be missing.
#[derive(Debug)]
pub(super) struct Step {
    pub place: Place,
    pub moment: Option<Moment>,
    pub act: Option<Act>,
    /// Who does it.
    pub by: Option<String>,
    pub key: Option<InputKey>,
    pub expectations: Vec<Expectation>,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Moment {
    /// Counted from the beginning of the story.
    At(Delay),
    /// Counted from the step before.
    After(Delay),
}

#[derive(Debug)]
pub(super) enum Act {
    Send(Box<Message>),
    Event {
        event: Placed<String>,
        payload: Fields,
    },
    /// From 1, of the last reply that had buttons.
    Button(usize),
    /// The server goes down, then the clock moves, then another comes up over the same store.
    Restart,
    Recover(String),
    /// From 1, of the options of a question, which is by its number from 1 or the one asked last.
    Answer {
        question: Option<usize>,
        option: usize,
    },
    /// What a call of this id comes to.
    Call {
        id: Placed<String>,
        outcome: CallOutcome,
    },
}

const FILE_KEYS: [&str; 2] = ["machine", "stories"];
const STORY_KEYS: [&str; 3] = ["story", "given", "steps"];
const GIVEN_KEYS: [&str; 7] = ["state", "context", "topic", "completed", "booleans", "time", "left"];
const LEFT_KEYS: [&str; 2] = ["locale", "handed_over"];
const ANSWER_KEYS: [&str; 2] = ["question", "option"];
const ACTS: [&str; 7] = ["send", "event", "button", "answer", "restart", "recover", "call"];
const STEP_KEYS: [&str; 15] = [
    "at", "after", "send", "event", "button", "answer", "restart", "recover", "call", "payload", "result",
    "error", "by", "key", "expect",
];
pub(super) const MESSAGE_KEYS: [&str; 8] =
    ["text", "media", "payload", "candidates", "parameters", "locale", "quoted", "key"];

pub(super) fn read(source: &str, diagnostics: &mut Vec<Diagnostic>) -> Option<StoryFile> {
    let node = match document::read(source) {
        Ok(node) => node,
        Err(diagnostic) => {
            diagnostics.push(*diagnostic);
            return None;
        }
    };
    let mut reader = Reader { diagnostics };
    let entries = reader.entries(&node, "a story file", &FILE_KEYS)?;
    let machine = required(&mut reader, &entries, "machine", "the definition's file")
        .and_then(|node| reader.text(node, "`machine`"));
    let stories = required(&mut reader, &entries, "stories", "the list of stories")
        .map(|node| reader.one_or_many(node))
        .unwrap_or_default();
    let stories: Vec<Story> =
        stories.into_iter().filter_map(|story| read_story(&mut reader, story)).collect();
    Some(StoryFile { machine: machine?.value, stories })
}

fn required<'n>(reader: &mut Reader<'_>, entries: &Entries<'n>, key: &str, what: &str) -> Option<&'n Node> {
    let found = entries.get(key);
    if found.is_none() {
        reader.error(
            "missing_key",
            entries.place,
            format!("`{key}` is missing"),
            format!("add `{key}:`, {what}"),
        );
    }
    found
}

fn read_story(reader: &mut Reader<'_>, node: &Node) -> Option<Story> {
    let entries = reader.entries(node, "a story", &STORY_KEYS)?;
    let name =
        required(reader, &entries, "story", "what it shows").and_then(|node| reader.text(node, "`story`"));
    let given = entries.get("given").and_then(|node| read_given(reader, node));
    let steps = required(reader, &entries, "steps", "what happens")
        .map(|node| reader.one_or_many(node))
        .unwrap_or_default();
    let steps = steps.into_iter().filter_map(|step| read_step(reader, step)).collect();
    let name = name?;
    Some(Story { name: name.value, place: name.place, given, steps })
}

fn read_given(reader: &mut Reader<'_>, node: &Node) -> Option<Given> {
    let entries = reader.entries(node, "`given`", &GIVEN_KEYS)?;
    let state = entries.get("state").and_then(|node| reader.text(node, "`state`"));
    let context = entries.get("context").map(|node| fields(reader, node));
    let topic = entries.get("topic").and_then(|node| reader.text(node, "`topic`"));
    let time = entries.get("time").and_then(|node| read_time(reader, node));
    let left = entries.get("left").and_then(|node| read_left(reader, node));
    let completed = entries.get("completed").map(|node| reader.texts(node, "`completed`"));
    let booleans = entries.get("booleans").map(|node| fields(reader, node));
    let begun = ["state", "context", "topic", "completed", "booleans"];
    let begun = begun.iter().any(|key| entries.get(key).is_some());
    let apart = ["time", "left"].iter().any(|key| entries.get(key).is_some());
    if let (Some(left), true) = (entries.get("left"), begun) {
        let message = "what an earlier session left is for a session that begins with a message".to_owned();
        reader.error("bad_value", left.place, message, "leave out `state`, `context` and `topic`, or `left`");
    }
    Some(Given {
        place: node.place,
        state,
        context: context.unwrap_or_default(),
        topic: topic.map(|topic| topic.value),
        completed: completed.unwrap_or_default(),
        booleans: booleans.unwrap_or_default(),
        time,
        left,
        is_there: begun || !apart,
    })
}

fn read_time(reader: &mut Reader<'_>, node: &Node) -> Option<Timestamp> {
    let text = reader.text(node, "`time`")?;
    let time = Timestamp::parse(&text.value);
    if time.is_none() {
        let message = format!("`{}` is no time", text.value);
        reader.error("bad_value", text.place, message, "write one such as \"2026-01-05T09:00:00Z\"");
    }
    time
}

fn read_left(reader: &mut Reader<'_>, node: &Node) -> Option<Left> {
    let entries = reader.entries(node, "`left`", &LEFT_KEYS)?;
    let locale = entries.get("locale").and_then(|node| reader.text(node, "`locale`"));
    let handed_over = entries.get("handed_over").and_then(|node| reader.boolean(node, "`handed_over`"));
    Some(Left { locale: locale.map(|l| l.value), handed_over: handed_over.unwrap_or(false) })
}

fn fields(reader: &mut Reader<'_>, node: &Node) -> Fields {
    match node.to_json() {
        Value::Object(fields) => fields,
        _ => {
            reader.wrong_type(node, "this", "a map");
            Fields::new()
        }
    }
}

fn read_step(reader: &mut Reader<'_>, node: &Node) -> Option<Step> {
    let entries = reader.entries(node, "a step", &STEP_KEYS)?;
    let acts: Vec<&str> = ACTS.into_iter().filter(|act| entries.get(act).is_some()).collect();
    if let [first, second, ..] = acts[..] {
        reader.error(
            "bad_value",
            node.place,
            format!("a step has both `{first}` and `{second}`"),
            "make two steps of it; what happens first comes first",
        );
    }
    for key in ["result", "error"] {
        if let Some(node) = entries.get(key).filter(|_| acts != ["call"]) {
            let message = format!("`{key}` belongs to a `call`");
            reader.error("bad_value", node.place, message, "name the call: `call: my_call`");
        }
    }
    if entries.get("payload").is_some() && acts != ["event"] {
        reader.error(
            "bad_value",
            node.place,
            "`payload` belongs to an `event`".into(),
            "for a message, write `send: { payload: … }`",
        );
    }
    let by = entries.get("by").and_then(|node| {
        if acts.is_empty() || acts == ["restart"] {
            let message = "`by` says who does something".to_owned();
            reader.error("bad_value", node.place, message, "say what, or leave it out");
        }
        reader.text(node, "`by`")
    });
    let mut key = entries.get("key").and_then(|node| read_key(reader, node));
    let act = acts.first().and_then(|act| read_act(reader, &entries, act, &mut key));
    let expectations = entries.get("expect").map(|node| expect::read(reader, node)).unwrap_or_default();
    let (moment, by) = (read_moment(reader, &entries), by.map(|by| by.value));
    Some(Step { place: node.place, moment, act, by, key, expectations })
}

fn read_moment(reader: &mut Reader<'_>, entries: &Entries<'_>) -> Option<Moment> {
    let mut delay = |key: &str| {
        let text = reader.text(entries.get(key)?, &format!("`{key}`"))?;
        reader.delay(&text)
    };
    match (delay("at"), delay("after")) {
        (Some(at), None) => Some(Moment::At(at)),
        (None, Some(after)) => Some(Moment::After(after)),
        (None, None) => None,
        (Some(_), Some(_)) => {
            reader.error(
                "bad_value",
                entries.place,
                "a step has both `at` and `after`".into(),
                "`at` counts from the beginning of the story, `after` from the step before",
            );
            None
        }
    }
}

fn read_act(
    reader: &mut Reader<'_>,
    entries: &Entries<'_>,
    act: &str,
    key: &mut Option<InputKey>,
) -> Option<Act> {
    let node = entries.get(act)?;
    match act {
        "send" => read_message(reader, node, key).map(|message| Act::Send(Box::new(message))),
        "event" => {
            let payload = entries.get("payload").map(|node| fields(reader, node));
            Some(Act::Event { event: reader.text(node, "`event`")?, payload: payload.unwrap_or_default() })
        }
        "button" => {
            let number = reader.integer(node, "`button`", 1, 100)?;
            usize::try_from(number).ok().map(Act::Button)
        }
        "answer" => read_answer(reader, node),
        "restart" => match reader.boolean(node, "`restart`")? {
            true => Some(Act::Restart),
            false => None,
        },
        "call" => {
            let mut get = |key: &str| entries.get(key).map(|node| fields(reader, node));
            let outcome = match (get("result"), get("error")) {
                (Some(result), None) => CallOutcome::Done(result),
                (None, Some(error)) => CallOutcome::Failed(error),
                _ => {
                    let message = "a call comes to either a `result` or an `error`".to_owned();
                    reader.error("missing_key", node.place, message, "write `result: { … }` beside it");
                    return None;
                }
            };
            Some(Act::Call { id: reader.text(node, "`call`")?, outcome })
        }
        _ => Some(Act::Recover(reader.text(node, "`recover`")?.value)),
    }
}

/// The number of an option, or a map that says of which question.
fn read_answer(reader: &mut Reader<'_>, node: &Node) -> Option<Act> {
    let number = |reader: &mut Reader<'_>, node: &Node, what: &str| {
        let number = reader.integer(node, what, 1, 10_000)?;
        usize::try_from(number).ok()
    };
    if !matches!(node.kind, NodeKind::Map(_)) {
        return Some(Act::Answer { question: None, option: number(reader, node, "`answer`")? });
    }
    let entries = reader.entries(node, "`answer`", &ANSWER_KEYS)?;
    let question = entries.get("question").and_then(|node| number(reader, node, "`question`"));
    let option = required(reader, &entries, "option", "its number from 1")?;
    Some(Act::Answer { question, option: number(reader, option, "`option`")? })
}

fn read_key(reader: &mut Reader<'_>, node: &Node) -> Option<InputKey> {
    let text = reader.text(node, "`key`")?;
    InputKey::parse(&text.value)
        .map_err(|problem| reader.error("bad_value", text.place, problem, "choose another key"))
        .ok()
}

/// A text, or a map with the fields of a message.
fn read_message(reader: &mut Reader<'_>, node: &Node, key: &mut Option<InputKey>) -> Option<Message> {
    if let NodeKind::Text(text) = &node.kind {
        return Some(Message::of_text(text));
    }
    if !matches!(node.kind, NodeKind::Map(_)) {
        reader.wrong_type(node, "`send`", "text or a map");
        return None;
    }
    let entries = reader.entries(node, "a message", &MESSAGE_KEYS)?;
    if let Some(given) = entries.get("key") {
        *key = read_key(reader, given);
    }
    let mut message = Fields::new();
    for (name, value) in entries.iter().filter(|(name, _)| name.value != "key") {
        check_items(reader, name, value);
        message.insert(name.value.clone(), value.to_json());
    }
    serde_json::from_value(Value::Object(message))
        .map_err(|error| {
            let message = format!("this is no message: {error}");
            reader.error("bad_value", node.place, message, "see the fields of a message");
        })
        .ok()
}

fn check_items(reader: &mut Reader<'_>, name: &Placed<String>, value: &Node) {
    let (what, known): (&str, &[&str]) = match name.value.as_str() {
        "media" => ("media", &["url", "type"]),
        "candidates" => ("a candidate", &["intent", "confidence", "parameters"]),
        _ => return,
    };
    for item in reader.one_or_many(value) {
        reader.entries(item, what, known);
    }
}
