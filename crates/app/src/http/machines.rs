//! Definitions: checked, activated, listed.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use engine::{EngineError, MachinesError};
use kernel::definition::overlay::{self, Header};
use kernel::diagnostic::Diagnostic;
use kernel::id::MachineName;
use kernel::machine::Machine;
use serde::Serialize;

use crate::http::Shared;
use crate::http::problem::Problem;
use crate::http::request::{self, Caller, List, RawBody, Segments};

#[derive(Debug, Serialize)]
pub(super) struct MachineView {
    name: String,
    version: u32,
    hash: String,
    kind: &'static str,
    /// Whether it is what the caller has made of it.
    customised: bool,
    conversation: bool,
    /// For a flow, its statuses.
    states: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    events: Option<Vec<String>>,
    /// What a flow has instead of events.
    #[serde(skip_serializing_if = "Option::is_none")]
    phases: Option<Vec<Arc<str>>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    diagnostics: Vec<Diagnostic>,
    /// Of an activation: what is wrong with the caller's own overlay, which stays on the base before.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    overlay_diagnostics: Vec<Diagnostic>,
    /// Of an activation: how many tenants' overlays do not fit it, so that they stay on the base before.
    #[serde(skip_serializing_if = "is_zero")]
    misfits: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "what serde calls takes a reference")]
fn is_zero(number: &usize) -> bool {
    *number == 0
}

impl MachineView {
    pub(super) fn of(machine: &Machine) -> Self {
        let flow = machine.flow.as_ref();
        let events = || machine.chart.public_events().map(ToString::to_string).collect();
        Self {
            name: machine.name.to_string(),
            version: machine.version,
            hash: machine.hash.as_str().to_owned(),
            kind: if flow.is_some() { "flow" } else { "machine" },
            customised: machine.is_customised(),
            conversation: machine.conversation.is_some(),
            states: machine.chart.states.iter().skip(1).map(|s| s.path.to_string()).collect(),
            events: flow.is_none().then(events),
            phases: flow.map(|flow| flow.phases.iter().map(|phase| Arc::clone(&phase.name)).collect()),
            diagnostics: Vec::new(),
            overlay_diagnostics: Vec::new(),
            misfits: 0,
            source: None,
        }
    }

    /// With the warnings that it was loaded with.
    pub(super) fn with(machine: &Machine, diagnostics: Vec<Diagnostic>) -> Self {
        Self { diagnostics, ..Self::of(machine) }
    }
}

/// A definition as text.
pub(super) fn source(RawBody(bytes): RawBody) -> Result<String, Problem> {
    String::from_utf8(bytes.to_vec())
        .map_err(|_| Problem::bad_request("malformed_body", "a definition is YAML or JSON in UTF-8"))
}

#[derive(Debug, Serialize)]
struct Checked {
    valid: bool,
    diagnostics: Vec<Diagnostic>,
}

/// An overlay is checked over the current base of its name.
pub async fn check(State(app): State<Shared>, _: Caller, body: RawBody) -> Result<Response, Problem> {
    let source = source(body)?;
    app.read_in_turn(move |app| {
        let base = Header::read(&source).and_then(|header| MachineName::parse(&header.base).ok());
        let (machine, diagnostics) = match base {
            Some(base) => overlay::load_over(&app.engine.machines().current(&base)?.source, &source),
            None => kernel::definition::load(&source),
        };
        Ok(request::json(200, &Checked { valid: machine.is_some(), diagnostics }, None))
    })
    .await
}

/// Makes a definition the current one of its name. Instances of other versions stay on theirs.
pub async fn activate(
    State(app): State<Shared>,
    Segments(name): Segments<MachineName>,
    caller: Caller,
    body: RawBody,
) -> Result<Response, Problem> {
    let source = source(body)?;
    app.read(move |app| {
        let (machine, _) = kernel::definition::load(&source);
        if let Some(machine) = machine.filter(|machine| machine.name != name) {
            let detail =
                format!("the definition is of `{}`, but was sent to /v1/machines/{name}", machine.name);
            return Err(Problem::bad_request("wrong_machine", detail));
        }
        let engine = &app.engine;
        let (machine, diagnostics) = engine.activate(&source).map_err(refused)?;
        let misfits = engine.machines().misfits(&machine.name);
        let own = misfits.iter().find(|misfit| misfit.tenant == caller.tenant);
        let view = MachineView {
            diagnostics,
            overlay_diagnostics: own.map(|own| own.diagnostics.clone()).unwrap_or_default(),
            misfits: misfits.len(),
            ..MachineView::of(&machine)
        };
        Ok(request::json(200, &view, None))
    })
    .await
}

pub fn refused(error: MachinesError) -> Problem {
    match error {
        MachinesError::Diagnostics(diagnostics) => Problem::diagnostics(diagnostics),
        MachinesError::UnknownBase(error) => Problem::from(error),
        MachinesError::NeedsKey(_) => {
            Problem::new(409, "no_encryption_key", "Secret fields need an encryption key", error.to_string())
        }
        MachinesError::Unmapped { .. } => {
            let title = "Open instances are in states that the definition does not have";
            Problem::new(409, "unmapped_states", title, error.to_string())
        }
        MachinesError::Commit(error) => Problem::from(EngineError::from(error)),
        MachinesError::Load(error) => Problem::from(EngineError::from(error)),
    }
}

/// As the caller has them.
pub async fn list(State(app): State<Shared>, caller: Caller) -> Response {
    let machines = app.engine.machines();
    let own = |base: Arc<Machine>| machines.current_for(&caller.tenant, &base.name).unwrap_or(base);
    let all: Vec<Arc<Machine>> = app.machines().into_iter().map(own).collect();
    listed(&all)
}

pub async fn show(
    State(app): State<Shared>,
    Segments(name): Segments<MachineName>,
    caller: Caller,
) -> Result<Response, Problem> {
    let machine = app.engine.machines().current_for(&caller.tenant, &name)?;
    let view = MachineView { source: Some(machine.source.to_string()), ..MachineView::of(&machine) };
    Ok(request::json(200, &view, None))
}

pub async fn versions(
    State(app): State<Shared>,
    Segments(name): Segments<MachineName>,
    _: Caller,
) -> Result<Response, Problem> {
    app.engine.machines().current(&name)?;
    Ok(listed(&app.engine.machines().versions(&name)))
}

fn listed(machines: &[Arc<Machine>]) -> Response {
    let views = machines.iter().map(|machine| MachineView::of(machine)).collect();
    request::json(200, &List::whole(views), None)
}
