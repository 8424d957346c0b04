//! The outbox and the settings of a file: what is carried over from before, damage, and whether lanes are kept.

use std::slice::from_ref;

use kernel::commit::{Effect, EffectKind};
use kernel::conversation::Reply;
use kernel::input::Fields;
use rusqlite::{Connection, params};
use serde_json::json;

use super::{Place, flip, put, quarantined};
use crate::contract::{Draft, at, id, machine, subject, tenant};
use crate::outbox::{
    ClaimedEffect, DeliveryReport, DeliveryStage, EffectQuery, EffectStatus, OutboxEffect, Settlement,
    SettlementResult,
};
use crate::{CommitError, LoadError, MemoryStore, Outcome, Setting, SqliteStore, Store};

fn all_of(store: &dyn Store, name: &str) -> Vec<OutboxEffect> {
    let query = EffectQuery { limit: 10_000, ..EffectQuery::of(tenant(name)) };
    store.effects(&query).unwrap().data
}

fn claim(store: &dyn Store, now: i64) -> Vec<ClaimedEffect> {
    store.claim_effects(at(now), at(now + 1_000), 100).unwrap()
}

fn keys(claimed: Vec<ClaimedEffect>) -> Vec<String> {
    claimed.into_iter().map(|claimed| claimed.effect.effect.key).collect()
}

fn settle(store: &dyn Store, key: &str, attempt: u32) {
    let result = SettlementResult::Delivered { provider_id: None };
    let settlement = Settlement { tenant: tenant("t"), key: key.to_owned(), attempt, result };
    assert_eq!(store.settle_effects(&[settlement], at(9_000)), Ok(vec![true]), "{key}");
}

/// A file of the first step, with one instance that a program of then has saved. Columns that no claim looks at are
/// filled with anything.
fn file_of_step_1(place: &Place) -> Connection {
    let raw = place.raw();
    raw.execute_batch(include_str!("../schema.sql")).unwrap();
    raw.pragma_update(None, "user_version", 1).unwrap();
    raw.execute_batch(
        "INSERT INTO instances (tenant, id, machine, version, definition, subject, ordinal, revision, state,
             created_at, updated_at, format, checksum, body)
         VALUES ('t', 'a', 'order', 1, 'd', 'ana', 1, 12, 'open', 1000, 1000, 1, 0, '{}'),
                ('t', 'b', 'order', 1, 'd', NULL, 0, 1, 'open', 1000, 1000, 1, 0, '{}')",
    )
    .unwrap();
    raw
}

fn insert_of_step_1(raw: &Connection, key: &str, instance: &str, ms: i64, body: &str) {
    let sql = "INSERT INTO outbox (tenant, key, instance, created_at, body) VALUES ('t', ?1, ?2, ?3, ?4)";
    raw.execute(sql, params![key, instance, ms, body]).unwrap();
}

#[test]
fn a_file_of_step_1_is_carried_over_with_its_effects() {
    let place = Place::new();
    let raw = file_of_step_1(&place);
    let deep = (0..200).fold(json!(0.1), |inner, _| json!([inner]));
    let input: Fields = [("deep \"é\"".to_owned(), deep)].into_iter().collect();
    let call = EffectKind::Call { id: "charge".into(), src: "payments.charge".into(), input };
    let kinds = [
        ("a:10:0", "a", 3_000, EffectKind::Reply(Reply::of_text("third"))),
        ("a:9:10", "a", 3_000, EffectKind::Reply(Reply::of_text("second"))),
        ("a:9:2", "a", 3_000, EffectKind::Reply(Reply::of_text("«first»\n"))),
        ("a:11:0", "a", 4_000, call),
        ("b:1:0", "b", 2_000, EffectKind::Reply(Reply::of_text("of another"))),
    ];
    for (key, instance, ms, kind) in &kinds {
        insert_of_step_1(&raw, key, instance, *ms, &serde_json::to_string(kind).unwrap());
    }
    drop(raw);

    let store = place.open();
    let mut carried = all_of(&store, "t");
    carried.reverse();
    let order: Vec<_> = carried.iter().map(|effect| &*effect.effect.key).collect();
    assert_eq!(order, ["b:1:0", "a:9:2", "a:9:10", "a:10:0", "a:11:0"]);
    for effect in &carried {
        let (key, instance, ms, kind) = kinds.iter().find(|kind| kind.0 == effect.effect.key).unwrap();
        let expected = OutboxEffect {
            seq: effect.seq,
            tenant: tenant("t"),
            instance: id(instance),
            machine: machine("order"),
            subject: (*instance == "a").then(|| subject("ana")),
            effect: Effect {
                key: (*key).to_owned(),
                to: None,
                trace_id: None,
                unsampled: false,
                locale: None,
                kind: kind.clone(),
            },
            status: EffectStatus::Pending,
            attempts: 0,
            parts_done: 0,
            created_at: at(*ms),
            due_at: Some(at(*ms)),
            error: None,
            provider_id: None,
            stage: None,
            settled_at: None,
        };
        assert_eq!(*effect, expected);
    }
    assert_eq!(store.next_effect_due(), Ok(Some(at(2_000))));
    assert_eq!(keys(claim(&store, 9_000)), ["b:1:0", "a:9:2", "a:11:0"]);
    for (key, next) in [("a:9:2", "a:9:10"), ("a:9:10", "a:10:0")] {
        settle(&store, key, 1);
        assert_eq!(keys(claim(&store, 9_000)), [next]);
    }
    assert_eq!(quarantined(&place.raw()), []);
    drop(store);
    assert_eq!(all_of(&place.open(), "t").len(), kinds.len(), "a second opening changes nothing");
}

/// Step 1 had no checksums for effects: what is not one shows when it is read.
#[test]
fn what_is_no_effect_is_carried_over_to_be_quarantined() {
    let place = Place::new();
    let raw = file_of_step_1(&place);
    let good = serde_json::to_string(&EffectKind::Reply(Reply::of_text("good"))).unwrap();
    insert_of_step_1(&raw, "a:1:0", "a", 1_000, "{\"reply\":");
    insert_of_step_1(&raw, "a:1:1", "a", 1_000, "{\"parcel\":{}}");
    insert_of_step_1(&raw, "gone:1:0", "gone", 1_000, &good);
    insert_of_step_1(&raw, "a:1:2", "a", 1_000, &good);
    let store = place.open();
    let mut claimed = Vec::new();
    for _ in 0..4 {
        claimed.extend(keys(claim(&store, 1_000)));
    }
    assert_eq!(store.next_effect_due(), Ok(Some(at(2_000))), "the end of the one claim");
    assert_eq!(claimed, ["a:1:2"]);
    assert_eq!(quarantined(&raw).len(), 3);
    assert_eq!(all_of(&store, "t").len(), 1);
}

#[test]
fn a_damaged_effect_is_quarantined_and_nobody_waits_for_it() {
    for column in ["tenant", "key", "instance", "machine", "subject", "created_at", "body", "checksum"] {
        let place = Place::new();
        let store = place.open();
        let first = Draft::creation("a").session("ana", 1).effect("first");
        let second = Draft::change(&first.snapshot()).effect("second");
        let outcomes = store.commit(&[first.build(), second.build()]);
        assert_eq!(outcomes, Ok(vec![Outcome::Committed; 2]));
        let raw = place.raw();
        flip(&raw, "outbox", column);
        assert_eq!(keys(claim(&store, 1_000)), [""; 0], "{column}");
        assert_eq!(quarantined(&raw).len(), 1, "{column}");
        assert_eq!(store.next_effect_due(), Ok(Some(at(1_000))), "{column}");
        assert_eq!(keys(claim(&store, 1_000)), ["a:2:0"], "{column}");
        assert_eq!(store.retry_effect(&tenant("t"), "a:1:0", at(1_000)), Ok(None), "{column}");
        assert_eq!(all_of(&store, "t").len(), 1, "{column}");
        assert_eq!((quarantined(&raw).len(), keys(claim(&store, 1_500)).len()), (1, 0), "{column}");
        assert_eq!(store.statistics().unwrap().effects["dead"], 1, "{column}");
    }
}

#[test]
fn progress_that_means_nothing_is_damage() {
    for (column, value) in [
        ("status", "lost".to_owned().into()),
        ("stage", "lost".to_owned().into()),
        ("attempts", rusqlite::types::Value::Integer(-1)),
        ("parts_done", rusqlite::types::Value::Integer(1 << 40)),
    ] {
        let place = Place::new();
        let store = place.open();
        let draft = Draft::creation("a").effect("first").calls("second");
        assert_eq!(store.commit(&[draft.build()]), Ok(vec![Outcome::Committed]));
        put(&place.raw(), "outbox", column, &value);
        assert_eq!(keys(claim(&store, 1_000)), ["a:1:1"], "{column}");
        assert_eq!(quarantined(&place.raw()).len(), 1, "{column}");
    }
}

#[test]
fn a_damaged_setting_is_left_out_and_mended_by_saving_it_again() {
    for column in ["tenant", "name", "saved_at", "body", "checksum"] {
        let place = Place::new();
        let store = place.open();
        let setting =
            Setting { tenant: tenant("t"), name: "s".into(), body: json!("on"), saved_at: at(1_000) };
        store.save_setting(&setting).unwrap();
        flip(&place.raw(), "settings", column);
        assert_eq!(store.settings(), Ok(vec![]), "{column}");
        assert_eq!(quarantined(&place.raw()).len(), 1, "{column}");
        store.save_setting(&setting).unwrap();
        assert_eq!(store.settings(), Ok(vec![setting]), "{column}");
    }
}

#[test]
fn a_setting_that_could_not_be_read_again_is_not_saved() {
    let place = Place::new();
    let body = (0..600).fold(json!(null), |inner, _| json!([inner]));
    let setting = Setting { tenant: tenant("t"), name: "s".into(), body, saved_at: at(1_000) };
    let saved = place.open().save_setting(&setting);
    assert!(matches!(saved, Err(CommitError::Unavailable(_))), "{saved:?}");
}

/// A backlog must not make a claim slow: what is looked for is found by an index that holds no more than that.
#[test]
fn what_deliverers_ask_is_answered_by_an_index() {
    let place = Place::new();
    drop(place.open());
    let raw = place.raw();
    for (sql, index) in [
        ("SELECT seq FROM outbox WHERE claimable_at <= ?1 ORDER BY claimable_at, seq", "outbox_by_claim"),
        ("SELECT min(claimable_at) FROM outbox WHERE claimable_at IS NOT NULL", "outbox_by_claim"),
        ("SELECT min(seq) FROM outbox WHERE lane = ?1 AND settled_at IS NULL", "outbox_by_lane"),
        ("SELECT seq FROM outbox WHERE provider_id = ?1 AND tenant = ?2", "outbox_by_provider_id"),
        ("SELECT seq FROM outbox WHERE settled_at < ?1 ORDER BY settled_at, seq", "outbox_by_settlement"),
        (
            "SELECT seq FROM outbox AS t WHERE t.seq < ?1 AND +t.tenant = ?2 ORDER BY t.seq DESC",
            "PRIMARY KEY",
        ),
        ("SELECT seq FROM outbox WHERE seq < ?1 AND tenant = ?2 AND key >= ?3 AND key < ?4", "outbox_by_key"),
        ("UPDATE outbox SET status = 'dead' WHERE tenant = ?1 AND key = ?2", "outbox_by_key"),
    ] {
        let mut select = raw.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let parameters = vec![rusqlite::types::Value::Null; select.parameter_count()];
        let plan = select.query_map(rusqlite::params_from_iter(parameters), |row| row.get::<_, String>(3));
        let plan: Vec<String> = plan.unwrap().map(Result::unwrap).collect();
        assert!(plan.len() == 1 && plan[0].contains(index), "{sql}: {plan:?}");
    }
}

/// Numbers that look like chance and are the same every time.
pub(super) struct Dice(pub u64);

impl Dice {
    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// The file knows whose turn it is; the memory store finds out anew each time. Whatever happens, they agree.
#[test]
fn the_file_and_memory_agree_whatever_happens() {
    for seed in 0..4 {
        let place = Place::new();
        let pair = (place.open(), MemoryStore::new());
        let mut dice = Dice(seed);
        let mut heads: Vec<_> = ["a", "b"].map(|name| Draft::creation(name).snapshot()).into();
        for name in ["a", "b"] {
            agree(&pair, |store| store.commit(&[Draft::creation(name).build()]));
        }
        let mut known: Vec<(String, u32)> = Vec::new();
        let mut now = 1_000;
        for _ in 0..150 {
            now += dice.below(3) as i64 * 100;
            let (key, attempt) = match known.len() as u64 {
                0 => ("a:1:0".to_owned(), 1),
                count => known[dice.below(count) as usize].clone(),
            };
            match dice.below(7) {
                0 | 1 => {
                    let which = dice.below(2) as usize;
                    let mut draft = Draft::change(&heads[which]).at(now - dice.below(500) as i64);
                    for _ in 0..dice.below(4) {
                        draft = if dice.below(4) == 0 { draft.calls("c") } else { draft.effect("e") };
                    }
                    heads[which] = draft.snapshot();
                    agree(&pair, |store| store.commit(&[draft.clone().build()]));
                }
                2 | 3 => {
                    let (until, limit) = (now + dice.below(6) as i64 * 100, dice.below(4) as usize);
                    let claimed = agree(&pair, |store| {
                        let claimed = store.claim_effects(at(now), at(until), limit)?;
                        Ok::<_, CommitError>(
                            claimed
                                .into_iter()
                                .map(|c| (anonymous(c.effect), c.interrupted))
                                .collect::<Vec<_>>(),
                        )
                    });
                    let claimed = claimed.into_iter();
                    known.extend(claimed.map(|(effect, _)| (effect.effect.key, effect.attempts)));
                }
                4 | 5 => {
                    let result = any_result(&mut dice, now);
                    let settlement = Settlement { tenant: tenant("t"), key, attempt, result };
                    agree(&pair, |store| store.settle_effects(from_ref(&settlement), at(now)));
                }
                _ => {
                    let stage = DeliveryStage::ALL[dice.below(4) as usize];
                    agree(&pair, |store| store.retry_effect(&tenant("t"), &key, at(now)));
                    let key = Some(key).filter(|_| dice.below(2) == 0);
                    let (tenant, provider_id) = (tenant("t"), "p".to_owned());
                    let report = DeliveryReport { tenant, provider_id, key, stage, error: None };
                    agree(&pair, |store| store.note_stage(&report));
                    agree(&pair, |store| store.clean_up(at(now - 3_000), 1));
                }
            }
            agree(&pair, |store| store.next_effect_due());
            agree(&pair, |store| {
                let page = store.effects(&EffectQuery { limit: 10_000, ..EffectQuery::of(tenant("t")) })?;
                Ok::<_, LoadError>(page.data.into_iter().map(anonymous).collect::<Vec<_>>())
            });
        }
    }
}

fn any_result(dice: &mut Dice, now: i64) -> SettlementResult {
    let error = format!("at {now}");
    match dice.below(4) {
        0 => SettlementResult::Dead { error, parts_done: dice.below(3) as u32 },
        1 => SettlementResult::Delivered { provider_id: (dice.below(2) == 0).then(|| "p".to_owned()) },
        _ => {
            let at = at(now + dice.below(6) as i64 * 100);
            SettlementResult::Retry { at, error, parts_done: dice.below(3) as u32 }
        }
    }
}

/// Numbers are each store's own; only their order means something.
fn anonymous(effect: OutboxEffect) -> OutboxEffect {
    OutboxEffect { seq: 0, ..effect }
}

fn agree<T: PartialEq + std::fmt::Debug, E: PartialEq + std::fmt::Debug>(
    (file, memory): &(SqliteStore, MemoryStore),
    ask: impl Fn(&dyn Store) -> Result<T, E>,
) -> T {
    let answers = (ask(file), ask(memory));
    assert_eq!(answers.0, answers.1);
    answers.0.unwrap()
}
