//! The pages of flows: all of them, and one with its phases as a graph, along the time, and what can be done now.

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use kernel::flow::{FlowView, PhaseState, PhaseView};
use kernel::id::{InstanceId, MachineName};
use kernel::snapshot::Snapshot;
use kernel::time::{Delay, Timestamp};
use serde::Deserialize;

use crate::access::Sight;
use crate::access::sight::Veil;
use crate::dashboard::page::{Frame, page};
use crate::dashboard::paging::{Pages, Place};
use crate::dashboard::words::{self, FieldRow, When, Word, rough};
use crate::http::flows::{self, Found, ListQuery};
use crate::http::problem::Problem;
use crate::http::request::{Asked, Caller, Segments, segment};
use crate::http::{App, Shared};
use crate::pictures::overlay_of_flow;

const PAGE: usize = 50;

/// As a form sends it: what is not filled in is there and empty.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Filter {
    flow: String,
    status: String,
    phase: String,
    phase_state: String,
    min_retries: String,
    cursor: String,
    page: String,
    trail: String,
}

impl Filter {
    fn query(&self) -> Result<ListQuery, Problem> {
        let bad = |what: String| Problem::bad_request("bad_query", what);
        let text = |text: &str| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
        let retries = text(&self.min_retries).map(|number| number.parse().map_err(|_| number)).transpose();
        Ok(ListQuery {
            flow: text(&self.flow).map(|name| MachineName::parse(&name)).transpose().map_err(bad)?,
            status: text(&self.status),
            phase: text(&self.phase),
            phase_state: phase_state(&self.phase_state)?,
            min_retries: retries.map_err(|found| bad(format!("at least `{found}` retries is no number")))?,
            cursor: text(&self.cursor),
            limit: Some(PAGE),
        })
    }

    /// What of it stands in the addresses of all pages.
    fn fields(&self) -> [(&str, &str); 5] {
        let Self { flow, status, phase, phase_state, min_retries, .. } = self;
        [
            ("flow", flow),
            ("status", status),
            ("phase", phase),
            ("phase_state", phase_state),
            ("min_retries", min_retries),
        ]
    }
}

fn phase_state(name: &str) -> Result<Option<PhaseState>, Problem> {
    let unknown = || Problem::bad_request("bad_query", format!("no phase can be in a state `{name}`"));
    if name.is_empty() { Ok(None) } else { PhaseState::parse(name).ok_or_else(unknown).map(Some) }
}

#[derive(Template)]
#[template(path = "flows.html")]
struct FlowsPage {
    frame: Frame,
    filter: Filter,
    flows: Vec<String>,
    states: [PhaseState; PhaseState::ALL.len()],
    rows: Vec<FlowRow>,
    /// Which part of the list they are.
    part: String,
    pages: Pages,
}

struct FlowRow {
    segment: String,
    id: String,
    flow: String,
    status: String,
    percent: u32,
    current: String,
    retries: u32,
    changed: When,
}

pub async fn list(
    State(app): State<Shared>,
    caller: Caller,
    Asked(filter): Asked<Filter>,
) -> Result<Response, Problem> {
    let frame = Frame::of(&app, &caller, "flows", "Flows").live("");
    let query = filter.query()?;
    let shown = app.read_in_turn(move |app| {
        let now = app.engine.clock().now();
        let found = flows::listed(app, &caller.tenant, query)?;
        let row = |snapshot: &Snapshot| {
            let machine = app.engine.machines().of(snapshot).ok()?;
            FlowView::of(&machine, snapshot, now).map(|view| FlowRow::of(&view, now))
        };
        let known = app.machines().into_iter().filter(|machine| machine.flow.is_some());
        let place = Place::of(&filter.cursor, &filter.page, &filter.trail);
        let pages = place.pages("/flows", &filter.fields(), found.next.as_deref());
        Ok(FlowsPage {
            frame,
            flows: known.map(|machine| machine.name.to_string()).collect(),
            states: PhaseState::ALL,
            rows: found.data.iter().filter_map(row).collect(),
            part: pages.part("flow", &found.data),
            pages,
            filter,
        })
    });
    Ok(page(200, &shown.await?))
}

impl FlowRow {
    fn of(view: &FlowView, now: Timestamp) -> Self {
        Self {
            segment: segment(view.id.as_str()),
            id: view.id.to_string(),
            flow: view.flow.to_string(),
            status: view.status.clone(),
            percent: percent(view.progress),
            current: view.current.join(", "),
            retries: view.retries,
            changed: When::of(view.updated_at, now),
        }
    }
}

fn percent(share: f64) -> u32 {
    (share * 100.0).round() as u32
}

#[derive(Template)]
#[template(path = "flow.html")]
struct FlowPage {
    frame: Frame,
    id: String,
    segment: String,
    flow: String,
    version: u32,
    revision: u64,
    status: String,
    percent: u32,
    paused: Option<String>,
    closed: bool,
    begun: When,
    changed: When,
    picture: String,
    phases: Vec<PhaseRow>,
    chart: Gantt,
    options: Vec<OptionRow>,
    context: Vec<FieldRow>,
}

struct PhaseRow {
    name: String,
    state: &'static str,
    percent: u32,
    needs: String,
    attempts: String,
    took: String,
    by: String,
    waits_for: String,
    error: Option<String>,
}

struct OptionRow {
    anchor: String,
    action: &'static str,
    phase: Option<String>,
    url: String,
    command: String,
    description: String,
    reopens: usize,
    may_harm: bool,
}

/// Phases along the time: bars in a picture of 1000 by 26 a row.
struct Gantt {
    height: usize,
    bars: Vec<Bar>,
    from: String,
    to: String,
}

struct Bar {
    name: String,
    state: &'static str,
    y: usize,
    x: f64,
    width: f64,
    text: String,
}

pub async fn show(
    State(app): State<Shared>,
    Segments(id): Segments<InstanceId>,
    caller: Caller,
) -> Result<Response, Problem> {
    let frame =
        Frame::of(&app, &caller, "flows", id.as_str()).live(&format!("&instance={}", segment(id.as_str())));
    let shown = app.read_in_turn(move |app| {
        let found = Found::load(app, &caller.tenant, &id)?;
        let now = app.engine.clock().now();
        let veil = Sight::Masked.over(app.engine.machines(), &found.snapshot);
        flow_page(app, frame, &found, &found.seen(app, caller.sight())?, &veil, now)
    });
    Ok(page(200, &shown.await?))
}

fn flow_page(
    app: &App,
    frame: Frame,
    found: &Found,
    view: &FlowView,
    veil: &Veil,
    now: Timestamp,
) -> Result<FlowPage, Problem> {
    let segment = segment(view.id.as_str());
    Ok(FlowPage {
        frame,
        id: view.id.to_string(),
        flow: view.flow.to_string(),
        version: view.version,
        revision: view.revision.0,
        status: view.status.clone(),
        percent: percent(view.progress),
        paused: view.paused.as_ref().map(|pause| pause.reason.clone().unwrap_or_default()),
        closed: view.closure.is_some(),
        begun: When::of(view.created_at, now),
        changed: When::of(view.updated_at, now),
        picture: app.pictures.picture(&found.machine, &overlay_of_flow(view)),
        phases: view.phases.iter().map(PhaseRow::of).collect(),
        chart: Gantt::of(view, now),
        options: options(view, &segment),
        context: words::fields(&view.context, veil),
        segment,
    })
}

impl PhaseRow {
    fn of(view: &PhaseView) -> Self {
        let attempts = match view.attempts_max {
            Some(most) => format!("{} of {most}", view.attempts),
            None => view.attempts.to_string(),
        };
        Self {
            name: view.phase.to_string(),
            state: if view.skipped { "skipped" } else { view.state.as_str() },
            percent: percent(view.progress),
            needs: view.needs.join(", "),
            attempts,
            took: view.took_ms.map(|ms| rough(Delay::from_millis(ms))).unwrap_or_default(),
            by: view.by.clone().unwrap_or_default(),
            waits_for: view.waits_for.as_ref().map(|what| what.replace('`', "")).unwrap_or_default(),
            error: view.error.as_ref().map(|error| format!("{}: {}", error.code, error.message)),
        }
    }
}

fn options(view: &FlowView, at: &str) -> Vec<OptionRow> {
    let row = |option: &kernel::flow::RecoveryOption| {
        let flags = [("--by", "by"), ("--reason", "reason")];
        let (url, command) = match &option.phase {
            Some(phase) => {
                let about = [Word::Is(view.id.as_str()), Word::Is(phase), Word::Is(option.action)];
                (
                    format!("/v1/flows/{at}/phases/{}/{}", segment(phase), option.action),
                    words::command(&["statewright", "flow", "do"], &about, &flags),
                )
            }
            None => {
                let run = ["statewright", "flow", option.action];
                (
                    format!("/v1/flows/{at}/{}", option.action),
                    words::command(&run, &[Word::Is(view.id.as_str())], &flags),
                )
            }
        };
        OptionRow {
            anchor: words::anchor(&url),
            action: option.action,
            phase: option.phase.as_ref().map(ToString::to_string),
            url,
            command,
            // What is code in a terminal is plain here.
            description: option.description.replace('`', ""),
            reopens: option.reopens.unwrap_or_default(),
            may_harm: matches!(option.action, "rollback" | "cancel" | "fail" | "reject"),
        }
    };
    view.recovery_options.iter().map(row).collect()
}

impl Gantt {
    fn of(view: &FlowView, now: Timestamp) -> Self {
        const NAMES: f64 = 170.0;
        const ROW: usize = 26;
        /// What took next to no time is to be seen all the same.
        const THIN: f64 = 4.0;
        // From when the first work was begun: a flow may have waited for long before.
        let first = view.phases.iter().filter_map(|phase| phase.started_at).min_by_key(|at| at.as_millis());
        let from = first.unwrap_or(view.created_at);
        let begun = from.as_millis();
        let end = match &view.closure {
            Some(closure) => closure.at,
            None => now,
        };
        let span = (end.as_millis() - begun).max(1) as f64;
        let place = |at: i64| NAMES + (1000.0 - NAMES) * ((at - begun) as f64 / span).clamp(0.0, 1.0);
        let bar = |(row, phase): (usize, &PhaseView)| {
            let started = phase.started_at.map(Timestamp::as_millis);
            let ended = started.zip(phase.took_ms).map(|(from, took)| from + took);
            let (x, end) =
                (place(started.unwrap_or(begun)).min(1000.0 - THIN), place(ended.unwrap_or(begun)));
            let took =
                phase.took_ms.map(|ms| format!(", {}", rough(Delay::from_millis(ms)))).unwrap_or_default();
            Bar {
                name: phase.phase.to_string(),
                state: phase.state.as_str(),
                y: row * ROW,
                x,
                width: if started.is_some() { (end - x).max(THIN) } else { 0.0 },
                text: format!("{}: {}{took}", phase.phase, phase.state.as_str()),
            }
        };
        Self {
            height: view.phases.len() * ROW + 20,
            bars: view.phases.iter().enumerate().map(bar).collect(),
            from: from.to_string(),
            to: end.to_string(),
        }
    }
}
