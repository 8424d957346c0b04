//! A diagram as Mermaid's `stateDiagram-v2`, which forges and editors draw by themselves.
//!
//! Every text is escaped as Mermaid's entities, and every state has an id that is no word of Mermaid's. Where Mermaid
//! puts a node is decided by the block that names it first, so an arrow stands in a block only if both its ends do.

use std::collections::HashSet;
use std::fmt::Write;

use crate::diagram::{Diagram, Edge, FRAME, Label, Node, NodeIndex, NodeKind};

/// The diagram as the text of a `.mmd` file.
pub fn mermaid(diagram: &Diagram) -> String {
    let mut writer = Writer { diagram, ids: ids(diagram), out: String::new() };
    let _ = writeln!(writer.out, "---\ntitle: \"{}\"\n---\nstateDiagram-v2", diagram.title);
    writer.nodes_in(FRAME, 1);
    for edge in &diagram.edges {
        if writer.block_of(edge) == FRAME {
            writer.edge(edge, 1);
        }
    }
    writer.classes();
    writer.out
}

struct Writer<'d> {
    diagram: &'d Diagram,
    ids: Vec<String>,
    out: String,
}

impl Writer<'_> {
    fn line(&mut self, depth: usize, text: &str) {
        let _ = writeln!(self.out, "{:width$}{text}", "", width = depth * 2);
    }

    fn nodes_in(&mut self, block: NodeIndex, depth: usize) {
        let parallel = self.diagram.node(block).kind == NodeKind::Parallel;
        let diagram = self.diagram;
        let is_region = |child: NodeIndex| !diagram.node(child).kind.is_auxiliary();
        let mut before = None;
        for child in &self.diagram.node(block).children {
            // What is no region shares a place beside the regions.
            if parallel && before.is_some_and(|before| is_region(before) || is_region(*child)) {
                self.line(depth, "--");
            }
            before = Some(*child);
            self.node(*child, depth);
        }
        if block != FRAME {
            for edge in &self.diagram.edges {
                if self.block_of(edge) == block {
                    self.edge(edge, depth);
                }
            }
        }
    }

    fn node(&mut self, index: NodeIndex, depth: usize) {
        let node = self.diagram.node(index);
        let id = self.ids[index].clone();
        let name = match node.kind {
            NodeKind::ShallowHistory => "H",
            NodeKind::DeepHistory => "H*",
            _ => &node.name,
        };
        let declared = format!("state \"{}\" as {id}", escaped(name));
        match node.kind {
            NodeKind::Start => {}
            NodeKind::Entrance => self.line(depth, &format!("state {id} <<choice>>")),
            NodeKind::Fork => self.line(depth, &format!("state {id} <<fork>>")),
            NodeKind::Compound | NodeKind::Parallel => {
                self.line(depth, &format!("{declared} {{"));
                self.nodes_in(index, depth + 1);
                self.line(depth, "}");
            }
            _ => self.line(depth, &declared),
        }
        for line in &node.lines {
            self.line(depth, &format!("{id} : {}", escaped(&line.to_string())));
        }
        if node.kind == NodeKind::Final {
            self.line(depth, &format!("{id} --> [*]"));
        }
    }

    /// The block that an arrow is written in.
    fn block_of(&self, edge: &Edge) -> NodeIndex {
        let (from, to) = (self.diagram.node(edge.from), self.diagram.node(edge.to));
        let together = from.parent == to.parent && edge.from != FRAME;
        let parted = self.diagram.node(from.parent).kind == NodeKind::Parallel;
        if together && !parted { from.parent } else { FRAME }
    }

    fn edge(&mut self, edge: &Edge, depth: usize) {
        let arrow = format!("{} --> {}", self.ids[edge.from], self.ids[edge.to]);
        let labels: Vec<String> =
            edge.labels.iter().flat_map(Label::lines).map(|line| escaped(&line)).collect();
        match labels.is_empty() {
            true => self.line(depth, &arrow),
            false => self.line(depth, &format!("{arrow} : {}", labels.join("<br/>"))),
        }
    }

    fn classes(&mut self) {
        let anywhere = self.ids_where(|node| node.kind == NodeKind::Anywhere);
        self.class("anywhere", "stroke-dasharray:4 3,fill:none", &anywhere);
        let active = self.ids_where(|node| node.active);
        self.class("active", "stroke:#b8860b,stroke-width:3px", &active);
    }

    fn ids_where(&self, condition: impl Fn(&Node) -> bool) -> String {
        let numbered = self.diagram.nodes.iter().enumerate();
        let ids = numbered.filter(|(_, node)| condition(node)).map(|(index, _)| self.ids[index].as_str());
        ids.collect::<Vec<_>>().join(",")
    }

    fn class(&mut self, name: &str, style: &str, ids: &str) {
        if !ids.is_empty() {
            self.line(1, &format!("classDef {name} {style}"));
            self.line(1, &format!("class {ids} {name}"));
        }
    }
}

/// An id for every node: readable, and begun with what keeps it from being a word of Mermaid's, such as `end`.
fn ids(diagram: &Diagram) -> Vec<String> {
    let mut taken = HashSet::new();
    let id = |(index, node): (NodeIndex, &Node)| {
        let prefix = match node.kind {
            NodeKind::Start => return "[*]".to_owned(),
            NodeKind::Entrance => "enter",
            NodeKind::Fork => "fork",
            _ => "s",
        };
        let mut id = prefix.to_owned();
        for name in diagram.path(index) {
            id.push('_');
            id.extend(name.chars().map(|c| if c.is_alphanumeric() { c } else { '_' }));
        }
        // `a.b` and `a_b` look the same by now; and Mermaid itself calls the ends of a state `…_start` and `…_end`.
        while id.ends_with("_start") || id.ends_with("_end") || !taken.insert(id.clone()) {
            let _ = write!(id, "_{index}");
        }
        id
    };
    diagram.nodes.iter().enumerate().map(id).collect()
}

/// What Mermaid, the Markdown in its labels and HTML might take for their own becomes an entity.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    let mut before = None;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let within_a_word = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
        // Mermaid marks its own entities with this ligature, and finds them even where they are escaped.
        if c == '\u{fb02}' {
            out.push_str("fl");
            continue;
        }
        let plain = match c {
            '_' => within_a_word(before) && within_a_word(chars.peek().copied()),
            // Items of a list, and links.
            '.' => chars.peek() != Some(&' '),
            '+' => before.is_some(),
            '-' => before.is_some_and(|b| b != '-') && chars.peek() != Some(&'-'),
            '(' => before != Some(']'),
            ' ' | ',' | ')' | '[' | ']' | '=' | '/' | '!' | '?' | '\'' | '…' => true,
            c => c.is_alphanumeric(),
        };
        match plain {
            true => out.push(c),
            false => {
                let _ = write!(out, "#{};", u32::from(c));
            }
        }
        before = Some(c);
    }
    out
}
