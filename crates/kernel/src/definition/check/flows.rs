//! What is legal in a flow and still doubtful: waiting without end, and what says or does nothing.
//!
//! A flow is looked after, so little of it is doubtful: what a phase waits for can be listed, paused and cancelled, and
//! whoever does the work sees the whole context.

use std::collections::BTreeSet;

use crate::chart::Computed;
use crate::definition::Definition;
use crate::diagnostic::{Diagnostic, Place};
use crate::expression::Expression;
use crate::flow::{Flow, Gate, Phase, PhaseDefinition, Run};
use crate::machine::Machine;

pub(super) fn check(definition: &Definition, machine: &Machine, diagnostics: &mut Vec<Diagnostic>) {
    let (Some(written), Some(flow)) = (&definition.flow, &machine.flow) else { return };
    let mut checker = FlowChecker { machine, flow, diagnostics };
    for (written, phase) in written.phases.iter().zip(&flow.phases) {
        checker.no_way_out_by_time(written, phase);
        checker.constant_condition(written, phase);
    }
    checker.idle_fields();
}

struct FlowChecker<'a, 'd> {
    machine: &'a Machine,
    flow: &'a Flow,
    diagnostics: &'d mut Vec<Diagnostic>,
}

impl FlowChecker<'_, '_> {
    fn warn(&mut self, code: &'static str, place: Place, message: String, help: impl Into<String>) {
        self.diagnostics.push(Diagnostic::warning(code, place, message, help.into()));
    }

    /// Where anybody may say yes, somebody will. Where few may, all of them may be away.
    fn no_way_out_by_time(&mut self, written: &PhaseDefinition, phase: &Phase) {
        let gates = [("validation", &phase.validation), ("approval", &phase.approval)];
        for (what, gate) in gates {
            let Some(Gate { by, expires_after: None, .. }) = gate else { continue };
            if !by.is_empty() {
                let message = format!(
                    "`{}` waits for the {what} of `{}`, and for ever if it does not come",
                    phase.name,
                    by.join("` or `")
                );
                let help = "add `expires_after: 48h`, or whatever is long enough; the phase has then failed";
                self.warn("no_way_out_by_time", written.name.place, message, help);
            }
        }
    }

    /// `true` and `false` alone are meant.
    fn constant_condition(&mut self, written: &PhaseDefinition, phase: &Phase) {
        let (Some(source), Some(when)) = (&written.when, &phase.when) else { return };
        if ["true", "false"].contains(&source.value.trim()) {
            return;
        }
        if let Some(value) = when.constant() {
            let message = format!("this condition is always {value}");
            let help = "let it read `context`, or write `true` or `false` if that is what is meant";
            self.warn("constant_guard", source.place, message, help);
        }
    }

    /// Fields that nothing can read, or that something reads and nothing ever writes.
    fn idle_fields(&mut self) {
        let (mut read, mut written) = (BTreeSet::new(), BTreeSet::new());
        let (mut read_all, mut written_all) = (false, false);
        for phase in &self.flow.phases {
            // Whoever does the work is shown the context, and may hand in any field of it unless `output` says which.
            read_all |= matches!(phase.run, Run::Anybody | Run::Person | Run::Worker(_));
            written_all |= phase.output.is_none();
            written.extend(phase.output.iter().flatten().map(|(field, _)| &**field));
            for expression in expressions(phase) {
                read_all |= expression.reads().context.whole;
                read.extend(expression.reads().context.names.iter().map(String::as_str));
            }
        }
        for field in &self.machine.fields {
            let name = field.name.value.as_str();
            let given = field.required || field.nullable || field.default.is_some();
            if !read_all && !read.contains(name) && !written_all && !written.contains(name) {
                let message = format!("no phase reads or sets the field `{name}`");
                let help = "read it in a `when` or an `input`, set it with an `output`, or drop it";
                self.warn("unread_field", field.name.place, message, help);
            } else if read.contains(name) && !written_all && !written.contains(name) && !given {
                let message = format!("no phase sets the field `{name}`");
                let help = "set it with an `output`, give it a `default`, or mark it `required` if whoever starts \
                            a flow gives it";
                self.warn("unwritten_field", field.name.place, message, help);
            }
        }
    }
}

fn expressions(phase: &Phase) -> Vec<&Expression> {
    let mut found: Vec<&Expression> = phase.when.iter().collect();
    let values = match &phase.run {
        Run::Http { input: values, .. } | Run::Flow { context: values, .. } => values.as_slice(),
        Run::WaitFor(other) => {
            found.push(other);
            &[]
        }
        Run::Anybody | Run::Person | Run::Worker(_) => &[],
    };
    found.extend(values.iter().chain(phase.output.iter().flatten()).filter_map(|(_, value)| match value {
        Computed::Expression(expression) => Some(&**expression),
        Computed::Literal(_) => None,
    }));
    found
}
