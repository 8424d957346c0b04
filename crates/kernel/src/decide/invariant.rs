//! What has to hold once an input has been taken: an input that would break it is refused, and nothing changes.
//!
//! It is asked of what would be saved, so with the drafts exchanged. A refused input changes no state and no field, so
//! that nothing has to be asked of it.

use crate::chart::step::{Position, Trail};
use crate::decide::turn::{Turn, allowed, position_of};
use crate::input::Fields;
use crate::refusal::{Refusal, RefusalCode, Violation};

/// Violations that the message of a refusal tells of; `violated` has them all.
const TOLD_MAX: usize = 3;

impl Turn<'_> {
    /// # Errors
    /// When what has to hold does not hold where the turn stands.
    pub(super) fn hold(&mut self, event: &str) -> Result<(), Refusal> {
        let mut trail = std::mem::take(&mut self.trail);
        let violations = self.violations(&self.position, &mut trail);
        self.trail = trail;
        if violations.is_empty() {
            return Ok(());
        }
        let refusal = self.violation(event, None, violations);
        // The turn has moved: what could be done is asked of where the instance stays, which is nowhere for a new one.
        let stays = position_of(self.machine, &self.after);
        let allowed = stays.map(|position| allowed(self.machine, position.leaves())).unwrap_or_default();
        Err(Refusal { allowed, timers: self.after.timers.clone(), ..refusal })
    }

    /// What would not hold. What the transitions ensure has been asked then.
    pub(super) fn violations(&self, position: &Position, trail: &mut Trail) -> Vec<Violation> {
        if !self.machine.chart.has_invariants {
            return Vec::new();
        }
        let promises = std::mem::take(&mut trail.promises);
        let context = self.with_draft(position, trail);
        self.stepper().violations(position, &context, &self.after.context, &promises)
    }

    pub(super) fn violation(
        &self,
        event: &str,
        payload: Option<&Fields>,
        violated: Vec<Violation>,
    ) -> Refusal {
        let mut told: Vec<String> = violated.iter().take(TOLD_MAX).map(Violation::words).collect();
        if violated.len() > TOLD_MAX {
            told.push(format!("and {} more", violated.len() - TOLD_MAX));
        }
        let message = format!("`{event}` would violate {}", told.join("; "));
        let explain = self.considered(event, payload);
        Refusal { violated, ..self.refused(RefusalCode::InvariantViolated, message, explain) }
    }
}

impl Violation {
    /// Completes "this would violate".
    fn words(&self) -> String {
        let Self { name, state, expression, .. } = self;
        let whose = match (&self.event, state.as_str()) {
            (Some(event), _) if event.is_empty() => format!(", which a transition of `{state}` ensures"),
            (Some(event), _) => format!(", which `{event}` ensures"),
            (None, "") => String::new(),
            (None, state) => format!(" of `{state}`"),
        };
        let why = match (&self.message, &self.error) {
            (Some(message), _) => message.clone(),
            (None, Some(error)) => format!("`{expression}` failed: {error}"),
            (None, None) => format!("`{expression}` is false"),
        };
        format!("`{name}`{whose}: {why}")
    }
}
