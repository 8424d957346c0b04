//! From a `Definition` to a `Machine`: names become indices, expressions become programs.
//!
//! Notes every name that leads nowhere and every expression that is none. Returns a machine only so that `check` can
//! look at it; `load` throws it away when an error was noted.

mod actions;
mod expressions;
mod invariants;
mod migrations;
mod names;
mod shape;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::chart::{Chart, EventIndex, Kind, ROOT, ReplyIndex, State, StateIndex, Transition, matches_event};
use crate::conversation::Conversation;
use crate::definition::{
    ActionDefinition, DONE_PREFIX, Definition, DelayDefinition, EXPRESSION_ERROR, GUESSES_MAX, PATTERNS_MAX,
    Placed, StateDefinition, StateKind, TIMER_PREFIX, TransitionDefinition, ValueDefinition,
};
use crate::diagnostic::{Diagnostic, Place, nearest};
use crate::expression::Type;
use crate::flow::{Flow, FlowDefinition};
use crate::id::{DefinitionHash, MachineName};
use crate::machine::Machine;

/// The tables are states times events; this keeps them below 64 MB.
const STATES_MAX: usize = 2_000;
/// Intents and replies are numbered in sixteen bits; no router could tell this many apart.
const INTENTS_MAX: usize = 10_000;
const EVENTS_MAX: usize = 4_000;
/// Each is resolved and checked against the others; it also keeps `TransitionIndex` in 16 bits.
const TRANSITIONS_MAX: usize = 20_000;
/// Parsing takes up to four microseconds a byte.
const EXPRESSION_BYTES_MAX: usize = 256 * 1024;
const ACTIONS_MAX: usize = 20_000;
/// A context is written whole at every revision.
const FIELDS_MAX: usize = 1_000;

pub(crate) fn compile(
    definition: &Definition,
    source: &str,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Machine> {
    let mut compiler = Compiler {
        definition,
        diagnostics,
        chart: Chart::default(),
        states: Vec::new(),
        reply_by_name: HashMap::new(),
        delayed_ids: delayed_ids(definition),
        call_ids: Vec::new(),
        locals: Vec::new(),
    };
    compiler.add_state(&definition.root, ROOT);
    if !compiler.is_within_limits() {
        return None;
    }
    let mut conversation = definition.conversation.as_ref().map(|written| {
        let conversation = Conversation::compile(written, definition, compiler.diagnostics);
        let numbered = conversation.replies.iter().enumerate();
        compiler.reply_by_name =
            numbered.map(|(n, reply)| (reply.name.clone(), ReplyIndex(n as u16))).collect();
        conversation
    });
    compiler.fill_states();
    compiler.name_events(conversation.as_ref());
    if let Some(conversation) = &mut conversation {
        conversation.accepts = compiler.accepts();
        compiler.name_offered_events();
    }
    if !compiler.within(compiler.chart.events.len(), EVENTS_MAX, "events") {
        return None;
    }
    let safe_state = compiler.safe_state();
    if let Err(problem) = compiler.chart.index() {
        let message = format!("the machine is too large: {problem}");
        let help = "move transitions from the top into the states that need them, or split the machine";
        compiler.error("too_large", definition.machine.place, message, help);
        return None;
    }
    let migrations = compiler.migrations();
    let chart = compiler.chart;
    let flow = definition.flow.as_ref().map(|written| Flow::compile(written, definition, diagnostics));
    let flow = match flow {
        Some(None) => return None,
        compiled => compiled.flatten(),
    };
    Some(Machine {
        name: MachineName::parse(&definition.machine.value).ok()?,
        version: definition.version,
        hash: DefinitionHash::of(source),
        source: source.into(),
        fields: definition.context.clone(),
        secrets: secrets(definition),
        chart,
        safe_state,
        conversation,
        flow,
        migrations,
    })
}

fn secrets(definition: &Definition) -> Arc<[Arc<str>]> {
    let secret = definition.context.iter().filter(|field| field.secret);
    let mut names: Vec<Arc<str>> = secret.map(|field| field.name.value.as_str().into()).collect();
    names.sort_unstable();
    names.into()
}

/// What is written under `on`, `after` and `always`; a key without a transition counts as one.
fn transitions_in(state: &StateDefinition) -> usize {
    state.transitions().count() + state.on.len() + state.after.len()
}

/// How many bytes of expressions, those in replies included, and how many actions a definition has.
fn written_code(definition: &Definition) -> (usize, usize) {
    let value = |value: &ValueDefinition| match value {
        ValueDefinition::Expression(source) => source.value.len(),
        ValueDefinition::Literal(_) => 0,
    };
    let values = |values: &[(Placed<String>, ValueDefinition)]| -> usize {
        values.iter().map(|(_, v)| value(v)).sum()
    };
    let (mut bytes, mut count) = (0_usize, 0);
    for state in definition.root.walk() {
        bytes += state.transitions().filter_map(|t| t.guard.as_ref()).map(|g| g.value.len()).sum::<usize>();
        bytes += state.held().map(|invariant| invariant.check.value.len()).sum::<usize>();
        bytes += values(&state.output);
        bytes += state.invoke.iter().map(|call| values(&call.input)).sum::<usize>();
        for action in state.actions() {
            count += 1;
            bytes += match action {
                ActionDefinition::Assign { value: assigned, .. } => value(assigned),
                ActionDefinition::Raise(raise) => {
                    let delay = match &raise.delay {
                        Some(DelayDefinition::Expression(source)) => source.value.len(),
                        _ => 0,
                    };
                    delay + values(&raise.data)
                }
                ActionDefinition::If { condition: source, .. }
                | ActionDefinition::ForEach { list: source, .. } => source.value.len(),
                ActionDefinition::Reply { .. } | ActionDefinition::Cancel { .. } => 0,
            };
        }
    }
    bytes += definition.flow.iter().flat_map(FlowDefinition::sources).map(|s| s.value.len()).sum::<usize>();
    let replies = definition.conversation.iter().flat_map(|c| &c.replies);
    let texts = replies.flat_map(|reply| &reply.text.0).filter(|(_, text)| text.value.contains('{'));
    bytes += texts.map(|(_, text)| text.value.len()).sum::<usize>();
    let offered = definition.conversation.iter().flat_map(|c| c.offered_lists());
    bytes += offered.flat_map(|each| each.sources()).map(|source| source.value.len()).sum::<usize>();
    (bytes, count)
}

/// The ids under which anything in the definition delays an event.
fn delayed_ids(definition: &Definition) -> BTreeSet<&str> {
    let actions = definition.root.walk().into_iter().flat_map(StateDefinition::actions);
    let delayed = actions.filter_map(|action| match action {
        ActionDefinition::Raise(raise) => raise.delay.is_some().then(|| raise.timer_id()),
        _ => None,
    });
    delayed.collect()
}

pub(crate) use actions::INDEX;
use expressions::Wanted;
pub(crate) use expressions::{compile_flow_expression, compile_template_expression, warn_of_copies};
use invariants::Held;

struct Compiler<'a, 'd> {
    definition: &'a Definition,
    diagnostics: &'d mut Vec<Diagnostic>,
    chart: Chart,
    /// The written state of each index.
    states: Vec<&'a StateDefinition>,
    reply_by_name: HashMap<String, ReplyIndex>,
    delayed_ids: BTreeSet<&'a str>,
    call_ids: Vec<Arc<str>>,
    /// The names of the `for_each` around what is being compiled, item and index in turn.
    locals: Vec<(String, Type)>,
}

impl<'a> Compiler<'a, '_> {
    fn error(&mut self, code: &'static str, place: Place, message: String, help: impl Into<String>) {
        self.diagnostics.push(Diagnostic::error(code, place, message, help.into()));
    }

    fn is_within_limits(&mut self) -> bool {
        let definition = self.definition;
        let transitions = self.states.iter().map(|state| transitions_in(state)).sum();
        let intents = definition.conversation.as_ref().map_or(0, |c| c.intents.len() + c.replies.len());
        let (expressions, actions) = written_code(definition);
        let of_intents = definition.conversation.iter().flat_map(|c| &c.intents);
        self.within(of_intents.map(|i| i.patterns.len()).sum(), PATTERNS_MAX, "patterns")
            & self.within(expressions, EXPRESSION_BYTES_MAX, "bytes of expressions")
            & self.within(actions, ACTIONS_MAX, "actions")
            & self.within(self.states.len(), STATES_MAX, "states")
            & self.within(transitions, TRANSITIONS_MAX, "transitions")
            & self.within(definition.context.len(), FIELDS_MAX, "context fields")
            & self.within(intents, INTENTS_MAX, "intents and replies")
    }

    fn within(&mut self, count: usize, limit: usize, what: &str) -> bool {
        if count > limit {
            let message = format!("the machine has {count} {what}");
            let help = format!("{limit} are allowed; split the machine");
            self.error("too_large", self.definition.machine.place, message, help);
        }
        count <= limit
    }

    /// The remedy for a name that leads nowhere.
    fn nearest<'n>(&self, wrong: &str, known: impl Iterator<Item = &'n str> + Clone) -> String {
        match self.diagnostics.len() < GUESSES_MAX {
            true => nearest(wrong, known),
            false => "mend the errors above first".into(),
        }
    }

    /// Numbers a state and its descendants in document order.
    fn add_state(&mut self, written: &'a StateDefinition, parent: StateIndex) -> StateIndex {
        let index = StateIndex(u16::try_from(self.states.len()).unwrap_or(u16::MAX));
        let path: Arc<str> = match self.states.len() {
            0 => "".into(),
            _ => match &*self.chart.state(parent).path {
                "" => written.name.value.as_str().into(),
                above => format!("{above}.{}", written.name.value).into(),
            },
        };
        let kind = match written.kind {
            StateKind::Normal if written.states.is_empty() => Kind::Atomic,
            StateKind::Normal => Kind::Compound,
            StateKind::Parallel => Kind::Parallel,
            StateKind::Final => Kind::Final,
            StateKind::ShallowHistory => Kind::ShallowHistory,
            StateKind::DeepHistory => Kind::DeepHistory,
        };
        self.states.push(written);
        self.chart.state_by_path.insert(Arc::clone(&path), index);
        self.chart.states.push(State {
            path,
            kind,
            parent,
            end: index,
            reason: written.reason.as_deref().map(Arc::from),
            ..State::default()
        });
        let children: Vec<StateIndex> =
            written.states.iter().map(|child| self.add_state(child, index)).collect();
        let end = StateIndex(u16::try_from(self.states.len()).unwrap_or(u16::MAX));
        let state = &mut self.chart.states[usize::from(index.0)];
        state.children = children;
        state.end = end;
        index
    }

    fn event(&mut self, name: &str) -> EventIndex {
        if let Some(index) = self.chart.event_by_name.get(name) {
            return *index;
        }
        let index = EventIndex(u16::try_from(self.chart.events.len()).unwrap_or(u16::MAX));
        let name: Arc<str> = name.into();
        self.chart.events.push(Arc::clone(&name));
        self.chart.event_by_name.insert(name, index);
        index
    }

    fn fill_states(&mut self) {
        for number in 0..self.states.len() {
            let index = StateIndex(number as u16);
            let written = self.states[number];
            self.check_shape(index, written);
            let initial = self.initial(index, written);
            let on_the_way = match &written.initial {
                Some(initial) => &initial.actions,
                None => &written.default_actions,
            };
            let initial_actions = self.actions(on_the_way);
            let entry = self.actions(&written.entry);
            let exit = self.actions(&written.exit);
            let invariants = self.invariants(&written.invariants, Held::Always);
            let mut after = Vec::new();
            self.check_delays(written);
            for (delay, transitions) in &written.after {
                let id = match &*self.chart.state(index).path {
                    "" => format!("{TIMER_PREFIX}{}", delay.value),
                    path => format!("{TIMER_PREFIX}{}.{path}", delay.value),
                };
                let event = self.event(&id);
                after.push((delay.value, event));
                self.transitions(index, &id, transitions);
            }
            for (event, transitions) in &written.on {
                self.check_event_name(event, true);
                self.event(&event.value);
                self.transitions(index, &event.value, transitions);
            }
            let done = format!("{DONE_PREFIX}{}", self.chart.state(index).path);
            if let Some((_, transitions)) = &written.on_done {
                self.event(&done);
                self.transitions(index, &done, transitions);
            }
            let calls = self.calls(index, &written.invoke);
            self.transitions(index, "", &written.always);
            let can_end = matches!(self.chart.state(index).kind, Kind::Compound | Kind::Parallel);
            let listens = written.on_done.is_some() || self.listens(&done);
            let done_event = (can_end && listens).then(|| self.event(&done));
            let output = self.values(&written.output);
            let state = &mut self.chart.states[number];
            (state.initial, state.initial_actions) = (initial, initial_actions);
            (state.entry, state.exit, state.output) = (entry, exit, output);
            state.invariants = invariants;
            (state.after, state.done_event, state.calls) = (after, done_event, calls);
        }
    }

    /// Events that may come although no state names them.
    fn name_events(&mut self, conversation: Option<&Conversation>) {
        if self.listens(EXPRESSION_ERROR) {
            self.event(EXPRESSION_ERROR);
        }
        for event in &self.definition.events {
            self.check_event_name(event, false);
            self.event(&event.value);
        }
        let written = self.definition.conversation.iter().flat_map(|c| &c.intents);
        for event in written.filter_map(|intent| intent.event.as_ref()) {
            self.check_event_name(event, false);
        }
        for event in conversation.iter().flat_map(|c| &c.intents).filter_map(|i| i.event.as_ref()) {
            self.event(event);
        }
        self.check_internal_names();
    }

    fn listens(&self, event: &str) -> bool {
        self.states.iter().any(|s| s.on.iter().any(|(name, _)| matches_event(&name.value, event)))
    }

    fn transitions(&mut self, source: StateIndex, event: &str, written: &'a [TransitionDefinition]) {
        for transition in written {
            let found = transition.target.iter();
            let targets: Vec<(StateIndex, Place)> =
                found.filter_map(|target| Some((self.target(source, target)?, target.place))).collect();
            self.check_targets(&targets);
            let targets = targets.into_iter().map(|(target, _)| target).collect();
            let guard = transition.guard.as_ref().and_then(|guard| self.expression(guard, Wanted::Truth));
            let actions = self.actions(&transition.actions);
            let ensures = self.invariants(&transition.ensures, Held::Once);
            self.chart.transitions.push(Transition {
                source,
                event: event.into(),
                guard,
                targets,
                actions,
                ensures,
                reenter: transition.reenter,
                reason: transition.reason.as_deref().map(Arc::from),
                loop_normal: transition.loop_normal,
            });
        }
    }
}
