//! What is counted of the phases of flows: each step, how long each state lasted, retries, rollbacks.

use kernel::commit::{FlowAnswer, PhaseMove};
use kernel::flow::PhaseState;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use store::StoreStatistics;

use super::by_machine::ByMachine;
use super::{MachineLabels, Registering, as_gauge};

/// Phases whose rollbacks are counted apart; all further ones are counted together. Flows may have 2,000
/// phases each, and every one is a series that somebody has to keep.
const PHASES_MAX: usize = 500;
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

fn histogram() -> Histogram {
    Histogram::new(SECONDS)
}

pub(super) struct PhaseMetrics {
    moves: Family<MoveLabels, Counter>,
    seconds: Family<PhaseStateLabels, Histogram>,
    retries: Family<MachineLabels, Counter>,
    retried_well: Family<MachineLabels, Counter>,
    rollbacks: ByMachine,
    leases: Family<MachineLabels, Counter>,
    now: Family<PhaseStateLabels, Gauge>,
}

impl PhaseMetrics {
    pub fn new(r: &mut Registering) -> Self {
        let seconds = Family::new_with_constructor(histogram as fn() -> Histogram);
        Self {
            now: r.add("statewright_phases", Family::default()),
            moves: r.add("statewright_phase_moves", Family::default()),
            seconds: r.add("statewright_phase", seconds),
            leases: r.add("statewright_phase_leases", Family::default()),
            retries: r.add("statewright_phase_retries", Family::default()),
            retried_well: r.add("statewright_phase_retries_succeeded", Family::default()),
            rollbacks: ByMachine::new(r, "statewright_phase_rollbacks", "phase", PHASES_MAX),
        }
    }

    /// What one commit did to the phases of a flow.
    pub fn count(&self, machine: &str, FlowAnswer { moved, lease, .. }: &FlowAnswer) {
        let of_machine = MachineLabels { machine: machine.to_owned() };
        if lease.is_some() {
            self.leases.get_or_create(&of_machine).inc();
        }
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
                PhaseState::RolledBack => self.rollbacks.count(&of_machine.machine, phase),
                _ => {}
            }
        }
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
