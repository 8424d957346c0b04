//! The floors on the same disk, by turns with what is measured: the least and the first thing that a program could do.
//!
//! Both save the bytes that our commits say, in transactions of as many commits as ours had, with SQLite's full
//! durability and one writer. No decisions, no checks and no checksums: the rows are made beforehand.

mod append_only;
mod obvious;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::{Connection, TransactionBehavior};

use crate::command::Failure;
use crate::command::bench::decided::{conversations, revision, wake_at};
use crate::command::bench::line::{Line, Round, Rounds};
use crate::command::bench::process::Meter;
use crate::command::bench::{Told, disk_bytes};

const ROUNDS: u32 = 3;

/// What one has left in a log to be moved is moved before the other begins.
const REST: Duration = Duration::from_millis(200);

/// Conversations that are decided on beforehand; they are said again by other people when they are over. All stay in
/// memory, which is why they are not more.
const USERS: usize = 512;

/// What a commit says.
#[derive(Debug)]
struct Row {
    user: u64,
    revision: i64,
    at: i64,
    wake_at: Option<i64>,
    /// The session's JSON and the entry's behind it.
    body: String,
    session_length: usize,
}

impl Row {
    fn session(&self) -> &str {
        &self.body[..self.session_length]
    }

    fn entry(&self) -> &str {
        &self.body[self.session_length..]
    }
}

/// A way of saving rows.
#[derive(Debug)]
struct Kind {
    name: &'static str,
    title: &'static str,
    schema: &'static str,
    settings: &'static str,
    /// Saves one row; `pass` tells those who say it again from those before.
    save: fn(&Connection, &Row, u64) -> rusqlite::Result<()>,
    /// Moves what the log has into the file beside the writer.
    checkpoint: Option<Duration>,
}

#[derive(Debug)]
struct Floor {
    kind: Kind,
    folder: PathBuf,
    writer: Connection,
    beside: Connection,
    rows: Arc<[Row]>,
    next: usize,
    pass: u64,
}

impl Floor {
    fn open(kind: Kind, folder: PathBuf, rows: Arc<[Row]>) -> Result<Self, Failure> {
        std::fs::create_dir_all(&folder)?;
        let open = || Connection::open(folder.join("floor.db"));
        let writer = open()?;
        writer.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL")?;
        writer.execute_batch(kind.settings)?;
        writer.execute_batch(kind.schema)?;
        let beside = open()?;
        Ok(Self { kind, folder, writer, beside, rows, next: 0, pass: 0 })
    }

    /// Groups one after the other, at least one.
    fn round(&mut self, group: usize, time: Duration) -> Result<Round, Failure> {
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let Self { kind, writer, beside, rows, next, pass, .. } = self;
        let mut round = Round::default();
        std::thread::scope(|scope| {
            if let Some(pause) = kind.checkpoint {
                scope.spawn(move || checkpoint_every(beside, pause, &stopped));
            }
            let meter = Meter::start_own();
            let started = Instant::now();
            loop {
                let began = Instant::now();
                let transaction = writer.transaction_with_behavior(TransactionBehavior::Immediate)?;
                for _ in 0..group {
                    (kind.save)(&transaction, &rows[*next], *pass)?;
                    *next += 1;
                    if *next == rows.len() {
                        (*next, *pass) = (0, *pass + 1);
                    }
                }
                transaction.commit()?;
                round.events += group;
                round.latencies_us.push(u32::try_from(began.elapsed().as_micros()).unwrap_or(u32::MAX));
                if started.elapsed() >= time {
                    break;
                }
            }
            round.elapsed = started.elapsed();
            round.groups = Some(round.latencies_us.len() as u64);
            round.spent = meter.spent();
            drop(stop);
            Ok(round)
        })
    }
}

fn checkpoint_every(connection: &mut Connection, pause: Duration, stopped: &std::sync::mpsc::Receiver<()>) {
    use std::sync::mpsc::RecvTimeoutError;
    loop {
        let is_over = stopped.recv_timeout(pause) != Err(RecvTimeoutError::Timeout);
        // What kept it from working is met again at the next.
        let _ = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", (), |_| Ok(()));
        if is_over {
            return;
        }
    }
}

/// The floors beside one measurement.
#[derive(Debug)]
pub(super) struct Floors(Vec<Floor>);

impl Floors {
    /// In folders of their own under `scratch`; `in_flight` people talk at the same time.
    pub fn open(scratch: &Path, name: &str, in_flight: usize) -> Result<Self, Failure> {
        let mut rows = Vec::new();
        conversations("default", USERS.max(in_flight), in_flight, |user, commit, bytes| {
            rows.push(Row {
                user: user as u64,
                revision: revision(&commit),
                at: commit.entry.at.as_millis(),
                wake_at: wake_at(&commit),
                session_length: bytes.instance.len(),
                body: bytes.instance + &bytes.entry,
            });
        })?;
        let rows: Arc<[Row]> = rows.into();
        let open = |kind: Kind| {
            let folder = scratch.join(format!("{name}-{}", kind.name));
            Floor::open(kind, folder, Arc::clone(&rows))
        };
        Ok(Self(vec![open(append_only::KIND)?, open(obvious::KIND)?]))
    }

    /// Ours, then each floor in groups of the size that ours had, and so on for the rounds, each for its share of `time`.
    pub fn by_turns(
        mut self,
        time: Duration,
        mut ours: impl FnMut(Duration) -> Result<Round, Failure>,
    ) -> Result<Turns, Failure> {
        let time = time / ROUNDS;
        let mut rounds = Rounds::default();
        let mut floors: Vec<Rounds> = self.0.iter().map(|_| Rounds::default()).collect();
        for _ in 0..ROUNDS {
            let round = ours(time)?;
            let group = round.group().unwrap_or(1.0).round().max(1.0) as usize;
            rounds.0.push(round);
            for (floor, rounds) in self.0.iter_mut().zip(&mut floors) {
                std::thread::sleep(REST);
                rounds.0.push(floor.round(group, time)?);
            }
            std::thread::sleep(REST);
        }
        let floors = self.0.into_iter().zip(floors).map(|(floor, rounds)| Measured::of(floor, rounds));
        Ok(Turns { ours: rounds, floors: floors.collect() })
    }
}

/// A floor that is closed again.
#[derive(Debug)]
struct Measured {
    name: &'static str,
    line: Line,
}

impl Measured {
    fn of(floor: Floor, rounds: Rounds) -> Self {
        let Floor { kind, folder, writer, beside, .. } = floor;
        drop((writer, beside));
        let disk = disk_bytes(&folder) as f64 / rounds.events().max(1) as f64;
        let line = rounds.line(&format!("  floor: {}", kind.title));
        Self { name: kind.name, line: Line { disk_bytes_per_event: Some(disk), ..line } }
    }
}

#[derive(Debug)]
pub(super) struct Turns {
    pub ours: Rounds,
    floors: Vec<Measured>,
}

impl Turns {
    /// Our line with what it is of the floors, and a line for each of these. The folder's bytes are counted from `before`.
    pub fn tell(self, what: &str, folder: &Path, before: u64, told: Told<'_>) {
        let mut line = self.ours.line(what);
        for floor in &self.floors {
            line = line.beside(floor.name, floor.line.per_second);
        }
        let grown = disk_bytes(folder).saturating_sub(before);
        line.disk_bytes_per_event = Some(grown as f64 / self.ours.events().max(1) as f64);
        told(line);
        self.floors.into_iter().for_each(|floor| told(floor.line));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    /// Longer than the conversations that were decided on, so that they begin anew.
    #[test]
    fn each_floor_keeps_a_row_for_every_commit() {
        let scratch = tempfile::TempDir::new().unwrap();
        let mut floors = Floors::open(scratch.path(), "test", 3).unwrap();
        for floor in &mut floors.0 {
            let rows = Arc::clone(&floor.rows);
            let mut done = 0;
            while done <= rows.len() * 2 {
                done += floor.round(1_000, Duration::from_nanos(1)).unwrap().events;
            }
            assert_eq!(floor.pass, 2);
            for table in ["log", "history", "receipts"] {
                let count = format!("SELECT count(*) FROM {table}");
                let counted: Option<i64> = floor.writer.query_row(&count, (), |row| row.get(0)).ok();
                assert!(
                    counted.is_none_or(|counted| usize::try_from(counted) == Ok(done)),
                    "{}: {table}",
                    floor.kind.name
                );
            }
        }
        assert_eq!(floors.0.len(), 2);
    }
}
