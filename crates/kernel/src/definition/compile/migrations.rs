//! Migrations, compiled: what is said to be here has to be here.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::chart::{Apart, Computed};
use crate::definition::compile::Compiler;
use crate::definition::compile::expressions::compile_migrated;
use crate::definition::document::Placed;
use crate::definition::{MigrationDefinition, OtherwiseDefinition, ValueDefinition};
use crate::diagnostic::shorten;
use crate::migration::{Migration, Otherwise};

impl<'a> Compiler<'a, '_> {
    pub(super) fn migrations(&mut self) -> Vec<Migration> {
        let written = &self.definition.migrations;
        self.check_versions(written);
        written.iter().map(|migration| self.migration(migration)).collect()
    }

    /// A version that two are for would be migrated by whichever comes first.
    fn check_versions(&mut self, written: &[MigrationDefinition]) {
        let (mut seen, mut for_all) = (BTreeSet::new(), false);
        for migration in written {
            if migration.from.is_empty() && std::mem::replace(&mut for_all, true) {
                let message = "two migrations are for all versions".to_owned();
                let help = "say which versions each is `from`";
                self.error("duplicate_name", migration.place, message, help);
            }
            for version in &migration.from {
                if !seen.insert(version.value) {
                    let message = format!("two migrations are for version {}", version.value);
                    self.error("duplicate_name", version.place, message, "put what they say into one");
                }
            }
        }
    }

    fn migration(&mut self, written: &'a MigrationDefinition) -> Migration {
        let mut moves = Vec::new();
        for (there, here) in &written.moves {
            let known = here.as_ref().is_none_or(|here| self.knows(here));
            if known {
                let here = here.as_ref().map(|here| here.value.as_str().into());
                moves.push((there.value.as_str().into(), here));
            }
        }
        Migration {
            from: written.from.iter().map(|version| version.value).collect(),
            moves: moves.into_iter().collect(),
            context: written.context.iter().filter_map(|field| self.migrated_field(field)).collect(),
            otherwise: written.otherwise.as_ref().and_then(|otherwise| self.otherwise(otherwise)),
        }
    }

    /// Whether there are states of these names, with commas between them; or, in a flow, a phase.
    fn knows(&mut self, here: &Placed<String>) -> bool {
        if let Some(flow) = &self.definition.flow {
            let known = || flow.phases.iter().map(|phase| phase.name.value.as_str());
            let is_known = known().any(|name| name == here.value);
            if !is_known {
                let help = self.nearest(&here.value, known());
                let message = format!("there is no phase `{}`", shorten(&here.value));
                self.error("unknown_phase", here.place, message, help);
            }
            return is_known;
        }
        match self.chart.together(here.value.split(',')) {
            Ok(_) => true,
            Err(Apart::Unknown(path)) => {
                self.no_state(path, here);
                false
            }
            Err(Apart::NotWith(other, path)) => {
                let message = format!("`{other}` and `{}` cannot be active together", shorten(path));
                let help = "name one state, or one of each region of a parallel state";
                self.error("illegal_target", here.place, message, help);
                false
            }
        }
    }

    fn no_state(&mut self, path: &str, named: &Placed<String>) {
        let paths = self.chart.states.iter().skip(1).map(|state| &*state.path);
        let help = self.nearest(path, paths);
        let message = format!("there is no state `{}`", shorten(path));
        self.error("unknown_target", named.place, message, help);
    }

    fn migrated_field(
        &mut self,
        (name, value): &'a (Placed<String>, ValueDefinition),
    ) -> Option<(Arc<str>, Computed)> {
        let definition = self.definition;
        let Some(field) = definition.context.iter().find(|field| field.name.value == name.value) else {
            let known = definition.context.iter().map(|field| field.name.value.as_str());
            let help = self.nearest(&name.value, known);
            let message = format!("the context has no field `{}`", name.value);
            self.error("unknown_field", name.place, message, help);
            return None;
        };
        let value = match value {
            ValueDefinition::Expression(source) => {
                let compiled = compile_migrated(source, definition, field, self.diagnostics)?;
                Computed::Expression(Box::new(compiled))
            }
            ValueDefinition::Literal(value) => {
                if let Err(problem) = field.accepts(value) {
                    let message = format!("context.{} {problem}", name.value);
                    self.error("bad_value", name.place, message, "write a value of the field's type");
                }
                Computed::Literal(value.clone())
            }
        };
        Some((name.value.as_str().into(), value))
    }

    fn otherwise(&mut self, written: &'a OtherwiseDefinition) -> Option<Otherwise> {
        let path = written.target.value.as_str();
        let target = self.chart.together(std::iter::once(path)).ok().and_then(|found| found.first().copied());
        if target.is_none() {
            self.no_state(path, &written.target);
        }
        let reply = match &written.reply {
            Some(name) => Some(self.reply(name)?),
            None => None,
        };
        Some(Otherwise { target: target?, reply })
    }
}
