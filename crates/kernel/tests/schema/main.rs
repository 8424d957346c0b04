//! What the JSON Schema of definitions takes and refuses, beside what the reader does.
//!
//! That it is a schema at all, an editor says; that its keys are the reader's, the tests beside it.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod subset;

use std::fs;
use std::path::{Path, PathBuf};

use kernel::definition::document;
use kernel::definition::schema::SCHEMA;
use kernel::diagnostic::Severity;
use regex::Regex;
use serde_json::Value;

use crate::subset::problems;

fn schema() -> Value {
    serde_json::from_str(SCHEMA).unwrap()
}

fn directory(below: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(below)
}

fn files(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files(&path, found) } else { found.push(path) }
    }
}

fn tree(source: &str) -> Option<Value> {
    document::read(source).ok().map(|node| node.to_json())
}

/// What stands where a definition might, made a whole one: cases share what comes before and after.
fn completed(mut value: Value) -> Option<Value> {
    let map = value.as_object_mut()?;
    map.get("states")?.as_object()?;
    map.entry("machine").or_insert_with(|| "m".into());
    let context = map.entry("context").or_insert_with(|| serde_json::json!({}));
    for name in ["log", "n", "text", "seen"] {
        context.as_object_mut()?.entry(name).or_insert_with(|| serde_json::json!({}));
    }
    for name in ["pass", "fail"] {
        let end = serde_json::json!({ "type": "final" });
        map["states"].as_object_mut()?.entry(name).or_insert(end);
    }
    Some(value)
}

fn candidates_in(value: &Value, found: &mut Vec<Value>) {
    if value.get("states").is_some() || value.get("phases").is_some() {
        found.push(value.clone());
        found.extend(completed(value.clone()));
    }
    match value {
        Value::Array(items) => items.iter().for_each(|item| candidates_in(item, found)),
        Value::Object(entries) => entries.values().for_each(|item| candidates_in(item, found)),
        _ => {}
    }
}

/// Every text in the tests' source, and every tree in their files, that may be a definition.
fn candidates() -> Vec<Value> {
    let mut paths = Vec::new();
    for below in ["tests", "src", "../../machines", "../engine/tests", "../engine/src", "../app/tests"] {
        files(&directory(below), &mut paths);
    }
    let literal = Regex::new(r##"(?s)r#"(.*?)"#|"((?:[^"\\]|\\.)*)""##).unwrap();
    let continued = Regex::new(r"\\\n\s*").unwrap();
    let mut found = Vec::new();
    for path in paths {
        let extension = path.extension().unwrap_or_default().to_string_lossy().into_owned();
        let text = fs::read_to_string(&path).unwrap_or_default();
        if extension == "yaml" {
            tree(&text).iter().for_each(|value| candidates_in(value, &mut found));
        } else if extension == "rs" {
            for literal in literal.captures_iter(&text) {
                let plain = literal.get(2).map(|text| {
                    let joined = continued.replace_all(text.as_str(), "").into_owned();
                    joined.replace("\\n", "\n").replace("\\\"", "\"").replace("\\\\", "\\")
                });
                let text = plain.unwrap_or_else(|| literal[1].to_owned());
                if text.contains("states") || text.contains("phases") {
                    tree(&text).iter().for_each(|value| candidates_in(value, &mut found));
                }
            }
        }
    }
    found
}

/// What the reader says of a tree: the codes of its errors.
fn errors(value: &Value) -> Vec<&'static str> {
    let (_, diagnostics) = kernel::definition::load(&value.to_string());
    diagnostics.iter().filter(|d| d.severity == Severity::Error).map(|d| d.code).collect()
}

#[test]
fn what_loads_is_valid() {
    let schema = schema();
    let mut loaded = 0;
    for value in candidates().iter().filter(|value| errors(value).is_empty()) {
        loaded += 1;
        let problems = problems(&schema, value);
        assert!(problems.is_empty(), "{value:#}\n{}", problems.join("\n"));
    }
    assert!(loaded > 200, "only {loaded} definitions were found");
}

#[test]
fn what_is_misshapen_is_refused() {
    // What a schema can see, if not in every case of it.
    let visible = [
        "unknown_key",
        "missing_key",
        "wrong_type",
        "bad_value",
        "bad_name",
        "bad_delay",
        "illegal_state",
        "idle_intent",
    ];
    let mut paths = Vec::new();
    files(&directory("tests/diagnostics"), &mut paths);
    let mut refused = 0;
    for path in paths.iter().filter(|path| path.extension().is_some_and(|e| e == "yaml")) {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let Some(value) = tree(&fs::read_to_string(path).unwrap()) else { continue };
        // That a state of a kind needs something is not told by its shape.
        if visible.contains(&name.split('.').next().unwrap()) && name != "missing_key.shape" {
            refused += 1;
            assert!(!problems(&schema(), &value).is_empty(), "{name}");
        }
    }
    assert!(refused >= visible.len(), "only {refused} cases were found");
}

/// One mistake each, in an otherwise sound definition.
const MISTAKES: [(&str, &str); 47] = [
    ("unknown key", "states: { a: { onn: {} } }"),
    ("unknown key of a transition", "states: { a: { on: { go: { traget: a } } } }"),
    ("unknown key of an action", "states: { a: { entry: { asign: {} } } }"),
    ("unknown key of a call", "states: { a: { invoke: { src: s, retry: 3 } } }"),
    ("unknown key of a raised event", "states: { a: { entry: { raise: { event: e, after: 5m } } } }"),
    ("unknown key of a field", "context: { f: { typ: string } }"),
    ("unknown key of a section", "conversation: { intent: {} }"),
    ("unknown key of an intent", "conversation: { intents: { i: { priority: P4, phrase: [x] } } }"),
    ("unknown key of a reply", "conversation: { replies: { r: { text: x, option: [] } } }"),
    ("unknown key of an initial", r#"initial: { target: a, guard: "true" }"#),
    ("name with a blank", r#"context: { "my field": {} }"#),
    ("name that begins with a digit", "states: { a: {}, 2nd: {} }"),
    ("name with a dot", "conversation: { replies: { a.b: x } }"),
    ("event with an empty word", "states: { a: { on: { a..b: a } } }"),
    ("event with a star in it", "states: { a: { on: { press*: a } } }"),
    ("timer's event", "states: { a: { on: { after.1h: a } } }"),
    ("raised wildcard", r#"states: { a: { entry: { raise: "a.*" } } }"#),
    ("delay without a unit", "states: { a: { after: { 1h30: a } } }"),
    ("delay of nothing", "states: { a: { after: { 0s: a } } }"),
    ("timeout of nothing", "states: { a: { invoke: { src: s, timeout: 0m } } }"),
    ("raised with a broken delay", "states: { a: { entry: { raise: { event: e, delay: 5minutes } } } }"),
    ("id without a delay", "states: { a: { entry: { raise: { event: e, id: i } } } }"),
    ("condition without a branch", r#"states: { a: { entry: { if: "true" } } }"#),
    ("branch without a condition", "states: { a: { on: { go: { then: {} } } } }"),
    ("loop without a list", "states: { a: { entry: { do: {} } } }"),
    ("call without a source", "states: { a: { invoke: { id: i } } }"),
    ("children without a beginning", "states: { a: { states: { b: {} } } }"),
    ("parallel state with a beginning", "states: { a: { type: parallel, initial: b, states: { b: {} } } }"),
    ("final state with a transition", "states: { a: {}, b: { type: final, on: { go: a } } }"),
    ("history without a target", "states: { a: { initial: b, states: { b: {}, h: { type: history } } } }"),
    ("history of no history state", "states: { a: { history: deep } }"),
    ("target of a plain state", "states: { a: { target: a } }"),
    ("output of a plain state", "states: { a: { output: { n: 1 } } }"),
    ("guard that is no text", "states: { a: { on: { go: { guard: true } } } }"),
    ("transition that is a number", "states: { a: { on: { go: 5 } } }"),
    ("version that is a text", "version: one"),
    ("version that is too large", "version: 1000001"),
    ("kind of state", "states: { a: { type: paralel } }"),
    ("kind of field", "context: { f: { type: text } }"),
    ("kind of input", "states: { a: { accepts: [video] } }"),
    ("step of the ladder", "conversation: { ladder: [shout] }"),
    ("share above one", "conversation: { thresholds: { confidence: 70 } }"),
    ("attempts", "conversation: { clarification: { attempts: 11 } }"),
    ("draft without fields", "conversation: { draft: { key: f } }"),
    ("intent without a priority", "conversation: { intents: { i: { event: go } } }"),
    ("intent that does nothing", "conversation: { intents: { i: { priority: P1, hand_over: false } } }"),
    ("reply without a text", "conversation: { replies: { r: {} } }"),
];

/// As `MISTAKES`, of a flow.
const MISTAKES_OF_FLOWS: [(&str, &str); 22] = [
    ("key of a machine", "states: { a: {} }"),
    ("machine too", "machine: m"),
    ("unknown key of a phase", "phases: { a: { need: b } }"),
    ("unknown key of a gate", "phases: { a: { approval: { who: b } } }"),
    ("unknown key of a retry", "phases: { a: { retry: { tries: 3 } } }"),
    ("unknown key of a milestone", "phases: { a: { milestone: { status: b, at: begun } } }"),
    ("unknown recipe", "phases: { a: { on_error: { X: ignore } } }"),
    ("unknown key of a recipe", "on_error: { X: { roll_back: a } }"),
    ("no phases", "phases: {}"),
    ("name with a blank", "phases: { a b: {} }"),
    ("name of a milestone", "phases: { a: { milestone: not yet } }"),
    ("time of a milestone", "phases: { a: { milestone: { status: b, when: finished } } }"),
    ("weight of nothing", "phases: { a: { weight: 0 } }"),
    ("no attempts", "phases: { a: { retry: 0 } }"),
    ("factor below one", "phases: { a: { retry: { factor: 0.5 } } }"),
    ("delay without a unit", "phases: { a: { timeout: 30 } }"),
    ("gate for nobody", "phases: { a: { approval: { by: [] } } }"),
    ("word for who does it", "phases: { a: { run: machine } }"),
    ("nobody who does it", "phases: { a: { run: {} } }"),
    ("two who do it", "phases: { a: { run: { worker: w, http: h } } }"),
    ("input of no call", "phases: { a: { run: { worker: w, input: { n: 1 } } } }"),
    ("condition that is a number", "phases: { a: { when: 5 } }"),
];

const MACHINE: &str = "{ machine: m, initial: a, states: { a: {} } }";
const FLOW: &str = "{ flow: f, phases: { a: {} } }";

#[test]
fn one_mistake_is_enough() {
    let of_machines = MISTAKES.iter().map(|mistake| (MACHINE, mistake));
    for (sound, (what, written)) in of_machines.chain(MISTAKES_OF_FLOWS.iter().map(|mistake| (FLOW, mistake)))
    {
        let sound = tree(sound).unwrap();
        assert_eq!(problems(&schema(), &sound), Vec::<String>::new());
        let mut value = sound;
        for (key, part) in tree(written).unwrap().as_object().unwrap() {
            value[key.as_str()] = part.clone();
        }
        assert!(!errors(&value).is_empty(), "{what} is no mistake to the reader");
        assert!(!problems(&schema(), &value).is_empty(), "{what} passes");
    }
}

/// Forms that hardly anybody writes, and that load.
const ODDITIES: [&str; 21] = [
    "states: { a: }",
    "states: { a: { on: , after: , always: , entry: , exit: , states: , invoke: } }",
    "states: { a: { on: { go: } } }",
    "states: { a: { on: { go: [] , 5: a, 'a-1.b_2.*': a, '*': a } } }",
    "states: { a: { after: { ' 1h30m ': a, 01s: a } } }",
    "states: { a: { entry: [{}, null, { assign: , reply: [], raise: , cancel: } ] } }",
    "states: { a: { entry: { raise: [e, { event: f, data: , delay: size(active) * 1000 }] } }, b: { on: { e: a, f: a } } }",
    "states: { a: { target: [], actions: [], output: } }",
    "states: { a: {}, b: { type: final, on: {}, always: [], invoke: [], output: { n: 1 } } }",
    "states: { a: { type: atomic, initial: } }",
    "{ initial: [a], states: { a: {} } }",
    "{ initial: { target: [a], actions: }, states: { a: {} } }",
    "{ initial: état, states: { état: { type: parallel, states: { _: {}, 東京-1: } } } }",
    "{ type: parallel, initial: [], states: { a: {} } }",
    "context: { n: , m: { type: number, default: 5 }, o: { required: true, default: null } }",
    "context:",
    "events: [e, f.g]",
    "conversation:",
    "conversation: { thresholds: { confidence: 1 }, clarification: , ladder: menu, locales: fr, intents: , replies: }",
    "conversation: { replies: { r: { text: { en: x }, options: }, s: { fr: y } } }",
    "conversation: { intents: { i: { priority: P4, label: { en: i }, phrases: { en: x, fr: [y] }, entity: } } }",
];

const ODDITIES_OF_FLOWS: [&str; 7] = [
    "phases: { a: , b: { needs: , on_error: , approval: , retry: , output: } }",
    "phases: { a: { needs: [] }, b: { needs: a, weight: 0.5, when: true } }",
    "phases: { a: { approval: false, validation: { by: [x, y], expires_after: 1d12h, four_eyes: true } } }",
    "phases: { a: { milestone: { status: ready }, retry: { factor: 1 }, on_error: { '*': fail, any thing: retry } } }",
    "phases: { a: { run: { flow: other, context: } }, b: { run: { http: x.y, input: { n: 1 } } }, c: { run: { wait_for: \"'x'\" } } }",
    "{ context: , on_error: , version: 3, description: text }",
    "phases: { état: { boolean: Étape faite, description: first }, _-1: { lease: 100ms } }",
];

#[test]
fn what_is_odd_and_loads_is_valid_too() {
    let of_machines = ODDITIES.iter().map(|written| (MACHINE, written));
    for (sound, written) in of_machines.chain(ODDITIES_OF_FLOWS.iter().map(|written| (FLOW, written))) {
        let mut value = tree(sound).unwrap();
        for (key, part) in tree(written).unwrap().as_object().unwrap() {
            value[key.as_str()] = part.clone();
        }
        assert_eq!(errors(&value), Vec::<&str>::new(), "{written}");
        assert_eq!(problems(&schema(), &value), Vec::<String>::new(), "{written}");
    }
}
