//! The list of instances: all filters of the HTTP interface, and what can be done to all that are listed.

use std::collections::BTreeSet;

use askama::Template;
use axum::extract::State;
use axum::response::{IntoResponse, Redirect, Response};
use engine::EngineError;
use kernel::id::{MachineName, Subject};
use kernel::snapshot::Snapshot;
use kernel::time::{Delay, Timestamp};
use serde::Deserialize;
use store::InstanceQuery;

use crate::dashboard::page::{Frame, page};
use crate::dashboard::words::{self, When};
use crate::http::problem::Problem;
use crate::http::request::{Asked, Caller, segment};
use crate::http::{App, Shared};

const PAGE: usize = 50;

/// As a form sends it: what is not filled in is there and empty.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Filter {
    /// Whoever knows the id wants to see the instance and no list.
    pub id: String,
    pub machine: String,
    pub state: String,
    pub subject: String,
    /// `open`, `closed` or empty.
    pub life: String,
    /// `stuck`, `looping` or empty.
    pub only: String,
    pub expiring_within: String,
    pub cursor: String,
}

#[derive(Template)]
#[template(path = "instances.html")]
struct InstancesPage {
    frame: Frame,
    filter: Filter,
    machines: Vec<String>,
    /// What may be written as a state.
    states: BTreeSet<String>,
    rows: Vec<InstanceRow>,
    next: Option<String>,
}

pub struct InstanceRow {
    pub id: String,
    pub segment: String,
    pub machine: String,
    pub version: u32,
    pub subject: Option<String>,
    pub state: String,
    pub closed: Option<String>,
    pub mark: Option<&'static str>,
    pub changed: When,
    pub due: Option<When>,
}

impl InstanceRow {
    pub fn of(app: &App, snapshot: &Snapshot, now: Timestamp) -> Self {
        let looping = snapshot.looping.as_ref().is_some_and(|looping| looping.until > now);
        let stuck = snapshot.stuck(app.engine.stuck_by()).is_some();
        Self {
            id: snapshot.instance.to_string(),
            segment: segment(snapshot.instance.as_str()),
            machine: snapshot.machine.to_string(),
            version: snapshot.version,
            subject: snapshot.subject.as_ref().map(ToString::to_string),
            state: snapshot.state(),
            closed: snapshot.closure.as_ref().map(|closure| closure.reason.clone()),
            mark: if stuck { Some("stuck") } else { looping.then_some("looping") },
            changed: When::of(snapshot.updated_at, now),
            due: snapshot.wake_at().filter(|_| !snapshot.is_closed()).map(|due| When::of(due, now)),
        }
    }
}

pub async fn list(
    State(app): State<Shared>,
    caller: Caller,
    Asked(filter): Asked<Filter>,
) -> Result<Response, Problem> {
    if let Some(id) = Some(filter.id.trim()).filter(|id| !id.is_empty()) {
        return Ok(Redirect::to(&format!("/instances/{}", segment(id))).into_response());
    }
    let frame = Frame::of(&app, &caller, "instances", "Instances").live("");
    let query = InstanceQuery { limit: PAGE, ..query(&app, &filter, InstanceQuery::of(caller.tenant))? };
    let shown = app.read_in_turn(move |app| {
        let now = app.engine.clock().now();
        let found = app.engine.store().instances(&query).map_err(EngineError::from)?;
        Ok(InstancesPage {
            frame,
            machines: app.machines().iter().map(|machine| machine.name.to_string()).collect(),
            states: states(app),
            rows: found.data.iter().map(|snapshot| InstanceRow::of(app, snapshot, now)).collect(),
            next: found.next.map(|cursor| address(&Filter { cursor, ..filter.clone() })),
            filter,
        })
    });
    Ok(page(200, &shown.await?))
}

fn query(app: &App, filter: &Filter, query: InstanceQuery) -> Result<InstanceQuery, Problem> {
    let bad = |what: String| Problem::bad_request("bad_query", what);
    let text = |text: &str| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
    let now = app.engine.clock().now();
    let machine = text(&filter.machine).map(|name| MachineName::parse(&name)).transpose();
    let subject = text(&filter.subject).map(|name| Subject::parse(&name)).transpose();
    let within = text(&filter.expiring_within).map(|delay| Delay::parse(&delay)).transpose();
    Ok(InstanceQuery {
        machine: machine.map_err(bad)?,
        subject: subject.map_err(bad)?,
        state: text(&filter.state),
        closed: match filter.life.as_str() {
            "" => None,
            "open" => Some(false),
            "closed" => Some(true),
            other => return Err(bad(format!("`life` is {other}; it may be open or closed"))),
        },
        stuck_by: (filter.only == "stuck").then(|| app.engine.stuck_by()),
        looping_at: (filter.only == "looping").then_some(now),
        due_before: within.map_err(bad)?.map(|within| now.plus(within)),
        cursor: text(&filter.cursor),
        ..query
    })
}

/// The states of all machines, by their paths.
fn states(app: &App) -> BTreeSet<String> {
    let machines = app.machines();
    let paths = machines.iter().flat_map(|machine| machine.chart.states.iter().skip(1));
    paths.map(|state| state.path.to_string()).collect()
}

/// The address of a list.
fn address(filter: &Filter) -> String {
    let Filter { machine, state, subject, life, only, expiring_within, cursor, .. } = filter;
    let fields = [
        ("machine", machine.as_str()),
        ("state", state),
        ("subject", subject),
        ("life", life),
        ("only", only),
        ("expiring_within", expiring_within),
        ("cursor", cursor),
    ];
    format!("/instances?{}", words::query(&fields))
}
