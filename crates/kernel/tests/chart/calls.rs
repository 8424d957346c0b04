//! Calls: made when the chart is at rest in their state, answered once, forgotten when the state is left.

use crate::player::check;

const PAYMENT: &str = "
initial: cart
states:
  cart: { on: { pay: { target: paying, assign: { n: event.amount } } } }
  paying:
    entry: L(+paying)
    invoke:
      id: charge
      src: payments.charge
      input: { amount: context.n, currency: \"'EUR'\" }
      timeout: 30s
      on_done: { guard: has(event.receipt), target: paid, assign: { text: event.receipt } }
      on_error:
        - { guard: event.code == 'declined', target: cart }
        - { target: stuck, assign: { text: event.code } }
    on: { cancel: cart }
  paid: {}
  stuck: {}
";

#[test]
fn call_is_made_on_entry_and_its_result_becomes_an_event() {
    check(
        PAYMENT,
        r#"
create                      -> cart
pay {"amount": 3}           -> paying; log +paying; n=3; timers after.invoke.charge@30; calls charge payments.charge {"amount":3,"currency":"EUR"}
done charge {"receipt": "r7"} -> paid; text="r7"; timers none; over charge
done charge {"receipt": "r7"} -> refused call_over
"#,
    );
}

#[test]
fn error_and_timeout_come_as_the_same_event() {
    check(
        PAYMENT,
        r#"
create                            -> cart
pay {"amount": 3}                 -> paying; log +paying; n=3; timers after.invoke.charge@30; calls charge payments.charge {"amount":3,"currency":"EUR"}
fail charge {"code": "declined"}  -> cart; timers none; over charge
pay {"amount": 3}                 -> paying; log +paying; timers after.invoke.charge@30; calls charge payments.charge {"amount":3,"currency":"EUR"}
@30                               -> after.invoke.charge: stuck; text="timeout"; timers none; over charge
fail charge {"code": "declined"}  -> refused call_over
"#,
    );
}

#[test]
fn leaving_the_state_forgets_the_call_and_a_new_one_is_another() {
    check(
        PAYMENT,
        r#"
create             -> cart
pay {"amount": 3}  -> paying; log +paying; n=3; timers after.invoke.charge@30; calls charge payments.charge {"amount":3,"currency":"EUR"}
cancel             -> cart; timers none; over charge
done charge {"receipt": "late"} -> refused call_over
@60                -> nothing is due
"#,
    );
}

#[test]
fn result_that_is_refused_leaves_the_call_and_its_deadline() {
    check(
        PAYMENT,
        r#"
create             -> cart
pay {"amount": 3}  -> paying; log +paying; n=3; timers after.invoke.charge@30; calls charge payments.charge {"amount":3,"currency":"EUR"}
done charge        -> refused guard_rejected
done charge {"receipt": 7} -> refused expression_failed `done.invoke.charge` failed in `paying`: context.text must be text, not 7
@30                -> after.invoke.charge: stuck; text="timeout"; timers none; over charge
"#,
    );
}

#[test]
fn error_always_has_a_code_and_a_message() {
    check(
        "
initial: a
states:
  a: { invoke: { id: c, src: s, on_error: { target: b, assign: { seen: event } } } }
  b: {}
",
        r#"
create    -> a; timers after.invoke.c@300; calls c s {}
fail c    -> b; seen={"code":"failed","message":"the call `c` failed"}; timers none; over c
"#,
    );
}

#[test]
fn result_that_leads_back_into_the_state_makes_another_call() {
    check(
        "
initial: a
states:
  a: { invoke: { id: c, src: s, on_done: { target: a, reenter: true } } }
",
        "
create    -> a; timers after.invoke.c@300; calls c s {}
@10       -> nothing is due
done c    -> a; timers after.invoke.c@310; calls c s {}
done c    -> a; calls c s {}
",
    );
}

#[test]
fn only_states_that_stay_make_their_calls_and_each_under_its_own_id() {
    check(
        "
initial: a
states:
  a: { on: { go: passing } }
  passing: { invoke: { src: never.made }, always: both }
  both:
    type: parallel
    on: { out: a }
    states:
      left: { invoke: [{ src: one }, { id: two, src: second }], on: { done.invoke.both_left: { actions: L(one) }, done.invoke.two: { actions: L(two) } } }
      right: { invoke: { id: three, src: third, timeout: 1m }, on: { done.invoke.*: { actions: L(any) } } }
",
        "
create         -> a
go             -> both.left,both.right; timers after.invoke.both_left@300 after.invoke.two@300 after.invoke.three@60; calls both_left one {}; calls two second {}; calls three third {}
done two       -> both.left,both.right; log two any; timers after.invoke.both_left@300 after.invoke.three@60; over two
done three     -> both.left,both.right; log any; timers after.invoke.both_left@300; over three
out            -> a; timers none; over both_left
",
    );
}

#[test]
fn input_that_cannot_be_computed_is_an_error_and_no_call() {
    check(
        "
initial: a
states:
  a: { on: { go: b } }
  b: { invoke: { id: c, src: s, input: { n: event.n } }, on: { error.execution: { target: a, actions: L(failed) } } }
",
        r#"
create       -> a
go           -> a; log failed
go {"n": 1}  -> b; timers after.invoke.c@300; calls c s {"n":1}
"#,
    );
}

#[test]
fn call_that_took_too_long_is_over_also_where_the_state_stays() {
    check(
        "
initial: a
invoke: { id: all_along, src: s }
states:
  a:
    invoke: { id: c, src: s, timeout: 10s, on_error: { actions: L(late) } }
    on: { stop: f }
  f: { type: final }
",
        "
create       -> a; timers after.invoke.all_along@300 after.invoke.c@10; calls all_along s {}; calls c s {}
@10          -> after.invoke.c: a; log late; timers after.invoke.all_along@300; over c
done c       -> refused call_over
stop         -> f; timers none; over all_along; closed f
",
    );
}
