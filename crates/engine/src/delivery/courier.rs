//! The courier: one thread that claims effects, hands them to the carrier, and settles what came of it.
//!
//! Turn by turn: what has ended is settled in one go, then as much is claimed as there is room for. Of one instance one
//! reply is under way at a time, which the store's claim sees to. How an attempt ended is kept until the store has taken
//! it: what is known to have arrived is not sent again because a disk was full for a moment.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use kernel::commit::{Answer, EffectKind};
use kernel::id::InputKey;
use kernel::input::{CallOutcome, Cause, Fields, Input};
use kernel::refusal::{Refusal, RefusalCode};
use kernel::time::{Delay, Timestamp};
use kernel::trace::{SpanId, Trace};
use store::{ClaimedEffect, OutboxEffect, Settlement, SettlementResult, Store};

use crate::delivery::guard::{Closed, Guarded};
use crate::delivery::{Carried, Carrier, EffectId, Endpoint, Event, Route, tell};
use crate::metrics::DeliveryLabels;
use crate::traces::Traces;
use crate::{Answered, Clock, EngineError, Job, Metrics, Request, Settings};

/// Longest nap when nothing is due and other servers use the store: what one of them left behind is found by then.
const NAP_SHARED_MAX: Delay = Delay::from_secs(5);
/// Longest nap over a store that nobody else uses, where whoever adds something wakes the courier: the machine's clock
/// may have been set.
const NAP_MAX: Delay = Delay::from_secs(60);
/// Between two looks at a store that has nothing to give, or does not answer.
const NAP_MIN: Duration = Duration::from_millis(250);
/// As `NAP_MIN` on a virtual clock, where whoever has moved it waits until what is due has been tried.
const NAP_VIRTUAL: Duration = Duration::from_millis(5);
/// What an endpoint with its full share is left alone for; it is asked in the order of the due times then.
const SHARE_PAUSE: Delay = Delay::from_millis(2_000);
/// Different warnings of what is missing; settings are few.
const WARNED_MAX: usize = 100;
/// The key of the input that brings a call's result, before what tells it from others.
const RESULT_PREFIX: &str = "result:";

#[derive(Debug)]
pub(crate) struct Courier {
    pub store: Arc<dyn Store>,
    /// Whether other servers may add effects.
    pub is_shared: bool,
    pub clock: Clock,
    pub metrics: Arc<Metrics>,
    pub settings: Settings,
    pub carrier: Arc<dyn Carrier>,
    /// Where the results of calls go.
    pub jobs: Sender<Job>,
    /// Who is told what became of them.
    pub traces: Arc<Traces>,
    /// Where attempts say how they ended.
    pub events: Sender<Event>,
    pub under_way: HashMap<EffectId, UnderWay>,
    /// What the store has not taken yet of how attempts ended.
    pub unsettled: Vec<Settlement>,
    pub endpoints: HashMap<Arc<str>, Guarded>,
    /// What was warned of.
    pub warned: HashSet<String>,
}

#[derive(Debug)]
pub(crate) struct UnderWay {
    pub(super) effect: OutboxEffect,
    pub(super) endpoint: Endpoint,
    /// Once the engine has taken a call's result, this settles the effect.
    pub(super) then: Option<SettlementResult>,
}

/// Says how an attempt ended: at the latest when a carrier lets go of it, so that none keeps its place for ever.
struct Attempt {
    id: Option<EffectId>,
    parts_done: u32,
    events: Sender<Event>,
}

impl Attempt {
    fn end(&mut self, carried: Carried) {
        if let Some(effect) = self.id.take() {
            // A courier that has stopped leaves the claim to run out.
            let _ = self.events.send(Event::Carried { effect, carried });
        }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        let error = "the attempt ended without a word about how".to_owned();
        self.end(Carried::Unknown { error, parts_done: self.parts_done });
    }
}

/// What a look at the store for what is due came to.
enum Look {
    /// Something was due; there may be more.
    Found,
    /// There is nothing to do for so long.
    Nothing(Duration),
    /// The store did not answer.
    Failed,
}

impl Courier {
    pub fn run(&mut self, waiting: &Receiver<Event>) {
        let mut resting: Vec<Sender<()>> = Vec::new();
        let mut farewell: Option<Instant> = None;
        // The shard wakes it when it has recovered.
        let mut nap = Duration::MAX;
        loop {
            let first = match waiting.recv_timeout(nap) {
                Ok(event) => Some(event),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let mut settlements = Vec::new();
            for event in first.into_iter().chain(waiting.try_iter()) {
                match event {
                    Event::Wake => {}
                    Event::Carried { effect, carried } => settlements.extend(self.ended(effect, carried)),
                    Event::Answered { effect, answered } => {
                        settlements.extend(self.taken(effect, answered));
                    }
                    Event::Rest(sender) => resting.push(sender),
                    Event::Stop => farewell = Some(Instant::now() + self.settings.farewell_max),
                }
            }
            self.settle(settlements);
            if let Some(until) = farewell {
                if self.is_idle() || Instant::now() >= until {
                    return;
                }
                nap = until.saturating_duration_since(Instant::now()).min(self.pause());
                continue;
            }
            let look = self.send_due();
            if matches!(look, Look::Nothing(_)) && self.is_idle() {
                for sender in resting.drain(..) {
                    // Whoever waited may have gone away.
                    let _ = sender.send(());
                }
            }
            nap = match look {
                Look::Found => Duration::ZERO,
                Look::Nothing(nap) if self.unsettled.is_empty() => nap,
                Look::Nothing(_) | Look::Failed => self.pause(),
            };
        }
    }

    /// Whether every attempt has ended, and the store knows how.
    fn is_idle(&self) -> bool {
        self.under_way.is_empty() && self.unsettled.is_empty()
    }

    /// Before the store is asked again that did not answer.
    fn pause(&self) -> Duration {
        if self.clock.is_virtual() { NAP_VIRTUAL } else { NAP_MIN }
    }

    fn nap_max(&self) -> Delay {
        if self.is_shared { NAP_SHARED_MAX } else { NAP_MAX }
    }

    /// Sends what is due, as far as there is room.
    fn send_due(&mut self) -> Look {
        let taken = self.under_way.len() + self.unsettled.len();
        let room = self.settings.deliveries_max.saturating_sub(taken);
        let now = self.clock.now();
        if room == 0 {
            return Look::Nothing(duration(self.nap_max()));
        }
        let claim = || self.store.claim_effects(now, now.plus(self.settings.delivery_lease), room);
        let claimed = match self.metrics.timed("claim_effects", claim) {
            Ok(claimed) => claimed,
            Err(error) => {
                tracing::error!("failed to claim effects: {error}");
                return Look::Failed;
            }
        };
        let found = !claimed.is_empty();
        let settlements = claimed.into_iter().filter_map(|claimed| self.send(claimed, now)).collect();
        self.settle(settlements);
        if found {
            return Look::Found;
        }
        if self.clock.is_virtual() {
            return Look::Nothing(Duration::MAX);
        }
        let Ok(due) = self.store.next_effect_due() else { return Look::Failed };
        let nap_max = self.nap_max();
        let until = due.map_or(nap_max, |due| due.since(now).min(nap_max));
        Look::Nothing(duration(until).max(NAP_MIN))
    }

    /// Hands an effect to the carrier, unless that is settled otherwise.
    fn send(&mut self, claimed: ClaimedEffect, now: Timestamp) -> Option<Settlement> {
        let ClaimedEffect { effect, interrupted } = claimed;
        let id = (effect.tenant.clone(), effect.effect.key.clone());
        if let Some(under_way) = self.under_way.get_mut(&id) {
            // Our own claim has run out before the attempt has: it goes on under the new one.
            under_way.effect.attempts = effect.attempts;
            return None;
        }
        let of_it = |s: &&mut Settlement| s.tenant == effect.tenant && s.key == effect.effect.key;
        if let Some(known) = self.unsettled.iter_mut().find(of_it) {
            // It has run out before the store could be told how the attempt ended.
            known.attempt = effect.attempts;
            return None;
        }
        let settled = |result| Some(settlement(&effect, result));
        if let Some(error) = self.not_wanted(&effect) {
            return settled(SettlementResult::Cancelled { error });
        }
        if let EffectKind::Tell(told) = &effect.effect.kind {
            let input = tell::input_of(&effect, told);
            if let Some(refusal) = self.no_flow(&effect, told) {
                return self.told(id, effect, tell::endpoint(), refusal);
            }
            self.under_way.insert(id.clone(), UnderWay { effect, endpoint: tell::endpoint(), then: None });
            self.submit(id, input);
            return None;
        }
        let endpoint = match self.carrier.route(&effect) {
            Route::To(endpoint) => endpoint,
            Route::Nowhere(error) => {
                self.warn_once(&error);
                return settled(SettlementResult::Unaddressed { error });
            }
        };
        if interrupted && !endpoint.repeatable {
            let error = "the server stopped while it was being sent; it may have arrived".to_owned();
            return settled(SettlementResult::Unknown { error, parts_done: effect.parts_done });
        }
        if self.has_its_share(&endpoint) {
            let error = format!("{} waits: as much is under way to it as may be at one time", endpoint.name);
            return settled(SettlementResult::Postponed { at: now.plus(SHARE_PAUSE), error });
        }
        match self.guarded(&endpoint).admits(now) {
            Ok(()) => {}
            Err(Closed::Until(at, why)) => {
                let error = format!("{} waits: {why}", endpoint.name);
                return settled(SettlementResult::Postponed { at, error });
            }
            Err(Closed::Gone(error)) => {
                let error = format!("{} takes nothing more: {error}", endpoint.name);
                return settled(SettlementResult::Unaddressed { error });
            }
        }
        let under_way = UnderWay { effect: effect.clone(), endpoint, then: None };
        self.under_way.insert(id.clone(), under_way);
        let events = self.events.clone();
        let mut attempt = Attempt { id: Some(id), parts_done: effect.parts_done, events };
        self.carrier.carry(effect, Box::new(move |carried| attempt.end(carried)));
        None
    }

    /// Whether an endpoint takes up half of all that may be under way: one that answers slowly must not keep the others
    /// waiting. On a virtual clock no time passes meanwhile, so that nothing would end the wait.
    fn has_its_share(&self, endpoint: &Endpoint) -> bool {
        let to_it = self.under_way.values().filter(|under_way| under_way.endpoint.name == endpoint.name);
        !self.clock.is_virtual() && to_it.count() >= self.settings.deliveries_max.div_ceil(2)
    }

    /// Why nobody wants the effect any more, if so.
    fn not_wanted(&self, effect: &OutboxEffect) -> Option<String> {
        if effect.tenant.is_shadow() {
            return Some("it was only tried out".to_owned());
        }
        let is_waited_for = match &effect.effect.kind {
            EffectKind::Call { .. } => true,
            EffectKind::Tell(told) => tell::is_waited_for(told),
            EffectKind::Reply(_) | EffectKind::Notice(_) => false,
        };
        if !is_waited_for {
            return None;
        }
        let Ok(found) = self.store.load(&effect.tenant, &effect.instance) else { return None };
        let waits = |call: &kernel::snapshot::Invocation| call.key == effect.effect.key;
        let waited_for = found.is_some_and(|snapshot| snapshot.invocations.iter().any(waits));
        // Why it was not answered in time is worth more than that nobody waits.
        let before = effect.error.as_ref().map(|error| format!("; before: {error}")).unwrap_or_default();
        (!waited_for).then(|| format!("nobody waits for the result any more{before}"))
    }

    /// What is missing in the settings is said once, and not with each effect.
    fn warn_once(&mut self, problem: &str) {
        if self.warned.len() < WARNED_MAX && self.warned.insert(problem.to_owned()) {
            tracing::warn!("an effect has nowhere to go: {problem}");
        }
    }

    fn guarded(&mut self, endpoint: &Endpoint) -> &mut Guarded {
        self.endpoints.entry(Arc::clone(&endpoint.name)).or_insert_with(|| Guarded::new(endpoint.rate))
    }

    /// What the end of an attempt settles. The result of a call has to be taken by the engine first.
    fn ended(&mut self, id: EffectId, carried: Carried) -> Option<Settlement> {
        let UnderWay { effect, endpoint, .. } = self.under_way.remove(&id)?;
        let now = self.clock.now();
        self.count(&endpoint, carried.as_str());
        if self.guarded(&endpoint).heard(&carried, now) {
            tracing::warn!(
                endpoint = &*endpoint.name,
                result = carried.as_str(),
                "an endpoint is left alone"
            );
        }
        let (result, outcome) = conclude(&effect, &endpoint, carried, now);
        log(&effect, &endpoint, name_of(&result), error_of(&result).unwrap_or(""));
        let Some(outcome) = outcome else { return Some(settlement(&effect, result)) };
        let input = result_of(&effect, outcome, now);
        self.under_way.insert(id.clone(), UnderWay { effect, endpoint, then: Some(result) });
        self.submit(id, input);
        None
    }

    pub(super) fn count(&self, endpoint: &Endpoint, result: &'static str) {
        let labels = DeliveryLabels { endpoint: endpoint.name.to_string(), result };
        self.metrics.deliveries.get_or_create(&labels).inc();
    }

    pub(super) fn submit(&self, effect: EffectId, input: Input) {
        let events = self.events.clone();
        let request = Request::new(input, &self.traces, move |answered| {
            let _ = events.send(Event::Answered { effect, answered });
        });
        // The queue is bounded; a result waits for its place, since it cannot be sent away.
        if let Err(error) = self.jobs.send(Job::Input(request))
            && let Job::Input(request) = error.into_inner()
        {
            request.answer(Err(EngineError::Stopping));
        }
    }

    /// The engine has answered to a call's result, or to what a flow is told.
    fn taken(&mut self, id: EffectId, answered: Answered) -> Option<Settlement> {
        let UnderWay { effect, endpoint, then } = self.under_way.remove(&id)?;
        let Some(then) = then else { return self.told(id, effect, endpoint, answered) };
        let result = match answered {
            Ok(submitted) => match &*submitted.answer {
                Answer::Refused(refusal) => heard_out(then, refusal),
                Answer::Event(_) | Answer::Message(_) => then,
            },
            Err(error) => not_taken(&effect, &endpoint, &then, &error, self.clock.now()),
        };
        Some(settlement(&effect, result))
    }

    /// Tells the store how attempts have ended; what it does not take, it is told again.
    fn settle(&mut self, settlements: Vec<Settlement>) {
        self.unsettled.extend(settlements);
        if self.unsettled.is_empty() {
            return;
        }
        let settle = || self.store.settle_effects(&self.unsettled, self.clock.now());
        match self.metrics.timed("settle_effects", settle) {
            Ok(_) => self.unsettled.clear(),
            Err(error) => {
                tracing::error!(effects = self.unsettled.len(), "failed to settle effects: {error}")
            }
        }
    }
}

impl Carried {
    /// In a word, for figures and traces.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Delivered { .. } => "delivered",
            Self::Answered(_) => "answered",
            Self::Refused { .. } => "refused",
            Self::Gone { .. } => "gone",
            Self::Later { .. } => "later",
            Self::Unknown { .. } => "unknown",
        }
    }
}

/// What an attempt comes to: how the effect is settled and, if it was a call that has ended, its result.
fn conclude(
    effect: &OutboxEffect,
    endpoint: &Endpoint,
    carried: Carried,
    now: Timestamp,
) -> (SettlementResult, Option<CallOutcome>) {
    let is_call = matches!(effect.effect.kind, EffectKind::Call { .. });
    let failed = |code: &str, error: &str| {
        let fields = [("code", code), ("message", error)].map(|(k, v)| (k.to_owned(), v.into()));
        is_call.then(|| CallOutcome::Failed(Fields::from_iter(fields)))
    };
    let again = |error: String, after: Option<Delay>, parts_done: u32| match endpoint
        .schedule
        .retry(effect.attempts, &effect.effect.key)
    {
        Some(delay) => {
            let at = now.plus(delay.max(after.unwrap_or(Delay::ZERO)));
            (SettlementResult::Retry { at, error, parts_done }, None)
        }
        None => {
            let outcome = failed("unreachable", &error);
            (SettlementResult::Dead { error, parts_done }, outcome)
        }
    };
    match carried {
        Carried::Delivered { provider_id } => (SettlementResult::Delivered { provider_id }, None),
        Carried::Answered(outcome) => (SettlementResult::Delivered { provider_id: None }, Some(outcome)),
        Carried::Refused { error, parts_done } => {
            let outcome = failed("refused", &error);
            (SettlementResult::Dead { error, parts_done }, outcome)
        }
        Carried::Gone { error } => {
            let outcome = failed("refused", &error);
            (SettlementResult::Dead { error, parts_done: effect.parts_done }, outcome)
        }
        Carried::Later { error, after, parts_done } => again(error, after, parts_done),
        Carried::Unknown { error, parts_done } if endpoint.repeatable => again(error, None, parts_done),
        Carried::Unknown { error, parts_done } => {
            let outcome = failed("unknown", &error);
            (SettlementResult::Unknown { error, parts_done }, outcome)
        }
    }
}

/// What a call comes to whose result was refused. That nobody waits for it any more is no fault of the call; and why a
/// call has failed is worth more than that nobody listens to it.
fn heard_out(then: SettlementResult, refusal: &Refusal) -> SettlementResult {
    match (refusal.code, then) {
        (RefusalCode::CallOver | RefusalCode::InstanceClosed, then) => then,
        (_, SettlementResult::Delivered { .. }) => {
            let error = format!("the result was refused: {}", refusal.message);
            SettlementResult::Dead { error, parts_done: 0 }
        }
        (_, then) => then,
    }
}

/// What a call comes to whose result nobody has taken, as far as is known: it is made again where that is known as a
/// repeat, or where it was not made.
fn not_taken(
    effect: &OutboxEffect,
    endpoint: &Endpoint,
    then: &SettlementResult,
    error: &EngineError,
    now: Timestamp,
) -> SettlementResult {
    let passes = error.passes();
    let may_be_made_again = endpoint.repeatable || matches!(then, SettlementResult::Dead { .. });
    let error = format!("the result was not taken: {error}");
    match endpoint.schedule.retry(effect.attempts, &effect.effect.key).filter(|_| passes) {
        _ if passes && !may_be_made_again => SettlementResult::Unknown { error, parts_done: 0 },
        Some(delay) => SettlementResult::Retry { at: now.plus(delay), error, parts_done: 0 },
        None => SettlementResult::Dead { error, parts_done: 0 },
    }
}

/// The input that brings a call's result. That it is taken once is the call's doing, which is over then; a key that were
/// the same each time would have a result refused for ever that was refused once.
pub(super) fn result_of(effect: &OutboxEffect, outcome: CallOutcome, now: Timestamp) -> Input {
    let call = effect.effect.key.clone();
    let cause = Cause::Result { instance: effect.instance.clone(), call, outcome };
    // As a digest: an instance's name may be as long as a key may be.
    let key = format!("{RESULT_PREFIX}{}:{}", cause.digest(), now.as_millis());
    Input {
        tenant: effect.tenant.clone(),
        key: InputKey::parse(&key).expect("hexadecimal digits and a number make a key"),
        cause,
        expected: None,
        by: None,
        trace: attempt_of(effect),
    }
}

/// The trace of an effect, from the span of the attempt at it on.
pub fn attempt_of(effect: &OutboxEffect) -> Option<Trace> {
    let OutboxEffect { tenant, effect, due_at, .. } = effect;
    let span = SpanId::of_attempt(tenant, &effect.key, due_at.unwrap_or(Timestamp::EPOCH));
    effect.trace(tenant).map(|trace| trace.at(span))
}

pub(super) fn settlement(effect: &OutboxEffect, result: SettlementResult) -> Settlement {
    Settlement {
        tenant: effect.tenant.clone(),
        key: effect.effect.key.clone(),
        attempt: effect.attempts,
        result,
    }
}

/// One line for each attempt, with the trace that it belongs to.
pub(super) fn log(effect: &OutboxEffect, endpoint: &Endpoint, result: &str, error: &str) {
    tracing::info!(
        trace_id = effect.effect.trace_id.as_deref().unwrap_or(""),
        tenant = %effect.tenant,
        instance = %effect.instance,
        effect = effect.effect.key,
        endpoint = &*endpoint.name,
        attempt = effect.attempts,
        result,
        error,
        "delivery attempted"
    );
}

pub(super) fn name_of(result: &SettlementResult) -> &'static str {
    match result {
        SettlementResult::Delivered { .. } => "delivered",
        SettlementResult::Retry { .. } => "retry",
        SettlementResult::Postponed { .. } => "postponed",
        SettlementResult::Dead { .. } => "dead",
        SettlementResult::Unknown { .. } => "unknown",
        SettlementResult::Cancelled { .. } => "cancelled",
        SettlementResult::Unaddressed { .. } => "unaddressed",
    }
}

pub(super) fn error_of(result: &SettlementResult) -> Option<&str> {
    match result {
        SettlementResult::Delivered { .. } => None,
        SettlementResult::Retry { error, .. }
        | SettlementResult::Postponed { error, .. }
        | SettlementResult::Dead { error, .. }
        | SettlementResult::Unknown { error, .. }
        | SettlementResult::Cancelled { error }
        | SettlementResult::Unaddressed { error } => Some(error),
    }
}

fn duration(delay: Delay) -> Duration {
    Duration::from_millis(delay.as_millis().unsigned_abs())
}
