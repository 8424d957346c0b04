//! What changed settings or a changed definition would have made of stored messages, asked over HTTP and by the command.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod harness;

use std::path::Path;
use std::process::Command;

use harness::Server;
use harness::days::{busy, guess, send, wait};
use serde_json::{Value, json};

fn definition() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../machines/progress_update.yaml");
    std::fs::read_to_string(path).unwrap()
}

fn server(dir: &tempfile::TempDir) -> Server {
    Server::dev(&dir.path().join("s.db"), &["--clock", "virtual"])
}

const REROUTE: &str = "/v1/machines/progress_update/reroute";

fn reroute(server: &Server, body: Value) -> Value {
    let answer = server.post(REROUTE, &body.to_string());
    assert_eq!(answer.status, 200, "{}", answer.body);
    let report = answer.json();
    let count = |name: &str| report[name].as_u64().unwrap();
    assert_eq!(count("messages"), count("same") + count("different") + count("not_replayable"), "{report}");
    report
}

fn counts(report: &Value) -> [u64; 4] {
    ["messages", "same", "different", "not_replayable"].map(|name| report[name].as_u64().unwrap())
}

#[test]
fn what_changes_nothing_finds_every_message_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let server = server(&dir);
    let sent = busy(&server);
    let before = server.get("/v1/instances").body;
    let report =
        reroute(&server, json!({ "set": { "thresholds.confidence": 0.7, "ladder": ["rephrase", "menu"] } }));
    assert_eq!(counts(&report), [sent, sent, 0, 0], "{report}");
    assert_eq!(report["sessions"], json!(6));
    // The same texts, put otherwise.
    let report = reroute(&server, json!({ "definition": format!("# changed\n{}", definition()) }));
    assert_eq!(counts(&report), [sent, sent, 0, 0], "{report}");
    assert_eq!(server.get("/v1/instances").body, before);
}

#[test]
fn a_lower_threshold_acts_where_it_was_asked_and_examples_say_so() {
    let dir = tempfile::tempdir().unwrap();
    let server = server(&dir);
    let first = send(&server, "ann", "1", guess("about that update", "progress_update", 0.66));
    for who in ["bob", "cleo", "dan", "eve"] {
        send(&server, who, "1", guess("new update thing", "progress_update", 0.66));
    }
    send(&server, "bob", "2", json!({ "text": "none of these" }));
    wait(&server, "1d");
    send(&server, "ann", "2", guess("status please", "task_status", 0.69));
    let asked = json!({ "set": { "thresholds.confidence": 0.65 } });
    let report = reroute(&server, asked.clone());
    assert_eq!(counts(&report), [7, 1, 6, 0], "{report}");
    let change = &report["changes"][0];
    let kinds = |outcome: &str, intent: Value| json!({ "outcome": outcome, "intent": intent });
    assert_eq!((&change["count"], change["examples"].as_array().unwrap().len()), (&json!(5), 3), "{change}");
    assert_eq!(change["to"], kinds("dispatched", json!("progress_update")), "{change}");
    let example = report["changes"][0]["examples"].as_array().unwrap().iter();
    let states: Vec<&Value> = example.map(|example| &example["would_be"]["state"]).collect();
    assert_eq!(states, [&json!("task_selection"); 3]);
    assert!(change["differs"].as_array().unwrap().contains(&json!("outcome")), "{change}");

    // Only since, by a delay and by a time.
    for since in [json!("1h"), server.get("/v1/info").json()["now"].clone()] {
        let mut asked = asked.clone();
        asked["since"] = since;
        let report = reroute(&server, asked);
        assert_eq!(counts(&report), [1, 0, 1, 0], "{report}");
        assert_eq!(report["changes"][0]["examples"][0]["text"], json!("status please"));
        assert_ne!(report["changes"][0]["examples"][0]["session"], first["session_id"]);
    }

    // Piece by piece it is the same.
    let (mut cursor, mut messages, mut pieces) = (Value::Null, 0, 0);
    loop {
        let mut asked = asked.clone();
        (asked["limit"], asked["cursor"]) = (json!(1), cursor);
        let report = reroute(&server, asked);
        messages += report["messages"].as_u64().unwrap();
        pieces += 1;
        cursor = report["next_cursor"].clone();
        if cursor.is_null() {
            break;
        }
    }
    assert_eq!((messages, pieces), (7, 6));
}

#[test]
fn settings_mean_those_of_the_definition_that_a_session_is_pinned_to() {
    let dir = tempfile::tempdir().unwrap();
    let server = server(&dir);
    send(&server, "ann", "1", json!({ "text": "update" }));
    let other = definition().replace("en: Which task", "en: What task");
    assert_ne!(other, definition());
    assert_eq!(server.put("/v1/machines/progress_update", &other).status, 200);
    let report = reroute(&server, json!({ "set": { "thresholds.suggestion": 0.4 } }));
    assert_eq!(counts(&report), [1, 1, 0, 0], "{report}");
    let report = reroute(&server, json!({ "definition": other }));
    assert_eq!(counts(&report), [1, 0, 1, 0], "{report}");
    assert_eq!(report["changes"][0]["differs"], json!(["reply"]), "{report}");
}

#[test]
fn what_cannot_be_replayed_is_counted_and_named() {
    let dir = tempfile::tempdir().unwrap();
    let server = server(&dir);
    for (number, text) in ["update", "T1", "the wall is dry", "more of it"].iter().enumerate() {
        send(&server, "ann", &number.to_string(), json!({ "text": text }));
    }
    let without = definition().replace("collecting_data", "gathering");
    let report = reroute(&server, json!({ "definition": without }));
    // The third would lead to a state of another name, the fourth began there.
    assert_eq!(counts(&report), [4, 2, 1, 1], "{report}");
    let reason = &report["reasons"][0];
    assert_eq!(reason["revision"], json!(4), "{reason}");
    assert!(reason["reason"].as_str().unwrap().contains("no state `collecting_data`"), "{reason}");

    // A month of help, until the beginning is forgotten.
    for number in 0..400 {
        wait(&server, "1h59m");
        send(&server, "bob", &number.to_string(), json!({ "text": "help" }));
    }
    let report = reroute(&server, json!({ "set": { "ladder": ["menu"] }, "since": "1d" }));
    assert_eq!(counts(&report), [13, 0, 0, 13], "{report}");
    assert!(report["reasons"][0]["reason"].as_str().unwrap().contains("log begins at revision"), "{report}");
}

#[test]
fn what_cannot_be_asked_is_told_with_a_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let server = server(&dir);
    let plain = "machine: progress_update\ninitial: a\nstates: { a: {} }\n";
    for (body, status, code, part) in [
        (json!({}), 400, "malformed_body", "thresholds.confidence"),
        (json!({ "set": { "threshold": 1 } }), 422, "bad_setting", "thresholds.supersede"),
        (json!({ "set": { "thresholds.confidence": 7 } }), 422, "bad_setting", "from 0 to 1"),
        (json!({ "set": { "ladder": ["menu"] }, "since": "soon" }), 400, "malformed_body", "7d"),
        (json!({ "set": { "ladder": ["menu"] }, "limit": 0 }), 400, "malformed_body", "100000"),
        (json!({ "definition": "machine: progress_update" }), 422, "bad_definition", "problem"),
        (json!({ "definition": plain }), 422, "not_a_conversation", "conversation"),
        (json!({ "definition": plain.replace("progress_update", "other") }), 400, "wrong_machine", "other"),
    ] {
        let answer = server.post(REROUTE, &body.to_string());
        let problem = answer.json();
        assert_eq!((answer.status, &problem["code"]), (status, &json!(code)), "{body}: {problem}");
        assert!(problem["detail"].as_str().unwrap().contains(part), "{body}: {problem}");
    }
    assert_eq!(server.post("/v1/machines/nothing/reroute", "{\"set\": {\"ladder\": []}}").status, 404);
}

#[test]
fn command_prints_a_table_or_json() {
    let dir = tempfile::tempdir().unwrap();
    let server = server(&dir);
    send(&server, "ann", "1", guess("about that update", "progress_update", 0.66));
    let run = |more: &[&str]| {
        let mut arguments = vec!["reroute", "progress_update", "--server", &server.url];
        arguments.extend(more);
        let output = Command::new(env!("CARGO_BIN_EXE_statewright")).args(arguments).output().unwrap();
        (output.status.success(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
    };
    let (succeeded, told) = run(&["--since", "1d", "--set", "thresholds.confidence=0.65"]);
    assert!(succeeded, "{told}");
    for part in [
        "1 messages in 1 sessions since ",
        ": 0 the same, 1 different, 0 not replayable",
        "clarifying progress_update -> dispatched progress_update",
        "\"about that update\"",
        "would be  dispatched progress_update by R11 in `task_selection`",
    ] {
        assert!(told.contains(part), "{part} is missing in\n{told}");
    }
    let file = dir.path().join("changed.yaml");
    std::fs::write(&file, definition()).unwrap();
    let (succeeded, told) = run(&["--definition", file.to_str().unwrap(), "--json"]);
    assert!(succeeded, "{told}");
    assert_eq!(counts(&serde_json::from_str(&told).unwrap()), [1, 1, 0, 0]);
    let (succeeded, told) = run(&["--set", "thresholds.confidnce=0.65"]);
    assert!(!succeeded && told.contains("bad_setting"), "{told}");
    let (succeeded, told) = run(&[]);
    assert!(!succeeded && told.contains("--set"), "{told}");
}
