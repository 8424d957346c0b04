//! Where one can get to: states that nobody reaches, states that nobody gets out of.

use crate::chart::entry::History;
use crate::chart::{Action, Chart, EventIndex, Kind, ROOT, StateIndex, TransitionIndex, all_actions};
use crate::definition::check::Checker;
use crate::definition::{CALL_ERROR_PREFIX, TIMER_PREFIX};

impl Checker<'_, '_> {
    pub(super) fn unreachable_states(&mut self) {
        let chart = &self.machine.chart;
        let mut reached = vec![false; chart.states.len()];
        let mut todo = vec![ROOT];
        reached[0] = true;
        if let Some(safe) = self.machine.safe_state {
            for state in std::iter::once(safe).chain(chart.ancestors(safe)) {
                if !std::mem::replace(&mut reached[usize::from(state.0)], true) {
                    todo.push(state);
                }
            }
        }
        let mut by_source: Vec<Vec<TransitionIndex>> = vec![Vec::new(); chart.states.len()];
        for index in chart.transition_indices() {
            by_source[usize::from(chart.transition(index).source.0)].push(index);
        }
        while let Some(state) = todo.pop() {
            let own = chart.state(state);
            let mut found: Vec<StateIndex> = match own.kind {
                Kind::Parallel => own.children.clone(),
                _ => own.initial.clone(),
            };
            for index in &by_source[usize::from(state.0)] {
                found.extend(&chart.transition(*index).targets);
            }
            for target in found {
                for state in std::iter::once(target).chain(chart.ancestors(target)) {
                    if !std::mem::replace(&mut reached[usize::from(state.0)], true) {
                        todo.push(state);
                    }
                }
            }
        }
        for state in chart.indices().filter(|s| !reached[usize::from(s.0)] && !chart.is_history(*s)) {
            let message = format!("no transition leads to the state {}", self.name(state));
            let place = self.states[usize::from(state.0)];
            self.warn("unreachable_state", place, message, "add a transition to it, or drop it");
        }
    }

    /// Where a machine can end at all, every state should have a way there.
    pub(super) fn no_way_to_end(&mut self) {
        let chart = &self.machine.chart;
        let ends: Vec<StateIndex> = match chart.state(ROOT).kind {
            Kind::Parallel => return,
            _ => chart
                .state(ROOT)
                .children
                .iter()
                .copied()
                .filter(|s| chart.state(*s).kind == Kind::Final)
                .collect(),
        };
        if ends.is_empty() {
            return;
        }
        let ending = leading_to(chart, &ends);
        for state in chart.indices().skip(1) {
            let stuck = chart.state(state).kind == Kind::Atomic && !ending[usize::from(state.0)];
            if stuck {
                let message = format!("from {} no transitions lead to an end", self.name(state));
                let place = self.states[usize::from(state.0)];
                let help = "add a transition out of it, or make it final";
                self.warn("no_way_to_end", place, message, help);
            }
        }
    }

    /// A state that only an input can end strands whoever never sends one.
    pub(super) fn no_way_out_by_time(&mut self) {
        let chart = &self.machine.chart;
        let timely = self.timely_events();
        let comes = |event: &EventIndex| timely[usize::from(event.0)];
        let mut leaving = vec![false; chart.states.len()];
        for index in chart.transition_indices() {
            let event = chart.event_by_name.get(&chart.transition(index).event);
            if event.is_some_and(comes) {
                for state in left_by(chart, index) {
                    leaving[usize::from(state.0)] = true;
                }
            }
        }
        for state in chart.indices().skip(1) {
            if chart.state(state).kind != Kind::Atomic || !chart.eventless(state).is_empty() {
                continue;
            }
            let mut around = std::iter::once(state).chain(chart.ancestors(state));
            let clocked = around.any(|s| !chart.state(s).after.is_empty());
            let taken = |event: &EventIndex| !chart.candidates(state, *event).is_empty();
            let called = chart.event_indices().any(|event| comes(&event) && taken(&event));
            if !leaving[usize::from(state.0)] && !clocked && !called {
                let message =
                    format!("whoever is in {} and sends nothing stays there for ever", self.name(state));
                let place = self.states[usize::from(state.0)];
                let help = "add `after: { 2h: … }` to it, to a state around it, or at the top";
                self.warn("no_way_out_by_time", place, message, help);
            }
        }
    }

    /// Which events come by time somewhere: those of delays and calls, those that are delayed, and those that follow
    /// from such, by what is raised on the way or by what comes to its end.
    fn timely_events(&self) -> Vec<bool> {
        let chart = &self.machine.chart;
        let mut timely: Vec<bool> = chart
            .events
            .iter()
            .map(|name| [TIMER_PREFIX, CALL_ERROR_PREFIX].iter().any(|p| name.starts_with(p)))
            .collect();
        let states = chart.states.iter();
        let of_states = states.flat_map(|s| s.entry.iter().chain(&s.exit).chain(&s.initial_actions));
        for action in all_actions(of_states.chain(chart.transitions.iter().flat_map(|t| &t.actions))) {
            if let Action::RaiseLater { event, .. } = action {
                timely[usize::from(event.0)] = true;
            }
        }
        let mut listening: Vec<Vec<TransitionIndex>> = vec![Vec::new(); chart.events.len()];
        for index in chart.transition_indices() {
            if let Some(event) = chart.event_by_name.get(&chart.transition(index).event) {
                listening[usize::from(event.0)].push(index);
            }
        }
        let mut todo: Vec<usize> = (0..timely.len()).filter(|event| timely[*event]).collect();
        while let Some(event) = todo.pop() {
            for following in listening[event].iter().flat_map(|index| follow_from(chart, *index)) {
                let number = usize::from(following.0);
                if !std::mem::replace(&mut timely[number], true) {
                    todo.push(number);
                }
            }
        }
        timely
    }

    /// A history state that nothing leads to, or that could only ever remember one thing.
    pub(super) fn useless_history(&mut self) {
        let chart = &self.machine.chart;
        let targets = chart.transitions.iter().flat_map(|t| &t.targets);
        let led_to: Vec<StateIndex> = targets
            .chain(chart.states.iter().flat_map(|s| &s.initial))
            .chain(&self.machine.safe_state)
            .copied()
            .collect();
        for history in chart.indices().filter(|s| chart.is_history(*s)) {
            let parent = chart.state(chart.state(history).parent);
            let mut siblings = parent.children.iter().filter(|s| !chart.is_history(**s));
            let problem = if !led_to.contains(&history) {
                "no transition leads to it"
            } else if siblings.clone().count() == 1 && siblings.all(|s| chart.is_atomic(*s)) {
                "there is one state only to remember"
            } else if parent.kind == Kind::Parallel && chart.state(history).kind == Kind::ShallowHistory {
                "the regions around it are always all active"
            } else {
                continue;
            };
            let message = format!("the history state {} is of no use: {problem}", self.name(history));
            let place = self.states[usize::from(history.0)];
            let help = match problem.starts_with("the regions") {
                true => "write `history: deep` to remember where each region was, or drop it",
                false => "lead a transition to it, or drop it",
            };
            self.warn("useless_history", place, message, help);
        }
    }
}

/// The states from which some of `ends` may be reached, whatever guards say.
fn leading_to(chart: &Chart, ends: &[StateIndex]) -> Vec<bool> {
    let mut entering: Vec<Vec<TransitionIndex>> = vec![Vec::new(); chart.states.len()];
    for index in chart.transition_indices() {
        for state in chart.entered_by(index) {
            entering[usize::from(state.0)].push(index);
        }
    }
    let mut leading = vec![false; chart.states.len()];
    let mut used = vec![false; chart.transitions.len()];
    let mut todo: Vec<StateIndex> = ends.to_vec();
    for end in ends {
        leading[usize::from(end.0)] = true;
    }
    while let Some(state) = todo.pop() {
        for index in &entering[usize::from(state.0)] {
            if std::mem::replace(&mut used[usize::from(index.0)], true) {
                continue;
            }
            for from in left_by(chart, *index) {
                if !std::mem::replace(&mut leading[usize::from(from.0)], true) {
                    todo.push(from);
                }
            }
        }
    }
    leading
}

/// The states that may be active when a transition is taken: those in its source, and those in regions beside it that
/// it leaves too.
fn left_by(chart: &Chart, index: TransitionIndex) -> Vec<StateIndex> {
    let source = chart.transition(index).source;
    let within = |state: StateIndex| (state.0..chart.state(state).end.0).map(StateIndex);
    let Some(domain) = chart.domain(index, &History::new()) else {
        return Vec::new();
    };
    let left = |state: &StateIndex| chart.is_descendant(*state, domain);
    let outermost =
        chart.ancestors(source).filter(|a| left(a) && chart.state(*a).kind == Kind::Parallel).last();
    within(outermost.unwrap_or(source)).collect()
}

/// The events that come of taking a transition: those that it raises, or that what it enters raises or ends with.
fn follow_from(chart: &Chart, index: TransitionIndex) -> Vec<EventIndex> {
    let mut actions: Vec<&Action> = chart.transition(index).actions.iter().collect();
    let mut following = Vec::new();
    for entered in chart.entered_by(index) {
        let state = chart.state(entered);
        actions.extend(state.entry.iter().chain(&state.initial_actions));
        if state.kind == Kind::Final {
            following.extend(chart.ancestors(entered).filter_map(|around| chart.state(around).done_event));
        }
    }
    following.extend(all_actions(actions).into_iter().filter_map(|action| match action {
        Action::Raise { event, .. } => Some(*event),
        _ => None,
    }));
    following
}
