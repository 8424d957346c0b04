//! Deliveries: what became of the effects of an instance, and the dead letters, which can be tried again.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use engine::{EngineError, Machines};
use kernel::commit::EffectKind;
use kernel::conversation::Address;
use kernel::diagnostic::nearest;
use kernel::id::{InstanceId, MachineName, Subject};
use kernel::time::Timestamp;
use serde::{Deserialize, Serialize};
use store::{DeliveryStage, EffectQuery, EffectStatus, OutboxEffect};

use crate::access::Sight;
use crate::http::Shared;
use crate::http::problem::Problem;
use crate::http::request::{self, Asked, Caller, List, Segments};

/// What did not arrive, as far as is known. What has nowhere to go is no letter yet: a setting is missing.
const DEAD: [EffectStatus; 2] = [EffectStatus::Dead, EffectStatus::Unknown];

/// An effect as its reader sees it.
#[derive(Debug, Serialize)]
pub struct EffectRow {
    id: String,
    instance: InstanceId,
    machine: MachineName,
    subject: Option<Subject>,
    kind: EffectKind,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<Arc<Address>>,
    status: EffectStatus,
    attempts: u32,
    /// The last failure.
    error: Option<String>,
    created_at: Timestamp,
    /// When it is tried next.
    due_at: Option<Timestamp>,
    settled_at: Option<Timestamp>,
    /// What the provider calls it, and what it has reported of it since.
    provider_id: Option<String>,
    stage: Option<DeliveryStage>,
}

impl EffectRow {
    pub fn of(found: OutboxEffect, machines: &Machines, sight: Sight) -> Self {
        let veil = sight.over_any(machines, &found.machine);
        Self {
            id: found.effect.key,
            instance: found.instance,
            machine: found.machine,
            subject: found.subject,
            kind: veil.effect(found.effect.kind),
            to: found.effect.to,
            status: found.status,
            attempts: found.attempts,
            error: found.error,
            created_at: found.created_at,
            due_at: found.due_at,
            settled_at: found.settled_at,
            provider_id: found.provider_id,
            stage: found.stage,
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EffectsQuery {
    status: Option<String>,
    cursor: Option<String>,
    limit: Option<usize>,
}

impl EffectsQuery {
    /// The statuses asked for, with commas between them; `otherwise` if none is.
    fn statuses(&self, otherwise: &[EffectStatus]) -> Result<Vec<EffectStatus>, Problem> {
        let Some(written) = &self.status else { return Ok(otherwise.to_vec()) };
        let parsed = written.split(',').map(|status| {
            EffectStatus::parse(status).ok_or_else(|| {
                let help = nearest(status, EffectStatus::ALL.into_iter().map(EffectStatus::as_str));
                Problem::bad_request("bad_query", format!("there is no status `{status}`; {help}"))
            })
        });
        parsed.collect()
    }
}

/// What the commits of one instance had to have delivered, newest first.
pub async fn of_instance(
    State(app): State<Shared>,
    Segments(id): Segments<InstanceId>,
    caller: Caller,
    Asked(asked): Asked<EffectsQuery>,
) -> Result<Response, Problem> {
    let (tenant, sought) = (caller.tenant.clone(), id.clone());
    app.read(move |app| Ok(app.engine.instance(&tenant, &sought)?)).await?;
    let (instance, sight) = (Some(id), caller.sight());
    list(
        app,
        sight,
        EffectQuery { instance, statuses: asked.statuses(&[])?, ..EffectQuery::of(caller.tenant) },
        asked,
    )
    .await
}

/// What was given up, newest first; with `status`, any other effects of the tenant.
pub async fn dead_letters(
    State(app): State<Shared>,
    caller: Caller,
    Asked(asked): Asked<EffectsQuery>,
) -> Result<Response, Problem> {
    let sight = caller.sight();
    let query = EffectQuery { statuses: asked.statuses(&DEAD)?, ..EffectQuery::of(caller.tenant) };
    list(app, sight, query, asked).await
}

async fn list(
    app: Shared,
    sight: Sight,
    query: EffectQuery,
    asked: EffectsQuery,
) -> Result<Response, Problem> {
    let query = EffectQuery { cursor: asked.cursor, limit: request::limit(asked.limit)?, ..query };
    app.read(move |app| {
        let page = app.engine.store().effects(&query).map_err(EngineError::from)?;
        let row = |found| EffectRow::of(found, app.engine.machines(), sight);
        Ok(request::json(200, &List::of(page, row), None))
    })
    .await
}

/// Tries one again, from now on and with all attempts. Whoever retries what is `unknown` knows that it may arrive
/// twice.
pub async fn retry(
    State(app): State<Shared>,
    Segments(id): Segments<String>,
    caller: Caller,
) -> Result<Response, Problem> {
    app.read(move |app| {
        let (store, now) = (app.engine.store(), app.engine.clock().now());
        match store.retry_effect(&caller.tenant, &id, now).map_err(EngineError::from)? {
            None => return Err(Problem::not_found(format!("there is no effect `{id}`"))),
            Some(status) if !status.may_be_retried() => {
                let detail =
                    format!("the effect `{id}` is {}; there is nothing to try again", status.as_str());
                return Err(Problem::new(409, "not_retryable", "There is nothing to try again", detail));
            }
            Some(_) => app.engine.wake_delivery(),
        }
        let sight = caller.sight();
        let query = EffectQuery { key: Some(id), ..EffectQuery::of(caller.tenant) };
        let page = store.effects(&query).map_err(EngineError::from)?;
        let found =
            page.data.into_iter().next().map(|found| EffectRow::of(found, app.engine.machines(), sight));
        Ok(request::json(200, &found, None))
    })
    .await
}
