//! How open instances stand: what goes in circles, what is stuck and why.

use std::collections::BTreeMap;

use kernel::snapshot::{Stuck, StuckBy};
use serde_json::json;

use crate::contract::commits::committed;
use crate::contract::{Draft, Open, at, tenant};
use crate::query::InstanceQuery;
use crate::{Standing, StandingAt, Standings, Store};

const NOW: i64 = 10_000;

fn limits() -> StuckBy {
    StuckBy { overdue_since: at(5_000), silent_since: at(3_000) }
}

/// One of each kind that there is, and its neighbours that are not.
fn fill(store: &dyn Store) {
    let all = [
        Draft::creation("overdue").timer(4_999),
        Draft::creation("not overdue yet").timer(5_000),
        Draft::creation("silent").at(2_999),
        Draft::creation("not silent yet").at(3_000),
        Draft::creation("dead end").at(9_000).dead_end(),
        Draft::creation("dead end for long").at(1_000).dead_end(),
        // What people have in their contexts is theirs.
        Draft::creation("says so").at(9_000).context("dead_end", json!(true)),
        Draft::creation("says so for long").at(1_000).context("dead_end", json!(true)),
        Draft::creation("circles").at(9_000).looping(NOW + 1),
        Draft::creation("circled").at(9_000).looping(NOW),
        Draft::creation("over").timer(1_000).dead_end().looping(NOW + 1).closed("timeout"),
        Draft::creation("another's").tenant("other").machine("invoice").at(1_000),
        Draft::creation("a shadow").tenant("t~shadow").at(1_000),
        Draft::creation("a receipt").tenant("t~receipts").timer(1_000).looping(NOW + 1),
    ];
    for draft in all {
        committed(store, draft);
    }
    let put_off = committed(store, Draft::creation("put off").timer(2_000));
    committed(store, Draft::change(&put_off).timer(9_000));
    let unset = committed(store, Draft::creation("unset").timer(2_000));
    committed(store, Draft::change(&unset).no_timer().at(9_000));
    let set = committed(store, Draft::creation("set").at(1_000));
    committed(store, Draft::change(&set).timer(20_000));
}

pub fn open_instances_are_counted_as_they_stand(open: Open<'_>) {
    let store = open();
    let at = StandingAt { now: at(NOW), stuck_by: limits() };
    assert_eq!(store.standings(at), Ok(Standings::default()));
    fill(&*store);
    let stuck = BTreeMap::from([(Stuck::DeadEnd, 2), (Stuck::Overdue, 1), (Stuck::Silent, 2)]);
    let ours = Standing { open: 13, looping: 1, stuck };
    let theirs = Standing { open: 1, looping: 0, stuck: BTreeMap::from([(Stuck::Silent, 1)]) };
    let expected = Standings {
        tenants: BTreeMap::from([
            (tenant("t"), BTreeMap::from([("order".to_owned(), ours)])),
            (tenant("other"), BTreeMap::from([("invoice".to_owned(), theirs)])),
        ]),
    };
    assert_eq!(store.standings(at), Ok(expected));
}

pub fn what_is_counted_as_stuck_is_listed_as_stuck(open: Open<'_>) {
    let store = open();
    fill(&*store);
    let listed = |limit| {
        let stuck = InstanceQuery { stuck_by: Some(limits()), limit, ..InstanceQuery::of(tenant("t")) };
        let found = store.instances(&stuck).expect("the store answers");
        let ids: Vec<_> = found.data.iter().map(|one| one.instance.to_string()).collect();
        (ids, found.next.is_some())
    };
    let all = ["silent", "says so for long", "overdue", "dead end for long", "dead end"].map(str::to_owned);
    assert_eq!(listed(100), (all.to_vec(), false));
    assert_eq!(listed(2), (all[..2].to_vec(), true));
    let standings = store.standings(StandingAt { now: at(NOW), stuck_by: limits() });
    assert_eq!(standings.map(|found| found.of(&tenant("t")).stuck()), Ok(5));
}
