//! Whether the router would look at what a message may mean, and which intents it could then hear.
//!
//! For whoever has to ask somebody else for that meaning and would rather not, if nobody can know better. Built on the
//! rules themselves, so that it cannot differ from what they do.

use crate::conversation::route::Router;
use crate::conversation::{Confidence, IntentIndex, Priority};

impl Router<'_> {
    /// Whether what is done about the message depends on what its words may mean, beyond phrases of the definition.
    pub fn wants_reading(mut self) -> bool {
        let normal = self.normal();
        if normal.is_empty() || self.without_reading(&normal).is_some() {
            return false;
        }
        let may_supersede = self.pending().is_some() && self.may_answer();
        (may_supersede || self.accepted_unread(&normal).is_none()) && !self.says_a_phrase(&normal)
    }

    /// Whether the message is exactly a phrase of an intent that is heard here: the definition itself says what it
    /// means, so advice could only be worse.
    fn says_a_phrase(&self, normal: &str) -> bool {
        let found = self.conversation.lexicon.recognise(normal, self.locale);
        let mut certain = found.into_iter().filter(|(_, raw)| *raw == Confidence::CERTAIN);
        certain.any(|(intent, _)| self.is_heard(intent))
    }

    /// The intents that could lead anywhere from here, in their order: what the state takes or what needs no state,
    /// and what begins something else, which is asked about before it is done.
    pub fn heard(&self) -> Vec<IntentIndex> {
        let all = (0..self.conversation.intents.len()).map(|number| IntentIndex(number as u16));
        all.filter(|index| self.is_heard(*index)).collect()
    }

    fn is_heard(&self, index: IntentIndex) -> bool {
        let intent = self.intent(index);
        let known = intent.priority != Priority::P4 && !intent.resume;
        known && (self.is_open(index) || intent.starts.is_some())
    }
}
