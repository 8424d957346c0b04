//! `import`: sessions of another system, from a file, a table or the keys of a Redis, by a mapping, each once.
//!
//! Owns the going through what there is and what is asked of the server. Whoever is interrupted begins again from the top: what was
//! brought in is not brought in again.

mod account;
mod source;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{scope, sleep};
use std::time::Duration;

use clap::{Args, ValueEnum};
use kernel::machine::Machine;
use kernel::mapping::{self, Mapped, Mapping};
use kernel::time::Timestamp;
use serde_json::{Value, json};

use crate::command::client::{ServerArgs, problem_text, text};
use crate::command::import::account::{Account, Fate};
use crate::command::import::source::{Found, Source};
use crate::command::{CommandResult, Failure};
use crate::outgoing::escaped;

/// Requests that are on their way at once: while one is saved, others are read and mapped.
const AT_ONCE: usize = 4;
/// What one request holds at most. The server takes a thousand records, and a mebibyte.
const RECORDS_MAX: usize = 500;
const REQUEST_BYTES: usize = 512 * 1024;
/// How often a request is sent that the server has no room for at the moment, and what is waited in between.
const ATTEMPTS_MAX: usize = 60;
const PAUSE: Duration = Duration::from_secs(1);

#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// A file of JSON lines, a CSV whose first line names the columns, postgres://… with --table, or redis://… with --keys
    from: String,
    /// The table or view of a PostgreSQL database, as SCHEMA.NAME or NAME
    #[arg(long, value_name = "NAME")]
    table: Option<String>,
    /// The keys of a Redis, such as user:*:state
    #[arg(long, value_name = "PATTERN")]
    keys: Option<String>,
    /// How a record becomes a session: see docs/moving.md
    #[arg(long, value_name = "FILE")]
    mapping: PathBuf,
    /// Of a file [default: by the end of its name, else jsonl]
    #[arg(long)]
    format: Option<Format>,
    /// Bring in nothing, and say what would become of each record
    #[arg(long)]
    dry_run: bool,
    /// Write what was rejected into this file, each record with its line and the reason
    #[arg(long, value_name = "FILE")]
    rejects: Option<PathBuf>,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Jsonl,
    Csv,
}

pub(crate) fn import(args: &ImportArgs) -> CommandResult {
    let (machine, mapping) = load(args)?;
    let source = Source::open(args)?;
    let account = Account::new(args.rejects.as_deref(), source.total)?;
    let task =
        Task { args, mapping: &mapping, machine: machine.name.as_str(), now: engine::Clock::System.now() };
    let (source, account) = (Mutex::new(source), Mutex::new(account));
    scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| task.work(&source, &account));
        }
    });
    let account = account.into_inner().unwrap_or_else(PoisonError::into_inner);
    account.end(args.dry_run, args.server.json)
}

/// The mapping, checked against the machine that the server begins sessions with.
fn load(args: &ImportArgs) -> Result<(Machine, Mapping), Failure> {
    let path = &args.mapping;
    let written = std::fs::read_to_string(path)
        .map_err(|error| Failure(format!("failed to read {}: {error}", path.display())))?;
    let Some(name) = mapping::machine_of(&written) else {
        let name = path.display();
        return Err(Failure(format!("{name} does not say which machine it is for; add `machine: NAME`")));
    };
    let shown = args.server.get(&format!("/v1/machines/{}", escaped(&name)), &[])?;
    let (machine, _) = kernel::definition::load(&text(&shown["source"]));
    let version = env!("CARGO_PKG_VERSION");
    let machine = machine
        .ok_or_else(|| Failure(format!("this program ({version}) cannot read the server's definition")))?;
    let (mapping, diagnostics) = mapping::load(&written, &machine);
    for diagnostic in &diagnostics {
        eprintln!("{}\n", diagnostic.render(&path.display().to_string(), &written));
    }
    let mapping = mapping.ok_or_else(|| Failure(format!("{} cannot be used", path.display())))?;
    Ok((machine, mapping))
}

/// What no thread holds when it panics is whole; a panic is told when the scope ends.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is to be done, for every thread.
struct Task<'a> {
    args: &'a ImportArgs,
    mapping: &'a Mapping,
    machine: &'a str,
    now: Timestamp,
}

/// Records that go into one request.
#[derive(Default)]
struct Batch {
    found: Vec<Found>,
    arrivals: Vec<Value>,
}

impl Task<'_> {
    /// One request after the other, until there is nothing more or something ends it.
    fn work(&self, source: &Mutex<Source>, account: &Mutex<Account>) {
        while !locked(account).is_stopped() {
            let read = locked(source).some(RECORDS_MAX, REQUEST_BYTES);
            let records = match read {
                Ok(records) if records.is_empty() => return,
                Ok(records) => records,
                Err(failure) => return locked(account).stop(failure),
            };
            let batch = self.map(records, account);
            if batch.arrivals.is_empty() {
                continue;
            }
            match self.bring(&batch.arrivals) {
                Ok(fates) => {
                    let mut account = locked(account);
                    batch.found.iter().zip(fates).for_each(|(found, fate)| account.add(found, fate));
                }
                Err(failure) => return locked(account).stop(failure),
            }
        }
    }

    fn map(&self, records: Vec<Found>, account: &Mutex<Account>) -> Batch {
        let mut batch = Batch::default();
        for found in records {
            let mapped = match &found.record {
                Ok(record) => self.mapping.apply(record, self.now),
                Err(problem) => Err(problem.clone()),
            };
            match mapped {
                Ok(Mapped::Instance(arrival)) => {
                    batch.arrivals.push(json!(arrival));
                    batch.found.push(found);
                }
                Ok(Mapped::Skipped) => locked(account).add(&found, Fate::Skipped),
                Err(reason) => locked(account).add(&found, Fate::Rejected(reason)),
            }
        }
        batch
    }

    /// What becomes of each record of a request, or would. Where the server takes nothing of it because of one of them, that
    /// one is found by halves.
    ///
    /// # Errors
    /// What would become of all others as well.
    fn bring(&self, arrivals: &[Value]) -> Result<Vec<Fate>, Failure> {
        let from = source::shown(&self.args.from);
        let from = Path::new(&from).file_name().unwrap_or_default().to_string_lossy();
        let body = json!({
            "machine": self.machine,
            "records": arrivals,
            "dry_run": self.args.dry_run,
            "by": format!("import of {from}"),
        });
        for _ in 0..ATTEMPTS_MAX {
            match self.args.server.try_post("/v1/imports", &body)? {
                Ok(report) => return fates(&report, arrivals.len()),
                Err(problem) if problem["retryable"] == json!(true) => sleep(PAUSE),
                Err(problem) if !matches!(problem["status"].as_u64(), Some(400 | 413 | 422)) => {
                    return Err(Failure(problem_text(&problem)));
                }
                Err(problem) if arrivals.len() == 1 => {
                    return Ok(vec![Fate::Rejected(problem_text(&problem))]);
                }
                Err(_) => {
                    let (first, second) = arrivals.split_at(arrivals.len() / 2);
                    let mut fates = self.bring(first)?;
                    fates.extend(self.bring(second)?);
                    return Ok(fates);
                }
            }
        }
        Err(Failure("the server has had no room for too long".into()))
    }
}

fn fates(report: &Value, count: usize) -> Result<Vec<Fate>, Failure> {
    let records = report["records"].as_array().filter(|records| records.len() == count);
    let records =
        records.ok_or_else(|| Failure("the server answers something else than was asked".into()))?;
    let fate = |record: &Value| match record["outcome"].as_str() {
        Some("imported") => Fate::Imported { state: text(&record["state"]) },
        Some("existed") => Fate::Existed,
        // It came before and said something else then: what is here has gone on since.
        Some("rejected") if record["code"] == json!("key_reused") => Fate::Changed,
        _ => Fate::Rejected(format!("{} ({})", text(&record["detail"]), text(&record["code"]))),
    };
    Ok(records.iter().map(fate).collect())
}
