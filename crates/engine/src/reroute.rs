//! Stored messages decided on again, by changed settings or a changed definition: which of them would come out otherwise.
//!
//! Nothing is sent and nothing is changed. Each message meets the session as it really was: what a change would have led
//! to does not go on into the next message. Sessions whose past cannot be had again are counted and named, never guessed.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kernel::commit::{Answer, Commit, Entry};
use kernel::conversation::{Message, Reply, Rule};
use kernel::decide::decide;
use kernel::definition::{self, settings};
use kernel::diagnostic::Diagnostic;
use kernel::id::{DefinitionHash, InstanceId, MachineName, Revision, TenantId};
use kernel::input::{Cause, Input};
use kernel::machine::Machine;
use kernel::refusal::{Refusal, RefusalCode};
use kernel::snapshot::Snapshot;
use kernel::time::Timestamp;
use serde::Serialize;
use serde_json::Value;
use store::{InstanceQuery, LoadError};

use crate::replay::{self, Step};
use crate::{Engine, EngineError};

/// Messages that are looked at for one question, if nothing is said and at most.
pub const MESSAGES: usize = 10_000;
pub const MESSAGES_MAX: usize = 100_000;
/// Sessions that are loaded at a time.
const PAGE: usize = 100;
/// A longer log is not held in memory for the sake of a question.
const LOG_MAX: usize = 20_000;
/// Shown of what differs in one way.
const EXAMPLES_MAX: usize = 3;
/// Sessions that are named among those that cannot be had again.
const NAMED_MAX: usize = 100;
/// Whoever asks gets an answer this soon, and the cursor to go on from.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is asked.
#[derive(Clone, Debug)]
pub struct Reroute {
    pub machine: MachineName,
    pub since: Timestamp,
    /// Paths within `conversation`, each with its value; of `definition`, else of what each session is pinned to.
    pub set: Vec<(String, Value)>,
    pub definition: Option<String>,
    /// After so many messages it is enough; the session that reaches it is gone through to its end.
    pub limit: usize,
    /// Where an earlier report ended.
    pub cursor: Option<String>,
}

/// Why nothing was looked at.
#[derive(Debug)]
pub enum RerouteError {
    Engine(EngineError),
    /// Neither a setting nor a definition was given.
    NothingChanged,
    /// What is wrong with settings.
    Settings(Vec<String>),
    /// What is wrong with the definition.
    Diagnostics(Vec<Diagnostic>),
    /// The definition is of this machine.
    WrongMachine(MachineName),
    NotAConversation(MachineName),
}

impl fmt::Display for RerouteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Engine(error) => error.fmt(f),
            Self::NothingChanged => f.write_str(
                "nothing is changed; give `set`, such as {\"thresholds.confidence\": 0.65}, or `definition`",
            ),
            Self::Settings(problems) => f.write_str(&problems.join("\n")),
            Self::Diagnostics(all) => write!(f, "the definition has {} problem(s)", all.len()),
            Self::WrongMachine(name) => write!(f, "the definition is of `{name}`"),
            Self::NotAConversation(name) => {
                write!(f, "the machine `{name}` has no `conversation` section, so nobody sends it messages")
            }
        }
    }
}

impl std::error::Error for RerouteError {}

impl From<EngineError> for RerouteError {
    fn from(error: EngineError) -> Self {
        Self::Engine(error)
    }
}

impl From<LoadError> for RerouteError {
    fn from(error: LoadError) -> Self {
        Self::Engine(error.into())
    }
}

/// What would be otherwise. Every message that was looked at is the same, different, or not replayable.
#[derive(Clone, Debug, Default, Serialize)]
pub struct RerouteReport {
    pub since: Timestamp,
    pub sessions: usize,
    pub messages: usize,
    pub same: usize,
    pub different: usize,
    pub not_replayable: usize,
    /// The most frequent first.
    pub changes: Vec<Change>,
    /// Why messages could not be replayed, session by session.
    pub reasons: Vec<NotReplayable>,
    /// There may be more, from here on.
    pub next_cursor: Option<String>,
}

/// Messages that would come out otherwise in one way.
#[derive(Clone, Debug, Serialize)]
pub struct Change {
    pub from: Kind,
    pub to: Kind,
    pub count: usize,
    /// What differs in any of them.
    pub differs: BTreeSet<&'static str>,
    pub examples: Vec<Example>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Kind {
    pub outcome: String,
    pub intent: Option<String>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Example {
    pub session: InstanceId,
    pub revision: Revision,
    pub at: Timestamp,
    pub text: Option<String>,
    pub was: Upshot,
    pub would_be: Upshot,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NotReplayable {
    pub session: InstanceId,
    /// Of the first message that is concerned, if not all of them are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<Revision>,
    pub messages: usize,
    pub reason: String,
}

/// What a message came to, or would come to.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Upshot {
    /// Of a message that is refused as such, the code.
    pub outcome: String,
    pub rule: Option<Rule>,
    pub intent: Option<String>,
    pub state: String,
    pub reply: Vec<Reply>,
}

impl Upshot {
    fn of(answer: &Answer, state: &str) -> Self {
        match answer {
            Answer::Message(answer) => Self {
                outcome: answer.outcome.as_str().to_owned(),
                rule: Some(answer.why.rule),
                intent: answer.why.intent.clone(),
                state: answer.state.clone(),
                reply: answer.reply.clone(),
            },
            Answer::Refused(refusal) => Self::refused(refusal, state),
            Answer::Event(answer) => Self {
                outcome: "taken".to_owned(),
                rule: None,
                intent: None,
                state: answer.state.clone(),
                reply: answer.reply.clone(),
            },
        }
    }

    fn refused(refusal: &Refusal, state: &str) -> Self {
        let outcome = refusal.code.as_str().to_owned();
        Self { outcome, rule: None, intent: None, state: state.to_owned(), reply: Vec::new() }
    }

    fn kind(&self) -> Kind {
        Kind { outcome: self.outcome.clone(), intent: self.intent.clone() }
    }

    fn differs(&self, other: &Self) -> BTreeSet<&'static str> {
        let parts = [
            ("outcome", self.outcome != other.outcome),
            ("rule", self.rule != other.rule),
            ("intent", self.intent != other.intent),
            ("state", self.state != other.state),
            ("reply", self.reply != other.reply),
        ];
        parts.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect()
    }
}

/// Looks at the stored messages of a machine, those of the newest sessions first.
///
/// # Errors
/// When what is to be changed is not good, or the store cannot be read.
pub fn reroute(engine: &Engine, tenant: &TenantId, asked: &Reroute) -> Result<RerouteReport, RerouteError> {
    let started = Instant::now();
    let mut changed = Changed::new(engine, tenant, asked)?;
    let mut report = RerouteReport { since: asked.since, ..RerouteReport::default() };
    let mut changes = BTreeMap::new();
    let mut query = InstanceQuery {
        machine: Some(asked.machine.clone()),
        cursor: asked.cursor.clone(),
        limit: PAGE,
        ..InstanceQuery::of(tenant.clone())
    };
    loop {
        let page = engine.store().instances(&query)?;
        let last = page.data.len().saturating_sub(1);
        for (number, snapshot) in page.data.iter().enumerate() {
            // Nothing was said to one that has not changed since, but for what was refused.
            if snapshot.ordinal > 0 && snapshot.updated_at >= asked.since {
                look(engine, snapshot, asked.since, &mut changed)?.add_to(
                    &mut report,
                    &mut changes,
                    snapshot,
                );
            }
            let enough = report.messages >= asked.limit || started.elapsed() >= PATIENCE;
            if enough && (number < last || page.next.is_some()) {
                report.next_cursor = Some(snapshot.instance.to_string());
                return Ok(finished(report, changes));
            }
        }
        query.cursor = page.next;
        if query.cursor.is_none() {
            return Ok(finished(report, changes));
        }
    }
}

fn finished(mut report: RerouteReport, changes: BTreeMap<(Kind, Kind), Change>) -> RerouteReport {
    report.changes = changes.into_values().collect();
    report.changes.sort_by_key(|change| std::cmp::Reverse(change.count));
    report
}

/// The machine that decides otherwise.
struct Changed<'e> {
    engine: &'e Engine,
    set: &'e [(String, Value)],
    /// For all sessions, if a definition was given.
    one: Option<Arc<Machine>>,
    /// Else by the definition that a session is pinned to.
    by_hash: HashMap<DefinitionHash, Result<Arc<Machine>, String>>,
}

impl<'e> Changed<'e> {
    fn new(engine: &'e Engine, tenant: &TenantId, asked: &'e Reroute) -> Result<Self, RerouteError> {
        let current = engine.machines().current_for(tenant, &asked.machine)?;
        let one = match &asked.definition {
            None if asked.set.is_empty() => return Err(RerouteError::NothingChanged),
            None if current.conversation.is_none() => {
                return Err(RerouteError::NotAConversation(asked.machine.clone()));
            }
            None => {
                settings::load_with(&current.source, &asked.set).map_err(RerouteError::Settings)?;
                None
            }
            Some(source) => {
                let (machine, diagnostics) = definition::load(source);
                let machine = machine.ok_or(RerouteError::Diagnostics(diagnostics))?;
                if machine.name != asked.machine {
                    return Err(RerouteError::WrongMachine(machine.name));
                }
                if machine.conversation.is_none() {
                    return Err(RerouteError::NotAConversation(asked.machine.clone()));
                }
                let set = || settings::load_with(source, &asked.set).map_err(RerouteError::Settings);
                Some(Arc::new(if asked.set.is_empty() { machine } else { set()? }))
            }
        };
        Ok(Self { engine, set: &asked.set, one, by_hash: HashMap::new() })
    }

    /// # Errors
    /// When the settings do not fit the definition that this one is pinned to.
    fn of(&mut self, pinned: &Machine) -> Result<Arc<Machine>, String> {
        if let Some(one) = &self.one {
            return Ok(Arc::clone(one));
        }
        let found = self.by_hash.entry(pinned.hash.clone()).or_insert_with(|| {
            let changed = settings::load_with(&pinned.source, self.set).map(Arc::new);
            changed.map_err(|problems| {
                format!("in version {} of the definition: {}", pinned.version, problems.join("; "))
            })
        });
        found.clone()
    }
}

/// What was found in one session.
#[derive(Default)]
struct Findings {
    messages: usize,
    same: usize,
    different: Vec<Example>,
    /// Single messages that could not be replayed: the first, how many, and why.
    failed: Option<NotReplayable>,
    /// Why none of it can.
    hopeless: Option<String>,
}

impl Findings {
    fn add_to(
        self,
        report: &mut RerouteReport,
        changes: &mut BTreeMap<(Kind, Kind), Change>,
        snapshot: &Snapshot,
    ) {
        if self.messages == 0 {
            return;
        }
        report.sessions += 1;
        report.messages += self.messages;
        let failed = match self.hopeless {
            Some(reason) => {
                let session = snapshot.instance.clone();
                Some(NotReplayable { session, revision: None, messages: self.messages, reason })
            }
            None => {
                report.same += self.same;
                report.different += self.different.len();
                self.different.into_iter().for_each(|example| add(changes, example));
                self.failed
            }
        };
        if let Some(failed) = failed {
            report.not_replayable += failed.messages;
            if report.reasons.len() < NAMED_MAX {
                report.reasons.push(failed);
            }
        }
    }

    fn compare(
        &mut self,
        changed: &Machine,
        before: Option<&Snapshot>,
        input: &Input,
        entry: &Entry,
        of: &Snapshot,
    ) {
        let fitted = before.map(|before| fitted(changed, before));
        let would_be = match decide(changed, fitted.as_ref(), input, entry.at) {
            Ok(commit) => Upshot::of(&commit.entry.answer, &commit.entry.to),
            Err(refusal) if refusal.code == RefusalCode::DefinitionMissing => {
                let first = NotReplayable {
                    session: of.instance.clone(),
                    revision: Some(entry.revision),
                    messages: 0,
                    reason: format!("the changed definition has no state `{}`", entry.from),
                };
                self.failed.get_or_insert(first).messages += 1;
                return;
            }
            Err(refusal) => Upshot::refused(&refusal, &entry.from),
        };
        let was = Upshot::of(&entry.answer, &entry.to);
        if was == would_be {
            self.same += 1;
            return;
        }
        let text = match &input.cause {
            Cause::Message { message, .. } => shown(message),
            _ => None,
        };
        let (session, revision, at) = (of.instance.clone(), entry.revision, entry.at);
        self.different.push(Example { session, revision, at, text, was, would_be });
    }
}

fn add(changes: &mut BTreeMap<(Kind, Kind), Change>, example: Example) {
    let (from, to) = (example.was.kind(), example.would_be.kind());
    let change = changes.entry((from.clone(), to.clone())).or_insert_with(|| Change {
        from,
        to,
        count: 0,
        differs: BTreeSet::new(),
        examples: Vec::new(),
    });
    change.count += 1;
    change.differs.extend(example.was.differs(&example.would_be));
    if change.examples.len() < EXAMPLES_MAX {
        change.examples.push(example);
    }
}

fn shown(message: &Message) -> Option<String> {
    let media = || message.media.first().map(|media| media.url.clone());
    message.text.clone().or_else(|| message.payload.clone()).or_else(media)
}

/// A field that only the changed definition has is as in a new instance.
fn fitted(changed: &Machine, before: &Snapshot) -> Snapshot {
    let mut fitted = before.clone();
    let missing = changed.fields.iter().filter(|field| !before.context.contains_key(&field.name.value));
    for field in missing {
        let value = field.default.as_ref().map_or_else(|| field.empty(), |default| default.value.clone());
        Arc::make_mut(&mut fitted.context).insert(field.name.value.clone(), value);
    }
    fitted
}

/// Goes through one session from its beginning.
fn look(
    engine: &Engine,
    snapshot: &Snapshot,
    since: Timestamp,
    changed: &mut Changed<'_>,
) -> Result<Findings, RerouteError> {
    let log = replay::log(engine.store(), snapshot, LOG_MAX)?;
    // The choice of an option is in the log as a message too; it is not routed.
    let is_meant = |entry: &&Entry| entry.at >= since && entry.message.is_some() && entry.cause.is_none();
    let mut findings = Findings { messages: log.iter().filter(is_meant).count(), ..Findings::default() };
    if findings.messages > 0 {
        findings.hopeless = retrace(&mut findings, snapshot, &log, since, changed)?.err();
    }
    Ok(findings)
}

/// Takes the session along its log and compares on the way. The inner error says why its past cannot be had.
fn retrace(
    findings: &mut Findings,
    snapshot: &Snapshot,
    log: &[Entry],
    since: Timestamp,
    changed: &mut Changed<'_>,
) -> Result<Result<(), String>, RerouteError> {
    if log.len() == LOG_MAX {
        return Ok(Err(format!("its log has more than {LOG_MAX} entries")));
    }
    if snapshot.began_by.is_some() {
        return Ok(Err("it began by another version and was migrated".to_owned()));
    }
    let Some(pinned) = changed.engine.machines().by_hash(&snapshot.definition) else {
        return Ok(Err("the definition that it is pinned to is not known here".to_owned()));
    };
    let machine = match changed.of(&pinned) {
        Ok(machine) => machine,
        Err(why) => return Ok(Err(why)),
    };
    let entries = log.iter().cloned().map(Ok);
    let led = replay::retrace(changed.engine.past(), snapshot, entries, |step| {
        let Step { entry, input, before, decided, .. } = step;
        if !is_as_stored(decided, entry) {
            return Err(format!("revision {} does not come out as it was stored", entry.revision));
        }
        if matches!(input.cause, Cause::Message { .. }) && entry.at >= since {
            findings.compare(&machine, before, input, entry, snapshot);
        }
        Ok(())
    })?;
    Ok(led.and_then(|led| {
        let found = led.as_ref() == Some(snapshot);
        found.then_some(()).ok_or_else(|| "its log does not lead to what is stored of it".to_owned())
    }))
}

/// Whether the past can be believed: the same input still comes to the same.
fn is_as_stored(decided: &Result<Commit, Refusal>, entry: &Entry) -> bool {
    match decided {
        Ok(commit) => {
            let again = &commit.entry;
            (again.revision, &again.to) == (entry.revision, &entry.to)
                && Upshot::of(&again.answer, &again.to) == Upshot::of(&entry.answer, &entry.to)
        }
        Err(refusal) => {
            matches!(&entry.answer, Answer::Refused(stored) if stored.code == refusal.code)
        }
    }
}
