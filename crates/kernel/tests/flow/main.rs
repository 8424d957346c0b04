//! Flows: what happens to their phases, whoever does it and whatever goes wrong.

mod combinations;
mod gates;
mod going_wrong;
mod matrix;
mod outside;
mod player;
mod properties;
mod whole;
mod workers;
