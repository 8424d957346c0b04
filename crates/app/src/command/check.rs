//! `check`: every diagnostic of the definitions named, as a compiler prints them.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use kernel::definition;
use kernel::diagnostic::Severity;
use serde_json::json;

use crate::command::{CommandResult, definition_files, read_source};

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// Definitions, or folders of them
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// One JSON document instead of text
    #[arg(long)]
    json: bool,
}

pub(crate) fn check(args: &CheckArgs) -> CommandResult {
    let mut files = Vec::new();
    for path in &args.files {
        if path.is_dir() { files.extend(definition_files(path)?) } else { files.push(path.clone()) }
    }
    let (mut errors, mut warnings) = (0, 0);
    let mut reports = Vec::new();
    for path in &files {
        let source = read_source(path)?;
        let (machine, diagnostics) = definition::load(&source);
        for diagnostic in &diagnostics {
            match diagnostic.severity {
                Severity::Error => errors += 1,
                Severity::Warning => warnings += 1,
            }
            if !args.json {
                say!("{}\n", diagnostic.render(&path.display().to_string(), &source));
            }
        }
        if let (Some(machine), false) = (&machine, args.json) {
            let states = machine.chart.states.len() - 1;
            say!("{}: {} version {}, {states} states", path.display(), machine.name, machine.version);
        }
        reports.push(json!({"file": path, "valid": machine.is_some(), "diagnostics": diagnostics}));
    }
    if args.json {
        say!("{}", json!({"files": reports, "errors": errors, "warnings": warnings}));
    } else if errors + warnings > 0 {
        say!("{errors} error(s), {warnings} warning(s)");
    }
    Ok(if errors == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
