//! Where `now` comes from: the machine's clock, or one that moves only when it is told to.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use kernel::time::{Delay, Timestamp};

#[derive(Clone, Debug)]
pub enum Clock {
    System,
    /// Milliseconds since 1970, shared by all who hold the clock.
    Virtual(Arc<AtomicI64>),
}

impl Clock {
    pub fn virtual_at(start: Timestamp) -> Self {
        Self::Virtual(Arc::new(AtomicI64::new(start.as_millis())))
    }

    pub fn now(&self) -> Timestamp {
        match self {
            Self::Virtual(ms) => Timestamp::from_millis(ms.load(Ordering::SeqCst)),
            Self::System => {
                // A clock before 1970 is a broken clock; zero keeps every timer waiting rather than firing early.
                let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
            }
        }
    }

    /// Moves a virtual clock forward; nothing fires before `Engine::recover` or the next input. `None` on the machine's clock, which nobody moves.
    pub fn advance(&self, by: Delay) -> Option<Timestamp> {
        match self {
            Self::System => None,
            Self::Virtual(ms) => {
                let before = ms.fetch_add(by.as_millis(), Ordering::SeqCst);
                Some(Timestamp::from_millis(before).plus(by))
            }
        }
    }

    pub fn is_virtual(&self) -> bool {
        matches!(self, Self::Virtual(_))
    }
}
