//! The router: which of the things a message may mean is done about it. Rules R0 to R13, in `docs/routing.md`.
//!
//! Pure. The definition governs; candidates only advise. Every rule leaves its verdict in the trace, also when it does
//! not apply, so that any decision explains itself. It moves nothing: `decide` carries out the `Act`.

mod choice;
mod menu;
mod reading;
mod wanted;

use std::borrow::Cow;
use std::sync::Arc;

use crate::chart::{Chart, ReplyIndex, StateIndex};
use crate::conversation::answer::{Answered, match_answer};
use crate::conversation::clarification::{Choice, Clarification, ClarificationStatus};
use crate::conversation::message::{Confidence, Message, Rule, TraceStep};
use crate::conversation::recognise::normalise;
use crate::conversation::route::reading::Reading;
use crate::conversation::sentence::Sentence;
use crate::conversation::{Conversation, ConversationState, Intent, IntentIndex, LadderStep, Priority};
use crate::definition::AcceptKind;
use crate::input::Fields;
use crate::time::Timestamp;

/// What is to be done about a message.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Act {
    Ignore,
    Record,
    Resume,
    HandOver,
    /// Take an event with what the (original) message carries.
    Dispatch {
        event: Arc<str>,
        message: Message,
    },
    Inline(Option<ReplyIndex>),
    Ask(Question),
    AskAgain,
    HoldMedia,
    Fallback(LadderStep),
    MenuExpired,
    Continue,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Question {
    /// Which sentence of `texts` asks.
    pub sentence: &'static str,
    pub choices: Vec<Choice>,
    pub original: Message,
}

/// What becomes of the pending question.
#[derive(Clone, Debug, PartialEq, Default)]
pub(crate) struct Resolution {
    pub status: Option<ClarificationStatus>,
    pub option: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Decision {
    pub act: Act,
    pub rule: Rule,
    pub intent: Option<IntentIndex>,
    pub raw: Confidence,
    pub adjusted: Confidence,
    pub trace: Vec<TraceStep>,
    pub resolution: Resolution,
}

/// Everything that a decision depends on.
#[derive(Debug)]
pub(crate) struct Router<'a> {
    pub conversation: &'a Conversation,
    pub chart: &'a Chart,
    pub leaves: &'a [StateIndex],
    pub session: &'a ConversationState,
    pub context: &'a Fields,
    pub message: &'a Message,
    pub locale: Option<&'a str>,
    pub now: Timestamp,
    pub trace: Vec<TraceStep>,
    pub resolution: Resolution,
}

/// A rule's decision before it is put together with the trace.
struct Chosen {
    act: Act,
    intent: Option<IntentIndex>,
    raw: Confidence,
    adjusted: Confidence,
}

impl Chosen {
    /// No intent is behind it.
    fn plain(act: Act) -> Self {
        Self { act, intent: None, raw: Confidence::NONE, adjusted: Confidence::NONE }
    }

    fn certain(act: Act, intent: IntentIndex) -> Self {
        Self { act, intent: Some(intent), raw: Confidence::CERTAIN, adjusted: Confidence::CERTAIN }
    }

    fn of(reading: &Reading, act: Act) -> Self {
        Self { act, intent: Some(reading.intent), raw: reading.raw, adjusted: reading.adjusted }
    }
}

impl<'a> Router<'a> {
    pub fn route(mut self) -> Decision {
        let normal = self.normal();
        let chosen = match self.without_reading(&normal) {
            Some(chosen) => chosen,
            None => self.by_reading(&normal),
        };
        self.decided(chosen)
    }

    fn normal(&self) -> Cow<'a, str> {
        self.message.text.as_deref().map(normalise).unwrap_or_default()
    }

    /// The decision for an option chosen by its id (`POST /v1/clarifications/{id}/answer`).
    pub fn answer(mut self, question: &Clarification, option: usize) -> Decision {
        let chosen = self.answered(Rule::R5, question, option, "the option's id");
        self.decided(chosen)
    }

    fn decided(self, chosen: Chosen) -> Decision {
        let rule = self.trace.iter().rev().find(|step| step.applied).map_or(Rule::R13, |s| s.rule);
        Decision {
            act: chosen.act,
            rule,
            intent: chosen.intent,
            raw: chosen.raw,
            adjusted: chosen.adjusted,
            trace: self.trace,
            resolution: self.resolution,
        }
    }

    fn say(&mut self, sentence: Sentence) {
        self.trace.push(sentence.step());
    }

    /// In words that are not always the same.
    fn passed(&mut self, rule: Rule, because: String) {
        self.trace.push(TraceStep { rule, applied: false, because: because.into() });
    }

    /// As `passed`.
    fn applied(&mut self, rule: Rule, because: String) {
        self.trace.push(TraceStep { rule, applied: true, because: because.into() });
    }

    fn pending(&self) -> Option<&'a Clarification> {
        self.session.pending.as_ref().filter(|_| self.resolution.status.is_none())
    }

    fn intent(&self, index: IntentIndex) -> &'a Intent {
        self.conversation.intent(index)
    }

    fn r0_nothing(&mut self, normal: &str) -> Option<Chosen> {
        let empty = normal.is_empty() && self.message.payload.is_none() && self.message.media.is_empty();
        if empty {
            self.say(Sentence::Nothing);
            return Some(Chosen::plain(Act::Ignore));
        }
        self.say(Sentence::SomeMessage);
        None
    }

    fn r1_handed_over(&mut self, normal: &str) -> Option<Chosen> {
        if !self.session.handed_over {
            self.say(Sentence::NotHandedOver);
            return None;
        }
        let resumes = |intent: IntentIndex| self.intent(intent).resume;
        match self.conversation.lexicon.exact(normal, self.locale, resumes) {
            Some(intent) => {
                self.say(Sentence::ResumeCommand);
                Some(Chosen::certain(Act::Resume, intent))
            }
            None => {
                self.say(Sentence::RecordedOnly);
                Some(Chosen::plain(Act::Record))
            }
        }
    }

    fn r3_expiry(&mut self, _: &str) -> Option<Chosen> {
        match self.pending() {
            Some(question) if question.is_expired(self.now) => {
                self.resolution.status = Some(ClarificationStatus::Expired);
                self.applied(
                    Rule::R3,
                    format!("the question expired at {}; routed as new", question.expires_at),
                );
            }
            Some(_) => self.say(Sentence::QuestionLives),
            None => self.say(Sentence::NoQuestionToExpire),
        }
        None
    }

    fn r4_urgent(&mut self, normal: &str) -> Option<Chosen> {
        let urgent = |intent: IntentIndex| self.intent(intent).priority == Priority::P0;
        let Some(intent) = self.conversation.lexicon.exact(normal, self.locale, urgent) else {
            self.say(Sentence::NotUrgent);
            return None;
        };
        self.applied(Rule::R4, format!("exactly a phrase of `{}`", self.intent(intent).name));
        if self.pending().is_some() && self.intent(intent).event.is_some() {
            self.resolution.status = Some(ClarificationStatus::Cancelled);
        }
        Some(self.take(intent, Confidence::CERTAIN, Confidence::CERTAIN, self.message.clone()))
    }

    /// R0 to R5: what is decided before anybody asks what the words may mean.
    fn without_reading(&mut self, normal: &str) -> Option<Chosen> {
        let early: [fn(&mut Self, &str) -> Option<Chosen>; 5] =
            [Self::r0_nothing, Self::r1_handed_over, Self::r2_payload, Self::r3_expiry, Self::r4_urgent];
        early.into_iter().find_map(|rule| rule(self, normal)).or_else(|| self.r5_answer(normal))
    }

    /// R6 to R13: something that the state takes, or an intent.
    fn by_reading(&mut self, normal: &str) -> Chosen {
        let readings = self.readings(normal);
        if let Some(chosen) = self.r6_superseded(&readings) {
            return chosen;
        }
        if let Some(chosen) = self.r7_accepted(normal, &readings) {
            return chosen;
        }
        self.note_readings(&readings);
        if let Some(chosen) = self.r10_conflict(&readings) {
            return chosen;
        }
        self.r11_choose(&readings).unwrap_or_else(|| self.r13_fallback(&readings))
    }

    fn r5_answer(&mut self, normal: &str) -> Option<Chosen> {
        let Some(text) = self.message.text.as_deref().filter(|_| self.message.quoted.is_none()) else {
            self.say(Sentence::NoAnswerByText);
            return None;
        };
        let Some(question) = self.pending() else { return self.r5_menu(normal) };
        match match_answer(self.conversation, question, text, normal, self.locale) {
            Answered::Option(option, how) => Some(self.answered(Rule::R5, question, option, how)),
            Answered::Ambiguous => {
                self.say(Sentence::SeveralOptions);
                Some(self.ask_again(question))
            }
            Answered::Nothing => {
                self.say(Sentence::NoOption);
                None
            }
        }
    }

    fn ask_again(&mut self, question: &Clarification) -> Chosen {
        if question.attempts + 1 >= self.conversation.clarification_attempts {
            self.resolution.status = Some(ClarificationStatus::Cancelled);
            return self.ladder("the question was missed too often");
        }
        Chosen::plain(Act::AskAgain)
    }

    fn answered(&mut self, rule: Rule, question: &Clarification, option: usize, how: &'static str) -> Chosen {
        let option = &question.options[option];
        self.resolution =
            Resolution { status: Some(ClarificationStatus::Answered), option: Some(option.id.clone()) };
        self.applied(rule, format!("answers the pending question: `{}`, by {how}", option.label));
        let original = question.original.clone();
        match &option.choice {
            Choice::Intent(name) | Choice::Confirmed(name) => {
                let Some(intent) = self.conversation.intent_by_name(name) else {
                    return self.ladder("the intent is gone from the definition");
                };
                match option.choice {
                    Choice::Confirmed(_) => Chosen::certain(self.act_of(intent, original), intent),
                    _ => self.take(intent, Confidence::CERTAIN, Confidence::CERTAIN, original),
                }
            }
            Choice::Continue => match self
                .accepted(AcceptKind::Text)
                .filter(|_| original.text.is_some() && !self.is_command(&original))
            {
                Some(event) => Chosen::plain(Act::Dispatch { event: Arc::clone(event), message: original }),
                None => Chosen::plain(Act::Continue),
            },
            Choice::NoneOfThese => Chosen::plain(Act::Fallback(LadderStep::Rephrase)),
        }
    }

    fn r6_superseded(&mut self, readings: &[Reading]) -> Option<Chosen> {
        let Some(question) = self.pending() else {
            self.say(Sentence::NoQuestionToSetAside);
            return None;
        };
        if !self.may_answer() {
            self.say(Sentence::NotMeantAsAnswer);
            return None;
        }
        let sure = |r: &&Reading| r.adjusted >= self.conversation.thresholds.supersede;
        let known = |r: &&Reading| self.intent(r.intent).priority != Priority::P4;
        match readings.iter().find(|r| sure(r) && known(r)) {
            Some(reading) => {
                let name = &self.intent(reading.intent).name;
                self.applied(Rule::R6, format!("`{name}` at {} sets the question aside", reading.adjusted));
                self.resolution.status = Some(ClarificationStatus::Superseded);
                None
            }
            None => {
                self.say(Sentence::NeitherAnswerNorElse);
                Some(self.ask_again(question))
            }
        }
    }

    /// Whether the message could be meant as an answer to a question.
    fn may_answer(&self) -> bool {
        self.message.quoted.is_none() && self.message.text.is_some()
    }

    /// Whether a message is nothing but a phrase of some intent.
    fn is_command(&self, message: &Message) -> bool {
        let normal = message.text.as_deref().map(normalise).unwrap_or_default();
        let lexicon = &self.conversation.lexicon;
        message.media.is_empty() && lexicon.exact(&normal, self.locale, |_| true).is_some()
    }

    /// The event of what an active state takes without an intent.
    fn accepted(&self, kind: AcceptKind) -> Option<&'a Arc<str>> {
        let chart = self.chart;
        let chain = |leaf: &StateIndex| std::iter::once(*leaf).chain(chart.ancestors(*leaf));
        self.leaves.iter().flat_map(chain).find_map(|state| self.conversation.accepts.get(state, kind))
    }

    fn r7_accepted(&mut self, normal: &str, readings: &[Reading]) -> Option<Chosen> {
        if let Some((chosen, sentence)) = self.accepted_unread(normal) {
            self.say(sentence);
            return Some(chosen);
        }
        let Some(event) = self.accepted(AcceptKind::Text) else {
            self.say(Sentence::NoFreeText);
            return None;
        };
        let asks = |r: &&Reading| self.must_ask(r) && self.intent(r.intent).priority == Priority::P1;
        if let Some(reading) = readings.iter().find(asks) {
            let name = &self.intent(reading.intent).name;
            self.passed(Rule::R7, format!("free text, but `{name}` at {} conflicts", reading.raw));
            return None;
        }
        if let Some(reading) = readings.iter().find(|r| self.is_sure(r)) {
            let name = &self.intent(reading.intent).name;
            self.passed(Rule::R7, format!("free text, but surely `{name}` at {}", reading.adjusted));
            return None;
        }
        self.say(Sentence::FreeText);
        Some(self.dispatch_accepted(event))
    }

    /// What rule R7 decides whatever the words may mean: about media, and about a number where one is taken.
    fn accepted_unread(&self, normal: &str) -> Option<(Chosen, Sentence)> {
        if !self.message.media.is_empty() {
            return Some(match self.accepted(AcceptKind::Media) {
                Some(event) => (self.dispatch_accepted(event), Sentence::Media),
                None => (Chosen::plain(Act::HoldMedia), Sentence::MediaHeld),
            });
        }
        let number = normal.parse::<f64>().is_ok_and(f64::is_finite);
        let event = self.accepted(AcceptKind::Number).filter(|_| number)?;
        Some((self.dispatch_accepted(event), Sentence::Number))
    }

    fn dispatch_accepted(&self, event: &Arc<str>) -> Chosen {
        Chosen::plain(Act::Dispatch { event: Arc::clone(event), message: self.message.clone() })
    }

    /// Sure enough to be heard in a state that takes free text.
    fn is_sure(&self, reading: &Reading) -> bool {
        let thresholds = &self.conversation.thresholds;
        let needed = if reading.by_caller { thresholds.confidence } else { thresholds.free_text };
        let known = self.intent(reading.intent).priority != Priority::P4;
        known && reading.adjusted >= needed && self.is_open(reading.intent)
    }

    /// Whether the active states offer a transition for the intent's event, or it needs none.
    fn is_open(&self, intent: IntentIndex) -> bool {
        match &self.intent(intent).event {
            None => true,
            Some(event) => self.takes(event),
        }
    }

    fn takes(&self, event: &str) -> bool {
        let Some(event) = self.chart.event(event) else {
            return false;
        };
        self.leaves.iter().any(|leaf| !self.chart.candidates(*leaf, event).is_empty())
    }

    /// Does what an intent is for, or asks first whether to be sure.
    fn take(
        &mut self,
        index: IntentIndex,
        raw: Confidence,
        adjusted: Confidence,
        message: Message,
    ) -> Chosen {
        let act = if self.intent(index).destructive {
            self.say(Sentence::Destructive);
            confirmation(self.intent(index), message)
        } else {
            self.act_of(index, message)
        };
        Chosen { act, intent: Some(index), raw, adjusted }
    }

    fn act_of(&self, index: IntentIndex, message: Message) -> Act {
        let intent = self.intent(index);
        match &intent.event {
            _ if intent.hand_over => Act::HandOver,
            _ if intent.resume => Act::Resume,
            Some(event) => {
                let message = with_parameters(message, &intent.name);
                Act::Dispatch { event: Arc::clone(event), message }
            }
            None => Act::Inline(intent.reply),
        }
    }
}

/// "Are you sure?", before something that cannot be undone.
fn confirmation(intent: &Intent, original: Message) -> Act {
    let choices = vec![Choice::Confirmed(intent.name.clone()), Choice::Continue];
    Act::Ask(Question { sentence: "ask_certain", choices, original })
}

/// The message with what the caller's best candidate for an intent found in it.
fn with_parameters(mut message: Message, intent: &str) -> Message {
    let of_intent = message.candidates.iter().filter(|c| c.intent == intent);
    let best = of_intent.max_by_key(|c| c.confidence).map(|c| c.parameters.clone());
    for (name, value) in best.unwrap_or_default() {
        message.parameters.entry(name).or_insert(value);
    }
    message
}
