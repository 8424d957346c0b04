//! The channels that messages come in by and replies go out by: one module for each provider.
//!
//! A channel is pure functions over what the provider sends: is it genuine (`verify_*`), what does it say
//! (`decode*`), how is an answer written (`encode`). It does no I/O, knows no clock and chooses no HTTP status.

pub mod twilio;
