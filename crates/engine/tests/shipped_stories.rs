//! The shipped stories come true.

use std::path::{Path, PathBuf};

use engine::story;

fn machines() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../machines")
}

#[test]
fn every_shipped_story_comes_true() {
    let mut files = 0;
    let mut failures = Vec::new();
    for entry in std::fs::read_dir(machines()).unwrap() {
        let path = entry.unwrap().path();
        if !path.to_string_lossy().ends_with(".stories.yaml") {
            continue;
        }
        files += 1;
        let report = story::run(&path).unwrap_or_else(|error| panic!("{error}"));
        assert!(!report.stories.is_empty(), "{} is empty", path.display());
        for failed in report.failed() {
            failures.push(format!("{}\n{}", failed.name, failed.failure.as_deref().unwrap_or_default()));
        }
    }
    assert!(files > 0, "no story file was found");
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}
