//! A conversation to try out: what somebody would say, beside the diagram, on a clock that they move. Nothing is saved.
//!
//! The server keeps nothing of it: with each step all steps come again and are played from the beginning, over a store
//! in memory. So a step can be taken back, and any server can play it.

use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use engine::{Clock, Engine, EngineError, Machines, Settings};
use kernel::commit::{Answer, Entry};
use kernel::conversation::{Media, Message, Reply, ReplyOption};
use kernel::decide::waiting_for;
use kernel::diagram::Overlay;
use kernel::id::{InputKey, MachineName, Subject, TenantId};
use kernel::input::{Cause, Fields, Input, Start};
use kernel::machine::Machine;
use kernel::snapshot::Snapshot;
use kernel::time::{Delay, Timestamp};
use serde::Deserialize;
use store::{HistoryQuery, MemoryStore};

use crate::access::sight::Veil;
use crate::dashboard::instance::why_lines;
use crate::dashboard::page::{Frame, page};
use crate::dashboard::words::{self, FieldRow, When};
use crate::http::Shared;
use crate::http::problem::Problem;
use crate::http::request::{Body, Caller, Segments};
use crate::pictures::Pictures;

/// A conversation that is tried out is short.
const STEPS_MAX: usize = 100;
const ADVANCE_MAX: Delay = Delay::from_secs(30 * 86_400);
/// How far from now it may have begun: times have an end.
const BEGAN_MAX: Delay = Delay::from_secs(10 * 365 * 86_400);

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Conversation {
    /// When it began; now, if it has not.
    began: Option<Timestamp>,
    locale: Option<String>,
    #[serde(default)]
    steps: Vec<Step>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Step {
    Say(String),
    /// The button with this id.
    Press(String),
    Photo(String),
    Event(String),
    Advance(Delay),
}

#[derive(Template)]
#[template(path = "simulator.html")]
struct SimulatorPage {
    frame: Frame,
    machine: String,
    version: u32,
    began: String,
    locales: Vec<String>,
    bubbles: Vec<Bubble>,
    /// What may be pressed now.
    buttons: Vec<ReplyOption>,
    states: Vec<Arc<str>>,
    closed: Option<String>,
    picture: String,
    events: Vec<String>,
    timers: Vec<(String, When)>,
    context: Vec<FieldRow>,
    why: Vec<String>,
    now: String,
}

struct Bubble {
    /// `mine`, `theirs` or `aside`.
    kind: &'static str,
    text: String,
}

pub async fn show(
    State(app): State<Shared>,
    Segments(name): Segments<MachineName>,
    caller: Caller,
) -> Result<Response, Problem> {
    answer(app, &name, caller, Conversation::default()).await
}

pub async fn play(
    State(app): State<Shared>,
    Segments(name): Segments<MachineName>,
    caller: Caller,
    Body(conversation): Body<Conversation>,
) -> Result<Response, Problem> {
    answer(app, &name, caller, conversation).await
}

async fn answer(
    app: Shared,
    name: &MachineName,
    caller: Caller,
    conversation: Conversation,
) -> Result<Response, Problem> {
    let machine = app.engine.machines().current_for(&caller.tenant, name)?;
    if machine.conversation.is_none() {
        let detail = format!("the machine `{name}` has no `conversation` section to talk to");
        return Err(Problem::not_found(detail));
    }
    if conversation.steps.len() > STEPS_MAX {
        let detail = format!("a conversation that is tried out may have {STEPS_MAX} steps; begin again");
        return Err(Problem::bad_request("malformed_body", detail));
    }
    let now = app.engine.clock().now();
    let began = conversation.began.unwrap_or(now);
    if began.since(now).max(now.since(began)) > BEGAN_MAX {
        let detail = format!("a conversation cannot have begun at {began}, ten years or more from now");
        return Err(Problem::bad_request("malformed_body", detail));
    }
    let frame = Frame::of(&app, &caller, "machines", format!("Trying {name}"));
    let shown =
        app.read_in_turn(move |app| Rehearsal::play(machine, &conversation)?.page(frame, &app.pictures));
    Ok(page(200, &shown.await?))
}

/// A conversation that is being played.
struct Rehearsal {
    engine: Engine,
    machine: Arc<Machine>,
    tenant: TenantId,
    subject: Subject,
    began: Timestamp,
    bubbles: Vec<Bubble>,
    buttons: Vec<ReplyOption>,
    why: Vec<String>,
    inputs: usize,
}

impl Rehearsal {
    fn play(machine: Arc<Machine>, conversation: &Conversation) -> Result<Self, Problem> {
        let began = conversation.began.unwrap_or_else(|| Clock::System.now());
        let store = Arc::new(MemoryStore::new());
        let clock = Clock::virtual_at(began);
        let machines = Arc::new(Machines::default());
        let adopted = machines.adopt(&*store, machine, began);
        let machine = adopted.map_err(crate::http::refused_definition)?;
        let mut rehearsal = Self {
            engine: Engine::start(store, machines, clock, Settings::of_rehearsal()),
            machine,
            tenant: TenantId::default_tenant(),
            subject: Subject::parse("you")
                .map_err(|problem| Problem::bad_request("bad_identifier", problem))?,
            began,
            bubbles: Vec::new(),
            buttons: Vec::new(),
            why: Vec::new(),
            inputs: 0,
        };
        for step in &conversation.steps {
            rehearsal.step(step, conversation.locale.as_deref())?;
        }
        Ok(rehearsal)
    }

    fn step(&mut self, step: &Step, locale: Option<&str>) -> Result<(), Problem> {
        let message = match step {
            Step::Say(text) => Message::of_text(text),
            Step::Press(id) => Message { payload: Some(id.clone()), ..Message::default() },
            Step::Photo(url) => {
                let media = vec![Media { url: url.clone(), kind: "image/jpeg".into() }];
                Message { media, ..Message::default() }
            }
            Step::Event(event) => return self.event(event),
            Step::Advance(by) => return self.advance(*by),
        };
        let said = match step {
            Step::Press(id) => self.buttons.iter().find(|b| b.id == *id).map_or(id, |b| &b.label).clone(),
            Step::Photo(url) => format!("[photo {url}]"),
            _ => message.text.clone().unwrap_or_default(),
        };
        self.bubbles.push(Bubble { kind: "mine", text: said });
        let message = Message { locale: locale.map(str::to_owned), ..message };
        let (machine, subject) = (self.machine.name.clone(), self.subject.clone());
        let answer = self.submit(Cause::Message { machine, subject, message })?;
        self.told(&answer);
        Ok(())
    }

    fn submit(&mut self, cause: Cause) -> Result<Arc<Answer>, Problem> {
        self.inputs += 1;
        let input = self.input(&format!("step-{}", self.inputs), cause)?;
        Ok(self.engine.call(input)?.answer)
    }

    fn input(&self, key: &str, cause: Cause) -> Result<Input, Problem> {
        let key = InputKey::parse(key).map_err(|problem| Problem::bad_request("bad_key", problem))?;
        Ok(Input { tenant: self.tenant.clone(), key, cause, expected: None, by: None, trace: None })
    }

    fn aside(&mut self, text: String) {
        self.bubbles.push(Bubble { kind: "aside", text });
    }

    fn told(&mut self, answer: &Answer) {
        match answer {
            Answer::Message(answer) => {
                self.replies(&answer.reply);
                self.why = why_lines(&answer.why);
                self.aside(format!("{}, {}", answer.state, answer.outcome.as_str()));
            }
            Answer::Event(answer) => {
                self.replies(&answer.reply);
                self.aside(answer.state.clone());
            }
            Answer::Refused(refusal) => self.aside(format!("refused: {}", refusal.message)),
        }
    }

    fn replies(&mut self, replies: &[Reply]) {
        for reply in replies {
            self.bubbles.push(Bubble { kind: "theirs", text: reply.text.clone() });
            if !reply.options.is_empty() {
                self.buttons.clone_from(&reply.options);
            }
        }
    }

    fn event(&mut self, event: &str) -> Result<(), Problem> {
        let Some(session) = self.session()? else {
            self.aside("there is no session yet: say something first".to_owned());
            return Ok(());
        };
        self.aside(format!("event {event}"));
        let (instance, payload) = (session.instance, Fields::default());
        let answer = self.submit(Cause::Event { instance, event: event.to_owned(), payload })?;
        self.told(&answer);
        Ok(())
    }

    fn advance(&mut self, by: Delay) -> Result<(), Problem> {
        let before = self.log()?.len();
        self.engine.clock().advance(by.min(ADVANCE_MAX));
        self.engine.recover()?;
        self.aside(format!("{by} later"));
        // What was asked or said before is over.
        self.why.clear();
        for entry in self.log()?.iter().skip(before) {
            self.aside(format!("{} came", entry.event));
            self.told(&entry.answer);
        }
        Ok(())
    }

    fn session(&self) -> Result<Option<Snapshot>, Problem> {
        match self.engine.session(&self.tenant, &self.machine.name, &self.subject) {
            Err(EngineError::NotFound { .. }) => Ok(None),
            session => Ok(Some(session?)),
        }
    }

    fn log(&self) -> Result<Vec<Entry>, Problem> {
        let Some(session) = self.session()? else { return Ok(Vec::new()) };
        let (tenant, instance) = (self.tenant.clone(), session.instance);
        let query = HistoryQuery { limit: 1000, ..HistoryQuery::of(tenant, instance) };
        Ok(self.engine.store().history(&query).map_err(EngineError::from)?.data)
    }

    /// Where a session would begin, before anything has been said.
    fn begins_in(&self) -> Result<Vec<Arc<str>>, Problem> {
        let (machine, subject) = (self.machine.name.clone(), Some(self.subject.clone()));
        let (id, context, start) = (None, Fields::default(), Start::default());
        let input = self.input("begin", Cause::Create { machine, id, subject, context, start })?;
        Ok(match &*self.engine.try_creation(&input)?.answer {
            Answer::Event(answer) => answer.state.split(',').map(Arc::from).collect(),
            // It takes more than somebody who writes to it has given.
            Answer::Message(_) | Answer::Refused(_) => Vec::new(),
        })
    }

    fn page(self, frame: Frame, pictures: &Pictures) -> Result<SimulatorPage, Problem> {
        let (session, now) = (self.session()?, self.engine.clock().now());
        let begins_in = if session.is_none() { self.begins_in()? } else { Vec::new() };
        let waits = session.as_ref().map(|session| waiting_for(&self.machine, session, now));
        let active = session.as_ref().map_or(begins_in, |session| session.configuration.clone());
        let timers = waits.iter().flat_map(|waits| &waits.timers);
        let timers =
            timers.map(|due| (due.timer.event().to_string(), When::of(due.timer.deadline, now))).collect();
        let conversation = self.machine.conversation.as_ref();
        let overlay =
            Overlay { active: active.iter().map(ToString::to_string).collect(), ..Overlay::default() };
        Ok(SimulatorPage {
            frame,
            machine: self.machine.name.to_string(),
            version: self.machine.version,
            began: self.began.to_string(),
            locales: conversation.map(|conversation| conversation.locales.clone()).unwrap_or_default(),
            buttons: if session.as_ref().is_some_and(Snapshot::is_closed) {
                Vec::new()
            } else {
                self.buttons
            },
            bubbles: self.bubbles,
            closed: session.as_ref().and_then(|s| s.closure.as_ref()).map(|closure| closure.reason.clone()),
            picture: pictures.picture(&self.machine, &overlay),
            states: active,
            events: waits.map(|waits| waits.events).unwrap_or_default(),
            timers,
            context: session
                .map(|s| words::fields(&s.context, &Veil::of_definition(&self.machine)))
                .unwrap_or_default(),
            why: self.why,
            now: now.to_string(),
        })
    }
}
