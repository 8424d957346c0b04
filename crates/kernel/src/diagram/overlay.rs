//! What is laid over a picture: which states are active, which way was taken, how many are where.
//!
//! Plain data in the definition's own words, so that whoever knows something of an instance or of many can say it.
//! Nothing in it moves anything: the same picture is coloured.

use std::collections::{BTreeMap, BTreeSet};

use crate::chart::{Chart, Transition};
use crate::flow::PhaseState;

/// A transition by what a definition calls its ends and its event. Several targets have commas between them; what
/// leads from the whole machine has no `from`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Step {
    pub from: String,
    pub to: String,
    pub event: String,
}

impl Step {
    pub fn of(chart: &Chart, transition: &Transition) -> Self {
        let path = |state| chart.state(state).path.to_string();
        let targets: Vec<String> = transition.targets.iter().map(|target| path(*target)).collect();
        Self { from: path(transition.source), to: targets.join(","), event: transition.event.to_string() }
    }
}

/// What is told of a phase.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PhaseLook {
    pub state: PhaseState,
    /// From 0 to 1.
    pub progress: f64,
}

/// States and phases by their paths. Names that the picture does not have are passed over.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Overlay {
    pub active: BTreeSet<String>,
    pub visited: BTreeSet<String>,
    pub taken: BTreeSet<Step>,
    /// What would be taken next.
    pub would: Option<Step>,
    /// How many open instances are in a state.
    pub counts: BTreeMap<String, u64>,
    /// How often each transition was taken, by all of them.
    pub flows: BTreeMap<Step, u64>,
    pub phases: BTreeMap<String, PhaseLook>,
}

/// Steps of heat.
pub const HEATS: u64 = 6;

impl Overlay {
    /// From 0 to 5, by orders of magnitude: what is taken a thousand times is not to hide what is taken ten times.
    pub(super) fn heat(&self, steps: &[Step]) -> Option<u64> {
        let most = self.flows.values().copied().max().filter(|most| *most > 0)?;
        let taken: u64 = steps.iter().filter_map(|step| self.flows.get(step)).sum();
        let share = (taken as f64).ln_1p() / (most as f64).ln_1p();
        Some(((share * (HEATS - 1) as f64).ceil() as u64).min(HEATS - 1))
    }
}
