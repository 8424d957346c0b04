//! What the engine counts, in an explicit registry that is written out as OpenMetrics text.

mod inputs;
mod phases;
mod stored;

use std::fmt;

use kernel::commit::PhaseMove;
use kernel::time::Timestamp;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry};
use store::StoreStatistics;

use inputs::InputMetrics;
use phases::PhaseMetrics;
use stored::StoredMetrics;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RecogniserLabels {
    recogniser: String,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct DeliveryLabels {
    pub endpoint: String,
    /// How the attempt ended: `delivered`, `answered`, `refused`, `gone`, `later` or `unknown`.
    pub result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct MachineLabels {
    pub machine: String,
}

pub struct Metrics {
    registry: Registry,
    inputs: InputMetrics,
    pub replayed: Counter,
    pub stale: Counter,
    pub overloaded: Counter,
    pub commit_errors: Counter,
    pub timers_fired: Counter,
    pub cleaned_up: Counter,
    pub batches: Counter,
    pub batch_inputs: Histogram,
    pub commit_seconds: Histogram,
    pub deliveries: Family<DeliveryLabels, Counter>,
    pub loops: Family<MachineLabels, Counter>,
    pub dead_ends: Family<MachineLabels, Counter>,
    recogniser_calls: Family<RecogniserLabels, Counter>,
    phases: PhaseMetrics,
    stored: StoredMetrics,
    pub(crate) inputs_waiting: Gauge,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut all = Registry::with_prefix("statewright");
        let batch_sizes = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];
        let seconds = [0.000_5, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 2.0];
        let r = &mut all;
        Self {
            inputs: InputMetrics::new(r),
            replayed: add(r, "replayed", "Repeated keys that got their first answer", Counter::default()),
            stale: add(
                r,
                "stale",
                "Decisions made on a revision that was no longer current",
                Counter::default(),
            ),
            overloaded: add(
                r,
                "overloaded",
                "Inputs turned away because too many waited",
                Counter::default(),
            ),
            commit_errors: add(
                r,
                "commit_errors",
                "Batches that were not known to be saved",
                Counter::default(),
            ),
            timers_fired: add(
                r,
                "timers_fired",
                "Timers that came due and were committed",
                Counter::default(),
            ),
            cleaned_up: add(r, "cleaned_up", "Expired log entries deleted", Counter::default()),
            batches: add(r, "batches", "Batches committed", Counter::default()),
            batch_inputs: add(r, "batch_inputs", "Commits in one batch", Histogram::new(batch_sizes)),
            commit_seconds: add(r, "commit_seconds", "Time to make a batch durable", Histogram::new(seconds)),
            deliveries: add(
                r,
                "deliveries",
                "Attempts to deliver an effect, by how they ended",
                Family::default(),
            ),
            loops: add(
                r,
                "loops",
                "Transitions that repeated themselves too often in a short time",
                Family::default(),
            ),
            recogniser_calls: add(
                r,
                "recogniser_calls",
                "Messages that a recogniser was to be asked about, by how that went",
                Family::default(),
            ),
            dead_ends: add(
                r,
                "dead_ends",
                "Commits that left an instance where nothing leads on from",
                Family::default(),
            ),
            phases: PhaseMetrics::new(r),
            stored: StoredMetrics::new(r),
            inputs_waiting: add(r, "inputs_waiting", "Inputs that wait for their decision", Gauge::default()),
            registry: all,
        }
    }

    /// A recogniser was to be asked; `outcome` is `ok`, or why there was nothing to be had.
    pub fn count_recogniser_call(&self, recogniser: &str, outcome: &'static str) {
        let recogniser = recogniser.to_owned();
        self.recogniser_calls.get_or_create(&RecogniserLabels { recogniser, outcome }).inc();
    }

    /// An input was answered; `outcome` is a message's outcome, `taken`, or the code of a refusal.
    pub(crate) fn count_input(&self, machine: &str, kind: &'static str, outcome: &'static str) {
        self.inputs.count(machine, kind, outcome);
    }

    /// What one commit did to the phases of a flow.
    pub(crate) fn count_moves(&self, machine: &str, moved: &[PhaseMove]) {
        self.phases.count(machine, moved);
    }

    /// How many inputs were refused with this code, of all machines.
    pub fn refused(&self, code: &'static str) -> u64 {
        self.inputs.ended_so(code)
    }

    /// How many batches have been committed.
    pub fn batches(&self) -> u64 {
        self.batches.get()
    }

    /// All figures as OpenMetrics text, those of the store as `statistics` has them at `now`.
    pub(crate) fn render(
        &self,
        statistics: &StoreStatistics,
        stored_bytes: Option<u64>,
        now: Timestamp,
    ) -> String {
        self.phases.set_now(statistics);
        self.stored.set_now(statistics, stored_bytes, now);
        let mut text = String::new();
        match encode(&mut text, &self.registry) {
            Ok(()) => text,
            Err(fmt::Error) => "# the metrics could not be written\n".to_owned(),
        }
    }
}

/// Registers a metric under a name and hands it back.
fn add<M: Metric + Clone>(registry: &mut Registry, name: &str, help: &str, metric: M) -> M {
    registry.register(name, help, metric.clone());
    metric
}

fn as_gauge(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
