//! `place`: an instance that begins in a state of one's choosing.
//!
//! For stories and tests only: it is how they say "given a session in this state" without walking there. No input
//! leads here, so nobody outside can skip a machine's rules with it.

use crate::chart::ROOT;
use crate::commit::Commit;
use crate::decide::RECOVER;
use crate::decide::turn::Turn;
use crate::diagnostic::nearest;
use crate::id::{Digest, InputKey, InstanceId, Revision, Subject, TenantId};
use crate::input::{Cause, Fields, Input, Start};
use crate::machine::Machine;
use crate::refusal::{Refusal, RefusalCode};
use crate::time::Timestamp;

/// Where an instance is placed, and as whose.
#[derive(Clone, Debug)]
pub struct Placement<'a> {
    pub tenant: &'a TenantId,
    pub instance: &'a InstanceId,
    /// With one, in a machine that is a conversation, the instance is the subject's first session.
    pub subject: Option<&'a Subject>,
    /// A state by its dotted path; of one with children, its initial ones.
    pub state: &'a str,
    /// What differs from a new instance's context.
    pub context: &'a Fields,
    /// What the session is about: the `starts` of the intent that would have begun it.
    pub topic: Option<&'a str>,
}

/// The commit of an instance that stands in a state as if it had just entered it: entry actions have run, and timers
/// count from `now`.
///
/// # Errors
/// When the machine has no such state, or the context is not one that it could have.
pub fn place(machine: &Machine, placement: &Placement<'_>, now: Timestamp) -> Result<Commit, Refusal> {
    let chart = &machine.chart;
    let state = chart.by_path(placement.state).filter(|state| *state != ROOT && !chart.is_history(*state));
    let Some(state) = state else {
        let paths = chart.states.iter().skip(1).map(|s| &*s.path);
        let message = format!(
            "the machine `{}` has no state `{}`; {}",
            machine.name,
            placement.state,
            nearest(placement.state, paths)
        );
        return Err(Refusal::new(RefusalCode::NotFound, Revision::NONE, message));
    };
    let subject = placement.subject.cloned();
    // Creations share one scope of keys.
    let digest = Digest::of_parts(&[placement.instance.as_str()]);
    let input = Input {
        tenant: placement.tenant.clone(),
        key: InputKey::parse(&format!("placed:{digest}")).expect("a word and digits make a key"),
        cause: Cause::Create {
            machine: machine.name.clone(),
            id: Some(placement.instance.clone()),
            subject: subject.clone(),
            context: placement.context.clone(),
            start: Start::default(),
        },
        expected: None,
        by: None,
        trace: None,
    };
    let ordinal = u32::from(machine.conversation.is_some() && subject.is_some());
    let instance = placement.instance.clone();
    let given = placement.context;
    let mut turn = Turn::begin(machine, &input, now, instance, subject, ordinal, given)?;
    turn.session.topic = placement.topic.map(str::to_owned);
    turn.jump(state, RECOVER)?;
    Ok(turn.commit_event("placed", None))
}
