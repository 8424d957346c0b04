//! The process or the store may fail at any point of a delivery: nothing is lost, and nothing is sent twice that could
//! have been known to be sent.

use std::sync::Arc;
use std::time::Duration;

use engine::delivery::{Carried, Route};
use engine::{Engine, Settings};
use store::EffectStatus::{Dead, Delivered, Pending, Sending, Unknown};
use store::{MemoryStore, SqliteStore};
use tempfile::TempDir;

use crate::failing_store::Wrapped;
use crate::post::{Office, delivered, later, provider, repeatable, unknown};
use crate::world::{World, delay};

/// Longer than any claim is left to whoever has it.
const LEASE_OVER: &str = "91s";

fn impatient() -> Settings {
    Settings { farewell_max: Duration::ZERO, ..Settings::default() }
}

/// The carrier keeps the attempt while the engine goes down and the file is opened again.
#[test]
fn what_was_being_sent_in_a_crash_is_sent_again_only_where_a_repeat_is_known_as_one() {
    for (endpoint, status, sent) in [(repeatable("shop"), Delivered, 2), (provider(), Unknown, 1)] {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("statewright.db");
        let mut office = Office::with(Arc::new(SqliteStore::open(&path).unwrap()), impatient());
        let route = endpoint.clone();
        office.script.routes(move |_| Route::To(route.clone()));
        office.script.answers_first([None]);
        office.place("ana");
        let key = office.reply("ana", "one");
        office.script.until_given(&key);
        let (clock, script) = (office.world.clock.clone(), Arc::clone(&office.script));
        office.engine.stop();
        drop(office);
        let mut world = World::over(Arc::new(SqliteStore::open(&path).unwrap()));
        world.clock = clock;
        let mut office = Office::of(world, script, Settings::default());
        office.rest();
        assert_eq!(office.status(&key), Sending, "{}: the claim is not over", endpoint.name);
        // Whatever comes of the first attempt, nobody hears it any more.
        office.script.end(delivered());
        office.pass(LEASE_OVER);
        assert_eq!((office.status(&key), office.script.count(&key)), (status, sent), "{}", endpoint.name);
        assert!(office.script.keys().iter().all(|given| *given == key), "always under the same key");
        office.restart();
        office.pass("1h");
        assert_eq!(office.script.count(&key), sent, "{}", endpoint.name);
    }
}

#[test]
fn an_attempt_that_outlives_its_claim_is_not_made_twice() {
    let office = Office::new();
    office.script.routes(|_| Route::To(provider()));
    office.script.answers_first([None]);
    office.place("ana");
    let key = office.reply("ana", "one");
    office.script.until_given(&key);
    for number in 0..3 {
        office.world.clock.advance(delay(LEASE_OVER));
        // Whoever is told of the time by something else that is sent has looked at what is due.
        let who = format!("p{number}");
        office.place(&who);
        let other = office.reply(&who, "one");
        office.until_status(&other, Delivered);
    }
    assert_eq!((office.status(&key), office.effect(&key).attempts), (Sending, 4));
    office.script.end(delivered());
    office.rest();
    assert_eq!((office.status(&key), office.script.count(&key)), (Delivered, 1));
}

#[test]
fn stopping_waits_for_what_is_under_way() {
    let mut office = Office::new();
    office.script.answers_first([None]);
    office.place("ana");
    let (first, second) = (office.reply("ana", "one"), office.reply("ana", "two"));
    office.script.until_given(&first);
    let (stopped, stops) = crossbeam_channel::bounded(1);
    std::thread::scope(|scope| {
        let engine: &mut Engine = &mut office.engine;
        scope.spawn(move || {
            engine.stop();
            stopped.send(()).unwrap();
        });
        let early = stops.recv_timeout(Duration::from_millis(100));
        assert!(early.is_err(), "it stopped while something was under way");
        office.script.end(delivered());
        stops.recv_timeout(Duration::from_secs(4)).unwrap();
    });
    assert_eq!((office.status(&first), office.status(&second)), (Delivered, Pending), "nothing new is begun");
    office.restart();
    office.rest();
    assert_eq!((office.status(&second), office.script.keys()), (Delivered, vec![first, second]));
}

#[test]
fn stopping_does_not_wait_for_ever() {
    let settings = Settings { farewell_max: Duration::from_millis(50), ..Settings::default() };
    let mut office = Office::with(Arc::new(MemoryStore::new()), settings);
    office.script.answers_first([None]);
    office.place("ana");
    let key = office.reply("ana", "one");
    office.script.until_given(&key);
    office.engine.stop();
    assert_eq!(office.status(&key), Sending);
    office.restart();
    office.pass(LEASE_OVER);
    assert_eq!((office.status(&key), office.script.count(&key)), (Delivered, 2));
}

#[test]
fn a_store_that_cannot_claim_for_a_while_loses_nothing() {
    let store = Wrapped::new(|_, batch, inner| inner.commit(batch));
    let office = Office::over(Arc::<Wrapped>::clone(&store));
    store.fail_claims(5);
    office.place("ana");
    let key = office.reply("ana", "one");
    office.rest();
    assert_eq!((office.status(&key), office.script.count(&key)), (Delivered, 1));
}

/// What is known of an attempt is kept until it can be saved. Even a claim that runs out meanwhile changes nothing.
#[test]
fn a_store_that_cannot_settle_for_a_while_neither_loses_nor_repeats_anything() {
    // How the attempts end, what comes of it in the end, and how often it is sent.
    let refused = Carried::Refused { error: "no".into(), parts_done: 0 };
    let cases =
        [(delivered(), Delivered, 1), (refused, Dead, 1), (unknown(), Unknown, 1), (later(), Delivered, 2)];
    for (carried, status, sent) in cases {
        let store = Wrapped::new(|_, batch, inner| inner.commit(batch));
        let office = Office::over(Arc::<Wrapped>::clone(&store));
        office.script.routes(|_| Route::To(provider()));
        office.script.answers_first([Some(carried.clone())]);
        store.fail_settlements(usize::MAX);
        office.place("ana");
        let key = office.reply("ana", "one");
        office.script.until_given(&key);
        store.until_settlements_failed(3);
        office.world.clock.advance(delay(LEASE_OVER));
        let claims = store.claims();
        office.engine.wake_delivery();
        store.until_claims(claims + 2);
        store.fail_settlements(0);
        office.rest();
        office.pass("2s");
        assert_eq!((office.status(&key), office.script.count(&key)), (status, sent), "{carried:?}");
    }
}

/// A carrier that loses an attempt, as by a panic in a thread of its own, must not keep its place for ever.
#[test]
fn an_attempt_that_is_dropped_without_a_word_may_have_arrived() {
    for (endpoint, status, sent) in [(repeatable("shop"), Delivered, 2), (provider(), Unknown, 1)] {
        let office = Office::new();
        let route = endpoint.clone();
        office.script.routes(move |_| Route::To(route.clone()));
        office.script.answers_first([None]);
        office.place("ana");
        let key = office.reply("ana", "one");
        office.script.until_given(&key);
        office.script.forget();
        office.pass("1s");
        assert_eq!((office.status(&key), office.script.count(&key)), (status, sent), "{}", endpoint.name);
    }
}
