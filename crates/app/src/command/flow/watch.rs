//! `flow watch`: a flow while it goes on, until it is over.
//!
//! Owns the looking again and what is written: on a terminal one picture, drawn anew where it stood; anywhere else a line
//! for each change, taken from the history, so that none is missed between two looks.

use std::io::Write;
use std::process::ExitCode;
use std::thread::sleep;
use std::time::Duration;

use serde_json::{Value, json};

use crate::command::client::{text, words};
use crate::command::flow::act::moves;
use crate::command::flow::picture::{Frame, picture};
use crate::command::flow::{FlowId, history, list, percent, put, rows, show, terminal};
use crate::command::{CommandResult, Failure};

const LOOKS_AGAIN_AFTER: Duration = Duration::from_millis(500);
/// The exit code for a flow that was cancelled.
const CANCELLED: u8 = 3;

pub(super) fn watch(args: &FlowId) -> CommandResult {
    let mut seen = Seen::new();
    let mut away = false;
    loop {
        match look(args, seen.told.is_none())? {
            Ok(view) => {
                away = false;
                seen.tell(args, &view)?;
                match view["status"].as_str() {
                    Some("completed") => return Ok(ExitCode::SUCCESS),
                    Some("cancelled") => return Ok(ExitCode::from(CANCELLED)),
                    _ => {}
                }
            }
            // It is told once, and the picture stays as it was until the server is there again.
            Err(Failure(problem)) if !away => {
                away = true;
                seen.below = 0;
                eprintln!("statewright: {problem}; still trying");
            }
            Err(_) => {}
        }
        sleep(LOOKS_AGAIN_AFTER);
    }
}

/// The flow as it is now, or what may pass: a server that is started anew, or has too much to do.
///
/// # Errors
/// What will not pass; at the first look, anything.
fn look(args: &FlowId, first: bool) -> Result<Result<Value, Failure>, Failure> {
    match args.server.try_get(&args.path(), &[]) {
        Ok(Ok(view)) => Ok(Ok(view)),
        Ok(Err(problem)) => {
            let failure = args.server.failed(&problem);
            if problem["retryable"] == json!(true) && !first { Ok(Err(failure)) } else { Err(failure) }
        }
        Err(failure) if first => Err(failure),
        Err(failure) => Ok(Err(failure)),
    }
}

/// What has been told already.
struct Seen {
    redraws: bool,
    /// The newest revision of which it was told.
    told: Option<u64>,
    /// Lines of the picture that stands on the terminal, below which the cursor is.
    below: usize,
    size: (usize, usize),
    /// The last page of the history, as far as it is known.
    page: Option<String>,
}

impl Seen {
    fn new() -> Self {
        Self { redraws: terminal::can_redraw(), told: None, below: 0, size: (0, 0), page: None }
    }

    fn tell(&mut self, args: &FlowId, view: &Value) -> Result<(), Failure> {
        let revision = view["revision"].as_u64().unwrap_or_default();
        let before = self.told;
        self.told = before.max(Some(revision));
        if self.redraws && !args.server.json {
            self.draw(view);
        } else if before < Some(revision) {
            match args.server.json {
                true => put(view)?,
                false => self.lines(args, view, before)?,
            }
        }
        Ok(())
    }

    /// The picture, in the place of the one before.
    fn draw(&mut self, view: &Value) {
        let size = terminal::size();
        // Lines that were as wide as a wider terminal are now several: where they began, nobody knows.
        let anew = if self.size != (0, 0) && self.size != size { "\u{1b}[2J\u{1b}[H" } else { "" };
        self.below = if anew.is_empty() { self.below } else { 0 };
        self.size = size;
        // A line that ends in the last column, and one below the last row, would both move the picture.
        let frame = Frame {
            width: size.0.saturating_sub(1),
            rows: Some(size.1.saturating_sub(1).max(1)),
            colour: terminal::wants_colour(),
        };
        let lines = picture(view, show::now(), &frame);
        let up = if self.below > 0 { format!("\u{1b}[{}A\r", self.below) } else { String::new() };
        let drawn: String = lines.iter().map(|line| format!("{line}\u{1b}[K\n")).collect();
        let mut stdout = std::io::stdout();
        let _ = write!(stdout, "{anew}{up}{drawn}\u{1b}[J");
        let _ = stdout.flush();
        self.below = lines.len();
    }

    /// What has changed, line by line; at first, how everything stands.
    fn lines(&mut self, args: &FlowId, view: &Value, before: Option<u64>) -> Result<(), Failure> {
        match before {
            None => put(format!("{}  {}", text(&view["updated_at"]), standing(view)))?,
            Some(before) => {
                let path = format!("{}/history", args.path());
                self.page = list::all(&args.server, &path, &[], self.page.take(), |entry| {
                    let revision = entry["revision"].as_u64();
                    if revision > Some(before) && entry["success"] != json!(false) {
                        changes(entry).into_iter().try_for_each(put)?;
                        // The flow may have gone on since it was looked at.
                        self.told = self.told.max(revision);
                    }
                    Ok(())
                })?;
            }
        }
        if view["status"] == json!("failed") {
            put(offers(view))?;
        }
        Ok(())
    }
}

/// How a flow stands, on one line.
fn standing(view: &Value) -> String {
    let under_way = match view["current"].as_array().map(|current| words(current)) {
        Some(phases) if !phases.is_empty() => format!("; under way: {phases}"),
        _ => String::new(),
    };
    let [flow, id, status] = ["flow", "id", "status"].map(|name| text(&view[name]));
    format!("{flow} {id} is {status}, {}{under_way}", percent(&view["progress"]))
}

/// A line for each step of a phase, and one when the flow as a whole stands otherwise.
fn changes(entry: &Value) -> Vec<String> {
    let at = text(&entry["at"]);
    let by = entry["by"].as_str().map(|by| format!(" (by {by})")).unwrap_or_default();
    let mut lines: Vec<String> = moves(entry, "").iter().map(|moved| format!("{at}  {moved}{by}")).collect();
    lines.extend(history::status(entry).map(|status| format!("{at}  {status}{by}")));
    lines
}

fn offers(view: &Value) -> String {
    let of_phases = rows(view, "recovery_options").filter(|option| {
        option["phase"].is_string() && matches!(option["action"].as_str(), Some("retry" | "rollback"))
    });
    let offers: Vec<String> = of_phases
        .take(4)
        .map(|option| format!("{} {}", text(&option["action"]), text(&option["phase"])))
        .collect();
    let id = text(&view["id"]);
    format!("nothing goes on by itself; `flow options {id}` says what can be done: {}", offers.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_a_line_for_each_step() {
        let entry = json!({
            "at": "T", "by": "ann", "from": "active", "to": "planning", "progress": 0.5,
            "moved": [
                {"phase": "a", "from": "in_progress", "to": "completed", "lasted_ms": 61_000, "attempt": 1},
                {"phase": "b", "from": "not_started", "to": "in_progress", "lasted_ms": 0, "attempt": 1},
            ],
        });
        let expected = [
            "T  a: in_progress -> completed after 1m01s (by ann)",
            "T  b: not_started -> in_progress (by ann)",
            "T  the flow: active -> planning, 50% (by ann)",
        ];
        assert_eq!(changes(&entry), expected);
        let paused = json!({"at": "T", "from": "active", "to": "paused", "moved": []});
        assert_eq!(changes(&paused), ["T  the flow: active -> paused"]);
    }
}
