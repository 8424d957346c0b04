//! The shard: the one thread that decides and commits, turn by turn.
//!
//! A turn is a batch of inputs, then a bounded batch of timers, then now and then a bounded clean-up. It starts with
//! recovery: everything that came due while no server ran.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};
use kernel::time::{Delay, Timestamp};
use serde::Serialize;
use store::Store;

use crate::batch::Fired;
use crate::clock::Clock;
use crate::delivery::Delivery;
use crate::hot::Hot;
use crate::machines::Machines;
use crate::metrics::Metrics;
use crate::settings::Settings;
use crate::{Job, Request};

/// Longest nap when nothing is due: other servers over the same store may set timers that this one has not seen.
const NAP_MAX: Delay = Delay::from_millis(1_000);
/// Recovery takes at most this, so that inputs need not wait for long; the rest is caught up between them.
const RECOVERY_MAX: Duration = Duration::from_millis(500);

const ASK_NOW: Timestamp = Timestamp::EPOCH;

/// What recovery found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RecoveryReport {
    pub timers_fired: usize,
    /// Instances that were closed by a timer, by reason.
    pub closed: BTreeMap<String, usize>,
    pub open: u64,
    pub quarantined: u64,
    pub took_ms: u64,
    /// Whether all that was due has been dealt with.
    pub complete: bool,
}

#[derive(Debug)]
pub(crate) struct Shard {
    pub store: Arc<dyn Store>,
    pub machines: Arc<Machines>,
    pub clock: Clock,
    pub metrics: Arc<Metrics>,
    pub settings: Settings,
    pub hot: Hot,
    /// Whether other servers may overtake what is hot here.
    pub is_shared: bool,
    /// Who delivers effects, once there is somebody.
    pub delivery: Option<Arc<Delivery>>,
    /// When the store next has to be asked for due timers; the beginning of time means now.
    next_due: Timestamp,
    next_clean_up: Timestamp,
}

impl Shard {
    pub fn new(
        store: Arc<dyn Store>,
        machines: Arc<Machines>,
        clock: Clock,
        metrics: Arc<Metrics>,
        settings: Settings,
        delivery: Option<Arc<Delivery>>,
    ) -> Self {
        let hot = Hot::new(settings.cached_instances_max);
        let next_clean_up = clock.now().plus(settings.clean_up_every);
        let next_due = ASK_NOW;
        let is_shared = store.info().is_shared;
        Self { store, machines, clock, metrics, settings, hot, is_shared, delivery, next_due, next_clean_up }
    }

    pub fn run(&mut self, waiting: &Receiver<Job>) {
        let report = self.recover(RECOVERY_MAX);
        tracing::info!(
            timers_fired = report.timers_fired,
            open = report.open,
            quarantined = report.quarantined,
            complete = report.complete,
            took_ms = report.took_ms,
            "recovered"
        );
        // Whatever was to be delivered when the last server stopped is now, with what the recovery has added.
        self.delivery.iter().for_each(|delivery| delivery.wake());
        loop {
            let first = match waiting.recv_timeout(self.nap()) {
                Ok(job) => Some(job),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            self.turn(first, waiting);
        }
    }

    /// What is waiting is the batch.
    ///
    /// Its timers are those that are due when it begins: who has an answer and then moves a virtual clock changes
    /// nothing about the turn that is going on.
    fn turn(&mut self, first: Option<Job>, waiting: &Receiver<Job>) {
        let began = self.clock.now();
        let mut requests: Vec<Request> = Vec::new();
        let mut recoveries = Vec::new();
        for job in first.into_iter().chain(waiting.try_iter()) {
            match job {
                Job::Input(request) => requests.push(request),
                Job::Recover(report) => recoveries.push(report),
            }
            if requests.len() >= self.settings.batch_inputs_max {
                break;
            }
        }
        self.process(requests);
        if recoveries.is_empty() {
            self.fire_due(began);
        }
        self.clean_up(began);
        // Last, so that whoever asked may move a virtual clock afterwards and find the shard at rest.
        for recovery in recoveries {
            // Whoever asked may have gone away.
            let at_most = if self.clock.is_virtual() { Duration::MAX } else { RECOVERY_MAX };
            let _ = recovery.send(self.recover(at_most));
        }
    }

    /// Keeps the earliest of the wake-up calls.
    pub fn watch(&mut self, wake_at: Option<Timestamp>) {
        self.next_due = wake_at.map_or(self.next_due, |wake_at| wake_at.min(self.next_due));
    }

    /// On a virtual clock nothing comes due by waiting: whoever moves it asks for a recovery.
    fn nap(&self) -> Duration {
        if self.clock.is_virtual() {
            return Duration::MAX;
        }
        let now = self.clock.now();
        let until = self.next_due.since(now).as_millis();
        Duration::from_millis(until.min(NAP_MAX.as_millis()).unsigned_abs())
    }

    /// One bounded batch of timers, if any may be due.
    fn fire_due(&mut self, now: Timestamp) -> Fired {
        if self.next_due > now {
            return Fired::default();
        }
        let lease_until = now.plus(self.settings.claim_lease);
        let claimed = self.store.claim_due(now, lease_until, self.settings.batch_timers_max);
        // Whatever comes next, the store is asked again soon: other servers may have set timers.
        let soon = now.plus(NAP_MAX);
        let mut fired = match claimed {
            Ok(claimed) => self.fire_claimed(claimed, now),
            Err(error) => {
                tracing::error!("failed to ask for due timers: {error}");
                Fired { failed: true, ..Fired::default() }
            }
        };
        self.next_due = match self.store.next_due() {
            Ok(next) if !fired.failed => next.map_or(soon, |next| next.min(soon)),
            _ => soon,
        };
        fired.more = self.next_due <= now;
        fired
    }

    fn recover(&mut self, at_most: Duration) -> RecoveryReport {
        let started = Instant::now();
        let mut report = RecoveryReport::default();
        self.next_due = ASK_NOW;
        loop {
            let fired = self.fire_due(self.clock.now());
            report.timers_fired += fired.timers;
            for (reason, count) in fired.closed {
                *report.closed.entry(reason).or_default() += count;
            }
            report.complete = !fired.more && !fired.failed;
            if !fired.more || started.elapsed() >= at_most {
                break;
            }
        }
        if let Ok(statistics) = self.store.statistics() {
            report.open = statistics.open.values().sum();
            report.quarantined = statistics.quarantined;
        }
        report.took_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        report
    }

    fn clean_up(&mut self, now: Timestamp) {
        if now < self.next_clean_up {
            return;
        }
        let before = Timestamp::from_millis(now.as_millis() - self.settings.retention.as_millis());
        match self.store.clean_up(before, self.settings.clean_up_max) {
            Ok(report) => {
                self.metrics.cleaned_up.inc_by(report.entries_deleted as u64);
                // A full batch leaves more for the next turn.
                let pause = if report.more { Delay::ZERO } else { self.settings.clean_up_every };
                self.next_clean_up = now.plus(pause);
            }
            Err(error) => {
                tracing::error!("failed to clean up expired records: {error}");
                self.next_clean_up = now.plus(self.settings.clean_up_every);
            }
        }
    }
}
