//! A snapshot as it comes back from a store.

use kernel::snapshot::{Closure, Snapshot, SnapshotPlace, StoredSnapshot, StoredWaiting};

pub fn body(snapshot: &Snapshot) -> String {
    serde_json::to_string(&snapshot.stored()).unwrap()
}

pub fn place(snapshot: &Snapshot) -> SnapshotPlace {
    let reason = |closure: &Closure| closure.reason.clone();
    SnapshotPlace {
        tenant: snapshot.tenant.clone(),
        instance: snapshot.instance.clone(),
        machine: snapshot.machine.clone(),
        version: snapshot.version,
        definition: snapshot.definition.clone(),
        subject: snapshot.subject.clone(),
        ordinal: snapshot.ordinal,
        revision: snapshot.revision,
        state: snapshot.state().into(),
        closure_reason: snapshot.closure.as_ref().map(reason),
        created_at: snapshot.created_at,
        updated_at: snapshot.updated_at,
    }
}

/// The snapshot, written and read in each way in which that is done: as text, as what was sealed is opened, and as
/// snapshots were written when all of them was.
pub fn restored(snapshot: &Snapshot) -> Snapshot {
    let body = body(snapshot);
    let read = |stored: StoredSnapshot| stored.restore(place(snapshot)).unwrap();
    let from_text = read(serde_json::from_str(&body).unwrap());
    assert_eq!(from_text, *snapshot, "{body}");
    let opened = read(serde_json::from_value(serde_json::from_str(&body).unwrap()).unwrap());
    assert_eq!(opened, *snapshot, "{body}");
    let whole = serde_json::to_string(snapshot).unwrap();
    assert_eq!(read(serde_json::from_str(&whole).unwrap()), *snapshot, "{whole}");
    let due = snapshot.wake_at().filter(|_| !snapshot.is_closed());
    for written in [body, whole] {
        let waiting: StoredWaiting = serde_json::from_str(&written).unwrap();
        assert_eq!(waiting.due_at(snapshot.updated_at), due, "{written}");
    }
    from_text
}
