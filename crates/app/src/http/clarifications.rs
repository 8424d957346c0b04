//! Clarifications: listed, and answered by an option's id.

use axum::extract::State;
use axum::response::Response;
use engine::EngineError;
use kernel::conversation::{Clarification, ClarificationStatus, ReplyOption};
use kernel::diagnostic::nearest;
use kernel::id::{InputKey, InstanceId, MachineName, Subject};
use kernel::input::Cause;
use kernel::time::Timestamp;
use serde::{Deserialize, Serialize};
use store::ClarificationQuery;

use crate::http::problem::Problem;
use crate::http::request::{self, Asked, Body, Caller, List, Segments};
use crate::http::{Shared, answered};

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
    caller: Caller,
    Asked(asked): Asked<ClarificationsQuery>,
) -> Result<Response, Problem> {
    let status = asked.status.as_deref().map(parse_status).transpose()?;
    let limit = request::limit(asked.limit)?;
    let query = ClarificationQuery { tenant: caller.tenant, status, id: None, cursor: asked.cursor, limit };
    app.read(move |app| {
        let page = app.engine.store().clarifications(&query).map_err(EngineError::from)?;
        Ok(request::json(200, &List::of(page, ClarificationRow::from), None))
    })
    .await
}

fn parse_status(text: &str) -> Result<ClarificationStatus, Problem> {
    ClarificationStatus::parse(text).ok_or_else(|| {
        let known = ClarificationStatus::ALL.map(ClarificationStatus::as_str);
        let help = nearest(text, known.into_iter());
        Problem::bad_request("bad_query", format!("there is no status `{text}`; {help}"))
    })
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AnswerBody {
    key: Option<InputKey>,
    option: String,
    by: Option<String>,
}

pub async fn answer(
    State(app): State<Shared>,
    Segments(clarification): Segments<String>,
    caller: Caller,
    Body(body): Body<AnswerBody>,
) -> Result<Response, Problem> {
    let AnswerBody { key, option, by } = body;
    // The instance is the part of the id before the revision that asked.
    let instance = clarification.rsplit_once(':').and_then(|(instance, _)| InstanceId::parse(instance).ok());
    let Some(instance) = instance else {
        return Err(Problem::not_found(format!("there is no clarification `{clarification}`")));
    };
    let input = caller.input("key", key, by, Cause::Answer { instance, clarification, option })?;
    Ok(answered(&app.submit(input).await?))
}
