//! Fuel: how much work an evaluation may do before it is stopped.
//!
//! Owns the budget and what is charged for bytes. One step is about what one node of an expression costs, some
//! ten nanoseconds; whoever copies, compares or scans says how much that is in steps. It does not measure time.

use super::failure::{Failure, Outcome};

/// What one evaluation may take. A guard of a real machine takes some ten steps.
pub const STEPS_MAX: u32 = 20_000;

/// Text that is copied or compared moves this many bytes in the time of one step.
pub(crate) const BYTES_PER_STEP: usize = 64;

/// A budget of steps. It can be shared by many evaluations, such as those of all actions of one event.
#[derive(Debug)]
pub struct Fuel {
    left: u32,
    whole: u32,
}

impl Default for Fuel {
    fn default() -> Self {
        Self::new(STEPS_MAX)
    }
}

impl Fuel {
    pub fn new(steps: u32) -> Self {
        Self { left: steps, whole: steps }
    }

    /// How many steps have been taken so far.
    pub fn used(&self) -> u32 {
        self.whole - self.left
    }

    #[inline]
    pub(super) fn spend(&mut self, steps: u32) -> Outcome<()> {
        // What runs out stays at nothing, so that no error handling within an expression can carry on.
        match self.left.checked_sub(steps) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => {
                self.left = 0;
                Err(Failure::Spent(self.whole))
            }
        }
    }

    /// Charges for `count` things that cost a step each.
    #[inline]
    pub(super) fn spend_many(&mut self, count: usize) -> Outcome<()> {
        self.spend(u32::try_from(count).unwrap_or(u32::MAX))
    }

    /// Charges for copying or comparing a text.
    #[inline]
    pub(super) fn spend_bytes(&mut self, bytes: usize) -> Outcome<()> {
        if bytes < BYTES_PER_STEP {
            return Ok(());
        }
        self.spend_many(bytes / BYTES_PER_STEP)
    }
}
