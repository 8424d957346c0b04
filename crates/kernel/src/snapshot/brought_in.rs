//! `BroughtIn`: what an instance remembers of the other system that it came from.
//!
//! As long as nothing but time has touched it here, the other system may still own the session, so that its record may
//! be brought in again, or withdrawn. It owns when that is over, and decides nothing: that is `decide`.

use serde::{Deserialize, Serialize};

use crate::id::Digest;
use crate::input::Cause;
use crate::time::Timestamp;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BroughtIn {
    /// Nothing but time has touched it since it was brought in.
    Untouched {
        /// What its record said, as a digest.
        record: Digest,
        /// When it last changed there, as far as the record said so.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        changed_at: Option<Timestamp>,
    },
    /// Nothing but time had touched it when that was undone.
    Withdrawn,
    /// It has gone on here.
    GoneOn,
}

impl BroughtIn {
    /// What it is once an input has changed the instance.
    pub fn after(self, cause: &Cause) -> Self {
        match cause {
            // A creation has just said what it is.
            Cause::Create { .. } | Cause::Timer { .. } => self,
            Cause::Withdraw { .. } => Self::Withdrawn,
            Cause::Event { .. }
            | Cause::Message { .. }
            | Cause::Answer { .. }
            | Cause::Result { .. }
            | Cause::Recover { .. }
            | Cause::Migrate { .. } => Self::GoneOn,
        }
    }

    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Untouched { .. } => "untouched",
            Self::Withdrawn => "withdrawn",
            Self::GoneOn => "gone_on",
        }
    }
}
