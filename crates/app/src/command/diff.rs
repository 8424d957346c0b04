//! `diff`: what changed between two definitions, in files or known to a server, and which instances run by the earlier one.

mod picture;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use kernel::definition;
use kernel::machine::Machine;
use serde_json::{Value, json};

use crate::command::Failure;
use crate::command::client::ServerArgs;
use crate::command::flow::terminal::wants_colour;
use crate::command::overlay_files::read_definition;
use crate::outgoing::escaped;

/// Beyond the other commands' codes, as `diff` of POSIX has it: who asks in a script wants to know whether anything
/// differs, and not to take a failure for an answer.
const DIFFERENT: u8 = 1;
const TROUBLE: u8 = 2;

#[derive(Debug, Args)]
#[command(
    after_help = "Ends with 0 when nothing differs that matters, with 1 when something does, and with 2 when \
    that cannot be said. Layout, comments and descriptions do not matter. Two files need no server."
)]
pub(crate) struct DiffArgs {
    /// How it was: a file, or a server's MACHINE (the current version) or MACHINE@VERSION (its number, or the first digits
    /// of its hash)
    #[arg(value_name = "A")]
    before: String,
    /// How it is
    #[arg(value_name = "B")]
    after: String,
    #[command(flatten)]
    server: ServerArgs,
}

/// Where one of the two definitions is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Side {
    File(PathBuf),
    Stored { machine: String, version: String },
}

impl Side {
    /// A file that is there, what looks like a path, and what is called as definitions' files are; no machine's name is so.
    pub fn of(text: &str) -> Self {
        let path = Path::new(text);
        let named =
            path.extension().is_some_and(|end| ["yaml", "yml", "json"].iter().any(|known| end == *known));
        if path.is_file() || named || text.contains(std::path::is_separator) {
            return Self::File(path.to_owned());
        }
        let (machine, version) = text.split_once('@').unwrap_or((text, "current"));
        Self::Stored { machine: machine.to_owned(), version: version.to_owned() }
    }
}

pub(crate) fn diff(args: &DiffArgs) -> ExitCode {
    match report(args) {
        Ok(report) => {
            match args.server.json {
                true => say!("{report}"),
                false => picture::lines(&report, wants_colour()).iter().for_each(|line| say!("{line}")),
            }
            let same = report["changes"].as_array().is_some_and(Vec::is_empty);
            if same { ExitCode::SUCCESS } else { ExitCode::from(DIFFERENT) }
        }
        Err(Failure(message)) => {
            eprintln!("statewright: {message}");
            ExitCode::from(TROUBLE)
        }
    }
}

/// What the server says; of two files the same, but for instances.
fn report(args: &DiffArgs) -> Result<Value, Failure> {
    let server = &args.server;
    let address = |machine: &str| format!("/v1/machines/{}/diff", escaped(machine));
    match (Side::of(&args.before), Side::of(&args.after)) {
        (Side::File(before), Side::File(after)) => Ok(compare(&load(&before)?, &load(&after)?)),
        (Side::Stored { machine, version }, Side::File(file)) => {
            let (text, _) = source(&file)?;
            server.post_text(&address(&machine), &[("from", version)], &text)
        }
        (Side::File(file), Side::Stored { machine, version }) => {
            let (text, _) = source(&file)?;
            server.post_text(&address(&machine), &[("to", version)], &text)
        }
        (Side::Stored { machine, version: from }, Side::Stored { machine: other, version: to }) => {
            if machine != other {
                return Err(Failure(format!(
                    "{machine} and {other} are two machines, and versions of one are compared; if one is meant to be a file, name it with its folder"
                )));
            }
            server.get(&address(&machine), &[("from", from), ("to", to)])
        }
    }
}

fn compare(before: &Machine, after: &Machine) -> Value {
    let version = |machine: &Machine| json!({ "version": machine.version, "hash": machine.hash });
    json!({
        "machine": after.name,
        "from": version(before),
        "to": version(after),
        "changes": definition::diff::diff(before, after).changes,
    })
}

/// The text of a file and the machine that it is; of an overlay, that of what it comes to over the base beside it.
pub(super) fn source(path: &Path) -> Result<(String, Machine), Failure> {
    let text = read_definition(path)?;
    let (machine, diagnostics) = definition::load(&text);
    let Some(machine) = machine else {
        let name = path.display().to_string();
        diagnostics.iter().for_each(|each| eprintln!("{}\n", each.render(&name, &text)));
        return Err(Failure(format!("{name} does not load")));
    };
    Ok((text, machine))
}

fn load(path: &Path) -> Result<Machine, Failure> {
    source(path).map(|(_, machine)| machine)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_file_is_a_machine() {
        let stored = |machine: &str, version: &str| Side::Stored {
            machine: machine.to_owned(),
            version: version.to_owned(),
        };
        for (text, side) in [
            ("gate", stored("gate", "current")),
            ("gate@2", stored("gate", "2")),
            ("gate@71d71c55", stored("gate", "71d71c55")),
            ("gate.yaml", Side::File("gate.yaml".into())),
            ("machines/gate", Side::File("machines/gate".into())),
            ("Cargo.toml", Side::File("Cargo.toml".into())),
        ] {
            assert_eq!(Side::of(text), side, "{text}");
        }
    }
}
