//! What handlers take from a request and give back: who asks, path segments, queries, bodies, and JSON.
//!
//! Each extractor turns its failure into a `Problem`, so that no handler sees a malformed request.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, FromRequestParts, MatchedPath, Path, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use kernel::flow::signature;
use kernel::id::{InputKey, MachineName, Revision, TenantId};
use kernel::input::{Cause, Input};
use kernel::trace::Trace;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tracing::Instrument;

use crate::access::{Holder, Scope, Sight};
use crate::http::problem::Problem;
use crate::http::{App, Shared, openapi};
use crate::telemetry::{fresh_span, fresh_trace_id};
use crate::traces::{self, Traces};

/// Who asks, and what the headers say about the input. Whoever has one may do what its route does: the table of routes
/// says what that takes.
#[derive(Clone, Debug)]
pub struct Caller {
    pub tenant: TenantId,
    /// What the caller's key opens.
    pub scope: Scope,
    /// The caller's name for people: that of the key.
    pub who: Arc<str>,
    pub trace: Trace,
    if_match: Option<String>,
    idempotency_key: Option<String>,
}

impl FromRequestParts<Shared> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Shared) -> Result<Self, Problem> {
        let holder = app.identify(parts).await?;
        let path = parts.extensions.get::<MatchedPath>().map_or("", MatchedPath::as_str);
        let needed = openapi::needed(&parts.method, path);
        let caller = Self::of(holder, &parts.headers)?;
        if !caller.may(needed) {
            return Err(Problem::insufficient_scope(needed, caller.scope));
        }
        if needed >= Scope::Operate && !parts.method.is_safe() {
            let Self { tenant, who, .. } = &caller;
            tracing::info!(%tenant, who = &**who, method = %parts.method, route = path, "asked by an operator");
        }
        Ok(caller)
    }
}

impl Caller {
    pub fn of(holder: Holder, headers: &HeaderMap) -> Result<Self, Problem> {
        let owned = |name: &str| text(headers, name).map(|value| value.map(str::to_owned));
        Ok(Self {
            tenant: holder.tenant,
            scope: holder.scope,
            who: holder.who,
            trace: trace_of(headers),
            if_match: owned("if-match")?,
            idempotency_key: owned("idempotency-key")?,
        })
    }

    /// Whether the caller may do what needs this, beyond what the route itself does.
    pub fn may(&self, needed: Scope) -> bool {
        self.scope.contains(needed)
    }

    /// What the caller sees of values.
    pub fn sight(&self) -> Sight {
        Sight::of(self.scope)
    }

    /// For what tells nothing that may be told when what is secret is left out of it, or by which somebody could find that
    /// out by asking again and again.
    ///
    /// # Errors
    /// 403, when instances of the machine may have something secret, and the caller is not to see it.
    pub fn wants_sight(&self, app: &App, machine: &MachineName) -> Result<(), Problem> {
        match self.sight().over_any(app.engine.machines(), machine).hides_copies() {
            true => Err(Problem::out_of_sight(machine, self.scope)),
            false => Ok(()),
        }
    }

    /// An input of this caller. Its key is the body's, under `field`, else the header's.
    pub fn input(
        self,
        field: &str,
        key: Option<InputKey>,
        by: Option<String>,
        cause: Cause,
    ) -> Result<Input, Problem> {
        let expected = self.expected()?;
        let key = self.key(field, key)?;
        // A flow's word about itself is not for others to give.
        if by.as_ref().is_some_and(|by| by.starts_with(&signature(""))) {
            let detail = format!("`by` begins with `{}`, as only flows sign; say who you are", signature(""));
            return Err(Problem::bad_request("malformed_body", detail));
        }
        Ok(Input { tenant: self.tenant, key, cause, expected, by, trace: Some(self.trace) })
    }

    /// The key of a request: the body's, under `field`, else the header's.
    pub fn key(&self, field: &str, key: Option<InputKey>) -> Result<InputKey, Problem> {
        match (key, &self.idempotency_key) {
            (Some(key), _) => Ok(key),
            (None, Some(header)) => {
                let key = InputKey::parse(header.trim_matches('"'));
                key.map_err(|problem| Problem::bad_request("bad_key", problem))
            }
            (None, None) => {
                let detail = format!(
                    "every input needs a key, so that a repeat is taken once: send `{field}` in the body or the header Idempotency-Key"
                );
                Err(Problem::bad_request("missing_key", detail))
            }
        }
    }

    /// The key of an input that may do without: each request then is one of its own.
    pub fn key_or_fresh(&self, key: Option<InputKey>) -> Option<InputKey> {
        self.key_or(key, &fresh_trace_id())
    }

    /// The key of an input that has one in the nature of things.
    pub fn key_or(&self, key: Option<InputKey>, otherwise: &str) -> Option<InputKey> {
        let otherwise = || InputKey::parse(otherwise).ok();
        key.or_else(|| if self.idempotency_key.is_some() { None } else { otherwise() })
    }

    /// The revision that `If-Match` asks for.
    fn expected(&self) -> Result<Option<Revision>, Problem> {
        let Some(header) = self.if_match.as_deref().map(str::trim).filter(|header| *header != "*") else {
            return Ok(None);
        };
        let number = header.trim_start_matches("W/").trim_matches('"').parse();
        number.map(|number| Some(Revision(number))).map_err(|_| {
            let detail = format!("If-Match is {header}; it takes a revision such as \"42\"");
            Problem::bad_request("bad_if_match", detail)
        })
    }
}

/// A header's text. One that is there but unreadable must not count as absent: what it asked for would not be done.
pub fn text<'h>(headers: &'h HeaderMap, name: &str) -> Result<Option<&'h str>, Problem> {
    let Some(value) = headers.get(name) else { return Ok(None) };
    value
        .to_str()
        .map(Some)
        .map_err(|_| Problem::bad_request("bad_header", format!("the header {name} is not plain ASCII text")))
}

/// The segments of the path that the route names; identifiers are checked on the way.
#[derive(Debug)]
pub struct Segments<T>(pub T);

impl<T: DeserializeOwned + Send> FromRequestParts<Shared> for Segments<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Shared) -> Result<Self, Problem> {
        match Path::from_request_parts(parts, app).await {
            Ok(Path(segments)) => Ok(Self(segments)),
            Err(rejection) => Err(Problem::bad_request("bad_identifier", rejection.body_text())),
        }
    }
}

/// The query, of a known shape.
#[derive(Debug)]
pub struct Asked<T>(pub T);

impl<T: DeserializeOwned> FromRequestParts<Shared> for Asked<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Shared) -> Result<Self, Problem> {
        match Query::from_request_parts(parts, app).await {
            Ok(Query(asked)) => Ok(Self(asked)),
            Err(rejection) => Err(Problem::bad_request("bad_query", rejection.body_text())),
        }
    }
}

/// A JSON object of a known shape; an empty body stands for `{}`.
#[derive(Debug)]
pub struct Body<T>(pub T);

impl<T: DeserializeOwned> FromRequest<Shared> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &Shared) -> Result<Self, Problem> {
        let RawBody(bytes) = RawBody::from_request(request, app).await?;
        let malformed = |what: String| {
            Problem::bad_request("malformed_body", format!("the body is not what it should be: {what}"))
        };
        let object: &[u8] = match bytes.iter().find(|byte| !byte.is_ascii_whitespace()) {
            None => b"{}",
            Some(b'{') => &bytes,
            Some(_) => return Err(malformed("expected a JSON object, `{…}`".to_owned())),
        };
        serde_json::from_slice(object).map(Self).map_err(|error| malformed(error.to_string()))
    }
}

/// A body as it came, within the limit.
#[derive(Debug)]
pub struct RawBody(pub Bytes);

impl FromRequest<Shared> for RawBody {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &Shared) -> Result<Self, Problem> {
        let bytes: Result<Bytes, BytesRejection> = Bytes::from_request(request, app).await;
        Ok(Self(bytes?))
    }
}

/// Gives every request its trace: the caller's, or a fresh one. It is on every line of the log that the request
/// causes, stored with its transition, and told in the answer; and recorded by `traces`, unless whoever began it records
/// nothing.
pub async fn traced<F>(
    traces: Option<&Traces>,
    mut request: Request,
    answer: impl FnOnce(Request) -> F,
) -> Response
where
    F: Future<Output = Result<Response, Infallible>>,
{
    let began = Instant::now();
    let parent = traceparent(request.headers());
    let trace = match &parent {
        Some(parent) => parent.at(fresh_span()),
        None => begun(|id| traces.is_none_or(|traces| traces.records(id))),
    };
    let noted =
        traces.filter(|_| trace.sampled).zip(openapi::route_of(request.method(), request.uri().path()));
    let noted = noted.map(|(traces, route)| (traces, route, request.method().to_string()));
    let header = HeaderValue::try_from(trace.to_string()).ok();
    if let Some(header) = header.clone() {
        request.headers_mut().insert("traceparent", header);
    }
    let span = tracing::info_span!("request", trace_id = trace.id);
    let Ok(mut response) = answer(request).instrument(span).await;
    if let Some(header) = header {
        response.headers_mut().insert("traceparent", header);
    }
    if let Some((traces, route, method)) = noted {
        let (parent, status) = (parent.map(|parent| parent.span), response.status().as_u16());
        let ended = Instant::now();
        traces.request(traces::Request { trace, parent, method, route, status, began, ended });
    }
    response
}

/// The first span of a trace that begins here.
fn begun(sampled: impl FnOnce(&str) -> bool) -> Trace {
    let id = fresh_trace_id();
    Trace { sampled: sampled(&id), id, span: fresh_span() }
}

/// One that cannot be read is no trace, as W3C has it.
fn traceparent(headers: &HeaderMap) -> Option<Trace> {
    headers.get("traceparent").and_then(|value| value.to_str().ok()).and_then(Trace::parse)
}

/// The trace that `traced` has given to a request.
fn trace_of(headers: &HeaderMap) -> Trace {
    traceparent(headers).unwrap_or_else(|| begun(|_| true))
}

/// A name as it stands in an address: whatever might mean something else there is written in hexadecimal.
pub fn segment(name: &str) -> String {
    let mut written = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => written.push(byte.into()),
            other => written.push_str(&format!("%{other:02X}")),
        }
    }
    written
}

pub fn json(status: u16, body: &impl Serialize, revision: Option<Revision>) -> Response {
    let Ok(bytes) = serde_json::to_vec(body) else { return Problem::internal().into_response() };
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = (status, bytes).into_response();
    let headers = response.headers_mut();
    headers.insert("content-type", HeaderValue::from_static("application/json"));
    if let Some(etag) = revision.and_then(|r| HeaderValue::try_from(format!("\"{r}\"")).ok()) {
        headers.insert("etag", etag);
    }
    response
}

/// Whether it is only asked what would come of it.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trial {
    #[serde(default)]
    pub dry_run: bool,
}

/// Which page of a list is asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PageQuery {
    pub cursor: Option<String>,
    pub limit: Option<usize>,
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

    pub fn whole(data: Vec<T>) -> Self {
        Self { data, next_cursor: None, has_more: false }
    }
}

/// From 1 to 1000, 100 if nothing is said.
pub fn limit(asked: Option<usize>) -> Result<usize, Problem> {
    match asked.unwrap_or(100) {
        n @ 1..=1000 => Ok(n),
        n => Err(Problem::bad_request("bad_query", format!("limit is {n}; it may be 1 to 1000"))),
    }
}
