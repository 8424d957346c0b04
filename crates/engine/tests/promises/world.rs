//! A world for a test: the shipped progress update, a store, a virtual clock, and engines over them.

use std::any::Any;
use std::path::Path;
use std::sync::Arc;

use engine::{Clock, Engine, Machines, Settings, Submitted};
use kernel::commit::{Answer, Commit, Entry};
use kernel::conversation::Message;
use kernel::decide::{Placement, place};
use kernel::id::{InputKey, InstanceId, MachineName, Subject, TenantId};
use kernel::input::{Cause, Fields, Input};
use kernel::machine::Machine;
use kernel::snapshot::Snapshot;
use kernel::time::{Delay, Timestamp};
use serde_json::Value;
use store::{HistoryQuery, MemoryStore, Outcome, Records, SqliteStore, Store};
use tempfile::TempDir;
use testbed::{Kind, Lodging};

pub struct World {
    pub store: Arc<dyn Store>,
    pub machines: Arc<Machines>,
    pub machine: Arc<Machine>,
    pub clock: Clock,
}

impl World {
    pub fn new() -> Self {
        Self::over(Arc::new(MemoryStore::new()))
    }

    pub fn over(store: Arc<dyn Store>) -> Self {
        let clock = Clock::virtual_at(start());
        let machines = Machines::default();
        let (machine, _) = machines.activate(&*store, &definition(), clock.now()).unwrap();
        Self { store, machines: Arc::new(machines), machine, clock }
    }

    pub fn engine(&self) -> Engine {
        self.engine_with(Settings::default())
    }

    pub fn engine_with(&self, settings: Settings) -> Engine {
        let engine =
            Engine::start(Arc::clone(&self.store), Arc::clone(&self.machines), self.clock.clone(), settings);
        engine.recover().unwrap();
        engine
    }

    /// Moves the clock while the engines are at rest: a turn that is not over would see the new time.
    pub fn advance(&self, engines: &[&Engine], by: &str) {
        for engine in engines {
            engine.recover().unwrap();
        }
        self.clock.advance(delay(by));
    }

    /// Saves a session of `who` that stands in `state`, and returns its id.
    pub fn place(&self, who: &str, state: &str) -> InstanceId {
        let commit = self.placement(who, state);
        let instance = commit.instance.clone();
        let saved = self.store.commit(&[commit]);
        assert_eq!(saved, Ok(vec![Outcome::Committed]));
        instance
    }

    pub fn placement(&self, who: &str, state: &str) -> Commit {
        let instance = InstanceId::parse(&format!("{who}-session")).unwrap();
        let placement = Placement {
            tenant: &tenant(),
            instance: &instance,
            subject: Some(&subject(who)),
            state,
            context: &fields(serde_json::json!({ "task_id": "T1" })),
            topic: Some("update"),
        };
        place(&self.machine, &placement, self.clock.now()).unwrap()
    }

    pub fn load(&self, instance: &InstanceId) -> Snapshot {
        self.store.load(&tenant(), instance).unwrap().unwrap()
    }

    pub fn session(&self, who: &str) -> Snapshot {
        let found = self.store.load_session(&tenant(), &machine(), &subject(who));
        found.unwrap().unwrap()
    }

    pub fn history(&self, instance: &InstanceId) -> Vec<Entry> {
        let query = HistoryQuery { limit: 10_000, ..HistoryQuery::of(tenant(), instance.clone()) };
        self.store.history(&query).unwrap().data
    }
}

/// A store with its name and with what must outlive it.
type Housed = (&'static str, Arc<dyn Store>, Box<dyn Any>);

/// Every kind of store.
pub fn stores() -> Vec<Housed> {
    let directory = TempDir::new().unwrap();
    let sqlite = SqliteStore::open(&directory.path().join("shared.db")).unwrap();
    let mut stores: Vec<Housed> = vec![
        ("memory", Arc::new(MemoryStore::new()), Box::new(())),
        ("sqlite", Arc::new(sqlite), Box::new(directory)),
    ];
    for kind in Kind::ALL {
        let lodging = Lodging::new(kind);
        let store = store::open(lodging.url(), Records::default()).unwrap();
        stores.push((kind.name(), store, Box::new(lodging)));
    }
    stores
}

pub fn definition() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../machines/progress_update.yaml");
    std::fs::read_to_string(path).unwrap()
}

pub fn start() -> Timestamp {
    Timestamp::parse("2026-01-05T09:00:00Z").unwrap()
}

pub fn delay(text: &str) -> Delay {
    Delay::parse(text).unwrap()
}

pub fn tenant() -> TenantId {
    TenantId::default_tenant()
}

pub fn machine() -> MachineName {
    MachineName::parse("progress_update").unwrap()
}

pub fn subject(who: &str) -> Subject {
    Subject::parse(who).unwrap()
}

pub fn fields(value: Value) -> Fields {
    value.as_object().unwrap().clone()
}

fn input(key: &str, cause: Cause) -> Input {
    Input {
        tenant: tenant(),
        key: InputKey::parse(key).unwrap(),
        cause,
        expected: None,
        by: None,
        trace: None,
    }
}

pub fn says(who: &str, key: &str, text: &str) -> Input {
    let cause = Cause::Message { machine: machine(), subject: subject(who), message: Message::of_text(text) };
    input(key, cause)
}

pub fn event(instance: &InstanceId, key: &str, event: &str, payload: Value) -> Input {
    let cause =
        Cause::Event { instance: instance.clone(), event: event.to_owned(), payload: fields(payload) };
    input(key, cause)
}

/// The answer as it goes over the wire.
pub fn written(submitted: &Submitted) -> String {
    serde_json::to_string(&*submitted.answer).unwrap()
}

pub fn revision(answer: &Answer) -> u64 {
    match answer {
        Answer::Message(answer) => answer.revision.0,
        Answer::Event(answer) => answer.revision.0,
        Answer::Refused(refusal) => refusal.revision.0,
    }
}

/// The code of a refusal; empty for anything else.
pub fn code(answer: &Answer) -> &'static str {
    match answer {
        Answer::Refused(refusal) => refusal.code.as_str(),
        Answer::Message(_) | Answer::Event(_) => "",
    }
}

/// Runs `work` for each number at once, as far as threads can, and returns the results in order.
pub fn at_once<T: Send>(count: usize, work: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let gate = std::sync::Barrier::new(count);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..count)
            .map(|number| {
                let (gate, work) = (&gate, &work);
                scope.spawn(move || {
                    gate.wait();
                    work(number)
                })
            })
            .collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    })
}
