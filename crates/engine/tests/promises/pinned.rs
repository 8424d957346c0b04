//! An instance stays on the definition that it was begun with.

use std::sync::Arc;

use engine::Machines;
use kernel::commit::Answer;

use crate::world::{World, definition, says};

fn changed() -> String {
    let old = "en: Which task is it about?";
    let source = definition();
    assert!(source.contains(old));
    source.replace(old, "en: Which job is it about?").replace("version: 1", "version: 2")
}

#[test]
fn an_instance_stays_on_its_definition_and_new_ones_use_the_new_one() {
    let mut world = World::new();
    let mut engine = world.engine();
    let ask = |engine: &engine::Engine, who: &str, key: &str, text: &str| -> String {
        let submitted = engine.call(says(who, key, text)).unwrap();
        match &*submitted.answer {
            Answer::Message(answer) => answer.reply[0].text.clone(),
            other => panic!("no message's answer: {other:?}"),
        }
    };
    ask(&engine, "ana", "k1", "hello");
    let now = world.clock.now();
    let (newer, _) = world.machines.activate(&*world.store, &changed(), now).unwrap();
    assert_eq!(ask(&engine, "ana", "k2", "update"), "Which task is it about?");
    assert_eq!(ask(&engine, "ben", "k1", "update"), "Which job is it about?");
    assert_eq!(world.session("ana").definition, world.machine.hash);
    assert_eq!(world.session("ben").definition, newer.hash);
    // It is the same after a restart, when all that is known comes from the store.
    drop(engine);
    world.machines = Arc::new(Machines::from_store(&*world.store).unwrap());
    engine = world.engine();
    ask(&engine, "ana", "k3", "start over");
    assert_eq!(ask(&engine, "ana", "k4", "update"), "Which task is it about?");
    assert_eq!(ask(&engine, "cleo", "k1", "update"), "Which job is it about?");
    // The session after it is a new one.
    ask(&engine, "ana", "k5", "cancel");
    assert_eq!(ask(&engine, "ana", "k6", "update"), "Which job is it about?");
}

#[test]
fn a_definition_with_an_error_changes_nothing() {
    let world = World::new();
    let broken = definition().replace("target: awaiting_action", "target: nowhere");
    let now = world.clock.now();
    assert!(world.machines.activate(&*world.store, &broken, now).is_err());
    let current = world.machines.current(&world.machine.name).unwrap();
    assert_eq!(current.hash, world.machine.hash);
    assert_eq!(world.store.definitions().unwrap().len(), 1);
}

#[test]
fn the_definition_activated_last_is_current_after_a_restart_too() {
    let world = World::new();
    let now = world.clock.now();
    for source in [changed(), definition()] {
        world.machines.activate(&*world.store, &source, now).unwrap();
    }
    let restarted = Machines::from_store(&*world.store).unwrap();
    assert_eq!(restarted.current(&world.machine.name).unwrap().hash, world.machine.hash);
}
