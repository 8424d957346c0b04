//! The rules for alerts and the dashboard, held against the table of figures and against Prometheus' own tool.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use engine::metrics::table::{FIGURES, Figure, Kind};
use serde_json::Value;

fn deploy(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy").join(name)
}

fn read(name: &str) -> String {
    std::fs::read_to_string(deploy(name)).unwrap()
}

/// Every question that the dashboard asks Prometheus.
fn questions() -> Vec<String> {
    fn gather(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                found.extend(fields.get("expr").and_then(Value::as_str).map(str::to_owned));
                fields.values().for_each(|field| gather(field, found));
            }
            Value::Array(items) => items.iter().for_each(|item| gather(item, found)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    gather(&serde_json::from_str(&read("grafana/statewright.json")).unwrap(), &mut found);
    found
}

/// The names in a text that look like ours.
fn names(text: &str) -> BTreeSet<String> {
    let words = text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    let ours = |word: &&str| word.starts_with("statewright_") || word.starts_with("process_");
    words.filter(ours).map(str::to_owned).collect()
}

/// The figure that Prometheus has under a name.
fn figure(name: &str) -> Option<&'static Figure> {
    FIGURES.iter().find(|figure| {
        let parts: &[&str] = match figure.kind {
            Kind::Histogram => &["_bucket", "_sum", "_count"],
            Kind::Counter | Kind::Gauge => &[""],
        };
        parts.iter().any(|part| name == format!("{}{part}", figure.name()))
    })
}

fn promtool(arguments: &[&str], folder: &Path) {
    let mut command = Command::new(testbed::promtool().unwrap_or_else(|why| panic!("{why}")));
    let told = command.args(arguments).current_dir(folder).output().unwrap();
    let (out, error) = (String::from_utf8_lossy(&told.stdout), String::from_utf8_lossy(&told.stderr));
    assert!(told.status.success(), "promtool {arguments:?}\n{out}{error}");
}

#[test]
fn alerts_and_the_dashboard_name_only_figures_that_there_are() {
    for text in [read("prometheus/statewright.rules.yaml"), questions().join("\n")] {
        for name in names(&text) {
            assert!(figure(&name).is_some(), "there is no figure `{name}`");
        }
    }
}

#[test]
fn the_dashboard_shows_every_figure() {
    let shown: BTreeSet<String> =
        names(&questions().join("\n")).iter().filter_map(|name| Some(figure(name)?.name())).collect();
    let missing: Vec<String> =
        FIGURES.iter().map(Figure::name).filter(|name| !shown.contains(name)).collect();
    assert!(missing.is_empty(), "not shown: {missing:?}");
}

#[test]
fn what_is_worth_an_alert_has_one() {
    let rules = names(&read("prometheus/statewright.rules.yaml"));
    let watched: BTreeSet<String> = rules.iter().filter_map(|name| Some(figure(name)?.name())).collect();
    for figure in FIGURES.iter().filter(|figure| figure.use_it.contains("alert")) {
        assert!(watched.contains(&figure.name()), "no rule looks at {}", figure.name());
    }
}

#[test]
fn prometheus_takes_the_rules_and_they_fire_when_they_should() {
    let folder = deploy("prometheus");
    promtool(&["check", "rules", "statewright.rules.yaml"], &folder);
    promtool(&["test", "rules", "statewright.rules.test.yaml"], &folder);
}

/// As rules, since that is what the tool reads.
#[test]
fn prometheus_understands_what_the_dashboard_asks() {
    let questions = questions();
    assert!(questions.len() > 40, "{}", questions.len());
    let rules: Vec<Value> = questions
        .iter()
        .enumerate()
        .map(|(number, question)| {
            let asked = question.replace("$__rate_interval", "5m");
            serde_json::json!({ "record": format!("question:{number}"), "expr": asked })
        })
        .collect();
    let document = serde_json::json!({ "groups": [{ "name": "dashboard", "rules": rules }] });
    let folder = tempfile::tempdir().unwrap();
    // JSON is YAML.
    std::fs::write(folder.path().join("questions.yaml"), document.to_string()).unwrap();
    promtool(&["check", "rules", "questions.yaml"], folder.path());
}
