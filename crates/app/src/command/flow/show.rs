//! `flow show` and `flow options`: where a flow stands, and what can be done about it.

use std::process::ExitCode;

use kernel::time::Timestamp;
use serde_json::Value;

use crate::command::CommandResult;
use crate::command::client::text;
use crate::command::flow::picture::{Frame, consequence, picture};
use crate::command::flow::{FlowId, rows, terminal};

pub(super) fn show(args: &FlowId) -> CommandResult {
    let view = args.server.get(&args.path(), &[])?;
    if args.server.json {
        say!("{view}");
        return Ok(ExitCode::SUCCESS);
    }
    // What is written into a file is cut nowhere.
    let width = if terminal::can_redraw() { terminal::size().0 } else { usize::MAX };
    let frame = Frame { width, rows: None, colour: terminal::wants_colour() };
    for line in picture(&view, now(), &frame) {
        say!("{line}");
    }
    say!();
    for name in ["version", "context", "parent", "closure", "created_at", "updated_at"] {
        if !view[name].is_null() {
            say!("{name:12} {}", text(&view[name]));
        }
    }
    if rows(&view, "recovery_options").next().is_some() {
        say!("\n`statewright flow options {}` lists what can be done now", args.id);
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn options(args: &FlowId) -> CommandResult {
    let options = args.server.get(&format!("{}/recovery-options", args.path()), &[])?;
    if args.server.json {
        say!("{options}");
        return Ok(ExitCode::SUCCESS);
    }
    let lines: Vec<String> = rows(&options, "data").map(|option| offer(&args.id, option)).collect();
    if lines.is_empty() {
        say!("nothing can be done: the flow is over");
    }
    for line in lines {
        say!("{line}");
    }
    Ok(ExitCode::SUCCESS)
}

/// What can be done, and the command that does it.
fn offer(id: &str, option: &Value) -> String {
    let action = text(&option["action"]);
    let command = match option["phase"].as_str() {
        Some(phase) => format!("flow do {id} {phase} {action}"),
        None => format!("flow {action} {id}"),
    };
    format!("{}{}\n    statewright {command}", text(&option["description"]), consequence(option))
}

/// The time here, which is near enough to that of the server.
pub(super) fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
