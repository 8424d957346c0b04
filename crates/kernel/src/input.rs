//! An `Input`: anything that happens to an instance, with the key that makes it happen once.
//!
//! Owns what an input is, which receipt it leaves, and which digest tells its payload from another. It does not
//! know what an input does: that is `decide`.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::conversation::Message;
use crate::flow::ParentCall;
use crate::id::{DefinitionHash, Digest, InputKey, InstanceId, MachineName, Revision, Subject, TenantId};
use crate::time::Timestamp;
use crate::trace::Trace;

/// The key of a context or payload object is its field's name.
pub type Fields = Map<String, Value>;

#[derive(Clone, Debug, PartialEq)]
pub struct Input {
    pub tenant: TenantId,
    pub key: InputKey,
    pub cause: Cause,
    /// Refused unless the instance is at this revision (`If-Match`).
    pub expected: Option<Revision>,
    /// Who is behind the input, as far as the caller says.
    pub by: Option<String>,
    pub trace: Option<Trace>,
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Cause {
    /// Somebody asks for a new instance.
    Create {
        machine: MachineName,
        id: Option<InstanceId>,
        subject: Option<Subject>,
        context: Fields,
        /// What is there when it begins.
        start: Start,
    },
    /// An event for one instance, by name.
    Event { instance: InstanceId, event: String, payload: Fields },
    /// A message of a person, for the router to understand.
    Message { machine: MachineName, subject: Subject, message: Message },
    /// Somebody answers a clarification by the option's id.
    Answer { instance: InstanceId, clarification: String, option: String },
    /// A timer of the instance came due.
    Timer { instance: InstanceId, timer: String, deadline: Timestamp },
    /// What was called from outside answers; `call` is the key of the call's effect.
    Result { instance: InstanceId, call: String, outcome: CallOutcome },
    /// An operator puts the instance back into its safe state.
    Recover { instance: InstanceId, reason: String },
    /// The instance is to go on by another definition of its machine.
    Migrate {
        instance: InstanceId,
        to: DefinitionHash,
        /// What the phases of a flow are called where it is, in their order.
        phases: Vec<Arc<str>>,
    },
    /// That it was brought in from another system is undone, as long as nothing but time has touched it since.
    Withdraw { instance: InstanceId, reason: String },
}

/// What an instance begins with, beside its context.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Start {
    /// From a record with one boolean a phase, by the booleans' names: what is true has been completed elsewhere.
    #[serde(default, skip_serializing_if = "Fields::is_empty")]
    pub booleans: Fields,
    /// The phase of another flow that this one is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<ParentCall>,
    /// Of an instance that comes from another system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub former: Option<Box<Former>>,
}

/// How an instance stood in the system that it comes from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Former {
    /// A state by its dotted path; of one with children, its initial ones. States of several regions have commas between
    /// them.
    pub state: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub began_at: Option<Timestamp>,
    /// When it came to be as it is: delays count from then. `began_at` if absent, else now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed_at: Option<Timestamp>,
    /// When it would be over if nothing more happened, in the place of what the top's `after` makes of that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// Why it ended, if its state is final.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The language of a conversation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locale: Option<String>,
    /// What a conversation is about: the `starts` of the intent that would have begun it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
}

impl Former {
    /// Tells what a record says from what another of the same instance does.
    pub fn digest(&self, context: &Fields) -> Digest {
        let context = serde_json::to_string(context).unwrap_or_default();
        let former = serde_json::to_string(self).unwrap_or_default();
        Digest::of_parts(&[&context, &former])
    }
}

impl Start {
    pub fn is_empty(&self) -> bool {
        self.booleans.is_empty() && self.parent.is_none() && self.former.is_none()
    }
}

/// How a call ended.
#[derive(Clone, Debug, PartialEq)]
pub enum CallOutcome {
    Done(Fields),
    /// With a `code` and a `message`, as far as there are any.
    Failed(Fields),
}

impl CallOutcome {
    pub fn fields(&self) -> &Fields {
        let (Self::Done(fields) | Self::Failed(fields)) = self;
        fields
    }
}

/// Whose order an input belongs to: one instance, or the sessions of one subject, which come one after another.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Target {
    Instance(InstanceId),
    Subject(MachineName, Subject),
}

/// Names the receipt of an input within all tenants: a digest of tenant, scope and key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ReceiptId(pub Digest);

/// Among what a receipt is looked for: nothing else leaves the same one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReceiptScope {
    /// What makes an instance, and is no message.
    Creations,
    /// All that has happened in the sessions of a subject.
    Subject(MachineName, Subject),
    /// All that has happened to an instance; if that is a session, in the subject's others too.
    Instance(InstanceId),
}

impl Input {
    /// The instance or the subject that this input is for. `None` for a creation that leaves the id to us: it
    /// touches nothing that exists.
    pub fn target(&self) -> Option<Target> {
        match &self.cause {
            Cause::Create { id: Some(id), .. } => Some(Target::Instance(id.clone())),
            Cause::Create { id: None, .. } => None,
            Cause::Message { machine, subject, .. } => {
                Some(Target::Subject(machine.clone(), subject.clone()))
            }
            Cause::Event { instance, .. }
            | Cause::Answer { instance, .. }
            | Cause::Timer { instance, .. }
            | Cause::Result { instance, .. }
            | Cause::Recover { instance, .. }
            | Cause::Migrate { instance, .. }
            | Cause::Withdraw { instance, .. } => Some(Target::Instance(instance.clone())),
        }
    }

    /// Where a repeat of this input finds its receipt.
    pub fn receipt_scope(&self) -> ReceiptScope {
        match (&self.cause, self.target()) {
            (Cause::Create { .. }, _) | (_, None) => ReceiptScope::Creations,
            (_, Some(Target::Subject(machine, subject))) => ReceiptScope::Subject(machine, subject),
            (_, Some(Target::Instance(instance))) => ReceiptScope::Instance(instance),
        }
    }

    /// The receipt under which a repeat of this input is found: per subject for messages, per machine for
    /// creations, per instance for everything else.
    pub fn receipt_id(&self) -> ReceiptId {
        let scope = match &self.cause {
            Cause::Create { machine, .. } => ["create", machine.as_str(), ""],
            Cause::Message { machine, subject, .. } => ["subject", machine.as_str(), subject.as_str()],
            // Apart from the callers' own keys: nobody outside can use one up.
            Cause::Timer { instance, .. } => ["timer", instance.as_str(), ""],
            Cause::Migrate { instance, .. } => ["migrate", instance.as_str(), ""],
            Cause::Withdraw { instance, .. } => ["withdraw", instance.as_str(), ""],
            Cause::Event { instance, .. }
            | Cause::Answer { instance, .. }
            | Cause::Result { instance, .. }
            | Cause::Recover { instance, .. } => ["instance", instance.as_str(), ""],
        };
        ReceiptId::of(&self.tenant, scope, &self.key)
    }
}

impl ReceiptId {
    fn of(tenant: &TenantId, [kind, name, subject]: [&str; 3], key: &InputKey) -> Self {
        Self(Digest::of_parts(&[tenant.as_str(), kind, name, subject, key.as_str()]))
    }

    /// That of whoever asked for a new instance under this key.
    pub fn of_creation(tenant: &TenantId, machine: &MachineName, key: &InputKey) -> Self {
        Self::of(tenant, ["create", machine.as_str(), ""], key)
    }
}

impl Cause {
    /// Tells this payload from another under the same key. What advisers add to a message (candidates,
    /// parameters, times) is left out: a redelivered webhook is classified anew and is still the same message.
    pub fn digest(&self) -> Digest {
        let fields = |fields: &Fields| serde_json::to_string(fields).unwrap_or_default();
        match self {
            Cause::Create { machine, id, subject, context, start } => {
                let id = id.as_ref().map_or("", InstanceId::as_str);
                let subject = subject.as_ref().map_or("", Subject::as_str);
                let context = fields(context);
                let parts = ["create", machine.as_str(), id, subject, &context];
                if start.is_empty() {
                    return Digest::of_parts(&parts);
                }
                let start = serde_json::to_string(start).unwrap_or_default();
                Digest::of_parts(&[&parts[..], &[&start]].concat())
            }
            Cause::Event { event, payload, .. } => Digest::of_parts(&["event", event, &fields(payload)]),
            Cause::Message { message, .. } => message.digest(),
            Cause::Answer { clarification, option, .. } => {
                Digest::of_parts(&["answer", clarification, option])
            }
            Cause::Timer { timer, deadline, .. } => {
                Digest::of_parts(&["timer", timer, &deadline.as_millis().to_string()])
            }
            Cause::Result { call, outcome, .. } => {
                let kind = match outcome {
                    CallOutcome::Done(_) => "done",
                    CallOutcome::Failed(_) => "failed",
                };
                Digest::of_parts(&["result", call, kind, &fields(outcome.fields())])
            }
            Cause::Recover { reason, .. } => Digest::of_parts(&["recover", reason]),
            Cause::Withdraw { reason, .. } => Digest::of_parts(&["withdraw", reason]),
            Cause::Migrate { to, phases, .. } => {
                let phases = phases.iter().map(|phase| &**phase);
                Digest::of_parts(&["migrate", to.as_str()].into_iter().chain(phases).collect::<Vec<_>>())
            }
        }
    }
}
