//! What would have happened: the log of the sessions that a tenant's messages have in its shadow.
//!
//! There is no log apart from theirs. Lines come session by session, the newest session first, and each session from
//! its beginning, as a conversation reads.

use std::collections::BTreeMap;

use kernel::commit::{Answer, Entry};
use kernel::conversation::{MessageOutcome, Reply, Rule};
use kernel::id::{InputKey, InstanceId, MachineName, Subject, TenantId};
use kernel::snapshot::Snapshot;
use kernel::time::Timestamp;
use serde::Serialize;
use store::{HistoryQuery, InstanceQuery, LoadError, Page, Store};

use crate::access::sight::Veil;

/// Sessions that are looked at for one page, however little is left of their logs.
const SESSIONS_MAX: usize = 1_000;
const SESSIONS_AT_ONCE: usize = 100;
/// Lines that are counted for one summary: about a second's reading.
const COUNTED_MAX: usize = 20_000;

#[derive(Clone, Debug)]
pub struct ShadowQuery {
    /// Whose messages they were.
    pub tenant: TenantId,
    pub machine: MachineName,
    pub subject: Option<Subject>,
    pub cursor: Option<String>,
    pub limit: usize,
    /// What whoever asks is not to see of what was said.
    pub veil: Veil,
}

/// What one input would have done.
#[derive(Debug, Serialize)]
pub struct Line {
    at: Timestamp,
    subject: Option<Subject>,
    session_id: InstanceId,
    /// Absent where time brought it.
    #[serde(skip_serializing_if = "Option::is_none")]
    message_id: Option<InputKey>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<MessageOutcome>,
    from: String,
    to: String,
    event: String,
    success: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<Rule>,
    #[serde(skip_serializing_if = "Option::is_none")]
    intent: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    reply: Vec<Reply>,
}

impl Line {
    fn of(snapshot: &Snapshot, entry: Entry) -> Self {
        let (reply, outcome, why) = match entry.answer {
            Answer::Message(answer) => (answer.reply, Some(answer.outcome), Some(answer.why)),
            Answer::Event(answer) => (answer.reply, None, None),
            Answer::Refused(_) => (Vec::new(), None, None),
        };
        Self {
            at: entry.at,
            subject: snapshot.subject.clone(),
            session_id: snapshot.instance.clone(),
            message_id: entry.message.is_some().then_some(entry.key),
            text: entry.message.and_then(|message| message.text),
            outcome,
            from: entry.from,
            to: entry.to,
            event: entry.event,
            success: entry.success,
            rule: why.as_ref().map(|why| why.rule),
            intent: why.and_then(|why| why.intent),
            code: entry.code,
            reason: entry.reason,
            reply,
        }
    }
}

/// # Errors
/// When the store cannot be reached.
pub fn page(store: &dyn Store, query: &ShadowQuery) -> Result<Page<Line>, LoadError> {
    let mut reading = Reading { store, query, lines: Vec::new() };
    let next = reading.run()?;
    Ok(Page { data: reading.lines, next })
}

struct Reading<'a> {
    store: &'a dyn Store,
    query: &'a ShadowQuery,
    lines: Vec<Line>,
}

impl Reading<'_> {
    /// Reads until the page is full or nothing is left; where it goes on, if it does. A cursor is the last session
    /// that was read whole, or `session/place` within the one that was not.
    fn run(&mut self) -> Result<Option<String>, LoadError> {
        // The last session that was read whole; those before it in time are still to come.
        let mut done = self.query.cursor.clone();
        if let Some((session, place)) = self.query.cursor.as_deref().and_then(|at| at.split_once('/')) {
            if let Some(snapshot) = self.broken_off(session)?
                && let Some(next) = self.session(&snapshot, Some(place.to_owned()))?
            {
                return Ok(Some(next));
            }
            done = Some(session.to_owned());
        }
        for _ in 0..SESSIONS_MAX / SESSIONS_AT_ONCE {
            let sessions = self.store.instances(&InstanceQuery {
                machine: Some(self.query.machine.clone()),
                subject: self.query.subject.clone(),
                cursor: done.clone(),
                limit: SESSIONS_AT_ONCE,
                ..InstanceQuery::of(self.query.tenant.shadow())
            })?;
            for snapshot in &sessions.data {
                if self.lines.len() >= self.query.limit {
                    return Ok(done);
                }
                if let Some(next) = self.session(snapshot, None)? {
                    return Ok(Some(next));
                }
                done = Some(snapshot.instance.to_string());
            }
            if sessions.next.is_none() {
                return Ok(None);
            }
            done = sessions.next;
        }
        Ok(done)
    }

    /// The session that the page before has not read to its end. A damaged one is left out, as in every list.
    fn broken_off(&self, session: &str) -> Result<Option<Snapshot>, LoadError> {
        let Ok(session) = InstanceId::parse(session) else { return Ok(None) };
        match self.store.load(&self.query.tenant.shadow(), &session) {
            Err(LoadError::Corrupt { .. }) => Ok(None),
            found => Ok(found?.filter(|snapshot| snapshot.machine == self.query.machine)),
        }
    }

    /// Reads on in one session; where to go on in it, if the page is full before its end.
    fn session(&mut self, snapshot: &Snapshot, place: Option<String>) -> Result<Option<String>, LoadError> {
        let limit = self.query.limit - self.lines.len();
        let (tenant, instance) = (snapshot.tenant.clone(), snapshot.instance.clone());
        let history = self.store.history(&HistoryQuery {
            cursor: place,
            limit,
            ..HistoryQuery::of(tenant, instance)
        })?;
        self.lines
            .extend(history.data.into_iter().map(|entry| Line::of(snapshot, self.query.veil.entry(entry))));
        Ok(history.next.map(|next| format!("{}/{next}", snapshot.instance)))
    }
}

/// How many messages would have come to what.
#[derive(Debug, Default, Serialize)]
pub struct Summary {
    messages: u64,
    outcomes: BTreeMap<&'static str, u64>,
    /// Whether all there is has been counted, or the newest sessions only.
    complete: bool,
}

/// # Errors
/// When the store cannot be reached.
pub fn summary(store: &dyn Store, query: &ShadowQuery) -> Result<Summary, LoadError> {
    let mut summary = Summary::default();
    let mut query = ShadowQuery { limit: 1_000, ..query.clone() };
    for _ in 0..COUNTED_MAX / query.limit {
        let page = page(store, &query)?;
        for outcome in page.data.iter().filter_map(|line| line.outcome) {
            summary.messages += 1;
            *summary.outcomes.entry(outcome.as_str()).or_default() += 1;
        }
        query.cursor = page.next;
        if query.cursor.is_none() {
            summary.complete = true;
            break;
        }
    }
    Ok(summary)
}
