//! How long who reads keeps the log, and what becomes of a log that is kept.

use std::time::{Duration, Instant};

use kernel::conversation::ClarificationStatus;
use kernel::flow::PhaseState;
use kernel::snapshot::StuckBy;
use rusqlite::params_from_iter;
use serde_json::json;

use super::{Place, fill};
use crate::Secrets;
use crate::contract::{Draft, at, machine, phase, tenant};
use crate::phase::{PhaseQuery, WorkerQuery};
use crate::query::{ClarificationQuery, InstanceQuery};
use crate::sqlite::scan::{self, List, Range};
use crate::sqlite::{failure, read, readers};
use crate::{EffectQuery, LoadError, Outcome, SqliteOptions, SqliteStore, Store};

const LONG: Duration = Duration::from_secs(600);

/// All pages of a list, each read within the budget.
fn pages<L: List>(store: &SqliteStore, list: &L, limit: usize, budget: Duration) -> Vec<Vec<String>> {
    let mut cursor: Option<String> = None;
    let mut pages = Vec::new();
    loop {
        let (page, damaged) = store
            .readers
            .ask(|reader| scan::page(reader, (list, &Secrets::Refused), cursor.as_deref(), limit, budget))
            .unwrap();
        assert!(damaged.is_empty());
        pages.push(page.data.iter().map(|record| list.cursor_of(record)).collect());
        cursor = page.next;
        if cursor.is_none() {
            return pages;
        }
    }
}

/// A budget that is over before it begins makes every list go step by step, down to single keys.
fn assert_alike<L: List>(store: &SqliteStore, list: &L, expected: usize) {
    for limit in [1, 7, 1_000] {
        let at_once = pages(store, list, limit, LONG);
        assert_eq!(at_once.concat().len(), expected);
        assert_eq!(pages(store, list, limit, Duration::ZERO), at_once, "by {limit}");
    }
}

#[test]
fn a_list_that_is_read_in_steps_is_the_same_page_by_page() {
    let place = Place::new();
    let store = place.open();
    for n in 0..240_i64 {
        let draft = Draft::creation(&format!("i-{:03}", n * 7 % 240)).at(1_000 + n / 3);
        let draft = draft.tenant(if n % 4 == 0 { "u" } else { "t" });
        let draft = draft.machine(if n % 40 == 1 { "rare" } else { "order" }).effect("e");
        let draft = draft.question(&format!("q-{n}"), ClarificationStatus::Pending);
        let draft = if n % 20 == 2 { draft.timer(n) } else { draft };
        let draft = if n % 30 == 3 { draft.dead_end() } else { draft };
        let draft = if n % 60 == 5 { draft.looping(9_000) } else { draft };
        let draft = (0..3).fold(draft, |draft, place| {
            let mut row = phase(place, if n % 24 == 1 { PhaseState::Failed } else { PhaseState::NotStarted });
            row.offered_at = (place == 1).then(|| at(500 + n % 5));
            draft.phase(row)
        });
        assert_eq!(store.commit(&[draft.build()]), Ok(vec![Outcome::Committed]));
    }
    let t = tenant("t");
    let all = InstanceQuery::of(t.clone());
    assert_alike(&store, &all, 180);
    assert_alike(&store, &InstanceQuery { machine: Some(machine("rare")), ..all.clone() }, 6);
    assert_alike(&store, &InstanceQuery { machine: Some(machine("none")), ..all.clone() }, 0);
    assert_alike(&store, &InstanceQuery::of(tenant("v")), 0);
    let by = |overdue: i64, silent: i64| StuckBy { overdue_since: at(overdue), silent_since: at(silent) };
    for (stuck_by, expected) in [(by(0, 0), 8), (by(200, 0), 18), (by(200, 1_010), 37)] {
        assert_alike(&store, &InstanceQuery { stuck_by: Some(stuck_by), ..all.clone() }, expected);
    }
    assert_alike(&store, &InstanceQuery { looping_at: Some(at(8_999)), ..all.clone() }, 4);
    assert_alike(&store, &InstanceQuery { looping_at: Some(at(9_000)), ..all.clone() }, 0);
    let questions = ClarificationQuery { tenant: t.clone(), status: None, id: None, cursor: None, limit: 10 };
    assert_alike(&store, &questions, 180);
    let answered = Some(ClarificationStatus::Answered);
    assert_alike(&store, &ClarificationQuery { status: answered, ..questions }, 0);
    assert_alike(&store, &EffectQuery::of(t.clone()), 180);
    assert_alike(&store, &EffectQuery::of(tenant("u")), 60);
    let phases = PhaseQuery::of(t.clone());
    assert_alike(&store, &phases, 540);
    assert_alike(&store, &PhaseQuery { state: Some(PhaseState::Failed), ..phases.clone() }, 30);
    let worker = WorkerQuery { now: at(9_000), kind: String::new() };
    assert_alike(&store, &PhaseQuery { for_worker: Some(worker), ..phases }, 180);
}

#[test]
fn what_is_stuck_or_goes_in_circles_is_found_without_going_through_all() {
    let place = Place::new();
    let store = place.open();
    let all = InstanceQuery::of(tenant("t"));
    let stuck_by = Some(StuckBy { overdue_since: at(1), silent_since: at(1) });
    let ranges = [(None, None), (Some("m"), None), (Some("m"), Some("c"))];
    for (query, indices) in [
        (InstanceQuery { stuck_by, ..all.clone() }, &["instances_by_wake_at", "instances_timeless"][..]),
        (InstanceQuery { looping_at: Some(at(1)), ..all.clone() }, &["instances_looping"]),
        (InstanceQuery { looping_at: Some(at(1)), stuck_by, ..all.clone() }, &[]),
    ] {
        for (after, until) in ranges {
            let plan = store.read(|connection| {
                let wanted = read::instances_within(connection, &query, Range { after, until })?;
                let sql =
                    format!("EXPLAIN QUERY PLAN SELECT t.body FROM instances AS t WHERE {}", wanted.sql);
                let mut select = connection.prepare(&(sql + " ORDER BY t.id DESC"))?;
                let plan = select.query_map(params_from_iter(&wanted.values), |row| row.get(3))?;
                plan.collect::<rusqlite::Result<Vec<String>>>()
            });
            let plan = plan.unwrap().join("; ");
            assert!(!plan.contains("SCAN") && !plan.contains("instances_by_id"), "{plan}");
            assert!(indices.iter().all(|index| plan.contains(index)), "{plan}");
        }
    }
}

fn impatient(place: &Place) -> SqliteStore {
    let options = SqliteOptions {
        log_bytes_max: 8 << 20,
        reading_max: Duration::from_millis(100),
        ..SqliteOptions::default()
    };
    SqliteStore::open_as(&place.path(), options).unwrap()
}

/// Writes a megabyte at a time until `is_so`.
fn write_until(store: &SqliteStore, name: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    for number in 0.. {
        if is_so() {
            return;
        }
        assert!(began.elapsed() < Duration::from_secs(60), "{name}: it never was so");
        let draft = Draft::creation(&format!("{name}-{number}")).context("large", json!("x".repeat(1 << 20)));
        assert_eq!(store.commit(&[draft.build()]), Ok(vec![Outcome::Committed]));
    }
}

#[test]
fn who_reads_for_long_is_cut_short_before_the_log_grows_beyond_its_limit() {
    let place = Place::new();
    let store = impatient(&place);
    fill(&store);
    let log = store.place.log_path();
    let bytes = || std::fs::metadata(&log).unwrap().len();
    let (begun, has_begun) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        let reading = scope.spawn(|| {
            let answer = store.read(|connection| {
                begun.send(()).unwrap();
                // Some minutes, for a test that fails and would wait for it.
                let endless =
                    "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 300000000)
                               SELECT count(*) FROM n, (SELECT count(*) FROM log)";
                connection.query_row(endless, (), |row| row.get::<_, i64>(0))
            });
            answer.map_err(failure::at_load)
        });
        has_begun.recv().unwrap();
        write_until(&store, "w", || reading.is_finished());
        let answer = reading.join().unwrap();
        let Err(LoadError::Unavailable(why)) = &answer else { panic!("{answer:?}") };
        assert!(why.contains("cut short; ask for less"), "{why}");
    });
    let most = bytes();
    // Now that nobody reads, writing on makes it no longer.
    let (mut turns, mut longest) = (0, 0);
    write_until(&store, "v", || {
        turns += 1;
        longest = longest.max(bytes());
        turns > 100
    });
    assert!(longest < most.max(64 << 20), "{longest} after {most}");
    assert_eq!(store.info().notes, [""; 0]);
}

#[test]
fn a_log_is_cut_when_nothing_is_written_any_more() {
    let place = Place::new();
    let store = place.open();
    // Far below the limit, and longer than what is left alone.
    let raw = place.raw();
    raw.execute_batch("BEGIN; SELECT count(*) FROM log").unwrap();
    write_until(&store, "w", || store.place.log_bytes() > 6 << 20);
    raw.execute_batch("COMMIT").unwrap();
    let began = Instant::now();
    while store.place.log_bytes() > 0 {
        assert!(began.elapsed() < Duration::from_secs(60), "{} bytes are left", store.place.log_bytes());
        std::thread::yield_now();
    }
    assert_eq!(store.info().notes, [""; 0]);
}

#[test]
fn a_reader_outside_is_told_of_and_afterwards_the_log_is_cut() {
    let place = Place::new();
    let store = impatient(&place);
    fill(&store);
    let raw = place.raw();
    raw.execute_batch("BEGIN; SELECT count(*) FROM log").unwrap();
    write_until(&store, "w", || !store.info().notes.is_empty());
    let notes = store.info().notes;
    let expected = "MiB and grows: somebody outside this server holds a read transaction on the file, such as an sqlite3 \
                    shell or a copy under way; end it";
    assert!(matches!(&*notes, [note] if note.ends_with(expected)), "{notes:?}");
    assert!(store.place.log_bytes() > 8 << 20);
    raw.execute_batch("COMMIT").unwrap();
    let began = Instant::now();
    while store.place.log_bytes() > 0 || !store.info().notes.is_empty() {
        assert!(began.elapsed() < Duration::from_secs(60), "it was never cut: {:?}", store.info().notes);
        std::thread::yield_now();
    }
    assert_eq!(store.commit(&[Draft::creation("last").build()]), Ok(vec![Outcome::Committed]));
    assert_eq!(store.info().notes, [""; 0], "the cut is none of somebody else's commits");
}

/// More steps than are between two looks at the clock.
fn much(connection: &rusqlite::Connection) -> rusqlite::Result<i64> {
    let much =
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 10000) SELECT count(*) FROM n";
    connection.query_row(much, (), |row| row.get(0))
}

#[test]
fn who_reads_aside_rests_while_others_are_busy_and_can_be_cut_short() {
    let place = Place::new();
    let store = place.open();
    let (looked, looks) = std::sync::mpsc::channel();
    let mut left = 3;
    let are_busy = move || {
        let _ = looked.send(left);
        left = (left - 1).max(0);
        left > 0
    };
    assert_eq!(store.readers.ask_aside(are_busy, much), Ok(10_000));
    assert_eq!(looks.try_iter().take(3).collect::<Vec<_>>(), [3, 2, 1]);
    std::thread::scope(|scope| {
        let resting = scope.spawn(|| store.readers.ask_aside(|| true, much));
        let began = Instant::now();
        while !resting.is_finished() {
            assert!(began.elapsed() < Duration::from_secs(60), "it was never cut short");
            store.readers.cut_short(Duration::ZERO);
            std::thread::yield_now();
        }
        assert!(resting.join().unwrap().is_err_and(|error| readers::is_interrupted(&error)));
    });
    assert!(!store.readers.has_older_than(Duration::ZERO));
}
