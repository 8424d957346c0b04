//! What every handler needs of a request: its body, its key, its trace, and the JSON of a response.

use axum::body::Bytes;
use axum::extract::Request;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use kernel::id::{InputKey, Revision};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tracing::Instrument;

use crate::http::problem::Problem;
use crate::telemetry::{Traceparent, fresh_trace_id};

/// A JSON body of a known shape; an empty one stands for `{}`.
pub fn body<T: DeserializeOwned>(bytes: Result<Bytes, BytesRejection>) -> Result<T, Problem> {
    let bytes = bytes?;
    let text: &[u8] = match bytes.iter().find(|byte| !byte.is_ascii_whitespace()) {
        None => b"{}",
        Some(b'{') => &bytes,
        Some(_) => {
            let detail = "the body is not what it should be: expected a JSON object, `{…}`";
            return Err(Problem::bad_request("malformed_body", detail));
        }
    };
    serde_json::from_slice(text).map_err(|error| {
        Problem::bad_request("malformed_body", format!("the body is not what it should be: {error}"))
    })
}

/// The key in the body, else in `Idempotency-Key`.
pub fn key(own: Option<InputKey>, headers: &HeaderMap, field: &str) -> Result<InputKey, Problem> {
    if let Some(key) = own {
        return Ok(key);
    }
    let Some(header) = headers.get("idempotency-key") else {
        let detail = format!(
            "every input needs a key, so that a repeat is taken once: send `{field}` in the body or the header Idempotency-Key"
        );
        return Err(Problem::bad_request("missing_key", detail));
    };
    let text = header.to_str().unwrap_or_default().trim_matches('"');
    InputKey::parse(text).map_err(|problem| Problem::bad_request("bad_key", problem))
}

/// The revision that `If-Match` asks for.
pub fn expected(headers: &HeaderMap) -> Result<Option<Revision>, Problem> {
    let Some(header) = headers.get("if-match") else {
        return Ok(None);
    };
    let text = header.to_str().unwrap_or_default().trim();
    if text == "*" {
        return Ok(None);
    }
    let number = text.trim_start_matches("W/").trim_matches('"').parse();
    number.map(|n| Some(Revision(n))).map_err(|_| {
        Problem::bad_request(
            "bad_if_match",
            format!("If-Match is {text}; it takes a revision such as \"42\""),
        )
    })
}

/// Gives every request its trace: the caller's, or a fresh one. It is on every line of the log that the request
/// causes, stored with its transition, and told in the answer.
pub async fn traced(mut request: Request, next: Next) -> Response {
    let headers = request.headers_mut();
    let parent = headers.get("traceparent").and_then(|value| value.to_str().ok());
    let trace = parent.and_then(Traceparent::parse).unwrap_or_else(Traceparent::fresh);
    let header = HeaderValue::try_from(trace.onward().header()).ok();
    if let Some(header) = header.clone() {
        headers.insert("traceparent", header);
    }
    let span = tracing::info_span!("request", trace_id = trace.trace_id());
    let mut response = next.run(request).instrument(span).await;
    if let Some(header) = header {
        response.headers_mut().insert("traceparent", header);
    }
    response
}

/// The trace that `traced` has given to a request.
pub fn trace_id(headers: &HeaderMap) -> String {
    let parent = headers.get("traceparent").and_then(|value| value.to_str().ok());
    parent.and_then(Traceparent::parse).map_or_else(fresh_trace_id, |parent| parent.trace_id().to_owned())
}

pub fn json(status: u16, body: &impl Serialize, revision: Option<Revision>) -> Response {
    let Ok(bytes) = serde_json::to_vec(body) else {
        return Problem::internal().into_response();
    };
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = (status, bytes).into_response();
    let headers = response.headers_mut();
    headers.insert("content-type", HeaderValue::from_static("application/json"));
    if let Some(etag) = revision.and_then(|r| HeaderValue::try_from(format!("\"{r}\"")).ok()) {
        headers.insert("etag", etag);
    }
    response
}

/// A page in the shape that all lists have.
#[derive(Debug, Serialize)]
pub struct List<T> {
    pub data: Vec<T>,
    pub next_cursor: Option<String>,
    pub has_more: bool,
}

impl<T> List<T> {
    pub fn of<S>(page: store::Page<S>, view: impl FnMut(S) -> T) -> Self {
        let has_more = page.next.is_some();
        Self { data: page.data.into_iter().map(view).collect(), next_cursor: page.next, has_more }
    }
}

/// From 1 to 1000, 100 if nothing is said.
pub fn limit(asked: Option<usize>) -> Result<usize, Problem> {
    match asked.unwrap_or(100) {
        n @ 1..=1000 => Ok(n),
        n => Err(Problem::bad_request("bad_query", format!("limit is {n}; it may be 1 to 1000"))),
    }
}

pub fn parsed<T>(result: Result<T, String>) -> Result<T, Problem> {
    result.map_err(|problem| Problem::bad_request("bad_identifier", problem))
}
