//! What `JSON.stringify(machine)` writes besides the config that the machine was made of.
//!
//! Owns telling the bookkeeping of XState 5 from what an author wrote. Whatever was a function is not in the JSON: in a
//! list there is null in its place, which is noted where the list is read, and elsewhere nothing.

use std::borrow::Cow;

use crate::xstate::import::is_nothing;
use crate::xstate::json::Json;

/// Said once of such a machine, since of each function that is missing it cannot be said.
pub(super) const SILENT: &str = "this is a serialised machine: its context is not in it and, unless a replacer kept \
     them, neither are guards and other functions that were written inline, so what is guarded there may be unguarded \
     here; import its config, with a replacer for functions";

/// Nobody writes `transitions` beside `on`.
pub(super) fn is_serialised(top: &Json) -> bool {
    matches!(top.get("transitions"), Some(Json::List(_))) && top.get("key").is_some()
}

/// What every state without children has as its `initial`.
pub(super) fn leads_nowhere(initial: &Json) -> bool {
    let empty = |key: &str| initial.get(key).is_none_or(is_nothing);
    initial.get("source").is_some() && empty("target") && empty("actions")
}

/// The entry or exit actions of a state without those that set and cancel its delays. They stand behind the author's
/// own, one for each delay, and nothing is left of them but their type.
pub(super) fn without_timers<'j>(state: &Json, key: &str, actions: &'j Json) -> Cow<'j, Json> {
    let own = match key {
        "entry" => "xstate.raise",
        _ => "xstate.cancel",
    };
    let events = state.get("on").map_or(&[][..], Json::entries);
    let delays = events.iter().filter(|(event, _)| event.starts_with("xstate.after.")).count();
    let Json::List(items) = actions else {
        return Cow::Borrowed(actions);
    };
    let bare = |item: &Json| item.entries().len() == 1 && item.text_at("type") == Some(own);
    let timers = items.iter().rev().take(delays).take_while(|item| bare(item)).count();
    Cow::Owned(Json::List(items[..items.len() - timers].to_vec()))
}
