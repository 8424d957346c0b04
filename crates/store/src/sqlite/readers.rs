//! The connections that read, and for how long each has been at one question.
//!
//! Who reads keeps the log from being rewound, so that nobody may read for long: a question can be given a budget,
//! after which it comes back without an answer, and whoever looks after the log can cut short what has none.

use std::panic::RefUnwindSafe;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, ffi};

use crate::sqlite::place::Place;

/// More than there are threads that read at once; a connection that comes back to a full pool is closed.
const IDLE_READERS_MAX: usize = 8;

/// So many steps of SQLite's machine are between two looks at the clock: some microseconds.
const STEPS_BETWEEN: i32 = 1_000;

const NEVER: u64 = u64::MAX;

/// Who rests looks so often whether that is over.
const REST: Duration = Duration::from_millis(1);

#[derive(Debug)]
pub(super) struct Readers {
    place: Arc<Place>,
    idle: Mutex<Vec<Reader>>,
    /// Of every connection that is open, also those that are idle.
    clocks: Mutex<Vec<Arc<Clock>>>,
}

#[derive(Debug)]
pub(super) struct Reader {
    pub connection: Connection,
    clock: Arc<Clock>,
}

/// Times are microseconds since `base`.
#[derive(Debug)]
struct Clock {
    base: Instant,
    /// `NEVER` while nothing is asked.
    began: AtomicU64,
    deadline: AtomicU64,
    is_cut: AtomicBool,
    /// Only `cut_patient` cuts it short.
    is_patient: AtomicBool,
}

impl Clock {
    fn now(&self) -> u64 {
        u64::try_from(self.base.elapsed().as_micros()).unwrap_or(NEVER - 1)
    }

    fn is_over(&self) -> bool {
        self.is_cut.load(Ordering::Relaxed) || self.is_late()
    }

    fn is_late(&self) -> bool {
        let deadline = self.deadline.load(Ordering::Relaxed);
        deadline != NEVER && self.now() >= deadline
    }

    fn begin(&self, budget: Option<Duration>) {
        let now = self.now();
        let deadline = budget
            .map_or(NEVER, |budget| now.saturating_add(u64::try_from(budget.as_micros()).unwrap_or(NEVER)));
        self.is_cut.store(false, Ordering::Relaxed);
        self.deadline.store(deadline, Ordering::Relaxed);
        self.began.store(now, Ordering::Relaxed);
    }

    fn end(&self) {
        self.began.store(NEVER, Ordering::Relaxed);
        self.deadline.store(NEVER, Ordering::Relaxed);
    }

    fn age(&self) -> Option<Duration> {
        let began = self.began.load(Ordering::Relaxed);
        (began != NEVER).then(|| Duration::from_micros(self.now().saturating_sub(began)))
    }
}

impl Readers {
    pub fn new(place: Arc<Place>) -> Self {
        Self { place, idle: Mutex::default(), clocks: Mutex::default() }
    }

    /// Runs `question` on a connection of the pool.
    pub fn ask<T, E: From<rusqlite::Error>>(
        &self,
        question: impl FnOnce(&Reader) -> Result<T, E>,
    ) -> Result<T, E> {
        let idle = lock(&self.idle).pop();
        let reader = match idle {
            Some(reader) => reader,
            None => self.open()?,
        };
        reader.clock.begin(None);
        let answer = question(&reader);
        reader.clock.end();
        let mut idle = lock(&self.idle);
        if idle.len() < IDLE_READERS_MAX {
            idle.push(reader);
        }
        answer
    }

    /// Runs `question` on a connection of its own, which rests while others are busy. It can be cut short like any.
    pub fn ask_aside<T>(
        &self,
        mut are_busy: impl FnMut() -> bool + Send + RefUnwindSafe + 'static,
        question: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        let mut reader = self.open()?;
        let clock = Arc::clone(&reader.clock);
        let is_over = move || {
            while !clock.is_over() && are_busy() {
                std::thread::sleep(REST);
            }
            clock.is_over()
        };
        reader.connection.progress_handler(STEPS_BETWEEN, Some(is_over))?;
        reader.clock.begin(None);
        let answer = question(&reader.connection);
        reader.clock.end();
        answer
    }

    /// Runs `question` on a connection of its own, for as long as it takes: who waits for the log lets it be, until there
    /// is too much of it.
    pub fn ask_patiently<T, E: From<rusqlite::Error>>(
        &self,
        question: impl FnOnce(&Connection) -> Result<T, E>,
    ) -> Result<T, E> {
        let reader = self.open()?;
        reader.clock.is_patient.store(true, Ordering::Relaxed);
        reader.clock.begin(None);
        let answer = question(&reader.connection);
        reader.clock.end();
        answer
    }

    pub fn open(&self) -> rusqlite::Result<Reader> {
        // What has taken the file's place is not what this server has.
        if let Some(gone) = self.place.is_gone() {
            let code = ffi::Error::new(ffi::SQLITE_CANTOPEN);
            return Err(rusqlite::Error::SqliteFailure(code, Some(gone)));
        }
        let mut connection = super::open_reader(&self.place.path)?;
        let clock = Arc::new(Clock {
            base: Instant::now(),
            began: AtomicU64::new(NEVER),
            deadline: AtomicU64::new(NEVER),
            is_cut: AtomicBool::new(false),
            is_patient: AtomicBool::new(false),
        });
        let of_connection = Arc::clone(&clock);
        connection.progress_handler(STEPS_BETWEEN, Some(move || of_connection.is_over()))?;
        let mut clocks = lock(&self.clocks);
        // A connection that was closed has taken its share with it.
        clocks.retain(|clock| Arc::strong_count(clock) > 1);
        clocks.push(Arc::clone(&clock));
        drop(clocks);
        Ok(Reader { connection, clock })
    }

    /// Ends what has been read for longer than `age`, and says how many that were. Who is patient is let be.
    pub fn cut_short(&self, age: Duration) -> usize {
        let clocks = lock(&self.clocks);
        let late = clocks.iter().filter(|clock| clock.age().is_some_and(|found| found > age));
        let late = late.filter(|clock| !clock.is_patient.load(Ordering::Relaxed));
        late.filter(|clock| !clock.is_cut.swap(true, Ordering::Relaxed)).count()
    }

    /// Ends what `ask_patiently` has begun.
    pub fn cut_patient(&self) {
        let clocks = lock(&self.clocks);
        let patient = clocks.iter().filter(|clock| clock.is_patient.load(Ordering::Relaxed));
        patient.for_each(|clock| clock.is_cut.store(true, Ordering::Relaxed));
    }

    /// Whether `ask_patiently` is under way.
    pub fn has_patient(&self) -> bool {
        let clocks = lock(&self.clocks);
        clocks.iter().any(|clock| clock.is_patient.load(Ordering::Relaxed) && clock.age().is_some())
    }

    /// Whether any has been at one question for longer than `age`.
    pub fn has_older_than(&self, age: Duration) -> bool {
        lock(&self.clocks).iter().any(|clock| clock.age().is_some_and(|found| found > age))
    }
}

impl Reader {
    /// The answer, or nothing if it was not found within the budget. What `question` reads is one read transaction.
    pub fn within<T>(
        &self,
        budget: Option<Duration>,
        question: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<Option<T>> {
        self.clock.begin(budget);
        match question(&self.connection) {
            Ok(answer) => Ok(Some(answer)),
            Err(error) if is_interrupted(&error) && self.clock.is_late() => Ok(None),
            Err(error) => Err(error),
        }
    }
}

pub(super) fn is_interrupted(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::OperationInterrupted)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
