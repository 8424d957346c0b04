//! Which state of a phase follows which: every pair, and every action in every state.

use std::collections::BTreeMap;

use kernel::flow::{Action, FlowState, PhaseState};
use kernel::input::{Fields, Start};
use serde_json::json;

use crate::player::{Player, answer, machine};

/// From, and the states that may follow.
const MATRIX: [(&str, &str); 8] = [
    ("not_started", "in_progress"),
    ("in_progress", "waiting_validation waiting_approval completed failed retry_needed"),
    ("waiting_validation", "in_progress waiting_approval completed failed"),
    ("waiting_approval", "in_progress completed failed"),
    ("completed", "retry_needed rolled_back"),
    ("failed", "retry_needed rolled_back"),
    ("retry_needed", "in_progress failed"),
    ("rolled_back", "in_progress"),
];

#[test]
fn every_pair_of_states_is_as_the_matrix_says() {
    let mut pairs = 0;
    for (from, next) in MATRIX {
        let from = PhaseState::parse(from).unwrap();
        for to in PhaseState::ALL {
            let expected = next.split(' ').any(|name| name == to.as_str());
            assert_eq!(from.may_become(to), expected, "{from} to {to}");
            pairs += 1;
        }
    }
    assert_eq!(pairs, 64);
}

/// What an action leads to from each state that takes it, for a phase that is validated and approved, that may be retried,
/// and that no worker has.
const ACTIONS: [(&str, &str); 12] = [
    ("start", "not_started>in_progress retry_needed>in_progress rolled_back>in_progress"),
    ("claim", "not_started>in_progress retry_needed>in_progress rolled_back>in_progress"),
    ("heartbeat", ""),
    ("progress", "in_progress>in_progress"),
    ("submit", "in_progress>waiting_validation"),
    ("validate", "waiting_validation>waiting_approval"),
    ("approve", "waiting_approval>completed"),
    ("reject", "waiting_validation>in_progress waiting_approval>in_progress"),
    ("complete", "in_progress>waiting_validation"),
    ("fail", "in_progress>failed waiting_validation>failed waiting_approval>failed retry_needed>failed"),
    ("retry", "in_progress>retry_needed completed>retry_needed failed>retry_needed"),
    ("rollback", "completed>rolled_back failed>rolled_back"),
];

#[test]
fn every_action_in_every_state_leads_where_the_table_says() {
    let machine = machine("{ flow: f, phases: { a: { validation: true, approval: true }, b: {} } }");
    let mut tried = 0;
    for (action, leads) in ACTIONS {
        let leads: BTreeMap<&str, &str> =
            leads.split_whitespace().map(|step| step.split_once('>').unwrap()).collect();
        assert!(Action::parse(action).is_some(), "{action}");
        for from in PhaseState::ALL {
            let mut player = Player::new(&machine, false);
            player.create(Fields::new(), Start::default()).unwrap();
            let snapshot = player.snapshot.as_mut().unwrap();
            let mut state = FlowState::clone(snapshot.flow.as_ref().unwrap());
            state.phases[0].state = from;
            snapshot.flow = Some(state.into());
            let payload = match action {
                "claim" => json!({ "worker": "w", "lease": "t" }),
                _ => json!({}),
            };
            let payload = payload.as_object().unwrap().clone();
            let taken = player.event(&format!("a.{action}"), payload, Some("ann"));
            let came = taken.as_ref().ok().map(|commit| {
                let last = answer(commit).moved.last().map(|moved| moved.to);
                last.unwrap_or(from).as_str()
            });
            assert_eq!(came, leads.get(from.as_str()).copied(), "{action} in {from}: {taken:?}");
            if let Err(refusal) = taken {
                assert_eq!(refusal.code.as_str(), "invalid_transition", "{action} in {from}");
                let standing = refusal.phase.unwrap();
                assert_eq!((standing.state, standing.valid_transitions.as_slice()), (from, from.next()));
                let offered = standing.valid_actions.iter().map(String::as_str);
                let known = ACTIONS.iter().filter(|(_, leads)| {
                    leads.split_whitespace().any(|step| step.split_once('>').unwrap().0 == from.as_str())
                });
                assert_eq!(offered.collect::<Vec<_>>(), known.map(|(action, _)| *action).collect::<Vec<_>>());
            }
            tried += 1;
        }
    }
    assert_eq!(tried, Action::ALL.len() * PhaseState::ALL.len());
}
