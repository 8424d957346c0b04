//! From a `Definition` to a `Machine`: names become indices, expressions become programs.
//!
//! Notes every name that leads nowhere and every expression that is none. Returns a machine only so that `check` can
//! look at it; `load` throws it away when an error was noted.

use std::collections::HashMap;
use std::sync::Arc;

use crate::chart::{
    Action, Assigned, Chart, EventIndex, FieldIndex, Kind, ROOT, ReplyIndex, State, StateIndex,
    Transition, matches_event,
};
use crate::conversation::Conversation;
use crate::definition::document::Placed;
use crate::definition::{
    ActionDefinition, AssignedValue, DONE_PREFIX, Definition, StateDefinition, StateKind,
    TIMER_PREFIX, TransitionDefinition,
};
use crate::diagnostic::{Diagnostic, Place, nearest};
use crate::expression::{Expression, FieldsRead};
use crate::id::{DefinitionHash, MachineName};
use crate::machine::Machine;

/// The tables are states times events; this keeps them below 64 MB.
const STATES_MAX: usize = 2_000;
const EVENTS_MAX: usize = 4_000;

pub(crate) fn compile(
    definition: &Definition,
    source: &str,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Machine> {
    let mut compiler = Compiler {
        definition,
        diagnostics,
        chart: Chart::default(),
        states: Vec::new(),
        reply_by_name: HashMap::new(),
    };
    compiler.add_state(&definition.root, ROOT);
    if compiler.states.len() > STATES_MAX {
        let message = format!("the machine has {} states", compiler.states.len());
        compiler.error(
            "too_large",
            definition.machine.place,
            message,
            format!("{STATES_MAX} are allowed"),
        );
        return None;
    }
    compiler.check_fields();
    let conversation = definition.conversation.as_ref().map(|written| {
        let conversation = Conversation::compile(written, definition, compiler.diagnostics);
        let numbered = conversation.replies.iter().enumerate();
        compiler.reply_by_name = numbered
            .map(|(n, reply)| (reply.name.clone(), ReplyIndex(n as u16)))
            .collect();
        conversation
    });
    compiler.fill_states();
    let mut conversation = conversation;
    if let Some(conversation) = &mut conversation {
        for intent in &conversation.intents {
            if let Some(event) = &intent.event {
                compiler.event(event);
            }
        }
        conversation.accepts = compiler.accepts();
    }
    if compiler.chart.events.len() > EVENTS_MAX {
        let message = format!("the machine has {} events", compiler.chart.events.len());
        compiler.error(
            "too_large",
            definition.machine.place,
            message,
            format!("{EVENTS_MAX} are allowed"),
        );
        return None;
    }
    let safe_state = compiler.safe_state();
    let mut chart = compiler.chart;
    chart.index();
    Some(Machine {
        name: MachineName::parse(&definition.machine.value).ok()?,
        version: definition.version,
        hash: DefinitionHash::of(source),
        source: source.into(),
        fields: definition.context.clone(),
        chart,
        safe_state: safe_state?,
        conversation,
    })
}

struct Compiler<'a, 'd> {
    definition: &'a Definition,
    diagnostics: &'d mut Vec<Diagnostic>,
    chart: Chart,
    /// The written state of each index.
    states: Vec<&'a StateDefinition>,
    reply_by_name: HashMap<String, ReplyIndex>,
}

impl<'a> Compiler<'a, '_> {
    fn error(
        &mut self,
        code: &'static str,
        place: Place,
        message: String,
        help: impl Into<String>,
    ) {
        self.diagnostics
            .push(Diagnostic::error(code, place, message, help.into()));
    }

    /// Numbers a state and its descendants in document order.
    fn add_state(&mut self, written: &'a StateDefinition, parent: StateIndex) -> StateIndex {
        let index = StateIndex(u16::try_from(self.states.len()).unwrap_or(u16::MAX));
        let path: Arc<str> = match self.states.len() {
            0 => "".into(),
            _ => match &*self.chart.state(parent).path {
                "" => written.name.value.as_str().into(),
                above => format!("{above}.{}", written.name.value).into(),
            },
        };
        let kind = match written.kind {
            StateKind::Normal if written.states.is_empty() => Kind::Atomic,
            StateKind::Normal => Kind::Compound,
            StateKind::Parallel => Kind::Parallel,
            StateKind::Final => Kind::Final,
            StateKind::ShallowHistory => Kind::ShallowHistory,
            StateKind::DeepHistory => Kind::DeepHistory,
        };
        self.states.push(written);
        self.chart.state_by_path.insert(Arc::clone(&path), index);
        self.chart.states.push(State {
            path,
            kind,
            parent,
            children: Vec::new(),
            end: index,
            initial: Vec::new(),
            entry: Vec::new(),
            exit: Vec::new(),
            after: Vec::new(),
            done_event: None,
            reason: written.reason.as_deref().map(Arc::from),
        });
        let children: Vec<StateIndex> = written
            .states
            .iter()
            .map(|child| self.add_state(child, index))
            .collect();
        let end = StateIndex(u16::try_from(self.states.len()).unwrap_or(u16::MAX));
        let state = &mut self.chart.states[usize::from(index.0)];
        state.children = children;
        state.end = end;
        index
    }

    fn event(&mut self, name: &str) -> EventIndex {
        if let Some(index) = self.chart.event(name) {
            return index;
        }
        let index = EventIndex(u16::try_from(self.chart.events.len()).unwrap_or(u16::MAX));
        let name: Arc<str> = name.into();
        self.chart.events.push(Arc::clone(&name));
        self.chart.event_by_name.insert(name, index);
        index
    }

    fn check_fields(&mut self) {
        for (at, field) in self.definition.context.iter().enumerate() {
            if self.definition.context[..at]
                .iter()
                .any(|f| f.name.value == field.name.value)
            {
                let message = format!("the field `{}` is declared twice", field.name.value);
                self.error(
                    "duplicate_name",
                    field.name.place,
                    message,
                    "drop one of them",
                );
            }
        }
    }

    fn fill_states(&mut self) {
        for number in 0..self.states.len() {
            let index = StateIndex(number as u16);
            let written = self.states[number];
            self.check_shape(index, written);
            let initial = self.initial(index, written);
            let entry = self.actions(&written.entry);
            let exit = self.actions(&written.exit);
            let mut after = Vec::new();
            for (delay, transitions) in &written.after {
                let id = match &*self.chart.state(index).path {
                    "" => format!("{TIMER_PREFIX}{}", delay.value),
                    path => format!("{TIMER_PREFIX}{}.{path}", delay.value),
                };
                let event = self.event(&id);
                after.push((delay.value, event));
                self.transitions(index, &id, transitions);
            }
            for (event, transitions) in &written.on {
                self.check_event_name(event);
                if !event.value.ends_with('*') {
                    self.event(&event.value);
                }
                self.transitions(index, &event.value, transitions);
            }
            self.transitions(index, "", &written.always);
            let done = format!("{DONE_PREFIX}{}", self.chart.state(index).path);
            let done_event = self.listens(&done).then(|| self.event(&done));
            let state = &mut self.chart.states[number];
            (state.initial, state.entry, state.exit) = (initial, entry, exit);
            (state.after, state.done_event) = (after, done_event);
        }
    }

    fn listens(&self, event: &str) -> bool {
        self.states.iter().any(|s| {
            s.on.iter()
                .any(|(name, _)| matches_event(&name.value, event))
        })
    }

    fn check_event_name(&mut self, event: &Placed<String>) {
        let name = event.value.strip_suffix('*').unwrap_or(&event.value);
        let good = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
        if event.value.is_empty() || !name.chars().all(good) || name.starts_with(TIMER_PREFIX) {
            let message = format!("`{}` is no name for an event", event.value);
            self.error("bad_name", event.place, message, "use letters, digits, _, - and dots; `prefix.*` and `*` match many; `after.` is reserved");
        }
    }

    /// What a state of one kind may not have.
    fn check_shape(&mut self, index: StateIndex, written: &StateDefinition) {
        let kind = self.chart.state(index).kind;
        let place = written.name.place;
        let name = &written.name.value;
        let listens =
            !written.on.is_empty() || !written.after.is_empty() || !written.always.is_empty();
        match kind {
            Kind::Final if listens || !written.states.is_empty() => {
                let message = format!("the final state `{name}` has transitions or children");
                self.error(
                    "illegal_state",
                    place,
                    message,
                    "a final state stays final; drop them, or drop `type: final`",
                );
            }
            Kind::ShallowHistory | Kind::DeepHistory => {
                if listens || !written.states.is_empty() || !written.entry.is_empty() {
                    let message = format!("the history state `{name}` has more than a `target`");
                    self.error(
                        "illegal_state",
                        place,
                        message,
                        "a history state only remembers; drop the rest",
                    );
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
            Kind::Parallel if written.initial.is_some() => {
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
        let history = matches!(kind, Kind::ShallowHistory | Kind::DeepHistory);
        if !history && let Some(target) = written.default_target.first() {
            let message = format!("the state `{name}` has a `target`");
            self.error(
                "illegal_state",
                target.place,
                message,
                "only history states and transitions have targets",
            );
        }
        let siblings = &self.states[usize::from(self.chart.state(index).parent.0)].states;
        let twins = siblings.iter().filter(|s| s.name.value == *name).count();
        if twins > 1 && index != ROOT {
            let message = format!("the state `{name}` is there twice");
            self.error("duplicate_name", place, message, "rename one of them");
        }
    }

    fn initial(&mut self, index: StateIndex, written: &'a StateDefinition) -> Vec<StateIndex> {
        match self.chart.state(index).kind {
            Kind::Compound => match &written.initial {
                Some(initial) => self.child(index, initial).into_iter().collect(),
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
                let targets = &written.default_target;
                targets
                    .iter()
                    .filter_map(|target| self.target(index, target))
                    .collect()
            }
            _ => Vec::new(),
        }
    }

    /// A direct child, or a dotted path below it.
    fn child(&mut self, parent: StateIndex, name: &Placed<String>) -> Option<StateIndex> {
        let found = self.below(parent, &name.value);
        if found.is_none() {
            let children = self.states[usize::from(parent.0)].states.iter();
            let help = nearest(&name.value, children.map(|s| s.name.value.as_str()));
            self.error(
                "unknown_target",
                name.place,
                format!("`initial` names `{}`, which is no state here", name.value),
                help,
            );
        }
        found
    }

    fn below(&self, parent: StateIndex, path: &str) -> Option<StateIndex> {
        match &*self.chart.state(parent).path {
            "" => self.chart.by_path(path).filter(|s| *s != ROOT),
            above => self.chart.by_path(&format!("{above}.{path}")),
        }
    }

    /// A target by name: `.child` below the source, else the nearest scope outwards that has the name.
    fn target(&mut self, source: StateIndex, name: &Placed<String>) -> Option<StateIndex> {
        let found = match name.value.strip_prefix('.') {
            Some(child) => self.below(source, child),
            None => {
                let scopes = self.chart.ancestors(source);
                let outward = std::iter::once(source).filter(|s| *s == ROOT).chain(scopes);
                outward
                    .into_iter()
                    .find_map(|scope| self.below(scope, &name.value))
            }
        };
        if found.is_none() {
            let paths = self.chart.states.iter().skip(1).map(|s| &*s.path);
            let help = nearest(&name.value, paths);
            self.error(
                "unknown_target",
                name.place,
                format!("the target `{}` is no state", name.value),
                help,
            );
        }
        found
    }

    fn transitions(
        &mut self,
        source: StateIndex,
        event: &str,
        written: &'a [TransitionDefinition],
    ) {
        for transition in written {
            let targets: Vec<StateIndex> = transition
                .target
                .iter()
                .filter_map(|target| self.target(source, target))
                .collect();
            self.check_targets(&targets, transition);
            let guard = transition
                .guard
                .as_ref()
                .and_then(|guard| self.expression(guard, true));
            let actions = self.actions(&transition.actions);
            self.chart.transitions.push(Transition {
                source,
                event: event.into(),
                guard,
                targets,
                actions,
                reenter: transition.reenter,
                reason: transition.reason.as_deref().map(Arc::from),
                loop_normal: transition.loop_normal,
            });
        }
    }

    /// Several targets must be in different regions of a parallel state.
    fn check_targets(&mut self, targets: &[StateIndex], transition: &TransitionDefinition) {
        for (at, one) in targets.iter().enumerate() {
            for other in &targets[..at] {
                let common = self
                    .chart
                    .ancestors(*one)
                    .find(|a| self.chart.is_descendant(*other, *a));
                let orthogonal = common.is_some_and(|c| self.chart.state(c).kind == Kind::Parallel);
                if !orthogonal {
                    let (one, other) = (
                        self.chart.state(*one).path.clone(),
                        self.chart.state(*other).path.clone(),
                    );
                    self.error(
                        "illegal_target",
                        transition.place,
                        format!("`{other}` and `{one}` cannot be active together"),
                        "several targets must lie in different regions of a parallel state",
                    );
                }
            }
        }
    }

    fn actions(&mut self, written: &'a [ActionDefinition]) -> Vec<Action> {
        written
            .iter()
            .filter_map(|action| self.action(action))
            .collect()
    }

    fn action(&mut self, written: &ActionDefinition) -> Option<Action> {
        match written {
            ActionDefinition::Raise { event } => Some(Action::Raise(self.event(&event.value))),
            ActionDefinition::Reply { name } => {
                let found = self.reply_by_name.get(&name.value).copied();
                if found.is_none() {
                    let names: Vec<&str> = self.reply_by_name.keys().map(String::as_str).collect();
                    let help = nearest(&name.value, names.into_iter());
                    self.error(
                        "unknown_reply",
                        name.place,
                        format!("there is no reply `{}`", name.value),
                        help,
                    );
                }
                found.map(Action::Reply)
            }
            ActionDefinition::Assign { field, value } => {
                let fields = &self.definition.context;
                let Some(number) = fields.iter().position(|f| f.name.value == field.value) else {
                    let help = nearest(&field.value, fields.iter().map(|f| f.name.value.as_str()));
                    self.error(
                        "unknown_field",
                        field.place,
                        format!("the context has no field `{}`", field.value),
                        help,
                    );
                    return None;
                };
                let value = match value {
                    AssignedValue::Expression(source) => {
                        Assigned::Expression(Box::new(self.expression(source, true)?))
                    }
                    AssignedValue::Literal(value) => {
                        if let Err(problem) = fields[number].accepts(value) {
                            self.error(
                                "bad_value",
                                field.place,
                                format!("context.{} {problem}", field.value),
                                "write a value of the field's type",
                            );
                        }
                        Assigned::Literal(value.clone())
                    }
                };
                let name = field.value.as_str().into();
                Some(Action::Assign {
                    field: FieldIndex(number as u16),
                    name,
                    value,
                })
            }
        }
    }

    fn expression(&mut self, source: &Placed<String>, may_read_event: bool) -> Option<Expression> {
        compile_expression(source, self.definition, may_read_event, self.diagnostics)
    }

    /// What each atomic state takes without an intent: its own `accepts`, else its nearest ancestor's.
    fn accepts(&mut self) -> crate::conversation::Accepts {
        let mut accepts = crate::conversation::Accepts::default();
        for number in 1..self.states.len() {
            let index = StateIndex(number as u16);
            for accept in &self.states[number].accepts {
                let event = match &accept.event {
                    Some(event) if self.chart.event(&event.value).is_some() => {
                        Some(event.value.clone())
                    }
                    Some(event) => {
                        let names: Vec<String> =
                            self.chart.events.iter().map(|e| e.to_string()).collect();
                        let help = nearest(&event.value, names.iter().map(String::as_str));
                        self.error(
                            "unknown_event",
                            event.place,
                            format!("no state takes the event `{}`", event.value),
                            help,
                        );
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

    /// The declared safe state, else the initial one.
    fn safe_state(&mut self) -> Option<StateIndex> {
        let Some(written) = &self.definition.safe_state else {
            let root = self.chart.state(ROOT);
            return root.initial.first().or(root.children.first()).copied();
        };
        let found = self.below(ROOT, &written.value);
        match found {
            None => {
                let paths = self.chart.states.iter().skip(1).map(|s| &*s.path);
                let help = nearest(&written.value, paths);
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
}

/// Compiles an expression and checks the context fields that it names.
pub(crate) fn compile_expression(
    source: &Placed<String>,
    definition: &Definition,
    may_read_event: bool,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Expression> {
    let mut error = |code, message, help: String| {
        diagnostics.push(Diagnostic::error(code, source.place, message, help));
    };
    let expression = match Expression::compile(&source.value) {
        Ok(expression) => expression,
        Err(problem) => {
            error(
                "bad_expression",
                format!(
                    "the expression `{}` cannot be used: {problem}",
                    shorten(&source.value)
                ),
                "see docs/definitions.md for what an expression may say".into(),
            );
            return None;
        }
    };
    let fields = || definition.context.iter().map(|f| f.name.value.as_str());
    for name in &expression.reads().context.names {
        if !fields().any(|field| field == name) {
            error(
                "unknown_field",
                format!("the context has no field `{name}`"),
                nearest(name, fields()),
            );
        }
    }
    if !may_read_event && expression.reads().event != FieldsRead::default() {
        error(
            "bad_expression",
            "`event` is not known here".into(),
            "a reply may use context, active and now".into(),
        );
    }
    Some(expression)
}

fn shorten(source: &str) -> String {
    match source.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &source[..end]),
        None => source.to_owned(),
    }
}
