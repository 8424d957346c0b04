//! Instances: created, shown, listed, sent events, explained, recovered.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use engine::{Engine, EngineError, replay};
use kernel::commit::{Answer, Entry, EntryCause, EventAnswer};
use kernel::conversation::{Candidate, Message, MessageOutcome, Why};
use kernel::decide::{WaitingFor, waiting_for};
use kernel::diagnostic::nearest;
use kernel::id::{DefinitionHash, InputKey, InstanceId, MachineName, Revision, Subject, TenantId};
use kernel::input::{CallOutcome, Cause, Fields, Start};
use kernel::looping::Looping;
use kernel::snapshot::{BroughtIn, Snapshot, Stuck, Timer};
use kernel::time::{Delay, Timestamp};
use serde::{Deserialize, Serialize};
use store::{HistoryQuery, InstanceQuery, Page};

use crate::access::Sight;
use crate::http::problem::Problem;
use crate::http::request::{self, Asked, Body, Caller, List, PageQuery, Segments, Trial};
use crate::http::{App, Shared, answered};
use crate::receipts;

/// An instance as its reader sees it.
#[derive(Debug, Serialize)]
pub struct InstanceView {
    id: InstanceId,
    machine: MachineName,
    version: u32,
    definition: DefinitionHash,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<Subject>,
    state: String,
    configuration: Vec<Arc<str>>,
    context: Arc<Fields>,
    revision: Revision,
    waiting_for: Option<WaitingFor>,
    timers: Vec<Timer>,
    closure_reason: Option<String>,
    /// What the final state says that the instance has come to.
    #[serde(skip_serializing_if = "Option::is_none")]
    output: Option<Fields>,
    closed_at: Option<Timestamp>,
    handed_over: bool,
    /// Why nothing will lead on from here, if nothing will.
    #[serde(skip_serializing_if = "Option::is_none")]
    stuck: Option<Stuck>,
    /// The transition that repeats itself, while it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    looping: Option<Looping>,
    /// Of one that came from another system: whether anything but time has touched it since.
    #[serde(skip_serializing_if = "Option::is_none")]
    brought_in: Option<&'static str>,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl InstanceView {
    pub fn of(engine: &Engine, snapshot: &Snapshot, sight: Sight) -> Self {
        let stuck = snapshot.stuck(engine.stuck_by());
        Self { stuck, ..Self::at(engine, snapshot, engine.clock().now(), sight) }
    }

    /// As it was seen when it had just become so.
    fn of_past(engine: &Engine, snapshot: &Snapshot, sight: Sight) -> Self {
        Self::at(engine, snapshot, snapshot.updated_at, sight)
    }

    fn at(engine: &Engine, snapshot: &Snapshot, now: Timestamp, sight: Sight) -> Self {
        let veil = sight.over(engine.machines(), snapshot);
        let machine = engine.machines().of(snapshot).ok();
        let closure = snapshot.closure.as_ref();
        Self {
            id: snapshot.instance.clone(),
            machine: snapshot.machine.clone(),
            version: snapshot.version,
            definition: snapshot.definition.clone(),
            subject: snapshot.subject.clone(),
            state: snapshot.state(),
            configuration: snapshot.configuration.clone(),
            context: veil.context(&snapshot.context),
            revision: snapshot.revision,
            waiting_for: machine.map(|machine| veil.waiting_for(waiting_for(&machine, snapshot, now))),
            timers: veil.timers(snapshot.timers.clone()),
            closure_reason: closure.map(|c| c.reason.clone()),
            output: closure.map(|c| veil.payload(c.output.clone())).filter(|output| !output.is_empty()),
            closed_at: closure.map(|c| c.at),
            handed_over: snapshot.conversation.as_ref().is_some_and(|c| c.handed_over),
            stuck: None,
            looping: snapshot.looping.clone().filter(|looping| looping.until > now),
            brought_in: snapshot.brought_in.as_ref().map(BroughtIn::as_str),
            created_at: snapshot.created_at,
            updated_at: snapshot.updated_at,
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateBody {
    machine: MachineName,
    id: Option<InstanceId>,
    subject: Option<Subject>,
    #[serde(default)]
    context: Fields,
    key: Option<InputKey>,
    by: Option<String>,
}

/// What a creation would have got.
#[derive(Serialize)]
struct Tried<'a> {
    #[serde(flatten)]
    answer: &'a EventAnswer,
    dry_run: bool,
}

pub async fn create(
    State(app): State<Shared>,
    caller: Caller,
    Asked(Trial { dry_run }): Asked<Trial>,
    Body(body): Body<CreateBody>,
) -> Result<Response, Problem> {
    let CreateBody { machine, id, subject, context, key, by } = body;
    if machine.is_own() {
        let detail = format!("`{machine}` is the server's own: nobody else creates its instances");
        return Err(Problem::forbidden("own_machine", detail));
    }
    let cause = Cause::Create { machine, id, subject, context, start: Start::default() };
    let key = if dry_run { caller.key_or_fresh(key) } else { key };
    let input = caller.input("key", key, by, cause)?;
    let submitted = app.create(input, dry_run).await?;
    if let (true, Answer::Event(answer)) = (dry_run, &*submitted.answer) {
        return Ok(request::json(200, &Tried { answer, dry_run }, None));
    }
    let mut response = answered(&submitted);
    if matches!(&*submitted.answer, Answer::Event(_)) {
        *response.status_mut() = StatusCode::CREATED;
    }
    Ok(response)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShowQuery {
    /// As it was then; as it is if absent.
    revision: Option<Revision>,
}

pub async fn show(
    State(app): State<Shared>,
    Segments(id): Segments<InstanceId>,
    caller: Caller,
    Asked(asked): Asked<ShowQuery>,
) -> Result<Response, Problem> {
    app.read(move |app| {
        if let Some(revision) = asked.revision {
            let past = replay::at(&app.engine, &caller.tenant, &id, revision)?;
            // No tag: nothing can be made to depend on a revision that is over.
            return Ok(request::json(200, &InstanceView::of_past(&app.engine, &past, caller.sight()), None));
        }
        let snapshot = app.engine.instance(&caller.tenant, &id)?;
        let view = InstanceView::of(&app.engine, &snapshot, caller.sight());
        Ok(request::json(200, &view, Some(snapshot.revision)))
    })
    .await
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListQuery {
    pub machine: Option<MachineName>,
    pub state: Option<String>,
    pub subject: Option<Subject>,
    pub subject_contains: Option<String>,
    pub closed: Option<bool>,
    pub expiring_within: Option<Delay>,
    #[serde(default)]
    pub stuck: bool,
    #[serde(default)]
    pub looping: bool,
    pub cursor: Option<String>,
    pub limit: Option<usize>,
}

pub async fn list(
    State(app): State<Shared>,
    caller: Caller,
    Asked(asked): Asked<ListQuery>,
) -> Result<Response, Problem> {
    let sight = caller.sight();
    app.read(move |app| {
        let page = listed(app, caller.tenant, asked)?;
        let list = List::of(page, |snapshot| InstanceView::of(&app.engine, &snapshot, sight));
        Ok(request::json(200, &list, None))
    })
    .await
}

/// The instances that are asked for.
pub fn listed(app: &App, tenant: TenantId, asked: ListQuery) -> Result<Page<Snapshot>, Problem> {
    if let Some(name) = &asked.machine {
        app.engine.machines().current(name)?;
        asked.state.as_ref().map_or(Ok(()), |states| known_states(app, &tenant, name, states))?;
    }
    let now = app.engine.clock().now();
    let tenant = match &asked.machine {
        Some(machine) if receipts::is_receipts(machine) => tenant.receipts(),
        _ => tenant,
    };
    let query = InstanceQuery {
        machine: asked.machine,
        state: asked.state,
        subject: asked.subject,
        subject_contains: asked.subject_contains.filter(|part| !part.is_empty()),
        closed: asked.closed,
        due_before: asked.expiring_within.map(|within| now.plus(within)),
        stuck_by: asked.stuck.then(|| app.engine.stuck_by()),
        looping_at: asked.looping.then_some(now),
        cursor: asked.cursor,
        limit: request::limit(asked.limit)?,
        ..InstanceQuery::of(tenant)
    };
    Ok(app.engine.store().instances(&query).map_err(EngineError::from)?)
}

/// Every path of a configuration must be a state of the machine, of some version of it, or nothing would ever be found.
fn known_states(app: &App, tenant: &TenantId, name: &MachineName, states: &str) -> Result<(), Problem> {
    let machines = app.engine.machines();
    let current = machines.current_for(tenant, name)?;
    let mut known = machines.versions(name);
    known.push(Arc::clone(&current));
    let is_known = |path: &&str| known.iter().any(|machine| machine.chart.by_path(path).is_some());
    let Some(unknown) = states.split(',').find(|path| !is_known(path)) else { return Ok(()) };
    let paths = current.chart.states.iter().skip(1).map(|state| &*state.path);
    let help = nearest(unknown, paths);
    let detail = format!("the machine `{name}` has no state `{unknown}`; {help}");
    Err(Problem::bad_request("unknown_state", detail))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventBody {
    key: Option<InputKey>,
    event: String,
    #[serde(default)]
    payload: Fields,
    by: Option<String>,
}

pub async fn post_event(
    State(app): State<Shared>,
    Segments(instance): Segments<InstanceId>,
    caller: Caller,
    Body(body): Body<EventBody>,
) -> Result<Response, Problem> {
    let EventBody { key, event, payload, by } = body;
    let input = caller.input("key", key, by, Cause::Event { instance, event, payload })?;
    Ok(answered(&app.submit(input).await?))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CallBody {
    key: Option<InputKey>,
    result: Option<Fields>,
    error: Option<Fields>,
    by: Option<String>,
}

/// What was called brings its result, or its error. Without a key of its own, the same result for the same call is the
/// same input, so that one which comes twice counts once.
pub async fn answer_call(
    State(app): State<Shared>,
    Segments((instance, call)): Segments<(InstanceId, String)>,
    caller: Caller,
    Body(body): Body<CallBody>,
) -> Result<Response, Problem> {
    let CallBody { key, result, error, by } = body;
    let outcome = match (result, error) {
        (Some(result), None) => CallOutcome::Done(result),
        (None, Some(error)) => CallOutcome::Failed(error),
        _ => {
            let detail = "give either `result` or `error`, each an object: {\"result\": {\"id\": 7}}";
            return Err(Problem::bad_request("malformed_body", detail));
        }
    };
    let cause = Cause::Result { instance, call, outcome };
    let key = caller.key_or(key, &format!("result:{}", cause.digest()));
    let input = caller.input("key", key, by, cause)?;
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
    outcome: Option<MessageOutcome>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    /// The token of the button that was pressed.
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<String>,
    /// What a classifier made of the text: the caller's, or the recogniser that was asked.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    candidates: Vec<Candidate>,
    #[serde(skip_serializing_if = "Option::is_none")]
    advised_by: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    advice_failure: Option<String>,
    /// The option that was chosen, the timer that came due, the call that came back.
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<EntryCause>,
    /// What a call brought, as it was posted: the one or the other.
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<Fields>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Fields>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<String>,
    /// How often the transition was taken since the loop began that this one is part of.
    #[serde(skip_serializing_if = "Option::is_none")]
    looping: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    by: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<Why>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<String>,
}

impl EntryView {
    fn of(entry: Entry, instance: &Snapshot) -> Self {
        let brought = match &entry.cause {
            Some(EntryCause::Result { .. }) => entry.input(instance).map(|input| input.cause),
            _ => None,
        };
        let (result, error) = match brought {
            Some(Cause::Result { outcome: CallOutcome::Done(result), .. }) => (Some(result), None),
            Some(Cause::Result { outcome: CallOutcome::Failed(error), .. }) => (None, Some(error)),
            _ => (None, None),
        };
        let (outcome, why) = match entry.answer {
            Answer::Message(answer) => (Some(answer.outcome), Some(answer.why)),
            _ => (None, None),
        };
        let message = entry.message.unwrap_or_default();
        Self {
            revision: entry.revision,
            at: entry.at,
            from: entry.from,
            to: entry.to,
            event: entry.event,
            key: entry.key,
            success: entry.success,
            outcome,
            text: message.text,
            payload: message.payload,
            candidates: message.candidates,
            advised_by: message.advised_by,
            advice_failure: message.advice_failure,
            cause: entry.cause,
            result,
            error,
            reason: entry.reason,
            code: entry.code,
            looping: entry.looping,
            by: entry.by,
            why,
            trace_id: entry.trace_id,
        }
    }
}

pub async fn history(
    State(app): State<Shared>,
    Segments(instance): Segments<InstanceId>,
    caller: Caller,
    Asked(page): Asked<PageQuery>,
) -> Result<Response, Problem> {
    let limit = request::limit(page.limit)?;
    app.read(move |app| {
        let snapshot = app.engine.instance(&caller.tenant, &instance)?;
        let veil = caller.sight().over(app.engine.machines(), &snapshot);
        let query = HistoryQuery { cursor: page.cursor, limit, ..HistoryQuery::of(caller.tenant, instance) };
        let page = app.engine.store().history(&query).map_err(EngineError::from)?;
        Ok(request::json(200, &List::of(page, |entry| EntryView::of(veil.entry(entry), &snapshot)), None))
    })
    .await
}

/// An event, a message or a recovery, as it would be sent.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExplainBody {
    event: Option<String>,
    #[serde(default)]
    payload: Fields,
    message: Option<Message>,
    recover: Option<RecoverTrial>,
}

/// A recovery, as it would be asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RecoverTrial {
    reason: String,
}

pub async fn explain(
    State(app): State<Shared>,
    Segments(instance): Segments<InstanceId>,
    caller: Caller,
    Body(body): Body<ExplainBody>,
) -> Result<Response, Problem> {
    app.read(move |app| {
        let snapshot = app.engine.instance(&caller.tenant, &instance)?;
        // Whoever may ask what each of all codes would do knows the right one.
        caller.wants_sight(app, &snapshot.machine)?;
        let cause = match (body.event, body.message, body.recover) {
            (None, None, Some(RecoverTrial { reason })) => Cause::Recover { instance, reason },
            (Some(event), None, None) => Cause::Event { instance, event, payload: body.payload },
            (None, Some(message), None) => {
                let subject = snapshot.subject.clone().ok_or_else(|| {
                    let detail = "the instance has no subject, so nobody sends it messages";
                    Problem::bad_request("no_subject", detail)
                })?;
                Cause::Message { machine: snapshot.machine.clone(), subject, message }
            }
            _ => {
                return Err(Problem::bad_request(
                    "malformed_body",
                    "send one of `event`, `message` and `recover`",
                ));
            }
        };
        // Nothing is saved under it.
        let key = caller.key_or_fresh(None);
        let input = caller.input("key", key, None, cause)?;
        let explanation = app.engine.explain(&snapshot, &input)?;
        Ok(request::json(200, &explanation, Some(snapshot.revision)))
    })
    .await
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecoverBody {
    reason: String,
    key: Option<InputKey>,
    by: Option<String>,
}

/// Puts the instance into its safe state. Without a key, each request is one of its own.
pub async fn recover(
    State(app): State<Shared>,
    Segments(instance): Segments<InstanceId>,
    caller: Caller,
    Body(body): Body<RecoverBody>,
) -> Result<Response, Problem> {
    let RecoverBody { reason, key, by } = body;
    let key = caller.key_or_fresh(key);
    let input = caller.input("key", key, by, Cause::Recover { instance, reason })?;
    Ok(answered(&app.submit(input).await?))
}
