//! A phase as lists and workers find it: what stores keep a line of, so that nobody has to open every flow.

use std::sync::Arc;

use crate::commit::PhaseRow;
use crate::flow::action::Alarm;
use crate::flow::status::is_ready;
use crate::flow::{Flow, FlowState, PhaseIndex, PhaseState};
use crate::snapshot::{Snapshot, Timer};

/// The line of one phase.
pub(crate) fn row(flow: &Flow, state: &FlowState, timers: &[Timer], phase: PhaseIndex) -> PhaseRow {
    let written = flow.phase(phase);
    let record = state.record(phase);
    let sent_back = record.details.as_ref().is_some_and(|details| details.sent_back);
    let open = state.paused.is_none() && !state.cancelled;
    let startable = || record.state.is_startable() && is_ready(flow, state, phase);
    // One of which nobody can say whether it applies would only be refused.
    let applies = written.when.is_none() || record.applies == Some(true);
    let offered = open && applies && written.is_for_workers() && (sent_back || startable());
    let since = state.since(phase);
    let from = match record.state {
        PhaseState::RetryNeeded => {
            Alarm::RetryDue.timer_of(timers, &written.name).map(|timer| timer.deadline)
        }
        _ => None,
    };
    let troubled = matches!(record.state, PhaseState::Failed | PhaseState::RetryNeeded);
    let lease = record.lease().filter(|_| !state.cancelled);
    PhaseRow {
        phase: Arc::clone(&written.name),
        place: phase.0,
        state: record.state,
        since,
        attempts: record.attempts,
        retries: record.retries,
        error: record.error().filter(|_| troubled).map(|error| error.code.clone()),
        offered_at: offered.then(|| from.unwrap_or(since)),
        kind: written.kind_of_worker().into(),
        lease: lease.map(|lease| lease.token.clone()),
        worker: lease.map(|lease| lease.worker.clone()),
    }
}

/// The lines of all phases of a flow; none of an instance that has other phases.
pub fn rows(flow: &Flow, snapshot: &Snapshot) -> Vec<PhaseRow> {
    let state = snapshot.flow.as_ref().filter(|state| state.phases.len() == flow.phases.len());
    let one = |state: &Arc<FlowState>, phase| row(flow, state, &snapshot.timers, phase);
    state.iter().flat_map(|state| flow.indices().map(|phase| one(state, phase))).collect()
}
