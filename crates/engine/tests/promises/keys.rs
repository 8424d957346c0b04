//! A key takes effect once, and everybody who sends it gets the same answer.

use engine::Settings;
use serde_json::json;

use crate::world::{World, at_once, code, event, revision, says, written};

#[test]
fn fifty_different_messages_at_once_get_revisions_1_to_50() {
    let world = World::new();
    let engine = world.engine();
    let answers = at_once(50, |number| {
        let input = says("ana", &format!("k{number}"), &format!("remark {number}"));
        engine.call(input).unwrap()
    });
    let mut revisions: Vec<u64> = answers.iter().map(|a| revision(&a.answer)).collect();
    revisions.sort_unstable();
    assert_eq!(revisions, (1..=50).collect::<Vec<u64>>());
    assert!(answers.iter().all(|a| !a.replayed));
    let session = world.session("ana");
    let logged: Vec<u64> = world.history(&session.instance).iter().map(|entry| entry.revision.0).collect();
    assert_eq!(logged, revisions);
    assert_eq!((session.revision.0, session.ordinal), (50, 1));
}

#[test]
fn the_same_id_twenty_times_at_once_is_one_transition_and_one_answer() {
    let world = World::new();
    let engine = world.engine();
    let answers = at_once(20, |_| engine.call(says("ana", "k1", "update")).unwrap());
    let first = written(&answers[0]);
    assert!(answers.iter().all(|answer| written(answer) == first));
    assert_eq!(answers.iter().filter(|a| !a.replayed).count(), 1);
    let session = world.session("ana");
    assert_eq!((session.revision.0, &*session.state()), (1, "task_selection"));
    assert_eq!(world.history(&session.instance).len(), 1);
}

#[test]
fn a_key_with_another_payload_is_refused() {
    let world = World::new();
    let engine = world.engine();
    let instance = world.place("ana", "collecting_data");
    engine.call(says("ben", "k1", "update")).unwrap();
    let other_text = engine.call(says("ben", "k1", "cancel")).unwrap();
    engine.call(event(&instance, "k1", "add_data", json!({ "text": "a" }))).unwrap();
    let other_payload = event(&instance, "k1", "add_data", json!({ "text": "b" }));
    let other_event = event(&instance, "k1", "cancel", json!({ "text": "a" }));
    for input in [other_payload, other_event] {
        assert_eq!(code(&engine.call(input).unwrap().answer), "key_reused");
    }
    assert_eq!(code(&other_text.answer), "key_reused");
    assert_eq!(world.session("ben").state(), "task_selection");
    assert_eq!(world.load(&instance).context["comment"], "a");
    assert_eq!(world.history(&instance).len(), 2, "placed, add_data");
}

#[test]
fn the_same_key_of_two_people_is_two_inputs() {
    let world = World::new();
    let engine = world.engine();
    for who in ["ana", "ben"] {
        let submitted = engine.call(says(who, "k1", "update")).unwrap();
        assert!(!submitted.replayed, "{who}");
        assert_eq!(world.session(who).revision.0, 1);
    }
}

#[test]
fn a_repeat_is_known_when_memory_has_forgotten_it() {
    let world = World::new();
    let first = world.engine().call(says("ana", "k1", "update")).unwrap();
    let engine = world.engine();
    let again = engine.call(says("ana", "k1", "update")).unwrap();
    assert!(again.replayed);
    assert_eq!(written(&again), written(&first));
    let refused = engine.call(says("ana", "k1", "cancel")).unwrap();
    assert_eq!(code(&refused.answer), "key_reused");
}

#[test]
fn what_no_memory_is_left_for_is_loaded_again() {
    let world = World::new();
    let engine = world.engine_with(Settings { cached_bytes_max: 0, ..Settings::default() });
    let first = engine.call(says("ana", "k1", "update")).unwrap();
    assert_eq!(revision(&engine.call(says("ana", "k2", "7")).unwrap().answer), 2);
    let again = engine.call(says("ana", "k1", "update")).unwrap();
    assert!(again.replayed);
    assert_eq!(written(&again), written(&first));
    assert_eq!(world.session("ana").revision.0, 2);
}
