//! Who is given an instance whose time has come, and when.

use crate::Store;
use crate::contract::commits::committed;
use crate::contract::{Draft, Open, at};

/// Claims at `now` until `lease_until`, and gives the ids in their order.
fn claimed(store: &dyn Store, now: i64, lease_until: i64, limit: usize) -> Vec<String> {
    let due = store.claim_due(at(now), at(lease_until), limit);
    let due = due.expect("due instances can be claimed");
    due.iter().map(|(_, id)| id.to_string()).collect()
}

const NONE: [&str; 0] = [];

pub fn due_instances_are_claimed_once(open: Open<'_>) {
    let store = open();
    for name in ["a", "b", "c"] {
        committed(&*store, Draft::creation(name).timer(2_000));
    }
    let mut all = claimed(&*store, 2_000, 9_000, 2);
    assert_eq!(all.len(), 2);
    all.extend(claimed(&*store, 2_000, 9_000, 2));
    all.sort_unstable();
    assert_eq!(all, ["a", "b", "c"]);
    assert_eq!(claimed(&*store, 2_001, 9_000, 2), NONE);
}

pub fn the_longest_due_is_claimed_first(open: Open<'_>) {
    let store = open();
    for (name, deadline) in [("a", 3_000), ("b", 1_500), ("c", 2_000), ("d", 1_000)] {
        let tenant = if name == "b" { "other" } else { "t" };
        committed(&*store, Draft::creation(name).tenant(tenant).timer(deadline));
    }
    assert_eq!(claimed(&*store, 5_000, 9_000, 2), ["d", "b"]);
    assert_eq!(claimed(&*store, 5_000, 9_000, 9), ["c", "a"]);
}

pub fn lease_expires(open: Open<'_>) {
    let store = open();
    committed(&*store, Draft::creation("a").timer(2_000));
    assert_eq!(claimed(&*store, 2_000, 3_000, 10), ["a"]);
    assert_eq!(store.next_due(), Ok(Some(at(3_000))));
    assert_eq!(claimed(&*store, 2_999, 9_000, 10), NONE);
    assert_eq!(claimed(&*store, 3_000, 4_000, 10), ["a"]);
}

pub fn a_commit_releases_the_claim(open: Open<'_>) {
    let store = open();
    let before = committed(&*store, Draft::creation("a").timer(2_000));
    assert_eq!(claimed(&*store, 2_000, 9_000, 10), ["a"]);
    committed(&*store, Draft::change(&before).state("still due"));
    assert_eq!(claimed(&*store, 2_000, 9_000, 10), ["a"]);
}

pub fn a_refused_input_keeps_the_claim(open: Open<'_>) {
    let store = open();
    let before = committed(&*store, Draft::creation("a").timer(2_000));
    assert_eq!(claimed(&*store, 2_000, 9_000, 10), ["a"]);
    committed(&*store, Draft::refusal(&before));
    assert_eq!(claimed(&*store, 2_000, 9_000, 10), NONE);
}

pub fn nothing_is_due_before_its_deadline(open: Open<'_>) {
    let store = open();
    assert_eq!(store.next_due(), Ok(None));
    committed(&*store, Draft::creation("without"));
    assert_eq!(store.next_due(), Ok(None));
    committed(&*store, Draft::creation("a").timer(2_000));
    committed(&*store, Draft::creation("b").timer(1_800));
    assert_eq!(store.next_due(), Ok(Some(at(1_800))));
    assert_eq!(claimed(&*store, 1_799, 9_000, 10), NONE);
    assert_eq!(claimed(&*store, 1_800, 9_000, 10), ["b"]);
    assert_eq!(store.next_due(), Ok(Some(at(2_000))));
}

pub fn a_later_deadline_is_not_claimed_early(open: Open<'_>) {
    let store = open();
    let before = committed(&*store, Draft::creation("a").timer(2_000));
    let before = committed(&*store, Draft::change(&before).timer(5_000));
    committed(&*store, Draft::change(&before).timer(7_000));
    committed(&*store, Draft::creation("b").timer(2_500));
    assert_eq!(claimed(&*store, 2_500, 2_600, 1), ["b"]);
    assert_eq!(claimed(&*store, 6_999, 9_000, 1), ["b"]);
    assert_eq!(claimed(&*store, 6_999, 9_000, 10), NONE);
    assert_eq!(store.next_due(), Ok(Some(at(7_000))));
    assert_eq!(claimed(&*store, 7_000, 9_000, 10), ["a"]);
}

pub fn an_earlier_deadline_is_claimed_in_time(open: Open<'_>) {
    let store = open();
    let before = committed(&*store, Draft::creation("a").timer(5_000));
    let before = committed(&*store, Draft::change(&before).timer(9_000));
    committed(&*store, Draft::change(&before).timer(2_000));
    assert_eq!(store.next_due(), Ok(Some(at(2_000))));
    assert_eq!(claimed(&*store, 1_999, 9_000, 10), NONE);
    assert_eq!(claimed(&*store, 2_000, 9_000, 10), ["a"]);
}

pub fn a_deadline_that_is_gone_is_never_due(open: Open<'_>) {
    let store = open();
    let before = committed(&*store, Draft::creation("a").timer(2_000));
    committed(&*store, Draft::change(&before).no_timer());
    assert_eq!(store.next_due(), Ok(None));
    assert_eq!(claimed(&*store, 99_000, 99_999, 10), NONE);
}

pub fn a_deadline_that_comes_back_is_due(open: Open<'_>) {
    let store = open();
    let before = committed(&*store, Draft::creation("a").timer(2_000));
    let before = committed(&*store, Draft::change(&before).no_timer());
    committed(&*store, Draft::change(&before).timer(4_000));
    assert_eq!(claimed(&*store, 3_999, 9_000, 10), NONE);
    assert_eq!(store.next_due(), Ok(Some(at(4_000))));
    assert_eq!(claimed(&*store, 4_000, 9_000, 10), ["a"]);
}

/// Whatever timers its last snapshot still names.
pub fn closed_instances_are_never_due(open: Open<'_>) {
    let store = open();
    let before = committed(&*store, Draft::creation("a").timer(2_000));
    committed(&*store, Draft::change(&before).closed("completed"));
    let stillborn = Draft::creation("b").timer(2_000).closed("forced");
    committed(&*store, stillborn);
    assert_eq!(store.next_due(), Ok(None));
    assert_eq!(claimed(&*store, 99_000, 99_999, 10), NONE);
}

/// Whoever sleeps until `next_due` and then claims, again and again, comes to every deadline.
pub fn next_due_is_never_too_late(open: Open<'_>) {
    let store = open();
    let deadlines = [(5, 50), (7, 3), (9, 9), (4, 40)];
    for (number, (first, second)) in deadlines.iter().enumerate() {
        let draft = Draft::creation(&format!("i{number}")).timer(first * 1_000);
        let before = committed(&*store, draft);
        committed(&*store, Draft::change(&before).timer(second * 1_000));
    }
    let mut seen = Vec::new();
    for _ in 0..100 {
        let Some(next) = store.next_due().expect("the next deadline can be read") else {
            break;
        };
        if next > at(60_000) {
            break;
        }
        let now = next.as_millis();
        let due = claimed(&*store, now, 90_000, 1);
        seen.extend(due.into_iter().map(|id| (id, now / 1_000)));
    }
    let expected = [("i1", 3), ("i2", 9), ("i3", 40), ("i0", 50)];
    assert_eq!(seen, expected.map(|(id, s)| (id.to_owned(), s)));
}
