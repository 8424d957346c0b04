//! The stage: one story played against a real engine, over a store that forgets and a clock that waits to be told.
//!
//! The clock moves only while the shard is at rest, so that a story goes the same way every time: whatever came due
//! at an earlier step is done before the next begins.

use std::collections::BTreeMap;
use std::sync::Arc;

use kernel::commit::{Answer, Commit, Entry};
use kernel::conversation::{ClarificationStatus, ConversationState, Message};
use kernel::decide::{Placement, decide, place};
use kernel::diagnostic::Place;
use kernel::flow::{FlowView, teller_of};
use kernel::id::{InputKey, InstanceId, Subject, TenantId};
use kernel::input::{CallOutcome, Cause, Fields, Input, Start};
use kernel::machine::Machine;
use kernel::snapshot::{Closure, Invocation, Snapshot};
use kernel::time::{Delay, Timestamp};
use store::{HistoryQuery, MemoryStore, Outcome, Store};

use super::coverage::Walk;
use super::expect::{self, Seen, replies_of};
use super::file::{Act, Given, Left, Moment, Step, Story};
use crate::{Clock, Engine, Machines, Settings};

/// 2026-01-05T09:00:00Z, a Monday morning.
pub(super) const START_MS: i64 = 1_767_603_600_000;
pub(super) const SUBJECT: &str = "+15550001";
/// The instance of a machine that has no sessions.
pub(super) const INSTANCE: &str = "story";
/// The session before the story's own, in a story that says what it left.
const FORMER: &str = "former";
/// No story comes near.
pub(super) const HISTORY_MAX: usize = 10_000;

#[derive(Debug)]
pub(super) struct Played {
    pub steps: usize,
    pub failure: Option<(Place, String)>,
    /// The states and transitions that it went through, as far as it got.
    pub walk: Walk,
}

pub(super) fn play(machine: &Arc<Machine>, story: &Story) -> Played {
    let mut steps = 0;
    match Stage::set(machine, story) {
        Err(failure) => Played { steps, failure: Some(failure), walk: Walk::default() },
        Ok(mut stage) => {
            let failure = story.steps.iter().find_map(|step| {
                steps += 1;
                let told = stage.play(step).err()?;
                Some((step.place, format!("step {steps}: {told}")))
            });
            Played { steps, failure, walk: stage.walk }
        }
    }
}

/// What a story leaves in its store.
#[cfg(test)]
pub(super) fn store_after(machine: &Arc<Machine>, story: &Story) -> Arc<MemoryStore> {
    let mut stage = Stage::set(machine, story).unwrap();
    story.steps.iter().for_each(|step| stage.play(step).unwrap());
    Arc::clone(&stage.store)
}

struct Stage {
    store: Arc<MemoryStore>,
    clock: Clock,
    start: Timestamp,
    engine: Engine,
    machine: Arc<Machine>,
    subject: Subject,
    /// Of a machine without sessions, or of the first session if the story says how it begins.
    instance: InstanceId,
    /// How many inputs there were; the next one's key.
    inputs: usize,
    /// The tokens of the last reply that had buttons.
    buttons: Vec<String>,
    /// As it was written out.
    last_answer: Option<String>,
    /// The calls that were made last, by id: a result may come too late.
    calls: BTreeMap<String, Invocation>,
    /// The questions that were asked, each with its options.
    asked: Vec<(String, Vec<String>)>,
    walk: Walk,
}

impl Stage {
    fn set(machine: &Arc<Machine>, story: &Story) -> Result<Self, (Place, String)> {
        let given = story.given.as_ref();
        let start = given.and_then(|given| given.time).unwrap_or(Timestamp::from_millis(START_MS));
        let store = Arc::new(MemoryStore::new());
        let clock = Clock::virtual_at(start);
        let machines = Machines::default();
        let machine = machines
            .adopt(&*store, Arc::clone(machine), start)
            .map_err(|error| (story.place, error.to_string()))?;
        let subject = Subject::parse(SUBJECT).map_err(|error| (story.place, error))?;
        let instance = InstanceId::parse(INSTANCE).map_err(|error| (story.place, error))?;
        let given_place = given.map_or(story.place, |given| given.place);
        let at_given = |error: String| (given_place, format!("given: {error}"));
        let state = given.and_then(|given| Some(given.state.as_ref()?.value.as_str()));
        let mut placed = None;
        if let (Some(given), Some(state)) = (given, state) {
            let placement = Placement {
                tenant: &TenantId::default_tenant(),
                instance: &instance,
                subject: Some(&subject),
                state,
                context: &given.context,
                topic: given.topic.as_deref(),
            };
            placed = Some(begin(&*store, &machine, &placement, start).map_err(at_given)?);
        }
        if let Some(left) = given.and_then(|given| given.left.as_ref()) {
            leave(&*store, &machine, &subject, left, start).map_err(at_given)?;
        }
        let engine = start_engine(&store, machines, &clock);
        let mut stage = Self {
            store,
            clock,
            start,
            engine,
            machine,
            subject,
            instance,
            inputs: 0,
            buttons: Vec::new(),
            last_answer: None,
            calls: BTreeMap::new(),
            asked: Vec::new(),
            walk: Walk::default(),
        };
        let has_sessions = stage.machine.conversation.is_some();
        if state.is_none() && (given.is_some_and(|given| given.is_there) || !has_sessions) {
            placed = Some(stage.create(given).map_err(at_given)?);
        }
        if let Some(answer) = placed {
            stage.note_buttons(&answer);
            let chart = &stage.machine.chart;
            if let Some(state) = state {
                stage.walk.begin_at(chart, chart.by_path(state));
            }
            let log = stage.log(&stage.instance).map_err(at_given)?;
            for entry in &log {
                stage.walk.note(chart, entry);
            }
            stage.walk.note_flow(&log, None);
        }
        Ok(stage)
    }

    /// Begins where the machine begins.
    fn create(&self, given: Option<&Given>) -> Result<Answer, String> {
        let cause = Cause::Create {
            machine: self.machine.name.clone(),
            id: Some(self.instance.clone()),
            subject: Some(self.subject.clone()),
            context: given.map(|given| given.context.clone()).unwrap_or_default(),
            start: Start { booleans: self.booleans(given), ..Start::default() },
        };
        let input = keyed(InputKey::parse("given")?, cause);
        let submitted = self.engine.call(input).map_err(|error| error.to_string())?;
        match &*submitted.answer {
            Answer::Refused(refusal) => Err(refusal.message.clone()),
            answer => Ok(answer.clone()),
        }
    }

    /// What a flow that was begun elsewhere brings along.
    fn booleans(&self, given: Option<&Given>) -> Fields {
        let (Some(given), Some(flow)) = (given, &self.machine.flow) else { return Fields::new() };
        let phases = given.completed.iter().filter_map(|phase| flow.by_name(&phase.value));
        let completed = phases.map(|phase| (flow.phase(phase).boolean.to_string(), true.into()));
        given.booleans.clone().into_iter().chain(completed).collect()
    }

    /// # Errors
    /// What was not as expected.
    fn play(&mut self, step: &Step) -> Result<(), String> {
        self.rest()?;
        let before = self.session()?;
        let known = match &before {
            Some(session) => self.log(&session.instance)?.len(),
            None => 0,
        };
        let mut seen = Seen::default();
        if let Some(Act::Restart) = step.act {
            self.engine.stop();
        }
        self.move_clock(step.moment)?;
        match &step.act {
            Some(Act::Restart) => self.restart()?,
            Some(act) => {
                let input = self.input(act, step.key.clone(), step.by.clone())?;
                let submitted = self.engine.call(input).map_err(|error| error.to_string())?;
                let written = serde_json::to_string(&*submitted.answer).map_err(|error| error.to_string())?;
                seen.replayed = submitted.replayed;
                seen.same_answer = self.last_answer.as_ref() == Some(&written);
                self.last_answer = Some(written);
                self.note_buttons(&submitted.answer);
                seen.answer = Some(submitted.answer);
            }
            None => {}
        }
        self.rest()?;
        self.look(&mut seen, before.as_ref(), known)?;
        for call in seen.session.iter().flat_map(|session| &session.invocations) {
            self.calls.insert(call.id.to_string(), call.clone());
        }
        self.note_question(seen.session.as_ref());
        let mismatches = expect::compare(&step.expectations, &seen);
        if mismatches.is_empty() {
            return Ok(());
        }
        Err(format!("{}\n{}", mismatches.join("\n  "), seen.tell()))
    }

    /// Everything that is due has been done when this returns.
    fn rest(&self) -> Result<(), String> {
        self.engine.recover().map(|_| ()).map_err(|error| error.to_string())
    }

    fn move_clock(&self, moment: Option<Moment>) -> Result<(), String> {
        let now = self.clock.now().since(self.start);
        let by = match moment {
            None => Delay::ZERO,
            Some(Moment::After(delay)) => delay,
            Some(Moment::At(at)) if at < now => {
                return Err(format!("it is {now} already; time does not go back to {at}"));
            }
            Some(Moment::At(at)) => Delay::from_millis(at.as_millis() - now.as_millis()),
        };
        self.clock.advance(by);
        Ok(())
    }

    fn restart(&mut self) -> Result<(), String> {
        let machines = Machines::from_store(&*self.store).map_err(|error| error.to_string())?;
        // What a tenant has made of a machine is nobody's base when it comes from the store.
        let machine = Arc::clone(&self.machine);
        machines.adopt(&*self.store, machine, self.clock.now()).map_err(|error| error.to_string())?;
        self.engine = start_engine(&self.store, machines, &self.clock);
        Ok(())
    }

    fn input(&mut self, act: &Act, key: Option<InputKey>, by: Option<String>) -> Result<Input, String> {
        self.inputs += 1;
        let key = match key {
            Some(key) => key,
            None => InputKey::parse(&format!("m{}", self.inputs))?,
        };
        let cause = match act {
            Act::Send(message) => self.message((**message).clone()),
            Act::Button(number) => {
                let Some(token) = self.buttons.get(number - 1) else {
                    let count = self.buttons.len();
                    return Err(format!(
                        "there is no button {number}; the last reply that had any had {count}"
                    ));
                };
                self.message(Message { payload: Some(token.clone()), ..Message::default() })
            }
            Act::Event { event, payload } => Cause::Event {
                instance: self.instance()?,
                event: event.value.clone(),
                payload: payload.clone(),
            },
            Act::Answer { question, option } => self.answer(*question, *option)?,
            Act::Recover(reason) => Cause::Recover { instance: self.instance()?, reason: reason.clone() },
            Act::Call { id, outcome } => self.result(&id.value, outcome.clone())?,
            Act::Restart => return Err("a restart is no input".into()),
        };
        let by = match act {
            // Of another flow, that flow says what it has come to.
            Act::Call { id, .. } => self.calls.get(&id.value).and_then(teller_of),
            _ => by,
        };
        Ok(Input { by, ..keyed(key, cause) })
    }

    /// A choice among the options of a question, which may be settled by now.
    fn answer(&self, question: Option<usize>, option: usize) -> Result<Cause, String> {
        let count = self.asked.len();
        let Some((clarification, options)) = self.asked.get(question.unwrap_or(count).wrapping_sub(1)) else {
            return Err(match question {
                Some(question) => format!("there is no question {question}; {count} have been asked"),
                None => "no question has been asked yet".to_owned(),
            });
        };
        let Some(option) = options.get(option - 1) else {
            return Err(format!("there is no option {option}; the question has {}", options.len()));
        };
        let (clarification, option) = (clarification.clone(), option.clone());
        Ok(Cause::Answer { instance: self.instance()?, clarification, option })
    }

    fn note_question(&mut self, session: Option<&Snapshot>) {
        let pending = session.and_then(|session| session.conversation.as_ref()?.pending.as_ref());
        if let Some(pending) = pending.filter(|p| self.asked.last().is_none_or(|(id, _)| *id != p.id)) {
            let options = pending.options.iter().map(|option| option.id.clone()).collect();
            self.asked.push((pending.id.clone(), options));
        }
    }

    /// The answer to the call of this id that was made last.
    fn result(&mut self, id: &str, outcome: CallOutcome) -> Result<Cause, String> {
        let session = self.session()?.ok_or("there is no session yet")?;
        for call in &session.invocations {
            self.calls.insert(call.id.to_string(), call.clone());
        }
        let Some(call) = self.calls.get(id).cloned() else {
            let made: Vec<&str> = self.calls.keys().map(String::as_str).collect();
            let known = if made.is_empty() { "none".to_owned() } else { made.join(", ") };
            return Err(format!("no call `{id}` has been made; made so far: {known}"));
        };
        Ok(Cause::Result { instance: session.instance, call: call.key, outcome })
    }

    fn message(&self, message: Message) -> Cause {
        Cause::Message { machine: self.machine.name.clone(), subject: self.subject.clone(), message }
    }

    fn instance(&self) -> Result<InstanceId, String> {
        let session = self.session()?;
        session
            .map(|session| session.instance)
            .ok_or_else(|| "there is no session yet; begin with `given` or `send`".into())
    }

    fn session(&self) -> Result<Option<Snapshot>, String> {
        let tenant = TenantId::default_tenant();
        let found = match &self.machine.conversation {
            Some(_) => self.store.load_session(&tenant, &self.machine.name, &self.subject),
            None => self.store.load(&tenant, &self.instance),
        };
        found.map_err(|error| error.to_string())
    }

    fn log(&self, instance: &InstanceId) -> Result<Vec<Entry>, String> {
        let query = HistoryQuery {
            limit: HISTORY_MAX,
            ..HistoryQuery::of(TenantId::default_tenant(), instance.clone())
        };
        let page = self.store.history(&query).map_err(|error| error.to_string())?;
        Ok(page.data)
    }

    fn note_buttons(&mut self, answer: &Answer) {
        let with_buttons = |reply: &&kernel::conversation::Reply| !reply.options.is_empty();
        if let Some(reply) = replies_of(answer).iter().rev().find(with_buttons) {
            self.buttons = reply.options.iter().map(|o| o.id.clone()).collect();
        }
    }

    /// Looks at what is saved. `known` entries of the session `before` are not new.
    fn look(&mut self, seen: &mut Seen, before: Option<&Snapshot>, known: usize) -> Result<(), String> {
        let session = self.session()?;
        if let Some(before) = before {
            seen.new_entries = self.log(&before.instance)?.split_off(known);
        }
        if let Some(session) = &session {
            seen.history = self.log(&session.instance)?;
            if before.is_none_or(|before| before.instance != session.instance) {
                seen.new_entries.extend(seen.history.iter().cloned());
            }
        }
        for entry in &seen.new_entries {
            self.walk.note(&self.machine.chart, entry);
        }
        let now = self.clock.now();
        seen.flow = session.as_ref().and_then(|session| FlowView::of(&self.machine, session, now));
        self.walk.note_flow(&seen.new_entries, seen.flow.as_ref());
        seen.session = session;
        let statistics = self.store.statistics().map_err(|error| error.to_string())?;
        let count = |status: ClarificationStatus| {
            let count = statistics.clarifications.get(status.as_str());
            (status, count.copied().unwrap_or(0))
        };
        seen.clarifications = ClarificationStatus::ALL.into_iter().map(count).collect();
        Ok(())
    }
}

fn start_engine(store: &Arc<MemoryStore>, machines: Machines, clock: &Clock) -> Engine {
    let store: Arc<dyn Store> = Arc::<MemoryStore>::clone(store);
    Engine::start(store, Arc::new(machines), clock.clone(), Settings::of_rehearsal())
}

pub(super) fn keyed(key: InputKey, cause: Cause) -> Input {
    Input { tenant: TenantId::default_tenant(), key, cause, expected: None, by: None, trace: None }
}

/// Saves the instance that a story begins with, and says what its person reads there.
fn begin(
    store: &dyn Store,
    machine: &Machine,
    placement: &Placement<'_>,
    now: Timestamp,
) -> Result<Answer, String> {
    let commit = place(machine, placement, now).map_err(|refusal| refusal.message)?;
    let answer = commit.entry.answer.clone();
    save(store, commit)?;
    Ok(answer)
}

/// Saves a session that has ended, for the sake of what it leaves to the next.
fn leave(
    store: &dyn Store,
    machine: &Machine,
    subject: &Subject,
    left: &Left,
    now: Timestamp,
) -> Result<(), String> {
    let Some(conversation) = &machine.conversation else {
        return Err("`left` is for conversations, and this machine is none".to_owned());
    };
    let locale = left.locale.as_deref().map(|tag| {
        let known = conversation.base_locale(tag).map(str::to_owned);
        known.ok_or_else(|| {
            format!("the machine does not speak `{tag}`; it speaks {}", conversation.locales.join(", "))
        })
    });
    let cause = Cause::Create {
        machine: machine.name.clone(),
        id: Some(InstanceId::parse(FORMER)?),
        subject: Some(subject.clone()),
        context: Fields::new(),
        start: Start::default(),
    };
    let input = keyed(InputKey::parse(FORMER)?, cause);
    let mut commit = decide(machine, None, &input, now).map_err(|refusal| refusal.message)?;
    commit.effects.clear();
    if let Some(after) = &mut commit.after {
        after.timers.clear();
        after.invocations.clear();
        after.closure = Some(Closure { reason: FORMER.to_owned(), at: now, output: Fields::new() });
        after.conversation = Some(Arc::new(ConversationState {
            locale: locale.transpose()?,
            handed_over: left.handed_over,
            ..ConversationState::default()
        }));
    }
    save(store, commit)
}

fn save(store: &dyn Store, commit: Commit) -> Result<(), String> {
    match store.commit(&[commit]) {
        Ok(outcomes) if outcomes == [Outcome::Committed] => Ok(()),
        Ok(outcomes) => Err(format!("it was not saved: {outcomes:?}")),
        Err(error) => Err(error.to_string()),
    }
}
