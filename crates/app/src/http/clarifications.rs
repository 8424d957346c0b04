//! Clarifications: listed, and answered by an option's id.

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use axum::response::Response;
use kernel::conversation::{Clarification, ClarificationStatus, ReplyOption};
use kernel::id::{InputKey, InstanceId, MachineName, Subject};
use kernel::input::{Cause, Input};
use kernel::time::Timestamp;
use serde::{Deserialize, Serialize};
use store::ClarificationQuery;

use crate::http::problem::Problem;
use crate::http::request::{self, List};
use crate::http::{Shared, answered, tenant};

#[derive(Debug, Serialize)]
struct ClarificationRow {
    id: String,
    session_id: InstanceId,
    machine: MachineName,
    subject: Subject,
    status: ClarificationStatus,
    question: String,
    options: Vec<ReplyOption>,
    created_at: Timestamp,
    expires_at: Timestamp,
    attempts: u32,
    resolved_at: Option<Timestamp>,
    answer: Option<String>,
}

impl From<Clarification> for ClarificationRow {
    fn from(clarification: Clarification) -> Self {
        let options = clarification.reply_options();
        Self {
            id: clarification.id,
            session_id: clarification.instance,
            machine: clarification.machine,
            subject: clarification.subject,
            status: clarification.status,
            question: clarification.question,
            options,
            created_at: clarification.created_at,
            expires_at: clarification.expires_at,
            attempts: clarification.attempts,
            resolved_at: clarification.resolved_at,
            answer: clarification.answer,
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClarificationsQuery {
    status: Option<String>,
    cursor: Option<String>,
    limit: Option<usize>,
}

pub async fn list(
    State(app): State<Shared>,
    headers: HeaderMap,
    query: Result<Query<ClarificationsQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let tenant = tenant(&app, &headers)?;
    let Query(asked) = query?;
    let status = asked.status.as_deref().map(|text| {
        ClarificationStatus::parse(text).ok_or_else(|| {
            let known = ClarificationStatus::ALL.map(ClarificationStatus::as_str);
            let help = kernel::diagnostic::nearest(text, known.into_iter());
            Problem::bad_request("bad_query", format!("there is no status `{text}`; {help}"))
        })
    });
    let status = status.transpose()?;
    let limit = request::limit(asked.limit)?;
    let query = ClarificationQuery { tenant, status, id: None, cursor: asked.cursor, limit };
    app.read(move |app| {
        let page = app.engine.store().clarifications(&query).map_err(engine::EngineError::from)?;
        Ok(request::json(200, &List::of(page, ClarificationRow::from), None))
    })
    .await
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AnswerBody {
    key: Option<InputKey>,
    option: String,
    by: Option<String>,
}

pub async fn answer(
    State(app): State<Shared>,
    Path(id): Path<String>,
    headers: HeaderMap,
    bytes: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let tenant = tenant(&app, &headers)?;
    let AnswerBody { key, option, by } = request::body(bytes)?;
    let key = request::key(key, &headers, "key")?;
    // The instance is the part of the id before the revision that asked.
    let instance = id.rsplit_once(':').and_then(|(instance, _)| InstanceId::parse(instance).ok());
    let Some(instance) = instance else {
        return Err(Problem::not_found(format!("there is no clarification `{id}`")));
    };
    let input = Input {
        tenant,
        key,
        cause: Cause::Answer { instance, clarification: id, option },
        expected: request::expected(&headers)?,
        by,
        trace_id: Some(request::trace_id(&headers)),
    };
    Ok(answered(&app.submit(input).await?))
}
