//! Machines as pictures: laid out once for each definition, and coloured by what is known of instances.
//!
//! `picture` is what every page and every address that shows one calls. It decides nothing about looks: that is the
//! kernel's `diagram`.

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;

use crate::log_end::back_from;
use engine::{Engine, EngineError};
use kernel::commit::{Entry, EntryCause};
use kernel::diagram::layout::{Layout, layout};
use kernel::diagram::{Diagram, Overlay, PhaseLook, Step, svg};
use kernel::flow::{FlowView, PhaseView};
use kernel::id::DefinitionHash;
use kernel::machine::Machine;
use kernel::snapshot::Snapshot;
use quick_cache::sync::Cache;

/// Definitions that people look at at the same time. A layout takes some tens of kilobytes.
const KEPT: usize = 64;
/// More than these nobody reads on one sheet, and working out where they lie takes more than a few seconds.
const NODES_MAX: usize = 250;
/// The way that an instance came is told by so many of its last entries.
pub const ENTRIES: usize = 1_000;

/// Where things lie does not depend on instances, so it is worked out once for a definition.
pub struct Pictures {
    laid_out: Cache<DefinitionHash, Arc<(Diagram, Layout)>>,
}

impl Default for Pictures {
    fn default() -> Self {
        Self { laid_out: Cache::new(KEPT) }
    }
}

impl fmt::Debug for Pictures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pictures").field("kept", &self.laid_out.len()).finish()
    }
}

impl Pictures {
    /// A machine as SVG, to be put into a page as it is.
    pub fn picture(&self, machine: &Machine, overlay: &Overlay) -> String {
        let states = machine.flow.as_ref().map_or(machine.chart.states.len() - 1, |flow| flow.phases.len());
        if states > NODES_MAX {
            return too_large(states);
        }
        // Whoever asks for the same meanwhile waits: a large one takes seconds.
        let laid_out = self.laid_out.get_or_insert_with(&machine.hash, || {
            let diagram = Diagram::of(machine, &[]);
            let layout = layout(&diagram);
            Ok::<_, Infallible>(Arc::new((diagram, layout)))
        });
        let Ok(laid_out) = laid_out;
        let (diagram, layout) = &*laid_out;
        svg(diagram, layout, overlay)
    }
}

/// In the place of a picture.
fn too_large(states: usize) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"sw-diagram\" role=\"img\" width=\"620\" height=\"60\" \
         viewBox=\"0 0 620 60\" font-family=\"system-ui, sans-serif\"><title>Too large to draw</title>\
         <text x=\"16\" y=\"36\" font-size=\"14\" fill=\"#475569\">With {states} states it is too large to draw here: \
         `statewright diagram` writes it for Graphviz.</text></svg>"
    )
}

/// What an instance lays over the picture of its machine: where it is, and how it came there.
///
/// # Errors
/// When the store cannot be read.
pub fn overlay_of(engine: &Engine, machine: &Machine, snapshot: &Snapshot) -> Result<Overlay, EngineError> {
    match FlowView::of(machine, snapshot, engine.clock().now()) {
        Some(view) => Ok(overlay_of_flow(&view)),
        None => {
            let entries = back_from(engine, snapshot, None, ENTRIES)?.data;
            Ok(overlay_along(machine, snapshot, entries.iter().rev()))
        }
    }
}

/// How the phases of a flow stand.
pub fn overlay_of_flow(view: &FlowView) -> Overlay {
    let look = |phase: &PhaseView| {
        (phase.phase.to_string(), PhaseLook { state: phase.state, progress: phase.progress })
    };
    Overlay { phases: view.phases.iter().map(look).collect(), ..Overlay::default() }
}

/// Where an instance is, and of `entries`, the oldest first, the way that it came there.
pub fn overlay_along<'e>(
    machine: &Machine,
    snapshot: &Snapshot,
    entries: impl IntoIterator<Item = &'e Entry>,
) -> Overlay {
    let active = snapshot.configuration.iter().map(ToString::to_string).collect();
    let mut overlay = Overlay { active, ..Overlay::default() };
    let came = |entry: &&Entry| entry.success && entry.revision <= snapshot.revision;
    for entry in entries.into_iter().filter(came) {
        // What came before speaks of another machine, or of another life.
        if matches!(entry.cause, Some(EntryCause::Migrate { .. } | EntryCause::Again { .. })) {
            overlay.taken.clear();
            overlay.visited.clear();
            continue;
        }
        overlay.taken.extend(steps(machine, entry));
        let between = [&entry.from, &entry.to].into_iter().flat_map(|states| states.split(','));
        overlay.visited.extend(between.filter(|path| !path.is_empty()).map(str::to_owned));
    }
    overlay
}

/// The transitions of an entry, as the definition has them that the instance was pinned to.
pub fn steps<'m>(machine: &'m Machine, entry: &'m Entry) -> impl Iterator<Item = Step> + 'm {
    let chart = &machine.chart;
    let taken = entry.transitions.iter().filter_map(|index| chart.transitions.get(usize::from(index.0)));
    taken.map(|transition| Step::of(chart, transition))
}

#[cfg(test)]
mod tests {
    use kernel::definition;

    use super::*;

    #[test]
    fn what_is_too_large_to_draw_is_said_to_be_so() {
        let drawn = |count: usize| {
            let states: String = (0..count).map(|n| format!("  s{n}: {{}}\n")).collect();
            let source = format!("machine: m\ninitial: s0\nstates:\n{states}");
            let machine = definition::load(&source).0.expect("it can be loaded");
            Pictures::default().picture(&machine, &Overlay::default())
        };
        assert!(drawn(300).contains("With 300 states it is too large"));
        assert!(drawn(3).contains("data-state=\"s2\""));
    }
}
