//! All transitions of the caller's tenant as server-sent events, as they land on this server.
//!
//! Owns how the engine's feed looks on the wire, how many listen at once, and that they end when the server does, or with
//! the key that they were asked for with. A stream that nobody reads holds its place until its connection is gone.

use std::future::poll_fn;
use std::sync::{Arc, Weak};
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::HeaderValue;
use axum::response::Response;
use bytes::Bytes;
use engine::stream::{Begin, Reader, Told, Wanted};
use kernel::id::{InstanceId, MachineName, TenantId};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::mpsc::{Sender, channel};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{MissedTickBehavior, interval};

use crate::http::export::{CHUNK_BYTES, CHUNKS_MAX, Streamed};
use crate::http::problem::Problem;
use crate::http::request::{Asked, Caller, text};
use crate::http::{App, Shared};
use crate::places::{Place, Places};

/// Streams at once, of all tenants: each is a connection, of which a server has 768, and has to be told of every commit.
const STREAMS_MAX: usize = 64;
/// Of those, of one tenant: a quarter, so that one alone does not keep the others out.
const STREAMS_PER_TENANT_MAX: usize = STREAMS_MAX / 4;
/// Proxies close what is silent for 30 to 60 seconds. It is also for how long a stream goes on at most when its key has expired,
/// or was revoked at another server.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// What `recent` may be: as much as a person looks through.
const RECENT_MAX: usize = 1_000;
/// Between two of the signs that `changes` asks for: a person sees nothing faster.
const CHANGES_EACH: Duration = Duration::from_millis(250);

/// Who listens. Dropping it ends all streams.
#[derive(Debug)]
pub struct Streams {
    places: Arc<Semaphore>,
    shares: Arc<Places<TenantId>>,
    ended: watch::Sender<bool>,
    heartbeat: Duration,
}

impl Default for Streams {
    fn default() -> Self {
        Self {
            places: Arc::new(Semaphore::new(STREAMS_MAX)),
            shares: Arc::default(),
            ended: watch::Sender::new(false),
            heartbeat: HEARTBEAT,
        }
    }
}

impl Streams {
    fn place(&self, tenant: &TenantId) -> Result<Taken, Problem> {
        let Some(share) = self.shares.take(tenant.clone(), STREAMS_PER_TENANT_MAX) else {
            return Err(Problem::too_many_streams(STREAMS_PER_TENANT_MAX, "one tenant may have"));
        };
        let place = Arc::clone(&self.places).try_acquire_owned();
        let place = place.map_err(|_| Problem::too_many_streams(STREAMS_MAX, "one server has places for"))?;
        Ok(Taken { _share: share, _place: place })
    }

    /// Ends all, and lets none begin.
    pub fn end(&self) {
        self.ended.send_replace(true);
    }
}

/// What a stream has taken, for as long as it goes on.
struct Taken {
    _share: Place<TenantId>,
    _place: OwnedSemaphorePermit,
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
    let place = app.streams.place(&caller.tenant)?;
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
        _ => {
            let heartbeat = app.streams.heartbeat;
            let keys = app.access.known.changed();
            let asker = Asker { app: Arc::downgrade(&app), headers, keys };
            drop(tokio::spawn(tell(reader, sender, ended, changes, asker, heartbeat, place)));
        }
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

/// Who has asked for a stream. It keeps no server alive that is gone otherwise.
struct Asker {
    app: Weak<App>,
    headers: HeaderMap,
    /// Tells when this server has changed any key.
    keys: watch::Receiver<u64>,
}

impl Asker {
    async fn may_go_on(&self) -> bool {
        match self.app.upgrade() {
            Some(app) => app.still_opens(&self.headers).await,
            None => false,
        }
    }
}

/// What a stream goes on for.
enum Heard {
    /// Perhaps its own.
    KeyChanged,
    Heartbeat,
    Told(Told),
}

/// Until nobody reads, whoever asked may not any more, or the server ends.
async fn tell(
    mut reader: Reader,
    to: Sender<Result<Bytes, String>>,
    mut ended: watch::Receiver<bool>,
    changes: bool,
    mut asker: Asker,
    heartbeat: Duration,
    _place: Taken,
) {
    let mut heartbeat = interval(heartbeat);
    heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let heard = tokio::select! {
            biased;
            _ = ended.wait_for(|ended| *ended) => return,
            () = to.closed() => return,
            _ = asker.keys.changed() => Heard::KeyChanged,
            // The first comes at once, so that who reconnects before anything has happened knows from where. Before what
            // there is to tell: on a busy server there always is something.
            _ = heartbeat.tick() => Heard::Heartbeat,
            told = poll_fn(|context| reader.poll_next(context)) => Heard::Told(told),
        };
        let chunk = match heard {
            Heard::Told(_) if changes => change(&mut reader),
            Heard::Told(told) => events(&mut reader, Some(told)),
            Heard::KeyChanged if asker.may_go_on().await => continue,
            Heard::Heartbeat if asker.may_go_on().await => format!(": here\nid: {}\n\n", reader.cursor()),
            Heard::KeyChanged | Heard::Heartbeat => return,
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

async fn tell_what_is_there(mut reader: Reader, to: Sender<Result<Bytes, String>>, _place: Taken) {
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

#[cfg(test)]
mod tests {
    use axum::extract::Request;
    use axum::http::Request as Asking;
    use engine::{Clock, Engine, Machines, Settings};
    use http_body::Body as _;
    use hyper::service::Service as _;
    use hyper_util::service::TowerToHyperService;
    use store::MemoryStore;

    use super::*;
    use crate::access::api_key::{self, Secret};
    use crate::access::{Access, Holder, Scope};
    use crate::connections::Connections;
    use crate::http::router;
    use kernel::time::Delay;

    /// Far longer than anything takes here.
    const NEVER: Duration = Duration::from_secs(20);

    fn app(heartbeat: Duration) -> Shared {
        let (store, machines) = (Arc::new(MemoryStore::new()), Arc::new(Machines::default()));
        api_key::activate(&machines, &*store, Clock::System.now()).unwrap();
        let engine = Engine::start(store, machines, Clock::System, Settings::default());
        let access = Access::from_pairs("acme=0123456789abcdef").unwrap();
        let mut app = App::new(engine, access, String::new(), Arc::new(Connections::default()));
        app.streams.heartbeat = heartbeat;
        Arc::new(app)
    }

    async fn key(app: &Shared, lasts: Option<Delay>, session_of: Option<String>) -> Secret {
        let tenant = TenantId::parse("acme").unwrap();
        let holder = Holder { tenant, scope: Scope::Read, who: "ann".into() };
        let expires_at = lasts.map(|lasts| app.engine.clock().now().plus(lasts));
        let wanted = api_key::Wanted { holder, made_by: "test".into(), expires_at, session_of };
        app.make_key(&wanted).await.unwrap()
    }

    async fn listen(app: &Shared, header: (&str, String)) -> Body {
        let request: Request =
            Asking::get("/v1/stream").header(header.0, header.1).body(Body::empty()).unwrap();
        let response = TowerToHyperService::new(router(Arc::clone(app))).call(request).await.unwrap();
        assert_eq!(response.status(), 200);
        response.into_body()
    }

    async fn next(stream: &mut Body) -> Option<Bytes> {
        let frame = poll_fn(|context| std::pin::Pin::new(&mut *stream).poll_frame(context));
        let frame = tokio::time::timeout(NEVER, frame).await.expect("the stream is silent")?;
        Some(frame.unwrap().into_data().unwrap())
    }

    /// Whether it ends before long.
    async fn ends(stream: &mut Body) -> bool {
        for _ in 0..5 {
            if next(stream).await.is_none() {
                return true;
            }
        }
        false
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_stream_ends_with_the_key_that_it_was_asked_for_with() {
        let app = app(Duration::from_millis(20));
        let (kept, revoked) = (key(&app, None, None).await, key(&app, None, None).await);
        let session = key(&app, None, Some(revoked.id.to_string())).await;
        let bearer = |key: &Secret| ("authorization", format!("Bearer {}", key.text));
        let mut goes_on = listen(&app, bearer(&kept)).await;
        let mut of_settings = listen(&app, ("authorization", "Bearer 0123456789abcdef".to_owned())).await;
        let mut over = listen(&app, bearer(&revoked)).await;
        let mut signed_in = listen(&app, ("cookie", format!("statewright_session={}", session.text))).await;
        let streams = [&mut goes_on, &mut of_settings, &mut over, &mut signed_in];
        for stream in streams {
            assert!(next(stream).await.unwrap().starts_with(b": here"));
        }
        app.ask_key(api_key::revocation(&revoked.id, "test"), &revoked.id).await.unwrap();
        assert!(ends(&mut over).await);
        assert!(ends(&mut signed_in).await);
        let mut expires = listen(&app, bearer(&key(&app, Some(Delay::from_millis(500)), None).await)).await;
        while next(&mut expires).await.is_some() {}
        assert!(!ends(&mut goes_on).await);
        assert!(!ends(&mut of_settings).await);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_key_that_is_revoked_here_ends_its_streams_before_any_heartbeat() {
        let app = app(10 * NEVER);
        let revoked = key(&app, None, None).await;
        let session = key(&app, None, Some(revoked.id.to_string())).await;
        let mut over = listen(&app, ("authorization", format!("Bearer {}", revoked.text))).await;
        let mut signed_in = listen(&app, ("cookie", format!("statewright_session={}", session.text))).await;
        for stream in [&mut over, &mut signed_in] {
            assert!(next(stream).await.unwrap().starts_with(b": here"));
        }
        // Another key is no concern of theirs.
        let other = key(&app, None, None).await;
        app.ask_key(api_key::revocation(&other.id, "test"), &other.id).await.unwrap();
        let mut goes_on = listen(&app, ("authorization", "Bearer 0123456789abcdef".to_owned())).await;
        assert!(next(&mut goes_on).await.is_some());
        app.ask_key(api_key::revocation(&revoked.id, "test"), &revoked.id).await.unwrap();
        assert_eq!((next(&mut over).await, next(&mut signed_in).await), (None, None));
    }
}
