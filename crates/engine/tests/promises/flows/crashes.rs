//! The process or the store may fail while one flow tells another: nothing is lost, and nothing happens twice.

use std::sync::Arc;
use std::time::Duration;

use engine::Settings;
use kernel::flow::PhaseState::{Completed, InProgress};
use serde_json::json;
use store::{CommitError, SqliteStore, Store};
use tempfile::TempDir;

use super::{Site, id_of};
use crate::failing_store::Wrapped;
use crate::post::Office;
use crate::world::World;

/// Longer than any claim is left to whoever has it.
const LEASE_OVER: &str = "91s";

fn impatient() -> Settings {
    Settings { farewell_max: Duration::ZERO, ..Settings::default() }
}

/// The store does not take that the flow was told, so that it is told again by the next server.
#[test]
fn a_flow_that_is_told_again_after_a_crash_has_heard_it_once() {
    let store = Wrapped::new(|_, batch, inner| inner.commit(batch));
    let mut site = Site::with(Office::with(Arc::<Wrapped>::clone(&store) as Arc<dyn Store>, impatient()));
    site.begin("street", "s1", json!({}));
    site.act("s1", "plan.start", json!({}));
    for action in ["plan.complete", "pause", "resume"] {
        store.fail_settlements(usize::MAX);
        site.office.call(site.action("s1", action, json!({})));
        store.until_settlements_failed(1);
        site.office.engine.stop();
        store.fail_settlements(0);
        site.office.restart();
        site.office.pass(LEASE_OVER);
    }
    let houses = site.all("house");
    assert_eq!(houses.len(), 1, "{houses:?}");
    let history = site.office.world.history(&id_of(&houses[0]));
    let events: Vec<&str> = history.iter().map(|entry| entry.event.as_str()).collect();
    assert_eq!(events, ["create", "pause", "resume"]);
    site.build(&houses[0]);
    assert_eq!(site.state("s1", "build"), Completed);
    let results = site.office.world.history(&id_of("s1")).into_iter().filter(|e| e.event == "build.result");
    assert_eq!(results.count(), 1);
}

/// At each commit in turn the store fails, once having saved it and once not.
#[test]
fn a_store_that_fails_while_flows_are_told_loses_nothing() {
    for saves in [true, false] {
        for fails in 1..=10 {
            let store = Wrapped::new(move |call, batch, inner| match call == fails {
                true if saves => {
                    inner.commit(batch).and(Err(CommitError::Unknown("the line went dead".into())))
                }
                true => Err(CommitError::Unavailable("the disk is away".into())),
                false => inner.commit(batch),
            });
            let site = Site::with(Office::over(store));
            let repeat = |input: kernel::input::Input| {
                let answered = site.office.engine.call(input.clone());
                if answered.is_err() {
                    site.office.call(input);
                }
                site.office.pass("2s");
            };
            let create = kernel::input::Cause::Create {
                machine: kernel::id::MachineName::parse("street").unwrap(),
                id: Some(id_of("s1")),
                subject: None,
                context: Default::default(),
                start: Default::default(),
            };
            let mut input = crate::world::event(&id_of("s1"), "begin", "", json!({}));
            input.cause = create;
            repeat(input);
            for action in ["plan.start", "plan.complete"] {
                repeat(site.action("s1", action, json!({})));
            }
            let house = site.all("house").remove(0);
            for action in ["walls.start", "walls.complete", "roof.start", "roof.complete"] {
                repeat(site.action(&house, action, json!({})));
            }
            let case = format!("commit {fails}, saved: {saves}");
            assert_eq!(site.all("house").len(), 1, "{case}");
            assert_eq!(site.state("s1", "build"), Completed, "{case}");
        }
    }
}

#[test]
fn what_was_to_be_told_when_the_process_ended_is_told_by_the_next() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("statewright.db");
    let site = Site::over(Arc::new(SqliteStore::open(&path).unwrap()));
    let house = {
        let house = site.street();
        site.done(&house, "walls", json!({}));
        site.act(&house, "roof.start", json!({}));
        house
    };
    let clock = site.office.world.clock.clone();
    // A server that delivers nothing takes the last step, and ends.
    let script = Arc::clone(&site.office.script);
    let last = site.action(&house, "roof.complete", json!({}));
    drop(site);
    let mut world = World::over(Arc::new(SqliteStore::open(&path).unwrap()));
    world.machines = Arc::new(engine::Machines::from_store(&*world.store).unwrap());
    world.clock = clock;
    drop(world.engine().call(last).unwrap());
    let site = Site { office: Office::of(world, script, Settings::default()) };
    site.office.rest();
    assert_eq!((site.status(&house), site.state("s1", "build")), ("completed".to_owned(), Completed));
}

#[test]
fn flows_are_told_in_order_for_as_long_as_the_store_is_away() {
    let away = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let is_away = Arc::clone(&away);
    let store = Wrapped::new(move |_, batch, inner| {
        let to_house = batch.iter().any(|commit| commit.instance.as_str().starts_with("s1.build"));
        match to_house && is_away.load(std::sync::atomic::Ordering::SeqCst) {
            true => Err(CommitError::Unavailable("the disk is away".into())),
            false => inner.commit(batch),
        }
    });
    let site = Site::with(Office::over(store));
    site.begin("street", "s1", json!({}));
    site.act("s1", "plan.start", json!({}));
    away.store(true, std::sync::atomic::Ordering::SeqCst);
    site.act("s1", "plan.complete", json!({}));
    // Longer than anything outside is tried.
    for _ in 0..40 {
        site.office.pass("5m");
    }
    assert_eq!((site.all("house").len(), site.state("s1", "build")), (0, InProgress));
    site.act("s1", "pause", json!({}));
    away.store(false, std::sync::atomic::Ordering::SeqCst);
    site.office.pass("5m");
    let house = site.all("house").remove(0);
    assert_eq!(site.status(&house), "paused", "what came later waits for what came first");
}
