//! What has to hold once an event has been taken: in a state, in the whole machine, and after one transition.

use kernel::decide::{decide, explain, refused};
use kernel::definition::load;
use kernel::id::{InputKey, InstanceId, TenantId};
use kernel::input::{Cause, Fields, Input};
use kernel::refusal::Refusal;
use kernel::snapshot::Snapshot;
use kernel::time::Timestamp;
use serde_json::{Value, json};

use crate::player::{Player, check, machine};

#[test]
fn event_that_would_break_an_invariant_is_refused_and_changes_nothing() {
    check(
        "
initial: a
invariants:
  small: context.n <= 10
  told: { check: 'context.text == null || size(context.text) < 4', message: the text is at most three letters }
states:
  a: { on: { add: { assign: { n: context.n + event.n } }, say: { target: b, assign: { text: event.text } } } }
  b: { entry: { assign: { n: context.n * 2 } }, on: { back: a } }
",
        r#"
create                    -> a
add {"n": 10}             -> a; n=10
add {"n": 1}              -> refused invariant_violated `add` would violate `small`: `context.n <= 10` is false
say {"text": "long"}      -> refused invariant_violated `say` would violate `small`: `context.n <= 10` is false; `told`: the text is at most three letters
add {"n": -6}             -> a; n=4
say {"text": "long"}      -> refused invariant_violated `say` would violate `told`: the text is at most three letters
say {"text": "yes"}       -> b; n=8; text="yes"
add {"n": 1}              -> refused invalid_transition
back                      -> a
"#,
    );
}

#[test]
fn invariant_of_a_state_holds_while_the_state_or_one_inside_it_is_active() {
    check(
        "
initial: a
states:
  a: { on: { go: { target: p, assign: { n: event.n } }, set: { assign: { n: event.n } } } }
  p:
    initial: q
    invariants: { odd: context.n % 2 == 1 }
    on: { set: { assign: { n: event.n } }, leave: a, step: .r }
    states:
      q: {}
      r: { invariants: { large: context.n > 10 }, on: { up: { assign: { n: context.n + 2 } }, end: { target: f, assign: { n: 2 } } } }
  f: { type: final, invariants: { even: context.n % 2 == 0 } }
",
        r#"
create            -> a
set {"n": 2}      -> a; n=2
go {"n": 2}       -> refused invariant_violated `go` would violate `odd` of `p`: `context.n % 2 == 1` is false
go {"n": 9}       -> p.q; n=9
set {"n": 4}      -> refused invariant_violated `set` would violate `odd` of `p`: `context.n % 2 == 1` is false
step              -> refused invariant_violated `step` would violate `large` of `p.r`: `context.n > 10` is false
set {"n": 11}     -> p.q; n=11
step              -> p.r
set {"n": 9}      -> refused invariant_violated `set` would violate `large` of `p.r`: `context.n > 10` is false
up                -> p.r; n=13
leave             -> a
set {"n": 2}      -> a; n=2
go {"n": 1}       -> p.q; n=1
set {"n": 21}     -> p.q; n=21
step              -> p.r
end               -> f; n=2; closed f
"#,
    );
}

#[test]
fn invariants_are_asked_when_the_machine_is_at_rest_and_not_on_the_way() {
    check(
        "
initial: a
invariants: { small: context.n < 5 }
states:
  a:
    on:
      go: { target: b, assign: { n: 9 } }
      on_and_on: { target: c, assign: { n: 9 } }
  b: { always: { target: a, assign: { n: 1 } } }
  c: { entry: { raise: back }, on: { back: { target: a, assign: { n: event.n } } } }
",
        "
create     -> a
go         -> a; n=1
on_and_on  -> refused expression_failed `on_and_on` failed in `a`: `event.n`: event.n is missing
",
    );
}

#[test]
fn invariant_that_fails_does_not_hold() {
    check(
        "
initial: a
invariants: { known: 'context.seen == null || context.seen.by != \"\"' }
states:
  a: { on: { see: { assign: { seen: event.what } } } }
",
        r#"
create                          -> a
see {"what": {"by": "me"}}      -> a; seen={"by":"me"}
see {"what": {}}                -> refused invariant_violated `see` would violate `known`: `context.seen == null || context.seen.by != ""` failed: context.seen.by is missing
see {"what": null}              -> a; seen=null
"#,
    );
}

#[test]
fn what_a_transition_ensures_sees_the_event_and_the_context_before() {
    check(
        "
initial: a
states:
  a:
    on:
      add:
        target: b
        assign: { n: context.n + event.n }
        ensures:
          grows: { check: context.n > before.n, message: only more is more }
          named: event_name == 'add' && has(event.n)
          moved: \"'b' in active && !('a' in active)\"
  b:
    entry: { assign: { n: context.n * 2 } }
    on:
      go: { actions: { raise: { event: inner, data: { x: 7 } } } }
      inner: { target: a, assign: { n: event.x }, ensures: { exact: context.n == event.x, other: before.n != 4 } }
",
        r#"
create        -> a
add {"n": 0}  -> refused invariant_violated `add` would violate `grows`, which `add` ensures: only more is more
add {"n": 2}  -> b; n=4
go            -> refused invariant_violated `go` would violate `other`, which `inner` ensures: `before.n != 4` is false
"#,
    );
}

#[test]
fn transition_that_only_moves_ensures_as_well() {
    check(
        "
initial: a
states:
  a: { on: { set: { assign: { n: event.n } }, go: { target: b, ensures: { set: context.n > 0 } } } }
  b: { on: { back: { target: a, ensures: { same: context.n == before.n } } } }
",
        r#"
create         -> a
go             -> refused invariant_violated `go` would violate `set`, which `go` ensures: `context.n > 0` is false
set {"n": 1}   -> a; n=1
go             -> b
back           -> a
"#,
    );
}

#[test]
fn creation_that_would_break_an_invariant_is_refused() {
    check(
        "
initial: a
invariants: { positive: context.n >= 0 }
states:
  a: { on: { go: a } }
",
        r#"
create {"n": -1}  -> refused invariant_violated `create` would violate `positive`: `context.n >= 0` is false
create {"n": 1}   -> a
"#,
    );
}

#[test]
fn timer_that_would_break_an_invariant_is_spent_and_told_of_in_the_log() {
    check(
        "
initial: a
invariants: { small: context.n < 2 }
states:
  a: { after: { 5s: { target: b, assign: { n: context.n + 1 } } } }
  b: { after: { 5s: { target: a, assign: { n: context.n + 1 } } }, on: { go: a } }
",
        "
create  -> a; timers after.5s.a@5
@5      -> after.5s.a: b; n=1; timers after.5s.b@10
@10     -> after.5s.b: b; invariant_violated; timers none
go      -> a; timers after.5s.a@15
",
    );
}

#[test]
fn result_that_would_break_an_invariant_may_be_brought_again() {
    check(
        "
initial: a
states:
  a: { on: { go: b } }
  b: { invoke: { src: s, timeout: 9s, on_done: { target: c, assign: { n: event.n } }, on_error: a } }
  c: { invariants: { positive: context.n > 0 }, on: { go: a } }
",
        r#"
create            -> a
go                -> b; timers after.invoke.b@9; calls b s {}
done b {"n": 0}   -> refused invariant_violated `done.invoke.b` would violate `positive` of `c`: `context.n > 0` is false
done b {"n": 3}   -> c; n=3; timers none; over b
"#,
    );
}

const RECOVERED: &str = "
machine: m
context:
  n:     { type: integer, default: 0 }
  limit: { type: integer, default: 5, keep: true }
  name:  { type: string, nullable: true, keep: true }
  owner: { type: string, required: true }
initial: a
safe_state: safe
states:
  a:
    on:
      add: { assign: { n: context.n + 1 } }
      set: { assign: { limit: event.limit, name: event.name, owner: event.owner } }
  safe: { invariants: { room: context.limit > 2, owned: context.owner != '' }, on: { go: a } }
";

fn recover(limit: i64, owner: &str) -> Result<(Fields, Value), Refusal> {
    let (machine, diagnostics) = load(RECOVERED);
    let machine = machine.unwrap_or_else(|| panic!("{diagnostics:?}"));
    let mut player = Player::new(&machine, true);
    player.create(fields(json!({ "owner": "ann" }))).unwrap();
    player.event("add", Fields::new()).unwrap();
    player.event("set", fields(json!({ "limit": limit, "name": "kept", "owner": owner }))).unwrap();
    let commit = player.give(Cause::Recover { instance: instance(), reason: "stuck".into() })?;
    let answer = serde_json::to_value(&commit.entry.answer).unwrap();
    Ok((Fields::clone(&commit.after.unwrap().context), answer["event"]["replaced"].clone()))
}

#[test]
fn recovery_keeps_what_it_may_and_gives_up_what_would_break_an_invariant() {
    let (context, replaced) = recover(7, "ann").unwrap();
    assert_eq!(Value::from(context), json!({ "n": 0, "limit": 7, "name": "kept", "owner": "ann" }));
    assert_eq!(replaced["context"], json!({ "n": 1 }));
    assert_eq!(replaced["kept"], json!(["limit", "name", "owner"]));

    let (context, replaced) = recover(1, "ann").unwrap();
    assert_eq!(Value::from(context), json!({ "n": 0, "limit": 5, "name": null, "owner": "ann" }));
    assert_eq!(replaced["context"], json!({ "n": 1, "limit": 1, "name": "kept" }));
    assert_eq!(replaced["kept"], json!(["owner"]));
}

#[test]
fn recovery_is_refused_only_for_what_nothing_can_replace() {
    let refusal = recover(7, "").unwrap_err();
    assert_eq!(refusal.code.as_str(), "invariant_violated");
    assert_eq!(refusal.violated[0].name, "owned");
    assert_eq!(refusal.allowed, ["add", "set"]);
}

fn fields(value: Value) -> Fields {
    serde_json::from_value(value).unwrap()
}

fn instance() -> InstanceId {
    InstanceId::parse("i").unwrap()
}

fn event(name: &str, payload: Value) -> Input {
    Input {
        tenant: TenantId::default_tenant(),
        key: InputKey::parse("k").unwrap(),
        cause: Cause::Event { instance: instance(), event: name.to_owned(), payload: fields(payload) },
        expected: None,
        by: None,
        trace: None,
    }
}

#[test]
fn explanation_and_log_tell_what_would_be_violated_with_its_values() {
    let machine = machine(
        "
initial: a
invariants: { small: context.n <= 10 }
states:
  a:
    on:
      add: { assign: { n: context.n + event.n }, ensures: { grows: context.n > before.n && event.n != 0 } }
      on: a
",
    );
    let mut player = Player::new(&machine, false);
    player.create(fields(json!({ "n": 12 }))).unwrap_err();
    player.create(fields(json!({ "n": 9 }))).unwrap();
    let open: Snapshot = player.snapshot.clone().unwrap();
    let input = event("add", json!({ "n": 2 }));
    let now = Timestamp::from_millis(0);

    let explained = explain(&machine, &open, &input, now);
    let refusal = explained.refusal.unwrap();
    assert!(!explained.accepted && explained.considered[0].chosen);
    assert_eq!(refusal.allowed, ["add", "on"]);
    let told = serde_json::to_value(&refusal.violated).unwrap();
    let small = json!({ "name": "small", "state": "", "expression": "context.n <= 10", "values": { "context.n": 11 } });
    assert_eq!(told, json!([small]));

    let logged =
        refused(&machine, &open, &input, &decide(&machine, Some(&open), &input, now).unwrap_err(), now);
    assert!(refusal.code.is_recorded() && !logged.entry.success && logged.effects.is_empty());
    assert_eq!(logged.after, None);
    assert_eq!(logged.entry.code.as_deref(), Some("invariant_violated"));
    assert_eq!(logged.entry.reason, Some(refusal.message));

    let less = decide(&machine, Some(&open), &event("add", json!({ "n": 0 })), now).unwrap_err();
    let told = serde_json::to_value(&less.violated).unwrap();
    assert_eq!(
        told,
        json!([{
            "name": "grows", "state": "a", "event": "add", "expression": "context.n > before.n && event.n != 0",
            "values": { "context.n": 9, "before.n": 9, "event.n": 0 }
        }])
    );
}
