//! What the process says about itself: log lines on stderr, and ids for traces that begin here.
//!
//! Owns the shape of a log line. It counts no metrics; traces are noted elsewhere. Invariant: a trace id that leaves here
//! is 32 lowercase hexadecimal digits, not all zero.

mod buffer;
mod json;

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::io::{IsTerminal, Stderr};
use std::str::FromStr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use kernel::trace::SpanId;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry};

use buffer::Lines;
use json::{JsonLine, SpanFields};

/// The variable that sets the filter where the caller names none.
pub const FILTER_VARIABLE: &str = "STATEWRIGHT_LOG";

const FILTER_DEFAULT: &str = "info";

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// One JSON object a line: what collectors read.
    Json,
    /// For people.
    Text,
    /// Text where stderr is a terminal, otherwise JSON.
    #[default]
    Auto,
}

impl FromStr for LogFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "json" => Ok(Self::Json),
            "text" => Ok(Self::Text),
            "auto" => Ok(Self::Auto),
            other => Err(format!("`{other}` is no log format; json, text and auto are")),
        }
    }
}

/// The lines that this process has not written yet.
static WAITING: OnceLock<Lines<Stderr>> = OnceLock::new();

/// Starts logging to stderr for the whole process. A second call changes nothing. Lines may wait for a moment, on a
/// terminal excepted: whoever ends the process calls `flush` before.
///
/// `filter` goes before `STATEWRIGHT_LOG`, which goes before `info`. A filter that cannot be read is not worth a
/// server that does not start: it is reported in the log and `info` taken instead.
pub fn init(format: LogFormat, filter: Option<&str>) {
    let variable = std::env::var(FILTER_VARIABLE).ok();
    let (filter, complaint) = choose_filter(filter, variable.as_deref());
    let terminal = std::io::stderr().is_terminal();
    let json = match format {
        LogFormat::Json => true,
        LogFormat::Text => false,
        LogFormat::Auto => !terminal,
    };
    // https://no-color.org: any value but the empty one.
    let colour = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let writer = Lines::to(std::io::stderr(), terminal);
    let waiting = writer.lines.clone();
    let lines = lines(json, colour, writer);
    let started = tracing_subscriber::registry().with(lines.with_filter(filter)).try_init();
    if started.is_ok() {
        // Nothing was there before, as nothing was started.
        let _ = WAITING.set(waiting);
    }
    if let (Ok(()), Some(complaint)) = (started, complaint) {
        tracing::warn!("{complaint}");
    }
}

/// Writes what has been logged and is not written yet.
pub fn flush() {
    WAITING.get().iter().for_each(|waiting| waiting.flush());
}

/// The filter, and what is wrong with the one that was asked for.
fn choose_filter(argument: Option<&str>, variable: Option<&str>) -> (EnvFilter, Option<String>) {
    let wanted = argument.or(variable).filter(|wanted| !wanted.trim().is_empty()).unwrap_or(FILTER_DEFAULT);
    match EnvFilter::try_new(wanted) {
        Ok(filter) => (filter, None),
        Err(error) => {
            let complaint = format!("the log filter `{wanted}` cannot be read: {error}");
            (EnvFilter::new(FILTER_DEFAULT), Some(complaint))
        }
    }
}

/// One line an event. As JSON the event's fields stand beside `timestamp`, `level` and `target`, and `spans` has
/// the fields of every span around it, the outermost first.
fn lines<W>(json: bool, colour: bool, writer: W) -> Box<dyn Layer<Registry> + Send + Sync>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let layer = tracing_subscriber::fmt::layer().with_writer(writer);
    if json {
        layer.fmt_fields(SpanFields).event_format(JsonLine).boxed()
    } else {
        layer.with_ansi(colour).boxed()
    }
}

/// A trace id for a request that came without one: 32 lowercase hexadecimal digits.
///
/// Unique within the process by a counter and among processes by a random seed. It is no secret.
pub fn fresh_trace_id() -> String {
    let (high, low) = (fresh_number(), fresh_number());
    format!("{high:016x}{low:016x}")
}

/// A span that nobody names yet.
pub fn fresh_span() -> SpanId {
    SpanId(fresh_number())
}

/// The next value of a counter under a keyed hash with the standard library's random seed. Never zero, which
/// stands for "no id".
fn fresh_number() -> u64 {
    static SEED: OnceLock<RandomState> = OnceLock::new();
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let count = COUNTER.fetch_add(1, Ordering::Relaxed);
    SEED.get_or_init(RandomState::new).hash_one(count).max(1)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::io;
    use std::sync::{Arc, Mutex};

    use serde_json::{Value, json};

    use kernel::trace::Trace;

    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

    #[test]
    fn fresh_traces_are_valid_and_differ() {
        let fresh: Vec<String> = (0..1_000).map(|_| fresh_trace_id()).collect();
        for id in &fresh {
            let trace = Trace::recorded(id, false, fresh_span()).unwrap();
            assert_eq!(Trace::parse(&trace.to_string()), Some(trace));
        }
        let ids: BTreeSet<&String> = fresh.iter().collect();
        assert_eq!(ids.len(), fresh.len());
    }

    #[test]
    fn formats_are_chosen_by_name() {
        for (name, expected) in [
            ("json", Ok(LogFormat::Json)),
            ("text", Ok(LogFormat::Text)),
            ("auto", Ok(LogFormat::Auto)),
            ("xml", Err("`xml` is no log format; json, text and auto are".to_owned())),
        ] {
            assert_eq!(name.parse(), expected);
        }
    }

    #[test]
    fn filter_is_the_argument_then_the_variable_then_info() {
        for (argument, variable, expected, complains) in [
            (None, None, "info", false),
            (None, Some("debug"), "debug", false),
            (None, Some(" "), "info", false),
            (Some("warn"), Some("debug"), "warn", false),
            (Some("kernel=trace"), None, "kernel=trace", false),
            (Some("a=b=c"), None, "info", true),
        ] {
            let (filter, complaint) = choose_filter(argument, variable);
            assert_eq!(filter.to_string(), expected);
            assert_eq!(complaint.is_some(), complains, "{complaint:?}");
        }
    }

    /// Collects what is logged.
    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Page {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// The lines that a small program logs.
    fn logged(json: bool) -> Vec<String> {
        let page = Page::default();
        let writer = page.clone();
        let (filter, _) = choose_filter(None, None);
        let lines = lines(json, false, move || writer.clone()).with_filter(filter);
        tracing::subscriber::with_default(tracing_subscriber::registry().with(lines), || {
            let request = tracing::info_span!("request", trace_id = TRACE).entered();
            tracing::info_span!("commit", revision = 3).in_scope(|| {
                tracing::warn!(target: "store", attempts = 2, "retrying");
                tracing::debug!("not shown");
            });
            drop(request);
            tracing::info!("done\nsecond line");
        });
        let bytes = page.0.lock().unwrap().clone();
        let text = String::from_utf8(bytes).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn json_lines_hold_event_and_span_fields() {
        let mut lines: Vec<Value> =
            logged(true).iter().map(|line| serde_json::from_str(line).unwrap()).collect();
        for line in &mut lines {
            let timestamp = line.as_object_mut().unwrap().remove("timestamp").unwrap();
            let timestamp = timestamp.as_str().unwrap();
            // RFC 3339 in UTC, as 2026-01-31T12:00:00.000000Z.
            let shape: String = timestamp.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
            assert_eq!(shape, "0000-00-00T00:00:00.000000Z");
        }
        let spans = json!([
            {"name": "request", "trace_id": TRACE},
            {"name": "commit", "revision": 3},
        ]);
        let warned = json!({"level": "WARN", "target": "store", "message": "retrying",
            "attempts": 2, "spans": spans});
        assert_eq!(lines[0], warned);
        assert_eq!(lines[1]["message"], "done\nsecond line");
        assert_eq!(lines.len(), 2);
    }

    #[test]
    fn text_lines_say_the_same_without_colour() {
        let lines = logged(false);
        let expected =
            format!(" WARN request{{trace_id=\"{TRACE}\"}}:commit{{revision=3}}: store: retrying attempts=2");
        assert!(lines[0].ends_with(&expected), "{}", lines[0]);
        assert!(lines[1].ends_with(" INFO app::telemetry::tests: done"));
    }
}
