//! Phases: listed over all flows of a tenant, and what is done to them, or to a flow as a whole. With `dry_run=true`, what
//! would come of it.
//!
//! Whoever is refused is told how the phase stands and what it would take, in a problem document with more to it.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use engine::EngineError;
use kernel::commit::Answer;
use kernel::diagnostic::nearest;
use kernel::flow::{Action, Control, FlowStatus, PhaseState, options_for_all};
use kernel::id::{InputKey, InstanceId, MachineName, TenantId};
use kernel::input::{Cause, Fields, Input};
use kernel::refusal::{PhaseStanding, Refusal};
use kernel::time::{Delay, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use store::{PhaseLine, PhaseQuery};

use crate::http::Shared;
use crate::http::flows::{self, FlowAnswered, Found};
use crate::http::problem::Problem;
use crate::http::request::{self, Asked, Body, Caller, List, Segments, Trial};

/// A phase as it stands in lists. The token of a lease is the worker's alone.
#[derive(Debug, Serialize)]
struct LineView {
    flow_id: InstanceId,
    flow: MachineName,
    phase: Arc<str>,
    state: PhaseState,
    since: Timestamp,
    attempts: u32,
    retries: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// From when on a worker may take it.
    #[serde(skip_serializing_if = "Option::is_none")]
    offered_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "str::is_empty")]
    kind: Arc<str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    worker: Option<String>,
}

impl From<PhaseLine> for LineView {
    fn from(PhaseLine { instance, machine, row, .. }: PhaseLine) -> Self {
        Self {
            flow_id: instance,
            flow: machine,
            phase: row.phase,
            state: row.state,
            since: row.since,
            attempts: row.attempts,
            retries: row.retries,
            error: row.error,
            offered_at: row.offered_at,
            kind: row.kind,
            worker: row.worker,
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListQuery {
    flow: Option<MachineName>,
    phase: Option<String>,
    state: Option<PhaseState>,
    error: Option<String>,
    min_attempts: Option<u32>,
    min_retries: Option<u32>,
    /// How long it has been in its state at least.
    older_than: Option<Delay>,
    cursor: Option<String>,
    limit: Option<usize>,
}

pub async fn list(
    State(app): State<Shared>,
    caller: Caller,
    Asked(asked): Asked<ListQuery>,
) -> Result<Response, Problem> {
    let flows = flows::asked_flows(&app, &caller.tenant, asked.flow.as_ref())?;
    if let Some(phase) = &asked.phase {
        flows::known_phase(&flows, phase)?;
    }
    let now = app.engine.clock().now().as_millis();
    let query = PhaseQuery {
        machine: asked.flow,
        phase: asked.phase,
        state: asked.state,
        error: asked.error,
        min_attempts: asked.min_attempts,
        min_retries: asked.min_retries,
        since_before: asked.older_than.map(|age| Timestamp::from_millis(now - age.as_millis())),
        cursor: asked.cursor,
        limit: request::limit(asked.limit)?,
        ..PhaseQuery::of(caller.tenant)
    };
    app.read(move |app| {
        let page = app.engine.store().phases(&query).map_err(EngineError::from)?;
        Ok(request::json(200, &List::of(page, LineView::from), None))
    })
    .await
}

/// Who does it under which key. All else is what comes with the action, which is for the flow to judge: it knows what
/// each action takes, and says what was meant.
#[derive(Debug, Deserialize)]
pub struct ActBody {
    key: Option<InputKey>,
    by: Option<String>,
    #[serde(flatten)]
    payload: Fields,
}

/// Something to be done to a flow.
struct Deed {
    instance: InstanceId,
    phase: Option<String>,
    event: String,
    dry_run: bool,
}

type Parts = (Result<Asked<Trial>, Problem>, Result<Body<ActBody>, Problem>);

pub async fn act(
    State(app): State<Shared>,
    Segments((instance, phase, action)): Segments<(InstanceId, String, String)>,
    caller: Caller,
    asked: Result<Asked<Trial>, Problem>,
    body: Result<Body<ActBody>, Problem>,
) -> Result<Response, Problem> {
    let deed = || {
        let action = known_action(&action)?;
        let event = format!("{phase}.{}", action.as_str());
        Ok(Deed { instance, phase: Some(phase), event, dry_run: false })
    };
    take(&app, caller, deed(), (asked, body)).await
}

pub async fn control(
    State(app): State<Shared>,
    Segments((instance, control)): Segments<(InstanceId, String)>,
    caller: Caller,
    asked: Result<Asked<Trial>, Problem>,
    body: Result<Body<ActBody>, Problem>,
) -> Result<Response, Problem> {
    let deed = known_control(&control).map(|control| {
        let event = control.as_str().to_owned();
        Deed { instance, phase: None, event, dry_run: false }
    });
    take(&app, caller, deed, (asked, body)).await
}

/// What somebody may do to a phase here. Work is claimed by who asks for some, not by who names it.
fn known_action(name: &str) -> Result<Action, Problem> {
    match Action::parse(name) {
        Some(Action::Claim) => Err(Problem::not_found(
            "a phase is not claimed by its name; POST /v1/work/claim gives one to a worker",
        )),
        Some(action) => Ok(action),
        None => {
            let known = Action::ALL.into_iter().filter(|action| *action != Action::Claim);
            let help = nearest(name, known.map(Action::as_str));
            Err(Problem::not_found(format!("a phase has no action `{name}`; {help}")))
        }
    }
}

/// Flows are watched by flows only.
fn known_control(name: &str) -> Result<Control, Problem> {
    let mut known = Control::ALL.into_iter().filter(|control| *control != Control::Watch);
    let help = nearest(name, known.clone().map(Control::as_str));
    known.find(|control| control.as_str() == name).ok_or_else(|| {
        let detail =
            format!("a flow takes no `{name}`; {help}; for a phase, /v1/flows/ID/phases/PHASE/ACTION");
        Problem::not_found(detail)
    })
}

/// Does it, or tells what would come of it. Whatever goes wrong on the way is told as of a flow.
async fn take(
    app: &Shared,
    caller: Caller,
    deed: Result<Deed, Problem>,
    (asked, body): Parts,
) -> Result<Response, Problem> {
    let now = app.engine.clock().now();
    let plain = |problem: Problem| problem.of_flow(Fields::new(), None, now);
    let deed = deed.map_err(plain)?;
    let Asked(Trial { dry_run }) = asked.map_err(plain)?;
    let Body(ActBody { key, by, payload }) = body.map_err(plain)?;
    let deed = Deed { dry_run, ..deed };
    let tenant = caller.tenant.clone();
    // Nothing is saved under the key of a dry run.
    let key = if dry_run { caller.key_or_fresh(key) } else { key };
    let cause = Cause::Event { instance: deed.instance.clone(), event: deed.event.clone(), payload };
    let input = caller.input("key", key, by, cause).map_err(plain)?;
    match deed.dry_run {
        true => dry_run_of(app, deed, input).await,
        false => do_it(app, deed, tenant, input).await,
    }
    .map_err(|failure| match failure {
        Failure::Plain(problem) => plain(problem),
        Failure::Refused { refusal, details, replayed } => {
            let retry_allowed = refusal.phase.as_ref().map(|standing| standing.retry_allowed);
            Problem::refused(&refusal).replayed(replayed).of_flow(details, retry_allowed, now)
        }
    })
}

/// Why something was not done, with how things stand.
enum Failure {
    Plain(Problem),
    Refused { refusal: Box<Refusal>, details: Fields, replayed: bool },
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self::Plain(problem)
    }
}

async fn do_it(app: &Shared, deed: Deed, tenant: TenantId, input: Input) -> Result<Response, Failure> {
    // What is no flow must not be sent an event that one of its transitions happens to be named like.
    let asked = (tenant, deed.instance.clone(), deed.phase.clone());
    let found = app.read(move |app| {
        let found = Found::load(app, &asked.0, &asked.1)?;
        known_phase(&found, asked.2.as_deref())?;
        Ok(found)
    });
    let found = found.await?;
    let submitted = app.submit(input).await?;
    match &*submitted.answer {
        Answer::Event(answer) => {
            let answered = FlowAnswered::of(answer, deed.phase.as_deref()).ok_or_else(Problem::internal)?;
            Ok(answered.submitted(200, &submitted))
        }
        Answer::Refused(refusal) => {
            let details = details(&found, &deed, refusal);
            let (refusal, replayed) = (Box::new(refusal.clone()), submitted.replayed);
            Err(Failure::Refused { refusal, details, replayed })
        }
        Answer::Message(_) => Err(Problem::internal().into()),
    }
}

/// What would come of it, on what is saved now: a timer that is due and has not been seen to yet has not come. Whether
/// the key was used before is not looked at.
async fn dry_run_of(app: &Shared, deed: Deed, input: Input) -> Result<Response, Failure> {
    let read = app.read(move |app| {
        let found = Found::load(app, &input.tenant, &deed.instance)?;
        known_phase(&found, deed.phase.as_deref())?;
        let answer = app.engine.try_out(&found.snapshot, &input)?;
        if let Answer::Refused(refusal) = answer {
            let details = details(&found, &deed, &refusal);
            return Ok(Err(Failure::Refused { refusal: Box::new(refusal), details, replayed: false }));
        }
        let Answer::Event(answer) = &answer else { return Err(Problem::internal()) };
        let answered = FlowAnswered::of(answer, deed.phase.as_deref()).ok_or_else(Problem::internal)?;
        Ok(Ok(answered.dry_run()))
    });
    read.await?
}

fn known_phase(found: &Found, phase: Option<&str>) -> Result<(), Problem> {
    let (Some(flow), Some(phase)) = (&found.machine.flow, phase) else { return Ok(()) };
    if flow.by_name(phase).is_some() {
        return Ok(());
    }
    let help = nearest(phase, flow.phases.iter().map(|phase| &*phase.name));
    let detail = format!("the flow `{}` has no phase `{phase}`; {help}", found.snapshot.instance);
    Err(Problem::not_found(detail))
}

/// How things stand for whom something was refused: as the refusal says it of the phase, else as was found before.
fn details(found: &Found, deed: &Deed, refusal: &Refusal) -> Fields {
    let details = match (&refusal.phase, &deed.phase) {
        (Some(standing), _) => of_standing(standing),
        (None, Some(phase)) => {
            let place = found.machine.flow.as_ref().and_then(|flow| flow.by_name(phase));
            let state = found.snapshot.flow.as_ref().zip(place).map(|(state, place)| state.state(place));
            let next = state.map(PhaseState::next);
            json!({"phase": phase, "state": state, "valid_transitions": next})
        }
        (None, None) => {
            let flow = found.machine.flow.as_ref().zip(found.snapshot.flow.as_deref());
            let status = flow.map(|(flow, state)| FlowStatus::of(flow, state));
            let options = status.iter().flat_map(options_for_all);
            let whole: Vec<&str> = options.map(|option| option.action).collect();
            json!({"status": found.snapshot.state(), "valid_actions": whole})
        }
    };
    match details {
        Value::Object(details) => details,
        _ => Map::new(),
    }
}

fn of_standing(standing: &PhaseStanding) -> Value {
    let mut details = json!({
        "phase": standing.phase,
        "state": standing.state,
        "valid_transitions": standing.valid_transitions,
        "valid_actions": standing.valid_actions,
    });
    if !standing.missing.is_empty() {
        details["missing"] = json!(standing.missing);
    }
    details
}
