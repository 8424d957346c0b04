//! From names to indices: states that are led to, and events that input becomes.

use crate::chart::{Kind, ROOT, State, StateIndex, matches_event};
use crate::definition::compile::Compiler;
use crate::definition::document::Placed;
use crate::definition::{
    CALL_DONE_PREFIX, CALL_ERROR_PREFIX, DONE_PREFIX, StateDefinition, TransitionDefinition, is_internal,
};
use crate::diagnostic::Place;

impl<'a> Compiler<'a, '_> {
    pub(super) fn initial(&mut self, index: StateIndex, written: &'a StateDefinition) -> Vec<StateIndex> {
        match self.chart.state(index).kind {
            Kind::Compound => match &written.initial {
                Some(initial) => {
                    let targets = initial.targets.iter();
                    let found: Vec<(StateIndex, Place)> =
                        targets.filter_map(|t| Some((self.child(index, t)?, t.place))).collect();
                    self.check_targets(&found);
                    found.into_iter().map(|(target, _)| target).collect()
                }
                None => {
                    let what = if index == ROOT {
                        "the machine".to_owned()
                    } else {
                        format!("the state `{}`", written.name.value)
                    };
                    let first = &written.states[0].name.value;
                    self.error(
                        "missing_key",
                        written.name.place,
                        format!("{what} has no `initial`"),
                        format!("say where it begins: `initial: {first}`"),
                    );
                    Vec::new()
                }
            },
            Kind::ShallowHistory | Kind::DeepHistory => {
                let targets = written.default_target.iter();
                let found: Vec<(StateIndex, Place)> =
                    targets.filter_map(|t| Some((self.default_of(index, t)?, t.place))).collect();
                self.check_targets(&found);
                found.into_iter().map(|(target, _)| target).collect()
            }
            _ => Vec::new(),
        }
    }

    /// What a history state stands for while there is nothing to remember: states that it could remember.
    fn default_of(&mut self, history: StateIndex, name: &Placed<String>) -> Option<StateIndex> {
        let found = self.target(history, name)?;
        let parent = self.chart.state(history).parent;
        let inside = self.chart.is_descendant(found, parent) && !self.chart.is_history(found);
        if !inside {
            let message = format!(
                "`{}` is nothing that the history state `{}` could remember",
                name.value,
                self.chart.state(history).path
            );
            let help = "name a state beside the history state, or one inside such a state";
            self.error("illegal_target", name.place, message, help);
        }
        inside.then_some(found)
    }

    /// A direct child, or a dotted path below it.
    fn child(&mut self, parent: StateIndex, name: &Placed<String>) -> Option<StateIndex> {
        let found = self.below(parent, &name.value);
        if found.is_none() {
            let children = self.states[usize::from(parent.0)].states.iter();
            let help = self.nearest(&name.value, children.map(|s| s.name.value.as_str()));
            self.error(
                "unknown_target",
                name.place,
                format!("`initial` names `{}`, which is no state here", name.value),
                help,
            );
        }
        found
    }

    pub(super) fn below(&self, parent: StateIndex, path: &str) -> Option<StateIndex> {
        match &*self.chart.state(parent).path {
            "" => self.chart.by_path(path).filter(|s| *s != ROOT),
            above => self.chart.by_path(&format!("{above}.{path}")),
        }
    }

    /// A target by name: `.child` below the source, else the nearest scope outwards that has the name.
    pub(super) fn target(&mut self, source: StateIndex, name: &Placed<String>) -> Option<StateIndex> {
        let found = match name.value.strip_prefix('.') {
            Some(child) => self.below(source, child),
            None => {
                let scopes = self.chart.ancestors(source);
                let outward = std::iter::once(source).filter(|s| *s == ROOT).chain(scopes);
                outward.into_iter().find_map(|scope| self.below(scope, &name.value))
            }
        };
        if found.is_none() {
            let paths = self.chart.states.iter().skip(1).map(|s| &*s.path);
            let help = self.nearest(&name.value, paths);
            self.error(
                "unknown_target",
                name.place,
                format!("the target `{}` is no state", name.value),
                help,
            );
        }
        found
    }

    /// The declared safe state.
    pub(super) fn safe_state(&mut self) -> Option<StateIndex> {
        let written = self.definition.safe_state.as_ref()?;
        let found = self.below(ROOT, &written.value);
        match found {
            None => {
                let paths = self.chart.states.iter().skip(1).map(|s| &*s.path);
                let help = self.nearest(&written.value, paths);
                self.error(
                    "unknown_target",
                    written.place,
                    format!("`safe_state` names `{}`, which is no state", written.value),
                    help,
                );
            }
            Some(state) if self.chart.state(state).kind == Kind::Final => {
                self.error(
                    "illegal_state",
                    written.place,
                    format!("the safe state `{}` is final", written.value),
                    "a recovered instance must be able to go on; choose another",
                );
            }
            Some(_) => {}
        }
        found
    }

    /// Events that come of themselves come from somewhere: a call of that id, a state that can be done.
    pub(super) fn check_internal_names(&mut self) {
        for state in self.states.clone() {
            for (event, _) in &state.on {
                let name = &event.value;
                let called = [CALL_DONE_PREFIX, CALL_ERROR_PREFIX].iter().find_map(|p| name.strip_prefix(p));
                let (what, wrong, known): (&str, &str, Vec<String>) = if let Some(id) = called {
                    ("call", id, self.call_ids.iter().map(ToString::to_string).collect())
                } else if let Some(path) = name.strip_prefix(DONE_PREFIX) {
                    let done = |s: &&State| matches!(s.kind, Kind::Compound | Kind::Parallel);
                    let states = self.chart.states.iter().skip(1).filter(done);
                    ("state with children", path, states.map(|s| s.path.to_string()).collect())
                } else {
                    continue;
                };
                let prefix = &name[..name.len() - wrong.len()];
                if !known.iter().any(|known| matches_event(name, &format!("{prefix}{known}"))) {
                    let help = self.nearest(wrong, known.iter().map(String::as_str));
                    let message = format!("`{name}` never comes: there is no {what} `{wrong}`");
                    self.error("unknown_event", event.place, message, help);
                }
            }
        }
    }

    /// What choosing an item of a list becomes has to be taken somewhere.
    pub(super) fn name_offered_events(&mut self) {
        let conversation = self.definition.conversation.iter();
        for each in conversation.flat_map(|conversation| conversation.offered_lists()) {
            let name = &each.event;
            self.check_event_name(name, false);
            if is_internal(&name.value) {
                continue;
            }
            if self.listens(&name.value) || self.chart.event(&name.value).is_some() {
                self.event(&name.value);
            } else {
                self.unknown_event(name);
            }
        }
    }

    fn unknown_event(&mut self, event: &Placed<String>) {
        let names: Vec<String> = self.chart.events.iter().map(|e| e.to_string()).collect();
        let help = self.nearest(&event.value, names.iter().map(String::as_str));
        let message = format!("no state takes the event `{}`", event.value);
        self.error("unknown_event", event.place, message, help);
    }

    /// What each atomic state takes without an intent: its own `accepts`, else its nearest ancestor's.
    pub(super) fn accepts(&mut self) -> crate::conversation::Accepts {
        let mut accepts = crate::conversation::Accepts::default();
        for number in 1..self.states.len() {
            let index = StateIndex(number as u16);
            for accept in &self.states[number].accepts {
                let event = match &accept.event {
                    Some(event) if is_internal(&event.value) => {
                        self.check_event_name(event, false);
                        None
                    }
                    Some(event) if self.chart.event(&event.value).is_some() => Some(event.value.clone()),
                    Some(event) => {
                        self.unknown_event(event);
                        None
                    }
                    None => {
                        let own = self.states[number].on.iter();
                        let stays = |t: &TransitionDefinition| t.target.is_empty();
                        let event = own
                            .into_iter()
                            .find(|(_, ts)| ts.iter().any(stays))
                            .map(|(e, _)| e.value.clone());
                        if event.is_none() {
                            let message = format!(
                                "the state `{}` accepts input, but has no transition without a target to take it",
                                self.states[number].name.value
                            );
                            self.error(
                                "missing_event",
                                accept.kind.place,
                                message,
                                "name the event: `accepts: { text: my_event }`",
                            );
                        }
                        event
                    }
                };
                if let Some(event) = event {
                    accepts.insert(index, accept.kind.value, event.as_str().into());
                }
            }
        }
        accepts
    }
}
