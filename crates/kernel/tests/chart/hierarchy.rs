//! Entry and exit, nesting, the choice among transitions, and what is internal.

use crate::player::check;

#[test]
fn entry_goes_outermost_in_and_exit_innermost_out() {
    check(
        "
initial: a
entry: L(+top)
states:
  a:
    initial: b
    entry: L(+a)
    exit: L(-a)
    states:
      b:
        initial: c
        entry: L(+b)
        exit: L(-b)
        states:
          c: { entry: L(+c), exit: L(-c), on: { out: { target: x.y, actions: L(moving) } } }
  x:
    initial: z
    entry: L(+x)
    states:
      z: { entry: L(+z) }
      y: { entry: L(+y) }
",
        "
create -> a.b.c; log +top +a +b +c
out    -> x.y; log -c -b -a moving +x +y
",
    );
}

#[test]
fn inner_transition_is_chosen_before_outer_and_outer_when_inner_guard_fails() {
    check(
        "
initial: a
on: { go: { actions: L(top) } }
states:
  a:
    initial: b
    on: { go: { actions: L(outer) } }
    states:
      b: { on: { go: { guard: 'event.x > 1', actions: L(inner) }, leave: c } }
      c: {}
  d: { on: { back: a } }
",
        r#"
create       -> a.b
go {"x": 2}  -> a.b; log inner
go {"x": 1}  -> a.b; log outer
go           -> a.b; log outer
leave        -> a.c
go {"x": 2}  -> a.c; log outer
back         -> refused invalid_transition
nothing      -> refused unknown_event
"#,
    );
}

#[test]
fn guards_are_tried_in_order_and_the_first_true_one_wins() {
    check(
        "
initial: a
states:
  a:
    on:
      go:
        - { guard: 'event.x > 10', target: c }
        - { guard: 'event.x > 5', actions: L(middle) }
        - { guard: 'event.x > 1', actions: L(low) }
      only: { guard: 'event.x > 1', target: b }
  b: {}
  c: {}
",
        r#"
create         -> a
go {"x": 7}    -> a; log middle
go {"x": 2}    -> a; log low
go {"x": 0}    -> refused guard_rejected
go             -> refused guard_rejected
only {"x": 1}  -> refused guard_rejected
go {"x": 11}   -> c
"#,
    );
}

#[test]
fn initial_states_nest_and_may_be_deep() {
    check(
        "
initial: a.b
states:
  a:
    initial: plain
    states:
      plain: {}
      b: { initial: d.e, states: { c: {}, d: { initial: f, states: { e: {}, f: {} } } }, on: { go: .d, up: a } }
",
        "
create -> a.b.d.e
go     -> a.b.d.f
up     -> a.plain
",
    );
}

#[test]
fn transition_into_its_own_descendants_is_internal_unless_it_says_reenter() {
    check(
        "
initial: a
states:
  a:
    initial: b
    entry: L(+a)
    exit: L(-a)
    on:
      inside: .c
      again: { target: .c, reenter: true }
      self: a
      self_again: { target: a, reenter: true }
    states:
      b: { entry: L(+b), exit: L(-b) }
      c: { entry: L(+c), exit: L(-c) }
",
        "
create     -> a.b; log +a +b
inside     -> a.c; log -b +c
inside     -> a.c; log -c +c
again      -> a.c; log -c -a +a +c
self       -> a.b; log -c +b
self_again -> a.b; log -b -a +a +b
",
    );
}

#[test]
fn targetless_transition_leaves_and_enters_nothing() {
    check(
        "
initial: a
states:
  a: { entry: L(+a), exit: L(-a), after: { 1h: b }, on: { note: { actions: L(noted) }, self: { target: a, actions: L(to) }, again: { target: a, actions: L(to), reenter: true } } }
  b: {}
",
        "
create -> a; log +a; timers after.1h.a@3600
@10    -> nothing is due
note   -> a; log noted
self   -> a; log to
again  -> a; log -a to +a; timers after.1h.a@3610
",
    );
}

#[test]
fn top_transition_to_the_active_state_enters_it_again() {
    let definition = "
initial: a
on: { reset: a }
states:
  a: { entry: L(+a), exit: L(-a), after: { 1h: b } }
  b: {}
";
    let script = "
create -> a; log +a; timers after.1h.a@3600
@10    -> nothing is due
reset  -> a; log -a +a; timers after.1h.a@3610
";
    check(definition, script);
    // The same where a compound state bars the short path.
    check(&format!("{definition}  c: {{ initial: d, states: {{ d: {{}} }} }}\n"), script);
}

#[test]
fn wildcards_take_what_no_name_takes_and_neither_timers_nor_done_events() {
    check(
        "
initial: a
states:
  a:
    initial: w
    on:
      '*': { actions: L(any) }
      sub.*: { actions: L(below) }
      sub.x: { actions: L(never) }
    after: { 10s: { actions: L(timer) } }
    states:
      w:
        on: { own: { actions: L(own) }, sub.y: { actions: L(y) }, end: f }
      f: { type: final }
  elsewhere: { on: { other: a, sub: a, sub.z: a, subway: a, done.state.a: a } }
",
        "
create -> a.w; timers after.10s.a@10
own    -> a.w; log own
other  -> a.w; log any
sub.y  -> a.w; log y
sub.z  -> a.w; log any
sub    -> a.w; log any
@10    -> after.10s.a: a.w; log timer; timers none
end    -> a.f
",
    );
    check(
        "
initial: a
states:
  a: { on: { sub.*: { actions: L(below) }, '*': { actions: L(any) } } }
  elsewhere: { on: { sub: a, sub.z: a, sub.z.y: a, subway: a } }
",
        "
create  -> a
sub     -> a; log below
sub.z   -> a; log below
sub.z.y -> a; log below
sub.new -> a; log below
unheard -> a; log any
subway  -> a; log any
",
    );
    check(
        "
initial: a
states:
  a: { initial: w, after: { 10s: b }, states: { w: { on: { '*': { actions: L(any) } } } } }
  b: {}
",
        "
create -> a.w; timers after.10s.a@10
@10    -> after.10s.a: b; timers none
",
    );
}
