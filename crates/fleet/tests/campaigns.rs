//! Short campaigns, on the servers that the suite has started and on private ones that may be hurt.
#![allow(clippy::unwrap_used, reason = "a campaign that cannot be run fails the test")]

use std::time::Duration;

use fleet::{Chaos, Plan, Report, StoreChoice, built_binary, run};

fn seconds() -> u64 {
    if std::env::var_os("STATEWRIGHT_FAST").is_some() { 5 } else { 10 }
}

fn plan(store: StoreChoice, chaos: &[Chaos]) -> Plan {
    let binary = built_binary().unwrap();
    Plan {
        lasts: Duration::from_secs(seconds()),
        chaos: chaos.to_vec(),
        users: 12,
        repeats_max: 1_500,
        ..Plan::new(binary, store)
    }
}

/// On a server that the suite has started.
fn theirs(variable: &str) -> StoreChoice {
    let url = std::env::var(variable);
    let url = url
        .unwrap_or_else(|_| panic!("{variable} is not set; run `cargo xtask servers cargo test -p fleet`"));
    StoreChoice::Url(url)
}

fn held(plan: &Plan) -> Report {
    let report = run(plan, &mut |line| eprintln!("{line}")).unwrap();
    assert!(report.violations.is_empty(), "{report}");
    assert!(report.answers > 100, "hardly anything was said: {report}");
    report
}

#[test]
fn a_server_that_is_killed_again_and_again_keeps_every_message_once() {
    let report = held(&Plan { servers: 1, ..plan(StoreChoice::Sqlite, &[Chaos::Kill]) });
    assert!(report.kills > 0 && report.timers > 0 && report.effects > 0 && report.lost == 0, "{report}");
}

#[test]
fn a_store_that_forgets_is_found_out() {
    let plan = Plan { servers: 1, ..plan(StoreChoice::Memory, &[Chaos::Kill]) };
    let report = run(&plan, &mut |_| {}).unwrap();
    let found: Vec<&str> = report.violations.iter().map(|violation| violation.what.as_str()).collect();
    assert!(found.iter().any(|what| what.contains("answered and is in no history")), "{found:?}");
}

#[test]
fn servers_over_one_postgres_lose_and_double_nothing_while_they_are_killed() {
    let report = held(&plan(theirs("STATEWRIGHT_TEST_POSTGRES"), &[Chaos::Kill]));
    assert!(report.kills > 0 && report.timers > 0 && report.effects > 0 && report.lost == 0, "{report}");
}

#[test]
fn servers_outlive_a_postgres_that_is_stopped_and_killed() {
    let report = held(&plan(StoreChoice::Postgres, &[Chaos::Database, Chaos::Kill]));
    assert!(report.interruptions > 0 && report.lost == 0, "{report}");
}

#[test]
fn servers_over_one_redis_lose_and_double_nothing_while_they_are_killed() {
    let report = held(&plan(theirs("STATEWRIGHT_TEST_REDIS"), &[Chaos::Kill]));
    assert!(report.kills > 0 && report.timers > 0 && report.effects > 0 && report.lost == 0, "{report}");
}

#[test]
fn servers_outlive_a_redis_that_is_killed_and_find_all_that_was_acknowledged() {
    let report = held(&plan(StoreChoice::Redis, &[Chaos::Database, Chaos::Kill]));
    assert!(report.interruptions > 0 && report.lost == 0, "{report}");
}

#[test]
fn a_cluster_without_replicas_that_loses_a_master_has_all_of_it_again_afterwards() {
    let report = held(&plan(StoreChoice::RedisCluster { replicas: false }, &[Chaos::Master]));
    assert!(report.interruptions > 0 && report.lost == 0, "{report}");
}

#[test]
fn a_cluster_whose_replicas_take_over_says_that_it_may_lose_and_doubles_nothing() {
    let report = held(&plan(StoreChoice::RedisCluster { replicas: true }, &[Chaos::Master]));
    assert!(report.interruptions > 0 && report.durability == "bounded-loss", "{report}");
}
