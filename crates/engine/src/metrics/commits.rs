//! What one commit adds to the figures. There is one call for each, on the shard's thread, so that it has to be quick.

use kernel::commit::{Answer, Commit, EntryCause, EventAnswer};
use kernel::conversation::Rule;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;

use super::by_machine::ByMachine;
use super::inputs::InputMetrics;
use super::phases::PhaseMetrics;
use super::{MachineLabels, Registering};

/// Machines with their rules or statuses, of which there are few; machines are what somebody has to bound.
const SERIES_MAX: usize = 2_000;
/// Reasons come from definitions, and with what is imported.
const REASONS_MAX: usize = 200;
/// From what is as good as at once to what a server has missed that was down.
const LATENESS: [f64; 9] = [0.01, 0.1, 1.0, 5.0, 30.0, 60.0, 600.0, 3_600.0, 86_400.0];

pub(super) struct CommitMetrics {
    pub inputs: InputMetrics,
    pub phases: PhaseMetrics,
    routed: ByMachine,
    asked: ByMachine,
    closings: ByMachine,
    closings_without_reason: Family<MachineLabels, Counter>,
    loops: Family<MachineLabels, Counter>,
    dead_ends: Family<MachineLabels, Counter>,
    lateness: Histogram,
}

impl CommitMetrics {
    pub fn new(r: &mut Registering) -> Self {
        Self {
            inputs: InputMetrics::new(r),
            routed: ByMachine::new(r, "statewright_messages_routed", "rule", SERIES_MAX),
            lateness: r.add("statewright_timer_lateness", Histogram::new(LATENESS)),
            closings: ByMachine::new(r, "statewright_closings", "reason", REASONS_MAX),
            closings_without_reason: r.add("statewright_closings_without_reason", Family::default()),
            loops: r.add("statewright_loops", Family::default()),
            dead_ends: r.add("statewright_dead_ends", Family::default()),
            asked: ByMachine::new(r, "statewright_clarification_changes", "status", SERIES_MAX),
            phases: PhaseMetrics::new(r),
        }
    }

    /// `machine` is the one that it was decided by, `kind` that of its input.
    pub fn count(&self, machine: &str, kind: &'static str, commit: &Commit) {
        let Commit { after, entry, clarifications, .. } = commit;
        self.inputs.count(machine, kind, outcome_of(&entry.answer));
        match &entry.answer {
            Answer::Message(answer) => self.routed.count(machine, name_of(answer.why.rule)),
            Answer::Event(EventAnswer { flow: Some(flow), .. }) => self.phases.count(machine, flow),
            Answer::Event(_) | Answer::Refused(_) => {}
        }
        if let Some(EntryCause::Timer { deadline, .. }) = &entry.cause {
            self.lateness.observe(entry.at.since(*deadline).as_millis().max(0) as f64 / 1_000.0);
        }
        for clarification in clarifications {
            self.asked.count(machine, clarification.status.as_str());
        }
        let Some(after) = after else { return };
        let of_machine = || MachineLabels { machine: machine.to_owned() };
        match &after.closure {
            Some(closure) if closure.reason.is_empty() => {
                self.closings_without_reason.get_or_create(&of_machine()).inc();
            }
            Some(closure) => self.closings.count(machine, &closure.reason),
            None => {}
        }
        if entry.looping.is_some() && after.looping.is_some() {
            self.loops.get_or_create(&of_machine()).inc();
        }
        if after.dead_end {
            self.dead_ends.get_or_create(&of_machine()).inc();
        }
    }
}

/// A message's outcome, `taken`, or the code of a refusal.
fn outcome_of(answer: &Answer) -> &'static str {
    match answer {
        Answer::Message(answer) => answer.outcome.as_str(),
        Answer::Event(_) => "taken",
        Answer::Refused(refusal) => refusal.code.as_str(),
    }
}

fn name_of(rule: Rule) -> &'static str {
    match rule {
        Rule::R0 => "R0",
        Rule::R1 => "R1",
        Rule::R2 => "R2",
        Rule::R3 => "R3",
        Rule::R4 => "R4",
        Rule::R5 => "R5",
        Rule::R6 => "R6",
        Rule::R7 => "R7",
        Rule::R8 => "R8",
        Rule::R9 => "R9",
        Rule::R10 => "R10",
        Rule::R11 => "R11",
        Rule::R12 => "R12",
        Rule::R13 => "R13",
    }
}
