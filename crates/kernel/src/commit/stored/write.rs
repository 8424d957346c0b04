//! Writing an entry's body: borrowed from the entry, and left out what restoring it finds elsewhere.

use serde::Serialize;
use serde::ser::{SerializeSeq, Serializer};

use crate::chart::TransitionIndex;
use crate::commit::{Answer, Effect, Entry, EntryCause, EventAnswer, FlowAnswer, MessageAnswer};
use crate::commit::{Replaced, Transition};
use crate::conversation::clarification::ClarificationView;
use crate::conversation::sentence::{letter_of, strip_number};
use crate::conversation::{Message, MessageOutcome, Reply, Rule, TraceStep, Why};
use crate::id::{Digest, InputKey, InstanceId, Revision};
use crate::input::Fields;
use crate::refusal::Refusal;
use crate::time::Timestamp;

/// `None` is what the entry says, `Some(None)` nothing.
type Marked<T> = Option<Option<T>>;

#[derive(Serialize)]
pub(super) struct Body<'e> {
    at: Timestamp,
    key: &'e InputKey,
    /// Left out when it is that of the message.
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<Digest>,
    event: &'e str,
    from: &'e str,
    to: &'e str,
    success: bool,
    #[serde(rename = "t", skip_serializing_if = "<[_]>::is_empty")]
    transitions: &'e [TransitionIndex],
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'e str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'e str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    looping: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    by: Option<&'e str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<&'e str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    unsampled: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<Words<'e>>,
    #[serde(skip_serializing_if = "Fields::is_empty")]
    payload: &'e Fields,
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<&'e EntryCause>,
    answer: Told<'e>,
}

impl<'e> Body<'e> {
    pub fn of(entry: &'e Entry, instance: &'e InstanceId) -> Self {
        let of_message = entry.message.as_ref().map(Message::digest);
        Self {
            at: entry.at,
            key: &entry.key,
            digest: unless_eq(entry.digest, of_message),
            event: &entry.event,
            from: &entry.from,
            to: &entry.to,
            success: entry.success,
            transitions: &entry.transitions,
            reason: entry.reason.as_deref(),
            code: entry.code.as_deref(),
            looping: entry.looping,
            by: entry.by.as_deref(),
            trace_id: entry.trace_id.as_deref(),
            unsampled: entry.unsampled,
            message: entry.message.as_ref().map(Words),
            payload: &entry.payload,
            cause: entry.cause.as_ref(),
            answer: Told::of(entry, instance),
        }
    }
}

fn unless_eq<T: PartialEq>(value: T, elsewhere: Option<T>) -> Option<T> {
    if elsewhere.as_ref() == Some(&value) { None } else { Some(value) }
}

/// A message of nothing but a text is the text.
struct Words<'e>(&'e Message);

impl Serialize for Words<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Message {
                text: Some(text),
                payload: None,
                media,
                candidates,
                parameters,
                locale: None,
                received_at: None,
                quoted: None,
                advised_by: None,
                advice_failure: None,
                from: None,
                deliver: false,
            } if media.is_empty() && candidates.is_empty() && parameters.is_empty() => {
                serializer.serialize_str(text)
            }
            whole => whole.serialize(serializer),
        }
    }
}

#[derive(Serialize)]
enum Told<'e> {
    #[serde(rename = "m")]
    Message(OfMessage<'e>),
    #[serde(rename = "e")]
    Event(OfEvent<'e>),
    #[serde(rename = "refused")]
    Refused(&'e Refusal),
}

impl<'e> Told<'e> {
    fn of(entry: &'e Entry, instance: &'e InstanceId) -> Self {
        match &entry.answer {
            Answer::Message(answer) => Self::Message(OfMessage::of(answer, entry, instance)),
            Answer::Event(answer) => Self::Event(OfEvent::of(answer, entry, instance)),
            Answer::Refused(refusal) => Self::Refused(refusal),
        }
    }
}

#[derive(Serialize)]
struct OfMessage<'e> {
    #[serde(skip_serializing_if = "Option::is_none")]
    session_id: Option<&'e InstanceId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<Revision>,
    /// Left out when it is `dispatched`.
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<MessageOutcome>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<&'e str>,
    #[serde(rename = "r", skip_serializing_if = "Replies::is_empty")]
    reply: Replies<'e>,
    #[serde(rename = "t", skip_serializing_if = "Option::is_none")]
    transition: Marked<&'e Transition>,
    #[serde(skip_serializing_if = "Option::is_none")]
    clarification: Option<&'e ClarificationView>,
    #[serde(rename = "c", skip_serializing_if = "Option::is_none")]
    closure_reason: Marked<&'e str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    effects: &'e [Effect],
    #[serde(skip_serializing_if = "Option::is_none")]
    refusal: Option<&'e Refusal>,
    #[serde(rename = "w")]
    why: Reasoning<'e>,
}

impl<'e> OfMessage<'e> {
    fn of(answer: &'e MessageAnswer, entry: &'e Entry, instance: &'e InstanceId) -> Self {
        Self {
            session_id: unless_eq(&answer.session_id, Some(instance)),
            revision: unless_eq(answer.revision, Some(entry.revision)),
            outcome: unless_eq(answer.outcome, Some(MessageOutcome::Dispatched)),
            state: unless_eq(&answer.state, Some(&entry.to)),
            reply: Replies { replies: &answer.reply, revision: entry.revision },
            transition: transition(answer.transition.as_ref(), entry),
            clarification: answer.clarification.as_ref(),
            closure_reason: unless_eq(answer.closure_reason.as_deref(), Some(entry.reason.as_deref())),
            effects: &answer.effects,
            refusal: answer.refusal.as_deref(),
            why: Reasoning(&answer.why),
        }
    }
}

#[derive(Serialize)]
struct OfEvent<'e> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'e InstanceId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<Revision>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<&'e str>,
    #[serde(rename = "t", skip_serializing_if = "Option::is_none")]
    transition: Marked<&'e Transition>,
    #[serde(rename = "c", skip_serializing_if = "Option::is_none")]
    closure_reason: Marked<&'e str>,
    #[serde(rename = "r", skip_serializing_if = "Replies::is_empty")]
    reply: Replies<'e>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    effects: &'e [Effect],
    #[serde(skip_serializing_if = "Option::is_none")]
    replaced: Option<&'e Replaced>,
    #[serde(skip_serializing_if = "Option::is_none")]
    flow: Option<&'e FlowAnswer>,
}

impl<'e> OfEvent<'e> {
    fn of(answer: &'e EventAnswer, entry: &'e Entry, instance: &'e InstanceId) -> Self {
        Self {
            id: unless_eq(&answer.id, Some(instance)),
            revision: unless_eq(answer.revision, Some(entry.revision)),
            state: unless_eq(&answer.state, Some(&entry.to)),
            transition: transition(answer.transition.as_ref(), entry),
            closure_reason: unless_eq(answer.closure_reason.as_deref(), Some(entry.reason.as_deref())),
            reply: Replies { replies: &answer.reply, revision: entry.revision },
            effects: &answer.effects,
            replaced: answer.replaced.as_ref(),
            flow: answer.flow.as_deref(),
        }
    }
}

fn transition<'e>(transition: Option<&'e Transition>, entry: &Entry) -> Marked<&'e Transition> {
    let Entry { from, to, event, .. } = entry;
    match transition {
        Some(taken) if (&taken.from, &taken.to, &taken.event) == (from, to, event) => None,
        other => Some(other),
    }
}

struct Replies<'e> {
    replies: &'e [Reply],
    revision: Revision,
}

impl Replies<'_> {
    fn is_empty(&self) -> bool {
        self.replies.is_empty()
    }
}

impl Serialize for Replies<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let revision = self.revision;
        serializer.collect_seq(self.replies.iter().map(|reply| Bubble { reply, revision }))
    }
}

/// A text alone is the text; with options, a list of the text and each option's id and label. Else it is whole.
struct Bubble<'e> {
    reply: &'e Reply,
    revision: Revision,
}

impl Serialize for Bubble<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Reply { text, options, media } = self.reply;
        if !media.is_empty() {
            return self.reply.serialize(serializer);
        }
        if options.is_empty() {
            return serializer.serialize_str(text);
        }
        let mut list = serializer.serialize_seq(Some(1 + 2 * options.len()))?;
        list.serialize_element(text)?;
        for option in options {
            match of_prompt(&option.id, self.revision) {
                Some(name) => list.serialize_element(name)?,
                None => list.serialize_element(&format_args!("={}", option.id))?,
            }
            list.serialize_element(&option.label)?;
        }
        list.end()
    }
}

/// What is behind the `p5.` of an option that was shown at revision 5. With a `=` before it, an id is whole.
fn of_prompt(id: &str, revision: Revision) -> Option<&str> {
    let name = strip_number(id.strip_prefix('p')?, revision.0)?.strip_prefix('.')?;
    (!name.starts_with('=')).then_some(name)
}

/// A list of the trace, the intent, the certainty before and after, and the rule. Of its end, what restoring it finds
/// itself is left out.
struct Reasoning<'e>(&'e Why);

impl Serialize for Reasoning<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let why = self.0;
        let length = match why {
            Why { rule, trace, .. } if *rule != deciding(trace) => 5,
            Why { raw, adjusted, .. } if raw != adjusted => 4,
            Why { raw: 1.., .. } => 3,
            Why { intent: Some(_), .. } => 2,
            _ => 1,
        };
        let mut list = serializer.serialize_seq(Some(length))?;
        list.serialize_element(&Trace(why))?;
        if length > 1 {
            list.serialize_element(&why.intent)?;
        }
        if length > 2 {
            list.serialize_element(&why.raw)?;
        }
        if length > 3 {
            list.serialize_element(&why.adjusted)?;
        }
        if length > 4 {
            list.serialize_element(&why.rule)?;
        }
        list.end()
    }
}

/// The rule that decided, as far as its trace tells.
pub(super) fn deciding(trace: &[TraceStep]) -> Rule {
    trace.iter().rev().find(|step| step.applied).map_or(Rule::R13, |step| step.rule)
}

/// The letters of its sentences; with others, a list of letters and of steps.
struct Trace<'e>(&'e Why);

impl Serialize for Trace<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let why = self.0;
        let letter = |step| letter_of(step, why);
        if let Some(letters) = why.trace.iter().map(letter).collect::<Option<String>>() {
            return serializer.serialize_str(&letters);
        }
        let mut list = serializer.serialize_seq(None)?;
        let mut letters = String::new();
        for step in &why.trace {
            if let Some(letter) = letter(step) {
                letters.push(letter);
                continue;
            }
            if !letters.is_empty() {
                list.serialize_element(&letters)?;
                letters.clear();
            }
            list.serialize_element(&(step.rule, step.applied, &step.because))?;
        }
        if !letters.is_empty() {
            list.serialize_element(&letters)?;
        }
        list.end()
    }
}
