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
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Fate {
    Imported {
        state: String,
    },
    /// In the place of what an earlier record said.
    Replaced,
    Existed,
    /// It says something else than before, and the session has gone on here.
    GoneOn,
    Skipped,
    Rejected {
        reason: String,
        /// Something else is in its way, that may go.
        may_pass: bool,
    },
}

impl Fate {
    pub fn rejected(reason: String) -> Self {
        Self::Rejected { reason, may_pass: false }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Counts {
    pub imported: u64,
    pub replaced: u64,
    pub existed: u64,
    pub gone_on: u64,
    pub skipped: u64,
    pub rejected: u64,
    /// Records that were there, and are there no more.
    pub vanished: u64,
}

impl Counts {
    fn each(self) -> [(&'static str, u64); 7] {
        [
            ("imported", self.imported),
            ("replaced", self.replaced),
            ("existed already", self.existed),
            ("gone on here", self.gone_on),
            ("skipped", self.skipped),
            ("rejected", self.rejected),
            ("no longer there", self.vanished),
        ]
    }

    fn records(self) -> u64 {
        self.each().iter().map(|(_, count)| count).sum::<u64>() - self.vanished
    }

    /// What has come since, on one line; `None` if nothing has.
    pub fn news(self, before: Self) -> Option<String> {
        let news = self.since(before).each().into_iter().filter(|(_, count)| *count > 0);
        let news: Vec<String> = news.map(|(name, count)| format!("{name} {count}")).collect();
        (!news.is_empty()).then(|| news.join(", "))
    }
}

struct Rejected {
    number: u64,
    place: String,
    reason: String,
}

pub(super) struct Account {
    counts: Counts,
    /// By the state in which they came to stand.
    states: BTreeMap<String, u64>,
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
            counts: Counts::default(),
            states: BTreeMap::new(),
            named: Vec::new(),
            rejects: rejects.map(create).transpose()?.map(BufWriter::new),
            stopped: None,
            done: 0,
            total,
            began: Instant::now(),
            told: None,
        })
    }

    pub fn counts(&self) -> Counts {
        self.counts
    }

    pub fn is_stopped(&self) -> bool {
        self.stopped.is_some()
    }

    pub fn stop(&mut self, failure: Failure) {
        self.stopped.get_or_insert(failure);
    }

    /// What has stopped it, for whoever goes on all the same.
    pub fn take_stopped(&mut self) -> Option<Failure> {
        self.stopped.take()
    }

    pub fn vanished(&mut self, count: u64) {
        self.counts.vanished += count;
    }

    pub fn add(&mut self, found: &Found, fate: Fate) {
        self.done += found.weight;
        match fate {
            Fate::Imported { state } => {
                self.counts.imported += 1;
                *self.states.entry(state).or_default() += 1;
            }
            Fate::Replaced => self.counts.replaced += 1,
            Fate::Existed => self.counts.existed += 1,
            Fate::GoneOn => self.counts.gone_on += 1,
            Fate::Skipped => self.counts.skipped += 1,
            Fate::Rejected { reason, .. } => self.reject(found, reason),
        }
        if self.told.is_none_or(|told| told.elapsed() >= TELLS_AFTER) && std::io::stderr().is_terminal() {
            self.told = Some(Instant::now());
            eprint!("\r{}\u{1b}[K", self.progress());
        }
    }

    fn reject(&mut self, found: &Found, reason: String) {
        self.counts.rejected += 1;
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

    /// How many records a second, and, where it is known how many there are, a bar and the time to go.
    fn progress(&self) -> String {
        let elapsed = self.began.elapsed().as_secs_f64();
        let records = self.counts.records();
        let rate = records as f64 / elapsed.max(1e-3);
        let told = format!("{records} records, {rate:.0} a second, {} rejected", self.counts.rejected);
        if self.total == 0 {
            return told;
        }
        let share = (self.done as f64 / self.total as f64).min(1.0);
        let left = elapsed * (1.0 - share) / share.max(1e-6);
        let full = (share * BAR_CHARS as f64) as usize;
        let bar = "=".repeat(full) + &" ".repeat(BAR_CHARS - full);
        format!("[{bar}] {:.0} %  {told}, {left:.0} s left", share * 100.0)
    }

    /// Makes room for a line, and keeps what was rejected until then.
    pub fn rest(&mut self) -> Result<(), Failure> {
        if self.told.take().is_some() {
            eprint!("\r\u{1b}[K");
        }
        // How much there is to come, nobody knows from here on.
        self.total = 0;
        if let Some(file) = &mut self.rejects {
            file.flush()?;
        }
        Ok(())
    }

    /// Tells what came of it all. Ends with 1 if anything was rejected.
    pub fn end(mut self, is_dry: bool, as_json: bool) -> CommandResult {
        self.rest()?;
        match as_json {
            true => say!("{}", self.report(is_dry)),
            false => self.lines(is_dry).iter().for_each(|line| say!("{line}")),
        }
        if let Some(Failure(problem)) = self.stopped {
            let advice = "run it again: what was imported is not imported twice";
            return Err(Failure(format!("stopped before the end: {problem}; {advice}")));
        }
        Ok(if self.counts.rejected == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn report(&self, is_dry: bool) -> Value {
        let named = self.named.iter();
        let named = named.map(|rejected| json!({ "place": rejected.place, "reason": rejected.reason }));
        let mut report = self.counts.report();
        report["dry_run"] = json!(is_dry);
        report["complete"] = json!(self.stopped.is_none());
        report["records"] = json!(self.counts.records());
        report["states"] = json!(self.states);
        report["first_rejected"] = named.collect();
        report
    }

    fn lines(&self, is_dry: bool) -> Vec<String> {
        let mut lines = Vec::new();
        if is_dry {
            lines.push("nothing has been imported; what would come of it:".to_owned());
        }
        let Counts { imported, replaced, existed, gone_on, skipped, rejected, vanished } = self.counts;
        lines.push(format!(
            "{} records in {:.1} s: imported {imported}, replaced {replaced}, existed already {existed}, skipped {skipped}, rejected {rejected}",
            self.counts.records(),
            self.began.elapsed().as_secs_f64(),
        ));
        let states = self.states.iter();
        lines.extend(states.map(|(state, count)| format!("{count:>9}  in {state}")));
        if gone_on > 0 {
            lines.push(format!(
                "{gone_on:>9}  say something else than before, and have gone on here: they stay as they are"
            ));
        }
        if vanished > 0 {
            lines.push(format!("{vanished:>9}  are there no longer; here they are as they were"));
        }
        let named = self.named.iter();
        lines.extend(named.map(|rejected| format!("{}: {}", rejected.place, rejected.reason)));
        let more = rejected - self.named.len() as u64;
        if more > 0 {
            lines.push(format!("… and {more} more; --rejects FILE has them all"));
        }
        lines
    }
}

impl Counts {
    pub fn since(self, before: Self) -> Self {
        Self {
            imported: self.imported - before.imported,
            replaced: self.replaced - before.replaced,
            existed: self.existed - before.existed,
            gone_on: self.gone_on - before.gone_on,
            skipped: self.skipped - before.skipped,
            rejected: self.rejected - before.rejected,
            vanished: self.vanished - before.vanished,
        }
    }

    pub fn report(self) -> Value {
        let Self { imported, replaced, existed, gone_on, skipped, rejected, vanished } = self;
        json!({ "imported": imported, "replaced": replaced, "existed": existed, "gone_on": gone_on,
            "skipped": skipped, "rejected": rejected, "vanished": vanished })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_what_has_come_since() {
        let before = Counts { imported: 3, rejected: 1, ..Counts::default() };
        let now = Counts { replaced: 2, rejected: 2, vanished: 1, ..before };
        for (now, expected) in
            [(before, None), (now, Some("replaced 2, rejected 1, no longer there 1".to_owned()))]
        {
            assert_eq!(now.news(before), expected);
        }
        assert_eq!(now.records(), 7);
    }
}
