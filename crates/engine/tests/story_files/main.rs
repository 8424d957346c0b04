//! What is said of a story file before it is played, as `check` prints it. With `UPDATE_EXPECTED=1` the expected file
//! is written anew, to be read before it is committed.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::fs;
use std::path::Path;

use engine::story;

#[test]
fn names_that_the_machine_does_not_have_are_told_with_their_places() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/story_files");
    for (name, problems) in [("wrong_names", 7), ("wrong_flow_names", 12), ("no_flow", 4)] {
        let file = format!("{name}.stories.yaml");
        let path = folder.join(&file);
        let source = fs::read_to_string(&path).unwrap();
        let diagnostics = story::check(&path, &source).unwrap();
        let told: Vec<String> = diagnostics.iter().map(|d| d.render(&file, &source) + "\n").collect();
        let expected = folder.join(format!("{name}.expected"));
        if std::env::var_os("UPDATE_EXPECTED").is_some() {
            fs::write(&expected, told.join("\n")).unwrap();
        }
        assert_eq!(told.join("\n"), fs::read_to_string(&expected).unwrap_or_default());
        // Nothing of such a file is played.
        let refused = story::run(&path).unwrap_err().to_string();
        assert!(refused.contains(&format!("has {problems} problem(s)")), "{refused}");
    }
}

#[test]
fn stories_beside_this_test_come_true() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/story_files");
    for name in ["conversation", "brief", "drafts"] {
        let report = story::run(&folder.join(format!("{name}.stories.yaml"))).unwrap();
        let failed: Vec<&str> = report.failed().filter_map(|story| story.failure.as_deref()).collect();
        assert!(failed.is_empty(), "{}", failed.join("\n"));
    }
}

#[test]
fn stories_that_fail_say_what_of() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/story_files");
    for (name, told) in [
        ("failing", "state: expected \"dark\", got \"lit\""),
        (
            "timer",
            "`after.1m.a` failed: `after.1m.a` failed in `a`: context.n must be a whole number, not \"one\"",
        ),
    ] {
        let report = story::run(&folder.join(format!("{name}.stories.yaml"))).unwrap();
        let failure = report.stories[0].failure.clone().unwrap_or_default();
        assert!(failure.contains(told), "{name}: {failure}");
    }
}
