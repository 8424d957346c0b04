//! What changed between two definitions of a machine, and how many instances run by the earlier one.

use axum::extract::State;
use axum::response::Response;
use engine::diff::{Side, VersionError, compare};
use kernel::id::MachineName;
use serde::Deserialize;

use crate::http::Shared;
use crate::http::machines::source;
use crate::http::problem::Problem;
use crate::http::request::{self, Asked, Caller, RawBody, Segments};

/// Version numbers, the first digits of hashes, or `current`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiffQuery {
    from: Option<String>,
    to: Option<String>,
}

/// Two definitions that are stored.
pub async fn show(
    State(app): State<Shared>,
    Segments(name): Segments<MachineName>,
    caller: Caller,
    Asked(asked): Asked<DiffQuery>,
) -> Result<Response, Problem> {
    answer(&app, name, caller, side(asked.from), side(asked.to)).await
}

/// A definition that need not be stored beside one that is: as the later one, unless `to` says which that is.
pub async fn post(
    State(app): State<Shared>,
    Segments(name): Segments<MachineName>,
    caller: Caller,
    Asked(asked): Asked<DiffQuery>,
    body: RawBody,
) -> Result<Response, Problem> {
    let text = Side::Text(source(body)?);
    let (from, to) = match (asked.from, asked.to) {
        (from, None) => (side(from), text),
        (None, to) => (text, side(to)),
        (Some(_), Some(_)) => {
            let detail = "`from` and `to` leave no room for the definition in the body; drop one of them";
            return Err(Problem::bad_request("bad_query", detail));
        }
    };
    answer(&app, name, caller, from, to).await
}

fn side(version: Option<String>) -> Side {
    match version {
        None => Side::Usual,
        Some(version) if version == "current" => Side::Current,
        Some(version) => Side::Stored(version),
    }
}

async fn answer(
    app: &Shared,
    name: MachineName,
    caller: Caller,
    from: Side,
    to: Side,
) -> Result<Response, Problem> {
    app.read_in_turn(move |app| {
        let report = compare(&app.engine, &caller.tenant, &name, &from, &to);
        let report = report.map_err(|error| problem(error, &name))?;
        Ok(request::json(200, &report, None))
    })
    .await
}

pub(super) fn problem(error: VersionError, machine: &MachineName) -> Problem {
    let detail = error.to_string();
    match error {
        VersionError::Engine(error) => Problem::from(error),
        VersionError::Diagnostics(diagnostics) => Problem::diagnostics(diagnostics),
        VersionError::WrongMachine(_) => {
            Problem::bad_request("wrong_machine", format!("{detail}, but was sent to /v1/machines/{machine}"))
        }
        VersionError::Unknown(_) => Problem::not_found(detail),
    }
}
