//! Final states: done events, and why an instance is closed.

use crate::player::check;

#[test]
fn compound_state_is_done_when_a_final_child_is_entered() {
    check(
        "
initial: a
states:
  a: { initial: b, on: { done.state.a: { target: c, actions: L(done) } }, states: { b: { on: { end: f } }, f: { type: final, entry: L(+f) } } }
  c: {}
",
        "
create -> a.b
end    -> c; log +f done
",
    );
}

#[test]
fn parallel_state_is_done_when_all_regions_are() {
    check(
        "
initial: p
states:
  p:
    type: parallel
    on: { done.state.p: { target: c, actions: L(all) }, done.state.p.r: { actions: L(r) }, done.*: { actions: L(some) } }
    states:
      r: { initial: a, states: { a: { on: { r: f } }, f: { type: final } } }
      s: { initial: b, states: { b: { on: { s: f, r: .x }, initial: x, states: { x: {} } }, f: { type: final } } }
      h: { type: history, target: [r, s] }
  c: {}
",
        "
create -> p.r.a,p.s.b.x
r      -> p.r.f,p.s.b.x; log r
s      -> c; log some all
",
    );
}

#[test]
fn parallel_state_in_a_parallel_state_is_done_with_its_last_region() {
    let definition = "
initial: p
states:
  p:
    type: parallel
    on: { done.state.p: { target: c, actions: L(p) }, done.state.p.q: { actions: L(q) } }
    states:
      q:
        type: parallel
        states:
          r: { initial: a, states: { a: { on: { r: f } }, f: { type: final } } }
          s: { initial: b, states: { b: { on: { s: f } }, f: { type: final } } }
          h: { type: history, target: [r, s] }
      t: { initial: d, states: { d: { on: { t: f } }, f: { type: final } } }
  c: {}
";
    check(
        definition,
        "
create -> p.q.r.a,p.q.s.b,p.t.d
t      -> p.q.r.a,p.q.s.b,p.t.f
r      -> p.q.r.f,p.q.s.b,p.t.f
s      -> c; log q p
",
    );
    check(
        definition,
        "
create -> p.q.r.a,p.q.s.b,p.t.d
r      -> p.q.r.f,p.q.s.b,p.t.d
s      -> p.q.r.f,p.q.s.f,p.t.d; log q
t      -> c; log p
",
    );
}

#[test]
fn closure_reason_is_the_transitions_then_the_states_then_its_name() {
    check(
        "
initial: a
states:
  a:
    on:
      one: { target: cancelled, reason: user_cancelled }
      two: cancelled
      three: plain
      four: { actions: L(no), reason: never }
  cancelled: { type: final, reason: gone }
  plain: { type: final }
",
        "
create -> a
one    -> cancelled; closed user_cancelled
two    -> refused instance_closed
",
    );
    let definition = "
initial: a
states:
  a: { on: { two: gone, three: plain } }
  gone: { type: final, reason: expired }
  plain: { type: final }
";
    check(definition, "create -> a\ntwo -> gone; closed expired");
    check(definition, "create -> a\nthree -> plain; closed plain");
}

#[test]
fn ending_runs_the_exit_actions_of_what_is_still_active_and_clears_timers() {
    check(
        "
initial: a
after: { 2h: a }
exit: L(-top)
states:
  a: { exit: L(-a), after: { 1h: a }, on: { end: f } }
  f: { type: final, entry: L(+f), exit: L(-f) }
",
        "
create -> a; timers after.2h@7200 after.1h.a@3600
end    -> f; log -a +f -f -top; timers none; closed f
",
    );
}

#[test]
fn instance_may_be_over_as_soon_as_it_begins() {
    check(
        "
initial: a
states:
  a: { always: { guard: 'context.n > 0', target: f }, on: { go: f } }
  f: { type: final }
",
        r#"
create {"n": 1} -> f; closed f
go              -> refused instance_closed
"#,
    );
}
