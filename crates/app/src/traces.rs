//! Traces: which requests are recorded, and where what is noted of them goes.
//!
//! Owns the choice of what is recorded and a bounded queue towards whoever exports it. What is noted becomes spans in
//! `spans`, and these leave in `export`, on a thread of their own: nobody who has an input waits for a collector. What
//! does not fit into the queue is dropped and counted.

mod export;
mod spans;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use engine::traces::Traced;
use engine::{Engine, delivery};
use kernel::trace::{SpanId, Trace};
use serde::Deserialize;
use store::OutboxEffect;

use crate::secret::Secret;
use export::Exporter;

/// What may wait for the exporter: some 4 MB.
const WAITING_MAX: usize = 4_096;

/// The server's end waits for so long for what is being exported, and looks so often for room behind it.
const END_MAX: Duration = Duration::from_secs(3);
const END_PAUSE: Duration = Duration::from_millis(10);

/// Where collectors of OTLP take spans, below their address.
const PATH: &str = "/v1/traces";

/// `[traces]`: what is not said, the variables of OpenTelemetry say (`OTEL_EXPORTER_OTLP_ENDPOINT` and its like).
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TracesConfig {
    /// Where a collector takes OTLP by HTTP, as `http://127.0.0.1:4318`.
    pub endpoint: Option<String>,
    /// How many of the traces that begin here are recorded, from 0 to 1. Of others, whoever began them has decided.
    pub ratio: Option<f64>,
    /// Sent along, as a collector's token.
    #[serde(default)]
    pub headers: BTreeMap<String, Secret>,
}

/// What is noted, to be made spans of.
#[derive(Debug)]
enum Noted {
    Request(Request),
    Input(Box<Traced>),
    Question(Question),
    Attempt(Box<Attempt>),
    /// All that is waiting is to be exported; whoever wants that is told.
    End(SyncSender<()>),
}

/// A request, by the span that is its own.
#[derive(Debug)]
pub struct Request {
    pub trace: Trace,
    /// The caller's, if it said one.
    pub parent: Option<SpanId>,
    pub method: String,
    pub route: &'static str,
    pub status: u16,
    pub began: Instant,
    pub ended: Instant,
}

/// A recogniser was asked about a message, or was to be.
#[derive(Debug)]
pub struct Question {
    pub trace: Trace,
    pub recogniser: String,
    /// `ok`, or why there was nothing to be had.
    pub outcome: &'static str,
    pub began: Instant,
    pub ended: Instant,
}

/// An attempt to deliver an effect, by the span that is its own.
#[derive(Debug)]
pub struct Attempt {
    trace: Trace,
    parent: SpanId,
    effect: OutboxEffect,
    endpoint: String,
    /// How it ended, in a word.
    carried: &'static str,
    began: Instant,
    ended: Instant,
}

#[derive(Debug)]
pub struct Traces {
    ratio: f64,
    host: String,
    waiting: SyncSender<Noted>,
    dropped: Arc<AtomicU64>,
    /// What runs once there is an engine.
    idle: Mutex<Option<(Exporter, Receiver<Noted>)>>,
}

impl Traces {
    /// `None` where nobody is told of traces.
    ///
    /// # Errors
    /// Which setting makes no sense, and what it may be.
    pub fn open(config: TracesConfig) -> Result<Option<Arc<Self>>, String> {
        let ratio = config.ratio.unwrap_or(1.0);
        if !(0.0..=1.0).contains(&ratio) {
            return Err(format!("`ratio` is {ratio}; it may be 0 to 1"));
        }
        let endpoint = config.endpoint.as_deref().map(traces_url).transpose()?;
        if endpoint.is_none() && !export::is_asked_for() {
            return Ok(None);
        }
        let headers = config.headers.iter().map(|(name, value)| (name.clone(), value.expose().to_owned()));
        let exporter = Exporter::new(endpoint, headers.collect())?;
        let (waiting, noted) = sync_channel(WAITING_MAX);
        let (host, dropped) = (exporter.host().to_owned(), Arc::default());
        let idle = Mutex::new(Some((exporter, noted)));
        Ok(Some(Arc::new(Self { ratio, host, waiting, dropped, idle })))
    }

    /// Where spans go, for people.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// From now on the engine's inputs are recorded, and what is noted is exported.
    pub fn start(self: &Arc<Self>, engine: &Engine) {
        let Some((exporter, noted)) = self.idle.lock().ok().and_then(|mut idle| idle.take()) else { return };
        let metrics = Arc::clone(engine.metrics());
        exporter
            .run(noted, Arc::clone(&self.dropped), move |outcome, spans| metrics.count_spans(outcome, spans));
        let traces = Arc::clone(self);
        engine.trace(move |traced| traces.note(Noted::Input(Box::new(traced))));
    }

    /// Whether a trace that begins here is recorded. Other servers with the same share choose the same traces.
    pub fn records(&self, trace_id: &str) -> bool {
        let low =
            trace_id.get(16..).and_then(|digits| u64::from_str_radix(digits, 16).ok()).unwrap_or_default();
        // As the samplers of OpenTelemetry do, by 63 bits of the id.
        ((low >> 1) as f64) < self.ratio * (1u64 << 63) as f64
    }

    pub fn request(&self, request: Request) {
        self.note(Noted::Request(request));
    }

    pub fn question(&self, question: Question) {
        self.note(Noted::Question(question));
    }

    /// An attempt at an effect has ended.
    pub fn attempt(&self, effect: &OutboxEffect, endpoint: &str, began: Instant, carried: &'static str) {
        let Some((commit, attempt)) = effect.effect.trace(&effect.tenant).zip(delivery::attempt_of(effect))
        else {
            return;
        };
        if attempt.sampled {
            let (effect, endpoint, ended) = (effect.clone(), endpoint.to_owned(), Instant::now());
            let attempt =
                Attempt { trace: attempt, parent: commit.span, effect, endpoint, carried, began, ended };
            self.note(Noted::Attempt(Box::new(attempt)));
        }
    }

    /// Waits until what has been noted is exported, though not for long: a collector that says nothing keeps no server.
    pub fn end(&self) {
        let until = Instant::now() + END_MAX;
        let (done, ended) = sync_channel(1);
        let mut end = Noted::End(done);
        while let Err(TrySendError::Full(full)) = self.waiting.try_send(end) {
            if Instant::now() >= until {
                return;
            }
            std::thread::sleep(END_PAUSE);
            end = full;
        }
        // What is not exported by then is lost.
        let _ = ended.recv_timeout(until.saturating_duration_since(Instant::now()));
    }

    fn note(&self, noted: Noted) {
        if let Err(TrySendError::Full(_)) = self.waiting.try_send(noted) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// An address of a collector, with the path if it has none.
fn traces_url(endpoint: &str) -> Result<String, String> {
    let rest = endpoint.strip_prefix("http://").or_else(|| endpoint.strip_prefix("https://"));
    let wrong = || {
        format!(
            "`endpoint` is `{endpoint}`; it may be an address such as http://127.0.0.1:4318, where a collector takes OTLP by HTTP"
        )
    };
    let rest = rest.filter(|rest| !rest.is_empty() && !rest.starts_with('/')).ok_or_else(wrong)?;
    match rest.split_once('/') {
        None | Some((_, "")) => Ok(format!("{}{PATH}", endpoint.trim_end_matches('/'))),
        Some(_) => Ok(endpoint.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(toml: &str) -> Result<Option<Arc<Traces>>, String> {
        Traces::open(toml::from_str(toml).unwrap())
    }

    #[test]
    fn spans_go_where_the_settings_say() {
        for (endpoint, url) in [
            ("http://127.0.0.1:4318", "http://127.0.0.1:4318/v1/traces"),
            ("https://otel.example/", "https://otel.example/v1/traces"),
            ("https://otel.example/own/path", "https://otel.example/own/path"),
        ] {
            assert_eq!(traces_url(endpoint).as_deref(), Ok(url));
        }
        for wrong in ["", "otel.example:4317", "grpc://otel.example", "http://", "http:///v1"] {
            assert!(traces_url(wrong).is_err_and(|told| told.contains("http://127.0.0.1:4318")), "{wrong}");
        }
    }

    #[test]
    fn settings_that_make_no_sense_are_told_and_without_any_nothing_is_recorded() {
        assert!(open("").unwrap().is_none());
        assert!(open("ratio = 0.5").unwrap().is_none());
        for ratio in ["-0.1", "1.5", "nan"] {
            let told = open(&format!("ratio = {ratio}")).unwrap_err();
            assert!(told.ends_with("it may be 0 to 1"), "{told}");
        }
    }

    #[test]
    fn a_share_of_the_traces_is_recorded_and_always_the_same() {
        let at = "endpoint = \"http://127.0.0.1:4318\"\nratio =";
        let ids: Vec<String> = (0..4_000).map(|_| crate::telemetry::fresh_trace_id()).collect();
        for (ratio, least, most) in [("0", 0, 0), ("0.25", 800, 1_200), ("1", 4_000, 4_000)] {
            let traces = open(&format!("{at} {ratio}")).unwrap().unwrap();
            let recorded: Vec<bool> = ids.iter().map(|id| traces.records(id)).collect();
            let count = recorded.iter().filter(|recorded| **recorded).count();
            assert!((least..=most).contains(&count), "{ratio}: {count}");
            let again: Vec<bool> = ids.iter().map(|id| traces.records(id)).collect();
            assert_eq!(recorded, again);
        }
    }
}
