//! One batch: inputs are decided on, one after another, each on what the one before left; then all of it is committed
//! at once, and everybody is answered.
//!
//! A repeated key waits for the first of its kind and shares its answer, whether that is in this batch, in memory, or
//! in the store. A commit that turns out to be stale is decided again, a bounded number of times.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Instant;

use kernel::commit::{Answer, Commit, Effect, EffectKind, Entry, EventAnswer, Notice};
use kernel::decide::{CLARIFICATION_TIMER, decide, refused};
use kernel::id::{Digest, InputKey, InstanceId, TenantId};
use kernel::input::{Cause, Input, ReceiptId, Target};
use kernel::looping::Looping;
use kernel::machine::Machine;
use kernel::refusal::{Refusal, RefusalCode};
use kernel::snapshot::{Snapshot, Timer};
use kernel::time::Timestamp;
use store::{CommitError, Outcome};

use crate::delivery::Delivery;
use crate::hot::{InstanceKey, Receipt, SessionKey, session_key};
use crate::metrics::{MachineLabels, OutcomeLabels};
use crate::shard::Shard;
use crate::{EngineError, Request, Submitted};

/// Timers of one instance fired in one turn; what is due beyond them waits for the next.
const INSTANCE_TIMERS_MAX: usize = 64;

/// Commits that are decided but not yet saved, and what the world looks like if they will be.
#[derive(Default)]
pub(crate) struct Batch {
    commits: Vec<Commit>,
    owners: Vec<Owner>,
    /// Repeats of a key whose first is in this batch.
    followers: Vec<(usize, Request)>,
    /// Refused because of what this batch may or may not save: decided again when that is known.
    deferred: Vec<Request>,
    snapshots: HashMap<InstanceKey, Arc<Snapshot>>,
    sessions: HashMap<SessionKey, InstanceId>,
    receipts: HashMap<ReceiptId, usize>,
}

/// Who waits for a commit.
enum Owner {
    Request(Request),
    Timer,
}

impl Owner {
    fn kind(&self) -> &'static str {
        match self {
            Self::Timer => "timer",
            Self::Request(request) => kind_of(&request.input),
        }
    }
}

/// What a batch of timers did.
#[derive(Debug, Default)]
pub(crate) struct Fired {
    pub timers: usize,
    pub closed: BTreeMap<String, usize>,
    /// The store did not do its part; it is tried again later.
    pub failed: bool,
    /// Something is still due.
    pub more: bool,
}

impl Batch {
    pub fn len(&self) -> usize {
        self.commits.len()
    }

    fn push(&mut self, commit: Commit, owner: Owner) {
        if let Some(after) = &commit.after {
            let after = Arc::new(after.clone());
            if let Some(key) = session_key(&after) {
                self.sessions.insert(key, after.instance.clone());
            }
            self.snapshots.insert((after.tenant.clone(), after.instance.clone()), after);
        }
        self.receipts.insert(commit.entry.receipt, self.commits.len());
        self.commits.push(commit);
        self.owners.push(owner);
    }

    fn session(&self, key: &SessionKey) -> Option<Arc<Snapshot>> {
        let instance = self.sessions.get(key)?;
        self.snapshots.get(&(key.0.clone(), instance.clone())).cloned()
    }
}

impl Shard {
    /// Decides and commits until every request has its answer.
    pub(crate) fn process(&mut self, mut requests: Vec<Request>) {
        while !requests.is_empty() {
            let now = self.clock.now();
            let mut batch = Batch::default();
            for request in requests.drain(..) {
                self.decide_into(&mut batch, request, now);
            }
            requests = self.commit(batch).1;
        }
    }

    fn decide_into(&mut self, batch: &mut Batch, mut request: Request, now: Timestamp) {
        let receipt = request.input.receipt_id();
        if let Some(first) = batch.receipts.get(&receipt) {
            batch.followers.push((*first, request));
            return;
        }
        if let Some(receipt) = self.hot.receipt(receipt) {
            return self.replay(request, &receipt);
        }
        let (machine, before) = match self.prepare(batch, &request.input, now) {
            Ok(found) => found,
            Err(error) => return (request.answer)(Err(error)),
        };
        match decide(&machine, before.as_deref(), &request.input, now) {
            Ok(commit) => batch.push(self.noticed(commit), Owner::Request(request)),
            Err(refusal) => match before {
                Some(before) if refusal.code.is_recorded() => {
                    let commit = refused(&machine, &before, &request.input, &refusal, now);
                    batch.push(commit, Owner::Request(request));
                }
                Some(before) if batch.snapshots.contains_key(&key_of(&before)) => {
                    batch.deferred.push(request);
                }
                before => {
                    // What is refused without a trace may be a repeat, or have been judged by a hot copy.
                    match self.store.receipt(&request.input.tenant, receipt) {
                        Ok(Some((instance, entry))) => {
                            return self.replay(request, &receipt_of((instance, entry)));
                        }
                        Ok(None) => {}
                        Err(error) => return (request.answer)(Err(error.into())),
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
    fn noticed(&self, mut commit: Commit) -> Commit {
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
            let mut effect = Effect::new(&after.instance, after.revision, ordinal, kind);
            effect.trace_id.clone_from(&commit.entry.trace_id);
            commit.effects.push(effect);
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
            (_, Some(before)) => self.machine_of(before)?,
            (_, None) => {
                return Err(EngineError::NotFound { what: "such instance".into() });
            }
        };
        Ok((machine, before))
    }

    /// The machine that an instance is pinned to.
    fn machine_of(&self, snapshot: &Snapshot) -> Result<Arc<Machine>, EngineError> {
        self.machines.learn(&*self.store, snapshot)?;
        self.machines.of(snapshot)
    }

    fn find(&mut self, batch: &Batch, key: &InstanceKey) -> Result<Option<Arc<Snapshot>>, EngineError> {
        if let Some(found) = batch.snapshots.get(key).cloned().or_else(|| self.hot.snapshot(key)) {
            return Ok(Some(found));
        }
        let loaded = self.store.load(&key.0, &key.1)?.map(Arc::new);
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
        if let Some(found) = batch.session(key).or_else(|| self.hot.session(key)) {
            return Ok(Some(found));
        }
        let loaded = self.store.load_session(&key.0, &key.1, &key.2)?.map(Arc::new);
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
            let input = timer_input(&current.tenant, &current.instance, &timer.id, timer.deadline);
            match decide(&machine, Some(&current), &input, now) {
                Ok(commit) => {
                    let key = (commit.tenant.clone(), commit.instance.clone());
                    batch.push(self.noticed(commit), Owner::Timer);
                    current = Arc::clone(&batch.snapshots[&key]);
                }
                Err(refusal) => {
                    tracing::error!(instance = %current.instance, timer = %timer.id, code = refusal.code.as_str(), "failed to fire a timer: {}", refusal.message);
                    return Ok(current);
                }
            }
        }
        Ok(current)
    }

    /// Fires the timers of instances that the store says are due.
    pub(crate) fn fire_claimed(&mut self, claimed: Vec<InstanceKey>, now: Timestamp) -> Fired {
        let mut batch = Batch::default();
        for key in claimed {
            if self.is_shared {
                // A decision on what another server has moved on would be stale, and the claim would have to run out.
                self.hot.forget(&key);
            }
            let fired = match self.find(&batch, &key) {
                Ok(Some(snapshot)) => self.fire_into(&mut batch, snapshot, now, true).map(|_| ()),
                Ok(None) => Ok(()),
                Err(error) => Err(error),
            };
            if let Err(error) = fired {
                tracing::error!(instance = %key.1, "failed to fire the timers of an instance: {error}");
                self.hot.forget(&key);
            }
        }
        self.commit(batch).0
    }

    /// Commits a batch and answers. Returns what its timers did, and the requests that have to be decided again.
    fn commit(&mut self, batch: Batch) -> (Fired, Vec<Request>) {
        let mut fired = Fired::default();
        let mut again = Vec::new();
        if batch.commits.is_empty() {
            return (fired, again);
        }
        let started = Instant::now();
        let saved = self.store.commit(&batch.commits);
        self.metrics.batches.inc();
        self.metrics.batch_inputs.observe(batch.commits.len() as f64);
        self.metrics.commit_seconds.observe(started.elapsed().as_secs_f64());
        let outcomes = match saved {
            Ok(outcomes) => outcomes,
            Err(error) => {
                self.metrics.commit_errors.inc();
                tracing::error!(commits = batch.len(), "failed to commit a batch: {error}");
                fired.failed = true;
                self.give_back(batch, &error);
                return (fired, again);
            }
        };
        let mut settled: Vec<Option<Receipt>> = Vec::with_capacity(outcomes.len());
        for ((commit, owner), outcome) in batch.commits.into_iter().zip(batch.owners).zip(outcomes) {
            let receipt = match outcome {
                Outcome::Committed => Some((self.committed(commit, &owner, &mut fired), true)),
                Outcome::Duplicate(first) => {
                    // It was decided on a copy that another server has overtaken.
                    self.forget(&commit);
                    Some((receipt_of(*first), false))
                }
                Outcome::TooLarge(detail) => {
                    self.forget(&commit);
                    tracing::error!(instance = %commit.instance, "failed to save what is too large: {detail}");
                    match owner {
                        Owner::Request(request) => (request.answer)(Err(EngineError::TooLarge(detail))),
                        Owner::Timer => {}
                    }
                    settled.push(None);
                    continue;
                }
                Outcome::Stale => {
                    self.metrics.stale.inc();
                    self.forget(&commit);
                    None
                }
            };
            match (owner, &receipt) {
                (Owner::Timer, _) => {}
                (Owner::Request(request), Some((receipt, fresh))) if *fresh => {
                    let answer = Ok(Submitted { answer: Arc::clone(&receipt.answer), replayed: false });
                    (request.answer)(answer);
                }
                (Owner::Request(request), Some((receipt, _))) => self.replay(request, receipt),
                (Owner::Request(request), None) => self.try_again(request, &mut again),
            }
            settled.push(receipt.map(|(receipt, _)| receipt));
        }
        for (first, request) in batch.followers {
            match settled.get(first).cloned().flatten() {
                Some(receipt) => self.replay(request, &receipt),
                None => self.try_again(request, &mut again),
            }
        }
        for request in batch.deferred {
            self.try_again(request, &mut again);
        }
        (fired, again)
    }

    /// Decides once more, or says in the end why that leads nowhere.
    fn try_again(&self, mut request: Request, again: &mut Vec<Request>) {
        request.attempts += 1;
        if request.attempts < self.settings.attempts_max {
            return again.push(request);
        }
        match self.store.receipt(&request.input.tenant, request.input.receipt_id()) {
            Ok(Some(found)) => self.replay(request, &receipt_of(found)),
            Err(error) => (request.answer)(Err(error.into())),
            Ok(None) => {
                let detail = format!(
                    "the instance changed under {} decisions in a row; repeat it with the same key",
                    request.attempts
                );
                (request.answer)(Err(EngineError::Unavailable(detail)));
            }
        }
    }

    /// Takes a saved commit into memory, the log and the figures.
    fn committed(&mut self, commit: Commit, owner: &Owner, fired: &mut Fired) -> Receipt {
        let Commit { tenant, instance, after, entry, effects, .. } = commit;
        log(&tenant, &instance, &entry);
        let receipt = Receipt { digest: entry.digest, answer: Arc::new(entry.answer) };
        // What is only tried out is in the shadow's log, not among the figures of what was done, and is told to nobody.
        if !tenant.is_shadow() {
            let decided_on = self.hot.snapshot(&(tenant, instance)).filter(|_| after.is_none());
            let machine =
                after.as_ref().or(decided_on.as_deref()).map(|snapshot| snapshot.machine.to_string());
            let machine = machine.unwrap_or_default();
            if let Some(looping) =
                after.as_ref().and_then(|a| a.looping.as_ref()).filter(|_| entry.looping.is_some())
            {
                self.report_loop(&machine, looping, &entry.trace_id);
            }
            if after.as_ref().is_some_and(|after| after.dead_end) {
                self.report_dead_end(&machine, &entry.to, &entry.trace_id);
            }
            if let Answer::Event(EventAnswer { flow: Some(flow), .. }) = &*receipt.answer {
                self.metrics.count_moves(&machine, &flow.moved);
            }
            let labels = OutcomeLabels { machine, kind: owner.kind(), outcome: outcome_of(&receipt.answer) };
            self.metrics.inputs.get_or_create(&labels).inc();
        }
        if !effects.is_empty() {
            self.delivery.iter().for_each(|delivery| delivery.wake());
        }
        if let Some(after) = after {
            if matches!(owner, Owner::Timer) {
                self.metrics.timers_fired.inc();
                fired.timers += 1;
                if let Some(closure) = &after.closure {
                    *fired.closed.entry(closure.reason.clone()).or_default() += 1;
                }
            }
            self.watch(after.wake_at());
            self.hot.remember(Arc::new(after));
        }
        self.hot.remember_receipt(entry.receipt, receipt.clone());
        receipt
    }

    fn report_loop(&self, machine: &str, looping: &Looping, trace_id: &Option<String>) {
        tracing::warn!(
            trace_id = trace_id.as_deref().unwrap_or(""),
            machine,
            count = looping.count,
            "`{}` from `{}` to `{}` goes round and round",
            looping.event,
            looping.from,
            looping.to
        );
        let labels = MachineLabels { machine: machine.to_owned() };
        self.metrics.loops.get_or_create(&labels).inc();
    }

    fn report_dead_end(&self, machine: &str, state: &str, trace_id: &Option<String>) {
        let trace_id = trace_id.as_deref().unwrap_or("");
        tracing::warn!(trace_id, machine, "nothing leads on from `{state}`: only an operator can");
        let labels = MachineLabels { machine: machine.to_owned() };
        self.metrics.dead_ends.get_or_create(&labels).inc();
    }

    fn forget(&mut self, commit: &Commit) {
        self.hot.forget(&(commit.tenant.clone(), commit.instance.clone()));
        if let Some(key) = commit.after.as_ref().and_then(session_key) {
            self.hot.forget_session(&key);
        }
    }

    /// After an error at the commit nobody knows what was saved: the receipts tell, or the caller has to ask again.
    fn give_back(&mut self, batch: Batch, error: &CommitError) {
        for commit in &batch.commits {
            self.forget(commit);
        }
        let unknown = matches!(error, CommitError::Unknown(_));
        let requests = batch.owners.into_iter().filter_map(|owner| match owner {
            Owner::Request(request) => Some(request),
            Owner::Timer => None,
        });
        let followers = batch.followers.into_iter().map(|(_, request)| request);
        for request in requests.chain(followers).chain(batch.deferred) {
            let found = match unknown {
                true => self.store.receipt(&request.input.tenant, request.input.receipt_id()).ok().flatten(),
                false => None,
            };
            match found {
                Some((instance, entry)) => self.replay(request, &receipt_of((instance, entry))),
                None => (request.answer)(Err(error.clone().into())),
            }
        }
    }

    /// Answers a repeated key as its first was answered; with another payload it is refused.
    fn replay(&self, request: Request, receipt: &Receipt) {
        if request.input.cause.digest() != receipt.digest {
            let message = format!("the key `{}` came before with another payload", request.input.key);
            let refusal = Refusal::new(RefusalCode::KeyReused, Default::default(), message);
            return self.refuse(request, refusal);
        }
        self.metrics.replayed.inc();
        (request.answer)(Ok(Submitted { answer: Arc::clone(&receipt.answer), replayed: true }));
    }

    fn refuse(&self, request: Request, refusal: Refusal) {
        let answer = Arc::new(Answer::Refused(refusal));
        (request.answer)(Ok(Submitted { answer, replayed: false }));
    }

    fn count(&self, machine: &Machine, input: &Input, outcome: &str) {
        if input.tenant.is_shadow() {
            return;
        }
        let labels = OutcomeLabels {
            machine: machine.name.to_string(),
            kind: kind_of(input),
            outcome: outcome.to_owned(),
        };
        self.metrics.inputs.get_or_create(&labels).inc();
    }
}

/// One line for each commit, with the trace that it belongs to.
fn log(tenant: &TenantId, instance: &InstanceId, entry: &Entry) {
    tracing::info!(
        trace_id = entry.trace_id.as_deref().unwrap_or(""),
        tenant = %tenant,
        instance = %instance,
        key = %entry.key,
        revision = entry.revision.0,
        event = entry.event,
        from = entry.from,
        to = entry.to,
        success = entry.success,
        looping = entry.looping.unwrap_or_default(),
        code = entry.code.as_deref().unwrap_or(""),
        "committed"
    );
}

fn outcome_of(answer: &Answer) -> String {
    match answer {
        Answer::Message(answer) => answer.outcome.as_str().to_owned(),
        Answer::Event(_) => "taken".to_owned(),
        Answer::Refused(refusal) => refusal.code.as_str().to_owned(),
    }
}

fn key_of(snapshot: &Snapshot) -> InstanceKey {
    (snapshot.tenant.clone(), snapshot.instance.clone())
}

fn receipt_of((_, entry): (InstanceId, Entry)) -> Receipt {
    Receipt { digest: entry.digest, answer: Arc::new(entry.answer) }
}

fn kind_of(input: &Input) -> &'static str {
    match &input.cause {
        Cause::Create { .. } => "create",
        Cause::Event { .. } => "event",
        Cause::Message { .. } => "message",
        Cause::Answer { .. } => "answer",
        Cause::Timer { .. } => "timer",
        Cause::Result { .. } => "result",
        Cause::Recover { .. } => "recover",
    }
}

/// The input of a due timer. Its key names the timer and its deadline, so that it takes effect once.
pub(crate) fn timer_input(
    tenant: &TenantId,
    instance: &InstanceId,
    timer: &str,
    deadline: Timestamp,
) -> Input {
    let digest = Digest::of_parts(&[timer]);
    let key = format!("timer:{digest}:{}", deadline.as_millis());
    Input {
        tenant: tenant.clone(),
        key: InputKey::parse(&key).expect("hexadecimal digits and a number make a key"),
        cause: Cause::Timer { instance: instance.clone(), timer: timer.to_owned(), deadline },
        expected: None,
        by: None,
        trace_id: None,
    }
}
