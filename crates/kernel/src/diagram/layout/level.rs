//! One level of nesting: the boxes that a node holds, and the parts of arrows among them.

use std::collections::HashMap;

use crate::diagram::layout::channel::{self, Run};
use crate::diagram::layout::label::Block;
use crate::diagram::layout::parting::partings;
use crate::diagram::layout::plan::{End, Piece, Places, Plan, regions_are_ends, regions_of};
use crate::diagram::layout::rows::{self, Spec, Wire};
use crate::diagram::layout::side::{self, Wish};
use crate::diagram::layout::straight::{self, Body, Tie};
use crate::diagram::layout::{
    HEADER, HEADER_INDENT, LABEL_GAP, LOOP_REACH, MARGIN, Point, Rect, even, rank, size,
};
use crate::diagram::text::{self, NAME};
use crate::diagram::{Diagram, FRAME, NodeIndex, NodeKind};

/// Between the border of a state and what it holds.
const PADDING: i32 = 18;
/// Between what stands in one row, at the least.
const GAP: i32 = 10;
/// Between two boxes, and between two arrows; a box and an arrow have half of both.
const BOX_GAP: i32 = 36;
const LINE_GAP: i32 = 14;
/// A page is about so much wider than high.
const PROPORTION: f64 = 1.4;

/// What a node holds, seen from its upper left corner.
#[derive(Debug, Default)]
pub struct Inside {
    pub width: i32,
    pub height: i32,
    pub boxes: Vec<(NodeIndex, Rect)>,
    pub parts: Vec<Part>,
    /// How far from the left each edge crosses the border, if it does.
    pub ports: HashMap<usize, i32>,
    pub partings: Vec<[Point; 2]>,
}

/// A part of an edge, in the direction of its arrow.
#[derive(Debug)]
pub struct Part {
    pub edge: usize,
    pub order: i32,
    pub points: Vec<Point>,
    pub labels: Vec<Rect>,
}

/// What stands in a row.
#[derive(Clone, Copy, Debug)]
struct Item {
    what: What,
    x: i32,
    /// The room that it takes beside `x`.
    left: i32,
    right: i32,
    height: i32,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum What {
    Box(NodeIndex),
    Port(usize),
    /// An arrow that passes, with its label if that stands here.
    Line(usize),
}

/// One level while it is being laid out.
struct Draft<'d> {
    diagram: &'d Diagram,
    index: NodeIndex,
    pieces: &'d [Piece],
    loops: HashMap<NodeIndex, (usize, Block)>,
    blocks: Vec<Block>,
    insides: &'d HashMap<NodeIndex, Inside>,
    sizes: HashMap<NodeIndex, (i32, i32)>,
    rows: Vec<Vec<Item>>,
    /// Where each piece passes each row from its upper end to its lower.
    ways: Vec<Vec<i32>>,
    first_row: Vec<usize>,
    width: i32,
}

pub fn lay_out(
    diagram: &Diagram,
    plan: &Plan,
    index: NodeIndex,
    insides: &HashMap<NodeIndex, Inside>,
) -> Inside {
    let pieces = plan.pieces.get(&index).map_or(&[][..], |pieces| &pieces[..]);
    let on_a_side = |node: NodeIndex, holder: NodeIndex| {
        let around = plan.pieces.get(&holder).map_or(&[][..], |pieces| &pieces[..]);
        let above = around.iter().filter(|piece| piece.lower == End::Box(node)).count();
        above.max(around.iter().filter(|piece| piece.upper == End::Box(node)).count())
    };
    let loops = plan
        .loops
        .get(&index)
        .into_iter()
        .flatten()
        .map(|edge| (diagram.edges[*edge].from, (*edge, Block::of(diagram, *edge))));
    let labelled =
        |piece: &Piece| if piece.labelled { Block::of(diagram, piece.edge) } else { Block::default() };
    let mut draft = Draft {
        diagram,
        index,
        pieces,
        loops: loops.collect(),
        blocks: pieces.iter().map(labelled).collect(),
        insides,
        sizes: HashMap::new(),
        rows: Vec::new(),
        ways: Vec::new(),
        first_row: Vec::new(),
        width: 0,
    };
    for child in &diagram.node(index).children {
        let own = || size(diagram.node(*child), on_a_side(*child, index));
        let size = insides.get(child).map_or_else(own, |inside| (inside.width, inside.height));
        draft.sizes.insert(*child, size);
    }
    draft.stand();
    let arrows = if index == FRAME { 0 } else { on_a_side(index, diagram.node(index).parent) };
    draft.fit(i32::try_from(arrows).unwrap_or(0));
    draft.attach();
    draft.draw()
}

impl Draft<'_> {
    fn header(&self) -> i32 {
        if self.index == FRAME { 0 } else { HEADER }
    }

    fn padding(&self) -> i32 {
        if self.index == FRAME { MARGIN } else { PADDING }
    }

    /// How far to the right the name reaches that no arrow is to run through.
    fn name_end(&self) -> i32 {
        if self.index == FRAME {
            return 0;
        }
        HEADER_INDENT + text::width(&self.diagram.node(self.index).name, NAME) + GAP
    }

    /// The row of each child; ports stand in rows of their own above and below.
    fn child_rows(&self) -> HashMap<NodeIndex, i32> {
        let children = &self.diagram.node(self.index).children;
        let between = |piece: &Piece| match (piece.upper, piece.lower) {
            (End::Box(upper), End::Box(lower)) => Some((upper, lower)),
            _ => None,
        };
        let edges: Vec<(NodeIndex, NodeIndex)> = self.pieces.iter().filter_map(between).collect();
        let regions = regions_of(self.diagram, self.index);
        let apart = !edges.iter().any(|(upper, lower)| regions.contains(upper) && regions.contains(lower));
        if !regions.is_empty() && apart && self.side_by_side(&regions) {
            let level = Places::of(self.diagram, self.index);
            let places: Vec<_> = edges.iter().map(|(u, l)| (level.place(*u), level.place(*l))).collect();
            let ranks = rank::ranks(level.count, &places);
            return children.iter().map(|child| (*child, ranks[level.place(*child)])).collect();
        }
        let place: HashMap<NodeIndex, usize> =
            children.iter().enumerate().map(|(at, child)| (*child, at)).collect();
        let chain = regions.windows(2).map(|pair| (pair[0], pair[1]));
        let places: Vec<_> =
            edges.iter().copied().chain(chain).map(|(u, l)| (place[&u], place[&l])).collect();
        let ranks = rank::ranks(children.len(), &places);
        children.iter().zip(ranks).map(|(child, rank)| (*child, rank)).collect()
    }

    /// Whether a page is filled better so than with regions below one another.
    fn side_by_side(&self, regions: &[NodeIndex]) -> bool {
        let sizes: Vec<(i32, i32)> = regions.iter().map(|region| self.sizes[region]).collect();
        let wide: i32 = sizes.iter().map(|(width, _)| width).sum();
        let high: i32 = sizes.iter().map(|(_, height)| height).sum();
        let widest = sizes.iter().map(|(width, _)| *width).max().unwrap_or(1);
        let highest = sizes.iter().map(|(_, height)| *height).max().unwrap_or(1);
        let off =
            |width: i32, height: i32| (f64::from(width) / f64::from(height.max(1)) / PROPORTION).ln().abs();
        off(wide, highest) <= off(widest, high)
    }

    /// Puts everything into rows, and each thing where it stands in its row.
    fn stand(&mut self) {
        let rows_of = self.child_rows();
        let below_top = i32::from(self.pieces.iter().any(|piece| piece.upper == End::Top));
        let last = rows_of.values().copied().max().unwrap_or(0) + below_top;
        let children = self.diagram.node(self.index).children.clone();
        let mut specs = Vec::new();
        let mut whats = Vec::new();
        let mut spec_of = HashMap::new();
        for child in &children {
            let beside = self.loops.get(child).map_or(0, |(_, block)| LOOP_REACH + LABEL_GAP + block.width);
            spec_of.insert(*child, specs.len());
            specs.push(Spec { width: self.sizes[child].0, row: rows_of[child] + below_top, beside });
            whats.push(What::Box(*child));
        }
        let mut wires = Vec::new();
        for (number, piece) in self.pieces.iter().enumerate() {
            let mut end = |end: End| match end {
                End::Box(child) => spec_of[&child],
                End::Top | End::Bottom => {
                    let row = if end == End::Top { 0 } else { last + 1 };
                    specs.push(Spec { width: 2, row, beside: 0 });
                    whats.push(What::Port(number));
                    specs.len() - 1
                }
            };
            let (upper, lower) = (end(piece.upper), end(piece.lower));
            let first =
                matches!(piece.upper, End::Box(node) if self.diagram.node(node).kind == NodeKind::Start);
            let weight = if first { 8 } else { 4 };
            wires.push(Wire { upper, lower, label: self.blocks[number].width, weight });
        }
        let columns = rows::columns(&specs, &wires);
        let count = specs.iter().map(|spec| spec.row).max().unwrap_or(0) * 2 + 1;
        self.rows = vec![Vec::new(); usize::try_from(count).unwrap_or(1)];
        for ((spec, what), x) in specs.iter().zip(whats).zip(&columns.nodes) {
            let item = self.item(what, *x, spec);
            self.rows[doubled(spec.row)].push(item);
        }
        for (number, (wire, xs)) in wires.iter().zip(&columns.wires).enumerate() {
            let (upper, lower) = (specs[wire.upper].row, specs[wire.lower].row);
            self.first_row.push(doubled(upper));
            let label_row = rows::label_row(upper, lower);
            for (step, x) in xs.iter().enumerate() {
                let row = doubled(upper) + 1 + step;
                let block = &self.blocks[number];
                let here = usize::try_from(label_row) == Ok(row) && block.width > 0;
                let (right, height) = if here { (LABEL_GAP + block.width, block.height()) } else { (0, 0) };
                self.rows[row].push(Item { what: What::Line(number), x: *x, left: 0, right, height });
            }
        }
        for row in &mut self.rows {
            row.sort_by_key(|item| item.x);
            keep_apart(row);
        }
        self.straighten();
    }

    fn straighten(&mut self) {
        let mut bodies = Vec::new();
        let mut boxes = HashMap::new();
        let mut ports = HashMap::new();
        let mut lines = vec![Vec::new(); self.pieces.len()];
        for (row, items) in self.rows.iter().enumerate() {
            for item in items {
                match item.what {
                    What::Box(child) => {
                        boxes.insert(child, bodies.len());
                    }
                    What::Port(number) => {
                        ports.insert(number, bodies.len());
                    }
                    What::Line(number) => lines[number].push(bodies.len()),
                }
                let is_box = matches!(item.what, What::Box(_));
                let Item { x, left, right, .. } = *item;
                bodies.push(Body {
                    row,
                    x,
                    left,
                    right,
                    gap: if is_box { BOX_GAP / 2 } else { LINE_GAP / 2 },
                    is_box,
                });
            }
        }
        let mut ties = Vec::new();
        for (number, lines) in lines.iter().enumerate() {
            let piece = &self.pieces[number];
            for (end, near) in [(piece.upper, lines.first()), (piece.lower, lines.last())] {
                let one = match end {
                    End::Box(child) => boxes.get(&child),
                    End::Top | End::Bottom => ports.get(&number),
                };
                let (offset, reach) = self.meets(end, piece.edge);
                ties.extend(one.zip(near).map(|(one, near)| Tie { one: *one, other: *near, offset, reach }));
            }
            ties.extend(lines.windows(2).map(|pair| Tie {
                one: pair[0],
                other: pair[1],
                offset: 0,
                reach: 0,
            }));
        }
        straight::straighten(&mut bodies, &ties);
        for (item, body) in self.rows.iter_mut().flatten().zip(bodies) {
            item.x = body.x;
        }
    }

    /// Where from the middle of an end an edge meets it best, and how far beside that it may.
    fn meets(&self, end: End, edge: usize) -> (i32, i32) {
        let End::Box(child) = end else { return (0, 0) };
        let (width, _) = self.sizes[&child];
        let port = self.insides.get(&child).and_then(|inside| inside.ports.get(&edge));
        match port {
            Some(port) => (port - width / 2, 0),
            None if is_pointed(self.diagram.node(child).kind) => (0, 0),
            None => (0, (width / 2 - side::CORNER).max(0)),
        }
    }

    fn item(&self, what: What, x: i32, spec: &Spec) -> Item {
        let What::Box(child) = what else { return Item { what, x, left: 0, right: 0, height: 0 } };
        let (_, height) = self.sizes[&child];
        let height = self.loops.get(&child).map_or(height, |(_, block)| height.max(block.height()));
        let left = spec.width / 2;
        Item { what, x, left, right: spec.width - left + spec.beside, height }
    }

    /// Finds the width, and moves everything to where it begins.
    fn fit(&mut self, arrows: i32) {
        let items = || self.rows.iter().flatten();
        let left = items().map(|item| item.x - item.left).min().unwrap_or(0);
        let right = items().map(|item| item.x + item.right).max().unwrap_or(0);
        let own = if self.index == FRAME { 0 } else { self.name_end() + 4 };
        let ports =
            self.pieces.iter().filter(|piece| piece.lower == End::Bottom || piece.upper == End::Top).count();
        let arrows = (arrows + i32::try_from(ports).unwrap_or(0) + 1) * side::SPACING;
        self.width = even((right - left + 2 * self.padding()).max(own).max(arrows));
        let shift = (self.width - (right - left)) / 2 - left;
        for item in self.rows.iter_mut().flatten() {
            item.x += shift;
        }
        // Arrows from above come in beside the name.
        let clear = self.name_end() + 4;
        let ports = self.pieces.iter().any(|piece| piece.upper == End::Top);
        if let Some(row) = self.rows.first_mut().filter(|_| ports) {
            for item in row.iter_mut() {
                item.x = item.x.max(clear);
            }
            keep_apart(row);
            let end = row.last().map_or(0, |item| item.x + PADDING);
            self.width = even(self.width.max(end));
        }
    }

    /// Finds where each piece begins and ends, between which it passes the rows.
    fn attach(&mut self) {
        let mut passes: Vec<Vec<i32>> = vec![Vec::new(); self.pieces.len()];
        for item in self.rows.iter().flatten() {
            if let What::Line(number) = item.what {
                passes[number].push(item.x);
            }
        }
        let mut ends = vec![[0, 0]; self.pieces.len()];
        for item in self.rows.iter().flatten() {
            match item.what {
                What::Line(_) => {}
                What::Port(number) => {
                    let side = usize::from(self.pieces[number].upper != End::Top);
                    ends[number][side] = item.x;
                }
                What::Box(child) => {
                    for side in [0, 1] {
                        self.attach_side(child, item, side, &passes, &mut ends);
                    }
                }
            }
        }
        let way = |(passes, [upper, lower]): (&Vec<i32>, [i32; 2])| {
            std::iter::once(upper).chain(passes.iter().copied()).chain([lower]).collect()
        };
        self.ways = passes.iter().zip(ends).map(way).collect();
    }

    /// `side` is 0 for pieces that begin at the box, below it, and 1 for those that end at it.
    fn attach_side(
        &self,
        child: NodeIndex,
        item: &Item,
        side: usize,
        passes: &[Vec<i32>],
        ends: &mut [[i32; 2]],
    ) {
        let here = |piece: &Piece| [piece.upper, piece.lower][side] == End::Box(child);
        let numbers: Vec<usize> =
            (0..self.pieces.len()).filter(|number| here(&self.pieces[*number])).collect();
        let (left, right) = (item.x - item.left, item.x - item.left + self.sizes[&child].0);
        let ports = self.insides.get(&child).map(|inside| &inside.ports);
        let wish = |number: &usize| {
            let port = ports.and_then(|ports| ports.get(&self.pieces[*number].edge));
            let near = if side == 0 { passes[*number].first() } else { passes[*number].last() };
            match port {
                Some(port) => Wish { x: left + port, fixed: true },
                None => Wish { x: near.copied().unwrap_or(item.x), fixed: false },
            }
        };
        let wishes: Vec<Wish> = numbers.iter().map(wish).collect();
        let places = match is_pointed(self.diagram.node(child).kind) {
            true => vec![item.x; wishes.len()],
            false => side::places(left, right, &wishes),
        };
        for (number, place) in numbers.into_iter().zip(places) {
            ends[number][side] = place;
        }
    }

    /// The pieces that run from this row to the next, and what they do between.
    fn runs(&self, row: usize) -> (Vec<usize>, Vec<Run>) {
        let at = |number: &usize| {
            let step = row.checked_sub(self.first_row[*number])?;
            let way = &self.ways[*number];
            Some(Run { above: *way.get(step)?, below: *way.get(step + 1)? })
        };
        (0..self.pieces.len()).filter_map(|number| Some((number, at(&number)?))).unzip()
    }

    fn draw(self) -> Inside {
        let mut inside = Inside { width: self.width, ..Inside::default() };
        let top_ports = self.pieces.iter().any(|piece| piece.upper == End::Top);
        let bottom_ports = self.pieces.iter().any(|piece| piece.lower == End::Bottom);
        let mut y = self.header()
            + if top_ports {
                0
            } else if self.index == FRAME {
                MARGIN
            } else {
                6
            };
        let mut spans = Vec::new();
        // Where each piece runs across below each of its rows.
        let mut crossings: Vec<Vec<Option<i32>>> = vec![Vec::new(); self.pieces.len()];
        for (number, row) in self.rows.iter().enumerate() {
            let height = row.iter().map(|item| item.height).max().unwrap_or(0);
            spans.push((y, height));
            y += height;
            if number + 1 == self.rows.len() {
                break;
            }
            let (pieces, runs) = self.runs(number);
            let (tracks, count) = channel::tracks(&runs);
            for (piece, track) in pieces.into_iter().zip(tracks) {
                let across = track.map(|track| y + CHANNEL_TOP + i32::try_from(track).unwrap_or(0) * TRACK);
                crossings[piece].push(across);
            }
            y += channel_height(count);
        }
        inside.height = if bottom_ports { y } else { y + self.padding() };
        self.put_boxes(&spans, &mut inside);
        for (number, crossings) in crossings.iter().enumerate() {
            let part = self.part(number, &spans, crossings, &mut inside);
            inside.parts.push(part);
        }
        inside
    }

    fn put_boxes(&self, spans: &[(i32, i32)], inside: &mut Inside) {
        let regions = regions_of(self.diagram, self.index);
        for (row, (top, height)) in self.rows.iter().zip(spans) {
            for item in row {
                let What::Box(child) = item.what else { continue };
                let (width, own) = self.sizes[&child];
                let own =
                    if regions.contains(&child) && self.insides.contains_key(&child) { *height } else { own };
                // Names in one row stand on one line, and marks beside them.
                let y = if own < ROW { top + (ROW.min(*height) - own) / 2 } else { *top };
                let place = Rect { x: item.x - item.left, y, width, height: own };
                inside.boxes.push((child, place));
                if let Some((edge, block)) = self.loops.get(&child) {
                    inside.parts.push(looped(*edge, block, place));
                }
            }
        }
        if !regions_are_ends(self.diagram, self.index) {
            let places = inside.boxes.iter().filter(|(child, _)| regions.contains(child));
            inside.partings = partings(&places.map(|(_, place)| *place).collect::<Vec<_>>());
        }
    }

    fn part(
        &self,
        number: usize,
        spans: &[(i32, i32)],
        crossings: &[Option<i32>],
        inside: &mut Inside,
    ) -> Part {
        let (piece, way) = (self.pieces[number], &self.ways[number]);
        let (first, last) = (self.first_row[number], self.first_row[number] + way.len() - 1);
        let place =
            |child: NodeIndex| inside.boxes.iter().find(|(node, _)| *node == child).map(|(_, place)| *place);
        let begin = match piece.upper {
            End::Box(child) => place(child).map_or(0, |place| place.bottom()),
            _ => 0,
        };
        let end = match piece.lower {
            End::Box(child) => place(child).map_or(0, |place| place.y),
            _ => inside.height,
        };
        let mut points = vec![Point { x: way[0], y: begin }];
        for (step, across) in crossings.iter().enumerate() {
            if let Some(y) = across {
                points.extend([Point { x: way[step], y: *y }, Point { x: way[step + 1], y: *y }]);
            }
        }
        points.push(Point { x: way[way.len() - 1], y: end });
        for (port, x) in [(End::Top, way[0]), (End::Bottom, way[way.len() - 1])] {
            if piece.upper == port || piece.lower == port {
                inside.ports.insert(piece.edge, x);
            }
        }
        let mut labels = Vec::new();
        let block = &self.blocks[number];
        if block.width > 0 {
            let row = (first + last) / 2;
            let (top, height) = spans[row];
            labels = block.rects(way[row - first] + LABEL_GAP, top + height / 2);
        }
        if piece.upward {
            points.reverse();
        }
        Part { edge: piece.edge, order: piece.order, points, labels }
    }
}

/// A box with a name and nothing else is so high.
const ROW: i32 = 38;

/// From a row to the first track, from track to track, and from the last to the next row.
const CHANNEL_TOP: i32 = 12;
const TRACK: i32 = 10;
const CHANNEL_BOTTOM: i32 = 16;

fn channel_height(tracks: usize) -> i32 {
    match i32::try_from(tracks).unwrap_or(0) {
        0 => 16,
        tracks => CHANNEL_TOP + (tracks - 1) * TRACK + CHANNEL_BOTTOM,
    }
}

/// Whether arrows meet it in the middle of a side only.
fn is_pointed(kind: NodeKind) -> bool {
    use NodeKind::{DeepHistory, Entrance, ShallowHistory, Start};
    matches!(kind, Start | Entrance | ShallowHistory | DeepHistory)
}

/// Rows are counted with those between them.
fn doubled(row: i32) -> usize {
    usize::try_from(row * 2).unwrap_or(0)
}

/// Moves what overlaps to the right.
fn keep_apart(row: &mut [Item]) {
    let mut free = i32::MIN;
    for item in row {
        item.x = item.x.max(free.saturating_add(item.left));
        free = item.x + item.right + GAP;
    }
}

/// A loop beside its box, on the right.
fn looped(edge: usize, block: &Block, place: Rect) -> Part {
    let middle = place.y + place.height / 2;
    let reach = (place.height / 4).clamp(4, 10);
    let (near, far) = (place.right(), place.right() + LOOP_REACH);
    let points =
        [(near, middle - reach), (far, middle - reach), (far, middle + reach), (near, middle + reach)];
    let points = points.into_iter().map(|(x, y)| Point { x, y }).collect();
    Part {
        edge,
        order: 0,
        points,
        labels: block.rects(far + LABEL_GAP, middle.max(place.y + block.height() / 2)),
    }
}
