//! The world of one run: users who write, repeat themselves and wait; a server that fails and comes back; and what must
//! hold whatever happens.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};

use engine::diff::VersionError;
use engine::migrate::{Found, Migrate, migrate};
use engine::replay::{ReplayStore, replay_all};
use engine::{Clock, Engine, EngineError, Machines, Settings};
use kernel::commit::{Answer, Entry};
use kernel::conversation::Message;
use kernel::definition::load;
use kernel::id::{InputKey, InstanceId, MachineName, Subject, TenantId};
use kernel::input::{Cause, Fields, Input, Start};
use kernel::machine::Machine;
use kernel::refusal::RefusalCode;
use kernel::snapshot::Snapshot;
use kernel::time::{Delay, Timestamp};
use store::{EffectQuery, HistoryQuery, InstanceQuery, MemoryStore, PhaseQuery, Store};

use crate::faulty::FaultyStore;
use crate::post::{Outside, check_results};
use crate::random::Random;
use crate::works::{self, Works};

const DEFINITION: &str = include_str!("../../../machines/progress_update.yaml");
/// What one state is called in two versions that follow each other again and again.
const CALLED: [&str; 2] = ["choosing", "awaiting_action"];
/// Something that calls something.
const DESK: &str = include_str!("desk.yaml");
const DESKS: usize = 3;
const USERS: usize = 5;
const WORDS: [&str; 14] = [
    "update",
    "Task 7",
    "Task 8",
    "the wall is painted",
    "done",
    "yes",
    "no",
    "cancel",
    "help",
    "incident",
    "switch task",
    "1",
    "2",
    "gibberish",
];
/// One commit in so many fails while the store is ill.
const FAILS_ONE_IN: usize = 6;
const NEVER: usize = usize::MAX / 8;
/// Silence that ends a session, in the shipped definition.
const SESSION_LIFE: Delay = Delay::from_millis(2 * 3_600_000);
/// After so many waits of five minutes no retry is left, and no claim of who failed.
const WAITS_MAX: usize = 40;
/// How often a client repeats an unanswered key; a store that fails every sixth time answers long before.
const REPEATS_MAX: usize = 200;

/// What a run did. Two runs of one seed are equal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    pub messages: usize,
    pub repeats: usize,
    pub crashes: usize,
    pub entries: usize,
    pub sessions: usize,
    pub timers_fired: usize,
    pub effects: usize,
    /// What was sent and has arrived, repeats included.
    pub arrivals: usize,
    /// What was done to flows, repeats not counted, and how many there were.
    pub actions: usize,
    pub flows: usize,
    /// Versions that were activated, and sessions that were taken to them.
    pub versions: usize,
    pub migrated: usize,
}

/// Something that must hold did not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub seed: u64,
    pub step: usize,
    pub what: String,
}

/// A message that was answered, with the bytes of its answer.
struct Answered {
    user: usize,
    key: String,
    text: &'static str,
    answer: String,
}

struct World {
    seed: u64,
    random: Random,
    disk: Arc<MemoryStore>,
    clock: Clock,
    outside: Arc<Outside>,
    store: Arc<FaultyStore>,
    engine: Engine,
    errands: usize,
    works: Works,
    answered: Vec<Answered>,
    report: Report,
}

/// Runs `steps` steps from `seed`, then checks all that is on the disk.
///
/// # Errors
/// The first thing that did not hold, with its step.
pub fn run(seed: u64, steps: usize) -> Result<Report, Failure> {
    let mut world = World::new(seed);
    for step in 0..steps {
        world.step().map_err(|what| Failure { seed, step, what })?;
    }
    world.settle().map_err(|what| Failure { seed, step: steps, what })?;
    world.check().map_err(|what| Failure { seed, step: steps, what })?;
    Ok(world.report)
}

impl World {
    fn new(seed: u64) -> Self {
        let disk = Arc::new(MemoryStore::new());
        let clock = Clock::virtual_at(Timestamp::from_millis(1_767_603_600_000));
        let outside = Arc::new(Outside::new(seed));
        let (store, engine) = start(&disk, &outside, &clock, seed, FAILS_ONE_IN);
        let (random, report) = (Random::new(seed), Report::default());
        let (answered, errands, works) = (Vec::new(), 0, Works::new());
        Self { seed, random, disk, clock, outside, store, engine, errands, works, answered, report }
    }

    fn step(&mut self) -> Result<(), String> {
        match self.random.below(39) {
            0..=12 => self.write(),
            13..=15 => self.repeat(),
            16 => self.reuse(),
            17 | 18 => self.wait(),
            19..=22 => self.deliver(),
            23 | 24 => self.errand(),
            25..=36 => self.work(),
            37 => self.migrate(),
            _ => {
                self.crash();
                Ok(())
            }
        }
    }

    fn write(&mut self) -> Result<(), String> {
        let (user, text) = (self.random.below(USERS), *self.random.choose(&WORDS));
        let key = format!("m{}", self.report.messages);
        self.report.messages += 1;
        let answer = self.send(user, &key, text)?;
        if !matches!(&*answer, Answer::Message(_)) {
            return Err(format!("the message {key} `{text}` got {answer:?}"));
        }
        let answer = serde_json::to_string(&*answer).map_err(|e| e.to_string())?;
        self.answered.push(Answered { user, key, text, answer });
        Ok(())
    }

    /// Sends until there is an answer, as a client would.
    fn send(&mut self, user: usize, key: &str, text: &str) -> Result<Arc<Answer>, String> {
        self.submit(&message(user, key, text)?)
    }

    fn submit(&mut self, input: &Input) -> Result<Arc<Answer>, String> {
        for _ in 0..REPEATS_MAX {
            match self.engine.call(input.clone()) {
                Ok(submitted) => return Ok(submitted.answer),
                Err(EngineError::Unavailable(_) | EngineError::Full(_)) => self.report.repeats += 1,
                Err(error) => return Err(format!("the input {} met {error:?}", input.key)),
            }
        }
        Err(format!("the input {} was never answered", input.key))
    }

    /// A desk calls, or thinks better of it. Whether it takes that is its business.
    fn errand(&mut self) -> Result<(), String> {
        let (desk, event) = (self.random.below(DESKS), *self.random.choose(&["ask", "ask", "ask", "leave"]));
        let instance = InstanceId::parse(&format!("desk-{desk}"))?;
        self.errands += 1;
        let machine = MachineName::parse("desk")?;
        let context = Fields::new();
        let create = Cause::Create {
            machine,
            id: Some(instance.clone()),
            subject: None,
            context,
            start: Start::default(),
        };
        self.submit(&input(&format!("open-{desk}"), create)?)?;
        let cause = Cause::Event { instance, event: event.to_owned(), payload: Fields::new() };
        self.submit(&input(&format!("e{}", self.errands), cause)?)?;
        Ok(())
    }

    /// Somebody does something to a flow, which takes it or not.
    fn work(&mut self) -> Result<(), String> {
        let open = flows(&self.disk)?;
        let input = self.works.next(&mut self.random, &open)?;
        let answer = self.submit(&input)?;
        self.works.note(input, &answer)
    }

    /// Another version is activated, and all sessions are taken to it, one by one so that a seed gives the same run.
    fn migrate(&mut self) -> Result<(), String> {
        let version = Arc::clone(&versions()[self.report.versions % 2]);
        self.report.versions += 1;
        let machines = self.engine.machines();
        machines.adopt(&*self.disk, version, self.clock.now()).map_err(|e| e.to_string())?;
        let (tenant, machine) = (TenantId::default_tenant(), MachineName::parse("progress_update")?);
        let mut asked = Migrate { limit: Some(1), ..Migrate::default() };
        loop {
            let report = match migrate(&self.engine, &tenant, &machine, &asked) {
                Ok(report) => report,
                Err(VersionError::Engine(EngineError::Unavailable(_) | EngineError::Full(_))) => {
                    self.report.repeats += 1;
                    continue;
                }
                Err(error) => return Err(format!("a migration met {error}")),
            };
            self.report.migrated += report.migrated;
            let stays = |found: &&Found| !found.reason.starts_with("it ended at");
            if let Some(found) = report.found.iter().find(stays) {
                return Err(format!("{} has no place: {}", found.id, found.reason));
            }
            asked.cursor = report.next_cursor;
            if asked.cursor.is_none() {
                return Ok(());
            }
        }
    }

    /// Delivers what is due. The shard comes to rest first, so that the two threads do not get in each other's way.
    fn deliver(&mut self) -> Result<(), String> {
        while !self.recover()? {}
        self.store.delivers.store(true, Ordering::SeqCst);
        self.recover()?;
        self.store.delivers.store(false, Ordering::SeqCst);
        if self.store.is_cut.load(Ordering::SeqCst) {
            self.crash();
        }
        Ok(())
    }

    /// Fires what is due; whether that is all that was.
    fn recover(&mut self) -> Result<bool, String> {
        let report = self.engine.recover().map_err(|e| e.to_string())?;
        self.report.timers_fired += report.timers_fired;
        Ok(report.complete)
    }

    /// A repeat of any answered message must get the same bytes.
    fn repeat(&mut self) -> Result<(), String> {
        if self.answered.is_empty() {
            return Ok(());
        }
        let at = self.random.below(self.answered.len());
        let Answered { user, key, text, answer } = &self.answered[at];
        let (user, key, text, first) = (*user, key.clone(), *text, answer.clone());
        let again = serde_json::to_string(&*self.send(user, &key, text)?).map_err(|e| e.to_string())?;
        if again != first {
            return Err(format!("the repeat of {key} got another answer:\n{first}\n{again}"));
        }
        Ok(())
    }

    /// The same key with another payload must be refused.
    fn reuse(&mut self) -> Result<(), String> {
        if self.answered.is_empty() {
            return Ok(());
        }
        let at = self.random.below(self.answered.len());
        let (user, key) = (self.answered[at].user, self.answered[at].key.clone());
        match &*self.send(user, &key, "something else entirely")? {
            Answer::Refused(refusal) if refusal.code == RefusalCode::KeyReused => Ok(()),
            other => Err(format!("the reused key {key} got {other:?}")),
        }
    }

    fn wait(&mut self) -> Result<(), String> {
        let minutes = *self.random.choose(&[1, 4, 5, 30, 119, 121]);
        self.clock.advance(Delay::from_secs(minutes * 60));
        self.recover().map(|_| ())
    }

    /// Everything in memory is gone; the disk stays.
    fn crash(&mut self) {
        self.report.crashes += 1;
        let seed = self.seed ^ (self.report.crashes as u64) << 32;
        (self.store, self.engine) = start(&self.disk, &self.outside, &self.clock, seed, FAILS_ONE_IN);
    }

    /// The store and the outside get well, claims of those who failed run out, and everything that is due is caught up.
    fn settle(&mut self) -> Result<(), String> {
        (self.store, self.engine) = start(&self.disk, &self.outside, &self.clock, self.seed, NEVER);
        self.clock.advance(Delay::from_secs(60));
        if !self.recover()? {
            return Err("recovery did not get to its end".to_owned());
        }
        self.outside.get_well();
        for _ in 0..WAITS_MAX {
            self.clock.advance(Delay::from_secs(300));
            self.deliver()?;
        }
        Ok(())
    }

    fn check(&mut self) -> Result<(), String> {
        let mut query = InstanceQuery::of(TenantId::default_tenant());
        query.limit = 1_000_000;
        let (sessions, others): (Vec<_>, Vec<_>) = self
            .disk
            .instances(&query)
            .map_err(|e| e.to_string())?
            .data
            .into_iter()
            .partition(|instance| instance.subject.is_some());
        for other in &others {
            check_results(&self.history(other)?)?;
        }
        self.check_flows()?;
        self.check_outside()?;
        self.check_past()?;
        self.report.sessions = sessions.len();
        let mut times_saved: BTreeMap<(String, String), usize> = BTreeMap::new();
        let mut open: BTreeMap<String, usize> = BTreeMap::new();
        for session in &sessions {
            let subject = session.subject.as_ref().map(ToString::to_string).unwrap_or_default();
            let entries = self.history(session)?;
            check_session(session, &entries, self.clock.now())?;
            for entry in &entries {
                *times_saved.entry((subject.clone(), entry.key.to_string())).or_default() += 1;
            }
            *open.entry(subject).or_default() += usize::from(!session.is_closed());
            self.report.entries += entries.len();
        }
        if let Some((subject, _)) = open.iter().find(|(_, count)| **count > 1) {
            return Err(format!("{subject} has several open sessions"));
        }
        for Answered { user, key, .. } in &self.answered {
            let count = times_saved.get(&(format!("user-{user}"), key.clone())).copied().unwrap_or(0);
            if count != 1 {
                return Err(format!("the answered message {key} is in the log {count} times"));
            }
        }
        Ok(())
    }

    fn check_flows(&mut self) -> Result<(), String> {
        let flows = flows(&self.disk)?;
        (self.report.actions, self.report.flows) = (self.works.inputs, flows.len());
        let mut logs = BTreeMap::new();
        for flow in &flows {
            let machine = self.engine.machines().of(flow).map_err(|e| e.to_string())?;
            let entries = self.history(flow)?;
            let query = PhaseQuery {
                instance: Some(flow.instance.clone()),
                limit: 1_000,
                ..PhaseQuery::of(TenantId::default_tenant())
            };
            let lines = self.disk.phases(&query).map_err(|e| e.to_string())?.data;
            let lines: Vec<_> = lines.into_iter().map(|line| line.row).collect();
            works::check_flow(&machine, flow, &entries, &lines, self.clock.now())?;
            logs.insert(flow.instance.clone(), entries);
        }
        works::check_families(&flows, &logs)?;
        self.works.check_answered(&logs)
    }

    fn check_outside(&mut self) -> Result<(), String> {
        let query = EffectQuery { limit: 1_000_000, ..EffectQuery::of(TenantId::default_tenant()) };
        let mut effects = self.disk.effects(&query).map_err(|e| e.to_string())?.data;
        effects.reverse();
        (self.report.effects, self.report.arrivals) = (effects.len(), self.outside.arrivals());
        self.outside.check(&effects)
    }

    /// All that is stored comes out again, each part of it by the definition of its time.
    fn check_past(&self) -> Result<(), String> {
        let every = ReplayStore { machine: None, limit: usize::MAX, cursor: None };
        let mut report =
            replay_all(&self.engine, &TenantId::default_tenant(), &every).map_err(|e| e.to_string())?;
        match report.found.pop() {
            None => Ok(()),
            Some(found) => Err(format!("the past of {} does not come out: {found:?}", found.id)),
        }
    }

    fn history(&self, session: &Snapshot) -> Result<Vec<Entry>, String> {
        let query = HistoryQuery {
            limit: 1_000_000,
            ..HistoryQuery::of(session.tenant.clone(), session.instance.clone())
        };
        Ok(self.disk.history(&query).map_err(|e| e.to_string())?.data)
    }
}

/// What holds for every session at every time.
fn check_session(session: &Snapshot, entries: &[Entry], now: Timestamp) -> Result<(), String> {
    let name = &session.instance;
    let revisions: Vec<u64> = entries.iter().map(|e| e.revision.0).collect();
    let expected: Vec<u64> = (1..=session.revision.0).collect();
    if revisions != expected {
        return Err(format!(
            "the log of {name} has revisions {revisions:?}, the session {}",
            session.revision
        ));
    }
    for pair in entries.windows(2) {
        if pair[0].to != pair[1].from || pair[0].at > pair[1].at {
            return Err(format!("the log of {name} jumps from {} to {}", pair[0].to, pair[1].from));
        }
    }
    if entries.last().is_some_and(|last| last.to != session.state()) {
        return Err(format!("the log of {name} does not end in {}", session.state()));
    }
    let is_final = matches!(session.state().as_str(), "completed" | "abandoned");
    if is_final != session.is_closed() {
        return Err(format!("{name} in {} has the closure {:?}", session.state(), session.closure));
    }
    if session.is_closed() != session.timers.is_empty() {
        return Err(format!("{name} in {} has the timers {:?}", session.state(), session.timers));
    }
    let silent = now.since(session.updated_at);
    if !session.is_closed() && silent >= SESSION_LIFE {
        return Err(format!("{name} is stuck in {} for {silent}", session.state()));
    }
    Ok(())
}

/// The flows that are saved, whether they are over or not.
fn flows(disk: &MemoryStore) -> Result<Vec<Snapshot>, String> {
    let mut query = InstanceQuery::of(TenantId::default_tenant());
    query.limit = 1_000_000;
    let mut flows = disk.instances(&query).map_err(|e| e.to_string())?.data;
    flows.retain(|instance| instance.flow.is_some());
    flows.sort_by(|one, other| one.instance.cmp(&other.instance));
    Ok(flows)
}

fn start(
    disk: &Arc<MemoryStore>,
    outside: &Arc<Outside>,
    clock: &Clock,
    seed: u64,
    fails_one_in: usize,
) -> (Arc<FaultyStore>, Engine) {
    let store = Arc::new(FaultyStore::new(Arc::clone(disk), seed, fails_one_in));
    let machines = Machines::default();
    for source in [DEFINITION, DESK].into_iter().chain(works::DEFINITIONS) {
        machines
            .activate(&**disk, source, clock.now())
            .expect("the shipped machine loads, and its own test says so; the other is beside this file");
    }
    let settings = Settings { deliveries_max: 1, ..Settings::default() };
    let (held, carrier) = (Arc::<FaultyStore>::clone(&store), Arc::<Outside>::clone(outside));
    let engine = Engine::start_delivering(held, Arc::new(machines), clock.clone(), settings, carrier);
    // Both its threads are at rest then, so that a seed gives the same run however they are scheduled.
    let _ = engine.recover();
    (store, engine)
}

/// The shipped definition, twice more, with one state called otherwise.
fn versions() -> &'static [Arc<Machine>; 2] {
    static VERSIONS: OnceLock<[Arc<Machine>; 2]> = OnceLock::new();
    VERSIONS.get_or_init(|| {
        CALLED.map(|state| {
            let moves = CALLED.map(|other| format!("{other}: {state}")).join(", ");
            let source = DEFINITION.replace("awaiting_action", state);
            let source = format!("{source}\nmigrations: {{ states: {{ {moves} }} }}\n");
            Arc::new(load(&source).0.expect("the shipped machine loads, whatever a state is called"))
        })
    })
}

fn message(user: usize, key: &str, text: &str) -> Result<Input, String> {
    let cause = Cause::Message {
        machine: MachineName::parse("progress_update")?,
        subject: Subject::parse(&format!("user-{user}"))?,
        message: Message { deliver: true, ..Message::of_text(text) },
    };
    input(key, cause)
}

fn input(key: &str, cause: Cause) -> Result<Input, String> {
    let (tenant, key) = (TenantId::default_tenant(), InputKey::parse(key)?);
    Ok(Input { tenant, key, cause, expected: None, by: None, trace: None })
}
