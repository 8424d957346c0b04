//! Old records: one line of JSON each, with a boolean for every phase, read as what a flow begins with.
//!
//! Owns which field of a record goes where. Nothing is dropped in silence: what has no place in the flow is named.

use kernel::flow::Flow;
use kernel::id::InstanceId;
use kernel::machine::Machine;
use serde_json::{Map, Value};

/// A record, sorted into what the flow has a place for and what it has none for.
#[derive(Debug, PartialEq)]
pub(super) struct Record {
    pub id: String,
    pub booleans: Map<String, Value>,
    pub context: Map<String, Value>,
    /// Names of fields that the flow does not have.
    pub left_out: Vec<String>,
    /// The first phase that is completed though something that it needs is not.
    pub gap: Option<String>,
}

/// Why a line is no record, and whose it would have been.
#[derive(Debug, PartialEq)]
pub(super) struct Unfit {
    pub id: Option<String>,
    pub reason: String,
}

/// # Errors
/// What is wrong with the line.
pub(super) fn read(line: &str, id_field: &str, machine: &Machine, flow: &Flow) -> Result<Record, Unfit> {
    let unfit = |reason: String| Unfit { id: None, reason };
    let fields: Map<String, Value> =
        serde_json::from_str(line).map_err(|error| unfit(format!("no JSON object: {error}")))?;
    let id = match fields.get(id_field) {
        Some(Value::String(id)) => id.clone(),
        Some(Value::Number(id)) => id.to_string(),
        Some(other) => return Err(unfit(format!("`{id_field}` is no id, but {other}"))),
        None => {
            let known = fields.keys().map(String::as_str);
            let help = kernel::diagnostic::nearest(id_field, known);
            return Err(unfit(format!("there is no `{id_field}`, which --id-field names; {help}")));
        }
    };
    let unfit = |reason: String| Unfit { id: Some(id.clone()), reason };
    InstanceId::parse(&id).map_err(unfit)?;
    let mut record =
        Record { id: id.clone(), booleans: Map::new(), context: Map::new(), left_out: Vec::new(), gap: None };
    for (name, value) in fields {
        let is_boolean = |name: &str| flow.phases.iter().any(|phase| *phase.boolean == *name);
        let is_declared = machine.fields.iter().any(|field| field.name.value == name);
        match value {
            value if is_boolean(&name) => {
                let value = boolean(&name, value).map_err(unfit)?;
                record.booleans.insert(name, value);
            }
            value if is_declared => {
                record.context.insert(name, value);
            }
            // As `flow export` writes them.
            Value::Object(booleans) if name == "booleans" => {
                for (name, value) in booleans {
                    match is_boolean(&name) {
                        true => {
                            let value = boolean(&name, value).map_err(unfit)?;
                            record.booleans.insert(name, value);
                        }
                        false => record.left_out.push(format!("booleans.{name}")),
                    }
                }
            }
            _ if name == id_field => {}
            _ => record.left_out.push(name),
        }
    }
    record.gap = gap(&record.booleans, flow);
    Ok(record)
}

/// Databases without a type for it write 1 and 0, and nothing where nobody said so far.
fn boolean(name: &str, value: Value) -> Result<Value, String> {
    match value {
        Value::Bool(_) => Ok(value),
        Value::Null => Ok(Value::Bool(false)),
        Value::Number(number) if number.as_i64() == Some(1) => Ok(Value::Bool(true)),
        Value::Number(number) if number.as_i64() == Some(0) => Ok(Value::Bool(false)),
        other => Err(format!("`{name}` must be true or false, not {other}")),
    }
}

fn gap(booleans: &Map<String, Value>, flow: &Flow) -> Option<String> {
    let done = |phase| booleans.get(&*flow.phase(phase).boolean) == Some(&Value::Bool(true));
    let gap = |phase: &_| done(*phase) && !flow.phase(*phase).needs.iter().all(|need| done(*need));
    flow.indices().find(gap).map(|phase| flow.phase(phase).name.to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use serde_json::json;

    use super::*;

    const DEFINITION: &str = "
flow: old
version: 1
context: { owner: { type: string, default: '' }, size: { type: integer, default: 0 } }
phases:
  import: {}
  map: { needs: [import], boolean: mapped }
";

    #[test]
    fn every_field_of_a_record_has_its_place_or_is_named() {
        let (machine, _) = kernel::definition::load(DEFINITION);
        let machine = machine.unwrap();
        let flow = machine.flow.as_ref().unwrap();
        for (line, told) in [
            (
                r#"{"id": "e-1", "import_completed": true, "mapped": 0, "owner": "ann", "color": "red"}"#,
                json!(["e-1", {"import_completed": true, "mapped": false}, {"owner": "ann"}, ["color"], null]),
            ),
            (
                r#"{"id": 7, "import_completed": null, "mapped": 1, "size": "big"}"#,
                json!(["7", {"import_completed": false, "mapped": true}, {"size": "big"}, [], "map"]),
            ),
            (
                r#"{"id": "e-2", "status": "active", "booleans": {"mapped": false, "map": true}}"#,
                json!(["e-2", {"mapped": false}, {}, ["booleans.map", "status"], null]),
            ),
        ] {
            let mut record = read(line, "id", &machine, flow).unwrap();
            record.left_out.sort();
            let Record { id, booleans, context, left_out, gap } = record;
            assert_eq!(json!([id, booleans, context, left_out, gap]), told, "{line}");
        }
        for (line, id, reason) in [
            ("[1]", None, "no JSON object"),
            ("{\"id\": ", None, "no JSON object"),
            (r#"{"flow_id": "e-1"}"#, None, "there is no `id`, which --id-field names"),
            (r#"{"id": true}"#, None, "`id` is no id, but true"),
            (r#"{"id": ""}"#, Some(""), "instance id"),
            (r#"{"id": "e", "mapped": "yes"}"#, Some("e"), "`mapped` must be true or false, not \"yes\""),
        ] {
            let unfit = read(line, "id", &machine, flow).unwrap_err();
            assert_eq!(unfit.id.as_deref(), id, "{line}");
            assert!(unfit.reason.contains(reason), "{line}: {}", unfit.reason);
        }
    }
}
