//! A diagram as SVG, for a page or a file.
//!
//! It may stand in a page whose policy allows no style and no script: looks are attributes of presentation, and classes
//! beside them let the page's own style sheet have the last word. It has no ids, so that a page may have several.
//! Whatever a definition says is escaped. `layout` says where things lie, `look` what they look like.

mod look;

use std::fmt::Write;

use crate::diagram::layout::{HEADER, HEADER_INDENT, Layout, NAME_ROW, Point, Rect, Route, regions_are_ends};
use crate::diagram::text::{self, ARROW, BODY, Face, NAME};
use crate::diagram::{Diagram, Edge, Label, Node, NodeIndex, NodeKind, Overlay, Step};
use look::{EdgeLook, NodeLook};

/// The text of an `.svg` file; `layout` is the diagram's own.
pub fn svg(diagram: &Diagram, layout: &Layout, overlay: &Overlay) -> String {
    let mut writer = Writer { diagram, layout, overlay, out: String::new() };
    writer.head();
    for (index, node) in diagram.nodes.iter().enumerate().skip(1) {
        if node.kind.holds_others() {
            writer.holder(index, node);
        }
    }
    for [from, to] in &layout.partings {
        writer.parting(*from, *to);
    }
    for (edge, route) in diagram.edges.iter().zip(&layout.routes) {
        writer.edge(edge, route);
    }
    for (index, node) in diagram.nodes.iter().enumerate().skip(1) {
        if !node.kind.holds_others() {
            writer.node(index, node);
        }
    }
    writer.out.push_str("</g></svg>\n");
    writer.out
}

struct Writer<'d> {
    diagram: &'d Diagram,
    layout: &'d Layout,
    overlay: &'d Overlay,
    out: String,
}

impl Writer<'_> {
    fn head(&mut self) {
        let (width, height) = (self.layout.width, self.layout.height);
        let title = escaped(&self.diagram.title);
        let _ = write!(
            self.out,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"sw-diagram\" role=\"img\" width=\"{width}\" \
             height=\"{height}\" viewBox=\"0 0 {width} {height}\" font-family=\"system-ui, sans-serif\">\
             <title>{title}</title><desc>{}</desc>\n<g transform=\"translate(.5 .5)\">\n",
            escaped(&self.description())
        );
    }

    /// For those who do not see it.
    fn description(&self) -> String {
        let named = |node: &&Node| !node.kind.is_auxiliary();
        let count = self.diagram.nodes.iter().skip(1).filter(named).count();
        let arrows: usize = self.diagram.edges.iter().map(|edge| edge.labels.len()).sum();
        let mut said = format!("{count} states, {arrows} transitions.");
        if !self.overlay.active.is_empty() {
            let active: Vec<&str> = self.overlay.active.iter().map(String::as_str).collect();
            let _ = write!(said, " Active: {}.", active.join(", "));
        }
        for (phase, look) in &self.overlay.phases {
            let _ = write!(said, " {phase}: {}.", look.state.as_str().replace('_', " "));
        }
        said
    }

    /// A state that holds others, without them.
    fn holder(&mut self, index: NodeIndex, node: &Node) {
        let place = self.layout.boxes[index];
        let region = self.diagram.node(node.parent).kind == NodeKind::Parallel;
        let outlined = !region || regions_are_ends(self.diagram, node.parent);
        let look = NodeLook::of(node, region, &self.diagram.state_path(index), self.overlay);
        self.open(index, node, &look);
        if outlined {
            self.rect(place, 12, &look);
        }
        let at = Point { x: place.x + HEADER_INDENT, y: place.y + HEADER / 2 + 6 };
        self.text(&node.name, at, NAME, "start", look.ink);
        self.badge(index, place);
        self.out.push_str("</g>\n");
    }

    fn parting(&mut self, from: Point, to: Point) {
        let _ = writeln!(
            self.out,
            "<path class=\"sw-parting\" d=\"M{} {}L{} {}\" fill=\"none\" stroke=\"{}\" stroke-dasharray=\"5 5\"/>",
            from.x,
            from.y,
            to.x,
            to.y,
            look::FAINT
        );
    }

    fn node(&mut self, index: NodeIndex, node: &Node) {
        let place = self.layout.boxes[index];
        let look = NodeLook::of(node, false, &self.diagram.state_path(index), self.overlay);
        self.open(index, node, &look);
        let middle = Point { x: place.x + place.width / 2, y: place.y + place.height / 2 };
        match node.kind {
            NodeKind::Start => self.circle(middle, place.width / 2 - 1, look::LINE, look::LINE, 1.0),
            NodeKind::Entrance => self.diamond(place, &look),
            NodeKind::Fork => {
                let _ = write!(
                    self.out,
                    "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" rx=\"3\" fill=\"{}\"/>",
                    place.x,
                    place.y,
                    place.width,
                    place.height,
                    look::LINE
                );
            }
            NodeKind::ShallowHistory | NodeKind::DeepHistory => {
                self.circle(middle, place.width / 2, look.fill, look.stroke, look.width);
                let letter = if node.kind == NodeKind::DeepHistory { "H*" } else { "H" };
                self.text(letter, Point { y: middle.y + 4, ..middle }, BODY, "middle", look.ink);
            }
            _ => self.state(index, node, place, &look),
        }
        self.out.push_str("</g>\n");
    }

    fn state(&mut self, index: NodeIndex, node: &Node, place: Rect, look: &NodeLook) {
        self.rect(place, 8, look);
        if node.kind == NodeKind::Final {
            let inner =
                Rect { x: place.x + 3, y: place.y + 3, width: place.width - 6, height: place.height - 6 };
            self.rect(inner, 5, &NodeLook { width: 1.0, ..look.clone() });
        }
        let middle = place.x + place.width / 2;
        let row = if node.lines.is_empty() { place.height } else { NAME_ROW };
        self.text(&node.name, Point { x: middle, y: place.y + row / 2 + 5 }, NAME, "middle", look.ink);
        if !node.lines.is_empty() {
            let y = place.y + NAME_ROW;
            let (left, right) = (place.x, place.right());
            let _ = write!(self.out, "<path d=\"M{left} {y}H{right}\" stroke=\"{}\"/>", look::FAINT);
            let mut y = y + 3;
            for label in &node.lines {
                y = self.label(label, Point { x: place.x + 12, y }, BODY, look::SOFT_INK);
            }
        }
        if let Some(phase) = self.overlay.phases.get(&self.diagram.state_path(index)) {
            self.progress(phase.progress, place, look);
        }
        self.badge(index, place);
    }

    fn progress(&mut self, progress: f64, place: Rect, look: &NodeLook) {
        if !(progress > 0.0 && progress < 1.0) {
            return;
        }
        let whole = place.width - 20;
        let width = (f64::from(whole) * progress).round();
        let (x, y) = (place.x + 10, place.bottom() - 6);
        for (class, width, opacity) in [("sw-track", f64::from(whole), 0.2), ("sw-progress", width, 1.0)] {
            let _ = write!(
                self.out,
                "<rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"3\" rx=\"1.5\" \
                 fill=\"{}\" fill-opacity=\"{opacity}\"/>",
                look.stroke
            );
        }
    }

    /// How many are in a state, on its upper right corner.
    fn badge(&mut self, index: NodeIndex, place: Rect) {
        let path = self.diagram.state_path(index);
        let Some(count) = self.overlay.counts.get(&path).filter(|count| **count > 0) else { return };
        let count = count.to_string();
        let width = text::width(&count, BODY) + 12;
        // Outside of where arrows may come in.
        let (x, y) = (place.right() - 9, place.y - 9);
        let _ = write!(
            self.out,
            "<g class=\"sw-count\"><rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"17\" rx=\"8.5\" \
             fill=\"{}\"/>",
            look::BADGE
        );
        self.text(&count, Point { x: x + width / 2, y: y + 12 }, BODY, "middle", "#ffffff");
        self.out.push_str("</g>");
    }

    fn edge(&mut self, edge: &Edge, route: &Route) {
        let steps = self.steps(edge);
        let look = EdgeLook::of(steps, self.overlay);
        let from = steps.first().map_or_else(|| self.diagram.state_path(edge.from), |step| step.from.clone());
        let to = steps.first().map_or_else(|| self.diagram.state_path(edge.to), |step| step.to.clone());
        let events: Vec<&str> = edge.steps.iter().map(|step| step.event.as_str()).collect();
        let _ = write!(
            self.out,
            "<g class=\"{}\" data-from=\"{}\" data-to=\"{}\" data-event=\"{}\">",
            look.classes,
            escaped(&from),
            escaped(&to),
            escaped(&events.join(" "))
        );
        self.tooltip(edge.labels.iter().map(ToString::to_string));
        let dashes = if look.dashed { " stroke-dasharray=\"6 4\"" } else { "" };
        let _ = write!(
            self.out,
            "<path class=\"sw-line\" d=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"{}\"{dashes}/>",
            way(&route.points),
            look.stroke,
            look.width
        );
        self.head_of_arrow(&route.points, &look);
        for ((label, place), number) in edge.labels.iter().zip(&route.labels).zip(0..) {
            let event = edge.steps.get(number).map_or("", |step: &Step| &step.event);
            let _ = write!(self.out, "<g class=\"sw-label\" data-event=\"{}\">", escaped(event));
            self.label(label, Point { x: place.x, y: place.y }, ARROW, look.ink);
            self.out.push_str("</g>");
        }
        self.out.push_str("</g>\n");
    }

    /// The transitions that an edge stands for. What leads on from a bar belongs to what leads to it.
    fn steps<'s>(&'s self, edge: &'s Edge) -> &'s [Step] {
        if self.diagram.node(edge.from).kind != NodeKind::Fork {
            return &edge.steps;
        }
        let before = self.diagram.edges.iter().find(|before| before.to == edge.from);
        before.map_or(&[], |before| &before.steps)
    }

    fn head_of_arrow(&mut self, points: &[Point], look: &EdgeLook) {
        let [.., before, tip] = points else { return };
        let (x, y) = (f64::from(tip.x), f64::from(tip.y));
        let (dx, dy) = (f64::from((tip.x - before.x).signum()), f64::from((tip.y - before.y).signum()));
        let (length, half) = (7.0 + look.width, 2.8 + look.width / 2.0);
        let (bx, by) = (x - dx * length, y - dy * length);
        let _ = write!(
            self.out,
            "<path class=\"sw-head\" d=\"M{x} {y}L{} {}L{} {}Z\" fill=\"{}\"/>",
            bx - dy * half,
            by + dx * half,
            bx + dy * half,
            by - dx * half,
            look.stroke
        );
    }

    fn open(&mut self, index: NodeIndex, node: &Node, look: &NodeLook) {
        let _ = write!(self.out, "<g class=\"{}\"", look.classes);
        if !node.kind.is_auxiliary() {
            let _ = write!(self.out, " data-state=\"{}\"", escaped(&self.diagram.state_path(index)));
        }
        self.out.push('>');
        let name = Some(node.name.clone()).filter(|name| !name.is_empty());
        self.tooltip(name.into_iter().chain(node.lines.iter().map(ToString::to_string)));
    }

    fn tooltip(&mut self, lines: impl Iterator<Item = String>) {
        let lines: Vec<String> = lines.collect();
        if !lines.is_empty() {
            let _ = write!(self.out, "<title>{}</title>", escaped(&lines.join("\n")));
        }
    }

    fn rect(&mut self, place: Rect, radius: i32, look: &NodeLook) {
        let dashes = if look.dashed { " stroke-dasharray=\"5 4\"" } else { "" };
        let _ = write!(
            self.out,
            "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" rx=\"{radius}\" fill=\"{}\" stroke=\"{}\" \
             stroke-width=\"{}\"{dashes}{}/>",
            place.x, place.y, place.width, place.height, look.fill, look.stroke, look.width, look.opacity
        );
    }

    fn circle(&mut self, at: Point, radius: i32, fill: &str, stroke: &str, width: f64) {
        let _ = write!(
            self.out,
            "<circle cx=\"{}\" cy=\"{}\" r=\"{radius}\" fill=\"{fill}\" stroke=\"{stroke}\" stroke-width=\"{width}\"/>",
            at.x, at.y
        );
    }

    fn diamond(&mut self, place: Rect, look: &NodeLook) {
        let (width, height) = (place.width / 2, place.height / 2);
        let _ = write!(
            self.out,
            "<path d=\"M{} {}l{width} {height}l-{width} {height}l-{width} -{height}Z\" fill=\"{}\" stroke=\"{}\"/>",
            place.x + width,
            place.y,
            look.fill,
            look.stroke
        );
    }

    /// A label from `at` down; where it ends.
    fn label(&mut self, label: &Label, at: Point, face: Face, ink: &str) -> i32 {
        let mut y = at.y;
        for line in text::lines(label) {
            let base = Point { x: at.x + line.indent, y: y + face.leading - 4 };
            self.text(&line.text, base, face, "start", ink);
            y += face.leading;
        }
        y
    }

    fn text(&mut self, text: &str, at: Point, face: Face, anchor: &str, ink: &str) {
        let anchor = if anchor == "start" { String::new() } else { format!(" text-anchor=\"{anchor}\"") };
        let weight = if face.bold { " font-weight=\"600\"" } else { "" };
        let _ = write!(
            self.out,
            "<text x=\"{}\" y=\"{}\" font-size=\"{}\"{weight}{anchor} fill=\"{ink}\">{}</text>",
            at.x,
            at.y,
            face.size,
            escaped(text)
        );
    }
}

/// A line through the points, with its bends rounded.
fn way(points: &[Point]) -> String {
    const RADIUS: i32 = 6;
    let mut d = String::new();
    for (at, point) in points.iter().enumerate() {
        let (Some(before), Some(after)) = (at.checked_sub(1).map(|at| points[at]), points.get(at + 1)) else {
            let command = if at == 0 { 'M' } else { 'L' };
            let _ = write!(d, "{command}{} {}", point.x, point.y);
            continue;
        };
        let length = |other: Point| (other.x - point.x).abs().max((other.y - point.y).abs());
        let radius = RADIUS.min(length(before) / 2).min(length(*after) / 2);
        let towards = |other: Point| Point {
            x: point.x + (other.x - point.x).signum() * radius,
            y: point.y + (other.y - point.y).signum() * radius,
        };
        let (enter, leave) = (towards(before), towards(*after));
        let _ = write!(d, "L{} {}Q{} {} {} {}", enter.x, enter.y, point.x, point.y, leave.x, leave.y);
    }
    d
}

/// As text or as an attribute's value. What XML cannot say at all becomes U+FFFD.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' | '\t' => out.push(c),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}
