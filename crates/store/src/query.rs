//! What can be asked of a store, and the pages that come back. Every query names its tenant.

use std::collections::BTreeMap;

use kernel::conversation::ClarificationStatus;
use kernel::id::{InstanceId, MachineName, Subject, TenantId};
use kernel::time::Timestamp;

/// One page of a list. `next` is the cursor of the page after it, `None` on the last.
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
    /// The state as `Snapshot::state` prints it.
    pub state: Option<String>,
    pub closed: Option<bool>,
    /// Only those with a timer due before this instant.
    pub due_before: Option<Timestamp>,
    /// Only those not changed since this instant.
    pub idle_since: Option<Timestamp>,
    pub cursor: Option<String>,
    pub limit: usize,
}

impl InstanceQuery {
    pub fn of(tenant: TenantId) -> Self {
        Self {
            tenant,
            machine: None,
            subject: None,
            state: None,
            closed: None,
            due_before: None,
            idle_since: None,
            cursor: None,
            limit: 100,
        }
    }
}

/// The log of one instance, oldest first; `cursor` is opaque and comes from the page before.
#[derive(Clone, Debug)]
pub struct HistoryQuery {
    pub tenant: TenantId,
    pub instance: InstanceId,
    pub cursor: Option<String>,
    pub limit: usize,
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

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CleanupReport {
    pub entries_deleted: usize,
    /// Whether `limit` was reached, so that there may be more.
    pub more: bool,
}

/// Figures over all tenants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreStatistics {
    /// Open instances by machine and state.
    pub open: BTreeMap<(String, String), u64>,
    /// Closed instances by machine and closure reason.
    pub closed: BTreeMap<(String, String), u64>,
    pub clarifications: BTreeMap<&'static str, u64>,
    pub effects_pending: u64,
    pub quarantined: u64,
}
