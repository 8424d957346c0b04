//! The outbox: what has to be delivered to somebody who is not waiting, and how far that has come.
//!
//! Owns the life of one effect as every backend keeps it: who may claim it, how an attempt ends, and what a provider
//! reports afterwards. It sends nothing and knows no channel; when to try again is the caller's to say.

use kernel::commit::{Effect, EffectKind};
use kernel::id::{InstanceId, MachineName, Subject, TenantId};
use kernel::time::Timestamp;
use serde::{Deserialize, Serialize};

/// An effect with what has become of it.
#[derive(Clone, Debug, PartialEq)]
pub struct OutboxEffect {
    /// In the order of saving; unique, and without meaning otherwise.
    pub seq: u64,
    pub tenant: TenantId,
    pub instance: InstanceId,
    pub machine: MachineName,
    pub subject: Option<Subject>,
    pub effect: Effect,
    pub status: EffectStatus,
    /// How often it was claimed since it was saved, or since it was last retried by hand.
    pub attempts: u32,
    /// A reply may be several sends; so many of them need no repeat.
    pub parts_done: u32,
    pub created_at: Timestamp,
    /// When it may be claimed next; while it is being sent, the end of the claim. `None` once it is settled.
    pub due_at: Option<Timestamp>,
    /// The last failure, kept when a later attempt goes well.
    pub error: Option<String>,
    /// What the receiver calls it.
    pub provider_id: Option<String>,
    pub stage: Option<DeliveryStage>,
    pub settled_at: Option<Timestamp>,
}

/// What waits for each other: effects of one instance for one reader, so that they are read in the order in which they
/// were made. A host that does not answer keeps no person waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Lane {
    /// Whoever receives what has no address.
    Host,
    /// The person at the address.
    Person,
    /// Other flows: one that is begun, paused and resumed must hear of it in that order.
    Flows,
}

impl Lane {
    /// `None` for a call, which waits for nobody.
    pub fn of(effect: &Effect) -> Option<Self> {
        match effect.kind {
            EffectKind::Call { .. } => None,
            EffectKind::Tell(_) => Some(Self::Flows),
            EffectKind::Reply(_) if effect.to.is_some() => Some(Self::Person),
            EffectKind::Reply(_) | EffectKind::Notice(_) => Some(Self::Host),
        }
    }

    /// Tells the lanes of all instances apart; `owner` is the row of the instance. What is told to flows came later, and
    /// the numbers of the other two are in files already.
    pub fn number(self, owner: i64) -> i64 {
        match self {
            Self::Host => owner * 2,
            Self::Person => owner * 2 + 1,
            Self::Flows => -1 - owner,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EffectStatus {
    /// It waits for its next attempt.
    Pending,
    /// Somebody has claimed it.
    Sending,
    /// The receiver has accepted it.
    Delivered,
    /// It is not wanted any more.
    Cancelled,
    /// Nobody knows where to.
    Unaddressed,
    /// Attempts have come to an end without success.
    Dead,
    /// It may have been delivered or not, and to send it again might be once too often.
    Unknown,
}

impl EffectStatus {
    pub const ALL: [Self; 7] = [
        Self::Pending,
        Self::Sending,
        Self::Delivered,
        Self::Cancelled,
        Self::Unaddressed,
        Self::Dead,
        Self::Unknown,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Sending => "sending",
            Self::Delivered => "delivered",
            Self::Cancelled => "cancelled",
            Self::Unaddressed => "unaddressed",
            Self::Dead => "dead",
            Self::Unknown => "unknown",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == text)
    }

    /// Whether nothing more happens to it by itself.
    pub fn is_settled(self) -> bool {
        !matches!(self, Self::Pending | Self::Sending)
    }

    /// Whether somebody may have it tried again: it did not arrive, as far as is known, or waits for its time.
    pub fn may_be_retried(self) -> bool {
        matches!(self, Self::Dead | Self::Unknown | Self::Unaddressed | Self::Pending)
    }
}

/// What a provider reports of a message that it has accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryStage {
    Sent,
    Delivered,
    Read,
    Failed,
}

impl DeliveryStage {
    pub const ALL: [Self; 4] = [Self::Sent, Self::Delivered, Self::Read, Self::Failed];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Delivered => "delivered",
            Self::Read => "read",
            Self::Failed => "failed",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|stage| stage.as_str() == text)
    }

    /// Whether a report of this stage is news after `known`. Reports come late, twice and in any order: a stage never
    /// goes backwards, and what was delivered has not failed. Nothing follows a failure, the last in the order.
    pub fn is_news_after(self, known: Option<Self>) -> bool {
        match (known, self) {
            (None, _) => true,
            (Some(known), Self::Failed) => known < Self::Delivered,
            (Some(known), next) => known < next,
        }
    }
}

/// What a provider reports of something that it was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryReport {
    pub tenant: TenantId,
    pub provider_id: String,
    /// The effect's key, where the provider gives back what a send was marked with.
    pub key: Option<String>,
    pub stage: DeliveryStage,
    pub error: Option<String>,
}

impl DeliveryReport {
    /// What it makes of an effect that was sent: that it is heard of says that it arrived, unless it says that it failed.
    pub(crate) fn status(&self) -> EffectStatus {
        match self.stage {
            DeliveryStage::Failed => EffectStatus::Dead,
            DeliveryStage::Sent | DeliveryStage::Delivered | DeliveryStage::Read => EffectStatus::Delivered,
        }
    }
}

/// An effect that was given to whoever asked, as it is since then: sending, with this attempt counted.
#[derive(Clone, Debug, PartialEq)]
pub struct ClaimedEffect {
    pub effect: OutboxEffect,
    /// It was being sent before, and nobody said how that ended.
    pub interrupted: bool,
}

/// How an attempt has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settlement {
    pub tenant: TenantId,
    pub key: String,
    /// The effect's `attempts` as claimed: whoever comes after the claim was given to somebody else is not heard.
    pub attempt: u32,
    pub result: SettlementResult,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SettlementResult {
    Delivered {
        provider_id: Option<String>,
    },
    Retry {
        at: Timestamp,
        error: String,
        parts_done: u32,
    },
    /// No attempt was made, so none is counted.
    Postponed {
        at: Timestamp,
        /// Why it waits.
        error: String,
    },
    Dead {
        error: String,
        /// Kept for whoever has it tried again by hand.
        parts_done: u32,
    },
    Unknown {
        error: String,
        parts_done: u32,
    },
    Cancelled {
        error: String,
    },
    Unaddressed {
        error: String,
    },
}

/// What a settlement makes of an effect, beside its `settled_at`.
pub(crate) struct Settled<'a> {
    pub status: EffectStatus,
    /// The next attempt, if there is one.
    pub due_at: Option<Timestamp>,
    /// `None` leaves what there is, as with the two below.
    pub error: Option<&'a str>,
    pub parts_done: Option<u32>,
    pub provider_id: Option<&'a str>,
    /// Attempts that were counted with the claim and were none.
    pub uncounted: u32,
}

impl SettlementResult {
    pub(crate) fn settled(&self) -> Settled<'_> {
        let ended = |status, error| Settled {
            status,
            due_at: None,
            error: Some(error),
            parts_done: None,
            provider_id: None,
            uncounted: 0,
        };
        match self {
            Self::Delivered { provider_id } => Settled {
                status: EffectStatus::Delivered,
                due_at: None,
                error: None,
                parts_done: None,
                provider_id: provider_id.as_deref(),
                uncounted: 0,
            },
            Self::Postponed { at, error } => {
                Settled { due_at: Some(*at), uncounted: 1, ..ended(EffectStatus::Pending, error) }
            }
            Self::Retry { at, error, parts_done } => Settled {
                due_at: Some(*at),
                parts_done: Some(*parts_done),
                ..ended(EffectStatus::Pending, error)
            },
            Self::Dead { error, parts_done } => {
                Settled { parts_done: Some(*parts_done), ..ended(EffectStatus::Dead, error) }
            }
            Self::Unknown { error, parts_done } => {
                Settled { parts_done: Some(*parts_done), ..ended(EffectStatus::Unknown, error) }
            }
            Self::Cancelled { error } => ended(EffectStatus::Cancelled, error),
            Self::Unaddressed { error } => ended(EffectStatus::Unaddressed, error),
        }
    }
}

/// Effects of a tenant, newest first; `cursor` is opaque and comes from the page before.
#[derive(Clone, Debug)]
pub struct EffectQuery {
    pub tenant: TenantId,
    pub instance: Option<InstanceId>,
    /// Those with one of these; with none named, all.
    pub statuses: Vec<EffectStatus>,
    /// Only this one.
    pub key: Option<String>,
    pub cursor: Option<String>,
    pub limit: usize,
}

impl EffectQuery {
    pub fn of(tenant: TenantId) -> Self {
        Self { tenant, instance: None, statuses: Vec::new(), key: None, cursor: None, limit: 100 }
    }

    /// Whether `found` belongs in the list, the cursor aside.
    pub(crate) fn matches(&self, found: &OutboxEffect) -> bool {
        found.tenant == self.tenant
            && self.instance.as_ref().is_none_or(|instance| found.instance == *instance)
            && (self.statuses.is_empty() || self.statuses.contains(&found.status))
            && self.key.as_ref().is_none_or(|key| found.effect.key == *key)
    }

    /// Every effect of the page has a lower number than this; nothing has with a cursor that no page gave.
    pub(crate) fn before(&self) -> u64 {
        self.cursor.as_deref().map_or(u64::MAX, |cursor| cursor.parse().unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_and_print_the_same() {
        for status in EffectStatus::ALL {
            assert_eq!(EffectStatus::parse(status.as_str()), Some(status));
            assert_eq!(serde_json::to_string(&status).unwrap(), format!("\"{}\"", status.as_str()));
        }
        for stage in DeliveryStage::ALL {
            assert_eq!(DeliveryStage::parse(stage.as_str()), Some(stage));
            assert_eq!(serde_json::to_string(&stage).unwrap(), format!("\"{}\"", stage.as_str()));
        }
        assert_eq!((EffectStatus::parse("Pending"), DeliveryStage::parse("")), (None, None));
    }
}
