//! `import`: sessions of another system, from a file, a table or the keys of a Redis, by a mapping, each once; and again, as
//! long as the other system owns them.
//!
//! Owns the going through what there is, once, and what is asked of the server. Whoever is interrupted begins again from the
//! top: what was brought in is not brought in again.

mod account;
mod follow;
mod memory;
mod source;
mod undo;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{scope, sleep};
use std::time::Duration;

use clap::{Args, ValueEnum};
use kernel::id::Digest;
use kernel::machine::Machine;
use kernel::mapping::{self, Arrival, Mapped, Mapping};
use kernel::time::{Delay, Timestamp};
use serde_json::{Value, json};

use crate::command::backup;
use crate::command::client::{ServerArgs, problem_text, text};
use crate::command::import::account::{Account, Fate};
use crate::command::import::memory::{Memory, News};
use crate::command::import::source::{Found, Scope, Source};
use crate::command::{CommandResult, Failure};
use crate::http::BODY_BYTES_MAX;
use crate::outgoing::escaped;

/// Requests that are on their way at once: while one is saved, others are read and mapped.
const AT_ONCE: usize = 4;
/// What one request holds at most. The server takes a thousand records, and a mebibyte.
const RECORDS_MAX: usize = 500;
const REQUEST_BYTES: usize = 512 * 1024;
/// Of a request, what is around its records: names, and who it is.
const ENVELOPE_BYTES: usize = 4 * 1024;
/// How often a request is sent that the server has no room for at the moment, and what is waited in between.
const ATTEMPTS_MAX: usize = 60;
const PAUSE: Duration = Duration::from_secs(1);

#[derive(Debug, Args)]
#[command(
    after_help = "Ends with 0 when every record is imported, was so before or is skipped, and with 1 when some are rejected. Cut \
    short, it may be run again: what was imported is not imported twice. --undo ends with 1 when some have gone on here."
)]
pub(crate) struct ImportArgs {
    /// A file of JSON lines, a CSV whose first line names the columns, postgres://… with --table, or redis://… with --keys
    #[arg(required_unless_present = "undo", conflicts_with = "undo")]
    from: Option<String>,
    /// The table or view of a PostgreSQL database, as SCHEMA.NAME or NAME
    #[arg(long, value_name = "NAME", conflicts_with = "undo")]
    table: Option<String>,
    /// The keys of a Redis, such as user:*:state
    #[arg(long, value_name = "PATTERN", conflicts_with = "undo")]
    keys: Option<String>,
    /// How a record becomes a session: see docs/moving.md
    #[arg(long, value_name = "FILE", required_unless_present = "undo")]
    mapping: Option<PathBuf>,
    /// Of a file [default: by the end of its name, else jsonl]
    #[arg(long)]
    format: Option<Format>,
    /// Bring in nothing, and say what would become of each record
    #[arg(long)]
    dry_run: bool,
    /// Back the server up into this file first: all that it has, of all tenants
    #[arg(long, value_name = "FILE", conflicts_with_all = ["dry_run", "undo"])]
    backup: Option<PathBuf>,
    /// What the server wants of whoever takes a backup: `backup_key` of its settings
    #[arg(long, value_name = "KEY", env = "STATEWRIGHT_BACKUP_KEY", hide_env_values = true)]
    backup_key: Option<String>,
    /// Write what was rejected into this file, each record with its line and the reason
    #[arg(long, value_name = "FILE", conflicts_with = "undo")]
    rejects: Option<PathBuf>,
    /// Go on importing what is new or changed, until Ctrl-C
    #[arg(long, conflicts_with_all = ["dry_run", "undo"])]
    follow: bool,
    /// Between two looks
    #[arg(long, value_name = "DELAY", default_value = "5s", value_parser = Delay::parse, requires = "follow")]
    every: Delay,
    /// End when nothing has come for so long, such as 60 (seconds) or 5m
    #[arg(long, value_name = "DELAY", value_parser = seconds_or_delay, requires = "follow")]
    until_idle: Option<Delay>,
    /// Withdraw what was imported, as far as it has not gone on here
    #[arg(long)]
    undo: bool,
    /// With --undo: the machine, if no mapping says so
    #[arg(long, value_name = "NAME", requires = "undo")]
    machine: Option<String>,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Jsonl,
    Csv,
}

fn seconds_or_delay(text: &str) -> Result<Delay, String> {
    text.parse().map(Delay::from_secs).or_else(|_| Delay::parse(text))
}

pub(crate) fn import(args: &ImportArgs) -> CommandResult {
    if args.undo {
        return undo::undo(args);
    }
    let (machine, mapping) = load(args)?;
    if let Some(path) = &args.backup {
        eprintln!("{}", backup::before(path, args.backup_key.as_deref(), &args.server)?);
    }
    let task =
        Task { args, mapping: &mapping, machine: machine.name.as_str(), now: engine::Clock::System.now() };
    if args.follow {
        return follow::follow(&task);
    }
    let mut source = Source::open(Scope { args, column: None, since: None })?;
    let account = Mutex::new(Account::new(args.rejects.as_deref(), source.total)?);
    task.pass(&mut source, None, &account, &AtomicBool::new(false));
    let account = account.into_inner().unwrap_or_else(PoisonError::into_inner);
    account.end(args.dry_run, args.server.json)
}

/// The mapping's file, and what is written there.
fn written(args: &ImportArgs) -> Result<Option<(&Path, String)>, Failure> {
    let Some(path) = args.mapping.as_deref() else { return Ok(None) };
    let written = std::fs::read_to_string(path)
        .map_err(|error| Failure(format!("failed to read {}: {error}", path.display())))?;
    Ok(Some((path, written)))
}

/// The machine that a mapping is for.
fn named(path: &Path, written: &str) -> Result<String, Failure> {
    let name = path.display();
    mapping::machine_of(written)
        .ok_or_else(|| Failure(format!("{name} does not say which machine it is for; add `machine: NAME`")))
}

/// The mapping, checked against the machine that the server begins sessions with.
fn load(args: &ImportArgs) -> Result<(Machine, Mapping), Failure> {
    let (path, written) = written(args)?.ok_or_else(|| Failure("--mapping is missing".into()))?;
    let name = named(path, &written)?;
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

/// A record that goes into a request.
struct Sending {
    found: Found,
    arrival: Value,
    /// Of the arrival, as it is sent.
    bytes: usize,
    /// Whose it is, what it is called, and what it says.
    whose: Digest,
    name: Digest,
    says: Digest,
    news: News,
}

/// Records that go into one request.
#[derive(Default)]
struct Batch {
    records: Vec<Sending>,
    bytes: usize,
}

impl Batch {
    fn is_full(&self) -> bool {
        self.records.len() >= RECORDS_MAX || self.bytes >= REQUEST_BYTES
    }
}

/// Records that are sent one request after the other: of one session, and of the sessions of one person, a later record
/// comes behind an earlier one.
struct Lane {
    batch: Batch,
    requests: SyncSender<Batch>,
}

impl Lane {
    /// The other end is gone only if its thread has panicked, which is told when the scope ends.
    fn send(&mut self) {
        if !self.batch.records.is_empty() {
            let _ = self.requests.send(std::mem::take(&mut self.batch));
        }
    }
}

impl Task<'_> {
    /// Goes through what there is, until there is nothing more or something ends it.
    fn pass(
        &self,
        source: &mut Source,
        memory: Option<&Mutex<Memory>>,
        account: &Mutex<Account>,
        is_over: &AtomicBool,
    ) {
        scope(|scope| {
            let lane = |_| {
                let (requests, waiting) = sync_channel(1);
                scope.spawn(move || self.work(&waiting, memory, account));
                Lane { batch: Batch::default(), requests }
            };
            let mut lanes: Vec<Lane> = (0..AT_ONCE).map(lane).collect();
            while !locked(account).is_stopped() && !is_over.load(Ordering::Relaxed) {
                let found = match source.next() {
                    Ok(None) => break,
                    Ok(Some(found)) => found,
                    Err(failure) => return locked(account).stop(failure),
                };
                if let Some(sending) = self.map(found, memory, account) {
                    let lane = &mut lanes[(sending.whose.0 % AT_ONCE as u128) as usize];
                    lane.batch.bytes += sending.bytes;
                    lane.batch.records.push(sending);
                    if lane.batch.is_full() {
                        lane.send();
                    }
                }
            }
            lanes.iter_mut().for_each(Lane::send);
        });
    }

    /// One request after the other.
    fn work(&self, requests: &Receiver<Batch>, memory: Option<&Mutex<Memory>>, account: &Mutex<Account>) {
        for Batch { records, .. } in requests {
            if locked(account).is_stopped() {
                continue;
            }
            let fates = match self.bring(&records) {
                Ok(fates) => fates,
                Err(failure) => {
                    locked(account).stop(failure);
                    continue;
                }
            };
            if let Some(memory) = memory {
                let mut memory = locked(memory);
                let each = records.iter().zip(&fates);
                each.for_each(|(sending, fate)| memory.settle(sending.name, sending.says, fate));
            }
            let mut account = locked(account);
            for (sending, fate) in records.iter().zip(fates) {
                let is_told = sending.news == News::OnceMore && matches!(fate, Fate::Rejected { .. });
                if !is_told {
                    account.add(&sending.found, fate);
                }
            }
        }
    }

    /// What is to be sent of a record, if anything is.
    fn map(&self, found: Found, memory: Option<&Mutex<Memory>>, account: &Mutex<Account>) -> Option<Sending> {
        let mapped = match &found.record {
            Ok(record) => self.mapping.apply(record, self.now),
            Err(problem) => Err(problem.clone()),
        };
        let fate = match mapped {
            Ok(Mapped::Instance(arrival)) => {
                let name = name_of(&arrival);
                let whose =
                    arrival.subject.as_ref().map_or(name, |whose| Digest::of(whose.as_str().as_bytes()));
                let arrival = json!(arrival);
                let text = arrival.to_string();
                let (says, bytes) = (Digest::of(text.as_bytes()), text.len());
                let news = memory.map_or(News::Something, |memory| locked(memory).met(name, says));
                return (news != News::Nothing).then_some(Sending {
                    found,
                    arrival,
                    bytes,
                    whose,
                    name,
                    says,
                    news,
                });
            }
            Ok(Mapped::Skipped) => Fate::Skipped,
            Err(reason) => Fate::rejected(reason),
        };
        let record = || match (&found.record, &found.raw) {
            (Ok(record), _) => Digest::of(record.to_string().as_bytes()),
            (Err(_), raw) => Digest::of(raw.as_deref().unwrap_or(&found.place).as_bytes()),
        };
        if memory.is_none_or(|memory| locked(memory).drop_first(record())) {
            locked(account).add(&found, fate);
        }
        None
    }

    /// What becomes of each record of a request, or would. Where the server takes nothing of it because of one of them, that
    /// one is found by halves.
    ///
    /// # Errors
    /// What would become of all others as well.
    fn bring(&self, records: &[Sending]) -> Result<Vec<Fate>, Failure> {
        let halves = || {
            let (first, second) = records.split_at(records.len() / 2);
            let mut fates = self.bring(first)?;
            fates.extend(self.bring(second)?);
            Ok(fates)
        };
        // A server that is sent more hangs up before it has read it all.
        let bytes: usize = records.iter().map(|record| record.bytes + 1).sum();
        match records.len() {
            _ if bytes <= BODY_BYTES_MAX - ENVELOPE_BYTES => {}
            1 => {
                let reason =
                    format!("it would have {bytes} bytes in a request, which may have {BODY_BYTES_MAX}");
                return Ok(vec![Fate::rejected(format!("{reason} (body_too_large)"))]);
            }
            _ => return halves(),
        }
        let from = source::shown(self.args.from.as_deref().unwrap_or_default());
        let from = Path::new(&from).file_name().unwrap_or_default().to_string_lossy();
        let body = json!({
            "machine": self.machine,
            "records": records.iter().map(|record| &record.arrival).collect::<Vec<_>>(),
            "dry_run": self.args.dry_run,
            "by": format!("import of {from}"),
        });
        for _ in 0..ATTEMPTS_MAX {
            match self.args.server.try_post("/v1/imports", &body)? {
                Ok(report) => return fates(&report, records.len()),
                Err(problem) if problem["retryable"] == json!(true) => sleep(PAUSE),
                Err(problem) if !matches!(problem["status"].as_u64(), Some(400 | 413 | 422)) => {
                    return Err(Failure(problem_text(&problem)));
                }
                Err(problem) if records.len() == 1 => {
                    return Ok(vec![Fate::rejected(problem_text(&problem))]);
                }
                Err(_) => return halves(),
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
        Some("replaced") => Fate::Replaced,
        Some("existed") => Fate::Existed,
        Some("gone_on") => Fate::GoneOn,
        _ => Fate::Rejected {
            reason: format!("{} ({})", text(&record["detail"]), text(&record["code"])),
            may_pass: ["instance_exists", "key_reused"].iter().any(|code| record["code"] == json!(code)),
        },
    };
    Ok(records.iter().map(fate).collect())
}

/// What tells a record from those of other sessions.
fn name_of(arrival: &Arrival) -> Digest {
    match (&arrival.key, &arrival.id) {
        (Some(key), _) => Digest::of_parts(&["key", key.as_str()]),
        (None, id) => Digest::of_parts(&["id", id.as_ref().map_or("", |id| id.as_str())]),
    }
}
