//! A `Commit`: every change that one input makes, saved whole or not at all.
//!
//! The log entry is history and receipt in one: who repeats an input's key finds in it the answer that the first
//! got. Owns shapes only; a commit is made by `decide` and saved by a store.

mod cause;
mod stored;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::chart::TransitionIndex;
use crate::conversation::{
    Address, Clarification, Message, MessageOutcome, Reply, Why, clarification::ClarificationView,
};
use crate::flow::{ParentCall, PhaseError, PhaseState};
use crate::id::{Digest, InputKey, InstanceId, MachineName, Revision, TenantId};
use crate::input::{Fields, ReceiptId};
use crate::refusal::Refusal;
use crate::snapshot::Snapshot;
use crate::time::Timestamp;
use crate::trace::{SpanId, Trace};

pub use cause::EntryCause;
pub use stored::{EntryPlace, StoredEntry};

#[derive(Clone, Debug, PartialEq)]
pub struct Commit {
    pub tenant: TenantId,
    pub instance: InstanceId,
    /// The revision that was decided on; the store saves nothing if the instance has moved on.
    pub expected: Revision,
    /// The instance as it is from now on, at revision `expected + 1`. `None` for a refused input: then nothing
    /// changes but the log.
    pub after: Option<Snapshot>,
    pub entry: Entry,
    /// Questions that were asked, or whose status changed.
    pub clarifications: Vec<Clarification>,
    /// What has to be delivered to somebody who is not waiting for the answer.
    pub effects: Vec<Effect>,
    /// Phases of a flow as lists show them from now on: those for which that has changed.
    pub phases: Vec<PhaseRow>,
    /// The fields of the context that are secret, in order: of these, and of what may hold copies of them, a store
    /// writes nothing that can be read without a key.
    pub secrets: Arc<[Arc<str>]>,
}

/// A phase as lists and workers find it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PhaseRow {
    pub phase: Arc<str>,
    /// Its place in the flow, from 0.
    pub place: u16,
    pub state: PhaseState,
    /// When it came into the state.
    pub since: Timestamp,
    /// Attempts since it was last begun afresh, and how often it was tried again in all.
    pub attempts: u32,
    pub retries: u32,
    /// The code of its last error, while that is what it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// From when on a worker may take it; `None` while none may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offered_at: Option<Timestamp>,
    /// The kind of worker that it is for; empty for any.
    #[serde(default, skip_serializing_if = "str::is_empty")]
    pub kind: Arc<str>,
    /// The lease under which a worker has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<String>,
}

/// One line of the log: what one input did to one instance. A store keeps it as `stored` has it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Entry {
    /// The revision that the instance has afterwards.
    pub revision: Revision,
    pub at: Timestamp,
    pub receipt: ReceiptId,
    pub key: InputKey,
    pub digest: Digest,
    /// The event that was taken or refused; for a message without one, what became of it.
    pub event: String,
    pub from: String,
    pub to: String,
    pub success: bool,
    /// The transitions that were taken, in order, by their place in the definition that the instance is pinned to.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub transitions: Vec<TransitionIndex>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// How often the transition was taken since the loop began that this one is part of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub looping: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<String>,
    /// Nobody records the trace.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unsampled: bool,
    /// The message with all that recognisers said of it, so that a replay need not ask them again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<Message>,
    /// What came with the event; of a creation, the context that was given.
    #[serde(skip_serializing_if = "Fields::is_empty")]
    pub payload: Fields,
    /// What the input was beyond all that; `input` gives it back whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<EntryCause>,
    pub answer: Answer,
}

/// What the sender of an input is told, now and at every repeat.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    Message(MessageAnswer),
    Event(EventAnswer),
    Refused(Refusal),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MessageAnswer {
    pub session_id: InstanceId,
    pub revision: Revision,
    pub outcome: MessageOutcome,
    pub state: String,
    pub reply: Vec<Reply>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transition: Option<Transition>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clarification: Option<ClarificationView>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closure_reason: Option<String>,
    /// The calls that the message has led to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub effects: Vec<Effect>,
    /// Why the state did not take what was understood, for the outcome `refused`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<Box<Refusal>>,
    pub why: Why,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EventAnswer {
    pub id: InstanceId,
    pub revision: Revision,
    pub state: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transition: Option<Transition>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closure_reason: Option<String>,
    pub reply: Vec<Reply>,
    pub effects: Vec<Effect>,
    /// What a recovery replaced: the former state and the fields that were not kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaced: Option<Replaced>,
    /// For a flow, what became of its phases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flow: Option<Box<FlowAnswer>>,
}

/// What an input did to the phases of a flow.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FlowAnswer {
    /// How much of the flow was done before and is done now, from 0 to 1.
    pub progress_before: f64,
    pub progress: f64,
    /// Step by step, in order.
    pub moved: Vec<PhaseMove>,
    /// What a worker has been given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<LeaseGiven>,
}

/// One step of one phase.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PhaseMove {
    pub phase: Arc<str>,
    pub from: PhaseState,
    pub to: PhaseState,
    /// How long it was in `from`.
    pub lasted_ms: i64,
    /// Which attempt it is or was.
    pub attempt: u32,
    /// The error that led to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<PhaseError>,
}

/// A lease that was given or prolonged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LeaseGiven {
    pub phase: Arc<str>,
    pub lease: String,
    pub expires_at: Timestamp,
    pub attempt: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transition {
    pub from: String,
    pub to: String,
    pub event: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Replaced {
    pub state: String,
    pub context: Fields,
    pub kept: Vec<String>,
}

/// A row of the outbox, delivered at least once under `key`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Effect {
    /// `instance:revision:ordinal`, stable over every repeat.
    pub key: String,
    /// For a reply, where its reader is reached. `None` leaves it to the server's settings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Arc<Address>>,
    /// The trace of the input that led to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<String>,
    /// Nobody records the trace.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unsampled: bool,
    /// For a reply, the language that it is in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locale: Option<String>,
    pub kind: EffectKind,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EffectKind {
    /// Something to read for the subject of the instance.
    Reply(Reply),
    /// Something outside is called; its result comes back as an input that names the effect's key.
    Call { id: String, src: String, input: Fields },
    /// What a commit did, for those who asked to be told.
    Notice(Notice),
    /// Another flow of the same tenant is begun, or told something.
    Tell(Told),
}

/// What one flow tells another. Whoever is told takes it as an input under the effect's key, once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Told {
    Begin {
        flow: MachineName,
        id: InstanceId,
        context: Fields,
        parent: ParentCall,
    },
    Event {
        instance: InstanceId,
        event: String,
        payload: Fields,
    },
    /// What the call of a phase came to.
    Result {
        to: ParentCall,
        done: bool,
        fields: Fields,
    },
}

/// What a commit did to an instance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Notice {
    pub revision: Revision,
    pub event: String,
    pub from: String,
    pub to: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closure_reason: Option<String>,
    /// For a flow, what became of its phases.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub moved: Vec<PhaseMove>,
}

impl Commit {
    /// Whether its receipt is that of a creation (`ReceiptScope::Creations`). A message begins sessions too, and leaves
    /// its receipt with its subject.
    pub fn is_creation(&self) -> bool {
        self.entry.is_again() || (self.expected == Revision(0) && self.entry.message.is_none())
    }
}

impl Entry {
    /// Whether it is the entry of an instance that was there already, and was brought in from another system again.
    pub fn is_again(&self) -> bool {
        matches!(self.cause, Some(EntryCause::Again { .. }))
    }
}

impl Told {
    /// In a few words, for lists.
    pub fn describe(&self) -> String {
        match self {
            Self::Begin { flow, id, .. } => format!("begin the flow `{flow}` as `{id}`"),
            Self::Event { instance, event, .. } => format!("`{event}` to `{instance}`"),
            Self::Result { to, done, .. } => {
                let what = if *done { "done" } else { "failed" };
                format!("{what} to `{}`", to.instance)
            }
        }
    }
}

impl Effect {
    pub fn new(instance: &InstanceId, revision: Revision, ordinal: usize, kind: EffectKind) -> Self {
        let key = format!("{instance}:{revision}:{ordinal}");
        Self { key, to: None, trace_id: None, unsampled: false, locale: None, kind }
    }

    /// As part of the trace of the input that leads to it.
    pub fn traced(self, trace: Option<&Trace>) -> Self {
        let (trace_id, unsampled) = recorded(trace);
        Self { trace_id, unsampled, ..self }
    }

    /// The trace that it is part of, from the span of its commit on.
    pub fn trace(&self, tenant: &TenantId) -> Option<Trace> {
        let (revision, _) = self.key.rsplit_once(':')?;
        Trace::recorded(self.trace_id.as_deref()?, self.unsampled, SpanId::of_commit(tenant, revision))
    }
}

/// What is kept of a trace: its id, and whether nobody records it.
pub(crate) fn recorded(trace: Option<&Trace>) -> (Option<String>, bool) {
    (trace.map(|trace| trace.id.clone()), trace.is_some_and(|trace| !trace.sampled))
}
