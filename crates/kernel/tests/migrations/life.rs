//! An instance from its creation on, and what a migration has made of it in one line.

use std::sync::Arc;

use kernel::commit::{Commit, EffectKind};
use kernel::conversation::{Address, Message};
use kernel::decide::decide;
use kernel::definition::load;
use kernel::id::{InputKey, InstanceId, Subject, TenantId};
use kernel::input::{CallOutcome, Cause, Fields, Input, Start};
use kernel::machine::Machine;
use kernel::refusal::Refusal;
use kernel::snapshot::Snapshot;
use kernel::time::Timestamp;
use serde_json::Value;

#[path = "../stored/kept.rs"]
mod kept;
#[path = "../stored/restored.rs"]
mod restored;

/// Every snapshot and every entry is written and read back, as stores do.
#[derive(Clone)]
pub struct Life {
    machine: Arc<Machine>,
    pub snapshot: Snapshot,
    /// Since the creation; each input takes one.
    pub minute: i64,
}

pub fn machine(source: &str) -> Arc<Machine> {
    let (machine, diagnostics) = load(source);
    Arc::new(machine.unwrap_or_else(|| panic!("{diagnostics:#?}\n{source}")))
}

pub fn at(minute: i64) -> Timestamp {
    let noon = Timestamp::parse("2026-03-01T12:00:00Z").unwrap();
    Timestamp::from_millis(noon.as_millis() + minute * 60_000)
}

fn fields(value: Value) -> Fields {
    serde_json::from_value(value).unwrap()
}

fn input(cause: Cause, minute: i64) -> Input {
    let key = InputKey::parse(&format!("k{minute}")).unwrap();
    Input { tenant: TenantId::default_tenant(), key, cause, expected: None, by: None, trace: None }
}

fn give(machine: &Machine, before: Option<&Snapshot>, cause: Cause, minute: i64) -> Result<Commit, Refusal> {
    let input = input(cause, minute);
    let commit = decide(machine, before, &input, at(minute))?;
    assert_eq!(
        decide(machine, before, &input, at(minute)).as_ref(),
        Ok(&commit),
        "it is decided the same again"
    );
    let entry = kept::kept(&commit);
    let after = commit.after.as_ref().unwrap();
    assert_eq!(entry.input(after).as_ref(), Some(&input), "it can be decided on again");
    Ok(commit)
}

fn id() -> InstanceId {
    InstanceId::parse("o-1").unwrap()
}

impl Life {
    pub fn begin(source: &str, context: Value) -> Self {
        let machine = machine(source);
        let (name, context) = (machine.name.clone(), fields(context));
        let cause =
            Cause::Create { machine: name, id: Some(id()), subject: None, context, start: Start::default() };
        let snapshot = give(&machine, None, cause, 0).unwrap().after.unwrap();
        Self { machine, snapshot, minute: 0 }
    }

    /// An instance to which these events have happened.
    pub fn after(source: &str, events: &str) -> Self {
        let mut life = Self::begin(source, serde_json::json!({}));
        events
            .split_whitespace()
            .for_each(|event| life.event(event, serde_json::json!({})).map(drop).unwrap());
        life
    }

    /// A session in which nothing has been said yet.
    pub fn talk(source: &str) -> Self {
        let machine = machine(source);
        let snapshot = Snapshot::new(&machine, TenantId::default_tenant(), id(), Arc::default(), at(0));
        let mut talk = Self { machine, snapshot, minute: 0 };
        let first = talk.message("hello");
        talk.snapshot = give(&talk.machine, None, first, 0).unwrap().after.unwrap();
        talk
    }

    fn message(&self, text: &str) -> Cause {
        let from = Address { channel: "c".into(), account: "a".into(), user: "+15550001".into() };
        let message = Message { from: Some(Arc::new(from)), deliver: true, ..Message::of_text(text) };
        Cause::Message {
            machine: self.machine.name.clone(),
            subject: Subject::parse("ana").unwrap(),
            message,
        }
    }

    pub fn say(&mut self, text: &str) -> Result<Commit, Refusal> {
        let message = self.message(text);
        self.take(message)
    }

    pub fn event(&mut self, event: &str, payload: Value) -> Result<Commit, Refusal> {
        let (instance, payload) = (self.snapshot.instance.clone(), fields(payload));
        self.take(Cause::Event { instance, event: event.into(), payload })
    }

    pub fn result(&mut self, call: &str) -> Result<Commit, Refusal> {
        let (instance, outcome) = (self.snapshot.instance.clone(), CallOutcome::Done(Fields::new()));
        self.take(Cause::Result { instance, call: call.into(), outcome })
    }

    fn take(&mut self, cause: Cause) -> Result<Commit, Refusal> {
        self.minute += 1;
        let commit = give(&self.machine, Some(&self.snapshot), cause, self.minute)?;
        self.snapshot = restored::restored(commit.after.as_ref().unwrap());
        Ok(commit)
    }

    /// At this minute.
    pub fn migrate(&mut self, source: &str) -> Result<Commit, Refusal> {
        let to = machine(source);
        let flow = self.machine.flow.iter();
        let phases = flow.flat_map(|flow| flow.phases.iter().map(|phase| Arc::clone(&phase.name)));
        let cause = Cause::Migrate {
            instance: self.snapshot.instance.clone(),
            to: to.hash.clone(),
            phases: phases.collect(),
        };
        let commit = give(&to, Some(&self.snapshot), cause, self.minute)?;
        self.machine = to;
        self.snapshot = restored::restored(commit.after.as_ref().unwrap());
        Ok(commit)
    }
}

/// Its state; its timers with their minutes; the calls that it waits for, by their keys; what is called, and whether it is
/// where those go that have no place.
pub fn told(commit: &Commit) -> String {
    let after = commit.after.as_ref().unwrap();
    let minute = |deadline: Timestamp| (deadline.as_millis() - at(0).as_millis()) / 60_000;
    let timers = after.timers.iter().map(|timer| format!("{}@{}", timer.id, minute(timer.deadline)));
    let mut parts = vec![after.state(), timers.collect::<Vec<_>>().join(" ")];
    parts.extend(after.invocations.iter().map(|call| format!("{} as {}", call.id, call.key)));
    parts.extend(commit.effects.iter().map(|effect| match &effect.kind {
        EffectKind::Call { src, .. } => format!("calls {src}"),
        other => format!("{other:?}"),
    }));
    if commit.entry.event == "park" {
        parts.push("parked".into());
    }
    parts.join("; ")
}
