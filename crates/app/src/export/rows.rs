//! The rows of the tables that are exported, and their columns.

use kernel::commit::{Answer, Entry};
use kernel::conversation::{Clarification, Rule};
use kernel::flow::PhaseState;
use kernel::id::Revision;
use kernel::input::Fields;
use kernel::snapshot::Snapshot;
use kernel::time::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};
use store::PhaseLine;

use super::{Column, Kind};
use crate::access::sight::Veil;

pub(super) const SESSION: [Column; 14] = [
    ("id", Kind::Text),
    ("machine", Kind::Text),
    ("version", Kind::Integer),
    ("definition", Kind::Text),
    ("subject", Kind::Text),
    ("ordinal", Kind::Integer),
    ("state", Kind::Text),
    ("closure_reason", Kind::Text),
    ("revision", Kind::Integer),
    ("created_at", Kind::Time),
    ("updated_at", Kind::Time),
    ("closed_at", Kind::Time),
    ("context", Kind::Json),
    ("output", Kind::Json),
];

#[derive(Serialize)]
pub(super) struct SessionRow<'a> {
    id: &'a str,
    machine: &'a str,
    version: u32,
    definition: &'a str,
    subject: Option<&'a str>,
    ordinal: u32,
    state: String,
    closure_reason: Option<&'a str>,
    revision: Revision,
    created_at: Timestamp,
    updated_at: Timestamp,
    closed_at: Option<Timestamp>,
    context: Option<Fields>,
    output: Option<&'a Fields>,
}

impl<'a> SessionRow<'a> {
    pub fn of(snapshot: &'a Snapshot, veil: &Veil) -> Self {
        let closure = snapshot.closure.as_ref();
        Self {
            id: snapshot.instance.as_str(),
            machine: snapshot.machine.as_str(),
            version: snapshot.version,
            definition: snapshot.definition.as_str(),
            subject: snapshot.subject.as_ref().map(|subject| subject.as_str()),
            ordinal: snapshot.ordinal,
            state: snapshot.state(),
            closure_reason: closure.map(|closure| closure.reason.as_str()),
            revision: snapshot.revision,
            created_at: snapshot.created_at,
            updated_at: snapshot.updated_at,
            closed_at: closure.map(|closure| closure.at),
            context: veil.without(&snapshot.context),
            // It may be made of what is secret.
            output: closure
                .map(|closure| &closure.output)
                .filter(|output| !output.is_empty() && !veil.hides_copies()),
        }
    }
}

pub(super) const TRANSITION: [Column; 19] = [
    ("session_id", Kind::Text),
    ("machine", Kind::Text),
    ("subject", Kind::Text),
    ("revision", Kind::Integer),
    ("at", Kind::Time),
    ("event", Kind::Text),
    ("from", Kind::Text),
    ("to", Kind::Text),
    ("success", Kind::Boolean),
    ("outcome", Kind::Text),
    ("intent", Kind::Text),
    ("rule", Kind::Text),
    ("reason", Kind::Text),
    ("code", Kind::Text),
    ("by", Kind::Text),
    ("key", Kind::Text),
    ("trace_id", Kind::Text),
    ("text", Kind::Text),
    ("payload", Kind::Json),
];

#[derive(Serialize)]
pub(super) struct TransitionRow<'a> {
    session_id: &'a str,
    machine: &'a str,
    subject: Option<&'a str>,
    revision: Revision,
    at: Timestamp,
    event: &'a str,
    from: &'a str,
    to: &'a str,
    success: bool,
    outcome: Option<&'static str>,
    intent: Option<&'a str>,
    rule: Option<Rule>,
    reason: Option<&'a str>,
    code: Option<&'a str>,
    by: Option<&'a str>,
    key: &'a str,
    trace_id: Option<&'a str>,
    text: Option<&'a str>,
    payload: Option<Value>,
}

impl<'a> TransitionRow<'a> {
    /// `is_told`: the instance has no secrets that might be in what was said.
    pub fn of(entry: &'a Entry, of: &'a Snapshot, is_told: bool) -> Self {
        let answer = match &entry.answer {
            Answer::Message(answer) => Some(answer),
            _ => None,
        };
        let message = entry.message.as_ref().filter(|_| is_told);
        let button = message.and_then(|message| message.payload.as_ref());
        let fields = Some(&entry.payload).filter(|fields| is_told && !fields.is_empty());
        Self {
            session_id: of.instance.as_str(),
            machine: of.machine.as_str(),
            subject: of.subject.as_ref().map(|subject| subject.as_str()),
            revision: entry.revision,
            at: entry.at,
            event: &entry.event,
            from: &entry.from,
            to: &entry.to,
            success: entry.success,
            outcome: answer.map(|answer| answer.outcome.as_str()),
            intent: answer.and_then(|answer| answer.why.intent.as_deref()),
            rule: answer.map(|answer| answer.why.rule),
            reason: entry.reason.as_deref(),
            code: entry.code.as_deref(),
            by: entry.by.as_deref(),
            key: entry.key.as_str(),
            trace_id: entry.trace_id.as_deref(),
            text: message.and_then(|message| message.text.as_deref()),
            payload: button.map(|button| json!(button)).or_else(|| fields.map(|fields| json!(fields))),
        }
    }
}

pub(super) const CLARIFICATION: [Column; 12] = [
    ("id", Kind::Text),
    ("session_id", Kind::Text),
    ("machine", Kind::Text),
    ("subject", Kind::Text),
    ("status", Kind::Text),
    ("question", Kind::Text),
    ("options", Kind::Json),
    ("created_at", Kind::Time),
    ("expires_at", Kind::Time),
    ("resolved_at", Kind::Time),
    ("attempts", Kind::Integer),
    ("answer", Kind::Text),
];

#[derive(Serialize)]
pub(super) struct ClarificationRow<'a> {
    id: &'a str,
    session_id: &'a str,
    machine: &'a str,
    subject: &'a str,
    status: &'static str,
    question: &'a str,
    options: Value,
    created_at: Timestamp,
    expires_at: Timestamp,
    resolved_at: Option<Timestamp>,
    attempts: u32,
    answer: Option<&'a str>,
}

impl<'a> ClarificationRow<'a> {
    pub fn of(clarification: &'a Clarification) -> Self {
        Self {
            id: &clarification.id,
            session_id: clarification.instance.as_str(),
            machine: clarification.machine.as_str(),
            subject: clarification.subject.as_str(),
            status: clarification.status.as_str(),
            question: &clarification.question,
            options: json!(clarification.reply_options()),
            created_at: clarification.created_at,
            expires_at: clarification.expires_at,
            resolved_at: clarification.resolved_at,
            attempts: clarification.attempts,
            answer: clarification.answer.as_deref(),
        }
    }
}

pub(super) const PHASE: [Column; 11] = [
    ("flow_id", Kind::Text),
    ("flow", Kind::Text),
    ("phase", Kind::Text),
    ("place", Kind::Integer),
    ("state", Kind::Text),
    ("since", Kind::Time),
    ("attempts", Kind::Integer),
    ("retries", Kind::Integer),
    ("error", Kind::Text),
    ("kind", Kind::Text),
    ("worker", Kind::Text),
];

#[derive(Serialize)]
pub(super) struct PhaseRow<'a> {
    flow_id: &'a str,
    flow: &'a str,
    phase: &'a str,
    place: u16,
    state: PhaseState,
    since: Timestamp,
    attempts: u32,
    retries: u32,
    error: Option<&'a str>,
    kind: Option<&'a str>,
    worker: Option<&'a str>,
}

impl<'a> PhaseRow<'a> {
    pub fn of(line: &'a PhaseLine) -> Self {
        let row = &line.row;
        Self {
            flow_id: line.instance.as_str(),
            flow: line.machine.as_str(),
            phase: &row.phase,
            place: row.place,
            state: row.state,
            since: row.since,
            attempts: row.attempts,
            retries: row.retries,
            error: row.error.as_deref(),
            kind: Some(&*row.kind).filter(|kind| !kind.is_empty()),
            worker: row.worker.as_deref(),
        }
    }
}
