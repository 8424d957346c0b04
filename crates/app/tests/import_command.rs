//! `import`: a file of another system's sessions, by a mapping, each accounted for once.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod harness;

use std::path::Path;
use std::process::Command;

use harness::Server;
use kernel::time::Timestamp;
use serde_json::{Value, json};
use testbed::{Kind, Lodging};

const MAPPING: &str = "
machine: progress_update
id: record.session_id
subject: record.user_id
state: record.fsm_state
states: { AWAITING_ACTION: awaiting_action, DONE: completed }
skip: record.user_id == 'nobody'
context: { task_id: record.task }
began_at: record.created
expires_at: \"'2999-01-01T00:00:00Z'\"
topic: \"record.fsm_state == 'AWAITING_ACTION' ? 'update' : null\"
";

fn server(dir: &tempfile::TempDir) -> Server {
    Server::dev(&dir.path().join("s.db"), &["--clock", "virtual"])
}

/// With its exit code, what it said on standard output, and on standard error.
fn run(server: &Server, dir: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    std::fs::write(dir.join("mapping.yaml"), MAPPING).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_statewright"));
    command.current_dir(dir).arg("import").args(arguments).args(["--server", &server.url]);
    let output = command.output().unwrap();
    let [told, said] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    (output.status.code(), told, said)
}

fn record(number: usize) -> Value {
    let state = if number.is_multiple_of(5) { "DONE" } else { "AWAITING_ACTION" };
    json!({ "session_id": format!("old-{number}"), "user_id": format!("user-{number}"), "fsm_state": state,
        "task": format!("T{number}"), "created": "2026-01-05T09:00:00Z" })
}

/// One of each way in which a record can be no session, with a part of the reason.
const BROKEN: [(&str, &str); 10] = [
    ("{\"session_id\": \"x\"", "no JSON"),
    ("[1, 2]", "no object"),
    (
        r#"{"session_id": null, "user_id": "x", "fsm_state": "DONE", "task": null, "created": null}"#,
        "neither an `id`",
    ),
    (
        r#"{"session_id": "x1", "user_id": "x1", "fsm_state": "LOST", "task": null, "created": null}"#,
        "no state `LOST`",
    ),
    (
        r#"{"session_id": "x2", "user_id": "x2", "fsm_state": "DONE", "task": 7, "created": null}"#,
        "context.task_id",
    ),
    (
        r#"{"session_id": "x3", "user_id": "x3", "fsm_state": "DONE", "task": null, "created": "soon"}"#,
        "no time",
    ),
    (
        r#"{"session_id": "x4", "user_id": "x4", "fsm_state": "DONE", "task": null, "created": "2999-01-01T00:00:00Z"}"#,
        "to come",
    ),
    (
        r#"{"session_id": "x5", "user_id": ["x"], "fsm_state": "DONE", "task": null, "created": null}"#,
        "`subject` must be text",
    ),
    (r#"{"session_id": "x6", "user_id": "x6", "fsm_state": "DONE", "created": null}"#, "record.task"),
    (
        r#"{"session_id": "x7", "user_id": "user-1", "fsm_state": "AWAITING_ACTION", "task": null, "created": null}"#,
        "exists",
    ),
];
const GOOD: usize = 990;

/// A thousand lines, one in a hundred of them broken, and one that is skipped.
fn old_sessions() -> String {
    let mut lines: Vec<String> = (0..GOOD).map(|number| record(number).to_string()).collect();
    for (place, (broken, _)) in BROKEN.iter().enumerate() {
        lines.insert(place * 40 + 60, (*broken).to_owned());
    }
    lines.push(json!({ "user_id": "nobody" }).to_string());
    lines.join("\n") + "\n\n"
}

fn counts(report: &Value) -> [u64; 5] {
    ["records", "imported", "existed", "skipped", "rejected"].map(|name| report[name].as_u64().unwrap())
}

#[test]
fn every_record_of_a_file_is_accounted_for_once() {
    let dir = tempfile::tempdir().unwrap();
    let server = server(&dir);
    std::fs::write(dir.path().join("old.jsonl"), old_sessions()).unwrap();
    let import = |more: &[&str]| {
        let mut arguments = vec!["old.jsonl", "--mapping", "mapping.yaml", "--json"];
        arguments.extend(more);
        let (code, told, said) = run(&server, dir.path(), &arguments);
        assert_eq!(code, Some(1), "{said}");
        serde_json::from_str::<Value>(&told).unwrap()
    };
    // Of those that are tried out, none is in the way of another.
    let dry = import(&["--dry-run"]);
    assert_eq!(counts(&dry), [1_001, 991, 0, 1, 9], "{dry:#}");
    assert_eq!(server.get("/v1/instances").json()["data"], json!([]));
    let first = import(&["--rejects", "rejects.jsonl"]);
    assert_eq!(counts(&first), [1_001, 990, 0, 1, 10], "{first:#}");
    assert_eq!(first["states"], json!({ "awaiting_action": 792, "completed": 198 }));
    let rejects = std::fs::read_to_string(dir.path().join("rejects.jsonl")).unwrap();
    let rejects: Vec<Value> = rejects.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for (place, (broken, reason)) in BROKEN.iter().enumerate() {
        let line = format!("line {}", place * 40 + 61);
        let found = rejects.iter().find(|reject| reject["place"] == json!(line)).unwrap();
        assert!(found["reason"].as_str().unwrap().contains(reason), "{reason}: {found}");
        let is_kept = serde_json::from_str::<Value>(broken)
            .ok()
            .filter(Value::is_object)
            .map_or_else(|| found["record"] == json!(broken), |record| found["record"] == record);
        assert!(is_kept, "{broken}: {found}");
    }
    assert_eq!(rejects.len(), BROKEN.len());
    let again = import(&[]);
    assert_eq!(counts(&again), [1_001, 0, 990, 1, 10], "{again:#}");
    let replay = server.get("/v1/replay").json();
    assert_eq!((&replay["instances"], &replay["same"]), (&json!(990), &json!(990)), "{replay:#}");
}

#[test]
fn a_record_that_no_request_may_hold_keeps_no_other_from_coming() {
    let dir = tempfile::tempdir().unwrap();
    let server = server(&dir);
    let mut records: Vec<Value> = (0..20).map(record).collect();
    records[7]["task"] = json!("x".repeat(1_200_000));
    // Too long for the key that is made of it.
    records[13]["session_id"] = json!("y".repeat(196));
    let lines: Vec<String> = records.iter().map(Value::to_string).collect();
    std::fs::write(dir.path().join("old.jsonl"), lines.join("\n")).unwrap();
    let report = found(&server, dir.path(), &["old.jsonl"]);
    assert_eq!(counts(&report), [20, 18, 0, 0, 2], "{report:#}");
    let told = report["first_rejected"].as_array().unwrap();
    for (rejected, place, code) in [(&told[0], "line 8", "body_too_large"), (&told[1], "line 14", "bad_key")]
    {
        assert_eq!(rejected["place"], json!(place));
        assert!(rejected["reason"].as_str().unwrap().contains(code), "{rejected}");
    }
}

#[test]
fn a_backup_of_what_was_there_comes_first() {
    let dir = tempfile::tempdir().unwrap();
    let server = server(&dir);
    assert_eq!(server.say("ana", "m1", "update").status, 200);
    std::fs::write(dir.path().join("old.jsonl"), record(1).to_string()).unwrap();
    let arguments = ["old.jsonl", "--mapping", "mapping.yaml", "--backup", "before.backup", "--json"];
    let (code, told, said) = run(&server, dir.path(), &arguments);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("before.backup has ") && said.contains("1 instance"), "{said}");
    assert_eq!(serde_json::from_str::<Value>(&told).unwrap()["imported"], 1);
    let mut verify = Command::new(env!("CARGO_BIN_EXE_statewright"));
    let verified =
        verify.current_dir(dir.path()).args(["verify", "before.backup", "--json"]).output().unwrap();
    let contents: Value = serde_json::from_slice(&verified.stdout).unwrap();
    assert_eq!(contents["counts"]["instances"], 1, "{contents}");
    // Without it, nothing comes: the name is taken.
    std::fs::write(dir.path().join("old.jsonl"), record(2).to_string()).unwrap();
    let (code, _, said) = run(&server, dir.path(), &arguments);
    assert_eq!(code, Some(1));
    assert!(said.contains("before.backup is there already"), "{said}");
    assert_eq!(server.get("/v1/instances/old-2").status, 404);
}

#[test]
fn a_table_is_read_by_its_columns() {
    let dir = tempfile::tempdir().unwrap();
    let server = server(&dir);
    let table = "session_id,user_id,fsm_state,task,created\n\
                 a,ana,AWAITING_ACTION,\"T1, the wall\",2026-01-05T09:00:00Z\n\
                 b,ben,DONE,T2,\n\
                 c,cleo,DONE\n";
    std::fs::write(dir.path().join("old.csv"), table).unwrap();
    let (code, told, said) = run(&server, dir.path(), &["old.csv", "--mapping", "mapping.yaml"]);
    assert_eq!(code, Some(1), "{said}");
    for part in [
        "3 records in ",
        ": imported 2, replaced 0, existed already 0, skipped 0, rejected 1\n",
        "1  in awaiting_action\n",
        "line 4: the line has 3 cells, and there are 5 columns",
    ] {
        assert!(told.contains(part), "{part} is missing in\n{told}");
    }
    assert_eq!(server.get("/v1/instances/a").json()["context"]["task_id"], json!("T1, the wall"));
}

#[test]
fn what_is_wrong_is_said_before_anything_is_brought_in() {
    let dir = tempfile::tempdir().unwrap();
    let server = server(&dir);
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    write("old.jsonl", &record(1).to_string());
    write("broken.yaml", &MAPPING.replace("completed", "complete"));
    write("other.yaml", &MAPPING.replace("machine: progress_update", "machine: nothing"));
    write("none.yaml", "id: record.id\n");
    for (file, mapping, part) in [
        ("nothing.jsonl", "mapping.yaml", "failed to read nothing.jsonl"),
        ("old.jsonl", "nothing.yaml", "failed to read nothing.yaml"),
        ("old.jsonl", "broken.yaml", "did you mean `completed`"),
        ("old.jsonl", "other.yaml", "unknown_machine"),
        ("old.jsonl", "none.yaml", "machine: NAME"),
    ] {
        let (code, _, said) = run(&server, dir.path(), &[file, "--mapping", mapping]);
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains(part), "{file} {mapping}: {said}");
    }
    assert_eq!(server.get("/v1/instances").json()["data"], json!([]));
}

/// What comes of rows of which some are rejected.
fn found(server: &Server, dir: &Path, arguments: &[&str]) -> Value {
    let mut all = arguments.to_vec();
    all.extend(["--mapping", "mapping.yaml", "--json"]);
    let (code, told, said) = run(server, dir, &all);
    assert_eq!(code, Some(1), "{said}");
    assert_eq!(said, "", "{told}");
    serde_json::from_str(&told).unwrap()
}

#[test]
fn the_rows_of_a_table_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let server = server(&dir);
    let lodging = Lodging::new(Kind::Postgres);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let client = runtime.block_on(async {
        let (client, connection) =
            tokio_postgres::connect(lodging.url(), tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        let rows =
            "CREATE SCHEMA old; CREATE TABLE old.\"Sessions\" (session_id text, user_id text, fsm_state text,
            task text, created timestamptz);
            INSERT INTO old.\"Sessions\" VALUES ('a', 'ana', 'AWAITING_ACTION', 'T1', '2026-01-05 10:00+01'),
            ('b', 'ben', 'DONE', NULL, NULL), ('c', 'cleo', 'LOST', NULL, NULL)";
        client.batch_execute(rows).await.unwrap();
        client
    });
    let report = found(&server, dir.path(), &[lodging.url(), "--table", "old.Sessions"]);
    assert_eq!(counts(&report), [3, 2, 0, 0, 1], "{report:#}");
    assert_eq!(report["first_rejected"][0]["place"], json!("row 3"));
    let session = server.get("/v1/instances/a").json();
    assert_eq!(session["created_at"], json!("2026-01-05T09:00:00.000Z"), "{session:#}");
    // One that has gone on there since is here as it is there.
    let moved = "UPDATE old.\"Sessions\" SET task = 'T2' WHERE session_id = 'a'";
    runtime.block_on(client.batch_execute(moved)).unwrap();
    let again = found(&server, dir.path(), &[lodging.url(), "--table", "old.Sessions"]);
    assert_eq!((counts(&again), &again["replaced"]), ([3, 0, 1, 0, 1], &json!(1)), "{again:#}");
    assert_eq!(server.get("/v1/instances/a").json()["context"]["task_id"], json!("T2"));
    let (code, _, said) =
        run(&server, dir.path(), &[lodging.url(), "--table", "none", "--mapping", "mapping.yaml"]);
    assert!(code == Some(1) && said.contains("relation \"none\" does not exist"), "{said}");
    let (code, _, said) = run(&server, dir.path(), &[lodging.url(), "--mapping", "mapping.yaml"]);
    assert!(code == Some(1) && said.contains("--table is missing"), "{said}");
}

const KEYS: &str = "
machine: progress_update
id: record.parts[2]
subject: record.parts[2]
state: record.value.state
states: { AWAITING_ACTION: awaiting_action }
context: { task_id: 'has(record.value.task) ? record.value.task : null' }
expires_at: record.expires_at
";

#[test]
fn the_keys_of_a_redis_are_read_with_their_end_of_life() {
    let dir = tempfile::tempdir().unwrap();
    let server = server(&dir);
    let lodging = Lodging::new(Kind::Redis);
    let url = lodging.url().split(['?', '#']).next().unwrap();
    let mut redis = redis::Client::open(url).unwrap().get_connection().unwrap();
    let prefix = format!("old{}", std::process::id());
    let key = |name: &str| format!("{prefix}:user:{name}:state");
    let text = json!({ "state": "AWAITING_ACTION", "task": "T1" }).to_string();
    let () = redis::cmd("SET").arg(key("ana")).arg(text).arg("EX").arg(3_600).query(&mut redis).unwrap();
    let () = redis::cmd("HSET").arg(key("ben")).arg("state").arg("idle").query(&mut redis).unwrap();
    let () = redis::cmd("SET").arg(key("cleo")).arg("no json").query(&mut redis).unwrap();
    let () = redis::cmd("RPUSH").arg(key("dan")).arg("idle").query(&mut redis).unwrap();
    let () = redis::cmd("SET").arg(format!("{prefix}:other")).arg("x").query(&mut redis).unwrap();
    std::fs::write(dir.path().join("keys.yaml"), KEYS).unwrap();
    let import = || {
        let pattern = key("*");
        let (code, told, said) =
            run(&server, dir.path(), &[url, "--keys", &pattern, "--mapping", "keys.yaml", "--json"]);
        assert_eq!(code, Some(1), "{said}");
        serde_json::from_str::<Value>(&told).unwrap()
    };
    let report = import();
    assert_eq!(counts(&report), [4, 2, 0, 0, 2], "{report:#}");
    let rejected = report["first_rejected"].to_string();
    assert!(
        rejected.contains(&format!("key {}", key("dan"))) && rejected.contains("holds a list"),
        "{rejected}"
    );
    let session = server.get("/v1/instances/ana").json();
    let time = |value: &Value| Timestamp::parse(value.as_str().unwrap()).unwrap();
    let mut timers = session["timers"].as_array().unwrap().iter();
    let silence = timers.find(|timer| timer["id"] == json!("after.2h")).unwrap();
    let left = time(&silence["deadline"]).since(time(&session["updated_at"])).as_millis();
    assert!((3_500_000..3_700_000).contains(&left), "{left}: {session:#}");
    let again = import();
    assert_eq!(counts(&again), [4, 0, 2, 0, 2], "{again:#}");
    for name in ["ana", "ben", "cleo", "dan"] {
        let () = redis::cmd("DEL").arg(key(name)).query(&mut redis).unwrap();
    }
}
