//! The worker that is shipped as an example, against a running server: what it takes, hands in, fails and leaves.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod harness;

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout, Command, Stdio};

use harness::Server;
use harness::outside::MACHINES;
use harness::provider::{Does, Provider};
use serde_json::{Value, json};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/worker.py");

fn server() -> Server {
    Server::start(&["dev", "--listen", "127.0.0.1:0", "--store", "memory:", "--machines", MACHINES], &[])
}

/// A worker that talks to the server, and what it prints.
struct Worker {
    child: Child,
    told: BufReader<ChildStdout>,
}

impl Worker {
    fn start(url: &str, options: &str) -> Self {
        let child = Command::new("python3")
            .arg(SCRIPT)
            .args(["--url", url])
            .args(options.split_whitespace())
            .env("no_proxy", "127.0.0.1")
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn();
        let mut child = child.unwrap_or_else(|error| {
            panic!("python3 cannot be run ({error}); install Python 3.9 or later, which examples/worker.py is for")
        });
        let told = BufReader::new(child.stdout.take().unwrap());
        Self { child, told }
    }

    fn next_line(&mut self) -> String {
        let mut line = String::new();
        self.told.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// What else it prints, once it has ended well.
    fn rest(mut self) -> Vec<String> {
        let mut told = String::new();
        self.told.read_to_string(&mut told).unwrap();
        assert!(self.child.wait().unwrap().success(), "{told}");
        told.lines().map(str::to_owned).collect()
    }
}

fn begin(server: &Server, body: &Value) {
    let answer = server.post("/v1/flows", &body.to_string());
    assert_eq!(answer.status, 201, "{}", answer.body);
}

fn flow(server: &Server, id: &str) -> Value {
    server.get(&format!("/v1/flows/{id}")).json()
}

fn phase(server: &Server, id: &str, phase: &str) -> Value {
    let view = flow(server, id);
    view["phases"].as_array().unwrap().iter().find(|found| found["phase"] == phase).unwrap().clone()
}

#[test]
fn a_worker_does_all_that_waits_for_no_person() {
    let server = server();
    let booleans = json!({ "data_import_completed": true, "field_mapping_completed": true });
    begin(
        &server,
        &json!({ "flow": "discovery", "id": "e1", "key": "e1", "context": { "assets": 2 }, "booleans": booleans }),
    );
    let told = Worker::start(&server.url, "--speed 100 --count 4").rest();
    let taken = ["data_cleansing", "asset_inventory", "dependency_analysis", "tech_debt"];
    let expected = taken
        .map(|phase| [format!("e1 {phase} (attempt 1): taken"), format!("e1 {phase} (attempt 1): done")]);
    assert_eq!(told, expected.concat());
    let view = flow(&server, "e1");
    assert_eq!((&view["status"], &view["progress"]), (&json!("completed"), &json!(1.0)), "{view}");
    let worked_by = phase(&server, "e1", "tech_debt")["worked_by"].clone();
    assert!(worked_by[0].as_str().unwrap().starts_with("worker-"), "{worked_by}");
}

#[test]
fn a_worker_stops_where_somebody_has_to_say_yes_and_takes_only_what_it_asks_for() {
    let server = server();
    begin(&server, &json!({ "flow": "discovery", "id": "e1", "key": "e1" }));
    begin(
        &server,
        &json!({ "flow": "release_train", "id": "t1", "key": "t1", "context": { "commit": "f00d" } }),
    );
    let told = Worker::start(&server.url, "--speed 100 --count 1 --kind builder --flow release_train").rest();
    assert_eq!(told, ["t1 build (attempt 1): taken", "t1 build (attempt 1): done"]);
    Worker::start(&server.url, "--speed 100 --count 1 --kind builder").rest();
    assert_eq!(phase(&server, "e1", "data_import")["state"], json!("waiting_validation"));
    assert_eq!(phase(&server, "t1", "unit_tests")["state"], json!("not_started"));
}

#[test]
fn every_nth_piece_of_work_fails_as_it_was_asked_to() {
    let server = server();
    for id in ["e1", "e2", "e3"] {
        begin(&server, &json!({ "flow": "discovery", "id": id, "key": id }));
    }
    let told = Worker::start(&server.url, "--speed 100 --count 3 --fail-every 2 --error-code NO_DISK").rest();
    assert_eq!(told[3], "e2 data_import (attempt 1): NO_DISK");
    let failed = phase(&server, "e2", "data_import");
    assert_eq!(
        (&failed["state"], &failed["error"]["code"]),
        (&json!("failed"), &json!("NO_DISK")),
        "{failed}"
    );
    let view = flow(&server, "e3");
    assert_eq!(view["phases"][0]["state"], json!("waiting_validation"), "{view}");
}

/// What is refused for good is told to whoever reads the flow; what is lost is left alone.
#[test]
fn a_worker_whose_phase_was_taken_from_it_goes_on_with_the_next() {
    let server = server();
    begin(&server, &json!({ "flow": "discovery", "id": "e1", "key": "e1" }));
    let mut worker = Worker::start(&server.url, "--speed 5 --count 2");
    assert_eq!(worker.next_line(), "e1 data_import (attempt 1): taken");
    begin(&server, &json!({ "flow": "discovery", "id": "e2", "key": "e2" }));
    assert_eq!(server.post("/v1/flows/e1/cancel", "{\"key\": \"c\"}").status, 200);
    let line = worker.next_line();
    assert!(line.starts_with("e1 data_import (attempt 1): given up, instance_closed: "), "{line}");
    assert_eq!(worker.rest().last().unwrap(), "e2 data_import (attempt 1): done");
    assert_eq!(flow(&server, "e1")["status"], json!("cancelled"));
}

#[test]
fn ctrl_c_ends_a_worker_without_a_fuss_and_the_phase_stays_under_its_lease() {
    let server = server();
    begin(&server, &json!({ "flow": "discovery", "id": "e1", "key": "e1" }));
    let mut worker = Worker::start(&server.url, "");
    assert_eq!(worker.next_line(), "e1 data_import (attempt 1): taken");
    let id = worker.child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
    let told = worker.rest();
    assert!(matches!(&told[..], [line] if line.starts_with("stopped; ")), "{told:?}");
    let held = phase(&server, "e1", "data_import");
    assert_eq!(held["state"], json!("in_progress"));
    assert!(held["lease"]["expires_at"].is_string(), "{held}");
}

#[test]
fn a_worker_that_gets_no_answer_sends_the_very_same_again() {
    let server = Provider::doing(|seen, number| match (&*seen.path, number) {
        ("/v1/work/claim", 1) => Does::Closes,
        ("/v1/work/claim", 2) => Does::Answers(503, json!({ "code": "overloaded" })),
        ("/v1/work/claim", _) => Does::Answers(
            200,
            json!({ "flow_id": "f", "phase": "p", "attempt": 1, "lease": "l", "complete": "/p/complete", "fail": "/p/fail" }),
        ),
        _ => Does::Answers(200, json!({})),
    });
    let told = Worker::start(&server.url(), "--count 1 --speed 100").rest();
    assert_eq!(told.iter().filter(|line| line.ends_with("; asking again")).count(), 2, "{told:?}");
    let seen = server.seen();
    assert!(seen[0].json()["key"].is_string());
    assert!(seen[1].body == seen[0].body && seen[2].body == seen[0].body, "{seen:?}");
    assert_eq!(
        (&*seen.last().unwrap().path, &seen.last().unwrap().json()["lease"]),
        ("/p/complete", &json!("l"))
    );
}
