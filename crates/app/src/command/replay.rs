//! `replay`: whether the past of instances still comes out as it was stored, of a running server or of a store itself.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::{ArgGroup, Args};
use engine::Machines;
use engine::replay::{ReplayReport, replay_store};
use kernel::id::MachineName;
use serde_json::{Value, json};

use crate::command::client::{ServerArgs, count, list, text};
use crate::command::{CommandResult, Failure};
use crate::encryption::{master_keys, open_store};
use crate::outgoing::escaped;

/// A value is shown up to here.
const VALUE_CHARS_MAX: usize = 100;
/// Named of those that are different and of those that are not replayable.
const NAMED_MAX: usize = 100;

#[derive(Debug, Args)]
#[command(group(ArgGroup::new("which").required(true).args(["id", "all", "store"])))]
pub(crate) struct ReplayArgs {
    /// An instance's id
    id: Option<String>,
    /// Every instance of the tenant
    #[arg(long)]
    all: bool,
    /// Every instance of every tenant in this store itself, without a server: sqlite:PATH, postgres://…, redis://…
    #[arg(long, value_name = "URL")]
    store: Option<String>,
    /// Settings file with the encryption keys of the store [default: statewright.toml, if there is one]
    #[arg(long, value_name = "FILE", requires = "store")]
    config: Option<PathBuf>,
    /// Of all, only those of one machine or flow
    #[arg(long, value_name = "NAME", conflicts_with = "id")]
    machine: Option<String>,
    #[command(flatten)]
    server: ServerArgs,
}

/// Ends with 1 if anything comes out otherwise, or if the past of the one that was asked for is not known.
pub(crate) fn replay(args: &ReplayArgs) -> CommandResult {
    let server = &args.server;
    if let Some(id) = &args.id {
        let replay = server.get(&format!("/v1/instances/{}/replay", escaped(id)), &[])?;
        match server.json {
            true => say!("{replay}"),
            false => tell(&replay),
        }
        return Ok(ended(replay["verdict"] == json!("same")));
    }
    let began = Instant::now();
    let merged = match &args.store {
        Some(url) => of_store(args, url, began)?,
        None => of_all(args, began)?,
    };
    match server.json {
        true => say!("{merged}"),
        false => tell_all(&merged, began),
    }
    Ok(ended(merged["different"] == json!(0) && count(&merged, "corrupt") == 0))
}

/// Of the tenant, slice by slice.
fn of_all(args: &ReplayArgs, began: Instant) -> Result<Value, Failure> {
    let mut whole: Option<Value> = None;
    loop {
        let mut query: Vec<(&str, String)> =
            args.machine.iter().map(|name| ("machine", name.clone())).collect();
        if let Some(cursor) = whole.as_ref().and_then(|whole| whole["next_cursor"].as_str()) {
            query.push(("cursor", cursor.to_owned()));
        }
        let slice = args.server.get("/v1/replay", &query)?;
        let merged = match whole {
            None => slice,
            Some(whole) => merge(whole, slice),
        };
        let is_done = merged["next_cursor"].is_null();
        show_progress(&merged, is_done, began);
        if is_done {
            return Ok(merged);
        }
        whole = Some(merged);
    }
}

/// Of all tenants, as the store has them.
fn of_store(args: &ReplayArgs, url: &str, began: Instant) -> Result<Value, Failure> {
    let keys = master_keys(args.config.as_deref(), Some(url)).map_err(Failure)?;
    let store = open_store(url, keys).map_err(Failure)?;
    let machines = Machines::from_store(&*store)?;
    let machine = args.machine.as_deref().map(MachineName::parse).transpose().map_err(Failure)?;
    let mut tell = |report: &ReplayReport| show_progress(&json!(report), false, began);
    let report = json!(replay_store(&*store, &machines, machine.as_ref(), &mut tell)?);
    show_progress(&report, true, began);
    Ok(report)
}

fn ended(well: bool) -> ExitCode {
    if well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The reports of two slices as one.
fn merge(mut whole: Value, slice: Value) -> Value {
    for name in ["instances", "entries", "same", "different", "not_replayable"] {
        whole[name] = json!(count(&whole, name) + count(&slice, name));
    }
    let both = || list(&whole, "found").chain(list(&slice, "found"));
    let of =
        |verdict: &'static str| both().filter(move |replay| replay["verdict"] == verdict).take(NAMED_MAX);
    whole["found"] = of("different").chain(of("not_replayable")).cloned().collect();
    whole["next_cursor"] = slice["next_cursor"].clone();
    whole
}

fn show_progress(report: &Value, is_done: bool, began: Instant) {
    let mut stderr = std::io::stderr();
    if !stderr.is_terminal() {
        return;
    }
    let _ = match is_done {
        true => write!(stderr, "\r\u{1b}[K"),
        false => write!(
            stderr,
            "\r{} instances, {} entries, {} different; {:.0} s\u{1b}[K",
            report["instances"],
            report["entries"],
            report["different"],
            began.elapsed().as_secs_f64()
        ),
    };
    let _ = stderr.flush();
}

fn tell_all(report: &Value, began: Instant) {
    say!(
        "{} instances, {} entries in {:.1} s: {} the same, {} different, {} not replayable",
        report["instances"],
        report["entries"],
        began.elapsed().as_secs_f64(),
        report["same"],
        report["different"],
        report["not_replayable"]
    );
    if count(report, "corrupt") > 0 {
        say!("{} records are damaged and were left out; `doctor` says more", report["corrupt"]);
    }
    for replay in list(report, "found") {
        say!("");
        tell(replay);
    }
    if count(report, "different") > NAMED_MAX as u64 || count(report, "not_replayable") > NAMED_MAX as u64 {
        say!("\n… of each kind, {NAMED_MAX} are named");
    }
}

fn tell(replay: &Value) {
    let told = match replay["verdict"].as_str() {
        Some("same") => format!("all of its {} entries come out as they were stored", replay["entries"]),
        Some("different") => "it does not come out as it was stored".to_owned(),
        _ => format!("not replayable: {}", text(&replay["reason"])),
    };
    say!(
        "{}  {} {}, revision {}: {told}",
        text(&replay["id"]),
        text(&replay["machine"]),
        replay["version"],
        replay["revision"]
    );
    for difference in list(replay, "differences") {
        say!("  revision {}, {}", difference["revision"], text(&difference["part"]));
        if difference["stored"].is_null() && difference["decided"].is_null() {
            continue;
        }
        say!("    stored   {}", shortened(&difference["stored"]));
        say!("    decided  {}", shortened(&difference["decided"]));
    }
}

fn shortened(value: &Value) -> String {
    let told = value.to_string();
    match told.char_indices().nth(VALUE_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &told[..end]),
        None => told,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_add_up_and_what_is_different_comes_first() {
        let slice = |id: &str, verdict: &str, cursor: Value| {
            json!({"instances": 2, "entries": 9, "same": 1, "different": u8::from(verdict == "different"),
                "not_replayable": u8::from(verdict == "not_replayable"),
                "found": [{"id": id, "verdict": verdict}], "next_cursor": cursor})
        };
        let merged = merge(slice("a", "not_replayable", json!("x")), slice("b", "different", Value::Null));
        assert_eq!(
            merged,
            json!({"instances": 4, "entries": 18, "same": 2, "different": 1, "not_replayable": 1,
                "found": [{"id": "b", "verdict": "different"}, {"id": "a", "verdict": "not_replayable"}],
                "next_cursor": null})
        );
    }
}
