//! Moves committed pages from the write-ahead log into the file, beside the writer.
//!
//! A thread checkpoints shortly after each write, so that a commit seldom waits for one. It cannot keep up alone: under
//! steady load the log never comes to an end that could be rewound and grows without bound. So above a cap the writer
//! checkpoints itself, when no page is being added. Whoever reads for long keeps both from working: above a second
//! limit, the thread cuts short who reads here, and says so when it is somebody else. When nothing is written any more,
//! the log is cut to nothing.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rusqlite::{Connection, hooks::Wal};

use crate::sqlite::notes::Notes;
use crate::sqlite::place::Place;
use crate::sqlite::readers::Readers;
use crate::sqlite::{BUSY_TIMEOUT, Writer, failure};

/// Long enough for many batches to share one flush of the file, short enough for the log to stay in the page cache.
const PAUSE: Duration = Duration::from_millis(20);

/// 32 MiB of pages: a third of a second of full load, and a log that is read in a moment after a crash.
const LOG_PAGES_MAX: i32 = 8_192;

/// What a page takes in the log.
const FRAME_BYTES: u64 = 4_096 + 24;

/// Nothing is written for so long before the log is cut.
const IDLE: Duration = Duration::from_secs(1);

/// A log that is no longer than this is left alone.
const LOG_BYTES_IDLE: u64 = 4 << 20;

/// The writer may wait for so long while its log is rewound, once in `IDLE`.
const REWIND_WAIT: Duration = Duration::from_millis(50);

/// When the log has so many times what is too much, a backup is cut short too: the disk is everybody's.
const PATIENCE: u64 = 16;

/// Under which a note stands about a log that cannot be shortened.
const NOTE: &str = "log";

/// Everything the thread looks after.
#[derive(Debug)]
pub(super) struct Care {
    pub writer: Arc<Mutex<Writer>>,
    pub readers: Arc<Readers>,
    pub place: Arc<Place>,
    pub notes: Arc<Notes>,
    /// Beyond this, who reads is cut short.
    pub log_bytes_max: u64,
    /// Who has read for no longer is let be.
    pub reading_max: Duration,
}

/// Lives as long as the store; dropping it ends the thread.
#[derive(Debug)]
pub(super) struct Checkpointer {
    signal: Arc<Signal>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Signal {
    flags: Mutex<Flags>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Flags {
    is_written: bool,
    is_stopping: bool,
}

impl Checkpointer {
    pub(super) fn start(connection: Connection, care: Care) -> std::io::Result<Self> {
        let signal = Arc::new(Signal::default());
        let of_thread = Arc::clone(&signal);
        let thread = std::thread::Builder::new()
            .name("checkpoint".into())
            .spawn(move || run(&connection, &care, &of_thread))?;
        Ok(Self { signal, thread: Some(thread) })
    }

    /// Says that there is something new in the log.
    pub(super) fn wrote(&self) {
        let mut flags = self.signal.lock();
        if !flags.is_written {
            flags.is_written = true;
            self.signal.changed.notify_one();
        }
    }
}

#[cfg(test)]
impl Checkpointer {
    /// Whether there is something in the log that it has not looked at yet.
    pub(super) fn has_to_look(&self) -> bool {
        self.signal.lock().is_written
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        self.signal.lock().is_stopping = true;
        self.signal.changed.notify_one();
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been reported by itself, and the store is going away.
            let _ = thread.join();
        }
    }
}

impl Signal {
    fn lock(&self) -> MutexGuard<'_, Flags> {
        self.flags.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for something to be written, for `at_most` if that is said, and then for more of it. `None` at the end.
    fn wait(&self, at_most: Option<Duration>) -> Option<bool> {
        let is_quiet = |flags: &mut Flags| !flags.is_written && !flags.is_stopping;
        let mut flags = self.lock();
        flags = match at_most {
            None => self.changed.wait_while(flags, is_quiet).unwrap_or_else(PoisonError::into_inner),
            Some(most) => {
                let waited = self.changed.wait_timeout_while(flags, most, is_quiet);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
        };
        if flags.is_written {
            let paused = self.changed.wait_timeout_while(flags, PAUSE, |flags| !flags.is_stopping);
            flags = paused.unwrap_or_else(PoisonError::into_inner).0;
        }
        if flags.is_stopping {
            return None;
        }
        Some(std::mem::take(&mut flags.is_written))
    }
}

fn run(connection: &Connection, care: &Care, signal: &Signal) {
    let mut rewound_at: Option<Instant> = None;
    let mut at_most = None;
    while let Some(is_written) = signal.wait(at_most) {
        let left = checkpoint(connection).unwrap_or_default();
        let is_too_long = left * FRAME_BYTES > care.log_bytes_max;
        if is_too_long && rewound_at.is_none_or(|at| at.elapsed() >= IDLE.min(care.reading_max)) {
            care.rewind(connection);
            rewound_at = Some(Instant::now());
        } else if !is_written && care.place.log_bytes() > LOG_BYTES_IDLE {
            care.shorten(Duration::ZERO);
        }
        if !is_too_long {
            care.notes.remove(NOTE);
        }
        at_most = (is_too_long || care.place.log_bytes() > LOG_BYTES_IDLE).then_some(IDLE);
    }
}

/// Moves what it can without waiting for anybody, and says how many pages the log has.
fn checkpoint(connection: &Connection) -> Option<u64> {
    let pragma = "PRAGMA wal_checkpoint(PASSIVE)";
    // Whatever kept it from working (no room, the writer's own checkpoint) is met again at the next write.
    let pages = connection.query_row(pragma, (), |row| row.get::<_, i64>(1)).map_err(failure::checked);
    pages.ok().map(|pages| pages.max(0).unsigned_abs())
}

impl Care {
    /// Makes room in a log that has become too long, at the cost of who reads.
    fn rewind(&self, connection: &Connection) {
        let cut = self.readers.cut_short(self.reading_max);
        if cut > 0 {
            tracing::warn!(
                cut,
                bytes = self.place.log_bytes(),
                "what was read for too long was cut short: it kept the log from being rewound"
            );
        }
        if self.shorten(REWIND_WAIT) {
            return self.notes.remove(NOTE);
        }
        if self.readers.has_patient() {
            return self.bear_with_patient();
        }
        // The writer may have been in between, and who was just cut short may still have to notice.
        let _ = checkpoint(connection);
        if cut == 0 && !self.readers.has_older_than(self.reading_max) {
            let (log, mib) = (self.place.log_path(), self.place.log_bytes() >> 20);
            self.notes.put(
                NOTE,
                format!(
                    "{} has {mib} MiB and grows: somebody outside this server holds a read transaction on the file, such as \
                     an sqlite3 shell or a copy under way; end it",
                    log.display()
                ),
            );
        }
    }

    /// Who reads all of the file is let be, until the log is far too long.
    fn bear_with_patient(&self) {
        let bytes = self.place.log_bytes();
        let is_over = bytes > self.log_bytes_max.saturating_mul(PATIENCE);
        if is_over {
            self.readers.cut_patient();
        }
        let (log, mib) = (self.place.log_path(), bytes >> 20);
        let what = if is_over { "was being taken and was cut short" } else { "is being taken" };
        self.notes.put(
            NOTE,
            format!(
                "{} has {mib} MiB: a backup {what}, and what is written meanwhile stays in it",
                log.display()
            ),
        );
    }

    /// On the writer's connection, as a rewind by another would look to it like somebody else's commit.
    fn shorten(&self, wait: Duration) -> bool {
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let connection = &writer.connection;
        let pragma = "PRAGMA wal_checkpoint(TRUNCATE)";
        let _ = connection.busy_timeout(wait);
        let busy = connection.query_row(pragma, (), |row| row.get::<_, i64>(0)).map_err(failure::checked);
        let _ = connection.busy_timeout(BUSY_TIMEOUT);
        matches!(busy, Ok(0))
    }
}

/// Makes the writer checkpoint at the end of a commit that leaves the log above its cap.
pub(super) fn cap_log(writer: &mut Connection) -> rusqlite::Result<()> {
    writer.wal_hook(Some(|wal: &mut Wal, pages| {
        if pages >= LOG_PAGES_MAX {
            // The commit is already saved, so that nothing but a failed flush is an error of it.
            let _ = wal.checkpoint().map_err(failure::checked);
        }
        Ok(())
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Without the thread, which may or may not keep up.
    #[test]
    fn the_writer_keeps_the_log_below_its_cap() {
        let directory = tempfile::TempDir::new().unwrap();
        let path = directory.path().join("statewright.db");
        let mut writer = crate::sqlite::open_writer(&path).unwrap();
        cap_log(&mut writer).unwrap();
        writer.execute_batch("CREATE TABLE t (b BLOB)").unwrap();
        let insert = "INSERT INTO t VALUES (zeroblob(2000000))";
        for _ in 0..50 {
            writer.execute(insert, ()).unwrap();
        }
        let log = std::fs::metadata(directory.path().join("statewright.db-wal")).unwrap();
        let pages = log.len() / 4_096;
        // The last commit before the cap may go over it, and each page has a header.
        assert!(pages < 9_500, "{pages} pages");
    }
}
