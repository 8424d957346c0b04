//! Twilio: is a webhook genuine, what does it say, and how are replies written as TwiML.
//!
//! Owns signatures, parameter names and the limits of WhatsApp by way of Twilio. It does not choose a tenant or
//! a machine, reads no header and takes no time. Invariant: what is signed is every parameter, also the unknown.

use std::collections::BTreeSet;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit, Mac};
use kernel::conversation::{Media, Message, Reply};
use kernel::id::{InputKey, Subject};
use kernel::input::Fields;
use serde_json::{Number, Value};
use sha1::Sha1;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// The media type of what `encode` writes.
pub const CONTENT_TYPE: &str = "text/xml; charset=utf-8";

/// Twilio refuses a longer WhatsApp body (error 21617). It does not say how it counts, so UTF-16 units are
/// counted here, which are never fewer than characters.
pub const BODY_UNITS_MAX: usize = 1_600;

/// What a webhook of Twilio says.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "one at a time, and most are the large one")]
pub enum Inbound {
    Message {
        /// The `MessageSid`: the same in every redelivery.
        key: InputKey,
        /// Such as `whatsapp:+15005550006`.
        from: String,
        /// The business's own number, if Twilio says it.
        to: Option<String>,
        message: Message,
    },
    /// How far one of our own messages has come.
    Status { sid: String, status: String },
}

/// Why a webhook, though genuine, cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DecodeError {
    Missing { parameter: String },
    Wrong { parameter: String, because: String },
    NotAnObject { because: String },
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { parameter } => write!(f, "the parameter `{parameter}` is missing"),
            Self::Wrong { parameter, because } => {
                write!(f, "the parameter `{parameter}` is wrong: {because}")
            }
            Self::NotAnObject { because } => write!(f, "the body is no JSON object: {because}"),
        }
    }
}

impl std::error::Error for DecodeError {}

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
    if let Some(status) = params.status() {
        return Ok(Inbound::Status {
            sid: params.required("MessageSid")?.to_owned(),
            status: status.to_owned(),
        });
    }
    Ok(Inbound::Message {
        key: params.required_as("MessageSid", InputKey::parse)?,
        from: params.sender()?,
        to: params.filled("To").map(str::to_owned),
        message: Message {
            text: params.filled("Body").map(str::to_owned),
            payload: params.filled("ButtonPayload").or_else(|| params.filled("ListId")).map(str::to_owned),
            media: params.media()?,
            parameters: params.location()?,
            quoted: params.filled_as("OriginalRepliedMessageSid", InputKey::parse)?,
            ..Message::default()
        },
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

    /// An address becomes a subject, so it is held to what a subject may be.
    fn sender(&self) -> Result<String, DecodeError> {
        self.required_as("From", |text| Subject::parse(text).map(|_| text.to_owned()))
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
                let degrees = text.parse::<f64>().ok();
                let degrees = degrees.filter(|degrees| degrees.abs() <= limit);
                degrees
                    .and_then(Number::from_f64)
                    .ok_or_else(|| format!("`{text}` is no number from -{limit} to {limit}"))
            };
            if let Some(degrees) = self.filled_as(name, degrees)? {
                fields.insert(field.to_owned(), Value::Number(degrees));
            }
        }
        Ok(fields)
    }
}

fn missing(name: &str) -> DecodeError {
    DecodeError::Missing { parameter: name.to_owned() }
}

/// Replies as TwiML. Twilio's answer to a webhook knows no buttons, so options become numbered lines under the
/// text. A text beyond `BODY_UNITS_MAX` becomes several messages.
pub fn encode(replies: &[Reply]) -> String {
    let mut twiml = String::from("<Response>");
    for reply in replies {
        let mut bodies = split(&reply_text(reply));
        // WhatsApp shows one medium a message and drops the rest: the first goes with the last of the text, as
        // its caption; each other gets a message of its own.
        let mut media = reply.media.iter().map(|medium| clean(&medium.url));
        let captioned = bodies.pop();
        for body in bodies {
            push_message(&mut twiml, Some(&body), None);
        }
        let first = media.next();
        if captioned.is_some() || first.is_some() {
            push_message(&mut twiml, captioned.as_deref(), first.as_deref());
        }
        for medium in media {
            push_message(&mut twiml, None, Some(&medium));
        }
    }
    twiml.push_str("</Response>");
    twiml
}

fn reply_text(reply: &Reply) -> String {
    let mut text = clean(&reply.text).trim().to_owned();
    for (index, option) in reply.options.iter().enumerate() {
        if !text.is_empty() {
            text.push('\n');
        }
        // A label is one line, whatever it holds: the number in front must be seen to belong to it.
        let label = clean(&option.label);
        let label: Vec<&str> = label.split_whitespace().collect();
        text.push_str(&format!("{}. {}", index + 1, label.join(" ")));
    }
    text
}

/// Without what XML 1.0 cannot hold, escaped or not, and without other control characters.
fn clean(text: &str) -> String {
    let stays = |c: &char| match c {
        '\n' | '\t' => true,
        '\u{fffe}' | '\u{ffff}' => false,
        c => !c.is_control(),
    };
    text.chars().filter(stays).collect()
}

/// Pieces of at most `BODY_UNITS_MAX`, cut where a line ends if that leaves a good half, else where a word ends,
/// else anywhere. No text gives no piece.
fn split(text: &str) -> Vec<String> {
    let mut pieces = Vec::new();
    let mut rest = text.trim();
    while let Some(end) = overflow(rest) {
        let head = &rest[..end];
        // The break itself may be the first character that is over.
        let reach = end + rest[end..].chars().next().map_or(0, char::len_utf8);
        let line_end = rest[..reach].rfind('\n').filter(|at| *at >= end / 2);
        let word_end = || rest[..reach].rfind(char::is_whitespace);
        let cut = line_end.or_else(word_end).unwrap_or(head.len());
        pieces.push(rest[..cut].trim_end().to_owned());
        rest = rest[cut..].trim_start();
    }
    if !rest.is_empty() {
        pieces.push(rest.to_owned());
    }
    pieces
}

/// Where the first character begins that is over the limit.
fn overflow(text: &str) -> Option<usize> {
    let mut units = 0;
    text.char_indices().find_map(|(at, character)| {
        units += character.len_utf16();
        (units > BODY_UNITS_MAX).then_some(at)
    })
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
        Inbound::Message {
            key: InputKey::parse("SM1").unwrap(),
            from: "whatsapp:+1555".to_owned(),
            to: Some("whatsapp:+1666".to_owned()),
            message,
        }
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
        for (more, status) in [
            (&[("MessageStatus", "read"), ("SmsStatus", "sent")] as &[_], "read"),
            (&[("SmsStatus", "delivered"), ("MessageStatus", "")], "delivered"),
        ] {
            let expected = Inbound::Status { sid: "SM1".to_owned(), status: status.to_owned() };
            assert_eq!(decoded(more), Ok(expected));
        }
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
    fn long_texts_are_cut_at_lines_then_words_then_anywhere() {
        let x = |count: usize| "x".repeat(count);
        let table = [
            (x(1600), vec![1600]),
            (x(1601), vec![1600, 1]),
            (format!("{}\n{}", x(1600), x(5)), vec![1600, 5]),
            (format!("{}\n{} {}", x(900), x(600), x(200)), vec![900, 801]),
            (format!("{}\n{} {}", x(100), x(1300), x(300)), vec![1401, 300]),
            (format!("{} {}", x(10), x(1700)), vec![10, 1600, 100]),
            ("é".repeat(1601), vec![1600, 1]),
            // Two UTF-16 units each.
            ("😀".repeat(801), vec![800, 1]),
            (format!("{}{}", x(1599), "😀"), vec![1599, 1]),
            (" \n ".to_owned(), vec![]),
        ];
        for (text, expected) in table {
            let pieces = split(&text);
            let lengths: Vec<usize> = pieces.iter().map(|p| p.chars().count()).collect();
            assert_eq!(lengths, expected);
            let solid = |text: &str| text.split_whitespace().collect::<String>();
            assert_eq!(solid(&pieces.concat()), solid(&text), "nothing is lost");
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
