//! An instance's past, decided on again from its log.
//!
//! Reads only. `retrace` goes through a log from its beginning, and whoever asks looks on: a story, a second decision by
//! other settings, or `check`, which says whether the past still comes out as it was stored.

mod check;
mod whole;

use std::sync::Arc;

use kernel::commit::{Answer, Commit, Entry, EntryCause};
use kernel::decide::decide;
use kernel::id::{DefinitionHash, Revision};
use kernel::input::{Cause, Input};
use kernel::machine::Machine;
use kernel::refusal::Refusal;
use kernel::snapshot::Snapshot;
use store::{HistoryQuery, InstanceQuery, LoadError, Store};

use crate::{Engine, Machines};

pub use check::{
    Difference, INSTANCES, INSTANCES_MAX, PastError, Replay, ReplayReport, ReplayStore, Verdict, at, replay,
    replay_all,
};
pub use whole::replay_store;

/// What the past is read from, and decided by.
#[derive(Clone, Copy)]
pub(crate) struct Past<'a> {
    pub store: &'a dyn Store,
    pub machines: &'a Machines,
}

impl Past<'_> {
    /// The inner error says that the definition is not known.
    fn machine(self, hash: &DefinitionHash) -> Result<Result<Arc<Machine>, String>, LoadError> {
        self.machines.learn(self.store, hash)?;
        let known = self.machines.by_hash(hash);
        Ok(known.ok_or_else(|| format!("the definition {} is not known here", hash.as_str())))
    }
}

impl Engine {
    pub(crate) fn past(&self) -> Past<'_> {
        Past { store: self.store(), machines: self.machines() }
    }
}

/// Read at a time.
const PAGE: usize = 1_000;

/// The log up to the snapshot's revision, oldest first, read as it is needed.
pub(crate) struct Log<'s> {
    store: &'s dyn Store,
    of: &'s Snapshot,
    page: std::vec::IntoIter<Entry>,
    cursor: Option<String>,
    is_over: bool,
}

impl<'s> Log<'s> {
    pub fn of(store: &'s dyn Store, of: &'s Snapshot) -> Self {
        Self { store, of, page: Vec::new().into_iter(), cursor: None, is_over: false }
    }

    fn turn(&mut self) -> Result<(), LoadError> {
        let query = HistoryQuery {
            cursor: self.cursor.take(),
            limit: PAGE,
            ..HistoryQuery::of(self.of.tenant.clone(), self.of.instance.clone())
        };
        let page = self.store.history(&query)?;
        self.page = page.data.into_iter();
        self.cursor = page.next;
        self.is_over = self.cursor.is_none();
        Ok(())
    }
}

impl Iterator for Log<'_> {
    type Item = Result<Entry, LoadError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.page.next() {
                // It may have gone on since the snapshot was loaded.
                Some(entry) if entry.revision > self.of.revision => {}
                Some(entry) => return Some(Ok(entry)),
                None if self.is_over => return None,
                None => {
                    if let Err(error) = self.turn() {
                        self.is_over = true;
                        return Some(Err(error));
                    }
                }
            }
        }
    }
}

/// The log up to the snapshot's revision, oldest first, at most so many entries.
pub(crate) fn log(store: &dyn Store, of: &Snapshot, most: usize) -> Result<Vec<Entry>, LoadError> {
    Log::of(store, of).take(most).collect()
}

/// Whether the input changed nothing but the log.
pub(crate) fn is_refused(entry: &Entry) -> bool {
    matches!(entry.answer, Answer::Refused(_))
}

/// Goes along a log and sees to it that nothing of it is missing.
struct Along<'s> {
    of: &'s Snapshot,
    revision: Revision,
}

impl<'s> Along<'s> {
    fn new(of: &'s Snapshot) -> Self {
        Self { of, revision: Revision::NONE }
    }

    /// The input that left the next entry, or why the past cannot be had from here on.
    fn step(&mut self, entry: &Entry) -> Result<Input, String> {
        let expected = if is_refused(entry) { self.revision } else { self.revision.next() };
        if entry.revision != expected || expected == Revision::NONE {
            return Err(match self.revision {
                Revision::NONE => {
                    format!(
                        "its log begins at revision {}; what was before is no longer kept",
                        entry.revision
                    )
                }
                last => format!("its log has nothing between revisions {last} and {}", entry.revision),
            });
        }
        self.revision = expected;
        entry.input(self.of).ok_or_else(|| {
            format!("the entry of revision {} was written before inputs were kept whole", entry.revision)
        })
    }

    fn end(&self) -> Result<(), String> {
        match self.revision {
            Revision::NONE => Err("nothing of its log is kept".to_owned()),
            _ => Ok(()),
        }
    }
}

/// Why a session cannot be told or decided again from these entries alone.
pub(crate) fn missing(of: &Snapshot, entries: &[Entry]) -> Option<String> {
    let mut along = Along::new(of);
    let steps = entries.iter().try_for_each(|entry| along.step(entry).map(drop));
    steps.and_then(|()| along.end()).err()
}

/// One entry of a log, with what its input is decided to come to again.
pub(crate) struct Step<'s> {
    /// Decided by this one.
    pub machine: &'s Machine,
    pub entry: &'s Entry,
    pub input: &'s Input,
    pub before: Option<&'s Snapshot>,
    pub decided: &'s Result<Commit, Refusal>,
}

/// Decides a log again from its beginning and shows every step, each by the definition that the instance had then; `look`
/// may say why it is no use to go on. Gives where the log leads. The inner error says why the past cannot be had, or what
/// `look` said.
pub(crate) fn retrace(
    past: Past<'_>,
    of: &Snapshot,
    log: impl Iterator<Item = Result<Entry, LoadError>>,
    mut look: impl FnMut(Step<'_>) -> Result<(), String>,
) -> Result<Result<Option<Snapshot>, String>, LoadError> {
    let mut along = Along::new(of);
    let mut machine = match past.machine(of.began_by.as_ref().unwrap_or(&of.definition))? {
        Ok(machine) => machine,
        Err(why) => return Ok(Err(why)),
    };
    let mut before = former(past.store, of)?;
    if before.is_none() && of.ordinal > 1 {
        return Ok(Err("the session before it is not known".to_owned()));
    }
    for entry in log {
        let entry = entry?;
        let input = match along.step(&entry) {
            Ok(input) => input,
            Err(why) => return Ok(Err(why)),
        };
        if let Some(to) = goes_on_by(&input, &entry) {
            match past.machine(to)? {
                Ok(next) => machine = next,
                Err(why) => return Ok(Err(why)),
            }
        }
        let decided = decide(&machine, before.as_ref(), &input, entry.at);
        let step = Step {
            machine: &machine,
            entry: &entry,
            input: &input,
            before: before.as_ref(),
            decided: &decided,
        };
        if let Err(why) = look(step) {
            return Ok(Err(why));
        }
        if let Ok(Commit { after: Some(after), .. }) = decided {
            before = Some(after);
        }
    }
    Ok(along.end().map(|()| before))
}

/// The definition that an input is decided by, if that is another than for the one before.
fn goes_on_by<'s>(input: &'s Input, entry: &'s Entry) -> Option<&'s DefinitionHash> {
    match (&input.cause, &entry.cause) {
        (Cause::Migrate { to, .. }, _) => Some(to),
        (_, Some(EntryCause::Again { definition, .. })) => definition.as_ref(),
        _ => None,
    }
}

/// The session of the same subject before this one, as it ended.
pub(crate) fn former(store: &dyn Store, of: &Snapshot) -> Result<Option<Snapshot>, LoadError> {
    if of.ordinal < 2 {
        return Ok(None);
    }
    let mut query = InstanceQuery {
        machine: Some(of.machine.clone()),
        subject: of.subject.clone(),
        limit: PAGE,
        ..InstanceQuery::of(of.tenant.clone())
    };
    loop {
        let page = store.instances(&query)?;
        let mut sessions = page.data.into_iter();
        if let Some(found) = sessions.find(|session| session.ordinal == of.ordinal - 1) {
            return Ok(Some(found));
        }
        query.cursor = page.next;
        if query.cursor.is_none() {
            return Ok(None);
        }
    }
}
