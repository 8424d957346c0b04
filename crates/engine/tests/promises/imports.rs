//! Sessions of another system come in once, again while they are still the other system's, and go when that is undone.

use engine::Engine;
use engine::import::{Arrival, ImportReport, bring_in};
use engine::replay::{ReplayStore, Verdict, at, replay, replay_all};
use engine::shadow::{Played, Shadow, shadow};
use engine::story::of_session;
use engine::withdraw::{Withdraw, WithdrawalReport, withdraw};
use kernel::id::{InputKey, InstanceId, Revision};
use kernel::input::{Cause, Former, Input, Start};
use kernel::snapshot::{BroughtIn, Snapshot};
use kernel::time::Timestamp;
use serde_json::json;

use crate::world::{
    World, at_once, definition, delay, event, fields, machine, says, start, stores, subject, tenant,
};

/// The record of somebody's only session, which stands in a state with a task.
fn record(who: &str, state: &str, task: &str) -> Input {
    let id = InstanceId::parse(&format!("old-{who}")).unwrap();
    let former = Former { state: state.into(), ..Former::default() };
    Input {
        key: key(&format!("import:{id}")),
        cause: cause(Some(id), who, task, former),
        ..says(who, "k", "")
    }
}

fn key(text: &str) -> InputKey {
    InputKey::parse(text).unwrap()
}

fn cause(id: Option<InstanceId>, who: &str, task: &str, former: Former) -> Cause {
    let start = Start { former: Some(Box::new(former)), ..Start::default() };
    let context = fields(json!({ "task_id": task }));
    Cause::Create { machine: machine(), id, subject: Some(subject(who)), context, start }
}

fn changed(mut input: Input, minutes_ago: i64) -> Input {
    let ago = delay(&format!("{minutes_ago}m")).as_millis();
    if let Cause::Create { start: Start { former: Some(former), .. }, .. } = &mut input.cause {
        former.changed_at = Some(Timestamp::from_millis(start().as_millis() - ago));
    }
    input
}

fn bring(engine: &Engine, records: &[Input]) -> ImportReport {
    let dry = bring_in(engine, records.to_vec(), true).unwrap();
    let report = bring_in(engine, records.to_vec(), false).unwrap();
    assert_eq!(dry.records.len(), report.records.len());
    report
}

/// Imported, replaced, existed, gone on, rejected.
fn counts(report: &ImportReport) -> [usize; 5] {
    [report.imported, report.replaced, report.existed, report.gone_on, report.rejected]
}

fn undo(engine: &Engine, asked: &Withdraw) -> WithdrawalReport {
    withdraw(engine, &tenant(), &machine(), asked).unwrap()
}

/// Withdrawn, already, gone on.
fn undone(report: &WithdrawalReport) -> [usize; 3] {
    [report.withdrawn, report.already, report.gone_on]
}

/// What another version would have made of what was imported, again imported and withdrawn.
#[test]
fn a_version_beside_the_history_takes_imports_as_they_came() {
    let world = World::new();
    let engine = world.engine();
    bring(&engine, &[record("ana", "task_selection", "T1"), record("ben", "idle", "T2")]);
    bring(&engine, &[record("ana", "collecting_data", "T1")]);
    undo(&engine, &because());
    let text = definition().replace("version: 1", "version: 2").replace("collecting_data", "gathering");
    let text = format!("{text}\nmigrations: {{ states: {{ collecting_data: gathering }} }}\n");
    let (version, machine) = (Played::Text(text), machine());
    let asked = Shadow { machine, version, since: start(), limit: 100, cursor: None };
    let report = shadow(&engine, &tenant(), &asked).unwrap();
    assert_eq!((report.inputs, report.same), (5, 5), "{report:#?}");
}

fn because() -> Withdraw {
    Withdraw { by: Some("ops".into()), reason: "too early".into(), ..Withdraw::default() }
}

fn check_past(engine: &Engine) -> usize {
    let every = ReplayStore { machine: None, limit: 1_000, cursor: None };
    let report = replay_all(engine, &tenant(), &every).unwrap();
    assert_eq!((report.different, report.not_replayable), (0, 0), "{report:#?}");
    report.same
}

fn stands(snapshot: &Snapshot) -> (String, String, u64) {
    let task = snapshot.context["task_id"].as_str().unwrap_or_default().to_owned();
    (snapshot.state(), task, snapshot.revision.0)
}

#[test]
fn what_a_record_says_last_is_so_on_every_store() {
    for (name, store, _house) in stores() {
        let world = World::over(store);
        let engine = world.engine();
        let (a, b) = (record("ana", "awaiting_action", "T1"), record("ana", "collecting_data", "T2"));
        for (number, (record, expected, state)) in [
            (&a, [1, 0, 0, 0, 0], ("awaiting_action", "T1", 1)),
            (&a, [0, 0, 1, 0, 0], ("awaiting_action", "T1", 1)),
            (&b, [0, 1, 0, 0, 0], ("collecting_data", "T2", 2)),
            (&b, [0, 0, 1, 0, 0], ("collecting_data", "T2", 2)),
            (&a, [0, 1, 0, 0, 0], ("awaiting_action", "T1", 3)),
            (&b, [0, 1, 0, 0, 0], ("collecting_data", "T2", 4)),
        ]
        .into_iter()
        .enumerate()
        {
            // Another server knows only what is stored.
            let other = world.engine();
            let engine = if number.is_multiple_of(2) { &engine } else { &other };
            let dry = bring_in(engine, vec![record.clone()], true).unwrap();
            let report = bring(engine, std::slice::from_ref(record));
            assert_eq!((counts(&dry), counts(&report)), (expected, expected), "{name} {number}: {report:#?}");
            let (state, task, revision) = state;
            assert_eq!(
                stands(&world.session("ana")),
                (state.to_owned(), task.to_owned(), revision),
                "{name}"
            );
        }
        let ana = world.session("ana");
        assert_eq!((ana.ordinal, world.history(&ana.instance).len()), (1, 4), "{name}");
        assert_eq!(check_past(&engine), 1, "{name}");
        let second = at(&engine, &tenant(), &ana.instance, Revision(2)).unwrap();
        assert_eq!(stands(&second).1, "T2", "{name}");

        // And goes on from there.
        engine.call(says("ana", "m1", "cancel")).unwrap();
        assert_eq!(world.session("ana").brought_in, Some(BroughtIn::GoneOn), "{name}");
        let report = bring(&engine, &[a, b]);
        assert_eq!(counts(&report), [0, 0, 1, 1, 0], "{name}: {report:#?}");
        assert_eq!(check_past(&engine), 1, "{name}");
    }
}

#[test]
fn of_several_records_of_one_session_the_last_counts() {
    let world = World::new();
    let engine = world.engine();
    let record = |task: &str| record("ana", "awaiting_action", task);
    let other = crate::imports::record("ben", "idle", "T0");
    for (tasks, expected) in [
        (&["A", "B", "A"][..], [2, 2, 0, 0, 0]),
        (&["B", "A"], [0, 2, 1, 0, 0]),
        (&["A", "B", "B", "C"], [0, 2, 3, 0, 0]),
    ] {
        let mut records: Vec<Input> = tasks.iter().map(|task| record(task)).collect();
        records.insert(1, other.clone());
        let report = bring_in(&engine, records, false).unwrap();
        assert_eq!(counts(&report), expected, "{tasks:?}: {report:#?}");
        assert_eq!(stands(&world.session("ana")).1, *tasks.last().unwrap());
    }
    assert_eq!(check_past(&engine), 2);
}

#[test]
fn a_record_with_nothing_but_a_key_comes_again_too() {
    let world = World::new();
    let engine = world.engine();
    let record = |task: &str| {
        let former = Former { state: "idle".into(), ..Former::default() };
        Input { key: key("row-7"), cause: cause(None, "ana", task, former), ..says("ana", "k", "") }
    };
    for (task, expected) in
        [("A", [1, 0, 0, 0, 0]), ("B", [0, 1, 0, 0, 0]), ("A", [0, 1, 0, 0, 0]), ("A", [0, 0, 1, 0, 0])]
    {
        assert_eq!(counts(&bring(&engine, &[record(task)])), expected, "{task}");
        assert_eq!(stands(&world.session("ana")).1, task);
    }
    assert_eq!(check_past(&engine), 1);
}

#[test]
fn time_goes_on_and_the_record_still_wins() {
    for (name, store, _house) in stores() {
        let world = World::over(store);
        let engine = world.engine();
        bring(&engine, &[record("ana", "awaiting_action", "T1")]);
        world.advance(&[&engine], "3h");
        engine.recover().unwrap();
        assert!(world.session("ana").is_closed(), "{name}");
        assert_eq!(
            counts(&bring(&engine, &[record("ana", "awaiting_action", "T1")])),
            [0, 0, 1, 0, 0],
            "{name}"
        );
        assert_eq!(
            counts(&bring(&engine, &[record("ana", "collecting_data", "T2")])),
            [0, 1, 0, 0, 0],
            "{name}"
        );
        let ana = world.session("ana");
        assert!(!ana.is_closed() && ana.ordinal == 1, "{name}");
        engine.call(says("ana", "m1", "photo")).unwrap();
        assert_eq!(world.session("ana").instance, ana.instance, "{name}: it is the session that goes on");
        assert_eq!(check_past(&engine), 1, "{name}");
    }
}

#[test]
fn a_timer_that_comes_again_fires_again() {
    for (name, store, _house) in stores() {
        let world = World::over(store);
        let engine = world.engine();
        // It was over there an hour ago, whatever else its record says.
        for (number, task) in ["A", "B", "A", "C"].into_iter().enumerate() {
            let report = bring(&engine, &[changed(record("ana", "awaiting_action", task), 180)]);
            assert_eq!(report.imported + report.replaced, 1, "{name} {task}: {report:#?}");
            engine.recover().unwrap();
            let ana = world.session("ana");
            let closure = ana.closure.as_ref().map(|closure| closure.reason.as_str());
            assert_eq!(
                (closure, ana.revision.0),
                (Some("timeout"), 2 * (number as u64 + 1)),
                "{name} {task}"
            );
        }
        assert_eq!(check_past(&engine), 1, "{name}");
    }
}

#[test]
fn several_who_bring_in_the_same_leave_each_record_once() {
    for (name, store, _house) in stores() {
        let world = World::over(store);
        let engines: Vec<Engine> = (0..2).map(|_| world.engine()).collect();
        let people: Vec<String> = (0..20).map(|number| format!("p{number}")).collect();
        // Each has what it read at another time: the later one holds, whoever comes last.
        let reports = at_once(4, |number| {
            let task = format!("T{number}");
            let records =
                people.iter().map(|who| changed(record(who, "awaiting_action", &task), 10 - number as i64));
            bring_in(&engines[number % engines.len()], records.collect(), false).unwrap()
        });
        let all =
            reports.iter().map(counts).fold([0; 5], |sum, one| std::array::from_fn(|i| sum[i] + one[i]));
        assert_eq!((all[0], all.iter().sum::<usize>()), (20, 80), "{name}: {all:?}");
        for who in &people {
            let session = world.session(who);
            assert_eq!(stands(&session).1, "T3", "{name}: {all:?}");
            assert_eq!(world.history(&session.instance).len() as u64, session.revision.0, "{name}");
        }
        assert_eq!(check_past(&engines[0]), 20, "{name}");
        // The same from several at once is there once.
        let same: Vec<Input> = people.iter().map(|who| record(who, "collecting_data", "T9")).collect();
        let reports = at_once(4, |number| bring_in(&engines[number % 2], same.clone(), false).unwrap());
        assert!(reports.iter().all(|report| report.rejected + report.gone_on == 0), "{name}: {reports:#?}");
        for who in &people {
            let session = world.session(who);
            let imports =
                world.history(&session.instance).into_iter().filter(|entry| entry.to == "collecting_data");
            assert_eq!((stands(&session).1.as_str(), imports.count()), ("T9", 1), "{name}");
        }
    }
}

#[test]
fn nobody_has_two_open_sessions_by_a_record_of_before() {
    let world = World::new();
    let engine = world.engine();
    bring(&engine, &[record("ana", "completed", "T1")]);
    engine.call(says("ana", "m1", "update")).unwrap();
    let second = world.session("ana");
    assert_eq!(second.ordinal, 2);
    let open = [record("ana", "awaiting_action", "T2")];
    for dry_run in [true, false] {
        let report = bring_in(&engine, open.to_vec(), dry_run).unwrap();
        let [Arrival::Rejected { code, detail }] = &report.records[..] else { panic!("{report:#?}") };
        assert_eq!(*code, "instance_exists");
        assert!(detail.contains(&format!("has gone on with `{}`", second.instance)), "{detail}");
    }
    // One that stays over is no second one, and hides none.
    assert_eq!(counts(&bring(&engine, &[record("ana", "completed", "T3")])), [0, 1, 0, 0, 0]);
    engine.call(says("ana", "m2", "North wall")).unwrap();
    assert_eq!((world.session("ana").instance, world.session("ana").revision.0), (second.instance, 2));
    assert_eq!(check_past(&engine), 2);
}

#[test]
fn what_cannot_stand_so_may_come_by_another_definition() {
    let world = World::new();
    let engine = world.engine();
    bring(&engine, &[record("ana", "awaiting_action", "T1")]);
    let strict = definition() + "\ninvariants: { no_second: 'context.task_id != \"T2\"' }\n";
    engine.activate(&strict.replace("version: 1", "version: 2")).unwrap();
    let next = [record("ana", "awaiting_action", "T2")];
    let report = bring(&engine, &next);
    let [Arrival::Rejected { code: "invariant_violated", .. }] = &report.records[..] else {
        panic!("{report:#?}")
    };
    engine.activate(&definition().replace("version: 1", "version: 3")).unwrap();
    assert_eq!(counts(&bring(&engine, &next)), [0, 1, 0, 0, 0]);
    let ana = world.session("ana");
    assert_eq!((ana.version, ana.revision.0), (3, 2));
    assert_eq!(replay(&engine, &tenant(), &ana.instance).unwrap().verdict, Verdict::Same);
    assert_eq!(counts(&bring(&engine, &next)), [0, 0, 1, 0, 0]);
}

#[test]
fn an_import_is_undone_but_for_what_has_gone_on() {
    for (name, store, _house) in stores() {
        let world = World::over(store);
        let engine = world.engine();
        let people = ["ana", "ben", "cleo", "dan"];
        let states = ["awaiting_action", "idle", "completed", "awaiting_action"];
        let records: Vec<Input> =
            people.iter().zip(states).map(|(who, state)| record(who, state, "T1")).collect();
        bring(&engine, &records);
        engine.call(says("eve", "m1", "update")).unwrap();
        engine.call(event(&InstanceId::parse("old-dan").unwrap(), "e1", "cancel", json!({}))).unwrap();
        let dry = undo(&engine, &Withdraw { dry_run: true, ..because() });
        assert_eq!(undone(&dry), [3, 0, 1], "{name}: {dry:#?}");
        assert!(!world.session("ana").is_closed(), "{name}: a trial changes nothing");
        let report = undo(&engine, &because());
        assert_eq!((undone(&report), &report.found), ([3, 0, 1], &dry.found), "{name}");
        assert_eq!(report.found[0].id.as_str(), "old-dan", "{name}");
        assert_eq!(undone(&undo(&engine, &because())), [0, 3, 1], "{name}: a repeat has nothing to do");
        for who in ["ana", "ben", "cleo"] {
            let closure = world.session(who).closure;
            assert_eq!(closure.map(|closure| closure.reason).as_deref(), Some("withdrawn"), "{name}");
        }
        let entry = world.history(&InstanceId::parse("old-ana").unwrap()).pop().unwrap();
        assert_eq!((entry.event.as_str(), entry.by.as_deref()), ("withdraw", Some("ops")), "{name}");
        assert!(!world.session("eve").is_closed(), "{name}");
        assert_eq!(check_past(&engine), 5, "{name}");

        // Whoever writes meanwhile begins anew; the others come again from the same records.
        engine.call(says("ben", "m1", "update")).unwrap();
        let report = bring(&engine, &records);
        assert_eq!(counts(&report), [0, 2, 1, 0, 1], "{name}: {report:#?}");
        assert_eq!(stands(&world.session("ana")), ("awaiting_action".into(), "T1".into(), 3), "{name}");
        assert_eq!(check_past(&engine), 6, "{name}");
    }
}

#[test]
fn an_undoing_that_is_cut_short_goes_on_where_it_ended() {
    let world = World::new();
    let engine = world.engine();
    let records: Vec<Input> = (0..7).map(|number| record(&format!("p{number}"), "idle", "T")).collect();
    bring(&engine, &records);
    let (mut cursor, mut withdrawn, mut rounds) = (None, 0, 0);
    loop {
        let report = undo(&engine, &Withdraw { limit: Some(2), cursor, ..because() });
        (withdrawn, rounds, cursor) = (withdrawn + report.withdrawn, rounds + 1, report.next_cursor);
        assert_eq!(report.has_more, cursor.is_some());
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(withdrawn, 7);
    assert!(rounds >= 4, "{rounds}");
}

#[test]
fn a_story_begins_where_it_was_brought_in_last() {
    let world = World::new();
    let engine = world.engine();
    bring(&engine, &[record("ana", "idle", "T1")]);
    bring(&engine, &[record("ana", "awaiting_action", "T2")]);
    engine.call(says("ana", "m1", "it is done")).unwrap();
    let id = InstanceId::parse("old-ana").unwrap();
    let story = of_session(&engine, &tenant(), &id, std::path::Path::new("progress_update.yaml")).unwrap();
    assert!(story.contains("state: awaiting_action") && !story.contains("T1"), "{story}");
    bring(&engine, &[record("ben", "idle", "T1")]);
    undo(&engine, &because());
    let id = InstanceId::parse("old-ben").unwrap();
    let untold =
        of_session(&engine, &tenant(), &id, std::path::Path::new("progress_update.yaml")).unwrap_err();
    assert!(untold.to_string().contains("withdrawn"), "{untold}");
}
