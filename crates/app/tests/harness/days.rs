//! What people do on a busy day, over HTTP and on a virtual clock.

use serde_json::{Value, json};

use super::{Server, messages};

pub fn send(server: &Server, who: &str, id: &str, mut message: Value) -> Value {
    message["message_id"] = json!(id);
    let answer = server.post(&messages(who), &message.to_string());
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.json()
}

pub fn wait(server: &Server, by: &str) {
    assert_eq!(server.post("/v1/clock/advance", &json!({ "by": by }).to_string()).status, 200);
}

pub fn guess(text: &str, intent: &str, confidence: f64) -> Value {
    json!({ "text": text, "candidates": [{ "intent": intent, "confidence": confidence }] })
}

/// Two people with several sessions each: questions, silences, photos, a hand-over, a change of tasks, refusals.
pub fn busy(server: &Server) -> u64 {
    let mut sent = 0;
    for who in ["ann", "bob"] {
        let mut say = |message: Value| {
            sent += 1;
            send(server, who, &format!("{who}{sent}"), message)
        };
        let photo = || json!({ "media": [{ "url": "https://x/1.jpg", "type": "image/jpeg" }] });
        say(json!({ "text": "bonjour", "locale": "fr" }));
        let asked = say(guess("hm", "task_status", 0.65));
        assert_eq!(asked["outcome"], json!("clarifying"), "{asked}");
        wait(server, "5m");
        say(json!({ "text": "avancement" }));
        say(photo());
        say(json!({ "text": "T1" }));
        say(photo());
        say(json!({ "text": "le mur est sec" }));
        let asked = say(json!({ "text": "?", "candidates": [
            { "intent": "complete_task", "confidence": 0.95 }, { "intent": "switch_task", "confidence": 0.9 },
        ] }));
        let option = asked["clarification"]["options"][1]["id"].clone();
        say(json!({ "payload": option }));
        say(json!({ "text": "T2" }));
        wait(server, "2h");
        say(json!({ "text": "conseiller" }));
        say(json!({ "text": "il y a quelqu'un ?" }));
        wait(server, "3h");
        say(json!({ "text": "allo" }));
        say(json!({ "text": "reprendre" }));
        let session = say(json!({ "text": "oui" }));
        let path = format!("/v1/instances/{}", session["session_id"].as_str().unwrap());
        for event in ["confirm", "start_update"] {
            server.post(&format!("{path}/events"), &json!({ "event": event, "key": event }).to_string());
        }
        server.post(&format!("{path}/recover"), "{\"reason\": \"a test\"}");
        let asked = say(guess("hm", "task_status", 0.65));
        let question = asked["clarification"].clone();
        let answer = json!({ "option": question["options"][0]["id"], "key": "by id" }).to_string();
        server.post(&format!("/v1/clarifications/{}/answer", question["id"].as_str().unwrap()), &answer);
        say(json!({ "text": "annuler" }));
    }
    sent
}
