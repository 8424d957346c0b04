//! Phases of flows as lists and workers find them: one line for each phase of each flow.
//!
//! Owns what can be asked about them and in which order they come. A line is what a commit said last of a phase; that
//! it is true is the kernel's business, and so is who is given the work: to be found here is to have a chance.

use std::cmp::Ordering;

use kernel::commit::PhaseRow;
use kernel::flow::PhaseState;
use kernel::id::{InstanceId, MachineName, TenantId};
use kernel::time::Timestamp;

/// A phase with the flow that it belongs to.
#[derive(Clone, Debug, PartialEq)]
pub struct PhaseLine {
    pub tenant: TenantId,
    pub instance: InstanceId,
    pub machine: MachineName,
    pub row: PhaseRow,
}

/// Phases of a tenant; `cursor` is opaque and comes from the page before. For a worker, the longest offered first;
/// otherwise flow by flow, the newest id first, and in the order of each flow.
#[derive(Clone, Debug)]
pub struct PhaseQuery {
    pub tenant: TenantId,
    pub machine: Option<MachineName>,
    pub instance: Option<InstanceId>,
    pub phase: Option<String>,
    pub state: Option<PhaseState>,
    /// Only those that this worker may take.
    pub for_worker: Option<WorkerQuery>,
    /// Only the one that is held under this lease.
    pub lease: Option<String>,
    /// Only those whose last error has this code.
    pub error: Option<String>,
    pub min_attempts: Option<u32>,
    pub min_retries: Option<u32>,
    /// Only those that came into their state before this instant.
    pub since_before: Option<Timestamp>,
    pub cursor: Option<String>,
    pub limit: usize,
}

/// A worker that asks for something to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerQuery {
    /// What is offered later is left out.
    pub now: Timestamp,
    /// A worker is given what is for its kind and what is for any; one without a kind, the empty one, only the latter.
    pub kind: String,
}

/// A place in the list of a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Position<'a> {
    /// Of a list for a worker only.
    pub offered_at: Option<Timestamp>,
    pub instance: &'a str,
    pub place: u16,
}

impl PhaseQuery {
    pub fn of(tenant: TenantId) -> Self {
        Self {
            tenant,
            machine: None,
            instance: None,
            phase: None,
            state: None,
            for_worker: None,
            lease: None,
            error: None,
            min_attempts: None,
            min_retries: None,
            since_before: None,
            cursor: None,
            limit: 100,
        }
    }

    /// Whether `line` belongs in the list, the cursor aside.
    pub(crate) fn matches(&self, line: &PhaseLine) -> bool {
        fn is<T: PartialEq + ?Sized>(wanted: Option<&T>, found: Option<&T>) -> bool {
            wanted.is_none() || wanted == found
        }
        let row = &line.row;
        line.tenant == self.tenant
            && is(self.machine.as_ref(), Some(&line.machine))
            && is(self.instance.as_ref(), Some(&line.instance))
            && is(self.phase.as_deref(), Some(&*row.phase))
            && is(self.state.as_ref(), Some(&row.state))
            && self.for_worker.as_ref().is_none_or(|worker| worker.may_take(row))
            && is(self.lease.as_ref(), row.lease.as_ref())
            && is(self.error.as_ref(), row.error.as_ref())
            && self.min_attempts.is_none_or(|least| row.attempts >= least)
            && self.min_retries.is_none_or(|least| row.retries >= least)
            && self.since_before.is_none_or(|limit| row.since < limit)
    }

    /// Where `line` is in the list.
    pub(crate) fn position<'a>(&self, line: &'a PhaseLine) -> Position<'a> {
        let offered_at = self.for_worker.as_ref().and(line.row.offered_at);
        Position { offered_at, instance: line.instance.as_str(), place: line.row.place }
    }

    pub(crate) fn cursor_of(&self, last: &PhaseLine) -> String {
        self.position(last).cursor()
    }

    /// The place of the last line of the page before; `None` for a cursor that no page of this list gave.
    pub(crate) fn after<'a>(&self, cursor: &'a str) -> Option<Position<'a>> {
        let (offered_at, rest) = match self.for_worker {
            Some(_) => {
                let (at, rest) = cursor.split_once(':')?;
                (Some(Timestamp::from_millis(at.parse().ok()?)), rest)
            }
            None => (None, cursor),
        };
        let (place, instance) = rest.split_once(':')?;
        Some(Position { offered_at, instance, place: place.parse().ok()? })
    }
}

impl WorkerQuery {
    fn may_take(&self, row: &PhaseRow) -> bool {
        let is_for_it = row.kind.is_empty() || *row.kind == *self.kind;
        is_for_it && row.offered_at.is_some_and(|at| at <= self.now)
    }
}

impl Position<'_> {
    pub(crate) fn cursor(&self) -> String {
        let Position { offered_at, instance, place } = self;
        match offered_at {
            Some(at) => format!("{}:{place}:{instance}", at.as_millis()),
            None => format!("{place}:{instance}"),
        }
    }

    /// Which comes first in the list that both are places of.
    pub(crate) fn compare(&self, other: &Self) -> Ordering {
        let of_instances = match self.offered_at {
            Some(_) => self.instance.cmp(other.instance),
            None => other.instance.cmp(self.instance),
        };
        let by_offer = self.offered_at.cmp(&other.offered_at);
        by_offer.then(of_instances).then(self.place.cmp(&other.place))
    }
}
