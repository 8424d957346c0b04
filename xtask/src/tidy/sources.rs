//! Checks on the text of source files: what the kernel may touch, what only tests may do, how files are named.
//!
//! Lengths are `ratchet`'s. Invariant: comments never break a rule, and strings only where the rule is about
//! what they say.

use std::path::Path;

use super::Violation;
use super::rust_source::{RustSource, contains_words};
use super::tree;

/// Names of the outside world, which the kernel's code does not say.
const KERNEL_FORBIDDEN: &[&str] =
    &["std::fs", "std::env", "std::net", "SystemTime", "Instant::now", "tokio", "async fn", "rand::"];

/// The parts of `std` that `use std::{...}` could bring in unseen.
const KERNEL_FORBIDDEN_PARTS: &[&str] = &["fs", "env", "net"];

/// Names that say that something is in a file, not what.
const NAMELESS: &[&str] = &["utils", "util", "common", "helpers", "helper", "manager", "types", "misc"];

/// Table of the files whose tests may sleep, each with the reason why nothing else will do.
const SLEEPERS: &[(&str, &str)] = &[];

/// What SQL says for a clock of its own, in lower case.
const STORED_CLOCKS: &[&str] = &["now()", "current_timestamp", "datetime('now'"];

/// The kernel's code outside tests names no file, environment, network, clock, randomness or async.
pub fn check_kernel_sources(root: &Path) -> Vec<Violation> {
    let mut violations = Vec::new();
    for source in tree::rust_files(root).iter().filter(|source| source.path.starts_with("crates/kernel/src/"))
    {
        for forbidden in KERNEL_FORBIDDEN {
            for line in outside_tests(source, &source.code, forbidden) {
                violations.push(kernel_violation(&source.path, line, forbidden));
            }
        }
        for (line, part) in grouped_imports(&source.code) {
            if !source.is_test_line(line) {
                violations.push(kernel_violation(&source.path, line, &format!("std::{part}")));
            }
        }
    }
    violations.sort();
    violations
}

fn kernel_violation(path: &str, line: usize, forbidden: &str) -> Violation {
    let remedy = "pass the value in as an argument, or move the code to the engine or the app";
    Violation::new(path, line, format!("the kernel names `{forbidden}`"), remedy)
}

/// The forbidden parts in each `std::{...}`, with the line where the group starts.
fn grouped_imports(code: &str) -> Vec<(usize, &'static str)> {
    let mut found = Vec::new();
    for (at, opening) in code.match_indices("std::{") {
        let line = code[..at].matches('\n').count() + 1;
        let mut depth = 1;
        let mut item = String::new();
        let mut items = Vec::new();
        for character in code[at + opening.len()..].chars() {
            match character {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 1 => items.push(std::mem::take(&mut item)),
                _ if depth == 1 => item.push(character),
                _ => {}
            }
            if depth == 0 {
                break;
            }
        }
        items.push(item);
        let firsts = items.iter().filter_map(|item| item.trim().split([':', ' ']).next());
        found.extend(
            firsts.filter_map(|first| {
                Some((line, *KERNEL_FORBIDDEN_PARTS.iter().find(|part| **part == first)?))
            }),
        );
    }
    found
}

/// Every Rust file opens with `//!`.
pub fn check_heads(root: &Path) -> Vec<Violation> {
    tree::rust_files(root)
        .iter()
        .filter(|source| !source.text.starts_with("//!"))
        .map(|source| {
            let remedy = "open it with `//!`: what it owns, what it deliberately does not, its invariant";
            Violation::new(&source.path, 1, "the file does not say what it is for", remedy)
        })
        .collect()
}

/// No module has a name that says nothing.
pub fn check_module_names(root: &Path) -> Vec<Violation> {
    let mut violations = Vec::new();
    let violation = |path: &str, line: usize, name: &str| {
        Violation::new(path, line, format!("a module is named `{name}`"), "name the noun that it owns")
    };
    for source in tree::rust_files(root) {
        for part in source.path.trim_end_matches(".rs").split('/').skip(1) {
            if NAMELESS.contains(&part) {
                violations.push(violation(&source.path, 1, part));
            }
        }
        for name in NAMELESS {
            // A `mod name;` has a file, which is found above.
            for (index, line) in source.code.lines().enumerate() {
                if contains_words(line, &format!("mod {name}")) && line.contains('{') {
                    violations.push(violation(&source.path, index + 1, name));
                }
            }
        }
    }
    violations
}

/// Code outside tests does not unwrap.
pub fn check_unwraps(root: &Path) -> Vec<Violation> {
    let mut violations = Vec::new();
    for source in tree::rust_files(root) {
        for line in outside_tests(&source, &source.code, ".unwrap()") {
            let remedy = "return the error, or `expect` with the reason why it cannot happen";
            violations.push(Violation::new(&source.path, line, "`unwrap()` outside tests", remedy));
        }
    }
    violations
}

/// No test is ignored and no code is left for later.
pub fn check_unfinished(root: &Path) -> Vec<Violation> {
    let marks = [
        ("#[ignore", "run the test or delete it; a slow one shortens itself under STATEWRIGHT_FAST"),
        ("todo!(", "finish it or leave it out"),
        ("unimplemented!(", "finish it or leave it out"),
    ];
    let mut violations = Vec::new();
    for source in tree::rust_files(root) {
        for (mark, remedy) in marks {
            for line in RustSource::lines_with(&source.code, mark) {
                violations.push(Violation::new(&source.path, line, format!("`{mark}`"), remedy));
            }
        }
    }
    violations.sort();
    violations
}

/// Tests do not sleep, except in the files that the table of sleepers lists.
pub fn check_sleeps(root: &Path) -> Vec<Violation> {
    sleeps(root, SLEEPERS)
}

fn sleeps(root: &Path, allowed: &[(&str, &str)]) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut needed = Vec::new();
    for source in tree::rust_files(root) {
        let lines = RustSource::lines_with(&source.code, "sleep(");
        let lines: Vec<usize> = lines.into_iter().filter(|line| source.is_test_line(*line)).collect();
        if let Some((path, _)) = allowed.iter().find(|(path, _)| *path == source.path) {
            if !lines.is_empty() {
                needed.push(*path);
            }
            continue;
        }
        for line in lines {
            let remedy = "use the virtual clock or wait for the event; otherwise add the file, with the reason, \
                          to SLEEPERS in xtask/src/tidy/sources.rs";
            violations.push(Violation::new(&source.path, line, "a test sleeps", remedy));
        }
    }
    for (path, _) in allowed.iter().filter(|(path, _)| !needed.contains(path)) {
        let what = format!("{path} does not sleep any more");
        violations.push(Violation::new("xtask/src/tidy/sources.rs", 1, what, "take it out of SLEEPERS"));
    }
    violations
}

/// SQL in the store's files and in its Rust strings takes the time as a parameter.
pub fn check_store_clock(root: &Path) -> Vec<Violation> {
    let mut texts: Vec<(String, String)> = tree::rust_files(root)
        .into_iter()
        .filter(|source| source.path.starts_with("crates/store/"))
        .map(|source| (source.path, source.literals))
        .collect();
    for path in tree::files(root, "crates/store", &["sql"]) {
        let text = tree::read(root, &path);
        let lines: Vec<&str> = text.lines().map(|line| line.split("--").next().unwrap_or_default()).collect();
        texts.push((path, lines.join("\n")));
    }
    let mut violations = Vec::new();
    for (path, text) in texts {
        for clock in STORED_CLOCKS {
            for line in RustSource::lines_with(&text.to_lowercase(), clock) {
                let remedy =
                    "pass the caller's `now` as a parameter, so that tests and replays decide the time";
                violations.push(Violation::new(&path, line, format!("a statement says `{clock}`"), remedy));
            }
        }
    }
    violations.sort();
    violations
}

fn outside_tests(source: &RustSource, view: &str, pattern: &str) -> Vec<usize> {
    RustSource::lines_with(view, pattern).into_iter().filter(|line| !source.is_test_line(*line)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tree::sample::{finds, with_tree};
    use super::*;

    #[test]
    fn outside_world_in_the_kernel_is_found() {
        let text = "//! std::fs is not for here.\nuse std::fs;\nuse std::{\n    collections::{env, X},\n    net,\n};\n\
                    let operand = operand::new(\"tokio\");\nasync fn a() { SystemTime::now() }\n\
                    #[cfg(test)]\nmod tests {\n    use std::fs;\n}\n";
        finds(
            check_kernel_sources,
            &[("crates/kernel/src/lib.rs", text), ("crates/engine/src/lib.rs", "use std::fs;\n")],
            &[
                "crates/kernel/src/lib.rs:2: the kernel names `std::fs`",
                "crates/kernel/src/lib.rs:3: the kernel names `std::net`",
                "crates/kernel/src/lib.rs:8: the kernel names `SystemTime`",
                "crates/kernel/src/lib.rs:8: the kernel names `async fn`",
            ],
        );
    }

    #[test]
    fn missing_heads_are_found() {
        finds(
            check_heads,
            &[
                ("crates/a/src/lib.rs", "//! Owns.\n"),
                ("crates/a/src/b.rs", "\n//! Late.\n"),
                ("xtask/src/c.rs", ""),
            ],
            &[
                "crates/a/src/b.rs:1: the file does not say what it is for",
                "xtask/src/c.rs:1: the file does not say what it is for",
            ],
        );
    }

    #[test]
    fn nameless_modules_are_found_as_files_directories_and_inline() {
        finds(
            check_module_names,
            &[
                ("crates/a/src/helpers/x.rs", ""),
                ("crates/a/src/lib.rs", "mod util {\n}\nmod utility {\n}\n// mod misc {\n"),
                ("crates/a/src/types.rs", ""),
                ("crates/a/tests/common/mod.rs", ""),
            ],
            &[
                "crates/a/src/helpers/x.rs:1: a module is named `helpers`",
                "crates/a/src/lib.rs:1: a module is named `util`",
                "crates/a/src/types.rs:1: a module is named `types`",
                "crates/a/tests/common/mod.rs:1: a module is named `common`",
            ],
        );
    }

    #[test]
    fn unwraps_outside_tests_are_found() {
        let text = "// a.unwrap()\na.unwrap();\na.unwrap_or(b);\n\"a.unwrap()\";\n#[cfg(test)]\nmod tests {\n    a.unwrap();\n}\n";
        finds(
            check_unwraps,
            &[("crates/a/src/lib.rs", text), ("crates/a/tests/b.rs", "a.unwrap();\n")],
            &["crates/a/src/lib.rs:2: `unwrap()` outside tests"],
        );
    }

    #[test]
    fn unfinished_code_and_ignored_tests_are_found_in_tests_too() {
        let text = "#[test]\n#[ignore = \"slow\"]\nfn b() {\n    todo!()\n}\nfn c() {\n    unimplemented!(\"x\") // todo!()\n}\n";
        finds(
            check_unfinished,
            &[("crates/a/tests/b.rs", text)],
            &[
                "crates/a/tests/b.rs:2: `#[ignore`",
                "crates/a/tests/b.rs:4: `todo!(`",
                "crates/a/tests/b.rs:7: `unimplemented!(`",
            ],
        );
    }

    #[test]
    fn sleeping_tests_are_found_unless_listed_with_a_reason() {
        let tree = [
            ("crates/a/src/lib.rs", "thread::sleep(x);\n#[test]\nfn b() {\n    thread::sleep(x);\n}\n"),
            ("crates/a/tests/slow.rs", "sleep(x);\n"),
        ];
        finds(
            check_sleeps,
            &tree,
            &["crates/a/src/lib.rs:4: a test sleeps", "crates/a/tests/slow.rs:1: a test sleeps"],
        );
        let allowed = [("crates/a/tests/slow.rs", "a reason"), ("crates/a/tests/gone.rs", "a reason")];
        let found: Vec<String> = with_tree(&tree, |root| sleeps(root, &allowed))
            .into_iter()
            .map(|violation| violation.what)
            .collect();
        assert_eq!(found, ["a test sleeps", "crates/a/tests/gone.rs does not sleep any more"]);
    }

    #[test]
    fn clocks_of_the_database_are_found_in_sql_and_in_strings() {
        finds(
            check_store_clock,
            &[
                (
                    "crates/store/src/a.rs",
                    "// NOW()\nlet now = Timestamp::now();\nrun(\"set at = NOW()\");\nrun(\"known()\");\n",
                ),
                (
                    "crates/store/src/b.sql",
                    "-- now()\nat text default CURRENT_TIMESTAMP,\nx = datetime('now', y)\n",
                ),
                ("crates/engine/src/lib.rs", "\"now()\"\n"),
            ],
            &[
                "crates/store/src/a.rs:3: a statement says `now()`",
                "crates/store/src/b.sql:2: a statement says `current_timestamp`",
                "crates/store/src/b.sql:3: a statement says `datetime('now'`",
            ],
        );
    }
}
