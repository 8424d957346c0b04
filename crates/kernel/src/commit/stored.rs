//! A log entry as a store keeps it: nothing twice, neither of what the entry says elsewhere nor of what is beside it.
//!
//! A store knows of an entry whose it is, its revision and its receipt, and gives them back with the body. Of the rest,
//! the answer leaves out what the entry says, and a trace is written in the letters of `conversation::sentence`. What
//! there is to read by SQL (`from`, `to`, `event`, `success`, `reason`, `at`, `key`) is there by name. Entries that were
//! written whole, as all once were, are read too. It owns no checksum and no secret: those are the store's.

mod read;
mod write;

use serde::Serialize;

use crate::commit::Entry;
use crate::id::{InstanceId, Revision};
use crate::input::ReceiptId;

pub use read::StoredEntry;

/// What a store knows of an entry besides its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryPlace {
    pub instance: InstanceId,
    pub revision: Revision,
    pub receipt: ReceiptId,
}

impl Entry {
    /// The body under which a store keeps this entry of `instance`; `StoredEntry` reads it.
    pub fn stored<'e>(&'e self, instance: &'e InstanceId) -> impl Serialize + 'e {
        write::Body::of(self, instance)
    }
}
