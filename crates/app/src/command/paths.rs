//! `paths`: a set of stories to begin with, found by search.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use engine::story::covered;
use engine::story::paths::{self, Act, Beginning, Bounds, FoundStory, Paths, Progress, Unreached};
use kernel::input::CallOutcome;
use serde_json::{Value, json};

use crate::command::stories::coverage_as_json;
use crate::command::{CommandResult, Failure, output};

/// Who waits longer than this wants to see that something happens.
const PATIENCE: Duration = Duration::from_secs(1);

#[derive(Debug, Args)]
pub(crate) struct PathsArgs {
    /// The definition
    file: PathBuf,
    /// Write the stories into this file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Replace the file if it is there
    #[arg(long, requires = "output")]
    force: bool,
    /// A story for every state and transition, also where another passes it on its way
    #[arg(long)]
    all: bool,
    /// One JSON document instead of YAML
    #[arg(long)]
    json: bool,
}

pub(crate) fn paths(args: &PathsArgs) -> CommandResult {
    if let Some(path) = &args.output {
        output::may_write(path, &args.file, args.force)?;
    }
    let mut show = Ticker { began: Instant::now(), told: Instant::now(), shown: false };
    let found = paths::find(&args.file, args.all, Bounds::default(), &mut |progress| show.tick(progress))
        .map_err(|error| Failure(error.to_string()))?;
    show.end();
    if let Some(path) = &args.output {
        output::write(path, &found.to_yaml(&machine_for(&args.file, path)))?;
    }
    match (&args.output, args.json) {
        (_, true) => say!("{}", as_json(&found)),
        (Some(output), false) => tell(&found, output),
        (None, false) => {
            let name = args.file.file_name().unwrap_or(args.file.as_os_str());
            say!("{}", found.to_yaml(&name.to_string_lossy()).trim_end());
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Says on a terminal how far a long search has come.
struct Ticker {
    began: Instant,
    told: Instant,
    shown: bool,
}

impl Ticker {
    fn tick(&mut self, progress: Progress) {
        let due = self.began.elapsed() > PATIENCE && self.told.elapsed() > PATIENCE / 4;
        if due && std::io::stderr().is_terminal() {
            let Progress { snapshots, decisions, found, of } = progress;
            let mut stderr = std::io::stderr();
            let _ = write!(
                stderr,
                "\r{found} of {of} found, {snapshots} snapshots, {decisions} decisions\u{1b}[K"
            );
            let _ = stderr.flush();
            self.told = Instant::now();
            self.shown = true;
        }
    }

    fn end(&self) {
        if self.shown {
            eprint!("\r\u{1b}[K");
        }
    }
}

/// The definition as seen from the folder of the story file.
fn machine_for(definition: &Path, stories: &Path) -> String {
    let folder = |path: &Path| match path.parent() {
        Some(parent) if parent != Path::new("") => parent.canonicalize().ok(),
        _ => Path::new(".").canonicalize().ok(),
    };
    let name = definition.file_name().unwrap_or(definition.as_os_str());
    let (Some(from), Some(to)) = (folder(stories), folder(definition)) else {
        return definition.to_string_lossy().into_owned();
    };
    let shared = from.components().zip(to.components()).take_while(|(a, b)| a == b).count();
    let up = from.components().skip(shared).map(|_| Path::new("..").to_path_buf());
    let down = to.components().skip(shared).map(|part| Path::new(part.as_os_str()).to_path_buf());
    let relative: PathBuf = up.chain(down).collect();
    relative.join(name).to_string_lossy().into_owned()
}

fn tell(found: &Paths, output: &Path) {
    let coverage = &found.coverage;
    say!(
        "{}: {} stories, {} of {} states, {} of {} transitions",
        output.display(),
        found.stories.len(),
        covered(&coverage.states),
        coverage.states.len(),
        covered(&coverage.transitions),
        coverage.transitions.len()
    );
    if let Some(bound) = &found.bound {
        say!("the search stopped at {bound}; there may be more");
    }
    for Unreached { label, line, why, .. } in &found.unreached {
        say!("  {}:{line}: not reached: {label}: {why}", coverage.definition.display());
    }
}

fn as_json(found: &Paths) -> Value {
    let unreached = found
        .unreached
        .iter()
        .map(|u| json!({"label": u.label, "line": u.line, "column": u.column, "why": u.why}));
    json!({
        "stories": found.stories.iter().map(story_as_json).collect::<Vec<_>>(),
        "coverage": coverage_as_json(&found.coverage),
        "unreached": unreached.collect::<Vec<_>>(),
        "snapshots": found.snapshots,
        "decisions": found.decisions,
        "bound": found.bound,
    })
}

/// In the shape of a story file.
fn story_as_json(story: &FoundStory) -> Value {
    let mut told = json!({"story": story.name});
    if let Beginning::Created(context) = &story.beginning {
        told["given"] = json!({"context": context});
    }
    let steps = story.steps.iter().map(|step| {
        let mut told = match &step.act {
            Act::Look => json!({}),
            Act::Send(message) => json!({"send": message}),
            Act::Event { event, payload } => json!({"event": event, "payload": payload}),
            Act::Wait(delay) => json!({"after": delay}),
            Act::Call { id, outcome: CallOutcome::Done(result) } => json!({"call": id, "result": result}),
            Act::Call { id, outcome: CallOutcome::Failed(error) } => json!({"call": id, "error": error}),
        };
        told["expect"] = json!({"state": step.state});
        told
    });
    told["steps"] = steps.collect();
    told
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    #[test]
    fn there_are_no_ways_through_a_flow() {
        let directory = tempfile::TempDir::new().unwrap();
        let file = directory.path().join("f.yaml");
        std::fs::write(&file, "flow: f\nphases: { a: {} }\n").unwrap();
        let args = PathsArgs { output: None, file, force: false, all: false, json: false };
        assert!(paths(&args).unwrap_err().0.contains("is a flow"));
    }

    #[test]
    fn stories_never_replace_the_definition_that_they_are_of() {
        let directory = tempfile::TempDir::new().unwrap();
        let file = directory.path().join("m.yaml");
        std::fs::write(&file, "machine: m\ninitial: a\nstates: { a: {} }\n").unwrap();
        let args = PathsArgs { output: Some(file.clone()), file, force: true, all: false, json: false };
        assert!(paths(&args).unwrap_err().0.contains("itself"));
    }

    #[test]
    fn a_story_file_names_its_definition_from_where_it_stands() {
        let directory = tempfile::TempDir::new().unwrap();
        let at = |path: &str| directory.path().join(path);
        std::fs::create_dir_all(at("machines")).unwrap();
        std::fs::create_dir_all(at("tests/stories")).unwrap();
        let cases = [
            ("machines/m.stories.yaml", "m.yaml"),
            ("m.stories.yaml", "machines/m.yaml"),
            ("tests/stories/m.stories.yaml", "../../machines/m.yaml"),
        ];
        for (stories, expected) in cases {
            assert_eq!(machine_for(&at("machines/m.yaml"), &at(stories)), expected, "{stories}");
        }
    }
}
