//! A server where something of everything is there to be looked at.

use serde_json::json;
use tempfile::TempDir;

use crate::harness::Server;

/// What nobody wants to find on a page as more than text.
pub const INJECTED: &str = "<img src=x onerror=\"window.taken=1\">'\"><script>window.taken=1</script>{{7*7}}";

/// Says what may be anything: people's texts, and what hosts send.
pub const GUEST: &str = r#"
machine: guest
version: 1
context:
  note: { type: string, nullable: true }
  pin: { type: string, nullable: true, secret: true }
initial: waiting
safe_state: waiting
after: { 2h: { target: over, reason: timeout } }
on:
  drop: { target: over, reason: "<b onclick='window.taken=1'>bold</b>" }
states:
  waiting:
    on: { take: { assign: { note: "has(event.note) ? event.note : null", pin: "has(event.code) ? event.code : null" }, target: taken, guard: "!has(event.note) || event.note != '<i>never</i>'" } }
  taken:
    on: { back: { target: waiting }, stay: { actions: [] } }
  over: { type: final }
"#;

pub struct Place {
    pub server: Server,
    pub _dir: TempDir,
}

/// A server where something of everything is there to be looked at.
pub fn furnished() -> Place {
    let dir = tempfile::tempdir().unwrap();
    let machines = dir.path().join("machines");
    std::fs::create_dir(&machines).unwrap();
    std::fs::write(machines.join("guest.yaml"), GUEST).unwrap();
    let config = dir.path().join("hook.toml");
    let hook = "[[webhooks]]\nurl = \"http://127.0.0.1:9/\"\nmachine = \"guest\"\ntransitions = true\nsecret = \"whsec_bm90aGluZyB0byBndWVzcyBoZXJlLCByZWFsbHk=\"\n";
    std::fs::write(&config, hook).unwrap();
    let more = [
        "--machines",
        machines.to_str().unwrap(),
        "--clock",
        "virtual",
        "--config",
        config.to_str().unwrap(),
    ];
    let server = Server::dev(&dir.path().join("s.db"), &more);
    server.post("/v1/instances", r#"{"machine":"guest","id":"lost","key":"l"}"#);
    server.post("/v1/instances/lost/events", r#"{"key":"l2","event":"drop"}"#);
    // One attempt after the other, until it is given up.
    while server.get("/v1/dead-letters").json()["data"] == json!([]) {
        assert_eq!(server.post("/v1/clock/advance", r#"{"by":"1d"}"#).status, 200);
    }
    for (user, texts) in [
        ("ann", &["update", "Task 12", "the wall is painted"][..]),
        ("ben", &["update", "Task 12", "fnord fnord", INJECTED]),
        ("cleo", &["update", "Task 7", "talk to a person", "hello?"]),
        ("dan", &["update", "Task 7", "cancel"]),
        ("fay", &["fnord"]),
    ] {
        for (number, text) in texts.iter().enumerate() {
            server.say(user, &format!("{user}{number}"), text);
        }
    }
    let torn = server.say("gus", "gus1", &format!("problem {INJECTED}")).json();
    assert_eq!(torn["outcome"], json!("clarifying"), "{torn}");
    server.post("/v1/instances", r#"{"machine":"guest","id":"guest-1","key":"g"}"#);
    let taken =
        json!({"key": "g2", "event": "take", "payload": {"note": INJECTED, "code": "4711"}, "by": INJECTED});
    assert_eq!(server.post("/v1/instances/guest-1/events", &taken.to_string()).status, 200);
    server
        .post("/v1/flows", r#"{"flow":"release_train","id":"train-1","key":"f","context":{"commit":"abc"}}"#);
    for (phase, deed, more) in [
        ("build", "start", json!({"by": "bob"})),
        ("build", "complete", json!({"by": "bob", "output": {"artifact": INJECTED}})),
        ("security_review", "start", json!({"by": "sue"})),
        ("security_review", "submit", json!({"by": "sue"})),
        ("unit_tests", "start", json!({"by": "tom"})),
        ("unit_tests", "fail", json!({"by": "tom", "error": {"code": "TESTS_FAILED", "message": INJECTED}})),
    ] {
        let mut body = more;
        body["key"] = json!(format!("{phase}{deed}"));
        let answer = server.post(&format!("/v1/flows/train-1/phases/{phase}/{deed}"), &body.to_string());
        assert_eq!(answer.status, 200, "{phase} {deed}: {}", answer.body);
    }
    Place { server, _dir: dir }
}

pub fn session(server: &Server, subject: &str) -> String {
    let session = server.get(&format!("/v1/machines/progress_update/sessions/{subject}")).json();
    session["id"].as_str().unwrap().to_owned()
}
