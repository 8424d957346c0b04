//! Instances whose time has come, and what comes next: questions to all buckets, merged.

use kernel::id::{InstanceId, TenantId};
use kernel::time::Timestamp;
use redis::{Value, cmd};

use crate::redis::failure::{self, Failure};
use crate::redis::keys::{Place, unescaped};
use crate::redis::pack::Packer;
use crate::redis::read::LOST;
use crate::redis::{RedisStore, lost, script, value};

/// Others may take what was found before it is claimed; then there may be more.
const TRIES_MAX: usize = 3;

/// A member of a set of what is due, since when, and in which bucket.
pub(super) type Candidate = (i64, String, Place);

impl RedisStore {
    /// The lowest score in the set of this name of all buckets.
    pub(super) fn earliest(&self, set: &str) -> Result<Option<Timestamp>, Failure> {
        let firsts = self.ask_all(|home| {
            let mut command = cmd("ZRANGE");
            command.arg(format!("{home}{set}")).arg(0).arg(0).arg("WITHSCORES");
            command
        })?;
        let mut earliest = None;
        for (_, first) in firsts {
            for (_, score) in value::pairs(first)? {
                let due = value::number(score)?;
                earliest = Some(earliest.map_or(due, |found: i64| found.min(due)));
            }
        }
        Ok(earliest.map(Timestamp::from_millis))
    }

    /// The first of the sets of this name of all buckets, up to `now`, in the order of their scores.
    pub(super) fn candidates(&self, set: &str, now: &str, limit: usize) -> Result<Vec<Candidate>, Failure> {
        let firsts = self.ask_all(|home| {
            let mut command = cmd("ZRANGEBYSCORE");
            command.arg(format!("{home}{set}")).arg("-inf").arg(now).arg("WITHSCORES");
            command.arg("LIMIT").arg(0).arg(limit);
            command
        })?;
        let mut candidates = Vec::new();
        for (place, found) in firsts {
            for (member, score) in value::pairs(found)? {
                candidates.push((value::number(score)?, value::text(member)?, place));
            }
        }
        candidates.sort_unstable();
        candidates.truncate(limit);
        Ok(candidates)
    }

    /// Has `script` claim the candidates, bucket by bucket; its answers with the names of the members.
    pub(super) fn claim(
        &self,
        script: &'static script::Script,
        candidates: Vec<Candidate>,
        now: Timestamp,
        lease_until: Timestamp,
    ) -> Result<Vec<(Place, String, Value)>, Failure> {
        let mut groups: Vec<(Place, Vec<String>)> = Vec::new();
        for (_, member, place) in candidates {
            match groups.iter_mut().find(|(known, _)| *known == place) {
                Some((_, members)) => members.push(member),
                None => groups.push((place, vec![member])),
            }
        }
        let calls = groups.iter().map(|(place, members)| {
            let members: Vec<&str> = members.iter().map(String::as_str).collect();
            let packed = Packer::array_of(3, |p| {
                p.number(now.as_millis()).number(lease_until.as_millis()).texts(&members);
            });
            self.call(*place, script, packed)
        });
        let calls: Vec<_> = calls.collect();
        let answers = failure::all(self.servers.ask_and_wait(&calls, self.location.wait))?;
        let mut claimed = Vec::new();
        for ((place, members), answer) in groups.into_iter().zip(answers) {
            for (member, answer) in members.into_iter().zip(value::list(answer)?) {
                claimed.push((place, member, answer));
            }
        }
        Ok(claimed)
    }

    pub(super) fn claim_instances(
        &self,
        now: Timestamp,
        lease_until: Timestamp,
        limit: usize,
    ) -> Result<Vec<(TenantId, InstanceId)>, Failure> {
        for _ in 0..TRIES_MAX {
            let candidates = self.candidates("due", &now.as_millis().to_string(), limit)?;
            if candidates.is_empty() {
                break;
            }
            let mut taken = Vec::new();
            let mut gone = Vec::new();
            for (_, member, answer) in self.claim(&script::DUE, candidates, now, lease_until)? {
                match value::optional_text(answer)? {
                    None => {}
                    Some(answer) if answer == "lost" => gone.push(lost("instances", &member, LOST)),
                    Some(wake_at) => {
                        let found = named(&member).ok_or_else(|| Failure::strange(&member))?;
                        taken.push((wake_at.parse::<i64>().unwrap_or(i64::MAX), found));
                    }
                }
            }
            self.quarantine(&gone);
            if !taken.is_empty() {
                taken.sort_by_key(|(wake_at, _)| *wake_at);
                return Ok(taken.into_iter().map(|(_, found)| found).collect());
            }
        }
        Ok(Vec::new())
    }
}

/// Whose instance a member `<tenant>:<id>` is.
fn named(member: &str) -> Option<(TenantId, InstanceId)> {
    let (tenant, id) = member.split_once(':')?;
    Some((TenantId::stored(&unescaped(tenant)?).ok()?, InstanceId::parse(&unescaped(id)?).ok()?))
}
