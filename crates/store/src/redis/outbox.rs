//! The outbox: claiming, settling, retrying and what providers report. What changes an effect is done by scripts.

use kernel::id::TenantId;
use kernel::time::Timestamp;
use redis::Value;

use crate::outbox::{
    ClaimedEffect, DeliveryReport, DeliveryStage, EffectQuery, EffectStatus, OutboxEffect, Settlement,
    SettlementResult,
};
use crate::query::Page;
use crate::redis::failure::{self, Failure};
use crate::redis::keys::{Place, escaped, unescaped};
use crate::redis::lists::Range;
use crate::redis::pack::Packer;
use crate::redis::read::{LOST, Sieve};
use crate::redis::servers::Call;
use crate::redis::{RedisStore, lost, script, value};
use crate::row;
use crate::seal::Damage;
use crate::vault::Locked;

const TRIES_MAX: usize = 3;

impl RedisStore {
    pub(super) fn claim_outbox(
        &self,
        now: Timestamp,
        lease_until: Timestamp,
        limit: usize,
    ) -> Result<Vec<ClaimedEffect>, Failure> {
        for _ in 0..TRIES_MAX {
            let candidates = self.candidates("claimable", &now.as_millis().to_string(), limit)?;
            if candidates.is_empty() {
                break;
            }
            // Answers come bucket by bucket.
            let order: Vec<String> = candidates.iter().map(|(_, name, _)| name.clone()).collect();
            let mut claimed = Vec::new();
            for (_, name, answer) in self.claim(&script::CLAIM, candidates, now, lease_until)? {
                claimed.extend(self.claimed(&name, answer, (now, lease_until))?.map(|effect| (name, effect)));
            }
            if !claimed.is_empty() {
                claimed.sort_by_key(|(name, _)| order.iter().position(|other| other == name));
                return Ok(claimed.into_iter().map(|(_, effect)| effect).collect());
            }
        }
        Ok(Vec::new())
    }

    /// The effect in an answer of `claim.lua`, if it was claimed and is whole. What is damaged is given up: nobody can
    /// deliver it, and nobody behind it should wait for that.
    fn claimed(
        &self,
        name: &str,
        answer: Value,
        (now, lease_until): (Timestamp, Timestamp),
    ) -> Result<Option<ClaimedEffect>, Failure> {
        let mut parts = name.splitn(3, ':').skip(1);
        let (Some(tenant), Some(key)) = (parts.next(), parts.next()) else {
            return Err(Failure::strange(name));
        };
        let tenant = unescaped(tenant).and_then(|tenant| TenantId::stored(&tenant).ok());
        let tenant = tenant.ok_or_else(|| Failure::strange(name))?;
        let answer = match answer {
            Value::Nil => return Ok(None),
            Value::Array(parts) => Value::Array(parts),
            _ => {
                self.quarantine(&[lost("outbox", &format!("{tenant}/{key}"), LOST)]);
                return Ok(None);
            }
        };
        let [effect, progress, interrupted] = value::parts(answer)?;
        let (effect, progress) =
            (value::optional_bytes(effect)?.unwrap_or_default(), value::bytes(progress)?);
        let mut sieve = Sieve::default();
        let opened = sieve.keep(row::effect(&tenant, key, &effect, &progress, &self.records.secrets));
        if let Some(locked) = sieve.locked.take() {
            self.put_back(tenant, key, &progress, (&locked, now, lease_until))?;
            return Ok(None);
        }
        if let [Damage { detail, .. }] = &sieve.damaged[..] {
            let given_up = Packer::array_of(2, |p| {
                p.number(now.as_millis()).array(1).array(1);
                p.array(9).text(&escaped(tenant.as_str())).text(key).flag(false);
                p.text(EffectStatus::Dead.as_str())
                    .flag(false)
                    .text(detail)
                    .flag(false)
                    .flag(false)
                    .number(0);
            });
            self.ask_one(self.call(self.keys().bucket_of(&tenant), &script::SETTLE, given_up))?;
            self.quarantine(&sieve.damaged);
        }
        let interrupted = value::number(interrupted)? == 1;
        Ok(opened.map(|effect| ClaimedEffect { effect, interrupted }))
    }

    /// What there is no key to is looked at again: somebody may bring it. No attempt was made, so none is counted.
    fn put_back(
        &self,
        tenant: TenantId,
        key: &str,
        progress: &[u8],
        (locked, now, lease_until): (&Locked, Timestamp, Timestamp),
    ) -> Result<(), Failure> {
        let Some(attempt) = row::attempts(progress) else { return Ok(()) };
        let at = if locked.may_open { now } else { lease_until };
        let result = SettlementResult::Postponed { at, error: locked.detail.clone() };
        let settlement = Settlement { tenant, key: key.to_owned(), attempt, result };
        self.settle_outbox(&[settlement], now).map(|_| ())
    }

    pub(super) fn settle_outbox(
        &self,
        settlements: &[Settlement],
        now: Timestamp,
    ) -> Result<Vec<bool>, Failure> {
        if settlements.is_empty() {
            return Ok(Vec::new());
        }
        let mut groups: Vec<(Place, Vec<usize>)> = Vec::new();
        for (index, settlement) in settlements.iter().enumerate() {
            let place = self.keys().bucket_of(&settlement.tenant);
            match groups.iter_mut().find(|(known, _)| *known == place) {
                Some((_, group)) => group.push(index),
                None => groups.push((place, vec![index])),
            }
        }
        // As with commits: one call for one server, and so all or none.
        let each: usize = if self.servers.is_cluster { 1 } else { groups.len() };
        let calls = groups.chunks(each).map(|groups| {
            let packed = Packer::array_of(2, |p| {
                p.number(now.as_millis()).array(groups.len());
                for (_, group) in groups {
                    p.array(group.len());
                    group.iter().for_each(|index| pack_settlement(p, &settlements[*index]));
                }
            });
            let keys = groups.iter().map(|(place, _)| self.keys().meta(*place)).collect();
            Call::script(groups[0].0, &script::SETTLE, keys, &self.identity, packed)
        });
        let calls: Vec<Call> = calls.collect();
        let answers = failure::all(self.servers.ask_and_wait(&calls, self.location.wait))?;
        let mut settled = vec![false; settlements.len()];
        for (groups, answer) in groups.chunks(each).zip(answers) {
            for ((_, group), flags) in groups.iter().zip(value::list(answer)?) {
                for (index, flag) in group.iter().zip(value::list(flags)?) {
                    settled[*index] = value::number(flag)? == 1;
                }
            }
        }
        Ok(settled)
    }

    pub(super) fn retry_outbox(
        &self,
        tenant: &TenantId,
        key: &str,
        now: Timestamp,
    ) -> Result<Option<EffectStatus>, Failure> {
        // A damaged effect is as good as none.
        let query = EffectQuery { key: Some(key.to_owned()), limit: 1, ..EffectQuery::of(tenant.clone()) };
        if self.list_effects(&query)?.data.is_empty() {
            return Ok(None);
        }
        let may_be = EffectStatus::ALL.into_iter().filter(|status| status.may_be_retried());
        let statuses: Vec<&str> = may_be.map(EffectStatus::as_str).collect();
        let packed = Packer::array_of(4, |p| {
            p.text(&escaped(tenant.as_str())).text(key).number(now.as_millis()).texts(&statuses);
        });
        let answer = self.tell_one(self.call(self.keys().bucket_of(tenant), &script::RETRY, packed))?;
        Ok(value::optional_text(answer)?.and_then(|status| EffectStatus::parse(&status)))
    }

    pub(super) fn note_report(&self, report: &DeliveryReport) -> Result<bool, Failure> {
        let earlier = DeliveryStage::ALL.into_iter().filter(|known| report.stage.is_news_after(Some(*known)));
        let mut known: Vec<&str> = earlier.map(DeliveryStage::as_str).collect();
        if report.stage.is_news_after(None) {
            known.push("none");
        }
        let packed = Packer::array_of(7, |p| {
            p.text(&escaped(report.tenant.as_str())).text(&report.provider_id);
            p.optional_text(report.key.as_deref()).text(report.stage.as_str()).text(report.status().as_str());
            p.optional_text(report.error.as_deref()).texts(&known);
        });
        let place = self.keys().bucket_of(&report.tenant);
        Ok(value::number(self.tell_one(self.call(place, &script::STAGE, packed))?)? == 1)
    }

    pub(super) fn list_effects(&self, query: &EffectQuery) -> Result<Page<OutboxEffect>, Failure> {
        let tenant = escaped(query.tenant.as_str());
        let set = match (&query.key, &query.instance) {
            (Some(_), _) => None,
            (None, Some(instance)) => Some(format!("of:{tenant}:{}", escaped(instance.as_str()))),
            // Most of what there is was delivered, and most who ask want to know what was not.
            (None, None)
                if !query.statuses.is_empty() && !query.statuses.contains(&EffectStatus::Delivered) =>
            {
                Some(format!("undelivered:{tenant}"))
            }
            (None, None) => Some(format!("effects:{tenant}")),
        };
        let mut range = Range::new("effects", set.unwrap_or_else(|| format!("effects:{tenant}")));
        let mut page = Page { data: Vec::new(), next: None };
        let mut sieve = Sieve::default();
        let mut before = query.before();
        'pages: loop {
            let found = match &query.key {
                Some(key) => self.members(&query.tenant, &mut range, "ONE", &[key])?,
                None => {
                    let max = format!("({before}");
                    self.members(&query.tenant, &mut range, "ZREVRANGEBYSCORE", &[&max, "-inf"])?
                }
            };
            for (key, score, record) in found {
                before = u64::try_from(score).unwrap_or(before);
                let Value::Array(parts) = record else {
                    sieve.lost::<()>("outbox", &format!("{}/{key}", query.tenant));
                    continue;
                };
                let [effect, progress] = value::parts(Value::Array(parts))?;
                let progress = value::optional_bytes(progress)?.unwrap_or_default();
                let opened = row::effect(
                    &query.tenant,
                    &key,
                    &value::bytes(effect)?,
                    &progress,
                    &self.records.secrets,
                );
                let Some(effect) = sieve.keep(opened) else { continue };
                if !query.matches(&effect) || effect.seq >= query.before() {
                    continue;
                }
                if page.data.len() == query.limit {
                    page.next = page.data.last().map(|last: &OutboxEffect| last.seq.to_string());
                    break 'pages;
                }
                page.data.push(effect);
            }
            if range.is_at_end {
                break;
            }
        }
        self.quarantine(&sieve.damaged);
        sieve.all_open()?;
        Ok(page)
    }
}

fn pack_settlement(p: &mut Packer, settlement: &Settlement) {
    let settled = settlement.result.settled();
    p.array(9).text(&escaped(settlement.tenant.as_str())).text(&settlement.key);
    p.number(settlement.attempt.into()).text(settled.status.as_str());
    p.optional_number(settled.due_at.map(Timestamp::as_millis)).optional_text(settled.error);
    p.optional_number(settled.parts_done.map(i64::from)).optional_text(settled.provider_id);
    p.number(settled.uncounted.into());
}
