//! Expressions: CEL, checked and bounded when they are loaded so that none can stall or end a server when it runs.
//!
//! Owns what callers see: compiling, the bounds, which names an expression reads, its type, and evaluating over JSON
//! values. An expression sees `context`, `event`, `event_name`, `active` (the active states' paths), `now`
//! (milliseconds since 1970) and the variables that its caller names, and what a transition ensures also `before` (the
//! context as it was), nothing else.
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
mod secrecy;
mod typing;

#[cfg(test)]
mod differential;

use std::collections::BTreeSet;
use std::sync::Arc;

use cel::parser::Parser;
use serde_json::Value;

use self::evaluate::Run;
pub(crate) use self::fuel::BYTES_PER_STEP;
pub use self::fuel::{Fuel, STEPS_MAX};
pub use self::kind::Type;
use self::lower::Lowering;
use self::node::Node;
pub(crate) use self::pattern::bounded as bounded_regex;
use self::secrecy::{SECRET, Secrecy};
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
pub(crate) const RESERVED: [&str; 21] = [
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
    "uint",
    "double",
    "string",
    "bool",
    "list",
    "map",
    "type",
    "dyn",
];

/// A compiled expression with the names that it reads.
#[derive(Debug)]
pub struct Expression {
    pub source: Arc<str>,
    node: Node,
    result: Type,
    reads: Reads,
    secrecy: Secrecy,
}

/// What is known of the names in an expression when it is compiled. The default knows of nothing, and checks little.
#[derive(Clone, Copy, Debug, Default)]
pub struct Names<'n> {
    /// The fields of the context. A field that is not among them may be anything; `Reads` tells that it is read.
    pub context: &'n [FieldDefinition],
    /// Variables of the caller, such as those of a loop. An inner one hides an outer one of the same name.
    pub locals: &'n [(String, Type)],
    /// Whether `before` is there: the context as it was.
    pub before: bool,
}

/// Which names an expression reads. Variables of comprehensions are not among them.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Reads {
    pub context: FieldsRead,
    pub before: FieldsRead,
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
    /// The context as it was, for an expression that knows of `before`.
    pub before: Option<&'a Fields>,
}

impl<'a> Scope<'a> {
    /// Nothing is there; `none` stands for the context and the event.
    pub fn empty(none: &'a Fields) -> Self {
        let now = Timestamp::from_millis(0);
        Self { context: none, event: none, event_name: "", active: &[], now, locals: &[], before: None }
    }
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

    /// A secret field that its result may hold.
    pub fn secret_shown(&self) -> Option<&str> {
        self.secrecy.shown()
    }

    /// A value that it came to, for an error's text.
    pub(crate) fn result_told(&self, value: &Value) -> String {
        self.secrecy.value_told(value)
    }

    /// What the result may be, as far as the names' types tell.
    pub fn result_type(&self) -> Type {
        self.result
    }

    /// # Errors
    /// A fragment that begins with `what` it is, if it can never be true or false.
    pub fn check_truth(&self, what: &str) -> Result<(), String> {
        if self.result.may_be_boolean() {
            return Ok(());
        }
        Err(format!("{what} must be true or false, and this is {}", self.result))
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
        self.evaluate(Scope::empty(&Fields::new())).ok()
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
        Run::new(&scope, fuel, &self.secrecy).value(&self.node)
    }

    /// # Errors
    /// As `evaluate`, or when the result is no boolean.
    pub fn test(&self, scope: Scope<'_>) -> Result<bool, String> {
        self.test_with(scope, &mut Fuel::default())
    }

    /// # Errors
    /// As `evaluate_with`, or when the result is no boolean.
    pub fn test_with(&self, scope: Scope<'_>, fuel: &mut Fuel) -> Result<bool, String> {
        let tested = Run::new(&scope, fuel, &self.secrecy).test(&self.node);
        tested.map_err(|failure| self.secrecy.words(&failure))
    }

    /// The values that the expression read, for explaining it.
    pub fn values(&self, scope: Scope<'_>) -> Fields {
        let mut values = Fields::new();
        let sides = [
            ("context", Some(scope.context), &self.reads.context),
            ("before", scope.before, &self.reads.before),
            ("event", Some(scope.event), &self.reads.event),
        ];
        for (root, fields, read) in sides {
            for name in read.names.iter().take(EXPLAINED_FIELDS_MAX) {
                let value = match root != "event" && self.secrecy.hides(name) {
                    true => Value::from(SECRET),
                    false => fields.and_then(|fields| fields.get(name)).map_or(Value::Null, abridged),
                };
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

/// Fields of one side that are told of one guard.
const EXPLAINED_FIELDS_MAX: usize = 20;
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
    let secrecy = Secrecy::of(&node, &lowering.reads, names.context);
    Ok(Expression { source: source.into(), node, result, reads: lowering.reads, secrecy })
}

/// The first line of the parser's report without its file's name and its list of all that it would have taken.
fn first_error(report: &str) -> String {
    if report.contains("Recursion") {
        return "it is nested too deep; split it over several fields".into();
    }
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
    use crate::definition::FieldKind;
    use crate::definition::document::Placed;
    use crate::diagnostic::Place;

    fn run(source: &str) -> Result<Value, String> {
        let context = json!({"n": 2, "photos": ["a"], "name": "Zoë", "none": null});
        let event = json!({"task_id": "t1", "media": ["b", "c"]});
        let (Value::Object(context), Value::Object(event)) = (context, event) else { unreachable!() };
        let active: [Arc<str>; 1] = ["collecting".into()];
        let now = Timestamp::from_millis(7);
        let scope = Scope {
            context: &context,
            event: &event,
            event_name: "note",
            active: &active,
            now,
            ..Scope::empty(&context)
        };
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
    fn comprehensions_within_comprehensions_are_refused_however_short() {
        let mut source = "true".to_owned();
        for depth in 0..9 {
            source = format!("a.all(x{depth}, {source})")
                .replace("a.all", if depth < 8 { "[1].all" } else { "[2].all" });
        }
        assert!(source.len() < 190);
        assert!(run(&source).unwrap_err().contains("may not be nested"), "{source}");
        // One after the other is no nesting: the first is done before the second begins.
        let chain = "[1, 2, 3].filter(x, x > 1).map(y, y * 10).exists(z, z == 30)";
        assert_eq!(run(chain), Ok(json!(true)));
        assert!(run("[1].map(x, [x].filter(y, true).map(z, z))").unwrap_err().contains("may not be nested"));
        assert_eq!(run("[1].all(x, x == 1) && [2].all(x, x == 2)"), Ok(json!(true)));
    }

    #[test]
    fn errors_name_what_is_wrong() {
        for (source, part) in [
            ("contxt.n", "`contxt` is unknown"),
            ("max(1, 2)", "there is no function `max`"),
            ("event.task_id.startswith('t')", "did you mean `startsWith`?"),
            ("context.n +", "not a CEL expression"),
            ("event.missing == 1", "event.missing is missing"),
            ("event.x.y.z", "event.x is missing"),
            ("context.n.y", "context.n is a whole number (2) and has no field `y`"),
            ("has(context.n.y)", "context.n is a whole number (2) and has no fields"),
            (
                "context.n + 'a'",
                "`+` takes two numbers, two texts or two lists, not a whole number (2) and text (\"a\")",
            ),
            ("context.n + 1u", "not a whole number (2) and an unsigned number (1); convert one with int()"),
            ("context.n - context.name", "`-` takes two numbers, not a whole number (2) and text"),
            ("context.n / 0", "2 / 0 divides by zero"),
            ("context.n % 0", "2 % 0 divides by zero"),
            ("context.n + 9223372036854775807", "2 + 9223372036854775807 is outside"),
            ("-(context.n - 9223372036854775807 - 3)", "is outside"),
            ("context.photos[3]", "context.photos has 1 items and none at a whole number (3)"),
            ("context.photos[-1]", "none at a whole number (-1)"),
            ("context.photos['a']", "context.photos is a list, which text (\"a\") is no place in"),
            ("event['a']", "event[\"a\"] is missing"),
            ("context.n < context.name", "`<` compares two numbers, two texts or two booleans"),
            ("context.n && true", "context.n is a whole number (2), not true or false"),
            ("context.n ? 1 : 2", "context.n is a whole number (2), not true or false"),
            ("size(context.n)", "size() takes text, a list or an object, not a whole number (2)"),
            ("int(context.name)", "int() cannot be made of text (\"Zoë\")"),
            ("int(-9223372036854775808.0)", "int() cannot be made of a fractional number"),
            ("context.n in context.n", "`in` looks into a list or an object"),
            ("context.n.all(x, true)", "context.n is a whole number (2), not a list or an object"),
            ("context.n.contains('a')", "contains() searches text for text"),
            ("context.n.matches('a')", "context.n is a whole number (2); matches() takes text"),
            ("{'a': 1, 'a': 2}", "the key text (\"a\") is there twice"),
            ("{context.none: 1}", "null cannot be a key"),
            ("1.0 / 0.0", "the result is inf, which JSON cannot hold"),
            ("dyn(type(1))", "the result is the type `int`"),
        ] {
            let error = run(source).unwrap_err();
            assert!(error.contains(part), "{source}: {error}");
        }
    }

    #[test]
    fn what_cannot_be_checked_or_held_is_refused_when_loaded() {
        let brackets = format!("{}1{}", "[".repeat(500), "]".repeat(500));
        for (source, part) in [
            (brackets.as_str(), "it is nested too deep"),
            ("context.name.matches(context.name)", "must be written out"),
            ("context.name.matches('a' + 'b')", "must be written out"),
            ("context.name.matches('(')", "is no regular expression"),
            ("bytes('a')", "there is no function `bytes`"),
            ("b'a'", "there are no bytes in JSON"),
            ("type(1)", "its result is a type"),
            ("string", "its result is a type"),
            ("Thing{a: 1}", "there is no type `Thing` to make"),
            ("contains('a', 'b')", "is written text.contains('...')"),
            ("size(1, 2)", "`size` takes one value"),
            ("context.n.int()", "`int` is written int(value)"),
            ("context.?n", "not a CEL expression"),
            ("@result", "not a CEL expression"),
        ] {
            let error = run(source).unwrap_err();
            assert!(error.contains(part), "{source}: {error}");
        }
    }

    fn typed_fields() -> Vec<FieldDefinition> {
        let kinds = [
            ("n", FieldKind::Integer, None, false),
            ("price", FieldKind::Number, None, false),
            ("t", FieldKind::String, None, false),
            ("note", FieldKind::String, None, true),
            ("flag", FieldKind::Boolean, None, false),
            ("texts", FieldKind::Array, Some(FieldKind::String), false),
            ("list", FieldKind::Array, None, false),
            ("o", FieldKind::Object, None, false),
            ("any", FieldKind::Any, None, false),
        ];
        let field = |(name, kind, items, nullable): (&str, _, _, _)| FieldDefinition {
            name: Placed { value: name.to_owned(), place: Place::START },
            kind,
            items,
            nullable,
            required: false,
            keep: false,
            secret: false,
            default: None,
        };
        kinds.into_iter().map(field).collect()
    }

    /// Compiles with fields of every type, and two variables of a loop.
    fn compile_typed(source: &str) -> Result<Expression, String> {
        let locals = [("item".to_owned(), Type::TEXT), ("index".to_owned(), Type::INTEGER)];
        Expression::compile(source, &Names { context: &typed_fields(), locals: &locals, ..Names::default() })
    }

    #[test]
    fn what_can_never_work_is_refused_when_loaded() {
        for (source, part) in [
            ("context.n + 'a'", "`+` takes two numbers, two texts or two lists, not a whole number and text"),
            ("context.texts - context.texts", "`-` takes two numbers, not a list and a list"),
            ("context.price % 2.0", "`%` takes two whole numbers"),
            ("-context.t", "`-` takes a number with a sign, not text"),
            ("context.n == 'x'", "`==` compares a whole number with text, which are never equal"),
            ("context.note != 1", "`!=` compares text or null with a whole number, which are never equal"),
            ("size(context.n)", "size() takes text, a list or an object, not a whole number"),
            (
                "context.flag > 3",
                "`>` compares two numbers, two texts or two booleans, not true or false and a whole number",
            ),
            ("context.n && true", "`&&` takes what is true or false, not a whole number"),
            ("!context.t", "`!` takes what is true or false, not text"),
            ("context.t ? 1 : 2", "`? :` takes what is true or false, not text"),
            ("context.n.x", "context.n is a whole number and has no field `x`"),
            ("context.t[0]", "context.t is text; only lists and objects have [...]"),
            ("context.texts['a']", "context.texts is a list, which text is no place in"),
            (
                "1 in context.texts",
                "`in` looks for a whole number in a list whose items are text, and never finds it",
            ),
            ("1 in active", "never finds it"),
            ("'a' in context.t", "`in` looks into a list or an object, not text"),
            ("context.n.contains('a')", "contains() searches text for text, not a whole number for text"),
            ("context.n.matches('a')", "matches() takes text, not a whole number"),
            ("context.n.all(x, true)", "context.n is a whole number, not a list or an object"),
            ("context.texts.all(x, x + 'a')", "`all` takes what is true or false, not text"),
            ("context.texts.exists(x, x > 1)", "`>` compares"),
            ("context.texts.map(x, x + 'a')[0] + 1", "not text and a whole number"),
            ("int(context.flag)", "int() cannot be made of true or false"),
            ("bool(context.n)", "bool() cannot be made of a whole number"),
            ("{context.texts: 1}", "a list cannot be a key"),
            ("item + index", "not text and a whole number"),
            ("event_name == 1", "never equal"),
            ("now == 'a'", "never equal"),
            ("(context.flag ? context.n : context.price) + 'a'", "not a number and text"),
        ] {
            let error = compile_typed(source).unwrap_err();
            assert!(error.contains(part), "{source}: {error}");
        }
    }

    #[test]
    fn what_might_work_is_not_refused() {
        for source in [
            "context.n == null",
            "context.note == null || context.note > 'a'",
            "context.note + 'a'",
            "context.price + 1 == context.n * 1.5 && context.price / 4 > context.n",
            "context.price == 1 || context.n == 1.5 || context.n < 1.5",
            "event.x + 'a' == 'b' && event.x + 1 > 0",
            "context.any && context.any > 1 && context.any.x.y[0]",
            "context.missing + 1",
            "context.list[0] + 1 == 2 && context.list[0] == 'a'",
            "1 in [] && 'a' in context.o && context.n in context.list",
            "context.o.x > 1 && context.o['x'] == 'a'",
            "(context.flag ? 'a' : null) == null",
            "item == 'a' && index == 0",
            "dyn(context.n) == 'x'",
            "type(context.n) == int && {'a': type(1)}.a == string",
            "{1: 'a'}[context.n] == 'a' && {true: 1}[context.flag] == 1",
        ] {
            let compiled = compile_typed(source);
            assert!(compiled.is_ok(), "{source}: {compiled:?}");
        }
    }

    #[test]
    fn field_of_type_number_is_calculated_with_as_a_fraction_and_passed_on_as_it_is() {
        let run = |source: &str, price: Value| {
            let context = Fields::from_iter([("price".to_owned(), price), ("flag".to_owned(), json!(true))]);
            compile_typed(source).unwrap().evaluate(Scope::empty(&context))
        };
        for written in [json!(10), json!(10.0)] {
            assert_eq!(run("context.price / 4", written.clone()), Ok(json!(2.5)));
            assert_eq!(run("(context.flag ? -context.price : 1) / 4", written.clone()), Ok(json!(-2.5)));
            assert_eq!(run("context.price", written.clone()), Ok(written));
        }
        let large = json!(9_007_199_254_740_993_i64);
        assert_eq!(run("context.price", large.clone()), Ok(large.clone()));
        assert_eq!(
            run("context.price == 9007199254740993 && context.price in [context.price]", large),
            Ok(json!(true))
        );
        let missing = Fields::new();
        let problem =
            compile_typed("context.price / 4").unwrap().evaluate(Scope::empty(&missing)).unwrap_err();
        assert_eq!(problem, "context.price is missing");
    }

    #[test]
    fn a_result_that_can_never_be_stored_is_told() {
        for (name, source, problem) in [
            ("n", "context.n + 1", None),
            ("n", "uint(1)", None),
            ("n", "context.price", None),
            (
                "n",
                "context.price * 2",
                Some("context.n must be a whole number, and this is a fractional number"),
            ),
            ("n", "1.5", Some("context.n must be a whole number, and this is a fractional number")),
            ("price", "1", None),
            ("note", "null", None),
            ("t", "null", Some("context.t must be text, and this is null")),
            ("flag", "event.x", None),
            ("texts", "[]", None),
            ("texts", "context.list", None),
            ("texts", "['a'] + active", None),
            ("texts", "[1]", Some("the items of context.texts must be text, and these are not")),
            ("texts", "context.texts.map(x, size(x))", Some("the items of context.texts must be text")),
            ("o", "{'a': 1}", None),
            ("o", "[1]", Some("context.o must be an object, and this is a list")),
            ("any", "'a'", None),
        ] {
            let fields = typed_fields();
            let field = fields.iter().find(|field| field.name.value == name).unwrap();
            let told = compile_typed(source).unwrap().check_assignment(field).err();
            assert_eq!(told.is_some(), problem.is_some(), "{source}: {told:?}");
            assert!(told.unwrap_or_default().contains(problem.unwrap_or_default()), "{source}");
        }
        let guard = |source| compile_typed(source).unwrap().check_truth("a guard").err();
        assert_eq!(guard("event.x"), None);
        assert_eq!(guard("context.n").unwrap(), "a guard must be true or false, and this is a whole number");
    }

    #[test]
    fn whatever_an_expression_does_it_ends_within_its_steps() {
        let list: Vec<Value> = (0..20_000).map(Value::from).collect();
        let context = json!({
            "list": list,
            "text": "ab".repeat(100_000),
            "objects": vec![json!({"a": {"b": 1}}); 9000],
            "texts": vec!["x".repeat(1000); 200],
        });
        let Value::Object(context) = context else { unreachable!() };
        let none = Fields::new();
        let scope = Scope { context: &context, event: &context, ..Scope::empty(&none) };
        for source in [
            "context.list.all(x, x >= 0)",
            "context.list.all(x, x / 0 == 1 || x >= 0)",
            "context.list.exists(x, event.nothing == 1)",
            "context.list.map(x, x)",
            "context.list.map(x, context.list)",
            "context.list.filter(x, true)",
            "context.list.exists_one(x, x == 5)",
            "context.list + context.list",
            "context.list == event.list",
            "context.objects == event.objects",
            "context.objects",
            "-1 in context.list",
            "context.text.contains('ac')",
            "context.text.matches('(a|b)*a(a|b){30}c')",
            "context.texts.map(x, context.text + x)",
            "context.list.all(x, size(context.text) > 0)",
            "context.list.map(x, {'a': x, 'b': x})",
            "context.list.map(x, string(x))",
            "context.list.all(x, context.text <= event.text)",
            "true || context.list.all(x, x >= 0) || context.list.all(x, x >= 0)",
            "context.list.all(x, x >= 0) || true",
        ] {
            let mut fuel = Fuel::default();
            let result =
                Expression::compile(source, &Names::default()).unwrap().evaluate_with(scope, &mut fuel);
            match source.starts_with("true") {
                true => assert_eq!(result, Ok(json!(true)), "what decides is enough"),
                false => assert!(
                    result.as_ref().is_err_and(|e| e.contains("takes more than 20000 steps"))
                        && fuel.used() == STEPS_MAX,
                    "{source}: {} steps",
                    fuel.used()
                ),
            }
        }
    }

    #[test]
    fn a_step_is_a_node_and_fuel_can_be_shared() {
        let none = Fields::new();
        for (source, steps) in [("1", 1), ("1 + 2", 3), ("now + 1 < 2 && true", 7), ("true || now < 1", 2)] {
            let mut fuel = Fuel::new(100);
            let expression = Expression::compile(source, &Names::default()).unwrap();
            expression.evaluate_with(Scope::empty(&none), &mut fuel).unwrap();
            assert_eq!(fuel.used(), steps, "{source}");
        }
        // Each list that is appended is copied, and what it is appended to is not copied again.
        let steps = |source: &str| {
            let mut fuel = Fuel::default();
            let list = [json!(vec![1; 100])];
            let locals = [("list".to_owned(), Type::ANY)];
            let names = Names { locals: &locals, ..Names::default() };
            let scope = Scope { locals: &list, ..Scope::empty(&none) };
            Expression::compile(source, &names).unwrap().evaluate_with(scope, &mut fuel).unwrap();
            fuel.used()
        };
        let longer = |count| format!("size({})", vec!["list"; count].join(" + "));
        assert_eq!(steps(&longer(9)) - steps(&longer(8)), steps(&longer(3)) - steps(&longer(2)));
        let sum = Expression::compile("1 + 2", &Names::default()).unwrap();
        let mut fuel = Fuel::new(6);
        assert!(sum.evaluate_with(Scope::empty(&none), &mut fuel).is_ok());
        assert!(sum.evaluate_with(Scope::empty(&none), &mut fuel).is_ok());
        let error = sum.evaluate_with(Scope::empty(&none), &mut fuel).unwrap_err();
        assert!(error.contains("takes more than 6 steps"), "{error}");
    }

    #[test]
    fn numbers_are_compared_on_one_line() {
        for (source, expected) in [
            ("9007199254740993 == 9007199254740992.0", false),
            ("9007199254740993 > 9007199254740992.0", true),
            ("9223372036854775807 < 9223372036854775808.0", true),
            ("1 == 1.0 && 1u == 1 && 1.0 == 1u && [1, {'a': 2u}] == [1.0, {'a': 2}]", true),
            ("-1 < 0u && 18446744073709551615u > 9223372036854775807", true),
            ("1.5 > 1 && 1 < 1.5 && -1.5 < -1 && 1e300 > 1 && -1e300 < 1", true),
            ("{1: 'a'}[1.0] == 'a' && 1u in {1: 'a'} && !(1.5 in {1: 'a'})", true),
        ] {
            assert_eq!(run(source), Ok(json!(expected)), "{source}");
        }
    }

    #[test]
    fn what_reads_nothing_is_constant() {
        for (source, value) in [
            ("60 * 60 * 1000", Some(json!(3_600_000))),
            ("[1, 2].all(x, x > 0)", Some(json!(true))),
            ("now > 0", None),
            ("context.n == context.n", None),
            ("has(event.a)", None),
            ("event_name == ''", None),
            ("active == []", None),
            ("item", None),
            ("1 / 0", None),
        ] {
            assert_eq!(compile_typed(source).unwrap().constant(), value, "{source}");
        }
    }

    #[test]
    fn variables_hide_what_has_the_same_name_outside() {
        let none = Fields::new();
        let locals = ["item", "index", "item", "event"].map(|name| (name.to_owned(), Type::ANY));
        let names = Names { locals: &locals, ..Names::default() };
        let values = [json!("outer"), json!(0), json!("inner"), json!({"a": 5})];
        let scope = Scope { locals: &values, ..Scope::empty(&none) };
        for (source, expected) in [
            ("item", json!("inner")),
            ("index + 1", json!(1)),
            ("event.a", json!(5)),
            ("has(event.b)", json!(false)),
            ("[7].map(item, item)", json!([7])),
            ("[7].map(x, item)", json!(["inner"])),
            ("[{'n': 7}].map(context, context.n)", json!([7])),
        ] {
            let expression = Expression::compile(source, &names).unwrap();
            assert_eq!(expression.evaluate(scope), Ok(expected), "{source}");
            assert_eq!(expression.reads().event, FieldsRead::default(), "{source}");
            assert_eq!(expression.reads().context, FieldsRead::default(), "{source}");
        }
        let short = Scope { locals: &values[..1], ..scope };
        let item = Expression::compile("item", &names).unwrap();
        assert_eq!(item.evaluate(short), Err("item is missing".into()));
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
