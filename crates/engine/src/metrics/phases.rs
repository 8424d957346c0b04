//! What is counted of the phases of flows: each step, how long each state lasted, retries, rollbacks.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use kernel::commit::PhaseMove;
use kernel::flow::PhaseState;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use store::StoreStatistics;

use super::{MachineLabels, add, as_gauge};

/// Phases whose rollbacks are counted apart; those of all further ones are counted as of `OTHER`. Flows may have 2,000
/// phases each, and every one is a series that somebody has to keep.
const PHASES_MAX: usize = 500;
const OTHER: &str = "(other)";
/// From seconds that a worker takes to the weeks that an approval may.
const SECONDS: [f64; 10] =
    [1.0, 10.0, 60.0, 600.0, 3_600.0, 21_600.0, 86_400.0, 259_200.0, 604_800.0, 2_592_000.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MoveLabels {
    machine: String,
    from: &'static str,
    to: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PhaseStateLabels {
    machine: String,
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PhaseLabels {
    machine: String,
    phase: String,
}

fn histogram() -> Histogram {
    Histogram::new(SECONDS)
}

pub(super) struct PhaseMetrics {
    moves: Family<MoveLabels, Counter>,
    seconds: Family<PhaseStateLabels, Histogram>,
    retries: Family<MachineLabels, Counter>,
    retried_well: Family<MachineLabels, Counter>,
    rollbacks: Family<PhaseLabels, Counter>,
    now: Family<PhaseStateLabels, Gauge>,
    /// Those that have a figure of their own among the rollbacks.
    told_apart: Mutex<HashSet<PhaseLabels>>,
}

impl PhaseMetrics {
    pub fn new(registry: &mut Registry) -> Self {
        let r = registry;
        let seconds = Family::new_with_constructor(histogram as fn() -> Histogram);
        Self {
            moves: add(r, "phase_moves", "Steps of phases from state to state", Family::default()),
            seconds: add(r, "phase_seconds", "Time that a phase was in a state that it has left", seconds),
            retries: add(r, "phase_retries", "Phases that were to be tried again", Family::default()),
            retried_well: add(
                r,
                "phase_retries_succeeded",
                "Phases that were completed at a later attempt than the first",
                Family::default(),
            ),
            rollbacks: add(r, "phase_rollbacks", "Phases that were taken back", Family::default()),
            now: add(r, "phases", "Phases of open flows by state", Family::default()),
            told_apart: Mutex::default(),
        }
    }

    /// What one commit did to the phases of a flow.
    pub fn count(&self, machine: &str, moved: &[PhaseMove]) {
        let of_machine = MachineLabels { machine: machine.to_owned() };
        for PhaseMove { phase, from, to, lasted_ms, attempt, .. } in moved {
            let machine = machine.to_owned();
            let labels = MoveLabels { machine: machine.clone(), from: from.as_str(), to: to.as_str() };
            self.moves.get_or_create(&labels).inc();
            let left = PhaseStateLabels { machine, state: from.as_str() };
            self.seconds.get_or_create(&left).observe(*lasted_ms as f64 / 1_000.0);
            match to {
                PhaseState::RetryNeeded => _ = self.retries.get_or_create(&of_machine).inc(),
                PhaseState::Completed if *attempt > 1 => {
                    self.retried_well.get_or_create(&of_machine).inc();
                }
                PhaseState::RolledBack => self.count_rollback(&of_machine.machine, phase),
                _ => {}
            }
        }
    }

    fn count_rollback(&self, machine: &str, phase: &str) {
        let mut labels = PhaseLabels { machine: machine.to_owned(), phase: phase.to_owned() };
        // Whoever panicked while it held the lock has left a set that is as good as any.
        let mut known = self.told_apart.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() < PHASES_MAX {
            known.insert(labels.clone());
        } else if !known.contains(&labels) {
            OTHER.clone_into(&mut labels.phase);
        }
        self.rollbacks.get_or_create(&labels).inc();
    }

    /// Where phases are now, as the store has it.
    pub fn set_now(&self, statistics: &StoreStatistics) {
        self.now.clear();
        for ((machine, state), count) in &statistics.phases {
            let labels = PhaseStateLabels { machine: machine.clone(), state: state.as_str() };
            self.now.get_or_create(&labels).set(as_gauge(*count));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_number_of_phases_makes_more_series_than_anybody_can_keep() {
        let metrics = PhaseMetrics::new(&mut Registry::default());
        for number in 0..3 * PHASES_MAX {
            metrics.count_rollback("house", &format!("p{number}"));
        }
        metrics.count_rollback("house", "p0");
        let count = |phase: &str| {
            let labels = PhaseLabels { machine: "house".into(), phase: phase.into() };
            metrics.rollbacks.get_or_create(&labels).get()
        };
        assert_eq!((count("p0"), count("p499"), count(OTHER)), (2, 1, 2 * PHASES_MAX as u64));
    }
}
