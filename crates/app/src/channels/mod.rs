//! The channels that messages come in by and replies go out by: one module for each provider.
//!
//! A channel is pure functions over what the provider sends and takes: is a webhook genuine (`verify*`), what does
//! it say (`decode*`), which requests send a reply (`encode*`), what does the response mean (`sent`). It does no
//! I/O, knows no clock, reads no header and chooses no HTTP status. `docs/channels.md` says what is read of each
//! provider's payloads.

pub mod meta;
pub mod slack;
pub mod telegram;
pub mod twilio;

pub mod degrade;
mod outcome;
mod reading;
mod signature;

#[cfg(test)]
mod bounds;
#[cfg(test)]
mod cases;

use std::fmt;

use kernel::conversation::Message;
use kernel::id::InputKey;
use serde::Serialize;
use serde_json::Value;

/// What a webhook brought. One request may carry messages of several people, and statuses besides.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Inbound {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub messages: Vec<InboundMessage>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub statuses: Vec<StatusUpdate>,
    /// The body that the provider wants in our 200, if any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer: Option<Value>,
    /// What was left out and why, one sentence each: what nobody takes (a reaction), and what is malformed beside
    /// others that are not. For the log; it names no text of a person.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub skipped: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct InboundMessage {
    /// The same in every redelivery.
    pub key: InputKey,
    /// The business's own end: a number, a `phone_number_id`, a bot, a workspace. Empty where nobody says it.
    pub account: String,
    /// Who wrote, by which a reply finds the person again. Fit to be a `Subject`.
    pub user: String,
    pub message: Message,
}

/// How far one of our own messages has come. Statuses arrive in any order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StatusUpdate {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// What `Sent::Accepted` named.
    pub provider_id: String,
    pub stage: Stage,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What the request that sent it was marked with, where the provider gives that back: by it a send whose
    /// outcome was unknown is recognised.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub correlation: Option<String>,
}

/// In the order in which a message goes through them; a status never goes backwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    Sent,
    Delivered,
    Read,
    Failed,
}

/// One request (always a POST) that sends a reply or a part of one. The parts of a reply are sent in order; when
/// one is not accepted, those after it wait.
///
/// Path and headers hold secrets, so that `Debug` shows neither.
#[derive(Clone, PartialEq, Eq)]
pub struct Send {
    /// Behind the provider's base URL, beginning with a slash. Telegram's holds the bot's token: it is no less
    /// secret than the headers.
    pub path: String,
    pub headers: Vec<(&'static str, String)>,
    pub content_type: &'static str,
    pub body: Vec<u8>,
}

impl Send {
    fn json(path: String, headers: Vec<(&'static str, String)>, body: &Value) -> Self {
        // Slack warns of JSON without the charset; the others do not mind it.
        let content_type = "application/json; charset=utf-8";
        Self { path, headers, content_type, body: body.to_string().into_bytes() }
    }
}

impl fmt::Debug for Send {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Send")
            .field("content_type", &self.content_type)
            .field("body_bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}

/// What a provider's response to a `Send` means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sent {
    Accepted {
        provider_id: Option<String>,
    },
    /// It will never be taken as it is.
    Refused {
        error: String,
    },
    /// It was not taken, and may be later.
    Later {
        error: String,
        after_seconds: Option<u64>,
    },
    /// Nobody can say whether it was taken: to repeat it may show it twice.
    Unknown {
        error: String,
    },
}

/// Why a webhook, though genuine, cannot be read at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DecodeError {
    Missing { parameter: String },
    Wrong { parameter: String, because: String },
    NotAnObject { because: String },
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { parameter } => write!(f, "the parameter `{parameter}` is missing"),
            Self::Wrong { parameter, because } => {
                write!(f, "the parameter `{parameter}` is wrong: {because}")
            }
            Self::NotAnObject { because } => write!(f, "the body is no JSON object: {because}"),
        }
    }
}

impl std::error::Error for DecodeError {}

fn missing(name: &str) -> DecodeError {
    DecodeError::Missing { parameter: name.to_owned() }
}
