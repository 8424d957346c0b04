//! What is compared of a flow: its phases, and what is done about errors in any of them.

use serde_json::{Map, Value, json};

use crate::definition::diff::Part;
use crate::definition::diff::items::{Aspect, Item};
use crate::definition::diff::written::values;
use crate::definition::{Placed, ValueDefinition};
use crate::flow::{FlowDefinition, Gate, PhaseDefinition, RecipeDefinition, Retry, RunDefinition};

pub(super) fn describe(found: &mut Vec<Item>, flow: &FlowDefinition) {
    let top = &mut found[0];
    top.set("kind", "flow");
    set_recipes(top, &flow.on_error);
    // In which order they are shown, and become ready.
    let phases = flow.phases.iter().map(|phase| phase.name.value.clone());
    top.keep("phases", Aspect::Order(phases.collect()));
    found.extend(flow.phases.iter().map(phase));
}

fn phase(phase: &PhaseDefinition) -> Item {
    let mut item = Item::new(Part::Phase, phase.name.value.as_str());
    let mut needs: Vec<&str> = phase.needs.iter().map(|need| need.value.as_str()).collect();
    // All of them, in whatever order.
    needs.sort_unstable();
    item.set("needs", needs);
    if phase.weight != 1.0 {
        item.set("weight", phase.weight);
    }
    if let Some((status, when_completed)) = &phase.milestone {
        let when = if *when_completed { "completed" } else { "begun" };
        item.set("milestone", json!({ "status": status.value, "when": when }));
    }
    item.set("when", phase.when.as_ref().map(|when| when.value.as_str()));
    item.set("run", run(&phase.run));
    item.set("lease", phase.lease.map(|lease| lease.to_string()));
    item.set("validation", phase.validation.as_ref().map(gate));
    item.set("approval", phase.approval.as_ref().map(gate));
    item.set("retry", phase.retry.as_ref().map(retry));
    item.set("timeout", phase.timeout.map(|timeout| timeout.to_string()));
    set_recipes(&mut item, &phase.on_error);
    // An empty one is not the same as none.
    if let Some(output) = &phase.output {
        item.keep("output", Aspect::Value(values(output)));
    }
    item.set("boolean", phase.boolean.as_ref().map(|boolean| boolean.value.as_str()));
    item
}

fn run(run: &RunDefinition) -> Value {
    let with = |way: &str, name: &Placed<String>, key: &str, given: &[(Placed<String>, ValueDefinition)]| {
        let mut said = Map::from_iter([(way.to_owned(), Value::from(name.value.as_str()))]);
        if !given.is_empty() {
            said.insert(key.to_owned(), values(given));
        }
        Value::Object(said)
    };
    match run {
        RunDefinition::Anybody => Value::Null,
        RunDefinition::Person => Value::from("person"),
        RunDefinition::Worker(None) => Value::from("worker"),
        RunDefinition::Worker(Some(kind)) => with("worker", kind, "", &[]),
        RunDefinition::Http { src, input } => with("http", src, "input", input),
        RunDefinition::Flow { flow, context } => with("flow", flow, "context", context),
        RunDefinition::WaitFor(condition) => with("wait_for", condition, "", &[]),
    }
}

/// One that wants nothing in particular is there all the same.
fn gate(gate: &Gate) -> Value {
    let mut said = Map::new();
    let mut set = |key: &str, value: Option<Value>| said.extend(value.map(|value| (key.to_owned(), value)));
    set("by", (!gate.by.is_empty()).then(|| gate.by.iter().map(|by| &**by).collect()));
    set("expires_after", gate.expires_after.map(|delay| Value::from(delay.to_string())));
    set("four_eyes", gate.four_eyes.then_some(Value::from(true)));
    set("reason", gate.reason.then_some(Value::from(true)));
    if said.is_empty() { Value::from(true) } else { Value::Object(said) }
}

fn retry(retry: &Retry) -> Value {
    json!({
        "attempts": retry.attempts,
        "backoff": retry.backoff.to_string(),
        "factor": retry.factor,
        "max": retry.max.to_string(),
    })
}

fn set_recipes(item: &mut Item, recipes: &[(Placed<String>, RecipeDefinition)]) {
    for (code, recipe) in recipes {
        let said = match recipe {
            RecipeDefinition::Retry => Value::from("retry"),
            RecipeDefinition::Fail => Value::from("fail"),
            RecipeDefinition::Rollback(phase) => json!({ "rollback": phase.value }),
        };
        item.set(format!("on_error.{}", code.value), said);
    }
}
