//! Conditional and repeated actions, and how much of them one event may run.

use crate::player::check;

#[test]
fn first_branch_whose_condition_holds_is_run() {
    check(
        "
initial: a
states:
  a:
    on:
      look:
        if: event.n > 10
        then: L(large)
        else:
          - { if: event.n > 5, then: [L(middle), { assign: { n: event.n } }], else: L(small) }
          - L(end)
",
        r#"
create         -> a
look {"n": 11} -> a; log large
look {"n": 6}  -> a; log middle end; n=6
look {"n": 1}  -> a; log small end
look {"n": "x"} -> refused expression_failed `look` failed in `a`: `event.n > 10`: `>` compares two numbers, two texts or two booleans, not text ("x") and a whole number (10)
"#,
    );
}

#[test]
fn list_is_gone_through_in_order_as_it_was_at_the_beginning() {
    check(
        "
initial: a
states:
  a:
    on:
      add:
        for_each: context.log + event.words
        do:
          - { assign: { log: 'context.log + [item + string(index)]' } }
          - { if: index == 1, then: { assign: { text: item } } }
      nest:
        for_each: event.rows
        as: row
        do:
          for_each: row.cells
          as: cell
          do: { assign: { log: 'context.log + [row.name + cell + string(index)]' } }
",
        r#"
create                       -> a
add {"words": ["x", "y"]}    -> a; log x0 y1; text="y"
add {"words": ["z"]}         -> a; log x00 y11 z2; text="y1"
nest {"rows": [{"name": "r", "cells": ["a", "b"]}, {"name": "s", "cells": ["c"]}]} -> a; log ra0 rb1 sc0
add {"words": 5}             -> refused expression_failed `add` failed in `a`: `context.log + event.words`: `+` takes two numbers, two texts or two lists, not a list and a whole number (5)
"#,
    );
}

#[test]
fn one_event_runs_a_bounded_number_of_actions() {
    let definition = "
initial: a
on:
  many: { for_each: event.items, do: { assign: { n: context.n + 1 } } }
  square: { for_each: event.items, do: { for_each: event.items, do: { assign: { n: context.n + 1 } } } }
  talk: { for_each: event.items, do: { reply: hi } }
states: { a: {} }
conversation: { intents: {}, replies: { hi: hi } }
";
    let items = |count: usize| format!("{{\"items\": {}}}", serde_json::to_string(&vec![0; count]).unwrap());
    let script = format!(
        "
create -> a
many {} -> a; n=1000
many {} -> refused expression_failed `many` failed in `a`: `for_each` takes 1000 items; `event.items` has 1001
square {} -> a; n=9836
square {} -> refused step_limit `square` runs more than 10000 actions in `a`
talk {} -> refused expression_failed `talk` failed in `a`: one event gives more than 32 replies
",
        items(1_000),
        items(1_001),
        items(94),
        items(200),
        items(33)
    );
    check(definition, &script);
}
