//! API keys over HTTP: made, listed, replaced, revoked. What a key is, is `access::api_key`'s business.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use engine::EngineError;
use kernel::commit::Answer;
use kernel::id::{InstanceId, TenantId};
use kernel::input::Input;
use kernel::refusal::{Refusal, RefusalCode};
use kernel::time::{Delay, Timestamp};
use serde::{Deserialize, Serialize};
use store::InstanceQuery;

use crate::access::api_key::{self, ApiKey, Secret, Wanted};
use crate::access::{Holder, Scope};
use crate::http::problem::Problem;
use crate::http::request::{self, Asked, Body, Caller, List, PageQuery, Segments};
use crate::http::{App, Shared};

/// For so long a replaced key goes on if nothing is said: a day to bring the new one to all who use it.
pub const OVERLAP: Delay = Delay::from_secs(86_400);

/// A key as it is shown: without what opens.
#[derive(Debug, Serialize)]
pub struct KeyView {
    id: InstanceId,
    name: Arc<str>,
    scope: Scope,
    state: String,
    made_at: Timestamp,
    made_by: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<Timestamp>,
    /// Of one that is replaced, when it opens nothing any more, and by which.
    #[serde(skip_serializing_if = "Option::is_none")]
    retires_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    successor: Option<String>,
}

impl KeyView {
    pub fn of(key: &ApiKey, now: Timestamp) -> Self {
        Self {
            id: key.id.clone(),
            name: Arc::clone(&key.holder.who),
            scope: key.holder.scope,
            state: key.state(now).to_owned(),
            made_at: key.made_at,
            made_by: key.made_by.clone(),
            expires_at: key.expires_at,
            retires_at: key.retires_at,
            successor: key.successor.clone(),
        }
    }
}

/// What whoever makes a key is told, this once.
#[derive(Debug, Serialize)]
pub struct Made {
    id: InstanceId,
    key: String,
    name: Arc<str>,
    scope: Scope,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<Timestamp>,
    /// Of the key that is replaced, when it opens nothing any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    old_until: Option<Timestamp>,
}

impl Made {
    pub fn of(secret: Secret, wanted: Wanted) -> Self {
        let Holder { scope, who, .. } = wanted.holder;
        let Secret { id, text } = secret;
        Self { id, key: text, name: who, scope, expires_at: wanted.expires_at, old_until: None }
    }

    pub fn id(&self) -> &InstanceId {
        &self.id
    }

    /// In the place of one that goes on until then.
    pub fn replacing(self, until: Timestamp) -> Self {
        Self { old_until: Some(until), ..self }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateBody {
    name: String,
    scope: Scope,
    expires_in: Option<Delay>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RotateBody {
    overlap: Option<Delay>,
}

/// Those of the caller's tenant; not the sessions of who has signed in with them.
pub async fn list(
    State(app): State<Shared>,
    caller: Caller,
    Asked(PageQuery { cursor, limit }): Asked<PageQuery>,
) -> Result<Response, Problem> {
    let limit = request::limit(limit)?;
    app.read(move |app| {
        let query = InstanceQuery {
            machine: Some(api_key::machine()),
            subject: Some(api_key::listed_under(&caller.tenant, false)),
            cursor,
            limit,
            ..InstanceQuery::of(TenantId::access())
        };
        let now = app.engine.clock().now();
        let page = app.engine.store().instances(&query).map_err(EngineError::from)?;
        let mut list = List::of(page, |snapshot| ApiKey::of(&snapshot));
        // What cannot be read as a key opens nothing, and is none.
        let data = list.data.drain(..).flatten().map(|key| KeyView::of(&key, now)).collect();
        let list = List { data, next_cursor: list.next_cursor, has_more: list.has_more };
        Ok(request::json(200, &list, None))
    })
    .await
}

pub async fn create(
    State(app): State<Shared>,
    caller: Caller,
    Body(CreateBody { name, scope, expires_in }): Body<CreateBody>,
) -> Result<Response, Problem> {
    let malformed = |problem| Problem::bad_request("malformed_body", problem);
    api_key::check_name(&name).map_err(malformed)?;
    let expires_at = expires_in.map(|lasts| app.engine.clock().now().plus(lasts));
    if expires_in == Some(Delay::ZERO) {
        return Err(malformed("`expires_in` is nothing; the key would never open anything".to_owned()));
    }
    let holder = Holder { tenant: caller.tenant, scope, who: name.into() };
    let wanted = Wanted { holder, made_by: caller.who.to_string(), expires_at, session_of: None };
    let secret = app.make_key(&wanted).await?;
    Ok(request::json(201, &Made::of(secret, wanted), None))
}

/// Makes a key in the place of another, which goes on for a while.
pub async fn rotate(
    State(app): State<Shared>,
    Segments(id): Segments<InstanceId>,
    caller: Caller,
    Body(RotateBody { overlap }): Body<RotateBody>,
) -> Result<Response, Problem> {
    let old = own(&app, &caller, &id).await?;
    let now = app.engine.clock().now();
    if old.state(now) != "active" {
        return Err(over(&old, now));
    }
    let holder = old.holder.clone();
    let expires_at = old.lasts().map(|lasts| now.plus(lasts));
    let by = caller.who.to_string();
    let wanted = Wanted { holder, made_by: by.clone(), expires_at, session_of: None };
    // The new one first: whoever has it not must not lose the old one.
    let secret = app.make_key(&wanted).await?;
    let until = now.plus(overlap.unwrap_or(OVERLAP));
    if let Some(refusal) = app.ask_key(api_key::retirement(&id, until, &secret.id, &by), &id).await? {
        // Somebody else was faster, and nobody has seen the new one.
        app.ask_key(api_key::revocation(&secret.id, &by), &secret.id).await?;
        return Err(refused(&refusal, &id));
    }
    Ok(request::json(201, &Made::of(secret, wanted).replacing(until), None))
}

/// From its answer on, the key opens nothing here; at other servers after the few seconds for which they remember it.
pub async fn revoke(
    State(app): State<Shared>,
    Segments(id): Segments<InstanceId>,
    caller: Caller,
) -> Result<Response, Problem> {
    let key = own(&app, &caller, &id).await?;
    let refusal = app.ask_key(api_key::revocation(&id, &caller.who), &id).await?;
    match refusal {
        Some(refusal) if refusal.code != RefusalCode::InstanceClosed => Err(refused(&refusal, &id)),
        // It is over already, as it was to be.
        _ => {
            let key = app.stored_key(&id).await?.unwrap_or(key);
            Ok(request::json(200, &KeyView::of(&key, app.engine.clock().now()), None))
        }
    }
}

/// A key of the caller's tenant, as it is stored. What others have does not exist.
async fn own(app: &Shared, caller: &Caller, id: &InstanceId) -> Result<Arc<ApiKey>, Problem> {
    let found = app.stored_key(id).await?;
    let found = found.filter(|key| key.holder.tenant == caller.tenant && key.session_of.is_none());
    found.ok_or_else(|| Problem::not_found(format!("there is no API key `{id}`")))
}

fn over(key: &ApiKey, now: Timestamp) -> Problem {
    let detail = format!("the API key `{}` is {}; make another", key.id, key.state(now));
    Problem::new(409, "key_over", "The key is over", detail)
}

fn refused(refusal: &Refusal, id: &InstanceId) -> Problem {
    match refusal.code {
        RefusalCode::InstanceClosed | RefusalCode::InvalidTransition => {
            let detail = format!("the API key `{id}` is over, or is being replaced already; make another");
            Problem::new(409, "key_over", "The key is over", detail)
        }
        _ => Problem::refused(refusal),
    }
}

impl App {
    /// Makes a key. It opens from the answer on.
    pub async fn make_key(&self, wanted: &Wanted) -> Result<Secret, Problem> {
        let secret = Secret::fresh().map_err(|error| {
            tracing::error!("failed to make a key: {error}");
            Problem::internal()
        })?;
        match self.ask_key(api_key::creation(&secret, wanted), &secret.id).await? {
            None => Ok(secret),
            Some(refusal) => Err(Problem::refused(&refusal)),
        }
    }

    /// The refusal, if it is one. What was remembered of the key is forgotten.
    pub async fn ask_key(&self, input: Input, id: &InstanceId) -> Result<Option<Refusal>, Problem> {
        let submitted = self.submit(input).await;
        // Also when nobody knows whether it was done.
        self.access.known.forget(id);
        Ok(match &*submitted?.answer {
            Answer::Refused(refusal) => Some(refusal.clone()),
            _ => None,
        })
    }
}
