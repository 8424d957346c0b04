//! `cargo xtask docs`: runs what README.md and docs/*.md tell a reader to type, so that it keeps working.
//!
//! Owns starting, watching and ending those commands; which commands a document has is for `fences` to say.
//! Invariants: the commands run in the repository's root with the caller's environment, save for `PATH`, which
//! starts with the built binary's directory; no server outlives its document.

mod process;

use std::fs;
use std::path::{Path, PathBuf};

use crate::documents::process::{Failure, Place, Server};
use crate::fences::{self, Block, ShellCommand};
use crate::workspace::{self, Profile, TemporaryDirectory};

/// How documents address the server that `dev` starts; the server of a run listens on a free port instead.
const DOCUMENTED_ADDRESSES: [&str; 2] = ["127.0.0.1:7474", "localhost:7474"];

/// What a document writes for the binary; everything after it is the binary's arguments.
const RUN_BINARY: &str = "cargo run --release --";

/// Runs every document and says what happened; true when every command worked.
pub fn run(root: &Path, profile: Profile) -> bool {
    let documents = documents(root);
    let blocks: usize = documents.iter().map(|(_, blocks)| blocks.len()).sum();
    if blocks == 0 {
        println!("no document has a block marked `sh`");
        return true;
    }
    // Cargo decides what is stale: a binary older than the sources would prove nothing.
    let built = workspace::cargo(root).args(profile.build_arguments()).status();
    if !built.is_ok_and(|status| status.success()) {
        eprintln!("error: failed to build the binary that the documents' commands run");
        return false;
    }
    let mut succeeded = true;
    for (name, blocks) in documents.iter().filter(|(_, blocks)| !blocks.is_empty()) {
        match run_document(root, profile, blocks) {
            Ok(commands) => println!("{name}: {} blocks, {commands} commands ok", blocks.len()),
            Err(failure) => {
                println!("{name}:{}", failure.describe());
                succeeded = false;
            }
        }
    }
    succeeded
}

/// README.md and docs/*.md, each with its executable blocks.
fn documents(root: &Path) -> Vec<(String, Vec<Block>)> {
    let mut names: Vec<String> = fs::read_dir(root.join("docs"))
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.ends_with(".md"))
        .map(|name| format!("docs/{name}"))
        .collect();
    names.sort();
    names.insert(0, "README.md".to_owned());
    names
        .into_iter()
        .filter_map(|name| {
            let text = fs::read_to_string(root.join(&name)).ok()?;
            Some((name, fences::executable_blocks(&text)))
        })
        .collect()
}

/// Runs one document's blocks in order; returns how many commands it has.
fn run_document(root: &Path, profile: Profile, blocks: &[Block]) -> Result<usize, Failure> {
    let first_line = blocks.first().map_or(1, |block| block.line);
    let directory = TemporaryDirectory::create("documents").map_err(|error| {
        Failure::new(first_line, "", format!("failed to make a temporary directory: {error}"))
    })?;
    let place = Place {
        root: root.to_path_buf(),
        binary: workspace::binary(root, profile),
        search_path: search_path(&workspace::binary_directory(root, profile)),
        directory: directory.path().to_path_buf(),
    };
    let mut server: Option<Server> = None;
    let mut count = 0;
    for block in blocks {
        let plan = plan(&fences::commands(block))?;
        count += plan.commands;
        for step in plan.steps {
            match step {
                Step::Server { line, arguments } => {
                    // A reader would have stopped the first to start the second over the same file.
                    drop(server.take());
                    server =
                        Some(Server::start(&place, line, &server_arguments(&arguments, &place.directory))?);
                }
                Step::Script(commands) => {
                    let commands: Vec<ShellCommand> =
                        commands.into_iter().map(|command| readdress(command, server.as_ref())).collect();
                    process::run_script(&place, &commands)?;
                }
            }
        }
    }
    Ok(count)
}

fn readdress(mut command: ShellCommand, server: Option<&Server>) -> ShellCommand {
    if let Some(server) = server {
        for documented in DOCUMENTED_ADDRESSES {
            command.text = command.text.replace(documented, server.address());
        }
    }
    command
}

fn search_path(binaries: &Path) -> std::ffi::OsString {
    let inherited = std::env::var_os("PATH").unwrap_or_default();
    let directories = std::iter::once(PathBuf::from(binaries)).chain(std::env::split_paths(&inherited));
    std::env::join_paths(directories).unwrap_or(inherited)
}

#[derive(Debug, PartialEq, Eq)]
struct Plan {
    steps: Vec<Step>,
    /// How many commands were recognised, those included that are not run again.
    commands: usize,
}

#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// `statewright dev`, left running until the document ends.
    Server { line: usize, arguments: String },
    /// Consecutive commands, run by one shell.
    Script(Vec<ShellCommand>),
}

/// Decides what a block's commands mean here.
fn plan(commands: &[ShellCommand]) -> Result<Plan, Failure> {
    let mut plan = Plan { steps: Vec::new(), commands: 0 };
    let mut script: Vec<ShellCommand> = Vec::new();
    for command in commands {
        let text = command.text.trim();
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        plan.commands += 1;
        if is_done_already(command)? {
            continue;
        }
        let text = text.replace(RUN_BINARY, "statewright");
        if let Some(arguments) = dev_arguments(&text) {
            if !script.is_empty() {
                plan.steps.push(Step::Script(std::mem::take(&mut script)));
            }
            plan.steps.push(Step::Server { line: command.line, arguments });
        } else {
            script.push(ShellCommand { line: command.line, text });
        }
    }
    if !script.is_empty() {
        plan.steps.push(Step::Script(script));
    }
    Ok(plan)
}

/// Whether whoever reads this output has done the command by running it: fetched the repository, entered it,
/// started xtask. A subcommand of xtask must exist all the same.
fn is_done_already(command: &ShellCommand) -> Result<bool, Failure> {
    let mut done = true;
    for part in command.text.split("&&") {
        let words: Vec<&str> = part.split_whitespace().collect();
        match words.as_slice() {
            ["cargo", "xtask", rest @ ..] => {
                let name = rest.first().copied().unwrap_or("--help");
                let known =
                    name.starts_with(['-', '#']) || crate::SUBCOMMANDS.iter().any(|known| known.0 == name);
                if !known {
                    let why =
                        format!("`cargo xtask {name}` does not exist; name one that `cargo xtask` lists");
                    return Err(Failure::new(command.line, &command.text, why));
                }
            }
            ["git", "clone", ..] | ["cd", ..] => {}
            _ => done = false,
        }
    }
    Ok(done)
}

/// The arguments after `statewright dev`, when the command is that.
fn dev_arguments(text: &str) -> Option<String> {
    let arguments = text.strip_prefix("statewright dev")?;
    if !(arguments.is_empty() || arguments.starts_with([' ', '\\', '\n'])) {
        return None;
    }
    let arguments = arguments.split(" #").next().unwrap_or_default().trim();
    Some(arguments.trim_end_matches('&').trim_end().to_owned())
}

/// Puts a free port and a throw-away file before the document's own flags; a flag that the document gives wins.
fn server_arguments(documented: &str, directory: &Path) -> String {
    let gives = |flag: &str| documented.split_whitespace().any(|word| word.split('=').next() == Some(flag));
    let mut arguments = Vec::new();
    if !gives("--listen") {
        arguments.push("--listen 127.0.0.1:0".to_owned());
    }
    if !gives("--store") {
        arguments.push(format!("--store 'sqlite:{}'", directory.join("x.db").display()));
    }
    if !documented.is_empty() {
        arguments.push(documented.to_owned());
    }
    arguments.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(text: &str) -> Result<Plan, Failure> {
        plan(&fences::commands(&Block { line: 1, text: text.to_owned() }))
    }

    /// Renders steps as `dev: arguments` and `script: line text; line text`.
    fn check(text: &str, commands: usize, expected: &[&str]) {
        let plan = planned(text).unwrap();
        let rendered: Vec<String> = plan
            .steps
            .iter()
            .map(|step| match step {
                Step::Server { arguments, .. } => format!("dev: {arguments}"),
                Step::Script(commands) => {
                    let commands: Vec<String> =
                        commands.iter().map(|command| format!("{} {}", command.line, command.text)).collect();
                    format!("script: {}", commands.join("; "))
                }
            })
            .collect();
        assert_eq!(rendered, expected, "{text}");
        assert_eq!(plan.commands, commands, "{text}");
    }

    #[test]
    fn dev_is_left_running_and_splits_the_script() {
        check("a\ncargo run --release -- dev\nb", 3, &["script: 1 a", "dev: ", "script: 3 b"]);
        check("cargo run --release -- dev   # the server", 1, &["dev: "]);
        check("cargo run --release -- dev --clock virtual &", 1, &["dev: --clock virtual"]);
        check("statewright dev --clock virtual", 1, &["dev: --clock virtual"]);
        check("statewright developer", 1, &["script: 1 statewright developer"]);
    }

    #[test]
    fn other_commands_of_the_binary_run_the_built_one() {
        check("cargo run --release -- check x | cat", 1, &["script: 1 statewright check x | cat"]);
        check("statewright check x", 1, &["script: 1 statewright check x"]);
    }

    #[test]
    fn what_the_reader_has_done_already_is_counted_but_not_run() {
        check(
            "git clone https://example.org/x && cd x\ncargo xtask test --fast # all\n\n# note\na",
            3,
            &["script: 5 a"],
        );
        check("cargo xtask", 1, &[]);
        check("cd x && a", 1, &["script: 1 cd x && a"]);
    }

    #[test]
    fn unknown_subcommands_of_xtask_fail_with_their_line() {
        let failure = planned("a\ncargo xtask tset").unwrap_err();
        assert_eq!(
            failure.describe(),
            "2: `cargo xtask tset` does not exist; name one that `cargo xtask` lists\n    cargo xtask tset\n"
        );
    }

    #[test]
    fn flags_of_the_document_win_over_ours() {
        let ours = "--listen 127.0.0.1:0 --store 'sqlite:/t/x.db'";
        let check = |documented: &str, expected: &str| {
            assert_eq!(server_arguments(documented, Path::new("/t")), expected);
        };
        check("", ours);
        check("--clock virtual", &format!("{ours} --clock virtual"));
        check("--store memory:", "--listen 127.0.0.1:0 --store memory:");
        check("--listen=0.0.0.0:0 --store=memory:", "--listen=0.0.0.0:0 --store=memory:");
    }
}
