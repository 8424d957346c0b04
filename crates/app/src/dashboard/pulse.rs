//! How much goes through this server and how long it takes: the last minutes, for a glance. What is kept for longer is
//! the metrics' business.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError, Weak};
use std::time::Duration;

use crate::http::App;

/// How often it is read, and how many readings are kept: five minutes.
const EACH: Duration = Duration::from_secs(2);
const READINGS_MAX: usize = 150;

/// What has been answered since the last reading, and the readings before.
#[derive(Debug, Default)]
pub struct Pulse {
    answered: AtomicU64,
    took_us: AtomicU64,
    readings: Mutex<VecDeque<Reading>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Reading {
    /// Inputs a second.
    pub rate: f64,
    /// From when an input was handed over until its answer was durable, in milliseconds, in the mean.
    pub took_ms: f64,
}

impl Pulse {
    /// An input has its answer.
    pub fn answered(&self, took: Duration) {
        self.answered.fetch_add(1, Ordering::Relaxed);
        self.took_us.fetch_add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn read(&self, over: Duration) {
        let answered = self.answered.swap(0, Ordering::Relaxed) as f64;
        let took_us = self.took_us.swap(0, Ordering::Relaxed) as f64;
        let took_ms = if answered > 0.0 { took_us / answered / 1_000.0 } else { 0.0 };
        let mut readings = self.readings.lock().unwrap_or_else(PoisonError::into_inner);
        if readings.len() == READINGS_MAX {
            readings.pop_front();
        }
        readings.push_back(Reading { rate: answered / over.as_secs_f64(), took_ms });
    }

    /// The oldest first.
    pub fn readings(&self) -> Vec<Reading> {
        self.readings.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect()
    }
}

/// Reads the pulse as long as there is a server.
pub async fn keep_pulse(app: Weak<App>) {
    loop {
        tokio::time::sleep(EACH).await;
        let Some(app) = app.upgrade() else { return };
        app.pulse.read(EACH);
    }
}

/// A line through values, as the points of an SVG of 300 by 48: the newest at the right, the largest at the top.
pub fn points(values: &[f64]) -> String {
    let largest = values.iter().copied().fold(0.0, f64::max).max(f64::MIN_POSITIVE);
    let step = 300.0 / (READINGS_MAX - 1) as f64;
    let first = 300.0 - step * values.len().saturating_sub(1) as f64;
    let point = |(place, value): (usize, &f64)| {
        format!("{:.1},{:.1}", first + step * place as f64, 46.0 - 44.0 * value / largest)
    };
    values.iter().enumerate().map(point).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reading_is_a_rate_and_a_mean_and_begins_anew() {
        let pulse = Pulse::default();
        pulse.answered(Duration::from_millis(1));
        pulse.answered(Duration::from_millis(3));
        pulse.read(Duration::from_secs(2));
        pulse.read(Duration::from_secs(2));
        let expected = [Reading { rate: 1.0, took_ms: 2.0 }, Reading { rate: 0.0, took_ms: 0.0 }];
        assert_eq!(pulse.readings(), expected);
    }

    #[test]
    fn only_the_last_minutes_are_kept() {
        let pulse = Pulse::default();
        (0..READINGS_MAX + 5).for_each(|_| pulse.read(EACH));
        assert_eq!(pulse.readings().len(), READINGS_MAX);
    }

    #[test]
    fn a_line_ends_at_the_right_with_its_largest_at_the_top() {
        assert_eq!(points(&[0.0, 2.0]), "298.0,46.0 300.0,2.0");
        assert_eq!(points(&[]), "");
        assert_eq!(points(&[0.0]), "300.0,46.0");
    }
}
