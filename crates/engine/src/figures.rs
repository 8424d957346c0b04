//! What a store holds, counted no more often than its size allows.
//!
//! A store of millions of instances is counted in seconds. Nobody who has an input waits for that: neither at a start,
//! where the figures are told when they are there, nor when somebody asks for them again and again. Where counting takes
//! next to no time, figures are those of the moment.

use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use store::{LoadError, StandingAt, Standings, Store, StoreStatistics};

use crate::migrate::unmapped;
use crate::{Clock, Machines, RecoveryReport, Settings};

/// States of one machine that a warning names.
const NAMED_MAX: usize = 10;

/// What is counted in no more is counted whenever somebody asks.
const SOON: Duration = Duration::from_millis(200);

/// Who shows a page does not wait longer for what is counted, if it was ever counted before.
const GLANCE: Duration = Duration::from_millis(5);

/// What takes longer than `SOON` is not counted again before so many times as long has passed: a twentieth of a processor at most.
const PAUSE: u32 = 19;

/// The end waits for so long for what is being counted. The file is none the worse for a reader that goes with the process.
const END_MAX: Duration = Duration::from_secs(1);

/// What one count of all that is stored comes to.
pub(crate) struct Figures<T> {
    source: Box<dyn Fn() -> Result<T, LoadError> + Send + Sync>,
    kept: Mutex<Option<Counted<T>>>,
    /// Told when there is something else in `kept`.
    news: Condvar,
    /// Held by whoever counts.
    counting: Mutex<()>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Counted<T> {
    found: Arc<T>,
    began: Instant,
    took: Duration,
}

impl<T> Clone for Counted<T> {
    fn clone(&self) -> Self {
        Self { found: Arc::clone(&self.found), ..*self }
    }
}

impl<T> Counted<T> {
    fn is_old(&self) -> bool {
        self.took <= SOON || self.began.elapsed() > self.took * (PAUSE + 1)
    }
}

impl<T> fmt::Debug for Figures<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Figures").finish_non_exhaustive()
    }
}

/// What is stored, and how open instances stand.
pub(crate) type Both = (Arc<Figures<StoreStatistics>>, Arc<Figures<Standings>>);

pub(crate) fn of(store: &Arc<dyn Store>, clock: &Clock, settings: Settings) -> Both {
    let (store, also, clock) = (Arc::clone(store), Arc::clone(store), clock.clone());
    let statistics = Figures::new(move || store.statistics());
    let standings = Figures::new(move || {
        let now = clock.now();
        also.standings(StandingAt { now, stuck_by: settings.stuck_by(now) })
    });
    (Arc::new(statistics), Arc::new(standings))
}

impl<T: Send + Sync + 'static> Figures<T> {
    fn new(source: impl Fn() -> Result<T, LoadError> + Send + Sync + 'static) -> Self {
        Self {
            source: Box::new(source),
            kept: Mutex::default(),
            news: Condvar::new(),
            counting: Mutex::default(),
            thread: Mutex::default(),
        }
    }

    /// As they are, or, where counting takes its time, as they were counted last; those are counted anew meanwhile when
    /// they are old.
    pub fn now(self: &Arc<Self>) -> Result<Arc<T>, LoadError> {
        let asked = Instant::now();
        if let Some(kept) = self.kept_for(SOON) {
            if kept.is_old() {
                self.beside(|figures| drop(figures.count()));
            }
            return Ok(kept.found);
        }
        let counting = lock(&self.counting);
        // Somebody may have counted while this waited.
        let kept = lock(&self.kept).clone();
        match kept.filter(|kept| kept.took > SOON || kept.began >= asked) {
            Some(kept) => Ok(kept.found),
            None => self.count_alone(&counting),
        }
    }

    /// As they were counted last, and how long ago, for whoever shows a page: what takes longer than a glance is counted
    /// anew beside, and shown if that is done at once.
    pub fn lately(self: &Arc<Self>) -> Result<(Arc<T>, Duration), LoadError> {
        let asked = Instant::now();
        let mut lately = self.kept_for(GLANCE);
        if lately.as_ref().is_some_and(Counted::is_old) && self.beside(|figures| drop(figures.count())) {
            let is_older = |kept: &mut Option<Counted<T>>| kept.as_ref().is_some_and(|k| k.began < asked);
            let waited = self.news.wait_timeout_while(lock(&self.kept), GLANCE, is_older);
            lately = waited.unwrap_or_else(PoisonError::into_inner).0.clone();
        }
        match lately {
            Some(kept) => Ok((kept.found, kept.began.elapsed())),
            None => Ok((self.now()?, Duration::ZERO)),
        }
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

    /// What was counted last, if that took longer.
    fn kept_for(&self, longer_than: Duration) -> Option<Counted<T>> {
        lock(&self.kept).clone().filter(|kept| kept.took > longer_than)
    }

    fn count(&self) -> Result<Arc<T>, LoadError> {
        self.count_alone(&lock(&self.counting))
    }

    fn count_alone(&self, _: &MutexGuard<'_, ()>) -> Result<Arc<T>, LoadError> {
        let began = Instant::now();
        let counted = (self.source)().map(Arc::new);
        let took = began.elapsed();
        let keep = |found: &Arc<T>| Counted { found: Arc::clone(found), began, took };
        // After an error nothing is kept: whoever asks next counts, and is told of it.
        *lock(&self.kept) = counted.as_ref().ok().map(keep);
        self.news.notify_all();
        counted
    }

    /// On a thread of its own, unless there is one at it already; says whether it has begun.
    fn beside(self: &Arc<Self>, run: impl FnOnce(&Self) + Send + 'static) -> bool {
        let mut thread = lock(&self.thread);
        if thread.as_ref().is_some_and(|thread| !thread.is_finished()) {
            return false;
        }
        let figures = Arc::clone(self);
        let spawned = std::thread::Builder::new().name("figures".into()).spawn(move || run(&figures));
        match spawned {
            Ok(spawned) => {
                *thread = Some(spawned);
                true
            }
            Err(error) => {
                tracing::error!("no thread to count what is stored: {error}");
                false
            }
        }
    }
}

impl Figures<StoreStatistics> {
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
}

/// How many instances are open.
pub(crate) fn open(statistics: &StoreStatistics) -> u64 {
    statistics.open.values().sum()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::sync::mpsc::channel;

    use super::*;

    /// Longer than anything here takes, on any machine.
    const PATIENCE: Duration = Duration::from_secs(20);

    fn until(holds: impl Fn() -> bool) {
        let began = Instant::now();
        while !holds() {
            assert!(began.elapsed() < PATIENCE, "it does not come to that");
            std::thread::yield_now();
        }
    }

    #[test]
    fn who_shows_a_page_does_not_wait_for_what_takes_longer_than_a_glance() {
        let (go_on, held) = channel::<()>();
        let (held, counts) = (Mutex::new(held), AtomicU32::new(0));
        let figures = Arc::new(Figures::new(move || {
            let _ = lock(&held).recv_timeout(PATIENCE);
            Ok(counts.fetch_add(1, Ordering::SeqCst) + 1)
        }));
        let let_it_take_long = || {
            let began = Instant::now();
            until(|| began.elapsed() > 4 * GLANCE);
            go_on.send(()).unwrap();
        };
        std::thread::scope(|scope| {
            let first = scope.spawn(|| figures.count());
            let_it_take_long();
            assert_eq!(*first.join().unwrap().unwrap(), 1);
        });
        // It is counted anew meanwhile, for as long as nothing is sent.
        let (found, age) = figures.lately().unwrap();
        assert_eq!(*found, 1);
        assert!(age > 3 * GLANCE, "{age:?}");
        let_it_take_long();
        until(|| *figures.lately().unwrap().0 == 2);
        drop(go_on);
    }
}
