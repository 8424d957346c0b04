//! `tail`: the last transitions of a running server, and with `-f` those that come, line by line.
//!
//! Owns reading server-sent events and coming back behind the last one that was read, whatever happens to the connection.

use std::io::{BufRead, Write};
use std::process::ExitCode;
use std::thread::sleep;
use std::time::Duration;

use clap::Args;
use serde_json::Value;

use crate::command::client::{ServerArgs, text};
use crate::command::{CommandResult, Failure};

#[derive(Debug, Args)]
pub(crate) struct TailArgs {
    /// Go on with what comes, until interrupted
    #[arg(short, long)]
    follow: bool,
    /// Only instances of this machine
    #[arg(long)]
    machine: Option<String>,
    /// Only this instance
    #[arg(long, value_name = "ID")]
    instance: Option<String>,
    /// How many of the last to begin with, as far as the server remembers them
    #[arg(short = 'n', long, default_value = "20", value_name = "COUNT")]
    lines: usize,
    #[command(flatten)]
    server: ServerArgs,
}

/// After a connection has ended. A server that is started anew is back by then.
const COMES_BACK_AFTER: Duration = Duration::from_secs(1);

pub(crate) fn tail(args: &TailArgs) -> CommandResult {
    let mut place = Place::default();
    let mut told_away = false;
    loop {
        let connected = args.server.get_lines("/v1/stream", &query(args, place.cursor.as_deref()));
        match connected {
            Ok(mut lines) => {
                told_away = false;
                if matches!(place.read(&mut lines, args.server.json), Ended::NobodyReads) || !args.follow {
                    return Ok(ExitCode::SUCCESS);
                }
            }
            // What cannot be had at first is a mistake; later, the server may come back.
            Err(failure) if place.cursor.is_none() => return Err(failure),
            Err(Failure(problem)) if !told_away => {
                told_away = true;
                eprintln!("statewright: {problem}; still trying");
            }
            Err(_) => {}
        }
        sleep(COMES_BACK_AFTER);
    }
}

fn query(args: &TailArgs, cursor: Option<&str>) -> Vec<(&'static str, String)> {
    let begin = match cursor {
        Some(cursor) => ("after", cursor.to_owned()),
        None => ("recent", args.lines.to_string()),
    };
    let chosen = [("machine", &args.machine), ("instance", &args.instance)];
    let chosen = chosen.into_iter().filter_map(|(name, value)| Some((name, value.clone()?)));
    std::iter::once(begin).chain(chosen).chain([("follow", args.follow.to_string())]).collect()
}

#[derive(Debug, PartialEq, Eq)]
enum Ended {
    /// The connection.
    Stream,
    /// Whoever read what is written here has gone.
    NobodyReads,
}

/// How far the stream was read.
#[derive(Debug, Default)]
struct Place {
    cursor: Option<String>,
}

impl Place {
    /// An event whose end has not come is not told; it comes again behind the cursor.
    fn read(&mut self, lines: &mut dyn BufRead, json: bool) -> Ended {
        let (mut id, mut event, mut data) = (None, String::new(), String::new());
        let mut line = String::new();
        loop {
            line.clear();
            match lines.read_line(&mut line) {
                Ok(1..) if line.ends_with('\n') => {}
                _ => return Ended::Stream,
            }
            let line = line.trim_end_matches(['\r', '\n']);
            match line.split_once(": ") {
                Some(("id", value)) => id = Some(value.to_owned()),
                Some(("event", value)) => value.clone_into(&mut event),
                Some(("data", value)) => value.clone_into(&mut data),
                Some(_) => {}
                None if line.is_empty() => {
                    let told = told(&event, &data, json);
                    if !told.is_empty() && writeln!(std::io::stdout(), "{told}").is_err() {
                        return Ended::NobodyReads;
                    }
                    self.cursor = id.take().or(self.cursor.take());
                    event.clear();
                    data.clear();
                }
                None => {}
            }
        }
    }
}

/// An event, on one line; nothing for what is only a sign of life.
fn told(event: &str, data: &str, json: bool) -> String {
    let parsed: Value = serde_json::from_str(data).unwrap_or_default();
    match event {
        "transition" if json => data.to_owned(),
        "transition" => line(&parsed),
        "gap" if json => format!("{{\"gap\":{data}}}"),
        "gap" => match parsed["missed"].as_u64() {
            Some(missed) => format!("… {missed} were missed; `statewright ls` shows how things stand"),
            None => "… some may be missing; `statewright ls` shows how things stand".to_owned(),
        },
        _ => String::new(),
    }
}

fn line(transition: &Value) -> String {
    let told = |name: &str| text(&transition[name]);
    let mark = if transition["success"] == Value::Bool(true) { " " } else { "x" };
    let way = match (told("from"), told("to")) {
        (from, to) if from == to => to,
        (from, to) if from.is_empty() => format!("-> {to}"),
        (from, to) => format!("{from} -> {to}"),
    };
    let remarks = [
        transition["code"].as_str().map(str::to_owned),
        transition["closure_reason"].as_str().map(|reason| format!("closed: {reason}")),
        transition["looping"].as_u64().map(|count| format!("looping, {count} times")),
    ];
    let remarks: Vec<String> = remarks.into_iter().flatten().collect();
    let remarks = if remarks.is_empty() { String::new() } else { format!("  ({})", remarks.join("; ")) };
    let who = match told("subject") {
        subject if subject.is_empty() => told("instance"),
        subject => subject,
    };
    format!("{mark} {}  {:20}  {who:20}  {}  {way}{remarks}", told("at"), told("machine"), told("event"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOLD: &str = "id: a-1\nevent: transition\ndata: {\"instance\":\"i\",\"success\":true}\n\n";

    #[test]
    fn what_breaks_off_in_the_middle_is_asked_for_again() {
        let mut place = Place::default();
        let broken = format!("{TOLD}: here\n\nid: a-2\nevent: transition\ndata: {{\"insta");
        assert_eq!(place.read(&mut broken.as_bytes(), false), Ended::Stream);
        assert_eq!(place.cursor.as_deref(), Some("a-1"));
        assert_eq!(place.read(&mut "id: a-7\n\n".as_bytes(), false), Ended::Stream);
        assert_eq!(place.cursor.as_deref(), Some("a-7"));
    }

    #[test]
    fn a_line_says_what_happened_to_whom() {
        let transition = serde_json::json!({
            "instance": "i", "machine": "m", "at": "2026-01-05T09:00:00.000Z", "from": "a", "to": "b", "event": "go",
            "success": false, "code": "guard_rejected", "looping": 4, "subject": "ann",
        });
        let columns: Vec<String> = line(&transition).split_whitespace().map(str::to_owned).collect();
        assert_eq!(
            columns.join(" "),
            "x 2026-01-05T09:00:00.000Z m ann go a -> b (guard_rejected; looping, 4 times)"
        );
        assert_eq!(told("", "", false), "");
        assert_eq!(told("gap", "{\"missed\":3}", true), "{\"gap\":{\"missed\":3}}");
    }
}
