//! What providers report of effects that were sent.

use crate::contract::commits::committed;
use crate::contract::outbox::{claim, claimed_keys, delivered, found, settle, settlement};
use crate::contract::{Draft, Open, at, tenant};
use crate::outbox::{DeliveryReport, DeliveryStage, EffectStatus, OutboxEffect, SettlementResult};

pub fn stages_never_go_backwards(open: Open<'_>) {
    use DeliveryStage::{Delivered, Failed, Read, Sent};
    let orders: [(&[DeliveryStage], &[bool], DeliveryStage); 7] = [
        (&[Sent, Delivered, Read], &[true; 3], Read),
        (&[Read, Sent, Delivered, Read], &[true, false, false, false], Read),
        (&[Delivered, Delivered, Sent], &[true, false, false], Delivered),
        (&[Failed, Sent, Delivered, Read, Failed], &[true, false, false, false, false], Failed),
        (&[Sent, Failed, Delivered], &[true, true, false], Failed),
        (&[Delivered, Failed, Read], &[true, false, true], Read),
        (&[Read, Failed], &[true, false], Read),
    ];
    for (reported, news, last) in orders {
        let store = open();
        committed(&*store, Draft::creation("a").effect("e"));
        claim(&*store, 1_000, 9_000);
        settle(&*store, "a:1:0", delivered("p-1"), 1_000);
        let before = found(&*store, "t", "a:1:0");
        let note = |stage| store.note_stage(&report("t", "p-1", stage));
        let told: Result<Vec<bool>, _> = reported.iter().map(|stage| note(*stage)).collect();
        assert_eq!(told, Ok(news.to_vec()), "{reported:?}");
        let status = if last == Failed { EffectStatus::Dead } else { EffectStatus::Delivered };
        let expected = OutboxEffect { stage: Some(last), status, ..before };
        assert_eq!(found(&*store, "t", "a:1:0"), expected, "{reported:?}");
    }
}

fn report(of: &str, provider_id: &str, stage: DeliveryStage) -> DeliveryReport {
    DeliveryReport { tenant: tenant(of), provider_id: provider_id.to_owned(), key: None, stage, error: None }
}

pub fn a_report_that_names_the_key_clears_up_what_was_unknown(open: Open<'_>) {
    for (stage, status) in [
        (DeliveryStage::Sent, EffectStatus::Delivered),
        (DeliveryStage::Read, EffectStatus::Delivered),
        (DeliveryStage::Failed, EffectStatus::Dead),
    ] {
        let store = open();
        committed(&*store, Draft::creation("a").effect("e").effect("f"));
        claim(&*store, 1_000, 9_000);
        let marked = DeliveryReport { key: Some("a:1:0".to_owned()), ..report("t", "p-1", stage) };
        assert_eq!(store.note_stage(&marked), Ok(false), "its end is not known yet");
        settle(
            &*store,
            "a:1:0",
            SettlementResult::Unknown { error: "it broke".to_owned(), parts_done: 0 },
            1_000,
        );
        assert_eq!(store.note_stage(&report("t", "p-1", stage)), Ok(false), "it does not say whose it is");
        assert_eq!(store.note_stage(&DeliveryReport { tenant: tenant("u"), ..marked.clone() }), Ok(false));
        assert_eq!(store.note_stage(&marked), Ok(true));
        let cleared = found(&*store, "t", "a:1:0");
        assert_eq!((cleared.status, cleared.stage), (status, Some(stage)));
        assert_eq!(
            (cleared.provider_id.as_deref(), cleared.error.as_deref()),
            (Some("p-1"), Some("it broke"))
        );
        assert_eq!(store.note_stage(&marked), Ok(false), "no news");
        assert_eq!(claimed_keys(&*store, 1_000), ["a:1:1"]);
    }
}

pub fn a_stage_is_noted_for_the_tenant_whose_message_it_is(open: Open<'_>) {
    let store = open();
    for (name, of) in [("a", "t"), ("a", "u"), ("b", "t")] {
        committed(&*store, Draft::creation(name).tenant(of).effect("e"));
    }
    claim(&*store, 1_000, 9_000);
    let all = [("t", "a:1:0"), ("u", "a:1:0"), ("t", "b:1:0")]
        .map(|(of, key)| settlement(of, key, 1, delivered("p-1")));
    assert_eq!(store.settle_effects(&all, at(1_000)), Ok(vec![true; 3]));
    let note = |of, provider_id, error: Option<&str>| {
        let error = error.map(str::to_owned);
        store.note_stage(&DeliveryReport { error, ..report(of, provider_id, DeliveryStage::Failed) })
    };
    for (of, provider_id) in [("t", "p-2"), ("v", "p-1")] {
        assert_eq!(note(of, provider_id, None), Ok(false));
    }
    assert_eq!(note("t", "p-1", Some("no such number")), Ok(true));
    let seen = |of, key| {
        let effect = found(&*store, of, key);
        (effect.status, effect.stage, effect.error)
    };
    let failed = Some(DeliveryStage::Failed);
    let newest = (EffectStatus::Dead, failed, Some("no such number".to_owned()));
    assert_eq!(seen("t", "b:1:0"), newest);
    assert_eq!(seen("t", "a:1:0"), (EffectStatus::Delivered, None, None));
    assert_eq!(seen("u", "a:1:0"), (EffectStatus::Delivered, None, None));
}
