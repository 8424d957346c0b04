//! Drafts: work under one value of a key field that is put aside while a session turns to another, and comes back.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::bound;
use crate::chart::step::{Position, Trail};
use crate::conversation::Draft;
use crate::decide::turn::Turn;
use crate::input::Fields;

/// Drafts kept for one session: each holds up to a context's worth of data.
const DRAFTS_MAX: usize = 20;

impl Turn<'_> {
    /// When the draft's key field moves to another value, the work under the old one is put aside, and what was put
    /// aside under the new one comes back.
    pub(super) fn keep_drafts(&mut self, was: &Fields) {
        let Some(draft) = self.machine.conversation.as_ref().and_then(|c| c.draft.as_ref()) else {
            return;
        };
        if self.trail.closed.is_none() {
            exchange(draft, &mut self.session.drafts, was, &mut self.position.context);
        }
    }

    /// The context that `position` has once drafts have been exchanged.
    pub(super) fn with_draft(&self, position: &Position, trail: &Trail) -> Arc<Fields> {
        let mut context = Arc::clone(&position.context);
        let draft = self.machine.conversation.as_ref().and_then(|c| c.draft.as_ref());
        if let Some(draft) = draft.filter(|_| trail.closed.is_none()) {
            exchange(draft, &mut self.session.drafts.clone(), &self.after.context, &mut context);
        }
        context
    }
}

fn exchange(draft: &Draft, drafts: &mut BTreeMap<String, Fields>, was: &Fields, context: &mut Arc<Fields>) {
    let (old, new) = (was.get(&draft.key), context.get(&draft.key));
    if old == new {
        return;
    }
    let key = |value: &serde_json::Value| match value {
        serde_json::Value::Null => None,
        serde_json::Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    };
    let new = new.and_then(key);
    if let Some(old) = old.and_then(key) {
        let kept = draft.fields.iter().filter_map(|f| Some((f.clone(), was.get(f)?.clone())));
        drafts.insert(old.clone(), kept.collect());
        // Nobody works on more at a time; what is let go is the first by name, but never the one just kept.
        let bytes = |drafts: &BTreeMap<String, Fields>| drafts.values().map(bound::size).sum::<usize>();
        while drafts.len() > DRAFTS_MAX || bytes(drafts) > bound::CONTEXT_BYTES_MAX {
            let Some(first) = drafts.keys().find(|key| **key != old).cloned() else { break };
            drafts.remove(&first);
        }
    }
    let Some((new, kept)) = new.and_then(|new| drafts.remove_entry(&new)) else { return };
    let mut restored = Fields::clone(context);
    restored.extend(kept.clone());
    // What would not fit stays put aside.
    match bound::check(&restored) {
        Ok(()) => *context = Arc::new(restored),
        Err(_) => {
            drafts.insert(new, kept);
        }
    }
}
