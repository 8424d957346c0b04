//! Telegram's Bot API: is an update genuine, what does it say, which requests send a reply.
//!
//! It does not choose a tenant or a machine, reads no header and fetches no file. Invariant: a button that was
//! pressed is always acknowledged, or the person's client shows it as loading.

use std::fmt;

use kernel::conversation::{Media, Message, Reply};
use serde_json::{Value, json};

use super::degrade::{Limits, MenuKind, MenuLimits, Part, Row, plan};
use super::reading::{self, owned, required, text, whole_number};
use super::{DecodeError, Inbound, InboundMessage, Send, Sent, outcome, signature};

pub const DEFAULT_API: &str = "https://api.telegram.org";

/// What a received file is referred to by, before its `file_id`: its URL has to be asked for, lives an hour and
/// holds the bot's token.
pub const FILE_SCHEME: &str = "telegram-file:";

/// `sendMessage` refuses longer texts (`message is too long`).
pub const TEXT_UNITS_MAX: usize = 4_096;

/// `sendPhoto` and its like refuse longer captions.
pub const CAPTION_UNITS_MAX: usize = 1_024;

/// `callback_data` has 1 to 64 bytes.
const TOKEN_BYTES_MAX: usize = 64;

/// Telegram names no limit for labels; clients show one line and end it with an ellipsis of their own.
const LABEL_UNITS_MAX: usize = 64;

/// Telegram names no limit for buttons either. More rows than a screen holds push the question out of sight.
const OPTIONS_MAX: usize = 20;

pub const LIMITS: Limits = Limits {
    text_units_max: TEXT_UNITS_MAX,
    caption_units_max: |_| CAPTION_UNITS_MAX,
    menus: &[MenuLimits {
        kind: MenuKind::Buttons,
        options_max: OPTIONS_MAX,
        label_units_max: LABEL_UNITS_MAX,
        cuts_labels: true,
        description_units_max: 0,
        token_bytes_max: TOKEN_BYTES_MAX,
        text_units_max: TEXT_UNITS_MAX,
    }],
};

/// Members of a message that hold a file, and its type where Telegram does not say one. A photo is a list of sizes,
/// the largest last. An animation is repeated as a document, so that the first that is found counts.
const FILES: [(&str, &str); 8] = [
    ("photo", "image/jpeg"),
    ("voice", "audio/ogg"),
    ("video", "video/mp4"),
    ("animation", "video/mp4"),
    ("audio", "audio/mpeg"),
    ("video_note", "video/mp4"),
    ("sticker", "image/webp"),
    ("document", ""),
];

/// By whom messages are sent.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// As BotFather gave it. It is a part of every path.
    pub bot_token: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").finish_non_exhaustive()
    }
}

/// Whether `header` (`X-Telegram-Bot-Api-Secret-Token`) is the secret that the webhook was set with. An empty secret
/// verifies nothing.
pub fn verify(secret: &str, header: &str) -> bool {
    !secret.is_empty() && signature::same(secret, header)
}

/// What an update says. `account` names the bot, which updates do not.
///
/// # Errors
/// When the body is no update.
pub fn decode(body: &[u8], account: &str) -> Result<Inbound, DecodeError> {
    let update = reading::object(body)?;
    let wrong = |because: String| DecodeError::Wrong { parameter: "update_id".to_owned(), because };
    let id = whole_number(&update, "/update_id").map_err(wrong)?.to_string();
    let mut inbound = Inbound::default();
    let message = if let Some(message) = update.get("message") {
        decode_message(message)
    } else if let Some(query) = update.get("callback_query") {
        inbound.answer =
            text(query, "/id").map(|id| json!({"method": "answerCallbackQuery", "callback_query_id": id}));
        decode_press(query)
    } else {
        let kind = update.as_object().into_iter().flatten().map(|(name, _)| name.as_str());
        let kind = kind.filter(|name| *name != "update_id").collect::<Vec<_>>().join(", ");
        Err(format!("updates with `{kind}` are not taken"))
    };
    let keyed = message.and_then(|(user, message)| {
        let (key, user) = (reading::key(&id)?, reading::user(user)?);
        Ok(InboundMessage { key, account: account.to_owned(), user, message })
    });
    match keyed {
        Ok(message) => inbound.messages.push(message),
        Err(because) => inbound.skipped.push(format!("update {id}: {because}")),
    }
    Ok(inbound)
}

fn decode_message(message: &Value) -> Result<(String, Message), String> {
    if message.pointer("/from/is_bot").and_then(Value::as_bool) == Some(true) {
        return Err("it is from a bot".to_owned());
    }
    let user = user(&message["chat"], &message["from"])?;
    let quoted = whole_number(message, "/reply_to_message/message_id").ok().map(|id| id.to_string());
    let said = Message {
        text: text(message, "/text").map(command).or_else(|| owned(message, "/caption")),
        media: file(message)?.into_iter().collect(),
        parameters: match message.get("location") {
            Some(place) => reading::location(&place["latitude"], &place["longitude"])?,
            None => serde_json::Map::new(),
        },
        locale: owned(message, "/from/language_code"),
        received_at: reading::seconds(message, "/date"),
        quoted: reading::quoted(quoted.as_deref()),
        ..Message::default()
    };
    if said.text.is_none() && said.media.is_empty() && said.parameters.is_empty() {
        return Err("it has no text, file or location".to_owned());
    }
    Ok((user, said))
}

/// A press tells which message the button is under, not when it was pressed.
fn decode_press(query: &Value) -> Result<(String, Message), String> {
    let message = Message {
        payload: Some(required(query, "/data")?.to_owned()),
        locale: owned(query, "/from/language_code"),
        ..Message::default()
    };
    Ok((user(&query["message"]["chat"], &query["from"])?, message))
}

/// A private chat is one person. In a group each person has a conversation of their own.
fn user(chat: &Value, from: &Value) -> Result<String, String> {
    let number = |value: &Value, name: &str| {
        whole_number(value, "/id").map_err(|_| format!("`{name}.id` is missing or no whole number"))
    };
    let chat_id = number(chat, "chat")?;
    match text(chat, "/type") {
        Some("private") => Ok(chat_id.to_string()),
        Some("group" | "supergroup") => Ok(format!("{chat_id}/{}", number(from, "from")?)),
        other => Err(format!("chats of type `{}` are not taken", other.unwrap_or_default())),
    }
}

/// `/start`, or `/start@my_bot` as groups write it, is the word `start`. What else begins with a slash stays.
fn command(text: &str) -> String {
    let (first, rest) = text.find(char::is_whitespace).map_or((text, ""), |at| text.split_at(at));
    let Some(command) = first.strip_prefix('/') else {
        return text.to_owned();
    };
    let word = command.split('@').next().unwrap_or_default();
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if word.starts_with(|c: char| c.is_ascii_alphabetic()) && word.chars().all(is_word) {
        format!("{word}{rest}")
    } else {
        text.to_owned()
    }
}

fn file(message: &Value) -> Result<Option<Media>, String> {
    let present = FILES.iter().find(|(member, _)| message.get(member).is_some());
    let Some((member, kind)) = present else {
        return Ok(None);
    };
    let file = match &message[member] {
        Value::Array(sizes) => sizes.iter().max_by_key(|size| size["width"].as_i64()).unwrap_or(&Value::Null),
        file => file,
    };
    let id = required(file, "/file_id").map_err(|because| format!("`{member}`: {because}"))?;
    let kind = text(file, "/mime_type").unwrap_or(kind).to_owned();
    Ok(Some(Media { url: format!("{FILE_SCHEME}{id}"), kind }))
}

/// The requests that send `reply` to `user`, as `decode` named them.
pub fn encode(reply: &Reply, user: &str, credentials: &Credentials) -> Vec<Send> {
    let chat = user.split('/').next().unwrap_or_default();
    // A number as Telegram writes it, or the `@name` of a public chat.
    let chat = chat.parse::<i64>().map_or_else(|_| Value::from(chat), Value::from);
    let send = |part: Part| {
        let (method, mut body) = request(part);
        body["chat_id"] = chat.clone();
        Send::json(format!("/bot{}/{method}", credentials.bot_token), Vec::new(), &body)
    };
    plan(reply, &LIMITS).into_iter().map(send).collect()
}

fn request(part: Part) -> (&'static str, Value) {
    match part {
        Part::Text(text) => ("sendMessage", json!({"text": text})),
        Part::Menu { text, rows, .. } => {
            // One button a row, or labels are cut to a few letters.
            let row = |row: Row| json!([{"text": row.label, "callback_data": row.token}]);
            let rows: Vec<Value> = rows.into_iter().map(row).collect();
            ("sendMessage", json!({"text": text, "reply_markup": {"inline_keyboard": rows}}))
        }
        Part::Medium { medium, caption } => {
            let (method, member) = match medium.kind.split('/').next() {
                Some("image") => ("sendPhoto", "photo"),
                Some("video") => ("sendVideo", "video"),
                Some("audio") => ("sendAudio", "audio"),
                _ => ("sendDocument", "document"),
            };
            // What came in by this bot goes out again by its id.
            let file = medium.url.strip_prefix(FILE_SCHEME).unwrap_or(&medium.url);
            let mut body = json!({ member: file });
            if let Some(caption) = caption {
                body["caption"] = caption.into();
            }
            (method, body)
        }
    }
}

/// What the API's response means. `retry_after` is the header's value in seconds; Telegram says it in the body.
pub fn sent(status: u16, retry_after: Option<u64>, body: &[u8]) -> Sent {
    let json = outcome::body(body);
    if json.get("ok").and_then(Value::as_bool) == Some(true) {
        let id = json.pointer("/result/message_id").and_then(Value::as_i64);
        return Sent::Accepted { provider_id: id.map(|id| id.to_string()) };
    }
    let because = owned(&json, "/description").unwrap_or_else(|| outcome::raw(body));
    // Whatever a gateway makes of the status, the body has Telegram's own.
    let code = json.get("error_code").and_then(Value::as_u64).and_then(|code| u16::try_from(code).ok());
    let after = json.pointer("/parameters/retry_after").and_then(Value::as_u64).or(retry_after);
    outcome::of_status(code.unwrap_or(status), after, &because)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_secret_verifies() {
        assert!(verify("s3cret", "s3cret"));
        for (secret, header) in [("s3cret", "s3cre"), ("s3cret", "S3cret"), ("s3cret", ""), ("", "")] {
            assert!(!verify(secret, header), "{secret} {header}");
        }
    }

    #[test]
    fn commands_are_words() {
        for (text, expected) in [
            ("/start", "start"),
            ("/start@my_bot", "start"),
            ("/start@my_bot deep-link", "start deep-link"),
            ("/new_task\nname", "new_task\nname"),
            ("/", "/"),
            ("/5 of them", "/5 of them"),
            ("/etc/passwd", "/etc/passwd"),
            ("either/or", "either/or"),
            ("/é", "/é"),
        ] {
            assert_eq!(command(text), expected);
        }
    }

    #[test]
    fn responses_say_what_became_of_a_message() {
        let error = |text: &str| text.to_owned();
        for (status, body, expected) in [
            (
                200,
                r#"{"ok": true, "result": {"message_id": 42}}"#,
                Sent::Accepted { provider_id: Some(error("42")) },
            ),
            (200, "", Sent::Unknown { error: error("HTTP 200: no reason given") }),
            (
                429,
                r#"{"ok": false, "error_code": 429, "description": "Too Many Requests: retry after 14",
                    "parameters": {"retry_after": 14}}"#,
                Sent::Later {
                    error: error("HTTP 429: Too Many Requests: retry after 14"),
                    after_seconds: Some(14),
                },
            ),
            (
                403,
                r#"{"ok": false, "error_code": 403, "description": "Forbidden: bot was blocked by the user"}"#,
                Sent::Refused { error: error("HTTP 403: Forbidden: bot was blocked by the user") },
            ),
            (
                200,
                r#"{"ok": false, "error_code": 400, "description": "Bad Request: chat not found"}"#,
                Sent::Refused { error: error("HTTP 400: Bad Request: chat not found") },
            ),
            (502, "<html>", Sent::Unknown { error: error("HTTP 502: <html>") }),
        ] {
            assert_eq!(sent(status, Some(5), body.as_bytes()), expected, "{body}");
        }
    }
}
