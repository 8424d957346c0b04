//! A machine as a picture: which boxes there are, what is written in them, and which arrows lead where.
//!
//! Owns what is drawn and how it is worded, so that every notation says the same. `mermaid` and `dot` write it down, of
//! flows (`flow`) too, and leave it to others where on the paper anything lies. `layout` decides that for `svg`, which lays
//! over it what is known of instances (`overlay`).

mod dot;
mod flow;
mod label;
pub mod layout;
mod mermaid;
mod overlay;
mod svg;
mod text;

use std::collections::HashMap;

use crate::chart::{Action, Chart, Kind, ROOT, StateIndex, Transition};
use crate::machine::Machine;

pub use dot::dot;
pub use label::Label;
pub use mermaid::mermaid;
pub use overlay::{Overlay, PhaseLook, Step};
pub use svg::svg;

/// A node, by its place in `Diagram::nodes`.
pub type NodeIndex = usize;

/// The paper, which every other node lies on.
pub const FRAME: NodeIndex = 0;

#[derive(Debug)]
pub struct Diagram {
    pub title: String,
    /// The frame, then every node behind the one that it lies in.
    pub nodes: Vec<Node>,
    /// No arrow leads from a node to one inside it, or back: notations cannot draw that.
    pub edges: Vec<Edge>,
}

#[derive(Debug)]
pub struct Node {
    pub kind: NodeKind,
    /// The state that it stands for, or that it belongs to.
    pub state: StateIndex,
    pub parent: NodeIndex,
    pub children: Vec<NodeIndex>,
    pub name: String,
    /// What happens without leading anywhere: entry, exit, and transitions without a target.
    pub lines: Vec<Label>,
    pub active: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeKind {
    State,
    Final,
    ShallowHistory,
    DeepHistory,
    /// Holds other nodes; one of its states is active.
    Compound,
    /// Holds regions, which are all active.
    Parallel,
    /// Where a compound state, or the machine, begins.
    Start,
    /// Stands for whichever state is active in the one that it lies in: transitions of that one begin here.
    Anywhere,
    /// Where the state that it lies in is entered, if that takes more than an arrow to one child.
    Entrance,
    /// Parts an arrow that leads to several states at once.
    Fork,
}

#[derive(Debug)]
pub struct Edge {
    pub from: NodeIndex,
    pub to: NodeIndex,
    /// One for each transition; none on arrows that no event takes.
    pub labels: Vec<Label>,
    /// What each of the transitions is in the definition's own words; of a flow, what needs what.
    pub steps: Vec<Step>,
}

impl NodeKind {
    pub fn holds_others(self) -> bool {
        matches!(self, Self::Compound | Self::Parallel)
    }

    /// Whether it stands for no state of its own.
    pub fn is_auxiliary(self) -> bool {
        matches!(self, Self::Start | Self::Anywhere | Self::Entrance | Self::Fork)
    }

    fn of(kind: Kind) -> Self {
        match kind {
            Kind::Atomic => Self::State,
            Kind::Final => Self::Final,
            Kind::ShallowHistory => Self::ShallowHistory,
            Kind::DeepHistory => Self::DeepHistory,
            Kind::Compound => Self::Compound,
            Kind::Parallel => Self::Parallel,
        }
    }
}

impl Diagram {
    /// The picture of a machine, in which the states of `active` stand out. Of a flow its phases are drawn.
    pub fn of(machine: &Machine, active: &[StateIndex]) -> Self {
        if let Some(flow) = &machine.flow {
            return Self::of_flow(machine, flow, &[]);
        }
        let mut artist = Artist {
            machine,
            active,
            diagram: Diagram {
                title: format!("{} version {}", machine.name, machine.version),
                nodes: Vec::new(),
                edges: Vec::new(),
            },
            node_of: Vec::new(),
            beside: HashMap::new(),
            edge_between: HashMap::new(),
        };
        artist.draw_states();
        for transition in &machine.chart.transitions {
            artist.draw_transition(transition);
        }
        artist.draw_beginnings();
        artist.diagram
    }

    pub fn node(&self, index: NodeIndex) -> &Node {
        &self.nodes[index]
    }

    /// Whether `outer` is `inner`, or holds it.
    pub fn holds(&self, outer: NodeIndex, inner: NodeIndex) -> bool {
        outer == FRAME || self.up_from(inner).any(|node| node == outer)
    }

    /// The names from the frame's child down to a node's own, as far as it has one.
    pub fn path(&self, index: NodeIndex) -> Vec<&str> {
        let names = self.up_from(index).map(|node| self.nodes[node].name.as_str());
        let mut names: Vec<&str> = names.filter(|name| !name.is_empty()).collect();
        names.reverse();
        names
    }

    /// The path of the state or phase that a node stands for, or belongs to; empty for the whole.
    pub fn state_path(&self, index: NodeIndex) -> String {
        let whole = |node: &NodeIndex| {
            let node = &self.nodes[*node];
            node.state == ROOT && (node.kind.holds_others() || node.kind.is_auxiliary())
        };
        let own = |node: &NodeIndex| !self.nodes[*node].kind.is_auxiliary();
        let names = self.up_from(index).filter(|node| !whole(node)).filter(own);
        let mut names: Vec<&str> = names.map(|node| self.nodes[node].name.as_str()).collect();
        names.reverse();
        names.join(".")
    }

    /// A node and those that hold it, without the frame.
    fn up_from(&self, node: NodeIndex) -> impl Iterator<Item = NodeIndex> + '_ {
        let below_frame = |node: NodeIndex| (node != FRAME).then_some(node);
        std::iter::successors(below_frame(node), move |node| below_frame(self.nodes[*node].parent))
    }
}

struct Artist<'m> {
    machine: &'m Machine,
    active: &'m [StateIndex],
    diagram: Diagram,
    /// The node of each state.
    node_of: Vec<NodeIndex>,
    /// Nodes that a state has at most one of beside its own.
    beside: HashMap<(StateIndex, &'static str), NodeIndex>,
    edge_between: HashMap<(NodeIndex, NodeIndex), usize>,
}

impl<'m> Artist<'m> {
    fn chart(&self) -> &'m Chart {
        &self.machine.chart
    }

    fn add(&mut self, kind: NodeKind, state: StateIndex, parent: NodeIndex, name: String) -> NodeIndex {
        let index = self.diagram.nodes.len();
        self.diagram.nodes.push(Node {
            kind,
            state,
            parent,
            children: Vec::new(),
            name,
            lines: Vec::new(),
            active: false,
        });
        if index != FRAME {
            self.diagram.nodes[parent].children.push(index);
        }
        index
    }

    /// Transitions between the same two nodes share an arrow: a catch-all need not be a sheaf of them.
    fn connect(&mut self, from: NodeIndex, to: NodeIndex, label: Option<Label>) -> &mut Edge {
        let edges = &mut self.diagram.edges;
        let at = *self.edge_between.entry((from, to)).or_insert_with(|| {
            edges.push(Edge { from, to, labels: Vec::new(), steps: Vec::new() });
            edges.len() - 1
        });
        edges[at].labels.extend(label);
        &mut edges[at]
    }

    fn draw_states(&mut self) {
        let machine = self.machine;
        let chart = self.chart();
        self.add(NodeKind::Compound, ROOT, FRAME, machine.name.to_string());
        for (number, state) in chart.states.iter().enumerate() {
            let index = StateIndex(number as u16);
            let node = match (index, state.kind) {
                // Regions need something that holds them; what holds everywhere stands outside of it.
                (ROOT, Kind::Parallel) => self.add(NodeKind::Parallel, ROOT, FRAME, machine.name.to_string()),
                (ROOT, _) => FRAME,
                _ => {
                    let parent = self.node_of[usize::from(state.parent.0)];
                    let name = state.path.rsplit('.').next().unwrap_or_default().to_owned();
                    self.add(NodeKind::of(state.kind), index, parent, name)
                }
            };
            self.node_of.push(node);
            self.diagram.nodes[node].active = index != ROOT && self.active.contains(&index);
            if state.kind == Kind::Compound {
                let start = self.add(NodeKind::Start, index, node, String::new());
                self.beside.insert((index, "start"), start);
            }
        }
        for (number, state) in chart.states.iter().enumerate() {
            for line in Label::of_state(machine, state) {
                self.write(StateIndex(number as u16), line);
            }
        }
    }

    /// Writes a line into a state.
    fn write(&mut self, state: StateIndex, line: Label) {
        let node = match self.diagram.nodes[self.node_of[usize::from(state.0)]].kind {
            NodeKind::Compound | NodeKind::Parallel => self.anywhere(state),
            _ => self.node_of[usize::from(state.0)],
        };
        self.diagram.nodes[node].lines.push(line);
    }

    /// The node that stands for any state inside `state`.
    fn anywhere(&mut self, state: StateIndex) -> NodeIndex {
        if let Some(node) = self.beside.get(&(state, "anywhere")) {
            return *node;
        }
        let (parent, name) = match state {
            ROOT => (FRAME, "any state".to_owned()),
            _ => {
                let parent = self.node_of[usize::from(state.0)];
                (parent, format!("in {}", self.diagram.nodes[parent].name))
            }
        };
        let node = self.add(NodeKind::Anywhere, state, parent, name);
        self.beside.insert((state, "anywhere"), node);
        node
    }

    /// Where arrows end that enter `state` from inside it, or that lead further in than to a child.
    fn entrance(&mut self, state: StateIndex) -> NodeIndex {
        if let Some(node) = self.beside.get(&(state, "entrance")) {
            return *node;
        }
        let node = self.add(NodeKind::Entrance, state, self.node_of[usize::from(state.0)], String::new());
        self.beside.insert((state, "entrance"), node);
        node
    }

    fn draw_transition(&mut self, transition: &Transition) {
        let (chart, source) = (self.chart(), transition.source);
        let label = Label::of_transition(self.machine, transition);
        if transition.targets.is_empty() {
            self.write(source, label);
            return;
        }
        let own = self.node_of[usize::from(source.0)];
        let inside = |target: &StateIndex| *target == source || chart.is_descendant(*target, source);
        let from = match self.diagram.nodes[own].kind.holds_others() {
            true if transition.targets.iter().any(inside) => self.anywhere(source),
            _ => own,
        };
        let [target] = transition.targets[..] else {
            let fork = self.fork(from, &transition.targets);
            self.connect(from, fork, Some(label)).steps.push(Step::of(chart, transition));
            for target in &transition.targets {
                let to = self.end_of_arrow(fork, *target);
                self.connect(fork, to, None);
            }
            return;
        };
        let to = self.end_of_arrow(from, target);
        self.connect(from, to, Some(label)).steps.push(Step::of(chart, transition));
    }

    /// The node of a target; from inside of it, its entrance.
    fn end_of_arrow(&mut self, from: NodeIndex, target: StateIndex) -> NodeIndex {
        let node = self.node_of[usize::from(target.0)];
        let around = self.diagram.nodes[node].kind.holds_others() && self.diagram.holds(node, from);
        if around { self.entrance(target) } else { node }
    }

    /// A fork in the innermost state around source and targets.
    fn fork(&mut self, from: NodeIndex, targets: &[StateIndex]) -> NodeIndex {
        let mut scope = self.diagram.nodes[from].parent;
        let fits = |scope: NodeIndex| {
            let around = |target: &StateIndex| {
                let node = self.node_of[usize::from(target.0)];
                node != scope && self.diagram.holds(scope, node)
            };
            targets.iter().all(around)
        };
        while scope != FRAME && !fits(scope) {
            scope = self.diagram.nodes[scope].parent;
        }
        let state = self.diagram.nodes[scope].state;
        self.add(NodeKind::Fork, state, scope, String::new())
    }

    /// What no event leads to: initial states, and what history states begin with. Drawn before all else.
    fn draw_beginnings(&mut self) {
        let taken = std::mem::take(&mut self.diagram.edges);
        self.edge_between.clear();
        let chart = self.chart();
        for (number, state) in chart.states.iter().enumerate() {
            let index = StateIndex(number as u16);
            let (own, actions) = (self.node_of[number], &state.initial_actions);
            if matches!(state.kind, Kind::ShallowHistory | Kind::DeepHistory) {
                self.lead(own, own, &state.initial, actions);
                continue;
            }
            let beginning: &[StateIndex] = match state.kind {
                Kind::Parallel => &state.children,
                _ => &state.initial,
            };
            let near = |target: &StateIndex| chart.state(*target).parent == index;
            let plain = beginning.len() == 1 && beginning.iter().all(near);
            let start = self.beside.get(&(index, "start")).copied();
            let entrance = match self.beside.get(&(index, "entrance")) {
                None if plain || start.is_none() => None,
                _ => Some(self.entrance(index)),
            };
            match (start, entrance) {
                (Some(start), None) => self.lead(start, start, beginning, actions),
                (Some(start), Some(entrance)) => self.lead(start, entrance, beginning, actions),
                (None, Some(entrance)) => self.lead(entrance, entrance, beginning, actions),
                (None, None) => {}
            }
        }
        self.diagram.edges.extend(taken);
    }

    /// Arrows from `from`, by way of `via` if that is another node, to each of `targets`.
    fn lead(&mut self, from: NodeIndex, via: NodeIndex, targets: &[StateIndex], actions: &[Action]) {
        let mut label = (!actions.is_empty()).then(|| Label::of_actions("", self.machine, actions));
        if from != via {
            self.connect(from, via, None);
        }
        for target in targets {
            let to = self.node_of[usize::from(target.0)];
            self.connect(via, to, label.take());
        }
    }
}
