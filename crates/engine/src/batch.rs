//! Deciding: inputs are decided on, one after another, each on what the one before left, and gather in the open batch.
//!
//! A repeated key waits for the first of its kind and shares its answer, whether that is in this batch, in memory, or
//! in the store. What concerns something that is on its way into the store waits until that has landed: so a batch
//! stands on nothing that may not be saved.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use kernel::commit::{Answer, Commit, Effect, EffectKind, EventAnswer, Notice};
use kernel::decide::{CLARIFICATION_TIMER, decide, decide_telling, refused};
use kernel::id::{Digest, InputKey, InstanceId};
use kernel::input::{Cause, Input, ReceiptId, Target};
use kernel::machine::Machine;
use kernel::refusal::{Refusal, RefusalCode};
use kernel::snapshot::{Snapshot, Timer};
use kernel::time::Timestamp;
use kernel::trace::Trace;
use store::{LoadError, Store};

use crate::delivery::Delivery;
use crate::hot::{InstanceKey, SessionKey, session_key};
use crate::landing::{first_of, key_of, kind_of, receipt_of};
use crate::shard::Shard;
use crate::traces::Saved;
use crate::{EngineError, Request};

/// Timers of one instance fired in one turn; what is due beyond them waits for the next.
const INSTANCE_TIMERS_MAX: usize = 64;

/// Commits that are decided but not yet saved, and who waits for them.
#[derive(Default)]
pub(crate) struct Batch {
    pub commits: Vec<Commit>,
    pub owners: Vec<Owner>,
    /// Repeats of a key whose first is in this batch.
    pub followers: Vec<(usize, Request)>,
    /// Refused because of what this batch may or may not save: decided again when that is known.
    pub deferred: Vec<Request>,
    pub world: World,
}

/// What the instances of a batch look like if it will be saved.
#[derive(Default)]
pub(crate) struct World {
    snapshots: HashMap<InstanceKey, Arc<Snapshot>>,
    sessions: HashMap<SessionKey, InstanceId>,
    receipts: HashMap<ReceiptId, usize>,
}

/// Who waits for a commit.
pub(crate) enum Owner {
    Request(Request),
    Timer,
}

impl Owner {
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Timer => "timer",
            Self::Request(request) => kind_of(&request.input),
        }
    }
}

impl Batch {
    pub fn len(&self) -> usize {
        self.commits.len()
    }

    pub fn is_empty(&self) -> bool {
        self.commits.is_empty()
    }

    /// Tells all who are watched with their commit how it was saved.
    pub fn note(&mut self, saved: Saved) {
        for owner in &mut self.owners {
            if let Owner::Request(Request { watch: Some(watch), .. }) = owner {
                watch.stages.saved = Some(saved);
            }
        }
    }

    fn push(&mut self, commit: Commit, before: Option<&Arc<Snapshot>>, owner: Owner) {
        let after = commit.after.as_ref().map(|after| Arc::new(after.clone()));
        if let Some(state) = after.or_else(|| before.cloned()) {
            self.world.put(state);
        }
        self.world.receipts.insert(commit.entry.receipt, self.commits.len());
        self.commits.push(commit);
        self.owners.push(owner);
    }
}

impl World {
    fn put(&mut self, snapshot: Arc<Snapshot>) {
        if let Some(key) = session_key(&snapshot) {
            let is_later = |other: Arc<Snapshot>| other.ordinal > snapshot.ordinal;
            if !self.session(&key).is_some_and(is_later) {
                self.sessions.insert(key, snapshot.instance.clone());
            }
        }
        self.snapshots.insert(key_of(&snapshot), snapshot);
    }

    fn session(&self, key: &SessionKey) -> Option<Arc<Snapshot>> {
        let instance = self.sessions.get(key)?;
        self.snapshots.get(&(key.0.clone(), instance.clone())).cloned()
    }

    /// Whether anything that an input may touch is part of this. A creation that leaves the id to us touches nothing: a
    /// repeat of it is found by the store.
    fn concerns(&self, input: &Input) -> bool {
        let tenant = || input.tenant.clone();
        let session = |machine: &_, subject: &_| {
            let (machine, subject) = (Clone::clone(machine), Clone::clone(subject));
            self.sessions.contains_key(&(tenant(), machine, subject))
        };
        let begins_session = match &input.cause {
            Cause::Create { machine, subject: Some(subject), .. } => session(machine, subject),
            _ => false,
        };
        begins_session
            || match input.target() {
                Some(Target::Instance(id)) => self.has(&(tenant(), id)),
                Some(Target::Subject(machine, subject)) => session(&machine, &subject),
                None => false,
            }
    }

    pub fn has(&self, key: &InstanceKey) -> bool {
        self.snapshots.contains_key(key)
    }
}

impl Shard {
    /// Decides on an input, or has it wait for what it would have to be decided on.
    pub(crate) fn decide_into(&mut self, batch: &mut Batch, mut request: Request, now: Timestamp) {
        let receipt = request.input.receipt_id();
        request.watch.iter_mut().for_each(|watch| watch.take());
        if let Some(first) = batch.world.receipts.get(&receipt) {
            batch.followers.push((*first, request));
            return;
        }
        if self.in_air.worlds().any(|world| world.concerns(&request.input)) {
            return self.parked.push(request);
        }
        if let Some(receipt) = self.hot.receipt(receipt) {
            return self.replay(request, &receipt);
        }
        let (machine, before) = match self.prepare(batch, &request.input, now) {
            Ok(found) => found,
            Err(error) => return request.answer(Err(error)),
        };
        let decided = decided_on(&machine, before.as_deref(), &mut request, now);
        let second =
            decided.as_ref().map_or(Ok(None), |commit| second_of(&*self.store, Some(&batch.world), commit));
        let decided = match second {
            Ok(second) => second.map_or(decided, Err),
            Err(error) => return request.answer(Err(error.into())),
        };
        match decided {
            Ok(commit) => {
                let commit = self.noticed(commit, request.input.trace.as_ref());
                batch.push(commit, None, Owner::Request(request));
            }
            Err(refusal) => match before {
                Some(before) if refusal.code.is_recorded() && !is_arrival(&request.input) => {
                    let commit = refused(&machine, &before, &request.input, &refusal, now);
                    batch.push(commit, Some(&before), Owner::Request(request));
                }
                Some(before) if batch.world.has(&key_of(&before)) => {
                    batch.deferred.push(request);
                }
                before => {
                    // What is refused without a trace may be a repeat, or have been judged by a hot copy.
                    match first_of(&*self.store, &request.input) {
                        Ok(Some((instance, entry))) => {
                            return self.replay(request, &receipt_of((instance, entry)));
                        }
                        Ok(None) => {}
                        Err(error) => return request.answer(Err(error.into())),
                    }
                    if let Some(before) = before.filter(|_| request.attempts == 0) {
                        self.hot.forget(&key_of(&before));
                        request.attempts = 1;
                        return self.decide_into(batch, request, now);
                    }
                    self.count(&machine, &request.input, refusal.code.as_str());
                    self.refuse(request, refusal);
                }
            },
        }
    }

    /// A commit that moves something, with an effect that tells those of it who asked to be told.
    fn noticed(&self, mut commit: Commit, trace: Option<&Trace>) -> Commit {
        let moved = match &commit.entry.answer {
            Answer::Event(EventAnswer { flow: Some(flow), .. }) => flow.moved.clone(),
            _ => Vec::new(),
        };
        let moves = !commit.entry.transitions.is_empty() || !moved.is_empty();
        let Some(after) = commit.after.as_ref().filter(|_| moves) else {
            return commit;
        };
        let wanted =
            |delivery: &Arc<Delivery>| delivery.carrier.wants_notices(&commit.tenant, &after.machine);
        if self.delivery.as_ref().is_some_and(wanted) {
            let notice = Notice {
                revision: after.revision,
                event: commit.entry.event.clone(),
                from: commit.entry.from.clone(),
                to: commit.entry.to.clone(),
                closure_reason: after.closure.as_ref().map(|closure| closure.reason.clone()),
                moved,
            };
            let ordinal = commit.effects.len();
            let kind = EffectKind::Notice(notice);
            let effect = Effect::new(&after.instance, after.revision, ordinal, kind);
            commit.effects.push(effect.traced(trace));
        }
        commit
    }

    /// The machine and the instance that an input is decided on, with the instance's due timers fired first.
    fn prepare(
        &mut self,
        batch: &mut Batch,
        input: &Input,
        now: Timestamp,
    ) -> Result<(Arc<Machine>, Option<Arc<Snapshot>>), EngineError> {
        let before = match (&input.cause, input.target()) {
            (Cause::Create { machine, subject, .. }, target) => {
                let current = self.machines.current_for(&input.tenant, machine)?;
                let by_id = match target {
                    Some(Target::Instance(id)) => self.find(batch, &(input.tenant.clone(), id))?,
                    _ => None,
                };
                match (by_id, subject) {
                    (None, Some(subject)) if current.conversation.is_some() => {
                        let key = (input.tenant.clone(), machine.clone(), subject.clone());
                        self.find_session(batch, &key)?
                    }
                    (by_id, _) => by_id,
                }
            }
            (_, Some(Target::Subject(machine, subject))) => {
                self.machines.current_for(&input.tenant, &machine)?;
                self.find_session(batch, &(input.tenant.clone(), machine, subject))?
            }
            (_, Some(Target::Instance(id))) => {
                let found = self.find(batch, &(input.tenant.clone(), id.clone()))?;
                Some(found.ok_or_else(|| EngineError::NotFound { what: format!("instance `{id}`") })?)
            }
            (_, None) => None,
        };
        let before = match before {
            Some(before) => Some(self.fire_into(batch, before, now, false)?),
            None => None,
        };
        let machine = match (&input.cause, &before) {
            (Cause::Create { machine, .. }, _) => self.machines.current_for(&input.tenant, machine)?,
            (Cause::Message { machine, .. }, before) => match before.as_ref().filter(|b| !b.is_closed()) {
                Some(open) => self.machine_of(open)?,
                None => self.machines.current_for(&input.tenant, machine)?,
            },
            (Cause::Migrate { to, .. }, Some(before)) => {
                self.machines.learn(&*self.store, to)?;
                match self.machines.by_hash(to) {
                    Some(machine) => machine,
                    // It refuses what is not of it.
                    None => self.machine_of(before)?,
                }
            }
            (_, Some(before)) => self.machine_of(before)?,
            (_, None) => {
                return Err(EngineError::NotFound { what: "such instance".into() });
            }
        };
        Ok((machine, before))
    }

    /// The machine that an instance is pinned to.
    fn machine_of(&self, snapshot: &Snapshot) -> Result<Arc<Machine>, EngineError> {
        self.machines.learn(&*self.store, &snapshot.definition)?;
        self.machines.of(snapshot)
    }

    fn find(&mut self, batch: &Batch, key: &InstanceKey) -> Result<Option<Arc<Snapshot>>, EngineError> {
        if let Some(found) = batch.world.snapshots.get(key).cloned().or_else(|| self.hot.snapshot(key)) {
            return Ok(Some(found));
        }
        let loaded = self.metrics.timed("load", || self.store.load(&key.0, &key.1))?.map(Arc::new);
        if let Some(snapshot) = &loaded {
            self.hot.remember(Arc::clone(snapshot));
        }
        Ok(loaded)
    }

    fn find_session(
        &mut self,
        batch: &Batch,
        key: &SessionKey,
    ) -> Result<Option<Arc<Snapshot>>, EngineError> {
        if let Some(found) = batch.world.session(key).or_else(|| self.hot.session(key)) {
            return Ok(Some(found));
        }
        let load = || self.store.load_session(&key.0, &key.1, &key.2);
        let loaded = self.metrics.timed("load_session", load)?.map(Arc::new);
        if let Some(snapshot) = &loaded {
            self.hot.remember(Arc::clone(snapshot));
        }
        Ok(loaded)
    }

    /// Decides on the timers of one instance that are due, and returns what it is after them. A pending question's
    /// own timer is left to the router when a message is about to be routed, unless `questions` says otherwise.
    fn fire_into(
        &mut self,
        batch: &mut Batch,
        before: Arc<Snapshot>,
        now: Timestamp,
        questions: bool,
    ) -> Result<Arc<Snapshot>, EngineError> {
        let mut current = before;
        for _ in 0..INSTANCE_TIMERS_MAX {
            let wanted = |timer: &Timer| questions || &*timer.id != CLARIFICATION_TIMER;
            let Some(timer) = current.due_timer(now, wanted) else {
                return Ok(current);
            };
            let machine = self.machine_of(&current)?;
            let input = timer_input(&current, timer);
            match decide(&machine, Some(&current), &input, now) {
                Ok(commit) => {
                    let key = (commit.tenant.clone(), commit.instance.clone());
                    batch.push(self.noticed(commit, None), None, Owner::Timer);
                    current = Arc::clone(&batch.world.snapshots[&key]);
                }
                Err(refusal) => {
                    tracing::error!(instance = %current.instance, timer = %timer.id, code = refusal.code.as_str(), "failed to fire a timer: {}", refusal.message);
                    return Ok(current);
                }
            }
        }
        Ok(current)
    }

    /// Fires the timers of instances that the store says are due, or later those of what is on its way there.
    pub(crate) fn fire_claimed(&mut self, batch: &mut Batch, claimed: Vec<InstanceKey>, now: Timestamp) {
        for key in claimed {
            if self.in_air.worlds().any(|world| world.has(&key)) {
                self.claimed.push(key);
                continue;
            }
            if self.is_shared {
                // A decision on what another server has moved on would be stale, and the claim would have to run out.
                self.hot.forget(&key);
            }
            let fired = match self.find(batch, &key) {
                Ok(Some(snapshot)) => self.fire_into(batch, snapshot, now, true).map(|_| ()),
                Ok(None) => Ok(()),
                Err(error) => Err(error),
            };
            if let Err(error) = fired {
                tracing::error!(instance = %key.1, "failed to fire the timers of an instance: {error}");
                self.hot.forget(&key);
            }
        }
    }
}

/// `decide`, with its stages noted.
fn decided_on(
    machine: &Arc<Machine>,
    before: Option<&Snapshot>,
    request: &mut Request,
    now: Timestamp,
) -> Result<Commit, Refusal> {
    let Request { input, watch: Some(watch), .. } = request else {
        return decide(machine, before, &request.input, now);
    };
    watch.find(machine);
    let stages = &mut watch.stages;
    let decided = decide_telling(machine, before, input, now, || stages.routed = Some(Instant::now()));
    stages.decided = Some(Instant::now());
    decided
}

/// Whether it comes from another system: what is refused of that may come again by another definition.
fn is_arrival(input: &Input) -> bool {
    matches!(&input.cause, Cause::Create { start, .. } if start.former.is_some())
}

/// The refusal of a session that is brought in again and would be open beside a later one of its subject, in the world or
/// in the store: nobody has two.
pub(crate) fn second_of(
    store: &dyn Store,
    world: Option<&World>,
    commit: &Commit,
) -> Result<Option<Refusal>, LoadError> {
    let is_again = commit.entry.is_again();
    let Some(after) = commit.after.as_ref().filter(|after| is_again && !after.is_closed()) else {
        return Ok(None);
    };
    let Some(key) = session_key(after) else { return Ok(None) };
    let is_later = |other: &Snapshot| other.ordinal > after.ordinal;
    let later = match world.and_then(|world| world.session(&key)).filter(|other| is_later(other)) {
        Some(later) => Some(later.instance.clone()),
        // In memory may be an earlier one.
        None => store.load_session(&key.0, &key.1, &key.2)?.filter(is_later).map(|later| later.instance),
    };
    Ok(later.map(|later| {
        let message = format!(
            "the instance `{}` would be open again, and its subject has gone on with `{later}`",
            after.instance
        );
        Refusal::new(RefusalCode::InstanceExists, commit.expected, message)
    }))
}

/// The input of a due timer. Its key names the timer and its deadline, so that it takes effect once. Of what came from
/// another system it names the revision too: a record that comes again may set the same timer again.
pub(crate) fn timer_input(of: &Snapshot, timer: &Timer) -> Input {
    let (digest, deadline) = (Digest::of_parts(&[&timer.id]), timer.deadline);
    let mut key = format!("timer:{digest}:{}", deadline.as_millis());
    if of.brought_in.is_some() {
        key.push_str(&format!(":{}", of.revision));
    }
    let instance = of.instance.clone();
    Input {
        tenant: of.tenant.clone(),
        key: InputKey::parse(&key).expect("hexadecimal digits and numbers make a key"),
        cause: Cause::Timer { instance, timer: timer.id.to_string(), deadline },
        expected: None,
        by: None,
        trace: None,
    }
}
