//! Inputs by what became of them. There is one for each commit, so that counting one allocates nothing.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

use super::Registering;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    machine: String,
    /// `message`, `event`, `timer`, `create`, …
    kind: &'static str,
    /// A message's outcome, `taken`, or the code of a refusal.
    outcome: &'static str,
}

/// What became of an input of a kind.
type Ended = (&'static str, &'static str);

pub(super) struct InputMetrics {
    inputs: Family<OutcomeLabels, Counter>,
    /// The counters that have been needed, to be found without making labels.
    known: Mutex<HashMap<String, Vec<(Ended, Counter)>>>,
}

impl InputMetrics {
    pub fn new(r: &mut Registering) -> Self {
        Self { inputs: r.add("statewright_inputs", Family::default()), known: Mutex::default() }
    }

    pub fn count(&self, machine: &str, kind: &'static str, outcome: &'static str) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let ended = (kind, outcome);
        let mut counters = known.get(machine).into_iter().flatten();
        if let Some((_, counter)) = counters.find(|(of, _)| *of == ended) {
            counter.inc();
            return;
        }
        let labels = OutcomeLabels { machine: machine.to_owned(), kind, outcome };
        let counter = self.inputs.get_or_create(&labels).clone();
        counter.inc();
        known.entry(machine.to_owned()).or_default().push((ended, counter));
    }

    /// How many inputs ended so, of all machines and kinds.
    pub fn ended_so(&self, outcome: &'static str) -> u64 {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let counters = known.values().flatten().filter(|((_, of), _)| *of == outcome);
        counters.map(|(_, counter)| counter.get()).sum()
    }
}
