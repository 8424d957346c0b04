//! What a version would have made of the stored history.

use axum::extract::State;
use axum::response::Response;
use engine::shadow::{INPUTS, INPUTS_MAX, Played, Shadow, shadow};
use kernel::id::MachineName;
use serde::Deserialize;

use crate::http::Shared;
use crate::http::diff::problem;
use crate::http::problem::Problem;
use crate::http::request::{self, Body, Caller, Segments};
use crate::http::reroute::since;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShadowBody {
    /// A definition that need not be stored.
    definition: Option<String>,
    /// A version's number, or the first digits of a hash.
    version: Option<String>,
    /// A delay back from now, or a time; a week if absent.
    since: Option<String>,
    limit: Option<usize>,
    cursor: Option<String>,
}

pub async fn post(
    State(app): State<Shared>,
    Segments(machine): Segments<MachineName>,
    caller: Caller,
    Body(body): Body<ShadowBody>,
) -> Result<Response, Problem> {
    let ShadowBody { definition, version, cursor, .. } = body;
    let version = match (definition, version) {
        (Some(text), None) => Played::Text(text),
        (None, Some(named)) => Played::Stored(named),
        (None, None) => Played::Current,
        (Some(_), Some(_)) => {
            let detail = "`definition` and `version` are two that could be meant; drop one of them";
            return Err(Problem::bad_request("malformed_body", detail));
        }
    };
    let since = since(body.since.as_deref().unwrap_or("7d"), app.engine.clock().now())?;
    let limit = body.limit.unwrap_or(INPUTS);
    if !(1..=INPUTS_MAX).contains(&limit) {
        let detail = format!("limit is {limit}; it may be 1 to {INPUTS_MAX}");
        return Err(Problem::bad_request("malformed_body", detail));
    }
    let asked = Shadow { machine, version, since, limit, cursor };
    app.read_in_turn(move |app| {
        caller.wants_sight(app, &asked.machine)?;
        let report = shadow(&app.engine, &caller.tenant, &asked);
        let report = report.map_err(|error| problem(error, &asked.machine))?;
        Ok(request::json(200, &report, None))
    })
    .await
}
