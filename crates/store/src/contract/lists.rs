//! Lists and their pages, figures, and what cleaning up leaves.

use std::collections::BTreeMap;

use kernel::conversation::ClarificationStatus;
use kernel::id::{Revision, TenantId};
use kernel::input::ReceiptScope;

use crate::contract::commits::{clarifications, committed, history, loaded};
use crate::contract::{Draft, Open, at, id, key_of, machine, subject, tenant};
use crate::outbox::EffectStatus;
use crate::query::{ClarificationQuery, CleanupReport, HistoryQuery, InstanceQuery, Page, StoreStatistics};
use crate::{LoadError, Outcome, Store};

/// Follows the cursors of a list to its end; the sizes of its pages, and all that was on them.
pub(super) fn all_pages<T>(
    mut page_after: impl FnMut(Option<String>) -> Result<Page<T>, LoadError>,
) -> (Vec<usize>, Vec<T>) {
    let (mut sizes, mut all, mut cursor) = (Vec::new(), Vec::new(), None);
    loop {
        let page = page_after(cursor).expect("the page can be read");
        sizes.push(page.data.len());
        all.extend(page.data);
        cursor = page.next;
        if cursor.is_none() {
            return (sizes, all);
        }
        assert!(sizes.len() < 100, "the cursors go in a circle");
    }
}

pub fn history_is_read_from_either_end_and_pages(open: Open<'_>) {
    let store = open();
    let mut expected = Vec::new();
    let mut last = None;
    for number in 1..=5 {
        let draft = match &last {
            None => Draft::creation("a"),
            Some(before) => Draft::change(before),
        };
        // The log is in the order of the commits, whatever the clocks of those who decided them said.
        let draft = draft.at(10_000 - number);
        last = Some(draft.snapshot());
        expected.push(draft.clone().build().entry);
        committed(&*store, draft);
        let other = Draft::creation(&format!("other-{number}"));
        committed(&*store, other);
    }
    let query = |limit, cursor| HistoryQuery { cursor, limit, ..HistoryQuery::of(tenant("t"), id("a")) };
    let (sizes, entries) = all_pages(|cursor| store.history(&query(2, cursor)));
    assert_eq!((sizes, entries), (vec![2, 2, 1], expected.clone()));
    let (sizes, entries) = all_pages(|cursor| store.history(&query(5, cursor)));
    assert_eq!((sizes, entries), (vec![5], expected.clone()));
    let back = |limit, cursor| HistoryQuery { newest_first: true, ..query(limit, cursor) };
    let second = store.history(&query(2, None)).expect("history can be read").next;
    let before = store.history(&back(5, second)).expect("history can be read");
    assert_eq!((before.data, before.next), (expected[..1].to_vec(), None), "what comes before a place");
    expected.reverse();
    let (sizes, entries) = all_pages(|cursor| store.history(&back(2, cursor)));
    assert_eq!((sizes, entries), (vec![2, 2, 1], expected.clone()));
    let (sizes, entries) = all_pages(|cursor| store.history(&back(5, cursor)));
    assert_eq!((sizes, entries), (vec![5], expected));
}

/// Longer than what any backend takes at once.
pub fn a_long_history_is_whole_from_either_end(open: Open<'_>) {
    let store = open();
    let mut last = committed(&*store, Draft::creation("a"));
    for _ in 0..150 {
        last = committed(&*store, Draft::change(&last));
    }
    for newest_first in [false, true] {
        let of = HistoryQuery { newest_first, limit: 70, ..HistoryQuery::of(tenant("t"), id("a")) };
        let (sizes, entries) = all_pages(|cursor| store.history(&HistoryQuery { cursor, ..of.clone() }));
        let mut revisions: Vec<u64> = entries.iter().map(|entry| entry.revision.0).collect();
        if newest_first {
            revisions.reverse();
        }
        assert_eq!((sizes, revisions), (vec![70, 70, 11], (1..=151).collect()));
    }
}

fn ids(store: &dyn Store, query: &InstanceQuery) -> Vec<String> {
    let page = store.instances(query).expect("instances can be listed");
    page.data.iter().map(|s| s.instance.to_string()).collect()
}

pub fn instances_filter_and_page(open: Open<'_>) {
    let store = open();
    let a = Draft::creation("a").session("ana", 1).at(1_000);
    committed(&*store, a.state("done").closed("completed"));
    let b = Draft::creation("b").session("ana", 2).at(2_000).timer(9_000);
    let b = committed(&*store, b);
    committed(&*store, Draft::change(&b).at(3_000).timer(12_000));
    committed(&*store, Draft::creation("c").machine("invoice").at(3_000));
    committed(&*store, Draft::creation("d").at(4_000).state("done").timer(8_000));
    committed(&*store, Draft::creation("e").tenant("other"));
    committed(&*store, Draft::creation("f").at(5_000).machine("two").state("p.x.one,p.y.two"));
    committed(&*store, Draft::creation("g").at(5_000).machine("two").state("p.x.ones,p.y.one"));

    type Narrow = fn(&mut InstanceQuery);
    let cases: [(Narrow, &[&str]); 26] = [
        (|q| q.subject_contains = Some("n".into()), &["b", "a"]),
        (|q| q.subject_contains = Some("ana".into()), &["b", "a"]),
        (|q| q.subject_contains = Some("anna".into()), &[]),
        (|q| q.subject_contains = Some("N".into()), &[]),
        (|q| q.subject_contains = Some("%".into()), &[]),
        (|q| (q.subject_contains, q.closed) = (Some("an".into()), Some(true)), &["a"]),
        (|q| q.machine = Some(machine("two")), &["g", "f"]),
        (|q| q.state = Some("p".into()), &["g", "f"]),
        (|q| q.state = Some("p.x.one".into()), &["f"]),
        (|q| q.state = Some("p.y,p.x.ones".into()), &["g"]),
        (|q| q.state = Some("p.x.one,p.y.one".into()), &[]),
        (|q| q.state = Some("x.one".into()), &[]),
        (|_| {}, &["g", "f", "d", "c", "b", "a"]),
        (|q| q.machine = Some(machine("invoice")), &["c"]),
        (|q| q.subject = Some(subject("ana")), &["b", "a"]),
        (|q| q.state = Some("done".into()), &["d", "a"]),
        (|q| q.closed = Some(true), &["a"]),
        (|q| q.closed = Some(false), &["g", "f", "d", "c", "b"]),
        (|q| q.due_before = Some(at(8_000)), &[]),
        (|q| q.due_before = Some(at(8_001)), &["d"]),
        (|q| q.due_before = Some(at(12_000)), &["d"]),
        (|q| q.due_before = Some(at(12_001)), &["d", "b"]),
        (|q| q.idle_since = Some(at(3_000)), &["a"]),
        (|q| q.idle_since = Some(at(3_001)), &["c", "b", "a"]),
        (|q| q.cursor = Some("c".into()), &["b", "a"]),
        (|q| (q.state, q.closed) = (Some("done".into()), Some(false)), &["d"]),
    ];
    for (number, (narrow, expected)) in cases.into_iter().enumerate() {
        let mut query = InstanceQuery::of(tenant("t"));
        narrow(&mut query);
        assert_eq!(ids(&*store, &query), expected, "case {number}: {query:?}");
    }

    let mut query = InstanceQuery::of(tenant("t"));
    query.limit = 2;
    query.due_before = Some(at(99_000));
    let (sizes, _) = all_pages(|cursor| {
        query.cursor = cursor;
        store.instances(&query)
    });
    assert_eq!(sizes, [2], "a full last page has no page after it");
    query.due_before = None;
    query.limit = 3;
    let (sizes, all) = all_pages(|cursor| {
        query.cursor = cursor;
        store.instances(&query)
    });
    let all: Vec<_> = all.iter().map(|s| s.instance.as_str()).collect();
    assert_eq!((sizes, all), (vec![3, 3], vec!["g", "f", "d", "c", "b", "a"]));
}

pub fn clarifications_filter_and_page(open: Open<'_>) {
    let store = open();
    // Asked in the same millisecond, and with a colon in the id as every real one has.
    for (name, now) in [("a", 1_000), ("b", 3_000), ("c", 2_000), ("d", 2_000)] {
        let draft = Draft::creation(name).session(name, 1).at(now);
        let question = format!("{name}:1");
        let asked = committed(&*store, draft.asks(&question));
        if name == "c" {
            let mut answered = Draft::change(&asked).asks(&question).build();
            answered.clarifications[0].status = ClarificationStatus::Answered;
            assert_eq!(store.commit(&[answered]), Ok(vec![Outcome::Committed]));
        }
    }
    let mut query =
        ClarificationQuery { tenant: tenant("t"), status: None, id: None, cursor: None, limit: 1 };
    let ids = |query: &mut ClarificationQuery| -> Vec<String> {
        let (_, all) = all_pages(|cursor| {
            query.cursor = cursor;
            store.clarifications(query)
        });
        all.into_iter().map(|c| c.id).collect()
    };
    assert_eq!(ids(&mut query), ["b:1", "d:1", "c:1", "a:1"]);
    query.limit = 3;
    assert_eq!(ids(&mut query), ["b:1", "d:1", "c:1", "a:1"]);
    query.status = Some(ClarificationStatus::Pending);
    assert_eq!(ids(&mut query), ["b:1", "d:1", "a:1"]);
    query.status = Some(ClarificationStatus::Answered);
    assert_eq!(ids(&mut query), ["c:1"]);
    query.status = None;
    query.id = Some("a:1".into());
    assert_eq!(ids(&mut query), ["a:1"]);
    query.id = Some("z".into());
    assert!(ids(&mut query).is_empty());
}

pub fn an_unknown_cursor_is_beyond_the_end(open: Open<'_>) {
    let store = open();
    committed(&*store, Draft::creation("a").session("ana", 1).asks("a:1"));
    let cursor = Some("no cursor of ours".to_owned());
    let entries = store.history(&HistoryQuery {
        cursor: cursor.clone(),
        limit: 5,
        ..HistoryQuery::of(tenant("t"), id("a"))
    });
    assert_eq!(entries.map(|page| page.data), Ok(vec![]));
    let of = HistoryQuery::of(tenant("t"), id("a"));
    let back = store.history(&HistoryQuery { newest_first: true, cursor: cursor.clone(), ..of });
    assert_eq!(back.map(|page| page.data), Ok(vec![]));
    let questions = store.clarifications(&ClarificationQuery {
        tenant: tenant("t"),
        status: None,
        id: None,
        cursor,
        limit: 5,
    });
    assert_eq!(questions.map(|page| page.data), Ok(vec![]));
}

pub fn clean_up_deletes_in_bounded_batches_and_keeps_open_instances(open: Open<'_>) {
    let store = open();
    let a1 = committed(&*store, Draft::creation("a").at(1_000));
    let a2 = committed(&*store, Draft::change(&a1).at(2_000));
    committed(&*store, Draft::refusal(&a2).at(3_000));
    let b1 = committed(&*store, Draft::creation("b").at(1_500));
    committed(&*store, Draft::change(&b1).at(2_500).closed("completed"));
    committed(&*store, Draft::creation("c").at(9_000).closed("completed"));
    committed(&*store, Draft::creation("d").at(1_000));

    let report =
        |entries_deleted, more| Ok(CleanupReport { entries_deleted, more, ..CleanupReport::default() });
    assert_eq!(store.clean_up(at(1_000), 10), report(0, false));
    assert_eq!(store.clean_up(at(5_000), 2), report(2, true));
    let t = tenant("t");
    let left = |name| history(&*store, &t, &id(name)).len();
    assert_eq!((left("a"), left("b")), (2, 1), "the oldest go first");
    assert_eq!(store.clean_up(at(5_000), 2), report(2, true));
    assert_eq!(store.clean_up(at(5_000), 2), report(0, false));
    assert_eq!((left("a"), left("b"), left("c"), left("d")), (1, 0, 1, 1));
    for (name, revision) in [("a", 2), ("b", 2), ("c", 1), ("d", 1)] {
        let found = loaded(&*store, &t, &id(name)).expect("instances stay");
        assert_eq!(found.revision, Revision(revision), "{name}");
    }
}

pub fn clean_up_deletes_what_has_ended_beside_a_tenant(open: Open<'_>) {
    let store = open();
    let beside = tenant("t").receipts();
    let made = |name: &str, of: &TenantId, closed: bool| {
        let draft = Draft::creation(name).at(1_000).session(name, 1);
        let mut commit = if closed { draft.closed("completed") } else { draft }.build();
        commit.tenant = of.clone();
        commit.after.as_mut().expect("a creation has an after").tenant = of.clone();
        commit.entry.receipt = key_of(of, name);
        assert_eq!(store.commit(&[commit]), Ok(vec![Outcome::Committed]));
    };
    made("over", &beside, true);
    made("over too", &beside, true);
    made("going on", &beside, false);
    made("a person's", &tenant("t"), true);
    let report = |entries_deleted, instances_deleted, more| {
        Ok(CleanupReport { entries_deleted, effects_deleted: 0, instances_deleted, more })
    };
    assert_eq!(store.clean_up(at(1_000), 10), report(0, 0, false));
    assert_eq!(store.clean_up(at(5_000), 4), report(3, 1, true));
    assert_eq!(store.clean_up(at(5_000), 4), report(0, 1, false));
    let left = |of: &TenantId, name| loaded(&*store, of, &id(name)).is_some();
    let kept = [left(&beside, "over"), left(&beside, "over too"), left(&beside, "going on")];
    assert_eq!(kept, [false, false, true]);
    assert!(left(&tenant("t"), "a person's"), "instances of people stay");
    assert_eq!(store.load_session(&beside, &machine("m"), &subject("over")), Ok(None));
    made("over", &beside, true);
}

/// Outside the window a key is as good as new.
pub fn clean_up_takes_receipts_with_their_entries(open: Open<'_>) {
    let store = open();
    let first = committed(&*store, Draft::creation("a").key("k").at(1_000));
    let second = committed(&*store, Draft::change(&first).at(2_000));
    assert_eq!(store.clean_up(at(9_000), 10).map(|r| r.entries_deleted), Ok(1));
    assert_eq!(store.receipt(&tenant("t"), &ReceiptScope::Creations, key_of(&tenant("t"), "k")), Ok(None));
    committed(&*store, Draft::change(&second).key("k").at(9_000));
    let revisions: Vec<_> = history(&*store, &tenant("t"), &id("a")).iter().map(|e| e.revision.0).collect();
    assert_eq!(revisions, [2, 3]);
}

pub fn statistics_count(open: Open<'_>) {
    let store = open();
    let statuses = |pending, expired| -> BTreeMap<&'static str, u64> {
        let all = ClarificationStatus::ALL.into_iter();
        let count = |status| match status {
            ClarificationStatus::Pending => pending,
            ClarificationStatus::Expired => expired,
            _ => 0,
        };
        all.map(|s| (s.as_str(), count(s))).collect()
    };
    let effects = |pending| -> BTreeMap<&'static str, u64> {
        let count = |status| if status == EffectStatus::Pending { pending } else { 0 };
        EffectStatus::ALL.map(|status| (status.as_str(), count(status))).into()
    };
    let (clarifications_of_none, effects_of_none) = (statuses(0, 0), effects(0));
    let empty = StoreStatistics {
        clarifications: clarifications_of_none,
        effects: effects_of_none,
        ..StoreStatistics::default()
    };
    assert_eq!(store.statistics(), Ok(empty));

    committed(&*store, Draft::creation("a").effect("one").effect("two").timer(4_000));
    committed(&*store, Draft::creation("b").tenant("other").asks("b:1"));
    let packed = Draft::creation("c").state("packed").asks("c:1").timer(9_000);
    let packed = committed(&*store, packed);
    committed(&*store, Draft::change(&packed).timer(8_000));
    committed(&*store, Draft::creation("d").machine("invoice"));
    committed(&*store, Draft::creation("s").tenant("t~shadow").asks("s:1").timer(1_000));
    committed(&*store, Draft::creation("z").tenant("t~shadow").closed("timeout"));
    let expired = Draft::creation("e").question("e:1", ClarificationStatus::Expired);
    committed(&*store, expired.closed("timeout"));
    committed(&*store, Draft::creation("f").state("x").timer(1_000).closed("timeout"));
    assert_eq!(clarifications(&*store, &tenant("t")).len(), 2);
    let count = |machine: &str, what: &str, count| ((machine.to_owned(), what.to_owned()), count);
    let expected = StoreStatistics {
        open: BTreeMap::from([
            count("order", "open", 2),
            count("order", "packed", 1),
            count("invoice", "open", 1),
        ]),
        closed: BTreeMap::from([count("order", "timeout", 2)]),
        phases: BTreeMap::new(),
        clarifications: statuses(2, 1),
        effects: effects(2),
        quarantined: 0,
        latest_change: store.statistics().expect("the store answers").latest_change,
        mean_deadline: Some(at(6_000)),
    };
    let listed = store.instances(&InstanceQuery::of(tenant("t"))).expect("the store answers").data;
    assert_eq!(expected.latest_change, listed.iter().map(|s| s.updated_at).max());
    assert_eq!(store.statistics(), Ok(expected));
}
