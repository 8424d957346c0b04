//! History states: what they remember, and when.

use crate::player::check;

const NESTED: &str = "
initial: s
states:
  s:
    initial: a
    on: { out: x }
    states:
      a: { initial: one, states: { one: {}, two: {} }, on: { deeper: .two, over: b } }
      b: { initial: three, states: { three: {}, four: {} }, on: { deeper: .four, over: a } }
      shallow: { type: history, target: b }
      deep: { type: history, history: deep, target: b.four }
  x: { on: { shallow: s.shallow, deep: s.deep, plain: s } }
";

#[test]
fn history_without_a_past_takes_its_default() {
    check(
        &NESTED.replace("initial: s\n", "initial: x\n"),
        "
create  -> x
shallow -> s.b.three
",
    );
    check(
        &NESTED.replace("initial: s\n", "initial: x\n"),
        "
create -> x
deep   -> s.b.four
",
    );
}

#[test]
fn shallow_history_remembers_the_child_and_deep_history_all_below() {
    check(
        NESTED,
        "
create  -> s.a.one
deeper  -> s.a.two
out     -> x
shallow -> s.a.one
deeper  -> s.a.two
out     -> x
deep    -> s.a.two
over    -> s.b.three
deeper  -> s.b.four
out     -> x
plain   -> s.a.one
out     -> x
deep    -> s.a.one
",
    );
}

#[test]
fn history_of_a_parallel_state_remembers_every_region() {
    check(
        "
initial: p
states:
  p:
    type: parallel
    on: { out: x }
    states:
      r: { initial: a, states: { a: { on: { go: b } }, b: {} } }
      s: { initial: c, states: { c: { on: { went: d } }, d: {} } }
      deep: { type: history, history: deep, target: [r.b, s.d] }
      shallow: { type: history, target: r }
  x: { on: { deep: p.deep, shallow: p.shallow, one: p.s.d } }
",
        "
create  -> p.r.a,p.s.c
went    -> p.r.a,p.s.d
out     -> x
deep    -> p.r.a,p.s.d
go      -> p.r.b,p.s.d
out     -> x
shallow -> p.r.a,p.s.c
out     -> x
one     -> p.r.a,p.s.d
",
    );
}

#[test]
fn history_entered_by_the_step_that_leaves_it_is_of_that_very_moment() {
    check(
        "
initial: s
states:
  s:
    initial: a
    entry: L(+s)
    exit: L(-s)
    on: { again: { target: .h, reenter: true } }
    states:
      a: { on: { go: b } }
      b: {}
      h: { type: history, target: a }
",
        "
create -> s.a; log +s
go     -> s.b
again  -> s.b; log -s +s
",
    );
}

#[test]
fn initial_may_be_a_history_state() {
    check(
        "
initial: s
states:
  s: { initial: h, on: { out: x }, states: { a: { on: { go: b } }, b: {}, h: { type: history, target: a } } }
  x: { on: { back: s } }
",
        "
create  -> s.a
go      -> s.b
out     -> x
back    -> s.b
recover -> s.a
",
    );
}
