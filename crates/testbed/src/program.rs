//! Where the servers' programs are, and what else tests run, and as whom they run.
//!
//! Installs nothing; that is `cargo xtask servers --install`.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::{Error, REMEDY};

/// Where Debian keeps the programs of each version of PostgreSQL, which are not in `PATH`.
const POSTGRES_VERSIONS: &str = "/usr/lib/postgresql";

/// The user that PostgreSQL runs as where we are root, which it refuses to be.
pub const POSTGRES_USER: &str = "postgres";

/// The Debian packages of what is not installed.
pub fn missing_packages() -> Vec<&'static str> {
    let mut missing = Vec::new();
    if postgres_directory().is_err() {
        missing.push("postgresql");
    } else if in_path("psql").is_none() {
        missing.push("postgresql-client");
    }
    if redis_server().is_err() {
        missing.push("redis-server");
    }
    if in_path("chromium").is_none() {
        missing.push("chromium");
    }
    if chromedriver().is_err() {
        missing.push("chromium-driver");
    }
    if promtool().is_err() {
        missing.push("prometheus");
    }
    missing
}

/// Whether this process is root's.
pub fn runs_as_root() -> bool {
    let output = Command::new("id").arg("-u").stderr(Stdio::null()).output();
    output.is_ok_and(|output| output.stdout == b"0\n")
}

/// The directory of PostgreSQL's `initdb` and `postgres`.
pub fn postgres_directory() -> Result<PathBuf, Error> {
    let names = fs::read_dir(POSTGRES_VERSIONS).into_iter().flatten();
    let names = names.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    let versions =
        newest_first(names).into_iter().map(|name| Path::new(POSTGRES_VERSIONS).join(name).join("bin"));
    search_path()
        .into_iter()
        .chain(versions)
        .find(|directory| directory.join("initdb").is_file() && directory.join("postgres").is_file())
        .ok_or_else(|| {
            Error::new(format!(
                "PostgreSQL's `initdb` and `postgres` are neither in PATH nor in {POSTGRES_VERSIONS}/*/bin; {REMEDY}"
            ))
        })
}

/// The program of Redis.
pub fn redis_server() -> Result<PathBuf, Error> {
    in_path("redis-server").ok_or_else(|| Error::new(format!("`redis-server` is not in PATH; {REMEDY}")))
}

/// The program that drives Chromium.
pub fn chromedriver() -> Result<PathBuf, Error> {
    in_path("chromedriver").ok_or_else(|| Error::new(format!("`chromedriver` is not in PATH; {REMEDY}")))
}

/// The program that checks rules for alerts, and plays tests against them. No server of Prometheus is ever started.
pub fn promtool() -> Result<PathBuf, Error> {
    in_path("promtool")
        .ok_or_else(|| Error::new(format!("`promtool` (of Prometheus) is not in PATH; {REMEDY}")))
}

/// A command that runs one of PostgreSQL's programs as somebody whom it allows.
pub fn as_postgres(program: &Path) -> Result<Command, Error> {
    if !runs_as_root() {
        return Ok(Command::new(program));
    }
    let setpriv = in_path("setpriv").ok_or_else(|| {
        Error::new(
            "PostgreSQL does not run as root, and `setpriv` (of util-linux), to run it as another user, is not in PATH",
        )
    })?;
    let mut command = Command::new(setpriv);
    // It becomes the program, so that the process that we start is the server itself.
    command
        .arg(format!("--reuid={POSTGRES_USER}"))
        .arg(format!("--regid={POSTGRES_USER}"))
        .args(["--clear-groups", "--"])
        .arg(program);
    Ok(command)
}

fn in_path(program: &str) -> Option<PathBuf> {
    search_path().into_iter().map(|directory| directory.join(program)).find(|path| path.is_file())
}

fn search_path() -> Vec<PathBuf> {
    env::var_os("PATH").map(|path| env::split_paths(&path).collect()).unwrap_or_default()
}

/// Sorts version numbers, `16` before `9.6`.
fn newest_first(mut names: Vec<String>) -> Vec<String> {
    let number =
        |name: &String| -> Vec<u32> { name.split('.').map(|part| part.parse().unwrap_or(0)).collect() };
    names.sort_by_key(|name| std::cmp::Reverse(number(name)));
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newest_version_is_the_first() {
        let names = ["9.6", "15", "16", "9.5"].map(str::to_owned).to_vec();
        assert_eq!(newest_first(names), ["16", "15", "9.6", "9.5"]);
    }
}
