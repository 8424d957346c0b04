//! The list of instances: all filters of the HTTP interface, and what can be done to all that are listed.

use std::collections::BTreeSet;

use askama::Template;
use axum::extract::State;
use axum::response::{IntoResponse, Redirect, Response};
use kernel::id::{MachineName, Subject};
use kernel::snapshot::Snapshot;
use kernel::time::{Delay, Timestamp};
use serde::Deserialize;

use crate::dashboard::page::{Frame, page};
use crate::dashboard::paging::{Pages, Place};
use crate::dashboard::words::When;
use crate::http::instances::{self, ListQuery};
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
    /// All of the subject, as links have it, or a part of it, as people type it.
    pub subject: String,
    pub subject_contains: String,
    /// `open`, `closed` or empty.
    pub life: String,
    /// `stuck`, `looping` or empty.
    pub only: String,
    pub expiring_within: String,
    pub cursor: String,
    pub page: String,
    pub trail: String,
}

impl Filter {
    fn query(&self) -> Result<ListQuery, Problem> {
        let bad = |what: String| Problem::bad_request("bad_query", what);
        let machine = text(&self.machine).map(|name| MachineName::parse(&name)).transpose();
        let subject = text(&self.subject).map(|name| Subject::parse(&name)).transpose();
        let within = text(&self.expiring_within).map(|delay| Delay::parse(&delay)).transpose();
        Ok(ListQuery {
            machine: machine.map_err(bad)?,
            subject: subject.map_err(bad)?,
            subject_contains: text(&self.subject_contains),
            state: text(&self.state),
            closed: match self.life.as_str() {
                "" => None,
                "open" => Some(false),
                "closed" => Some(true),
                other => return Err(bad(format!("`life` is {other}; it may be open or closed"))),
            },
            stuck: self.only == "stuck",
            looping: self.only == "looping",
            expiring_within: within.map_err(bad)?,
            cursor: text(&self.cursor),
            limit: Some(PAGE),
        })
    }

    /// What of it stands in the addresses of all pages.
    fn fields(&self) -> [(&str, &str); 7] {
        let Self { machine, state, subject, subject_contains, life, only, expiring_within, .. } = self;
        [
            ("machine", machine),
            ("state", state),
            ("subject", subject),
            ("subject_contains", subject_contains),
            ("life", life),
            ("only", only),
            ("expiring_within", expiring_within),
        ]
    }

    /// Whether anything is left out of the list.
    fn is_narrow(&self) -> bool {
        self.fields().iter().any(|(_, value)| !value.is_empty())
    }
}

fn text(text: &str) -> Option<String> {
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
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
    /// Which part of the list they are.
    part: String,
    pages: Pages,
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
    let query = filter.query()?;
    let shown = app.read_in_turn(move |app| {
        let now = app.engine.clock().now();
        let found = instances::listed(app, caller.tenant, query)?;
        let place = Place::of(&filter.cursor, &filter.page, &filter.trail);
        let pages = place.pages("/instances", &filter.fields(), found.next.as_deref());
        Ok(InstancesPage {
            frame,
            machines: app.machines().iter().map(|machine| machine.name.to_string()).collect(),
            states: states(app),
            rows: found.data.iter().map(|snapshot| InstanceRow::of(app, snapshot, now)).collect(),
            part: pages.part("instance", &found.data),
            pages,
            filter,
        })
    });
    Ok(page(200, &shown.await?))
}

/// The states of all machines, by their paths.
fn states(app: &App) -> BTreeSet<String> {
    let machines = app.machines();
    let paths = machines.iter().flat_map(|machine| machine.chart.states.iter().skip(1));
    paths.map(|state| state.path.to_string()).collect()
}
