//! Workers over HTTP that ask for work more often than they need it.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod harness;

use harness::Server;
use serde_json::json;

const QUEUE: &str = "
flow: queue
phases:
  any: { run: worker }
";

#[test]
fn who_asks_many_times_at_once_under_one_key_is_given_one_phase() {
    const ROUNDS: usize = 8;
    let dir = tempfile::tempdir().unwrap();
    let server = Server::dev(&dir.path().join("s.db"), &["--clock", "virtual"]);
    assert_eq!(server.put("/v1/machines/queue", QUEUE).status, 200);
    for round in 0..ROUNDS {
        for flow in ["a", "b"] {
            let body =
                json!({ "flow": "queue", "id": format!("{flow}{round}"), "key": format!("{flow}{round}") });
            assert_eq!(server.post("/v1/flows", &body.to_string()).status, 201);
        }
        let body = json!({ "key": format!("c{round}"), "worker": "w" }).to_string();
        let mut given: Vec<String> = std::thread::scope(|scope| {
            let asked: Vec<_> =
                (0..8).map(|_| scope.spawn(|| server.post("/v1/work/claim", &body))).collect();
            let answers = asked.into_iter().map(|asked| asked.join().unwrap());
            answers.map(|answer| answer.json()["flow_id"].as_str().unwrap().to_owned()).collect()
        });
        given.dedup();
        assert_eq!(given.len(), 1, "{given:?}");
    }
    let held = server.get("/v1/phases?state=in_progress").json();
    assert_eq!(held["data"].as_array().unwrap().len(), ROUNDS, "{held}");
}
