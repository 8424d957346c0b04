//! Landing: what became of a batch is taken into memory, the log and the figures, and everybody is answered.
//!
//! A commit that turns out to be stale is decided again, a bounded number of times. After an error the receipts tell
//! what was saved.

use std::collections::BTreeMap;
use std::sync::Arc;

use kernel::commit::{Answer, Commit, Entry};
use kernel::id::{InstanceId, TenantId};
use kernel::input::{Cause, Input};
use kernel::looping::Looping;
use kernel::machine::Machine;
use kernel::refusal::{Refusal, RefusalCode};
use kernel::snapshot::Snapshot;
use store::{CommitError, LoadError, Outcome, Store};

use crate::batch::{Batch, Owner};
use crate::flight::Landed;
use crate::hot::{InstanceKey, Receipt, session_key};
use crate::shard::Shard;
use crate::stream::Happening;
use crate::traces::Saved;
use crate::{EngineError, Request, Submitted};

/// What a batch of timers did.
#[derive(Debug, Default)]
pub(crate) struct Fired {
    pub timers: usize,
    pub closed: BTreeMap<String, usize>,
    /// The store did not do its part; it is tried again later.
    pub failed: bool,
}

impl Shard {
    /// Answers a batch. Returns the requests that have to be decided again.
    pub(crate) fn land(&mut self, landed: Landed) -> Vec<Request> {
        let Landed { mut batch, saved, began, took } = landed;
        batch.note(Saved { began, took, commits: batch.len() });
        let mut again = Vec::new();
        self.metrics.batches.inc();
        self.metrics.batch_inputs.observe(batch.commits.len() as f64);
        self.metrics.commit_seconds.observe(took.as_secs_f64());
        let outcomes = match saved {
            Ok(outcomes) => outcomes,
            Err(error) => {
                self.metrics.commit_errors.inc();
                tracing::error!(commits = batch.len(), "failed to commit a batch: {error}");
                self.fired.failed = true;
                self.give_back(batch, &error);
                return again;
            }
        };
        let mut settled: Vec<Option<Receipt>> = Vec::with_capacity(outcomes.len());
        for ((commit, owner), outcome) in batch.commits.into_iter().zip(batch.owners).zip(outcomes) {
            let receipt = match outcome {
                Outcome::Committed => Some((self.committed(commit, &owner), true)),
                Outcome::Duplicate(first) => {
                    // It was decided on a copy that another server has overtaken.
                    self.forget(&commit);
                    Some((receipt_of(*first), false))
                }
                Outcome::TooLarge(detail) => {
                    self.forget(&commit);
                    tracing::error!(instance = %commit.instance, "failed to save what is too large: {detail}");
                    match owner {
                        Owner::Request(request) => request.answer(Err(EngineError::TooLarge(detail))),
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
                    request.answer(answer);
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
        again
    }

    /// Decides once more, or says in the end why that leads nowhere.
    fn try_again(&self, mut request: Request, again: &mut Vec<Request>) {
        request.attempts += 1;
        if request.attempts < self.settings.attempts_max {
            return again.push(request);
        }
        match first_of(&*self.store, &request.input) {
            Ok(Some(found)) => self.replay(request, &receipt_of(found)),
            Err(error) => request.answer(Err(error.into())),
            Ok(None) => {
                let detail = format!(
                    "the instance changed under {} decisions in a row; repeat it with the same key",
                    request.attempts
                );
                request.answer(Err(EngineError::Unavailable(detail)));
            }
        }
    }

    /// Takes a saved commit into memory, the log, the figures and the feed.
    fn committed(&mut self, commit: Commit, owner: &Owner) -> Receipt {
        if self.settings.logs_commits {
            log(&commit.tenant, &commit.instance, &commit.entry);
        }
        let decided_on = match &commit.after {
            Some(_) => None,
            None => self.hot.snapshot(&(commit.tenant.clone(), commit.instance.clone())),
        };
        let stands = commit.after.as_ref().or(decided_on.as_deref());
        let (machine, version) = stands.map(|stands| (stands.machine.clone(), stands.version)).unzip();
        let subject = stands.and_then(|stands| stands.subject.clone());
        // What is only tried out is in the shadow's log, not among the figures of what was done, and is told to nobody.
        if !commit.tenant.is_shadow() {
            let machine = machine.as_ref().map_or("", |machine| machine.as_str());
            report_trouble(machine, &commit);
            self.metrics.count_commit(machine, owner.kind(), &commit);
        }
        let Commit { tenant, instance, after, entry, effects, .. } = commit;
        let Entry { revision, at, event, from, to, success, code, looping, answer, .. } = entry;
        let receipt = Receipt { digest: entry.digest, answer: Arc::new(answer) };
        if !tenant.is_beside() {
            let closure = after.as_ref().and_then(|after| after.closure.as_ref());
            self.feed.tell(Happening {
                machine,
                version,
                subject,
                closure_reason: closure.map(|closure| closure.reason.clone()),
                tenant,
                instance,
                revision,
                at,
                from,
                to,
                event,
                success,
                code,
                looping,
            });
        }
        if !effects.is_empty() {
            self.delivery.iter().for_each(|delivery| delivery.wake());
        }
        if let Some(after) = after {
            if matches!(owner, Owner::Timer) {
                self.metrics.timers_fired.inc();
                self.fired.timers += 1;
                if let Some(closure) = &after.closure {
                    *self.fired.closed.entry(closure.reason.clone()).or_default() += 1;
                }
            }
            self.watch(after.wake_at());
            self.hot.remember(Arc::new(after));
        }
        self.hot.remember_receipt(entry.receipt, receipt.clone());
        receipt
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
        if unknown {
            // What may be saved may have timers and effects that nobody here was told of.
            self.watch(Some(self.clock.now()));
            self.delivery.iter().for_each(|delivery| delivery.wake());
            self.feed.lose();
        }
        let requests = batch.owners.into_iter().filter_map(|owner| match owner {
            Owner::Request(request) => Some(request),
            Owner::Timer => None,
        });
        let followers = batch.followers.into_iter().map(|(_, request)| request);
        for request in requests.chain(followers).chain(batch.deferred) {
            let found = match unknown {
                true => first_of(&*self.store, &request.input).ok().flatten(),
                false => None,
            };
            match found {
                Some((instance, entry)) => self.replay(request, &receipt_of((instance, entry))),
                None => request.answer(Err(error.clone().into())),
            }
        }
    }

    /// Answers a repeated key as its first was answered; with another payload it is refused.
    pub(crate) fn replay(&self, request: Request, receipt: &Receipt) {
        if let Some(refusal) = reused(&request.input, receipt) {
            return self.refuse(request, refusal);
        }
        self.metrics.replayed.inc();
        request.answer(Ok(Submitted { answer: Arc::clone(&receipt.answer), replayed: true }));
    }

    pub(crate) fn refuse(&self, request: Request, refusal: Refusal) {
        let answer = Arc::new(Answer::Refused(refusal));
        request.answer(Ok(Submitted { answer, replayed: false }));
    }

    pub(crate) fn count(&self, machine: &Machine, input: &Input, outcome: &'static str) {
        if input.tenant.is_shadow() {
            return;
        }
        self.metrics.count_input(machine.name.as_str(), kind_of(input), outcome);
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

/// What an operator should see in the log, as it is counted.
fn report_trouble(machine: &str, commit: &Commit) {
    let Some(after) = &commit.after else { return };
    let trace_id = commit.entry.trace_id.as_deref().unwrap_or("");
    if let Some(Looping { event, from, to, count, .. }) =
        after.looping.as_ref().filter(|_| commit.entry.looping.is_some())
    {
        tracing::warn!(trace_id, machine, count, "`{event}` from `{from}` to `{to}` goes round and round");
    }
    if after.dead_end {
        let state = &commit.entry.to;
        tracing::warn!(trace_id, machine, "nothing leads on from `{state}`: only an operator can");
    }
}

pub(crate) fn key_of(snapshot: &Snapshot) -> InstanceKey {
    (snapshot.tenant.clone(), snapshot.instance.clone())
}

/// What the first input under the key of this one has left.
pub(crate) fn first_of(store: &dyn Store, input: &Input) -> Result<Option<(InstanceId, Entry)>, LoadError> {
    store.receipt(&input.tenant, &input.receipt_scope(), input.receipt_id())
}

/// The refusal of an input whose key was used for something else.
pub(crate) fn reused(input: &Input, first: &Receipt) -> Option<Refusal> {
    let message = || format!("the key `{}` came before with another payload", input.key);
    let is_another = input.cause.digest() != first.digest;
    is_another.then(|| Refusal::new(RefusalCode::KeyReused, Default::default(), message()))
}

pub(crate) fn receipt_of((_, entry): (InstanceId, Entry)) -> Receipt {
    Receipt { digest: entry.digest, answer: Arc::new(entry.answer) }
}

/// What an input is, in a word.
pub fn kind_of(input: &Input) -> &'static str {
    match &input.cause {
        Cause::Create { .. } => "create",
        Cause::Event { .. } => "event",
        Cause::Message { .. } => "message",
        Cause::Answer { .. } => "answer",
        Cause::Timer { .. } => "timer",
        Cause::Result { .. } => "result",
        Cause::Recover { .. } => "recover",
        Cause::Migrate { .. } => "migrate",
        Cause::Withdraw { .. } => "withdraw",
    }
}
