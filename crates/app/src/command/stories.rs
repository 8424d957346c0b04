//! `test`: plays stories and says which of them did not go as they are told, and what none of them goes through.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use clap::Args;
use engine::story::{self, Coverage, Element, StoryResult, covered};
use kernel::definition;
use serde_json::{Value, json};

use crate::command::machine_files::{is_story_file, stories_of, story_files};
use crate::command::{CommandResult, Failure};

#[derive(Debug, Args)]
pub(crate) struct TestArgs {
    /// Files of stories, or folders of them
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// One JSON document instead of text
    #[arg(long)]
    json: bool,
    /// Say which states were not entered and which transitions not taken, by all files together
    #[arg(long)]
    coverage: bool,
}

pub(crate) fn test(args: &TestArgs) -> CommandResult {
    let started = Instant::now();
    let (mut passed, mut failed) = (0, 0);
    let mut files = Vec::new();
    let mut coverages: Vec<Coverage> = Vec::new();
    for path in &story_files_of(&args.files)? {
        let report = story::run(path).map_err(|error| Failure(error.to_string()))?;
        failed += report.failed().count();
        passed += report.stories.len() - report.failed().count();
        if !args.json {
            say!("{}", path.display());
            report.stories.iter().for_each(tell);
        }
        let stories: Vec<_> = report.stories.iter().map(as_json).collect();
        files.push(json!({"file": path, "stories": stories}));
        if !coverages.iter_mut().any(|coverage| coverage.add(&report.coverage)) {
            coverages.push(report.coverage);
        }
    }
    if args.json {
        let mut document = json!({"files": files, "passed": passed, "failed": failed});
        if args.coverage {
            document["coverage"] = coverages.iter().map(coverage_as_json).collect();
        }
        say!("{document}");
    } else {
        if args.coverage {
            coverages.iter().for_each(tell_coverage);
        }
        say!("{passed} stories passed, {failed} failed, in {} ms", started.elapsed().as_millis());
    }
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The files named, and those of the folders named.
fn story_files_of(paths: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    let mut files = Vec::new();
    for path in paths {
        if path.is_dir() {
            let found = story_files(path)?;
            if found.is_empty() {
                return Err(Failure(format!("there is no *.stories.yaml in {}", path.display())));
            }
            files.extend(found);
        } else if is_definition(path) {
            return Err(Failure(instead_of(path)));
        } else {
            files.push(path.clone());
        }
    }
    Ok(files)
}

/// Whether this is what stories are of, with or without errors. What cannot be read is for the reader to say.
fn is_definition(path: &Path) -> bool {
    let source = std::fs::read_to_string(path).unwrap_or_default();
    let has_states = || source.lines().any(|line| line.starts_with("states:"));
    !is_story_file(path) && (has_states() || definition::load(&source).0.is_some())
}

fn instead_of(definition: &Path) -> String {
    let stories = stories_of(definition);
    let (is, stands) = (definition.display(), stories.display());
    match stories.exists() {
        true => format!("{is} is a definition; its stories are in {stands}"),
        false => format!(
            "{is} is a definition, and it has no stories yet: `statewright paths {is} -o {stands}` writes some"
        ),
    }
}

fn tell(story: &StoryResult) {
    match &story.failure {
        None => say!("  ok    {} ({} steps)", story.name, story.steps),
        Some(failure) => {
            say!("  FAIL  {}", story.name);
            say!(
                "{}\n",
                failure.lines().map(|line| format!("        {line}\n")).collect::<String>().trim_end()
            );
        }
    }
}

fn as_json(story: &StoryResult) -> serde_json::Value {
    json!({"story": story.name, "line": story.line, "steps": story.steps, "failure": story.failure})
}

fn tell_coverage(coverage: &Coverage) {
    let Coverage { machine, definition, states, transitions, is_flow, .. } = coverage;
    let (places, entered, ways) = match is_flow {
        true => ("phases", "begun", "steps"),
        false => ("states", "entered", "transitions"),
    };
    say!(
        "{machine}: {} of {} {places} {entered}, {} of {} {ways} taken",
        covered(states),
        states.len(),
        covered(transitions),
        transitions.len()
    );
    for (what, elements) in [(entered, states), ("taken", transitions)] {
        for element in elements.iter().filter(|element| !element.covered) {
            say!("  {}:{}: never {what}: {}", definition.display(), element.place.line, element.label);
        }
    }
}

pub(crate) fn coverage_as_json(coverage: &Coverage) -> Value {
    let of = |elements: &[Element]| {
        let missing = elements.iter().filter(|element| !element.covered);
        let missing =
            missing.map(|e| json!({"label": e.label, "line": e.place.line, "column": e.place.column}));
        json!({
            "covered": covered(elements), "of": elements.len(), "missing": missing.collect::<Vec<_>>(),
        })
    };
    json!({
        "machine": coverage.machine,
        "definition": coverage.definition,
        "states": of(&coverage.states),
        "transitions": of(&coverage.transitions),
    })
}
