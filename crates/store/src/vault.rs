//! The vault: data keys by tenant, wrapped by master keys, and what is sealed with them in a record.
//!
//! A tenant's values are encrypted with a data key of its own, which is kept in the store as a setting of the tenant,
//! encrypted with a master key that the store never sees. Owns the keys and which of them is used next. Which parts of a
//! record are sealed is told in `parts`; loading and saving the settings is for `keyed`.

mod cipher;
pub mod keyed;
mod master;
pub(crate) mod parts;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use kernel::id::TenantId;
use kernel::time::Timestamp;
use serde::{Deserialize, Serialize};

use self::cipher::Key;
pub use self::master::MasterKey;
use crate::Setting;

/// A data key's setting is called this and the key's id.
const SETTING_PREFIX: &str = "key:";
/// Random, so that two servers that make a key at once make two.
const KEY_ID_BYTES: usize = 8;

/// Whoever has no key is told how to get one.
pub const NO_KEY: &str = "there is no encryption key: set STATEWRIGHT_ENCRYPTION_KEY to what `openssl rand -base64 32` \
                          prints, or list `keys` under [encryption] in statewright.toml";

/// Keys, in memory. Shared by all that reads and writes records of one store.
#[derive(Debug, Default)]
pub struct Vault {
    /// The first wraps; the others are there for what they have wrapped.
    masters: Vec<MasterKey>,
    known: RwLock<Known>,
}

#[derive(Debug, Default)]
struct Known {
    keys: HashMap<(TenantId, Arc<str>), DataKey>,
    /// What is written next is sealed with it.
    current: HashMap<TenantId, Arc<str>>,
    /// Keys that were asked for and that no setting was known of.
    missing: HashSet<(TenantId, Arc<str>)>,
    /// How often something new was learned.
    generation: u64,
}

#[derive(Clone, Debug)]
struct DataKey {
    created_at: Timestamp,
    master: Arc<str>,
    /// Or why it cannot be used.
    key: Result<Key, Arc<str>>,
}

/// The body of a data key's setting.
#[derive(Debug, Serialize, Deserialize)]
struct Wrapped {
    /// The id of the master key.
    kek: String,
    wrapped: String,
    created_at: Timestamp,
}

/// A record that is whole, and that this server has no key to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Locked {
    pub detail: String,
    /// The key may be in a setting that has not been read yet: it is worth asking again at once.
    pub may_open: bool,
}

/// A data key, as it is told of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KeyReport {
    pub tenant: TenantId,
    /// Of the data key.
    pub id: String,
    /// The master key that it is wrapped by.
    pub kek: String,
    pub created_at: Timestamp,
    /// What is written now is encrypted with it.
    pub current: bool,
    /// Why it cannot be used, if it cannot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

impl Vault {
    /// # Errors
    /// A fragment, when two keys have the same id.
    pub fn new(masters: Vec<MasterKey>) -> Result<Self, String> {
        let mut seen = HashSet::new();
        match masters.iter().find(|master| !seen.insert(master.id())) {
            Some(twice) => Err(format!("two encryption keys have the id `{}`", twice.id())),
            None => Ok(Self { masters, known: RwLock::default() }),
        }
    }

    /// Whether there is a master key to wrap anything by.
    pub fn has_master(&self) -> bool {
        !self.masters.is_empty()
    }

    /// Takes in what settings say of data keys; others are passed over.
    pub(crate) fn learn(&self, settings: &[Setting]) {
        for setting in settings {
            let Some(id) = setting.name.strip_prefix(SETTING_PREFIX) else { continue };
            // What is no key by its body is none: it is damaged by hand, and what it opened stays closed.
            let Ok(wrapped) = Wrapped::deserialize(&setting.body) else { continue };
            let place = (setting.tenant.clone(), Arc::from(id));
            if self.read().keys.get(&place).is_some_and(|key| *key.master == *wrapped.kek && key.key.is_ok())
            {
                continue;
            }
            let key = self.unwrap(&setting.tenant, id, &wrapped);
            let mut known = self.write();
            // A key that is open stays so, whatever it is wrapped by now.
            let before = known.keys.get(&place).and_then(|key| key.key.clone().ok());
            let key = key.or_else(|problem| before.ok_or(problem));
            let data = DataKey { created_at: wrapped.created_at, master: wrapped.kek.into(), key };
            known.missing.remove(&place);
            known.generation += 1;
            let newest = known.current.get(&place.0).and_then(|id| {
                let current = known.keys.get(&(place.0.clone(), Arc::clone(id)))?;
                Some((current.created_at, Arc::clone(id)))
            });
            if data.key.is_ok()
                && newest.is_none_or(|newest| newest < (data.created_at, Arc::clone(&place.1)))
            {
                known.current.insert(place.0.clone(), Arc::clone(&place.1));
            }
            known.keys.insert(place, data);
        }
    }

    fn unwrap(&self, tenant: &TenantId, id: &str, wrapped: &Wrapped) -> Result<Key, Arc<str>> {
        let kek = &wrapped.kek;
        let Some(master) = self.masters.iter().find(|master| master.id() == kek) else {
            return Err(format!("it needs the encryption key `{kek}`, which the settings do not have").into());
        };
        let key = master.key.open(&wrapped.wrapped, &bound_to_key(tenant, id, kek));
        let key = key.and_then(|key| Key::of_bytes(&key));
        key.ok_or_else(|| {
            format!(
                "the encryption key `{kek}` of the settings is another than the one it was encrypted with"
            )
            .into()
        })
    }

    /// A new data key for a tenant, as the setting in which it has to be saved before it is learned and used.
    ///
    /// # Errors
    /// A fragment, when there is no master key, or no randomness.
    pub(crate) fn new_key(&self, tenant: &TenantId, now: Timestamp) -> Result<Setting, String> {
        let mut id = [0; KEY_ID_BYTES];
        cipher::fill(&mut id)?;
        self.wrap(tenant, &master::to_hex(&id), &Key::random()?, now, now)
    }

    fn wrap(
        &self,
        tenant: &TenantId,
        id: &str,
        key: &Key,
        created_at: Timestamp,
        now: Timestamp,
    ) -> Result<Setting, String> {
        let Some(master) = self.masters.first() else { return Err(NO_KEY.to_owned()) };
        let wrapped = master.key.seal(key.bytes(), &bound_to_key(tenant, id, master.id()))?;
        let body = Wrapped { kek: master.id().to_owned(), wrapped, created_at };
        let body = serde_json::to_value(&body).map_err(|error| error.to_string())?;
        Ok(Setting { tenant: tenant.clone(), name: format!("{SETTING_PREFIX}{id}"), body, saved_at: now })
    }

    /// Every data key that is open and not wrapped by the first master key, wrapped anew.
    ///
    /// # Errors
    /// As `new_key`.
    pub(crate) fn rewrapped(&self, now: Timestamp) -> Result<Vec<Setting>, String> {
        let Some(first) = self.masters.first() else { return Err(NO_KEY.to_owned()) };
        let known = self.read();
        let old = known.keys.iter().filter(|(_, data)| *data.master != *first.id());
        let open = old.filter_map(|((tenant, id), data)| Some((tenant, id, data, data.key.as_ref().ok()?)));
        open.map(|(tenant, id, data, key)| self.wrap(tenant, id, key, data.created_at, now)).collect()
    }

    /// The keys of one tenant, or of all, by tenant and age.
    pub(crate) fn report(&self, of: Option<&TenantId>) -> Vec<KeyReport> {
        let known = self.read();
        let wanted = known.keys.iter().filter(|((tenant, _), _)| of.is_none_or(|of| of == tenant));
        let report = |((tenant, id), data): (&(TenantId, Arc<str>), &DataKey)| KeyReport {
            tenant: tenant.clone(),
            id: id.to_string(),
            kek: data.master.to_string(),
            created_at: data.created_at,
            current: known.current.get(tenant) == Some(id),
            problem: data.key.as_ref().err().map(ToString::to_string),
        };
        let mut reports: Vec<KeyReport> = wanted.map(report).collect();
        reports.sort_by(|a, b| (&a.tenant, a.created_at, &a.id).cmp(&(&b.tenant, b.created_at, &b.id)));
        reports
    }

    pub(crate) fn has_current(&self, tenant: &TenantId) -> bool {
        self.read().current.contains_key(tenant)
    }

    /// The name of the setting with the key that a tenant's values are sealed with next.
    pub(crate) fn current_setting(&self, tenant: &TenantId) -> Option<String> {
        self.read().current.get(tenant).map(|id| format!("{SETTING_PREFIX}{id}"))
    }

    pub(crate) fn generation(&self) -> u64 {
        self.read().generation
    }

    pub(crate) fn is_missing_any(&self) -> bool {
        !self.read().missing.is_empty()
    }

    /// What has not been learned by now is nowhere in the store.
    pub(crate) fn give_up_missing(&self) {
        let mut known = self.write();
        for place in std::mem::take(&mut known.missing) {
            let problem = format!("its data key `{}` is not in the store", place.1);
            let nowhere = DataKey {
                created_at: Timestamp::from_millis(i64::MIN),
                master: "".into(),
                key: Err(problem.into()),
            };
            known.keys.entry(place).or_insert(nowhere);
        }
    }

    /// The key that a tenant's values are sealed with next, and its id.
    fn current(&self, tenant: &TenantId) -> Option<(Arc<str>, Key)> {
        let known = self.read();
        let id = known.current.get(tenant)?;
        let data = known.keys.get(&(tenant.clone(), Arc::clone(id)))?;
        Some((Arc::clone(id), data.key.clone().ok()?))
    }

    fn key(&self, tenant: &TenantId, id: &str) -> Result<Key, Locked> {
        let place = (tenant.clone(), Arc::from(id));
        if let Some(data) = self.read().keys.get(&place) {
            return data
                .key
                .clone()
                .map_err(|problem| Locked { detail: problem.to_string(), may_open: false });
        }
        let detail = format!("its data key `{id}` is not known here yet");
        self.write().missing.insert(place);
        Err(Locked { detail, may_open: true })
    }

    fn read(&self) -> RwLockReadGuard<'_, Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Known> {
        self.known.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A wrapped key opens as this tenant's key of this id only.
fn bound_to_key(tenant: &TenantId, id: &str, kek: &str) -> Vec<u8> {
    let mut bound = b"statewright data key".to_vec();
    for part in [tenant.as_str(), id, kek] {
        bound.extend_from_slice(&(part.len() as u64).to_le_bytes());
        bound.extend_from_slice(part.as_bytes());
    }
    bound
}
