//! Writing a snapshot's body: borrowed from the snapshot, and left out what restoring it finds elsewhere.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use serde::ser::{SerializeSeq, Serializer};

use crate::conversation::offer::Offer;
use crate::conversation::{
    Address, Clarification, ClarificationOption, ClarificationStatus, ConversationState, Media, Message,
};
use crate::flow::{FlowState, ParentCall, Pause, Records};
use crate::id::{DefinitionHash, InstanceId, MachineName, Revision, Subject, TenantId};
use crate::input::Fields;
use crate::looping::{Looping, Recent};
use crate::snapshot::{BroughtIn, Closure, Invocation, Snapshot, Timer};
use crate::time::Timestamp;

/// Whatever a snapshot and its parts have is taken apart in full, so that nothing that is added to them is forgotten here.
#[derive(Serialize)]
pub(super) struct Body<'s> {
    /// Left out when it is the one state that the store has beside the body.
    #[serde(skip_serializing_if = "Option::is_none")]
    configuration: Option<&'s [Arc<str>]>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    history: &'s BTreeMap<Arc<str>, Vec<Arc<str>>>,
    context: &'s Fields,
    #[serde(skip_serializing_if = "Due::is_empty")]
    due: Due<'s>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    invocations: Vec<Call<'s>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    closure: Option<Ended<'s>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    conversation: Option<Talk<'s>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    flow: Option<Phases<'s>>,
    #[serde(skip_serializing_if = "Taken::is_empty")]
    taken: Taken<'s>,
    #[serde(skip_serializing_if = "Option::is_none")]
    looping: Option<&'s Looping>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    dead_end: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    began_by: Option<&'s DefinitionHash>,
    #[serde(skip_serializing_if = "Option::is_none")]
    brought_in: Option<&'s BroughtIn>,
}

impl<'s> Body<'s> {
    pub fn of(snapshot: &'s Snapshot) -> Self {
        let Snapshot {
            tenant: _,
            instance,
            machine: _,
            version: _,
            definition: _,
            subject: _,
            ordinal: _,
            revision: _,
            configuration,
            history,
            context,
            timers,
            invocations,
            created_at,
            updated_at,
            closure,
            conversation,
            flow,
            recent,
            looping,
            dead_end,
            began_by,
            brought_in,
        } = snapshot;
        Self {
            configuration: (configuration.len() != 1).then_some(configuration),
            history,
            context,
            due: Due { timers, now: *updated_at },
            invocations: invocations.iter().map(|call| Call::of(call, instance)).collect(),
            closure: closure.as_ref().map(Ended::of),
            conversation: conversation.as_ref().map(|conversation| Talk::of(conversation, snapshot)),
            flow: flow.as_ref().map(|flow| Phases::of(flow, *created_at)),
            taken: Taken { recent, now: *updated_at },
            looping: looping.as_ref(),
            dead_end: *dead_end,
            began_by: began_by.as_ref(),
            brought_in: brought_in.as_ref(),
        }
    }
}

fn unless_eq<T: PartialEq>(value: T, elsewhere: T) -> Option<T> {
    (value != elsewhere).then_some(value)
}

/// Timers by their ids and the milliseconds from the last change to their deadlines.
struct Due<'s> {
    timers: &'s [Timer],
    now: Timestamp,
}

impl Due<'_> {
    fn is_empty(&self) -> bool {
        self.timers.is_empty()
    }
}

impl Serialize for Due<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let now = self.now.as_millis();
        let mut list = serializer.serialize_seq(Some(self.timers.len()))?;
        for Timer { id, deadline, event, payload } in self.timers {
            let left = deadline.as_millis() - now;
            match (event, payload.is_empty()) {
                (None, true) => list.serialize_element(&(id, left))?,
                (Some(event), true) => list.serialize_element(&(id, left, event))?,
                (event, false) => list.serialize_element(&(id, left, event, payload))?,
            }
        }
        list.end()
    }
}

#[derive(Serialize)]
struct Call<'s> {
    id: &'s str,
    src: &'s str,
    #[serde(skip_serializing_if = "Fields::is_empty")]
    input: &'s Fields,
    /// What is behind the instance in its key.
    #[serde(skip_serializing_if = "Option::is_none")]
    made: Option<&'s str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'s str>,
}

impl<'s> Call<'s> {
    fn of(call: &'s Invocation, instance: &InstanceId) -> Self {
        let Invocation { id, src, input, key } = call;
        let made = key.strip_prefix(instance.as_str()).and_then(|rest| rest.strip_prefix(':'));
        Self { id, src, input, made, key: made.is_none().then_some(key) }
    }
}

/// A closure but for its reason.
#[derive(Serialize)]
struct Ended<'s> {
    at: Timestamp,
    #[serde(skip_serializing_if = "Fields::is_empty")]
    output: &'s Fields,
}

impl<'s> Ended<'s> {
    fn of(closure: &'s Closure) -> Self {
        let Closure { reason: _, at, output } = closure;
        Self { at: *at, output }
    }
}

#[derive(Serialize)]
struct Talk<'s> {
    #[serde(skip_serializing_if = "Option::is_none")]
    reached: Option<Reached<'s>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    locale: Option<&'s str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    topic: Option<&'s str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pending: Option<Question<'s>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failures: Option<u32>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    handed_over: bool,
    /// How many revisions ago the buttons were shown that still count; left out when none ever were.
    #[serde(skip_serializing_if = "Option::is_none")]
    shown: Option<i64>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    prompt: &'s [Offer],
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt_reply: Option<&'s str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    held_media: &'s [Media],
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    drafts: &'s BTreeMap<String, Fields>,
}

impl<'s> Talk<'s> {
    fn of(conversation: &'s ConversationState, snapshot: &'s Snapshot) -> Self {
        let ConversationState {
            address,
            locale,
            topic,
            pending,
            failures,
            handed_over,
            prompt_revision,
            prompt,
            prompt_reply,
            held_media,
            drafts,
        } = conversation;
        let subject = snapshot.subject.as_ref();
        let ago = snapshot.revision.0.wrapping_sub(prompt_revision.0).cast_signed();
        Self {
            reached: address.as_ref().map(|address| Reached { address, subject }),
            locale: locale.as_deref(),
            topic: topic.as_deref(),
            pending: pending.as_ref().map(|question| Question::of(question, snapshot)),
            failures: unless_eq(*failures, 0),
            handed_over: *handed_over,
            shown: (*prompt_revision != Revision::NONE).then_some(ago),
            prompt,
            prompt_reply: prompt_reply.as_deref(),
            held_media,
            drafts,
        }
    }
}

/// An address as a list. Its user is left out when the subject is its parts with colons between.
struct Reached<'s> {
    address: &'s Address,
    subject: Option<&'s Subject>,
}

impl Serialize for Reached<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Address { channel, account, user } = self.address;
        let of_subject = self.subject.and_then(|subject| super::read::user_of(subject, channel, account));
        match of_subject == Some(user.as_str()) {
            true => (channel, account).serialize(serializer),
            false => (channel, account, user).serialize(serializer),
        }
    }
}

/// A question that waits; left out is what its session says, and what is so of any that was just asked.
#[derive(Serialize)]
struct Question<'s> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'s str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant: Option<&'s TenantId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    instance: Option<&'s InstanceId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    machine: Option<&'s MachineName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<&'s Subject>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<ClarificationStatus>,
    question: &'s str,
    options: &'s [ClarificationOption],
    original: &'s Message,
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<Revision>,
    #[serde(skip_serializing_if = "Option::is_none")]
    created_at: Option<Timestamp>,
    expires_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    attempts: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resolved_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    answer: Option<&'s str>,
}

impl<'s> Question<'s> {
    fn of(question: &'s Clarification, session: &'s Snapshot) -> Self {
        let Clarification {
            id,
            tenant,
            instance,
            machine,
            subject,
            status,
            question,
            options,
            original,
            revision,
            created_at,
            expires_at,
            attempts,
            resolved_at,
            answer,
        } = question;
        let is_usual = *id == super::read::question_id(&session.instance, *revision);
        Self {
            id: (!is_usual).then_some(id),
            tenant: unless_eq(tenant, &session.tenant),
            instance: unless_eq(instance, &session.instance),
            machine: unless_eq(machine, &session.machine),
            subject: (session.subject.as_ref() != Some(subject)).then_some(subject),
            status: unless_eq(*status, ClarificationStatus::Pending),
            question,
            options,
            original,
            revision: unless_eq(*revision, session.revision),
            created_at: unless_eq(*created_at, session.updated_at),
            expires_at: *expires_at,
            attempts: unless_eq(*attempts, 0),
            resolved_at: *resolved_at,
            answer: answer.as_deref(),
        }
    }
}

#[derive(Serialize)]
struct Phases<'s> {
    /// Left out when it is when the instance was created.
    #[serde(skip_serializing_if = "Option::is_none")]
    began_at: Option<Timestamp>,
    phases: &'s Records,
    #[serde(skip_serializing_if = "Option::is_none")]
    paused: Option<&'s Pause>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    cancelled: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent: Option<&'s ParentCall>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    watchers: &'s [ParentCall],
}

impl<'s> Phases<'s> {
    fn of(flow: &'s FlowState, created_at: Timestamp) -> Self {
        let FlowState { began_at, phases, paused, cancelled, parent, watchers } = flow;
        Self {
            began_at: unless_eq(*began_at, created_at),
            phases,
            paused: paused.as_ref(),
            cancelled: *cancelled,
            parent: parent.as_ref(),
            watchers,
        }
    }
}

/// The last transitions, each with the milliseconds from it to the last change, one number behind the other.
struct Taken<'s> {
    recent: &'s Recent,
    now: Timestamp,
}

impl Taken<'_> {
    fn is_empty(&self) -> bool {
        self.recent.is_empty()
    }
}

impl Serialize for Taken<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let now = self.now.as_millis();
        let moments = self.recent.iter();
        serializer
            .collect_seq(moments.flat_map(|(transition, at)| [i64::from(transition.0), now.wrapping_sub(at)]))
    }
}
