//! A flow as a picture: a box for each phase with what it waits for, and an arrow from what it needs.
//!
//! What applies only sometimes has its condition on the arrow that leads to it, or in the box where several do. The
//! statuses are not drawn: they follow from the phases.

use crate::chart::ROOT;
use crate::diagram::label::{Label, abridged};
use crate::diagram::{Diagram, Edge, FRAME, Node, NodeIndex, NodeKind, Step};
use crate::flow::{Flow, Gate, Phase, PhaseIndex, Recipe, Run};
use crate::machine::Machine;

/// A line of a box; what is longer is better read in the definition.
const LINE_CHARS_MAX: usize = 48;

impl Diagram {
    /// The picture of a flow, in which the phases of `active` stand out.
    pub fn of_flow(machine: &Machine, flow: &Flow, active: &[PhaseIndex]) -> Self {
        let title = format!("{} version {}", machine.name, machine.version);
        let mut diagram = Self { title, nodes: Vec::new(), edges: Vec::new() };
        diagram.put(NodeKind::Compound, machine.name.to_string());
        let start = diagram.put(NodeKind::Start, String::new());
        let nodes: Vec<NodeIndex> =
            flow.phases.iter().map(|phase| diagram.put(NodeKind::State, phase.name.to_string())).collect();
        for (index, phase) in flow.indices().zip(&flow.phases) {
            let node = &mut diagram.nodes[nodes[usize::from(index.0)]];
            node.active = active.contains(&index);
            node.lines = lines(flow, phase).map(|line| plain(&line)).collect();
        }
        for (phase, to) in flow.phases.iter().zip(&nodes) {
            let mut from: Vec<NodeIndex> =
                phase.needs.iter().map(|need| nodes[usize::from(need.0)]).collect();
            if from.is_empty() {
                from.push(start);
            }
            let labels: Vec<Label> = on_the_arrow(phase).into_iter().collect();
            diagram.edges.extend(from.iter().map(|from| Edge {
                from: *from,
                to: *to,
                labels: labels.clone(),
                steps: vec![Step {
                    from: diagram.nodes[*from].name.clone(),
                    to: phase.name.to_string(),
                    event: String::new(),
                }],
            }));
        }
        diagram
    }

    fn put(&mut self, kind: NodeKind, name: String) -> NodeIndex {
        let index = self.nodes.len();
        let (children, lines) = (Vec::new(), Vec::new());
        self.nodes.push(Node { kind, state: ROOT, parent: FRAME, children, name, lines, active: false });
        if index != FRAME {
            self.nodes[FRAME].children.push(index);
        }
        index
    }
}

/// The condition of a phase that one arrow leads to.
fn on_the_arrow(phase: &Phase) -> Option<Label> {
    let when = phase.when.as_ref().filter(|_| phase.needs.len() <= 1)?;
    let guard = Some(abridged(&when.source, LINE_CHARS_MAX));
    Some(Label { event: String::new(), guard, actions: None })
}

fn plain(text: &str) -> Label {
    Label { event: abridged(text, LINE_CHARS_MAX), guard: None, actions: None }
}

/// What is to be known of a phase, in the order in which it matters on the way through it.
fn lines(flow: &Flow, phase: &Phase) -> impl Iterator<Item = String> {
    let when = phase.when.as_ref().filter(|_| phase.needs.len() > 1);
    let when = when.map(|when| format!("when {}", when.source));
    let weight = (phase.weight.to_bits() != 1.0_f64.to_bits()).then(|| format!("weight {}", phase.weight));
    let milestone = phase.milestone.as_ref().map(|milestone| {
        let when = if milestone.when_completed { " when completed" } else { "" };
        format!("milestone {}{when}", milestone.status)
    });
    let timeout = phase.timeout.map(|timeout| format!("timeout {timeout}"));
    let retry = phase.retry.map(|retry| format!("{} attempts", retry.attempts));
    let gates = [("validation", &phase.validation), ("approval", &phase.approval)];
    let gates = gates.into_iter().filter_map(|(what, gate)| gate.as_ref().map(|gate| gate_line(what, gate)));
    let recipes = phase.on_error.iter().filter_map(|(code, recipe)| match recipe {
        Recipe::Rollback(to) => Some(format!("{code}: back to {}", flow.phase(*to).name)),
        Recipe::Retry | Recipe::Fail => None,
    });
    let before = [when, run_line(&phase.run), weight, milestone, timeout, retry];
    before.into_iter().flatten().chain(gates).chain(recipes)
}

fn run_line(run: &Run) -> Option<String> {
    match run {
        Run::Anybody => None,
        Run::Person => Some("done by a person".to_owned()),
        Run::Worker(kind) if kind.is_empty() => Some("done by a worker".to_owned()),
        Run::Worker(kind) => Some(format!("done by a worker: {kind}")),
        Run::Http { src, .. } => Some(format!("calls {src}")),
        Run::Flow { flow, .. } => Some(format!("runs the flow {flow}")),
        Run::WaitFor(other) => Some(format!("waits for {}", other.source)),
    }
}

/// `approval by lead, owner; within 48h; four eyes`.
fn gate_line(what: &str, gate: &Gate) -> String {
    let by = if gate.by.is_empty() { String::new() } else { format!(" by {}", gate.by.join(", ")) };
    let within = gate.expires_after.map(|after| format!("; within {after}")).unwrap_or_default();
    let eyes = if gate.four_eyes { "; four eyes" } else { "" };
    format!("{what}{by}{within}{eyes}")
}
