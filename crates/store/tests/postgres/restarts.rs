//! PostgreSQL is stopped, killed and started again while a store goes on with it. It has a server of its own.

use store::contract::{Draft, id, tenant};
use store::postgres::Options;
use store::{CommitError, LoadError, Outcome, PostgresStore, Store};
use testbed::{Postgres, Settings};

/// Nothing that was acknowledged is missing, and the store that was there before is good afterwards.
#[test]
fn a_store_survives_its_server() {
    let server = Postgres::start(&Settings::default()).expect("a server can be started");
    let store = PostgresStore::open(&server.url(), Options::default()).expect("it can be opened");
    let (mut saved, mut number) = (Vec::new(), 0);
    let mut save = |saved: &mut Vec<String>| {
        number += 1;
        let name = format!("i-{number}");
        let outcome = store.commit(&[Draft::creation(&name).build()]);
        if outcome == Ok(vec![Outcome::Committed]) {
            saved.push(name);
        }
        outcome
    };
    for kill in [false, true] {
        for _ in 0..5 {
            save(&mut saved).expect("the server is there");
        }
        if kill {
            server.kill().expect("it can be killed")
        } else {
            server.stop().expect("it can be stopped")
        }
        for _ in 0..3 {
            let outcome = save(&mut saved);
            assert!(
                matches!(outcome, Err(CommitError::Unavailable(_) | CommitError::Unknown(_))),
                "{outcome:?}"
            );
        }
        let loaded = store.load(&tenant("t"), &id("i-1"));
        assert!(matches!(loaded, Err(LoadError::Unavailable(_))), "{loaded:?}");
        server.start_again().expect("it can be started again");
        assert!(store.load(&tenant("t"), &id("i-1")).expect("the server is there again").is_some());
    }
    assert_eq!(saved.len(), 10);
    for name in saved {
        assert!(store.load(&tenant("t"), &id(&name)).expect("the server is there").is_some(), "{name}");
    }
}
