//! Every pair of state and event of the progress update: it moves as the table says, or is refused and logged.

use std::collections::BTreeSet;

use serde_json::json;

use crate::world::{World, code, event};

const STATES: [&str; 7] = [
    "idle",
    "task_selection",
    "awaiting_action",
    "collecting_data",
    "confirmation_pending",
    "completed",
    "abandoned",
];

/// Where each event leads from each state; `-` is a refusal. The states are those that are not final, in their order.
/// `cancel` and `timeout` leave every state that waits for the person; `switch_task` and `report_incident` are what the
/// bot's forerunner did not have.
#[rustfmt::skip]
const TABLE: [(&str, [&str; 5]); 14] = [
    // event                  idle              task_selection     awaiting_action         collecting_data         confirmation_pending
    ("start_update",         ["task_selection", "-",               "-",                    "-",                    "-"]),
    ("explicit_cancel",      ["abandoned",      "-",               "-",                    "-",                    "-"]),
    ("task_selected",        ["-",              "awaiting_action", "-",                    "-",                    "-"]),
    ("start_collection",     ["-",              "-",               "collecting_data",      "-",                    "-"]),
    ("request_confirmation", ["-",              "-",               "confirmation_pending", "confirmation_pending", "-"]),
    ("add_data",             ["-",              "-",               "-",                    "collecting_data",      "-"]),
    ("confirm",              ["-",              "-",               "-",                    "-",                    "completed"]),
    ("continue_editing",     ["-",              "-",               "-",                    "-",                    "collecting_data"]),
    ("force_abandon",        ["abandoned",      "abandoned",       "abandoned",            "abandoned",            "abandoned"]),
    ("reset",                ["idle",           "idle",            "idle",                 "idle",                 "idle"]),
    ("cancel",               ["abandoned",      "abandoned",       "abandoned",            "abandoned",            "abandoned"]),
    ("timeout",              ["-",              "abandoned",       "abandoned",            "abandoned",            "abandoned"]),
    ("switch_task",          ["-",              "-",               "task_selection",       "task_selection",       "task_selection"]),
    ("report_incident",      ["idle",           "task_selection",  "awaiting_action",      "collecting_data",      "confirmation_pending"]),
];

#[test]
fn the_table_names_every_event_of_the_machine() {
    let world = World::new();
    let public = |name: &&str| !name.starts_with("after.") && !name.starts_with("done.");
    let known: BTreeSet<&str> = world.machine.chart.events.iter().map(|e| &**e).collect();
    let known: BTreeSet<&str> = known.into_iter().filter(public).collect();
    assert_eq!(known, TABLE.iter().map(|(event, _)| *event).collect());
}

#[test]
fn every_pair_of_state_and_event_moves_as_the_table_says_or_is_refused_and_logged() {
    let world = World::new();
    let engine = world.engine();
    for (name, targets) in TABLE {
        for (number, state) in STATES.into_iter().enumerate() {
            let instance = world.place(&format!("{state}+{name}"), state);
            let before = world.load(&instance);
            let payload = json!({ "task_id": "T9", "text": "a remark" });
            let submitted = engine.call(event(&instance, "k1", name, payload)).unwrap();
            let after = world.load(&instance);
            let logged = world.history(&instance);
            let [_, last] = &logged[..] else {
                panic!("{name} in {state} left {} entries", logged.len());
            };
            let refusal = match targets.get(number) {
                None => "instance_closed",
                Some(&"-") => "invalid_transition",
                Some(_) => "",
            };
            assert_eq!(code(&submitted.answer), refusal, "{name} in {state}");
            assert_eq!(last.success, refusal.is_empty(), "{name} in {state}");
            assert_eq!((&*last.event, &*last.from), (name, state));
            if refusal.is_empty() {
                assert_eq!(after.state(), targets[number], "{name} in {state}");
                assert_eq!(last.to, targets[number]);
                let reason = after.closure.map(|closure| closure.reason);
                let closes = matches!(targets[number], "abandoned" | "completed");
                assert_eq!(reason.is_some(), closes, "{name} in {state}: {reason:?}");
            } else {
                assert_eq!(after, before, "{name} in {state} changed something");
                assert_eq!(last.code.as_deref(), Some(refusal));
                assert!(last.reason.is_some());
            }
        }
    }
}
