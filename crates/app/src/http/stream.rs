//! All transitions of the caller's tenant as server-sent events, as they land on this server.
//!
//! Owns how the engine's feed looks on the wire, how many listen at once, and that they end when the server does. A stream
//! that nobody reads holds its place until its connection is gone.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::HeaderValue;
use axum::response::Response;
use bytes::Bytes;
use engine::stream::{Begin, Reader, Told, Wanted};
use kernel::id::{InstanceId, MachineName};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::mpsc::{Sender, channel};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{MissedTickBehavior, interval};

use crate::http::Shared;
use crate::http::export::{CHUNK_BYTES, CHUNKS_MAX, Streamed};
use crate::http::problem::Problem;
use crate::http::request::{Asked, Caller, text};

/// Streams at once, of all tenants: each is a connection, of which a server has 768, and has to be told of every commit.
const STREAMS_MAX: usize = 64;
/// Proxies close what is silent for 30 to 60 seconds.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// What `recent` may be: as much as a person looks through.
const RECENT_MAX: usize = 1_000;
/// Between two of the signs that `changes` asks for: a person sees nothing faster.
const CHANGES_EACH: Duration = Duration::from_millis(250);

/// Who listens. Dropping it ends all streams.
#[derive(Debug)]
pub struct Streams {
    places: Arc<Semaphore>,
    ended: watch::Sender<bool>,
}

impl Default for Streams {
    fn default() -> Self {
        Self { places: Arc::new(Semaphore::new(STREAMS_MAX)), ended: watch::Sender::new(false) }
    }
}

impl Streams {
    /// Ends all, and lets none begin.
    pub fn end(&self) {
        self.ended.send_replace(true);
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StreamQuery {
    /// A cursor; the header `Last-Event-ID`, which is newer, wins.
    after: Option<String>,
    /// Without a cursor, first the last so many that are remembered.
    recent: Option<usize>,
    machine: Option<MachineName>,
    instance: Option<InstanceId>,
    /// `false`: it ends when all that is remembered was told.
    follow: Option<bool>,
    /// Only that something has happened, now and then: for who asks for the rest anew.
    #[serde(default)]
    changes: bool,
}

pub async fn get(
    State(app): State<Shared>,
    headers: HeaderMap,
    caller: Caller,
    Asked(asked): Asked<StreamQuery>,
) -> Result<Response, Problem> {
    let StreamQuery { after, recent, machine, instance, follow, changes } = asked;
    if let Some(machine) = &machine {
        app.engine.machines().current_for(&caller.tenant, machine)?;
    }
    let last = text(&headers, "last-event-id")?.map(str::to_owned);
    let begin = match (last.or(after), recent) {
        (Some(cursor), _) => Begin::After(cursor),
        (None, Some(recent)) if recent <= RECENT_MAX => Begin::Recent(recent),
        (None, Some(recent)) => {
            let detail = format!("recent is {recent}; it may be 0 to {RECENT_MAX}");
            return Err(Problem::bad_request("bad_query", detail));
        }
        (None, None) => Begin::Now,
    };
    let Ok(place) = Arc::clone(&app.streams.places).try_acquire_owned() else {
        return Err(Problem::too_many_streams(STREAMS_MAX));
    };
    let ended = app.streams.ended.subscribe();
    if *ended.borrow() {
        return Err(engine::EngineError::Stopping.into());
    }
    let wanted = Wanted { tenant: caller.tenant, machine, instance };
    let reader = app.engine.feed().reader(wanted, &begin);
    let reader = reader.map_err(|problem| Problem::bad_request("bad_query", problem))?;
    let (sender, receiver) = channel(CHUNKS_MAX);
    match follow {
        Some(false) => drop(tokio::spawn(tell_what_is_there(reader, sender, place))),
        _ => drop(tokio::spawn(tell(reader, sender, ended, changes, place))),
    }
    let mut response = Response::new(Body::new(Streamed::new(receiver)));
    for (name, value) in [
        ("content-type", "text/event-stream"),
        ("cache-control", "no-store"),
        // For nginx, which would otherwise gather a page before it passes anything on.
        ("x-accel-buffering", "no"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    Ok(response)
}

/// Until nobody reads, or the server ends.
async fn tell(
    mut reader: Reader,
    to: Sender<Result<Bytes, String>>,
    mut ended: watch::Receiver<bool>,
    changes: bool,
    _place: OwnedSemaphorePermit,
) {
    let mut heartbeat = interval(HEARTBEAT);
    heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let chunk = tokio::select! {
            biased;
            _ = ended.wait_for(|ended| *ended) => return,
            () = to.closed() => return,
            told = poll_fn(|context| reader.poll_next(context)) => match changes {
                true => change(&mut reader),
                false => events(&mut reader, Some(told)),
            },
            // The first comes at once, so that who reconnects before anything has happened knows from where.
            _ = heartbeat.tick() => format!(": here\nid: {}\n\n", reader.cursor()),
        };
        tokio::select! {
            biased;
            _ = ended.wait_for(|ended| *ended) => return,
            sent = to.send(Ok(chunk.into())) => if sent.is_err() { return },
        }
        if changes {
            tokio::select! {
                biased;
                _ = ended.wait_for(|ended| *ended) => return,
                () = tokio::time::sleep(CHANGES_EACH) => {}
            }
        }
    }
}

/// That something has happened, once for all of it.
fn change(reader: &mut Reader) -> String {
    while reader.try_next().is_some() {}
    format!("id: {}\nevent: changed\ndata: {{}}\n\n", reader.cursor())
}

async fn tell_what_is_there(
    mut reader: Reader,
    to: Sender<Result<Bytes, String>>,
    _place: OwnedSemaphorePermit,
) {
    loop {
        let chunk = events(&mut reader, None);
        if chunk.is_empty() || to.send(Ok(chunk.into())).await.is_err() {
            return;
        }
    }
}

/// `first`, and what is there besides, up to a chunk.
fn events(reader: &mut Reader, first: Option<Told>) -> String {
    let mut chunk = String::new();
    let mut next = first.or_else(|| reader.try_next());
    while let Some(told) = next {
        let (id, event, data) = match told {
            Told::Happened(id, happening) => {
                (id, "transition", serde_json::to_string(&*happening).unwrap_or_default())
            }
            Told::Gap(id, missed) => (id, "gap", json!({ "missed": missed }).to_string()),
        };
        chunk.push_str(&format!("id: {id}\nevent: {event}\ndata: {data}\n\n"));
        next = if chunk.len() < CHUNK_BYTES { reader.try_next() } else { None };
    }
    chunk
}
