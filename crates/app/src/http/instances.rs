//! Instances: created, shown, listed, sent events, explained, recovered.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use axum::response::Response;
use engine::Engine;
use kernel::commit::{Answer, Entry};
use kernel::conversation::{Message, Why};
use kernel::decide::{WaitingFor, waiting_for};
use kernel::id::{InputKey, InstanceId, MachineName, Revision, Subject};
use kernel::input::{Cause, Fields, Input};
use kernel::snapshot::{Snapshot, Timer};
use kernel::time::{Delay, Timestamp};
use serde::{Deserialize, Serialize};
use store::{HistoryQuery, InstanceQuery};

use crate::http::problem::Problem;
use crate::http::request::{self, List};
use crate::http::{Shared, answered, tenant};
use crate::telemetry::fresh_trace_id;

/// An instance as its reader sees it.
#[derive(Debug, Serialize)]
pub struct InstanceView {
    id: InstanceId,
    machine: MachineName,
    version: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<Subject>,
    state: String,
    configuration: Vec<Arc<str>>,
    context: Arc<Fields>,
    revision: Revision,
    waiting_for: Option<WaitingFor>,
    timers: Vec<Timer>,
    closure_reason: Option<String>,
    closed_at: Option<Timestamp>,
    handed_over: bool,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl InstanceView {
    pub fn of(engine: &Engine, snapshot: &Snapshot) -> Self {
        let machine = engine.machine_of(snapshot).ok();
        let closure = snapshot.closure.as_ref();
        Self {
            id: snapshot.instance.clone(),
            machine: snapshot.machine.clone(),
            version: snapshot.version,
            subject: snapshot.subject.clone(),
            state: snapshot.state(),
            configuration: snapshot.configuration.clone(),
            context: Arc::clone(&snapshot.context),
            revision: snapshot.revision,
            waiting_for: machine.map(|machine| waiting_for(&machine, snapshot)),
            timers: snapshot.timers.clone(),
            closure_reason: closure.map(|c| c.reason.clone()),
            closed_at: closure.map(|c| c.at),
            handed_over: snapshot.conversation.as_ref().is_some_and(|c| c.handed_over),
            created_at: snapshot.created_at,
            updated_at: snapshot.updated_at,
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CreateBody {
    machine: MachineName,
    id: Option<InstanceId>,
    subject: Option<Subject>,
    #[serde(default)]
    context: Fields,
    key: Option<InputKey>,
    by: Option<String>,
}

pub async fn create(
    State(app): State<Shared>,
    headers: HeaderMap,
    bytes: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let tenant = tenant(&app, &headers)?;
    let CreateBody { machine, id, subject, context, key, by } = request::body(bytes)?;
    let input = Input {
        tenant,
        key: request::key(key, &headers, "key")?,
        cause: Cause::Create { machine, id, subject, context },
        expected: None,
        by,
        trace_id: Some(request::trace_id(&headers)),
    };
    let submitted = app.submit(input).await?;
    let mut response = answered(&submitted);
    if matches!(&*submitted.answer, Answer::Event(_)) {
        *response.status_mut() = axum::http::StatusCode::CREATED;
    }
    Ok(response)
}

pub async fn show(
    State(app): State<Shared>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let tenant = tenant(&app, &headers)?;
    let id = request::parsed(InstanceId::parse(&id))?;
    app.read(move |app| {
        let snapshot = app.engine.instance(&tenant, &id)?;
        Ok(request::json(200, &InstanceView::of(&app.engine, &snapshot), Some(snapshot.revision)))
    })
    .await
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListQuery {
    machine: Option<String>,
    state: Option<String>,
    subject: Option<String>,
    closed: Option<bool>,
    expiring_within: Option<String>,
    cursor: Option<String>,
    limit: Option<usize>,
}

pub async fn list(
    State(app): State<Shared>,
    headers: HeaderMap,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let tenant = tenant(&app, &headers)?;
    let Query(asked) = query?;
    let machine = asked.machine.as_deref().map(MachineName::parse).transpose();
    let subject = asked.subject.as_deref().map(Subject::parse).transpose();
    let within = asked.expiring_within.as_deref().map(Delay::parse).transpose();
    let within = within.map_err(|problem| Problem::bad_request("bad_query", problem))?;
    let mut query = InstanceQuery::of(tenant);
    query.machine = request::parsed(machine)?;
    query.subject = request::parsed(subject)?;
    query.due_before = within.map(|within| app.engine.clock().now().plus(within));
    let machine = query.machine.as_ref().map(|name| app.engine.machines().current(name)).transpose()?;
    if let (Some(machine), Some(state)) = (machine, &asked.state) {
        let known = |path: &str| machine.chart.by_path(path).is_some();
        if let Some(unknown) = state.split(',').find(|path| !known(path)) {
            let paths = machine.chart.states.iter().skip(1).map(|s| &*s.path);
            let help = kernel::diagnostic::nearest(unknown, paths);
            let detail = format!("the machine `{}` has no state `{unknown}`; {help}", machine.name);
            return Err(Problem::bad_request("unknown_state", detail));
        }
    }
    query.state = asked.state;
    query.closed = asked.closed;
    query.cursor = asked.cursor;
    query.limit = request::limit(asked.limit)?;
    app.read(move |app| {
        let page = app.engine.store().instances(&query).map_err(engine::EngineError::from)?;
        let list = List::of(page, |snapshot| InstanceView::of(&app.engine, &snapshot));
        Ok(request::json(200, &list, None))
    })
    .await
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct EventBody {
    key: Option<InputKey>,
    event: String,
    #[serde(default)]
    payload: Fields,
    by: Option<String>,
}

pub async fn post_event(
    State(app): State<Shared>,
    Path(id): Path<String>,
    headers: HeaderMap,
    bytes: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let tenant = tenant(&app, &headers)?;
    let EventBody { key, event, payload, by } = request::body(bytes)?;
    let input = Input {
        tenant,
        key: request::key(key, &headers, "key")?,
        cause: Cause::Event { instance: request::parsed(InstanceId::parse(&id))?, event, payload },
        expected: request::expected(&headers)?,
        by,
        trace_id: Some(request::trace_id(&headers)),
    };
    Ok(answered(&app.submit(input).await?))
}

/// A log entry as its reader sees it.
#[derive(Debug, Serialize)]
struct EntryView {
    revision: Revision,
    at: Timestamp,
    from: String,
    to: String,
    event: String,
    key: InputKey,
    success: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<kernel::conversation::MessageOutcome>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    by: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<Why>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<String>,
}

impl From<Entry> for EntryView {
    fn from(entry: Entry) -> Self {
        let (outcome, why) = match entry.answer {
            Answer::Message(answer) => (Some(answer.outcome), Some(answer.why)),
            _ => (None, None),
        };
        Self {
            revision: entry.revision,
            at: entry.at,
            from: entry.from,
            to: entry.to,
            event: entry.event,
            key: entry.key,
            success: entry.success,
            outcome,
            text: entry.message.and_then(|message| message.text),
            reason: entry.reason,
            code: entry.code,
            by: entry.by,
            why,
            trace_id: entry.trace_id,
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PageQuery {
    cursor: Option<String>,
    limit: Option<usize>,
}

pub async fn history(
    State(app): State<Shared>,
    Path(id): Path<String>,
    headers: HeaderMap,
    query: Result<Query<PageQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let tenant = tenant(&app, &headers)?;
    let Query(page) = query?;
    let instance = request::parsed(InstanceId::parse(&id))?;
    let limit = request::limit(page.limit)?;
    app.read(move |app| {
        app.engine.instance(&tenant, &instance)?;
        let query = HistoryQuery { tenant, instance, cursor: page.cursor, limit };
        let page = app.engine.store().history(&query).map_err(engine::EngineError::from)?;
        Ok(request::json(200, &List::of(page, EntryView::from), None))
    })
    .await
}

/// An event or a message, as it would be sent.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ExplainBody {
    event: Option<String>,
    #[serde(default)]
    payload: Fields,
    message: Option<Message>,
}

pub async fn explain(
    State(app): State<Shared>,
    Path(id): Path<String>,
    headers: HeaderMap,
    bytes: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let tenant = tenant(&app, &headers)?;
    let instance = request::parsed(InstanceId::parse(&id))?;
    let body: ExplainBody = request::body(bytes)?;
    app.read(move |app| {
        let snapshot = app.engine.instance(&tenant, &instance)?;
        let cause = match (body.event, body.message) {
            (Some(event), None) => Cause::Event { instance, event, payload: body.payload },
            (None, Some(message)) => {
                let subject = snapshot.subject.clone().ok_or_else(|| {
                    Problem::bad_request(
                        "no_subject",
                        "the instance has no subject, so nobody sends it messages",
                    )
                })?;
                Cause::Message { machine: snapshot.machine.clone(), subject, message }
            }
            _ => {
                return Err(Problem::bad_request("malformed_body", "send either `event` or `message`"));
            }
        };
        let key = request::parsed(InputKey::parse("explain"))?;
        let input = Input { tenant, key, cause, expected: None, by: None, trace_id: None };
        let machine = app.engine.machine_of(&snapshot)?;
        let now = app.engine.clock().now();
        let explanation = kernel::decide::explain(&machine, &snapshot, &input, now);
        Ok(request::json(200, &explanation, Some(snapshot.revision)))
    })
    .await
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RecoverBody {
    reason: String,
    key: Option<InputKey>,
    by: Option<String>,
}

/// Puts the instance into its safe state. Without a key, each request is one of its own.
pub async fn recover(
    State(app): State<Shared>,
    Path(id): Path<String>,
    headers: HeaderMap,
    bytes: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let tenant = tenant(&app, &headers)?;
    let RecoverBody { reason, key, by } = request::body(bytes)?;
    let has_key = key.is_some() || headers.contains_key("idempotency-key");
    let key = if has_key {
        request::key(key, &headers, "key")?
    } else {
        request::parsed(InputKey::parse(&fresh_trace_id()))?
    };
    let input = Input {
        tenant,
        key,
        cause: Cause::Recover { instance: request::parsed(InstanceId::parse(&id))?, reason },
        expected: request::expected(&headers)?,
        by,
        trace_id: Some(request::trace_id(&headers)),
    };
    Ok(answered(&app.submit(input).await?))
}
