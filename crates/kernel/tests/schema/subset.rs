//! As much of JSON Schema as the schema of definitions uses, to try it on definitions. A keyword that is not known here
//! is a failure, so that none goes untried.

use std::cell::RefCell;
use std::collections::HashMap;

use regex::Regex;
use serde_json::{Map, Value};

/// What is wrong with `value`, each with its place.
pub fn problems(root: &Value, value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    check(root, root, value, "", &mut found);
    found
}

fn is_valid(root: &Value, schema: &Value, value: &Value) -> bool {
    let mut found = Vec::new();
    check(root, schema, value, "", &mut found);
    found.is_empty()
}

fn check(root: &Value, schema: &Value, value: &Value, place: &str, found: &mut Vec<String>) {
    let keywords = match schema {
        Value::Bool(true) => return,
        Value::Bool(false) => return found.push(format!("{place}: nothing may stand here")),
        schema => schema.as_object().unwrap(),
    };
    for (keyword, argument) in keywords {
        let good = match keyword.as_str() {
            // The last is the YAML language server's own.
            "$schema" | "title" | "description" | "examples" | "default" | "$defs" | "then" | "else"
            | "doNotSuggest" => true,
            "$ref" => {
                let named = root.pointer(argument.as_str().unwrap().strip_prefix('#').unwrap()).unwrap();
                check(root, named, value, place, found);
                true
            }
            "not" => !is_valid(root, argument, value),
            "anyOf" => items(argument).iter().any(|part| is_valid(root, part, value)),
            "allOf" => {
                items(argument).iter().for_each(|part| check(root, part, value, place, found));
                true
            }
            "if" => {
                let branch = if is_valid(root, argument, value) { "then" } else { "else" };
                if let Some(branch) = keywords.get(branch) {
                    check(root, branch, value, place, found);
                }
                true
            }
            _ => holds(keyword, argument, value),
        };
        if !good {
            found.push(format!("{place}: {value} against {keyword}: {argument}"));
        }
    }
    match value {
        Value::Object(entries) => check_entries(root, keywords, entries, place, found),
        Value::Array(values) => {
            for (at, value) in values.iter().enumerate() {
                let schema = keywords.get("items").unwrap_or(&Value::Bool(true));
                check(root, schema, value, &format!("{place}/{at}"), found);
            }
        }
        _ => {}
    }
}

/// Keywords that look at a value alone.
fn holds(keyword: &str, argument: &Value, value: &Value) -> bool {
    let number = |value: &Value| value.as_f64().unwrap();
    let limit = || usize::try_from(argument.as_u64().unwrap()).unwrap();
    match (keyword, value) {
        ("type", value) => match argument {
            Value::Array(types) => types.iter().any(|kind| is_of_type(kind, value)),
            kind => is_of_type(kind, value),
        },
        ("enum", value) => items(argument).contains(value),
        ("const", value) => argument == value,
        ("exclusiveMinimum", Value::Number(_)) => number(value) > number(argument),
        ("minimum", Value::Number(_)) => number(value) >= number(argument),
        ("maximum", Value::Number(_)) => number(value) <= number(argument),
        ("maxLength", Value::String(text)) => text.chars().count() <= limit(),
        ("pattern", Value::String(text)) => matches(argument.as_str().unwrap(), text),
        ("minItems", Value::Array(items)) => items.len() >= limit(),
        ("maxItems", Value::Array(items)) => items.len() <= limit(),
        ("minProperties", Value::Object(entries)) => entries.len() >= limit(),
        ("maxProperties", Value::Object(entries)) => entries.len() <= limit(),
        ("required", Value::Object(entries)) => all_in(entries, argument),
        ("dependentRequired", Value::Object(entries)) => {
            let with = argument.as_object().unwrap();
            with.iter().all(|(key, others)| !entries.contains_key(key) || all_in(entries, others))
        }
        (
            "exclusiveMinimum" | "minimum" | "maximum" | "maxLength" | "pattern" | "minItems" | "maxItems"
            | "minProperties" | "maxProperties" | "required" | "dependentRequired",
            _,
        ) => true,
        // Those of `check_entries` and of lists.
        ("properties" | "patternProperties" | "additionalProperties" | "propertyNames" | "items", _) => true,
        (unknown, _) => panic!("`{unknown}` is not tried here yet"),
    }
}

fn check_entries(
    root: &Value,
    keywords: &Map<String, Value>,
    entries: &Map<String, Value>,
    place: &str,
    found: &mut Vec<String>,
) {
    let object = |keyword: &str| keywords.get(keyword).and_then(Value::as_object);
    for (key, value) in entries {
        let place = format!("{place}/{key}");
        if let Some(names) = keywords.get("propertyNames") {
            check(root, names, &Value::from(key.as_str()), &place, found);
        }
        let own = object("properties").and_then(|properties| properties.get(key));
        let patterns = object("patternProperties").into_iter().flatten();
        let by_pattern = patterns.filter(|(pattern, _)| matches(pattern, key)).map(|(_, schema)| schema);
        let mut schemas: Vec<&Value> = own.into_iter().chain(by_pattern).collect();
        if schemas.is_empty() {
            schemas.extend(keywords.get("additionalProperties"));
        }
        schemas.into_iter().for_each(|schema| check(root, schema, value, &place, found));
    }
}

fn is_of_type(kind: &Value, value: &Value) -> bool {
    match kind.as_str().unwrap() {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.as_f64().is_some_and(|number| number.fract() == 0.0),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        unknown => panic!("`{unknown}` is no type"),
    }
}

fn items(argument: &Value) -> &[Value] {
    argument.as_array().unwrap()
}

fn all_in(entries: &Map<String, Value>, keys: &Value) -> bool {
    items(keys).iter().all(|key| entries.contains_key(key.as_str().unwrap()))
}

fn matches(pattern: &str, text: &str) -> bool {
    thread_local! {
        static COMPILED: RefCell<HashMap<String, Regex>> = RefCell::default();
    }
    COMPILED.with_borrow_mut(|compiled| {
        let new = || Regex::new(pattern).unwrap();
        compiled.entry(pattern.to_owned()).or_insert_with(new).is_match(text)
    })
}
