//! `flow start`: a flow begins.

use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use crate::command::CommandResult;
use crate::command::client::{ServerArgs, text};
use crate::command::flow::act::tell_moves;
use crate::command::flow::{object, percent};
use crate::telemetry::fresh_trace_id;

#[derive(Debug, Args)]
pub(super) struct StartArgs {
    /// The flow's name, as its definition has it
    flow: String,
    /// The id of what is begun [default: one that the server makes]
    #[arg(long)]
    id: Option<String>,
    /// What is known at the beginning: a JSON object, or @FILE
    #[arg(long, value_name = "JSON")]
    context: Option<String>,
    /// Phases that are completed already, by their booleans: a JSON object, or @FILE
    #[arg(long, value_name = "JSON")]
    booleans: Option<String>,
    /// Who begins it
    #[arg(long)]
    by: Option<String>,
    /// Only say what would come of it
    #[arg(long)]
    dry_run: bool,
    /// The key of this input; a repeat of it gets the first answer [default: a fresh one]
    #[arg(long, conflicts_with = "dry_run")]
    key: Option<String>,
    #[command(flatten)]
    server: ServerArgs,
}

pub(super) fn start(args: &StartArgs) -> CommandResult {
    let key = args.key.clone().unwrap_or_else(fresh_trace_id);
    let mut body = json!({ "key": key, "flow": args.flow });
    for (name, value) in [("id", &args.id), ("by", &args.by)] {
        if let Some(value) = value {
            body[name] = json!(value);
        }
    }
    for (name, option, given) in
        [("context", "--context", &args.context), ("booleans", "--booleans", &args.booleans)]
    {
        if let Some(given) = given {
            body[name] = json!(object(option, given)?);
        }
    }
    let path = if args.dry_run { "/v1/flows?dry_run=true" } else { "/v1/flows" };
    let answer = args.server.post(path, &body)?;
    if args.server.json {
        say!("{answer}");
        return Ok(ExitCode::SUCCESS);
    }
    let id = text(&answer["id"]);
    let is = if args.dry_run { "would be" } else { "is" };
    say!("{id} {is} {}, {}", text(&answer["status"]), percent(&answer["progress"]));
    tell_moves(&answer, "");
    if args.dry_run {
        return Ok(ExitCode::SUCCESS);
    }
    say!("`statewright flow watch {id}` shows how it goes on");
    Ok(ExitCode::SUCCESS)
}
