//! Pictures of flows that were really played, each in a file that was looked at.
//!
//! With `UPDATE_EXPECTED=1` the files are written anew, to be read before they are committed.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::path::Path;

use kernel::decide::decide;
use kernel::definition::load;
use kernel::flow::FlowView;
use kernel::id::{InputKey, InstanceId, TenantId};
use kernel::input::{Cause, Fields, Input, Start};
use kernel::snapshot::Snapshot;
use kernel::time::{Delay, Timestamp};

use super::*;
use crate::command::flow::line::width_of;

const DISCOVERY: &str = include_str!("../../../../../../machines/discovery.yaml");

/// What happens: minutes since the beginning, the event, what comes with it.
type Story<'s> = &'s [(i64, &'s str, Value)];

fn after_minutes(minutes: i64) -> Timestamp {
    let noon = Timestamp::parse("2026-03-01T12:00:00Z").unwrap();
    noon.plus(Delay::from_secs(minutes * 60))
}

fn fields(value: Value) -> Fields {
    serde_json::from_value(value).unwrap()
}

/// What the server would say of a flow that this has happened to.
fn played(definition: &str, id: &str, booleans: Value, story: Story<'_>, minutes: i64) -> Value {
    let (machine, diagnostics) = load(definition);
    let machine = machine.unwrap_or_else(|| panic!("{diagnostics:?}"));
    let input = |key: String, by: &str, cause: Cause| Input {
        tenant: TenantId::default_tenant(),
        key: InputKey::parse(&key).unwrap(),
        cause,
        expected: None,
        by: Some(by.to_owned()),
        trace: None,
    };
    let instance = InstanceId::parse(id).unwrap();
    let start = Start { booleans: fields(booleans), ..Start::default() };
    let create = Cause::Create {
        machine: machine.name.clone(),
        id: Some(instance.clone()),
        subject: None,
        context: Fields::new(),
        start,
    };
    let commit = decide(&machine, None, &input("create".into(), "ann", create), after_minutes(0)).unwrap();
    let mut snapshot: Snapshot = commit.after.unwrap();
    for (number, (minute, event, payload)) in story.iter().enumerate() {
        let by = if event.ends_with("approve") { "engagement_lead" } else { "ann" };
        let payload = fields(payload.clone());
        let event = Cause::Event { instance: instance.clone(), event: (*event).to_owned(), payload };
        let input = input(format!("k{number}"), by, event);
        let commit = decide(&machine, Some(&snapshot), &input, after_minutes(*minute));
        snapshot = commit.unwrap_or_else(|refusal| panic!("{input:?}: {refusal:?}")).after.unwrap();
    }
    let view = FlowView::of(&machine, &snapshot, after_minutes(minutes)).unwrap();
    serde_json::to_value(view).unwrap()
}

fn check(name: &str, view: &Value, minutes: i64, frame: Frame) {
    let lines = picture(view, after_minutes(minutes), &frame);
    let path = Path::new(env!("CARGO_MANIFEST_DIR"));
    let path = path.join(format!("src/command/flow/picture/cases/{name}.txt"));
    if !frame.colour {
        assert!(lines.iter().all(|line| width_of(line) <= frame.width), "{name}: {lines:#?}");
    }
    assert!(frame.rows.is_none_or(|rows| lines.len() <= rows), "{name}: {} lines", lines.len());
    let drawn = lines.join("\n").replace('\u{1b}', "^[") + "\n";
    if std::env::var_os("UPDATE_EXPECTED").is_some() {
        std::fs::write(&path, &drawn).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(drawn, expected, "{name}; UPDATE_EXPECTED=1 writes what is drawn now");
}

fn of(width: usize, rows: usize) -> Frame {
    Frame { width, rows: Some(rows), colour: false }
}

fn begun() -> Vec<(i64, &'static str, Value)> {
    vec![
        (1, "data_import.start", json!({})),
        (5, "data_import.submit", json!({})),
        (6, "data_import.validate", json!({})),
        (7, "field_mapping.start", json!({})),
    ]
}

fn approved() -> Vec<(i64, &'static str, Value)> {
    let mut story = begun();
    story.extend([
        (20, "field_mapping.submit", json!({})),
        (90, "field_mapping.approve", json!({ "reason": "as agreed" })),
    ]);
    story
}

#[test]
fn a_flow_is_drawn_as_it_stands() {
    let fail = |code: &str| json!({ "error": { "code": code, "message": "the register does not answer" } });
    let mut waiting = begun();
    waiting.push((20, "field_mapping.submit", json!({})));
    let mut failed = approved();
    failed.push((91, "data_cleansing.start", json!({})));
    failed.push((95, "data_cleansing.fail", fail("PERMISSION_DENIED")));
    let mut retried = vec![(1, "data_import.start", json!({}))];
    retried.push((4, "data_import.fail", fail("AGENT_TIMEOUT")));
    let mut paused = begun();
    paused.push((12, "pause", json!({ "reason": "the source is being moved" })));
    let mut claimed = approved();
    claimed.push((91, "data_cleansing.claim", json!({ "worker": "w-7", "lease": "l1", "lasts": "5m" })));
    claimed.push((92, "data_cleansing.progress", json!({ "lease": "l1", "progress": 0.5 })));
    let mut back = approved();
    back.push((93, "data_import.rollback", json!({})));
    let mut cancelled = begun();
    cancelled.push((30, "cancel", json!({})));
    for (name, story, minutes) in [
        ("untouched", vec![], 3),
        ("waiting_for_approval", waiting, 25),
        ("failed", failed, 99),
        ("to_be_tried_again", retried, 4),
        ("paused", paused, 40),
        ("with_a_worker", claimed, 93),
        ("rolled_back", back, 94),
        ("cancelled", cancelled, 31),
    ] {
        let view = played(DISCOVERY, "engagement-17", json!({}), &story, minutes);
        check(name, &view, minutes, of(110, 40));
        if name == "failed" {
            check("failed_on_a_small_terminal", &view, minutes, of(72, 9));
        }
        if name == "waiting_for_approval" {
            check("in_colour", &view, minutes, Frame { width: 110, rows: Some(40), colour: true });
            check("narrow", &view, minutes, of(44, 40));
            check("in_a_file", &view, minutes, Frame { width: usize::MAX, rows: None, colour: false });
        }
    }
}

#[test]
fn what_does_not_apply_is_passed_over_and_all_of_the_rest_is_done() {
    let all = ["data_import", "field_mapping", "data_cleansing", "asset_inventory", "tech_debt"];
    let booleans: Value = all.iter().map(|phase| (format!("{phase}_completed"), json!(true))).collect();
    let view = played(DISCOVERY, "engagement-18", booleans, &[], 2);
    check("completed", &view, 2, of(110, 40));
}

#[test]
fn of_many_phases_those_come_first_that_somebody_may_have_to_look_at() {
    let phase = |number: usize| {
        let needs = if number < 8 { "{}".to_owned() } else { format!("{{ needs: [p{:03}] }}", number - 8) };
        format!("  p{number:03}: {needs}\n")
    };
    let phases: String = (0..500).map(phase).collect();
    let definition = format!("flow: large\nversion: 1\nphases:\n{phases}");
    let booleans: Value = (0..300).map(|number| (format!("p{number:03}_completed"), json!(true))).collect();
    let fail = json!({ "error": { "code": "DATA_VALIDATION_FAILED", "message": "no such field" } });
    let story = [
        (1, "p303.start", json!({})),
        (2, "p305.start", json!({})),
        (3, "p305.fail", fail),
        (4, "p302.start", json!({})),
        (5, "p302.complete", json!({})),
    ];
    let view = played(&definition, "wave-1", booleans, &story, 6);
    check("five_hundred_phases", &view, 6, of(80, 24));
    check("five_hundred_phases_in_three_rows", &view, 6, of(80, 3));
}

#[test]
fn long_names_push_nothing_off_the_screen() {
    let long = "reconciliation_of_the_ledger_with_the_statements_of_all_banks_since_the_merger";
    let definition = format!(
        "flow: {long}_and_then_some\nversion: 1\nphases:\n  {long}: {{ retry: 12 }}\n  データ移行の承認を待つ: {{ needs: [{long}] }}\n"
    );
    let id = "0198c7d2-engagement-of-the-northern-branch-2026";
    let story = [(1, &*format!("{long}.start"), json!({}))];
    let view = played(&definition, id, json!({}), &story, 200);
    check("long_names", &view, 200, of(100, 10));
    check("long_names_narrow", &view, 200, of(60, 10));
}
