//! A story file of the stories that were found, with what is missing from it at its head.

use kernel::input::CallOutcome;

use super::{Act, Beginning, FoundStep, FoundStory, Paths, Unreached};
use crate::story::coverage::covered;
use crate::story::write::{self, WrittenStory, block_scalar, map, scalar};

pub(super) fn document(paths: &Paths, machine: &str) -> String {
    let coverage = &paths.coverage;
    let told = |what: &str, elements: &[crate::story::Element]| {
        format!("{} of {} {what}", covered(elements), elements.len())
    };
    let mut text = format!(
        "# The shortest ways that `statewright paths` found: {}, {}.\n",
        told("states", &coverage.states),
        told("transitions", &coverage.transitions)
    );
    if let Some(bound) = &paths.bound {
        text.push_str(&format!("# The search stopped at {bound}; there may be more.\n"));
    }
    if !paths.unreached.is_empty() {
        text.push_str("# Not reached:\n");
        for Unreached { label, line, why, .. } in &paths.unreached {
            text.push_str(&format!("#   line {line}: {label}: {}\n", why.replace('\n', " ")));
        }
    }
    text.push_str(&file(machine, &paths.stories));
    text
}

pub(super) fn file(machine: &str, stories: &[FoundStory]) -> String {
    let written: Vec<WrittenStory> = stories.iter().map(story).collect();
    write::file(machine, &written)
}

fn story(story: &FoundStory) -> WrittenStory {
    let given = match &story.beginning {
        Beginning::Nothing => None,
        Beginning::Created(context) if context.is_empty() => Some("{}".to_owned()),
        Beginning::Created(context) => Some(format!("{{ context: {} }}", map(context))),
    };
    WrittenStory { name: story.name.clone(), given, steps: story.steps.iter().map(step).collect() }
}

fn step(step: &FoundStep) -> Vec<String> {
    let mut lines = match &step.act {
        Act::Look => Vec::new(),
        Act::Send(message) => vec![format!("send: {}", write::message(message))],
        Act::Wait(delay) => vec![format!("after: {delay}")],
        Act::Event { event, payload } => {
            let mut lines = vec![format!("event: {}", block_scalar(event))];
            if !payload.is_empty() {
                lines.push(format!("payload: {}", map(payload)));
            }
            lines
        }
        Act::Call { id, outcome } => {
            let (key, fields) = match outcome {
                CallOutcome::Done(fields) => ("result", fields),
                CallOutcome::Failed(fields) => ("error", fields),
            };
            vec![format!("call: {}", block_scalar(id)), format!("{key}: {}", map(fields))]
        }
    };
    // A state of that name cannot be expected: the word stands for nothing.
    if step.state != "none" || lines.is_empty() {
        lines.push(format!("expect: {{ state: {} }}", scalar(&step.state)));
    }
    lines
}
