//! Options that are made of a list: what is shown, what choosing one means, and how long it can be chosen.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[path = "stored/restored.rs"]
mod restored;

use kernel::commit::{Answer, MessageAnswer};
use kernel::conversation::{Message, MessageOutcome, Offer, Rule};
use kernel::decide::decide;
use kernel::definition::load;
use kernel::id::{InputKey, Subject, TenantId};
use kernel::input::{Cause, Input, Start};
use kernel::machine::Machine;
use kernel::snapshot::Snapshot;
use kernel::time::{Delay, Timestamp};
use serde_json::{Value, json};

/// Whatever text is not chosen from the list is kept as a note.
const MACHINE: &str = r#"
machine: tasks
context:
  tasks: { type: array, items: any, default: [] }
  chosen: { type: any }
  note: { type: string, nullable: true }
initial: choosing
on: { stop: end, list_changed: { assign: { tasks: event.tasks } }, hint: { reply: hint }, ask: { reply: note } }
events: [list_changed, hint, ask]
after: { 2h: end }
states:
  choosing:
    entry: { reply: which }
    accepts: { text: noted }
    on:
      chosen: { assign: { chosen: '{"id": has(event.id) ? event.id : null, "at": event.at, "text": has(event.text)}' } }
      noted: { assign: { note: event.text } }
      drop: end
  end: { type: final }
conversation:
  locales: [en, fr]
  intents:
    stop: { priority: P0, event: stop, phrases: [stop] }
    help: { priority: P0, reply: hint, label: Help me, phrases: [help] }
    drop: { priority: P1, event: drop, destructive: true, label: Drop all, phrases: [drop it, the wall] }
    incident: { priority: P1, event: drop, starts: incident, phrases: [incident] }
  replies:
    hint: Just say it.
    note: { text: Anything else?, options: [help] }
    which:
      text: Which task?
      options:
        - each: context.tasks
          as: task
          label: { en: "{task.name}", fr: "{task.name} (n° {index + 1})" }
          event: chosen
          with: { id: task.id, at: index }
        - help
"#;

fn machine() -> Machine {
    let (machine, diagnostics) = load(MACHINE);
    machine.unwrap_or_else(|| panic!("{diagnostics:?}"))
}

#[test]
fn what_a_list_reads_is_read_and_what_choosing_becomes_is_sent() {
    let (_, diagnostics) = load(MACHINE);
    let told: Vec<&str> = diagnostics.iter().map(|diagnostic| diagnostic.message.as_str()).collect();
    assert_eq!(told, ["nothing reads the field `chosen`", "nothing reads the field `note`"]);
}

struct Session {
    machine: Machine,
    snapshot: Option<Snapshot>,
    steps: i64,
}

impl Session {
    /// One that was begun with these tasks.
    fn with(tasks: &Value) -> Self {
        let mut session = Self { machine: machine(), snapshot: None, steps: 0 };
        let context = serde_json::from_value(json!({ "tasks": tasks })).unwrap();
        let (machine, subject) = (session.machine.name.clone(), Subject::parse("ann").ok());
        session.take(Cause::Create { machine, id: None, subject, context, start: Start::default() });
        session
    }

    fn of_names(names: &[&str]) -> Self {
        Self::with(&tasks(names))
    }

    fn take(&mut self, cause: Cause) -> Answer {
        self.steps += 1;
        let now = Timestamp::parse("2026-03-01T12:00:00Z").unwrap().plus(Delay::from_secs(self.steps));
        let key = InputKey::parse(&format!("k{}", self.steps)).unwrap();
        let input =
            Input { tenant: TenantId::default_tenant(), key, cause, expected: None, by: None, trace: None };
        let commit = decide(&self.machine, self.snapshot.as_ref(), &input, now).unwrap();
        // As it is after a restart: what is saved is what is read.
        self.snapshot = commit.after.as_ref().map(restored::restored);
        commit.entry.answer
    }

    fn event(&mut self, event: &str, payload: Value) {
        let instance = self.snapshot.as_ref().unwrap().instance.clone();
        let payload = serde_json::from_value(payload).unwrap();
        self.take(Cause::Event { instance, event: event.into(), payload });
    }

    fn say(&mut self, message: Message) -> MessageAnswer {
        let (machine, subject) = (self.machine.name.clone(), Subject::parse("ann").unwrap());
        match self.take(Cause::Message { machine, subject, message }) {
            Answer::Message(answer) => answer,
            other => panic!("{other:?}"),
        }
    }

    fn text(&mut self, text: &str) -> MessageAnswer {
        self.say(Message::of_text(text))
    }

    fn press(&mut self, token: &str) -> MessageAnswer {
        self.say(Message { payload: Some(token.into()), ..Message::default() })
    }

    fn prompt(&self) -> &[Offer] {
        &self.snapshot.as_ref().unwrap().conversation.as_ref().unwrap().prompt
    }

    /// The token of the item that is at this place of the menu, from 0.
    fn token(&self, at: usize) -> String {
        let session = self.snapshot.as_ref().unwrap().conversation.as_ref().unwrap();
        format!("p{}.{}", session.prompt_revision, self.prompt()[at].item().unwrap().id)
    }

    fn labels(&self) -> Vec<&str> {
        self.prompt().iter().map(|offer| offer.item().map_or("-", |item| &item.label)).collect()
    }

    fn field(&self, name: &str) -> Value {
        self.snapshot.as_ref().unwrap().context[name].clone()
    }
}

fn tasks(names: &[&str]) -> Value {
    names.iter().enumerate().map(|(n, name)| json!({ "id": format!("t{n}"), "name": name })).collect()
}

#[test]
fn item_is_chosen_by_its_button_its_label_its_number_its_beginning_and_nearly_its_label() {
    let names = ["Paint the wall", "7", "Task 3", "Mend the roof", "Room 12", "Hall 12"];
    for (said, chosen, how) in [
        ("paint the wall!", Some(0), "the option's label"),
        ("1", Some(0), "a position"),
        ("7", Some(1), "the option's label"),
        ("3", Some(2), "a number that stands in one label"),
        ("12", None, "it could be several of the menu shown last"),
        ("6", Some(5), "a position"),
        ("9", None, "it names nothing of the menu"),
        ("mend", Some(3), "the beginning of one label"),
        ("me", None, "it names nothing of the menu"),
        ("mned the roof", Some(3), "a label, misspelt"),
        ("the second", Some(1), "an ordinal word"),
        ("it is warm today", None, "it names nothing of the menu"),
        // Help is an intent: chosen by its label, not by what is nearly one.
        ("help m", None, "it names nothing of the menu"),
        ("help me please", None, "it names nothing of the menu"),
    ] {
        let mut session = Session::of_names(&names);
        let answer = session.text(said);
        let (rule, note) = match chosen {
            Some(_) => (Rule::R5, Value::Null),
            None => (Rule::R7, json!(said)),
        };
        assert_eq!((answer.why.rule, session.field("note")), (rule, note), "{said}");
        let r5 = answer.why.trace.iter().find(|step| step.rule == Rule::R5).unwrap();
        assert!(r5.because.contains(how), "{said}: {r5:?}");
        let Some(at) = chosen else { continue };
        assert!(r5.because.contains(names[at]), "{said}: {r5:?}");
        assert_eq!((answer.why.raw, answer.why.intent), (10_000, None), "{said}");
        // What was said is not kept beside what it chose.
        assert_eq!(session.field("chosen"), json!({ "id": format!("t{at}"), "at": at, "text": false }));
    }
}

#[test]
fn button_means_what_it_was_shown_for() {
    let mut session = Session::of_names(&["a", "b"]);
    session.event("list_changed", json!({ "tasks": tasks(&["x"]) }));
    let token = session.token(1);
    let answer = session.press(&token);
    assert_eq!((answer.outcome, answer.why.rule), (MessageOutcome::Dispatched, Rule::R2));
    assert!(answer.why.trace.last().unwrap().because.contains("`b`"));
    assert_eq!(session.field("chosen"), json!({ "id": "t1", "at": 1, "text": false }));
}

#[test]
fn what_was_offered_wins_over_what_the_caller_has_found() {
    let mut session = Session::of_names(&["a", "b"]);
    let parameters = serde_json::from_value(json!({ "id": "other" })).unwrap();
    session.say(Message { parameters, ..Message::of_text("b") });
    assert_eq!(session.field("chosen")["id"], json!("t1"));
}

#[test]
fn stale_button_shows_the_list_as_it_is_now() {
    let mut session = Session::of_names(&["a", "b"]);
    let (stale, first) = (session.token(1), session.token(0));
    session.event("list_changed", json!({ "tasks": tasks(&["a", "c"]) }));
    session.text("help");
    for token in [stale.as_str(), &first, "p1.#0", "p2.#00000000", "p3"] {
        let answer = session.press(token);
        assert_eq!((answer.outcome, answer.why.rule), (MessageOutcome::Inline, Rule::R2), "{token}");
        let labels: Vec<&str> = answer.reply[1].options.iter().map(|o| o.label.as_str()).collect();
        assert_eq!(labels, ["a", "c", "Help me"], "{token}");
        assert_eq!(session.field("chosen"), Value::Null, "{token}");
    }
    assert_ne!(session.token(0), first);
}

/// Revisions begin anew with each session, and people press buttons of last week.
#[test]
fn button_of_an_earlier_session_means_no_other_item_of_this_one() {
    let token = Session::of_names(&["a", "b"]).token(0);
    for tasks in [tasks(&["x", "y"]), json!([{ "id": "t9", "name": "a" }])] {
        let mut other = Session::with(&tasks);
        assert_eq!(other.press(&token).outcome, MessageOutcome::Inline);
        assert_eq!(other.field("chosen"), Value::Null);
    }
}

#[test]
fn ten_labels_are_shown_each_once_and_numbers_are_those_of_what_is_shown() {
    let many: Vec<String> = (1..=12).map(|n| format!("Nr {n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let names = ["", "Roof", " ", "roof!", "Wall", "Wall"];
    for (tasks, shown) in [
        (tasks(&names), vec!["Roof", "Wall", "-"]),
        (tasks(&many), [&many[..10], &["-"]].concat()),
        // What fails is left out, and so is what has nothing to be called by.
        (json!([{ "name": "a" }, { "id": "t1" }, 5, null, { "name": 6 }]), vec!["a", "6", "-"]),
        (json!([]), vec!["-"]),
    ] {
        let session = Session::with(&tasks);
        assert_eq!(session.labels(), shown);
    }
    let mut session = Session::of_names(&names);
    session.text("2");
    assert_eq!(session.field("chosen"), json!({ "id": "t4", "at": 4, "text": false }));
    let mut session = Session::with(&json!([{ "name": "a" }]));
    session.text("a");
    assert_eq!(session.field("chosen"), json!({ "id": null, "at": 0, "text": false }));
}

#[test]
fn list_that_is_none_offers_nothing() {
    let mut session = Session::of_names(&[]);
    let offering = MACHINE.replace("tasks: { type: array, items: any, default: [] }", "tasks: {}");
    session.machine = load(&offering).0.unwrap();
    for tasks in [json!(7), json!({ "a": 1 }), Value::Null] {
        session.event("list_changed", json!({ "tasks": tasks }));
        session.text("help");
        assert_eq!(session.labels(), ["-"], "{tasks}");
    }
}

#[test]
fn labels_are_in_the_language_of_the_session() {
    let mut session = Session::of_names(&["Toit", "Mur"]);
    session.say(Message { locale: Some("fr".into()), ..Message::of_text("help") });
    assert_eq!(session.labels(), ["Toit (n° 1)", "Mur (n° 2)", "-"]);
    session.text("mur");
    assert_eq!(session.field("chosen")["id"], json!("t1"));
}

#[test]
fn phrase_of_an_intent_is_no_beginning_of_a_label() {
    let mut session = Session::of_names(&["The wall of the yard", "drop it"]);
    let answer = session.text("the wall");
    assert_eq!(answer.why.intent.as_deref(), Some("drop"));
    // Exactly a label, it is the item.
    let mut session = Session::of_names(&["The wall of the yard", "drop it"]);
    assert_eq!(session.text("drop it").why.rule, Rule::R5);
    assert_eq!(session.field("chosen")["id"], json!("t1"));
}

#[test]
fn behind_a_question_the_button_counts_and_number_and_words_do_not() {
    let mut session = Session::of_names(&["Roof", "Wall"]);
    let token = session.token(1);
    let asked = session.text("drop it");
    assert_eq!(asked.outcome, MessageOutcome::Clarifying);
    assert_eq!(session.text("Roof").outcome, MessageOutcome::Clarifying);
    let answer = session.press(&token);
    assert_eq!((answer.outcome, answer.why.rule), (MessageOutcome::Dispatched, Rule::R2));
    assert!(answer.clarification.is_none());
    assert_eq!(session.field("chosen")["id"], json!("t1"));

    let mut session = Session::of_names(&["Roof", "Wall"]);
    session.text("drop it");
    session.steps += 300;
    assert_eq!(session.text("1").why.rule, Rule::R7, "the question has expired, and the menu is gone");
    // Another menu takes the place of the list, and its buttons with it.
    let mut session = Session::of_names(&["Roof", "Wall"]);
    let token = session.token(1);
    session.event("ask", json!({}));
    assert_eq!(session.labels(), ["-"]);
    assert_eq!(session.press(&token).outcome, MessageOutcome::Inline);
}

#[test]
fn reply_without_buttons_leaves_the_list_to_be_chosen_from() {
    let mut session = Session::of_names(&["Roof", "Wall"]);
    let token = session.token(1);
    session.event("hint", json!({}));
    assert_eq!(session.press(&token).outcome, MessageOutcome::Dispatched);
    assert_eq!(session.text("1").why.rule, Rule::R5);
}

#[test]
fn labels_are_cut_off_and_items_that_carry_too_much_are_not_offered() {
    let long = "é".repeat(500);
    let tasks = json!([
        { "id": "x".repeat(5_000), "name": "heavy" },
        { "id": "x".repeat(3_000), "name": "light" },
        { "id": "t", "name": long },
    ]);
    let session = Session::with(&tasks);
    let labels = session.labels();
    assert_eq!(labels[0], "light");
    assert_eq!(labels[1], format!("{}…", "é".repeat(128)));
    assert_eq!(labels[2..], ["-"]);
}

/// Beyond them nothing is worked out any more, and what is half worked out is not offered.
#[test]
fn labels_are_worked_out_within_bounds() {
    let costly = "no {context.tasks.exists(t, t.name == 'none') ? '' : task.name}";
    let mut session = Session::of_names(&[]);
    session.machine = load(&MACHINE.replace("{task.name}\", fr", &format!("{costly}\", fr"))).0.unwrap();
    let tasks: Value = (0..1_000).map(|n| json!({ "name": n })).collect();
    session.event("list_changed", json!({ "tasks": tasks }));
    session.text("help");
    assert_eq!(session.labels(), ["no 0", "no 1", "-"]);
}

#[test]
fn prompts_that_were_saved_before_there_were_lists_are_read() {
    let prompt: Vec<Offer> = serde_json::from_value(json!(["help", "done"])).unwrap();
    assert_eq!(prompt, ["help".into(), "done".into()]);
    assert_eq!(serde_json::to_value(&prompt).unwrap(), json!(["help", "done"]));
}
