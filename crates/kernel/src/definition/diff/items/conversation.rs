//! What is compared of a conversation: its settings, intents and replies.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::conversation::definition::{
    ConflictPenalty, ConversationDefinition, EachDefinition, IntentDefinition, LadderStep, Localised,
    OptionDefinition, Priority, ReplyDefinition, Worded,
};
use crate::definition::diff::Part;
use crate::definition::diff::items::{Aspect, Item};
use crate::definition::diff::written::values;

pub(super) fn describe(found: &mut Vec<Item>, conversation: &ConversationDefinition) {
    found.push(settings(conversation));
    found.extend(conversation.intents.iter().map(intent));
    found.extend(conversation.replies.iter().map(reply));
}

fn settings(conversation: &ConversationDefinition) -> Item {
    let mut item = Item::new(Part::Conversation, "");
    let thresholds = &conversation.thresholds;
    let (conflict, mode) = match thresholds.conflict {
        ConflictPenalty::Subtract(amount) => (amount, "subtract"),
        ConflictPenalty::Multiply(share) => (share, "multiply"),
    };
    for (name, share) in [
        ("confidence", thresholds.confidence),
        ("conflict", conflict),
        ("ambiguity", thresholds.ambiguity),
        ("suggestion", thresholds.suggestion),
        ("supersede", thresholds.supersede),
        ("free_text", thresholds.free_text),
    ] {
        item.set(format!("thresholds.{name}"), json!(share));
    }
    item.set("thresholds.conflict_mode", mode);
    item.set("clarification.expires_after", conversation.clarification_expires_after.to_string());
    item.set("clarification.attempts", conversation.clarification_attempts);
    item.set("locales", conversation.locales.as_slice());
    let ladder = conversation.ladder.iter().map(|step| match step {
        LadderStep::Rephrase => "rephrase",
        LadderStep::Menu => "menu",
        LadderStep::HandOver => "hand_over",
        LadderStep::Abandon => "abandon",
    });
    item.set("ladder", ladder.collect::<Value>());
    if let Some(draft) = &conversation.draft {
        item.set("draft.key", draft.key.value.as_str());
        item.set("draft.fields", draft.fields.iter().map(|field| field.value.as_str()).collect::<Value>());
    }
    // In which order a menu shows them.
    let intents = conversation.intents.iter().map(|intent| intent.name.value.clone());
    item.keep("intents", Aspect::Order(intents.collect()));
    item
}

fn intent(intent: &IntentDefinition) -> Item {
    let mut item = Item::new(Part::Intent, intent.name.value.as_str());
    let priority = match intent.priority {
        Priority::P0 => "P0",
        Priority::P1 => "P1",
        Priority::P2 => "P2",
        Priority::P3 => "P3",
        Priority::P4 => "P4",
    };
    item.set("priority", priority);
    item.set("event", intent.event.as_ref().map(|event| event.value.as_str()));
    item.set("reply", intent.reply.as_ref().map(|reply| reply.value.as_str()));
    item.set("starts", intent.starts.as_deref());
    if let Some((parameter, field)) = &intent.entity {
        item.set("entity", Map::from_iter([(parameter.value.clone(), Value::from(field.value.as_str()))]));
    }
    item.set("destructive", intent.destructive);
    item.set("hand_over", intent.hand_over);
    item.set("resume", intent.resume);
    item.set("when_stale", intent.when_stale);
    set_localised(&mut item, "label", &intent.label);
    set_words(&mut item, "phrases", &intent.phrases);
    set_words(&mut item, "keywords", &intent.keywords);
    set_words(&mut item, "patterns", &intent.patterns);
    item
}

fn reply(reply: &ReplyDefinition) -> Item {
    let mut item = Item::new(Part::Reply, reply.name.value.as_str());
    set_localised(&mut item, "text", &reply.text);
    let options = reply.options.iter().map(|option| match option {
        OptionDefinition::Intent(name) => Value::from(name.value.as_str()),
        OptionDefinition::Each(each) => offered(each),
    });
    item.set("options", options.collect::<Value>());
    item
}

fn offered(each: &EachDefinition) -> Value {
    let label = match &each.label.0[..] {
        [(None, text)] => Value::from(text.value.as_str()),
        texts => texts
            .iter()
            .map(|(locale, text)| (locale.clone().unwrap_or_default(), Value::from(text.value.as_str())))
            .collect(),
    };
    let mut said = json!({
        "each": each.list.value,
        "as": each.item,
        "label": label,
        "event": each.event.value,
    });
    if !each.with.is_empty() {
        said["with"] = values(&each.with);
    }
    said
}

/// `text.en`; a text for all languages has no language behind the name.
fn in_language(name: &str, locale: Option<&String>) -> String {
    locale.map_or_else(|| name.to_owned(), |locale| format!("{name}.{locale}"))
}

fn set_localised(item: &mut Item, name: &str, texts: &Localised) {
    for (locale, text) in &texts.0 {
        item.set(in_language(name, locale.as_ref()), text.value.as_str());
    }
}

fn set_words(item: &mut Item, name: &str, words: &[Worded]) {
    let mut by_language: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for word in words {
        let language = by_language.entry(in_language(name, word.locale.as_ref())).or_default();
        language.push(word.text.value.clone());
    }
    for (name, words) in by_language {
        item.keep(name, Aspect::Words(words));
    }
}
