//! The HTTP interface: routes, who is asking, and how an input gets to the engine and its answer back.
//!
//! Handlers translate; they decide nothing. Every status code and error shape is in `problem`.

mod channels;
mod clarifications;
mod instances;
mod machines;
mod messages;
mod openapi;
mod operations;
pub mod problem;
mod request;

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use engine::{Answered, Engine, Submitted};
use kernel::commit::Answer;
use kernel::input::Input;

use crate::access::Access;
use crate::recognisers::Recognisers;
use problem::Problem;
pub(crate) use request::text;

/// Bodies above this are refused before they are read: ten times the largest sensible message.
pub const BODY_BYTES_MAX: usize = 1024 * 1024;
/// How long an input may wait for its commit before its sender is told to come back with the same key.
const ANSWER_DEADLINE: Duration = Duration::from_secs(15);

/// What all handlers share.
#[derive(Debug)]
pub struct App {
    pub engine: Engine,
    pub access: Access,
    /// How the outside reaches us: the base of the URLs that providers sign.
    pub public_url: String,
    pub twilio_auth_token: Option<String>,
    /// Without any, nobody is asked.
    recognisers: Option<Recognisers>,
    pub started: Instant,
}

pub type Shared = Arc<App>;

impl App {
    pub fn new(
        engine: Engine,
        access: Access,
        public_url: String,
        twilio_auth_token: Option<String>,
    ) -> Self {
        let started = Instant::now();
        Self { engine, access, public_url, twilio_auth_token, recognisers: None, started }
    }

    /// With those who may be asked what messages mean.
    pub fn with_recognisers(self, recognisers: Recognisers) -> Self {
        Self { recognisers: Some(recognisers), ..self }
    }

    /// `submit`, for what may be a message: a recogniser is asked first, if there is one for its machine, and each of a
    /// person's messages waits for the one before. Without a recogniser it is `submit`.
    async fn submit_message(self: &Arc<Self>, input: Input) -> Result<Submitted, Problem> {
        let Some(recognisers) = self.recognisers.as_ref().filter(|all| all.of(&input).is_some()) else {
            return self.submit(input).await;
        };
        let _turn = recognisers.turn(&input).await;
        self.submit(self.understood(input).await).await
    }

    /// An input with what a recogniser makes of its message, if there is one and it could make a difference.
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

    /// Hands an input to the engine and waits for its durable answer.
    async fn submit(&self, input: Input) -> Result<Submitted, Problem> {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        self.engine.submit(input, move |answered: Answered| {
            // The client may have gone away; its input is committed all the same.
            let _ = sender.send(answered);
        });
        match tokio::time::timeout(ANSWER_DEADLINE, receiver).await {
            Ok(Ok(answered)) => answered.map_err(Problem::from),
            Ok(Err(_)) => Err(Problem::from(engine::EngineError::Stopping)),
            Err(_) => Err(Problem::still_running()),
        }
    }

    /// Runs a store read where blocking is allowed.
    async fn read<T: Send + 'static>(
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

pub fn router(app: Shared) -> Router {
    Router::new()
        .route("/", get(operations::welcome))
        .route("/v1/machines/{machine}/sessions/{subject}/messages", post(messages::post_message))
        .route("/v1/machines/{machine}/sessions/{subject}", get(messages::get_session))
        .route("/v1/instances", post(instances::create).get(instances::list))
        .route("/v1/instances/{id}", get(instances::show))
        .route("/v1/instances/{id}/events", post(instances::post_event))
        .route("/v1/instances/{id}/calls/{call}", post(instances::answer_call))
        .route("/v1/instances/{id}/history", get(instances::history))
        .route("/v1/instances/{id}/explain", post(instances::explain))
        .route("/v1/instances/{id}/recover", post(instances::recover))
        .route("/v1/clarifications", get(clarifications::list))
        .route("/v1/clarifications/{id}/answer", post(clarifications::answer))
        .route("/v1/machines", get(machines::list))
        .route("/v1/machines/check", post(machines::check))
        .route("/v1/machines/{name}", put(machines::activate).get(machines::show))
        .route("/v1/machines/{name}/versions", get(machines::versions))
        .route("/v1/channels/twilio/{machine}", post(channels::twilio))
        .route("/v1/recovery", post(operations::recovery))
        .route("/v1/clock/advance", post(operations::advance_clock))
        .route("/v1/info", get(operations::info))
        .route("/livez", get(operations::livez))
        .route("/readyz", get(operations::readyz))
        .route("/metrics", get(operations::metrics))
        .route("/openapi.json", get(openapi::document))
        .fallback(problem::no_such_route)
        .method_not_allowed_fallback(problem::wrong_method)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(axum::middleware::from_fn(request::traced))
        .with_state(app)
}
