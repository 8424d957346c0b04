//! What somebody sees of the values of instances: whose key only reads sees nothing of what a definition calls secret.
//!
//! One place decides. Whatever shows values goes through a `Veil`, the pages too, which show what is secret to nobody. It
//! hides what a store would seal of a record: the secret fields, and of an instance that has some, all that may hold copies
//! of them. Where that would leave nothing worth reading, or a caller could find out by asking,
//! `Caller::wants_sight` says what key it takes.

use std::sync::Arc;

use engine::Machines;
use engine::replay::Replay;
use kernel::commit::{
    Answer, Effect, EffectKind, Entry, EntryCause, EventAnswer, MessageAnswer, PhaseMove, Told,
};
use kernel::conversation::{Message, Reply, TraceStep, Why};
use kernel::decide::WaitingFor;
use kernel::flow::{FlowView, PhaseError};
use kernel::id::MachineName;
use kernel::input::Fields;
use kernel::machine::Machine;
use kernel::refusal::{Considered, Refusal};
use kernel::snapshot::{Snapshot, Timer};
use serde_json::Value;

use crate::access::Scope;

/// In the place of a value that is not told.
const MASK: &str = "\u{2022}\u{2022}\u{2022}\u{2022}";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sight {
    /// Of what is secret, only that there is something.
    Masked,
    Whole,
}

impl Sight {
    /// Whoever may write may see what is written.
    pub fn of(scope: Scope) -> Self {
        if scope.contains(Scope::Write) { Self::Whole } else { Self::Masked }
    }

    /// What of an instance is hidden from somebody who sees so much. What its log holds may be of another version than it
    /// is at now, in which more was secret.
    pub fn over(self, machines: &Machines, instance: &Snapshot) -> Veil {
        match self {
            Self::Whole => Veil::NONE,
            Self::Masked => {
                let fields =
                    machines.by_hash(&instance.definition).map(|machine| Arc::clone(&machine.secrets));
                let copies = fields.is_none() || machines.may_hold_secrets(&instance.machine);
                Veil { fields: fields.map_or(Hidden::All, Hidden::Named), copies }
            }
        }
    }

    /// What is left out of what becomes a file, whoever asks for it: who sees all, by what the instance is at now.
    pub fn left_out(self, machines: &Machines, instance: &Snapshot) -> Veil {
        match (self, machines.by_hash(&instance.definition)) {
            (Self::Whole, Some(machine)) => Veil::of_definition(&machine),
            _ => Self::Masked.over(machines, instance),
        }
    }

    /// As `over`, where nothing but its machine is known of an instance.
    pub fn over_any(self, machines: &Machines, machine: &MachineName) -> Veil {
        match self == Self::Masked && machines.may_hold_secrets(machine) {
            true => Veil { fields: Hidden::All, copies: true },
            false => Veil::NONE,
        }
    }
}

/// What of one instance is hidden.
#[derive(Clone, Debug)]
pub struct Veil {
    fields: Hidden,
    /// Whatever may hold copies of secret fields.
    copies: bool,
}

/// Fields of a context.
#[derive(Clone, Debug)]
enum Hidden {
    Named(Arc<[Arc<str>]>),
    /// Nobody can say here which are secret.
    All,
    Nothing,
}

impl Veil {
    const NONE: Self = Self { fields: Hidden::Nothing, copies: false };

    /// What is hidden of whatever a machine is played with.
    pub fn of_definition(machine: &Machine) -> Self {
        Self { fields: Hidden::Named(Arc::clone(&machine.secrets)), copies: !machine.secrets.is_empty() }
    }

    pub fn hides(&self, field: &str) -> bool {
        match &self.fields {
            Hidden::Named(names) => names.iter().any(|name| **name == *field),
            Hidden::All => true,
            Hidden::Nothing => false,
        }
    }

    /// Whether anything may be secret that came with an event or was said, as any of it may become that.
    pub fn hides_copies(&self) -> bool {
        self.copies
    }

    pub fn context(&self, context: &Arc<Fields>) -> Arc<Fields> {
        match context.keys().any(|name| self.hides(name)) {
            false => Arc::clone(context),
            true => Arc::new(masked_where(context, |name| self.hides(name))),
        }
    }

    /// A context without what is hidden; `None` where nobody can say here what that is.
    pub fn without(&self, context: &Fields) -> Option<Fields> {
        let told = context.iter().filter(|(name, _)| !self.hides(name));
        let told = || told.map(|(name, value)| (name.clone(), value.clone())).collect();
        (!matches!(self.fields, Hidden::All)).then(told)
    }

    /// What came with an event, or goes with a call.
    pub fn payload(&self, payload: Fields) -> Fields {
        if self.copies { masked_where(&payload, |_| true) } else { payload }
    }

    pub fn text(&self, text: String) -> String {
        if self.copies && !text.is_empty() { MASK.to_owned() } else { text }
    }

    pub fn message(&self, message: Message) -> Message {
        if !self.copies {
            return message;
        }
        let Message { text, payload, parameters, locale, received_at, quoted, advised_by, .. } = message;
        Message {
            text: text.map(|text| self.text(text)),
            payload: payload.map(|token| self.text(token)),
            parameters: self.payload(parameters),
            locale,
            received_at,
            quoted,
            advised_by,
            ..Message::default()
        }
    }

    pub fn entry(&self, entry: Entry) -> Entry {
        if !self.copies {
            return entry;
        }
        Entry {
            message: entry.message.map(|message| self.message(message)),
            payload: self.payload(entry.payload),
            cause: entry.cause.map(|cause| self.cause(cause)),
            answer: match entry.answer {
                Answer::Message(answer) => Answer::Message(self.message_answer(answer)),
                Answer::Event(answer) => Answer::Event(self.event_answer(answer)),
                Answer::Refused(refusal) => Answer::Refused(self.refusal(refusal)),
            },
            ..entry
        }
    }

    /// What was brought with a creation is said by its payload.
    fn cause(&self, cause: EntryCause) -> EntryCause {
        match cause {
            EntryCause::Answer { clarification, option } => {
                EntryCause::Answer { clarification, option: self.text(option) }
            }
            other => other,
        }
    }

    fn message_answer(&self, answer: MessageAnswer) -> MessageAnswer {
        let Why { trace, .. } = answer.why;
        let said =
            |step: TraceStep| TraceStep { because: self.text(step.because.into_owned()).into(), ..step };
        MessageAnswer {
            reply: self.replies(answer.reply),
            effects: self.effects(answer.effects),
            refusal: answer.refusal.map(|refusal| Box::new(self.refusal(*refusal))),
            why: Why { trace: trace.into_iter().map(said).collect(), ..answer.why },
            ..answer
        }
    }

    fn event_answer(&self, mut answer: EventAnswer) -> EventAnswer {
        answer.reply = self.replies(answer.reply);
        answer.effects = self.effects(answer.effects);
        if let Some(replaced) = &mut answer.replaced {
            replaced.context = self.payload(std::mem::take(&mut replaced.context));
        }
        if let Some(flow) = &mut answer.flow {
            self.moves(&mut flow.moved);
        }
        answer
    }

    pub fn refusal(&self, mut refusal: Refusal) -> Refusal {
        self.considered(&mut refusal.explain);
        for violation in &mut refusal.violated {
            self.values(&mut violation.values);
        }
        refusal.timers = self.timers(refusal.timers);
        refusal
    }

    fn considered(&self, considered: &mut [Considered]) {
        for guard in considered.iter_mut().filter_map(|considered| considered.guard.as_mut()) {
            self.values(&mut guard.values);
        }
    }

    /// What a guard has seen. Secret fields are not in it, by `kernel::expression`.
    fn values(&self, values: &mut Fields) {
        if self.copies {
            *values = masked_where(values, |name| name.starts_with("event."));
        }
    }

    pub fn timers(&self, mut timers: Vec<Timer>) -> Vec<Timer> {
        timers.iter_mut().for_each(|timer| self.timer(timer));
        timers
    }

    fn timer(&self, timer: &mut Timer) {
        timer.payload = self.payload(std::mem::take(&mut timer.payload));
    }

    /// A question is words that were shown, and not sealed either.
    pub fn waiting_for(&self, mut waiting: WaitingFor) -> WaitingFor {
        for due in &mut waiting.timers {
            self.timer(&mut due.timer);
            self.considered(&mut due.considered);
        }
        for call in &mut waiting.calls {
            call.input = self.payload(std::mem::take(&mut call.input));
        }
        waiting
    }

    pub fn replies(&self, replies: Vec<Reply>) -> Vec<Reply> {
        replies.into_iter().map(|reply| self.reply(reply)).collect()
    }

    fn reply(&self, reply: Reply) -> Reply {
        if self.copies { Reply::of_text(self.text(reply.text)) } else { reply }
    }

    fn effects(&self, effects: Vec<Effect>) -> Vec<Effect> {
        effects.into_iter().map(|effect| Effect { kind: self.effect(effect.kind), ..effect }).collect()
    }

    pub fn effect(&self, kind: EffectKind) -> EffectKind {
        match kind {
            EffectKind::Reply(reply) => EffectKind::Reply(self.reply(reply)),
            EffectKind::Call { id, src, input } => EffectKind::Call { id, src, input: self.payload(input) },
            EffectKind::Notice(mut notice) => {
                self.moves(&mut notice.moved);
                EffectKind::Notice(notice)
            }
            EffectKind::Tell(told) => EffectKind::Tell(self.told(told)),
        }
    }

    fn told(&self, told: Told) -> Told {
        match told {
            Told::Begin { flow, id, context, parent } => {
                Told::Begin { flow, id, context: self.payload(context), parent }
            }
            Told::Event { instance, event, payload } => {
                Told::Event { instance, event, payload: self.payload(payload) }
            }
            Told::Result { to, done, fields } => Told::Result { to, done, fields: self.payload(fields) },
        }
    }

    /// What was said of an error besides its code.
    fn moves(&self, moves: &mut [PhaseMove]) {
        moves.iter_mut().filter_map(|moved| moved.error.as_mut()).for_each(|error| self.error(error));
    }

    fn error(&self, error: &mut PhaseError) {
        error.message = self.text(std::mem::take(&mut error.message));
        error.details = self.payload(std::mem::take(&mut error.details));
    }

    /// What differs is told, and not how.
    pub fn replay(&self, mut replay: Replay) -> Replay {
        if self.copies {
            replay.differences.iter_mut().for_each(|one| (one.stored, one.decided) = (None, None));
        }
        replay
    }

    pub fn flow(&self, mut view: FlowView) -> FlowView {
        view.context = self.context(&view.context);
        if let Some(closure) = &mut view.closure {
            closure.output = self.payload(std::mem::take(&mut closure.output));
        }
        view.phases.iter_mut().filter_map(|phase| phase.error.as_mut()).for_each(|error| self.error(error));
        view
    }
}

/// In the place of a value. That there is none is told.
pub fn masked(value: &Value) -> Value {
    if value.is_null() { Value::Null } else { Value::from(MASK) }
}

fn masked_where(fields: &Fields, hides: impl Fn(&str) -> bool) -> Fields {
    let shown = |(name, value): (&String, &Value)| {
        let value = if hides(name) { masked(value) } else { value.clone() };
        (name.clone(), value)
    };
    fields.iter().map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_may_write_sees_all() {
        let seen = Scope::ALL.map(|scope| (scope, Sight::of(scope)));
        for (scope, sight) in seen {
            assert_eq!(sight == Sight::Whole, scope >= Scope::Write, "{scope}");
        }
    }

    #[test]
    fn of_an_unknown_machine_nothing_is_shown() {
        let (machines, name) = (Machines::default(), MachineName::parse("nobody_knows").unwrap());
        let veil = Sight::Masked.over_any(&machines, &name);
        assert!(veil.hides("name") && veil.hides_copies());
        let veil = Sight::Whole.over_any(&machines, &name);
        assert!(!veil.hides("name") && !veil.hides_copies());
    }
}
