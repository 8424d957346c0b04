//! `test`: plays stories and says which of them did not go as they are told.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::Args;
use engine::story::{self, StoryResult};
use serde_json::json;

use crate::command::{CommandResult, Failure};

#[derive(Debug, Args)]
pub(crate) struct TestArgs {
    /// Files of stories
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// One JSON document instead of text
    #[arg(long)]
    json: bool,
}

pub(crate) fn test(args: &TestArgs) -> CommandResult {
    let started = Instant::now();
    let (mut passed, mut failed) = (0, 0);
    let mut files = Vec::new();
    for path in &args.files {
        let report = story::run(path).map_err(|error| Failure(error.to_string()))?;
        failed += report.failed().count();
        passed += report.stories.len() - report.failed().count();
        if !args.json {
            say!("{}", path.display());
            report.stories.iter().for_each(tell);
        }
        let stories: Vec<_> = report.stories.iter().map(as_json).collect();
        files.push(json!({"file": path, "stories": stories}));
    }
    if args.json {
        say!("{}", json!({"files": files, "passed": passed, "failed": failed}));
    } else {
        say!("{passed} stories passed, {failed} failed, in {} ms", started.elapsed().as_millis());
    }
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn tell(story: &StoryResult) {
    match &story.failure {
        None => say!("  ok    {} ({} steps)", story.name, story.steps),
        Some(failure) => {
            say!("  FAIL  {}", story.name);
            say!(
                "{}\n",
                failure.lines().map(|line| format!("        {line}\n")).collect::<String>().trim_end()
            );
        }
    }
}

fn as_json(story: &StoryResult) -> serde_json::Value {
    json!({"story": story.name, "line": story.line, "steps": story.steps, "failure": story.failure})
}
