//! `reroute`: what changed settings or a changed definition would have made of the messages that a server has stored.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{ArgGroup, Args};
use serde_json::{Value, json};

use crate::command::client::{ServerArgs, count, list, text};
use crate::command::{CommandResult, Failure};
use crate::outgoing::escaped;

/// Messages for one request: often enough to say how far it has come.
const SLICE: u64 = 1_000;
/// Longer texts are cut in the table.
const TEXT_MAX: usize = 60;

#[derive(Debug, Args)]
#[command(group(ArgGroup::new("change").required(true).multiple(true).args(["set", "definition"])))]
pub(crate) struct RerouteArgs {
    machine: String,
    /// Messages from then on: a delay back from now, such as 7d, or a time
    #[arg(long, value_name = "DELAY|TIME", default_value = "7d")]
    since: String,
    /// A setting of the conversation, such as thresholds.confidence=0.65; may be given several times
    #[arg(long, value_name = "PATH=VALUE")]
    set: Vec<String>,
    /// A changed definition
    #[arg(long, value_name = "FILE")]
    definition: Option<PathBuf>,
    /// After so many messages it is enough
    #[arg(long, default_value = "10000", value_parser = clap::value_parser!(u64).range(1..=100_000))]
    limit: u64,
    #[command(flatten)]
    server: ServerArgs,
}

pub(crate) fn reroute(args: &RerouteArgs) -> CommandResult {
    let mut body = json!({"since": args.since, "set": settings(&args.set)?});
    if let Some(path) = &args.definition {
        let source = std::fs::read_to_string(path)
            .map_err(|error| Failure(format!("failed to read {}: {error}", path.display())))?;
        body["definition"] = json!(source);
    }
    let path = format!("/v1/machines/{}/reroute", escaped(&args.machine));
    let mut whole: Option<Value> = None;
    loop {
        let looked_at = whole.as_ref().map_or(0, |whole| count(whole, "messages"));
        body["limit"] = json!(SLICE.min(args.limit - looked_at));
        let slice = args.server.post(&path, &body)?;
        // All slices speak of the same time.
        body["since"] = slice["since"].clone();
        body["cursor"] = slice["next_cursor"].clone();
        let merged = match whole {
            None => slice,
            Some(whole) => merge(whole, slice),
        };
        let done = merged["next_cursor"].is_null() || count(&merged, "messages") >= args.limit;
        show_progress(&merged, done);
        if done {
            tell(args, &merged);
            return Ok(ExitCode::SUCCESS);
        }
        whole = Some(merged);
    }
}

/// What is no JSON is a text: `5m` needs no quotes.
fn settings(given: &[String]) -> Result<Value, Failure> {
    let mut settings = json!({});
    for setting in given {
        let Some((path, value)) = setting.split_once('=') else {
            return Err(Failure(format!(
                "--set {setting}: write a path, = and a value, as in thresholds.confidence=0.65"
            )));
        };
        settings[path.trim()] = serde_json::from_str(value).unwrap_or_else(|_| json!(value));
    }
    Ok(settings)
}

/// The reports of two slices as one.
fn merge(mut whole: Value, slice: Value) -> Value {
    for name in ["sessions", "messages", "same", "different", "not_replayable"] {
        whole[name] = json!(count(&whole, name) + count(&slice, name));
    }
    let mut changes: Vec<Value> = list(&whole, "changes").cloned().collect();
    for change in list(&slice, "changes") {
        let same = |other: &&mut Value| other["from"] == change["from"] && other["to"] == change["to"];
        match changes.iter_mut().find(same) {
            Some(known) => {
                known["count"] = json!(count(known, "count") + count(change, "count"));
                for part in ["differs", "examples"] {
                    let most = if part == "examples" { 3 } else { usize::MAX };
                    let mut both: Vec<Value> = list(known, part).cloned().collect();
                    for one in list(change, part) {
                        if both.len() < most && !both.contains(one) {
                            both.push(one.clone());
                        }
                    }
                    known[part] = json!(both);
                }
            }
            None => changes.push(change.clone()),
        }
    }
    changes.sort_by_key(|change| std::cmp::Reverse(count(change, "count")));
    whole["changes"] = json!(changes);
    let reasons: Vec<Value> =
        list(&whole, "reasons").chain(list(&slice, "reasons")).take(100).cloned().collect();
    whole["reasons"] = json!(reasons);
    whole["next_cursor"] = slice["next_cursor"].clone();
    whole
}

fn show_progress(report: &Value, done: bool) {
    let mut stderr = std::io::stderr();
    if !stderr.is_terminal() {
        return;
    }
    let _ = match done {
        true => write!(stderr, "\r\u{1b}[K"),
        false => {
            write!(stderr, "\r{} messages, {} different\u{1b}[K", report["messages"], report["different"])
        }
    };
    let _ = stderr.flush();
}

fn tell(args: &RerouteArgs, report: &Value) {
    if args.server.json {
        say!("{report}");
        return;
    }
    say!(
        "{} messages in {} sessions since {}: {} the same, {} different, {} not replayable",
        report["messages"],
        report["sessions"],
        text(&report["since"]),
        report["same"],
        report["different"],
        report["not_replayable"]
    );
    for change in list(report, "changes") {
        let differs: Vec<String> = list(change, "differs").map(text).collect();
        say!(
            "\n{:>6}  {} -> {}  (differs: {})",
            text(&change["count"]),
            kind(&change["from"]),
            kind(&change["to"]),
            differs.join(", ")
        );
        for example in list(change, "examples") {
            say!(
                "        {} revision {} at {}: {}",
                text(&example["session"]),
                example["revision"],
                text(&example["at"]),
                shortened(&text(&example["text"]))
            );
            say!("          was       {}", upshot(&example["was"]));
            say!("          would be  {}", upshot(&example["would_be"]));
        }
    }
    if count(report, "not_replayable") > 0 {
        say!("\nnot replayable");
    }
    for reason in list(report, "reasons") {
        let from = match reason["revision"].as_u64() {
            Some(revision) => format!(" from revision {revision}"),
            None => String::new(),
        };
        say!(
            "{:>6}  {}{from}: {}",
            text(&reason["messages"]),
            text(&reason["session"]),
            text(&reason["reason"])
        );
    }
    if !report["next_cursor"].is_null() {
        say!("… there are more; raise --limit");
    }
}

fn kind(kind: &Value) -> String {
    match kind["intent"].as_str() {
        Some(intent) => format!("{} {intent}", text(&kind["outcome"])),
        None => text(&kind["outcome"]),
    }
}

fn upshot(upshot: &Value) -> String {
    let replies: Vec<String> = list(upshot, "reply").map(|reply| text(&reply["text"])).collect();
    format!(
        "{} by {} in `{}`: {}",
        kind(upshot),
        upshot["rule"].as_str().unwrap_or("no rule"),
        text(&upshot["state"]),
        shortened(&replies.join(" / "))
    )
}

fn shortened(text: &str) -> String {
    let line = text.replace(char::is_control, " ");
    match line.char_indices().nth(TEXT_MAX) {
        Some((end, _)) => format!("\"{}…\"", &line[..end]),
        None => format!("\"{line}\""),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    #[test]
    fn settings_are_json_or_else_text() {
        let given = ["a.b=0.65", "c=5m", "d=[\"menu\"]", "e=x=y"].map(str::to_owned);
        let settings = settings(&given).unwrap();
        assert_eq!(settings, json!({"a.b": 0.65, "c": "5m", "d": ["menu"], "e": "x=y"}));
        assert!(super::settings(&["thresholds".to_owned()]).is_err());
    }

    #[test]
    fn slices_add_up() {
        let kind = |outcome: &str| json!({"outcome": outcome, "intent": null});
        let change = |to: &str, count: u64| json!({"from": kind("a"), "to": kind(to), "count": count, "differs": [to], "examples": [count, to]});
        let slice = |changes: Value, cursor: Value| {
            json!({"sessions": 1, "messages": 3, "same": 1, "different": 2, "not_replayable": 0,
                "changes": changes, "reasons": [1], "next_cursor": cursor})
        };
        let merged = merge(
            slice(json!([change("b", 1), change("c", 2)]), json!("x")),
            slice(json!([change("d", 1), change("b", 4)]), json!(null)),
        );
        assert_eq!((count(&merged, "messages"), count(&merged, "different")), (6, 4));
        let counts: Vec<u64> = list(&merged, "changes").map(|change| count(change, "count")).collect();
        assert_eq!(counts, [5, 2, 1], "{merged}");
        assert_eq!(merged["changes"][0]["examples"], json!([1, "b", 4]));
        assert_eq!((&merged["reasons"], &merged["next_cursor"]), (&json!([1, 1]), &Value::Null));
    }
}
