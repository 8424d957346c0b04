//! Twilio: is a webhook genuine, what does it say, and how are replies written, as TwiML or for the API.
//!
//! Owns signatures, parameter names and the limits of WhatsApp by way of Twilio. It does not choose a tenant or
//! a machine, reads no header and takes no time. Invariant: what is signed is every parameter, also the unknown.

use std::collections::BTreeSet;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit, Mac};
use kernel::conversation::{Media, Message, Reply};
use kernel::id::InputKey;
use kernel::input::Fields;
use serde_json::Value;
use sha1::Sha1;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::degrade::{Limits, Part, plan};
use super::{
    DecodeError, Inbound, InboundMessage, Send, Sent, Stage, StatusUpdate, missing, outcome, reading,
};

pub const DEFAULT_API: &str = "https://api.twilio.com";

/// The media type of what `encode` writes.
pub const CONTENT_TYPE: &str = "text/xml; charset=utf-8";

/// Twilio refuses a longer WhatsApp body (error 21617). It does not say how it counts, so UTF-16 units are
/// counted here, which are never fewer than characters.
pub const BODY_UNITS_MAX: usize = 1_600;

/// Neither TwiML nor a plain message knows buttons (they need a template that Meta has approved). WhatsApp shows one
/// medium a message and drops the rest; its caption is the body.
pub const LIMITS: Limits =
    Limits { text_units_max: BODY_UNITS_MAX, caption_units_max: |_| BODY_UNITS_MAX, menus: &[] };

/// Too many requests at once, and too many waiting in the sender's queue: both pass.
const RATE_LIMIT_CODES: [i64; 2] = [20_429, 21_611];

/// By whom and how messages are sent by the API.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    pub account_sid: String,
    pub auth_token: String,
    /// The sender, such as `whatsapp:+15005550006`.
    pub from: String,
    /// Where Twilio reports how far a message has come.
    pub status_callback: Option<String>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Credentials");
        shown.field("account_sid", &self.account_sid).field("from", &self.from).finish_non_exhaustive()
    }
}

/// Whether `signature` (`X-Twilio-Signature`) is Twilio's for a form with these parameters.
///
/// `public_url` is the configured one, with the request's query: behind a proxy the host that a request names is
/// the proxy's word, not Twilio's. An empty token proves nothing and verifies nothing.
pub fn verify_form(auth_token: &str, public_url: &str, params: &[(String, String)], signature: &str) -> bool {
    if auth_token.is_empty() {
        return false;
    }
    let mut genuine = subtle::Choice::from(0);
    for url in signed_urls(public_url) {
        let expected = sign(auth_token, &url, params);
        genuine |= expected.as_bytes().ct_eq(signature.as_bytes());
    }
    genuine.into()
}

/// Whether `signature` is Twilio's for a JSON body: it signs the URL alone, and the URL's query carries the
/// SHA-256 of the body as `bodySHA256`.
pub fn verify_json(auth_token: &str, public_url_with_query: &str, body: &[u8], signature: &str) -> bool {
    let Some(claimed) = query_value(public_url_with_query, "bodySHA256") else {
        return false;
    };
    let actual: String = Sha256::digest(body).iter().map(|byte| format!("{byte:02x}")).collect();
    let same_body = actual.as_bytes().ct_eq(claimed.to_ascii_lowercase().as_bytes());
    bool::from(same_body) && verify_form(auth_token, public_url_with_query, &[], signature)
}

/// The order of pairs is that of sorted names and, within a name, of sorted values; a set has each once.
fn sign(auth_token: &str, url: &str, params: &[(String, String)]) -> String {
    let mut mac =
        Hmac::<Sha1>::new_from_slice(auth_token.as_bytes()).expect("an HMAC takes a key of any length");
    mac.update(url.as_bytes());
    let pairs: BTreeSet<&(String, String)> = params.iter().collect();
    for (name, value) in pairs {
        mac.update(name.as_bytes());
        mac.update(value.as_bytes());
    }
    BASE64.encode(mac.finalize().into_bytes())
}

/// The URL without and with its port. Twilio's own signers differ in whether they name it.
fn signed_urls(url: &str) -> Vec<String> {
    let Some((scheme, rest)) = url.split_once("://") else {
        return vec![url.to_owned()];
    };
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    // The colons of an IPv6 address are in brackets and those of a password come before an `@`.
    let host_start = authority.rfind(['@', ']']).map_or(0, |at| at + 1);
    let port_start = authority[host_start..].find(':').map(|at| host_start + at).unwrap_or(authority.len());
    let (host, port) = authority.split_at(port_start);
    let default_port = match scheme {
        "https" => ":443",
        "http" => ":80",
        _ => "",
    };
    let port = if port.is_empty() { default_port } else { port };
    vec![format!("{scheme}://{host}{path}"), format!("{scheme}://{host}{port}{path}")]
}

fn query_value<'a>(url: &'a str, name: &str) -> Option<&'a str> {
    let (_, query) = url.split_once('?')?;
    let query = query.split('#').next().unwrap_or_default();
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.find(|(found, _)| *found == name).map(|(_, value)| value)
}

/// What the parameters of a webhook say. Parameters that are not known here are no error: Twilio adds some
/// without notice.
///
/// # Errors
/// Names the parameter that is missing or wrong.
pub fn decode(params: &[(String, String)]) -> Result<Inbound, DecodeError> {
    let params = Parameters(params);
    let mut inbound = Inbound::default();
    match params.status() {
        None => inbound.messages.push(params.message()?),
        Some(status) => match stage(status) {
            Some(stage) => inbound.statuses.push(params.update(stage)?),
            None => inbound.skipped.push(format!("the status `{status}` says nothing of a message's way")),
        },
    }
    Ok(inbound)
}

fn stage(status: &str) -> Option<Stage> {
    Some(match status {
        "accepted" | "scheduled" | "queued" | "sending" | "sent" => Stage::Sent,
        "delivered" => Stage::Delivered,
        "read" => Stage::Read,
        "failed" | "undelivered" | "canceled" => Stage::Failed,
        _ => return None,
    })
}

/// `decode` for a body that is a JSON object of the same names.
///
/// # Errors
/// When the body is no such object, and as `decode`.
pub fn decode_json(body: &[u8]) -> Result<Inbound, DecodeError> {
    decode(&json_pairs(body)?)
}

/// The members of a JSON object as a form would carry them: numbers and truth values as their text, nested
/// values as JSON, no `null`.
///
/// # Errors
/// `NotAnObject`, with the parser's reason.
pub fn json_pairs(body: &[u8]) -> Result<Vec<(String, String)>, DecodeError> {
    let members: Fields = serde_json::from_slice(body)
        .map_err(|error| DecodeError::NotAnObject { because: error.to_string() })?;
    let pair = |(name, value): (String, Value)| match value {
        Value::Null => None,
        Value::String(text) => Some((name, text)),
        other => Some((name, other.to_string())),
    };
    Ok(members.into_iter().filter_map(pair).collect())
}

/// Parameters by name. The first of a repeated name counts.
struct Parameters<'a>(&'a [(String, String)]);

impl<'a> Parameters<'a> {
    fn get(&self, name: &str) -> Option<&'a str> {
        let found = self.0.iter().find(|(found, _)| found == name);
        found.map(|(_, value)| value.as_str())
    }

    /// Twilio sends some parameters empty where others leave them out.
    fn filled(&self, name: &str) -> Option<&'a str> {
        self.get(name).filter(|value| !value.is_empty())
    }

    fn filled_as<T>(
        &self,
        name: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Option<T>, DecodeError> {
        let parsed = self.filled(name).map(parse).transpose();
        parsed.map_err(|because| DecodeError::Wrong { parameter: name.to_owned(), because })
    }

    fn required(&self, name: &str) -> Result<&'a str, DecodeError> {
        self.filled(name).ok_or_else(|| missing(name))
    }

    fn required_as<T>(
        &self,
        name: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<T, DecodeError> {
        self.filled_as(name, parse)?.ok_or_else(|| missing(name))
    }

    fn message(&self) -> Result<InboundMessage, DecodeError> {
        Ok(InboundMessage {
            key: self.required_as("MessageSid", InputKey::parse)?,
            account: self.filled("To").unwrap_or_default().to_owned(),
            user: self.required_as("From", |text| reading::user(text.to_owned()))?,
            message: Message {
                text: self.filled("Body").map(str::to_owned),
                payload: self.filled("ButtonPayload").or_else(|| self.filled("ListId")).map(str::to_owned),
                media: self.media()?,
                parameters: self.location()?,
                quoted: self.filled_as("OriginalRepliedMessageSid", InputKey::parse)?,
                ..Message::default()
            },
        })
    }

    fn update(&self, stage: Stage) -> Result<StatusUpdate, DecodeError> {
        let code = self.filled("ErrorCode").filter(|code| *code != "0");
        let error = code.map(|code| match self.filled("ErrorMessage") {
            Some(message) => format!("{code}: {message}"),
            None => code.to_owned(),
        });
        Ok(StatusUpdate {
            // The message was ours, so that it came from our end.
            account: self.filled("From").map(str::to_owned),
            provider_id: self.required("MessageSid")?.to_owned(),
            stage,
            error,
            correlation: None,
        })
    }

    /// A status callback has no `Body`; a message's own `SmsStatus` is `received`.
    fn status(&self) -> Option<&'a str> {
        if self.get("Body").is_some() {
            return None;
        }
        self.filled("MessageStatus")
            .or_else(|| self.filled("SmsStatus"))
            .filter(|status| *status != "received")
    }

    fn media(&self) -> Result<Vec<Media>, DecodeError> {
        let count = |text: &str| text.parse::<u32>().map_err(|_| format!("`{text}` is no count"));
        let count = self.filled_as("NumMedia", count)?.unwrap_or(0);
        // However large the count: the first URL that is missing ends it.
        let medium = |index: u32| {
            Ok(Media {
                url: self.required(&format!("MediaUrl{index}"))?.to_owned(),
                kind: self.get(&format!("MediaContentType{index}")).unwrap_or_default().to_owned(),
            })
        };
        (0..count).map(medium).collect()
    }

    fn location(&self) -> Result<Fields, DecodeError> {
        let mut fields = Fields::new();
        for (name, field, limit) in [("Latitude", "latitude", 90.0), ("Longitude", "longitude", 180.0)] {
            let degrees = |text: &str| {
                let degrees = reading::degrees(&Value::from(text), limit);
                degrees.ok_or_else(|| format!("`{text}` is no number from -{limit} to {limit}"))
            };
            if let Some(degrees) = self.filled_as(name, degrees)? {
                fields.insert(field.to_owned(), Value::Number(degrees));
            }
        }
        Ok(fields)
    }
}

/// Replies as TwiML: the body of the answer to a webhook.
pub fn encode(replies: &[Reply]) -> String {
    let mut twiml = String::from("<Response>");
    for (body, medium) in replies.iter().flat_map(bubbles) {
        push_message(&mut twiml, body.as_deref(), medium.as_deref());
    }
    twiml.push_str("</Response>");
    twiml
}

/// The requests that send `reply` to `user`, such as `whatsapp:+15005550006`.
pub fn encode_api(reply: &Reply, user: &str, credentials: &Credentials) -> Vec<Send> {
    let basic = format!("{}:{}", credentials.account_sid, credentials.auth_token);
    let send = |(body, medium): (Option<String>, Option<String>)| {
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.append_pair("To", user).append_pair("From", &credentials.from);
        let optional =
            [("Body", &body), ("MediaUrl", &medium), ("StatusCallback", &credentials.status_callback)];
        for (name, value) in optional {
            if let Some(value) = value {
                form.append_pair(name, value);
            }
        }
        Send {
            path: format!("/2010-04-01/Accounts/{}/Messages.json", credentials.account_sid),
            headers: vec![("authorization", format!("Basic {}", BASE64.encode(&basic)))],
            content_type: "application/x-www-form-urlencoded",
            body: form.finish().into_bytes(),
        }
    };
    bubbles(reply).into_iter().map(send).collect()
}

/// What the API's response means. `retry_after` is the header's value in seconds.
pub fn sent(status: u16, retry_after: Option<u64>, body: &[u8]) -> Sent {
    let json = outcome::body(body);
    if (200..300).contains(&status) {
        return outcome::accepted(reading::owned(&json, "/sid"), status, body);
    }
    let code = json.get("code").and_then(Value::as_i64);
    let because = match (code, reading::text(&json, "/message")) {
        (Some(code), Some(message)) => format!("{code}: {message}"),
        (Some(code), None) => code.to_string(),
        (None, _) => outcome::raw(body),
    };
    if code.is_some_and(|code| RATE_LIMIT_CODES.contains(&code)) {
        return Sent::Later { error: outcome::error(status, &because), after_seconds: retry_after };
    }
    outcome::of_status(status, retry_after, &because)
}

/// Text and medium of each message that shows `reply`.
fn bubbles(reply: &Reply) -> Vec<(Option<String>, Option<String>)> {
    let bubble = |part: Part| match part {
        // There are no menus among the limits.
        Part::Text(text) | Part::Menu { text, .. } => (Some(text), None),
        Part::Medium { medium, caption } => (caption, Some(medium.url)),
    };
    plan(reply, &LIMITS).into_iter().map(bubble).collect()
}

fn push_message(twiml: &mut String, body: Option<&str>, medium: Option<&str>) {
    twiml.push_str("<Message>");
    for (element, content) in [("Body", body), ("Media", medium)] {
        if let Some(content) = content {
            twiml.push_str(&format!("<{element}>{}</{element}>", escape(content)));
        }
    }
    twiml.push_str("</Message>");
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&apos;"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use kernel::conversation::ReplyOption;

    use super::*;

    const TOKEN: &str = "12345";
    const URL: &str = "https://mycompany.com/myapp.php?foo=1&bar=2";
    const SIGNATURE: &str = "RSOYDt4T1cUTdK1PDd93/VVr8B8=";

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        pairs.iter().map(owned).collect()
    }

    /// Twilio's own example, with the one number that its two published signatures differ in.
    fn example(caller: &str) -> Vec<(String, String)> {
        pairs(&[
            ("CallSid", "CA1234567890ABCDE"),
            ("Digits", "1234"),
            ("From", caller),
            ("To", "+18005551212"),
            ("Caller", caller),
        ])
    }

    #[test]
    fn published_signatures_verify() {
        for (caller, signature) in
            [("+14158675309", SIGNATURE), ("+12349013030", "0/KCTR6DLpKmkAf8muzZqo1nDgQ=")]
        {
            assert!(verify_form(TOKEN, URL, &example(caller), signature), "{caller}");
        }
    }

    #[test]
    fn order_and_repetition_of_parameters_do_not_matter() {
        let mut params = example("+14158675309");
        params.reverse();
        params.push(params[0].clone());
        assert!(verify_form(TOKEN, URL, &params, SIGNATURE));
    }

    #[test]
    fn repeated_names_are_signed_with_each_distinct_value_in_order() {
        let one = pairs(&[("a", "2"), ("b", "x"), ("a", "1"), ("a", "2")]);
        let signature = sign(TOKEN, URL, &pairs(&[("a1a2bx", "")]));
        assert!(verify_form(TOKEN, URL, &one, &signature));
    }

    #[test]
    fn port_may_be_configured_or_signed_or_neither() {
        let params = example("+12349013030");
        let published = "0/KCTR6DLpKmkAf8muzZqo1nDgQ=";
        for url in [
            "https://mycompany.com:443/myapp.php?foo=1&bar=2",
            "https://mycompany.com:1234/myapp.php?foo=1&bar=2",
        ] {
            assert!(verify_form(TOKEN, url, &params, published), "{url}");
        }
        for (configured, signed) in [
            ("https://a.com", "https://a.com:443"),
            ("https://a.com?x=1:2", "https://a.com:443?x=1:2"),
            ("http://a.com/b", "http://a.com:80/b"),
            ("https://u:p@a.com/b", "https://u:p@a.com:443/b"),
            ("https://u:p@a.com:8443/b", "https://u:p@a.com/b"),
            ("https://[::1]/b", "https://[::1]:443/b"),
            ("https://[::1]:8443/b", "https://[::1]/b"),
            ("other", "other"),
        ] {
            let signature = sign(TOKEN, signed, &params);
            assert!(verify_form(TOKEN, configured, &params, &signature), "{configured} {signed}");
        }
    }

    #[test]
    fn any_deviation_from_what_was_signed_fails() {
        let params = example("+14158675309");
        let url = |url: &str| verify_form(TOKEN, url, &params, SIGNATURE);
        assert!(!verify_form("12346", URL, &params, SIGNATURE), "token");
        assert!(!url("https://mycompany.com/myapp.php"), "query");
        assert!(!url("https://mycompany.com/myapp.php?bar=2&foo=1"), "order");
        assert!(!url("http://mycompany.com/myapp.php?foo=1&bar=2"), "scheme");
        assert!(!url("https://mycompany.com/MYAPP.php?foo=1&bar=2"), "case");
        for signature in [
            "",
            "RSOYDt4T1cUTdK1PDd93/VVr8B8",
            "rsoydt4t1cutdk1pdd93/vvr8b8=",
            "0/KCTR6DLpKmkAf8muzZqo1nDgQ=",
            " RSOYDt4T1cUTdK1PDd93/VVr8B8=",
        ] {
            assert!(!verify_form(TOKEN, URL, &params, signature), "{signature:?}");
        }
        for index in 0..params.len() {
            let mut without = params.clone();
            let (name, value) = without.remove(index);
            assert!(!verify_form(TOKEN, URL, &without, SIGNATURE), "without {name}");
            without.push((name.clone(), format!("{value}0")));
            assert!(!verify_form(TOKEN, URL, &without, SIGNATURE), "changed {name}");
        }
        let mut more = params;
        more.push(("Unknown".to_owned(), String::new()));
        assert!(!verify_form(TOKEN, URL, &more, SIGNATURE), "added");
        let empty = sign("", URL, &more);
        assert!(!verify_form("", URL, &more, &empty), "empty token");
    }

    #[test]
    fn json_is_verified_by_the_hash_in_the_url() {
        let body = br#"{"property": "value", "boolean": true}"#;
        let hash = "0a1ff7634d9ab3b95db5c9a2dfe9416e41502b283a80c7cf19632632f96e6620";
        let url = format!("{URL}&bodySHA256={hash}");
        let signature = "a9nBmqA0ju/hNViExpshrM61xv4=";
        assert!(verify_json(TOKEN, &url, body, signature));
        assert!(!verify_json("12346", &url, body, signature), "token");
        assert!(!verify_json(TOKEN, &url, b"{}", signature), "body");
        assert!(!verify_json(TOKEN, &url, body, SIGNATURE), "signature");
        let other = format!("{url}&x=1");
        assert!(!verify_json(TOKEN, &other, body, signature), "url");
        for query in [
            "",
            "?bodySHA256=",
            "?bodySHA256",
            "?bodysha256=0a1ff7634d9ab3b95db5c9a2dfe9416e41502b283a80c7cf19632632f96e6620",
        ] {
            let url = format!("https://a.com/{query}");
            let signature = sign(TOKEN, &url, &[]);
            assert!(!verify_json(TOKEN, &url, body, &signature), "{query}");
        }
    }

    const HEAD: [(&str, &str); 3] =
        [("MessageSid", "SM1"), ("From", "whatsapp:+1555"), ("To", "whatsapp:+1666")];

    fn decoded(more: &[(&str, &str)]) -> Result<Inbound, DecodeError> {
        decode(&pairs(&[&HEAD, more].concat()))
    }

    fn inbound(message: Message) -> Inbound {
        let message = InboundMessage {
            key: InputKey::parse("SM1").unwrap(),
            account: "whatsapp:+1666".to_owned(),
            user: "whatsapp:+1555".to_owned(),
            message,
        };
        Inbound { messages: vec![message], ..Inbound::default() }
    }

    #[test]
    fn messages_are_read_by_the_names_of_their_parameters() {
        let medium = |url: &str, kind: &str| Media { url: url.to_owned(), kind: kind.to_owned() };
        let quoted = InputKey::parse("SM0").unwrap();
        let table: Vec<(&[(&str, &str)], Message)> = vec![
            (&[("Body", "hello"), ("ProfileName", "Ann"), ("New", "1")], Message::of_text("hello")),
            (&[("Body", ""), ("NumMedia", "0"), ("Latitude", "")], Message::default()),
            (&[("SmsStatus", "received"), ("Body", "hi")], Message::of_text("hi")),
            (&[("SmsStatus", "received")], Message::default()),
            (
                &[("Body", "Yes"), ("ButtonPayload", "y"), ("ListId", "l")],
                Message { payload: Some("y".to_owned()), ..Message::of_text("Yes") },
            ),
            (
                &[("Body", "Row"), ("ButtonPayload", ""), ("ListId", "l")],
                Message { payload: Some("l".to_owned()), ..Message::of_text("Row") },
            ),
            (
                &[
                    ("Body", ""),
                    ("NumMedia", "2"),
                    ("MediaUrl0", "https://m/0"),
                    ("MediaContentType0", "image/jpeg"),
                    ("MediaUrl1", "https://m/1"),
                    ("MediaUrl2", "https://m/2"),
                    ("OriginalRepliedMessageSid", "SM0"),
                ],
                Message {
                    media: vec![medium("https://m/0", "image/jpeg"), medium("https://m/1", "")],
                    quoted: Some(quoted),
                    ..Message::default()
                },
            ),
        ];
        for (more, message) in table {
            assert_eq!(decoded(more), Ok(inbound(message)), "{more:?}");
        }
    }

    #[test]
    fn locations_become_numbers() {
        for (more, parameters) in [
            (
                &[("Latitude", "45.5"), ("Longitude", "-73")] as &[_],
                serde_json::json!({"latitude": 45.5, "longitude": -73.0}),
            ),
            (&[("Latitude", "-90"), ("Longitude", "")], serde_json::json!({"latitude": -90.0})),
        ] {
            let message =
                Message { parameters: serde_json::from_value(parameters).unwrap(), ..Message::default() };
            assert_eq!(decoded(more), Ok(inbound(message)));
        }
    }

    #[test]
    fn status_without_a_body_is_a_status() {
        type Row<'a> = (&'a [(&'a str, &'a str)], Stage, Option<&'a str>);
        let table: [Row; 6] = [
            (&[("MessageStatus", "read"), ("SmsStatus", "sent")], Stage::Read, None),
            (&[("SmsStatus", "delivered"), ("MessageStatus", "")], Stage::Delivered, None),
            (&[("MessageStatus", "queued")], Stage::Sent, None),
            (&[("MessageStatus", "failed"), ("ErrorCode", "63016")], Stage::Failed, Some("63016")),
            (
                &[("MessageStatus", "undelivered"), ("ErrorCode", "30003"), ("ErrorMessage", "Unreachable")],
                Stage::Failed,
                Some("30003: Unreachable"),
            ),
            (&[("MessageStatus", "delivered"), ("ErrorCode", "0")], Stage::Delivered, None),
        ];
        for (more, stage, error) in table {
            let update = StatusUpdate {
                account: Some("whatsapp:+1555".to_owned()),
                provider_id: "SM1".to_owned(),
                stage,
                error: error.map(str::to_owned),
                correlation: None,
            };
            assert_eq!(decoded(more), Ok(Inbound { statuses: vec![update], ..Inbound::default() }));
        }
        let unknown = decoded(&[("MessageStatus", "paused")]).unwrap();
        assert_eq!((unknown.statuses.len(), unknown.skipped.len()), (0, 1));
        let error = decode(&pairs(&[("MessageStatus", "read")])).unwrap_err();
        assert_eq!(error, missing("MessageSid"));
    }

    #[test]
    fn errors_name_the_parameter() {
        let long = "9".repeat(201);
        for (name, value, expected) in [
            ("MessageSid", "", "the parameter `MessageSid` is missing"),
            (
                "MessageSid",
                long.as_str(),
                "the parameter `MessageSid` is wrong: the key has 201 bytes; 200 are allowed",
            ),
            ("From", "", "the parameter `From` is missing"),
            (
                "From",
                "a\nb",
                "the parameter `From` is wrong: the subject contains the control character '\\n'",
            ),
            ("NumMedia", "-1", "the parameter `NumMedia` is wrong: `-1` is no count"),
            ("NumMedia", "4000000000", "the parameter `MediaUrl0` is missing"),
            (
                "OriginalRepliedMessageSid",
                "\u{7}",
                "the parameter `OriginalRepliedMessageSid` is wrong: the key contains the control character '\\u{7}'",
            ),
            ("Latitude", "90.1", "the parameter `Latitude` is wrong: `90.1` is no number from -90 to 90"),
            ("Longitude", "NaN", "the parameter `Longitude` is wrong: `NaN` is no number from -180 to 180"),
        ] {
            // In front, because the first of a repeated name counts.
            let params = pairs(&[&[(name, value), ("Body", "x")], &HEAD[..]].concat());
            assert_eq!(decode(&params).unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn json_says_the_same_as_a_form() {
        let body = br#"{"MessageSid":"SM1","From":"whatsapp:+1555","To":"whatsapp:+1666","Body":"hi",
            "NumMedia":0,"Latitude":1.5,"Longitude":null,"Forwarded":true,"ChannelMetadata":{"a":[1]}}"#;
        let form = [("Body", "hi"), ("NumMedia", "0"), ("Latitude", "1.5")];
        assert_eq!(decode_json(body), decoded(&form));
        for body in ["", "[]", "{\"a\":1", "\"x\""] {
            let error = decode_json(body.as_bytes()).unwrap_err().to_string();
            assert!(error.starts_with("the body is no JSON object: "), "{body} {error}");
        }
    }

    #[test]
    fn replies_become_escaped_messages() {
        let with = |text: &str, options: &[&str], media: &[&str]| Reply {
            text: text.to_owned(),
            options: options
                .iter()
                .map(|label| ReplyOption { id: "o".to_owned(), label: (*label).to_owned() })
                .collect(),
            media: media.iter().map(|url| Media { url: (*url).to_owned(), kind: String::new() }).collect(),
        };
        for (replies, expected) in [
            (vec![], ""),
            (vec![with("", &[], &[])], ""),
            (
                vec![with("a", &[], &[]), with("b", &[], &[])],
                "<Message><Body>a</Body></Message><Message><Body>b</Body></Message>",
            ),
            (
                vec![with("<a href=\"x\">'&amp;\u{0}\u{1b}\u{9b}\u{fffe}\r\n\té", &["]]>"], &[])],
                "<Message><Body>&lt;a href=&quot;x&quot;&gt;&apos;&amp;amp;\n\té\n1. ]]&gt;</Body></Message>",
            ),
            (
                vec![with("Which?", &["First", "Second\n3. one"], &[])],
                "<Message><Body>Which?\n1. First\n2. Second 3. one</Body></Message>",
            ),
            (vec![with("", &["Only"], &[])], "<Message><Body>1. Only</Body></Message>"),
            (
                vec![with("see", &[], &["https://m/0?a&b", "https://m/1"])],
                "<Message><Body>see</Body><Media>https://m/0?a&amp;b</Media></Message>\
                 <Message><Media>https://m/1</Media></Message>",
            ),
            (vec![with("", &[], &["https://m/0"])], "<Message><Media>https://m/0</Media></Message>"),
        ] {
            assert_eq!(encode(&replies), format!("<Response>{expected}</Response>"));
        }
    }

    #[test]
    fn responses_say_what_became_of_a_message() {
        let error = |error: &str| error.to_owned();
        for (status, body, expected) in [
            (
                201,
                r#"{"sid": "SM9", "status": "queued"}"#,
                Sent::Accepted { provider_id: Some(error("SM9")) },
            ),
            (200, "", Sent::Accepted { provider_id: None }),
            (
                400,
                r#"{"code": 21211, "message": "Invalid 'To' Phone Number", "status": 400}"#,
                Sent::Refused { error: error("HTTP 400: 21211: Invalid 'To' Phone Number") },
            ),
            (
                400,
                r#"{"code": 21611}"#,
                Sent::Later { error: error("HTTP 400: 21611"), after_seconds: Some(3) },
            ),
            (
                429,
                r#"{"code": 20429, "message": "Too Many Requests"}"#,
                Sent::Later { error: error("HTTP 429: 20429: Too Many Requests"), after_seconds: Some(3) },
            ),
            (401, "nope", Sent::Later { error: error("HTTP 401: nope"), after_seconds: Some(3) }),
            (200, "<html>", Sent::Unknown { error: error("HTTP 200: <html>") }),
            (500, "<html>", Sent::Unknown { error: error("HTTP 500: <html>") }),
        ] {
            assert_eq!(sent(status, Some(3), body.as_bytes()), expected);
        }
    }

    #[test]
    fn media_go_with_the_last_part_of_a_long_text() {
        let reply = Reply {
            media: vec![Media { url: "u".to_owned(), kind: String::new() }],
            ..Reply::of_text("x".repeat(1601))
        };
        let ending = "</Body></Message><Message><Body>x</Body><Media>u</Media></Message></Response>";
        assert!(encode(&[reply]).ends_with(ending));
    }
}
