//! A definition as its author wrote it: every name with its place, nothing resolved yet.
//!
//! `document` reads the text, `read` makes these shapes of it, `check` says what is wrong or doubtful, and `compile`
//! makes the `Machine` that runs. All of them report everything at once.

mod check;
mod compile;
pub mod document;
mod read;
pub mod reader;

use serde_json::Value;

use crate::conversation::definition::ConversationDefinition;
use crate::diagnostic::{self, Diagnostic, Severity};
use crate::machine::Machine;
use crate::time::Delay;

pub(crate) use compile::compile_expression;
pub use document::Placed;

/// Begins the names of timers' events, which no definition may use otherwise.
pub(crate) const TIMER_PREFIX: &str = "after.";
/// What a compound or parallel state raises when it is done is this and its path.
pub(crate) const DONE_PREFIX: &str = "done.state.";

#[derive(Clone, Debug)]
pub struct Definition {
    pub machine: Placed<String>,
    pub version: u32,
    pub context: Vec<FieldDefinition>,
    pub safe_state: Option<Placed<String>>,
    /// The top: its `states` are the machine's, its `on` and `after` hold everywhere.
    pub root: StateDefinition,
    pub conversation: Option<ConversationDefinition>,
}

#[derive(Clone, Debug)]
pub struct FieldDefinition {
    pub name: Placed<String>,
    pub kind: FieldKind,
    /// For an array, the type of its items.
    pub items: Option<FieldKind>,
    pub nullable: bool,
    pub required: bool,
    /// Survives `recover`.
    pub keep: bool,
    pub default: Option<Placed<Value>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldKind {
    String,
    Integer,
    Number,
    Boolean,
    Array,
    Object,
    Any,
}

#[derive(Clone, Debug)]
pub struct StateDefinition {
    pub name: Placed<String>,
    pub kind: StateKind,
    pub initial: Option<Placed<String>>,
    pub states: Vec<StateDefinition>,
    pub on: Vec<(Placed<String>, Vec<TransitionDefinition>)>,
    pub after: Vec<(Placed<Delay>, Vec<TransitionDefinition>)>,
    pub always: Vec<TransitionDefinition>,
    pub entry: Vec<ActionDefinition>,
    pub exit: Vec<ActionDefinition>,
    /// What the state takes without an intent being named: kind of input, and the event it becomes.
    pub accepts: Vec<Accept>,
    /// For a history state, where to go when there is nothing to remember.
    pub default_target: Vec<Placed<String>>,
    /// For a final state, why the instance then is closed.
    pub reason: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateKind {
    /// With or without children; which of them decides between atomic and compound.
    Normal,
    Parallel,
    Final,
    ShallowHistory,
    DeepHistory,
}

#[derive(Clone, Debug)]
pub struct Accept {
    pub kind: Placed<AcceptKind>,
    /// `None` stands for the state's first transition without a target.
    pub event: Option<Placed<String>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AcceptKind {
    Text,
    Number,
    Choice,
    Media,
}

#[derive(Clone, Debug)]
pub struct TransitionDefinition {
    pub place: diagnostic::Place,
    pub target: Vec<Placed<String>>,
    pub guard: Option<Placed<String>>,
    pub actions: Vec<ActionDefinition>,
    /// Leaves and enters the source again, also for a target inside it.
    pub reenter: bool,
    /// The closure reason, if the transition ends the instance.
    pub reason: Option<String>,
    /// Repeating this transition is not a loop worth reporting.
    pub loop_normal: bool,
}

#[derive(Clone, Debug)]
pub enum ActionDefinition {
    Assign { field: Placed<String>, value: AssignedValue },
    Reply { name: Placed<String> },
    Raise { event: Placed<String> },
}

#[derive(Clone, Debug)]
pub enum AssignedValue {
    /// A text in an `assign` is CEL.
    Expression(Placed<String>),
    /// Anything else is what it says.
    Literal(Value),
}

/// Reads, checks and compiles `source`.
///
/// Returns the machine, unless an error stands in its way, and every diagnostic in the order of the file.
pub fn load(source: &str) -> (Option<Machine>, Vec<Diagnostic>) {
    let node = match document::read(source) {
        Ok(node) => node,
        Err(diagnostic) => return (None, vec![*diagnostic]),
    };
    let mut diagnostics = Vec::new();
    let definition = read::read(&node, &mut diagnostics);
    let machine = definition.and_then(|definition| {
        let machine = compile::compile(&definition, source, &mut diagnostics);
        // What follows from an error is not worth a warning: a machine without its beginning reaches nothing.
        let sound = !diagnostics.iter().any(is_error);
        check::check(&definition, machine.as_ref().filter(|_| sound), &mut diagnostics);
        machine
    });
    diagnostic::sort(&mut diagnostics);
    let failed = diagnostics.iter().any(is_error);
    (machine.filter(|_| !failed), diagnostics)
}

fn is_error(diagnostic: &Diagnostic) -> bool {
    diagnostic.severity == Severity::Error
}
