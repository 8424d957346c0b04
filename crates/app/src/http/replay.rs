//! Whether the past of instances still comes out as it was stored.

use axum::extract::State;
use axum::response::Response;
use engine::replay::{self, INSTANCES, INSTANCES_MAX, PastError, Replay, ReplayStore};
use kernel::id::{InstanceId, MachineName};
use serde::Deserialize;

use crate::http::Shared;
use crate::http::problem::Problem;
use crate::http::request::{self, Asked, Caller, Segments};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplayQuery {
    machine: Option<MachineName>,
    cursor: Option<String>,
    limit: Option<usize>,
}

pub async fn of_instance(
    State(app): State<Shared>,
    Segments(id): Segments<InstanceId>,
    caller: Caller,
) -> Result<Response, Problem> {
    app.read_in_turn(move |app| {
        let replay = replay::replay(&app.engine, &caller.tenant, &id)?;
        let replay = caller.sight().over_any(app.engine.machines(), &replay.machine).replay(replay);
        Ok(request::json(200, &replay, None))
    })
    .await
}

pub async fn of_all(
    State(app): State<Shared>,
    caller: Caller,
    Asked(asked): Asked<ReplayQuery>,
) -> Result<Response, Problem> {
    let limit = match asked.limit.unwrap_or(INSTANCES) {
        limit @ 1..=INSTANCES_MAX => limit,
        limit => {
            let detail = format!("limit is {limit}; it may be 1 to {INSTANCES_MAX}");
            return Err(Problem::bad_request("bad_query", detail));
        }
    };
    let asked = ReplayStore { machine: asked.machine, limit, cursor: asked.cursor };
    app.read_in_turn(move |app| {
        if let Some(name) = &asked.machine {
            app.engine.machines().current_for(&caller.tenant, name)?;
        }
        let mut report = replay::replay_all(&app.engine, &caller.tenant, &asked)?;
        let seen = |one: Replay| {
            let veil = caller.sight().over_any(app.engine.machines(), &one.machine);
            veil.replay(one)
        };
        report.found = report.found.into_iter().map(seen).collect();
        Ok(request::json(200, &report, None))
    })
    .await
}

impl From<PastError> for Problem {
    fn from(error: PastError) -> Self {
        let detail = error.to_string();
        match error {
            PastError::Engine(error) => Self::from(error),
            PastError::ToCome(_) => Self::not_found(detail),
            PastError::Lost(_) => Self::new(409, "history_incomplete", "Its log is not whole", detail),
        }
    }
}
