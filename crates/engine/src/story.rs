//! Stories: tests beside a definition, told as what people say and when, and run against the real engine.
//!
//! A story file names a machine and tells stories of it. Each is played alone, over a store of its own and a clock that
//! moves only when the story says so; it begins at 2026-01-05T09:00:00Z. `file` says what may be written, `stage`
//! carries a step out, `expect` compares, `coverage` says what was gone through, `paths` finds stories to begin with,
//! and `session` tells one that was lived. Nothing is printed here: the report is for whoever asked.
//!
//! ```yaml
//! machine: progress_update.yaml          # beside the story file
//! stories:
//!   - story: a silent session is closed
//!     given: { state: collecting_data, topic: update, context: { task_id: T1 } }
//!     steps:
//!       - send: the wall is dry            # or { text, media, payload, candidates, parameters, locale, quoted, key }
//!         expect: { outcome: dispatched, rule: R7, reply: and a comment }
//!       - { event: confirm, payload: {}, expect: { refused: invalid_transition } }
//!       - { button: 1, expect: { state: confirmation_pending } }
//!       - { after: 1h, restart: true }     # the server is away for an hour
//!       - { at: 3h, expect: { state: abandoned, closure_reason: timeout, effects: long silence } }
//! ```
//!
//! The steps of a flow are events such as `{ event: design.approve, payload: { reason: … }, by: ana }`, and what comes of
//! them is expected as `{ status: planning, phases: { design: completed }, progress: 0.43, moved: [design -> completed] }`.

mod coverage;
mod expect;
mod file;
mod names;
pub mod paths;
mod phases;
mod session;
mod stage;
mod write;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kernel::definition;
use kernel::diagnostic::{Diagnostic, Severity};
use kernel::machine::Machine;

pub use coverage::{Coverage, Element, covered};
pub use session::{SessionStoryError, of_session};

/// How the stories of one file went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoryReport {
    pub stories: Vec<StoryResult>,
    /// What all of them together went through, the failed ones as far as they got.
    pub coverage: Coverage,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoryResult {
    pub name: String,
    /// Where the story begins in its file.
    pub line: u32,
    /// What was not as expected, at the first step that failed; the place of that step first.
    pub failure: Option<String>,
    /// How many steps were carried out, the failing one among them.
    pub steps: usize,
}

impl StoryReport {
    pub fn failed(&self) -> impl Iterator<Item = &StoryResult> {
        self.stories.iter().filter(|s| s.failure.is_some())
    }
}

/// Why no story of a file could be played.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoryFileError {
    /// The file, or the definition that it names, could not be read.
    Unreadable { path: PathBuf, detail: String },
    /// Something is wrong in the file or in the definition; each problem is written out with its lines.
    Problems { path: PathBuf, rendered: Vec<String> },
    /// The definition is of a flow, which has no states to walk through.
    Flow { path: PathBuf },
}

impl fmt::Display for StoryFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { path, detail } => {
                write!(f, "failed to read {}: {detail}", path.display())
            }
            Self::Flow { path } => write!(
                f,
                "{} is a flow; paths are searched for machines with states, and what can be done to a phase is the same in every flow",
                path.display()
            ),
            Self::Problems { path, rendered } => write!(
                f,
                "{} has {} problem(s):\n\n{}",
                path.display(),
                rendered.len(),
                rendered.join("\n\n")
            ),
        }
    }
}

impl std::error::Error for StoryFileError {}

/// Plays every story of a file.
///
/// # Errors
/// When the file or its definition cannot be read, or has errors. Stories that fail are no error: the report says so.
pub fn run(path: &Path) -> Result<StoryReport, StoryFileError> {
    let source = read(path)?;
    let (found, diagnostics) = read_stories(path, &source)?;
    let Some(Stories { file, machine, definition: definition_path }) = found else {
        return Err(problems(path, &source, &diagnostics));
    };
    let mut walk = coverage::Walk::default();
    let mut play = |story: &file::Story| {
        let played = stage::play(&machine, story);
        walk.add(&played.walk);
        StoryResult {
            name: story.name.clone(),
            line: story.place.line,
            failure: played.failure.map(|(place, told)| format!("{}:{}: {told}", path.display(), place.line)),
            steps: played.steps,
        }
    };
    let stories = file.stories.iter().map(&mut play).collect();
    Ok(StoryReport { stories, coverage: Coverage::new(&machine, &definition_path, &walk) })
}

/// What is wrong with the stories of a file, without playing them.
///
/// # Errors
/// When the file, or the definition that it names, cannot be read, or the definition has errors.
pub fn check(path: &Path, source: &str) -> Result<Vec<Diagnostic>, StoryFileError> {
    read_stories(path, source).map(|(_, diagnostics)| diagnostics)
}

/// A story file in which nothing is wrong, with its machine.
struct Stories {
    file: file::StoryFile,
    machine: Arc<Machine>,
    definition: PathBuf,
}

fn read_stories(path: &Path, source: &str) -> Result<(Option<Stories>, Vec<Diagnostic>), StoryFileError> {
    let mut diagnostics = Vec::new();
    let Some(file) = file::read(source, &mut diagnostics) else {
        return Ok((None, diagnostics));
    };
    let definition = path.parent().unwrap_or(Path::new("")).join(&file.machine);
    let machine = load(&definition)?;
    names::check(&file, &machine, &mut diagnostics);
    kernel::diagnostic::sort(&mut diagnostics);
    let sound = diagnostics.is_empty();
    Ok((sound.then_some(Stories { file, machine, definition }), diagnostics))
}

/// What the stories of a file leave in their stores.
#[cfg(test)]
pub(crate) fn stores_after(path: &Path) -> Vec<Arc<store::MemoryStore>> {
    let (found, _) = read_stories(path, &read(path).unwrap()).unwrap();
    let Stories { file, machine, .. } = found.unwrap();
    file.stories.iter().map(|story| stage::store_after(&machine, story)).collect()
}

/// A definition that may run.
fn load(path: &Path) -> Result<Arc<Machine>, StoryFileError> {
    let source = read(path)?;
    let (machine, mut found) = definition::load(&source);
    match machine {
        Some(machine) => Ok(Arc::new(machine)),
        None => {
            found.retain(|d| d.severity == Severity::Error);
            Err(problems(path, &source, &found))
        }
    }
}

fn read(path: &Path) -> Result<String, StoryFileError> {
    std::fs::read_to_string(path)
        .map_err(|error| StoryFileError::Unreadable { path: path.to_owned(), detail: error.to_string() })
}

fn problems(path: &Path, source: &str, diagnostics: &[Diagnostic]) -> StoryFileError {
    let name = path.display().to_string();
    StoryFileError::Problems {
        path: path.to_owned(),
        rendered: diagnostics.iter().map(|d| d.render(&name, source)).collect(),
    }
}
