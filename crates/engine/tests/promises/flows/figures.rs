//! What operators see of flows without looking at any one of them.

use serde_json::json;

use super::Site;

/// All figures of phases of houses, as they are written, without the buckets.
fn figures(site: &Site) -> Vec<String> {
    let text = site.office.engine.figures().unwrap();
    let lines = text.lines().filter(|line| line.starts_with("statewright_phase") && line.contains("house"));
    let mut lines: Vec<String> =
        lines.filter(|line| !line.contains("_bucket")).map(|line| line.replace("statewright_", "")).collect();
    lines.sort_unstable();
    lines
}

#[test]
fn steps_times_retries_and_rollbacks_of_phases_are_counted() {
    let site = Site::new();
    site.begin("house", "h1", json!({}));
    site.act("h1", "walls.start", json!({}));
    site.office.pass("30s");
    site.act("h1", "walls.fail", json!({ "error": { "code": "AGENT_TIMEOUT" } }));
    site.office.pass("1m");
    site.done("h1", "walls", json!({}));
    // Refused, and so no step.
    site.office.call(site.action("h1", "walls.complete", json!({})));
    site.done("h1", "roof", json!({}));
    site.act("h1", "walls.rollback", json!({}));
    let expected = [
        "phase_moves_total{machine=\"house\",from=\"completed\",to=\"rolled_back\"} 2",
        "phase_moves_total{machine=\"house\",from=\"in_progress\",to=\"completed\"} 2",
        "phase_moves_total{machine=\"house\",from=\"in_progress\",to=\"retry_needed\"} 1",
        "phase_moves_total{machine=\"house\",from=\"not_started\",to=\"in_progress\"} 2",
        "phase_moves_total{machine=\"house\",from=\"retry_needed\",to=\"in_progress\"} 1",
        "phase_retries_succeeded_total{machine=\"house\"} 1",
        "phase_retries_total{machine=\"house\"} 1",
        "phase_rollbacks_total{machine=\"house\",phase=\"roof\"} 1",
        "phase_rollbacks_total{machine=\"house\",phase=\"walls\"} 1",
        "phase_seconds_count{machine=\"house\",state=\"completed\"} 2",
        "phase_seconds_count{machine=\"house\",state=\"in_progress\"} 3",
        "phase_seconds_count{machine=\"house\",state=\"not_started\"} 2",
        "phase_seconds_count{machine=\"house\",state=\"retry_needed\"} 1",
        "phase_seconds_sum{machine=\"house\",state=\"completed\"} 0.0",
        "phase_seconds_sum{machine=\"house\",state=\"in_progress\"} 30.0",
        "phase_seconds_sum{machine=\"house\",state=\"not_started\"} 90.0",
        "phase_seconds_sum{machine=\"house\",state=\"retry_needed\"} 60.0",
        "phases{machine=\"house\",state=\"rolled_back\"} 2",
    ];
    assert_eq!(figures(&site), expected);
}
