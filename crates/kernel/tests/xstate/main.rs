//! Machines of XState beside the definitions that they become, and what is noted on the way.
//!
//! With `UPDATE_EXPECTED=1` the expected files are written anew, to be read before they are committed.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use kernel::chart::{StateIndex, Transition};
use kernel::definition::load;
use kernel::diagnostic::Severity;
use kernel::xstate::{Json, Note, Unexported, export, import};

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/xstate")
}

/// The names of the cases of one kind, without the extension.
fn cases(extension: &str) -> BTreeSet<String> {
    let files = fs::read_dir(directory()).unwrap();
    let name = |file: fs::DirEntry| file.file_name().into_string().unwrap();
    files.filter_map(|file| name(file.unwrap()).strip_suffix(extension).map(str::to_owned)).collect()
}

fn source(file: &str) -> String {
    fs::read_to_string(directory().join(file)).unwrap()
}

fn machine(case: &str) -> String {
    source(&format!("{case}.json"))
}

fn lines(notes: &[Note]) -> String {
    notes.iter().fold(String::new(), |mut text, note| {
        let _ = writeln!(text, "{note}");
        text
    })
}

fn errors(name: &str, definition: &str) -> String {
    let (_, diagnostics) = load(definition);
    let errors = diagnostics.iter().filter(|d| d.severity == Severity::Error);
    errors.fold(String::new(), |text, error| text + &error.render(name, definition) + "\n")
}

/// Says how `shown` differs from the file, or writes it there.
fn compare(file: &str, shown: &str, wrong: &mut String) {
    let path = directory().join(file);
    if std::env::var_os("UPDATE_EXPECTED").is_some() {
        fs::write(&path, shown).unwrap();
    } else if fs::read_to_string(&path).unwrap_or_default() != shown {
        let _ = writeln!(wrong, "{file} should be\n\n{shown}");
    }
}

#[test]
fn machines_become_definitions_and_what_they_lose_is_noted() {
    let mut wrong = String::new();
    for case in cases(".json") {
        let imported = import(&machine(&case)).unwrap_or_else(|problem| panic!("{case}: {problem}"));
        compare(&format!("{case}.yaml.expected"), &imported.definition, &mut wrong);
        compare(&format!("{case}.notes.expected"), &lines(&imported.notes), &mut wrong);
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn imported_definitions_load() {
    for case in cases(".json") {
        let imported = import(&machine(&case)).unwrap();
        let errors = errors(&case, &imported.definition);
        assert!(errors.is_empty(), "{errors}\n{}", imported.definition);
    }
}

#[test]
fn definitions_become_machines_and_what_they_lose_is_noted() {
    let mut wrong = String::new();
    for case in cases(".yaml") {
        let definition = source(&format!("{case}.yaml"));
        let exported = export(&definition).unwrap_or_else(|_| panic!("{}", errors(&case, &definition)));
        compare(&format!("{case}.machine.expected"), &exported.machine.to_text(), &mut wrong);
        compare(&format!("{case}.notes.expected"), &lines(&exported.notes), &mut wrong);
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// A definition's states and transitions, as they run.
fn chart(name: &str, definition: &str) -> Vec<String> {
    let (machine, _) = load(definition);
    let machine = machine.unwrap_or_else(|| panic!("{}\n{definition}", errors(name, definition)));
    let chart = machine.chart;
    let path = |state: StateIndex| chart.state(state).path.to_string();
    let states = chart.states.iter().map(|state| {
        let initial: Vec<String> = state.initial.iter().map(|state| path(*state)).collect();
        let (entry, exit) = (state.entry.len(), state.exit.len());
        format!("{} {:?} {initial:?} {entry} {exit} {:?}", state.path, state.kind, state.reason)
    });
    let transitions = chart.transitions.iter().map(|transition| {
        let targets: Vec<String> = transition.targets.iter().map(|state| path(*state)).collect();
        let guard = transition.guard.as_ref().map(|guard| &guard.source);
        let Transition { event, reenter, reason, loop_normal, .. } = transition;
        let (source, actions) = (path(transition.source), transition.actions.len());
        format!("{source} {event} {guard:?} {targets:?} {actions} {reenter} {reason:?} {loop_normal}")
    });
    let mut lines: Vec<String> = states.chain(transitions).collect();
    lines.sort();
    lines
}

#[test]
fn an_exported_definition_imports_as_the_same_machine() {
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../machines/progress_update.yaml");
    let mut definitions = vec![("progress_update".to_owned(), fs::read_to_string(shipped).unwrap())];
    definitions
        .extend(cases(".yaml").into_iter().map(|case| (case.clone(), source(&format!("{case}.yaml")))));
    let imported =
        cases(".json").into_iter().map(|case| (case.clone(), import(&machine(&case)).unwrap().definition));
    definitions.extend(imported);
    for (name, definition) in definitions {
        let exported =
            export(&definition).unwrap_or_else(|_| panic!("{}", errors(&name, &definition))).machine;
        let again = import(&exported.to_text()).unwrap().definition;
        assert_eq!(chart(&name, &again), chart(&name, &definition), "{name}\n{}{again}", exported.to_text());
        // But for the order of events, which XState does not look at.
        let value = |machine: &Json| serde_json::to_value(machine).unwrap();
        assert_eq!(value(&export(&again).unwrap().machine), value(&exported), "{name}");
    }
}

#[test]
fn a_flow_is_not_exported() {
    let flow = "flow: f\nphases: { a: {}, b: { needs: a } }";
    assert!(matches!(export(flow), Err(Unexported::Flow)));
    assert!(matches!(export("flow: f\nphases: { a: 5 }"), Err(Unexported::Errors(_))));
}

#[test]
fn what_is_no_machine_is_refused() {
    let states = |count: usize| {
        let states: Vec<String> = (0..count).map(|n| format!("\"s{n}\": {{}}")).collect();
        format!("{{\"states\": {{{}}}}}", states.join(","))
    };
    let nested = |depth: usize| {
        let (open, close) = ("{\"states\":{\"a\":".repeat(depth), "}}".repeat(depth));
        format!("{open}{{}}{close}")
    };
    for (source, problem) in [
        (String::new(), "not valid JSON"),
        ("[".repeat(100_000), "not valid JSON: recursion limit"),
        ("{\"states\":".repeat(100_000), "not valid JSON: recursion limit"),
        ("[]".to_owned(), "not an array"),
        ("null".to_owned(), "not null"),
        ("{}".to_owned(), "neither `states` nor `on`"),
        (" ".repeat(2 * 1024 * 1024), "split it"),
        (states(2_000), "more states than"),
        (nested(33), "nested deeper than 32"),
    ] {
        let found = import(&source).map(|imported| imported.definition).unwrap_err();
        assert!(found.contains(problem), "{found}");
    }
    for source in [states(1_999), nested(32)] {
        assert_eq!(errors("m", &import(&source).unwrap().definition), "");
    }
}

/// As much of one thing as fits, in names that all become the same one: each is answered soon.
#[test]
fn machines_that_multiply_do_not_stall() {
    let many = |count: u32, entry: &dyn Fn(String) -> String| {
        // Distinct texts of letters that no name may have.
        let name = |n: u32| {
            char::from_u32(0x2200 + n % 250).into_iter().chain(char::from_u32(0x2200 + n / 250)).collect()
        };
        (0..count).map(|n| entry(name(n))).collect::<Vec<String>>().join(",")
    };
    for source in [
        format!("{{\"on\": {{{}}}}}", many(5_000, &|name| format!("\"{name}\": {{}}"))),
        format!("{{\"states\": {{{}}}}}", many(1_999, &|name| format!("\"{name}\": {{}}"))),
        format!("{{\"on\": {{}}, \"context\": {{{}}}}}", many(5_000, &|name| format!("\"{name}\": 1"))),
        format!("{{\"invoke\": [{}]}}", many(5_000, &|name| format!("{{\"src\": \"{name}\"}}"))),
        format!("{{\"after\": {{{}}}}}", many(5_000, &|name| format!("\"{name}\": {{}}"))),
    ] {
        assert!(import(&source).is_ok(), "{}", &source[..100]);
    }
}

#[test]
fn definition_with_an_error_is_not_exported() {
    let diagnostics = export("machine: m\ninitial: a\nstates: { a: { on: { go: b } } }\n").unwrap_err();
    let Unexported::Errors(diagnostics) = diagnostics else { panic!("{diagnostics:?}") };
    assert!(diagnostics.iter().any(|d| d.code == "unknown_target"), "{diagnostics:?}");
}

/// Every value below `json`, replaced one at a time.
fn mutants(json: &Json, replacements: &[Json]) -> Vec<Json> {
    let replaced = |entries: &[Json], rebuild: &dyn Fn(Vec<Json>) -> Json| {
        let mut all = Vec::new();
        for (at, entry) in entries.iter().enumerate() {
            for mutant in replacements.iter().cloned().chain(mutants(entry, replacements)) {
                let mut entries = entries.to_vec();
                entries[at] = mutant;
                all.push(rebuild(entries));
            }
        }
        all
    };
    match json {
        Json::List(items) => replaced(items, &|items| Json::List(items)),
        Json::Map(entries) => {
            let (keys, values): (Vec<String>, Vec<Json>) = entries.iter().cloned().unzip();
            replaced(&values, &|values| Json::Map(keys.iter().cloned().zip(values).collect()))
        }
        _ => Vec::new(),
    }
}

/// Whatever stands anywhere, the import ends with a definition that loads, or says why there is none.
#[test]
fn a_wrong_value_anywhere_still_leaves_a_definition_that_loads() {
    let replacements = ["\"\"", "[7, { \"type\": \"x\" }]"].map(|text| Json::parse(text).unwrap());
    for case in cases(".json") {
        for mutant in mutants(&Json::parse(&machine(&case)).unwrap(), &replacements) {
            let text = mutant.to_text();
            // What is no machine any more may be refused.
            let Ok(imported) = import(&text) else { continue };
            let errors = errors(&case, &imported.definition);
            assert!(errors.is_empty(), "{errors}\n{text}");
        }
    }
}
