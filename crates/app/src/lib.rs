//! The outermost layer: HTTP, channels, telemetry and the command line around the engine.
//!
//! It talks; it neither decides nor remembers. A library so that its parts can be tested without a process.

pub mod accept;
pub mod access;
pub mod carrier;
pub mod channels;
pub mod command;
pub mod config;
pub mod connections;
mod dashboard;
pub mod encryption;
pub mod export;
pub mod http;
mod log_end;
pub mod outgoing;
pub mod pictures;
mod places;
pub mod receipts;
pub mod recognisers;
pub mod rollout;
pub mod secret;
mod shadow_log;
mod stall;
pub mod telemetry;
pub mod tls;
pub mod traces;
pub mod webhook;
