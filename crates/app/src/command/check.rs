//! `check`: every diagnostic of the definitions and story files named, as a compiler prints them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use engine::story::{self, StoryFileError};
use kernel::definition;
use kernel::definition::overlay::{Part, load_over};
use kernel::diagnostic::{Diagnostic, Place, Severity};
use serde_json::{Value, json};

use crate::command::machine_files::{
    SAME_VERSION_HELP, Versions, definition_files, is_story_file, stories_of,
};
use crate::command::overlay_files::OverlayFile;
use crate::command::{CommandResult, Failure};

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// Definitions and story files, or folders of them
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// One JSON document instead of text
    #[arg(long)]
    json: bool,
}

/// What has been found so far, in all files.
#[derive(Default)]
struct Findings {
    errors: usize,
    warnings: usize,
    reports: Vec<Value>,
    versions: Versions,
}

pub(crate) fn check(args: &CheckArgs) -> CommandResult {
    let mut findings = Findings::default();
    let mut seen = BTreeSet::new();
    for asked in &args.files {
        let files = match asked.is_dir() {
            true => definition_files(asked),
            false => Ok(vec![asked.clone()]),
        };
        let files = match files {
            Ok(files) => files,
            Err(Failure(problem)) => {
                findings.unusable(asked, "unreadable", problem, "is the name right?", args.json);
                continue;
            }
        };
        if files.is_empty() && !args.json {
            say!("{}: nothing to check: there is no *.yaml, *.yml or *.json in it", asked.display());
        }
        for path in files {
            if !seen.insert(path.canonicalize().unwrap_or_else(|_| path.clone())) {
                continue;
            }
            let is_sound = findings.file(&path, args.json);
            let stories = stories_of(&path);
            // Stories of a definition that does not load say nothing.
            if is_sound && asked.is_dir() && stories.exists() {
                findings.file(&stories, args.json);
            }
        }
    }
    let Findings { errors, warnings, reports, .. } = findings;
    if args.json {
        say!("{}", json!({"files": reports, "errors": errors, "warnings": warnings}));
    } else if errors + warnings > 0 {
        say!("{errors} error(s), {warnings} warning(s)");
    }
    Ok(if errors == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Findings {
    /// Whether the file is a definition that loads.
    fn file(&mut self, path: &Path, json: bool) -> bool {
        let source = match std::fs::read_to_string(path) {
            Ok(source) => source,
            Err(error) => {
                let help = "is the name right, and is it a text in UTF-8?";
                self.unusable(path, "unreadable", format!("the file cannot be read: {error}"), help, json);
                return false;
            }
        };
        if let Some(overlay) = OverlayFile::of(path, &source) {
            return self.overlay(&overlay, json);
        }
        let (machine, mut diagnostics) = match is_story_file(path) {
            false => definition::load(&source),
            true => match story::check(path, &source) {
                Ok(diagnostics) => (None, diagnostics),
                Err(error) => {
                    let code = match &error {
                        StoryFileError::Unreadable { .. } => "unreadable",
                        StoryFileError::Problems { .. } | StoryFileError::Flow { .. } => {
                            "unusable_definition"
                        }
                    };
                    let help = "the stories can be checked when the definition that they name is sound";
                    self.unusable(path, code, error.to_string(), help, json);
                    return false;
                }
            },
        };
        if let Some(Err(problem)) = machine.as_ref().map(|machine| self.versions.add(machine, path)) {
            let help = SAME_VERSION_HELP.to_owned();
            diagnostics.insert(0, Diagnostic::error("duplicate_version", Place::START, problem, help));
        }
        self.report(path, &diagnostics);
        if !json {
            let name = path.display().to_string();
            diagnostics.iter().for_each(|diagnostic| say!("{}\n", diagnostic.render(&name, &source)));
            if let Some(machine) = &machine {
                let size = match &machine.flow {
                    Some(flow) => counted(flow.phases.len(), "phase"),
                    None => counted(machine.chart.states.len() - 1, "state"),
                };
                say!("{name}: {} version {}, {size}", machine.name, machine.version);
            }
        }
        machine.is_some()
    }

    /// Whether an overlay loads over the definition beside it. What that one is told alone is not told again.
    fn overlay(&mut self, overlay: &OverlayFile, json: bool) -> bool {
        let path = &overlay.path;
        let base = match overlay.base_beside() {
            Ok(base) => base,
            Err(Failure(problem)) => {
                let help =
                    "an overlay stands in the folder of its base, and can be checked when that is sound";
                self.unusable(path, "unusable_definition", problem, help, json);
                return false;
            }
        };
        let (machine, mut diagnostics) = load_over(&base.machine.source, &overlay.text);
        let told = |d: &Diagnostic| base.diagnostics.iter().any(|b| (b.place, b.code) == (d.place, d.code));
        diagnostics.retain(|diagnostic| diagnostic.part == Some(Part::Overlay) || !told(diagnostic));
        self.report(path, &diagnostics);
        if !json {
            let shown = diagnostics.iter().map(|each| overlay.render(each, &base.path, &base.machine));
            shown.for_each(|lines| say!("{lines}\n"));
            if let Some(machine) = &machine {
                let whose = overlay.tenant.as_ref().map_or(String::new(), |tenant| format!(" for {tenant}"));
                let (file, over) = (path.display(), base.path.display());
                say!("{file}: {} version {}{whose}, over {over}", machine.name, machine.version);
            }
        }
        machine.is_some()
    }

    /// A file of which no line can be shown.
    fn unusable(&mut self, path: &Path, code: &'static str, message: String, help: &str, json: bool) {
        if !json {
            say!("error[{code}]: {message}\n --> {}\n  = help: {help}\n", path.display());
        }
        self.report(path, &[Diagnostic::error(code, Place::START, message, help.to_owned())]);
    }

    fn report(&mut self, path: &Path, diagnostics: &[Diagnostic]) {
        let errors = diagnostics.iter().filter(|d| d.severity == Severity::Error).count();
        self.errors += errors;
        self.warnings += diagnostics.len() - errors;
        // A name need not be UTF-8, as JSON is.
        let file = path.to_string_lossy();
        self.reports.push(json!({"file": file, "valid": errors == 0, "diagnostics": diagnostics}));
    }
}

/// `1 phase`, `6 phases`.
fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}
