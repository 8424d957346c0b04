//! Plays a definition of a case on a clock of its own: the creation, what the script says, and the timers that come due.
//!
//! A play ends well if every step and the end are as they are written; else it says what happened instead.

use kernel::commit::Commit;
use kernel::decide::decide;
use kernel::definition::load;
use kernel::diagnostic::Severity;
use kernel::id::{InputKey, InstanceId, TenantId};
use kernel::input::{Cause, Fields, Input, Start};
use kernel::machine::Machine;
use kernel::refusal::Refusal;
use kernel::snapshot::Snapshot;
use kernel::time::{Delay, Timestamp};

use crate::case::{Play, Step};

/// More timers than any of the tests sets.
const TIMERS_MAX: usize = 50;

struct Player<'m> {
    machine: &'m Machine,
    /// Write and read the snapshot, as stores do, before each input.
    saves: bool,
    snapshot: Option<Snapshot>,
    now: Timestamp,
    count: usize,
}

/// # Errors
/// What happened instead of what is written.
pub fn play(play: &Play, saves: bool) -> Result<(), String> {
    let source = play.definition();
    let (machine, diagnostics) = load(&source);
    let errors = diagnostics.iter().filter(|d| d.severity == Severity::Error);
    let machine = match (machine, &play.rejects) {
        (Some(machine), None) => machine,
        (None, Some(code)) if errors.clone().all(|d| d.code == *code) => return Ok(()),
        (Some(_), Some(code)) => return Err(format!("the definition loads, without {code}")),
        (None, _) => {
            let told: Vec<String> = errors.map(|d| format!("{}: {}", d.code, d.message)).collect();
            return Err(format!("the definition does not load: {}", told.join("; ")));
        }
    };
    let mut player = Player { machine: &machine, saves, snapshot: None, now: Timestamp::EPOCH, count: 0 };
    let create = Cause::Create {
        machine: machine.name.clone(),
        id: Some(instance()),
        subject: None,
        context: Fields::new(),
        start: Start::default(),
    };
    player.give(create).map_err(|refusal| format!("the creation is refused: {}", said(&refusal)))?;
    for step in &play.script {
        player.step(step)?;
    }
    player.must_be_in(play.ends.as_deref().unwrap_or("pass"), "at the end")
}

impl Player<'_> {
    fn give(&mut self, cause: Cause) -> Result<Commit, Refusal> {
        self.count += 1;
        if self.saves {
            self.snapshot = self.snapshot.as_ref().map(crate::restored::restored);
        }
        let input = Input {
            tenant: TenantId::default_tenant(),
            key: InputKey::parse(&format!("k{}", self.count)).unwrap(),
            cause,
            expected: None,
            by: None,
            trace: None,
        };
        let commit = decide(self.machine, self.snapshot.as_ref(), &input, self.now)?;
        if commit.after.is_some() {
            self.snapshot.clone_from(&commit.after);
        }
        Ok(commit)
    }

    fn step(&mut self, step: &Step) -> Result<(), String> {
        if let Some(event) = &step.send {
            let cause =
                Cause::Event { instance: instance(), event: event.clone(), payload: step.with.clone() };
            let refused = self.give(cause).err();
            let code = refused.as_ref().map(|refusal| refusal.code.as_str());
            if code != step.refused.as_deref() {
                let told = refused.as_ref().map_or("taken".into(), said);
                return Err(format!("`{event}` is {told}, from {}", self.state()));
            }
        }
        if let Some(delay) = &step.advance {
            self.advance(Delay::parse(delay)?)?;
        }
        match &step.state {
            Some(state) => self.must_be_in(state, &format!("after {step:?}")),
            None => Ok(()),
        }
    }

    /// Lets time pass, and stops at each deadline on the way.
    fn advance(&mut self, delay: Delay) -> Result<(), String> {
        let until = self.now.plus(delay);
        for _ in 0..TIMERS_MAX {
            let due = self.snapshot.as_ref().and_then(|s| s.due_timer(until, |_| true)).cloned();
            let Some(timer) = due else {
                self.now = until;
                return Ok(());
            };
            self.now = self.now.max(timer.deadline);
            let cause =
                Cause::Timer { instance: instance(), timer: timer.id.to_string(), deadline: timer.deadline };
            self.give(cause).map_err(|refusal| format!("the timer {} is {}", timer.id, said(&refusal)))?;
        }
        Err(format!("timers fire for ever, in {}", self.state()))
    }

    fn must_be_in(&self, state: &str, when: &str) -> Result<(), String> {
        let now = self.state();
        if now == state { Ok(()) } else { Err(format!("{when} it is in {now}, not in {state}")) }
    }

    fn state(&self) -> String {
        self.snapshot.as_ref().map(Snapshot::state).unwrap_or_default()
    }
}

fn said(refusal: &Refusal) -> String {
    format!("refused as {}: {}", refusal.code.as_str(), refusal.message)
}

fn instance() -> InstanceId {
    InstanceId::parse("i").unwrap()
}
