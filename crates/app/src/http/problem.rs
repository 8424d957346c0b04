//! Errors as RFC 9457 problem documents. The only place that knows HTTP statuses of refusals and failures.

use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use engine::EngineError;
use kernel::diagnostic::Diagnostic;
use kernel::id::MachineName;
use kernel::input::Fields;
use kernel::refusal::{Considered, Refusal, RefusalCode, Violation};
use kernel::snapshot::Timer;
use kernel::time::{Delay, Timestamp};
use serde::Serialize;

use crate::access::Scope;

/// One pointer wide, since every handler may return it.
#[derive(Clone, Debug, Serialize)]
#[serde(transparent)]
pub struct Problem(Box<Document>);

#[derive(Clone, Debug, Serialize)]
struct Document {
    #[serde(rename = "type")]
    kind: String,
    title: &'static str,
    status: u16,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    instance: Option<String>,
    code: &'static str,
    /// Whether the same request, with the same key, may succeed later.
    retryable: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    allowed: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    explain: Vec<Considered>,
    /// What would not have held any more.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    violated: Vec<Violation>,
    /// What comes by time, whatever is sent.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    timers: Vec<Timer>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    diagnostics: Vec<Diagnostic>,
    #[serde(flatten)]
    flow: Option<FlowFailure>,
    /// Seconds, for `Retry-After`.
    #[serde(skip)]
    retry_after: Option<u32>,
    /// Whether this is the first answer to a key that came again.
    #[serde(skip)]
    replayed: bool,
}

/// What is told besides of something that was not done to a flow.
#[derive(Clone, Debug, Serialize)]
struct FlowFailure {
    error_code: String,
    message: String,
    details: Fields,
    /// Whether the phase may be tried again now; where no phase is concerned, whether the request may.
    retry_allowed: bool,
    timestamp: Timestamp,
}

impl Problem {
    pub fn new(status: u16, code: &'static str, title: &'static str, detail: impl Into<String>) -> Self {
        Self(Box::new(Document {
            kind: format!("urn:statewright:problem:{code}"),
            title,
            status,
            detail: detail.into(),
            instance: None,
            code,
            retryable: false,
            allowed: Vec::new(),
            explain: Vec::new(),
            violated: Vec::new(),
            timers: Vec::new(),
            diagnostics: Vec::new(),
            flow: None,
            retry_after: None,
            replayed: false,
        }))
    }

    /// The problem of somebody who wanted to do something to a flow. What cannot be understood has one `error_code`,
    /// whatever is wrong with it.
    pub fn of_flow(mut self, details: Fields, retry_allowed: Option<bool>, timestamp: Timestamp) -> Self {
        let document = &mut self.0;
        let error_code = match document.status {
            400 => RefusalCode::MalformedRequest.as_str().to_uppercase(),
            _ => document.code.to_uppercase(),
        };
        document.flow = Some(FlowFailure {
            error_code,
            message: document.detail.clone(),
            details,
            retry_allowed: retry_allowed.unwrap_or(document.retryable),
            timestamp,
        });
        self
    }

    pub fn replayed(mut self, replayed: bool) -> Self {
        self.0.replayed = replayed;
        self
    }

    pub fn title(&self) -> &'static str {
        self.0.title
    }

    pub fn detail(&self) -> &str {
        &self.0.detail
    }

    pub fn status(&self) -> u16 {
        self.0.status
    }

    fn retryable_after(mut self, seconds: u32) -> Self {
        self.0.retryable = true;
        self.0.retry_after = Some(seconds);
        self
    }

    pub fn bad_request(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(400, code, "The request cannot be understood", detail)
    }

    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(404, "not_found", "There is no such thing", detail)
    }

    pub fn unauthorised(detail: impl Into<String>) -> Self {
        Self::new(401, "unauthorized", "Who is asking?", detail)
    }

    pub fn forbidden(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(403, code, "Not allowed", detail)
    }

    pub fn insufficient_scope(needed: Scope, has: Scope) -> Self {
        let detail = format!("this needs a key of scope `{needed}`, and yours has `{has}`");
        Self::forbidden("insufficient_scope", detail)
    }

    /// What would tell something secret.
    pub fn out_of_sight(machine: &MachineName, has: Scope) -> Self {
        let needed = Scope::Write;
        let detail = format!(
            "`{machine}` has secret fields, which this could tell: it needs a key of scope `{needed}`, and yours has `{has}`"
        );
        Self::forbidden("insufficient_scope", detail)
    }

    pub fn diagnostics(diagnostics: Vec<Diagnostic>) -> Self {
        let detail = format!("the definition has {} problem(s); see `diagnostics`", diagnostics.len());
        let mut problem = Self::new(422, "bad_definition", "The definition cannot be loaded", detail);
        problem.0.diagnostics = diagnostics;
        problem
    }

    pub fn internal() -> Self {
        let detail = "the server failed to handle the request; the log says more under its trace id";
        Self::new(500, "internal", "The server is at fault", detail)
    }

    /// The input is with the engine, but its answer is late.
    pub fn still_running() -> Self {
        let detail = "the input is still being handled; repeat it with the same key for its answer";
        Self::new(409, "still_running", "The first request with this key is still running", detail)
            .retryable_after(1)
    }

    /// Whoever asks may take the lists instead, or come back.
    pub fn too_many_streams(max: usize, of: &str) -> Self {
        let detail = format!("{max} streams are open already, as many as {of}");
        Self::new(503, "too_many_streams", "Too many listen", detail).retryable_after(5)
    }

    /// Somebody else does the work; `left` of the lease is to come.
    pub fn receipt_running(left: Delay) -> Self {
        let seconds =
            u32::try_from(left.as_millis().max(0).unsigned_abs().div_ceil(1000)).unwrap_or(u32::MAX);
        let detail = format!("somebody else has begun this and has {left} left to complete it");
        Self::new(409, "receipt_running", "Somebody else is at it", detail).retryable_after(seconds.max(1))
    }

    /// Somebody asks more often than they may; `wait` until it is worth asking again.
    pub fn rate_limited(detail: impl Into<String>, wait: Delay) -> Self {
        let seconds = u32::try_from(wait.as_millis().unsigned_abs().div_ceil(1000)).unwrap_or(u32::MAX);
        Self::new(429, "rate_limited", "Too many requests", detail).retryable_after(seconds.max(1))
    }

    pub fn refused(refusal: &Refusal) -> Self {
        let (status, title) = match refusal.code {
            RefusalCode::InvalidTransition => (409, "The state does not allow this event"),
            RefusalCode::GuardRejected => (409, "A guard said no"),
            RefusalCode::InvariantViolated => (409, "What has to hold would not hold any more"),
            RefusalCode::InstanceExists => (409, "The instance exists"),
            RefusalCode::DefinitionMissing => (409, "The instance's definition is missing"),
            RefusalCode::ClarificationClosed => (409, "The clarification is no longer pending"),
            RefusalCode::CallOver => (409, "The call is not waited for any more"),
            RefusalCode::InstanceClosed => (410, "The instance has ended"),
            RefusalCode::NotFound => (404, "There is no such thing"),
            RefusalCode::StaleRevision => (412, "The instance has changed"),
            RefusalCode::UnknownEvent => (422, "The machine has no such event"),
            RefusalCode::InvalidContext => (422, "The context does not fit the definition"),
            RefusalCode::KeyReused => (422, "The key was used for something else"),
            RefusalCode::ExpressionFailed => (422, "An expression of the definition failed"),
            RefusalCode::StepLimit => (422, "The machine does not come to rest"),
            RefusalCode::NotAConversation => (422, "The machine takes no messages"),
            RefusalCode::NeedsMissing => (409, "What the phase needs is not completed"),
            RefusalCode::NotApplicable => (409, "The phase does not apply to this flow"),
            RefusalCode::FlowPaused => (409, "The flow is paused"),
            RefusalCode::RetryLimit => (409, "The phase was tried as often as it may be"),
            RefusalCode::Expired => (409, "It came too late"),
            RefusalCode::LeaseLost => (409, "Somebody else has the phase"),
            RefusalCode::NotMigratable => (409, "The instance has no place in that definition"),
            RefusalCode::PermissionDenied => (403, "Not by you"),
            RefusalCode::MalformedRequest => (422, "The action does not take this"),
        };
        let code = refusal.code.as_str();
        let mut problem = Self::new(status, code, title, refusal.message.clone());
        problem.0.allowed.clone_from(&refusal.allowed);
        problem.0.explain.clone_from(&refusal.explain);
        problem.0.violated.clone_from(&refusal.violated);
        problem.0.timers.clone_from(&refusal.timers);
        problem
    }
}

impl From<EngineError> for Problem {
    fn from(error: EngineError) -> Self {
        let detail = error.to_string();
        match error {
            EngineError::UnknownMachine { .. } => {
                Self::new(404, "unknown_machine", "There is no such machine", detail)
            }
            EngineError::NotFound { .. } => Self::not_found(detail),
            EngineError::Corrupt(_) => Self::new(500, "corrupt_record", "A stored record is damaged", detail),
            EngineError::Overloaded => {
                Self::new(503, "overloaded", "Too much is waiting", detail).retryable_after(1)
            }
            EngineError::Stopping => {
                Self::new(503, "stopping", "The server is stopping", detail).retryable_after(2)
            }
            EngineError::Unavailable(_) => {
                Self::new(503, "unavailable", "The store cannot answer", detail).retryable_after(1)
            }
            EngineError::TooLarge(_) => {
                Self::new(413, "record_too_large", "What would be saved is too large", detail)
            }
            EngineError::Full(_) => {
                Self::new(507, "disk_full", "The store is full", detail).retryable_after(30)
            }
        }
    }
}

impl From<BytesRejection> for Problem {
    fn from(rejection: BytesRejection) -> Self {
        if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
            let detail = format!("the body is larger than {} bytes", super::BODY_BYTES_MAX);
            return Self::new(413, "body_too_large", "The body is too large", detail);
        }
        Self::bad_request("unreadable_body", format!("the body could not be read: {}", rejection.body_text()))
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        if status.is_server_error() {
            tracing::warn!(status = self.0.status, code = self.0.code, "{}", self.0.detail);
        }
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert("content-type", HeaderValue::from_static("application/problem+json"));
        if self.0.status == 401 {
            headers.insert("www-authenticate", HeaderValue::from_static("Bearer"));
        }
        if self.0.replayed {
            headers.insert("idempotent-replayed", HeaderValue::from_static("true"));
        }
        if let Some(seconds) = self.0.retry_after {
            headers.insert("retry-after", HeaderValue::from(seconds));
        }
        // For whoever tells it otherwise: as a page.
        response.extensions_mut().insert(self);
        response
    }
}

pub async fn no_such_route(uri: Uri) -> Problem {
    let detail = format!("there is nothing at {}; /openapi.json lists what there is", uri.path());
    Problem::new(404, "no_such_route", "There is no such address", detail)
}

pub async fn wrong_method(uri: Uri) -> Problem {
    let detail = format!("{} does not take this method; /openapi.json lists what it takes", uri.path());
    Problem::new(405, "wrong_method", "The address does not take this method", detail)
}
