//! Sessions that were lived, told as stories.

use std::path::PathBuf;

use axum::extract::State;
use axum::http::HeaderValue;
use axum::response::{IntoResponse, Response};
use engine::story::{SessionStoryError, of_session};
use kernel::id::InstanceId;
use serde::Deserialize;

use crate::http::Shared;
use crate::http::problem::Problem;
use crate::http::request::{Asked, Caller, Segments};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoryQuery {
    /// The definition's file, as seen from where the story will stand.
    machine: Option<PathBuf>,
}

pub async fn of_instance(
    State(app): State<Shared>,
    Segments(instance): Segments<InstanceId>,
    caller: Caller,
    Asked(asked): Asked<StoryQuery>,
) -> Result<Response, Problem> {
    app.read_in_turn(move |app| {
        let name = app.engine.instance(&caller.tenant, &instance)?.machine;
        caller.wants_sight(app, &name)?;
        let machine = asked.machine.unwrap_or_else(|| format!("{name}.yaml").into());
        let told = of_session(&app.engine, &caller.tenant, &instance, &machine);
        let text = told.map_err(|error| match error {
            SessionStoryError::Engine(error) => Problem::from(error),
            incomplete @ SessionStoryError::Incomplete(_) => {
                Problem::new(409, "history_incomplete", "Its log is not whole", incomplete.to_string())
            }
        })?;
        let mut response = text.into_response();
        response.headers_mut().insert("content-type", HeaderValue::from_static("application/yaml"));
        Ok(response)
    })
    .await
}
