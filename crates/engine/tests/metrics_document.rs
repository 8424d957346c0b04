//! `docs/metrics.md`, written from the table of figures.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::fmt::Write as _;
use std::path::Path;

use engine::metrics::table::FIGURES;

const HEAD: &str = "# Figures

`/metrics` is OpenMetrics text, over all tenants, and needs no key. This page is written from the table in
`crates/engine/src/metrics/table.rs`, which also registers the figures; a test holds the two together.

No label is ever an instance, a subject, a key or a tenant. What is of the store is counted when somebody asks, and in a
large store no more often than every twenty times as long as counting takes. A figure with labels is there from the first time
that something is counted in it. Rules for alerts are in `deploy/prometheus/statewright.rules.yaml`, a dashboard for Grafana in
`deploy/grafana/statewright.json`: see [alerts](operations.md#alerts).

To count one commit takes some microseconds of the shard's time at most; `cargo xtask bench --only counting` measures it.

| name | type | says | good for |
|---|---|---|---|
";

#[test]
fn the_document_lists_every_figure_as_the_table_has_it() {
    let mut document = HEAD.to_owned();
    for figure in &FIGURES {
        let labels = match figure.labels {
            [] => String::new(),
            labels => format!("{{{}}}", labels.join(",")),
        };
        let (name, kind) = (figure.name(), figure.kind.as_str());
        writeln!(document, "| `{name}{labels}` | {kind} | {} | {} |", figure.help, figure.use_it).unwrap();
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/metrics.md");
    if std::env::var_os("UPDATE_EXPECTED").is_some() {
        std::fs::write(&path, &document).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(written == document, "run this test with UPDATE_EXPECTED=1; it should read\n\n{document}");
}

/// Beside the figures of a program, Prometheus has names for those of every process.
#[test]
fn names_are_as_prometheus_has_them() {
    for figure in &FIGURES {
        let name = figure.name();
        assert!(name.starts_with("statewright_") || name.starts_with("process_"), "{name}");
        assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{name}");
        assert_eq!(name.ends_with("_total"), figure.kind.as_str() == "counter", "{name}");
        assert_eq!(FIGURES.iter().filter(|other| other.name() == name).count(), 1, "{name} is there twice");
        assert!(
            !figure.help.ends_with('.') && !figure.use_it.ends_with('.'),
            "{name}: the full stop is added"
        );
        for label in figure.labels {
            assert!(!["instance", "subject", "tenant", "key", "id", "user"].contains(label), "{name}");
        }
    }
}
