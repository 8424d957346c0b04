//! Hot instances and recent receipts, in memory.
//!
//! Nothing here can lead to a stale decision being saved: a commit names the revision that it was decided on, and the
//! store refuses it if that is no longer current. Bounded; what is pushed out is loaded again.

use std::sync::Arc;

use kernel::commit::Answer;
use kernel::id::{Digest, InstanceId, MachineName, Subject, TenantId};
use kernel::input::ReceiptId;
use kernel::snapshot::Snapshot;
use quick_cache::unsync::Cache;

pub(crate) type InstanceKey = (TenantId, InstanceId);
pub(crate) type SessionKey = (TenantId, MachineName, Subject);

/// What a repeat of a key gets.
#[derive(Clone, Debug)]
pub(crate) struct Receipt {
    pub digest: Digest,
    pub answer: Arc<Answer>,
}

#[derive(Debug)]
pub(crate) struct Hot {
    snapshots: Cache<InstanceKey, Arc<Snapshot>>,
    sessions: Cache<SessionKey, InstanceId>,
    receipts: Cache<ReceiptId, Receipt>,
}

/// A snapshot of a session is also found by its subject.
pub(crate) fn session_key(snapshot: &Snapshot) -> Option<SessionKey> {
    let subject = snapshot.subject.as_ref().filter(|_| snapshot.ordinal > 0)?;
    Some((snapshot.tenant.clone(), snapshot.machine.clone(), subject.clone()))
}

impl Hot {
    pub fn new(instances_max: usize) -> Self {
        Self {
            snapshots: Cache::new(instances_max),
            sessions: Cache::new(instances_max),
            receipts: Cache::new(instances_max),
        }
    }

    pub fn snapshot(&self, key: &InstanceKey) -> Option<Arc<Snapshot>> {
        self.snapshots.get(key).cloned()
    }

    pub fn session(&self, key: &SessionKey) -> Option<Arc<Snapshot>> {
        let instance = self.sessions.get(key)?;
        self.snapshots.get(&(key.0.clone(), instance.clone())).cloned()
    }

    pub fn receipt(&self, receipt: ReceiptId) -> Option<Receipt> {
        self.receipts.get(&receipt).cloned()
    }

    pub fn remember(&mut self, snapshot: Arc<Snapshot>) {
        if let Some(key) = session_key(&snapshot) {
            self.sessions.insert(key, snapshot.instance.clone());
        }
        self.snapshots.insert((snapshot.tenant.clone(), snapshot.instance.clone()), snapshot);
    }

    pub fn remember_receipt(&mut self, id: ReceiptId, receipt: Receipt) {
        self.receipts.insert(id, receipt);
    }

    pub fn forget(&mut self, key: &InstanceKey) {
        if let Some((_, snapshot)) = self.snapshots.remove(key)
            && let Some(session) = session_key(&snapshot)
        {
            self.sessions.remove(&session);
        }
    }

    pub fn forget_session(&mut self, key: &SessionKey) {
        if let Some((_, instance)) = self.sessions.remove(key) {
            self.snapshots.remove(&(key.0.clone(), instance));
        }
    }
}
