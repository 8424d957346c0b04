//! Assignments: their types and bounds, and that a failed one changes nothing.

use crate::player::{Player, check, machine};
use kernel::input::Fields;
use serde_json::{Value, json};

#[test]
fn assignment_of_a_wrong_type_is_refused_and_changes_nothing() {
    check(
        "
initial: a
states:
  a:
    exit: L(-a)
    on:
      wrong: { target: b, assign: { n: event.x } }
      late: { target: c, actions: L(late) }
      missing: { target: b, assign: { n: event.nothing } }
  b: {}
  c: { entry: { assign: { log: 'context.log + [event.x]' } } }
",
        r#"
create            -> a
wrong {"x": "1"}  -> refused expression_failed `wrong` failed in `a`: context.n must be a whole number, not "1"
wrong {"x": null} -> refused expression_failed `wrong` failed in `a`: context.n must be a whole number, not null
late {"x": 1}     -> refused expression_failed `late` failed in `a`: context.log has 1 at [2], which must be text
missing           -> refused expression_failed `missing` failed in `a`: `event.nothing`: event.nothing is missing
wrong {"x": 3}    -> b; log -a; n=3
"#,
    );
}

#[test]
fn assignments_see_the_ones_before_them() {
    check(
        "
initial: a
states:
  a: { on: { go: { actions: [{ assign: { n: context.n + 1 } }, { assign: { n: context.n * 10, text: 'string(context.n)' } }] } } }
",
        r#"
create -> a
go     -> a; n=10; text="10"
go     -> a; n=110; text="110"
"#,
    );
}

#[test]
fn fractions_are_read_back_to_the_last_bit() {
    check(
        "
initial: a
states:
  a: { on: { go: { assign: { seen: '0.6 + 1.0 / 3.0' } }, same: { guard: 'context.seen == 0.6 + 1.0 / 3.0', actions: L(same) } } }
",
        "
create -> a
go     -> a; seen=0.9333333333333333
same   -> a; log same
",
    );
}

const GROWING: &str = "
initial: a
states:
  a:
    on:
      keep: { assign: { seen: event.x } }
      nest: { assign: { seen: '[context.seen]' } }
      double: { assign: { text: '(context.text == null ? event.x : context.text) + (context.text == null ? event.x : context.text)' } }
";

fn one(name: &str, value: Value) -> Fields {
    Fields::from_iter([(name.to_owned(), value)])
}

fn nested(levels: usize) -> Value {
    (0..levels).fold(json!(1), |inner, _| json!([inner]))
}

#[test]
fn context_grows_up_to_its_bound_and_no_further() {
    let machine = machine(GROWING);
    let mut player = Player::new(&machine, true);
    player.create(Fields::new()).unwrap();
    let refused = |mut step: Box<
        dyn FnMut() -> Result<kernel::commit::Commit, kernel::refusal::Refusal> + '_,
    >| { std::iter::repeat_with(&mut step).take(100).find_map(Result::err) };
    let big = refused(Box::new(|| player.event("double", one("x", json!("x".repeat(1024)))))).unwrap();
    assert_eq!(big.code.as_str(), "expression_failed");
    assert_eq!(big.message, "`double` failed in `a`: context.text is larger than 256 KiB");
    // Each value is within the bound, both together are not.
    let both = player.event("keep", one("x", json!("x".repeat(200 * 1024)))).unwrap_err();
    assert_eq!(both.message, "`keep` failed in `a`: the context is larger than 256 KiB");
    let deep = refused(Box::new(|| player.event("nest", Fields::new()))).unwrap();
    assert_eq!(deep.message, "`nest` failed in `a`: context.seen is nested deeper than 64 levels");
    player.event("keep", one("x", json!(1))).unwrap();
}

#[test]
fn context_given_and_payload_beyond_the_bound_are_refused() {
    let machine = machine(GROWING);
    let mut player = Player::new(&machine, true);
    for (value, problem) in [
        (nested(65), "is nested deeper than 64 levels"),
        (json!("x".repeat(300_000)), "is larger than 256 KiB"),
    ] {
        let refusal = player.create(one("seen", value)).unwrap_err();
        assert_eq!(refusal.code.as_str(), "invalid_context");
        assert_eq!(refusal.message, format!("the context {problem}"));
    }
    player.create(one("seen", nested(64))).unwrap();
    let refusal = player.event("keep", one("x", nested(65))).unwrap_err();
    assert_eq!(refusal.code.as_str(), "invalid_context");
    assert_eq!(refusal.message, "the payload is nested deeper than 64 levels");
    player.event("keep", one("x", nested(64))).unwrap();
}
