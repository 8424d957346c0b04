//! Coverage of flows: which phases were begun or passed over, and which steps each of them took.
//!
//! Every phase has the same states. What is asked for is what its definition provides for: its gates with their two ways
//! out, its retries, and that it fails and is taken back, which any phase may.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kernel::commit::Entry;
use kernel::definition::document::{self, NodeKind};
use kernel::diagnostic::Place;
use kernel::flow::{Flow, FlowView, Phase, PhaseState};

use super::coverage::Element;
use super::expect::moves_of;

use PhaseState::{
    Completed, Failed, InProgress, NotStarted, RetryNeeded, RolledBack, WaitingApproval, WaitingValidation,
};

/// The way that the phases of one or several flows went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct PhaseWalk {
    steps: BTreeSet<(Arc<str>, PhaseState, PhaseState)>,
    skipped: BTreeSet<Arc<str>>,
}

impl PhaseWalk {
    pub fn note(&mut self, entries: &[Entry], flow: Option<&FlowView>) {
        let moves = entries.iter().flat_map(moves_of);
        self.steps.extend(moves.map(|moved| (Arc::clone(&moved.phase), moved.from, moved.to)));
        let phases = flow.into_iter().flat_map(|flow| &flow.phases);
        self.skipped.extend(phases.filter(|phase| phase.skipped).map(|phase| Arc::clone(&phase.phase)));
    }

    pub fn add(&mut self, other: &PhaseWalk) {
        self.steps.extend(other.steps.iter().cloned());
        self.skipped.extend(other.skipped.iter().cloned());
    }

    pub fn contains(&self, other: &PhaseWalk) -> bool {
        other.steps.is_subset(&self.steps) && other.skipped.is_subset(&self.skipped)
    }

    /// The phases, and the steps that they may take.
    pub fn elements(&self, flow: &Flow, source: &str) -> (Vec<Element>, Vec<Element>) {
        let places = places(source);
        let (mut phases, mut steps) = (Vec::new(), Vec::new());
        for phase in &flow.phases {
            let name = &phase.name;
            let place = places.get(&**name).copied().unwrap_or(Place::START);
            let skipped = self.skipped.contains(name);
            let covered =
                skipped || self.steps.iter().any(|(moved, _, to)| moved == name && *to == InProgress);
            phases.push(Element { label: name.to_string(), place, covered });
            if phase.when.is_some() {
                steps.push(Element { label: format!("{name}: passed over"), place, covered: skipped });
            }
            steps.extend(ways(phase).into_iter().map(|(from, to)| Element {
                label: format!("{name}: {from} -> {to}"),
                place,
                covered: self.steps.contains(&(Arc::clone(name), from, to)),
            }));
        }
        (phases, steps)
    }
}

/// The steps that a phase may take by its definition.
fn ways(phase: &Phase) -> Vec<(PhaseState, PhaseState)> {
    let agreed = if phase.approval.is_some() { WaitingApproval } else { Completed };
    let done = if phase.validation.is_some() { WaitingValidation } else { agreed };
    let mut ways = vec![(NotStarted, InProgress), (InProgress, done)];
    if phase.validation.is_some() {
        ways.extend([(WaitingValidation, agreed), (WaitingValidation, InProgress)]);
    }
    if phase.approval.is_some() {
        ways.extend([(WaitingApproval, Completed), (WaitingApproval, InProgress)]);
    }
    if phase.retry.is_some() {
        ways.push((InProgress, RetryNeeded));
    }
    ways.extend([(InProgress, Failed), (Completed, RolledBack)]);
    ways
}

/// Where each phase stands in the text.
fn places(source: &str) -> BTreeMap<String, Place> {
    let node = document::read(source).ok();
    let Some(NodeKind::Map(entries)) = node.map(|node| node.kind) else { return BTreeMap::new() };
    let phases = entries.into_iter().find(|(name, _)| name.value == "phases").map(|(_, node)| node.kind);
    let Some(NodeKind::Map(phases)) = phases else { return BTreeMap::new() };
    phases.into_iter().map(|(name, _)| (name.value, name.place)).collect()
}
