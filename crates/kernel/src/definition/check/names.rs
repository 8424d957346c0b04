//! Names that lead nowhere, or to two places: events that nobody takes or sends, fields that nobody reads or writes,
//! words that mean two things.

use std::collections::{BTreeMap, BTreeSet};

use crate::chart::{Action, Chart, Computed, Wait, all_actions};
use crate::conversation::ABANDON_EVENT;
use crate::conversation::definition::{ConversationDefinition, LadderStep, Priority};
use crate::conversation::recognise::{bare, normalise};
use crate::definition::check::{Checker, GUESSES_MAX};
use crate::definition::{ActionDefinition, Placed, RaiseDefinition, StateDefinition, is_internal};
use crate::diagnostic::{Diagnostic, Place, nearest};
use crate::expression::Expression;

pub(super) fn labels_are_no_commands(
    conversation: &ConversationDefinition,
    diagnostics: &mut Vec<Diagnostic>,
) {
    let urgent = conversation.intents.iter().filter(|i| i.priority == Priority::P0);
    let phrases: BTreeSet<String> =
        urgent.clone().flat_map(|i| &i.phrases).map(|p| bare(&normalise(&p.text.value)).to_owned()).collect();
    for intent in conversation.intents.iter().filter(|i| i.priority != Priority::P0) {
        for (_, label) in &intent.label.0 {
            if phrases.contains(bare(&normalise(&label.value))) {
                diagnostics.push(Diagnostic::error(
                    "label_is_command",
                    label.place,
                    format!(
                        "the label `{}` is a P0 phrase: choosing it would be taken as the command",
                        label.value
                    ),
                    "word the label differently, or drop the phrase".into(),
                ));
            }
        }
    }
}

/// A phrase that has been seen.
#[derive(Clone, Copy)]
struct Listed<'a> {
    intent: &'a str,
    locale: Option<&'a str>,
    place: Place,
}

/// One phrase under two intents of one priority: nobody could say which is meant. Of two commands neither would be
/// obeyed, which is an error; of others a question comes of it each time.
pub(super) fn phrases_mean_one_thing(
    conversation: &ConversationDefinition,
    diagnostics: &mut Vec<Diagnostic>,
) {
    let mut seen: BTreeMap<(Priority, String), Vec<Listed<'_>>> = BTreeMap::new();
    for intent in &conversation.intents {
        for phrase in &intent.phrases {
            let said = bare(&normalise(&phrase.text.value)).to_owned();
            let locale = phrase.locale.as_deref();
            let earlier = seen.entry((intent.priority, said)).or_default();
            let meets = |theirs: Option<&str>| theirs == locale || theirs.is_none() || locale.is_none();
            let found = earlier.iter().find(|l| l.intent != intent.name.value && meets(l.locale)).copied();
            let own = Listed { intent: &intent.name.value, locale, place: phrase.text.place };
            if !earlier.iter().any(|l| l.intent == own.intent && l.locale == locale) {
                earlier.push(own);
            }
            let Some(Listed { intent: other, place, .. }) = found else { continue };
            let text = &phrase.text.value;
            let message = format!(
                "`{text}` is a phrase of `{}` and, in line {}, of `{other}`",
                intent.name.value, place.line
            );
            let help = "leave it to one of them, or give them different priorities".to_owned();
            diagnostics.push(match intent.priority {
                Priority::P0 => Diagnostic::error("conflicting_phrase", phrase.text.place, message, help),
                _ => Diagnostic::warning("conflicting_phrase", phrase.text.place, message, help),
            });
        }
    }
}

impl<'a> Checker<'a, '_> {
    /// An event that is raised, or that an intent becomes, and no state takes, is lost.
    pub(super) fn unheard_events(&mut self) {
        let heard = heard(&self.machine.chart);
        for action in self.written().into_iter().flat_map(StateDefinition::actions) {
            if let ActionDefinition::Raise(RaiseDefinition { event, .. }) = action {
                let message = |event: &str| format!("no state takes the event `{event}` that is raised here");
                self.warn_unheard(event, &heard, message);
            }
        }
        for event in &self.definition.events {
            let message = |event: &str| format!("no state takes the event `{event}` that is listed here");
            self.warn_unheard(event, &heard, message);
        }
        let conversation = self.definition.conversation.iter();
        for intent in conversation.flat_map(|conversation| &conversation.intents) {
            if let Some(event) = &intent.event {
                let name = &intent.name.value;
                let message =
                    |event: &str| format!("no state takes the event `{event}` of the intent `{name}`");
                self.warn_unheard(event, &heard, message);
            }
        }
    }

    fn warn_unheard(&mut self, event: &Placed<String>, heard: &[bool], message: impl Fn(&str) -> String) {
        let chart = &self.machine.chart;
        let is_heard = |name: &str| chart.event(name).is_some_and(|index| heard[usize::from(index.0)]);
        if is_heard(&event.value) {
            return;
        }
        let known = chart.public_events().map(|name| &**name);
        let others = known.filter(|name| *name != event.value && is_heard(name));
        let help = match self.diagnostics.len() < GUESSES_MAX {
            true => nearest(&event.value, others),
            false => "let a state take it, or drop it".into(),
        };
        self.warn("unheard_event", event.place, message(&event.value), help);
    }

    /// In a conversation, what no message becomes and nobody raises comes from outside, or never.
    pub(super) fn unproduced_events(&mut self) {
        let Some(conversation) = &self.definition.conversation else { return };
        let mut produced: BTreeSet<&str> = BTreeSet::new();
        produced.extend(self.definition.events.iter().map(|event| event.value.as_str()));
        produced.extend(conversation.intents.iter().filter_map(|i| Some(i.event.as_ref()?.value.as_str())));
        produced.extend(conversation.offered_lists().map(|each| each.event.value.as_str()));
        if conversation.ladder.contains(&LadderStep::Abandon) {
            produced.insert(ABANDON_EVENT);
        }
        if let Some(conversation) = &self.machine.conversation {
            produced.extend(conversation.accepts.iter().map(|(_, _, event)| &**event));
        }
        let written = self.written();
        for action in written.iter().flat_map(|state| state.actions()) {
            if let ActionDefinition::Raise(raise) = action {
                produced.insert(&raise.event.value);
            }
        }
        for (event, _) in written.iter().flat_map(|state| &state.on) {
            let name = event.value.as_str();
            if name.ends_with('*') || is_internal(name) || !produced.insert(name) {
                continue;
            }
            let message = format!("no intent or input becomes the event `{name}`, and nothing raises it");
            let help = format!("if callers send it themselves, list it at the top: `events: [{name}]`");
            self.warn("unproduced_event", event.place, message, help);
        }
    }

    /// Fields that nothing reads, or that something reads and nothing ever writes.
    pub(super) fn idle_fields(&mut self) {
        let (mut read, mut written) = (BTreeSet::new(), BTreeSet::new());
        let mut all = false;
        for expression in self.expressions() {
            let reads = expression.reads();
            all |= reads.context.whole || reads.before.whole;
            read.extend(reads.context.names.iter().chain(&reads.before.names).map(String::as_str));
        }
        for action in self.actions() {
            if let Action::Assign { name, value, .. } = action {
                written.insert(&**name);
                if let Computed::Expression(expression) = value {
                    all |= expression.reads().context.whole;
                    // What a field becomes may depend on what it was: that alone is of no use to anybody.
                    let others = expression.reads().context.names.iter().filter(|read| **read != **name);
                    read.extend(others.map(String::as_str));
                }
            }
        }
        if let Some(conversation) = &self.machine.conversation {
            read.extend(conversation.draft.iter().map(|draft| draft.key.as_str()));
            read.extend(conversation.intents.iter().filter_map(|i| Some(i.entity.as_ref()?.1.as_str())));
        }
        for field in &self.machine.fields {
            let name = field.name.value.as_str();
            // What may be null may be left to whoever creates an instance.
            let given = field.required || field.nullable || field.default.is_some();
            if !all && !read.contains(name) {
                let message = format!("nothing reads the field `{name}`");
                let help = "read it in a guard, a reply or a final state's `output`, or drop it";
                self.warn("unread_field", field.name.place, message, help);
            } else if !written.contains(name) && !given {
                let message = format!("nothing writes the field `{name}`");
                let help = "assign it, give it a `default`, or mark it `required` if whoever creates an instance \
                            gives it";
                self.warn("unwritten_field", field.name.place, message, help);
            }
        }
    }

    fn actions(&self) -> Vec<&'a Action> {
        let chart = &self.machine.chart;
        let of_states =
            chart.states.iter().flat_map(|s| s.entry.iter().chain(&s.exit).chain(&s.initial_actions));
        all_actions(of_states.chain(chart.transitions.iter().flat_map(|t| &t.actions)))
    }

    /// Every expression of the machine, but those of assignments.
    fn expressions(&self) -> Vec<&'a Expression> {
        let chart = &self.machine.chart;
        let mut found: Vec<&Expression> = chart.transitions.iter().filter_map(|t| t.guard.as_ref()).collect();
        found.extend(chart.transitions.iter().flat_map(|t| &t.ensures).map(|ensured| &ensured.check));
        found.extend(chart.states.iter().flat_map(|s| &s.invariants).map(|invariant| &invariant.check));
        let mut values: Vec<&Computed> = Vec::new();
        for state in &chart.states {
            values.extend(state.output.iter().map(|(_, value)| value));
            values.extend(state.calls.iter().flat_map(|call| &call.input).map(|(_, value)| value));
        }
        for action in self.actions() {
            match action {
                Action::Raise { data, .. } => values.extend(data.iter().map(|(_, value)| value)),
                Action::RaiseLater { data, delay, .. } => {
                    values.extend(data.iter().map(|(_, value)| value));
                    if let Wait::Computed(expression) = delay {
                        found.push(expression);
                    }
                }
                Action::If { condition, .. } => found.push(condition),
                Action::ForEach { list, .. } => found.push(list),
                Action::Assign { .. } | Action::Reply(_) | Action::Cancel(_) => {}
            }
        }
        found.extend(values.into_iter().filter_map(|value| match value {
            Computed::Expression(expression) => Some(&**expression),
            Computed::Literal(_) => None,
        }));
        let conversation = self.machine.conversation.iter();
        found.extend(conversation.flat_map(|c| &c.replies).flat_map(|reply| reply.expressions()));
        found
    }
}

/// Which events some atomic state has a transition for.
fn heard(chart: &Chart) -> Vec<bool> {
    let mut heard = vec![false; chart.events.len()];
    for leaf in chart.indices().filter(|state| chart.is_atomic(*state)) {
        for event in chart.event_indices().filter(|event| !chart.candidates(leaf, *event).is_empty()) {
            heard[usize::from(event.0)] = true;
        }
    }
    heard
}
