//! A definition as its author wrote it: every name with its place, nothing resolved yet.
//!
//! `document` reads the text, `read` makes these shapes of it, `check` says what is wrong or doubtful, and `compile`
//! makes the `Machine` that runs. All of them report everything at once.

mod check;
mod compile;
pub mod diff;
pub mod document;
pub mod overlay;
mod places;
mod read;
pub mod reader;
pub mod schema;
pub mod settings;

use serde_json::Value;

use crate::conversation::definition::ConversationDefinition;
use crate::diagnostic::{self, Diagnostic, Place, Severity};
use crate::flow::FlowDefinition;
use crate::id::OWN_MACHINE_PREFIX;
use crate::machine::Machine;
use crate::time::Delay;

pub(crate) use compile::{INDEX, compile_flow_expression, compile_template_expression, warn_of_copies};
pub use document::Placed;
pub use places::Places;
pub(crate) use read::{ITEM, read, read_values};

/// Begins the names of timers' events, which no definition may use otherwise.
pub(crate) const TIMER_PREFIX: &str = "after.";
/// Whoever is told so much mends some of it first; guessing what each name meant would take minutes.
pub(crate) const GUESSES_MAX: usize = 200;
/// Regular expressions, those of intents and of `matches` counted apart: each is compiled when a definition is loaded, and
/// may take 256 KiB.
pub(crate) const PATTERNS_MAX: usize = 250;
const PATTERN_FUNCTION: &str = "matches";
/// What a compound or parallel state raises when it is done is this and its path.
pub(crate) const DONE_PREFIX: &str = "done.state.";
/// What a call comes to when it brings a result is this and its id.
pub(crate) const CALL_DONE_PREFIX: &str = "done.invoke.";
/// What a call comes to when it fails or takes too long is this and its id.
pub(crate) const CALL_ERROR_PREFIX: &str = "error.invoke.";
/// What an expression that fails raises.
pub(crate) const EXPRESSION_ERROR: &str = "error.execution";

/// Events that come of themselves, which nobody can send from outside and no bare `*` takes.
pub(crate) fn is_internal(event: &str) -> bool {
    event == EXPRESSION_ERROR
        || [TIMER_PREFIX, DONE_PREFIX, CALL_DONE_PREFIX, CALL_ERROR_PREFIX]
            .iter()
            .any(|p| event.starts_with(p))
}

#[derive(Clone, Debug)]
pub struct Definition {
    pub machine: Placed<String>,
    pub version: u32,
    pub context: Vec<FieldDefinition>,
    pub safe_state: Option<Placed<String>>,
    /// Events that callers send themselves, beside those that people's words become.
    pub events: Vec<Placed<String>>,
    /// The top: its `states` are the machine's, its `on` and `after` hold everywhere.
    pub root: StateDefinition,
    pub conversation: Option<ConversationDefinition>,
    /// With one, the states are its statuses.
    pub flow: Option<FlowDefinition>,
    pub migrations: Vec<MigrationDefinition>,
}

/// How instances of other versions come to be of this one.
#[derive(Clone, Debug)]
pub struct MigrationDefinition {
    pub place: Place,
    /// The versions that it is for; with none named, all that no other is for.
    pub from: Vec<Placed<u32>>,
    /// What a state, or a phase of a flow, is called there, and what it is here. What is nothing here stays there.
    pub moves: Vec<(Placed<String>, Option<Placed<String>>)>,
    pub context: Vec<(Placed<String>, ValueDefinition)>,
    pub otherwise: Option<OtherwiseDefinition>,
}

/// Where those go that cannot be migrated as they stand, and what they are told.
#[derive(Clone, Debug)]
pub struct OtherwiseDefinition {
    pub target: Placed<String>,
    pub reply: Option<Placed<String>>,
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
    /// Encrypted where it is stored, and told nowhere.
    pub secret: bool,
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

impl FieldKind {
    /// As a definition writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::Boolean => "boolean",
            Self::Array => "array",
            Self::Object => "object",
            Self::Any => "any",
        }
    }
}

#[derive(Clone, Debug)]
pub struct StateDefinition {
    pub name: Placed<String>,
    pub kind: StateKind,
    pub initial: Option<InitialDefinition>,
    pub states: Vec<StateDefinition>,
    pub on: Vec<(Placed<String>, Vec<TransitionDefinition>)>,
    pub after: Vec<(Placed<Delay>, Vec<TransitionDefinition>)>,
    pub always: Vec<TransitionDefinition>,
    /// What is done when the state's own children have come to their end; the place is that of the key.
    pub on_done: Option<(Place, Vec<TransitionDefinition>)>,
    pub invoke: Vec<InvokeDefinition>,
    pub entry: Vec<ActionDefinition>,
    pub exit: Vec<ActionDefinition>,
    /// What holds whenever the state is active.
    pub invariants: Vec<InvariantDefinition>,
    /// What the state takes without an intent being named: kind of input, and the event it becomes.
    pub accepts: Vec<Accept>,
    /// For a history state, where to go when there is nothing to remember.
    pub default_target: Vec<Placed<String>>,
    /// For a history state, what is done on the way there.
    pub default_actions: Vec<ActionDefinition>,
    /// For a final state, why the instance then is closed.
    pub reason: Option<String>,
    /// For a final state, what the state around it, or the instance, comes to.
    pub output: Vec<(Placed<String>, ValueDefinition)>,
}

/// Where a compound state begins, and what is done on the way there.
#[derive(Clone, Debug)]
pub struct InitialDefinition {
    pub place: Place,
    pub targets: Vec<Placed<String>>,
    pub actions: Vec<ActionDefinition>,
}

/// A call to something outside that lasts as long as the state does.
#[derive(Clone, Debug)]
pub struct InvokeDefinition {
    pub place: Place,
    /// By default the state's path with underscores.
    pub id: Option<Placed<String>>,
    pub src: Placed<String>,
    pub input: Vec<(Placed<String>, ValueDefinition)>,
    pub timeout: Option<Delay>,
    pub on_done: Vec<TransitionDefinition>,
    pub on_error: Vec<TransitionDefinition>,
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
    pub place: Place,
    pub target: Vec<Placed<String>>,
    pub guard: Option<Placed<String>>,
    pub actions: Vec<ActionDefinition>,
    /// What holds once it has been taken and the machine is at rest.
    pub ensures: Vec<InvariantDefinition>,
    /// Leaves and enters the source again, also for a target inside it.
    pub reenter: bool,
    /// The closure reason, if the transition ends the instance.
    pub reason: Option<String>,
    /// Repeating this transition is not a loop worth reporting.
    pub loop_normal: bool,
}

/// Something that has to be true after an input, else the input is refused.
#[derive(Clone, Debug)]
pub struct InvariantDefinition {
    pub name: Placed<String>,
    pub check: Placed<String>,
    /// What whoever is refused is told, beside the name.
    pub message: Option<String>,
}

#[derive(Clone, Debug)]
pub enum ActionDefinition {
    Assign {
        field: Placed<String>,
        value: ValueDefinition,
    },
    Reply {
        name: Placed<String>,
    },
    Raise(RaiseDefinition),
    /// Ends the delayed event of this id.
    Cancel {
        id: Placed<String>,
    },
    If {
        condition: Placed<String>,
        then: Vec<ActionDefinition>,
        otherwise: Vec<ActionDefinition>,
    },
    ForEach {
        list: Placed<String>,
        item: String,
        body: Vec<ActionDefinition>,
    },
}

#[derive(Clone, Debug)]
pub struct RaiseDefinition {
    pub event: Placed<String>,
    pub data: Vec<(Placed<String>, ValueDefinition)>,
    /// Without one, the event comes before anything from outside.
    pub delay: Option<DelayDefinition>,
    pub id: Option<Placed<String>>,
}

#[derive(Clone, Debug)]
pub enum DelayDefinition {
    Fixed(Delay),
    /// CEL for a whole number of milliseconds.
    Expression(Placed<String>),
}

#[derive(Clone, Debug)]
pub enum ValueDefinition {
    /// A text where a value is expected is CEL.
    Expression(Placed<String>),
    /// Anything else is what it says.
    Literal(Value),
}

/// Reads, checks and compiles `source`.
///
/// Returns the machine, unless an error stands in its way, and every diagnostic in the order of the file.
pub fn load(source: &str) -> (Option<Machine>, Vec<Diagnostic>) {
    load_as(source, false)
}

/// As `load`, for what is stored and for the server's own machines, whose names nobody outside may take.
pub fn load_own(source: &str) -> (Option<Machine>, Vec<Diagnostic>) {
    load_as(source, true)
}

fn load_as(source: &str, own: bool) -> (Option<Machine>, Vec<Diagnostic>) {
    let (node, mut diagnostics) = match overlay::read(source) {
        Ok(read) => read,
        Err(diagnostic) => return (None, vec![*diagnostic]),
    };
    let patterns = node.count_calls(PATTERN_FUNCTION);
    if patterns > PATTERNS_MAX {
        let message = format!("the definition says `{PATTERN_FUNCTION}` {patterns} times");
        let help =
            format!("{PATTERNS_MAX} are allowed, as each is kept compiled; use fewer, or split the machine");
        return (None, vec![Diagnostic::error("too_large", Place::START, message, help)]);
    }
    let definition = read::read(&node, &mut diagnostics);
    let machine = definition.and_then(|definition| {
        let name = &definition.machine;
        if !own && name.value.starts_with(OWN_MACHINE_PREFIX) {
            let message = format!("`{}` is a name for the server's own machines", name.value);
            let help = format!("choose one that does not begin with `{OWN_MACHINE_PREFIX}`");
            diagnostics.push(Diagnostic::error("bad_name", name.place, message, help));
        }
        let machine = compile::compile(&definition, source, &mut diagnostics);
        // What follows from an error is not worth a warning: a machine without its beginning reaches nothing.
        let sound = !diagnostics.iter().any(is_error);
        check::check(&definition, machine.as_ref().filter(|_| sound), &mut diagnostics);
        machine
    });
    let failed = diagnostics.iter().any(is_error);
    diagnostic::sort(&mut diagnostics);
    diagnostic::curtail(&mut diagnostics);
    (machine.filter(|_| !failed), diagnostics)
}

fn is_error(diagnostic: &Diagnostic) -> bool {
    diagnostic.severity == Severity::Error
}

impl StateDefinition {
    pub(crate) fn is_history(&self) -> bool {
        matches!(self.kind, StateKind::ShallowHistory | StateKind::DeepHistory)
    }

    /// The transitions of this state in the order in which they are compiled, each with what it listens to.
    pub(crate) fn transitions(&self) -> impl Iterator<Item = &TransitionDefinition> {
        let after = self.after.iter().flat_map(|(_, transitions)| transitions);
        let on = self.on.iter().flat_map(|(_, transitions)| transitions);
        let done = self.on_done.iter().flat_map(|(_, transitions)| transitions);
        let calls = self.invoke.iter().flat_map(|call| call.on_done.iter().chain(&call.on_error));
        after.chain(on).chain(done).chain(calls).chain(&self.always)
    }

    /// Every action of this state and its transitions, those within others too.
    pub(crate) fn actions(&self) -> Vec<&ActionDefinition> {
        let initial = self.initial.iter().flat_map(|initial| &initial.actions);
        let own = self.entry.iter().chain(&self.exit).chain(initial).chain(&self.default_actions);
        let mut all = Vec::new();
        let mut todo: Vec<&ActionDefinition> =
            own.chain(self.transitions().flat_map(|t| &t.actions)).collect();
        while let Some(action) = todo.pop() {
            all.push(action);
            match action {
                ActionDefinition::If { then, otherwise, .. } => todo.extend(then.iter().chain(otherwise)),
                ActionDefinition::ForEach { body, .. } => todo.extend(body),
                _ => {}
            }
        }
        all
    }

    /// What holds in this state, and after its transitions.
    pub(crate) fn held(&self) -> impl Iterator<Item = &InvariantDefinition> {
        self.invariants.iter().chain(self.transitions().flat_map(|transition| &transition.ensures))
    }

    /// This state and all within it, in document order.
    pub(crate) fn walk(&self) -> Vec<&StateDefinition> {
        let mut all = vec![self];
        for child in &self.states {
            all.extend(child.walk());
        }
        all
    }
}
