//! What holds for any flow, whatever is done to it.

use std::fmt::Write;

use kernel::commit::PhaseRow;
use kernel::flow::{Action, FlowStatus, FlowView, PhaseState};
use kernel::input::{Cause, Fields, Start};
use kernel::machine::Machine;
use proptest::prelude::*;
use serde_json::json;

use crate::player::{Player, answer, machine};

/// A flow whose phases need some of those before them.
fn flows() -> impl Strategy<Value = String> {
    let phase = (any::<u8>(), 1..9_u8, any::<u8>());
    prop::collection::vec(phase, 1..7).prop_map(|phases| {
        let mut source = "flow: f\ncontext: { n: { type: integer, default: 0 } }\nphases:\n".to_owned();
        for (at, (needs, weight, policy)) in phases.iter().enumerate() {
            let needs: Vec<String> =
                (0..at).filter(|n| needs >> n & 1 == 1).map(|n| format!("p{n}")).collect();
            write!(source, "  p{at}: {{ needs: [{}], weight: {weight}", needs.join(", ")).unwrap();
            let policies = [
                ", validation: true",
                ", approval: { expires_after: 5m }",
                ", retry: { attempts: 2, backoff: 10s }",
                ", timeout: 2m",
                ", when: context.n < 2",
                ", run: { http: call }",
                ", milestone: far",
            ];
            for (bit, text) in policies.iter().enumerate() {
                if policy >> bit & 1 == 1 {
                    source.push_str(text);
                }
            }
            source.push_str(" }\n");
        }
        source
    })
}

#[derive(Clone, Copy, Debug)]
enum Happening {
    Act(u8, u8),
    Pass(u16),
    Answer(bool),
    Whole(u8),
}

fn happenings() -> impl Strategy<Value = Vec<Happening>> {
    let one = prop_oneof![
        12 => (0..7_u8, 0..12_u8).prop_map(|(phase, action)| Happening::Act(phase, action)),
        2 => (1..400_u16).prop_map(Happening::Pass),
        2 => any::<bool>().prop_map(Happening::Answer),
        1 => (0..8_u8).prop_map(Happening::Whole),
    ];
    prop::collection::vec(one, 1..60)
}

fn cause_of(player: &Player<'_>, happening: Happening) -> Option<Cause> {
    let snapshot = player.snapshot.as_ref().unwrap();
    let instance = snapshot.instance.clone();
    match happening {
        Happening::Act(phase, action) => {
            let action = Action::ALL[usize::from(action)];
            let payload = match action {
                Action::Claim => json!({ "worker": "w", "lease": "t" }),
                Action::Heartbeat => json!({ "lease": "t", "progress": 0.6 }),
                Action::Complete => json!({ "output": { "n": phase } }),
                Action::Fail => json!({ "error": { "code": "AGENT_TIMEOUT" } }),
                _ => json!({}),
            };
            let payload = payload.as_object().cloned().unwrap();
            Some(Cause::Event { instance, event: format!("p{phase}.{}", action.as_str()), payload })
        }
        Happening::Pass(_) => {
            let due = snapshot.due_timer(player.now, |_| true)?;
            Some(Cause::Timer { instance, timer: due.id.to_string(), deadline: due.deadline })
        }
        Happening::Answer(good) => {
            let call = snapshot.invocations.first()?.key.clone();
            let outcome = match good {
                true => kernel::input::CallOutcome::Done(Fields::new()),
                false => kernel::input::CallOutcome::Failed(Fields::new()),
            };
            Some(Cause::Result { instance, call, outcome })
        }
        Happening::Whole(number) => {
            let event = ["pause", "resume", "resume", "pause", "resume", "resume", "resume", "cancel"];
            let event = event[usize::from(number)].to_owned();
            Some(Cause::Event { instance, event, payload: Fields::new() })
        }
    }
}

/// Whether a commit may have led backwards.
fn leads_back(moved: &[kernel::commit::PhaseMove]) -> bool {
    moved.iter().any(|moved| {
        matches!(moved.to, PhaseState::Failed | PhaseState::RetryNeeded | PhaseState::RolledBack)
            || (moved.from != PhaseState::NotStarted && moved.to == PhaseState::InProgress)
    })
}

fn run(machine: &Machine, happenings: &[Happening]) -> Result<(), TestCaseError> {
    let mut player = Player::new(machine, true);
    let created = player.create(Fields::new(), Start::default()).unwrap();
    let mut rows: Vec<PhaseRow> = created.phases;
    prop_assert_eq!(rows.len(), machine.flow.as_ref().unwrap().phases.len());
    for happening in happenings {
        if let Happening::Pass(seconds) = happening {
            player.now = player.now.plus(kernel::time::Delay::from_secs(i64::from(*seconds)));
        }
        let Some(cause) = cause_of(&player, *happening) else { continue };
        let before = player.snapshot.clone().unwrap();
        let flow = machine.flow.as_ref().unwrap();
        let was = FlowStatus::of(flow, before.flow.as_ref().unwrap());
        let Ok(commit) = player.give(cause.clone(), Some("ann")) else {
            prop_assert_eq!(player.snapshot.as_ref(), Some(&before));
            continue;
        };
        let (after, told) = (commit.after.as_ref().unwrap(), answer(&commit));
        prop_assert_eq!(commit.entry.input(after).map(|input| input.cause), Some(cause));
        let is = FlowStatus::of(flow, after.flow.as_ref().unwrap());
        prop_assert!(was.may_become(&is), "{was:?} to {is:?}");
        prop_assert_eq!(after.state(), is.as_str());
        prop_assert!((0.0..=1.0).contains(&told.progress));
        prop_assert_eq!(
            is == FlowStatus::Completed,
            told.progress == 1.0
                && !after.flow.as_ref().unwrap().cancelled
                && after.flow.as_ref().unwrap().paused.is_none()
        );
        prop_assert!(leads_back(&told.moved) || told.progress >= told.progress_before - 1e-12);
        for moved in &told.moved {
            prop_assert!(moved.from.may_become(moved.to), "{moved:?}");
        }
        // Whoever has only seen what changed knows how every phase stands.
        for row in commit.phases {
            let place = usize::from(row.place);
            rows[place] = row;
        }
        let view = FlowView::of(machine, after, player.now).unwrap();
        for (row, phase) in rows.iter().zip(&view.phases) {
            prop_assert_eq!(
                (row.state, row.since, row.attempts, row.retries),
                (phase.state, phase.since, phase.attempts, phase.retries)
            );
        }
        let again = kernel::flow::rows(flow, after);
        prop_assert_eq!(&rows, &again);
        if !is.is_over() {
            prop_assert!(!view.recovery_options.is_empty());
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn a_flow_keeps_its_promises(source in flows(), happenings in happenings()) {
        run(&machine(&source), &happenings)?;
    }
}
