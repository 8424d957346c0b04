//! Slack: is a request genuine, what does it say, which requests send a reply.
//!
//! Reads both the Events API's JSON and interactivity's form. It does not choose a tenant or a machine, reads no
//! header, has no clock and fetches no file. Invariant: one message that Slack tells as two events (`message` and
//! `app_mention`) is one message with one key.

use std::fmt;

use kernel::conversation::{Media, Message, Reply};
use kernel::time::Timestamp;
use serde_json::{Value, json};

use super::degrade::{Limits, MenuKind, MenuLimits, Part, Row, plan};
use super::reading::{self, array, owned, required, text};
use super::{DecodeError, Inbound, InboundMessage, Send, Sent, outcome, signature};

pub const DEFAULT_API: &str = "https://slack.com";

/// How far a request's timestamp may be from `now`: Slack's own advice against replays.
pub const TIMESTAMP_TOLERANCE_MS: i64 = 5 * 60 * 1_000;

/// Slack asks for 4,000 characters at most; it cuts at 40,000. What escaping adds stays below that.
pub const TEXT_UNITS_MAX: usize = 4_000;

/// The text of a section block.
const SECTION_UNITS_MAX: usize = 3_000;

/// Slack takes 25 elements in an actions block; five fit a line on a wide screen.
const BUTTONS_PER_BLOCK: usize = 5;

/// Five blocks of them. With section, labels and tokens at their longest, that is near 12,000 characters: Slack
/// refuses a message whose blocks hold more than some 13,000 in all (`msg_blocks_too_long`), without documenting it.
const OPTIONS_MAX: usize = 25;

/// The text of a button. Slack may show less of it.
const LABEL_UNITS_MAX: usize = 75;

/// Slack takes values of 2,000 characters; see `OPTIONS_MAX` for why not that many.
const TOKEN_BYTES_MAX: usize = 255;

/// `image_url` of an image block.
const IMAGE_URL_BYTES_MAX: usize = 3_000;

pub const LIMITS: Limits = Limits {
    text_units_max: TEXT_UNITS_MAX,
    // A message with a picture that Slack cannot fetch is refused whole, so that no text depends on one.
    caption_units_max: |_| 0,
    menus: &[MenuLimits {
        kind: MenuKind::Buttons,
        options_max: OPTIONS_MAX,
        label_units_max: LABEL_UNITS_MAX,
        cuts_labels: true,
        description_units_max: 0,
        token_bytes_max: TOKEN_BYTES_MAX,
        text_units_max: SECTION_UNITS_MAX,
    }],
};

/// Subtypes of `message` that are a person's words all the same.
const PERSONAL_SUBTYPES: [&str; 2] = ["file_share", "thread_broadcast"];

/// Errors that say that the message was not posted, and that it may be later: also when somebody has mended the token.
const NOT_NOW_ERRORS: [&str; 10] = [
    "ratelimited",
    "rate_limited",
    "message_limit_exceeded",
    "service_unavailable",
    "team_added_to_org",
    "invalid_auth",
    "not_authed",
    "token_expired",
    "token_revoked",
    "account_inactive",
];

/// "It's possible some aspect of the operation succeeded before the error was raised."
const UNKNOWN_ERRORS: [&str; 2] = ["internal_error", "fatal_error"];

/// By whom messages are sent.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// `xoxb-…`, with the scope `chat:write`.
    pub bot_token: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").finish_non_exhaustive()
    }
}

/// Whether `signature` (`X-Slack-Signature`) is Slack's for these bytes at `timestamp`
/// (`X-Slack-Request-Timestamp`), and that time is now. An empty secret verifies nothing.
pub fn verify(signing_secret: &str, timestamp: &str, body: &[u8], signature: &str, now: Timestamp) -> bool {
    let signed_ms = timestamp.parse::<i64>().ok().and_then(|seconds| seconds.checked_mul(1_000));
    let is_recent =
        signed_ms.is_some_and(|ms| now.as_millis().abs_diff(ms) <= TIMESTAMP_TOLERANCE_MS.unsigned_abs());
    let Some(given) = signature.strip_prefix("v0=") else {
        return false;
    };
    let expected = signature::hmac_sha256_hex(signing_secret, &[b"v0:", timestamp.as_bytes(), b":", body]);
    !signing_secret.is_empty() && is_recent && signature::same(&expected, given)
}

/// What a request says: an event as JSON, or an interaction as a form with `payload`.
///
/// # Errors
/// When the body is neither.
pub fn decode(body: &[u8]) -> Result<Inbound, DecodeError> {
    if body.first() == Some(&b'{') {
        return Ok(decode_event(&reading::object(body)?));
    }
    match form_urlencoded::parse(body).find(|(name, _)| name == "payload") {
        Some((_, payload)) => Ok(decode_interaction(&reading::object(payload.as_bytes())?)),
        None => Err(DecodeError::NotAnObject { because: "it is no form with `payload` either".to_owned() }),
    }
}

fn decode_event(envelope: &Value) -> Inbound {
    let mut inbound = Inbound::default();
    match text(envelope, "/type") {
        Some("url_verification") => {
            inbound.answer = text(envelope, "/challenge").map(|challenge| json!({ "challenge": challenge }));
        }
        Some("event_callback") => match decode_message(envelope) {
            Ok((message, skipped)) => {
                inbound.messages.push(message);
                inbound.skipped.extend(skipped);
            }
            Err(because) => {
                let id = text(envelope, "/event_id").unwrap_or("without an id");
                inbound.skipped.push(format!("event {id}: {because}"));
            }
        },
        other => {
            inbound.skipped.push(format!("requests of type `{}` are not taken", other.unwrap_or_default()));
        }
    }
    inbound
}

/// The message of an event, and what of its files could not be taken.
fn decode_message(envelope: &Value) -> Result<(InboundMessage, Vec<String>), String> {
    let event = &envelope["event"];
    let kind = required(event, "/type")?;
    if !["message", "app_mention"].contains(&kind) {
        return Err(format!("events of type `{kind}` are not taken"));
    }
    // First, because our own messages come back with either.
    if text(event, "/bot_id").is_some() || text(event, "/subtype") == Some("bot_message") {
        return Err("it is from a bot".to_owned());
    }
    if let Some(subtype) = text(event, "/subtype").filter(|subtype| !PERSONAL_SUBTYPES.contains(subtype)) {
        return Err(format!("messages of subtype `{subtype}` are not taken"));
    }
    let (channel, ts) = (required(event, "/channel")?, required(event, "/ts")?);
    let bots: Vec<&str> =
        array(envelope, "/authorizations").filter_map(|who| text(who, "/user_id")).collect();
    let written = without_mention(text(event, "/text").unwrap_or_default(), &bots, kind == "app_mention");
    let (media, skipped) = files(event);
    let message = InboundMessage {
        key: reading::key(&key_of(envelope, channel, ts))?,
        account: text(envelope, "/team_id").unwrap_or_default().to_owned(),
        user: reading::user(format!("{channel}/{}", required(event, "/user")?))?,
        message: Message {
            text: Some(plain(&written)).filter(|text| !text.is_empty()),
            media,
            received_at: reading::seconds(event, "/ts"),
            ..Message::default()
        },
    };
    Ok((message, skipped))
}

/// The event's id where a message is told as one event: in a conversation with the bot alone. A mention in a channel
/// that the bot listens to is told as two, with two ids.
fn key_of(envelope: &Value, channel: &str, ts: &str) -> String {
    match text(envelope, "/event_id").filter(|_| channel.starts_with('D')) {
        Some(id) => id.to_owned(),
        None => format!("{channel}:{ts}"),
    }
}

fn files(event: &Value) -> (Vec<Media>, Vec<String>) {
    let (mut media, mut skipped) = (Vec::new(), Vec::new());
    for file in array(event, "/files") {
        match text(file, "/url_private") {
            Some(url) => {
                media.push(Media { url: url.to_owned(), kind: owned(file, "/mimetype").unwrap_or_default() });
            }
            None => skipped.push(format!("file {} has no URL", text(file, "/id").unwrap_or("without an id"))),
        }
    }
    (media, skipped)
}

/// Without the bot's name, wherever it stands; if the bot is not named by the request, without the first word of a
/// mention.
fn without_mention(text: &str, bots: &[&str], is_mention: bool) -> String {
    let mut rest = text.to_owned();
    for bot in bots {
        rest = rest.replace(&format!("<@{bot}>"), "");
    }
    let leading = rest.trim_start();
    match leading.strip_prefix("<@").and_then(|named| named.split_once('>')) {
        Some((_, after)) if is_mention && rest.len() == text.len() => after.trim().to_owned(),
        _ => rest.trim().to_owned(),
    }
}

/// Slack's markup as the person sees it: links by their label, three characters unescaped. Mentions of people and
/// channels without a label stay as they are written.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('<') {
        plain.push_str(before);
        let Some((inner, after)) = after.split_once('>') else {
            plain.push('<');
            rest = after;
            continue;
        };
        match inner.split_once('|') {
            Some((_, label)) if !label.is_empty() => plain.push_str(label),
            Some((target, _)) => plain.push_str(target),
            None if inner.starts_with(['@', '#', '!']) => plain.push_str(&format!("<{inner}>")),
            None => plain.push_str(inner),
        }
        rest = after;
    }
    plain.push_str(rest);
    // The ampersand last, or `&amp;lt;` would be unescaped twice.
    plain.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
}

/// A press of a button. Slack sends it once; if that fails, the person sees it and presses again.
fn decode_interaction(interaction: &Value) -> Inbound {
    let mut inbound = Inbound::default();
    match text(interaction, "/type") {
        Some("block_actions") => {
            for (index, action) in array(interaction, "/actions").enumerate() {
                match decode_press(interaction, action, index) {
                    Ok(message) => inbound.messages.push(message),
                    Err(because) => inbound.skipped.push(format!("action {index}: {because}")),
                }
            }
        }
        other => {
            inbound
                .skipped
                .push(format!("interactions of type `{}` are not taken", other.unwrap_or_default()));
        }
    }
    inbound
}

fn decode_press(interaction: &Value, action: &Value, index: usize) -> Result<InboundMessage, String> {
    let kind = text(action, "/type").unwrap_or_default();
    if kind != "button" {
        return Err(format!("elements of type `{kind}` are not taken"));
    }
    let payload = required(action, "/value")?.to_owned();
    let channel = text(interaction, "/channel/id").or_else(|| text(interaction, "/container/channel_id"));
    let channel = channel.ok_or("it belongs to no channel")?;
    let user = required(interaction, "/user/id")?;
    let key = match text(interaction, "/trigger_id") {
        Some(trigger) if index == 0 => trigger.to_owned(),
        Some(trigger) => format!("{trigger}:{index}"),
        None => format!("{channel}:{user}:{}:{index}", required(action, "/action_ts")?),
    };
    let team = text(interaction, "/team/id").or_else(|| text(interaction, "/user/team_id"));
    Ok(InboundMessage {
        key: reading::key(&key)?,
        account: team.unwrap_or_default().to_owned(),
        user: reading::user(format!("{channel}/{user}"))?,
        message: Message {
            payload: Some(payload),
            text: owned(action, "/text/text"),
            received_at: reading::seconds(action, "/action_ts"),
            ..Message::default()
        },
    })
}

/// The requests that send `reply` to `user`, as `decode` named them: into the channel, in sight of all who are there.
pub fn encode(reply: &Reply, user: &str, credentials: &Credentials) -> Vec<Send> {
    let channel = user.split('/').next().unwrap_or_default();
    let send = |part: Part| {
        let mut body = message(part);
        body["channel"] = channel.into();
        let authorization = format!("Bearer {}", credentials.bot_token);
        Send::json("/api/chat.postMessage".to_owned(), vec![("authorization", authorization)], &body)
    };
    plan(reply, &LIMITS).into_iter().map(send).collect()
}

/// Beside blocks, `text` is what notifications and screen readers take.
fn message(part: Part) -> Value {
    match part {
        Part::Text(text) => json!({"text": escape(&text)}),
        Part::Medium { medium, .. } => {
            let mut body = json!({"text": escape(&medium.url)});
            if medium.kind.starts_with("image/") && medium.url.len() <= IMAGE_URL_BYTES_MAX {
                let image = json!({"type": "image", "image_url": medium.url, "alt_text": "image"});
                body["blocks"] = json!([image]);
            }
            body
        }
        Part::Menu { text, rows, .. } => {
            let section = json!({"type": "section", "text": {"type": "plain_text", "text": text}});
            let mut blocks = vec![section];
            let buttons: Vec<Value> = rows.into_iter().enumerate().map(button).collect();
            let actions = |some: &[Value]| json!({"type": "actions", "elements": some});
            blocks.extend(buttons.chunks(BUTTONS_PER_BLOCK).map(actions));
            json!({"text": escape(&text), "blocks": blocks})
        }
    }
}

/// Slack wants the `action_id`s of a message to differ.
fn button((index, row): (usize, Row)) -> Value {
    json!({
        "type": "button",
        "action_id": format!("option_{}", index + 1),
        "text": {"type": "plain_text", "text": row.label},
        "value": row.token,
    })
}

/// So that a text with `<!channel>` in it, repeated from a person, calls nobody.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// What the API's response means. `retry_after` is the header's value in seconds. Slack answers 200 to nearly
/// everything; the body counts.
pub fn sent(status: u16, retry_after: Option<u64>, body: &[u8]) -> Sent {
    let json = outcome::body(body);
    let error = text(&json, "/error");
    let is_ok = json.get("ok").and_then(Value::as_bool);
    let line = |error: &str| outcome::error(status, error);
    match (is_ok, error) {
        (Some(true), _) => Sent::Accepted { provider_id: owned(&json, "/ts") },
        (Some(false), Some(error)) if NOT_NOW_ERRORS.contains(&error) => {
            Sent::Later { error: line(error), after_seconds: retry_after }
        }
        (Some(false), Some(error)) if UNKNOWN_ERRORS.contains(&error) => Sent::Unknown { error: line(error) },
        (Some(false), Some(error)) if (200..300).contains(&status) => Sent::Refused { error: line(error) },
        (_, error) => {
            let because = error.map_or_else(|| outcome::raw(body), str::to_owned);
            outcome::of_status(status, retry_after, &because)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Slack's documented example.
    const SECRET: &str = "8f742231b10e8888abcd99yyyzzz85a5";
    const TIMESTAMP: &str = "1531420618";
    const BODY: &str = "token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c";
    const SIGNATURE: &str = "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503";

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1_000)
    }

    #[test]
    fn published_signature_verifies_and_no_other_does() {
        let now = at(1_531_420_618);
        let verify = |secret: &str, timestamp: &str, body: &str, signature: &str| {
            verify(secret, timestamp, body.as_bytes(), signature, now)
        };
        assert!(verify(SECRET, TIMESTAMP, BODY, SIGNATURE));
        assert!(!verify("8f742231b10e8888abcd99yyyzzz85a6", TIMESTAMP, BODY, SIGNATURE), "secret");
        assert!(!verify(SECRET, "1531420619", BODY, SIGNATURE), "timestamp");
        assert!(!verify(SECRET, TIMESTAMP, &BODY[1..], SIGNATURE), "body");
        for signature in ["", "v0=", &SIGNATURE[3..], &SIGNATURE.replace("v0", "v1"), &SIGNATURE[..60]] {
            assert!(!verify(SECRET, TIMESTAMP, BODY, signature), "{signature}");
        }
        for timestamp in ["", "soon", "9223372036854775807", "-9223372036854775808"] {
            let signed = [b"v0:", timestamp.as_bytes(), b":", BODY.as_bytes()];
            let signature = format!("v0={}", signature::hmac_sha256_hex(SECRET, &signed));
            assert!(!verify(SECRET, timestamp, BODY, &signature), "{timestamp}");
        }
        let signed = [b"v0:", TIMESTAMP.as_bytes(), b":", BODY.as_bytes()];
        let of_nothing = format!("v0={}", signature::hmac_sha256_hex("", &signed));
        assert!(!verify("", TIMESTAMP, BODY, &of_nothing), "empty secret");
    }

    #[test]
    fn signatures_are_good_for_five_minutes_either_way() {
        for (now, expected) in [
            (1_531_420_618 + 300, true),
            (1_531_420_618 + 301, false),
            (1_531_420_618 - 300, true),
            (1_531_420_618 - 301, false),
        ] {
            assert_eq!(verify(SECRET, TIMESTAMP, BODY.as_bytes(), SIGNATURE, at(now)), expected, "{now}");
        }
    }

    #[test]
    fn markup_is_read_as_the_person_sees_it() {
        for (written, expected) in [
            ("a &amp; b &lt;c&gt;", "a & b <c>"),
            ("&amp;lt;", "&lt;"),
            ("see <https://example.com/a?b=1&amp;c|the page>", "see the page"),
            ("see <https://example.com|>", "see https://example.com"),
            ("see <https://example.com>", "see https://example.com"),
            ("<mailto:a@example.com|a@example.com>", "a@example.com"),
            ("ask <@U123> in <#C1|general> <!here>", "ask <@U123> in general <!here>"),
            ("1 < 2", "1 < 2"),
            ("<", "<"),
        ] {
            assert_eq!(plain(written), expected);
        }
    }

    #[test]
    fn the_bot_is_not_named_in_what_is_said_to_it() {
        for (written, bots, is_mention, expected) in [
            ("<@U0BOT> help", &["U0BOT"] as &[&str], true, "help"),
            ("<@U0BOT> help", &["U0BOT"], false, "help"),
            ("help <@U0BOT> now", &["U0BOT"], true, "help  now"),
            ("<@U0BOT> <@U1> help", &["U0BOT"], true, "<@U1> help"),
            ("<@U0BOT> help", &[], true, "help"),
            ("<@U1> help", &[], false, "<@U1> help"),
            ("<@U0BOT>", &["U0BOT"], true, ""),
            ("<@U0BOT", &[], true, "<@U0BOT"),
        ] {
            assert_eq!(without_mention(written, bots, is_mention), expected, "{written}");
        }
    }

    #[test]
    fn responses_say_what_became_of_a_message() {
        let error = |text: &str| text.to_owned();
        for (status, body, expected) in [
            (
                200,
                r#"{"ok": true, "channel": "C1", "ts": "1503435956.000247"}"#,
                Sent::Accepted { provider_id: Some(error("1503435956.000247")) },
            ),
            (
                200,
                r#"{"ok": false, "error": "channel_not_found"}"#,
                Sent::Refused { error: error("HTTP 200: channel_not_found") },
            ),
            (
                200,
                r#"{"ok": false, "error": "ratelimited"}"#,
                Sent::Later { error: error("HTTP 200: ratelimited"), after_seconds: Some(30) },
            ),
            (
                429,
                r#"{"ok": false, "error": "ratelimited"}"#,
                Sent::Later { error: error("HTTP 429: ratelimited"), after_seconds: Some(30) },
            ),
            (429, "", Sent::Later { error: error("HTTP 429: no reason given"), after_seconds: Some(30) }),
            (
                200,
                r#"{"ok": false, "error": "internal_error"}"#,
                Sent::Unknown { error: error("HTTP 200: internal_error") },
            ),
            (200, "ok", Sent::Unknown { error: error("HTTP 200: ok") }),
            (500, "", Sent::Unknown { error: error("HTTP 500: no reason given") }),
            (404, "", Sent::Refused { error: error("HTTP 404: no reason given") }),
        ] {
            assert_eq!(sent(status, Some(30), body.as_bytes()), expected, "{body}");
        }
    }
}
