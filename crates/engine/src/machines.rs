//! The machines that are known: the current one of each name, and every version that an instance may be pinned to.
//!
//! A definition is checked and compiled before it is saved, and saved before anybody can use it.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, RwLock};

use kernel::definition;
use kernel::diagnostic::{Diagnostic, nearest};
use kernel::id::{DefinitionHash, MachineName};
use kernel::machine::Machine;
use kernel::snapshot::Snapshot;
use kernel::time::Timestamp;
use store::{CommitError, LoadError, Store, StoredDefinition};

use crate::EngineError;

#[derive(Debug, Default)]
pub struct Machines {
    known: RwLock<Known>,
    /// Held while one definition is saved and made current, so that memory and store agree on which came last.
    activation: Mutex<()>,
}

#[derive(Debug, Default)]
struct Known {
    current: BTreeMap<MachineName, Arc<Machine>>,
    by_hash: HashMap<DefinitionHash, Arc<Machine>>,
}

/// Why a definition was not activated.
#[derive(Debug)]
pub enum MachinesError {
    /// Something is wrong with it; warnings are among these, errors first of all.
    Diagnostics(Vec<Diagnostic>),
    Load(LoadError),
    Commit(CommitError),
}

impl fmt::Display for MachinesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Diagnostics(all) => write!(f, "the definition has {} problem(s)", all.len()),
            Self::Load(error) => error.fmt(f),
            Self::Commit(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for MachinesError {}

impl Machines {
    /// All definitions that the store has; the last saved of a name is current.
    ///
    /// # Errors
    /// When the store cannot be read. A definition that no longer loads is left out and logged.
    pub fn from_store(store: &dyn Store) -> Result<Self, MachinesError> {
        let machines = Self::default();
        for stored in store.definitions().map_err(MachinesError::Load)? {
            match definition::load_own(&stored.source).0 {
                Some(machine) => machines.insert(Arc::new(machine)),
                // Its instances are refused with `definition`; everybody else goes on.
                None => tracing::error!(
                    machine = %stored.machine,
                    version = stored.version,
                    hash = stored.hash.as_str(),
                    "failed to load a stored definition: this release does not accept it"
                ),
            }
        }
        Ok(machines)
    }

    /// Checks a definition, saves it, and makes it the current one of its name. Instances of other versions stay on
    /// theirs. The warnings come back with the machine.
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
        Ok((self.adopt(store, Arc::new(machine), now)?, diagnostics))
    }

    /// Saves a machine that has been loaded already, and makes it the current one of its name.
    ///
    /// # Errors
    /// When the store cannot save it; nothing is changed then.
    pub fn adopt(
        &self,
        store: &dyn Store,
        machine: Arc<Machine>,
        now: Timestamp,
    ) -> Result<Arc<Machine>, MachinesError> {
        let _one_at_a_time = self.activation.lock().expect("no thread panics while it holds this lock");
        if let Some(current) = self.current(&machine.name).ok().filter(|current| current.hash == machine.hash)
        {
            return Ok(current);
        }
        let stored = StoredDefinition {
            hash: machine.hash.clone(),
            machine: machine.name.clone(),
            version: machine.version,
            source: machine.source.to_string(),
            saved_at: now,
        };
        store.save_definition(&stored).map_err(MachinesError::Commit)?;
        self.insert(Arc::clone(&machine));
        Ok(machine)
    }

    fn insert(&self, machine: Arc<Machine>) {
        let mut known = self.known.write().expect("no thread panics while it holds this lock");
        known.by_hash.insert(machine.hash.clone(), Arc::clone(&machine));
        known.current.insert(machine.name.clone(), machine);
    }

    /// # Errors
    /// When there is none of this name; the error names the nearest.
    pub fn current(&self, name: &MachineName) -> Result<Arc<Machine>, EngineError> {
        let known = self.known.read().expect("no thread panics while it holds this lock");
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
        let known = self.known.read().expect("no thread panics while it holds this lock");
        known.by_hash.get(hash).cloned()
    }

    /// The current machines, by name.
    pub fn all(&self) -> Vec<Arc<Machine>> {
        let known = self.known.read().expect("no thread panics while it holds this lock");
        known.current.values().cloned().collect()
    }

    /// Every known version of a machine, oldest version first.
    pub fn versions(&self, name: &MachineName) -> Vec<Arc<Machine>> {
        let known = self.known.read().expect("no thread panics while it holds this lock");
        let mut versions: Vec<Arc<Machine>> =
            known.by_hash.values().filter(|m| m.name == *name).cloned().collect();
        versions.sort_by_key(|m| (m.version, m.hash.clone()));
        versions
    }
}
