//! What the store holds, as gauges that are set when somebody looks.

use kernel::time::Timestamp;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use store::StoreStatistics;

use super::{add, as_gauge};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabels {
    machine: String,
    state: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StatusLabels {
    status: &'static str,
}

pub(super) struct StoredMetrics {
    open: Family<StateLabels, Gauge>,
    closed: Family<StateLabels, Gauge>,
    clarifications: Family<StatusLabels, Gauge>,
    effects: Family<StatusLabels, Gauge>,
    quarantined: Gauge,
    bytes: Gauge,
    time_to_live: Gauge,
}

impl StoredMetrics {
    pub fn new(r: &mut Registry) -> Self {
        let time_to_live = "Mean time until the next deadline of open instances";
        Self {
            open: add(r, "instances_open", "Open instances by state", Family::default()),
            closed: add(r, "instances_closed", "Closed instances by reason", Family::default()),
            clarifications: add(r, "clarifications", "Clarifications by status", Family::default()),
            effects: add(r, "effects", "Effects in the outbox, by status", Family::default()),
            quarantined: add(r, "quarantined", "Records whose checksum did not fit", Gauge::default()),
            bytes: add(r, "store_bytes", "What the data takes, as the store tells", Gauge::default()),
            time_to_live: add(r, "time_to_live_seconds", time_to_live, Gauge::default()),
        }
    }

    pub fn set_now(&self, statistics: &StoreStatistics, bytes: Option<u64>, now: Timestamp) {
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
        for (status, count) in &statistics.effects {
            self.effects.get_or_create(&StatusLabels { status }).set(as_gauge(*count));
        }
        self.quarantined.set(as_gauge(statistics.quarantined));
        self.bytes.set(as_gauge(bytes.unwrap_or_default()));
        let left = statistics.mean_deadline.map(|deadline| deadline.since(now).as_millis() / 1_000);
        self.time_to_live.set(left.unwrap_or_default());
    }
}
