//! Instances that go on by another definition of their machine, many at a time.
//!
//! Each is an input of its own: a repeat goes on where an earlier one ended, and what happens to an instance meanwhile
//! happens before or after. Owns which instances are meant and what is told of them. Whether one can go on, and where it
//! stands then, is for `kernel::decide` to say.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kernel::commit::Answer;
use kernel::decide::decide;
use kernel::definition;
use kernel::diagnostic::Diagnostic;
use kernel::id::{InputKey, InstanceId, MachineName, TenantId};
use kernel::input::{Cause, Input};
use kernel::machine::Machine;
use kernel::snapshot::Snapshot;
use serde::Serialize;
use store::{InstanceQuery, StoreStatistics};

use crate::diff::{Version, VersionError, named};
use crate::{Engine, EngineError, Machines, MachinesError};

/// Handed over before the first of them has its answer: enough to be saved together, and too few to keep people waiting.
const EACH: usize = 128;
/// Whoever asks gets an answer this soon, and the cursor to go on from.
const PATIENCE: Duration = Duration::from_secs(5);
/// Instances that are named in one report.
const NAMED_MAX: usize = 1_000;

/// What is asked for.
#[derive(Clone, Debug, Default)]
pub struct Migrate {
    /// A version's number, or the first digits of a definition's hash; the current one, as the tenant has it, if absent.
    pub to: Option<String>,
    /// Say what would become of each, and change nothing.
    pub dry_run: bool,
    /// After so many instances it is enough.
    pub limit: Option<usize>,
    /// Where an earlier report ended.
    pub cursor: Option<String>,
    pub by: Option<String>,
}

/// What came of it, or would come of it. Every open instance that was looked at is counted once.
#[derive(Clone, Debug, Serialize)]
pub struct MigrationReport {
    pub machine: MachineName,
    pub to: Version,
    pub dry_run: bool,
    /// It is of that definition already.
    pub already: usize,
    pub migrated: usize,
    /// It could not stay where it was, and went where the definition sends such instances.
    pub parked: usize,
    /// It has no place there, and goes on by the definition that it has.
    pub left: usize,
    pub moves: Vec<Moved>,
    /// Those that are parked or left, the first of them.
    pub found: Vec<Found>,
    /// There may be more, from here on.
    pub next_cursor: Option<String>,
    pub has_more: bool,
}

/// Instances that were in one state by one version, and where they are now.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Moved {
    pub from_version: u32,
    pub from: String,
    pub to: String,
    pub count: usize,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Found {
    pub id: InstanceId,
    pub version: u32,
    pub state: String,
    pub outcome: Outcome,
    pub reason: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Parked,
    Left,
}

/// Goes through the open instances of a tenant, the newest first.
///
/// # Errors
/// When there is no such machine or version, or the store cannot answer. What was migrated by then is migrated, and a repeat
/// goes on from there.
pub fn migrate(
    engine: &Engine,
    tenant: &TenantId,
    name: &MachineName,
    asked: &Migrate,
) -> Result<MigrationReport, VersionError> {
    let began = Instant::now();
    let to = target(engine, tenant, name, asked.to.as_deref())?;
    let moving = Moving { engine, to, asked };
    let mut told = Told::default();
    let mut query = InstanceQuery {
        machine: Some(name.clone()),
        closed: Some(false),
        cursor: asked.cursor.clone(),
        ..InstanceQuery::of(tenant.clone())
    };
    let mut left = asked.limit.unwrap_or(usize::MAX);
    loop {
        query.limit = EACH.min(left);
        let page = engine.store().instances(&query)?;
        left -= page.data.len();
        moving.all(&page.data, &mut told)?;
        query.cursor = page.next;
        if query.cursor.is_none() || left == 0 || began.elapsed() > PATIENCE {
            return Ok(told.report(&moving, query.cursor));
        }
    }
}

fn target(
    engine: &Engine,
    tenant: &TenantId,
    name: &MachineName,
    wanted: Option<&str>,
) -> Result<Arc<Machine>, VersionError> {
    let current = engine.machines().current(name)?;
    let wanted = match wanted {
        Some(wanted) => named(engine, name, wanted)?,
        None => Arc::clone(&current),
    };
    // What a tenant has made of the current one is the current one for that tenant.
    match wanted.hash == current.hash {
        true => Ok(engine.machines().current_for(tenant, name)?),
        false => Ok(wanted),
    }
}

struct Moving<'a> {
    engine: &'a Engine,
    to: Arc<Machine>,
    asked: &'a Migrate,
}

impl Moving<'_> {
    fn all(&self, snapshots: &[Snapshot], told: &mut Told) -> Result<(), EngineError> {
        let (mut moving, mut inputs) = (Vec::new(), Vec::new());
        for snapshot in snapshots {
            if snapshot.definition == self.to.hash {
                told.already += 1;
                continue;
            }
            let input = self.input(snapshot)?;
            if self.asked.dry_run {
                let decided = decide(&self.to, Some(snapshot), &input, self.engine.clock().now());
                told.add(snapshot, &decided.map_or_else(Answer::Refused, |commit| commit.entry.answer));
                continue;
            }
            moving.push(snapshot);
            inputs.push(input);
        }
        let mut failed = None;
        for (snapshot, answered) in moving.into_iter().zip(self.engine.call_all(inputs)) {
            match answered {
                Ok(submitted) => told.add(snapshot, &submitted.answer),
                Err(error) if error.passes() => failed = failed.or(Some(error)),
                Err(error) => told.leave(snapshot, error.to_string()),
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// Under a key that is the same at a repeat, as long as nothing has happened to the instance.
    fn input(&self, snapshot: &Snapshot) -> Result<Input, EngineError> {
        let machines = self.engine.machines();
        let mut phases = Vec::new();
        if snapshot.flow.is_some() {
            machines.learn(self.engine.store(), &snapshot.definition)?;
            let flow = machines.by_hash(&snapshot.definition);
            let flow = flow.iter().filter_map(|machine| machine.flow.as_ref());
            phases.extend(flow.flat_map(|flow| flow.phases.iter().map(|phase| Arc::clone(&phase.name))));
        }
        let key = format!("migrate:{}:{}", &self.to.hash.as_str()[..KEY_DIGITS], snapshot.revision);
        Ok(Input {
            tenant: snapshot.tenant.clone(),
            key: InputKey::parse(&key).expect("hexadecimal digits and a number make a key"),
            cause: Cause::Migrate { instance: snapshot.instance.clone(), to: self.to.hash.clone(), phases },
            expected: None,
            by: self.asked.by.clone(),
            trace: None,
        })
    }
}

/// Of a hash that has 64; the receipt is one instance's.
const KEY_DIGITS: usize = 16;

#[derive(Default)]
struct Told {
    already: usize,
    migrated: usize,
    parked: usize,
    left: usize,
    moves: BTreeMap<(u32, String, String), usize>,
    found: Vec<Found>,
}

impl Told {
    fn add(&mut self, snapshot: &Snapshot, answer: &Answer) {
        match answer {
            Answer::Event(answer) => {
                let moved = (snapshot.version, snapshot.state(), answer.state.clone());
                *self.moves.entry(moved).or_default() += 1;
                // Only those who could not stay where they were have anything replaced.
                if answer.replaced.is_none() {
                    self.migrated += 1;
                    return;
                }
                self.parked += 1;
                self.find(snapshot, Outcome::Parked, format!("went to `{}`", answer.state));
            }
            Answer::Refused(refusal) => self.leave(snapshot, refusal.message.clone()),
            Answer::Message(_) => self.leave(snapshot, "its key was a message's".to_owned()),
        }
    }

    fn leave(&mut self, snapshot: &Snapshot, reason: String) {
        self.left += 1;
        self.find(snapshot, Outcome::Left, reason);
    }

    fn find(&mut self, snapshot: &Snapshot, outcome: Outcome, reason: String) {
        if self.found.len() < NAMED_MAX {
            let (id, version, state) = (snapshot.instance.clone(), snapshot.version, snapshot.state());
            self.found.push(Found { id, version, state, outcome, reason });
        }
    }

    fn report(self, moving: &Moving<'_>, next_cursor: Option<String>) -> MigrationReport {
        let Self { already, migrated, parked, left, moves, found } = self;
        let moved = |((from_version, from, to), count)| Moved { from_version, from, to, count };
        let to = &moving.to;
        MigrationReport {
            machine: to.name.clone(),
            to: Version { version: to.version, hash: to.hash.clone() },
            dry_run: moving.asked.dry_run,
            already,
            migrated,
            parked,
            left,
            moves: moves.into_iter().map(moved).collect(),
            found,
            has_more: next_cursor.is_some(),
            next_cursor,
        }
    }
}

impl Engine {
    /// As `Machines::activate`, unless it would leave open instances in states that nothing is said of.
    ///
    /// # Errors
    /// As there; also `Unmapped`. Nothing is changed then.
    pub fn activate(&self, source: &str) -> Result<(Arc<Machine>, Vec<Diagnostic>), MachinesError> {
        if let (Some(machine), _) = definition::load(source) {
            self.check_states(&machine)?;
        }
        self.machines.activate(&*self.store, source, self.clock.now())
    }

    fn check_states(&self, machine: &Machine) -> Result<(), MachinesError> {
        let current = self.machines.current(&machine.name);
        if current.is_ok_and(|current| current.hash == machine.hash) {
            return Ok(());
        }
        let open = unmapped(machine, &self.machines, &*self.figures.now().map_err(MachinesError::Load)?);
        match open.is_empty() {
            true => Ok(()),
            false => Err(MachinesError::Unmapped { machine: machine.name.clone(), open }),
        }
    }
}

/// The states of earlier versions that open instances are in and that a definition says nothing of, with how many are there.
/// What only a tenant's overlay has is not the base's to provide for. A flow's statuses follow from its phases: nobody is in one
/// that is no more.
pub(crate) fn unmapped(
    machine: &Machine,
    machines: &Machines,
    statistics: &StoreStatistics,
) -> BTreeMap<String, u64> {
    let versions = machines.versions(&machine.name);
    let of_a_version = |state: &str| {
        let has = |version: &Arc<Machine>| state.split(',').all(|path| version.chart.by_path(path).is_some());
        versions.iter().any(has)
    };
    let open = statistics.open.iter().filter(|((name, state), count)| {
        let is_meant = **count > 0 && *name == *machine.name.as_str() && machine.flow.is_none();
        is_meant && !machine.provides_for(state) && of_a_version(state)
    });
    open.map(|((_, state), count)| (state.clone(), *count)).collect()
}
