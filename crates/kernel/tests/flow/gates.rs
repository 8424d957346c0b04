//! Validation and approval.

use crate::player::check;

const GATED: &str = "
flow: f
phases:
  a:
    validation: true
    approval: { by: [lead, owner], expires_after: 48h, four_eyes: true, reason: true }
  b: {}
";

#[test]
fn work_that_is_done_is_validated_and_then_approved_by_who_may() {
    check(
        GATED,
        r#"
        a.start by lead:ann => active 15%, a not_started>in_progress
        a.approve by lead:bob => refused invalid_transition: cannot approve `a` while it is in_progress
        a.submit by lead:ann => active 35%, a in_progress>waiting_validation
        a.complete => refused invalid_transition: cannot complete `a` while it is waiting_validation; it has to be validated
        a.validate => waiting_approval 40%, a waiting_validation>waiting_approval
        a.approve => refused permission_denied: say who wants to approve `a`: `by` is missing
        a.approve by intern => refused permission_denied: `intern` may not approve `a`; `lead`, `owner` may
        a.approve by leader => refused permission_denied: `leader` may not approve `a`; `lead`, `owner` may
        a.approve by lead:ann {"reason": "fine"} => refused permission_denied: `lead:ann` did the work of `a`; somebody else has to approve it
        a.approve by lead:bob => refused malformed_request: say why: to approve `a` takes a `reason`
        a.approve by lead:bob {"reason": "fine"} => active 50%, a waiting_approval>completed
        "#,
    );
}

#[test]
fn what_is_rejected_goes_back_to_work() {
    check(
        GATED,
        r#"
        a.start by ann => active 15%, a not_started>in_progress
        a.complete => active 35%, a in_progress>waiting_validation
        a.reject by bob {"reason": "half of it is missing"} => active 15%, a waiting_validation>in_progress
        a.complete by ann => active 35%, a in_progress>waiting_validation
        a.validate => waiting_approval 40%, a waiting_validation>waiting_approval
        a.reject by owner {"reason": "not now"} => active 15%, a waiting_approval>in_progress
        "#,
    );
}

#[test]
fn an_approval_that_does_not_come_in_time_has_failed() {
    check(
        GATED,
        r#"
        a.start by ann => active 15%, a not_started>in_progress
        a.complete => active 35%, a in_progress>waiting_validation
        a.validate => waiting_approval 40%, a waiting_validation>waiting_approval
        @172799 =>
        @172800 => @172800 a.approval_expired: error_recovery 0%, a waiting_approval>failed
        a.approve by owner {"reason": "late"} => refused invalid_transition: cannot approve `a` while it is failed
        "#,
    );
}

#[test]
fn an_approval_that_comes_too_late_is_refused_even_before_the_timer_has_fired() {
    let machine =
        crate::player::machine("{ flow: f, phases: { a: { approval: { expires_after: 1h } }, b: {} } }");
    let mut player = crate::player::Player::new(&machine, false);
    player.create(Default::default(), Default::default()).unwrap();
    for event in ["a.start", "a.complete"] {
        player.event(event, Default::default(), None).unwrap();
    }
    player.now = kernel::time::Timestamp::from_millis(3_600_000);
    let refusal = player.event("a.approve", Default::default(), None).unwrap_err();
    assert_eq!(refusal.code.as_str(), "expired");
    player.now = kernel::time::Timestamp::from_millis(3_599_999);
    player.event("a.approve", Default::default(), None).unwrap();
}

#[test]
fn where_four_eyes_are_wanted_somebody_must_have_said_who_did_the_work() {
    check(
        "{ flow: f, phases: { a: { approval: { four_eyes: true } }, b: {} } }",
        r#"
        a.start => active 15%, a not_started>in_progress
        a.submit => waiting_approval 40%, a in_progress>waiting_approval
        a.approve by bob => refused permission_denied: nobody said who did the work of `a`, so nobody else can be told apart; reject it, and hand it in with `by`
        a.reject by bob => active 15%, a waiting_approval>in_progress
        a.submit by ann => waiting_approval 40%, a in_progress>waiting_approval
        a.approve by ann => refused permission_denied: `ann` did the work of `a`; somebody else has to approve it
        a.approve by bob => active 50%, a waiting_approval>completed
        "#,
    );
}

#[test]
fn the_same_person_in_another_role_is_the_same_person() {
    check(
        "{ flow: f, phases: { a: { approval: { by: lead, four_eyes: true } }, b: {} } }",
        r#"
        a.start by ann => active 15%, a not_started>in_progress
        a.submit => waiting_approval 40%, a in_progress>waiting_approval
        a.approve by lead:ann => refused permission_denied: `lead:ann` did the work of `a`; somebody else has to approve it
        a.approve by lead:bob => active 50%, a waiting_approval>completed
        "#,
    );
}

#[test]
fn what_does_its_work_of_itself_may_be_approved_by_anybody_who_may() {
    check(
        "{ flow: f, phases: { a: { run: { http: scan }, approval: { by: lead, four_eyes: true } }, b: {} } }",
        r#"
        create => active 15%, a not_started>in_progress, calls scan {}
        a.done {} => waiting_approval 40%, a in_progress>waiting_approval
        a.approve by lead:ann => active 50%, a waiting_approval>completed
        "#,
    );
}

#[test]
fn nobody_agrees_with_himself_however_many_have_worked() {
    let machine =
        crate::player::machine("{ flow: f, phases: { a: { approval: { four_eyes: true } }, b: {} } }");
    let mut player = crate::player::Player::new(&machine, false);
    player.create(Default::default(), Default::default()).unwrap();
    player.event("a.start", Default::default(), Some("w")).unwrap();
    for number in 0..40 {
        let who = format!("w{number}");
        player.event("a.submit", Default::default(), Some(&who)).unwrap();
        let refusal = player.event("a.approve", Default::default(), Some(&who)).unwrap_err();
        assert_eq!(refusal.code.as_str(), "permission_denied", "{number}");
        player.event("a.reject", Default::default(), Some("lead")).unwrap();
    }
}
