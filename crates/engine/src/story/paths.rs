//! Paths: the shortest stories that reach each state of a definition and take each of its transitions.
//!
//! A beginning for whoever tests a machine: `search` finds the ways, `inputs` says what is worth trying on them,
//! `document` makes a story file of them. Every story is played before it is handed out, by the runner that will play it
//! again. What could not be reached is told with the reason, as far as it can be seen.

mod document;
mod guess;
mod inputs;
mod search;
mod tokens;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use kernel::chart::{ROOT, StateIndex, TransitionIndex};
use kernel::conversation::Message;
use kernel::input::{CallOutcome, Fields};
use kernel::machine::Machine;
use kernel::time::Delay;

use super::coverage::{Coverage, Walk, shorten, transition_label};
use super::{StoryFileError, file, load, stage};
use search::{Came, Search};

/// How far the search goes.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Snapshots that are kept.
    pub snapshots: usize,
    /// Inputs that are tried from where a machine begins; as many again from other contexts.
    pub decisions: usize,
    /// Steps of a story.
    pub depth: usize,
    /// Stories that are played and handed out; nobody reads more.
    pub stories: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { snapshots: 20_000, decisions: 60_000, depth: 40, stories: 2_000 }
    }
}

/// How far the search has come.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    pub snapshots: usize,
    pub decisions: usize,
    /// States and transitions that have been found, of how many.
    pub found: usize,
    pub of: usize,
}

/// What was found.
#[derive(Clone, Debug)]
pub struct Paths {
    pub stories: Vec<FoundStory>,
    /// What these stories go through.
    pub coverage: Coverage,
    pub unreached: Vec<Unreached>,
    pub snapshots: usize,
    pub decisions: usize,
    /// The bound at which the search stopped, such as `20000 snapshots`.
    pub bound: Option<String>,
}

/// A story that has been played.
#[derive(Clone, Debug)]
pub struct FoundStory {
    pub name: String,
    pub beginning: Beginning,
    pub steps: Vec<FoundStep>,
}

#[derive(Clone, Debug)]
pub enum Beginning {
    /// Before anything has been said.
    Nothing,
    /// With an instance that was created with this.
    Created(Fields),
}

#[derive(Clone, Debug)]
pub struct FoundStep {
    pub act: Act,
    /// Where the instance is afterwards.
    pub state: String,
}

#[derive(Clone, Debug)]
pub enum Act {
    /// Only a look at where it stands.
    Look,
    Send(Box<Message>),
    Event {
        event: String,
        payload: Fields,
    },
    Wait(Delay),
    Call {
        id: String,
        outcome: CallOutcome,
    },
}

/// A state that no story enters, or a transition that none takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreached {
    pub label: String,
    pub line: u32,
    pub column: u32,
    pub why: String,
}

/// What a story is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Goal {
    State(StateIndex),
    Transition(TransitionIndex),
}

/// Finds stories for a definition: as few as go everywhere, or one for every state and transition.
///
/// # Errors
/// When the definition cannot be read, has errors, or is a flow.
pub fn find(
    definition: &Path,
    all: bool,
    bounds: Bounds,
    progress: &mut dyn FnMut(Progress),
) -> Result<Paths, StoryFileError> {
    let machine = load(definition)?;
    if machine.flow.is_some() {
        return Err(StoryFileError::Flow { path: definition.to_owned() });
    }
    let search = |speaks: bool, progress: &mut dyn FnMut(Progress)| {
        let mut search = Search::new(&machine, bounds, speaks)
            .map_err(|detail| StoryFileError::Unreadable { path: definition.to_owned(), detail })?;
        search.run(progress);
        Ok(search)
    };
    let found = search(true, progress)?;
    let mut choice =
        Choice { machine: &machine, most: bounds.stories, walk: Walk::default(), stories: Vec::new() };
    let mut failed = choice.choose(&found, None, all);
    if !failed.is_empty() && machine.conversation.is_some() {
        // What went otherwise than expected when it was said may go by events.
        let silent = search(false, progress)?;
        failed = choice.choose(&silent, Some(&failed), all);
    }
    let coverage = Coverage::new(&machine, definition, &choice.walk);
    let full = choice.stories.len() >= bounds.stories;
    let unreached = choice.unreached(&coverage, &found, &failed);
    choice.stories.sort_by_key(|(order, _)| *order);
    Ok(Paths {
        stories: choice.stories.into_iter().map(|(_, story)| story).collect(),
        coverage,
        unreached,
        snapshots: found.nodes.len(),
        decisions: found.decisions,
        bound: found.bound.or_else(|| full.then(|| format!("{} stories", bounds.stories))),
    })
}

/// The stories chosen so far, each with its place among them, and all that they go through.
struct Choice<'m> {
    machine: &'m Arc<Machine>,
    /// As many stories as there may be.
    most: usize,
    walk: Walk,
    stories: Vec<((usize, usize), FoundStory)>,
}

impl Choice<'_> {
    /// Takes stories for these goals, or for all that were found; returns the goals whose story did not come true.
    ///
    /// The longest come first: what they pass on their way needs no story of its own.
    fn choose(&mut self, search: &Search<'_>, only: Option<&BTreeSet<Goal>>, all: bool) -> BTreeSet<Goal> {
        let mut by_node: BTreeMap<usize, Vec<Goal>> = BTreeMap::new();
        let states = search.reached.iter().map(|(state, at)| (Goal::State(*state), *at));
        let transitions = search.taken.iter().map(|(transition, at)| (Goal::Transition(*transition), *at));
        for (goal, at) in states.chain(transitions) {
            if only.is_none_or(|only| only.contains(&goal)) {
                by_node.entry(at).or_default().push(goal);
            }
        }
        let mut nodes: Vec<(usize, Vec<Goal>)> = by_node.into_iter().collect();
        nodes.sort_by_key(|(at, _)| (std::cmp::Reverse(search.nodes[*at].depth), *at));
        let mut failed = BTreeSet::new();
        for (at, goals) in nodes {
            let open: Vec<Goal> = goals.into_iter().filter(|goal| all || !self.is_met(*goal)).collect();
            let Some(goal) = self.telling(&open).filter(|_| self.stories.len() < self.most) else { continue };
            let story = self.story(search, at, goal);
            match self.play(&story) {
                Some(walk) if open.iter().all(|goal| is_in(&walk, *goal)) => {
                    self.walk.add(&walk);
                    self.stories.push(((search.nodes[at].depth, at), story));
                }
                _ => failed.extend(open),
            }
        }
        failed.into_iter().filter(|goal| !self.is_met(*goal)).collect()
    }

    fn is_met(&self, goal: Goal) -> bool {
        is_in(&self.walk, goal)
    }

    /// What a story is named after: the innermost new state, else the last new transition.
    fn telling(&self, goals: &[Goal]) -> Option<Goal> {
        let states = goals.iter().filter(|goal| matches!(goal, Goal::State(_)));
        states.max().or_else(|| goals.iter().max()).copied()
    }

    fn story(&self, search: &Search<'_>, at: usize, goal: Goal) -> FoundStory {
        let chart = &self.machine.chart;
        let name = match goal {
            Goal::State(state) => format!("reaches {}", chart.state(state).path),
            Goal::Transition(transition) => format!("takes {}", transition_label(chart, transition)),
        };
        let mut beginning = Beginning::Nothing;
        let mut steps = Vec::new();
        for node in search.way(at) {
            match &node.came {
                Came::Begun(begun) => beginning = begun.clone(),
                Came::By(act) => {
                    steps.push(FoundStep { act: act.clone(), state: node.state().unwrap_or_default() });
                }
            }
        }
        if steps.is_empty() {
            let state = search.nodes[at].state().unwrap_or_default();
            steps.push(FoundStep { act: Act::Look, state });
        }
        // Without sessions an instance is there by itself.
        if let Beginning::Created(context) = &beginning
            && context.is_empty()
            && self.machine.conversation.is_none()
        {
            beginning = Beginning::Nothing;
        }
        FoundStory { name, beginning, steps }
    }

    /// What a story goes through, if it comes true: written out, read back and played as `test` does it.
    fn play(&self, story: &FoundStory) -> Option<Walk> {
        let written = document::file("played", std::slice::from_ref(story));
        let mut diagnostics = Vec::new();
        let read = file::read(&written, &mut diagnostics).filter(|_| diagnostics.is_empty())?;
        let played = stage::play(self.machine, read.stories.first()?);
        played.failure.is_none().then_some(played.walk)
    }

    fn unreached(&self, coverage: &Coverage, search: &Search<'_>, failed: &BTreeSet<Goal>) -> Vec<Unreached> {
        let chart = &self.machine.chart;
        let whole = Walk::whole(chart);
        let goals = whole.states.iter().map(|state| Goal::State(*state));
        let goals = goals.chain(whole.transitions.iter().map(|transition| Goal::Transition(*transition)));
        let elements = coverage.states.iter().chain(&coverage.transitions);
        let missing = goals.zip(elements).filter(|(goal, _)| !self.is_met(*goal));
        let told = missing.map(|(goal, element)| Unreached {
            label: element.label.clone(),
            line: element.place.line,
            column: element.place.column,
            why: match goal {
                _ if failed.contains(&goal) => "the story that was found for it did not come true".into(),
                Goal::State(state) => self.why_not_entered(state),
                Goal::Transition(transition) => self.why_not_taken(transition, search),
            },
        });
        told.collect()
    }

    fn why_not_entered(&self, state: StateIndex) -> String {
        let chart = &self.machine.chart;
        let mut leading = chart.transition_indices();
        match leading.find(|transition| chart.surely_entered_by(*transition).contains(&state)) {
            Some(transition) => format!("`{}` was not taken", transition_label(chart, transition)),
            None => "no transition leads there".into(),
        }
    }

    fn why_not_taken(&self, index: TransitionIndex, search: &Search<'_>) -> String {
        let chart = &self.machine.chart;
        let transition = chart.transition(index);
        let source = chart.state(transition.source);
        if transition.source != ROOT && !self.walk.states.contains(&transition.source) {
            return format!("`{}` was not reached", source.path);
        }
        if let Some(failure) = search.failures.get(&index) {
            return failure.clone();
        }
        let earlier = &chart.transitions[..usize::from(index.0)];
        let wins = |t: &&kernel::chart::Transition| {
            t.source == transition.source && t.event == transition.event && t.guard.is_none()
        };
        if earlier.iter().any(|t| wins(&t)) {
            return "an earlier transition always wins".into();
        }
        if let Some(guard) = &transition.guard {
            let what = match () {
                () if guess::reads(&guard.source, "event") => "a payload that makes",
                () if guess::reads(&guard.source, "context") => "a context that makes",
                () => "a moment that makes",
            };
            return format!("needs {what} `{}` true", shorten(&guard.source));
        }
        match &*transition.event {
            "" => "the state was never at rest long enough".into(),
            "error.execution" => "no expression was made to fail there".into(),
            event if event.starts_with("done.state.") => {
                format!("`{}` was never done", &event["done.state.".len()..])
            }
            event => format!("`{event}` was taken by another state, or never came there"),
        }
    }
}

fn is_in(walk: &Walk, goal: Goal) -> bool {
    match goal {
        Goal::State(state) => walk.states.contains(&state),
        Goal::Transition(transition) => walk.transitions.contains(&transition),
    }
}

impl Paths {
    /// A story file of what was found; `machine` names the definition as seen from that file.
    pub fn to_yaml(&self, machine: &str) -> String {
        document::document(self, machine)
    }
}
