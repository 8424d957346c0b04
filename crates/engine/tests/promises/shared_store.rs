//! Two engines over one store: neither decides on what the other has changed.

use std::collections::BTreeSet;
use std::sync::Arc;

use engine::Machines;
use serde_json::json;
use store::MemoryStore;

use crate::world::{World, at_once, code, definition, event, revision, says, stores, tenant, written};

#[test]
fn a_stale_hot_instance_never_decides() {
    for (name, store, _directory) in stores() {
        let world = World::over(store);
        let instance = world.place("ana", "collecting_data");
        let engines = [world.engine(), world.engine()];
        for number in 0..10_u64 {
            let input = says("ana", &format!("k{number}"), &format!("remark {number}"));
            let submitted = engines[number as usize % 2].call(input).unwrap();
            assert_eq!(revision(&submitted.answer), number + 2, "{name}");
        }
        let comment: Vec<String> = (0..10).map(|n| format!("remark {n}")).collect();
        let session = world.load(&instance);
        assert_eq!(session.context["comment"], comment.join("\n"), "{name}");
        let logged = world.history(&instance);
        let revisions: Vec<u64> = logged.iter().map(|e| e.revision.0).collect();
        assert_eq!(revisions, (1..=11).collect::<Vec<u64>>(), "{name}");
    }
}

#[test]
fn a_stale_hot_instance_never_refuses() {
    for (name, store, _directory) in stores() {
        let world = World::over(store);
        let instance = world.place("ana", "collecting_data");
        let (one, other) = (world.engine(), world.engine());
        let knows = event(&instance, "k1", "add_data", json!({ "text": "a" }));
        one.call(knows).unwrap();
        let moves = event(&instance, "k2", "request_confirmation", json!({}));
        other.call(moves).unwrap();
        // `one` still holds the instance in `collecting_data`, where there is nothing to confirm.
        let confirmed = one.call(event(&instance, "k3", "confirm", json!({}))).unwrap();
        assert_eq!(code(&confirmed.answer), "", "{name}");
        assert_eq!(world.load(&instance).state(), "completed", "{name}");
        // And `other` in `confirmation_pending`, although all is over.
        let closed = other.call(event(&instance, "k4", "confirm", json!({}))).unwrap();
        assert_eq!(code(&closed.answer), "instance_closed", "{name}");
    }
}

#[test]
fn two_engines_at_once_lose_nothing() {
    for (name, store, _directory) in stores() {
        let world = World::over(store);
        let instance = world.place("ana", "collecting_data");
        let engines = [world.engine(), world.engine()];
        let answers = at_once(24, |number| {
            let engine = &engines[number % 2];
            let input = says("ana", &format!("k{number}"), &format!("remark {number}"));
            // Under this many rivals an input may be given back; then it is repeated with its key.
            let mut attempts = (0..100).map(|_| engine.call(input.clone()));
            let submitted = attempts.find_map(Result::ok).unwrap();
            revision(&submitted.answer)
        });
        let mut revisions = answers;
        revisions.sort_unstable();
        assert_eq!(revisions, (2..=25).collect::<Vec<u64>>(), "{name}");
        assert_eq!(world.history(&instance).len(), 25, "{name}");
        let session = world.load(&instance);
        let comment = session.context["comment"].as_str().unwrap();
        let remarks: BTreeSet<&str> = comment.lines().collect();
        assert_eq!((remarks.len(), comment.lines().count()), (24, 24), "{name}: {comment}");
    }
}

#[test]
fn the_same_id_on_two_engines_is_one_transition_and_one_answer() {
    for (name, store, _directory) in stores() {
        let world = World::over(store);
        let engines = [world.engine(), world.engine()];
        let answers = at_once(10, |number| {
            let engine = &engines[number % 2];
            engine.call(says("ana", "k1", "update")).unwrap()
        });
        let first = written(&answers[0]);
        assert!(answers.iter().all(|a| written(a) == first), "{name}");
        let fresh = answers.iter().filter(|a| !a.replayed).count();
        assert_eq!(fresh, 1, "{name}");
        let session = world.session("ana");
        assert_eq!(world.history(&session.instance).len(), 1, "{name}");
    }
}

/// Another server is never asked to wait until this one has heard of it.
#[test]
fn an_instance_of_a_definition_that_another_server_has_activated_goes_on() {
    let world = World::over(Arc::new(MemoryStore::new()));
    let other = World {
        machines: Arc::new(Machines::from_store(&*world.store).unwrap()),
        ..World::over(Arc::clone(&world.store))
    };
    let engines = [world.engine(), other.engine()];
    let second = definition().replace("version: 1", "version: 2");
    let (second, _) = world.machines.activate(&*world.store, &second, world.clock.now()).unwrap();
    engines[0].call(says("ana", "k1", "update")).unwrap();
    let id = world.session("ana").instance;
    let seen = engines[1].instance(&tenant(), &id).unwrap();
    assert_eq!(other.machines.of(&seen).unwrap().hash, second.hash, "it can be shown there too");
    engines[1].call(says("ana", "k2", "Task 7")).unwrap();
    let session = world.session("ana");
    assert_eq!((session.version, session.revision.0), (2, 2));
    // What begins there is of the version that was current until the news has come.
    engines[1].call(says("ben", "k1", "update")).unwrap();
    assert_eq!(world.session("ben").version, 1);
    other.machines.refresh(&*other.store).unwrap();
    assert_eq!(other.machines.current(&second.name).unwrap().hash, second.hash);
    engines[1].call(says("cleo", "k1", "update")).unwrap();
    assert_eq!(world.session("cleo").version, 2);
}
