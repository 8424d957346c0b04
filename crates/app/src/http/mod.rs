//! The HTTP interface: routes, who is asking, and how an input gets to the engine and its answer back.
//!
//! Handlers translate; they decide nothing. Every status code and error shape is in `problem`.

pub mod api_keys;
mod backup;
mod channels;
mod clarifications;
pub mod deliveries;
mod diagrams;
mod diff;
mod export;
pub mod flows;
mod identify;
mod imports;
pub mod instances;
mod keys;
mod machines;
mod messages;
mod migrate;
mod openapi;
mod operations;
mod overlays;
mod phases;
pub mod problem;
mod receipts;
mod replay;
pub mod request;
mod reroute;
mod rollout;
mod shadow;
mod sign_in;
mod stories;
mod stream;
mod work;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post, put};
use engine::{Answered, Engine, Submitted};
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use kernel::commit::Answer;
use kernel::input::Input;
use kernel::machine::Machine;
use store::KeyedStore;
use tokio::sync::Semaphore;

use crate::access::{Access, BackupKey};
use crate::connections::Connections;
use crate::dashboard::{self, Pulse};
use crate::pictures::Pictures;
use crate::recognisers::Recognisers;
use crate::rollout::Rollouts;
use crate::traces::Traces;
pub use machines::refused as refused_definition;
use problem::Problem;
pub use rollout::keep_settings_fresh;
use stream::Streams;

/// Bodies above this are refused before they are read: ten times the largest sensible message.
pub const BODY_BYTES_MAX: usize = 1024 * 1024;
/// How long an input may wait for its commit before its sender is told to come back with the same key.
const ANSWER_DEADLINE: Duration = Duration::from_secs(15);

/// Reads that take a while, at one time: more would take the processors from those who commit.
const TURNS: usize = 4;

/// What all handlers share.
#[derive(Debug)]
pub struct App {
    pub engine: Engine,
    pub access: Access,
    /// How the outside reaches us: the base of the URLs that providers sign.
    pub public_url: String,
    pub connections: Arc<Connections>,
    /// Everything is on, unless whoever starts the server has loaded what is set.
    pub rollouts: Rollouts,
    /// Without any, nobody is asked what messages mean.
    pub recognisers: Option<Recognisers>,
    /// The engine's store, for whoever asks about its keys.
    pub keys: Option<Arc<KeyedStore>>,
    /// Without one, nobody is given a backup by a server that asks for keys.
    pub backup_key: Option<BackupKey>,
    /// What the dashboard shows of the last minutes.
    pub pulse: Pulse,
    /// Folders with definitions, and with the stories beside them.
    pub machine_folders: Vec<PathBuf>,
    pub streams: Streams,
    /// Of reads that take a while.
    turns: Arc<Semaphore>,
    pub probed: operations::Probed,
    pub pictures: Pictures,
    /// Where what becomes of requests is noted, if anybody is told.
    pub traces: Option<Arc<Traces>>,
    pub started: Instant,
}

pub type Shared = Arc<App>;

/// An input that was handed over.
struct Waiting(tokio::sync::oneshot::Receiver<Answered>);

impl Waiting {
    /// Its durable answer.
    async fn answer(self) -> Result<Submitted, Problem> {
        match tokio::time::timeout(ANSWER_DEADLINE, self.0).await {
            Ok(Ok(answered)) => answered.map_err(Problem::from),
            Ok(Err(_)) => Err(Problem::from(engine::EngineError::Stopping)),
            Err(_) => Err(Problem::still_running()),
        }
    }
}

impl App {
    pub fn new(engine: Engine, access: Access, public_url: String, connections: Arc<Connections>) -> Self {
        let started = Instant::now();
        let rollouts = Rollouts::default();
        Self {
            engine,
            access,
            public_url,
            connections,
            rollouts,
            recognisers: None,
            keys: None,
            backup_key: None,
            pulse: Pulse::default(),
            machine_folders: Vec::new(),
            streams: Streams::default(),
            turns: Arc::new(Semaphore::new(TURNS)),
            probed: operations::Probed::default(),
            pictures: Pictures::default(),
            traces: None,
            started,
        }
    }

    /// The current machines that people have defined; our own are left out.
    pub fn machines(&self) -> Vec<Arc<Machine>> {
        self.engine.machines().all().into_iter().filter(|machine| !machine.name.is_own()).collect()
    }

    /// Hands an input to the engine and waits for its durable answer.
    async fn submit(&self, input: Input) -> Result<Submitted, Problem> {
        let handed_over = Instant::now();
        let answer = self.hand_over(input).answer().await;
        self.pulse.answered(handed_over.elapsed());
        answer
    }

    /// Hands an input to the engine. Inputs are taken in the order in which they are handed over.
    fn hand_over(&self, input: Input) -> Waiting {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        self.engine.submit(input, move |answered: Answered| {
            // The client may have gone away; its input is committed all the same.
            let _ = sender.send(answered);
        });
        Waiting(receiver)
    }

    /// `submit`, for what may be a message.
    async fn submit_message(self: &Arc<Self>, input: Input) -> Result<Submitted, Problem> {
        let handed_over = Instant::now();
        let answer = self.hand_over_message(input).answer().await;
        self.pulse.answered(handed_over.elapsed());
        answer
    }

    /// `hand_over`, for what may be a message: a recogniser is asked first, if one is set up for its machine, and each of
    /// a person's messages then waits for the one before. Otherwise it is `hand_over`.
    fn hand_over_message(self: &Arc<Self>, input: Input) -> Waiting {
        let Some(place) = self.recognisers.as_ref().and_then(|all| all.queue(&input)) else {
            return self.hand_over(input);
        };
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let app = Arc::clone(self);
        // Apart from the request, as the engine's part is: who gives up waiting has handed the message over all the same.
        tokio::spawn(async move {
            let turn = place.reached().await;
            let input = app.understood(input).await;
            if let Ok(answered) = app.hand_over(input).0.await {
                let _ = sender.send(answered);
            }
            drop(turn);
        });
        Waiting(receiver)
    }

    /// An input with what a recogniser makes of its message, if one is set up and it could make a difference.
    async fn understood(self: &Arc<Self>, input: Input) -> Input {
        let Some(recogniser) = self.recognisers.as_ref().and_then(|all| all.of(&input)) else {
            return input;
        };
        let (app, asked) = (Arc::clone(self), input.clone());
        let advised = tokio::task::spawn_blocking(move || match &app.recognisers {
            Some(recognisers) => recognisers.advise(&app.engine, &recogniser, asked),
            None => asked,
        });
        // Advice that panicked is no reason to lose the message.
        advised.await.unwrap_or(input)
    }

    /// Takes a creation, or says what would come of it.
    pub async fn create(self: &Arc<Self>, input: Input, dry_run: bool) -> Result<Submitted, Problem> {
        match dry_run {
            true => self.read(move |app| Ok(app.engine.try_creation(&input)?)).await,
            false => self.submit(input).await,
        }
    }

    /// `read`, for what takes a while: a few at a time, and only as long as somebody waits for it.
    pub async fn read_in_turn<T: Send + 'static>(
        self: &Arc<Self>,
        read: impl FnOnce(&App) -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Problem> {
        let turn = Arc::clone(&self.turns).acquire_owned().await.map_err(|_| Problem::internal())?;
        self.read(move |app| {
            let _turn = turn;
            read(app)
        })
        .await
    }

    /// Runs a store read where blocking is allowed.
    pub async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        read: impl FnOnce(&App) -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Problem> {
        let app = Arc::clone(self);
        tokio::task::spawn_blocking(move || read(&app)).await.unwrap_or_else(|_| Err(Problem::internal()))
    }
}

/// The answer of an input over HTTP: a refusal is a problem, anything else is its body.
fn answered(submitted: &Submitted) -> Response {
    let mut response = match &*submitted.answer {
        Answer::Message(answer) => request::json(200, answer, Some(answer.revision)),
        Answer::Event(answer) => request::json(200, answer, Some(answer.revision)),
        Answer::Refused(refusal) => Problem::refused(refusal).into_response(),
    };
    if submitted.replayed {
        let replayed = axum::http::HeaderValue::from_static("true");
        response.headers_mut().insert("idempotent-replayed", replayed);
    }
    response
}

/// Answers a request by a router of `router`, with all that is the same for every route. As layers of the router, each of
/// these would be copied for each request.
pub async fn answer(app: Shared, router: Router, mut request: Request) -> Response {
    DefaultBodyLimit::max(BODY_BYTES_MAX).apply(&mut request);
    request::traced(app.traces.as_deref(), request, async |request| match app.let_in(&request) {
        Ok(()) => TowerToHyperService::new(router).call(request).await,
        Err(problem) => Ok(problem.into_response()),
    })
    .await
}

/// The routes. Requests come to them by `answer`.
pub fn router(app: Shared) -> Router {
    Router::new()
        .merge(dashboard::routes())
        .route("/v1/machines/{machine}/sessions/{subject}/messages", post(messages::post_message))
        .route("/v1/machines/{machine}/sessions/{subject}", get(messages::get_session))
        .route("/v1/instances", post(instances::create).get(instances::list))
        .route("/v1/imports", post(imports::post))
        .route("/v1/imports/undo", post(imports::undo))
        .route("/v1/instances/{id}", get(instances::show))
        .route("/v1/instances/{id}/events", post(instances::post_event))
        .route("/v1/instances/{id}/calls/{call}", post(instances::answer_call))
        .route("/v1/instances/{id}/effects", get(deliveries::of_instance))
        .route("/v1/dead-letters", get(deliveries::dead_letters))
        .route("/v1/dead-letters/{id}/retry", post(deliveries::retry))
        .route("/v1/instances/{id}/history", get(instances::history))
        .route("/v1/instances/{id}/story", get(stories::of_instance))
        .route("/v1/instances/{id}/diagram.svg", get(diagrams::of_instance))
        .route("/v1/instances/{id}/replay", get(replay::of_instance))
        .route("/v1/replay", get(replay::of_all))
        .route("/v1/export/{table}", get(export::get))
        .route("/v1/backup", get(backup::get))
        .route("/v1/stream", get(stream::get))
        .route("/v1/instances/{id}/explain", post(instances::explain))
        .route("/v1/instances/{id}/recover", post(instances::recover))
        .route("/v1/flows", post(flows::create).get(flows::list))
        .route("/v1/flows/{id}", get(flows::show))
        .route("/v1/flows/{id}/recovery-options", get(flows::recovery_options))
        .route("/v1/flows/{id}/history", get(flows::history))
        .route("/v1/flows/{id}/phases/{phase}/{action}", post(phases::act))
        .route("/v1/flows/{id}/{control}", post(phases::control))
        .route("/v1/phases", get(phases::list))
        .route("/v1/work/claim", post(work::claim))
        .route("/v1/clarifications", get(clarifications::list))
        .route("/v1/clarifications/{id}/answer", post(clarifications::answer))
        .route("/v1/machines", get(machines::list))
        .route("/v1/machines/check", post(machines::check))
        .route("/v1/machines/{name}", put(machines::activate).get(machines::show))
        .route("/v1/machines/{name}/versions", get(machines::versions))
        .route("/v1/machines/{name}/diagram.svg", get(diagrams::of_machine))
        .route("/v1/machines/{name}/diff", get(diff::show).post(diff::post))
        .route("/v1/machines/{name}/migrate", post(migrate::post))
        .route("/v1/machines/{name}/overlay", put(overlays::set).get(overlays::show).delete(overlays::remove))
        .route("/v1/machines/{name}/reroute", post(reroute::post))
        .route("/v1/machines/{machine}/rollout", put(rollout::set).get(rollout::show))
        .route("/v1/machines/{machine}/shadow", get(rollout::shadow).post(shadow::post))
        .route("/v1/machines/{machine}/shadow/summary", get(rollout::shadow_summary))
        .route("/v1/receipts/{key}/begin", post(receipts::begin))
        .route("/v1/receipts/{key}/complete", post(receipts::complete))
        .route("/v1/receipts/{key}/abandon", post(receipts::abandon))
        .route("/v1/channels/{kind}/{machine}", post(channels::receive).get(channels::subscribe))
        .route("/sign-in", post(sign_in::sign_in))
        .route("/sign-out", post(sign_in::sign_out))
        .route("/v1/api-keys", get(api_keys::list).post(api_keys::create))
        .route("/v1/api-keys/{id}", delete(api_keys::revoke))
        .route("/v1/api-keys/{id}/rotate", post(api_keys::rotate))
        .route("/v1/keys", get(keys::list))
        .route("/v1/keys/rotate", post(keys::rotate))
        .route("/v1/recovery", post(operations::recovery))
        .route("/v1/clean-up", post(operations::clean_up))
        .route("/v1/clock/advance", post(operations::advance_clock))
        .route("/v1/info", get(operations::info))
        .route("/v1/health", get(operations::health))
        .route("/livez", get(operations::livez))
        .route("/readyz", get(operations::readyz))
        .route("/metrics", get(operations::metrics))
        .route("/openapi.json", get(openapi::document))
        .fallback(dashboard::nowhere)
        .method_not_allowed_fallback(problem::wrong_method)
        .with_state(app)
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use engine::{Clock, Machines, Settings};
    use store::MemoryStore;

    use super::*;

    const MACHINE: &str = "machine: m\ninitial: a\nstates: { a: {} }\n";

    async fn status(app: &Shared, (method, path, body): (&str, &str, &'static str)) -> u16 {
        let request = Request::builder().method(method).uri(path).body(Body::from(body)).unwrap();
        answer(Arc::clone(app), router(Arc::clone(app)), request).await.status().as_u16()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_takes_a_while_waits_for_its_turn_and_nothing_else_does() {
        let engine = Engine::start(
            Arc::new(MemoryStore::new()),
            Arc::new(Machines::default()),
            Clock::System,
            Settings::default(),
        );
        let app = App::new(engine, Access::open(), String::new(), Arc::new(Connections::default()));
        let app = Arc::new(app);
        assert_eq!(status(&app, ("PUT", "/v1/machines/m", MACHINE)).await, 200);
        let slow = [
            ("POST", "/v1/machines/check", MACHINE),
            ("GET", "/v1/machines/m/diff?from=current&to=current", ""),
            ("POST", "/v1/machines/m/diff", MACHINE),
            ("POST", "/v1/machines/m/shadow", "{}"),
            ("GET", "/v1/machines/m/shadow/summary", ""),
            ("GET", "/v1/replay", ""),
            ("GET", "/machines/m?stories=true", ""),
            ("GET", "/inbox", ""),
        ];
        for asked in slow {
            assert_eq!(status(&app, asked).await, 200, "{asked:?}");
        }
        // Nobody gets a turn any more.
        app.turns.close();
        for asked in slow {
            assert_eq!(status(&app, asked).await, 500, "{asked:?}");
        }
        for asked in [("GET", "/v1/machines/m", ""), ("GET", "/v1/instances", ""), ("GET", "/readyz", "")] {
            assert_eq!(status(&app, asked).await, 200, "{asked:?}");
        }
    }
}
