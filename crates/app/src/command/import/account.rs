//! What has become of every record: counted, told while it goes on, and written down where it was rejected.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::command::import::source::Found;
use crate::command::{CommandResult, Failure};

const TELLS_AFTER: Duration = Duration::from_millis(200);
/// Lines that a report names.
const NAMED_MAX: usize = 20;
const BAR_CHARS: usize = 24;

/// What has become of a record, or would.
#[derive(Debug, PartialEq)]
pub(super) enum Fate {
    Imported {
        state: String,
    },
    Existed,
    /// It is there, from a record that said something else.
    Changed,
    Skipped,
    Rejected(String),
}

struct Rejected {
    number: u64,
    place: String,
    reason: String,
}

pub(super) struct Account {
    /// By the state in which they came to stand.
    imported: BTreeMap<String, u64>,
    existed: u64,
    changed: u64,
    skipped: u64,
    rejected: u64,
    /// The first of those that were rejected.
    named: Vec<Rejected>,
    rejects: Option<BufWriter<File>>,
    stopped: Option<Failure>,
    done: u64,
    /// 0 where nobody knows.
    total: u64,
    began: Instant,
    told: Option<Instant>,
}

impl Account {
    pub fn new(rejects: Option<&Path>, total: u64) -> Result<Self, Failure> {
        let create = |path: &Path| {
            File::create(path)
                .map_err(|error| Failure(format!("failed to write {}: {error}", path.display())))
        };
        Ok(Self {
            imported: BTreeMap::new(),
            existed: 0,
            changed: 0,
            skipped: 0,
            rejected: 0,
            named: Vec::new(),
            rejects: rejects.map(create).transpose()?.map(BufWriter::new),
            stopped: None,
            done: 0,
            total,
            began: Instant::now(),
            told: None,
        })
    }

    pub fn is_stopped(&self) -> bool {
        self.stopped.is_some()
    }

    pub fn stop(&mut self, failure: Failure) {
        self.stopped.get_or_insert(failure);
    }

    pub fn add(&mut self, found: &Found, fate: Fate) {
        self.done += found.weight;
        match fate {
            Fate::Imported { state } => *self.imported.entry(state).or_default() += 1,
            Fate::Existed => self.existed += 1,
            Fate::Changed => self.changed += 1,
            Fate::Skipped => self.skipped += 1,
            Fate::Rejected(reason) => self.reject(found, reason),
        }
        if self.told.is_none_or(|told| told.elapsed() >= TELLS_AFTER) && std::io::stderr().is_terminal() {
            self.told = Some(Instant::now());
            eprint!("\r{}\u{1b}[K", self.progress());
        }
    }

    fn reject(&mut self, found: &Found, reason: String) {
        self.rejected += 1;
        if let Some(file) = &mut self.rejects {
            let record = match (&found.record, &found.raw) {
                (Ok(record), _) => record.clone(),
                (Err(_), raw) => json!(raw),
            };
            let line = json!({ "place": found.place, "reason": reason, "record": record });
            if let Err(error) = writeln!(file, "{line}") {
                self.stop(Failure(format!("failed to write what was rejected: {error}")));
            }
        }
        // Threads are done with their lines in no order.
        let at = self.named.partition_point(|rejected| rejected.number < found.number);
        self.named.insert(at, Rejected { number: found.number, place: found.place.clone(), reason });
        self.named.truncate(NAMED_MAX);
    }

    fn records(&self) -> u64 {
        self.imported.values().sum::<u64>() + self.existed + self.changed + self.skipped + self.rejected
    }

    /// How many records a second, and, where it is known how many there are, a bar and the time to go.
    fn progress(&self) -> String {
        let elapsed = self.began.elapsed().as_secs_f64();
        let rate = self.records() as f64 / elapsed.max(1e-3);
        let told = format!("{} records, {rate:.0} a second, {} rejected", self.records(), self.rejected);
        if self.total == 0 {
            return told;
        }
        let share = (self.done as f64 / self.total as f64).min(1.0);
        let left = elapsed * (1.0 - share) / share.max(1e-6);
        let full = (share * BAR_CHARS as f64) as usize;
        let bar = "=".repeat(full) + &" ".repeat(BAR_CHARS - full);
        format!("[{bar}] {:.0} %  {told}, {left:.0} s left", share * 100.0)
    }

    /// Tells what came of it all. Ends with 1 if anything was rejected.
    pub fn end(mut self, is_dry: bool, as_json: bool) -> CommandResult {
        if self.told.is_some() {
            eprint!("\r\u{1b}[K");
        }
        if let Some(file) = &mut self.rejects {
            file.flush()?;
        }
        match as_json {
            true => say!("{}", self.report(is_dry)),
            false => self.lines(is_dry).iter().for_each(|line| say!("{line}")),
        }
        if let Some(Failure(problem)) = self.stopped {
            let advice = "run it again: what was imported is not imported twice";
            return Err(Failure(format!("stopped before the end: {problem}; {advice}")));
        }
        Ok(if self.rejected == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn report(&self, is_dry: bool) -> Value {
        let named = self.named.iter();
        let named = named.map(|rejected| json!({ "place": rejected.place, "reason": rejected.reason }));
        json!({
            "dry_run": is_dry,
            "complete": self.stopped.is_none(),
            "records": self.records(),
            "imported": self.imported.values().sum::<u64>(),
            "existed": self.existed,
            "changed": self.changed,
            "skipped": self.skipped,
            "rejected": self.rejected,
            "states": self.imported,
            "first_rejected": named.collect::<Vec<_>>(),
        })
    }

    fn lines(&self, is_dry: bool) -> Vec<String> {
        let mut lines = Vec::new();
        if is_dry {
            lines.push("nothing has been imported; what would come of it:".to_owned());
        }
        lines.push(format!(
            "{} records in {:.1} s: imported {}, existed already {}, skipped {}, rejected {}",
            self.records(),
            self.began.elapsed().as_secs_f64(),
            self.imported.values().sum::<u64>(),
            self.existed,
            self.skipped,
            self.rejected
        ));
        if self.changed > 0 {
            lines.push(format!(
                "{:>9}  were imported before from records that said something else; they stay as they are",
                self.changed
            ));
        }
        lines.extend(self.imported.iter().map(|(state, count)| format!("{count:>9}  in {state}")));
        let named = self.named.iter();
        lines.extend(named.map(|rejected| format!("{}: {}", rejected.place, rejected.reason)));
        let more = self.rejected - self.named.len() as u64;
        if more > 0 {
            lines.push(format!("… and {more} more; --rejects FILE has them all"));
        }
        lines
    }
}
