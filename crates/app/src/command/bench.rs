//! `bench`
use crate::command::CommandResult;
use clap::Args;
#[derive(Debug, Args)]
pub(crate) struct BenchArgs {}
pub(crate) fn bench(_: &BenchArgs) -> CommandResult {
    Ok(std::process::ExitCode::SUCCESS)
}
