//! `after`: set on entry, cancelled on exit, absolute, in order of deadline.

use crate::player::check;

#[test]
fn timers_are_set_on_entry_and_cancelled_on_exit() {
    check(
        "
initial: a
states:
  a: { after: { 1m: { target: b, actions: L(late) } }, on: { go: b } }
  b: { after: { 30s: a }, on: { stay: { actions: L(stay) } } }
",
        "
create -> a; timers after.1m.a@60
@59    -> nothing is due
go     -> b; timers after.30s.b@89
@70    -> nothing is due
stay   -> b; log stay
@100   -> after.30s.b: a; timers after.1m.a@160
@200   -> after.1m.a: b; log late; timers after.30s.b@230
",
    );
}

#[test]
fn timer_of_an_outer_state_survives_moves_within_it() {
    check(
        "
initial: s
states:
  s: { initial: a, after: { 1m: x }, states: { a: { after: { 10s: b } }, b: { on: { again: { target: s, reenter: true } } } } }
  x: {}
",
        "
create -> s.a; timers after.1m.s@60 after.10s.s.a@10
@10    -> after.10s.s.a: s.b; timers after.1m.s@60
@20    -> nothing is due
again  -> s.a; timers after.1m.s@80 after.10s.s.a@30
@80    -> after.10s.s.a: s.b; timers after.1m.s@80 / after.1m.s: x; timers none
",
    );
}

#[test]
fn timers_due_together_fire_in_order_of_deadline_then_of_setting() {
    check(
        "
initial: p
states:
  p:
    type: parallel
    states:
      r: { after: { 30s: { actions: L(r30) }, 10s: { actions: L(r10) } } }
      s: { after: { 10s: { actions: L(s10) }, 20s: { actions: L(s20) } } }
",
        "
create -> p.r,p.s; timers after.30s.p.r@30 after.10s.p.r@10 after.10s.p.s@10 after.20s.p.s@20
@60    -> after.10s.p.r: p.r,p.s; log r10; timers after.30s.p.r@30 after.10s.p.s@10 after.20s.p.s@20 / after.10s.p.s: p.r,p.s; log s10; timers after.30s.p.r@30 after.20s.p.s@20 / after.20s.p.s: p.r,p.s; log s20; timers after.30s.p.r@30 / after.30s.p.r: p.r,p.s; log r30; timers none
",
    );
}

#[test]
fn timer_that_a_sibling_due_at_once_cancels_does_not_fire() {
    check(
        "
initial: a
states:
  a: { after: { 10s: b, 20s: c } }
  b: {}
  c: {}
",
        "
create -> a; timers after.10s.a@10 after.20s.a@20
@60    -> after.10s.a: b; timers none
",
    );
}

#[test]
fn timer_whose_guard_says_no_has_had_its_chance() {
    check(
        "
initial: a
states:
  a: { after: { 10s: { guard: context.n > 0, target: b } }, on: { add: { assign: { n: 1 } } } }
  b: {}
",
        "
create -> a; timers after.10s.a@10
@10    -> after.10s.a: a; guard_rejected; timers none
add    -> a; n=1
@99    -> nothing is due
",
    );
}

#[test]
fn idle_timer_of_the_top_restarts_on_each_event_taken_and_on_no_other() {
    check(
        "
initial: a
after: { 1m: { target: f, reason: timeout } }
states:
  a: { after: { 40s: b }, on: { stay: { actions: L(stay) }, no: { guard: 'false', target: f } } }
  b: { on: { go: a } }
  f: { type: final }
",
        "
create -> a; timers after.1m@60 after.40s.a@40
@10    -> nothing is due
no     -> refused guard_rejected
go     -> refused invalid_transition
what   -> refused unknown_event
stay   -> a; log stay; timers after.1m@70 after.40s.a@40
@45    -> after.40s.a: b; timers after.1m@70
go     -> a; timers after.1m@105 after.40s.a@85
@105   -> after.40s.a: b; timers after.1m@105 / after.1m: f; timers none; closed timeout
",
    );
}

#[test]
fn event_that_names_a_timer_is_unknown_from_outside() {
    check(
        "
initial: a
states:
  a: { after: { 10s: b }, on: { go: b } }
  b: {}
",
        "
create      -> a; timers after.10s.a@10
after.10s.a -> refused unknown_event
",
    );
}
