//! Counters by machine and one thing more: found without making labels, since most commits count in one, and never more of
//! them than somebody can keep.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

use super::Registering;

/// What is beyond the limit is counted as of this.
pub(super) const OTHER: &str = "(other)";

type Labels = [(&'static str, String); 2];

pub(super) struct ByMachine {
    label: &'static str,
    family: Family<Labels, Counter>,
    known: Mutex<Known>,
    max: usize,
}

#[derive(Default)]
struct Known {
    counters: HashMap<String, HashMap<String, Counter>>,
    count: usize,
}

impl ByMachine {
    pub fn new(r: &mut Registering, base: &'static str, label: &'static str, max: usize) -> Self {
        Self { label, family: r.add(base, Family::default()), known: Mutex::default(), max }
    }

    pub fn count(&self, machine: &str, of: &str) {
        // Whoever panicked while it held the lock has left counters that are as good as any.
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(counter) = known.counters.get(machine).and_then(|counters| counters.get(of)) {
            counter.inc();
            return;
        }
        let of = if known.count < self.max { of } else { OTHER };
        let labels = [("machine", machine.to_owned()), (self.label, of.to_owned())];
        let counter = self.family.get_or_create(&labels).clone();
        counter.inc();
        if known.count < self.max {
            known.count += 1;
            known.counters.entry(machine.to_owned()).or_default().insert(of.to_owned(), counter);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_number_of_phases_makes_more_series_than_anybody_can_keep() {
        let max = 5;
        let counters = ByMachine::new(&mut Registering::new(), "statewright_phase_rollbacks", "phase", max);
        for number in 0..3 * max {
            counters.count("house", &format!("p{number}"));
        }
        counters.count("house", "p0");
        let count = |phase: &str| {
            let labels = [("machine", "house".to_owned()), ("phase", phase.to_owned())];
            counters.family.get_or_create(&labels).get()
        };
        assert_eq!((count("p0"), count("p4"), count(OTHER)), (2, 1, 2 * max as u64));
    }
}
