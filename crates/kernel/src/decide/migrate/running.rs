//! What runs on while an instance is migrated: timers, calls, and what history states remember.
//!
//! Each is known by names that are made of its state's path. What has no place here any more ends.

use std::sync::Arc;

use super::Move;
use crate::chart::StateIndex;
use crate::chart::entry::History;
use crate::decide::CLARIFICATION_TIMER;
use crate::decide::turn::Turn;
use crate::definition::{CALL_ERROR_PREFIX, TIMER_PREFIX};
use crate::snapshot::{Invocation, Timer, is_within};

impl Move<'_> {
    /// Timers whose states, or events, are here. A delay that is another counts from now, and so does a new one.
    pub(super) fn timers(self, active: &[StateIndex], turn: &Turn<'_>) -> Vec<Timer> {
        let chart = &self.machine.chart;
        let of_states = active.iter().flat_map(|state| &chart.state(*state).after);
        let ids: Vec<&Arc<str>> = of_states.map(|(_, event)| chart.event_name(*event)).collect();
        let before = self.before.timers.iter().filter(|timer| !self.is_of_call(timer));
        let mut timers: Vec<Timer> = before
            .filter_map(|timer| {
                if &*timer.id == CLARIFICATION_TIMER {
                    return turn.session.pending.is_some().then(|| timer.clone());
                }
                if !timer.id.starts_with(TIMER_PREFIX) {
                    return chart.event(timer.event()).map(|_| timer.clone());
                }
                let id = self.migration.timer(&timer.id)?;
                let id = ids.iter().find(|known| known.as_ref() == id)?;
                Some(Timer { id: Arc::clone(id), ..timer.clone() })
            })
            .collect();
        timers.extend(self.deadlines(&turn.position.invocations));
        timers
    }

    fn is_of_call(self, timer: &Timer) -> bool {
        self.before.invocations.iter().any(|call| *timer.id == *Timer::id_of_call(&call.id))
    }

    /// By when the calls that are under way have to come back.
    fn deadlines(self, calls: &[Invocation]) -> impl Iterator<Item = Timer> {
        calls.iter().filter_map(move |call| {
            let before = self.before.invocations.iter().find(|before| before.key == call.key)?;
            let id = Timer::id_of_call(&before.id);
            let timer = self.before.timers.iter().find(|timer| *timer.id == *id)?;
            let error = format!("{CALL_ERROR_PREFIX}{}", call.id);
            Some(Timer::of_call(&call.id, timer.deadline, error.into()))
        })
    }

    /// Calls that are under way and that a state here makes too, of the same. One that is called after its state is called
    /// after what the state is called here.
    pub(super) fn calls(self, active: &[StateIndex]) -> Vec<Invocation> {
        let chart = &self.machine.chart;
        let made: Vec<_> = active.iter().flat_map(|state| &chart.state(*state).calls).collect();
        let kept = |call: &Invocation| {
            let same = made.iter().find(|made| made.id == call.id);
            let renamed = || {
                let name = self.renamed(&call.id)?;
                made.iter().find(|made| *made.id == *name)
            };
            let here = same.or_else(renamed).filter(|here| here.src == call.src)?;
            Some(Invocation { id: Arc::clone(&here.id), ..call.clone() })
        };
        self.before.invocations.iter().filter_map(kept).collect()
    }

    /// What the call of a state is called by default, of the state as it is called here.
    fn renamed(self, call: &str) -> Option<String> {
        let by_default = |path: &str| path.replace('.', "_");
        let leaves = self.before.configuration.iter();
        let mut paths = leaves.flat_map(|leaf| {
            let ends = leaf.match_indices('.').map(|(at, _)| at).chain([leaf.len()]);
            ends.map(|end| &leaf[..end])
        });
        let path = paths.find(|path| by_default(path) == call)?;
        self.migration.moved(path).map(|here| by_default(&here))
    }

    /// What history states remember, as far as all of it is here and below the same state.
    pub(super) fn history(self) -> History {
        let chart = &self.machine.chart;
        let remembered = self.before.history.iter().filter_map(|(state, kept)| {
            let state =
                chart.by_path(&self.migration.moved(state)?).filter(|state| chart.is_history(*state))?;
            let above = &chart.state(chart.state(state).parent).path;
            let here = |path: &Arc<str>| {
                let path = self.migration.moved(path)?;
                chart.by_path(&path).filter(|_| above.is_empty() || is_within(&path, above))
            };
            Some((state, kept.iter().map(here).collect::<Option<Vec<_>>>()?))
        });
        remembered.collect()
    }
}
