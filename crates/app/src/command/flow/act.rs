//! `flow do`, `flow pause`, `flow resume`, `flow cancel`: what is done to a phase or to a whole flow, and what would be.
//!
//! Owns how an answer reads. A preview is the server's own answer to the same request; nothing is worked out here.

use std::process::ExitCode;

use clap::Args;
use serde_json::{Map, Value, json};

use crate::command::CommandResult;
use crate::command::client::{ServerArgs, text};
use crate::command::flow::{counted, lasting, object, path_of, percent, rows};
use crate::outgoing::escaped;
use crate::telemetry::fresh_trace_id;

/// What people and workers do to a phase.
const ACTIONS: [&str; 11] = [
    "start",
    "heartbeat",
    "progress",
    "submit",
    "validate",
    "approve",
    "reject",
    "complete",
    "fail",
    "retry",
    "rollback",
];

#[derive(Debug, Args)]
pub(super) struct DoArgs {
    id: String,
    phase: String,
    #[arg(value_parser = ACTIONS)]
    action: String,
    /// For `fail`: what went wrong, such as EXTERNAL_SERVICE_ERROR; it decides whether the phase is tried again
    #[arg(long, value_name = "CODE")]
    error_code: Option<String>,
    /// For `fail`: what went wrong, in words
    #[arg(long, value_name = "TEXT", requires = "error_code")]
    error_message: Option<String>,
    /// For `progress` and `heartbeat`: how much of the phase is done, from 0 to 1
    #[arg(long, value_name = "SHARE")]
    progress: Option<f64>,
    /// For `submit` and `complete`: what the work has come to, a JSON object or @FILE
    #[arg(long, value_name = "JSON")]
    output: Option<String>,
    /// For workers: the lease under which the phase was taken
    #[arg(long, value_name = "TOKEN")]
    lease: Option<String>,
    /// For `heartbeat`: how long the lease is to last from now, such as 60s
    #[arg(long, value_name = "DELAY")]
    lasts: Option<String>,
    #[command(flatten)]
    said: SaidArgs,
}

#[derive(Debug, Args)]
pub(super) struct ControlArgs {
    id: String,
    #[command(flatten)]
    said: SaidArgs,
}

/// What may be said with everything that is done.
#[derive(Debug, Args)]
struct SaidArgs {
    /// Who does it
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
    /// Why
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Change nothing, and say what would come of it
    #[arg(long)]
    dry_run: bool,
    /// The key of this input; a repeat of it gets the first answer [default: a fresh one]
    #[arg(long)]
    key: Option<String>,
    #[command(flatten)]
    server: ServerArgs,
}

pub(super) fn act(args: &DoArgs) -> CommandResult {
    let mut body = body(&args.said);
    let mut put = |name: &str, value: Option<Value>| body.extend(value.map(|v| (name.to_owned(), v)));
    if let Some(code) = &args.error_code {
        let mut error = json!({ "code": code });
        if let Some(message) = &args.error_message {
            error["message"] = json!(message);
        }
        put("error", Some(error));
    }
    put("progress", args.progress.map(|share| json!(share)));
    put("lease", args.lease.as_ref().map(|lease| json!(lease)));
    put("lasts", args.lasts.as_ref().map(|lasts| json!(lasts)));
    if let Some(output) = &args.output {
        put("output", Some(json!(object("--output", output)?)));
    }
    let path = format!("{}/phases/{}/{}", path_of(&args.id), escaped(&args.phase), args.action);
    post(&args.said, &path, body, &format!("`{}` of `{}`", args.action, args.phase))
}

pub(super) fn control(args: &ControlArgs, control: &str) -> CommandResult {
    let path = format!("{}/{control}", path_of(&args.id));
    post(&args.said, &path, body(&args.said), &format!("`{control}`"))
}

fn body(said: &SaidArgs) -> Map<String, Value> {
    let mut body = Map::new();
    body.insert("key".into(), json!(said.key.clone().unwrap_or_else(fresh_trace_id)));
    for (name, value) in [("by", &said.by), ("reason", &said.reason)] {
        body.extend(value.as_ref().map(|value| (name.to_owned(), json!(value))));
    }
    body
}

fn post(said: &SaidArgs, path: &str, body: Map<String, Value>, what: &str) -> CommandResult {
    let query = if said.dry_run { "?dry_run=true" } else { "" };
    let answer = said.server.post(&format!("{path}{query}"), &Value::Object(body))?;
    if said.server.json {
        say!("{answer}");
        return Ok(ExitCode::SUCCESS);
    }
    let told = if said.dry_run { preview(&answer, what) } else { done(&answer) };
    for line in told {
        say!("{line}");
    }
    Ok(ExitCode::SUCCESS)
}

/// What was done, line by line.
fn done(answer: &Value) -> Vec<String> {
    let mut lines = moves(answer, "");
    let (before, after) = (percent(&answer["progress_before"]), percent(&answer["progress"]));
    let progress = if before == after { after } else { format!("{before} -> {after}") };
    lines.push(format!("the flow is {}, {progress}", text(&answer["status"])));
    if answer["lease"].is_object() {
        let lease = &answer["lease"];
        lines.push(format!("the lease {} holds until {}", text(&lease["lease"]), text(&lease["expires_at"])));
    }
    if answer["replayed"] == json!(true) {
        lines.push("(this key was used before: it was done then, and not once more)".to_owned());
    }
    lines
}

/// What would be done, in words.
fn preview(answer: &Value, what: &str) -> Vec<String> {
    let mut lines = vec![format!("{what} would be taken; nothing has been changed")];
    let reopened = reopened(answer);
    if !reopened.is_empty() {
        let begin = if reopened.len() == 1 { "begins" } else { "begin" };
        let phases = counted(reopened.len(), "phase");
        lines.push(format!("{phases} {begin} again: {}", reopened.join(", ")));
    }
    lines.extend(moves(answer, "  "));
    let (before, after) = (percent(&answer["progress_before"]), percent(&answer["progress"]));
    lines.push(match before == after {
        true => format!("progress stays at {after}"),
        false => format!("progress goes from {before} to {after}"),
    });
    lines.push(format!("the flow is then {}", text(&answer["status"])));
    lines
}

/// Phases whose work counts no more afterwards, in the order in which they are taken back.
fn reopened(answer: &Value) -> Vec<String> {
    let mut reopened: Vec<String> = Vec::new();
    for moved in rows(answer, "moved") {
        let (from, to) = (text(&moved["from"]), text(&moved["to"]));
        let phase = text(&moved["phase"]);
        if (to == "rolled_back" || from == "completed") && !reopened.contains(&phase) {
            reopened.push(phase);
        }
    }
    reopened
}

pub(super) fn tell_moves(answer: &Value, indent: &str) {
    for line in moves(answer, indent) {
        say!("{line}");
    }
}

/// Every step of every phase, one a line.
pub(super) fn moves(answer: &Value, indent: &str) -> Vec<String> {
    rows(answer, "moved").map(|moved| format!("{indent}{}", one_move(moved))).collect()
}

/// A step of a phase: from where to where, after how long, and about which error.
pub(super) fn one_move(moved: &Value) -> String {
    let [phase, from, to] = ["phase", "from", "to"].map(|name| text(&moved[name]));
    let lasted = match moved["lasted_ms"].as_i64() {
        Some(ms) if ms >= 1000 => format!(" after {}", lasting(ms)),
        _ => String::new(),
    };
    let attempt = match moved["attempt"].as_u64() {
        Some(attempt) if attempt > 1 => format!(", attempt {attempt}"),
        _ => String::new(),
    };
    format!("{phase}: {from} -> {to}{lasted}{attempt}{}", error_of(moved))
}

/// What went wrong, behind a colon, if anything did.
pub(super) fn error_of(of: &Value) -> String {
    match (text(&of["error"]["code"]), text(&of["error"]["message"])) {
        (code, _) if code.is_empty() => String::new(),
        (code, message) if message.is_empty() => format!(": {code}"),
        (code, message) => format!(": {code}: {message}"),
    }
}
