//! What one flow tells another, brought to it as an input: no request is made, and no setting is needed.
//!
//! Owns which input that is and what its answer means for the effect. The teller hears of what could not be begun or
//! watched, since its phase waits for that; where nothing waits, what is refused is over.

use std::sync::Arc;

use kernel::commit::{Answer, EffectKind, Told};
use kernel::flow::signature;
use kernel::id::{Digest, InputKey, InstanceId};
use kernel::input::{CallOutcome, Cause, Fields, Input, Start};
use kernel::refusal::{Refusal, RefusalCode};
use kernel::time::Timestamp;
use store::{LoadError, OutboxEffect, Settlement, SettlementResult};

use crate::delivery::courier::{Courier, UnderWay, error_of, log, name_of, result_of, settlement};
use crate::delivery::{EffectId, Endpoint, Schedule};
use crate::{Answered, EngineError, Submitted};

/// The key of the input that tells something, before what tells it from others.
const KEY_PREFIX: &str = "tell:";
/// The event by which a flow asks to be told when another ends.
const WATCH: &str = "watch";
/// What the teller's phase fails with.
const NOT_FOUND: &str = "FLOW_NOT_FOUND";
const REFUSED: &str = "CHILD_FLOW_REFUSED";

/// What the answer of whoever was told comes to.
#[derive(Debug, PartialEq)]
enum Heard {
    Settled(SettlementResult),
    /// It was not taken, and nobody waits for it to be.
    Moot(String),
    /// The teller waits for what cannot be: its phase fails with this code.
    Failed {
        code: &'static str,
        message: String,
    },
}

/// Where flows are, in the log and in figures.
pub(super) fn endpoint() -> Endpoint {
    Endpoint { name: Arc::from("flows"), repeatable: true, rate: None, schedule: Schedule::Prompt }
}

/// Whether a phase of the teller waits for what this leads to.
pub(super) fn is_waited_for(told: &Told) -> bool {
    match told {
        Told::Begin { .. } => true,
        Told::Event { event, .. } => event == WATCH,
        Told::Result { .. } => false,
    }
}

/// The same each time, so that it is taken once, however often it is brought.
pub(super) fn input_of(effect: &OutboxEffect, told: &Told) -> Input {
    let cause = match told.clone() {
        Told::Begin { flow, id, context, parent } => Cause::Create {
            machine: flow,
            id: Some(id),
            subject: None,
            context,
            start: Start { parent: Some(parent), ..Start::default() },
        },
        Told::Event { instance, event, payload } => Cause::Event { instance, event, payload },
        Told::Result { to, done, fields } => {
            let outcome = if done { CallOutcome::Done(fields) } else { CallOutcome::Failed(fields) };
            Cause::Result { instance: to.instance, call: to.call, outcome }
        }
    };
    // As a digest: an instance's name may be as long as a key may be.
    let key = format!("{KEY_PREFIX}{}", Digest::of_parts(&[&effect.effect.key]));
    Input {
        tenant: effect.tenant.clone(),
        key: InputKey::parse(&key).expect("a word and hexadecimal digits make a key"),
        cause,
        expected: None,
        by: Some(signature(effect.instance.as_str())),
        trace: effect.effect.trace(&effect.tenant),
    }
}

impl Courier {
    /// What is no flow is not told what flows tell one another: an event of that name may mean anything to it.
    pub(super) fn no_flow(&self, effect: &OutboxEffect, told: &Told) -> Option<Answered> {
        let Told::Event { instance, .. } = told else { return None };
        match self.store.load(&effect.tenant, instance) {
            Ok(Some(found)) if found.flow.is_none() => {
                let message = format!("`{instance}` is no flow");
                let refusal = Refusal::new(RefusalCode::NotApplicable, found.revision, message);
                Some(Ok(Submitted { answer: Arc::new(Answer::Refused(refusal)), replayed: false }))
            }
            Err(error @ LoadError::Unavailable(_)) => Some(Err(error.into())),
            // A damaged one is the engine's to speak of.
            Ok(_) | Err(LoadError::Corrupt { .. }) => None,
        }
    }

    /// Another flow has answered to what it was told.
    pub(super) fn told(
        &mut self,
        id: EffectId,
        effect: OutboxEffect,
        endpoint: Endpoint,
        answered: Answered,
    ) -> Option<Settlement> {
        let EffectKind::Tell(told) = &effect.effect.kind else { return None };
        let now = self.clock.now();
        let heard = match answered {
            Ok(submitted) => match &*submitted.answer {
                Answer::Event(_) | Answer::Message(_) => {
                    self.count(&endpoint, "delivered");
                    log(&effect, &endpoint, "delivered", "");
                    return Some(settlement(&effect, SettlementResult::Delivered { provider_id: None }));
                }
                Answer::Refused(refusal) => refused(told, refusal.code, &refusal.message),
            },
            Err(error) if error.passes() => later(&effect, &endpoint, &error, now),
            Err(error) => self.not_there(&effect, told, &error),
        };
        match heard {
            Heard::Settled(result) => {
                let passes = matches!(result, SettlementResult::Retry { .. });
                self.count(&endpoint, if passes { "later" } else { "refused" });
                log(&effect, &endpoint, name_of(&result), error_of(&result).unwrap_or_default());
                Some(settlement(&effect, result))
            }
            Heard::Moot(message) => {
                self.count(&endpoint, "refused");
                log(&effect, &endpoint, "delivered", &message);
                Some(settlement(&effect, SettlementResult::Delivered { provider_id: None }))
            }
            Heard::Failed { code, message } => {
                self.count(&endpoint, "refused");
                log(&effect, &endpoint, "dead", &message);
                let fields = [("code", code), ("message", &message)];
                let fields = Fields::from_iter(fields.map(|(key, value)| (key.to_owned(), value.into())));
                let input = result_of(&effect, CallOutcome::Failed(fields), now);
                let then = Some(SettlementResult::Dead { error: message, parts_done: 0 });
                self.under_way.insert(id.clone(), UnderWay { effect, endpoint, then });
                self.submit(id, input);
                None
            }
        }
    }

    /// Whoever is told cannot be found, or not be read.
    fn not_there(&self, effect: &OutboxEffect, told: &Told, error: &EngineError) -> Heard {
        let message = format!("{}: {error}", told.describe());
        let addressee = match told {
            Told::Begin { .. } => None,
            Told::Event { instance, .. } => Some(instance),
            Told::Result { to, .. } => Some(&to.instance),
        };
        // What is there and cannot be decided on was written for a definition that this release does not accept.
        let there = match addressee.map(|id: &InstanceId| self.store.load(&effect.tenant, id)) {
            None | Some(Ok(None)) => false,
            Some(Ok(Some(_)) | Err(LoadError::Corrupt { .. })) => true,
            Some(Err(unavailable)) => {
                return later(effect, &endpoint(), &unavailable.into(), self.clock.now());
            }
        };
        match error {
            EngineError::UnknownMachine { .. } => Heard::Failed { code: NOT_FOUND, message },
            EngineError::NotFound { .. } if !there && is_waited_for(told) => {
                Heard::Failed { code: NOT_FOUND, message }
            }
            _ if is_waited_for(told) => Heard::Failed { code: REFUSED, message },
            EngineError::NotFound { .. } if !there => Heard::Moot(message),
            _ => Heard::Settled(SettlementResult::Dead { error: message, parts_done: 0 }),
        }
    }
}

/// What passes is told again, for as long as it takes: a phase that waits for it would wait for ever.
fn later(effect: &OutboxEffect, endpoint: &Endpoint, error: &EngineError, now: Timestamp) -> Heard {
    let pause = (1..=effect.attempts).rev().find_map(|n| endpoint.schedule.retry(n, &effect.effect.key));
    let at = now.plus(pause.unwrap_or_default());
    Heard::Settled(SettlementResult::Retry { at, error: error.to_string(), parts_done: 0 })
}

fn refused(told: &Told, code: RefusalCode, message: &str) -> Heard {
    let message = format!("{}: {message}", told.describe());
    let is_over = matches!(code, RefusalCode::CallOver | RefusalCode::InstanceClosed);
    match told {
        _ if is_waited_for(told) => Heard::Failed { code: REFUSED, message },
        // Something waited for this result and has not heard it: an operator has to look.
        Told::Result { .. } if !is_over => {
            Heard::Settled(SettlementResult::Dead { error: message, parts_done: 0 })
        }
        _ => Heard::Moot(message),
    }
}
