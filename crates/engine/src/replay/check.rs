//! Whether the past still comes out as it was stored; and what an instance was at an earlier revision.
//!
//! Every input of a log is decided on again by the definition that its instance is pinned to, at the time at which it was
//! decided on first. What that gives has to be the log, entry by entry, and in the end the instance, all of it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZero;
use std::time::{Duration, Instant};

use kernel::commit::{Commit, Entry};
use kernel::decide::refused;
use kernel::id::{InstanceId, MachineName, Revision, TenantId};
use kernel::machine::Machine;
use kernel::snapshot::Snapshot;
use serde::Serialize;
use serde_json::Value;
use store::{InstanceQuery, LoadError};

use super::{Log, Past, Step, retrace};
use crate::{Engine, EngineError};

/// Instances that are gone through for one question, if nothing is said and at most.
pub const INSTANCES: usize = 10_000;
pub const INSTANCES_MAX: usize = 100_000;
/// Instances that each thread is given at a time.
const EACH: usize = 64;
/// One after the other would leave the machine idle; more than these would leave nothing to those who are served.
const THREADS_MAX: usize = 4;
/// Shown of what is different in one instance, and instances that are named.
const DIFFERENCES_MAX: usize = 20;
const NAMED_MAX: usize = 100;
/// Whoever asks gets an answer this soon, and the cursor to go on from.
const PATIENCE: Duration = Duration::from_secs(2);

/// What came of deciding an instance's log again.
#[derive(Clone, Debug, Serialize)]
pub struct Replay {
    pub id: InstanceId,
    pub machine: MachineName,
    pub version: u32,
    pub revision: Revision,
    /// Entries of the log that were decided on again.
    pub entries: usize,
    pub verdict: Verdict,
    /// The first that differ.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub differences: Vec<Difference>,
    /// Why its past cannot be had.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// All of it comes out as it was stored.
    Same,
    Different,
    /// A part of its past is not known.
    NotReplayable,
}

/// One part of one entry, or of the instance in the end, that comes out otherwise.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    pub revision: Revision,
    /// `entry.to`, `instance.context`, …
    pub part: String,
    /// Left out where the instance has secret fields.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stored: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decided: Option<Value>,
}

/// Which instances of a tenant are asked about.
#[derive(Clone, Debug)]
pub struct ReplayStore {
    pub machine: Option<MachineName>,
    /// After so many it is enough.
    pub limit: usize,
    /// Where an earlier report ended.
    pub cursor: Option<String>,
}

/// What came of many. Every instance that was gone through is the same, different or not replayable.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ReplayReport {
    pub instances: usize,
    pub entries: usize,
    pub same: usize,
    pub different: usize,
    pub not_replayable: usize,
    /// Those that are different, then those that are not replayable; the first of them.
    pub found: Vec<Replay>,
    /// There may be more, from here on.
    pub next_cursor: Option<String>,
}

/// Why there is no past to show.
#[derive(Clone, Debug, PartialEq)]
pub enum PastError {
    Engine(EngineError),
    /// It has not come to that revision; this is the one that it is at.
    ToCome(Revision),
    /// A part of its log is no longer there, or does not come out as it was stored.
    Lost(String),
}

impl fmt::Display for PastError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Engine(error) => error.fmt(f),
            Self::ToCome(revision) => write!(f, "the instance is at revision {revision}"),
            Self::Lost(why) => write!(f, "what it was then cannot be had: {why}"),
        }
    }
}

impl std::error::Error for PastError {}

impl<E: Into<EngineError>> From<E> for PastError {
    fn from(error: E) -> Self {
        Self::Engine(error.into())
    }
}

/// An instance as it was at a revision.
///
/// # Errors
/// When there is no such instance or revision, or its log does not lead there.
pub fn at(
    engine: &Engine,
    tenant: &TenantId,
    instance: &InstanceId,
    revision: Revision,
) -> Result<Snapshot, PastError> {
    let snapshot = engine.instance(tenant, instance)?;
    if revision > snapshot.revision || revision == Revision::NONE {
        return Err(PastError::ToCome(snapshot.revision));
    }
    if revision == snapshot.revision {
        return Ok(snapshot);
    }
    let mut past = None;
    let log = Log::of(engine.store(), &snapshot);
    let led = retrace(engine.past(), &snapshot, log, |step| {
        if let Ok(Commit { after: Some(after), .. }) = step.decided
            && after.revision == revision
        {
            past = Some(after.clone());
        }
        Ok(())
    })?;
    // Only of a log that leads to what the instance is now can it be believed where it led before.
    match led.map_err(PastError::Lost)?.filter(|led| *led == snapshot).and(past) {
        Some(past) => Ok(past),
        None => Err(PastError::Lost("its log does not lead to what is stored of it".to_owned())),
    }
}

/// # Errors
/// When there is no such instance, or the store cannot be read.
pub fn replay(engine: &Engine, tenant: &TenantId, instance: &InstanceId) -> Result<Replay, EngineError> {
    let snapshot = engine.instance(tenant, instance)?;
    Ok(check_stored(engine, &snapshot)?)
}

/// Goes through the instances of a tenant, the newest first, on several threads.
///
/// # Errors
/// When the store cannot be read.
pub fn replay_all(
    engine: &Engine,
    tenant: &TenantId,
    asked: &ReplayStore,
) -> Result<ReplayReport, EngineError> {
    let started = Instant::now();
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get).min(THREADS_MAX);
    let mut report = ReplayReport::default();
    let mut query = InstanceQuery {
        machine: asked.machine.clone(),
        cursor: asked.cursor.clone(),
        ..InstanceQuery::of(tenant.clone())
    };
    loop {
        query.limit = (EACH * threads).min(asked.limit - report.instances);
        let page = engine.store().instances(&query)?;
        let each = page.data.len().div_ceil(threads).max(1);
        let checked: Vec<Result<Vec<Replay>, LoadError>> = std::thread::scope(|scope| {
            let of_thread = |part| scope.spawn(move || check_each(engine, part));
            let running: Vec<_> = page.data.chunks(each).map(of_thread).collect();
            running.into_iter().map(|thread| thread.join().expect("a check does not panic")).collect()
        });
        for replays in checked {
            replays?.into_iter().for_each(|replay| report.add(replay));
        }
        query.cursor = page.next;
        if query.cursor.is_none() || report.instances >= asked.limit || started.elapsed() >= PATIENCE {
            report.next_cursor = query.cursor;
            report.found.sort_by_key(|replay| replay.verdict != Verdict::Different);
            return Ok(report);
        }
    }
}

impl ReplayReport {
    fn add(&mut self, replay: Replay) {
        self.instances += 1;
        self.entries += replay.entries;
        let count = match replay.verdict {
            Verdict::Same => &mut self.same,
            Verdict::Different => &mut self.different,
            Verdict::NotReplayable => &mut self.not_replayable,
        };
        *count += 1;
        // What is different is told before what is not known.
        let is_told = match replay.verdict {
            Verdict::Same => false,
            Verdict::Different => self.different <= NAMED_MAX,
            Verdict::NotReplayable => self.not_replayable <= NAMED_MAX,
        };
        if is_told {
            self.found.push(replay);
        }
    }
}

fn check_each(engine: &Engine, snapshots: &[Snapshot]) -> Result<Vec<Replay>, LoadError> {
    snapshots.iter().map(|snapshot| check_stored(engine, snapshot)).collect()
}

fn check_stored(engine: &Engine, snapshot: &Snapshot) -> Result<Replay, LoadError> {
    check(engine.past(), snapshot, Log::of(engine.store(), snapshot))
}

fn check(
    past: Past<'_>,
    snapshot: &Snapshot,
    log: impl Iterator<Item = Result<Entry, LoadError>>,
) -> Result<Replay, LoadError> {
    let mut replay = Replay {
        id: snapshot.instance.clone(),
        machine: snapshot.machine.clone(),
        version: snapshot.version,
        revision: snapshot.revision,
        entries: 0,
        verdict: Verdict::Same,
        differences: Vec::new(),
        reason: None,
    };
    let machine = match past.machine(&snapshot.definition)? {
        Ok(machine) => machine,
        Err(why) => {
            replay.lose(why);
            return Ok(replay);
        }
    };
    let led = retrace(past, snapshot, log, |step| {
        replay.entries += 1;
        let again = again(&step);
        if again.as_deref() != Some(step.entry) {
            replay.differ(step.machine, step.entry.revision, "entry", step.entry, again.as_deref());
        }
        Ok(())
    })?;
    match led {
        Err(why) => replay.lose(why),
        Ok(led) if led.as_ref() != Some(snapshot) => {
            replay.differ(&machine, snapshot.revision, "instance", snapshot, led.as_ref());
        }
        Ok(_) => {}
    }
    Ok(replay)
}

/// The entry that the input leaves now; `None` when it would leave none.
fn again<'s>(step: &Step<'s>) -> Option<Cow<'s, Entry>> {
    match (step.decided, step.before) {
        (Ok(commit), _) => Some(Cow::Borrowed(&commit.entry)),
        (Err(refusal), Some(before)) if refusal.code.is_recorded() => {
            Some(Cow::Owned(refused(step.machine, before, step.input, refusal, step.entry.at).entry))
        }
        (Err(_), _) => None,
    }
}

impl Replay {
    fn lose(&mut self, why: String) {
        self.verdict = Verdict::NotReplayable;
        self.differences.clear();
        self.reason = Some(why);
    }

    fn differ<T: Serialize>(
        &mut self,
        machine: &Machine,
        revision: Revision,
        what: &str,
        stored: &T,
        decided: Option<&T>,
    ) {
        self.verdict = Verdict::Different;
        let (stored, decided) = (parts(stored), decided.map(parts).unwrap_or_default());
        let mut names: Vec<&String> = stored.keys().chain(decided.keys()).collect();
        names.sort();
        names.dedup();
        for name in names.into_iter().filter(|name| stored.get(*name) != decided.get(*name)) {
            if self.differences.len() == DIFFERENCES_MAX {
                return;
            }
            let shown = |parts: &BTreeMap<String, Value>| match machine.secrets.is_empty() {
                true => parts.get(name).cloned(),
                false => None,
            };
            self.differences.push(Difference {
                revision,
                part: format!("{what}.{name}"),
                stored: shown(&stored),
                decided: shown(&decided),
            });
        }
    }
}

/// What something consists of, by the names that it has as JSON.
fn parts<T: Serialize>(of: &T) -> BTreeMap<String, Value> {
    match serde_json::to_value(of) {
        Ok(Value::Object(fields)) => fields.into_iter().collect(),
        _ => BTreeMap::new(),
    }
}
