//! What an operator is told of instances that will not get on, or go round and round.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod harness;

use harness::Server;
use serde_json::{Value, json};

const MACHINE: &str = "
machine: maze
version: 1
initial: hall
states:
  hall:
    on: { left: attic, right: hall, wait: hall, fall: cellar, leave: out }
  attic:
    on: { back: hall }
  cellar: {}
  out: { type: final }
";

fn ids(server: &Server, query: &str) -> Vec<String> {
    let list = server.get(&format!("/v1/instances?{query}")).json();
    let rows = list["data"].as_array().unwrap().iter();
    rows.map(|row| row["id"].as_str().unwrap().to_owned()).collect()
}

fn send(server: &Server, id: &str, events: &[&str]) -> Vec<Value> {
    let sent = events.iter().enumerate().map(|(number, event)| {
        let body = json!({"key": format!("{id}-{number}-{event}"), "event": event});
        server.post(&format!("/v1/instances/{id}/events"), &body.to_string()).json()
    });
    sent.collect()
}

fn maze() -> (tempfile::TempDir, Server) {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::dev(&dir.path().join("t.db"), &["--clock", "virtual"]);
    assert_eq!(server.put("/v1/machines/maze", MACHINE).status, 200);
    for id in ["wanderer", "fallen", "sleeper", "gone"] {
        let body = json!({"machine": "maze", "id": id, "key": id});
        assert_eq!(server.post("/v1/instances", &body.to_string()).status, 201);
    }
    (dir, server)
}

#[test]
fn what_goes_round_is_listed_counted_and_forgotten_when_it_has_been_left() {
    let (_dir, server) = maze();
    send(&server, "wanderer", &["left", "back", "left", "back", "left", "back"]);
    assert!(ids(&server, "looping=true").is_empty(), "three times is no loop");
    send(&server, "wanderer", &["left"]);
    // The keys were used before: what is repeated is answered, and no step.
    assert!(ids(&server, "looping=true").is_empty());
    let again = json!({"key": "once more", "event": "left"}).to_string();
    server.post("/v1/instances/wanderer/events", &again);
    assert_eq!(ids(&server, "looping=true"), ["wanderer"]);
    let looping = server.get("/v1/instances/wanderer").json()["looping"].clone();
    assert_eq!((&looping["count"], &looping["event"]), (&json!(4), &json!("left")), "{looping}");
    let history = server.get("/v1/instances/wanderer/history").json();
    assert_eq!(history["data"].as_array().unwrap().last().unwrap()["looping"], json!(4));
    let metrics = server.get("/metrics").body;
    assert!(metrics.contains("statewright_loops_total{machine=\"maze\"} 1"), "{metrics}");
    server.post("/v1/clock/advance", "{\"by\": \"5m\"}");
    assert!(ids(&server, "looping=true").is_empty());
    assert_eq!(server.get("/v1/instances/wanderer").json()["looping"], Value::Null);
}

#[test]
fn what_will_not_get_on_is_listed_with_its_reason() {
    let (_dir, server) = maze();
    send(&server, "fallen", &["fall"]);
    send(&server, "gone", &["leave"]);
    assert_eq!(ids(&server, "stuck=true"), ["fallen"]);
    assert_eq!(server.get("/v1/instances/fallen").json()["stuck"], json!("dead_end"));
    let metrics = server.get("/metrics").body;
    assert!(metrics.contains("statewright_dead_ends_total{machine=\"maze\"} 1"), "{metrics}");
    server.post("/v1/clock/advance", "{\"by\": \"1d1s\"}");
    send(&server, "wanderer", &["wait"]);
    assert_eq!(ids(&server, "stuck=true"), ["sleeper", "fallen"], "one of them has just been heard of");
    assert_eq!(server.get("/v1/instances/sleeper").json()["stuck"], json!("silent"));
    assert_eq!(server.get("/v1/instances/wanderer").json()["stuck"], Value::Null);
}
