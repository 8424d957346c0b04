//! What has to hold, where people speak, fields are secret, and tenants want more than others.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use kernel::commit::{Answer, Commit};
use kernel::conversation::{Message, MessageOutcome};
use kernel::decide::{decide, explain};
use kernel::definition::{load, overlay};
use kernel::id::{InputKey, InstanceId, Subject, TenantId};
use kernel::input::{Cause, Fields, Input, Start};
use kernel::machine::Machine;
use kernel::refusal::Refusal;
use kernel::snapshot::Snapshot;
use kernel::time::Timestamp;
use serde_json::{Value, json};

fn machine(source: &str) -> Machine {
    let (machine, diagnostics) = load(source);
    machine.unwrap_or_else(|| panic!("{diagnostics:?}"))
}

fn now() -> Timestamp {
    Timestamp::from_millis(1_000)
}

fn fields(value: Value) -> Fields {
    serde_json::from_value(value).unwrap()
}

fn input(key: &str, cause: Cause) -> Input {
    let (tenant, key) = (TenantId::default_tenant(), InputKey::parse(key).unwrap());
    Input { tenant, key, cause, expected: None, by: None, trace: None }
}

fn begin(machine: &Machine, context: Value) -> Result<Commit, Refusal> {
    let (name, id) = (machine.name.clone(), InstanceId::parse("a-1").ok());
    let cause =
        Cause::Create { machine: name, id, subject: None, context: fields(context), start: Start::default() };
    decide(machine, None, &input("create", cause), now())
}

fn event(name: &str, payload: Value) -> Input {
    let instance = InstanceId::parse("a-1").unwrap();
    input(name, Cause::Event { instance, event: name.to_owned(), payload: fields(payload) })
}

fn say(machine: &Machine, before: Option<&Snapshot>, text: &str) -> Commit {
    let cause = Cause::Message {
        machine: machine.name.clone(),
        subject: Subject::parse("somebody").unwrap(),
        message: Message { text: Some(text.to_owned()), ..Message::default() },
    };
    decide(machine, before, &input(text, cause), now()).unwrap()
}

const DESK: &str = "
machine: desk
context:
  task:   { type: string, nullable: true }
  photos: { type: array, items: string, default: [] }
  most:   { type: integer, default: 2 }
initial: open
invariants:
  few: { check: size(context.photos) <= context.most, message: there is no room for another }
on:
  noted: { assign: { photos: 'context.photos + [event.text]' }, reply: thanks }
  turn:  { assign: { task: event.to, photos: [], most: event.most } }
  begin: work
states:
  open: { entry: { reply: hello }, accepts: { text: noted } }
  work: {}    # back at the beginning, drafts are given up
conversation:
  draft: { key: task, fields: [photos] }
  replies: { hello: Say something., thanks: Thank you. }
";

#[test]
fn message_whose_event_would_break_an_invariant_is_refused_with_the_reason() {
    let machine = machine(DESK);
    let one = say(&machine, None, "one").after.unwrap();
    let two = say(&machine, Some(&one), "two").after.unwrap();

    let third = say(&machine, Some(&two), "three");

    let Answer::Message(answer) = &third.entry.answer else { panic!("{third:?}") };
    assert_eq!(answer.outcome, MessageOutcome::Refused);
    let refusal = answer.refusal.as_ref().unwrap();
    assert_eq!(refusal.code.as_str(), "invariant_violated");
    assert_eq!(refusal.message, "`noted` would violate `few`: there is no room for another");
    assert_eq!(
        refusal.violated[0].values,
        fields(json!({ "context.photos": ["one", "two", "three"], "context.most": 2 }))
    );
    assert_eq!((third.entry.success, third.entry.code.as_deref()), (false, Some("invariant_violated")));
    let after = third.after.unwrap();
    assert_eq!(after.context, two.context);
    assert!(!answer.reply.iter().any(|reply| reply.text.contains("Thank")), "{:?}", answer.reply);
}

#[test]
fn draft_that_comes_back_is_asked_of_as_well() {
    let machine = machine(DESK);
    let created = begin(&machine, json!({ "task": "t1" })).unwrap().after.unwrap();
    let noted = |before: &Snapshot, text: &str| {
        decide(&machine, Some(before), &event("noted", json!({ "text": text })), now())
            .unwrap()
            .after
            .unwrap()
    };
    let begun = decide(&machine, Some(&created), &event("begin", json!({})), now()).unwrap().after.unwrap();
    let full = noted(&noted(&begun, "a"), "b");
    let turn = |before: &Snapshot, to: &str, most: i64| {
        decide(&machine, Some(before), &event("turn", json!({ "to": to, "most": most })), now())
    };
    let away = turn(&full, "t2", 1).unwrap().after.unwrap();
    assert_eq!(away.context["photos"], json!([]));

    // What is assigned is few enough, and what the draft brings back is not.
    let refusal = turn(&away, "t1", 1).unwrap_err();

    assert_eq!(refusal.violated[0].values["context.photos"], json!(["a", "b"]));
    let back = turn(&away, "t1", 2).unwrap().after.unwrap();
    assert_eq!(back.context["photos"], json!(["a", "b"]));
}

const VAULT: &str = "
machine: vault
context:
  token: { type: string, nullable: true, secret: true }
  count: { type: integer, default: 0 }
initial: open
invariants: { plain: 'context.token == null || context.token.startsWith(\"t\")', number: 'context.token == null || int(context.token) > 0 || true' }
states:
  open:
    on:
      set: { assign: { token: event.token }, ensures: { new: context.token != before.token, sane: 'before.token == null || int(before.token) > 0' } }
";

#[test]
fn what_would_be_violated_is_told_without_the_values_that_are_secret() {
    let machine = machine(VAULT);
    let open = begin(&machine, json!({ "token": "tattle" })).unwrap().after.unwrap();
    for token in ["hunter2", "tattle", "tell"] {
        let input = event("set", json!({ "token": token }));
        let mut refusal = decide(&machine, Some(&open), &input, now()).unwrap_err();
        let explained = explain(&machine, &open, &input, now()).refusal.unwrap();
        assert_eq!(explained, refusal);
        for violation in &mut refusal.violated {
            let secret = |name: &&String| name.ends_with(".token") && !name.starts_with("event.");
            for name in violation.values.keys().filter(secret) {
                assert_eq!(violation.values[name], json!("(secret)"), "{token}");
            }
            violation.values.retain(|name, _| !name.starts_with("event."));
        }
        let told = format!("{} {}", refusal.message, serde_json::to_string(&refusal.violated).unwrap());
        assert!(!told.contains("hunter2") && !told.contains("tattle"), "{token}: {told}");
    }
}

#[test]
fn overlay_adds_an_invariant_and_drops_another() {
    let base = "
machine: till
context: { n: { type: integer, default: 0 } }
initial: open
invariants: { small: context.n < 100, even: context.n % 2 == 0 }
states:
  open: { on: { add: { assign: { n: context.n + event.n } } } }
";
    let own = "
overlay: till
invariants: { even: null, tiny: context.n < 10 }
states: { open: { invariants: { odd: 'context.n == 0 || context.n % 2 == 1' } } }
";
    let merged = machine(&overlay::combine(base, own));
    let open = begin(&merged, json!({})).unwrap().after.unwrap();
    let violated = |n: i64| -> Vec<String> {
        match decide(&merged, Some(&open), &event("add", json!({ "n": n })), now()) {
            Ok(_) => Vec::new(),
            Err(refusal) => refusal.violated.into_iter().map(|violation| violation.name).collect(),
        }
    };
    assert_eq!(violated(3), [""; 0]);
    assert_eq!(violated(4), ["odd"]);
    assert_eq!(violated(104), ["small", "tiny", "odd"]);
}
