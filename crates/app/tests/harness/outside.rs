//! A server with settings of a test, and webhooks to it as providers write and sign them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha1::Sha1;
use sha2::Sha256;
use tempfile::TempDir;

use super::{Answer, Server};

pub const MACHINES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../machines");
/// Whose the sessions are, unless a test says otherwise.
pub const ACME: [(&str, &str); 1] = [("x-tenant", "acme")];
/// The shipped example of the Standard Webhooks specification.
pub const SIGNING_SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// A server on a clock that stands still, with its settings and its data in a folder that goes with it.
pub struct Connected {
    pub server: Server,
    dir: TempDir,
}

impl std::ops::Deref for Connected {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

impl Connected {
    pub fn with(settings: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("statewright.toml"), settings).unwrap();
        let server = start(&dir, "memory:");
        Self { server, dir }
    }

    /// With data that outlives a kill.
    pub fn durable(settings: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("statewright.toml"), settings).unwrap();
        let server = start(&dir, &store_of(&dir));
        Self { server, dir }
    }

    /// kill -9, and the same again.
    pub fn killed_and_started_again(self) -> Self {
        self.server.kill_now();
        let server = start(&self.dir, &store_of(&self.dir));
        Self { server, dir: self.dir }
    }

    /// SIGTERM; whether it ended well.
    pub fn terminate(self) -> bool {
        self.server.terminate()
    }

    /// Moves the clock, and comes back when what is due by then has been tried.
    pub fn advance(&self, by: &str) {
        let answer = self.post("/v1/clock/advance", &json!({ "by": by }).to_string());
        assert_eq!(answer.status, 200, "{}", answer.body);
    }

    /// Comes back when what is due has been tried.
    pub fn rest(&self) {
        self.advance("1ms");
    }

    pub fn told(&self, path: &str) -> Value {
        let answer = self.get_with(path, &ACME);
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        answer.json()
    }

    /// The session of somebody, as a whole.
    pub fn session(&self, machine: &str, subject: &str) -> Value {
        self.told(&format!("/v1/machines/{machine}/sessions/{subject}"))
    }

    pub fn state(&self, subject: &str) -> Value {
        self.session("progress_update", subject)["state"].clone()
    }

    /// What the session of somebody had to have delivered, oldest first.
    pub fn effects(&self, machine: &str, subject: &str) -> Vec<Value> {
        let session = self.session(machine, subject);
        let found = self.told(&format!("/v1/instances/{}/effects", session["id"].as_str().unwrap()));
        let mut found = found["data"].as_array().unwrap().clone();
        found.reverse();
        found
    }

    /// One member of each of them.
    pub fn each(&self, member: &str, subject: &str) -> Vec<Value> {
        let effects = self.effects("progress_update", subject);
        effects.iter().map(|effect| effect[member].clone()).collect()
    }

    pub fn dead_letters(&self) -> Vec<Value> {
        self.told("/v1/dead-letters")["data"].as_array().unwrap().clone()
    }

    /// A message by HTTP, for which somebody waits.
    pub fn say_to(&self, machine: &str, subject: &str, id: &str, text: &str) -> Value {
        let path = format!("/v1/machines/{machine}/sessions/{subject}/messages");
        let body = json!({ "message_id": id, "text": text }).to_string();
        let answer = self.post_with(&path, &body, &ACME);
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.json()
    }
}

fn start(dir: &TempDir, store: &str) -> Server {
    let config = dir.path().join("statewright.toml");
    let config = config.to_str().unwrap();
    let fixed = ["dev", "--clock", "virtual", "--listen", "127.0.0.1:0", "--machines", MACHINES];
    Server::start(&[&fixed[..], &["--config", config, "--store", store]].concat(), &[])
}

fn store_of(dir: &TempDir) -> String {
    format!("sqlite:{}", dir.path().join("s.db").display())
}

/// `[[channels]]` of Meta's for the progress update of acme, and more lines of it.
pub fn meta_channel(url: &str, more: &str) -> String {
    format!(
        "[[channels]]\nkind = \"meta\"\nmachine = \"progress_update\"\ntenant = \"acme\"\napp_secret = \"app-secret\"\nverify_token = \"let-me-in\"\naccess_token = \"access\"\napi_url = \"{url}\"\n{more}\n"
    )
}

/// `[[webhooks]]` of acme's, which is told of transitions, and more lines of it.
pub fn webhook(url: &str, more: &str) -> String {
    format!(
        "[[webhooks]]\nurl = \"{url}\"\nsecret = \"{SIGNING_SECRET}\"\ntenant = \"acme\"\ntransitions = true\n{more}\n"
    )
}

/// `[[calls]]` for any tenant.
pub fn calls(src: &str, url: &str, more: &str) -> String {
    format!("[[calls]]\nsrc = \"{src}\"\nurl = \"{url}\"\nsecret = \"{SIGNING_SECRET}\"\n{more}\n")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn hmac_sha256(key: &[u8], text: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

pub mod meta {
    use super::*;

    pub const HOOK: &str = "/v1/channels/meta/progress_update";

    pub fn signature(secret: &str, body: &str) -> String {
        format!("sha256={}", hex(&hmac_sha256(secret.as_bytes(), body)))
    }

    pub fn send(server: &Server, body: &Value) -> Answer {
        send_as("app-secret", server, body)
    }

    pub fn send_as(secret: &str, server: &Server, body: &Value) -> Answer {
        let body = body.to_string();
        server.post_with(HOOK, &body, &[("x-hub-signature-256", &signature(secret, &body))])
    }

    /// A webhook that must be taken.
    pub fn take(server: &Server, body: &Value) {
        let answer = send(server, body);
        assert_eq!(answer.status, 200, "{}", answer.body);
    }

    pub fn say(server: &Server, from: &str, id: &str, said: &str) {
        take(server, &webhook(vec![messages("PN1", vec![text(from, id, said)])]));
    }

    pub fn webhook(changes: Vec<Value>) -> Value {
        json!({ "object": "whatsapp_business_account", "entry": [{ "id": "1", "changes": changes }] })
    }

    fn change(account: &str, list: &str, values: Vec<Value>) -> Value {
        let metadata = json!({ "display_phone_number": "15550783881", "phone_number_id": account });
        let mut value = json!({ "messaging_product": "whatsapp", "metadata": metadata });
        value[list] = values.into();
        json!({ "field": "messages", "value": value })
    }

    pub fn messages(account: &str, messages: Vec<Value>) -> Value {
        change(account, "messages", messages)
    }

    pub fn statuses(account: &str, statuses: &[(&str, &str)]) -> Value {
        let status = |(id, status): &(&str, &str)| json!({ "id": id, "status": status, "timestamp": "1749416400", "recipient_id": "1" });
        change(account, "statuses", statuses.iter().map(status).collect())
    }

    pub fn text(from: &str, id: &str, text: &str) -> Value {
        json!({ "from": from, "id": id, "timestamp": "1749416383", "type": "text", "text": { "body": text } })
    }

    pub fn image(from: &str, id: &str, medium: &str) -> Value {
        let image = json!({ "id": medium, "mime_type": "image/jpeg" });
        json!({ "from": from, "id": id, "timestamp": "1749416383", "type": "image", "image": image })
    }

    /// A tap on an option, by the id that was sent with it.
    pub fn tap(from: &str, id: &str, kind: &str, option: &Value) -> Value {
        let interactive = json!({ "type": kind, kind: { "id": option["id"], "title": option["title"] } });
        json!({ "from": from, "id": id, "timestamp": "1749416383", "type": "interactive", "interactive": interactive })
    }
}

pub mod twilio {
    use super::*;

    pub const HOOK: &str = "/v1/channels/twilio/progress_update";

    pub fn send(server: &Server, token: &str, fields: &[(&str, &str)]) -> Answer {
        let mut sorted = fields.to_vec();
        sorted.sort_unstable();
        let signed: String = sorted.iter().map(|(name, value)| format!("{name}{value}")).collect();
        let mut mac = Hmac::<Sha1>::new_from_slice(token.as_bytes()).unwrap();
        mac.update(format!("{}{HOOK}{signed}", server.url).as_bytes());
        let signature = BASE64.encode(mac.finalize().into_bytes());
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        let kind = ("content-type", "application/x-www-form-urlencoded");
        server.post_with(HOOK, &body, &[kind, ("x-twilio-signature", &signature)])
    }

    /// The TwiML of the answer.
    pub fn say(server: &Server, from: &str, id: &str, text: &str) -> String {
        let fields =
            [("MessageSid", id), ("From", from), ("To", "whatsapp:+9"), ("Body", text), ("NumMedia", "0")];
        let answer = send(server, "token", &fields);
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.body
    }
}

pub mod telegram {
    use super::*;

    pub const HOOK: &str = "/v1/channels/telegram/progress_update";

    pub fn send(server: &Server, secret: &str, update: &Value) -> Answer {
        server.post_with(HOOK, &update.to_string(), &[("x-telegram-bot-api-secret-token", secret)])
    }

    pub fn text(id: i64, from: i64, text: &str) -> Value {
        let message = json!({ "message_id": id, "from": { "id": from, "is_bot": false }, "chat": { "id": from, "type": "private" }, "date": 1_749_416_383, "text": text });
        json!({ "update_id": id, "message": message })
    }

    pub fn press(id: i64, from: i64, data: &Value) -> Value {
        let under =
            json!({ "message_id": 1, "chat": { "id": from, "type": "private" }, "date": 1_749_416_383 });
        json!({ "update_id": id, "callback_query": { "id": format!("query-{id}"), "from": { "id": from, "is_bot": false }, "message": under, "data": data } })
    }
}

pub mod slack {
    use super::*;

    pub const HOOK: &str = "/v1/channels/slack/progress_update";

    /// Signed so many seconds ago.
    pub fn send(server: &Server, ago: i64, body: &str, more: &[(&str, &str)]) -> Answer {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let timestamp = (i64::try_from(now.as_secs()).unwrap() - ago).to_string();
        let signature = format!("v0={}", hex(&hmac_sha256(b"signing", &format!("v0:{timestamp}:{body}"))));
        let signed = [("x-slack-request-timestamp", &*timestamp), ("x-slack-signature", &*signature)];
        server.post_with(HOOK, body, &[&signed[..], more].concat())
    }

    pub fn text(event: &str, text: &str) -> String {
        let message = json!({ "type": "message", "channel": "D1", "channel_type": "im", "user": "U1", "text": text, "ts": "1749416383.000016" });
        json!({ "type": "event_callback", "team_id": "T1", "event_id": event, "event": message }).to_string()
    }

    pub fn press(trigger: &str, element: &Value) -> String {
        let action = json!({ "type": "button", "action_id": element["action_id"], "text": element["text"], "value": element["value"], "action_ts": "1749416384.000016" });
        let payload = json!({ "type": "block_actions", "team": { "id": "T1" }, "user": { "id": "U1" }, "channel": { "id": "D1" }, "trigger_id": trigger, "actions": [action] });
        form_urlencoded::Serializer::new(String::new()).append_pair("payload", &payload.to_string()).finish()
    }
}
