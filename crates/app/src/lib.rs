//! The parts of the app.

pub mod accept;
pub mod channels;
pub mod telemetry;
