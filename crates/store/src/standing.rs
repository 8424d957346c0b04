//! How open instances stand, counted by tenant and machine: how many there are, which go in circles, and which are stuck.
//!
//! What is kept beside a tenant is not counted: nobody is asked to see to it. An instance that cannot be read is open and
//! no more.

use std::collections::BTreeMap;

use kernel::id::TenantId;
use kernel::snapshot::{StoredWaiting, Stuck, StuckBy};
use kernel::time::Timestamp;

/// What is in the body of every instance at a dead end, and hardly in any other's: the rest of it is read only then.
pub(crate) const DEAD_END: &str = "\"dead_end\":true";

/// For when it is said, and since when what counts as stuck.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StandingAt {
    pub now: Timestamp,
    pub stuck_by: StuckBy,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    pub open: u64,
    pub looping: u64,
    /// By the reason; what there is none of is left out.
    pub stuck: BTreeMap<Stuck, u64>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standings {
    /// By the names of their machines.
    pub tenants: BTreeMap<TenantId, BTreeMap<String, Standing>>,
}

impl Standing {
    /// All that are stuck, for whatever reason.
    pub fn stuck(&self) -> u64 {
        self.stuck.values().sum()
    }

    pub(crate) fn add_stuck(&mut self, why: Option<Stuck>, count: u64) {
        if let Some(why) = why.filter(|_| count > 0) {
            *self.stuck.entry(why).or_default() += count;
        }
    }

    /// One of the silent is at a dead end.
    pub(crate) fn take_silent(&mut self) {
        if let Some(silent) = self.stuck.get_mut(&Stuck::Silent) {
            *silent -= 1;
        }
        self.stuck.retain(|_, count| *count > 0);
    }

    fn add(&mut self, other: &Self) {
        self.open += other.open;
        self.looping += other.looping;
        other.stuck.iter().for_each(|(why, count)| self.add_stuck(Some(*why), *count));
    }
}

impl Standings {
    /// All instances of a tenant.
    pub fn of(&self, tenant: &TenantId) -> Standing {
        let mut sum = Standing::default();
        self.tenants.get(tenant).into_iter().flatten().for_each(|(_, standing)| sum.add(standing));
        sum
    }

    /// Those of one machine of a tenant.
    pub fn of_machine(&self, tenant: &TenantId, machine: &str) -> Standing {
        self.tenants.get(tenant).and_then(|machines| machines.get(machine)).cloned().unwrap_or_default()
    }

    /// Those of all tenants, by machine.
    pub fn by_machine(&self) -> BTreeMap<&str, Standing> {
        let mut machines: BTreeMap<&str, Standing> = BTreeMap::new();
        for (machine, standing) in self.tenants.values().flatten() {
            machines.entry(machine).or_default().add(standing);
        }
        machines
    }

    pub(crate) fn entry(&mut self, tenant: &TenantId, machine: &str) -> &mut Standing {
        let machines = self.tenants.entry(tenant.clone()).or_default();
        machines.entry(machine.to_owned()).or_default()
    }
}

/// Why an open instance with this body is stuck. Of one that cannot be read, nobody knows.
pub(crate) fn stuck_by_body(body: &[u8], updated_at: Timestamp, by: StuckBy) -> Option<Stuck> {
    serde_json::from_slice::<StoredWaiting>(body).ok()?.stuck(updated_at, by)
}
