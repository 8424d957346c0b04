//! What is saved comes back as it was, to whom it belongs.

use std::collections::BTreeMap;
use std::sync::Arc;

use kernel::conversation::{Address, ConversationState, Media};
use kernel::flow::{FlowState, Lease, ParentCall, PhaseDetails, PhaseError, PhaseRecord, PhaseState};
use kernel::input::ReceiptScope;
use kernel::looping::Looping;
use kernel::snapshot::{Invocation, Snapshot, Timer};
use kernel::time::Delay;
use serde_json::{Value, json};

use crate::Outcome;
use crate::contract::commits::{clarifications, committed, history, loaded};
use crate::contract::{Draft, Open, at, definition, id, key_of, machine, subject, tenant};
use crate::query::InstanceQuery;

fn nested(levels: usize) -> Value {
    (0..levels).fold(json!("innermost"), |inner, level| match level % 2 {
        0 => json!({ "in": inner }),
        _ => json!([inner]),
    })
}

pub fn what_is_saved_is_loaded_exactly(open: Open<'_>) {
    let store = open();
    let draft = Draft::creation("überraschung/1 \u{1f600}").session("+237 é", 3);
    let mut commit = draft.at(1_767_225_600_123).asks("q:1").build();
    let pending = commit.clarifications[0].clone();
    let after = commit.after.as_mut().expect("a creation has an after");
    after.configuration = vec!["a.b".into(), "c.\"d\"".into()];
    after.history = BTreeMap::from([("a".into(), vec!["a.b".into(), "a.c".into()])]);
    after.context = Arc::new(
        [
            ("text".to_owned(), json!("\u{0}\n\"\\\u{2028} łódź 中文 \u{1f469}\u{200d}\u{1f680}")),
            ("numbers".to_owned(), json!([0, -1, i64::MIN, u64::MAX, 0.1, -0.0, 1e300])),
            ("nothing".to_owned(), json!([null, {}, [], "", false])),
            ("deep".to_owned(), nested(60)),
        ]
        .into_iter()
        .collect(),
    );
    let fields = |name: &str| [(name.to_owned(), json!(1))].into_iter().collect();
    let second = Timer {
        event: Some("remind".into()),
        payload: fields("n"),
        ..Timer::new("second".into(), at(1_767_225_700_001))
    };
    after.timers = vec![second, Timer::new("first".into(), at(1_767_225_700_000))];
    let key = "i:1:0".to_owned();
    after.invocations =
        vec![Invocation { id: "charge".into(), src: "payments.charge".into(), input: fields("amount"), key }];
    let (channel, account, user) = ("twilio".to_owned(), "+1".to_owned(), "+2".to_owned());
    let until = at(9);
    let (from, to, event) = ("a".to_owned(), "b".to_owned(), "go".to_owned());
    after.looping = Some(Looping { from, to, event, count: 4, until });
    after.dead_end = true;
    after.conversation = Some(Arc::new(ConversationState {
        address: Some(Arc::new(Address { channel, account, user })),
        prompt_revision: kernel::id::Revision(2),
        prompt_reply: Some("menu".into()),
        prompt: vec!["done".into()],
        locale: Some("fr".into()),
        topic: Some("progress".into()),
        pending: Some(pending),
        failures: 2,
        handed_over: true,
        held_media: vec![Media { url: "https://example.org/ä".into(), kind: "image/jpeg".into() }],
        drafts: BTreeMap::from([("task-1".into(), [("a".to_owned(), json!(1))].into_iter().collect())]),
    }));
    let after: Snapshot = after.clone();
    assert_eq!(store.commit(&[commit.clone()]), Ok(vec![Outcome::Committed]));
    let (t, instance) = (&after.tenant, &after.instance);
    assert_eq!(loaded(&*store, t, instance), Some(after.clone()));
    assert_eq!(history(&*store, t, instance), [commit.entry]);
    assert_eq!(clarifications(&*store, t), commit.clarifications);
    let session = store.load_session(t, &after.machine, &subject("+237 é"));
    assert_eq!(session, Ok(Some(after.clone())));
    let listed = store.instances(&InstanceQuery::of(t.clone()));
    assert_eq!(listed.map(|page| page.data), Ok(vec![after]));
}

/// Phases are written shorter than they are.
pub fn a_flow_is_loaded_exactly(open: Open<'_>) {
    let store = open();
    let parent = |name: &str| ParentCall {
        instance: id(name),
        call: format!("{name}:1:0"),
        above: vec![machine("order")],
    };
    let details = PhaseDetails {
        progress: 0.1 + 0.2,
        worked_by: vec!["é".into(), String::new()],
        by: Some("ana".into()),
        reason: Some("because".into()),
        error: Some(PhaseError {
            code: "E".into(),
            message: "it\nfailed".into(),
            at: at(1_767_225_600_123),
            details: [("deep".to_owned(), nested(200)), ("large".to_owned(), json!([u64::MAX, -0.0]))]
                .into_iter()
                .collect(),
        }),
        lease: Some(Lease { token: "l".into(), worker: "w".into(), lasts: Delay::from_millis(1_001) }),
        lost_leases: 2,
        recoveries: 1,
        sent_back: true,
    };
    let begun = |state| PhaseRecord {
        state,
        since: Delay::from_millis(12),
        started: Some(Delay::ZERO),
        attempts: 3,
        retries: u32::MAX,
        applies: None,
        details: None,
    };
    let mut flow = FlowState::new(0, at(1_000));
    let untouched = std::iter::repeat_n(PhaseRecord::default(), 70);
    let asked = [Some(true), Some(false)].map(|applies| PhaseRecord { applies, ..PhaseRecord::default() });
    let detailed = PhaseRecord { details: Some(Arc::new(details)), ..PhaseRecord::default() };
    let begun = untouched.chain(PhaseState::ALL.map(begun)).chain(asked);
    flow.phases = begun.chain([detailed, PhaseRecord::default()]).collect();
    let timers = [Timer::new("p.timed_out".into(), at(9_000))];
    flow.paused = serde_json::from_value(json!({ "at": at(1_500), "by": "ben", "timers": timers }))
        .expect("a pause can be read");
    flow.cancelled = true;
    flow.parent = Some(parent("above"));
    flow.watchers = vec![parent("one"), parent("two")];
    let mut commit = Draft::creation("a").build();
    let after = commit.after.as_mut().expect("a creation has an after");
    after.flow = Some(Arc::new(flow));
    let after = after.clone();
    assert_eq!(store.commit(&[commit]), Ok(vec![Outcome::Committed]));
    assert_eq!(loaded(&*store, &after.tenant, &after.instance), Some(after));
}

/// A JSON reader stops at 128 levels by itself, and a snapshot adds levels of its own to what was let in.
pub fn a_deep_context_is_loaded_exactly(open: Open<'_>) {
    let store = open();
    let after = committed(&*store, Draft::creation("a").context("deep", nested(200)));
    assert_eq!(loaded(&*store, &after.tenant, &after.instance), Some(after));
}

/// A quick reader of decimals is off by a bit for some of these.
pub fn floats_are_loaded_to_the_last_bit(open: Open<'_>) {
    let store = open();
    let floats: Vec<f64> = (1..500_u64)
        .map(|n| f64::from_bits(n.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
        .filter(|float| float.is_finite())
        .chain([f64::MIN_POSITIVE, f64::MAX, 5e-324, 0.1 + 0.2])
        .collect();
    let after = committed(&*store, Draft::creation("a").context("floats", json!(floats)));
    let found = loaded(&*store, &after.tenant, &after.instance).expect("it is there");
    let bits = |values: &[Value]| -> Vec<u64> {
        let floats = values.iter().map(|v| v.as_f64().expect("a float"));
        floats.map(f64::to_bits).collect()
    };
    let values = found.context["floats"].as_array().expect("an array");
    let expected: Vec<u64> = floats.iter().map(|float| float.to_bits()).collect();
    assert_eq!(bits(values), expected);
}

pub fn load_session_returns_highest_ordinal(open: Open<'_>) {
    let store = open();
    let first = Draft::creation("z").session("ana", 1).closed("completed");
    committed(&*store, first);
    let tenth = committed(&*store, Draft::creation("a").session("ana", 10));
    committed(&*store, Draft::creation("m").session("ana", 9));
    committed(&*store, Draft::creation("n").session("ana", 11).machine("other"));
    committed(&*store, Draft::creation("o").session("anab", 12));
    committed(&*store, Draft::creation("p").session("sam", 0));
    let session = |name| store.load_session(&tenant("t"), &machine("order"), &subject(name));
    assert_eq!(session("ana"), Ok(Some(tenth.clone())));
    assert_eq!(session("nobody"), Ok(None));
    assert_eq!(session("sam"), Ok(None));
    let closed = committed(&*store, Draft::change(&tenth).closed("timeout"));
    assert_eq!(session("ana"), Ok(Some(closed)));
}

pub fn tenants_do_not_see_each_other(open: Open<'_>) {
    let store = open();
    let draft = Draft::creation("a").tenant("one").session("ana", 1);
    committed(&*store, draft.asks("a:1").timer(2_000));
    let (other, a) = (tenant("other"), id("a"));
    assert_eq!(loaded(&*store, &other, &a), None);
    assert_eq!(store.load_session(&other, &machine("order"), &subject("ana")), Ok(None));
    assert_eq!(history(&*store, &other, &a), []);
    assert_eq!(clarifications(&*store, &other), []);
    let listed = store.instances(&InstanceQuery::of(other.clone()));
    assert_eq!(listed.map(|page| page.data), Ok(vec![]));
    assert_eq!(store.receipt(&other, &ReceiptScope::Creations, key_of(&other, "a-1")), Ok(None));
    let theirs = Draft::creation("a").session("ana", 1).snapshot();
    let theirs = Draft::change(&theirs).tenant("other").build();
    assert_eq!(store.commit(&[theirs]), Ok(vec![Outcome::Stale]));
}

/// Ids are chosen by callers, and questions and effects are named after them.
pub fn tenants_may_use_the_same_names(open: Open<'_>) {
    let store = open();
    let mut expected = Vec::new();
    for name in ["one", "two"] {
        let draft = Draft::creation("a").tenant(name).session("ana", 1);
        let draft = draft.key("k").state(name).asks("a:1").effect("hello");
        expected.push(committed(&*store, draft));
    }
    for snapshot in expected {
        let (t, a) = (&snapshot.tenant, &snapshot.instance);
        assert_eq!(loaded(&*store, t, a), Some(snapshot.clone()));
        assert_eq!(history(&*store, t, a).len(), 1);
        let asked = clarifications(&*store, t);
        assert_eq!(asked.len(), 1);
        assert_eq!(asked[0].tenant, *t);
    }
    let figures = store.statistics().expect("statistics can be read");
    assert_eq!(figures.effects["pending"], 2);
}

pub fn definitions_are_kept_once_and_the_last_saved_is_last(open: Open<'_>) {
    let store = open();
    assert_eq!(store.definitions(), Ok(vec![]));
    let definitions = [definition("order", 1), definition("invoice", 7), definition("order", 2)];
    for definition in &definitions {
        assert_eq!(store.save_definition(definition), Ok(()));
    }
    let mut later = definitions[0].clone();
    later.saved_at = at(99);
    assert_eq!(store.save_definition(&later), Ok(()));
    let [_, second, third] = definitions;
    assert_eq!(store.definitions(), Ok(vec![second, third, later]));
}
