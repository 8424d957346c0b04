//! What whoever runs the server should know about the file, as long as it is so, and the log's lines about it.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What goes on is said again after so long.
const AGAIN_AFTER: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub(super) struct Notes {
    current: Mutex<BTreeMap<&'static str, Note>>,
}

#[derive(Debug)]
struct Note {
    text: String,
    logged_at: Instant,
}

impl Notes {
    /// Keeps the note in place of an earlier one under `about`; logs it, and logs it again once a minute.
    pub fn put(&self, about: &'static str, text: String) {
        let now = Instant::now();
        let mut current = self.current();
        let logged_at = match current.get(about) {
            Some(note) if now.duration_since(note.logged_at) < AGAIN_AFTER => note.logged_at,
            _ => {
                tracing::warn!(about, "{text}");
                now
            }
        };
        current.insert(about, Note { text, logged_at });
    }

    /// Keeps the note, and does not log it.
    pub fn mention(&self, about: &'static str, text: String) {
        self.current().insert(about, Note { text, logged_at: Instant::now() });
    }

    /// It is no longer so, and never was much.
    pub fn forget(&self, about: &'static str) {
        self.current().remove(about);
    }

    /// It is no longer so.
    pub fn remove(&self, about: &'static str) {
        if let Some(note) = self.current().remove(about) {
            tracing::info!(about, "no longer so: {}", note.text);
        }
    }

    pub fn texts(&self) -> Vec<String> {
        self.current().values().map(|note| note.text.clone()).collect()
    }

    fn current(&self) -> MutexGuard<'_, BTreeMap<&'static str, Note>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
