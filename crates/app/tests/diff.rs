//! What changed between versions of a machine and whom that touches, asked over HTTP and by the command.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod harness;

use std::path::Path;
use std::process::Command;

use harness::Server;
use serde_json::{Value, json};

const DIFF: &str = "/v1/machines/gate/diff";

const FIRST: &str = "\
machine: gate
version: 1
initial: shut
events: [push, pull, lock, tear_down]
states:
  shut: { on: { push: open, lock: locked, tear_down: gone } }
  open: { on: { pull: shut, push: ajar } }
  ajar: { on: { pull: shut } }
  locked: { on: { push: shut } }
  gone: { type: final }
";

/// Nobody leaves it ajar any more, and a push of a locked gate does nothing. What is ajar stays with its version.
fn second() -> String {
    let second = FIRST
        .replace("version: 1", "version: 2 # by request")
        .replace(", push: ajar", "")
        .replace("  ajar: { on: { pull: shut } }\n", "")
        .replace("push: shut", "pull: shut");
    format!("{second}migrations: {{ states: {{ ajar: null }} }}\n")
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

/// A server with the first version and the second, and instances of both.
fn lived(dir: &Path) -> Server {
    let server = start(dir);
    live(&server, "default", "a", &[]);
    live(&server, "default", "b", &["push"]);
    live(&server, "default", "c", &["push", "push"]);
    live(&server, "default", "d", &["push", "push"]);
    live(&server, "default", "e", &["tear_down"]);
    live(&server, "acme", "f", &["push"]);
    assert_eq!(server.put("/v1/machines/gate", &second()).status, 200);
    live(&server, "default", "g", &[]);
    server
}

fn changes() -> Value {
    json!([
        {"part": "state", "name": "ajar", "kind": "removed", "before": {"type": "atomic"}},
        {"part": "transition", "name": "open", "trigger": "on.push", "kind": "removed", "before": {"target": "ajar"}},
        {"part": "transition", "name": "ajar", "trigger": "on.pull", "kind": "removed", "before": {"target": "shut"}},
        {"part": "transition", "name": "locked", "trigger": "on.push", "kind": "removed", "before": {"target": "shut"}},
        {"part": "transition", "name": "locked", "trigger": "on.pull", "kind": "added", "after": {"target": "shut"}},
        {"part": "migration", "name": "any other", "kind": "added", "after": {"moves.ajar": "(stays)"}},
    ])
}

fn diff(server: &Server, query: &str) -> Value {
    let answer = server.get(&format!("{DIFF}{query}"));
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.json()
}

/// How many are open, where, and how many of them where the later definition has no state.
fn instances(report: &Value) -> Value {
    let of = &report["instances"];
    assert_eq!(of["complete"], json!(true), "{report}");
    assert!(of["counted_at"].is_string(), "{report}");
    json!([of["open"], of["by_state"], of["in_removed_states"]])
}

#[test]
fn two_versions_differ_and_open_instances_of_the_earlier_one_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    let server = lived(dir.path());
    let report = diff(&server, "");
    assert_eq!(report["machine"], json!("gate"));
    assert_eq!((&report["from"]["version"], &report["to"]["version"]), (&json!(1), &json!(2)));
    assert_eq!(report["changes"], changes(), "{report:#}");
    assert_eq!(instances(&report), json!([4, {"shut": 1, "open": 1, "ajar": 2}, 2]));

    let hash = |side: &str| report[side]["hash"].as_str().unwrap().to_owned();
    let (first, second) = (hash("from"), hash("to"));
    let counted = |mut report: Value| {
        report["instances"].as_object_mut().unwrap().remove("counted_at").unwrap();
        report
    };
    let asked = counted(report);
    for query in
        ["?from=1&to=2", "?from=1", "?to=current", &format!("?from={}&to={second}", &first[..8]), "?to=2"]
    {
        assert_eq!(counted(diff(&server, query)), asked, "{query}");
    }
    // The way back, and of one to itself.
    let back = diff(&server, "?from=current&to=1");
    assert_eq!(instances(&back), json!([1, {"shut": 1}, 0]));
    assert_eq!(back["changes"].as_array().unwrap().len(), 6);
    assert_eq!(diff(&server, "?from=2&to=2")["changes"], json!([]));
    // Whoever asks is told of their own.
    let acme = server.get_with(DIFF, &[("x-tenant", "acme")]).json();
    assert_eq!(instances(&acme), json!([1, {"open": 1}, 0]));
}

#[test]
fn what_a_tenant_has_made_of_a_version_counts_as_that_version() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path());
    let overlay = "overlay: gate\nstates: { watched: {}, shut: { on: { push: watched } } }\n";
    assert_eq!(server.put("/v1/machines/gate/overlay", overlay).status, 200);
    live(&server, "default", "a", &["push"]);
    assert_eq!(server.put("/v1/machines/gate", &second()).status, 200);
    assert_eq!(instances(&diff(&server, "")), json!([1, {"watched": 1}, 1]));
}

#[test]
fn instances_are_counted_page_by_page() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path());
    for number in 0..251 {
        live(&server, "default", &format!("i-{number}"), &[]);
    }
    assert_eq!(instances(&server.post(DIFF, &second()).json()), json!([251, {"shut": 251}, 0]));
}

#[test]
fn a_definition_is_compared_before_it_is_uploaded() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path());
    live(&server, "default", "a", &["push", "push"]);
    let report = server.post(DIFF, &second()).json();
    assert_eq!(report["changes"], changes(), "{report:#}");
    assert_eq!(instances(&report), json!([1, {"ajar": 1}, 1]));
    assert_eq!(server.get("/v1/machines/gate/versions").json()["data"].as_array().unwrap().len(), 1);

    assert_eq!(server.put("/v1/machines/gate", &second()).status, 200);
    let report = server.post(DIFF, FIRST).json();
    assert_eq!((&report["from"]["version"], instances(&report)), (&json!(2), json!([0, {}, 0])));
    let report = server.post(&format!("{DIFF}?from=1"), &second()).json();
    assert_eq!((&report["changes"], instances(&report)), (&changes(), json!([1, {"ajar": 1}, 1])));
    let report = server.post(&format!("{DIFF}?to=2"), FIRST).json();
    assert_eq!((&report["changes"], instances(&report)), (&changes(), json!([1, {"ajar": 1}, 1])));
}

#[test]
fn what_cannot_be_compared_is_told_with_a_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path());
    let gets = [
        ("", 404, "not_found", "nothing was activated before version 1"),
        ("?from=7", 404, "not_found", "`gate` has no version `7`; name one by its number"),
        ("?to=next", 404, "not_found", ": 1 ("),
        ("?version=1", 400, "bad_query", "version"),
    ];
    let posts = [
        ("", FIRST.replace("gate", "door"), 400, "wrong_machine", "sent to /v1/machines/gate"),
        ("", FIRST.replace("push: open", "push: opened"), 422, "bad_definition", "1 problem"),
        ("?from=1&to=1", FIRST.to_owned(), 400, "bad_query", "drop one"),
    ];
    let gets =
        gets.map(|(query, status, code, part)| (server.get(&format!("{DIFF}{query}")), status, code, part));
    let posts = posts.map(|(query, text, status, code, part)| {
        (server.post(&format!("{DIFF}{query}"), &text), status, code, part)
    });
    for (answer, status, code, part) in gets.into_iter().chain(posts) {
        let problem = answer.json();
        assert_eq!((answer.status, &problem["code"]), (status, &json!(code)), "{problem}");
        assert!(problem["detail"].as_str().unwrap().contains(part), "{part} is missing in {problem}");
    }
    assert_eq!(server.get("/v1/machines/nothing/diff").json()["code"], json!("unknown_machine"));
}

/// How the command ended, and what it printed.
fn run(dir: &Path, arguments: &[&str]) -> (i32, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_statewright"))
        .arg("diff")
        .args(arguments)
        .current_dir(dir)
        .env_remove("STATEWRIGHT_URL")
        .output()
        .unwrap();
    (output.status.code().unwrap(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
}

const TOLD: &str = "
states
  - ajar  type: atomic

transitions
  - open on push  target: ajar
  - ajar on pull  target: shut
  - locked on push  target: shut
  + locked on pull  target: shut

migrations
  + any other  moves.ajar: (stays)
";

#[test]
fn command_compares_two_files_without_a_server() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    write("first.yaml", FIRST);
    write("second.yaml", &second());
    write("other.yaml", &format!("# the same\n{FIRST}"));
    write("bad.yaml", "machine: gate\n");
    // The port is nobody's.
    let nobody = ["--server", "http://127.0.0.1:9"];
    let run = |arguments: &[&str]| run(dir.path(), &[arguments, &nobody].concat());
    let (code, told) = run(&["first.yaml", "second.yaml"]);
    let (head, rest) = told.split_once('\n').unwrap();
    assert_eq!((code, rest), (1, TOLD), "{told}");
    assert!(head.starts_with("gate: version 1 (") && head.contains(") -> version 2 ("), "{head}");
    let (code, told) = run(&["first.yaml", "other.yaml"]);
    assert_eq!(code, 0, "{told}");
    assert!(told.ends_with("nothing that matters has changed\n"), "{told}");
    let (code, told) = run(&["first.yaml", "second.yaml", "--json"]);
    let report: Value = serde_json::from_str(&told).unwrap();
    assert_eq!((code, &report["changes"]), (1, &changes()));
    assert!(report.get("instances").is_none(), "{report}");
    for (arguments, part) in [
        (&["first.yaml", "missing.yaml"][..], "failed to read missing.yaml"),
        (&["first.yaml", "bad.yaml"], "bad.yaml does not load"),
        (&["gate@1", "gate@2"], "failed to reach"),
        (&["first.yaml"], "Usage"),
    ] {
        let (code, told) = run(arguments);
        assert_eq!(code, 2, "{arguments:?}: {told}");
        assert!(told.contains(part), "{part} is missing in {told}");
    }
}

#[test]
fn command_asks_a_server_and_tells_whom_a_change_touches() {
    let dir = tempfile::tempdir().unwrap();
    let server = lived(dir.path());
    std::fs::write(dir.path().join("new.yaml"), second().replace("version: 2", "version: 3")).unwrap();
    let run = |arguments: &[&str]| run(dir.path(), &[arguments, &["--server", &server.url]].concat());
    let (code, told) = run(&["gate@1", "gate"]);
    assert_eq!(code, 1, "{told}");
    let (_, rest) = told.split_once('\n').unwrap();
    let (changes, instances) =
        rest.split_once("\n4 instances open on version 1 (").unwrap_or_else(|| panic!("{told}"));
    assert_eq!(changes, TOLD);
    let (_, instances) = instances.split_once('\n').unwrap();
    assert_eq!(
        instances,
        "         2  ajar\n         1  open\n         1  shut\n  2 of them in states that the later definition does not have\n"
    );
    let (code, told) = run(&["gate", "new.yaml"]);
    assert_eq!(code, 0, "{told}");
    assert!(told.contains("nothing that matters has changed\n\n1 instance open on version 2 ("), "{told}");
    let (code, told) = run(&["new.yaml", "gate@1", "--json"]);
    assert_eq!(code, 1, "{told}");
    let report: Value = serde_json::from_str(&told).unwrap();
    assert_eq!((&report["from"]["version"], &report["to"]["version"]), (&json!(3), &json!(1)));
    for (arguments, part) in [
        (["gate@1", "gate@9"], "has no version `9`"),
        (["gate@1", "door"], "two machines"),
        (["door", "new.yaml"], "unknown_machine"),
    ] {
        let (code, told) = run(&arguments);
        assert_eq!(code, 2, "{arguments:?}: {told}");
        assert!(told.contains(part), "{part} is missing in {told}");
    }
}
