//! Tests against the interpreter of the `cel` crate: random expressions over random contexts give the same result.
//!
//! An error on both sides is the same result. Where the interpreter and the specification of CEL differ, or JSON
//! cannot say what CEL can, we follow the latter, and the generator stays away from it:
//!
//! - `cel` rounds a whole number to compare it with a fraction, so that 2^53 + 1 equals 2^53 as a fraction. The
//!   specification compares on one number line, and so do we. Numbers here are small or at the very ends.
//! - `cel` appends the keys of a map to a list by `+`. The specification knows no such sum; what comes of it is left
//!   out here.
//! - `cel` goes through the keys of a map in no certain order, we in theirs. `map` and `filter` are given lists.
//! - A result that is infinite or no number is null in `cel`'s JSON; for us it is an error.
//! - A whole number of JSON beyond CEL's is a fraction for both. Where we only pass it on, it stays what it was.
//! - `cel`, as the specification, does not calculate with a whole number and a fraction together; we do.
//! - Duplicate names that only arise when keys become text, as in `{1: 0, '1': 1}`: no order is certain in `cel`.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use cel::objects::{Key, Map as CelMap};
use cel::{Context, Env, ExecutionError, Value as CelValue};
use proptest::prelude::{BoxedStrategy, Just, ProptestConfig, Strategy, any, prop_oneof, proptest};
use proptest::{collection, sample};
use serde_json::{Value, json};

use super::{Expression, Fuel, Names, Scope, Type};
use crate::input::Fields;
use crate::time::Timestamp;

static ENVIRONMENT: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(Env::stdlib()));

fn to_cel(value: &Value) -> CelValue {
    match value {
        Value::Null => CelValue::Null,
        Value::Bool(b) => CelValue::Bool(*b),
        Value::Number(number) => match number.as_i64() {
            Some(int) => CelValue::Int(int),
            None => CelValue::Float(number.as_f64().unwrap()),
        },
        Value::String(text) => CelValue::String(text.clone().into()),
        Value::Array(items) => CelValue::List(items.iter().map(to_cel).collect::<Vec<_>>().into()),
        Value::Object(fields) => fields_to_cel(fields),
    }
}

fn fields_to_cel(fields: &Fields) -> CelValue {
    let entry = |(name, value): (&String, &Value)| (Key::String(Arc::new(name.clone())), to_cel(value));
    CelValue::Map(CelMap { map: Arc::new(fields.iter().map(entry).collect::<HashMap<_, _>>()) })
}

/// `None` for what JSON cannot hold.
fn to_json(value: &CelValue) -> Option<Value> {
    Some(match value {
        CelValue::Null => Value::Null,
        CelValue::Bool(b) => Value::Bool(*b),
        CelValue::Int(int) => Value::from(*int),
        CelValue::UInt(unsigned) => Value::from(*unsigned),
        CelValue::Float(double) => Value::Number(serde_json::Number::from_f64(*double)?),
        CelValue::String(text) => Value::from(text.to_string()),
        CelValue::List(items) => items.iter().map(to_json).collect::<Option<_>>()?,
        CelValue::Map(map) => {
            let entry = |(key, value): (&Key, &CelValue)| Some((key.to_string(), to_json(value)?));
            Value::Object(map.map.iter().map(entry).collect::<Option<_>>()?)
        }
        _ => return None,
    })
}

/// `Err(true)` if the error is that a whole number and a fraction were to be calculated with, which we can do.
fn by_cel(source: &str, scope: Scope<'_>) -> Result<Value, bool> {
    let program = ENVIRONMENT.compile(source).unwrap();
    let mut context = Context::with_env(Arc::clone(&ENVIRONMENT));
    context.add_variable_from_value("context", fields_to_cel(scope.context));
    context.add_variable_from_value("event", fields_to_cel(scope.event));
    context.add_variable_from_value("event_name", CelValue::from(scope.event_name));
    context.add_variable_from_value("now", CelValue::Int(scope.now.as_millis()));
    context.add_variable_from_value("x", to_cel(&scope.locals[0]));
    let paths: Vec<CelValue> = scope.active.iter().map(|path| CelValue::from(&**path)).collect();
    context.add_variable_from_value("active", CelValue::List(paths.into()));
    let mixed = |error: &ExecutionError| {
        let number = |value: &CelValue| matches!(value, CelValue::Int(_) | CelValue::Float(_));
        matches!(error, ExecutionError::UnsupportedBinaryOperator(_, a, b) if number(a) && number(b))
    };
    let result = program.execute(&context).map_err(|error| mixed(&error))?;
    to_json(&result).ok_or(false)
}

/// An expression in two forms: as one writes it, and with every literal in `dyn()`, of which no type is known.
#[derive(Clone, Debug)]
struct Written {
    plain: String,
    untyped: String,
}

impl Written {
    fn literal(text: &str) -> Self {
        Self { plain: text.to_owned(), untyped: format!("dyn({text})") }
    }

    fn name(text: &str) -> Self {
        Self { plain: text.to_owned(), untyped: text.to_owned() }
    }

    /// `shape` with the parts in place of its `#`s.
    fn of(shape: &str, parts: &[&Self]) -> Self {
        let fill = |part: fn(&Self) -> &str| {
            let mut parts = parts.iter();
            let text = |c| if c == '#' { part(parts.next().unwrap()).to_owned() } else { String::from(c) };
            shape.chars().map(text).collect::<String>()
        };
        let (plain, untyped) = (fill(|w| &w.plain), fill(|w| &w.untyped));
        Self { plain, untyped }
    }
}

const LITERALS: [&str; 27] = [
    "0",
    "1",
    "2",
    "3",
    "7",
    "-1",
    "9223372036854775807",
    "-9223372036854775808",
    "0u",
    "1u",
    "2u",
    "0.0",
    "1.0",
    "2.5",
    "-1.5",
    "1e300",
    "true",
    "false",
    "null",
    "''",
    "'a'",
    "'b'",
    "'ab'",
    "'Zoë'",
    "'1'",
    "'2.5'",
    "'true'",
];

const NAMES: [&str; 18] = [
    "context.a",
    "context.b",
    "context.c",
    "context.d",
    "event.a",
    "event.b",
    "event.missing",
    "context.d.a",
    "event.b.a",
    "context.c[0]",
    "event_name",
    "now",
    "active",
    "context",
    "event",
    "x",
    "x",
    "x",
];

const UNARY: [&str; 16] = [
    "!#",
    "-(#)",
    "size(#)",
    "#.size()",
    "int(#)",
    "uint(#)",
    "double(#)",
    "string(#)",
    "bool(#)",
    "type(#) == int",
    "type(#) == type(1.5)",
    "(#).a",
    "has((#).a)",
    "[#]",
    "{'a': #}",
    "(#).matches('^[a-z1]+$')",
];

const BINARY: [&str; 24] = [
    "# + #",
    "# - #",
    "# * #",
    "# / #",
    "# % #",
    "# == #",
    "# != #",
    "# < #",
    "# <= #",
    "# > #",
    "# >= #",
    "# && #",
    "# || #",
    "# in #",
    "(#)[#]",
    "(#).contains(#)",
    "(#).startsWith(#)",
    "(#).endsWith(#)",
    "[#, #]",
    "{'a': #, 'b': #}",
    "{#: #}",
    "type(#) == type(#)",
    "# == #",
    "# && #",
];

const FOLDS: [&str; 6] = [
    "(#).all(x, #)",
    "(#).exists(x, #)",
    "(#).exists_one(x, #)",
    "[#, 1, 'a'].map(x, #)",
    "[#, 2, true].filter(x, #)",
    "[#, 3, 'b'].map(x, x != 3, #)",
];

fn written() -> impl Strategy<Value = Written> {
    let leaf = prop_oneof![
        sample::select(LITERALS.as_slice()).prop_map(Written::literal),
        sample::select(NAMES.as_slice()).prop_map(Written::name),
    ];
    leaf.prop_recursive(5, 24, 3, |inner| {
        prop_oneof![
            2 => (sample::select(UNARY.as_slice()), inner.clone())
                .prop_map(|(shape, of)| Written::of(&format!("({shape})"), &[&of])),
            4 => (sample::select(BINARY.as_slice()), inner.clone(), inner.clone())
                .prop_map(|(shape, one, two)| Written::of(&format!("({shape})"), &[&one, &two])),
            1 => (inner.clone(), inner.clone(), inner.clone())
                .prop_map(|(test, yes, no)| Written::of("(# ? # : #)", &[&test, &yes, &no])),
            1 => (sample::select(FOLDS.as_slice()), inner.clone(), inner)
                .prop_map(|(shape, range, step)| Written::of(&format!("({shape})"), &[&range, &step])),
        ]
    })
}

/// A number, text, condition or list of parts of these kinds, by their first letters (`y` is yes or no).
const FITTING: [&[&str]; 4] = [
    &[
        "n + n",
        "n - n",
        "n * n",
        "n / n",
        "n % n",
        "-(n)",
        "size(t)",
        "size(l)",
        "y ? n : n",
        "int(string(n))",
    ],
    &["t + t", "string(n)", "y ? t : t", "string(y)", "{'k': t}.k", "[t, t][n]", "{'a': t, 'b': t}[t]"],
    &[
        "n < n",
        "n == n",
        "n >= n",
        "n <= n",
        "n > n",
        "t >= t",
        "n in context",
        "y in event",
        "t in context && context[t] == n",
        "t < t",
        "t != t",
        "!y",
        "y && y",
        "y || y",
        "n in l",
        "t in l",
        "l == l",
        "t.contains(t)",
        "t.startsWith(t)",
        "(l).all(x, n < n)",
        "(l).exists(x, x == t)",
        "(l).exists(x, x == n)",
        "(l).exists_one(x, x == n)",
        "has({'a': n}.a)",
        "(l).all(x, y || x == 1)",
        "has(context.t)",
        "y ? y : y",
    ],
    &[
        "l + l",
        "[n, n]",
        "[t]",
        "(l).filter(x, x == n || y)",
        "(l).map(x, [x, n])",
        "y ? l : l",
        "(l).map(x, y, t)",
    ],
];

/// Expressions whose types fit, so that most have a value: whole numbers, texts, conditions and lists.
fn fitting(depth: u32) -> [BoxedStrategy<Written>; 4] {
    let pick = |literals: &'static [&str], names: &'static [&str]| {
        prop_oneof![
            sample::select(literals).prop_map(Written::literal),
            sample::select(names).prop_map(Written::name)
        ]
    };
    let leaves = [
        pick(&["0", "1", "-2", "9223372036854775807"], &["context.n", "event.n", "now"]).boxed(),
        pick(&["''", "'a'", "'Zoë'"], &["context.t", "event.t", "event_name"]).boxed(),
        pick(&["true", "false"], &["context.y", "event.y"]).boxed(),
        pick(&["[]", "[1, 2]", "['a', 'b', 1.5]"], &["context.l", "event.l", "active"]).boxed(),
    ];
    if depth == 0 {
        return leaves;
    }
    let inner = fitting(depth - 1);
    [0, 1, 2, 3].map(|kind| {
        let leaf = leaves[kind].clone();
        let inner = inner.clone();
        let shaped = sample::select(FITTING[kind]).prop_flat_map(move |shape| {
            let places = parts_of(shape);
            let parts: Vec<_> = places.iter().map(|(_, kind)| inner[*kind].clone()).collect();
            let mut marked = shape.to_owned();
            places.iter().for_each(|(at, _)| marked.replace_range(*at..=*at, "#"));
            parts
                .prop_map(move |parts| Written::of(&format!("({marked})"), &parts.iter().collect::<Vec<_>>()))
        });
        prop_oneof![1 => leaf, 4 => shaped].boxed()
    })
}

/// Where in a shape a single letter stands for a part, and of which kind that is.
fn parts_of(shape: &str) -> Vec<(usize, usize)> {
    let is_part = |at: usize| {
        let joins = |c: char| c.is_alphanumeric() || "_.'".contains(c);
        !shape[..at].ends_with(joins) && !shape[at + 1..].starts_with(|c| c != '.' && joins(c))
    };
    let part = |(at, c): (usize, char)| Some((at, "ntyl".find(c).filter(|_| is_part(at))?));
    shape.char_indices().filter_map(part).collect()
}

fn fitting_fields() -> impl Strategy<Value = Fields> {
    let list = collection::vec(
        prop_oneof![(0_i64..3).prop_map(Value::from), Just(json!("a")), Just(json!(1.0))],
        0..4,
    );
    (0_i64..4, sample::select(vec!["", "a", "Zoë"]), any::<bool>(), list).prop_map(|(n, t, y, l)| {
        let Value::Object(fields) = json!({"n": n, "t": t, "y": y, "l": l}) else { unreachable!() };
        fields
    })
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-3_i64..4).prop_map(Value::from),
        sample::select(vec![json!(0.5), json!(2.0), json!(i64::MAX), json!(i64::MIN)]),
        sample::select(vec!["", "a", "b", "ab", "Zoë", "1"]).prop_map(Value::from),
    ];
    leaf.prop_recursive(2, 8, 3, |inner| {
        prop_oneof![
            collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            collection::btree_map("[ab]", inner, 0..3).prop_map(|map| map.into_iter().collect()),
        ]
    })
}

fn fields() -> impl Strategy<Value = Fields> {
    collection::btree_map("[abcd]", value(), 1..5).prop_map(|map| map.into_iter().collect())
}

fn compare_with_cel(written: &Written, context: &Fields, event: &Fields, x: Value) {
    let active: [Arc<str>; 2] = ["a".into(), "b".into()];
    let (now, locals) = (Timestamp::from_millis(3), [x]);
    let scope =
        Scope { context, event, event_name: "a", active: &active, now, locals: &locals, before: None };
    let known = [("x".to_owned(), Type::ANY)];
    let names = Names { locals: &known, ..Names::default() };
    for source in [&written.plain, &written.untyped] {
        let Ok(expression) = Expression::compile(source, &names) else { continue };
        let ours = expression.evaluate_with(scope, &mut Fuel::new(1_000_000));
        if ours.as_ref().is_err_and(|error| error.contains("not a list and an object")) {
            continue;
        }
        let theirs = by_cel(source, scope);
        if theirs != Err(true) {
            assert_eq!(ours.as_ref().ok(), theirs.as_ref().ok(), "{source}: {ours:?}");
        }
        let tested = expression.test_with(scope, &mut Fuel::new(1_000_000));
        assert_eq!(tested.ok(), ours.ok().and_then(|value| value.as_bool()), "{source} as a guard");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2048, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn results_are_those_of_cel(written in written(), context in fields(), event in fields(), x in value()) {
        compare_with_cel(&written, &context, &event, x);
    }

    #[test]
    fn results_of_what_fits_are_those_of_cel(
        written in any_of(fitting(3)),
        context in fitting_fields(),
        event in fitting_fields(),
    ) {
        compare_with_cel(&written, &context, &event, Value::Null);
    }
}

fn any_of(kinds: [BoxedStrategy<Written>; 4]) -> impl Strategy<Value = Written> {
    let [one, two, three, four] = kinds;
    prop_oneof![one, two, three, four]
}
