//! What the pages lay over a diagram: where an instance stands and which way it came, or how many are where.

use std::collections::{BTreeMap, VecDeque};

use kernel::commit::{Entry, EntryCause};
use kernel::diagram::layout::layout;
use kernel::diagram::{Diagram, Overlay, PhaseLook, Step, svg};
use kernel::flow::FlowView;
use kernel::machine::Machine;
use kernel::snapshot::Snapshot;

use crate::dashboard::machine::Walked;

/// An instance on its way: of `entries`, those up to it are the way that it came.
pub fn of_instance(machine: &Machine, snapshot: &Snapshot, entries: &VecDeque<Entry>) -> String {
    let chart = &machine.chart;
    let mut overlay = Overlay {
        active: snapshot.configuration.iter().map(ToString::to_string).collect(),
        ..Overlay::default()
    };
    for entry in entries.iter().filter(|entry| entry.success && entry.revision <= snapshot.revision) {
        if matches!(entry.cause, Some(EntryCause::Migrate { .. } | EntryCause::Again { .. })) {
            // What came before was by another definition.
            overlay.taken.clear();
            overlay.visited.clear();
        }
        let transitions =
            entry.transitions.iter().filter_map(|index| chart.transitions.get(usize::from(index.0)));
        overlay.taken.extend(transitions.map(|transition| Step::of(chart, transition)));
        overlay.visited.extend(entry.from.split(',').chain(entry.to.split(',')).map(str::to_owned));
    }
    draw(machine, &overlay)
}

/// Where one stands that nobody else has anything to do with.
pub fn of_standing(machine: &Machine, active: &[std::sync::Arc<str>]) -> String {
    let active = active.iter().map(ToString::to_string).collect();
    draw(machine, &Overlay { active, ..Overlay::default() })
}

/// All instances of a machine: how many are where, and how often each way was gone.
pub fn of_machine(machine: &Machine, open: &[Snapshot], walked: &Walked) -> String {
    let mut counts = BTreeMap::new();
    for path in open.iter().flat_map(|snapshot| &snapshot.configuration) {
        *counts.entry(path.to_string()).or_default() += 1;
    }
    draw(machine, &Overlay { counts, flows: walked.steps.clone(), ..Overlay::default() })
}

/// A flow with the states of its phases.
pub fn of_flow(machine: &Machine, view: &FlowView) -> String {
    let look = |phase: &kernel::flow::PhaseView| {
        (phase.phase.to_string(), PhaseLook { state: phase.state, progress: phase.progress })
    };
    draw(machine, &Overlay { phases: view.phases.iter().map(look).collect(), ..Overlay::default() })
}

fn draw(machine: &Machine, overlay: &Overlay) -> String {
    let diagram = Diagram::of(machine, &[]);
    svg(&diagram, &layout(&diagram), overlay)
}
