//! Flows that are worked on, badly: what somebody does next to which of them, and what must hold of all of them.
//!
//! Each `works` has a phase for workers, one that calls outside, one that is a flow of its own (`annex`), and one that
//! waits for somebody to agree. Most of what is tried is refused, as it should be.

use std::collections::BTreeMap;
use std::sync::Arc;

use kernel::commit::{Answer, Entry, EventAnswer, PhaseRow};
use kernel::decide::decide;
use kernel::flow::{Flow, FlowState, PhaseRecord, PhaseState};
use kernel::id::{InputKey, InstanceId, MachineName, TenantId};
use kernel::input::{Cause, Fields, Input, Start};
use kernel::machine::Machine;
use kernel::snapshot::Snapshot;
use kernel::time::Timestamp;
use serde_json::json;

use crate::random::Random;

pub(crate) const DEFINITIONS: [&str; 2] = [include_str!("works.yaml"), include_str!("annex.yaml")];
const WORKS: usize = 3;
const ACTIONS: [&str; 14] = [
    "claim",
    "claim",
    "start",
    "heartbeat",
    "progress",
    "complete",
    "complete",
    "complete",
    "validate",
    "approve",
    "reject",
    "fail",
    "retry",
    "rollback",
];
const CODES: [&str; 3] = ["AGENT_TIMEOUT", "DATA_VALIDATION_FAILED", "PHASE_EXECUTION_FAILED"];

/// What was done, and what it was answered, as it went over the wire.
pub(crate) struct Works {
    done: Vec<(Input, String)>,
    leases: Vec<String>,
    pub inputs: usize,
}

impl Works {
    pub fn new() -> Self {
        Self { done: Vec::new(), leases: Vec::new(), inputs: 0 }
    }

    /// The next thing that somebody does; `open` are the flows that are there.
    pub fn next(&mut self, random: &mut Random, open: &[Snapshot]) -> Result<Input, String> {
        if random.one_in(6)
            && let Some((input, _)) = self.done.get(random.below(self.done.len()))
        {
            return Ok(input.clone());
        }
        self.inputs += 1;
        let id = InstanceId::parse(&format!("works-{}", random.below(WORKS)))?;
        if open.iter().all(|flow| flow.instance != id) {
            let (context, flow) = (Fields::new(), Start::default());
            let machine = MachineName::parse("works")?;
            return self.input(Cause::Create { machine, id: Some(id), subject: None, context, start: flow });
        }
        let flow = random.choose(open);
        let (event, payload) = match random.below(40) {
            // Children are paused with their parents, and by nobody else.
            0..=3 if flow.machine.as_str() == "works" => {
                ((*random.choose(&["pause", "resume", "resume"])).to_owned(), Fields::new())
            }
            4 if random.one_in(3) => ("cancel".to_owned(), Fields::new()),
            _ => self.action(random, flow),
        };
        self.input(Cause::Event { instance: flow.instance.clone(), event, payload })
    }

    /// Something that fits how a phase stands, or anything at all.
    fn action(&mut self, random: &mut Random, flow: &Snapshot) -> (String, Fields) {
        let phases: &[&str] = match flow.machine.as_str() {
            "annex" => &["wall", "roof"],
            _ => &["dig", "look", "build", "agree"],
        };
        let records: Vec<&PhaseRecord> = flow.flow.iter().flat_map(|state| state.phases.iter()).collect();
        let open = records.iter().position(|record| !record.is_done());
        let place = open.filter(|_| !random.one_in(4)).unwrap_or_else(|| random.below(phases.len()));
        let phase = phases[place.min(phases.len() - 1)];
        let state = records.get(place).map(|record| record.state).unwrap_or_default();
        let action = match random.one_in(4) {
            true => *random.choose(&ACTIONS),
            false => *random.choose(fitting(state)),
        };
        let lease = match random.below(4) {
            0 => None,
            1 => self.leases.get(random.below(self.leases.len())).cloned(),
            _ => self.leases.last().cloned(),
        };
        let held = |name: &str, value: serde_json::Value| json!({ "lease": lease, name: value });
        let payload = match action {
            "claim" => {
                let lease = format!("l{}", self.leases.len());
                self.leases.push(lease.clone());
                json!({ "worker": "w", "lease": lease })
            }
            "heartbeat" | "progress" => held("progress", json!(random.below(11) as f64 / 10.0)),
            "complete" => held("output", json!({})),
            "fail" => held("error", json!({ "code": random.choose(&CODES) })),
            _ => json!({}),
        };
        (format!("{phase}.{action}"), payload.as_object().cloned().unwrap_or_default())
    }

    fn input(&self, cause: Cause) -> Result<Input, String> {
        let (tenant, key) = (TenantId::default_tenant(), InputKey::parse(&format!("w{}", self.inputs))?);
        Ok(Input { tenant, key, cause, expected: None, by: Some("lead".to_owned()), trace: None })
    }

    /// What an input was answered; a repeat must get the same bytes. A refusal that leaves no trace may not be repeated.
    pub fn note(&mut self, input: Input, answer: &Answer) -> Result<(), String> {
        if matches!(answer, Answer::Refused(refusal) if !refusal.code.is_recorded()) {
            return Ok(());
        }
        let answer = serde_json::to_string(answer).map_err(|error| error.to_string())?;
        match self.done.iter().find(|(other, _)| other.key == input.key) {
            Some((_, first)) if *first != answer => {
                Err(format!("the repeat of {} got another answer:\n{first}\n{answer}", input.key))
            }
            Some(_) => Ok(()),
            None => {
                self.done.push((input, answer));
                Ok(())
            }
        }
    }

    /// Whatever was answered is in the log once.
    pub fn check_answered(&self, logs: &BTreeMap<InstanceId, Vec<Entry>>) -> Result<(), String> {
        for (input, _) in &self.done {
            let receipt = input.receipt_id();
            let count = logs.values().flatten().filter(|entry| entry.receipt == receipt).count();
            if count != 1 {
                return Err(format!("{} is in the logs {count} times", input.key));
            }
        }
        Ok(())
    }
}

/// What people and workers do to a phase that stands so.
fn fitting(state: PhaseState) -> &'static [&'static str] {
    match state {
        PhaseState::NotStarted | PhaseState::RetryNeeded | PhaseState::RolledBack => {
            &["claim", "claim", "start"]
        }
        PhaseState::InProgress => &["complete", "complete", "complete", "fail", "heartbeat"],
        PhaseState::WaitingValidation => &["validate", "validate", "reject"],
        PhaseState::WaitingApproval => &["approve", "reject"],
        PhaseState::Failed => &["retry", "rollback"],
        PhaseState::Completed => &["rollback"],
    }
}

/// What holds for every flow at every time.
pub(crate) fn check_flow(
    machine: &Machine,
    flow: &Snapshot,
    entries: &[Entry],
    lines: &[PhaseRow],
    now: Timestamp,
) -> Result<(), String> {
    let name = &flow.instance;
    let (Some(phases), Some(state)) = (&machine.flow, &flow.flow) else {
        return Err(format!("{name} is no flow"));
    };
    let mut walked = vec![PhaseState::NotStarted; phases.phases.len()];
    let (mut revision, mut progress, mut status) = (0, 0.0, String::new());
    for entry in entries {
        let Answer::Event(EventAnswer { flow: Some(answer), .. }) = &entry.answer else {
            if entry.revision.0 != revision || entry.from != status || entry.to != status {
                return Err(format!("a refused input changed {name} at revision {revision}"));
            }
            continue;
        };
        let goes_on = entry.from == status || revision == 0;
        if entry.revision.0 != revision + 1 || !goes_on || answer.progress_before != progress {
            return Err(format!("the log of {name} jumps at revision {revision} to {}", entry.revision));
        }
        if !(0.0..=1.0).contains(&answer.progress) || (answer.progress == 1.0) != (entry.to == "completed") {
            let share = answer.progress;
            // What was complete may have been cancelled or paused, and nothing else.
            return Err(format!("{name} is {} with {share} of it done", entry.to));
        }
        for moved in &answer.moved {
            let place = phases.by_name(&moved.phase).ok_or_else(|| format!("no phase {}", moved.phase))?;
            let at = &mut walked[usize::from(place.0)];
            if *at != moved.from || !moved.from.may_become(moved.to) || moved.lasted_ms < 0 {
                return Err(format!(
                    "{name}: {} was {at} and went from {} to {}",
                    moved.phase, moved.from, moved.to
                ));
            }
            *at = moved.to;
        }
        (revision, progress, status) = (entry.revision.0, answer.progress, entry.to.clone());
    }
    let stands: Vec<PhaseState> = state.phases.iter().map(|record| record.state).collect();
    if (revision, &status, &walked) != (flow.revision.0, &flow.state(), &stands) {
        return Err(format!("{name} is {stands:?} at {}, its log ends with {walked:?}", flow.revision));
    }
    check_lines(machine, phases, flow, state, lines, now)
}

/// Lists and workers are told what the flow itself says.
fn check_lines(
    machine: &Machine,
    phases: &Flow,
    flow: &Snapshot,
    state: &FlowState,
    lines: &[PhaseRow],
    now: Timestamp,
) -> Result<(), String> {
    let name = &flow.instance;
    if lines.len() != phases.phases.len() {
        return Err(format!("{name} has {} lines", lines.len()));
    }
    for (place, line) in phases.indices().zip(lines) {
        let record = state.record(place);
        let lease = record.lease().filter(|_| !state.cancelled);
        let troubled = matches!(record.state, PhaseState::Failed | PhaseState::RetryNeeded);
        let expected = PhaseRow {
            phase: Arc::clone(&phases.phase(place).name),
            place: place.0,
            state: record.state,
            since: state.since(place),
            attempts: record.attempts,
            retries: record.retries,
            error: record.error().filter(|_| troubled).map(|error| error.code.clone()),
            offered_at: line.offered_at,
            kind: phases.phase(place).kind_of_worker().into(),
            lease: lease.map(|lease| lease.token.clone()),
            worker: lease.map(|lease| lease.worker.clone()),
        };
        if *line != expected {
            return Err(format!("the line of {name} is {line:?}, not {expected:?}"));
        }
        let offered = line.offered_at.is_some_and(|from| from <= now);
        let payload = json!({ "worker": "checker", "lease": "checker" });
        let cause = Cause::Event {
            instance: name.clone(),
            event: format!("{}.claim", line.phase),
            payload: payload.as_object().cloned().unwrap_or_default(),
        };
        let (tenant, key) = (flow.tenant.clone(), InputKey::parse("checker")?);
        let claim = Input { tenant, key, cause, expected: None, by: None, trace: None };
        let taken = decide(machine, Some(flow), &claim, now);
        if offered != taken.is_ok() {
            let phase = &line.phase;
            return Err(format!("{phase} of {name} is offered: {offered}, but a claim came to {taken:?}"));
        }
    }
    Ok(())
}

/// Nobody waits for a flow that is over or was never begun, and no flow goes on for nobody.
pub(crate) fn check_families(
    flows: &[Snapshot],
    logs: &BTreeMap<InstanceId, Vec<Entry>>,
) -> Result<(), String> {
    for parent in flows.iter().filter(|flow| flow.machine.as_str() == "works") {
        for call in parent.invocations.iter().filter(|call| call.src.starts_with("flow:")) {
            let of_call = |child: &&Snapshot| parent_call(child).is_some_and(|known| known.call == call.key);
            let children: Vec<&Snapshot> = flows.iter().filter(of_call).collect();
            let [child] = children[..] else {
                return Err(format!("the call {} has begun {} flows", call.key, children.len()));
            };
            let paused = |flow: &Snapshot| flow.flow.as_ref().is_some_and(|state| state.paused.is_some());
            if child.is_closed() || child.state() == "failed" || paused(child) != paused(parent) {
                let (mine, theirs) = (parent.state(), child.state());
                return Err(format!("{} waits, {mine}, for {}, {theirs}", parent.instance, child.instance));
            }
        }
    }
    for child in flows.iter().filter(|flow| flow.machine.as_str() == "annex" && !flow.is_closed()) {
        let Some(call) = parent_call(child) else { continue };
        let waits = flows.iter().flat_map(|flow| &flow.invocations).any(|waiting| waiting.key == call.call);
        let ended = |entry: &Entry| matches!(entry.to.as_str(), "failed" | "completed");
        // One that was over once has told so; who has opened it again looks after it.
        if !waits && !logs.get(&child.instance).is_some_and(|log| log.iter().any(ended)) {
            return Err(format!("{} goes on, {}, and nobody waits for it", child.instance, child.state()));
        }
    }
    Ok(())
}

fn parent_call(child: &Snapshot) -> Option<&kernel::flow::ParentCall> {
    child.flow.as_ref()?.parent.as_ref()
}
