//! `flow history`: who did what to a flow, when and why, and how long everything took.

use std::process::ExitCode;

use serde_json::{Value, json};

use crate::command::CommandResult;
use crate::command::client::text;
use crate::command::flow::act::moves;
use crate::command::flow::{FlowId, list, percent, put};

pub(super) fn history(args: &FlowId) -> CommandResult {
    let mut entries = Vec::new();
    list::all(&args.server, &format!("{}/history", args.path()), &[], None, |entry| {
        if !args.server.json {
            return lines(entry).into_iter().try_for_each(put);
        }
        entries.push(entry.clone());
        Ok(())
    })?;
    if args.server.json {
        say!("{}", json!({ "data": entries }));
    }
    Ok(ExitCode::SUCCESS)
}

/// An entry: when, which event, who and why; and below it every step of a phase that it led to.
fn lines(entry: &Value) -> Vec<String> {
    let taken = entry["success"] != json!(false);
    let mark = if taken { " " } else { "x" };
    let by = entry["by"].as_str().map(|by| format!(" by {by}")).unwrap_or_default();
    let why = entry["reason"].as_str().map(|reason| format!(": {reason}")).unwrap_or_default();
    let refused = if taken { String::new() } else { format!("  refused, {}", text(&entry["code"])) };
    let (revision, at, event) = (text(&entry["revision"]), text(&entry["at"]), text(&entry["event"]));
    let mut lines = vec![format!("{mark} {revision:>4}  {at}  {event}{by}{why}{refused}")];
    lines.extend(moves(entry, "        "));
    lines.extend(status(entry).map(|status| format!("        {status}")));
    lines
}

/// What an entry has made of the flow as a whole, if that is worth a line.
pub(super) fn status(entry: &Value) -> Option<String> {
    let (from, to) = (text(&entry["from"]), text(&entry["to"]));
    let progress = match entry["progress"].is_number() {
        true => format!(", {}", percent(&entry["progress"])),
        false => String::new(),
    };
    (from != to && !to.is_empty()).then(|| match from.is_empty() {
        true => format!("the flow is {to}{progress}"),
        false => format!("the flow: {from} -> {to}{progress}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_tells_who_and_why_and_how_long() {
        let moved = json!([
            {"phase": "map", "from": "in_progress", "to": "failed", "lasted_ms": 95_000, "attempt": 2,
                "error": {"code": "E", "message": "no"}},
            {"phase": "load", "from": "not_started", "to": "in_progress", "lasted_ms": 10, "attempt": 1},
        ]);
        for (entry, told) in [
            (
                json!({"revision": 3, "at": "T", "event": "map.fail", "by": "ann", "reason": "broken",
                    "from": "active", "to": "failed", "success": true, "progress": 0.256, "moved": moved}),
                &[
                    "     3  T  map.fail by ann: broken",
                    "        map: in_progress -> failed after 1m35s, attempt 2: E: no",
                    "        load: not_started -> in_progress",
                    "        the flow: active -> failed, 25%",
                ][..],
            ),
            (
                json!({"revision": 4, "at": "T", "event": "map.approve", "success": false, "code": "expired",
                    "from": "failed", "to": "failed"}),
                &["x    4  T  map.approve  refused, expired"],
            ),
        ] {
            assert_eq!(lines(&entry), told);
        }
    }
}
