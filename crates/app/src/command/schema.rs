//! `schema`: the JSON Schema of definitions, for editors.

use std::process::ExitCode;

use kernel::definition::schema::SCHEMA;

use crate::command::CommandResult;

pub(crate) fn schema() -> CommandResult {
    say!("{}", SCHEMA.trim_end());
    Ok(ExitCode::SUCCESS)
}
