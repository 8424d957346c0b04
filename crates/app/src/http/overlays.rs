//! Overlays of the caller's tenant: set, shown, taken away.
//!
//! What an overlay comes to is for the engine to say; what is set holds for sessions that begin after it.

use axum::extract::State;
use axum::response::Response;
use kernel::definition::overlay::load_over;
use kernel::diagnostic::Diagnostic;
use kernel::id::MachineName;
use kernel::time::Timestamp;
use serde::Serialize;

use crate::http::Shared;
use crate::http::machines::{MachineView, refused, source};
use crate::http::problem::Problem;
use crate::http::request::{self, Caller, RawBody, Segments};

#[derive(Debug, Serialize)]
struct OverlayView {
    machine: MachineName,
    /// Of the last combination that was good, which sessions begin with.
    version: u32,
    hash: String,
    saved_at: Timestamp,
    overlay: String,
    /// Whether it fits the machine that all have now; if not, `diagnostics` says why.
    fits: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    diagnostics: Vec<Diagnostic>,
}

pub async fn set(
    State(app): State<Shared>,
    Segments(name): Segments<MachineName>,
    caller: Caller,
    body: RawBody,
) -> Result<Response, Problem> {
    let text = source(body)?;
    app.read(move |app| {
        let engine = &app.engine;
        let (machines, now) = (engine.machines(), engine.clock().now());
        let set = machines.set_overlay(engine.store(), &caller.tenant, &name, &text, now);
        let (overlay, diagnostics) = set.map_err(refused)?;
        tracing::info!(tenant = %caller.tenant, machine = %name, hash = overlay.machine.hash.as_str(), "overlay set");
        Ok(request::json(200, &MachineView::with(&overlay.machine, diagnostics), None))
    })
    .await
}

pub async fn show(
    State(app): State<Shared>,
    Segments(name): Segments<MachineName>,
    caller: Caller,
) -> Result<Response, Problem> {
    app.read(move |app| {
        let machines = app.engine.machines();
        let base = machines.current(&name)?;
        let overlay = machines.overlay(&caller.tenant, &name).ok_or_else(|| none(&name))?;
        let (fitting, diagnostics) = load_over(&base.source, &overlay.text);
        let view = OverlayView {
            machine: name,
            version: overlay.machine.version,
            hash: overlay.machine.hash.as_str().to_owned(),
            saved_at: overlay.saved_at,
            overlay: overlay.text.clone(),
            fits: fitting.is_some(),
            diagnostics,
        };
        Ok(request::json(200, &view, None))
    })
    .await
}

/// Answers what the tenant has now.
pub async fn remove(
    State(app): State<Shared>,
    Segments(name): Segments<MachineName>,
    caller: Caller,
) -> Result<Response, Problem> {
    app.read(move |app| {
        let engine = &app.engine;
        let base = engine.machines().current(&name)?;
        let now = engine.clock().now();
        let removed = engine.machines().remove_overlay(engine.store(), &caller.tenant, &name, now);
        if !removed.map_err(refused)? {
            return Err(none(&name));
        }
        tracing::info!(tenant = %caller.tenant, machine = %name, "overlay taken away");
        Ok(request::json(200, &MachineView::of(&base), None))
    })
    .await
}

fn none(name: &MachineName) -> Problem {
    Problem::not_found(format!("there is no overlay of `{name}`; the machine is the one that all have"))
}
