//! Instances that come from another system stand here where they stood there, or are refused with a reason.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use kernel::commit::{Commit, EffectKind, EntryCause};
use kernel::decide::decide;
use kernel::definition::load;
use kernel::id::{InputKey, InstanceId, Subject, TenantId};
use kernel::input::{Cause, Fields, Former, Input, Start};
use kernel::machine::Machine;
use kernel::refusal::{Refusal, RefusalCode};
use kernel::time::Timestamp;
use serde_json::{Value, json};

/// Everything that an import has to see to: nested and parallel states, delays, actions on the way in, a call, an
/// eventless transition, an end.
const PARCEL: &str = "
machine: parcel
context:
  door: { type: string, nullable: true }
  rings: { type: integer, default: 0 }
  paid: { type: boolean, default: false }
initial: packed
after:
  2h: { target: lost, reason: silence }
  1d: { target: lost, reason: given_up }
invariants:
  nobody_rings_so_often: context.rings < 10
states:
  packed: { on: { send: travelling } }
  travelling:
    entry: { assign: { rings: 1 } }
    initial: road
    after: { 30m: { target: waiting } }
    states:
      road: { after: { 10m: { target: depot } } }
      depot: {}
  waiting:
    always: { guard: context.paid, target: delivered }
    on: { pay: { assign: { paid: 'true' } } }
  asking:
    invoke: { src: recipients.ask, input: { door: context.door } }
    on: { done.invoke.*: waiting, error.invoke.*: lost }
  both:
    type: parallel
    states:
      left: { initial: a, states: { a: {}, b: {} } }
      right: { initial: c, states: { c: {}, d: {} } }
  lost: { type: final, reason: lost }
  delivered: { type: final }
";

fn machine() -> Machine {
    let (machine, diagnostics) = load(PARCEL);
    machine.unwrap_or_else(|| panic!("{diagnostics:#?}"))
}

fn at(minutes: i64) -> Timestamp {
    let noon = Timestamp::parse("2026-03-01T12:00:00Z").unwrap();
    Timestamp::from_millis(noon.as_millis() + minutes * 60_000)
}

fn import(former: Former, context: Value) -> Result<Commit, Refusal> {
    let machine = machine();
    let cause = Cause::Create {
        machine: machine.name.clone(),
        id: Some(InstanceId::parse("p-1").unwrap()),
        subject: Some(Subject::parse("ana").unwrap()),
        context: context.as_object().unwrap().clone(),
        start: Start { former: Some(Box::new(former)), ..Start::default() },
    };
    let key = InputKey::parse("k").unwrap();
    let input =
        Input { tenant: TenantId::default_tenant(), key, cause, expected: None, by: None, trace: None };
    let commit = decide(&machine, None, &input, at(0))?;
    let after = commit.after.as_ref().unwrap();
    assert_eq!(commit.entry.input(after).unwrap(), input, "it can be decided on again");
    Ok(commit)
}

fn standing(state: &str) -> Former {
    Former { state: state.into(), ..Former::default() }
}

/// Its state, and its timers in minutes from now.
fn stood(former: Former) -> (String, Vec<(String, i64)>) {
    let after = import(former, json!({})).unwrap().after.unwrap();
    let minutes = |deadline: Timestamp| (deadline.as_millis() - at(0).as_millis()) / 60_000;
    let timers = after.timers.iter().map(|timer| (timer.id.to_string(), minutes(timer.deadline)));
    (after.state(), timers.collect())
}

fn timers(of: &[(&str, i64)]) -> Vec<(String, i64)> {
    of.iter().map(|(id, minutes)| ((*id).to_owned(), *minutes)).collect()
}

#[test]
fn nothing_is_done_on_the_way_in() {
    let commit = import(standing("travelling.depot"), json!({ "door": "back" })).unwrap();
    let after = commit.after.unwrap();
    assert_eq!(after.state(), "travelling.depot");
    assert_eq!(
        *after.context,
        json!({ "door": "back", "rings": 0, "paid": false }).as_object().unwrap().clone()
    );
    assert_eq!(commit.entry.event, "import");
    assert!(commit.effects.is_empty(), "{:?}", commit.effects);
    assert!(matches!(commit.entry.cause, Some(EntryCause::Begun(_))));
}

#[test]
fn a_state_with_children_stands_for_its_initial_ones() {
    assert_eq!(stood(standing("travelling")).0, "travelling.road");
    assert_eq!(stood(standing("both")).0, "both.left.a,both.right.c");
    assert_eq!(stood(standing("both.left.b")).0, "both.left.b,both.right.c");
    assert_eq!(stood(standing("both.right.d,both.left.b")).0, "both.left.b,both.right.d");
}

#[test]
fn delays_have_run_since_it_changed_there() {
    let road = |former: Former| stood(Former { state: "travelling.road".into(), ..former });
    let told = |root: i64, outer: i64, inner: i64| {
        timers(&[
            ("after.2h", root),
            ("after.1d", root + 22 * 60),
            ("after.30m.travelling", outer),
            ("after.10m.travelling.road", inner),
        ])
    };
    assert_eq!(road(Former::default()).1, told(120, 30, 10));
    let changed = |minutes: i64| Former { changed_at: Some(at(minutes)), ..Former::default() };
    assert_eq!(road(changed(-5)).1, told(115, 25, 5));
    assert_eq!(road(changed(-15)).1, told(105, 15, -5), "one that should have fired is due");
    assert_eq!(road(Former { began_at: Some(at(-5)), ..Former::default() }).1, told(115, 25, 5));
    let both = Former { began_at: Some(at(-60)), ..changed(-5) };
    assert_eq!(road(both.clone()).1, told(115, 25, 5));
    let after = import(Former { state: "packed".into(), ..both }, json!({})).unwrap().after.unwrap();
    assert_eq!((after.created_at, after.updated_at), (at(-60), at(0)));
}

#[test]
fn what_it_had_left_there_it_has_left_here() {
    let former = Former { expires_at: Some(at(7)), changed_at: Some(at(-30)), ..standing("packed") };
    assert_eq!(stood(former).1, timers(&[("after.2h", 7), ("after.1d", 7 + 22 * 60)]));
}

#[test]
fn a_call_that_its_state_waits_for_is_made_again() {
    let commit = import(standing("asking"), json!({ "door": "back" })).unwrap();
    assert_eq!(commit.after.unwrap().invocations.len(), 1);
    let [effect] = &commit.effects[..] else { panic!("{:?}", commit.effects) };
    let EffectKind::Call { src, input, .. } = &effect.kind else { panic!("{effect:?}") };
    assert_eq!(
        (src.as_str(), input),
        ("recipients.ask", &json!({ "door": "back" }).as_object().unwrap().clone())
    );
}

#[test]
fn what_its_context_leads_on_to_follows() {
    let commit = import(standing("waiting"), json!({ "paid": true })).unwrap();
    assert_eq!(commit.after.unwrap().closure.unwrap().reason, "delivered");
}

#[test]
fn one_that_has_ended_there_has_ended_here() {
    let reason = |former: Former| import(former, json!({})).unwrap().after.unwrap().closure.unwrap().reason;
    assert_eq!(reason(standing("lost")), "lost");
    assert_eq!(reason(Former { reason: Some("burnt".into()), ..standing("lost") }), "burnt");
}

#[test]
fn one_that_could_not_stand_so_is_refused_and_says_why() {
    let soon = Some(at(1));
    for (former, context, part) in [
        (standing("travellin"), json!({}), "`travelling`"),
        (standing(""), json!({}), "no state ``"),
        (standing("packed,waiting"), json!({}), "cannot be active together"),
        (standing("both.left,both.left.b"), json!({}), "cannot be active together"),
        (standing("packed"), json!({ "dor": 1 }), "`door`"),
        (standing("packed"), json!({ "rings": "two" }), "context.rings"),
        (standing("packed"), json!({ "rings": 12 }), "nobody_rings_so_often"),
        (Former { began_at: soon, ..standing("packed") }, json!({}), "`began_at`"),
        (Former { changed_at: soon, ..standing("packed") }, json!({}), "`changed_at`"),
        (Former { reason: Some("burnt".into()), ..standing("packed") }, json!({}), "not final here"),
    ] {
        let refusal = import(former.clone(), context).unwrap_err();
        let code = [RefusalCode::InvalidContext, RefusalCode::InvariantViolated];
        assert!(code.contains(&refusal.code), "{refusal:?}");
        let told = format!("{} {:?}", refusal.message, refusal.violated);
        assert!(told.contains(part), "{former:?}: {told}");
    }
}

#[test]
fn an_end_that_nothing_here_would_bring_is_refused() {
    let (machine, _) =
        load("machine: bare\ninitial: a\nstates: { a: { on: { x: b } }, b: { type: final } }\n");
    let machine = machine.unwrap();
    let former = Former { expires_at: Some(at(5)), ..standing("a") };
    let cause = Cause::Create {
        machine: machine.name.clone(),
        id: None,
        subject: None,
        context: Fields::new(),
        start: Start { former: Some(Box::new(former)), ..Start::default() },
    };
    let key = InputKey::parse("k").unwrap();
    let input =
        Input { tenant: TenantId::default_tenant(), key, cause, expected: None, by: None, trace: None };
    let refusal = decide(&machine, None, &input, at(0)).unwrap_err();
    assert!(refusal.message.contains("`expires_at`"), "{refusal:?}");
}
