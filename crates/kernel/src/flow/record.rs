//! What a flow remembers between two inputs: where each phase is, and what is known of those that have begun.
//!
//! Written small, since all of it is written at every commit: phases that nothing has happened to are counted, and
//! times are milliseconds since the flow began.

use std::sync::Arc;

use serde::de::{Deserializer, Error as _};
use serde::ser::{SerializeSeq, Serializer};
use serde::{Deserialize, Serialize};

use crate::flow::{PhaseIndex, PhaseState};
use crate::id::{InstanceId, MachineName};
use crate::snapshot::Timer;
use crate::time::{Delay, Timestamp};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FlowState {
    pub began_at: Timestamp,
    #[serde(serialize_with = "write_records", deserialize_with = "read_records")]
    pub phases: Vec<PhaseRecord>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<Pause>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cancelled: bool,
    /// The phase of another flow that this one is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<ParentCall>,
    /// Those who wait for this flow to end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub watchers: Vec<ParentCall>,
}

/// A flow that is stopped, with the timers that will run on when it is resumed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pause {
    pub at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub timers: Vec<Timer>,
}

/// Who is told when a flow ends: the call of another flow's phase, by the key of its effect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParentCall {
    pub instance: InstanceId,
    pub call: String,
    /// The flows above, each a phase of the one before: none of them begins again further down.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub above: Vec<MachineName>,
}

/// Where a phase is. Times are since the flow began.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PhaseRecord {
    pub state: PhaseState,
    pub since: Delay,
    /// When the work began that the state is about.
    pub started: Option<Delay>,
    /// Attempts since it was last begun afresh.
    pub attempts: u32,
    /// How often it was tried again in all, whatever was rolled back.
    pub retries: u32,
    pub details: Option<Arc<PhaseDetails>>,
}

/// What is known of a phase beside its place.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PhaseDetails {
    /// Whether the phase applies, once that has been asked; one that does not is passed over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applies: Option<bool>,
    /// What it has reported of itself in this attempt, from 0 to 1.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub progress: f64,
    /// Who did the work, as far as anybody said.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub worked_by: Vec<String>,
    /// Who moved it last, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<PhaseError>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<Lease>,
    /// Workers in a row that were not heard of again.
    #[serde(default, skip_serializing_if = "is_none_yet")]
    pub lost_leases: u32,
    /// Rollbacks in a row that a recipe has led to.
    #[serde(default, skip_serializing_if = "is_none_yet")]
    pub recoveries: u32,
    /// In progress with nobody at it: it was sent back, and whoever takes it may go on.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sent_back: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PhaseError {
    pub code: String,
    pub message: String,
    pub at: Timestamp,
    /// Whatever else was told of it.
    #[serde(default, skip_serializing_if = "crate::input::Fields::is_empty")]
    pub details: crate::input::Fields,
}

/// A worker's hold on a phase. When it ends is a timer's business.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    pub token: String,
    pub worker: String,
    /// How long it lasts from each sign of life.
    pub lasts: Delay,
}

fn is_zero(progress: &f64) -> bool {
    *progress == 0.0
}

fn is_none_yet(count: &u32) -> bool {
    *count == 0
}

impl FlowState {
    pub fn new(phases: usize, began_at: Timestamp) -> Self {
        Self {
            began_at,
            phases: vec![PhaseRecord::default(); phases],
            paused: None,
            cancelled: false,
            parent: None,
            watchers: Vec::new(),
        }
    }

    pub fn record(&self, phase: PhaseIndex) -> &PhaseRecord {
        &self.phases[usize::from(phase.0)]
    }

    pub(crate) fn record_mut(&mut self, phase: PhaseIndex) -> &mut PhaseRecord {
        &mut self.phases[usize::from(phase.0)]
    }

    pub fn state(&self, phase: PhaseIndex) -> PhaseState {
        self.record(phase).state
    }

    /// When the phase came into its state.
    pub fn since(&self, phase: PhaseIndex) -> Timestamp {
        self.began_at.plus(self.record(phase).since)
    }

    pub fn started_at(&self, phase: PhaseIndex) -> Option<Timestamp> {
        self.record(phase).started.map(|started| self.began_at.plus(started))
    }
}

impl PhaseRecord {
    /// Passed over, because it does not apply.
    pub fn is_skipped(&self) -> bool {
        self.details.as_ref().is_some_and(|details| details.applies == Some(false))
    }

    /// What needs it may start.
    pub fn is_done(&self) -> bool {
        self.state == PhaseState::Completed || self.is_skipped()
    }

    pub fn applies(&self) -> Option<bool> {
        self.details.as_ref().and_then(|details| details.applies)
    }

    pub fn lease(&self) -> Option<&Lease> {
        self.details.as_ref().and_then(|details| details.lease.as_ref())
    }

    pub fn error(&self) -> Option<&PhaseError> {
        self.details.as_ref().and_then(|details| details.error.as_ref())
    }

    pub fn reported(&self) -> f64 {
        self.details.as_ref().map_or(0.0, |details| details.progress)
    }

    pub(crate) fn details_mut(&mut self) -> &mut PhaseDetails {
        Arc::make_mut(self.details.get_or_insert_default())
    }
}

/// A record as it is written: how many phases that nothing has happened to, or one phase.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Written {
    Untouched(usize),
    /// State, since, started (-1 for never), attempts, retries.
    Plain(PhaseState, i64, i64, u32, u32),
    Detailed(PhaseState, i64, i64, u32, u32, Arc<PhaseDetails>),
}

fn write_records<S: Serializer>(records: &[PhaseRecord], serializer: S) -> Result<S::Ok, S::Error> {
    let untouched = PhaseRecord::default();
    let mut written = serializer.serialize_seq(None)?;
    let mut count = 0;
    for record in records {
        if *record == untouched {
            count += 1;
            continue;
        }
        if count > 0 {
            written.serialize_element(&Written::Untouched(count))?;
            count = 0;
        }
        let since = record.since.as_millis();
        let started = record.started.map_or(-1, Delay::as_millis);
        let (state, attempts, retries) = (record.state, record.attempts, record.retries);
        let one = match &record.details {
            None => Written::Plain(state, since, started, attempts, retries),
            Some(details) => Written::Detailed(state, since, started, attempts, retries, Arc::clone(details)),
        };
        written.serialize_element(&one)?;
    }
    if count > 0 {
        written.serialize_element(&Written::Untouched(count))?;
    }
    written.end()
}

fn read_records<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<PhaseRecord>, D::Error> {
    let mut records = Vec::new();
    for written in Vec::<Written>::deserialize(deserializer)? {
        let (state, since, started, attempts, retries, details) = match written {
            Written::Untouched(count) if records.len() + count > usize::from(u16::MAX) => {
                return Err(D::Error::custom("a flow has no more than 65,535 phases"));
            }
            Written::Untouched(count) => {
                records.resize(records.len() + count, PhaseRecord::default());
                continue;
            }
            Written::Plain(state, since, started, attempts, retries) => {
                (state, since, started, attempts, retries, None)
            }
            Written::Detailed(state, since, started, attempts, retries, details) => {
                (state, since, started, attempts, retries, Some(details))
            }
        };
        let started = (started >= 0).then(|| Delay::from_millis(started));
        let since = Delay::from_millis(since);
        records.push(PhaseRecord { state, since, started, attempts, retries, details });
    }
    Ok(records)
}
