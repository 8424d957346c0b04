//! The outbox of the store that forgets: one map in the order of saving, and one of its keys.
//!
//! Owns no other index. Whose turn it is in a lane is found by walking through all that is not settled.

use std::collections::{BTreeMap, HashMap, HashSet};

use kernel::commit::{Commit, Effect};
use kernel::id::TenantId;
use kernel::time::Timestamp;

use crate::memory::page;
use crate::outbox::{
    ClaimedEffect, DeliveryReport, EffectQuery, EffectStatus, Lane, OutboxEffect, Settlement,
};
use crate::query::Page;

#[derive(Debug, Default)]
pub(super) struct Outbox {
    effects: BTreeMap<u64, OutboxEffect>,
    keys: HashMap<(TenantId, String), u64>,
    last: u64,
}

impl Outbox {
    /// Gives the number under which the effect is kept.
    ///
    /// # Errors
    /// A fragment, when the effect exists or comes with no instance.
    pub(super) fn save(&mut self, commit: &Commit, effect: &Effect) -> Result<u64, String> {
        let Some(after) = &commit.after else {
            return Err(format!("the effect {} comes with no change of its instance", effect.key));
        };
        let key = (commit.tenant.clone(), effect.key.clone());
        if self.keys.contains_key(&key) {
            return Err(format!("the effect {} exists", effect.key));
        }
        self.last += 1;
        let saved = OutboxEffect {
            seq: self.last,
            tenant: commit.tenant.clone(),
            instance: commit.instance.clone(),
            machine: after.machine.clone(),
            subject: after.subject.clone(),
            effect: effect.clone(),
            status: EffectStatus::Pending,
            attempts: 0,
            parts_done: 0,
            created_at: commit.entry.at,
            due_at: Some(commit.entry.at),
            error: None,
            provider_id: None,
            stage: None,
            settled_at: None,
        };
        self.effects.insert(self.last, saved);
        self.keys.insert(key, self.last);
        Ok(self.last)
    }

    /// Keeps effects of one instance that come from elsewhere, oldest first: under their numbers if all of these are free.
    pub(super) fn take_in(&mut self, effects: &[OutboxEffect]) {
        let is_free = effects.iter().all(|effect| !self.effects.contains_key(&effect.seq));
        for effect in effects {
            let seq = if is_free { effect.seq } else { self.last + 1 };
            self.last = self.last.max(seq);
            self.keys.insert((effect.tenant.clone(), effect.effect.key.clone()), seq);
            self.effects.insert(seq, OutboxEffect { seq, ..effect.clone() });
        }
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &OutboxEffect> {
        self.effects.values()
    }

    pub(super) fn forget(&mut self, seq: u64) {
        if let Some(effect) = self.effects.remove(&seq) {
            self.keys.remove(&(effect.tenant, effect.effect.key));
        }
    }

    fn find(&mut self, tenant: &TenantId, key: &str) -> Option<&mut OutboxEffect> {
        let seq = self.keys.get(&(tenant.clone(), key.to_owned()))?;
        self.effects.get_mut(seq)
    }

    /// The first of each lane, with the time at which it may be claimed.
    fn heads(&self) -> Vec<(Timestamp, u64)> {
        let mut lanes = HashSet::new();
        let unsettled = self.effects.values().filter_map(|effect| Some((effect.due_at?, effect)));
        let heads = unsettled.filter(|(_, effect)| {
            let lane = Lane::of(&effect.effect);
            lane.is_none_or(|lane| lanes.insert((&effect.tenant, &effect.instance, lane)))
        });
        heads.map(|(due_at, effect)| (due_at, effect.seq)).collect()
    }

    pub(super) fn claim(
        &mut self,
        now: Timestamp,
        lease_until: Timestamp,
        limit: usize,
    ) -> Vec<ClaimedEffect> {
        let mut due = self.heads();
        due.retain(|(due_at, _)| *due_at <= now);
        due.sort_unstable();
        let mut claimed = Vec::new();
        for (_, seq) in due.into_iter().take(limit) {
            let Some(effect) = self.effects.get_mut(&seq) else {
                continue;
            };
            let interrupted = effect.status == EffectStatus::Sending;
            effect.status = EffectStatus::Sending;
            effect.attempts += 1;
            effect.due_at = Some(lease_until);
            claimed.push(ClaimedEffect { effect: effect.clone(), interrupted });
        }
        claimed
    }

    pub(super) fn settle(&mut self, settlement: &Settlement, now: Timestamp) -> bool {
        let Some(effect) = self.find(&settlement.tenant, &settlement.key) else {
            return false;
        };
        if effect.status != EffectStatus::Sending || effect.attempts != settlement.attempt {
            return false;
        }
        let settled = settlement.result.settled();
        effect.status = settled.status;
        effect.due_at = settled.due_at;
        effect.attempts -= settled.uncounted;
        effect.settled_at = settled.status.is_settled().then_some(now);
        effect.parts_done = settled.parts_done.unwrap_or(effect.parts_done);
        replace(&mut effect.error, settled.error);
        replace(&mut effect.provider_id, settled.provider_id);
        true
    }

    pub(super) fn next_due(&self) -> Option<Timestamp> {
        self.heads().into_iter().map(|(due_at, _)| due_at).min()
    }

    pub(super) fn retry(&mut self, tenant: &TenantId, key: &str, now: Timestamp) -> Option<EffectStatus> {
        let effect = self.find(tenant, key)?;
        let former = effect.status;
        if former.may_be_retried() {
            effect.status = EffectStatus::Pending;
            effect.attempts = 0;
            (effect.provider_id, effect.stage) = (None, None);
            effect.due_at = Some(now);
            effect.settled_at = None;
        }
        Some(former)
    }

    pub(super) fn note_stage(&mut self, report: &DeliveryReport) -> bool {
        let DeliveryReport { tenant, provider_id, key, stage, error } = report;
        let mut newest_first = self.effects.values_mut().rev();
        let named =
            newest_first.find(|e| e.tenant == *tenant && e.provider_id.as_deref() == Some(provider_id));
        let effect = match named {
            Some(effect) => effect,
            None => {
                let unknown = key.as_ref().and_then(|key| self.find(tenant, key));
                let Some(effect) = unknown.filter(|effect| effect.status == EffectStatus::Unknown) else {
                    return false;
                };
                effect.provider_id = Some(provider_id.clone());
                effect
            }
        };
        if !stage.is_news_after(effect.stage) {
            return false;
        }
        effect.status = report.status();
        effect.stage = Some(*stage);
        replace(&mut effect.error, error.as_deref());
        true
    }

    pub(super) fn list(&self, query: &EffectQuery) -> Page<OutboxEffect> {
        let older = self.effects.range(..query.before()).rev().map(|(_, effect)| effect);
        let matching = older.filter(|effect| query.matches(effect)).cloned();
        page(matching, query.limit, |effect| effect.seq.to_string())
    }

    /// Deletes what was settled before `before`, the longest settled first, and says how many that were.
    pub(super) fn clean_up(&mut self, before: Timestamp, limit: usize) -> usize {
        let settled = self.effects.values().filter_map(|effect| Some((effect.settled_at?, effect.seq)));
        let mut old: Vec<_> = settled.filter(|(at, _)| *at < before).collect();
        old.sort_unstable();
        old.truncate(limit);
        for (_, seq) in &old {
            self.forget(*seq);
        }
        old.len()
    }

    pub(super) fn counts(&self) -> BTreeMap<&'static str, u64> {
        let mut counts: BTreeMap<_, _> = EffectStatus::ALL.map(|status| (status.as_str(), 0)).into();
        for effect in self.effects.values() {
            *counts.entry(effect.status.as_str()).or_default() += 1;
        }
        counts
    }
}

fn replace(held: &mut Option<String>, by: Option<&str>) {
    if let Some(by) = by {
        *held = Some(by.to_owned());
    }
}
