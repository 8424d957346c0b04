//! The courier: one thread that claims effects, hands them to the carrier, and settles what came of it.
//!
//! Turn by turn: what has ended is settled in one go, then as much is claimed as there is room for. Of one instance one
//! reply is under way at a time, which the store's claim sees to. An endpoint that fails again and again is left alone
//! for a while, and its effects wait in the store.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use kernel::commit::{Answer, EffectKind};
use kernel::id::{Digest, InputKey};
use kernel::input::{CallOutcome, Cause, Fields, Input};
use kernel::time::{Delay, Timestamp};
use store::{ClaimedEffect, OutboxEffect, Settlement, SettlementResult, Store};

use crate::breaker::{Admission, Breaker, BreakerSettings, Bucket};
use crate::delivery::{Carried, Carrier, EffectId, Endpoint, Event, Route};
use crate::metrics::DeliveryLabels;
use crate::{Answered, Clock, Job, Metrics, Request, Settings};

/// Longest nap when nothing is due: what another server left behind is found by then.
const NAP_MAX: Delay = Delay::from_millis(5_000);
/// Between two looks at a store that has nothing to give, or does not answer.
const NAP_MIN: Duration = Duration::from_millis(250);
/// How long what is under way may take to end when the server stops.
const FAREWELL_MAX: Duration = Duration::from_secs(5);
/// The key of the input that brings a call's result, before the effect's own.
const RESULT_PREFIX: &str = "result:";

#[derive(Debug)]
pub(crate) struct Courier {
    pub store: Arc<dyn Store>,
    pub clock: Clock,
    pub metrics: Arc<Metrics>,
    pub settings: Settings,
    pub carrier: Arc<dyn Carrier>,
    /// Where the results of calls go.
    pub jobs: Sender<Job>,
    /// Where attempts say how they ended.
    pub events: Sender<Event>,
    pub under_way: HashMap<EffectId, UnderWay>,
    pub endpoints: HashMap<Arc<str>, Guarded>,
}

#[derive(Debug)]
pub(crate) struct UnderWay {
    effect: OutboxEffect,
    endpoint: Endpoint,
    /// Once the engine has taken a call's result, this settles the effect.
    then: Option<SettlementResult>,
}

/// What is known of an endpoint while the process lives.
#[derive(Debug)]
pub(crate) struct Guarded {
    breaker: Breaker,
    bucket: Option<Bucket>,
    /// It has asked to be left alone until then.
    paused_until: Timestamp,
    /// It is not there any more, and said so.
    gone: Option<String>,
}

impl Courier {
    pub fn run(&mut self, waiting: &Receiver<Event>) {
        let mut resting: Vec<Sender<()>> = Vec::new();
        let mut farewell: Option<Instant> = None;
        let mut nap = Duration::ZERO;
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
                    Event::Stop => farewell = Some(Instant::now() + FAREWELL_MAX),
                }
            }
            self.settle(settlements);
            if let Some(until) = farewell {
                if self.under_way.is_empty() || Instant::now() >= until {
                    return;
                }
                nap = NAP_MIN;
                continue;
            }
            nap = self.send_due();
            if self.under_way.is_empty() && !nap.is_zero() {
                for sender in resting.drain(..) {
                    // Whoever waited may have gone away.
                    let _ = sender.send(());
                }
            }
        }
    }

    /// Sends what is due, as far as there is room, and says how long there is nothing to do.
    fn send_due(&mut self) -> Duration {
        let room = self.settings.deliveries_max.saturating_sub(self.under_way.len());
        let now = self.clock.now();
        if room == 0 {
            return duration(NAP_MAX);
        }
        let claimed = match self.store.claim_effects(now, now.plus(self.settings.delivery_lease), room) {
            Ok(claimed) => claimed,
            Err(error) => {
                tracing::error!("failed to claim effects: {error}");
                return NAP_MIN;
            }
        };
        let found = !claimed.is_empty();
        let settlements = claimed.into_iter().filter_map(|claimed| self.send(claimed, now)).collect();
        self.settle(settlements);
        if found {
            return Duration::ZERO;
        }
        if self.clock.is_virtual() {
            return Duration::MAX;
        }
        let due = self.store.next_effect_due().ok().flatten();
        let until = due.map_or(NAP_MAX, |due| due.since(now).min(NAP_MAX));
        duration(until).max(NAP_MIN)
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
        let settled = |result| Some(settlement(&effect, result));
        if let Some(error) = self.not_wanted(&effect) {
            return settled(SettlementResult::Cancelled { error });
        }
        let endpoint = match self.carrier.route(&effect) {
            Route::To(endpoint) => endpoint,
            Route::Nowhere(error) => return settled(SettlementResult::Unaddressed { error }),
        };
        if interrupted && !endpoint.repeatable {
            let error = "the server stopped while it was being sent; it may have arrived".to_owned();
            return settled(SettlementResult::Unknown { error });
        }
        match self.guarded(&endpoint).admits(now) {
            Ok(()) => {}
            Err(Closed::Until(at)) => return settled(SettlementResult::Postponed { at }),
            Err(Closed::Gone(error)) => return settled(SettlementResult::Unaddressed { error }),
        }
        let events = self.events.clone();
        let under_way = UnderWay { effect: effect.clone(), endpoint, then: None };
        self.under_way.insert(id.clone(), under_way);
        self.carrier.carry(
            effect,
            Box::new(move |carried| {
                // A courier that has stopped leaves the claim to run out.
                let _ = events.send(Event::Carried { effect: id, carried });
            }),
        );
        None
    }

    /// Why nobody wants the effect any more, if so.
    fn not_wanted(&self, effect: &OutboxEffect) -> Option<String> {
        if effect.tenant.is_shadow() {
            return Some("it was only tried out".to_owned());
        }
        let EffectKind::Call { .. } = effect.effect.kind else { return None };
        let Ok(found) = self.store.load(&effect.tenant, &effect.instance) else { return None };
        let waits = |call: &kernel::snapshot::Invocation| call.key == effect.effect.key;
        let waited_for = found.is_some_and(|snapshot| snapshot.invocations.iter().any(waits));
        (!waited_for).then(|| "nobody waits for the result any more".to_owned())
    }

    fn guarded(&mut self, endpoint: &Endpoint) -> &mut Guarded {
        self.endpoints.entry(Arc::clone(&endpoint.name)).or_insert_with(|| Guarded {
            breaker: Breaker::new(BreakerSettings::default()),
            bucket: endpoint.rate.map(|rate| Bucket::new(rate, rate.ceil().max(1.0) as u32)),
            paused_until: Timestamp::EPOCH,
            gone: None,
        })
    }

    /// What the end of an attempt settles. The result of a call has to be taken by the engine first.
    fn ended(&mut self, id: EffectId, carried: Carried) -> Option<Settlement> {
        let UnderWay { effect, endpoint, .. } = self.under_way.remove(&id)?;
        let now = self.clock.now();
        let labels = DeliveryLabels { endpoint: endpoint.name.to_string(), result: carried.as_str() };
        self.metrics.deliveries.get_or_create(&labels).inc();
        let guarded = self.guarded(&endpoint);
        guarded.heard(&carried, now);
        if let Carried::Later { after: Some(after), .. } = &carried {
            guarded.paused_until = now.plus(*after);
        }
        if let Carried::Gone { error } = &carried {
            guarded.gone = Some(format!("{} takes nothing more: {error}", endpoint.name));
        }
        let (result, outcome) = conclude(&effect, &endpoint, carried, now);
        tracing::info!(
            trace_id = effect.effect.trace_id.as_deref().unwrap_or(""),
            tenant = %effect.tenant,
            instance = %effect.instance,
            effect = effect.effect.key,
            endpoint = &*endpoint.name,
            attempt = effect.attempts,
            result = name_of(&result),
            error = error_of(&result).unwrap_or(""),
            "delivery attempted"
        );
        let Some(outcome) = outcome else { return Some(settlement(&effect, result)) };
        let input = result_of(&effect, outcome);
        self.under_way.insert(id.clone(), UnderWay { effect, endpoint, then: Some(result) });
        self.submit(id, input);
        None
    }

    fn submit(&self, effect: EffectId, input: Input) {
        let events = self.events.clone();
        let answer = Box::new(move |answered: Answered| {
            let _ = events.send(Event::Answered { effect, answered });
        });
        let request = Request { input: Box::new(input), answer, attempts: 0 };
        // The queue is bounded; a result waits for its place, since it cannot be sent away.
        if let Err(error) = self.jobs.send(Job::Input(request))
            && let Job::Input(request) = error.into_inner()
        {
            (request.answer)(Err(crate::EngineError::Stopping));
        }
    }

    /// The engine has answered to a call's result.
    fn taken(&mut self, id: EffectId, answered: Answered) -> Option<Settlement> {
        let UnderWay { effect, then, .. } = self.under_way.remove(&id)?;
        let result = match answered {
            Ok(submitted) => match &*submitted.answer {
                Answer::Refused(refusal) if refusal.code != kernel::refusal::RefusalCode::CallOver => {
                    let error = format!("the result was refused: {}", refusal.message);
                    SettlementResult::Dead { error }
                }
                _ => then?,
            },
            // Nobody knows of the result yet: the call is made again, under the same key.
            Err(error) => SettlementResult::Retry {
                at: self.clock.now().plus(NAP_MAX),
                error: error.to_string(),
                parts_done: 0,
            },
        };
        Some(settlement(&effect, result))
    }

    fn settle(&self, settlements: Vec<Settlement>) {
        if settlements.is_empty() {
            return;
        }
        if let Err(error) = self.store.settle_effects(&settlements, self.clock.now()) {
            // The claims run out, and it is as if the attempts had been interrupted.
            tracing::error!(effects = settlements.len(), "failed to settle effects: {error}");
        }
    }
}

/// Why an endpoint takes nothing at present.
enum Closed {
    Until(Timestamp),
    Gone(String),
}

impl Guarded {
    fn admits(&mut self, now: Timestamp) -> Result<(), Closed> {
        if let Some(error) = &self.gone {
            return Err(Closed::Gone(error.clone()));
        }
        if self.paused_until > now {
            return Err(Closed::Until(self.paused_until));
        }
        if let Some(Err(at)) = self.bucket.as_mut().map(|bucket| bucket.take(now)) {
            return Err(Closed::Until(at));
        }
        match self.breaker.admits(now) {
            Admission::Yes | Admission::Probe => Ok(()),
            Admission::Not { until } => Err(Closed::Until(until)),
        }
    }

    fn heard(&mut self, carried: &Carried, now: Timestamp) {
        match carried {
            // It is there, and says no.
            Carried::Delivered { .. }
            | Carried::Answered(_)
            | Carried::Refused { .. }
            | Carried::Gone { .. }
            | Carried::Later { after: Some(_), .. } => self.breaker.succeeded(now),
            Carried::Later { after: None, .. } | Carried::Unknown { .. } => self.breaker.failed(now),
        }
    }
}

impl Carried {
    fn as_str(&self) -> &'static str {
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
            (SettlementResult::Dead { error }, outcome)
        }
    };
    match carried {
        Carried::Delivered { provider_id } => (SettlementResult::Delivered { provider_id }, None),
        Carried::Answered(outcome) => (SettlementResult::Delivered { provider_id: None }, Some(outcome)),
        Carried::Refused { error } | Carried::Gone { error } => {
            let outcome = failed("refused", &error);
            (SettlementResult::Dead { error }, outcome)
        }
        Carried::Later { error, after, parts_done } => again(error, after, parts_done),
        Carried::Unknown { error, parts_done } if endpoint.repeatable => again(error, None, parts_done),
        Carried::Unknown { error, .. } => {
            let outcome = failed("unknown", &error);
            (SettlementResult::Unknown { error }, outcome)
        }
    }
}

/// The input that brings a call's result. A repeat of it is one, whoever makes it.
fn result_of(effect: &OutboxEffect, outcome: CallOutcome) -> Input {
    // As a digest: an instance's name may be as long as a key may be.
    let key = format!("{RESULT_PREFIX}{}", Digest::of_parts(&[&effect.effect.key]));
    let key = InputKey::parse(&key).expect("hexadecimal digits make a key");
    let instance = effect.instance.clone();
    let call = effect.effect.key.clone();
    Input {
        tenant: effect.tenant.clone(),
        key,
        cause: Cause::Result { instance, call, outcome },
        expected: None,
        by: None,
        trace_id: effect.effect.trace_id.clone(),
    }
}

fn settlement(effect: &OutboxEffect, result: SettlementResult) -> Settlement {
    Settlement {
        tenant: effect.tenant.clone(),
        key: effect.effect.key.clone(),
        attempt: effect.attempts,
        result,
    }
}

fn name_of(result: &SettlementResult) -> &'static str {
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

fn error_of(result: &SettlementResult) -> Option<&str> {
    match result {
        SettlementResult::Delivered { .. } | SettlementResult::Postponed { .. } => None,
        SettlementResult::Retry { error, .. }
        | SettlementResult::Dead { error }
        | SettlementResult::Unknown { error }
        | SettlementResult::Cancelled { error }
        | SettlementResult::Unaddressed { error } => Some(error),
    }
}

fn duration(delay: Delay) -> Duration {
    Duration::from_millis(delay.as_millis().unsigned_abs())
}
