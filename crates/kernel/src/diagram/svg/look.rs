//! Table: the colours of a diagram on white, and which of them a node or an arrow has.

use crate::diagram::{Node, NodeKind, Overlay, Step};
use crate::flow::PhaseState;

pub const INK: &str = "#1e293b";
pub const SOFT_INK: &str = "#475569";
pub const LINE: &str = "#64748b";
pub const FAINT: &str = "#cbd5e1";
pub const BADGE: &str = "#334155";
/// Of arrows by how often they are taken: colour and width.
const HEATS: [(&str, f64); 6] = [
    ("#b6c2d2", 1.25),
    ("#8fa8c8", 1.75),
    ("#6d93cf", 2.5),
    ("#4a7dd6", 3.5),
    ("#2f66d8", 4.5),
    ("#1d4ed8", 6.0),
];

#[derive(Clone, Debug)]
pub struct NodeLook {
    pub classes: String,
    pub fill: &'static str,
    /// An attribute, or nothing.
    pub opacity: &'static str,
    pub stroke: &'static str,
    pub width: f64,
    pub dashed: bool,
    pub ink: &'static str,
}

impl NodeLook {
    pub fn of(node: &Node, region: bool, path: &str, overlay: &Overlay) -> Self {
        let mut classes = vec!["sw-state"];
        classes.extend(match node.kind {
            NodeKind::Compound => Some("sw-compound"),
            NodeKind::Parallel => Some("sw-parallel"),
            NodeKind::Final => Some("sw-final"),
            NodeKind::Anywhere => Some("sw-anywhere"),
            _ => None,
        });
        if region {
            classes.push("sw-region");
        }
        if matches!(node.kind, NodeKind::Start | NodeKind::Entrance | NodeKind::Fork) {
            classes = vec!["sw-mark"];
        }
        let mut look = Self {
            classes: String::new(),
            fill: "#ffffff",
            opacity: "",
            stroke: LINE,
            width: 1.25,
            dashed: node.kind == NodeKind::Anywhere,
            ink: INK,
        };
        if node.kind.holds_others() {
            // Darker the further in, and dark enough on any ground.
            (look.fill, look.opacity, look.stroke) = ("#64748b", " fill-opacity=\"0.07\"", "#94a3b8");
        }
        if region && node.kind.holds_others() {
            (look.fill, look.opacity, look.stroke, look.dashed) = ("none", "", "#94a3b8", true);
        }
        if node.kind == NodeKind::Anywhere {
            (look.fill, look.ink) = ("none", SOFT_INK);
        }
        let state = !node.kind.is_auxiliary();
        let phase = overlay.phases.get(path).filter(|_| state);
        if let Some(phase) = phase {
            let class;
            (class, look.fill, look.stroke) = of_phase(phase.state);
            classes.push(class);
        } else if state && overlay.visited.contains(path) {
            classes.push("sw-visited");
            if !node.kind.holds_others() {
                (look.fill, look.stroke) = ("#f0fdfa", "#0f766e");
            }
        }
        // What holds an active state is active too, and lit less.
        let within = |active: &String| active.strip_prefix(path).is_some_and(|rest| rest.starts_with('.'));
        if state && overlay.active.contains(path) {
            classes.push("sw-active");
            (look.stroke, look.width) = ("#b45309", 2.5);
            if !node.kind.holds_others() {
                (look.fill, look.ink) = ("#fde68a", "#451a03");
            }
        } else if state && overlay.active.iter().any(within) && !path.is_empty() {
            classes.push("sw-active");
            (look.stroke, look.width) = ("#b45309", 1.5);
        }
        look.classes = classes.join(" ");
        look
    }
}

/// Class, ground and border.
fn of_phase(state: PhaseState) -> (&'static str, &'static str, &'static str) {
    match state {
        PhaseState::NotStarted => ("sw-phase-not_started", "#ffffff", "#94a3b8"),
        PhaseState::InProgress => ("sw-phase-in_progress", "#dbeafe", "#2563eb"),
        PhaseState::WaitingValidation => ("sw-phase-waiting_validation", "#fef3c7", "#d97706"),
        PhaseState::WaitingApproval => ("sw-phase-waiting_approval", "#fef3c7", "#d97706"),
        PhaseState::Completed => ("sw-phase-completed", "#d1fae5", "#059669"),
        PhaseState::Failed => ("sw-phase-failed", "#fee2e2", "#dc2626"),
        PhaseState::RetryNeeded => ("sw-phase-retry_needed", "#ffedd5", "#ea580c"),
        PhaseState::RolledBack => ("sw-phase-rolled_back", "#ede9fe", "#7c3aed"),
    }
}

#[derive(Clone, Debug)]
pub struct EdgeLook {
    pub classes: String,
    pub stroke: &'static str,
    pub width: f64,
    pub dashed: bool,
    pub ink: &'static str,
}

impl EdgeLook {
    pub fn of(steps: &[Step], overlay: &Overlay) -> Self {
        let mut look =
            Self { classes: "sw-edge".to_owned(), stroke: LINE, width: 1.25, dashed: false, ink: SOFT_INK };
        if let Some(heat) = overlay.heat(steps) {
            look.classes.push_str(&format!(" sw-heat-{heat}"));
            (look.stroke, look.width) = HEATS.get(heat as usize).copied().unwrap_or((LINE, 1.25));
        }
        if steps.iter().any(|step| overlay.taken.contains(step)) {
            look.classes.push_str(" sw-taken");
            (look.stroke, look.width, look.ink) = ("#0f766e", look.width.max(2.0), "#115e59");
        }
        if overlay.would.as_ref().is_some_and(|would| steps.contains(would)) {
            look.classes.push_str(" sw-would");
            (look.stroke, look.width, look.ink, look.dashed) = ("#7c3aed", 2.0, "#5b21b6", true);
        }
        look
    }
}
