//! Table: every figure with its type, labels and unit, what it says and what it is good for. It is registered from here, and
//! `docs/metrics.md` is written from here.
//!
//! A label has few values, whatever is sent: never an instance, a subject, a key or a tenant.

use prometheus_client::registry::Unit;

/// How a figure behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

impl Kind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

#[derive(Debug)]
pub struct Figure {
    /// Without unit and ending, which the format adds.
    base: &'static str,
    pub kind: Kind,
    pub labels: &'static [&'static str],
    pub unit: Option<Base>,
    /// What it says.
    pub help: &'static str,
    /// What it is good for.
    pub use_it: &'static str,
}

/// Prometheus has base units only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Base {
    Seconds,
    Bytes,
}

impl Base {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Seconds => "seconds",
            Self::Bytes => "bytes",
        }
    }

    pub(super) fn unit(self) -> Unit {
        match self {
            Self::Seconds => Unit::Seconds,
            Self::Bytes => Unit::Bytes,
        }
    }
}

impl Figure {
    pub(super) fn base(&self) -> &'static str {
        self.base
    }

    /// As Prometheus has it, with unit and ending.
    pub fn name(&self) -> String {
        let unit = self.unit.map(|unit| format!("_{}", unit.as_str())).unwrap_or_default();
        let ending = match self.kind {
            Kind::Counter => "_total",
            Kind::Gauge | Kind::Histogram => "",
        };
        format!("{}{unit}{ending}", self.base)
    }

    /// Its row, by the name without unit and ending.
    pub(super) fn of(base: &str) -> Option<&'static Self> {
        FIGURES.iter().find(|figure| figure.base == base)
    }
}

const fn counter(
    base: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
    use_it: &'static str,
) -> Figure {
    Figure { base, kind: Kind::Counter, labels, unit: None, help, use_it }
}

const fn gauge(
    base: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
    use_it: &'static str,
) -> Figure {
    Figure { base, kind: Kind::Gauge, labels, unit: None, help, use_it }
}

const fn measured(
    base: &'static str,
    (kind, unit): (Kind, Option<Base>),
    labels: &'static [&'static str],
    help: &'static str,
    use_it: &'static str,
) -> Figure {
    Figure { base, kind, labels, unit, help, use_it }
}

const SECONDS: (Kind, Option<Base>) = (Kind::Histogram, Some(Base::Seconds));
const SECONDS_NOW: (Kind, Option<Base>) = (Kind::Gauge, Some(Base::Seconds));
const BYTES_NOW: (Kind, Option<Base>) = (Kind::Gauge, Some(Base::Bytes));

const MACHINE: &[&str] = &["machine"];

pub const FIGURES: [Figure; 50] = [
    counter(
        "statewright_inputs",
        &["machine", "kind", "outcome"],
        "Inputs answered, by what became of them",
        "what is asked of each machine, and how much of it is refused: `outcome` is `taken`, the outcome of a message, or the code of a refusal, such as `invalid_transition`",
    ),
    counter(
        "statewright_messages_routed",
        &["machine", "rule"],
        "Messages by the rule that decided",
        "how people are understood: R10 is a conflict with what the session is about, R13 what was not understood; the rules are in [routing](routing.md)",
    ),
    counter(
        "statewright_replayed",
        &[],
        "Repeated keys that got their first answer",
        "duplicates that were prevented",
    ),
    counter(
        "statewright_stale",
        &[],
        "Decisions made on a revision that was no longer current",
        "servers that are after the same sessions; each decision is made again",
    ),
    counter(
        "statewright_overloaded",
        &[],
        "Inputs turned away because too many waited",
        "more comes than is saved; alert",
    ),
    gauge(
        "statewright_inputs_waiting",
        &[],
        "Inputs that wait for their decision",
        "how near it is to being overloaded, at 10,000",
    ),
    gauge(
        "statewright_connections",
        &[],
        "Open connections",
        "how near it is to 768, from where on others are refused",
    ),
    gauge("statewright_streams", &[], "Readers of the stream of transitions", "how near it is to 64"),
    counter("statewright_batches", &[], "Batches committed", "inputs by batches is how well commits gather"),
    measured(
        "statewright_batch_inputs",
        (Kind::Histogram, None),
        &[],
        "Commits in one batch",
        "how much one flush to the disk is shared",
    ),
    measured(
        "statewright_commit",
        SECONDS,
        &[],
        "Time to make a batch durable",
        "how fast the disk or the database is; every answer waits for it",
    ),
    counter(
        "statewright_commit_errors",
        &[],
        "Batches that were not known to be saved",
        "a store in trouble; alert",
    ),
    measured(
        "statewright_store_operation",
        SECONDS,
        &["operation"],
        "Time that the store took, by what was asked of it: `load`, `load_session`, `claim_due`, `claim_effects`, `settle_effects`, `clean_up`",
        "which part of the work makes things slow",
    ),
    counter(
        "statewright_store_errors",
        &["operation"],
        "What the store did not do, by what was asked of it",
        "a store in trouble; alert",
    ),
    measured("statewright_store", BYTES_NOW, &[], "What the data takes, as the store tells", "growth"),
    measured(
        "statewright_store_log",
        BYTES_NOW,
        &[],
        "How long the write-ahead log of a SQLite file is",
        "a reader that keeps it from being shortened; alert",
    ),
    measured(
        "statewright_disk_free",
        BYTES_NOW,
        &[],
        "Room on the disk where a SQLite file lies",
        "when it will be full; alert",
    ),
    gauge(
        "statewright_quarantined",
        &[],
        "Records whose checksum did not fit",
        "data that is not what was saved; alert",
    ),
    counter("statewright_cleaned_up", &[], "Expired log entries deleted", "whether the clean-up keeps up"),
    counter(
        "statewright_timers_fired",
        &[],
        "Timers that came due and were committed",
        "how much happens by time",
    ),
    measured(
        "statewright_timer_lateness",
        SECONDS,
        &[],
        "How long after its deadline a timer was decided on",
        "whether timers are kept; a server that was down fires late",
    ),
    measured(
        "statewright_timer_lag",
        SECONDS_NOW,
        &[],
        "How long the timer has been due that is due longest",
        "timers that do not fire; alert",
    ),
    gauge(
        "statewright_instances_open",
        &["machine", "state"],
        "Open instances by state",
        "where sessions and flows stand; from 1,000 states on, those with the fewest are `(other)`",
    ),
    gauge(
        "statewright_instances_closed",
        &["machine", "state"],
        "Closed instances by reason",
        "how sessions have ended; here `state` is the reason, bounded as above",
    ),
    counter(
        "statewright_closings",
        &["machine", "reason"],
        "Instances that were closed, by reason",
        "how many expire, give up or come to their end, as it happens; from 200 reasons on `(other)`",
    ),
    counter(
        "statewright_closings_without_reason",
        MACHINE,
        "Instances that were closed and say no reason",
        "always 0; alert, as it would be a mistake in the program",
    ),
    measured(
        "statewright_time_to_live",
        SECONDS_NOW,
        &[],
        "Mean time until the next deadline of open instances",
        "how long sessions have left",
    ),
    counter(
        "statewright_loops",
        MACHINE,
        "Transitions that repeated themselves too often in a short time",
        "people or programs that go round and round; alert",
    ),
    counter(
        "statewright_dead_ends",
        MACHINE,
        "Commits that left an instance where nothing leads on from",
        "sessions that are stuck; `statewright ls --stuck` has them; alert",
    ),
    gauge(
        "statewright_instances_stuck",
        &["machine", "reason"],
        "Open instances that will not get on by themselves",
        "whom nobody would hear of: `reason` is `dead_end`, `overdue` or `silent` ([what they are](operations.md#when-somebody-is-stuck)); alert",
    ),
    gauge(
        "statewright_instances_looping",
        MACHINE,
        "Open instances that go round in circles",
        "people or programs that are not helped; `statewright ls --looping` has them",
    ),
    gauge("statewright_clarifications", &["status"], "Clarifications by status", "questions that wait"),
    counter(
        "statewright_clarification_changes",
        &["machine", "status"],
        "Questions that were asked, as `pending`, and what became of them",
        "whether questions help: answered against expired",
    ),
    counter(
        "statewright_recogniser_calls",
        &["recogniser", "outcome"],
        "Messages that a recogniser was to be asked about, by how that went",
        "[recognisers](recognisers.md) that fail or are too slow",
    ),
    counter(
        "statewright_deliveries",
        &["endpoint", "result"],
        "Attempts to deliver an effect, by how they ended",
        "endpoints that are down",
    ),
    gauge(
        "statewright_effects",
        &["status"],
        "Effects in the outbox, by status",
        "what is `dead` or `unknown` wants somebody; alert. See [deliveries](deliveries.md)",
    ),
    measured(
        "statewright_outbox_age",
        SECONDS_NOW,
        &[],
        "How long the effect has been due that is due longest",
        "deliveries that do not go out; alert",
    ),
    gauge("statewright_phases", &["machine", "state"], "Phases of open flows by state", "where flows stand"),
    counter(
        "statewright_phase_moves",
        &["machine", "from", "to"],
        "Steps of phases from state to state",
        "how much work is done; what was refused is among the inputs",
    ),
    measured(
        "statewright_phase",
        SECONDS,
        &["machine", "state"],
        "Time that a phase was in a state that it has left",
        "how long work, validations and approvals take",
    ),
    counter(
        "statewright_phase_leases",
        MACHINE,
        "Leases that workers were given, or had prolonged",
        "whether workers are there; those that were lost are inputs with the outcome `lease_lost`",
    ),
    counter("statewright_phase_retries", MACHINE, "Phases that were to be tried again", "work that fails"),
    counter(
        "statewright_phase_retries_succeeded",
        MACHINE,
        "Phases that were completed at a later attempt than the first",
        "whether trying again helps",
    ),
    counter(
        "statewright_phase_rollbacks",
        &["machine", "phase"],
        "Phases that were taken back",
        "work that is lost; from 500 phases on the rest is `(other)`",
    ),
    gauge(
        "statewright_build_info",
        &["version", "backend"],
        "What runs here",
        "which server has which version",
    ),
    measured(
        "process_start_time",
        SECONDS_NOW,
        &[],
        "When the process began, since 1970",
        "uptime, and restarts; alert",
    ),
    measured(
        "process_cpu",
        (Kind::Counter, Some(Base::Seconds)),
        &[],
        "Processor time, of user and system",
        "load",
    ),
    measured("process_resident_memory", BYTES_NOW, &[], "What the process has in memory", "growth"),
    gauge("process_open_fds", &[], "Open file descriptors", "how near it is to its limit"),
    gauge("process_threads", &[], "Threads", "growth"),
];
