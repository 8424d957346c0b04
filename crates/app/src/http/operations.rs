//! Running the server: health, figures, information, recovery, the virtual clock.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse, Response};
use engine::health::Check;
use engine::{EngineError, RecoveryReport};
use kernel::time::{Delay, Timestamp};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use crate::http::Shared;
use crate::http::problem::Problem;
use crate::http::request::{self, Asked, Body, Caller};
use crate::recognisers::Recognisers;

/// The process runs.
pub async fn livez() -> &'static str {
    "ok\n"
}

#[derive(Debug, Serialize)]
struct Readiness {
    ready: bool,
    store: String,
    machines: usize,
    /// How everything else stands, if that is asked. None of it would be better if new work went elsewhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    checks: Option<Vec<Check>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReadyQuery {
    /// Without a value, or `true`.
    verbose: Option<String>,
}

/// Whether new work should be sent here: the store answers. A server that is stopping does not answer at all.
pub async fn readyz(
    State(app): State<Shared>,
    Asked(ReadyQuery { verbose }): Asked<ReadyQuery>,
    mut parts: Parts,
) -> Result<Response, Problem> {
    let verbose = match verbose.as_deref() {
        None | Some("false") => false,
        Some("" | "true" | "1") => true,
        Some(other) => {
            let detail = format!("verbose is {other}; it takes no value, or true or false");
            return Err(Problem::bad_request("bad_query", detail));
        }
    };
    // It is about all tenants, as figures are. Whoever only asks where to send work is not asked who that is.
    if verbose && !app.access.open_metrics {
        Caller::from_request_parts(&mut parts, &app).await?;
    }
    app.read(move |app| {
        let store = app.engine.store().next_due().map(|_| "ok".to_owned());
        let ready = store.is_ok();
        let readiness = Readiness {
            ready,
            store: store.unwrap_or_else(|error| error.to_string()),
            machines: app.machines().len(),
            checks: verbose.then(|| app.engine.condition()),
        };
        Ok(request::json(if ready { 200 } else { 503 }, &readiness, None))
    })
    .await
}

#[derive(Debug, Serialize)]
struct Health {
    healthy: bool,
    checks: Vec<Check>,
}

/// For how long the result of a probe is told again: it writes, and whoever may only read can ask for it.
const PROBE_AGE_MAX: Duration = Duration::from_secs(5);

/// When the store was probed last, and what came of it.
pub type Probed = Arc<Mutex<Option<(Instant, Vec<Check>)>>>;

/// Tries out what the server does with the store; `readyz`, which anybody may ask at any rate, only asks it something.
pub async fn health(State(app): State<Shared>, _: Caller) -> Result<Response, Problem> {
    let mut last = Arc::clone(&app.probed).lock_owned().await;
    // The lock goes along: a probe goes on when whoever asked has gone, and no other begins meanwhile.
    app.read(move |app| {
        let fresh = last.as_ref().filter(|(at, _)| at.elapsed() < PROBE_AGE_MAX);
        let checks = match fresh.map(|(_, checks)| checks.clone()) {
            Some(checks) => checks,
            None => last.insert((Instant::now(), app.engine.probe())).1.clone(),
        };
        let healthy = checks.iter().all(|check| check.ok);
        Ok(request::json(if healthy { 200 } else { 503 }, &Health { healthy, checks }, None))
    })
    .await
}

/// Figures over all tenants: for whoever has any key, unless the settings say that anybody may see them.
pub async fn metrics(
    State(app): State<Shared>,
    caller: Result<Caller, Problem>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    if !app.access.open_metrics {
        caller?;
    }
    let accepted = headers.get("accept").and_then(|accepted| accepted.to_str().ok());
    let is_browser = accepted.is_some_and(|accepted| accepted.contains("text/html"));
    app.read(move |app| {
        let mut response = app.engine.figures()?.into_response();
        // A browser shows text, and saves what it does not know.
        let kind = match is_browser {
            true => "text/plain; charset=utf-8",
            false => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        };
        response.headers_mut().insert("content-type", HeaderValue::from_static(kind));
        Ok(response)
    })
    .await
}

#[derive(Debug, Serialize)]
struct Info {
    name: &'static str,
    version: &'static str,
    store: StoreView,
    clock: &'static str,
    now: Timestamp,
    machines: Vec<String>,
    /// Whether any message is answered at all, as the environment says.
    enable_fsm: bool,
    connections: ConnectionsView,
    uptime_seconds: u64,
}

/// How many of each kind are set; where they lead is the business of whoever runs the server.
#[derive(Debug, Serialize)]
struct ConnectionsView {
    channels: usize,
    webhooks: usize,
    calls: usize,
    recognisers: usize,
}

#[derive(Debug, Serialize)]
struct StoreView {
    backend: &'static str,
    version: String,
    location: String,
    durability: &'static str,
    /// Whether several servers may work over it at once.
    is_shared: bool,
    /// What whoever runs it should know about the backend's settings.
    notes: Vec<String>,
}

pub async fn info(State(app): State<Shared>, _: Caller) -> Response {
    let store = app.engine.store().info();
    let clock = app.engine.clock();
    let (channels, webhooks, calls) = app.connections.counts();
    let recognisers = app.recognisers.as_ref().map_or(0, Recognisers::count);
    let info = Info {
        name: "statewright",
        version: env!("CARGO_PKG_VERSION"),
        store: StoreView {
            backend: store.backend,
            version: store.version,
            location: store.location,
            durability: store.durability.as_str(),
            is_shared: store.is_shared,
            notes: store.notes,
        },
        clock: if clock.is_virtual() { "virtual" } else { "system" },
        now: clock.now(),
        machines: app.machines().iter().map(|m| m.name.to_string()).collect(),
        enable_fsm: app.rollouts.enabled(),
        connections: ConnectionsView { channels, webhooks, calls, recognisers },
        uptime_seconds: app.started.elapsed().as_secs(),
    };
    request::json(200, &info, None)
}

/// Fires all that is due, now, and says what that was.
pub async fn recovery(State(app): State<Shared>, _: Caller) -> Result<Response, Problem> {
    app.read(|app| Ok(request::json(200, &app.engine.recover()?, None))).await
}

/// Batches of a clean-up that somebody asks for: as much as a request may take.
const CLEAN_UP_BATCHES_MAX: usize = 50;

#[derive(Debug, Default, Serialize)]
struct CleanedUp {
    entries_deleted: usize,
    effects_deleted: usize,
    instances_deleted: usize,
    /// Whether there is more to delete: ask again.
    more: bool,
}

/// Deletes what is older than the retention, now rather than in its time.
pub async fn clean_up(State(app): State<Shared>, _: Caller) -> Result<Response, Problem> {
    app.read(|app| {
        let settings = app.engine.settings();
        let now = app.engine.clock().now().as_millis();
        let before = Timestamp::from_millis(now - settings.retention.as_millis());
        let mut all = CleanedUp::default();
        for _ in 0..CLEAN_UP_BATCHES_MAX {
            let cleaned =
                app.engine.store().clean_up(before, settings.clean_up_max).map_err(EngineError::from)?;
            all.entries_deleted += cleaned.entries_deleted;
            all.effects_deleted += cleaned.effects_deleted;
            all.instances_deleted += cleaned.instances_deleted;
            all.more = cleaned.more;
            if !all.more {
                break;
            }
        }
        Ok(request::json(200, &all, None))
    })
    .await
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdvanceBody {
    by: Delay,
}

#[derive(Debug, Serialize)]
struct Advanced {
    now: Timestamp,
    recovery: RecoveryReport,
}

/// Moves the virtual clock and fires what comes due by it.
pub async fn advance_clock(
    State(app): State<Shared>,
    _: Caller,
    Body(AdvanceBody { by }): Body<AdvanceBody>,
) -> Result<Response, Problem> {
    app.read(move |app| {
        let Some(now) = app.engine.clock().advance(by) else {
            let detail =
                "this server runs on the machine's clock; start it with `dev --clock virtual` to move it";
            return Err(Problem::forbidden("clock_not_virtual", detail));
        };
        let recovery = app.engine.recover()?;
        Ok(request::json(200, &Advanced { now, recovery }, None))
    })
    .await
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderMap;
    use engine::{Clock, Engine, Machines, Settings};
    use store::MemoryStore;

    use super::*;
    use crate::access::{Access, api_key};
    use crate::connections::Connections;
    use crate::http::App;

    #[tokio::test]
    async fn a_probe_writes_once_in_five_seconds_whoever_asks() {
        let (store, machines) = (Arc::new(MemoryStore::new()), Arc::new(Machines::default()));
        let clock = Clock::virtual_at(Timestamp::from_millis(1_000));
        api_key::activate(&machines, &*store, clock.now()).unwrap();
        let engine = Engine::start(store, machines, clock.clone(), Settings::default());
        let connections = Arc::new(Connections::default());
        let app = Arc::new(App::new(engine, Access::open(), String::new(), connections));
        let ask = || async {
            let caller = Caller::of(app.access.anybody(None).unwrap(), &HeaderMap::new()).unwrap();
            assert_eq!(health(State(Arc::clone(&app)), caller).await.unwrap().status(), 200);
            app.engine.store().settings().unwrap()[0].saved_at.as_millis()
        };
        assert_eq!(ask().await, 1_000);
        clock.advance(Delay::from_secs(1)).unwrap();
        assert_eq!(ask().await, 1_000);
        app.probed.lock().await.as_mut().unwrap().0 -= PROBE_AGE_MAX;
        assert_eq!(ask().await, 2_000);
    }
}
