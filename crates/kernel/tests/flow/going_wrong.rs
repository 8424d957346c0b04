//! Errors, retries, recipes and rollbacks.

use crate::player::check;

const RETRIED: &str = "
flow: f
phases:
  a: { retry: { attempts: 3, backoff: 30s } }
  b: { needs: [a] }
";

#[test]
fn an_error_that_passes_is_retried_with_growing_pauses_until_it_was_tried_often_enough() {
    check(
        RETRIED,
        r#"
        a.start => active 15%, a not_started>in_progress
        a.fail {"error": {"code": "EXTERNAL_SERVICE_ERROR"}} => retry_pending 5%, a in_progress>retry_needed
        @29 =>
        @30 => @30 a.retry_due: retry_pending 5%
        a.start => active 15%, a retry_needed>in_progress
        a.fail {"error": {"code": "AGENT_TIMEOUT"}} => retry_pending 5%, a in_progress>retry_needed
        @89 =>
        @90 => @90 a.retry_due: retry_pending 5%
        a.start => active 15%, a retry_needed>in_progress
        a.fail {"error": {"code": "AGENT_TIMEOUT"}} => failed 0%, a in_progress>failed
        a.retry => refused retry_limit: `a` was tried 3 times, which is all that it may be; roll it back to begin afresh
        a.rollback => error_recovery 0%, a failed>rolled_back
        a.start => active 15%, a rolled_back>in_progress
        a.fail {"error": {"code": "AGENT_TIMEOUT"}} => retry_pending 5%, a in_progress>retry_needed
        "#,
    );
}

#[test]
fn an_error_that_stays_is_not_retried_by_itself() {
    check(
        RETRIED,
        r#"
        a.start => active 15%, a not_started>in_progress
        a.fail {"error": {"code": "DATA_VALIDATION_FAILED", "message": "no header"}} => failed 0%, a in_progress>failed
        a.retry by ann => retry_pending 5%, a failed>retry_needed
        a.start => active 15%, a retry_needed>in_progress
        a.complete => active 50%, a in_progress>completed
        "#,
    );
}

#[test]
fn a_phase_that_says_nothing_of_retries_fails_and_may_be_retried_by_hand() {
    check(
        "{ flow: f, phases: { a: {}, b: {} } }",
        r#"
        a.start => active 15%, a not_started>in_progress
        a.fail => error_recovery 0%, a in_progress>failed
        b.start => error_recovery 15%, b not_started>in_progress
        b.complete => failed 50%, b in_progress>completed
        a.retry => retry_pending 55%, a failed>retry_needed
        a.start => active 65%, a retry_needed>in_progress
        a.complete => completed 100%, a in_progress>completed
        "#,
    );
}

#[test]
fn a_recipe_says_what_is_done_about_an_error() {
    check(
        "
flow: f
phases:
  a: {}
  b: { needs: [a] }
  c: { needs: [b], on_error: { BAD_DATA: { rollback: a }, FLAKY: retry, '*': fail } }
on_error: { AGENT_TIMEOUT: retry, FLAKY: fail }
",
        r#"
        a.start => active 10%, a not_started>in_progress
        a.complete => active 33%, a in_progress>completed
        b.start => active 43%, b not_started>in_progress
        b.fail {"error": {"code": "FLAKY"}} => failed 33%, b in_progress>failed
        b.retry => retry_pending 37%, b failed>retry_needed
        b.start => active 43%, b retry_needed>in_progress
        b.complete => active 67%, b in_progress>completed
        c.start => active 77%, c not_started>in_progress
        c.fail {"error": {"code": "FLAKY"}} => retry_pending 70%, c in_progress>retry_needed
        @10 => @10 c.retry_due: retry_pending 70%
        c.start => active 77%, c retry_needed>in_progress
        c.fail {"error": {"code": "BAD_DATA"}} => error_recovery 0%, c in_progress>failed, a completed>rolled_back, b completed>rolled_back, c failed>rolled_back
        "#,
    );
}

#[test]
fn a_recipe_rolls_back_three_times_and_then_somebody_has_to_look() {
    let round = r#"
        a.start =>
        a.complete =>
        b.start =>
        b.fail {"error": {"code": "BAD_DATA"}} =>"#;
    let machine = crate::player::machine(
        "{ flow: f, phases: { a: {}, b: { needs: [a], on_error: { BAD_DATA: { rollback: a } } } } }",
    );
    let mut player = crate::player::Player::new(&machine, false);
    player.create(Default::default(), Default::default()).unwrap();
    let mut ends = Vec::new();
    for _ in 0..4 {
        for line in round.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let (event, payload) =
                line.trim_end_matches(" =>").split_once(' ').unwrap_or((line.trim_end_matches(" =>"), "{}"));
            let payload = serde_json::from_str(payload).unwrap();
            let commit = player.event(event, payload, None).unwrap();
            if event == "b.fail" {
                ends.push(commit.entry.to);
            }
        }
    }
    assert_eq!(ends, ["error_recovery", "error_recovery", "error_recovery", "failed"]);
    // What has been completed since then has a clean slate.
    for event in ["b.retry", "b.start", "b.complete", "b.rollback", "b.start"] {
        player.event(event, Default::default(), None).unwrap();
    }
    let bad = serde_json::json!({ "error": { "code": "BAD_DATA" } });
    let commit = player.event("b.fail", bad.as_object().unwrap().clone(), None).unwrap();
    assert_eq!(commit.entry.to, "error_recovery");
}

#[test]
fn what_takes_too_long_has_failed() {
    check(
        "{ flow: f, phases: { a: { timeout: 1m, retry: 2 }, b: {} } }",
        r#"
        a.start => active 15%, a not_started>in_progress
        @59 =>
        @60 => @60 a.timed_out: retry_pending 5%, a in_progress>retry_needed
        a.start => active 15%, a retry_needed>in_progress
        @120 => @120 a.timed_out: error_recovery 0%, a in_progress>failed
        "#,
    );
}

const DIAMOND: &str = "
flow: f
phases:
  top: {}
  left: { needs: [top] }
  right: { needs: [top], approval: true }
  bottom: { needs: [left, right] }
  apart: {}
";

#[test]
fn rolling_back_the_top_of_a_diamond_reopens_all_that_was_built_on_it_once() {
    check(
        DIAMOND,
        r#"
        top.start => active 6%, top not_started>in_progress
        top.complete => active 20%, top in_progress>completed
        apart.start => active 26%, apart not_started>in_progress
        left.start => active 32%, left not_started>in_progress
        left.complete => active 46%, left in_progress>completed
        bottom.start => refused needs_missing: `bottom` needs `right` to be completed first
        right.start => active 52%, right not_started>in_progress
        right.complete => waiting_approval 62%, right in_progress>waiting_approval
        top.rollback => error_recovery 6%, top completed>rolled_back, left completed>rolled_back, right waiting_approval>failed>rolled_back
        left.start => refused needs_missing: `left` needs `top` to be completed first
        top.start => error_recovery 12%, top rolled_back>in_progress
        top.complete => error_recovery 26%, top in_progress>completed
        left.start => error_recovery 32%, left rolled_back>in_progress
        "#,
    );
}

#[test]
fn having_a_completed_phase_done_again_reopens_what_was_built_on_it() {
    check(
        DIAMOND,
        r#"
        top.start => active 6%, top not_started>in_progress
        top.complete => active 20%, top in_progress>completed
        left.start => active 26%, left not_started>in_progress
        top.retry => retry_pending 2%, top completed>retry_needed, left in_progress>failed>rolled_back
        left.start => refused needs_missing: `left` needs `top` to be completed first
        top.start => error_recovery 6%, top retry_needed>in_progress
        "#,
    );
}

#[test]
fn a_flow_that_is_complete_can_be_reopened() {
    check(
        "{ flow: f, phases: { a: {}, b: { needs: [a] } } }",
        r#"
        a.start => active 15%, a not_started>in_progress
        a.complete => active 50%, a in_progress>completed
        b.start => active 65%, b not_started>in_progress
        b.complete => completed 100%, b in_progress>completed
        pause => refused invalid_transition: the flow is completed; there is nothing to pause
        cancel => refused invalid_transition: the flow is completed; there is nothing to cancel
        b.rollback => error_recovery 50%, b completed>rolled_back
        b.start => active 65%, b rolled_back>in_progress
        b.complete => completed 100%, b in_progress>completed
        "#,
    );
}

#[test]
fn what_is_said_at_length_is_kept_in_short_and_logged_whole() {
    let machine = crate::player::machine("{ flow: f, phases: { a: {}, b: {} } }");
    let mut player = crate::player::Player::new(&machine, true);
    player.create(Default::default(), Default::default()).unwrap();
    player.event("a.start", Default::default(), None).unwrap();
    let long = "é".repeat(30_000);
    let payload = serde_json::json!({
        "reason": long,
        "error": { "code": "AGENT_TIMEOUT", "message": long, "trace": long },
    });
    let commit = player.event("a.fail", payload.as_object().unwrap().clone(), None).unwrap();
    let written = serde_json::to_string(&commit.after).unwrap().len();
    assert!(written < 6_000, "{written} bytes");
    assert_eq!(commit.entry.payload, *payload.as_object().unwrap());
    let named = serde_json::json!({ "worker": "w".repeat(301), "lease": "t" });
    let refusal = player.event("b.claim", named.as_object().unwrap().clone(), None).unwrap_err();
    assert_eq!(refusal.message, "`worker` has 301 bytes; 300 are allowed");
}

#[test]
fn a_recipe_for_one_error_says_nothing_of_another() {
    check(
        "{ flow: f, phases: { a: {}, b: {} }, on_error: { EXTERNAL_SERVICE_ERROR: retry } }",
        r#"
        a.start => active 15%, a not_started>in_progress
        a.fail {"error": {"code": "EXTERNAL_SERVICE_ERROR"}} => retry_pending 5%, a in_progress>retry_needed
        b.start => retry_pending 20%, b not_started>in_progress
        b.fail {"error": {"code": "AGENT_TIMEOUT"}} => error_recovery 5%, b in_progress>failed
        "#,
    );
}
