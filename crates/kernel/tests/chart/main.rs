//! The statechart step as text: small definitions, the inputs given, and what each must do.
//!
//! A line is `input -> state; what changed`. Expected lines are worked out by hand from appendix D of the W3C's SCXML
//! recommendation, with the differences that `chart::run` names.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod player;
mod properties;
#[path = "../stored/restored.rs"]
mod restored;

mod actions;
mod calls;
mod context;
mod delayed;
mod failures;
mod final_states;
mod hierarchy;
mod history;
mod invariants;
mod parallel;
mod raised;
mod recovery;
mod timers;
