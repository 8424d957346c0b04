//! The thread that looks at a large file while it is used already.
//!
//! Owns when that is done and what follows from it; `verify` owns the looking. While it looks it reads, so that it is cut
//! short like any reader when the log grows too long, and begins again later. Whoever waits for something to be saved comes
//! first: meanwhile it rests.

use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError, TryLockError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::sqlite::notes::Notes;
use crate::sqlite::place::Place;
use crate::sqlite::readers::{Readers, is_interrupted};
use crate::sqlite::verify::{self, Verdict};
use crate::sqlite::{DAMAGE, Writer, failure};

/// After so long, what was cut short is begun again.
const AGAIN_AFTER: Duration = Duration::from_secs(60);

/// What the thread needs, and what it says.
#[derive(Debug)]
pub(super) struct Task {
    pub writer: Arc<Mutex<Writer>>,
    pub readers: Arc<Readers>,
    pub place: Arc<Place>,
    pub notes: Arc<Notes>,
    /// Set when records may be missing.
    pub broken: Arc<OnceLock<String>>,
}

/// Dropping it ends the thread.
#[derive(Debug)]
pub(super) struct Verifier {
    stop: Arc<Stop>,
    readers: Arc<Readers>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Stop {
    is_stopping: Mutex<bool>,
    changed: Condvar,
}

impl Stop {
    /// Waits, and says whether to stop.
    fn wait(&self, at_most: Duration) -> bool {
        let is_stopping = self.is_stopping.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_timeout_while(is_stopping, at_most, |is_stopping| !*is_stopping);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

impl Verifier {
    pub fn start(task: Task) -> std::io::Result<Self> {
        let (stop, readers) = (Arc::<Stop>::default(), Arc::clone(&task.readers));
        let of_thread = Arc::clone(&stop);
        let thread = std::thread::Builder::new().name("verify".into()).spawn(move || task.run(&of_thread))?;
        Ok(Self { stop, readers, thread: Some(thread) })
    }
}

impl Drop for Verifier {
    fn drop(&mut self) {
        *self.stop.is_stopping.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.stop.changed.notify_one();
        let Some(thread) = self.thread.take() else { return };
        while !thread.is_finished() {
            self.readers.cut_short(Duration::ZERO);
            std::thread::park_timeout(Duration::from_millis(1));
        }
        // A panic of the thread has been reported by itself, and the store is going away.
        let _ = thread.join();
    }
}

impl Task {
    fn run(&self, stop: &Stop) {
        let path: &Path = &self.place.path;
        let file = path.display();
        self.notes
            .mention(DAMAGE, format!("whether its indices lead to all records of {file} is being looked at"));
        while !stop.wait(Duration::ZERO) {
            let verdict = match self.look() {
                Ok(lines) if lines.is_empty() => Verdict::Whole,
                Ok(_) => self.examine(),
                Err(error) if is_interrupted(&error) => {
                    let note = format!(
                        "whether its indices lead to all records of {file} is not known: looking was cut short because the \
                         log grew too long, and is begun again in a minute"
                    );
                    self.notes.mention(DAMAGE, note);
                    if stop.wait(AGAIN_AFTER) {
                        return;
                    }
                    continue;
                }
                Err(error) => Verdict::Broken(failure::checked(error).to_string()),
            };
            return self.tell(&verdict);
        }
    }

    fn look(&self) -> rusqlite::Result<Vec<String>> {
        let writer = Arc::clone(&self.writer);
        self.readers
            .ask_aside(move || matches!(writer.try_lock(), Err(TryLockError::WouldBlock)), verify::look)
    }

    /// Nothing can be saved meanwhile.
    fn examine(&self) -> Verdict {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let found = verify::examine(&mut writer.connection);
        found.unwrap_or_else(|error| Verdict::Broken(failure::checked(error).to_string()))
    }

    fn tell(&self, verdict: &Verdict) {
        match verdict.note(&self.place.path) {
            None => self.notes.forget(DAMAGE),
            Some(note) => {
                if matches!(verdict, Verdict::Broken(_)) {
                    let _ = self.broken.set(note.clone());
                }
                self.notes.forget(DAMAGE);
                self.notes.put(DAMAGE, note);
            }
        }
    }
}
