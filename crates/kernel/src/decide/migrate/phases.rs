//! A flow that goes on by another definition: phases keep where they are, by their names.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{MIGRATE, Move, Unfit};
use crate::commit::Commit;
use crate::decide::flow;
use crate::flow::{Flow, FlowState, FlowStatus, PhaseRecord, PhaseState, Standing, Step, alarm_of};
use crate::snapshot::{Invocation, Timer};

impl Move<'_> {
    /// `called` is what its phases are called where it is. What can begin here begins.
    pub(super) fn phases(self, flow: &Flow, called: &[Arc<str>]) -> Result<Commit, Unfit> {
        let Some(state) = self.before.flow.as_deref().filter(|state| state.phases.len() == called.len())
        else {
            return Err(Unfit::Because("it has other phases than are told of it".into()));
        };
        if flow.phases.len() < called.len() {
            let why = format!(
                "version {} has {} phases, and it has {}: lists would go on showing the others; keep them, with `when: \"false\"`",
                self.machine.version,
                flow.phases.len(),
                called.len()
            );
            return Err(Unfit::Because(why));
        }
        let names = self.names(flow, state, called)?;
        let mut after = self.before.clone();
        after.pin(self.machine);
        after.context = Arc::new(self.context(false)?);
        let mut records = vec![PhaseRecord::default(); flow.phases.len()];
        for (place, name) in called.iter().enumerate() {
            if let Some(phase) = names.get(&**name).and_then(|here| flow.by_name(here)) {
                records[usize::from(phase.0)] = state.phases[place].clone();
            }
        }
        let timers =
            |timers: &[Timer]| timers.iter().filter_map(|timer| timer_here(flow, &names, timer)).collect();
        let mut state = FlowState { phases: records.into_iter().collect(), ..state.clone() };
        if let Some(pause) = &mut state.paused {
            pause.timers = timers(&pause.timers);
        }
        after.timers = timers(&self.before.timers);
        let call_here = |call: &Invocation| {
            let phase = flow.by_name(names.get(&*call.id)?)?;
            Some(Invocation { id: Arc::clone(&flow.phase(phase).name), ..call.clone() })
        };
        after.invocations = self.before.invocations.iter().filter_map(call_here).collect();
        let mut was = Standing::of(flow, &state);
        was.status = FlowStatus::named(&self.before.state());
        after.flow = Some(Arc::new(state));
        let Some(mut step) = Step::resume(self.machine, &after, self.now) else {
            return Err(Unfit::Because("it would have other phases than the definition".into()));
        };
        step.by.clone_from(&self.input.by);
        step.touched.extend(flow.indices());
        step.look_everywhere();
        Ok(flow::commit(step, None, after.clone(), self.input, &was, MIGRATE.to_owned()))
    }

    /// What each phase that has a place here is called here. One that is under way has to have one.
    fn names<'n>(
        self,
        flow: &Flow,
        state: &FlowState,
        called: &'n [Arc<str>],
    ) -> Result<BTreeMap<&'n str, Arc<str>>, Unfit> {
        let mut names: BTreeMap<&str, Arc<str>> = BTreeMap::new();
        for (place, name) in called.iter().enumerate() {
            let moved = self.migration.moves.get(name);
            let here = moved.cloned().unwrap_or_else(|| Some(Arc::clone(name)));
            let here = here.filter(|here| flow.by_name(here).is_some());
            let record = &state.phases[place];
            match here {
                Some(here) if names.values().any(|taken| *taken == here) => {
                    return Err(Unfit::Because(format!("two of its phases would be `{here}`")));
                }
                Some(here) => {
                    names.insert(name, here);
                }
                None if record.state == PhaseState::NotStarted || record.is_done() => {}
                None if moved.is_some() => {
                    return Err(Unfit::Stays(format!(
                        "the migration leaves what is at `{name}` where it is"
                    )));
                }
                None => {
                    let why = format!(
                        "its phase `{name}` is {}, and version {} has no such phase",
                        record.state, self.machine.version
                    );
                    return Err(Unfit::Because(why));
                }
            }
        }
        Ok(names)
    }
}

/// A timer of a phase, called as its phase is here.
fn timer_here(flow: &Flow, names: &BTreeMap<&str, Arc<str>>, timer: &Timer) -> Option<Timer> {
    let (phase, alarm) = timer.id.rsplit_once('.')?;
    let id = format!("{}.{alarm}", names.get(phase)?);
    alarm_of(flow, &id)?;
    Some(Timer { id: id.into(), ..timer.clone() })
}
