//! The server as its users meet it: a process, HTTP, a signal.

mod harness;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use harness::{Answer, Server, messages};
use serde_json::{Value, json};

#[test]
fn a_conversation_walks_from_start_to_end() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::dev(&dir.path().join("s.db"), &[]);
    let expected = [
        ("update", "task_selection", "dispatched"),
        ("Task 12", "awaiting_action", "dispatched"),
        ("the wall is painted", "collecting_data", "dispatched"),
        ("done", "confirmation_pending", "dispatched"),
        ("yes", "completed", "dispatched"),
    ];
    for (number, (text, state, outcome)) in expected.iter().enumerate() {
        let answer = server.say("ann", &format!("m{number}"), text).json();
        assert_eq!((&answer["state"], &answer["outcome"]), (&json!(state), &json!(outcome)), "{answer}");
        assert_eq!(answer["revision"], json!(number + 1));
    }
    let session = server.get("/v1/machines/progress_update/sessions/ann").json();
    assert_eq!(session["closure_reason"], json!("completed"));
    assert_eq!(session["context"]["comment"], json!("the wall is painted"));
    let history = server.get(&format!("/v1/instances/{}/history", session["id"].as_str().unwrap())).json();
    assert_eq!(history["data"].as_array().unwrap().len(), 5);
}

#[test]
fn fifty_messages_at_once_get_revisions_1_to_50() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::dev(&dir.path().join("s.db"), &[]);
    let answers = at_once(50, |n| server.say("ann", &format!("m{n}"), &format!("note {n}")));
    let revisions: BTreeSet<u64> = answers.iter().map(|a| a.json()["revision"].as_u64().unwrap()).collect();
    assert_eq!(revisions, (1..=50).collect());
}

#[test]
fn the_same_id_twenty_times_at_once_is_one_message_with_one_answer() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::dev(&dir.path().join("s.db"), &[]);
    let answers = at_once(20, |_| server.say("ann", "m1", "update"));
    let bodies: BTreeSet<&str> = answers.iter().map(|a| a.body.as_str()).collect();
    assert_eq!(bodies.len(), 1, "{bodies:?}");
    assert_eq!(answers.iter().filter(|a| !a.replayed).count(), 1);
    let reused = server.say("ann", "m1", "something else");
    assert_eq!((reused.status, &reused.json()["code"]), (422, &json!("key_reused")));
    assert_eq!(server.get("/v1/machines/progress_update/sessions/ann").json()["revision"], json!(1));
}

fn at_once(count: usize, send: impl Fn(usize) -> Answer + Sync) -> Vec<Answer> {
    std::thread::scope(|scope| {
        let send = &send;
        let senders: Vec<_> = (0..count).map(|n| scope.spawn(move || send(n))).collect();
        senders.into_iter().map(|sender| sender.join().expect("a sender panicked")).collect()
    })
}

/// 32 clients send comments; the server is killed in the middle, started again, and every client repeats what was
/// not answered. Each comment must be there exactly once.
#[test]
fn a_kill_in_the_middle_of_a_load_counts_each_message_exactly_once() {
    const CLIENTS: usize = 32;
    const MESSAGES: usize = 12;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.db");
    let server = Server::dev(&path, &[]);
    for client in 0..CLIENTS {
        let subject = format!("user-{client}");
        server.say(&subject, "start", "update");
        server.say(&subject, "task", "T1");
    }
    let (answered, killed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let unanswered: Vec<usize> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let (server, answered, killed) = (&server, &answered, &killed);
                scope.spawn(move || {
                    for message in 0..MESSAGES {
                        let body = comment(client, message);
                        let sent = server.try_post(&messages(&format!("user-{client}")), &body, &[]);
                        if killed.load(Ordering::SeqCst) || !sent.is_ok_and(|a| a.status == 200) {
                            return message;
                        }
                        answered.fetch_add(1, Ordering::SeqCst);
                    }
                    MESSAGES
                })
            })
            .collect();
        while answered.load(Ordering::SeqCst) < CLIENTS * MESSAGES / 3 {
            std::thread::yield_now();
        }
        killed.store(true, Ordering::SeqCst);
        server.kill_now();
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    });
    let server = Server::dev(&path, &[]);
    for (client, from) in unanswered.into_iter().enumerate() {
        for message in from..MESSAGES {
            let answer = server.post(&messages(&format!("user-{client}")), &comment(client, message));
            assert_eq!(answer.status, 200, "{}", answer.body);
        }
        let session = server.get(&format!("/v1/machines/progress_update/sessions/user-{client}")).json();
        let comments: Vec<&str> = session["context"]["comment"].as_str().unwrap().lines().collect();
        let expected: Vec<String> = (0..MESSAGES).map(|m| format!("remark {client} {m}")).collect();
        assert_eq!(comments, expected, "client {client}");
        assert_eq!(session["revision"], json!(MESSAGES + 2));
    }
}

/// Whatever their files are called, and however often the server starts.
#[test]
fn of_several_versions_in_a_folder_the_highest_is_current() {
    let dir = tempfile::tempdir().unwrap();
    for (file, version) in [("a.yaml", 10), ("b.yaml", 2), ("c.yaml", 9)] {
        let definition = format!("machine: m\nversion: {version}\ninitial: a\nstates: {{ a: {{}} }}\n");
        std::fs::write(dir.path().join(file), definition).unwrap();
    }
    let folder = dir.path().to_str().unwrap();
    let store = format!("sqlite:{folder}/s.db");
    for id in ["first", "second"] {
        let server =
            Server::start(&["dev", "--listen", "127.0.0.1:0", "--store", &store, "--machines", folder], &[]);
        let body = json!({"machine": "m", "id": id, "key": id}).to_string();
        assert_eq!(server.post("/v1/instances", &body).status, 201);
        assert_eq!(server.get(&format!("/v1/instances/{id}")).json()["version"], json!(10));
    }
}

fn comment(client: usize, message: usize) -> String {
    json!({"message_id": format!("c{message}"), "text": format!("remark {client} {message}")}).to_string()
}

#[test]
fn wrong_input_gets_a_clear_error_and_stores_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::dev(&dir.path().join("s.db"), &[]);
    let send = messages("ann");
    let large = json!({"message_id": "1", "text": "x".repeat(10_000_000)}).to_string();
    let posts: [(&str, &str, u16, &str, &str); 11] = [
        (&send, "{\"message_id\": ", 400, "malformed_body", "line 1"),
        (&send, "{\"message_id\": \"1\", \"txet\": \"update\"}", 400, "malformed_body", "txet"),
        (&send, "[\"1\", \"update\"]", 400, "malformed_body", "object"),
        (&send, "{\"text\": \"update\"}", 400, "missing_key", "message_id"),
        (&send, "{\"message_id\": \"\", \"text\": \"update\"}", 400, "malformed_body", "empty"),
        (
            &send,
            "{\"message_id\": \"1\", \"candidates\": [{\"intent\": \"x\", \"confidence\": 2}]}",
            400,
            "malformed_body",
            "between 0 and 1",
        ),
        (
            "/v1/machines/progres_update/sessions/ann/messages",
            "{\"message_id\": \"1\", \"text\": \"a\"}",
            404,
            "unknown_machine",
            "progress_update",
        ),
        (
            "/v1/instances",
            "{\"machine\": \"progress_update\", \"key\": \"1\", \"context\": {\"task\": 5}}",
            422,
            "invalid_context",
            "context.task",
        ),
        (
            "/v1/instances",
            "{\"machine\": \"progress_update\", \"key\": \"1\", \"context\": {\"photos\": \"a\"}}",
            422,
            "invalid_context",
            "a list",
        ),
        ("/v1/instances/none/events", "{\"event\": \"cancel\", \"key\": \"1\"}", 404, "not_found", "none"),
        ("/v1/nowhere", "{}", 404, "no_such_route", "openapi"),
    ];
    for (path, body, status, code, part) in posts {
        let answer = server.post(path, body);
        let problem = answer.json();
        assert_eq!(
            (answer.status, problem["code"].as_str()),
            (status, Some(code)),
            "{path} {body}: {problem}"
        );
        assert!(problem["detail"].as_str().unwrap().contains(part), "{path} {body}: {problem}");
        assert_eq!(answer.content_type, "application/problem+json");
    }
    let answer = server.try_post(&send, &large, &[]);
    if let Ok(answer) = answer {
        assert_eq!((answer.status, &answer.json()["code"]), (413, &json!("body_too_large")));
    }
    assert_eq!(server.get("/v1/instances").json()["data"], json!([]));
    assert_eq!(
        server.get("/v1/instances?state=idel&machine=progress_update").json()["code"],
        json!("unknown_state")
    );
    assert_eq!(server.get("/v1/instances?stat=idle").status, 400);
}

#[test]
fn refusals_say_what_is_allowed_and_are_in_the_history() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::dev(&dir.path().join("s.db"), &[]);
    let created =
        server.post("/v1/instances", "{\"machine\": \"progress_update\", \"key\": \"k\", \"id\": \"i1\"}");
    assert_eq!((created.status, created.etag.as_deref()), (201, Some("\"1\"")), "{}", created.body);
    let event = |key: &str, event: &str| json!({"key": key, "event": event}).to_string();
    let refused = server.post("/v1/instances/i1/events", &event("e1", "confirm"));
    let problem = refused.json();
    assert_eq!((refused.status, &problem["code"]), (409, &json!("invalid_transition")));
    assert!(problem["allowed"].as_array().unwrap().contains(&json!("start_update")), "{problem}");
    assert_eq!(server.post("/v1/instances/i1/events", &event("e1", "confirm")).body, refused.body);
    assert_eq!(
        server.post("/v1/instances/i1/events", &event("e2", "confrm")).json()["code"],
        json!("unknown_event")
    );
    let stale =
        server.post_with("/v1/instances/i1/events", &event("e3", "start_update"), &[("if-match", "\"7\"")]);
    assert_eq!((stale.status, &stale.json()["code"]), (412, &json!("stale_revision")));
    let taken =
        server.post_with("/v1/instances/i1/events", &event("e3", "start_update"), &[("if-match", "\"1\"")]);
    assert_eq!((taken.status, &taken.json()["state"]), (200, &json!("task_selection")));
    let history = server.get("/v1/instances/i1/history").json();
    let told: Vec<(&Value, &Value)> =
        history["data"].as_array().unwrap().iter().map(|e| (&e["event"], &e["success"])).collect();
    let (yes, no) = (json!(true), json!(false));
    assert_eq!(told, [(&json!("create"), &yes), (&json!("confirm"), &no), (&json!("start_update"), &yes)]);
}

#[test]
fn the_virtual_clock_closes_a_silent_session_and_not_a_minute_early() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::dev(&dir.path().join("s.db"), &["--clock", "virtual"]);
    server.say("ann", "1", "update");
    let state = || server.get("/v1/machines/progress_update/sessions/ann").json();
    server.post("/v1/clock/advance", "{\"by\": \"1h59m\"}");
    assert_eq!(state()["state"], json!("task_selection"));
    let advanced = server.post("/v1/clock/advance", "{\"by\": \"1m\"}").json();
    assert_eq!(advanced["recovery"]["closed"], json!({"timeout": 1}), "{advanced}");
    assert_eq!((&state()["state"], &state()["closure_reason"]), (&json!("abandoned"), &json!("timeout")));
    let again = server.say("ann", "2", "update").json();
    assert_eq!((&again["state"], &again["revision"]), (&json!("task_selection"), &json!(1)));
}

const PAYMENT: &str = "
machine: payment
context: { total: { type: integer, required: true } }
initial: cart
states:
  cart: { on: { pay: paying }, after: { 1d: given_up } }
  paying:
    entry: { raise: { event: remind, delay: 10s } }
    on: { remind: {} }
    invoke:
      { id: charge, src: payments.charge, input: { amount: context.total }, timeout: 30s, on_done: paid, on_error: cart }
  paid: { type: final, output: { receipt: context.total * 100 } }
  given_up: { type: final }
";

#[test]
fn a_call_survives_a_kill_and_its_result_counts_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("s.db");
    let server = Server::dev(&store, &[]);
    let put = server.put("/v1/machines/payment", PAYMENT);
    assert_eq!(put.status, 200, "{}", put.body);
    server
        .post("/v1/instances", r#"{"machine": "payment", "id": "p1", "key": "k1", "context": {"total": 7}}"#);
    let paying = server.post("/v1/instances/p1/events", r#"{"key": "k2", "event": "pay"}"#).json();
    let call = &paying["effects"][0];
    assert_eq!(
        call["kind"],
        json!({"call": {"id": "charge", "src": "payments.charge", "input": {"amount": 7}}})
    );
    let path = format!("/v1/instances/p1/calls/{}", call["key"].as_str().unwrap());
    server.kill_now();

    let server = Server::dev(&store, &[]);
    let waiting = server.get("/v1/instances/p1").json()["waiting_for"].clone();
    assert_eq!(waiting["calls"][0]["key"], call["key"], "{waiting}");
    let refused = server.post("/v1/instances/p1/events", r#"{"key": "k3", "event": "pay"}"#).json();
    let due: Vec<&str> =
        refused["timers"].as_array().unwrap().iter().map(|timer| timer["id"].as_str().unwrap()).collect();
    assert_eq!(due, ["remind", "after.invoke.charge"], "{refused}");
    assert_eq!(server.post(&path, r#"{"result": {}, "error": {}}"#).status, 400);
    let answers = at_once(5, |_| server.post(&path, r#"{"result": {"id": "r7"}}"#));
    assert!(
        answers.iter().all(|answer| answer.status == 200 && answer.body == answers[0].body),
        "{answers:?}"
    );
    assert_eq!(server.get("/v1/instances/p1").json()["output"], json!({"receipt": 700}));
    let late = server.post(&path, r#"{"key": "another", "result": {}}"#);
    assert_eq!((late.status, &late.json()["code"]), (410, &json!("instance_closed")));
}

#[test]
fn a_wrong_signature_stores_nothing_and_a_right_one_is_answered_in_twiml() {
    let dir = tempfile::tempdir().unwrap();
    let store = format!("sqlite:{}", dir.path().join("s.db").display());
    let machines = concat!(env!("CARGO_MANIFEST_DIR"), "/../../machines");
    let arguments = ["dev", "--listen", "127.0.0.1:0", "--store", &store, "--machines", machines];
    let signed = Server::start(
        &arguments,
        &[("STATEWRIGHT_TWILIO_AUTH_TOKEN", "12345"), ("STATEWRIGHT_PUBLIC_URL", "https://bot.example.org")],
    );
    let path = "/v1/channels/twilio/progress_update";
    let form = "MessageSid=SM1&From=whatsapp%3A%2B15550001&To=whatsapp%3A%2B15550009&Body=update&NumMedia=0";
    let kind = ("content-type", "application/x-www-form-urlencoded");
    for headers in [vec![kind], vec![kind, ("x-twilio-signature", "bm90IHRoZSBvbmU=")]] {
        let refused = signed.post_with(path, form, &headers);
        assert_eq!((refused.status, &refused.json()["code"]), (403, &json!("bad_signature")));
    }
    assert_eq!(signed.get("/v1/instances").json()["data"], json!([]));
    let genuine = ("x-twilio-signature", "MmzXHmz+/LuUIBFKV7HD1jKQGuc=");
    let answer = signed.post_with(path, form, &[kind, genuine]);
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert!(
        answer.body.contains("<Message><Body>Which task is it about?</Body></Message>"),
        "{}",
        answer.body
    );
    assert_eq!(signed.post_with(path, form, &[kind, genuine]).body, answer.body);
}

#[test]
fn sigterm_ends_an_orderly_server_well() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.db");
    let server = Server::dev(&path, &[]);
    server.say("ann", "1", "update");
    assert!(server.terminate());
    let server = Server::dev(&path, &[]);
    assert_eq!(
        server.get("/v1/machines/progress_update/sessions/ann").json()["state"],
        json!("task_selection")
    );
    assert_eq!(server.say("ann", "1", "update").json()["revision"], json!(1));
}

#[test]
fn serve_wants_a_key_and_keeps_tenants_apart() {
    let dir = tempfile::tempdir().unwrap();
    let store = format!("sqlite:{}", dir.path().join("s.db").display());
    let machines = concat!(env!("CARGO_MANIFEST_DIR"), "/../../machines");
    let arguments = ["serve", "--listen", "127.0.0.1:0", "--store", &store, "--machines", machines];
    let server = Server::start(
        &arguments,
        &[
            ("STATEWRIGHT_API_KEYS", "a=aaaaaaaaaaaaaaaa,b=bbbbbbbbbbbbbbbb"),
            ("STATEWRIGHT_ENCRYPTION_KEY", &"0f".repeat(32)),
        ],
    );
    let body = "{\"message_id\": \"1\", \"text\": \"update\"}";
    assert_eq!(server.post(&messages("ann"), body).status, 401);
    let a = ("authorization", "Bearer aaaaaaaaaaaaaaaa");
    let b = ("authorization", "Bearer bbbbbbbbbbbbbbbb");
    let of_a = server.post_with(&messages("ann"), body, &[a]).json();
    let of_b = server.post_with(&messages("ann"), body, &[b]).json();
    assert_eq!((&of_a["revision"], &of_b["revision"]), (&json!(1), &json!(1)));
    assert_ne!(of_a["session_id"], of_b["session_id"]);
    assert_eq!(server.get("/livez").status, 200);
}

#[test]
fn health_figures_and_documents_are_served() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::dev(&dir.path().join("s.db"), &[]);
    server.say("ann", "1", "update");
    let ready = server.get("/readyz").json();
    assert_eq!((&ready["ready"], &ready["checks"]), (&json!(true), &Value::Null));
    let ready = server.get("/readyz?verbose").json();
    let checks: Vec<(&Value, &Value)> =
        ready["checks"].as_array().unwrap().iter().map(|check| (&check["name"], &check["ok"])).collect();
    let names = ["store", "timers", "outbox", "disk", "definitions", "migrations", "instances"];
    assert_eq!(
        checks,
        names.map(|name| json!(name)).iter().map(|name| (name, &json!(true))).collect::<Vec<_>>()
    );
    assert!(ready["checks"][3]["detail"].as_str().unwrap().contains("MiB free"), "{ready}");
    assert_eq!(server.get("/readyz?verbose=perhaps").status, 400);
    assert_eq!(server.get("/v1/info").json()["store"]["durability"], json!("durable"));
    assert_eq!(server.get("/openapi.json").json()["openapi"], json!("3.1.0"));
    let metrics = server.get("/metrics").body;
    for line in [
        "statewright_inputs_total{machine=\"progress_update\",kind=\"message\",outcome=\"dispatched\"} 1",
        "statewright_instances_open{machine=\"progress_update\",state=\"task_selection\"} 1",
    ] {
        assert!(metrics.contains(line), "{line} is missing in\n{metrics}");
    }
    let checked =
        server.post("/v1/machines/check", "machine: x\ninital: a\nstates: { a: { on: { go: b } } }").json();
    let codes: Vec<&str> =
        checked["diagnostics"].as_array().unwrap().iter().map(|d| d["code"].as_str().unwrap()).collect();
    assert_eq!(codes, ["missing_key", "unknown_key", "unknown_target"], "{checked}");
}
