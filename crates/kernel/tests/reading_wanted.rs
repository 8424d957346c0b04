//! When it is worth asking somebody what a message may mean, and which intents could be heard then.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use kernel::commit::Answer;
use kernel::conversation::{Candidate, Confidence, Media, Message};
use kernel::decide::{decide, reading_wanted};
use kernel::definition::load;
use kernel::id::{InputKey, Subject, TenantId};
use kernel::input::{Cause, Fields, Input};
use kernel::machine::Machine;
use kernel::snapshot::Snapshot;
use kernel::time::{Delay, Timestamp};

const MACHINE: &str = r#"
machine: shop
version: 1
context:
  count: { type: number, default: 0 }
initial: idle
on:
  leave: gone
states:
  idle:
    on: { order: counting, browse: idle }
  counting:
    accepts: { number: counted }
    on:
      counted: { assign: { count: event.number }, target: noting }
  noting:
    accepts: { text: noted, media: noted }
    on: { noted: noting, send: gone }
  gone: { type: final }
conversation:
  locales: [en]
  intents:
    leave:   { priority: P0, event: leave, phrases: [leave] }
    person:  { priority: P0, hand_over: true, phrases: [agent] }
    resume:  { priority: P0, resume: true, phrases: [resume] }
    order:   { priority: P1, event: order, starts: order, phrases: [order], keywords: [buy] }
    browse:  { priority: P1, event: browse, phrases: [browse], keywords: [look] }
    send:    { priority: P2, event: send, phrases: [send], keywords: [done] }
    hours:   { priority: P3, reply: hours, phrases: [hours] }
    unclear: { priority: P4, phrases: [hm] }
  replies:
    hours: { en: "From nine to five." }
"#;

fn machine() -> Machine {
    let (machine, diagnostics) = load(MACHINE);
    machine.unwrap_or_else(|| panic!("{diagnostics:?}"))
}

fn at(minute: i64) -> Timestamp {
    Timestamp::parse("2026-03-01T12:00:00Z").unwrap().plus(Delay::from_secs(minute * 60))
}

fn input(machine: &Machine, key: usize, message: Message) -> Input {
    let subject = Subject::parse("ann").unwrap();
    Input {
        tenant: TenantId::default_tenant(),
        key: InputKey::parse(&format!("m{key}")).unwrap(),
        cause: Cause::Message { machine: machine.name.clone(), subject, message },
        expected: None,
        by: None,
        trace: None,
    }
}

/// The session after some texts, a minute apart.
fn session(machine: &Machine, texts: &[&str]) -> Option<Snapshot> {
    let mut before = None;
    for (number, text) in texts.iter().enumerate() {
        let input = input(machine, number, Message::of_text(text));
        before = decide(machine, before.as_ref(), &input, at(number as i64)).unwrap().after;
    }
    before
}

fn text(text: &str) -> Message {
    Message::of_text(text)
}

fn candidates(intents: &[&str]) -> Vec<Candidate> {
    let sure = |intent: &&str| Candidate {
        intent: (*intent).to_owned(),
        confidence: Confidence::basis_points(9_900),
        parameters: Fields::new(),
    };
    intents.iter().map(sure).collect()
}

fn photo() -> Vec<Media> {
    vec![Media { url: "https://example.org/1.jpg".into(), kind: "image/jpeg".into() }]
}

/// What was said before, the message, and whether it is worth asking what it may mean.
fn cases() -> Vec<(&'static [&'static str], Message, bool)> {
    let quoted = Some(InputKey::parse("m0").unwrap());
    vec![
        (&[], text("I would like three of these"), true),
        // A phrase of what is not heard here, of what only shows that nothing was understood, and less than a phrase.
        (&[], text("send"), true),
        (&[], text("hm"), true),
        (&[], text("order three of these"), true),
        // R0 to R5 need nobody.
        (&[], text("  "), false),
        (&[], Message { media: photo(), ..Message::default() }, false),
        (&[], Message { payload: Some("p1.order".into()), ..Message::of_text("Order") }, false),
        (&[], text("LEAVE!"), false),
        (&[], text("leave it to me"), true),
        (&["agent"], text("is anybody there"), false),
        (&["agent"], text("resume"), false),
        // The built-in recogniser asks which of two: a question waits.
        (&["buy look"], text("2"), false),
        (&["buy look"], text("order"), false),
        (&["buy look"], text("what was that again"), true),
        (&["buy look"], Message { quoted: quoted.clone(), ..Message::of_text("2") }, true),
        // With words of its own, a picture may set the question aside.
        (&["buy look"], Message { media: photo(), ..Message::of_text("how about this") }, true),
        // What the state takes, whatever it means.
        (&["order"], text("12"), false),
        (&["order"], text("a dozen"), true),
        (&["order", "3"], text("12"), true),
        (&["order", "3"], Message { media: photo(), ..Message::of_text("like this") }, false),
        (&[], Message { media: photo(), ..Message::of_text("like this") }, false),
        (&["order", "3"], Message { quoted, ..Message::of_text("this one") }, true),
        // Somebody has been asked already.
        (&[], Message { candidates: candidates(&["hours"]), ..Message::of_text("when") }, false),
        // Too large: it will be refused.
        (&[], text(&"x".repeat(40_000)), false),
        // A session that has ended is followed by a new one.
        (&["leave"], text("me again"), true),
    ]
}

#[test]
fn somebody_is_asked_only_when_the_rules_before_do_not_decide() {
    let machine = machine();
    for (before, message, wanted) in cases() {
        let session = session(&machine, before);
        let asked = input(&machine, 100, message);
        let reading = reading_wanted(&machine, session.as_ref(), &asked, at(3));
        assert_eq!(reading.is_some(), wanted, "after {before:?}: {:?}", asked.cause);
    }
}

/// Advice that nobody wanted would have changed nothing.
#[test]
fn where_nobody_is_asked_no_advice_would_change_the_answer() {
    let machine = machine();
    let advice = candidates(&["order", "browse", "send", "hours", "leave"]);
    for (before, message, wanted) in cases() {
        if wanted || !message.candidates.is_empty() {
            continue;
        }
        let session = session(&machine, before);
        let answer = |message: Message| {
            let decided = decide(&machine, session.as_ref(), &input(&machine, 100, message), at(3));
            match decided.map(|commit| commit.entry.answer) {
                Ok(Answer::Message(answer)) => Ok((answer.outcome, answer.state, answer.reply, answer.why)),
                Ok(other) => panic!("{other:?}"),
                Err(refusal) => Err(refusal.code),
            }
        };
        let advised = message.clone().advised("rasa", advice.clone());
        assert_eq!(answer(advised), answer(message.clone()), "after {before:?}: {message:?}");
    }
}

#[test]
fn nobody_is_asked_about_a_phrase_of_what_is_heard_and_the_phrase_decides() {
    let machine = machine();
    for (before, phrase, intent) in [
        (&[][..], "order", "order"),
        (&[], " ORDER! ", "order"),
        (&[], "hours", "hours"),
        (&["order"], "hours", "hours"),
        (&["order", "3"], "send", "send"),
        // A question waits, and the phrase is surer than it.
        (&["buy look"], "hours", "hours"),
    ] {
        let session = session(&machine, before);
        let asked = input(&machine, 100, text(phrase));
        assert_eq!(
            reading_wanted(&machine, session.as_ref(), &asked, at(3)),
            None,
            "after {before:?}: {phrase}"
        );
        let decided = decide(&machine, session.as_ref(), &asked, at(3)).unwrap();
        let Answer::Message(answer) = &decided.entry.answer else { panic!("{decided:?}") };
        let why = (answer.why.intent.as_deref(), answer.why.raw);
        assert_eq!(why, (Some(intent), Confidence::CERTAIN.points()), "after {before:?}: {phrase}");
    }
}

#[test]
fn what_could_be_heard_is_what_leads_somewhere_from_the_state() {
    let machine = machine();
    for (before, heard) in [
        (&[][..], &["leave", "person", "order", "browse", "hours"][..]),
        // Another order could be begun: that is asked about.
        (&["order"], &["leave", "person", "order", "hours"]),
        (&["order", "3"], &["leave", "person", "order", "send", "hours"]),
        (&["leave"], &["leave", "person", "order", "browse", "hours"]),
    ] {
        let session = session(&machine, before);
        let asked = input(&machine, 100, text("something else"));
        let reading = reading_wanted(&machine, session.as_ref(), &asked, at(3));
        assert_eq!(reading.as_deref(), Some(heard), "after {before:?}");
    }
}

#[test]
fn a_question_that_has_expired_is_no_longer_answered() {
    let machine = machine();
    let session = session(&machine, &["buy look"]);
    let asked = input(&machine, 100, text("2"));
    assert_eq!(reading_wanted(&machine, session.as_ref(), &asked, at(1)), None);
    assert!(reading_wanted(&machine, session.as_ref(), &asked, at(60)).is_some());
}

#[test]
fn advice_makes_no_other_message_of_it_and_no_larger_one_than_may_be() {
    let message = text("three of these");
    let advised = message.clone().advised("rasa", candidates(&["order"]));
    assert_eq!(advised.digest(), message.digest());
    assert_eq!(advised.advised_by.as_deref(), Some("rasa"));
    assert_eq!(message.clone().unadvised("rasa", "timeout").digest(), message.digest());
    let large = text(&"x".repeat(32 * 1024 - 10));
    let advised = large.clone().advised("rasa", candidates(&["order"]));
    assert_eq!(advised, large.unadvised("rasa", "too large"));
    assert_eq!(advised.advice_failure.as_deref(), Some("rasa: too large"));
}
