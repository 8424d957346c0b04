//! The past of instances, shown and decided on again, over HTTP and by the commands.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod harness;

use std::process::Command;

use harness::Server;
use harness::days::busy;
use serde_json::{Value, json};

fn server(dir: &tempfile::TempDir) -> Server {
    Server::dev(&dir.path().join("s.db"), &["--clock", "virtual"])
}

fn run(server: &Server, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_statewright"));
    let output = command.args(arguments).args(["--server", &server.url]).output().unwrap();
    (output.status.code(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
}

/// The instance that has changed most often.
fn longest(server: &Server) -> Value {
    let list = server.get("/v1/instances").json();
    let all = list["data"].as_array().unwrap().clone();
    all.into_iter().max_by_key(|instance| instance["revision"].as_u64()).unwrap()
}

#[test]
fn a_busy_day_comes_out_as_it_was_stored() {
    let dir = tempfile::tempdir().unwrap();
    let server = server(&dir);
    busy(&server);
    let report = server.get("/v1/replay").json();
    let count = |name: &str| report[name].as_u64().unwrap();
    assert_eq!((count("instances"), count("same"), &report["found"]), (6, 6, &json!([])), "{report}");
    assert!(count("entries") > 10 && report["next_cursor"].is_null(), "{report}");
    let (code, told) = run(&server, &["replay", "--all", "--machine", "progress_update"]);
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains(": 6 the same, 0 different, 0 not replayable"), "{told}");
    let id = longest(&server)["id"].as_str().unwrap().to_owned();
    let (code, told) = run(&server, &["replay", &id]);
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains(" entries come out as they were stored"), "{told}");
    let (_, told) = run(&server, &["replay", &id, "--json"]);
    let replay: Value = serde_json::from_str(&told).unwrap();
    assert_eq!((&replay["verdict"], &replay["id"]), (&json!("same"), &json!(id)));
}

#[test]
fn a_whole_store_is_checked_without_its_server() {
    let dir = tempfile::tempdir().unwrap();
    let server = server(&dir);
    busy(&server);
    let body = json!({"message_id": "m1", "text": "update"}).to_string();
    let acme = server.post_with(&harness::messages("ana"), &body, &[("x-tenant", "acme")]);
    assert_eq!(acme.status, 200, "{}", acme.body);
    let url = format!("sqlite:{}", dir.path().join("s.db").display());
    let check = |more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_statewright"));
        let output = command.args(["replay", "--store", &url]).args(more).output().unwrap();
        (output.status.code(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
    };
    let (code, told) = check(&[]);
    assert_eq!(code, Some(1), "a server has it: {told}");
    assert!(server.terminate());
    let (code, told) = check(&[]);
    assert_eq!(code, Some(0), "{told}");
    assert!(told.starts_with("7 instances, ") && told.contains(": 7 the same, 0 different"), "{told}");
    let (code, told) = check(&["--json", "--machine", "progress_update"]);
    let report: Value = serde_json::from_str(&told).unwrap();
    assert_eq!((code, &report["same"], &report["found"]), (Some(0), &json!(7), &json!([])), "{told}");
    let (_, told) = check(&["--machine", "desk"]);
    assert!(told.starts_with("0 instances"), "{told}");
}

#[test]
fn an_instance_is_shown_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let server = server(&dir);
    busy(&server);
    let now = longest(&server);
    let (id, last) = (now["id"].as_str().unwrap(), now["revision"].as_u64().unwrap());
    let history = server.get(&format!("/v1/instances/{id}/history")).json();
    for revision in 1..=last {
        let past = server.get(&format!("/v1/instances/{id}?revision={revision}"));
        assert_eq!(past.status, 200, "{}", past.body);
        let mut entries = history["data"].as_array().unwrap().iter();
        let entry = entries.find(|entry| entry["revision"] == json!(revision)).unwrap();
        let (past, then) = (past.json(), |name: &str| entry[name].clone());
        assert_eq!((&past["revision"], &past["state"]), (&json!(revision), &then("to")), "{past}");
        assert_eq!(past["updated_at"], then("at"));
    }
    let (code, told) = run(&server, &["show", &format!("{id}@2")]);
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("\nrevision        2\n"), "{told}");
    assert!(!told.contains("\n     3  "), "{told}");
    let beyond = server.get(&format!("/v1/instances/{id}?revision={}", last + 1));
    assert_eq!((beyond.status, &beyond.json()["code"]), (404, &json!("not_found")), "{}", beyond.body);
}

#[test]
fn what_cannot_be_asked_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let server = server(&dir);
    for (path, status, code) in [
        ("/v1/replay?limit=0", 400, "bad_query"),
        ("/v1/replay?machine=nothing", 404, "unknown_machine"),
        ("/v1/instances/nobody/replay", 404, "not_found"),
        ("/v1/instances/nobody?revision=x", 400, "bad_query"),
    ] {
        let answer = server.get(path);
        assert_eq!((answer.status, &answer.json()["code"]), (status, &json!(code)), "{path}");
    }
    let (code, told) = run(&server, &["replay"]);
    assert_eq!(code, Some(2), "{told}");
    let (code, told) = run(&server, &["show", "nobody@3"]);
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("nobody"), "{told}");
}
