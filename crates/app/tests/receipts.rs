//! Receipts as their callers meet them: work that is done once, whatever happens to whoever does it.

mod harness;

use harness::{Answer, Server};
use serde_json::{Value, json};

const BEGIN: &str = r#"{"payload_digest": "d1"}"#;

fn begin(server: &Server, key: &str) -> Answer {
    server.post(&format!("/v1/receipts/{key}/begin"), BEGIN)
}

fn claim(answer: &Answer) -> String {
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.json()["claim"].as_str().unwrap_or_else(|| panic!("no claim in {}", answer.body)).to_owned()
}

fn complete(server: &Server, key: &str, claim: &str, response: &str) -> Answer {
    let body = format!("{{\"claim\": {}, \"response\": {response}}}", json!(claim));
    server.post(&format!("/v1/receipts/{key}/complete"), &body)
}

fn abandon(server: &Server, key: &str, claim: &str) -> Answer {
    server.post(&format!("/v1/receipts/{key}/abandon"), &json!({"claim": claim}).to_string())
}

fn coded(answer: &Answer) -> (u16, String) {
    (answer.status, answer.json()["code"].as_str().unwrap_or_default().to_owned())
}

fn refused(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

#[test]
fn work_is_begun_once_and_its_response_is_for_everybody_after() {
    let server = Server::start(&MEMORY, &[]);
    let first = begin(&server, "k1");
    let claimed = claim(&first);
    assert_eq!((first.replayed, &first.json()["state"]), (false, &json!("running")));
    assert_eq!(coded(&begin(&server, "k1")), refused(409, "receipt_running"));
    // As it came, whatever a number or the order of keys would become in other hands.
    let response = r#"{"z": 1.50, "a": [123456789012345678901234567890, null]}"#;
    let completed = complete(&server, "k1", &claimed, response);
    assert_eq!((completed.status, completed.replayed), (200, false), "{}", completed.body);
    for _ in 0..2 {
        let again = begin(&server, "k1");
        assert_eq!((again.status, again.replayed), (200, true));
        assert!(again.body.contains(response), "{}", again.body);
        assert!(again.json()["completed_at"].is_string() && again.json()["claim"].is_null());
    }
    let repeated = complete(&server, "k1", &claimed, response);
    assert_eq!((repeated.status, repeated.replayed), (200, true));
    let respelt = r#"{"a":[123456789012345678901234567890,null],"z":1.5}"#;
    assert_eq!(complete(&server, "k1", &claimed, respelt).status, 200);
    assert_eq!(coded(&complete(&server, "k1", &claimed, "{}")), refused(422, "key_reused"));
    assert_eq!(coded(&complete(&server, "k1", "guessed", response)), refused(409, "claim_lost"));
    assert_eq!(coded(&abandon(&server, "k1", &claimed)), refused(409, "claim_lost"));
}

#[test]
fn of_twenty_at_once_one_gets_the_claim_also_after_a_lease() {
    let server = Server::start(&VIRTUAL, &[]);
    for round in 0..3 {
        let answers: Vec<Answer> = std::thread::scope(|scope| {
            let askers: Vec<_> = (0..20).map(|_| scope.spawn(|| begin(&server, "k1"))).collect();
            askers.into_iter().map(|asker| asker.join().expect("an asker panicked")).collect()
        });
        let (claimed, others): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status == 200);
        assert_eq!(claimed.len(), 1, "round {round}: {answers:?}");
        for other in others {
            assert_eq!(coded(other), refused(409, "receipt_running"));
            assert!(other.retry_after.is_some_and(|seconds| (1..=60).contains(&seconds)), "{other:?}");
        }
        server.post("/v1/clock/advance", r#"{"by": "1m"}"#);
    }
}

#[test]
fn a_lease_that_is_over_lets_the_next_begin_and_the_late_complete_until_then() {
    let server = Server::start(&VIRTUAL, &[]);
    let advance = |by: &str| server.post("/v1/clock/advance", &json!({"by": by}).to_string());
    let first = claim(&server.post("/v1/receipts/k1/begin", r#"{"payload_digest": "d1", "lease": "5m"}"#));
    advance("4m59s");
    let running = begin(&server, "k1");
    assert_eq!((coded(&running), running.retry_after), (refused(409, "receipt_running"), Some(1)));
    advance("1s");
    let second = claim(&begin(&server, "k1"));
    assert_ne!(first, second);
    assert_eq!(coded(&complete(&server, "k1", &first, "1")), refused(409, "claim_lost"));
    assert_eq!(complete(&server, "k1", &second, "2").status, 200);
    assert_eq!(begin(&server, "k1").json()["response"], json!(2));

    // Late, but nobody else has begun: what was done counts.
    let late = claim(&begin(&server, "k2"));
    advance("2m");
    assert_eq!(complete(&server, "k2", &late, "\"late\"").status, 200);
    assert_eq!(begin(&server, "k2").json()["response"], json!("late"));
}

#[test]
fn a_claim_that_is_given_up_is_had_at_once_and_counts_no_more() {
    let server = Server::start(&MEMORY, &[]);
    let first = claim(&begin(&server, "k1"));
    assert_eq!(coded(&abandon(&server, "k1", "another's")), refused(409, "claim_lost"));
    assert_eq!(abandon(&server, "k1", &first).status, 200);
    assert_eq!(abandon(&server, "k1", &first).status, 200);
    assert_eq!(coded(&complete(&server, "k1", &first, "1")), refused(409, "claim_lost"));
    let second = claim(&begin(&server, "k1"));
    assert_eq!(coded(&abandon(&server, "k1", "another's")), refused(409, "claim_lost"));
    assert_eq!(complete(&server, "k1", &second, "null").status, 200);
    assert_eq!(begin(&server, "k1").json()["response"], Value::Null);
}

#[test]
fn a_kill_between_begin_and_complete_loses_neither_the_claim_nor_the_work() {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("s.db");
    let server = Server::dev(&store, &["--clock", "virtual"]);
    let (kept, lapsed) = (claim(&begin(&server, "kept")), claim(&begin(&server, "lapsed")));
    server.kill_now();

    let server = Server::dev(&store, &["--clock", "virtual"]);
    assert_eq!(coded(&begin(&server, "kept")), refused(409, "receipt_running"));
    assert_eq!(complete(&server, "kept", &kept, "1").status, 200);
    server.kill_now();

    let server = Server::dev(&store, &["--clock", "virtual"]);
    assert_eq!(begin(&server, "kept").json()["response"], json!(1));
    server.post("/v1/clock/advance", r#"{"by": "1m1s"}"#);
    assert_ne!(claim(&begin(&server, "lapsed")), lapsed);
    assert_eq!(coded(&complete(&server, "lapsed", &lapsed, "1")), refused(409, "claim_lost"));
}

#[test]
fn what_is_wrong_is_told_and_leaves_no_receipt() {
    let server = Server::start(&MEMORY, &[]);
    let long = json!({"claim": "c", "response": "x".repeat(64 * 1024)}).to_string();
    for (path, body, status, code) in [
        ("k1/begin", "{}", 400, "malformed_body"),
        ("k1/begin", r#"{"payload_digest": ""}"#, 400, "malformed_body"),
        ("k1/begin", r#"{"payload_digest": "d", "lease": "0s"}"#, 400, "malformed_body"),
        ("k1/begin", r#"{"payload_digest": "d", "lease": "2d"}"#, 400, "malformed_body"),
        ("k1/complete", r#"{"claim": "c"}"#, 400, "malformed_body"),
        ("k1/complete", &long, 413, "body_too_large"),
        ("k1/complete", r#"{"claim": "c", "response": 1}"#, 404, "not_found"),
        ("k1/abandon", r#"{"claim": "c"}"#, 404, "not_found"),
        ("a%0Ab/begin", BEGIN, 400, "bad_identifier"),
    ] {
        let answer = server.post(&format!("/v1/receipts/{path}"), body);
        assert_eq!(coded(&answer), refused(status, code), "{path} {body}: {}", answer.body);
    }
    let claimed = claim(&begin(&server, "k1"));
    let other = server.post("/v1/receipts/k1/begin", r#"{"payload_digest": "d2"}"#);
    assert_eq!(coded(&other), refused(422, "key_reused"));
    let longest = json!("x".repeat(64 * 1024 - 2)).to_string();
    assert_eq!(complete(&server, "k1", &claimed, &longest).status, 200);
    // Deeper than any context may be: it is kept as a text.
    let deep = format!("{}{}", "[".repeat(1000), "]".repeat(1000));
    let claimed = claim(&begin(&server, "k2"));
    assert_eq!(complete(&server, "k2", &claimed, &deep).status, 200);
    assert!(begin(&server, "k2").body.contains(&deep));
}

#[test]
fn receipts_are_out_of_the_way_and_each_tenants_own() {
    let server = Server::start(&MEMORY, &[]);
    claim(&begin(&server, "k1"));
    let other = server.post_with("/v1/receipts/k1/begin", BEGIN, &[("x-tenant", "other")]);
    assert_ne!(claim(&other), "");
    assert_eq!(server.get("/v1/instances").json()["data"], json!([]));
    let listed = server.get("/v1/instances?machine=statewright.receipt").json();
    assert_eq!(listed["data"].as_array().unwrap().len(), 1, "{listed}");
    assert_eq!(listed["data"][0]["context"]["key"], json!("k1"));
    let id = listed["data"][0]["id"].as_str().unwrap();
    let forged = server.post(&format!("/v1/instances/{id}/events"), r#"{"key": "1", "event": "lapse"}"#);
    assert_eq!(coded(&forged), refused(404, "not_found"));
    let reached = server.post_with("/v1/receipts/k1/begin", BEGIN, &[("x-tenant", "default~receipts")]);
    assert_eq!(coded(&reached), refused(400, "bad_identifier"));

    assert!(!server.get("/v1/machines").body.contains("statewright."));
    assert!(!server.get("/v1/info").body.contains("statewright.receipt"));
    let taken =
        server.put("/v1/machines/statewright.receipt", "machine: statewright.receipt\nstates: { a: {} }");
    assert_eq!(coded(&taken), refused(422, "bad_definition"));
    assert!(taken.body.contains("server's own machines"), "{}", taken.body);
}

const MACHINES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../machines");
const MEMORY: [&str; 7] = ["dev", "--listen", "127.0.0.1:0", "--store", "memory:", "--machines", MACHINES];
const VIRTUAL: [&str; 9] =
    ["dev", "--listen", "127.0.0.1:0", "--store", "memory:", "--machines", MACHINES, "--clock", "virtual"];
