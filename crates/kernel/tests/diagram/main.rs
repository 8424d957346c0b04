//! What a diagram shows: a definition beside its picture in each notation.
//!
//! With `UPDATE_EXPECTED=1` the expected files are written anew; draw them (`dot -Tpng`, and any Mermaid viewer) and
//! look at them before they are committed.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod layout;
mod svg;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use kernel::chart::ROOT;
use kernel::definition::load;
use kernel::diagram::{Diagram, FRAME, NodeKind, dot, mermaid};
use kernel::machine::Machine;

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/diagram")
}

fn machine(path: &Path) -> Machine {
    let (machine, diagnostics) = load(&fs::read_to_string(path).unwrap());
    machine.unwrap_or_else(|| panic!("{}: {diagnostics:?}", path.display()))
}

/// The definitions in a folder.
fn definitions(directory: &Path) -> BTreeSet<PathBuf> {
    let files = fs::read_dir(directory).unwrap().map(|file| file.unwrap().path());
    let definition = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy();
        name.ends_with(".yaml") && !name.contains(".stories.")
    };
    files.filter(definition).collect()
}

#[test]
fn every_notation_shows_the_machine() {
    let update = std::env::var_os("UPDATE_EXPECTED").is_some();
    let mut wrong = Vec::new();
    for path in definitions(&directory()) {
        let machine = machine(&path);
        // Two states lit, to see what that looks like.
        let lit = ["busy", "outer.second", "outer.second.deep"];
        let active: Vec<_> = lit.iter().filter_map(|path| machine.chart.by_path(path)).collect();
        let diagram = match &machine.flow {
            Some(flow) => {
                Diagram::of_flow(&machine, flow, &flow.by_name("busy").into_iter().collect::<Vec<_>>())
            }
            None => Diagram::of(&machine, &active),
        };
        for (extension, text) in [("mmd", mermaid(&diagram)), ("dot", dot(&diagram))] {
            let expected = path.with_extension(extension);
            if update {
                fs::write(&expected, &text).unwrap();
            } else if fs::read_to_string(&expected).unwrap_or_default() != text {
                wrong.push(format!("{} is\n\n{text}", expected.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_state_and_every_transition_is_drawn_once() {
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../machines");
    for path in definitions(&directory()).union(&definitions(&shipped)) {
        let machine = machine(path);
        if machine.flow.is_some() {
            continue;
        }
        let diagram = Diagram::of(&machine, &[]);
        let chart = &machine.chart;

        let states: Vec<_> = diagram.nodes.iter().filter(|node| !node.kind.is_auxiliary()).collect();
        let drawn: BTreeSet<_> = states.iter().map(|node| node.state).filter(|s| *s != ROOT).collect();
        assert_eq!(drawn.len(), chart.states.len() - 1, "{}", path.display());
        assert_eq!(
            states.iter().filter(|node| node.state != ROOT).count(),
            drawn.len(),
            "{}",
            path.display()
        );

        let written = diagram.nodes.iter().flat_map(|node| &node.lines);
        let written = written.chain(diagram.edges.iter().flat_map(|edge| &edge.labels));
        let of_states = |event: &str| ["", "entry", "exit"].contains(&event) || event.starts_with("invoke ");
        let transitions = written.filter(|label| !of_states(&label.event));
        assert_eq!(transitions.count(), chart.transitions.len(), "{}", path.display());
    }
}

#[test]
fn every_phase_is_drawn_once_with_an_arrow_from_each_that_it_needs() {
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../machines");
    let mut seen = 0;
    for path in definitions(&directory()).union(&definitions(&shipped)) {
        let machine = machine(path);
        let Some(flow) = &machine.flow else { continue };
        seen += 1;
        let diagram = Diagram::of(&machine, &[]);
        let drawn = diagram.nodes[1..].iter().filter(|node| node.kind == NodeKind::State);
        let drawn: Vec<&str> = drawn.map(|node| node.name.as_str()).collect();
        assert_eq!(drawn, flow.phases.iter().map(|phase| &*phase.name).collect::<Vec<_>>());
        let name = |node: usize| diagram.node(node).name.as_str();
        let arrows: BTreeSet<_> = diagram.edges.iter().map(|edge| (name(edge.from), name(edge.to))).collect();
        let needed = |need| &*flow.phase(need).name;
        let needs = flow.phases.iter().flat_map(|phase| {
            let first = phase.needs.is_empty().then_some("");
            phase.needs.iter().map(move |need| needed(*need)).chain(first).map(|from| (from, &*phase.name))
        });
        assert_eq!(arrows, needs.collect(), "{}", path.display());
        assert_eq!(diagram.edges.len(), arrows.len(), "{}", path.display());
    }
    assert!(seen >= 3, "only {seen} flows were found");
}

#[test]
fn no_arrow_crosses_from_a_node_to_what_it_holds() {
    for path in definitions(&directory()) {
        let diagram = Diagram::of(&machine(&path), &[]);
        for edge in &diagram.edges {
            let holds = |outer, inner| outer != inner && diagram.holds(outer, inner);
            let shown = format!("{}: {edge:?}", path.display());
            assert!(edge.from != FRAME && edge.to != FRAME, "{shown}");
            assert!(!holds(edge.from, edge.to) && !holds(edge.to, edge.from), "{shown}");
            let loops = edge.from == edge.to;
            assert!(!loops || diagram.node(edge.from).kind == NodeKind::State, "{shown}");
        }
    }
}

#[test]
fn what_an_author_writes_cannot_end_a_text_of_a_notation() {
    for name in ["hostile.yaml", "flow_hostile.yaml"] {
        cannot_end_a_text(&Diagram::of(&machine(&directory().join(name)), &[]));
    }
}

fn cannot_end_a_text(diagram: &Diagram) {
    for line in mermaid(diagram).lines().skip_while(|line| *line != "stateDiagram-v2") {
        let text = line.split_once(" : ").map(|(_, text)| text);
        for text in text.into_iter().flat_map(|text| text.split("<br/>")) {
            let entities_gone: String =
                text.split('#').map(|part| part.split_once(';').map_or(part, |(_, rest)| rest)).collect();
            let special = |c: char| "#:;<>\"`{}|&%\\*$".contains(c);
            assert!(!entities_gone.contains(special), "{line}");
        }
    }
    for line in dot(diagram).lines() {
        let quotes = line.replace("\\\\", "").replace("\\\"", "").matches('"').count();
        assert_eq!(quotes % 2, 0, "{line}");
    }
}
