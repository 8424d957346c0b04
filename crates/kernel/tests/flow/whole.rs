//! The whole flow: order, conditions, milestones, pauses, cancelling, old records.

use crate::player::check;

#[test]
fn the_status_tells_how_far_a_flow_has_come() {
    check(
        include_str!("../../../../machines/discovery.yaml"),
        r#"
        field_mapping.start => refused needs_missing: `field_mapping` needs `data_import` to be completed first
        data_import.start => data_gathering 4%, data_import not_started>in_progress
        data_import.submit => data_gathering 10%, data_import in_progress>waiting_validation
        data_import.validate => data_gathering 14%, data_import waiting_validation>completed
        field_mapping.start => discovery 19%, field_mapping not_started>in_progress
        field_mapping.submit => waiting_approval 26%, field_mapping in_progress>waiting_approval
        field_mapping.approve by engagement_lead => discovery 29%, field_mapping waiting_approval>completed
        data_cleansing.start => discovery 37%, data_cleansing not_started>in_progress
        data_cleansing.complete => discovery 57%, data_cleansing in_progress>completed
        asset_inventory.start => discovery 61%, asset_inventory not_started>in_progress
        asset_inventory.complete {"output": {"assets": 1}} => assessment_ready 83%, asset_inventory in_progress>completed
        dependency_analysis.start => refused not_applicable: `dependency_analysis` does not apply to this flow: `context.assets > 1` is false
        tech_debt.start => assessment_ready 88%, tech_debt not_started>in_progress
        tech_debt.complete => completed 100%, tech_debt in_progress>completed
        "#,
    );
}

#[test]
fn a_condition_is_asked_once_and_again_after_a_rollback() {
    check(
        "
flow: f
context: { n: { type: integer, default: 0 } }
phases:
  a: { output: { n: event.count } }
  b: { needs: [a], when: context.n > 1 }
  c: { needs: [b], when: context.n > 0 }
",
        r#"
        a.start => active 10%, a not_started>in_progress
        a.complete {"output": {"count": 0}} => completed 100%, a in_progress>completed
        a.rollback => error_recovery 0%, a completed>rolled_back
        a.start => active 10%, a rolled_back>in_progress
        a.complete {"output": {"count": 1}} => active 50%, a in_progress>completed
        c.start => active 65%, c not_started>in_progress
        a.rollback => error_recovery 0%, a completed>rolled_back, c in_progress>failed>rolled_back
        a.start => error_recovery 10%, a rolled_back>in_progress
        a.complete {"output": {"count": 2}} => error_recovery 33%, a in_progress>completed
        c.start => refused needs_missing: `c` needs `b` to be completed first
        b.start => error_recovery 43%, b not_started>in_progress
        "#,
    );
}

#[test]
fn a_condition_that_cannot_be_worked_out_keeps_its_phase_from_starting() {
    check(
        "
flow: f
context: { list: { type: array, items: integer, default: [] } }
phases:
  a: { output: { list: event.list } }
  b: { when: 'context.list[0] > 1' }
",
        r#"
        b.start => refused expression_failed: whether `b` applies cannot be worked out: `context.list[0] > 1`: context.list has 0 items and none at a whole number (0); the first is at 0
        a.start => active 15%, a not_started>in_progress
        a.complete {"output": {"list": [2]}} => active 50%, a in_progress>completed
        b.start => active 65%, b not_started>in_progress
        "#,
    );
    // Nor does one start that would start by itself.
    check(
        "
flow: f
context: { list: { type: array, items: string, default: [] } }
phases:
  a: { output: { list: event.list } }
  b: { when: \"context.list[0] != ''\", run: { wait_for: 'context.list[0]' } }
",
        r#"
        create => initialized 0%
        a.start => active 15%, a not_started>in_progress
        a.complete {"output": {"list": ["g-9"]}} => active 50%, a in_progress>completed
        b.start => active 65%, b not_started>in_progress, `watch` to `g-9`
        "#,
    );
}

#[test]
fn while_a_flow_is_paused_nothing_begins_and_no_time_passes() {
    check(
        "
flow: f
phases:
  a: { timeout: 60s, retry: { attempts: 3, backoff: 20s } }
  b: { run: { http: check } , needs: [a] }
  c: {}
",
        r#"
        a.start => active 10%, a not_started>in_progress
        @50 =>
        pause by ann {"reason": "budget"} => paused 10%
        pause => refused invalid_transition: the flow is paused; resume it first
        c.start => refused flow_paused: the flow is paused, so `c` cannot begin; resume it first
        @500 =>
        resume => active 10%
        @509 =>
        @510 => @510 a.timed_out: retry_pending 3%, a in_progress>retry_needed
        a.start => active 10%, a retry_needed>in_progress
        pause => paused 10%
        a.fail {"error": {"code": "AGENT_TIMEOUT"}} => paused 3%, a in_progress>retry_needed
        @1000 =>
        resume => retry_pending 3%
        @1039 =>
        @1040 => @1040 a.retry_due: retry_pending 3%
        a.start => active 10%, a retry_needed>in_progress
        pause => paused 10%
        a.complete => paused 33%, a in_progress>completed
        resume => active 43%, b not_started>in_progress, calls check {}
        "#,
    );
}

#[test]
fn a_flow_that_was_cancelled_stays_as_it_is() {
    check(
        "{ flow: f, phases: { a: { timeout: 60s }, b: {} } }",
        r#"
        a.start => active 15%, a not_started>in_progress
        cancel by ann {"reason": "sold"} => cancelled 15%
        a.complete => refused instance_closed: the flow was cancelled; it stays as it is
        resume => refused instance_closed: the flow was cancelled; it stays as it is
        @100 =>
        "#,
    );
}

#[test]
fn an_old_record_comes_in_as_far_as_it_has_come() {
    check(
        "
flow: f
phases:
  a: {}
  b: { needs: [a], boolean: mapping_completed }
  c: { needs: [b] }
",
        r#"
        create {"a_completed": true, "mapping_completed": true, "c_completed": false} => active 67%
        c.start => active 77%, c not_started>in_progress
        "#,
    );
    check(
        "{ flow: f, phases: { a: {} } }",
        r#"
        create {"b_completed": true} => refused invalid_context: no phase has the boolean `b_completed`; did you mean `a_completed`?
        create {"a_completed": "yes"} => refused invalid_context: the boolean `a_completed` must be true or false, not "yes"
        create {"a_completed": true} => completed 100%
        "#,
    );
}

#[test]
fn what_is_not_there_is_refused_with_what_is() {
    check(
        "{ flow: f, phases: { first: {}, second: {} } }",
        r#"
        fist.start => refused unknown_event: the flow has no phase `fist`; did you mean `first`?
        first.begin => refused unknown_event: a phase has no action `begin`; known here: approve, claim, complete, fail, heartbeat, progress, reject, retry, rollback, start, submit, validate
        stop => refused unknown_event: a flow has no event `stop`; known here: cancel, pause, resume, watch; for a phase, write `<phase>.<action>`
        first.start {"lease": "t"} => refused malformed_request: `start` takes no `lease`; known here: reason
        first.retry_due => refused unknown_event: a phase has no action `retry_due`; known here: approve, claim, complete, fail, heartbeat, progress, reject, retry, rollback, start, submit, validate
        "#,
    );
}

#[test]
fn a_clock_that_is_set_while_a_flow_is_paused_begins_to_run_when_it_is_resumed() {
    check(
        "{ flow: f, phases: { a: { retry: { attempts: 3, backoff: 20s } }, b: {} } }",
        r#"
        a.start => active 15%, a not_started>in_progress
        pause => paused 15%
        @100 =>
        a.fail {"error": {"code": "AGENT_TIMEOUT"}} => paused 5%, a in_progress>retry_needed
        @1000 =>
        resume => retry_pending 5%
        @1019 =>
        @1020 => @1020 a.retry_due: retry_pending 5%
        "#,
    );
}
