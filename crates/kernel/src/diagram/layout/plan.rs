//! What is drawn at which level: the parts that each arrow has, and whether they lead down or back up.
//!
//! An arrow belongs to the innermost node around both its ends; there it leads from box to box. In what holds an end
//! further in, it leads to or from a port. Circles are broken where a search from the beginning meets them, so that
//! most arrows lead down the page.

use std::collections::HashMap;

use crate::diagram::layout::rank;
use crate::diagram::{Diagram, NodeIndex, NodeKind};

/// An end of a part: a box of the level, or a port in the border around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Box(NodeIndex),
    Top,
    Bottom,
}

/// A part of an arrow as it is drawn, from top to bottom.
#[derive(Clone, Copy, Debug)]
pub struct Piece {
    pub edge: usize,
    /// Its place among the edge's parts.
    pub order: i32,
    pub upper: End,
    pub lower: End,
    /// Whether the arrow runs from the lower end to the upper.
    pub upward: bool,
    /// Whether the edge's labels stand here.
    pub labelled: bool,
}

#[derive(Debug, Default)]
pub struct Plan {
    /// By the node that they lie in.
    pub pieces: HashMap<NodeIndex, Vec<Piece>>,
    /// Edges from a node of the level to itself.
    pub loops: HashMap<NodeIndex, Vec<usize>>,
}

/// What an edge is at the level that it belongs to.
struct Across {
    edge: usize,
    from: NodeIndex,
    to: NodeIndex,
}

pub fn plan(diagram: &Diagram) -> Plan {
    let mut plan = Plan::default();
    let mut across: HashMap<NodeIndex, Vec<Across>> = HashMap::new();
    for (edge, ends) in diagram.edges.iter().enumerate() {
        if ends.from == ends.to {
            plan.loops.entry(diagram.node(ends.from).parent).or_default().push(edge);
            continue;
        }
        let scope = scope(diagram, ends.from, ends.to);
        let child = |end| child_towards(diagram, scope, end);
        if let (Some(from), Some(to)) = (child(ends.from), child(ends.to))
            && from != to
        {
            across.entry(scope).or_default().push(Across { edge, from, to });
        }
    }
    for (scope, across) in across {
        let upward = upward(diagram, scope, &across);
        for (Across { edge, from, to }, upward) in across.into_iter().zip(upward) {
            let (upper, lower) = if upward { (to, from) } else { (from, to) };
            let (upper, lower) = (End::Box(upper), End::Box(lower));
            let piece = Piece { edge, order: 0, upper, lower, upward, labelled: true };
            plan.pieces.entry(scope).or_default().push(piece);
            let ends = &diagram.edges[edge];
            inwards(diagram, &mut plan, (edge, ends.from, from), upward, -1);
            inwards(diagram, &mut plan, (edge, ends.to, to), upward, 1);
        }
    }
    for pieces in plan.pieces.values_mut() {
        pieces.sort_by_key(|piece| (piece.edge, piece.order));
    }
    plan
}

/// The parts of an edge in the nodes from `outermost` in to the one around `end`. On the side that the arrow comes from
/// `sign` is -1.
fn inwards(
    diagram: &Diagram,
    plan: &mut Plan,
    (edge, end, outermost): (usize, NodeIndex, NodeIndex),
    upward: bool,
    sign: i32,
) {
    let mut inner = end;
    let mut chain = Vec::new();
    while inner != outermost {
        let holder = diagram.node(inner).parent;
        chain.push((holder, inner));
        inner = holder;
    }
    // What leaves at the bottom, or enters there.
    let at_bottom = (sign < 0) != upward;
    for (depth, (holder, child)) in chain.into_iter().rev().enumerate() {
        let child = End::Box(child);
        let (upper, lower) = if at_bottom { (child, End::Bottom) } else { (End::Top, child) };
        let order = sign * (1 + i32::try_from(depth).unwrap_or(0));
        let piece = Piece { edge, order, upper, lower, upward, labelled: false };
        plan.pieces.entry(holder).or_default().push(piece);
    }
}

/// The innermost node that holds both and is neither.
fn scope(diagram: &Diagram, from: NodeIndex, to: NodeIndex) -> NodeIndex {
    let mut scope = diagram.node(from).parent;
    while scope == to || !diagram.holds(scope, to) {
        scope = diagram.node(scope).parent;
    }
    scope
}

/// The child of `scope` that is `end` or holds it.
fn child_towards(diagram: &Diagram, scope: NodeIndex, end: NodeIndex) -> Option<NodeIndex> {
    diagram.node(scope).children.iter().copied().find(|child| diagram.holds(*child, end))
}

/// Which of the edges have to lead up, so that the others lead in no circle. Regions keep their order among themselves;
/// to the rest they are one.
fn upward(diagram: &Diagram, scope: NodeIndex, across: &[Across]) -> Vec<bool> {
    let regions = regions_of(diagram, scope);
    let places = Places::of(diagram, scope);
    let edges: Vec<(usize, usize)> =
        across.iter().map(|edge| (places.place(edge.from), places.place(edge.to))).collect();
    // Entrances stand above what they lead on to, but not above regions, which others crowd already.
    let entrance =
        |child: &&NodeIndex| regions.is_empty() && diagram.node(**child).kind == NodeKind::Entrance;
    let early = diagram.node(scope).children.iter().filter(entrance);
    let early: Vec<usize> = early.map(|child| places.place(*child)).collect();
    let backward = rank::backward(places.count, &early, &edges);
    let back_among_regions = |edge: &Across| {
        let place = |end| regions.iter().position(|region| *region == end);
        place(edge.from).zip(place(edge.to)).map(|(from, to)| from > to)
    };
    across.iter().zip(backward).map(|(edge, backward)| back_among_regions(edge).unwrap_or(backward)).collect()
}

/// The regions of a parallel state.
pub fn regions_of(diagram: &Diagram, scope: NodeIndex) -> Vec<NodeIndex> {
    let node = diagram.node(scope);
    let history = |kind| matches!(kind, NodeKind::ShallowHistory | NodeKind::DeepHistory);
    let region = |child: &NodeIndex| {
        let kind = diagram.node(*child).kind;
        !kind.is_auxiliary() && !history(kind)
    };
    match node.kind {
        NodeKind::Parallel => node.children.iter().copied().filter(region).collect(),
        _ => Vec::new(),
    }
}

/// Whether arrows lead to regions themselves, or from them, so that it has to be seen where they end.
pub fn regions_are_ends(diagram: &Diagram, scope: NodeIndex) -> bool {
    let regions = regions_of(diagram, scope);
    diagram.edges.iter().any(|edge| regions.contains(&edge.from) || regions.contains(&edge.to))
}

/// The children of a node as places in a graph, in which all regions have one place together.
#[derive(Debug)]
pub struct Places {
    place_of: HashMap<NodeIndex, usize>,
    pub count: usize,
}

impl Places {
    pub fn of(diagram: &Diagram, scope: NodeIndex) -> Self {
        let regions = regions_of(diagram, scope);
        let mut places = Self { place_of: HashMap::new(), count: 0 };
        let mut shared = None;
        for child in &diagram.node(scope).children {
            let region = regions.contains(child);
            let place = shared.filter(|_| region).unwrap_or(places.count);
            places.count = places.count.max(place + 1);
            if region {
                shared = Some(place);
            }
            places.place_of.insert(*child, place);
        }
        places
    }

    pub fn place(&self, child: NodeIndex) -> usize {
        self.place_of.get(&child).copied().unwrap_or(0)
    }
}
