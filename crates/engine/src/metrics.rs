//! What the engine counts, in an explicit registry that is written out as OpenMetrics text.
//!
//! Which figures there are is in `table`; where each is counted is here and in the modules below.

mod by_machine;
mod commits;
mod inputs;
mod phases;
mod process;
mod stored;
pub mod table;

use std::fmt;
use std::time::Instant;

use kernel::commit::Commit;
use kernel::time::Timestamp;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry};

use commits::CommitMetrics;
use process::ProcessMetrics;
pub(crate) use stored::Stored;
use stored::StoredMetrics;
use table::Figure;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RecogniserLabels {
    recogniser: String,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct DeliveryLabels {
    pub endpoint: String,
    /// How the attempt ended: `delivered`, `answered`, `refused`, `gone`, `later` or `unknown`.
    pub result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MachineLabels {
    machine: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OperationLabels {
    operation: &'static str,
}

/// From half a millisecond, which a flush to a good disk takes, to what nobody waits for.
const SECONDS: [f64; 10] = [0.000_5, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 2.0];

pub struct Metrics {
    registry: Registry,
    commits: CommitMetrics,
    pub(crate) replayed: Counter,
    pub(crate) stale: Counter,
    pub(crate) overloaded: Counter,
    pub(crate) commit_errors: Counter,
    pub(crate) timers_fired: Counter,
    pub(crate) cleaned_up: Counter,
    pub(crate) batches: Counter,
    pub(crate) batch_inputs: Histogram,
    pub(crate) commit_seconds: Histogram,
    pub(crate) deliveries: Family<DeliveryLabels, Counter>,
    operations: Family<OperationLabels, Histogram>,
    operation_errors: Family<OperationLabels, Counter>,
    recogniser_calls: Family<RecogniserLabels, Counter>,
    stored: StoredMetrics,
    process: ProcessMetrics,
    pub(crate) inputs_waiting: Gauge,
    pub(crate) streams: Gauge,
    connections: Gauge,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

/// A registry that is being filled, from the table.
pub(crate) struct Registering {
    registry: Registry,
    added: Vec<&'static str>,
}

impl Registering {
    fn new() -> Self {
        Self { registry: Registry::default(), added: Vec::new() }
    }

    /// Registers a figure as its row says, and hands it back.
    fn add<M: Metric + Clone>(&mut self, base: &str, metric: M) -> M {
        let figure = Figure::of(base).expect("what is registered is in the table, as a test knows");
        match figure.unit {
            Some(unit) => {
                self.registry.register_with_unit(figure.base(), figure.help, unit.unit(), metric.clone());
            }
            None => self.registry.register(figure.base(), figure.help, metric.clone()),
        }
        self.added.push(figure.base());
        metric
    }
}

impl Metrics {
    pub(crate) fn new(backend: &'static str) -> Self {
        let mut registering = Registering::new();
        let metrics = Self::new_in(&mut registering, backend);
        Self { registry: registering.registry, ..metrics }
    }

    /// What is registered stays with `r`.
    fn new_in(r: &mut Registering, backend: &'static str) -> Self {
        let batch_sizes = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];
        let timed = Family::new_with_constructor((|| Histogram::new(SECONDS)) as fn() -> Histogram);
        Self {
            commits: CommitMetrics::new(r),
            replayed: r.add("statewright_replayed", Counter::default()),
            stale: r.add("statewright_stale", Counter::default()),
            overloaded: r.add("statewright_overloaded", Counter::default()),
            inputs_waiting: r.add("statewright_inputs_waiting", Gauge::default()),
            connections: r.add("statewright_connections", Gauge::default()),
            streams: r.add("statewright_streams", Gauge::default()),
            batches: r.add("statewright_batches", Counter::default()),
            batch_inputs: r.add("statewright_batch_inputs", Histogram::new(batch_sizes)),
            commit_seconds: r.add("statewright_commit", Histogram::new(SECONDS)),
            commit_errors: r.add("statewright_commit_errors", Counter::default()),
            operations: r.add("statewright_store_operation", timed),
            operation_errors: r.add("statewright_store_errors", Family::default()),
            timers_fired: r.add("statewright_timers_fired", Counter::default()),
            cleaned_up: r.add("statewright_cleaned_up", Counter::default()),
            deliveries: r.add("statewright_deliveries", Family::default()),
            recogniser_calls: r.add("statewright_recogniser_calls", Family::default()),
            stored: StoredMetrics::new(r),
            process: ProcessMetrics::new(r, backend),
            registry: Registry::default(),
        }
    }

    /// A recogniser was to be asked; `outcome` is `ok`, or why there was nothing to be had.
    pub fn count_recogniser_call(&self, recogniser: &str, outcome: &'static str) {
        let recogniser = recogniser.to_owned();
        self.recogniser_calls.get_or_create(&RecogniserLabels { recogniser, outcome }).inc();
    }

    /// An input was answered that left no commit: `outcome` is the code of a refusal.
    pub(crate) fn count_input(&self, machine: &str, kind: &'static str, outcome: &'static str) {
        self.commits.inputs.count(machine, kind, outcome);
    }

    /// A commit was saved; `machine` is the one that it was decided by, `kind` that of its input.
    pub fn count_commit(&self, machine: &str, kind: &'static str, commit: &Commit) {
        self.commits.count(machine, kind, commit);
    }

    /// How many connections are open.
    pub fn set_connections(&self, open: usize) {
        self.connections.set(as_gauge(open as u64));
    }

    /// How many inputs were refused with this code, of all machines.
    pub fn refused(&self, code: &'static str) -> u64 {
        self.commits.inputs.ended_so(code)
    }

    /// How many repeats got their first answer.
    pub fn repeats(&self) -> u64 {
        self.replayed.get()
    }

    /// How many batches have been committed.
    pub fn batches(&self) -> u64 {
        self.batches.get()
    }

    /// Asks the store something, and counts how long that took and whether it went well.
    pub(crate) fn timed<T, E>(
        &self,
        operation: &'static str,
        ask: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        let (labels, began) = (OperationLabels { operation }, Instant::now());
        let answered = ask();
        self.operations.get_or_create(&labels).observe(began.elapsed().as_secs_f64());
        if answered.is_err() {
            self.operation_errors.get_or_create(&labels).inc();
        }
        answered
    }

    /// All figures as OpenMetrics text, those of the store as `stored` has them at `now`.
    pub(crate) fn render(&self, stored: &Stored<'_>, now: Timestamp) -> String {
        self.commits.phases.set_now(stored.statistics);
        self.stored.set_now(stored, now);
        self.process.set_now();
        let mut text = String::new();
        match encode(&mut text, &self.registry) {
            Ok(()) => text,
            Err(fmt::Error) => "# the metrics could not be written\n".to_owned(),
        }
    }
}

fn as_gauge(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use kernel::commit::{Answer, EntryCause};
    use kernel::decide::decide;
    use kernel::definition;
    use kernel::id::{InputKey, TenantId};
    use kernel::input::{Cause, Fields, Input};
    use kernel::snapshot::{Closure, Stuck};
    use store::{Space, Standing, Standings, StoreStatistics};

    use super::table::{FIGURES, Kind};
    use super::*;

    #[test]
    fn every_figure_of_the_table_is_registered_once() {
        let mut r = Registering::new();
        let metrics = Metrics::new_in(&mut r, "memory");
        let registered: BTreeSet<&str> = r.added.iter().copied().collect();
        assert_eq!(registered.len(), r.added.len(), "one is registered twice");
        assert_eq!(registered, FIGURES.iter().map(Figure::base).collect());
        drop(metrics);
    }

    /// A creation that came by a timer, went round, ended nowhere and closed: all at once, as no commit would.
    fn commit() -> Commit {
        let (machine, _) = definition::load("machine: m\ninitial: a\nstates: { a: {} }\n");
        let input = Input {
            tenant: TenantId::default_tenant(),
            key: InputKey::parse("k").unwrap(),
            cause: Cause::Create {
                machine: kernel::id::MachineName::parse("m").unwrap(),
                id: None,
                subject: None,
                context: Fields::new(),
                start: Default::default(),
            },
            expected: None,
            by: None,
            trace_id: None,
        };
        let now = Timestamp::from_millis(7_500);
        let mut commit = decide(&machine.unwrap(), None, &input, now).unwrap();
        let after = commit.after.as_mut().unwrap();
        after.dead_end = true;
        after.closure = Some(Closure { reason: "timeout".into(), at: now, output: Fields::new() });
        let deadline = Timestamp::from_millis(5_000);
        commit.entry.cause = Some(EntryCause::Timer { id: "t".into(), deadline });
        commit
    }

    /// Lines by the name of their figure, as the table has it.
    fn lines(text: &str) -> BTreeMap<String, Vec<&str>> {
        let mut found: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let name = line.split(['{', ' ']).next().unwrap();
            let is_of = |figure: &&Figure| {
                let endings: &[&str] =
                    if figure.kind == Kind::Histogram { &["_bucket", "_sum", "_count"] } else { &[""] };
                endings.iter().any(|ending| name == format!("{}{ending}", figure.name()))
            };
            let figure = FIGURES.iter().find(is_of).unwrap_or_else(|| panic!("{line} is not in the table"));
            found.entry(figure.name()).or_default().push(line);
        }
        found
    }

    #[test]
    fn what_is_written_has_the_names_and_the_labels_of_the_table() {
        let metrics = Metrics::new("memory");
        let commit = commit();
        metrics.count_commit("m", "create", &commit);
        let mut silent = commit.clone();
        silent.after.as_mut().unwrap().closure.as_mut().unwrap().reason.clear();
        silent.entry.answer = Answer::Refused(kernel::refusal::Refusal::new(
            kernel::refusal::RefusalCode::InvalidTransition,
            silent.entry.revision,
            "no",
        ));
        metrics.count_commit("m", "event", &silent);
        metrics.count_recogniser_call("r", "ok");
        metrics.timed("load", || Err::<(), ()>(())).unwrap_err();
        let mut statistics = StoreStatistics::default();
        statistics.open.insert(("m".into(), "a".into()), 3);
        statistics.effects.insert("dead", 2);
        let due = |ms| Some(Timestamp::from_millis(ms));
        let space = Space { data_bytes: Some(10), log_bytes: Some(4), free_bytes: Some(7) };
        let mut standings = Standings::default();
        let stuck = BTreeMap::from([(Stuck::Overdue, 2)]);
        let standing = Standing { open: 3, looping: 1, stuck };
        for tenant in ["t", "u"] {
            let machines = BTreeMap::from([("m".to_owned(), standing.clone())]);
            standings.tenants.insert(TenantId::parse(tenant).unwrap(), machines);
        }
        let stored = Stored {
            statistics: &statistics,
            standings: &standings,
            space,
            timer_due: due(9_000),
            effect_due: due(20_000),
        };
        let text = metrics.render(&stored, Timestamp::from_millis(10_500));
        let told = lines(&text);
        for (name, lines) in &told {
            let figure = FIGURES.iter().find(|figure| figure.name() == *name).unwrap();
            for line in lines {
                let labels = line.split_once('{').map_or("", |(_, rest)| rest.split_once('}').unwrap().0);
                let labels = labels.split(',').filter_map(|label| Some(label.split_once('=')?.0));
                let labels: Vec<&str> = labels.filter(|label| *label != "le").collect();
                assert_eq!(labels, figure.labels, "{line}");
            }
        }
        for line in [
            "statewright_inputs_total{machine=\"m\",kind=\"create\",outcome=\"taken\"} 1",
            "statewright_inputs_total{machine=\"m\",kind=\"event\",outcome=\"invalid_transition\"} 1",
            "statewright_closings_total{machine=\"m\",reason=\"timeout\"} 1",
            "statewright_closings_without_reason_total{machine=\"m\"} 1",
            "statewright_dead_ends_total{machine=\"m\"} 2",
            "statewright_timer_lateness_seconds_sum 5.0",
            "statewright_store_errors_total{operation=\"load\"} 1",
            "statewright_instances_open{machine=\"m\",state=\"a\"} 3",
            "statewright_instances_stuck{machine=\"m\",reason=\"overdue\"} 4",
            "statewright_instances_stuck{machine=\"m\",reason=\"silent\"} 0",
            "statewright_instances_looping{machine=\"m\"} 2",
            "statewright_effects{status=\"dead\"} 2",
            "statewright_timer_lag_seconds 1.5",
            "statewright_outbox_age_seconds 0.0",
            "statewright_store_bytes 10",
            "statewright_store_log_bytes 4",
        ] {
            assert!(text.lines().any(|told| told == line), "{line} is missing in\n{text}");
        }
        assert_eq!(told["statewright_disk_free_bytes"].len(), 1);
        assert!(text.contains("# UNIT statewright_commit_seconds seconds"), "{text}");
    }
}
