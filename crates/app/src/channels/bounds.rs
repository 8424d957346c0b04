//! What holds for every input: no body that a stranger sends makes a channel panic, and no reply becomes a request
//! that is over a provider's limits or leaves out what a person should read.

use kernel::conversation::{Media, Reply, ReplyOption};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::cases::{CHANNELS, body, form, payloads, requests};
use super::degrade::units;
use super::{meta, slack, telegram, twilio};

/// Longest texts by channel and member, as the providers document them. Written out here once more, so that a limit
/// that is changed in a channel is changed twice.
fn longest(channel: &str, path: &str) -> usize {
    match (channel, path.rsplit_once('/').map_or(path, |(_, member)| member)) {
        ("meta", "body") => 4_096,
        ("meta", "text") => 1_024,
        ("meta", "caption") => 1_024,
        ("meta", "title") if path.contains("/rows/") => 24,
        ("meta", "title") => 20,
        ("meta", "description") => 72,
        ("meta", "button") => 20,
        ("meta", "id") if path.contains("/rows/") => 200,
        ("meta", "id") => 256,
        ("telegram", "text") if path.contains("/inline_keyboard/") => 64,
        ("telegram", "text") => 4_096,
        ("telegram", "caption") => 1_024,
        ("telegram", "callback_data") => 64,
        ("slack", "text") if path.contains("/elements/") => 75,
        ("slack", "text") if path.contains("/blocks/") => 3_000,
        ("slack", "text") => 4_000 * "&amp;".len(),
        ("slack", "value") => 2_000,
        ("twilio", "Body") => 1_600,
        _ => usize::MAX,
    }
}

/// Every text in a value, with its path.
fn texts(path: &str, value: &Value, found: &mut Vec<(String, String)>) {
    match value {
        Value::String(text) => found.push((path.to_owned(), text.clone())),
        Value::Array(elements) => {
            elements.iter().enumerate().for_each(|(at, v)| texts(&format!("{path}/{at}"), v, found));
        }
        Value::Object(members) => {
            members.iter().for_each(|(name, v)| texts(&format!("{path}/{name}"), v, found));
        }
        _ => {}
    }
}

fn elements<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "\\PC{0,40}",
        "[a-z \n]{0,60}",
        // Around every limit, in characters of one and of two UTF-16 units.
        ("[a&<]|é|😀|a b\n", 1_usize..5_000).prop_map(|(piece, count)| piece.repeat(count)),
        Just("\u{0}\u{7} \u{fffe}".to_owned()),
    ]
}

fn reply() -> impl Strategy<Value = Reply> {
    let label = prop_oneof!["\\PC{0,30}", "(Yes|No|Go on){1,20}", "[a-c]{1}", "😀{5,40}"];
    let id = prop_oneof!["p[0-9]{1,3}\\.[a-z_]{1,20}", "[a-z]{0,300}"];
    let option = (id, label).prop_map(|(id, label)| ReplyOption { id, label });
    let kind = prop_oneof![
        Just("image/jpeg"),
        Just("image/webp"),
        Just("audio/ogg"),
        Just("video/mp4"),
        Just("application/pdf"),
        Just("")
    ];
    let medium = (kind, "https://[a-z]{1,8}\\.example/[a-z]{0,20}")
        .prop_map(|(kind, url)| Media { url, kind: kind.to_owned() });
    (text(), prop::collection::vec(option, 0..30), prop::collection::vec(medium, 0..4))
        .prop_map(|(text, options, media)| Reply { text, options, media })
}

/// What of a text can be seen, without the spaces that splitting takes.
fn solid(text: &str) -> String {
    super::degrade::clean(text).split_whitespace().collect()
}

/// What a person sees of all requests, in order: the texts and captions, and what hangs on them.
fn seen(channel: &str, bodies: &[Value]) -> (String, String) {
    let (mut said, mut hanging) = (String::new(), String::new());
    for body in bodies {
        let mut found = Vec::new();
        texts("", body, &mut found);
        for (path, text) in found {
            let hangs = ["/action/", "/reply_markup/", "/blocks/"].iter().any(|part| path.contains(part));
            let is_text = ["body", "text", "caption", "Body"].iter().any(|member| path.ends_with(member));
            if is_text && !hangs { &mut said } else { &mut hanging }.push_str(&text);
        }
    }
    if channel == "slack" {
        said = said.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&");
    }
    (solid(&said), solid(&hanging))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_reply_stays_within_every_limit(reply in reply()) {
        for (channel, sends) in requests(&reply) {
            for send in &sends {
                let body = body(send);
                let mut found = Vec::new();
                texts("", &body, &mut found);
                for (path, text) in found {
                    prop_assert!(units(&text) <= longest(channel, &path), "{channel} {path}");
                    prop_assert!(!text.is_empty(), "{channel} {path} is empty");
                }
                prop_assert!(elements(&body, "/interactive/action/buttons").len() <= 3);
                prop_assert!(elements(&body, "/interactive/action/sections/0/rows").len() <= 10);
                let blocks = elements(&body, "/blocks");
                prop_assert!(blocks.len() <= 50);
                prop_assert!(blocks.iter().all(|block| elements(block, "/elements").len() <= 5));
                prop_assert!(blocks.is_empty() || serde_json::to_string(blocks).unwrap().len() < 40_000);
            }
        }
    }

    #[test]
    fn nothing_of_a_reply_is_lost(reply in reply()) {
        for (channel, sends) in requests(&reply) {
            let bodies: Vec<Value> = sends.iter().map(body).collect();
            let (said, hanging) = seen(channel, &bodies);
            let text = solid(&reply.text);
            prop_assert!(said.contains(&text), "{channel}: {text}");
            for medium in &reply.media {
                let is_shown = hanging.contains(&medium.url) || said.contains(&medium.url);
                prop_assert!(is_shown, "{channel} {}", medium.url);
            }
            for option in &reply.options {
                let label: String = solid(&option.label).chars().take(9).collect();
                prop_assert!(said.contains(&label) || hanging.contains(&label), "{channel} {label}");
            }
        }
    }

    #[test]
    fn garbage_is_refused_and_not_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), status in any::<u16>()) {
        for (_, decode) in CHANNELS {
            let _ = decode(&bytes);
        }
        let _ = twilio::decode_json(&bytes);
        for sent in [meta::sent, telegram::sent, slack::sent, twilio::sent] {
            let _ = sent(status, None, &bytes);
        }
    }

    #[test]
    fn payloads_with_anything_anywhere_are_no_panic(place in any::<prop::sample::Index>(), instead in anything()) {
        for (channel, decode) in CHANNELS {
            for (_, payload) in payloads(channel) {
                if channel == "twilio" {
                    let mut params = form(&payload);
                    let at = place.index(params.len());
                    params[at].1 = instead.to_string();
                    let _ = twilio::decode(&params);
                    continue;
                }
                let is_form = payload.starts_with(b"payload=");
                let json = if is_form { form(&payload).remove(0).1.into_bytes() } else { payload };
                let mut json: Value = serde_json::from_slice(&json).unwrap();
                let at = place.index(count(&json));
                replace(&mut json, at, &instead);
                let json = json.to_string();
                let pair = form_urlencoded::Serializer::new(String::new()).append_pair("payload", &json).finish();
                let _ = decode(if is_form { pair.as_bytes() } else { json.as_bytes() });
            }
        }
    }

    #[test]
    fn a_malformed_message_loses_no_other(at in 0_usize..3, place in any::<prop::sample::Index>(), instead in anything()) {
        let one = |n: usize| json!({
            "from": "16505551234",
            "id": format!("wamid.{n}"),
            "timestamp": "1749416383",
            "type": "image",
            "image": {"id": "1", "mime_type": "image/jpeg", "caption": "a"},
        });
        let mut messages: Vec<Value> = (0..3).map(one).collect();
        let place = place.index(count(&messages[at]));
        replace(&mut messages[at], place, &instead);
        let change = json!({"field": "messages", "value": {"messages": messages}});
        let body = json!({"entry": [{"changes": [change]}]}).to_string();
        let inbound = meta::decode(body.as_bytes()).unwrap();
        for n in (0..3).filter(|n| *n != at) {
            let key = format!("wamid.{n}");
            prop_assert!(inbound.messages.iter().any(|message| message.key.as_str() == key), "{key}");
        }
        prop_assert_eq!(inbound.messages.len() + inbound.skipped.len(), 3);
    }
}

fn anything() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,300}".prop_map(Value::from),
        Just(json!([])),
        Just(json!({})),
        Just(json!([[null, {"id": {}}]])),
    ]
}

/// How many values a value holds, itself among them.
fn count(value: &Value) -> usize {
    1 + match value {
        Value::Array(elements) => elements.iter().map(count).sum(),
        Value::Object(members) => members.values().map(count).sum(),
        _ => 0,
    }
}

/// Puts `instead` in the place of the value that is counted `at`.
fn replace(value: &mut Value, at: usize, instead: &Value) {
    if at == 0 {
        *value = instead.clone();
        return;
    }
    let mut before = 1;
    let children: Vec<&mut Value> = match value {
        Value::Array(elements) => elements.iter_mut().collect(),
        Value::Object(members) => members.values_mut().collect(),
        _ => Vec::new(),
    };
    for child in children {
        let size = count(child);
        if at < before + size {
            return replace(child, at - before, instead);
        }
        before += size;
    }
}
