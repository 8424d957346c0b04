//! Whether the router would look at what a message may mean, and which intents it could then hear.
//!
//! For whoever has to ask somebody else for that meaning and would rather not, if it makes no difference. Built on the
//! rules themselves, so that it cannot differ from what they do.

use crate::conversation::route::Router;
use crate::conversation::{IntentIndex, Priority};

impl Router<'_> {
    /// Whether what is done about the message depends on what its words may mean, beyond phrases of the definition.
    pub fn wants_reading(mut self) -> bool {
        let normal = self.normal();
        if normal.is_empty() || self.without_reading(&normal).is_some() {
            return false;
        }
        let may_supersede = self.pending().is_some() && self.may_answer();
        may_supersede || self.accepted_unread(&normal).is_none()
    }

    /// The intents that could lead anywhere from here, in their order: what the state takes or what needs no state,
    /// and what begins something else, which is asked about before it is done.
    pub fn heard(&self) -> Vec<IntentIndex> {
        let all = (0..self.conversation.intents.len()).map(|number| IntentIndex(number as u16));
        let leads_somewhere = |index: &IntentIndex| {
            let intent = self.intent(*index);
            let known = intent.priority != Priority::P4 && !intent.resume;
            known && (self.is_open(*index) || intent.starts.is_some())
        };
        all.filter(leads_somewhere).collect()
    }
}
