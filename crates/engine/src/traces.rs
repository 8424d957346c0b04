//! What an input went through, stage by stage, told to whoever records traces.
//!
//! Owns the moments that are noted of an input whose trace is recorded. Of any other nothing is noted. It makes no spans and
//! sends nothing: whoever is told must not keep the shard waiting.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use kernel::input::Input;
use kernel::machine::Machine;

use crate::Answered;

/// An input that has its answer, and when what was done for it.
#[derive(Clone, Debug)]
pub struct Traced {
    pub input: Input,
    /// What it was decided by, if it came so far.
    pub machine: Option<Arc<Machine>>,
    pub stages: Stages,
    /// How often it was decided again because the instance had changed meanwhile.
    pub repeats: u32,
    pub answered: Answered,
}

/// Each begins where the one before ends; what did not come about is missing. Of an input that was decided several times,
/// those of the last.
#[derive(Clone, Copy, Debug)]
pub struct Stages {
    pub submitted: Instant,
    /// The shard takes it up.
    pub taken: Option<Instant>,
    /// Its machine and its instance are there, with the instance's due timers fired.
    pub found: Option<Instant>,
    /// A message only: the router has said what it is.
    pub routed: Option<Instant>,
    pub decided: Option<Instant>,
    pub saved: Option<Saved>,
    pub answered: Instant,
}

impl Stages {
    /// Of an input for which nothing was done yet.
    fn of(submitted: Instant) -> Self {
        Self {
            submitted,
            taken: None,
            found: None,
            routed: None,
            decided: None,
            saved: None,
            answered: submitted,
        }
    }
}

/// The batch that a commit was saved with.
#[derive(Clone, Copy, Debug)]
pub struct Saved {
    pub began: Instant,
    pub took: Duration,
    pub commits: usize,
}

type Sink = Arc<dyn Fn(Traced) + Send + Sync>;

/// Where traced inputs are told, once there is somebody.
#[derive(Default)]
pub(crate) struct Traces {
    sink: OnceLock<Sink>,
}

impl fmt::Debug for Traces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Traces").field("told", &self.sink.get().is_some()).finish()
    }
}

impl Traces {
    /// The first who asks is told.
    pub fn tell(&self, sink: Sink) {
        let _ = self.sink.set(sink);
    }

    /// Of an input that has just been handed over, if anybody records it.
    pub fn watch(&self, input: &Input) -> Option<Box<Watch>> {
        let sink = self.sink.get().filter(|_| input.trace.as_ref().is_some_and(|trace| trace.sampled))?;
        let stages = Stages::of(Instant::now());
        Some(Box::new(Watch { sink: Arc::clone(sink), machine: None, stages }))
    }
}

/// The moments of one input, as they come.
pub(crate) struct Watch {
    sink: Sink,
    pub machine: Option<Arc<Machine>>,
    pub stages: Stages,
}

impl Watch {
    /// It is decided on, maybe once more.
    pub fn take(&mut self) {
        self.stages = Stages { taken: Some(Instant::now()), ..Stages::of(self.stages.submitted) };
    }

    pub fn find(&mut self, machine: &Arc<Machine>) {
        self.machine = Some(Arc::clone(machine));
        self.stages.found = Some(Instant::now());
    }

    pub fn end(self, input: Input, repeats: u32, answered: Answered) {
        let Self { sink, machine, stages } = self;
        sink(Traced { input, machine, stages, repeats, answered });
    }
}
