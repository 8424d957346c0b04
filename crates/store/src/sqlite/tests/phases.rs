//! Phases in a file: damage, older files, what operators see, and whether an index answers.

use kernel::commit::PhaseRow;
use kernel::flow::PhaseState;
use kernel::snapshot::SNAPSHOT_FORMAT;
use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};

use super::outbox::Dice;
use super::{Place, flip, quarantined};
use crate::contract::{Draft, at, id, machine, phase, tenant};
use crate::phase::{PhaseLine, PhaseQuery, WorkerQuery};
use crate::seal::{Cell, INSTANCES, PHASES};
use crate::sqlite::scan::Range;
use crate::sqlite::{phases, schema};
use crate::{MemoryStore, Outcome, Store};

fn all_of(store: &dyn Store) -> Vec<PhaseLine> {
    store.phases(&PhaseQuery::of(tenant("t"))).unwrap().data
}

#[test]
fn a_damaged_line_is_left_out_until_a_commit_writes_it_anew() {
    let columns = PHASES.columns.iter().copied();
    for column in columns.chain(["checksum"]) {
        let place = Place::new();
        let store = place.open();
        let row = PhaseRow { offered_at: Some(at(1)), kind: "gpu".into(), ..phase(0, PhaseState::Failed) };
        let draft = Draft::creation("a").phase(row.clone()).phase(phase(1, PhaseState::NotStarted));
        let after = draft.snapshot();
        assert_eq!(store.commit(&[draft.build()]), Ok(vec![Outcome::Committed]));
        let whole = all_of(&store);
        let raw = place.raw();
        flip(&raw, "phases", column);
        // A line that is not the tenant's any more is found when the one is asked for whose it seems to be.
        let whose = if column == "tenant" { "u" } else { "t" };
        for _ in 0..2 {
            let listed = store.phases(&PhaseQuery::of(tenant(whose))).unwrap().data;
            assert!(listed.iter().all(|line| *line == whole[1]), "{column}: {listed:?}");
            assert_eq!(all_of(&store), whole[1..], "{column}");
        }
        let found = quarantined(&raw);
        assert_eq!((found.len(), &*found[0].0), (1, "phases"), "{column}");
        let again = Draft::change(&after).phase(row);
        assert_eq!(store.commit(&[again.build()]), Ok(vec![Outcome::Committed]));
        assert_eq!(all_of(&store), whole, "{column}");
        let count: i64 = raw.query_row("SELECT count(*) FROM phases", (), |row| row.get(0)).unwrap();
        assert_eq!(count, 2, "{column}");
    }
}

/// As a program of then has saved it, of a machine with states.
const SNAPSHOT_OF_FORMAT_3: &str = r#"{"tenant":"t","instance":"a","machine":"order","version":1,"definition":"0000000000000000000000000000000000000000000000000000000000000000","subject":"ana","ordinal":1,"revision":4,"configuration":["open"],"context":{"n":1},"timers":[{"id":"after.2h","deadline":"2026-03-01T14:00:00.000Z"}],"created_at":"2026-03-01T12:00:00.000Z","updated_at":"2026-03-01T12:00:00.000Z","looping":{"from":"a","to":"b","event":"go","count":4,"until":"2026-03-01T13:00:00.000Z"},"dead_end":true}"#;

/// A file of the second step with one instance, sealed as it was then.
fn file_of_step_2(place: &Place) -> Connection {
    let raw = place.raw();
    for step in &schema::STEPS[..2] {
        raw.execute_batch(step.sql).unwrap();
    }
    raw.pragma_update(None, "user_version", 2).unwrap();
    let noon = 1_772_366_400_000;
    let text = |text: &'static str| Cell::Text(text.as_bytes());
    let values = [
        text("t"),
        text("a"),
        Cell::Integer(3),
        text("order"),
        Cell::Integer(1),
        text("0000000000000000000000000000000000000000000000000000000000000000"),
        text("ana"),
        Cell::Integer(1),
        Cell::Integer(4),
        text("open"),
        Cell::Null,
        Cell::Integer(noon),
        Cell::Integer(noon),
        text(SNAPSHOT_OF_FORMAT_3),
    ];
    let columns = INSTANCES.columns.join(", ");
    let marks = vec!["?"; values.len()].join(", ");
    let insert = format!(
        "INSERT INTO instances ({columns}, wake_at, checksum) VALUES ({marks}, 1772373600000, {})",
        INSTANCES.checksum(&values)
    );
    assert_eq!(raw.execute(&insert, params_from_iter(values.map(value))), Ok(1));
    raw
}

fn value(cell: Cell<'_>) -> Value {
    match cell {
        Cell::Integer(number) => Value::Integer(number),
        Cell::Text(bytes) => Value::Text(String::from_utf8(bytes.to_vec()).unwrap()),
        _ => Value::Null,
    }
}

#[test]
fn a_file_of_step_2_is_carried_over_with_its_instances() {
    let place = Place::new();
    let raw = file_of_step_2(&place);
    let store = place.open();
    let (t, a) = (tenant("t"), id("a"));
    let carried = store.load(&t, &a).unwrap().unwrap();
    assert_eq!(serde_json::to_string(&carried).unwrap(), SNAPSHOT_OF_FORMAT_3);
    assert_eq!((carried.flow.clone(), all_of(&store)), (None, vec![]));
    let version: u32 = raw.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
    assert_eq!(version, schema::STEPS.len() as u32);

    let next = Draft::change(&carried).key("next").phase(phase(0, PhaseState::NotStarted));
    let after = next.snapshot();
    assert_eq!(store.commit(&[next.build()]), Ok(vec![Outcome::Committed]));
    drop(store);
    let store = place.open();
    assert_eq!(store.load(&t, &a), Ok(Some(after)));
    assert_eq!(all_of(&store).len(), 1, "a second opening changes nothing");
    let format: u32 = raw.query_row("SELECT format FROM instances", (), |row| row.get(0)).unwrap();
    assert_eq!(format, SNAPSHOT_FORMAT);
    assert_eq!(quarantined(&raw), []);
}

#[test]
fn operators_see_phases_with_their_flows() {
    let place = Place::new();
    let store = place.open();
    let failed = PhaseRow {
        since: at(1_767_225_600_007),
        attempts: 3,
        retries: 2,
        error: Some("FULL".into()),
        ..phase(0, PhaseState::Failed)
    };
    let offered = PhaseRow {
        offered_at: Some(at(1_767_225_601_000)),
        kind: "gpu".into(),
        worker: Some("w".into()),
        ..phase(1, PhaseState::NotStarted)
    };
    let draft = Draft::creation("a").machine("import").state("in_error").phase(failed).phase(offered);
    let beside = Draft::creation("s").tenant("t~shadow").phase(phase(0, PhaseState::Failed));
    assert_eq!(store.commit(&[draft.build(), beside.build()]), Ok(vec![Outcome::Committed; 2]));
    let raw = place.raw();
    let mut select = raw.prepare("SELECT * FROM flow_phases ORDER BY place").unwrap();
    assert_eq!(
        select.column_names().collect::<Vec<_>>().join(" | "),
        "tenant | flow_id | flow | flow_status | place | phase | phase_state | since | attempts | retries | \
         error_code | offered_at | worker_kind | worker"
    );
    let lines = select.query_map((), |row| {
        let texts = (0..14).map(|column| match row.get(column)? {
            Value::Text(text) => Ok(text),
            Value::Integer(number) => Ok(number.to_string()),
            _ => Ok("-".to_owned()),
        });
        Ok(texts.collect::<rusqlite::Result<Vec<_>>>()?.join(" | "))
    });
    let lines: Vec<String> = lines.unwrap().map(Result::unwrap).collect();
    assert_eq!(
        lines,
        [
            "t | a | import | in_error | 0 | p0 | failed | 2026-01-01T00:00:00.007Z | 3 | 2 | FULL | - |  | -",
            "t | a | import | in_error | 1 | p1 | not_started | 1970-01-01T00:00:01.000Z | 0 | 0 | - | \
             2026-01-01T00:00:01.000Z | gpu | w",
        ]
    );
}

type Narrow = fn(&mut PhaseQuery);

/// Most flows are over, and most phases of the others are done or wait: none of them may make a claim slow.
#[test]
fn what_is_asked_of_phases_is_answered_by_an_index() {
    let place = Place::new();
    drop(place.open());
    let raw = place.raw();
    let worker = |q: &mut PhaseQuery| {
        q.for_worker = Some(WorkerQuery { now: at(9), kind: "k".into() });
    };
    let cases: [(Narrow, &str); 11] = [
        (|_| {}, "phases_by_flow"),
        (|q| q.cursor = Some("1:a".into()), "phases_by_flow"),
        (|q| q.instance = Some(id("a")), "phases_by_flow"),
        (|q| q.state = Some(PhaseState::Failed), "phases_by_state"),
        (|q| q.error = Some("FULL".into()), "phases_by_error"),
        (|q| (q.state, q.since_before) = (Some(PhaseState::Failed), Some(at(9))), "phases_by_state"),
        (|q| q.lease = Some("l".into()), "phases_by_lease"),
        (|q| q.min_retries = Some(3), "phases_retried"),
        (worker, "phases_offered"),
        (
            |q| {
                q.for_worker = Some(WorkerQuery { now: at(9), kind: String::new() });
                q.cursor = Some("1:1:a".into());
            },
            "phases_offered",
        ),
        (
            |q| {
                q.for_worker = Some(WorkerQuery { now: at(9), kind: String::new() });
                q.machine = Some(machine("import"));
            },
            "phases_offered",
        ),
    ];
    for (narrow, index) in cases {
        let mut query = PhaseQuery::of(tenant("t"));
        narrow(&mut query);
        let statement = phases::statement(&query, Range { after: query.cursor.as_deref(), until: None });
        let mut select = raw.prepare(&format!("EXPLAIN QUERY PLAN {}", statement.sql)).unwrap();
        let plan = select.query_map(params_from_iter(&statement.values), |row| row.get::<_, String>(3));
        let plan: Vec<String> = plan.unwrap().map(Result::unwrap).collect();
        assert!(plan[0].contains(&format!("INDEX {index} (tenant=?")), "{query:?}: {plan:?}");
        assert_eq!(plan.len(), 1, "nothing is sorted for {query:?}: {plan:?}");
    }
}

/// The file filters and sorts with statements, memory by looking at each line. Whatever is asked, they agree.
#[test]
fn the_file_and_memory_list_the_same_phases() {
    for seed in 0..4 {
        let place = Place::new();
        let (file, memory) = (place.open(), MemoryStore::new());
        let mut dice = Dice(seed);
        let mut heads: Vec<_> = ["a", "a:1", "b"].map(Draft::creation).into();
        for step in 0..60 {
            let which = dice.below(3) as usize;
            let mut draft = heads[which].clone();
            for _ in 0..dice.below(4) {
                draft = draft.phase(any_phase(&mut dice));
            }
            heads[which] = Draft::change(&draft.snapshot());
            let batch = [draft.build()];
            assert_eq!(file.commit(&batch), Ok(vec![Outcome::Committed]));
            assert_eq!(memory.commit(&batch), Ok(vec![Outcome::Committed]));
            let mut query = any_query(&mut dice);
            loop {
                let page = file.phases(&query).unwrap();
                assert_eq!(Ok(&page), memory.phases(&query).as_ref(), "seed {seed}, step {step}: {query:?}");
                query.cursor = page.next;
                if query.cursor.is_none() {
                    break;
                }
            }
        }
        assert_eq!(file.statistics(), memory.statistics());
    }
}

fn any_phase(dice: &mut Dice) -> PhaseRow {
    let mut one_of = |texts: [&str; 3]| texts[dice.below(3) as usize].to_owned();
    let (kind, lease, error) = (one_of(["", "cpu", "gpu"]), one_of(["", "l", "m"]), one_of(["", "E", "F"]));
    let mut number = || dice.below(4) as u32;
    let offered_at = Some(number()).filter(|at| *at > 0).map(|ms| at(ms.into()));
    PhaseRow {
        since: at(number().into()),
        attempts: number(),
        retries: number(),
        offered_at,
        kind: kind.into(),
        lease: Some(lease).filter(|lease| !lease.is_empty()),
        error: Some(error).filter(|error| !error.is_empty()),
        ..phase(number() as u16, PhaseState::ALL[number() as usize])
    }
}

/// Each condition a quarter of the time.
fn any_query(dice: &mut Dice) -> PhaseQuery {
    let limit = 1 + dice.below(5) as usize;
    let mut number = || Some(dice.below(4) as u32).filter(|_| dice.below(4) == 0);
    PhaseQuery {
        instance: number().map(|n| id(["a", "a:1", "b", "c"][n as usize])),
        phase: number().map(|n| format!("p{n}")),
        state: number().map(|n| PhaseState::ALL[n as usize]),
        for_worker: number()
            .map(|n| WorkerQuery { now: at(n.into()), kind: ["", "cpu", "gpu", "x"][n as usize].into() }),
        lease: number().map(|n| ["l", "m", "n", ""][n as usize].into()),
        error: number().map(|n| ["E", "F", "G", ""][n as usize].into()),
        min_attempts: number(),
        min_retries: number(),
        since_before: number().map(|n| at(n.into())),
        limit,
        ..PhaseQuery::of(tenant("t"))
    }
}
