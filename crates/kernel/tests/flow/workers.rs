//! Work that workers take: leases, signs of life, and those that are not heard of again.

use crate::player::check;

const FLOW: &str = "
flow: f
context: { rows: { type: integer, default: 0 } }
phases:
  a: { run: { worker: import }, lease: 60s, retry: { attempts: 2, backoff: 10s } }
  b: { run: person }
";

#[test]
fn a_worker_that_is_heard_of_keeps_what_it_has_taken() {
    check(
        FLOW,
        r#"
        a.claim {"worker": "w1", "lease": "t1"} => active 15%, a not_started>in_progress
        a.claim {"worker": "w2", "lease": "t2"} => refused invalid_transition: cannot claim `a` while it is in_progress
        @50 =>
        a.heartbeat {"lease": "t1", "progress": 0.5} => active 25%
        @100 =>
        a.progress {"progress": 0.9} => refused lease_lost: `w1` has the phase `a`; send its `lease`, or fail the phase
        a.progress {"lease": "t1", "progress": 0.4} => active 25%
        a.progress {"lease": "t1", "progress": 1.5} => refused malformed_request: `progress` must be a number from 0 to 1, not 1.5
        a.complete {"lease": "t1", "output": {"rows": "many"}} => refused malformed_request: output.rows must be a whole number, not "many"
        a.complete {"lease": "t1", "output": {"row": 7}} => refused malformed_request: output.row is no field of the context; did you mean `rows`?
        a.complete {"lease": "t1", "output": {"rows": 7}} => active 50%, a in_progress>completed
        a.complete {"lease": "t1"} => refused lease_lost: the lease on `a` is lost: it has run out, or the phase has moved on
        "#,
    );
}

#[test]
fn what_a_worker_has_lost_is_there_for_the_next_and_its_late_word_is_refused() {
    check(
        FLOW,
        r#"
        a.claim {"worker": "w1", "lease": "t1", "lasts": "30s"} => active 15%, a not_started>in_progress
        @30 => @30 a.lease_expired: retry_pending 5%, a in_progress>retry_needed
        a.complete {"lease": "t1"} => refused lease_lost: the lease on `a` is lost: it has run out, or the phase has moved on
        a.claim {"worker": "w2", "lease": "t2"} => active 15%, a retry_needed>in_progress
        a.complete {"lease": "t1"} => refused lease_lost: the lease on `a` is lost: `w2` has the phase now
        a.fail {"lease": "t2", "error": {"code": "AGENT_TIMEOUT"}} => retry_pending 5%, a in_progress>retry_needed
        a.claim {"worker": "w2", "lease": "t3"} => refused invalid_transition: `a` is to be tried again at 1970-01-01T00:00:40.000Z, not before
        @40 => @40 a.retry_due: retry_pending 5%
        a.claim {"worker": "w2", "lease": "t3"} => active 15%, a retry_needed>in_progress
        a.complete {"lease": "t3"} => active 50%, a in_progress>completed
        "#,
    );
}

#[test]
fn what_makes_every_worker_vanish_has_failed_in_the_end() {
    let machine = crate::player::machine("{ flow: f, phases: { a: {}, b: {} } }");
    let mut player = crate::player::Player::new(&machine, false);
    player.create(Default::default(), Default::default()).unwrap();
    let mut statuses = Vec::new();
    for number in 0..10 {
        let claim = serde_json::json!({ "worker": "w", "lease": format!("t{number}"), "lasts": "1s" });
        player.event("a.claim", claim.as_object().unwrap().clone(), None).unwrap();
        let due = player.snapshot.as_ref().unwrap().timers[0].clone();
        player.now = due.deadline;
        let cause = kernel::input::Cause::Timer {
            instance: player.snapshot.as_ref().unwrap().instance.clone(),
            timer: due.id.to_string(),
            deadline: due.deadline,
        };
        statuses.push(player.give(cause, None).unwrap().entry.to);
    }
    assert_eq!(statuses[..9], ["retry_pending"; 9]);
    assert_eq!(statuses[9], "error_recovery");
}

#[test]
fn a_phase_for_people_is_not_for_workers() {
    check(
        FLOW,
        r#"
        b.claim {"worker": "w1", "lease": "t1"} => refused invalid_transition: `b` is not for workers to take
        b.heartbeat => refused invalid_transition: cannot heartbeat `b` while it is not_started
        b.start by ann => active 15%, b not_started>in_progress
        b.heartbeat => refused invalid_transition: cannot heartbeat `b` while it is in_progress; no worker has it
        "#,
    );
}

#[test]
fn an_operator_can_take_a_phase_from_a_worker_by_failing_it() {
    check(
        FLOW,
        r#"
        a.claim {"worker": "w1", "lease": "t1"} => active 15%, a not_started>in_progress
        a.fail by ann {"error": {"code": "PERMISSION_DENIED"}} => error_recovery 0%, a in_progress>failed
        a.complete {"lease": "t1"} => refused lease_lost: the lease on `a` is lost: it has run out, or the phase has moved on
        "#,
    );
}

#[test]
fn what_was_sent_back_is_there_for_any_worker() {
    check(
        "{ flow: f, phases: { a: { validation: true }, b: {} } }",
        r#"
        a.claim {"worker": "w1", "lease": "t1"} => active 15%, a not_started>in_progress
        a.complete {"lease": "t1"} => active 35%, a in_progress>waiting_validation
        a.reject => active 15%, a waiting_validation>in_progress
        a.claim {"worker": "w2", "lease": "t2"} => active 15%
        a.complete {"lease": "t2"} => active 35%, a in_progress>waiting_validation
        a.validate => active 50%, a waiting_validation>completed
        "#,
    );
}

#[test]
fn a_phase_of_which_nobody_can_say_whether_it_applies_is_not_offered() {
    let machine = crate::player::machine(
        "{ flow: f, context: { l: { type: array, items: integer, default: [] } }, phases: { a: { when: 'context.l[0] > 1' }, b: {} } }",
    );
    let mut player = crate::player::Player::new(&machine, false);
    let created = player.create(Default::default(), Default::default()).unwrap();
    assert_eq!(created.phases.iter().map(|row| row.offered_at.is_some()).collect::<Vec<_>>(), [false, true]);
    let view = kernel::flow::FlowView::of(&machine, created.after.as_ref().unwrap(), player.now).unwrap();
    assert_eq!(view.phases[0].waits_for.as_deref(), Some("its condition to be worked out"));
}
