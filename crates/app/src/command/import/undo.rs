//! `import --undo`: what was imported is withdrawn, slice by slice, as far as it has not gone on here.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::Instant;

use serde_json::{Value, json};

use crate::command::client::{count, text};
use crate::command::import::{ImportArgs, named, written};
use crate::command::{CommandResult, Failure};

/// Instances that are named of those that have gone on.
const NAMED_MAX: usize = 1_000;

pub(super) fn undo(args: &ImportArgs) -> CommandResult {
    let (server, began) = (&args.server, Instant::now());
    let machine = match (&args.machine, written(args)?) {
        (Some(machine), _) => machine.clone(),
        (None, Some((path, written))) => named(path, &written)?,
        (None, None) => return Err(Failure("say whose import, by --machine or --mapping".into())),
    };
    let mut body = json!({ "machine": machine, "dry_run": args.dry_run, "by": "import --undo" });
    let mut whole: Option<Value> = None;
    loop {
        if let Some(whole) = &whole {
            body["cursor"] = whole["next_cursor"].clone();
        }
        let slice = server.post("/v1/imports/undo", &body);
        let slice = slice.map_err(|failure| begun(failure, whole.as_ref(), args))?;
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
            return Ok(if count(&merged, "gone_on") == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        whole = Some(merged);
    }
}

/// What was done before it failed is done.
fn begun(failure: Failure, whole: Option<&Value>, args: &ImportArgs) -> Failure {
    match whole.filter(|_| !args.dry_run) {
        None => failure,
        Some(whole) => Failure(format!(
            "{}; {} are withdrawn, run it again for the others",
            failure.0,
            count(whole, "withdrawn")
        )),
    }
}

fn found(report: &Value) -> impl Iterator<Item = &Value> {
    report["found"].as_array().into_iter().flatten()
}

/// The reports of two slices as one.
fn merge(mut whole: Value, slice: Value) -> Value {
    for name in ["withdrawn", "already", "gone_on"] {
        whole[name] = json!(count(&whole, name) + count(&slice, name));
    }
    whole["found"] = found(&whole).chain(found(&slice)).take(NAMED_MAX).cloned().collect();
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
            let withdrawn = count(report, "withdrawn");
            let rate = withdrawn as f64 / began.elapsed().as_secs_f64();
            write!(
                stderr,
                "\r{withdrawn} withdrawn, {} gone on; {rate:.0}/s\u{1b}[K",
                count(report, "gone_on")
            )
        }
    };
    let _ = stderr.flush();
}

fn tell(report: &Value, began: Instant) {
    let would = if report["dry_run"] == json!(true) { "would be " } else { "" };
    say!("{}, in {:.1} s:", text(&report["machine"]), began.elapsed().as_secs_f64());
    say!("  {:>7}  {would}withdrawn", count(report, "withdrawn"));
    say!("  {:>7}  were withdrawn before", count(report, "already"));
    say!("  {:>7}  have gone on here, and go on", count(report, "gone_on"));
    for each in found(report) {
        say!("{}  in `{}`: {}", text(&each["id"]), text(&each["state"]), text(&each["reason"]));
    }
    let named = found(report).count() as u64;
    if count(report, "gone_on") > named {
        say!("… {named} are named");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_add_up() {
        let slice = |id: &str, cursor: Value| {
            json!({ "machine": "m", "withdrawn": 2, "already": 1, "gone_on": 1, "found": [{ "id": id }],
                "has_more": !cursor.is_null(), "next_cursor": cursor })
        };
        let merged = merge(slice("x", json!("c")), slice("y", Value::Null));
        assert_eq!(
            merged,
            json!({ "machine": "m", "withdrawn": 4, "already": 2, "gone_on": 2, "found": [{ "id": "x" }, { "id": "y" }],
                "has_more": false, "next_cursor": null })
        );
    }
}
