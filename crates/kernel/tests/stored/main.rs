//! What a store keeps of a log entry or a snapshot is short, and is the whole of it again when it is read.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod kept;
mod restored;
mod snapshots;

use kernel::commit::{Answer, Commit, Entry, EntryCause, EntryPlace, MessageAnswer, StoredEntry, Transition};
use kernel::conversation::{Media, Message, MessageOutcome, Reply, ReplyOption, Rule, TraceStep};
use kernel::decide::decide;
use kernel::definition::load;
use kernel::id::{Digest, InputKey, InstanceId, Revision, Subject, TenantId};
use kernel::input::{Cause, Input, ReceiptId};
use kernel::machine::Machine;
use kernel::snapshot::Snapshot;
use kernel::time::Timestamp;
use serde_json::{Value, json};

use kept::{body, kept};

const CONVERSATION: [&str; 6] =
    ["update", "Task 12", "the wall is painted", "and the door as well", "done", "yes"];

fn machine() -> Machine {
    load(include_str!("../../../../machines/progress_update.yaml")).0.unwrap()
}

fn say(machine: &Machine, before: Option<&Snapshot>, key: &str, text: &str) -> Commit {
    let subject = Subject::parse("user-123456").unwrap();
    let input = Input {
        tenant: TenantId::default_tenant(),
        key: InputKey::parse(key).unwrap(),
        cause: Cause::Message { machine: machine.name.clone(), subject, message: Message::of_text(text) },
        expected: None,
        by: None,
        trace: None,
    };
    decide(machine, before, &input, Timestamp::from_millis(1_795_170_896_007)).unwrap()
}

fn conversation() -> Vec<Commit> {
    let (machine, mut last) = (machine(), None);
    let mut commits = Vec::new();
    for (turn, text) in CONVERSATION.iter().enumerate() {
        let commit = say(&machine, last.as_ref(), &format!("m{turn}"), text);
        last.clone_from(&commit.after);
        commits.push(commit);
    }
    commits
}

#[test]
fn a_plain_message_takes_less_than_420_bytes_and_less_than_320_on_average() {
    let sizes: Vec<usize> = conversation().iter().map(|commit| body(commit).len()).collect();
    assert!(sizes.iter().all(|size| *size < 420), "{sizes:?}");
    assert!(sizes.iter().sum::<usize>() < 320 * sizes.len(), "{sizes:?}");
}

/// The words of a trace are most of what is written whole.
#[test]
fn nothing_of_a_usual_trace_is_written_in_words() {
    for (text, expected) in [
        ("update", r#"["bcfklrswEFHJO","progress_update",10000]"#),
        ("cancel", r#"["bcfkm","cancel",10000]"#),
        ("what is the meaning?", r#"["bcfklrswEFHJO","question",9500]"#),
        ("the wall is painted", r#"["bcfklrswDFHLNQ"]"#),
        ("  ", r#"["a"]"#),
    ] {
        let body = body(&say(&machine(), None, "m", text));
        assert!(body.ends_with(&format!(r#""w":{expected}}}}}}}"#)), "{text}: {body}");
    }
}

#[test]
fn what_sql_reads_is_there_by_name() {
    let last = conversation().pop().unwrap();
    let body: Value = serde_json::from_str(&body(&last)).unwrap();
    let entry = &last.entry;
    let expected = json!({
        "at": entry.at, "key": "m5", "event": "confirm", "from": "confirmation_pending", "to": "completed",
        "success": true, "reason": "completed",
    });
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(body[name], *value, "{name}");
    }
}

type Change = fn(&mut Entry, &mut MessageAnswer);

/// What an answer may say that its entry does not, and a message besides its text.
const CHANGES: [(&str, Change); 21] = [
    ("nothing", |_, _| ()),
    ("another session", |_, a| a.session_id = InstanceId::parse("other").unwrap()),
    ("another revision", |_, a| a.revision = Revision(77)),
    ("another outcome", |_, a| a.outcome = MessageOutcome::Fallback),
    ("another state", |_, a| a.state = "elsewhere".into()),
    ("no transition", |_, a| a.transition = None),
    ("another transition", |_, a| {
        let [from, to, event] = ["a", "b", "c"].map(str::to_owned);
        a.transition = Some(Transition { from, to, event });
    }),
    ("closed for the entry's reason", |e, a| {
        e.reason = Some("done".into());
        a.closure_reason = Some("done".into());
    }),
    ("closed for another reason", |e, a| {
        e.reason = Some("done".into());
        a.closure_reason = Some("over".into());
    }),
    ("not closed, with a reason", |e, _| e.reason = Some("done".into())),
    ("closed without a reason", |_, a| a.closure_reason = Some("over".into())),
    ("no reply", |_, a| a.reply.clear()),
    ("an empty reply", |_, a| a.reply.push(Reply::of_text(""))),
    ("options", |_, a| {
        let ids = ["p2.x", "p2.", "p2", "p02.x", "p3.x", "q2.1", "=", "=p2.x", "p2.=x", "", "x", "P2.x"];
        let options = ids.map(|id| ReplyOption { id: id.into(), label: format!("l {id}") });
        a.reply.push(Reply { options: options.into(), ..Reply::of_text("which?") });
    }),
    ("media", |_, a| {
        let media = vec![Media { url: "https://x/1.jpg".into(), kind: String::new() }];
        let options = vec![ReplyOption { id: "p2.x".into(), label: "X".into() }];
        a.reply = vec![Reply { text: "see".into(), options, media }, Reply::of_text("t")];
    }),
    ("steps in other words", |_, a| {
        let step = |rule, because: &'static str| TraceStep { rule, applied: true, because: because.into() };
        a.why.trace.insert(0, step(Rule::R5, "a \"word\""));
        a.why.trace.insert(3, step(Rule::R0, "b"));
        a.why.trace.insert(4, step(Rule::R0, "a message"));
    }),
    ("nothing but other words, and no rule that applied", |_, a| {
        let step =
            |because: &'static str| TraceStep { rule: Rule::R1, applied: false, because: because.into() };
        a.why.trace = vec![step("x"), step("y")];
        a.why.rule = Rule::R13;
    }),
    ("an empty trace, another rule, some certainty", |_, a| {
        a.why.trace.clear();
        (a.why.rule, a.why.raw, a.why.adjusted) = (Rule::R2, 5, 0);
    }),
    ("certain without an intent", |_, a| (a.why.raw, a.why.adjusted, a.why.intent) = (9, 9, None)),
    ("another digest", |e, _| e.digest = Digest(1)),
    ("more than a text", |e, _| {
        let more = Message { locale: Some("fr".into()), deliver: true, ..Message::of_text("bonjour") };
        e.message = Some(more);
        e.cause = Some(EntryCause::Result { call: "c".into() });
    }),
];

#[test]
fn whatever_an_entry_says_is_read_as_it_was_written() {
    let commit = conversation().swap_remove(1);
    let mut bodies = std::collections::BTreeSet::new();
    for (what, change) in CHANGES {
        let mut commit = commit.clone();
        let Answer::Message(answer) = &commit.entry.answer else { panic!("{:?}", commit.entry) };
        let mut answer = answer.clone();
        change(&mut commit.entry, &mut answer);
        commit.entry.answer = Answer::Message(answer);
        assert_eq!(kept(&commit), commit.entry, "{what}");
        assert!(bodies.insert(body(&commit)), "{what} is told from the others");
    }
}

fn place() -> EntryPlace {
    let instance = InstanceId::parse("01a1f886-0887-8633-8b86-78ea8f0fdd08").unwrap();
    EntryPlace { instance, revision: Revision(1), receipt: ReceiptId(Digest(0x2fd9_c23b_58d7_31a4)) }
}

fn read(body: &str) -> Result<Entry, String> {
    let stored: StoredEntry = serde_json::from_str(body).map_err(|error| error.to_string())?;
    stored.restore(place())
}

/// As a program of before wrote it.
const WHOLE: &str = r#"{"revision":1,"at":"2026-11-20T10:34:56.007Z","receipt":"00000000000000002fd9c23b58d731a4","key":"m0","digest":"1b9d357e391acf413bc280b8a077bab0","event":"start_update","from":"idle","to":"task_selection","success":true,"transitions":[6],"message":{"text":"update"},"answer":{"message":{"session_id":"01a1f886-0887-8633-8b86-78ea8f0fdd08","revision":1,"outcome":"dispatched","state":"task_selection","reply":[{"text":"Which task is it about?","options":[{"id":"p1.cancel","label":"Cancel"}]}],"transition":{"from":"idle","to":"task_selection","event":"start_update"},"why":{"rule":"R8","intent":"progress_update","raw":10000,"adjusted":10000,"trace":[{"rule":"R0","applied":false,"because":"a message"},{"rule":"R8","applied":true,"because":"progress_update 10000"}]}}}}"#;
/// The same as it has been written since.
const SHORT: &str = r#"{"at":"2026-11-20T10:34:56.007Z","key":"m0","event":"start_update","from":"idle","to":"task_selection","success":true,"t":[6],"message":"update","answer":{"m":{"r":[["Which task is it about?","cancel","Cancel"]],"w":["bE","progress_update",10000]}}}"#;

#[test]
fn entries_of_all_times_are_read_as_the_same() {
    let (whole, short) = (read(WHOLE).unwrap(), read(SHORT).unwrap());
    assert_eq!(whole, short);
    assert_eq!(serde_json::to_string(&whole).unwrap(), WHOLE);
    assert_eq!(serde_json::to_string(&short.stored(&place().instance)).unwrap(), SHORT);
}

#[test]
fn what_cannot_be_read_is_an_error_that_says_so() {
    for (from, to, expected) in [
        (r#""bE""#, r#""b?""#, "`?` in a trace is no sentence that this program knows"),
        (r#""progress_update",10000"#, "null,10000", "`E` in a trace is no sentence that this program knows"),
        (r#"["bE","progress_update",10000]"#, "[]", "a decision lacks its trace at"),
        (
            r#"["bE","progress_update",10000]"#,
            r#"["bE",7]"#,
            "invalid type: integer `7`, expected a string at",
        ),
        (r#""bE""#, r#"["b",["R0",true]]"#, "invalid length 2, expected a tuple of size 3 at"),
        (r#""bE""#, r#"["b",["R99",true,"x"]]"#, "unknown variant `R99`"),
        (r#","Cancel"]"#, "]", "a reply lacks the label of an option at"),
        (r#"["Which task is it about?","cancel","Cancel"]"#, "[]", "a reply lacks its text at"),
        (r#""message":"update","#, "", "it has neither a digest nor a message"),
        (r#""m":"#, r#""n":"#, "unknown variant `n`"),
    ] {
        assert!(SHORT.contains(from), "{from}");
        let told = read(&SHORT.replace(from, to)).unwrap_err();
        assert!(told.starts_with(expected), "{from} as {to}: {told}");
    }
}
