//! A record of another system comes to what its mapping says, or to a reason why it does not.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use kernel::definition;
use kernel::machine::Machine;
use kernel::mapping::{Mapped, Mapping, load, machine_of};
use kernel::time::Timestamp;
use serde_json::{Value, json};

const PARCEL: &str = "
machine: parcel
context:
  door: { type: string, nullable: true }
  rings: { type: integer, default: 0 }
initial: packed
states:
  packed: { on: { send: road } }
  road: { on: { arrive: there } }
  there: { type: final }
";

const MAPPING: &str = "
machine: parcel
id: record.id
subject: record.user
state: record.state
states: { PACKED: packed, ON_THE_ROAD: road }
skip: has(record.deleted) && record.deleted == true
context:
  door: 'has(record.data) ? record.data.door : null'
  rings: 'has(record.rings) ? record.rings : null'
began_at: record.created
";

fn parcel() -> Machine {
    let (machine, diagnostics) = definition::load(PARCEL);
    machine.unwrap_or_else(|| panic!("{diagnostics:#?}"))
}

fn mapping(source: &str) -> Mapping {
    let (mapping, diagnostics) = load(source, &parcel());
    mapping.unwrap_or_else(|| panic!("{diagnostics:#?}"))
}

fn now() -> Timestamp {
    Timestamp::parse("2026-03-01T12:00:00Z").unwrap()
}

fn mapped(source: &str, record: Value) -> Result<Value, String> {
    mapping(source).apply(&record, now()).map(|mapped| match mapped {
        Mapped::Skipped => json!("skipped"),
        Mapped::Instance(arrival) => json!(arrival),
    })
}

#[test]
fn a_record_becomes_what_the_mapping_says() {
    for (record, expected) in [
        (
            json!({ "id": "a", "user": "ana", "state": "PACKED", "created": "2026-01-05T09:00:00Z",
                "data": { "door": "back" }, "rings": 3 }),
            json!({ "id": "a", "subject": "ana", "state": "packed", "began_at": "2026-01-05T09:00:00.000Z",
                "context": { "door": "back", "rings": 3 } }),
        ),
        (
            json!({ "id": 17, "user": 5, "state": "road", "created": 1_767_603_600 }),
            json!({ "id": "17", "subject": "5", "state": "road", "began_at": "2026-01-05T09:00:00.000Z",
                "context": { "door": null } }),
        ),
        (
            json!({ "id": "b", "user": null, "state": "ON_THE_ROAD", "created": 1_767_603_600_500_i64 }),
            json!({ "id": "b", "state": "road", "began_at": "2026-01-05T09:00:00.500Z", "context": { "door": null } }),
        ),
        (
            json!({ "id": "c", "user": "cleo", "state": "elsewhere", "created": "" }),
            json!({ "id": "c", "subject": "cleo", "state": "elsewhere", "context": { "door": null } }),
        ),
        (json!({ "deleted": true }), json!("skipped")),
    ] {
        assert_eq!(mapped(MAPPING, record.clone()), Ok(expected), "{record}");
    }
}

#[test]
fn a_record_that_comes_to_nothing_says_why() {
    let good = json!({ "id": "a", "user": "ana", "state": "PACKED", "created": null });
    assert!(mapped(MAPPING, good.clone()).is_ok());
    for (name, value, part) in [
        ("id", json!(null), "neither an `id` nor a `key`"),
        ("id", json!(""), "is empty"),
        ("id", json!([1]), "`id` must be text"),
        ("user", json!({ "name": "ana" }), "`subject` must be text"),
        ("state", json!(null), "no `state`"),
        ("created", json!("yesterday"), "`began_at` is \"yesterday\", which is no time"),
        ("created", json!(true), "`began_at` is true"),
        ("data", json!("none"), "`door`"),
    ] {
        let mut record = good.clone();
        record[name] = value.clone();
        let told = mapped(MAPPING, record).unwrap_err();
        assert!(told.contains(part), "{name} = {value}: {told}");
    }
    let told = mapped(MAPPING, json!({ "id": "a" })).unwrap_err();
    assert!(told.contains("record.user"), "{told}");
}

#[test]
fn what_is_wrong_with_a_mapping_is_told_at_once_and_in_its_place() {
    for (source, expected) in [
        ("machine: parcel\nid: record.id\nstate: record.state\n", vec![]),
        ("machine: parcel\nkey: record.id\nstate: \"'packed'\"\n", vec![]),
        ("machine: parcel\n", vec![("missing_key", 1), ("missing_key", 1)]),
        ("machine: box\nid: record.id\nstate: record.s\n", vec![("bad_value", 1)]),
        ("id: record.id\nstate: record.s\n", vec![("missing_key", 1)]),
        ("machine: parcel\nid: record.id\nstate: record.s\nstats: {}\n", vec![("unknown_key", 4)]),
        (
            "machine: parcel\nid: record.\nstate: rec.s\nbegan_at: context.at\n",
            vec![("bad_expression", 2), ("bad_expression", 3), ("bad_expression", 4)],
        ),
        (
            "machine: parcel\nid: record.id\nstate: record.s\nstates: { A: packd, B: 3 }\n",
            vec![("unknown_target", 4), ("wrong_type", 4)],
        ),
        (
            "machine: parcel\nid: record.id\nstate: record.s\ncontext:\n  dor: record.d\n  rings: \"'two'\"\n",
            vec![("unknown_field", 5), ("type_mismatch", 6)],
        ),
        ("machine: parcel\nid: record.id\nstate: record.s\nskip: \"'yes'\"\n", vec![("type_mismatch", 4)]),
        ("machine: [", vec![("syntax", 1)]),
    ] {
        let (mapping, diagnostics) = load(source, &parcel());
        let told: Vec<(&str, u32)> = diagnostics.iter().map(|told| (told.code, told.line)).collect();
        assert_eq!(told, expected, "{source}\n{diagnostics:#?}");
        assert_eq!(mapping.is_some(), expected.is_empty(), "{source}");
    }
}

#[test]
fn a_mapping_says_which_machine_it_is_for() {
    assert_eq!(machine_of(MAPPING).as_deref(), Some("parcel"));
    for none in ["", "machine: 3", "id: record.id", "machine: ["] {
        assert_eq!(machine_of(none), None, "{none}");
    }
}
