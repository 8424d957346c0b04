//! Instances of one version of a definition go on by another: what stays, what is called otherwise, what cannot go.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod flows;
mod life;
mod talks;

use kernel::commit::EffectKind;
use kernel::id::DefinitionHash;
use kernel::refusal::RefusalCode;
use serde_json::{Value, json};

use crate::life::{Life, at, told};

/// Delays, a call, history, regions: everything that runs while an instance stands still.
const ONE: &str = "
machine: order
version: 1
context:
  amount: { type: number, default: 5 }
  note: { type: string, nullable: true }
  old: { type: string, default: x }
initial: open
after:
  2h: { target: lost, reason: silence }
states:
  open:
    after: { 30m: { target: lost } }
    entry: { raise: { event: remind, delay: 45m } }
    on: { pay: checking, walk: both, pack: packing, remind: open }
  checking:
    after: { 10m: { target: open } }
    invoke: { src: bank.check, input: { amount: context.amount } }
    on: { done.invoke.*: open, error.invoke.*: lost, leave: open }
  packing:
    initial: box
    after: { 1h: { target: open } }
    states:
      box: { after: { 5m: { target: tape } }, on: { next: tape } }
      tape: { on: { pause: open, back: box } }
      last: { type: history, target: box }
  both:
    type: parallel
    states:
      left: { initial: a, states: { a: { on: { l: b } }, b: {} } }
      right: { initial: c, states: { c: { on: { r: d } }, d: {} } }
  lost: { type: final }
";

/// The same with other names; each case says what is otherwise.
fn two(migrations: &str, changes: &[(&str, &str)]) -> String {
    let text = ONE.replace("version: 1", "version: 2");
    let text = changes.iter().fold(text, |text, (from, to)| {
        assert!(text.contains(from), "{from}");
        text.replace(from, to)
    });
    format!("{text}\nmigrations:\n{migrations}")
}

/// What an instance to which these events have happened, a minute apart, is after ten minutes by version two.
#[track_caller]
fn check(events: &str, migrations: &str, changes: &[(&str, &str)], expected: &str) {
    let mut life = Life::begin(ONE, json!({}));
    events.split_whitespace().for_each(|event| life.event(event, json!({})).map(drop).unwrap());
    life.minute = 10;
    let two = two(migrations, changes);
    assert_eq!(life.migrate(&two).map_or_else(|refusal| refusal.message, |commit| told(&commit)), expected);
}

const CALLED_OTHERWISE: [(&str, &str); 3] =
    [("checking", "picking"), ("open", "idle"), ("packing", "wrapping")];

#[test]
fn an_instance_stays_where_it_is_and_its_timers_run_on() {
    check("", " - {}", &[], "open; after.2h@120 after.30m.open@30 remind@45");
    check(
        "pack",
        " - {}",
        &[],
        "packing.box; after.2h@121 remind@45 after.1h.packing@61 after.5m.packing.box@6",
    );
}

#[test]
fn a_state_that_is_called_otherwise_is_the_same() {
    let states = " - states: { open: idle, checking: picking, packing: wrapping }";
    check("", states, &CALLED_OTHERWISE, "idle; after.2h@120 after.30m.idle@30 remind@45");
    // What is below it too.
    let box_ = "wrapping.box; after.2h@121 remind@45 after.1h.wrapping@61 after.5m.wrapping.box@6";
    check("pack", states, &CALLED_OTHERWISE, box_);
    let alone = " - states: { packing: wrapping, packing.box: wrapping.tape, open: idle }";
    check("pack", alone, &CALLED_OTHERWISE, "wrapping.tape; after.2h@121 remind@45 after.1h.wrapping@61");
}

#[test]
fn a_call_that_is_under_way_is_not_made_again() {
    let call = |state: &str| {
        format!(
            "{state}; after.2h@121 remind@45 after.10m.{state}@11 after.invoke.{state}@6; {state} as o-1:2:0"
        )
    };
    check("pay", " - {}", &[], &call("checking"));
    check("pay", " - states: { checking: picking, open: idle }", &CALLED_OTHERWISE, &call("picking"));

    let mut life = Life::begin(ONE, json!({}));
    life.event("pay", json!({})).unwrap();
    life.migrate(&two(" - states: { checking: picking, open: idle }", &CALLED_OTHERWISE)).unwrap();
    let commit = life.result("o-1:2:0").unwrap();
    assert_eq!((&*commit.entry.event, &*commit.entry.to), ("done.invoke.picking", "idle"));
}

#[test]
fn a_call_of_something_else_is_made_and_one_that_is_gone_is_not_waited_for() {
    let other = [("src: bank.check", "src: bank.ask")];
    let made = "checking; after.2h@121 remind@45 after.10m.checking@11 after.invoke.checking@15; checking as o-1:3:0; calls bank.ask";
    check("pay", " - {}", &other, made);
    let none = [
        ("    invoke: { src: bank.check, input: { amount: context.amount } }\n", ""),
        ("done.invoke.*: open, error.invoke.*: lost, leave", "leave"),
    ];
    check("pay", " - {}", &none, "checking; after.2h@121 remind@45 after.10m.checking@11");
}

#[test]
fn a_delay_that_is_new_or_another_counts_from_now() {
    let other = [("30m:", "20m:"), ("2h:", "3h:")];
    check("", " - {}", &other, "open; remind@45 after.3h@190 after.20m.open@30");
    let no_event = [("remind: open", "again: open"), ("event: remind, delay", "event: again, delay")];
    check("", " - {}", &no_event, "open; after.2h@120 after.30m.open@30");
}

#[test]
fn nothing_is_done_on_the_way_but_what_follows_at_once() {
    let entry =
        [("    entry: { raise: { event: remind, delay: 45m } }", "    entry: { assign: { amount: '9' } }")];
    let mut life = Life::begin(ONE, json!({}));
    let commit = life.migrate(&two(" - {}", &entry)).unwrap();
    assert_eq!(commit.after.unwrap().context["amount"], json!(5));
    let always = [("  open:\n", "  open:\n    always: { guard: context.amount > 2.0, target: packing }\n")];
    let moved = "packing.box; after.2h@120 remind@45 after.1h.packing@70 after.5m.packing.box@15";
    check("", " - {}", &always, moved);
}

#[test]
fn what_a_history_state_remembers_is_called_as_it_is_here() {
    let mut life = Life::begin(ONE, json!({}));
    ["pack", "next", "pause"].iter().for_each(|event| life.event(event, json!({})).map(drop).unwrap());
    let remembered = |life: &Life| {
        let history = &life.snapshot.history;
        history.iter().map(|(state, kept)| format!("{state}: {}", kept.join(" "))).collect::<Vec<_>>()
    };
    assert_eq!(remembered(&life), ["packing.last: packing.tape"]);
    let mut other = life.clone();
    life.migrate(&two(" - states: { packing: wrapping, open: idle, checking: picking }", &CALLED_OTHERWISE))
        .unwrap();
    assert_eq!(remembered(&life), ["wrapping.last: wrapping.tape"]);
    let gone = [("      last: { type: history, target: box }\n", "")];
    other.migrate(&two(" - {}", &gone)).unwrap();
    assert_eq!(remembered(&other), Vec::<String>::new());
}

#[test]
fn regions_come_and_go() {
    let third = [("      right: {", "      third: { initial: e, states: { e: {} } }\n      right: {")];
    check("walk l r", " - {}", &third, "both.left.b,both.third.e,both.right.d; after.2h@123 remind@45");
    let single = [
        ("    type: parallel\n", "    initial: left\n"),
        ("      right: { initial: c, states: { c: { on: { r: d } }, d: {} } }\n", ""),
    ];
    let both = " - states: { both.right: both.left, both.right.c: both.left.b }";
    check("walk l", both, &single, "both.left.b; after.2h@122 remind@45");
    check("walk", both, &single, "`both.left.a` and `both.left.b` cannot be active together here");
    let into = " - states: { open: 'both.left.b,both.right.d' }";
    check("", into, &[], "both.left.b,both.right.d; after.2h@120 remind@45");
}

#[test]
fn what_cannot_be_migrated_stays_with_its_version() {
    let gone = [("  checking:\n", "  asking:\n"), ("pay: checking", "pay: asking")];
    let why = "version 2 has no state `checking`, and no migration says where that leads; known here: asking, both, both.left, both.left.a, both.left.b, both.right, both.right.c, both.right.d, lost, open, packing, packing.box, packing.last, packing.tape";
    check("pay", " - {}", &gone, why);
    check(
        "pay",
        " - states: { checking: null }",
        &gone,
        "the migration leaves what is in `checking` where it is",
    );
    // Also where others that cannot be migrated have a place to go.
    let otherwise = " - { states: { checking: null }, otherwise: open }";
    check("pay", otherwise, &gone, "the migration leaves what is in `checking` where it is");

    let mut life = Life::begin(ONE, json!({}));
    life.event("pay", json!({})).unwrap();
    let refusal = life.migrate(&two(" - {}", &gone)).unwrap_err();
    assert_eq!(refusal.code, RefusalCode::NotMigratable);
    assert!(!refusal.code.is_recorded());
    assert_eq!((life.snapshot.version, &life.snapshot.began_by), (1, &None));
}

#[test]
fn those_who_have_no_place_are_parked_where_the_definition_says() {
    let gone = [("  checking:\n", "  asking:\n"), ("pay: checking", "pay: asking")];
    // As after a recovery: what is there is entered, and what ran has ended.
    check("pay", " - otherwise: open", &gone, "open; after.2h@130 after.30m.open@40 remind@55; parked");
    check("", " - otherwise: packing", &gone, "open; after.2h@120 after.30m.open@30 remind@45");
    let mut life = Life::begin(ONE, json!({}));
    life.event("pay", json!({})).unwrap();
    let commit = life.migrate(&two(" - otherwise: open", &gone)).unwrap();
    let reason = commit.entry.reason.unwrap();
    assert!(reason.starts_with("from version 1 to 2; version 2 has no state `checking`"), "{reason}");
}

#[test]
fn the_context_is_what_the_new_definition_makes_of_it() {
    #[track_caller]
    fn check(given: Value, migrations: &str, expected: Result<Value, &str>) {
        let mut life = Life::begin(ONE, given);
        let changes = [
            ("  amount: { type: number, default: 5 }\n", "  cents: { type: integer, required: true }\n"),
            ("  note: { type: string, nullable: true }\n", "  note: { type: string }\n"),
            (
                "  old: { type: string, default: x }\n",
                "  old: { type: string, default: x }\n  fresh: { type: array, default: [1] }\n",
            ),
            ("amount: context.amount", "amount: context.cents"),
        ];
        let found = life.migrate(&two(migrations, &changes));
        let found = found.map(|commit| Value::Object((*commit.after.unwrap().context).clone()));
        assert_eq!(found.map_err(|refusal| refusal.message), expected.map_err(str::to_owned));
    }
    let cents = " - context: { cents: int(before.amount * 100.0) }";
    check(json!({}), cents, Ok(json!({ "cents": 500, "note": "", "old": "x", "fresh": [1] })));
    check(
        json!({ "note": "hi" }),
        cents,
        Ok(json!({ "cents": 500, "note": "hi", "old": "x", "fresh": [1] })),
    );
    let all = " - context: { cents: 7, note: state + string(version), old: '\"y\"', fresh: '[now]' }";
    let fresh = json!([at(0).as_millis()]);
    check(json!({}), all, Ok(json!({ "cents": 7, "note": "open1", "old": "y", "fresh": fresh })));
    check(json!({}), " - {}", Err("context.cents is required"));
    let wrong = " - context: { cents: 7, note: before.amount }";
    check(json!({}), wrong, Err("context.note must be text, not 5"));
    let fails = " - context: { cents: before.price }";
    check(json!({}), fails, Err("context.cents cannot be made: `before.price`: before.price is missing"));
    // What is parked takes with it what fits.
    let otherwise = " - { context: { cents: 7, note: before.amount }, otherwise: open }";
    check(json!({}), otherwise, Ok(json!({ "cents": 7, "note": "", "old": "x", "fresh": [1] })));
}

#[test]
fn what_has_to_hold_holds_after_a_migration_too() {
    let never = [("initial: open\n", "initial: open\ninvariants: { good: context.old != 'bad' }\n")];
    let mut life = Life::begin(ONE, json!({ "old": "bad" }));
    let refusal = life.migrate(&two(" - {}", &never)).unwrap_err();
    assert_eq!(refusal.message, "`migrate` would violate `good`: `context.old != 'bad'` is false");
    let commit = life.migrate(&two(" - context: { old: '\"mended\"' }", &never)).unwrap();
    assert_eq!(commit.entry.to, "open");
}

#[test]
fn each_version_has_its_own_migration_and_the_rest_the_one_for_all() {
    let two = two(
        " - { from: 3, context: { old: '\"three\"' } }\n - context: { old: '\"all\"' }\n - { from: [1, 4], context: { old: '\"one\"' } }",
        &[],
    );
    for (version, expected) in [(1, "one"), (4, "one"), (3, "three"), (7, "all")] {
        let mut life = Life::begin(&ONE.replace("version: 1", &format!("version: {version}")), json!({}));
        assert_eq!(life.migrate(&two).unwrap().after.unwrap().context["old"], json!(expected), "{version}");
    }
}

#[test]
fn a_migration_is_an_entry_like_any_other_and_keeps_where_it_began() {
    let mut life = Life::begin(ONE, json!({}));
    let before = life.snapshot.clone();
    let commit = life.migrate(&two(" - {}", &[])).unwrap();
    let after = commit.after.clone().unwrap();
    assert_eq!((after.version, after.revision.0), (2, before.revision.0 + 1));
    assert_eq!(after.definition, DefinitionHash::of(&two(" - {}", &[])));
    assert_eq!(after.began_by.as_ref(), Some(&before.definition));
    assert_eq!(after.created_at, before.created_at);
    assert_eq!(commit.entry.reason.as_deref(), Some("from version 1 to 2"));
    assert!(commit.effects.is_empty() && commit.entry.success);
    // And back, where it may: what it began by is what it began by.
    life.migrate(ONE).unwrap();
    assert_eq!((life.snapshot.version, &life.snapshot.began_by), (1, &after.began_by));
    let wrong = life.migrate(ONE).unwrap_err().message;
    assert_eq!(wrong, "it is of version 1 already");
}

#[test]
fn what_was_counted_of_transitions_means_nothing_in_another_definition() {
    let mut life = Life::after(ONE, "pack next");
    assert!(!life.snapshot.recent.is_empty());
    life.migrate(&two(" - {}", &[])).unwrap();
    assert!(life.snapshot.recent.is_empty());
}

#[test]
fn what_has_ended_stays_as_it_is() {
    let mut life = Life::begin(&ONE.replace("initial: open", "initial: lost"), json!({}));
    let wrong = life.migrate(&two(" - {}", &[])).unwrap_err().message;
    assert_eq!(wrong, format!("it ended at {} (lost)", at(0)));
}

#[test]
fn a_value_that_does_not_fit_is_told_to_who_asks_and_not_to_the_log() {
    let mut life = Life::begin(ONE, json!({ "note": "do not tell" }));
    let other = [("  note: { type: string, nullable: true }\n", "  note: { type: integer, default: 0 }\n")];
    let refusal = life.migrate(&two(" - {}", &other)).unwrap_err();
    assert_eq!(refusal.message, "context.note must be a whole number, not \"do not tell\"");
    let commit = life.migrate(&two(" - otherwise: open", &other)).unwrap();
    let reason = commit.entry.reason.as_deref();
    assert_eq!(reason, Some("from version 1 to 2; what context.note held does not fit"));
    assert!(!serde_json::to_string(&commit.entry).unwrap().contains("do not tell"));
}

#[test]
fn fields_that_went_are_named_and_their_values_are_not() {
    let mut life = Life::begin(ONE, json!({ "note": "do not tell" }));
    let gone = [("  note: { type: string, nullable: true }\n", "")];
    let commit = life.migrate(&two(" - {}", &gone)).unwrap();
    assert_eq!(commit.entry.reason.as_deref(), Some("from version 1 to 2, without `note`"));
    assert!(!serde_json::to_string(&commit.entry).unwrap().contains("do not tell"));
}

/// A definition as it is after some weeks: each version calls things otherwise, and has something that the one before had
/// not.
#[test]
fn a_definition_is_taken_through_five_versions_with_instances_in_every_state() {
    const STEPS: [(&str, &[(&str, &str)]); 4] = [
        (" - states: { checking: picking }", &[("checking", "picking")]),
        (" - states: { packing: wrapping }", &[("packing", "wrapping")]),
        (
            " - context: { amount: before.amount * 2.0 }",
            &[
                ("      tape: {", "      seal: {}\n      tape: {"),
                ("old: { type", "other: { type: string }\n  old: { type"),
            ],
        ),
        (" - { states: { both.left: both.first }, otherwise: open }", &[("left:", "first:")]),
    ];
    let ways = ["", "pay", "pack", "pack next", "walk", "walk l", "walk r", "walk l r"];
    for way in ways {
        let mut life = Life::begin(ONE, json!({}));
        way.split_whitespace().for_each(|event| life.event(event, json!({})).map(drop).unwrap());
        let (mut text, timers) = (ONE.to_owned(), life.snapshot.timers.len());
        for (number, (migration, changes)) in STEPS.iter().enumerate() {
            let version = number + 2;
            text = text.split("\nmigrations:").next().unwrap().to_owned();
            text = text.replace(&format!("version: {}", version - 1), &format!("version: {version}"));
            text = changes.iter().fold(text, |text, (from, to)| text.replace(from, to));
            text = format!("{text}\nmigrations:\n{migration}");
            let commit = life.migrate(&text).unwrap_or_else(|r| panic!("{way} to {version}: {}", r.message));
            assert_eq!(commit.entry.event, "migrate", "{way} to {version}");
            assert_eq!(life.snapshot.timers.len(), timers, "{way} to {version}");
        }
        let expected = Life::after(ONE, way).snapshot.state();
        let renamed = expected.replace("checking", "picking").replace("packing", "wrapping");
        assert_eq!(life.snapshot.state(), renamed.replace("both.left", "both.first"), "{way}");
        assert_eq!(life.snapshot.context["amount"], json!(10.0), "{way}");
        assert_eq!(life.snapshot.version, 5);
    }
}

#[test]
fn parked_people_are_told_where_they_are_reached() {
    let mut talk = Life::talk(talks::ONE);
    talk.say("track").unwrap();
    let gone = talks::two(" - otherwise: { target: idle, reply: moved }", &[("tracking", "following")]);
    let commit = talk.migrate(&gone).unwrap();
    let said: Vec<&EffectKind> = commit.effects.iter().map(|effect| &effect.kind).collect();
    let [EffectKind::Reply(reply)] = &said[..] else { panic!("{said:?}") };
    assert_eq!(reply.text, "We have moved, please begin again.");
    assert_eq!(commit.effects[0].to.as_ref().map(|to| &*to.user), Some("+15550001"));
}
