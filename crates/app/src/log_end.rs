//! The end of a log: the newest entries of an instance, from wherever somebody looks back.
//!
//! However long a log is, as much of it is read as is wanted; only who looks back from a revision that is long past has
//! what came after it passed over.

use engine::{Engine, EngineError};
use kernel::commit::Entry;
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
    if !is_first || page.data.first().is_none_or(|newest| newest.revision <= snapshot.revision) {
        return Ok(page);
    }
    match pass_over(engine, snapshot, query.clone())? {
        None => Ok(Page { data: Vec::new(), next: None }),
        cursor => Ok(engine.store().history(&HistoryQuery { cursor, ..query })?),
    }
}

/// The cursor behind the entries that are newer than the snapshot; `None` if no entry is older.
fn pass_over(
    engine: &Engine,
    snapshot: &Snapshot,
    mut query: HistoryQuery,
) -> Result<Option<String>, EngineError> {
    loop {
        query.limit = PASSED_OVER;
        let page = engine.store().history(&query)?;
        let newer = page.data.iter().take_while(|entry| entry.revision > snapshot.revision).count();
        if newer == 0 {
            return Ok(query.cursor);
        }
        if newer < page.data.len() {
            query.limit = newer;
            return Ok(engine.store().history(&query)?.next);
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
    use kernel::id::{InputKey, InstanceId, MachineName, Revision, TenantId};
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
        let (engine, newest) = with_log_of(2_100);
        for (revision, expected) in [(1_500, vec![1_500, 1_499]), (7, vec![7, 6]), (1, vec![1])] {
            let past = Snapshot { revision: Revision(revision), ..newest.clone() };
            let page = back_from(&engine, &past, None, 2).expect("it can be read");
            assert_eq!(revisions(&page), expected);
            assert_eq!(page.next.is_some(), revision > 2);
        }
    }
}
