//! `cargo xtask fleet`: builds the server and the campaign, and runs the campaign.
//!
//! Owns no option but `--debug`: all others are `crates/fleet`'s.

use std::path::Path;

use crate::servers;
use crate::workspace::{self, Profile};

/// Takes the debug build, which is there sooner and decides more slowly.
const DEBUG: &str = "--debug";

/// Whether the campaign ran and found nothing.
pub fn run(root: &Path, arguments: &[String]) -> bool {
    let profile = Profile::chosen(arguments.iter().any(|argument| argument == DEBUG));
    let asks_for_help = arguments.iter().any(|argument| argument == "--help" || argument == "-h");
    if !asks_for_help
        && needs_servers(arguments)
        && let Err(why) = servers::install()
    {
        eprintln!("error: {why}");
        return false;
    }
    let built = workspace::cargo(root)
        .args(profile.build_arguments())
        .args(["--quiet", "--package", "app", "--package", "fleet"])
        .status();
    if !built.is_ok_and(|status| status.success()) {
        eprintln!("error: the server or the campaign could not be built");
        return false;
    }
    let campaign = workspace::binary_directory(root, profile).join("fleet");
    let mut command = std::process::Command::new(&campaign);
    command.current_dir(root).args(arguments.iter().filter(|argument| *argument != DEBUG));
    workspace::forget_package(&mut command);
    match command.status() {
        Ok(status) => status.success(),
        Err(error) => {
            eprintln!("error: failed to start {}: {error}", campaign.display());
            false
        }
    }
}

/// Whether the store that is asked for is a database server of its own.
fn needs_servers(arguments: &[String]) -> bool {
    let after =
        arguments.iter().position(|argument| argument == "--store").and_then(|at| arguments.get(at + 1));
    let joined = arguments.iter().find_map(|argument| argument.strip_prefix("--store="));
    let store = after.map(String::as_str).or(joined).unwrap_or("postgres");
    store.starts_with("postgres") || store.starts_with("redis")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_database_servers_are_installed() {
        let needs = |line: &str| {
            let arguments: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            needs_servers(&arguments)
        };
        assert!(needs("") && needs("--store redis-cluster") && needs("--seed 3 --store=postgres"));
        assert!(!needs("--store sqlite") && !needs("--store=memory --seed 3"));
    }
}
