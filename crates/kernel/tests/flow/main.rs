//! Flows: what happens to their phases, whoever does it and whatever goes wrong.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed unwrap is a failed test")]

mod combinations;
mod gates;
mod going_wrong;
#[path = "../stored/kept.rs"]
mod kept;
mod matrix;
mod outside;
mod player;
mod properties;
#[path = "../stored/restored.rs"]
mod restored;
mod whole;
mod workers;
