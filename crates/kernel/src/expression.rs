//! Expressions: CEL, checked and bounded when they are loaded so that none can stall or end a server when it runs.
//!
//! Owns what callers see: compiling, the bounds, which names an expression reads, its type, and evaluating over JSON
//! values. An expression sees `context`, `event`, `event_name`, `active` (the active states' paths), `now`
//! (milliseconds since 1970) and the variables that its caller names, nothing else.
//!
//! The `cel` crate parses. What it parsed is lowered to a tree of our own (`lower`, `node`), typed on the way
//! (`typing`, `kind`), and evaluated over borrowed JSON (`evaluate`, `datum`, `operate`), where every step is paid
//! for (`fuel`).

mod datum;
mod evaluate;
mod failure;
mod fuel;
mod kind;
mod lower;
mod node;
mod operate;
mod pattern;
mod typing;

#[cfg(test)]
mod differential;

use std::collections::BTreeSet;
use std::sync::Arc;

use cel::parser::Parser;
use serde_json::Value;

use self::evaluate::Run;
pub use self::fuel::{Fuel, STEPS_MAX};
pub use self::kind::Type;
use self::lower::Lowering;
use self::node::Node;
use crate::definition::FieldDefinition;
use crate::input::Fields;
use crate::time::Timestamp;

/// Longer expressions belong into several fields; it also bounds the parser's work.
pub const SOURCE_BYTES_MAX: usize = 2048;
/// Evaluation recurses; 64 levels fit the smallest stack that we run on many times over.
pub const DEPTH_MAX: usize = 64;
/// The parser recurses before the depth is known: 2 KiB of source cannot fill this.
const COMPILE_STACK_BYTES: usize = 16 * 1024 * 1024;

/// Words that no variable of an author can be called.
pub(crate) const RESERVED: [&str; 16] = [
    "context",
    "event",
    "event_name",
    "active",
    "now",
    "index",
    "true",
    "false",
    "null",
    "in",
    "has",
    "size",
    "int",
    "double",
    "string",
    "bool",
];

/// A compiled expression with the names that it reads.
#[derive(Debug)]
pub struct Expression {
    pub source: Arc<str>,
    node: Node,
    result: Type,
    reads: Reads,
}

/// What is known of the names in an expression when it is compiled. The default knows of nothing, and checks little.
#[derive(Clone, Copy, Debug, Default)]
pub struct Names<'n> {
    /// The fields of the context. A field that is not among them may be anything; `Reads` tells that it is read.
    pub context: &'n [FieldDefinition],
    /// Variables of the caller, such as those of a loop. An inner one hides an outer one of the same name.
    pub locals: &'n [(String, Type)],
}

/// Which names an expression reads. Variables of comprehensions are not among them.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Reads {
    pub context: FieldsRead,
    pub event: FieldsRead,
    pub event_name: bool,
    pub active: bool,
    pub now: bool,
    /// Any of the caller's variables.
    pub locals: bool,
}

#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct FieldsRead {
    pub names: BTreeSet<String>,
    /// The whole object is read, as in `size(context)`.
    pub whole: bool,
}

/// What an expression is evaluated over.
#[derive(Clone, Copy, Debug)]
pub struct Scope<'a> {
    pub context: &'a Fields,
    pub event: &'a Fields,
    /// The event that is being processed; empty at the start.
    pub event_name: &'a str,
    pub active: &'a [Arc<str>],
    pub now: Timestamp,
    /// The values of `Names::locals`, in the same order.
    pub locals: &'a [Value],
}

impl Names<'_> {
    fn field(&self, name: &str) -> Type {
        self.context.iter().find(|field| field.name.value == name).map_or(Type::ANY, Type::of_field)
    }
}

impl Expression {
    /// # Errors
    /// A fragment: not CEL, an unknown name, what can never work, or larger than an expression may be.
    pub fn compile(source: &str, names: &Names<'_>) -> Result<Self, String> {
        if source.len() > SOURCE_BYTES_MAX {
            return Err(format!("it has {} bytes; {SOURCE_BYTES_MAX} are allowed", source.len()));
        }
        std::thread::scope(|scope| {
            std::thread::Builder::new()
                .stack_size(COMPILE_STACK_BYTES)
                .spawn_scoped(scope, || compile_here(source, names))
                .map_err(|error| format!("no thread to compile it on: {error}"))?
                .join()
                .map_err(|_| "the CEL parser gave up on it".to_owned())?
        })
    }

    pub fn reads(&self) -> &Reads {
        &self.reads
    }

    /// What the result may be, as far as the names' types tell.
    pub fn result_type(&self) -> Type {
        self.result
    }

    /// # Errors
    /// A fragment, if it can never be a guard.
    pub fn check_guard(&self) -> Result<(), String> {
        if self.result.may_be_boolean() {
            return Ok(());
        }
        Err(format!("a guard must be true or false, and this is {}", self.result))
    }

    /// # Errors
    /// A fragment, if its value can never be one of `field`.
    pub fn check_assignment(&self, field: &FieldDefinition) -> Result<(), String> {
        if self.result.fits(field) {
            return Ok(());
        }
        let (name, taken) = (&field.name.value, Type::of_field(field));
        Err(match (self.result.may_be_list() && taken.may_be_list(), field.items) {
            (true, Some(items)) => {
                format!("the items of context.{name} must be {}, and these are not", items.noun())
            }
            _ => format!("context.{name} must be {taken}, and this is {}", self.result),
        })
    }

    /// The value that it always has, if it reads nothing at all.
    pub fn constant(&self) -> Option<Value> {
        if self.reads != Reads::default() {
            return None;
        }
        let nothing = Fields::new();
        let scope = Scope {
            context: &nothing,
            event: &nothing,
            event_name: "",
            active: &[],
            now: Timestamp::from_millis(0),
            locals: &[],
        };
        self.evaluate(scope).ok()
    }

    /// # Errors
    /// A fragment with the names and values at fault, such as a missing field or mixed types.
    pub fn evaluate(&self, scope: Scope<'_>) -> Result<Value, String> {
        self.evaluate_with(scope, &mut Fuel::default())
    }

    /// Evaluates on a budget that others share.
    ///
    /// # Errors
    /// As `evaluate`; also if `fuel` was used up before.
    pub fn evaluate_with(&self, scope: Scope<'_>, fuel: &mut Fuel) -> Result<Value, String> {
        Run::new(scope, fuel).value(&self.node).map_err(|failure| failure.to_string())
    }

    /// # Errors
    /// As `evaluate`, or when the result is no boolean.
    pub fn test(&self, scope: Scope<'_>) -> Result<bool, String> {
        self.test_with(scope, &mut Fuel::default())
    }

    /// # Errors
    /// As `evaluate_with`, or when the result is no boolean.
    pub fn test_with(&self, scope: Scope<'_>, fuel: &mut Fuel) -> Result<bool, String> {
        Run::new(scope, fuel).test(&self.node).map_err(|failure| failure.to_string())
    }

    /// The values that the expression read, for explaining it.
    pub fn values(&self, scope: Scope<'_>) -> Fields {
        let mut values = Fields::new();
        let sides =
            [("context", scope.context, &self.reads.context), ("event", scope.event, &self.reads.event)];
        for (root, fields, read) in sides {
            for name in &read.names {
                let value = fields.get(name).map_or(Value::Null, abridged);
                values.insert(format!("{root}.{name}"), value);
            }
        }
        if self.reads.event_name {
            values.insert("event_name".into(), Value::from(scope.event_name));
        }
        if self.reads.active {
            let paths = scope.active.iter().map(|path| Value::from(&**path));
            values.insert("active".into(), paths.collect());
        }
        values
    }
}

/// Longer values are told by their size: an explanation is stored with every refusal.
const EXPLAINED_BYTES_MAX: usize = 1024;

fn abridged(value: &Value) -> Value {
    let text = value.to_string();
    match value {
        _ if text.len() <= EXPLAINED_BYTES_MAX => value.clone(),
        Value::Array(items) => Value::from(format!("a list of {} items", items.len())),
        Value::Object(fields) => Value::from(format!("an object of {} fields", fields.len())),
        _ => Value::from(format!("{}…", text.chars().take(200).collect::<String>())),
    }
}

fn compile_here(source: &str, names: &Names<'_>) -> Result<Expression, String> {
    let tree = Parser::new()
        .parse(source)
        .map_err(|errors| format!("not a CEL expression: {}", first_error(&errors.to_string())))?;
    let mut lowering = Lowering::new(names);
    let (node, result) = lowering.lower(&tree)?;
    if result.is_type() {
        return Err("its result is a type, which JSON cannot hold (a text is written in quotes)".into());
    }
    Ok(Expression { source: source.into(), node, result, reads: lowering.reads })
}

/// The first line of the parser's report without its file's name and its list of all that it would have taken.
fn first_error(report: &str) -> String {
    let line = report.lines().next().unwrap_or_default();
    let line = line.trim_start_matches("ERROR: ").trim_start_matches("<input>:");
    let Some((place, problem)) = line.split_once(": ") else {
        return line.to_owned();
    };
    let problem = problem.trim_start_matches("Syntax error: ");
    let problem = problem.split(" expecting ").next().unwrap_or(problem);
    let problem = problem.replace("mismatched input", "did not expect").replace("'<EOF>'", "its end");
    match place.split_once(':') {
        Some(("1", column)) => format!("{problem}, at character {column}"),
        _ => format!("{problem}, at {place}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn run(source: &str) -> Result<Value, String> {
        let context = json!({"n": 2, "photos": ["a"], "name": "Zoë", "none": null});
        let event = json!({"task_id": "t1", "media": ["b", "c"]});
        let (Value::Object(context), Value::Object(event)) = (context, event) else { unreachable!() };
        let active: [Arc<str>; 1] = ["collecting".into()];
        let now = Timestamp::from_millis(7);
        let scope =
            Scope { context: &context, event: &event, event_name: "note", active: &active, now, locals: &[] };
        Expression::compile(source, &Names::default())?.evaluate(scope)
    }

    #[test]
    fn expressions_read_context_event_active_and_now() {
        for (source, expected) in [
            ("context.n + 1", json!(3)),
            ("context.photos + event.media", json!(["a", "b", "c"])),
            ("size(event.task_id) > 0", json!(true)),
            ("has(event.missing) ? 1 : 2", json!(2)),
            ("context.none == null", json!(true)),
            ("'collecting' in active", json!(true)),
            ("now", json!(7)),
            ("event_name", json!("note")),
            ("context.photos.exists(p, p == 'a')", json!(true)),
            ("{'a': context.n}", json!({"a": 2})),
        ] {
            assert_eq!(run(source), Ok(expected), "{source}");
        }
    }

    #[test]
    fn what_could_stall_or_end_a_server_is_refused() {
        let chain = vec!["1"; 900].join("+");
        let deep = format!("{}1{}", "(".repeat(900), ")".repeat(900));
        let nested = "[1,2].all(a, [1,2].all(b, a == b))";
        for source in [chain.as_str(), deep.as_str(), nested, &"1+".repeat(20_000)] {
            assert!(run(source).is_err(), "{}", &source[..20]);
        }
    }

    #[test]
    fn errors_name_what_is_wrong() {
        for (source, part) in [
            ("contxt.n", "`contxt` is unknown"),
            ("max(1, 2)", "there is no function `max`"),
            ("event.task_id.startswith('t')", "did you mean `startsWith`?"),
            ("context.n +", "not a CEL expression"),
            ("event.missing == 1", "missing"),
            ("context.n + 'a'", "a whole number (2)"),
        ] {
            let error = run(source).unwrap_err();
            assert!(error.contains(part), "{source}: {error}");
        }
    }

    #[test]
    fn every_function_that_is_known_is_there() {
        let calls = [
            "size('a')",
            "'a'.contains('a')",
            "'a'.startsWith('a')",
            "'a'.endsWith('a')",
            "'a'.matches('a')",
            "string(1)",
            "int('1')",
            "uint(1)",
            "double(1)",
            "bool('true')",
            "type(1) == type(2)",
            "dyn(1)",
        ];
        for (name, call) in lower::FUNCTIONS.iter().zip(calls) {
            assert!(call.contains(name), "{name} {call}");
            assert!(run(call).is_ok(), "{call}: {:?}", run(call));
        }
    }

    #[test]
    fn an_expression_knows_the_fields_it_reads() {
        let expression =
            Expression::compile("size(context.photos) > 0 && has(event.x)", &Names::default()).unwrap();
        let names = |read: &FieldsRead| read.names.iter().cloned().collect::<Vec<_>>();
        assert_eq!(names(&expression.reads().context), ["photos"]);
        assert_eq!(names(&expression.reads().event), ["x"]);
    }
}
