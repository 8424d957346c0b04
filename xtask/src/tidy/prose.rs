//! Checks that the paths which documents name exist.
//!
//! Owns reading inline code and links out of Markdown; fenced blocks are not prose and are left alone here.
//! Invariant: only what is certainly meant as a path of this repository is looked up.

use std::path::{Component, Path, PathBuf};

use super::Violation;
use super::tree;
use crate::fences;

/// The documents at the root. Those under `docs/` are all read.
const DOCUMENTS: &[&str] = &["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"];

/// How a path of this repository starts in inline code.
const STARTS: &[&str] = &["crates/", "docs/", "machines/", "xtask/", ".ci/"];

/// Paths in inline code and targets of relative links exist.
pub fn check_paths(root: &Path) -> Vec<Violation> {
    let mut documents: Vec<String> =
        DOCUMENTS.iter().filter(|path| root.join(path).is_file()).map(|path| (*path).to_owned()).collect();
    documents.extend(tree::files(root, "docs", &["md"]));
    let mut violations = Vec::new();
    for document in documents {
        let text = tree::read(root, &document);
        let fenced = fences::fenced_lines(&text);
        for (index, line) in text.lines().enumerate() {
            if fenced.get(index).copied().unwrap_or(false) {
                continue;
            }
            let (spans, prose) = code_spans(line);
            let directory = document.rsplit_once('/').map_or("", |(directory, _)| directory);
            let named =
                spans.iter().filter_map(|span| repository_path(span)).map(|path| (path, PathBuf::from(path)));
            let linked =
                link_targets(&prose).into_iter().filter_map(|target| relative_path(target, directory));
            let missing = named
                .chain(linked)
                // What lies outside the repository is not ours to say anything about, except that it is no place
                // to point at: it does not exist for a reader.
                .filter(|(_, path)| !normal(path).is_some_and(|path| root.join(path).exists()));
            for (shown, _) in missing {
                let what = format!("`{shown}` does not exist");
                violations.push(Violation::new(
                    &document,
                    index + 1,
                    what,
                    "name the path it has now, or say it otherwise",
                ));
            }
        }
    }
    violations
}

/// The inline code of a line, and the line with it blanked out.
fn code_spans(line: &str) -> (Vec<&str>, String) {
    let mut spans = Vec::new();
    let mut prose = String::new();
    let mut rest = line;
    while let Some(start) = rest.find('`') {
        let ticks = rest[start..].len() - rest[start..].trim_start_matches('`').len();
        let inside = &rest[start + ticks..];
        let Some(length) = closing(inside, ticks) else {
            break;
        };
        prose.push_str(&rest[..start]);
        prose.push_str("code");
        spans.push(inside[..length].trim());
        rest = &inside[length + ticks..];
    }
    prose.push_str(rest);
    (spans, prose)
}

/// Where the run of exactly `ticks` backticks starts that closes a span.
fn closing(inside: &str, ticks: usize) -> Option<usize> {
    let mut at = 0;
    while let Some(offset) = inside[at..].find('`') {
        let start = at + offset;
        let run = inside[start..].len() - inside[start..].trim_start_matches('`').len();
        if run == ticks {
            return Some(start);
        }
        at = start + run;
    }
    None
}

/// The path in a span of inline code, without a line number or the name of an item behind it.
fn repository_path(span: &str) -> Option<&str> {
    let is_path = STARTS.iter().any(|start| span.starts_with(start));
    let is_pattern = span.contains([' ', '{', '}', '*', '<', '>', '$', '…']) || span.contains("...");
    let path = span.split(':').next().unwrap_or(span);
    (is_path && !is_pattern).then_some(path)
}

/// The targets of inline links and of reference definitions.
fn link_targets(prose: &str) -> Vec<&str> {
    let mut targets: Vec<&str> =
        prose.split("](").skip(1).filter_map(|rest| rest.split([')', ' ']).next()).collect();
    if prose.starts_with('[')
        && let Some((_, target)) = prose.split_once("]: ")
    {
        targets.extend(target.split_whitespace().next());
    }
    targets
}

/// A relative target as written, and from the root.
fn relative_path<'a>(target: &'a str, directory: &str) -> Option<(&'a str, PathBuf)> {
    let shown = target.trim_matches(['<', '>']);
    let path = shown.split(['#', '?']).next().unwrap_or_default();
    let has_scheme = path.split('/').next().is_some_and(|first| first.contains(':'));
    if path.is_empty() || has_scheme || path.starts_with("//") {
        return None;
    }
    let path = path.strip_prefix('/').map_or_else(|| Path::new(directory).join(path), PathBuf::from);
    Some((shown, path))
}

/// The path without `.` and `..`; none where it leaves the repository.
fn normal(path: &Path) -> Option<PathBuf> {
    let mut normal = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(part) => normal.push(part),
            Component::CurDir => {}
            Component::ParentDir => {
                if !normal.pop() {
                    return None;
                }
            }
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(normal)
}

#[cfg(test)]
mod tests {
    use super::super::tree::sample::finds;
    use super::*;

    /// Checks one line of docs/guide.md in a tree with `docs/here.md` and `crates/a/src/lib.rs`.
    fn check(line: &str, missing: &[&str]) {
        let expected: Vec<String> =
            missing.iter().map(|path| format!("docs/guide.md:2: `{path}` does not exist")).collect();
        let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
        let document = format!("# Guide\n{line}\n");
        let tree = [("docs/guide.md", document.as_str()), ("docs/here.md", ""), ("crates/a/src/lib.rs", "")];
        finds(check_paths, &tree, &expected);
    }

    #[test]
    fn paths_in_inline_code_exist() {
        check("see `crates/a/src/lib.rs` and `crates/a/` and ``docs/here.md``", &[]);
        check("see `crates/a/src/lib.rs:12` and `crates/a/src/lib.rs::decide`", &[]);
        check("see `crates/b` and `machines/x.yaml`, `.ci/run`", &["crates/b", "machines/x.yaml", ".ci/run"]);
    }

    #[test]
    fn patterns_and_other_code_are_not_paths() {
        check(
            "`crates/{name}`, `docs/*.md`, `machines/<name>.yaml`, `docs/...`, `cat docs/none`, `target/x`",
            &[],
        );
        check("docs/none without code, and an open ` docs/none", &[]);
    }

    #[test]
    fn targets_of_relative_links_exist() {
        check("[a](here.md#part) [b](../crates/a) [c](/docs/here.md \"title\") ![d](./here.md)", &[]);
        check("[a](#part) [b](https://example.org/none.md) [c](mailto:a@example.org) `[d](none.md)`", &[]);
        check("[a](none.md) and [b](../../here.md)", &["none.md", "../../here.md"]);
        check("[a]: none.md", &["none.md"]);
    }

    #[test]
    fn fenced_blocks_are_not_prose() {
        check("```text\n`crates/none` [a](none.md)\n```", &[]);
    }

    #[test]
    fn documents_at_the_root_are_read_too() {
        finds(
            check_paths,
            &[
                ("README.md", "`docs/none.md`"),
                ("docs/deep/a.md", "[x](y.md)"),
                ("OTHER.md", "`docs/none.md`"),
            ],
            &["README.md:1: `docs/none.md` does not exist", "docs/deep/a.md:1: `y.md` does not exist"],
        );
    }
}
