//! Loop detection: the same transition again and again in a short time, noticed by the commit that repeats it.
//!
//! Owns what is remembered of the last transitions and when that counts as a loop. It reports and changes nothing:
//! a definition that wants to end a loop bounds it with a guard. Transitions marked `loop: normal` are left out.

use serde::{Deserialize, Serialize};

use crate::chart::TransitionIndex;
use crate::time::{Delay, Timestamp};

/// A transition taken more often than this within `LOOP_WITHIN` is a loop.
pub const LOOP_TIMES: usize = 3;
pub const LOOP_WITHIN: Delay = Delay::from_millis(300_000);
/// Transitions remembered over all; the oldest are let go first. A loop over more than this many is seen once it is
/// narrower.
const REMEMBERED_MAX: usize = 64;

/// When transitions were taken within the last `LOOP_WITHIN`, oldest first, and of each no more than tell a loop:
/// the transition and the milliseconds since 1970.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Recent(Vec<(TransitionIndex, i64)>);

/// A loop that an instance is in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Looping {
    pub from: String,
    pub to: String,
    pub event: String,
    /// Transitions since the loop began, those before it was noticed included.
    pub count: u32,
    /// If it is not taken again before then, the loop is over.
    pub until: Timestamp,
}

/// A transition that was taken once too often, and until when that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repeated {
    pub transition: TransitionIndex,
    pub until: Timestamp,
}

impl Recent {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (TransitionIndex, i64)> {
        self.0.iter().copied()
    }

    /// Remembers the transitions that were taken at `now`, and says which of them makes a loop: of several the last.
    pub fn note(
        &mut self,
        taken: impl IntoIterator<Item = TransitionIndex>,
        now: Timestamp,
    ) -> Option<Repeated> {
        let first = now.as_millis() - LOOP_WITHIN.as_millis();
        self.0.retain(|(_, at)| *at > first);
        let mut repeated = None;
        let mut taken = taken.into_iter().peekable();
        while let Some(transition) = taken.next() {
            let places = || self.0.iter().enumerate().filter(|(_, (other, _))| *other == transition);
            let (times_before, oldest) = (places().count(), places().next().map(|(place, _)| place));
            if let Some(oldest) = oldest.filter(|_| times_before > LOOP_TIMES) {
                self.0.remove(oldest);
            }
            if times_before >= LOOP_TIMES {
                let oldest = self.0.iter().find(|(other, _)| *other == transition);
                let until = |(_, at): &(_, i64)| Timestamp::from_millis(*at).plus(LOOP_WITHIN);
                repeated = oldest.map(|oldest| Repeated { transition, until: until(oldest) });
            }
            if taken.peek().is_none() {
                // Before the last is added, or what is full would grow only to be cut again.
                let surplus = (self.0.len() + 1).saturating_sub(REMEMBERED_MAX);
                self.0.drain(..surplus);
            }
            self.0.push((transition, now.as_millis()));
        }
        repeated
    }
}

impl FromIterator<(TransitionIndex, i64)> for Recent {
    fn from_iter<T: IntoIterator<Item = (TransitionIndex, i64)>>(moments: T) -> Self {
        Self(moments.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Transitions with the seconds at which they are taken, and after each until which second it is a loop.
    fn check(steps: &[(u16, i64, Option<i64>)]) {
        let mut recent = Recent::default();
        for (number, (transition, at, until)) in steps.iter().enumerate() {
            let at = Timestamp::from_millis(at * 1_000);
            let repeated = recent.note([TransitionIndex(*transition)], at);
            let found = repeated.map(|r| (r.transition.0, r.until.as_millis() / 1_000));
            assert_eq!(found, until.map(|until| (*transition, until)), "step {number} of {steps:?}");
        }
    }

    #[test]
    fn the_fourth_time_in_five_minutes_is_a_loop_and_the_third_is_none() {
        check(&[(1, 0, None), (1, 1, None), (1, 2, None), (1, 299, Some(300)), (1, 300, Some(301))]);
        check(&[(1, 0, None), (1, 1, None), (1, 2, None), (1, 300, None), (1, 300, Some(301))]);
    }

    #[test]
    fn two_transitions_in_turn_are_a_loop_each() {
        let turn = |n: i64, until: Option<i64>| [(1, 2 * n, until), (2, 2 * n + 1, until.map(|u| u + 1))];
        let steps = [turn(0, None), turn(1, None), turn(2, None), turn(3, Some(300)), turn(4, Some(302))];
        check(&steps.concat());
    }

    #[test]
    fn many_different_transitions_are_no_loop_and_are_not_kept_for_ever() {
        let mut recent = Recent::default();
        assert_eq!(recent.note((0..500).map(TransitionIndex), Timestamp::EPOCH), None);
        assert_eq!(recent.0.len(), REMEMBERED_MAX);
        assert_eq!(recent.note([], Timestamp::EPOCH.plus(LOOP_WITHIN)), None);
        assert!(recent.is_empty());
    }
}
