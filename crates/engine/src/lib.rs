//! Runs Statewright: an input is loaded for, decided on, and committed in a batch with whatever else is waiting.
//!
//! One thread, the shard, owns all deciding and committing over one store; callers hand it inputs and are answered
//! when their commit is durable. What is waiting when a batch is taken is the batch: there is no delay timer.
//! Deciding itself is the kernel's business, remembering the store's, talking the app's.

mod batch;
pub mod breaker;
pub mod clock;
pub mod delivery;
pub mod diff;
mod figures;
mod flight;
pub mod health;
mod hot;
pub mod import;
mod landing;
pub mod machines;
pub mod metrics;
pub mod migrate;
pub mod overlays;
pub mod replay;
pub mod reroute;
pub mod settings;
pub mod shadow;
mod shard;
pub mod story;
pub mod stream;
mod weight;
pub mod withdraw;

use std::fmt;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TrySendError};
use kernel::commit::Answer;
use kernel::decide::{Explanation, decide, explain, reading_wanted};
use kernel::id::{InstanceId, MachineName, Subject, TenantId};
use kernel::input::{Cause, Input};
use kernel::machine::Machine;
use kernel::snapshot::{Snapshot, StuckBy};
use store::{CommitError, LoadError, Standings, Store, StoreStatistics};

pub use breaker::{Admission, Breaker, BreakerSettings, BreakerState, Bucket};
pub use clock::Clock;
use delivery::{Carrier, Courier, Delivery};
use figures::Figures;
pub use machines::{Machines, MachinesError};
pub use metrics::Metrics;
use metrics::Stored;
pub use overlays::{Misfit, Overlay};
pub use settings::Settings;
pub use shard::RecoveryReport;
use stream::Feed;

/// What the sender of an input gets.
pub type Answered = Result<Submitted, EngineError>;

/// An answer that is as durable as the store promises.
#[derive(Clone, Debug)]
pub struct Submitted {
    pub answer: Arc<Answer>,
    /// The key was handled before, and this is what it got then.
    pub replayed: bool,
}

/// What somebody who is asked what a message may mean has to know.
#[derive(Clone, Debug)]
pub struct ReadingWanted {
    /// The machine that the message would be decided by.
    pub machine: Arc<Machine>,
    /// The names of the intents that lead anywhere from where the session is, in their order.
    pub heard: Vec<String>,
}

/// Why an input has no answer. Refusals by the machine are answers, not errors.
#[derive(Clone, Debug, PartialEq)]
pub enum EngineError {
    UnknownMachine {
        name: String,
        help: String,
    },
    NotFound {
        what: String,
    },
    /// The record that the input needs is corrupt and in quarantine.
    Corrupt(String),
    /// Too much is waiting; nothing was done.
    Overloaded,
    /// The server is going down; nothing was done.
    Stopping,
    /// Whether it was saved is not known, or the store is not available: repeat it with the same key.
    Unavailable(String),
    /// The disk is full; nothing was done.
    Full(String),
    /// What would be saved is larger than a record may be; nothing was done, and no repeat will be.
    TooLarge(String),
}

impl EngineError {
    /// Whether the same input may be answered another time.
    pub(crate) fn passes(&self) -> bool {
        match self {
            Self::UnknownMachine { .. } | Self::NotFound { .. } | Self::Corrupt(_) | Self::TooLarge(_) => {
                false
            }
            Self::Overloaded | Self::Stopping | Self::Unavailable(_) | Self::Full(_) => true,
        }
    }
}

impl fmt::Display for EngineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownMachine { name, help } => {
                write!(f, "there is no machine `{name}`; {help}")
            }
            Self::NotFound { what } => write!(f, "there is no {what}"),
            Self::Corrupt(detail)
            | Self::Unavailable(detail)
            | Self::Full(detail)
            | Self::TooLarge(detail) => f.write_str(detail),
            Self::Overloaded => f.write_str("too many inputs are waiting; repeat it with the same key"),
            Self::Stopping => f.write_str("the server is stopping; repeat it with the same key"),
        }
    }
}

impl std::error::Error for EngineError {}

impl From<LoadError> for EngineError {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::Corrupt { .. } => Self::Corrupt(error.to_string()),
            LoadError::Unavailable(_) => Self::Unavailable(error.to_string()),
        }
    }
}

impl From<CommitError> for EngineError {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Full(_) => Self::Full(error.to_string()),
            CommitError::Unavailable(_) | CommitError::Unknown(_) => Self::Unavailable(error.to_string()),
        }
    }
}

/// An input on its way, with where its answer goes.
pub(crate) struct Request {
    pub input: Box<Input>,
    pub answer: Box<dyn FnOnce(Answered) + Send>,
    /// How often it has been decided on a revision that was no longer current.
    pub attempts: u32,
}

pub(crate) enum Job {
    Input(Request),
    /// Fires all that is due now, and says what that was.
    Recover(Sender<RecoveryReport>),
}

/// A running engine over one store. Dropping it stops the shard after what is waiting has been answered.
#[derive(Debug)]
pub struct Engine {
    store: Arc<dyn Store>,
    machines: Arc<Machines>,
    clock: Clock,
    metrics: Arc<Metrics>,
    settings: Settings,
    figures: Arc<Figures<StoreStatistics>>,
    standings: Arc<Figures<Standings>>,
    feed: Arc<Feed>,
    delivery: Option<Arc<Delivery>>,
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    courier: Option<JoinHandle<()>>,
}

impl Engine {
    /// Starts the shard. The first thing that it does is recovery. Effects stay in the outbox.
    pub fn start(store: Arc<dyn Store>, machines: Arc<Machines>, clock: Clock, settings: Settings) -> Self {
        Self::begin(store, machines, clock, settings, None)
    }

    /// `start`, and effects are delivered: from the first, since what recovery does is told as well.
    pub fn start_delivering(
        store: Arc<dyn Store>,
        machines: Arc<Machines>,
        clock: Clock,
        settings: Settings,
        carrier: Arc<dyn Carrier>,
    ) -> Self {
        Self::begin(store, machines, clock, settings, Some(carrier))
    }

    fn begin(
        store: Arc<dyn Store>,
        machines: Arc<Machines>,
        clock: Clock,
        settings: Settings,
        carrier: Option<Arc<dyn Carrier>>,
    ) -> Self {
        let metrics = Arc::new(Metrics::new(store.info().backend));
        let feed = Arc::new(Feed::default());
        let (jobs, waiting) = crossbeam_channel::bounded(settings.queue_inputs_max);
        let delivering = carrier.map(|carrier| {
            Delivery::start(|events| Courier {
                store: Arc::clone(&store),
                is_shared: store.info().is_shared,
                clock: clock.clone(),
                metrics: Arc::clone(&metrics),
                settings,
                carrier,
                jobs: jobs.clone(),
                events,
                under_way: Default::default(),
                unsettled: Vec::new(),
                endpoints: Default::default(),
                warned: Default::default(),
            })
        });
        let (delivery, courier) = delivering.unzip();
        let delivery = delivery.map(Arc::new);
        let shard = shard::Shard::new(
            Arc::clone(&store),
            Arc::clone(&machines),
            clock.clone(),
            Arc::clone(&metrics),
            settings,
            delivery.clone(),
            Arc::clone(&feed),
        );
        let (figures, standings) = figures::of(&store, &clock, settings);
        let thread = spawn(shard, waiting, Arc::clone(&figures));
        let (jobs, thread) = (Some(jobs), Some(thread));
        Self {
            store,
            machines,
            clock,
            metrics,
            settings,
            figures,
            standings,
            feed,
            delivery,
            jobs,
            thread,
            courier,
        }
    }

    /// Says that something in the outbox may be due: one was retried by hand.
    pub fn wake_delivery(&self) {
        self.delivery.iter().for_each(|delivery| delivery.wake());
    }

    /// Hands an input over; `answer` is called once, on the shard's thread, when it is durable.
    pub fn submit(&self, input: Input, answer: impl FnOnce(Answered) + Send + 'static) {
        let request = Request { input: Box::new(input), answer: Box::new(answer), attempts: 0 };
        let Some(jobs) = &self.jobs else {
            return (request.answer)(Err(EngineError::Stopping));
        };
        match jobs.try_send(Job::Input(request)) {
            Ok(()) => {}
            Err(TrySendError::Full(Job::Input(request))) => {
                self.metrics.overloaded.inc();
                (request.answer)(Err(EngineError::Overloaded));
            }
            Err(TrySendError::Disconnected(Job::Input(request))) => {
                (request.answer)(Err(EngineError::Stopping));
            }
            Err(_) => {}
        }
    }

    /// `submit`, for a thread that may block.
    ///
    /// # Errors
    /// When there is no answer to be had.
    pub fn call(&self, input: Input) -> Answered {
        let (sender, receiver) = crossbeam_channel::bounded(1);
        self.submit(input, move |answered| {
            // The receiver is gone only if its thread died; then nobody wants the answer.
            let _ = sender.send(answered);
        });
        receiver.recv().unwrap_or(Err(EngineError::Stopping))
    }

    /// `call` for many, all of which are handed over before the first has its answer, so that they are saved together.
    pub fn call_all(&self, inputs: Vec<Input>) -> Vec<Answered> {
        let hand_over = |input| {
            let (sender, receiver) = crossbeam_channel::bounded(1);
            self.submit(input, move |answered| {
                // As in `call`.
                let _ = sender.send(answered);
            });
            receiver
        };
        let waiting: Vec<Receiver<Answered>> = inputs.into_iter().map(hand_over).collect();
        waiting.into_iter().map(|one| one.recv().unwrap_or(Err(EngineError::Stopping))).collect()
    }

    /// Fires what is due and reports it; for operators, and after the virtual clock was moved. On the machine's clock that
    /// takes no longer than half a second, and the report says whether that was enough. What is stored is counted
    /// afterwards, on the thread that asks: inputs need not wait for it.
    ///
    /// # Errors
    /// When the engine is stopping.
    pub fn recover(&self) -> Result<RecoveryReport, EngineError> {
        let (sender, receiver) = crossbeam_channel::bounded(1);
        let jobs = self.jobs.as_ref().ok_or(EngineError::Stopping)?;
        jobs.send(Job::Recover(sender)).map_err(|_| EngineError::Stopping)?;
        let mut report = receiver.recv().map_err(|_| EngineError::Stopping)?;
        if let Ok(statistics) = self.store.statistics() {
            (report.open, report.quarantined) = (figures::open(&statistics), statistics.quarantined);
        }
        if self.clock.is_virtual() {
            self.delivery.iter().for_each(|delivery| delivery.rest());
        }
        Ok(report)
    }

    /// What an input would do to an instance, without doing it.
    ///
    /// # Errors
    /// When the definition that the instance is pinned to is not known here.
    pub fn explain(&self, before: &Snapshot, input: &Input) -> Result<Explanation, EngineError> {
        let machine = self.machines.of(before)?;
        Ok(explain(&machine, before, input, self.clock.now()))
    }

    /// The answer that an input would get, without its doing anything: `explain` for those who need no more.
    ///
    /// # Errors
    /// As `explain`.
    pub fn try_out(&self, before: &Snapshot, input: &Input) -> Result<Answer, EngineError> {
        let machine = self.machines.of(before)?;
        let decided = decide(&machine, Some(before), input, self.clock.now());
        Ok(decided.map_or_else(Answer::Refused, |commit| commit.entry.answer))
    }

    /// The answer that a creation would get, without its doing anything. By what is saved now, and by nothing else that
    /// is only tried out.
    ///
    /// # Errors
    /// When there is no such machine, the store cannot be read, or what is there is corrupt.
    pub fn try_creation(&self, input: &Input) -> Answered {
        let Cause::Create { machine, id, subject, .. } = &input.cause else {
            return Err(EngineError::NotFound { what: "creation in this input".into() });
        };
        if let Some(found) = landing::first_of(&*self.store, input)? {
            let first = landing::receipt_of(found);
            let (answer, replayed) = match landing::reused(input, &first) {
                Some(refusal) => (Arc::new(Answer::Refused(refusal)), false),
                None => (first.answer, true),
            };
            return Ok(Submitted { answer, replayed });
        }
        let current = self.machines.current_for(&input.tenant, machine)?;
        let by_id = match id {
            Some(id) => self.store.load(&input.tenant, id)?,
            None => None,
        };
        let before = match (by_id, subject) {
            (None, Some(subject)) if current.conversation.is_some() => {
                self.store.load_session(&input.tenant, machine, subject)?
            }
            (by_id, _) => by_id,
        };
        let decided = decide(&current, before.as_ref(), input, self.clock.now());
        let decided = match &decided {
            Ok(commit) => batch::second_of(&*self.store, None, commit)?.map_or(decided, Err),
            Err(_) => decided,
        };
        let answer = decided.map_or_else(Answer::Refused, |commit| commit.entry.answer);
        Ok(Submitted { answer: Arc::new(answer), replayed: false })
    }

    /// Whether an input is a repeat of one that has its answer, so that nothing needs to be found out for it.
    ///
    /// # Errors
    /// When the store cannot be read, or the receipt is corrupt.
    pub fn answered_before(&self, input: &Input) -> Result<bool, EngineError> {
        Ok(landing::first_of(&*self.store, input)?.is_some())
    }

    /// What to ask somebody about a message, if it would make a difference to know what it means. By what is saved now: another input may come in between, which then makes the advice worse
    /// and nothing wrong.
    ///
    /// # Errors
    /// When there is no such machine, the session is corrupt or the store cannot be read.
    pub fn reading_wanted(&self, input: &Input) -> Result<Option<ReadingWanted>, EngineError> {
        let Cause::Message { machine, subject, .. } = &input.cause else { return Ok(None) };
        let before = self.store.load_session(&input.tenant, machine, subject)?;
        let machine = match before.as_ref().filter(|before| !before.is_closed()) {
            Some(open) => {
                self.machines.learn(&*self.store, &open.definition)?;
                self.machines.of(open)?
            }
            None => self.machines.current_for(&input.tenant, machine)?,
        };
        let heard = reading_wanted(&machine, before.as_ref(), input, self.clock.now());
        let heard = heard.map(|names| names.into_iter().map(str::to_owned).collect());
        Ok(heard.map(|heard| ReadingWanted { machine, heard }))
    }

    /// # Errors
    /// When the store cannot be read, or the record is corrupt.
    pub fn instance(&self, tenant: &TenantId, id: &InstanceId) -> Result<Snapshot, EngineError> {
        let found = self.store.load(tenant, id)?;
        let found = found.ok_or_else(|| EngineError::NotFound { what: format!("instance `{id}`") })?;
        self.machines.learn(&*self.store, &found.definition)?;
        Ok(found)
    }

    /// The active session of a subject, else its last.
    ///
    /// # Errors
    /// As `instance`.
    pub fn session(
        &self,
        tenant: &TenantId,
        machine: &MachineName,
        subject: &Subject,
    ) -> Result<Snapshot, EngineError> {
        self.machines.current_for(tenant, machine)?;
        let found = self.store.load_session(tenant, machine, subject)?;
        let found = found.ok_or_else(|| EngineError::NotFound { what: format!("session of `{subject}`") })?;
        self.machines.learn(&*self.store, &found.definition)?;
        Ok(found)
    }

    /// All figures as OpenMetrics text, as they are now. Those of a store that takes its time to count what it holds may be
    /// older, by twenty times of that.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn figures(&self) -> Result<String, EngineError> {
        let (statistics, standings) = (self.figures.now()?, self.standings.now()?);
        let waiting = self.jobs.as_ref().map_or(0, Sender::len);
        self.metrics.inputs_waiting.set(i64::try_from(waiting).unwrap_or(i64::MAX));
        self.metrics.streams.set(i64::try_from(self.feed.readers()).unwrap_or(i64::MAX));
        let stored = Stored {
            statistics: &statistics,
            standings: &standings,
            space: self.store.space(),
            timer_due: self.store.next_due()?,
            effect_due: self.store.next_effect_due()?,
        };
        Ok(self.metrics.render(&stored, self.clock.now()))
    }

    /// What is stored, as it was counted last, and how long ago: what takes its time may be older, by twenty times of that.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn statistics(&self) -> Result<(Arc<StoreStatistics>, Duration), EngineError> {
        Ok(self.figures.lately()?)
    }

    /// How open instances stand, as `statistics` has what is stored.
    ///
    /// # Errors
    /// As `statistics`.
    pub fn standings(&self) -> Result<(Arc<Standings>, Duration), EngineError> {
        Ok(self.standings.lately()?)
    }

    /// What lands here, as it lands.
    pub fn feed(&self) -> &Arc<Feed> {
        &self.feed
    }

    pub fn store(&self) -> &dyn Store {
        &*self.store
    }

    /// The store for whoever may outlive the engine.
    pub fn shared_store(&self) -> Arc<dyn Store> {
        Arc::clone(&self.store)
    }

    pub fn machines(&self) -> &Machines {
        &self.machines
    }

    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What counts as stuck at this moment.
    pub fn stuck_by(&self) -> StuckBy {
        self.settings.stuck_by(self.clock.now())
    }

    /// Answers what is waiting, then stops. Inputs after this are refused.
    pub fn stop(&mut self) {
        // First, since the results of calls are inputs too.
        self.delivery.iter().for_each(|delivery| delivery.stop());
        if let Some(courier) = self.courier.take() {
            let _ = courier.join();
        }
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // A shard that panicked has said so; there is nothing more to do about it here.
            let _ = thread.join();
        }
        self.figures.end();
        self.standings.end();
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.stop();
    }
}

fn spawn(
    mut shard: shard::Shard,
    waiting: Receiver<Job>,
    figures: Arc<Figures<StoreStatistics>>,
) -> JoinHandle<()> {
    std::thread::Builder::new()
        .name("shard".into())
        .spawn(move || {
            let _end = EndTogether("the shard");
            shard.run(&waiting, &figures);
        })
        .expect("a server that cannot start one thread cannot serve")
}

/// A server whose shard or writer has panicked would refuse everything and look healthy: the process ends instead, and
/// whoever started it starts it again. Nothing that was answered is lost by that.
struct EndTogether(&'static str);

impl Drop for EndTogether {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!("{} has panicked; the process ends", self.0);
            std::process::abort();
        }
    }
}
