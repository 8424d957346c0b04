//! The shard: the one thread that decides, turn by turn, while writers save what it has decided.
//!
//! A turn takes what has landed and what is waiting, then a bounded batch of timers, then now and then a bounded clean-up.
//! What is decided gathers in the open batch, which takes off as soon as a writer is free: what is waiting is the batch.
//! It starts with recovery: everything that came due while no server ran.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, never, select_biased};
use kernel::time::{Delay, Timestamp};
use serde::Serialize;
use store::{Store, StoreStatistics};

use crate::batch::Batch;
use crate::clock::Clock;
use crate::delivery::Delivery;
use crate::figures::Figures;
use crate::flight::{self, InAir, Landed};
use crate::hot::{Hot, InstanceKey};
use crate::landing::Fired;
use crate::machines::Machines;
use crate::metrics::Metrics;
use crate::settings::Settings;
use crate::stream::Feed;
use crate::{Job, Request};

/// Other servers over the same store may set timers that this one has not seen: it is asked again so soon.
const LOOK_AGAIN: Delay = Delay::from_secs(1);
/// Longest nap when nothing is due: the machine's clock may have been set, or have gone on while the machine slept.
const NAP_MAX: Delay = Delay::from_secs(60);
/// Recovery takes at most this, so that inputs need not wait for long; the rest is caught up between them.
const RECOVERY_MAX: Duration = Duration::from_millis(500);

/// Inputs of one turn, after which comes what has landed: a writer that is free has so many saved, rather than wait for all that
/// is waiting. They are worth a write to the disk of their own.
const TURN_INPUTS_MAX: usize = 64;

const ASK_NOW: Timestamp = Timestamp::EPOCH;

/// What the shard was woken by.
#[allow(clippy::large_enum_variant, reason = "there is one at a time, and it is moved once")]
enum Woken {
    Job(Job),
    Landed(u64, Landed),
    /// It is time for something.
    Time,
    /// Nobody is left who could ask for anything.
    End,
}

/// What recovery found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RecoveryReport {
    pub timers_fired: usize,
    /// Instances that were closed by a timer, by reason.
    pub closed: BTreeMap<String, usize>,
    pub open: u64,
    pub quarantined: u64,
    /// To deal with what was due.
    pub took_ms: u64,
    /// Whether all that was due has been dealt with.
    pub complete: bool,
}

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
    /// Who tells what has landed.
    pub feed: Arc<Feed>,
    /// What is decided and has not taken off.
    open: Batch,
    pub in_air: InAir,
    /// What waits for something in the air to land, in the order in which it came.
    pub parked: Vec<Request>,
    /// Claimed while they were in the air.
    pub claimed: Vec<InstanceKey>,
    /// What timers have done since somebody last asked.
    pub fired: Fired,
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
        feed: Arc<Feed>,
    ) -> Self {
        let hot = Hot::new(settings.cached_bytes_max);
        let next_clean_up = clock.now().plus(settings.clean_up_every);
        let next_due = ASK_NOW;
        let is_shared = store.info().is_shared;
        let in_air = InAir::new(&store);
        Self {
            store,
            machines,
            clock,
            metrics,
            settings,
            hot,
            is_shared,
            delivery,
            feed,
            open: Batch::default(),
            in_air,
            parked: Vec::new(),
            claimed: Vec::new(),
            fired: Fired::default(),
            next_due,
            next_clean_up,
        }
    }

    pub fn run(&mut self, waiting: &Receiver<Job>, figures: &Arc<Figures<StoreStatistics>>) {
        let report = self.recover(RECOVERY_MAX);
        figures.tell(report, &self.machines);
        // Whatever was to be delivered when the last server stopped is now, with what the recovery has added.
        self.delivery.iter().for_each(|delivery| delivery.wake());
        loop {
            let woken = self.wait(waiting);
            if matches!(woken, Woken::End) {
                return self.come_to_rest();
            }
            self.turn(woken, waiting);
        }
    }

    /// Until there is something to do. Nothing more is taken in while the open batch is full.
    fn wait(&mut self, waiting: &Receiver<Job>) -> Woken {
        let none = never();
        let waiting = if self.has_room() { waiting } else { &none };
        let nap = self.nap();
        select_biased! {
            recv(self.in_air.arrivals()) -> landed => {
                landed.map_or(Woken::Time, |(flight, landed)| Woken::Landed(flight, landed))
            }
            recv(waiting) -> job => job.map_or(Woken::End, Woken::Job),
            default(nap) => Woken::Time,
        }
    }

    /// What is waiting, if there is room for it.
    fn next_of(&self, waiting: &Receiver<Job>) -> Option<Job> {
        if self.has_room() { waiting.try_recv().ok() } else { None }
    }

    fn has_room(&self) -> bool {
        self.open.len() + self.parked.len() < self.settings.batch_inputs_max
    }

    /// Its timers are those that are due when it begins: who has an answer and then moves a virtual clock changes
    /// nothing about the turn that is going on.
    fn turn(&mut self, woken: Woken, waiting: &Receiver<Job>) {
        let began = self.clock.now();
        let mut recoveries = Vec::new();
        let mut next = match woken {
            Woken::Job(job) => Some(job),
            Woken::Landed(flight, landed) => {
                self.arrived(flight, landed, began);
                self.next_of(waiting)
            }
            Woken::Time | Woken::End => self.next_of(waiting),
        };
        let mut more = TURN_INPUTS_MAX;
        while let Some(job) = next.take() {
            match job {
                Job::Input(request) => self.decide(request, began),
                Job::Recover(report) => recoveries.push(report),
            }
            more -= 1;
            next = if more > 0 { self.next_of(waiting) } else { None };
        }
        if recoveries.is_empty() {
            self.fire_due(began);
        }
        self.take_off(waiting.is_empty(), began);
        self.clean_up(began);
        // Last, so that whoever asked may move a virtual clock afterwards and find the shard at rest.
        for recovery in recoveries {
            // Whoever asked may have gone away.
            let at_most = if self.clock.is_virtual() { Duration::MAX } else { RECOVERY_MAX };
            let _ = recovery.send(self.recover(at_most));
        }
    }

    fn decide(&mut self, request: Request, now: Timestamp) {
        let mut open = std::mem::take(&mut self.open);
        self.decide_into(&mut open, request, now);
        self.open = open;
    }

    /// Has the open batch saved, if there is somebody to do it. One commit that nobody else waits with is saved here: to hand it over would take longer
    /// than it gains.
    fn take_off(&mut self, is_alone: bool, now: Timestamp) {
        while !self.open.is_empty() && self.in_air.has_room() {
            let batch = std::mem::take(&mut self.open);
            if is_alone && batch.len() == 1 && self.in_air.is_empty() {
                let landed = flight::save(&*self.store, batch);
                self.settle(landed, now);
            } else {
                self.in_air.take_off(batch);
            }
        }
    }

    /// The next takes off before anybody is answered, so that the writer need not wait for that.
    fn arrived(&mut self, flight: u64, landed: Landed, now: Timestamp) {
        self.in_air.arrived(flight);
        self.take_off(false, now);
        self.settle(landed, now);
    }

    /// Answers a batch, and decides on what had to wait for it.
    fn settle(&mut self, landed: Landed, now: Timestamp) {
        let again = self.land(landed);
        let parked = std::mem::take(&mut self.parked);
        for request in again.into_iter().chain(parked) {
            self.decide(request, now);
        }
        let claimed = std::mem::take(&mut self.claimed);
        self.fire(claimed, now);
    }

    /// Until everything that was decided has landed.
    fn come_to_rest(&mut self) {
        loop {
            self.take_off(true, self.clock.now());
            if self.in_air.is_empty() && self.open.is_empty() {
                return;
            }
            if let Ok((flight, landed)) = self.in_air.arrivals().recv() {
                self.arrived(flight, landed, self.clock.now());
            }
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
        let until = self.next_due.min(self.next_clean_up).since(now).as_millis();
        Duration::from_millis(until.clamp(0, NAP_MAX.as_millis()).unsigned_abs())
    }

    fn fire(&mut self, claimed: Vec<InstanceKey>, now: Timestamp) {
        let mut open = std::mem::take(&mut self.open);
        self.fire_claimed(&mut open, claimed, now);
        self.open = open;
    }

    /// Decides on one bounded batch of timers, if any may be due. Says whether more are.
    fn fire_due(&mut self, now: Timestamp) -> bool {
        if self.next_due > now {
            return false;
        }
        let lease_until = now.plus(self.settings.claim_lease);
        let claim = || self.store.claim_due(now, lease_until, self.settings.batch_timers_max);
        let claimed = self.metrics.timed("claim_due", claim);
        let latest = now.plus(if self.is_shared { LOOK_AGAIN } else { NAP_MAX });
        let some = match claimed {
            Ok(claimed) => {
                let some = !claimed.is_empty();
                self.fire(claimed, now);
                some
            }
            Err(error) => {
                tracing::error!("failed to ask for due timers: {error}");
                self.fired.failed = true;
                false
            }
        };
        self.next_due = match self.store.next_due() {
            Ok(next) => next.map_or(latest, |next| next.min(latest)),
            Err(_) => now.plus(LOOK_AGAIN),
        };
        // Where nothing was due, nothing is, whatever the clock has come to: at its end there is no later.
        some && self.next_due <= now
    }

    /// What there is then is for others to count: it may take longer than inputs can wait.
    fn recover(&mut self, at_most: Duration) -> RecoveryReport {
        let started = Instant::now();
        let mut report = RecoveryReport::default();
        self.come_to_rest();
        self.fired = Fired::default();
        self.next_due = ASK_NOW;
        loop {
            let more = self.fire_due(self.clock.now());
            self.come_to_rest();
            report.complete = !more && !self.fired.failed;
            if !more || self.fired.failed || started.elapsed() >= at_most {
                break;
            }
        }
        let Fired { timers, closed, .. } = std::mem::take(&mut self.fired);
        (report.timers_fired, report.closed) = (timers, closed);
        report.took_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        report
    }

    fn clean_up(&mut self, now: Timestamp) {
        if now < self.next_clean_up {
            return;
        }
        let before = Timestamp::from_millis(now.as_millis() - self.settings.retention.as_millis());
        let clean_up = || self.store.clean_up(before, self.settings.clean_up_max);
        match self.metrics.timed("clean_up", clean_up) {
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
