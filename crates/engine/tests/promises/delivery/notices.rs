//! Who asked is told of each commit that moved something, and of nothing else.

use kernel::commit::EffectKind;
use serde_json::json;

use crate::post::Office;
use crate::world::{event, says};

/// From and to, in the order in which they were sent.
fn told(office: &Office) -> Vec<(String, String)> {
    let given = office.script.given().into_iter();
    let told = given.filter_map(|effect| match effect.effect.kind {
        EffectKind::Notice(notice) => Some((notice.from, notice.to)),
        EffectKind::Tell(_) => None,
        EffectKind::Reply(_) | EffectKind::Call { .. } => None,
    });
    told.collect()
}

/// Two moves by message, one message that only gets an answer, one refused event, and a timer.
fn a_short_life(office: &Office) {
    for (number, text) in ["update", "T1", "help"].into_iter().enumerate() {
        office.call(says("ana", &format!("k{number}"), text));
    }
    let instance = office.world.session("ana").instance;
    office.call(event(&instance, "k3", "confirm", json!({})));
    office.pass("3h");
}

#[test]
fn each_commit_that_moved_is_told_once_and_no_other() {
    let office = Office::new();
    office.script.wants_notices();
    a_short_life(&office);
    let states = ["idle", "task_selection", "awaiting_action", "abandoned"];
    let moves: Vec<_> = states.windows(2).map(|pair| (pair[0].to_owned(), pair[1].to_owned())).collect();
    assert_eq!(told(&office), moves);
    office.pass("3h");
    assert_eq!(told(&office).len(), moves.len(), "not twice");
}

#[test]
fn who_did_not_ask_is_told_nothing() {
    let office = Office::new();
    a_short_life(&office);
    assert_eq!(told(&office), []);
    let notice = office.effects().into_iter().find(|e| matches!(e.effect.kind, EffectKind::Notice(_)));
    assert_eq!(notice, None);
}
