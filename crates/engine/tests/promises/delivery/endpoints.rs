//! What fails or asks to be left alone is left alone, and what is for it waits in the store.

use std::time::Duration;

use engine::delivery::{Carried, Endpoint, Route};
use engine::{Clock, Settings};
use kernel::time::Delay;
use store::EffectStatus::{Dead, Delivered, Pending, Unaddressed};

use crate::post::{Office, Script, delivered, later, refused, repeatable};
use crate::world::{World, delay, start};

/// One reply each for so many people, all of one endpoint unless the test says otherwise.
fn replies(office: &Office, people: usize) -> Vec<String> {
    let keys = (0..people).map(|number| {
        let who = format!("p{number}");
        office.place(&who);
        office.reply(&who, "one")
    });
    keys.collect()
}

/// An office whose shop has failed five times, and the five replies that it has failed for.
fn with_an_open_breaker() -> (Office, Vec<String>) {
    let office = Office::new();
    office.script.answers(|_| Some(later()));
    let failed = replies(&office, 5);
    office.rest();
    assert_eq!(office.script.keys().len(), 5);
    (office, failed)
}

#[test]
fn after_five_failures_the_endpoint_is_left_alone_and_others_wait_without_an_attempt() {
    let (office, failed) = with_an_open_breaker();
    office.place("ana");
    let key = office.reply("ana", "one");
    office.pass("29s");
    assert_eq!(office.script.keys().len(), 5, "nothing is sent while it is open");
    let waits = office.effect(&key);
    let opens = start().plus(delay("30s"));
    assert_eq!((waits.status, waits.attempts, waits.due_at), (Pending, 0, Some(opens)));
    assert!(failed.iter().all(|key| office.effect(key).attempts == 1), "a wait is no attempt");
    // An endpoint that works is not concerned.
    office.script.routes(|effect| {
        Route::To(repeatable(if effect.instance.as_str() == "ben-session" { "office" } else { "shop" }))
    });
    office.script.answers(|_| Some(delivered()));
    office.place("ben");
    let elsewhere = office.reply("ben", "one");
    office.rest();
    assert_eq!(office.status(&elsewhere), Delivered);
}

#[test]
fn after_half_a_minute_one_is_sent_alone_and_if_it_arrives_the_others_follow() {
    let (office, _) = with_an_open_breaker();
    office.script.answers(|_| None);
    office.pass("29s");
    office.world.clock.advance(delay("1s"));
    office.engine.wake_delivery();
    office.script.end(delivered());
    office.rest();
    assert_eq!(office.script.keys().len(), 6, "one, while the others wait for how it ends");
    office.script.answers(|_| Some(delivered()));
    office.pass("5s");
    assert_eq!(office.script.keys().len(), 10, "nobody waits long for what works again");
    assert!(office.effects().iter().all(|effect| effect.status == Delivered));
}

#[test]
fn a_probe_that_fails_is_followed_by_another_a_minute_later() {
    let (office, _) = with_an_open_breaker();
    office.pass("30s");
    assert_eq!(office.script.keys().len(), 6);
    office.pass("59s");
    assert_eq!(office.script.keys().len(), 6);
    office.pass("1s");
    assert_eq!(office.script.keys().len(), 7);
}

/// It says no, and so it is there.
#[test]
fn refusals_do_not_count_as_failures_of_the_endpoint() {
    let office = Office::new();
    office.script.answers(|_| Some(refused()));
    let keys = replies(&office, 12);
    office.rest();
    assert!(keys.iter().all(|key| office.status(key) == Dead));
    assert_eq!(office.script.keys().len(), 12);
}

#[test]
fn an_endpoint_that_asks_to_be_left_alone_for_a_while_is() {
    let office = Office::new();
    let asks = |seconds| Carried::Later {
        error: "too many".into(),
        after: Some(Delay::from_secs(seconds)),
        parts_done: 0,
    };
    office.script.answers(|_| None);
    let first = replies(&office, 2);
    first.iter().for_each(|key| office.script.until_given(key));
    office.script.end(asks(60));
    // Who has asked for longer is not overruled by what it says to somebody else.
    office.script.end(asks(10));
    office.script.answers(|_| Some(delivered()));
    office.rest();
    office.place("ana");
    let key = office.reply("ana", "one");
    office.pass("59s");
    assert_eq!(office.script.keys().len(), 2);
    assert_eq!(office.effect(&key).attempts, 0);
    office.pass("1s");
    assert_eq!(office.script.keys().len(), 5);
    assert_eq!(office.status(&key), Delivered);
}

#[test]
fn a_rate_spreads_what_is_due_at_once() {
    let office = Office::new();
    office.script.routes(|_| Route::To(Endpoint { rate: Some(2.0), ..repeatable("shop") }));
    let keys = replies(&office, 6);
    let mut sent = Vec::new();
    for _ in 0..5 {
        office.rest();
        sent.push(office.script.keys().len());
        office.pass_ms(500);
    }
    assert_eq!(sent, [2, 3, 4, 5, 6]);
    assert!(keys.iter().all(|key| office.effect(key).attempts == 1), "a wait is no attempt");
}

#[test]
fn what_waits_for_a_breaker_takes_nothing_of_the_rate() {
    let office = Office::new();
    office.script.routes(|_| Route::To(Endpoint { rate: Some(5.0), ..repeatable("shop") }));
    office.script.answers(|_| Some(later()));
    replies(&office, 5);
    office.pass("29s");
    office.place("ana");
    let key = office.reply("ana", "one");
    office.rest();
    office.place("ben");
    let other = office.reply("ben", "one");
    office.rest();
    let opens = Some(start().plus(delay("30s")));
    assert_eq!([key, other].map(|key| office.effect(&key).due_at), [opens, opens]);
    let due: Vec<_> = office.effects().into_iter().map(|effect| effect.due_at).collect();
    assert_eq!(due, [opens; 7], "nothing is looked at before it can be sent");
}

#[test]
fn an_endpoint_that_is_gone_is_sent_nothing_more() {
    let office = Office::new();
    office.script.answers_first([Some(Carried::Gone { error: "HTTP 410".into() })]);
    let first = replies(&office, 1).remove(0);
    office.rest();
    assert_eq!((office.status(&first), office.error(&first)), (Dead, "HTTP 410".into()));
    office.place("ana");
    let key = office.reply("ana", "one");
    office.rest();
    assert_eq!((office.status(&key), office.script.keys().len()), (Unaddressed, 1));
    assert_eq!(office.error(&key), "shop takes nothing more: HTTP 410");
}

#[test]
fn an_endpoint_that_answers_slowly_leaves_room_for_the_others() {
    let mut world = World::new();
    world.clock = Clock::System;
    let office = Office::of(
        world,
        Script::new(),
        Settings { deliveries_max: 4, farewell_max: Duration::ZERO, ..Settings::default() },
    );
    office.script.routes(|effect| {
        let is_slow = effect.subject.as_ref().is_some_and(|subject| subject.as_str() != "ben");
        Route::To(repeatable(if is_slow { "slow" } else { "shop" }))
    });
    office.script.answers(|effect| (effect.subject.as_ref()?.as_str() == "ben").then(delivered));
    let slow = ["p0", "p1", "p2", "p3", "p4"].map(|who| office.reply(who, "update"));
    let ben = office.reply("ben", "update");
    office.until_status(&ben, Delivered);
    let sent = slow.iter().filter(|key| office.script.count(key) == 1).count();
    assert_eq!(sent, 2, "half of four");
    let waits = slow.iter().find(|key| office.script.count(key) == 0).unwrap();
    office.until_status(waits, Pending);
    assert_eq!(office.effect(waits).attempts, 0);
}
