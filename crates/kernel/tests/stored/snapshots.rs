//! Snapshots, one for each thing that one may say: of sessions, of flows, and as older programs wrote them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kernel::conversation::{Address, Clarification, ClarificationStatus, ConversationState, Media, Offer};
use kernel::flow::{FlowState, ParentCall, Pause};
use kernel::id::{Digest, InstanceId, MachineName, Revision, Subject, TenantId};
use kernel::input::{Cause, Fields, Input, Start};
use kernel::looping::{Looping, Recent};
use kernel::machine::Machine;
use kernel::snapshot::{BroughtIn, Closure, Invocation, Snapshot, StoredSnapshot, Timer, pointer_to_payload};
use kernel::time::{Delay, Timestamp};
use serde_json::{Value, json};

use crate::restored::{body, place, restored};

fn conversation() -> Vec<Snapshot> {
    crate::conversation().into_iter().map(|commit| commit.after.unwrap()).collect()
}

/// After the message whose reply has a timer, buttons and a transition behind it.
fn session() -> Snapshot {
    conversation().swap_remove(1)
}

fn fields(value: Value) -> Fields {
    value.as_object().unwrap().clone()
}

#[test]
fn a_plain_session_takes_less_than_350_bytes() {
    let sizes: Vec<usize> = conversation().iter().map(|snapshot| body(snapshot).len()).collect();
    assert!(sizes.iter().all(|size| *size < 350), "{sizes:?}");
    assert!(sizes.iter().sum::<usize>() < 300 * sizes.len(), "{sizes:?}");
}

#[test]
fn what_a_session_and_a_flow_are_is_written_once() {
    let first = conversation().swap_remove(0);
    let expected = r#"{"context":{"comment":null,"incidents":[],"photos":[],"task_id":null,"task_name":null,"tasks":[]},"due":[["after.2h",7200000]],"conversation":{"locale":"en","topic":"update","shown":0,"prompt_reply":"which_task"},"taken":[6,0]}"#;
    assert_eq!(body(&first), expected);
    let expected = r#"{"context":{},"flow":{"phases":[["in_progress",0,0,1,0],5]}}"#;
    assert_eq!(body(&flow()), expected);
}

#[test]
fn what_sql_reads_is_there_by_name() {
    let last = conversation().pop().unwrap();
    let body: Value = serde_json::from_str(&body(&last)).unwrap();
    assert_eq!(body["context"], Value::Object((*last.context).clone()));
    assert_eq!(body["closure"], json!({ "at": last.closure.unwrap().at }));
}

fn talking(snapshot: &mut Snapshot) -> &mut ConversationState {
    Arc::make_mut(snapshot.conversation.as_mut().unwrap())
}

fn at(ms: i64) -> Timestamp {
    Timestamp::from_millis(ms)
}

fn subject(text: &str) -> Option<Subject> {
    Some(Subject::parse(text).unwrap())
}

fn reached(snapshot: &mut Snapshot, whom: &str, [channel, account, user]: [&str; 3]) {
    let [channel, account, user] = [channel, account, user].map(str::to_owned);
    snapshot.subject = subject(whom);
    talking(snapshot).address = Some(Arc::new(Address { channel, account, user }));
}

/// A question that was just asked.
fn asked(snapshot: &mut Snapshot, change: impl FnOnce(&mut Clarification)) {
    let mut question = Clarification {
        id: format!("{}:{}", snapshot.instance, snapshot.revision),
        tenant: snapshot.tenant.clone(),
        instance: snapshot.instance.clone(),
        machine: snapshot.machine.clone(),
        subject: snapshot.subject.clone().unwrap(),
        status: ClarificationStatus::Pending,
        question: "Which one?".to_owned(),
        options: serde_json::from_value(json!([{ "id": "1", "label": "A", "choice": "continue" }])).unwrap(),
        original: serde_json::from_value(json!({ "text": "that one" })).unwrap(),
        revision: snapshot.revision,
        created_at: snapshot.updated_at,
        expires_at: snapshot.updated_at.plus(Delay::from_secs(60)),
        attempts: 0,
        resolved_at: None,
        answer: None,
    };
    change(&mut question);
    talking(snapshot).pending = Some(question);
}

fn timer(id: &str, deadline: i64, event: Option<&str>, payload: Value) -> Timer {
    let event = event.map(Into::into);
    Timer { event, payload: fields(payload), ..Timer::new(id.into(), at(deadline)) }
}

fn call(id: &str, key: &str, input: Value) -> Invocation {
    Invocation { id: id.into(), src: "payments.charge".into(), input: fields(input), key: key.to_owned() }
}

fn recent(moments: Value) -> Recent {
    serde_json::from_value(moments).unwrap()
}

type Change = fn(&mut Snapshot);

const CHANGES: [(&str, Change); 51] = [
    ("nothing", |_| ()),
    ("no state", |s| s.configuration.clear()),
    ("a state without a name", |s| s.configuration = vec!["".into()]),
    ("two states", |s| s.configuration = vec!["a.b".into(), "c".into()]),
    ("two states with commas", |s| s.configuration = vec!["a,b".into(), "c,".into()]),
    ("what a history state remembers", |s| {
        s.history = BTreeMap::from([("a".into(), vec!["a.b".into(), "a.c".into()])]);
    }),
    ("no context", |s| s.context = Arc::default()),
    ("a context with the names of its record", |s| {
        let own = json!({ "tenant": "x", "due": [], "closure": { "at": 7 }, "$sealed": [], "n": [0.1, -0.0, u64::MAX] });
        s.context = Arc::new(fields(own));
    }),
    ("no timer", |s| s.timers.clear()),
    ("timers of all kinds, one long due", |s| {
        s.timers = vec![
            timer("a", 9_000_000_000_000, Some("remind"), json!({ "n": 1 })),
            timer("b", 0, None, json!({ "n": 2 })),
            timer("c", 1_795_170_896_006, Some("remind"), json!({})),
            timer("", i64::MAX, None, json!({})),
        ];
    }),
    ("a call of its own", |s| {
        s.invocations = vec![call("charge", &format!("{}:1:0", s.instance), json!({ "amount": 7 }))];
    }),
    ("a call whose key has nothing behind the instance", |s| {
        s.invocations = vec![call("charge", &format!("{}:", s.instance), json!({}))];
    }),
    ("a call whose key is the instance", |s| {
        s.invocations = vec![call("charge", s.instance.as_str(), json!({}))];
    }),
    ("calls with other keys", |s| {
        s.invocations =
            vec![call("a", "", json!({})), call("b", ":1:0", json!({})), call("c", "i:1:0", json!({}))];
    }),
    ("created before", |s| s.created_at = at(5)),
    ("changed before it was created", |s| s.updated_at = at(5)),
    ("closed", |s| {
        s.closure = Some(Closure { reason: "timeout".into(), at: at(9), output: Fields::new() });
    }),
    ("closed for no reason, with an output", |s| {
        let output = fields(json!({ "reason": "x", "paid": true }));
        s.closure = Some(Closure { reason: String::new(), at: s.updated_at, output });
    }),
    ("no conversation", |s| s.conversation = None),
    ("a conversation in which nothing was said", |s| s.conversation = Some(Arc::default())),
    ("another language", |s| talking(s).locale = Some("fr".into())),
    ("no topic", |s| talking(s).topic = None),
    ("not understood twice", |s| talking(s).failures = 2),
    ("handed over", |s| talking(s).handed_over = true),
    ("buttons of before", |s| talking(s).prompt_revision = Revision(1)),
    ("buttons of never", |s| talking(s).prompt_revision = Revision::NONE),
    ("buttons of later", |s| talking(s).prompt_revision = Revision(u64::MAX)),
    ("no buttons", |s| talking(s).prompt.clear()),
    ("a button for an item", |s| {
        let item = json!({ "id": "#0", "label": "L", "event": "e", "payload": { "n": 1 }, "behind": true });
        talking(s).prompt.push(serde_json::from_value::<Offer>(item).unwrap());
    }),
    ("nothing asked", |s| talking(s).prompt_reply = None),
    ("media", |s| {
        talking(s).held_media = vec![Media { url: "https://x/1.jpg".into(), kind: "image/jpeg".into() }];
    }),
    ("drafts", |s| talking(s).drafts = BTreeMap::from([("task".into(), fields(json!({ "a": 1 })))])),
    ("reached where its subject says", |s| reached(s, "meta:106:+1:2", ["meta", "106", "+1:2"])),
    ("reached by nobody", |s| reached(s, "meta:106:", ["meta", "106", ""])),
    ("reached as somebody else", |s| reached(s, "meta:106:+1:2", ["meta", "106", "+1"])),
    ("reached somewhere else", |s| reached(s, "meta:1066:2", ["meta", "106", "6:2"])),
    ("reached without an account", |s| reached(s, "meta:+1", ["meta", "", "+1"])),
    ("a question", |s| asked(s, |_| ())),
    ("a question of before, of another id", |s| {
        asked(s, |q| (q.id, q.revision, q.created_at, q.attempts) = ("q".into(), Revision(1), at(3), 4));
    }),
    ("a question of before", |s| {
        let id = format!("{}:1", s.instance);
        asked(s, |q| (q.id, q.revision) = (id, Revision(1)));
    }),
    ("a question of somebody else", |s| {
        asked(s, |q| {
            q.tenant = TenantId::parse("other").unwrap();
            q.instance = InstanceId::parse("other").unwrap();
            q.machine = MachineName::parse("other").unwrap();
            q.subject = Subject::parse("other").unwrap();
        });
    }),
    ("a question that was answered", |s| {
        asked(s, |q| {
            (q.status, q.resolved_at, q.answer) =
                (ClarificationStatus::Answered, Some(at(8)), Some("1".into()));
        });
    }),
    ("a question to nobody", |s| {
        asked(s, |_| ());
        s.subject = None;
    }),
    ("no transition of late", |s| s.recent = Recent::default()),
    ("transitions of other times", |s| {
        s.recent = recent(json!([[0, 0], [65_535, i64::MIN], [3, i64::MAX], [3, 1_795_170_896_007_i64]]));
    }),
    ("a loop", |s| {
        let [from, to, event] = ["a", "b", "go"].map(str::to_owned);
        s.looping = Some(Looping { from, to, event, count: 4, until: at(9) });
    }),
    ("a dead end", |s| s.dead_end = true),
    ("brought in", |s| {
        s.brought_in = Some(BroughtIn::Untouched { record: Digest::of(b"r"), changed_at: None });
    }),
    ("brought in as it was at a time", |s| {
        s.brought_in = Some(BroughtIn::Untouched { record: Digest::of(b"r"), changed_at: Some(at(7)) });
    }),
    ("withdrawn", |s| s.brought_in = Some(BroughtIn::Withdrawn)),
    ("brought in and gone on here", |s| s.brought_in = Some(BroughtIn::GoneOn)),
];

/// What is said beside a body, as far as it is there.
fn said_of_it(snapshot: &Snapshot) -> String {
    format!("{} beside {:?}", body(snapshot), place(snapshot))
}

#[test]
fn whatever_a_snapshot_says_is_read_as_it_was_written() {
    let mut told = BTreeSet::new();
    for (what, change) in CHANGES {
        let mut snapshot = session();
        change(&mut snapshot);
        assert_eq!(restored(&snapshot), snapshot, "{what}");
        assert!(told.insert(said_of_it(&snapshot)), "{what} is told from the others");
    }
}

#[test]
fn what_a_timer_brings_is_found_where_it_is_said_to_be() {
    let mut snapshot = session();
    let all = [timer("a", 1, Some("e"), json!({ "n": 1 })), timer("b", 2, None, json!({ "n": 2 }))];
    snapshot.timers = vec![all[0].clone(), Timer::new("c".into(), at(3)), all[1].clone()];
    let body: Value = serde_json::from_str(&body(&snapshot)).unwrap();
    let found = [0, 1, 2].map(|number| body.pointer(&pointer_to_payload(number)).cloned());
    assert_eq!(found, [Some(json!({ "n": 1 })), None, Some(json!({ "n": 2 }))]);
}

fn flow() -> Snapshot {
    let machine =
        kernel::definition::load("{ flow: f, phases: { a: {}, b: {}, c: {}, d: {}, e: {}, f: {} } }");
    let machine: Machine = machine.0.unwrap();
    let id = InstanceId::parse("f-1").unwrap();
    let create = Cause::Create {
        machine: machine.name.clone(),
        id: Some(id.clone()),
        subject: None,
        context: Fields::new(),
        start: Start::default(),
    };
    let start = Cause::Event { instance: id, event: "a.start".into(), payload: Fields::new() };
    let mut last = None;
    for (key, cause) in [("k1", create), ("k2", start)] {
        let input = Input {
            tenant: TenantId::default_tenant(),
            key: kernel::id::InputKey::parse(key).unwrap(),
            cause,
            expected: None,
            by: None,
            trace: None,
        };
        let decided = kernel::decide::decide(&machine, last.as_ref(), &input, at(1_795_170_896_007));
        last = decided.unwrap().after;
    }
    last.unwrap()
}

type FlowChange = fn(&mut FlowState);

const FLOWS: [(&str, FlowChange); 5] = [
    ("nothing", |_| ()),
    ("begun at another time", |f| f.began_at = at(7)),
    ("paused", |f| {
        let timers = vec![timer("a", 5, None, json!({ "n": 1 }))];
        f.paused = Some(Pause { at: at(5), by: Some("ann".into()), reason: None, timers });
    }),
    ("cancelled", |f| f.cancelled = true),
    ("within another and watched", |f| {
        let parent = ParentCall {
            instance: InstanceId::parse("p").unwrap(),
            call: "p:1:0".into(),
            above: vec![MachineName::parse("m").unwrap()],
        };
        f.watchers = vec![parent.clone()];
        f.parent = Some(parent);
    }),
];

#[test]
fn whatever_a_flow_says_is_read_as_it_was_written() {
    for (what, change) in FLOWS {
        let mut snapshot = flow();
        change(Arc::make_mut(snapshot.flow.as_mut().unwrap()));
        assert_eq!(restored(&snapshot), snapshot, "{what}");
    }
}

/// As programs wrote it that knew no shorter way, the first and the last of them.
const WHOLE: [&str; 2] = [
    r#"{"tenant":"default","instance":"i-1","machine":"m","version":3,"definition":"00","subject":"meta:1:2","ordinal":1,"revision":4,"configuration":["idle"],"context":{"n":1},"timers":[{"id":"after.2h","deadline":"2026-03-01T14:00:00.000Z"}],"created_at":"2026-03-01T12:00:00.000Z","updated_at":"2026-03-01T12:00:00.000Z","conversation":{}}"#,
    r#"{"tenant":"default","instance":"i-1","machine":"m","version":3,"definition":"00","subject":"meta:1:2","ordinal":1,"revision":4,"configuration":["idle"],"context":{"n":1},"timers":[{"id":"after.2h","deadline":"2026-03-01T14:00:00.000Z"}],"invocations":[{"id":"c","src":"s","key":"i-1:1:0"}],"created_at":"2026-03-01T12:00:00.000Z","updated_at":"2026-03-01T12:00:00.000Z","conversation":{"address":{"channel":"meta","account":"1","user":"2"},"failures":0,"handed_over":false,"prompt_revision":3,"prompt":["cancel"]},"recent":[[2,1772366399000]]}"#,
];
/// The same as they have been written since.
const SHORT: [&str; 2] = [
    r#"{"context":{"n":1},"due":[["after.2h",7200000]],"conversation":{}}"#,
    r#"{"context":{"n":1},"due":[["after.2h",7200000]],"invocations":[{"id":"c","src":"s","made":"1:0"}],"conversation":{"reached":["meta","1"],"shown":1,"prompt":["cancel"]},"taken":[2,1000]}"#,
];

#[test]
fn snapshots_of_all_times_are_read_as_the_same() {
    for (whole, short) in WHOLE.into_iter().zip(SHORT) {
        let snapshot: Snapshot = serde_json::from_str(whole).unwrap();
        assert_eq!(restored(&snapshot), snapshot);
        assert_eq!(body(&snapshot), short);
        for written in [whole, short] {
            let stored: StoredSnapshot = serde_json::from_str(written).unwrap();
            assert_eq!(stored.restore(place(&snapshot)), Ok(snapshot.clone()), "{written}");
        }
    }
}

#[test]
fn what_cannot_be_read_is_an_error_that_says_so() {
    let snapshot: Snapshot = serde_json::from_str(WHOLE[1]).unwrap();
    let read = |body: &str| {
        let stored: StoredSnapshot = serde_json::from_str(body).map_err(|error| error.to_string())?;
        stored.restore(place(&snapshot))
    };
    for (from, to, expected) in [
        (r#""context":{"n":1},"#, "", "missing field `context` at"),
        ("[2,1000]", "[2]", "a transition that was taken lacks its time"),
        ("[2,1000]", "[65536,1]", "`65536` is no transition"),
        (r#","made":"1:0""#, "", "the call `c` lacks its key"),
        (r#"["meta","1"]"#, r#"["meta","2"]"#, "its address lacks the user"),
        (r#"["meta","1"]"#, r#"["meta"]"#, "invalid length 1"),
        (r#"["after.2h",7200000]"#, r#"["after.2h"]"#, "invalid length 1"),
        (r#"["after.2h",7200000]"#, r#"["after.2h",7,null,{},1]"#, "trailing characters at"),
        (r#""context""#, r#""closure":{"at":"2026-03-01T12:00:00Z"},"context""#, "whether it is closed"),
    ] {
        assert!(SHORT[1].contains(from), "{from}");
        let told = read(&SHORT[1].replace(from, to)).unwrap_err();
        assert!(told.starts_with(expected), "{from} as {to}: {told}");
    }
    let mut beside = place(&snapshot);
    beside.closure_reason = Some("done".into());
    let stored: StoredSnapshot = serde_json::from_str(SHORT[1]).unwrap();
    let told = stored.restore(beside).unwrap_err();
    assert_eq!(told, "whether it is closed is not what is said beside it");
}
