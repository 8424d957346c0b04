//! The style and the scripts of the pages, as they are in the binary.

use axum::extract::Path;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use kernel::id::Digest;

use crate::http::problem;

const STYLE: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const PICTURE: &str = "image/svg+xml";

/// Name, kind, text.
const ASSETS: [(&str, &str, &str); 9] = [
    ("dashboard.css", STYLE, include_str!("assets/dashboard.css")),
    ("diagram.css", STYLE, include_str!("assets/diagram.css")),
    ("dashboard.js", SCRIPT, include_str!("assets/dashboard.js")),
    ("live.js", SCRIPT, include_str!("assets/live.js")),
    ("act.js", SCRIPT, include_str!("assets/act.js")),
    ("json.js", SCRIPT, include_str!("assets/json.js")),
    ("bulk.js", SCRIPT, include_str!("assets/bulk.js")),
    ("simulator.js", SCRIPT, include_str!("assets/simulator.js")),
    ("mark.svg", PICTURE, include_str!("assets/mark.svg")),
];

/// Always asked for again, and sent only if it is another: after an update nobody has a page of one version and a
/// script of another.
pub async fn get(Path(name): Path<String>, uri: axum::http::Uri, headers: HeaderMap) -> Response {
    let Some((_, kind, text)) = ASSETS.iter().find(|(known, ..)| *known == name) else {
        return problem::no_such_route(uri).await.into_response();
    };
    let tag = format!("\"{}\"", Digest::of(text.as_bytes()));
    let known = headers.get("if-none-match").is_some_and(|known| known.as_bytes() == tag.as_bytes());
    let mut response = match known {
        true => StatusCode::NOT_MODIFIED.into_response(),
        false => (*text).into_response(),
    };
    let headers = response.headers_mut();
    headers.insert("content-type", HeaderValue::from_static(kind));
    headers.insert("cache-control", HeaderValue::from_static("no-cache"));
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    if let Ok(tag) = HeaderValue::try_from(tag) {
        headers.insert("etag", tag);
    }
    response
}
