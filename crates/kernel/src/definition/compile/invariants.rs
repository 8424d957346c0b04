//! What has to hold, compiled: invariants of states, and what transitions ensure.

use crate::chart::invariant::Invariant;
use crate::definition::InvariantDefinition;
use crate::definition::compile::Compiler;
use crate::definition::compile::expressions::{Wanted, place_of_field};
use crate::definition::document::Placed;
use crate::expression::{Expression, FieldsRead};

/// When it has to hold.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Held {
    /// Whenever a state is active.
    Always,
    /// When a transition has been taken.
    Once,
}

impl Compiler<'_, '_> {
    pub(super) fn invariants(&mut self, written: &[InvariantDefinition], held: Held) -> Vec<Invariant> {
        let mut invariants = Vec::with_capacity(written.len());
        for InvariantDefinition { name, check, message } in written {
            let wanted = if held == Held::Once { Wanted::Ensured } else { Wanted::Invariant };
            let Some(expression) = self.expression(check, wanted) else { continue };
            if held == Held::Always {
                self.check_lasting(check, &expression);
            }
            invariants.push(Invariant {
                name: name.value.as_str().into(),
                check: expression,
                message: message.as_deref().map(Into::into),
            });
        }
        invariants
    }

    /// What holds all the time cannot depend on an event, nor on the time: it would cease to hold although nothing
    /// happens, and then refuse whatever happens.
    fn check_lasting(&mut self, source: &Placed<String>, expression: &Expression) {
        let reads = expression.reads();
        let strange = match () {
            () if reads.event != FieldsRead::default() => ("event", ENSURE),
            () if reads.event_name => ("event_name", ENSURE),
            () if reads.now => ("now", "it would cease to hold although nothing happens; use `after`"),
            () => return,
        };
        let (name, help) = strange;
        let message = format!("`{name}` is not known here");
        self.error("bad_expression", place_of_field(source, "", name), message, help);
    }
}

const ENSURE: &str = "an invariant holds whatever happens; to say what holds after an event, write `ensures` on its transition";
