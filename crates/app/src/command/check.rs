//! `check`: every diagnostic of the definitions and story files named, as a compiler prints them.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use engine::story;
use kernel::definition;
use kernel::diagnostic::Severity;
use serde_json::json;

use crate::command::{CommandResult, Failure, definition_files, read_source};

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// Definitions and story files, or folders of them
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// One JSON document instead of text
    #[arg(long)]
    json: bool,
}

fn is_story_file(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().contains(".stories."))
}

pub(crate) fn check(args: &CheckArgs) -> CommandResult {
    let mut files = Vec::new();
    for path in &args.files {
        if path.is_dir() { files.extend(definition_files(path)?) } else { files.push(path.clone()) }
    }
    files.reverse();
    let (mut errors, mut warnings) = (0, 0);
    let mut reports = Vec::new();
    while let Some(path) = files.pop() {
        let source = read_source(&path)?;
        let (machine, diagnostics) = match is_story_file(&path) {
            true => (None, story::check(&path, &source).map_err(|error| Failure(error.to_string()))?),
            false => definition::load(&source),
        };
        let valid = diagnostics.iter().all(|d| d.severity == Severity::Warning);
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
        // Stories of a definition that does not load say nothing.
        let stories = path.with_extension("stories.yaml");
        if machine.is_some() && args.files.iter().any(|asked| asked.is_dir() && path.starts_with(asked)) {
            files.extend(stories.exists().then_some(stories));
        }
        reports.push(json!({"file": path, "valid": valid, "diagnostics": diagnostics}));
    }
    if args.json {
        say!("{}", json!({"files": reports, "errors": errors, "warnings": warnings}));
    } else if errors + warnings > 0 {
        say!("{errors} error(s), {warnings} warning(s)");
    }
    Ok(if errors == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
