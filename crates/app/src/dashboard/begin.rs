//! What a form says of an instance or a flow that is to be begun: which fields it may be given, and its command line.

use kernel::definition::{FieldDefinition, FieldKind};
use kernel::machine::Machine;
use serde_json::{Map, Value};

use crate::dashboard::words::{self, Word};

/// The form, for whoever may begin something.
pub struct Begin {
    pub url: &'static str,
    /// What the body calls the machine.
    pub name: &'static str,
    pub takes_subject: bool,
    pub fields: Vec<FieldHint>,
    /// What has to be given, to be filled in.
    pub example: String,
    pub command: String,
}

pub struct FieldHint {
    pub name: String,
    /// `array of string`, `integer or null`.
    pub kind: String,
    /// Whether it has to be given, or what it holds otherwise.
    pub otherwise: String,
}

impl Begin {
    /// `None` for a machine that is the server's own.
    pub fn of(machine: &Machine) -> Option<Self> {
        if machine.name.is_own() {
            return None;
        }
        let is_flow = machine.flow.is_some();
        let about = [Word::Is(machine.name.as_str())];
        let (run, mut flags): (&[&str], _) = match is_flow {
            true => (&["statewright", "flow", "start"], vec![("--id", "id"), ("--context", "context")]),
            false => (&["statewright", "create"], vec![("--id", "id"), ("--context", "context")]),
        };
        if !is_flow {
            flags.push(("--subject", "subject"));
        }
        Some(Self {
            url: if is_flow { "/v1/flows" } else { "/v1/instances" },
            name: if is_flow { "flow" } else { "machine" },
            takes_subject: !is_flow,
            fields: machine.fields.iter().map(hint).collect(),
            example: example(&machine.fields),
            command: words::command(run, &about, &flags),
        })
    }
}

fn hint(field: &FieldDefinition) -> FieldHint {
    let kind = match (field.kind, field.items) {
        (FieldKind::Array, Some(items)) => format!("array of {}", items.as_str()),
        (kind, _) => kind.as_str().to_owned(),
    };
    let otherwise = match &field.default {
        _ if field.must_be_given() => "has to be given".to_owned(),
        Some(default) => format!("else {}", default.value),
        None => format!("else {}", field.empty()),
    };
    let null = if field.nullable { " or null" } else { "" };
    FieldHint { name: field.name.value.clone(), kind: format!("{kind}{null}"), otherwise }
}

/// An object with all that has to be given, each with its type's empty value.
fn example(fields: &[FieldDefinition]) -> String {
    let given = fields.iter().filter(|field| field.must_be_given());
    let fields: Map<String, Value> = given.map(|field| (field.name.value.clone(), field.empty())).collect();
    serde_json::to_string(&fields).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_says_which_fields_it_takes() {
        let source = "machine: m\ncontext:\n  name: { type: string, required: true }\n  photos: { type: array, items: string }\n  left: { type: integer, nullable: true }\n  tries: { type: integer, default: 3 }\ninitial: a\nstates: { a: {} }\n";
        let machine = kernel::definition::load(source).0.expect("the definition is well");
        let begin = Begin::of(&machine).expect("it is nobody's own");
        let said = |field: &FieldHint| format!("{}: {}, {}", field.name, field.kind, field.otherwise);
        let expected = [
            "name: string, has to be given",
            "photos: array of string, else []",
            "left: integer or null, else null",
            "tries: integer, else 3",
        ];
        assert_eq!(begin.fields.iter().map(said).collect::<Vec<_>>(), expected);
        assert_eq!((begin.example.as_str(), begin.url), (r#"{"name":""}"#, "/v1/instances"));
    }
}
