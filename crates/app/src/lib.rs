//! The parts of the app.

pub mod channels;
