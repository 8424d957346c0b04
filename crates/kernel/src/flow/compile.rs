//! From a `FlowDefinition` to a `Flow`: names become places, expressions become programs, and what cannot be is noted.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::chart::Computed;
use crate::definition::document::Placed;
use crate::definition::{
    Definition, GUESSES_MAX, StateDefinition, ValueDefinition, compile_flow_expression, warn_of_copies,
};
use crate::diagnostic::{Diagnostic, Place, nearest, shorten};
use crate::expression::Expression;
use crate::flow::definition::{PhaseDefinition, RecipeDefinition, RunDefinition};
use crate::flow::status::FIXED;
use crate::flow::{Flow, FlowDefinition, Milestone, Phase, PhaseIndex, Recipe, Run};
use crate::id::MachineName;
use crate::time::Delay;

/// Nobody oversees more; the places of phases are sixteen bits.
const PHASES_MAX: usize = 2_000;
/// What a phase needs is looked at whenever one of them is completed.
const NEEDS_MAX: usize = 20_000;
/// Of a longer circle the beginning and the end are shown.
const ROUND_SHOWN_MAX: usize = 12;
/// How long a worker may be silent, unless the phase or the worker says otherwise.
const LEASE: Delay = Delay::from_secs(60);

impl FlowDefinition {
    /// The statuses that the flow can have, as states of a chart that nothing leads through but the phases.
    pub(crate) fn statuses(&self) -> Vec<StateDefinition> {
        let fixed = |name: &&str| Placed { value: (*name).to_owned(), place: self.place };
        let mut milestones: Vec<Placed<String>> = Vec::new();
        for (status, _) in self.phases.iter().filter_map(|phase| phase.milestone.as_ref()) {
            let known = FIXED.contains(&status.value.as_str())
                || milestones.iter().any(|milestone| milestone.value == status.value);
            if !known {
                milestones.push(status.clone());
            }
        }
        let (begun, rest) = FIXED.split_at(2);
        let names = begun.iter().map(fixed).chain(milestones).chain(rest.iter().map(fixed));
        names.map(StateDefinition::empty).collect()
    }
}

struct Compiler<'a, 'd> {
    definition: &'a Definition,
    written: &'a [PhaseDefinition],
    by_name: HashMap<&'a str, PhaseIndex>,
    diagnostics: &'d mut Vec<Diagnostic>,
}

impl Flow {
    pub(crate) fn compile(
        written: &FlowDefinition,
        definition: &Definition,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Option<Self> {
        let needs: usize = written.phases.iter().map(|phase| phase.needs.len()).sum();
        for (count, limit, what) in
            [(written.phases.len(), PHASES_MAX, "phases"), (needs, NEEDS_MAX, "needs")]
        {
            if count > limit {
                let message = format!("the flow has {count} {what}");
                let help = format!(
                    "{limit} are allowed; make flows of some of its phases, with `run: {{ flow: … }}`"
                );
                diagnostics.push(Diagnostic::error("too_large", written.place, message, help));
                return None;
            }
        }
        let numbered = written.phases.iter().enumerate();
        let by_name = numbered.map(|(n, phase)| (phase.name.value.as_str(), PhaseIndex(n as u16))).collect();
        let mut compiler = Compiler { definition, written: &written.phases, by_name, diagnostics };
        compiler.check_booleans();
        let mut phases: Vec<Phase> = written.phases.iter().map(|phase| compiler.phase(phase)).collect();
        for number in 0..phases.len() {
            for need in phases[number].needs.clone() {
                phases[usize::from(need.0)].dependents.push(PhaseIndex(number as u16));
            }
        }
        compiler.check_cycles(&phases);
        compiler.recipes_of_phases(&mut phases);
        let on_error = compiler.recipes(&written.on_error);
        let names =
            phases.iter().enumerate().map(|(n, phase)| (Arc::clone(&phase.name), PhaseIndex(n as u16)));
        let by_name = names.collect();
        let weights = phases.iter().map(|phase| phase.weight).collect();
        let numbered = phases.iter().enumerate();
        let milestone = |(n, phase): (usize, &Phase)| Some((PhaseIndex(n as u16), phase.milestone.clone()?));
        let milestones = numbered.filter_map(milestone).collect();
        Some(Self { phases, by_name, weights, milestones, on_error })
    }
}

impl<'a> Compiler<'a, '_> {
    fn error(&mut self, code: &'static str, place: Place, message: String, help: impl Into<String>) {
        self.diagnostics.push(Diagnostic::error(code, place, message, help.into()));
    }

    /// The remedy for a name that leads nowhere.
    fn nearest<'n>(&self, wrong: &str, known: impl Iterator<Item = &'n str> + Clone) -> String {
        match self.diagnostics.len() < GUESSES_MAX {
            true => nearest(wrong, known),
            false => "mend the errors above first".into(),
        }
    }

    fn find(&mut self, name: &Placed<String>, what: &str) -> Option<PhaseIndex> {
        let found = self.by_name.get(name.value.as_str()).copied();
        if found.is_none() {
            let help = self.nearest(&name.value, self.written.iter().map(|phase| phase.name.value.as_str()));
            let message = format!("{what} `{}`, which is no phase", shorten(&name.value));
            self.error("unknown_phase", name.place, message, help);
        }
        found
    }

    fn phase(&mut self, written: &PhaseDefinition) -> Phase {
        let name = &written.name.value;
        let mut needs = Vec::new();
        for need in &written.needs {
            let Some(found) = self.find(need, &format!("`{name}` needs")) else { continue };
            if needs.contains(&found) {
                let message = format!("`{name}` needs `{}` twice", need.value);
                self.error("bad_value", need.place, message, "write it once");
                continue;
            }
            needs.push(found);
        }
        needs.sort_unstable();
        let milestone = written.milestone.as_ref().map(|(status, when_completed)| {
            if FIXED.contains(&status.value.as_str()) {
                let message = format!("`{}` is a status that every flow has", status.value);
                self.error("bad_name", status.place, message, "call the milestone something else");
            }
            Milestone { status: status.value.as_str().into(), when_completed: *when_completed }
        });
        let when = written.when.as_ref().and_then(|when| self.expression(when, false));
        if let (Some(when), Some(source)) = (&when, &written.when)
            && let Err(problem) = when.check_truth("a guard")
        {
            let help = "compare it with something, such as `context.count > 3`";
            self.error("type_mismatch", source.place, problem, help);
        }
        Phase {
            name: name.as_str().into(),
            needs,
            dependents: Vec::new(),
            weight: written.weight,
            milestone,
            when,
            run: self.run(written),
            lease: written.lease.unwrap_or(LEASE),
            validation: written.validation.clone(),
            approval: written.approval.clone(),
            retry: written.retry,
            timeout: written.timeout,
            on_error: Vec::new(),
            output: written.output.as_ref().map(|output| self.output(output)),
            boolean: boolean_of(written).as_str().into(),
        }
    }

    fn run(&mut self, written: &PhaseDefinition) -> Run {
        match &written.run {
            RunDefinition::Anybody => Run::Anybody,
            RunDefinition::Person => Run::Person,
            RunDefinition::Worker(kind) => {
                Run::Worker(kind.as_ref().map_or("", |kind| kind.value.as_str()).into())
            }
            RunDefinition::Http { src, input } => {
                Run::Http { src: src.value.as_str().into(), input: self.values(input, false) }
            }
            RunDefinition::Flow { flow, context } => {
                if let Err(problem) = MachineName::parse(&flow.value) {
                    self.error("bad_name", flow.place, problem, "write the name of a flow");
                } else if flow.value == self.definition.machine.value {
                    let message = format!("`{}` would be a phase of itself, without end", flow.value);
                    self.error("phase_cycle", flow.place, message, "name another flow");
                }
                Run::Flow { flow: flow.value.as_str().into(), context: self.values(context, false) }
            }
            RunDefinition::WaitFor(source) => match self.expression(source, false) {
                Some(id) => {
                    if !id.result_type().may_be_text() {
                        let message =
                            format!("`wait_for` is the id of a flow, and this is {}", id.result_type());
                        let help = "write an expression that gives a text, such as `context.other`";
                        self.error("type_mismatch", source.place, message, help);
                    }
                    Run::WaitFor(id)
                }
                None => Run::Person,
            },
        }
    }

    fn values(
        &mut self,
        written: &[(Placed<String>, ValueDefinition)],
        event: bool,
    ) -> Vec<(Arc<str>, Computed)> {
        let mut values = Vec::new();
        for (name, value) in written {
            let value = match value {
                ValueDefinition::Literal(value) => Some(Computed::Literal(value.clone())),
                ValueDefinition::Expression(source) => {
                    self.expression(source, event).map(|e| Computed::Expression(Box::new(e)))
                }
            };
            values.extend(value.map(|value| (name.value.as_str().into(), value)));
        }
        values
    }

    /// What of a result goes where; `event` is the result.
    fn output(&mut self, written: &[(Placed<String>, ValueDefinition)]) -> Vec<(Arc<str>, Computed)> {
        let mut output = Vec::new();
        for (name, value) in written {
            let fields = &self.definition.context;
            let field = fields.iter().find(|field| field.name.value == name.value);
            if field.is_none() {
                let help = self.nearest(&name.value, fields.iter().map(|field| field.name.value.as_str()));
                let message = format!("the context has no field `{}`", shorten(&name.value));
                self.error("unknown_field", name.place, message, help);
            }
            let computed = self.values(std::slice::from_ref(&(name.clone(), value.clone())), true);
            let misfit = match (computed.first(), field) {
                (Some((_, Computed::Expression(expression))), Some(field)) => {
                    if let ValueDefinition::Expression(source) = value {
                        warn_of_copies(source, expression, field, self.diagnostics);
                    }
                    expression.check_assignment(field)
                }
                (Some((_, Computed::Literal(value))), Some(field)) => {
                    field.accepts(value).map_err(|problem| format!("context.{} {problem}", name.value))
                }
                _ => Ok(()),
            };
            if let Err(problem) = misfit {
                let place = match value {
                    ValueDefinition::Expression(source) => source.place,
                    ValueDefinition::Literal(_) => name.place,
                };
                let help = "change the value, or the type of the field";
                self.error("type_mismatch", place, problem, help);
            }
            output.extend(computed);
        }
        output
    }

    fn expression(&mut self, source: &Placed<String>, event: bool) -> Option<Expression> {
        compile_flow_expression(source, self.definition, event, self.diagnostics)
    }

    /// Each phase has a boolean of its own in old records.
    fn check_booleans(&mut self) {
        let mut seen = HashSet::new();
        for phase in self.written {
            let boolean = boolean_of(phase);
            if !seen.insert(boolean.clone()) {
                let place = phase.boolean.as_ref().map_or(phase.name.place, |boolean| boolean.place);
                let message = format!("two phases have the boolean `{boolean}`");
                self.error("duplicate_name", place, message, "name it otherwise: `boolean: …`");
            }
        }
    }

    /// Phases that need one another, directly or not, would never start.
    fn check_cycles(&mut self, phases: &[Phase]) {
        let mut open: Vec<usize> = phases.iter().map(|phase| phase.needs.len()).collect();
        let mut ready: Vec<usize> = (0..phases.len()).filter(|n| open[*n] == 0).collect();
        let mut sorted = 0;
        while let Some(next) = ready.pop() {
            sorted += 1;
            for dependent in &phases[next].dependents {
                let dependent = usize::from(dependent.0);
                open[dependent] -= 1;
                if open[dependent] == 0 {
                    ready.push(dependent);
                }
            }
        }
        if sorted == phases.len() {
            return;
        }
        // From any phase that is left, going to something it needs that is left too comes round.
        let left = |n: &usize| open[*n] > 0;
        let Some(mut at) = (0..phases.len()).find(left) else { return };
        let mut path = Vec::new();
        while !path.contains(&at) {
            path.push(at);
            let next = phases[at].needs.iter().map(|need| usize::from(need.0)).find(left);
            let Some(next) = next else { return };
            at = next;
        }
        let round = &path[path.iter().position(|n| *n == at).unwrap_or(0)..];
        let mut names: Vec<&str> = round.iter().chain([&at]).map(|n| &*phases[*n].name).collect();
        if names.len() > ROUND_SHOWN_MAX {
            let last = names.split_off(names.len() - 2);
            names.truncate(ROUND_SHOWN_MAX - 2);
            names.push("…");
            names.extend(last);
        }
        let place = self.written[at].name.place;
        let message = match round {
            [_] => format!("`{}` needs itself", names[0]),
            _ => format!("the phases need one another in a circle: {}", names.join(" needs ")),
        };
        self.error(
            "phase_cycle",
            place,
            message,
            "take one `needs` out of it; none of them could ever start",
        );
    }

    fn recipes_of_phases(&mut self, phases: &mut [Phase]) {
        let written = self.written;
        for (number, phase) in written.iter().enumerate() {
            let mut recipes = Vec::new();
            let mut needed = None;
            for (code, recipe) in &phase.on_error {
                let Some(recipe) = self.recipe(code, recipe) else { continue };
                recipes.push((code.value.as_str().into(), recipe));
                let Recipe::Rollback(target) = recipe else { continue };
                let needed = needed.get_or_insert_with(|| needed_by(phases, PhaseIndex(number as u16)));
                if !needed[usize::from(target.0)] {
                    let target = &phases[usize::from(target.0)].name;
                    let message = format!("`{}` does not depend on `{target}`", phase.name.value);
                    let help = "rolling back leads to something that the phase needs, directly or not";
                    self.error("illegal_target", code.place, message, help);
                }
            }
            phases[number].on_error = recipes;
        }
    }

    fn recipes(&mut self, written: &[(Placed<String>, RecipeDefinition)]) -> Vec<(Arc<str>, Recipe)> {
        let recipe = |(code, recipe): &(Placed<String>, RecipeDefinition)| {
            Some((code.value.as_str().into(), self.recipe(code, recipe)?))
        };
        written.iter().filter_map(recipe).collect()
    }

    fn recipe(&mut self, code: &Placed<String>, written: &RecipeDefinition) -> Option<Recipe> {
        match written {
            RecipeDefinition::Retry => Some(Recipe::Retry),
            RecipeDefinition::Fail => Some(Recipe::Fail),
            RecipeDefinition::Rollback(to) => {
                let what = format!("`{}` leads back to", shorten(&code.value));
                self.find(to, &what).map(Recipe::Rollback)
            }
        }
    }
}

/// The name of a phase's boolean in records that have one a phase.
fn boolean_of(phase: &PhaseDefinition) -> String {
    let named = phase.boolean.as_ref().map(|boolean| boolean.value.clone());
    named.unwrap_or_else(|| format!("{}_completed", phase.name.value))
}

/// Which phases a phase needs, directly or not.
fn needed_by(phases: &[Phase], phase: PhaseIndex) -> Vec<bool> {
    let mut needed = vec![false; phases.len()];
    let mut todo = vec![phase];
    while let Some(next) = todo.pop() {
        for need in &phases[usize::from(next.0)].needs {
            if !std::mem::replace(&mut needed[usize::from(need.0)], true) {
                todo.push(*need);
            }
        }
    }
    needed
}
