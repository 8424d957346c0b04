//! What tenants want otherwise in a machine is theirs alone, checked like any definition, and never breaks anything.

use std::sync::Arc;

use engine::{Engine, Machines, MachinesError};
use kernel::commit::Answer;
use kernel::id::TenantId;
use kernel::input::Input;

use crate::world::{World, definition, says, stores};

const ASKED: &str = "Which task is it about?";

fn acme() -> TenantId {
    TenantId::parse("acme").unwrap()
}

/// An overlay that words the first question anew.
fn wording(words: &str) -> String {
    format!(
        "overlay: progress_update\nconversation: {{ replies: {{ which_task: {{ text: {{ en: '{words}' }} }} }} }}\n"
    )
}

/// One that holds on to something that the base may lose.
const LEANING: &str = "\
overlay: progress_update
tenant: acme
states: { task_selection: { on: { leave: { target: abandoned } } } }
events: [force_abandon, explicit_cancel, timeout, leave]
";

fn set(world: &World, text: &str) -> Result<(), MachinesError> {
    let (store, now) = (&*world.store, world.clock.now());
    world.machines.set_overlay(store, &acme(), &world.machine.name, text, now).map(|_| ())
}

/// What somebody of a tenant is answered who says that there is an update.
fn asks(engine: &Engine, tenant: &TenantId, who: &str, key: &str) -> String {
    let submitted = engine.call(Input { tenant: tenant.clone(), ..says(who, key, "update") }).unwrap();
    match &*submitted.answer {
        Answer::Message(answer) => answer.reply[0].text.clone(),
        other => panic!("no message's answer: {other:?}"),
    }
}

fn restart(world: &mut World) {
    world.machines = Arc::new(Machines::from_store(&*world.store).unwrap());
}

#[test]
fn a_tenant_has_its_overlay_and_another_the_base_also_after_a_restart() {
    for (name, store, _directory) in stores() {
        let mut world = World::over(store);
        set(&world, &wording("Which job?")).unwrap();
        for round in ["1", "2"] {
            let engine = world.engine();
            assert_eq!(asks(&engine, &acme(), &format!("ana{round}"), "k"), "Which job?", "{name}");
            // What is tried out for a tenant is tried out with what the tenant has.
            assert_eq!(asks(&engine, &acme().shadow(), &format!("eve{round}"), "k"), "Which job?", "{name}");
            let other = TenantId::parse("other").unwrap();
            assert_eq!(asks(&engine, &other, &format!("ben{round}"), "k"), ASKED, "{name}");
            drop(engine);
            restart(&mut world);
        }
        let base = world.machines.current(&world.machine.name).unwrap();
        assert_eq!(base.hash, world.machine.hash, "{name}: a combination is nobody's base");
        assert_eq!(world.machines.versions(&base.name).len(), 1, "{name}");
    }
}

#[test]
fn instances_stay_on_what_they_began_with_whatever_becomes_of_the_overlay() {
    let mut world = World::new();
    let session =
        |world: &World| world.store.load_session(&acme(), &world.machine.name, &crate::world::subject("ana"));
    set(&world, &wording("Which job?")).unwrap();
    let mut engine = world.engine();
    asks(&engine, &acme(), "ana", "k1");
    let pinned = session(&world).unwrap().unwrap().definition;
    set(&world, &wording("Which chore?")).unwrap();
    assert_eq!(asks(&engine, &acme(), "ben", "k1"), "Which chore?");
    let (store, now) = (Arc::clone(&world.store), world.clock.now());
    assert!(world.machines.remove_overlay(&*store, &acme(), &world.machine.name, now).unwrap());
    assert!(!world.machines.remove_overlay(&*store, &acme(), &world.machine.name, now).unwrap());
    assert_eq!(asks(&engine, &acme(), "cleo", "k1"), ASKED);
    drop(engine);
    restart(&mut world);
    engine = world.engine();
    assert_eq!(asks(&engine, &acme(), "dora", "k1"), ASKED);
    asks(&engine, &acme(), "ana", "k2");
    let ana = session(&world).unwrap().unwrap();
    assert_eq!((ana.definition, ana.revision.0), (pinned, 2));
}

#[test]
fn a_new_base_takes_the_overlays_along_and_one_that_does_not_fit_keeps_its_last() {
    let mut world = World::new();
    set(&world, LEANING).unwrap();
    let hash = |world: &World| world.machines.current_for(&acme(), &world.machine.name).unwrap().hash.clone();
    let first = hash(&world);
    let activate = |world: &World, source: &str| {
        world.machines.activate(&*world.store, source, world.clock.now()).unwrap();
    };
    let second = definition().replace("version: 1", "version: 2").replace(ASKED, "Which one?");
    activate(&world, &second);
    let refitted = hash(&world);
    assert_ne!(first, refitted);
    assert_eq!(asks(&world.engine(), &acme(), "ana", "k"), "Which one?");
    assert!(world.machines.misfits(&world.machine.name).is_empty());
    // The next base has no state of the name that the overlay leads to.
    let third = second
        .replace("version: 2", "version: 3")
        .replace("abandoned", "given_up")
        .replace("Which one?", "Well?");
    activate(&world, &third);
    let misfits = world.machines.misfits(&world.machine.name);
    assert_eq!(misfits.len(), 1);
    let told = &misfits[0].diagnostics[0];
    assert_eq!((misfits[0].tenant.as_str(), told.code, told.line), ("acme", "unknown_target", 3), "{told:?}");
    for _ in 0..2 {
        assert_eq!(hash(&world), refitted);
        assert_eq!(asks(&world.engine(), &acme(), "ben", "k"), "Which one?");
        assert_eq!(asks(&world.engine(), &crate::world::tenant(), "ben", "k"), "Well?");
        restart(&mut world);
    }
    // And it goes along again as soon as it can.
    activate(&world, &second.replace("version: 2", "version: 4"));
    assert_eq!(world.machines.current_for(&acme(), &world.machine.name).unwrap().version, 4);
}

#[test]
fn another_server_over_the_same_store_hears_of_it_and_knows_the_instances() {
    for (name, store, _directory) in stores() {
        let world = World::over(store);
        let other = World {
            machines: Arc::new(Machines::from_store(&*world.store).unwrap()),
            ..World::over(Arc::clone(&world.store))
        };
        let engines = [world.engine(), other.engine()];
        set(&world, &wording("Which job?")).unwrap();
        other.machines.refresh_overlays(&*other.store).unwrap();
        asks(&engines[0], &acme(), "ana", "k1");
        asks(&engines[1], &acme(), "ana", "k2");
        assert_eq!(asks(&engines[1], &acme(), "ben", "k1"), "Which job?", "{name}");
        world
            .machines
            .remove_overlay(&*world.store, &acme(), &world.machine.name, world.clock.now())
            .unwrap();
        other.machines.refresh_overlays(&*other.store).unwrap();
        assert_eq!(asks(&engines[1], &acme(), "cleo", "k1"), ASKED, "{name}");
    }
}

#[test]
fn what_does_not_fit_is_refused_with_its_own_lines_and_changes_nothing() {
    let world = World::new();
    set(&world, &wording("Which job?")).unwrap();
    for (text, code, line) in [
        (
            "overlay: progress_update\nstates: { task_selection: { on: { leave: nowhere } } }",
            "unknown_target",
            2,
        ),
        ("overlay: progress_update\n\nstates: { task_selction: null }", "unknown_key", 3),
        ("overlay: other\nversion: 2", "bad_overlay", 1),
        ("overlay: progress_update\ntenant: other", "bad_overlay", 1),
        ("version: 2", "bad_overlay", 1),
        ("overlay: {", "syntax", 1),
    ] {
        let Err(MachinesError::Diagnostics(told)) = set(&world, text) else { panic!("{text} is taken") };
        assert_eq!((told[0].code, told[0].line), (code, line), "{text}: {told:?}");
    }
    let combined = world.machines.current_for(&acme(), &world.machine.name).unwrap();
    let refused = world.machines.activate(&*world.store, &combined.source, world.clock.now());
    assert!(matches!(refused, Err(MachinesError::Diagnostics(_))), "a combination would be everybody's");
    assert_eq!(asks(&world.engine(), &acme(), "ana", "k"), "Which job?");
    assert_eq!(world.store.definitions().unwrap().len(), 2);
}
