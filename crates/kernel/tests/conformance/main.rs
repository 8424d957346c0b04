//! Our statecharts held against the W3C's tests of SCXML 1.0: what each of those tests asserts, said in our words and
//! in our definitions, and whether we do the same, differ on purpose, or have nothing of the kind.
//!
//! The cases are data, in `cases`. This file owns which tests there must be one for, and what a case must say; the
//! document that the cases become is `docs/statechart-conformance.md`. With `UPDATE_EXPECTED=1` it is written anew, to
//! be read before it is committed.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod case;
mod document;
mod play;
#[path = "../stored/restored.rs"]
mod restored;

use std::fmt::Write;
use std::fs;
use std::path::Path;

use case::{Case, Verdict};

/// The tests of the W3C's implementation report that concern what a machine does rather than how XML is read, by
/// their numbers there.
const IDS: [u32; 91] = [
    144, 147, 148, 149, 150, 151, 152, 153, 155, 156, 158, 159, 172, 175, 176, 179, 183, 185, 186, 189, 194,
    200, 205, 208, 210, 277, 286, 287, 288, 294, 298, 309, 310, 311, 312, 318, 319, 330, 333, 335, 337, 339,
    342, 343, 344, 355, 364, 372, 375, 376, 377, 378, 387, 388, 396, 399, 401, 402, 403, 404, 405, 406, 407,
    409, 411, 412, 413, 416, 417, 419, 421, 423, 436, 487, 488, 503, 504, 505, 506, 521, 525, 527, 528, 529,
    533, 552, 553, 570, 576, 579, 580,
];

#[test]
fn every_case_ends_as_it_says() {
    let mut wrong = String::new();
    for case in case::all() {
        for (at, play) in case.plays().iter().enumerate() {
            let part = if at == 0 { String::new() } else { format!(", part {}", at + 1) };
            let fresh = play::play(play, false);
            if let Err(told) = &fresh {
                let _ = writeln!(wrong, "{}{part}: {}\n  {told}", case.id, case.asserts);
            }
            let saved = play::play(play, true);
            if saved != fresh {
                let _ =
                    writeln!(wrong, "{}{part}: saved between inputs it ends otherwise: {saved:?}", case.id);
            }
        }
    }
    assert!(wrong.is_empty(), "these do not end as they say:\n\n{wrong}");
}

#[test]
fn every_test_has_exactly_one_case() {
    let ids: Vec<u32> = case::all().iter().map(|case| case.id).collect();
    assert_eq!(ids, IDS);
}

#[test]
fn every_case_says_why_and_shows_it() {
    for Case { id, asserts, verdict, because, machine, .. } in case::all() {
        let lines = [Some(&asserts), because.as_ref()];
        for line in lines.into_iter().flatten() {
            let bare = !line.is_empty() && !line.contains(['\n', '|']) && !line.ends_with('.');
            assert!(bare, "{id}: `{line}` is no line of a table");
        }
        assert_eq!(because.is_some(), verdict != Verdict::Passes, "{id}: what does not pass says why");
        assert_eq!(machine.is_some(), verdict != Verdict::OutOfScope, "{id}: what can be run is shown");
    }
}

#[test]
fn document_says_what_the_cases_say() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/statechart-conformance.md");
    let document = document::of(&case::all());
    if std::env::var_os("UPDATE_EXPECTED").is_some() {
        fs::write(&path, &document).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(written == document, "run this test with UPDATE_EXPECTED=1; it should read\n\n{document}");
}
