//! A statechart as dense tables over interned names.
//!
//! Owns the shape that `definition::compile` fills and `step` runs on. States are numbered in document order, so
//! that sorting indices is sorting in document order, and a state's descendants are a range.

mod act;
mod budget;
pub(crate) mod entry;
pub mod invariant;
mod run;
pub mod step;

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::chart::entry::Plan;
use crate::chart::invariant::Invariant;
use crate::definition::{EXPRESSION_ERROR, TIMER_PREFIX, is_internal};
use crate::expression::Expression;
use crate::lookup::Lookup;
use crate::time::Delay;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StateIndex(pub u16);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventIndex(pub u16);

/// A transition by its place in the definition: state by state, `after`, `on`, `on_done`, calls, `always`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TransitionIndex(pub u16);

/// As many transitions as there are to try, over all atomic states and events: 8 MB, which no drawn chart reaches.
const POOL_MAX: usize = 4_000_000;

/// States that all transitions enter, counted for each: a state of a thousand regions that a thousand transitions lead
/// to. It bounds the time that a definition takes to load.
const ENTERED_MAX: usize = 1_000_000;

/// The root is always the first state.
pub const ROOT: StateIndex = StateIndex(0);

#[derive(Debug, Default)]
pub struct Chart {
    pub states: Vec<State>,
    pub transitions: Vec<Transition>,
    /// Every event that anything listens to or raises; timers' events among them.
    pub events: Vec<Arc<str>>,
    pub event_by_name: Lookup<Arc<str>, EventIndex>,
    pub state_by_path: Lookup<Arc<str>, StateIndex>,
    /// No hierarchy, no parallel regions, no history, no eventless transitions, nobody who listens to failures: the
    /// short path is open.
    pub is_flat: bool,
    has_history: bool,
    /// Anything has to hold after an input.
    pub has_invariants: bool,
    /// Where an instance stands that has just begun, if nothing eventless leads on.
    initial_leaves: Vec<StateIndex>,
    /// What an expression that fails raises, if anything listens to it.
    error_event: Option<EventIndex>,
    /// What each transition leaves and enters, unless that depends on what a history state remembers.
    plans: Vec<Option<Plan>>,
    /// For each atomic state and event, the range of `pool` that holds the transitions to try in order.
    table: Vec<(u32, u32)>,
    /// For each atomic state, the same for eventless transitions.
    eventless: Vec<(u32, u32)>,
    pool: Vec<TransitionIndex>,
}

#[derive(Debug, Default)]
pub struct State {
    /// Dotted from the root's children; empty for the root.
    pub path: Arc<str>,
    pub kind: Kind,
    pub parent: StateIndex,
    pub children: Vec<StateIndex>,
    /// One past the last descendant.
    pub end: StateIndex,
    /// For a compound state, its initial targets; for a history state, its default.
    pub initial: Vec<StateIndex>,
    /// What is done on the way to `initial`.
    pub initial_actions: Vec<Action>,
    pub entry: Vec<Action>,
    pub exit: Vec<Action>,
    /// What holds whenever the state is active.
    pub invariants: Vec<Invariant>,
    /// Timers that run while the state is active, with their events.
    pub after: Vec<(Delay, EventIndex)>,
    pub calls: Vec<Call>,
    /// Raised when a compound or parallel state is done, if anything listens.
    pub done_event: Option<EventIndex>,
    /// Why an instance that ends here is closed.
    pub reason: Option<Arc<str>>,
    /// Entering does nothing but make the state active; leaving, but make it inactive.
    pub is_entered_in_silence: bool,
    pub is_left_in_silence: bool,
    /// For a final state, the payload of what is raised, or the instance's output.
    pub output: Vec<(Arc<str>, Computed)>,
}

/// A call to something outside that lasts as long as its state is active.
#[derive(Debug)]
pub struct Call {
    pub id: Arc<str>,
    pub src: Arc<str>,
    pub input: Vec<(Arc<str>, Computed)>,
    pub timeout: Delay,
    pub done_event: EventIndex,
    pub error_event: EventIndex,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    #[default]
    Atomic,
    Compound,
    Parallel,
    Final,
    ShallowHistory,
    DeepHistory,
}

#[derive(Debug)]
pub struct Transition {
    pub source: StateIndex,
    /// As it is written: an event, `prefix.*`, `*`, a timer's event, or empty for an eventless one.
    pub event: Arc<str>,
    pub guard: Option<Expression>,
    pub targets: Vec<StateIndex>,
    pub actions: Vec<Action>,
    /// What holds once it has been taken and the chart is at rest.
    pub ensures: Vec<Invariant>,
    pub reenter: bool,
    pub reason: Option<Arc<str>>,
    pub loop_normal: bool,
}

#[derive(Debug)]
pub enum Action {
    Assign {
        field: FieldIndex,
        name: Arc<str>,
        value: Computed,
    },
    Reply(ReplyIndex),
    Raise {
        event: EventIndex,
        data: Vec<(Arc<str>, Computed)>,
    },
    /// Raises an event later, as one from outside.
    RaiseLater {
        event: EventIndex,
        data: Vec<(Arc<str>, Computed)>,
        id: Arc<str>,
        delay: Wait,
    },
    Cancel(Arc<str>),
    If {
        condition: Expression,
        then: Vec<Action>,
        otherwise: Vec<Action>,
    },
    ForEach {
        list: Expression,
        body: Vec<Action>,
    },
}

/// How long something is put off.
#[derive(Debug)]
pub enum Wait {
    Fixed(Delay),
    /// Whole milliseconds.
    Computed(Box<Expression>),
}

/// A value that is written down, or worked out when it is wanted.
#[derive(Debug)]
pub enum Computed {
    Expression(Box<Expression>),
    Literal(Value),
}

impl Computed {
    /// Whether the value depends on a field of the event.
    pub fn reads_event(&self, field: &str) -> bool {
        match self {
            Self::Expression(expression) => reads(expression, field),
            Self::Literal(_) => false,
        }
    }
}

fn reads(expression: &Expression, field: &str) -> bool {
    let read = &expression.reads().event;
    read.whole || read.names.contains(field)
}

impl Action {
    /// Whether it takes what is in a field of the event anywhere; what its own parts do is asked of them.
    pub fn reads_event(&self, field: &str) -> bool {
        let any = |data: &[(Arc<str>, Computed)]| data.iter().any(|(_, value)| value.reads_event(field));
        match self {
            Self::Assign { value, .. } => value.reads_event(field),
            Self::Raise { data, .. } | Self::RaiseLater { data, .. } => any(data),
            Self::ForEach { list, .. } => reads(list, field),
            Self::If { .. } | Self::Reply(_) | Self::Cancel(_) => false,
        }
    }
}

/// Every action of these, those within others too, in no order.
pub(crate) fn all_actions<'a>(actions: impl IntoIterator<Item = &'a Action>) -> Vec<&'a Action> {
    let mut todo: Vec<&Action> = actions.into_iter().collect();
    let mut all = Vec::new();
    while let Some(action) = todo.pop() {
        all.push(action);
        match action {
            Action::If { then, otherwise, .. } => todo.extend(then.iter().chain(otherwise)),
            Action::ForEach { body, .. } => todo.extend(body),
            _ => {}
        }
    }
    all
}

/// A field of the machine's context, by its place in `Machine::fields`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FieldIndex(pub u16);

/// A reply of the machine's conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReplyIndex(pub u16);

/// Why paths are not those of states that are active together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Apart<'p> {
    Unknown(&'p str),
    NotWith(Arc<str>, &'p str),
}

impl Chart {
    pub fn initial_leaves(&self) -> &[StateIndex] {
        &self.initial_leaves
    }

    pub fn state(&self, index: StateIndex) -> &State {
        &self.states[usize::from(index.0)]
    }

    pub fn transition(&self, index: TransitionIndex) -> &Transition {
        &self.transitions[usize::from(index.0)]
    }

    /// The event of this name. One that nothing names is taken for the longest wildcard that takes it; a wildcard
    /// has a row of its own in the tables, and is no name itself.
    pub fn event(&self, name: &str) -> Option<EventIndex> {
        let named = self.event_by_name.get(name).filter(|_| !is_wildcard(name));
        named.copied().or_else(|| {
            let taking = self.events.iter().filter(|e| is_wildcard(e) && matches_event(e, name));
            let longest = taking.max_by_key(|written| written.len())?;
            self.event_by_name.get(longest).copied()
        })
    }

    pub fn event_name(&self, index: EventIndex) -> &Arc<str> {
        &self.events[usize::from(index.0)]
    }

    /// What somebody outside may send, patterns among it, and nothing that comes of itself.
    pub fn public_events(&self) -> impl Iterator<Item = &Arc<str>> + Clone {
        self.events.iter().filter(|event| !is_internal(event))
    }

    pub fn by_path(&self, path: &str) -> Option<StateIndex> {
        self.state_by_path.get(path).copied()
    }

    pub fn indices(&self) -> impl Iterator<Item = StateIndex> + use<> {
        (0..self.states.len()).map(|number| StateIndex(number as u16))
    }

    pub(crate) fn event_indices(&self) -> impl Iterator<Item = EventIndex> + use<> {
        (0..self.events.len()).map(|number| EventIndex(number as u16))
    }

    pub fn transition_indices(&self) -> impl Iterator<Item = TransitionIndex> + use<> {
        (0..self.transitions.len()).map(|number| TransitionIndex(number as u16))
    }

    /// The transitions that an atomic state offers for an event: its own first, then its ancestors'.
    pub fn candidates(&self, atomic: StateIndex, event: EventIndex) -> &[TransitionIndex] {
        let row = usize::from(atomic.0) * self.events.len() + usize::from(event.0);
        let (start, end) = self.table[row];
        &self.pool[start as usize..end as usize]
    }

    pub fn eventless(&self, atomic: StateIndex) -> &[TransitionIndex] {
        let (start, end) = self.eventless[usize::from(atomic.0)];
        &self.pool[start as usize..end as usize]
    }

    pub fn is_descendant(&self, state: StateIndex, ancestor: StateIndex) -> bool {
        state > ancestor && state < self.state(ancestor).end
    }

    /// The parents of `state` from the nearest up to the root; the root has none.
    pub fn ancestors(&self, state: StateIndex) -> impl Iterator<Item = StateIndex> + '_ {
        std::iter::successors(Some(state), |s| (*s != ROOT).then(|| self.state(*s).parent)).skip(1)
    }

    /// Whether two states lie in different regions; a history state lies where its parent does.
    pub(crate) fn are_orthogonal(&self, one: StateIndex, other: StateIndex) -> bool {
        let stands_for = |state: StateIndex| match self.is_history(state) {
            true => self.state(state).parent,
            false => state,
        };
        let (one, other) = (stands_for(one), stands_for(other));
        let nested = one == other || self.is_descendant(one, other) || self.is_descendant(other, one);
        let mut above = self.ancestors(one);
        let common = above.find(|a| self.is_descendant(other, *a));
        !nested && common.is_some_and(|c| self.state(c).kind == Kind::Parallel)
    }

    /// The states of these paths, each in another region; one that is named twice counts once.
    ///
    /// # Errors
    /// The first that is none, or that cannot be active with one before it.
    pub(crate) fn together<'p>(
        &self,
        paths: impl Iterator<Item = &'p str>,
    ) -> Result<Vec<StateIndex>, Apart<'p>> {
        let mut states: Vec<StateIndex> = Vec::new();
        for path in paths {
            let state = self.by_path(path).filter(|state| *state != ROOT && !self.is_history(*state));
            let state = state.ok_or(Apart::Unknown(path))?;
            if states.contains(&state) {
                continue;
            }
            if let Some(other) = states.iter().find(|other| !self.are_orthogonal(state, **other)) {
                return Err(Apart::NotWith(Arc::clone(&self.state(*other).path), path));
            }
            states.push(state);
        }
        Ok(states)
    }

    pub fn is_atomic(&self, state: StateIndex) -> bool {
        matches!(self.state(state).kind, Kind::Atomic | Kind::Final)
    }

    pub fn is_history(&self, state: StateIndex) -> bool {
        matches!(self.state(state).kind, Kind::ShallowHistory | Kind::DeepHistory)
    }

    /// Fills the dense tables once states, transitions and events are complete.
    ///
    /// # Errors
    /// When a few wildcards high up, times all states and events, would fill the memory.
    pub(crate) fn index(&mut self) -> Result<(), String> {
        let nested = |s: &State| !matches!(s.kind, Kind::Atomic | Kind::Final);
        let eventless = self.transitions.iter().any(|t| t.event.is_empty());
        self.error_event = self.event_by_name.get(EXPRESSION_ERROR).copied();
        self.has_history = (0..self.states.len()).any(|n| self.is_history(StateIndex(n as u16)));
        self.has_invariants = self.states.iter().any(|state| !state.invariants.is_empty())
            || self.transitions.iter().any(|transition| !transition.ensures.is_empty());
        for state in &mut self.states {
            let waits = !state.after.is_empty() || !state.calls.is_empty();
            state.is_entered_in_silence = state.entry.is_empty() && !waits;
            state.is_left_in_silence = state.exit.is_empty() && !waits;
        }
        self.is_flat = !self.states.iter().skip(1).any(nested)
            && self.states[0].kind == Kind::Compound
            && !eventless
            && self.error_event.is_none();
        self.plan_transitions()?;
        let entered = self.entered_at(None).into_iter();
        self.initial_leaves = entered.filter(|state| self.is_atomic(*state)).collect();
        let too_many =
            || format!("its transitions, states and events come to more than {POOL_MAX} combinations");
        let mut taken: Vec<Vec<EventIndex>> = Vec::with_capacity(self.transitions.len());
        let mut combinations = 0;
        for transition in &self.transitions {
            taken.push(self.taken_by(transition));
            combinations += taken.last().map_or(0, Vec::len);
            if combinations > POOL_MAX {
                return Err(too_many());
            }
        }
        let mut by_source: Vec<Vec<TransitionIndex>> = vec![Vec::new(); self.states.len()];
        for (number, transition) in self.transitions.iter().enumerate() {
            by_source[usize::from(transition.source.0)].push(TransitionIndex(number as u16));
        }
        self.table = vec![(0, 0); self.states.len() * self.events.len()];
        self.eventless = vec![(0, 0); self.states.len()];
        let mut rows: Vec<Vec<TransitionIndex>> = vec![Vec::new(); self.events.len()];
        for number in 0..self.states.len() {
            let state = StateIndex(number as u16);
            if !self.is_atomic(state) {
                continue;
            }
            let mut always = Vec::new();
            let chain = std::iter::once(state).chain(self.ancestors(state));
            for transition in chain.flat_map(|source| &by_source[usize::from(source.0)]) {
                if self.transition(*transition).event.is_empty() {
                    always.push(*transition);
                }
                for event in &taken[usize::from(transition.0)] {
                    rows[usize::from(event.0)].push(*transition);
                }
            }
            self.eventless[number] = self.add_to_pool(&mut always);
            for (event, row) in rows.iter_mut().enumerate() {
                self.table[number * self.events.len() + event] = self.add_to_pool(row);
            }
            if self.pool.len() > POOL_MAX {
                return Err(too_many());
            }
        }
        Ok(())
    }

    /// Works out what each transition leaves and enters.
    fn plan_transitions(&mut self) -> Result<(), String> {
        let mut plans = Vec::with_capacity(self.transitions.len());
        let mut entered = 0;
        for transition in &self.transitions {
            let (plan, count) = Plan::of(self, transition);
            entered += count;
            if entered > ENTERED_MAX {
                return Err(format!("its transitions enter more than {ENTERED_MAX} states in all"));
            }
            plans.push(plan);
        }
        self.plans = plans;
        Ok(())
    }

    fn taken_by(&self, transition: &Transition) -> Vec<EventIndex> {
        if !transition.event.ends_with('*') {
            return self.event(&transition.event).into_iter().collect();
        }
        let numbered = self.events.iter().enumerate();
        numbered
            .filter(|(_, name)| matches_event(&transition.event, name))
            .map(|(number, _)| EventIndex(number as u16))
            .collect()
    }

    fn add_to_pool(&mut self, row: &mut Vec<TransitionIndex>) -> (u32, u32) {
        let start = self.pool.len() as u32;
        self.pool.append(row);
        (start, self.pool.len() as u32)
    }
}

fn is_wildcard(event: &str) -> bool {
    event.ends_with('*')
}

/// Whether what is written in `on` takes an event: its name; `prefix.*` for `prefix` and all below it; `*` for any
/// that somebody sends or raises, but not for what comes of itself and would make a catch-all answer nobody.
pub(crate) fn matches_event(written: &str, event: &str) -> bool {
    if written == event {
        return !written.is_empty();
    }
    if event.starts_with(TIMER_PREFIX) {
        return false;
    }
    match written.strip_suffix('*') {
        Some("") => !is_internal(event),
        Some(prefix) => prefix.strip_suffix('.').is_some_and(|prefix| {
            let below = event.strip_prefix(prefix);
            below.is_some_and(|below| below.is_empty() || below.starts_with('.'))
        }),
        None => false,
    }
}
