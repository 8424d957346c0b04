//! The pure part of Statewright: definitions, the statechart step, expressions, routing, and `decide`.
//!
//! Everything here is a function of its arguments: no clock, no randomness, no files, no network, no threads but those
//! that read definitions and compile expressions on a deep stack. One call makes a `Commit` of an `Input`; a store saves it whole.

mod bound;
pub mod chart;
pub mod commit;
pub mod conversation;
pub mod decide;
pub mod definition;
pub mod diagnostic;
pub mod diagram;
pub mod expression;
pub mod flow;
pub mod id;
pub mod input;
pub mod lookup;
pub mod looping;
pub mod machine;
pub mod mapping;
pub mod migration;
pub mod refusal;
pub mod snapshot;
pub mod time;
pub mod trace;
pub mod xstate;
