//! Which states and transitions a story counts as having been through.

use std::fs;

use engine::story::{Coverage, Element, run};
use tempfile::TempDir;

const MACHINE: &str = "\
machine: m
initial: a
on:
  reset: a
states:
  a:
    on:
      go: [{ guard: 'has(event.far)', target: c.d }, b]
      fail: { target: b, guard: event.x }
  b:
    always: c
  c:
    initial: d
    states:
      d: { on: { next: e } }
      e: {}
      h: { type: history, target: d }
    after: { 1m: f }
  f: { always: g, initial: q, states: { q: {} } }
  g: {}
";

fn coverage_of(machine: &str, steps: &str) -> Coverage {
    let directory = TempDir::new().unwrap();
    fs::write(directory.path().join("m.yaml"), machine).unwrap();
    let stories = format!("machine: m.yaml\nstories:\n  - story: one\n    {steps}\n");
    let path = directory.path().join("m.stories.yaml");
    fs::write(&path, stories).unwrap();
    run(&path).unwrap_or_else(|error| panic!("{error}")).coverage
}

fn labels(elements: &[Element]) -> String {
    let covered = elements.iter().filter(|element| element.covered);
    covered.map(|element| element.label.as_str()).collect::<Vec<_>>().join("; ")
}

const FLOW: &str = "\
flow: m
context: { n: { type: integer, default: 0 } }
phases:
  a: { approval: true, retry: 2 }
  b: { needs: [a], validation: true, approval: true }
  c: { needs: [a], when: context.n > 0 }
";

/// What its definition provides for, and no more.
#[test]
fn a_story_of_a_flow_covers_phases_and_their_steps() {
    let steps =
        "steps: [{ event: a.start }, { event: a.complete }, { event: a.reject }, { event: a.complete },
        { event: a.approve }, { event: b.start }, { event: a.rollback }]";
    let coverage = coverage_of(FLOW, steps);
    assert_eq!(labels(&coverage.states), "a; b; c", "what was passed over needs no other story");
    let expected = "a: not_started -> in_progress; a: in_progress -> waiting_approval; \
        a: waiting_approval -> completed; a: waiting_approval -> in_progress; a: completed -> rolled_back; \
        b: not_started -> in_progress; b: in_progress -> failed; c: passed over";
    assert_eq!(labels(&coverage.transitions), expected);
    let missing = coverage.transitions.iter().filter(|element| !element.covered);
    let missing: Vec<String> = missing.map(|e| format!("{}: {}", e.place.line, e.label)).collect();
    let expected = [
        "4: a: in_progress -> retry_needed",
        "4: a: in_progress -> failed",
        "5: b: in_progress -> waiting_validation",
        "5: b: waiting_validation -> waiting_approval",
        "5: b: waiting_validation -> in_progress",
        "5: b: waiting_approval -> completed",
        "5: b: waiting_approval -> in_progress",
        "5: b: completed -> rolled_back",
        "6: c: not_started -> in_progress",
        "6: c: in_progress -> completed",
        "6: c: in_progress -> failed",
        "6: c: completed -> rolled_back",
    ];
    assert_eq!((missing, coverage.is_flow), (expected.map(str::to_owned).to_vec(), true));
}

#[test]
fn no_paths_are_searched_for_a_flow() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("m.yaml");
    fs::write(&path, FLOW).unwrap();
    let refused = engine::story::paths::find(&path, false, Default::default(), &mut |_| ()).unwrap_err();
    assert!(refused.to_string().contains("m.yaml is a flow"), "{refused}");
}

#[test]
fn a_story_covers_what_it_goes_through() {
    // Steps, the states entered, and the transitions taken.
    let cases = [
        ("steps: []", "a", ""),
        // A refused event takes nothing.
        ("steps: [{ event: next, expect: { refused: invalid_transition } }]", "a", ""),
        // Passed through on the way, with the states around it.
        ("steps: [{ event: go }]", "a; b; c; c.d", "a --go--> b; b --always--> c"),
        (
            "steps: [{ event: go, payload: { far: 1 } }, { after: 1m }]",
            "a; c; c.d; f; f.q; g",
            "a --go [has(event.far)]--> c.d; c --after 1m--> f; f --always--> g",
        ),
        // Where the story begins; the state itself is passed through, with its children.
        ("given: { state: f }\n    steps: []", "f; f.q; g", "f --always--> g"),
        ("given: { state: c.e }\n    steps: [{ event: reset }]", "a; c; c.e", "(top) --reset--> a"),
        // As far as a story gets that fails, with the step that fails it.
        (
            "steps: [{ event: go, expect: { state: g } }, { event: next }]",
            "a; b; c; c.d",
            "a --go--> b; b --always--> c",
        ),
    ];
    for (steps, states, transitions) in cases {
        let coverage = coverage_of(MACHINE, steps);
        assert_eq!(labels(&coverage.states), states, "{steps}");
        assert_eq!(labels(&coverage.transitions), transitions, "{steps}");
        // History is no place to be in.
        assert_eq!((coverage.states.len(), coverage.transitions.len()), (8, 8));
    }
}

#[test]
fn what_is_missing_is_told_with_its_place() {
    let coverage = coverage_of(MACHINE, "steps: []");
    let elements = coverage.states.iter().chain(&coverage.transitions);
    let places: Vec<String> =
        elements.map(|e| format!("{}:{} {}", e.place.line, e.place.column, e.label)).collect();
    let wanted = [
        "10:3 b",
        "15:7 c.d",
        "4:10 (top) --reset--> a",
        "8:12 a --go [has(event.far)]--> c.d",
        "8:54 a --go--> b",
        "18:18 c --after 1m--> f",
    ];
    for place in wanted {
        assert!(places.iter().any(|told| told == place), "{place}\n{places:#?}");
    }
}

#[test]
fn the_stories_of_several_files_add_up_if_they_are_of_one_definition() {
    let mut coverage = coverage_of(MACHINE, "steps: [{ event: go }]");
    assert!(coverage.add(&coverage_of(MACHINE, "given: { state: g }\n    steps: []")));
    assert_eq!(labels(&coverage.states), "a; b; c; c.d; g");
    let other = MACHINE.replace("on: { next: e }", "on: { next: d }");
    let before = coverage.clone();
    assert!(!coverage.add(&coverage_of(&other, "given: { state: f }\n    steps: []")));
    assert_eq!(coverage, before);
}
