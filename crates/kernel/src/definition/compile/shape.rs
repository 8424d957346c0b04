//! What the parts of a chart may not be, whatever they are called: shapes that no step could run on.
//!
//! Names are not looked for twice among siblings: a key that is there twice is an error of syntax.

use crate::chart::{Kind, ROOT, StateIndex};
use crate::definition::compile::Compiler;
use crate::definition::document::Placed;
use crate::definition::{StateDefinition, TIMER_PREFIX, is_internal};
use crate::diagnostic::{Place, shorten};
use crate::id::IDENTIFIER_BYTES_MAX;

/// More regions than anybody draws; each is compared with the others.
const TARGETS_MAX: usize = 100;

impl Compiler<'_, '_> {
    /// A name, or, where events are listened to, a pattern of names.
    pub(super) fn check_event_name(&mut self, event: &Placed<String>, may_be_pattern: bool) {
        let name = match event.value.as_str() {
            "*" if may_be_pattern => return,
            pattern if may_be_pattern => pattern.strip_suffix(".*").unwrap_or(pattern),
            name => name,
        };
        let good = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-');
        let word = |word: &str| !word.is_empty() && word.chars().all(good);
        let help = match name.starts_with(TIMER_PREFIX) {
            true => "names that begin with `after.` are the timers' own; choose another",
            false if !may_be_pattern && is_internal(name) => {
                "that event comes of itself; choose another name"
            }
            false if name.len() > IDENTIFIER_BYTES_MAX => "choose a shorter one",
            false if name.split('.').all(word) => return,
            false if may_be_pattern => {
                "use letters, digits, _ and -, in words joined by dots; `prefix.*` and `*` match many"
            }
            false => "use letters, digits, _ and -, in words joined by dots",
        };
        let message = format!("`{}` is no name for an event", shorten(&event.value));
        self.error("bad_name", event.place, message, help);
    }

    pub(super) fn check_delays(&mut self, state: &StateDefinition) {
        for (at, (delay, _)) in state.after.iter().enumerate() {
            if state.after[..at].iter().any(|(d, _)| d.value == delay.value) {
                let message = format!("the delay of {} is there twice", delay.value);
                let help = "write both transitions as a list under one of them";
                self.error("duplicate_name", delay.place, message, help);
            }
        }
    }

    /// What a state of one kind may not have.
    pub(super) fn check_shape(&mut self, index: StateIndex, written: &StateDefinition) {
        let kind = self.chart.state(index).kind;
        let place = written.name.place;
        let name = &written.name.value;
        let listens = written.transitions().next().is_some() || !written.invoke.is_empty();
        match kind {
            Kind::Final if listens || !written.states.is_empty() => {
                let message = format!("the final state `{name}` has transitions, calls or children");
                self.error(
                    "illegal_state",
                    place,
                    message,
                    "a final state stays final; drop them, or drop `type: final`",
                );
            }
            Kind::ShallowHistory | Kind::DeepHistory => self.check_history(index, written),
            Kind::Final if self.parent_kind(index) == Kind::Parallel => {
                let message = format!("the final state `{name}` is a region of a parallel state");
                let help = "put it into a region: a parallel state is done when each region is";
                self.error("illegal_state", place, message, help);
            }
            Kind::Parallel if !written.states.iter().any(|s| !s.is_history()) => {
                let message = format!("the parallel state `{name}` has no regions");
                let help = "give it `states` that are active together, or drop `type: parallel`";
                self.error("missing_key", place, message, help);
            }
            Kind::Parallel if written.initial.is_some() => {
                let place = written.initial.as_ref().map_or(place, |initial| initial.place);
                let message = format!("the parallel state `{name}` has `initial`");
                self.error(
                    "illegal_state",
                    place,
                    message,
                    "all regions of a parallel state are active; drop `initial`",
                );
            }
            _ => {}
        }
        if kind != Kind::Final
            && let Some((output, _)) = written.output.first()
        {
            let message = format!("the state `{name}` has an `output`");
            let help = "only a final state comes to something; put it there";
            self.error("illegal_state", output.place, message, help);
        }
        if let (Kind::Atomic, Some((place, _))) = (kind, &written.on_done) {
            let message = format!("the state `{name}` has `on_done`, and no children to be done");
            let help = "give it children of which one is final, or use `on` or `always`";
            self.error("illegal_state", *place, message, help);
        }
        let history = matches!(kind, Kind::ShallowHistory | Kind::DeepHistory);
        if !history && !written.default_actions.is_empty() {
            let message = format!("the state `{name}` has `actions`");
            let help = "only transitions, `initial` and history states have them; write `entry` or `exit`";
            self.error("illegal_state", place, message, help);
        }
        if !history && let Some(target) = written.default_target.first() {
            let message = format!("the state `{name}` has a `target`");
            self.error(
                "illegal_state",
                target.place,
                message,
                "only history states and transitions have targets",
            );
        }
    }

    fn check_history(&mut self, index: StateIndex, written: &StateDefinition) {
        let (name, place) = (&written.name.value, written.name.place);
        let acts = !written.entry.is_empty() || !written.exit.is_empty();
        let listens = written.transitions().next().is_some() || !written.invoke.is_empty();
        let holds = !written.invariants.is_empty();
        if listens || !written.states.is_empty() || acts || holds {
            let message = format!("the history state `{name}` has more than a `target`");
            self.error("illegal_state", place, message, "a history state only remembers; drop the rest");
        }
        if self.chart.state(index).parent == ROOT {
            let message = format!("the history state `{name}` is at the top");
            let help =
                "the top is never left, so there is nothing to remember; put it into a state with children";
            self.error("illegal_state", place, message, help);
        }
        if written.default_target.is_empty() {
            let message = format!("the history state `{name}` has no `target`");
            self.error(
                "missing_key",
                place,
                message,
                "say where to go when there is nothing to remember: `target: …`",
            );
        }
    }

    fn parent_kind(&self, state: StateIndex) -> Kind {
        self.chart.state(self.chart.state(state).parent).kind
    }

    /// Several targets must be in different regions of a parallel state.
    pub(super) fn check_targets(&mut self, targets: &[(StateIndex, Place)]) {
        if let Some((_, place)) = targets.get(TARGETS_MAX) {
            let message = format!("there are {} targets", targets.len());
            self.error("too_large", *place, message, format!("{TARGETS_MAX} are allowed"));
            return;
        }
        for (at, (one, place)) in targets.iter().enumerate() {
            for (other, _) in &targets[..at] {
                if !self.chart.are_orthogonal(*one, *other) {
                    let path = |state: StateIndex| &self.chart.state(state).path;
                    let message =
                        format!("`{}` and `{}` cannot be active together", path(*other), path(*one));
                    let help = "several targets are entered together: they must lie in different regions of a parallel state";
                    self.error("illegal_target", *place, message, help);
                    break;
                }
            }
        }
    }
}
