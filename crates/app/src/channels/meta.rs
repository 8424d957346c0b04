//! Meta's WhatsApp Cloud API: is a webhook genuine, what does it say, which requests send a reply.
//!
//! It does not choose a tenant or a machine, reads no header and fetches no media. Invariant: one message or status
//! that cannot be read does not lose the others of its batch.

use std::fmt;

use kernel::conversation::{Media, Message, Reply};
use serde_json::{Value, json};

use super::degrade::{Limits, MenuKind, MenuLimits, Part, Row, plan};
use super::reading::{self, array, owned, required, text};
use super::{
    DecodeError, Inbound, InboundMessage, Send, Sent, Stage, StatusUpdate, missing, outcome, signature,
};

pub const DEFAULT_API: &str = "https://graph.facebook.com";

/// Of the Graph API. Meta keeps a version for two years at least.
pub const DEFAULT_VERSION: &str = "v23.0";

/// What a received medium is referred to by, before its id: its URL has to be asked for and lives five minutes.
pub const MEDIA_SCHEME: &str = "whatsapp-media:";

/// Longer bodies are refused (error 131009), as for all limits below. Meta counts characters.
pub const TEXT_UNITS_MAX: usize = 4_096;

/// Of the caption of a picture, a video or a document.
pub const CAPTION_UNITS_MAX: usize = 1_024;

/// `button.reply` takes ids of 256 characters and titles of 20, three of them, under a text of 1,024.
const BUTTONS: MenuLimits = MenuLimits {
    kind: MenuKind::Buttons,
    options_max: 3,
    label_units_max: 20,
    // A list shows more of a label, so that buttons are only for those that need no cutting.
    cuts_labels: false,
    description_units_max: 0,
    token_bytes_max: 256,
    text_units_max: 1_024,
};

/// A list takes ten rows in all, with ids of 200 characters, titles of 24 and descriptions of 72. Its text may be
/// longer than that of buttons in newer documentation only; the old limit is right in both.
const LIST: MenuLimits = MenuLimits {
    kind: MenuKind::List,
    options_max: 10,
    label_units_max: 24,
    cuts_labels: true,
    description_units_max: 72,
    token_bytes_max: 200,
    text_units_max: 1_024,
};

pub const LIMITS: Limits = Limits {
    text_units_max: TEXT_UNITS_MAX,
    caption_units_max: |medium| match media_type(medium) {
        "audio" | "sticker" => 0,
        _ => CAPTION_UNITS_MAX,
    },
    menus: &[BUTTONS, LIST],
};

/// What opens a list, by language; the first where there is none. It has 20 characters at most.
const LIST_BUTTON: [(&str, &str); 2] = [("en", "Choose"), ("fr", "Choisir")];

/// `biz_opaque_callback_data` is refused beyond this.
const CORRELATION_BYTES_MAX: usize = 512;

/// The application's, the account's, the number's and the pair's rate limits: all pass by waiting.
const RATE_LIMIT_CODES: [i64; 4] = [4, 80_007, 130_429, 131_056];

/// The service is down or overloaded, or the account under maintenance: said to be temporary, before any sending.
const NOT_NOW_CODES: [i64; 3] = [2, 131_016, 131_057];

/// By whom messages are sent.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Such as `DEFAULT_VERSION`.
    pub version: String,
    pub phone_number_id: String,
    pub access_token: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Credentials");
        shown.field("version", &self.version).field("phone_number_id", &self.phone_number_id);
        shown.finish_non_exhaustive()
    }
}

/// Whether `signature` (`X-Hub-Signature-256`) is Meta's for exactly these bytes. An empty secret proves nothing and
/// verifies nothing.
pub fn verify(app_secret: &str, body: &[u8], signature: &str) -> bool {
    let Some(given) = signature.strip_prefix("sha256=") else {
        return false;
    };
    !app_secret.is_empty() && signature::same(&signature::hmac_sha256_hex(app_secret, &[body]), given)
}

/// The body to answer a subscription's GET with: `hub.challenge`, if mode and token are right.
pub fn challenge(mode: &str, token: &str, challenge: &str, verify_token: &str) -> Option<String> {
    let is_ours = !verify_token.is_empty() && signature::same(verify_token, token);
    (mode == "subscribe" && is_ours).then(|| challenge.to_owned())
}

/// What a webhook says: any number of messages and statuses, of any number of business numbers.
///
/// # Errors
/// When the body as a whole is no webhook of Meta's.
pub fn decode(body: &[u8]) -> Result<Inbound, DecodeError> {
    let body = reading::object(body)?;
    if !body.get("entry").is_some_and(Value::is_array) {
        return Err(missing("entry"));
    }
    let mut inbound = Inbound::default();
    for change in array(&body, "/entry").flat_map(|entry| array(entry, "/changes")) {
        match text(change, "/field") {
            Some("messages") => decode_change(&change["value"], &mut inbound),
            field => {
                inbound.skipped.push(format!("a change of `{}` is not taken", field.unwrap_or_default()))
            }
        }
    }
    Ok(inbound)
}

fn decode_change(value: &Value, inbound: &mut Inbound) {
    if !["messages", "statuses", "errors"].iter().any(|list| value[*list].is_array()) {
        inbound.skipped.push("a change without messages, statuses or errors is not taken".to_owned());
    }
    let account = text(value, "/metadata/phone_number_id").unwrap_or_default();
    for message in array(value, "/messages") {
        match decode_message(message, account) {
            Ok(message) => inbound.messages.push(message),
            Err(because) => inbound.skipped.push(skipped("message", message, &because)),
        }
    }
    for status in array(value, "/statuses") {
        match decode_status(status, account) {
            Ok(status) => inbound.statuses.push(status),
            Err(because) => inbound.skipped.push(skipped("status", status, &because)),
        }
    }
    inbound.skipped.extend(array(value, "/errors").map(|error| format!("Meta reports: {}", reason(error))));
}

fn skipped(noun: &str, value: &Value, because: &str) -> String {
    match text(value, "/id") {
        Some(id) => format!("{noun} {id}: {because}"),
        None => format!("{noun} without an id: {because}"),
    }
}

fn decode_message(message: &Value, account: &str) -> Result<InboundMessage, String> {
    let mut said = content(message)?;
    said.received_at = reading::seconds(message, "/timestamp");
    said.quoted = reading::quoted(text(message, "/context/id"));
    Ok(InboundMessage {
        key: reading::key(required(message, "/id")?)?,
        account: account.to_owned(),
        user: reading::user(required(message, "/from")?.to_owned())?,
        message: said,
    })
}

fn content(message: &Value) -> Result<Message, String> {
    let chosen = |payload: &str, label: &str| {
        let payload = Some(required(message, payload)?.to_owned());
        Ok(Message { payload, text: owned(message, label), ..Message::default() })
    };
    match required(message, "/type")? {
        "text" => Ok(Message::of_text(required(message, "/text/body")?)),
        "interactive" => match required(message, "/interactive/type")? {
            "button_reply" => chosen("/interactive/button_reply/id", "/interactive/button_reply/title"),
            "list_reply" => chosen("/interactive/list_reply/id", "/interactive/list_reply/title"),
            other => Err(format!("interactive messages of type `{other}` are not taken")),
        },
        "button" => chosen("/button/payload", "/button/text"),
        "location" => {
            let place = &message["location"];
            let parameters = reading::location(&place["latitude"], &place["longitude"])?;
            Ok(Message { parameters, ..Message::default() })
        }
        kind @ ("image" | "video" | "audio" | "voice" | "document" | "sticker") => {
            let medium = &message[kind];
            let url = format!("{MEDIA_SCHEME}{}", required(medium, "/id")?);
            let media = vec![Media { url, kind: owned(medium, "/mime_type").unwrap_or_default() }];
            Ok(Message { media, text: owned(medium, "/caption"), ..Message::default() })
        }
        other => Err(match array(message, "/errors").next() {
            Some(error) => format!("messages of type `{other}` are not taken: {}", reason(error)),
            None => format!("messages of type `{other}` are not taken"),
        }),
    }
}

fn decode_status(status: &Value, account: &str) -> Result<StatusUpdate, String> {
    let stage = match required(status, "/status")? {
        "sent" => Stage::Sent,
        "delivered" => Stage::Delivered,
        // A voice message is played.
        "read" | "played" => Stage::Read,
        "failed" => Stage::Failed,
        other => return Err(format!("the status `{other}` says nothing of a message's way")),
    };
    let errors: Vec<String> = array(status, "/errors").map(reason).collect();
    Ok(StatusUpdate {
        account: Some(account).filter(|account| !account.is_empty()).map(str::to_owned),
        provider_id: required(status, "/id")?.to_owned(),
        stage,
        error: Some(errors.join("; ")).filter(|error| !error.is_empty()),
        correlation: owned(status, "/biz_opaque_callback_data"),
    })
}

/// An error of Meta's in its own words: `131047: Re-engagement message: more than 24 hours have passed`.
fn reason(error: &Value) -> String {
    let code = error.get("code").and_then(Value::as_i64).map(|code| code.to_string());
    let title = owned(error, "/title").or_else(|| owned(error, "/message"));
    let words: Vec<String> =
        [code, title, owned(error, "/error_data/details")].into_iter().flatten().collect();
    words.join(": ")
}

/// The requests that send `reply` to `user`, a `wa_id`.
///
/// `locale` chooses the words on the button that opens a list. `correlation` (the key of what is sent, up to 512
/// bytes) comes back in the statuses of the last part: parts are sent in order, so only that one says of all that they
/// were sent.
pub fn encode(
    reply: &Reply,
    user: &str,
    credentials: &Credentials,
    locale: Option<&str>,
    correlation: Option<&str>,
) -> Vec<Send> {
    let parts = plan(reply, &LIMITS);
    let last = parts.len().saturating_sub(1);
    let send = |(place, part): (usize, Part)| {
        let (kind, content) = content_of(part, locale);
        let mut body = json!({
            "messaging_product": "whatsapp",
            "recipient_type": "individual",
            "to": user,
            "type": kind,
            kind: content,
        });
        let fits = |text: &&str| place == last && text.len() <= CORRELATION_BYTES_MAX;
        if let Some(correlation) = correlation.filter(fits) {
            body["biz_opaque_callback_data"] = correlation.into();
        }
        let path = format!("/{}/{}/messages", credentials.version, credentials.phone_number_id);
        Send::json(path, vec![("authorization", format!("Bearer {}", credentials.access_token))], &body)
    };
    parts.into_iter().enumerate().map(send).collect()
}

fn content_of(part: Part, locale: Option<&str>) -> (&'static str, Value) {
    match part {
        Part::Text(text) => ("text", json!({"body": text})),
        Part::Medium { medium, caption } => {
            // What came in by this channel goes out again by its id.
            let mut content = match medium.url.strip_prefix(MEDIA_SCHEME) {
                Some(id) => json!({"id": id}),
                None => json!({"link": medium.url}),
            };
            if let Some(caption) = caption {
                content["caption"] = caption.into();
            }
            (media_type(&medium), content)
        }
        Part::Menu { kind: MenuKind::Buttons, text, rows } => {
            let button = |row: Row| json!({"type": "reply", "reply": {"id": row.token, "title": row.label}});
            let buttons: Vec<Value> = rows.into_iter().map(button).collect();
            let content = json!({"type": "button", "body": {"text": text}, "action": {"buttons": buttons}});
            ("interactive", content)
        }
        Part::Menu { kind: MenuKind::List, text, rows } => {
            let row = |row: Row| match row.description {
                Some(whole) => json!({"id": row.token, "title": row.label, "description": whole}),
                None => json!({"id": row.token, "title": row.label}),
            };
            let rows: Vec<Value> = rows.into_iter().map(row).collect();
            let action = json!({"button": list_button(locale), "sections": [{"rows": rows}]});
            ("interactive", json!({"type": "list", "body": {"text": text}, "action": action}))
        }
    }
}

fn list_button(locale: Option<&str>) -> &'static str {
    let base = locale.and_then(|tag| tag.split(['-', '_']).next()).unwrap_or_default();
    let word = LIST_BUTTON.iter().find(|(language, _)| language.eq_ignore_ascii_case(base));
    word.unwrap_or(&LIST_BUTTON[0]).1
}

/// Meta's word for a medium. What is no picture, video or sound is a document.
fn media_type(medium: &Media) -> &'static str {
    match medium.kind.split('/').next() {
        // Pictures are JPEG or PNG; WebP is for stickers.
        _ if medium.kind.starts_with("image/webp") => "sticker",
        Some("image") => "image",
        Some("video") => "video",
        Some("audio") => "audio",
        _ => "document",
    }
}

/// What the API's response means. `retry_after` is the header's value in seconds. Meta wants codes to be looked at
/// before statuses.
pub fn sent(status: u16, retry_after: Option<u64>, body: &[u8]) -> Sent {
    let json = outcome::body(body);
    if (200..300).contains(&status) {
        // Whoever has taken it names it; a gateway's page of the same status has not.
        return outcome::accepted(owned(&json, "/messages/0/id"), status, body);
    }
    let Some(error) = json.get("error").filter(|error| error.is_object()) else {
        return outcome::of_status(status, retry_after, &outcome::raw(body));
    };
    // The message begins with the code already, as `(#131030) …`.
    let words = [owned(error, "/message"), owned(error, "/error_data/details")];
    let because = words.into_iter().flatten().collect::<Vec<_>>().join(": ");
    let code = error.get("code").and_then(Value::as_i64).unwrap_or_default();
    if RATE_LIMIT_CODES.contains(&code) || NOT_NOW_CODES.contains(&code) {
        return Sent::Later { error: outcome::error(status, &because), after_seconds: retry_after };
    }
    outcome::of_status(status, retry_after, &because)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of GitHub, whose webhooks are signed in the same format.
    const SECRET: &str = "It's a Secret to Everybody";
    const BODY: &[u8] = b"Hello, World!";
    const SIGNATURE: &str = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";

    #[test]
    fn published_signature_verifies_and_no_other_does() {
        assert!(verify(SECRET, BODY, SIGNATURE));
        assert!(!verify(SECRET, b"Hello, World", SIGNATURE), "body");
        assert!(!verify("It's a secret to everybody", BODY, SIGNATURE), "secret");
        for signature in ["", "sha256=", &SIGNATURE[7..], &SIGNATURE.replace("256", "1"), &SIGNATURE[..70]] {
            assert!(!verify(SECRET, BODY, signature), "{signature}");
        }
        let of_nothing = format!("sha256={}", signature::hmac_sha256_hex("", &[BODY]));
        assert!(!verify("", BODY, &of_nothing), "empty secret");
    }

    #[test]
    fn only_the_right_subscription_is_told_its_challenge() {
        assert_eq!(challenge("subscribe", "token", "1158201444", "token"), Some("1158201444".to_owned()));
        for (mode, token, ours) in [
            ("unsubscribe", "token", "token"),
            ("subscribe", "token2", "token"),
            ("subscribe", "", ""),
            ("", "token", "token"),
        ] {
            assert_eq!(challenge(mode, token, "1", ours), None, "{mode} {token} {ours}");
        }
    }

    #[test]
    fn responses_say_what_became_of_a_message() {
        let error =
            |code: i64, message: &str| json!({"error": {"code": code, "message": message}}).to_string();
        let taken = r#"{"messaging_product": "whatsapp", "messages": [{"id": "wamid.1"}]}"#.to_owned();
        let id = Some("wamid.1".to_owned());
        for (status, body, expected) in [
            (200, taken, Sent::Accepted { provider_id: id }),
            (200, String::new(), Sent::Accepted { provider_id: None }),
            (
                400,
                error(131_030, "(#131030) Recipient phone number not in allowed list"),
                Sent::Refused {
                    error: "HTTP 400: (#131030) Recipient phone number not in allowed list".to_owned(),
                },
            ),
            (
                401,
                error(190, "expired"),
                Sent::Later { error: "HTTP 401: expired".to_owned(), after_seconds: Some(9) },
            ),
            (
                200,
                "<p>Welcome</p>".to_owned(),
                Sent::Unknown { error: "HTTP 200: <p>Welcome</p>".to_owned() },
            ),
            (200, "{}".to_owned(), Sent::Accepted { provider_id: None }),
            (
                400,
                error(130_429, "slow"),
                Sent::Later { error: "HTTP 400: slow".to_owned(), after_seconds: Some(9) },
            ),
            (
                500,
                error(131_016, "down"),
                Sent::Later { error: "HTTP 500: down".to_owned(), after_seconds: Some(9) },
            ),
            (500, error(131_000, "hm"), Sent::Unknown { error: "HTTP 500: hm".to_owned() }),
            (502, "<p>Bad</p>".to_owned(), Sent::Unknown { error: "HTTP 502: <p>Bad</p>".to_owned() }),
        ] {
            assert_eq!(sent(status, Some(9), body.as_bytes()), expected, "{body}");
        }
    }

    #[test]
    fn the_button_of_a_list_speaks_the_language() {
        for (locale, word) in [
            (Some("fr-CA"), "Choisir"),
            (Some("FR"), "Choisir"),
            (Some("en"), "Choose"),
            (Some("de"), "Choose"),
            (None, "Choose"),
        ] {
            assert_eq!(list_button(locale), word, "{locale:?}");
        }
    }
}
