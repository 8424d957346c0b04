//! When an attempt that failed is made again, and when no more.

use kernel::id::Digest;
use kernel::time::Delay;

/// How patient an endpoint's effects are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Schedule {
    /// For people who wait for a reply, and machines that wait for a call: seconds at first, and about an hour in all.
    Prompt,
    /// For receivers that may be down over a weekend: the times of the Standard Webhooks specification.
    Patient,
}

const PROMPT_FIRST: Delay = Delay::from_millis(1_000);
const PROMPT_MAX: Delay = Delay::from_millis(300_000);
const PROMPT_ATTEMPTS: u32 = 20;
/// Seconds after the first attempt, the second, …
const PATIENT: [i64; 9] = [5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400];
/// Up to this share of a delay is taken off it, so that what failed together is not tried again together.
const JITTER_PERCENT: i64 = 20;

impl Schedule {
    /// How long to wait after attempt number `attempt` (from 1) of the effect; `None` gives up.
    pub fn retry(self, attempt: u32, key: &str) -> Option<Delay> {
        let delay = match self {
            Self::Patient => {
                let place = usize::try_from(attempt.saturating_sub(1)).unwrap_or(usize::MAX);
                Delay::from_secs(*PATIENT.get(place)?)
            }
            Self::Prompt if attempt >= PROMPT_ATTEMPTS => return None,
            Self::Prompt => {
                let doublings = attempt.saturating_sub(1).min(16);
                let delay = Delay::from_millis(PROMPT_FIRST.as_millis() << doublings);
                delay.min(PROMPT_MAX)
            }
        };
        let ms = delay.as_millis();
        let share = ms * i64::from(chance(key, attempt)) * JITTER_PERCENT / (100 * 256);
        Some(Delay::from_millis(ms - share))
    }
}

/// From 0 to 255, the same for the same attempt.
fn chance(key: &str, attempt: u32) -> u8 {
    let digest = Digest::of_parts(&[key, &attempt.to_string()]).to_string();
    u8::from_str_radix(digest.get(..2).unwrap_or_default(), 16).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(schedule: Schedule) -> Vec<f64> {
        let delays = (1..).map_while(|attempt| schedule.retry(attempt, "i:1:0"));
        delays.map(|delay| delay.as_millis() as f64 / 1_000.0).collect()
    }

    #[test]
    fn delays_are_a_little_shorter_than_the_table_says_and_never_longer() {
        let patient = seconds(Schedule::Patient);
        assert_eq!(patient.len(), PATIENT.len());
        for (found, nominal) in patient.iter().zip(PATIENT) {
            let nominal = nominal as f64;
            assert!((0.8 * nominal..=nominal).contains(found), "{found} of {nominal}");
        }
        let prompt = seconds(Schedule::Prompt);
        assert_eq!(prompt.len(), 19);
        assert!((0.8..=1.0).contains(&prompt[0]) && (240.0..=300.0).contains(&prompt[18]), "{prompt:?}");
        assert!((2_700.0..=4_000.0).contains(&prompt.iter().sum::<f64>()), "{prompt:?}");
    }

    #[test]
    fn effects_that_failed_together_are_not_tried_again_together() {
        let delays = (0..50).map(|n| Schedule::Patient.retry(3, &format!("i:{n}:0")));
        let different: std::collections::BTreeSet<_> = delays.map(|d| d.map(Delay::as_millis)).collect();
        assert!(different.len() > 20, "{different:?}");
    }
}
