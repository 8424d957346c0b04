//! Parallel regions: reacting together, conflicts, entering in part.

use crate::player::check;

#[test]
fn both_regions_take_one_event_in_document_order() {
    check(
        "
initial: p
states:
  p:
    type: parallel
    entry: L(+p)
    states:
      r: { initial: a, entry: L(+r), states: { a: { exit: L(-a), on: { go: { target: b, actions: L(r) } } }, b: { entry: L(+b) } } }
      s: { initial: c, entry: L(+s), states: { c: { exit: L(-c), on: { go: { target: d, actions: L(s) }, only: d } }, d: { entry: L(+d) } } }
",
        "
create -> p.r.a,p.s.c; log +p +r +s
go     -> p.r.b,p.s.d; log -c -a r s +b +d
only   -> refused invalid_transition
",
    );
}

#[test]
fn of_two_regions_in_conflict_the_first_in_the_document_wins() {
    let definition = |first: &str, second: &str| {
        format!(
            "
initial: p
states:
  p:
    type: parallel
    exit: L(-p)
    states:
      r: {{ initial: a, states: {{ a: {{ on: {{ go: {first} }} }}, b: {{}} }} }}
      s: {{ initial: c, states: {{ c: {{ on: {{ go: {second} }} }}, d: {{}} }} }}
  out: {{}}
"
        )
    };
    let script = "
create -> p.r.a,p.s.c
go     -> out; log -p
";
    check(&definition("out", "d"), script);
    let script = "
create -> p.r.a,p.s.c
go     -> p.r.b,p.s.c
";
    check(&definition("b", "out"), script);
}

#[test]
fn transition_of_a_descendant_preempts_that_of_its_ancestor() {
    check(
        "
initial: p
states:
  p:
    type: parallel
    on: { go: out }
    states:
      r: { initial: a, states: { a: {}, b: {} } }
      s: { initial: c, states: { c: { on: { go: d } }, d: {} } }
  out: {}
",
        "
create -> p.r.a,p.s.c
go     -> p.r.a,p.s.d
go     -> out
",
    );
}

#[test]
fn target_deep_in_one_region_begins_the_others() {
    check(
        "
initial: out
states:
  out: { on: { one: p.s.d, both: { target: [p.r.b, p.s.d] }, nested: p.t.q.k.n } }
  p:
    type: parallel
    on: { out: out }
    states:
      r: { initial: a, states: { a: {}, b: {} } }
      s: { initial: c, states: { c: {}, d: {} } }
      t:
        initial: l
        states:
          l: {}
          q: { type: parallel, states: { k: { initial: m, states: { m: {}, n: {} } }, o: {} } }
",
        "
create -> out
one    -> p.r.a,p.s.d,p.t.l
out    -> out
both   -> p.r.b,p.s.d,p.t.l
out    -> out
nested -> p.r.a,p.s.c,p.t.q.k.n,p.t.q.o
",
    );
}

#[test]
fn transition_of_a_parallel_state_into_itself_is_external() {
    check(
        "
initial: p
states:
  p:
    type: parallel
    entry: L(+p)
    exit: L(-p)
    on: { go: .s.d }
    states:
      r: { initial: a, states: { a: { on: { move: b } }, b: {} } }
      s: { initial: c, states: { c: {}, d: {} } }
",
        "
create -> p.r.a,p.s.c; log +p
move   -> p.r.b,p.s.c
go     -> p.r.a,p.s.d; log -p +p
",
    );
}

#[test]
fn parallel_top_keeps_all_its_regions() {
    check(
        "
type: parallel
on: { jump: s.d }
states:
  r: { initial: a, states: { a: { on: { move: b, cross: s.d } }, b: {}, f: { type: final } }, on: { end: .f } }
  s: { initial: c, states: { c: {}, d: { on: { end: f } }, f: { type: final } } }
",
        "
create  -> r.a,s.c
move    -> r.b,s.c
jump    -> r.a,s.d
cross   -> r.a,s.d
recover -> r.a,s.c
jump    -> r.a,s.d
end     -> r.f,s.f; closed completed
",
    );
}

#[test]
fn guard_sees_the_configuration_of_the_moment() {
    check(
        r"
initial: p
states:
  p:
    type: parallel
    states:
      r: { initial: a, states: { a: { on: { go: { guard: '!(\'p.s.d\' in active)', target: b } } }, b: {} } }
      s: { initial: c, states: { c: { on: { on: d } }, d: { on: { off: c } } } }
    on: { out: { target: q, assign: { seen: active } } }
    exit: { assign: { text: 'string(size(active))' } }
  q: { entry: { assign: { n: size(active) } } }
"
        .replace(r"\'", "''")
        .as_str(),
        r#"
create -> p.r.a,p.s.c
on     -> p.r.a,p.s.d
go     -> refused guard_rejected
off    -> p.r.a,p.s.c
go     -> p.r.b,p.s.c
out    -> q; n=1; seen=[]; text="1"
"#,
    );
}

#[test]
fn a_state_that_targets_itself_does_not_survive_a_region_that_leaves() {
    check(
        "
initial: p
states:
  a: {}
  p:
    type: parallel
    states:
      r: { initial: r1, on: { go: a }, states: { r1: {} } }
      s: { initial: s1, states: { s1: { on: { go: { target: s1, actions: L(stayed) } } } } }
",
        "
create -> p.r.r1,p.s.s1
go     -> a; log stayed
",
    );
}
