//! Open instances that are to go on by another version of their machine.

use axum::extract::State;
use axum::response::Response;
use engine::migrate::{Migrate, migrate};
use kernel::id::MachineName;
use serde::Deserialize;

use crate::http::Shared;
use crate::http::diff::problem;
use crate::http::problem::Problem;
use crate::http::request::{self, Body, Caller, Segments};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MigrateBody {
    to_version: Option<VersionNamed>,
    #[serde(default)]
    dry_run: bool,
    limit: Option<usize>,
    cursor: Option<String>,
    by: Option<String>,
}

/// A version by its number, or a definition by the first digits of its hash.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum VersionNamed {
    Number(u32),
    Text(String),
}

pub async fn post(
    State(app): State<Shared>,
    Segments(name): Segments<MachineName>,
    caller: Caller,
    Body(body): Body<MigrateBody>,
) -> Result<Response, Problem> {
    let MigrateBody { to_version, dry_run, limit, cursor, by } = body;
    if limit == Some(0) {
        return Err(Problem::bad_request("malformed_body", "`limit` is 0; ask for at least one instance"));
    }
    let to = to_version.map(|version| match version {
        VersionNamed::Number(number) => number.to_string(),
        VersionNamed::Text(text) => text,
    });
    let asked = Migrate { to, dry_run, limit, cursor, by };
    app.read(move |app| {
        let report = migrate(&app.engine, &caller.tenant, &name, &asked);
        let report = report.map_err(|error| problem(error, &name))?;
        Ok(request::json(200, &report, None))
    })
    .await
}
