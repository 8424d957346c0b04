//! What the store holds, as gauges that are set when somebody looks.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;

use kernel::snapshot::Stuck;
use kernel::time::Timestamp;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use store::{Space, Standings, StoreStatistics};

use super::by_machine::OTHER;
use super::{MachineLabels, Registering, as_gauge};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabels {
    machine: String,
    state: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StatusLabels {
    status: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    machine: String,
    reason: &'static str,
}

/// Series of one figure; states are a machine's to name, and several that are active together are one more.
const SERIES_MAX: usize = 1_000;

/// What is asked of the store when somebody looks.
#[derive(Debug)]
pub(crate) struct Stored<'s> {
    pub statistics: &'s StoreStatistics,
    pub standings: &'s Standings,
    pub space: Space,
    /// When the earliest timer and the earliest effect are due.
    pub timer_due: Option<Timestamp>,
    pub effect_due: Option<Timestamp>,
}

pub(super) struct StoredMetrics {
    open: Family<StateLabels, Gauge>,
    closed: Family<StateLabels, Gauge>,
    stuck: Family<ReasonLabels, Gauge>,
    looping: Family<MachineLabels, Gauge>,
    clarifications: Family<StatusLabels, Gauge>,
    effects: Family<StatusLabels, Gauge>,
    quarantined: Gauge,
    bytes: Gauge,
    log_bytes: Gauge,
    free_bytes: Family<[(&'static str, &'static str); 0], Gauge>,
    time_to_live: Gauge,
    timer_lag: Gauge<f64, AtomicU64>,
    outbox_age: Gauge<f64, AtomicU64>,
}

impl StoredMetrics {
    pub fn new(r: &mut Registering) -> Self {
        Self {
            open: r.add("statewright_instances_open", Family::default()),
            closed: r.add("statewright_instances_closed", Family::default()),
            stuck: r.add("statewright_instances_stuck", Family::default()),
            looping: r.add("statewright_instances_looping", Family::default()),
            clarifications: r.add("statewright_clarifications", Family::default()),
            effects: r.add("statewright_effects", Family::default()),
            quarantined: r.add("statewright_quarantined", Gauge::default()),
            bytes: r.add("statewright_store", Gauge::default()),
            log_bytes: r.add("statewright_store_log", Gauge::default()),
            free_bytes: r.add("statewright_disk_free", Family::default()),
            time_to_live: r.add("statewright_time_to_live", Gauge::default()),
            timer_lag: r.add("statewright_timer_lag", Gauge::default()),
            outbox_age: r.add("statewright_outbox_age", Gauge::default()),
        }
    }

    pub fn set_now(&self, stored: &Stored<'_>, now: Timestamp) {
        let Stored { statistics, standings, space, timer_due, effect_due } = stored;
        set_states(&self.open, &statistics.open);
        set_states(&self.closed, &statistics.closed);
        self.set_standings(standings);
        for (status, count) in &statistics.clarifications {
            self.clarifications.get_or_create(&StatusLabels { status }).set(as_gauge(*count));
        }
        for (status, count) in &statistics.effects {
            self.effects.get_or_create(&StatusLabels { status }).set(as_gauge(*count));
        }
        self.quarantined.set(as_gauge(statistics.quarantined));
        self.bytes.set(as_gauge(space.data_bytes.unwrap_or_default()));
        self.log_bytes.set(as_gauge(space.log_bytes.unwrap_or_default()));
        // A disk that nobody knows of is not one that is full.
        if let Some(free) = space.free_bytes {
            self.free_bytes.get_or_create(&[]).set(as_gauge(free));
        }
        let left = statistics.mean_deadline.map(|deadline| deadline.since(now).as_millis() / 1_000);
        self.time_to_live.set(left.unwrap_or_default());
        let late = |due: &Option<Timestamp>| due.map_or(0, |due| now.since(due).as_millis().max(0));
        self.timer_lag.set(late(timer_due) as f64 / 1_000.0);
        self.outbox_age.set(late(effect_due) as f64 / 1_000.0);
    }

    /// A machine with open instances has a series for each reason: one that comes and goes would be told as nothing known.
    fn set_standings(&self, standings: &Standings) {
        self.stuck.clear();
        self.looping.clear();
        for (machine, standing) in standings.by_machine() {
            for why in Stuck::ALL {
                let labels = ReasonLabels { machine: machine.to_owned(), reason: why.as_str() };
                let count = standing.stuck.get(&why).copied().unwrap_or_default();
                self.stuck.get_or_create(&labels).set(as_gauge(count));
            }
            let labels = MachineLabels { machine: machine.to_owned() };
            self.looping.get_or_create(&labels).set(as_gauge(standing.looping));
        }
    }
}

/// The most frequent ones by their names, and the rest of each machine together.
fn set_states(family: &Family<StateLabels, Gauge>, counts: &BTreeMap<(String, String), u64>) {
    family.clear();
    let mut counts: Vec<_> = counts.iter().collect();
    if counts.len() > SERIES_MAX {
        counts.sort_by_key(|(_, count)| Reverse(**count));
    }
    for (place, ((machine, state), count)) in counts.into_iter().enumerate() {
        let state = if place < SERIES_MAX { state } else { OTHER };
        let labels = StateLabels { machine: machine.clone(), state: state.to_owned() };
        family.get_or_create(&labels).inc_by(as_gauge(*count));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_beyond_what_anybody_can_keep_are_told_together() {
        let family = Family::default();
        let state = |number: usize| ("m".to_owned(), format!("s{number:04}"));
        let counts = (0..SERIES_MAX + 5).map(|number| (state(number), 1 + number as u64)).collect();
        set_states(&family, &counts);
        let told = |state: &str| {
            family.get_or_create(&StateLabels { machine: "m".into(), state: state.into() }).get()
        };
        // Those with the fewest are the first five.
        assert_eq!((told("s0005"), told(OTHER)), (6, 1 + 2 + 3 + 4 + 5));
    }
}
