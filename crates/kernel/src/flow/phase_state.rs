//! The states of a phase, and which may follow which: the one chart that every phase of every flow is an instance of.

use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PhaseState {
    #[default]
    NotStarted,
    InProgress,
    /// The work is done, and somebody has to say that it is right.
    WaitingValidation,
    /// The work is done and right, and somebody has to agree to it.
    WaitingApproval,
    Completed,
    Failed,
    /// It did not work out and is to be tried again.
    RetryNeeded,
    /// What it had come to counts no more; it may be begun afresh.
    RolledBack,
}

use PhaseState::{
    Completed, Failed, InProgress, NotStarted, RetryNeeded, RolledBack, WaitingApproval, WaitingValidation,
};

/// By the states in their order.
const SHARES: [f64; 8] = [0.0, 0.3, 0.7, 0.8, 1.0, 0.0, 0.1, 0.0];

impl PhaseState {
    pub const ALL: [Self; 8] = [
        NotStarted,
        InProgress,
        WaitingValidation,
        WaitingApproval,
        Completed,
        Failed,
        RetryNeeded,
        RolledBack,
    ];

    /// The states that a phase may go to from this one, one step at a time.
    pub fn next(self) -> &'static [Self] {
        match self {
            NotStarted | RolledBack => &[InProgress],
            InProgress => &[WaitingValidation, WaitingApproval, Completed, Failed, RetryNeeded],
            WaitingValidation => &[InProgress, WaitingApproval, Completed, Failed],
            WaitingApproval => &[InProgress, Completed, Failed],
            Completed => &[RetryNeeded, RolledBack],
            Failed => &[RetryNeeded, RolledBack],
            RetryNeeded => &[InProgress, Failed],
        }
    }

    pub fn may_become(self, next: Self) -> bool {
        self.next().contains(&next)
    }

    /// How much of a phase is done, from 0 to 1, where it has reported nothing itself.
    #[inline]
    pub fn share_done(self) -> f64 {
        SHARES[self as usize]
    }

    /// Begun and not at rest: somebody is at work, or asked to decide.
    pub fn is_under_way(self) -> bool {
        matches!(self, InProgress | WaitingValidation | WaitingApproval)
    }

    /// Work on it may begin, once all that it needs is there.
    pub fn is_startable(self) -> bool {
        matches!(self, NotStarted | RetryNeeded | RolledBack)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            NotStarted => "not_started",
            InProgress => "in_progress",
            WaitingValidation => "waiting_validation",
            WaitingApproval => "waiting_approval",
            Completed => "completed",
            Failed => "failed",
            RetryNeeded => "retry_needed",
            RolledBack => "rolled_back",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }
}

impl std::fmt::Display for PhaseState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
