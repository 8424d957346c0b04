//! Every pair of stages of the banking menu, from every state that a stage has: it moves as the table says, or is
//! refused and changes nothing. And what a host must give when it begins a session itself.
//!
//! What members say and what the services answer is in the stories of `machines/banking_menu.yaml`.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::path::Path;
use std::sync::Arc;

use engine::{Clock, Engine, Machines, Settings};
use kernel::commit::Answer;
use kernel::decide::{Placement, place};
use kernel::id::{InputKey, InstanceId, TenantId};
use kernel::input::{Cause, Fields, Input, Start};
use kernel::machine::Machine;
use kernel::snapshot::Snapshot;
use kernel::time::Timestamp;
use serde_json::{Value, json};
use store::{MemoryStore, Outcome, Store};

const STAGES: [&str; 7] = ["init", "auth", "menu", "credex", "account", "registration", "loans"];

/// Whether each stage can be reached, in the order of `STAGES`, of which the last is none. `=` is the same stage again.
#[rustfmt::skip]
const TABLE: [(&str, [char; 7]); 9] = [
    // from                       init auth menu cred acco regi loans
    ("init",                     ['=', 'x', 'x', '-', '-', 'x', '-']),
    ("auth",                     ['-', '=', 'x', '-', '-', 'x', '-']),
    ("menu",                     ['-', 'x', '=', 'x', 'x', '-', '-']),
    ("credex.amount",            ['-', '-', 'x', '=', '-', '-', '-']),
    ("credex.confirming",        ['-', '-', 'x', '=', '-', '-', '-']),
    ("credex.offering",          ['-', '-', 'x', '=', '-', '-', '-']),
    ("account",                  ['-', '-', 'x', '-', '=', '-', '-']),
    ("registration.name",        ['-', '-', 'x', '-', '-', '=', '-']),
    ("registration.registering", ['-', '-', 'x', '-', '-', '=', '-']),
];

struct Bank {
    store: Arc<MemoryStore>,
    machine: Arc<Machine>,
    engine: Engine,
}

impl Bank {
    fn open() -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../machines/banking_menu.yaml");
        let source = std::fs::read_to_string(path).unwrap();
        let store = Arc::new(MemoryStore::new());
        let clock = Clock::virtual_at(Timestamp::parse("2026-01-05T09:00:00Z").unwrap());
        let machines = Machines::default();
        let (machine, _) = machines.activate(&*store, &source, clock.now()).unwrap();
        let shared: Arc<dyn Store> = Arc::<MemoryStore>::clone(&store);
        let engine = Engine::start(shared, Arc::new(machines), clock, Settings::default());
        Self { store, machine, engine }
    }

    fn place(&self, name: &str, state: &str) -> InstanceId {
        let instance = InstanceId::parse(name).unwrap();
        let placement = Placement {
            tenant: &TenantId::default_tenant(),
            instance: &instance,
            subject: None,
            state,
            context: &fields(json!({ "option": "before", "jwt": "t1" })),
            topic: None,
        };
        let commit = place(&self.machine, &placement, self.engine.clock().now()).unwrap();
        assert_eq!(self.store.commit(&[commit]), Ok(vec![Outcome::Committed]));
        instance
    }

    fn load(&self, instance: &InstanceId) -> Snapshot {
        self.store.load(&TenantId::default_tenant(), instance).unwrap().unwrap()
    }

    fn call(&self, cause: Cause) -> Arc<Answer> {
        let key = InputKey::parse("k1").unwrap();
        let tenant = TenantId::default_tenant();
        let input = Input { tenant, key, cause, expected: None, by: None, trace: None };
        self.engine.call(input).unwrap().answer
    }

    fn create(&self, id: &str, context: Value) -> Arc<Answer> {
        self.call(Cause::Create {
            machine: self.machine.name.clone(),
            id: Some(InstanceId::parse(id).unwrap()),
            subject: None,
            context: fields(context),
            start: Start::default(),
        })
    }
}

fn fields(value: Value) -> Fields {
    value.as_object().unwrap().clone()
}

/// The stage that a state belongs to.
fn stage_of(state: &str) -> &str {
    state.split('.').next().unwrap()
}

#[test]
fn the_table_has_every_state() {
    let bank = Bank::open();
    let named: Vec<&str> = TABLE.iter().map(|(state, _)| *state).collect();
    for state in bank.machine.chart.states.iter().skip(1).filter(|state| state.children.is_empty()) {
        assert!(named.contains(&&*state.path), "{} is missing", state.path);
    }
}

#[test]
fn every_pair_of_stages_is_a_way_or_refused_without_a_trace_in_the_context() {
    let bank = Bank::open();
    for (from, ways) in TABLE {
        for (to, way) in STAGES.into_iter().zip(ways) {
            let pair = format!("{from} -> {to}");
            let instance = bank.place(&format!("{from}-{to}"), from);
            let before = bank.load(&instance);
            assert_eq!(before.context["stage"], json!(stage_of(from)), "{pair}");
            let payload = fields(json!({ "option": "chosen", "update_from": "table" }));
            let event = to.to_owned();
            let answer = bank.call(Cause::Event { instance: instance.clone(), event, payload });
            let after = bank.load(&instance);
            match way {
                '-' => {
                    let Answer::Refused(refusal) = &*answer else { panic!("{pair} was taken") };
                    let code = if to == "loans" { "unknown_event" } else { "invalid_transition" };
                    assert_eq!(refusal.code.as_str(), code, "{pair}");
                    assert_eq!((after.state(), &after.context), (before.state(), &before.context), "{pair}");
                }
                _ => {
                    assert!(matches!(&*answer, Answer::Event(_)), "{pair}: {answer:?}");
                    assert_eq!(way == '=', stage_of(from) == to, "{pair} is marked wrongly");
                    assert_eq!(stage_of(&after.state()), to, "{pair}");
                    assert_eq!(after.context["stage"], json!(to), "{pair}");
                    assert_eq!(after.context["option"], json!("chosen"), "{pair}");
                    assert_eq!(after.context["update_from"], json!("table"), "{pair}");
                    assert_eq!(after.context["jwt"], json!("t1"), "{pair}");
                }
            }
        }
    }
}

#[test]
fn a_session_that_a_host_begins_is_held_to_the_types_of_its_fields() {
    let bank = Bank::open();
    for (number, (context, problem)) in [
        (json!({ "option": 5 }), "context.option must be text, not 5"),
        (json!({ "last_updated": "today" }), "context.last_updated must be a whole number, not \"today\""),
        (json!({ "update_from": null }), "context.update_from must be text, not null"),
        (json!({ "jwt": ["t1"] }), "context.jwt must be text"),
        (json!({ "stag": "menu" }), "context.stag is unknown"),
    ]
    .into_iter()
    .enumerate()
    {
        let Answer::Refused(refusal) = &*bank.create(&format!("wrong-{number}"), context.clone()) else {
            panic!("{context} was taken");
        };
        assert_eq!(refusal.code.as_str(), "invalid_context", "{context}");
        assert!(refusal.message.contains(problem), "{context}: {}", refusal.message);
    }
    let right = json!({ "option": "home", "last_updated": 1, "update_from": "whatsapp", "jwt": null });
    assert!(matches!(&*bank.create("right", right), Answer::Event(_)));
}
