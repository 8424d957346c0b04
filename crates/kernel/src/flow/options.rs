//! What can be done now: for every phase, and for the flow as a whole.
//!
//! Made by the very checks that actions pass. What an action leads to in full, a dry run of it tells.

use std::sync::Arc;

use serde::Serialize;

use crate::flow::step::Step;
use crate::flow::{Action, ActionInput, Control, FlowStatus, PhaseIndex, PhaseState};

/// Something that would be taken if somebody who may did it now.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RecoveryOption {
    pub action: &'static str,
    /// `None` for what is done to the whole flow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<Arc<str>>,
    pub description: String,
    /// For what takes work back, how many phases begin again, this one included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reopens: Option<usize>,
}

/// What people choose from; what only a worker says in passing is not among it.
const OFFERED: [Action; 9] = [
    Action::Start,
    Action::Submit,
    Action::Complete,
    Action::Validate,
    Action::Approve,
    Action::Reject,
    Action::Fail,
    Action::Retry,
    Action::Rollback,
];

pub(super) fn options(step: &mut Step<'_>) -> Vec<RecoveryOption> {
    let mut options = Vec::new();
    for phase in step.flow.indices() {
        let offered = OFFERED.into_iter();
        let possible: Vec<Action> = offered
            .filter(|action| step.check(phase, *action, &ActionInput::default(), true).is_ok())
            .collect();
        options.extend(possible.into_iter().map(|action| option(step, phase, action)));
    }
    options.extend(options_for_all(&step.status()));
    options
}

/// What can be done to a flow of this status as a whole.
pub fn options_for_all(status: &FlowStatus) -> Vec<RecoveryOption> {
    let mut options = Vec::new();
    let whole = |action: Control, description: &str| RecoveryOption {
        action: action.as_str(),
        phase: None,
        description: description.to_owned(),
        reopens: None,
    };
    if *status == FlowStatus::Paused {
        options.push(whole(Control::Resume, "let the flow go on; its timers run on from where they stopped"));
    } else if !status.is_over() {
        options.push(whole(Control::Pause, "let nothing new begin, and stop the timers"));
    }
    if !status.is_over() {
        options.push(whole(Control::Cancel, "end the flow for good"));
    }
    options
}

fn option(step: &Step<'_>, phase: PhaseIndex, action: Action) -> RecoveryOption {
    let name = &step.flow.phase(phase).name;
    let state = step.state.state(phase);
    let takes_back =
        action == Action::Rollback || (action == Action::Retry && state == PhaseState::Completed);
    let begun = |phase: &PhaseIndex| {
        !matches!(step.state.state(*phase), PhaseState::NotStarted | PhaseState::RolledBack)
    };
    let reopens = takes_back.then(|| 1 + step.behind(phase).iter().filter(|phase| begun(phase)).count());
    let description = match action {
        Action::Start => format!("begin `{name}`"),
        Action::Submit => format!("hand `{name}` in"),
        Action::Complete => format!("say that the work of `{name}` is done"),
        Action::Validate => format!("say that the work of `{name}` is right"),
        Action::Approve => format!("approve `{name}`"),
        Action::Reject => format!("send `{name}` back to work"),
        Action::Fail => format!("give `{name}` up as failed"),
        Action::Retry if takes_back => format!("have `{name}` done once more, and what was built on it"),
        Action::Retry => format!("have `{name}` tried again"),
        Action::Rollback => format!("take `{name}` back, and what was built on it"),
        Action::Claim | Action::Heartbeat | Action::Progress => format!("{} `{name}`", action.as_str()),
    };
    RecoveryOption { action: action.as_str(), phase: Some(Arc::clone(name)), description, reopens }
}
