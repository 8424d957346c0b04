//! The `statewright` binary. A stub: serves nothing yet.

fn main() {}
