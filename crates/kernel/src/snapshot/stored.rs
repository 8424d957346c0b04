//! A snapshot as a store keeps it: nothing twice, neither of what the snapshot says elsewhere nor of what is beside it.
//!
//! A store keeps whose snapshot it is, its definition, revision, state and times in columns, and gives them back with the
//! body. Times within are told from the time of the last change. What is written otherwise than it was when all was
//! written whole has another name than then, so that one reader reads both. `context` and `closure.at` are there by name:
//! SQL reads them. It owns no checksum and no secret: those are the store's.

mod read;
mod write;

use std::sync::Arc;

use serde::Serialize;

use crate::id::{DefinitionHash, InstanceId, MachineName, Revision, Subject, TenantId};
use crate::snapshot::Snapshot;
use crate::time::Timestamp;

pub use read::{StoredSnapshot, StoredWaiting};

/// What a store knows of a snapshot besides its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotPlace {
    pub tenant: TenantId,
    pub instance: InstanceId,
    pub machine: MachineName,
    pub version: u32,
    pub definition: DefinitionHash,
    pub subject: Option<Subject>,
    pub ordinal: u32,
    pub revision: Revision,
    /// As `Snapshot::state` says it.
    pub state: Arc<str>,
    pub closure_reason: Option<String>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// Where within a stored body what a timer brings is, by its number in `Snapshot::timers`.
pub fn pointer_to_payload(timer: usize) -> String {
    format!("/due/{timer}/3")
}

impl Snapshot {
    /// The body under which a store keeps this snapshot; `StoredSnapshot` reads it.
    pub fn stored(&self) -> impl Serialize {
        write::Body::of(self)
    }
}
