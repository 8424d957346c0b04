//! What somebody does to a phase: whether it may be done (`check`), and doing it (`act`).
//!
//! `check` is what recovery options and refusals are made of; `act` is `check` and then the deed.

use std::sync::Arc;

use crate::bound;
use crate::commit::LeaseGiven;
use crate::flow::action::Alarm;
use crate::flow::step::{Declined, Step, Taken};
use crate::flow::{Action, ActionInput, Lease, PhaseError, PhaseIndex, PhaseState};
use crate::input::Fields;
use crate::refusal::RefusalCode;
use crate::time::Delay;

/// A lease shorter than this would be lost to the network; a longer one would keep others waiting for a worker that is
/// gone.
pub(crate) const LEASE_RANGE: (Delay, Delay) = (Delay::from_millis(100), Delay::from_secs(86_400));
/// The code of an error that somebody reports without one.
const PLAIN_FAILURE: &str = "PHASE_EXECUTION_FAILED";
/// Those who worked on one attempt at a phase, as far as they are told apart.
pub(super) const WORKED_BY_MAX: usize = 32;

impl Step<'_> {
    /// # Errors
    /// Why it cannot be done; then the step must be thrown away.
    pub fn act(&mut self, phase: PhaseIndex, action: Action, input: &ActionInput) -> Taken {
        self.check(phase, action, input, false)?;
        match action {
            Action::Start => self.start(phase),
            Action::Claim => return self.claim(phase, input),
            Action::Heartbeat | Action::Progress => self.report(phase, input)?,
            Action::Submit | Action::Complete => return self.hand_in(phase, input.output.as_ref(), true),
            Action::Validate => self.pass_validation(phase),
            Action::Approve => self.complete(phase),
            Action::Reject => self.send_back(phase),
            Action::Fail => {
                let error = self.error_of(input);
                self.fail(phase, error);
            }
            Action::Retry => self.retry(phase),
            Action::Rollback => self.roll_back(phase),
        }
        Ok(())
    }

    /// Whether an action would be taken. In general, it is asked whether anybody could do it, whoever that may be.
    pub fn check(
        &mut self,
        phase: PhaseIndex,
        action: Action,
        input: &ActionInput,
        in_general: bool,
    ) -> Taken {
        use PhaseState::{Completed, Failed, InProgress, RetryNeeded, WaitingApproval, WaitingValidation};
        let state = self.state.state(phase);
        if self.state.cancelled {
            return Err(Declined::new(
                RefusalCode::InstanceClosed,
                "the flow was cancelled; it stays as it is",
            ));
        }
        let possible = match action {
            Action::Start => state.is_startable(),
            Action::Claim => state.is_startable() || (state == InProgress && self.is_sent_back(phase)),
            Action::Heartbeat => state == InProgress && self.state.record(phase).lease().is_some(),
            Action::Progress | Action::Complete => state == InProgress,
            Action::Submit => {
                let written = self.phase(phase);
                state == InProgress && (written.validation.is_some() || written.approval.is_some())
            }
            Action::Validate => state == WaitingValidation,
            Action::Approve => state == WaitingApproval,
            Action::Reject => matches!(state, WaitingValidation | WaitingApproval),
            Action::Fail => matches!(state, InProgress | WaitingValidation | WaitingApproval | RetryNeeded),
            Action::Retry => matches!(state, Failed | Completed | InProgress),
            Action::Rollback => matches!(state, Completed | Failed),
        };
        // Whoever holds a lease that is lost is told so, rather than what the phase is doing meanwhile.
        if !in_general && input.lease.is_some() && action != Action::Claim {
            self.check_lease(phase, input)?;
        }
        if !possible {
            return Err(self.impossible(phase, action));
        }
        match action {
            Action::Start => self.check_start(phase),
            Action::Claim => self.check_claim(phase, input, in_general),
            Action::Heartbeat | Action::Progress | Action::Submit | Action::Complete if !in_general => {
                self.check_holder(phase, input)
            }
            Action::Reject if self.state.paused.is_some() && self.phase(phase).is_automatic() => {
                let name = &self.phase(phase).name;
                let message = format!("the flow is paused, so `{name}` cannot begin again; resume it first");
                Err(Declined::new(RefusalCode::FlowPaused, message))
            }
            Action::Validate | Action::Approve | Action::Reject => self.check_gate(phase, action, in_general),
            Action::Retry => self.check_retry(phase),
            _ => Ok(()),
        }
    }

    fn impossible(&mut self, phase: PhaseIndex, action: Action) -> Declined {
        let name = &self.phase(phase).name;
        let state = self.state.state(phase);
        let skipped = self.state.record(phase).is_skipped();
        let help = match (action, state) {
            _ if skipped => "; it does not apply to this flow",
            (Action::Submit, PhaseState::InProgress) => "; nobody has to say yes to it: complete it",
            (Action::Heartbeat, PhaseState::InProgress) => "; no worker has it",
            (Action::Complete, PhaseState::WaitingValidation) => "; it has to be validated",
            (Action::Complete, PhaseState::WaitingApproval) => "; it has to be approved",
            _ => "",
        };
        let message = format!("cannot {} `{name}` while it is {state}{help}", action.as_str());
        Declined::new(RefusalCode::InvalidTransition, message)
    }

    /// Whether work may begin.
    fn check_start(&mut self, phase: PhaseIndex) -> Taken {
        let name = &self.phase(phase).name;
        if self.state.paused.is_some() {
            let message = format!("the flow is paused, so `{name}` cannot begin; resume it first");
            return Err(Declined::new(RefusalCode::FlowPaused, message));
        }
        let missing = self.missing(phase);
        if !missing.is_empty() {
            let missing = missing.join("`, `");
            let message = format!("`{name}` needs `{missing}` to be completed first");
            return Err(Declined::new(RefusalCode::NeedsMissing, message));
        }
        let when = self.phase(phase).when.as_ref().map(|when| Arc::clone(&when.source)).unwrap_or_default();
        match self.applies(phase) {
            Ok(true) => Ok(()),
            Ok(false) => {
                let message = format!("`{name}` does not apply to this flow: `{when}` is false");
                Err(Declined::new(RefusalCode::NotApplicable, message))
            }
            Err(problem) => {
                let message = format!("whether `{name}` applies cannot be worked out: `{when}`: {problem}");
                Err(Declined::new(RefusalCode::ExpressionFailed, message))
            }
        }
    }

    fn is_sent_back(&self, phase: PhaseIndex) -> bool {
        self.state.record(phase).details.as_ref().is_some_and(|details| details.sent_back)
    }

    fn check_claim(&mut self, phase: PhaseIndex, input: &ActionInput, in_general: bool) -> Taken {
        let written = self.phase(phase);
        let name = &written.name;
        if !written.is_for_workers() {
            let message = format!("`{name}` is not for workers to take");
            return Err(Declined::new(RefusalCode::InvalidTransition, message));
        }
        self.check_start(phase)?;
        if let Some(timer) = self.timer(phase, Alarm::RetryDue).filter(|timer| timer.deadline > self.now) {
            let message = format!("`{name}` is to be tried again at {}, not before", timer.deadline);
            return Err(Declined::new(RefusalCode::InvalidTransition, message));
        }
        if in_general {
            return Ok(());
        }
        let lasts = input.lasts.unwrap_or(written.lease);
        check_lasts(lasts)?;
        if input.worker.is_none() || input.lease.is_none() {
            let message = "`claim` needs a `worker` and a `lease`; POST /v1/work/claim gives one";
            return Err(Declined::new(RefusalCode::MalformedRequest, message));
        }
        Ok(())
    }

    /// The sender says that it holds a lease: it must be the one that holds.
    fn check_lease(&self, phase: PhaseIndex, input: &ActionInput) -> Taken {
        let held = self.state.record(phase).lease();
        let valid = held.is_some_and(|held| Some(&held.token) == input.lease.as_ref());
        let late = self
            .timer(phase, Alarm::LeaseExpired)
            .is_none_or(|timer| self.state.paused.is_none() && timer.deadline <= self.now);
        if valid && !late {
            return Ok(());
        }
        let name = &self.phase(phase).name;
        let message = match held {
            Some(held) if !valid => {
                format!("the lease on `{name}` is lost: `{}` has the phase now", held.worker)
            }
            _ => format!("the lease on `{name}` is lost: it has run out, or the phase has moved on"),
        };
        Err(Declined::new(RefusalCode::LeaseLost, message))
    }

    /// What a worker has taken is the worker's to report on; whether its lease holds has been asked already.
    fn check_holder(&self, phase: PhaseIndex, input: &ActionInput) -> Taken {
        let Some(held) = self.state.record(phase).lease().filter(|_| input.lease.is_none()) else {
            return Ok(());
        };
        let name = &self.phase(phase).name;
        let message =
            format!("`{}` has the phase `{name}`; send its `lease`, or fail the phase", held.worker);
        Err(Declined::new(RefusalCode::LeaseLost, message))
    }

    /// Work begins.
    pub(super) fn start(&mut self, phase: PhaseIndex) {
        let again = self.state.state(phase) == PhaseState::RetryNeeded;
        self.go(phase, PhaseState::InProgress);
        let (elapsed, by) = (self.elapsed(), self.by.clone());
        let record = self.state.record_mut(phase);
        record.attempts += 1;
        record.retries += u32::from(again);
        record.started = Some(elapsed);
        if record.details.is_some() || by.is_some() {
            let details = record.details_mut();
            details.progress = 0.0;
            details.worked_by = by.into_iter().collect();
        }
        if let Some(last) = self.moved.last_mut() {
            last.attempt = self.state.record(phase).attempts;
        }
        if let Some(timeout) = self.phase(phase).timeout {
            self.set_timer(phase, Alarm::TimedOut, timeout);
        }
        if self.phase(phase).is_automatic() {
            self.run(phase);
        }
    }

    fn claim(&mut self, phase: PhaseIndex, input: &ActionInput) -> Taken {
        let (Some(worker), Some(token)) = (input.worker.clone(), input.lease.clone()) else { return Ok(()) };
        self.by.get_or_insert_with(|| worker.clone());
        if self.state.state(phase) != PhaseState::InProgress {
            self.start(phase);
        }
        let lasts = input.lasts.unwrap_or(self.phase(phase).lease);
        self.note_worker(phase, &worker);
        let details = self.details(phase);
        details.sent_back = false;
        details.lease = Some(Lease { token, worker, lasts });
        self.prolong(phase, lasts);
        Ok(())
    }

    /// The lease counts from now.
    fn prolong(&mut self, phase: PhaseIndex, lasts: Delay) {
        let expires_at = self.set_timer(phase, Alarm::LeaseExpired, lasts);
        let record = self.state.record(phase);
        self.lease = record.lease().map(|lease| LeaseGiven {
            phase: Arc::clone(&self.phase(phase).name),
            lease: lease.token.clone(),
            expires_at,
            attempt: record.attempts,
        });
    }

    /// A sign of life. What has been reported is not taken back.
    fn report(&mut self, phase: PhaseIndex, input: &ActionInput) -> Taken {
        if let Some(progress) = input.progress {
            let details = self.details(phase);
            details.progress = details.progress.max(progress);
        }
        if let Some(lease) = self.state.record(phase).lease().cloned() {
            let lasts = input.lasts.unwrap_or(lease.lasts);
            check_lasts(lasts)?;
            let details = self.details(phase);
            details.lost_leases = 0;
            details.lease = Some(Lease { lasts, ..lease });
            self.prolong(phase, lasts);
        }
        Ok(())
    }

    fn note_worker(&mut self, phase: PhaseIndex, who: &str) {
        let worked_by = &mut self.details(phase).worked_by;
        if worked_by.len() < WORKED_BY_MAX && !worked_by.iter().any(|known| known == who) {
            worked_by.push(who.to_owned());
        }
    }

    /// The work is done: what came of it is kept, and whoever has to say yes is asked.
    pub(super) fn hand_in(&mut self, phase: PhaseIndex, output: Option<&Fields>, strict: bool) -> Taken {
        if let Some(output) = output {
            self.keep_output(phase, output, strict)?;
        }
        if let Some(by) = self.by.clone() {
            self.note_worker(phase, &by);
        }
        let written = self.phase(phase);
        if written.validation.is_some() {
            self.ask_validation(phase);
        } else if written.approval.is_some() {
            self.ask_approval(phase);
        } else {
            self.complete(phase);
        }
        Ok(())
    }

    /// Puts what came of the work into the context. Somebody's own words must fit; of what something else has answered,
    /// fields that the context does not have are left.
    fn keep_output(&mut self, phase: PhaseIndex, output: &Fields, strict: bool) -> Taken {
        let written = self.phase(phase);
        let mut context = Fields::clone(&self.context);
        let wrong = |problem: String| Declined::new(RefusalCode::MalformedRequest, problem);
        for (name, value) in written.output.iter().flatten() {
            let value = self.compute(value, output).map_err(|problem| {
                let message = format!("`output.{name}` of `{}`: {problem}", written.name);
                Declined::new(RefusalCode::ExpressionFailed, message)
            })?;
            context.insert(name.to_string(), value);
        }
        if written.output.is_none() {
            for (name, value) in output {
                if self.machine.field(name).is_some() {
                    context.insert(name.clone(), value.clone());
                } else if strict {
                    let known = self.machine.fields.iter().map(|field| field.name.value.as_str());
                    let help = crate::diagnostic::nearest(name, known);
                    return Err(wrong(format!("output.{name} is no field of the context; {help}")));
                }
            }
        }
        for field in &self.machine.fields {
            let value = context.get(&field.name.value).unwrap_or(&serde_json::Value::Null);
            let problem = |problem| wrong(format!("output.{} {problem}", field.name.value));
            field.accepts(value).map_err(problem)?;
        }
        bound::check(&context).map_err(|problem| wrong(format!("the context {problem}")))?;
        self.context = Arc::new(context);
        Ok(())
    }

    pub(super) fn complete(&mut self, phase: PhaseIndex) {
        self.go(phase, PhaseState::Completed);
        if self.state.record(phase).details.is_some() {
            let by_somebody = !self.phase(phase).is_automatic();
            let details = self.details(phase);
            details.error = None;
            (details.recoveries, details.lost_leases, details.progress) = (0, 0, 0.0);
            // Who has done all of it and said so is named once: a flow is written whole at every step.
            if by_somebody && details.worked_by.iter().eq(&details.by) {
                details.worked_by.clear();
            }
        }
        self.look_behind(phase);
    }

    fn error_of(&self, input: &ActionInput) -> PhaseError {
        let mut details = input.error.clone().unwrap_or_default();
        let mut text = |key: &str| match details.remove(key) {
            Some(serde_json::Value::String(text)) => Some(text),
            Some(other) => Some(other.to_string()),
            None => None,
        };
        let code = text("code").unwrap_or_else(|| PLAIN_FAILURE.to_owned());
        let told = text("message").or_else(|| self.reason.clone());
        let message = told.unwrap_or_else(|| "nobody said why".to_owned());
        PhaseError::new(code, message, self.now, details)
    }
}

fn check_lasts(lasts: Delay) -> Taken {
    if (LEASE_RANGE.0..=LEASE_RANGE.1).contains(&lasts) {
        return Ok(());
    }
    let message = format!("a lease lasts from {} to {}, not {lasts}", LEASE_RANGE.0, LEASE_RANGE.1);
    Err(Declined::new(RefusalCode::MalformedRequest, message))
}
