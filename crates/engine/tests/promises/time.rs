//! Timers and recovery: once, never early, and all that is due after a time of darkness.

use std::sync::{Arc, Mutex};

use engine::{Clock, Engine, Machines, Settings};
use kernel::commit::Commit;
use kernel::conversation::{Media, Message};
use kernel::id::{InputKey, InstanceId, TenantId};
use kernel::input::{Cause, Input, Start};
use kernel::time::{Delay, Timestamp};
use store::{SqliteStore, Store};
use tempfile::TempDir;

use crate::failing_store::Wrapped;
use crate::world::{World, machine, says, stores, subject, written};

#[test]
fn timers_fire_once_and_never_early() {
    for (name, store, _directory) in stores() {
        let world = World::over(store);
        let instance = world.place("ana", "collecting_data");
        let engines = [world.engine(), world.engine()];
        let fired = || -> Vec<usize> {
            let reports = engines.iter().map(|engine| engine.recover().unwrap());
            reports.map(|report| report.timers_fired).collect()
        };
        world.advance(&[&engines[0], &engines[1]], "1h59m59s999ms");
        assert_eq!(fired(), [0, 0], "{name}: a millisecond early");
        world.advance(&[&engines[0], &engines[1]], "1ms");
        assert_eq!(fired(), [1, 0], "{name}: due, and for one of them");
        world.advance(&[&engines[0], &engines[1]], "1d");
        assert_eq!(fired(), [0, 0], "{name}: once");
        let logged = world.history(&instance);
        let events: Vec<&str> = logged.iter().map(|e| e.event.as_str()).collect();
        assert_eq!(events, ["placed", "after.2h"], "{name}");
    }
}

#[test]
fn a_timer_that_is_due_comes_before_the_message() {
    let world = World::new();
    let engine = world.engine();
    let instance = world.place("ana", "collecting_data");
    world.advance(&[&engine], "2h");
    engine.call(says("ana", "k1", "update")).unwrap();
    let old = world.load(&instance).closure.map(|closure| closure.reason);
    assert_eq!(old.as_deref(), Some("timeout"));
    let session = world.session("ana");
    assert_eq!((session.ordinal, &*session.state()), (2, "task_selection"));
}

#[test]
fn timers_catch_up_in_bounded_batches_after_downtime() {
    for (due, batches) in [(300, 5), (257, 5), (256, 4), (1, 1)] {
        let sizes = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&sizes);
        let store = Wrapped::new(move |_, batch, inner| {
            seen.lock().unwrap().push(batch.len());
            inner.commit(batch)
        });
        let world = World::over(store);
        let placements: Vec<Commit> =
            (0..due).map(|n| world.placement(&format!("person-{n}"), "collecting_data")).collect();
        world.store.commit(&placements).unwrap();
        world.advance(&[], "3d");
        sizes.lock().unwrap().clear();
        let engine = world.engine_with(Settings { batch_timers_max: 64, ..Settings::default() });
        let report = engine.recover().unwrap();
        assert!(report.complete);
        assert_eq!(report.open, 0);
        let sizes = sizes.lock().unwrap();
        assert_eq!(sizes.iter().sum::<usize>(), due);
        assert_eq!(sizes.len(), batches, "{due} due: {sizes:?}");
        assert!(sizes.iter().all(|size| *size <= 64), "{sizes:?}");
    }
}

#[test]
fn recovery_reports_what_it_closed() {
    let world = World::new();
    for who in ["ana", "ben", "cleo"] {
        world.place(who, "collecting_data");
    }
    world.advance(&[], "1h");
    world.place("dora", "collecting_data");
    let engine = world.engine();
    let nothing = engine.recover().unwrap();
    assert_eq!((nothing.timers_fired, nothing.open), (0, 4));
    assert!(nothing.closed.is_empty() && nothing.complete);
    world.advance(&[&engine], "1h");
    let report = engine.recover().unwrap();
    assert_eq!((report.timers_fired, report.open), (3, 1));
    assert_eq!(report.closed.into_iter().collect::<Vec<_>>(), [("timeout".to_owned(), 3)]);
    assert_eq!(world.session("dora").state(), "collecting_data");
}

#[test]
fn a_restart_loses_nothing() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("statewright.db");
    let open = || -> Arc<dyn Store> { Arc::new(SqliteStore::open(&path).unwrap()) };
    let mut world = World::over(open());
    let engine = world.engine();
    let mut photo = says("ana", "k2", "");
    photo.cause = Cause::Message {
        machine: machine(),
        subject: subject("ana"),
        message: Message {
            media: vec![Media { url: "https://example.org/1.jpg".into(), kind: "image/jpeg".into() }],
            ..Message::default()
        },
    };
    engine.call(says("ana", "k1", "update")).unwrap();
    engine.call(photo).unwrap();
    engine.call(says("ana", "k3", "T1")).unwrap();
    let asked = engine.call(says("ana", "k4", "report an incident")).unwrap();
    let session = world.session("ana");
    let logged = world.history(&session.instance);
    let conversation = session.conversation.as_deref().unwrap();
    assert!(conversation.pending.is_some() && conversation.held_media.len() == 1);
    assert_eq!(session.timers.len(), 2, "the session's and the question's");
    drop(engine);
    // The last handle of the store goes, and with it the lock of the file.
    world.store = Arc::new(store::MemoryStore::new());
    world.store = open();
    world.machines = Arc::new(Machines::from_store(&*world.store).unwrap());
    let engine = world.engine();
    assert_eq!(world.session("ana"), session);
    assert_eq!(world.history(&session.instance), logged);
    let again = engine.call(says("ana", "k4", "report an incident")).unwrap();
    assert!(again.replayed);
    assert_eq!(written(&again), written(&asked));
    engine.call(says("ana", "k5", "2")).unwrap();
    engine.call(says("ana", "k6", "a remark")).unwrap();
    let context = world.session("ana").context;
    assert_eq!(context["incidents"][0], "report an incident");
    assert_eq!(context["photos"][0], "https://example.org/1.jpg");
}

/// Whoever fires a timer may set the next: what is still due must not wait for that one.
#[test]
fn a_backlog_is_fired_whole_also_when_its_timers_set_new_ones() {
    const LAMPS: usize = 150;
    let source = "machine: lamp\ninitial: dark\nstates:\n  dark: { after: { 1h: bright } }\n  bright: { after: { 1h: dark } }\n";
    let store = Arc::new(store::MemoryStore::new());
    let clock = Clock::virtual_at(Timestamp::from_millis(1_767_603_600_000));
    let machines = Machines::default();
    machines.activate(&*store, source, clock.now()).unwrap();
    let settings = Settings { batch_timers_max: 8, ..Settings::default() };
    let engine = Engine::start(store.clone(), Arc::new(machines), clock.clone(), settings);
    for lamp in 0..LAMPS {
        let cause = Cause::Create {
            machine: kernel::id::MachineName::parse("lamp").unwrap(),
            id: Some(InstanceId::parse(&format!("lamp-{lamp}")).unwrap()),
            subject: None,
            context: Default::default(),
            start: Start::default(),
        };
        let key = InputKey::parse(&format!("k{lamp}")).unwrap();
        let tenant = TenantId::default_tenant();
        engine.call(Input { tenant, key, cause, expected: None, by: None, trace: None }).unwrap();
    }
    clock.advance(Delay::from_secs(3_600)).unwrap();
    let report = engine.recover().unwrap();
    assert_eq!((report.timers_fired, report.complete), (LAMPS, true));
    let open = store.statistics().unwrap().open;
    assert_eq!(open, [(("lamp".to_owned(), "bright".to_owned()), LAMPS as u64)].into());
}
