//! A version beside the stored history: what it would have made of every input that there was.
//!
//! Nothing is sent and nothing is changed. Each input meets the instance as it really was, taken to the version as a migration
//! would take it; what the version would have led to does not go on into the next input.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kernel::commit::{Answer, Commit, Effect, EffectKind, Entry};
use kernel::conversation::Reply;
use kernel::decide::decide;
use kernel::id::{InputKey, InstanceId, MachineName, Revision, TenantId};
use kernel::input::{Cause, Fields, Input, Start};
use kernel::machine::Machine;
use kernel::migration::Migration;
use kernel::refusal::Refusal;
use kernel::snapshot::Snapshot;
use kernel::time::Timestamp;
use serde::Serialize;
use store::{InstanceQuery, LoadError};

use crate::Engine;
use crate::diff::{Version, VersionError, named, of_text};
use crate::replay::{Log, Step, retrace};

/// Inputs that are looked at for one question, if nothing is said and at most.
pub const INPUTS: usize = 10_000;
pub const INPUTS_MAX: usize = 100_000;
/// Instances that are loaded at a time.
const PAGE: usize = 100;
/// Shown of what differs in one way.
const EXAMPLES_MAX: usize = 3;
/// Ways that are told, and instances that are named among those that cannot be compared.
const NAMED_MAX: usize = 100;
/// Whoever asks gets an answer this soon, and the cursor to go on from.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is asked.
#[derive(Clone, Debug)]
pub struct Shadow {
    pub machine: MachineName,
    pub version: Played,
    /// Inputs from then on.
    pub since: Timestamp,
    /// After so many inputs it is enough; the instance that reaches it is gone through to its end.
    pub limit: usize,
    /// Where an earlier report ended.
    pub cursor: Option<String>,
}

/// The version that is played.
#[derive(Clone, Debug)]
pub enum Played {
    /// As the tenant has it.
    Current,
    /// By its number, or the first digits of its hash.
    Stored(String),
    /// A definition that need not be stored.
    Text(String),
}

/// What would have been otherwise. Every input that was looked at is the same, different, or not comparable.
#[derive(Clone, Debug, Serialize)]
pub struct ShadowReport {
    pub machine: MachineName,
    pub version: Version,
    pub since: Timestamp,
    pub instances: usize,
    pub inputs: usize,
    pub same: usize,
    pub different: usize,
    pub not_comparable: usize,
    /// The most frequent first.
    pub changes: Vec<Change>,
    /// Why inputs could not be compared.
    pub reasons: Vec<NotComparable>,
    /// There may be more, from here on.
    pub next_cursor: Option<String>,
}

/// Inputs that would have come out otherwise in one way.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Change {
    /// The event that was taken or refused; for a message without one, what became of it.
    pub event: String,
    pub from: String,
    pub was: Upshot,
    pub would_be: Upshot,
    pub count: usize,
    /// What differs in any of them.
    pub differs: BTreeSet<&'static str>,
    pub examples: Vec<Example>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Upshot {
    /// `taken`, for a message its outcome, else the code of the refusal.
    pub outcome: String,
    /// As the version calls it.
    pub state: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Example {
    pub id: InstanceId,
    pub revision: Revision,
    pub at: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NotComparable {
    pub id: InstanceId,
    /// Of the first input that is concerned, if not all of them are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<Revision>,
    pub inputs: usize,
    pub reason: String,
}

/// Looks at the stored inputs of a machine, those of the newest instances first.
///
/// # Errors
/// When there is no such version, its text is no good, or the store cannot be read.
pub fn shadow(engine: &Engine, tenant: &TenantId, asked: &Shadow) -> Result<ShadowReport, VersionError> {
    let began = Instant::now();
    let name = &asked.machine;
    let machine = match &asked.version {
        Played::Current => engine.machines().current_for(tenant, name)?,
        Played::Stored(wanted) => named(engine, name, wanted)?,
        Played::Text(source) => of_text(name, source)?,
    };
    let mut playing = Playing::new(asked, machine);
    let mut query = InstanceQuery {
        machine: Some(name.clone()),
        cursor: asked.cursor.clone(),
        limit: PAGE,
        ..InstanceQuery::of(tenant.clone())
    };
    loop {
        let page = engine.store().instances(&query)?;
        let last = page.data.len().saturating_sub(1);
        for (number, snapshot) in page.data.iter().enumerate() {
            if snapshot.updated_at >= asked.since {
                playing.instance(engine, snapshot)?;
            }
            let enough = playing.report.inputs >= asked.limit || began.elapsed() >= PATIENCE;
            if enough && (number < last || page.next.is_some()) {
                return Ok(playing.end(Some(snapshot.instance.to_string())));
            }
        }
        query.cursor = page.next;
        if query.cursor.is_none() {
            return Ok(playing.end(None));
        }
    }
}

struct Playing<'a> {
    asked: &'a Shadow,
    machine: Arc<Machine>,
    report: ShadowReport,
    changes: BTreeMap<(String, String, Upshot, Upshot), Change>,
}

/// What was found in one instance.
#[derive(Default)]
struct Findings {
    inputs: usize,
    same: usize,
    different: Vec<Change>,
    /// The first input that could not be compared, how many, and why.
    failed: Option<NotComparable>,
}

/// What an input came to, all that is compared of it.
struct Came<'c> {
    upshot: Upshot,
    reply: &'c [Reply],
    /// What is called outside.
    calls: Vec<(&'c str, &'c Fields)>,
}

impl<'a> Playing<'a> {
    fn new(asked: &'a Shadow, machine: Arc<Machine>) -> Self {
        let report = ShadowReport {
            machine: asked.machine.clone(),
            version: Version { version: machine.version, hash: machine.hash.clone() },
            since: asked.since,
            instances: 0,
            inputs: 0,
            same: 0,
            different: 0,
            not_comparable: 0,
            changes: Vec::new(),
            reasons: Vec::new(),
            next_cursor: None,
        };
        Self { asked, machine, report, changes: BTreeMap::new() }
    }

    /// Goes through one instance from its beginning.
    fn instance(&mut self, engine: &Engine, snapshot: &Snapshot) -> Result<(), LoadError> {
        let mut found = Findings::default();
        let log = Log::of(engine.store(), snapshot);
        let led = retrace(engine.past(), snapshot, log, |step| {
            let is_meant = step.entry.at >= self.asked.since;
            if is_meant && !matches!(step.input.cause, Cause::Migrate { .. }) {
                found.inputs += 1;
                if !is_as_stored(&step) {
                    return Err("it does not come out as it was stored".to_owned());
                }
                compare(&self.machine, &step, snapshot, &mut found);
            }
            Ok(())
        })?;
        let inputs = found.inputs - found.same - found.different.len();
        if let Err(reason) = led {
            // What was compared up to there holds.
            let first = NotComparable { id: snapshot.instance.clone(), revision: None, inputs: 0, reason };
            found.failed.get_or_insert(first);
        }
        self.add(found, inputs);
        Ok(())
    }

    fn add(&mut self, found: Findings, failed: usize) {
        let report = &mut self.report;
        report.instances += 1;
        report.inputs += found.inputs;
        report.same += found.same;
        report.different += found.different.len();
        report.not_comparable += failed;
        if let Some(first) = found.failed.filter(|_| report.reasons.len() < NAMED_MAX) {
            report.reasons.push(NotComparable { inputs: failed, ..first });
        }
        for change in found.different {
            let Change { event, from, was, would_be, .. } = change.clone();
            match self.changes.get_mut(&(event.clone(), from.clone(), was.clone(), would_be.clone())) {
                Some(known) => {
                    known.count += 1;
                    known.differs.extend(change.differs);
                    if known.examples.len() < EXAMPLES_MAX {
                        known.examples.extend(change.examples);
                    }
                }
                None => _ = self.changes.insert((event, from, was, would_be), change),
            }
        }
    }

    fn end(mut self, next_cursor: Option<String>) -> ShadowReport {
        let mut changes: Vec<Change> = self.changes.into_values().collect();
        changes.sort_by_key(|change| std::cmp::Reverse(change.count));
        changes.truncate(NAMED_MAX);
        (self.report.changes, self.report.next_cursor) = (changes, next_cursor);
        self.report
    }
}

/// Whether the past can be believed: the same input still comes to the same.
fn is_as_stored(step: &Step<'_>) -> bool {
    match step.decided {
        Ok(commit) => commit.entry.answer == step.entry.answer,
        Err(refusal) => matches!(&step.entry.answer, Answer::Refused(stored) if stored.code == refusal.code),
    }
}

/// Decides one input by the version, and notes what differs.
fn compare(machine: &Machine, step: &Step<'_>, of: &Snapshot, found: &mut Findings) {
    let Step { entry, input, .. } = step;
    let mut fail = |reason: String| {
        let (id, revision) = (of.instance.clone(), Some(entry.revision));
        found.failed.get_or_insert(NotComparable { id, revision, inputs: 0, reason });
    };
    let before = match step.before.filter(|before| !before.is_closed() && before.definition != machine.hash) {
        None => step.before.cloned(),
        Some(before) => match taken_there(machine, step.machine, before, entry.at) {
            Ok(before) => Some(before),
            Err(reason) => return fail(reason),
        },
    };
    let nothing = Migration::default();
    // What is said of the input is called as the version calls it that it was decided by.
    let declared = machine.migration(step.machine.version).filter(|_| step.machine.hash != machine.hash);
    let migration = declared.unwrap_or(&nothing);
    let decided = decide(machine, before.as_ref(), &as_called_there(input, migration), entry.at);
    let was = Came::of(entry, migration.moved_all(&entry.to).unwrap_or_else(|| entry.to.clone()));
    let would_be = match &decided {
        Ok(commit) => Came::of(&commit.entry, commit.entry.to.clone()),
        Err(refusal) => Came::refused(refusal, before.as_ref()),
    };
    let differs = was.differs(&would_be);
    if differs.is_empty() {
        found.same += 1;
        return;
    }
    found.different.push(Change {
        event: entry.event.clone(),
        from: entry.from.clone(),
        was: was.upshot,
        would_be: would_be.upshot,
        count: 1,
        differs,
        examples: vec![Example { id: of.instance.clone(), revision: entry.revision, at: entry.at }],
    });
}

/// The instance as a migration would take it to the version, but that nobody has touched it: the revision stays, since what
/// buttons and effects are called is made of it, and whose it is.
fn taken_there(to: &Machine, from: &Machine, before: &Snapshot, at: Timestamp) -> Result<Snapshot, String> {
    let phases = from.flow.iter().flat_map(|flow| flow.phases.iter().map(|phase| Arc::clone(&phase.name)));
    let cause =
        Cause::Migrate { instance: before.instance.clone(), to: to.hash.clone(), phases: phases.collect() };
    let input = Input {
        tenant: before.tenant.clone(),
        key: InputKey::parse("shadow").expect("letters make a key"),
        cause,
        expected: None,
        by: None,
        trace: None,
    };
    let Commit { after, entry, .. } =
        decide(to, Some(before), &input, at).map_err(|refusal| refusal.message)?;
    let replaced = matches!(&entry.answer, Answer::Event(answer) if answer.replaced.is_some());
    match (after, replaced) {
        (Some(after), false) => {
            Ok(Snapshot { revision: before.revision, brought_in: before.brought_in.clone(), ..after })
        }
        _ => Err(format!("it would be parked: {}", entry.reason.unwrap_or_default())),
    }
}

/// A timer is called after its state; what comes from another system stood in one.
fn as_called_there(input: &Input, migration: &Migration) -> Input {
    let mut input = input.clone();
    match &mut input.cause {
        Cause::Timer { timer, .. } => {
            if let Some(there) = migration.timer(timer) {
                *timer = there;
            }
        }
        Cause::Create { start: Start { former: Some(former), .. }, .. } => {
            if let Some(there) = migration.moved_all(&former.state) {
                former.state = there;
            }
        }
        _ => {}
    }
    input
}

impl<'c> Came<'c> {
    fn of(entry: &'c Entry, state: String) -> Self {
        let (outcome, reply, effects) = match &entry.answer {
            Answer::Message(answer) => (answer.outcome.as_str(), &answer.reply[..], &answer.effects[..]),
            // A timer whose guard says no is taken, and moves nothing.
            Answer::Event(answer) => {
                let refused = entry.code.as_deref().filter(|_| !entry.success);
                (refused.unwrap_or("taken"), &answer.reply[..], &answer.effects[..])
            }
            Answer::Refused(refusal) => (refusal.code.as_str(), &[][..], &[][..]),
        };
        let call = |effect: &'c Effect| match &effect.kind {
            EffectKind::Call { src, input, .. } => Some((src.as_str(), input)),
            _ => None,
        };
        let calls = effects.iter().filter_map(call).collect();
        Self { upshot: Upshot { outcome: outcome.to_owned(), state }, reply, calls }
    }

    fn refused(refusal: &Refusal, before: Option<&Snapshot>) -> Self {
        let (outcome, state) =
            (refusal.code.as_str().to_owned(), before.map(Snapshot::state).unwrap_or_default());
        Self { upshot: Upshot { outcome, state }, reply: &[], calls: Vec::new() }
    }

    fn differs(&self, other: &Self) -> BTreeSet<&'static str> {
        let parts = [
            ("outcome", self.upshot.outcome != other.upshot.outcome),
            ("state", self.upshot.state != other.upshot.state),
            ("reply", self.reply != other.reply),
            ("calls", self.calls != other.calls),
        ];
        parts.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect()
    }
}
