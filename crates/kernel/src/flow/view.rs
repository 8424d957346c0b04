//! A flow as people see it, in one piece: status, progress, phases, what each waits for, and what can be done.

use std::sync::Arc;

use serde::Serialize;

use crate::flow::action::Alarm;
use crate::flow::options::{self, RecoveryOption};
use crate::flow::record::Pause;
use crate::flow::status::share_done;
use crate::flow::step::Step;
use crate::flow::{ParentCall, PhaseError, PhaseIndex, PhaseState, Run};
use crate::id::{DefinitionHash, InstanceId, MachineName, Revision};
use crate::input::Fields;
use crate::machine::Machine;
use crate::snapshot::{Closure, Snapshot, Timer};
use crate::time::Timestamp;

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FlowView {
    pub id: InstanceId,
    pub flow: MachineName,
    pub version: u32,
    pub definition: DefinitionHash,
    pub revision: Revision,
    pub status: String,
    /// From 0 to 1.
    pub progress: f64,
    pub context: Arc<Fields>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paused: Option<PauseView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub closure: Option<Closure>,
    /// The phase of another flow that this one is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<ParentCall>,
    /// Retries of all phases together.
    pub retries: u32,
    /// Phases that are under way.
    pub current: Vec<Arc<str>>,
    pub phases: Vec<PhaseView>,
    pub recovery_options: Vec<RecoveryOption>,
    /// One a phase, for those who keep a flow so.
    pub booleans: Fields,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PauseView {
    pub at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PhaseView {
    pub phase: Arc<str>,
    pub state: PhaseState,
    /// Passed over, because it does not apply.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub skipped: bool,
    /// How much of the phase is done, from 0 to 1.
    pub progress: f64,
    pub weight: f64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub needs: Vec<Arc<str>>,
    /// What of that is not completed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<Arc<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub milestone: Option<Arc<str>>,
    /// Attempts since it was last begun afresh, how many it may have, and how often it was tried again in all.
    pub attempts: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempts_max: Option<u32>,
    pub retries: u32,
    /// When it came into its state.
    pub since: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// From its beginning to its completion, or until now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub took_ms: Option<i64>,
    /// Who moved it last, and why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Who did the work, as far as anybody said.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub worked_by: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<PhaseError>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lease: Option<LeaseView>,
    /// What has to happen next, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<String>,
    /// What comes by time: `approval_expired` and when.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub due: Vec<PhaseDue>,
}

/// A worker's hold, without the token that proves it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LeaseView {
    pub worker: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PhaseDue {
    pub event: &'static str,
    pub at: Timestamp,
}

const ALARMS: [Alarm; 5] =
    [Alarm::RetryDue, Alarm::TimedOut, Alarm::LeaseExpired, Alarm::ValidationExpired, Alarm::ApprovalExpired];

impl FlowView {
    /// `None` when the instance is no flow.
    pub fn of(machine: &Machine, snapshot: &Snapshot, now: Timestamp) -> Option<Self> {
        let mut step = Step::resume(machine, snapshot, now)?;
        let standing = step.standing();
        let pause = step.state.paused.as_ref();
        let view = |Pause { at, by, reason, .. }: &Pause| PauseView {
            at: *at,
            by: by.clone(),
            reason: reason.clone(),
        };
        let named = |phase: &PhaseIndex| Arc::clone(&step.flow.phase(*phase).name);
        let under_way = |phase: &PhaseIndex| step.state.state(*phase).is_under_way();
        let booleans = step.flow.indices().map(|phase| {
            let done = step.state.state(phase) == PhaseState::Completed;
            (step.flow.phase(phase).boolean.to_string(), done.into())
        });
        Some(Self {
            id: snapshot.instance.clone(),
            flow: snapshot.machine.clone(),
            version: snapshot.version,
            definition: snapshot.definition.clone(),
            revision: snapshot.revision,
            status: standing.status.as_str().to_owned(),
            progress: standing.progress,
            context: Arc::clone(&snapshot.context),
            created_at: snapshot.created_at,
            updated_at: snapshot.updated_at,
            paused: pause.map(view),
            closure: snapshot.closure.clone(),
            parent: step.state.parent.clone(),
            retries: step.state.phases.iter().map(|record| record.retries).sum(),
            current: step.flow.indices().filter(under_way).map(|phase| named(&phase)).collect(),
            phases: step.flow.indices().map(|phase| step.view(phase)).collect(),
            booleans: booleans.collect(),
            recovery_options: options::options(&mut step),
        })
    }
}

impl Step<'_> {
    fn view(&self, phase: PhaseIndex) -> PhaseView {
        let written = self.flow.phase(phase);
        let record = self.state.record(phase);
        let details = record.details.as_deref();
        let names = |phases: &[PhaseIndex]| -> Vec<Arc<str>> {
            phases.iter().map(|phase| Arc::clone(&self.flow.phase(*phase).name)).collect()
        };
        let started_at = self.state.started_at(phase);
        let ended = matches!(record.state, PhaseState::Completed | PhaseState::Failed);
        let until = if ended { self.state.since(phase) } else { self.now };
        PhaseView {
            phase: Arc::clone(&written.name),
            state: record.state,
            skipped: record.is_skipped(),
            progress: share_done(record),
            weight: written.weight,
            needs: names(&written.needs),
            missing: self.missing(phase),
            milestone: written.milestone.as_ref().map(|milestone| Arc::clone(&milestone.status)),
            attempts: record.attempts,
            attempts_max: written.retry.map(|retry| retry.attempts),
            retries: record.retries,
            since: self.state.since(phase),
            started_at,
            took_ms: started_at.map(|started| until.since(started).as_millis()),
            by: details.and_then(|details| details.by.clone()),
            reason: details.and_then(|details| details.reason.clone()),
            worked_by: self.worked_by(phase),
            error: record.error().cloned(),
            lease: record.lease().filter(|_| !self.state.cancelled).map(|lease| LeaseView {
                worker: lease.worker.clone(),
                expires_at: self.deadline(phase, Alarm::LeaseExpired),
            }),
            waits_for: self.waits_for(phase),
            due: self.due(phase),
        }
    }

    /// Who did the work. Who has completed all of it alone is not named a second time in the record.
    fn worked_by(&self, phase: PhaseIndex) -> Vec<String> {
        let record = self.state.record(phase);
        let Some(details) = record.details.as_deref() else { return Vec::new() };
        let alone = record.state == PhaseState::Completed && details.worked_by.is_empty();
        match &details.by {
            Some(by) if alone && !self.flow.phase(phase).is_automatic() => vec![by.clone()],
            _ => details.worked_by.clone(),
        }
    }

    /// What comes by time; nothing does while the flow is paused.
    fn due(&self, phase: PhaseIndex) -> Vec<PhaseDue> {
        let name = &*self.flow.phase(phase).name;
        let due = |timer: &Timer| {
            let alarm = timer.id.strip_prefix(name)?.strip_prefix('.')?;
            let event = ALARMS.iter().map(|alarm| alarm.as_str()).find(|known| *known == alarm)?;
            Some(PhaseDue { event, at: timer.deadline })
        };
        self.timers.iter().filter_map(due).collect()
    }

    /// When a timer of a phase comes due; none does while the flow is paused.
    fn deadline(&self, phase: PhaseIndex, alarm: Alarm) -> Option<Timestamp> {
        let running = self.state.paused.is_none();
        self.timer(phase, alarm).filter(|_| running).map(|timer| timer.deadline)
    }

    /// What has to happen before the phase goes on.
    pub(crate) fn waits_for(&self, phase: PhaseIndex) -> Option<String> {
        let record = self.state.record(phase);
        let until = |alarm| match self.deadline(phase, alarm) {
            Some(deadline) => format!(", until {deadline}"),
            None => String::new(),
        };
        if self.state.cancelled || record.is_skipped() {
            return None;
        }
        Some(match record.state {
            PhaseState::Completed => return None,
            PhaseState::NotStarted | PhaseState::RolledBack | PhaseState::RetryNeeded => {
                self.beginning(phase)
            }
            PhaseState::InProgress => match (self.called(phase), record.lease()) {
                (_, Some(lease)) => format!("the worker `{}`{}", lease.worker, until(Alarm::LeaseExpired)),
                (called, None) => {
                    let work = called.unwrap_or_else(|| "its work to be done".to_owned());
                    format!("{work}{}", until(Alarm::TimedOut))
                }
            },
            PhaseState::WaitingValidation | PhaseState::WaitingApproval => {
                let (gate, alarm) = self.gate(phase)?;
                let what = match alarm {
                    Alarm::ValidationExpired => "validation",
                    _ => "approval",
                };
                let by = match &gate.by[..] {
                    [] => String::new(),
                    by => format!(" by `{}`", by.join("` or `")),
                };
                format!("{what}{by}{}", until(alarm))
            }
            PhaseState::Failed => "somebody to try it again or to take it back".to_owned(),
        })
    }

    /// What has to happen before work on a phase begins.
    fn beginning(&self, phase: PhaseIndex) -> String {
        let missing = self.missing(phase);
        if !missing.is_empty() {
            return format!("`{}`", missing.join("`, `"));
        }
        if self.state.paused.is_some() {
            return "the flow to be resumed".to_owned();
        }
        if let Some(due) = self.deadline(phase, Alarm::RetryDue) {
            return format!("its next attempt at {due}");
        }
        let written = self.flow.phase(phase);
        match &written.run {
            _ if written.when.is_some() && self.state.record(phase).applies.is_none() => {
                "its condition to be worked out".to_owned()
            }
            Run::Worker(kind) if kind.is_empty() => "a worker to take it".to_owned(),
            Run::Worker(kind) => format!("a worker for `{kind}` to take it"),
            Run::Anybody => "somebody to start it, or a worker to take it".to_owned(),
            Run::Person => "somebody to start it".to_owned(),
            Run::Http { .. } | Run::Flow { .. } | Run::WaitFor(_) => {
                "its condition to be worked out".to_owned()
            }
        }
    }
}
