//! Commits for tests: what a case says about one, with everything else filled in.

use std::sync::Arc;

use kernel::chart::TransitionIndex;
use kernel::commit::{
    Answer, Commit, Effect, EffectKind, Entry, EntryCause, EventAnswer, PhaseRow, Told, Transition,
};
use kernel::conversation::{Choice, Clarification, ClarificationOption, ClarificationStatus, Message, Reply};
use kernel::flow::PhaseState;
use kernel::id::{DefinitionHash, Digest, InputKey, InstanceId, MachineName, Revision, Subject, TenantId};
use kernel::input::{Fields, ReceiptId, ReceiptScope, Start};
use kernel::looping::Looping;
use kernel::refusal::{Refusal, RefusalCode};
use kernel::snapshot::{Closure, Snapshot, Timer};
use kernel::time::Timestamp;

use crate::{LoadError, Store, StoredDefinition};

pub fn at(ms: i64) -> Timestamp {
    Timestamp::from_millis(ms)
}

pub fn tenant(name: &str) -> TenantId {
    TenantId::stored(name).expect("a test's tenant is valid")
}

pub fn id(name: &str) -> InstanceId {
    InstanceId::parse(name).expect("a test's instance id is valid")
}

pub fn machine(name: &str) -> MachineName {
    MachineName::parse(name).expect("a test's machine name is valid")
}

pub fn subject(name: &str) -> Subject {
    Subject::parse(name).expect("a test's subject is valid")
}

pub fn definition(name: &str, version: u32) -> StoredDefinition {
    let source = format!("machine: {name} # {version}, größer als zuvor\n");
    StoredDefinition {
        hash: DefinitionHash::of(&source),
        machine: machine(name),
        version,
        source,
        saved_at: at(i64::from(version)),
    }
}

/// The receipt under which the tests' commits leave their entries.
pub fn key_of(tenant: &TenantId, key: &str) -> ReceiptId {
    ReceiptId(Digest::of_parts(&[tenant.as_str(), "test", key]))
}

/// Where the receipt of a test's commit is looked for.
pub fn scope_of(commit: &Commit) -> ReceiptScope {
    match commit.is_creation() {
        true => ReceiptScope::Creations,
        false => ReceiptScope::Instance(commit.instance.clone()),
    }
}

/// What a store has under the receipt of a commit.
///
/// # Errors
/// As `Store::receipt`.
pub fn left_by(store: &dyn Store, commit: &Commit) -> Result<Option<(InstanceId, Entry)>, LoadError> {
    store.receipt(&commit.tenant, &scope_of(commit), commit.entry.receipt)
}

/// A phase called `p` and its place, in a state since 1,000 ms, that no worker may take.
pub fn phase(place: u16, state: PhaseState) -> PhaseRow {
    PhaseRow {
        phase: format!("p{place}").into(),
        place,
        state,
        since: at(1_000),
        attempts: 0,
        retries: 0,
        error: None,
        offered_at: None,
        kind: "".into(),
        lease: None,
        worker: None,
    }
}

/// A commit in the making, of a message, if it is not the creation of what is no session. Unless told otherwise: tenant `t`, machine `order`, at 1,000 ms, in the state `open`, under
/// the key `<instance>-<revision>`.
#[derive(Clone, Debug)]
pub struct Draft {
    before: Option<Snapshot>,
    after: Snapshot,
    key: Option<String>,
    is_refused: bool,
    is_brought_in: bool,
    clarifications: Vec<Clarification>,
    effects: Vec<EffectKind>,
    phases: Vec<PhaseRow>,
    secrets: Vec<Arc<str>>,
}

impl Draft {
    pub fn creation(instance: &str) -> Self {
        let after = Snapshot {
            tenant: tenant("t"),
            instance: id(instance),
            machine: machine("order"),
            version: 1,
            definition: DefinitionHash::of("machine: order"),
            subject: None,
            ordinal: 0,
            revision: Revision(1),
            configuration: vec!["open".into()],
            history: Default::default(),
            context: Arc::new(Fields::new()),
            timers: Vec::new(),
            invocations: Vec::new(),
            created_at: at(1_000),
            updated_at: at(1_000),
            closure: None,
            conversation: None,
            flow: None,
            recent: Default::default(),
            looping: None,
            dead_end: false,
            began_by: None,
            brought_in: None,
        };
        Self {
            before: None,
            after,
            key: None,
            is_refused: false,
            is_brought_in: false,
            clarifications: Vec::new(),
            effects: Vec::new(),
            phases: Vec::new(),
            secrets: Vec::new(),
        }
    }

    /// The next commit of an instance, which keeps everything but its revision.
    pub fn change(before: &Snapshot) -> Self {
        let mut after = before.clone();
        after.revision = before.revision.next();
        Self { before: Some(before.clone()), after, ..Self::creation("unused") }
    }

    /// An input that the instance does not take.
    pub fn refusal(before: &Snapshot) -> Self {
        Self { is_refused: true, ..Self::change(before) }
    }

    pub fn tenant(mut self, name: &str) -> Self {
        self.after.tenant = tenant(name);
        self
    }

    pub fn machine(mut self, name: &str) -> Self {
        self.after.machine = machine(name);
        self
    }

    /// A session of a subject, from 1.
    pub fn session(mut self, of: &str, ordinal: u32) -> Self {
        self.after.subject = Some(subject(of));
        self.after.ordinal = ordinal;
        self
    }

    pub fn key(mut self, key: &str) -> Self {
        self.key = Some(key.to_owned());
        self
    }

    pub fn at(mut self, ms: i64) -> Self {
        self.after.updated_at = at(ms);
        if self.before.is_none() {
            self.after.created_at = at(ms);
        }
        self
    }

    pub fn state(mut self, state: &str) -> Self {
        self.after.configuration = state.split(',').map(Into::into).collect();
        self
    }

    pub fn context(mut self, name: &str, value: serde_json::Value) -> Self {
        Arc::make_mut(&mut self.after.context).insert(name.to_owned(), value);
        self
    }

    /// Replaces all timers by one.
    pub fn timer(mut self, deadline: i64) -> Self {
        self.after.timers = vec![Timer::new("timeout".into(), at(deadline))];
        self
    }

    pub fn no_timer(mut self) -> Self {
        self.after.timers.clear();
        self
    }

    /// Nothing leads on from where it is.
    pub fn dead_end(mut self) -> Self {
        self.after.dead_end = true;
        self
    }

    /// It goes in circles, and does until then.
    pub fn looping(mut self, until: i64) -> Self {
        let (from, to, event) = ("open".to_owned(), "open".to_owned(), "go".to_owned());
        self.after.looping = Some(Looping { from, to, event, count: 4, until: at(until) });
        self
    }

    pub fn closed(mut self, reason: &str) -> Self {
        self.after.closure =
            Some(Closure { reason: reason.to_owned(), at: self.after.updated_at, output: Fields::new() });
        self
    }

    pub fn reopened(mut self) -> Self {
        self.after.closure = None;
        self
    }

    /// It comes from another system: the commit is a creation, whether the instance is there or not.
    pub fn brought_in(mut self) -> Self {
        self.is_brought_in = true;
        self
    }

    /// Writes a clarification with this id in this status.
    pub fn question(mut self, id: &str, status: ClarificationStatus) -> Self {
        let now = self.after.updated_at;
        let anybody = || subject("anybody");
        self.clarifications.push(Clarification {
            id: id.to_owned(),
            tenant: self.after.tenant.clone(),
            instance: self.after.instance.clone(),
            machine: self.after.machine.clone(),
            subject: self.after.subject.clone().unwrap_or_else(anybody),
            status,
            question: "Which one — «A» or «B»?".to_owned(),
            options: vec![ClarificationOption {
                id: "1".to_owned(),
                label: "A".to_owned(),
                choice: Choice::Intent("a".to_owned()),
            }],
            original: Message::of_text("the \u{1f600} one"),
            revision: self.after.revision,
            created_at: now,
            expires_at: at(now.as_millis() + 300_000),
            attempts: 0,
            resolved_at: (status != ClarificationStatus::Pending).then_some(now),
            answer: None,
        });
        self
    }

    pub fn asks(self, id: &str) -> Self {
        self.question(id, ClarificationStatus::Pending)
    }

    /// Says something to the subject that nobody waits for.
    pub fn effect(mut self, text: &str) -> Self {
        self.effects.push(EffectKind::Reply(Reply::of_text(text)));
        self
    }

    /// Calls something outside.
    pub fn calls(mut self, id: &str) -> Self {
        let (id, src) = (id.to_owned(), "payments.charge".to_owned());
        self.effects.push(EffectKind::Call { id, src, input: Fields::new() });
        self
    }

    /// Tells another flow something.
    pub fn tells(mut self, instance: &str, event: &str) -> Self {
        let (instance, event) = (id(instance), event.to_owned());
        self.effects.push(EffectKind::Tell(Told::Event { instance, event, payload: Fields::new() }));
        self
    }

    /// One more field of the context is secret.
    pub fn secret(mut self, name: &str) -> Self {
        self.secrets.push(name.into());
        self.secrets.sort_unstable();
        self
    }

    /// Writes the line of a phase.
    pub fn phase(mut self, row: PhaseRow) -> Self {
        self.phases.push(row);
        self
    }

    /// The instance as the commit leaves it; for a refusal, as it was.
    pub fn snapshot(&self) -> Snapshot {
        match &self.before {
            Some(before) if self.is_refused => before.clone(),
            _ => self.after.clone(),
        }
    }

    pub fn build(self) -> Commit {
        let expected = self.before.as_ref().map_or(Revision::NONE, |b| b.revision);
        let snapshot = self.snapshot();
        let effects = (0..)
            .zip(self.effects.clone())
            .map(|(ordinal, kind)| Effect::new(&snapshot.instance, snapshot.revision, ordinal, kind));
        Commit {
            tenant: self.after.tenant.clone(),
            instance: self.after.instance.clone(),
            expected,
            entry: self.entry(&snapshot),
            effects: effects.collect(),
            after: (!self.is_refused).then_some(snapshot),
            clarifications: self.clarifications,
            phases: self.phases,
            secrets: self.secrets.into(),
        }
    }

    fn entry(&self, snapshot: &Snapshot) -> Entry {
        let refused = if self.is_refused { "-refused" } else { "" };
        let key = self.key.clone();
        let key = key.unwrap_or_else(|| format!("{}-{}{refused}", self.after.instance, snapshot.revision));
        let from = self.before.as_ref().map_or_else(String::new, Snapshot::state);
        Entry {
            revision: snapshot.revision,
            at: self.after.updated_at,
            receipt: key_of(&self.after.tenant, &key),
            digest: Digest::of(key.as_bytes()),
            key: InputKey::parse(&key).expect("a test's key is valid"),
            event: "go".to_owned(),
            to: snapshot.state(),
            success: !self.is_refused,
            transitions: if self.is_refused { Vec::new() } else { vec![TransitionIndex(7)] },
            reason: self.is_refused.then(|| "not now".to_owned()),
            code: None,
            looping: None,
            by: Some("a test".to_owned()),
            trace_id: None,
            unsampled: false,
            message: (!self.is_brought_in && (self.before.is_some() || snapshot.ordinal > 0))
                .then(|| Message::of_text("go — été")),
            payload: Fields::new(),
            cause: Some(match self.is_brought_in {
                true => EntryCause::Again { start: Start::default(), definition: None },
                false => EntryCause::Result { call: "o-1:1:0".to_owned() },
            }),
            answer: self.answer(snapshot, &from),
            from,
        }
    }

    fn answer(&self, snapshot: &Snapshot, from: &str) -> Answer {
        if self.is_refused {
            let code = RefusalCode::InvalidTransition;
            return Answer::Refused(Refusal::new(code, snapshot.revision, "not now"));
        }
        Answer::Event(EventAnswer {
            id: snapshot.instance.clone(),
            revision: snapshot.revision,
            state: snapshot.state(),
            transition: Some(Transition {
                from: from.to_owned(),
                to: snapshot.state(),
                event: "go".to_owned(),
            }),
            closure_reason: snapshot.closure.as_ref().map(|c| c.reason.clone()),
            reply: Vec::new(),
            effects: Vec::new(),
            replaced: None,
            flow: None,
        })
    }
}
