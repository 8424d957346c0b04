//! The project's own commands: reads the command line and hands over to the module that owns the work.
//!
//! Invariant: only the standard library and `testbed`, which has no dependencies, so that `cargo xtask` builds in seconds
//! on a fresh machine.

// A command line tool talks on stdout; the lint is there for the server.
#![allow(clippy::print_stdout)]

mod workspace;

mod fleet;
mod servers;
mod shards;
mod suite;

mod documents;
mod fences;

mod tidy;

use std::path::Path;
use std::process::ExitCode;
use std::str::FromStr;

use crate::workspace::Profile;

/// Each subcommand with its arguments and what it does; the help and the check of documents read this table.
const SUBCOMMANDS: &[(&str, &str, &str)] = &[
    ("test", "[--fast]", "everything CI runs; --fast leaves out what is slow"),
    (
        "servers",
        "[--install | COMMAND...]",
        "PostgreSQL, Redis and a Redis Cluster for tests, while COMMAND runs or until Ctrl-C",
    ),
    ("bench", "[ARGS]...", "the benchmark of the release binary, over private servers"),
    (
        "fleet",
        "[--store STORE] [--chaos KINDS] …",
        "several servers over one database, with things dying; --help",
    ),
    ("sim", "[--from N] [--seeds N] [--steps N]", "a long campaign of simulations over a failing store"),
    ("flips", "[COUNT]", "single bits flipped in a SQLite file, 1,500 unless told: nothing wrong is served"),
    (
        "shards",
        "[SESSIONS]",
        "how evenly so many sessions lie over many databases, a hundred million unless told",
    ),
    (
        "tidy",
        "[--update-ratchet]",
        "only the style checks; lowers xtask/ratchet.txt on demand, never raises it",
    ),
    ("docs", "[--fast]", "only the commands that README.md and docs/*.md show; --fast uses the debug binary"),
];

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
enum Invocation {
    Help,
    Test { fast: bool },
    Servers(servers::Asked),
    Bench { arguments: Vec<String> },
    Fleet { arguments: Vec<String> },
    Sim { arguments: Vec<String> },
    Flips { count: u32 },
    Shards { sessions: u64 },
    Tidy { update_ratchet: bool },
    Docs { fast: bool },
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let root = workspace::root();
    let succeeded = match interpret(&arguments) {
        Ok(Invocation::Help) => {
            print!("{}", help());
            true
        }
        Ok(Invocation::Test { fast }) => suite::run(&root, fast),
        Ok(Invocation::Servers(asked)) => servers::run(&asked),
        Ok(Invocation::Bench { arguments }) => bench(&root, &arguments),
        Ok(Invocation::Fleet { arguments }) => fleet::run(&root, &arguments),
        Ok(Invocation::Sim { arguments }) => sim(&root, &arguments),
        Ok(Invocation::Flips { count }) => flips(&root, count),
        Ok(Invocation::Shards { sessions }) => shards::run(sessions),
        Ok(Invocation::Tidy { update_ratchet }) => tidy::run(&root, update_ratchet),
        Ok(Invocation::Docs { fast }) => documents::run(&root, Profile::chosen(fast)),
        Err(message) => {
            eprintln!("error: {message}\n\n{}", help());
            return ExitCode::from(2);
        }
    };
    if succeeded { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn interpret(arguments: &[String]) -> Result<Invocation, String> {
    let Some((name, rest)) = arguments.split_first() else {
        return Ok(Invocation::Help);
    };
    match name.as_str() {
        "--help" | "-h" | "help" => Ok(Invocation::Help),
        "bench" => Ok(Invocation::Bench { arguments: rest.to_vec() }),
        "fleet" => Ok(Invocation::Fleet { arguments: rest.to_vec() }),
        "sim" => Ok(Invocation::Sim { arguments: rest.to_vec() }),
        "servers" => servers_asked(rest),
        _ if rest.iter().any(|argument| argument == "--help" || argument == "-h") => Ok(Invocation::Help),
        "flips" => Ok(Invocation::Flips { count: count(name, rest, 1_500)? }),
        "shards" => Ok(Invocation::Shards { sessions: count(name, rest, 100_000_000)? }),
        "test" => Ok(Invocation::Test { fast: only_flag(name, rest, "--fast")? }),
        "tidy" => Ok(Invocation::Tidy { update_ratchet: only_flag(name, rest, "--update-ratchet")? }),
        "docs" => Ok(Invocation::Docs { fast: only_flag(name, rest, "--fast")? }),
        unknown => Err(format!("`{unknown}` is not a subcommand of cargo xtask")),
    }
}

/// What follows the first word that is no flag is a command of its own, flags included.
fn servers_asked(arguments: &[String]) -> Result<Invocation, String> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        [] => Ok(Invocation::Servers(servers::Asked::Stay)),
        ["--install"] => Ok(Invocation::Servers(servers::Asked::Install)),
        ["--help" | "-h", ..] => Ok(Invocation::Help),
        ["--install", _, ..] => Err("`cargo xtask servers --install` takes no command".to_owned()),
        [unknown, ..] if unknown.starts_with('-') => {
            Err(format!("`cargo xtask servers` does not know `{unknown}`, only `--install` and a command"))
        }
        _ => Ok(Invocation::Servers(servers::Asked::Run(arguments.to_vec()))),
    }
}

/// Whether `flag` is given; anything else is refused by name.
fn only_flag(subcommand: &str, arguments: &[String], flag: &str) -> Result<bool, String> {
    match arguments.iter().find(|argument| *argument != flag) {
        Some(unknown) => Err(format!("`cargo xtask {subcommand}` does not know `{unknown}`, only `{flag}`")),
        None => Ok(!arguments.is_empty()),
    }
}

fn help() -> String {
    let mut text = String::from("Usage: cargo xtask <SUBCOMMAND>\n\n");
    for (name, arguments, purpose) in SUBCOMMANDS {
        text.push_str(&format!("  {:<42}{purpose}\n", format!("{name} {arguments}")));
    }
    text
}

/// Over servers of its own, if anything that is on one is measured.
fn bench(root: &Path, arguments: &[String]) -> bool {
    // What counts allocations takes the place of the allocator that a server has, and would make it slower.
    let counting: &[&str] = if is_of_kernel(arguments) { &["--features", "count-allocations"] } else { &[] };
    let command = [&["run", "--release"], counting, &["--", "bench"]].concat();
    if !needs_servers(arguments) {
        return cargo_run(root, &command, arguments);
    }
    let mut cargo = workspace::cargo(root);
    cargo.args(command).args(arguments);
    servers::run_with_servers(&mut cargo).unwrap_or_else(|why| {
        eprintln!("error: {why}");
        false
    })
}

/// Whether only the kernel is measured, where allocations are counted.
fn is_of_kernel(arguments: &[String]) -> bool {
    let words = words_of(arguments);
    !words.is_empty() && words.iter().all(|word| "kernel".contains(word))
}

/// What of the benchmark is asked for; nothing stands for all of it.
fn words_of(arguments: &[String]) -> Vec<&str> {
    let mut words = Vec::new();
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        match argument.strip_prefix("--only") {
            Some("") => words.extend(arguments.next().map(String::as_str)),
            Some(word) => words.extend(word.strip_prefix('=')),
            None => (),
        }
    }
    words
}

/// Whether a group of the benchmark that is on a server is among those asked for, by a word of its name.
fn needs_servers(arguments: &[String]) -> bool {
    const ON_SERVERS: [&str; 3] = ["postgres", "redis", "peers"];
    if arguments.iter().any(|argument| matches!(argument.as_str(), "--help" | "-h")) {
        return false;
    }
    let words = words_of(arguments);
    words.is_empty() || words.iter().any(|word| ON_SERVERS.iter().any(|group| group.contains(word)))
}

fn sim(root: &Path, arguments: &[String]) -> bool {
    cargo_run(root, &["run", "--release", "--package", "sim", "--"], arguments)
}

/// How many of whatever it is; one argument at most.
fn count<N: FromStr + Default + PartialOrd>(
    subcommand: &str,
    arguments: &[String],
    unless_told: N,
) -> Result<N, String> {
    match arguments {
        [] => Some(unless_told),
        [count] => count.parse().ok().filter(|count| *count > N::default()),
        _ => None,
    }
    .ok_or_else(|| format!("`cargo xtask {subcommand}` takes a number, not `{}`", arguments.join(" ")))
}

fn flips(root: &Path, count: u32) -> bool {
    let test = ["test", "--package", "store", "--test", "flips", "--", "--nocapture"];
    let status = workspace::cargo(root).args(test).env("STATEWRIGHT_FLIPS", count.to_string()).status();
    match status {
        Ok(status) => status.success(),
        Err(error) => {
            eprintln!("error: failed to start cargo: {error}");
            false
        }
    }
}

fn cargo_run(root: &Path, command: &[&str], arguments: &[String]) -> bool {
    let status = workspace::cargo(root).args(command).args(arguments).status();
    match status {
        Ok(status) => status.success(),
        Err(error) => {
            eprintln!("error: failed to start cargo: {error}");
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, expected: Result<Invocation, &str>) {
        let arguments: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        assert_eq!(interpret(&arguments), expected.map_err(str::to_owned), "cargo xtask {line}");
    }

    #[test]
    fn known_command_lines_are_understood() {
        check("", Ok(Invocation::Help));
        check("--help", Ok(Invocation::Help));
        check("tidy --help", Ok(Invocation::Help));
        check("test", Ok(Invocation::Test { fast: false }));
        check("test --fast", Ok(Invocation::Test { fast: true }));
        check("docs", Ok(Invocation::Docs { fast: false }));
        check("tidy", Ok(Invocation::Tidy { update_ratchet: false }));
        check("tidy --update-ratchet", Ok(Invocation::Tidy { update_ratchet: true }));
        check("servers", Ok(Invocation::Servers(servers::Asked::Stay)));
        check("servers --help", Ok(Invocation::Help));
        check("servers --install", Ok(Invocation::Servers(servers::Asked::Install)));
        let command = ["cargo", "test", "--help"].map(str::to_owned).to_vec();
        check("servers cargo test --help", Ok(Invocation::Servers(servers::Asked::Run(command))));
        check(
            "fleet --seed 2",
            Ok(Invocation::Fleet { arguments: vec!["--seed".to_owned(), "2".to_owned()] }),
        );
        check("flips", Ok(Invocation::Flips { count: 1_500 }));
        check("flips 60", Ok(Invocation::Flips { count: 60 }));
        check("bench --help", Ok(Invocation::Bench { arguments: vec!["--help".to_owned()] }));
    }

    #[test]
    fn the_benchmark_has_servers_when_it_measures_something_on_them() {
        for (line, expected) in [
            ("", true),
            ("--seconds 1", true),
            ("--only engine", false),
            ("--only=engine --json", false),
            ("--only engine --only red", true),
            ("--only=peers", true),
            ("--help", false),
        ] {
            let arguments: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            assert_eq!(needs_servers(&arguments), expected, "cargo xtask bench {line}");
        }
    }

    #[test]
    fn unknown_command_lines_are_refused_by_name() {
        check("tset", Err("`tset` is not a subcommand of cargo xtask"));
        check("test --quick", Err("`cargo xtask test` does not know `--quick`, only `--fast`"));
        check(
            "servers --instal",
            Err("`cargo xtask servers` does not know `--instal`, only `--install` and a command"),
        );
        check("servers --install true", Err("`cargo xtask servers --install` takes no command"));
        check("flips many", Err("`cargo xtask flips` takes a number, not `many`"));
        check("flips 0", Err("`cargo xtask flips` takes a number, not `0`"));
        check("tidy --fast", Err("`cargo xtask tidy` does not know `--fast`, only `--update-ratchet`"));
    }

    #[test]
    fn every_listed_subcommand_is_accepted() {
        for (name, _, _) in SUBCOMMANDS {
            assert!(interpret(&[(*name).to_owned()]).is_ok(), "{name}");
        }
    }
}
