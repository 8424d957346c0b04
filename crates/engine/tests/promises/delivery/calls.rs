//! What an instance calls is called for as long as it waits for it, and how that ends comes back to it once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use engine::Settings;
use engine::delivery::{Carried, Route};
use kernel::id::{InputKey, InstanceId, MachineName};
use kernel::input::{CallOutcome, Cause, Input, Start};
use kernel::snapshot::Snapshot;
use serde_json::json;
use store::CommitError;
use store::EffectStatus::{Cancelled, Dead, Delivered, Unaddressed, Unknown};

use crate::failing_store::Wrapped;
use crate::post::{Office, later, provider, refused, repeatable, unknown};
use crate::world::{event, fields, stores, tenant};

const DESK: &str = "
machine: desk
version: 1
context:
  answer:  { type: string, nullable: true }
  problem: { type: string, nullable: true }
  times:   { type: integer, default: 0 }
  open:    { type: boolean, default: false }
initial: idle
states:
  idle: { on: { ask: asking } }
  asking:
    invoke:
      id: lookup
      src: desk.lookup
      timeout: 30d
      on_done:
        - guard: event.answer != 'closed' || context.open
          target: idle
          assign: { answer: event.answer, times: context.times + 1 }
      on_error: { target: idle, assign: { problem: event.code, times: context.times + 1 } }
    on:
      leave: idle
      open: { assign: { open: 'true' } }
";

/// A desk that has asked, and the key of its call.
fn asked(office: &Office) -> (InstanceId, String) {
    let (store, now) = (&*office.world.store, office.world.clock.now());
    office.world.machines.activate(store, DESK, now).unwrap();
    let instance = InstanceId::parse("d1").unwrap();
    let machine = MachineName::parse("desk").unwrap();
    let cause = Cause::Create {
        machine,
        id: Some(instance.clone()),
        subject: None,
        context: fields(json!({})),
        start: Start::default(),
    };
    let key = InputKey::parse("create").unwrap();
    office.call(Input { tenant: tenant(), key, cause, expected: None, by: None, trace: None });
    office.call(event(&instance, "ask", "ask", json!({})));
    let call = office.effects().into_iter().find(|effect| effect.instance == instance).unwrap();
    (instance, call.effect.key)
}

fn answer(text: &str) -> Carried {
    Carried::Answered(CallOutcome::Done(fields(json!({ "answer": text }))))
}

fn desk(office: &Office) -> Snapshot {
    office.world.load(&InstanceId::parse("d1").unwrap())
}

fn waits(office: &Office) -> bool {
    !desk(office).invocations.is_empty()
}

#[test]
fn an_answer_comes_back_as_the_result_of_the_call() {
    for (name, store, _directory) in stores() {
        let office = Office::over(store);
        office.script.answers(|_| Some(answer("42")));
        let (_, call) = asked(&office);
        office.rest();
        assert_eq!((office.status(&call), office.script.count(&call)), (Delivered, 1), "{name}");
        let desk = desk(&office);
        assert_eq!(desk.state(), "idle", "{name}");
        assert_eq!((&desk.context["answer"], &desk.context["times"]), (&json!("42"), &json!(1)), "{name}");
    }
}

#[test]
fn a_call_that_is_answered_later_is_delivered_and_waited_for() {
    let office = Office::new();
    let (_, call) = asked(&office);
    office.rest();
    assert_eq!((office.status(&call), waits(&office)), (Delivered, true));
}

/// The settlement is lost with the process, or the answer with its commit; the other end may say something else.
#[test]
fn a_call_that_is_answered_twice_has_one_result() {
    let store = Wrapped::new(|_, batch, inner| inner.commit(batch));
    let settings = Settings { farewell_max: Duration::ZERO, ..Settings::default() };
    let mut office = Office::with(Arc::<Wrapped>::clone(&store), settings);
    let times = AtomicUsize::new(0);
    office.script.answers(move |_| Some(answer(&times.fetch_add(1, Ordering::SeqCst).to_string())));
    store.fail_settlements(usize::MAX);
    let (_, call) = asked(&office);
    while waits(&office) {
        std::thread::yield_now();
    }
    office.restart();
    store.fail_settlements(0);
    office.pass("5m");
    assert!(office.status(&call).is_settled());
    assert_eq!(office.script.count(&call), 1, "nobody waits any more");
    let context = desk(&office).context;
    assert_eq!((&context["answer"], &context["times"]), (&json!("0"), &json!(1)));
}

#[test]
fn an_answer_that_comes_when_the_call_is_over_changes_nothing() {
    let office = Office::new();
    office.script.answers(|_| None);
    let (instance, call) = asked(&office);
    office.script.until_given(&call);
    office.call(event(&instance, "leave", "leave", json!({})));
    office.script.end(answer("42"));
    office.rest();
    assert_eq!(office.status(&call), Delivered);
    assert_eq!(desk(&office).context["times"], json!(0));
}

#[test]
fn a_call_that_nobody_waits_for_any_more_is_not_made() {
    let office = Office::new();
    office.script.answers(|_| Some(later()));
    let (instance, call) = asked(&office);
    office.rest();
    office.call(event(&instance, "leave", "leave", json!({})));
    office.pass("1s");
    assert_eq!((office.status(&call), office.script.count(&call)), (Cancelled, 1));
    assert_eq!(office.error(&call), "nobody waits for the result any more; before: busy");
}

#[test]
fn how_a_call_fails_is_told_to_who_made_it() {
    let refused_by_name = Carried::Answered(CallOutcome::Failed(fields(json!({ "code": "no_member" }))));
    let gone = Carried::Gone { error: "HTTP 410".into() };
    let cases = [
        ("unreachable", true, later(), Dead, "busy"),
        ("refused", true, refused(), Dead, "no such number"),
        ("refused", true, gone, Dead, "HTTP 410"),
        ("unknown", false, unknown(), Unknown, "no answer"),
        ("no_member", true, refused_by_name, Delivered, ""),
    ];
    for (code, knows_keys, carried, status, error) in cases {
        let office = Office::new();
        office.script.routes(move |_| Route::To(if knows_keys { repeatable("desk") } else { provider() }));
        office.script.answers(move |_| Some(carried.clone()));
        let (_, call) = asked(&office);
        for _ in 0..60 {
            office.pass("5m");
        }
        assert_eq!((office.status(&call), &*office.error(&call)), (status, error), "{code}");
        let desk = desk(&office);
        assert_eq!((&desk.context["problem"], &desk.context["times"]), (&json!(code), &json!(1)));
    }
}

#[test]
fn a_call_without_a_setting_is_made_when_it_is_retried_by_hand() {
    let office = Office::new();
    office.script.routes(|_| Route::Nowhere("no [[calls]] is set".into()));
    let (_, call) = asked(&office);
    office.rest();
    assert_eq!((office.status(&call), waits(&office)), (Unaddressed, true));
    office.script.routes(|_| Route::To(repeatable("desk")));
    office.script.answers(|_| Some(answer("42")));
    office.retry(&call);
    assert_eq!((office.status(&call), waits(&office)), (Delivered, false));
}

#[test]
fn a_result_that_is_refused_leaves_the_call_dead_and_waited_for_until_it_is_made_again_by_hand() {
    // What is answered by hand, and whether the desk takes what it did not take before.
    for (second, opens) in [("42", false), ("closed", true)] {
        let office = Office::new();
        office.script.answers(|_| Some(answer("closed")));
        let (instance, call) = asked(&office);
        office.rest();
        assert_eq!((office.status(&call), waits(&office)), (Dead, true));
        let error = office.error(&call);
        assert!(error.starts_with("the result was refused: "), "{error}");
        office.pass("1m");
        assert_eq!(office.script.count(&call), 1, "not by itself");
        if opens {
            office.call(event(&instance, "open", "open", json!({})));
        }
        office.script.answers(move |_| Some(answer(second)));
        assert_eq!(office.retry(&call), Some(Dead));
        assert_eq!((office.status(&call), waits(&office)), (Delivered, false), "{second}");
        let context = desk(&office).context;
        assert_eq!((&context["answer"], &context["times"]), (&json!(second), &json!(1)));
    }
}

/// The machine may not listen to errors: then what is known is why the call failed, and not that nobody heard it.
#[test]
fn a_failure_that_nobody_listens_to_is_still_said_of_the_call() {
    let office = Office::new();
    let deaf: String =
        DESK.lines().filter(|line| !line.contains("on_error")).map(|l| format!("{l}\n")).collect();
    office.script.answers(|_| Some(refused()));
    office.world.machines.activate(&*office.world.store, &deaf, office.world.clock.now()).unwrap();
    let instance = InstanceId::parse("d2").unwrap();
    let machine = MachineName::parse("desk").unwrap();
    let cause = Cause::Create {
        machine,
        id: Some(instance.clone()),
        subject: None,
        context: fields(json!({})),
        start: Start::default(),
    };
    let key = InputKey::parse("create").unwrap();
    office.call(Input { tenant: tenant(), key, cause, expected: None, by: None, trace: None });
    office.call(event(&instance, "ask", "ask", json!({})));
    office.rest();
    let call = office.effects().remove(0);
    assert_eq!((call.status, call.error.as_deref()), (Dead, Some("no such number")));
}

/// The store fails when the result comes. At a repeatable endpoint the call is made again; elsewhere it may have been
/// made, and nobody knows what was answered.
#[test]
fn a_result_that_could_not_be_saved_is_not_lost() {
    for (knows_keys, status, made) in [(true, Delivered, 2), (false, Unknown, 1)] {
        // Creation and question are saved, and then nothing for a while.
        let store = Wrapped::new(|call, batch, inner| match call {
            1 | 2 => inner.commit(batch),
            3 => Err(CommitError::Unavailable("the disk is away".into())),
            _ => inner.commit(batch),
        });
        let office = Office::over(Arc::<Wrapped>::clone(&store));
        office.script.routes(move |_| Route::To(if knows_keys { repeatable("desk") } else { provider() }));
        office.script.answers(|_| Some(answer("42")));
        let (_, call) = asked(&office);
        for _ in 0..4 {
            office.pass("30s");
        }
        assert_eq!((office.status(&call), office.script.count(&call)), (status, made));
        assert_eq!(waits(&office), !knows_keys);
    }
}
