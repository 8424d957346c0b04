//! A dossier: one instance, whole, as values: what a store gives away of it, and what another takes in.
//!
//! Owns what belongs to an instance, and in which order. It knows no backend and no file: how a record of it looks is
//! told in `record`, and how many of them travel in `archive`.

use std::sync::Arc;

use kernel::commit::{Answer, Entry, PhaseRow};
use kernel::conversation::Clarification;
use kernel::id::Revision;
use kernel::snapshot::Snapshot;

use crate::outbox::OutboxEffect;
use crate::vault::parts;

/// All that a store knows of one instance, as it was at one moment. That a server is seeing to its timers is left out: a
/// claim ends with the store that it was made in.
#[derive(Clone, Debug, PartialEq)]
pub struct Dossier {
    pub snapshot: Snapshot,
    /// Oldest first.
    pub entries: Vec<Entry>,
    /// Oldest first.
    pub clarifications: Vec<Clarification>,
    /// By their places.
    pub phases: Vec<PhaseRow>,
    /// Oldest first, with how far each has come.
    pub effects: Vec<OutboxEffect>,
    /// The fields of the context that are secret and there, if anything of it is sealed: then all of it is that may hold
    /// copies of them.
    pub secrets: Option<Vec<Arc<str>>>,
}

/// What came of visiting all dossiers of a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gathered {
    pub instances: u64,
    /// Records that were left out because they are not what was saved; they are in quarantine.
    pub corrupt: u64,
    /// Whether all are of the same moment, and not only each of one.
    pub at_one_moment: bool,
}

impl Dossier {
    /// With nothing but the instance.
    pub(crate) fn of(snapshot: Snapshot) -> Self {
        Self {
            snapshot,
            entries: Vec::new(),
            clarifications: Vec::new(),
            phases: Vec::new(),
            effects: Vec::new(),
            secrets: None,
        }
    }

    /// Takes note of whether the body of one of its records is sealed, and of what of the context is.
    pub(crate) fn note_body(&mut self, body: &[u8]) {
        if let Some(fields) = parts::fields_sealed(body) {
            self.secrets.get_or_insert_default().extend(fields);
        }
    }

    /// Puts its questions in order; they are found by their ids.
    pub(crate) fn sort(&mut self) {
        self.clarifications.sort_by_key(|question| (question.created_at, question.revision));
    }
}

/// As `Commit::is_creation` of the commit that left this entry.
pub(crate) fn is_of_creation(entry: &Entry) -> bool {
    // A refusal has the revision that the instance had.
    let is_first = entry.revision == Revision(1) && !matches!(entry.answer, Answer::Refused(_));
    entry.is_again() || (is_first && entry.message.is_none())
}
