//! Hot instances and recent receipts, in memory.
//!
//! Nothing here can lead to a stale decision being saved: a commit names the revision that it was decided on, and the
//! store refuses it if that is no longer current. Bounded by bytes, as they are estimated; what is pushed out is loaded
//! again, and what is so large that it would push out much else is not kept.

use std::hash::Hash;
use std::sync::Arc;

use kernel::commit::Answer;
use kernel::id::{Digest, InstanceId, MachineName, Subject, TenantId};
use kernel::input::ReceiptId;
use kernel::snapshot::Snapshot;
use quick_cache::Weighter;
use quick_cache::unsync::Cache;

use crate::weight;

pub(crate) type InstanceKey = (TenantId, InstanceId);
pub(crate) type SessionKey = (TenantId, MachineName, Subject);

/// What a repeat of a key gets.
#[derive(Clone, Debug)]
pub(crate) struct Receipt {
    pub digest: Digest,
    pub answer: Arc<Answer>,
}

/// What the cache has of its own for an entry, with its key.
const ENTRY_BYTES: u64 = 200;
/// Of a part of the cache, one entry may take so much.
const SHARE_MAX: u64 = 16;
/// A guess at what one snapshot or answer takes: of so many that were pushed out the cache remembers that they were there.
const TYPICAL_BYTES: u64 = 2_048;

#[derive(Debug)]
pub(crate) struct Hot {
    snapshots: Part<InstanceKey, Arc<Snapshot>>,
    sessions: Part<SessionKey, InstanceId>,
    receipts: Part<ReceiptId, Receipt>,
}

/// Weighed once, when it is remembered.
#[derive(Debug)]
struct Weighed<V> {
    value: V,
    bytes: u64,
}

#[derive(Debug)]
struct Bytes;

impl<K, V> Weighter<K, Weighed<V>> for Bytes {
    fn weight(&self, _: &K, held: &Weighed<V>) -> u64 {
        held.bytes
    }
}

/// One of the caches, within its share of the bytes.
#[derive(Debug)]
struct Part<K, V> {
    cache: Cache<K, Weighed<V>, Bytes>,
    entry_max: u64,
}

impl<K: Eq + Hash, V> Part<K, V> {
    fn new(bytes_max: u64) -> Self {
        let entries = usize::try_from(bytes_max / TYPICAL_BYTES).unwrap_or(usize::MAX);
        Self { cache: Cache::with_weighter(entries, bytes_max, Bytes), entry_max: bytes_max / SHARE_MAX }
    }

    fn get(&self, key: &K) -> Option<&V> {
        self.cache.get(key).map(|held| &held.value)
    }

    fn insert(&mut self, key: K, value: V, bytes: usize) {
        let bytes = bytes as u64 + ENTRY_BYTES;
        if bytes > self.entry_max {
            // What it was before is no longer true either.
            self.cache.remove(&key);
        } else {
            self.cache.insert(key, Weighed { value, bytes });
        }
    }

    fn remove(&mut self, key: &K) -> Option<V> {
        self.cache.remove(key).map(|(_, held)| held.value)
    }
}

/// A snapshot of a session is also found by its subject.
pub(crate) fn session_key(snapshot: &Snapshot) -> Option<SessionKey> {
    let subject = snapshot.subject.as_ref().filter(|_| snapshot.ordinal > 0)?;
    Some((snapshot.tenant.clone(), snapshot.machine.clone(), subject.clone()))
}

impl Hot {
    /// A quarter of the bytes is for receipts, a twelfth for what leads from subjects to sessions.
    pub fn new(bytes_max: usize) -> Self {
        let twelfth = bytes_max as u64 / 12;
        Self {
            snapshots: Part::new(8 * twelfth),
            sessions: Part::new(twelfth),
            receipts: Part::new(3 * twelfth),
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
            let is_later = |other: Arc<Snapshot>| other.ordinal > snapshot.ordinal;
            if !self.session(&key).is_some_and(is_later) {
                self.sessions.insert(key, snapshot.instance.clone(), 0);
            }
        }
        let bytes = weight::of_snapshot(&snapshot);
        self.snapshots.insert((snapshot.tenant.clone(), snapshot.instance.clone()), snapshot, bytes);
    }

    pub fn remember_receipt(&mut self, id: ReceiptId, receipt: Receipt) {
        let bytes = weight::of_answer(&receipt.answer);
        self.receipts.insert(id, receipt, bytes);
    }

    pub fn forget(&mut self, key: &InstanceKey) {
        if let Some(snapshot) = self.snapshots.remove(key)
            && let Some(session) = session_key(&snapshot)
        {
            self.sessions.remove(&session);
        }
    }

    pub fn forget_session(&mut self, key: &SessionKey) {
        if let Some(instance) = self.sessions.remove(key) {
            self.snapshots.remove(&(key.0.clone(), instance));
        }
    }
}

#[cfg(test)]
mod tests {
    use kernel::definition;
    use kernel::machine::Machine;
    use kernel::time::Timestamp;
    use serde_json::json;

    use super::*;

    const BYTES_MAX: usize = 1 << 20;

    /// The session of `s1` is `i1`, and so on.
    fn key(number: usize) -> InstanceKey {
        (TenantId::default_tenant(), InstanceId::parse(&format!("i{number}")).unwrap())
    }

    fn subject(number: usize) -> Subject {
        Subject::parse(&format!("s{number}")).unwrap()
    }

    fn machine() -> Machine {
        definition::load("machine: m\ninitial: a\nstates: { a: {} }").0.unwrap()
    }

    /// With so much in its context.
    fn snapshot(machine: &Machine, number: usize, bytes: usize) -> Arc<Snapshot> {
        let (tenant, instance) = key(number);
        let context = Arc::new([("text".to_owned(), json!("x".repeat(bytes)))].into_iter().collect());
        let new = Snapshot::new(machine, tenant, instance, context, Timestamp::EPOCH);
        Arc::new(Snapshot { subject: Some(subject(number)), ordinal: 1, ..new })
    }

    #[test]
    fn all_that_is_kept_takes_no_more_than_was_said() {
        let (mut hot, machine) = (Hot::new(BYTES_MAX), machine());
        for number in 0..5_000 {
            hot.remember(snapshot(&machine, number, 1_000 + number % 7_000));
        }
        let weights = [hot.snapshots.cache.weight(), hot.sessions.cache.weight()];
        assert!(weights.iter().sum::<u64>() <= BYTES_MAX as u64 * 3 / 4, "{weights:?}");
        let kept = (0..5_000).filter(|number| hot.snapshot(&key(*number)).is_some()).count();
        assert!((50..500).contains(&kept), "{kept}");
    }

    #[test]
    fn what_is_huge_pushes_nothing_out_and_is_not_kept() {
        let (mut hot, machine) = (Hot::new(BYTES_MAX), machine());
        for number in 0..100 {
            hot.remember(snapshot(&machine, number, 1_000));
        }
        hot.remember(snapshot(&machine, 7, BYTES_MAX / 2));
        for number in 0..100 {
            // The older one of the same instance is gone too.
            assert_eq!(hot.snapshot(&key(number)).is_some(), number != 7, "{number}");
            let session = (TenantId::default_tenant(), machine.name.clone(), subject(number));
            assert_eq!(hot.session(&session).is_some(), number != 7, "{number}");
        }
    }
}
