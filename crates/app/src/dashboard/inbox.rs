//! What waits for a person: questions, approvals, conversations that were handed over, what could not be delivered, and
//! what nobody has understood.

use std::collections::BTreeMap;

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use engine::EngineError;
use kernel::commit::{Answer, EffectKind};
use kernel::conversation::{ClarificationStatus, MessageOutcome, ReplyOption};
use kernel::flow::PhaseState;
use kernel::id::TenantId;
use kernel::time::Timestamp;
use store::{ClarificationQuery, EffectQuery, EffectStatus, HistoryQuery, InstanceQuery, PhaseQuery};

use crate::dashboard::instances::InstanceRow;
use crate::dashboard::page::{Frame, PageProblem, Visitor, page};
use crate::dashboard::words::When;
use crate::http::problem::Problem;
use crate::http::request::segment;
use crate::http::{App, Shared};

/// Rows of each list.
const SHOWN_MAX: usize = 50;
/// Open instances that are looked through for what was handed over.
const OPEN_MAX: usize = 1_000;
/// Instances whose log is read for what was not understood, and entries of each.
const READ_MAX: usize = 200;
const ENTRIES_MAX: usize = 100;
/// What was not understood, the most frequent.
const UNHANDLED_MAX: usize = 20;

#[derive(Template)]
#[template(path = "inbox.html")]
struct InboxPage {
    frame: Frame,
    questions: Vec<QuestionRow>,
    gates: Vec<GateRow>,
    handed_over: Vec<InstanceRow>,
    letters: Vec<LetterRow>,
    unhandled: Unhandled,
}

struct QuestionRow {
    id: String,
    segment: String,
    machine: String,
    subject: String,
    question: String,
    said: String,
    options: Vec<ReplyOption>,
    expires: When,
}

struct GateRow {
    segment: String,
    flow_id: String,
    flow: String,
    phase: String,
    phase_segment: String,
    /// What says yes: `approve` or `validate`.
    yes: &'static str,
    since: When,
}

struct LetterRow {
    id: String,
    segment: String,
    instance: String,
    what: String,
    status: &'static str,
    attempts: u32,
    error: String,
    created: When,
}

pub async fn show(State(app): State<Shared>, Visitor(caller): Visitor) -> Result<Response, PageProblem> {
    let frame = Frame::of(&app, &caller, "inbox", "Inbox").live("");
    let shown = app.read(move |app| {
        let (tenant, now) = (&caller.tenant, app.engine.clock().now());
        Ok(InboxPage {
            frame,
            questions: questions(app, tenant, now)?,
            gates: gates(app, tenant, now)?,
            handed_over: handed_over(app, tenant, now)?,
            letters: letters(app, tenant, now)?,
            unhandled: Unhandled::read(app, tenant)?,
        })
    });
    Ok(page(200, &shown.await?))
}

fn questions(app: &App, tenant: &TenantId, now: Timestamp) -> Result<Vec<QuestionRow>, Problem> {
    let status = Some(ClarificationStatus::Pending);
    let query =
        ClarificationQuery { tenant: tenant.clone(), status, id: None, cursor: None, limit: SHOWN_MAX };
    let found = app.engine.store().clarifications(&query).map_err(EngineError::from)?;
    let row = |one: kernel::conversation::Clarification| QuestionRow {
        options: one.reply_options(),
        segment: segment(one.instance.as_str()),
        machine: one.machine.to_string(),
        subject: one.subject.to_string(),
        said: one.original.text.unwrap_or_default(),
        question: one.question,
        expires: When::of(one.expires_at, now),
        id: one.id,
    };
    Ok(found.data.into_iter().map(row).collect())
}

fn gates(app: &App, tenant: &TenantId, now: Timestamp) -> Result<Vec<GateRow>, Problem> {
    let mut rows = Vec::new();
    for (state, yes) in
        [(PhaseState::WaitingApproval, "approve"), (PhaseState::WaitingValidation, "validate")]
    {
        let query = PhaseQuery { state: Some(state), limit: SHOWN_MAX, ..PhaseQuery::of(tenant.clone()) };
        let found = app.engine.store().phases(&query).map_err(EngineError::from)?;
        rows.extend(found.data.into_iter().map(|line| GateRow {
            segment: segment(line.instance.as_str()),
            flow_id: line.instance.to_string(),
            flow: line.machine.to_string(),
            phase_segment: segment(&line.row.phase),
            phase: line.row.phase.to_string(),
            yes,
            since: When::of(line.row.since, now),
        }));
    }
    Ok(rows)
}

fn handed_over(app: &App, tenant: &TenantId, now: Timestamp) -> Result<Vec<InstanceRow>, Problem> {
    let query = InstanceQuery { closed: Some(false), limit: OPEN_MAX, ..InstanceQuery::of(tenant.clone()) };
    let found = app.engine.store().instances(&query).map_err(EngineError::from)?;
    let of_people = found.data.iter().filter(|one| one.conversation.as_ref().is_some_and(|c| c.handed_over));
    Ok(of_people.take(SHOWN_MAX).map(|snapshot| InstanceRow::of(app, snapshot, now)).collect())
}

fn letters(app: &App, tenant: &TenantId, now: Timestamp) -> Result<Vec<LetterRow>, Problem> {
    let statuses = vec![EffectStatus::Dead, EffectStatus::Unknown];
    let query = EffectQuery { statuses, limit: SHOWN_MAX, ..EffectQuery::of(tenant.clone()) };
    let found = app.engine.store().effects(&query).map_err(EngineError::from)?;
    let row = |one: store::OutboxEffect| LetterRow {
        what: match &one.effect.kind {
            EffectKind::Reply(reply) => reply.text.clone(),
            EffectKind::Call { src, .. } => format!("call of {src}"),
            EffectKind::Notice(notice) => format!("notice of {}", notice.event),
            EffectKind::Tell(told) => told.describe(),
        },
        id: one.effect.key,
        segment: segment(one.instance.as_str()),
        instance: one.instance.to_string(),
        status: one.status.as_str(),
        attempts: one.attempts,
        error: one.error.unwrap_or_default(),
        created: When::of(one.created_at, now),
    };
    Ok(found.data.into_iter().map(row).collect())
}

/// What people have said that nothing came of, the most frequent first.
struct Unhandled {
    rows: Vec<UnhandledRow>,
    /// In so many of the newest conversations.
    read: usize,
}

struct UnhandledRow {
    text: String,
    count: u64,
    /// The segment of an instance where it was said.
    segment: String,
}

impl Unhandled {
    fn read(app: &App, tenant: &TenantId) -> Result<Self, Problem> {
        let store = app.engine.store();
        let query = InstanceQuery { limit: READ_MAX, ..InstanceQuery::of(tenant.clone()) };
        let found = store.instances(&query).map_err(EngineError::from)?;
        let (mut texts, mut read) = (BTreeMap::<String, UnhandledRow>::new(), 0);
        for snapshot in found.data.iter().filter(|snapshot| snapshot.conversation.is_some()) {
            read += 1;
            let (tenant, instance) = (tenant.clone(), snapshot.instance.clone());
            let query = HistoryQuery { tenant, instance, cursor: None, limit: ENTRIES_MAX };
            for entry in store.history(&query).map_err(EngineError::from)?.data {
                let fallback = MessageOutcome::Fallback;
                let fell_back =
                    matches!(&entry.answer, Answer::Message(answer) if answer.outcome == fallback);
                let said = entry.message.and_then(|message| message.text).filter(|_| fell_back);
                let Some(text) = said.map(|text| text.trim().to_lowercase()) else { continue };
                let segment = segment(snapshot.instance.as_str());
                let row = UnhandledRow { text: text.clone(), count: 0, segment };
                texts.entry(text).or_insert(row).count += 1;
            }
        }
        let mut rows: Vec<UnhandledRow> = texts.into_values().collect();
        rows.sort_by_key(|row| std::cmp::Reverse(row.count));
        rows.truncate(UNHANDLED_MAX);
        Ok(Self { rows, read })
    }
}
