//! Expressions in their places: what each may read, and what has to come of it.

use crate::definition::compile::Compiler;
use crate::definition::document::Placed;
use crate::definition::{Definition, FieldDefinition};
use crate::diagnostic::{Diagnostic, Place, nearest, shorten};
use crate::expression::{Expression, FieldsRead, Names, Type};

/// What an expression is there for.
#[derive(Clone, Copy)]
pub(super) enum Wanted<'f> {
    Anything,
    /// A guard, or the condition of an action.
    Truth,
    /// What holds in a state.
    Invariant,
    /// What holds when a transition has been taken; it may ask what was before.
    Ensured,
    Value(&'f FieldDefinition),
    Milliseconds,
    List,
}

impl Compiler<'_, '_> {
    pub(super) fn expression(&mut self, source: &Placed<String>, wanted: Wanted<'_>) -> Option<Expression> {
        let names = Names {
            context: &self.definition.context,
            locals: &self.locals,
            before: matches!(wanted, Wanted::Ensured),
        };
        let expression = compile(source, self.definition, &names, self.diagnostics)?;
        let result = expression.result_type();
        let misfit = match wanted {
            Wanted::Anything => Ok(()),
            Wanted::Truth => expression.check_truth("a guard"),
            Wanted::Invariant => expression.check_truth("an invariant"),
            Wanted::Ensured => expression.check_truth("what is ensured"),
            Wanted::Value(field) => expression.check_assignment(field),
            Wanted::Milliseconds if result.may_be_integer() => Ok(()),
            Wanted::Milliseconds => Err(format!("a delay must be whole milliseconds, and this is {result}")),
            Wanted::List if result.may_be_list() => Ok(()),
            Wanted::List => Err(format!("`for_each` takes a list, and this is {result}")),
        };
        if let Err(problem) = misfit {
            let help = match wanted {
                Wanted::Truth | Wanted::Invariant | Wanted::Ensured => {
                    "compare it with something, such as `context.count > 3`"
                }
                _ => "change the expression, or the type of the field",
            };
            self.error("type_mismatch", source.place, problem, help);
        }
        if let Wanted::Value(field) = wanted {
            warn_of_copies(source, &expression, field, self.diagnostics);
        }
        Some(expression)
    }
}

/// A secret that is copied into a field that is not secret can be read where that is stored.
pub(crate) fn warn_of_copies(
    source: &Placed<String>,
    expression: &Expression,
    field: &FieldDefinition,
    diagnostics: &mut Vec<Diagnostic>,
) {
    let Some(secret) = expression.secret_shown().filter(|_| !field.secret) else { return };
    let name = &field.name.value;
    let message = format!("the secret `{secret}` is copied into `{name}`, which is not secret");
    let help = format!(
        "mark `{name}` as `secret: true` too, or copy only what is none, such as `context.{secret} != null`"
    );
    let place = place_of_field(source, "context.", secret);
    diagnostics.push(Diagnostic::warning("secret_shown", place, message, help));
}

/// The expression in a reply or its options, which no event is there for.
pub(crate) fn compile_template_expression(
    source: &Placed<String>,
    definition: &Definition,
    locals: &[(String, Type)],
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Expression> {
    let names = Names { context: &definition.context, locals, ..Names::default() };
    let expression = compile(source, definition, &names, diagnostics)?;
    let reads = expression.reads();
    if reads.event != FieldsRead::default() || reads.event_name {
        diagnostics.push(Diagnostic::error(
            "bad_expression",
            place_of_field(source, "", "event"),
            "`event` is not known here".into(),
            "a reply may use context, active and now; assign what it needs to the context first".into(),
        ));
    }
    if let Some(secret) = expression.secret_shown() {
        let message = format!("the secret `{secret}` is shown to whoever reads the reply");
        let help = format!("leave it out, or show only what is none, such as `context.{secret} != null`");
        let place = place_of_field(source, "context.", secret);
        diagnostics.push(Diagnostic::warning("secret_shown", place, message, help));
    }
    Some(expression)
}

/// What a migration makes of an instance of another version, whose context is `before`, of fields that nobody knows here.
pub(super) fn compile_migrated(
    source: &Placed<String>,
    definition: &Definition,
    field: &FieldDefinition,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Expression> {
    let locals = MIGRATED.map(|(name, kind)| (name.to_owned(), kind));
    let names = Names { locals: &locals, ..Names::default() };
    let expression = compile(source, definition, &names, diagnostics)?;
    let reads = expression.reads();
    let strange = [
        ("context", reads.context != FieldsRead::default()),
        ("event", reads.event != FieldsRead::default()),
        ("event_name", reads.event_name),
        ("active", reads.active),
    ];
    if let Some((name, _)) = strange.into_iter().find(|(_, is_read)| *is_read) {
        diagnostics.push(Diagnostic::error(
            "bad_expression",
            place_of_field(source, "", name),
            format!("`{name}` is not known here"),
            "a migration has the context of the other version as `before`, and its `state` and `version`"
                .into(),
        ));
        return None;
    }
    if let Err(problem) = expression.check_assignment(field) {
        let help = "change the expression, or the type of the field";
        diagnostics.push(Diagnostic::error("type_mismatch", source.place, problem, help.into()));
    }
    Some(expression)
}

/// What the expressions of a migration see, in the order in which `Migration` gives it to them.
const MIGRATED: [(&str, Type); 3] =
    [("before", Type::ANY), ("state", Type::TEXT), ("version", Type::INTEGER)];

/// An expression of a phase. Only what is made of a result has one, which is its `event`; no state is active.
pub(crate) fn compile_flow_expression(
    source: &Placed<String>,
    definition: &Definition,
    event: bool,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Expression> {
    let names = Names { context: &definition.context, ..Names::default() };
    let expression = compile(source, definition, &names, diagnostics)?;
    let reads = expression.reads();
    let strange = match () {
        () if reads.active => Some(("active", "a flow has no active states; use the context")),
        () if reads.event_name => Some(("event_name", "there is none; use the context")),
        () if !event && reads.event != FieldsRead::default() => {
            Some(("event", "only `output` has one, which is what the work has brought; use the context"))
        }
        () => None,
    };
    if let Some((name, help)) = strange {
        let message = format!("`{name}` is not known here");
        let place = place_of_field(source, "", name);
        diagnostics.push(Diagnostic::error("bad_expression", place, message, help.into()));
    }
    Some(expression)
}

/// Compiles an expression and checks the context fields that it names.
fn compile(
    source: &Placed<String>,
    definition: &Definition,
    names: &Names<'_>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Expression> {
    let mut error = |code, place, message, help: String| {
        diagnostics.push(Diagnostic::error(code, place, message, help));
    };
    let expression = match Expression::compile(&source.value, names) {
        Ok(expression) => expression,
        Err(problem) => {
            let message = format!("the expression `{}` cannot be used: {problem}", shorten(&source.value));
            let help = "write CEL, such as `context.count > 3 && event.text != \"\"`";
            error("bad_expression", source.place, message, help.into());
            return None;
        }
    };
    let fields = || definition.context.iter().map(|f| f.name.value.as_str());
    let reads = expression.reads();
    let named = reads.context.names.iter().map(|name| ("context.", name));
    for (before, name) in named.chain(reads.before.names.iter().map(|name| ("before.", name))) {
        if !fields().any(|field| field == name) {
            let message = format!("the context has no field `{name}`");
            let place = place_of_field(source, before, name);
            error("unknown_field", place, message, nearest(name, fields()));
        }
    }
    Some(expression)
}

/// Where an expression first names `name` behind `before`.
pub(super) fn place_of_field(source: &Placed<String>, before: &str, name: &str) -> Place {
    let written = format!("{before}{name}");
    let ends = |at: &usize| {
        let rest = source.value[at + written.len()..].chars().next();
        rest.is_none_or(|c| !c.is_alphanumeric() && c != '_')
    };
    let mut found = source.value.match_indices(&written).map(|(at, _)| at);
    found.find(ends).map_or(source.place, |at| source.part(at + before.len()..at + written.len()))
}
