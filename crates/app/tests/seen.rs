//! What a key may see: a secret is planted wherever one can come to, and every address is asked for it.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod harness;

use std::collections::BTreeSet;

use harness::{Answer, Server};
use serde_json::{Value, json};

const SECRET: &str = "hunter2-is-a-secret";
const ADMIN: &str = "0123456789abcdef";

/// Takes its secret from an event or a message, and tells it wherever a definition can: in a call, a delay, a reply and the
/// output.
const SAFE: &str = "
machine: safe
context:
  pin: { type: string, nullable: true, secret: true }
  colour: { type: string, default: green }
initial: shut
safe_state: shut
states:
  shut:
    accepts: { text: turn }
    on:
      turn:
        - guard: \"(has(event.pin) ? event.pin : event.text) != 'wrong'\"
          target: open
          assign: { pin: 'has(event.pin) ? event.pin : event.text' }
  open:
    entry: [{ reply: yours }, { raise: { event: late, delay: 1h, data: { pin: context.pin } } }]
    invoke: { src: locks.open, input: { pin: context.pin } }
    on: { late: shut, close: over, stay: { actions: [] } }
  over: { type: final, output: { pin: context.pin } }
conversation:
  locales: [en]
  intents:
    close: { priority: P0, event: close, phrases: { en: [close] } }
  replies:
    yours: { en: 'It is {context.pin}.' }
";

const TRANSPORT: &str = "
flow: transport
context: { code: { type: string, nullable: true, secret: true } }
phases:
  load: { run: person, retry: { attempts: 3, backoff: 1h } }
  drive: { needs: [load], run: person }
";

/// What may stand in an address, by the name that the document has for it.
fn fillings(name: &str, subject: &str) -> Vec<String> {
    let all: &[&str] = match name {
        "id" => &["safe-open", "safe-over", "transport-1", "ann"],
        "machine" | "name" => &["safe", "transport"],
        "table" => &["sessions", "flows", "transitions", "clarifications", "phases"],
        "subject" => &["ann", "bob"],
        _ => &["x"],
    };
    all.iter().map(|text| if *text == "ann" && name == "id" { subject } else { text }.to_string()).collect()
}

/// Every address that a path stands for.
fn addresses(path: &str, session: &str) -> Vec<String> {
    let mut found = vec![String::new()];
    for part in path.split('/').skip(1) {
        let name = part.strip_prefix('{').and_then(|part| part.strip_suffix('}'));
        let fill = name.map_or(vec![part.to_owned()], |name| fillings(name, session));
        found =
            found.iter().flat_map(|begun| fill.iter().map(move |text| format!("{begun}/{text}"))).collect();
    }
    found
}

/// What is asked besides, where there is more to be told then.
const ASKED: [(&str, &str); 7] = [
    ("/v1/machines/{name}/diff", "from=current&to=current"),
    ("/v1/stream", "follow=false&recent=1000"),
    ("/v1/dead-letters", "status=pending,sending,delivered,cancelled,unaddressed,dead,unknown"),
    ("/v1/instances/{id}", "revision=2"),
    ("/v1/instances", "machine=safe"),
    ("/v1/flows", "flow=transport"),
    ("/readyz", "verbose"),
];

const PAGES: [&str; 9] = [
    "/",
    "/instances",
    "/instances/{id}",
    "/flows",
    "/flows/{id}",
    "/machines",
    "/machines/{name}",
    "/machines/{name}/simulator",
    "/inbox",
];

struct Planted {
    server: Server,
    read: String,
    write: String,
    /// Of the session of somebody who has typed it.
    session: String,
}

impl Planted {
    fn ask(&self, key: &str, method: &str, path: &str, body: &Value) -> Answer {
        let key = format!("Bearer {key}");
        let headers = [("authorization", key.as_str())];
        match method {
            "get" => self.server.get_with(path, &headers),
            "put" => self.server.put_with(path, body.as_str().unwrap_or(&body.to_string()), &headers),
            _ => self.server.post_with(path, &body.to_string(), &headers),
        }
    }

    fn get(&self, key: &str, path: &str) -> Answer {
        self.ask(key, "get", path, &Value::Null)
    }

    fn done(&self, method: &str, path: &str, body: &Value) -> Value {
        let answer = self.ask(ADMIN, method, path, body);
        assert!((200..300).contains(&answer.status), "{path}: {answer:?}");
        answer.json()
    }

    fn new() -> Self {
        let machines = concat!(env!("CARGO_MANIFEST_DIR"), "/../../machines");
        let arguments = ["serve", "--listen", "127.0.0.1:0", "--store", "memory:", "--machines", machines];
        let server = Server::start(&arguments, &[("STATEWRIGHT_API_KEYS", &format!("acme={ADMIN}"))]);
        let nobody = || String::new();
        let mut planted = Self { server, read: nobody(), write: nobody(), session: nobody() };
        let key = |scope: &str| {
            let made = planted.done("post", "/v1/api-keys", &json!({"name": scope, "scope": scope}));
            made["key"].as_str().unwrap().to_owned()
        };
        (planted.read, planted.write) = (key("read"), key("write"));
        planted.done("put", "/v1/machines/safe", &json!(SAFE));
        planted.done("put", "/v1/machines/transport", &json!(TRANSPORT));
        for id in ["safe-open", "safe-over"] {
            planted.done("post", "/v1/instances", &json!({"machine": "safe", "id": id, "key": id}));
            let turn = json!({"key": format!("{id}-turn"), "event": "turn", "payload": {"pin": SECRET}});
            planted.done("post", &format!("/v1/instances/{id}/events"), &turn);
        }
        let close = json!({"key": "close", "event": "close", "payload": {"why": SECRET}});
        planted.done("post", "/v1/instances/safe-over/events", &close);
        let wrong = json!({"key": "again", "event": "turn", "payload": {"pin": SECRET}});
        assert_eq!(planted.ask(ADMIN, "post", "/v1/instances/safe-open/events", &wrong).status, 409);
        let say = |subject: &str, id: &str, text: &str| {
            let path = format!("/v1/machines/safe/sessions/{subject}/messages");
            planted.done("post", &path, &json!({"message_id": id, "text": text}))
        };
        let said = say("ann", "a1", SECRET);
        say("ann", "a2", &format!("nobody understands {SECRET}"));
        planted.done("put", "/v1/machines/safe/rollout", &json!({"mode": "shadow"}));
        say("bob", "b1", SECRET);
        planted.session = said["session_id"].as_str().unwrap().to_owned();
        let begin =
            json!({"flow": "transport", "id": "transport-1", "key": "t", "context": {"code": SECRET}});
        planted.done("post", "/v1/flows", &begin);
        for (action, more) in [
            ("start", json!({})),
            ("fail", json!({"error": {"code": "lost", "message": SECRET, "code_was": SECRET}})),
        ] {
            let mut body = json!({"key": format!("t-{action}"), "by": "driver"});
            body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            planted.done("post", &format!("/v1/flows/transport-1/phases/load/{action}"), &body);
        }
        planted
    }
}

#[test]
fn whoever_only_reads_finds_no_secret_anywhere() {
    let planted = Planted::new();
    let document = planted.server.get("/openapi.json").json();
    let paths = document["paths"].as_object().unwrap();
    let answered =
        paths.iter().filter(|(_, methods)| methods.get("get").is_some()).map(|(path, _)| path.as_str());
    let (mut seen, mut with_secret) = (BTreeSet::new(), BTreeSet::new());
    for path in answered.chain(PAGES) {
        let more = ASKED.iter().filter(|(of, _)| *of == path).map(|(_, asked)| format!("?{asked}"));
        // Without its question a stream goes on for ever.
        let plain = (path != "/v1/stream").then(String::new);
        for asked in more.chain(plain) {
            for address in addresses(path, &planted.session) {
                let address = format!("{address}{asked}");
                let read = planted.get(&planted.read, &address);
                assert!(read.status < 500, "{address}: {read:?}");
                assert!(!read.body.contains(SECRET), "{address} tells it: {}", read.body);
                if read.status == 200 {
                    seen.insert(path);
                }
                if planted.get(&planted.write, &address).body.contains(SECRET) {
                    with_secret.insert(path);
                }
            }
        }
    }
    // What is told to somebody who may write, and what nothing was found at, because it takes more.
    let expected = [
        "/v1/dead-letters",
        "/v1/flows/{id}",
        "/v1/flows/{id}/history",
        "/v1/instances",
        "/v1/instances/{id}",
        "/v1/instances/{id}/effects",
        "/v1/instances/{id}/history",
        "/v1/instances/{id}/story",
        "/v1/machines/{machine}/sessions/{subject}",
        "/v1/machines/{machine}/shadow",
        // What was said, and what was said of an error; never what the definition calls secret.
        "/flows/{id}",
        "/inbox",
        "/instances/{id}",
    ];
    assert_eq!(with_secret, BTreeSet::from(expected));
    let closed = [
        "/v1/api-keys",
        "/v1/backup",
        "/v1/channels/{kind}/{machine}",
        "/v1/instances/{id}/story",
        "/v1/keys",
        "/v1/machines/{name}/overlay",
    ];
    let asked: BTreeSet<&str> = paths
        .keys()
        .map(String::as_str)
        .filter(|path| paths[*path].get("get").is_some())
        .chain(PAGES)
        .collect();
    assert_eq!(asked.difference(&seen).copied().collect::<Vec<_>>(), closed);
}

#[test]
fn whoever_watches_the_server_sees_nothing_of_a_tenant() {
    let planted = Planted::new();
    let made = planted.done("post", "/v1/api-keys", &json!({"name": "prometheus", "scope": "metrics"}));
    let key = made["key"].as_str().unwrap();
    let document = planted.server.get("/openapi.json").json();
    let paths = document["paths"].as_object().unwrap().keys().map(String::as_str).chain(PAGES);
    let addresses = paths.map(|path| addresses(path, &planted.session).remove(0));
    let open: Vec<String> = addresses.filter(|address| planted.get(key, address).status == 200).collect();
    assert_eq!(open, ["/livez", "/metrics", "/openapi.json", "/readyz"]);
    assert_eq!(planted.get(key, "/readyz?verbose").status, 200);
}

#[test]
fn what_could_be_found_out_by_asking_wants_a_key_that_may_write() {
    let planted = Planted::new();
    let asks = [
        ("/v1/instances/safe-open/explain", json!({"event": "close"})),
        ("/v1/machines/safe/reroute", json!({"set": {"thresholds.confidence": 0.9}})),
        ("/v1/machines/safe/shadow", json!({})),
    ];
    for (path, body) in &asks {
        let refused = planted.ask(&planted.read, "post", path, body);
        assert_eq!((refused.status, &refused.json()["code"]), (403, &json!("insufficient_scope")), "{path}");
        let detail = refused.json()["detail"].to_string();
        assert!(detail.contains("`safe` has secret fields") && detail.contains("`write`"), "{detail}");
        assert_eq!(planted.ask(&planted.write, "post", path, body).status, 200, "{path}");
    }
}

#[test]
fn of_what_is_masked_it_is_told_that_there_is_something() {
    let planted = Planted::new();
    let read = planted.get(&planted.read, "/v1/instances/safe-open").json();
    let mask = json!("\u{2022}\u{2022}\u{2022}\u{2022}");
    assert_eq!(read["context"], json!({"colour": "green", "pin": mask}));
    assert_eq!(read["waiting_for"]["calls"][0]["input"], json!({"pin": mask}));
    let begun = planted.get(&planted.read, "/v1/instances/safe-open?revision=1").json();
    assert_eq!(begun["context"]["pin"], Value::Null, "nothing is there yet");
    let history = planted.get(&planted.read, &format!("/v1/instances/{}/history", planted.session)).json();
    assert_eq!(
        (&history["data"][0]["text"], &history["data"][0]["to"]),
        (&mask, &json!("open")),
        "{history}"
    );
    // What is secret of one machine hides nothing of another.
    let plain = SAFE.replace("secret: true", "secret: false").replace("machine: safe", "machine: plain");
    planted.done("put", "/v1/machines/plain", &json!(plain));
    planted.done(
        "post",
        "/v1/instances",
        &json!({"machine": "plain", "id": "p", "key": "p", "context": {"pin": "1"}}),
    );
    assert_eq!(planted.get(&planted.read, "/v1/instances/p").json()["context"]["pin"], json!("1"));
    assert_eq!(planted.get(&planted.read, "/v1/instances/p/story").status, 200);
}

#[test]
fn what_was_secret_stays_so_in_the_history_when_a_version_takes_it_back() {
    let planted = Planted::new();
    let plain = SAFE.replace("secret: true", "secret: false").replacen(
        "machine: safe",
        "machine: safe\nversion: 2",
        1,
    );
    planted.done("put", "/v1/machines/safe", &json!(plain));
    planted.done("post", "/v1/machines/safe/migrate", &json!({"dry_run": false}));
    let now = planted.get(&planted.read, "/v1/instances/safe-open").json();
    assert_eq!((&now["version"], &now["context"]["pin"]), (&json!(2), &json!(SECRET)), "as version 2 has it");
    let history = format!("/v1/instances/{}/history", planted.session);
    assert!(planted.get(&planted.write, &history).body.contains(SECRET));
    for address in [history.as_str(), "/v1/export/transitions"] {
        let told = planted.get(&planted.read, address).body;
        assert!(!told.contains(SECRET), "{address}: {told}");
    }
}
