//! `dead-letters`: what could not be delivered, and trying it again.

use std::process::ExitCode;
use std::thread::sleep;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::{Value, json};

use crate::command::client::{ServerArgs, problem_text, text};
use crate::command::{CommandResult, Failure};
use crate::outgoing::escaped;

#[derive(Debug, Args)]
pub(crate) struct DeadLettersArgs {
    /// Try this one again; what is `unknown` may then arrive twice
    #[arg(long, value_name = "ID")]
    retry: Option<String>,
    /// Try all again that are listed; what cannot be tried again is named and left as it is
    #[arg(long, conflicts_with = "retry")]
    retry_all: bool,
    /// Only those of this machine
    #[arg(long, value_name = "NAME", conflicts_with = "retry")]
    machine: Option<String>,
    /// Other effects than dead and unknown ones, with commas between: pending, sending, delivered, cancelled,
    /// unaddressed, dead, unknown
    #[arg(long, value_name = "STATUS", conflicts_with = "retry")]
    status: Option<String>,
    #[arg(long, default_value = "100")]
    limit: usize,
    #[command(flatten)]
    server: ServerArgs,
}

/// How long `--retry` waits for what comes of it. Most endpoints have answered by then, and nobody waits for one that
/// has not.
const PATIENCE: Duration = Duration::from_secs(5);
const LOOKS_AGAIN_AFTER: Duration = Duration::from_millis(100);
/// What one page of a list may have.
const PAGE: usize = 1000;

/// What was found, and whether there is more of it.
struct Letters {
    letters: Vec<Value>,
    more: bool,
    /// Where it goes on, if that is between two letters of the server's.
    cursor: Option<String>,
}

pub(crate) fn dead_letters(args: &DeadLettersArgs) -> CommandResult {
    if let Some(id) = &args.retry {
        return retry_one(args, id);
    }
    if args.limit == 0 {
        return Err(Failure("--limit is 0; nothing would be listed".into()));
    }
    let found = list(args, args.status.as_deref(), args.limit)?;
    if args.retry_all {
        return retry_all(args, &found);
    }
    if args.server.json {
        say!("{}", json!({ "data": found.letters, "next_cursor": found.cursor, "has_more": found.more }));
        return Ok(ExitCode::SUCCESS);
    }
    if found.letters.is_empty() {
        say!("none");
    }
    for letter in &found.letters {
        say!("{}\n    {}", head(letter), summary(letter));
    }
    if found.more {
        say!("… there are more; raise --limit");
    }
    let retryable =
        |letter: &Value| matches!(letter["status"].as_str(), Some("dead" | "unknown" | "unaddressed"));
    if found.letters.iter().any(retryable) {
        say!("\n`dead-letters --retry ID` tries one again, `--retry-all` all that are listed");
    }
    if args.status.is_none() {
        let unaddressed = list(args, Some("unaddressed"), PAGE)?;
        if let Some(told) = nowhere_to_go(unaddressed.letters.len(), unaddressed.more) {
            say!("{told}");
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Newest first; those of one machine are chosen here, from as many pages as that takes.
fn list(args: &DeadLettersArgs, status: Option<&str>, limit: usize) -> Result<Letters, Failure> {
    let mut letters: Vec<Value> = Vec::new();
    let mut cursor: Option<String> = None;
    loop {
        let wanted = if args.machine.is_some() { PAGE } else { PAGE.min(limit - letters.len()) };
        let mut query = vec![("limit", wanted.to_string())];
        query.extend(status.map(|status| ("status", status.to_owned())));
        query.extend(cursor.take().map(|cursor| ("cursor", cursor)));
        let page = args.server.get("/v1/dead-letters", &query)?;
        let rows = page["data"].as_array().cloned().unwrap_or_default().into_iter();
        let of_machine =
            |letter: &Value| args.machine.as_ref().is_none_or(|machine| letter["machine"] == json!(machine));
        letters.extend(rows.filter(of_machine));
        cursor = page["next_cursor"].as_str().map(str::to_owned);
        if letters.len() >= limit || cursor.is_none() {
            let more = cursor.is_some() || letters.len() > limit;
            let cursor = cursor.filter(|_| letters.len() <= limit);
            letters.truncate(limit);
            return Ok(Letters { letters, more, cursor });
        }
    }
}

fn retry_one(args: &DeadLettersArgs, id: &str) -> CommandResult {
    let retried = retry(args, id)?.map_err(|problem| args.server.failed(&problem))?;
    let ended = ended(args, retried)?;
    if args.server.json {
        say!("{ended}");
    } else {
        say!("{id} is {}", came_to(&ended));
    }
    let arrived = !matches!(ended["status"].as_str(), Some("dead" | "unknown" | "unaddressed"));
    Ok(if arrived { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn retry_all(args: &DeadLettersArgs, found: &Letters) -> CommandResult {
    let mut skipped = Vec::new();
    for letter in &found.letters {
        let id = text(&letter["id"]);
        match retry(args, &id)? {
            Ok(_) => {}
            // It may have arrived meanwhile, or somebody else is at it.
            Err(problem) if matches!(problem["code"].as_str(), Some("not_retryable" | "not_found")) => {
                skipped.push((id, problem));
            }
            Err(problem) => return Err(args.server.failed(&problem)),
        }
    }
    let retried = found.letters.len() - skipped.len();
    if args.server.json {
        let skipped: Vec<&String> = skipped.iter().map(|(id, _)| id).collect();
        say!("{}", json!({ "retried": retried, "skipped": skipped, "has_more": found.more }));
        return Ok(ExitCode::SUCCESS);
    }
    for (_, problem) in &skipped {
        say!("left as it is: {}", problem_text(problem));
    }
    say!("{retried} tried again; `dead-letters` says what is dead or unknown after that");
    if found.more {
        say!("… there are more; raise --limit, or ask again");
    }
    Ok(ExitCode::SUCCESS)
}

fn retry(args: &DeadLettersArgs, id: &str) -> Result<Result<Value, Value>, Failure> {
    args.server.try_post(&format!("/v1/dead-letters/{}/retry", escaped(id)), &json!({}))
}

/// What has come of an effect that was made pending, once there was an attempt or patience is at its end.
fn ended(args: &DeadLettersArgs, mut letter: Value) -> Result<Value, Failure> {
    let path = format!("/v1/instances/{}/effects", escaped(&text(&letter["instance"])));
    let until = Instant::now() + PATIENCE;
    while is_waiting(&letter) && Instant::now() < until {
        sleep(LOOKS_AGAIN_AFTER);
        let page = args.server.get(&path, &[("limit", PAGE.to_string())])?;
        let mut rows = page["data"].as_array().into_iter().flatten();
        match rows.find(|row| row["id"] == letter["id"]) {
            Some(row) => letter = row.clone(),
            // It is not among the newest of its instance; its status can be listed.
            None => break,
        }
    }
    Ok(letter)
}

/// Whether nothing was heard of the attempt yet.
fn is_waiting(letter: &Value) -> bool {
    match letter["status"].as_str() {
        Some("sending") => true,
        Some("pending") => letter["attempts"] == json!(0),
        _ => false,
    }
}

/// A status, with what is to be known of it.
fn came_to(letter: &Value) -> String {
    let (status, error) = (text(&letter["status"]), text(&letter["error"]));
    match status.as_str() {
        "sending" => "sending; nothing has come of it yet".to_owned(),
        "pending" if is_waiting(letter) => {
            format!("pending; not tried yet, next at {}", text(&letter["due_at"]))
        }
        "pending" => format!("pending, next at {}: {error}", text(&letter["due_at"])),
        // An error that is kept of an attempt before.
        "delivered" => status,
        _ if error.is_empty() => status,
        _ => format!("{status}: {error}"),
    }
}

/// When, which, and how far it has come, on one line.
fn head(letter: &Value) -> String {
    let next = match letter["status"].as_str() {
        Some("pending") => format!(", next at {}", text(&letter["due_at"])),
        _ => String::new(),
    };
    let error = text(&letter["error"]);
    let error = if error.is_empty() { error } else { format!(": {error}") };
    format!(
        "{}  {}  {} after {} attempt(s){next}{error}",
        text(&letter["created_at"]),
        text(&letter["id"]),
        text(&letter["status"]),
        letter["attempts"]
    )
}

/// What the default list does not have and somebody should know of: a setting is missing.
fn nowhere_to_go(count: usize, more: bool) -> Option<String> {
    let count = match (count, more) {
        (0, _) => return None,
        (1, false) => "1 has".to_owned(),
        (count, false) => format!("{count} have"),
        (count, true) => format!("{count} and more have"),
    };
    Some(format!("{count} nowhere to go: --status unaddressed"))
}

/// What it says and to whom, on one line.
fn summary(letter: &Value) -> String {
    let kind = &letter["kind"];
    let to = match (text(&letter["to"]["channel"]), text(&letter["to"]["user"])) {
        (channel, user) if !channel.is_empty() => format!("{channel} {user}"),
        _ => "the host".to_owned(),
    };
    if let Some(src) = kind["call"]["src"].as_str() {
        return format!("call of {src} by {}", text(&letter["machine"]));
    }
    if let Some(said) = kind["reply"]["text"].as_str() {
        let line: String = said.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(100).collect();
        return format!("to {to}: {line}");
    }
    format!("to {to}: {} to {}", text(&kind["notice"]["event"]), text(&kind["notice"]["to"]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_letter_is_told_on_one_line() {
        for (letter, line) in [
            (
                json!({"kind": {"reply": {"text": "Which\n task?"}}, "to": {"channel": "meta", "user": "336"}}),
                "to meta 336: Which task?",
            ),
            (json!({"kind": {"call": {"src": "bank.pay"}}, "machine": "m"}), "call of bank.pay by m"),
            (json!({"kind": {"notice": {"event": "go", "to": "b"}}}), "to the host: go to b"),
        ] {
            assert_eq!(summary(&letter), line);
        }
    }

    #[test]
    fn a_status_comes_with_what_is_to_be_known_of_it() {
        let letter = |status: &str, attempts: u32| {
            json!({"created_at": "T", "id": "i:1:0", "status": status, "attempts": attempts, "due_at": "D",
                "error": "HTTP 500"})
        };
        for (status, attempts, line, ended) in [
            ("pending", 2, "pending after 2 attempt(s), next at D: HTTP 500", "pending, next at D: HTTP 500"),
            (
                "pending",
                0,
                "pending after 0 attempt(s), next at D: HTTP 500",
                "pending; not tried yet, next at D",
            ),
            ("sending", 1, "sending after 1 attempt(s): HTTP 500", "sending; nothing has come of it yet"),
            ("dead", 9, "dead after 9 attempt(s): HTTP 500", "dead: HTTP 500"),
            ("delivered", 2, "delivered after 2 attempt(s): HTTP 500", "delivered"),
        ] {
            let letter = letter(status, attempts);
            assert_eq!(head(&letter), format!("T  i:1:0  {line}"));
            assert_eq!(came_to(&letter), ended);
        }
        for (count, more, told) in [
            (0, false, None),
            (1, false, Some("1 has nowhere to go: --status unaddressed")),
            (12, false, Some("12 have nowhere to go: --status unaddressed")),
            (1000, true, Some("1000 and more have nowhere to go: --status unaddressed")),
        ] {
            assert_eq!(nowhere_to_go(count, more).as_deref(), told);
        }
    }
}
