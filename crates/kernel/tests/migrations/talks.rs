//! Conversations that go on by another version: questions, buttons, languages, work put aside.

use kernel::conversation::ClarificationStatus;
use serde_json::json;

use crate::life::Life;

pub const ONE: &str = "
machine: parcel
version: 1
context:
  parcel: { type: string, nullable: true }
  note: { type: string, nullable: true }
initial: idle
after: { 2h: { target: over, reason: timeout } }
states:
  idle:
    on: { track: { target: tracking, reply: menu }, back: returning }
  tracking:
    on: { back: { target: returning }, cancel: over, note: { assign: { note: '\"n\"' } } }
  returning:
    on: { track: tracking, cancel: over }
  over: { type: final }
conversation:
  locales: [en, fr]
  intents:
    track: { priority: P1, event: track, starts: track, label: { en: Track it, fr: Suivre }, phrases: [track, look] }
    back: { priority: P1, event: back, label: { en: Send it back, fr: Renvoyer }, phrases: [back, look] }
    cancel: { priority: P0, event: cancel, label: { en: Cancel, fr: Annuler }, phrases: [stop it] }
    note: { priority: P2, event: note, label: { en: Note, fr: Note }, phrases: [note] }
  replies:
    menu: { text: { en: What now?, fr: Et maintenant }, options: [back, cancel] }
    moved: { en: 'We have moved, please begin again.', fr: Recommencez. }
";

pub fn two(migrations: &str, changes: &[(&str, &str)]) -> String {
    let text = ONE.replace("version: 1", "version: 2");
    let text = changes.iter().fold(text, |text, (from, to)| {
        assert!(text.contains(from), "{from}");
        text.replace(from, to)
    });
    format!("{text}\nmigrations:\n{migrations}")
}

const NO_BACK: [(&str, &str); 4] = [
    (
        "    back: { priority: P1, event: back, label: { en: Send it back, fr: Renvoyer }, phrases: [back, look] }\n",
        "",
    ),
    ("options: [back, cancel]", "options: [cancel]"),
    (", back: returning }", " }"),
    ("back: { target: returning }, ", ""),
];

#[test]
fn buttons_and_what_is_talked_about_go_on() {
    let mut talk = Life::talk(ONE);
    talk.say("track").unwrap();
    let before = talk.snapshot.conversation.clone().unwrap();
    assert_eq!((before.prompt.len(), before.topic.as_deref()), (2, Some("track")));
    let renamed = [("tracking", "following")];
    let commit = talk.migrate(&two(" - states: { tracking: following }", &renamed)).unwrap();
    assert_eq!(talk.snapshot.state(), "following");
    assert_eq!(talk.snapshot.conversation, Some(before), "nothing was said, nothing is forgotten");
    assert!(commit.effects.is_empty());
    // The buttons that were shown before count.
    assert_eq!(talk.say("1").unwrap().entry.to, "returning");
}

#[test]
fn buttons_that_mean_nothing_any_more_count_no_more() {
    let mut talk = Life::talk(ONE);
    talk.say("track").unwrap();
    talk.migrate(&two(" - states: { returning: null }", &NO_BACK)).unwrap();
    let after = talk.snapshot.conversation.clone().unwrap();
    assert_eq!((after.prompt.len(), after.prompt_reply.as_deref()), (0, Some("menu")));
}

#[test]
fn a_question_waits_for_its_answer_as_long_as_there_is_one() {
    let asked = || {
        let mut talk = Life::talk(ONE);
        talk.say("look").unwrap();
        assert!(talk.snapshot.conversation.as_ref().unwrap().pending.is_some());
        talk
    };
    let mut talk = asked();
    let commit = talk.migrate(&two(" - {}", &[])).unwrap();
    assert!(commit.clarifications.is_empty());
    assert!(talk.snapshot.timers.iter().any(|timer| &*timer.id == "after.clarification"));
    assert_eq!(talk.say("2").unwrap().entry.to, "returning");

    let mut talk = asked();
    let commit = talk.migrate(&two(" - states: { returning: null }", &NO_BACK)).unwrap();
    let ended: Vec<_> = commit.clarifications.iter().map(|question| question.status).collect();
    assert_eq!(ended, [ClarificationStatus::Cancelled]);
    assert!(!talk.snapshot.timers.iter().any(|timer| &*timer.id == "after.clarification"));
}

#[test]
fn a_language_that_is_no_more_spoken_is_the_next_messages() {
    let mut talk = Life::talk(ONE);
    let mut session =
        kernel::conversation::ConversationState::clone(talk.snapshot.conversation.as_ref().unwrap());
    session.locale = Some("fr".into());
    talk.snapshot.conversation = Some(session.into());
    let mut other = talk.clone();
    talk.migrate(&two(" - {}", &[])).unwrap();
    assert_eq!(talk.snapshot.conversation.as_ref().unwrap().locale.as_deref(), Some("fr"));
    let english = [("[en, fr]", "[en]"), (", fr: Suivre", ""), (", fr: Renvoyer", ""), (", fr: Annuler", "")];
    let english =
        [&english[..], &[(", fr: Note", ""), (", fr: Et maintenant", ""), (", fr: Recommencez.", "")]]
            .concat();
    other.migrate(&two(" - {}", &english)).unwrap();
    assert_eq!(other.snapshot.conversation.as_ref().unwrap().locale, None);
}

#[test]
fn what_is_no_conversation_is_no_session() {
    let plain = format!("{}\n", two(" - {}", &[]).split("conversation:").next().unwrap());
    let plain = plain.replace(", reply: menu", "");
    let mut talk = Life::talk(ONE);
    let wrong = talk.migrate(&plain).unwrap_err().message;
    assert_eq!(
        wrong,
        "only one of the two definitions is a conversation, so that it is no session in the other"
    );
    // Without a person there is no session either way.
    let mut order = Life::begin(ONE, json!({}));
    order.migrate(&plain).unwrap();
    assert_eq!(order.snapshot.conversation, None);
}
