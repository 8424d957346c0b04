//! Payloads as the providers document them, each with what it decodes to beside it; and replies with the requests
//! that send them on every channel.
//!
//! With `UPDATE_EXPECTED=1` the expected files are written anew, to be read before they are committed.

use std::fs;
use std::path::{Path, PathBuf};

use kernel::conversation::Reply;
use serde_json::{Map, Value, json};

use super::{DecodeError, Inbound, Send, meta, slack, telegram, twilio};

type Decode = fn(&[u8]) -> Result<Inbound, DecodeError>;

/// Every channel's folder of payloads, and how they are read.
pub const CHANNELS: [(&str, Decode); 4] = [
    ("meta", meta::decode),
    ("telegram", |body| telegram::decode(body, "progress_bot")),
    ("slack", slack::decode),
    ("twilio", |body| twilio::decode(&form(body))),
];

pub fn form(body: &[u8]) -> Vec<(String, String)> {
    form_urlencoded::parse(body).map(|(name, value)| (name.into_owned(), value.into_owned())).collect()
}

/// The payloads in a folder of fixtures, without what is expected of them.
pub fn payloads(folder: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/channels/fixtures").join(folder);
    let paths = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let is_payload = |path: &PathBuf| !path.to_string_lossy().ends_with(".expected.json");
    let mut payloads: Vec<_> =
        paths.filter(is_payload).map(|path| (path.clone(), fs::read(&path).unwrap())).collect();
    payloads.sort();
    assert!(!payloads.is_empty(), "{}", folder.display());
    payloads
}

/// Compares `actual` with what stands beside `path`.
fn check(path: &Path, actual: &Value, wrong: &mut Vec<String>) {
    let expected = path.with_extension("expected.json");
    let text = format!("{}\n", serde_json::to_string_pretty(actual).unwrap());
    if std::env::var_os("UPDATE_EXPECTED").is_some() {
        fs::write(&expected, text).unwrap();
    } else if fs::read_to_string(&expected).unwrap_or_default() != text {
        wrong.push(format!("{} is\n{text}", expected.display()));
    }
}

#[test]
fn documented_payloads_are_read() {
    let mut wrong = Vec::new();
    for (channel, decode) in CHANNELS {
        for (path, body) in payloads(channel) {
            check(&path, &serde_json::to_value(decode(&body).unwrap()).unwrap(), &mut wrong);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn replies_become_the_requests_that_each_channel_takes() {
    let mut wrong = Vec::new();
    for (path, body) in payloads("replies") {
        let reply: Reply = serde_json::from_slice(&body).unwrap();
        let shown: Map<String, Value> = requests(&reply)
            .into_iter()
            .map(|(channel, sends)| (channel.to_owned(), sends.iter().map(shown).collect()))
            .collect();
        check(&path, &Value::Object(shown), &mut wrong);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What sends `reply` on every channel, in a form that tests can look into.
pub fn requests(reply: &Reply) -> [(&'static str, Vec<Send>); 4] {
    let meta = meta::Credentials {
        version: "v23.0".to_owned(),
        phone_number_id: "106540352242922".to_owned(),
        access_token: "EAAG".to_owned(),
    };
    let telegram = telegram::Credentials { bot_token: "123:ABC".to_owned() };
    let slack = slack::Credentials { bot_token: "xoxb-1".to_owned() };
    let twilio = twilio::Credentials {
        account_sid: "AC0".to_owned(),
        auth_token: "12345".to_owned(),
        from: "whatsapp:+15005550006".to_owned(),
        status_callback: Some("https://example.org/status".to_owned()),
    };
    [
        ("meta", meta::encode(reply, "16505551234", &meta, Some("fr"), Some("reply-17"))),
        ("telegram", telegram::encode(reply, "-1001234567890/1111111", &telegram)),
        ("slack", slack::encode(reply, "C123/U456", &slack)),
        ("twilio", twilio::encode_api(reply, "whatsapp:+15005550001", &twilio)),
    ]
}

fn shown(send: &Send) -> Value {
    let headers: Map<String, Value> =
        send.headers.iter().map(|(name, value)| ((*name).to_owned(), value.as_str().into())).collect();
    json!({
        "path": send.path,
        "headers": headers,
        "content_type": send.content_type,
        "body": body(send),
    })
}

/// The body as JSON, whichever way it is written.
pub fn body(send: &Send) -> Value {
    match send.content_type {
        "application/x-www-form-urlencoded" => {
            let pairs = form(&send.body).into_iter().map(|(name, value)| (name, value.into()));
            Value::Object(pairs.collect())
        }
        _ => serde_json::from_slice(&send.body).unwrap(),
    }
}

#[test]
fn one_mention_told_as_two_events_is_one_message() {
    let read = |name: &str| {
        let path = format!("src/channels/fixtures/slack/{name}.json");
        let body = fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
        slack::decode(&body).unwrap().messages.remove(0)
    };
    let first = read("mention");
    for again in [read("mention_told_again_as_a_message"), read("mention_without_authorizations")] {
        assert_eq!((&again.key, &again.user), (&first.key, &first.user));
        assert_eq!(again.message.digest(), first.message.digest(), "or the repeat is refused");
    }
}

#[test]
fn secrets_are_not_shown() {
    for (channel, sends) in requests(&Reply::of_text("hello")) {
        let shown = format!("{sends:?}");
        for secret in ["EAAG", "123:ABC", "xoxb-1", "12345", "QUMwOjEyMzQ1", "hello"] {
            assert!(!shown.contains(secret), "{channel}: {shown}");
        }
    }
    let credentials = format!(
        "{:?} {:?}",
        telegram::Credentials { bot_token: "123:ABC".to_owned() },
        slack::Credentials { bot_token: "xoxb-1".to_owned() }
    );
    assert!(!credentials.contains("ABC") && !credentials.contains("xoxb"), "{credentials}");
}
