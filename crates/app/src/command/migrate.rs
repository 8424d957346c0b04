//! `migrate`: open instances of a running server go on by another version of their machine, slice by slice.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::Instant;

use clap::Args;
use serde_json::{Value, json};

use crate::command::client::{ServerArgs, count, list, text};
use crate::command::{CommandResult, Failure};
use crate::outgoing::escaped;

/// Instances that are named of those that are parked or left.
const NAMED_MAX: usize = 1_000;

#[derive(Debug, Args)]
#[command(
    after_help = "Ends with 0 when every instance has a place in that version, and with 1 when some have not. Those go on by \
    the version that they have; they are listed. Cut short, it may be run again: what is migrated is migrated once."
)]
pub(crate) struct MigrateArgs {
    /// The machine or flow
    machine: String,
    /// A version's number, or the first digits of a definition's hash [default: the current one]
    #[arg(long, value_name = "VERSION")]
    to: Option<String>,
    /// Say what would become of every instance, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Who asks for it, for the history
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
    #[command(flatten)]
    server: ServerArgs,
}

pub(crate) fn migrate(args: &MigrateArgs) -> CommandResult {
    let (server, began) = (&args.server, Instant::now());
    let address = format!("/v1/machines/{}/migrate", escaped(&args.machine));
    let mut body = json!({ "dry_run": args.dry_run });
    for (name, value) in [("to_version", &args.to), ("by", &args.by)] {
        if let Some(value) = value {
            body[name] = json!(value);
        }
    }
    let mut whole: Option<Value> = None;
    loop {
        if let Some(cursor) = whole.as_ref().map(|whole| &whole["next_cursor"]) {
            body["cursor"] = cursor.clone();
        }
        let slice = server.post(&address, &body).map_err(|failure| begun(failure, whole.as_ref(), args))?;
        let merged = match whole {
            None => slice,
            Some(whole) => merge(whole, slice),
        };
        let is_done = merged["next_cursor"].is_null();
        show_progress(&merged, is_done, began);
        if is_done {
            match server.json {
                true => say!("{merged}"),
                false => tell(&merged, began),
            }
            return Ok(if count(&merged, "left") == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        whole = Some(merged);
    }
}

/// What was done before it failed is done.
fn begun(failure: Failure, whole: Option<&Value>, args: &MigrateArgs) -> Failure {
    match whole.filter(|_| !args.dry_run) {
        None => failure,
        Some(whole) => Failure(format!(
            "{}; {} are migrated, run it again for the others",
            failure.0,
            count(whole, "migrated") + count(whole, "parked")
        )),
    }
}

/// The reports of two slices as one.
fn merge(mut whole: Value, slice: Value) -> Value {
    for name in ["already", "migrated", "parked", "left"] {
        whole[name] = json!(count(&whole, name) + count(&slice, name));
    }
    let mut moves: BTreeMap<(u64, String, String), u64> = BTreeMap::new();
    for moved in list(&whole, "moves").chain(list(&slice, "moves")) {
        let key =
            (count(moved, "from_version"), text(&moved["from"]).to_owned(), text(&moved["to"]).to_owned());
        *moves.entry(key).or_default() += count(moved, "count");
    }
    let moved = |((from_version, from, to), count)| json!({ "from_version": from_version, "from": from, "to": to, "count": count });
    let found = list(&whole, "found").chain(list(&slice, "found")).take(NAMED_MAX).cloned().collect();
    whole["moves"] = moves.into_iter().map(moved).collect();
    whole["found"] = found;
    for name in ["next_cursor", "has_more"] {
        whole[name] = slice[name].clone();
    }
    whole
}

fn show_progress(report: &Value, is_done: bool, began: Instant) {
    let mut stderr = std::io::stderr();
    if !stderr.is_terminal() {
        return;
    }
    let _ = match is_done {
        true => write!(stderr, "\r\u{1b}[K"),
        false => {
            let done = ["already", "migrated", "parked", "left"].map(|name| count(report, name));
            let seconds = began.elapsed().as_secs_f64();
            let all: u64 = done.iter().sum();
            write!(stderr, "\r{all} instances, {} left; {:.0}/s\u{1b}[K", done[3], all as f64 / seconds)
        }
    };
    let _ = stderr.flush();
}

fn tell(report: &Value, began: Instant) {
    let would = if report["dry_run"] == json!(true) { "would be " } else { "" };
    say!(
        "{} to version {} ({}), in {:.1} s:",
        text(&report["machine"]),
        report["to"]["version"],
        text(&report["to"]["hash"]).chars().take(12).collect::<String>(),
        began.elapsed().as_secs_f64()
    );
    say!("  {:>7}  {would}migrated", count(report, "migrated"));
    say!(
        "  {:>7}  {would}parked where the definition says, as they could not stay where they were",
        count(report, "parked")
    );
    say!("  {:>7}  {would}left with the version that they have", count(report, "left"));
    say!("  {:>7}  were of it already", count(report, "already"));
    let moves: Vec<&Value> = list(report, "moves").collect();
    if !moves.is_empty() {
        say!("");
    }
    for moved in moves {
        let (from, to) = (text(&moved["from"]), text(&moved["to"]));
        let led = if from == to { format!("`{from}`") } else { format!("`{from}` -> `{to}`") };
        say!("  {:>7}  version {}, {led}", count(moved, "count"), moved["from_version"]);
    }
    let found: Vec<&Value> = list(report, "found").collect();
    if !found.is_empty() {
        say!("");
    }
    for each in &found {
        let (id, outcome, state) = (text(&each["id"]), text(&each["outcome"]), text(&each["state"]));
        say!("{id}  {outcome}, version {}, `{state}`: {}", each["version"], text(&each["reason"]));
    }
    if count(report, "parked") + count(report, "left") > found.len() as u64 {
        say!("… {} are named", found.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_add_up() {
        let slice = |id: &str, to: &str, cursor: Value| {
            json!({ "machine": "m", "already": 1, "migrated": 2, "parked": 0, "left": 1,
                "moves": [{ "from_version": 1, "from": "a", "to": to, "count": 2 }],
                "found": [{ "id": id }], "has_more": !cursor.is_null(), "next_cursor": cursor })
        };
        let merged = merge(slice("x", "a", json!("c")), slice("y", "a", json!("d")));
        let merged = merge(merged, slice("z", "b", Value::Null));
        assert_eq!(
            merged,
            json!({ "machine": "m", "already": 3, "migrated": 6, "parked": 0, "left": 3,
                "moves": [
                    { "from_version": 1, "from": "a", "to": "a", "count": 4 },
                    { "from_version": 1, "from": "a", "to": "b", "count": 2 },
                ],
                "found": [{ "id": "x" }, { "id": "y" }, { "id": "z" }], "has_more": false, "next_cursor": null })
        );
    }
}
