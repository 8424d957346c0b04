//! Conversations: what a person says becomes an event, or a question.
//!
//! Thin by design: a definition's `conversation` section is read (`definition`), a message is recognised
//! (`recognise`) and routed (`route`), and the outcome is worded in the person's language (`wording`). It owns no
//! table, loop or timer, and takes no step: that is `decide`.

mod answer;
pub mod clarification;
pub(crate) mod definition;
pub mod message;
pub(crate) mod offer;
pub(crate) mod recognise;
mod route;
pub(crate) mod sentence;
mod state;
mod texts;
mod wording;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::chart::{ReplyIndex, StateIndex};
use crate::definition::{AcceptKind, Definition};
use crate::diagnostic::{Diagnostic, nearest};
use crate::time::Delay;

pub use clarification::{Choice, Clarification, ClarificationOption, ClarificationStatus};
pub use definition::{LadderStep, Localised, Priority, Thresholds};
pub use message::{
    Address, Candidate, Confidence, Media, Message, MessageOutcome, Reply, ReplyOption, Rule, TraceStep, Why,
};
pub(crate) use offer::MENU_ENTRIES_MAX;
pub use offer::{Each, Offer, OfferedItem, OptionTemplate};
pub use recognise::{Lexicon, normalise};
pub(crate) use route::{Act, Decision, Question, Router};
pub use state::ConversationState;
pub use wording::{Label, ReplyTemplate};

/// What the last step of a ladder takes.
pub(crate) const ABANDON_EVENT: &str = "force_abandon";

/// A compiled `conversation` section.
#[derive(Debug)]
pub struct Conversation {
    pub thresholds: Thresholds,
    pub clarification_expires_after: Delay,
    pub clarification_attempts: u32,
    pub locales: Vec<String>,
    pub ladder: Vec<LadderStep>,
    pub draft: Option<Draft>,
    pub intents: Vec<Intent>,
    /// The definition's own, then the built-in ones that it does not override.
    pub replies: Vec<ReplyTemplate>,
    pub accepts: Accepts,
    pub lexicon: Lexicon,
}

#[derive(Debug)]
pub struct Draft {
    pub key: String,
    pub fields: Vec<String>,
}

/// An intent, by its place in `Conversation::intents`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IntentIndex(pub u16);

#[derive(Debug)]
pub struct Intent {
    pub name: String,
    pub priority: Priority,
    pub event: Option<Arc<str>>,
    pub reply: Option<ReplyIndex>,
    pub starts: Option<String>,
    /// Parameter and context field.
    pub entity: Option<(String, String)>,
    pub destructive: bool,
    pub hand_over: bool,
    pub resume: bool,
    pub when_stale: bool,
    /// At least one.
    pub labels: Vec<Label>,
    /// Whole messages that mean it, as they are written, each with its language if it belongs to one.
    pub phrases: Vec<(Option<String>, String)>,
}

/// What states take without an intent being named.
#[derive(Debug, Default)]
pub struct Accepts(BTreeMap<(StateIndex, AcceptKind), Arc<str>>);

impl Accepts {
    pub(crate) fn insert(&mut self, state: StateIndex, kind: AcceptKind, event: Arc<str>) {
        self.0.insert((state, kind), event);
    }

    pub fn get(&self, state: StateIndex, kind: AcceptKind) -> Option<&Arc<str>> {
        self.0.get(&(state, kind))
    }

    /// The states that declare anything, with the events their input becomes.
    pub fn iter(&self) -> impl Iterator<Item = (StateIndex, AcceptKind, &Arc<str>)> {
        self.0.iter().map(|((state, kind), event)| (*state, *kind, event))
    }
}

impl Conversation {
    pub(crate) fn compile(
        written: &definition::ConversationDefinition,
        definition: &Definition,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Self {
        let replies = wording::compile_replies(written, definition, diagnostics);
        let lexicon = Lexicon::compile(&written.intents, diagnostics);
        let mut error = |code, place, message, help| {
            diagnostics.push(Diagnostic::error(code, place, message, help));
        };
        let fields: Vec<&str> = definition.context.iter().map(|f| f.name.value.as_str()).collect();
        let draft_fields = written.draft.iter().flat_map(|d| std::iter::once(&d.key).chain(&d.fields));
        let entity_fields = written.intents.iter().filter_map(|i| Some(&i.entity.as_ref()?.1));
        for field in draft_fields.chain(entity_fields) {
            if !fields.contains(&field.value.as_str()) {
                let message = format!("the context has no field `{}`", field.value);
                error("unknown_field", field.place, message, nearest(&field.value, fields.iter().copied()));
            }
        }
        let intents = written.intents.iter().map(|intent| {
            let reply = intent.reply.as_ref().and_then(|name| {
                let found = replies.iter().position(|r| r.name == name.value);
                if found.is_none() {
                    let message = format!("there is no reply `{}`", name.value);
                    let help = nearest(&name.value, replies.iter().map(|r| r.name.as_str()));
                    error("unknown_reply", name.place, message, help);
                }
                found.map(|number| ReplyIndex(number as u16))
            });
            Intent {
                name: intent.name.value.clone(),
                priority: intent.priority,
                event: intent.event.as_ref().map(|e| e.value.as_str().into()),
                reply,
                starts: intent.starts.clone(),
                entity: intent.entity.as_ref().map(|(p, f)| (p.value.clone(), f.value.clone())),
                destructive: intent.destructive,
                hand_over: intent.hand_over,
                resume: intent.resume,
                when_stale: intent.when_stale,
                labels: Label::all_of(intent),
                phrases: intent.phrases.iter().map(|p| (p.locale.clone(), p.text.value.clone())).collect(),
            }
        });
        let intents = intents.collect();
        Self {
            thresholds: written.thresholds,
            clarification_expires_after: written.clarification_expires_after,
            clarification_attempts: written.clarification_attempts,
            locales: written.locales.clone(),
            ladder: written.ladder.clone(),
            draft: written.draft.as_ref().map(|d| Draft {
                key: d.key.value.clone(),
                fields: d.fields.iter().map(|f| f.value.clone()).collect(),
            }),
            intents,
            replies,
            accepts: Accepts::default(),
            lexicon,
        }
    }

    pub fn intent(&self, index: IntentIndex) -> &Intent {
        &self.intents[usize::from(index.0)]
    }

    pub fn intent_by_name(&self, name: &str) -> Option<IntentIndex> {
        self.intents.iter().position(|i| i.name == name).map(|n| IntentIndex(n as u16))
    }

    /// The base language of a tag such as `fr-CA`, if this conversation speaks it.
    pub fn base_locale(&self, tag: &str) -> Option<&str> {
        let base = tag.split(['-', '_']).next().unwrap_or(tag).to_lowercase();
        self.locales.iter().find(|l| **l == base).map(String::as_str)
    }
}
