//! Moves committed pages from the write-ahead log into the file, beside the writer.
//!
//! A thread checkpoints shortly after each write, so that a commit seldom waits for one. It cannot keep up alone: under
//! steady load the log never comes to an end that could be rewound and grows without bound. So above a cap the writer
//! checkpoints itself, when no page is being added.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::{Connection, hooks::Wal};

use crate::sqlite::failure;

/// Long enough for many batches to share one flush of the file, short enough for the log to stay in the page cache.
const PAUSE: Duration = Duration::from_millis(20);

/// 32 MiB of pages: a third of a second of full load, and a log that is read in a moment after a crash.
const LOG_PAGES_MAX: i32 = 8_192;

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
    pub(super) fn start(connection: Connection) -> std::io::Result<Self> {
        let signal = Arc::new(Signal::default());
        let of_thread = Arc::clone(&signal);
        let thread = std::thread::Builder::new()
            .name("checkpoint".into())
            .spawn(move || run(&connection, &of_thread))?;
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
}

fn run(connection: &Connection, signal: &Signal) {
    loop {
        let flags = signal.lock();
        let woken = signal.changed.wait_while(flags, |f| !f.is_written && !f.is_stopping);
        let flags = woken.unwrap_or_else(PoisonError::into_inner);
        let paused = signal.changed.wait_timeout_while(flags, PAUSE, |f| !f.is_stopping);
        let (mut flags, _) = paused.unwrap_or_else(PoisonError::into_inner);
        if flags.is_stopping {
            return;
        }
        flags.is_written = false;
        drop(flags);
        let outcome = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", (), |_| Ok(()));
        // Whatever kept it from working (no room, the writer's own checkpoint) is met again at the next write.
        let _ = outcome.map_err(failure::checked);
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
