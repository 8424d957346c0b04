//! Sessions of another system, brought in over HTTP.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod harness;

use harness::Server;
use serde_json::{Value, json};

fn server(dir: &tempfile::TempDir) -> Server {
    Server::dev(&dir.path().join("s.db"), &["--clock", "virtual"])
}

fn import(server: &Server, body: &Value) -> Value {
    let answer = server.post("/v1/imports", &body.to_string());
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.json()
}

fn body(records: Value) -> Value {
    json!({ "machine": "progress_update", "records": records })
}

fn counts(report: &Value) -> [u64; 3] {
    ["imported", "existed", "rejected"].map(|name| report[name].as_u64().unwrap())
}

/// Two that fit, and one of each kind that does not.
fn mixed() -> Value {
    json!([
        { "id": "a", "subject": "ana", "state": "awaiting_action", "context": { "task_id": "T7" }, "topic": "update" },
        { "key": "b", "subject": "ben", "state": "completed", "reason": "done_there" },
        { "id": "c", "subject": "cleo", "state": "awaiting" },
        { "id": "d", "subject": "dan", "state": "idle", "context": { "tsk": 1 } },
        { "id": "e", "subject": "ana", "state": "idle" },
    ])
}

#[test]
fn every_record_is_accounted_for_once() {
    let dir = tempfile::tempdir().unwrap();
    let server = server(&dir);
    let report = import(&server, &body(mixed()));
    assert_eq!(counts(&report), [2, 0, 3], "{report:#}");
    let outcomes: Vec<&Value> = report["records"].as_array().unwrap().iter().map(|r| &r["outcome"]).collect();
    assert_eq!(json!(outcomes), json!(["imported", "imported", "rejected", "rejected", "rejected"]));
    assert_eq!(report["records"][1]["closure_reason"], json!("done_there"));
    assert!(report["records"][2]["detail"].as_str().unwrap().contains("known here: abandoned"), "{report:#}");
    assert_eq!(report["records"][4]["code"], json!("instance_exists"));
    let again = import(&server, &body(mixed()));
    assert_eq!(counts(&again), [0, 2, 3], "{again:#}");
    assert_eq!(again["records"][1]["id"], report["records"][1]["id"]);
    assert_eq!(server.get("/v1/instances").json()["data"].as_array().unwrap().len(), 2);
}

#[test]
fn a_session_goes_on_where_it_stood() {
    let dir = tempfile::tempdir().unwrap();
    let server = server(&dir);
    import(&server, &body(mixed()));
    let message = json!({ "message_id": "m1", "text": "the wall is painted" });
    let path = "/v1/machines/progress_update/sessions/ana/messages";
    let answer = server.post(path, &message.to_string()).json();
    assert_eq!((&answer["session_id"], &answer["revision"]), (&json!("a"), &json!(2)), "{answer}");
    assert_eq!(answer["outcome"], json!("dispatched"), "{answer}");
    let history = server.get("/v1/instances/a/history").json();
    assert_eq!(history["data"][0]["event"], json!("import"));
    let replay = server.get("/v1/instances/a/replay").json();
    assert_eq!(replay["verdict"], json!("same"), "{replay}");
}

#[test]
fn a_session_that_was_over_there_is_over_here() {
    let dir = tempfile::tempdir().unwrap();
    let server = server(&dir);
    let old = json!([{ "id": "a", "subject": "ana", "state": "awaiting_action", "changed_at": "2020-01-01T00:00:00Z" }]);
    let report = import(&server, &body(old));
    assert_eq!(counts(&report), [1, 0, 0], "{report}");
    server.post("/v1/recovery", "");
    assert_eq!(server.get("/v1/instances/a").json()["closure_reason"], json!("timeout"));
}

#[test]
fn a_dry_run_says_the_same_and_saves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let server = server(&dir);
    let mut tried = body(json!([mixed()[0], mixed()[1], mixed()[2], mixed()[3]]));
    tried["dry_run"] = json!(true);
    let dry = import(&server, &tried);
    assert_eq!(server.get("/v1/instances").json()["data"], json!([]));
    tried["dry_run"] = json!(false);
    let wet = import(&server, &tried);
    assert_eq!((counts(&dry), counts(&wet)), ([2, 0, 2], [2, 0, 2]));
    for place in [0, 2, 3] {
        assert_eq!(dry["records"][place], wet["records"][place]);
    }
    tried["dry_run"] = json!(true);
    assert_eq!(counts(&import(&server, &tried)), [0, 2, 2]);
}

#[test]
fn what_cannot_be_asked_is_said_before_anything_is_brought_in() {
    let dir = tempfile::tempdir().unwrap();
    let server = server(&dir);
    let good = json!({ "id": "a", "state": "idle" });
    for (body, status, code, part) in [
        (json!({ "machine": "nothing", "records": [] }), 404, "unknown_machine", "nothing"),
        (body(json!([good, { "state": "idle" }])), 400, "missing_key", "records[1]"),
        (body(json!([good, { "id": "b", "stat": "idle" }])), 400, "malformed_body", "stat"),
        (
            body(json!([good, { "id": "b", "state": "idle", "began_at": "soon" }])),
            400,
            "malformed_body",
            "soon",
        ),
        (body(json!(vec![good; 1_001])), 400, "malformed_body", "1000"),
    ] {
        let answer = server.post("/v1/imports", &body.to_string());
        let problem = answer.json();
        assert_eq!((answer.status, &problem["code"]), (status, &json!(code)), "{problem}");
        assert!(problem["detail"].as_str().unwrap().contains(part), "{problem}");
    }
    assert_eq!(server.get("/v1/instances").json()["data"], json!([]));
}

#[test]
fn a_flow_is_not_begun_in_a_state() {
    let dir = tempfile::tempdir().unwrap();
    let server = server(&dir);
    let body = json!({ "machine": "discovery", "records": [{ "id": "f", "state": "running" }] });
    let report = import(&server, &body);
    assert_eq!(counts(&report), [0, 0, 1]);
    assert!(report["records"][0]["detail"].as_str().unwrap().contains("booleans"), "{report}");
}

#[test]
fn what_a_record_says_last_is_so_until_the_session_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let server = server(&dir);
    let record = |task: &str| json!({ "id": "a", "subject": "ana", "state": "awaiting_action", "context": { "task_id": task } });
    let outcome = |task: &str| {
        let mut tried = body(json!([record(task)]));
        tried["dry_run"] = json!(true);
        let dry = import(&server, &tried);
        let report = import(&server, &body(json!([record(task)])));
        assert_eq!(dry["records"][0]["outcome"], report["records"][0]["outcome"], "{report}");
        let session = server.get("/v1/instances/a").json();
        (
            report["records"][0]["outcome"].clone(),
            session["context"]["task_id"].clone(),
            session["brought_in"].clone(),
        )
    };
    let untouched = |outcome: &str, task: &str| (json!(outcome), json!(task), json!("untouched"));
    assert_eq!(outcome("A"), untouched("imported", "A"));
    assert_eq!(outcome("B"), untouched("replaced", "B"));
    assert_eq!(outcome("A"), untouched("replaced", "A"));
    assert_eq!(outcome("A"), untouched("existed", "A"));
    server.say("ana", "m1", "it is done");
    assert_eq!(outcome("B"), (json!("gone_on"), json!("A"), json!("gone_on")));
    assert_eq!(outcome("A").0, json!("existed"));
    let events: Vec<Value> = server.get("/v1/instances/a/history").json()["data"].as_array().unwrap().clone();
    assert_eq!(
        json!(events.iter().map(|line| &line["event"]).collect::<Vec<_>>()),
        json!(["import", "import", "import", "start_collection"])
    );
    assert_eq!(server.get("/v1/instances/a/replay").json()["verdict"], json!("same"));
}

#[test]
fn an_import_is_undone_slice_by_slice() {
    let dir = tempfile::tempdir().unwrap();
    let server = server(&dir);
    let records: Vec<Value> = (0..5).map(|n| json!({ "id": format!("s-{n}"), "state": "idle" })).collect();
    import(&server, &body(json!(records)));
    let mut asked = json!({ "machine": "progress_update", "limit": 2, "by": "ops", "reason": "too early" });
    let (mut withdrawn, mut rounds) = (0, 0);
    loop {
        let answer = server.post("/v1/imports/undo", &asked.to_string());
        assert_eq!(answer.status, 200, "{}", answer.body);
        let report = answer.json();
        (withdrawn, rounds) = (withdrawn + report["withdrawn"].as_u64().unwrap(), rounds + 1);
        if report["has_more"] == json!(false) {
            break;
        }
        asked["cursor"] = report["next_cursor"].clone();
    }
    assert_eq!((withdrawn, rounds), (5, 3));
    let last = server.get("/v1/instances/s-1/history").json()["data"][1].clone();
    assert_eq!(
        (&last["event"], &last["by"], &last["cause"]),
        (&json!("withdraw"), &json!("ops"), &json!({ "withdraw": { "reason": "too early" } })),
        "{last:#}"
    );
    for (asked, status, code) in [
        (json!({ "machine": "nothing" }), 404, "unknown_machine"),
        (json!({ "machine": "progress_update", "limit": 0 }), 400, "malformed_body"),
        (json!({ "machine": "progress_update", "id": "s-1" }), 400, "malformed_body"),
    ] {
        let problem = server.post("/v1/imports/undo", &asked.to_string());
        assert_eq!((problem.status, &problem.json()["code"]), (status, &json!(code)));
    }
}
