//! Reading a snapshot's body, as it is written today and as it was when all was written whole.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::SnapshotPlace;
use crate::chart::TransitionIndex;
use crate::conversation::offer::Offer;
use crate::conversation::{
    Address, Clarification, ClarificationOption, ClarificationStatus, ConversationState, Media, Message,
};
use crate::flow::{FlowState, ParentCall, Pause, Records};
use crate::id::{DefinitionHash, InstanceId, MachineName, Revision, Subject, TenantId};
use crate::input::Fields;
use crate::looping::{Looping, Recent};
use crate::snapshot::{BroughtIn, Closure, Invocation, Snapshot, Stuck, StuckBy, Timer};
use crate::time::Timestamp;

/// The body of a snapshot, until what is beside it is known.
#[derive(Debug, Deserialize)]
pub struct StoredSnapshot {
    #[serde(default)]
    configuration: Option<Vec<Arc<str>>>,
    #[serde(default)]
    history: BTreeMap<Arc<str>, Vec<Arc<str>>>,
    context: Arc<Fields>,
    #[serde(default)]
    timers: Vec<Timer>,
    #[serde(default)]
    due: Vec<Due>,
    #[serde(default)]
    invocations: Vec<Call>,
    #[serde(default)]
    closure: Option<Ended>,
    #[serde(default)]
    conversation: Option<Talk>,
    #[serde(default)]
    flow: Option<Phases>,
    #[serde(default)]
    recent: Recent,
    #[serde(default)]
    taken: Vec<i64>,
    #[serde(default)]
    looping: Option<Looping>,
    #[serde(default)]
    dead_end: bool,
    #[serde(default)]
    began_by: Option<DefinitionHash>,
    #[serde(default)]
    brought_in: Option<BroughtIn>,
}

/// A timer: its id, the milliseconds from the last change to its deadline, and what comes.
#[derive(Debug, Deserialize)]
struct Due(Arc<str>, i64, #[serde(default)] Option<Arc<str>>, #[serde(default)] Fields);

#[derive(Debug, Deserialize)]
struct Call {
    id: Arc<str>,
    src: Arc<str>,
    #[serde(default)]
    input: Fields,
    #[serde(default)]
    made: Option<String>,
    #[serde(default)]
    key: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Ended {
    at: Timestamp,
    #[serde(default)]
    output: Fields,
}

#[derive(Debug, Deserialize)]
struct Talk {
    #[serde(default)]
    address: Option<Arc<Address>>,
    #[serde(default)]
    reached: Option<Reached>,
    #[serde(default)]
    locale: Option<String>,
    #[serde(default)]
    topic: Option<String>,
    #[serde(default)]
    pending: Option<Question>,
    #[serde(default)]
    failures: u32,
    #[serde(default)]
    handed_over: bool,
    #[serde(default)]
    prompt_revision: Revision,
    #[serde(default)]
    shown: Option<i64>,
    #[serde(default)]
    prompt: Vec<Offer>,
    #[serde(default)]
    prompt_reply: Option<String>,
    #[serde(default)]
    held_media: Vec<Media>,
    #[serde(default)]
    drafts: BTreeMap<String, Fields>,
}

#[derive(Debug, Deserialize)]
struct Reached(String, String, #[serde(default)] Option<String>);

#[derive(Debug, Deserialize)]
struct Question {
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    tenant: Option<TenantId>,
    #[serde(default)]
    instance: Option<InstanceId>,
    #[serde(default)]
    machine: Option<MachineName>,
    #[serde(default)]
    subject: Option<Subject>,
    #[serde(default)]
    status: Option<ClarificationStatus>,
    question: String,
    options: Vec<ClarificationOption>,
    original: Message,
    #[serde(default)]
    revision: Option<Revision>,
    #[serde(default)]
    created_at: Option<Timestamp>,
    expires_at: Timestamp,
    #[serde(default)]
    attempts: u32,
    #[serde(default)]
    resolved_at: Option<Timestamp>,
    #[serde(default)]
    answer: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Phases {
    #[serde(default)]
    began_at: Option<Timestamp>,
    phases: Records,
    #[serde(default)]
    paused: Option<Pause>,
    #[serde(default)]
    cancelled: bool,
    #[serde(default)]
    parent: Option<ParentCall>,
    #[serde(default)]
    watchers: Vec<ParentCall>,
}

impl StoredSnapshot {
    /// The whole snapshot.
    ///
    /// # Errors
    /// A fragment, when the body lacks what is nowhere else, or does not fit what is beside it.
    pub fn restore(self, place: SnapshotPlace) -> Result<Snapshot, String> {
        let closure = match (self.closure, &place.closure_reason) {
            (None, None) => None,
            (Some(Ended { at, output }), Some(reason)) => {
                Some(Closure { reason: reason.clone(), at, output })
            }
            _ => return Err("whether it is closed is not what is said beside it".to_owned()),
        };
        let mut timers = self.timers;
        timers.extend(self.due.into_iter().map(|due| due.restore(place.updated_at)));
        let calls = self.invocations.into_iter().map(|call| call.restore(&place.instance));
        let conversation = self.conversation.map(|talk| talk.restore(&place)).transpose()?;
        Ok(Snapshot {
            configuration: self.configuration.unwrap_or_else(|| vec![place.state]),
            history: self.history,
            context: self.context,
            timers,
            invocations: calls.collect::<Result<_, _>>()?,
            closure,
            conversation: conversation.map(Arc::new),
            flow: self.flow.map(|flow| Arc::new(flow.restore(place.created_at))),
            recent: match self.taken.is_empty() {
                true => self.recent,
                false => recent(&self.taken, place.updated_at)?,
            },
            looping: self.looping,
            dead_end: self.dead_end,
            began_by: self.began_by,
            brought_in: self.brought_in,
            tenant: place.tenant,
            instance: place.instance,
            machine: place.machine,
            version: place.version,
            definition: place.definition,
            subject: place.subject,
            ordinal: place.ordinal,
            revision: place.revision,
            created_at: place.created_at,
            updated_at: place.updated_at,
        })
    }
}

fn deadline(left: i64, updated_at: Timestamp) -> Timestamp {
    Timestamp::from_millis(updated_at.as_millis().saturating_add(left))
}

impl Due {
    fn restore(self, updated_at: Timestamp) -> Timer {
        let Self(id, left, event, payload) = self;
        Timer { id, deadline: deadline(left, updated_at), event, payload }
    }
}

impl Call {
    fn restore(self, instance: &InstanceId) -> Result<Invocation, String> {
        let Self { id, src, input, made, key } = self;
        let made = made.map(|made| format!("{instance}:{made}"));
        let key = made.or(key).ok_or_else(|| format!("the call `{id}` lacks its key"))?;
        Ok(Invocation { id, src, input, key })
    }
}

impl Talk {
    fn restore(self, place: &SnapshotPlace) -> Result<ConversationState, String> {
        let reached = self.reached.map(|reached| reached.restore(place.subject.as_ref())).transpose()?;
        let shown = self.shown.map(|ago| Revision(place.revision.0.wrapping_sub(ago.cast_unsigned())));
        Ok(ConversationState {
            address: reached.map(Arc::new).or(self.address),
            locale: self.locale,
            topic: self.topic,
            pending: self.pending.map(|question| question.restore(place)).transpose()?,
            failures: self.failures,
            handed_over: self.handed_over,
            prompt_revision: shown.unwrap_or(self.prompt_revision),
            prompt: self.prompt,
            prompt_reply: self.prompt_reply,
            held_media: self.held_media,
            drafts: self.drafts,
        })
    }
}

/// The rest of a subject that begins with a channel and an account, each with a colon behind.
pub(super) fn user_of<'s>(subject: &'s Subject, channel: &str, account: &str) -> Option<&'s str> {
    let rest = subject.as_str().strip_prefix(channel)?.strip_prefix(':')?;
    rest.strip_prefix(account)?.strip_prefix(':')
}

impl Reached {
    fn restore(self, subject: Option<&Subject>) -> Result<Address, String> {
        let Self(channel, account, user) = self;
        let of_subject =
            || subject.and_then(|subject| user_of(subject, &channel, &account)).map(str::to_owned);
        let user = user.or_else(of_subject).ok_or_else(|| "its address lacks the user".to_owned())?;
        Ok(Address { channel, account, user })
    }
}

pub(super) fn question_id(instance: &InstanceId, revision: Revision) -> String {
    format!("{instance}:{revision}")
}

impl Question {
    fn restore(self, place: &SnapshotPlace) -> Result<Clarification, String> {
        let revision = self.revision.unwrap_or(place.revision);
        let subject = self.subject.or_else(|| place.subject.clone());
        Ok(Clarification {
            id: self.id.unwrap_or_else(|| question_id(&place.instance, revision)),
            tenant: self.tenant.unwrap_or_else(|| place.tenant.clone()),
            instance: self.instance.unwrap_or_else(|| place.instance.clone()),
            machine: self.machine.unwrap_or_else(|| place.machine.clone()),
            subject: subject.ok_or_else(|| "its question lacks a subject".to_owned())?,
            status: self.status.unwrap_or(ClarificationStatus::Pending),
            question: self.question,
            options: self.options,
            original: self.original,
            revision,
            created_at: self.created_at.unwrap_or(place.updated_at),
            expires_at: self.expires_at,
            attempts: self.attempts,
            resolved_at: self.resolved_at,
            answer: self.answer,
        })
    }
}

impl Phases {
    fn restore(self, created_at: Timestamp) -> FlowState {
        let Self { began_at, phases, paused, cancelled, parent, watchers } = self;
        let began_at = began_at.unwrap_or(created_at);
        FlowState { began_at, phases, paused, cancelled, parent, watchers }
    }
}

fn recent(taken: &[i64], updated_at: Timestamp) -> Result<Recent, String> {
    let (moments, rest) = taken.as_chunks();
    if !rest.is_empty() {
        return Err("a transition that was taken lacks its time".to_owned());
    }
    let moment = |[transition, ago]: &[i64; 2]| {
        let number = u16::try_from(*transition).map_err(|_| format!("`{transition}` is no transition"))?;
        Ok((TransitionIndex(number), updated_at.as_millis().wrapping_sub(*ago)))
    };
    moments.iter().map(moment).collect()
}

/// What of a body says when its instance next has to be looked at, and whether it is stuck. None of it is ever sealed.
#[derive(Debug, Deserialize)]
pub struct StoredWaiting {
    #[serde(default)]
    timers: Vec<Deadline>,
    #[serde(default)]
    due: Vec<DueOnly>,
    #[serde(default)]
    closure: Option<IgnoredAny>,
    #[serde(default)]
    dead_end: bool,
}

#[derive(Debug, Deserialize)]
struct Deadline {
    deadline: Timestamp,
}

#[derive(Debug, Deserialize)]
struct DueOnly(IgnoredAny, i64, #[serde(default)] IgnoredAny, #[serde(default)] IgnoredAny);

impl StoredWaiting {
    /// The deadline of the timer that is due first, unless the instance is closed.
    pub fn due_at(&self, updated_at: Timestamp) -> Option<Timestamp> {
        if self.closure.is_some() {
            return None;
        }
        let whole = self.timers.iter().map(|timer| timer.deadline);
        whole.chain(self.due.iter().map(|due| deadline(due.1, updated_at))).min()
    }

    /// As `Snapshot::stuck` says it.
    pub fn stuck(&self, updated_at: Timestamp, by: StuckBy) -> Option<Stuck> {
        if self.closure.is_some() {
            return None;
        }
        Stuck::of(self.dead_end, self.due_at(updated_at), updated_at, by)
    }
}
