//! What is wrong, or doubtful, in a definition: each with a code, a place and a remedy.
//!
//! Owns the shape and how a diagnostic is printed. Who finds one is in `definition`.

pub mod catalogue;

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
use serde::{Deserialize, Serialize};

use crate::definition::overlay::Part;

/// A place in a source text: line and column from 1, in characters, and bytes from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Place {
    pub line: u32,
    pub column: u32,
    pub offset: u32,
    pub length: u32,
}

impl Place {
    /// Where a text begins; for what is wrong with all of it.
    pub const START: Place = Place { line: 1, column: 1, offset: 0, length: 0 };
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The definition cannot be loaded.
    Error,
    /// It loads, and may strand somebody.
    Warning,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// Stable, in snake case, such as `unknown_target`.
    pub code: &'static str,
    pub severity: Severity,
    pub message: String,
    pub line: u32,
    pub column: u32,
    /// What to do about it.
    pub help: String,
    /// Of a customised definition, which text the line is in, once somebody has said so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub part: Option<Part>,
    #[serde(skip)]
    pub place: Place,
}

impl Diagnostic {
    pub fn error(code: &'static str, place: Place, message: String, help: String) -> Self {
        let (line, column) = (place.line, place.column);
        Self { code, severity: Severity::Error, message, line, column, help, part: None, place }
    }

    pub fn warning(code: &'static str, place: Place, message: String, help: String) -> Self {
        Self { severity: Severity::Warning, ..Self::error(code, place, message, help) }
    }

    /// The diagnostic with the lines of `source` that it points at, as compilers print it, without colours.
    pub fn render(&self, path: &str, source: &str) -> String {
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let start = floor_boundary(source, self.place.offset as usize);
        let end = floor_boundary(source, start + (self.place.length as usize).max(1));
        let snippet = Snippet::source(source)
            .path(path)
            .line_start(1)
            .annotation(AnnotationKind::Primary.span(start..end.max(start)));
        let group = level
            .primary_title(&self.message)
            .id(self.code)
            .element(snippet)
            .element(Level::HELP.message(&self.help));
        Renderer::plain().render(&[group])
    }
}

fn floor_boundary(source: &str, mut offset: usize) -> usize {
    offset = offset.min(source.len());
    while !source.is_char_boundary(offset) {
        offset -= 1;
    }
    offset
}

/// Errors before warnings nowhere: diagnostics are told in the order of the file.
pub fn sort(diagnostics: &mut [Diagnostic]) {
    diagnostics.sort_by_key(|d| (d.place.line, d.place.column, d.severity));
}

/// Nobody reads on; what comes after is told when these are mended.
const TOLD_MAX: usize = 1_000;

/// Leaves out what is too much to tell, and says so at the end.
pub(crate) fn curtail(diagnostics: &mut Vec<Diagnostic>) {
    let found = diagnostics.len();
    if found <= TOLD_MAX {
        return;
    }
    // A warning is not worth an error that is left out.
    let errors = diagnostics.iter().filter(|d| d.severity == Severity::Error).count();
    if errors > 0 {
        diagnostics.retain(|d| d.severity == Severity::Error);
    }
    diagnostics.truncate(TOLD_MAX);
    let place = diagnostics.last().map_or(Place::START, |last| last.place);
    let message = format!("{} more problems are not told", found - diagnostics.len());
    let help = "mend those above first".to_owned();
    diagnostics.push(match errors {
        0 => Diagnostic::warning("too_many", place, message, help),
        _ => Diagnostic::error("too_many", place, message, help),
    });
}

/// Comparing two names takes the product of their lengths.
const GUESSED_CHARS_MAX: usize = 100;

/// A remedy that names the nearest of the known names, or all of them where they are few.
pub fn nearest<'a>(wrong: &str, known: impl Iterator<Item = &'a str> + Clone) -> String {
    let length = wrong.chars().count();
    let alike = |name: &&str| {
        let other = name.chars().count();
        length <= GUESSED_CHARS_MAX && length.abs_diff(other) <= 1 + other / 4
    };
    let close = known
        .clone()
        .filter(alike)
        .map(|name| (strsim::damerau_levenshtein(wrong, name), name))
        .filter(|(distance, name)| *distance <= 1 + name.chars().count() / 4)
        .min();
    if let Some((_, name)) = close {
        return format!("did you mean `{name}`?");
    }
    let mut names: Vec<&str> = known.collect();
    names.sort_unstable();
    names.dedup();
    match names.len() {
        0 => "none is declared here; declare it first".into(),
        1..=20 => format!("known here: {}", names.join(", ")),
        more => format!("known here: {}, … ({more} in all)", names[..12].join(", ")),
    }
}

/// What an author wrote, as much of it as a message can show.
pub(crate) fn shorten(text: &str) -> String {
    match text.char_indices().nth(100) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
