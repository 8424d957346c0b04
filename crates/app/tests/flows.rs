//! Flows over HTTP: begun, moved, refused, asked about, and worked on by workers that come and go.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod harness;

use std::time::{Duration, Instant};

use harness::{Answer, Server};
use serde_json::{Value, json};
use tempfile::TempDir;

const INTAKE: &str = "
flow: intake
version: 1
context:
  count: { type: integer, default: 0 }
  tell: { type: boolean, default: false }
phases:
  collect: { milestone: gathering, retry: { attempts: 2, backoff: 10s }, lease: 30s, boolean: is_collected }
  check: { needs: [collect], run: person, validation: true }
  agree:
    needs: [check]
    run: person
    approval: { by: [lead], expires_after: 50ms, four_eyes: true, reason: true }
  tell: { needs: [agree], run: person, when: context.tell }
";

/// For work that only workers of one kind do, and work for any.
const QUEUE: &str = "
flow: queue
version: 1
context: { n: { type: integer, default: 0 } }
phases:
  shape: { run: { worker: shaper }, lease: 30s }
  any: { run: worker, lease: 30s }
";

struct Flows {
    server: Server,
    dir: TempDir,
    keys: std::sync::atomic::AtomicUsize,
}

impl Flows {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let server = Server::dev(&dir.path().join("s.db"), &["--clock", "virtual"]);
        for (name, definition) in [("intake", INTAKE), ("queue", QUEUE)] {
            let put = server.put(&format!("/v1/machines/{name}"), definition);
            assert_eq!(put.status, 200, "{}", put.body);
        }
        Self { server, dir, keys: Default::default() }
    }

    fn restarted(self) -> Self {
        self.server.kill_now();
        let server = Server::dev(&self.dir.path().join("s.db"), &["--clock", "virtual"]);
        Self { server, ..self }
    }

    /// With a key of its own, unless the body has one.
    fn post(&self, path: &str, mut body: Value) -> Answer {
        let number = self.keys.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let fields = body.as_object_mut().unwrap();
        fields.entry("key").or_insert_with(|| json!(format!("k{number}")));
        self.server.post(path, &body.to_string())
    }

    fn begin(&self, flow: &str, id: &str) -> Value {
        let answer = self.post("/v1/flows", json!({ "flow": flow, "id": id }));
        assert_eq!(answer.status, 201, "{}", answer.body);
        answer.json()
    }

    /// `collect.start` and the like.
    fn act(&self, id: &str, event: &str, body: Value) -> Answer {
        let path = match event.split_once('.') {
            Some((phase, action)) => format!("/v1/flows/{id}/phases/{phase}/{action}"),
            None => format!("/v1/flows/{id}/{event}"),
        };
        self.post(&path, body)
    }

    fn does(&self, id: &str, event: &str, body: Value) -> Value {
        let answer = self.act(id, event, body);
        assert_eq!(answer.status, 200, "{event}: {}", answer.body);
        answer.json()
    }

    fn get(&self, path: &str) -> Value {
        let answer = self.server.get(path);
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        answer.json()
    }

    fn show(&self, id: &str) -> Value {
        self.get(&format!("/v1/flows/{id}"))
    }

    fn phase(&self, id: &str, phase: &str) -> Value {
        let view = self.show(id);
        let phases = view["phases"].as_array().unwrap();
        phases.iter().find(|found| found["phase"] == phase).unwrap().clone()
    }

    fn advance(&self, by: &str) {
        assert_eq!(self.server.post("/v1/clock/advance", &json!({ "by": by }).to_string()).status, 200);
    }

    fn claim(&self, key: &str, body: Value) -> Answer {
        let mut body = body;
        body["key"] = json!(key);
        body.as_object_mut().unwrap().entry("worker").or_insert(json!("w"));
        self.post("/v1/work/claim", body)
    }

    fn ids(&self, path: &str) -> Vec<String> {
        let list = self.get(path);
        let data = list["data"].as_array().unwrap();
        data.iter().map(|line| line["id"].as_str().unwrap().to_owned()).collect()
    }
}

// --- What is done ----------------------------------------------------------------------------------------------------

/// Event, body, and what it comes to: the phase's state and the status.
const WALK: [(&str, &str, &str, &str); 19] = [
    ("collect.start", r#"{"by": "ann"}"#, "in_progress", "gathering"),
    ("collect.progress", r#"{"progress": 0.5}"#, "in_progress", "gathering"),
    (
        "collect.fail",
        r#"{"error": {"code": "AGENT_TIMEOUT", "message": "slow"}}"#,
        "retry_needed",
        "retry_pending",
    ),
    ("collect.start", "{}", "in_progress", "gathering"),
    ("collect.complete", r#"{"output": {"count": 3}}"#, "completed", "gathering"),
    ("collect.rollback", r#"{"reason": "wrong file"}"#, "rolled_back", "error_recovery"),
    ("collect.start", "{}", "in_progress", "gathering"),
    ("collect.fail", r#"{"error": {"code": "DATA_VALIDATION_FAILED"}}"#, "failed", "failed"),
    ("collect.retry", r#"{"by": "lead"}"#, "retry_needed", "retry_pending"),
    ("collect.start", "{}", "in_progress", "gathering"),
    ("collect.complete", "{}", "completed", "gathering"),
    ("check.start", r#"{"by": "ann"}"#, "in_progress", "gathering"),
    ("check.submit", "{}", "waiting_validation", "gathering"),
    ("check.reject", r#"{"reason": "three are missing"}"#, "in_progress", "gathering"),
    ("check.submit", "{}", "waiting_validation", "gathering"),
    ("check.validate", "{}", "completed", "gathering"),
    ("agree.start", r#"{"by": "ann"}"#, "in_progress", "gathering"),
    ("agree.submit", "{}", "waiting_approval", "waiting_approval"),
    ("agree.approve", r#"{"by": "lead", "reason": "fine"}"#, "completed", "completed"),
];

#[test]
fn every_action_moves_its_phase_and_a_dry_run_foretells_it_and_saves_nothing() {
    let flows = Flows::new();
    let begun = flows.post("/v1/flows", json!({ "flow": "intake", "id": "a/1", "key": "one" }));
    assert_eq!((begun.status, begun.replayed), (201, false), "{}", begun.body);
    assert_eq!(begun.json()["status"], json!("initialized"));
    let again = flows.post("/v1/flows", json!({ "flow": "intake", "id": "a/1", "key": "one" }));
    assert_eq!((again.status, again.replayed, &again.json()["replayed"]), (201, true, &json!(true)));
    for (number, (event, body, state, status)) in WALK.into_iter().enumerate() {
        let body: Value = serde_json::from_str(body).unwrap();
        let (phase, action) = event.split_once('.').unwrap();
        let path = format!("/v1/flows/a%2F1/phases/{phase}/{action}");
        let before = flows.show("a%2F1");
        let foretold = flows.server.post(&format!("{path}?dry_run=true"), &body.to_string());
        assert_eq!(foretold.status, 200, "{event}: {}", foretold.body);
        assert_eq!(flows.show("a%2F1"), before, "{event} was only asked about");
        let answer = flows.post(&path, body).json();
        assert_eq!(
            (&answer["state"], &answer["status"]),
            (&json!(state), &json!(status)),
            "{event}: {answer}"
        );
        assert_eq!(answer["revision"], json!(number + 2));
        assert_eq!(answer["progress_before"], before["progress"], "{event}");
        let mut foretold = foretold.json();
        assert_eq!(foretold.as_object_mut().unwrap().remove("dry_run"), Some(json!(true)));
        assert_eq!(foretold, answer, "{event}");
    }
    let view = flows.show("a%2F1");
    assert_eq!((&view["progress"], &view["context"]["count"]), (&json!(1.0), &json!(3)));
    assert_eq!(view["booleans"]["is_collected"], json!(true));
    let options = flows.get("/v1/flows/a%2F1/recovery-options");
    assert_eq!(options["data"], view["recovery_options"]);
}

#[test]
fn the_whole_flow_is_paused_resumed_and_cancelled_and_what_is_paused_does_not_expire() {
    let flows = Flows::new();
    flows.begin("intake", "p");
    flows.does("p", "collect.start", json!({}));
    flows.does("p", "collect.fail", json!({}));
    let paused = flows.does("p", "pause", json!({ "by": "ann", "reason": "holidays" }));
    assert_eq!((&paused["status"], paused.get("phase")), (&json!("paused"), None), "{paused}");
    flows.advance("1h");
    assert_eq!(flows.phase("p", "collect")["state"], json!("retry_needed"));
    assert_eq!(flows.claim("w1", json!({ "flow": "intake" })).status, 204, "nothing is offered meanwhile");
    flows.does("p", "resume", json!({}));
    assert_eq!(flows.claim("w1", json!({ "flow": "intake" })).status, 204, "the pause before it goes on");
    flows.advance("10s");
    assert_eq!(flows.claim("w1", json!({ "flow": "intake" })).status, 200);
    let cancelled = flows.does("p", "cancel", json!({}));
    assert_eq!(cancelled["closure_reason"], json!("cancelled"), "{cancelled}");
}

#[test]
fn what_a_record_says_is_completed_is_completed_when_the_flow_begins() {
    let flows = Flows::new();
    let body = json!({ "flow": "intake", "id": "b", "booleans": { "is_collected": true } });
    let answer = flows.post("/v1/flows", body);
    assert_eq!((answer.status, &answer.json()["progress"]), (201, &json!(0.25)), "{}", answer.body);
    let unknown = flows.post("/v1/flows", json!({ "flow": "intake", "booleans": { "is_colected": true } }));
    assert_eq!(unknown.status, 422);
    assert!(
        unknown.json()["detail"].as_str().unwrap().contains("did you mean `is_collected`?"),
        "{unknown:?}"
    );
}

#[test]
fn the_history_says_who_when_why_how_long_and_what_went_wrong() {
    let flows = Flows::new();
    flows.begin("intake", "h");
    flows.does("h", "collect.start", json!({ "by": "ann" }));
    flows.advance("90s");
    let error = json!({ "code": "DATA_VALIDATION_FAILED", "message": "no header", "line": 1 });
    flows.does("h", "collect.fail", json!({ "by": "ann", "reason": "gave up", "error": error }));
    assert_eq!(flows.act("h", "check.start", json!({ "by": "bob" })).status, 409);
    flows.does("h", "collect.rollback", json!({ "by": "lead", "reason": "again" }));
    let history = flows.get("/v1/flows/h/history");
    let [created, started, failed, refused, rolled_back] = &history["data"].as_array().unwrap()[..] else {
        panic!("{history}")
    };
    assert_eq!((&created["event"], &created["moved"]), (&json!("create"), &json!([])));
    assert_eq!((&started["by"], &started["moved"][0]["to"]), (&json!("ann"), &json!("in_progress")));
    assert_eq!((&failed["reason"], &failed["code"]), (&json!("gave up"), &json!("DATA_VALIDATION_FAILED")));
    let moved = &failed["moved"][0];
    assert_eq!((&moved["lasted_ms"], &moved["attempt"]), (&json!(90_000), &json!(1)));
    let told = &moved["error"];
    assert_eq!((&told["message"], &told["details"]["line"]), (&json!("no header"), &json!(1)));
    assert_eq!((&refused["success"], &refused["code"]), (&json!(false), &json!("needs_missing")));
    assert_eq!((&rolled_back["by"], &rolled_back["to"]), (&json!("lead"), &json!("error_recovery")));
    assert!(rolled_back["progress"].is_number() && refused.get("progress").is_none());
}

// --- What is refused -------------------------------------------------------------------------------------------------

/// Every member that the problem of a flow has.
fn assert_refused(answer: &Answer, status: u16, code: &str) -> Value {
    let problem = answer.json();
    assert_eq!((answer.status, &problem["code"]), (status, &json!(code)), "{problem}");
    assert_eq!(answer.content_type, "application/problem+json");
    let capital = if status == 400 { "MALFORMED_REQUEST".to_owned() } else { code.to_uppercase() };
    assert_eq!(problem["error_code"], json!(capital));
    assert_eq!(problem["message"], problem["detail"]);
    assert!(problem["details"].is_object() && problem["retry_allowed"].is_boolean(), "{problem}");
    assert!(problem["timestamp"].as_str().unwrap().ends_with('Z'), "{problem}");
    problem
}

/// What was done before, what is refused, with which status and code; the same refusal for a dry run.
#[test]
fn every_refusal_has_its_code_and_says_how_the_phase_stands() {
    let done = ["collect.start", "collect.complete"];
    let checked = [&done[..], &["check.start", "check.submit", "check.validate"]].concat();
    let waiting = [&checked[..], &["agree.start"]].concat();
    let failed = ["collect.start", "collect.fail"];
    let cases: [(&[&str], &str, Value, u16, &str); 18] = [
        (&[], "collect.complete", json!({}), 409, "invalid_transition"),
        (&[], "check.start", json!({}), 409, "needs_missing"),
        (&["pause"], "collect.start", json!({}), 409, "flow_paused"),
        (&["cancel"], "collect.start", json!({}), 410, "instance_closed"),
        (&["cancel"], "pause", json!({}), 410, "instance_closed"),
        (&[], "resume", json!({}), 409, "invalid_transition"),
        (&["collect.start"], "collect.progress", json!({ "progress": 2 }), 422, "malformed_request"),
        (&[], "collect.start", json!({ "worker": "w" }), 422, "malformed_request"),
        (&[], "pause", json!({ "colour": 1 }), 422, "malformed_request"),
        (
            &["collect.start"],
            "collect.complete",
            json!({ "output": { "cuont": 1 } }),
            422,
            "malformed_request",
        ),
        (&["collect.start"], "collect.complete", json!({ "lease": "none" }), 409, "lease_lost"),
        (
            &[&failed[..], &["collect.start", "collect.fail"]].concat(),
            "collect.retry",
            json!({}),
            409,
            "retry_limit",
        ),
        (&waiting, "agree.approve", json!({}), 409, "invalid_transition"),
        (&[], "colect.start", json!({}), 404, "not_found"),
        (&[], "collect.begin", json!({}), 404, "not_found"),
        (&[], "collect.claim", json!({}), 404, "not_found"),
        (&[], "stop", json!({}), 404, "not_found"),
        (&[], "collect.start", json!({ "by": 7 }), 400, "malformed_body"),
    ];
    let flows = Flows::new();
    for (number, (before, event, body, status, code)) in cases.into_iter().enumerate() {
        let id = format!("r{number}");
        flows.begin("intake", &id);
        for event in before {
            flows.does(&id, event, json!({ "by": "ann" }));
        }
        let path = match event.split_once('.') {
            Some((phase, action)) => format!("/v1/flows/{id}/phases/{phase}/{action}"),
            None => format!("/v1/flows/{id}/{event}"),
        };
        let asked = flows.server.post(&format!("{path}?dry_run=true"), &body.to_string());
        let asked = assert_refused(&asked, status, code);
        let refused = assert_refused(&flows.post(&path, body), status, code);
        assert_eq!(asked, refused, "{event}");
        if let (Some((phase, _)), true) = (event.split_once('.'), matches!(status, 409 | 410 | 422)) {
            let details = &refused["details"];
            assert_eq!(details["phase"], json!(phase), "{refused}");
            assert!(details["state"].is_string() && details["valid_transitions"].is_array(), "{refused}");
        }
    }
    let missing = flows.act("r1", "agree.start", json!({})).json();
    assert_eq!(missing["details"]["missing"], json!(["check"]));
    assert_eq!(missing["details"]["valid_actions"], json!([]));
    let whole = flows.act("r5", "resume", json!({})).json();
    assert_eq!(whole["details"], json!({ "status": "initialized", "valid_actions": ["pause", "cancel"] }));
    let failed = flows.act("r11", "collect.complete", json!({})).json();
    assert_eq!(failed["retry_allowed"], json!(false), "it was tried as often as it may be");
}

#[test]
fn a_reused_key_an_old_revision_and_a_missing_key_are_told_apart() {
    let flows = Flows::new();
    flows.begin("intake", "k");
    let start = json!({ "key": "s", "by": "ann" });
    let first = flows.act("k", "collect.start", start.clone());
    let second = flows.act("k", "collect.start", start);
    assert_eq!((first.replayed, second.replayed), (false, true));
    let mut replayed = first.json();
    replayed["replayed"] = json!(true);
    assert_eq!(second.json(), replayed);
    assert_refused(&flows.act("k", "collect.complete", json!({ "key": "s" })), 422, "key_reused");
    let refused = [(); 2].map(|()| flows.act("k", "collect.start", json!({ "key": "late" })));
    assert_eq!(refused.each_ref().map(|answer| answer.replayed), [false, true]);
    assert_eq!(assert_refused(&refused[1], 409, "invalid_transition"), refused[0].json());
    let path = "/v1/flows/k/phases/collect/complete";
    let old = flows.server.post_with(path, r#"{"key": "c"}"#, &[("if-match", "\"1\"")]);
    assert_eq!(assert_refused(&old, 412, "stale_revision")["details"]["state"], json!("in_progress"));
    assert_refused(&flows.server.post(path, "{}"), 400, "missing_key");
    assert_refused(&flows.server.post(&format!("{path}?dryrun=true"), "{}"), 400, "bad_query");
    assert_eq!(flows.server.post(&format!("{path}?dry_run=true"), "{}").status, 200);
}

/// The table of refusals has no gate in it: these are about who says yes.
#[test]
fn who_may_not_approve_is_told_so_and_four_eyes_see_more_than_two() {
    let flows = Flows::new();
    flows.begin("intake", "g");
    for event in ["collect.start", "collect.complete", "check.start", "check.submit", "check.validate"] {
        flows.does("g", event, json!({}));
    }
    flows.does("g", "agree.start", json!({ "by": "lead" }));
    flows.does("g", "agree.submit", json!({}));
    for (body, status, code) in [
        (json!({ "reason": "fine" }), 403, "permission_denied"),
        (json!({ "by": "bob", "reason": "fine" }), 403, "permission_denied"),
        (json!({ "by": "lead", "reason": "fine" }), 403, "permission_denied"),
        (json!({ "by": "lead:eve" }), 422, "malformed_request"),
    ] {
        let refused = assert_refused(&flows.act("g", "agree.approve", body), status, code);
        assert_eq!(refused["details"]["state"], json!("waiting_approval"));
    }
    let approved = flows.does("g", "agree.approve", json!({ "by": "lead:eve", "reason": "fine" }));
    assert_eq!(approved["status"], json!("completed"));
    let skipped = assert_refused(&flows.act("g", "tell.start", json!({})), 409, "not_applicable");
    assert_eq!(skipped["details"]["phase"], json!("tell"));
}

#[test]
fn an_approval_that_expires_while_nobody_runs_the_server_has_expired_when_it_is_back() {
    let flows = Flows::new();
    let started = Instant::now();
    let body =
        json!({ "flow": "intake", "id": "x", "booleans": { "is_collected": true, "check_completed": true } });
    let begun = flows.post("/v1/flows", body);
    assert_eq!(begun.status, 201, "{}", begun.body);
    flows.does("x", "agree.start", json!({ "by": "ann" }));
    flows.does("x", "agree.submit", json!({}));
    assert_eq!(flows.phase("x", "agree")["state"], json!("waiting_approval"), "its clock stands still");
    while started.elapsed() < Duration::from_millis(60) {
        std::thread::yield_now();
    }
    let flows = flows.restarted();
    let late = flows.act("x", "agree.approve", json!({ "by": "lead", "reason": "fine" }));
    assert_eq!(assert_refused(&late, 409, "invalid_transition")["details"]["state"], json!("failed"));
    assert_eq!(flows.phase("x", "agree")["error"]["code"], json!("APPROVAL_EXPIRED"));
    assert_eq!(flows.show("x")["status"], json!("failed"));
}

// --- Who sees what ---------------------------------------------------------------------------------------------------

#[test]
fn no_tenant_sees_or_moves_or_works_on_a_flow_of_another() {
    let flows = Flows::new();
    flows.begin("intake", "mine");
    let other = [("x-tenant", "beta")];
    for path in ["/v1/flows/mine", "/v1/flows/mine/history", "/v1/flows/mine/recovery-options"] {
        assert_eq!(flows.server.get_with(path, &other).status, 404, "{path}");
    }
    for path in ["/v1/flows", "/v1/flows?phase=collect", "/v1/phases"] {
        assert_eq!(flows.server.get_with(path, &other).json()["data"], json!([]), "{path}");
    }
    for path in ["/v1/flows/mine/phases/collect/start", "/v1/flows/mine/cancel"] {
        assert_eq!(flows.server.post_with(path, r#"{"key": "k"}"#, &other).status, 404, "{path}");
    }
    let claim = r#"{"key": "k", "worker": "w"}"#;
    assert_eq!(flows.server.post_with("/v1/work/claim", claim, &other).status, 204);
    assert_eq!(flows.show("mine")["revision"], json!(1));
}

#[test]
fn an_instance_that_is_no_flow_is_found_where_instances_are_and_takes_no_actions() {
    let flows = Flows::new();
    flows.post("/v1/instances", json!({ "machine": "progress_update", "id": "m" }));
    for path in ["/v1/flows/m", "/v1/flows/m/history"] {
        let answer = flows.server.get(path);
        assert_eq!(answer.status, 404);
        assert!(answer.json()["detail"].as_str().unwrap().contains("/v1/instances/m"), "{}", answer.body);
    }
    // The machine has an event of this name.
    assert_refused(&flows.act("m", "cancel", json!({})), 404, "not_found");
    assert_eq!(flows.get("/v1/instances/m")["revision"], json!(1));
    assert_eq!(flows.post("/v1/flows", json!({ "flow": "progress_update" })).status, 404);
    let machine = flows.get("/v1/machines/intake");
    assert_eq!(machine["kind"], json!("flow"));
    assert_eq!(machine["phases"], json!(["collect", "check", "agree", "tell"]));
    assert!(
        machine.get("events").is_none()
            && machine["states"].as_array().unwrap().contains(&json!("gathering"))
    );
}

#[test]
fn lists_find_flows_by_status_and_by_what_their_phases_are_at_page_by_page() {
    let flows = Flows::new();
    for id in ["f1", "f2", "f3"] {
        flows.begin("intake", id);
    }
    flows.begin("queue", "q1");
    flows.does("f2", "collect.start", json!({}));
    flows.does("f2", "collect.fail", json!({}));
    flows.does("f2", "collect.start", json!({}));
    flows.does("f3", "collect.start", json!({}));
    flows.does("f3", "collect.fail", json!({ "error": { "code": "PERMISSION_DENIED" } }));
    for (query, expected) in [
        ("", &["q1", "f3", "f2", "f1"][..]),
        ("?flow=intake", &["f3", "f2", "f1"]),
        ("?status=failed", &["f3"]),
        ("?status=initialized", &["q1", "f1"]),
        ("?phase=collect&phase_state=not_started", &["f1"]),
        ("?phase_state=not_started&status=initialized", &["q1", "f1"]),
        ("?min_retries=1", &["f2"]),
    ] {
        assert_eq!(flows.ids(&format!("/v1/flows{query}")), expected, "{query}");
        let (mut paged, mut path) = (Vec::new(), format!("/v1/flows?limit=1{}", query.replace('?', "&")));
        while !path.is_empty() {
            paged.extend(flows.ids(&path));
            let next = flows.get(&path)["next_cursor"].clone();
            let next = next.as_str().map(|next| next.replace(' ', "%20"));
            let with = |next| format!("/v1/flows?limit=1{}&cursor={next}", query.replace('?', "&"));
            path = next.map(with).unwrap_or_default();
        }
        assert_eq!(paged, expected, "{query}, page by page");
    }
    let line = &flows.get("/v1/flows?status=failed")["data"][0];
    assert_eq!((&line["flow"], &line["progress"]), (&json!("intake"), &json!(0.0)), "{line}");
    flows.advance("1h");
    for (query, expected) in [
        ("state=failed", &[("f3", "collect")][..]),
        ("error=PERMISSION_DENIED", &[("f3", "collect")]),
        ("min_attempts=1&phase=collect", &[("f3", "collect"), ("f2", "collect")]),
        ("flow=queue", &[("q1", "shape"), ("q1", "any")]),
        ("state=failed&older_than=1h1m", &[]),
        ("state=failed&older_than=59m", &[("f3", "collect")]),
    ] {
        let found = flows.get(&format!("/v1/phases?{query}"));
        let found: Vec<_> =
            found["data"].as_array().unwrap().iter().map(|line| (&line["flow_id"], &line["phase"])).collect();
        assert_eq!(json!(found), json!(expected), "{query}");
    }
    for (path, code) in [
        ("/v1/flows?status=faild", "unknown_state"),
        ("/v1/flows?phase=colect", "bad_query"),
        ("/v1/phases?state=done", "bad_query"),
        ("/v1/phases?flow=progress_update", "unknown_machine"),
    ] {
        assert_eq!(flows.server.get(path).json()["code"], json!(code), "{path}");
    }
}

// --- Workers ---------------------------------------------------------------------------------------------------------

#[test]
fn a_worker_is_given_what_waited_longest_and_asks_again_with_the_same_key_for_the_same() {
    let flows = Flows::new();
    flows.begin("queue", "z-first");
    flows.advance("1s");
    flows.begin("queue", "a-second");
    let first = flows.claim("c1", json!({}));
    let work = first.json();
    assert_eq!((&work["flow_id"], &work["phase"]), (&json!("z-first"), &json!("any")), "{work}");
    let again = flows.claim("c1", json!({}));
    assert!(again.replayed);
    let mut expected = work.clone();
    expected["replayed"] = json!(true);
    assert_eq!(again.json(), expected);
    assert_eq!(flows.claim("c1", json!({ "worker": "thief" })).json()["code"], json!("key_reused"));
    assert_eq!(flows.claim("c2", json!({})).json()["flow_id"], json!("a-second"));
    assert_eq!(flows.claim("c3", json!({})).status, 204, "the rest is for shapers");
    assert_eq!(flows.claim("c3", json!({ "kind": "shaper", "flow": "intake" })).status, 204);
    assert_eq!(flows.claim("c3", json!({ "kind": "shaper" })).json()["phase"], json!("shape"));

    let lease = &work["lease"];
    let beat = flows.post(work["heartbeat"].as_str().unwrap(), json!({ "lease": lease, "progress": 0.5 }));
    assert_eq!((beat.status, &beat.json()["lease"]["lease"]), (200, lease), "{}", beat.body);
    let without = flows.act("z-first", "any.complete", json!({}));
    assert_refused(&without, 409, "lease_lost");
    let done =
        flows.post(work["complete"].as_str().unwrap(), json!({ "lease": lease, "output": { "n": 4 } }));
    assert_eq!((done.status, &done.json()["state"]), (200, &json!("completed")), "{}", done.body);
    for path in ["/v1/flows/z-first", "/v1/flows/z-first/history", "/v1/phases"] {
        assert!(!flows.server.get(path).body.contains(lease.as_str().unwrap()), "{path} tells of a lease");
    }
    // The key has had its phase, and does not get it again.
    assert_eq!(flows.claim("c1", json!({})).status, 204);
    flows.does("z-first", "any.rollback", json!({}));
    assert_eq!(flows.claim("c1", json!({})).status, 204);
    let anew = flows.claim("c4", json!({})).json();
    assert_eq!((&anew["flow_id"], &anew["context"]), (&json!("z-first"), &json!({ "n": 4 })), "{anew}");
    for (body, status) in
        [(json!({ "lasts": "1ms" }), 422), (json!({ "worker": " " }), 400), (json!({ "flow": "no" }), 404)]
    {
        flows.begin("queue", &format!("more-{status}"));
        assert_eq!(flows.claim("c9", body.clone()).status, status, "{body}");
    }
}

#[test]
fn a_lease_that_runs_out_gives_the_phase_to_another_and_the_late_worker_is_told() {
    let flows = Flows::new();
    flows.begin("queue", "q");
    let slow = flows.claim("slow", json!({})).json();
    flows.advance("29s");
    let beat = flows.post(slow["heartbeat"].as_str().unwrap(), json!({ "lease": slow["lease"] }));
    assert_eq!(beat.status, 200, "{}", beat.body);
    flows.advance("29s");
    assert_eq!(flows.claim("quick", json!({})).status, 204, "it was heard of");
    flows.advance("1s");
    let quick = flows.claim("quick", json!({})).json();
    assert_eq!((&quick["phase"], &quick["attempt"]), (&json!("any"), &json!(1)), "{quick}");
    let late = flows.post(slow["complete"].as_str().unwrap(), json!({ "lease": slow["lease"] }));
    assert_refused(&late, 409, "lease_lost");
    assert_eq!(flows.claim("slow", json!({})).status, 204, "it has lost what it had under this key");
    let done = flows.post(quick["complete"].as_str().unwrap(), json!({ "lease": quick["lease"] }));
    assert_eq!(done.status, 200, "{}", done.body);
}

#[test]
fn of_many_workers_that_ask_at_once_each_gets_a_phase_of_its_own_or_nothing() {
    const WORKERS: usize = 12;
    let flows = Flows::new();
    for number in 0..5 {
        flows.begin("queue", &format!("q{number}"));
    }
    let answers: Vec<Answer> = std::thread::scope(|scope| {
        let flows = &flows;
        let ask =
            |worker| move || flows.claim(&format!("c{worker}"), json!({ "worker": format!("w{worker}") }));
        let asked: Vec<_> = (0..WORKERS).map(|worker| scope.spawn(ask(worker))).collect();
        asked.into_iter().map(|asked| asked.join().unwrap()).collect()
    });
    let given = answers.iter().filter(|answer| answer.status == 200);
    let mut given: Vec<String> =
        given.map(|answer| answer.json()["flow_id"].as_str().unwrap().to_owned()).collect();
    given.sort_unstable();
    assert_eq!(given, ["q0", "q1", "q2", "q3", "q4"]);
    assert!(answers.iter().all(|answer| matches!(answer.status, 200 | 204)), "{answers:?}");
    for number in 0..5 {
        assert_eq!(flows.phase(&format!("q{number}"), "any")["state"], json!("in_progress"));
    }
}
