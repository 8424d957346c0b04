//! Validation and approval: a phase whose work is done waits until somebody says yes.

use crate::flow::action::Alarm;
use crate::flow::step::act::WORKED_BY_MAX;
use crate::flow::step::{Declined, Step, Taken};
use crate::flow::{Action, Gate, PhaseIndex, PhaseState};
use crate::refusal::RefusalCode;

impl Step<'_> {
    /// What a phase waits for at its gate, if it is at one.
    pub(crate) fn gate(&self, phase: PhaseIndex) -> Option<(&Gate, Alarm)> {
        let written = self.flow.phase(phase);
        match self.state.state(phase) {
            PhaseState::WaitingValidation => Some((written.validation.as_ref()?, Alarm::ValidationExpired)),
            PhaseState::WaitingApproval => Some((written.approval.as_ref()?, Alarm::ApprovalExpired)),
            _ => None,
        }
    }

    pub(super) fn ask_validation(&mut self, phase: PhaseIndex) {
        self.go(phase, PhaseState::WaitingValidation);
        self.expire(phase);
    }

    pub(super) fn ask_approval(&mut self, phase: PhaseIndex) {
        self.go(phase, PhaseState::WaitingApproval);
        self.expire(phase);
    }

    fn expire(&mut self, phase: PhaseIndex) {
        let expiry = self.gate(phase).and_then(|(gate, alarm)| Some((alarm, gate.expires_after?)));
        if let Some((alarm, after)) = expiry {
            self.set_timer(phase, alarm, after);
        }
    }

    pub(super) fn pass_validation(&mut self, phase: PhaseIndex) {
        match self.phase(phase).approval {
            Some(_) => self.ask_approval(phase),
            None => self.complete(phase),
        }
    }

    /// Back to work: by whoever takes it, or by what does it of itself.
    pub(super) fn send_back(&mut self, phase: PhaseIndex) {
        self.go(phase, PhaseState::InProgress);
        let details = self.details(phase);
        (details.progress, details.sent_back) = (0.0, true);
        if let Some(timeout) = self.phase(phase).timeout {
            self.set_timer(phase, Alarm::TimedOut, timeout);
        }
        if self.phase(phase).is_automatic() {
            self.run(phase);
        }
    }

    /// Whether whoever asks may say yes or no, and still in time.
    pub(super) fn check_gate(&self, phase: PhaseIndex, action: Action, in_general: bool) -> Taken {
        // A phase that waits at a gate which its definition does not have came from another version; anybody may let it go on.
        let Some((gate, alarm)) = self.gate(phase) else { return Ok(()) };
        let name = &self.phase(phase).name;
        let due = self.timer(phase, alarm).filter(|_| self.state.paused.is_none());
        if let Some(timer) = due.filter(|timer| timer.deadline <= self.now) {
            let message = format!("what `{name}` waited for had to come before {}", timer.deadline);
            return Err(Declined::new(RefusalCode::Expired, message));
        }
        if in_general {
            return Ok(());
        }
        let denied = |message| Err(Declined::new(RefusalCode::PermissionDenied, message));
        let verb = action.as_str();
        let named = !gate.by.is_empty();
        let Some(by) = &self.by else {
            return match named || gate.four_eyes {
                true => denied(format!("say who wants to {verb} `{name}`: `by` is missing")),
                false => self.check_reason(gate, phase, action),
            };
        };
        if named && !gate.by.iter().any(|known| speaks_as(by, known)) {
            let allowed = gate.by.join("`, `");
            return denied(format!("`{by}` may not {verb} `{name}`; `{allowed}` may"));
        }
        let worked_by = self.state.record(phase).details.as_ref().map(|details| &details.worked_by[..]);
        let worked_by = worked_by.unwrap_or_default();
        let watched = gate.four_eyes && action != Action::Reject;
        if watched && worked_by.len() >= WORKED_BY_MAX {
            let message =
                format!("more have worked on `{name}` than can be told apart; take it back and begin afresh");
            return denied(message);
        }
        // What does its work of itself has nobody who could agree with himself.
        if watched && worked_by.is_empty() && !self.phase(phase).is_automatic() {
            return denied(format!(
                "nobody said who did the work of `{name}`, so nobody else can be told apart; reject it, and hand it in with `by`"
            ));
        }
        if watched && worked_by.iter().any(|worker| person(worker) == person(by)) {
            return denied(format!("`{by}` did the work of `{name}`; somebody else has to {verb} it"));
        }
        self.check_reason(gate, phase, action)
    }

    fn check_reason(&self, gate: &Gate, phase: PhaseIndex, action: Action) -> Taken {
        if !gate.reason || self.reason.as_ref().is_some_and(|reason| !reason.trim().is_empty()) {
            return Ok(());
        }
        let message =
            format!("say why: to {} `{}` takes a `reason`", action.as_str(), self.phase(phase).name);
        Err(Declined::new(RefusalCode::MalformedRequest, message))
    }
}

/// Who speaks, whatever the role.
fn person(by: &str) -> &str {
    by.rsplit(':').next().unwrap_or(by)
}

/// Whether somebody is who may: by name, or as `role:name` for a role.
fn speaks_as(by: &str, known: &str) -> bool {
    by == known || by.strip_prefix(known).is_some_and(|rest| rest.starts_with(':'))
}
