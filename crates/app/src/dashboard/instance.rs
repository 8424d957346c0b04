//! The page of one instance: where it stands and why, what would move it, what was, and what can be done about it.

use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use engine::replay;
use kernel::commit::{Answer, Entry, EntryCause};
use kernel::conversation::{ReplyOption, Why};
use kernel::decide::{WaitingFor, waiting_for};
use kernel::flow::FlowView;
use kernel::id::{InstanceId, Revision, Subject};
use kernel::machine::Machine;
use kernel::refusal::Considered;
use kernel::snapshot::{Snapshot, Stuck};
use kernel::time::Timestamp;
use serde::Deserialize;

use crate::access::Sight;
use crate::access::sight::Veil;
use crate::dashboard::page::{Frame, page};
use crate::dashboard::paging::{Pages, Place};
use crate::dashboard::words::{self, FieldRow, When, Word};
use crate::http::problem::Problem;
use crate::http::request::{Asked, Caller, Segments, segment};
use crate::http::{App, Shared};
use crate::log_end::back_from;
use crate::pictures::{self, overlay_along, overlay_of_flow};

/// Entries on one page of the timeline.
const SHOWN_MAX: usize = 200;

#[derive(Template)]
#[template(path = "instance.html")]
struct InstancePage {
    frame: Frame,
    id: String,
    segment: String,
    machine: String,
    version: u32,
    /// The version that is current, if it is another.
    current: Option<u32>,
    subject: Option<String>,
    states: Vec<Arc<str>>,
    is_flow: bool,
    revision: Revision,
    latest: Revision,
    is_past: bool,
    created: When,
    updated: When,
    closed: Option<(String, When)>,
    marks: Vec<Mark>,
    picture: String,
    waits: Option<Waits>,
    context: Vec<FieldRow>,
    entries: Vec<EntryRow>,
    /// Which entries they are.
    part: String,
    pages: Pages,
    takes_messages: bool,
    commands: Commands,
}

/// What its forms do, as command lines.
struct Commands {
    send: String,
    event: String,
    recover: String,
}

impl Commands {
    fn of(snapshot: &Snapshot) -> Self {
        let (id, machine) = (snapshot.instance.as_str(), snapshot.machine.as_str());
        let subject = snapshot.subject.as_ref().map(Subject::as_str).unwrap_or_default();
        let said = [Word::Is(machine), Word::Is(subject), Word::Field("text")];
        Self {
            send: words::command(&["statewright", "send"], &said, &[]),
            event: words::command(
                &["statewright", "event"],
                &[Word::Is(id), Word::Field("event")],
                &[("--payload", "payload")],
            ),
            recover: words::command(&["statewright", "recover"], &[Word::Is(id)], &[("--reason", "reason")]),
        }
    }
}

/// What should catch the eye.
struct Mark {
    kind: &'static str,
    text: String,
    meaning: String,
}

struct Waits {
    events: Vec<String>,
    timers: Vec<TimerRow>,
    calls: Vec<(String, String)>,
    question: Option<Question>,
}

struct TimerRow {
    name: String,
    when: When,
    leads: String,
}

struct Question {
    id: String,
    text: String,
    options: Vec<ReplyOption>,
    expires: When,
}

struct EntryRow {
    anchor: String,
    revision: Revision,
    when: When,
    event: String,
    from: String,
    to: String,
    success: bool,
    outcome: Option<&'static str>,
    said: Option<String>,
    replies: Vec<String>,
    by: Option<String>,
    reason: Option<String>,
    code: Option<String>,
    looping: Option<u32>,
    payload: Vec<FieldRow>,
    why: Vec<String>,
    key: String,
    trace_id: Option<String>,
    is_shown: bool,
    /// Whether it ended the instance, and the reason says how.
    closes: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShowQuery {
    revision: Option<Revision>,
    /// Which page of its history is wanted.
    #[serde(default)]
    cursor: String,
    #[serde(default)]
    page: String,
    #[serde(default)]
    trail: String,
}

pub async fn show(
    State(app): State<Shared>,
    Segments(id): Segments<InstanceId>,
    caller: Caller,
    Asked(asked): Asked<ShowQuery>,
) -> Result<Response, Problem> {
    let frame = Frame::of(&app, &caller, "instances", id.as_str())
        .live(&format!("&instance={}", segment(id.as_str())));
    let shown = app.read_in_turn(move |app| instance_page(app, frame, &caller, &id, &asked));
    Ok(page(200, &shown.await?))
}

fn instance_page(
    app: &App,
    frame: Frame,
    caller: &Caller,
    id: &InstanceId,
    asked: &ShowQuery,
) -> Result<InstancePage, Problem> {
    let (engine, tenant, revision) = (&app.engine, &caller.tenant, asked.revision);
    let newest = engine.instance(tenant, id)?;
    let (latest, is_past) = (newest.revision, revision.is_some_and(|asked| asked != newest.revision));
    let snapshot = match revision.filter(|_| is_past) {
        Some(revision) => replay::at(engine, tenant, id, revision)?,
        None => newest,
    };
    let real_now = engine.clock().now();
    let now = if is_past { snapshot.updated_at } else { real_now };
    let machine = engine.machines().of(&snapshot).ok();
    let timeline = Timeline::read(app, &snapshot, asked)?;
    let machine = machine.as_deref();
    // No page shows what is secret; what was said, it shows to whoever may see it.
    let veil = Sight::Masked.over(engine.machines(), &snapshot);
    let said = caller.sight().over(engine.machines(), &snapshot);
    let current = engine.machines().current_for(tenant, &snapshot.machine).ok();
    let waits = machine.filter(|_| !snapshot.is_closed()).map(|machine| waiting_for(machine, &snapshot, now));
    let draw = |machine: &Machine| {
        let overlay = match FlowView::of(machine, &snapshot, now) {
            Some(view) => overlay_of_flow(&view),
            None => overlay_along(machine, &snapshot, timeline.way.iter().rev()),
        };
        app.pictures.picture(machine, &overlay)
    };
    Ok(InstancePage {
        frame,
        id: id.to_string(),
        segment: segment(id.as_str()),
        machine: snapshot.machine.to_string(),
        version: snapshot.version,
        current: current.map(|current| current.version).filter(|version| *version != snapshot.version),
        subject: snapshot.subject.as_ref().map(ToString::to_string),
        states: snapshot.configuration.clone(),
        is_flow: snapshot.flow.is_some(),
        revision: snapshot.revision,
        latest,
        is_past,
        created: When::of(snapshot.created_at, real_now),
        updated: When::of(snapshot.updated_at, real_now),
        closed: snapshot
            .closure
            .as_ref()
            .map(|closure| (closure.reason.clone(), When::of(closure.at, real_now))),
        marks: if is_past { Vec::new() } else { marks(app, &snapshot, now) },
        picture: machine.map(draw).unwrap_or_default(),
        waits: waits.map(|waits| Waits::of(waits, now)),
        context: words::fields(&snapshot.context, &veil),
        part: timeline.part(),
        entries: timeline
            .entries
            .into_iter()
            .map(|entry| EntryRow::of(said.entry(entry), &veil, snapshot.revision, real_now))
            .collect(),
        pages: timeline.pages,
        commands: Commands::of(&snapshot),
        takes_messages: snapshot.subject.is_some()
            && machine.is_some_and(|machine| machine.conversation.is_some()),
    })
}

/// A page of the log, and the way that the instance came.
struct Timeline {
    /// The newest first, as the way.
    entries: Vec<Entry>,
    way: Vec<Entry>,
    pages: Pages,
}

impl Timeline {
    fn read(app: &App, snapshot: &Snapshot, asked: &ShowQuery) -> Result<Self, Problem> {
        let place = Place::of(&asked.cursor, &asked.page, &asked.trail);
        let page = back_from(&app.engine, snapshot, place.cursor(), SHOWN_MAX)?;
        let path = format!("/instances/{}", segment(snapshot.instance.as_str()));
        let revision = asked.revision.map(|revision| revision.to_string()).unwrap_or_default();
        let mut pages = place.pages(&path, &[("revision", &revision)], page.next.as_deref());
        if asked.revision.is_some() {
            pages.newest = Some(path);
        }
        let is_whole = place.is_first() && page.next.is_none();
        let way = match &snapshot.flow {
            _ if is_whole => page.data.clone(),
            // Of a flow the phases are shown, not the way.
            Some(_) => Vec::new(),
            None if place.is_first() => {
                let older = back_from(&app.engine, snapshot, page.next, pictures::ENTRIES - SHOWN_MAX)?;
                [page.data.clone(), older.data].concat()
            }
            None => back_from(&app.engine, snapshot, None, pictures::ENTRIES)?.data,
        };
        Ok(Self { entries: page.data, way, pages })
    }

    fn part(&self) -> String {
        let count = words::thousands(self.entries.len() as u64);
        match (self.entries.first(), self.entries.last()) {
            (Some(newest), Some(oldest)) if self.pages.are_several() => {
                let [from, to] = [oldest, newest].map(|entry| words::thousands(entry.revision.0));
                format!("{}{count} entries, of the revisions {from} to {to}", self.pages.said())
            }
            _ => format!("{count} entries"),
        }
    }
}

fn marks(app: &App, snapshot: &Snapshot, now: Timestamp) -> Vec<Mark> {
    let mut marks = Vec::new();
    if let Some(stuck) = snapshot.stuck(app.engine.stuck_by()) {
        let meaning = match stuck {
            Stuck::DeadEnd => "No event, no timer and no call leads on from here: recover it.",
            Stuck::Overdue => "A timer is due and does not fire: see whether the server keeps up.",
            Stuck::Silent => "It waits for somebody, with no way out by time, and nobody comes.",
        };
        marks.push(Mark { kind: "bad", text: "stuck".to_owned(), meaning: meaning.to_owned() });
    }
    if let Some(looping) = snapshot.looping.as_ref().filter(|looping| looping.until > now) {
        let meaning = format!("{} to {} by {}, again and again", looping.from, looping.to, looping.event);
        marks.push(Mark { kind: "warn", text: format!("looping, {} times", looping.count), meaning });
    }
    if snapshot.conversation.as_ref().is_some_and(|conversation| conversation.handed_over) {
        let meaning = "A person has taken over: what is said is recorded and not answered.".to_owned();
        marks.push(Mark { kind: "warn", text: "handed over".to_owned(), meaning });
    }
    marks
}

impl Waits {
    fn of(waits: WaitingFor, now: Timestamp) -> Self {
        let timers = waits.timers.into_iter().map(|due| TimerRow {
            name: due.timer.event().to_string(),
            when: When::of(due.timer.deadline, now),
            leads: leads(&due.considered),
        });
        let question = waits.clarification.map(|asked| Question {
            id: asked.id,
            text: asked.question,
            options: asked.options,
            expires: When::of(asked.expires_at, now),
        });
        Self {
            events: waits.events,
            timers: timers.collect(),
            calls: waits.calls.into_iter().map(|call| (call.id.to_string(), call.src.to_string())).collect(),
            question,
        }
    }
}

/// Where a timer would lead as things are.
fn leads(all: &[Considered]) -> String {
    match all.iter().find(|considered| considered.chosen) {
        Some(chosen) if chosen.target.is_empty() => "would change no state".to_owned(),
        Some(chosen) => format!("would lead to {}", chosen.target.join(", ")),
        None => "would lead nowhere".to_owned(),
    }
}

/// What was thought of a transition, in a line.
fn considered(considered: &Considered) -> String {
    let Considered { state, event, target, chosen, guard } = considered;
    let verdict = match guard {
        Some(guard) if guard.passed => format!(", as {} holds", guard.expression),
        Some(guard) => {
            let values: Vec<String> =
                guard.values.iter().map(|(name, value)| format!("{name} is {value}")).collect();
            let why = guard.error.clone().unwrap_or_else(|| values.join(", "));
            format!(", but {} does not hold: {why}", guard.expression)
        }
        None => String::new(),
    };
    let to = if target.is_empty() { "stays".to_owned() } else { format!("leads to {}", target.join(", ")) };
    let would = if *chosen { "" } else { " is passed over," };
    format!("{event} in {}{would} {to}{verdict}", if state.is_empty() { "any state" } else { state })
}

impl EntryRow {
    fn of(entry: Entry, veil: &Veil, shown: Revision, now: Timestamp) -> Self {
        let (outcome, replies, why) = match &entry.answer {
            Answer::Message(answer) => {
                (Some(answer.outcome.as_str()), &answer.reply[..], why_lines(&answer.why))
            }
            Answer::Event(answer) => (None, &answer.reply[..], Vec::new()),
            Answer::Refused(refusal) => {
                let refusal = veil.refusal(refusal.clone());
                (None, &[][..], refusal.explain.iter().map(considered).collect())
            }
        };
        let replies =
            replies.iter().map(|reply| reply.text.clone()).filter(|text| !text.is_empty()).collect();
        let chosen = match &entry.cause {
            Some(EntryCause::Answer { option, .. }) => Some(format!("chose {option}")),
            _ => None,
        };
        let said = entry.message.as_ref().and_then(|message| message.text.clone()).or(chosen);
        Self {
            anchor: words::anchor(&format!("{} {}", entry.revision, entry.key)),
            revision: entry.revision,
            when: When::of(entry.at, now),
            is_shown: entry.success && entry.revision == shown,
            closes: closes(&entry.answer),
            event: entry.event,
            from: entry.from,
            to: entry.to,
            success: entry.success,
            outcome,
            said,
            replies,
            by: entry.by,
            reason: entry.reason,
            code: entry.code,
            looping: entry.looping,
            payload: words::payload(&entry.payload, veil),
            why,
            key: entry.key.to_string(),
            trace_id: entry.trace_id,
        }
    }
}

fn closes(answer: &Answer) -> bool {
    match answer {
        Answer::Message(answer) => answer.closure_reason.is_some(),
        Answer::Event(answer) => answer.closure_reason.is_some(),
        Answer::Refused(_) => false,
    }
}

/// Which rule decided, and what each of those before it said.
pub fn why_lines(why: &Why) -> Vec<String> {
    let intent = why.intent.as_ref().map(|intent| {
        format!(
            "understood as {intent}, {} before and {} after what is known of the session",
            percent(why.raw),
            percent(why.adjusted)
        )
    });
    let steps = why.trace.iter().map(|step| {
        format!("{:?} {}: {}", step.rule, if step.applied { "decided" } else { "passed" }, step.because)
    });
    intent.into_iter().chain(steps).collect()
}

fn percent(basis_points: u16) -> String {
    format!("{:.2}", f64::from(basis_points) / 10_000.0)
}
