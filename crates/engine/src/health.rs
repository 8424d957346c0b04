//! How things are: a probe of the store by doing what the server does with it (a question, a round trip, and a decision that
//! comes too late), and what can be seen without changing anything.
//!
//! The probe leaves one setting behind, beside any tenant, which the next probe replaces.

use std::time::Instant;

use kernel::decide::refused;
use kernel::id::{InputKey, InstanceId, Revision, TenantId};
use kernel::input::{Cause, Fields, Input};
use kernel::refusal::{Refusal, RefusalCode};
use kernel::snapshot::Snapshot;
use kernel::time::{Delay, Timestamp};
use serde::Serialize;
use serde_json::json;
use store::{Outcome, Setting};

use crate::Engine;
use crate::migrate::unmapped;

/// What the probe keeps lies here; no tenant is called so.
const TENANT: &str = "statewright~health";
const NAME: &str = "probe";

/// Fails with what is wrong.
type Tried = fn(&Engine) -> Result<(), String>;
/// Fails with what is wrong, else tells how it is.
type Seen = fn(&Engine) -> Result<String, String>;

/// An effect that is due for longer does not go out: attempts are put off by themselves for shorter, or later.
const OUTBOX_AGE_MAX: Delay = Delay::from_secs(300);
/// With less, the next clean-up or the next hour may find no room.
pub const FREE_BYTES_MIN: u64 = 256 << 20;
/// What a problem names of many.
const NAMED_MAX: usize = 5;

/// One thing that was tried.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Check {
    pub name: &'static str,
    pub ok: bool,
    pub took_ms: f64,
    /// How it is, of what was only looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
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
            Check { name, ok: problem.is_none(), took_ms, detail: None, problem }
        };
        checks.into_iter().map(run).collect()
    }

    /// How the server stands, without changing anything: the store answers, timers fire, effects go out, the disk has room,
    /// definitions load, and instances are in states that there are and get on.
    pub fn condition(&self) -> Vec<Check> {
        let checks: [(&'static str, Seen); 7] = [
            ("store", |engine| engine.answers().map(|()| "answers".to_owned())),
            ("timers", Self::timers),
            ("outbox", Self::outbox),
            ("disk", Self::disk),
            ("definitions", Self::definitions),
            ("migrations", Self::migrations),
            ("instances", Self::instances),
        ];
        let run = |(name, check): (&'static str, Seen)| {
            let started = Instant::now();
            let seen = check(self);
            let took_ms = started.elapsed().as_secs_f64() * 1_000.0;
            let ok = seen.is_ok();
            let (detail, problem) =
                seen.map_or_else(|problem| (None, Some(problem)), |detail| (Some(detail), None));
            Check { name, ok, took_ms, detail, problem }
        };
        checks.into_iter().map(run).collect()
    }

    fn timers(&self) -> Result<String, String> {
        let due = self.store.next_due().map_err(|error| error.to_string())?;
        let late = self.late(due);
        match late > self.settings.overdue_after {
            true => Err(format!("a timer has been due for {late} and does not fire")),
            false => Ok("none is late".to_owned()),
        }
    }

    fn outbox(&self) -> Result<String, String> {
        let due = self.store.next_effect_due().map_err(|error| error.to_string())?;
        let late = self.late(due);
        match late > OUTBOX_AGE_MAX {
            true => Err(format!("an effect has been due for {late} and does not go out")),
            false => Ok("nothing waits for long".to_owned()),
        }
    }

    fn late(&self, due: Option<Timestamp>) -> Delay {
        due.map_or(Delay::ZERO, |due| self.clock.now().since(due))
    }

    fn disk(&self) -> Result<String, String> {
        let Some(free) = self.store.space().free_bytes else {
            return Ok("elsewhere; the store does not tell".to_owned());
        };
        let told = format!("{} MiB free", free >> 20);
        if free < FREE_BYTES_MIN { Err(told) } else { Ok(told) }
    }

    fn definitions(&self) -> Result<String, String> {
        match self.machines.unfit().as_slice() {
            [] => Ok("all that are stored load".to_owned()),
            unfit => Err(format!("this release does not accept {}", some_of(unfit))),
        }
    }

    fn migrations(&self) -> Result<String, String> {
        let (statistics, _) = self.statistics().map_err(|error| error.to_string())?;
        let machines = self.machines.all();
        let unmapped = machines.iter().flat_map(|machine| {
            let states = unmapped(machine, &self.machines, &statistics);
            states.into_iter().map(|(state, open)| format!("{open} in `{state}` of {}", machine.name))
        });
        match unmapped.collect::<Vec<_>>().as_slice() {
            [] => Ok("every instance is in a state that there is".to_owned()),
            states => Err(format!("open in states that are no more: {}", some_of(states))),
        }
    }

    fn instances(&self) -> Result<String, String> {
        let (standings, _) = self.standings().map_err(|error| error.to_string())?;
        let machines = standings.by_machine();
        let stuck = machines.iter().flat_map(|(machine, standing)| {
            let why = standing.stuck.iter();
            why.map(move |(why, count)| format!("{count} of {machine} ({})", why.as_str().replace('_', " ")))
        });
        match stuck.collect::<Vec<_>>().as_slice() {
            [] => Ok("none is stuck".to_owned()),
            stuck => Err(format!("stuck: {}", some_of(stuck))),
        }
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

fn some_of(names: &[String]) -> String {
    let more = names.len().saturating_sub(NAMED_MAX);
    let named = names[..names.len() - more].join(", ");
    if more > 0 { format!("{named}, and {more} more") } else { named }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use kernel::definition;
    use store::{MemoryStore, Store, StoredDefinition};

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

    fn problems(engine: &Engine) -> Vec<(&'static str, String)> {
        let checks = engine.condition().into_iter();
        checks.filter_map(|check| Some((check.name, check.problem?))).collect()
    }

    #[test]
    fn what_is_late_and_what_does_not_load_is_told() {
        let source = "machine: m\ninitial: a\nafter: { 1m: b }\nstates: { a: {}, b: { on: { back: a } } }\n";
        let machine = Arc::new(definition::load(source).0.unwrap());
        let later = definition::load(&format!("{source}version: 2\n")).0.unwrap();
        let (store, clock) = (Arc::new(MemoryStore::new()), Clock::virtual_at(Timestamp::from_millis(0)));
        let machines = Machines::default();
        machines.adopt(&*store, Arc::clone(&machine), clock.now()).unwrap();
        let engine = Engine::start(store.clone(), Arc::new(machines), clock.clone(), Settings::default());
        assert_eq!(problems(&engine), []);
        let create = Cause::Create {
            machine: machine.name.clone(),
            id: None,
            subject: None,
            context: Fields::new(),
            start: Default::default(),
        };
        let key = InputKey::parse("k").unwrap();
        let tenant = TenantId::default_tenant();
        engine.call(Input { tenant, key, cause: create, expected: None, by: None, trace_id: None }).unwrap();
        // On a virtual clock nothing fires by itself.
        clock.advance(Delay::from_secs(3_660)).unwrap();
        let source = "machine: m\n".to_owned();
        let (hash, machine) = (later.hash, machine.name.clone());
        let unfit = StoredDefinition { hash, machine, version: 2, source, saved_at: clock.now() };
        store.save_definition(&unfit).unwrap();
        engine.machines().refresh(&*store).unwrap();
        let told = [
            ("timers", "a timer has been due for 1h and does not fire".to_owned()),
            ("definitions", "this release does not accept m 2".to_owned()),
            ("instances", "stuck: 1 of m (overdue)".to_owned()),
        ];
        assert_eq!(problems(&engine), told);
        let again = Machines::from_store(&*store).unwrap();
        assert_eq!(again.unfit(), ["m 2"]);
        engine.recover().unwrap();
        store.save_definition(&StoredDefinition { source: later.source.to_string(), ..unfit }).unwrap();
        engine.machines().refresh(&*store).unwrap();
        assert_eq!(problems(&engine), []);
    }
}
