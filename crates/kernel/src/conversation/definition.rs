//! The `conversation` section of a definition: intents, thresholds, languages, replies.
//!
//! Owns its shape and how it is read. Names of events, fields and replies are resolved by `definition::compile`,
//! which makes a `Conversation` of it.

mod options;

use crate::conversation::message::Confidence;
use crate::conversation::texts;
use crate::definition::document::{Node, NodeKind, Placed};
use crate::definition::reader::{Entries, Reader};
use crate::diagnostic::{Place, nearest};
use crate::time::Delay;

pub use options::{EachDefinition, OptionDefinition};

#[derive(Clone, Debug)]
pub struct ConversationDefinition {
    pub thresholds: Thresholds,
    pub clarification_expires_after: Delay,
    /// How many answers may miss before the ladder is taken.
    pub clarification_attempts: u32,
    /// Base languages; the first is the fallback.
    pub locales: Vec<String>,
    /// What happens at the first, second, … message in a row that is not understood; the last repeats.
    pub ladder: Vec<LadderStep>,
    pub draft: Option<DraftDefinition>,
    pub intents: Vec<IntentDefinition>,
    pub replies: Vec<ReplyDefinition>,
}

impl ConversationDefinition {
    /// The lists that replies offer.
    pub(crate) fn offered_lists(&self) -> impl Iterator<Item = &EachDefinition> {
        let options = self.replies.iter().flat_map(|reply| &reply.options);
        options.filter_map(|option| match option {
            OptionDefinition::Each(each) => Some(each),
            OptionDefinition::Intent(_) => None,
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thresholds {
    /// From here on an intent may be dispatched.
    pub confidence: Confidence,
    /// What a conflict costs.
    pub conflict: ConflictPenalty,
    /// Two of one priority closer than this are ambiguous.
    pub ambiguity: Confidence,
    /// From here on "did you mean" is asked.
    pub suggestion: Confidence,
    /// An intent this sure sets a pending question aside.
    pub supersede: Confidence,
    /// In a state that takes free text, the built-in recogniser must be this sure to be heard instead.
    pub free_text: Confidence,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConflictPenalty {
    Subtract(Confidence),
    /// Multiply by this share.
    Multiply(Confidence),
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            confidence: Confidence::basis_points(7_000),
            conflict: ConflictPenalty::Subtract(Confidence::basis_points(3_000)),
            ambiguity: Confidence::basis_points(1_500),
            suggestion: Confidence::basis_points(4_000),
            supersede: Confidence::basis_points(8_500),
            free_text: Confidence::basis_points(9_500),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LadderStep {
    Rephrase,
    Menu,
    HandOver,
    Abandon,
}

/// What is put aside when the session turns to another entity, and by which field it is found again.
#[derive(Clone, Debug)]
pub struct DraftDefinition {
    pub key: Placed<String>,
    pub fields: Vec<Placed<String>>,
}

#[derive(Clone, Debug)]
pub struct IntentDefinition {
    pub name: Placed<String>,
    pub priority: Priority,
    pub event: Option<Placed<String>>,
    /// Answered with this, without touching the state.
    pub reply: Option<Placed<String>>,
    /// What it begins; an intent that begins something else than the session is about conflicts with it.
    pub starts: Option<String>,
    /// The parameter that names an entity, and the context field that holds the session's own.
    pub entity: Option<(Placed<String>, Placed<String>)>,
    /// Always confirmed first.
    pub destructive: bool,
    pub hand_over: bool,
    /// Ends a hand-over.
    pub resume: bool,
    /// May be dispatched from a menu that has been overtaken.
    pub when_stale: bool,
    pub label: Localised,
    pub phrases: Vec<Worded>,
    pub keywords: Vec<Worded>,
    pub patterns: Vec<Worded>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    P0,
    P1,
    P2,
    P3,
    P4,
}

/// A phrase, keyword or pattern, of one language or of all.
#[derive(Clone, Debug)]
pub struct Worded {
    pub locale: Option<String>,
    pub text: Placed<String>,
}

/// A text in one or more languages; with `None` for a language, for all others.
#[derive(Clone, Debug, Default)]
pub struct Localised(pub Vec<(Option<String>, Placed<String>)>);

#[derive(Clone, Debug)]
pub struct ReplyDefinition {
    pub name: Placed<String>,
    pub text: Localised,
    /// What is offered as buttons.
    pub options: Vec<OptionDefinition>,
}

pub(crate) const KEYS: [&str; 7] =
    ["thresholds", "clarification", "locales", "ladder", "draft", "intents", "replies"];
pub(crate) const CLARIFICATION_KEYS: [&str; 2] = ["expires_after", "attempts"];
pub(crate) const THRESHOLD_KEYS: [&str; 7] =
    ["confidence", "conflict", "conflict_mode", "ambiguity", "suggestion", "supersede", "free_text"];
pub(crate) const DRAFT_KEYS: [&str; 2] = ["key", "fields"];
const REPLY_KEYS: [&str; 2] = ["text", "options"];
pub(crate) const INTENT_KEYS: [&str; 14] = [
    "priority",
    "event",
    "reply",
    "starts",
    "entity",
    "destructive",
    "hand_over",
    "resume",
    "when_stale",
    "label",
    "phrases",
    "keywords",
    "patterns",
    "description",
];
const PRIORITIES: [(&str, Priority); 5] = [
    ("P0", Priority::P0),
    ("P1", Priority::P1),
    ("P2", Priority::P2),
    ("P3", Priority::P3),
    ("P4", Priority::P4),
];
const CONFLICT_MODES: [(&str, bool); 2] = [("subtract", false), ("multiply", true)];
const LADDER: [(&str, LadderStep); 4] = [
    ("rephrase", LadderStep::Rephrase),
    ("menu", LadderStep::Menu),
    ("hand_over", LadderStep::HandOver),
    ("abandon", LadderStep::Abandon),
];

pub(crate) fn read_conversation(reader: &mut Reader<'_>, node: &Node) -> Option<ConversationDefinition> {
    let entries = reader.entries(node, "`conversation`", &KEYS)?;
    let mut expires_after = Delay::from_secs(300);
    let mut attempts = 2;
    if let Some(section) = entries.get("clarification")
        && let Some(section) = reader.entries(section, "`clarification`", &CLARIFICATION_KEYS)
    {
        let text = section.get("expires_after").and_then(|d| reader.text(d, "`expires_after`"));
        expires_after = text.and_then(|text| reader.delay(&text)).unwrap_or(expires_after);
        attempts = section
            .get("attempts")
            .and_then(|a| reader.integer(a, "`attempts`", 1, 10))
            .and_then(|a| u32::try_from(a).ok())
            .unwrap_or(attempts);
    }
    let locales = entries.get("locales").map(|l| reader.texts(l, "`locales`")).unwrap_or_default();
    let locales: Vec<String> = locales.into_iter().map(|locale| locale.value).collect();
    let mut words = Words { reader, declared: !locales.is_empty(), locales };
    let thresholds = entries.get("thresholds").map(|t| words.thresholds(t)).unwrap_or_default();
    let ladder = entries.get("ladder").map(|l| words.ladder(l)).unwrap_or_default();
    let draft = entries.get("draft").and_then(|d| words.draft(d));
    let intents = entries.get("intents").map(|i| words.intents(i)).unwrap_or_default();
    let replies = entries.get("replies").map(|r| words.replies(r)).unwrap_or_default();
    let mut locales = words.locales;
    if locales.is_empty() {
        locales.push(texts::FALLBACK_LOCALE.to_owned());
    }
    let ladder = if ladder.is_empty() { vec![LadderStep::Rephrase, LadderStep::Menu] } else { ladder };
    Some(ConversationDefinition {
        thresholds,
        clarification_expires_after: expires_after,
        clarification_attempts: attempts,
        locales,
        ladder,
        draft,
        intents,
        replies,
    })
}

/// Reads what is worded in languages. Where the section declares no `locales`, they are those that occur.
struct Words<'r, 'd> {
    reader: &'r mut Reader<'d>,
    declared: bool,
    locales: Vec<String>,
}

impl Words<'_, '_> {
    fn locale(&mut self, key: &Placed<String>) -> Option<String> {
        let plausible =
            (2..=3).contains(&key.value.len()) && key.value.bytes().all(|b| b.is_ascii_lowercase());
        if self.locales.contains(&key.value) {
            return Some(key.value.clone());
        }
        if self.declared || !plausible {
            let message = format!("`{}` is no locale of this conversation", key.value);
            let help = match self.declared {
                true => nearest(&key.value, self.locales.iter().map(String::as_str)),
                false => "write a base language such as `en` or `fr`".to_owned(),
            };
            self.reader.error("unknown_locale", key.place, message, help);
            return None;
        }
        self.locales.push(key.value.clone());
        Some(key.value.clone())
    }

    fn localised(&mut self, node: &Node, what: &str) -> Localised {
        let NodeKind::Map(entries) = &node.kind else {
            let text = self.reader.text(node, what);
            return Localised(text.into_iter().map(|text| (None, text)).collect());
        };
        let mut texts = Vec::new();
        for (key, text) in entries {
            let locale = self.locale(key);
            if let (Some(locale), Some(text)) = (locale, self.reader.text(text, what)) {
                texts.push((Some(locale), text));
            }
        }
        Localised(texts)
    }

    /// `{ en: [a, b], fr: [c] }`, or `[a, b]` for every language.
    fn worded(&mut self, node: Option<&Node>, what: &str) -> Vec<Worded> {
        let Some(node) = node else { return Vec::new() };
        let NodeKind::Map(entries) = &node.kind else {
            let texts = self.reader.texts(node, what);
            return texts.into_iter().map(|text| Worded { locale: None, text }).collect();
        };
        let mut words = Vec::new();
        for (key, node) in entries {
            if let Some(locale) = self.locale(key) {
                let texts = self.reader.texts(node, what);
                words.extend(texts.into_iter().map(|text| Worded { locale: Some(locale.clone()), text }));
            }
        }
        words
    }

    fn share(&mut self, node: &Node, what: &str) -> Option<Confidence> {
        let share = match node.kind {
            NodeKind::Float(share) => share,
            NodeKind::Int(whole) => whole as f64,
            _ => {
                self.reader.wrong_type(node, what, "a number from 0 to 1");
                return None;
            }
        };
        Confidence::from_share(share)
            .map_err(|_| {
                let message = format!("{what} is {share}");
                self.reader.error(
                    "bad_value",
                    node.place,
                    message,
                    "write a number from 0 to 1, such as 0.70",
                );
            })
            .ok()
    }

    fn thresholds(&mut self, node: &Node) -> Thresholds {
        let mut thresholds = Thresholds::default();
        let Some(entries) = self.reader.entries(node, "`thresholds`", &THRESHOLD_KEYS) else {
            return thresholds;
        };
        let mut set = |key: &str, slot: &mut Confidence| {
            if let Some(share) = entries.get(key).and_then(|n| self.share(n, &format!("`{key}`"))) {
                *slot = share;
            }
        };
        set("confidence", &mut thresholds.confidence);
        set("ambiguity", &mut thresholds.ambiguity);
        set("suggestion", &mut thresholds.suggestion);
        set("supersede", &mut thresholds.supersede);
        set("free_text", &mut thresholds.free_text);
        let mode = entries
            .get("conflict_mode")
            .and_then(|m| self.reader.choice(m, "`conflict_mode`", &CONFLICT_MODES));
        let amount = entries.get("conflict").and_then(|n| self.share(n, "`conflict`"));
        thresholds.conflict = match (mode.unwrap_or(false), amount) {
            (false, None) => thresholds.conflict,
            (false, Some(amount)) => ConflictPenalty::Subtract(amount),
            // As in the default: a conflict costs thirty per cent.
            (true, amount) => ConflictPenalty::Multiply(amount.unwrap_or(Confidence::basis_points(7_000))),
        };
        thresholds
    }

    fn ladder(&mut self, node: &Node) -> Vec<LadderStep> {
        let items = self.reader.one_or_many(node);
        items.into_iter().filter_map(|item| self.reader.choice(item, "`ladder`", &LADDER)).collect()
    }

    fn draft(&mut self, node: &Node) -> Option<DraftDefinition> {
        let entries = self.reader.entries(node, "`draft`", &DRAFT_KEYS)?;
        let key = entries.get("key").and_then(|key| self.reader.text(key, "`key`"));
        let fields = entries.get("fields").map(|f| self.reader.texts(f, "`fields`")).unwrap_or_default();
        if key.is_none() || fields.is_empty() {
            let message = "`draft` needs `key` and `fields`".to_owned();
            self.reader.error(
                "missing_key",
                node.place,
                message,
                "write `draft: { key: task_id, fields: [comment] }`",
            );
        }
        Some(DraftDefinition { key: key?, fields })
    }

    fn intents(&mut self, node: &Node) -> Vec<IntentDefinition> {
        let Some(intents) = self.reader.named(node, "`intents`") else {
            return Vec::new();
        };
        intents.iter().filter_map(|(name, intent)| self.intent(name, intent)).collect()
    }

    fn intent(&mut self, name: &Placed<String>, node: &Node) -> Option<IntentDefinition> {
        self.reader.name(name, "an intent");
        let what = format!("the intent `{}`", name.value);
        let entries = self.reader.entries(node, &what, &INTENT_KEYS)?;
        let priority = match entries.get("priority") {
            Some(node) => self.reader.choice(node, "`priority`", &PRIORITIES),
            None => {
                let message = format!("{what} has no `priority`");
                self.reader.error("missing_key", name.place, message, "add one of P0 (first) to P4 (last)");
                None
            }
        };
        let mut text = |key: &str| entries.get(key).and_then(|n| self.reader.text(n, &format!("`{key}`")));
        let (event, reply, starts) = (text("event"), text("reply"), text("starts"));
        let mut flag =
            |key: &str| entries.get(key).and_then(|n| self.reader.boolean(n, key)).unwrap_or(false);
        let (destructive, hand_over) = (flag("destructive"), flag("hand_over"));
        let (resume, when_stale) = (flag("resume"), flag("when_stale"));
        let entity = entries.get("entity").and_then(|e| self.entity(e));
        let label = entries.get("label").map(|l| self.localised(l, "a label")).unwrap_or_default();
        let phrases = self.worded(entries.get("phrases"), "a phrase");
        let keywords = self.worded(entries.get("keywords"), "a keyword");
        let patterns = self.worded(entries.get("patterns"), "a pattern");
        let acts = event.is_some() || reply.is_some() || hand_over || resume;
        if !acts && priority != Some(Priority::P4) {
            self.idle_intent(name, &entries);
        }
        Some(IntentDefinition {
            name: name.clone(),
            priority: priority.unwrap_or(Priority::P4),
            event,
            reply,
            starts: starts.map(|s| s.value),
            entity,
            destructive,
            hand_over,
            resume,
            when_stale,
            label,
            phrases,
            keywords,
            patterns,
        })
    }

    fn idle_intent(&mut self, name: &Placed<String>, entries: &Entries<'_>) {
        let _ = entries;
        let message = format!("the intent `{}` does nothing", name.value);
        self.reader.error(
            "idle_intent",
            name.place,
            message,
            "give it an `event`, a `reply`, `hand_over` or `resume`",
        );
    }

    fn entity(&mut self, node: &Node) -> Option<(Placed<String>, Placed<String>)> {
        let entries = self.reader.named(node, "`entity`")?;
        let pair = entries.iter().next();
        let (parameter, field) = pair?;
        Some((parameter.clone(), self.reader.text(field, "the context field of an entity")?))
    }

    fn replies(&mut self, node: &Node) -> Vec<ReplyDefinition> {
        let Some(replies) = self.reader.named(node, "`replies`") else {
            return Vec::new();
        };
        replies.iter().filter_map(|(name, reply)| self.reply(name, reply)).collect()
    }

    fn reply(&mut self, name: &Placed<String>, node: &Node) -> Option<ReplyDefinition> {
        self.reader.name(name, "a reply");
        let full = matches!(&node.kind, NodeKind::Map(e) if e.iter().any(|(k, _)| k.value == "text"));
        let mut options = Vec::new();
        let text = if full {
            let what = format!("the reply `{}`", name.value);
            let entries = self.reader.entries(node, &what, &REPLY_KEYS)?;
            options = entries.get("options").map(|o| self.options(o)).unwrap_or_default();
            self.localised(entries.get("text")?, "a reply's text")
        } else {
            self.localised(node, "a reply's text")
        };
        if text.0.is_empty() {
            self.empty_reply(name.place, &name.value);
        }
        Some(ReplyDefinition { name: name.clone(), text, options })
    }

    fn empty_reply(&mut self, place: Place, name: &str) {
        let message = format!("the reply `{name}` has no text");
        self.reader.error("missing_key", place, message, "write it: `{ en: \"…\" }`");
    }
}

/// Which keys may stand at which place of the schema.
#[cfg(test)]
pub(crate) fn keys_by_place() -> Vec<(&'static str, Vec<&'static str>)> {
    vec![
        ("/$defs/conversation", KEYS.to_vec()),
        ("/$defs/clarification", CLARIFICATION_KEYS.to_vec()),
        ("/$defs/thresholds", THRESHOLD_KEYS.to_vec()),
        ("/$defs/draft", DRAFT_KEYS.to_vec()),
        ("/$defs/intent", INTENT_KEYS.to_vec()),
        ("/$defs/reply_text/anyOf/2", REPLY_KEYS.to_vec()),
        ("/$defs/option/anyOf/1", options::EACH_KEYS.to_vec()),
    ]
}

/// Which words may stand at which place of the schema.
#[cfg(test)]
pub(crate) fn words_by_place() -> Vec<(&'static str, Vec<&'static str>)> {
    use crate::definition::schema::words;
    vec![
        ("/$defs/intent/properties/priority", words(&PRIORITIES)),
        ("/$defs/thresholds/properties/conflict_mode", words(&CONFLICT_MODES)),
        ("/$defs/ladder_step", words(&LADDER)),
    ]
}
