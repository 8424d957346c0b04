//! What waits for a person: questions, approvals, conversations that were handed over, what could not be delivered, and
//! what nobody has understood.

use std::collections::BTreeMap;

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use engine::EngineError;
use kernel::commit::Answer;
use kernel::conversation::{ClarificationStatus, MessageOutcome, ReplyOption};
use kernel::flow::{Gate, PhaseState};
use kernel::id::TenantId;
use kernel::snapshot::Snapshot;
use kernel::time::Timestamp;
use store::{
    ClarificationQuery, EffectQuery, EffectStatus, HistoryQuery, InstanceQuery, PhaseLine, PhaseQuery,
};

use crate::dashboard::deliveries::DeliveryRow;
use crate::dashboard::instances::InstanceRow;
use crate::dashboard::page::{Frame, page};
use crate::dashboard::words::{self, When, Word};
use crate::http::problem::Problem;
use crate::http::request::{Caller, segment};
use crate::http::{App, Shared};

/// Rows of each list.
const SHOWN_MAX: usize = 50;
/// Open instances that are looked through for what was handed over.
const OPEN_MAX: usize = 1_000;
/// Instances whose log is read for what was not understood, and the newest entries of each.
const READ_MAX: usize = 200;
const ENTRIES_MAX: usize = 100;
/// What was not understood, the most frequent.
const UNHANDLED_MAX: usize = 20;

#[derive(Template)]
#[template(path = "inbox.html")]
struct InboxPage {
    frame: Frame,
    questions: Part<QuestionRow>,
    gates: Part<GateRow>,
    handed_over: Part<InstanceRow>,
    letters: Part<DeliveryRow>,
    unhandled: Unhandled,
}

/// Some of what waits, and whether there is more of it than is shown.
struct Part<T> {
    rows: Vec<T>,
    more: bool,
}

struct QuestionRow {
    anchor: String,
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
    anchor: String,
    /// Who has to say it, and how.
    wants: String,
    reason: bool,
    command: String,
}

pub async fn show(State(app): State<Shared>, caller: Caller) -> Result<Response, Problem> {
    let frame = Frame::of(&app, &caller, "inbox", "Inbox").live("");
    let shown = app.read_in_turn(move |app| {
        let (tenant, now) = (&caller.tenant, app.engine.clock().now());
        Ok(InboxPage {
            frame,
            questions: questions(app, &caller, now)?,
            gates: gates(app, tenant, now)?,
            handed_over: handed_over(app, tenant, now)?,
            letters: letters(app, &caller, now)?,
            unhandled: Unhandled::read(app, &caller)?,
        })
    });
    Ok(page(200, &shown.await?))
}

fn questions(app: &App, caller: &Caller, now: Timestamp) -> Result<Part<QuestionRow>, Problem> {
    let (tenant, machines) = (&caller.tenant, app.engine.machines());
    let status = Some(ClarificationStatus::Pending);
    let query =
        ClarificationQuery { tenant: tenant.clone(), status, id: None, cursor: None, limit: SHOWN_MAX };
    let found = app.engine.store().clarifications(&query).map_err(EngineError::from)?;
    let row = |one: kernel::conversation::Clarification| QuestionRow {
        anchor: words::anchor(&one.id),
        options: one.reply_options(),
        segment: segment(one.instance.as_str()),
        machine: one.machine.to_string(),
        subject: one.subject.to_string(),
        said: caller.sight().over_any(machines, &one.machine).text(one.original.text.unwrap_or_default()),
        question: one.question,
        expires: When::of(one.expires_at, now),
        id: one.id,
    };
    Ok(Part { more: found.next.is_some(), rows: found.data.into_iter().map(row).collect() })
}

fn gates(app: &App, tenant: &TenantId, now: Timestamp) -> Result<Part<GateRow>, Problem> {
    let (mut rows, mut more) = (Vec::new(), false);
    for (state, yes) in
        [(PhaseState::WaitingApproval, "approve"), (PhaseState::WaitingValidation, "validate")]
    {
        let query = PhaseQuery { state: Some(state), limit: SHOWN_MAX, ..PhaseQuery::of(tenant.clone()) };
        let found = app.engine.store().phases(&query).map_err(EngineError::from)?;
        more |= found.next.is_some();
        rows.extend(found.data.into_iter().map(|line| GateRow::of(app, line, yes, now)));
    }
    // Who works through them from the top does not have them change under the hand.
    rows.sort_by(|one, other| one.since.exact.cmp(&other.since.exact));
    Ok(Part { rows, more })
}

impl GateRow {
    fn of(app: &App, line: PhaseLine, yes: &'static str, now: Timestamp) -> Self {
        let (flow_id, phase) = (line.instance.to_string(), line.row.phase.to_string());
        let machine = app.engine.machines().current_for(&line.tenant, &line.machine).ok();
        let flow = machine.as_ref().and_then(|machine| machine.flow.as_ref());
        let written = flow.and_then(|flow| flow.by_name(&phase).map(|index| flow.phase(index)));
        let gate = written.and_then(|phase| {
            if yes == "approve" { phase.approval.as_ref() } else { phase.validation.as_ref() }
        });
        let about = [Word::Is(&flow_id), Word::Is(&phase), Word::Is(yes)];
        let flags = [("--by", "by"), ("--reason", "reason")];
        Self {
            anchor: words::anchor(&format!("{flow_id} {phase}")),
            command: words::command(&["statewright", "flow", "do"], &about, &flags),
            yes,
            segment: segment(line.instance.as_str()),
            phase_segment: segment(&line.row.phase),
            flow: line.machine.to_string(),
            since: When::of(line.row.since, now),
            wants: gate.map(wants).unwrap_or_default(),
            reason: gate.is_some_and(|gate| gate.reason),
            flow_id,
            phase,
        }
    }
}

/// `by security, with a reason, not by who did the work`.
fn wants(gate: &Gate) -> String {
    let by = (!gate.by.is_empty()).then(|| format!("by {}", gate.by.join(" or ")));
    let reason = gate.reason.then(|| "with a reason".to_owned());
    let eyes = gate.four_eyes.then(|| "not by who did the work".to_owned());
    [by, reason, eyes].into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn handed_over(app: &App, tenant: &TenantId, now: Timestamp) -> Result<Part<InstanceRow>, Problem> {
    let query = InstanceQuery { closed: Some(false), limit: OPEN_MAX, ..InstanceQuery::of(tenant.clone()) };
    let found = app.engine.store().instances(&query).map_err(EngineError::from)?;
    let is_with_a_person =
        |one: &&Snapshot| one.conversation.as_ref().is_some_and(|conversation| conversation.handed_over);
    let all: Vec<&Snapshot> = found.data.iter().filter(is_with_a_person).collect();
    let shown = all.iter().take(SHOWN_MAX);
    Ok(Part {
        rows: shown.map(|snapshot| InstanceRow::of(app, snapshot, now)).collect(),
        more: found.next.is_some() || all.len() > SHOWN_MAX,
    })
}

fn letters(app: &App, caller: &Caller, now: Timestamp) -> Result<Part<DeliveryRow>, Problem> {
    let statuses = vec![EffectStatus::Dead, EffectStatus::Unknown];
    let query = EffectQuery { statuses, limit: SHOWN_MAX, ..EffectQuery::of(caller.tenant.clone()) };
    let found = app.engine.store().effects(&query).map_err(EngineError::from)?;
    let more = found.next.is_some();
    let row = |effect| DeliveryRow::of(effect, app, caller, now);
    Ok(Part { rows: found.data.into_iter().map(row).collect(), more })
}

/// What people have said that nothing came of, the most frequent first.
struct Unhandled {
    rows: Vec<UnhandledRow>,
    /// In so many conversations.
    read: usize,
}

struct UnhandledRow {
    text: String,
    count: u64,
    /// The segment of an instance where it was said.
    segment: String,
}

impl Unhandled {
    fn read(app: &App, caller: &Caller) -> Result<Self, Problem> {
        let (store, tenant) = (app.engine.store(), &caller.tenant);
        let query = InstanceQuery { limit: READ_MAX, ..InstanceQuery::of(tenant.clone()) };
        let found = store.instances(&query).map_err(EngineError::from)?;
        let (mut texts, mut read) = (BTreeMap::<String, UnhandledRow>::new(), 0);
        for snapshot in found.data.iter().filter(|snapshot| snapshot.conversation.is_some()) {
            // What is masked cannot be counted.
            if caller.sight().over(app.engine.machines(), snapshot).hides_copies() {
                continue;
            }
            read += 1;
            let (tenant, instance) = (tenant.clone(), snapshot.instance.clone());
            let of = HistoryQuery::of(tenant, instance);
            let query = HistoryQuery { newest_first: true, limit: ENTRIES_MAX, ..of };
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
