//! The lines of phases of the store that forgets: one map, by flow and place.

use std::collections::BTreeMap;

use kernel::commit::PhaseRow;
use kernel::id::{InstanceId, TenantId};
use kernel::snapshot::Snapshot;

use crate::memory::page;
use crate::phase::{PhaseLine, PhaseQuery};
use crate::query::Page;

pub(super) type PhaseKey = (TenantId, InstanceId, u16);

#[derive(Debug, Default)]
pub(super) struct Phases {
    lines: BTreeMap<PhaseKey, PhaseLine>,
}

impl Phases {
    /// Gives the key of the line, and what was there before.
    pub(super) fn save(&mut self, after: &Snapshot, row: &PhaseRow) -> (PhaseKey, Option<PhaseLine>) {
        let key = (after.tenant.clone(), after.instance.clone(), row.place);
        let line = PhaseLine {
            tenant: after.tenant.clone(),
            instance: after.instance.clone(),
            machine: after.machine.clone(),
            row: row.clone(),
        };
        let old = self.lines.insert(key.clone(), line);
        (key, old)
    }

    pub(super) fn put_back(&mut self, key: PhaseKey, old: Option<PhaseLine>) {
        match old {
            Some(line) => self.lines.insert(key, line),
            None => self.lines.remove(&key),
        };
    }

    pub(super) fn forget(&mut self, tenant: &TenantId, instance: &InstanceId) {
        self.lines.retain(|_, line| line.tenant != *tenant || line.instance != *instance);
    }

    pub(super) fn list(&self, query: &PhaseQuery) -> Page<PhaseLine> {
        let mut matching: Vec<&PhaseLine> = self.lines.values().filter(|line| query.matches(line)).collect();
        matching.sort_by(|a, b| query.position(a).compare(&query.position(b)));
        if let Some(cursor) = &query.cursor {
            match query.after(cursor) {
                Some(after) => matching.retain(|line| query.position(line).compare(&after).is_gt()),
                None => matching.clear(),
            }
        }
        page(matching.into_iter().cloned(), query.limit, |last| query.cursor_of(last))
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &PhaseLine> {
        self.lines.values()
    }
}
