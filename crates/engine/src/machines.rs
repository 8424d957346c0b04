//! The machines that are known: the current one of each name, and every version that an instance may be pinned to.
//!
//! A definition is checked and compiled before it is saved, and saved before anybody can use it. What tenants have made
//! of the machines that all have is in `overlays`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};

use kernel::definition;
use kernel::definition::overlay::Parts;
use kernel::diagnostic::{Diagnostic, nearest};
use kernel::id::{DefinitionHash, MachineName, TenantId};
use kernel::machine::Machine;
use kernel::snapshot::Snapshot;
use kernel::time::Timestamp;
use store::vault::NO_KEY;
use store::{CommitError, LoadError, Store, StoredDefinition};

use crate::EngineError;
use crate::overlays::Overlays;

#[derive(Debug, Default)]
pub struct Machines {
    known: RwLock<Known>,
    /// Held while one definition is saved and made current, so that memory and store agree on which came last.
    activation: Mutex<()>,
}

#[derive(Debug, Default)]
pub(crate) struct Known {
    pub(crate) current: BTreeMap<MachineName, Arc<Machine>>,
    pub(crate) by_hash: HashMap<DefinitionHash, Arc<Machine>>,
    pub(crate) overlays: Overlays,
    /// What is stored and does not load.
    unfit: BTreeSet<String>,
}

/// Why a definition was not activated.
#[derive(Debug)]
pub enum MachinesError {
    /// Something is wrong with it; warnings are among these, errors first of all.
    Diagnostics(Vec<Diagnostic>),
    /// There is no machine that an overlay would change.
    UnknownBase(EngineError),
    /// It has secret fields, and the store has no key to encrypt them with.
    NeedsKey(MachineName),
    /// Open instances are in states that it does not have, and no migration says where those lead.
    Unmapped {
        machine: MachineName,
        open: BTreeMap<String, u64>,
    },
    Load(LoadError),
    Commit(CommitError),
}

impl fmt::Display for MachinesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Diagnostics(all) => write!(f, "the definition has {} problem(s)", all.len()),
            Self::UnknownBase(error) => error.fmt(f),
            Self::NeedsKey(machine) => {
                write!(
                    f,
                    "`{machine}` has secret fields, which are encrypted where they are stored, and {NO_KEY}"
                )
            }
            Self::Unmapped { machine, open } => {
                let states = open.iter().map(|(state, count)| format!("{count} in `{state}`"));
                let states = states.collect::<Vec<_>>().join(", ");
                write!(
                    f,
                    "`{machine}` has no such states, and instances are open there: {states}; say under `migrations` where they lead, or `null` for those that stay with their version"
                )
            }
            Self::Load(error) => error.fmt(f),
            Self::Commit(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for MachinesError {}

impl Machines {
    /// All definitions that the store has; the last saved of a name is current. Those of tenants with overlays too.
    ///
    /// # Errors
    /// When the store cannot be read. A definition that no longer loads is left out and logged.
    pub fn from_store(store: &dyn Store) -> Result<Self, MachinesError> {
        let machines = Self::default();
        let mut unfit = BTreeSet::new();
        for stored in store.definitions().map_err(MachinesError::Load)? {
            match definition::load_own(&stored.source).0 {
                Some(machine) if machine.is_customised() => machines.pin(Arc::new(machine)),
                Some(machine) => machines.insert(Arc::new(machine)),
                // Its instances are refused with `definition`; everybody else goes on.
                None => {
                    tracing::error!(
                        machine = %stored.machine,
                        version = stored.version,
                        hash = stored.hash.as_str(),
                        "failed to load a stored definition: this release does not accept it"
                    );
                    unfit.insert(format!("{} {}", stored.machine, stored.version));
                }
            }
        }
        machines.write().unfit = unfit;
        machines.refresh_overlays(store)?;
        Ok(machines)
    }

    /// Takes over what other servers over the same store have activated: the last saved of a name is current, whoever
    /// saved it.
    ///
    /// # Errors
    /// When the store cannot be read; what was known stays known.
    pub fn refresh(&self, store: &dyn Store) -> Result<(), LoadError> {
        let _one_at_a_time = self.one_at_a_time();
        let mut last = BTreeMap::new();
        let mut unfit = BTreeSet::new();
        for stored in store.definitions()? {
            let known = self.by_hash(&stored.hash);
            let loaded = known.or_else(|| definition::load_own(&stored.source).0.map(Arc::new));
            match loaded {
                Some(machine) if machine.is_customised() => self.pin(machine),
                Some(machine) => _ = last.insert(machine.name.clone(), machine),
                // Said at the start, and by whoever activates it.
                None => _ = unfit.insert(format!("{} {}", stored.machine, stored.version)),
            }
        }
        self.write().unfit = unfit;
        for (name, machine) in last {
            if self.current(&name).is_ok_and(|current| current.hash == machine.hash) {
                continue;
            }
            tracing::info!(machine = %name, version = machine.version, "another server has activated it");
            self.insert(machine);
        }
        Ok(())
    }

    /// What is stored and this release does not accept, each by its name and its version: its instances wait.
    pub fn unfit(&self) -> Vec<String> {
        self.read().unfit.iter().cloned().collect()
    }

    /// Makes a definition that an instance names known, if it is not: another server may have activated it a moment ago, and
    /// nobody is asked to wait until this one has heard of it.
    ///
    /// # Errors
    /// When the store cannot be read. That the definition is nowhere is none.
    pub(crate) fn learn(&self, store: &dyn Store, definition: &DefinitionHash) -> Result<(), LoadError> {
        match self.by_hash(definition) {
            Some(_) => Ok(()),
            None => self.pin_stored(store, &[definition]),
        }
    }

    /// Makes those of the definitions known that another server has saved.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub(crate) fn pin_stored(&self, store: &dyn Store, wanted: &[&DefinitionHash]) -> Result<(), LoadError> {
        for stored in store.definitions()? {
            if wanted.contains(&&stored.hash)
                && self.by_hash(&stored.hash).is_none()
                && let Some(machine) = definition::load_own(&stored.source).0
            {
                self.pin(Arc::new(machine));
            }
        }
        Ok(())
    }

    /// Checks a definition, saves it, and makes it the current one of its name. Instances of other versions stay on
    /// theirs. The warnings come back with the machine. Tenants' overlays are applied to it; `misfits` has those that no
    /// longer fit.
    ///
    /// # Errors
    /// With every diagnostic if one of them is an error; nothing is changed then.
    pub fn activate(
        &self,
        store: &dyn Store,
        source: &str,
        now: Timestamp,
    ) -> Result<(Arc<Machine>, Vec<Diagnostic>), MachinesError> {
        let (machine, diagnostics) = definition::load(source);
        let Some(machine) = machine else {
            return Err(MachinesError::Diagnostics(diagnostics));
        };
        if let Some(parts) = Parts::of(source) {
            let message = "the text has an overlay in it, and would be everybody's".to_owned();
            let help = "activate what stands before the `---`, and set what stands behind it as an overlay";
            let diagnostic = Diagnostic::error("bad_overlay", parts.start(), message, help.into());
            return Err(MachinesError::Diagnostics(vec![diagnostic]));
        }
        let machine = self.adopt(store, Arc::new(machine), now)?;
        self.refit_overlays(store, &machine.name, now);
        Ok((machine, diagnostics))
    }

    /// Saves a machine that has been loaded already, and makes it the current one of its name. Overlays stay where they
    /// are until `refit_overlays`.
    ///
    /// # Errors
    /// When the store cannot save it; nothing is changed then.
    pub fn adopt(
        &self,
        store: &dyn Store,
        machine: Arc<Machine>,
        now: Timestamp,
    ) -> Result<Arc<Machine>, MachinesError> {
        let _one_at_a_time = self.one_at_a_time();
        if let Some(current) = self.current(&machine.name).ok().filter(|current| current.hash == machine.hash)
        {
            return Ok(current);
        }
        save(store, &machine, now)?;
        self.insert(Arc::clone(&machine));
        Ok(machine)
    }

    pub(crate) fn one_at_a_time(&self) -> MutexGuard<'_, ()> {
        self.activation.lock().expect("no thread panics while it holds this lock")
    }

    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Known> {
        self.known.read().expect("no thread panics while it holds this lock")
    }

    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, Known> {
        self.known.write().expect("no thread panics while it holds this lock")
    }

    /// # Errors
    /// When instances of any of the machines would have secrets that the store cannot keep.
    pub fn check_secrets(&self, store: &dyn Store) -> Result<(), MachinesError> {
        self.read().by_hash.values().try_for_each(|machine| check_secrets(store, machine))
    }

    /// Makes a machine known for the instances that are pinned to it.
    pub(crate) fn pin(&self, machine: Arc<Machine>) {
        self.write().by_hash.insert(machine.hash.clone(), machine);
    }

    fn insert(&self, machine: Arc<Machine>) {
        let mut known = self.write();
        known.by_hash.insert(machine.hash.clone(), Arc::clone(&machine));
        known.current.insert(machine.name.clone(), machine);
    }

    /// The machine that is current for a tenant, its overlay applied if it has one.
    ///
    /// # Errors
    /// As `current`.
    pub fn current_for(&self, tenant: &TenantId, name: &MachineName) -> Result<Arc<Machine>, EngineError> {
        match self.overlay(tenant, name) {
            Some(overlay) => Ok(Arc::clone(&overlay.machine)),
            None => self.current(name),
        }
    }

    /// The machine that all have who have not customised it.
    ///
    /// # Errors
    /// When there is none of this name; the error names the nearest.
    pub fn current(&self, name: &MachineName) -> Result<Arc<Machine>, EngineError> {
        let known = self.read();
        known.current.get(name).cloned().ok_or_else(|| EngineError::UnknownMachine {
            name: name.to_string(),
            help: nearest(
                name.as_str(),
                known.current.keys().filter(|known| !known.is_own()).map(MachineName::as_str),
            ),
        })
    }

    /// The machine that an instance is pinned to.
    ///
    /// # Errors
    /// When its definition is not known here.
    pub fn of(&self, snapshot: &Snapshot) -> Result<Arc<Machine>, EngineError> {
        self.by_hash(&snapshot.definition).ok_or_else(|| EngineError::NotFound {
            what: format!("definition {} of `{}`", snapshot.definition.as_str(), snapshot.machine),
        })
    }

    pub fn by_hash(&self, hash: &DefinitionHash) -> Option<Arc<Machine>> {
        let known = self.read();
        known.by_hash.get(hash).cloned()
    }

    /// The current machines, by name.
    pub fn all(&self) -> Vec<Arc<Machine>> {
        let known = self.read();
        known.current.values().cloned().collect()
    }

    /// Whether instances of a machine may have something secret: by any definition of it that is known here, what tenants
    /// have made of it among them. Where none is, nobody can say that they have not.
    pub fn may_hold_secrets(&self, name: &MachineName) -> bool {
        let known = self.read();
        let mut all = known.by_hash.values().filter(|machine| machine.name == *name).peekable();
        all.peek().is_none() || all.any(|machine| !machine.secrets.is_empty())
    }

    /// Every known version of a machine, oldest version first, without what tenants have made of it.
    pub fn versions(&self, name: &MachineName) -> Vec<Arc<Machine>> {
        let known = self.read();
        let mut versions: Vec<Arc<Machine>> =
            known.by_hash.values().filter(|m| m.name == *name && !m.is_customised()).cloned().collect();
        versions.sort_by_key(|m| (m.version, m.hash.clone()));
        versions
    }
}

pub(crate) fn save(store: &dyn Store, machine: &Machine, now: Timestamp) -> Result<(), MachinesError> {
    check_secrets(store, machine)?;
    let saved = store.save_definition(&StoredDefinition {
        hash: machine.hash.clone(),
        machine: machine.name.clone(),
        version: machine.version,
        source: machine.source.to_string(),
        saved_at: now,
    });
    saved.map_err(MachinesError::Commit)
}

fn check_secrets(store: &dyn Store, machine: &Machine) -> Result<(), MachinesError> {
    match machine.secrets.is_empty() || store.keeps_secrets() {
        true => Ok(()),
        false => Err(MachinesError::NeedsKey(machine.name.clone())),
    }
}
