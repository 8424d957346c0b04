//! What a turn says: its replies worded, put into the outbox where nobody passes them on, and what their buttons stand for.

use std::sync::Arc;

use super::Turn;
use crate::chart::ReplyIndex;
use crate::commit::EffectKind;
use crate::conversation::{Conversation, Offer, Reply, ReplyOption, ReplyTemplate};
use crate::expression::Scope;
use crate::input::{Cause, Fields};

impl Turn<'_> {
    /// The replies of the actions taken, in the session's language.
    pub fn replies(&mut self) -> Vec<Reply> {
        let Some(conversation) = &self.machine.conversation else {
            return Vec::new();
        };
        let given = std::mem::take(&mut self.trail.replies);
        let render = |(reply, context): &(ReplyIndex, Arc<Fields>)| {
            self.render(conversation, &conversation.replies[usize::from(reply.0)], context)
        };
        let replies = given.iter().map(render).collect();
        self.trail.replies = given;
        replies
    }

    /// A reply in the session's language, over the context of its moment.
    pub fn render(
        &mut self,
        conversation: &Conversation,
        template: &ReplyTemplate,
        context: &Fields,
    ) -> Reply {
        let active = self.stepper().active_paths(&self.position);
        let no_event = Fields::new();
        let now = self.now;
        let scope = Scope {
            context,
            event: &no_event,
            event_name: "",
            active: &active,
            now,
            locals: &[],
            before: None,
        };
        let locale = self.locale(conversation);
        let (reply, offered) = conversation.render(template, locale, scope, self.revision());
        self.offered.extend(offered);
        reply
    }

    /// Puts replies into the outbox, unless whoever sent the input passes them on.
    pub fn deliver(&mut self, replies: &[Reply]) {
        let address = &self.session.address;
        let delivered = match &self.input.cause {
            // Nobody waits for what is said to a timer or to the result of a call.
            Cause::Timer { .. } | Cause::Result { .. } => true,
            Cause::Message { message, .. } => message.deliver,
            // Hosts and operators do not know how somebody on a channel is reached; we do.
            Cause::Create { .. }
            | Cause::Event { .. }
            | Cause::Answer { .. }
            | Cause::Recover { .. }
            | Cause::Migrate { .. }
            | Cause::Withdraw { .. } => address.is_some(),
        };
        if delivered {
            let (address, locale) = (address.clone(), self.session.locale.clone());
            for reply in replies {
                self.add_effect(EffectKind::Reply(reply.clone()));
                if let Some(effect) = self.effects.last_mut() {
                    effect.to.clone_from(&address);
                    effect.locale.clone_from(&locale);
                }
            }
        }
    }

    /// Buttons shown now are the ones that count from now on; those of a state that was left count no more. A number
    /// means what was shown last: behind a question, not even live buttons of a menu.
    pub fn note_prompt(&mut self, replies: &[Reply]) {
        let options = || replies.iter().flat_map(|r| &r.options);
        let of_menu = |option: &ReplyOption| {
            let (revision, name) = option.id.strip_prefix('p')?.split_once('.')?;
            let item = self.offered.iter().find(|item| item.id == name);
            let offer = || item.map_or_else(|| name.into(), |item| Offer::Item(Box::new(item.clone())));
            (revision.parse() == Ok(self.revision().0)).then(offer)
        };
        let shown: Vec<Offer> = options().filter_map(of_menu).collect();
        let chart = &self.machine.chart;
        let paths = self.position.leaves().iter().map(|leaf| &chart.state(*leaf).path);
        let moved = !paths.eq(&self.after.configuration);
        self.note_prompt_reply(moved);
        if !shown.is_empty() || moved {
            self.session.prompt_revision = self.revision();
            self.session.prompt = shown;
        } else if options().next().is_some() {
            let before = std::mem::take(&mut self.session.prompt);
            self.session.prompt = before.into_iter().filter_map(Offer::put_behind).collect();
        }
    }

    /// What a state asks for is what it said last with buttons. What was asked in a state that was left counts no more.
    fn note_prompt_reply(&mut self, moved: bool) {
        let Some(conversation) = &self.machine.conversation else { return };
        if moved {
            self.session.prompt_reply = None;
        }
        let given = self.trail.replies.iter().rev();
        let templates = given.map(|(reply, _)| &conversation.replies[usize::from(reply.0)]);
        if let Some(template) = templates.into_iter().find(|template| !template.options.is_empty()) {
            self.session.prompt_reply = Some(template.name.clone());
        }
    }
}
