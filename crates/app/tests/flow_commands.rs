//! Commands on flows as their users type them, against a running server.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod harness;

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use harness::Server;
use harness::outside::MACHINES;
use serde_json::{Value, json};

/// A server whose clock stands still and that remembers nothing.
fn server() -> Server {
    let fixed = ["dev", "--clock", "virtual", "--listen", "127.0.0.1:0", "--store", "memory:"];
    Server::start(&[&fixed[..], &["--machines", MACHINES]].concat(), &[])
}

fn command(server: &Server, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_statewright"));
    command.arg("flow").args(arguments).args(["--server", &server.url]);
    command
}

/// How it ended, and what it printed.
fn flow(server: &Server, arguments: &[&str]) -> (i32, String) {
    let output = command(server, arguments).output().unwrap();
    let told = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8(told).unwrap())
}

/// What it printed, when it ended well.
fn told(server: &Server, line: &str) -> String {
    let (code, told) = flow(server, &line.split_whitespace().collect::<Vec<_>>());
    assert_eq!(code, 0, "{line}: {told}");
    told
}

fn contains_all(told: &str, parts: &[&str]) {
    for part in parts {
        assert!(told.contains(part), "{part:?} is not in: {told}");
    }
}

#[test]
fn what_is_done_is_told_with_what_came_of_it() {
    let server = server();
    let begun = told(&server, r#"start discovery --id e1 --by ann --context {"assets":3}"#);
    assert_eq!(begun, "e1 is initialized, 0%\n`statewright flow watch e1` shows how it goes on\n");
    for (line, expected) in [
        (
            "do e1 data_import start --by ann --key k1",
            "data_import: not_started -> in_progress\nthe flow is data_gathering, 0% -> 4%\n",
        ),
        ("do e1 data_import progress --progress 0.5", "the flow is data_gathering, 4% -> 7%\n"),
        (
            r#"do e1 data_import submit --output {"assets":5}"#,
            "data_import: in_progress -> waiting_validation\nthe flow is data_gathering, 7% -> 10%\n",
        ),
        (
            "do e1 data_import validate --by bob --reason checked",
            "data_import: waiting_validation -> completed\nthe flow is data_gathering, 10% -> 14%\n",
        ),
        ("pause e1 --by ann --reason lunch", "the flow is paused, 14%\n"),
        ("resume e1", "the flow is data_gathering, 14%\n"),
    ] {
        assert_eq!(told(&server, line), expected, "{line}");
    }
    let again = told(&server, "do e1 data_import start --by ann --key k1");
    contains_all(&again, &["data_import: not_started -> in_progress\n", "and not once more"]);
    let (code, refused) = flow(&server, &["do", "e1", "asset_inventory", "start"]);
    assert_eq!(code, 1);
    contains_all(&refused, &["data_cleansing", "(needs_missing)"]);
    contains_all(
        &told(&server, "history e1"),
        &[
            "data_import.validate by bob: checked\n        data_import: waiting_validation -> completed\n",
            "        the flow: initialized -> data_gathering, 4%\n",
            "  pause by ann: lunch\n        the flow: data_gathering -> paused, 14%\n",
        ],
    );
    contains_all(
        &told(&server, "show e1"),
        &["✓ data_import          ██████████  completed", "context      {\"assets\":5}\n"],
    );
    contains_all(
        &told(&server, "options e1"),
        &["begin `field_mapping`\n    statewright flow do e1 field_mapping start\n", "flow cancel e1\n"],
    );
    contains_all(&told(&server, "ls --flow discovery --status data_gathering"), &["e1 ", " 14% "]);
    let list: Value = serde_json::from_str(&told(&server, "ls --status paused --json")).unwrap();
    assert_eq!(list["data"], json!([]));
}

#[test]
fn flows_are_found_by_their_phases() {
    let server = server();
    for line in [
        "start discovery --id e1",
        "start discovery --id e2",
        "do e2 data_import start",
        "start discovery --id e3",
        "do e3 data_import start",
        "do e3 data_import fail --error-code AGENT_TIMEOUT",
        "do e3 data_import start",
        "do e3 data_import fail --error-code AGENT_TIMEOUT",
    ] {
        told(&server, line);
    }
    for (filters, found) in [
        ("--flow discovery", &["e3", "e2", "e1"][..]),
        ("--status data_gathering", &["e2"]),
        ("--phase data_import --phase-state in_progress", &["e2"]),
        ("--phase tech_debt --phase-state in_progress", &[]),
        ("--phase data_import --retries 1", &["e3"]),
        ("--retries 2", &[]),
    ] {
        let list: Value = serde_json::from_str(&told(&server, &format!("ls --json {filters}"))).unwrap();
        let ids: Vec<&str> =
            list["data"].as_array().unwrap().iter().map(|row| row["id"].as_str().unwrap()).collect();
        assert_eq!(ids, found, "{filters}");
    }
    let (code, told) = flow(&server, &["ls", "--phase-state", "begun"]);
    assert_eq!(code, 2);
    contains_all(&told, &["[possible values: not_started, in_progress,"]);
}

#[test]
fn a_preview_says_which_phases_begin_again_and_changes_nothing() {
    let server = server();
    let booleans = r#"{"data_import_completed":true,"field_mapping_completed":true}"#;
    told(&server, &format!("start discovery --id e1 --booleans {booleans}"));
    let before = told(&server, "show e1 --json");
    assert_eq!(
        told(&server, "do e1 data_import rollback --dry-run"),
        "`rollback` of `data_import` would be taken; nothing has been changed
2 phases begin again: data_import, field_mapping
  data_import: completed -> rolled_back
  field_mapping: completed -> rolled_back
progress goes from 28% to 0%
the flow is then error_recovery
"
    );
    contains_all(
        &told(&server, "cancel e1 --dry-run"),
        &["progress stays at 28%\nthe flow is then cancelled\n"],
    );
    assert_eq!(told(&server, "show e1 --json"), before);
    let (code, refused) = flow(&server, &["do", "e1", "data_import", "approve", "--dry-run"]);
    assert_eq!(code, 1, "{refused}");
}

/// A watch that has told how the flow stands.
fn watching(server: &Server, id: &str) -> (Child, BufReader<ChildStdout>, String) {
    let mut child = command(server, &["watch", id]).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut first = String::new();
    stdout.read_line(&mut first).unwrap();
    (child, stdout, first)
}

/// What is told of a flow from now on, without the time of each line; and how the watch ends.
fn rest((mut child, mut stdout, _): (Child, BufReader<ChildStdout>, String)) -> (i32, Vec<String>) {
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).unwrap();
    let line = |line: &str| line.split_once("Z  ").map_or(line, |(_, line)| line).to_owned();
    (child.wait().unwrap().code().unwrap(), rest.lines().map(line).collect())
}

#[test]
fn whoever_watches_misses_no_change_and_learns_the_end() {
    let server = server();
    told(&server, "start discovery --id e1");
    let watch = watching(&server, "e1");
    assert!(watch.2.ends_with("Z  discovery e1 is initialized, 0%\n"), "{}", watch.2);
    for line in ["do e1 data_import start --by ann", "do e1 data_import submit", "cancel e1 --by bob"] {
        told(&server, line);
    }
    let changes = [
        "data_import: not_started -> in_progress (by ann)",
        "the flow: initialized -> data_gathering, 4% (by ann)",
        "data_import: in_progress -> waiting_validation",
        "the flow: data_gathering -> cancelled, 10% (by bob)",
    ];
    assert_eq!(rest(watch), (3, changes.map(str::to_owned).to_vec()));

    let phases = ["data_import", "field_mapping", "data_cleansing", "asset_inventory"];
    let booleans: Value = phases.iter().map(|phase| (format!("{phase}_completed"), json!(true))).collect();
    told(&server, &format!("start discovery --id e2 --booleans {booleans}"));
    let watch = watching(&server, "e2");
    let fail = "do e2 tech_debt fail --error-code PERMISSION_DENIED --error-message no";
    for line in ["do e2 tech_debt start", fail, "do e2 tech_debt retry", "do e2 tech_debt start"] {
        told(&server, line);
    }
    told(&server, "do e2 tech_debt complete");
    let (code, changes) = rest(watch);
    assert_eq!(code, 0, "{changes:?}");
    let all = changes.join("\n");
    contains_all(&all, &["tech_debt: in_progress -> failed: PERMISSION_DENIED: no", " -> completed, 100%"]);
    assert_eq!(watching(&server, "e2").0.wait().unwrap().code(), Some(0));
    assert_eq!(watching(&server, "nobody").0.wait().unwrap().code(), Some(1));
}

fn import(server: &Server, file: &Path, more: &[&str]) -> (i32, Value) {
    let file = file.to_str().unwrap();
    let (code, told) = flow(server, &[&["import", file, "--flow", "discovery", "--json"], more].concat());
    (code, serde_json::from_str(&told).unwrap_or_else(|error| panic!("{error}: {told}")))
}

#[test]
fn old_records_are_imported_once_and_what_has_no_place_is_named() {
    let server = server();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("old.jsonl");
    let records = [
        r#"{"id": "o-1", "data_import_completed": true, "field_mapping_completed": 1, "assets": 4, "name": "x"}"#,
        r#"{"id": "o-2", "data_import_completed": false, "field_mapping_completed": true, "name": "y"}"#,
        "",
        r#"{"id": "o-3", "data_import_completed": "yes"}"#,
        r#"{"id": "o-1"}"#,
        r#"{"id": "o-4", "assets": "many"}"#,
    ];
    std::fs::write(&file, records.join("\n")).unwrap();
    let report = |accepted: usize, existed: usize, dry_run: bool, suffix: &str| {
        json!({
            "accepted": accepted, "existed": existed, "complete": true, "dry_run": dry_run, "gaps": 1,
            "left_out": { "name": 2 },
            "rejected": [
                {"line": 4, "id": "o-3", "reason": "`data_import_completed` must be true or false, not \"yes\""},
                {"line": 5, "id": "o-1", "reason": "the id is that of line 1"},
                {"line": 6, "id": "o-4",
                    "reason": format!("context.assets must be a whole number, not \"many\"{suffix}")},
            ],
        })
    };
    assert_eq!(import(&server, &file, &["--dry-run"]), (1, report(2, 0, true, "")));
    assert_eq!(import(&server, &file, &[]), (1, report(2, 0, false, " (invalid_context)")));
    assert_eq!(import(&server, &file, &[]), (1, report(0, 2, false, " (invalid_context)")));
    let view = server.get("/v1/flows/o-1").json();
    assert_eq!((&view["status"], &view["context"]["assets"]), (&json!("discovery"), &json!(4)), "{view}");

    // Whoever has changed a record since is told that the flow has not followed.
    std::fs::write(&file, r#"{"id": "o-1", "data_import_completed": false}"#).unwrap();
    let (code, report) = import(&server, &file, &[]);
    assert_eq!((code, &report["existed"]), (1, &json!(0)), "{report}");
    assert!(
        report["rejected"][0]["reason"].as_str().unwrap().contains("the flow stays as it is"),
        "{report}"
    );
}

#[test]
fn what_is_exported_can_be_imported_elsewhere() {
    let (one, other) = (server(), server());
    told(&one, r#"start discovery --id e1 --booleans {"data_import_completed":true}"#);
    told(&one, "start discovery --id e2");
    let exported = told(&one, "export --flow discovery");
    let lines: Vec<Value> = exported.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of_e1 = lines.iter().find(|line| line["id"] == json!("e1")).unwrap();
    assert_eq!(of_e1["status"], json!("data_gathering"));
    assert_eq!(of_e1["booleans"]["data_import_completed"], json!(true));
    assert_eq!(of_e1["booleans"]["field_mapping_completed"], json!(false));
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("exported.jsonl");
    std::fs::write(&file, &exported).unwrap();
    let (code, report) = import(&other, &file, &[]);
    assert_eq!((code, &report["accepted"]), (0, &json!(2)), "{report}");
    assert_eq!(report["left_out"], json!({ "progress": 2, "status": 2 }));
    let sorted = |told: String| {
        let mut lines: Vec<String> = told.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(sorted(told(&other, "export --flow discovery")), sorted(exported));
}
