//! What stories go through, and which stories are found: a definition beside the story file that `paths` writes for it.
//!
//! With `UPDATE_EXPECTED=1` the story files are written anew, to be read before they are committed.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod coverage;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use engine::story::paths::{Act, Bounds, Paths, find};
use engine::story::{covered, run};
use tempfile::TempDir;

const CASES: [&str; 6] = ["clumsy", "door", "nowhere", "order", "player", "survey"];

fn case(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/paths").join(format!("{name}.yaml"))
}

fn shipped() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../machines/progress_update.yaml")
}

fn found(definition: &Path, all: bool) -> Paths {
    find(definition, all, Bounds::default(), &mut |_| {}).unwrap()
}

/// Plays what was found as anybody would: from a file, through the runner. It goes where it says that it goes.
fn assert_comes_true(definition: &Path, paths: &Paths) {
    let directory = TempDir::new().unwrap();
    let stories = directory.path().join("found.stories.yaml");
    fs::copy(definition, directory.path().join("m.yaml")).unwrap();
    fs::write(&stories, paths.to_yaml("m.yaml")).unwrap();
    let report = run(&stories).unwrap_or_else(|error| panic!("{error}"));
    let failures: Vec<_> = report.failed().collect();
    assert!(failures.is_empty(), "{failures:#?}");
    assert_eq!(report.stories.len(), paths.stories.len());
    assert_eq!(report.coverage.states, paths.coverage.states);
    assert_eq!(report.coverage.transitions, paths.coverage.transitions);
}

#[test]
fn every_definition_gets_the_stories_that_stand_beside_it() {
    let update = std::env::var_os("UPDATE_EXPECTED").is_some();
    let mut wrong = String::new();
    for name in CASES {
        let paths = found(&case(name), false);
        assert_comes_true(&case(name), &paths);
        let written = paths.to_yaml(&format!("{name}.yaml"));
        let expected = case(&format!("{name}.stories"));
        if update {
            fs::write(&expected, &written).unwrap();
        } else if fs::read_to_string(&expected).unwrap_or_default() != written {
            wrong.push_str(&format!("{name}.yaml gets\n\n{written}\n"));
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn all_of_the_shipped_machine_is_found() {
    let paths = found(&shipped(), false);

    assert_comes_true(&shipped(), &paths);
    let coverage = &paths.coverage;
    assert_eq!(paths.unreached, []);
    assert_eq!(covered(&coverage.states), coverage.states.len());
    assert_eq!(covered(&coverage.transitions), coverage.transitions.len());
    assert_eq!(paths.bound, None);
}

#[test]
fn people_speak_where_they_can() {
    let paths = found(&shipped(), false);
    let is_said = |act: &Act| matches!(act, Act::Send(_));
    let story = paths.stories.iter().find(|story| story.name == "reaches completed").unwrap();
    assert!(story.steps.iter().all(|step| is_said(&step.act)), "{story:#?}");
}

#[test]
fn no_story_is_longer_than_it_has_to_be() {
    // The story, and its number of steps.
    let cases = [
        ("door", "reaches barred", 3),
        ("order", "reaches refused", 1),
        ("player", "reaches device.playing.track", 3),
        ("survey", "reaches praised", 3),
    ];
    for (name, story, steps) in cases {
        let paths = found(&case(name), true);
        let found = paths.stories.iter().find(|found| found.name == story);
        assert_eq!(found.map(|found| found.steps.len()), Some(steps), "{name}: {story}");
    }
}

#[test]
fn all_stories_are_told_only_if_they_are_asked_for() {
    for name in CASES {
        let (few, all) = (found(&case(name), false), found(&case(name), true));
        assert_comes_true(&case(name), &all);
        let names = |paths: &Paths| -> BTreeSet<String> {
            paths.stories.iter().map(|story| story.name.clone()).collect()
        };
        assert!(names(&few).len() < names(&all).len(), "{name}");
        assert_eq!(few.coverage, all.coverage, "{name}");
    }
}

#[test]
fn what_no_condition_depends_on_does_not_lead_astray() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("m.yaml");
    let noise = ["a", "b", "c", "d", "e"];
    let fields: String =
        noise.iter().map(|name| format!(", {name}: {{ type: integer, default: 0 }}")).collect();
    let events: String = noise
        .iter()
        .map(|name| format!("      {name}: {{ assign: {{ {name}: context.{name} + 1 }} }}\n"))
        .collect();
    let text = format!(
        "machine: m\ncontext: {{ n: {{ type: integer, default: 0 }}{fields} }}\ninitial: s\nstates:\n  s:\n    on:\n{events}      \
         up: {{ assign: {{ n: context.n + 1 }} }}\n      go: {{ guard: context.n == 9, target: t }}\n  t: {{}}\n"
    );
    fs::write(&path, text).unwrap();
    let bounds = Bounds { snapshots: 100, ..Bounds::default() };
    let paths = find(&path, false, bounds, &mut |_| {}).unwrap();
    let story = paths.stories.iter().find(|story| story.name == "reaches t").unwrap();
    assert_eq!(story.steps.len(), 10, "{story:#?}");
}

#[test]
fn a_search_that_is_cut_short_says_so_and_keeps_what_it_has() {
    let cases = [
        (Bounds { depth: 2, ..Bounds::default() }, "2 steps"),
        (Bounds { snapshots: 3, ..Bounds::default() }, "3 snapshots"),
        (Bounds { decisions: 5, ..Bounds::default() }, "10 decisions"),
        (Bounds { stories: 1, ..Bounds::default() }, "1 stories"),
    ];
    for (bounds, told) in cases {
        let paths = find(&case("door"), false, bounds, &mut |_| {}).unwrap();
        assert_comes_true(&case("door"), &paths);
        assert_eq!(paths.bound.as_deref(), Some(told));
        assert!(paths.to_yaml("m.yaml").contains(&format!("stopped at {told}")));
        assert!(!paths.unreached.is_empty(), "{told}");
    }
}

#[test]
fn a_definition_with_errors_has_no_paths() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("m.yaml");
    fs::write(&path, "machine: m\ninitial: a\nstates: { a: { on: { go: b } } }\n").unwrap();
    let error = find(&path, false, Bounds::default(), &mut |_| {}).unwrap_err().to_string();
    assert!(error.contains("unknown_target"), "{error}");
}
