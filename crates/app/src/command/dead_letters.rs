//! `dead-letters`: what could not be delivered, and trying it again.

use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use crate::command::client::{ServerArgs, text};
use crate::command::{CommandResult, Failure};
use crate::outgoing::escaped;

#[derive(Debug, Args)]
pub(crate) struct DeadLettersArgs {
    /// Try this one again; what is `unknown` may then arrive twice
    #[arg(long, value_name = "ID")]
    retry: Option<String>,
    /// Try all again that are listed
    #[arg(long, conflicts_with = "retry")]
    retry_all: bool,
    /// Other effects than dead and unknown ones: pending, sending, delivered, cancelled, unaddressed, dead, unknown
    #[arg(long, value_name = "STATUS")]
    status: Option<String>,
    #[arg(long, default_value = "100")]
    limit: usize,
    #[command(flatten)]
    server: ServerArgs,
}

pub(crate) fn dead_letters(args: &DeadLettersArgs) -> CommandResult {
    if let Some(id) = &args.retry {
        let retried = retry(args, id)?;
        if args.server.json {
            say!("{retried}");
        } else {
            say!("{id} is {}", text(&retried["status"]));
        }
        return Ok(ExitCode::SUCCESS);
    }
    let mut query = vec![("limit", args.limit.to_string())];
    query.extend(args.status.iter().map(|status| ("status", status.clone())));
    let list = args.server.get("/v1/dead-letters", &query)?;
    let letters: Vec<&Value> = list["data"].as_array().into_iter().flatten().collect();
    if args.retry_all {
        for letter in &letters {
            retry(args, &text(&letter["id"]))?;
        }
        if args.server.json {
            say!("{}", json!({ "retried": letters.len() }));
        } else {
            say!("{} tried again", letters.len());
        }
        return Ok(ExitCode::SUCCESS);
    }
    if args.server.json {
        say!("{list}");
        return Ok(ExitCode::SUCCESS);
    }
    if letters.is_empty() {
        say!("none");
    }
    for letter in letters {
        say!(
            "{}  {}  {} after {} attempt(s): {}\n    {}",
            text(&letter["created_at"]),
            text(&letter["id"]),
            text(&letter["status"]),
            letter["attempts"],
            text(&letter["error"]),
            summary(letter)
        );
    }
    if list["has_more"] == json!(true) {
        say!("… there are more; raise --limit");
    }
    Ok(ExitCode::SUCCESS)
}

fn retry(args: &DeadLettersArgs, id: &str) -> Result<Value, Failure> {
    args.server.post(&format!("/v1/dead-letters/{}/retry", escaped(id)), &json!({}))
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
}
