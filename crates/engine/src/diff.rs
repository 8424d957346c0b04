//! Two definitions of a machine compared, and the instances that run by the earlier one.
//!
//! Owns which two are meant and how instances are counted. What differs is for `kernel::definition::diff` to say. Nothing
//! is changed.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kernel::definition;
use kernel::definition::diff::{Change, diff};
use kernel::definition::overlay::Parts;
use kernel::diagnostic::Diagnostic;
use kernel::id::{DefinitionHash, MachineName, TenantId};
use kernel::machine::Machine;
use kernel::snapshot::Snapshot;
use kernel::time::Timestamp;
use serde::Serialize;
use store::{InstanceQuery, LoadError, StoredDefinition};

use crate::{Engine, EngineError};

/// Open instances that are looked at for one question. With those, an answer takes a second or two.
const INSTANCES_MAX: usize = 100_000;
/// Instances that are loaded at a time.
const PAGE: usize = 250;
/// Whoever asks gets an answer this soon, of as many as were looked at by then.
const PATIENCE: Duration = Duration::from_secs(5);
/// Fewer digits of a hash name nothing for sure.
const HASH_DIGITS_MIN: usize = 6;
/// Versions that are named to whoever asks for another.
const NAMED_MAX: usize = 20;

/// One of the two definitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Side {
    /// As the earlier of two that are stored, what was activated before the later one; else the current one.
    Usual,
    Current,
    /// A version's number, or the first digits of a definition's hash.
    Stored(String),
    /// A definition that need not be stored.
    Text(String),
}

/// Why a definition that is named cannot be had.
#[derive(Debug)]
pub enum VersionError {
    Engine(EngineError),
    /// What is wrong with a text.
    Diagnostics(Vec<Diagnostic>),
    /// The text is of this machine.
    WrongMachine(MachineName),
    /// There is no such definition; the words say which there are.
    Unknown(String),
}

impl fmt::Display for VersionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Engine(error) => error.fmt(f),
            Self::Diagnostics(all) => write!(f, "the definition has {} problem(s)", all.len()),
            Self::WrongMachine(name) => write!(f, "the definition is of `{name}`"),
            Self::Unknown(problem) => f.write_str(problem),
        }
    }
}

impl std::error::Error for VersionError {}

impl From<EngineError> for VersionError {
    fn from(error: EngineError) -> Self {
        Self::Engine(error)
    }
}

impl From<LoadError> for VersionError {
    fn from(error: LoadError) -> Self {
        Self::Engine(error.into())
    }
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DiffReport {
    pub machine: MachineName,
    pub from: Version,
    pub to: Version,
    pub changes: Vec<Change>,
    pub instances: Touched,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Version {
    pub version: u32,
    pub hash: DefinitionHash,
}

/// The open instances of a tenant that are pinned to the earlier definition, or to what the tenant has made of it, as they
/// were when they were counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Touched {
    pub open: usize,
    /// States by their paths, with commas between those that are active together.
    pub by_state: BTreeMap<String, usize>,
    /// Of those, the ones in a state that the later definition does not have.
    pub in_removed_states: usize,
    /// Whether all open instances of the machine were looked at.
    pub complete: bool,
    pub counted_at: Timestamp,
}

/// Compares two definitions of a machine, and counts whom that concerns.
///
/// # Errors
/// When there is no such machine or version, a text is no good or of another machine, or the store cannot answer.
pub fn compare(
    engine: &Engine,
    tenant: &TenantId,
    name: &MachineName,
    from: &Side,
    to: &Side,
) -> Result<DiffReport, VersionError> {
    engine.machines().current(name)?;
    let (bases, customised) = definitions(engine, name)?;
    let later = machine(engine, name, &bases, to)?;
    let earlier = match (from, to) {
        (Side::Usual, Side::Usual | Side::Current | Side::Stored(_)) => before(engine, &bases, &later)?,
        (from, _) => machine(engine, name, &bases, from)?,
    };
    let over_it = customised.iter().filter(|definition| {
        Parts::of(&definition.source).is_some_and(|parts| parts.base.trim_end() == earlier.source.trim_end())
    });
    let mut pinned: HashSet<&DefinitionHash> = over_it.map(|definition| &definition.hash).collect();
    pinned.insert(&earlier.hash);
    let instances = count(engine, tenant, name, &pinned, &later)?;
    let changes = diff(&earlier, &later).changes;
    let version = |machine: &Machine| Version { version: machine.version, hash: machine.hash.clone() };
    Ok(DiffReport { machine: name.clone(), from: version(&earlier), to: version(&later), changes, instances })
}

/// The definitions of a name, the one activated last at the end; and what tenants have made of them.
fn definitions(
    engine: &Engine,
    name: &MachineName,
) -> Result<(Vec<StoredDefinition>, Vec<StoredDefinition>), LoadError> {
    let mut stored = engine.store().definitions()?;
    stored.retain(|definition| definition.machine == *name);
    Ok(stored.into_iter().partition(|definition| Parts::of(&definition.source).is_none()))
}

/// The machine of a version, by its number or the first digits of its hash.
///
/// # Errors
/// When there is none, or the store cannot answer.
pub fn named(engine: &Engine, name: &MachineName, wanted: &str) -> Result<Arc<Machine>, VersionError> {
    let (bases, _) = definitions(engine, name)?;
    machine(engine, name, &bases, &Side::Stored(wanted.to_owned()))
}

/// The machine of a text, if that is of this name.
///
/// # Errors
/// When it does not load, or is another's.
pub(crate) fn of_text(name: &MachineName, source: &str) -> Result<Arc<Machine>, VersionError> {
    let (machine, diagnostics) = definition::load(source);
    let machine = machine.ok_or(VersionError::Diagnostics(diagnostics))?;
    match machine.name == *name {
        true => Ok(Arc::new(machine)),
        false => Err(VersionError::WrongMachine(machine.name)),
    }
}

/// The machine that a side names.
fn machine(
    engine: &Engine,
    name: &MachineName,
    stored: &[StoredDefinition],
    side: &Side,
) -> Result<Arc<Machine>, VersionError> {
    let wanted = match side {
        Side::Text(source) => return of_text(name, source),
        Side::Stored(wanted) => wanted.as_str(),
        Side::Usual | Side::Current => return Ok(engine.machines().current(name)?),
    };
    let by_version = wanted.parse().ok().and_then(|version: u32| {
        // Of several texts with one number, the one that was activated last.
        stored.iter().rev().find(|definition| definition.version == version)
    });
    let by_hash = || {
        let mut found = stored.iter().filter(|definition| definition.hash.as_str().starts_with(wanted));
        let first = found.next().filter(|_| wanted.len() >= HASH_DIGITS_MIN);
        first.filter(|_| found.next().is_none())
    };
    let found = by_version.or_else(by_hash);
    load(engine, found.ok_or_else(|| VersionError::Unknown(unknown(name, stored, wanted)))?)
}

fn load(engine: &Engine, stored: &StoredDefinition) -> Result<Arc<Machine>, VersionError> {
    if let Some(known) = engine.machines().by_hash(&stored.hash) {
        return Ok(known);
    }
    let (machine, diagnostics) = definition::load_own(&stored.source);
    machine.map(Arc::new).ok_or(VersionError::Diagnostics(diagnostics))
}

/// What was activated last before `later` was.
fn before(
    engine: &Engine,
    stored: &[StoredDefinition],
    later: &Machine,
) -> Result<Arc<Machine>, VersionError> {
    let at = stored.iter().position(|definition| definition.hash == later.hash).unwrap_or(stored.len());
    match stored[..at].last() {
        Some(definition) => load(engine, definition),
        None => {
            let (name, version) = (&later.name, later.version);
            let detail = format!(
                "nothing was activated before version {version} of `{name}`; name the definition to compare it with"
            );
            Err(VersionError::Unknown(detail))
        }
    }
}

fn unknown(name: &MachineName, stored: &[StoredDefinition], wanted: &str) -> String {
    let short = |definition: &StoredDefinition| definition.hash.as_str().chars().take(12).collect::<String>();
    let latest = stored.iter().rev().take(NAMED_MAX);
    let known: Vec<String> =
        latest.map(|definition| format!("{} ({})", definition.version, short(definition))).collect();
    format!(
        "`{name}` has no version `{wanted}`; name one by its number or the first {HASH_DIGITS_MIN} or more digits of its hash: {}",
        known.join(", ")
    )
}

fn count(
    engine: &Engine,
    tenant: &TenantId,
    name: &MachineName,
    pinned: &HashSet<&DefinitionHash>,
    later: &Machine,
) -> Result<Touched, VersionError> {
    let began = Instant::now();
    let mut touched = Touched { counted_at: engine.clock().now(), ..Touched::default() };
    let mut query = InstanceQuery {
        machine: Some(name.clone()),
        closed: Some(false),
        limit: PAGE,
        ..InstanceQuery::of(tenant.clone())
    };
    let mut looked_at = 0;
    loop {
        let page = engine.store().instances(&query)?;
        looked_at += page.data.len();
        for snapshot in page.data.iter().filter(|snapshot| pinned.contains(&snapshot.definition)) {
            touched.add(snapshot, later);
        }
        query.cursor = page.next;
        touched.complete = query.cursor.is_none();
        if touched.complete || looked_at >= INSTANCES_MAX || began.elapsed() > PATIENCE {
            return Ok(touched);
        }
    }
}

impl Touched {
    fn add(&mut self, snapshot: &Snapshot, later: &Machine) {
        self.open += 1;
        *self.by_state.entry(snapshot.state()).or_default() += 1;
        let removed = snapshot.configuration.iter().any(|path| later.chart.by_path(path).is_none());
        self.in_removed_states += usize::from(removed);
    }
}
