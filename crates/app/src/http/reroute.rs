//! What changed settings or a changed definition would have made of stored messages.

use axum::extract::State;
use axum::response::Response;
use engine::reroute::{self, MESSAGES, MESSAGES_MAX, Reroute, RerouteError};
use kernel::id::MachineName;
use kernel::input::Fields;
use kernel::time::{Delay, Timestamp};
use serde::Deserialize;

use crate::http::Shared;
use crate::http::problem::Problem;
use crate::http::request::{self, Body, Caller, Segments};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RerouteBody {
    /// A delay back from now, or a time; a week if absent.
    since: Option<String>,
    #[serde(default)]
    set: Fields,
    definition: Option<String>,
    limit: Option<usize>,
    cursor: Option<String>,
}

pub async fn post(
    State(app): State<Shared>,
    Segments(machine): Segments<MachineName>,
    caller: Caller,
    Body(body): Body<RerouteBody>,
) -> Result<Response, Problem> {
    let since = since(body.since.as_deref().unwrap_or("7d"), app.engine.clock().now())?;
    let limit = match body.limit.unwrap_or(MESSAGES) {
        limit @ 1..=MESSAGES_MAX => limit,
        limit => {
            let detail = format!("limit is {limit}; it may be 1 to {MESSAGES_MAX}");
            return Err(Problem::bad_request("malformed_body", detail));
        }
    };
    let (definition, cursor) = (body.definition, body.cursor);
    let asked = Reroute { machine, since, set: body.set.into_iter().collect(), definition, limit, cursor };
    app.read_in_turn(move |app| {
        caller.wants_sight(app, &asked.machine)?;
        let report = reroute::reroute(&app.engine, &caller.tenant, &asked);
        let report = report.map_err(|error| problem(error, &asked.machine))?;
        Ok(request::json(200, &report, None))
    })
    .await
}

pub(super) fn since(text: &str, now: Timestamp) -> Result<Timestamp, Problem> {
    let back = |delay: Delay| Timestamp::from_millis(now.as_millis() - delay.as_millis());
    Delay::parse(text).ok().map(back).or_else(|| Timestamp::parse(text)).ok_or_else(|| {
        let detail =
            format!("since is `{text}`; write a delay such as 7d, or a time such as 2026-01-31T12:00:00Z");
        Problem::bad_request("malformed_body", detail)
    })
}

fn problem(error: RerouteError, machine: &MachineName) -> Problem {
    let detail = error.to_string();
    match error {
        RerouteError::Engine(error) => Problem::from(error),
        RerouteError::NothingChanged => Problem::bad_request("malformed_body", detail),
        RerouteError::Settings(_) => Problem::new(422, "bad_setting", "A setting cannot be so", detail),
        RerouteError::Diagnostics(diagnostics) => Problem::diagnostics(diagnostics),
        RerouteError::WrongMachine(_) => {
            Problem::bad_request("wrong_machine", format!("{detail}, but was sent to /v1/machines/{machine}"))
        }
        RerouteError::NotAConversation(_) => {
            Problem::new(422, "not_a_conversation", "The machine takes no messages", detail)
        }
    }
}
