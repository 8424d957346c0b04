//! What goes into a conversation and what comes out: messages, candidates, replies.
//!
//! These are the shapes of `POST …/messages`, so their field names are public. No behaviour beyond the digest.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::bound;
use crate::id::{Digest, InputKey};
use crate::input::Fields;
use crate::time::Timestamp;

/// A message of a person, as the channel or the caller handed it over.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Message {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The opaque token of a button or list row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub media: Vec<Media>,
    /// What the caller's own classifier thinks: advice, best first or not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub candidates: Vec<Candidate>,
    /// Values that the caller has found in the message, such as `task_id`.
    #[serde(default, skip_serializing_if = "Fields::is_empty")]
    pub parameters: Fields,
    /// A BCP 47 language tag; the base language decides (`fr-CA` is `fr`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locale: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub received_at: Option<Timestamp>,
    /// The message that this one quotes, if it is a reply in the channel's sense.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quoted: Option<InputKey>,
    /// The recogniser that was asked for the candidates, if it was not the caller who sent them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advised_by: Option<String>,
    /// Why a recogniser that was asked had nothing to say, such as `rasa: timeout`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advice_failure: Option<String>,
    /// Where the person is reached; the session remembers it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Arc<Address>>,
    /// Whether the replies are to be delivered. Otherwise whoever handed the message over reads them off the answer
    /// and passes them on.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub deliver: bool,
}

/// Where a person is reached.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Address {
    /// Such as `twilio`.
    pub channel: String,
    /// The business's own number or account there.
    pub account: String,
    /// The person's identity there.
    pub user: String,
}

impl Message {
    pub fn of_text(text: &str) -> Self {
        Self { text: Some(text.to_owned()), ..Self::default() }
    }

    /// The message with what the recogniser `adviser` makes of it. Advice that would make a message larger than one may
    /// be is left out: the message comes first.
    pub fn advised(self, adviser: &str, candidates: Vec<Candidate>) -> Self {
        let advised = Self { candidates, advised_by: Some(adviser.to_owned()), ..self };
        match bound::check_message(&advised) {
            Ok(()) => advised,
            Err(_) => {
                Self { candidates: Vec::new(), advised_by: None, ..advised }.unadvised(adviser, "too large")
            }
        }
    }

    /// The message with the reason why the recogniser `adviser` has nothing to say about it.
    pub fn unadvised(self, adviser: &str, reason: &str) -> Self {
        Self { advice_failure: Some(format!("{adviser}: {reason}")), ..self }
    }

    /// A digest of what the person sent: text, payload, media and what was quoted. By which way it came is not part of
    /// it: that is part of the subject.
    pub fn digest(&self) -> Digest {
        let media = self.media.iter().flat_map(|m| [m.url.as_str(), m.kind.as_str()]);
        let mut parts = vec![
            "message",
            self.text.as_deref().unwrap_or("\u{0}"),
            self.payload.as_deref().unwrap_or("\u{0}"),
            self.quoted.as_ref().map_or("\u{0}", InputKey::as_str),
        ];
        parts.extend(media);
        Digest::of_parts(&parts)
    }
}

/// A picture, a voice note, a document: by reference only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Media {
    pub url: String,
    /// The media type, such as `image/jpeg`.
    #[serde(rename = "type", default)]
    pub kind: String,
}

/// An adviser's guess at the intent of a message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Candidate {
    pub intent: String,
    pub confidence: Confidence,
    #[serde(default, skip_serializing_if = "Fields::is_empty")]
    pub parameters: Fields,
}

/// A confidence in basis points, 0 to 10000. Reads and writes as a number from 0 to 1 where people write it.
///
/// Integers, because 0.95 - 0.80 < 0.15 in floating point and the rules turn on such edges.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Confidence(u16);

impl Confidence {
    pub const NONE: Confidence = Confidence(0);
    pub const CERTAIN: Confidence = Confidence(10_000);

    pub const fn basis_points(points: u16) -> Self {
        Self(if points > 10_000 { 10_000 } else { points })
    }

    pub fn points(self) -> u16 {
        self.0
    }

    /// # Errors
    /// A fragment, when `share` is not from 0 to 1.
    pub fn from_share(share: f64) -> Result<Self, String> {
        if !(0.0..=1.0).contains(&share) {
            return Err(format!("the confidence {share} is not between 0 and 1"));
        }
        // In range, so it fits. Rounded down, or 0.69995 would pass for 0.70; the billionth undoes what binary fractions
        // lose of such as 0.57.
        Ok(Self((share * 10_000.0 + 1e-9).floor() as u16))
    }

    pub fn minus(self, other: Confidence) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl fmt::Display for Confidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl Serialize for Confidence {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(f64::from(self.0) / 10_000.0)
    }
}

impl<'de> Deserialize<'de> for Confidence {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::from_share(f64::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// One bubble of what the person reads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    pub text: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<ReplyOption>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub media: Vec<Media>,
}

impl Reply {
    pub fn of_text(text: impl Into<String>) -> Self {
        Self { text: text.into(), options: Vec::new(), media: Vec::new() }
    }
}

/// A button or list row under a reply.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplyOption {
    pub id: String,
    pub label: String,
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MessageOutcome {
    /// An intent's event was taken.
    Dispatched,
    /// A question was asked (or asked again).
    Clarifying,
    /// Media was put aside until the person says what it is for.
    MediaHeld,
    /// Answered without touching the state, such as help.
    Inline,
    /// Understood, but the state does not allow it.
    Refused,
    /// Nothing for us: an echo, a delivery status.
    Ignored,
    /// A person has taken over.
    HandedOver,
    /// Not understood.
    Fallback,
}

impl MessageOutcome {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dispatched => "dispatched",
            Self::Clarifying => "clarifying",
            Self::MediaHeld => "media_held",
            Self::Inline => "inline",
            Self::Refused => "refused",
            Self::Ignored => "ignored",
            Self::HandedOver => "handed_over",
            Self::Fallback => "fallback",
        }
    }
}

/// The chosen intent and the whole reasoning behind an outcome.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Why {
    /// The rule that decided.
    pub rule: Rule,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub intent: Option<String>,
    /// Basis points before and after adjustment.
    pub raw: u16,
    pub adjusted: u16,
    pub trace: Vec<TraceStep>,
}

/// One rule's verdict; every rule leaves one, also when it does not apply.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceStep {
    pub rule: Rule,
    pub applied: bool,
    pub because: std::borrow::Cow<'static, str>,
}

/// The rules of the router, in their order. `docs/routing.md` says what each does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Rule {
    R0,
    R1,
    R2,
    R3,
    R4,
    R5,
    R6,
    R7,
    R8,
    R9,
    R10,
    R11,
    R12,
    R13,
}
