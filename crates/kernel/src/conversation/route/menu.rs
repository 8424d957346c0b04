//! What was offered last: its buttons (R2), and its numbers and words where there are no buttons (R5).

use std::borrow::Cow;
use std::sync::Arc;

use crate::conversation::IntentIndex;
use crate::conversation::answer::{Answered, match_label, match_likely, match_number};
use crate::conversation::clarification::ClarificationStatus;
use crate::conversation::message::{Confidence, Message, Rule};
use crate::conversation::offer::{Offer, OfferedItem};
use crate::conversation::recognise::{bare, normalise};
use crate::conversation::route::{Act, Chosen, Router};
use crate::conversation::sentence::Sentence;
use crate::definition::AcceptKind;

/// What can be chosen by its number or its words.
#[derive(Clone, Copy)]
enum Shown<'a> {
    Intent(IntentIndex),
    Item(&'a OfferedItem),
}

impl<'a> Router<'a> {
    pub(super) fn r2_payload(&mut self, _: &str) -> Option<Chosen> {
        let Some(token) = self.message.payload.as_deref() else {
            self.say(Sentence::NoButton);
            return None;
        };
        let pending = self.pending().filter(|question| !question.is_expired(self.now));
        let option = pending.and_then(|question| {
            Some((question, question.options.iter().position(|option| option.id == token)?))
        });
        if let Some((question, option)) = option {
            return Some(self.answered(Rule::R2, question, option, "a live button"));
        }
        let live = format!("p{}.", self.session.prompt_revision);
        let (name, is_live) = match token.strip_prefix(&live) {
            Some(name) => (name, true),
            None => (token.split_once('.').map_or("", |(_, name)| name), false),
        };
        if let Some(item) = self.offered(name).filter(|_| is_live) {
            self.applied(Rule::R2, format!("a live button: `{}`", item.label));
            return Some(self.take_item(item, self.message.clone()));
        }
        let intent = self.conversation.intent_by_name(name).filter(|_| token.starts_with('p'));
        match intent {
            Some(intent) if is_live || (self.intent(intent).when_stale && self.is_open(intent)) => {
                self.say(if is_live { Sentence::LiveButton } else { Sentence::StaleButton });
                if self.intent(intent).event.is_some() {
                    self.leave_question();
                }
                Some(self.take(intent, Confidence::CERTAIN, Confidence::CERTAIN, self.message.clone()))
            }
            _ => {
                self.say(Sentence::ExpiredButton);
                Some(Chosen::plain(Act::MenuExpired))
            }
        }
    }

    fn offered(&self, id: &str) -> Option<&'a OfferedItem> {
        self.session.prompt.iter().filter_map(Offer::item).find(|item| item.id == id)
    }

    /// Whoever goes on by a button of the prompt has left the question.
    fn leave_question(&mut self) {
        if self.pending().is_some() {
            self.resolution.status = Some(ClarificationStatus::Superseded);
        }
    }

    fn take_item(&mut self, item: &OfferedItem, mut message: Message) -> Chosen {
        self.leave_question();
        // What was offered is what was chosen, whatever the caller has found in the words.
        message.parameters.extend(item.payload.clone());
        Chosen {
            act: Act::Dispatch { event: Arc::clone(&item.event), message },
            intent: None,
            raw: Confidence::CERTAIN,
            adjusted: Confidence::CERTAIN,
        }
    }

    /// Without buttons, a menu is answered by a number or by its words; items of a list also by what is nearly theirs,
    /// as the options of a question are.
    pub(super) fn r5_menu(&mut self, normal: &str) -> Option<Chosen> {
        let shown = self.session.prompt.iter().filter_map(|offer| self.on_the_menu(offer));
        let shown: Vec<Shown<'_>> = shown.collect();
        let (at, how) = match self.match_menu(normal, &shown) {
            Answered::Option(at, how) => (at, how),
            Answered::Ambiguous => {
                self.say(Sentence::SeveralOfMenu);
                return None;
            }
            Answered::Nothing => {
                self.say(Sentence::NothingOfMenu);
                return None;
            }
        };
        // The words chose; they are nothing to be kept.
        let message = Message { text: None, ..self.message.clone() };
        let told = |name: &str| format!("`{name}` of the menu shown last, by {how}");
        Some(match shown[at] {
            Shown::Item(item) => {
                self.applied(Rule::R5, told(&item.label));
                self.take_item(item, message)
            }
            Shown::Intent(intent) => {
                self.applied(Rule::R5, told(&self.intent(intent).name));
                self.take(intent, Confidence::CERTAIN, Confidence::CERTAIN, message)
            }
        })
    }

    fn on_the_menu(&self, offer: &'a Offer) -> Option<Shown<'a>> {
        match offer {
            Offer::Item(item) => (!item.behind).then_some(Shown::Item(item)),
            Offer::Intent(name) => self.conversation.intent_by_name(name).map(Shown::Intent),
        }
    }

    /// What is only likely never means an intent of the menu, which has phrases and keywords for that, and yields to
    /// what is exactly a phrase.
    fn match_menu(&self, normal: &str, shown: &[Shown<'_>]) -> Answered {
        let answer = bare(normal);
        let labels: Vec<Cow<'_, str>> = shown.iter().map(|offer| self.label_of(*offer)).collect();
        if let Some(answered) = match_label(answer, &labels) {
            return answered;
        }
        if let Some(answered) = match_number(answer, &labels) {
            let is_taken = self.accepted(AcceptKind::Number).is_some();
            return if is_taken { Answered::Nothing } else { answered };
        }
        let is_item = |offer: &Shown<'_>| matches!(offer, Shown::Item(_));
        let is_phrase = || self.conversation.lexicon.exact(normal, self.locale, |_| true).is_some();
        if !shown.iter().any(is_item) || is_phrase() {
            return Answered::Nothing;
        }
        match match_likely(answer, &labels) {
            Answered::Option(at, _) if !is_item(&shown[at]) => Answered::Nothing,
            answered => answered,
        }
    }

    /// How an offer is called, as it is compared with an answer.
    fn label_of<'s>(&'s self, offer: Shown<'s>) -> Cow<'s, str> {
        match offer {
            Shown::Item(item) => normalise(&item.label),
            Shown::Intent(intent) => {
                let locale = self.locale.unwrap_or(&self.conversation.locales[0]);
                self.conversation.label(intent, locale).bare.as_str().into()
            }
        }
    }
}
