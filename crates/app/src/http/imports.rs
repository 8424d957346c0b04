//! Sessions of another system, brought in many at a time, and withdrawn.
//!
//! Each record is an input of its own: what becomes of one does not depend on the others, but for those of one session,
//! and a repeat of the whole request brings in nothing twice.

use axum::extract::State;
use axum::response::Response;
use engine::import::bring_in;
use engine::withdraw::{Withdraw, withdraw};
use kernel::id::{InputKey, InstanceId, MachineName, Subject};
use kernel::input::{Cause, Fields, Former, Input, Start};
use kernel::time::Timestamp;
use serde::Deserialize;

use crate::http::Shared;
use crate::http::problem::Problem;
use crate::http::request::{self, Body, Caller};

/// In one request.
const RECORDS_MAX: usize = 1_000;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImportBody {
    machine: MachineName,
    records: Vec<ImportRecord>,
    /// Say what would become of each, and bring in nothing.
    #[serde(default)]
    dry_run: bool,
    by: Option<String>,
}

/// What is no name of ours is what `Former` says.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ImportRecord {
    key: Option<InputKey>,
    id: Option<InstanceId>,
    subject: Option<Subject>,
    #[serde(default)]
    context: Fields,
    state: String,
    began_at: Option<Timestamp>,
    changed_at: Option<Timestamp>,
    expires_at: Option<Timestamp>,
    reason: Option<String>,
    locale: Option<String>,
    topic: Option<String>,
}

pub async fn post(
    State(app): State<Shared>,
    caller: Caller,
    Body(body): Body<ImportBody>,
) -> Result<Response, Problem> {
    let ImportBody { machine, records, dry_run, by } = body;
    app.engine.machines().current_for(&caller.tenant, &machine)?;
    if records.len() > RECORDS_MAX {
        let detail = format!("there are {} records; send at most {RECORDS_MAX} at a time", records.len());
        return Err(Problem::bad_request("malformed_body", detail));
    }
    let mut inputs = Vec::with_capacity(records.len());
    for (place, record) in records.into_iter().enumerate() {
        inputs.push(input(&caller, &machine, record, by.clone(), place)?);
    }
    // A thread that may block: what says something else than before is looked up.
    app.read(move |app| Ok(request::json(200, &bring_in(&app.engine, inputs, dry_run)?, None))).await
}

/// Under its key, else under one that is made of its id.
fn input(
    caller: &Caller,
    machine: &MachineName,
    record: ImportRecord,
    by: Option<String>,
    place: usize,
) -> Result<Input, Problem> {
    let ImportRecord { key, id, subject, context, .. } = record;
    let ImportRecord { state, began_at, changed_at, expires_at, reason, locale, topic, .. } = record;
    let former = Former { state, began_at, changed_at, expires_at, reason, locale, topic };
    let key = match (key, &id) {
        (Some(key), _) => key,
        (None, Some(id)) => InputKey::parse(&format!("import:{id}"))
            .map_err(|problem| Problem::bad_request("bad_key", format!("records[{place}]: {problem}")))?,
        (None, None) => {
            let detail = format!(
                "records[{place}] has neither a `key` nor an `id`: without one, a repeat would bring it in twice"
            );
            return Err(Problem::bad_request("missing_key", detail));
        }
    };
    let start = Start { former: Some(Box::new(former)), ..Start::default() };
    let cause = Cause::Create { machine: machine.clone(), id, subject, context, start };
    caller.clone().input("key", Some(key), by, cause)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UndoBody {
    machine: MachineName,
    #[serde(default)]
    dry_run: bool,
    limit: Option<usize>,
    cursor: Option<String>,
    by: Option<String>,
    reason: Option<String>,
}

/// Withdraws what nothing but time has touched since it was brought in.
pub async fn undo(
    State(app): State<Shared>,
    caller: Caller,
    Body(body): Body<UndoBody>,
) -> Result<Response, Problem> {
    let UndoBody { machine, dry_run, limit, cursor, by, reason } = body;
    if limit == Some(0) {
        return Err(Problem::bad_request("malformed_body", "`limit` is 0; ask for at least one instance"));
    }
    let reason = reason.unwrap_or_else(|| "the import is undone".to_owned());
    let asked = Withdraw { dry_run, limit, cursor, by, reason };
    app.read(move |app| {
        let report = withdraw(&app.engine, &caller.tenant, &machine, &asked)?;
        Ok(request::json(200, &report, None))
    })
    .await
}
