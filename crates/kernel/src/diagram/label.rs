//! What is written on an arrow or into a box: `event [guard] / actions`, each abridged to what can be read at a glance.

use std::fmt;

use crate::chart::{Action, EventIndex, State, Transition, Wait};
use crate::definition::{DONE_PREFIX, TIMER_PREFIX};
use crate::machine::Machine;

/// Longer guards are better read in the definition.
const GUARD_CHARS_MAX: usize = 40;
const ACTIONS_CHARS_MAX: usize = 48;
/// What stands in an action beside others.
const CONDITION_CHARS_MAX: usize = 24;
/// Events are names, which nobody makes longer in earnest.
const EVENT_CHARS_MAX: usize = 60;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// `start`, `after 2h`, `always`, `entry`; empty where nothing has to happen first.
    pub event: String,
    pub guard: Option<String>,
    pub actions: Option<String>,
}

impl Label {
    pub(super) fn of_transition(machine: &Machine, transition: &Transition) -> Self {
        let path = &machine.chart.state(transition.source).path;
        let mut event = abridged(&event_words(&transition.event, path), EVENT_CHARS_MAX);
        if transition.reenter && !transition.targets.is_empty() {
            event.push_str(" (reenter)");
        }
        let guard = transition.guard.as_ref().map(|guard| abridged(&guard.source, GUARD_CHARS_MAX));
        Self { event, guard, actions: action_words(machine, &transition.actions) }
    }

    pub(super) fn of_actions(event: &str, machine: &Machine, actions: &[Action]) -> Self {
        Self { event: event.to_owned(), guard: None, actions: action_words(machine, actions) }
    }

    /// What a state does without any transition: on entry, while it is active, on leaving.
    pub(super) fn of_state(machine: &Machine, state: &State) -> Vec<Self> {
        let mut labels = Vec::new();
        if !state.entry.is_empty() {
            labels.push(Self::of_actions("entry", machine, &state.entry));
        }
        for call in &state.calls {
            let event = format!("invoke {}", abridged(&call.src, ACTIONS_CHARS_MAX));
            labels.push(Self { event, guard: None, actions: None });
        }
        if !state.exit.is_empty() {
            labels.push(Self::of_actions("exit", machine, &state.exit));
        }
        labels
    }

    /// In one line, or two where one would be long.
    pub fn lines(&self) -> Vec<String> {
        /// About a third of a page.
        const LINE_CHARS: usize = 44;
        let line = self.to_string();
        let head = Self { actions: None, ..self.clone() }.to_string();
        match &self.actions {
            Some(actions) if line.chars().count() > LINE_CHARS && !head.is_empty() => {
                vec![head, format!("/ {actions}")]
            }
            _ => vec![line],
        }
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let guard = self.guard.as_ref().map(|guard| format!("[{guard}]"));
        let actions = self.actions.as_ref().map(|actions| format!("/ {actions}"));
        let event = Some(self.event.clone()).filter(|event| !event.is_empty());
        let parts: Vec<String> = [event, guard, actions].into_iter().flatten().collect();
        f.write_str(&parts.join(" "))
    }
}

/// An event as a reader of the picture would say it: beside its own state, the path in a name tells nothing.
fn event_words(event: &str, path: &str) -> String {
    if event.is_empty() {
        return "always".to_owned();
    }
    let own = |rest: &str| rest == path && !path.is_empty();
    if event.strip_prefix(DONE_PREFIX).is_some_and(own) {
        return DONE_PREFIX.trim_end_matches('.').to_owned();
    }
    match event.strip_prefix(TIMER_PREFIX) {
        Some(timer) => {
            let delay = timer.split_once('.').map_or(timer, |(delay, _)| delay);
            format!("after {delay}")
        }
        None => event.to_owned(),
    }
}

/// `assign a, b; reply c`, or nothing where nothing is done.
fn action_words(machine: &Machine, actions: &[Action]) -> Option<String> {
    let mut said: Vec<(&'static str, Vec<String>)> = Vec::new();
    for action in actions {
        let (verb, object) = words(machine, action);
        match said.last_mut() {
            Some((last, objects)) if *last == verb => objects.push(object),
            _ => said.push((verb, vec![object])),
        }
    }
    let phrases: Vec<String> =
        said.into_iter().map(|(verb, objects)| format!("{verb} {}", objects.join(", "))).collect();
    (!phrases.is_empty()).then(|| abridged(&phrases.join("; "), ACTIONS_CHARS_MAX))
}

/// What an action does, and to what.
fn words(machine: &Machine, action: &Action) -> (&'static str, String) {
    let event_name = |event: &EventIndex| machine.chart.event_name(*event).to_string();
    match action {
        Action::Assign { name, .. } => ("assign", name.to_string()),
        Action::Reply(reply) => {
            let replies = machine.conversation.as_ref().map(|c| &c.replies);
            let name = replies.and_then(|replies| replies.get(usize::from(reply.0)));
            ("reply", name.map(|reply| reply.name.clone()).unwrap_or_default())
        }
        Action::Raise { event, .. } => ("raise", event_name(event)),
        Action::RaiseLater { event, delay, .. } => {
            let when = match delay {
                Wait::Fixed(delay) => format!("after {delay}"),
                Wait::Computed(_) => "later".to_owned(),
            };
            ("raise", format!("{} {when}", event_name(event)))
        }
        Action::Cancel(id) => ("cancel", id.to_string()),
        Action::If { condition, .. } => ("if", begun(&condition.source)),
        Action::ForEach { list, .. } => ("for each", begun(&list.source)),
    }
}

/// What goes on behind an expression.
fn begun(expression: &str) -> String {
    abridged(&format!("{expression} …"), CONDITION_CHARS_MAX)
}

/// On one line, with what is too long cut off.
pub(super) fn abridged(text: &str, chars_max: usize) -> String {
    let words: Vec<&str> = text.split(|c: char| c.is_whitespace() || c.is_control()).collect();
    let line = words.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(chars_max) {
        Some((end, _)) => format!("{}…", line[..end].trim_end()),
        None => line,
    }
}
