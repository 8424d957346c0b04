//! A `Refusal`: an input that is not taken, as a value that says why and what would have been.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::flow::PhaseState;
use crate::id::Revision;
use crate::snapshot::Timer;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Refusal {
    pub code: RefusalCode,
    /// Completes "refused: …" and carries values.
    pub message: String,
    /// The instance's revision when it was refused.
    pub revision: Revision,
    /// The events that the instance would have taken.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed: Vec<String>,
    /// The transitions that were looked at, in order, each with what its guard said.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub explain: Vec<Considered>,
    /// What would not have held any more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub violated: Vec<Violation>,
    /// What comes by time, whatever is sent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub timers: Vec<Timer>,
    /// For an action on a phase of a flow, how the phase stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Box<PhaseStanding>>,
}

/// How a phase stands to which something was refused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PhaseStanding {
    pub phase: Arc<str>,
    pub state: PhaseState,
    /// The states that it could go to, and the actions that it would take now.
    pub valid_transitions: Vec<PhaseState>,
    pub valid_actions: Vec<String>,
    /// What it needs and what is not completed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<Arc<str>>,
    /// Whether it may be tried again now.
    pub retry_allowed: bool,
}

/// Why an input is refused. The code's name is public and stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusalCode {
    /// The event exists, but no transition of the active states takes it.
    InvalidTransition,
    /// A transition would take the event, but its guard said no.
    GuardRejected,
    /// What has to hold would not hold any more.
    InvariantViolated,
    /// The instance has ended.
    InstanceClosed,
    /// The machine has no such event.
    UnknownEvent,
    /// No such instance, or no such clarification, for this tenant.
    NotFound,
    /// A context field is missing, unknown, or of the wrong type; or a context or payload is too large or too deep.
    InvalidContext,
    /// The instance exists already.
    InstanceExists,
    /// The instance is at another revision than the caller expected.
    StaleRevision,
    /// The same key came before with another payload.
    KeyReused,
    /// The instance is pinned to a definition that is not loaded.
    DefinitionMissing,
    /// An expression could not be evaluated.
    ExpressionFailed,
    /// The machine did not come to rest within its bound of small steps.
    StepLimit,
    /// The clarification is no longer pending.
    ClarificationClosed,
    /// The call that a result is for is not waited for any more.
    CallOver,
    /// The machine is no conversation.
    NotAConversation,
    /// What a phase needs is not completed.
    NeedsMissing,
    /// The phase does not apply to this flow.
    NotApplicable,
    /// The flow is paused: nothing new begins.
    FlowPaused,
    /// Whoever asks may not do this.
    PermissionDenied,
    /// The phase was tried as often as it may be.
    RetryLimit,
    /// What the phase waited for came too late.
    Expired,
    /// Somebody else has the phase, or the sender has it no more.
    LeaseLost,
    /// What came with the action is not what the action takes.
    MalformedRequest,
    /// The instance has no place in the definition that it is to go on by.
    NotMigratable,
}

impl RefusalCode {
    /// Whether the refusal belongs in the log of the instance: the machine said no, rather than the caller having
    /// asked for something that does not exist or may be repeated unchanged.
    pub fn is_recorded(self) -> bool {
        matches!(
            self,
            Self::InvalidTransition
                | Self::GuardRejected
                | Self::InvariantViolated
                | Self::InstanceClosed
                | Self::ExpressionFailed
                | Self::StepLimit
                | Self::ClarificationClosed
                | Self::CallOver
                | Self::NeedsMissing
                | Self::NotApplicable
                | Self::FlowPaused
                | Self::PermissionDenied
                | Self::RetryLimit
                | Self::Expired
                | Self::LeaseLost
        )
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidTransition => "invalid_transition",
            Self::GuardRejected => "guard_rejected",
            Self::InvariantViolated => "invariant_violated",
            Self::InstanceClosed => "instance_closed",
            Self::UnknownEvent => "unknown_event",
            Self::NotFound => "not_found",
            Self::InvalidContext => "invalid_context",
            Self::InstanceExists => "instance_exists",
            Self::StaleRevision => "stale_revision",
            Self::KeyReused => "key_reused",
            Self::DefinitionMissing => "definition_missing",
            Self::ExpressionFailed => "expression_failed",
            Self::StepLimit => "step_limit",
            Self::ClarificationClosed => "clarification_closed",
            Self::CallOver => "call_over",
            Self::NotAConversation => "not_a_conversation",
            Self::NeedsMissing => "needs_missing",
            Self::NotApplicable => "not_applicable",
            Self::FlowPaused => "flow_paused",
            Self::PermissionDenied => "permission_denied",
            Self::RetryLimit => "retry_limit",
            Self::Expired => "expired",
            Self::LeaseLost => "lease_lost",
            Self::MalformedRequest => "malformed_request",
            Self::NotMigratable => "not_migratable",
        }
    }
}

/// A transition that was looked at for an event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Considered {
    pub state: String,
    pub event: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub target: Vec<String>,
    pub chosen: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guard: Option<GuardVerdict>,
}

/// A guard with its result and the values that it saw.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GuardVerdict {
    pub expression: String,
    pub passed: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    pub values: serde_json::Map<String, Value>,
}

/// Something that has to hold, and would not have held, with the values that it saw.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Violation {
    pub name: String,
    /// The state whose invariant it is, or whose transition ensures it; empty for the top.
    pub state: String,
    /// For what a transition ensures, the event that the transition is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
    pub expression: String,
    /// What the definition says to whoever is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Why it cannot be worked out, if that is what is wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    pub values: serde_json::Map<String, Value>,
}

impl Refusal {
    pub fn new(code: RefusalCode, revision: Revision, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            revision,
            allowed: Vec::new(),
            explain: Vec::new(),
            violated: Vec::new(),
            timers: Vec::new(),
            phase: None,
        }
    }
}
