//! Phases that are done of themselves: calls, flows of their own, and waiting for another flow.

use crate::player::check;

#[test]
fn a_phase_that_calls_starts_by_itself_and_is_done_when_the_call_is() {
    check(
        "
flow: f
context: { n: { type: integer, default: 3 }, found: { type: integer, default: 0 } }
phases:
  a: { run: { http: inventory.scan, input: { depth: context.n, deep: true } }, output: { found: event.assets }, retry: { attempts: 2, backoff: 5s } }
  b: { needs: [a] }
",
        r#"
        create => active 15%, a not_started>in_progress, calls inventory.scan {"deep":true,"depth":3}
        a.failed {"code": "unreachable", "message": "nobody answers"} => retry_pending 5%, a in_progress>retry_needed
        @5 => @5 a.retry_due: active 15%, a retry_needed>in_progress, calls inventory.scan {"deep":true,"depth":3}
        a.done {"assets": 12} => active 50%, a in_progress>completed
        a.done {"assets": 13} => refused call_over: the flow waits for no call `none`; it has been answered, left or ended
        "#,
    );
}

#[test]
fn a_result_that_does_not_fit_is_a_failure_of_its_phase() {
    check(
        "
flow: f
context: { found: { type: integer, default: 0 } }
phases:
  a: { run: { http: scan }, output: { found: event.assets } }
  b: {}
",
        r#"
        create => active 15%, a not_started>in_progress, calls scan {}
        a.done {"assets": "many"} => error_recovery 0%, a in_progress>failed
        a.retry => active 15%, a failed>retry_needed>in_progress, calls scan {}
        a.done {} => error_recovery 0%, a in_progress>failed
        "#,
    );
}

#[test]
fn what_a_result_brings_is_kept_by_its_name_unless_the_phase_says_what_is() {
    let flow = |output: &str| {
        format!(
            "
flow: f
context: {{ n: {{ type: integer, default: 0 }}, m: {{ type: integer, default: 0 }} }}
phases:
  a: {{ run: {{ http: scan }}{output} }}
  b: {{ needs: [a], run: {{ http: use, input: {{ n: context.n, m: context.m }} }} }}
"
        )
    };
    for (output, kept) in [("", (1, 2)), (", output: { m: event.n }", (0, 1)), (", output: {}", (0, 0))] {
        let (n, m) = kept;
        let lines = format!(
            r#"
            create => active 15%, a not_started>in_progress, calls scan {{}}
            a.done {{"n": 1, "m": 2, "other": 3}} => active 65%, a in_progress>completed, b not_started>in_progress, calls use {{"m":{m},"n":{n}}}
            "#
        );
        check(&flow(output), &lines);
    }
}

const PARENT: &str = "
flow: f
context: { left: { type: integer, default: 0 } }
phases:
  a: { run: { flow: cleaning, context: { rows: '7' } } }
  b: { needs: [a] }
";

#[test]
fn a_phase_that_is_a_flow_of_its_own_goes_as_that_flow_goes() {
    check(
        PARENT,
        r#"
        create => active 15%, a not_started>in_progress, begin the flow `cleaning` as `f-1.a.1`
        pause => paused 15%, `pause` to `f-1.a.1`
        resume => active 15%, `resume` to `f-1.a.1`
        a.failed {"code": "CHILD_FLOW_FAILED", "message": "x"} => failed 0%, a in_progress>failed
        a.retry => active 15%, a failed>retry_needed>in_progress, begin the flow `cleaning` as `f-1.a.5`
        a.retry => active 15%, a in_progress>retry_needed>in_progress, `cancel` to `f-1.a.5`, begin the flow `cleaning` as `f-1.a.6`
        a.done {"left": 4, "other": 5} => active 50%, a in_progress>completed
        a.rollback => active 15%, a completed>rolled_back>in_progress, begin the flow `cleaning` as `f-1.a.8`
        cancel => cancelled 15%, `cancel` to `f-1.a.8`
        "#,
    );
}

#[test]
fn a_flow_tells_those_who_wait_for_it_when_it_is_over() {
    check(
        "{ flow: f, phases: { a: {} } }",
        r#"
        watch {"instance": "g-1", "call": "g-1:1:0"} => initialized 0%
        watch {"instance": "g-1", "call": "g-1:1:0"} => initialized 0%
        watch {"instance": "g-2"} => refused malformed_request: `watch` needs the `instance` that is to be told and the `call` that waits
        a.start => active 30%, a not_started>in_progress
        a.complete => completed 100%, a in_progress>completed, done to `g-1`
        watch {"instance": "g-3", "call": "g-3:1:0"} => completed 100%, done to `g-3`
        a.rollback => error_recovery 0%, a completed>rolled_back
        cancel => cancelled 0%
        watch {"instance": "g-4", "call": "g-4:1:0"} => cancelled 0%, failed to `g-4`
        "#,
    );
}

#[test]
fn a_phase_can_wait_for_another_flow() {
    check(
        "
flow: f
context: { upstream: { type: string, default: g-9 } }
phases:
  a: { run: { wait_for: context.upstream } }
  b: { needs: [a], run: { wait_for: \"'f-1'\" } }
",
        r#"
        create => active 15%, a not_started>in_progress, `watch` to `g-9`
        a.done {} => failed 50%, a in_progress>completed, b not_started>in_progress>failed
        "#,
    );
}

#[test]
fn what_is_sent_back_is_not_begun_again_while_the_flow_is_paused() {
    check(
        "{ flow: f, phases: { a: { run: { http: scan }, validation: true }, b: {} } }",
        r#"
        create => active 15%, a not_started>in_progress, calls scan {}
        a.done {} => active 35%, a in_progress>waiting_validation
        pause => paused 35%
        a.reject => refused flow_paused: the flow is paused, so `a` cannot begin again; resume it first
        resume => active 35%
        a.reject => active 15%, a waiting_validation>in_progress, calls scan {}
        "#,
    );
}

#[test]
fn only_the_flow_itself_says_that_it_is_completed() {
    let machine = crate::player::machine(PARENT);
    let mut player = crate::player::Player::new(&machine, false);
    player.create(Default::default(), Default::default()).unwrap();
    let snapshot = player.snapshot.clone().unwrap();
    let result = kernel::input::Cause::Result {
        instance: snapshot.instance.clone(),
        call: snapshot.invocations[0].key.clone(),
        outcome: kernel::input::CallOutcome::Done(Default::default()),
    };
    for by in [None, Some("ann"), Some("flow:f-2")] {
        assert_eq!(player.give(result.clone(), by).unwrap_err().code.as_str(), "permission_denied");
    }
    assert_eq!(player.give(result, Some("flow:f-1.a.1")).unwrap().entry.to, "active");
}

#[test]
fn a_flow_does_not_begin_again_below_itself() {
    let machine = crate::player::machine("{ flow: inner, phases: { a: { run: { flow: outer } } } }");
    let mut player = crate::player::Player::new(&machine, false);
    let parent = kernel::flow::ParentCall {
        instance: kernel::id::InstanceId::parse("o-1").unwrap(),
        call: "o-1:1:0".into(),
        above: vec![kernel::id::MachineName::parse("outer").unwrap()],
    };
    let start = kernel::input::Start { parent: Some(parent), ..Default::default() };
    let commit = player.create(Default::default(), start).unwrap();
    let error = crate::player::answer(&commit).moved[1].error.clone().unwrap();
    assert_eq!(error.message, "the flow `outer` would be a phase of itself, without end");
    // Whoever waits above is told.
    assert_eq!(commit.effects.len(), 1);
}
