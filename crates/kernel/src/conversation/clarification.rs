//! A clarification: a question with options that stands between a message and its transition.
//!
//! Owns its shape and its five statuses. At most one is pending in a session; `route` decides about it.

use serde::{Deserialize, Serialize};

use crate::conversation::message::{Message, ReplyOption};
use crate::id::{InstanceId, MachineName, Revision, Subject, TenantId};
use crate::time::Timestamp;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Clarification {
    /// `instance:revision`, from the revision that asked.
    pub id: String,
    pub tenant: TenantId,
    pub instance: InstanceId,
    pub machine: MachineName,
    pub subject: Subject,
    pub status: ClarificationStatus,
    pub question: String,
    pub options: Vec<ClarificationOption>,
    /// The message that raised the question; the answer replays it.
    pub original: Message,
    /// The revision of the session that asked.
    pub revision: Revision,
    pub created_at: Timestamp,
    /// From this instant on it has expired.
    pub expires_at: Timestamp,
    /// Answers that matched no option so far.
    pub attempts: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolved_at: Option<Timestamp>,
    /// The option that was chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClarificationStatus {
    Pending,
    Answered,
    Expired,
    Cancelled,
    Superseded,
}

impl ClarificationStatus {
    pub const ALL: [Self; 5] =
        [Self::Pending, Self::Answered, Self::Expired, Self::Cancelled, Self::Superseded];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Answered => "answered",
            Self::Expired => "expired",
            Self::Cancelled => "cancelled",
            Self::Superseded => "superseded",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == text)
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClarificationOption {
    pub id: String,
    pub label: String,
    pub choice: Choice,
}

/// What choosing an option means.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Choice {
    /// Replay the original message with this intent, certain.
    Intent(String),
    /// The same, and the person has been asked whether to be sure.
    Confirmed(String),
    /// Leave what was asked for and go on with what the session was doing.
    Continue,
    /// Nothing of it: start over with the next message.
    NoneOfThese,
}

/// A pending question as its reader sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClarificationView {
    pub id: String,
    pub question: String,
    pub options: Vec<ReplyOption>,
    pub expires_at: Timestamp,
}

impl Clarification {
    pub fn view(&self) -> ClarificationView {
        ClarificationView {
            id: self.id.clone(),
            question: self.question.clone(),
            options: self.reply_options(),
            expires_at: self.expires_at,
        }
    }

    pub fn reply_options(&self) -> Vec<ReplyOption> {
        let option = |o: &ClarificationOption| ReplyOption { id: o.id.clone(), label: o.label.clone() };
        self.options.iter().map(option).collect()
    }

    /// `now >= expires_at`: the boundary itself is expired.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        now >= self.expires_at
    }

    pub fn resolved(mut self, status: ClarificationStatus, now: Timestamp) -> Self {
        self.status = status;
        self.resolved_at = Some(now);
        self
    }
}
