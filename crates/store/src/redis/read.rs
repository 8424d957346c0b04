//! Single records, definitions and settings; and counts.

use std::collections::BTreeMap;

use kernel::commit::Entry;
use kernel::conversation::ClarificationStatus;
use kernel::flow::PhaseState;
use kernel::id::{InstanceId, MachineName, Subject, TenantId};
use kernel::input::ReceiptId;
use kernel::snapshot::Snapshot;
use kernel::time::Timestamp;
use redis::{Value, cmd};

use crate::outbox::EffectStatus;
use crate::record::definition_checksum;
use crate::redis::failure::{self, Failure};
use crate::redis::keys::{Place, escaped};
use crate::redis::pack::Packer;
use crate::redis::servers::Call;
use crate::redis::{RedisStore, lost, script, value};
use crate::row;
use crate::row::Fault;
use crate::seal::{self, Damage};
use crate::vault::Locked;
use crate::{LoadError, Setting, StoreStatistics, StoredDefinition};

pub(super) const LOST: &str = "it was saved and is gone: evicted or lost";

impl RedisStore {
    pub(super) fn load_instance(
        &self,
        tenant: &TenantId,
        instance: &InstanceId,
    ) -> Result<Option<Snapshot>, LoadError> {
        let answer = self.ask_one(self.load_call(tenant, instance.as_str()))?;
        self.loaded(tenant, answer)
    }

    pub(super) fn load_call(&self, tenant: &TenantId, id: &str) -> Call {
        let packed = Packer::array_of(4, |p| {
            p.text(&escaped(tenant.as_str())).text(id).flag(false).flag(self.ttl().is_some());
        });
        self.call(self.keys().bucket_of(tenant), &script::LOAD, packed)
    }

    pub(super) fn load_last_session(
        &self,
        tenant: &TenantId,
        machine: &MachineName,
        subject: &Subject,
    ) -> Result<Option<Snapshot>, LoadError> {
        let tenant_name = escaped(tenant.as_str());
        let sessions = format!("{tenant_name}:{}:{}", escaped(machine.as_str()), escaped(subject.as_str()));
        let packed = Packer::array_of(4, |p| {
            p.text(&tenant_name).flag(false).text(&sessions).flag(self.ttl().is_some());
        });
        let answer = self.ask_one(self.call(self.keys().bucket_of(tenant), &script::LOAD, packed))?;
        self.loaded(tenant, answer)
    }

    /// The instance in an answer of `load.lua`.
    pub(super) fn loaded(&self, tenant: &TenantId, answer: Value) -> Result<Option<Snapshot>, LoadError> {
        if answer == Value::Nil {
            return Ok(None);
        }
        let mut parts = value::list(answer)?.into_iter();
        let id = value::text(parts.next().unwrap_or_default())?;
        let (Some(head), Some(body)) = (parts.next(), parts.next()) else {
            let damage = lost("instances", &format!("{tenant}/{id}"), LOST);
            return self.one(Err(seal::Fault::Damaged(Box::new(damage))));
        };
        let (head, body) = (value::bytes(head)?, value::optional_bytes(body)?.unwrap_or_default());
        self.one(row::instance(tenant, &id, &head, &body, &self.records.secrets).map(Some))
    }

    /// One record, or what is wrong with it.
    fn one<T>(&self, found: Result<T, Fault>) -> Result<T, LoadError> {
        found.map_err(|fault| match fault {
            seal::Fault::Backend(never) => match never {},
            seal::Fault::Locked(locked) => LoadError::Unavailable(locked.detail),
            seal::Fault::NewerFormat(format) => {
                LoadError::Unavailable(format!("a newer program wrote it, in format {format}"))
            }
            seal::Fault::Damaged(damage) => {
                self.quarantine(std::slice::from_ref(&*damage));
                LoadError::Corrupt { record: damage.key, detail: damage.detail }
            }
        })
    }

    /// The line that an input left under this receipt.
    pub(super) fn line(&self, tenant: &TenantId, receipt: ReceiptId) -> Result<Option<Vec<u8>>, Failure> {
        let place = self.keys().bucket_of(tenant);
        let mut whose = cmd("HGET");
        whose.arg(self.keys().meta(place)).arg("store");
        let mut get = cmd("GET");
        get.arg(format!("{}e:{}", self.keys().home(place), row::receipt_name(receipt.0.0.to_be_bytes())));
        let calls = [Call::command(place, whose), Call::command(place, get)];
        let [whose, line] = value::parts(Value::Array(failure::all(self.servers.ask(&calls))?))?;
        if value::optional_text(whose)?.as_ref() != Some(&self.identity) {
            let key = self.keys().meta(place);
            return Err(Failure::NotRun(format!("the store lost a bucket: its key `{key}` is gone")));
        }
        value::optional_bytes(line)
    }

    pub(super) fn find_receipt(
        &self,
        tenant: &TenantId,
        receipt: ReceiptId,
    ) -> Result<Option<(InstanceId, Entry)>, LoadError> {
        let line = self.line(tenant, receipt)?;
        let secrets = &self.records.secrets;
        let opened = |line: Vec<u8>| self.one(row::entry(receipt.0.0.to_be_bytes(), &line, secrets));
        line.map(opened).transpose()
    }

    pub(super) fn keep_definition(&self, definition: &StoredDefinition) -> Result<(), Failure> {
        let value = row::definition_value(definition, definition_checksum(definition));
        self.keep("definitions", definition.hash.as_str(), &value)
    }

    pub(super) fn keep_setting(&self, setting: &Setting, body: &str, checksum: i64) -> Result<(), Failure> {
        let field = format!("{}:{}", escaped(setting.tenant.as_str()), escaped(&setting.name));
        self.keep("settings", &field, &row::setting_value(setting, body, checksum))
    }

    fn keep(&self, what: &str, name: &str, value: &str) -> Result<(), Failure> {
        let packed = Packer::array_of(3, |p| {
            p.text(what).text(name).text(value);
        });
        self.tell_one(self.call(Place::Meta, &script::KEEP, packed)).map(|_| ())
    }

    pub(super) fn kept_definitions(&self) -> Result<Vec<StoredDefinition>, Failure> {
        self.kept("definitions", row::definition)
    }

    pub(super) fn kept_settings(&self) -> Result<Vec<Setting>, Failure> {
        let mut settings = self.kept("settings", row::setting)?;
        settings.sort_by(|a, b| (&a.tenant, &a.name).cmp(&(&b.tenant, &b.name)));
        Ok(settings)
    }

    fn kept<T>(
        &self,
        what: &'static str,
        open: impl Fn(&str, &[u8]) -> Result<T, Fault>,
    ) -> Result<Vec<T>, Failure> {
        let packed = Packer::array_of(1, |p| {
            p.text(what);
        });
        let answer = self.ask_one(self.call(Place::Meta, &script::KEPT, packed))?;
        let mut sieve = Sieve::default();
        let mut kept = Vec::new();
        for (name, found) in value::pairs(answer)? {
            let name = value::text(name)?;
            let opened = match value::optional_bytes(found)? {
                Some(bytes) => sieve.keep(open(&name, &bytes)),
                None => sieve.lost(what, &name),
            };
            kept.extend(opened);
        }
        self.quarantine(&sieve.damaged);
        Ok(kept)
    }

    pub(super) fn count_all(&self) -> Result<StoreStatistics, Failure> {
        let counts = self.ask_all(|home| {
            let mut command = cmd("HGETALL");
            command.arg(format!("{home}counts"));
            command
        })?;
        let mut figures = StoreStatistics {
            clarifications: ClarificationStatus::ALL.map(|status| (status.as_str(), 0)).into(),
            effects: EffectStatus::ALL.map(|status| (status.as_str(), 0)).into(),
            ..StoreStatistics::default()
        };
        let (mut deadlines, mut seconds) = (0, 0);
        for (_, fields) in counts {
            for (field, count) in value::pairs(fields)? {
                let (field, count) = (value::text(field)?, value::number(count)?);
                match field.as_str() {
                    "d\u{1f}count" => deadlines += count,
                    "d\u{1f}seconds" => seconds += count,
                    _ => add(&mut figures, &field, u64::try_from(count).unwrap_or(0)),
                }
            }
        }
        figures.mean_deadline = (deadlines > 0).then(|| Timestamp::from_millis(seconds / deadlines * 1_000));
        let latest = self.ask_all(|home| {
            let mut command = cmd("HMGET");
            command.arg(format!("{home}meta")).arg("store").arg("latest");
            command
        })?;
        for (place, fields) in latest {
            let [store, latest] = value::parts(fields)?;
            if value::optional_text(store)?.as_ref() != Some(&self.identity) {
                let key = self.keys().meta(place);
                return Err(Failure::NotRun(format!("the store lost a bucket: its key `{key}` is gone")));
            }
            let latest = value::optional_text(latest)?.and_then(|ms| ms.parse().ok());
            figures.latest_change = figures.latest_change.max(latest.map(Timestamp::from_millis));
        }
        let mut size = cmd("HLEN");
        size.arg(self.keys().home(Place::Meta) + "quarantine");
        let quarantined = value::number(self.ask_one(Call::command(Place::Meta, size))?)?;
        figures.quarantined = u64::try_from(quarantined).unwrap_or(0);
        Ok(figures)
    }
}

/// Adds a count under the name that the scripts have given it.
fn add(figures: &mut StoreStatistics, field: &str, count: u64) {
    if count == 0 {
        return;
    }
    let mut parts = field.splitn(3, '\u{1f}');
    let (Some(kind), Some(first)) = (parts.next(), parts.next()) else { return };
    let known = |figures: &mut BTreeMap<&'static str, u64>| {
        if let Some(figure) = figures.get_mut(first) {
            *figure += count;
        }
    };
    let mut named = || (first.to_owned(), parts.next().unwrap_or_default().to_owned());
    match kind {
        "o" => *figures.open.entry(named()).or_default() += count,
        "c" => *figures.closed.entry(named()).or_default() += count,
        "q" => known(&mut figures.clarifications),
        "e" => known(&mut figures.effects),
        "p" => {
            let (machine, state) = named();
            if let Some(state) = PhaseState::parse(&state) {
                *figures.phases.entry((machine, state)).or_default() += count;
            }
        }
        _ => {}
    }
}

/// Lets through what is whole, and gathers what is not.
#[derive(Debug, Default)]
pub(super) struct Sieve {
    pub damaged: Vec<Damage>,
    /// The first for which there is no key.
    pub locked: Option<Box<Locked>>,
}

impl Sieve {
    pub fn keep<T>(&mut self, found: Result<T, Fault>) -> Option<T> {
        match found {
            Ok(record) => Some(record),
            Err(seal::Fault::Backend(never)) => match never {},
            Err(seal::Fault::NewerFormat(_)) => None,
            Err(seal::Fault::Locked(locked)) => {
                self.locked.get_or_insert(locked);
                None
            }
            Err(seal::Fault::Damaged(damage)) => {
                self.damaged.push(*damage);
                None
            }
        }
    }

    /// To leave out what there is no key to would say that it is not there.
    pub fn all_open(&self) -> Result<(), Failure> {
        match &self.locked {
            Some(locked) => Err(Failure::NotRun(locked.detail.clone())),
            None => Ok(()),
        }
    }

    pub fn lost<T>(&mut self, source: &'static str, key: &str) -> Option<T> {
        self.damaged.push(lost(source, key, LOST));
        None
    }
}
