//! The `statewright` binary: reads the command line and hands over to one command.

use std::process::ExitCode;

/// A commit is made by one thread and dropped by another: the system's allocator has both wait for one lock.
#[cfg(not(feature = "count-allocations"))]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    app::command::main()
}
