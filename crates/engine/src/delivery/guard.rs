//! What is known of an endpoint while the process lives, and whether it may be sent something now.
//!
//! An endpoint that fails again and again, that asks for it, or that is sent as much as it takes is left alone for a
//! while; what is for it waits in the store. It knows no effect, and counts no attempt.

use kernel::time::{Delay, Timestamp};

use crate::breaker::{Admission, Breaker, BreakerSettings, BreakerState, Bucket};
use crate::delivery::Carried;

/// While the end of a probe is waited for, the others look again after so long: requests take seconds, and the breaker's
/// own patience is for a probe that never ends.
const PROBE_PATIENCE: Delay = Delay::from_millis(5_000);

#[derive(Debug)]
pub(crate) struct Guarded {
    breaker: Breaker,
    bucket: Option<Bucket>,
    /// It has asked to be left alone until then.
    paused_until: Timestamp,
    /// It is not there any more, and said so.
    gone: Option<String>,
    last_failure: Option<String>,
}

/// Why an endpoint takes nothing at present.
pub(crate) enum Closed {
    /// And why.
    Until(Timestamp, String),
    Gone(String),
}

impl Guarded {
    /// `rate` is in sends a second.
    pub fn new(rate: Option<f64>) -> Self {
        Self {
            breaker: Breaker::new(BreakerSettings::default()),
            bucket: rate.map(|rate| Bucket::new(rate, rate.ceil().max(1.0) as u32)),
            paused_until: Timestamp::EPOCH,
            gone: None,
            last_failure: None,
        }
    }

    pub fn admits(&mut self, now: Timestamp) -> Result<(), Closed> {
        if let Some(error) = &self.gone {
            return Err(Closed::Gone(error.clone()));
        }
        if self.paused_until > now {
            return Err(Closed::Until(self.paused_until, "it has asked to be left alone".to_owned()));
        }
        // The breaker is asked last, since a probe that is not sent would be waited for; and only what it lets through
        // takes a token.
        let mut bucket = self.bucket.clone();
        if let Some(Err(at)) = bucket.as_mut().map(|bucket| bucket.take(now)) {
            return Err(Closed::Until(at, "it is sent no more than its `rate`".to_owned()));
        }
        let probing = self.breaker.state(now) == BreakerState::HalfOpen;
        match self.breaker.admits(now) {
            Admission::Yes | Admission::Probe => {
                self.bucket = bucket;
                Ok(())
            }
            Admission::Not { until } => {
                let until = if probing { until.min(now.plus(PROBE_PATIENCE)) } else { until };
                let last = self.last_failure.as_deref().unwrap_or("no answer");
                Err(Closed::Until(until, format!("it has failed too often and is left alone; last: {last}")))
            }
        }
    }

    /// Takes down what the end of an attempt says of the endpoint, and whether it is left alone from now on.
    pub fn heard(&mut self, carried: &Carried, now: Timestamp) -> bool {
        let was_open = self.is_left_alone(now);
        if let Carried::Later { error, .. } | Carried::Unknown { error, .. } = carried {
            self.last_failure = Some(error.clone());
        }
        match carried {
            // It is there, and says no.
            Carried::Delivered { .. }
            | Carried::Answered(_)
            | Carried::Refused { .. }
            | Carried::Gone { .. }
            | Carried::Later { after: Some(_), .. } => self.breaker.succeeded(now),
            Carried::Later { after: None, .. } | Carried::Unknown { .. } => self.breaker.failed(now),
        }
        match carried {
            Carried::Later { after: Some(after), .. } => {
                self.paused_until = self.paused_until.max(now.plus(*after));
            }
            Carried::Gone { error } => self.gone = Some(error.clone()),
            _ => {}
        }
        !was_open && self.is_left_alone(now)
    }

    fn is_left_alone(&self, now: Timestamp) -> bool {
        self.gone.is_some() || matches!(self.breaker.state(now), BreakerState::Open { .. })
    }
}
