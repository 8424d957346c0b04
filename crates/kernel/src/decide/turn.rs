//! A `Turn`: one instance while one input is being decided on, from its snapshot to the commit.
//!
//! Owns the translation between the snapshot's names and the chart's indices, and what every commit has in
//! common: revision, idle timers, drafts, closure, log entry, effects.

mod said;

use std::sync::Arc;

use crate::chart::step::{Occurrence, Position, StepError, Stepper, Trail};
use crate::chart::{ROOT, StateIndex};
use crate::commit::{Answer, Commit, Effect, EffectKind, Entry, EntryCause, EventAnswer, Replaced, recorded};
use crate::conversation::{
    Clarification, ClarificationStatus, Conversation, ConversationState, Message, OfferedItem,
};
use crate::decide::{CLARIFICATION_TIMER, transition_of};
use crate::id::{InstanceId, Revision, Subject};
use crate::input::{Fields, Input};
use crate::looping::{LOOP_TIMES, Looping};
use crate::machine::Machine;
use crate::refusal::{Considered, Refusal, RefusalCode};
use crate::snapshot::{Closure, Snapshot, Timer};
use crate::time::Timestamp;

#[derive(Debug)]
pub(super) struct Turn<'a> {
    pub machine: &'a Machine,
    pub input: &'a Input,
    pub now: Timestamp,
    /// The revision that is decided on.
    pub expected: Revision,
    /// The snapshot to be; `position` is written into it at the end.
    pub after: Snapshot,
    pub position: Position,
    pub trail: Trail,
    pub session: ConversationState,
    /// The items of lists in the replies that have been worded.
    offered: Vec<OfferedItem>,
    pub clarifications: Vec<Clarification>,
    /// What has to be delivered or called.
    pub effects: Vec<Effect>,
    from: String,
    /// How many of the transitions taken belong to entering the chart.
    taken_at_start: usize,
    /// The last event that the chart took.
    taken: Option<String>,
}

/// What an input came to, for the log.
#[derive(Debug)]
pub(super) struct Verdict {
    pub from: String,
    pub to: String,
    pub event: String,
    /// A transition was taken, be it to the same state.
    pub moved: bool,
    pub success: bool,
    pub reason: Option<String>,
    pub code: Option<String>,
    /// How often the transition was taken since the loop began that this one is part of.
    pub looping: Option<u32>,
}

impl<'a> Turn<'a> {
    /// An instance that does not exist yet, with its context checked.
    pub fn begin(
        machine: &'a Machine,
        input: &'a Input,
        now: Timestamp,
        instance: InstanceId,
        subject: Option<Subject>,
        ordinal: u32,
        given: &Fields,
    ) -> Result<Self, Refusal> {
        let context = machine.initial_context(given).map_err(|problems| {
            Refusal::new(RefusalCode::InvalidContext, Revision::NONE, problems.join("; "))
        })?;
        let mut after = Snapshot::new(machine, input.tenant.clone(), instance, Arc::new(context), now);
        (after.subject, after.ordinal) = (subject, ordinal);
        let position = Position::new(Arc::clone(&after.context));
        Ok(Self::new(machine, input, now, after, position))
    }

    /// An instance that exists.
    pub fn resume(
        machine: &'a Machine,
        before: &Snapshot,
        input: &'a Input,
        now: Timestamp,
    ) -> Result<Self, Refusal> {
        let position = position_of(machine, before).ok_or_else(|| {
            let message =
                format!("the definition that the instance is pinned to has no state `{}`", before.state());
            Refusal::new(RefusalCode::DefinitionMissing, before.revision, message)
        })?;
        Ok(Self::new(machine, input, now, before.clone(), position))
    }

    /// An instance whose configuration need not make sense.
    pub fn resume_anywhere(
        machine: &'a Machine,
        before: &Snapshot,
        input: &'a Input,
        now: Timestamp,
    ) -> Self {
        let position = position_of(machine, before).unwrap_or_default();
        Self::new(machine, input, now, before.clone(), position)
    }

    /// An instance of another definition, nowhere yet, with its context as it is here.
    pub fn migrate(
        machine: &'a Machine,
        before: &Snapshot,
        input: &'a Input,
        now: Timestamp,
        context: Fields,
    ) -> Self {
        let context = Arc::new(context);
        let position = Position::new(Arc::clone(&context));
        let mut turn = Self::new(machine, input, now, before.clone(), position);
        turn.after.context = context;
        turn.after.pin(machine);
        turn
    }

    /// Comes in the place of an instance, of which nothing stays but what it is called.
    pub fn replace(&mut self, before: &Snapshot) {
        (self.expected, self.from) = (before.revision, before.state());
        let former = (before.definition != self.machine.hash).then_some(&before.definition);
        self.after.began_by = before.began_by.as_ref().or(former).cloned();
        self.session.pending = before.conversation.as_ref().and_then(|talk| talk.pending.clone());
        self.resolve_pending(ClarificationStatus::Cancelled, None);
    }

    fn new(
        machine: &'a Machine,
        input: &'a Input,
        now: Timestamp,
        after: Snapshot,
        position: Position,
    ) -> Self {
        Self {
            machine,
            input,
            now,
            expected: after.revision,
            session: after.conversation.as_deref().cloned().unwrap_or_default(),
            from: after.state(),
            after,
            position,
            trail: Trail::default(),
            offered: Vec::new(),
            clarifications: Vec::new(),
            effects: Vec::new(),
            taken_at_start: 0,
            taken: None,
        }
    }

    /// A session that begins with a message moves from its initial state, not from nothing.
    pub fn begin_here(&mut self) {
        self.from = self.after.state();
        self.taken_at_start = self.trail.taken.len();
    }

    pub fn stepper(&self) -> Stepper<'a> {
        Stepper { chart: &self.machine.chart, fields: &self.machine.fields, now: self.now }
    }

    /// The revision that the commit will have.
    pub fn revision(&self) -> Revision {
        self.expected.next()
    }

    /// # Errors
    /// When the instance has ended.
    pub fn open(&self) -> Result<(), Refusal> {
        match &self.after.closure {
            None => Ok(()),
            Some(closure) => {
                let message = format!(
                    "the instance ended at {} ({}); a final state stays final",
                    closure.at, closure.reason
                );
                Err(Refusal::new(RefusalCode::InstanceClosed, self.expected, message))
            }
        }
    }

    pub fn start(&mut self) -> Result<(), Refusal> {
        self.stepper()
            .start(&mut self.position, &mut self.trail)
            .map_err(|e| self.refusal("create", None, e))?;
        self.hold("create")
    }

    /// Puts the chart where it begins, as if nothing had been.
    pub fn begin_anew(&mut self) -> Result<(), Refusal> {
        self.position = Position::new(Arc::clone(&self.position.context));
        self.stepper()
            .start(&mut self.position, &mut self.trail)
            .map_err(|e| self.refusal("recover", None, e))?;
        self.hold("recover")
    }

    pub fn jump(&mut self, state: StateIndex, event: &str) -> Result<(), Refusal> {
        self.stepper()
            .jump(&mut self.position, state, &mut self.trail)
            .map_err(|e| self.refusal(event, None, e))?;
        self.hold(event)
    }

    /// Puts the chart into states that were entered elsewhere.
    pub fn stand(&mut self, states: &[StateIndex], since: Timestamp, event: &str) -> Result<(), Refusal> {
        self.stepper()
            .stand(&mut self.position, states, since, &mut self.trail)
            .map_err(|e| self.refusal(event, None, e))?;
        self.hold(event)
    }

    /// Takes an event. A refusal leaves the turn as it was.
    pub fn take(&mut self, event: &str, payload: &Fields) -> Result<(), Refusal> {
        if let Some(reason) = &self.trail.closed {
            let message = format!("the instance has ended as soon as it began ({reason})");
            return Err(Refusal::new(RefusalCode::InstanceClosed, self.expected, message));
        }
        let mut position = self.position.clone();
        let mut trail = self.trail.clone();
        let result = match self.occurrence(event, payload) {
            Some(occurrence) => self.stepper().take(&mut position, occurrence, &mut trail),
            None => Err(StepError::NotTaken),
        };
        match result {
            Ok(()) => {
                let violations = self.violations(&position, &mut trail);
                if !violations.is_empty() {
                    return Err(self.violation(event, Some(payload), violations));
                }
                (self.position, self.trail) = (position, trail);
                self.taken = Some(event.to_owned());
                Ok(())
            }
            Err(error) => Err(self.refusal(event, Some(payload), error)),
        }
    }

    fn occurrence<'e>(&self, name: &'e str, payload: &'e Fields) -> Option<Occurrence<'e>> {
        self.machine.chart.event(name).map(|event| Occurrence { event, name, payload })
    }

    fn refusal(&self, event: &str, payload: Option<&Fields>, error: StepError) -> Refusal {
        let state = self.after.state();
        let considered = self.considered(event, payload);
        let (code, message) = match error {
            StepError::Expression(problem) => {
                (RefusalCode::ExpressionFailed, format!("`{event}` failed in `{state}`: {problem}"))
            }
            StepError::Limit(steps) => (
                RefusalCode::StepLimit,
                format!("`{event}` does not come to rest; it goes round in {}", steps.join(", ")),
            ),
            StepError::TooMuch(problem) => {
                (RefusalCode::StepLimit, format!("`{event}` {problem} in `{state}`"))
            }
            StepError::NotTaken if considered.is_empty() => {
                (RefusalCode::InvalidTransition, format!("`{event}` is not possible in `{state}`"))
            }
            StepError::NotTaken => {
                let guards = considered.iter().filter_map(|c| c.guard.as_ref());
                let told: Vec<String> = guards
                    .map(|g| match &g.error {
                        Some(error) => format!("`{}` failed: {error}", g.expression),
                        None => format!("`{}` is false", g.expression),
                    })
                    .collect();
                (
                    RefusalCode::GuardRejected,
                    format!("`{event}` is guarded in `{state}`: {}", told.join("; ")),
                )
            }
        };
        self.refused(code, message, considered)
    }

    /// A refusal with what there is instead.
    pub fn refused(&self, code: RefusalCode, message: String, explain: Vec<Considered>) -> Refusal {
        let (allowed, timers) = (self.allowed(), self.position.timers.clone());
        Refusal { allowed, explain, timers, ..Refusal::new(code, self.expected, message) }
    }

    /// The transitions that an event leads to from here.
    pub fn considered(&self, event: &str, payload: Option<&Fields>) -> Vec<Considered> {
        let occurrence = payload.and_then(|payload| self.occurrence(event, payload));
        occurrence.map(|o| self.stepper().consider(&self.position, o)).unwrap_or_default()
    }

    /// The events that some active state has a transition for, whatever its guard says.
    pub fn allowed(&self) -> Vec<String> {
        allowed(self.machine, self.position.leaves())
    }

    /// The top's `after` counts from the last input.
    pub fn restart_idle_timers(&mut self) {
        let chart = &self.machine.chart;
        for (delay, event) in &chart.state(ROOT).after {
            let id = chart.event_name(*event);
            let deadline = self.now.plus(*delay);
            match self.position.timers.iter_mut().find(|t| t.id == *id) {
                Some(timer) => timer.deadline = deadline,
                None if self.trail.closed.is_none() => {
                    self.position.timers.push(Timer::new(Arc::clone(id), deadline));
                }
                None => {}
            }
        }
    }

    /// Ends the pending question, if there is one.
    pub fn resolve_pending(&mut self, status: ClarificationStatus, option: Option<String>) {
        if let Some(pending) = self.session.pending.take() {
            let mut resolved = pending.resolved(status, self.now);
            resolved.answer = option;
            self.clarifications.push(resolved);
        }
        self.position.timers.retain(|t| &*t.id != CLARIFICATION_TIMER);
    }

    pub fn forget_conversation(&mut self) {
        let (locale, address) = (self.session.locale.take(), self.session.address.take());
        self.session = ConversationState { locale, address, ..ConversationState::default() };
    }

    pub fn locale<'l>(&'l self, conversation: &'l Conversation) -> &'l str {
        self.session.locale.as_deref().unwrap_or(&conversation.locales[0])
    }

    /// The commit of an input that is answered as an event.
    pub fn commit_event(mut self, event: &str, replaced: Option<Replaced>) -> Commit {
        let replies = self.replies();
        self.note_prompt(&replies);
        self.deliver(&replies);
        let verdict = self.close(event);
        let answer = Answer::Event(EventAnswer {
            id: self.after.instance.clone(),
            revision: self.after.revision,
            state: verdict.to.clone(),
            transition: transition_of(&verdict),
            closure_reason: self.after.closure.as_ref().map(|c| c.reason.clone()),
            reply: replies,
            effects: self.effects.clone(),
            replaced,
            flow: None,
        });
        self.commit(verdict, None, answer)
    }

    /// The key of the effect that is added.
    fn add_effect(&mut self, kind: EffectKind) -> String {
        let effect = Effect::new(&self.after.instance, self.revision(), self.effects.len(), kind)
            .traced(self.input.trace.as_ref());
        let key = effect.key.clone();
        self.effects.push(effect);
        key
    }

    /// The calls that the step has made get their keys, and are put into the outbox.
    fn place_calls(&mut self) {
        let mut invocations = std::mem::take(&mut self.position.invocations);
        for call in invocations.iter_mut().filter(|call| call.key.is_empty()) {
            call.key = self.add_effect(EffectKind::Call {
                id: call.id.to_string(),
                src: call.src.to_string(),
                input: call.input.clone(),
            });
        }
        self.after.invocations = invocations;
    }

    /// Writes the position into the snapshot: drafts, topic, closure, revision.
    pub fn close(&mut self, event: &str) -> Verdict {
        let was = Arc::clone(&self.after.context);
        self.keep_drafts(&was);
        self.note_topic();
        if let Some(reason) = self.trail.closed.take() {
            self.resolve_pending(ClarificationStatus::Cancelled, None);
            self.position.timers.clear();
            let output = std::mem::take(&mut self.trail.output);
            self.after.closure = Some(Closure { reason: reason.to_string(), at: self.now, output });
        }
        self.place_calls();
        let chart = &self.machine.chart;
        let path = |state: &StateIndex| Arc::clone(&chart.state(*state).path);
        self.after.configuration.clear();
        self.after.configuration.extend(self.position.leaves().iter().map(path));
        let history = std::mem::take(&mut self.position.history);
        self.after.history =
            history.iter().map(|(state, kept)| (path(state), kept.iter().map(path).collect())).collect();
        self.after.context = Arc::clone(&self.position.context);
        self.after.timers = std::mem::take(&mut self.position.timers);
        self.after.revision = self.revision();
        self.after.updated_at = self.now;
        self.after.brought_in = self.after.brought_in.take().map(|was| was.after(&self.input.cause));
        if self.machine.conversation.is_some() {
            self.after.conversation = Some(Arc::new(std::mem::take(&mut self.session)));
        }
        let to = self.after.state();
        let looping = self.note_loop();
        self.after.dead_end = self.is_dead_end();
        Verdict {
            looping,
            moved: self.trail.taken.len() > self.taken_at_start || self.from != to,
            from: std::mem::take(&mut self.from),
            to,
            event: self.taken.take().unwrap_or_else(|| event.to_owned()),
            success: true,
            reason: self.after.closure.as_ref().map(|c| c.reason.clone()),
            code: None,
        }
    }

    /// Remembers what was taken; entering the chart is no step of a loop.
    fn note_loop(&mut self) -> Option<u32> {
        let chart = &self.machine.chart;
        let taken = self.trail.taken.iter().skip(self.taken_at_start).copied();
        let reported = taken.filter(|index| !chart.transition(*index).loop_normal);
        let repeated = self.after.recent.note(reported, self.now);
        let before = self.after.looping.take().filter(|looping| looping.until > self.now);
        let Some(repeated) = repeated else {
            self.after.looping = before;
            return None;
        };
        let event = self.taken.clone().unwrap_or_default();
        let (from, to) = (self.from.clone(), self.after.state());
        let times = LOOP_TIMES as u32 + 1;
        let count = before.map_or(times, |looping| looping.count.saturating_add(1));
        self.after.looping = Some(Looping { from, to, event, count, until: repeated.until });
        Some(count)
    }

    /// Whether only an operator can lead on from here.
    fn is_dead_end(&self) -> bool {
        let after = &self.after;
        let open = after.closure.is_none();
        open && after.timers.is_empty() && after.invocations.is_empty() && self.allowed().is_empty()
    }

    /// A session is about what the intent behind its last starting event starts; back at its beginning, nothing, and
    /// the work that was put aside is given up with the rest.
    fn note_topic(&mut self) {
        let Some(conversation) = &self.machine.conversation else {
            return;
        };
        if self.position.leaves() == self.machine.chart.initial_leaves() {
            self.session.topic = None;
            self.session.drafts.clear();
        } else if let Some(event) = &self.taken {
            let starting =
                conversation.intents.iter().find(|i| i.starts.is_some() && i.event.as_deref() == Some(event));
            if let Some(intent) = starting
                && self.session.topic.is_none()
            {
                self.session.topic.clone_from(&intent.starts);
            }
        }
    }

    /// Puts the commit together once `close` has been called.
    pub fn commit(self, verdict: Verdict, message: Option<Message>, answer: Answer) -> Commit {
        let (trace_id, unsampled) = recorded(self.input.trace.as_ref());
        let entry = Entry {
            revision: self.after.revision,
            at: self.now,
            receipt: self.input.receipt_id(),
            key: self.input.key.clone(),
            digest: self.input.cause.digest(),
            event: verdict.event,
            from: verdict.from,
            to: verdict.to,
            success: verdict.success,
            transitions: self.trail.taken,
            reason: verdict.reason,
            code: verdict.code,
            looping: verdict.looping,
            by: self.input.by.clone(),
            trace_id,
            unsampled,
            message,
            payload: EntryCause::payload_of(&self.input.cause),
            cause: EntryCause::of_taken(&self.input.cause),
            answer,
        };
        Commit {
            tenant: self.after.tenant.clone(),
            instance: self.after.instance.clone(),
            expected: self.expected,
            entry,
            clarifications: self.clarifications,
            effects: self.effects,
            phases: Vec::new(),
            secrets: Arc::clone(&self.machine.secrets),
            after: Some(self.after),
        }
    }
}

/// The snapshot's names as indices; `None` when the machine does not have them.
pub(super) fn position_of(machine: &Machine, snapshot: &Snapshot) -> Option<Position> {
    let chart = &machine.chart;
    let indices =
        |paths: &[Arc<str>]| -> Option<Vec<StateIndex>> { paths.iter().map(|p| chart.by_path(p)).collect() };
    let history = snapshot.history.iter().map(|(state, kept)| Some((chart.by_path(state)?, indices(kept)?)));
    let mut position = Position::at(chart, indices(&snapshot.configuration)?, Arc::clone(&snapshot.context));
    position.history = history.collect::<Option<_>>()?;
    position.timers.clone_from(&snapshot.timers);
    position.invocations.clone_from(&snapshot.invocations);
    Some(position)
}

/// Public events with a transition from one of `leaves`, in the order of the definition.
pub(super) fn allowed(machine: &Machine, leaves: &[StateIndex]) -> Vec<String> {
    let chart = &machine.chart;
    let offered = |event: &&Arc<str>| {
        let index = chart.event(event);
        let any = |index| leaves.iter().any(|leaf| !chart.candidates(*leaf, index).is_empty());
        index.is_some_and(any)
    };
    chart.public_events().filter(offered).map(ToString::to_string).collect()
}
