//! Whether and when something outside may be asked: a circuit breaker, and a bucket of tokens that bounds a rate.
//!
//! Both are pure: they are told what time it is and how calls ended, and say what may be done now. They make no call,
//! and whoever shares one between threads guards it.

use kernel::time::{Delay, Timestamp};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerSettings {
    /// Failures in a row after which nothing is asked for a while.
    pub failures_to_open: u32,
    /// The first while; it doubles with each probe that fails.
    pub open_for: Delay,
    pub open_for_max: Delay,
}

impl Default for BreakerSettings {
    /// One slow answer is chance and five in a row are not. After half a minute most restarts are over; five minutes is
    /// as long as anybody should wait for what works again.
    fn default() -> Self {
        Self { failures_to_open: 5, open_for: Delay::from_secs(30), open_for_max: Delay::from_secs(300) }
    }
}

/// Whether a call may be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    Yes,
    /// This one alone: how it ends decides for the others.
    Probe,
    /// Not before this time, at which it is worth asking again.
    Not {
        until: Timestamp,
    },
}

/// How a breaker stands, for people and figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    /// Calls go through.
    Closed,
    /// None does.
    Open { until: Timestamp },
    /// One does, or may: its end is waited for.
    HalfOpen,
}

/// A circuit breaker for one endpoint: what fails again and again is left alone for a while, so that nobody waits for
/// it and it can recover.
#[derive(Clone, Debug)]
pub struct Breaker {
    settings: BreakerSettings,
    phase: Phase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Closed {
        failures: u32,
    },
    Open {
        until: Timestamp,
        open_for: Delay,
    },
    /// A probe is out. One that never comes back is given up at `until`.
    Probing {
        until: Timestamp,
        open_for: Delay,
    },
}

impl Breaker {
    pub fn new(settings: BreakerSettings) -> Self {
        Self { settings, phase: Phase::Closed { failures: 0 } }
    }

    /// Whether a call may be made. After `Yes` or `Probe`, make it and say how it ended.
    pub fn admits(&mut self, now: Timestamp) -> Admission {
        match self.phase {
            Phase::Closed { .. } => Admission::Yes,
            Phase::Open { until, .. } | Phase::Probing { until, .. } if now < until => {
                Admission::Not { until }
            }
            Phase::Open { open_for, .. } | Phase::Probing { open_for, .. } => {
                self.phase = Phase::Probing { until: now.plus(open_for), open_for };
                Admission::Probe
            }
        }
    }

    /// A call ended well. One that began before the breaker opened closes it no sooner than a probe would.
    pub fn succeeded(&mut self, _now: Timestamp) {
        match self.phase {
            Phase::Open { .. } => {}
            Phase::Closed { .. } | Phase::Probing { .. } => self.phase = Phase::Closed { failures: 0 },
        }
    }

    /// A call failed. Those that began before the breaker opened add nothing to it.
    pub fn failed(&mut self, now: Timestamp) {
        let open = |open_for: Delay| Phase::Open { until: now.plus(open_for), open_for };
        self.phase = match self.phase {
            Phase::Closed { failures } if failures + 1 < self.settings.failures_to_open => {
                Phase::Closed { failures: failures + 1 }
            }
            Phase::Closed { .. } => open(self.settings.open_for),
            Phase::Probing { open_for, .. } => {
                let doubled = Delay::from_millis(open_for.as_millis().saturating_mul(2));
                open(doubled.min(self.settings.open_for_max))
            }
            already @ Phase::Open { .. } => already,
        }
    }

    pub fn state(&self, now: Timestamp) -> BreakerState {
        match self.phase {
            Phase::Closed { .. } => BreakerState::Closed,
            Phase::Open { until, .. } if now < until => BreakerState::Open { until },
            Phase::Open { .. } | Phase::Probing { .. } => BreakerState::HalfOpen,
        }
    }
}

/// Tokens that come at a steady rate, up to a burst of them; each call takes one.
///
/// Kept as the time at which the bucket would be full again (the generic cell rate algorithm of ATM networks), in
/// microseconds, so that no fraction of a token is lost.
#[derive(Clone, Debug)]
pub struct Bucket {
    /// Between two tokens.
    interval_us: i64,
    burst: i64,
    full_at_us: i64,
}

impl Bucket {
    /// A full bucket. At least one token fits, and at least one comes in a day.
    pub fn new(per_second: f64, burst: u32) -> Self {
        let slowest = 1.0 / 86_400.0;
        let per_second = if per_second.is_finite() { per_second.max(slowest) } else { slowest };
        // In range: from 0 to a day's microseconds.
        let interval_us = (1_000_000.0 / per_second).round() as i64;
        Self { interval_us, burst: i64::from(burst.max(1)), full_at_us: 0 }
    }

    /// Takes a token.
    ///
    /// # Errors
    /// When there will be one, if there is none now.
    pub fn take(&mut self, now: Timestamp) -> Result<(), Timestamp> {
        let now_us = now.as_millis().saturating_mul(1_000);
        let full_at = self.full_at_us.max(now_us);
        let one_left_at = full_at.saturating_sub(self.interval_us.saturating_mul(self.burst - 1));
        if one_left_at > now_us {
            // Rounded up: whoever comes back then must find it.
            return Err(Timestamp::from_millis(
                one_left_at.div_euclid(1_000) + i64::from(one_left_at % 1_000 != 0),
            ));
        }
        self.full_at_us = full_at.saturating_add(self.interval_us);
        Ok(())
    }

    /// Whether it is as a fresh one, so that nobody need keep it.
    pub fn is_full(&self, now: Timestamp) -> bool {
        self.full_at_us <= now.as_millis().saturating_mul(1_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(1_000_000_000 + seconds * 1_000)
    }

    fn breaker() -> Breaker {
        let open_for = Delay::from_secs(30);
        Breaker::new(BreakerSettings { failures_to_open: 3, open_for, open_for_max: Delay::from_secs(100) })
    }

    /// What happens when, in seconds, and what is seen after it.
    enum Step {
        Fails(i64),
        Succeeds(i64),
        Asks(i64, Admission),
        Is(i64, BreakerState),
    }

    fn play(steps: &[Step]) {
        let mut breaker = breaker();
        for (number, step) in steps.iter().enumerate() {
            match step {
                Step::Fails(when) => breaker.failed(at(*when)),
                Step::Succeeds(when) => breaker.succeeded(at(*when)),
                Step::Asks(when, expected) => {
                    assert_eq!(breaker.admits(at(*when)), *expected, "step {number}");
                }
                Step::Is(when, expected) => assert_eq!(breaker.state(at(*when)), *expected, "step {number}"),
            }
        }
    }

    fn not(until: i64) -> Admission {
        Admission::Not { until: at(until) }
    }

    use Admission::{Probe, Yes};
    use Step::{Asks, Fails, Is, Succeeds};

    #[test]
    fn only_failures_in_a_row_open_it() {
        play(&[
            Is(0, BreakerState::Closed),
            Fails(1),
            Fails(2),
            Succeeds(3),
            Fails(4),
            Fails(5),
            Asks(5, Yes),
            Fails(6),
            Asks(6, not(36)),
            Is(6, BreakerState::Open { until: at(36) }),
        ]);
    }

    #[test]
    fn after_a_while_one_call_goes_through_and_its_end_decides() {
        play(&[
            Fails(0),
            Fails(0),
            Fails(0),
            Asks(29, not(30)),
            Is(30, BreakerState::HalfOpen),
            Asks(30, Probe),
            Asks(31, not(60)),
            Is(31, BreakerState::HalfOpen),
            Succeeds(32),
            Asks(32, Yes),
            Is(32, BreakerState::Closed),
            // It begins to count anew.
            Fails(33),
            Fails(34),
            Asks(34, Yes),
        ]);
    }

    #[test]
    fn each_probe_that_fails_doubles_the_while_up_to_the_longest() {
        play(&[
            Fails(0),
            Fails(0),
            Fails(0),
            Asks(30, Probe),
            Fails(31),
            Asks(90, not(91)),
            Asks(91, Probe),
            Fails(92),
            Asks(191, not(192)),
            Asks(192, Probe),
            Fails(200),
            Asks(200, not(300)),
            Asks(300, Probe),
            Succeeds(301),
            // And back to the first while.
            Fails(302),
            Fails(302),
            Fails(302),
            Asks(302, not(332)),
        ]);
    }

    #[test]
    fn a_probe_that_never_comes_back_is_followed_by_another() {
        play(&[
            Fails(0),
            Fails(0),
            Fails(0),
            Asks(40, Probe),
            Asks(69, not(70)),
            Asks(70, Probe),
            Asks(70, not(100)),
        ]);
    }

    #[test]
    fn what_began_before_it_opened_neither_closes_it_nor_keeps_it_open() {
        play(&[Fails(0), Fails(0), Fails(0), Fails(5), Succeeds(6), Asks(7, not(30)), Asks(30, Probe)]);
    }

    /// Per second, burst, and then for each attempt its millisecond and the one at which a token would be there.
    #[test]
    fn a_bucket_gives_a_burst_and_then_its_rate() {
        type Attempts = &'static [(i64, Option<i64>)];
        let cases: [(f64, u32, Attempts); 7] = [
            (1.0, 1, &[(0, None), (0, Some(1_000)), (999, Some(1_000)), (1_000, None), (5_000, None)]),
            (2.0, 3, &[(0, None), (0, None), (0, None), (0, Some(500)), (500, None), (500, Some(1_000))]),
            // A long rest fills it to the burst and no further.
            (10.0, 2, &[(0, None), (60_000, None), (60_000, None), (60_000, Some(60_100))]),
            // Twenty a minute.
            (20.0 / 60.0, 1, &[(0, None), (1, Some(3_000)), (3_000, None)]),
            // A third of a millisecond is rounded up to where the token is.
            (3_000.0, 1, &[(0, None), (0, Some(1)), (1, None)]),
            (0.0, 0, &[(0, None), (0, Some(86_400_000))]),
            (0.0, u32::MAX, &[(0, None), (0, None)]),
        ];
        for (per_second, burst, attempts) in cases {
            let mut bucket = Bucket::new(per_second, burst);
            let start = 1_000_000_000;
            for (ms, when) in attempts {
                let taken = bucket.take(Timestamp::from_millis(start + ms));
                let expected = when.map_or(Ok(()), |when| Err(Timestamp::from_millis(start + when)));
                assert_eq!(taken, expected, "{per_second} a second, {burst} at once, at {ms}");
            }
        }
    }

    #[test]
    fn whoever_comes_back_when_told_gets_a_token() {
        for per_second in [0.01, 0.3, 1.0, 7.0, 29.97, 80.0, 999.0, 1_000_000.0] {
            let mut bucket = Bucket::new(per_second, 5);
            let mut now = at(0);
            for _ in 0..1_000 {
                if let Err(when) = bucket.take(now) {
                    assert!(when > now, "{per_second}");
                    now = when;
                    assert_eq!(bucket.take(now), Ok(()), "{per_second}");
                }
            }
        }
    }

    #[test]
    fn a_bucket_is_full_again_when_all_that_was_taken_has_come_back() {
        let mut bucket = Bucket::new(1.0, 3);
        assert!(bucket.is_full(at(0)), "as a fresh one is");
        for _ in 0..2 {
            assert_eq!(bucket.take(at(0)), Ok(()));
        }
        assert!(!bucket.is_full(at(1)) && bucket.is_full(at(2)));
    }
}
