//! Recovery: where it leads, and what it ends.

use crate::player::check;

#[test]
fn recovery_without_a_safe_state_begins_as_a_new_instance_does() {
    check(
        "
initial: [p.a.a2, p.b.b2]
states:
  p:
    type: parallel
    on: { go: q }
    states:
      a: { initial: a1, states: { a1: {}, a2: {} } }
      b: { initial: b1, states: { b1: {}, b2: {} } }
  q: {}
",
        "
create  -> p.a.a2,p.b.b2
go      -> q
recover -> p.a.a2,p.b.b2
",
    );
    check(
        "
initial: { target: a, assign: { n: 5 } }
states: { a: { on: { go: { target: b, assign: { n: 7 } } } }, b: {} }
",
        "
create  -> a
go      -> b; n=7
recover -> a; n=5
",
    );
}

#[test]
fn recovery_ends_calls_and_timers_and_begins_those_of_the_safe_state() {
    check(
        "
initial: a
safe_state: safe
states:
  a: { invoke: { id: c, src: s }, entry: { raise: { event: late, delay: 1m } }, after: { 2m: safe }, on: { late: safe } }
  safe: { invoke: { id: d, src: s }, after: { 3m: a } }
",
        "
create  -> a; timers after.2m.a@120 late@60 after.invoke.c@300; calls c s {}
recover -> safe; timers after.3m.safe@180 after.invoke.d@300; calls d s {}; over c
done c  -> refused call_over
",
    );
}
