//! Dossiers of the store that forgets: put together from all maps, and taken apart into them.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use kernel::commit::Commit;
use kernel::id::{InstanceId, TenantId};
use kernel::snapshot::Snapshot;
use serde_json::Value;

use crate::dossier::Dossier;
use crate::memory::{Held, Tables, session_key};
use crate::{CommitError, is_there};

/// What of the context is secret, if anything of the instance has been.
pub(super) fn secrets(commit: &Commit, after: &Snapshot, before: Option<&Held>) -> Option<Vec<Arc<str>>> {
    let is_any = !commit.secrets.is_empty() || before.is_some_and(|held| held.secrets.is_some());
    let is_there = |field: &&Arc<str>| !after.context.get(&***field).is_none_or(Value::is_null);
    is_any.then(|| commit.secrets.iter().filter(is_there).cloned().collect())
}

impl Tables {
    pub(super) fn dossiers(&self) -> impl Iterator<Item = Dossier> + use<> {
        let mut all: BTreeMap<(TenantId, InstanceId), Dossier> = BTreeMap::new();
        for (key, held) in &self.instances {
            let secrets = held.secrets.clone();
            all.insert(key.clone(), Dossier { secrets, ..Dossier::of(held.snapshot.clone()) });
        }
        let key = |tenant: &TenantId, instance: &InstanceId| (tenant.clone(), instance.clone());
        for line in self.log.values() {
            if let Some(dossier) = all.get_mut(&key(&line.tenant, &line.instance)) {
                dossier.entries.push(line.entry.clone());
            }
        }
        for question in self.clarifications.values() {
            if let Some(dossier) = all.get_mut(&key(&question.tenant, &question.instance)) {
                dossier.clarifications.push(question.clone());
            }
        }
        for line in self.phases.all() {
            if let Some(dossier) = all.get_mut(&key(&line.tenant, &line.instance)) {
                dossier.phases.push(line.row.clone());
            }
        }
        for effect in self.outbox.all() {
            if let Some(dossier) = all.get_mut(&key(&effect.tenant, &effect.instance)) {
                dossier.effects.push(effect.clone());
            }
        }
        all.values_mut().for_each(Dossier::sort);
        all.into_values()
    }

    pub(super) fn take_in(&mut self, dossiers: &[Dossier]) -> Result<(), CommitError> {
        let (mut ids, mut sessions) = (HashSet::new(), HashSet::new());
        for Dossier { snapshot, .. } in dossiers {
            let key = (snapshot.tenant.clone(), snapshot.instance.clone());
            let is_met = self.instances.contains_key(&key) || self.has_session(snapshot) || !ids.insert(key);
            let session = session_key(snapshot).map(|subject| (subject, snapshot.ordinal));
            if is_met || session.is_some_and(|session| !sessions.insert(session)) {
                return Err(is_there(snapshot));
            }
        }
        for dossier in dossiers {
            let Dossier { snapshot, secrets, .. } = dossier;
            self.put_instance(snapshot, secrets.clone(), &mut Vec::new());
            dossier
                .entries
                .iter()
                .for_each(|entry| self.append_line(&snapshot.tenant, &snapshot.instance, entry));
            for question in &dossier.clarifications {
                let key = (question.tenant.clone(), question.id.clone());
                self.clarifications.insert(key, question.clone());
            }
            for row in &dossier.phases {
                self.phases.save(snapshot, row);
            }
            self.outbox.take_in(&dossier.effects);
        }
        Ok(())
    }
}
