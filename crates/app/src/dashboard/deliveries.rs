//! What had to be delivered to somebody, in words: what, to whom, when it was tried, how that went, and what comes next.

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use engine::EngineError;
use kernel::commit::{Effect, EffectKind};
use kernel::id::InstanceId;
use kernel::time::Timestamp;
use serde::Deserialize;
use store::{DeliveryStage, EffectQuery, EffectStatus, OutboxEffect};

use crate::access::Sight;
use crate::dashboard::page::{Frame, page};
use crate::dashboard::paging::{Pages, Place};
use crate::dashboard::words::{self, When, Word};
use crate::http::deliveries::EffectRow;
use crate::http::problem::Problem;
use crate::http::request::{Asked, Caller, Segments, segment};
use crate::http::{App, Shared};

const PAGE: usize = 50;

/// One of them.
pub struct DeliveryRow {
    pub anchor: String,
    pub id: String,
    pub segment: String,
    pub instance: String,
    pub what: String,
    pub to: String,
    pub status: &'static str,
    /// `good`, `warn`, `bad` or nothing.
    pub mark: &'static str,
    /// What the status means.
    pub meaning: &'static str,
    /// What the receiver's side has reported since.
    pub stage: Option<&'static str>,
    pub error: Option<String>,
    pub made: When,
    pub attempts: u32,
    /// When its last attempt was over, if nothing more is tried.
    pub settled: Option<When>,
    pub next: Option<When>,
    pub may_be_retried: bool,
    pub command: String,
    pub json: String,
}

impl DeliveryRow {
    /// No page shows what is secret; what was said, it shows to whoever may see it.
    pub fn of(found: OutboxEffect, app: &App, caller: &Caller, now: Timestamp) -> Self {
        let machines = app.engine.machines();
        let said = caller.sight().over_any(machines, &found.machine).effect(found.effect.kind.clone());
        let (mark, meaning) = meaning(found.status);
        let id = found.effect.key.clone();
        Self {
            anchor: words::anchor(&id),
            segment: segment(found.instance.as_str()),
            instance: found.instance.to_string(),
            what: what(said),
            to: to(&found.effect, found.subject.as_ref().map(|subject| subject.as_str())),
            status: found.status.as_str(),
            mark,
            meaning,
            stage: found.stage.map(stage),
            error: found.error.clone(),
            made: When::of(found.created_at, now),
            attempts: found.attempts,
            settled: found.settled_at.map(|at| When::of(at, now)),
            next: found
                .due_at
                .filter(|_| found.status == EffectStatus::Pending)
                .map(|due| When::of(due, now)),
            may_be_retried: matches!(found.status, EffectStatus::Dead | EffectStatus::Unknown),
            command: words::command(&["statewright", "dead-letters", "--retry"], &[Word::Is(&id)], &[]),
            json: serde_json::to_string_pretty(&EffectRow::of(found, machines, Sight::Masked))
                .unwrap_or_default(),
            id,
        }
    }

    /// `tried 3 times`.
    pub fn tried(&self) -> String {
        match self.attempts {
            0 => "not tried yet".to_owned(),
            1 => "tried once".to_owned(),
            many => format!("tried {many} times"),
        }
    }
}

fn what(kind: EffectKind) -> String {
    match kind {
        EffectKind::Reply(reply) if reply.text.is_empty() => "a reply without text".to_owned(),
        EffectKind::Reply(reply) => reply.text,
        EffectKind::Call { src, .. } => format!("call of {src}"),
        EffectKind::Notice(notice) if notice.from == notice.to => {
            format!("notice of {}, in {}", notice.event, notice.to)
        }
        EffectKind::Notice(notice) if notice.from.is_empty() => {
            format!("notice of {}: begun in {}", notice.event, notice.to)
        }
        EffectKind::Notice(notice) => {
            format!("notice of {}: {} → {}", notice.event, notice.from, notice.to)
        }
        EffectKind::Tell(told) => told.describe().replace('`', ""),
    }
}

fn to(effect: &Effect, subject: Option<&str>) -> String {
    match (&effect.kind, &effect.to, subject) {
        (EffectKind::Reply(_), Some(address), _) => format!("{} by {}", address.user, address.channel),
        (EffectKind::Reply(_), None, Some(subject)) => format!("{subject}, by way of the host"),
        (EffectKind::Call { src, .. }, ..) => format!("whoever does {src}"),
        (EffectKind::Tell(_), ..) => "another flow".to_owned(),
        (EffectKind::Reply(_) | EffectKind::Notice(_), ..) => "the host".to_owned(),
    }
}

fn meaning(status: EffectStatus) -> (&'static str, &'static str) {
    match status {
        EffectStatus::Pending => ("warn", "It waits for its next attempt."),
        EffectStatus::Sending => ("warn", "It is being sent."),
        EffectStatus::Delivered => ("good", "The receiver has accepted it."),
        EffectStatus::Cancelled => ("", "It is not wanted any more."),
        EffectStatus::Unaddressed => ("", "Nobody is set up to receive it."),
        EffectStatus::Dead => ("bad", "It was tried as often as it may be, and did not arrive."),
        EffectStatus::Unknown => ("bad", "It may have arrived or not, so it is not tried again by itself."),
    }
}

fn stage(stage: DeliveryStage) -> &'static str {
    match stage {
        DeliveryStage::Sent => "sent on",
        DeliveryStage::Delivered => "with the person",
        DeliveryStage::Read => "read",
        DeliveryStage::Failed => "failed on the way",
    }
}

#[derive(Template)]
#[template(path = "deliveries.html")]
struct DeliveriesPage {
    frame: Frame,
    id: String,
    segment: String,
    rows: Vec<DeliveryRow>,
    part: String,
    pages: Pages,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ShowQuery {
    cursor: String,
    page: String,
    trail: String,
}

/// What the commits of one instance had to have delivered.
pub async fn show(
    State(app): State<Shared>,
    Segments(id): Segments<InstanceId>,
    caller: Caller,
    Asked(asked): Asked<ShowQuery>,
) -> Result<Response, Problem> {
    let at = segment(id.as_str());
    let title = format!("Deliveries of {id}");
    let frame = Frame::of(&app, &caller, "instances", title).live(&format!("&instance={at}"));
    let shown = app.read_in_turn(move |app| {
        let now = app.engine.clock().now();
        app.engine.instance(&caller.tenant, &id)?;
        let place = Place::of(&asked.cursor, &asked.page, &asked.trail);
        let of = EffectQuery::of(caller.tenant.clone());
        let query = EffectQuery { instance: Some(id.clone()), cursor: place.cursor(), limit: PAGE, ..of };
        let found = app.engine.store().effects(&query).map_err(EngineError::from)?;
        let pages = place.pages(&format!("/instances/{at}/deliveries"), &[], found.next.as_deref());
        let what = if found.data.len() == 1 { "delivery" } else { "deliveries" };
        Ok(DeliveriesPage {
            frame,
            id: id.to_string(),
            segment: at,
            part: format!("{}{} {what}, the newest first", pages.said(), found.data.len()),
            rows: found.data.into_iter().map(|effect| DeliveryRow::of(effect, app, &caller, now)).collect(),
            pages,
        })
    });
    Ok(page(200, &shown.await?))
}
