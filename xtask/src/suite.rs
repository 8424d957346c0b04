//! `cargo xtask test`: the steps, in order, up to the first that fails.
//!
//! Owns which steps there are, which of them run on database servers, and how each is repeated alone; what a step checks
//! is that step's own business.
//! Invariant: the plan is a pure function of what is asked and what is installed, so it is tested as text.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::documents;
use crate::servers::Servers;
use crate::workspace::{self, Profile};

/// Tells the tests to shorten their long campaigns.
const FAST_VARIABLE: (&str, &str) = ("STATEWRIGHT_FAST", "1");

/// The step that runs on the servers.
const TESTS: &str = "tests";

/// Runs the suite and says how it went; true when nothing failed.
pub fn run(root: &Path, fast: bool) -> bool {
    let release = workspace::binary(root, Profile::Release);
    let asked = Asked {
        fast,
        nextest_installed: nextest_installed(root),
        stories: stories(root),
        release_binary: release.strip_prefix(root).unwrap_or(&release).display().to_string(),
    };
    let mut passed = 0;
    let mut failed = 0;
    // They end with the value, however the suite ends.
    let mut servers = None;
    for step in plan(&asked) {
        println!("\n==> {}: {}", step.name, step.repeat());
        let started = Instant::now();
        let outcome = perform(root, &step, fast, &mut servers);
        let elapsed_seconds = started.elapsed().as_secs_f64();
        match outcome {
            Ok(Performed::Ran) => {
                println!("    {} ok, {elapsed_seconds:.1} s", step.name);
                passed += 1;
            }
            Ok(Performed::Skipped(why)) => println!("    {} skipped: {why}", step.name),
            Err(why) => {
                println!("    {} failed after {elapsed_seconds:.1} s: {why}", step.name);
                println!("    repeat it alone with: {}", step.repeat());
                failed += 1;
                break;
            }
        }
    }
    println!("\n{passed} passed, {failed} failed");
    failed == 0
}

/// Everything the plan depends on.
#[derive(Debug)]
struct Asked {
    fast: bool,
    nextest_installed: bool,
    /// Story files relative to the root, sorted.
    stories: Vec<String>,
    /// The release binary, relative to the root where it lies inside.
    release_binary: String,
}

/// One step: how a person repeats it is what it runs.
#[derive(Debug, PartialEq, Eq)]
struct Step {
    name: &'static str,
    environment: Option<(&'static str, &'static str)>,
    /// Whether it is told where the database servers are.
    on_servers: bool,
    action: Action,
}

#[derive(Debug, PartialEq, Eq)]
enum Action {
    Command(Vec<String>),
    /// Starts the servers; they run until the suite ends.
    Servers,
    Documents,
    Skip(&'static str),
}

#[derive(Debug)]
enum Performed {
    Ran,
    Skipped(&'static str),
}

impl Step {
    /// The command line that repeats this step alone.
    fn repeat(&self) -> String {
        let command = match &self.action {
            Action::Command(words) if self.on_servers => format!("cargo xtask servers {}", words.join(" ")),
            Action::Command(words) => words.join(" "),
            Action::Servers => "cargo xtask servers".to_owned(),
            Action::Documents if self.environment.is_some() => "cargo xtask docs --fast".to_owned(),
            Action::Documents => "cargo xtask docs".to_owned(),
            Action::Skip(_) => return "nothing to run".to_owned(),
        };
        match self.environment {
            Some((variable, value)) => format!("{variable}={value} {command}"),
            None => command,
        }
    }
}

fn plan(asked: &Asked) -> Vec<Step> {
    let mut actions = Vec::new();
    if !asked.fast {
        actions.push(("formatting", command("cargo fmt --all --check")));
        actions.push(("lints", command("cargo clippy --workspace --all-targets -- -D warnings")));
        actions.push(("release build", command("cargo build --release")));
    }
    actions.push(("servers", Action::Servers));
    // The campaigns of `fleet` last as long as everything else together.
    let tested = if asked.fast { "--workspace --exclude fleet" } else { "--workspace" };
    if asked.nextest_installed {
        actions.push((TESTS, command(&format!("cargo nextest run {tested}"))));
        // nextest leaves the examples in documentation comments out; `cargo test` does not.
        if !asked.fast {
            actions.push(("documentation examples", command("cargo test --workspace --doc")));
        }
    } else {
        actions.push((TESTS, command(&format!("cargo test {tested}"))));
    }
    actions.push(("stories", stories_action(asked)));
    actions.push(("documents", Action::Documents));
    let environment = asked.fast.then_some(FAST_VARIABLE);
    actions
        .into_iter()
        .map(|(name, action)| Step { name, environment, on_servers: name == TESTS, action })
        .collect()
}

fn stories_action(asked: &Asked) -> Action {
    if asked.stories.is_empty() {
        return Action::Skip("there is no machines/*.stories.yaml");
    }
    let runner = if asked.fast { "cargo run -q --" } else { &asked.release_binary };
    command(&format!("{runner} test {}", asked.stories.join(" ")))
}

fn command(line: &str) -> Action {
    Action::Command(line.split(' ').map(str::to_owned).collect())
}

fn perform(root: &Path, step: &Step, fast: bool, servers: &mut Option<Servers>) -> Result<Performed, String> {
    let words = match &step.action {
        Action::Servers => {
            *servers = Some(Servers::start()?);
            return Ok(Performed::Ran);
        }
        Action::Skip(why) => return Ok(Performed::Skipped(why)),
        Action::Documents if documents::run(root, Profile::chosen(fast)) => {
            return Ok(Performed::Ran);
        }
        Action::Documents => return Err("a document's command does not work".to_owned()),
        Action::Command(words) => words,
    };
    let Some((program, arguments)) = words.split_first() else {
        return Ok(Performed::Ran);
    };
    let mut command = if program == "cargo" {
        workspace::cargo(root)
    } else {
        let mut command = Command::new(root.join(program));
        command.current_dir(root);
        command
    };
    command.args(arguments).envs(step.environment);
    if step.on_servers
        && let Some(servers) = servers
    {
        command.envs(servers.environment());
    }
    match command.status() {
        Ok(status) if status.success() => Ok(Performed::Ran),
        Ok(status) => Err(status.to_string()),
        Err(error) => Err(format!("failed to start {program}: {error}")),
    }
}

fn nextest_installed(root: &Path) -> bool {
    let status = workspace::cargo(root)
        .args(["nextest", "--version"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    status.is_ok_and(|status| status.success())
}

fn stories(root: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(root.join("machines")) else {
        return Vec::new();
    };
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.ends_with(".stories.yaml"))
        .map(|name| format!("machines/{name}"))
        .collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(fast: bool, nextest_installed: bool, stories: &[&str], expected: &str) {
        let asked = Asked {
            fast,
            nextest_installed,
            stories: stories.iter().map(|story| (*story).to_owned()).collect(),
            release_binary: "target/release/statewright".to_owned(),
        };
        let rendered: Vec<String> =
            plan(&asked).iter().map(|step| format!("{}: {}", step.name, step.repeat())).collect();
        let expected: Vec<&str> = expected.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        assert_eq!(rendered, expected);
    }

    #[test]
    fn full_suite_formats_lints_builds_tests_and_runs_stories_and_documents() {
        check(
            false,
            true,
            &["machines/a.stories.yaml", "machines/b.stories.yaml"],
            "formatting: cargo fmt --all --check
             lints: cargo clippy --workspace --all-targets -- -D warnings
             release build: cargo build --release
             servers: cargo xtask servers
             tests: cargo xtask servers cargo nextest run --workspace
             documentation examples: cargo test --workspace --doc
             stories: target/release/statewright test machines/a.stories.yaml machines/b.stories.yaml
             documents: cargo xtask docs",
        );
    }

    #[test]
    fn nextest_is_not_required() {
        check(
            false,
            false,
            &[],
            "formatting: cargo fmt --all --check
             lints: cargo clippy --workspace --all-targets -- -D warnings
             release build: cargo build --release
             servers: cargo xtask servers
             tests: cargo xtask servers cargo test --workspace
             stories: nothing to run
             documents: cargo xtask docs",
        );
    }

    #[test]
    fn fast_suite_never_builds_for_release_and_says_so_to_the_tests() {
        check(
            true,
            true,
            &["machines/a.stories.yaml"],
            "servers: STATEWRIGHT_FAST=1 cargo xtask servers
             tests: STATEWRIGHT_FAST=1 cargo xtask servers cargo nextest run --workspace --exclude fleet
             stories: STATEWRIGHT_FAST=1 cargo run -q -- test machines/a.stories.yaml
             documents: STATEWRIGHT_FAST=1 cargo xtask docs --fast",
        );
    }
}
