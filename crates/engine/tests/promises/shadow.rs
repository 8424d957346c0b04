//! A version beside the stored history: what it would have made of each input, with nothing done.

use engine::Engine;
use engine::shadow::{Played, Shadow, ShadowReport, shadow};
use kernel::id::{InstanceId, MachineName, Revision};
use kernel::input::{Cause, Input};
use serde_json::json;

use crate::world::{World, definition, event, machine, says, start, tenant};

fn play(engine: &Engine, version: Played) -> ShadowReport {
    let asked = Shadow { machine: machine(), version, since: start(), limit: 1_000, cursor: None };
    shadow(engine, &tenant(), &asked).unwrap()
}

fn by(source: &str) -> Played {
    Played::Text(source.to_owned())
}

/// Messages, an event, refusals, timers, a session after another.
fn lived() -> (World, Engine) {
    let world = World::new();
    let engine = world.engine();
    for (who, texts) in [
        ("ana", &["update", "North wall", "it is done", "what?"][..]),
        ("ben", &["update", "cancel", "update"]),
        ("cleo", &["sdfghj", "update"]),
    ] {
        for (number, text) in texts.iter().enumerate() {
            engine.call(says(who, &format!("k{number}"), text)).unwrap();
        }
    }
    let ana = world.session("ana").instance;
    engine.call(event(&ana, "e1", "confirm", json!({}))).unwrap();
    world.advance(&[&engine], "3h");
    engine.recover().unwrap();
    (world, engine)
}

/// Inputs: the same, different, not comparable.
fn counts(report: &ShadowReport) -> [usize; 3] {
    assert_eq!(report.inputs, report.same + report.different + report.not_comparable);
    [report.same, report.different, report.not_comparable]
}

#[test]
fn a_version_that_says_the_same_would_have_done_the_same() {
    let (world, engine) = lived();
    let (ana, past) = (world.session("ana"), world.history(&world.session("ana").instance));
    let same = play(&engine, Played::Current);
    let inputs = same.inputs;
    assert!(inputs >= 12, "{inputs}");
    assert_eq!(counts(&same), [inputs, 0, 0], "{same:#?}");
    // Also where it calls things otherwise: a state, and so its timers.
    let renamed = definition().replace("collecting_data", "gathering").replace("version: 1", "version: 2");
    let mapped = format!("{renamed}\nmigrations: {{ states: {{ collecting_data: gathering }} }}\n");
    let report = play(&engine, by(&mapped));
    assert_eq!(counts(&report), [inputs, 0, 0], "{report:#?}");
    assert_eq!((world.session("ana"), world.history(&ana.instance)), (ana, past), "nothing has happened");
}

#[test]
fn what_would_have_been_otherwise_is_told_with_examples() {
    let (world, engine) = lived();
    let inputs = play(&engine, Played::Current).inputs;
    let report =
        play(&engine, by(&definition().replace("which_task }\n    accepts", "noted }\n    accepts")));
    let [same, different, 0] = counts(&report) else { panic!("{report:#?}") };
    assert_eq!((same + different, different), (inputs, 4), "{report:#?}");
    assert!(report.changes.iter().all(|change| change.differs.contains("reply")), "{report:#?}");
    let one = report.changes.iter().find(|change| change.event == "start_update").unwrap();
    assert_eq!(
        (&*one.from, &*one.was.state, &*one.would_be.state),
        ("idle", "task_selection", "task_selection")
    );
    let ana = world.session("ana").instance;
    assert!(
        one.examples.iter().any(|example| example.id == ana && example.revision == Revision(1)),
        "{one:#?}"
    );

    // Another delay: the timer that fired would not have been there.
    let report = play(&engine, by(&definition().replace("\n  2h: ", "\n  4h: ")));
    assert!(report.different > 0, "{report:#?}");
    assert!(report.changes.iter().all(|change| change.would_be.outcome == "not_found"), "{report:#?}");
}

#[test]
fn what_has_no_place_in_a_version_is_not_comparable_with_the_reason() {
    let (world, engine) = lived();
    let renamed = definition().replace("collecting_data", "gathering");
    let report = play(&engine, by(&renamed));
    let [_, _, failed] = counts(&report);
    assert!(failed > 0, "{report:#?}");
    let ana = world.session("ana").instance;
    let reason = report.reasons.iter().find(|reason| reason.id == ana).unwrap();
    assert!(reason.reason.contains("no state `collecting_data`"), "{reason:?}");
    let parked = format!("{renamed}\nmigrations: {{ otherwise: idle }}\n");
    let report = play(&engine, by(&parked));
    assert_eq!(counts(&report)[2], failed, "{report:#?}");
    assert!(report.reasons[0].reason.starts_with("it would be parked"), "{:?}", report.reasons);
}

#[test]
fn a_timer_is_called_after_its_state() {
    const LAMP: &str = "
machine: lamp
version: 1
initial: dark
states:
  dark: { on: { press: lit } }
  lit: { after: { 5m: dark }, on: { press: dark } }
";
    let world = World::new();
    let engine = world.engine();
    engine.activate(LAMP).unwrap();
    let id = InstanceId::parse("l-1").unwrap();
    let name = MachineName::parse("lamp").unwrap();
    let cause = Cause::Create {
        machine: name.clone(),
        id: Some(id.clone()),
        subject: None,
        context: Default::default(),
        start: Default::default(),
    };
    engine.call(Input { cause, ..event(&id, "begin", "", json!({})) }).unwrap();
    engine.call(event(&id, "e1", "press", json!({}))).unwrap();
    world.advance(&[&engine], "6m");
    engine.recover().unwrap();
    assert_eq!(world.history(&id).len(), 3);
    let play = |source: &str| {
        let (version, since) = (by(source), start());
        let asked = Shadow { machine: name.clone(), version, since, limit: 1_000, cursor: None };
        counts(&shadow(&engine, &tenant(), &asked).unwrap())
    };
    let bright = LAMP.replace("lit", "bright");
    assert_eq!(play(&format!("{bright}migrations: {{ states: {{ lit: bright }} }}\n")), [3, 0, 0]);
    assert_eq!(play(&LAMP.replace("5m", "4m")), [2, 1, 0]);
}

#[test]
fn slices_go_through_every_input_once() {
    let (_world, engine) = lived();
    let whole = play(&engine, Played::Current);
    let mut asked = Shadow {
        machine: machine(),
        version: Played::Stored("1".into()),
        since: start(),
        limit: 1,
        cursor: None,
    };
    let (mut inputs, mut instances) = (0, 0);
    loop {
        let report = shadow(&engine, &tenant(), &asked).unwrap();
        (inputs, instances) = (inputs + report.inputs, instances + report.instances);
        asked.cursor = report.next_cursor;
        if asked.cursor.is_none() {
            break;
        }
    }
    assert_eq!((inputs, instances), (whole.inputs, whole.instances));
}
