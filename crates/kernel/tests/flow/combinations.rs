//! Every combination of states of four phases, 4,096 in all, against rules that are written down a second time here.

use kernel::flow::{FlowState, FlowView, PhaseState};
use kernel::input::{Fields, Start};

use crate::player::{Player, machine};

const FLOW: &str = "
flow: f
phases:
  a: { weight: 1, milestone: gathering, validation: true, approval: true }
  b: { weight: 2, needs: [a], milestone: { status: mapped, when: completed }, validation: true, approval: true }
  c: { weight: 3, needs: [a], validation: true, approval: true }
  d: { weight: 4, needs: [b, c], milestone: planning, validation: true, approval: true }
";
const NAMES: [&str; 4] = ["a", "b", "c", "d"];
const NEEDS: [&[usize]; 4] = [&[], &[0], &[0], &[1, 2]];

/// Tenths of a phase that are done.
fn tenths(state: &str) -> u32 {
    match state {
        "in_progress" => 3,
        "waiting_validation" => 7,
        "waiting_approval" => 8,
        "completed" => 10,
        "retry_needed" => 1,
        _ => 0,
    }
}

fn may_begin(states: [&str; 4], phase: usize) -> bool {
    NEEDS[phase].iter().all(|need| states[*need] == "completed")
}

fn status(states: [&str; 4]) -> &'static str {
    let has = |wanted: &str| states.contains(&wanted);
    let begins = (0..4)
        .any(|phase| ["not_started", "rolled_back"].contains(&states[phase]) && may_begin(states, phase));
    let retries = (0..4).any(|phase| states[phase] == "retry_needed" && may_begin(states, phase));
    let works = has("in_progress") || has("waiting_validation") || has("waiting_approval");
    if states == ["completed"; 4] {
        "completed"
    } else if has("failed") && !works && !begins && !retries {
        "failed"
    } else if has("failed") {
        "error_recovery"
    } else if has("retry_needed") {
        "retry_pending"
    } else if has("waiting_approval") {
        "waiting_approval"
    } else if has("rolled_back") {
        "error_recovery"
    } else if states[3] != "not_started" {
        "planning"
    } else if states[1] == "completed" {
        "mapped"
    } else if states[0] != "not_started" {
        "gathering"
    } else if states == ["not_started"; 4] {
        "initialized"
    } else {
        "active"
    }
}

fn options(states: [&str; 4]) -> Vec<String> {
    let mut options = Vec::new();
    for phase in 0..4 {
        let begin = if may_begin(states, phase) { "start" } else { "" };
        let offered = match states[phase] {
            "not_started" | "rolled_back" => begin.to_owned(),
            "in_progress" => "submit complete fail retry".to_owned(),
            "waiting_validation" => "validate reject fail".to_owned(),
            "waiting_approval" => "approve reject fail".to_owned(),
            "completed" | "failed" => "retry rollback".to_owned(),
            _ => format!("{begin} fail"),
        };
        options.extend(offered.split_whitespace().map(|action| format!("{action} {}", NAMES[phase])));
    }
    if states != ["completed"; 4] {
        options.extend(["pause".to_owned(), "cancel".to_owned()]);
    }
    options
}

#[test]
fn status_progress_and_options_follow_from_the_phases_in_every_combination() {
    let machine = machine(FLOW);
    let mut player = Player::new(&machine, false);
    player.create(Fields::new(), Start::default()).unwrap();
    let mut seen = std::collections::BTreeSet::new();
    let mut count = 0;
    for number in 0..8_usize.pow(4) {
        let states: [PhaseState; 4] =
            std::array::from_fn(|phase| PhaseState::ALL[number / 8_usize.pow(phase as u32) % 8]);
        let mut snapshot = player.snapshot.clone().unwrap();
        let mut state = FlowState::clone(snapshot.flow.as_ref().unwrap());
        for (phase, wanted) in states.into_iter().enumerate() {
            state.phases[phase].state = wanted;
        }
        snapshot.flow = Some(state.into());
        let view = FlowView::of(&machine, &snapshot, player.now).unwrap();
        let states = states.map(PhaseState::as_str);
        assert_eq!(view.status, status(states), "{states:?}");
        let done: u32 = states.iter().zip(1..).map(|(state, weight)| tenths(state) * weight).sum();
        assert!((view.progress - f64::from(done) / 100.0).abs() < 1e-12, "{states:?}: {}", view.progress);
        let offered = view.recovery_options.iter().map(|option| match &option.phase {
            Some(phase) => format!("{} {phase}", option.action),
            None => option.action.to_owned(),
        });
        assert_eq!(offered.collect::<Vec<_>>(), options(states), "{states:?}");
        seen.insert(view.status);
        count += 1;
    }
    assert_eq!(count, 4_096);
    let all = "active completed error_recovery failed gathering initialized mapped planning retry_pending waiting_approval";
    assert_eq!(seen.into_iter().collect::<Vec<_>>().join(" "), all);
}
