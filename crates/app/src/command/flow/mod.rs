//! `flow`: phased flows of a running server, begun, watched, moved on, brought in from old records and taken out.
//!
//! Owns the subcommands and what they have in common. What is possible with a phase is for the server to say.

mod act;
mod export;
mod history;
mod import;
pub(super) mod line;
mod list;
mod picture;
mod records;
mod show;
mod start;
pub(super) mod terminal;
mod watch;

use std::io::Write;

use clap::{Args, Subcommand};
use serde_json::{Map, Value};

use crate::command::client::ServerArgs;
use crate::command::{CommandResult, Failure};
use crate::outgoing::escaped;

#[derive(Debug, Args)]
pub(crate) struct FlowArgs {
    #[command(subcommand)]
    command: FlowCommand,
}

#[derive(Debug, Subcommand)]
enum FlowCommand {
    /// Begin a flow
    Start(start::StartArgs),
    /// Show where a flow stands, phase by phase
    Show(FlowId),
    /// Watch a flow until it is over: exit code 0 when it was completed, 3 when it was cancelled
    Watch(FlowId),
    /// List flows
    Ls(list::LsArgs),
    /// List what can be done to a flow now, and what would come of it
    Options(FlowId),
    /// Tell everything that happened to a flow: who, when, why, how long
    History(FlowId),
    /// Do something to a phase of a flow; with --dry-run, say what would come of it
    Do(act::DoArgs),
    /// Let nothing new begin in a flow, and stop its timers
    Pause(act::ControlArgs),
    /// Let a paused flow go on
    Resume(act::ControlArgs),
    /// End a flow for good
    Cancel(act::ControlArgs),
    /// Begin flows from old records that have one boolean a phase; run twice, nothing is imported twice
    Import(import::ImportArgs),
    /// Write flows as JSON lines, with one boolean a phase
    Export(export::ExportArgs),
}

/// A flow, and the server that has it.
#[derive(Debug, Args)]
struct FlowId {
    id: String,
    #[command(flatten)]
    server: ServerArgs,
}

impl FlowId {
    fn path(&self) -> String {
        path_of(&self.id)
    }
}

pub(crate) fn flow(args: &FlowArgs) -> CommandResult {
    match &args.command {
        FlowCommand::Start(args) => start::start(args),
        FlowCommand::Show(args) => show::show(args),
        FlowCommand::Watch(args) => watch::watch(args),
        FlowCommand::Ls(args) => list::ls(args),
        FlowCommand::Options(args) => show::options(args),
        FlowCommand::History(args) => history::history(args),
        FlowCommand::Do(args) => act::act(args),
        FlowCommand::Pause(args) => act::control(args, "pause"),
        FlowCommand::Resume(args) => act::control(args, "resume"),
        FlowCommand::Cancel(args) => act::control(args, "cancel"),
        FlowCommand::Import(args) => import::import(args),
        FlowCommand::Export(args) => export::export(args),
    }
}

fn path_of(id: &str) -> String {
    format!("/v1/flows/{}", escaped(id))
}

/// The object that an option gives: as JSON, or the name of a file that has it behind an `@`.
pub(super) fn object(option: &str, given: &str) -> Result<Map<String, Value>, Failure> {
    let text = match given.strip_prefix('@') {
        None => given.to_owned(),
        Some(file) => std::fs::read_to_string(file)
            .map_err(|error| Failure(format!("failed to read {file}, which {option} names: {error}")))?,
    };
    serde_json::from_str(&text)
        .map_err(|error| Failure(format!("{option} is no JSON object such as {{\"a\": 1}}: {error}")))
}

/// A share from 0 to 1 in percent, rounded down: what says 100% is done.
fn percent(share: &Value) -> String {
    // The smallest share that a float gets wrong on the way is far below this.
    let percent = share.as_f64().unwrap_or_default().clamp(0.0, 1.0).mul_add(100.0, 1e-9);
    format!("{}%", percent.floor())
}

/// Milliseconds, in their two largest units.
fn lasting(ms: i64) -> String {
    let seconds = ms.max(0) / 1000;
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{minutes}m{:02}s", seconds % 60),
        3600..86_400 => format!("{hours}h{:02}m", minutes % 60),
        _ => format!("{days}d{:02}h", hours % 24),
    }
}

/// Writes a line for whoever reads along. A command that goes on for long has to notice that nobody does any more.
fn put(line: impl std::fmt::Display) -> Result<(), Failure> {
    Ok(writeln!(std::io::stdout(), "{line}")?)
}

/// Rows of a list in an answer.
fn rows<'v>(answer: &'v Value, name: &str) -> impl Iterator<Item = &'v Value> {
    answer[name].as_array().into_iter().flatten()
}

/// `1 phase`, `2 phases`.
fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn figures_are_rounded_down_and_times_have_two_units() {
        for (share, told) in
            [(0.0, "0%"), (0.004, "0%"), (0.29, "29%"), (0.57, "57%"), (0.9999, "99%"), (1.0, "100%")]
        {
            assert_eq!(percent(&json!(share)), told);
        }
        for (ms, told) in [
            (-5, "0s"),
            (999, "0s"),
            (59_999, "59s"),
            (60_000, "1m00s"),
            (3_599_000, "59m59s"),
            (3_660_000, "1h01m"),
            (90_000_000, "1d01h"),
        ] {
            assert_eq!(lasting(ms), told);
        }
    }
}
