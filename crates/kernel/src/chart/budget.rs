//! What one event may cost: the steps of all its guards and actions together.
//!
//! Each expression has its own limit besides (`expression::STEPS_MAX`). Owns the figure and what is paid for beside
//! evaluating; it does not count actions or small steps.

use crate::chart::step::StepError;
use crate::expression::{BYTES_PER_STEP, Fuel, STEPS_MAX};

/// Steps of evaluation for one event, all guards and actions together: some ten expressions at their own limit, which
/// is a few milliseconds.
const FUEL_MAX: u32 = 200_000;

/// What is left to one event for its expressions.
#[derive(Debug)]
pub(super) struct Budget {
    left: u32,
}

impl Default for Budget {
    fn default() -> Self {
        Self { left: FUEL_MAX }
    }
}

impl Budget {
    /// Evaluates with no more than one expression may take, and than is left.
    pub fn spend<T>(&mut self, evaluate: impl FnOnce(&mut Fuel) -> T) -> T {
        let mut fuel = Fuel::new(self.left.min(STEPS_MAX));
        let result = evaluate(&mut fuel);
        self.left -= fuel.used();
        result
    }

    /// Pays for what is copied beside evaluating.
    pub fn pay_for(&mut self, bytes: usize) {
        self.left = self.left.saturating_sub(u32::try_from(bytes / BYTES_PER_STEP).unwrap_or(u32::MAX));
    }

    /// # Errors
    /// When nothing is left: then no result can be relied on.
    pub fn check(&self) -> Result<(), StepError> {
        match self.left {
            0 => Err(StepError::TooMuch(format!("takes more than {FUEL_MAX} steps of evaluation"))),
            _ => Ok(()),
        }
    }
}
