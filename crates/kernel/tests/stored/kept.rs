//! An entry as it comes back from a store.

use kernel::commit::{Commit, Entry, EntryPlace, StoredEntry};

pub fn body(commit: &Commit) -> String {
    serde_json::to_string(&commit.entry.stored(&commit.instance)).unwrap()
}

pub fn place(commit: &Commit) -> EntryPlace {
    let Entry { revision, receipt, .. } = commit.entry;
    EntryPlace { instance: commit.instance.clone(), revision, receipt }
}

/// The commit's entry, written and read in each way in which that is done: as text, as what was sealed is opened, and as
/// entries were written when all of them was.
pub fn kept(commit: &Commit) -> Entry {
    let body = body(commit);
    let read = |stored: StoredEntry| stored.restore(place(commit)).unwrap();
    let from_text = read(serde_json::from_str(&body).unwrap());
    assert_eq!(from_text, commit.entry, "{body}");
    let opened = read(serde_json::from_value(serde_json::from_str(&body).unwrap()).unwrap());
    assert_eq!(opened, commit.entry, "{body}");
    let whole = read(serde_json::from_str(&serde_json::to_string(&commit.entry).unwrap()).unwrap());
    assert_eq!(whole, commit.entry);
    from_text
}
