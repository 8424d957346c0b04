//! The style that a machine can check, and `cargo xtask tidy`, which prints every place that breaks it.
//!
//! Owns the list of checks and the claims about this repository; each check is a plain function from a root to
//! its violations, so that it runs on the repository and, in its tests, on a small tree that breaks it.
//! Invariant: a check reports all it finds, each with its place and what to do.

mod rust_source;
mod tree;

mod manifests;
mod ratchet;
mod sources;

mod prose;

use std::fmt;
use std::path::Path;

/// One place that breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Violation {
    /// Relative to the root, with forward slashes.
    path: String,
    /// From 1.
    line: usize,
    /// What is wrong there.
    what: String,
    /// What to do about it.
    remedy: String,
}

impl Violation {
    fn new(path: &str, line: usize, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, what: what.into(), remedy: remedy.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}: {}; {}", self.path, self.line, self.what, self.remedy)
    }
}

type Check = fn(&Path) -> Vec<Violation>;

/// Every check under the claim it makes about the repository.
const CHECKS: &[(&str, Check)] = &[
    ("dependencies point only downward", manifests::check_arrows),
    ("the kernel's manifest names nothing async or random", manifests::check_kernel_manifest),
    ("the project's own commands need only the standard library", manifests::check_own_commands),
    ("every crate inherits the workspace's lints", manifests::check_lints),
    ("the kernel's sources touch no outside world", sources::check_kernel_sources),
    ("every source file opens with its purpose", sources::check_heads),
    ("modules are named after their noun", sources::check_module_names),
    ("only tests unwrap", sources::check_unwraps),
    ("no test is ignored and nothing is left to do", sources::check_unfinished),
    ("tests do not sleep", sources::check_sleeps),
    ("stored statements take the time from the caller", sources::check_store_clock),
    ("files and functions stay short", ratchet::check_lengths),
    ("paths that documents name exist", prose::check_paths),
];

/// Prints every violation in the repository; true when there is none.
pub fn run(root: &Path, update_ratchet: bool) -> bool {
    if update_ratchet {
        match ratchet::update(root) {
            Ok(0) => println!("{} has nothing to lower", ratchet::TABLE),
            Ok(lowered) => println!("{}: {lowered} entries lowered or removed", ratchet::TABLE),
            Err(error) => {
                eprintln!("error: failed to update {}: {error}", ratchet::TABLE);
                return false;
            }
        }
    }
    let mut count = 0;
    for (claim, check) in CHECKS {
        let violations = check(root);
        count += violations.len();
        if !violations.is_empty() {
            println!("not so: {claim}");
            for violation in violations {
                println!("  {violation}");
            }
        }
    }
    match count {
        0 => println!("tidy: all {} claims hold", CHECKS.len()),
        _ => println!("tidy: {count} violations"),
    }
    count == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace;

    /// Asserts that the check holds for this repository.
    fn holds(check: Check) {
        let violations: Vec<String> = check(&workspace::root()).iter().map(ToString::to_string).collect();
        assert!(violations.is_empty(), "\n{}\n", violations.join("\n"));
    }

    #[test]
    fn dependencies_point_only_downward() {
        holds(manifests::check_arrows);
    }

    #[test]
    fn kernel_manifest_names_nothing_async_or_random() {
        holds(manifests::check_kernel_manifest);
    }

    #[test]
    fn own_commands_need_only_the_standard_library() {
        holds(manifests::check_own_commands);
    }

    #[test]
    fn every_crate_inherits_workspace_lints() {
        holds(manifests::check_lints);
    }

    #[test]
    fn kernel_sources_touch_no_outside_world() {
        holds(sources::check_kernel_sources);
    }

    #[test]
    fn every_source_file_opens_with_its_purpose() {
        holds(sources::check_heads);
    }

    #[test]
    fn modules_are_named_after_their_noun() {
        holds(sources::check_module_names);
    }

    #[test]
    fn only_tests_unwrap() {
        holds(sources::check_unwraps);
    }

    #[test]
    fn no_test_is_ignored_and_nothing_is_left_to_do() {
        holds(sources::check_unfinished);
    }

    #[test]
    fn tests_do_not_sleep() {
        holds(sources::check_sleeps);
    }

    #[test]
    fn stored_statements_take_the_time_from_the_caller() {
        holds(sources::check_store_clock);
    }

    #[test]
    fn files_and_functions_stay_short() {
        holds(ratchet::check_lengths);
    }

    #[test]
    fn paths_that_documents_name_exist() {
        holds(prose::check_paths);
    }
}
