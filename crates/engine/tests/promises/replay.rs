//! The past comes out as it was stored, and can be shown.

use std::sync::Arc;

use engine::replay::{
    PastError, Replay, ReplayReport, ReplayStore, Verdict, at, replay, replay_all, replay_store,
};
use engine::{Engine, Machines};
use kernel::decide::decide;
use kernel::id::{InstanceId, MachineName, Revision, TenantId};
use kernel::input::Input;
use kernel::snapshot::Snapshot;
use serde_json::json;

use crate::world::{World, event, says, stores, tenant};

/// A session with messages, an event, refusals and a timer; with what it was after each of its revisions.
fn lived(world: &World, engine: &Engine) -> (InstanceId, Vec<Snapshot>) {
    let mut past: Vec<Snapshot> = Vec::new();
    let look = |past: &mut Vec<Snapshot>| {
        let now = world.session("ana");
        if past.last().is_none_or(|last| last.revision < now.revision) {
            past.push(now);
        }
    };
    for (key, text) in [("k1", "update"), ("k2", "what?"), ("k3", "sdfghj")] {
        engine.call(says("ana", key, text)).unwrap();
        look(&mut past);
    }
    let id = world.session("ana").instance;
    for (key, name, payload) in [
        ("e1", "task_selected", json!({ "task_id": "T7" })),
        ("e2", "task_selected", json!({ "task_id": "T8" })),
        ("e3", "confirm", json!({})),
    ] {
        engine.call(event(&id, key, name, payload)).unwrap();
        look(&mut past);
    }
    world.advance(&[engine], "3h");
    engine.recover().unwrap();
    look(&mut past);
    let told: Vec<String> = past.iter().map(|then| format!("{} {}", then.revision, then.state())).collect();
    assert!(past.len() >= 4 && past.last().unwrap().is_closed(), "{told:?}");
    (id, past)
}

fn all(engine: &Engine, limit: usize, cursor: Option<String>) -> ReplayReport {
    replay_all(engine, &tenant(), &ReplayStore { machine: None, limit, cursor }).unwrap()
}

#[test]
fn every_store_gives_back_a_past_that_comes_out_the_same() {
    for (name, store, _house) in stores() {
        let world = World::over(store);
        let engine = world.engine();
        let (id, past) = lived(&world, &engine);
        let Replay { verdict, differences, reason, entries, .. } = replay(&engine, &tenant(), &id).unwrap();
        assert_eq!((verdict, differences, reason), (Verdict::Same, vec![], None), "{name}");
        assert_eq!(entries, world.history(&id).len(), "{name}");
        for then in &past {
            assert_eq!(at(&engine, &tenant(), &id, then.revision).as_ref(), Ok(then), "{name}");
        }
    }
}

#[test]
fn a_whole_store_is_gone_through_without_an_engine() {
    for (name, store, _house) in stores() {
        let world = World::over(store);
        let engine = world.engine();
        lived(&world, &engine);
        engine.call(says("ana", "k9", "update")).unwrap();
        let other = Input { tenant: TenantId::parse("acme").unwrap(), ..says("ana", "k1", "update") };
        engine.call(other).unwrap();
        let mut commit =
            decide(&world.machine, None, &says("ben", "k1", "update"), world.clock.now()).unwrap();
        Arc::make_mut(&mut commit.after.as_mut().unwrap().context).insert("task_id".into(), json!("T9"));
        let ben = commit.instance.clone();
        world.store.commit(&[commit]).unwrap();
        drop(engine);
        let machines = Machines::from_store(&*world.store).unwrap();
        let check = |machine| replay_store(&*world.store, &machines, machine, &mut |_| {}).unwrap();
        let report = check(None);
        assert_eq!((report.instances, report.same, report.different), (4, 3, 1), "{name}: {report:#?}");
        assert_eq!((&report.found[0].id, report.corrupt), (&ben, 0), "{name}");
        assert_eq!(check(Some(&MachineName::parse("desk").unwrap())).instances, 0, "{name}");
    }
}

#[test]
fn a_later_session_is_decided_on_with_what_the_one_before_left() {
    let world = World::new();
    let engine = world.engine();
    lived(&world, &engine);
    engine.call(says("ana", "k9", "update")).unwrap();
    let second = world.session("ana");
    assert_eq!(second.ordinal, 2);
    let replay = replay(&engine, &tenant(), &second.instance).unwrap();
    assert_eq!(replay.verdict, Verdict::Same, "{replay:#?}");
}

#[test]
fn what_no_input_led_to_is_found() {
    let world = World::new();
    let engine = world.engine();
    let input = says("ben", "k1", "update");
    let mut commit = decide(&world.machine, None, &input, world.clock.now()).unwrap();
    Arc::make_mut(&mut commit.after.as_mut().unwrap().context).insert("task_id".into(), json!("T9"));
    world.store.commit(&[commit]).unwrap();
    engine.call(says("ana", "k1", "update")).unwrap();
    let ben = world.session("ben").instance;
    let found = replay(&engine, &tenant(), &ben).unwrap();
    assert_eq!((found.verdict, found.entries), (Verdict::Different, 1));
    let context = found.differences.iter().find(|difference| difference.part == "instance.context").unwrap();
    assert_eq!(context.stored.as_ref().unwrap()["task_id"], json!("T9"), "{context:#?}");
    assert_eq!(context.decided.as_ref().unwrap()["task_id"], json!(null), "{context:#?}");
    let report = all(&engine, 10, None);
    assert_eq!((report.instances, report.same, report.different, report.not_replayable), (2, 1, 1, 0));
    assert_eq!(report.found.iter().map(|replay| &replay.id).collect::<Vec<_>>(), [&ben]);
    // What it was cannot be said from a log that leads elsewhere.
    engine.call(says("ben", "k2", "what?")).unwrap();
    assert!(matches!(at(&engine, &tenant(), &ben, Revision(1)), Err(PastError::Lost(_))));
}

#[test]
fn a_log_that_was_cleaned_up_is_said_to_be_so() {
    let world = World::new();
    let engine = world.engine();
    let (id, past) = lived(&world, &engine);
    world.store.clean_up(past[2].updated_at.plus(kernel::time::Delay::from_millis(1)), 2).unwrap();
    let found = replay(&engine, &tenant(), &id).unwrap();
    assert_eq!((found.verdict, &found.differences), (Verdict::NotReplayable, &vec![]));
    assert!(found.reason.unwrap().starts_with("its log begins at revision "));
    assert!(matches!(at(&engine, &tenant(), &id, Revision(1)), Err(PastError::Lost(_))));
    assert_eq!(at(&engine, &tenant(), &id, past.last().unwrap().revision).as_ref(), Ok(past.last().unwrap()));
}

#[test]
fn what_is_to_come_is_not_shown() {
    let world = World::new();
    let engine = world.engine();
    let (id, past) = lived(&world, &engine);
    let last = past.last().unwrap().revision;
    for revision in [Revision::NONE, last.next()] {
        assert_eq!(at(&engine, &tenant(), &id, revision), Err(PastError::ToCome(last)));
    }
}

#[test]
fn slices_go_through_every_instance_once() {
    let world = World::new();
    let engine = world.engine();
    for who in 0..10 {
        engine.call(says(&format!("user{who}"), "k1", "update")).unwrap();
    }
    let (mut cursor, mut slices, mut instances) = (None, 0, 0);
    loop {
        let report = all(&engine, 3, cursor);
        assert_eq!(report.instances, report.same);
        (slices, instances) = (slices + 1, instances + report.instances);
        cursor = report.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!((slices, instances), (4, 10));
}
