//! The `statewright` binary: reads the command line and hands over to one command.

use std::process::ExitCode;

/// Most of what is allocated for a message is freed by another thread than allocated it, which this allocator is made
/// for. It does without huge pages, which make a server at rest 12 MB larger and none faster. The one that counts, for
/// benchmarks, takes its place.
#[cfg(not(feature = "count-allocations"))]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    app::command::main()
}
