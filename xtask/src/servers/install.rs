//! Has PostgreSQL, Redis, Chromium and Prometheus' tools installed, by Debian's packages, where they are missing, and
//! the checker of pages by npm.
//!
//! Starts nothing, and stops the system's own services that a package starts. Invariant: the commands are a pure
//! function of what is missing and of whom we are, so they are tested as text.

use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::workspace;

/// Where apt keeps what it knows of packages.
const PACKAGE_LISTS: &str = "/var/lib/apt/lists";

/// By npm, since Debian has none.
const AXE: &str = "axe-core@4.14.1";

/// Packages that start a service of the same name.
const SERVICES: &[&str] = &["postgresql", "redis-server", "prometheus"];

/// Installs what is missing; nothing to do where all is there.
pub fn install() -> Result<(), String> {
    install_packages()?;
    install_axe()
}

/// Where the checker of pages is: no part of the repository, and none of the program.
pub fn axe() -> PathBuf {
    workspace::target(&workspace::root()).join("tools/node_modules/axe-core/axe.min.js")
}

/// axe-core finds what keeps people from using a page who cannot see it, or do not use a mouse.
fn install_axe() -> Result<(), String> {
    if axe().is_file() {
        return Ok(());
    }
    if !in_path("npm") {
        return Err(format!("not installed: {AXE}; there is no npm here, which it comes by"));
    }
    let prefix = workspace::target(&workspace::root()).join("tools");
    fs::create_dir_all(&prefix).map_err(|error| format!("failed to make {}: {error}", prefix.display()))?;
    perform(&format!("npm install --silent --no-audit --no-fund --prefix {} {AXE}", prefix.display()))?;
    match axe().is_file() {
        true => Ok(()),
        false => Err(format!("installed, and still not found: {}", axe().display())),
    }
}

fn install_packages() -> Result<(), String> {
    let missing = testbed::missing_packages();
    if missing.is_empty() {
        return Ok(());
    }
    let commands = Commands::new(&missing, testbed::runs_as_root());
    let names = missing.join(", ");
    if !in_path("apt-get") {
        return Err(format!(
            "not installed: {names}; there is no apt-get here: install PostgreSQL, Redis, Chromium and Prometheus in this \
             system's way, with their programs in PATH"
        ));
    }
    if commands.needs_sudo && !in_path("sudo") {
        let line = commands.install.trim_start_matches("sudo ");
        return Err(format!(
            "not installed: {names}; it takes root, and there is no sudo: as root, type\n    {line}"
        ));
    }
    let lists_empty = package_lists_empty();
    if lists_empty {
        perform(&commands.update)?;
    }
    if let Err(why) = perform(&commands.install) {
        if lists_empty {
            return Err(why);
        }
        // Lists that are old name packages that are gone.
        perform(&commands.update)?;
        perform(&commands.install)?;
    }
    for stop in &commands.stops {
        stop_service(stop);
    }
    match testbed::missing_packages().as_slice() {
        [] => Ok(()),
        missing => Err(format!("installed, and still not found: {}", missing.join(", "))),
    }
}

#[derive(Debug)]
struct Commands {
    needs_sudo: bool,
    update: String,
    install: String,
    /// One for each service that the installation may have started.
    stops: Vec<String>,
}

impl Commands {
    fn new(missing: &[&str], root: bool) -> Self {
        let sudo = if root { "" } else { "sudo " };
        let apt = format!("{sudo}env DEBIAN_FRONTEND=noninteractive apt-get");
        let services = SERVICES.iter().filter(|service| missing.contains(service));
        Self {
            needs_sudo: !root,
            update: format!("{apt} update"),
            install: format!("{apt} install -y --no-install-recommends {}", missing.join(" ")),
            stops: services.map(|service| format!("{sudo}service {service} stop")).collect(),
        }
    }
}

fn perform(line: &str) -> Result<(), String> {
    eprintln!("    {line}");
    let status = command(line).stdout(Stdio::null()).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => {
            Err(format!("failed to install what tests need: {status}; to see why, type\n    {line}"))
        }
        Err(error) => Err(format!("failed to install what tests need: {error}; type\n    {line}")),
    }
}

/// In a container there is often nothing that could have started one, and then nothing to stop: no reason to fail.
fn stop_service(line: &str) {
    eprintln!("    {line}");
    let status = command(line).stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !status.is_ok_and(|status| status.success()) {
        eprintln!("    the system's service may be running; it is not used, and can be stopped");
    }
}

fn command(line: &str) -> Command {
    let mut words = line.split(' ');
    let mut command = Command::new(words.next().unwrap_or_default());
    command.args(words);
    command
}

fn package_lists_empty() -> bool {
    let names = fs::read_dir(PACKAGE_LISTS).into_iter().flatten();
    !names.filter_map(Result::ok).any(|entry| entry.file_name().to_string_lossy().contains("_Packages"))
}

fn in_path(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|directory| directory.join(program).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(missing: &[&str], root: bool, expected: &str) {
        let commands = Commands::new(missing, root);
        let mut lines = vec![commands.update, commands.install];
        lines.extend(commands.stops);
        let expected: Vec<&str> = expected.lines().map(str::trim).collect();
        assert_eq!(lines, expected);
    }

    #[test]
    fn packages_are_installed_and_their_services_stopped() {
        check(
            &["postgresql", "redis-server"],
            true,
            "env DEBIAN_FRONTEND=noninteractive apt-get update
             env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends postgresql redis-server
             service postgresql stop
             service redis-server stop",
        );
    }

    #[test]
    fn services_that_were_there_before_are_let_be() {
        check(
            &["postgresql-client", "redis-server"],
            false,
            "sudo env DEBIAN_FRONTEND=noninteractive apt-get update
             sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends postgresql-client redis-server
             sudo service redis-server stop",
        );
    }
}
