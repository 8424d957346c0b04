//! The dashboard: what the HTTP interface says, as pages for people.
//!
//! Pages are rendered here and read only; whatever somebody does on one goes to the HTTP interface, as anybody else's
//! request would. A script takes the page again when something has happened that it shows, so that there is one
//! renderer. Nothing of a page is written by a script, and no script or style stands in a page: the content policy
//! forbids it. Owns what pages show and how; knows nothing of how it is decided.

mod assets;
mod begin;
mod deliveries;
mod flow;
mod inbox;
mod instance;
mod instances;
mod machine;
mod overview;
mod page;
mod paging;
mod pulse;
mod simulator;
mod words;

use axum::Router;
use axum::routing::get;

use crate::http::Shared;

pub use page::nowhere;
pub use pulse::{Pulse, keep_pulse};

/// The pages, beside the routes of the HTTP interface.
pub fn routes() -> Router<Shared> {
    Router::new()
        .route("/", get(overview::show))
        .route("/instances", get(instances::list))
        .route("/instances/{id}", get(instance::show))
        .route("/instances/{id}/deliveries", get(deliveries::show))
        .route("/flows", get(flow::list))
        .route("/flows/{id}", get(flow::show))
        .route("/machines", get(machine::list))
        .route("/machines/{name}", get(machine::show))
        .route("/machines/{name}/simulator", get(simulator::show).post(simulator::play))
        .route("/inbox", get(inbox::show))
        .layer(axum::middleware::from_fn(page::told_as_page))
        .route("/sign-in", get(page::sign_in))
        .route("/assets/{name}", get(assets::get))
}
