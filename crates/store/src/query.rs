//! What can be asked of a store, and the pages that come back. Every query names its tenant.

use std::collections::BTreeMap;

use kernel::conversation::{Clarification, ClarificationStatus};
use kernel::flow::PhaseState;
use kernel::id::{InstanceId, MachineName, Subject, TenantId};
use kernel::snapshot::{Snapshot, StuckBy, is_within};
use kernel::time::Timestamp;

use crate::due_at;

/// One page of a list. `next` is the cursor of the page after it, `None` on the last. A cursor that no page gave is
/// beyond the end of every list.
#[derive(Clone, Debug, PartialEq)]
pub struct Page<T> {
    pub data: Vec<T>,
    pub next: Option<String>,
}

/// Instances of a tenant, newest id first; `cursor` is the last id of the page before.
#[derive(Clone, Debug)]
pub struct InstanceQuery {
    pub tenant: TenantId,
    pub machine: Option<MachineName>,
    pub subject: Option<Subject>,
    /// What stands somewhere in the subject, letter by letter.
    pub subject_contains: Option<String>,
    /// States by their paths, with commas between them: each has to be active, or to have an active one in it.
    pub state: Option<String>,
    pub closed: Option<bool>,
    /// Only those with a timer due before this instant.
    pub due_before: Option<Timestamp>,
    /// Only those not changed since this instant.
    pub idle_since: Option<Timestamp>,
    /// Only those in a loop that is not over at this instant.
    pub looping_at: Option<Timestamp>,
    /// Only those that nothing will lead on from where they are.
    pub stuck_by: Option<StuckBy>,
    pub cursor: Option<String>,
    pub limit: usize,
}

impl InstanceQuery {
    pub fn of(tenant: TenantId) -> Self {
        Self {
            tenant,
            machine: None,
            subject: None,
            subject_contains: None,
            state: None,
            closed: None,
            due_before: None,
            idle_since: None,
            looping_at: None,
            stuck_by: None,
            cursor: None,
            limit: 100,
        }
    }

    /// The states of which each has to be active, or to have an active one in it.
    pub(crate) fn states(&self) -> impl Iterator<Item = &str> {
        self.state.iter().flat_map(|states| states.split(','))
    }

    /// Whether what is wanted of a subject stands in this one.
    pub(crate) fn has_part(&self, subject: Option<&str>) -> bool {
        self.subject_contains
            .as_ref()
            .is_none_or(|part| subject.is_some_and(|subject| subject.contains(part)))
    }

    /// Whether `snapshot` belongs in the list, the cursor aside. `due_before` and `idle_since` exclude the instant
    /// itself.
    pub(crate) fn matches(&self, snapshot: &Snapshot) -> bool {
        fn is<T: PartialEq>(wanted: Option<&T>, found: Option<&T>) -> bool {
            wanted.is_none() || wanted == found
        }
        snapshot.tenant == self.tenant
            && is(self.machine.as_ref(), Some(&snapshot.machine))
            && is(self.subject.as_ref(), snapshot.subject.as_ref())
            && self.has_part(snapshot.subject.as_ref().map(Subject::as_str))
            && self.states().all(|wanted| snapshot.configuration.iter().any(|path| is_within(path, wanted)))
            && is(self.closed.as_ref(), Some(&snapshot.is_closed()))
            && self.due_before.is_none_or(|limit| due_at(snapshot).is_some_and(|due| due < limit))
            && self.idle_since.is_none_or(|limit| snapshot.updated_at < limit)
            && self.looping_at.is_none_or(|now| snapshot.looping.as_ref().is_some_and(|l| l.until > now))
            && self.stuck_by.is_none_or(|limits| snapshot.stuck(limits).is_some())
    }
}

/// The log of one instance; `cursor` is opaque and comes from the page before, or from one that is read the other way.
#[derive(Clone, Debug)]
pub struct HistoryQuery {
    pub tenant: TenantId,
    pub instance: InstanceId,
    /// From its end on, rather than from its beginning.
    pub newest_first: bool,
    pub cursor: Option<String>,
    pub limit: usize,
}

impl HistoryQuery {
    pub fn of(tenant: TenantId, instance: InstanceId) -> Self {
        Self { tenant, instance, newest_first: false, cursor: None, limit: 100 }
    }

    /// The number of the entry behind which the page begins, whichever way it is read. What no page gave as a cursor is
    /// beyond the end.
    pub(crate) fn behind(&self) -> Option<i64> {
        let beyond = if self.newest_first { 0 } else { i64::MAX };
        self.cursor.as_ref().map(|cursor| cursor.parse().ok().filter(|number| *number >= 0).unwrap_or(beyond))
    }
}

/// Clarifications of a tenant, newest first; `cursor` is opaque and comes from the page before.
#[derive(Clone, Debug)]
pub struct ClarificationQuery {
    pub tenant: TenantId,
    pub status: Option<ClarificationStatus>,
    /// Only this one.
    pub id: Option<String>,
    pub cursor: Option<String>,
    pub limit: usize,
}

impl ClarificationQuery {
    /// The cursor of the page that ends with `last`.
    pub(crate) fn cursor_of(last: &Clarification) -> String {
        format!("{}:{}", last.created_at.as_millis(), last.id)
    }

    /// The place that a cursor stands for: what comes before it in (time, id) follows in the list.
    pub(crate) fn parse_cursor(cursor: &str) -> Option<(Timestamp, &str)> {
        let (ms, id) = cursor.split_once(':')?;
        Some((Timestamp::from_millis(ms.parse().ok()?), id))
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CleanupReport {
    pub entries_deleted: usize,
    pub effects_deleted: usize,
    pub instances_deleted: usize,
    /// Whether `limit` was reached, so that there may be more.
    pub more: bool,
}

/// Figures over all tenants; of their shadows only effects, the latest change and damage count. Every status of clarifications and of effects has its figure, also when that is zero.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreStatistics {
    /// Open instances by machine and state.
    pub open: BTreeMap<(String, String), u64>,
    /// Closed instances by machine and closure reason.
    pub closed: BTreeMap<(String, String), u64>,
    /// Phases of open flows by machine and state.
    pub phases: BTreeMap<(String, PhaseState), u64>,
    pub clarifications: BTreeMap<&'static str, u64>,
    pub effects: BTreeMap<&'static str, u64>,
    pub quarantined: u64,
    /// When an instance last changed.
    pub latest_change: Option<Timestamp>,
    /// The mean of the next deadlines of open instances, of those that have one, to the second. One that was put off may
    /// count as it was before.
    pub mean_deadline: Option<Timestamp>,
}
