//! Open instances are taken to another version, asked over HTTP and by the command; nobody is stranded by an activation.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod harness;

use std::path::Path;
use std::process::{Command, Output};

use harness::Server;
use serde_json::{Value, json};

const MIGRATE: &str = "/v1/machines/gate/migrate";

const FIRST: &str = "\
machine: gate
version: 1
context: { count: { type: integer, default: 2 } }
initial: shut
events: [push, pull]
states:
  shut: { on: { push: open } }
  open: { on: { pull: shut, push: ajar } }
  ajar: { on: { pull: shut } }
";

/// What was ajar is called tilted.
fn second(migrations: &str) -> String {
    let text = FIRST.replace("version: 1", "version: 2").replace("ajar", "tilted");
    format!("{text}migrations: {migrations}\n")
}

fn start(dir: &Path) -> Server {
    let store = format!("sqlite:{}", dir.join("gate.db").display());
    let machines = dir.join("machines");
    std::fs::create_dir_all(&machines).unwrap();
    std::fs::write(machines.join("gate.yaml"), FIRST).unwrap();
    let machines = machines.to_str().unwrap();
    Server::start(&["dev", "--listen", "127.0.0.1:0", "--store", &store, "--machines", machines], &[])
}

/// An instance after some events.
fn live(server: &Server, tenant: &str, id: &str, events: &[&str]) {
    let headers = [("x-tenant", tenant)];
    let create = json!({"machine": "gate", "id": id, "key": format!("create-{id}")}).to_string();
    assert_eq!(server.post_with("/v1/instances", &create, &headers).status, 201);
    for (number, event) in events.iter().enumerate() {
        let body = json!({"event": event, "key": number.to_string()}).to_string();
        let answer = server.post_with(&format!("/v1/instances/{id}/events"), &body, &headers);
        assert_eq!(answer.status, 200, "{}", answer.body);
    }
}

fn lived(dir: &Path) -> Server {
    let server = start(dir);
    live(&server, "default", "a", &[]);
    live(&server, "default", "b", &["push"]);
    live(&server, "default", "c", &["push", "push"]);
    live(&server, "acme", "d", &["push", "push"]);
    server
}

fn migrate(server: &Server, body: &Value) -> Value {
    let answer = server.post(MIGRATE, &body.to_string());
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.json()
}

/// Already there, migrated, parked, left.
fn counts(report: &Value) -> Value {
    ["already", "migrated", "parked", "left"].iter().map(|name| report[name].clone()).collect()
}

fn command(server: &Server, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_statewright"));
    command.args(["migrate", "gate", "--server", &server.url]).args(args).output().unwrap()
}

#[test]
fn a_version_that_strands_instances_is_refused_with_their_number() {
    let dir = tempfile::tempdir().unwrap();
    let server = lived(dir.path());
    let refused = server.put("/v1/machines/gate", &second("[]"));
    assert_eq!(refused.status, 409, "{}", refused.body);
    let refused = refused.json();
    assert_eq!(refused["code"], "unmapped_states");
    // Of all tenants: the definition is everybody's.
    let told = refused["detail"].as_str().unwrap();
    assert!(told.contains("2 in `ajar`"), "{told}");
    assert_eq!(server.get("/v1/machines/gate").json()["version"], 1);
    assert_eq!(server.put("/v1/machines/gate", &second("{ states: { ajar: tilted } }")).status, 200);
}

#[test]
fn instances_are_taken_to_the_current_version_after_a_trial() {
    let dir = tempfile::tempdir().unwrap();
    let server = lived(dir.path());
    let two = second("{ states: { ajar: tilted }, context: { count: before.count + 1 } }");
    assert_eq!(server.put("/v1/machines/gate", &two).status, 200);
    let tried = migrate(&server, &json!({"to_version": 2, "dry_run": true}));
    assert_eq!(counts(&tried), json!([0, 3, 0, 0]));
    assert_eq!(tried["moves"][0], json!({"from_version": 1, "from": "ajar", "to": "tilted", "count": 1}));
    assert_eq!(server.get("/v1/instances/c").json()["version"], 1);

    let done = migrate(&server, &json!({"by": "ops"}));
    assert_eq!((counts(&done), &done["to"]["version"]), (json!([0, 3, 0, 0]), &json!(2)));
    assert_eq!((&done["has_more"], &done["next_cursor"]), (&json!(false), &Value::Null));
    let c = server.get("/v1/instances/c").json();
    assert_eq!(
        (&c["state"], &c["version"], &c["context"]["count"]),
        (&json!("tilted"), &json!(2), &json!(3))
    );
    let history = server.get("/v1/instances/c/history").json();
    let last = history["data"].as_array().unwrap().last().unwrap().clone();
    assert_eq!((&last["event"], &last["by"]), (&json!("migrate"), &json!("ops")));
    assert_eq!(last["reason"], "from version 1 to 2");
    assert_eq!(counts(&migrate(&server, &json!({}))), json!([3, 0, 0, 0]));
    // Another tenant's are its own to take along, and the past of all comes out as it was stored.
    let acme = server.get_with("/v1/instances/d", &[("x-tenant", "acme")]).json();
    assert_eq!((&acme["state"], &acme["version"]), (&json!("ajar"), &json!(1)));
    let replayed = server.get("/v1/replay").json();
    assert_eq!((&replayed["same"], &replayed["instances"]), (&json!(3), &json!(3)));
    assert_eq!(server.get("/v1/instances/c?revision=3").json()["state"], "ajar");
    // A story is of one definition.
    assert_eq!(server.get("/v1/instances/c/story").status, 409);
}

#[test]
fn what_is_asked_for_wrongly_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let server = lived(dir.path());
    for (body, status, code) in [
        (json!({"to_version": 9}), 404, "not_found"),
        (json!({"to_version": "feedbeef"}), 404, "not_found"),
        (json!({"to_version": [1]}), 400, "malformed_body"),
        (json!({"limit": 0}), 400, "malformed_body"),
        (json!({"dryrun": true}), 400, "malformed_body"),
    ] {
        let answer = server.post(MIGRATE, &body.to_string());
        assert_eq!((answer.status, &answer.json()["code"]), (status, &json!(code)), "{body}");
    }
    assert_eq!(server.post("/v1/machines/door/migrate", "{}").status, 404);
}

#[test]
fn the_command_tells_who_went_where_and_who_stayed() {
    let dir = tempfile::tempdir().unwrap();
    let server = lived(dir.path());
    assert_eq!(server.put("/v1/machines/gate", &second("{ states: { ajar: null } }")).status, 200);
    let tried = command(&server, &["--dry-run"]);
    assert_eq!(tried.status.code(), Some(1), "somebody has no place");
    let told = String::from_utf8(tried.stdout).unwrap();
    for line in [
        "        2  would be migrated",
        "        1  would be left with the version that they have",
        "        1  version 1, `open`",
        "c  left, version 1, `ajar`: the migration leaves what is in `ajar` where it is",
    ] {
        assert!(told.contains(line), "{line} in\n{told}");
    }
    assert_eq!(server.get("/v1/instances/a").json()["version"], 1);

    let done = command(&server, &["--json", "--by", "ops"]);
    assert_eq!(done.status.code(), Some(1));
    assert_eq!(counts(&serde_json::from_slice(&done.stdout).unwrap()), json!([0, 2, 0, 1]));
    assert_eq!(server.put("/v1/machines/gate", &second("{ states: { ajar: tilted } }")).status, 200);
    let done = command(&server, &["--json"]);
    assert_eq!(done.status.code(), Some(0));
    assert_eq!(counts(&serde_json::from_slice(&done.stdout).unwrap()), json!([0, 3, 0, 0]));
    let back = command(&server, &["--to", "1", "--json"]);
    assert_eq!(counts(&serde_json::from_slice(&back.stdout).unwrap()), json!([0, 2, 0, 1]));
    let unknown = command(&server, &["--to", "7"]);
    assert_eq!(unknown.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("has no version `7`"), "{unknown:?}");
}

#[test]
fn what_a_version_would_have_made_of_the_history_is_told_before_it_is_activated() {
    let dir = tempfile::tempdir().unwrap();
    let server = lived(dir.path());
    // The second push of an open gate is guarded, and a gate that is ajar has no place.
    let changed = FIRST.replace("push: ajar", "push: { target: ajar, guard: context.count > 5 }");
    let file = dir.path().join("changed.yaml");
    std::fs::write(&file, &changed).unwrap();
    let shadow = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_statewright"));
        let done = command.arg("shadow").args(args).args(["--server", &server.url]).output().unwrap();
        assert!(done.status.success(), "{done:?}");
        String::from_utf8(done.stdout).unwrap()
    };
    let told = shadow(&[file.to_str().unwrap()]);
    for line in [
        "6 inputs of 3 instances",
        "5 the same, 1 different, 0 not comparable",
        "     1  `push` in `open`  (differs: outcome, state)",
        "        was       taken in `ajar`",
        "        would be  guard_rejected in `open`",
        "        such as   c@3",
    ] {
        assert!(told.contains(line), "{line} in\n{told}");
    }
    let report: Value = serde_json::from_str(&shadow(&["gate@1", "--json"])).unwrap();
    assert_eq!((&report["same"], &report["different"]), (&json!(6), &json!(0)));
    let report: Value = serde_json::from_str(&shadow(&["gate", "--json", "--since", "1d"])).unwrap();
    assert_eq!(report["same"], json!(6));

    let path = "/v1/machines/gate/shadow";
    let second = json!({"definition": second("[]")});
    let report = server.post(path, &second.to_string()).json();
    assert_eq!((&report["not_comparable"], &report["inputs"]), (&json!(0), &json!(6)), "{report:#}");
    for (body, status, code) in [
        (json!({"definition": changed, "version": "1"}), 400, "malformed_body"),
        (json!({"version": "7"}), 404, "not_found"),
        (json!({"definition": "machine: door"}), 422, "bad_definition"),
        (json!({"since": "yesterday"}), 400, "malformed_body"),
        (json!({"limit": 0}), 400, "malformed_body"),
    ] {
        let answer = server.post(path, &body.to_string());
        assert_eq!((answer.status, &answer.json()["code"]), (status, &json!(code)), "{body}");
    }
    assert_eq!(server.get("/v1/machines/gate/versions").json()["data"].as_array().unwrap().len(), 1);
}
