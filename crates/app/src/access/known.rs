//! What is remembered of keys for a few seconds, so that not every request asks the store; of ids that nobody has, too.
//!
//! Bounded in number and in age. A server forgets at once what it changes itself; what another has changed counts here
//! when it has been forgotten by its age.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kernel::id::InstanceId;
use quick_cache::sync::Cache;
use tokio::sync::{Semaphore, SemaphorePermit, watch};

use crate::access::api_key::ApiKey;

/// For so long at most a key goes on that another server has revoked.
const AGE_MAX: Duration = Duration::from_secs(3);
/// So many look for keys at one time that have not been here lately: those who guess make the store no more work than that,
/// and each in its turn, so that a good key waits for a few of them and no longer.
const TURNS: usize = 4;
/// Some megabytes at most. Guesses push out guesses before they push out what is asked for again.
const KEYS_MAX: usize = 10_000;

#[derive(Clone)]
struct Remembered {
    key: Option<Arc<ApiKey>>,
    at: Instant,
}

pub struct Known {
    keys: Cache<InstanceId, Remembered>,
    /// How often something was forgotten: what was read before then may be older than what was forgotten. Whoever goes on by
    /// a key hears of it.
    changes: watch::Sender<u64>,
    turns: Semaphore,
}

impl fmt::Debug for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Known({} keys)", self.keys.len())
    }
}

impl Default for Known {
    fn default() -> Self {
        Self { keys: Cache::new(KEYS_MAX), changes: watch::Sender::new(0), turns: Semaphore::new(TURNS) }
    }
}

/// When a look into the store began.
#[derive(Clone, Copy, Debug)]
pub struct Mark(u64);

impl Known {
    /// What the store has said lately; `Some(None)` if it has said that there is no such key.
    pub fn get(&self, id: &InstanceId, now: Instant) -> Option<Option<Arc<ApiKey>>> {
        let found = self.keys.get(id)?;
        (now.saturating_duration_since(found.at) < AGE_MAX).then_some(found.key)
    }

    /// Whether there has been such a key, as far as anybody remembers, however long ago.
    pub fn has_been(&self, id: &InstanceId) -> bool {
        self.keys.get(id).is_some_and(|found| found.key.is_some())
    }

    /// A turn at the store, for as long as it is held.
    pub async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        // Nobody closes it.
        self.turns.acquire().await.ok()
    }

    pub fn mark(&self) -> Mark {
        Mark(*self.changes.borrow())
    }

    /// Remembers what the store said to somebody who began to ask at `mark`.
    pub fn remember(&self, id: &InstanceId, key: Option<Arc<ApiKey>>, mark: Mark, now: Instant) {
        self.keys.insert(id.clone(), Remembered { key, at: now });
        // Looked at afterwards: whoever forgets in between has either seen it, or is seen.
        if *self.changes.borrow() != mark.0 {
            self.keys.remove(id);
        }
    }

    /// To be called when what is stored of a key has changed.
    pub fn forget(&self, id: &InstanceId) {
        self.changes.send_if_modified(|changes| {
            *changes += 1;
            false
        });
        self.keys.remove(id);
        // Whoever hears of it must not find what was remembered.
        self.changes.send_modify(|_| ());
    }

    /// Tells of every change that this server makes to a key.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> InstanceId {
        InstanceId::parse(text).unwrap()
    }

    #[test]
    fn what_is_too_old_is_asked_for_again() {
        let (known, now) = (Known::default(), Instant::now());
        known.remember(&id("a"), None, known.mark(), now);
        assert!(matches!(known.get(&id("a"), now), Some(None)));
        assert!(known.get(&id("a"), now + AGE_MAX).is_none());
        assert!(known.get(&id("b"), now).is_none());
        assert!(!known.has_been(&id("a")), "nobody has had it");
    }

    #[test]
    fn what_was_read_before_a_change_is_not_remembered_after_it() {
        let (known, now) = (Known::default(), Instant::now());
        let mark = known.mark();
        known.forget(&id("a"));
        known.remember(&id("a"), None, mark, now);
        assert!(known.get(&id("a"), now).is_none());
        known.remember(&id("a"), None, known.mark(), now);
        known.forget(&id("a"));
        assert!(known.get(&id("a"), now).is_none());
    }

    #[test]
    fn guesses_fill_no_memory() {
        let (known, now) = (Known::default(), Instant::now());
        for guess in 0..3 * KEYS_MAX {
            known.remember(&id(&guess.to_string()), None, known.mark(), now);
        }
        assert!(known.keys.len() <= KEYS_MAX);
    }
}
