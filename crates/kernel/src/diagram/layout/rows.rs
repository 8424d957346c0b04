//! In which order nodes stand in their rows, and how far to the right: the library's part of the work.
//!
//! `dagre` finds orders with few crossings and puts what belongs together below one another. It is told the rows, and
//! gives between any two of them one more, in which labels stand. Nothing of its heights is used.

use dagre::graph::{Graph, GraphOptions};
use dagre::{EdgeLabel, LayoutOptions, NodeLabel, Ranker};

use crate::diagram::layout::LABEL_GAP;

/// Between boxes in a row.
const BOX_GAP: i32 = 36;
/// Between arrows that pass through one.
const ARROW_GAP: i32 = 18;

#[derive(Clone, Copy, Debug)]
pub struct Spec {
    pub width: i32,
    pub row: i32,
    /// What has to have room beside it on the right.
    pub beside: i32,
}

/// From one node to another in a row further down.
#[derive(Clone, Copy, Debug)]
pub struct Wire {
    pub upper: usize,
    pub lower: usize,
    /// The width of its label, if it has one.
    pub label: i32,
    /// How much it matters that it is straight.
    pub weight: i32,
}

#[derive(Debug)]
pub struct Columns {
    /// The middle of each node.
    pub nodes: Vec<i32>,
    /// Where each wire passes the rows between its ends, from top to bottom.
    pub wires: Vec<Vec<i32>>,
}

/// The row that a wire's label stands in, counted with the rows between rows.
pub fn label_row(upper: i32, lower: i32) -> i32 {
    upper + lower
}

pub fn columns(specs: &[Spec], wires: &[Wire]) -> Columns {
    let options = GraphOptions { directed: true, multigraph: true, compound: false };
    let mut graph: Graph<NodeLabel, EdgeLabel> = Graph::with_options(options);
    for (number, spec) in specs.iter().enumerate() {
        let label = NodeLabel { width: f64::from(spec.width), height: 2.0, ..NodeLabel::default() };
        graph.set_node(name(number), Some(label));
        if spec.beside > 0 {
            let width = f64::from(spec.beside);
            let label = EdgeLabel {
                width,
                height: 2.0,
                labelpos: dagre::layout::types::LabelPos::Center,
                ..EdgeLabel::default()
            };
            graph.set_edge(name(number), name(number), Some(label), Some("loop"));
        }
    }
    for (number, wire) in wires.iter().enumerate() {
        let length = specs[wire.lower].row - specs[wire.upper].row;
        graph.set_edge(
            name(wire.upper),
            name(wire.lower),
            Some(edge_label(length, wire)),
            Some(&name(number)),
        );
    }
    hold_rows(&mut graph, specs, wires);
    let options = LayoutOptions {
        nodesep: f64::from(BOX_GAP),
        edgesep: f64::from(ARROW_GAP),
        ranksep: 40.0,
        ranker: Ranker::LongestPath,
        ..LayoutOptions::default()
    };
    dagre::layout(&mut graph, Some(options));
    read(&graph, specs, wires)
}

fn name(number: usize) -> String {
    number.to_string()
}

fn edge_label(length: i32, wire: &Wire) -> EdgeLabel {
    use dagre::layout::types::LabelPos;
    let plain =
        EdgeLabel { minlen: length, weight: wire.weight, labelpos: LabelPos::Center, ..EdgeLabel::default() };
    match wire.label {
        0 => plain,
        width => EdgeLabel {
            width: f64::from(width),
            height: 2.0,
            labelpos: LabelPos::Right,
            label_offset: f64::from(LABEL_GAP),
            ..plain
        },
    }
}

/// The ranker puts every node as far down as what it leads to allows, so what leads nowhere is held up by a node below
/// all.
fn hold_rows(graph: &mut Graph<NodeLabel, EdgeLabel>, specs: &[Spec], wires: &[Wire]) {
    let floor = specs.iter().map(|spec| spec.row).max().unwrap_or(0) + 1;
    let mut leads = vec![false; specs.len()];
    for wire in wires {
        leads[wire.upper] = true;
    }
    let held = |number: &usize| !leads[*number] && specs[*number].row + 1 < floor;
    let held: Vec<usize> = (0..specs.len()).filter(held).collect();
    if held.is_empty() {
        return;
    }
    graph.set_node("floor", Some(NodeLabel { height: 2.0, ..NodeLabel::default() }));
    for number in (0..specs.len()).filter(|number| !leads[*number]) {
        let wire = Wire { upper: number, lower: number, label: 0, weight: 1 };
        let label = edge_label(floor - specs[number].row, &wire);
        graph.set_edge(name(number), "floor", Some(label), Some("held"));
    }
}

fn read(graph: &Graph<NodeLabel, EdgeLabel>, specs: &[Spec], wires: &[Wire]) -> Columns {
    let middle = |number: usize| graph.node(&name(number)).and_then(|node| node.x).map_or(0, whole);
    let nodes: Vec<i32> = (0..specs.len()).map(middle).collect();
    let between = |(number, wire): (usize, &Wire)| {
        let label = graph.edge(&name(wire.upper), &name(wire.lower), Some(&name(number)));
        let points = label.map_or(&[][..], |label| &label.points[..]);
        // The first and the last lie on the borders of its ends.
        let inner = points.get(1..points.len().saturating_sub(1)).unwrap_or(&[]);
        let mut xs: Vec<i32> = inner.iter().map(|point| whole(point.x)).collect();
        let count = 2 * (specs[wire.lower].row - specs[wire.upper].row) - 1;
        xs.resize(usize::try_from(count).unwrap_or(0), nodes[wire.lower]);
        xs
    };
    let wires = wires.iter().enumerate().map(between).collect();
    Columns { nodes, wires }
}

fn whole(x: f64) -> i32 {
    x.round() as i32
}
