//! The first page: what is running, what needs somebody, how well it goes, and what it all stands on.
//!
//! What is said of instances is the tenant's own, as all of them were counted last; what else waits is counted up to a bound,
//! and so is what was handed over, among the newest. What goes through the server is over all.

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use engine::EngineError;
use engine::health::Check;
use kernel::conversation::ClarificationStatus;
use kernel::flow::PhaseState;
use kernel::id::TenantId;
use kernel::snapshot::Snapshot;
use store::{ClarificationQuery, EffectQuery, EffectStatus, InstanceQuery, PhaseQuery};

use crate::dashboard::instances::InstanceRow;
use crate::dashboard::page::{Frame, page};
use crate::dashboard::pulse::points;
use crate::dashboard::words::{Count, counted, rough, thousands};
use crate::http::problem::Problem;
use crate::http::request::Caller;
use crate::http::{App, Shared};

/// Nothing is counted beyond it: who has more of something has more than can be looked through.
const COUNTED_MAX: usize = 1_000;
/// Rows of what needs somebody.
const SHOWN_MAX: usize = 10;
/// What the documents want of clarifications, in per cent.
const ANSWERED_GOAL: usize = 80;

#[derive(Template)]
#[template(path = "overview.html")]
struct OverviewPage {
    frame: Frame,
    tiles: Vec<Tile>,
    /// How long ago instances were counted, if that was not just now.
    counted: Option<String>,
    trouble: Vec<InstanceRow>,
    newest: Vec<InstanceRow>,
    machines: Vec<String>,
    rate: String,
    rate_points: String,
    took: String,
    took_points: String,
    store: StoreFacts,
}

struct Tile {
    value: String,
    text: &'static str,
    /// What it should be.
    goal: &'static str,
    mark: &'static str,
    leads: &'static str,
}

impl Tile {
    /// Of something of which there should be nothing.
    fn none_wanted(count: impl Into<Count>, text: &'static str, leads: &'static str) -> Self {
        let count = count.into();
        let mark = if count.is_none() { "well" } else { "ill" };
        Self { value: count.to_string(), text, goal: "should be 0", mark, leads }
    }

    fn plain(value: String, text: &'static str, leads: &'static str) -> Self {
        Self { value, text, goal: "", mark: "", leads }
    }
}

struct StoreFacts {
    backend: String,
    location: String,
    durability: &'static str,
    is_durable: bool,
    checks: Vec<Check>,
    size: Option<String>,
    notes: Vec<String>,
    up: String,
}

pub async fn show(State(app): State<Shared>, caller: Caller) -> Result<Response, Problem> {
    let frame = Frame::of(&app, &caller, "overview", "Overview").live("");
    // What goes through is read every two seconds, whether anything happens or not.
    let frame = Frame { every: 2, ..frame };
    let shown = app.read_in_turn(move |app| overview(app, frame, &caller.tenant));
    Ok(page(200, &shown.await?))
}

fn overview(app: &App, frame: Frame, tenant: &TenantId) -> Result<OverviewPage, Problem> {
    let now = app.engine.clock().now();
    let (standings, age) = app.engine.standings()?;
    let standing = standings.of(tenant);
    // What there is none of is not looked for: that may be a look at all that there is.
    let found = |count: u64, limit: usize, query: InstanceQuery| -> Result<Vec<Snapshot>, Problem> {
        let query = InstanceQuery { limit, ..query };
        let found = (count > 0).then(|| app.engine.store().instances(&query)).transpose();
        Ok(found.map_err(EngineError::from)?.map(|page| page.data).unwrap_or_default())
    };
    let all = || InstanceQuery::of(tenant.clone());
    let open = found(standing.open, COUNTED_MAX, InstanceQuery { closed: Some(false), ..all() })?;
    let stuck = InstanceQuery { stuck_by: Some(app.engine.stuck_by()), ..all() };
    let stuck = found(standing.stuck(), SHOWN_MAX, stuck)?;
    let looping = InstanceQuery { closed: Some(false), looping_at: Some(now), ..all() };
    let looping = found(standing.looping, SHOWN_MAX, looping)?;
    let handed_over = open.iter().filter(|s| s.conversation.as_ref().is_some_and(|c| c.handed_over)).count();
    let mut tiles = vec![
        Tile::plain(thousands(standing.open), "open instances", "/instances?life=open"),
        Tile::none_wanted(standing.stuck(), "stuck", "/instances?only=stuck"),
        Tile::none_wanted(standing.looping, "looping", "/instances?only=looping"),
        Tile::none_wanted(
            phases(app, tenant, PhaseState::Failed)?,
            "phases that failed",
            "/flows?phase_state=failed",
        ),
        Tile::none_wanted(dead_letters(app, tenant)?, "not delivered", "/inbox#letters"),
        Tile::none_wanted(without_reason(app)?, "closed without a reason", "/instances?life=closed"),
        Tile::plain(pending(app, tenant)?.to_string(), "questions that wait for an answer", "/inbox"),
        Tile::plain(gates(app, tenant)?.to_string(), "phases that wait for approval or validation", "/inbox"),
        Tile::plain(thousands(handed_over as u64), "handed over to a person", "/inbox#handed-over"),
    ];
    tiles.push(answered(app, tenant)?);
    tiles.push(Tile::plain(
        thousands(app.engine.metrics().repeats()),
        "repeats that were not taken twice, since the start",
        "",
    ));
    tiles.push(Tile::plain(
        thousands(app.engine.metrics().refused("invalid_transition")),
        "invalid transitions that were refused, since the start",
        "",
    ));
    let row = |snapshot: &Snapshot| InstanceRow::of(app, snapshot, now);
    let readings = app.pulse.readings();
    let latest = readings.last().copied().unwrap_or_default();
    let of = |part: fn(&crate::dashboard::pulse::Reading) -> f64| {
        points(&readings.iter().map(part).collect::<Vec<_>>())
    };
    Ok(OverviewPage {
        frame,
        tiles,
        counted: counted(age),
        trouble: stuck.iter().chain(&looping).take(SHOWN_MAX).map(row).collect(),
        newest: open.iter().take(SHOWN_MAX).map(row).collect(),
        machines: app
            .machines()
            .iter()
            .filter(|machine| machine.conversation.is_some())
            .map(|machine| machine.name.to_string())
            .collect(),
        rate: format!("{:.1}", latest.rate),
        rate_points: of(|reading| reading.rate),
        took: format!("{:.2}", latest.took_ms),
        took_points: of(|reading| reading.took_ms),
        store: store_facts(app),
    })
}

/// Of all tenants: one would be a mistake of the program's, and nobody's.
fn without_reason(app: &App) -> Result<u64, Problem> {
    let (statistics, _) = app.engine.statistics()?;
    Ok(statistics.closed.iter().filter(|((_, reason), _)| reason.is_empty()).map(|(_, count)| count).sum())
}

fn phases(app: &App, tenant: &TenantId, state: PhaseState) -> Result<Count, Problem> {
    let query = PhaseQuery { state: Some(state), limit: COUNTED_MAX, ..PhaseQuery::of(tenant.clone()) };
    let found = app.engine.store().phases(&query).map_err(EngineError::from)?;
    Ok(Count { known: found.data.len(), more: found.next.is_some() })
}

/// Phases that wait for somebody's yes.
fn gates(app: &App, tenant: &TenantId) -> Result<Count, Problem> {
    let approval = phases(app, tenant, PhaseState::WaitingApproval)?;
    let validation = phases(app, tenant, PhaseState::WaitingValidation)?;
    Ok(Count { known: approval.known + validation.known, more: approval.more || validation.more })
}

fn pending(app: &App, tenant: &TenantId) -> Result<Count, Problem> {
    let status = Some(ClarificationStatus::Pending);
    let query =
        ClarificationQuery { tenant: tenant.clone(), status, id: None, cursor: None, limit: COUNTED_MAX };
    let found = app.engine.store().clarifications(&query).map_err(EngineError::from)?;
    Ok(Count { known: found.data.len(), more: found.next.is_some() })
}

/// Of the newest questions that are over, how many were answered.
fn answered(app: &App, tenant: &TenantId) -> Result<Tile, Problem> {
    let query = ClarificationQuery {
        tenant: tenant.clone(),
        status: None,
        id: None,
        cursor: None,
        limit: COUNTED_MAX,
    };
    let found = app.engine.store().clarifications(&query).map_err(EngineError::from)?;
    let over: Vec<_> = found.data.iter().filter(|one| one.status != ClarificationStatus::Pending).collect();
    let answered = over.iter().filter(|one| one.status == ClarificationStatus::Answered).count();
    let (text, goal) = ("of the questions were answered", "should be over 80 %");
    let share = (answered * 100).checked_div(over.len());
    let mark = match share {
        None => "",
        Some(share) if share > ANSWERED_GOAL => "well",
        Some(_) => "wary",
    };
    let value = share.map_or_else(|| "\u{2013}".to_owned(), |share| format!("{share} %"));
    Ok(Tile { value, text, goal, mark, leads: "/inbox" })
}

fn dead_letters(app: &App, tenant: &TenantId) -> Result<Count, Problem> {
    let statuses = vec![EffectStatus::Dead, EffectStatus::Unknown];
    let query = EffectQuery { statuses, limit: COUNTED_MAX, ..EffectQuery::of(tenant.clone()) };
    let found = app.engine.store().effects(&query).map_err(EngineError::from)?;
    Ok(Count { known: found.data.len(), more: found.next.is_some() })
}

fn store_facts(app: &App) -> StoreFacts {
    let store = app.engine.store();
    let about = store.info();
    StoreFacts {
        backend: format!("{} {}", about.backend, about.version),
        location: about.location,
        durability: about.durability.as_str(),
        is_durable: about.durability == store::Durability::Durable,
        checks: app.engine.condition(),
        size: store.space().data_bytes.map(|bytes| format!("{:.1} MB", bytes as f64 / 1e6)),
        notes: about.notes,
        up: rough(kernel::time::Delay::from_millis(
            i64::try_from(app.started.elapsed().as_millis()).unwrap_or(i64::MAX),
        )),
    }
}
