//! What a conversation goes on with after a migration: what it knows as far as that means something here.

use super::Move;
use crate::conversation::{Choice, ClarificationStatus, Conversation, Offer};
use crate::decide::turn::Turn;
use crate::input::Fields;

impl Move<'_> {
    /// A question that can no more be answered is withdrawn, and so are buttons of which one means nothing here.
    pub(super) fn talk(self, turn: &mut Turn<'_>) {
        let Some(conversation) = &self.machine.conversation else {
            turn.after.conversation = None;
            return;
        };
        let knows = |intent: &str| conversation.intent_by_name(intent).is_some();
        let answerable = |choice: &Choice| match choice {
            Choice::Intent(intent) | Choice::Confirmed(intent) => knows(intent),
            Choice::Continue | Choice::NoneOfThese => true,
        };
        let pending = turn.session.pending.as_ref();
        if pending.is_some_and(|question| !question.options.iter().all(|option| answerable(&option.choice))) {
            turn.resolve_pending(ClarificationStatus::Cancelled, None);
        }
        let chart = &self.machine.chart;
        let session = &mut turn.session;
        let stands = |offer: &Offer| match offer {
            Offer::Intent(intent) => knows(intent),
            Offer::Item(item) => chart.event(&item.event).is_some(),
        };
        if !session.prompt.iter().all(stands) {
            session.prompt.clear();
        }
        let has_reply = |name: &String| conversation.replies.iter().any(|reply| reply.name == *name);
        session.prompt_reply = session.prompt_reply.take().filter(has_reply);
        let locale = session.locale.take();
        session.locale = locale.and_then(|tag| conversation.base_locale(&tag).map(str::to_owned));
        let starts = |topic: &String| conversation.intents.iter().any(|i| i.starts.as_ref() == Some(topic));
        session.topic = session.topic.take().filter(starts);
        self.drafts(conversation, turn);
    }

    /// Work that was put aside, as far as it could come back.
    fn drafts(self, conversation: &Conversation, turn: &mut Turn<'_>) {
        let Some(draft) = &conversation.draft else {
            return turn.session.drafts.clear();
        };
        for fields in turn.session.drafts.values_mut() {
            let kept = std::mem::take(fields).into_iter().filter(|(name, value)| {
                let field = self.machine.field(name).filter(|_| draft.fields.contains(name));
                field.is_some_and(|field| field.accepts(value).is_ok())
            });
            *fields = Fields::from_iter(kept);
        }
    }
}
