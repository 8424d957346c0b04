//! Redis keeps the contract, on one server and on a cluster, and some promises of its own.
//!
//! The servers are named by the environment; `cargo xtask servers cargo nextest run -p store` starts them and names them.
//! Each store that is opened has a prefix of its own, so all tests share them. What would disturb the others runs on a
//! server that is started for it.

mod redis_model;
mod redis_support;

use std::collections::HashSet;
use std::time::{Duration, Instant};

use kernel::commit::Commit;
use kernel::conversation::ClarificationStatus;
use kernel::id::{InstanceId, TenantId};
use redis_support::{
    CLUSTER, ONE, Private, Watched, fresh_prefix, fresh_stores, open, server, started, url_of,
};
use store::contract::{Draft, at, id, left_by, machine, subject, tenant};
use store::query::HistoryQuery;
use store::{
    CommitError, Durability, InstanceQuery, LoadError, Outcome, RedisStore, Settlement, SettlementResult,
    Store,
};
use testbed::{RedisCluster, Settings, wait_until};

store::store_contract!(redis, fresh_stores(ONE));
store::store_contract!(redis_cluster, fresh_stores(CLUSTER));
store::durable_store_contract!(redis_restarted, Private::new());

fn committed(store: &dyn Store, draft: Draft) -> kernel::snapshot::Snapshot {
    let after = draft.snapshot();
    assert_eq!(store.commit(&[draft.build()]), Ok(vec![Outcome::Committed]));
    after
}

fn quarantined(store: &dyn Store) -> u64 {
    store.statistics().expect("the store answers").quarantined
}

#[test]
fn two_servers_save_each_input_exactly_once() {
    for variable in [ONE, CLUSTER] {
        let url = url_of(&server(variable), &fresh_prefix());
        let stores = [open(&url), open(&url)];
        let names: Vec<String> = (0..10).map(|number| format!("i{number}")).collect();
        // Each instance in one of many tenants, so that all buckets are written to.
        let draft = |name: &str| Draft::creation(name).tenant(&format!("of-{name}")).effect("e");
        let outcomes: Vec<Vec<Outcome>> = std::thread::scope(|scope| {
            let writers: Vec<_> = (0..8)
                .map(|number| {
                    let (store, names) = (&stores[number % 2], &names);
                    scope.spawn(move || {
                        let mut batch: Vec<Commit> = Vec::new();
                        for name in names {
                            let first = draft(name);
                            batch.push(Draft::change(&first.snapshot()).build());
                            batch.push(first.build());
                        }
                        batch.reverse();
                        store.commit(&batch).expect("the store is there")
                    })
                })
                .collect();
            writers.into_iter().map(|writer| writer.join().expect("no writer fails")).collect()
        });
        let saved = outcomes.iter().flatten().filter(|outcome| **outcome == Outcome::Committed).count();
        assert_eq!(saved, 20, "{variable}");
        for name in &names {
            let query = HistoryQuery::of(tenant(&format!("of-{name}")), id(name));
            assert_eq!(stores[1].history(&query).expect("the store answers").data.len(), 2);
        }
        assert_eq!(stores[0].statistics().expect("the store answers").effects["pending"], 10);
    }
}

#[test]
fn two_servers_are_never_given_the_same() {
    let url = url_of(&server(CLUSTER), &fresh_prefix());
    let stores = [open(&url), open(&url)];
    for number in 0..40 {
        let of = format!("t{}", number % 7);
        let draft = Draft::creation(&format!("i{number}")).tenant(&of).key(&format!("k{number}"));
        committed(&stores[0], draft.timer(2_000).calls("c"));
    }
    let claim_all = |store: &RedisStore| {
        let (mut instances, mut effects) = (Vec::new(), Vec::new());
        loop {
            let due = store.claim_due(at(5_000), at(9_000), 3).expect("they can be claimed");
            let sends = store.claim_effects(at(5_000), at(9_000), 3).expect("they can be claimed");
            if due.is_empty() && sends.is_empty() {
                return (instances, effects);
            }
            instances.extend(due);
            effects.extend(sends.into_iter().map(|sent| sent.effect.effect.key));
        }
    };
    let all: Vec<_> = std::thread::scope(|scope| {
        let claimers: Vec<_> = (0..4)
            .map(|n| {
                scope.spawn({
                    let s = &stores[n % 2];
                    move || claim_all(s)
                })
            })
            .collect();
        claimers.into_iter().map(|claimer| claimer.join().expect("no claimer fails")).collect()
    });
    let instances: Vec<&(TenantId, InstanceId)> = all.iter().flat_map(|(instances, _)| instances).collect();
    let effects: Vec<&String> = all.iter().flat_map(|(_, effects)| effects).collect();
    assert_eq!((instances.len(), effects.len()), (40, 40));
    assert_eq!(instances.iter().collect::<HashSet<_>>().len(), 40);
    assert_eq!(effects.iter().collect::<HashSet<_>>().len(), 40);
}

#[test]
fn an_instance_that_is_gone_is_lost_and_never_new() {
    let mut watched = Watched::shared("");
    let draft = Draft::creation("a")
        .session("ana", 1)
        .timer(2_000)
        .phase(store::contract::phase(0, kernel::flow::PhaseState::NotStarted));
    let before = committed(&watched.store, draft);
    let key = watched.key(":i:t:a");
    assert_eq!(watched.ask::<i64>(&["DEL", &key]), 1);
    let store = &watched.store;
    let lost = Err(LoadError::Corrupt {
        record: "instances t/a".to_owned(),
        detail: "it was saved and is gone: evicted or lost".to_owned(),
    });
    assert_eq!(store.load(&before.tenant, &before.instance), lost);
    assert_eq!(store.load_session(&before.tenant, &before.machine, &subject("ana")), lost);
    assert_eq!(quarantined(store), 1);
    let next = Draft::change(&before).build();
    let again = Draft::creation("a").key("again").build();
    let first = Draft::creation("b").session("ana", 1).build();
    assert_eq!(store.commit(&[next]), Ok(vec![Outcome::Stale]));
    assert_eq!(store.commit(&[again, first]), Ok(vec![Outcome::Stale; 2]));
    let listed = store.instances(&InstanceQuery::of(tenant("t"))).expect("the store answers");
    assert_eq!(listed.data, []);
    assert_eq!(store.claim_due(at(3_000), at(4_000), 10), Ok(vec![]));
    assert_eq!(store.next_due(), Ok(None), "nobody can see to it");
}

#[test]
fn a_store_that_was_emptied_says_so() {
    let server = started(&Settings::default());
    let mut watched = Watched::new(&server.url(), "");
    let before = committed(&watched.store, Draft::creation("a"));
    watched.ask::<()>(&["FLUSHALL"]);
    let store = &watched.store;
    let is_told = |detail: &str| assert!(detail.starts_with("the store lost"), "{detail}");
    match store.commit(&[Draft::creation("b").build()]) {
        Err(CommitError::Unavailable(detail)) => is_told(&detail),
        other => panic!("{other:?}"),
    }
    for asked in [
        store.load(&before.tenant, &before.instance).map(|_| ()),
        store.load_session(&before.tenant, &before.machine, &subject("ana")).map(|_| ()),
        left_by(store, &Draft::creation("a").build()).map(|_| ()),
        store.statistics().map(|_| ()),
        store.next_due().map(|_| ()),
        store.settings().map(|_| ()),
        store.instances(&InstanceQuery::of(tenant("t"))).map(|_| ()),
    ] {
        match asked {
            Err(LoadError::Unavailable(detail)) => is_told(&detail),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_store_without_one_of_its_buckets_is_not_opened() {
    let mut watched = Watched::shared("");
    let key = watched.key("{b2}:meta");
    watched.ask::<()>(&["DEL", &key]);
    let refused = RedisStore::open(&watched.url).expect_err("a bucket is gone").to_string();
    assert!(refused.starts_with("the store lost a bucket: its key"), "{refused}");
}

#[test]
fn the_number_of_buckets_is_for_life() {
    let watched = Watched::shared("");
    let refused = RedisStore::open(&watched.url.replace("buckets=4", "buckets=8")).expect_err("it has 4");
    let expected = "the store was made with 4 buckets, and 8 are asked for; say `buckets=4`";
    assert_eq!(refused.to_string(), expected);
}

#[test]
fn a_server_that_evicts_anything_is_refused() {
    let server = started(&Settings::default().with("maxmemory-policy", "allkeys-lru"));
    let url = url_of(&server.url(), "evicting");
    let refused = RedisStore::open(&url).expect_err("it may lose anything").to_string();
    assert!(refused.starts_with("the server's maxmemory-policy is allkeys-lru"), "{refused}");
    open(&format!("{url}&allow_eviction=yes"));
    server.ask(&["CONFIG", "SET", "maxmemory-policy", "volatile-lru"]).expect("it can be set");
    let notes = open(&url).info().notes;
    assert!(notes.iter().any(|note| note.starts_with("maxmemory-policy is volatile-lru")), "{notes:?}");
}

#[test]
fn the_durability_is_that_of_the_server() {
    let server = started(&Settings::default());
    let class = || open(&url_of(&server.url(), "classes")).info();
    assert_eq!(class().durability, Durability::Durable);
    assert_eq!(class().notes, [""; 0]);
    server.ask(&["CONFIG", "SET", "appendfsync", "everysec"]).expect("it can be set");
    assert_eq!(class().durability, Durability::BoundedLoss);
    server.ask(&["CONFIG", "SET", "appendonly", "no"]).expect("it can be set");
    assert_eq!(class().durability, Durability::Volatile);
    let clustered = open(&url_of(&self::server(CLUSTER), &fresh_prefix())).info();
    assert_eq!(clustered.durability, Durability::BoundedLoss);
    assert!(clustered.notes.iter().any(|note| note.starts_with("the servers are a cluster")));
    assert!(["redis", "valkey"].contains(&clustered.backend));
    assert!(clustered.location.starts_with("redis+cluster://"), "{}", clustered.location);
}

#[test]
fn a_closed_instance_goes_by_time_and_its_answers_stay() {
    let mut watched = Watched::shared("&closed_ttl=300ms");
    let opened = Draft::creation("a").session("ana", 1);
    let closing = Draft::change(&opened.snapshot()).closed("completed");
    let closed = closing.snapshot();
    let batch = [opened.build(), closing.build()];
    assert_eq!(watched.store.commit(&batch), Ok(vec![Outcome::Committed; 2]));
    let stays = committed(&watched.store, Draft::creation("b"));
    let (a, b) = (watched.key(":i:t:a"), watched.key(":i:t:b"));
    assert!((1..=300).contains(&watched.ask::<i64>(&["PTTL", &a])));
    assert_eq!(watched.ask::<i64>(&["PTTL", &b]), -1);
    let store = &watched.store;
    let (t, of) = (tenant("t"), closed.tenant.clone());
    let gone = || store.load(&of, &id("a")) == Ok(None);
    assert!(testbed::wait_until(Duration::from_secs(20), gone));
    assert_eq!(store.load_session(&t, &machine("order"), &subject("ana")), Ok(None));
    for commit in &batch {
        let repeat = Outcome::Duplicate(Box::new((id("a"), commit.entry.clone())));
        assert_eq!(store.commit(std::slice::from_ref(commit)), Ok(vec![repeat]));
    }
    assert_eq!(store.instances(&InstanceQuery::of(t.clone())).map(|page| page.data), Ok(vec![stays]));
    // The next session of the subject is the first again; the place of the one that is gone is swept by that.
    let next = Draft::creation("c").session("ana", 1).at(9_000);
    committed(store, next);
    let figures = store.statistics().expect("the store answers");
    assert_eq!((figures.closed.len(), figures.open.values().sum::<u64>(), figures.quarantined), (0, 2, 0));
    // What is left of the log goes with the retention.
    assert_eq!(store.clean_up(at(5_000), 100).map(|report| report.entries_deleted), Ok(2));
    assert_eq!(left_by(store, &batch[0]), Ok(None));
}

#[test]
fn what_has_gone_by_time_is_swept_by_cleaning_up() {
    let store = Watched::shared("&closed_ttl=1ms").store;
    let phase = store::contract::phase(0, kernel::flow::PhaseState::Completed);
    committed(&store, Draft::creation("a").closed("completed").phase(phase));
    assert!(wait_until(Duration::from_secs(20), || store.load(&tenant("t"), &id("a")) == Ok(None)));
    assert_eq!(store.statistics().map(|figures| figures.closed.len()), Ok(1));
    let swept = || {
        store.clean_up(at(0), 100).expect("the store can be cleaned up");
        store.statistics().map(|figures| figures.closed.len()) == Ok(0)
    };
    assert!(wait_until(Duration::from_secs(20), swept));
    let phases = store.phases(&store::PhaseQuery::of(tenant("t"))).expect("the store answers");
    assert_eq!(phases.data, []);
}

#[test]
fn servers_may_forget_the_scripts() {
    let server = started(&Settings::default());
    let mut watched = Watched::new(&server.url(), "");
    let mut last = committed(&watched.store, Draft::creation("a"));
    for _ in 0..3 {
        watched.ask::<()>(&["SCRIPT", "FLUSH"]);
        last = committed(&watched.store, Draft::change(&last));
        watched.ask::<()>(&["SCRIPT", "FLUSH"]);
        assert_eq!(watched.store.load(&last.tenant, &last.instance), Ok(Some(last.clone())));
    }
}

#[test]
fn flipped_bytes_are_quarantined() {
    let mut watched = Watched::shared("");
    let draft = Draft::creation("a").session("ana", 1).asks("a:1").effect("e");
    let phase = store::contract::phase(0, kernel::flow::PhaseState::NotStarted);
    let commit = draft.phase(phase).build();
    assert_eq!(watched.store.commit(std::slice::from_ref(&commit)), Ok(vec![Outcome::Committed]));
    let spoil = |value: String, from: &str, to: &str| {
        assert!(value.contains(from), "{value}");
        value.replacen(from, to, 1)
    };
    let (i, q, o, p) =
        (watched.key(":i:t:a"), watched.key(":q:t:a%3A1"), watched.key(":o:t:a:1:0"), watched.key(":p:t:a"));
    let e = watched.key(&format!(":e:{:032x}", commit.entry.receipt.0.0));
    for (key, field, from, to) in [
        (&i, "head", "\"open\"", "\"opem\""),
        (&o, "effect", "\"e\"", "\"f\""),
        (&p, "0", "\"p0\"", "\"p1\""),
    ] {
        let value = watched.ask(&["HGET", key, field]);
        watched.ask::<()>(&["HSET", key, field, &spoil(value, from, to)]);
    }
    for (key, from, to) in [(&q, "Which", "Whisk"), (&e, "été", "êté")] {
        let value = watched.ask(&["GET", key]);
        watched.ask::<()>(&["SET", key, &spoil(value, from, to)]);
    }
    let store = &watched.store;
    let t = tenant("t");
    assert!(matches!(store.load(&t, &id("a")), Err(LoadError::Corrupt { .. })));
    assert_eq!(quarantined(store), 1);
    assert!(matches!(left_by(store, &commit), Err(LoadError::Corrupt { .. })));
    assert_eq!(
        store.commit(std::slice::from_ref(&commit)),
        Ok(vec![Outcome::Stale]),
        "and never saved again"
    );
    assert_eq!(store.claim_effects(at(5_000), at(6_000), 10), Ok(vec![]));
    assert_eq!(store.next_effect_due(), Ok(None), "nobody waits for what cannot be sent");
    assert_eq!(store.phases(&store::PhaseQuery::of(t.clone())).map(|page| page.data), Ok(vec![]));
    let query =
        store::ClarificationQuery { tenant: t.clone(), status: None, id: None, cursor: None, limit: 9 };
    assert_eq!(store.clarifications(&query).map(|page| page.data), Ok(vec![]));
    assert_eq!(store.instances(&InstanceQuery::of(t)).map(|page| page.data), Ok(vec![]));
    assert_eq!(quarantined(store), 5);
}

#[test]
fn a_log_that_went_back_is_told() {
    let mut watched = Watched::shared("");
    let first = committed(&watched.store, Draft::creation("a"));
    let second = committed(&watched.store, Draft::change(&first));
    let bucket = watched.key(":i:t:a").replace("i:t:a", "meta");
    watched.ask::<()>(&["HSET", &bucket, "seq", "0"]);
    committed(&watched.store, Draft::change(&second));
    let notes = watched.store.info().notes;
    assert!(notes.iter().any(|note| note.contains("about 2 log entries")), "{notes:?}");
    assert_eq!(quarantined(&watched.store), 1);
    let seq: i64 = watched.ask(&["HGET", &bucket, "seq"]);
    assert_eq!(seq, 3, "no number is given twice");
}

#[test]
fn a_server_that_was_started_again_is_used_again() {
    let server = started(&Settings::default());
    let store = open(&url_of(&server.url(), "restarted"));
    let first = committed(&store, Draft::creation("a"));
    server.kill().expect("it can be killed");
    let second = Draft::change(&first);
    let refused = store.commit(&[second.clone().build()]);
    assert!(matches!(refused, Err(CommitError::Unavailable(_) | CommitError::Unknown(_))), "{refused:?}");
    let refused = store.commit(&[second.clone().build()]);
    assert!(matches!(refused, Err(CommitError::Unavailable(_))), "{refused:?}");
    assert!(matches!(store.load(&first.tenant, &first.instance), Err(LoadError::Unavailable(_))));
    server.start_again().expect("it starts again");
    assert_eq!(store.load(&first.tenant, &first.instance), Ok(Some(first)));
    committed(&store, second);
    server.stop().expect("it stops");
    server.start_again().expect("it starts again");
    let idle = Instant::now();
    wait_until(Duration::from_secs(1), || idle.elapsed() > Duration::from_millis(150));
    committed(&store, Draft::creation("b"));
}

#[test]
fn a_server_that_does_not_answer_leaves_it_unknown() {
    let server = started(&Settings::default());
    let store = open(&url_of(&server.url(), "paused"));
    let first = committed(&store, Draft::creation("a"));
    server.pause().expect("it can be paused");
    let change = Draft::change(&first).build();
    let unknown = store.commit(std::slice::from_ref(&change));
    assert!(matches!(unknown, Err(CommitError::Unknown(_))), "{unknown:?}");
    server.resume().expect("it goes on");
    let repeated = store.commit(std::slice::from_ref(&change)).expect("it answers");
    assert!(matches!(repeated[..], [Outcome::Duplicate(_) | Outcome::Committed]), "{repeated:?}");
}

#[test]
fn a_full_server_takes_no_more_and_still_reads() {
    let server = started(&Settings::default());
    let store = open(&url_of(&server.url(), "full"));
    let first = committed(&store, Draft::creation("a").asks("q"));
    server.ask(&["CONFIG", "SET", "maxmemory", "1"]).expect("it can be set");
    let change = Draft::change(&first).question("q", ClarificationStatus::Answered).effect("e").build();
    let full = store.commit(std::slice::from_ref(&change));
    assert!(matches!(full, Err(CommitError::Full(_))), "{full:?}");
    assert_eq!(store.load(&first.tenant, &first.instance), Ok(Some(first)));
    server.ask(&["CONFIG", "SET", "maxmemory", "0"]).expect("it can be set");
    assert_eq!(store.commit(&[change]), Ok(vec![Outcome::Committed]));
}

#[test]
fn a_cluster_goes_on_when_a_replica_takes_over() {
    let cluster = RedisCluster::start_with_replicas(&Settings::default()).expect("the cluster starts");
    let store = open(&format!("{}?prefix=failover&buckets=16&wait=1", cluster.url()));
    let creation = |number: usize| {
        let name = format!("i{number}");
        Draft::creation(&name).tenant(&format!("t{number}"))
    };
    let before: Vec<_> = (0..16).map(|number| committed(&store, creation(number))).collect();
    let killed = cluster.masters()[0];
    cluster.kill(killed).expect("it can be killed");
    for (number, before) in before.iter().enumerate() {
        let change = Draft::change(before).key(&format!("change-{number}")).build();
        let saved = || match store.commit(std::slice::from_ref(&change)) {
            Ok(outcomes) => matches!(outcomes[..], [Outcome::Committed | Outcome::Duplicate(_)]),
            // With its replica gone too, `wait=1` cannot be kept, but it is saved.
            Err(CommitError::Unknown(_)) => left_by(&store, &change) != Ok(None),
            Err(_) => false,
        };
        assert!(wait_until(Duration::from_secs(60), saved), "{number}");
    }
}

#[test]
fn settled_effects_leave_nothing_behind_but_themselves() {
    let mut watched = Watched::shared("");
    committed(&watched.store, Draft::creation("a").effect("first").effect("second").calls("c"));
    let store = &watched.store;
    for _ in 0..2 {
        let claimed = store.claim_effects(at(1_000), at(9_000), 10).expect("they can be claimed");
        let settlements: Vec<Settlement> = claimed
            .iter()
            .map(|claimed| Settlement {
                tenant: tenant("t"),
                key: claimed.effect.effect.key.clone(),
                attempt: 1,
                result: SettlementResult::Delivered { provider_id: Some("p".to_owned()) },
            })
            .collect();
        assert!(
            store.settle_effects(&settlements, at(2_000)).expect("they can be settled").iter().all(|s| *s)
        );
    }
    assert_eq!(store.clean_up(at(3_000), 10).map(|report| report.effects_deleted), Ok(3));
    let pattern = format!("{}:*", watched.key(":i:t:a").split(":{").next().unwrap_or_default());
    let keys: Vec<String> = watched.ask(&["KEYS", &pattern]);
    let ends: HashSet<&str> = keys.iter().filter_map(|key| key.split("}:").nth(1)).collect();
    let kind = |end: &str| end.split(':').next().unwrap_or_default().to_owned();
    let kinds: HashSet<String> = ends.iter().map(|end| kind(end)).collect();
    let expected = ["store", "meta", "counts", "i", "e", "l", "open"];
    assert_eq!(kinds, expected.map(str::to_owned).into());
}
