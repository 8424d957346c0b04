//! Reading an entry's body, as it is written today and as it was when all was written whole.

use std::fmt;

use serde::Deserialize;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::EntryPlace;
use super::write::deciding;
use crate::chart::TransitionIndex;
use crate::commit::{Answer, Effect, Entry, EntryCause, EventAnswer, FlowAnswer, MessageAnswer};
use crate::commit::{Replaced, Transition};
use crate::conversation::clarification::ClarificationView;
use crate::conversation::sentence::step_of;
use crate::conversation::{Message, MessageOutcome, Reply, ReplyOption, Rule, TraceStep, Why};
use crate::id::{Digest, InputKey, InstanceId, Revision};
use crate::input::Fields;
use crate::refusal::Refusal;
use crate::time::Timestamp;

/// `None` is what the entry says, `Some(None)` nothing.
type Marked<T> = Option<Option<T>>;

/// The body of an entry, until what is beside it is known.
#[derive(Debug, Deserialize)]
pub struct StoredEntry {
    at: Timestamp,
    key: InputKey,
    #[serde(default)]
    digest: Option<Digest>,
    event: String,
    from: String,
    to: String,
    success: bool,
    #[serde(default, rename = "t", alias = "transitions")]
    transitions: Vec<TransitionIndex>,
    #[serde(default)]
    reason: Option<String>,
    #[serde(default)]
    code: Option<String>,
    #[serde(default)]
    looping: Option<u32>,
    #[serde(default)]
    by: Option<String>,
    #[serde(default)]
    trace_id: Option<String>,
    #[serde(default)]
    unsampled: bool,
    #[serde(default)]
    message: Option<Words>,
    #[serde(default)]
    payload: Fields,
    #[serde(default)]
    cause: Option<EntryCause>,
    answer: Told,
}

#[derive(Debug, Deserialize)]
enum Told {
    #[serde(rename = "m")]
    Message(OfMessage),
    #[serde(rename = "e")]
    Event(OfEvent),
    #[serde(rename = "message")]
    WholeMessage(MessageAnswer),
    #[serde(rename = "event")]
    WholeEvent(EventAnswer),
    #[serde(rename = "refused")]
    Refused(Refusal),
}

#[derive(Debug, Deserialize)]
struct OfMessage {
    #[serde(default)]
    session_id: Option<InstanceId>,
    #[serde(default)]
    revision: Option<Revision>,
    #[serde(default)]
    outcome: Option<MessageOutcome>,
    #[serde(default)]
    state: Option<String>,
    #[serde(default, rename = "r")]
    reply: Vec<Bubble>,
    #[serde(default, rename = "t", deserialize_with = "marked")]
    transition: Marked<Transition>,
    #[serde(default)]
    clarification: Option<ClarificationView>,
    #[serde(default, rename = "c", deserialize_with = "marked")]
    closure_reason: Marked<String>,
    #[serde(default)]
    effects: Vec<Effect>,
    #[serde(default)]
    refusal: Option<Box<Refusal>>,
    #[serde(rename = "w")]
    why: Reasoning,
}

#[derive(Debug, Deserialize)]
struct OfEvent {
    #[serde(default)]
    id: Option<InstanceId>,
    #[serde(default)]
    revision: Option<Revision>,
    #[serde(default)]
    state: Option<String>,
    #[serde(default, rename = "t", deserialize_with = "marked")]
    transition: Marked<Transition>,
    #[serde(default, rename = "c", deserialize_with = "marked")]
    closure_reason: Marked<String>,
    #[serde(default, rename = "r")]
    reply: Vec<Bubble>,
    #[serde(default)]
    effects: Vec<Effect>,
    #[serde(default)]
    replaced: Option<Replaced>,
    #[serde(default)]
    flow: Option<Box<FlowAnswer>>,
}

fn marked<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Marked<T>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

impl StoredEntry {
    /// The whole entry.
    ///
    /// # Errors
    /// A fragment, when the body has something that this program does not know, or lacks what is nowhere else.
    pub fn restore(self, place: EntryPlace) -> Result<Entry, String> {
        let message = self.message.map(|words| words.0);
        let digest = match (self.digest, &message) {
            (Some(digest), _) => digest,
            (None, Some(message)) => message.digest(),
            (None, None) => return Err("it has neither a digest nor a message".to_owned()),
        };
        let said = Said {
            place: &place,
            from: &self.from,
            to: &self.to,
            event: &self.event,
            reason: self.reason.as_deref(),
        };
        let answer = match self.answer {
            Told::Message(told) => Answer::Message(told.restore(&said)?),
            Told::Event(told) => Answer::Event(told.restore(&said)),
            Told::WholeMessage(answer) => Answer::Message(answer),
            Told::WholeEvent(answer) => Answer::Event(answer),
            Told::Refused(refusal) => Answer::Refused(refusal),
        };
        Ok(Entry {
            revision: place.revision,
            at: self.at,
            receipt: place.receipt,
            key: self.key,
            digest,
            event: self.event,
            from: self.from,
            to: self.to,
            success: self.success,
            transitions: self.transitions,
            reason: self.reason,
            code: self.code,
            looping: self.looping,
            by: self.by,
            trace_id: self.trace_id,
            unsampled: self.unsampled,
            message,
            payload: self.payload,
            cause: self.cause,
            answer,
        })
    }
}

/// What an entry says besides its answer, which the answer then left out.
struct Said<'e> {
    place: &'e EntryPlace,
    from: &'e str,
    to: &'e str,
    event: &'e str,
    reason: Option<&'e str>,
}

impl Said<'_> {
    fn instance(&self) -> InstanceId {
        self.place.instance.clone()
    }

    fn state(&self) -> String {
        self.to.to_owned()
    }

    fn reason(&self) -> Option<String> {
        self.reason.map(str::to_owned)
    }

    fn transition(&self) -> Option<Transition> {
        let [from, to, event] = [self.from, self.to, self.event].map(str::to_owned);
        Some(Transition { from, to, event })
    }

    fn replies(&self, bubbles: Vec<Bubble>) -> Vec<Reply> {
        bubbles.into_iter().map(|bubble| bubble.restore(self.place.revision)).collect()
    }
}

impl OfMessage {
    fn restore(self, said: &Said<'_>) -> Result<MessageAnswer, String> {
        Ok(MessageAnswer {
            session_id: self.session_id.unwrap_or_else(|| said.instance()),
            revision: self.revision.unwrap_or(said.place.revision),
            outcome: self.outcome.unwrap_or(MessageOutcome::Dispatched),
            state: self.state.unwrap_or_else(|| said.state()),
            reply: said.replies(self.reply),
            transition: self.transition.unwrap_or_else(|| said.transition()),
            clarification: self.clarification,
            closure_reason: self.closure_reason.unwrap_or_else(|| said.reason()),
            effects: self.effects,
            refusal: self.refusal,
            why: self.why.restore()?,
        })
    }
}

impl OfEvent {
    fn restore(self, said: &Said<'_>) -> EventAnswer {
        EventAnswer {
            id: self.id.unwrap_or_else(|| said.instance()),
            revision: self.revision.unwrap_or(said.place.revision),
            state: self.state.unwrap_or_else(|| said.state()),
            transition: self.transition.unwrap_or_else(|| said.transition()),
            closure_reason: self.closure_reason.unwrap_or_else(|| said.reason()),
            reply: said.replies(self.reply),
            effects: self.effects,
            replaced: self.replaced,
            flow: self.flow,
        }
    }
}

/// A message; a text is all of one.
#[derive(Debug)]
struct Words(Message);

impl<'de> Deserialize<'de> for Words {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Shapes;

        impl<'de> Visitor<'de> for Shapes {
            type Value = Words;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a message or its text")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Words, E> {
                Ok(Words(Message::of_text(text)))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Words, A::Error> {
                Message::deserialize(MapAccessDeserializer::new(map)).map(Words)
            }
        }

        deserializer.deserialize_any(Shapes)
    }
}

/// A reply: a text, a text with the ids and labels of options, or a whole one.
#[derive(Debug)]
enum Bubble {
    Whole(Reply),
    /// With ids that may leave out the revision at which they were shown.
    Listed(Reply),
}

impl Bubble {
    fn restore(self, revision: Revision) -> Reply {
        let mut reply = match self {
            Self::Whole(reply) => return reply,
            Self::Listed(reply) => reply,
        };
        for option in &mut reply.options {
            option.id = match option.id.strip_prefix('=') {
                Some(whole) => whole.to_owned(),
                None => format!("p{revision}.{}", option.id),
            };
        }
        reply
    }
}

impl<'de> Deserialize<'de> for Bubble {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Shapes;

        impl<'de> Visitor<'de> for Shapes {
            type Value = Bubble;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a reply, its text, or a list of its text, ids and labels")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Bubble, E> {
                Ok(Bubble::Whole(Reply::of_text(text)))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Bubble, A::Error> {
                let missing = |what: &str| Error::custom(format_args!("a reply lacks {what}"));
                let text: String = list.next_element()?.ok_or_else(|| missing("its text"))?;
                let mut reply = Reply::of_text(text);
                while let Some(id) = list.next_element()? {
                    let label = list.next_element()?.ok_or_else(|| missing("the label of an option"))?;
                    reply.options.push(ReplyOption { id, label });
                }
                Ok(Bubble::Listed(reply))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Bubble, A::Error> {
                Reply::deserialize(MapAccessDeserializer::new(map)).map(Bubble::Whole)
            }
        }

        deserializer.deserialize_any(Shapes)
    }
}

/// Why, but for what its trace tells.
#[derive(Debug)]
struct Reasoning {
    trace: Trace,
    intent: Option<String>,
    raw: u16,
    adjusted: u16,
    rule: Option<Rule>,
}

impl Reasoning {
    fn restore(self) -> Result<Why, String> {
        let Self { trace: Trace(pieces), intent, raw, adjusted, rule } = self;
        let mut why = Why { rule: Rule::R13, intent, raw, adjusted, trace: Vec::with_capacity(16) };
        for piece in pieces {
            let letters = match piece {
                Piece::Letters(letters) => letters,
                Piece::Step(rule, applied, because) => {
                    why.trace.push(TraceStep { rule, applied, because: because.into() });
                    continue;
                }
            };
            for letter in letters.chars() {
                let unknown = || format!("`{letter}` in a trace is no sentence that this program knows");
                let step = step_of(letter, &why).ok_or_else(unknown)?;
                why.trace.push(step);
            }
        }
        why.rule = rule.unwrap_or_else(|| deciding(&why.trace));
        Ok(why)
    }
}

impl<'de> Deserialize<'de> for Reasoning {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Shapes;

        impl<'de> Visitor<'de> for Shapes {
            type Value = Reasoning;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of a trace, an intent, how certain it is, and a rule")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Reasoning, A::Error> {
                let trace =
                    list.next_element()?.ok_or_else(|| Error::custom("a decision lacks its trace"))?;
                let intent = list.next_element()?.flatten();
                let raw = list.next_element()?.unwrap_or_default();
                let adjusted = list.next_element()?.unwrap_or(raw);
                Ok(Reasoning { trace, intent, raw, adjusted, rule: list.next_element()? })
            }
        }

        deserializer.deserialize_seq(Shapes)
    }
}

/// Letters of sentences, or a list of such and of steps in other words.
#[derive(Debug)]
struct Trace(Vec<Piece>);

#[derive(Debug)]
enum Piece {
    Letters(String),
    Step(Rule, bool, String),
}

impl<'de> Deserialize<'de> for Trace {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Shapes;

        impl<'de> Visitor<'de> for Shapes {
            type Value = Trace;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("letters of sentences, or a list of such and of steps")
            }

            fn visit_str<E: Error>(self, letters: &str) -> Result<Trace, E> {
                Ok(Trace(vec![Piece::Letters(letters.to_owned())]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Trace, A::Error> {
                let mut pieces = Vec::new();
                while let Some(piece) = list.next_element()? {
                    pieces.push(piece);
                }
                Ok(Trace(pieces))
            }
        }

        deserializer.deserialize_any(Shapes)
    }
}

impl<'de> Deserialize<'de> for Piece {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Shapes;

        impl<'de> Visitor<'de> for Shapes {
            type Value = Piece;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("letters of sentences, or a step")
            }

            fn visit_str<E: Error>(self, letters: &str) -> Result<Piece, E> {
                Ok(Piece::Letters(letters.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Piece, A::Error> {
                let (rule, applied, because) = Deserialize::deserialize(SeqAccessDeserializer::new(list))?;
                Ok(Piece::Step(rule, applied, because))
            }
        }

        deserializer.deserialize_any(Shapes)
    }
}
