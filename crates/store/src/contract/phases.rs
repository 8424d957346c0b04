//! Phases of flows: saved with their commit, listed for people and found by workers.

use kernel::commit::PhaseRow;
use kernel::flow::PhaseState;
use kernel::id::TenantId;

use crate::contract::commits::committed;
use crate::contract::lists::all_pages;
use crate::contract::{Draft, Open, at, id, key_of, machine, phase, tenant};
use crate::phase::{PhaseLine, PhaseQuery, WorkerQuery};
use crate::{Outcome, Store};

fn offered(place: u16, ms: i64, kind: &str) -> PhaseRow {
    PhaseRow { offered_at: Some(at(ms)), kind: kind.into(), ..phase(place, PhaseState::NotStarted) }
}

fn lines(store: &dyn Store, query: &PhaseQuery) -> Vec<PhaseLine> {
    store.phases(query).expect("phases can be listed").data
}

fn all_of(store: &dyn Store, tenant: &TenantId) -> Vec<PhaseLine> {
    lines(store, &PhaseQuery::of(tenant.clone()))
}

/// As `flow/place`.
fn named(lines: &[PhaseLine]) -> Vec<String> {
    lines.iter().map(|line| format!("{}/{}", line.instance, line.row.place)).collect()
}

pub fn a_phase_is_listed_exactly_as_saved(open: Open<'_>) {
    let store = open();
    let full = PhaseRow {
        phase: "Überprüfung \u{1f600}".into(),
        place: u16::MAX,
        state: PhaseState::RetryNeeded,
        since: at(-1),
        attempts: u32::MAX,
        retries: u32::MAX - 1,
        error: Some("NO \"SPACE\"".into()),
        offered_at: Some(at(i64::MAX)),
        kind: "gpu, größer".into(),
        lease: Some(String::new()),
        worker: Some("w\u{0}1".into()),
    };
    for state in PhaseState::ALL {
        let name = format!("ü:{state}");
        let rows = [PhaseRow { state, ..full.clone() }, phase(0, state), phase(1, PhaseState::NotStarted)];
        let draft = rows.iter().fold(Draft::creation(&name).machine("import"), |d, r| d.phase(r.clone()));
        committed(&*store, draft);
        let query = PhaseQuery { instance: Some(id(&name)), ..PhaseQuery::of(tenant("t")) };
        let line = |row: &PhaseRow| PhaseLine {
            tenant: tenant("t"),
            instance: id(&name),
            machine: machine("import"),
            row: row.clone(),
        };
        let [last, first, second] = &rows;
        assert_eq!(lines(&*store, &query), [line(first), line(second), line(last)]);
    }
}

pub fn the_last_line_of_a_phase_is_kept(open: Open<'_>) {
    let store = open();
    let held = PhaseRow {
        lease: Some("l".into()),
        error: Some("E".into()),
        worker: Some("w".into()),
        retries: 3,
        ..offered(0, 1_000, "gpu")
    };
    let other = phase(1, PhaseState::NotStarted);
    let first = committed(&*store, Draft::creation("a").phase(held).phase(other.clone()));
    let untouched = committed(&*store, Draft::change(&first));
    let done = PhaseRow { since: at(2_000), ..phase(0, PhaseState::Completed) };
    let mut batch = vec![Draft::change(&untouched).phase(phase(0, PhaseState::InProgress))];
    batch.push(Draft::change(&batch[0].snapshot()).phase(done.clone()));
    let batch: Vec<_> = batch.into_iter().map(Draft::build).collect();
    assert_eq!(store.commit(&batch), Ok(vec![Outcome::Committed; 2]));
    let rows = |query: &PhaseQuery| -> Vec<PhaseRow> {
        lines(&*store, query).into_iter().map(|line| line.row).collect()
    };
    let all = PhaseQuery::of(tenant("t"));
    assert_eq!(rows(&all), [done, other]);
    for gone in [
        PhaseQuery { lease: Some("l".into()), ..all.clone() },
        PhaseQuery { min_retries: Some(1), ..all.clone() },
        PhaseQuery { for_worker: Some(WorkerQuery { now: at(9_000), kind: "gpu".into() }), ..all.clone() },
        PhaseQuery { state: Some(PhaseState::InProgress), ..all },
    ] {
        assert_eq!(rows(&gone), [], "{gone:?}");
    }
}

/// Neither a commit that comes too late nor a repeat nor a batch that fails leaves a line, nor changes one.
pub fn phases_are_saved_with_their_commit_or_not_at_all(open: Open<'_>) {
    let store = open();
    let before = phase(0, PhaseState::NotStarted);
    let first = committed(&*store, Draft::creation("a").session("zoe", 1).phase(before));
    committed(&*store, Draft::creation("s").session("ana", 1));
    let as_it_was = all_of(&*store, &tenant("t"));
    let change = |key: &str| {
        let draft = Draft::change(&first).key(key);
        draft.phase(phase(0, PhaseState::Failed)).phase(phase(1, PhaseState::Failed))
    };
    let mut late = change("late").build();
    late.expected = late.expected.next();
    let after = late.after.as_mut().expect("a change has an after");
    after.revision = after.revision.next();
    late.entry.revision = after.revision;
    assert_eq!(store.commit(&[late]), Ok(vec![Outcome::Stale]));
    let repeat = store.commit(&[change("a-1").build()]);
    assert!(matches!(repeat.as_deref(), Ok([Outcome::Duplicate(_)])), "{repeat:?}");
    let taken = Draft::creation("b").session("ana", 1).phase(phase(0, PhaseState::Failed));
    assert_eq!(store.commit(&[taken.build()]), Ok(vec![Outcome::Stale]));
    assert_eq!(all_of(&*store, &tenant("t")), as_it_was);

    let ruinous = Draft::creation("c").session("ben", 1).asks("c:1").asks("c:2");
    let batch = [change("k").build(), ruinous.build()];
    assert!(store.commit(&batch).is_err());
    assert_eq!(all_of(&*store, &tenant("t")), as_it_was);
    assert_eq!(store.commit(&batch[..1]), Ok(vec![Outcome::Committed]));
    assert_eq!(named(&all_of(&*store, &tenant("t"))), ["a/0", "a/1"]);
}

type Narrow = fn(&mut PhaseQuery);

pub fn phases_filter_and_page(open: Open<'_>) {
    use PhaseState::{Completed, Failed, InProgress, NotStarted};
    let store = open();
    let failed = PhaseRow {
        since: at(2_000),
        attempts: 4,
        retries: 3,
        error: Some("TIMEOUT".into()),
        ..phase(1, Failed)
    };
    let leased = PhaseRow { attempts: 1, lease: Some("l".into()), ..phase(0, InProgress) };
    // In another order than that of the list.
    let a = Draft::creation("a").machine("import").phase(phase(2, NotStarted)).phase(phase(0, Completed));
    committed(&*store, a.phase(failed.clone()));
    let c = PhaseRow { since: at(3_000), retries: 1, error: Some("FULL".into()), ..failed };
    committed(&*store, Draft::creation("c").machine("export").phase(leased).phase(c));
    let b = PhaseRow { phase: "audit".into(), ..phase(10, NotStarted) };
    committed(&*store, Draft::creation("b").machine("import").phase(b).phase(phase(9, Completed)));

    let cases: [(Narrow, &[&str]); 23] = [
        (|_| {}, &["c/0", "c/1", "b/9", "b/10", "a/0", "a/1", "a/2"]),
        (|q| q.machine = Some(machine("import")), &["b/9", "b/10", "a/0", "a/1", "a/2"]),
        (|q| q.machine = Some(machine("none")), &[]),
        (|q| q.instance = Some(id("b")), &["b/9", "b/10"]),
        (|q| q.phase = Some("p1".into()), &["c/1", "a/1"]),
        (|q| q.phase = Some("audit".into()), &["b/10"]),
        (|q| q.state = Some(Failed), &["c/1", "a/1"]),
        (|q| q.state = Some(Completed), &["b/9", "a/0"]),
        (|q| q.lease = Some("l".into()), &["c/0"]),
        (|q| q.lease = Some(String::new()), &[]),
        (|q| q.error = Some("TIMEOUT".into()), &["a/1"]),
        (|q| q.min_attempts = Some(1), &["c/0", "c/1", "a/1"]),
        (|q| q.min_attempts = Some(4), &["c/1", "a/1"]),
        (|q| q.min_attempts = Some(5), &[]),
        (|q| q.min_retries = Some(0), &["c/0", "c/1", "b/9", "b/10", "a/0", "a/1", "a/2"]),
        (|q| q.min_retries = Some(1), &["c/1", "a/1"]),
        (|q| q.min_retries = Some(3), &["a/1"]),
        (|q| (q.state, q.since_before) = (Some(Failed), Some(at(2_000))), &[]),
        (|q| (q.state, q.since_before) = (Some(Failed), Some(at(2_001))), &["a/1"]),
        (|q| (q.state, q.machine) = (Some(Failed), Some(machine("export"))), &["c/1"]),
        (|q| q.cursor = Some("9:b".into()), &["b/10", "a/0", "a/1", "a/2"]),
        (|q| q.cursor = Some("no cursor of ours".into()), &[]),
        // Of a list for a worker.
        (|q| q.cursor = Some("1767225600000:9:b".into()), &[]),
    ];
    for (number, (narrow, expected)) in cases.into_iter().enumerate() {
        let mut query = PhaseQuery::of(tenant("t"));
        narrow(&mut query);
        assert_eq!(named(&lines(&*store, &query)), expected, "case {number}: {query:?}");
    }
    let expected = ["c/0", "c/1", "b/9", "b/10", "a/0", "a/1", "a/2"].map(str::to_owned).to_vec();
    for (limit, pages) in [(2, vec![2, 2, 2, 1]), (7, vec![7]), (100, vec![7])] {
        let mut query = PhaseQuery { limit, ..PhaseQuery::of(tenant("t")) };
        let (sizes, all) = all_pages(|cursor| {
            query.cursor = cursor;
            store.phases(&query)
        });
        assert_eq!((sizes, named(&all)), (pages, expected.clone()), "{limit} a page");
    }
}

pub fn workers_are_given_the_longest_offered_first(open: Open<'_>) {
    let store = open();
    let a = Draft::creation("a").phase(offered(0, 2_000, "")).phase(offered(1, 3_000, "gpu"));
    committed(&*store, a.phase(phase(2, PhaseState::NotStarted)));
    // A colon is in many ids, and cursors have colons too.
    let b =
        Draft::creation("b:1").machine("import").phase(offered(3, 2_000, "")).phase(offered(1, 2_000, ""));
    committed(&*store, b.phase(offered(0, 4_000, "")));
    committed(&*store, Draft::creation("c").phase(offered(0, 1_000, "cpu")).phase(offered(1, 1_500, "gpu")));
    let query = |now: i64, kind: &str| PhaseQuery {
        for_worker: Some(WorkerQuery { now: at(now), kind: kind.to_owned() }),
        ..PhaseQuery::of(tenant("t"))
    };
    for (now, kind, expected) in [
        (999, "cpu", &[] as &[&str]),
        (1_000, "cpu", &["c/0"]),
        (1_000, "gpu", &[]),
        (1_000, "", &[]),
        (2_000, "", &["a/0", "b:1/1", "b:1/3"]),
        (2_999, "gpu", &["c/1", "a/0", "b:1/1", "b:1/3"]),
        (9_000, "gpu", &["c/1", "a/0", "b:1/1", "b:1/3", "a/1", "b:1/0"]),
        (9_000, "cpu", &["c/0", "a/0", "b:1/1", "b:1/3", "b:1/0"]),
        (9_000, "tpu", &["a/0", "b:1/1", "b:1/3", "b:1/0"]),
    ] {
        assert_eq!(named(&lines(&*store, &query(now, kind))), expected, "`{kind}` at {now}");
    }
    let of_import = PhaseQuery { machine: Some(machine("import")), ..query(9_000, "gpu") };
    assert_eq!(named(&lines(&*store, &of_import)), ["b:1/1", "b:1/3", "b:1/0"]);
    for limit in 1..=6 {
        let mut query = PhaseQuery { limit, ..query(9_000, "gpu") };
        let (_, all) = all_pages(|cursor| {
            query.cursor = cursor;
            store.phases(&query)
        });
        assert_eq!(named(&all), ["c/1", "a/0", "b:1/1", "b:1/3", "a/1", "b:1/0"], "{limit} a page");
    }
    let astray = PhaseQuery { cursor: Some("1:a".into()), ..query(9_000, "gpu") };
    assert_eq!(named(&lines(&*store, &astray)), [""; 0], "the cursor of another list");
}

/// Flows, phases, leases: all may be called the same.
pub fn tenants_have_phases_of_their_own(open: Open<'_>) {
    let store = open();
    let make = |name: &str, state| {
        let row = PhaseRow { lease: Some("l".into()), retries: 1, state, ..offered(0, 1_000, "") };
        committed(&*store, Draft::creation("a").tenant(name).key(name).phase(row))
    };
    make("one", PhaseState::NotStarted);
    let two = make("two", PhaseState::RetryNeeded);
    let narrow: [Narrow; 6] = [
        |_| {},
        |q| q.instance = Some(id("a")),
        |q| q.lease = Some("l".into()),
        |q| q.min_retries = Some(1),
        |q| q.for_worker = Some(WorkerQuery { now: at(1_000), kind: String::new() }),
        |q| q.cursor = Some("0:b".into()),
    ];
    for (number, narrow) in narrow.into_iter().enumerate() {
        for (name, count) in [("one", 1), ("two", 1), ("three", 0)] {
            let mut query = PhaseQuery::of(tenant(name));
            narrow(&mut query);
            let found = lines(&*store, &query);
            assert_eq!(found.len(), count, "case {number} of {name}");
            assert!(found.iter().all(|line| line.tenant == tenant(name)), "case {number} of {name}");
        }
    }
    committed(&*store, Draft::change(&two).key("two again").phase(phase(0, PhaseState::Completed)));
    let states = ["one", "two"].map(|name| all_of(&*store, &tenant(name))[0].row.state);
    assert_eq!(states, [PhaseState::NotStarted, PhaseState::Completed]);
}

pub fn clean_up_deletes_phases_with_their_flow(open: Open<'_>) {
    let store = open();
    let beside = tenant("t").shadow();
    let made = |name: &str, of: &TenantId, closed: bool| {
        let draft = Draft::creation(name).phase(phase(0, PhaseState::Completed));
        let draft = draft.phase(phase(u16::MAX, PhaseState::Completed));
        let mut commit = if closed { draft.closed("completed") } else { draft }.build();
        commit.tenant = of.clone();
        commit.after.as_mut().expect("a creation has an after").tenant = of.clone();
        commit.entry.receipt = key_of(of, name);
        assert_eq!(store.commit(&[commit]), Ok(vec![Outcome::Committed]));
    };
    // The one that goes lies between two that stay.
    made("before", &beside, false);
    made("over", &beside, true);
    made("after", &beside, false);
    made("over", &tenant("t"), true);
    let report = store.clean_up(at(5_000), 100).expect("the store can be cleaned up");
    assert_eq!(report.instances_deleted, 1);
    assert_eq!(named(&all_of(&*store, &beside)), ["before/0", "before/65535", "after/0", "after/65535"]);
    assert_eq!(named(&all_of(&*store, &tenant("t"))), ["over/0", "over/65535"]);
    made("over", &beside, false);
    assert_eq!(all_of(&*store, &beside).len(), 6);
}

pub fn phases_are_counted_while_their_flow_is_open(open: Open<'_>) {
    use PhaseState::{Completed, Failed, InProgress};
    let store = open();
    let two = |name: &str| Draft::creation(name).phase(phase(0, Completed)).phase(phase(1, Failed));
    let a = committed(&*store, two("a").machine("import"));
    committed(&*store, two("b").tenant("other").machine("import"));
    committed(&*store, two("c").machine("export").phase(phase(2, InProgress)));
    committed(&*store, two("d").machine("export").closed("failed"));
    committed(&*store, two("s").machine("export").tenant("t~shadow"));
    let counted = |expected: &[(&str, PhaseState, u64)]| {
        let expected = expected.iter().map(|(name, state, count)| (((*name).to_owned(), *state), *count));
        let figures = store.statistics().expect("statistics can be read");
        assert_eq!(figures.phases, expected.collect());
    };
    let of_export = [("export", Completed, 1), ("export", Failed, 1), ("export", InProgress, 1)];
    counted(&[&of_export[..], &[("import", Completed, 2), ("import", Failed, 2)]].concat());
    let retried = Draft::change(&a).phase(phase(1, InProgress));
    let a = committed(&*store, retried);
    let of_b = [("import", Completed, 1), ("import", Failed, 1)];
    counted(
        &[&of_export[..], &[("import", Completed, 2), ("import", Failed, 1), ("import", InProgress, 1)]]
            .concat(),
    );
    committed(&*store, Draft::change(&a).closed("completed"));
    counted(&[&of_export[..], &of_b].concat());
}
