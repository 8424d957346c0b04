//! A world whose effects are delivered by a carrier that does as the test says, at once or when it is told to.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use engine::delivery::{Carried, Carrier, Endpoint, Route, Schedule};
use engine::{Engine, Settings, Submitted};
use kernel::commit::EffectKind;
use kernel::id::{InstanceId, MachineName, TenantId};
use kernel::input::{Cause, Input};
use kernel::time::Delay;
use store::{EffectQuery, EffectStatus, MemoryStore, OutboxEffect, Store};

use crate::world::{World, delay, says, tenant};

/// How long a test waits for another thread before it fails.
const PATIENCE: Duration = Duration::from_secs(20);

type Ended = Box<dyn FnOnce(Carried) + Send>;
type Routed = dyn Fn(&OutboxEffect) -> Route + Send;
/// `None` keeps the attempt until the test ends it.
type Scripted = dyn FnMut(&OutboxEffect) -> Option<Carried> + Send;

pub struct Script {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    given: Vec<OutboxEffect>,
    kept: VecDeque<Ended>,
    routed: Box<Routed>,
    scripted: Box<Scripted>,
    notices: bool,
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Script")
    }
}

impl Script {
    /// Everything goes to one repeatable endpoint, and arrives.
    pub fn new() -> Arc<Self> {
        let state = State {
            given: Vec::new(),
            kept: VecDeque::new(),
            routed: Box::new(|_| Route::To(repeatable("shop"))),
            scripted: Box::new(|_| Some(delivered())),
            notices: false,
        };
        Arc::new(Self { state: Mutex::new(state), changed: Condvar::new() })
    }

    pub fn answers(&self, scripted: impl FnMut(&OutboxEffect) -> Option<Carried> + Send + 'static) {
        self.state.lock().unwrap().scripted = Box::new(scripted);
    }

    /// Each of `first` in turn, then everything arrives.
    pub fn answers_first(&self, first: impl IntoIterator<Item = Option<Carried>>) {
        let mut first: VecDeque<_> = first.into_iter().collect();
        self.answers(move |_| first.pop_front().unwrap_or_else(|| Some(delivered())));
    }

    pub fn routes(&self, routed: impl Fn(&OutboxEffect) -> Route + Send + 'static) {
        self.state.lock().unwrap().routed = Box::new(routed);
    }

    pub fn wants_notices(&self) {
        self.state.lock().unwrap().notices = true;
    }

    /// What was given to be sent, in order.
    pub fn given(&self) -> Vec<OutboxEffect> {
        self.state.lock().unwrap().given.clone()
    }

    pub fn keys(&self) -> Vec<String> {
        self.given().into_iter().map(|effect| effect.effect.key).collect()
    }

    /// How often it was sent.
    pub fn count(&self, key: &str) -> usize {
        self.keys().iter().filter(|sent| *sent == key).count()
    }

    /// Waits until the effect was given to be sent.
    pub fn until_given(&self, key: &str) {
        drop(self.until(|state| state.given.iter().any(|effect| effect.effect.key == key)));
    }

    /// Ends the attempt that has been kept the longest, once there is one.
    pub fn end(&self, carried: Carried) {
        let ended = self.longest_kept();
        ended(carried);
    }

    /// Lets go of an attempt without a word about how it ended.
    pub fn forget(&self) {
        drop(self.longest_kept());
    }

    fn longest_kept(&self) -> Ended {
        self.until(|state| !state.kept.is_empty()).kept.pop_front().unwrap()
    }

    fn until(&self, holds: impl Fn(&State) -> bool) -> MutexGuard<'_, State> {
        let start = Instant::now();
        let mut state = self.state.lock().unwrap();
        while !holds(&state) {
            let left =
                PATIENCE.checked_sub(start.elapsed()).expect("the carrier was not given what it should");
            state = self.changed.wait_timeout(state, left).unwrap().0;
        }
        state
    }
}

impl Carrier for Script {
    fn route(&self, effect: &OutboxEffect) -> Route {
        (self.state.lock().unwrap().routed)(effect)
    }

    fn carry(&self, effect: OutboxEffect, ended: Ended) {
        let mut state = self.state.lock().unwrap();
        let carried = (state.scripted)(&effect);
        state.given.push(effect);
        match carried {
            Some(carried) => ended(carried),
            None => state.kept.push_back(ended),
        }
        self.changed.notify_all();
    }

    fn wants_notices(&self, _tenant: &TenantId, _machine: &MachineName) -> bool {
        self.state.lock().unwrap().notices
    }
}

pub fn repeatable(name: &str) -> Endpoint {
    Endpoint { name: name.into(), repeatable: true, rate: None, schedule: Schedule::Prompt }
}

/// As a messaging provider, who knows no send by its key.
pub fn provider() -> Endpoint {
    Endpoint { repeatable: false, ..repeatable("provider") }
}

pub fn delivered() -> Carried {
    Carried::Delivered { provider_id: Some("p1".into()) }
}

pub fn refused() -> Carried {
    Carried::Refused { error: "no such number".into(), parts_done: 0 }
}

pub fn later() -> Carried {
    Carried::Later { error: "busy".into(), after: None, parts_done: 0 }
}

pub fn unknown() -> Carried {
    Carried::Unknown { error: "no answer".into(), parts_done: 0 }
}

/// A world, an engine over it, and who delivers for it.
pub struct Office {
    pub world: World,
    pub engine: Engine,
    pub script: Arc<Script>,
    settings: Settings,
}

impl Office {
    pub fn new() -> Self {
        Self::over(Arc::new(MemoryStore::new()))
    }

    pub fn over(store: Arc<dyn Store>) -> Self {
        Self::with(store, Settings::default())
    }

    pub fn with(store: Arc<dyn Store>, settings: Settings) -> Self {
        Self::of(World::over(store), Script::new(), settings)
    }

    pub fn of(world: World, script: Arc<Script>, settings: Settings) -> Self {
        let engine = open(&world, &script, settings);
        Self { world, engine, script, settings }
    }

    /// The engine stops, however that ends, and another starts on what the store has.
    pub fn restart(&mut self) {
        self.engine.stop();
        self.engine = open(&self.world, &self.script, self.settings);
    }

    /// A session that collects data, for `replies`.
    pub fn place(&self, who: &str) -> InstanceId {
        self.world.place(who, "collecting_data")
    }

    /// Somebody says something, and the reply is to be delivered; its key.
    pub fn reply(&self, who: &str, text: &str) -> String {
        let mut input = says(who, &format!("{who} {text}"), text);
        if let Cause::Message { message, .. } = &mut input.cause {
            message.deliver = true;
        }
        self.call(input);
        let replies = self.effects().into_iter().filter(|e| matches!(e.effect.kind, EffectKind::Reply(_)));
        replies.filter(|e| e.instance == self.world.session(who).instance).last().unwrap().effect.key
    }

    pub fn call(&self, input: Input) -> Submitted {
        self.engine.call(input).unwrap()
    }

    /// Waits until what is due has been tried.
    pub fn rest(&self) {
        self.engine.recover().unwrap();
    }

    /// Moves the clock from rest, and waits until what is due then has been tried.
    pub fn pass(&self, by: &str) {
        self.rest();
        self.world.clock.advance(delay(by));
        self.rest();
    }

    /// As `pass`, for a number of milliseconds.
    pub fn pass_ms(&self, ms: i64) {
        self.rest();
        self.world.clock.advance(Delay::from_millis(ms));
        self.rest();
    }

    /// All that was ever in the outbox, oldest first.
    pub fn effects(&self) -> Vec<OutboxEffect> {
        let query = EffectQuery { limit: 10_000, ..EffectQuery::of(tenant()) };
        let mut effects = self.world.store.effects(&query).unwrap().data;
        effects.reverse();
        effects
    }

    pub fn effect(&self, key: &str) -> OutboxEffect {
        self.effects().into_iter().find(|effect| effect.effect.key == key).unwrap()
    }

    pub fn status(&self, key: &str) -> EffectStatus {
        self.effect(key).status
    }

    pub fn error(&self, key: &str) -> String {
        self.effect(key).error.unwrap_or_default()
    }

    /// As an operator does, by hand.
    pub fn retry(&self, key: &str) -> Option<EffectStatus> {
        let former = self.world.store.retry_effect(&tenant(), key, self.world.clock.now()).unwrap();
        self.engine.wake_delivery();
        self.rest();
        former
    }

    /// Waits until the store says so of an effect. For what ends while another attempt is kept, when nothing rests.
    pub fn until_status(&self, key: &str, status: EffectStatus) {
        let start = Instant::now();
        while self.status(key) != status {
            assert!(start.elapsed() < PATIENCE, "{key} is {:?}, not {status:?}", self.status(key));
            std::thread::yield_now();
        }
    }
}

fn open(world: &World, script: &Arc<Script>, settings: Settings) -> Engine {
    let (store, machines) = (Arc::clone(&world.store), Arc::clone(&world.machines));
    let carrier = Arc::<Script>::clone(script);
    let engine = Engine::start_delivering(store, machines, world.clock.clone(), settings, carrier);
    engine.recover().unwrap();
    engine
}
