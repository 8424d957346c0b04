//! What the engine promises, each promise a test over the real engine, on a clock that waits to be told.

#![allow(clippy::unwrap_used, reason = "what cannot be had fails the test, also outside of its function")]

mod delivery;
mod failing_store;
mod figures;
mod flows;
mod imports;
mod in_air;
mod keys;
mod migrations;
mod overlays;
mod pinned;
mod post;
mod replay;
mod rules;
mod shadow;
mod shared_store;
mod story_files;
mod time;
mod world;
