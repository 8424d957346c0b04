//! What fails while it runs: an event that the chart may answer to, else a refusal that changes nothing.

use kernel::input::Fields;

use crate::player::{Player, check, machine};

#[test]
fn failing_action_ends_its_block_and_raises_an_error_that_the_chart_may_take() {
    check(
        "
initial: a
on: { error.execution: { target: failed, assign: { text: event.message } } }
states:
  a: { on: { go: { target: b, actions: [L(first), { assign: { n: event.n } }, L(second)] } } }
  b: { entry: L(+b) }
  failed: { entry: L(+failed), on: { again: a } }
",
        r#"
create       -> a
go           -> failed; log first +b +failed; text="`event.n`: event.n is missing"
again        -> a
go {"n": 1}  -> b; log first second +b; n=1
"#,
    );
}

#[test]
fn failure_that_no_state_takes_refuses_the_event_and_changes_nothing() {
    check(
        "
initial: a
states:
  a: { on: { go: { target: b, actions: [L(first), { assign: { n: event.n } }] } } }
  b: { on: { leave: { target: c, assign: { n: event.n } } } }
  c: { on: { error.execution: a } }
",
        r#"
create       -> a
go           -> refused expression_failed `go` failed in `a`: `event.n`: event.n is missing
go {"n": 2}  -> b; log first; n=2
leave        -> a
"#,
    );
}

#[test]
fn failing_guard_is_false_and_says_so_once_if_anything_listens() {
    check(
        "
initial: a
states:
  a:
    on:
      go: [{ guard: event.n > 0, target: b }, { guard: event.m > 0, target: c }]
      error.execution: { actions: L(oops) }
  b: { always: { guard: event.missing, target: c }, on: { error.execution: { actions: L(once) } } }
  c: { on: { go: { guard: event.n > 0, target: a } } }
",
        r#"
create             -> a
go                 -> a; log oops oops
go {"n": 0}        -> a; log oops
go {"n": 0, "m": 0} -> refused guard_rejected
go {"n": 1}        -> b; log once
"#,
    );
}

#[test]
fn failure_on_the_way_to_the_end_refuses_the_event() {
    check(
        "
initial: a
on: { error.execution: { actions: L(never) } }
states:
  a: { exit: { assign: { n: event.n } }, on: { stop: f } }
  f: { type: final }
",
        r#"
create        -> a
stop          -> refused expression_failed `stop` failed in `a`: `event.n`: event.n is missing
stop {"n": 3} -> f; n=3; closed f
"#,
    );
}

#[test]
fn evaluation_of_one_event_is_bounded_whatever_it_is_made_of() {
    let test = |name: &str| {
        format!("{{ guard: 'event.items.all(i, i == 0) && event.no == \"{name}\"', target: a }}")
    };
    let guards: Vec<String> = (0..60).map(|n| test(&n.to_string())).collect();
    let items = serde_json::to_string(&vec![0; 2_500]).unwrap();
    check(
        &format!("initial: a\nstates:\n  a: {{ on: {{ go: [{}] }} }}\n", guards.join(", ")),
        &format!(
            "
create -> a
go {{\"items\": [0, 0], \"no\": \"x\"}} -> refused guard_rejected
go {{\"items\": {items}, \"no\": \"x\"}} -> refused step_limit `go` takes more than 200000 steps of evaluation in `a`
"
        ),
    );
}

#[test]
fn what_is_copied_is_paid_for_as_what_is_computed() {
    let zeros = serde_json::to_string(&vec![0; 30_000]).unwrap();
    check(
        &format!(
            "
initial: a
states:
  a:
    on:
      go: {{ for_each: event.items, do: {{ raise: {{ event: z, data: {{ big: {zeros} }} }} }} }}
      z: {{ actions: L(z) }}
"
        ),
        r#"
create              -> a
go {"items": [0]}   -> a; log z
go {"items": [0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0]} -> refused step_limit `go` takes more than 200000 steps of evaluation in `a`
"#,
    );
}

#[test]
fn explanation_of_a_refusal_is_bounded_in_what_it_tells() {
    let guards = vec!["{ guard: event.x > 0, target: a }"; 70].join(", ");
    let machine = machine(&format!("initial: a\nstates:\n  a: {{ on: {{ go: [{guards}] }} }}\n"));
    let mut player = Player::new(&machine, false);
    player.create(Fields::new()).unwrap();
    let long = Fields::from_iter([("x".to_owned(), "y".repeat(900).into())]);
    let refusal = player.event("go", long).unwrap_err();
    assert_eq!(refusal.explain.len(), 50);
    let told = refusal.explain.iter().filter(|c| !c.guard.as_ref().unwrap().values.is_empty()).count();
    assert!((30..40).contains(&told), "{told}");
}

#[test]
fn many_regions_with_many_guards_stop_at_the_bound_and_so_does_telling_why() {
    let mut states = String::from("type: parallel\n");
    let guards = vec!["{ guard: size(active) < 0 }"; 200].join(", ");
    states += &format!("on: {{ go: [{guards}] }}\nstates:\n");
    (0..1_900).for_each(|n| states += &format!("  s{n}: {{}}\n"));
    let machine = machine(&states);
    let mut player = Player::new(&machine, false);
    player.create(Fields::new()).unwrap();
    let refusal = player.event("go", Fields::new()).unwrap_err();
    assert_eq!(refusal.code.as_str(), "step_limit");
    assert!(refusal.explain.len() <= 50);
}
