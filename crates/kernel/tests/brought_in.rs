//! As long as nothing but time has touched what was brought in, its record may be brought in again, or be withdrawn.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use kernel::commit::{Commit, EntryCause};
use kernel::conversation::{ClarificationStatus, Message};
use kernel::decide::decide;
use kernel::definition::load;
use kernel::id::{InputKey, InstanceId, MachineName, Subject, TenantId};
use kernel::input::{CallOutcome, Cause, Fields, Former, Input, Start};
use kernel::machine::Machine;
use kernel::refusal::{Refusal, RefusalCode};
use kernel::snapshot::{BroughtIn, Snapshot};
use kernel::time::Timestamp;
use serde_json::{Value, json};

/// A call, a delay that leads to an end, and something that is done on the way out.
const PARCEL: &str = "
machine: parcel
version: 1
context: { door: { type: string, nullable: true }, left: { type: boolean, default: false } }
initial: packed
after: { 2h: { target: lost, reason: silence } }
safe_state: packed
states:
  packed:
    exit: { assign: { left: 'true' } }
    on: { send: asking, knock: { guard: context.left, target: asking } }
  asking:
    invoke: { src: recipients.ask, input: { door: context.door } }
    on: { done.invoke.*: packed, error.invoke.*: lost }
  lost: { type: final, reason: lost }
  delivered: { type: final }
";

fn machine(source: &str) -> Machine {
    let (machine, diagnostics) = load(source);
    machine.unwrap_or_else(|| panic!("{diagnostics:#?}"))
}

fn at(minutes: i64) -> Timestamp {
    let noon = Timestamp::parse("2026-03-01T12:00:00Z").unwrap();
    Timestamp::from_millis(noon.as_millis() + minutes * 60_000)
}

fn id(name: &str) -> InstanceId {
    InstanceId::parse(name).unwrap()
}

fn given(cause: Cause) -> Input {
    let key = InputKey::parse("k").unwrap();
    Input { tenant: TenantId::default_tenant(), key, cause, expected: None, by: None, trace: None }
}

fn record(state: &str, context: Value) -> Cause {
    Cause::Create {
        machine: MachineName::parse("parcel").unwrap(),
        id: Some(id("p-1")),
        subject: Some(Subject::parse("ana").unwrap()),
        context: context.as_object().unwrap().clone(),
        start: start(Former { state: state.into(), ..Former::default() }),
    }
}

fn start(former: Former) -> Start {
    Start { former: Some(Box::new(former)), ..Start::default() }
}

fn withdraw() -> Cause {
    Cause::Withdraw { instance: id("p-1"), reason: "not yet".into() }
}

/// One parcel, as it goes on.
struct Parcel {
    machine: Machine,
    now: Timestamp,
    before: Option<Snapshot>,
}

impl Parcel {
    fn new() -> Self {
        Self { machine: machine(PARCEL), now: at(0), before: None }
    }

    /// Brought in once.
    fn in_state(state: &str) -> Self {
        let mut parcel = Self::new();
        parcel.takes(record(state, json!({ "door": "back" })));
        parcel
    }

    fn tries(&self, cause: Cause) -> Result<Commit, Refusal> {
        decide(&self.machine, self.before.as_ref(), &given(cause), self.now)
    }

    /// What it is decided to, with a log that holds all of it.
    fn takes(&mut self, cause: Cause) -> Commit {
        let input = given(cause);
        let commit = decide(&self.machine, self.before.as_ref(), &input, self.now).unwrap();
        let after = commit.after.clone().unwrap();
        assert_eq!(commit.entry.input(&after).as_ref(), Some(&input), "it can be decided on again");
        self.before = Some(after);
        commit
    }

    fn is(&self) -> &Snapshot {
        self.before.as_ref().unwrap()
    }

    /// The timer that is due first fires.
    fn waits(&mut self) {
        let timer = self.is().timers[0].clone();
        self.now = self.now.max(timer.deadline);
        let (instance, id) = (id("p-1"), timer.id.to_string());
        self.takes(Cause::Timer { instance, timer: id, deadline: timer.deadline });
    }

    fn is_untouched(&self) -> bool {
        matches!(self.is().brought_in, Some(BroughtIn::Untouched { .. }))
    }
}

#[test]
fn a_later_record_comes_in_the_place_of_the_earlier_one() {
    let mut parcel = Parcel::in_state("packed");
    let first = parcel.is().clone();
    parcel.now = at(5);
    let commit = parcel.takes(record("asking", json!({})));
    let after = parcel.is();
    assert_eq!((commit.expected.0, after.revision.0), (1, 2));
    assert_eq!((commit.entry.from.as_str(), commit.entry.to.as_str()), ("packed", "asking"));
    assert_eq!(*after.context, json!({ "door": null, "left": false }).as_object().unwrap().clone());
    assert_eq!((after.timers[0].deadline, after.created_at), (at(125), at(5)), "its times are the record's");
    assert_eq!(commit.effects[0].key, "p-1:2:0");
    assert!(parcel.is_untouched() && commit.is_creation());
    // Whatever it says: also that it is what it was at first, or over.
    parcel.takes(record("packed", json!({ "door": "back" })));
    assert_eq!(parcel.is().context, first.context);
    assert_eq!(parcel.is().invocations, []);
    parcel.takes(record("delivered", json!({})));
    assert!(parcel.is().is_closed());
    parcel.takes(record("packed", json!({})));
    assert!(!parcel.is().is_closed());
}

#[test]
fn what_time_has_made_of_it_is_gone_too() {
    let mut parcel = Parcel::in_state("packed");
    parcel.waits();
    assert_eq!(parcel.is().closure.as_ref().unwrap().reason, "silence");
    assert!(parcel.is_untouched());
    let same = parcel.tries(record("packed", json!({ "door": "back" }))).unwrap_err();
    assert!(same.message.contains("said the same"), "{same:?}");
    parcel.takes(record("asking", json!({})));
    assert_eq!((parcel.is().state().as_str(), parcel.is().is_closed()), ("asking", false));
}

#[test]
fn what_anybody_but_time_has_touched_is_ours() {
    let instance = || id("p-1");
    let event =
        |event: &str| Cause::Event { instance: instance(), event: event.into(), payload: Fields::new() };
    let mut asking = Parcel::in_state("asking");
    let call = asking.is().invocations[0].key.clone();
    let next = Parcel {
        machine: machine(&PARCEL.replace("version: 1", "version: 2")),
        ..Parcel::in_state("packed")
    };
    let to = next.machine.hash.clone();
    for (mut parcel, cause) in [
        (Parcel::in_state("packed"), event("send")),
        (Parcel::in_state("packed"), Cause::Recover { instance: instance(), reason: "stuck".into() }),
        (
            Parcel { before: asking.before.take(), ..Parcel::new() },
            Cause::Result { instance: instance(), call, outcome: CallOutcome::Done(Fields::new()) },
        ),
        (next, Cause::Migrate { instance: instance(), to, phases: Vec::new() }),
    ] {
        parcel.takes(cause);
        assert_eq!(parcel.is().brought_in, Some(BroughtIn::GoneOn));
        for cause in [record("delivered", json!({})), withdraw()] {
            let refusal = parcel.tries(cause).unwrap_err();
            assert_eq!(refusal.code, RefusalCode::InstanceExists);
            assert!(refusal.message.contains("has gone on here since"), "{refusal:?}");
        }
    }
    // What is refused touches nothing.
    let parcel = Parcel::in_state("packed");
    parcel.tries(event("knock")).unwrap_err();
    assert!(parcel.is_untouched());
}

#[test]
fn what_was_not_brought_in_is_left_alone() {
    let mut parcel = Parcel::new();
    let Cause::Create { machine, id, subject, context, .. } = record("packed", json!({})) else { panic!() };
    parcel.takes(Cause::Create { machine, id, subject, context, start: Start::default() });
    assert_eq!(parcel.is().brought_in, None);
    for (cause, part) in
        [(record("asking", json!({})), "exists and is in"), (withdraw(), "was not brought in")]
    {
        let refusal = parcel.tries(cause).unwrap_err();
        assert_eq!(refusal.code, RefusalCode::InstanceExists);
        assert!(refusal.message.contains(part), "{refusal:?}");
    }
}

#[test]
fn a_record_of_something_else_or_of_before_is_refused() {
    let mut parcel = Parcel::new();
    let told = |minutes: i64, subject: &str, machine: &str| Cause::Create {
        machine: MachineName::parse(machine).unwrap(),
        id: Some(id("p-1")),
        subject: Some(Subject::parse(subject).unwrap()),
        context: Fields::new(),
        start: start(Former { state: "packed".into(), changed_at: Some(at(minutes)), ..Former::default() }),
    };
    parcel.takes(told(-10, "ana", "parcel"));
    for (cause, part) in [
        (told(-5, "ben", "parcel"), "as a session of `ana`"),
        (told(-11, "ana", "parcel"), "from a record that changed later, at 2026-03-01T11:50"),
    ] {
        let refusal = parcel.tries(cause).unwrap_err();
        assert!(refusal.code == RefusalCode::InstanceExists && refusal.revision.0 == 1, "{refusal:?}");
        assert!(refusal.message.contains(part), "{refusal:?}");
    }
    let unfit = parcel.tries(record("nowhere", json!({}))).unwrap_err();
    assert_eq!((unfit.code, unfit.revision.0), (RefusalCode::InvalidContext, 1));
    let mut other = Parcel { before: parcel.before.clone(), ..Parcel::new() };
    other.machine = machine(&PARCEL.replace("machine: parcel", "machine: letter"));
    let refusal = other.tries(told(-5, "ana", "letter")).unwrap_err();
    assert!(refusal.message.ends_with("is in `packed` of `parcel`"), "{refusal:?}");
    parcel.takes(told(-9, "ana", "parcel"));
}

#[test]
fn a_record_may_come_again_by_another_definition() {
    let mut parcel = Parcel::in_state("packed");
    let first = parcel.machine.hash.clone();
    parcel.machine = machine(&PARCEL.replace("version: 1", "version: 2"));
    let commit = parcel.takes(record("asking", json!({})));
    let after = parcel.is();
    assert_eq!((after.version, &after.definition, &after.began_by), (2, &parcel.machine.hash, &Some(first)));
    let Some(EntryCause::Again { definition, .. }) = commit.entry.cause else { panic!("{commit:#?}") };
    assert_eq!(definition.as_ref(), Some(&parcel.machine.hash));
}

#[test]
fn what_is_withdrawn_is_over_and_nothing_is_done_on_the_way_out() {
    for state in ["packed", "asking", "lost"] {
        let mut parcel = Parcel::in_state(state);
        let before = parcel.is().clone();
        parcel.now = at(7);
        let commit = parcel.takes(withdraw());
        let after = parcel.is();
        let closure = after.closure.as_ref().unwrap();
        assert_eq!(
            (closure.reason.as_str(), closure.at, after.state()),
            ("withdrawn", at(7), before.state())
        );
        assert_eq!(
            (&after.context, &after.timers[..], &after.invocations[..]),
            (&before.context, &[][..], &[][..])
        );
        assert_eq!((commit.effects, commit.entry.event.as_str()), (Vec::new(), "withdraw"));
        assert_eq!(after.brought_in, Some(BroughtIn::Withdrawn));
        let again = parcel.tries(withdraw()).unwrap_err();
        assert!(again.message.contains("is withdrawn already"), "{again:?}");
        // The same record as before.
        parcel.takes(record(state, json!({ "door": "back" })));
        assert!(parcel.is_untouched());
        assert_eq!(parcel.is().state(), before.state());
    }
}

const TALK: &str = "
machine: parcel
initial: idle
states: { idle: { on: { pay: paid, post: posted } }, paid: {}, posted: {} }
conversation:
  locales: [en]
  intents:
    pay: { priority: P1, event: pay, label: { en: Pay }, phrases: [money] }
    post: { priority: P1, event: post, label: { en: Post }, phrases: [money] }
";

#[test]
fn a_question_that_waits_is_withdrawn() {
    let mut parcel = Parcel { machine: machine(TALK), ..Parcel::new() };
    parcel.takes(record("idle", json!({})));
    let untouched = parcel.is().brought_in.clone();
    let (machine, subject) = (parcel.machine.name.clone(), Subject::parse("ana").unwrap());
    parcel.takes(Cause::Message { machine, subject, message: Message::of_text("money") });
    let pending = parcel.is().conversation.as_ref().unwrap().pending.clone();
    assert!(pending.is_some(), "{:#?}", parcel.is());
    // Only if it had asked by itself could it still be the other system's.
    parcel.before.as_mut().unwrap().brought_in = untouched;
    for cause in [record("paid", json!({})), withdraw()] {
        let commit = parcel.tries(cause).unwrap();
        let [question] = &commit.clarifications[..] else { panic!("{commit:#?}") };
        assert_eq!(question.status, ClarificationStatus::Cancelled);
        let after = commit.after.unwrap();
        assert_eq!(after.conversation.as_ref().and_then(|talk| talk.pending.clone()), None);
        assert_eq!(after.ordinal, 1);
    }
}
