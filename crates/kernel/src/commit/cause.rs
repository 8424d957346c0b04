//! The input behind a log entry: what of it the rest of the entry does not say, and the way back to the whole.
//!
//! So that a session can be told again, and decided on again. It decides nothing: that is `decide`.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::commit::Entry;
use crate::id::DefinitionHash;
use crate::input::{CallOutcome, Cause, Fields, Input, Start};
use crate::snapshot::Snapshot;
use crate::time::Timestamp;
use crate::trace::{SpanId, Trace};

/// What of an input its entry does not say elsewhere. A message is in the entry as it came, an event is its name and its
/// payload, a creation's payload is the context that it gave, and a recovery's reason is the entry's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EntryCause {
    /// An option was chosen by its id.
    Answer { clarification: String, option: String },
    /// A timer came due.
    Timer { id: String, deadline: Timestamp },
    /// A call came to what is in the payload; this is the key of its effect.
    Result { call: String },
    /// A creation with more to begin with than a context.
    Begun(Start),
    /// A creation of what was there already, in the place of all that it was.
    Again {
        start: Start,
        /// By which definition, if that is another than before.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        definition: Option<DefinitionHash>,
    },
    /// Only of a recovery that was refused: the entry's reason then is the refusal's.
    Recover { reason: String },
    /// From here on by another definition. For a flow, what its phases were called before.
    Migrate {
        to: DefinitionHash,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        phases: Vec<Arc<str>>,
    },
    /// That it was brought in is undone.
    Withdraw { reason: String },
}

impl EntryCause {
    /// Of an input that changed its instance.
    pub(crate) fn of_taken(cause: &Cause) -> Option<Self> {
        Self::of_refused(cause).filter(|cause| !matches!(cause, Self::Recover { .. }))
    }

    /// What an entry keeps as its payload.
    pub(crate) fn payload_of(cause: &Cause) -> Fields {
        match cause {
            Cause::Event { payload, .. } => payload.clone(),
            Cause::Create { context, .. } => context.clone(),
            Cause::Result { outcome, .. } => outcome.fields().clone(),
            Cause::Answer { .. }
            | Cause::Timer { .. }
            | Cause::Recover { .. }
            | Cause::Migrate { .. }
            | Cause::Withdraw { .. }
            | Cause::Message { .. } => Fields::new(),
        }
    }

    pub(crate) fn of_refused(cause: &Cause) -> Option<Self> {
        match cause {
            Cause::Answer { clarification, option, .. } => {
                Some(Self::Answer { clarification: clarification.clone(), option: option.clone() })
            }
            Cause::Timer { timer, deadline, .. } => {
                Some(Self::Timer { id: timer.clone(), deadline: *deadline })
            }
            Cause::Result { call, .. } => Some(Self::Result { call: call.clone() }),
            Cause::Recover { reason, .. } => Some(Self::Recover { reason: reason.clone() }),
            Cause::Migrate { to, phases, .. } => {
                Some(Self::Migrate { to: to.clone(), phases: phases.clone() })
            }
            Cause::Withdraw { reason, .. } => Some(Self::Withdraw { reason: reason.clone() }),
            Cause::Create { start, .. } if !start.is_empty() => Some(Self::Begun(start.clone())),
            Cause::Create { .. } | Cause::Event { .. } | Cause::Message { .. } => None,
        }
    }
}

impl Entry {
    /// The input that left this entry in the log of the instance `of`, at whatever revision that is. `None` when the
    /// entry does not hold all of it, as those of older releases may not: the digest says whether it does.
    pub fn input(&self, of: &Snapshot) -> Option<Input> {
        let cause = self.causes(of).into_iter().find(|cause| cause.digest() == self.digest)?;
        Some(Input {
            tenant: of.tenant.clone(),
            key: self.key.clone(),
            cause,
            // Whatever revision was asked for, it was the right one.
            expected: None,
            by: self.by.clone(),
            trace: self
                .trace_id
                .as_deref()
                .and_then(|id| Trace::recorded(id, self.unsampled, SpanId::default())),
        })
    }

    /// What it may have been, as far as its shape tells.
    fn causes(&self, of: &Snapshot) -> Vec<Cause> {
        let instance = of.instance.clone();
        let recover = |reason: &str| Cause::Recover { instance: of.instance.clone(), reason: reason.into() };
        let create = |id, start: &Start| Cause::Create {
            machine: of.machine.clone(),
            id,
            subject: of.subject.clone(),
            context: self.payload.clone(),
            start: start.clone(),
        };
        match (&self.cause, &self.message, &of.subject) {
            (Some(EntryCause::Answer { clarification, option }), ..) => {
                let (clarification, option) = (clarification.clone(), option.clone());
                vec![Cause::Answer { instance, clarification, option }]
            }
            (Some(EntryCause::Timer { id, deadline }), ..) => {
                vec![Cause::Timer { instance, timer: id.clone(), deadline: *deadline }]
            }
            (Some(EntryCause::Result { call }), ..) => {
                let result =
                    |outcome| Cause::Result { instance: instance.clone(), call: call.clone(), outcome };
                let fields = || self.payload.clone();
                vec![result(CallOutcome::Done(fields())), result(CallOutcome::Failed(fields()))]
            }
            (Some(EntryCause::Recover { reason }), ..) => vec![recover(reason)],
            (Some(EntryCause::Migrate { to, phases }), ..) => {
                vec![Cause::Migrate { instance, to: to.clone(), phases: phases.clone() }]
            }
            (Some(EntryCause::Withdraw { reason }), ..) => {
                vec![Cause::Withdraw { instance, reason: reason.clone() }]
            }
            (Some(EntryCause::Again { start, .. }), ..) => vec![create(Some(instance), start)],
            (Some(EntryCause::Begun(start)), ..) => vec![create(None, start), create(Some(instance), start)],
            (None, Some(message), Some(subject)) => {
                let (machine, subject) = (of.machine.clone(), subject.clone());
                vec![Cause::Message { machine, subject, message: message.clone() }]
            }
            (None, Some(_), None) => Vec::new(),
            (None, None, _) => {
                let nothing = Start::default();
                let event = self.event.clone();
                let event = Cause::Event { instance: instance.clone(), event, payload: self.payload.clone() };
                match self.event.as_str() {
                    "create" => vec![event, create(None, &nothing), create(Some(instance), &nothing)],
                    "recover" => vec![event, recover(self.reason.as_deref().unwrap_or_default())],
                    _ => vec![event],
                }
            }
        }
    }
}
