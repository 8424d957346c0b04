//! Pictures of machines and of instances, as SVG.

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use engine::diff::named;
use kernel::diagram::Overlay;
use kernel::id::{InstanceId, MachineName};
use serde::Deserialize;

use crate::http::Shared;
use crate::http::diff::problem;
use crate::http::problem::Problem;
use crate::http::request::{self, Asked, Caller, Segments};
use crate::pictures::overlay_of;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VersionQuery {
    /// A version's number, or the first digits of a definition's hash.
    version: Option<String>,
}

pub async fn of_machine(
    State(app): State<Shared>,
    Segments(name): Segments<MachineName>,
    caller: Caller,
    headers: HeaderMap,
    Asked(asked): Asked<VersionQuery>,
) -> Result<Response, Problem> {
    app.read(move |app| {
        let machine = match asked.version {
            Some(version) => named(&app.engine, &name, &version).map_err(|error| problem(error, &name))?,
            None => app.engine.machines().current_for(&caller.tenant, &name)?,
        };
        answer(&headers, machine.hash.as_str(), || Ok(app.pictures.picture(&machine, &Overlay::default())))
    })
    .await
}

pub async fn of_instance(
    State(app): State<Shared>,
    Segments(instance): Segments<InstanceId>,
    caller: Caller,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    app.read(move |app| {
        let snapshot = app.engine.instance(&caller.tenant, &instance)?;
        let machine = app.engine.machines().of(&snapshot)?;
        answer(&headers, &format!("{}-{}", snapshot.revision, machine.hash.as_str()), || {
            Ok(app.pictures.picture(&machine, &overlay_of(&app.engine, &machine, &snapshot)?))
        })
    })
    .await
}

/// A picture, unless the reader has it. What it shows is as new as `shown`, and another release may draw it otherwise.
fn answer(
    headers: &HeaderMap,
    shown: &str,
    picture: impl FnOnce() -> Result<String, Problem>,
) -> Result<Response, Problem> {
    let etag = format!("\"{shown}-{}\"", env!("CARGO_PKG_VERSION"));
    let known = request::text(headers, "if-none-match")?.unwrap_or_default();
    let known =
        known.split(',').any(|known| known.trim().trim_start_matches("W/") == etag || known.trim() == "*");
    let mut response = match known {
        true => StatusCode::NOT_MODIFIED.into_response(),
        false => picture()?.into_response(),
    };
    let headers = response.headers_mut();
    if !known {
        headers.insert("content-type", HeaderValue::from_static("image/svg+xml"));
    }
    // Whoever opens it by itself is to run nothing that a name might smuggle in, were it not escaped.
    headers.insert(
        "content-security-policy",
        HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"),
    );
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    // It is one tenant's, and changes with the next event; asking whether it has is cheap.
    headers.insert("cache-control", HeaderValue::from_static("private, no-cache"));
    if let Ok(etag) = HeaderValue::try_from(etag) {
        headers.insert("etag", etag);
    }
    Ok(response)
}
