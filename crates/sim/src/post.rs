//! Who is called and written to: an outside world that is busy, refuses, or takes something and does not say so.
//!
//! It outlives every engine, as the outside does, and keeps what has arrived. What must hold of that is checked here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use engine::delivery::{Carried, Carrier, Endpoint, Route, Schedule};
use kernel::commit::{EffectKind, Entry, EntryCause};
use kernel::id::{InstanceId, MachineName, TenantId};
use kernel::input::{CallOutcome, Fields};
use serde_json::json;
use store::{EffectStatus, OutboxEffect};

use crate::random::Random;

#[derive(Debug)]
pub(crate) struct Outside {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    random: Random,
    /// It takes everything and says so.
    well: bool,
    /// The keys of what has arrived, with repeats.
    arrived: Vec<(InstanceId, String)>,
}

impl Outside {
    pub fn new(seed: u64) -> Self {
        let state = State { random: Random::new(!seed), well: false, arrived: Vec::new() };
        Self { state: Mutex::new(state) }
    }

    pub fn get_well(&self) {
        self.with(|state| state.well = true);
    }

    pub fn arrivals(&self) -> usize {
        self.with(|state| state.arrived.len())
    }

    fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut self.state.lock().expect("no thread panics while it holds this lock"))
    }

    /// What holds once everything has come to rest: `effects` are all that ever were, oldest first.
    pub fn check(&self, effects: &[OutboxEffect]) -> Result<(), String> {
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        let mut firsts: BTreeMap<InstanceId, Vec<String>> = BTreeMap::new();
        for (instance, key) in self.with(|state| state.arrived.clone()) {
            let count = counts.entry(key.clone()).or_default();
            *count += 1;
            if *count == 1 {
                firsts.entry(instance).or_default().push(key);
            }
        }
        let is_call = |effect: &&OutboxEffect| matches!(effect.effect.kind, EffectKind::Call { .. });
        let is_told = |effect: &&OutboxEffect| matches!(effect.effect.kind, EffectKind::Tell(_));
        for told in effects.iter().filter(is_told) {
            // What a flow is told stays inside, and nobody waits for ever to hear it.
            let (EffectStatus::Delivered | EffectStatus::Cancelled) = told.status else {
                return Err(format!("{} is {}: {:?}", told.effect.key, told.status.as_str(), told.error));
            };
        }
        for effect in effects.iter().filter(|effect| !is_told(effect)) {
            let key = &effect.effect.key;
            let count = counts.get(key).copied().unwrap_or(0);
            let status = effect.status;
            match status {
                EffectStatus::Delivered if count > 0 => {}
                EffectStatus::Dead => {}
                EffectStatus::Unknown if !is_repeatable(effect) => {}
                EffectStatus::Cancelled if is_call(&effect) => {}
                _ => return Err(format!("{key} has arrived {count} times and is {}", status.as_str())),
            }
            if count > 1 && !is_repeatable(effect) {
                return Err(format!("{key} has arrived {count} times where a repeat is not known as one"));
            }
        }
        let told = effects.iter().filter(|effect| !is_call(effect) && !is_told(effect));
        let saved: Vec<&String> = told.map(|effect| &effect.effect.key).collect();
        for (instance, keys) in firsts {
            let places: Vec<_> = keys.iter().filter_map(|key| saved.iter().position(|s| *s == key)).collect();
            if !places.is_sorted() {
                return Err(format!("the replies of {instance} arrived as {keys:?}"));
            }
        }
        Ok(())
    }
}

/// A call has one result at most, whatever was answered how often.
pub(crate) fn check_results(entries: &[Entry]) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    for entry in entries.iter().filter(|entry| entry.success) {
        if let Some(EntryCause::Result { call }) = &entry.cause
            && !seen.insert(call)
        {
            return Err(format!("the call {call} has brought several results"));
        }
    }
    Ok(())
}

/// Calls are known by their keys. So is what some people are sent.
fn is_repeatable(effect: &OutboxEffect) -> bool {
    let even = |subject: &kernel::id::Subject| subject.as_str().ends_with(['0', '2', '4']);
    effect.subject.as_ref().is_none_or(even)
}

impl Carrier for Outside {
    fn route(&self, effect: &OutboxEffect) -> Route {
        let repeatable = is_repeatable(effect);
        let name = if repeatable { "webhook" } else { "phone" };
        Route::To(Endpoint { name: name.into(), repeatable, rate: None, schedule: Schedule::Prompt })
    }

    fn carry(&self, effect: OutboxEffect, ended: Box<dyn FnOnce(Carried) + Send>) {
        let carried = self.with(|state| {
            let error = || "simulated".to_owned();
            let (arrives, carried) = match state.random.below(12) {
                _ if state.well => (true, None),
                0..=5 => (true, None),
                6 | 7 => (false, Some(Carried::Later { error: error(), after: None, parts_done: 0 })),
                8 => (false, Some(Carried::Unknown { error: error(), parts_done: 0 })),
                9 | 10 => (true, Some(Carried::Unknown { error: error(), parts_done: 0 })),
                _ => (false, Some(Carried::Refused { error: error(), parts_done: 0 })),
            };
            if arrives {
                state.arrived.push((effect.instance.clone(), effect.effect.key.clone()));
            }
            let answer = match &effect.effect.kind {
                // Never the same answer twice.
                EffectKind::Call { .. } => Carried::Answered(CallOutcome::Done(Fields::from_iter([(
                    "number".to_owned(),
                    json!(state.arrived.len()),
                )]))),
                EffectKind::Reply(_) | EffectKind::Notice(_) | EffectKind::Tell(_) => {
                    Carried::Delivered { provider_id: None }
                }
            };
            carried.unwrap_or(answer)
        });
        ended(carried);
    }

    fn wants_notices(&self, _tenant: &TenantId, machine: &MachineName) -> bool {
        machine.as_str() == "progress_update"
    }
}
