//! `docs/diagnostics.md`, written from the catalogue of codes and the cases.

use std::collections::BTreeSet;
use std::fmt::Write;

use kernel::definition::load;
use kernel::diagnostic::catalogue::CODES;
use kernel::diagnostic::{Diagnostic, Severity};

const HEAD: &str = "\
# Diagnostics

What `check` says of a definition, and the server when one is activated. Everything is said at once, in the order of
the file. An **error** keeps a definition from being loaded; a **warning** tells of what is legal and would strand
somebody, or is of no use. While there are errors, the warnings that depend on the whole machine are left out.

Each code below is shown as its case in `crates/kernel/tests/diagnostics` gets it. Over HTTP and with `--json` a
diagnostic is an object: `code`, `severity`, `message`, `line` and `column` from 1, `help`. This document is written
from the cases by `UPDATE_EXPECTED=1 cargo test -p kernel --test diagnostics`.
";

pub fn of(cases: &BTreeSet<String>) -> String {
    let mut document = HEAD.to_owned();
    for (severity, title) in [(Severity::Error, "Errors"), (Severity::Warning, "Warnings")] {
        let _ = writeln!(document, "\n## {title}");
        for (code, meaning) in CODES {
            if let Some(shown) = shown(cases, code, severity) {
                let _ = write!(document, "\n### {code}\n\n{meaning}\n\n```text\n{shown}\n```\n");
            }
        }
    }
    document
}

/// The first diagnostic of the code in its first case; only under the severity that it has there.
fn shown(cases: &BTreeSet<String>, code: &str, severity: Severity) -> Option<String> {
    let case = cases.iter().find(|case| case.split('.').next() == Some(code))?;
    let source = super::source(case);
    let (_, diagnostics) = load(&source);
    let first: &Diagnostic = diagnostics.iter().find(|d| d.code == code)?;
    let lines = first.render(&format!("{case}.yaml"), &source);
    (first.severity == severity).then(|| lines.lines().map(str::trim_end).collect::<Vec<_>>().join("\n"))
}
