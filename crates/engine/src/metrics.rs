//! What the engine counts, in an explicit registry that is written out as OpenMetrics text.

use std::fmt;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use store::StoreStatistics;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OutcomeLabels {
    pub machine: String,
    /// `message`, `event`, `timer`, `create`, …
    pub kind: &'static str,
    /// A message's outcome, `taken`, or the code of a refusal.
    pub outcome: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabels {
    machine: String,
    state: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StatusLabels {
    status: &'static str,
}

pub struct Metrics {
    registry: Registry,
    pub inputs: Family<OutcomeLabels, Counter>,
    pub replayed: Counter,
    pub stale: Counter,
    pub overloaded: Counter,
    pub commit_errors: Counter,
    pub timers_fired: Counter,
    pub cleaned_up: Counter,
    pub batches: Counter,
    pub batch_inputs: Histogram,
    pub commit_seconds: Histogram,
    open: Family<StateLabels, Gauge>,
    closed: Family<StateLabels, Gauge>,
    clarifications: Family<StatusLabels, Gauge>,
    effects_pending: Gauge,
    quarantined: Gauge,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix("statewright");
        let batch_sizes = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];
        let seconds = [0.000_5, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 2.0];
        let metrics = Self {
            inputs: Family::default(),
            replayed: Counter::default(),
            stale: Counter::default(),
            overloaded: Counter::default(),
            commit_errors: Counter::default(),
            timers_fired: Counter::default(),
            cleaned_up: Counter::default(),
            batches: Counter::default(),
            batch_inputs: Histogram::new(batch_sizes),
            commit_seconds: Histogram::new(seconds),
            open: Family::default(),
            closed: Family::default(),
            clarifications: Family::default(),
            effects_pending: Gauge::default(),
            quarantined: Gauge::default(),
            registry: Registry::default(),
        };
        registry.register("inputs", "Inputs answered, by what became of them", metrics.inputs.clone());
        registry.register("replayed", "Repeated keys that got their first answer", metrics.replayed.clone());
        registry.register(
            "stale",
            "Decisions made on a revision that was no longer current",
            metrics.stale.clone(),
        );
        registry.register(
            "overloaded",
            "Inputs turned away because too many waited",
            metrics.overloaded.clone(),
        );
        registry.register(
            "commit_errors",
            "Batches that were not known to be saved",
            metrics.commit_errors.clone(),
        );
        registry.register(
            "timers_fired",
            "Timers that came due and were committed",
            metrics.timers_fired.clone(),
        );
        registry.register("cleaned_up", "Expired log entries deleted", metrics.cleaned_up.clone());
        registry.register("batches", "Batches committed", metrics.batches.clone());
        registry.register("batch_inputs", "Commits in one batch", metrics.batch_inputs.clone());
        registry.register("commit_seconds", "Time to make a batch durable", metrics.commit_seconds.clone());
        registry.register("instances_open", "Open instances by state", metrics.open.clone());
        registry.register("instances_closed", "Closed instances by reason", metrics.closed.clone());
        registry.register("clarifications", "Clarifications by status", metrics.clarifications.clone());
        registry.register(
            "effects_pending",
            "Rows of the outbox that wait for delivery",
            metrics.effects_pending.clone(),
        );
        registry.register("quarantined", "Records whose checksum did not fit", metrics.quarantined.clone());
        Self { registry, ..metrics }
    }

    /// How many batches have been committed.
    pub fn batches(&self) -> u64 {
        self.batches.get()
    }

    /// All figures as OpenMetrics text, those of the store as `statistics` has them.
    pub fn render(&self, statistics: &StoreStatistics) -> String {
        let labels = |(machine, state): &(String, String)| StateLabels {
            machine: machine.clone(),
            state: state.clone(),
        };
        self.open.clear();
        self.closed.clear();
        for (key, count) in &statistics.open {
            self.open.get_or_create(&labels(key)).set(as_gauge(*count));
        }
        for (key, count) in &statistics.closed {
            self.closed.get_or_create(&labels(key)).set(as_gauge(*count));
        }
        for (status, count) in &statistics.clarifications {
            self.clarifications.get_or_create(&StatusLabels { status }).set(as_gauge(*count));
        }
        self.effects_pending.set(as_gauge(statistics.effects_pending));
        self.quarantined.set(as_gauge(statistics.quarantined));
        let mut text = String::new();
        match encode(&mut text, &self.registry) {
            Ok(()) => text,
            Err(fmt::Error) => "# the metrics could not be written\n".to_owned(),
        }
    }
}

fn as_gauge(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
