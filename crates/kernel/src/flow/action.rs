//! What can be done to a flow, as events: `field_mapping.approve` for a phase, `pause` for the whole.
//!
//! Owns the names and what may come with each. What an action does is in `step`.

use serde_json::Value;

use crate::diagnostic::nearest;
use crate::flow::{Flow, PhaseIndex};
use crate::input::Fields;
use crate::snapshot::Timer;
use crate::time::Delay;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlowEvent {
    Phase(PhaseIndex, Action),
    Flow(Control),
}

/// What somebody does to a phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Start,
    /// A worker takes it, for as long as it is heard of.
    Claim,
    /// The worker is still at it.
    Heartbeat,
    Progress,
    /// The work is done and handed in to whoever has to say yes.
    Submit,
    /// Somebody says that the work is right.
    Validate,
    /// Somebody agrees to it.
    Approve,
    /// Somebody says no: back to work.
    Reject,
    /// The work is done.
    Complete,
    Fail,
    Retry,
    Rollback,
}

/// What somebody does to the whole flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    Pause,
    Resume,
    Cancel,
    /// Another flow asks to be told when this one ends.
    Watch,
}

/// What a timer of a phase says. Nobody outside can.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Alarm {
    /// The pause before the next attempt is over.
    RetryDue,
    TimedOut,
    LeaseExpired,
    ValidationExpired,
    ApprovalExpired,
}

/// Tokens, workers and whoever is behind an action: all are kept with the flow.
const NAME_BYTES_MAX: usize = 300;

/// What comes with an action.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ActionInput {
    pub by: Option<String>,
    pub reason: Option<String>,
    pub error: Option<Fields>,
    pub progress: Option<f64>,
    pub output: Option<Fields>,
    /// The token of the lease that the sender holds.
    pub lease: Option<String>,
    pub worker: Option<String>,
    /// How long a lease is to last.
    pub lasts: Option<Delay>,
    /// Who is to be told.
    pub instance: Option<String>,
    pub call: Option<String>,
}

impl Action {
    pub const ALL: [Self; 12] = [
        Self::Start,
        Self::Claim,
        Self::Heartbeat,
        Self::Progress,
        Self::Submit,
        Self::Validate,
        Self::Approve,
        Self::Reject,
        Self::Complete,
        Self::Fail,
        Self::Retry,
        Self::Rollback,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Claim => "claim",
            Self::Heartbeat => "heartbeat",
            Self::Progress => "progress",
            Self::Submit => "submit",
            Self::Validate => "validate",
            Self::Approve => "approve",
            Self::Reject => "reject",
            Self::Complete => "complete",
            Self::Fail => "fail",
            Self::Retry => "retry",
            Self::Rollback => "rollback",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.as_str() == text)
    }

    /// What may come with it, beside a reason.
    fn keys(self) -> &'static [&'static str] {
        match self {
            Self::Start | Self::Validate | Self::Approve | Self::Reject | Self::Retry | Self::Rollback => &[],
            Self::Claim => &["worker", "lease", "lasts"],
            Self::Heartbeat => &["lease", "lasts", "progress"],
            Self::Progress => &["lease", "progress"],
            Self::Submit | Self::Complete => &["lease", "output"],
            Self::Fail => &["lease", "error"],
        }
    }
}

impl Control {
    pub const ALL: [Self; 4] = [Self::Pause, Self::Resume, Self::Cancel, Self::Watch];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Cancel => "cancel",
            Self::Watch => "watch",
        }
    }

    fn keys(self) -> &'static [&'static str] {
        match self {
            Self::Watch => &["instance", "call"],
            Self::Pause | Self::Resume | Self::Cancel => &[],
        }
    }
}

impl Alarm {
    const ALL: [Self; 5] =
        [Self::RetryDue, Self::TimedOut, Self::LeaseExpired, Self::ValidationExpired, Self::ApprovalExpired];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::RetryDue => "retry_due",
            Self::TimedOut => "timed_out",
            Self::LeaseExpired => "lease_expired",
            Self::ValidationExpired => "validation_expired",
            Self::ApprovalExpired => "approval_expired",
        }
    }

    /// The timer of a phase among others.
    pub fn timer_of<'t>(self, timers: &'t [Timer], phase: &str) -> Option<&'t Timer> {
        timers.iter().find(|timer| {
            let rest = timer.id.strip_prefix(phase).and_then(|rest| rest.strip_prefix('.'));
            rest == Some(self.as_str())
        })
    }
}

impl FlowEvent {
    /// # Errors
    /// A sentence that says what there is instead.
    pub fn parse(flow: &Flow, event: &str) -> Result<Self, String> {
        let Some((phase, action)) = event.rsplit_once('.') else {
            let control = Control::ALL.into_iter().find(|control| control.as_str() == event);
            return control.map(Self::Flow).ok_or_else(|| {
                let known = Control::ALL.iter().map(|control| control.as_str());
                let help = nearest(event, known);
                format!("a flow has no event `{event}`; {help}; for a phase, write `<phase>.<action>`")
            });
        };
        let index = flow.by_name(phase).ok_or_else(|| {
            let known = flow.phases.iter().map(|phase| &*phase.name);
            format!("the flow has no phase `{phase}`; {}", nearest(phase, known))
        })?;
        let action = Action::parse(action).ok_or_else(|| {
            let known = Action::ALL.iter().map(|action| action.as_str());
            format!("a phase has no action `{action}`; {}", nearest(action, known))
        })?;
        Ok(Self::Phase(index, action))
    }

    fn keys(self) -> &'static [&'static str] {
        match self {
            Self::Phase(_, action) => action.keys(),
            Self::Flow(control) => control.keys(),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Phase(_, action) => action.as_str(),
            Self::Flow(control) => control.as_str(),
        }
    }

    /// # Errors
    /// A sentence about the first thing that is wrong with `payload`.
    pub(crate) fn input(self, payload: &Fields, by: Option<&String>) -> Result<ActionInput, String> {
        let known = self.keys();
        let strange = payload.keys().find(|key| *key != "reason" && !known.contains(&key.as_str()));
        if let Some(key) = strange {
            let help = nearest(key, known.iter().copied().chain(["reason"]));
            return Err(format!("`{}` takes no `{key}`; {help}", self.name()));
        }
        let text = |key: &str| match payload.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) if key != "reason" && text.len() > NAME_BYTES_MAX => {
                Err(format!("`{key}` has {} bytes; {NAME_BYTES_MAX} are allowed", text.len()))
            }
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(other) => Err(format!("`{key}` must be text, not {other}")),
        };
        let object = |key: &str| match payload.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Object(fields)) => Ok(Some(fields.clone())),
            Some(other) => Err(format!("`{key}` must be an object, not {other}")),
        };
        let progress = match payload.get("progress") {
            None | Some(Value::Null) => None,
            Some(value) => match value.as_f64().filter(|share| (0.0..=1.0).contains(share)) {
                Some(share) => Some(share),
                None => return Err(format!("`progress` must be a number from 0 to 1, not {value}")),
            },
        };
        let lasts = match text("lasts")? {
            None => None,
            Some(text) => Some(Delay::parse(&text).map_err(|problem| format!("`lasts`: {problem}"))?),
        };
        if by.is_some_and(|by| by.trim().is_empty()) {
            return Err("`by` is empty; leave it out, or say who".into());
        }
        if let Some(by) = by.filter(|by| by.len() > NAME_BYTES_MAX) {
            return Err(format!("`by` has {} bytes; {NAME_BYTES_MAX} are allowed", by.len()));
        }
        Ok(ActionInput {
            by: by.cloned(),
            reason: text("reason")?,
            error: object("error")?,
            progress,
            output: object("output")?,
            lease: text("lease")?,
            worker: text("worker")?,
            lasts,
            instance: text("instance")?,
            call: text("call")?,
        })
    }
}

/// What a timer is for.
pub(crate) fn alarm_of(flow: &Flow, timer: &str) -> Option<(PhaseIndex, Alarm)> {
    let (phase, alarm) = timer.rsplit_once('.')?;
    let alarm = Alarm::ALL.into_iter().find(|known| known.as_str() == alarm)?;
    Some((flow.by_name(phase)?, alarm))
}
