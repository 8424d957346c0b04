//! Figures of what is stored, where it takes long to count them: no input waits for that, and it is not done all the time.

use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use engine::{Engine, Settings};

use crate::failing_store::Wrapped;
use crate::world::{World, revision, says};

/// Longer than anything here takes, on any machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// A world whose store goes on counting until something is sent, each time, with an engine that has not been asked to
/// recover.
fn counting() -> (Arc<Wrapped>, World, Engine, Sender<()>) {
    let store = Wrapped::new(|_, batch, inner| inner.commit(batch));
    let world = World::over(store.clone());
    let (go_on, held) = channel();
    let held = Mutex::new(held);
    store.before_count(move |_| {
        // A test that is over waits for nothing.
        let _ = held.lock().unwrap().recv_timeout(PATIENCE);
    });
    let (machines, clock) = (Arc::clone(&world.machines), world.clock.clone());
    let engine = Engine::start(store.clone(), machines, clock, Settings::default());
    (store, world, engine, go_on)
}

fn until(holds: impl Fn() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "it does not come to that");
        std::thread::yield_now();
    }
}

#[test]
fn inputs_are_answered_while_what_is_stored_is_counted() {
    let (store, _world, engine, go_on) = counting();
    until(|| store.counts() == 1);
    let answered = engine.call(says("ana", "k1", "update")).unwrap();
    assert_eq!(revision(&answered.answer), 1);
    // Neither do they wait when somebody asks for a report.
    std::thread::scope(|scope| {
        let report = scope.spawn(|| engine.recover().unwrap());
        until(|| store.counts() == 2);
        assert_eq!(revision(&engine.call(says("ben", "k1", "update")).unwrap().answer), 1);
        assert!(!report.is_finished());
        go_on.send(()).unwrap();
        go_on.send(()).unwrap();
        assert_eq!(report.join().unwrap().open, 2);
    });
}

#[test]
fn what_takes_long_to_count_is_not_counted_for_everybody_who_asks() {
    let (store, _world, engine, go_on) = counting();
    until(|| store.counts() == 1);
    let began = Instant::now();
    until(|| began.elapsed() > Duration::from_millis(300));
    go_on.send(()).unwrap();
    // That has taken longer than counting may take for everybody, and no more is sent.
    let asked = Instant::now();
    for _ in 0..10 {
        assert!(engine.figures().unwrap().contains("statewright_quarantined 0"));
    }
    assert_eq!(store.counts(), 1);
    assert!(asked.elapsed() < PATIENCE);
}

#[test]
fn what_is_soon_counted_is_told_as_it_is() {
    let (_store, _world, engine, go_on) = counting();
    drop(go_on);
    for (who, open) in [("ana", 1), ("ben", 2), ("cleo", 3)] {
        engine.call(says(who, "k1", "update")).unwrap();
        let told = engine.figures().unwrap();
        let line = format!(
            "statewright_instances_open{{machine=\"progress_update\",state=\"task_selection\"}} {open}"
        );
        assert!(told.contains(&line), "{told}");
    }
}
