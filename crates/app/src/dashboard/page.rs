//! What every page has: the frame around it, who looks at it, its headers, and how it says that something went wrong.

use askama::Template;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};
use serde::Deserialize;

use crate::access::Scope;
use crate::dashboard::words;
use crate::http::Shared;
use crate::http::problem::{self, Problem};
use crate::http::request::{Asked, Caller};

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
    /// What the visitor's key opens.
    pub scope: &'static str,
    /// The time of the server, by whose clock times on the page go on; empty if that clock is moved by hand.
    pub now: String,
    /// What whoever looks may do besides looking.
    pub may_write: bool,
    pub may_operate: bool,
    pub version: &'static str,
    /// The address of the stream that brings the page up to date; empty if nothing does.
    pub live: String,
    /// It is brought up to date besides after so many seconds; 0 for never.
    pub every: u32,
}

impl Frame {
    pub fn of(app: &Shared, caller: &Caller, section: &'static str, title: impl Into<String>) -> Self {
        let clock = app.engine.clock();
        Self {
            title: title.into(),
            section,
            tenant: caller.tenant.to_string(),
            signed_in: !app.access.is_open(),
            scope: caller.scope.as_str(),
            now: if clock.is_virtual() { String::new() } else { clock.now().to_string() },
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

/// Whatever goes wrong on a page is told as one, and whoever is not known here is sent to sign in and back.
pub async fn told_as_page(request: Request, next: Next) -> Response {
    let place = request.uri().path_and_query().map(ToString::to_string).unwrap_or_default();
    let may_come_back = request.method() == Method::GET;
    let response = next.run(request).await;
    let Some(problem) = response.extensions().get::<Problem>() else { return response };
    if problem.status() == 401 && may_come_back {
        return Redirect::to(&format!("/sign-in?{}", words::query(&[("next", &place)]))).into_response();
    }
    told(problem)
}

fn told(problem: &Problem) -> Response {
    let (status, title, detail) = (problem.status(), problem.title(), problem.detail().to_owned());
    page(status, &ProblemPage { status, title, detail })
}

/// What there is at an address that nothing is at: for a browser a page, for a program a problem.
pub async fn nowhere(uri: Uri, headers: HeaderMap) -> Response {
    let problem = problem::no_such_route(uri).await;
    let accepted = headers.get("accept").and_then(|accepted| accepted.to_str().ok());
    match accepted.is_some_and(|accepted| accepted.contains("text/html")) {
        true => told(&problem),
        false => problem.into_response(),
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct SignInQuery {
    wrong: Option<String>,
    next: String,
}

#[derive(Template)]
#[template(path = "sign_in.html")]
struct SignInPage {
    wrong: bool,
    /// Where to go then.
    next: String,
}

/// Where nobody has to sign in, there is nothing to do here.
pub async fn sign_in(State(app): State<Shared>, Asked(asked): Asked<SignInQuery>) -> Response {
    if app.access.is_open() {
        return Redirect::to("/").into_response();
    }
    page(200, &SignInPage { wrong: asked.wrong.is_some(), next: asked.next })
}
