//! `flow ls`: flows, one a line; and how all of a list is had, page by page.

use std::process::ExitCode;

use clap::Args;
use clap::builder::PossibleValuesParser;
use kernel::flow::PhaseState;
use serde_json::{Value, json};

use crate::command::client::{ServerArgs, text};
use crate::command::flow::{percent, rows};
use crate::command::{CommandResult, Failure};

#[derive(Debug, Args)]
pub(super) struct LsArgs {
    /// Only those of this flow
    #[arg(long, value_name = "NAME")]
    flow: Option<String>,
    /// Only those of this status, such as active, failed or one of the flow's milestones
    #[arg(long)]
    status: Option<String>,
    /// Which phase --phase-state and --retries are about [default: any]
    #[arg(long, value_name = "NAME")]
    phase: Option<String>,
    /// Only those with a phase in this state
    #[arg(long, value_name = "STATE", value_parser = PossibleValuesParser::new(PhaseState::ALL.map(PhaseState::as_str)))]
    phase_state: Option<String>,
    /// Only those with a phase that was tried again so often
    #[arg(long, value_name = "NUMBER")]
    retries: Option<u32>,
    #[arg(long, default_value = "100")]
    limit: usize,
    #[command(flatten)]
    server: ServerArgs,
}

/// What one page of a list may have.
const PAGE: usize = 1000;

pub(super) fn ls(args: &LsArgs) -> CommandResult {
    let mut query = vec![("limit", args.limit.to_string())];
    let optional = [
        ("flow", args.flow.clone()),
        ("status", args.status.clone()),
        ("phase", args.phase.clone()),
        ("phase_state", args.phase_state.clone()),
        ("min_retries", args.retries.map(|retries| retries.to_string())),
    ];
    query.extend(optional.into_iter().filter_map(|(name, value)| Some((name, value?))));
    let list = args.server.get("/v1/flows", &query)?;
    if args.server.json {
        say!("{list}");
        return Ok(ExitCode::SUCCESS);
    }
    say!("{:36}  {:20}  {:18}  {:>8}  {:>8}  UPDATED", "ID", "FLOW", "STATUS", "PROGRESS", "REVISION");
    for row in rows(&list, "data") {
        say!(
            "{:36}  {:20}  {:18}  {:>8}  {:>8}  {}",
            text(&row["id"]),
            text(&row["flow"]),
            text(&row["status"]),
            percent(&row["progress"]),
            text(&row["revision"]),
            text(&row["updated_at"])
        );
    }
    if list["has_more"] == json!(true) {
        say!("… there are more; raise --limit");
    }
    Ok(ExitCode::SUCCESS)
}

/// Does `each` with every row of a list, and says at which page the list ended.
///
/// # Errors
/// What the server has refused, or `each`.
pub(super) fn all(
    server: &ServerArgs,
    path: &str,
    query: &[(&str, String)],
    from: Option<String>,
    mut each: impl FnMut(&Value) -> Result<(), Failure>,
) -> Result<Option<String>, Failure> {
    let mut page_at = from;
    loop {
        let mut query = query.to_vec();
        query.push(("limit", PAGE.to_string()));
        query.extend(page_at.clone().map(|cursor| ("cursor", cursor)));
        let page = server.get(path, &query)?;
        for row in rows(&page, "data") {
            each(row)?;
        }
        match page["next_cursor"].as_str() {
            Some(cursor) => page_at = Some(cursor.to_owned()),
            None => return Ok(page_at),
        }
    }
}
