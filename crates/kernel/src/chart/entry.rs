//! Which states a transition leaves, and which it enters.
//!
//! Worked out once, when a chart is compiled, for every transition that no history state has a say in (`Plan`), and
//! at each step for the others. Functions name the procedure of SCXML's algorithm (W3C recommendation, appendix D)
//! that they implement.

use std::collections::BTreeMap;

use crate::chart::{Chart, Kind, ROOT, StateIndex, Transition, TransitionIndex};

/// What each history state remembers.
pub type History = BTreeMap<StateIndex, Vec<StateIndex>>;

/// What a transition does to the configuration, whatever has been before.
#[derive(Debug)]
pub(super) struct Plan {
    /// The state whose active descendants are left; `None` for a transition that leaves nothing.
    pub domain: Option<StateIndex>,
    /// In document order.
    pub entered: Box<[Entered]>,
}

/// A state on its way in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entered {
    pub state: StateIndex,
    /// Nothing inside the state was named, so that it begins at its initial states.
    pub by_default: bool,
    /// The history state whose default leads into this one.
    pub history: Option<StateIndex>,
}

impl Plan {
    /// `None` if a history state has a say in it; and how many states are entered while it remembers nothing.
    pub fn of(chart: &Chart, transition: &Transition) -> (Option<Self>, usize) {
        let nothing = History::new();
        let mut way = Way::new(chart, &nothing);
        let domain = way.domain(transition);
        if let Some(domain) = domain {
            way.add_targets(&transition.targets, domain);
        }
        let count = way.entered.len();
        ((!way.asked_history).then(|| Self { domain, entered: way.entered() }), count)
    }
}

impl Chart {
    /// `getTransitionDomain`
    pub(crate) fn domain(&self, transition: TransitionIndex, history: &History) -> Option<StateIndex> {
        match &self.plans[usize::from(transition.0)] {
            Some(plan) => plan.domain,
            None => Way::new(self, history).domain(self.transition(transition)),
        }
    }

    pub(super) fn plan(&self, transition: TransitionIndex) -> Option<&Plan> {
        self.plans[usize::from(transition.0)].as_ref()
    }

    /// `computeEntrySet` for one transition.
    pub(super) fn entry_set(
        &self,
        targets: &[StateIndex],
        domain: StateIndex,
        history: &History,
    ) -> Box<[Entered]> {
        let mut way = Way::new(self, history);
        way.add_targets(targets, domain);
        way.entered()
    }

    /// The states that a transition may enter: what a history state remembers is taken for its default.
    pub(crate) fn entered_by(&self, transition: TransitionIndex) -> Vec<StateIndex> {
        let nothing = History::new();
        let entered = match (self.plan(transition), self.domain(transition, &nothing)) {
            (Some(plan), _) => return plan.entered.iter().map(|entered| entered.state).collect(),
            (None, None) => return Vec::new(),
            (None, Some(domain)) => self.entry_set(&self.transition(transition).targets, domain, &nothing),
        };
        entered.iter().map(|entered| entered.state).collect()
    }

    /// The states that a transition enters, as far as no history state has a say in it: what one remembers has been
    /// entered before.
    pub fn surely_entered_by(&self, transition: TransitionIndex) -> Vec<StateIndex> {
        match self.plan(transition) {
            Some(plan) => plan.entered.iter().map(|entered| entered.state).collect(),
            None => {
                let targets = self.transition(transition).targets.iter();
                targets.copied().filter(|target| !self.is_history(*target)).collect()
            }
        }
    }

    /// The states that are entered when the chart begins where it begins, or at one state of one's choosing.
    pub fn entered_at(&self, state: Option<StateIndex>) -> Vec<StateIndex> {
        let entered = match state {
            Some(state) => self.beginning(&[state], false),
            None => self.beginning(&self.state(ROOT).initial, true),
        };
        entered.iter().map(|entered| entered.state).collect()
    }

    /// What is entered when the chart begins at `targets`, its top included.
    pub(super) fn beginning(&self, targets: &[StateIndex], by_default: bool) -> Box<[Entered]> {
        let nothing = History::new();
        let mut way = Way::new(self, &nothing);
        way.add(ROOT, by_default);
        way.add_targets(targets, ROOT);
        way.entered()
    }

    /// All states that are active where these are.
    pub(crate) fn active_with(&self, states: &[StateIndex]) -> Vec<StateIndex> {
        self.beginning(states, false).iter().map(|entered| entered.state).collect()
    }
}

/// The states that are on the way in so far.
struct Way<'a> {
    chart: &'a Chart,
    history: &'a History,
    entered: BTreeMap<StateIndex, Entered>,
    /// Parents with the history state inside whose default is taken: `defaultHistoryContent`.
    defaults: Vec<(StateIndex, StateIndex)>,
    asked_history: bool,
}

impl<'a> Way<'a> {
    fn new(chart: &'a Chart, history: &'a History) -> Self {
        Self { chart, history, entered: BTreeMap::new(), defaults: Vec::new(), asked_history: false }
    }

    fn entered(mut self) -> Box<[Entered]> {
        for (parent, history) in self.defaults {
            if let Some(entered) = self.entered.get_mut(&parent) {
                entered.history = Some(history);
            }
        }
        self.entered.into_values().collect()
    }

    fn add(&mut self, state: StateIndex, by_default: bool) {
        let entered =
            self.entered.entry(state).or_insert(Entered { state, by_default: false, history: None });
        entered.by_default |= by_default;
    }

    /// `getTransitionDomain`, but that a transition is internal unless it says `reenter`.
    fn domain(&mut self, transition: &Transition) -> Option<StateIndex> {
        let chart = self.chart;
        let targets = self.effective_targets(&transition.targets);
        if targets.is_empty() {
            return None;
        }
        let source = transition.source;
        let within = |t: &StateIndex| *t == source || chart.is_descendant(*t, source);
        if !transition.reenter && targets.iter().all(within) {
            match chart.state(source).kind {
                Kind::Compound => return Some(source),
                // To itself and from nowhere else: nothing is left, so nothing may be entered either, even if another
                // transition of the same step leaves the state.
                Kind::Atomic => return None,
                _ => {}
            }
        }
        let holds_all = |ancestor: &StateIndex| {
            let compound = chart.state(*ancestor).kind == Kind::Compound || *ancestor == ROOT;
            compound && targets.iter().all(|t| chart.is_descendant(*t, *ancestor))
        };
        chart.ancestors(source).find(holds_all).or(Some(ROOT))
    }

    /// `getEffectiveTargetStates`: history states stand for what they remember.
    fn effective_targets(&mut self, targets: &[StateIndex]) -> Vec<StateIndex> {
        let mut effective = Vec::new();
        for target in targets {
            if !self.chart.is_history(*target) {
                effective.push(*target);
                continue;
            }
            self.asked_history = true;
            if let Some(remembered) = self.history.get(target) {
                effective.extend(remembered);
            } else {
                effective.extend(self.effective_targets(&self.chart.state(*target).initial));
            }
        }
        effective
    }

    fn add_targets(&mut self, targets: &[StateIndex], domain: StateIndex) {
        self.note_defaults(targets);
        let effective = self.effective_targets(targets);
        for target in &effective {
            self.add_descendants(*target);
        }
        for target in &effective {
            self.add_ancestors(*target, domain);
        }
        // Only the top can be both a domain and parallel: the regions without a target begin anew.
        if self.chart.state(domain).kind == Kind::Parallel {
            self.add_regions(domain);
        }
    }

    /// A history state with nothing to remember leaves word with its parent that its default is taken.
    fn note_defaults(&mut self, targets: &[StateIndex]) {
        for target in targets {
            if self.chart.is_history(*target) && !self.history.contains_key(target) {
                self.defaults.push((self.chart.state(*target).parent, *target));
            }
        }
    }

    /// `addDescendantStatesToEnter`
    fn add_descendants(&mut self, state: StateIndex) {
        let chart = self.chart;
        self.add(state, chart.state(state).kind == Kind::Compound);
        match chart.state(state).kind {
            Kind::Compound => {
                let initial = &chart.state(state).initial;
                self.note_defaults(initial);
                let targets = self.effective_targets(initial);
                for target in &targets {
                    self.add_descendants(*target);
                }
                for target in &targets {
                    self.add_ancestors(*target, state);
                }
            }
            Kind::Parallel => self.add_regions(state),
            _ => {}
        }
    }

    /// `addAncestorStatesToEnter`
    fn add_ancestors(&mut self, state: StateIndex, domain: StateIndex) {
        let chart = self.chart;
        for ancestor in chart.ancestors(state) {
            if ancestor == domain || !chart.is_descendant(ancestor, domain) {
                break;
            }
            self.add(ancestor, false);
            if chart.state(ancestor).kind == Kind::Parallel {
                self.add_regions(ancestor);
            }
        }
    }

    fn add_regions(&mut self, parallel: StateIndex) {
        let chart = self.chart;
        for region in &chart.state(parallel).children {
            let end = chart.state(*region).end;
            let begun = self.entered.range(*region..end).next().is_some();
            if !chart.is_history(*region) && !begun {
                self.add_descendants(*region);
            }
        }
    }
}
