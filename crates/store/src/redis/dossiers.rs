//! Dossiers: instances whole, a script call for some of them, and written whole into another store.
//!
//! Each is of one moment, and no two need be of the same: nobody can hold still what others write. Which tenants there are is
//! found by going through all keys.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use kernel::conversation::Clarification;
use kernel::id::TenantId;
use kernel::time::Timestamp;
use redis::{Value, cmd};

use crate::dossier::{Dossier, Gathered};
use crate::outbox::{DeliveryStage, OutboxEffect};
use crate::record::{EffectRow, Filed};
use crate::redis::commit::{pack_instance, pack_line, pack_phases, pack_questions};
use crate::redis::failure::{self, Failure};
use crate::redis::keys::{Place, escaped, unescaped};
use crate::redis::pack::Packer;
use crate::redis::read::LOST;
use crate::redis::servers::Call;
use crate::redis::{RedisStore, lost, script, value};
use crate::row::{self, Fault};
use crate::seal::{self, Damage};
use crate::{CommitError, is_there};

/// So many instances are read with one call, so that nobody waits long for it.
const INSTANCES: usize = 16;

/// So many keys a server looks at with one call.
const KEYS: usize = 1_000;

/// So many damaged records are put into quarantine at once; of a store with more, whoever runs it has heard enough.
const DAMAGED_MAX: usize = 1_000;

/// What is whole goes through, and what is not is counted.
#[derive(Default)]
struct Sieve {
    corrupt: u64,
    damaged: Vec<Damage>,
}

impl Sieve {
    fn keep<T>(&mut self, found: Result<T, Fault>) -> Result<Option<T>, Failure> {
        match found {
            Ok(record) => Ok(Some(record)),
            Err(seal::Fault::Backend(never)) => match never {},
            // To leave it out would say that it is not there.
            Err(seal::Fault::Locked(locked)) => Err(Failure::NotRun(locked.detail)),
            Err(seal::Fault::NewerFormat(format)) => {
                Err(Failure::NotRun(format!("a newer program wrote it, in format {format}")))
            }
            Err(seal::Fault::Damaged(damage)) => Ok(self.leave_out(*damage)),
        }
    }

    fn leave_out<T>(&mut self, damage: Damage) -> Option<T> {
        self.corrupt += 1;
        if self.damaged.len() < DAMAGED_MAX {
            self.damaged.push(damage);
        }
        None
    }
}

impl RedisStore {
    pub(super) fn gather(
        &self,
        visit: &mut dyn FnMut(Dossier) -> ControlFlow<()>,
    ) -> Result<Gathered, Failure> {
        let mut sieve = Sieve::default();
        let mut gathered = Gathered::default();
        'tenants: for tenant in self.tenants("i")? {
            let mut after: Option<String> = None;
            loop {
                let found = self.gather_behind(&tenant, after.as_deref(), &mut sieve)?;
                let Some((last, _)) = found.last() else { break };
                after = Some(last.clone());
                for dossier in found.into_iter().filter_map(|(_, dossier)| dossier) {
                    gathered.instances += 1;
                    if visit(dossier).is_break() {
                        break 'tenants;
                    }
                }
            }
        }
        self.quarantine(&sieve.damaged);
        gathered.corrupt = sieve.corrupt;
        Ok(gathered)
    }

    /// All tenants that have a key of this kind: `i` for those that have an instance, `open` for those that have an open one.
    pub(super) fn tenants(&self, kind: &str) -> Result<BTreeSet<TenantId>, Failure> {
        let (start, end) = (format!("{}:{{b", self.keys().prefix), format!("}}:{kind}:"));
        // What stands for anything in a pattern stands for itself in a prefix.
        let pattern: String = self
            .keys()
            .prefix
            .chars()
            .flat_map(|char| {
                let is_special = matches!(char, '*' | '?' | '[' | ']' | '\\');
                is_special.then_some('\\').into_iter().chain([char])
            })
            .collect();
        let pattern = format!("{pattern}:{{b*}}:{kind}:*");
        let mut tenants = BTreeSet::new();
        for node in self.servers.all()? {
            let mut connection = node.take()?;
            let mut cursor = "0".to_owned();
            loop {
                let mut scan = cmd("SCAN");
                scan.arg(&cursor).arg("MATCH").arg(&pattern).arg("COUNT").arg(KEYS);
                let answer = scan.query::<(String, Vec<String>)>(&mut connection);
                let (next, keys) = answer.map_err(|error| Failure::at_call(&node.address, &error))?;
                for key in &keys {
                    let about =
                        key.strip_prefix(&start).and_then(|rest| Some(rest.split_once(end.as_str())?.1));
                    let tenant = about.and_then(|about| unescaped(about.split(':').next()?));
                    tenants.extend(tenant.and_then(|tenant| TenantId::stored(&tenant).ok()));
                }
                if next == "0" {
                    break;
                }
                cursor = next;
            }
            node.give_back(connection);
        }
        Ok(tenants)
    }

    /// The next instances of a tenant by their ids, each with its dossier unless it is gone or damaged.
    fn gather_behind(
        &self,
        tenant: &TenantId,
        after: Option<&str>,
        sieve: &mut Sieve,
    ) -> Result<Vec<(String, Option<Dossier>)>, Failure> {
        let packed = Packer::array_of(4, |p| {
            p.text(&escaped(tenant.as_str())).optional_text(after).number(INSTANCES as i64);
            p.flag(self.ttl().is_some());
        });
        let answer = self.ask_one(self.call(self.keys().bucket_of(tenant), &script::GATHER, packed))?;
        let found = value::list(answer)?.into_iter();
        found.map(|parts| self.gathered(tenant, value::list(parts)?, sieve)).collect()
    }

    /// The instance in a part of an answer of `gather.lua`.
    fn gathered(
        &self,
        tenant: &TenantId,
        parts: Vec<Value>,
        sieve: &mut Sieve,
    ) -> Result<(String, Option<Dossier>), Failure> {
        let secrets = &self.records.secrets;
        let parts: [Value; 7] = match parts.try_into() {
            Ok(parts) => parts,
            Err(rest) => {
                let [id, is_lost] = value::parts(Value::Array(rest))?;
                let id = value::text(id)?;
                if value::number(is_lost)? == 1 {
                    let _: Option<()> = sieve.leave_out(lost("instances", &format!("{tenant}/{id}"), LOST));
                }
                return Ok((id, None));
            }
        };
        let [id, head, body, lines, questions, phases, effects] = parts;
        let (id, head) = (value::text(id)?, value::bytes(head)?);
        let body = value::optional_bytes(body)?.unwrap_or_default();
        let Some(snapshot) = sieve.keep(row::instance(tenant, &id, &head, &body, secrets))? else {
            return Ok((id, None));
        };
        let mut dossier = Dossier::of(snapshot);
        dossier.note_body(&body);
        for (receipt, line) in value::pairs(lines)? {
            let receipt = value::text(receipt)?;
            let Some(line) = value::optional_bytes(line)? else {
                let _: Option<()> = sieve.leave_out(lost("log", &format!("{tenant}/{id}/{receipt}"), LOST));
                continue;
            };
            let number = u128::from_str_radix(&receipt, 16).map_err(|_| Failure::strange(&receipt))?;
            if let Some((_, entry)) = sieve.keep(row::entry(number.to_be_bytes(), &line, secrets))? {
                dossier.note_body(row::body_of(&line));
                dossier.entries.push(entry);
            }
        }
        for (name, value) in value::pairs(questions)? {
            let (name, value) = (value::text(name)?, value::bytes(value)?);
            let question: Option<Clarification> =
                sieve.keep(row::question(tenant, &name, &value, secrets))?;
            dossier.note_body(row::body_of(&value));
            dossier.clarifications.extend(question);
        }
        for (place, line) in value::pairs(phases)? {
            let place = value::number(place)?;
            let place = u16::try_from(place).map_err(|_| Failure::strange(&place.to_string()))?;
            let line = sieve.keep(row::phase(tenant, &id, place, &value::bytes(line)?))?;
            dossier.phases.extend(line.map(|line| line.row));
        }
        dossier.phases.sort_by_key(|row| row.place);
        self.gathered_effects(tenant, value::list(effects)?, &mut dossier, sieve)?;
        dossier.sort();
        Ok((id, Some(dossier)))
    }

    fn gathered_effects(
        &self,
        tenant: &TenantId,
        parts: Vec<Value>,
        dossier: &mut Dossier,
        sieve: &mut Sieve,
    ) -> Result<(), Failure> {
        let mut parts = parts.into_iter();
        while let (Some(key), Some(effect), Some(progress)) = (parts.next(), parts.next(), parts.next()) {
            let key = value::text(key)?;
            let Some(bytes) = value::optional_bytes(effect)? else {
                let _: Option<()> = sieve.leave_out(lost("outbox", &format!("{tenant}/{key}"), LOST));
                continue;
            };
            let progress = value::optional_bytes(progress)?.unwrap_or_default();
            if let Some(effect) =
                sieve.keep(row::effect(tenant, &key, &bytes, &progress, &self.records.secrets))?
            {
                dossier.note_body(row::body_of(&bytes));
                dossier.effects.push(effect);
            }
        }
        Ok(())
    }

    pub(super) fn take_in_all(&self, dossiers: &[Filed<'_>]) -> Result<(), CommitError> {
        let mut groups: Vec<(Place, Vec<&Filed<'_>>)> = Vec::new();
        for filed in dossiers {
            let place = self.keys().bucket_of(&filed.instance.snapshot.tenant);
            match groups.iter_mut().find(|(known, _)| *known == place) {
                Some((_, group)) => group.push(filed),
                None => groups.push((place, vec![filed])),
            }
        }
        if groups.is_empty() {
            return Ok(());
        }
        // As with commits: one call for one server, and so all or none.
        let each: usize = if self.servers.is_cluster { 1 } else { groups.len() };
        let calls = groups.chunks(each).map(|groups| {
            let packed = Packer::array_of(2, |p| {
                p.optional_number(self.ttl());
                p.array(groups.len());
                for (place, group) in groups {
                    p.array(2).number(self.seen(*place)).array(group.len());
                    group.iter().for_each(|filed| pack_filed(p, filed));
                }
            });
            let keys = groups.iter().map(|(place, _)| self.keys().meta(*place)).collect();
            Call::script(groups[0].0, &script::TAKE_IN, keys, &self.identity, packed)
        });
        let calls: Vec<Call> = calls.collect();
        let answers = failure::all(self.servers.ask_and_wait(&calls, self.location.wait))?;
        for (groups, answer) in groups.chunks(each).zip(answers) {
            if let Value::BulkString(id) = &answer {
                let mut all = groups.iter().flat_map(|(_, group)| group).map(|filed| filed.instance.snapshot);
                let there = all.find(|snapshot| snapshot.instance.as_str().as_bytes() == &id[..]);
                return Err(
                    there.map_or_else(|| Failure::strange("an instance that is there").into(), is_there)
                );
            }
            for ((place, _), reply) in groups.iter().zip(value::list(answer)?) {
                let [seq, effects, lost] = value::parts(reply)?;
                self.heard(*place, value::number(seq)?, value::number(effects)?);
                let lost = value::number(lost)?;
                if lost > 0 {
                    self.note_loss(*place, lost);
                }
            }
        }
        Ok(())
    }
}

/// As `take_in.lua` says what is in a chain.
fn pack_filed(p: &mut Packer, filed: &Filed<'_>) {
    let snapshot = filed.instance.snapshot;
    p.array(10);
    p.text(&escaped(snapshot.tenant.as_str())).text(&escaped(snapshot.instance.as_str()));
    p.text(snapshot.instance.as_str()).number(0).flag(snapshot.tenant.is_beside());
    p.array(filed.lines.len());
    filed.lines.iter().for_each(|line| pack_line(p, line));
    pack_instance(p, &filed.instance);
    pack_questions(p, &filed.clarifications.iter().collect::<Vec<_>>());
    pack_phases(p, &filed.phases.iter().collect::<Vec<_>>());
    p.array(filed.effects.len());
    filed.effects.iter().for_each(|(row, effect)| pack_effect(p, row, effect));
}

fn pack_effect(p: &mut Packer, row: &EffectRow<'_>, effect: &OutboxEffect) {
    p.array(6).text(&row.effect.key).number(effect.seq.cast_signed()).optional_text(row::lane(row.effect));
    p.number(row.created_at.as_millis()).text(&row::effect_value(row));
    p.array(8).text(effect.status.as_str()).number(effect.attempts.into()).number(effect.parts_done.into());
    p.optional_number(effect.due_at.map(Timestamp::as_millis));
    p.optional_number(effect.settled_at.map(Timestamp::as_millis));
    p.optional_text(effect.stage.map(DeliveryStage::as_str));
    p.optional_text(effect.provider_id.as_deref()).optional_text(effect.error.as_deref());
}
