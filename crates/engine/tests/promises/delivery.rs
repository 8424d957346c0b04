//! What is promised of delivery: each effect reaches its endpoint in its order, once if that can be known, and what
//! cannot be delivered is said rather than lost.

mod calls;
mod crashes;
mod endpoints;
mod notices;

use engine::Settings;
use engine::delivery::{Carried, Endpoint, Route, Schedule};
use kernel::id::TenantId;
use kernel::input::Cause;
use kernel::time::Delay;
use std::sync::Arc;
use store::{EffectQuery, EffectStatus, MemoryStore};

use crate::post::{Office, delivered, later, provider, refused, repeatable, unknown};
use crate::world::{says, start, stores, tenant};

use EffectStatus::{Dead, Delivered, Pending, Sending, Unaddressed, Unknown};

/// With both stores, since the order is the store's doing.
#[test]
fn replies_to_one_person_arrive_in_order_whatever_becomes_of_the_first() {
    // How the first attempts end, the passes that the three replies take, and the first one's end.
    let cases = [
        ("arrives", vec![Some(delivered())], [0, 1, 2].as_slice(), Delivered),
        ("is refused", vec![Some(refused())], &[0, 1, 2], Dead),
        ("is tried again", vec![Some(later()), Some(later())], &[0, 0, 0, 1, 2], Delivered),
        ("may have arrived", vec![Some(unknown())], &[0, 0, 1, 2], Delivered),
    ];
    for (what, first, order, end) in cases {
        for (name, store, _directory) in stores() {
            let office = Office::over(store);
            office.place("ana");
            office.script.answers(|_| None);
            let keys = ["one", "two", "three"].map(|text| office.reply("ana", text));
            // The first is under way while the others are saved.
            office.script.until_given(&keys[0]);
            let mut first = first.clone().into_iter();
            let carried = first.next().flatten().unwrap_or_else(delivered);
            office.script.answers_first(first);
            office.script.end(carried);
            for _ in 0..4 {
                office.pass("2s");
            }
            let sent: Vec<String> = order.iter().map(|number: &usize| keys[*number].clone()).collect();
            assert_eq!(office.script.keys(), sent, "{name}: the first {what}");
            let statuses = keys.each_ref().map(|key| office.status(key));
            assert_eq!(statuses, [end, Delivered, Delivered], "{name}: the first {what}");
        }
    }
}

#[test]
fn nobody_waits_for_what_another_person_is_sent() {
    for (name, store, _directory) in stores() {
        let office = Office::over(store);
        office.place("ana");
        office.place("ben");
        office.script.answers_first([None]);
        let to_ana = office.reply("ana", "one");
        office.script.until_given(&to_ana);
        let to_ben = office.reply("ben", "one");
        office.until_status(&to_ben, Delivered);
        assert_eq!(office.status(&to_ana), Sending, "{name}");
        office.script.end(delivered());
        office.rest();
        assert_eq!(office.status(&to_ana), Delivered, "{name}");
    }
}

#[test]
fn a_failed_attempt_is_made_again_when_its_delay_is_over_and_not_before() {
    let office = Office::new();
    office.place("ana");
    office.script.answers_first([Some(later()), Some(later())]);
    let key = office.reply("ana", "one");
    office.rest();
    for attempt in 1..=2 {
        let waits = office.effect(&key);
        assert_eq!((waits.status, waits.attempts, waits.error.as_deref()), (Pending, attempt, Some("busy")));
        let ms = waits.due_at.unwrap().since(office.world.clock.now()).as_millis();
        let nominal = 1_000 << (attempt - 1);
        assert!((nominal * 8 / 10..=nominal).contains(&ms), "attempt {attempt} is followed by {ms} ms");
        office.pass_ms(ms - 1);
        assert_eq!(office.script.count(&key), attempt as usize, "too early");
        office.pass_ms(1);
        assert_eq!(office.script.count(&key), attempt as usize + 1, "due");
    }
    let sent = office.effect(&key);
    assert_eq!((sent.status, sent.attempts, sent.provider_id.as_deref()), (Delivered, 3, Some("p1")));
}

#[test]
fn the_next_attempt_is_told_which_parts_are_done() {
    let office = Office::new();
    office.place("ana");
    let parts = |error: &str, parts_done| Carried::Later { error: error.into(), after: None, parts_done };
    office.script.answers_first([Some(parts("busy", 1)), Some(parts("busy", 2))]);
    let key = office.reply("ana", "one");
    office.pass("1s");
    office.pass("2s");
    let done: Vec<u32> = office.script.given().iter().map(|effect| effect.parts_done).collect();
    assert_eq!((done, office.status(&key)), (vec![0, 1, 2], Delivered));
}

#[test]
fn parts_that_are_done_are_not_sent_again_by_hand() {
    let office = Office::new();
    office.place("ana");
    office.script.routes(|_| Route::To(provider()));
    office.script.answers_first([Some(Carried::Unknown { error: "no answer".into(), parts_done: 2 })]);
    let key = office.reply("ana", "one");
    office.rest();
    assert_eq!(office.retry(&key), Some(Unknown));
    let done: Vec<u32> = office.script.given().iter().map(|effect| effect.parts_done).collect();
    assert_eq!((done, office.status(&key)), (vec![0, 2], Delivered));
}

#[test]
fn what_cannot_be_delivered_is_dead_in_the_end_and_may_be_tried_again_by_hand() {
    for (schedule, attempts, step, steps) in
        [(Schedule::Prompt, 20, "5m", 60), (Schedule::Patient, 10, "5h", 60)]
    {
        let office = Office::new();
        office.place("ana");
        office.script.routes(move |_| Route::To(Endpoint { schedule, ..repeatable("shop") }));
        office.script.answers(|_| Some(later()));
        let key = office.reply("ana", "one");
        for _ in 0..steps {
            office.pass(step);
        }
        assert_eq!((office.status(&key), office.script.count(&key)), (Dead, attempts), "{schedule:?}");
        let listed = EffectQuery { statuses: vec![Dead], ..EffectQuery::of(tenant()) };
        let listed = office.world.store.effects(&listed).unwrap().data;
        assert!(listed.iter().any(|effect| effect.effect.key == key), "{schedule:?}");
        office.script.answers(|_| Some(delivered()));
        assert_eq!(office.retry(&key), Some(Dead));
        // The breaker may still be open.
        office.pass("5m");
        assert_eq!(
            (office.status(&key), office.script.count(&key)),
            (Delivered, attempts + 1),
            "{schedule:?}"
        );
    }
}

#[test]
fn what_may_have_arrived_is_repeated_only_where_a_repeat_is_known_as_one() {
    for (endpoint, status, sent) in [(provider(), Unknown, 1), (repeatable("shop"), Delivered, 2)] {
        let office = Office::new();
        office.place("ana");
        let route = endpoint.clone();
        office.script.routes(move |_| Route::To(route.clone()));
        office.script.answers_first([Some(unknown())]);
        let key = office.reply("ana", "one");
        for _ in 0..48 {
            office.pass("1h");
        }
        let name = &endpoint.name;
        assert_eq!((office.status(&key), office.script.count(&key)), (status, sent), "{name}");
        assert_eq!(office.error(&key), "no answer", "{name}");
    }
}

#[test]
fn an_effect_for_which_there_is_no_setting_waits_to_be_tried_by_hand() {
    let office = Office::new();
    office.place("ana");
    office.script.routes(|_| Route::Nowhere("no [[webhooks]] is set".into()));
    let key = office.reply("ana", "one");
    office.pass("1h");
    assert_eq!((office.status(&key), office.script.keys().len()), (Unaddressed, 0));
    assert_eq!(office.error(&key), "no [[webhooks]] is set");
    office.script.routes(|_| Route::To(repeatable("shop")));
    office.pass("1h");
    assert_eq!(office.script.count(&key), 0, "not by itself");
    assert_eq!(office.retry(&key), Some(Unaddressed));
    assert_eq!((office.status(&key), office.script.count(&key)), (Delivered, 1));
}

#[test]
fn what_was_only_tried_out_is_told_to_nobody() {
    let office = Office::new();
    office.script.wants_notices();
    let shadow: TenantId = tenant().shadow();
    let mut input = says("ana", "k1", "update");
    input.tenant = shadow.clone();
    if let Cause::Message { message, .. } = &mut input.cause {
        message.deliver = true;
    }
    office.call(input);
    office.rest();
    let effects = office.world.store.effects(&EffectQuery::of(shadow)).unwrap().data;
    assert!(!effects.is_empty());
    for effect in effects {
        assert_eq!((effect.status, effect.attempts), (EffectStatus::Cancelled, 1), "{effect:?}");
    }
    assert_eq!(office.script.keys(), [""; 0]);
}

/// More than there is room for at one time, so that it takes several turns.
#[test]
fn a_recovery_on_a_virtual_clock_ends_when_all_that_is_due_has_been_tried() {
    let settings = Settings { deliveries_max: 3, ..Settings::default() };
    let office = Office::with(Arc::new(MemoryStore::new()), settings);
    let people: Vec<String> = (0..40).map(|number| format!("p{number}")).collect();
    office.script.answers(|_| Some(later()));
    for who in &people {
        // Each at an endpoint of its own: no breaker keeps one back.
        office.place(who);
        office.script.routes(|effect| Route::To(repeatable(effect.instance.as_str())));
        office.reply(who, "one");
    }
    office.rest();
    assert_eq!(office.script.keys().len(), 40);
    office.script.answers(|_| Some(delivered()));
    office.pass("1s");
    assert_eq!(office.script.keys().len(), 80);
    assert!(office.effects().iter().all(|effect| effect.status == Delivered));
    assert_eq!(office.world.clock.now(), start().plus(Delay::from_secs(1)));
}
