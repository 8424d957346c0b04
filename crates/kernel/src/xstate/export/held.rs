//! What has to hold, for which XState has no word.

use crate::definition::InvariantDefinition;
use crate::xstate::below;
use crate::xstate::export::{Entries, Exporter};
use crate::xstate::json::Json;

impl Exporter<'_> {
    pub(super) fn put_held(
        &mut self,
        key: &str,
        held: &[InvariantDefinition],
        at: &str,
        extra: &mut Entries,
    ) {
        if held.is_empty() {
            return;
        }
        let message =
            format!("XState refuses no step for what comes of it: `{key}` travels in `meta.statewright`");
        self.note(&below(at, key), message);
        let named = held.iter().map(|invariant| (invariant.name.value.clone(), written(invariant)));
        extra.0.push((key.to_owned(), Json::Map(named.collect())));
    }
}

fn written(invariant: &InvariantDefinition) -> Json {
    let check = Json::text(&invariant.check.value);
    match &invariant.message {
        None => check,
        Some(message) => {
            Json::Map(vec![("check".to_owned(), check), ("message".to_owned(), Json::text(message))])
        }
    }
}
