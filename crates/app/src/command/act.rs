//! `create`, `event` and `recover`: one instance is begun, or an operator does something to it; or with `--dry-run`, what
//! would come of it.

use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use crate::command::client::{ServerArgs, text};
use crate::command::flow::object;
use crate::command::{CommandResult, Failure};
use crate::outgoing::escaped;
use crate::telemetry::fresh_trace_id;

#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// The machine's name, as its definition has it
    machine: String,
    /// The id of what is begun [default: one that the server makes]
    #[arg(long)]
    id: Option<String>,
    /// Whom it is with
    #[arg(long)]
    subject: Option<String>,
    /// What is known at the beginning: a JSON object, or @FILE
    #[arg(long, value_name = "JSON")]
    context: Option<String>,
    /// Who begins it
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
    #[command(flatten)]
    how: How,
}

#[derive(Debug, Args)]
pub(crate) struct EventArgs {
    id: String,
    event: String,
    /// What comes with it, as a JSON object
    #[arg(long, value_name = "JSON")]
    payload: Option<String>,
    /// Who sends it
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
    #[command(flatten)]
    how: How,
}

#[derive(Debug, Args)]
pub(crate) struct RecoverArgs {
    id: String,
    /// Why, for the history
    #[arg(long)]
    reason: String,
    /// Who does it
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
    #[command(flatten)]
    how: How,
}

#[derive(Debug, Args)]
struct How {
    /// Only say what would come of it
    #[arg(long)]
    dry_run: bool,
    /// The input's key; a repeat of it gets the first answer [default: a fresh one]
    #[arg(long, conflicts_with = "dry_run")]
    key: Option<String>,
    #[command(flatten)]
    server: ServerArgs,
}

pub(crate) fn create(args: &CreateArgs) -> CommandResult {
    let CreateArgs { machine, id, subject, context, by, how } = args;
    let mut body = json!({ "machine": machine });
    for (name, value) in [("id", id), ("subject", subject), ("by", by)] {
        if let Some(value) = value {
            body[name] = json!(value);
        }
    }
    if let Some(given) = context {
        body["context"] = json!(object("--context", given)?);
    }
    if !how.dry_run {
        body["key"] = json!(how.key.clone().unwrap_or_else(fresh_trace_id));
    }
    let path = if how.dry_run { "/v1/instances?dry_run=true" } else { "/v1/instances" };
    let answer = how.server.post(path, &body)?;
    if !how.server.json {
        say!("{}", text(&answer["id"]));
    }
    Ok(how.tell(&answer, true))
}

pub(crate) fn event(args: &EventArgs) -> CommandResult {
    let mut body = json!({ "event": args.event });
    if let Some(payload) = &args.payload {
        body["payload"] = serde_json::from_str(payload)
            .map_err(|error| Failure(format!("--payload is no JSON object: {error}")))?;
    }
    args.how.act(&args.id, "events", body.clone(), body, args.by.as_deref())
}

pub(crate) fn recover(args: &RecoverArgs) -> CommandResult {
    let body = json!({ "reason": args.reason });
    args.how.act(&args.id, "recover", json!({ "recover": body }), body, args.by.as_deref())
}

impl How {
    /// Asks for it at `what`, or has `trial` explained.
    fn act(&self, id: &str, what: &str, trial: Value, mut body: Value, by: Option<&str>) -> CommandResult {
        let at = format!("/v1/instances/{}", escaped(id));
        if self.dry_run {
            let told = self.server.post(&format!("{at}/explain"), &trial)?;
            return Ok(self.tell(&told, told["accepted"] == json!(true)));
        }
        body["key"] = json!(self.key.clone().unwrap_or_else(fresh_trace_id));
        if let Some(by) = by {
            body["by"] = json!(by);
        }
        let answer = self.server.post(&format!("{at}/{what}"), &body)?;
        Ok(self.tell(&answer, true))
    }

    fn tell(&self, told: &Value, taken: bool) -> ExitCode {
        if self.server.json {
            say!("{told}");
        } else if taken {
            let answer = told["answer"].get("event").unwrap_or(told);
            lines(answer, self.dry_run).iter().for_each(|line| say!("{line}"));
        } else {
            say!("would be refused: {}", text(&told["refusal"]["message"]));
        }
        if taken { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

fn lines(answer: &Value, dry_run: bool) -> Vec<String> {
    let would = if dry_run { "would be " } else { "" };
    let place = match answer["transition"].as_object() {
        Some(transition) if transition["from"] == json!("") => {
            format!("begun in {}", text(&transition["to"]))
        }
        Some(transition) => format!("{} -> {}", text(&transition["from"]), text(&transition["to"])),
        None => text(&answer["state"]),
    };
    let mut lines = vec![format!("{would}{place}, revision {}", answer["revision"])];
    if let Some(replaced) = answer["replaced"].as_object() {
        let kept: Vec<String> = replaced["kept"].as_array().into_iter().flatten().map(text).collect();
        let kept = if kept.is_empty() { "nothing".to_owned() } else { kept.join(", ") };
        lines.push(format!("leaves {}; {would}kept of the context: {kept}", text(&replaced["state"])));
    }
    let replies = answer["reply"].as_array().into_iter().flatten();
    lines.extend(replies.map(|reply| format!("says: {}", text(&reply["text"]))));
    if let Some(reason) = answer["closure_reason"].as_str() {
        lines.push(format!("{would}closed: {reason}"));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_of_it_is_told_in_lines() {
        for (answer, dry_run, expected) in [
            (
                json!({"revision": 3, "state": "b", "transition": {"from": "a", "to": "b", "event": "e"},
                    "reply": [{"text": "Done."}], "closure_reason": "completed"}),
                false,
                &["a -> b, revision 3", "says: Done.", "closed: completed"][..],
            ),
            (
                json!({"revision": 4, "state": "idle", "reply": [],
                    "replaced": {"state": "lost", "context": {}, "kept": ["task"]}}),
                true,
                &["would be idle, revision 4", "leaves lost; would be kept of the context: task"],
            ),
        ] {
            assert_eq!(lines(&answer, dry_run), expected);
        }
    }
}
