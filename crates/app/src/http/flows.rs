//! Flows: begun, shown, listed, with what can be done and what was. What is done to one is in `phases`.

use std::sync::Arc;

use axum::extract::State;
use axum::http::HeaderValue;
use axum::response::Response;
use engine::{EngineError, Submitted};
use kernel::commit::{Answer, Entry, EntryCause, EventAnswer, FlowAnswer, LeaseGiven, PhaseMove};
use kernel::diagnostic::nearest;
use kernel::flow::{FlowView, PhaseState, progress};
use kernel::id::{InputKey, InstanceId, MachineName, Revision, TenantId};
use kernel::input::{Cause, Fields, Start};
use kernel::machine::Machine;
use kernel::snapshot::Snapshot;
use kernel::time::Timestamp;
use serde::{Deserialize, Serialize};
use store::{HistoryQuery, InstanceQuery, LoadError, Page, PhaseQuery};

use crate::access::Sight;
use crate::http::problem::Problem;
use crate::http::request::{self, Asked, Body, Caller, List, PageQuery, Segments, Trial};
use crate::http::{App, Shared};

/// A flow with the definition that it is pinned to.
#[derive(Debug)]
pub struct Found {
    pub machine: Arc<Machine>,
    pub snapshot: Snapshot,
}

impl Found {
    /// The flow of this id. An instance that is none is not found here, and it is said where it is.
    pub fn load(app: &App, tenant: &TenantId, id: &InstanceId) -> Result<Self, Problem> {
        let snapshot = app.engine.instance(tenant, id).map_err(|error| match error {
            EngineError::NotFound { .. } => Problem::not_found(format!("there is no flow `{id}`")),
            other => Problem::from(other),
        })?;
        if snapshot.flow.is_none() {
            let path = request::segment(id.as_str());
            let detail =
                format!("`{id}` is a `{}`, which is no flow; see /v1/instances/{path}", snapshot.machine);
            return Err(Problem::not_found(detail));
        }
        Ok(Self { machine: app.engine.machines().of(&snapshot)?, snapshot })
    }

    /// As somebody sees it who sees so much.
    pub fn seen(&self, app: &App, sight: Sight) -> Result<FlowView, Problem> {
        let view = self.view(app.engine.clock().now())?;
        Ok(sight.over(app.engine.machines(), &self.snapshot).flow(view))
    }

    pub fn view(&self, now: Timestamp) -> Result<FlowView, Problem> {
        FlowView::of(&self.machine, &self.snapshot, now).ok_or_else(|| {
            let detail =
                format!("the definition of `{}` is another than it began with", self.snapshot.instance);
            Problem::new(409, "definition_missing", "The instance's definition is missing", detail)
        })
    }
}

/// The current definition of a flow.
pub fn definition(app: &App, name: &MachineName) -> Result<Arc<Machine>, Problem> {
    let machine = app.engine.machines().current(name)?;
    if machine.flow.is_some() {
        return Ok(machine);
    }
    let detail = format!("`{name}` is a machine with states, no flow; its instances are at /v1/instances");
    Err(Problem::new(404, "unknown_machine", "There is no such flow", detail))
}

/// What became of something that was done to a flow.
#[derive(Debug, Serialize)]
pub struct FlowAnswered<'a> {
    id: &'a InstanceId,
    revision: Revision,
    status: &'a str,
    progress: f64,
    progress_before: f64,
    /// The phase that it was done to, and the state that it is in now.
    #[serde(skip_serializing_if = "Option::is_none")]
    phase: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<PhaseState>,
    moved: &'a [PhaseMove],
    #[serde(skip_serializing_if = "Option::is_none")]
    lease: Option<&'a LeaseGiven>,
    #[serde(skip_serializing_if = "Option::is_none")]
    closure_reason: Option<&'a str>,
    replayed: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    dry_run: bool,
}

impl<'a> FlowAnswered<'a> {
    /// `None` if the answer is not that of a flow.
    pub fn of(answer: &'a EventAnswer, phase: Option<&'a str>) -> Option<Self> {
        let FlowAnswer { progress_before, progress, moved, lease } = answer.flow.as_deref()?;
        // What is done to a phase moves it, unless it is a sign of life of one that is in progress.
        let state = phase.map(|phase| {
            let last = moved.iter().rev().find(|moved| *moved.phase == *phase);
            last.map_or(PhaseState::InProgress, |moved| moved.to)
        });
        Some(Self {
            id: &answer.id,
            revision: answer.revision,
            status: &answer.state,
            progress: *progress,
            progress_before: *progress_before,
            phase,
            state,
            moved,
            lease: lease.as_ref(),
            closure_reason: answer.closure_reason.as_deref(),
            replayed: false,
            dry_run: false,
        })
    }

    pub fn response(self, status: u16) -> Response {
        request::json(status, &self, Some(self.revision))
    }

    pub fn dry_run(self) -> Response {
        Self { dry_run: true, ..self }.response(200)
    }

    /// As the answer to an input that was handed over.
    pub fn submitted(self, status: u16, submitted: &Submitted) -> Response {
        let mut response = Self { replayed: submitted.replayed, ..self }.response(status);
        if submitted.replayed {
            response.headers_mut().insert("idempotent-replayed", HeaderValue::from_static("true"));
        }
        response
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateBody {
    flow: MachineName,
    id: Option<InstanceId>,
    #[serde(default)]
    context: Fields,
    /// From a record with one boolean a phase.
    #[serde(default)]
    booleans: Fields,
    key: Option<InputKey>,
    by: Option<String>,
}

pub async fn create(
    State(app): State<Shared>,
    caller: Caller,
    Asked(Trial { dry_run }): Asked<Trial>,
    Body(body): Body<CreateBody>,
) -> Result<Response, Problem> {
    let CreateBody { flow: machine, id, context, booleans, key, by } = body;
    definition(&app, &machine)?;
    let start = Start { booleans, ..Start::default() };
    let key = if dry_run { caller.key_or_fresh(key) } else { key };
    let input = caller.input("key", key, by, Cause::Create { machine, id, subject: None, context, start })?;
    let submitted = app.create(input, dry_run).await?;
    let answer = match &*submitted.answer {
        Answer::Event(answer) => answer,
        Answer::Refused(refusal) => {
            let now = app.engine.clock().now();
            let problem = Problem::refused(refusal).replayed(submitted.replayed);
            return Err(problem.of_flow(Fields::new(), None, now));
        }
        Answer::Message(_) => return Err(Problem::internal()),
    };
    let answered = FlowAnswered::of(answer, None).ok_or_else(Problem::internal)?;
    if dry_run {
        return Ok(answered.dry_run());
    }
    let mut response = answered.submitted(201, &submitted);
    let location = format!("/v1/flows/{}", request::segment(answer.id.as_str()));
    if let Ok(location) = HeaderValue::try_from(location) {
        response.headers_mut().insert("location", location);
    }
    Ok(response)
}

pub async fn show(
    State(app): State<Shared>,
    Segments(id): Segments<InstanceId>,
    caller: Caller,
) -> Result<Response, Problem> {
    app.read(move |app| {
        let view = Found::load(app, &caller.tenant, &id)?.seen(app, caller.sight())?;
        Ok(request::json(200, &view, Some(view.revision)))
    })
    .await
}

pub async fn recovery_options(
    State(app): State<Shared>,
    Segments(id): Segments<InstanceId>,
    caller: Caller,
) -> Result<Response, Problem> {
    app.read(move |app| {
        let view = Found::load(app, &caller.tenant, &id)?.view(app.engine.clock().now())?;
        Ok(request::json(200, &List::whole(view.recovery_options), Some(view.revision)))
    })
    .await
}

/// A flow in a list: what it costs little to say.
#[derive(Debug, Serialize)]
pub struct FlowLine {
    id: InstanceId,
    flow: MachineName,
    version: u32,
    revision: Revision,
    status: String,
    progress: f64,
    /// Phases that are under way.
    current: Vec<Arc<str>>,
    /// Retries of all phases together.
    retries: u32,
    created_at: Timestamp,
    updated_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    closed_at: Option<Timestamp>,
}

impl FlowLine {
    /// `None` for an instance that is no flow, or whose definition is not known here.
    fn of(app: &App, snapshot: &Snapshot) -> Option<Self> {
        let machine = app.engine.machines().of(snapshot).ok()?;
        let (flow, state) = (machine.flow.as_ref()?, snapshot.flow.as_ref()?);
        if flow.phases.len() != state.phases.len() {
            return None;
        }
        let under_way = flow.indices().filter(|phase| state.state(*phase).is_under_way());
        Some(Self {
            id: snapshot.instance.clone(),
            flow: snapshot.machine.clone(),
            version: snapshot.version,
            revision: snapshot.revision,
            status: snapshot.state(),
            progress: progress(flow, state),
            current: under_way.map(|phase| Arc::clone(&flow.phase(phase).name)).collect(),
            retries: state.phases.iter().map(|record| record.retries).sum(),
            created_at: snapshot.created_at,
            updated_at: snapshot.updated_at,
            closed_at: snapshot.closure.as_ref().map(|closure| closure.at),
        })
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListQuery {
    pub flow: Option<MachineName>,
    pub status: Option<String>,
    /// These three are about one and the same phase.
    pub phase: Option<String>,
    pub phase_state: Option<PhaseState>,
    pub min_retries: Option<u32>,
    pub cursor: Option<String>,
    pub limit: Option<usize>,
}

impl ListQuery {
    /// What is asked about phases, if anything is.
    fn of_phases(&self, tenant: &TenantId, limit: usize) -> Option<PhaseQuery> {
        let asked = self.phase.is_some() || self.phase_state.is_some() || self.min_retries.is_some();
        asked.then(|| PhaseQuery {
            machine: self.flow.clone(),
            phase: self.phase.clone(),
            state: self.phase_state,
            min_retries: self.min_retries,
            cursor: self.cursor.clone(),
            limit,
            ..PhaseQuery::of(tenant.clone())
        })
    }
}

/// Flows of the tenant, by id, descending.
pub async fn list(
    State(app): State<Shared>,
    caller: Caller,
    Asked(asked): Asked<ListQuery>,
) -> Result<Response, Problem> {
    app.read(move |app| {
        let page = listed(app, &caller.tenant, asked)?;
        let next = page.next;
        let data = page.data.iter().filter_map(|snapshot| FlowLine::of(app, snapshot)).collect();
        let list = List { data, has_more: next.is_some(), next_cursor: next };
        Ok(request::json(200, &list, None))
    })
    .await
}

/// The flows that are asked for.
pub fn listed(app: &App, tenant: &TenantId, asked: ListQuery) -> Result<Page<Snapshot>, Problem> {
    let flows = asked_flows(app, tenant, asked.flow.as_ref())?;
    if let Some(status) = &asked.status {
        known_status(&flows, status)?;
    }
    if let Some(phase) = &asked.phase {
        known_phase(&flows, phase)?;
    }
    let limit = request::limit(asked.limit)?;
    match asked.of_phases(tenant, limit) {
        Some(query) => page_by_phases(app, query, asked.status.as_deref()),
        None => {
            let of_tenant = InstanceQuery::of(tenant.clone());
            let (state, cursor) = (asked.status, asked.cursor);
            page_of_all(app, &flows, &InstanceQuery { state, cursor, limit, ..of_tenant })
        }
    }
}

/// The definitions of the flows that are asked for: of one, or of all that there are. Those that the tenant has made
/// something else of are there as well.
pub fn asked_flows(
    app: &App,
    tenant: &TenantId,
    name: Option<&MachineName>,
) -> Result<Vec<Arc<Machine>>, Problem> {
    let mut flows = match name {
        Some(name) => vec![definition(app, name)?],
        None => app.machines().into_iter().filter(|machine| machine.flow.is_some()).collect(),
    };
    let overlay = |flow: &Arc<Machine>| app.engine.machines().overlay(tenant, &flow.name);
    let own: Vec<_> = flows.iter().filter_map(overlay).map(|overlay| Arc::clone(&overlay.machine)).collect();
    flows.extend(own);
    Ok(flows)
}

/// What is asked for must be a status of one of the flows, or nothing would ever be found.
fn known_status(flows: &[Arc<Machine>], status: &str) -> Result<(), Problem> {
    let all =
        || flows.iter().flat_map(|machine| machine.chart.states.iter().skip(1).map(|state| &*state.path));
    if all().any(|known| known == status) {
        return Ok(());
    }
    let known: Vec<&str> = all().collect();
    let help = nearest(status, known.into_iter());
    Err(Problem::bad_request("unknown_state", format!("no such flow has a status `{status}`; {help}")))
}

/// As `known_status`, of a phase.
pub fn known_phase(flows: &[Arc<Machine>], phase: &str) -> Result<(), Problem> {
    let phases = || flows.iter().filter_map(|machine| machine.flow.as_ref()).flat_map(|flow| &flow.phases);
    if phases().any(|known| *known.name == *phase) {
        return Ok(());
    }
    let known: Vec<&str> = phases().map(|known| &*known.name).collect();
    let help = nearest(phase, known.into_iter());
    Err(Problem::bad_request("bad_query", format!("no such flow has a phase `{phase}`; {help}")))
}

/// The flows that a page of lines of phases is about, each once: the cursor says which flow the last line was of, since
/// the next page may begin with another line of the same. A page may have fewer flows than it may.
fn page_by_phases(app: &App, mut query: PhaseQuery, status: Option<&str>) -> Result<Page<Snapshot>, Problem> {
    let cursor = query.cursor.take();
    let (cursor, mut last) = match cursor.as_deref().and_then(|cursor| cursor.split_once(' ')) {
        Some((cursor, last)) => (Some(cursor.to_owned()), InstanceId::parse(last).ok()),
        None => (cursor, None),
    };
    query.cursor = cursor;
    let page = app.engine.store().phases(&query).map_err(EngineError::from)?;
    let mut data = Vec::new();
    for line in page.data {
        if last.as_ref() == Some(&line.instance) {
            continue;
        }
        // A damaged flow is in quarantine by now, and the others are not to be missed for it.
        let found = match app.engine.store().load(&query.tenant, &line.instance) {
            Err(LoadError::Corrupt { .. }) => None,
            found => found.map_err(EngineError::from)?,
        };
        data.extend(found.filter(|found| status.is_none_or(|status| found.state() == status)));
        last = Some(line.instance);
    }
    let next = page.next.zip(last).map(|(cursor, last)| format!("{cursor} {last}"));
    Ok(Page { data, next })
}

/// One page of the instances of all these flows. Every one of them is asked for a whole page: together they have it.
fn page_of_all(app: &App, flows: &[Arc<Machine>], query: &InstanceQuery) -> Result<Page<Snapshot>, Problem> {
    let (mut data, mut more) = (Vec::new(), false);
    for machine in flows.iter().filter(|machine| !machine.is_customised()) {
        let query = InstanceQuery { machine: Some(machine.name.clone()), ..query.clone() };
        let page = app.engine.store().instances(&query).map_err(EngineError::from)?;
        more |= page.next.is_some();
        data.extend(page.data);
    }
    data.sort_unstable_by(|one: &Snapshot, other| other.instance.cmp(&one.instance));
    more |= data.len() > query.limit;
    data.truncate(query.limit);
    let next = data.last().filter(|_| more).map(|last| last.instance.to_string());
    Ok(Page { data, next })
}

/// A log entry of a flow as its reader sees it: who did what to which phase, why, and what came of it.
#[derive(Debug, Serialize)]
struct EntryView {
    revision: Revision,
    at: Timestamp,
    event: String,
    key: InputKey,
    /// The statuses before and after.
    from: String,
    to: String,
    success: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    by: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<String>,
    /// Every step of a phase, with how long it was where it came from, and the error that led to it.
    moved: Vec<PhaseMove>,
    #[serde(skip_serializing_if = "Option::is_none")]
    progress_before: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    progress: Option<f64>,
    /// What came with it, as it was sent; of a creation, the context.
    #[serde(skip_serializing_if = "Fields::is_empty")]
    payload: Fields,
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<EntryCause>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<String>,
}

impl From<Entry> for EntryView {
    fn from(entry: Entry) -> Self {
        let answer = match entry.answer {
            Answer::Event(EventAnswer { flow, .. }) => flow,
            Answer::Message(_) | Answer::Refused(_) => None,
        };
        let mut payload = entry.payload;
        // Whoever knows the token holds the phase.
        payload.remove("lease");
        Self {
            revision: entry.revision,
            at: entry.at,
            event: entry.event,
            key: entry.key,
            from: entry.from,
            to: entry.to,
            success: entry.success,
            by: entry.by,
            reason: entry.reason,
            code: entry.code,
            progress_before: answer.as_ref().map(|answer| answer.progress_before),
            progress: answer.as_ref().map(|answer| answer.progress),
            moved: answer.map(|answer| answer.moved).unwrap_or_default(),
            payload,
            cause: entry.cause,
            trace_id: entry.trace_id,
        }
    }
}

pub async fn history(
    State(app): State<Shared>,
    Segments(id): Segments<InstanceId>,
    caller: Caller,
    Asked(page): Asked<PageQuery>,
) -> Result<Response, Problem> {
    let limit = request::limit(page.limit)?;
    app.read(move |app| {
        let found = Found::load(app, &caller.tenant, &id)?;
        let veil = caller.sight().over(app.engine.machines(), &found.snapshot);
        let query = HistoryQuery { cursor: page.cursor, limit, ..HistoryQuery::of(caller.tenant, id) };
        let page = app.engine.store().history(&query).map_err(EngineError::from)?;
        Ok(request::json(200, &List::of(page, |entry| EntryView::from(veil.entry(entry))), None))
    })
    .await
}
