//! Instances go on by another version of their machine: many at a time, as often as it takes, and nobody is stuck.

use std::collections::BTreeMap;
use std::sync::Arc;

use engine::migrate::{Migrate, MigrationReport, Outcome, migrate};
use engine::replay::{ReplayStore, Verdict, at, replay, replay_all};
use engine::{Engine, Machines, MachinesError};
use kernel::id::{InstanceId, MachineName};
use kernel::input::{Cause, Input, Start};
use kernel::snapshot::Snapshot;
use serde_json::json;
use store::PhaseQuery;

use crate::world::{World, at_once, definition, event, machine, says, stores, subject, tenant};

/// The shipped definition with its states called otherwise.
fn second(migrations: &str) -> String {
    let source = definition().replace("version: 1", "version: 2").replace("awaiting_action", "choosing");
    format!("{source}\nmigrations:\n  - {migrations}\n")
}

const MAPPED: &str = "states: { awaiting_action: choosing }";

fn asked() -> Migrate {
    Migrate { by: Some("ops".into()), ..Migrate::default() }
}

fn run(engine: &Engine, asked: &Migrate) -> MigrationReport {
    migrate(engine, &tenant(), &machine(), asked).unwrap()
}

/// Already there, migrated, parked, left.
fn counts(report: &MigrationReport) -> [usize; 4] {
    [report.already, report.migrated, report.parked, report.left]
}

/// People in several states, one whose session is over, one who has not begun.
fn talk(engine: &Engine) {
    for (who, texts) in [
        ("ana", &["update", "North wall"][..]),
        ("ben", &["update"]),
        ("cleo", &["update", "South wall", "it is done"]),
        ("dan", &["update", "cancel"]),
        ("eve", &["hello"]),
    ] {
        for (number, text) in texts.iter().enumerate() {
            engine.call(says(who, &format!("k{number}"), text)).unwrap();
        }
    }
}

fn states(world: &World) -> BTreeMap<&'static str, String> {
    let people = ["ana", "ben", "cleo", "dan", "eve"];
    people.into_iter().map(|who| (who, world.session(who).state())).collect()
}

#[test]
fn everybody_goes_on_where_they_are_and_the_past_comes_out_the_same() {
    for (name, store, _house) in stores() {
        let mut world = World::over(store);
        let mut engine = world.engine();
        talk(&engine);
        let before: Vec<Snapshot> = ["ana", "ben", "cleo", "eve"].map(|who| world.session(who)).into();
        let (to, _) = engine.activate(&second(MAPPED)).unwrap();

        let tried = run(&engine, &Migrate { dry_run: true, ..asked() });
        assert_eq!(counts(&tried), [0, 4, 0, 0], "{name}: {tried:#?}");
        assert_eq!(world.session("ana"), before[0], "{name}: a trial changes nothing");
        let done = run(&engine, &asked());
        assert_eq!((counts(&done), &done.moves), ([0, 4, 0, 0], &tried.moves), "{name}");
        assert_eq!(counts(&run(&engine, &asked())), [4, 0, 0, 0], "{name}: a repeat has nothing to do");
        let expected = [
            ("ana", "choosing"),
            ("ben", "task_selection"),
            ("cleo", "collecting_data"),
            ("dan", "abandoned"),
            ("eve", "idle"),
        ];
        assert_eq!(states(&world), expected.map(|(who, state)| (who, state.to_owned())).into(), "{name}");
        assert_eq!(world.session("dan").version, 1, "{name}: what is over stays as it was");

        // Another server, which knows only what is stored, goes on from there.
        drop(engine);
        world.machines = Arc::new(Machines::from_store(&*world.store).unwrap());
        engine = world.engine();
        engine.call(says("ana", "k9", "photo")).unwrap();
        let ana = world.session("ana");
        assert_eq!(
            (ana.state().as_str(), ana.version, &ana.definition),
            ("collecting_data", 2, &to.hash),
            "{name}"
        );
        let entry = &world.history(&ana.instance)[2];
        let told = (&*entry.event, &*entry.from, &*entry.to, entry.by.as_deref(), entry.reason.as_deref());
        let expected = ("migrate", "awaiting_action", "choosing", Some("ops"), Some("from version 1 to 2"));
        assert_eq!(told, expected, "{name}");
        let every = ReplayStore { machine: None, limit: 100, cursor: None };
        let replayed = replay_all(&engine, &tenant(), &every).unwrap();
        assert_eq!((replayed.same, replayed.found.len()), (5, 0), "{name}: {replayed:#?}");
        assert_eq!(
            at(&engine, &tenant(), &ana.instance, before[0].revision).as_ref(),
            Ok(&before[0]),
            "{name}"
        );
    }
}

#[test]
fn a_version_that_strands_somebody_is_not_activated() {
    let world = World::new();
    let engine = world.engine();
    talk(&engine);
    engine.call(says("fay", "k0", "update")).unwrap();
    engine.call(says("fay", "k1", "West wall")).unwrap();
    let stranded = |source: &str| match engine.activate(source) {
        Err(MachinesError::Unmapped { open, .. }) => open,
        other => panic!("{other:?}"),
    };
    let expected = BTreeMap::from([("awaiting_action".to_owned(), 2)]);
    assert_eq!(stranded(&second("context: { comment: null }")), expected);
    assert_eq!(engine.machines().current(&machine()).unwrap().version, 1);
    // Whatever is said of them is an answer: also that they stay.
    for said in ["states: { awaiting_action: null }", "otherwise: idle", MAPPED] {
        engine.activate(&second(said)).unwrap();
    }
    // Nobody is there any more.
    for who in ["ana", "fay"] {
        engine.call(says(who, "k8", "cancel")).unwrap();
    }
    engine.activate(&second("context: { comment: null }")).unwrap();
}

#[test]
fn those_who_have_no_place_are_listed_and_go_on_as_before() {
    let world = World::new();
    let engine = world.engine();
    talk(&engine);
    engine.activate(&second("states: { awaiting_action: null }")).unwrap();
    let report = run(&engine, &asked());
    assert_eq!(counts(&report), [0, 3, 0, 1]);
    let [left] = &report.found[..] else { panic!("{report:#?}") };
    let ana = world.session("ana");
    assert_eq!((&left.id, left.version, left.outcome), (&ana.instance, 1, Outcome::Left));
    assert_eq!(left.reason, "the migration leaves what is in `awaiting_action` where it is");
    assert_eq!(world.history(&ana.instance).len(), 2, "that it stays is no entry");
    engine.call(says("ana", "k9", "it is done")).unwrap();
    assert_eq!((world.session("ana").state().as_str(), world.session("ana").version), ("collecting_data", 1));
    // Later it has a place.
    assert_eq!(counts(&run(&engine, &asked())), [3, 1, 0, 0]);
}

#[test]
fn those_who_are_parked_are_listed_with_why() {
    let world = World::new();
    let engine = world.engine();
    talk(&engine);
    engine.activate(&second("otherwise: task_selection")).unwrap();
    let report = run(&engine, &asked());
    assert_eq!(counts(&report), [0, 3, 1, 0]);
    let ana = world.session("ana");
    let found = report.found.iter().map(|found| (&found.id, found.outcome)).collect::<Vec<_>>();
    assert_eq!((found, ana.state().as_str()), (vec![(&ana.instance, Outcome::Parked)], "task_selection"));
    let entry = world.history(&ana.instance).pop().unwrap();
    assert_eq!(entry.event, "park");
    assert!(entry.reason.unwrap().contains("no state `awaiting_action`"));
    assert_eq!(replay(&engine, &tenant(), &ana.instance).unwrap().verdict, Verdict::Same);
}

#[test]
fn what_is_cut_short_goes_on_where_it_ended() {
    let world = World::new();
    let engine = world.engine();
    talk(&engine);
    engine.activate(&second(MAPPED)).unwrap();
    let (mut cursor, mut migrated, mut rounds) = (None, 0, 0);
    loop {
        let report = run(&engine, &Migrate { limit: Some(1), cursor, ..asked() });
        (migrated, rounds, cursor) = (migrated + report.migrated, rounds + 1, report.next_cursor);
        if cursor.is_none() {
            break;
        }
        assert!(report.has_more);
    }
    assert!(rounds >= 4, "{rounds}");
    assert_eq!(migrated, 4);
    // And back, by number: what it is called there is the same but for one.
    let back = run(&engine, &Migrate { to: Some("1".into()), ..asked() });
    assert_eq!(counts(&back), [0, 3, 0, 1]);
    assert!(migrate(&engine, &tenant(), &machine(), &Migrate { to: Some("9".into()), ..asked() }).is_err());
}

const LAUNCH: &str = "
flow: launch
version: 1
phases:
  draft: {}
  review: { needs: [draft], run: { worker: pens } }
";

#[test]
fn the_phases_of_a_flow_are_listed_as_they_are_called_then() {
    for (name, store, _house) in stores() {
        let world = World::over(store);
        let engine = world.engine();
        engine.activate(LAUNCH).unwrap();
        let id = InstanceId::parse("l-1").unwrap();
        let flow = MachineName::parse("launch").unwrap();
        let cause = Cause::Create {
            machine: flow.clone(),
            id: Some(id.clone()),
            subject: Some(subject("ana")),
            context: Default::default(),
            start: Start::default(),
        };
        let begun = Input { cause, ..event(&id, "begin", "", json!({})) };
        engine.call(begun).unwrap();
        for action in ["draft.start", "draft.complete", "review.start"] {
            engine.call(event(&id, action, action, json!({}))).unwrap();
        }
        let next = LAUNCH.replace("version: 1", "version: 2").replace("review:", "check: {}\n  proof:");
        engine.activate(&format!("{next}migrations: {{ phases: {{ review: proof }} }}\n")).unwrap();
        let report = migrate(&engine, &tenant(), &flow, &asked()).unwrap();
        assert_eq!(counts(&report), [0, 1, 0, 0], "{name}: {report:#?}");
        let lines = world.store.phases(&PhaseQuery::of(tenant())).unwrap().data;
        let lines: Vec<String> =
            lines.iter().map(|line| format!("{} {}", line.row.phase, line.row.state)).collect();
        assert_eq!(lines, ["draft completed", "check not_started", "proof in_progress"], "{name}");
        engine.call(event(&id, "done", "proof.complete", json!({}))).unwrap();
        assert_eq!(replay(&engine, &tenant(), &id).unwrap().verdict, Verdict::Same, "{name}");
    }
}

/// Each decision is by one definition, whatever is activated and migrated meanwhile: else its past would not come out.
#[test]
fn versions_change_under_load_and_every_past_comes_out_the_same() {
    const PEOPLE: usize = 6;
    let world = World::new();
    let engine = world.engine();
    let back = definition().replace("version: 1", "version: 3");
    let back = format!("{back}\nmigrations: {{ states: {{ choosing: awaiting_action }} }}\n");
    let versions = [second(MAPPED), back];
    let texts = ["update", "North wall", "what?", "it is done", "cancel"];
    let migrated: usize = at_once(PEOPLE + 1, |number| {
        if number == PEOPLE {
            let round = |round: usize| {
                engine.activate(&versions[round % 2]).unwrap();
                let report = run(&engine, &asked());
                // Who was moved on meanwhile by somebody is only there later.
                assert_eq!(report.parked, 0, "{report:#?}");
                report.migrated
            };
            return (0..40).map(round).sum();
        }
        for turn in 0..100 {
            let text = texts[turn % texts.len()];
            engine.call(says(&format!("p{number}"), &format!("k{turn}"), text)).unwrap();
        }
        0
    })
    .into_iter()
    .sum();
    assert!(migrated > 0);
    let every = ReplayStore { machine: None, limit: 1_000, cursor: None };
    let replayed = replay_all(&engine, &tenant(), &every).unwrap();
    assert_eq!((replayed.different, replayed.not_replayable), (0, 0), "{:#?}", replayed.found);
    assert!(replayed.entries > PEOPLE * 100, "{}", replayed.entries);
}
