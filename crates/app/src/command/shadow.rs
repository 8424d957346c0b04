//! `shadow`: what a version of a definition would have made of the history that a server has stored.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use crate::command::CommandResult;
use crate::command::client::{ServerArgs, count, list, text};
use crate::command::diff::{Side, source};
use crate::outgoing::escaped;

/// Inputs for one request: often enough to say how far it has come.
const SLICE: u64 = 2_000;
const EXAMPLES_MAX: usize = 3;
const NAMED_MAX: usize = 100;

#[derive(Debug, Args)]
#[command(
    after_help = "Changes nothing. Each input meets its instance as it really was, taken to the version as `migrate` would take it."
)]
pub(crate) struct ShadowArgs {
    /// A definition's file, or a server's MACHINE (the current version) or MACHINE@VERSION
    #[arg(value_name = "DEFINITION")]
    version: String,
    /// Inputs from then on: a delay back from now, such as 7d, or a time
    #[arg(long, value_name = "DELAY|TIME", default_value = "7d")]
    since: String,
    /// After so many inputs it is enough
    #[arg(long, default_value = "10000", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    limit: u64,
    #[command(flatten)]
    server: ServerArgs,
}

pub(crate) fn shadow(args: &ShadowArgs) -> CommandResult {
    let mut body = json!({ "since": args.since });
    let machine = match Side::of(&args.version) {
        Side::File(path) => {
            let (text, machine) = source(&path)?;
            body["definition"] = json!(text);
            machine.name.to_string()
        }
        Side::Stored { machine, version } => {
            if version != "current" {
                body["version"] = json!(version);
            }
            machine
        }
    };
    let path = format!("/v1/machines/{}/shadow", escaped(&machine));
    let mut whole: Option<Value> = None;
    loop {
        let looked_at = whole.as_ref().map_or(0, |whole| count(whole, "inputs"));
        body["limit"] = json!(SLICE.min(args.limit - looked_at));
        let slice = args.server.post(&path, &body)?;
        // All slices speak of the same time.
        body["since"] = slice["since"].clone();
        body["cursor"] = slice["next_cursor"].clone();
        let merged = match whole {
            None => slice,
            Some(whole) => merge(whole, slice),
        };
        let is_done = merged["next_cursor"].is_null() || count(&merged, "inputs") >= args.limit;
        show_progress(&merged, is_done);
        if is_done {
            match args.server.json {
                true => say!("{merged}"),
                false => tell(&merged),
            }
            return Ok(ExitCode::SUCCESS);
        }
        whole = Some(merged);
    }
}

/// The first of two lists, each thing once, then the second.
fn both(whole: &Value, slice: &Value, name: &str, most: usize) -> Value {
    let mut both: Vec<&Value> = Vec::new();
    for one in list(whole, name).chain(list(slice, name)) {
        if both.len() < most && !both.contains(&one) {
            both.push(one);
        }
    }
    both.into_iter().cloned().collect()
}

/// The reports of two slices as one.
fn merge(mut whole: Value, slice: Value) -> Value {
    for name in ["instances", "inputs", "same", "different", "not_comparable"] {
        whole[name] = json!(count(&whole, name) + count(&slice, name));
    }
    let mut changes: Vec<Value> = list(&whole, "changes").cloned().collect();
    for change in list(&slice, "changes") {
        let same = |other: &&mut Value| {
            ["event", "from", "was", "would_be"].iter().all(|part| other[part] == change[part])
        };
        match changes.iter_mut().find(same) {
            Some(known) => {
                known["count"] = json!(count(known, "count") + count(change, "count"));
                known["differs"] = both(known, change, "differs", usize::MAX);
                known["examples"] = both(known, change, "examples", EXAMPLES_MAX);
            }
            None => changes.push(change.clone()),
        }
    }
    changes.sort_by_key(|change| std::cmp::Reverse(count(change, "count")));
    whole["changes"] = json!(changes);
    whole["reasons"] = both(&whole, &slice, "reasons", NAMED_MAX);
    whole["next_cursor"] = slice["next_cursor"].clone();
    whole
}

fn show_progress(report: &Value, is_done: bool) {
    let mut stderr = std::io::stderr();
    if !stderr.is_terminal() {
        return;
    }
    let _ = match is_done {
        true => write!(stderr, "\r\u{1b}[K"),
        false => write!(stderr, "\r{} inputs, {} different\u{1b}[K", report["inputs"], report["different"]),
    };
    let _ = stderr.flush();
}

fn tell(report: &Value) {
    say!(
        "{}, version {} ({}): {} inputs of {} instances since {}: {} the same, {} different, {} not comparable",
        text(&report["machine"]),
        report["version"]["version"],
        text(&report["version"]["hash"]).chars().take(12).collect::<String>(),
        report["inputs"],
        report["instances"],
        text(&report["since"]),
        report["same"],
        report["different"],
        report["not_comparable"]
    );
    for change in list(report, "changes") {
        let differs: Vec<String> = list(change, "differs").map(text).collect();
        say!(
            "\n{:>6}  `{}` in `{}`  (differs: {})",
            count(change, "count"),
            text(&change["event"]),
            text(&change["from"]),
            differs.join(", ")
        );
        say!("        was       {}", upshot(&change["was"]));
        say!("        would be  {}", upshot(&change["would_be"]));
        let examples = list(change, "examples");
        let examples: Vec<String> =
            examples.map(|example| format!("{}@{}", text(&example["id"]), example["revision"])).collect();
        say!("        such as   {}", examples.join(", "));
    }
    if count(report, "not_comparable") > 0 || list(report, "reasons").next().is_some() {
        say!("\nnot comparable");
    }
    for reason in list(report, "reasons") {
        let from = match reason["revision"].as_u64() {
            Some(revision) => format!(" from revision {revision}"),
            None => String::new(),
        };
        say!("{:>6}  {}{from}: {}", count(reason, "inputs"), text(&reason["id"]), text(&reason["reason"]));
    }
    if !report["next_cursor"].is_null() {
        say!("… there are more; raise --limit");
    }
}

fn upshot(upshot: &Value) -> String {
    format!("{} in `{}`", text(&upshot["outcome"]), text(&upshot["state"]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_add_up() {
        let change = |event: &str, count: u64, example: &str| {
            json!({ "event": event, "from": "a", "was": "b", "would_be": "c", "count": count,
                "differs": ["state"], "examples": [example] })
        };
        let slice = |changes: Value, cursor: Value| {
            json!({ "instances": 1, "inputs": 3, "same": 1, "different": 2, "not_comparable": 0,
                "changes": changes, "reasons": [{ "id": "x" }], "next_cursor": cursor })
        };
        let merged = merge(
            slice(json!([change("go", 1, "i"), change("stop", 2, "j")]), json!("n")),
            slice(json!([change("go", 4, "k")]), Value::Null),
        );
        assert_eq!(
            merged,
            json!({ "instances": 2, "inputs": 6, "same": 2, "different": 4, "not_comparable": 0,
                "changes": [
                    { "event": "go", "from": "a", "was": "b", "would_be": "c", "count": 5,
                        "differs": ["state"], "examples": ["i", "k"] },
                    change("stop", 2, "j"),
                ],
                "reasons": [{ "id": "x" }], "next_cursor": null })
        );
    }
}
