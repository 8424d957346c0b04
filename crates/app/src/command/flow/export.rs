//! `flow export`: flows as JSON lines, with one boolean a phase, for those who keep them so.

use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use crate::command::CommandResult;
use crate::command::client::{ServerArgs, text};
use crate::command::flow::{list, path_of, put};

#[derive(Debug, Args)]
pub(super) struct ExportArgs {
    /// The flow's name
    #[arg(long, value_name = "NAME")]
    flow: String,
    #[command(flatten)]
    server: ServerArgs,
}

pub(super) fn export(args: &ExportArgs) -> CommandResult {
    let server = &args.server;
    list::all(server, "/v1/flows", &[("flow", args.flow.clone())], None, |row| {
        let view = match server.try_get(&path_of(&text(&row["id"])), &[])? {
            Ok(view) => view,
            // It was cleaned up meanwhile.
            Err(problem) if problem["code"] == json!("not_found") => return Ok(()),
            Err(problem) => return Err(server.failed(&problem)),
        };
        let [id, status, progress, booleans] =
            ["id", "status", "progress", "booleans"].map(|name| &view[name]);
        put(json!({ "id": id, "status": status, "progress": progress, "booleans": booleans }))
    })?;
    Ok(ExitCode::SUCCESS)
}
