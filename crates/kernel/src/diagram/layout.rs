//! Where everything of a diagram lies: boxes, arrows and labels, in whole pixels.
//!
//! Each node that holds others is laid out by itself (`level`), innermost first, and is then a box in the one around it.
//! An arrow that crosses a border is drawn in parts, which meet in a port of that border. It all rests on rows: boxes
//! stand in rows, arrows pass through rows straight down and change sides only between them, so that no arrow
//! touches a box that it does not belong to, and no label a box or another label. The same diagram lies the same
//! always, whatever of it is active.

mod channel;
mod label;
mod level;
mod parting;
mod plan;
mod rank;
mod rows;
mod side;
mod straight;

use std::collections::HashMap;

use crate::diagram::text::{self, BODY, NAME};
use crate::diagram::{Diagram, FRAME, Node, NodeIndex, NodeKind};
use level::{Inside, Part};
pub use plan::regions_are_ends;

/// Around the whole.
pub const MARGIN: i32 = 16;
/// What the name of a state that holds others stands in.
pub const HEADER: i32 = 30;
/// Where that name begins.
pub const HEADER_INDENT: i32 = 14;
/// Between an arrow and its label.
pub const LABEL_GAP: i32 = 6;
/// How far a loop stands off its box.
const LOOP_REACH: i32 = 18;
/// Between the name in a box and what is written below it.
pub const NAME_ROW: i32 = 28;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Point {
    pub x: i32,
    pub y: i32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rect {
    pub x: i32,
    pub y: i32,
    pub width: i32,
    pub height: i32,
}

impl Rect {
    pub fn right(&self) -> i32 {
        self.x + self.width
    }

    pub fn bottom(&self) -> i32 {
        self.y + self.height
    }

    fn moved(self, x: i32, y: i32) -> Self {
        Self { x: self.x + x, y: self.y + y, ..self }
    }
}

/// The way of an arrow, from where it begins to where it points.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Route {
    pub points: Vec<Point>,
    /// Where each of its labels stands.
    pub labels: Vec<Rect>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    pub width: i32,
    pub height: i32,
    /// By node; the frame is all of it.
    pub boxes: Vec<Rect>,
    /// By edge.
    pub routes: Vec<Route>,
    /// The lines that part regions.
    pub partings: Vec<[Point; 2]>,
}

/// Lays a diagram out.
pub fn layout(diagram: &Diagram) -> Layout {
    let plan = plan::plan(diagram);
    let mut insides: HashMap<NodeIndex, Inside> = HashMap::new();
    // Children stand behind what holds them.
    for index in (0..diagram.nodes.len()).rev() {
        if index == FRAME || diagram.node(index).kind.holds_others() {
            let inside = level::lay_out(diagram, &plan, index, &insides);
            insides.insert(index, inside);
        }
    }
    let mut parts = vec![Vec::new(); diagram.edges.len()];
    let mut whole = Layout {
        boxes: vec![Rect::default(); diagram.nodes.len()],
        routes: vec![Route::default(); diagram.edges.len()],
        ..Layout::default()
    };
    put(FRAME, Point { x: 0, y: 0 }, &insides, &mut whole, &mut parts);
    if let Some(frame) = insides.get(&FRAME) {
        (whole.width, whole.height) = (frame.width, frame.height);
        whole.boxes[FRAME] = Rect { x: 0, y: 0, width: frame.width, height: frame.height };
    }
    for (route, mut parts) in whole.routes.iter_mut().zip(parts) {
        parts.sort_by_key(|(order, _)| *order);
        route.points = joined(parts.into_iter().flat_map(|(_, points)| points));
    }
    whole
}

/// Puts what a node holds where it lies on the paper. `parts` are the parts of each edge, by their place in it.
fn put(
    index: NodeIndex,
    at: Point,
    insides: &HashMap<NodeIndex, Inside>,
    whole: &mut Layout,
    parts: &mut [Vec<(i32, Vec<Point>)>],
) {
    let Some(inside) = insides.get(&index) else { return };
    for (child, place) in &inside.boxes {
        let place = place.moved(at.x, at.y);
        whole.boxes[*child] = place;
        put(*child, Point { x: place.x, y: place.y }, insides, whole, parts);
    }
    // What a row has made taller than it asked to be lets its arrows out further down.
    let bottom = match whole.boxes[index].height {
        0 => inside.height,
        height => height,
    };
    for Part { edge, order, points, labels, .. } in &inside.parts {
        let place = |point: &Point| {
            let y = if point.y == inside.height { bottom } else { point.y };
            Point { x: point.x + at.x, y: y + at.y }
        };
        parts[*edge].push((*order, points.iter().map(place).collect()));
        whole.routes[*edge].labels.extend(labels.iter().map(|label| label.moved(at.x, at.y)));
    }
    for [from, to] in &inside.partings {
        let place = |point: &Point| Point { x: point.x + at.x, y: point.y + at.y };
        whole.partings.push([place(from), place(to)]);
    }
}

/// A line through all points, without those that it would pass anyhow.
fn joined(points: impl Iterator<Item = Point>) -> Vec<Point> {
    let mut line: Vec<Point> = Vec::new();
    for point in points {
        if line.last() == Some(&point) {
            continue;
        }
        if let [.., before, last] = line[..]
            && ((before.x == last.x && last.x == point.x) || (before.y == last.y && last.y == point.y))
        {
            line.pop();
        }
        line.push(point);
    }
    line
}

/// The size that a node which holds nothing asks for, with room for so many arrows on one side.
fn size(node: &Node, arrows: usize) -> (i32, i32) {
    let arrows = i32::try_from(arrows).unwrap_or(0);
    let (width, height) = match node.kind {
        NodeKind::Start => return (14, 14),
        NodeKind::Entrance => return (18, 18),
        NodeKind::ShallowHistory | NodeKind::DeepHistory => return (26, 26),
        NodeKind::Fork => return (even(56.max(arrows * side::SPACING + 16)), 6),
        _ if node.lines.is_empty() => (88.max(text::width(&node.name, NAME) + 36), 38),
        _ => {
            let (width, heights) = text::block(&node.lines, BODY);
            let width = (text::width(&node.name, NAME) + 36).max(width + 26);
            (width.max(88), NAME_ROW + 1 + heights.iter().sum::<i32>() + 9)
        }
    };
    (even(width.max(arrows * side::SPACING + 20)), height)
}

/// Has a middle.
fn even(length: i32) -> i32 {
    length + length.rem_euclid(2)
}
