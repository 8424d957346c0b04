//! `flow import`: old records become flows, each under its old id and under a key of its own.
//!
//! Owns the going through a file and the account of it. The key is made of the file's name and the record's id, so that
//! whoever is interrupted begins again from the top.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{BufRead, BufReader, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use clap::Args;
use kernel::flow::Flow;
use kernel::machine::Machine;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::command::client::{ServerArgs, problem_text, text};
use crate::command::flow::records::{Record, Unfit, read};
use crate::command::flow::{counted, path_of};
use crate::command::{CommandResult, Failure};
use crate::outgoing::escaped;

#[derive(Debug, Args)]
pub(super) struct ImportArgs {
    /// JSON lines: one record a line
    file: PathBuf,
    /// The flow's name
    #[arg(long, value_name = "NAME")]
    flow: String,
    /// The field that has the id
    #[arg(long, value_name = "FIELD", default_value = "id")]
    id_field: String,
    /// Import nothing, and say what would be accepted
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    server: ServerArgs,
}

/// Records that are on their way at once: the server saves what comes together in one go.
const AT_ONCE: usize = 8;
/// How often a record is sent that the server has no room for at the moment, and what is waited in between.
const ATTEMPTS_MAX: usize = 60;
const PAUSE: Duration = Duration::from_secs(1);
const TELLS_AFTER: Duration = Duration::from_millis(200);
/// Lines that a report names; with --json, it names all.
const NAMED_MAX: usize = 100;

pub(super) fn import(args: &ImportArgs) -> CommandResult {
    let machine = definition(args)?;
    let Some(flow) = machine.flow.as_ref() else {
        return Err(Failure(format!("`{}` is a machine with states, and no flow with phases", args.flow)));
    };
    let file = File::open(&args.file)
        .map_err(|error| Failure(format!("failed to read {}: {error}", args.file.display())))?;
    let task = Task { args, machine: &machine, flow, name: name_of(&args.file) };
    let lines = Mutex::new(Lines { file: BufReader::new(file), number: 0, ids: HashMap::new() });
    let account = Mutex::new(Account::default());
    scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| task.work(&lines, &account));
        }
    });
    let mut account = account.into_inner().unwrap_or_else(PoisonError::into_inner);
    account.rejected.sort_by_key(|rejected| rejected.line);
    account.tell(args);
    if let Some(Failure(problem)) = account.stopped {
        let advice = "run it again: what was accepted is not imported twice";
        return Err(Failure(format!("stopped before the end: {problem}; {advice}")));
    }
    Ok(if account.rejected.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The definition that the server begins flows of this name with.
fn definition(args: &ImportArgs) -> Result<Machine, Failure> {
    let shown = args.server.get(&format!("/v1/machines/{}", escaped(&args.flow)), &[])?;
    let (machine, _) = kernel::definition::load(&text(&shown["source"]));
    let version = env!("CARGO_PKG_VERSION");
    machine.ok_or_else(|| Failure(format!("this program ({version}) cannot read the server's definition")))
}

/// Without its folder: a file that was moved is the same file.
fn name_of(file: &Path) -> String {
    file.file_name().unwrap_or(file.as_os_str()).to_string_lossy().into_owned()
}

/// What no thread holds when it panics is whole; a panic is told when the scope ends.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is to be done, for every thread.
struct Task<'a> {
    args: &'a ImportArgs,
    machine: &'a Machine,
    flow: &'a Flow,
    name: String,
}

/// The file, as far as it has been read.
struct Lines {
    file: BufReader<File>,
    number: usize,
    /// On which line an id was.
    ids: HashMap<String, usize>,
}

/// A line's number, and the record on it.
type Numbered = (usize, Result<Record, Unfit>);

/// What has become of a record.
#[derive(Debug, PartialEq)]
enum Outcome {
    Accepted,
    Existed,
    Rejected(String),
}

struct Rejected {
    line: usize,
    id: Option<String>,
    reason: String,
}

#[derive(Default)]
struct Account {
    accepted: usize,
    existed: usize,
    rejected: Vec<Rejected>,
    left_out: BTreeMap<String, usize>,
    /// How many have a phase completed though what it needs is not, and one of them.
    gaps: usize,
    gap: Option<(usize, String)>,
    stopped: Option<Failure>,
    told: Option<Instant>,
}

impl Task<'_> {
    /// One record after the other, until there is none or something ends it.
    fn work(&self, lines: &Mutex<Lines>, account: &Mutex<Account>) {
        while locked(account).stopped.is_none() {
            let (line, read) = match self.next(&mut locked(lines)) {
                Ok(Some(next)) => next,
                Ok(None) => return,
                Err(failure) => {
                    locked(account).stopped = Some(failure);
                    return;
                }
            };
            let (id, outcome) = match &read {
                Ok(record) => (Some(record.id.clone()), self.bring(record)),
                Err(Unfit { id, reason }) => (id.clone(), Ok(Outcome::Rejected(reason.clone()))),
            };
            let mut account = locked(account);
            match outcome {
                Ok(Outcome::Accepted) => account.accepted += 1,
                Ok(Outcome::Existed) => account.existed += 1,
                Ok(Outcome::Rejected(reason)) => account.rejected.push(Rejected { line, id, reason }),
                Err(failure) => {
                    account.stopped.get_or_insert(failure);
                    return;
                }
            }
            account.add(line, read.ok());
        }
    }

    /// The next line that is not blank, with its number.
    fn next(&self, lines: &mut Lines) -> Result<Option<Numbered>, Failure> {
        loop {
            let mut bytes = Vec::new();
            if lines.file.read_until(b'\n', &mut bytes)? == 0 {
                return Ok(None);
            }
            lines.number += 1;
            let Ok(line) = std::str::from_utf8(&bytes) else {
                let reason = "the line is not in UTF-8".to_owned();
                return Ok(Some((lines.number, Err(Unfit { id: None, reason }))));
            };
            if line.trim().is_empty() {
                continue;
            }
            let mut record = read(line, &self.args.id_field, self.machine, self.flow);
            if let Ok(Record { id, .. }) = &record {
                if let Some(before) = lines.ids.get(id) {
                    let reason = format!("the id is that of line {before}");
                    record = Err(Unfit { id: Some(id.clone()), reason });
                } else {
                    lines.ids.insert(id.clone(), lines.number);
                }
            }
            return Ok(Some((lines.number, record)));
        }
    }

    /// What becomes of a record, or would.
    ///
    /// # Errors
    /// What would become of all others as well.
    fn bring(&self, record: &Record) -> Result<Outcome, Failure> {
        let server = &self.args.server;
        if self.args.dry_run {
            if let Err(problems) = self.machine.initial_context(&record.context) {
                return Ok(Outcome::Rejected(problems.join("; ")));
            }
            return match server.try_get(&path_of(&record.id), &[])? {
                Ok(_) => Ok(Outcome::Existed),
                Err(problem) if problem["code"] == json!("not_found") => Ok(Outcome::Accepted),
                Err(problem) => Err(Failure(problem_text(&problem))),
            };
        }
        let body = json!({
            "key": key(&self.name, &record.id),
            "flow": self.args.flow,
            "id": record.id,
            "context": record.context,
            "booleans": record.booleans,
            "by": format!("import of {}", self.name),
        });
        for _ in 0..ATTEMPTS_MAX {
            let problem = match server.try_post("/v1/flows", &body)? {
                Ok(answer) if answer["replayed"] == json!(true) => return Ok(Outcome::Existed),
                Ok(_) => return Ok(Outcome::Accepted),
                Err(problem) => problem,
            };
            if problem["retryable"] != json!(true) {
                return refused(&problem);
            }
            sleep(PAUSE);
        }
        Err(Failure("the server has had no room for too long".into()))
    }
}

/// A key that is the same whenever the same record of the same file is imported.
fn key(file: &str, id: &str) -> String {
    let digest = Sha256::digest(format!("{file}\0{id}"));
    let digest: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    format!("import:{digest}")
}

/// What a refusal says of a record, unless it is not about this one alone.
fn refused(problem: &Value) -> Result<Outcome, Failure> {
    match (problem["status"].as_u64(), problem["code"].as_str()) {
        (_, Some("instance_exists")) => Ok(Outcome::Existed),
        (_, Some("key_reused")) => {
            let reason = "it was imported before and said something else then; the flow stays as it is";
            Ok(Outcome::Rejected(reason.to_owned()))
        }
        (Some(400 | 409 | 410 | 413 | 422), _) => Ok(Outcome::Rejected(problem_text(problem))),
        _ => Err(Failure(problem_text(problem))),
    }
}

impl Account {
    fn add(&mut self, line: usize, record: Option<Record>) {
        if let Some(Record { left_out, gap, .. }) = record {
            for field in left_out {
                *self.left_out.entry(field).or_default() += 1;
            }
            if let Some(phase) = gap {
                self.gaps += 1;
                self.gap.get_or_insert((line, phase));
            }
        }
        let due = self.told.is_none_or(|told| told.elapsed() >= TELLS_AFTER);
        if due && std::io::stderr().is_terminal() {
            self.told = Some(Instant::now());
            let mut stderr = std::io::stderr();
            let records = self.accepted + self.existed + self.rejected.len();
            let _ = write!(stderr, "\r{records} records, {} rejected\u{1b}[K", self.rejected.len());
            let _ = stderr.flush();
        }
    }

    fn tell(&self, args: &ImportArgs) {
        if self.told.is_some() {
            eprint!("\r\u{1b}[K");
        }
        if args.server.json {
            let rejected = self.rejected.iter().map(
                |rejected| json!({ "line": rejected.line, "id": rejected.id, "reason": rejected.reason }),
            );
            say!(
                "{}",
                json!({
                    "accepted": self.accepted,
                    "existed": self.existed,
                    "rejected": rejected.collect::<Vec<_>>(),
                    "left_out": self.left_out,
                    "gaps": self.gaps,
                    "dry_run": args.dry_run,
                    "complete": self.stopped.is_none(),
                })
            );
            return;
        }
        self.lines(args).into_iter().for_each(|line| say!("{line}"));
    }

    fn lines(&self, args: &ImportArgs) -> Vec<String> {
        let mut lines = Vec::new();
        if args.dry_run {
            lines.push("nothing has been imported; what would come of it:".to_owned());
        }
        lines.push(format!(
            "accepted {}, existed already {}, rejected {}",
            self.accepted,
            self.existed,
            self.rejected.len()
        ));
        for rejected in self.rejected.iter().take(NAMED_MAX) {
            let id = rejected.id.as_ref().map(|id| format!(" ({id})")).unwrap_or_default();
            lines.push(format!("line {}{id}: {}", rejected.line, rejected.reason));
        }
        if self.rejected.len() > NAMED_MAX {
            lines.push(format!("… and {} more; --json names all", self.rejected.len() - NAMED_MAX));
        }
        if !self.left_out.is_empty() {
            let fields = self.left_out.iter();
            let fields: Vec<String> =
                fields.map(|(field, count)| format!("{field} ({})", counted(*count, "record"))).collect();
            lines.push(format!("left out, since the flow has no such field: {}", fields.join(", ")));
        }
        if let Some((line, phase)) = &self.gap {
            let records = counted(self.gaps, "record");
            lines.push(format!(
                "{records} with a phase completed though what it needs is not, as `{phase}` on line {line}"
            ));
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    #[test]
    fn what_is_refused_of_one_record_stops_no_other_and_what_is_refused_of_all_does() {
        for (status, code, outcome) in [
            (409, "instance_exists", Some(Outcome::Existed)),
            (422, "invalid_context", Some(Outcome::Rejected("no (invalid_context)".to_owned()))),
            (413, "body_too_large", Some(Outcome::Rejected("no (body_too_large)".to_owned()))),
            (401, "unauthorized", None),
            (404, "unknown_machine", None),
            (507, "disk_full", None),
        ] {
            let problem = json!({ "status": status, "code": code, "detail": "no" });
            assert_eq!(refused(&problem).ok(), outcome, "{status}");
        }
        let told = refused(&json!({ "status": 422, "code": "key_reused" })).unwrap();
        assert!(matches!(&told, Outcome::Rejected(why) if why.contains("imported before")), "{told:?}");
    }

    #[test]
    fn a_record_has_its_key_wherever_its_file_is() {
        let of = |file: &str, id: &str| key(&name_of(Path::new(file)), id);
        assert_eq!(of("old.jsonl", "1"), of("/backup/old.jsonl", "1"));
        for other in [of("new.jsonl", "1"), of("old.jsonl", "2"), of("old.jsonl1", "")] {
            assert_ne!(of("old.jsonl", "1"), other);
        }
        assert_eq!(of("old.jsonl", &"long".repeat(50)).len(), "import:".len() + 32);
    }
}
