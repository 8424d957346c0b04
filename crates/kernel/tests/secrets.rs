//! Secret fields: what a decision says in words does not hold their values, whatever goes wrong with them.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use kernel::commit::Commit;
use kernel::decide::{decide, explain, refused};
use kernel::definition::load;
use kernel::id::{InputKey, InstanceId, TenantId};
use kernel::input::{CallOutcome, Cause, Fields, Input, Start};
use kernel::machine::Machine;
use kernel::refusal::Refusal;
use kernel::snapshot::Snapshot;
use kernel::time::Timestamp;
use serde_json::{Value, json};

const SECRET: &str = "hunter2";

const ACCOUNT: &str = "
machine: account
context:
  count: { type: integer, default: 0 }
  keys:  { type: array, items: integer, secret: true }
  note:  {}
  token: { secret: true }
initial: open
states:
  open:
    on:
      compare:  { guard: context.token == event.token, target: shut }
      wrong:    { guard: context.token < 5, target: shut }
      negate:   { guard: '-event.token == 1', target: shut }
      whole:    { guard: 'size(context) > 9 || context.token > 5', target: shut }
      sum:      { assign: { count: int(context.token) } }
      misfit:   { assign: { keys: event.token } }
      items:    { assign: { keys: event.any } }
      wait:     { raise: { event: compare, delay: context.token } }
      choose:   { if: event.token, then: { assign: { count: 1 } } }
      each:     { for_each: event.tokens, do: { assign: { count: '-item' } } }
      plain:    { assign: { count: context.note + 1 } }
  shut: {}
";

fn machine(source: &str) -> Machine {
    let (machine, diagnostics) = load(source);
    machine.unwrap_or_else(|| panic!("{diagnostics:?}"))
}

fn fields(value: Value) -> Fields {
    serde_json::from_value(value).unwrap()
}

fn now() -> Timestamp {
    Timestamp::from_millis(1_000)
}

fn input(key: &str, cause: Cause) -> Input {
    let (tenant, key) = (TenantId::default_tenant(), InputKey::parse(key).unwrap());
    Input { tenant, key, cause, expected: None, by: None, trace: None }
}

fn begin(machine: &Machine, context: Value) -> Result<Commit, Refusal> {
    let (name, id) = (machine.name.clone(), InstanceId::parse("a-1").ok());
    let flow = Start::default();
    let cause = Cause::Create { machine: name, id, subject: None, context: fields(context), start: flow };
    decide(machine, None, &input("create", cause), now())
}

fn event(name: &str, payload: Value) -> Input {
    let instance = InstanceId::parse("a-1").unwrap();
    input(name, Cause::Event { instance, event: name.to_owned(), payload: fields(payload) })
}

/// All that is said of a refusal beside the values of the event, which whoever sent it knows.
fn words(refusal: &Refusal) -> String {
    let mut refusal = refusal.clone();
    for considered in &mut refusal.explain {
        if let Some(guard) = &mut considered.guard {
            guard.values.retain(|name, _| !name.starts_with("event."));
        }
    }
    serde_json::to_string(&refusal).unwrap()
}

#[test]
fn no_refusal_holds_a_secret() {
    let machine = machine(ACCOUNT);
    let open = begin(&machine, json!({ "token": SECRET })).unwrap().after.unwrap();
    let payload = json!({ "token": SECRET, "any": [SECRET], "tokens": [SECRET], "number": 1 });
    let events = ["compare", "wrong", "negate", "whole", "sum", "misfit", "items", "wait", "choose", "each"];
    for name in events {
        let mut payload = payload.clone();
        if name == "compare" {
            payload["token"] = json!("another");
        }
        let input = event(name, payload);

        let refusal = decide(&machine, Some(&open), &input, now()).expect_err(name);
        let logged = refused(&machine, &open, &input, &refusal, now());

        assert!(!words(&refusal).contains(SECRET), "{name}: {refusal:#?}");
        assert!(!logged.entry.reason.unwrap().contains(SECRET), "{name}");
        assert_eq!(logged.secrets, machine.secrets, "{name}");
        let explained = explain(&machine, &open, &input, now());
        let shown = explained.considered.iter().filter_map(|c| c.guard.as_ref()?.values.get("context.token"));
        assert!(shown.into_iter().all(|value| *value == json!("(secret)")), "{name}");
    }
}

#[test]
fn an_explanation_names_a_secret_and_does_not_tell_it() {
    let machine = machine(ACCOUNT);
    let open = begin(&machine, json!({ "token": SECRET })).unwrap().after.unwrap();

    let explained = explain(&machine, &open, &event("compare", json!({ "token": "another" })), now());

    let values = &explained.considered[0].guard.as_ref().unwrap().values;
    assert_eq!(Value::from(values.clone()), json!({ "context.token": "(secret)", "event.token": "another" }));
}

#[test]
fn what_cannot_be_secret_is_told_in_full() {
    let machine = machine(ACCOUNT);
    let open = begin(&machine, json!({ "note": "plain" })).unwrap().after.unwrap();
    let refusal = decide(&machine, Some(&open), &event("plain", json!({})), now()).unwrap_err();
    assert!(refusal.message.contains("plain"), "{}", refusal.message);
}

#[test]
fn a_creation_that_misfits_does_not_repeat_the_secret() {
    for context in [json!({ "keys": [1, SECRET] }), json!({ "keys": SECRET })] {
        let refusal = begin(&machine(ACCOUNT), context.clone()).unwrap_err();
        assert!(!refusal.message.contains(SECRET), "{context}: {}", refusal.message);
        assert!(refusal.message.contains("must be"), "{context}: {}", refusal.message);
    }
}

const FLOW: &str = "
flow: sign_in
context:
  token: { type: string, nullable: true, secret: true }
  count: { type: integer, default: 0 }
phases:
  ask:   { run: { http: tokens.ask } }
  other: { run: { http: tokens.other }, output: { count: int(event.token) } }
";

#[test]
fn a_result_that_misfits_leaves_no_secret_in_the_words_of_the_error() {
    let machine = machine(FLOW);
    let begun = begin(&machine, json!({})).unwrap();
    let open: Snapshot = begun.after.unwrap();
    for (call, result) in [(0, json!({ "token": [SECRET] })), (1, json!({ "token": SECRET }))] {
        let (instance, call) = (open.instance.clone(), open.invocations[call].key.clone());
        let outcome = CallOutcome::Done(fields(result));
        let input = input(&format!("r-{call}"), Cause::Result { instance, call, outcome });

        let commit = decide(&machine, Some(&open), &input, now()).unwrap();

        assert_eq!(commit.secrets, machine.secrets);
        let told = serde_json::to_string(&commit.entry.answer).unwrap();
        assert!(told.contains("DATA_VALIDATION_FAILED") || told.contains("cannot be worked out"), "{told}");
        assert!(!told.contains(SECRET), "{told}");
    }
}

#[test]
fn commits_name_the_secret_fields_in_order() {
    let commit = begin(&machine(ACCOUNT), json!({})).unwrap();
    assert_eq!(commit.secrets.iter().map(|name| &**name).collect::<Vec<_>>(), ["keys", "token"]);
    let plain = "{ machine: m, initial: a, states: { a: {} } }";
    assert!(begin(&machine(plain), json!({})).unwrap().secrets.is_empty());
}
