//! Eventless transitions and raised events: what follows from an event before the chart rests.

use crate::player::check;

#[test]
fn eventless_transition_is_taken_once_an_assignment_makes_its_guard_true() {
    check(
        "
initial: a
states:
  a:
    on: { add: { assign: { n: context.n + event.by } } }
    always: [{ guard: context.n > 5, target: big }, { guard: context.n > 2, target: middle }]
  middle: { always: { guard: context.n == 4, target: four } }
  four: {}
  big: {}
",
        r#"
create          -> a
add {"by": 1}   -> a; n=1
add {"by": 3}   -> four; n=4
"#,
    );
}

#[test]
fn eventless_transition_sees_the_payload_until_the_first_raised_event() {
    check(
        "
initial: a
states:
  a: { on: { go: b, quiet: { target: b, actions: { raise: unheard } } } }
  b:
    always:
      - { guard: 'has(event.x) && event.x == 1', target: c, assign: { seen: event } }
      - { guard: '!has(event.x)', target: d, assign: { seen: event } }
  c: { entry: { raise: r }, on: { r: { target: e, assign: { seen: event } } } }
  d: {}
  e: {}
",
        r#"
create            -> a
go {"x": 1}       -> e; seen={}
"#,
    );
    let definition = "
initial: a
states:
  a: { on: { go: { target: b, actions: { raise: unheard } }, stay: b, unheard: a } }
  b: { always: { guard: '!has(event.x)', target: d } }
  d: {}
";
    check(definition, "create -> a\ngo {\"x\": 1} -> d");
    check(definition, "create -> a\nstay {\"x\": 1} -> b");
}

#[test]
fn raised_events_come_in_order_before_the_next_from_outside_and_after_eventless_ones() {
    check(
        "
initial: a
on: { second: { actions: L(second) }, first: { actions: L(first) } }
states:
  a: { on: { go: { target: b, actions: [{ raise: [first, second] }, L(go)] } } }
  b: { entry: L(+b), always: { target: c, actions: [L(always), { raise: third }] } }
  c: { entry: L(+c), on: { third: { target: d, actions: L(third) } } }
  d: { on: { go: a } }
",
        "
create -> a
go     -> d; log go +b always +c first second third
",
    );
}

#[test]
fn raised_event_nobody_takes_is_forgotten() {
    check(
        "
initial: a
states:
  a: { on: { go: { target: b, actions: { raise: x } } } }
  b: { on: { on: c } }
  c: { on: { x: a } }
",
        "
create -> a
go     -> b
on     -> c
",
    );
}

#[test]
fn loop_without_rest_is_refused_and_named() {
    check(
        "
initial: a
states:
  a: { on: { go: { target: b, assign: { n: context.n + 1 } }, ok: d } }
  b: { always: c }
  c: { always: { target: b, guard: context.n > 0 }, entry: L(+c) }
  d: { on: { go: { actions: { raise: go } } } }
",
        "
create -> a
go     -> refused step_limit `go` does not come to rest; it goes round in b --always--> c, c --always--> b
ok     -> d
go     -> refused step_limit `go` does not come to rest; it goes round in d --go--> d
",
    );
}

#[test]
fn long_chain_that_ends_is_no_loop() {
    check(
        "
initial: a
states:
  a: { on: { go: b } }
  b: { always: [{ guard: context.n < 200, assign: { n: context.n + 1 } }, c] }
  c: {}
",
        "
create -> a
go     -> c; n=200
",
    );
}
