//! What every page has: the frame around it, who looks at it, its headers, and how it says that something went wrong.

use askama::Template;
use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};

use crate::access::Scope;
use crate::http::Shared;
use crate::http::problem::Problem;
use crate::http::request::Caller;

/// Scripts and styles come from here alone, and nobody may put a page into a frame of theirs.
const CONTENT_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

const HEADERS: [(&str, &str); 5] = [
    ("content-security-policy", CONTENT_POLICY),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "same-origin"),
    ("cache-control", "no-store"),
    ("cross-origin-opener-policy", "same-origin"),
];

/// Seconds after which a page is taken again where several servers work over one store.
const SHARED_EACH: u32 = 3;

/// What stands around every page.
#[derive(Debug)]
pub struct Frame {
    pub title: String,
    /// Which entry of the navigation it belongs to.
    pub section: &'static str,
    pub tenant: String,
    /// Whether somebody had to sign in.
    pub signed_in: bool,
    /// What whoever looks may do besides looking.
    pub may_write: bool,
    pub may_operate: bool,
    pub version: &'static str,
    /// The address of the stream that brings the page up to date; empty if nothing does.
    pub live: String,
    /// It is brought up to date besides after so many seconds; 0 for never.
    pub every: u32,
}

/// Who looks at a page. Somebody who would have to sign in is sent there.
#[derive(Debug)]
pub struct Visitor(pub Caller);

impl FromRequestParts<Shared> for Visitor {
    type Rejection = PageProblem;

    async fn from_request_parts(parts: &mut Parts, app: &Shared) -> Result<Self, PageProblem> {
        Ok(Self(Caller::from_request_parts(parts, app).await?))
    }
}

impl Frame {
    pub fn of(app: &Shared, caller: &Caller, section: &'static str, title: impl Into<String>) -> Self {
        Self {
            title: title.into(),
            section,
            tenant: caller.tenant.to_string(),
            signed_in: !app.access.is_open(),
            may_write: caller.may(Scope::Write),
            may_operate: caller.may(Scope::Operate),
            version: env!("CARGO_PKG_VERSION"),
            live: String::new(),
            // What other servers commit, nobody tells us.
            every: if app.engine.store().info().is_shared { SHARED_EACH } else { 0 },
        }
    }

    /// The page is taken again when something happens to what this query of the stream is about.
    pub fn live(self, of: &str) -> Self {
        Self { live: format!("/v1/stream?changes=true{of}"), ..self }
    }
}

/// A page as a response.
pub fn page(status: u16, page: &impl Template) -> Response {
    let Ok(text) = page.render() else { return Problem::internal().into_response() };
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = (status, text).into_response();
    let headers = response.headers_mut();
    headers.insert("content-type", HeaderValue::from_static("text/html; charset=utf-8"));
    for (name, value) in HEADERS {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    response
}

#[derive(Template)]
#[template(path = "problem.html")]
struct ProblemPage {
    status: u16,
    title: &'static str,
    detail: String,
}

/// Why there is no such page, as a page.
#[derive(Debug)]
pub struct PageProblem(Problem);

impl From<Problem> for PageProblem {
    fn from(problem: Problem) -> Self {
        Self(problem)
    }
}

impl From<engine::EngineError> for PageProblem {
    fn from(error: engine::EngineError) -> Self {
        Self(Problem::from(error))
    }
}

impl IntoResponse for PageProblem {
    fn into_response(self) -> Response {
        let Self(problem) = self;
        if problem.status() == 401 {
            return Redirect::to("/sign-in").into_response();
        }
        let (title, detail) = (problem.title(), problem.detail().to_owned());
        page(problem.status(), &ProblemPage { status: problem.status(), title, detail })
    }
}

#[derive(Template)]
#[template(path = "sign_in.html")]
struct SignInPage {
    wrong: bool,
}

/// Where nobody has to sign in, there is nothing to do here.
pub async fn sign_in(State(app): State<Shared>, uri: axum::http::Uri) -> Response {
    if app.access.is_open() {
        return Redirect::to("/").into_response();
    }
    page(200, &SignInPage { wrong: uri.query() == Some("wrong") })
}
