//! How a whole flow stands: one status and one figure, worked out of its phases and of nothing else.

use std::sync::Arc;

use crate::flow::record::{FlowState, PhaseRecord, Records};
use crate::flow::{Flow, Milestone, PhaseIndex, PhaseState};

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

/// How much its own reports may add to the share of a phase that has begun: what waits for validation is never behind
/// what reports.
const REPORTED: f64 = 0.4;

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

    /// The one that is called so.
    pub(crate) fn named(name: &str) -> Self {
        let fixed = [
            Self::Initialized,
            Self::Active,
            Self::WaitingApproval,
            Self::RetryPending,
            Self::ErrorRecovery,
            Self::Failed,
            Self::Completed,
            Self::Paused,
            Self::Cancelled,
        ];
        let found = fixed.into_iter().find(|status| status.as_str() == name);
        found.unwrap_or_else(|| Self::Milestone(name.into()))
    }

    /// The status of a flow: the first of these that holds, from what ends it to what merely describes it.
    pub fn of(flow: &Flow, state: &FlowState) -> Self {
        Standing::of(flow, state).status
    }

    /// Whether a flow may go from this status to another, or stay: cancelled is the end, nothing begins twice, and what is
    /// complete can only be reopened.
    pub fn may_become(&self, next: &Self) -> bool {
        match (self, next) {
            _ if self == next => true,
            (Self::Cancelled, _) => false,
            (_, Self::Initialized) => *self == Self::Paused,
            (Self::Completed, Self::Paused | Self::Cancelled | Self::WaitingApproval) => false,
            _ => true,
        }
    }

    /// Nothing happens any more unless somebody opens it again.
    pub fn is_over(&self) -> bool {
        matches!(self, Self::Completed | Self::Cancelled)
    }
}

/// How a flow stands: what its phases come to, looked at in one pass.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Standing {
    pub status: FlowStatus,
    /// How much is done, from 0 to 1: the phases by their weights, without those that do not apply.
    pub progress: f64,
    /// What each chunk of the records comes to.
    tallies: Vec<Tally>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Tally {
    /// The states that there are, as bits.
    seen: u8,
    /// The weights of what is done, and of what applies.
    done: f64,
    all: f64,
}

impl Tally {
    fn of(records: &[PhaseRecord], weights: &[f64]) -> Self {
        let mut tally = Self::default();
        for (record, weight) in records.iter().zip(weights) {
            if !record.is_skipped() {
                tally.seen |= bit(record.state);
                tally.done += weight * share_done(record);
                tally.all += weight;
            }
        }
        tally
    }
}

impl Standing {
    pub fn of(flow: &Flow, state: &FlowState) -> Self {
        Self::after(flow, state, None)
    }

    /// As `of`, but that chunks which are still as they were before need not be looked at again.
    pub fn after(flow: &Flow, state: &FlowState, before: Option<(&FlowState, &Self)>) -> Self {
        let weights = flow.weights.chunks(Records::CHUNK);
        let tally = |(at, (records, weights)): (usize, (&[PhaseRecord], &[f64]))| {
            let before = before.filter(|(before, _)| before.phases.shares(&state.phases, at));
            let known = before.and_then(|(_, standing)| standing.tallies.get(at).copied());
            known.unwrap_or_else(|| Tally::of(records, weights))
        };
        let tallies: Vec<Tally> = state.phases.chunks().zip(weights).enumerate().map(tally).collect();
        let (mut seen, mut done, mut all) = (0_u8, 0.0, 0.0);
        for tally in &tallies {
            seen |= tally.seen;
            done += tally.done;
            all += tally.all;
        }
        let any = |wanted: PhaseState| seen & bit(wanted) != 0;
        let only = |wanted: PhaseState| seen & !bit(wanted) == 0;
        let progress = if only(PhaseState::Completed) { 1.0 } else { (done / all).clamp(0.0, 1.0) };
        let status = if state.cancelled {
            FlowStatus::Cancelled
        } else if state.paused.is_some() {
            FlowStatus::Paused
        } else if only(PhaseState::Completed) {
            FlowStatus::Completed
        } else if any(PhaseState::Failed) {
            if goes_on(flow, state) { FlowStatus::ErrorRecovery } else { FlowStatus::Failed }
        } else if any(PhaseState::RetryNeeded) {
            FlowStatus::RetryPending
        } else if any(PhaseState::WaitingApproval) {
            FlowStatus::WaitingApproval
        } else if any(PhaseState::RolledBack) {
            FlowStatus::ErrorRecovery
        } else if only(PhaseState::NotStarted) {
            FlowStatus::Initialized
        } else {
            milestone(flow, state).map_or(FlowStatus::Active, FlowStatus::Milestone)
        };
        Self { status, progress, tallies }
    }
}

/// States are seen as a set of bits.
fn bit(state: PhaseState) -> u8 {
    1 << state as u8
}

/// The last milestone that has been reached, in the order of the definition.
fn milestone(flow: &Flow, state: &FlowState) -> Option<Arc<str>> {
    let reached = |(phase, milestone): &&(PhaseIndex, Milestone)| match state.state(*phase) {
        PhaseState::Completed => true,
        PhaseState::NotStarted | PhaseState::RolledBack => false,
        _ => !milestone.when_completed,
    };
    flow.milestones.iter().rev().find(reached).map(|(_, milestone)| Arc::clone(&milestone.status))
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
#[inline]
pub(crate) fn share_done(record: &PhaseRecord) -> f64 {
    match record.state {
        PhaseState::InProgress => PhaseState::InProgress.share_done() + REPORTED * record.reported(),
        other => other.share_done(),
    }
}

/// How much of a flow is done, from 0 to 1.
pub fn progress(flow: &Flow, state: &FlowState) -> f64 {
    Standing::of(flow, state).progress
}
