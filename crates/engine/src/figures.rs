//! What a store holds, counted no more often than its size allows.
//!
//! A store of millions of instances is counted in seconds. Nobody who has an input waits for that: neither at a start,
//! where the figures are told when they are there, nor when somebody asks for them again and again. Where counting takes
//! next to no time, figures are those of the moment.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use store::{LoadError, Store, StoreStatistics};

use crate::migrate::unmapped;
use crate::{Machines, RecoveryReport};

/// States of one machine that a warning names.
const NAMED_MAX: usize = 10;

/// What is counted in no more is counted whenever somebody asks.
const SOON: Duration = Duration::from_millis(200);

/// What takes longer is not counted again before so many times as long has passed: a twentieth of a processor at most.
const PAUSE: u32 = 19;

/// The end waits for so long for what is being counted. The file is none the worse for a reader that goes with the process.
const END_MAX: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Figures {
    store: Arc<dyn Store>,
    kept: Mutex<Option<Counted>>,
    /// Held by whoever counts.
    counting: Mutex<()>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Clone, Debug)]
struct Counted {
    statistics: Arc<StoreStatistics>,
    began: Instant,
    took: Duration,
}

impl Counted {
    fn is_old(&self) -> bool {
        self.began.elapsed() > self.took * (PAUSE + 1)
    }
}

impl Figures {
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store, kept: Mutex::default(), counting: Mutex::default(), thread: Mutex::default() }
    }

    /// As they are, or, where counting takes its time, as they were counted last; those are counted anew meanwhile when
    /// they are old.
    pub fn now(self: &Arc<Self>) -> Result<Arc<StoreStatistics>, LoadError> {
        let asked = Instant::now();
        if let Some(kept) = self.kept_long() {
            if kept.is_old() {
                self.beside(|figures| drop(figures.count()));
            }
            return Ok(kept.statistics);
        }
        let counting = lock(&self.counting);
        // Somebody may have counted while this waited.
        let kept = lock(&self.kept).clone();
        match kept.filter(|kept| kept.took > SOON || kept.began >= asked) {
            Some(kept) => Ok(kept.statistics),
            None => self.count_alone(&counting),
        }
    }

    /// Says what a recovery at the start has done, and what there is then, as soon as that is counted; and who is in a
    /// state that is no more.
    pub fn tell(self: &Arc<Self>, report: RecoveryReport, machines: &Arc<Machines>) {
        let machines = Arc::clone(machines);
        self.beside(move |figures| {
            let statistics = figures.count().unwrap_or_default();
            tracing::info!(
                timers_fired = report.timers_fired,
                open = open(&statistics),
                quarantined = statistics.quarantined,
                complete = report.complete,
                took_ms = report.took_ms,
                "recovered"
            );
            for machine in machines.all() {
                for (state, open) in unmapped(&machine, &machines, &statistics).into_iter().take(NAMED_MAX) {
                    tracing::warn!(
                        machine = %machine.name,
                        version = machine.version,
                        state,
                        open,
                        "instances are open in a state that the current version does not have; they go on by theirs until its `migrations` say where they lead"
                    );
                }
            }
        });
    }

    /// Waits for what is being counted, though not for long.
    pub fn end(&self) {
        let Some(thread) = lock(&self.thread).take() else { return };
        let asked = Instant::now();
        while !thread.is_finished() {
            if asked.elapsed() >= END_MAX {
                return;
            }
            std::thread::park_timeout(Duration::from_millis(1));
        }
        // A thread that panicked has said so.
        let _ = thread.join();
    }

    fn kept_long(&self) -> Option<Counted> {
        lock(&self.kept).clone().filter(|kept| kept.took > SOON)
    }

    fn count(&self) -> Result<Arc<StoreStatistics>, LoadError> {
        self.count_alone(&lock(&self.counting))
    }

    fn count_alone(&self, _: &MutexGuard<'_, ()>) -> Result<Arc<StoreStatistics>, LoadError> {
        let began = Instant::now();
        let counted = self.store.statistics().map(Arc::new);
        let took = began.elapsed();
        let keep = |statistics: &Arc<_>| Counted { statistics: Arc::clone(statistics), began, took };
        // After an error nothing is kept: whoever asks next counts, and is told of it.
        *lock(&self.kept) = counted.as_ref().ok().map(keep);
        counted
    }

    /// On a thread of its own, unless there is one at it already.
    fn beside(self: &Arc<Self>, run: impl FnOnce(&Self) + Send + 'static) {
        let mut thread = lock(&self.thread);
        if thread.as_ref().is_some_and(|thread| !thread.is_finished()) {
            return;
        }
        let figures = Arc::clone(self);
        let spawned = std::thread::Builder::new().name("figures".into()).spawn(move || run(&figures));
        match spawned {
            Ok(spawned) => *thread = Some(spawned),
            Err(error) => tracing::error!("no thread to count what is stored: {error}"),
        }
    }
}

/// How many instances are open.
pub(crate) fn open(statistics: &StoreStatistics) -> u64 {
    statistics.open.values().sum()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
