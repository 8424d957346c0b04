//! `import-definition` and `export-definition`: definitions from and to the JSON of XState.
//!
//! Owns files and output only; what becomes of what is for `kernel::xstate` to say. The result goes to standard output
//! or into a file, and what was not carried over to standard error.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use kernel::diagnostic::{Diagnostic, Severity};
use kernel::xstate::{self, Note, Unexported};
use serde::Serialize;

use crate::command::machine_files::read_source;
use crate::command::{CommandResult, Failure, output};

#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// A machine config of XState 5 or 6, as JSON
    file: PathBuf,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// A definition
    file: PathBuf,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Args)]
struct Output {
    /// Write the result into this file instead of standard output
    #[arg(short, long = "output", value_name = "FILE")]
    output: Option<PathBuf>,
    /// Replace the file if it is there
    #[arg(long, requires = "output")]
    force: bool,
    /// One JSON document with the result and the notes
    #[arg(long)]
    json: bool,
}

impl Output {
    fn check(&self, input: &Path) -> Result<(), Failure> {
        self.output.as_deref().map_or(Ok(()), |output| output::may_write(output, input, self.force))
    }
}

/// What `--json` says of an import; that of an export has the machine in the place of the definition.
#[derive(Serialize)]
struct ImportReport<'r> {
    definition: &'r str,
    notes: &'r [Note],
    /// What the definition still gets from `check`.
    diagnostics: &'r [Diagnostic],
}

#[derive(Serialize)]
struct ExportReport<'r> {
    machine: Option<&'r xstate::Json>,
    notes: &'r [Note],
    diagnostics: &'r [Diagnostic],
}

pub(crate) fn import(args: &ImportArgs) -> CommandResult {
    args.output.check(&args.file)?;
    let source = read_source(&args.file)?;
    let imported = xstate::import(&source)
        .map_err(|problem| Failure(format!("failed to import {}: {problem}", args.file.display())))?;
    let xstate::Imported { definition, notes, diagnostics } = imported;
    let report = ImportReport { definition: &definition, notes: &notes, diagnostics: &diagnostics };
    write(&args.output, &definition, &report)?;
    if !args.output.json {
        list(&args.file, &notes);
        let name = args.output.output.as_deref().map_or_else(|| "definition".into(), Path::to_string_lossy);
        show_errors(&diagnostics, &name, &definition);
    }
    Ok(if has_error(&diagnostics) { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

pub(crate) fn export(args: &ExportArgs) -> CommandResult {
    args.output.check(&args.file)?;
    let source = read_source(&args.file)?;
    match xstate::export(&source) {
        Ok(xstate::Exported { machine, notes }) => {
            let report = ExportReport { machine: Some(&machine), notes: &notes, diagnostics: &[] };
            write(&args.output, &machine.to_text(), &report)?;
            if !args.output.json {
                list(&args.file, &notes);
            }
            Ok(ExitCode::SUCCESS)
        }
        Err(Unexported::Flow) => Err(Failure(format!(
            "failed to export {}: it is a flow, and XState has states, which a flow does not have",
            args.file.display()
        ))),
        Err(Unexported::Errors(diagnostics)) => {
            if args.output.json {
                let report = ExportReport { machine: None, notes: &[], diagnostics: &diagnostics };
                say!("{}", serde_json::to_string(&report)?);
            } else {
                show_errors(&diagnostics, &args.file.to_string_lossy(), &source);
            }
            Err(Failure(format!("failed to export {}: it has errors", args.file.display())))
        }
    }
}

fn write(to: &Output, text: &str, report: &impl Serialize) -> Result<(), Failure> {
    if let Some(path) = &to.output {
        output::write(path, text)?;
    }
    if to.json {
        say!("{}", serde_json::to_string(report)?);
    } else if to.output.is_none() {
        say!("{}", text.trim_end());
    }
    Ok(())
}

fn list(file: &Path, notes: &[Note]) {
    for note in notes {
        eprintln!("{}:{note}", file.display());
    }
    if !notes.is_empty() {
        eprintln!("{} note(s)", notes.len());
    }
}

fn show_errors(diagnostics: &[Diagnostic], name: &str, source: &str) {
    for diagnostic in diagnostics.iter().filter(|diagnostic| diagnostic.severity == Severity::Error) {
        eprintln!("{}\n", diagnostic.render(name, source));
    }
}

fn has_error(diagnostics: &[Diagnostic]) -> bool {
    diagnostics.iter().any(|diagnostic| diagnostic.severity == Severity::Error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(path: &Path) -> Output {
        Output { output: Some(path.to_owned()), force: false, json: false }
    }

    #[test]
    fn what_is_exported_into_a_file_imports_from_there() {
        let directory = tempfile::tempdir().unwrap();
        let [definition, machine, again] =
            ["m.yaml", "m.json", "again.yaml"].map(|name| directory.path().join(name));
        std::fs::write(&definition, "machine: m\ninitial: a\nstates: { a: { on: { go: b } }, b: {} }\n")
            .unwrap();

        let exported = export(&ExportArgs { file: definition, output: output(&machine) }).unwrap();
        let imported = import(&ImportArgs { file: machine, output: output(&again) }).unwrap();

        assert_eq!((exported, imported), (ExitCode::SUCCESS, ExitCode::SUCCESS));
        assert!(std::fs::read_to_string(again).unwrap().contains("go: b"));
    }

    #[test]
    fn a_file_that_is_there_is_not_written_over_unasked() {
        let directory = tempfile::tempdir().unwrap();
        let [definition, there] = ["m.yaml", "there.json"].map(|name| directory.path().join(name));
        std::fs::write(&definition, "machine: m\ninitial: a\nstates: { a: {} }\n").unwrap();
        std::fs::write(&there, "mine").unwrap();
        let export_to =
            |output: Output| export(&ExportArgs { file: definition.clone(), output }).map_err(|f| f.0);

        assert!(export_to(output(&there)).unwrap_err().contains("--force"));
        assert_eq!(std::fs::read_to_string(&there).unwrap(), "mine");
        assert!(export_to(Output { force: true, ..output(&there) }).is_ok());
        assert!(export_to(Output { force: true, ..output(&definition) }).unwrap_err().contains("itself"));
        assert!(import(&ImportArgs { file: there, output: output(&definition) }).is_err());
    }

    #[test]
    fn a_flow_is_not_exported() {
        let directory = tempfile::tempdir().unwrap();
        let [file, result] = ["flow.yaml", "result"].map(|name| directory.path().join(name));
        std::fs::write(&file, "flow: f\nphases: { a: {} }\n").unwrap();
        let Failure(problem) = export(&ExportArgs { file, output: output(&result) }).unwrap_err();
        assert!(problem.contains("is a flow") && !result.exists(), "{problem}");
    }

    #[test]
    fn what_cannot_be_used_is_a_failure_that_names_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("broken");
        std::fs::write(&file, "{\"machine\": 5}").unwrap();
        let result = directory.path().join("result");
        let imported = import(&ImportArgs { file: file.clone(), output: output(&result) }).unwrap_err();
        let exported = export(&ExportArgs { file, output: output(&result) }).unwrap_err();
        for Failure(problem) in [imported, exported] {
            assert!(problem.contains("broken"), "{problem}");
        }
        assert!(!result.exists());
    }
}
