//! Rollouts as their users meet them: who is answered, what would have been answered, and what is never changed.

mod harness;

use std::process::Command;

use harness::{Answer, Server, messages};
use serde_json::{Value, json};

const MACHINES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../machines");
const ROLLOUT: &str = "/v1/machines/progress_update/rollout";
const SHADOW: &str = "/v1/machines/progress_update/shadow";

fn start(environment: &[(&str, &str)]) -> Server {
    let arguments = ["dev", "--listen", "127.0.0.1:0", "--store", "memory:", "--machines", MACHINES];
    Server::start(&[&arguments[..], &["--clock", "virtual"]].concat(), environment)
}

fn set(server: &Server, rollout: &Value) {
    let answer = server.put(ROLLOUT, &rollout.to_string());
    assert_eq!(answer.status, 200, "{}", answer.body);
}

fn session(server: &Server, subject: &str) -> Answer {
    server.get(&format!("/v1/machines/progress_update/sessions/{subject}"))
}

/// Every field that an answer to a message always has.
fn assert_ignored(answer: &Value, treatment: &str) {
    for field in ["session_id", "revision", "outcome", "state", "reply", "why"] {
        assert!(answer.get(field).is_some(), "{field} is missing in {answer}");
    }
    assert_eq!((&answer["outcome"], &answer["reply"]), (&json!("ignored"), &json!([])), "{answer}");
    assert_eq!((&answer["rollout"], &answer["why"]["rule"]), (&json!(treatment), &json!("rollout")));
}

#[test]
fn off_commits_nothing_and_on_goes_on_where_it_stood() {
    let server = start(&[]);
    assert_eq!(server.get(ROLLOUT).json()["mode"], json!("on"));
    let first = server.say("ann", "1", "update");
    set(&server, &json!({"mode": "off"}));
    for (subject, state, revision) in [("ann", json!("task_selection"), 1), ("bob", Value::Null, 0)] {
        let answer = server.say(subject, "2", "Task 7").json();
        assert_ignored(&answer, "off");
        assert_eq!((&answer["state"], &answer["revision"]), (&state, &json!(revision)), "{answer}");
    }
    assert_eq!(session(&server, "bob").status, 404);
    // What was answered before the switch is answered the same.
    let repeated = server.say("ann", "1", "update");
    assert_eq!((repeated.replayed, &repeated.body), (true, &first.body));
    // Events and operators are not asked about.
    let id = first.json()["session_id"].as_str().unwrap().to_owned();
    let event = server.post(&format!("/v1/instances/{id}/events"), r#"{"key": "e", "event": "cancel"}"#);
    assert_eq!((event.status, &event.json()["state"]), (200, &json!("abandoned")));
    set(&server, &json!({"mode": "on"}));
    assert_eq!(server.say("bob", "2", "update").json()["state"], json!("task_selection"));
}

#[test]
fn a_shadow_goes_along_over_many_messages_and_changes_nothing_real() {
    let server = start(&[]);
    set(&server, &json!({"mode": "shadow"}));
    let said = [
        ("update", "task_selection"),
        ("Task 12", "awaiting_action"),
        ("the wall is painted", "collecting_data"),
        ("done", "confirmation_pending"),
    ];
    for (number, (text, state)) in said.iter().enumerate() {
        let answer = server.say("ann", &format!("m{number}"), text).json();
        assert_ignored(&answer, "shadow");
        assert_eq!((&answer["state"], &answer["shadow"]["state"]), (&Value::Null, &json!(state)), "{answer}");
    }
    let repeated = server.say("ann", "m3", "done");
    assert_eq!((repeated.replayed, &repeated.json()["shadow"]["revision"]), (false, &json!(4)));
    let reused = server.say("ann", "m3", "something else").json();
    assert_eq!((&reused["outcome"], &reused["shadow"]["code"]), (&json!("ignored"), &json!("key_reused")));

    assert_eq!(session(&server, "ann").status, 404);
    assert_eq!(server.get("/v1/instances").json()["data"], json!([]));
    assert_eq!(server.get("/v1/clarifications").json()["data"], json!([]));
    let metrics = server.get("/metrics").body;
    for counted in ["statewright_instances_open{", "statewright_inputs_total{"] {
        assert!(!metrics.contains(&format!("{counted}machine=\"progress_update\"")), "{metrics}");
    }
    for tenant in ["default~shadow", "a~b"] {
        let body = r#"{"message_id": "1", "text": "update"}"#;
        let reached = server.post_with(&messages("ann"), body, &[("x-tenant", tenant)]);
        assert_eq!((reached.status, &reached.json()["code"]), (400, &json!("bad_identifier")));
    }

    // Time passes in the shadow as well.
    server.post("/v1/clock/advance", r#"{"by": "2h"}"#);
    let log = server.get(SHADOW).json();
    let told: Vec<(&Value, &Value, &Value)> = log["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| (&line["text"], &line["outcome"], &line["to"]))
        .collect();
    let dispatched = json!("dispatched");
    assert_eq!(
        told,
        [
            (&json!("update"), &dispatched, &json!("task_selection")),
            (&json!("Task 12"), &dispatched, &json!("awaiting_action")),
            (&json!("the wall is painted"), &dispatched, &json!("collecting_data")),
            (&json!("done"), &dispatched, &json!("confirmation_pending")),
            (&Value::Null, &Value::Null, &json!("abandoned")),
        ]
    );
    let first = &log["data"][0];
    assert_eq!((&first["message_id"], &first["subject"]), (&json!("m0"), &json!("ann")), "{first}");
    assert_eq!((&first["rule"], &first["intent"]), (&json!("R11"), &json!("progress_update")), "{first}");
    // With their buttons, as in an answer.
    assert_eq!(first["reply"][0]["text"], json!("Which task is it about?"), "{first}");
    let asked = &log["data"][3]["reply"][0];
    assert!(asked["options"][0]["label"].is_string() && asked["options"][0]["id"].is_string(), "{asked}");
}

#[test]
fn the_shadow_log_is_told_whole_whatever_the_size_of_its_pages() {
    let server = start(&[]);
    set(&server, &json!({"mode": "shadow"}));
    for subject in ["ann", "bob", "eve"] {
        for (id, text) in [("1", "update"), ("2", "Task 1"), ("3", "hello")] {
            server.say(subject, &format!("{subject}{id}"), text);
        }
        server.post("/v1/clock/advance", r#"{"by": "1s"}"#);
    }
    let expected = ["eve1", "eve2", "eve3", "bob1", "bob2", "bob3", "ann1", "ann2", "ann3"];
    for limit in [1, 2, 3, 4, 8, 9, 100] {
        let mut told = Vec::new();
        let mut cursor = String::new();
        loop {
            let page = server.get(&format!("{SHADOW}?limit={limit}{cursor}")).json();
            let lines = page["data"].as_array().unwrap();
            assert!(lines.len() <= limit, "{page}");
            told.extend(lines.iter().map(|line| line["message_id"].as_str().unwrap().to_owned()));
            let Some(next) = page["next_cursor"].as_str() else { break };
            cursor = format!("&cursor={next}");
        }
        assert_eq!(told, expected, "limit {limit}");
    }
    let of_bob = server.get(&format!("{SHADOW}?subject=bob")).json();
    assert_eq!(of_bob["data"].as_array().unwrap().len(), 3);
    let summary = server.get(&format!("{SHADOW}/summary")).json();
    assert_eq!((&summary["messages"], &summary["complete"]), (&json!(9), &json!(true)), "{summary}");
    assert_eq!(summary["outcomes"], json!({"dispatched": 6, "inline": 3}), "{summary}");
}

#[test]
fn the_listed_are_answered_and_the_others_get_what_is_said_of_them() {
    let server = start(&[]);
    set(&server, &json!({"mode": "allow_list", "users": ["ann"], "others": "shadow"}));
    assert_eq!(server.say("ann", "1", "update").json()["outcome"], json!("dispatched"));
    assert_ignored(&server.say("bob", "1", "update").json(), "shadow");
    set(&server, &json!({"mode": "allow_list", "users": ["ann", "bob"], "others": "off"}));
    let bob = server.say("bob", "2", "update").json();
    assert_eq!((&bob["outcome"], &bob["revision"]), (&json!("dispatched"), &json!(1)), "a fresh session");
    assert_ignored(&server.say("eve", "1", "update").json(), "off");

    set(&server, &json!({"mode": "percentage", "percent": 30}));
    let answered =
        |n: usize| server.say(&format!("user-{n}"), "1", "update").json()["outcome"] != json!("ignored");
    let some = (0..100).filter(|n| answered(*n)).count();
    assert!((15..=45).contains(&some), "{some}");
    // Of another tenant nothing was said.
    let body = r#"{"message_id": "1", "text": "update"}"#;
    let other = server.post_with(&messages("eve"), body, &[("x-tenant", "other")]);
    assert_eq!(other.json()["outcome"], json!("dispatched"));
}

#[test]
fn the_switch_is_over_everything_and_misspelt_it_is_an_error() {
    let server = start(&[("ENABLE_FSM", "False")]);
    set(&server, &json!({"mode": "on"}));
    assert_eq!(server.get("/v1/info").json()["enable_fsm"], json!(false));
    let answer = server.say("ann", "1", "update").json();
    assert_ignored(&answer, "off");
    assert!(answer["why"]["trace"][0]["because"].as_str().unwrap().contains("ENABLE_FSM"), "{answer}");
    assert_eq!(start(&[("ENABLE_FSM", "yes")]).get("/v1/info").json()["enable_fsm"], json!(true));

    let output = Command::new(env!("CARGO_BIN_EXE_statewright"))
        .args(["dev", "--listen", "127.0.0.1:0", "--store", "memory:", "--machines", MACHINES])
        .env("ENABLE_FSM", "flase")
        .output()
        .unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && told.contains("ENABLE_FSM is `flase`"), "{told}");
}

#[test]
fn what_is_wrong_is_told_and_leaves_what_was_set() {
    let server = start(&[]);
    set(&server, &json!({"mode": "shadow"}));
    for (path, body, status, code, part) in [
        (ROLLOUT, r#"{"mode": "percentage"}"#, 400, "malformed_body", "`percent`"),
        (ROLLOUT, r#"{"mode": "sometimes"}"#, 400, "malformed_body", "sometimes"),
        (ROLLOUT, r#"{"mode": "on", "user": []}"#, 400, "malformed_body", "user"),
        (ROLLOUT, r#"{"users": ["ann"], "add_users": ["bob"]}"#, 400, "malformed_body", "the whole list"),
        (ROLLOUT, "{}", 400, "malformed_body", "nothing is named"),
        (
            "/v1/machines/progres_update/rollout",
            r#"{"mode": "on"}"#,
            404,
            "unknown_machine",
            "progress_update",
        ),
        ("/v1/machines/statewright.receipt/rollout", r#"{"mode": "on"}"#, 404, "not_found", "own"),
    ] {
        let answer = server.put(path, body);
        let problem = answer.json();
        assert_eq!(
            (answer.status, problem["code"].as_str()),
            (status, Some(code)),
            "{path} {body}: {problem}"
        );
        assert!(problem["detail"].as_str().unwrap().contains(part), "{path} {body}: {problem}");
    }
    assert_eq!(server.get(ROLLOUT).json()["mode"], json!("shadow"));
    let unknown =
        server.post("/v1/machines/nobody/sessions/ann/messages", r#"{"message_id": "1", "text": "a"}"#);
    assert_eq!(unknown.status, 404);
}

#[test]
fn what_is_set_and_tried_out_survives_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("s.db");
    let server = Server::dev(&store, &[]);
    set(&server, &json!({"mode": "allow_list", "users": ["ann"], "others": "shadow"}));
    server.say("bob", "1", "update");
    server.kill_now();

    let server = Server::dev(&store, &[]);
    let rollout = server.get(ROLLOUT).json();
    assert_eq!((&rollout["users"], &rollout["others"]), (&json!(["ann"]), &json!("shadow")), "{rollout}");
    let answer = server.say("bob", "2", "Task 1").json();
    assert_eq!(answer["shadow"]["state"], json!("awaiting_action"), "{answer}");
    assert_eq!(server.get(SHADOW).json()["data"].as_array().unwrap().len(), 2);
    assert!(!server.get("/metrics").body.contains("instances_open{machine=\"progress_update\""));
}

/// Somebody who was asked a question may answer it, whatever became of the list in the meantime.
#[test]
fn a_session_is_finished_where_it_was_begun_and_the_next_follows_the_rollout() {
    for (left_out, treatment) in [
        (json!({"mode": "allow_list", "users": []}), "off"),
        (json!({"mode": "percentage", "percent": 0, "others": "shadow"}), "shadow"),
    ] {
        let server = start(&[]);
        server.say("ann", "1", "update");
        set(&server, &left_out);
        assert_ignored(&server.say("ann", "at once", "Task 7").json(), treatment);
        set(&server, &json!({"open_sessions": "finish"}));
        assert_ignored(&server.say("bob", "1", "update").json(), treatment);
        let answer = server.say("ann", "2", "Task 7").json();
        assert_eq!((&answer["outcome"], &answer["state"]), (&json!("dispatched"), &json!("awaiting_action")));
        let told = server.get(&format!("{ROLLOUT}?subject=ann")).json();
        assert_eq!(told["treatment"], json!("on"), "{told}");
        assert!(told["because"].as_str().unwrap().contains(&format!("after it, `{treatment}`")), "{told}");

        assert_eq!(server.say("ann", "3", "cancel").json()["state"], json!("abandoned"));
        assert_ignored(&server.say("ann", "4", "update").json(), treatment);
        let told = server.get(&format!("{ROLLOUT}?subject=ann")).json();
        assert_eq!(told["treatment"], json!(treatment), "{told}");

        set(&server, &json!({"mode": "on"}));
        server.say("ann", "5", "update");
        for mode in ["shadow", "off"] {
            set(&server, &json!({"mode": mode}));
            assert_ignored(&server.say("ann", mode, "Task 7").json(), mode);
        }
    }
}

#[test]
fn what_is_not_named_is_kept_through_every_mode() {
    let server = start(&[]);
    set(&server, &json!({"mode": "allow_list", "users": ["ann"], "percent": 100, "others": "shadow"}));
    set(&server, &json!({"mode": "off"}));
    assert_ignored(&server.say("ann", "1", "update").json(), "off");
    let rollout = server.get(ROLLOUT).json();
    let kept = (&rollout["users"], &rollout["percent"], &rollout["others"]);
    assert_eq!(kept, (&json!(["ann"]), &json!(100.0), &json!("shadow")), "{rollout}");
    set(&server, &json!({"add_users": ["bob"], "remove_users": ["ann"]}));
    set(&server, &json!({"mode": "allow_list"}));
    assert_ignored(&server.say("ann", "1", "update").json(), "shadow");
    assert_eq!(server.say("bob", "1", "update").json()["outcome"], json!("dispatched"));
    set(&server, &json!({"mode": "percentage"}));
    assert_eq!(server.say("ann", "2", "update").json()["outcome"], json!("dispatched"));
}

#[test]
fn whoever_asks_is_told_how_somebody_is_treated_and_why() {
    let server = start(&[]);
    let told = |subject: &str| {
        let told = server.get(&format!("{ROLLOUT}?subject={subject}")).json();
        assert_eq!(told["subject"], json!(subject));
        (told["treatment"].clone(), told["because"].as_str().unwrap().to_owned())
    };
    assert_eq!(told("ada"), (json!("on"), "nothing was set, which is on".to_owned()));
    set(&server, &json!({"mode": "allow_list", "users": ["ada"], "others": "shadow"}));
    assert_eq!(told("ada"), (json!("on"), "on the list".to_owned()));
    assert_eq!(told("bob"), (json!("shadow"), "not on the list".to_owned()));
    set(&server, &json!({"mode": "percentage", "percent": 0}));
    let (treatment, because) = told("ada");
    assert!(treatment == json!("shadow") && because.ends_with(" % ≥ 0 %"), "{because}");
    let ignored = server.say("ada", "1", "update").json();
    let why = ignored["why"]["trace"][0]["because"].as_str().unwrap();
    assert!(why.ends_with(&because), "{ignored}");
    assert_eq!(server.get(&format!("{ROLLOUT}?subjct=ada")).status, 400);
}

#[test]
fn the_command_shows_sets_and_tells_the_log() {
    let server = start(&[]);
    let run = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_statewright"))
            .args([&["rollout", "progress_update", "--server", &server.url], arguments].concat())
            .output()
            .unwrap();
        (output.status.success(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
    };
    assert!(run(&[]).1.contains("mode          on"));
    let (set, told) = run(&["--users", "ann,bob", "--others", "shadow"]);
    assert!(
        set && told.contains("users         ann, bob") && told.contains("others        shadow"),
        "{told}"
    );
    run(&["--add-user", "eve", "--remove-user", "ann"]);
    assert_eq!(server.get(ROLLOUT).json()["users"], json!(["bob", "eve"]));
    // All of them at the same time, and none is lost.
    std::thread::scope(|scope| {
        for n in 0..6 {
            let run = &run;
            scope.spawn(move || assert!(run(&["--add-user", &format!("user-{n}")]).0));
        }
    });
    assert_eq!(server.get(ROLLOUT).json()["users"].as_array().unwrap().len(), 8);
    let (set, told) = run(&["--mode", "off"]);
    assert!(set && told.contains("mode          off") && told.contains("users         bob, eve"), "{told}");
    let (set, told) = run(&["--add-user", "ann"]);
    assert!(!set && told.contains("--mode allow_list") && told.contains("--mode off"), "{told}");
    let (set, told) = run(&["--mode", "allow_list", "--subject", "ann"]);
    assert!(
        set && told.contains("treatment     shadow") && told.contains("because       not on the list"),
        "{told}"
    );
    server.say("ann", "1", "update");
    server.say("ann", "2", "Task 1");
    let (_, told) = run(&["--shadow-log", "--subject", "ann"]);
    for part in
        ["ann  \"update\"", "idle -> task_selection", "< Which task", "[1] ", "2 message(s): 2 dispatched"]
    {
        assert!(told.contains(part), "{part} is missing in\n{told}");
    }
    let (set, told) = run(&["--percent", "0.001"]);
    assert!(!set && told.contains("two decimals"), "{told}");
}
