//! Flows: phases that need one another, are retried, approved and rolled back.
//!
//! A flow is a parallel chart whose regions are all the same small chart (`phase_state`), so that chart is kept once
//! and a phase is no more than its place in it (`record`). Owns what a definition's `phases` become (`read`, `compile`),
//! what actions do to them (`step`), and what people are shown (`view`, `options`). It makes no commit: that is `decide`.

mod action;
mod compile;
mod definition;
mod options;
mod phase_state;
mod record;
mod row;
mod status;
mod step;
mod view;

use std::sync::Arc;

use crate::chart::Computed;
use crate::expression::Expression;
use crate::lookup::Lookup;
use crate::time::Delay;

pub(crate) use action::alarm_of;
pub use action::{Action, ActionInput, Control, FlowEvent};
pub(crate) use definition::{FLOW_KEYS, read_flow};
pub use definition::{FlowDefinition, PhaseDefinition};
pub(crate) use definition::{RecipeDefinition, RunDefinition};
#[cfg(test)]
pub(crate) use definition::{keys_by_place, words_by_place};
pub use options::{RecoveryOption, options_for_all};
pub use phase_state::PhaseState;
pub use record::{FlowState, Lease, ParentCall, Pause, PhaseDetails, PhaseError, PhaseRecord, Records};
pub(crate) use row::row;
pub use row::rows;
pub(crate) use status::Standing;
pub use status::{FlowStatus, progress};
pub(crate) use step::{Declined, Step, StepEffect};
pub use step::{signature, teller_of};
pub use view::{FlowView, PhaseView};

/// A phase by its place in the definition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PhaseIndex(pub u16);

#[derive(Debug)]
pub struct Flow {
    /// In the order of the definition.
    pub phases: Vec<Phase>,
    by_name: Lookup<Arc<str>, PhaseIndex>,
    /// The phases' weights and milestones side by side, since every status is worked out of them.
    weights: Vec<f64>,
    milestones: Vec<(PhaseIndex, Milestone)>,
    /// What is done about errors of phases that have nothing of their own to say of them.
    pub on_error: Vec<(Arc<str>, Recipe)>,
}

#[derive(Debug)]
pub struct Phase {
    pub name: Arc<str>,
    /// What has to be completed before it starts, in the order of the definition.
    pub needs: Vec<PhaseIndex>,
    /// What needs it, in the order of the definition.
    pub dependents: Vec<PhaseIndex>,
    pub weight: f64,
    pub milestone: Option<Milestone>,
    /// Whether the phase applies at all; asked once, when all that it needs is there.
    pub when: Option<Expression>,
    pub run: Run,
    /// How long a worker may be silent, unless it asks for another lease.
    pub lease: Delay,
    pub validation: Option<Gate>,
    pub approval: Option<Gate>,
    pub retry: Option<Retry>,
    /// How long one attempt may take.
    pub timeout: Option<Delay>,
    pub on_error: Vec<(Arc<str>, Recipe)>,
    /// What of a result goes into which field of the context; `None` for fields of the same name.
    pub output: Option<Vec<(Arc<str>, Computed)>>,
    /// What the boolean of this phase is called in records that have one a phase.
    pub boolean: Arc<str>,
}

/// The status of a flow that has come so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Milestone {
    pub status: Arc<str>,
    /// Reached when the phase is completed, rather than when it begins.
    pub when_completed: bool,
}

/// Who does the work.
#[derive(Debug)]
pub enum Run {
    /// Whoever starts it, or a worker that takes it.
    Anybody,
    /// Somebody who starts it; no worker is given it.
    Person,
    /// A worker that asks for this kind of work.
    Worker(Arc<str>),
    /// A call to something outside, by its name in the server's settings.
    Http { src: Arc<str>, input: Vec<(Arc<str>, Computed)> },
    /// A flow of its own, of which this phase is made.
    Flow { flow: Arc<str>, context: Vec<(Arc<str>, Computed)> },
    /// Another flow has to be completed; the expression says which, by its id.
    WaitFor(Expression),
}

/// Somebody has to say yes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gate {
    /// Who may; with nobody named, anybody.
    pub by: Vec<Arc<str>>,
    pub expires_after: Option<Delay>,
    /// Whoever says yes must not be who did the work.
    pub four_eyes: bool,
    /// Whoever says yes or no has to say why.
    pub reason: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Retry {
    /// Attempts in all, the first one included.
    pub attempts: u32,
    /// Before the second attempt.
    pub backoff: Delay,
    /// What the pause is multiplied by each time.
    pub factor: f64,
    pub max: Delay,
}

/// What is done about an error without asking anybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recipe {
    Retry,
    Fail,
    /// The work is begun again from this phase on.
    Rollback(PhaseIndex),
}

/// Errors that pass: trying again may help.
pub const RETRYABLE: [&str; 4] =
    ["PHASE_EXECUTION_FAILED", "AGENT_TIMEOUT", "EXTERNAL_SERVICE_ERROR", "TEMPORARY_RESOURCE_UNAVAILABLE"];
/// Errors that stay until somebody mends something.
pub const NOT_RETRYABLE: [&str; 4] =
    ["INVALID_TRANSITION", "DATA_VALIDATION_FAILED", "PERMISSION_DENIED", "MALFORMED_REQUEST"];

impl Flow {
    pub fn phase(&self, index: PhaseIndex) -> &Phase {
        &self.phases[usize::from(index.0)]
    }

    pub fn by_name(&self, name: &str) -> Option<PhaseIndex> {
        self.by_name.get(name).copied()
    }

    pub fn indices(&self) -> impl DoubleEndedIterator<Item = PhaseIndex> + use<> {
        (0..self.phases.len()).map(|number| PhaseIndex(number as u16))
    }

    /// What the definition says is to be done about an error of a phase: of the code in the phase or in the flow, or else of
    /// `*`.
    pub fn recipe(&self, phase: PhaseIndex, code: &str) -> Option<Recipe> {
        let of = |recipes: &[(Arc<str>, Recipe)], name: &str| {
            recipes.iter().find(|(code, _)| **code == *name).map(|(_, recipe)| *recipe)
        };
        let own = &self.phase(phase).on_error;
        let said = of(own, code).or_else(|| of(&self.on_error, code));
        said.or_else(|| of(own, ANY_ERROR)).or_else(|| of(&self.on_error, ANY_ERROR))
    }
}

/// Stands for every error that is not named.
pub const ANY_ERROR: &str = "*";

impl Phase {
    /// Whether a worker may take it.
    pub fn is_for_workers(&self) -> bool {
        matches!(self.run, Run::Anybody | Run::Worker(_))
    }

    /// Whether it starts by itself.
    pub fn is_automatic(&self) -> bool {
        matches!(self.run, Run::Http { .. } | Run::Flow { .. } | Run::WaitFor(_))
    }

    /// The kind of worker that it is for; an empty one for any.
    pub fn kind_of_worker(&self) -> &str {
        match &self.run {
            Run::Worker(kind) => kind,
            _ => "",
        }
    }
}
