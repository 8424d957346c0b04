//! The log holds every input whole: what is decided again from its entries alone comes to the same snapshots.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[path = "../stored/kept.rs"]
mod kept;
#[path = "../stored/restored.rs"]
mod restored;

use kernel::commit::{Commit, Entry, EntryCause};
use kernel::conversation::{Candidate, Confidence, Media, Message};
use kernel::decide::{decide, refused};
use kernel::definition::load;
use kernel::id::{Digest, InputKey, InstanceId, Subject, TenantId};
use kernel::input::{CallOutcome, Cause, Fields, Input, Start};
use kernel::machine::Machine;
use kernel::snapshot::Snapshot;
use kernel::time::{Delay, Timestamp};
use proptest::prelude::*;
use serde_json::{Value, json};

fn machine() -> Machine {
    let (machine, diagnostics) = load(include_str!("ticket.yaml"));
    machine.unwrap_or_else(|| panic!("{diagnostics:?}"))
}

fn fields(value: Value) -> Fields {
    serde_json::from_value(value).unwrap()
}

/// All sessions of one person, and what their inputs left in the log.
struct Lived {
    machine: Machine,
    now: Timestamp,
    /// How many inputs there were; the next one's key.
    inputs: usize,
    last: Option<Snapshot>,
    /// What each entry belongs to, and what the instance was after it.
    log: Vec<(Entry, Snapshot)>,
    /// The question that was asked last, and the call that was made last, be they settled by now.
    asked: (String, String),
    call: String,
}

impl Lived {
    fn new() -> Self {
        let now = Timestamp::parse("2026-03-01T12:00:00Z").unwrap();
        let nothing = || "nothing".to_owned();
        Self {
            machine: machine(),
            now,
            inputs: 0,
            last: None,
            log: Vec::new(),
            asked: (nothing(), nothing()),
            call: nothing(),
        }
    }

    fn message(&self, message: Message) -> Cause {
        let subject = Subject::parse("+15550001").unwrap();
        Cause::Message { machine: self.machine.name.clone(), subject, message }
    }

    fn say(&self, text: &str) -> Cause {
        self.message(Message::of_text(text))
    }

    fn event(&self, event: &str, payload: Value) -> Cause {
        Cause::Event { instance: self.instance(), event: event.into(), payload: fields(payload) }
    }

    fn instance(&self) -> InstanceId {
        let last = self.last.as_ref().map(|last| last.instance.clone());
        last.unwrap_or_else(|| InstanceId::parse("none").unwrap())
    }

    fn cause(&self, choice: u8) -> Cause {
        let candidate = |intent: &str, points| Candidate {
            intent: intent.into(),
            confidence: Confidence::basis_points(points),
            parameters: fields(json!({ "of": intent })),
        };
        let media = || vec![Media { url: "https://x/1.jpg".into(), kind: "image/jpeg".into() }];
        let instance = self.instance();
        match choice {
            0 => self.say("the roof leaks"),
            1 => self.say("remind me"),
            2 => self.say("prix"),
            3 => self.say("cancel"),
            4 => self.say("human"),
            5 => {
                let candidates = vec![candidate("price", 8_100), candidate("remind", 7_900)];
                self.message(Message { candidates, locale: Some("fr".into()), ..Message::of_text("hm") })
            }
            6 => self.message(Message { media: media(), ..Message::default() }),
            7 => self.message(Message { payload: Some(self.asked.1.clone()), ..Message::default() }),
            8 | 9 => {
                let (clarification, option) = self.asked.clone();
                Cause::Answer { instance, clarification, option }
            }
            10 => self.event("price", json!({})),
            11 => self.event("note", json!({ "text": "by event" })),
            12 => self.event("note", json!({ "text": "no" })),
            13 => self.event("fail", json!({})),
            14 => self.event("create", json!({})),
            15 => Cause::Recover { instance, reason: "stuck".into() },
            16 => {
                let outcome = CallOutcome::Failed(fields(json!({ "code": "sold_out" })));
                Cause::Result { instance, call: self.call.clone(), outcome }
            }
            17 | 18 => {
                let outcome = CallOutcome::Done(fields(json!({ "price": 7 })));
                Cause::Result { instance, call: self.call.clone(), outcome }
            }
            19 | 20 => Cause::Create {
                machine: self.machine.name.clone(),
                id: (choice == 19).then(|| InstanceId::parse(&format!("given-{}", self.inputs)).unwrap()),
                subject: Some(Subject::parse("+15550001").unwrap()),
                context: fields(json!({ "topic": "roof" })),
                start: Start::default(),
            },
            // Whatever is due is fired first, as the engine does it.
            _ => self.say("hello there"),
        }
    }

    /// An input, and before it the timers that have come due.
    fn live(&mut self, choice: u8, minutes: i64) {
        self.now = self.now.plus(Delay::from_secs(minutes * 60));
        while let Some(last) = self.last.as_ref().filter(|last| !last.is_closed()) {
            let Some(timer) = last.due_timer(self.now, |_| true) else { break };
            let instance = last.instance.clone();
            let (timer, deadline) = (timer.id.to_string(), timer.deadline);
            self.take(Cause::Timer { instance, timer, deadline });
        }
        self.take(self.cause(choice));
    }

    fn take(&mut self, cause: Cause) {
        self.inputs += 1;
        let input = Input {
            tenant: TenantId::default_tenant(),
            key: InputKey::parse(&format!("k{}", self.inputs)).unwrap(),
            cause,
            expected: None,
            by: Some("a test".into()),
            trace: None,
        };
        let before = self.last.as_ref();
        let commit = match (decide(&self.machine, before, &input, self.now), before) {
            (Ok(commit), _) => commit,
            (Err(refusal), Some(before)) if refusal.code.is_recorded() => {
                refused(&self.machine, before, &input, &refusal, self.now)
            }
            (Err(_), _) => return,
        };
        for question in &commit.clarifications {
            self.asked = (question.id.clone(), question.options[0].id.clone());
        }
        self.last = commit.after.clone().or(self.last.take());
        let after = self.last.clone().unwrap();
        if let Some(call) = after.invocations.last() {
            self.call.clone_from(&call.key);
        }
        // As it is read back from the disk.
        self.log.push((kept::kept(&commit), restored::restored(&after)));
    }
}

/// What an entry's input comes to when it is decided on once more.
fn again(machine: &Machine, before: Option<&Snapshot>, entry: &Entry, input: &Input) -> Commit {
    match (decide(machine, before, input, entry.at), before) {
        (Ok(commit), _) => commit,
        (Err(refusal), Some(before)) => refused(machine, before, input, &refusal, entry.at),
        (Err(refusal), None) => panic!("{}", refusal.message),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_the_log_holds_comes_to_the_same_when_it_is_decided_again(
        inputs in prop::collection::vec((0..22_u8, 0..40_i64), 1..25),
    ) {
        let mut lived = Lived::new();
        for (choice, minutes) in inputs {
            lived.live(choice, minutes);
        }
        let mut before: Option<Snapshot> = None;
        for (entry, after) in &lived.log {
            let input = entry.input(after);
            prop_assert!(input.is_some(), "{entry:?} does not hold its input");
            let commit = again(&lived.machine, before.as_ref(), entry, &input.unwrap());
            prop_assert_eq!(&commit.entry, entry);
            before = commit.after.or(before);
            prop_assert_eq!(before.as_ref(), Some(after));
        }
    }
}

/// Whether the property above has seen them all.
#[test]
fn every_kind_of_input_is_given_back() {
    let mut lived = Lived::new();
    let choices = [0, 5, 8, 17, 17, 11, 12, 13, 15, 5, 7, 8, 16, 1, 0, 3, 9, 15, 19, 4];
    for (number, choice) in choices.into_iter().enumerate() {
        lived.live(choice, if number == 14 { 16 } else { 1 });
    }
    let kinds = lived.log.iter().map(|(entry, after)| match entry.input(after).unwrap().cause {
        Cause::Create { .. } => "create",
        Cause::Event { .. } => "event",
        Cause::Message { .. } => "message",
        Cause::Answer { .. } => "answer",
        Cause::Timer { .. } => "timer",
        Cause::Result { .. } => "result",
        Cause::Recover { .. } => "recover",
        Cause::Migrate { .. } => "migrate",
        Cause::Withdraw { .. } => "withdraw",
    });
    let kinds: Vec<(&str, bool)> = kinds.zip(lived.log.iter().map(|(entry, _)| entry.success)).collect();
    for wanted in ["create", "event", "message", "answer", "timer", "result", "recover"] {
        assert!(kinds.contains(&(wanted, true)), "{wanted}: {kinds:?}");
    }
    for wanted in ["event", "answer", "result", "recover"] {
        assert!(kinds.contains(&(wanted, false)), "{wanted} refused: {kinds:?}");
    }
}

#[test]
fn entry_that_does_not_hold_its_input_gives_none_back() {
    let mut lived = Lived::new();
    for choice in [0, 5, 8, 17, 20] {
        lived.live(choice, 1);
    }
    let holding = |wanted: fn(&EntryCause) -> bool| {
        let found = lived.log.iter().find(|(entry, _)| entry.cause.as_ref().is_some_and(wanted));
        found.unwrap().clone()
    };
    for (mut entry, after) in [
        holding(|cause| matches!(cause, EntryCause::Answer { .. })),
        holding(|cause| matches!(cause, EntryCause::Result { .. })),
    ] {
        // As older releases wrote it.
        entry.cause = None;
        assert_eq!(entry.input(&after), None, "{entry:?}");
    }
    let (mut entry, after) = lived.log[0].clone();
    entry.digest = Digest::of(b"of another message");
    assert_eq!(entry.input(&after), None);
}

/// There are more messages in a log than anything else.
#[test]
fn entry_of_a_message_has_nothing_beside_the_message() {
    let mut lived = Lived::new();
    lived.live(0, 1);
    let written = serde_json::to_value(&lived.log[0].0).unwrap();
    assert_eq!((written.get("cause"), written.get("payload")), (None, None), "{written}");
}
