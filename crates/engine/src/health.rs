//! A probe of the store by doing what the server does with it: a question, a round trip, and a decision that comes too
//! late.
//!
//! It leaves one setting behind, beside any tenant, which the next probe replaces.

use std::time::Instant;

use kernel::decide::refused;
use kernel::id::{InputKey, InstanceId, Revision, TenantId};
use kernel::input::{Cause, Fields, Input};
use kernel::refusal::{Refusal, RefusalCode};
use kernel::snapshot::Snapshot;
use serde::Serialize;
use serde_json::json;
use store::{Outcome, Setting};

use crate::Engine;

/// What the probe keeps lies here; no tenant is called so.
const TENANT: &str = "statewright~health";
const NAME: &str = "probe";

/// Fails with what is wrong.
type Tried = fn(&Engine) -> Result<(), String>;

/// One thing that was tried.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Check {
    pub name: &'static str,
    pub ok: bool,
    pub took_ms: f64,
    /// What is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

impl Engine {
    /// Whether the store answers, keeps what it is given, and refuses what was decided on something else.
    pub fn probe(&self) -> Vec<Check> {
        let checks: [(&'static str, Tried); 3] = [
            ("connection", Self::answers),
            ("round_trip", Self::keeps_what_it_is_given),
            ("concurrency", Self::refuses_what_comes_too_late),
        ];
        let run = |(name, check): (&'static str, Tried)| {
            let started = Instant::now();
            let problem = check(self).err();
            let took_ms = started.elapsed().as_secs_f64() * 1_000.0;
            Check { name, ok: problem.is_none(), took_ms, problem }
        };
        checks.into_iter().map(run).collect()
    }

    fn answers(&self) -> Result<(), String> {
        self.store.next_due().map(|_| ()).map_err(|error| error.to_string())
    }

    fn keeps_what_it_is_given(&self) -> Result<(), String> {
        let now = self.clock.now();
        // Two servers may probe at once: what is read is one of theirs, and no older than this one.
        let body = json!({ "at": now });
        let setting = Setting { tenant: TenantId::stored(TENANT)?, name: NAME.into(), body, saved_at: now };
        self.store.save_setting(&setting).map_err(|error| error.to_string())?;
        let kept = self.store.settings().map_err(|error| error.to_string())?;
        let mut found = kept.iter().filter(|kept| kept.tenant == setting.tenant && kept.name == NAME);
        match found.next() {
            Some(kept) if kept == &setting || kept.saved_at >= now => Ok(()),
            Some(_) => Err("an older value was read than the one that was saved before".into()),
            None => Err("what was saved is not there".into()),
        }
    }

    /// A commit on an instance that does not exist, at a revision that it therefore does not have.
    fn refuses_what_comes_too_late(&self) -> Result<(), String> {
        let now = self.clock.now();
        let Some(machine) = self.machines.all().into_iter().next() else {
            return Err("no machine is known that a decision could be made with".into());
        };
        let tenant = TenantId::stored(TENANT)?;
        let instance = InstanceId::parse(NAME)?;
        let mut before = Snapshot::new(&machine, tenant.clone(), instance.clone(), Default::default(), now);
        before.revision = Revision(1);
        let cause = Cause::Event { instance, event: NAME.to_owned(), payload: Fields::new() };
        let key = InputKey::parse(NAME)?;
        let input = Input { tenant, key, cause, expected: None, by: None, trace_id: None };
        let refusal = Refusal::new(RefusalCode::InvalidTransition, before.revision, "a probe".to_owned());
        let commit = refused(&machine, &before, &input, &refusal, now);
        match self.store.commit(&[commit]).map_err(|error| error.to_string())?.first() {
            Some(Outcome::Stale) => Ok(()),
            other => Err(format!("a commit that came too late was not refused: {other:?}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use kernel::definition;
    use store::MemoryStore;

    use super::*;
    use crate::{Clock, Machines, Settings};

    #[test]
    fn a_store_that_works_is_found_well_and_left_as_it_was() {
        let (machine, _) = definition::load("machine: m\ninitial: a\nstates: { a: {} }\n");
        let (store, machines) = (Arc::new(MemoryStore::new()), Machines::default());
        machines.adopt(&*store, machine.unwrap().into(), Clock::System.now()).unwrap();
        let engine = Engine::start(store, Arc::new(machines), Clock::System, Settings::default());
        let before = engine.store().statistics();
        for _ in 0..2 {
            let checks = engine.probe();
            assert!(checks.iter().all(|check| check.ok), "{checks:?}");
            assert_eq!(checks.len(), 3);
        }
        assert_eq!(engine.store().statistics(), before);
        assert_eq!(engine.store().settings().unwrap().len(), 1);
    }
}
