//! Invariants: what has to be true of an instance after an input, and what a transition ensures.
//!
//! Owns asking them once the chart is at rest. What becomes of an input that would break one is for `decide` to say; a
//! step does not ask, as more may change before anything is saved.

use std::sync::Arc;

use crate::bound;
use crate::chart::budget::Budget;
use crate::chart::step::{EXPLAINED_BYTES_MAX, Position, Stepper};
use crate::chart::{StateIndex, TransitionIndex};
use crate::expression::{Expression, Scope};
use crate::input::Fields;
use crate::refusal::Violation;

/// Nobody reads on; a refusal is stored with what it tells.
const VIOLATIONS_MAX: usize = 20;

#[derive(Debug)]
pub struct Invariant {
    pub name: Arc<str>,
    pub check: Expression,
    pub message: Option<Arc<str>>,
}

/// A transition that was taken and ensures something, with the event that it was taken for.
#[derive(Clone, Debug, PartialEq)]
pub struct Promise {
    pub transition: TransitionIndex,
    pub event_name: Arc<str>,
    pub payload: Fields,
}

/// One question, and whose it is.
struct Asked<'a> {
    invariant: &'a Invariant,
    state: StateIndex,
    event: Option<&'a str>,
}

impl Stepper<'_> {
    /// What does not hold of an instance with this context that stands where `position` is: of the active states from the
    /// top in, then of the transitions taken. What fails does not hold.
    pub fn violations(
        self,
        position: &Position,
        context: &Fields,
        before: &Fields,
        promises: &[Promise],
    ) -> Vec<Violation> {
        let nothing = Fields::new();
        let active = self.active_paths(position);
        let of_state = |state: &StateIndex| {
            let (state, event) = (*state, None);
            self.chart.state(state).invariants.iter().map(move |invariant| Asked { invariant, state, event })
        };
        let at_rest = Scope { context, active: &active, now: self.now, ..Scope::empty(&nothing) };
        let lasting = position.active.iter().flat_map(of_state).map(|asked| (asked, at_rest));
        let of_promise = |promise: &Promise| {
            let transition = self.chart.transition(promise.transition);
            let (state, event) = (transition.source, Some(&*transition.event));
            transition.ensures.iter().map(move |invariant| Asked { invariant, state, event })
        };
        let ensured = promises.iter().flat_map(|promise| {
            let (event, event_name) = (&promise.payload, &*promise.event_name);
            let scope = Scope { event, event_name, before: Some(before), ..at_rest };
            of_promise(promise).map(move |asked| (asked, scope))
        });
        let (mut budget, mut bytes) = (Budget::default(), 0);
        let mut violations = Vec::new();
        for (asked, scope) in lasting.chain(ensured) {
            let check = &asked.invariant.check;
            let result = budget.spend(|fuel| check.test_with(scope, fuel));
            if result == Ok(true) {
                continue;
            }
            let values = if bytes < EXPLAINED_BYTES_MAX { check.values(scope) } else { Fields::new() };
            bytes += bound::size(&values);
            violations.push(Violation {
                name: asked.invariant.name.to_string(),
                state: self.chart.state(asked.state).path.to_string(),
                event: asked.event.map(str::to_owned),
                expression: check.source.to_string(),
                message: asked.invariant.message.as_deref().map(str::to_owned),
                error: result.err(),
                values,
            });
            if violations.len() == VIOLATIONS_MAX {
                break;
            }
        }
        violations
    }
}
