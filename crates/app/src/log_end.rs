//! The end of a log: the newest entries of an instance, from wherever somebody looks back.
//!
//! However long a log is, as much of it is read as is wanted; only who looks back from a revision that is past has what
//! lies between it and the nearer end passed over.

use engine::{Engine, EngineError};
use kernel::commit::Entry;
use kernel::id::Revision;
use kernel::snapshot::Snapshot;
use store::{HistoryQuery, Page};

/// Entries that are passed over with one query.
const PASSED_OVER: usize = 1_000;

/// So many entries up to the revision of `snapshot`, the newest first; those behind `cursor`, if there is one.
///
/// # Errors
/// When the store cannot be read.
pub fn back_from(
    engine: &Engine,
    snapshot: &Snapshot,
    cursor: Option<String>,
    limit: usize,
) -> Result<Page<Entry>, EngineError> {
    let is_first = cursor.is_none();
    let of = HistoryQuery::of(snapshot.tenant.clone(), snapshot.instance.clone());
    let query = HistoryQuery { newest_first: true, cursor, limit, ..of };
    let page = engine.store().history(&query)?;
    let newest = page.data.first().map(|entry| entry.revision).filter(|newest| *newest > snapshot.revision);
    let Some(newest) = newest.filter(|_| is_first) else { return Ok(page) };
    // From whichever end is nearer.
    let is_nearer_the_end = newest.0 / 2 <= snapshot.revision.0;
    let of = HistoryQuery { newest_first: is_nearer_the_end, ..query.clone() };
    match place_of(engine, snapshot.revision, of)? {
        None => Ok(Page { data: Vec::new(), next: None }),
        cursor => Ok(engine.store().history(&HistoryQuery { cursor, ..query })?),
    }
}

/// The cursor between the entries up to a revision and those that are newer; `None` if there are not both.
fn place_of(
    engine: &Engine,
    revision: Revision,
    mut query: HistoryQuery,
) -> Result<Option<String>, EngineError> {
    loop {
        query.limit = PASSED_OVER;
        let page = engine.store().history(&query)?;
        let is_passed_over = |entry: &&Entry| (entry.revision > revision) == query.newest_first;
        let passed_over = page.data.iter().take_while(is_passed_over).count();
        if passed_over < page.data.len() {
            // A cursor stands behind the last newer entry, whichever way it is come upon.
            query.limit = if query.newest_first { passed_over } else { passed_over + 1 };
            let cursor = if query.limit == 0 { query.cursor } else { engine.store().history(&query)?.next };
            return match cursor {
                // That is the last entry of all: there is no cursor behind it on this way.
                None if !query.newest_first => {
                    place_of(engine, revision, HistoryQuery { newest_first: true, cursor: None, ..query })
                }
                cursor => Ok(cursor),
            };
        }
        query.cursor = page.next;
        if query.cursor.is_none() {
            return Ok(None);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use engine::{Clock, Machines, Settings};
    use kernel::definition;
    use kernel::id::{InputKey, InstanceId, MachineName, TenantId};
    use kernel::input::{Cause, Fields, Input, Start};
    use kernel::time::Timestamp;
    use store::{MemoryStore, Store};

    use super::*;

    /// An instance with so many entries.
    fn with_log_of(entries: usize) -> (Engine, Snapshot) {
        let source = "machine: m\ninitial: a\nstates:\n  a: { on: { again: { actions: [] } } }\n";
        let machine = definition::load(source).0.expect("the definition is well");
        let store = Arc::new(MemoryStore::new());
        let machines = Arc::new(Machines::default());
        let at = Timestamp::from_millis(1_000);
        let machine = machines.adopt(&*store, Arc::new(machine), at).expect("it can be adopted");
        let clock = Clock::virtual_at(at);
        let engine = Engine::start(store as Arc<dyn Store>, machines, clock, Settings::of_rehearsal());
        let instance = InstanceId::parse("i").expect("an id");
        let submit = |number: usize, cause: Cause| {
            let key = InputKey::parse(&format!("k{number}")).expect("a key");
            let tenant = TenantId::default_tenant();
            let input = Input { tenant, key, cause, expected: None, by: None, trace: None };
            engine.call(input).expect("it is taken");
        };
        let (id, context, start) = (Some(instance.clone()), Fields::default(), Start::default());
        let machine: MachineName = machine.name.clone();
        submit(1, Cause::Create { machine, id, subject: None, context, start });
        for number in 2..=entries {
            let (instance, payload) = (instance.clone(), Fields::default());
            submit(number, Cause::Event { instance, event: "again".to_owned(), payload });
        }
        let snapshot = engine.instance(&TenantId::default_tenant(), &instance).expect("it is there");
        (engine, snapshot)
    }

    fn revisions(page: &Page<Entry>) -> Vec<u64> {
        page.data.iter().map(|entry| entry.revision.0).collect()
    }

    #[test]
    fn the_newest_entries_come_first_however_long_the_log_is() {
        let (engine, snapshot) = with_log_of(1_100);
        let newest = back_from(&engine, &snapshot, None, 3).expect("it can be read");
        assert_eq!(revisions(&newest), [1_100, 1_099, 1_098]);
        let older = back_from(&engine, &snapshot, newest.next, 2).expect("it can be read");
        assert_eq!(revisions(&older), [1_097, 1_096]);
    }

    #[test]
    fn whoever_looks_back_from_a_revision_sees_nothing_that_came_later() {
        let of_long = [2_099, 1_500, 1_100, 1_051, 1_050, 1_049, 1_001, 1_000, 999, 7, 2, 1];
        for (entries, revisions_seen) in [(2_100, &of_long[..]), (3, &[2, 1]), (2, &[1])] {
            let (engine, newest) = with_log_of(entries);
            for seen in revisions_seen.iter().copied() {
                let past = Snapshot { revision: Revision(seen), ..newest.clone() };
                let page = back_from(&engine, &past, None, 2).expect("it can be read");
                let expected: Vec<u64> = (seen.max(2) - 1..=seen).rev().collect();
                assert_eq!(revisions(&page), expected, "of {entries}");
                assert_eq!(page.next.is_some(), seen > 2);
            }
        }
    }
}
