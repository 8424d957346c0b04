//! Export: spans leave by OTLP over HTTP, in batches, on a thread of their own.
//!
//! What a collector does not take is lost: a trace is worth no more than that. It is counted, and told once until it goes
//! well again.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender};
use std::time::{Duration, Instant};

use bytes::Bytes;
use opentelemetry::KeyValue;
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanExporter as _};
use tokio::runtime::Handle;
use ureq::http::{Request, Response};

use super::Noted;
use super::spans::{Anchor, spans_of};
use crate::connections::host_of;

/// Spans wait at most so long for others to go with.
const GATHER_MAX: Duration = Duration::from_secs(1);
/// What is noted for one batch, each of some spans; collectors take no more than 4 MB at a time.
const BATCH_MAX: usize = 1_024;
/// A collector that takes longer is told no more of this batch.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Variables of OpenTelemetry by which exporting is asked for.
const ENDPOINT_VARIABLES: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];

/// Whether the environment names a collector.
pub fn is_asked_for() -> bool {
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let off = std::env::var_os("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"));
    !off && ENDPOINT_VARIABLES.into_iter().any(set)
}

#[derive(Debug)]
pub struct Exporter {
    exporter: SpanExporter,
    /// For people.
    host: String,
}

impl Exporter {
    /// `url` and `headers` go before what the environment says.
    ///
    /// # Errors
    /// What is wrong with either.
    pub fn new(url: Option<String>, headers: HashMap<String, String>) -> Result<Self, String> {
        let named = || ENDPOINT_VARIABLES.iter().find_map(|name| std::env::var(name).ok());
        let host = host_of(&url.clone().or_else(named).unwrap_or_default()).to_owned();
        let config = ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(TIMEOUT));
        let mut builder = SpanExporter::builder()
            .with_http()
            .with_http_client(Post(config.build().into()))
            .with_protocol(Protocol::HttpBinary)
            .with_timeout(TIMEOUT);
        if let Some(url) = url {
            builder = builder.with_endpoint(url);
        }
        if !headers.is_empty() {
            builder = builder.with_headers(headers);
        }
        let mut exporter = builder.build().map_err(|error| error.to_string())?;
        exporter.set_resource(&resource());
        Ok(Self { exporter, host })
    }

    pub fn host(&self) -> &str {
        &self.host
    }

    /// Starts the thread. `count` is told how many spans came to which end.
    pub fn run(
        self,
        noted: Receiver<Noted>,
        dropped: Arc<AtomicU64>,
        count: impl Fn(&'static str, u64) + Send + 'static,
    ) {
        let runtime = Handle::current();
        let thread = std::thread::Builder::new().name("traces".into());
        let run = move || {
            let mut is_failing = false;
            while let Some(Gathered { noted, ended }) = gather(&noted) {
                let anchor = Anchor::now();
                let spans: Vec<SpanData> = noted.into_iter().flat_map(|one| spans_of(one, anchor)).collect();
                let number = spans.len() as u64;
                if number > 0 {
                    let exported = runtime.block_on(self.exporter.export(spans));
                    count(if exported.is_ok() { "exported" } else { "failed" }, number);
                    match &exported {
                        Err(error) if !is_failing => tracing::warn!(
                            host = self.host,
                            "spans cannot be exported, and are lost until it goes well again: {error}"
                        ),
                        Ok(()) if is_failing => tracing::info!(host = self.host, "spans are exported again"),
                        _ => {}
                    }
                    is_failing = exported.is_err();
                }
                count("dropped", dropped.swap(0, Ordering::Relaxed));
                ended.into_iter().for_each(|ended| {
                    // Whoever waited may have gone away.
                    let _ = ended.send(());
                });
            }
        };
        if let Err(error) = thread.spawn(run) {
            tracing::error!("failed to start the thread that exports traces: {error}");
        }
    }
}

struct Gathered {
    noted: Vec<Noted>,
    /// Who waits until they are exported.
    ended: Option<SyncSender<()>>,
}

/// What is noted within a while. `None` when nothing more can come.
fn gather(noted: &Receiver<Noted>) -> Option<Gathered> {
    let mut gathered = Gathered { noted: Vec::new(), ended: None };
    let mut next = noted.recv().ok();
    next.as_ref()?;
    let until = Instant::now() + GATHER_MAX;
    while let Some(one) = next.take() {
        if let Noted::End(ended) = one {
            gathered.ended = Some(ended);
            return Some(gathered);
        }
        gathered.noted.push(one);
        if gathered.noted.len() < BATCH_MAX {
            next = noted.recv_timeout(until.saturating_duration_since(Instant::now())).ok();
        }
    }
    Some(gathered)
}

/// Who says it: by its own name, unless the environment has another.
fn resource() -> Resource {
    let named = |variable: &str, part: &str| std::env::var(variable).is_ok_and(|value| value.contains(part));
    let builder =
        Resource::builder().with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")));
    match named("OTEL_SERVICE_NAME", "") || named("OTEL_RESOURCE_ATTRIBUTES", "service.name=") {
        true => builder.build(),
        false => builder.with_service_name("statewright").build(),
    }
}

/// Requests by the client that the command line has too. A collector may be on this machine: none of the guards of
/// requests to the outside are in the way.
#[derive(Debug)]
struct Post(ureq::Agent);

impl Post {
    fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let response = self.0.run(request.map(Vec::from))?;
        let (parts, mut body) = response.into_parts();
        Ok(Response::from_parts(parts, body.read_to_vec()?.into()))
    }
}

impl HttpClient for Post {
    /// Blocks: it is called on the exporter's own thread.
    fn send_bytes<'c, 'f>(
        &'c self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'f>>
    where
        'c: 'f,
        Self: 'f,
    {
        Box::pin(async { self.send(request) })
    }
}
