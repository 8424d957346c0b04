//! Expressions: CEL, bounded when they are compiled so that none can stall or end a server when it runs.
//!
//! Owns compiling, the bounds, which names an expression reads, and evaluating over JSON values. An expression
//! sees `context`, `event`, `active` (the active states' paths) and `now` (milliseconds since 1970), nothing else.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, LazyLock};

use cel::common::ast::{EntryExpr, Expr, IdedEntryExpr, IdedExpr};
use cel::objects::{Key, Map as CelMap};
use cel::{Context, Env, Program, Value as CelValue};
use serde_json::Value;

use crate::diagnostic::nearest;
use crate::input::Fields;
use crate::time::Timestamp;

/// Longer expressions belong into several fields; it also bounds the parser's work.
pub const SOURCE_BYTES_MAX: usize = 2048;
/// Evaluation recurses; 64 levels fit the smallest stack that we run on many times over.
pub const DEPTH_MAX: usize = 64;
/// The parser recurses before the depth is known: 2 KiB of source cannot fill this.
const COMPILE_STACK_BYTES: usize = 16 * 1024 * 1024;
/// What an expression may iterate over; with comprehensions not nested, evaluation stays in microseconds.
pub const LIST_ITEMS_MAX: usize = 10_000;

static ENVIRONMENT: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(Env::stdlib()));

const ROOTS: [&str; 4] = ["context", "event", "active", "now"];

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
    program: Program,
    reads: Reads,
}

/// Which fields of `context` and `event` an expression names; only those are bound when it runs.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Reads {
    pub context: FieldsRead,
    pub event: FieldsRead,
    pub active: bool,
    pub now: bool,
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
    pub active: &'a [Arc<str>],
    pub now: Timestamp,
}

impl Expression {
    /// # Errors
    /// A fragment: not CEL, an unknown name, or larger than an expression may be.
    pub fn compile(source: &str) -> Result<Self, String> {
        if source.len() > SOURCE_BYTES_MAX {
            return Err(format!("it has {} bytes; {SOURCE_BYTES_MAX} are allowed", source.len()));
        }
        let text: Arc<str> = source.into();
        std::thread::Builder::new()
            .stack_size(COMPILE_STACK_BYTES)
            .spawn(move || compile_here(text))
            .map_err(|error| format!("no thread to compile it on: {error}"))?
            .join()
            .map_err(|_| "the CEL parser gave up on it".to_owned())?
    }

    pub fn reads(&self) -> &Reads {
        &self.reads
    }

    /// # Errors
    /// A fragment with the names and values at fault, such as a missing field or mixed types.
    pub fn evaluate(&self, scope: Scope<'_>) -> Result<Value, String> {
        let mut context = Context::with_env(Arc::clone(&ENVIRONMENT));
        let reads = &self.reads;
        if reads.context.any() {
            context.add_variable_from_value("context", bind(scope.context, &reads.context)?);
        }
        if reads.event.any() {
            context.add_variable_from_value("event", bind(scope.event, &reads.event)?);
        }
        if reads.active {
            let paths = scope.active.iter().map(|path| CelValue::String(path.to_string().into()));
            context.add_variable_from_value("active", CelValue::List(paths.collect::<Vec<_>>().into()));
        }
        if reads.now {
            context.add_variable_from_value("now", CelValue::Int(scope.now.as_millis()));
        }
        let result = self.program.execute(&context).map_err(|error| error.to_string())?;
        to_json(&result)
    }

    /// # Errors
    /// As `evaluate`, or when the result is no boolean.
    pub fn test(&self, scope: Scope<'_>) -> Result<bool, String> {
        match self.evaluate(scope)? {
            Value::Bool(verdict) => Ok(verdict),
            other => Err(format!("a guard must be true or false; `{}` is {other}", self.source)),
        }
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

impl FieldsRead {
    fn any(&self) -> bool {
        self.whole || !self.names.is_empty()
    }
}

fn compile_here(source: Arc<str>) -> Result<Expression, String> {
    let program = ENVIRONMENT
        .compile(&source)
        .map_err(|errors| format!("not a CEL expression: {}", first_error(&errors.to_string())))?;
    let mut survey = Survey::default();
    survey.visit(program.expression(), 1)?;
    let known = |name: &&String| !ROOTS.contains(&name.as_str());
    if let Some(unknown) = survey.free.iter().find(known) {
        return Err(format!(
            "`{unknown}` is unknown; an expression sees context, event, active and now (a text is written in quotes)"
        ));
    }
    Ok(Expression { source, program, reads: survey.reads })
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

/// CEL's own functions, as far as they are built in here. Operators have names like `_+_`.
const FUNCTIONS: [&str; 13] = [
    "size",
    "contains",
    "startsWith",
    "endsWith",
    "matches",
    "string",
    "int",
    "uint",
    "double",
    "bytes",
    "bool",
    "type",
    "dyn",
];

/// An expression that calls what is not there would fail each time it runs; a guard would be false for ever.
fn known_function(name: &str) -> Result<(), String> {
    let operator = !name.starts_with(|c: char| c.is_ascii_alphabetic());
    if operator || FUNCTIONS.contains(&name) {
        return Ok(());
    }
    Err(format!("there is no function `{name}`; {}", nearest(name, FUNCTIONS.into_iter())))
}

/// One walk over the syntax tree: its depth, nesting of comprehensions, and the names it reads.
#[derive(Default)]
struct Survey {
    reads: Reads,
    free: BTreeSet<String>,
    bound: Vec<String>,
    comprehensions: usize,
}

impl Survey {
    fn visit(&mut self, node: &IdedExpr, depth: usize) -> Result<(), String> {
        if depth > DEPTH_MAX {
            return Err(format!("it is nested deeper than {DEPTH_MAX} levels; split it over several fields"));
        }
        match &node.expr {
            Expr::Unspecified | Expr::Literal(_) => Ok(()),
            Expr::Ident(name) => {
                self.read_whole(name);
                Ok(())
            }
            Expr::Select(select) => match &select.operand.expr {
                Expr::Ident(root) if !self.bound.contains(root) => {
                    self.read_field(root, &select.field);
                    Ok(())
                }
                _ => self.visit(&select.operand, depth + 1),
            },
            Expr::Call(call) => {
                known_function(&call.func_name)?;
                let target = call.target.as_deref().into_iter();
                target.chain(&call.args).try_for_each(|part| self.visit(part, depth + 1))
            }
            Expr::List(list) => list.elements.iter().try_for_each(|e| self.visit(e, depth + 1)),
            Expr::Map(map) => self.visit_entries(&map.entries, depth),
            Expr::Struct(made) => self.visit_entries(&made.entries, depth),
            Expr::Comprehension(all) => {
                self.comprehensions += 1;
                if self.comprehensions > 1 {
                    return Err("comprehensions (all, exists, map, filter) may not be nested".into());
                }
                self.visit(&all.iter_range, depth + 1)?;
                let outer = self.bound.len();
                self.bound.extend([all.iter_var.clone(), all.accu_var.clone()]);
                self.bound.extend(all.iter_var2.clone());
                for part in [&all.accu_init, &all.loop_cond, &all.loop_step, &all.result] {
                    self.visit(part, depth + 1)?;
                }
                self.bound.truncate(outer);
                self.comprehensions -= 1;
                Ok(())
            }
        }
    }

    fn visit_entries(&mut self, entries: &[IdedEntryExpr], depth: usize) -> Result<(), String> {
        entries.iter().try_for_each(|entry| match &entry.expr {
            EntryExpr::StructField(field) => self.visit(&field.value, depth + 1),
            EntryExpr::MapEntry(entry) => {
                self.visit(&entry.key, depth + 1)?;
                self.visit(&entry.value, depth + 1)
            }
        })
    }

    fn read_whole(&mut self, name: &str) {
        if self.bound.iter().any(|bound| bound == name) {
            return;
        }
        match name {
            "context" => self.reads.context.whole = true,
            "event" => self.reads.event.whole = true,
            "active" => self.reads.active = true,
            "now" => self.reads.now = true,
            _ => {
                self.free.insert(name.to_owned());
            }
        }
    }

    fn read_field(&mut self, root: &str, field: &str) {
        match root {
            "context" => self.reads.context.names.insert(field.to_owned()),
            "event" => self.reads.event.names.insert(field.to_owned()),
            _ => self.free.insert(root.to_owned()),
        };
    }
}

fn bind(fields: &Fields, read: &FieldsRead) -> Result<CelValue, String> {
    let mut bound: HashMap<Key, CelValue> = HashMap::with_capacity(read.names.len());
    let mut add = |name: &str, value: &Value| -> Result<(), String> {
        bound.insert(Key::String(Arc::new(name.to_owned())), to_cel(value)?);
        Ok(())
    };
    if read.whole {
        fields.iter().try_for_each(|(name, value)| add(name, value))?;
    } else {
        let present = read.names.iter().filter_map(|name| Some((name, fields.get(name)?)));
        present.into_iter().try_for_each(|(name, value)| add(name, value))?;
    }
    Ok(CelValue::Map(CelMap { map: Arc::new(bound) }))
}

/// JSON integers become Int, never UInt: CEL defines no `UInt + Int`.
fn to_cel(value: &Value) -> Result<CelValue, String> {
    Ok(match value {
        Value::Null => CelValue::Null,
        Value::Bool(b) => CelValue::Bool(*b),
        Value::Number(n) => match n.as_i64() {
            Some(int) => CelValue::Int(int),
            None => CelValue::Float(n.as_f64().unwrap_or(f64::MAX)),
        },
        Value::String(s) => CelValue::String(s.clone().into()),
        Value::Array(items) => {
            if items.len() > LIST_ITEMS_MAX {
                return Err(format!("a list of {} items; expressions take {LIST_ITEMS_MAX}", items.len()));
            }
            CelValue::List(items.iter().map(to_cel).collect::<Result<Vec<_>, _>>()?.into())
        }
        Value::Object(fields) => {
            let read = FieldsRead { whole: true, ..FieldsRead::default() };
            bind(fields, &read)?
        }
    })
}

fn to_json(value: &CelValue) -> Result<Value, String> {
    Ok(match value {
        CelValue::Null => Value::Null,
        CelValue::Bool(b) => Value::Bool(*b),
        CelValue::Int(i) => Value::from(*i),
        CelValue::UInt(u) => Value::from(*u),
        CelValue::Float(f) => Value::from(*f),
        CelValue::String(s) => Value::from(s.to_string()),
        CelValue::List(items) => items.iter().map(to_json).collect::<Result<_, _>>()?,
        CelValue::Map(map) => {
            let entry = |(key, value): (&Key, &CelValue)| Ok((key.to_string(), to_json(value)?));
            Value::Object(map.map.iter().map(entry).collect::<Result<_, String>>()?)
        }
        other => return Err(format!("a value that JSON cannot hold: {other:?}")),
    })
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
        let scope = Scope { context: &context, event: &event, active: &active, now };
        Expression::compile(source)?.evaluate(scope)
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
            ("context.n + 'a'", "Int(2)"),
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
            "string(bytes('a'))",
            "bool('true')",
            "type(1) == type(2)",
            "dyn(1)",
        ];
        for (name, call) in FUNCTIONS.iter().zip(calls) {
            assert!(call.contains(name), "{name} {call}");
            assert!(run(call).is_ok(), "{call}: {:?}", run(call));
        }
    }

    #[test]
    fn an_expression_knows_the_fields_it_reads() {
        let expression = Expression::compile("size(context.photos) > 0 && has(event.x)").unwrap();
        let names = |read: &FieldsRead| read.names.iter().cloned().collect::<Vec<_>>();
        assert_eq!(names(&expression.reads().context), ["photos"]);
        assert_eq!(names(&expression.reads().event), ["x"]);
    }
}
