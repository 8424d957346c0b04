//! A diagram as Graphviz' DOT: clusters for states that hold others, boxes for the rest.
//!
//! Ids are the states' paths, quoted. An arrow to or from a cluster leads to an invisible node in it, which lies where
//! the arrow wants it to, and is cut at the cluster's border.

use std::fmt::Write;

use crate::diagram::{Diagram, Edge, FRAME, Label, Node, NodeIndex, NodeKind};

/// The diagram as the text of a `.dot` file.
pub fn dot(diagram: &Diagram) -> String {
    let mut writer = Writer { diagram, out: String::new() };
    writer.line(0, "digraph {");
    writer.line(1, &format!("label={}; labelloc=t; compound=true;", quoted(&diagram.title)));
    writer.line(1, "graph [fontname=Helvetica, fontsize=12];");
    writer.line(1, "node [fontname=Helvetica, fontsize=11, shape=box, style=rounded];");
    writer.line(1, "edge [fontname=Helvetica, fontsize=10, arrowsize=0.7];");
    writer.nodes_in(FRAME, 1);
    for edge in &diagram.edges {
        writer.edge(edge);
    }
    writer.line(0, "}");
    writer.out
}

struct Writer<'d> {
    diagram: &'d Diagram,
    out: String,
}

impl Writer<'_> {
    fn line(&mut self, depth: usize, text: &str) {
        let _ = writeln!(self.out, "{:width$}{text}", "", width = depth * 2);
    }

    fn nodes_in(&mut self, block: NodeIndex, depth: usize) {
        for child in &self.diagram.node(block).children {
            self.node(*child, depth);
        }
    }

    fn node(&mut self, index: NodeIndex, depth: usize) {
        let node = self.diagram.node(index);
        let id = quoted(&id(self.diagram, index));
        if node.kind.holds_others() {
            let cluster = quoted(&format!("cluster {}", self::id(self.diagram, index)));
            let region = self.diagram.node(node.parent).kind == NodeKind::Parallel;
            let style = if region { "\"rounded,dashed\"" } else { "rounded" };
            let lit = if node.active { " color=darkgoldenrod; penwidth=2.5;" } else { "" };
            self.line(depth, &format!("subgraph {cluster} {{"));
            self.line(depth + 1, &format!("label={}; style={style};{lit}", quoted(&node.name)));
            for anchor in self.anchors(index) {
                self.line(depth + 1, &format!("{anchor} [shape=point, style=invis, width=0, height=0];"));
            }
            self.nodes_in(index, depth + 1);
            self.line(depth, "}");
            return;
        }
        let mut attributes = vec![match node.kind {
            NodeKind::Start => {
                "shape=circle, style=filled, fillcolor=black, width=0.15, label=\"\"".to_owned()
            }
            NodeKind::Entrance => "shape=diamond, style=\"\", width=0.2, height=0.2, label=\"\"".to_owned(),
            NodeKind::Fork => {
                "style=filled, fillcolor=black, width=0.6, height=0.06, fixedsize=true, label=\"\"".to_owned()
            }
            NodeKind::ShallowHistory => "shape=circle, width=0.3, margin=0, label=\"H\"".to_owned(),
            NodeKind::DeepHistory => "shape=circle, width=0.3, margin=0, label=\"H*\"".to_owned(),
            NodeKind::Final => format!("peripheries=2, {}", label_of(node)),
            NodeKind::Anywhere => format!("style=\"rounded,dashed\", {}", label_of(node)),
            _ => label_of(node),
        }];
        if node.active {
            attributes.push("color=darkgoldenrod, penwidth=2.5".to_owned());
        }
        self.line(depth, &format!("{id} [{}];", attributes.join(", ")));
    }

    fn edge(&mut self, edge: &Edge) {
        let mut attributes = Vec::new();
        if !edge.labels.is_empty() {
            let lines = edge.labels.iter().flat_map(Label::lines);
            // Set flush left, and kept off the arrow.
            let lines: String = lines.map(|line| format!(" {}\\l", escaped(&line))).collect();
            attributes.push(format!("label=\"{lines}\""));
        }
        for (side, end) in [("ltail", edge.from), ("lhead", edge.to)] {
            if self.diagram.node(end).kind.holds_others() {
                attributes.push(format!("{side}={}", quoted(&format!("cluster {}", id(self.diagram, end)))));
            }
        }
        let from = self.end(edge.from, "out of");
        let to = self.end(edge.to, "into");
        match attributes.is_empty() {
            true => self.line(1, &format!("{from} -> {to};")),
            false => self.line(1, &format!("{from} -> {to} [{}];", attributes.join(", "))),
        }
    }

    /// What an arrow leads to: the node itself, or a cluster's anchor.
    fn end(&self, node: NodeIndex, anchor: &str) -> String {
        let id = id(self.diagram, node);
        match self.diagram.node(node).kind.holds_others() {
            true => quoted(&format!("{anchor} {id}")),
            false => quoted(&id),
        }
    }

    /// The anchors that arrows to and from a cluster need.
    fn anchors(&self, cluster: NodeIndex) -> Vec<String> {
        let edges = &self.diagram.edges;
        let entered = edges.iter().any(|edge| edge.to == cluster).then_some("into");
        let left = edges.iter().any(|edge| edge.from == cluster).then_some("out of");
        entered.into_iter().chain(left).map(|anchor| self.end(cluster, anchor)).collect()
    }
}

/// A path cannot have a blank, so the other nodes' ids differ from every state's.
fn id(diagram: &Diagram, index: NodeIndex) -> String {
    let path = diagram.path(index).join(".");
    match diagram.node(index).kind {
        NodeKind::Start => format!("start {path}"),
        NodeKind::Entrance => format!("enter {path}"),
        NodeKind::Fork => format!("fork {index}"),
        _ => path,
    }
}

/// The name, and below a rule what happens inside.
fn label_of(node: &Node) -> String {
    if node.lines.is_empty() {
        return format!("label={}", quoted(&node.name));
    }
    let lines: String =
        node.lines.iter().map(|line| format!("{}\\l", escaped_in_record(&line.to_string()))).collect();
    let style = if node.kind == NodeKind::Anywhere { "dashed" } else { "\"\"" };
    format!("shape=Mrecord, style={style}, label=\"{{{}|{lines}}}\"", escaped_in_record(&node.name))
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", escaped(text))
}

/// Inside quotes, where Graphviz knows backslashes and the entities of HTML.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('&', "&amp;")
}

/// In a record, where braces, bars and angles part its fields.
fn escaped_in_record(text: &str) -> String {
    let mut out = String::new();
    for c in escaped(text).chars() {
        if matches!(c, '{' | '}' | '|' | '<' | '>') {
            out.push('\\');
        }
        out.push(c);
    }
    out
}
