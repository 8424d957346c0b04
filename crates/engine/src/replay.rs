//! What a store still knows of an instance's past: its log, whole or not, and the session before it.
//!
//! Reads only. What is made of it is for whoever asks: a story, or a second decision.

use kernel::commit::{Answer, Entry};
use kernel::id::Revision;
use kernel::snapshot::Snapshot;
use store::{HistoryQuery, InstanceQuery, LoadError, Store};

/// Read at a time.
const PAGE: usize = 1_000;

/// The log up to the snapshot's revision, oldest first, at most so many entries.
pub(crate) fn log(store: &dyn Store, of: &Snapshot, most: usize) -> Result<Vec<Entry>, LoadError> {
    let mut entries = Vec::new();
    let mut cursor = None;
    while entries.len() < most {
        let query = HistoryQuery {
            tenant: of.tenant.clone(),
            instance: of.instance.clone(),
            cursor,
            limit: PAGE.min(most - entries.len()),
        };
        let page = store.history(&query)?;
        entries.extend(page.data);
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    // It may have gone on since the snapshot was loaded.
    entries.retain(|entry| entry.revision <= of.revision);
    Ok(entries)
}

/// Whether the input changed nothing but the log.
pub(crate) fn is_refused(entry: &Entry) -> bool {
    matches!(entry.answer, Answer::Refused(_))
}

/// Why a session cannot be told or decided again from these entries alone.
pub(crate) fn missing(of: &Snapshot, entries: &[Entry]) -> Option<String> {
    let mut revision = Revision::NONE;
    for entry in entries {
        let expected = if is_refused(entry) { revision } else { revision.next() };
        if entry.revision != expected || expected == Revision::NONE {
            return Some(match revision {
                Revision::NONE => {
                    format!(
                        "its log begins at revision {}; what was before is no longer kept",
                        entry.revision
                    )
                }
                last => format!("its log has nothing between revisions {last} and {}", entry.revision),
            });
        }
        if entry.input(of).is_none() {
            return Some(format!(
                "the entry of revision {} was written before inputs were kept whole",
                entry.revision
            ));
        }
        revision = expected;
    }
    (revision == Revision::NONE).then(|| "nothing of its log is kept".to_owned())
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
