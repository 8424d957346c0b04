//! What goes wrong, and what is done about it: errors and their recipes, retries, rollbacks, alarms.

use std::sync::Arc;

use crate::flow::action::Alarm;
use crate::flow::step::{Declined, Step, Taken};
use crate::flow::{PhaseError, PhaseIndex, PhaseState, RETRYABLE, Recipe, Retry};
use crate::input::Fields;
use crate::refusal::RefusalCode;
use crate::time::Delay;

/// For a phase that is to be retried and does not say how.
pub(crate) const RETRY: Retry =
    Retry { attempts: 3, backoff: Delay::from_secs(10), factor: 2.0, max: Delay::from_secs(3_600) };
/// Rollbacks in a row that a recipe may lead to before somebody has to look.
const RECOVERIES_MAX: u32 = 3;
/// Workers in a row that may vanish with a phase before it is taken for what makes them vanish.
const LOST_LEASES_MAX: u32 = 10;

const TIMED_OUT: &str = "AGENT_TIMEOUT";

impl Step<'_> {
    /// A phase has gone wrong: what the definition says of the error is done.
    pub(super) fn fail(&mut self, phase: PhaseIndex, error: PhaseError) {
        let said = self.flow.recipe(phase, &error.code);
        let passes = RETRYABLE.contains(&error.code.as_str());
        let recipe = said.unwrap_or(if passes { Recipe::Retry } else { Recipe::Fail });
        // Who says `retry` of an error need not say how.
        let retry = self.phase(phase).retry.or(said.is_some().then_some(RETRY));
        self.details(phase).error = Some(error);
        let attempts = self.state.record(phase).attempts;
        let in_progress = self.state.state(phase) == PhaseState::InProgress;
        match (recipe, retry) {
            (Recipe::Retry, Some(retry)) if in_progress && attempts < retry.attempts => {
                self.go(phase, PhaseState::RetryNeeded);
                self.set_timer(phase, Alarm::RetryDue, retry.pause_after(attempts));
            }
            (Recipe::Rollback(from), _) => {
                self.go(phase, PhaseState::Failed);
                let recoveries = self.details(phase).recoveries;
                let leads_here =
                    self.state.state(from) == PhaseState::Completed && self.behind(from).contains(&phase);
                if leads_here && recoveries < RECOVERIES_MAX {
                    self.details(phase).recoveries = recoveries + 1;
                    self.roll_back(from);
                }
            }
            _ => self.go(phase, PhaseState::Failed),
        }
    }

    /// Whether somebody may have the phase tried again: as often as the definition says.
    pub(super) fn check_retry(&self, phase: PhaseIndex) -> Taken {
        let written = self.phase(phase);
        let attempts = self.state.record(phase).attempts;
        match written.retry {
            Some(retry) if attempts >= retry.attempts => {
                let message = format!(
                    "`{}` was tried {attempts} times, which is all that it may be; roll it back to begin afresh",
                    written.name
                );
                Err(Declined::new(RefusalCode::RetryLimit, message))
            }
            _ => Ok(()),
        }
    }

    /// Somebody wants it tried again: at once, since they have looked. What relied on it has to be done again too.
    pub(super) fn retry(&mut self, phase: PhaseIndex) {
        let was_complete = self.state.state(phase) == PhaseState::Completed;
        self.go(phase, PhaseState::RetryNeeded);
        if was_complete {
            self.touched.extend(&self.phase(phase).dependents);
            self.reopen_behind(phase);
        }
        self.look_at(phase);
    }

    /// What the phase had come to counts no more, and what was built on it neither.
    pub(super) fn roll_back(&mut self, phase: PhaseIndex) {
        self.reopen(phase);
        self.reopen_behind(phase);
        self.look_at(phase);
    }

    /// All that depends on a phase, however far off, in the order of the definition.
    pub(crate) fn behind(&self, phase: PhaseIndex) -> Vec<PhaseIndex> {
        let mut found = vec![false; self.flow.phases.len()];
        let mut todo = vec![phase];
        while let Some(next) = todo.pop() {
            for dependent in &self.flow.phase(next).dependents {
                if !std::mem::replace(&mut found[usize::from(dependent.0)], true) {
                    todo.push(*dependent);
                }
            }
        }
        self.flow.indices().filter(|phase| found[usize::from(phase.0)]).collect()
    }

    fn reopen_behind(&mut self, phase: PhaseIndex) {
        for dependent in self.behind(phase) {
            // Whether it applies is asked anew.
            if self.state.record(dependent).applies.is_some() {
                self.state.record_mut(dependent).applies = None;
                self.touched.push(dependent);
                self.touched.extend(&self.phase(dependent).dependents);
            }
            self.reopen(dependent);
        }
    }

    /// Takes a phase back, by steps that the matrix has.
    fn reopen(&mut self, phase: PhaseIndex) {
        match self.state.state(phase) {
            PhaseState::NotStarted | PhaseState::RolledBack => return,
            PhaseState::Completed | PhaseState::Failed => {}
            PhaseState::InProgress
            | PhaseState::WaitingValidation
            | PhaseState::WaitingApproval
            | PhaseState::RetryNeeded => self.go(phase, PhaseState::Failed),
        }
        self.go(phase, PhaseState::RolledBack);
        self.touched.extend(&self.phase(phase).dependents);
        let record = self.state.record_mut(phase);
        (record.attempts, record.started) = (0, None);
        if let Some(details) = record.details.as_mut().map(Arc::make_mut) {
            (details.progress, details.lost_leases, details.error) = (0.0, 0, None);
            details.worked_by.clear();
        }
    }

    /// A timer of a phase has come due.
    pub fn ring(&mut self, phase: PhaseIndex, alarm: Alarm) {
        let written = self.phase(phase);
        let now = self.now;
        let error = |code: &str, message: String| PhaseError::new(code, message, now, Fields::new());
        match alarm {
            Alarm::RetryDue => {
                self.touched.push(phase);
                self.look_at(phase);
            }
            Alarm::TimedOut => {
                let limit = written.timeout.unwrap_or(Delay::ZERO);
                let error = error(TIMED_OUT, format!("it was not done within {limit}"));
                self.fail(phase, error);
            }
            Alarm::ValidationExpired => {
                let error = error("VALIDATION_EXPIRED", "nobody validated it in time".into());
                self.fail(phase, error);
            }
            Alarm::ApprovalExpired => {
                let error = error("APPROVAL_EXPIRED", "nobody approved it in time".into());
                self.fail(phase, error);
            }
            Alarm::LeaseExpired => {
                let worker = self.state.record(phase).lease().map(|lease| lease.worker.clone());
                let worker = worker.unwrap_or_default();
                let error = error(TIMED_OUT, format!("the worker `{worker}` was not heard of again"));
                self.lose_lease(phase, error);
            }
        }
    }

    /// A worker has vanished: the phase is there for the next one at once, and the attempt does not count.
    fn lose_lease(&mut self, phase: PhaseIndex, error: PhaseError) {
        let lost = self.details(phase).lost_leases + 1;
        self.details(phase).lost_leases = lost;
        if lost >= LOST_LEASES_MAX {
            return self.fail(phase, error);
        }
        self.details(phase).error = Some(error);
        self.go(phase, PhaseState::RetryNeeded);
        let record = self.state.record_mut(phase);
        record.attempts = record.attempts.saturating_sub(1);
    }
}

impl Retry {
    /// How long to wait after so many attempts: longer each time.
    pub fn pause_after(&self, attempts: u32) -> Delay {
        let power = self.factor.powi(attempts.saturating_sub(1).min(64) as i32);
        let pause = self.backoff.as_millis() as f64 * power;
        Delay::from_millis(pause.min(self.max.as_millis() as f64) as i64)
    }
}
