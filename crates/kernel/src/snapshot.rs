//! A `Snapshot`: all that an instance is, between two inputs.
//!
//! Plain data under its public names, so that it reads well in a database and needs no machine to be written or
//! read. The statechart works on indices of these names (`chart`).

mod brought_in;
mod stored;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::conversation::ConversationState;
use crate::definition::TIMER_PREFIX;
use crate::flow::FlowState;
use crate::id::{DefinitionHash, InstanceId, MachineName, Revision, Subject, TenantId};
use crate::input::Fields;
use crate::looping::{Looping, Recent};
use crate::machine::Machine;
use crate::time::Timestamp;

pub use brought_in::BroughtIn;
pub use stored::{SnapshotPlace, StoredSnapshot, StoredWaiting, pointer_to_payload};

/// The layout of a stored snapshot. A store refuses to read a higher one.
pub const SNAPSHOT_FORMAT: u32 = 5;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    pub tenant: TenantId,
    pub instance: InstanceId,
    pub machine: MachineName,
    pub version: u32,
    /// The definition that this instance is pinned to.
    pub definition: DefinitionHash,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Subject>,
    /// Which session of its subject this is, from 1; 0 for an instance that is no session.
    #[serde(default)]
    pub ordinal: u32,
    pub revision: Revision,
    /// The active atomic states by their dotted paths, in document order.
    pub configuration: Vec<Arc<str>>,
    /// What each history state remembers.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub history: BTreeMap<Arc<str>, Vec<Arc<str>>>,
    pub context: Arc<Fields>,
    /// Delayed events with absolute deadlines, in the order in which they were set.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub timers: Vec<Timer>,
    /// Calls that have been made and have not come back. One that was under way when the server stopped is under way
    /// still: its effect is in the outbox, its timeout among the timers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub invocations: Vec<Invocation>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closure: Option<Closure>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conversation: Option<Arc<ConversationState>>,
    /// For a flow, where its phases are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flow: Option<Arc<FlowState>>,
    #[serde(default, skip_serializing_if = "Recent::is_empty")]
    pub recent: Recent,
    /// The loop that the last transition was part of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub looping: Option<Looping>,
    /// No event, no timer and no call leads on from here: only an operator can.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dead_end: bool,
    /// The definition that it began by, if it has been migrated since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub began_by: Option<DefinitionHash>,
    /// Of one that came from another system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub brought_in: Option<BroughtIn>,
}

/// An event that comes by time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Timer {
    pub id: Arc<str>,
    pub deadline: Timestamp,
    /// What comes, if it is not called as the timer is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<Arc<str>>,
    #[serde(default, skip_serializing_if = "Fields::is_empty")]
    pub payload: Fields,
}

/// A call to something outside that has not come back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Invocation {
    pub id: Arc<str>,
    /// What is called.
    pub src: Arc<str>,
    #[serde(default, skip_serializing_if = "Fields::is_empty")]
    pub input: Fields,
    /// The key of its effect, `instance:revision:ordinal`, by which the result says what it is the result of.
    pub key: String,
}

/// Since when what counts as stuck.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StuckBy {
    /// A timer that was due before this should have fired.
    pub overdue_since: Timestamp,
    /// What has no way out by time and has not changed since then may wait for ever.
    pub silent_since: Timestamp,
}

/// Why an instance is where it is and will stay there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stuck {
    /// No event, no timer and no call leads on.
    DeadEnd,
    /// A timer is due and does not fire.
    Overdue,
    /// It waits for somebody, with no way out by time, and nobody comes.
    Silent,
}

impl Stuck {
    pub const ALL: [Self; 3] = [Self::DeadEnd, Self::Overdue, Self::Silent];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::DeadEnd => "dead_end",
            Self::Overdue => "overdue",
            Self::Silent => "silent",
        }
    }

    /// Of an open instance: whether it is at a dead end, when it is due, and when it changed last.
    fn of(dead_end: bool, due: Option<Timestamp>, updated_at: Timestamp, by: StuckBy) -> Option<Self> {
        match due {
            _ if dead_end => Some(Self::DeadEnd),
            Some(due) if due < by.overdue_since => Some(Self::Overdue),
            None if updated_at < by.silent_since => Some(Self::Silent),
            _ => None,
        }
    }
}

/// Whether a path is that of a state, or of one within it.
pub fn is_within(path: &str, state: &str) -> bool {
    path.strip_prefix(state).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

impl Timer {
    pub fn new(id: Arc<str>, deadline: Timestamp) -> Self {
        Self { id, deadline, event: None, payload: Fields::new() }
    }

    /// When a call has taken too long.
    pub fn of_call(call: &str, deadline: Timestamp, event: Arc<str>) -> Self {
        let payload = Fields::from_iter([
            ("code".to_owned(), "timeout".into()),
            ("message".to_owned(), format!("the call `{call}` brought no result in time").into()),
        ]);
        Self { id: Self::id_of_call(call).into(), deadline, event: Some(event), payload }
    }

    /// No other timer is called so: those of states have a delay behind the prefix.
    pub fn id_of_call(call: &str) -> String {
        format!("{TIMER_PREFIX}invoke.{call}")
    }

    pub fn event(&self) -> &Arc<str> {
        self.event.as_ref().unwrap_or(&self.id)
    }
}

/// How and when an instance ended. Present on every closed instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closure {
    /// `completed`, `user_cancelled`, `timeout`, `forced`, `recovered`, or what the definition says.
    pub reason: String,
    pub at: Timestamp,
    /// What the final state says that the instance has come to.
    #[serde(default, skip_serializing_if = "Fields::is_empty")]
    pub output: Fields,
}

impl Snapshot {
    /// An instance that nothing has happened to yet, and that is nowhere.
    pub fn new(
        machine: &Machine,
        tenant: TenantId,
        instance: InstanceId,
        context: Arc<Fields>,
        now: Timestamp,
    ) -> Self {
        Self {
            tenant,
            instance,
            machine: machine.name.clone(),
            version: machine.version,
            definition: machine.hash.clone(),
            subject: None,
            ordinal: 0,
            revision: Revision::NONE,
            configuration: Vec::new(),
            history: BTreeMap::new(),
            context,
            timers: Vec::new(),
            invocations: Vec::new(),
            created_at: now,
            updated_at: now,
            closure: None,
            conversation: None,
            flow: None,
            recent: Recent::default(),
            looping: None,
            dead_end: false,
            began_by: None,
            brought_in: None,
        }
    }

    /// Goes on by another definition. What was counted of the transitions of the former means nothing here.
    pub fn pin(&mut self, machine: &Machine) {
        let former = std::mem::replace(&mut self.definition, machine.hash.clone());
        self.version = machine.version;
        self.began_by.get_or_insert(former);
        (self.recent, self.looping) = (Recent::default(), None);
    }

    /// The state as people say it: the active path, or the active paths of all regions joined by commas.
    pub fn state(&self) -> String {
        self.configuration.join(",")
    }

    /// When this instance next has to be looked at, if nothing else happens.
    pub fn wake_at(&self) -> Option<Timestamp> {
        self.timers.iter().map(|timer| timer.deadline).min()
    }

    /// Of the wanted timers the one that is due first at `now`; among equals the one set first.
    pub fn due_timer(&self, now: Timestamp, wanted: impl Fn(&Timer) -> bool) -> Option<&Timer> {
        let due = self.timers.iter().filter(|t| t.deadline <= now && wanted(t));
        due.min_by_key(|t| t.deadline)
    }

    /// Whether an operator should look at it, and why.
    pub fn stuck(&self, by: StuckBy) -> Option<Stuck> {
        if self.is_closed() {
            return None;
        }
        Stuck::of(self.dead_end, self.wake_at(), self.updated_at, by)
    }

    pub fn is_closed(&self) -> bool {
        self.closure.is_some()
    }
}
