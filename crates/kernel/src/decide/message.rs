//! What `decide` does about a message: a session is found or begun, the router is asked, and its act is carried out.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::Value;

use crate::bound::check_message;
use crate::chart::all_actions;
use crate::chart::{Action, ReplyIndex};
use crate::commit::{Answer, Commit, EffectKind, MessageAnswer};
use crate::conversation::{
    ABANDON_EVENT, Act, Choice, Clarification, ClarificationOption, ClarificationStatus, Conversation,
    ConversationState, Decision, IntentIndex, LadderStep, MENU_ENTRIES_MAX, Message, MessageOutcome,
    Priority, Question, Reply, Router, Why, normalise,
};
use crate::decide::turn::Turn;
use crate::decide::{CLARIFICATION_TIMER, transition_of};
use crate::expression::Scope;
use crate::id::{InstanceId, Revision, Subject};
use crate::input::{Cause, Fields, Input};
use crate::machine::Machine;
use crate::refusal::{Refusal, RefusalCode};
use crate::snapshot::{Snapshot, Timer};
use crate::time::{Delay, Timestamp};

/// The pictures of an album come as messages of their own, one right after the other. What they are for is asked once.
const ALBUM_WITHIN: Delay = Delay::from_secs(10);
/// Media held for one session; older ones are let go first.
const HELD_MEDIA_MAX: usize = 30;

pub(super) fn decide_message(
    machine: &Machine,
    last: Option<&Snapshot>,
    input: &Input,
    now: Timestamp,
    (subject, message): (&Subject, &Message),
    routed: impl FnOnce(),
) -> Result<Commit, Refusal> {
    let conversation = conversation_of(machine)?;
    let turn = turn_of_message(machine, last, input, now, subject, message)?;
    let decision = router(&turn, conversation, message).route();
    routed();
    Ok(carry_out(turn, conversation, message, decision))
}

/// The subject's session, open or begun, in the language of the message.
fn turn_of_message<'a>(
    machine: &'a Machine,
    last: Option<&Snapshot>,
    input: &'a Input,
    now: Timestamp,
    subject: &Subject,
    message: &Message,
) -> Result<Turn<'a>, Refusal> {
    let conversation = conversation_of(machine)?;
    let mut turn = match last.filter(|last| !last.is_closed()) {
        Some(open) => Turn::resume(machine, open, input, now)?,
        None => begin_session(machine, last, input, now, subject)?,
    };
    if let Some(locale) = message.locale.as_deref().and_then(|tag| conversation.base_locale(tag)) {
        turn.session.locale = Some(locale.to_owned());
    }
    if turn.session.locale.is_none() {
        let text = normalise(message.text.as_deref().unwrap_or_default());
        turn.session.locale = conversation.lexicon.language(&text).map(str::to_owned);
    }
    if message.from.is_some() {
        turn.session.address.clone_from(&message.from);
    }
    Ok(turn)
}

/// Whether it would make a difference to know what a message may mean, and if so, which intents could be meant.
///
/// `before` is the subject's last session, if there was one. `None` when the router decides without: what is no
/// message with words of its own, comes with candidates, is exactly an urgent phrase or one of an intent that is heard
/// here, an answer to a question, the number of a menu, or belongs to a person who has taken over. Else the names of the
/// intents that lead anywhere from where the session is, in the order of their declaration.
pub fn reading_wanted<'a>(
    machine: &'a Machine,
    before: Option<&Snapshot>,
    input: &Input,
    now: Timestamp,
) -> Option<Vec<&'a str>> {
    let Cause::Message { subject, message, .. } = &input.cause else { return None };
    if !message.candidates.is_empty() || message.text.is_none() || check_message(message).is_err() {
        return None;
    }
    let conversation = machine.conversation.as_ref()?;
    // What cannot be decided on at all is refused by `decide`, in its own words.
    let turn = turn_of_message(machine, before, input, now, subject, message).ok()?;
    if !router(&turn, conversation, message).wants_reading() {
        return None;
    }
    let heard = router(&turn, conversation, message).heard();
    let names: Vec<&str> = heard.into_iter().map(|intent| &*conversation.intent(intent).name).collect();
    (!names.is_empty()).then_some(names)
}

/// An answer to a clarification by the option's id.
pub(super) fn decide_answer(
    machine: &Machine,
    before: &Snapshot,
    input: &Input,
    now: Timestamp,
    clarification: &str,
    option: &str,
) -> Result<Commit, Refusal> {
    let conversation = conversation_of(machine)?;
    let turn = Turn::resume(machine, before, input, now)?;
    turn.open()?;
    let pending = turn.session.pending.clone().filter(|p| p.id == clarification && !p.is_expired(now));
    let Some(question) = pending else {
        let message = format!("the clarification `{clarification}` is no longer pending");
        return Err(Refusal::new(RefusalCode::ClarificationClosed, before.revision, message));
    };
    let Some(at) = question.options.iter().position(|o| o.id == option) else {
        let options: Vec<&str> = question.options.iter().map(|o| o.id.as_str()).collect();
        let message = format!("the clarification has no option `{option}`; it has {}", options.join(", "));
        return Err(Refusal::new(RefusalCode::NotFound, before.revision, message));
    };
    let message = Message { payload: Some(option.to_owned()), ..Message::default() };
    let decision = router(&turn, conversation, &message).answer(&question, at);
    Ok(carry_out(turn, conversation, &message, decision))
}

fn conversation_of(machine: &Machine) -> Result<&Conversation, Refusal> {
    machine.conversation.as_ref().ok_or_else(|| {
        let message = format!("the machine `{}` has no `conversation` section", machine.name);
        Refusal::new(RefusalCode::NotAConversation, Revision::NONE, message)
    })
}

fn begin_session<'a>(
    machine: &'a Machine,
    last: Option<&Snapshot>,
    input: &'a Input,
    now: Timestamp,
    subject: &Subject,
) -> Result<Turn<'a>, Refusal> {
    let ordinal = last.map_or(0, |l| l.ordinal) + 1;
    let number = ordinal.to_string();
    let seed = [input.tenant.as_str(), machine.name.as_str(), subject.as_str(), &number];
    let instance = InstanceId::derive(now, &seed);
    let mut turn =
        Turn::begin(machine, input, now, instance, Some(subject.clone()), ordinal, &Fields::new())?;
    turn.start()?;
    turn.after.configuration = turn.stepper().paths(turn.position.leaves());
    turn.begin_here();
    let former = last.and_then(|l| l.conversation.as_deref());
    turn.session = ConversationState {
        locale: former.and_then(|c| c.locale.clone()),
        handed_over: former.is_some_and(|c| c.handed_over),
        address: former.and_then(|c| c.address.clone()),
        ..ConversationState::default()
    };
    Ok(turn)
}

fn router<'a>(turn: &'a Turn<'_>, conversation: &'a Conversation, message: &'a Message) -> Router<'a> {
    Router {
        conversation,
        chart: &turn.machine.chart,
        leaves: turn.position.leaves(),
        session: &turn.session,
        context: &turn.position.context,
        message,
        locale: turn.session.locale.as_deref(),
        now: turn.now,
        // Room for the verdicts of all rules.
        trace: Vec::with_capacity(16),
        resolution: Default::default(),
    }
}

/// What the person is told, and how it went.
struct Told {
    outcome: MessageOutcome,
    reply: Vec<Reply>,
    refusal: Option<Box<Refusal>>,
}

impl Told {
    fn new(outcome: MessageOutcome, reply: Vec<Reply>) -> Self {
        Self { outcome, reply, refusal: None }
    }
}

fn carry_out(
    mut turn: Turn<'_>,
    conversation: &Conversation,
    message: &Message,
    decision: Decision,
) -> Commit {
    if let Some(status) = decision.resolution.status {
        turn.resolve_pending(status, decision.resolution.option.clone());
    }
    let mut speaker = Speaker { turn: &mut turn, conversation };
    let told = speaker.act(&decision);
    turn.session.failures = match told.outcome {
        MessageOutcome::Fallback => turn.session.failures + 1,
        MessageOutcome::Dispatched | MessageOutcome::Inline => 0,
        _ => turn.session.failures,
    };
    turn.restart_idle_timers();
    turn.note_prompt(&told.reply);
    turn.deliver(&told.reply);
    let pending = turn.session.pending.as_ref().map(Clarification::view);
    let mut verdict = turn.close(told.outcome.as_str());
    if let Some(refusal) = &told.refusal {
        verdict.success = false;
        verdict.code = Some(refusal.code.as_str().to_owned());
        verdict.reason = Some(refusal.message.clone());
    }
    let why = Why {
        rule: decision.rule,
        intent: decision.intent.map(|i| conversation.intent(i).name.clone()),
        raw: decision.raw.points(),
        adjusted: decision.adjusted.points(),
        trace: decision.trace,
    };
    let answer = Answer::Message(MessageAnswer {
        session_id: turn.after.instance.clone(),
        revision: turn.after.revision,
        outcome: told.outcome,
        state: verdict.to.clone(),
        reply: told.reply,
        transition: transition_of(&verdict).filter(|_| verdict.success),
        clarification: pending,
        closure_reason: turn.after.closure.as_ref().map(|c| c.reason.clone()),
        // What is delivered is told already, as the reply.
        effects: turn.effects.iter().filter(|e| !matches!(e.kind, EffectKind::Reply(_))).cloned().collect(),
        refusal: told.refusal,
        why,
    });
    turn.commit(verdict, Some(message.clone()), answer)
}

/// Carries out an act and finds the words for it.
struct Speaker<'t, 'a> {
    turn: &'t mut Turn<'a>,
    conversation: &'t Conversation,
}

impl Speaker<'_, '_> {
    fn act(&mut self, decision: &Decision) -> Told {
        match &decision.act {
            Act::Ignore => Told::new(MessageOutcome::Ignored, Vec::new()),
            Act::Record => Told::new(MessageOutcome::HandedOver, Vec::new()),
            Act::Dispatch { event, message } => self.dispatch(event, message),
            Act::Inline(reply) => self.inline(*reply),
            Act::Ask(question) => self.ask(question),
            Act::AskAgain => self.ask_again(),
            Act::HoldMedia => self.hold_media(),
            Act::Fallback(step) => self.fallback(*step),
            Act::HandOver => {
                self.turn.session.handed_over = true;
                Told::new(MessageOutcome::HandedOver, vec![self.sentence("handed_over")])
            }
            Act::Resume => {
                self.turn.session.handed_over = false;
                let reply = self.with_prompt("resumed");
                Told::new(MessageOutcome::Inline, reply)
            }
            Act::MenuExpired => {
                let reply = self.with_prompt("menu_expired");
                Told::new(MessageOutcome::Inline, reply)
            }
            Act::Continue => {
                let reply = self.with_prompt("continued");
                Told::new(MessageOutcome::Inline, reply)
            }
        }
    }

    /// `event.is_phrase` tells a machine that the text is no more than a phrase of some intent, such as "photo", and
    /// hardly something to be kept.
    fn dispatch(&mut self, event: &str, message: &Message) -> Told {
        let mut payload = message.parameters.clone();
        let mut media = self.turn.session.held_media.clone();
        media.extend(message.media.iter().cloned());
        if let Some(text) = &message.text {
            payload.insert("text".into(), Value::from(text.trim()));
            payload.insert("is_phrase".into(), self.is_phrase(text).into());
            if let Ok(number) = text.trim().parse::<i64>() {
                payload.insert("number".into(), Value::from(number));
            } else if let Some(number) = text.trim().parse::<f64>().ok().filter(|n| n.is_finite()) {
                payload.insert("number".into(), Value::from(number));
            }
        }
        let urls: Vec<Value> = media.iter().map(|m| Value::from(m.url.as_str())).collect();
        payload.insert("media".into(), Value::from(urls));
        match self.turn.take(event, &payload) {
            Ok(()) => {
                if !self.turn.session.held_media.is_empty() && self.media_was_taken() {
                    self.turn.session.held_media.clear();
                }
                Told::new(MessageOutcome::Dispatched, self.turn.replies())
            }
            Err(refusal) => {
                let reply = self.with_prompt("not_now");
                Told { outcome: MessageOutcome::Refused, reply, refusal: Some(Box::new(refusal)) }
            }
        }
    }

    fn is_phrase(&self, text: &str) -> bool {
        let locale = self.turn.session.locale.as_deref();
        let lexicon = &self.conversation.lexicon;
        lexicon.exact(&normalise(text), locale, |_| true).is_some()
    }

    /// Whether a transition that was taken put the event's media anywhere.
    fn media_was_taken(&self) -> bool {
        let chart = &self.turn.machine.chart;
        let taken = self.turn.trail.taken.iter();
        let actions = taken.flat_map(|index| &chart.transition(*index).actions);
        all_actions(actions).into_iter().any(|action| action.reads_event("media"))
    }

    fn inline(&mut self, reply: Option<ReplyIndex>) -> Told {
        let mut replies: Vec<Reply> = reply.into_iter().map(|reply| self.render(reply)).collect();
        replies.extend(self.pending_question().or_else(|| self.prompt()));
        Told::new(MessageOutcome::Inline, replies)
    }

    fn ask(&mut self, question: &Question) -> Told {
        self.turn.resolve_pending(ClarificationStatus::Superseded, None);
        let revision = self.turn.revision();
        let locale = self.turn.locale(self.conversation);
        let text = self.words(question.sentence);
        let option = |(n, choice): (usize, &Choice)| ClarificationOption {
            id: format!("q{revision}.{}", n + 1),
            label: self.label(choice, locale),
            choice: choice.clone(),
        };
        let options = question.choices.iter().enumerate().map(option).collect();
        let turn = &mut *self.turn;
        let Some(subject) = turn.after.subject.clone() else {
            return Told::new(MessageOutcome::Fallback, Vec::new());
        };
        let expires_at = turn.now.plus(self.conversation.clarification_expires_after);
        let asked = Clarification {
            id: format!("{}:{revision}", turn.after.instance),
            tenant: turn.after.tenant.clone(),
            instance: turn.after.instance.clone(),
            machine: turn.after.machine.clone(),
            subject,
            status: ClarificationStatus::Pending,
            question: text,
            options,
            original: question.original.clone(),
            revision,
            created_at: turn.now,
            expires_at,
            attempts: 0,
            resolved_at: None,
            answer: None,
        };
        turn.position.timers.push(Timer::new(CLARIFICATION_TIMER.into(), expires_at));
        turn.clarifications.push(asked.clone());
        turn.session.pending = Some(asked);
        Told::new(MessageOutcome::Clarifying, self.pending_question().into_iter().collect())
    }

    fn ask_again(&mut self) -> Told {
        let unclear = self.words("answer_unclear");
        if let Some(pending) = &mut self.turn.session.pending {
            pending.attempts += 1;
            self.turn.clarifications.push(pending.clone());
        }
        let reply = self.pending_question().map(|question| Reply { text: unclear, ..question });
        Told::new(MessageOutcome::Clarifying, reply.into_iter().collect())
    }

    fn hold_media(&mut self) -> Told {
        let media = match &self.turn.input.cause {
            Cause::Message { message, .. } => message.media.clone(),
            _ => Vec::new(),
        };
        let asked_already = !self.turn.session.held_media.is_empty()
            && self.turn.now.since(self.turn.after.updated_at) < ALBUM_WITHIN;
        let held = &mut self.turn.session.held_media;
        held.extend(media);
        let surplus = held.len().saturating_sub(HELD_MEDIA_MAX);
        held.drain(..surplus);
        if asked_already {
            return Told::new(MessageOutcome::MediaHeld, Vec::new());
        }
        let reply = Reply {
            text: self.words("ask_media"),
            ..self.menu(|p| matches!(p, Priority::P1 | Priority::P2))
        };
        Told::new(MessageOutcome::MediaHeld, vec![reply])
    }

    fn fallback(&mut self, step: LadderStep) -> Told {
        let reply = match step {
            LadderStep::Rephrase => self.with_prompt("rephrase"),
            LadderStep::Menu => vec![self.menu(|_| true)],
            LadderStep::HandOver => {
                self.turn.session.handed_over = true;
                return Told::new(MessageOutcome::HandedOver, vec![self.sentence("handed_over")]);
            }
            LadderStep::Abandon => {
                if self.turn.take(ABANDON_EVENT, &Fields::new()).is_ok() {
                    return Told::new(MessageOutcome::Fallback, self.turn.replies());
                }
                self.with_prompt("rephrase")
            }
        };
        Told::new(MessageOutcome::Fallback, reply)
    }

    /// The intents that can be had at this point, as buttons; of several that do the same, the first.
    fn menu(&self, wanted: impl Fn(Priority) -> bool) -> Reply {
        let takes = |event: &str| self.turn.allowed().iter().any(|allowed| allowed == event);
        let open = |index: &IntentIndex| {
            let intent = self.conversation.intent(*index);
            let known = intent.priority != Priority::P4;
            known && !intent.resume && intent.event.as_deref().is_none_or(takes)
        };
        let all = (0..self.conversation.intents.len()).map(|n| IntentIndex(n as u16));
        let mut offered = BTreeSet::new();
        let first = |index: &IntentIndex| match &self.conversation.intent(*index).event {
            Some(event) => offered.insert(Arc::clone(event)),
            None => true,
        };
        let of_priority = |index: &IntentIndex| wanted(self.conversation.intent(*index).priority);
        let intents = all.filter(of_priority).filter(open).filter(first).take(MENU_ENTRIES_MAX);
        let locale = self.turn.locale(self.conversation);
        let option = |intent| self.conversation.intent_option(intent, locale, self.turn.revision());
        let options = intents.map(option).collect();
        Reply { text: self.words("menu"), options, media: Vec::new() }
    }

    fn words(&self, sentence: &str) -> String {
        let locale = self.turn.locale(self.conversation);
        self.scoped(|scope| self.conversation.sentence(sentence, locale, scope))
    }

    fn sentence(&self, name: &str) -> Reply {
        Reply::of_text(self.words(name))
    }

    fn with_prompt(&mut self, sentence: &str) -> Vec<Reply> {
        std::iter::once(self.sentence(sentence)).chain(self.prompt()).collect()
    }

    fn render(&mut self, reply: ReplyIndex) -> Reply {
        let template = &self.conversation.replies[usize::from(reply.0)];
        let context = Arc::clone(&self.turn.position.context);
        self.turn.render(self.conversation, template, &context)
    }

    /// What the current state asks for: what it said last with buttons, else the last reply of its entry.
    fn prompt(&mut self) -> Option<Reply> {
        let asked = self.turn.session.prompt_reply.as_deref();
        if let Some(reply) =
            asked.and_then(|name| self.conversation.replies.iter().position(|r| r.name == name))
        {
            return Some(self.render(ReplyIndex(reply as u16)));
        }
        let leaf = *self.turn.position.leaves().first()?;
        let entry = &self.turn.machine.chart.state(leaf).entry;
        let mut replies = entry.iter().filter_map(|action| match action {
            Action::Reply(reply) => Some(*reply),
            _ => None,
        });
        replies.next_back().map(|reply| self.render(reply))
    }

    fn pending_question(&self) -> Option<Reply> {
        let pending = self.turn.session.pending.as_ref()?;
        Some(Reply { text: pending.question.clone(), options: pending.reply_options(), media: Vec::new() })
    }

    fn label(&self, choice: &Choice, locale: &str) -> String {
        match choice {
            Choice::Continue => self.words("continue"),
            Choice::NoneOfThese => self.words("none_of_these"),
            Choice::Intent(name) | Choice::Confirmed(name) => {
                let intent = self.conversation.intent_by_name(name);
                intent.map_or(name, |intent| &self.conversation.label(intent, locale).text).clone()
            }
        }
    }

    fn scoped<T>(&self, say: impl FnOnce(Scope<'_>) -> T) -> T {
        let active: Vec<Arc<str>> = self.turn.stepper().active_paths(&self.turn.position);
        let no_event = Fields::new();
        let context = &self.turn.position.context;
        say(Scope {
            context,
            event: &no_event,
            event_name: "",
            active: &active,
            now: self.turn.now,
            locals: &[],
            before: None,
        })
    }
}
