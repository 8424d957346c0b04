//! What a step costs in memory: nothing, where it changes nothing but the state.

use kernel::chart::step::{Occurrence, Position, Stepper, Trail};
use kernel::definition::load;
use kernel::input::Fields;
use kernel::time::Timestamp;
use serde_json::json;

/// Requests to the allocator of a hundred steps, `ping` and `pong` in turn, once everything has been taken once.
fn allocations_of(definition: &str) -> u64 {
    let (machine, diagnostics) = load(definition);
    let machine = machine.unwrap_or_else(|| panic!("{diagnostics:?}"));
    let stepper = Stepper { chart: &machine.chart, fields: &machine.fields, now: Timestamp::from_millis(0) };
    let context = machine.initial_context(&Fields::new()).unwrap();
    let (mut position, mut trail) = (Position::new(context.into()), Trail::default());
    stepper.start(&mut position, &mut trail).unwrap();
    let payload = Fields::from_iter([("by".to_owned(), json!(1))]);
    let mut round = |rounds| {
        for _ in 0..rounds {
            for name in ["ping", "pong"] {
                let event = machine.chart.event(name).unwrap();
                trail.taken.clear();
                stepper
                    .take(&mut position, Occurrence { event, name, payload: &payload }, &mut trail)
                    .unwrap();
            }
        }
    };
    round(1);
    allocation_counter::measure(|| round(50)).count_total
}

#[test]
fn step_of_a_flat_machine_allocates_nothing() {
    let flat = "
machine: m
initial: a
states:
  a: { on: { ping: b } }
  b: { on: { pong: a } }
";
    assert_eq!(allocations_of(flat), 0);
}

#[test]
fn guard_and_assignment_of_a_number_allocate_nothing() {
    let counting = "
machine: m
context: { n: { type: integer, default: 0 } }
initial: a
states:
  a: { on: { ping: { guard: event.by > 0 && context.n < 1000, assign: { n: context.n + event.by }, target: b } } }
  b: { on: { pong: a } }
";
    assert_eq!(allocations_of(counting), 0);
}
