//! Events that are raised to come later: set, replaced, cancelled, delivered.

use crate::player::check;

#[test]
fn delayed_event_comes_with_the_data_of_its_setting_wherever_the_instance_is() {
    check(
        "
initial: a
on: { remind: { actions: [L(reminded), { assign: { seen: event, text: event_name } }] } }
states:
  a: { entry: { raise: { event: remind, delay: 1m, data: { n: context.n, word: \"'hi'\", fixed: [1] } } }, on: { go: { assign: { n: 5 }, target: b } } }
  b: { after: { 30s: a } }
",
        r#"
create -> a; timers remind@60
go     -> b; n=5; timers remind@60 after.30s.b@30
@40    -> after.30s.b: a; timers remind@100
@100   -> remind: a; log reminded; seen={"fixed":[1],"n":5,"word":"hi"}; text="remind"; timers none
"#,
    );
}

#[test]
fn delayed_event_is_replaced_under_its_id_and_cancelled_by_it() {
    check(
        "
initial: a
on:
  soon: { raise: { event: ring, delay: 10s, id: alarm } }
  late: { raise: { event: ring, delay: \"event.minutes * 60000\", id: alarm } }
  other: { raise: { event: ring, delay: 20s } }
  calm: { cancel: alarm }
  ring: { actions: L(ring) }
states: { a: {} }
",
        r#"
create               -> a
soon                 -> a; timers alarm@10
late {"minutes": 2}  -> a; timers alarm@120
other                -> a; timers alarm@120 ring@20
calm                 -> a; timers ring@20
calm                 -> a
@60                  -> ring: a; log ring; timers none
late {"minutes": -1} -> a; timers alarm@60
@61                  -> alarm: a; log ring; timers none
late {"minutes": 0.5} -> refused expression_failed `late` failed in `a`: the delay `event.minutes * 60000` must be whole milliseconds, not 30000.0
"#,
    );
}

#[test]
fn delayed_event_that_nothing_takes_when_it_is_due_is_spent() {
    check(
        "
initial: a
states:
  a: { on: { go: { target: b, raise: { event: ring, delay: 10s } } } }
  b: { on: { back: c } }
  c: { on: { ring: a } }
",
        "
create -> a
go     -> b; timers ring@10
@10    -> ring: b; invalid_transition; timers none
",
    );
}

#[test]
fn ending_drops_what_was_delayed() {
    check(
        "
initial: a
on: { ring: { actions: L(ring) } }
states:
  a: { entry: { raise: { event: ring, delay: 10s } }, on: { stop: f } }
  f: { type: final, output: { n: context.n, log: context.log } }
",
        r#"
create -> a; timers ring@10
stop   -> f; timers none; closed f with {"log":[],"n":0}
@10    -> nothing is due
"#,
    );
}

#[test]
fn event_that_raises_itself_after_no_time_at_all_lets_others_come_in_between() {
    check(
        "
initial: a
states:
  a: { on: { tick: { actions: [L(tick), { raise: { event: tick, delay: context.n } }] } } }
",
        "
create -> a
tick   -> a; log tick; timers tick@0
@1     -> tick: a; log tick; timers tick@1
",
    );
}

#[test]
fn event_may_be_called_as_anything_of_the_machine_is() {
    check(
        "
initial: a
states:
  a: { entry: { raise: { event: clarification, delay: 5s } }, on: { clarification: b } }
  b: {}
",
        "
create -> a; timers clarification@5
@10    -> clarification: b; timers none
",
    );
}
