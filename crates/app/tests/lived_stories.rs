//! Sessions that were lived over HTTP, told as stories, and played: what was lived comes true.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod harness;

use std::path::Path;
use std::process::Command;

use harness::{Server, days, messages};
use serde_json::{Value, json};

/// Everything but progress updates, in one small machine.
const DESK: &str = "
machine: desk
context: { topic: { type: string, required: true }, price: { type: integer, default: 0 } }
initial: open
on: { note: {}, never: { guard: context.price > 1000, target: done }, fail: { assign: { price: 1 / context.price } } }
states:
  open:
    entry: { raise: { event: remind, delay: 15m, data: { n: context.price } } }
    on: { buy: paying, remind: { assign: { price: context.price + event.n } } }
  paying:
    invoke: { id: pay, src: bank, timeout: 30s, on_done: { target: done, assign: { price: event.price } }, on_error: open }
  done: { type: final }
";

struct Life {
    server: Server,
    inputs: std::cell::Cell<usize>,
    dir: tempfile::TempDir,
}

impl Life {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let server = Server::dev(&dir.path().join("s.db"), &["--clock", "virtual"]);
        let machines = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../machines");
        std::fs::copy(machines.join("progress_update.yaml"), dir.path().join("progress_update.yaml"))
            .unwrap();
        std::fs::write(dir.path().join("desk.yaml"), DESK).unwrap();
        assert_eq!(server.put("/v1/machines/desk", DESK).status, 200);
        Self { server, inputs: Default::default(), dir }
    }

    fn key(&self) -> String {
        self.inputs.set(self.inputs.get() + 1);
        format!("k{}", self.inputs.get())
    }

    fn send(&self, who: &str, mut message: Value) -> Value {
        message["message_id"] = json!(self.key());
        let answer = self.server.post(&messages(who), &message.to_string());
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.json()
    }

    fn say(&self, who: &str, text: &str) -> Value {
        self.send(who, json!({ "text": text }))
    }

    fn post(&self, path: &str, mut body: Value) -> Value {
        body["key"] = json!(self.key());
        self.server.post(path, &body.to_string()).json()
    }

    fn wait(&self, by: &str) {
        let waited = self.server.post("/v1/clock/advance", &json!({ "by": by }).to_string());
        assert_eq!(waited.status, 200, "{}", waited.body);
    }

    /// The story of a session, once it has come true.
    fn tell(&self, session: &str) -> String {
        let story = self.server.get(&format!("/v1/instances/{session}/story"));
        assert_eq!((story.status, story.content_type.as_str()), (200, "application/yaml"), "{}", story.body);
        let file = self.dir.path().join("told.stories.yaml");
        std::fs::write(&file, &story.body).unwrap();
        let (succeeded, told) = run(&["test", file.to_str().unwrap()]);
        assert!(succeeded, "{told}\n{}", story.body);
        assert!(!story.body.contains("did not come true"), "{}", story.body);
        story.body
    }
}

fn run(arguments: &[&str]) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_statewright")).args(arguments).output().unwrap();
    (output.status.success(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
}

fn id(answer: &Value) -> String {
    answer["session_id"].as_str().unwrap().to_owned()
}

fn holds(story: &str, parts: &[&str]) {
    for part in parts {
        assert!(story.contains(part), "{part} is missing in\n{story}");
    }
}

#[test]
fn question_answered_by_a_button_photos_held_and_a_silence() {
    let life = Life::new();
    let session = id(&life.send("ann", json!({ "text": "update", "locale": "fr-CA" })));
    life.wait("3s");
    let photo =
        |name: &str| json!({ "media": [{ "url": format!("https://x/{name}.jpg"), "type": "image/jpeg" }] });
    assert_eq!(life.send("ann", photo("held"))["outcome"], json!("media_held"));
    life.say("ann", "T1: the roof, #2");
    let asked = life.send(
        "ann",
        json!({ "text": "hm", "candidates": [
            { "intent": "add_comment", "confidence": 0.81 },
            { "intent": "complete_task", "confidence": 0.79, "parameters": { "of": "T1" } },
        ] }),
    );
    assert_eq!(asked["outcome"], json!("clarifying"), "{asked}");
    let option = asked["clarification"]["options"][0]["id"].clone();
    life.wait("1m1s");
    life.send("ann", json!({ "payload": option }));
    assert_eq!(life.send("ann", photo("sent"))["state"], json!("collecting_data"));
    life.say("ann", "voilà: \"c'est tout\"\n- no, not yet");
    life.wait("2h1s");
    let story = life.tell(&session);
    holds(
        &story,
        &[
            "machine: progress_update.yaml",
            "send: { locale: fr-CA, text: update }",
            "at: 3s",
            "outcome: media_held",
            "candidates: [{ confidence: 0.81, intent: add_comment }",
            "button: 1 # Ajouter un commentaire",
            "closure_reason: timeout",
            "effects: \"Votre mise",
            "history: [{ event: after.2h, to: abandoned }]",
        ],
    );
}

#[test]
fn question_that_expires_and_one_that_is_answered_by_its_id() {
    let life = Life::new();
    let unclear = || {
        json!({ "text": "hm", "candidates": [
            { "intent": "task_status", "confidence": 0.65 },
        ] })
    };
    let session = id(&life.say("bob", "hello"));
    let first = life.send("bob", unclear());
    life.wait("5m");
    let second = life.send("bob", unclear());
    let answer = |question: &Value, option: usize| {
        let id = question["clarification"]["id"].as_str().unwrap();
        let option = &question["clarification"]["options"][option]["id"];
        life.post(&format!("/v1/clarifications/{id}/answer"), json!({ "option": option }))
    };
    assert_eq!(answer(&first, 0)["code"], json!("clarification_closed"));
    assert_eq!(answer(&second, 0)["outcome"], json!("inline"));
    assert_eq!(answer(&second, 0)["code"], json!("clarification_closed"));
    let history = life.server.get(&format!("/v1/instances/{session}/history")).json();
    let causes: Vec<&Value> =
        history["data"].as_array().unwrap().iter().map(|e| &e["cause"]).filter(|c| !c.is_null()).collect();
    assert_eq!(causes.len(), 4, "{history}");
    assert_eq!(causes[2]["answer"]["clarification"], second["clarification"]["id"], "{history}");
    let story = life.tell(&session);
    holds(
        &story,
        &[
            "clarification_expired",
            "answer: { question: 1, option: 1 }",
            "refused: clarification_closed",
            "answer: 1 #",
        ],
    );
}

#[test]
fn every_session_of_a_busy_day_comes_true() {
    let life = Life::new();
    days::busy(&life.server);
    let sessions = life.server.get("/v1/instances").json();
    let sessions = sessions["data"].as_array().unwrap();
    assert_eq!(sessions.len(), 6);
    for session in sessions {
        life.tell(session["id"].as_str().unwrap());
    }
}

#[test]
fn only_the_session_itself_is_told_and_what_the_one_before_left_is_given() {
    let life = Life::new();
    life.send("cleo", json!({ "text": "update", "locale": "fr" }));
    life.say("cleo", "conseiller");
    life.wait("3h");
    let session = id(&life.say("cleo", "hello?"));
    life.wait("1m");
    life.say("cleo", "reprendre");
    life.say("cleo", "avancement");
    // A repeat leaves nothing in the log.
    let repeat = json!({ "message_id": format!("k{}", life.inputs.get()), "text": "avancement" }).to_string();
    assert!(life.server.post(&messages("cleo"), &repeat).replayed);
    let refused = life.post(&format!("/v1/instances/{session}/events"), json!({ "event": "confirm" }));
    assert_eq!(refused["code"], json!("invalid_transition"));
    life.say("cleo", "annuler");
    life.say("cleo", "avancement");
    let story = life.tell(&session);
    holds(
        &story,
        &["left: { locale: fr, handed_over: true }", "outcome: handed_over", "refused: invalid_transition"],
    );
    assert_eq!(story.matches("avancement").count(), 1, "{story}");
}

#[test]
fn machine_without_a_conversation_with_calls_timers_and_recoveries() {
    let life = Life::new();
    life.wait("7m");
    let created = life.post(
        "/v1/instances",
        json!({ "machine": "desk", "id": "d1", "context": { "topic": "a: b", "price": 5 } }),
    );
    assert_eq!(created["state"], json!("open"), "{created}");
    let event = |event: &str| {
        life.post("/v1/instances/d1/events", json!({ "event": event, "payload": { "x": [1.5, null] } }))
    };
    assert_eq!(event("never")["code"], json!("guard_rejected"));
    life.wait("15m");
    let first = event("buy")["effects"][0]["key"].as_str().unwrap().to_owned();
    let call = |key: &str, body: Value| life.post(&format!("/v1/instances/d1/calls/{key}"), body);
    assert_eq!(call(&first, json!({ "result": { "price": "much" } }))["code"], json!("expression_failed"));
    life.wait("30s");
    let second = event("buy")["effects"][0]["key"].as_str().unwrap().to_owned();
    assert_eq!(call(&first, json!({ "error": {} }))["code"], json!("call_over"));
    life.post("/v1/instances/d1/recover", json!({ "reason": "no: stuck", "by": "me" }));
    assert_eq!(call(&second, json!({ "result": {} }))["code"], json!("call_over"));
    let third = event("buy")["effects"][0]["key"].as_str().unwrap().to_owned();
    assert_eq!(call(&third, json!({ "result": { "price": 9 } }))["state"], json!("done"));
    assert_eq!(event("note")["code"], json!("instance_closed"));
    let story = life.tell("d1");
    holds(
        &story,
        &[
            "context: { price: 5, topic: \"a: b\" }",
            "payload: { x: [1.5, null] }",
            "refused: guard_rejected",
            "history: [{ event: remind, to: open }, { event: buy, to: paying }]",
            "call: pay",
            "error.invoke.pay",
            "# Not told: `result`",
            "recover: \"no: stuck\"",
            "refused: instance_closed",
        ],
    );
}

#[test]
fn command_writes_the_story_and_guards_the_file() {
    let life = Life::new();
    let session = id(&life.say("dan", "update"));
    let file = life.dir.path().join("dan.stories.yaml");
    let arguments = |more: &[&str]| {
        let mut all =
            vec!["story".to_owned(), session.clone(), "--server".to_owned(), life.server.url.clone()];
        all.extend(more.iter().map(|argument| (*argument).to_owned()));
        all
    };
    let story = |more: &[&str]| run(&arguments(more).iter().map(String::as_str).collect::<Vec<_>>());
    let output = file.to_str().unwrap();
    let (succeeded, told) = story(&["-o", output, "--machine", "progress_update.yaml"]);
    assert!(succeeded, "{told}");
    let (succeeded, told) = run(&["test", output]);
    assert!(succeeded, "{told}");
    let (succeeded, told) = story(&["-o", output]);
    assert!(!succeeded && told.contains("--force"), "{told}");
    let (succeeded, told) = story(&["--machine", "elsewhere.yaml"]);
    assert!(succeeded && told.contains("machine: elsewhere.yaml"), "{told}");
    assert_eq!(life.server.get("/v1/instances/nobody/story").status, 404);
}

#[test]
fn session_whose_beginning_is_no_longer_kept_is_refused() {
    let life = Life::new();
    let session = id(&life.say("eve", "help"));
    // Always a little before the silence would end it, until a month is over.
    for _ in 0..400 {
        life.wait("1h59m");
        life.say("eve", "help");
    }
    let refused = life.server.get(&format!("/v1/instances/{session}/story"));
    assert_eq!(
        (refused.status, &refused.json()["code"]),
        (409, &json!("history_incomplete")),
        "{}",
        refused.body
    );
    assert!(refused.body.contains("begins at revision"), "{}", refused.body);
}
