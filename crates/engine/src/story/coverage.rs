//! Coverage: which states were entered and which transitions taken, told with their places in the definition.
//!
//! What that is for a flow is in `phases`. All of it comes from log entries: they name the transitions that were taken, and from these follow the states that
//! were only passed through. Who plays stories and collects their entries is `stage`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use kernel::chart::{Chart, ROOT, StateIndex, TransitionIndex};
use kernel::commit::Entry;
use kernel::definition::Places;
use kernel::diagnostic::Place;
use kernel::flow::FlowView;
use kernel::id::DefinitionHash;
use kernel::machine::Machine;

use super::phases::PhaseWalk;

/// A guard that is longer than this is told by its beginning; its place says the rest.
const GUARD_CHARS_MAX: usize = 60;

/// The way that one or several instances went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Walk {
    pub states: BTreeSet<StateIndex>,
    pub transitions: BTreeSet<TransitionIndex>,
    phases: PhaseWalk,
}

impl Walk {
    pub fn note(&mut self, chart: &Chart, entry: &Entry) {
        for transition in &entry.transitions {
            if usize::from(transition.0) < chart.transitions.len() {
                self.transitions.insert(*transition);
                self.enter(chart, chart.transition(*transition).source);
                chart.surely_entered_by(*transition).into_iter().for_each(|state| self.enter(chart, state));
            }
        }
        if entry.from.is_empty() && entry.event == "create" {
            self.begin_at(chart, None);
        }
        for path in entry.from.split(',').chain(entry.to.split(',')) {
            if let Some(state) = chart.by_path(path) {
                self.enter(chart, state);
            }
        }
    }

    /// What happened to the phases of a flow; `flow` is how it stands then.
    pub fn note_flow(&mut self, entries: &[Entry], flow: Option<&FlowView>) {
        self.phases.note(entries, flow);
    }

    /// An instance has begun: at a state of one's choosing, or where the machine begins.
    pub fn begin_at(&mut self, chart: &Chart, state: Option<StateIndex>) {
        chart.entered_at(state).into_iter().for_each(|state| self.enter(chart, state));
    }

    fn enter(&mut self, chart: &Chart, state: StateIndex) {
        let chain = std::iter::once(state).chain(chart.ancestors(state));
        self.states.extend(chain.filter(|state| *state != ROOT));
    }

    pub fn add(&mut self, other: &Walk) {
        self.states.extend(&other.states);
        self.transitions.extend(&other.transitions);
        self.phases.add(&other.phases);
    }

    pub fn contains(&self, other: &Walk) -> bool {
        other.states.is_subset(&self.states)
            && other.transitions.is_subset(&self.transitions)
            && self.phases.contains(&other.phases)
    }

    /// All that there is to walk: a history state is no place to be in.
    pub fn whole(chart: &Chart) -> Self {
        let states = chart.indices().filter(|state| *state != ROOT && !chart.is_history(*state));
        let transitions = chart.transition_indices().collect();
        Self { states: states.collect(), transitions, phases: PhaseWalk::default() }
    }
}

/// What stories of one definition have been through, and what not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coverage {
    pub machine: String,
    /// The definition's file.
    pub definition: PathBuf,
    /// Of a flow, its phases.
    pub states: Vec<Element>,
    /// Of a flow, the steps that its phases may take.
    pub transitions: Vec<Element>,
    pub is_flow: bool,
    hash: DefinitionHash,
}

/// A state or a transition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Element {
    /// Such as `collecting` or `collecting --cancel [context.n > 0]--> abandoned`.
    pub label: String,
    pub place: Place,
    pub covered: bool,
}

impl Coverage {
    pub(super) fn new(machine: &Machine, definition: &Path, walk: &Walk) -> Self {
        let chart = &machine.chart;
        let places = Places::read(&machine.source);
        let place = |places: Option<&Vec<Place>>, at: u16| {
            places.and_then(|places| places.get(usize::from(at))).copied().unwrap_or(Place::START)
        };
        if let Some(flow) = &machine.flow {
            let (states, transitions) = walk.phases.elements(flow, &machine.source);
            return Self::of(machine, definition, states, transitions);
        }
        let whole = Walk::whole(chart);
        let state = |state: &StateIndex| Element {
            label: chart.state(*state).path.to_string(),
            place: place(places.as_ref().map(|p| &p.states), state.0),
            covered: walk.states.contains(state),
        };
        let transition = |transition: &TransitionIndex| Element {
            label: transition_label(chart, *transition),
            place: place(places.as_ref().map(|p| &p.transitions), transition.0),
            covered: walk.transitions.contains(transition),
        };
        let states = whole.states.iter().map(state).collect();
        Self::of(machine, definition, states, whole.transitions.iter().map(transition).collect())
    }

    fn of(machine: &Machine, definition: &Path, states: Vec<Element>, transitions: Vec<Element>) -> Self {
        Self {
            machine: machine.name.to_string(),
            definition: definition.to_owned(),
            states,
            transitions,
            is_flow: machine.flow.is_some(),
            hash: machine.hash.clone(),
        }
    }

    /// Adds what other stories of the same definition have been through; false if it is another's.
    pub fn add(&mut self, other: &Coverage) -> bool {
        if self.hash != other.hash {
            return false;
        }
        let all = self.states.iter_mut().chain(&mut self.transitions);
        for (own, others) in all.zip(other.states.iter().chain(&other.transitions)) {
            own.covered |= others.covered;
        }
        true
    }
}

/// How many of some elements are covered.
pub fn covered(elements: &[Element]) -> usize {
    elements.iter().filter(|element| element.covered).count()
}

/// A transition as a person would draw it.
pub(super) fn transition_label(chart: &Chart, index: TransitionIndex) -> String {
    let transition = chart.transition(index);
    let path = |state: StateIndex| match &*chart.state(state).path {
        "" => "(top)".to_owned(),
        path => path.to_owned(),
    };
    let event = match &*transition.event {
        "" => "always".to_owned(),
        event => delay_of(chart, transition.source, event).unwrap_or_else(|| event.to_owned()),
    };
    let guard = transition.guard.as_ref().map(|guard| format!(" [{}]", shorten(&guard.source)));
    let targets: Vec<String> = transition.targets.iter().map(|target| path(*target)).collect();
    let to = if targets.is_empty() { "(stays)".to_owned() } else { targets.join(", ") };
    format!("{} --{event}{}--> {to}", path(transition.source), guard.unwrap_or_default())
}

/// `after 2h` for the event of a state's own timer.
fn delay_of(chart: &Chart, source: StateIndex, event: &str) -> Option<String> {
    let mut timers = chart.state(source).after.iter();
    let (delay, _) = timers.find(|(_, timer)| &**chart.event_name(*timer) == event)?;
    Some(format!("after {delay}"))
}

pub(super) fn shorten(expression: &str) -> String {
    let line = expression.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(GUARD_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}
