//! `story`: a session of a running server as a story file.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use crate::command::client::ServerArgs;
use crate::command::{CommandResult, Failure, output};
use crate::outgoing::escaped;

#[derive(Debug, Args)]
pub(crate) struct StoryArgs {
    /// The session's id, as `ls` and `send --json` show it
    session: String,
    /// Write the story into this file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Replace the file if it is there
    #[arg(long, requires = "output")]
    force: bool,
    /// The definition's file, as seen from where the story will stand [default: <machine>.yaml]
    #[arg(long, value_name = "FILE")]
    machine: Option<String>,
    #[command(flatten)]
    server: ServerArgs,
}

pub(crate) fn story(args: &StoryArgs) -> CommandResult {
    if let Some(path) = &args.output
        && path.is_file()
        && !args.force
    {
        let name = path.display();
        return Err(Failure(format!("{name} is there already; choose another name, or add --force")));
    }
    let query: Vec<(&str, String)> = args.machine.iter().map(|name| ("machine", name.clone())).collect();
    let path = format!("/v1/instances/{}/story", escaped(&args.session));
    let text = args.server.get_text(&path, &query)?;
    match &args.output {
        Some(path) => output::write(path, &text)?,
        None if args.server.json => say!("{}", json!({"story": text})),
        None => say!("{}", text.trim_end()),
    }
    Ok(ExitCode::SUCCESS)
}
