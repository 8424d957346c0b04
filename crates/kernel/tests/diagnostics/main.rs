//! What an author is told: a definition beside the diagnostics that it gets, rendered as `check` prints them.
//!
//! A case is named after the code that it is about; what follows a dot tells its variants apart. With
//! `UPDATE_EXPECTED=1` the expected files are written anew, to be read before they are committed.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod document;
mod hostile;
mod silent;

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use kernel::definition::load;
use kernel::diagnostic::Severity;
use kernel::diagnostic::catalogue::CODES;

fn crate_directory(below: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(below)
}

/// The names of the cases, without their extension.
fn cases() -> BTreeSet<String> {
    let files = fs::read_dir(crate_directory("tests/diagnostics")).unwrap();
    let name = |file: fs::DirEntry| file.file_name().into_string().unwrap();
    files.filter_map(|file| name(file.unwrap()).strip_suffix(".yaml").map(str::to_owned)).collect()
}

fn source(case: &str) -> String {
    fs::read_to_string(crate_directory("tests/diagnostics").join(format!("{case}.yaml"))).unwrap()
}

#[test]
fn every_diagnostic_is_shown_at_its_place_with_its_remedy() {
    let update = std::env::var_os("UPDATE_EXPECTED").is_some();
    let mut wrong = String::new();
    for case in cases() {
        let source = source(&case);

        let (machine, diagnostics) = load(&source);
        let mut shown = String::new();
        for diagnostic in &diagnostics {
            let _ = writeln!(shown, "{}\n", diagnostic.render(&format!("{case}.yaml"), &source));
            assert!(!diagnostic.help.is_empty(), "{case}: {diagnostic:?}");
            assert!(diagnostic.line >= 1 && diagnostic.column >= 1, "{case}: {diagnostic:?}");
        }
        let is_error = diagnostics.iter().any(|d| d.severity == Severity::Error);
        assert_eq!(machine.is_none(), is_error, "{case}");
        let path = crate_directory("tests/diagnostics").join(format!("{case}.expected"));
        if update {
            fs::write(&path, &shown).unwrap();
        } else if fs::read_to_string(&path).unwrap_or_default() != shown {
            let _ = writeln!(wrong, "{case}.yaml is told\n\n{shown}");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// The literals that stand where a diagnostic's code does.
fn codes_in(directory: &Path, codes: &mut BTreeSet<String>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            codes_in(&path, codes);
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let calls = ["error(", "warning(", "warn("];
        for after in calls.iter().flat_map(|call| text.split(call).skip(1)) {
            let Some(literal) = after.trim_start().strip_prefix('"') else {
                continue;
            };
            let code = literal.split('"').next().unwrap_or_default();
            if code.chars().all(|c| c.is_ascii_lowercase() || c == '_') {
                codes.insert(code.to_owned());
            }
        }
    }
}

#[test]
fn every_code_has_a_case_and_every_case_shows_its_code() {
    let mut codes = BTreeSet::new();
    codes_in(&crate_directory("src"), &mut codes);
    let cases = cases();
    let missing: Vec<&String> = codes.difference(&cases).collect();
    assert!(missing.is_empty(), "no case for {missing:?}");
    for case in cases.iter().filter(|case| *case != "ten_mistakes") {
        let (_, diagnostics) = load(&source(case));
        let code = case.split('.').next().unwrap();
        assert!(diagnostics.iter().any(|d| d.code == code), "{case} does not show {code}");
    }
}

#[test]
fn every_code_is_in_the_catalogue_once_and_nothing_else_is() {
    let mut codes = BTreeSet::new();
    codes_in(&crate_directory("src"), &mut codes);
    let listed: Vec<&str> = CODES.iter().map(|(code, _)| *code).collect();
    assert_eq!(listed.iter().map(|code| (*code).to_owned()).collect::<BTreeSet<_>>(), codes);
    assert_eq!(listed.len(), codes.len(), "a code is listed twice");
}

#[test]
fn document_shows_every_code_with_a_case() {
    let document = document::of(&cases());
    let path = crate_directory("../../docs/diagnostics.md");
    if std::env::var_os("UPDATE_EXPECTED").is_some() {
        fs::write(&path, &document).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(written == document, "run this test with UPDATE_EXPECTED=1; it should read\n\n{document}");
}

#[test]
fn ten_mistakes_in_one_file_are_all_reported() {
    let (_, diagnostics) = load(&source("ten_mistakes"));
    let told: Vec<String> =
        diagnostics.iter().map(|d| format!("{}:{} {}", d.line, d.column, d.code)).collect();
    assert_eq!(
        told,
        [
            "2:10 unknown_target",
            "3:10 wrong_type",
            "5:18 bad_value",
            "6:34 bad_value",
            "10:45 unknown_field",
            "11:23 unknown_target",
            "11:39 unknown_field",
            "12:14 bad_delay",
            "13:3 illegal_state",
            "14:21 unknown_reply",
            "15:5 unknown_key",
        ]
    );
}
