//! Tests against the interpreter of the `cel` crate.
