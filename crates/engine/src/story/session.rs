//! A session that was lived, told as a story: what came in and when, and what came of it.
//!
//! What a story cannot say stands in comments at its head, and so does what did not come true when the story was played
//! here before it was handed out.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use kernel::commit::{Answer, EffectKind, Entry, EntryCause, EventAnswer, MessageAnswer};
use kernel::conversation::{Message, Reply};
use kernel::decide::CLARIFICATION_TIMER;
use kernel::id::{InstanceId, TenantId};
use kernel::input::{CallOutcome, Cause};
use kernel::machine::Machine;
use kernel::snapshot::{BroughtIn, Snapshot};
use kernel::time::Timestamp;
use store::{LoadError, Store};

use super::expect::{moves_of, replies_of};
use super::stage::{self, HISTORY_MAX};
use super::write::{self, WrittenStory, block_scalar, entries, map, scalar, texts};
use super::{file, names};
use crate::{Engine, EngineError, replay};

/// A longer story is not played before it is handed out: playing looks at all of the log after every step.
const PLAYED_MAX: usize = 1_000;

/// Why a session was not told.
#[derive(Clone, Debug, PartialEq)]
pub enum SessionStoryError {
    Engine(EngineError),
    /// A part of its log is no longer there, or says too little.
    Incomplete(String),
}

impl fmt::Display for SessionStoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Engine(error) => error.fmt(f),
            Self::Incomplete(why) => write!(f, "the session cannot be told: {why}"),
        }
    }
}

impl std::error::Error for SessionStoryError {}

impl From<EngineError> for SessionStoryError {
    fn from(error: EngineError) -> Self {
        Self::Engine(error)
    }
}

impl From<LoadError> for SessionStoryError {
    fn from(error: LoadError) -> Self {
        Self::Engine(error.into())
    }
}

/// A story file of one instance; `machine` names its definition as seen from that file.
///
/// # Errors
/// When there is no such instance, or its log does not hold all of it.
pub fn of_session(
    engine: &Engine,
    tenant: &TenantId,
    instance: &InstanceId,
    machine: &Path,
) -> Result<String, SessionStoryError> {
    let store = engine.store();
    let snapshot = engine.instance(tenant, instance)?;
    if snapshot.began_by.is_some() {
        let why = "it began by another definition and was migrated, and a story is of one".to_owned();
        return Err(SessionStoryError::Incomplete(why));
    }
    if snapshot.brought_in == Some(BroughtIn::Withdrawn) {
        let why = "it was brought in and withdrawn, so that there is nothing to tell".to_owned();
        return Err(SessionStoryError::Incomplete(why));
    }
    let pinned = engine.machines().of(&snapshot)?;
    let mut log = replay::log(store, &snapshot, HISTORY_MAX)?;
    if let Some(why) = replay::missing(&snapshot, &log) {
        return Err(SessionStoryError::Incomplete(why));
    }
    // What was before it was brought in again is gone.
    log.drain(..log.iter().rposition(Entry::is_again).unwrap_or_default());
    let current = engine.machines().current_for(tenant, &snapshot.machine).ok();
    let mut teller = Teller::new(&snapshot, &log);
    if current.is_none_or(|current| current.hash != pinned.hash) {
        teller.note("The session is pinned to another text of the definition than the current one.");
    }
    if log.len() == HISTORY_MAX {
        teller.note(format!("Only the first {HISTORY_MAX} inputs are told."));
    }
    let story = teller.story(store, &pinned)?;
    let written = write::file(&machine.to_string_lossy(), &[story]);
    if log.len() > PLAYED_MAX {
        teller
            .note(format!("It has more than {PLAYED_MAX} inputs and was not played before it was written."));
    } else if let Some(failure) = played(&pinned, &written) {
        teller.note("Played here, it did not come true:");
        failure.lines().for_each(|line| teller.note(format!("  {line}")));
    }
    Ok(teller.head() + &written)
}

/// What went otherwise than told when the file was read back and played.
fn played(machine: &Arc<Machine>, written: &str) -> Option<String> {
    let mut diagnostics = Vec::new();
    let read = file::read(written, &mut diagnostics);
    if let Some(file) = &read {
        names::check(file, machine, &mut diagnostics);
    }
    if let Some(wrong) = diagnostics.first() {
        return Some(wrong.message.clone());
    }
    let read = read?;
    stage::play(machine, read.stories.first()?).failure.map(|(_, told)| told)
}

/// One step: what came in, and the timers that fired along with it.
#[derive(Default)]
struct Happening<'e> {
    at: Timestamp,
    /// Fired before the input was decided on.
    earlier: Vec<&'e Entry>,
    input: Option<&'e Entry>,
    /// Due as soon as they were set.
    later: Vec<&'e Entry>,
}

impl<'e> Happening<'e> {
    fn entries(&self) -> impl Iterator<Item = &'e Entry> {
        self.earlier.iter().copied().chain(self.input).chain(self.later.iter().copied())
    }
}

fn timer(entry: &Entry) -> Option<(&str, Timestamp)> {
    match &entry.cause {
        Some(EntryCause::Timer { id, deadline }) => Some((id, *deadline)),
        _ => None,
    }
}

/// Timers and inputs as a story takes them: all that is due at the time of a step is fired in it. A question's own timer
/// is left alone while a message is taken, so one that fired before a message needs a step to itself.
fn happenings(log: &[Entry]) -> Vec<Happening<'_>> {
    let mut told: Vec<Happening<'_>> = Vec::new();
    for entry in log {
        let last = told.last_mut();
        match (timer(entry), last) {
            (Some((_, deadline)), Some(last)) if deadline <= last.at => match last.input {
                Some(_) => last.later.push(entry),
                None => last.earlier.push(entry),
            },
            (Some(_), _) => {
                told.push(Happening { at: entry.at, earlier: vec![entry], ..Happening::default() });
            }
            (None, Some(last))
                if last.input.is_none()
                    && last.at == entry.at
                    && last
                        .earlier
                        .iter()
                        .all(|e| timer(e).is_none_or(|(id, _)| id != CLARIFICATION_TIMER)) =>
            {
                last.input = Some(entry);
            }
            (None, _) => told.push(Happening { at: entry.at, input: Some(entry), ..Happening::default() }),
        }
    }
    told
}

struct Teller<'e> {
    snapshot: &'e Snapshot,
    log: &'e [Entry],
    /// What the reader has to know beforehand.
    notes: Vec<String>,
    /// Tokens and labels of the last reply that had buttons.
    buttons: Vec<(String, String)>,
    /// Questions in the order of asking, each with its options' ids and labels.
    asked: Vec<(String, Vec<(String, String)>)>,
    /// Calls in the order in which they were made: key and id.
    calls: Vec<(String, String)>,
}

impl<'e> Teller<'e> {
    fn new(snapshot: &'e Snapshot, log: &'e [Entry]) -> Self {
        let (notes, buttons, asked, calls) = Default::default();
        Self { snapshot, log, notes, buttons, asked, calls }
    }

    fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    fn head(&self) -> String {
        let Snapshot { instance, machine, version, definition, .. } = self.snapshot;
        let span = match self.log {
            [] => String::new(),
            [first, .., last] if first.at != last.at => format!(", from {} to {}", first.at, last.at),
            [first, ..] => format!(", at {}", first.at),
        };
        let hash: String = definition.as_str().chars().take(12).collect();
        let mut head = format!(
            "# What happened in {instance}{span}, by version {version} of {machine} ({hash}…).\n# A message that came twice is told once.\n"
        );
        for note in &self.notes {
            head.push_str(&format!("# {}\n", note.replace(char::is_control, " ")));
        }
        head
    }

    fn story(&mut self, store: &dyn Store, machine: &Machine) -> Result<WrittenStory, SessionStoryError> {
        let start = self.log.first().map_or(Timestamp::EPOCH, |entry| entry.at);
        let given = self.given(store, machine, start)?;
        let mut steps = Vec::new();
        let mut now = start;
        for happening in happenings(self.log) {
            let Some(mut lines) = self.act(&happening) else { continue };
            if happening.at < now {
                self.note(format!(
                    "The clock went back at revision {}; the story's does not.",
                    self.revision(&happening)
                ));
            } else if happening.at > now {
                now = happening.at;
                lines.insert(0, format!("at: {}", now.since(start)));
            }
            lines.push(format!("expect: {}", expectations(&happening)));
            steps.push(lines);
            self.remember(&happening);
        }
        Ok(WrittenStory { name: format!("session {}", self.snapshot.instance), given: Some(given), steps })
    }

    fn revision(&self, happening: &Happening<'_>) -> u64 {
        happening.entries().last().map_or(0, |entry| entry.revision.0)
    }

    /// When the story begins, and with what.
    fn given(
        &mut self,
        store: &dyn Store,
        machine: &Machine,
        start: Timestamp,
    ) -> Result<String, SessionStoryError> {
        let mut given = vec![("time", scalar(&start.to_string()))];
        let first = self.log.first().and_then(|entry| entry.input(self.snapshot));
        if let Some(Cause::Create { context, start, .. }) = first.map(|input| input.cause) {
            given.push(("context", map(&context)));
            if !start.booleans.is_empty() {
                given.push(("booleans", map(&start.booleans)));
            }
            if let Some(former) = &start.former {
                self.note("It came from another system; in a story, it does what is done on the way in.");
                given.push(("state", scalar(&former.state)));
            }
            if let Some(parent) = &start.parent {
                self.note(format!(
                    "It is a phase of the flow {}, which a story does not have.",
                    parent.instance
                ));
            }
            return Ok(entries(&given));
        }
        match replay::former(store, self.snapshot)? {
            Some(former) => {
                let left = former.conversation.as_deref();
                let locale = left.and_then(|left| left.locale.as_deref());
                let spoken =
                    |tag: &&str| machine.conversation.as_ref().is_some_and(|c| c.base_locale(tag).is_some());
                let mut told = Vec::new();
                match locale {
                    Some(locale) if spoken(&locale) => told.push(("locale", scalar(locale))),
                    Some(locale) => {
                        self.note(format!(
                            "The session before it spoke `{locale}`, which the definition does not."
                        ));
                    }
                    None => {}
                }
                if left.is_some_and(|left| left.handed_over) {
                    told.push(("handed_over", "true".to_owned()));
                }
                if !told.is_empty() {
                    given.push(("left", entries(&told)));
                }
            }
            None if self.snapshot.ordinal > 1 => {
                self.note("What the session before it left (language, a hand-over) is not known any more.");
            }
            None => {}
        }
        Ok(entries(&given))
    }

    /// The lines of what was done; `None` for what a story cannot say, which then is noted.
    fn act(&mut self, happening: &Happening<'_>) -> Option<Vec<String>> {
        let Some(entry) = happening.input else { return Some(Vec::new()) };
        let input = entry.input(self.snapshot)?;
        let told = match &input.cause {
            Cause::Create { .. } | Cause::Timer { .. } => Some(Vec::new()),
            Cause::Message { message, .. } => Some(vec![self.said(message)]),
            Cause::Event { event, payload, .. } => {
                let mut lines = vec![format!("event: {}", block_scalar(event))];
                if !payload.is_empty() {
                    lines.push(format!("payload: {}", map(payload)));
                }
                Some(lines)
            }
            Cause::Answer { clarification, option, .. } => {
                self.answered(clarification, option).map(|line| vec![line])
            }
            // A flow knows which phase it was for.
            Cause::Result { outcome, .. } if self.snapshot.flow.is_some() && entry.success => {
                entry.event.strip_suffix(".result").map(|phase| result(phase, outcome))
            }
            Cause::Result { call, outcome, .. } => self.brought(call, outcome),
            Cause::Recover { reason, .. } => Some(vec![format!("recover: {}", block_scalar(reason))]),
            // There is no story of an instance that was migrated or withdrawn.
            Cause::Migrate { .. } | Cause::Withdraw { .. } => None,
        };
        // Who brings a result is said by the call that it is of.
        let said = entry.event != "create" && !matches!(input.cause, Cause::Result { .. });
        let by = input.by.as_ref().filter(|_| self.snapshot.flow.is_some() && said);
        let by = by.map(|by| format!("by: {}", block_scalar(by)));
        let told = told.map(|lines| lines.into_iter().chain(by).collect());
        if told.is_none() {
            let code = entry.code.as_deref().unwrap_or("taken");
            self.note(format!(
                "Not told: `{}` at {} ({code}), which speaks of a question or a call that this log does not know.",
                entry.event, entry.at
            ));
        }
        told
    }

    fn said(&self, message: &Message) -> String {
        let token = message.payload.as_deref();
        let pressed = self.buttons.iter().position(|(id, _)| Some(id.as_str()) == token);
        match pressed.filter(|_| write::fields(message).len() == 1) {
            Some(at) => format!("button: {}{}", at + 1, comment(&self.buttons[at].1)),
            None => format!("send: {}", write::message(message)),
        }
    }

    fn answered(&self, clarification: &str, option: &str) -> Option<String> {
        let question = self.asked.iter().position(|(id, _)| id == clarification)?;
        let options = &self.asked[question].1;
        let at = options.iter().position(|(id, _)| id == option)?;
        Some(match question + 1 == self.asked.len() {
            true => format!("answer: {}{}", at + 1, comment(&options[at].1)),
            false => format!("answer: {{ question: {}, option: {} }}", question + 1, at + 1),
        })
    }

    /// A story knows of the calls with one id only the last.
    fn brought(&self, call: &str, outcome: &CallOutcome) -> Option<Vec<String>> {
        let (_, id) = self.calls.iter().find(|(key, _)| key == call)?;
        let last = self.calls.iter().rev().find(|(_, other)| other == id)?;
        (last.0 == call).then(|| result(id, outcome))
    }

    fn remember(&mut self, happening: &Happening<'_>) {
        let shown = happening.input.map(|entry| replies_of(&entry.answer)).unwrap_or_default();
        if let Some(reply) = shown.iter().rev().find(|reply| !reply.options.is_empty()) {
            self.buttons = reply.options.iter().map(|o| (o.id.clone(), o.label.clone())).collect();
        }
        for entry in happening.entries() {
            if let Answer::Message(MessageAnswer { clarification: Some(asked), .. }) = &entry.answer
                && self.asked.iter().all(|(id, _)| *id != asked.id)
            {
                let options = asked.options.iter().map(|o| (o.id.clone(), o.label.clone())).collect();
                self.asked.push((asked.id.clone(), options));
            }
            let effects = match &entry.answer {
                Answer::Message(answer) => answer.effects.as_slice(),
                Answer::Event(answer) => answer.effects.as_slice(),
                Answer::Refused(_) => &[],
            };
            for effect in effects {
                if let EffectKind::Call { id, .. } = &effect.kind {
                    self.calls.push((effect.key.clone(), id.clone()));
                }
            }
        }
    }
}

/// What a call of this id came to.
fn result(id: &str, outcome: &CallOutcome) -> Vec<String> {
    let (key, fields) = match outcome {
        CallOutcome::Done(fields) => ("result", fields),
        CallOutcome::Failed(fields) => ("error", fields),
    };
    vec![format!("call: {}", block_scalar(id)), format!("{key}: {}", map(fields))]
}

/// Behind a number, what it stands for.
fn comment(label: &str) -> String {
    format!(" # {}", label.replace(|c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}'), " "))
}

fn expectations(happening: &Happening<'_>) -> String {
    let mut told: Vec<(&str, String)> = Vec::new();
    if let Some(entry) = happening.input {
        of_answer(entry, &mut told);
    }
    let last = happening.entries().last();
    // A state of that name cannot be expected: the word stands for nothing.
    if let Some(last) = last.filter(|last| last.to != "none" && !replay::is_refused(last)) {
        told.push(("state", scalar(&last.to)));
    }
    let moved: Vec<String> = happening
        .entries()
        .flat_map(moves_of)
        .map(|moved| format!("{} -> {}", moved.phase, moved.to))
        .collect();
    if !moved.is_empty() && happening.input.is_none_or(|entry| entry.event != "create") {
        told.push(("moved", texts(&moved.iter().map(String::as_str).collect::<Vec<_>>())));
    }
    let closure = happening.entries().filter_map(|entry| match &entry.answer {
        Answer::Message(answer) => answer.closure_reason.as_deref(),
        Answer::Event(answer) => answer.closure_reason.as_deref(),
        Answer::Refused(_) => None,
    });
    if let Some(reason) = closure.last().filter(|reason| *reason != "none") {
        told.push(("closure_reason", scalar(reason)));
    }
    let delivered: Vec<&str> = happening.entries().flat_map(delivered).map(|reply| &*reply.text).collect();
    if !delivered.is_empty() {
        told.push(("effects", texts(&delivered)));
    }
    if happening.entries().any(|entry| timer(entry).is_some()) {
        let entries: Vec<String> = happening.entries().map(logged).collect();
        told.push(("history", format!("[{}]", entries.join(", "))));
    }
    entries(&told)
}

/// What the sender of an input is told.
fn of_answer(entry: &Entry, told: &mut Vec<(&str, String)>) {
    if let Answer::Message(answer) = &entry.answer {
        told.push(("outcome", answer.outcome.as_str().to_owned()));
        told.push(("rule", format!("{:?}", answer.why.rule)));
        if let Some(intent) = answer.why.intent.as_deref().filter(|intent| *intent != "none") {
            told.push(("intent", scalar(intent)));
        }
    }
    // The code of a flow's entry may be that of the error with which a phase has failed.
    if let Some(code) = entry.code.as_ref().filter(|_| !entry.success || entry.message.is_some()) {
        told.push(("refused", scalar(code)));
    }
    // What a creation answers is not looked at: it is over when the first step begins. Flows say nothing.
    let of_flow = matches!(&entry.answer, Answer::Event(EventAnswer { flow: Some(_), .. }));
    if replay::is_refused(entry) || of_flow || entry.event == "create" {
        return;
    }
    let replies = replies_of(&entry.answer);
    let said: Vec<&str> = replies.iter().map(|reply| reply.text.as_str()).collect();
    told.push(("reply", texts(&said)));
    if let Some(last) = replies.last().filter(|reply| !reply.options.is_empty()) {
        let labels: Vec<String> = last.options.iter().map(|option| scalar(&option.label)).collect();
        told.push(("options", format!("[{}]", labels.join(", "))));
    }
}

/// What was said while nobody waited for an answer.
fn delivered(entry: &Entry) -> Vec<&Reply> {
    match (&entry.answer, &entry.cause) {
        (Answer::Event(answer), Some(EntryCause::Timer { .. } | EntryCause::Result { .. })) => {
            answer.reply.iter().collect()
        }
        _ => Vec::new(),
    }
}

fn logged(entry: &Entry) -> String {
    let mut told = vec![("event", scalar(&entry.event)), ("to", scalar(&entry.to))];
    if let Some(code) = &entry.code {
        told.push(("code", scalar(code)));
    }
    entries(&told)
}
