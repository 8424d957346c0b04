//! Where things lie in a picture: what holds for any chart, and for those that are shipped.
//!
//! `LAYOUT_CHARTS=800` has more of them tried than every run of the suite does.

use kernel::definition::load;
use kernel::diagram::layout::{Layout, Point, Rect, layout};
use kernel::diagram::{Diagram, FRAME, NodeIndex, Overlay, svg};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use crate::{definitions, directory, machine};

fn overlaps(one: Rect, other: Rect) -> bool {
    one.x < other.right() && other.x < one.right() && one.y < other.bottom() && other.y < one.bottom()
}

fn within(inner: Rect, outer: Rect) -> bool {
    inner.x >= outer.x
        && inner.y >= outer.y
        && inner.right() <= outer.right()
        && inner.bottom() <= outer.bottom()
}

fn on_the_border(point: Point, place: Rect) -> bool {
    let along_x = (place.x..=place.right()).contains(&point.x);
    let along_y = (place.y..=place.bottom()).contains(&point.y);
    (along_x && (point.y == place.y || point.y == place.bottom()))
        || (along_y && (point.x == place.x || point.x == place.right()))
}

/// Whether a run goes through the inside of a place.
fn goes_through(run: &[Point], place: Rect) -> bool {
    let (from, to) = (run[0], run[1]);
    let (left, right) = (from.x.min(to.x), from.x.max(to.x));
    let (top, bottom) = (from.y.min(to.y), from.y.max(to.y));
    left < place.right() && right > place.x && top < place.bottom() && bottom > place.y
}

/// Everything that is wrong with a layout.
fn faults(diagram: &Diagram, layout: &Layout) -> Vec<String> {
    let mut faults = Vec::new();
    let mut claim = |holds: bool, what: String| {
        if !holds {
            faults.push(what);
        }
    };
    let paper = Rect { x: 0, y: 0, width: layout.width, height: layout.height };
    let boxes = &layout.boxes;
    let name = |node: NodeIndex| format!("{} ({:?})", diagram.path(node).join("."), diagram.node(node).kind);
    for (index, node) in diagram.nodes.iter().enumerate().skip(1) {
        claim(within(boxes[index], boxes[node.parent]), format!("{} is not in what holds it", name(index)));
        claim(boxes[index].width > 0 && boxes[index].height > 0, format!("{} is nowhere", name(index)));
        for other in 1..index {
            let apart = !overlaps(boxes[index], boxes[other]);
            let held = diagram.holds(other, index) || diagram.holds(index, other);
            claim(apart || held, format!("{} and {} overlap", name(index), name(other)));
        }
    }
    let labels: Vec<Rect> = layout.routes.iter().flat_map(|route| route.labels.clone()).collect();
    for (number, label) in labels.iter().enumerate() {
        claim(within(*label, paper), format!("the label at {label:?} is not on the paper"));
        for other in &labels[..number] {
            claim(!overlaps(*label, *other), format!("labels overlap: {label:?} {other:?}"));
        }
        for (index, node) in diagram.nodes.iter().enumerate().skip(1) {
            let around = node.kind.holds_others() && within(*label, boxes[index]);
            claim(around || !overlaps(*label, boxes[index]), format!("{label:?} is over {}", name(index)));
        }
    }
    for (edge, route) in diagram.edges.iter().zip(&layout.routes) {
        let shown = format!("{} to {}: {:?}", name(edge.from), name(edge.to), route.points);
        let [first, .., last] = route.points[..] else {
            claim(false, format!("{shown} has no way"));
            continue;
        };
        claim(on_the_border(first, boxes[edge.from]), format!("{shown} begins off its border"));
        claim(on_the_border(last, boxes[edge.to]), format!("{shown} ends off its border"));
        claim(route.labels.len() == edge.labels.len(), format!("{shown} lacks a label"));
        for run in route.points.windows(2) {
            claim((run[0].x == run[1].x) != (run[0].y == run[1].y), format!("{shown} runs aslant"));
            let on_paper =
                |point: &Point| (0..=paper.width).contains(&point.x) && (0..=paper.height).contains(&point.y);
            claim(run.iter().all(on_paper), format!("{shown} leaves the paper"));
            for (index, place) in boxes.iter().enumerate().skip(1) {
                let around = |end| index != end && diagram.holds(index, end);
                let free = around(edge.from) || around(edge.to);
                claim(free || !goes_through(run, *place), format!("{shown} goes through {}", name(index)));
            }
            for label in &labels {
                claim(!goes_through(run, *label), format!("{shown} goes through the label at {label:?}"));
            }
        }
    }
    faults
}

fn check(diagram: &Diagram) {
    let laid = layout(diagram);
    let faults = faults(diagram, &laid);
    assert!(faults.is_empty(), "{}: {}", diagram.title, faults.join("\n"));
    assert_eq!(laid.boxes[FRAME], Rect { x: 0, y: 0, width: laid.width, height: laid.height });
    let drawn = |laid: &Layout| svg(diagram, laid, &Overlay::default());
    assert_eq!(drawn(&laid), drawn(&layout(diagram)), "the same is drawn the same");
}

#[test]
fn machines_and_flows_are_laid_out_without_a_fault() {
    let shipped = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../machines");
    let all = &definitions(&directory()) | &definitions(&shipped);
    assert!(all.len() > 12, "only {} definitions were found", all.len());
    for path in all {
        check(&Diagram::of(&machine(&path), &[]));
    }
}

#[test]
fn a_layout_knows_nothing_of_what_is_active() {
    let machine = machine(&directory().join("thirteen.yaml"));
    let lit: Vec<_> = machine.chart.by_path("checkout.payment").into_iter().collect();
    assert_eq!(layout(&Diagram::of(&machine, &[])), layout(&Diagram::of(&machine, &lit)));
}

/// What a random chart is made of: for each state where it lies and what it is, and transitions.
#[derive(Clone, Debug)]
struct Numbers {
    states: Vec<(u8, u8)>,
    transitions: Vec<[u8; 4]>,
}

fn numbers() -> impl Strategy<Value = Numbers> {
    let states = prop::collection::vec(any::<(u8, u8)>(), 1..40);
    let transitions = prop::collection::vec(any::<[u8; 4]>(), 0..60);
    (states, transitions).prop_map(|(states, transitions)| Numbers { states, transitions })
}

struct Chart {
    parents: Vec<Option<usize>>,
    kinds: Vec<&'static str>,
}

impl Chart {
    fn of(states: &[(u8, u8)]) -> Self {
        let mut parents: Vec<Option<usize>> = Vec::new();
        for (number, (place, _)) in states.iter().enumerate() {
            // Half of them lie at the top; none lies deeper than four.
            let parent = Some(usize::from(*place) % (number * 2).max(1)).filter(|parent| *parent < number);
            let deep = |parent: &usize| {
                std::iter::successors(Some(*parent), |holder: &usize| parents[*holder]).count() < 4
            };
            parents.push(parent.filter(deep));
        }
        let mut chart = Self { parents, kinds: vec!["atomic"; states.len()] };
        for (number, (_, kind)) in states.iter().enumerate() {
            let children = chart.children(Some(number));
            chart.kinds[number] = match (children.len(), kind % 8) {
                (0, _) => "atomic",
                (2.., 0..4) => "parallel",
                _ => "compound",
            };
        }
        for (number, (_, kind)) in states.iter().enumerate() {
            let holder = chart.parents[number];
            let first = chart.children(holder).first() == Some(&number);
            let region = holder.is_some_and(|holder| chart.kinds[holder] == "parallel");
            if chart.kinds[number] == "atomic" && !first && !region {
                chart.kinds[number] = match kind % 8 {
                    // At the top there is nothing to remember.
                    6 if holder.is_some() => "history",
                    7 => "final",
                    _ => "atomic",
                };
            }
        }
        chart
    }

    fn children(&self, holder: Option<usize>) -> Vec<usize> {
        (0..self.parents.len()).filter(|child| self.parents[*child] == holder).collect()
    }

    fn name(number: usize) -> String {
        match number % 7 {
            3 => format!("state_with_a_rather_long_name_{number}"),
            _ => format!("s{number}"),
        }
    }

    fn path(&self, number: usize) -> String {
        let mut names: Vec<String> =
            std::iter::successors(Some(number), |state: &usize| self.parents[*state])
                .map(Self::name)
                .collect();
        names.reverse();
        names.join(".")
    }

    /// One target, or two in regions of the same state.
    fn targets(&self, number: u8, second: u8) -> Value {
        let target = usize::from(number) % self.parents.len();
        let holder = self.parents[target].filter(|holder| self.kinds[*holder] == "parallel");
        let other = holder.and_then(|holder| {
            let others: Vec<usize> =
                self.children(Some(holder)).into_iter().filter(|child| *child != target).collect();
            others.get(usize::from(second) % others.len().max(1)).copied()
        });
        match other.filter(|_| second.is_multiple_of(3)) {
            Some(other) => json!([self.path(target), self.path(other)]),
            None => json!(self.path(target)),
        }
    }

    fn states(&self, holder: Option<usize>, on: &[Map<String, Value>]) -> Value {
        let children = self.children(holder);
        let state = |number: &usize| {
            let mut state = json!({ "on": on[*number] });
            let children = self.children(Some(*number));
            match self.kinds[*number] {
                "compound" => state["initial"] = json!(Self::name(children[0])),
                "parallel" => state["type"] = json!("parallel"),
                "history" => {
                    let siblings = self.children(self.parents[*number]);
                    state = json!({ "type": "history", "target": self.path(siblings[0]) });
                }
                "final" => state = json!({ "type": "final" }),
                _ => {}
            }
            if !children.is_empty() {
                state["states"] = self.states(Some(*number), on);
            }
            (Self::name(*number), state)
        };
        Value::Object(children.iter().map(state).collect())
    }
}

fn definition(numbers: &Numbers) -> String {
    let chart = Chart::of(&numbers.states);
    let mut on = vec![Map::new(); numbers.states.len()];
    let mut anywhere = Map::new();
    for (number, [from, to, second, look]) in numbers.transitions.iter().enumerate() {
        let from = usize::from(*from) % (numbers.states.len() + 1);
        let mut transition = json!({ "target": chart.targets(*to, *second) });
        if look % 4 == 0 {
            transition["guard"] = json!("context.n > 1 && context.n < 1000 || context.n == 5000");
        }
        if look % 3 == 0 {
            transition["assign"] = json!({ "n": "context.n + 1" });
        }
        let event = format!("event_{number}");
        match on.get_mut(from).filter(|_| matches!(chart.kinds[from], "atomic" | "compound" | "parallel")) {
            Some(on) => drop(on.insert(event, transition)),
            None => drop(anywhere.insert(event, transition)),
        }
    }
    let context = json!({ "n": { "type": "integer", "default": 0 } });
    let states = chart.states(None, &on);
    json!({
        "machine": "random", "version": 1, "context": context, "initial": Chart::name(0), "on": anywhere,
        "states": states,
    })
    .to_string()
}

fn charts() -> u32 {
    std::env::var("LAYOUT_CHARTS").ok().and_then(|charts| charts.parse().ok()).unwrap_or(40)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: charts(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_chart_is_laid_out_without_a_fault(numbers in numbers()) {
        let source = definition(&numbers);
        let (machine, diagnostics) = load(&source);
        let machine = machine.unwrap_or_else(|| panic!("{source}\n{diagnostics:?}"));
        check(&Diagram::of(&machine, &[]));
    }
}
