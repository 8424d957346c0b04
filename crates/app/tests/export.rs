//! Tables for analysis, over HTTP and by the command.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod harness;

use std::process::Command;

use harness::Server;
use harness::days::busy;
use serde_json::{Value, json};

fn server(dir: &tempfile::TempDir) -> Server {
    Server::dev(&dir.path().join("s.db"), &["--clock", "virtual"])
}

fn run(server: &Server, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_statewright"));
    let output = command.arg("export").args(arguments).args(["--server", &server.url]).output().unwrap();
    let [told, said] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    (output.status.code(), told, said)
}

fn rows(server: &Server, path: &str) -> Vec<Value> {
    let answer = server.get(path);
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.body.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn every_table_has_what_the_lists_have() {
    let dir = tempfile::tempdir().unwrap();
    let server = server(&dir);
    busy(&server);
    let flow = json!({ "flow": "discovery", "id": "f1", "key": "k" });
    assert_eq!(server.post("/v1/flows", &flow.to_string()).status, 201);
    let list = |path: &str| server.get(path).json()["data"].as_array().unwrap().clone();
    let sessions = list("/v1/instances?machine=progress_update");
    let found = rows(&server, "/v1/export/sessions");
    assert_eq!(found.len(), sessions.len());
    for (row, session) in found.iter().zip(&sessions) {
        for name in ["id", "machine", "version", "definition", "subject", "state", "revision", "context"] {
            assert_eq!(row[name], session[name], "{name} of {row}");
        }
    }
    let mut entries = 0;
    let transitions = rows(&server, "/v1/export/transitions?machine=progress_update");
    for session in &sessions {
        let id = session["id"].as_str().unwrap();
        let history = list(&format!("/v1/instances/{id}/history?limit=1000"));
        let of_it: Vec<&Value> =
            transitions.iter().filter(|row| row["session_id"] == session["id"]).collect();
        assert_eq!(of_it.len(), history.len());
        for (row, entry) in of_it.iter().zip(&history) {
            for name in
                ["revision", "at", "event", "from", "to", "success", "outcome", "reason", "key", "text"]
            {
                assert_eq!(row[name], entry[name], "{name} of {row}");
            }
        }
        entries += history.len();
    }
    assert_eq!(entries, transitions.len());
    assert_eq!(rows(&server, "/v1/export/clarifications").len(), list("/v1/clarifications?limit=1000").len());
    let flows = rows(&server, "/v1/export/flows");
    assert_eq!(flows.iter().map(|flow| &flow["id"]).collect::<Vec<_>>(), [&json!("f1")]);
    let phases = rows(&server, "/v1/export/phases");
    assert_eq!(phases.len(), list("/v1/phases?flow=discovery").len());
}

#[test]
fn a_row_has_its_columns_and_csv_has_them_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let server = server(&dir);
    busy(&server);
    server.post("/v1/flows", &json!({ "flow": "discovery", "id": "f1", "key": "k" }).to_string());
    for table in ["sessions", "flows", "transitions", "clarifications", "phases"] {
        let row = rows(&server, &format!("/v1/export/{table}")).remove(0);
        let mut names: Vec<&str> = row.as_object().unwrap().keys().map(String::as_str).collect();
        let (code, csv, said) = run(&server, &[table, "--format", "csv"]);
        assert_eq!(code, Some(0), "{said}");
        let mut columns: Vec<&str> = csv.lines().next().unwrap().split(',').collect();
        columns.sort_unstable();
        names.sort_unstable();
        assert_eq!(columns, names, "{table}");
    }
}

#[test]
fn a_time_cuts_off_what_is_outside() {
    let dir = tempfile::tempdir().unwrap();
    let server = server(&dir);
    busy(&server);
    let all = rows(&server, "/v1/export/transitions");
    let mut times: Vec<&str> = all.iter().map(|row| row["at"].as_str().unwrap()).collect();
    times.sort_unstable();
    let middle = times[times.len() / 2];
    let before = rows(&server, &format!("/v1/export/transitions?until={middle}"));
    let after = rows(&server, &format!("/v1/export/transitions?since={middle}"));
    assert!(!before.is_empty() && !after.is_empty(), "{middle}");
    assert_eq!(before.len() + after.len(), all.len());
    assert!(before.iter().all(|row| row["at"].as_str().unwrap() < middle));
}

#[test]
fn the_command_writes_files_and_replaces_none() {
    let dir = tempfile::tempdir().unwrap();
    let server = server(&dir);
    busy(&server);
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (code, told, _) = run(&server, &["transitions"]);
    assert_eq!((code, told), (Some(0), server.get("/v1/export/transitions").body));
    let count = server.get("/v1/export/transitions").body.lines().count();
    let (code, _, said) = run(&server, &["transitions", "-o", &path("t.parquet")]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains(&format!("{count} rows of transitions in ")), "{said}");
    let file = std::fs::read(path("t.parquet")).unwrap();
    assert!(file.starts_with(b"PAR1") && file.ends_with(b"PAR1"));
    let (code, _, said) = run(&server, &["transitions", "-o", &path("t.parquet")]);
    assert!(code == Some(1) && said.contains("--force"), "{said}");
    assert_eq!(std::fs::read(path("t.parquet")).unwrap(), file);
    let (code, _, said) = run(&server, &["transitions", "-o", &path("t.csv")]);
    assert_eq!(code, Some(0), "{said}");
    assert!(std::fs::read_to_string(path("t.csv")).unwrap().starts_with("session_id,machine,"));
}

#[test]
fn what_cannot_be_exported_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let server = server(&dir);
    for (path, status, code, part) in [
        ("/v1/export/things", 404, "not_found", "transitions"),
        ("/v1/export/sessions?since=soon", 400, "bad_query", "since"),
        ("/v1/export/sessions?machine=nothing", 404, "unknown_machine", "nothing"),
    ] {
        let answer = server.get(path);
        let problem = answer.json();
        assert_eq!((answer.status, &problem["code"]), (status, &json!(code)), "{problem}");
        assert!(problem["detail"].as_str().unwrap().contains(part), "{problem}");
    }
    let (code, _, said) = run(&server, &["things"]);
    assert!(code == Some(2) && said.contains("clarifications"), "{said}");
    let (code, _, said) = run(&server, &["sessions", "--machine", "nothing", "-o", "/nowhere/x"]);
    assert!(code == Some(1) && said.contains("unknown_machine"), "{said}");
}
