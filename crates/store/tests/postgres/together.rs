//! Several servers over one database, connections that are lost, and databases that are not as they should be.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use kernel::commit::Commit;
use kernel::input::ReceiptScope;
use store::contract::{Draft, at, definition, id, key_of, left_by, tenant};
use store::postgres::{OpenError, Options};
use store::query::HistoryQuery;
use store::{CommitError, LoadError, Outcome, PostgresStore, Store};

use super::server::{Database, with_client};

fn history_length(store: &dyn Store, of: &str) -> usize {
    let query = HistoryQuery { limit: 10_000, ..HistoryQuery::of(tenant("t"), id(of)) };
    store.history(&query).expect("the history can be read").data.len()
}

/// Everybody has the same inputs, in groups that overlap; each is saved once, and everybody is told of the one that was.
#[test]
fn the_same_inputs_from_everywhere_are_each_saved_once() {
    let database = Database::new();
    let stores = [database.open(), database.open()];
    let committed = AtomicU32::new(0);
    let inputs = |of: usize| -> Vec<Commit> {
        let names = (0..20).map(|n| format!("i-{}", (n * 7 + of * 3) % 20));
        names
            .map(|name| {
                Draft::creation(&name).session(&name, 1).asks(&format!("{name}:1")).effect("e").build()
            })
            .collect()
    };
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (store, committed) = (&stores[thread % 2], &committed);
            scope.spawn(move || {
                for round in 0..4 {
                    let batch = inputs(thread + round);
                    let outcomes = store.commit(&batch).expect("the store is there");
                    for (commit, outcome) in batch.iter().zip(outcomes) {
                        match outcome {
                            Outcome::Committed => _ = committed.fetch_add(1, Ordering::Relaxed),
                            Outcome::Duplicate(found) => assert_eq!(found.1, commit.entry),
                            other => panic!("{other:?}"),
                        }
                    }
                }
            });
        }
    });
    assert_eq!(committed.into_inner(), 20);
    for name in 0..20 {
        assert_eq!(history_length(&stores[0], &format!("i-{name}")), 1);
    }
    let figures = stores[1].statistics().expect("the store answers");
    assert_eq!(figures.effects["pending"], 20);
    assert_eq!(database.ask("SELECT count(*), sum(unsettled) FROM statewright.lanes"), "20,20");
}

#[test]
fn claims_of_two_servers_are_of_different_things() {
    let database = Database::new();
    let stores = [database.open(), database.open()];
    let drafts = (0..200).map(|n| Draft::creation(&format!("i-{n:03}")).timer(2_000).effect("e").build());
    let batch: Vec<Commit> = drafts.collect();
    assert_eq!(stores[0].commit(&batch), Ok(vec![Outcome::Committed; 200]));
    let claimed: Vec<(Vec<String>, Vec<String>)> = std::thread::scope(|scope| {
        let claimers = (0..4).map(|number| {
            let store = &stores[number % 2];
            scope.spawn(move || {
                let (mut instances, mut effects) = (Vec::new(), Vec::new());
                for _ in 0..40 {
                    let due = store.claim_due(at(2_000), at(9_000), 7).expect("the store is there");
                    instances.extend(due.into_iter().map(|(_, id)| id.to_string()));
                    let due = store.claim_effects(at(2_000), at(9_000), 7).expect("the store is there");
                    effects.extend(due.into_iter().map(|claimed| claimed.effect.effect.key));
                }
                (instances, effects)
            })
        });
        let claimers: Vec<_> = claimers.collect();
        claimers.into_iter().map(|claimer| claimer.join().expect("nobody panics")).collect()
    });
    let instances: Vec<&String> = claimed.iter().flat_map(|(instances, _)| instances).collect();
    let effects: Vec<&String> = claimed.iter().flat_map(|(_, effects)| effects).collect();
    for (what, all) in [("instances", instances), ("effects", effects)] {
        assert_eq!(all.len(), 200, "{what}");
        assert_eq!(all.into_iter().collect::<HashSet<_>>().len(), 200, "{what}");
    }
}

/// Whoever saves an effect and whoever settles the one before it at the same time both lock the lane: no lane is left
/// with nobody in its first seat.
#[test]
fn a_lane_is_never_left_without_a_first() {
    let database = Database::new();
    let stores = [database.open(), database.open()];
    let mut before = Draft::creation("a").effect("0").snapshot();
    assert_eq!(stores[0].commit(&[Draft::creation("a").effect("0").build()]), Ok(vec![Outcome::Committed]));
    let is_over = AtomicBool::new(false);
    let settled = std::thread::scope(|scope| {
        let settler = scope.spawn(|| {
            let mut settled = 0;
            while settled < 101 {
                let claimed = stores[1].claim_effects(at(9_000), at(90_000), 5).expect("the store is there");
                for effect in claimed {
                    let settlement = store::Settlement {
                        tenant: tenant("t"),
                        key: effect.effect.effect.key,
                        attempt: effect.effect.attempts,
                        result: store::SettlementResult::Delivered { provider_id: None },
                    };
                    let said = stores[1].settle_effects(&[settlement], at(9_000));
                    assert_eq!(said, Ok(vec![true]));
                    settled += 1;
                }
                if is_over.load(Ordering::Relaxed) && stores[1].next_effect_due() == Ok(None) {
                    break;
                }
            }
            settled
        });
        for number in 0..100 {
            let draft = Draft::change(&before).effect(&number.to_string());
            before = draft.snapshot();
            assert_eq!(stores[0].commit(&[draft.build()]), Ok(vec![Outcome::Committed]));
        }
        is_over.store(true, Ordering::Relaxed);
        settler.join().expect("nobody panics")
    });
    assert_eq!(settled, 101);
    assert_eq!(database.ask("SELECT unsettled FROM statewright.lanes"), "0");
}

/// Every commit of which nobody knew is found under its receipt, or was not saved.
#[test]
fn commits_on_lost_connections_are_told_by_their_receipts() {
    let database = Database::new();
    let store = database.open();
    let (is_over, over) = std::sync::mpsc::channel::<()>();
    let (mut unknown, mut saved) = (0, 0);
    std::thread::scope(|scope| {
        let database = &database;
        scope.spawn(move || {
            while over.recv_timeout(Duration::from_millis(15)) == Err(RecvTimeoutError::Timeout) {
                database.terminate();
            }
        });
        let started = Instant::now();
        for number in 0.. {
            if unknown > 5 && saved > 1_000 || started.elapsed() > Duration::from_secs(20) {
                break;
            }
            let names = (0..16).map(|n| format!("{number}-{n}"));
            let batch: Vec<Commit> = names.map(|name| Draft::creation(&name).build()).collect();
            match store.commit(&batch) {
                Ok(outcomes) => {
                    assert_eq!(outcomes, vec![Outcome::Committed; 16]);
                    saved += 16;
                }
                Err(CommitError::Unavailable(_)) => {
                    assert_eq!(found(&store, &batch), 0, "nothing of it was saved");
                }
                Err(CommitError::Unknown(_)) => {
                    unknown += 1;
                    let found = found(&store, &batch);
                    assert!(found == 0 || found == 16, "{found} of a group of 16");
                    saved += found;
                }
                Err(error) => panic!("{error}"),
            }
        }
        drop(is_over);
    });
    assert!(unknown > 0, "no connection was lost within a commit");
    assert_eq!(database.ask("SELECT count(*) FROM statewright.receipts"), saved.to_string());
    assert_eq!(database.ask("SELECT count(*) FROM statewright.log"), saved.to_string());
}

/// How many of them have a receipt; asks until there is an answer.
fn found(store: &PostgresStore, batch: &[Commit]) -> usize {
    let is_there = |commit: &&Commit| loop {
        match left_by(store, commit) {
            Ok(found) => return found.is_some(),
            Err(LoadError::Unavailable(_)) => std::thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
    };
    batch.iter().filter(is_there).count()
}

#[test]
fn several_servers_may_start_at_once_in_an_empty_database() {
    let database = Database::empty();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| drop(database.open()));
        }
    });
    assert_eq!(database.ask("SELECT count(*) FROM statewright.schema_steps"), "2");
}

#[test]
fn a_database_of_the_first_step_is_taken_to_this_one() {
    let database = Database::new();
    let table =
        "SELECT array_to_string(reloptions, ',') FROM pg_class WHERE oid = 'statewright.instances'::regclass";
    database.execute("DELETE FROM statewright.schema_steps WHERE step > 1");
    database.execute("ALTER TABLE statewright.instances SET (fillfactor = 75)");
    drop(database.open());
    assert_eq!(database.ask("SELECT max(step) FROM statewright.schema_steps"), "2");
    assert_eq!(database.ask(table), "fillfactor=45");
}

#[test]
fn a_newer_schema_is_refused() {
    let database = Database::new();
    database.execute("INSERT INTO statewright.schema_steps (step) VALUES (99)");
    match PostgresStore::open(&database.url(), Options::default()) {
        Err(OpenError::NewerSchema { found: 99, .. }) => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_server_that_is_not_there_is_an_error_and_no_panic() {
    let opened = PostgresStore::open("postgres://nobody@127.0.0.1:1/none", Options::default());
    let Err(error @ OpenError::Unreachable(_)) = opened else { panic!("{opened:?}") };
    assert!(error.to_string().contains("refused"), "{error}");
}

#[test]
fn all_connections_in_use_is_an_answer() {
    let database = Database::new();
    let url = format!("{}&connections=2", database.url());
    let options = Options { patience: Duration::from_millis(50), ..Options::default() };
    let store = PostgresStore::open(&url, options).expect("it can be opened");
    let (loads, refused) = with_client(&database.url(), async |client| {
        let lock = "BEGIN; LOCK TABLE statewright.instances IN ACCESS EXCLUSIVE MODE";
        client.batch_execute(lock).await.expect("nobody else has it");
        let load = || store.load(&tenant("t"), &id("a"));
        std::thread::scope(|scope| {
            let loading: Vec<_> = (0..2).map(|_| scope.spawn(load)).collect();
            let refused = scope.spawn(|| {
                while database.ask(WAITING) != "2" {}
                let refused = load();
                database.execute(END_LOCK);
                refused
            });
            let refused = refused.join().expect("nobody panics");
            let loads: Vec<_> = loading.into_iter().map(|load| load.join().expect("nobody panics")).collect();
            (loads, refused)
        })
    });
    assert_eq!(refused, Err(LoadError::Unavailable("all 2 connections are in use".to_owned())));
    assert_eq!(loads, [Ok(None), Ok(None)]);
}

const WAITING: &str = "SELECT count(*) FROM pg_stat_activity
     WHERE datname = current_database() AND wait_event_type = 'Lock'";

const END_LOCK: &str = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
     WHERE datname = current_database() AND state = 'idle in transaction'";

#[test]
fn what_one_server_saves_is_news_to_another() {
    let database = Database::new();
    let stores = [database.open(), database.open()];
    let long = Duration::from_secs(20);
    assert!(stores[0].wait_for_news(long), "nobody listened until now");
    assert!(!stores[0].wait_for_news(Duration::from_millis(20)));
    let started = Instant::now();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| stores[0].wait_for_news(long));
        assert_eq!(stores[1].save_definition(&definition("order", 1)), Ok(()));
        assert!(waiting.join().expect("nobody panics"));
    });
    database.terminate();
    assert!(!stores[0].wait_for_news(long), "the connection has ended");
    assert!(stores[0].wait_for_news(long), "and there is another");
    assert!(started.elapsed() < long);
}

/// A bit that is flipped where no checksum of PostgreSQL's own sees it.
#[test]
fn a_record_that_is_not_what_was_saved_is_quarantined() {
    let database = Database::new();
    let store = database.open();
    let whole = Draft::creation("whole").session("ben", 1);
    let commit = Draft::creation("a").session("ana", 1).timer(2_000).effect("hello").asks("a:1").build();
    let batch = [commit, whole.build()];
    assert_eq!(store.commit(&batch), Ok(vec![Outcome::Committed; 2]));
    for table in ["instances", "log", "outbox", "clarifications"] {
        let is_a = if table == "instances" { "id" } else { "instance" };
        database.execute(&format!(
            "UPDATE statewright.{table} SET body = replace(body, '\"', ' \"') WHERE {is_a} = 'a'"
        ));
    }
    let (t, a) = (tenant("t"), id("a"));
    for found in [
        store.load(&t, &a).map(|_| ()),
        store
            .load_session(&t, &store::contract::machine("order"), &store::contract::subject("ana"))
            .map(|_| ()),
        store.receipt(&t, &ReceiptScope::Creations, key_of(&t, "a-1")).map(|_| ()),
    ] {
        let Err(LoadError::Corrupt { detail, .. }) = found else { panic!("{found:?}") };
        assert_eq!(detail, "the checksum does not fit the record");
    }
    assert_eq!(store.commit(&batch[..1]), Ok(vec![Outcome::Stale]), "it must not be handled again");
    let listed = store.instances(&store::InstanceQuery::of(t.clone())).expect("the store answers");
    assert_eq!(listed.data.len(), 1);
    assert_eq!(history_length(&store, "a"), 0);
    assert_eq!(store.claim_due(at(2_000), at(9_000), 10), Ok(vec![]));
    assert_eq!(store.claim_effects(at(2_000), at(9_000), 10), Ok(vec![]));
    assert_eq!(store.next_effect_due(), Ok(None));
    assert_eq!(database.ask("SELECT status, unsettled FROM statewright.outbox, statewright.lanes"), "dead,0");
    let clarifications =
        store::ClarificationQuery { tenant: t, status: None, id: None, cursor: None, limit: 9 };
    assert_eq!(store.clarifications(&clarifications).map(|page| page.data), Ok(vec![]));
    assert_eq!(store.statistics().map(|figures| figures.quarantined), Ok(4));
    assert_eq!(
        database.ask("SELECT source, key FROM statewright.quarantine ORDER BY source, key LIMIT 2"),
        "clarifications,clarifications t/a:1\ninstances,instances t/a"
    );
}

#[test]
fn lines_go_into_partitions_by_their_time() {
    let database = Database::new();
    let store = database.open();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("it is after 1970");
    let now = i64::try_from(now.as_millis()).expect("it is not that late");
    let batch = [Draft::creation("old").at(1_000).build(), Draft::creation("new").at(now).build()];
    assert_eq!(store.commit(&batch), Ok(vec![Outcome::Committed; 2]));
    let week = now / (7 * 24 * 60 * 60 * 1_000);
    let rows = "SELECT c.relname, l.instance FROM statewright.log AS l JOIN pg_class AS c ON c.oid = l.tableoid ORDER BY l.at";
    let expected = format!("log_of_other_times,old\nlog_week_{week},new");
    assert_eq!(database.ask(rows), expected);
    // A partition of a time that is over and has nothing in it any more goes.
    database.execute(
        "CREATE TABLE statewright.log_week_100 PARTITION OF statewright.log FOR VALUES FROM (60480000000) TO (61084800000);
         ALTER TABLE statewright.log_week_100 ENABLE ROW LEVEL SECURITY;
         ALTER TABLE statewright.log_week_100 FORCE ROW LEVEL SECURITY",
    );
    let partitions = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'statewright.log'::regclass";
    assert_eq!(database.ask(partitions), "7");
    assert_eq!(store.clean_up(at(now), 10).map(|report| report.more), Ok(false));
    assert_eq!(database.ask(partitions), "6");
}
