//! The cases as a document: how we stand to each of the W3C's tests, and above all where we differ and why.

use std::fmt::Write;

use crate::case::{Case, Verdict};

const HEAD: &str = "\
# Our statecharts and the W3C's tests

Here the semantics of our statecharts are held against the tests that the W3C published with its recommendation
[SCXML 1.0](https://www.w3.org/TR/scxml/), in its [implementation report](https://www.w3.org/Voice/2013/scxml-irp/).
Statewright is not an SCXML processor, reads no SCXML, and claims no conformance. What the two have in common is the
algorithm that says which states an event leaves and enters, and in which order actions run; whoever knows it from there
finds out here what to expect.

Each test is known by its number in the report. What it asserts is said in our words, and played with a definition of
ours in `crates/kernel/tests/conformance/cases`. This document is written from those files by
`UPDATE_EXPECTED=1 cargo test -p kernel --test conformance`.
";

const DIFFERENCES: &str = "
## Where we differ on purpose

Each of these is pinned by a definition that shows what we do instead.

";

const OUT_OF_SCOPE: &str = "
## What is out of scope

What these tests are about does not exist here.

";

const TABLE: &str = "
## Every test

| test | what it asserts | here |
|---|---|---|
";

pub fn of(cases: &[Case]) -> String {
    let count = |verdict: Verdict| cases.iter().filter(|case| case.verdict == verdict).count();
    let mut text = HEAD.to_owned();
    let _ = write!(
        text,
        "
Of {} tests {} pass, {} differ on purpose and {} are out of scope. Most of the others in the report are
about XML, scripts, data models, the variables of a session, invoked sessions, and sending over HTTP.
",
        cases.len(),
        count(Verdict::Passes),
        count(Verdict::Differs),
        count(Verdict::OutOfScope),
    );
    text += DIFFERENCES;
    reasons(cases, Verdict::Differs, &mut text);
    text += OUT_OF_SCOPE;
    reasons(cases, Verdict::OutOfScope, &mut text);
    text += TABLE;
    for case in cases {
        let because = case.because.as_deref().unwrap_or_default();
        let here = match case.verdict {
            Verdict::Passes => "passes".to_owned(),
            Verdict::Differs => format!("**differs**: {because}"),
            Verdict::OutOfScope => format!("out of scope: {because}"),
        };
        let _ = writeln!(text, "| {} | {} | {here} |", case.id, case.asserts);
    }
    text
}

/// Each reason once, with the tests that it is given for.
fn reasons(cases: &[Case], verdict: Verdict, text: &mut String) {
    let mut grouped: Vec<(&str, Vec<String>)> = Vec::new();
    for case in cases.iter().filter(|case| case.verdict == verdict) {
        let because = case.because.as_deref().unwrap_or_default();
        let id = case.id.to_string();
        match grouped.iter_mut().find(|(reason, _)| *reason == because) {
            Some((_, ids)) => ids.push(id),
            None => grouped.push((because, vec![id])),
        }
    }
    for (reason, ids) in grouped {
        let mut letters = reason.chars();
        let first = letters.next().into_iter().flat_map(char::to_uppercase);
        let sentence: String = first.chain(letters).collect();
        let _ = writeln!(text, "- {sentence} ({}).", ids.join(", "));
    }
}
