//! How a whole flow stands: one status and one figure, worked out of its phases and of nothing else.

use std::sync::Arc;

use crate::flow::record::FlowState;
use crate::flow::{Flow, PhaseIndex, PhaseState};

/// Statuses with their names. A definition adds its milestones to these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FlowStatus {
    /// No phase has begun.
    Initialized,
    Active,
    /// As `Active`, and so far has it come.
    Milestone(Arc<str>),
    /// Somebody has to agree to a phase.
    WaitingApproval,
    /// A phase is to be tried again.
    RetryPending,
    /// A phase has failed or was rolled back, and the flow goes on.
    ErrorRecovery,
    /// A phase has failed, and nothing goes on until somebody does something about it.
    Failed,
    Completed,
    Paused,
    Cancelled,
}

/// The statuses that every flow has, in the order in which diagrams and lists show them; milestones come behind the second.
pub(crate) const FIXED: [&str; 9] = [
    "initialized",
    "active",
    "waiting_approval",
    "retry_pending",
    "error_recovery",
    "failed",
    "paused",
    "completed",
    "cancelled",
];

/// The share of a phase that is done when it has begun, and how much more its own reports may add: what waits for
/// validation is never behind what reports.
const REPORTED: (f64, f64) = (0.3, 0.4);

impl FlowStatus {
    pub fn as_str(&self) -> &str {
        match self {
            Self::Initialized => "initialized",
            Self::Active => "active",
            Self::Milestone(status) => status,
            Self::WaitingApproval => "waiting_approval",
            Self::RetryPending => "retry_pending",
            Self::ErrorRecovery => "error_recovery",
            Self::Failed => "failed",
            Self::Completed => "completed",
            Self::Paused => "paused",
            Self::Cancelled => "cancelled",
        }
    }

    /// The status of a flow: the first of these that holds, from what ends it to what merely describes it.
    pub fn of(flow: &Flow, state: &FlowState) -> Self {
        if state.cancelled {
            return Self::Cancelled;
        }
        if state.paused.is_some() {
            return Self::Paused;
        }
        let any = |wanted: PhaseState| state.phases.iter().any(|record| record.state == wanted);
        if state.phases.iter().all(|record| record.is_done()) {
            return Self::Completed;
        }
        let mended = any(PhaseState::RolledBack);
        if any(PhaseState::Failed) {
            return if goes_on(flow, state) { Self::ErrorRecovery } else { Self::Failed };
        }
        if any(PhaseState::RetryNeeded) {
            return Self::RetryPending;
        }
        if any(PhaseState::WaitingApproval) {
            return Self::WaitingApproval;
        }
        if mended {
            return Self::ErrorRecovery;
        }
        if state.phases.iter().all(|record| record.state == PhaseState::NotStarted) {
            return Self::Initialized;
        }
        let reached = flow.indices().rev().find_map(|phase| {
            let milestone = flow.phase(phase).milestone.as_ref()?;
            let reached = match state.state(phase) {
                PhaseState::Completed => true,
                PhaseState::NotStarted | PhaseState::RolledBack => false,
                _ => !milestone.when_completed,
            };
            reached.then(|| Arc::clone(&milestone.status))
        });
        reached.map_or(Self::Active, Self::Milestone)
    }

    /// Whether a flow may go from this status to another: cancelled is the end, nothing begins twice, and what is complete
    /// can only be reopened.
    pub fn may_become(&self, next: &Self) -> bool {
        match (self, next) {
            (Self::Cancelled, _) | (_, Self::Initialized) => {
                matches!((self, next), (Self::Initialized | Self::Paused, Self::Initialized))
            }
            (Self::Completed, Self::Paused | Self::Cancelled | Self::WaitingApproval) => false,
            _ => true,
        }
    }

    /// Nothing happens any more unless somebody opens it again.
    pub fn is_over(&self) -> bool {
        matches!(self, Self::Completed | Self::Cancelled)
    }
}

/// Whether something is under way, or can be started, in a flow in which a phase has failed.
fn goes_on(flow: &Flow, state: &FlowState) -> bool {
    let moves = |phase: PhaseIndex| {
        let record = state.record(phase);
        record.state.is_under_way() || (record.state.is_startable() && is_ready(flow, state, phase))
    };
    flow.indices().any(moves)
}

/// Whether all that a phase needs is there, and the phase applies as far as is known.
pub(crate) fn is_ready(flow: &Flow, state: &FlowState, phase: PhaseIndex) -> bool {
    !state.record(phase).is_skipped()
        && flow.phase(phase).needs.iter().all(|need| state.record(*need).is_done())
}

/// How much of a phase is done, from 0 to 1.
pub(crate) fn share_done(state: &FlowState, phase: PhaseIndex) -> f64 {
    let record = state.record(phase);
    match record.state {
        PhaseState::InProgress => REPORTED.0 + REPORTED.1 * record.reported(),
        other => other.share_done(),
    }
}

/// How much of a flow is done, from 0 to 1: its phases by their weights, without those that do not apply.
pub fn progress(flow: &Flow, state: &FlowState) -> f64 {
    let (mut done, mut all) = (0.0, 0.0);
    for phase in flow.indices().filter(|phase| !state.record(*phase).is_skipped()) {
        let weight = flow.phase(phase).weight;
        done += weight * share_done(state, phase);
        all += weight;
    }
    if all > 0.0 { (done / all).min(1.0) } else { 1.0 }
}
