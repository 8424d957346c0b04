//! The `statewright` binary: reads the command line and hands over to one command.

use std::process::ExitCode;

fn main() -> ExitCode {
    app::command::main()
}
