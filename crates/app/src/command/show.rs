//! `show`: where one instance stands, and its history line by line.
//!
//! Owns how a log entry reads in a terminal. Whom an operator knows by name only is found by that name.

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use crate::command::client::{ServerArgs, call_under_way, takes, text, trouble};
use crate::command::{CommandResult, Failure};
use crate::outgoing::escaped;

#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// An instance's id, or ID@REVISION for what it was then; or a subject, whose active session is shown, or else the
    /// last
    id: String,
    #[command(flatten)]
    server: ServerArgs,
}

/// Of a text or of what a call brought, as much as one line can show.
const TEXT_CHARS_MAX: usize = 100;
/// A column is no wider than this, whatever is in it: one long name must not push all others off the screen.
const COLUMN_CHARS_MAX: usize = 32;

pub(crate) fn show(args: &ShowArgs) -> CommandResult {
    let instance = match (find(args), past(&args.id)) {
        // Only what is nobody's name as it is.
        (Err(_), Some((id, revision))) => {
            let query = [("revision", revision.to_owned())];
            args.server.get(&format!("/v1/instances/{}", escaped(id)), &query)?
        }
        (found, _) => found?,
    };
    let path = format!("/v1/instances/{}/history", escaped(&text(&instance["id"])));
    let mut history = args.server.get(&path, &[("limit", "1000".to_owned())])?;
    if let Some(entries) = history["data"].as_array_mut() {
        entries.retain(|entry| entry["revision"].as_u64() <= instance["revision"].as_u64());
    }
    if args.server.json {
        say!("{}", json!({"instance": instance, "history": history["data"]}));
        return Ok(ExitCode::SUCCESS);
    }
    for name in [
        "id",
        "machine",
        "version",
        "subject",
        "state",
        "revision",
        "closure_reason",
        "context",
        "output",
        "created_at",
        "updated_at",
    ] {
        if !instance[name].is_null() {
            say!("{name:15} {}", text(&instance[name]));
        }
    }
    if let Some(trouble) = trouble(&instance) {
        say!("{:15} {trouble}", "attention");
    }
    let waiting = &instance["waiting_for"];
    say!("{:15} {}", "takes", takes(waiting, !instance["closure_reason"].is_null()));
    for timer in waiting["timers"].as_array().into_iter().flatten() {
        say!("{:15} {} at {}", "timer", text(&timer["id"]), text(&timer["deadline"]));
    }
    for call in waiting["calls"].as_array().into_iter().flatten() {
        say!("{:15} {}", "call", call_under_way(call));
    }
    say!("\nhistory");
    let dims = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|no| no.is_empty());
    let entries: Vec<&Value> = history["data"].as_array().into_iter().flatten().collect();
    for (line, details) in lines(&entries) {
        say!("{line}");
        match details {
            None => {}
            Some(details) if dims => say!("\u{1b}[2m        {details}\u{1b}[0m"),
            Some(details) => say!("        {details}"),
        }
    }
    if history["has_more"] == json!(true) {
        say!("… there are more; /v1/instances/ID/history has them all");
    }
    Ok(ExitCode::SUCCESS)
}

/// The id and the revision of `ID@REVISION`.
fn past(id: &str) -> Option<(&str, &str)> {
    let (id, revision) = id.rsplit_once('@')?;
    let is_number = !revision.is_empty() && revision.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then_some((id, revision))
}

/// The instance of that id, else the session of that subject.
fn find(args: &ShowArgs) -> Result<Value, Failure> {
    let (server, id) = (&args.server, &args.id);
    let problem = match server.try_get(&format!("/v1/instances/{}", escaped(id)), &[])? {
        Ok(instance) => return Ok(instance),
        Err(problem) if problem["code"] == json!("not_found") => problem,
        Err(problem) => return Err(server.failed(&problem)),
    };
    let query = [("subject", id.clone()), ("limit", "1000".to_owned())];
    let list = server.get("/v1/instances", &query)?;
    let rows: Vec<&Value> = list["data"].as_array().into_iter().flatten().collect();
    match of_machines(&rows)[..] {
        [] => Err(server.failed(&problem)),
        [only] => Ok(only.clone()),
        ref several => {
            let told = several.iter().map(|row| {
                let [id, machine, state] = ["id", "machine", "state"].map(|name| text(&row[name]));
                format!("\n  {id}  {machine}, in {state}")
            });
            let told: String = told.collect();
            Err(Failure(format!(
                "`{id}` has sessions of {} machines; show one by its id:{told}",
                several.len()
            )))
        }
    }
}

/// Of each machine the one that is open, else the one that began last.
fn of_machines<'v>(rows: &[&'v Value]) -> Vec<&'v Value> {
    let mut found: Vec<&Value> = Vec::new();
    // As they are written, times of day are in order.
    let worth = |row: &Value| (row["closure_reason"].is_null(), text(&row["created_at"]));
    for row in rows {
        match found.iter_mut().find(|other| other["machine"] == row["machine"]) {
            None => found.push(row),
            Some(other) if worth(row) > worth(other) => *other = row,
            Some(_) => {}
        }
    }
    found
}

/// The entries, one line each, with what more there is to say of it.
fn lines(entries: &[&Value]) -> Vec<(String, Option<String>)> {
    let column = |cell: fn(&Value) -> String| {
        let widths = entries.iter().map(|entry| cell(entry).chars().count());
        widths.filter(|width| *width <= COLUMN_CHARS_MAX).max().unwrap_or_default()
    };
    let event = column(|entry| text(&entry["event"]));
    let line = |entry: &&Value| {
        let mark = if entry["success"] == json!(true) { " " } else { "x" };
        let line = format!(
            "{mark} {:>4}  {}  {:event$}  {}",
            text(&entry["revision"]),
            text(&entry["at"]),
            text(&entry["event"]),
            way(entry)
        );
        (line, details(entry))
    };
    entries.iter().map(line).collect()
}

fn way(entry: &Value) -> String {
    match (text(&entry["from"]), text(&entry["to"])) {
        (from, to) if from == to => to,
        (from, to) if from.is_empty() => format!("-> {to}"),
        (from, to) => format!("{from} -> {to}"),
    }
}

/// What came, what was made of it, and what it came to.
fn details(entry: &Value) -> Option<String> {
    let mut told = Vec::new();
    if let Some(said) = entry["text"].as_str() {
        told.push(format!("\"{}\"", shortened(said)));
    }
    if let Some(token) = entry["payload"].as_str() {
        told.push(format!("button {token}"));
    }
    let cause = &entry["cause"];
    if let Some(option) = cause["answer"]["option"].as_str() {
        told.push(format!("answered {option}"));
    }
    if let Some(deadline) = cause["timer"]["deadline"].as_str() {
        told.push(format!("due at {deadline}"));
    }
    if entry["error"].is_object() {
        told.push(format!("brought the error {}", error(&entry["error"])));
    }
    if entry["result"].is_object() {
        told.push(format!("brought {}", shortened(&entry["result"].to_string())));
    }
    let why = &entry["why"];
    if let Some(rule) = why["rule"].as_str() {
        let intent = text(&why["intent"]);
        told.push(format!("{rule} {intent}").trim_end().to_owned());
    }
    if let Some(failure) = entry["advice_failure"].as_str() {
        told.push(format!("not advised by {failure}"));
    }
    match (text(&entry["code"]), text(&entry["reason"])) {
        (code, reason) if code.is_empty() && reason.is_empty() => {}
        (code, reason) if code.is_empty() => told.push(line(&reason)),
        // Which guard said no, and why, is what somebody looks here for: all of it.
        (code, reason) => told.push(format!("{code}: {}", line(&reason))),
    }
    if let Some(by) = entry["by"].as_str() {
        told.push(format!("by {by}"));
    }
    (!told.is_empty()).then(|| told.join("; "))
}

/// What a call says of its failure: the code and the message that machines go by, else all of it.
fn error(fields: &Value) -> String {
    match (text(&fields["code"]), text(&fields["message"])) {
        (code, message) if code.is_empty() && message.is_empty() => shortened(&fields.to_string()),
        (code, message) if message.is_empty() => code,
        (code, message) => format!("{code}: {}", shortened(&message)),
    }
}

/// On one line, and not all of what is long.
fn shortened(said: &str) -> String {
    let line = line(said);
    match line.char_indices().nth(TEXT_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

fn line(said: &str) -> String {
    said.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_a_line_and_what_more_there_is_another() {
        let long = "word ".repeat(30);
        for (entry, line, told) in [
            (
                json!({"revision": 1, "at": "T", "from": "idle", "to": "asked", "event": "go", "success": true,
                    "text": "go\non", "why": {"rule": "R11", "intent": "start"}}),
                "     1  T  go  idle -> asked",
                "\"go on\"; R11 start",
            ),
            (
                json!({"revision": 1, "at": "T", "from": "a", "to": "a", "event": "go", "success": false,
                    "payload": "p1.go", "code": "guard_rejected", "reason": "`x` is false", "by": "ada"}),
                "x    1  T  go  a",
                "button p1.go; guard_rejected: `x` is false; by ada",
            ),
            (
                json!({"revision": 2, "at": "T", "from": "", "to": "a", "event": "e", "success": true,
                    "cause": {"result": {"call": "i:1:0"}}, "error": {"code": "declined", "message": "no funds"}}),
                "     2  T  e  -> a",
                "brought the error declined: no funds",
            ),
            (
                json!({"revision": 2, "at": "T", "from": "a", "to": "b", "event": "e", "success": true,
                    "cause": {"timer": {"id": "after.2h", "deadline": "D"}}, "reason": "timeout"}),
                "     2  T  e  a -> b",
                "due at D; timeout",
            ),
            (
                json!({"revision": 3, "at": "T", "from": "a", "to": "a", "event": "e", "success": true, "text": long,
                    "result": {"jwt": "t"}, "advice_failure": "rasa: timeout", "why": {"rule": "R7"}}),
                "     3  T  e  a",
                &format!(
                    "\"{}…\"; brought {{\"jwt\":\"t\"}}; R7; not advised by rasa: timeout",
                    &long[..100]
                ),
            ),
        ] {
            assert_eq!(lines(&[&entry]), [(line.to_owned(), Some(told.to_owned()))]);
        }
        let entry = |event: &str| json!({"revision": 1, "at": "T", "from": "a", "to": "b", "event": event, "success": true});
        let (short, longer) = (entry("go"), entry("come_back"));
        let aligned = [
            ("     1  T  go         a -> b".to_owned(), None),
            ("     1  T  come_back  a -> b".to_owned(), None),
        ];
        assert_eq!(lines(&[&short, &longer]), aligned);
    }

    #[test]
    fn of_each_machine_the_open_session_counts_else_the_last() {
        let row = |id: &str, machine: &str, closed: bool, at: &str| {
            let reason = if closed { json!("timeout") } else { Value::Null };
            json!({"id": id, "machine": machine, "closure_reason": reason, "created_at": at})
        };
        let rows = [
            row("a", "m", true, "2026-03-02"),
            row("b", "m", false, "2026-03-01"),
            row("c", "n", true, "2026-03-01"),
            row("d", "n", true, "2026-03-02"),
        ];
        let found = of_machines(&rows.iter().collect::<Vec<_>>());
        let ids: Vec<String> = found.iter().map(|row| text(&row["id"])).collect();
        assert_eq!(ids, ["b", "d"]);
    }
}
