//! Recognisers over the network, as the users of a running server notice them.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod harness;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use harness::{Answer, Server, messages};
use serde_json::{Value, json};

/// What the recogniser does about a request: an answer, or silence for as long as the test lasts.
enum Does {
    Answers(u16, Value),
    KeepsSilent,
}

/// A recogniser on this machine, which remembers what it was asked.
struct Recogniser {
    port: u16,
    asked: Arc<Mutex<Vec<(String, Value)>>>,
}

impl Recogniser {
    fn start(behave: impl Fn(&Value) -> Does + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked: Arc<Mutex<Vec<(String, Value)>>> = Arc::default();
        let (seen, behave) = (Arc::clone(&asked), Arc::new(behave));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (seen, behave) = (Arc::clone(&seen), Arc::clone(&behave));
                std::thread::spawn(move || attend(stream.unwrap(), &seen, &*behave));
            }
        });
        Self { port, asked }
    }

    /// Rasa, whatever the message, says this intent.
    fn saying(intent: &'static str) -> Self {
        Self::start(move |_| Does::Answers(200, rasa(intent)))
    }

    fn count(&self) -> usize {
        self.asked.lock().unwrap().len()
    }

    fn last(&self) -> (String, Value) {
        self.asked.lock().unwrap().last().cloned().unwrap()
    }
}

fn attend(stream: TcpStream, seen: &Mutex<Vec<(String, Value)>>, behave: &dyn Fn(&Value) -> Does) {
    let mut reader = BufReader::new(stream);
    loop {
        let (mut head, mut length) = (String::new(), 0);
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head).is_ok_and(|read| read > 0) {
                let line = head.lines().last().unwrap_or_default().to_ascii_lowercase();
                length = line.strip_prefix("content-length:").map_or(length, |n| n.trim().parse().unwrap());
            } else {
                return;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        let body: Value = serde_json::from_slice(&body).unwrap();
        seen.lock().unwrap().push((head, body.clone()));
        let (status, answer) = match behave(&body) {
            Does::Answers(status, answer) => (status, answer.to_string()),
            // Until the other end gives up.
            Does::KeepsSilent => {
                let _ = reader.read(&mut [0]);
                return;
            }
        };
        let head = format!("HTTP/1.1 {status} Said\r\ncontent-length: {}\r\n\r\n", answer.len());
        if reader.get_mut().write_all((head + &answer).as_bytes()).is_err() {
            return;
        }
    }
}

fn rasa(intent: &str) -> Value {
    let sure = json!({"name": intent, "confidence": 0.93});
    json!({"text": "", "intent": sure.clone(), "intent_ranking": [sure], "entities": []})
}

/// `dev` with such settings, nothing kept. Proxies of the environment would lead nowhere.
fn server(dir: &Path, recognisers: &str, more: &[&str]) -> Server {
    let config = dir.join("statewright.toml");
    std::fs::write(&config, recognisers).unwrap();
    let machines = concat!(env!("CARGO_MANIFEST_DIR"), "/../../machines");
    let config = config.to_str().unwrap();
    let mut arguments = vec![
        "dev",
        "--listen",
        "127.0.0.1:0",
        "--store",
        "memory:",
        "--machines",
        machines,
        "--config",
        config,
    ];
    arguments.extend(more);
    Server::start(&arguments, &[("http_proxy", "http://127.0.0.1:1"), ("ALL_PROXY", "http://127.0.0.1:1")])
}

fn rasa_at(recogniser: &Recogniser, more: &str) -> String {
    format!("[[recognisers]]\nkind = \"rasa\"\nurl = \"http://127.0.0.1:{}\"\n{more}\n", recogniser.port)
}

/// The last entry in a subject's history.
fn remembered(server: &Server, subject: &str) -> Value {
    let session = server.get(&format!("/v1/machines/progress_update/sessions/{subject}")).json();
    let history = server.get(&format!("/v1/instances/{}/history", session["id"].as_str().unwrap())).json();
    history["data"].as_array().unwrap().last().unwrap().clone()
}

fn told(answer: &Answer) -> (Value, Value) {
    let answer = answer.json();
    (answer["state"].clone(), answer["why"]["intent"].clone())
}

#[test]
fn what_a_recogniser_says_moves_the_session() {
    let (dir, recogniser) = (tempfile::tempdir().unwrap(), Recogniser::saying("progress_update"));
    let server = server(dir.path(), &rasa_at(&recogniser, "name = \"nlu\""), &[]);
    let answer = server.say("ann", "m1", "let me tell you what we did");
    assert_eq!(told(&answer), (json!("task_selection"), json!("progress_update")), "{}", answer.body);
    assert_eq!(answer.json()["why"]["raw"], json!(9_300));
    let (head, body) = recogniser.last();
    assert!(head.starts_with("POST /model/parse HTTP/1.1"), "{head}");
    assert_eq!(body, json!({"text": "let me tell you what we did", "message_id": "m1"}));
    let metrics = server.get("/metrics").body;
    let counted = "statewright_recogniser_calls_total{recogniser=\"nlu\",outcome=\"ok\"} 1";
    assert!(metrics.contains(counted), "{metrics}");
}

#[test]
fn the_history_says_who_advised_and_why_nobody_could() {
    let (dir, recogniser) = (
        tempfile::tempdir().unwrap(),
        Recogniser::start(|body| match body["text"].as_str() {
            Some("some progress") => Does::Answers(503, json!("busy")),
            _ => Does::Answers(200, rasa("progress_update")),
        }),
    );
    let server = server(dir.path(), &rasa_at(&recogniser, ""), &[]);
    server.say("ann", "m1", "let me tell you what we did");
    let message = remembered(&server, "ann");
    assert_eq!(message["advised_by"], json!("rasa"), "{message}");
    assert_eq!(message["candidates"], json!([{"intent": "progress_update", "confidence": 0.93}]));
    server.say("bob", "m1", "some progress");
    let message = remembered(&server, "bob");
    assert_eq!(message["advice_failure"], json!("rasa: status 503"), "{message}");
    assert_eq!(message.get("candidates"), None);
}

#[test]
fn when_time_runs_out_the_built_in_recogniser_understands() {
    let (dir, recogniser) = (tempfile::tempdir().unwrap(), Recogniser::start(|_| Does::KeepsSilent));
    let server = server(dir.path(), &rasa_at(&recogniser, "timeout = \"200ms\""), &[]);
    let answer = server.say("ann", "m1", "some progress");
    assert_eq!(told(&answer), (json!("task_selection"), json!("progress_update")), "{}", answer.body);
    assert_eq!(remembered(&server, "ann")["advice_failure"], json!("rasa: timeout"));
}

#[test]
fn five_failures_open_the_breaker_and_a_probe_closes_it() {
    let dir = tempfile::tempdir().unwrap();
    let works = Arc::new(Mutex::new(false));
    let now = Arc::clone(&works);
    let recogniser = Recogniser::start(move |_| match *now.lock().unwrap() {
        true => Does::Answers(200, rasa("progress_update")),
        false => Does::Answers(500, json!({})),
    });
    let server = server(dir.path(), &rasa_at(&recogniser, ""), &["--clock", "virtual"]);
    let say = |n: usize| server.say(&format!("user-{n}"), "m1", "some progress").json()["state"].clone();
    for number in 0..7 {
        assert_eq!(say(number), json!("task_selection"));
    }
    assert_eq!(recogniser.count(), 5, "the sixth and seventh were not asked about");
    assert_eq!(remembered(&server, "user-6")["advice_failure"], json!("rasa: open"));
    *works.lock().unwrap() = true;
    server.post("/v1/clock/advance", "{\"by\": \"31s\"}");
    say(7);
    say(8);
    assert_eq!(recogniser.count(), 7);
    assert_eq!(remembered(&server, "user-8")["advised_by"], json!("rasa"));
}

/// Whatever has to be known is known already.
#[test]
fn nobody_is_asked_about_a_repeat_a_button_a_phrase_or_what_has_candidates() {
    let (dir, recogniser) = (tempfile::tempdir().unwrap(), Recogniser::saying("progress_update"));
    let server = server(dir.path(), &rasa_at(&recogniser, "machine = \"progress_update\""), &[]);
    let first = server.say("ann", "m1", "let me tell you");
    let again = server.say("ann", "m1", "let me tell you");
    assert_eq!((again.replayed, &again.body), (true, &first.body));
    assert_eq!(recogniser.count(), 1);
    let post = |body: Value| server.post(&messages("ann"), &body.to_string());
    assert_eq!(
        post(
            json!({"message_id": "m2", "text": "T7", "candidates": [{"intent": "unknown", "confidence": 0}]})
        )
        .status,
        200
    );
    assert_eq!(post(json!({"message_id": "m3", "payload": "p2.help"})).status, 200);
    let history = server.get("/v1/machines/progress_update/sessions/ann").json();
    let explain = format!("/v1/instances/{}/explain", history["id"].as_str().unwrap());
    assert_eq!(server.post(&explain, "{\"message\": {\"text\": \"what is this\"}}").status, 200);
    assert_eq!(told(&server.say("ann", "m4", "Cancel!")).0, json!("abandoned"));
    let other = "/v1/machines/banking_menu/sessions/ann/messages";
    server.post(other, "{\"message_id\": \"m1\", \"text\": \"hello there\"}");
    // A phrase of the definition: it says itself what that means.
    let phrase = server.say("bob", "m1", "Hello!");
    assert_eq!((told(&phrase).1, &phrase.json()["why"]["raw"]), (json!("greeting"), &json!(10_000)));
    assert_eq!(recogniser.count(), 1);
}

#[test]
fn a_language_model_may_name_only_what_the_state_hears() {
    let dir = tempfile::tempdir().unwrap();
    let recogniser = Recogniser::start(|body| {
        let tells = body["messages"][1]["content"].as_str().unwrap().contains("tell");
        let intent = if tells { "progress_update" } else { "none" };
        let said = json!({"intent": intent, "confidence": 0.99}).to_string();
        Does::Answers(200, json!({"choices": [{"message": {"role": "assistant", "content": said}}]}))
    });
    let key = dir.path().join("key");
    std::fs::write(&key, "k-123\n").unwrap();
    let config = format!(
        "[[recognisers]]\nkind = \"openai\"\nmodel = \"small\"\nurl = \"http://127.0.0.1:{}/v1\"\napi_key = \"file:{}\"\n",
        recogniser.port,
        key.display()
    );
    let server = server(dir.path(), &config, &[]);
    let answer = server.say("ann", "m1", "let me tell you what we did");
    assert_eq!(told(&answer), (json!("task_selection"), json!("progress_update")), "{}", answer.body);
    assert_eq!(answer.json()["why"]["raw"], json!(9_000), "sure of itself, and capped");
    let (head, body) = recogniser.last();
    assert!(head.starts_with("POST /v1/chat/completions HTTP/1.1"), "{head}");
    assert!(head.to_ascii_lowercase().contains("authorization: bearer k-123\r\n"), "{head}");
    let heard = |body: &Value| {
        let schema = &body["response_format"]["json_schema"]["schema"];
        let names = schema["properties"]["intent"]["enum"].as_array().unwrap();
        names.iter().map(|name| name.as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let idle = heard(&body);
    assert!(idle.contains(&"progress_update".into()) && !idle.contains(&"confirm".into()), "{idle:?}");
    for text in ["T7", "the wall is painted", "done"] {
        server.say("ann", text, text);
    }
    server.say("ann", "m2", "that should do");
    let confirming = heard(&recogniser.last().1);
    assert!(confirming.contains(&"confirm".into()), "{confirming:?}");
    assert_eq!(confirming.last().unwrap(), "none");
}

#[test]
fn messages_of_a_channel_are_asked_about_too() {
    let (dir, recogniser) = (tempfile::tempdir().unwrap(), Recogniser::saying("progress_update"));
    let server = server(dir.path(), &rasa_at(&recogniser, ""), &[]);
    let form = "MessageSid=SM1&From=whatsapp%3A%2B15005550006&To=whatsapp%3A%2B15005550001&Body=let+me+tell+you&AccountSid=AC1&NumMedia=0";
    let headers = [("content-type", "application/x-www-form-urlencoded")];
    let answer = server.post_with("/v1/channels/twilio/progress_update", form, &headers);
    assert!(answer.body.contains("Which task"), "{}", answer.body);
    assert_eq!(recogniser.last().1["message_id"], json!("SM1"));
}

/// The second could be understood at once, and is still handled after the first.
#[test]
fn a_persons_messages_stay_in_their_order() {
    let dir = tempfile::tempdir().unwrap();
    let (arrives, arrived): (Sender<String>, Receiver<String>) = channel();
    let (overtakes, overtaken) = channel::<()>();
    let overtaken = Mutex::new(overtaken);
    let recogniser = Recogniser::start(move |body| {
        arrives.send(body["message_id"].as_str().unwrap().to_owned()).unwrap();
        if body["message_id"] == json!("m1") {
            // Slow, unless the second comes meanwhile, as it should not.
            let _ = overtaken.lock().unwrap().recv_timeout(Duration::from_millis(500));
        } else {
            let _ = overtakes.send(());
        }
        Does::Answers(200, rasa("greeting"))
    });
    let server = server(dir.path(), &rasa_at(&recogniser, ""), &[]);
    let revisions = std::thread::scope(|scope| {
        let first = scope.spawn(|| server.say("ann", "m1", "a good day to you"));
        assert_eq!(arrived.recv_timeout(Duration::from_secs(10)).unwrap(), "m1");
        let second = scope.spawn(|| server.say("ann", "m2", "and one more"));
        [first, second].map(|sent| sent.join().unwrap().json()["revision"].as_u64().unwrap())
    });
    assert_eq!(revisions, [1, 2]);
}

#[test]
fn serve_asks_nobody_in_its_own_network_unless_that_is_allowed() {
    let (dir, recogniser) = (tempfile::tempdir().unwrap(), Recogniser::saying("progress_update"));
    let machines = concat!(env!("CARGO_MANIFEST_DIR"), "/../../machines");
    let config = dir.path().join("statewright.toml");
    let serve = |more: &str| {
        std::fs::write(&config, format!("{more}\n{}", rasa_at(&recogniser, ""))).unwrap();
        let config = config.to_str().unwrap();
        let arguments = [
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--store",
            "memory:",
            "--machines",
            machines,
            "--config",
            config,
        ];
        Server::start(&arguments, &[("STATEWRIGHT_API_KEYS", "acme=0123456789abcdef")])
    };
    let say = |server: &Server| {
        let headers = [("authorization", "Bearer 0123456789abcdef")];
        let body = json!({"message_id": "m1", "text": "let me tell you"}).to_string();
        server.post_with(&messages("ann"), &body, &headers).json()["state"].clone()
    };
    assert_eq!(say(&serve("")), json!("idle"));
    assert_eq!(recogniser.count(), 0);
    assert_eq!(say(&serve("allow_addresses = [\"127.0.0.0/8\"]")), json!("task_selection"));
    assert_eq!(recogniser.count(), 1);
}

#[test]
fn settings_that_would_do_harm_keep_the_server_from_starting() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("statewright.toml");
    let machines = concat!(env!("CARGO_MANIFEST_DIR"), "/../../machines");
    for (settings, part) in [
        ("listen = \"0.0.0.0:0\"", "`dev` asks nobody for a key"),
        ("listen = \"127.0.0.1:0\"\nallow_addresses = [\"127.0.0.1/8\"]", "write 127.0.0.0/8"),
        ("[[recognisers]]\nkind = \"openai\"\nurl = \"https://llm.example\"", "`model` is missing"),
        (
            "[[recognisers]]\nkind = \"rasa\"\nurl = \"https://a.example\"\napi_key = \"env:NO_SUCH_KEY\"",
            "NO_SUCH_KEY",
        ),
    ] {
        std::fs::write(&config, settings).unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_statewright"))
            .args(["dev", "--store", "memory:", "--machines", machines, "--config"])
            .arg(&config)
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && told.contains(part), "{settings}: {told}");
    }
}
