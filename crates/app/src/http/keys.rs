//! Data keys over HTTP: which there are, and changing what they are wrapped by or what is encrypted with next.

use axum::extract::State;
use axum::response::Response;
use engine::EngineError;
use serde::{Deserialize, Serialize};
use store::{KeyReport, KeyedStore};

use crate::http::problem::Problem;
use crate::http::request::{self, Body, Caller, List};
use crate::http::{App, Shared};

/// Those of the caller's tenant. What others have is nobody's business.
pub async fn list(State(app): State<Shared>, caller: Caller) -> Result<Response, Problem> {
    app.read(move |app| {
        let keys: Vec<KeyReport> = match &app.keys {
            Some(store) => store.keys(Some(&caller.tenant)).map_err(EngineError::from)?,
            None => Vec::new(),
        };
        Ok(request::json(200, &List::whole(keys), None))
    })
    .await
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RotateBody {
    /// A new data key for the caller's tenant, too.
    #[serde(default)]
    data: bool,
}

#[derive(Debug, Serialize)]
struct Rotated {
    /// Data keys of all tenants that were wrapped by another master key than the first.
    rewrapped: usize,
    /// The keys of the caller's tenant, afterwards.
    data: Vec<KeyReport>,
}

/// Wraps every data key by the first master key, while everything goes on. No record is written.
pub async fn rotate(
    State(app): State<Shared>,
    caller: Caller,
    Body(RotateBody { data }): Body<RotateBody>,
) -> Result<Response, Problem> {
    app.read(move |app| {
        let store = with_key(app)?;
        let now = app.engine.clock().now();
        let rewrapped = store.rotate(now).map_err(EngineError::from)?;
        if data {
            store.rotate_data(&caller.tenant, now).map_err(EngineError::from)?;
        }
        let data = store.keys(Some(&caller.tenant)).map_err(EngineError::from)?;
        Ok(request::json(200, &Rotated { rewrapped, data }, None))
    })
    .await
}

fn with_key(app: &App) -> Result<&KeyedStore, Problem> {
    let store = app.keys.as_deref().filter(|store| store.has_master());
    store.ok_or_else(|| {
        Problem::new(409, "no_encryption_key", "There is no encryption key", store::vault::NO_KEY)
    })
}
