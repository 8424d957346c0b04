//! Whole commits, each beside its case in a JSON file that was read line by line.
//!
//! With `UPDATE_EXPECTED=1` the files are written anew. `explain` and stores are tested elsewhere.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::fmt::Write;
use std::path::Path;

use kernel::commit::Commit;
use kernel::conversation::{Candidate, Confidence, Message};
use kernel::decide::{decide, refused};
use kernel::definition::load;
use kernel::id::{InputKey, InstanceId, Revision, Subject, TenantId};
use kernel::input::{Cause, Fields, Input, Start};
use kernel::machine::Machine;
use kernel::refusal::Refusal;
use kernel::snapshot::Snapshot;
use kernel::time::{Delay, Timestamp};
use proptest::prelude::*;
use serde_json::{Value, json};

fn machine() -> Machine {
    let (machine, diagnostics) = load(include_str!("parcel.yaml"));
    machine.unwrap_or_else(|| panic!("{diagnostics:?}"))
}

/// Noon, and some minutes later.
fn after_minutes(minutes: i64) -> Timestamp {
    let noon = Timestamp::parse("2026-03-01T12:00:00Z").unwrap();
    noon.plus(Delay::from_secs(minutes * 60))
}

fn instance() -> InstanceId {
    InstanceId::parse("p-1").unwrap()
}

fn fields(value: Value) -> Fields {
    serde_json::from_value(value).unwrap()
}

fn input(key: &str, cause: Cause) -> Input {
    Input {
        tenant: TenantId::default_tenant(),
        key: InputKey::parse(key).unwrap(),
        cause,
        expected: None,
        by: Some("operator".into()),
        trace: None,
    }
}

fn create() -> Input {
    let machine = machine().name;
    let context = fields(json!({ "door": "back" }));
    let id = Some(instance());
    input("k-create", Cause::Create { machine, id, subject: None, context, start: Start::default() })
}

fn event(event: &str, payload: Value) -> Input {
    let cause = Cause::Event { instance: instance(), event: event.into(), payload: fields(payload) };
    input(&format!("k-{event}"), cause)
}

fn message(key: &str, message: Message) -> Input {
    let subject = Subject::parse("+15550001").unwrap();
    input(key, Cause::Message { machine: machine().name, subject, message })
}

fn track_message() -> Input {
    let parameters = fields(json!({ "parcel": "P7" }));
    message("m-1", Message { parameters, ..Message::of_text("Track!") })
}

/// Two intents of one priority, closer to each other than the ambiguity threshold.
fn unclear_message() -> Input {
    let candidate = |intent: &str, points| Candidate {
        intent: intent.into(),
        confidence: Confidence::basis_points(points),
        parameters: Fields::new(),
    };
    let candidates = vec![candidate("track", 8_100), candidate("send_back", 7_900)];
    message("m-1", Message { candidates, ..Message::of_text("my parcel") })
}

fn first_option(asked: &Commit) -> Input {
    let question = &asked.clarifications[0];
    let cause = Cause::Answer {
        instance: asked.instance.clone(),
        clarification: question.id.clone(),
        option: question.options[0].id.clone(),
    };
    input("k-answer", cause)
}

/// The commit of the last of `inputs`, a minute after the one before.
fn after(inputs: &[Input]) -> Commit {
    let (mut before, mut commit): (Option<Snapshot>, _) = (None, None);
    for (minute, input) in (0..).zip(inputs) {
        let made = decide(&machine(), before.as_ref(), input, after_minutes(minute)).unwrap();
        before.clone_from(&made.after);
        commit = Some(made);
    }
    commit.unwrap()
}

fn next(last: &Commit, input: &Input, minutes: i64) -> Result<Commit, Refusal> {
    decide(&machine(), last.after.as_ref(), input, after_minutes(minutes))
}

/// One line for each field of the commit's parts, so that a difference is a line.
fn laid_out(commit: &Commit) -> String {
    let parts = json!({
        "tenant": commit.tenant,
        "instance": commit.instance,
        "expected": commit.expected,
        "after": commit.after,
        "entry": commit.entry,
        "clarifications": commit.clarifications,
        "effects": commit.effects,
    });
    let mut text = String::from("{\n");
    let parts = parts.as_object().unwrap();
    for (at, (name, part)) in parts.iter().enumerate() {
        let comma = if at + 1 < parts.len() { "," } else { "" };
        let Value::Object(fields) = part else {
            let _ = writeln!(text, "\"{name}\": {part}{comma}");
            continue;
        };
        let lines: Vec<String> =
            fields.iter().map(|(name, value)| format!("  \"{name}\": {value}")).collect();
        let _ = writeln!(text, "\"{name}\": {{\n{}\n}}{comma}", lines.join(",\n"));
    }
    text + "}\n"
}

fn check(name: &str, commit: &Commit) {
    let shown = laid_out(commit);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/decide/{name}.json"));
    if std::env::var_os("UPDATE_EXPECTED").is_some() {
        std::fs::write(&path, &shown).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(shown == expected, "{name} is\n{shown}\nand should be\n{expected}");
}

#[test]
fn creation_enters_the_chart_at_revision_one() {
    check("creation", &after(&[create()]));
}

#[test]
fn event_moves_the_instance_and_restarts_its_idle_timer() {
    check("event", &after(&[create(), event("track", json!({ "parcel": "P7" }))]));
}

#[test]
fn refused_event_only_writes_the_log() {
    let tracking = after(&[create(), event("track", json!({ "parcel": "P7" }))]);
    let short = event("note", json!({ "text": "ok" }));
    let refusal = next(&tracking, &short, 2).unwrap_err();
    let commit = refused(&machine(), tracking.after.as_ref().unwrap(), &short, &refusal, after_minutes(2));
    check("refused_event", &commit);
}

#[test]
fn timer_moves_the_instance_and_its_words_are_delivered() {
    let tracking = after(&[create(), event("track", json!({ "parcel": "P7" }))]);
    let timer = tracking.after.as_ref().unwrap().due_timer(after_minutes(11), |_| true).unwrap();
    let cause = Cause::Timer { instance: instance(), timer: timer.id.to_string(), deadline: timer.deadline };
    check("timer", &next(&tracking, &input("k-timer", cause), 11).unwrap());
}

#[test]
fn recovery_returns_to_the_safe_state_and_keeps_what_is_marked() {
    let inputs =
        [create(), event("track", json!({ "parcel": "P7" })), event("note", json!({ "text": "fragile" }))];
    let cause = Cause::Recover { instance: instance(), reason: "stuck at customs".into() };
    check("recovery", &next(&after(&inputs), &input("k-recover", cause), 4).unwrap());
}

#[test]
fn first_message_begins_a_session_and_is_taken_in_it() {
    check("first_message", &after(&[track_message()]));
}

#[test]
fn unclear_message_asks_and_changes_no_state() {
    check("unclear_message", &after(&[unclear_message()]));
}

#[test]
fn answer_takes_the_chosen_intent_and_settles_the_question() {
    let asked = after(&[unclear_message()]);
    check("answer", &next(&asked, &first_option(&asked), 1).unwrap());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    /// Two machines compiled of one source decide alike, and so does one machine asked twice.
    #[test]
    fn same_arguments_give_the_same_commit(choices in prop::collection::vec(0..9_u8, 1..12)) {
        let (one, other) = (machine(), machine());
        let mut last: Option<Commit> = None;
        for (number, choice) in choices.iter().enumerate() {
            let mut input = match choice {
                0 | 1 => track_message(),
                2 | 3 => unclear_message(),
                4 => message("m", Message::of_text("what?")),
                5 => message("m", Message::of_text("send it back")),
                6 => message("m", Message { payload: Some("p1.send_back".into()), ..Message::default() }),
                7 => match last.as_ref().filter(|l| !l.clarifications.is_empty()) {
                    Some(asked) => first_option(asked),
                    None => message("m", Message::of_text("hello there")),
                },
                _ => message("m", Message::of_text("cancel")),
            };
            input.key = InputKey::parse(&format!("k{number}")).unwrap();
            let now = after_minutes(number as i64);
            let before = last.as_ref().and_then(|l| l.after.as_ref());
            let decided = decide(&one, before, &input, now);
            prop_assert_eq!(&decided, &decide(&other, before, &input, now));
            prop_assert_eq!(&decided, &decide(&one, before, &input, now));
            if let Ok(commit) = decided {
                let open = before.filter(|b| !b.is_closed());
                prop_assert_eq!(commit.expected, open.map_or(Revision::NONE, |b| b.revision));
                last = Some(commit);
            }
        }
    }
}

#[test]
fn snapshot_of_the_first_format_is_read_with_nothing_under_way() {
    let written = r#"{"tenant":"default","instance":"i","machine":"parcel","version":3,"definition":"0000000000000000000000000000000000000000000000000000000000000000","ordinal":0,"revision":4,"configuration":["idle"],"context":{},"timers":[{"id":"after.2h","deadline":"2026-03-01T14:00:00.000Z"}],"created_at":"2026-03-01T12:00:00.000Z","updated_at":"2026-03-01T12:00:00.000Z","closure":{"reason":"timeout","at":"2026-03-01T12:00:00.000Z"}}"#;
    let snapshot: Snapshot = serde_json::from_str(written).unwrap();
    assert!(snapshot.invocations.is_empty());
    assert_eq!(&**snapshot.timers[0].event(), "after.2h");
    assert!(snapshot.closure.unwrap().output.is_empty());
}
