//! What may be written of a flow, and how it is read: keys, types and shapes. Names are resolved by `compile`.

use crate::definition::ValueDefinition;
use crate::definition::document::{Node, NodeKind, Placed};
use crate::definition::read_values;
use crate::definition::reader::{Entries, Reader};
use crate::diagnostic::{Place, shorten};
use crate::flow::step::{LEASE_RANGE, RETRY};
use crate::flow::{Gate, Retry};
use crate::time::Delay;

#[derive(Clone, Debug)]
pub struct FlowDefinition {
    pub place: Place,
    pub phases: Vec<PhaseDefinition>,
    pub on_error: Vec<(Placed<String>, RecipeDefinition)>,
}

#[derive(Clone, Debug)]
pub struct PhaseDefinition {
    pub name: Placed<String>,
    pub needs: Vec<Placed<String>>,
    pub weight: f64,
    pub milestone: Option<(Placed<String>, bool)>,
    pub when: Option<Placed<String>>,
    pub run: RunDefinition,
    pub lease: Option<Delay>,
    pub validation: Option<Gate>,
    pub approval: Option<Gate>,
    pub retry: Option<Retry>,
    pub timeout: Option<Delay>,
    pub on_error: Vec<(Placed<String>, RecipeDefinition)>,
    /// Without one, fields of the same name are kept; with an empty one, nothing is.
    pub output: Option<Vec<(Placed<String>, ValueDefinition)>>,
    pub boolean: Option<Placed<String>>,
}

#[derive(Clone, Debug, Default)]
pub enum RunDefinition {
    #[default]
    Anybody,
    Person,
    Worker(Option<Placed<String>>),
    Http {
        src: Placed<String>,
        input: Vec<(Placed<String>, ValueDefinition)>,
    },
    Flow {
        flow: Placed<String>,
        context: Vec<(Placed<String>, ValueDefinition)>,
    },
    WaitFor(Placed<String>),
}

#[derive(Clone, Debug)]
pub enum RecipeDefinition {
    Retry,
    Fail,
    Rollback(Placed<String>),
}

impl FlowDefinition {
    /// Every expression that is written in it.
    pub(crate) fn sources(&self) -> impl Iterator<Item = &Placed<String>> {
        self.phases.iter().flat_map(PhaseDefinition::sources)
    }
}

impl PhaseDefinition {
    fn sources(&self) -> impl Iterator<Item = &Placed<String>> {
        let (values, other) = match &self.run {
            RunDefinition::Http { input: values, .. } | RunDefinition::Flow { context: values, .. } => {
                (values.as_slice(), None)
            }
            RunDefinition::WaitFor(source) => (&[][..], Some(source)),
            RunDefinition::Anybody | RunDefinition::Person | RunDefinition::Worker(_) => (&[][..], None),
        };
        let computed =
            values.iter().chain(self.output.iter().flatten()).filter_map(|(_, value)| match value {
                ValueDefinition::Expression(source) => Some(source),
                ValueDefinition::Literal(_) => None,
            });
        computed.chain(&self.when).chain(other)
    }
}

pub(crate) const FLOW_KEYS: [&str; 7] =
    ["flow", "version", "description", "context", "phases", "on_error", "migrations"];
const PHASE_KEYS: [&str; 14] = [
    "needs",
    "weight",
    "milestone",
    "when",
    "run",
    "lease",
    "validation",
    "approval",
    "retry",
    "timeout",
    "on_error",
    "output",
    "boolean",
    "description",
];
const MILESTONE_KEYS: [&str; 2] = ["status", "when"];
const GATE_KEYS: [&str; 4] = ["by", "expires_after", "four_eyes", "reason"];
const RETRY_KEYS: [&str; 4] = ["attempts", "backoff", "factor", "max"];
const RUN_KEYS: [&str; 6] = ["worker", "http", "input", "flow", "context", "wait_for"];
const RECIPE_KEYS: [&str; 1] = ["rollback"];
const MILESTONE_TIMES: [(&str, bool); 2] = [("begun", false), ("completed", true)];
/// Words for who does the work, and whether that is a person.
const RUN_WORDS: [(&str, bool); 2] = [("worker", false), ("person", true)];
/// Words for what is done about an error, and whether that is to try again.
const RECIPE_WORDS: [(&str, bool); 2] = [("retry", true), ("fail", false)];
/// A phase that should weigh more than this against another should be several phases.
const WEIGHT_MAX: f64 = 1_000_000.0;

/// What is written of the phases, and of errors in any of them.
pub(crate) fn read_flow(reader: &mut Reader<'_>, top: &Entries<'_>) -> FlowDefinition {
    let mut phases = Vec::new();
    let named = top.get("phases").map(|node| reader.named(node, "`phases`"));
    match named {
        Some(Some(named)) if named.iter().next().is_some() => {
            for (name, node) in named.iter() {
                phases.push(read_phase(reader, name, node));
            }
        }
        Some(None) => {}
        _ => {
            let place = top.get("phases").map_or(top.place, |node| node.place);
            let message = "the flow has no `phases`".to_owned();
            reader.error("missing_key", place, message, "list them: `phases: { first: {}, … }`");
        }
    }
    FlowDefinition { place: top.place, phases, on_error: read_recipes(reader, top.get("on_error")) }
}

fn read_phase(reader: &mut Reader<'_>, name: &Placed<String>, node: &Node) -> PhaseDefinition {
    let mut name = name.clone();
    if !reader.name(&name, "a phase") {
        // Many messages have it in them.
        name.value = shorten(&name.value);
    }
    let what = format!("the phase `{}`", name.value);
    // A phase that cannot be read is there all the same: what needs it is not wrong for that.
    let entries = reader.entries(node, &what, &PHASE_KEYS).unwrap_or_else(|| Entries::none(node.place));
    let delay = |reader: &mut Reader<'_>, key: &str| {
        let text = reader.text(entries.get(key)?, &format!("`{key}`"))?;
        reader.positive_delay(&text, &format!("`{key}`"))
    };
    let run = entries.get("run").map(|run| read_run(reader, run)).unwrap_or_default();
    PhaseDefinition {
        name,
        needs: entries.get("needs").map(|needs| reader.texts(needs, "`needs`")).unwrap_or_default(),
        weight: entries.get("weight").and_then(|weight| read_weight(reader, weight)).unwrap_or(1.0),
        milestone: entries.get("milestone").and_then(|milestone| read_milestone(reader, milestone)),
        when: entries.get("when").and_then(|when| read_condition(reader, when)),
        lease: entries.get("lease").and_then(|lease| read_lease(reader, lease, &run)),
        run,
        validation: entries.get("validation").and_then(|gate| read_gate(reader, gate, "`validation`")),
        approval: entries.get("approval").and_then(|gate| read_gate(reader, gate, "`approval`")),
        retry: entries.get("retry").and_then(|retry| read_retry(reader, retry)),
        timeout: delay(reader, "timeout"),
        on_error: read_recipes(reader, entries.get("on_error")),
        output: entries.get("output").map(|output| read_values(reader, output, "`output`")),
        boolean: entries.get("boolean").and_then(|boolean| reader.text(boolean, "`boolean`")),
    }
}

/// How long a worker may be silent; nobody else has a lease.
fn read_lease(reader: &mut Reader<'_>, node: &Node, run: &RunDefinition) -> Option<Delay> {
    if !matches!(run, RunDefinition::Anybody | RunDefinition::Worker(_)) {
        let message = "`lease` belongs to workers, and none takes this phase".to_owned();
        reader.error(
            "bad_value",
            node.place,
            message,
            "drop `lease`; `timeout` says how long the work may take",
        );
    }
    let text = reader.text(node, "`lease`")?;
    let lease = reader.positive_delay(&text, "`lease`")?;
    let (shortest, longest) = LEASE_RANGE;
    if lease < shortest || lease > longest {
        let message = format!("a lease of {lease} is given to nobody");
        reader.error("bad_delay", node.place, message, format!("write a delay from {shortest} to {longest}"));
    }
    Some(lease)
}

/// CEL, or `true` and `false` for phases that an overlay switches on and off.
fn read_condition(reader: &mut Reader<'_>, node: &Node) -> Option<Placed<String>> {
    match node.kind {
        NodeKind::Bool(value) => Some(Placed { value: value.to_string(), place: node.place }),
        _ => reader.text(node, "`when`"),
    }
}

/// A number that is `good`.
fn read_number(
    reader: &mut Reader<'_>,
    node: &Node,
    what: &str,
    good: impl Fn(f64) -> bool,
    help: &str,
) -> Option<f64> {
    let number = match node.kind {
        NodeKind::Int(number) => number as f64,
        NodeKind::Float(number) => number,
        _ => {
            reader.wrong_type(node, what, "a number");
            return None;
        }
    };
    if !good(number) {
        reader.error("bad_value", node.place, format!("{what} is {number}"), help);
        return None;
    }
    Some(number)
}

fn read_weight(reader: &mut Reader<'_>, node: &Node) -> Option<f64> {
    let good = |weight: f64| weight > 0.0 && weight <= WEIGHT_MAX;
    read_number(
        reader,
        node,
        "`weight`",
        good,
        "write a number above 0, up to a million; a phase without one weighs 1",
    )
}

/// A status, or `{ status: …, when: completed }`.
fn read_milestone(reader: &mut Reader<'_>, node: &Node) -> Option<(Placed<String>, bool)> {
    if !matches!(node.kind, NodeKind::Map(_)) {
        let status = reader.text(node, "`milestone`")?;
        return reader.name(&status, "a milestone").then_some((status, false));
    }
    let entries = reader.entries(node, "`milestone`", &MILESTONE_KEYS)?;
    let Some(status) = entries.get("status") else {
        let help = "name it: `milestone: { status: … }`";
        reader.error("missing_key", node.place, "the milestone has no `status`".to_owned(), help);
        return None;
    };
    let status = reader.text(status, "`status`")?;
    let when =
        entries.get("when").and_then(|when| reader.choice(when, "`when` of a milestone", &MILESTONE_TIMES));
    reader.name(&status, "a milestone").then_some((status, when.unwrap_or(false)))
}

/// `true`, or who and until when.
fn read_gate(reader: &mut Reader<'_>, node: &Node, what: &str) -> Option<Gate> {
    if let NodeKind::Bool(wanted) = node.kind {
        return wanted.then(Gate::default);
    }
    let entries = reader.entries(node, what, &GATE_KEYS)?;
    let by = entries.get("by").map(|node| (node, reader.texts(node, "`by`")));
    if let Some((node, _)) = by.as_ref().filter(|(node, by)| by.is_empty() && is_empty(node)) {
        let message = format!("`by` of {what} names nobody");
        reader.error(
            "bad_value",
            node.place,
            message,
            "name who may say yes, or drop `by`: then anybody may",
        );
    }
    let expires = entries.get("expires_after").and_then(|text| reader.text(text, "`expires_after`"));
    let mut flag =
        |key: &str| entries.get(key).and_then(|f| reader.boolean(f, &format!("`{key}`"))).unwrap_or(false);
    let (four_eyes, reason) = (flag("four_eyes"), flag("reason"));
    Some(Gate {
        by: by.into_iter().flat_map(|(_, by)| by).map(|by| by.value.into()).collect(),
        expires_after: expires.and_then(|text| reader.positive_delay(&text, "`expires_after`")),
        four_eyes,
        reason,
    })
}

fn is_empty(node: &Node) -> bool {
    match &node.kind {
        NodeKind::List(items) => items.is_empty(),
        NodeKind::Map(entries) => entries.is_empty(),
        kind => matches!(kind, NodeKind::Null),
    }
}

/// A number of attempts, or a map.
fn read_retry(reader: &mut Reader<'_>, node: &Node) -> Option<Retry> {
    let attempts = |reader: &mut Reader<'_>, node: &Node| {
        let attempts = reader.integer(node, "`attempts`", 1, 1_000)?;
        u32::try_from(attempts).ok()
    };
    if let NodeKind::Int(_) = node.kind {
        return Some(Retry { attempts: attempts(reader, node)?, ..RETRY });
    }
    let entries = reader.entries(node, "`retry`", &RETRY_KEYS)?;
    let mut retry = RETRY;
    if let Some(attempts) = entries.get("attempts").and_then(|node| attempts(reader, node)) {
        retry.attempts = attempts;
    }
    let delay = |reader: &mut Reader<'_>, key: &str| {
        let text = reader.text(entries.get(key)?, &format!("`{key}`"))?;
        reader.positive_delay(&text, &format!("`{key}`"))
    };
    let (backoff, max) = (delay(reader, "backoff"), delay(reader, "max"));
    retry.backoff = backoff.unwrap_or(retry.backoff);
    if let (Some(node), Some(max)) = (entries.get("max"), max.filter(|max| *max < retry.backoff)) {
        let message = format!("no pause is longer than {max}, and the first one is {}", retry.backoff);
        reader.error("bad_value", node.place, message, "write a `max` that is not below `backoff`");
    }
    retry.max = max.unwrap_or(retry.max).max(retry.backoff);
    if let Some(node) = entries.get("factor") {
        let help = "write a number from 1 (always the same pause) to 100";
        let factor = read_number(reader, node, "`factor`", |factor| (1.0..=100.0).contains(&factor), help);
        retry.factor = factor.unwrap_or(retry.factor);
    }
    Some(retry)
}

/// `worker`, `person`, or one of `{ worker: … }`, `{ http: …, input: … }`, `{ flow: …, context: … }`, `{ wait_for: … }`.
fn read_run(reader: &mut Reader<'_>, node: &Node) -> RunDefinition {
    if let NodeKind::Text(text) = &node.kind {
        let Some((_, person)) = RUN_WORDS.iter().find(|(word, _)| word == text) else {
            let message = format!("`run` is `{}`", shorten(text));
            let help = "write `worker`, `person`, or a map such as `{ http: my.call }`";
            reader.error("bad_value", node.place, message, help);
            return RunDefinition::Anybody;
        };
        return if *person { RunDefinition::Person } else { RunDefinition::Worker(None) };
    }
    let Some(entries) = reader.entries(node, "`run`", &RUN_KEYS) else { return RunDefinition::Anybody };
    let ways: Vec<&str> =
        ["worker", "http", "flow", "wait_for"].into_iter().filter(|key| entries.get(key).is_some()).collect();
    let [way] = ways[..] else {
        let message = "`run` must say one way in which the work is done".to_owned();
        let help = "write `worker`, `http`, `flow` or `wait_for`, and one of them only";
        reader.error("bad_value", node.place, message, help);
        return RunDefinition::Anybody;
    };
    for (key, owner) in [("input", "http"), ("context", "flow")] {
        if let Some(node) = entries.get(key).filter(|_| way != owner) {
            let message = format!("`{key}` belongs to `{owner}`");
            reader.error("bad_value", node.place, message, format!("drop `{key}`"));
        }
    }
    let Some(text) = entries.get(way).and_then(|node| reader.text(node, &format!("`{way}`"))) else {
        return RunDefinition::Anybody;
    };
    let mut values = |key: &str| {
        entries.get(key).map(|node| read_values(reader, node, &format!("`{key}`"))).unwrap_or_default()
    };
    match way {
        "worker" => RunDefinition::Worker(Some(text)),
        "http" => RunDefinition::Http { src: text, input: values("input") },
        "flow" => RunDefinition::Flow { flow: text, context: values("context") },
        _ => RunDefinition::WaitFor(text),
    }
}

/// Error codes, each with `retry`, `fail` or `{ rollback: phase }`.
fn read_recipes(reader: &mut Reader<'_>, node: Option<&Node>) -> Vec<(Placed<String>, RecipeDefinition)> {
    let Some(entries) = node.and_then(|node| reader.named(node, "`on_error`")) else { return Vec::new() };
    let mut recipes = Vec::new();
    for (code, node) in entries.iter() {
        let word = |text: &String| RECIPE_WORDS.iter().find(|(word, _)| word == text);
        let recipe = match &node.kind {
            NodeKind::Text(text) if word(text).is_some() => match word(text) {
                Some((_, true)) => Some(RecipeDefinition::Retry),
                _ => Some(RecipeDefinition::Fail),
            },
            NodeKind::Map(written) if !written.is_empty() => {
                reader.entries(node, "a recipe", &RECIPE_KEYS).and_then(|entries| {
                    let target = entries.get("rollback")?;
                    reader.text(target, "`rollback`").map(RecipeDefinition::Rollback)
                })
            }
            _ => {
                let message = format!("what to do about `{}` cannot be understood", shorten(&code.value));
                let help = "write `retry`, `fail` or `{ rollback: the_phase }`";
                reader.error("bad_value", node.place, message, help);
                None
            }
        };
        recipes.extend(recipe.map(|recipe| (code.clone(), recipe)));
    }
    recipes
}

/// Which keys may stand at which place of the schema.
#[cfg(test)]
pub(crate) fn keys_by_place() -> Vec<(&'static str, Vec<&'static str>)> {
    vec![
        ("/$defs/flow", FLOW_KEYS.to_vec()),
        ("/$defs/phase", PHASE_KEYS.to_vec()),
        ("/$defs/milestone", MILESTONE_KEYS.to_vec()),
        ("/$defs/run", RUN_KEYS.to_vec()),
        ("/$defs/gate", GATE_KEYS.to_vec()),
        ("/$defs/retry", RETRY_KEYS.to_vec()),
        ("/$defs/recipe/anyOf/1", RECIPE_KEYS.to_vec()),
    ]
}

/// Which words may stand at which place of the schema.
#[cfg(test)]
pub(crate) fn words_by_place() -> Vec<(&'static str, Vec<&'static str>)> {
    use crate::definition::schema::words;
    vec![
        ("/$defs/milestone/properties/when", words(&MILESTONE_TIMES)),
        ("/$defs/worker_or_person", words(&RUN_WORDS)),
        ("/$defs/recipe/anyOf/0", words(&RECIPE_WORDS)),
    ]
}
