//! Lengths of files and functions, held by a ratchet: what is over its limit is listed with its length, which
//! may shrink and never grow.
//!
//! Invariant: nothing here raises an entry or adds one; a person does that by hand, in a reviewed change.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use super::Violation;
use super::rust_source::RustSource;
use super::tree;

/// The table of what is over: `path limit` for a file, `path::function limit` for a function.
pub const TABLE: &str = "xtask/ratchet.txt";

/// Before its tests, a longer file holds more than one thing to understand.
const FILE_LINES_MAX: usize = 600;

/// A function that fits one screen is read without scrolling.
const FUNCTION_LINES_MAX: usize = 70;

/// The line of a file's head that says that the file is a table, which is pleasant at any length.
const TABLE_MARK: &str = "//! Table:";

/// Files and functions are within their limits, or within their entry of the ratchet.
pub fn check_lengths(root: &Path) -> Vec<Violation> {
    let measured = measure(root);
    let text = tree::read(root, TABLE);
    let mut violations = Vec::new();
    let mut entries: BTreeMap<&str, usize> = BTreeMap::new();
    for (index, line) in text.lines().enumerate() {
        match entry(line) {
            Line::Blank => {}
            Line::Malformed => {
                violations.push(Violation::new(
                    TABLE,
                    index + 1,
                    "the line is no entry",
                    "write `path[::function] limit`",
                ));
            }
            Line::Entry { name, limit } => {
                entries.insert(name, limit);
                let length = measured.get(name).map(|length| length.lines);
                if let Some((what, remedy)) = slack(name, limit, length) {
                    violations.push(Violation::new(TABLE, index + 1, what, remedy));
                }
            }
        }
    }
    for (name, length) in &measured {
        let entry = entries.get(name.as_str()).copied();
        let limit = entry.unwrap_or(length.limit());
        if length.lines > limit.max(length.limit()) {
            let over = if entry.is_some() { "its entry in xtask/ratchet.txt" } else { "the limit" };
            let what = format!("{name} has {} lines, more than {over}, {limit}", length.lines);
            violations.push(Violation::new(&length.path, length.line, what, length.remedy()));
        }
    }
    violations
}

/// Lowers the entries to what is measured and drops those not needed any more; returns how many changed.
pub fn update(root: &Path) -> io::Result<usize> {
    let text = fs::read_to_string(root.join(TABLE))?;
    let (updated, changed) = lowered(&text, &measure(root));
    if changed > 0 {
        fs::write(root.join(TABLE), updated)?;
    }
    Ok(changed)
}

fn lowered(text: &str, measured: &BTreeMap<String, Length>) -> (String, usize) {
    let mut updated = String::new();
    let mut changed = 0;
    for line in text.lines() {
        if let Line::Entry { name, limit } = entry(line) {
            let length = measured.get(name).map(|length| length.lines);
            if slack(name, limit, length).is_some() {
                changed += 1;
                let still_over =
                    length.filter(|lines| measured.get(name).is_some_and(|length| *lines > length.limit()));
                if let Some(lines) = still_over {
                    updated.push_str(&format!("{name} {lines}\n"));
                }
                continue;
            }
        }
        updated.push_str(line);
        updated.push('\n');
    }
    (updated, changed)
}

/// What is wrong with an entry that allows more than is needed.
fn slack(name: &str, limit: usize, length: Option<usize>) -> Option<(String, String)> {
    let limit_of_all = if name.contains("::") { FUNCTION_LINES_MAX } else { FILE_LINES_MAX };
    match length {
        None => Some((format!("{name} does not exist"), "remove the entry".to_owned())),
        Some(lines) if lines <= limit_of_all => {
            Some((format!("{name} is within the limit, with {lines} lines"), "remove the entry".to_owned()))
        }
        Some(lines) if lines < limit => Some((
            format!("{name} has shrunk to {lines} lines"),
            format!("lower its entry from {limit}: cargo xtask tidy --update-ratchet"),
        )),
        Some(_) => None,
    }
}

#[derive(Debug)]
enum Line<'a> {
    Blank,
    Malformed,
    Entry { name: &'a str, limit: usize },
}

fn entry(line: &str) -> Line<'_> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return Line::Blank;
    }
    let parsed = line.rsplit_once(' ').and_then(|(name, limit)| Some((name.trim(), limit.parse().ok()?)));
    parsed.map_or(Line::Malformed, |(name, limit)| Line::Entry { name, limit })
}

/// The length of a file or a function.
#[derive(Debug)]
struct Length {
    path: String,
    line: usize,
    lines: usize,
    is_function: bool,
}

impl Length {
    fn limit(&self) -> usize {
        if self.is_function { FUNCTION_LINES_MAX } else { FILE_LINES_MAX }
    }

    fn remedy(&self) -> &'static str {
        if self.is_function {
            "give a part of it a name of its own"
        } else {
            "move a noun into a file of its own, or mark a table with `//! Table:` in its head"
        }
    }
}

/// Every file and function by its name in the table. Functions of one name in one file count as their longest.
fn measure(root: &Path) -> BTreeMap<String, Length> {
    let mut measured: BTreeMap<String, Length> = BTreeMap::new();
    for source in tree::rust_files(root) {
        if !is_table(&source) {
            let lines = source.lines_before_tests();
            let length = Length { path: source.path.clone(), line: 1, lines, is_function: false };
            measured.insert(source.path.clone(), length);
        }
        for function in source.functions() {
            let name = format!("{}::{}", source.path, function.name);
            if measured.get(&name).is_none_or(|known| known.lines < function.length) {
                let path = source.path.clone();
                let length = Length { path, line: function.line, lines: function.length, is_function: true };
                measured.insert(name, length);
            }
        }
    }
    measured
}

fn is_table(source: &RustSource) -> bool {
    source.text.lines().take_while(|line| line.starts_with("//!")).any(|line| line.starts_with(TABLE_MARK))
}

#[cfg(test)]
mod tests {
    use super::super::tree::sample::{finds, with_tree};
    use super::*;

    fn function(name: &str, lines: usize) -> String {
        format!("fn {name}() {{\n{}}}\n", "    x();\n".repeat(lines - 2))
    }

    fn check(source: &str, table: &str, expected: &[&str]) {
        finds(check_lengths, &[("crates/a/src/lib.rs", source), (TABLE, table)], expected);
    }

    #[test]
    fn files_and_functions_at_their_limit_are_fine() {
        check(&"x\n".repeat(600), "", &[]);
        check(&function("f", 70), "", &[]);
        check(
            &format!("{}#[cfg(test)]\nmod tests {{\n{}}}\n", "x\n".repeat(600), "y\n".repeat(900)),
            "",
            &[],
        );
    }

    #[test]
    fn what_is_over_without_an_entry_is_found() {
        check(
            &"x\n".repeat(601),
            "",
            &["crates/a/src/lib.rs:1: crates/a/src/lib.rs has 601 lines, more than the limit, 600"],
        );
        check(
            &format!("\n{}", function("f", 71)),
            "",
            &["crates/a/src/lib.rs:2: crates/a/src/lib.rs::f has 71 lines, more than the limit, 70"],
        );
    }

    #[test]
    fn entries_hold_and_never_let_grow() {
        let table = "# A note.\n\ncrates/a/src/lib.rs::f 80\n";
        check(&function("f", 80), table, &[]);
        let grown = "crates/a/src/lib.rs:1: crates/a/src/lib.rs::f has 81 lines, more than its entry in xtask/ratchet.txt, 80";
        check(&function("f", 81), table, &[grown]);
    }

    #[test]
    fn entries_with_slack_are_to_be_lowered_or_removed() {
        let table = "crates/a/src/lib.rs::f 80\ncrates/a/src/gone.rs 700\nwhat\n";
        check(
            &function("f", 79),
            table,
            &[
                "xtask/ratchet.txt:1: crates/a/src/lib.rs::f has shrunk to 79 lines",
                "xtask/ratchet.txt:2: crates/a/src/gone.rs does not exist",
                "xtask/ratchet.txt:3: the line is no entry",
            ],
        );
        let within = "xtask/ratchet.txt:1: crates/a/src/lib.rs::f is within the limit, with 70 lines";
        check(&function("f", 70), "crates/a/src/lib.rs::f 80\n", &[within]);
    }

    #[test]
    fn tables_may_be_long_but_their_functions_may_not() {
        check(&format!("//! Owns.\n//! Table: of x.\n{}", "x\n".repeat(700)), "", &[]);
        let found = "crates/a/src/lib.rs:2: crates/a/src/lib.rs::f has 71 lines, more than the limit, 70";
        check(&format!("//! Table: of x.\n{}", function("f", 71)), "", &[found]);
    }

    #[test]
    fn update_lowers_and_removes_but_never_raises_or_adds() {
        let source =
            [function("shrunk", 75), function("grown", 99), function("new", 88), function("short", 9)]
                .concat();
        let table = "# A note.\n\
                     crates/a/src/lib.rs::shrunk 80\n\
                     crates/a/src/lib.rs::grown 80\n\
                     crates/a/src/lib.rs::short 80\n\
                     crates/a/src/lib.rs::gone 80\n";
        let (changed, text) = with_tree(&[("crates/a/src/lib.rs", &source), (TABLE, table)], |root| {
            let changed = update(root).unwrap();
            (changed, tree::read(root, TABLE))
        });
        assert_eq!(text, "# A note.\ncrates/a/src/lib.rs::shrunk 75\ncrates/a/src/lib.rs::grown 80\n");
        assert_eq!(changed, 3);
    }
}
