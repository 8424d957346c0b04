//! What a flow remembers between two inputs: where each phase is, and what is known of those that have begun.
//!
//! Written small, since all of it is written at every commit: phases that nothing has happened to are counted, and
//! times are milliseconds since the flow began.

use std::ops::{Index, IndexMut};
use std::sync::Arc;

use serde::de::{Deserializer, Error as _};
use serde::ser::{SerializeSeq, Serializer};
use serde::{Deserialize, Serialize};

use crate::bound;
use crate::flow::{PhaseIndex, PhaseState};
use crate::id::{InstanceId, MachineName};
use crate::input::Fields;
use crate::snapshot::Timer;
use crate::time::{Delay, Timestamp};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FlowState {
    pub began_at: Timestamp,
    pub phases: Records,
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
    /// Whether the phase applies, once that has been asked; one that does not is passed over.
    pub applies: Option<bool>,
    pub details: Option<Arc<PhaseDetails>>,
}

/// What is known of a phase beside its place.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PhaseDetails {
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
    #[serde(default, skip_serializing_if = "Fields::is_empty")]
    pub details: Fields,
}

/// A worker's hold on a phase. When it ends is a timer's business.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    pub token: String,
    pub worker: String,
    /// How long it lasts from each sign of life.
    pub lasts: Delay,
}

/// Of what was said of a phase, so much is kept with the flow, which is written whole at every step. The log has all of it.
const SAID_CHARS_MAX: usize = 1_000;
const DETAILS_BYTES_MAX: usize = 2_048;

/// As much of a text as is kept.
pub(crate) fn kept(text: String) -> String {
    match text.char_indices().nth(SAID_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

impl PhaseError {
    /// What of an error is kept: all of it unless it is long.
    pub(crate) fn new(
        code: impl Into<String>,
        message: impl Into<String>,
        at: Timestamp,
        details: Fields,
    ) -> Self {
        let fits = bound::size(&details) <= DETAILS_BYTES_MAX;
        let details = if fits { details } else { Fields::new() };
        Self { code: kept(code.into()), message: kept(message.into()), at, details }
    }
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
            phases: std::iter::repeat_n(PhaseRecord::default(), phases).collect(),
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
        self.applies == Some(false)
    }

    /// What needs it may start.
    pub fn is_done(&self) -> bool {
        self.state == PhaseState::Completed || self.is_skipped()
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

/// The records of all phases, in the order of the definition, in chunks that copies share until one of them changes
/// something: of five hundred phases an action changes a few.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Records {
    chunks: Vec<Arc<Vec<PhaseRecord>>>,
}

impl Records {
    pub(crate) const CHUNK: usize = 32;

    /// Whether two have a chunk in common, so that it is the same in both.
    pub(crate) fn shares(&self, other: &Self, chunk: usize) -> bool {
        let chunks = self.chunks.get(chunk).zip(other.chunks.get(chunk));
        chunks.is_some_and(|(one, another)| Arc::ptr_eq(one, another))
    }

    pub fn len(&self) -> usize {
        self.chunks.last().map_or(0, |last| (self.chunks.len() - 1) * Self::CHUNK + last.len())
    }

    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = &PhaseRecord> {
        self.chunks().flatten()
    }

    /// As `iter`, piece by piece.
    pub(crate) fn chunks(&self) -> impl Iterator<Item = &[PhaseRecord]> {
        self.chunks.iter().map(|chunk| &chunk[..])
    }
}

impl Index<usize> for Records {
    type Output = PhaseRecord;

    fn index(&self, at: usize) -> &PhaseRecord {
        &self.chunks[at / Self::CHUNK][at % Self::CHUNK]
    }
}

impl IndexMut<usize> for Records {
    fn index_mut(&mut self, at: usize) -> &mut PhaseRecord {
        &mut Arc::make_mut(&mut self.chunks[at / Self::CHUNK])[at % Self::CHUNK]
    }
}

impl FromIterator<PhaseRecord> for Records {
    fn from_iter<T: IntoIterator<Item = PhaseRecord>>(records: T) -> Self {
        let mut chunks: Vec<Vec<PhaseRecord>> = Vec::new();
        for record in records {
            match chunks.last_mut().filter(|last| last.len() < Self::CHUNK) {
                Some(last) => last.push(record),
                None => chunks.push(vec![record]),
            }
        }
        Self { chunks: chunks.into_iter().map(Arc::new).collect() }
    }
}

/// A record as it is written: how many phases that nothing has happened to, or one phase.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Written {
    Untouched(usize),
    Touched(WrittenRecord),
}

/// State, since, started (-1 for never), attempts, retries; then, if there is anything to say, whether it applies and what
/// else is known of it.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum WrittenRecord {
    Plain(PhaseState, i64, i64, u32, u32),
    Detailed(PhaseState, i64, i64, u32, u32, Option<bool>, Option<Arc<PhaseDetails>>),
}

impl Serialize for Records {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let untouched = PhaseRecord::default();
        let mut written = serializer.serialize_seq(None)?;
        let mut count = 0;
        for record in self.iter() {
            if *record == untouched {
                count += 1;
                continue;
            }
            if count > 0 {
                written.serialize_element(&Written::Untouched(count))?;
                count = 0;
            }
            let PhaseRecord { state, since, started, attempts, retries, applies, details } = record;
            let (since, started) = (since.as_millis(), started.map_or(-1, Delay::as_millis));
            let one = match (applies, details) {
                (None, None) => WrittenRecord::Plain(*state, since, started, *attempts, *retries),
                _ => {
                    let details = details.clone();
                    WrittenRecord::Detailed(*state, since, started, *attempts, *retries, *applies, details)
                }
            };
            written.serialize_element(&Written::Touched(one))?;
        }
        if count > 0 {
            written.serialize_element(&Written::Untouched(count))?;
        }
        written.end()
    }
}

impl<'de> Deserialize<'de> for Records {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut records = Vec::new();
        for written in Vec::<Written>::deserialize(deserializer)? {
            let (state, since, started, attempts, retries, applies, details) = match written {
                Written::Untouched(count) if count > usize::from(u16::MAX) - records.len() => {
                    return Err(D::Error::custom("a flow has no more than 65,535 phases"));
                }
                Written::Untouched(count) => {
                    records.resize(records.len() + count, PhaseRecord::default());
                    continue;
                }
                Written::Touched(WrittenRecord::Plain(state, since, started, attempts, retries)) => {
                    (state, since, started, attempts, retries, None, None)
                }
                Written::Touched(WrittenRecord::Detailed(
                    state,
                    since,
                    started,
                    attempts,
                    retries,
                    applies,
                    details,
                )) => (state, since, started, attempts, retries, applies, details),
            };
            let started = (started >= 0).then(|| Delay::from_millis(started));
            let since = Delay::from_millis(since);
            records.push(PhaseRecord { state, since, started, attempts, retries, applies, details });
            if records.len() > usize::from(u16::MAX) {
                return Err(D::Error::custom("a flow has no more than 65,535 phases"));
            }
        }
        Ok(records.into_iter().collect())
    }
}
